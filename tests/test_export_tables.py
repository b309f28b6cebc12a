"""Predictions as tables: every format read back by the library it is for, with every value."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.config import InputConfig, ModelConfig, OutputConfig, RunConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.formats import FORMATS
from motivnet_cli.export.predictions import export_predictions
from motivnet_cli.output.tables import METADATA_KEY, TableWriter, faces_schema
from motivnet_cli.records import EMOTIONS
from motivnet_cli.run import annotate
from tests.exported import face, mixed_output, output, skip_without
from tests.pictures import SAMPLE_DATA

BOX = ["x1", "y1", "x2", "y2"]


@pytest.fixture(scope="module")
def preds(tmp_path_factory):
    """A real output: a portrait, a group, a tracked clip."""
    out = tmp_path_factory.mktemp("preds") / "p.parquet"
    command = ["annotate", str(SAMPLE_DATA), "--exclude", "interview.mp4"]
    command += ["--model", "expression-net", "--track", "--out", str(out)]
    assert CliRunner().invoke(app, command).exit_code == 0
    return out


@pytest.fixture(scope="module")
def rows(preds):
    return pl.read_parquet(preds).with_columns(pl.col(pl.Categorical).cast(pl.String))


def synthetic(path, n, names=None):
    """Rows of a run that never was, in the schema of one."""
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(7), n).astype(np.float32)
    best = chances.argmax(1)
    columns = {
        "input": names or [f"{number:06d}.jpg" for number in range(n)],
        "frame": [None] * n,
        "time_s": [None] * n,
        "face": [0] * n,
        "face_source": ["detected"] * n,
        **{side: rng.uniform(0, 100, n).astype(np.float32) for side in BOX},
        "picture_width": [640] * n,
        "picture_height": [480] * n,
        "detection_score": rng.random(n, np.float32),
        "emotion": [EMOTIONS[i] for i in best],
        "confidence": chances.max(1),
        **{name: chances[:, i] for i, name in enumerate(EMOTIONS)},
        "embedding": list(rng.random((n, 4)).astype(np.float16)),
    }
    schema = faces_schema(EMOTIONS, 4, "float16")
    record = {"classes": list(EMOTIONS), "settings": {"model.name": "m"}}
    schema = schema.with_metadata({METADATA_KEY: json.dumps(record).encode()})
    arrays = [
        pa.array(columns.get(field.name, [None] * n), field.type)
        if not pa.types.is_dictionary(field.type)
        else pa.array(columns[field.name]).dictionary_encode()
        for field in schema
    ]
    with TableWriter(path, schema) as writer:
        writer.add(pa.Table.from_arrays(arrays, names=schema.names))
    return path


def test_csv(preds, rows, tmp_path):
    """Python's csv and polars read every cell back, floats to the last bit."""
    export_predictions(preds, "csv", tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    again = pl.read_csv(tmp_path / "p.csv", schema_overrides=dict.fromkeys([*EMOTIONS, *BOX], pl.Float32))

    assert list(table[0]) == [name for name in rows.columns if name != "embedding"]
    for name in (*EMOTIONS, *BOX):
        assert [np.float32(row[name]) for row in table] == rows[name].to_list()
        assert again[name].to_list() == rows[name].to_list()
    assert [row["input"] for row in table] == rows["input"].to_list()


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", "\ta", '"quoted", and comma', "line\nbreak", "ünïcode"])
def test_csv_is_never_live_in_a_spreadsheet(tmp_path, name):
    """Text that a spreadsheet would run gets an apostrophe; other text comes back as it is."""
    export_predictions(synthetic(tmp_path / "p.parquet", 1, [name]), "csv", tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)

    assert row["input"] == (f"'{name}" if name[0] in "=+-@\t" else name)


HARD_NAMES = ['Größe, "q".jpg', "b;c 日本.jpg", "1e5", "0012", "TRUE", "NA"]


@pytest.mark.skipif(not shutil.which("soffice"), reason="no LibreOffice here")
@pytest.mark.slow
def test_a_spreadsheet_reads_the_csv(tmp_path):
    """LibreOffice, told that it is UTF-8 and that what is in quotes is text, shows every name and number."""
    export_predictions(synthetic(tmp_path / "p.parquet", len(HARD_NAMES), HARD_NAMES), "csv", tmp_path / "p.csv")
    command = ["soffice", f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}", "--headless"]
    command += ["--infilter=CSV:44,34,76,1,,0,true", "--convert-to", "csv:Text - txt - csv (StarCalc):44,34,76"]
    command += ["--outdir", str(tmp_path / "again"), str(tmp_path / "p.csv")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    before, after = (pl.read_csv(folder / "p.csv", infer_schema=False) for folder in (tmp_path, tmp_path / "again"))

    assert after["input"].to_list() == before["input"].to_list() == HARD_NAMES
    assert after["emotion"].to_list() == before["emotion"].to_list()
    assert after["anger"].cast(pl.Float32).to_list() == before["anger"].cast(pl.Float32).to_list()


@pytest.mark.skipif(not shutil.which("Rscript"), reason="no R here")
def test_r_reads_the_csv(tmp_path):
    """`read.csv` gives the same names and the same numbers, a time of 1.4 s as 1.4, and nothing where nothing is."""
    names = [name for name in HARD_NAMES for _ in range(2)]
    rows = [face(name, n % 2, frame=14, time_s=1.4 if n % 2 else None) for n, name in enumerate(names)]
    export_predictions(output(tmp_path, rows), "csv", tmp_path / "p.csv")
    (tmp_path / "p.R").write_text(
        'd <- read.csv("p.csv", na.strings = "")\n'
        "stopifnot(identical(d$time_s, rep(c(NA, 1.4), nrow(d) / 2)), all(is.na(d$track)))\n"
        'cat(sprintf("%s\\t%s\\t%.9g\\n", d$input, d$emotion, d$anger), sep = "")\n'
    )
    command = ["Rscript", "--vanilla", "p.R"]
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    found = [line.split("\t") for line in run.stdout.splitlines()]

    assert [(name, emotion) for name, emotion, _ in found] == [(row["input"], row["emotion"]) for row in rows]
    assert [np.float32(anger) for *_, anger in found] == [np.float32(row["anger"]) for row in rows]


def test_csv_for_excel(tmp_path):
    """`--bom` begins the file with the byte order mark, and changes nothing else; other formats refuse it."""
    command = ["export", "predictions", str(synthetic(tmp_path / "p.parquet", 3, ["ü.jpg", "b", "c"])), "--to"]
    for name, options in {"plain.csv": [], "excel.csv": ["--bom"]}.items():
        assert CliRunner().invoke(app, [*command, "csv", "--out", str(tmp_path / name), *options]).exit_code == 0
    refused = CliRunner().invoke(app, [*command, "jsonl", "--bom", "--out", str(tmp_path / "p.jsonl")])

    assert (tmp_path / "excel.csv").read_bytes() == b"\xef\xbb\xbf" + (tmp_path / "plain.csv").read_bytes()
    assert (refused.exit_code, "--bom" in refused.output) == (2, True)
    assert not (tmp_path / "p.jsonl").exists()


def test_embeddings_as_float32(tmp_path):
    """`--float32` writes lists of float32, which Spark and R's arrow read, with the values of the float16."""
    source = synthetic(tmp_path / "p.parquet", 5)
    expected = np.stack(pq.read_table(source)["embedding"].to_numpy())
    for form in ("parquet", "arrow", "hf", "npy", "npz", "jsonl"):
        export_predictions(source, form, tmp_path / form, float32=True, embeddings=True)
    tables = [
        pq.read_table(tmp_path / "parquet"),
        feather.read_table(tmp_path / "arrow"),
        pq.read_table(tmp_path / "hf" / "data"),
    ]
    objects = [json.loads(line) for line in (tmp_path / "jsonl").read_text().splitlines()]
    with np.load(tmp_path / "npz") as archive:
        arrays = [np.load(tmp_path / "npy" / "embeddings.npy"), archive["embedding"]]

    assert expected.dtype == np.float16
    for table in tables:
        assert table.schema.field("embedding").type.value_type == pa.float32()
        arrays.append(np.stack(table["embedding"].to_numpy()))
    assert [array.dtype for array in arrays] == [np.float32] * 5
    assert all((array == expected).all() for array in arrays)
    assert (np.array([each["embedding"] for each in objects], np.float32) == expected).all()


def test_float32_without_embeddings_is_refused(tmp_path):
    """A format that writes no embeddings says so."""
    source = synthetic(tmp_path / "p.parquet", 1)
    with pytest.raises(ConfigError, match="--float32"):
        export_predictions(source, "csv", tmp_path / "p.csv", float32=True)


def test_default_names(tmp_path):
    """Every format has a name of its own, which says the format and is not that of the predictions."""
    source = mixed_output(tmp_path)
    there = {path.name for path in tmp_path.iterdir()}
    for form in FORMATS:
        skip_without(form)
        done = CliRunner().invoke(app, ["export", "predictions", str(source), "--to", form])
        assert done.exit_code == 0, done.output
    names = {path.name for path in tmp_path.iterdir()} - there

    assert names == {
        *(
            "preds.csv",
            "preds.xlsx",
            "preds.sav",
            "preds.dta",
            "preds.jsonl",
            "preds-exported.parquet",
            "preds.npy",
            "preds.npz",
            "preds.arrow",
            "preds.hf",
            "preds.openface",
            "preds.pyfeat.csv",
        ),
        *(
            "preds.deepface.jsonl",
            "preds.coco.json",
            "preds.fiftyone",
            "preds.label-studio",
            "preds.webvtt.vtt",
            "preds.srt",
            "preds.elan.eaf",
        ),
    }


def test_whole_frames_are_no_success(tmp_path):
    """Where no face was detected, scores and OpenFace's `success` are 0; a given box has no score."""
    rows = [
        face("a.mp4", frame=number, time_s=float(number)) | {"face_source": source, "detection_score": score}
        for number, (source, score) in enumerate({"detected": 0.75, "whole": None, "given": None}.items())
    ]
    source = output(tmp_path, rows, {"a.mp4": {"kind": "video"}})
    for form, name in (("deepface", "d.jsonl"), ("pyfeat", "f.csv"), ("openface", "o")):
        export_predictions(source, form, tmp_path / name)
    openface = pl.read_csv(tmp_path / "o" / "a.csv")
    deepface = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]

    assert openface["success"].to_list() == [1, 0, 1]
    assert openface["confidence"].to_list() == [0.75, 0, None]
    assert pl.read_csv(tmp_path / "f.csv")["FaceScore"].to_list() == [0.75, 0, None]
    assert [each["face_confidence"] for each in deepface] == [0.75, 0, None]


def test_jsonl(preds, rows, tmp_path):
    """An object a line; embeddings when they are asked for."""
    export_predictions(preds, "jsonl", tmp_path / "p.jsonl", embeddings=True)
    objects = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]

    assert [np.float32(each["anger"]) for each in objects] == rows["anger"].to_list()
    assert np.array_equal(np.array([each["embedding"] for each in objects], np.float16), rows["embedding"].to_numpy())


