"""What is done again of a finished output, and where its rows go, in memory that does not depend on their number."""

import errno
import itertools
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from motivnet_cli import durable
from motivnet_cli.config import InputConfig, OutputConfig
from motivnet_cli.errors import OutputConflictError
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output import compare, paths, plan
from motivnet_cli.output.compare import Known, changes_since, differing, known_in
from motivnet_cli.output.sink import Output
from motivnet_cli.output.tables import RowLayout, TableWriter, inputs_schema
from motivnet_cli.records import EMOTIONS, Batch, Changes, Cursor, InputReport, Item, Position, Problem, never
from tests.outputs import RECORD, nine_inputs, run, tables

LAYOUT = RowLayout(EMOTIONS, 4, "none")


def item(index, name, size=1, path=None):
    return Item(index, name, path or f"/data/{name}", "image", size_bytes=size)


def known(place, name, size=1, has_failed=False):
    return Known(name, place, has_failed, size, None, None)


def same(item, known):
    return known.is_version_of(item)


def by_dictionary(old, items):
    """What `differing` gives, where each name is there once."""
    names = {each.input: each for each in old}
    pairs = [(each, names.get(each.input)) for each in items]
    wanted = [(each, found) for each, found in pairs if found is None or not same(each, found)]
    return sorted(wanted, key=lambda pair: (pair[1] is None, pair[1].place if pair[1] else pair[0].index))


@pytest.mark.parametrize("ahead", [1, 4, 50, 10_000])
@pytest.mark.parametrize("order", ["same", "shifted", "shuffled", "reversed"])
def test_order_does_not_matter(monkeypatch, ahead, order):
    """What is new and changed is found wherever it stands, and comes in the order of what is known."""
    monkeypatch.setattr(compare, "_AHEAD", ahead)
    draw = random.Random(ahead)
    old = [known(2 * number, f"{number:04d}.jpg") for number in range(300)]
    names = [(f"{number:04d}.jpg", 2 if number % 17 == 3 else 1) for number in range(130, 330)]
    names += [("ä\0b", 1), ("\U0001f600", 1)] * (order != "same")
    if order == "shifted":
        names = names[100:] + names[:100]
    elif order == "shuffled":
        draw.shuffle(names)
    elif order == "reversed":
        names.reverse()
    items = [item(index, *name) for index, name in enumerate(names)]

    found = list(differing(iter(old), iter(items), same))

    expected = by_dictionary(old, items)
    assert [(each.input, each.path, each.size_bytes, before) for each, before in found] == [
        (each.input, each.path, each.size_bytes, before) for each, before in expected
    ]
    assert len(found) > 35


@pytest.mark.parametrize("ahead", [1, 3, 100])
def test_inputs_of_one_name_are_told_apart_by_their_turn(monkeypatch, ahead):
    """Two URLs that differ in a secret have one name."""
    monkeypatch.setattr(compare, "_AHEAD", ahead)
    old = [known(0, "b"), known(1, "a", 1), known(2, "a", 2), known(3, "c"), known(4, "a", 3)]
    items = [item(0, "a", 8, "/1"), item(1, "a", 9, "/2"), item(2, "d"), item(3, "b"), item(4, "a", 3, "/3")]
    found = list(differing(old, items, same))

    assert [(each.path, before and before.place) for each, before in found] == [("/1", 1), ("/2", 2), ("/data/d", None)]


def test_what_failed_is_found_in_any_order(monkeypatch):
    monkeypatch.setattr(compare, "_AHEAD", 1)
    old = [known(number, str(number), has_failed=number % 3 == 1) for number in range(10)]
    items = [item(index, str(number)) for index, number in enumerate(reversed(range(10)))]
    found = list(differing(old, items, lambda _, before: not before.has_failed))

    assert [before.place for _, before in found] == [1, 4, 7]


