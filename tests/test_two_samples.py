"""The measures of two samples against their definitions, other libraries, closed forms and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from motivnet_cli.evaluation.frechet import frechet_distance_of_rows
from motivnet_cli.evaluation.two_samples import PERMUTATIONS, Reservoir, Sample, two_sample_tests


def rng(seed=0):
    return np.random.default_rng(seed)


def judged(a, b, *, seed=0, permutations=PERMUTATIONS, inputs=(None, None)):
    return two_sample_tests(Sample(a, inputs[0]), Sample(b, inputs[1]), seed=seed, permutations=permutations)


# ---- two samples ------------------------------------------------------------------------------------------


def in_batches(reservoir, rows, sizes=(1, 7, 0, 30)):
    """Feed rows, each the only one of its input, in batches of these sizes, again and again."""
    start = 0
    while start < len(rows):
        for size in sizes:
            batch = rows[start : start + size]
            reservoir.update(batch, start + np.arange(len(batch)))
            start += size
    return reservoir.sample


def test_reservoir_does_not_see_batches():
    """The sample depends on the seed and the rows alone; a small set is taken whole, in order, with its inputs."""
    rows = np.arange(500.0).reshape(-1, 1)
    one = in_batches(Reservoir(seed=1, limit=40), rows, sizes=(500,))
    many = in_batches(Reservoir(seed=1, limit=40), rows)

    np.testing.assert_array_equal(many.rows, one.rows)
    np.testing.assert_array_equal(many.inputs, many.rows[:, 0])
    assert len(np.unique(one.rows)) == 40
    assert (np.diff(one.rows[:, 0]) > 0).all()
    assert not np.array_equal(in_batches(Reservoir(seed=2, limit=40), rows).rows, one.rows)
    np.testing.assert_array_equal(in_batches(Reservoir(seed=1, limit=500), rows).rows, rows)


def test_reservoir_is_uniform():
    """Over many seeds, early and late rows are taken equally often."""
    rows = np.arange(20.0).reshape(-1, 1)
    taken = np.concatenate([in_batches(Reservoir(seed=s, limit=5), rows, sizes=(3,)).rows[:, 0] for s in range(2000)])
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
    found = judged(a, b, seed=0, permutations=20)
    mmd, bandwidth = naive_mmd(a, b)

    assert found.mmd.value == pytest.approx(mmd, abs=1e-9)
    assert found.bandwidth == pytest.approx(bandwidth)
    assert found.overlap.value == pytest.approx(naive_overlap(a, b))
    assert (found.n_a, found.n_b, found.neighbours, found.permutations) == (23, 14, 5, 20)


@pytest.mark.thorough
def test_mmd_of_two_known_gaussians():
    """N(0, 1) against N(1.5, 1): MMD^2 is 2 s / sqrt(s^2 + 2) (1 - exp(-1.5^2 / (2 s^2 + 4))) for bandwidth s."""
    a, b = rng(0).normal(size=(1500, 1)), rng(1).normal(size=(1500, 1)) + 1.5
    found = judged(a, b, seed=0, permutations=50)
    s = found.bandwidth
    expected = 2 * s / math.sqrt(s**2 + 2) * (1 - math.exp(-(1.5**2) / (2 * s**2 + 4)))

    assert found.mmd.value == pytest.approx(expected, rel=0.1)
    assert found.mmd.value > found.mmd.high
    assert found.mmd.p_value == pytest.approx(1 / 51)


def test_two_halves_of_one_set_look_alike():
    """Under one distribution p-values are spread over 0 to 1 and the interval holds the value 95 times in 100."""
    found = [
        judged(rng(i).normal(size=(20, 4)), rng(1000 + i).normal(size=(30, 4)), seed=i, permutations=99)
        for i in range(120)
    ]

    for tests in (
        [each.mmd for each in found],
        [each.kid for each in found],
        [each.overlap for each in found],
        [each.classifier.accuracy for each in found],
        [each.classifier.auroc for each in found],
    ):
        held = np.mean([test.low <= test.value <= test.high for test in tests])
        assert held > 0.87  # four standard deviations
        assert np.mean([test.p_value <= 0.1 for test in tests]) == pytest.approx(0.1, abs=0.11)
    assert np.mean([each.overlap.value for each in found]) == pytest.approx(1, abs=0.04)
    assert np.mean([each.mmd.value for each in found]) == pytest.approx(0, abs=0.004)


def test_sets_far_apart():
    """Two clusters without a neighbour in common have overlap 0, and no random labelling looks as different."""
    a, b = rng(0).normal(size=(40, 3)), rng(1).normal(size=(40, 3)) + 100
    found = judged(a, b, seed=0, permutations=199)

    assert found.overlap.value == 0
    assert found.overlap.p_value == found.mmd.p_value == 1 / 200
    assert found.overlap.low > 0.8


def test_two_sample_tests_are_seeded():
    """The same seed gives the same intervals, another seed others."""
    a, b = rng(0).normal(size=(20, 3)), rng(1).normal(size=(20, 3))

    assert judged(a, b, seed=3) == judged(a, b, seed=3)
    assert judged(a, b, seed=3) != judged(a, b, seed=4)


def test_rows_that_are_all_the_same():
    """Without any distance there is no bandwidth, and no difference."""
    found = judged(np.full((5, 3), 0.1), np.full((4, 3), 0.1), seed=0, permutations=20)

    assert (found.mmd.value, found.mmd.p_value, found.bandwidth) == (0, 1, 0)
    assert (found.kid.value, found.kid.p_value, found.kid.subset_sd) == (0, 1, 0)
    assert (found.classifier.accuracy.value, found.classifier.auroc.value, found.classifier.accuracy.p_value) == (
        0.5,
        0.5,
        1,
    )


def test_one_row_is_too_few():
    """A side of one row has no pair."""
    with pytest.raises(ValueError, match="at least 2 rows, got 1 and 5"):
        judged(np.zeros((1, 2)), np.zeros((5, 2)), seed=0)


# ---- kernel inception distance ----------------------------------------------------------------------------


def test_kid_is_mmd_with_a_cubic_kernel():
    """By scikit-learn's kernel over the whole samples; the mean over subsets is about it."""
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    a, b = rng(0).normal(size=(60, 8)) + 1, rng(1).normal(size=(50, 8)) * 1.3 + 1
    found = judged(a, b, seed=0, permutations=50).kid
    within_a, within_b, across = (pairwise.polynomial_kernel(*each, degree=3) for each in ((a, a), (b, b), (a, b)))
    np.fill_diagonal(within_a, 0)
    np.fill_diagonal(within_b, 0)
    expected = within_a.sum() / (60 * 59) + within_b.sum() / (50 * 49) - 2 * across.mean()

    assert found.value == pytest.approx(expected, rel=1e-9)
    assert (found.subset_size, found.subsets) == (25, 100)
    assert found.subset_mean == pytest.approx(expected, abs=3 * found.subset_sd / 5)


