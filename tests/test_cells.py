"""Pictures inside Parquet tables: read row by row, named, resumed, and bounded in memory."""

from __future__ import annotations

import tracemalloc

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.config import InputConfig
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.inputs.cells import CellReader, holds_pictures, names_of
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output.read import read_faces, read_inputs
from tests.agreement import assert_same_rows
from tests.pictures import face_photo

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def struct_table(path, cells, *, row_group_size=None, **columns):
    """Cells are pairs of bytes and name, or None."""
    values = [cell and {"bytes": cell[0], "path": cell[1]} for cell in cells]
    table = pa.table({"image": pa.array(values, STRUCT), **columns})
    pq.write_table(table, path, row_group_size=row_group_size)
    return str(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    paths = [folder / f"{n}.jpg" for n in range(4)]
    for n, path in enumerate(paths):
        face_photo(path, size=(340, 240), faces=((100 + 10 * n, 120, 60),))
    return paths


def listed(*manifests, **inputs):
    return list(Listing(InputConfig(manifests=manifests, **inputs)))


def test_rows_are_read_in_any_order(tmp_path):
    """Forwards, over row groups, back, and from another table."""
    contents = [bytes([n]) * (n + 1) for n in range(50)]
    one = struct_table(tmp_path / "one.parquet", [(data, None) for data in contents], row_group_size=20)
    pq.write_table(pa.table({"b": pa.array(contents[::-1], pa.large_binary())}), tmp_path / "two.parquet")
    two = str(tmp_path / "two.parquet")
    cells = CellReader()

    for row in (*range(50), 3, 3, 4, 19, 20, 45, 0, 49):
        assert cells.read(one, "image", row) == contents[row]
        assert cells.read(two, "b", row) == contents[49 - row]
    for row in (0, 7, 8, 9, 30, 41, 2):
        assert cells.read(one, "image", row) == contents[row]
    cells.close()


def test_names_that_are_no_text(tmp_path):
    """Bytes that are not UTF-8 where text is due are damage of the table, for its names and for its cells."""
    table = pa.table({"image": pa.array([{"bytes": b"x", "path": "name.jpg"}] * 3, STRUCT)})
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, compression="none", use_dictionary=False, write_statistics=False)
    path.write_bytes(path.read_bytes().replace(b"name.jpg", b"n\xffme.jpg"))

    with pytest.raises(ConfigError, match="cannot be read"):
        listed(str(path))
    cells = CellReader()
    with pytest.raises(InputError) as error:
        cells.read(str(path), "image", 1)
    assert error.value.error_type == "damaged"


@pytest.mark.thorough
def test_memory_is_that_of_a_few_cells(tmp_path):
    """A row group may be larger than memory, if its pages are not."""
    size = 1 << 20
    path = tmp_path / "big.parquet"
    with pq.ParquetWriter(
        path, pa.schema([("image", pa.binary())]), compression="none", use_dictionary=False, write_batch_size=1
    ) as writer:
        table = pa.table({"image": pa.array([bytes([n]) * size for n in range(64)], pa.binary())})
        writer.write_table(table, row_group_size=64)
    del table
    cells = CellReader()
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    most = 0
    for row in range(64):
        assert cells.read(str(path), "image", row)[0] == row
        most = max(most, pa.total_allocated_bytes() - before + tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    cells.close()

    assert most < 40 * size


@pytest.mark.parametrize("cell", [None, (None, "a.jpg"), (b"", "a.jpg")])
def test_cell_without_bytes(tmp_path, cell):
    path = struct_table(tmp_path / "t.parquet", [(b"x", None), cell, (b"y", None)])
    cells = CellReader()
    with pytest.raises(InputError, match=r"row 2 .* holds no bytes") as caught:
        cells.read(path, "image", 1)

    assert caught.value.error_type == "empty_file"
    assert cells.read(path, "image", 2) == b"y"


def test_table_that_changed_or_is_gone(tmp_path):
    """Since the run was planned."""
    path = struct_table(tmp_path / "t.parquet", [(b"x", None)])
    cells = CellReader()
    for row, column, name, error_type in (
        (1, "image", path, "changed"),
        (0, "other", path, "changed"),
        (0, "image", f"{path}.gone", "not_found"),
    ):
        with pytest.raises(InputError) as caught:
            cells.read(name, column, row)
        assert caught.value.error_type == error_type
    assert cells.read(path, "image", 0) == b"x"


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (pl.Binary(), True),
        (pl.Struct({"bytes": pl.Binary, "path": pl.String}), True),
        (pl.Struct({"bytes": pl.Binary}), True),
        (pl.Struct({"path": pl.String}), False),
        (pl.List(pl.Binary), False),
        (pl.String(), False),
    ],
)
def test_columns_that_hold_pictures(dtype, expected):
    assert holds_pictures(dtype) is expected