def test_what_failed_is_told_from_another_of_its_name(monkeypatch):
    """Photos of two folders have one name, and so many are new that the second one's turn is not known in memory."""
    monkeypatch.setattr(compare, "_AHEAD", 2)
    old = [known(0, "a", 1, has_failed=True), *(known(number, str(number)) for number in (1, 2, 3)), known(4, "a", 2)]
    names = [*((f"new{number}", 1) for number in range(4)), ("a", 1), ("1", 1), ("2", 1), ("3", 1), ("a", 2)]
    items = [item(index, *name, f"/{index}") for index, name in enumerate(names)]
    found = differing(old, items, lambda _, before: not before.has_failed)

    assert [(each.path, before.place) for each, before in found if before] == [("/4", 0)]


def test_nothing_on_disk_where_nothing_differs(monkeypatch):
    """The usual rerun asks for no database, and neither does one of a few inputs of many."""

    def no_database():
        raise AssertionError("not needed")

    monkeypatch.setattr(compare, "database", no_database)
    monkeypatch.setattr(compare, "_AHEAD", 4)
    old = [known(number, str(number)) for number in range(100)]
    assert not list(differing(old, [item(number, str(number)) for number in range(100)], same))
    assert not list(differing(old, [item(0, "1"), item(1, "50"), item(2, "99")], same))


def test_inputs_that_cannot_be_listed_are_no_changes(tmp_path):
    """What is done is put in its place all the same: a manifest is read only to tell what is new."""
    run(tmp_path / "p", nine_inputs(tmp_path / "photos"))
    manifest = tmp_path / "m.csv"
    manifest.write_text("path\n1.jpg\n2.jpg,and,more\n")
    listing = Listing(InputConfig(manifests=(str(manifest),)))

    assert changes_since((tmp_path / "p" / "inputs").iterdir(), listing) == Changes()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([2], []),
        ([2, 1], []),
        ([2, 9], [(9, 0)]),
        ([9, 8], [(9, 0), (8, 1)]),
        ([2, 1, 7], [(7, None)]),
        ([7], [(7, 0)]),
    ],
)
def test_inputs_of_one_name_are_told_apart_by_their_versions(sizes, expected):
    """One that is no longer named does not take the other's place; changed ones go by their turn."""
    known = [Known("a.jpg", place, False, size, 5, None) for place, size in enumerate((1, 2))]
    items = [Item(n, "a.jpg", f"/{n}/a.jpg", "image", size_bytes=size, mtime_ns=5) for n, size in enumerate(sizes)]
    pairs = differing(known, items, lambda item, old: old.is_version_of(item))

    assert [(item.size_bytes, old and old.place) for item, old in pairs] == expected


# ---- what is put in its place -------------------------------------------------------------------------------


def amend(out, inputs, done, *, stop_after=None, **options):
    """Write an output without faces, and what `done` says of each item: its rows as (name, archive, status)."""

    class Made(Listing):
        def found(self):
            return iter(inputs)

    config = OutputConfig(path=str(out), embeddings="none", commit_seconds=0, **options)
    with Output(config, record=RECORD, layout=LAYOUT) as output:
        begun = output.begin(Made([str(out.parent)]))
        for number, todo in enumerate(itertools.chain.from_iterable(begun.rounds(never))):
            if number == stop_after:
                break
            here = Position(todo.item.index)
            rows = done(todo.item)
            for step, (name, archive, status) in enumerate(rows, 1):
                report = InputReport(
                    here,
                    name,
                    "image" if archive or not name.endswith(".zip") else "archive",
                    status,
                    num_frames=todo.item.size_bytes,
                    archive=archive,
                    problem=Problem("empty", "nothing in it") if status == "failed" else None,
                    size_bytes=todo.item.size_bytes if archive is None else None,
                )
                here = Position(todo.item.index, step) if step < len(rows) else Position(todo.item.index + 1)
                begun.write(Batch((), (report,), Cursor(here)), None)  # a part for each
        return begun.complete()


def rows_of(out):
    return [tuple(row) for row in tables(out)[1].select("input", "archive", "status", "frames").rows()]


def with_members(numbers, failing=()):
    """An archive has a member for each number."""

    def done(item):
        if not item.input.endswith(".zip"):
            return [(item.input, None, "failed" if item.input in failing else "no_face")]
        members = [f"{item.input}/{number}.png" for number in numbers]
        return [
            *((name, item.input, "failed" if name in failing else "no_face") for name in members),
            (item.input, None, "no_face"),
        ]

    return done


