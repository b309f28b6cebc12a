"""The files of an output: their sizes, what readers skip of them, and that a crash leaves none half under its name."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from motivnet_cli.export.merge import merge
from motivnet_cli.output import tables
from motivnet_cli.output.tables import RowLayout, TableWriter
from motivnet_cli.records import EMOTIONS
from tests.outputs import nine_inputs, run


def faces_table(n, *, size=4):
    """`n` faces, a picture each: names and confidences rise, the second half are whole pictures."""
    schema = RowLayout(EMOTIONS, size).schemas({})["faces"]
    known = {
        "input": pa.array([f"{number:06d}.jpg" for number in range(n)]),
        "confidence": pa.array(np.arange(n, dtype=np.float32) / n),
        "face_source": pa.array(["detected"] * (n // 2) + ["whole"] * (n - n // 2)).dictionary_encode(),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(n * size, np.float16)), size),
    }
    return pa.table(
        [known.get(field.name, pa.nulls(n, field.type)).cast(field.type) for field in schema], schema=schema
    )


# ---- row groups and statistics ----------------------------------------------------------------------------


@pytest.fixture
def tenths(tmp_path, monkeypatch):
    """Two files of five row groups each, with a hundred faces in a group."""
    faces = faces_table(1000)
    monkeypatch.setattr(tables, "ROW_GROUP_BYTES", 100 * sum(tables._width(field.type) for field in faces.schema))
    for number in range(2):
        with TableWriter(tmp_path / f"part-{number}.parquet", faces.schema) as writer:
            for start in range(500 * number, 500 * (number + 1), 70):
                writer.add(faces[start : min(start + 70, 500 * (number + 1))])
    return tmp_path


def by_polars(folder, where):
    found = pl.scan_parquet(folder / "*.parquet").filter(pl.sql_expr(where)).select("input").collect()
    return found["input"].to_list()


def by_pyarrow(folder, where):
    column, sign, value = where.split()
    compare = {"=": pc.equal, ">=": pc.greater_equal}[sign]
    condition = compare(pc.field(column), value.strip("'") if "'" in value else float(value))
    return ds.dataset(folder).to_table(["input"], filter=condition)["input"].to_pylist()


def by_duckdb(folder, where):
    duckdb = pytest.importorskip("duckdb")
    query = f"SELECT input FROM '{folder}/*.parquet' WHERE {where}"
    return [name for (name,) in duckdb.sql(query).fetchall()]


@pytest.mark.parametrize(
    ("read", "where", "groups", "found"),
    [
        (by_polars, "input = '000321.jpg'", {3}, [321]),
        (by_polars, "input >= '000850.jpg'", {8, 9}, range(850, 1000)),
        (by_polars, "input = 'nowhere.jpg'", set(), []),
        (by_pyarrow, "input = '000321.jpg'", {3}, [321]),
        (by_pyarrow, "input = 'nowhere.jpg'", set(), []),
        (by_pyarrow, "confidence >= 0.75", {7, 8, 9}, range(750, 1000)),
        (by_duckdb, "input = '000321.jpg'", {3}, [321]),
        (by_duckdb, "input = 'nowhere.jpg'", set(), []),
        (by_duckdb, "confidence >= 0.75", {7, 8, 9}, range(750, 1000)),
        (by_duckdb, "face_source = 'whole'", {5, 6, 7, 8, 9}, range(500, 1000)),
    ],
)
def test_readers_skip_what_they_do_not_need(tenths, read, where, groups, found):
    """The pages of all other row groups are damaged, which no reader sees that leaves them out."""
    for number, part in enumerate(sorted(tenths.iterdir())):
        spoil(part, {group for group in range(5) if group + 5 * number not in groups})

    assert read(tenths, where) == [f"{number:06d}.jpg" for number in found]
    with pytest.raises(Exception, match=r"(?s)."):
        read(tenths, "confidence >= 0")


def spoil(part, groups):
    footer = pq.read_metadata(part)
    with part.open("r+b") as file:
        for group in groups:
            for number in range(footer.num_columns):
                column = footer.row_group(group).column(number)
                file.seek(column.dictionary_page_offset or column.data_page_offset)
                file.write(b"\xff" * column.total_compressed_size)


@pytest.mark.parametrize("size", [4, 1536])
def test_row_groups_are_full(tmp_path, size):
    """Of 16 MiB before they are compressed, but for the last; embeddings have no statistics."""
    width = 184 + 2 * size  # bytes of a row: a name of 32, 19 numbers and words of 4, two of 8 ...
    faces = faces_table(1000, size=size)
    count = 2 * tables.ROW_GROUP_BYTES // width // 1000
    with TableWriter(tmp_path / "p", faces.schema) as writer:
        for _ in range(count):
            writer.add(faces)
    footer = pq.read_metadata(tmp_path / "p")
    rows = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]

    assert sum(rows) == 1000 * count
    assert len(set(rows[:-1])) == 1
    assert rows[-1] <= rows[0]
    assert rows[0] == (16 << 20) // width
    first = {name: footer.row_group(0).column(number) for number, name in enumerate(footer.schema.names)}
    assert {name for name, column in first.items() if column.statistics is None} == {"element"}


def test_many_single_rows_are_written_in_their_order(tmp_path, monkeypatch):
    """As --retry-failed adds them, past the number at which they are joined."""
    monkeypatch.setattr(tables, "_MAX_WAITING", 10)
    faces = faces_table(105)
    with TableWriter(tmp_path / "p", faces.schema) as writer:
        for number in range(105):
            writer.add(faces[number : number + 1])

    assert pq.read_table(tmp_path / "p").equals(faces)
    assert pq.read_metadata(tmp_path / "p").num_row_groups == 1


# ---- parts ------------------------------------------------------------------------------------------------


def num_parts(out):
    return [len(list((out / table).iterdir())) for table in ("faces", "inputs")]


def test_parts_are_as_large_as_memory_allows(tmp_path, monkeypatch):
    """A unit is one part where it takes no longer than --commit-seconds, until its rows take too much memory."""
    photos = nine_inputs(tmp_path / "photos")
    run(tmp_path / "one", photos, commit_seconds=3600)
    monkeypatch.setattr("motivnet_cli.output.share.MAX_PART_BYTES", 5 * tables.ROW_BYTES)
    run(tmp_path / "three", photos, commit_seconds=3600)  # 7 faces and 9 inputs

    assert num_parts(tmp_path / "one") == [1, 1]
    assert num_parts(tmp_path / "three") == [3, 3]
    assert pl.read_parquet(tmp_path / "three/faces/*.parquet").equals(pl.read_parquet(tmp_path / "one/faces/*.parquet"))


@pytest.fixture
def events(monkeypatch):
    """What is synced and renamed, in order."""
    events = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor):
        events.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def noted_replace(source, target, **options):
        events.append(("name", str(Path(source).resolve()), str(Path(target).resolve())))
        replace(source, target, **options)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    return events


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs proc(5)")
@pytest.mark.parametrize("name", ["p", "p.parquet"])
def test_a_table_is_on_the_disk_before_it_has_its_name(tmp_path, events, name):
    """Each file once, and its folder after it: a part, a single file, one that is amended, one that is merged."""
    photos = nine_inputs(tmp_path / "photos")
    run(tmp_path / name, photos, commit_seconds=0)
    run(tmp_path / name, photos, healed=True, retry_failed=True)
    merge([tmp_path / name], tmp_path / "merged.parquet")
    syncs = Counter(event[1] for event in events if event[0] == "sync")
    named = [(at, *event[1:]) for at, event in enumerate(events) if event[0] == "name" and ".parquet" in event[2]]

    assert len(named) >= 6
    assert sum(syncs[source] for source in {source for _, source, _ in named}) == len(named)
    for at, source, target in named:
        assert ("sync", source) in events[:at]
        assert ("sync", str(Path(target).parent)) in events[at:]