def test_a_name_like_that_of_another_row(tmp_path):
    """Each picture stays one of its own, with its box."""
    boxes = {name: [1.0 + number, 5.0 + number] for number, name in enumerate(("x1", "y1", "x2", "y2"))}
    path = struct_table(tmp_path / "t.parquet", [(b"1", f"{tmp_path}/t.parquet#2"), (b"2", None)], **boxes)

    assert [(item.row, len(item.given)) for item in listed(path)] == [(0, 1), (1, 1)]


def test_names(tmp_path):
    """By their path in the table; by the row where there is none, or another row has it, too."""
    path = struct_table(tmp_path / "t.parquet", [(b"1", "a.jpg"), (b"2", None), (b"3", "b"), (b"4", "c"), (b"5", "b")])
    items = listed(path)

    assert [item.input for item in items] == ["a.jpg", f"{path}#2", f"{path}#3", "c", f"{path}#5"]
    assert [(item.path, item.column, item.row, item.kind) for item in items] == [
        (path, "image", row, "image") for row in range(5)
    ]
    assert names_of(path, "image", pl.Struct({"bytes": pl.Binary})) is None


def test_names_of_several_tables_begin_with_the_table(tmp_path):
    """Since each of them may have the same."""
    one, two = (struct_table(tmp_path / f"{name}.parquet", [(b"x", "a.jpg")]) for name in ("one", "two"))

    assert [item.input for item in listed(one, two)] == [f"{one}/a.jpg", f"{two}/a.jpg"]


def test_column_of_pictures_goes_before_one_of_names(tmp_path, caplog):
    """It is said; the one that is named counts first."""
    caplog.set_level("INFO")
    path = tmp_path / "t.parquet"
    pl.DataFrame({"path": ["a.jpg"], "data": [b"x"]}).write_parquet(path)

    assert [item.column for item in listed(str(path))] == ["data"]
    assert "pictures are read from the column 'data'" in caplog.text
    assert [item.column for item in listed(str(path), path_column="path")] == [None]


def annotate(*arguments):
    command = ["annotate", *map(str, arguments), "--model", "expression-net"]
    run = CliRunner().invoke(app, command, catch_exceptions=False)
    return run.exit_code, run.stderr


def test_pictures_of_a_table_give_the_rows_of_their_files(tmp_path, photos):
    """With kept columns and boxes of their own; a bad cell fails alone."""
    cells = [(photo.read_bytes(), photo.name) for photo in photos]
    table = struct_table(tmp_path / "t.parquet", [*cells, (b"no picture", "bad.jpg")], row_group_size=2, label=range(5))
    (tmp_path / "m.csv").write_text("path,label\n" + "".join(f"{photo},{n}\n" for n, photo in enumerate(photos)))
    code, stderr = annotate("--manifest", table, "--keep", "label", "--out", tmp_path / "t.out.parquet")
    assert code == 3, stderr
    assert annotate("--manifest", tmp_path / "m.csv", "--keep", "label", "--out", tmp_path / "f.parquet")[0] == 0
    faces, files = read_faces(tmp_path / "t.out.parquet"), read_faces(tmp_path / "f.parquet")

    assert faces["input"].to_list() == [photo.name for photo in photos]
    assert_same_rows(faces.drop("input"), files.drop("input"))
    assert read_inputs(tmp_path / "t.out.parquet")["error_type"].to_list() == [None] * 4 + ["not_an_image"]


def test_killed_inside_a_table(tmp_path, photos, monkeypatch):
    """The same command goes on after the rows that were committed, and reads no others."""
    monkeypatch.setattr("motivnet_cli.output.share.MAX_PART_BYTES", 1)
    table = struct_table(tmp_path / "t.parquet", [(photo.read_bytes(), photo.name) for photo in photos])
    command = ("--manifest", table, "--batch-size", 1, "--threads", 1, "--commit-seconds", 0)
    assert annotate(*command, "--out", tmp_path / "whole.parquet")[0] == 0
    rows: list[int] = []
    read = CellReader.read

    def fails_at_row_3(cells, path, column, row):
        rows.append(row)
        if rows == [0, 1, 2, 3]:
            raise OSError("the machine dies here")
        return read(cells, path, column, row)

    monkeypatch.setattr(CellReader, "read", fails_at_row_3)
    assert annotate(*command, "--out", tmp_path / "p.parquet")[0] == 1
    assert annotate(*command, "--out", tmp_path / "p.parquet")[0] == 0

    assert rows[4] > 0
    assert rows[4:] == list(range(rows[4], 4))
    assert_same_rows(read_faces(tmp_path / "p.parquet"), read_faces(tmp_path / "whole.parquet"))