@pytest.mark.slow
def test_kid_and_frechet_distance_are_those_of_torchmetrics():
    """From the same embeddings."""
    torch = pytest.importorskip("torch")
    kid, fid = (pytest.importorskip(f"torchmetrics.image.{name}") for name in ("kid", "fid"))
    a, b = rng(0).normal(size=(60, 8)) + 1, rng(1).normal(size=(60, 8)) * 1.3 + 1
    moments = [torch.tensor(values) for rows in (a, b) for values in (rows.mean(0), np.cov(rows.T))]

    assert judged(a, b, seed=0, permutations=9).kid.value == pytest.approx(
        float(kid.poly_mmd(torch.tensor(a), torch.tensor(b))), rel=1e-9
    )
    assert frechet_distance_of_rows(a, b) == pytest.approx(float(fid._compute_fid(*moments)), rel=1e-6)


def test_kid_of_subsets_is_its_definition():
    """A subset that is all that there is to draw from: two of four rows, over and over."""
    a, b = rng(0).normal(size=(4, 3)), rng(1).normal(size=(4, 3)) + 2
    found = judged(a, b, permutations=20).kid
    pairs = [(i, j) for i in range(4) for j in range(i)]
    kernel = lambda x, y: (x @ y / 3 + 1) ** 3  # noqa: E731
    values = [
        kernel(a[i], a[j]) + kernel(b[k], b[m]) - np.mean([kernel(a[x], b[y]) for x in (i, j) for y in (k, m)]) * 2
        for i, j in pairs
        for k, m in pairs
    ]

    assert found.subset_size == 2
    assert min(values) - 1e-9 <= found.subset_mean <= max(values) + 1e-9
    assert found.subset_mean == pytest.approx(np.mean(values), abs=4 * np.std(values) / 10)
    assert found.subset_sd == pytest.approx(np.std(values), rel=0.4)
    assert judged(a[:3], b, permutations=20).kid.subset_mean is None


