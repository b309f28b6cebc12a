"""No export replaces what it is made from, whatever is asked."""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from tests.pictures import SAMPLE_DATA

GOLDEN = Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors"


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two clips, their predictions as a file and as a folder, and a checkpoint; one for all, since nothing changes."""
    tmp_path = tmp_path_factory.mktemp("exports")
    shutil.copy(SAMPLE_DATA / "face.mp4", tmp_path / "clip.mp4")
    shutil.copy(GOLDEN, tmp_path / "net.safetensors")
    shutil.copy(SAMPLE_DATA / "face.mp4", tmp_path / "other.mp4")
    (tmp_path / "m.csv").write_text("path\nclip.mp4\n")
    model = ("--model", "expression-net")
    for out in ("p.parquet", "run"):
        assert (
            run("annotate", tmp_path / "clip.mp4", tmp_path / "other.mp4", *model, "--out", tmp_path / out).exit_code
            == 0
        )
    assert run("annotate", "--manifest", tmp_path / "m.csv", *model, "--out", tmp_path / "m.parquet").exit_code == 0
    (tmp_path / "link.mp4").symlink_to(tmp_path / "clip.mp4")
    return tmp_path


def contents(folder):
    return {path: sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "arguments",
    [
        ("predictions", "p.parquet", "--to", "parquet", "--out", "p.parquet"),
        ("predictions", "p.parquet", "--to", "parquet", "--out", "p.inputs.parquet"),
        ("predictions", "run", "--to", "parquet", "--out", "run/faces/part-000000-0000.parquet"),
        ("predictions", "run", "--to", "npy", "--out", "run"),
        ("report", "p.parquet", "--out", "p.parquet"),
        ("report", "p.parquet", "--out", "p.inputs.parquet"),
        ("overlay", "clip.mp4", "p.parquet", "--out", "clip.mp4"),
        ("overlay", "clip.mp4", "p.parquet", "--out", "link.mp4"),
        ("overlay", "clip.mp4", "p.parquet", "--out", "other.mp4"),
        ("report", "p.parquet", "--out", "other.mp4"),
        ("predictions", "m.parquet", "--to", "csv", "--out", "m.csv"),
        ("merge", "p.parquet", "run", "--force", "--out", "p.parquet"),
        ("model", "motivnet-1b", "--weights", "net.safetensors", "--to", "safetensors", "--out", "net.safetensors"),
    ],
)
def test_what_is_read_is_never_replaced(folder, monkeypatch, arguments):
    """Even with --overwrite: exit code 2, a sentence, and every byte as it was."""
    monkeypatch.chdir(folder)
    before = contents(folder)
    result = run("export", *arguments, "--overwrite")

    assert result.exit_code == 2
    assert "holds what the export is made from" in result.stderr
    assert contents(folder) == before


@pytest.mark.parametrize("out", [".", "..", "/"])
@pytest.mark.parametrize("export", [("crops",), ("overlay",), ("report",), ("predictions", "--to", "hf")])
def test_a_folder_without_a_name_of_its_own_is_refused(folder, monkeypatch, export, out):
    """What an export makes gets its name at the end, which the folder that one is in cannot."""
    monkeypatch.chdir(folder)
    done = run("export", export[0], "p.parquet", *export[1:], "--out", out, "--overwrite")

    assert done.exit_code == 2
    assert "is no new file or folder; give --out the name of one" in done.stderr
