"""Tables that users bring: every format and separator gives the same columns."""

from __future__ import annotations

import datetime as dt
import json

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.inputs import cells
from motivnet_cli.inputs.table import PATH_COLUMNS, column_named, open_table, read_parquet_folder

COLUMNS = ("path", "label")
ROWS = [("a,b;c.jpg", "007"), ("d.jpg", None)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t"])
def test_text_is_separated_as_its_first_line_is(tmp_path, name, separator):
    """Whatever the ending of its name; every cell stays text."""
    pl.DataFrame(ROWS, COLUMNS, orient="row").write_csv(tmp_path / name, separator=separator)
    table = open_table(str(tmp_path / name), "list")

    assert (table.columns, table.is_text) == (COLUMNS, True)
    assert table.read([pl.col("label", "path")]).rows() == [(label, path) for path, label in ROWS]


@pytest.mark.parametrize(("name", "cell"), [("t.csv", "a;b"), ("t.tsv", "a;b,c"), ("t.txt", "a;b")])
def test_column_alone(tmp_path, name, cell):
    """A first line without separators leaves that of the ending, a tab or a comma."""
    (tmp_path / name).write_text(f"path\n{cell}\n")

    assert open_table(str(tmp_path / name), "list").read([pl.col("path")]).rows() == [(cell,)]


@pytest.mark.parametrize("ending", ["jsonl", "ndjson", "parquet", "pq", "PARQUET"])
def test_formats_with_types_keep_them(tmp_path, ending):
    """Numbers stay numbers."""
    path = tmp_path / f"t.{ending}"
    if ending.endswith("l") or ending == "ndjson":
        path.write_text("".join(json.dumps({"path": name, "n": n}) + "\n" for n, (name, _) in enumerate(ROWS)))
    else:
        pl.DataFrame({"path": [name for name, _ in ROWS], "n": [0, 1]}).write_parquet(path)
    table = open_table(str(path), "list")

    assert (table.columns, table.is_text) == (("path", "n"), False)
    assert table.read([pl.col("n") + 1]).rows() == [(1,), (2,)]


def test_table_that_breaks_off_is_a_usage_error(tmp_path):
    """When it is opened, or when its rows are read."""
    (tmp_path / "t.jsonl").write_text('{"path": "a"}\n{"path": ')
    with pytest.raises(ConfigError, match=r"the list '.*t\.jsonl' cannot be read: \w"):
        open_table(str(tmp_path / "t.jsonl"), "list").read([pl.col("path")])
    with pytest.raises(ConfigError, match="no such list"):
        open_table(str(tmp_path), "list")


TEXT = "path,who\na.jpg,Zoë\nb.jpg,x\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_encodings(tmp_path, caplog, encoding, ending):
    """A byte order mark tells the encoding; what is no UTF-8 is read as Windows-1252, and said."""
    path = tmp_path / f"t.{ending}"
    text = TEXT if ending == "csv" else '{"path": "a.jpg", "who": "Zoë"}\n{"path": "b.jpg", "who": "x"}\n'
    path.write_bytes(text.encode(encoding))
    table = open_table(str(path), "list")

    assert table.columns == ("path", "who")
    assert table.read([pl.col("path", "who")]).rows() == [("a.jpg", "Zoë"), ("b.jpg", "x")]
    line = 2 if ending == "csv" else 1
    said = [f"line {line} of the list {str(path)!r} is not UTF-8: it is read as Windows-1252"]
    assert caplog.messages == (said if encoding == "cp1252" else [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TEXT.encode("utf-16-le"), r"line 1 .* is not Windows-1252 text: save it as UTF-8"),
        (b"path\na\nb\x81\n", r"line 3 .* is not Windows-1252 text"),
        (b"\xff\xfep\0a\0t\0h\0\n\0\0\xd8", r"line 2 .* is not UTF-16 text"),
        (b"path,n\na,1\nb\n", r"line 3 .* has 1 cells, and the first row 2"),
        (b'path,n\n\n"a\nb",1\nb,1,2\n', r"line 5 .* has 3 cells"),
        (b'path,n\na,1\n"b,1\nc,2\n', r"line 3 .* cannot be read: unexpected end of data"),
        (b"path,n,path\na,1,2\n", r"more than one column 'path'"),
        (b"\n\n", r"cannot be read: it is empty"),
    ],
)
def test_text_that_cannot_be_a_table_is_named_by_line(tmp_path, content, said):
    """It is no guess what a cell belongs to."""
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        open_table(str(tmp_path / "t.csv"), "list").read([pl.all()])


@pytest.mark.parametrize(
    "text",
    [
        "path,n\r\na,1\r\n\r\nb,2\r\n\r\n",
        "\npath,n\n,\na,1\n  \nb,2",
        "sep=;\npath;n\na;1\nb;2\n",
        "path|n\na|1\nb|2\n",
        '"path";"n, or 1,2"\na;1\nb;2\n',
        "path, n\na,1,\nb,2,,\n",
    ],
)
def test_what_excel_and_others_write(tmp_path, text):
    """Blank rows are none, empty cells beyond the last column neither; a separator in quotes is text."""
    (tmp_path / "t.csv").write_text(text, newline="")
    table = open_table(str(tmp_path / "t.csv"), "list")

    assert table.read([pl.col(name) for name in table.columns]).rows() == [("a", "1"), ("b", "2")]
    assert table.columns[0] == "path"