def test_parquet_arrow_and_hf(preds, rows, tmp_path):
    """polars, pyarrow and Hugging Face's layout give the same table, with the run's record."""
    export_predictions(preds, "parquet", tmp_path / "q.parquet")
    export_predictions(preds, "arrow", tmp_path / "q.arrow")
    export_predictions(preds, "hf", tmp_path / "hf")

    assert pl.read_parquet(tmp_path / "q.parquet").equals(rows)
    assert METADATA_KEY in pq.read_schema(tmp_path / "q.parquet").metadata
    assert pl.from_arrow(feather.read_table(tmp_path / "q.arrow")).equals(rows)
    assert pl.read_parquet(tmp_path / "hf" / "data" / "*.parquet").equals(rows)


def test_hugging_face_loads_it_offline(preds, rows, tmp_path, monkeypatch):
    """`datasets.load_dataset` opens the folder without a network."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    export_predictions(preds, "hf", tmp_path / "hf")
    loaded = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))["train"]

    assert loaded["input"][:] == rows["input"].to_list()
    assert np.array_equal(np.float32(loaded["anger"][:]), rows["anger"].to_numpy())


def test_arrays(preds, rows, tmp_path):
    """NumPy maps the embeddings into memory, beside a table of their rows; npz holds an array a column."""
    export_predictions(preds, "npy", tmp_path / "n")
    export_predictions(preds, "npz", tmp_path / "n.npz")
    mapped = np.load(tmp_path / "n" / "embeddings.npy", mmap_mode="r")

    assert isinstance(mapped, np.memmap)
    assert mapped.dtype == np.float16
    assert np.array_equal(mapped, rows["embedding"].to_numpy())
    assert pl.read_parquet(tmp_path / "n" / "rows.parquet").equals(rows.drop("embedding"))
    with np.load(tmp_path / "n.npz") as arrays:
        assert np.array_equal(arrays["embedding"], rows["embedding"].to_numpy())
        assert arrays["input"].tolist() == rows["input"].to_list()
        assert np.array_equal(arrays["frame"], rows["frame"].cast(pl.Float64).fill_null(float("nan")), equal_nan=True)


def test_layouts_of_other_tools(preds, rows, tmp_path):
    """DeepFace's, py-feat's and OpenFace's columns hold our values: percent, corner and size, frames from 1."""
    for form, name in (("deepface", "d.jsonl"), ("pyfeat", "f.csv"), ("openface", "o")):
        export_predictions(preds, form, tmp_path / name)
    deepface = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    pyfeat = pl.read_csv(tmp_path / "f.csv")
    openface = pl.read_csv(tmp_path / "o" / "face.csv")
    clip = rows.filter(pl.col("input") == "face.mp4")

    assert [each["emotion"]["angry"] for each in deepface] == pytest.approx((100 * rows["anger"]).to_list(), rel=1e-5)
    assert [each["dominant_emotion"] for each in deepface] == rows["emotion"].replace({"happiness": "happy"}).to_list()
    assert all(abs(each["region"]["x"] - x1) <= 0.5 for each, x1 in zip(deepface, rows["x1"], strict=True))
    assert (pyfeat["FaceRectX"] + pyfeat["FaceRectWidth"]).to_list() == pytest.approx(rows["x2"].to_list(), abs=1e-4)
    assert pyfeat["neutral"].to_list() == pytest.approx(rows["neutral"].to_list())
    assert openface["frame"].to_list() == (clip["frame"] + 1).to_list()
    assert openface["timestamp"].to_list() == clip["time_s"].to_list()
    assert openface["face_id"].to_list() == clip["track"].to_list()


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_every_format_is_written_from_a_real_output(preds, tmp_path, form):
    """Each format of the list writes something, and refuses to write over it unasked."""
    skip_without(form)
    out = tmp_path / f"out{FORMATS[form].suffix}"
    export_predictions(preds, form, out)
    assert out.exists()
    with pytest.raises(ConfigError, match="--overwrite"):
        export_predictions(preds, form, out)
    export_predictions(preds, form, out, overwrite=True)


