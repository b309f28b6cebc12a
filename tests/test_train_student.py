"""`motivnet train --student`: from an output and its pictures to a model of the store, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

pytest.importorskip("lightning")

from motivnet_cli.errors import ConfigError
from motivnet_cli.records import EMOTIONS, Stopped
from motivnet_cli.training.config import FitConfig, StudentConfig
from motivnet_cli.training.teach import teach
from motivnet_cli.weights.load import load_model
from motivnet_cli.weights.store import Store
from tests.drawn_faces import draw_faces
from tests.outputs import rewritten
from tests.runs import motivnet

COMMAND = ("train", "--student", "expression-net", "--targets", "preds.parquet", "--out", "my-student")
OWN = ("asleep", "neutral", "awake")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Thirty drawings, and what the embedded model says of them."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_faces(folder / "photos", 30)
    motivnet(
        *("annotate", folder / "photos", "--model", "expression-net", "--faces", "whole", "--embeddings", "none"),
        *("--out", folder / "preds.parquet"),
    )
    return folder


@pytest.fixture(autouse=True)
def _here(drawn, tmp_path, monkeypatch):
    """Each test has the tables and a store of its own."""
    for name in ("preds.parquet", "preds.inputs.parquet"):
        (tmp_path / name).write_bytes((drawn / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOTIVNET_HOME", str(tmp_path / "store"))


def with_own_classes(faces):
    """The table of a teacher of three classes, which are not in the order of a student."""
    shares = np.random.default_rng(1).dirichlet(np.ones(3), len(faces)).astype(np.float32)
    best = [OWN[i] for i in shares.argmax(axis=1)]
    own = {name: shares[:, i] for i, name in enumerate(OWN)}
    return faces.drop(EMOTIONS).with_columns(**own, emotion=pl.Series(best, dtype=pl.Categorical))


def test_a_teacher_with_classes_of_its_own_has_a_student_with_these(drawn):
    rewritten("preds.parquet", with_own_classes, {"classes": OWN, "model": "a-head", "terms": "for the test only"})

    out = motivnet(*COMMAND, "--images", drawn / "photos", "--epochs", "1", "--json", "--quiet")
    motivnet(
        "annotate", drawn / "photos" / "003.png", "--faces", "whole", "--model", "my-student", "--out", "again.parquet"
    )

    record = Store().find("my-student").training
    assert record.classes == ("neutral", "asleep", "awake")
    assert record.data.counts["held out"].keys() == {"neutral", "asleep", "awake"}
    assert sum(sum(side.values()) for side in record.data.counts.values()) == 30
    assert [parent.terms for parent in record.parents if parent.role == "teacher"] == ["for the test only"]
    assert {"agreement", "always", "kl"} <= record.validation.figures.keys()
    assert "accuracy" not in record.validation.figures
    assert record.preparation.whole
    assert set(OWN) <= set(pl.read_parquet("again.parquet").columns)
    assert '"my-student"' in out.stdout
    assert Path("my-student/report.html").exists()
    assert not list(Path("my-student").glob("faces.*"))


def with_one_answer(faces):
    """The table of a teacher that says the same of every face."""
    return faces.with_columns(
        **{name: pl.lit(1.0 if name == "anger" else 0.0, dtype=pl.Float32) for name in EMOTIONS},
        emotion=pl.lit("anger", dtype=pl.Categorical),
    )


def test_a_teacher_with_one_answer_is_remarked(drawn):
    rewritten("preds.parquet", with_one_answer)

    record = teach(config(drawn, "my-student")).model.training

    assert record.data.remarks == (
        "the teacher says anger of every held-out face: the agreement is with that answer alone",
    )


def config(drawn, out, **settings):
    fit = FitConfig(epochs=2, batch_size=8, device="cpu", threads=1)
    return StudentConfig(targets="preds.parquet", images=str(drawn / "photos"), out=out, fit=fit, **settings)


@pytest.mark.thorough
def test_what_is_stopped_goes_on_as_if_it_had_not_been(drawn):
    steps = []
    undisturbed = teach(config(drawn, "one")).model
    with pytest.raises(Stopped):
        teach(config(drawn, "two"), watch_steps=steps.append, stop=lambda: len(steps) >= 2)
    resumed = teach(config(drawn, "two")).model

    ours, theirs = (load_model(model.name).network.state_dict() for model in (undisturbed, resumed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    begun = load_model("expression-net").network.state_dict()
    assert not any(torch.equal(ours[name], begun[name]) for name in ours)
    assert resumed.training.settings == undisturbed.training.settings
    out = motivnet(*COMMAND[:-1], "two", "--images", drawn / "photos", "--lr", "0.5", code=2)
    assert "belongs to a training with other settings" in out.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--dataset", "folder"], "a student has no --dataset"),
        (["--group-by", "subject"], "a student has none of them"),
        (["--images", "nowhere"], "there is none at 'nowhere'"),
        (["--devices", "2"], "one device"),
        (["--temperature", "0"], "temperature must lie between"),
        (["--checkpoint-activations"], "--checkpoint-activations is for large networks"),
    ],
)
def test_what_it_refuses(options, complaint):
    assert complaint in motivnet(*COMMAND, *options, code=2).stderr.replace("\n", " ")


def test_few_inputs_are_refused(drawn):
    rewritten("preds.parquet", lambda faces: faces.head(9))

    with pytest.raises(ConfigError, match="of 9 inputs, and a student needs 10"):
        teach(config(drawn, "my-student"))