# ---- classifier -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [6, 200], ids=["few numbers", "more numbers than faces"])
def test_the_classifier_is_ridge_regression(d):
    """What it says of each face is what scikit-learn's ridge says, with the bound midway between the means."""
    linear = pytest.importorskip("sklearn.linear_model")
    metrics = pytest.importorskip("sklearn.metrics")
    a, b = rng(0).normal(size=(60, d)), rng(1).normal(size=(40, d)) * 1.5 + 0.2
    found = judged(a, b, permutations=20).classifier
    rows, is_a = np.concatenate([a, b]), np.arange(100) < 60
    rows = (rows - rows.mean(0)) / rows.std(0)
    order = rng(0).permutation(100)  # inputs of one face go to the folds in turn
    fold = np.empty(100, int)
    fold[order] = np.arange(100) % 5
    margins = np.empty(100)
    for held_out in (fold == each for each in range(5)):
        train, labels = rows[~held_out], is_a[~held_out]
        fitted = linear.Ridge(alpha=d).fit(train, np.where(labels, 1.0, -1.0))
        said = fitted.predict(train)
        margins[held_out] = fitted.predict(rows[held_out]) - (said[labels].mean() + said[~labels].mean()) / 2

    assert found.folds == 5
    assert found.accuracy.value == pytest.approx(metrics.balanced_accuracy_score(is_a, margins > 0))
    assert found.auroc.value == pytest.approx(metrics.roc_auc_score(is_a, margins))


def test_the_classifier_tells_what_the_means_tell():
    """Two Gaussians whose means are 2 apart are told right as often as the normal distribution says: 0.84."""
    shift = np.full(16, 0.5)
    found = judged(rng(0).normal(size=(400, 16)), rng(1).normal(size=(200, 16)) + shift, permutations=99).classifier

    assert found.accuracy.value == pytest.approx(0.841, abs=0.04)
    assert found.auroc.value == pytest.approx(0.921, abs=0.03)
    assert found.accuracy.p_value == found.auroc.p_value == 1 / 100
    assert found.accuracy.low < 0.5 < found.accuracy.high < 0.6


# ---- faces of one input -----------------------------------------------------------------------------------


def videos(seed, num, frames, spread=0.2):
    """Frames of so many videos, each about a point of its own, and the number of each frame's video."""
    centres = rng(seed).normal(size=(num, 4))
    rows = np.repeat(centres, frames, axis=0) + spread * rng(seed + 5000).normal(size=(num * frames, 4))
    return rows, np.repeat(np.arange(num), frames)


def test_frames_of_a_video_count_once():
    """Videos of one distribution look alike, whatever the measure, as long as labels go by video."""
    found, by_frame = [], []
    for seed in range(40):
        (a, in_a), (b, in_b) = videos(seed, 8, 6), videos(900 + seed, 9, 5)
        found.append(judged(a, b, seed=seed, permutations=99, inputs=(in_a, in_b)))
        by_frame.append(judged(a, b, seed=seed, permutations=99))

    tests = {
        "mmd": lambda each: each.mmd,
        "kid": lambda each: each.kid,
        "overlap": lambda each: each.overlap,
        "accuracy": lambda each: each.classifier.accuracy,
        "auroc": lambda each: each.classifier.auroc,
    }
    for test in tests.values():
        assert np.mean([test(each).p_value <= 0.1 for each in found]) < 0.1 + 4 * math.sqrt(0.09 / 40)
        assert np.mean([test(each).p_value <= 0.1 for each in by_frame]) > 0.6
    assert np.mean([each.overlap.value for each in found]) == pytest.approx(1, abs=0.1)


def test_one_video_each_tells_nothing():
    """With a single input a side no labelling but the true one and its mirror exists, and no p-value is small."""
    (a, in_a), (b, in_b) = videos(0, 1, 20), videos(1, 1, 30)
    found = judged(a, b, permutations=99, inputs=(in_a, in_b))

    assert found.mmd.p_value == found.overlap.p_value == 1
    assert (found.classifier.accuracy.value, found.classifier.accuracy.p_value, found.classifier.folds) == (0.5, 1, 2)


def test_labellings_that_leave_no_pair_count_as_different():
    """A picture beside a long video: most labellings give one side the picture alone, which tells nothing."""
    a, in_a = videos(0, 1, 30)
    found = judged(a, rng(1).normal(size=(3, 4)) + 9, permutations=200, inputs=(in_a, None))

    assert found.mmd.p_value > 0.5
    assert found.mmd.low is not None
    alone = judged(a[:2], a[2:4] + 50, permutations=200, inputs=(np.array([0, 0]), np.array([0, 1])))
    assert alone.mmd.p_value > 0.5