def test_where_and_columns(preds, rows, tmp_path):
    """A condition in SQL, and columns in the wanted order."""
    where = "confidence > 0.5 AND input LIKE '%.jpg'"
    export_predictions(preds, "csv", tmp_path / "p.csv", where=where, columns=["face", "input"])
    export_predictions(preds, "parquet", tmp_path / "p.parquet", where=where, columns=["face", "input"])
    expected = rows.filter((pl.col("confidence") > 0.5) & pl.col("input").str.ends_with(".jpg"))

    assert pl.read_csv(tmp_path / "p.csv").rows() == expected.select("face", "input").rows()
    assert pl.read_parquet(tmp_path / "p.parquet").rows() == expected.select("face", "input").rows()


@pytest.mark.parametrize("form", ["csv", "coco"])
def test_a_condition_may_name_a_column_twice(tmp_path, form):
    """`a OR b` on one column, for the formats that polars writes and for those that are written here."""
    source = output(tmp_path, [face(name) for name in ("a.jpg", "b.png", "c.gif")])
    out = export_predictions(source, form, tmp_path / "out", where="input LIKE 'a%' OR input LIKE 'b%'")
    text = out.read_text()

    assert [name in text for name in ("a.jpg", "b.png", "c.gif")] == [True, True, False]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"where": "confidense > 1"}, "confidence"),
        ({"where": "confidence"}, "true or false"),
        ({"where": "confidence > AVG(confidence)"}, "looks at several rows"),
        ({"where": "SELECT"}, "cannot use the condition"),
        ({"where": "1 = 1"}, "names no column"),
        ({"columns": ["emotions"]}, "no column 'emotions'"),
    ],
)
def test_wrong_choices_name_what_there_is(preds, tmp_path, options, words):
    """A wrong condition or column is a sentence, and nothing is written."""
    with pytest.raises(ConfigError, match=words):
        export_predictions(preds, "csv", tmp_path / "p.csv", **options)
    assert not (tmp_path / "p.csv").exists()


