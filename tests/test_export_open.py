"""Workbooks, SPSS and Stata files, and CSV with decimal commas, read back as their users read them."""

from __future__ import annotations

import json
import re
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.errors import ConfigError
from motivnet_cli.export import statistics, workbook
from motivnet_cli.export.predictions import export_predictions
from motivnet_cli.records import EMOTIONS
from tests.exported import face, mixed_output, output, rows_of

PAGE = Path(__file__).parents[1] / "docs" / "open.md"
HARD_TEXTS = [
    "=1+1",
    "+a",
    "@SUM(A1)",
    "0012",
    "1e5",
    "TRUE",
    " b ",
    "_x0041_",
    "a\x01b",
    "two\nlines",
    "ü 日本 😀",
    '"q"',
]


def kept(path, columns):
    """The table of faces with more columns, as from a manifest."""
    faces = pq.read_table(path)
    for name, values in columns.items():
        faces = faces.append_column(name, values if isinstance(values, pa.Array) else pa.array(values))
    pq.write_table(faces, path)
    return path


def table(path, **columns):
    """A table of predictions with nothing but names, emotions and some columns."""
    size = len(next(iter(columns.values())))
    pq.write_table(pa.table({"input": ["a.jpg"] * size, "emotion": ["anger"] * size, **columns}), path)
    return path


def records(sheet):
    header, *rows = sheet.iter_rows(values_only=True)
    return [dict(zip(header, row, strict=True)) for row in rows]


def read_workbook(path, **options):
    return pytest.importorskip("openpyxl").load_workbook(path, **options)


def read_variables(path):
    library = pytest.importorskip("pyreadstat")
    read = library.read_sav if path.suffix == ".sav" else library.read_dta
    return read(path, output_format="polars")


def test_workbook(tmp_path):
    """Two sheets with every row and column: numbers as numbers, nothing where nothing is, a header that stays."""
    pytest.importorskip("xlsxwriter")
    source = mixed_output(tmp_path)
    book = read_workbook(export_predictions(source, "xlsx", tmp_path / "p.xlsx"))
    expected = pl.read_parquet(source).drop("embedding").with_columns(pl.col(pl.Categorical).cast(pl.String))
    inputs = pq.read_table(source.with_suffix(".inputs.parquet")).to_pylist()
    faces = records(book["faces"])

    assert book.sheetnames == ["faces", "inputs"]
    assert [sheet.freeze_panes for sheet in book] == ["A2", "A2"]
    assert [sheet.auto_filter.ref for sheet in book] == ["A1:AL10", "A1:P7"]
    assert list(faces[0]) == expected.columns
    assert [tuple(np.float32(row[name]) for name in EMOTIONS) for row in faces] == expected.select(EMOTIONS).rows()
    whole = ["input", "frame", "time_s", "face", "face_source", "track", "emotion", "picture_width"]
    assert [tuple(row[name] for name in whole) for row in faces] == expected.select(whole).rows()
    assert records(book["inputs"]) == inputs