def test_long_text_is_read_whole(tmp_path):
    """In pieces of 65,536 rows."""
    (tmp_path / "t.csv").write_text("path,n\n" + "".join(f"{n}.jpg,{n}\n" for n in range(70_000)))
    rows = open_table(str(tmp_path / "t.csv"), "list").read([pl.col("n").cast(pl.Int64)])

    assert rows["n"].to_list() == list(range(70_000))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pl.Series([dt.timedelta(seconds=1)]), "PT1S"),
        (pl.Series([dt.date(2024, 1, 2)]), "2024-01-02"),
        (pl.Series([dt.time(1, 2)]), "01:02:00"),
        (pl.Series(["1.10"]).cast(pl.Decimal(5, 2)), "1.10"),
        (pl.Series([2**63 + 5], dtype=pl.UInt64), "9223372036854775813"),
        (pl.Series(["a"], dtype=pl.Categorical), "a"),
        (pl.Series([None]), None),
    ],
)
def test_types_as_text(tmp_path, values, text):
    pl.DataFrame({"v": values}).write_parquet(tmp_path / "t.parquet")
    table = open_table(str(tmp_path / "t.parquet"), "list")

    assert table.read([table.as_text("v")]).rows() == [(text,)]


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, b"\xff"])
def test_types_that_are_no_text(tmp_path, value):
    pl.DataFrame({"v": [value]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match=r"column 'v' of the list .* holds .*, not text"):
        open_table(str(tmp_path / "t.parquet"), "list").as_text("v")


@pytest.mark.parametrize("name", ["path", "Image Path", "FILE_NAME", "img", "videoPath"])
def test_path_columns_are_found_by_name(name):
    assert column_named(PATH_COLUMNS, ["n", name]) == name


def test_first_name_counts():
    assert column_named(PATH_COLUMNS, ["name", "filename", "Path"]) == "Path"
    assert column_named(PATH_COLUMNS, ["n"]) is None


def test_parquet_with_a_page_of_a_negative_length(tmp_path):
    """It is refused: polars would end the process."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"path": ["a.jpg"] * 500}), path, compression="none", use_dictionary=False)
    content = path.read_bytes()
    at = content.index(b"\x15\xe8\x07")
    assert at < 20, "the number of values in the header of the page"
    path.write_bytes(content[:at] + b"\x15\xe7\x07" + content[at + 3 :])

    with pytest.raises(ConfigError, match="cannot be read"):
        open_table(str(path), "manifest").read([pl.col("path")])
    with pytest.raises(ConfigError, match="cannot be read"):
        read_parquet_folder(tmp_path)


def test_folder_of_parquet(tmp_path):
    """Its tables are one, in the order of their names; the columns of one may stand in another order, and no others."""
    for name, columns in (("b", {"n": [3], "s": ["z"]}), ("a", {"s": ["x", "y"], "n": [1, 2]})):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    assert read_parquet_folder(tmp_path).rows() == [("x", 1), ("y", 2), ("z", 3)]

    pq.write_table(pa.table({"s": ["v"]}), tmp_path / "c.parquet")
    with pytest.raises(ConfigError, match=r"c\.parquet has other columns than a\.parquet"):
        read_parquet_folder(tmp_path)


def test_parquet_with_text_that_is_none(tmp_path):
    """Bytes that are not UTF-8 in a column of text are refused."""
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"path": ["a.jpg"] * 500}), path, compression="none", use_dictionary=False, write_statistics=False
    )
    path.write_bytes(path.read_bytes().replace(b"a.jpg", b"a\xffjpg", 1))

    with pytest.raises(ConfigError, match=r"cannot be read: .*UTF8"):
        open_table(str(path), "manifest").read([pl.col("path")])


def test_parquet_that_says_to_have_endless_rows(tmp_path, monkeypatch):
    """Rows cost memory before anything of them is read."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"path": ["a.jpg"] * 500}), path)
    monkeypatch.setattr(cells, "MAX_ROWS", 499)

    for columns in ([pl.col("path")], [pl.int_range(pl.len())]):
        with pytest.raises(ConfigError, match="has 500 rows, and at most 499 are read"):
            open_table(str(path), "manifest").read(columns)


def test_objects_within_objects_without_end(tmp_path):
    """They are no fault of ours where their column is asked for, and no matter where it is not."""
    path = tmp_path / "t.jsonl"
    path.write_text('{"path": "a.jpg", "more": ' + '{"a": ' * 400 + "1" + "}" * 400 + "}\n")

    table = open_table(str(path), "manifest")
    assert table.read([pl.col("path")])["path"].to_list() == ["a.jpg"]
    with pytest.raises(ConfigError, match="cannot be read"):
        table.read([pl.all()])


@pytest.mark.parametrize("suffix", [".xlsx", ".json"])
def test_files_that_are_no_tables_are_named(tmp_path, suffix):
    """Their first line is not taken for names of columns."""
    path = tmp_path / f"labels{suffix}"
    path.write_text('[{"path": "a.jpg"}]')

    with pytest.raises(ConfigError, match=rf"the manifest .*labels\{suffix}' is a \{suffix} file: save it as \.csv"):
        open_table(str(path), "manifest")
