"""Outputs in which files of the run itself are damaged, or not ours: a clear error, and nothing else is changed."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from motivnet_cli.errors import OutputConflictError
from motivnet_cli.output.damage import reading
from motivnet_cli.output.ledger import RUN_FORMAT
from motivnet_cli.output.status import output_status
from motivnet_cli.output.verify import verify_output
from tests.outputs import nine_inputs, run, tables, with_plan_of_lines


@pytest.fixture
def begun(tmp_path):
    """A run that was stopped after five of nine inputs: its output, and the folder of its inputs."""
    photos = nine_inputs(tmp_path / "photos")
    out = tmp_path / "p.parquet"
    run(out, photos, stop_after=5, commit_seconds=0)
    return out, photos


def control(out):
    return out.with_name(f"{out.name}.work")


def change(path: Path, **values):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | values))


RECORDS = {
    "no JSON": None,
    "nested": b"[" * 100_000,
    "a list": b"[1, 2]",
    "a format that is none": {"format": "1"},
    "no text": b"\xff\xfe{}",
    "a plan elsewhere": {"plan": "../../plan.jsonl"},
    "no plan": {"plan": "lock"},
    "units of nothing": {"unit": 0},
    "units of half": {"unit": 0.5},
    "units of text": {"unit": "9"},
    "fewer units": {"plan": "plan.jsonl", "offsets": []},
    "units that go back": {"plan": "plan.jsonl", "unit": 4, "offsets": [0, 90, 50]},
    "units before the plan": {"plan": "plan.jsonl", "offsets": [-1]},
    "more inputs": {"plan": "plan.jsonl", "offsets": [0], "num_items": 100_000},
    "offsets in a table": {"offsets": [0]},
    "lines without offsets": {"plan": "plan.jsonl"},
    "inputs that are none": {"num_items": True},
    "columns of no type": {"keep": {"age": "int7"}},
    "columns that are none": {"keep": ["age"]},
    "shards that are none": {"shards": []},
    "shards without a number": {"shards": {}},
    "no shards": {"shards": {"count": 0, "first": 0, "step": 1, "each": 1}},
    "a record that is none": {"record": [1]},
    "settings that are none": {"record": {"settings": 7}},
}


@pytest.mark.parametrize("damage", RECORDS.values(), ids=RECORDS.keys())
def test_the_record_of_a_run(begun, damage):
    """It is refused by whoever reads it, and `--overwrite` begins anew."""
    out, photos = begun
    about = control(out) / "run.json"
    if isinstance(damage, dict):
        change(about, **damage)
    else:
        about.write_bytes(about.read_bytes()[:100] if damage is None else damage)
    for look in (output_status, lambda path: run(path, photos)):
        with pytest.raises(OutputConflictError, match=r"run\.json.* damaged .*--overwrite"):
            look(out)

    run(out, photos, overwrite=True)

    assert len(tables(out)[1]) == 9


def test_the_record_of_a_run_of_a_later_version(begun):
    """It is not damaged, and whoever reads it is told which version it is for."""
    out, photos = begun
    change(control(out) / "run.json", format=RUN_FORMAT + 1, plan="plan.of-that-version")
    for look in (output_status, lambda path: run(path, photos)):
        with pytest.raises(OutputConflictError, match=r"run\.json' was written by a later version .* in format 2"):
            look(out)

    plan = next(each for each in verify_output(out).checks if each.check == "plan")
    assert "was written by a later version" in str(plan)
    run(out, photos, overwrite=True)
    assert len(tables(out)[1]) == 9


LINES = {
    "a line that is no JSON": lambda lines: [*lines[:7], b"{\n", lines[8]],
    "a missing line": lambda lines: lines[:8],
    "an unknown field": lambda lines: [*lines[:8], b'{"input": "a", "path": "a", "kind": "image", "x": 1}\n'],
    "no path": lambda lines: [*lines[:8], b'{"input": "a", "kind": "image"}\n'],
    "a path that is none": lambda lines: [*lines[:8], b'{"input": "a", "path": 7, "kind": "image"}\n'],
    "an unknown kind": lambda lines: [*lines[:8], b'{"input": "a", "path": "a", "kind": "song"}\n'],
    "a size that is none": lambda lines: [
        *lines[:8],
        b'{"input": "a", "path": "a", "kind": "image", "size_bytes": "7"}\n',
    ],
    "a size beyond all disks": lambda lines: [
        *lines[:8],
        b'{"input": "a", "path": "a", "kind": "image", "size_bytes": 9223372036854775808}\n',
    ],
    "nested": lambda lines: [*lines[:8], b"[" * 100_000 + b"\n"],
}


@pytest.mark.parametrize("damage", LINES.values(), ids=LINES.keys())
def test_the_plan_of_a_run_that_the_former_version_began(begun, damage):
    """A damaged line, or one that is missing, ends the run: no input is left out in silence."""
    out, photos = begun
    with_plan_of_lines(control(out))
    plan = control(out) / "plan.jsonl"
    plan.write_bytes(b"".join(damage(plan.read_bytes().splitlines(keepends=True))))

    with pytest.raises(OutputConflictError, match="plan is damaged"):
        run(out, photos)


@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_a_run_of_fewer_inputs_than_its_plan(tmp_path, name):
    """Some of nine are done, and the run's record says that there are no more: it does not end there.

    Nor does a process that does not list the inputs, such as a shard.
    """
    photos, out = nine_inputs(tmp_path / "photos"), tmp_path / name
    run(out, photos, stop_after=5, commit_seconds=0)
    folder, parts = (control(out), control(out)) if out.suffix else (out / ".motivnet", out)
    done = pq.read_table(parts / "inputs").num_rows
    change(folder / "run.json", num_items=done)
    for given in (photos, None):
        with pytest.raises(OutputConflictError, match=rf"plan .*is damaged .*none of {done} inputs"):
            run(out, given)

    change(folder / "run.json", num_items=9)
    run(out, photos)

    assert len(tables(out)[1]) == 9


def with_values(plan, name, value, *, kind=None):
    """Give the last row another value, which an item has not."""
    table = pq.read_table(plan)
    place = table.schema.get_field_index(name)
    field = table.schema.field(name).with_nullable(value is None or table.schema.field(name).nullable)
    field = field.with_type(kind or field.type)
    values = [*(table[name].to_pylist()[:-1] if kind is None else "12345678"), value]
    pq.write_table(table.set_column(place, field, pa.array(values, field.type)), plan, store_schema=False)


PLANS = {
    "empty": lambda plan: plan.write_bytes(b""),
    "cut off": lambda plan: plan.write_bytes(plan.read_bytes()[:-20]),
    "a flipped bit": lambda plan: plan.write_bytes(
        bytes([*(data := plan.read_bytes())[:99], data[99] ^ 4, *data[100:]])
    ),
    "a missing row": lambda plan: pq.write_table(pq.read_table(plan)[:8], plan, store_schema=False),
    "an unknown column": lambda plan: pq.write_table(
        pq.read_table(plan).append_column("x", pa.array(range(9))), plan, store_schema=False
    ),
    "no name": lambda plan: with_values(plan, "input", None),
    "an unknown kind": lambda plan: with_values(plan, "kind", "song"),
    "a size of text": lambda plan: with_values(plan, "size_bytes", None, kind=pa.string()),
    "more that is no JSON": lambda plan: with_values(plan, "more", "{"),
    "more that is none": lambda plan: with_values(plan, "more", '{"x": 1}'),
    "more that is nested": lambda plan: with_values(plan, "more", "[" * 100_000),
}


@pytest.mark.parametrize("damage", PLANS.values(), ids=PLANS.keys())
def test_the_plan_of_a_run(begun, damage):
    """A plan that is damaged anywhere ends the run: no input is left out in silence."""
    out, photos = begun
    damage(control(out) / "plan.pq")

    with pytest.raises(OutputConflictError, match=r"plan .*is damaged"):
        run(out, photos)


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"x" * 1000])
def test_a_part_of_a_run(begun, damage):
    """A part that marks inputs as done is read, or the run ends."""
    out, photos = begun
    last = sorted((control(out) / "inputs").iterdir())[-1]
    last.write_bytes(damage)

    with pytest.raises(OutputConflictError, match=r"part-.*damaged"):
        run(out, photos)


def test_faces_left_out_by_nothing_that_there_is(tmp_path):
    """The counts of a finished output are summed from text, which another program may have changed."""
    photos = nine_inputs(tmp_path / "photos")
    run(tmp_path / "p.parquet", photos)
    inputs = tmp_path / "p.inputs.parquet"
    table = pq.read_table(inputs)
    where = table.schema.get_field_index("left_out_by")
    text = pa.array(["min-face many"] * len(table))
    pq.write_table(table.set_column(where, table.schema.field(where), text), inputs)

    with pytest.raises(OutputConflictError, match=r"p\.inputs\.parquet' is damaged .*many"):
        run(tmp_path / "p.parquet", photos)


def test_a_part_of_another_table(begun):
    """It is found when the parts are joined."""
    out, photos = begun
    for kind in ("faces", "inputs"):
        assert len(list((control(out) / kind).iterdir())) > 1
    first = sorted((control(out) / "faces").iterdir())[0]
    first.write_bytes(sorted((control(out) / "inputs").iterdir())[0].read_bytes())

    with pytest.raises(OutputConflictError, match=r"faces/part-.*damaged"):
        run(out, photos)


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_journal_moves_no_file_but_those_of_its_output(tmp_path, is_folder):
    """Renames that an interrupted process has left are done for files of this output, whatever else is asked for."""
    photos = nine_inputs(tmp_path / "photos")
    out = tmp_path / ("folder" if is_folder else "p.parquet")
    run(out, photos, stop_after=5, commit_seconds=0)
    mine, target = tmp_path / "mine.txt", tmp_path / "target.txt"
    mine.write_text("mine")
    journal = (out / ".motivnet" if is_folder else control(out)) / "moves.json"
    for move in ([str(mine), str(target)], [str(photos / "0.jpg"), str(photos / "1.jpg")], "x", 7, [1, 2]):
        journal.write_text(json.dumps([move]))
        with pytest.raises(OutputConflictError, match=r"moves\.json.* damaged"):
            run(out, photos)
    assert (mine.read_text(), target.exists()) == ("mine", False)
    assert len(list(photos.iterdir())) == 9

    run(out, photos, overwrite=True)

    assert len(tables(out)[1]) == 9
    assert not journal.exists()


def test_a_journal_is_followed_from_another_folder(tmp_path, monkeypatch):
    """Its paths may be relative to the folder in which the process before was started."""
    photos = nine_inputs(tmp_path / "photos")
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "folder"
    run(out, photos)
    part = next((out / "faces").iterdir())
    content = part.read_bytes()
    (out / ".motivnet" / "moves.json").write_text(
        json.dumps([[f"folder/faces/.{part.name}.tmp", f"folder/faces/{part.name}"]])
    )
    part.rename(part.with_name(f".{part.name}.tmp"))
    monkeypatch.chdir(tmp_path / "elsewhere")

    run(Path("../folder"), photos)

    assert part.read_bytes() == content


@pytest.mark.parametrize("read", [pq.read_table, pq.read_metadata, Path.read_bytes])
def test_a_file_that_is_gone_is_not_damaged(tmp_path, read):
    """Another process has just put the output in its place: whoever looks tries again."""
    with pytest.raises(FileNotFoundError), reading(tmp_path / "part.parquet"):
        read(tmp_path / "part.parquet")