def test_cells_are_what_they_were(tmp_path):
    """Text stays text, formula or number that it looks like; whole numbers keep their digits; no float grows digits."""
    pytest.importorskip("xlsxwriter")
    size = len(HARD_TEXTS)
    columns = {
        "note": HARD_TEXTS,
        "id": [10**15 - 1, 10**15, -(10**17) - 1, None] * (size // 4),
        "known": [True, False, None] * (size // 3),
        "score": pa.array([0.1, float("nan"), float("inf"), None] * (size // 4), pa.float32()),
    }
    source = table(tmp_path / "p.parquet", **columns)
    (sheet,) = read_workbook(export_predictions(source, "xlsx", tmp_path / "p.xlsx"))
    rows = records(sheet)
    texts = [re.sub("_x([0-9A-F]{4})_", lambda found: chr(int(found[1], 16)), row["note"]) for row in rows]

    assert texts == HARD_TEXTS  # Excel reads _x0001_ as that character, openpyxl does not
    assert {cell.data_type for cell in sheet["C"]} == {"s"}  # a formula is f
    assert [row["id"] for row in rows[:4]] == [10**15 - 1, "1000000000000000", "-100000000000000001", None]
    assert [row["known"] for row in rows[:3]] == [True, False, None]
    assert [row["score"] for row in rows[:4]] == [0.1, None, None, None]


def test_more_rows_than_a_sheet_has(tmp_path, monkeypatch, caplog):
    """One face too many is refused, with the way on, before anything is written; of inputs the sheet is left out."""
    pytest.importorskip("xlsxwriter")
    many = table(tmp_path / "many.parquet", n=np.arange(1_048_576))
    with pytest.raises(ConfigError, match=r"1,048,576 faces .* \(1,048,575\): choose some with --where, or --to csv"):
        export_predictions(many, "xlsx", tmp_path / "many.xlsx")
    export_predictions(many, "xlsx", tmp_path / "some.xlsx", where="n > 1048570")
    assert {path.name for path in tmp_path.iterdir()} == {"many.parquet", "some.xlsx"}
    assert [row["n"] for row in records(read_workbook(tmp_path / "some.xlsx")["faces"])][-1] == 1_048_575

    source = output(tmp_path, [face("a.jpg")], {"a.jpg": {}, "b.jpg": {}})
    monkeypatch.setattr(workbook, "MAX_ROWS", 1)
    assert read_workbook(export_predictions(source, "xlsx", tmp_path / "a.xlsx")).sheetnames == ["faces"]
    assert "the sheet inputs is left out: there are 2" in caplog.text


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"note": ["x" * 32_768]}, "32,768 characters"),
        ({"tags": [["a"]]}, "column 'tags' holds List"),
        (
            {"embedding": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(16_383, np.float32)), 16_383)},
            "16,385 col",
        ),
    ],
)
def test_what_no_sheet_holds(tmp_path, columns, words):
    """A text, a column or a number of columns that Excel does not have is refused; nothing is cut."""
    pytest.importorskip("xlsxwriter")
    with pytest.raises(ConfigError, match=words):
        export_predictions(table(tmp_path / "p.parquet", **columns), "xlsx", tmp_path / "p.xlsx", embeddings=True)
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


def test_a_workbook_of_more_than_4_gb(tmp_path, monkeypatch):
    """What no zip archive of Excel's holds is refused in words."""
    pytest.importorskip("xlsxwriter")
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    with pytest.raises(ConfigError, match="at most 4 GB: leave columns out"):
        export_predictions(table(tmp_path / "p.parquet", n=[1]), "xlsx", tmp_path / "p.xlsx")


