"""The measures of two networks against independent formulas, closed forms and their own batches."""

from __future__ import annotations

import math

import numpy as np
import pytest

from motivnet_cli.evaluation.similarity import PairedEmbeddings, parameter_drift


def rng(seed=0):
    return np.random.default_rng(seed)


def batched(accumulator, *columns, sizes=(1, 7, 0, 30)):
    """Feed columns in batches of these sizes, again and again."""
    start = 0
    while start < len(columns[0]):
        for size in sizes:
            accumulator.update(*(column[start : start + size] for column in columns))
            start += size
    return accumulator


def pairs(n=60, d=(8, 5), seed=0, offset=0.0):
    """Embeddings that share something, float32 as the networks give them."""
    x = rng(seed).normal(size=(n, d[0]))
    y = x[:, : d[1]] @ rng(seed + 1).normal(size=(d[1], d[1])) + rng(seed + 2).normal(size=(n, d[1]))
    return (x + offset).astype(np.float32), (y - offset).astype(np.float32)


def gram_cka(x, y):
    """Linear CKA by its Gram matrices, the other way round (Kornblith et al. 2019, HSIC by centring)."""
    n = len(x)
    centring = np.eye(n) - np.full((n, n), 1 / n)
    k, m = (centring @ (z.astype(float) @ z.T.astype(float)) @ centring for z in (x, y))
    return np.trace(k @ m) / math.sqrt(np.trace(k @ k) * np.trace(m @ m))


def unbiased_hsic(k, m):
    """The estimator of Song et al. 2012, literally, from Gram matrices."""
    n = len(k)
    k, m = k - np.diag(k.diagonal()), m - np.diag(m.diagonal())
    one = np.ones(n)
    terms = (
        np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    )
    return terms / (n * (n - 3))


# ---- CKA and cosine ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [(8, 5), (100, 100)], ids=["few numbers", "more numbers than faces"])
def test_linear_cka_is_that_of_the_gram_matrices(d):
    """The covariances of one pass give what the n x n Gram matrices give, and so does the debiased estimate."""
    x, y = pairs(d=d)
    found = batched(PairedEmbeddings(), x, y).finish()

    k, m = (z.astype(float) @ z.T.astype(float) for z in (x, y))
    debiased = unbiased_hsic(k, m) / math.sqrt(unbiased_hsic(k, k) * unbiased_hsic(m, m))
    assert found.linear_cka == pytest.approx(gram_cka(x, y), abs=1e-6)
    assert found.linear_cka_debiased == pytest.approx(debiased, abs=1e-6)
    assert found.n == 60


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_paired_batches_are_as_one(offset):
    """How the faces fall into batches changes nothing, also where all embeddings lie far from zero."""
    x, y = pairs(d=(6, 6), offset=offset)
    whole = PairedEmbeddings()
    whole.update(x, y)
    one, many = whole.finish(), batched(PairedEmbeddings(), x, y).finish()

    assert many.linear_cka == pytest.approx(one.linear_cka, abs=1e-6)
    assert many.linear_cka == pytest.approx(gram_cka(x - x.mean(0), y - y.mean(0)), abs=1e-5)
    assert many.linear_cka_debiased == pytest.approx(one.linear_cka_debiased, abs=1e-6)
    for name in ("n", "mean", "sd", "least"):
        assert getattr(many.cosine, name) == pytest.approx(getattr(one.cosine, name), abs=1e-6)


def test_cka_knows_no_rotation_scale_or_place():
    """Embeddings that are turned, scaled and moved are the same to CKA, but not to the cosine."""
    x, _ = pairs(d=(6, 6))
    turn, _ = np.linalg.qr(rng(3).normal(size=(6, 6)))
    found = batched(PairedEmbeddings(), x, 3 * x @ turn + 5).finish()

    assert found.linear_cka == pytest.approx(1, abs=1e-6)
    assert found.linear_cka_debiased == pytest.approx(1, abs=1e-6)
    assert found.cosine.mean < 0.9


