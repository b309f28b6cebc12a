"""The same command again: what came or changed is told, and what is not needed is not asked for."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import zipfile

import polars
import pytest
from PIL import Image

from motivnet_cli.config import FaceConfig, InputConfig, LoaderConfig, ModelConfig, OutputConfig, RunConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.predictions import read_predictions
from motivnet_cli.export.rows import media_path
from motivnet_cli.export.source import Source
from motivnet_cli.output.read import read_faces
from motivnet_cli.run import annotate
from tests.agreement import assert_same_rows
from tests.clips import make_clip, numbered
from tests.outputs import assert_whole, nine_inputs, run, tables
from tests.pictures import SAMPLE_DATA
from tests.runs import motivnet

MODEL = ("--model", "expression-net", "--faces", "whole")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        shutil.copy(next(SAMPLE_DATA.rglob("*.jpg")), folder / name)
    return folder


def change(path):
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))


@pytest.mark.parametrize("out", ["p.parquet", "p"])
def test_new_and_changed_inputs_are_counted(tmp_path, photos, out):
    """Nothing is read, and --extend is named; afterwards there is nothing to tell."""
    command = ("annotate", photos, *MODEL, "--out", tmp_path / out)
    first = motivnet(*command)
    assert "--extend" not in first.stderr + motivnet(*command).stderr

    for name in ("d.jpg", "e.jpg"):
        shutil.copy(photos / "a.jpg", photos / name)
    change(photos / "b.jpg")
    again = motivnet(*command, "--json")

    assert "2 inputs are new and 1 changed" in again.stderr
    assert "--extend" in again.stderr
    told = json.loads(again.stdout)
    assert (told["new_inputs"], told["changed_inputs"], told["already_finished"]) == (2, 1, True)
    assert told["inputs"] == 3

    assert json.loads(motivnet(*command, "--extend", "--json").stdout)["inputs"] == 5
    assert_whole(tmp_path / out)
    assert "--extend" not in motivnet(*command).stderr


def test_hashes_decide_where_there_are_some(tmp_path, photos):
    """Another time of change is no other content."""
    command = ("annotate", photos, *MODEL, "--out", tmp_path / "p.parquet", "--hash")
    motivnet(*command)
    change(photos / "a.jpg")
    shutil.copy(next(SAMPLE_DATA.rglob("*.mp4")), photos / "b.jpg")

    assert "0 inputs are new and 1 changed" in motivnet(*command).stderr


def test_finished_run_needs_no_inputs(tmp_path, photos):
    """Neither its folder nor its manifest; what it holds is told as before."""
    (tmp_path / "m.csv").write_text("path\nphotos/a.jpg\n")
    commands = [
        ("annotate", photos, *MODEL, "--out", tmp_path / "p.parquet", "--json"),
        ("annotate", "--manifest", tmp_path / "m.csv", *MODEL, "--out", tmp_path / "m.parquet", "--json"),
    ]
    before = [json.loads(motivnet(*command).stdout) for command in commands]
    (tmp_path / "m.csv").unlink()
    shutil.rmtree(photos)
    after = [json.loads(motivnet(*command).stdout) for command in commands]

    assert [each["already_finished"] for each in after] == [True, True]
    assert [each["emotions"] for each in after] == [each["emotions"] for each in before]
    for option in ("--extend", "--retry-failed", "--overwrite"):
        assert "no such file or folder" in motivnet(*commands[0], option, code=2).stderr


def test_frozen_plan_needs_no_list(tmp_path, photos):
    """A run that was stopped goes on by its plan, and tells at its end what came meanwhile."""
    nine = nine_inputs(tmp_path / "nine")
    run(tmp_path / "p.parquet", nine, stop_after=4, commit_seconds=0)
    (nine / "9.jpg").write_bytes(b"")
    summary = run(tmp_path / "p.parquet", nine)

    assert summary.changes == (1, 0)
    assert summary.done == 9

    run(tmp_path / "q", nine, stop_after=4, commit_seconds=0)
    assert run(tmp_path / "q", None).done == 10
    assert len(tables(tmp_path / "q")[1]) == 10


def test_missing_disk_is_no_run_of_failures(tmp_path):
    """Where nothing that is left is there, the run waits for it in place of listing all of it as failed."""
    nine = nine_inputs(tmp_path / "nine")
    run(tmp_path / "p", nine, stop_after=4, commit_seconds=0)
    nine.rename(tmp_path / "elsewhere")

    with pytest.raises(ConfigError, match=r"still to do is there, such as .*nine"):
        run(tmp_path / "p", None)
    (tmp_path / "elsewhere").rename(nine)
    assert run(tmp_path / "p", nine).done == 9


@pytest.mark.parametrize("healed", ["a.png", "c.png"])
@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_a_video_in_several_parts_survives_a_retry(tmp_path, name, healed):
    """A part that is rewritten for one of its inputs may hold the first or the last faces of a long video."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    for picture in ("a.png", "c.png"):
        shutil.copy(SAMPLE_DATA / "astronaut.png", folder / picture)
    (folder / healed).write_bytes(b"not a picture")
    make_clip(folder / "b.mp4", frames=11, fps=1)
    command = ("annotate", folder, *MODEL, "--batch-size", 4, "--commit-seconds", 0)
    motivnet(*command, "--out", tmp_path / name, code=3)
    shutil.copy(SAMPLE_DATA / "astronaut.png", folder / healed)
    motivnet(*command, "--out", tmp_path / name, "--retry-failed")
    motivnet(*command, "--out", tmp_path / "anew.parquet")

    assert_same_rows(tmp_path / name, tmp_path / "anew.parquet")
    assert_whole(tmp_path / name)


