"""What is trained learns: drawn faces of seven emotions, by the command, from pictures to a model that names others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("lightning")

from motivnet_cli.model import MotivNet, MotivNetSizes
from motivnet_cli.records import EMOTIONS
from motivnet_cli.weights.networks import metadata_of
from motivnet_cli.weights.store import Store
from tests.drawn_faces import draw_faces
from tests.outputs import rewritten
from tests.runs import motivnet


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOTIVNET_HOME", str(tmp_path / "store"))


def share_named_rightly(model, **how):
    """Of seventy drawings that no training has seen."""
    emotions = draw_faces("others", 70, seed=99, **how)
    motivnet("annotate", "others", "--faces", "whole", "--model", model, "--out", "others.parquet")
    named = pl.read_parquet("others.parquet")["emotion"].cast(pl.String).to_list()
    return np.mean([a == b for a, b in zip(named, emotions, strict=True)])


@pytest.mark.slow
def test_a_student_agrees_with_its_teacher():
    """The teacher is sure of most drawings and less so of some; it has an eighth of the pictures to be judged by."""
    emotions = draw_faces("drawn", 420)
    motivnet("annotate", "drawn", "--faces", "whole", "--model", "expression-net", "--out", "preds.parquet")
    logits = np.random.default_rng(5).normal(0, 0.5, (420, 7))
    logits[np.arange(420), [EMOTIONS.index(name) for name in emotions]] += 3
    teacher = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rewritten(
        "preds.parquet",
        lambda faces: faces.with_columns(**{name: teacher[:, i].astype(np.float32) for i, name in enumerate(EMOTIONS)}),
        {"model": "a-teacher", "weights_sha256": "ab" * 32, "terms": "for the test only"},
    )

    motivnet(
        *("train", "--student", "expression-net", "--targets", "preds.parquet", "--images", "drawn"),
        *("--out", "my-student", "--epochs", "6", "--lr", "3e-3", "--quiet"),
    )

    record = Store().find("my-student").training
    figures = record.validation.figures
    assert record.validation.n == 42
    assert figures["agreement"].value >= 0.9
    assert figures["always"].value < 0.4
    assert figures["kl"].value < 0.3
    assert [(parent.name, parent.role) for parent in record.parents] == [
        ("a-teacher", "teacher"),
        ("expression-net", "start"),
    ]
    assert "for the test only" in record.terms
    assert share_named_rightly("my-student") >= 0.9


@pytest.mark.slow
def test_a_network_of_motivnets_architecture_learns_seven_classes():
    sizes = MotivNetSizes(
        **{"width": 96, "depth": 4, "heads": 4, "mlp": 192, "grid_height": 8, "grid_width": 6, "patch": 16},
        **{"decoder_width": 96, "decoder_depth": 2, "decoder_heads": 8, "decoder_ffn": 192, "num_classes": 7},
    )
    network = MotivNet(sizes, classes=EMOTIONS)
    draw = torch.Generator().manual_seed(1)
    for weight in network.encoder.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.05, generator=draw)
    network.head.reset_parameters(draw)
    save_file(network.state_dict(), "start.safetensors", metadata=metadata_of(network))
    draw_faces("drawn", 420, by_emotion=True, jitter=0.1)

    motivnet(
        *("train", "--dataset", "folder", "--root", "drawn", "--faces", "whole", "--init", "start.safetensors"),
        *("--out", "my-network", "--encoder-lr", "1e-3", "--head-lr", "1e-3", "--batch-size", "16"),
        *("--epochs", "12", "--restart-epochs", "12", "--quiet"),
    )

    metrics = json.loads(Path("my-network/metrics.json").read_text())
    assert metrics["validation"]["scores"]["scored"]["accuracy"]["value"] > 0.9
    assert share_named_rightly("my-network", jitter=0.1) > 0.9
