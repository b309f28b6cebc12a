"""The same command again: what came or changed is told, and what is not needed is not asked for."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.predictions import read_predictions
from motivnet_cli.export.rows import media_path
from motivnet_cli.export.source import Source
from tests.outputs import nine_inputs, run, tables
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
