"""Manifests from the field (tests/cases/manifests), each with what is right of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.config import InputConfig
from motivnet_cli.errors import InputError
from motivnet_cli.faces.crop import placed
from motivnet_cli.inputs.cells import CellReader
from motivnet_cli.inputs.decode import decode_bytes
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output.read import read_faces, read_inputs
from motivnet_cli.output.status import output_status
from motivnet_cli.output.verify import verify_output
from motivnet_cli.records import EMOTIONS

CASES = Path(__file__).parent / "cases" / "manifests"
TINY = Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors"
SIZE = {"height": 360, "width": 640}
"""Of all pictures."""


def annotate(out, *options, code=0):
    command = ["annotate", *map(str, options), "--faces", "whole", "--out", str(out), "--model", "expression-net"]
    run = CliRunner().invoke(app, command, catch_exceptions=False)
    assert run.exit_code == code, run.stderr
    return run.stderr


@pytest.mark.parametrize(
    ("name", "keep", "expected"),
    [
        ("blank.csv", (), [("p0.jpg",), ("p1.jpg",)]),
        (
            "crlf_blank.csv",
            ("subject",),
            [("p0.jpg", "007"), ("p1.jpg", "multi\r\nline"), ("img dir/é/a,b.jpg", "x")],
        ),
        ("semicolon.csv", ("subject",), [("p0.jpg", "007"), ("p1.jpg", "008")]),
        ("utf16.csv", ("subject",), [("p0.jpg", "007")]),
        ("bom.jsonl", (), [("p0.jpg",)]),
        ("hf_struct.parquet", ("label",), [("p0.jpg", 0), ("p1.jpg", 1), ("p2.jpg", 2)]),
        (
            "types.parquet",
            ("when", "dur", "dec", "u64", "day"),
            [
                ("p0.jpg", "2024-03-10 01:30:00.000000-05:00", "PT1S", 1.1, "9223372036854775813", "2024-01-02"),
                ("p1.jpg", "2024-03-10 03:30:00.000000-04:00", "PT2S", 1.1, "1", "2024-01-02"),
                ("p2.jpg", None, "PT3S", 1.1, "2", "2024-01-02"),
            ],
        ),
    ],
)
def test_rows(name, keep, expected):
    """Pictures and kept values, and nothing else."""
    items = list(Listing(InputConfig(manifests=(str(CASES / name),), keep=keep)))

    assert [(item.input, *item.kept) for item in items] == expected
    assert not any(item.problem for item in items)


def test_pictures_in_a_table_are_those_of_their_files():
    """Pixel for pixel."""
    cells = CellReader()
    (*items,) = Listing(InputConfig(manifests=(str(CASES / "hf_struct.parquet"),)))
    for item in items:
        inside = decode_bytes(cells.read(item.path, item.column, item.row), max_pixels=10**6).rgb
        assert np.array_equal(inside, decode_bytes((CASES / item.input).read_bytes(), max_pixels=10**6).rgb)
    cells.close()


def test_list_in_utf16(tmp_path, monkeypatch):
    """As Windows writes it."""
    shutil.copytree(CASES, tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    items = Listing(InputConfig(files_from=(str(CASES / "list_utf16.txt"),)))

    assert [(item.input, item.size_bytes) for item in items] == [("in/p0.jpg", 34_707), ("in/p1.jpg", 34_294)]


@pytest.mark.parametrize("name", ["bigbox.csv", "offbox.csv"])
def test_boxes_beyond_their_picture(name):
    """Nothing is allocated for them."""
    (item,) = Listing(InputConfig(manifests=(str(CASES / name),)))
    (face,) = item.given
    with pytest.raises(InputError) as caught:
        placed(face, **SIZE)

    assert caught.value.error_type == "bad_box"


def test_run_with_boxes(tmp_path):
    """Partly outside: cut and padded; absurd: that input alone fails, and the same command finds the run finished."""
    for _ in range(2):
        annotate(tmp_path / "p.parquet", "--manifest", CASES / "boxes.csv", "--keep", "face_id", code=3)

    assert read_inputs(tmp_path / "p.parquet").select("input", "error_type").rows() == [
        ("p0.jpg", None),
        ("p1.jpg", None),
        ("p2.jpg", None),
        ("p3.jpg", "bad_box"),
    ]
    assert read_faces(tmp_path / "p.parquet").select("input", "x1", "face_source", "face_id").rows() == [
        ("p0.jpg", -10.0, "given", 8),
        ("p0.jpg", 30.5, "given", 7),
        ("p1.jpg", 0.0, "whole", 9),
        ("p2.jpg", 600.0, "given", 10),
    ]


def test_run_with_kept_columns_of_our_names(tmp_path):
    """They get another name, and stderr says so."""
    options = [option for column in ("emotion", "input", "frame", "track") for option in ("--keep", column)]
    said = annotate(tmp_path / "p.parquet", "--manifest", CASES / "collide.csv", *options)
    (row,) = read_faces(tmp_path / "p.parquet").iter_rows(named=True)

    kept = ["manifest_emotion", "manifest_input", "manifest_frame", "manifest_track"]
    assert [row[name] for name in kept] == ["sad", "q", 3, 1]
    assert (row["input"], row["frame"]) == ("p0.jpg", None)
    assert "is called 'manifest_emotion' in the output" in " ".join(said.split())


def test_run_with_kept_columns_called_like_those_of_the_inputs_table(tmp_path):
    """They are columns of the faces, and say nothing of what became of an input."""
    (tmp_path / "m.csv").write_text(f"path,status,archive,left_out_by\n{CASES / 'p0.jpg'},failed,z.tar,max_faces 3\n")
    options = [option for column in ("status", "archive", "left_out_by") for option in ("--keep", column)]
    annotate(tmp_path / "p.parquet", "--manifest", tmp_path / "m.csv", *options)
    status = output_status(tmp_path / "p.parquet")

    assert read_faces(tmp_path / "p.parquet").select("status", "archive").rows() == [("failed", "z.tar")]
    assert (status.inputs, status.failed, status.faces) == (1, 0, 1)
    assert {check.result for check in verify_output(tmp_path / "p.parquet").checks} <= {"ok", "skipped"}


@pytest.mark.parametrize("out", ["p.parquet", "-"])
def test_run_that_keeps_a_column_called_like_a_class_of_the_model(tmp_path, monkeypatch, out):
    """Two columns would have one name: nothing is begun."""
    with safe_open(TINY, "pt") as tiny:
        said = {**tiny.metadata(), "classes": ", ".join(("boredom", *EMOTIONS[1:]))}
    save_file(load_file(TINY), tmp_path / "own.safetensors", said)
    (tmp_path / "m.csv").write_text(f"path,Boredom\n{CASES / 'p0.jpg'},3\n")
    before = set(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)

    files = ["--manifest", str(tmp_path / "m.csv"), "--weights", str(tmp_path / "own.safetensors")]
    run = CliRunner().invoke(app, ["annotate", *files, "--keep", "Boredom", "--out", out])

    assert (run.exit_code, run.stdout) == (2, "")
    assert "keep names 'Boredom', which is a class of the model" in " ".join(run.stderr.split())
    assert set(tmp_path.iterdir()) == before
