"""A linear head that learns from more embeddings than are judged: scikit-learn would find the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from motivnet_cli.errors import ConfigError
from motivnet_cli.records import Stopped
from motivnet_cli.training import heads, streamed
from motivnet_cli.training.config import HeadConfig
from motivnet_cli.training.streamed import EmbeddingFile, fit_linear
from motivnet_cli.training.train_head import train_head
from motivnet_cli.weights.load import load_model
from motivnet_cli.weights.store import Store
from tests.labelled import blobs, write_labels, write_output


def streamed_fit(folder, x, labels, *, learned=60, **options):
    """All embeddings of a file, from a head that learned from the first."""
    start = heads.KINDS["linear"].pipeline(0, C=0.1).fit(x[:learned], labels[:learned])
    with EmbeddingFile(folder, count=len(x), size=x.shape[1], dtype=np.float16) as file:
        for some in np.array_split(x, 3):
            file.append(some)
        return fit_linear(start, file, labels, StandardScaler().fit(x), tolerance=1e-5, **options)


@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_the_head_that_scikit_learn_fits_on_all(tmp_path, classes):
    """Coefficients and probabilities of LogisticRegression on every embedding, not on those that it began with."""
    x, labels, _ = blobs(groups=300, a_group=10, classes=classes, apart=1.0, size=20)
    x = (x * 3 + 7).astype(np.float16).astype(np.float32)
    labels = np.where(np.arange(len(x)) % 3, labels, 0)  # classes of other sizes, so that intercepts matter
    scaled = StandardScaler().fit_transform(x.astype(np.float64))
    plain = LogisticRegression(C=0.1, tol=1e-9, max_iter=1000).fit(scaled, labels)

    found = streamed_fit(tmp_path, x, labels)

    tolerance = 1e-3 * np.abs(plain.coef_).max()
    np.testing.assert_allclose(found.fitted["classifier"].coef_, plain.coef_, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.fitted.predict_proba(x), plain.predict_proba(scaled), rtol=0, atol=1e-4)
    assert found.remarks == ()


def test_chunks_and_threads_change_nothing(tmp_path, monkeypatch):
    """Sums over other pieces, and pieces that others add up."""
    x, labels, _ = blobs(groups=300, a_group=5, classes=3, apart=1.0)
    one = streamed_fit(tmp_path, x, labels).fitted["classifier"].coef_
    monkeypatch.setattr(streamed, "CHUNK", 64)

    two = streamed_fit(tmp_path, x, labels, threads=2).fitted["classifier"].coef_

    np.testing.assert_allclose(two, one, rtol=0, atol=1e-4 * np.abs(one).max())


def test_a_head_that_is_not_at_its_optimum_says_so(tmp_path, monkeypatch):
    """As where the passes do not suffice."""
    x, labels, _ = blobs(groups=300, a_group=5, classes=3, apart=1.0)
    monkeypatch.setattr(streamed, "MAX_PASSES", 1)

    [remark] = streamed_fit(tmp_path, x, labels).remarks

    assert "passes the head was not quite at its optimum" in remark


# ---- a whole training -------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path, monkeypatch):
    """600 labelled faces, one of them without an embedding, of which 100 are judged."""
    x, labels, _ = blobs(groups=120, a_group=5, classes=3, apart=1.5, size=256)
    names = [f"{number}.jpg" for number in range(len(x))]
    output = write_output(tmp_path / "p.parquet", [None, *x[1:]], inputs=names)
    rows = [(name, f"c{label}") for name, label in zip(names, labels, strict=True)]
    table = write_labels(tmp_path / "l.csv", ("path", "label"), rows)
    limited = dataclasses.replace(heads.KINDS["linear"], max_numbers=100 * 256)
    monkeypatch.setitem(heads.KINDS, "linear", limited)
    return HeadConfig(predictions=output, labels=table, out=str(tmp_path / "m"), store=str(tmp_path / "store"), folds=3)


def test_all_faces_are_learned_from_and_some_are_judged(config, tmp_path):
    """The stored head is that of all faces; the record, and the card, say which figures are of which."""
    stages = []
    model, judged = train_head(config, on_stage=stages.append)
    training = model.training
    x, labels, _ = blobs(groups=120, a_group=5, classes=3, apart=1.5, size=256)
    x, labels = x[1:], labels[1:]
    scaler = StandardScaler().fit(x)
    plain = LogisticRegression(C=training.settings["C"], tol=1e-6, max_iter=1000).fit(scaler.transform(x), labels)

    head = load_model("m", store=config.store).network.head
    weights = head.layers[0].weight.numpy()

    np.testing.assert_allclose(weights, plain.coef_, rtol=0, atol=0.02 * np.abs(plain.coef_).max())
    assert training.data.counts == {"train": dict(zip(("c0", "c1", "c2"), np.bincount(labels).tolist(), strict=True))}
    assert training.data.dropped == {"embedding missing or not finite": 1}
    assert training.validation.n == len(judged.labels) == 102  # of 100 each class its share, rounded up
    remark = "learned from all 599 labelled faces; judged by heads that learned from 102 of them"
    assert any(each.startswith(remark) for each in training.data.remarks)
    assert {"embeddings: 0 of 600", "all 599 faces: pass 1"} <= set(stages)
    assert [path for path in (tmp_path / "m").iterdir() if path.stat().st_size] == []  # but the empty lock


@pytest.mark.parametrize("when", ["embeddings: ", "all 599 faces: pass 1"])
def test_a_stop_leaves_nothing(config, tmp_path, when):
    """Neither a file in --out nor a model, while embeddings are read and within a pass."""
    stages = [""]

    with pytest.raises(Stopped):
        train_head(config, on_stage=stages.append, stop=lambda: stages[-1].startswith(when))

    assert stages[-1].startswith(when)
    assert [path for path in (tmp_path / "m").iterdir() if path.stat().st_size] == []  # but the empty lock
    assert Store(config.store).find("m") is None


def test_a_disk_without_room_is_refused(tmp_path):
    """Before anything is written."""
    with pytest.raises(ConfigError, match=r"to learn from all 1,000,000,000,000 labelled faces takes 3072000\.0 GB in"):
        EmbeddingFile(tmp_path, count=10**12, size=1536, dtype=np.float16)