def test_memory_does_not_grow_with_a_workbook(tmp_path):
    """Five times the rows take no more memory."""
    pytest.importorskip("xlsxwriter")
    peaks = []
    for size in (100, 4_000, 20_000):  # the first loads what is loaded once
        source = table(tmp_path / "p.parquet", n=np.arange(size))
        tracemalloc.start()
        export_predictions(source, "xlsx", tmp_path / "p.xlsx", columns=["n"], overwrite=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[2] < 1.3 * peaks[1]


@pytest.mark.parametrize("to", ["sav", "dta"])
def test_variables(tmp_path, to):
    """SPSS and Stata get numbers, text, and emotions as numbers with labels; every variable says what it is."""
    source = mixed_output(tmp_path)
    expected = rows_of(source)
    pytest.importorskip("pyreadstat")
    rows, about = read_variables(export_predictions(source, to, tmp_path / f"p.{to}"))
    labels = about.variable_value_labels

    assert labels["emotion"] == dict(enumerate(EMOTIONS))
    assert [labels["emotion"][value] for value in rows["emotion"]] == [row["emotion"] for row in expected]
    assert [labels["face_source"][value] for value in rows["face_source"]] == ["detected"] * len(expected)
    assert rows.columns == [name for name in expected[0] if name != "embedding"]
    for name in ("input", "frame", "time_s", "face", "track", "picture_width"):
        assert rows[name].to_list() == [row[name] for row in expected]
    for name in ("x1", "anger", "confidence"):
        assert rows[name].cast(pl.Float32).to_list() == [row[name] for row in expected]
    assert about.column_names_to_labels["anger"] == "Probability of anger, 0 to 1."
    if to == "sav":
        formats = [about.original_variable_types[name] for name in ("frame", "time_s", "emotion")]
        assert formats == ["F12.0", "F12.4", "F8.0"]
        assert [about.variable_measure[name] for name in ("emotion", "anger")] == ["nominal", "scale"]


@pytest.mark.parametrize("to", ["sav", "dta"])
def test_columns_of_a_manifest(tmp_path, caplog, to):
    """Names that are not allowed are changed, and that is said; texts, truth values and large numbers stay right."""
    pytest.importorskip("pyreadstat")
    source = output(tmp_path, [face("a.jpg", emotion="fear"), face("b.jpg")], classes=EMOTIONS)
    long_text = "ä" * 1_000
    columns = {
        "Alter (J)": [31, None],
        "alter_(j)": [32, 33],
        "with": ["a", long_text],
        "2nd": [True, None],
        "größe_" + "ö" * 30: [1.5, float("nan")],
        "id": [2**53 + 1, 1],
    }
    kept(source, columns)
    rows, about = read_variables(export_predictions(source, to, tmp_path / f"p.{to}"))
    new = rows.columns[-6:]

    assert new == ["Alter__J_", "alter__j__2", "with_", "v2nd", "größe_" + "ö" * 11, "id"]
    assert rows.select(new).rows() == [
        (31, 32, "a", 1, 1.5, "9007199254740993"),
        (None, 33, long_text, None, None, "1"),
    ]
    assert about.variable_value_labels["v2nd"] == {0: "false", 1: "true"}
    assert about.column_names_to_labels["Alter__J_"] == "Alter (J)"
    assert "'Alter (J)' is Alter__J_, 'alter_(j)' is alter__j__2, 'with' is with_" in caplog.text


def test_an_emotion_that_is_not_the_models_keeps_its_name(tmp_path):
    """A table of another program may hold one: it gets a number behind those of the model."""
    pytest.importorskip("pyreadstat")
    source = table(tmp_path / "p.parquet", anger=[0.5])
    pq.write_table(pa.table({"input": ["a", "b"], "emotion": ["anger", "awe"], "anger": [0.5, 0.1]}), source)
    rows, about = read_variables(export_predictions(source, "sav", tmp_path / "p.sav"))

    assert rows["emotion"].to_list() == [0, 1]
    assert about.variable_value_labels["emotion"] == {0: "anger", 1: "awe"}


@pytest.mark.parametrize(("to", "limit"), statistics.MAX_TEXT.items())
def test_the_longest_text_of_a_variable(tmp_path, to, limit):
    """As many bytes as the format has come back; one more is refused, and nothing is cut."""
    pytest.importorskip("pyreadstat")
    fits = table(tmp_path / "fits.parquet", note=["x" * limit])
    rows, _ = read_variables(export_predictions(fits, to, tmp_path / f"p.{to}"))
    assert rows["note"].to_list() == ["x" * limit]
    with pytest.raises(ConfigError, match=f"'note' has a text of more than {limit:,} bytes"):
        export_predictions(table(tmp_path / "q.parquet", note=["x" * (limit + 1)]), to, tmp_path / f"q.{to}")
    assert not (tmp_path / f"q.{to}").exists()


def test_summary_as_a_workbook(tmp_path, monkeypatch):
    """A sheet with the rows and types that Parquet has; one of too many rows is refused, and nothing is written."""
    pytest.importorskip("xlsxwriter")
    source = mixed_output(tmp_path)
    for name in ("s.xlsx", "s.parquet"):
        done = CliRunner().invoke(app, ["summary", str(source), "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    (sheet,) = read_workbook(tmp_path / "s.xlsx")
    expected = pq.read_table(tmp_path / "s.parquet").to_pylist()
    monkeypatch.setattr(workbook, "MAX_ROWS", 1)
    refused = CliRunner().invoke(app, ["summary", str(source), "--out", str(tmp_path / "t.xlsx")])

    assert sheet.title == "summary"
    assert records(sheet) == [pytest.approx(row, nan_ok=True) for row in expected]
    assert (refused.exit_code, "'summary' has more rows than a sheet (1)" in refused.output) == (2, True)
    assert not (tmp_path / "t.xlsx").exists()


def test_a_text_that_no_cell_of_a_summary_holds(tmp_path):
    """It is refused and not cut, as in the other sheets."""
    pytest.importorskip("xlsxwriter")
    source = output(tmp_path, [face("a.jpg")], classes=EMOTIONS)
    kept(source, {"note": ["x" * 32_768]})
    done = CliRunner().invoke(app, ["summary", str(source), "--by", "note", "--out", str(tmp_path / "s.xlsx")])

    assert (done.exit_code, "'note' has a text of 32,768 characters" in done.output) == (2, True)
    assert not (tmp_path / "s.xlsx").exists()


def test_times_are_the_times(tmp_path):
    """Frame 35 of 25 a second is at 1.4 s, and every format says 1.4."""
    pytest.importorskip("pyreadstat")
    pytest.importorskip("xlsxwriter")
    source = output(tmp_path, [face("a.mp4", frame=35, time_s=1.4)])
    paths = {to: export_predictions(source, to, tmp_path / f"p.{to}") for to in ("csv", "jsonl", "xlsx", "sav", "dta")}
    with zipfile.ZipFile(paths["xlsx"]) as archive:
        assert b"<v>1.4</v>" in archive.read("xl/worksheets/sheet1.xml")

    assert '"a.mp4",35,1.4,0,' in paths["csv"].read_text()
    assert '"time_s":1.4,' in paths["jsonl"].read_text()
    assert read_variables(paths["sav"])[0]["time_s"].to_list() == [1.4]
    assert read_variables(paths["dta"])[0]["time_s"].to_list() == [1.4]


def test_csv_with_decimal_commas(tmp_path):
    """As Excel has it where decimals have a comma: semicolons between fields, 1,4 for 1.4; read back by pandas."""
    pandas = pytest.importorskip("pandas")
    source = output(tmp_path, [face("a;b, c.mp4", frame=35, time_s=1.4), face("=1+1")])
    command = ["export", "predictions", str(source), "--to", "csv", "--decimal-comma", "--bom"]
    assert CliRunner().invoke(app, command).exit_code == 0
    refused = CliRunner().invoke(app, [*command[:-3], "xlsx", "--decimal-comma"])
    rows = pandas.read_csv(tmp_path / "preds.csv", sep=";", decimal=",")

    assert (tmp_path / "preds.csv").read_bytes().splitlines()[1].startswith(b'"a;b, c.mp4";35;1,4;0;"detected";')
    assert rows["input"].tolist() == ["a;b, c.mp4", "'=1+1"]
    assert np.float32(rows["anger"]).tolist() == [row["anger"] for row in rows_of(source)]
    assert (refused.exit_code, "--decimal-comma" in refused.output) == (2, True)


@pytest.mark.parametrize(("to", "package"), [("xlsx", "xlsxwriter"), ("sav", "pyreadstat"), ("dta", "pyreadstat")])
def test_without_the_extra(tmp_path, monkeypatch, to, package):
    """What is missing is said, and how to get it."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"pip install 'motivnet-cli\[stats\]'"):
        export_predictions(table(tmp_path / "p.parquet", n=[1]), to, tmp_path / f"p.{to}")


def test_embeddings_if_they_are_wanted(tmp_path):
    """A column for each number; none unless it is asked for."""
    pytest.importorskip("xlsxwriter")
    source = output(tmp_path, [face("a.jpg") | {"embedding": [0.5, -1.0, 2.0, 0.25]}])
    export_predictions(source, "xlsx", tmp_path / "p.xlsx", embeddings=True)
    (row,) = records(read_workbook(tmp_path / "p.xlsx")["faces"])

    assert [row[f"embedding_{number}"] for number in range(4)] == [0.5, -1.0, 2.0, 0.25]


def test_outputs_whose_names_have_dots_do_not_collide(tmp_path):
    """`run.1` and `run.2` are exported beside each other under names of their own."""
    for name in ("run.1", "run.2"):
        (tmp_path / name).mkdir()
        table(tmp_path / name / "faces.parquet", n=[1])
        done = CliRunner().invoke(app, ["export", "predictions", str(tmp_path / name), "--to", "csv"])
        assert done.exit_code == 0, done.output

    assert {path.name for path in tmp_path.glob("*.csv")} == {"run.1.csv", "run.2.csv"}


def test_the_lines_of_the_page_run(tmp_path, monkeypatch, capsys):
    """Every block in Python that the page does not call untried opens the exports of one output."""
    for package in ("duckdb", "openpyxl", "pandas", "pyreadstat", "xlsxwriter"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    mixed_output(tmp_path)
    for to in ("csv", "xlsx", "sav", "dta"):
        export_predictions("preds.parquet", to, f"preds.{to}")
    blocks = re.findall(r"<!-- run -->\n```python\n(.*?)```", PAGE.read_text(), flags=re.S)
    for block in blocks:
        exec(compile(block, "open.md", "exec"), {})
        assert "anger" in capsys.readouterr().out, block

    assert len(blocks) >= 4
    assert json.loads(pq.read_schema("preds.parquet").metadata[b"motivnet"])["classes"] == list(EMOTIONS)