def test_unrelated_embeddings_longer_than_the_set():
    """With fewer faces than numbers plain CKA is high for embeddings that share nothing; debiased it is about 0."""
    x, y = rng(1).normal(size=(50, 1000)), rng(2).normal(size=(50, 1000))
    found = batched(PairedEmbeddings(), x, y).finish()

    assert found.linear_cka > 0.9
    assert abs(found.linear_cka_debiased) < 0.1


def test_cosine_by_hand():
    """Cosines 1, 0 and -1, and a zero embedding that has none."""
    x = np.array([[2.0, 0], [1, 0], [1, 0], [0, 0]])
    y = np.array([[3.0, 0], [0, 1], [-1, 0], [1, 0]])
    cosine = batched(PairedEmbeddings(), x, y, sizes=(3,)).finish().cosine

    assert (cosine.n, cosine.mean, cosine.least) == (3, 0, -1)
    assert cosine.sd == pytest.approx(math.sqrt(2 / 3))


def test_what_has_no_answer_is_none():
    """Constant embeddings have no CKA, fewer than 4 faces no debiased one, other lengths no cosine, no face nothing."""
    x, y = pairs()
    constant = batched(PairedEmbeddings(), np.ones((9, 3)), y[:9]).finish()
    three = batched(PairedEmbeddings(), x[:3], y[:3]).finish()
    none = PairedEmbeddings().finish()

    assert (constant.linear_cka, constant.linear_cka_debiased, constant.cosine) == (None, None, None)
    assert three.linear_cka is not None
    assert three.linear_cka_debiased is None
    assert (none.n, none.linear_cka, none.cosine) == (0, None, None)


def test_unpaired_rows_are_refused():
    """Rows without a partner are a mistake."""
    with pytest.raises(ValueError, match="got 3 and 2 rows"):
        PairedEmbeddings().update(np.zeros((3, 2)), np.zeros((2, 2)))


# ---- parameters -------------------------------------------------------------------------------------------


def test_drift_by_hand():
    """Layers gather weight and bias; what only one has, and what has another shape, is said and left out."""
    b = {
        "encoder.patch_embed.weight": np.array([[3.0, 0]]),
        "encoder.patch_embed.bias": np.array([4.0]),
        "encoder.position": np.zeros((1, 2)),
        "encoder.blocks.0.mlp.up.weight": np.array([1.0]),
        "encoder.blocks.0.norm1.bias": np.array([0.0]),
        "encoder.blocks.10.norm1.bias": np.array([2.0]),
        "neck.weight": np.ones(3),
    }
    a = {name: values.astype(np.float32) for name, values in b.items() if name != "neck.weight"}
    a["encoder.patch_embed.bias"] = np.array([5.0], np.float32)
    a["encoder.blocks.0.norm1.bias"] = np.array([2.0], np.float32)
    a["encoder.blocks.10.norm1.bias"] = np.ones((1, 1), np.float32)
    a["head.weight"] = a["head.bias"] = np.ones(1, np.float32)
    drift = parameter_drift(a, b)

    assert [(each.layer, each.num_parameters, each.relative) for each in drift.layers] == [
        ("encoder.patch_embed", 3, 1 / 5),
        ("encoder.position", 2, None),
        ("encoder.blocks.0", 2, 2.0),
    ]
    assert drift.overall.num_parameters == 7
    assert drift.overall.relative == pytest.approx(math.sqrt(5 / 26))
    assert (drift.num_only_a, drift.num_only_b) == (2, 1)
    assert drift.misshapen == ("encoder.blocks.10.norm1.bias",)


def test_no_drift_from_itself_and_none_without_common_names():
    """The same weights have drift 0; networks without common names have no layers."""
    weights = {"a.weight": rng().normal(size=(4, 4)).astype(np.float32)}

    assert parameter_drift(weights, weights).overall.relative == 0
    assert parameter_drift(weights, {"b.weight": np.ones(3)}).layers == ()
