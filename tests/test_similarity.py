"""The measures of similarity against independent formulas, closed forms and their own batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import linalg
from scipy.spatial.distance import cdist

from motivnet_cli.evaluation.similarity import (
    Gaussian,
    PairedEmbeddings,
    Reservoir,
    frechet_distance,
    parameter_drift,
    two_sample_tests,
)


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


# ---- Gaussians --------------------------------------------------------------------------------------------


def gaussian(rows):
    made = Gaussian()
    made.update(rows)
    return made


def exact_gaussian(mean, covariance, n=40):
    """Statistics that are exactly these: rows whitened and coloured."""
    rows = rng(4).normal(size=(n, len(mean)))
    rows -= rows.mean(0)
    white = rows @ linalg.inv(linalg.sqrtm(np.cov(rows.T)))
    return gaussian(white @ linalg.cholesky(covariance) + mean)


def test_gaussian_batches_are_as_one():
    """Mean and covariance of one pass are numpy's, also far from zero."""
    rows = rng().normal(size=(200, 6)) @ rng(1).normal(size=(6, 6)) + 1e4
    found = batched(Gaussian(), rows)

    assert found.n == 200
    np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(rows.T), atol=1e-8)


def test_frechet_distance_of_two_known_gaussians():
    """N(0, diag(1, 4)) and N((3, 4), diag(9, 1)): 25 + (1 - 3)^2 + (2 - 1)^2 = 30."""
    a = exact_gaussian([0.0, 0], np.diag([1.0, 4]))
    b = exact_gaussian([3.0, 4], np.diag([9.0, 1]))

    assert frechet_distance(a, b) == pytest.approx(30, abs=1e-6)


def test_frechet_distance_is_that_of_the_matrix_root():
    """For covariances that do not commute it is the textbook formula, by scipy's root of the product."""
    x, y = (rng(i).normal(size=(90, 5)) @ rng(i + 9).normal(size=(5, 5)) + i for i in (0, 1))
    a, b = np.cov(x.T), np.cov(y.T)
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)

    assert frechet_distance(batched(Gaussian(), x), batched(Gaussian(), y)) == pytest.approx(expected, rel=1e-6)
    assert not np.allclose(a @ b, b @ a)


def test_frechet_distance_of_a_set_with_itself_moved():
    """It is 0 with itself, and the squared way after a move, also with fewer rows than numbers."""
    x = rng().normal(size=(10, 30))

    assert frechet_distance(gaussian(x), gaussian(x[::-1])) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(gaussian(x), gaussian(x + 2)) == pytest.approx(30 * 4, abs=1e-6)


# ---- two samples ------------------------------------------------------------------------------------------


def test_reservoir_does_not_see_batches():
    """The sample depends on the seed and the rows alone; a small set is taken whole, in order."""
    rows = np.arange(500.0).reshape(-1, 1)
    one = Reservoir(seed=1, limit=40)
    one.update(rows)
    many = batched(Reservoir(seed=1, limit=40), rows)

    np.testing.assert_array_equal(many.rows, one.rows)
    assert len(np.unique(one.rows)) == 40
    assert (np.diff(one.rows[:, 0]) > 0).all()
    assert not np.array_equal(batched(Reservoir(seed=2, limit=40), rows).rows, one.rows)
    np.testing.assert_array_equal(batched(Reservoir(seed=1, limit=500), rows).rows, rows)


def test_reservoir_is_uniform():
    """Over many seeds, early and late rows are taken equally often."""
    rows = np.arange(20.0).reshape(-1, 1)
    taken = np.concatenate([batched(Reservoir(seed=s, limit=5), rows, sizes=(3,)).rows[:, 0] for s in range(2000)])
    counts = np.bincount(taken.astype(int), minlength=20)

    assert np.abs(counts - 500).max() < 5 * math.sqrt(500 * 0.75)  # five standard deviations