@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_an_archive_is_done_again_with_its_members(tmp_path, name):
    """One member that failed, in the second of two archives of the same name; what lies around stays as it is."""
    names = ["a.jpg", "x.zip", "b.jpg", "y.zip", "y.zip", "c.jpg"]
    inputs = [item(index, each, index + 1) for index, each in enumerate(names)]
    turns = itertools.count()

    def first(each):
        failing = ("y.zip/1.png",) if each.input == "y.zip" and next(turns) else ()
        return with_members(range(2), failing)(each)

    assert amend(tmp_path / name, inputs, first) == "finished"
    before = rows_of(tmp_path / name)
    assert [row[0] for row in before if row[2] == "failed"] == ["y.zip/1.png"]

    assert amend(tmp_path / name, inputs, with_members(range(3)), retry_failed=True) == "finished"

    again = [*((f"y.zip/{n}.png", "y.zip", "no_face", 5) for n in range(3)), ("y.zip", None, "no_face", 5)]
    assert rows_of(tmp_path / name) == [*before[:8], *again, before[-1]]


@pytest.mark.parametrize("name", ["p.parquet", "p"])
@pytest.mark.parametrize("seed", range(3))
def test_extensions_drawn_by_chance(tmp_path, monkeypatch, name, seed):
    """Inputs that come, go, change and move, of one name too: rows are those of independent bookkeeping."""
    monkeypatch.setattr(compare, "_AHEAD", 3)
    draw = random.Random(seed)
    state = []  # name, size and rows of each input, in the order of the output
    names = [f"{number}.{draw.choice(['jpg', 'jpg', 'zip'])}" for number in range(14)]
    present = [(each, 1) for each in names[:9]]
    for turn in range(4):
        members = range(turn % 3)
        inputs = [item(index, *each) for index, each in enumerate(present)]
        for each in inputs:
            rows = [(*row, each.size_bytes) for row in with_members(members)(each)]
            old = next((number for number, before in enumerate(state) if before[0] == each.input), None)
            if old is None:
                state.append((each.input, each.size_bytes, rows))
            elif state[old][1] != each.size_bytes:
                state[old] = (each.input, each.size_bytes, rows)
        amend(tmp_path / name, inputs, with_members(members), extend=turn > 0)
        assert rows_of(tmp_path / name) == [row for each in state for row in each[2]]
        present = [(each, size + (draw.random() < 0.3)) for each, size in present if draw.random() < 0.8]
        present += [(each, 1) for each in names[9 + turn : 10 + turn]]
        draw.shuffle(present)


@pytest.mark.parametrize("is_retried", [True, False])
@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_an_amendment_whose_files_have_their_names_is_not_done_again(tmp_path, monkeypatch, name, is_retried):
    """The disk fails when the files are renamed already: the next start ends that, and adds no row once more."""
    photos = nine_inputs(tmp_path / "photos")
    out = tmp_path / name
    run(out, photos, commit_seconds=0)
    (photos / "2.jpg").write_bytes(b"changed")
    (photos / "9.jpg").write_bytes(b"new")

    def full(path):
        if path.is_dir():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        durable.sync(path)

    with monkeypatch.context() as patch:
        patch.setattr(paths, "sync", full)
        with pytest.raises(OSError, match="No space left"):
            run(out, photos, extend=True, commit_seconds=0)
    run(out, photos, extend=is_retried, commit_seconds=0)

    names = [row[0] for row in rows_of(out)]
    assert names == sorted(set(names))
    assert "9.jpg" in names
    assert run(out, photos, commit_seconds=0).inputs == len(names)


@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_an_amendment_that_a_former_version_began_is_ended(tmp_path, monkeypatch, name):
    """Its plan does not say which rows it replaces: that follows from the names."""
    photos = nine_inputs(tmp_path / "photos")
    run(tmp_path / name, photos, commit_seconds=0)
    (photos / "2.jpg").write_bytes(b"changed")
    (photos / "9.jpg").write_bytes(b"new")
    monkeypatch.setattr(plan, "_MORE", ("problem", "given", "kept"))
    run(tmp_path / name, photos, extend=True, stop_after=1, commit_seconds=0)
    monkeypatch.undo()
    run(tmp_path / name, photos, extend=True)
    run(tmp_path / "whole", photos)

    for amended, whole in zip(tables(tmp_path / name), tables(tmp_path / "whole"), strict=True):
        assert amended.rows() == whole.rows()


