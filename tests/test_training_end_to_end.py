"""From pictures and labels of one's own to a head, its answers, its score, and a file that runs without motivnet."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from tests.drawn_faces import draw_face

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = {"calm": "neutral", "grinning": "happiness", "astonished": "surprise"}
"""What a user calls them, and how they are drawn."""
ALONE = """
import json, sys
from pathlib import Path
import numpy as np, onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
pictures = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(Path(sys.argv[2]).glob("*.png"))]
(probabilities,) = session.run(["probabilities"], {"pixels": np.stack(pictures).transpose(0, 3, 1, 2)})
classes = session.get_modelmeta().custom_metadata_map["classes"].split(",")
print(json.dumps([classes, probabilities.tolist(), "motivnet_cli" in sys.modules, "torch" in sys.modules]))
"""
"""Runs a model with onnxruntime on pictures that are faces of the network's size already."""


def draw(folder: Path, count: int, *, seed: int) -> dict[str, str]:
    """So many drawings of each class, with a table of their labels; file -> class."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    labels = {}
    for name, drawn in CLASSES.items():
        for number in range(count):
            file = f"{name[0]}{number}.png"
            draw_face(drawn, rng).save(folder / file)
            labels[file] = name
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *labels.items()])
    return labels


def motivnet(*arguments: object, cwd: Path) -> str:
    """What a process of the command line writes to stdout."""
    command = [sys.executable, "-m", "motivnet_cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough  # six processes
def test_from_pictures_to_a_head_to_a_file_that_runs_alone(tmp_path):
    """Each step takes what the one before it wrote, and all of them name the same three classes."""
    pytest.importorskip("onnxscript")
    draw(tmp_path / "known", 12, seed=1)
    truth = draw(tmp_path / "new", 6, seed=2)
    of_store = ("--store", "store")

    motivnet(
        "annotate", "known", "--model", "expression-net", "--faces", "whole", "--out", "known.parquet", cwd=tmp_path
    )
    motivnet(
        *("train", "--from", "known.parquet", "--labels", "known/labels.csv", "--head", "linear", "--out", "my-model"),
        *of_store,
        cwd=tmp_path,
    )
    motivnet(
        "annotate", "new", "--model", "my-model", *of_store, "--faces", "whole", "--out", "new.parquet", cwd=tmp_path
    )
    scored = json.loads(
        motivnet(
            *("evaluate", "--dataset", "csv", "--root", "new/labels.csv", "--predictions", "new.parquet", "--json"),
            cwd=tmp_path,
        )
    )
    motivnet("export", "model", "my-model", *of_store, "--to", "onnx", "--out", "my-model.onnx", cwd=tmp_path)
    alone = [sys.executable, "-I", "-c", ALONE, "my-model.onnx", "new"]
    classes, probabilities, *helped = json.loads(subprocess.check_output(alone, cwd=tmp_path, text=True))

    faces = pl.read_parquet(tmp_path / "new.parquet").sort("input")
    assert set(classes) == set(CLASSES)
    assert set(faces.columns) >= set(CLASSES)
    assert helped == [False, False]
    np.testing.assert_allclose(np.array(probabilities), faces.select(classes).to_numpy(), rtol=0, atol=1e-3)
    right = [
        truth[name.rpartition("/")[2]] == found for name, found in zip(faces["input"], faces["emotion"], strict=True)
    ]
    assert scored["runs"][0]["scores"]["all"]["accuracy"]["value"] == np.mean(right) >= 0.8
    written = {path.name for path in (tmp_path / "my-model").iterdir()}
    assert written >= {"report.html", "report.md", "metrics.json", "model-card.md", "figures"}
    record = json.loads((tmp_path / "my-model" / "metrics.json").read_text())["training"]
    assert record["kind"] == "head"
    assert record["classes"] == classes
    assert record["preparation"]["whole"]