def test_extend_keeps_the_kind_of_names(tmp_path, photos):
    """An output of one folder is not extended by another, whose files would be taken for changed ones of the first."""
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    out = ("--out", tmp_path / "p.parquet")
    motivnet("annotate", photos, *MODEL, *out)

    for inputs in ((other,), (photos, other), (photos / "a.jpg",)):
        assert (
            "extend it with the same folder" in motivnet("annotate", *inputs, *MODEL, *out, "--extend", code=2).stderr
        )
    said = motivnet("annotate", photos, other, "--absolute", *MODEL, *out, "--extend", code=2).stderr
    assert "inputs.absolute was False, is now True" in said


def test_names_below_a_folder_are_extended_from_anywhere(tmp_path, photos, monkeypatch):
    """Each file is one input, however it is named, and what the output is for finds it again."""
    out = ("--out", tmp_path / "p.parquet", "--relative-to", tmp_path)
    motivnet("annotate", photos / "a.jpg", *MODEL, *out)
    monkeypatch.chdir(photos)
    motivnet("annotate", "b.jpg", "../photos", *MODEL, *out, "--extend")

    assert tables(tmp_path / "p.parquet")[1]["input"].to_list() == ["photos/a.jpg", "photos/b.jpg", "photos/c.jpg"]
    source = Source(tmp_path / "p.parquet")
    assert media_path(source, "photos/b.jpg") == str(photos / "b.jpg")
    assert read_predictions(tmp_path / "p.parquet").paths == tuple(str(photos / f"{name}.jpg") for name in "abc")


def whole_at(tmp_path, long_input, **output):
    """The settings of a run over one long input, and a picture, one face at a time."""
    return RunConfig(
        inputs=InputConfig(paths=(str(long_input), str(SAMPLE_DATA / "astronaut.png"))),
        model=ModelConfig(name="expression-net", device="cpu", batch_size=1),
        faces=FaceConfig(mode="whole"),
        loader=LoaderConfig(threads=1),
        output=OutputConfig(path=str(tmp_path / "p.parquet"), commit_seconds=0, **output),
    )


def long_input(path, *, first):
    """A video of twelve pictures, or an archive of them, whose first says a number."""
    if path.suffix == ".mp4":
        make_clip(path, frames=12, fps=1, first=first)
        return
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(12):
            picture = io.BytesIO()
            Image.fromarray(numbered(first + number, (96, 64))).save(picture, "PNG")
            archive.writestr(f"{number}.png", picture.getvalue())


@pytest.mark.parametrize("name", ["a.mp4", "a.zip"])
def test_a_long_input_that_is_replaced_before_the_run_goes_on(tmp_path, name):
    """Frames of two videos never become the rows of one that is `ok`; --retry-failed reads the new one."""
    long_input(tmp_path / name, first=0)
    config = whole_at(tmp_path, tmp_path / name)
    batches = []
    assert annotate(config, progress=batches.append, stop=lambda: len(batches) >= 3).stopped
    long_input(tmp_path / name, first=100)
    change(tmp_path / name)
    annotate(config)
    whole = tables(tmp_path / "p.parquet")[1].filter(polars.col("archive").is_null())

    assert whole["error_type"].to_list() == ["changed", None]
    assert whole["status"].to_list() == ["partial", "ok"]

    annotate(whole_at(tmp_path, tmp_path / name, retry_failed=True))
    (tmp_path / "anew").mkdir()
    annotate(whole_at(tmp_path / "anew", tmp_path / name))
    assert_same_rows(read_faces(tmp_path / "p.parquet"), read_faces(tmp_path / "anew" / "p.parquet"))
    assert set(tables(tmp_path / "p.parquet")[1]["status"]) == {"ok"}


@pytest.mark.parametrize("name", ["a.mp4", "a.zip"])
def test_a_long_input_that_changes_while_it_is_read(tmp_path, name):
    """It says so: nobody can tell which of its rows are of which content."""
    long_input(tmp_path / name, first=0)
    changes = iter([lambda: change(tmp_path / name)])
    annotate(whole_at(tmp_path, tmp_path / name), progress=lambda _: next(changes, lambda: None)())
    whole = tables(tmp_path / "p.parquet")[1].filter(polars.col("archive").is_null())

    assert whole["error_type"].to_list() == ["changed", None]
    assert whole["status"].to_list() == ["partial", "ok"]


def test_a_video_that_is_gone_when_the_run_goes_on(tmp_path):
    """What was committed of it stays, and its input says how much that is."""
    make_clip(tmp_path / "a.mp4", frames=12, fps=1)
    config = whole_at(tmp_path, tmp_path / "a.mp4")
    batches = []
    assert annotate(config, progress=batches.append, stop=lambda: len(batches) >= 3).stopped
    (tmp_path / "a.mp4").rename(tmp_path / "elsewhere")
    annotate(config)
    faces, inputs = tables(tmp_path / "p.parquet")

    assert inputs["error_type"].to_list() == ["not_found", None]
    assert inputs["status"].to_list() == ["partial", "ok"]
    assert 0 < inputs["faces"][0] == inputs["frames"][0] == len(faces) - 1 < 12

    (tmp_path / "elsewhere").rename(tmp_path / "a.mp4")
    annotate(dataclasses.replace(config, output=dataclasses.replace(config.output, retry_failed=True)))

    assert tables(tmp_path / "p.parquet")[1]["faces"].to_list() == [12, 1]