def test_what_is_not_touched_is_not_opened(tmp_path, monkeypatch):
    """Once it is planned, all that is not rewritten may be unreadable, but for what tells the places of inputs."""
    inputs = [item(index, f"{index:02d}.jpg") for index in range(40)]
    monkeypatch.setattr("motivnet_cli.output.ledger.MAX_UNIT_ITEMS", 4)
    amend(tmp_path / "p", inputs, with_members((), failing=("18.jpg",)))
    amend(tmp_path / "p", inputs, with_members(()), retry_failed=True, stop_after=0)
    untouched = {}
    for part in (tmp_path / "p").glob("*/part-*"):
        unit = int(part.name.split("-")[1])
        if unit > 4 or (unit < 4 and part.parent.name == "faces"):
            part.write_bytes(b"not Parquet")
        if not part.name.startswith("part-000004-0002"):
            untouched[part] = part.stat().st_ino
    assert len(untouched) == 78
    amend(tmp_path / "p", inputs, with_members(()), retry_failed=True)

    assert {part: part.stat().st_ino for part in untouched} == untouched
    part = next((tmp_path / "p" / "inputs").glob("part-000004-0002*"))
    assert set(pq.read_table(part)["status"].to_pylist()) == {"no_face"}


def test_new_inputs_come_in_parts_of_a_unit(tmp_path, monkeypatch):
    """A large extension is not one part."""
    inputs = [item(index, f"{index:03d}.jpg") for index in range(50)]
    amend(tmp_path / "p", inputs[:7], with_members(()))
    monkeypatch.setattr("motivnet_cli.output.ledger.MAX_UNIT_ITEMS", 20)
    amend(tmp_path / "p", inputs, with_members(()), extend=True)

    parts = sorted((tmp_path / "p" / "inputs").iterdir())
    assert [pq.read_metadata(part).num_rows for part in parts] == [*[1] * 7, 20, 20, 3]
    assert [row[0] for row in rows_of(tmp_path / "p")] == [each.input for each in inputs]


def test_members_without_their_archive_are_a_damage(tmp_path):
    rows = {"input": ["a.zip/1.png", "b.png"], "archive": ["a.zip", None]}
    schema = inputs_schema()
    columns = [pa.array(rows.get(field.name, [None] * 2)).cast(field.type) for field in schema]
    with TableWriter(tmp_path / "p.parquet", schema) as writer:
        writer.add(pa.table(columns, schema=schema))

    with pytest.raises(OutputConflictError, match=r"members of 'a.zip'"):
        list(known_in([tmp_path / "p.parquet"]))


@pytest.mark.parametrize("extend", [False, True])
def test_an_input_that_is_named_twice_is_one(tmp_path, extend):
    """Also of a rerun, and where only one of several is new."""
    names = [tmp_path / f"{name}.jpg" for name in "ab"]
    for name in names:
        name.write_bytes(b"")
    inputs = [*map(str, names), str(names[0]), f"{tmp_path}/./a.jpg"]

    def done(given, **options):
        config = OutputConfig(path=str(tmp_path / "p"), embeddings="none", **options)
        with Output(config, record=RECORD, layout=LAYOUT) as output:
            if before := output.finished_before(Listing(given)):
                return before.changes
            begun = output.begin(Listing(given))
            for todo in itertools.chain.from_iterable(begun.rounds(never)):
                item = todo.item
                report = InputReport(Position(0), item.input, "image", "no_face", size_bytes=0, mtime_ns=item.mtime_ns)
                begun.write(Batch((), (report,), Cursor(Position(item.index + 1))), None)
            assert begun.complete() == "finished"
            return None

    done(inputs[:1])
    assert done(inputs) == (1, 0)
    if extend:
        done(inputs, extend=True)
        assert [row[0] for row in rows_of(tmp_path / "p")] == inputs[:2]
        assert done(inputs) == (0, 0)