def naive_mmd(a, b):
    """MMD^2 with its sums written out over a kernel made by scipy, and the bandwidth."""
    rows = np.concatenate([a, b])
    distances = cdist(rows, rows)
    bandwidth = np.median(distances[np.triu_indices(len(rows), 1)])
    kernel = np.exp(-(distances**2) / (2 * bandwidth**2))
    m, n = len(a), len(b)
    within_a = sum(kernel[i, j] for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_b = sum(kernel[m + i, m + j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    across = sum(kernel[i, m + j] for i in range(m) for j in range(n)) / (m * n)
    return within_a + within_b - 2 * across, bandwidth


def naive_overlap(a, b, k=5):
    rows = np.concatenate([a, b])
    of_a = np.arange(len(rows)) < len(a)
    shares = []
    for i, distances in enumerate(cdist(rows, rows)):
        nearest = [j for j in np.argsort(distances) if j != i][:k]
        shares.append(np.mean(of_a[nearest] != of_a[i]))
    return np.mean(shares) / (2 * len(a) * len(b) / (len(rows) * (len(rows) - 1)))


def test_mmd_and_overlap_are_their_definitions():
    """Both are what their sums say, on sides of different sizes."""
    a, b = rng(0).normal(size=(23, 3)) + 50, rng(1).normal(size=(14, 3)) * 1.5 + 50.3
    found = two_sample_tests(a, b, seed=0, permutations=20)
    mmd, bandwidth = naive_mmd(a, b)

    assert found.mmd.value == pytest.approx(mmd, abs=1e-9)
    assert found.bandwidth == pytest.approx(bandwidth)
    assert found.overlap.value == pytest.approx(naive_overlap(a, b))
    assert (found.n_a, found.n_b, found.neighbours, found.permutations) == (23, 14, 5, 20)


@pytest.mark.thorough
def test_mmd_of_two_known_gaussians():
    """N(0, 1) against N(1.5, 1): MMD^2 is 2 s / sqrt(s^2 + 2) (1 - exp(-1.5^2 / (2 s^2 + 4))) for bandwidth s."""
    a, b = rng(0).normal(size=(1500, 1)), rng(1).normal(size=(1500, 1)) + 1.5
    found = two_sample_tests(a, b, seed=0, permutations=50)
    s = found.bandwidth
    expected = 2 * s / math.sqrt(s**2 + 2) * (1 - math.exp(-(1.5**2) / (2 * s**2 + 4)))

    assert found.mmd.value == pytest.approx(expected, rel=0.1)
    assert found.mmd.value > found.mmd.high
    assert found.mmd.p_value == pytest.approx(1 / 51)


def test_two_halves_of_one_set_look_alike():
    """Under one distribution p-values are spread over 0 to 1 and the interval holds the value 95 times in 100."""
    found = [
        two_sample_tests(rng(i).normal(size=(20, 4)), rng(1000 + i).normal(size=(30, 4)), seed=i, permutations=99)
        for i in range(200)
    ]

    for tests in ([each.mmd for each in found], [each.overlap for each in found]):
        held = np.mean([test.low <= test.value <= test.high for test in tests])
        assert 0.89 < held < 0.99  # four standard deviations below
        assert np.mean([test.p_value <= 0.1 for test in tests]) == pytest.approx(0.1, abs=0.085)
    assert np.mean([each.overlap.value for each in found]) == pytest.approx(1, abs=0.03)
    assert np.mean([each.mmd.value for each in found]) == pytest.approx(0, abs=0.003)


def test_sets_far_apart():
    """Two clusters without a neighbour in common have overlap 0, and no random labelling looks as different."""
    a, b = rng(0).normal(size=(40, 3)), rng(1).normal(size=(40, 3)) + 100
    found = two_sample_tests(a, b, seed=0, permutations=199)

    assert found.overlap.value == 0
    assert found.overlap.p_value == found.mmd.p_value == 1 / 200
    assert found.overlap.low > 0.8


def test_two_sample_tests_are_seeded():
    """The same seed gives the same intervals, another seed others."""
    a, b = rng(0).normal(size=(20, 3)), rng(1).normal(size=(20, 3))

    assert two_sample_tests(a, b, seed=3) == two_sample_tests(a, b, seed=3)
    assert two_sample_tests(a, b, seed=3) != two_sample_tests(a, b, seed=4)


def test_rows_that_are_all_the_same():
    """Without any distance there is no bandwidth, and no difference."""
    found = two_sample_tests(np.full((5, 3), 0.1), np.full((4, 3), 0.1), seed=0, permutations=20)

    assert (found.mmd.value, found.mmd.p_value, found.bandwidth) == (0, 1, 0)


def test_one_row_is_too_few():
    """A side of one row has no pair."""
    with pytest.raises(ValueError, match="at least 2 rows, got 1 and 5"):
        two_sample_tests(np.zeros((1, 2)), np.zeros((5, 2)), seed=0)


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