def test_a_format_that_is_not_there(preds, tmp_path):
    """The formats are named; a file that holds no predictions is refused."""
    with pytest.raises(ConfigError, match="label-studio"):
        export_predictions(preds, "xls", tmp_path / "p.xls")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(ConfigError, match="not a table of predictions"):
        export_predictions(tmp_path / "other.parquet", "csv", tmp_path / "p.csv")


def test_an_unfinished_output_is_said(tmp_path, caplog):
    """Of a run that was stopped, what is committed is exported, and how much that is is said."""
    pictures = tmp_path / "in"
    pictures.mkdir()
    for number in range(4):
        shutil.copy(SAMPLE_DATA / "astronaut.png", pictures / f"{number}.png")
    answers = iter([False] * 3)
    summary = annotate(
        RunConfig(
            inputs=InputConfig(paths=(str(pictures),)),
            output=OutputConfig(path=str(tmp_path / "run"), commit_seconds=0),
            model=ModelConfig(name="expression-net", batch_size=1),
        ),
        stop=lambda: next(answers, True),
    )
    export_predictions(tmp_path / "run", "csv", tmp_path / "p.csv")

    assert summary.stopped
    assert f"is not finished: {summary.done} of 4 inputs are done" in caplog.text


def test_stdout(preds, rows):
    """`--out -` gives the bytes alone; talk is elsewhere."""
    command = [sys.executable, "-m", "motivnet_cli", "export", "predictions", str(preds), "--to", "csv", "--out", "-"]
    run = subprocess.run(command, capture_output=True, check=True)
    assert len(run.stdout.splitlines()) == rows.height + 1


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_reader_that_has_enough_ends_it_quietly(tmp_path, form):
    """`| head -1`: exit code 0, and on stderr what is done and nothing else."""
    source = synthetic(tmp_path / "p.parquet", 60_000)
    command = [sys.executable, "-m", "motivnet_cli", "export", "predictions", str(source), "--to", form, "--out", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline()
        process.stdout.close()
        talk = process.stderr.read()

    assert (process.returncode, talk.decode()) == (0, f"export: {source} to {form}\n")


@pytest.mark.parametrize("form", ["csv", "npy"])
def test_a_killed_export_is_absent(tmp_path, form):
    """SIGKILL while it writes: nothing under the name, and the next export is whole."""
    source = synthetic(tmp_path / "p.parquet", 60_000)
    out = tmp_path / "out.csv"
    command = [
        sys.executable,
        "-m",
        "motivnet_cli",
        "export",
        "predictions",
        str(source),
        "--to",
        form,
        "--out",
        str(out),
    ]
    temporary = tmp_path / ".out.csv.tmp"
    for _ in range(20):  # until it is hit while it writes
        process = subprocess.Popen(command)
        while not temporary.exists() and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            break
        (shutil.rmtree if out.is_dir() else os.remove)(out)
    else:
        pytest.fail("every export was faster than the kill")

    assert not out.exists()
    export_predictions(source, form, out)
    assert out.exists()
    assert not temporary.exists()
