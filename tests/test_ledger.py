"""A run's plan and its parts: the files that former versions left are gone on with, and what others do is seen."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.config import OutputConfig
from motivnet_cli.errors import OutputConflictError
from motivnet_cli.export.merge import merge
from motivnet_cli.output.backend import LocalFolder
from motivnet_cli.output.counts import read_counts, written_counts
from motivnet_cli.output.ledger import Ledger
from motivnet_cli.output.names import RunFiles, place_of
from motivnet_cli.output.read import parts_of
from motivnet_cli.output.share import Share, begun_run, take_part
from motivnet_cli.output.status import output_status
from motivnet_cli.output.tables import METADATA_KEY, RowLayout, TableWriter, inputs_schema, rows_in
from motivnet_cli.output.verify import verify_output
from motivnet_cli.records import EMOTIONS, Cursor, Position, never
from tests.outputs import RECORD, nine_inputs, run, tables, with_plan_of_lines


@pytest.fixture
def photos(tmp_path):
    return nine_inputs(tmp_path / "photos")


def names_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("name", "control"), [("p.parquet", "p.parquet.work"), ("p", "p/.motivnet")])
def test_files_of_a_run(tmp_path, photos, name, control):
    """Their names and what run.json says stay as they are, so that any version goes on with an output of another."""
    run(tmp_path / name, photos, stop_after=5, commit_seconds=0)
    parts = control if name.endswith(".parquet") else name
    about = json.loads((tmp_path / control / "run.json").read_text())
    plan = pq.read_table(tmp_path / control / "plan.pq")

    assert [each for each in names_below(tmp_path) if not each.startswith("photos")] == sorted(
        [f"{control}/{each}" for each in ("claims/000000.lock", "lock", "plan.pq", "run.json")]
        + [f"{parts}/{table}/part-000000-{n:04d}.parquet" for table in ("faces", "inputs") for n in range(2)]
    )
    assert list(about) == ["format", "record", "num_items", "skipped", "keep", "shards", "plan", "unit"]
    assert about["record"] == RECORD
    assert (about["format"], about["num_items"], about["plan"], about["unit"]) == (1, 9, "plan.pq", 1000)
    assert {name: value for name, value in plan.to_pylist()[3].items() if value is not None} == {
        "input": "3.jpg",
        "path": str(photos / "3.jpg").encode(),
        "kind": "image",
        "size_bytes": 0,
        "mtime_ns": (photos / "3.jpg").stat().st_mtime_ns,
    }


def test_run_of_the_first_version(tmp_path, photos):
    """It did not name its plan."""
    run(tmp_path / "whole", photos)
    run(tmp_path / "p", photos, stop_after=5, commit_seconds=0)
    with_plan_of_lines(tmp_path / "p" / ".motivnet")
    file = tmp_path / "p" / ".motivnet" / "run.json"
    about = json.loads(file.read_text())
    del about["plan"]
    file.write_text(json.dumps(about))
    run(tmp_path / "p", photos)

    assert [table.rows() for table in tables(tmp_path / "p")] == [table.rows() for table in tables(tmp_path / "whole")]


def test_what_another_process_does_is_seen(tmp_path, photos):
    """`refresh` sees its parts; when the run is gone it says so, and what was known of it stays."""
    run(tmp_path / "p", photos, stop_after=0)
    ledger = begun_run(OutputConfig(path=str(tmp_path / "p")))
    before = ledger.num_done
    run(tmp_path / "p", photos)
    is_there, done = ledger.refresh(), ledger.num_done
    (tmp_path / "p" / ".motivnet" / "run.json").unlink()

    assert (before, is_there, done) == (0, True, 9)
    assert not ledger.refresh()
    assert not ledger.exists()
    assert ledger.num_done == 9


def test_no_run_is_found_where_none_was_begun(tmp_path):
    """And looking leaves nothing behind."""
    files = RunFiles(tmp_path / "control", tmp_path)

    assert Ledger.find(files, LocalFolder()) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("table", ["faces", "inputs"])
@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_lost_part_is_said(tmp_path, photos, name, table):
    """An output is not made of what is left when a part is gone, be it a file or a folder."""
    out = tmp_path / name
    run(out, photos, stop_after=7, commit_seconds=0)
    first, *others = sorted((out.with_name(f"{name}.work") if out.suffix else out).glob(f"{table}/*"))
    first.unlink()
    before = names_below(tmp_path)
    for _ in range(2):
        with pytest.raises(OutputConflictError, match=r"are gone \(1, such as .*\): start anew with --overwrite"):
            run(out, photos)

    assert others
    assert names_below(tmp_path) == before
    run(out, photos, overwrite=True)
    run(tmp_path / "whole", photos)
    assert [table.rows() for table in tables(out)] == [table.rows() for table in tables(tmp_path / "whole")]


@pytest.mark.parametrize(("stop_after", "place"), [(7, 0), (None, 0), (None, -1)])
@pytest.mark.parametrize("table", ["faces", "inputs"])
def test_status_names_what_somebody_removed(tmp_path, photos, table, stop_after, place):
    """Of a folder, finished or not, also the only or the last part of a unit; who goes on, amends or looks is told."""
    out = tmp_path / "p"
    run(out, photos, stop_after=stop_after, commit_seconds=0)
    assert output_status(out).lost == ()
    gone = sorted((out / table).iterdir())[place]
    whole = output_status(out)
    gone.unlink()
    status = output_status(out)
    said = CliRunner().invoke(app, ["status", str(out)])

    assert [Path(name).name.replace("-end", "") for name in status.lost] == [gone.name.replace("-end", "")]
    assert status.faces < whole.faces
    assert said.exit_code == 5
    assert f"1 file that was written is gone, such as {status.lost[0]}" in said.stderr
    for options in ({}, {"extend": True})[: 2 if stop_after is None else 1]:
        with pytest.raises(OutputConflictError, match=r"are gone \(1, such as"):
            run(out, photos, **options)


def test_a_part_of_another_run_is_not_joined(tmp_path, photos):
    """As a process leaves that was still at work when its run was replaced."""
    out = tmp_path / "p.parquet"
    run(out, photos, stop_after=7, commit_seconds=0)
    part = sorted((tmp_path / "p.parquet.work" / "faces").iterdir())[0]
    table = pq.read_table(part)
    record = json.loads(table.schema.metadata[METADATA_KEY]) | {"model": "other"}
    about = {**table.schema.metadata, METADATA_KEY: json.dumps(record).encode()}
    pq.write_table(table.replace_schema_metadata(about), part)

    with pytest.raises(OutputConflictError, match=f"{part.name}' is damaged \\(it is of another run"):
        run(out, photos)
    assert not out.exists()


def test_parts_of_which_several_are_lost_are_not_written_again(tmp_path, photos):
    """The next part of a unit comes after the last one, however many are missing before it."""
    run(tmp_path / "p", photos, stop_after=7, commit_seconds=0)
    parts = sorted((tmp_path / "p" / "inputs").glob("*"))
    assert len(parts) > 2
    for part in parts[:-1]:
        part.unlink()
    before = parts[-1].read_bytes()
    with pytest.raises(OutputConflictError, match=r"are gone \(.*\): start anew"):
        run(tmp_path / "p", photos, commit_seconds=0)

    assert parts[-1].read_bytes() == before


def test_parts_are_in_the_order_of_their_numbers(tmp_path, photos):
    """By name, the 10,001st part of a unit stands before the 10,000th."""
    run(tmp_path / "p", photos, stop_after=5, commit_seconds=0)
    files = RunFiles.at(tmp_path / "p", is_file=False)
    reached = begun_run(OutputConfig(path=str(tmp_path / "p"))).reached(0)
    for table in ("faces", "inputs"):
        files.part(table, 0, 1).rename(files.part(table, 0, 10_000))
        shutil.copy(files.part(table, 0, 0), files.part(table, 0, 9_999))
    ledger = begun_run(OutputConfig(path=str(tmp_path / "p")))

    assert ledger.committed("inputs")[-1] == files.part("inputs", 0, 10_000)
    assert ledger.reached(0) == reached


@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_working_folder_that_somebody_removes_is_said(tmp_path, photos, monkeypatch, name):
    """A run whose plan is gone when its last part is written is not taken for one that another process finished."""
    out = tmp_path / name
    flush = Share.flush

    def flush_and_lose(share):
        flush(share)
        shutil.rmtree(RunFiles.at(out, is_file=bool(out.suffix)).control, ignore_errors=True)

    monkeypatch.setattr(Share, "flush", flush_and_lose)
    with pytest.raises(OutputConflictError, match="is gone: somebody has removed it"):
        run(out, photos)


def test_parts_of_an_earlier_run_are_none_of_the_next(tmp_path, photos):
    """What could not be removed of a working folder is not taken for work that is done."""
    run(tmp_path / "p.parquet", photos, stop_after=7, commit_seconds=0)
    (tmp_path / "p.parquet.work" / "run.json").unlink()
    (photos / "0.jpg").unlink()
    run(tmp_path / "p.parquet", photos)
    run(tmp_path / "whole", photos)

    assert len(tables(tmp_path / "whole")[1]) == 8
    assert [table.rows() for table in tables(tmp_path / "p.parquet")] == [
        table.rows() for table in tables(tmp_path / "whole")
    ]


def test_folder_of_parts_without_a_plan_is_refused(tmp_path, photos):
    """Nobody can tell what is missing from it; it is replaced only if that is asked for."""
    run(tmp_path / "p", photos, stop_after=7, commit_seconds=0)
    (tmp_path / "p" / ".motivnet" / "run.json").unlink()
    with pytest.raises(OutputConflictError, match="whose plan is gone: start anew with --overwrite"):
        run(tmp_path / "p", photos)
    run(tmp_path / "p", photos, overwrite=True)

    assert len(tables(tmp_path / "p")[1]) == 9


def test_unit_is_taken_by_one_at_a_time(tmp_path, photos):
    """Of two shares of all units, the second finds nothing until the first lets go; done units are taken by none."""
    run(tmp_path / "p", photos, stop_after=0)
    config, layout = OutputConfig(path=str(tmp_path / "p")), RowLayout(EMOTIONS, 4)
    ledger = begun_run(config)
    assert ledger.claim(0)
    other = begun_run(config)

    assert not ledger.claim(0)
    assert ledger.is_claimed(0)
    assert not other.claim(0)
    ledger.release()
    assert [todo.item.index for todo in next(take_part(config, layout).rounds(never))] == list(range(9))


def test_part_that_ends_within_a_unit(tmp_path, photos):
    """The cursor in its metadata says from where the unit goes on, to the step within the item."""
    run(tmp_path / "p", photos, stop_after=0)
    config = OutputConfig(path=str(tmp_path / "p"))
    ledger, reached = begun_run(config), Cursor(Position(4, 2), num_frames=2, num_faces=3)
    schemas = RowLayout(EMOTIONS, 4).schemas(RECORD)
    assert ledger.claim(0)
    assert ledger.can_commit(0, reached)
    ledger.commit(0, schemas["faces"].empty_table(), schemas["inputs"].empty_table(), reached=reached)
    ledger.release()
    again = begun_run(config)

    assert again.reached(0) == ledger.reached(0) == reached
    assert not again.can_commit(0, reached)
    assert [todo.cursor for todo in again.todos(0)][:2] == [reached, Cursor(Position(5))]


def test_rows_are_read_as_named_tuples(tmp_path):
    """With the columns that the tuple names, in its order, over all files."""

    class Named(NamedTuple):
        archive: str | None
        input: str

    for number in range(2):
        rows = [{"input": f"{number}/{n}", "archive": None} for n in range(2)]
        with TableWriter(tmp_path / str(number), inputs_schema()) as writer:
            writer.add(pa.Table.from_pylist(rows, schema=inputs_schema()))

    assert list(rows_in([tmp_path / "0", tmp_path / "1"], Named)) == [
        (None, "0/0"), (None, "0/1"), (None, "1/0"), (None, "1/1"),
    ]  # fmt: skip


def as_of_the_former_version(out):
    """Name the parts of an output, and have its inputs say of themselves, as it was before names and counts told."""
    for part in sorted(out.rglob("inputs/part-*")):
        with TableWriter(part.with_name("new"), pq.read_schema(part)) as writer:
            writer.add(pq.read_table(part))
        part.unlink()
        part.with_name("new").rename(part.with_name(part.name.replace("-end", "")))
    with_plan_of_lines(out / ".motivnet")


@pytest.mark.parametrize("stop_after", [0, 3, 5, 8, None])
def test_parts_of_the_former_version(tmp_path, photos, monkeypatch, stop_after):
    """They do not say which is the last, nor what their rows come to, and are gone on with; so is the plan."""
    monkeypatch.setattr("motivnet_cli.output.ledger.MAX_UNIT_ITEMS", 4)
    whole = run(tmp_path / "whole", photos)
    run(tmp_path / "p", photos, commit_seconds=0, stop_after=stop_after)
    before = output_status(tmp_path / "p")
    as_of_the_former_version(tmp_path / "p")
    status = output_status(tmp_path / "p")
    found = {check.check: check.result for check in verify_output(tmp_path / "p").checks}
    summary = run(tmp_path / "p", photos, commit_seconds=0)

    assert (found["plan"], found["parts"]) == ("ok", "ok")
    assert status == before
    assert {**dataclasses.asdict(summary), "outputs": ()} == {**dataclasses.asdict(whole), "outputs": ()}
    assert [table.rows() for table in tables(tmp_path / "p")] == [table.rows() for table in tables(tmp_path / "whole")]


def test_what_is_done_is_known_without_opening_a_part(tmp_path, photos, monkeypatch):
    """A process that starts lists one folder, whatever is done by then; `status` and a summary read no faces."""
    monkeypatch.setattr("motivnet_cli.output.ledger.MAX_UNIT_ITEMS", 2)
    summary = run(tmp_path / "p", photos)
    status = output_status(tmp_path / "p")
    for part in (tmp_path / "p" / "faces").iterdir():
        part.write_bytes(b"")

    assert output_status(tmp_path / "p") == status
    assert dataclasses.replace(run(tmp_path / "p", photos), failures=()) == dataclasses.replace(summary, failures=())
    about = tmp_path / "p" / ".motivnet" / "run.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "finished": False}))
    for part in (tmp_path / "p" / "inputs").iterdir():
        part.write_bytes(b"")
    assert begun_run(OutputConfig(path=str(tmp_path / "p"))).num_done == 9


@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_every_way_to_write_inputs_counts_them(tmp_path, photos, name):
    """As rows and as the footer says: an output, one that is amended, and one that is merged."""
    out = tmp_path / name
    run(out, photos)
    (photos / "9.jpg").write_bytes(b"")
    run(out, photos, healed=True, retry_failed=True)
    run(out, photos, healed=True, extend=True)
    merge([out], tmp_path / "merged.parquet")
    for each in (out, tmp_path / "merged.parquet"):
        for inputs, faces in zip(parts_of(each, "inputs"), parts_of(each, "faces"), strict=True):
            assert written_counts(pq.read_metadata(inputs)) == read_counts(inputs, faces)


@pytest.mark.parametrize("stop_after", [5, None])
def test_a_part_that_is_falsely_said_to_be_the_last_is_found(tmp_path, photos, stop_after):
    run(tmp_path / "p", photos, stop_after=stop_after, commit_seconds=0)
    first, *_, last = sorted((tmp_path / "p" / "inputs").iterdir())
    falsely = first if stop_after is None else last
    falsely.rename(falsely.with_name(f"{falsely.stem}-end.parquet"))
    (parts,) = (check for check in verify_output(tmp_path / "p").checks if check.check == "parts")

    assert parts.result == "wrong"
    assert "is said to be the last part" in parts.examples[0].what


def test_a_part_that_is_there_twice_is_found(tmp_path, photos):
    run(tmp_path / "p", photos)
    (last,) = (tmp_path / "p" / "inputs").iterdir()
    shutil.copy(last, last.with_name(last.name.replace("-end", "")))
    (parts,) = (check for check in verify_output(tmp_path / "p").checks if check.check == "parts")

    assert "is there twice" in parts.examples[0].what


def test_a_part_that_is_there_twice_is_not_left_where_everything_is_done(tmp_path, photos):
    """Two processes that did one unit, one of them to its end."""
    run(tmp_path / "p", photos)
    before = names_below(tmp_path / "p")
    (last,) = (tmp_path / "p" / "inputs").iterdir()
    shutil.copy(last, last.with_name(last.name.replace("-end", "")))
    about = tmp_path / "p" / ".motivnet" / "run.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"finished": False}))
    run(tmp_path / "p", photos)

    assert names_below(tmp_path / "p") == before
    assert len(tables(tmp_path / "p")[1]) == 9


def test_parts_of_numbers_of_any_length_are_sorted():
    names = ["part-099999-0000-end.parquet", "part-100001-0000.parquet", "part-100001-9999.parquet"]
    names += ["part-100001-10000-end.parquet", "part-1000000-0000-end.parquet"]

    assert sorted(sorted(names), key=place_of) == names


def test_overwrite_removes_nothing_before_the_plan_is_written(tmp_path, photos, monkeypatch):
    run(tmp_path / "p", photos)
    before = names_below(tmp_path / "p")

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("motivnet_cli.output.plan.pq.ParquetWriter.write_table", fail)
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path / "p", photos, overwrite=True)
    assert set(before) <= set(names_below(tmp_path / "p"))
    (tmp_path / "p" / ".motivnet" / "plan.jsonl").write_text("")  # of a former version, with secrets of URLs
    run(tmp_path / "p", photos, overwrite=True)

    assert names_below(tmp_path / "p") == before


def test_a_new_run_beside_one_table_of_an_old_one(tmp_path, photos):
    """What is left of the old output is not taken for what the new one has done."""
    run(tmp_path / "p.parquet", photos)
    (tmp_path / "p.parquet").unlink()
    run(tmp_path / "p.parquet", photos, stop_after=3, commit_seconds=0)
    run(tmp_path / "p.parquet", photos)

    assert len(tables(tmp_path / "p.parquet")[1]) == 9
