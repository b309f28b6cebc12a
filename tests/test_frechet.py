"""The Frechet distance and its self-distance against closed forms, scipy, torchmetrics and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import linalg

from motivnet_cli.evaluation.frechet import (
    Gaussian,
    Moments,
    frechet_distance,
    frechet_distance_of_rows,
    self_distance,
    self_distance_of_rows,
)
from motivnet_cli.evaluation.two_samples import Pool, Sample, deal


def rng(seed=0):
    return np.random.default_rng(seed)


# ---- Gaussians --------------------------------------------------------------------------------------------


def in_batches(rows, sizes=(1, 7, 0, 30)):
    """Moments of rows that come in batches of these sizes, again and again."""
    accumulated, start = Gaussian(), 0
    while start < len(rows):
        for size in sizes:
            accumulated.update(rows[start : start + size])
            start += size
    return accumulated.moments


def exact_gaussian(mean, covariance, n=40):
    """Statistics that are exactly these: rows whitened and coloured."""
    rows = rng(4).normal(size=(n, len(mean)))
    rows -= rows.mean(0)
    white = rows @ linalg.inv(linalg.sqrtm(np.cov(rows.T)))
    return Moments.of(white @ linalg.cholesky(covariance) + mean)


def test_gaussian_batches_are_as_one():
    """Mean and covariance of one pass are numpy's, also far from zero."""
    rows = rng().normal(size=(200, 6)) @ rng(1).normal(size=(6, 6)) + 1e4
    found = in_batches(rows)

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

    assert frechet_distance(in_batches(x), in_batches(y)) == pytest.approx(expected, rel=1e-6)
    assert not np.allclose(a @ b, b @ a)


def test_frechet_distance_of_a_set_with_itself_moved():
    """It is 0 with itself, and the squared way after a move, also with fewer rows than numbers."""
    x = rng().normal(size=(10, 30))

    assert frechet_distance(Moments.of(x), Moments.of(x[::-1])) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(Moments.of(x), Moments.of(x + 2)) == pytest.approx(30 * 4, abs=1e-6)


@pytest.mark.parametrize(("m", "n"), [(12, 20), (20, 12), (50, 12), (60, 70)])
def test_frechet_distance_of_rows_is_that_of_their_moments(m, n):
    """With fewer rows than numbers and with more, on either side; the eigenvalues of the product say the same."""
    a, b = rng(0).normal(size=(m, 40)) + 3, rng(1).normal(size=(n, 40)) * 2
    one, other = Moments.of(a), Moments.of(b)
    root = np.sqrt(np.linalg.eigvals(one.covariance @ other.covariance).astype(complex)).real.sum()
    expected = np.sum((one.mean - other.mean) ** 2) + np.trace(one.covariance + other.covariance) - 2 * root

    assert frechet_distance_of_rows(a, b) == pytest.approx(frechet_distance(one, other), rel=1e-9)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-9)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)


# ---- the distance of random parts -------------------------------------------------------------------------


def test_moments_add_and_part():
    """Two sets together have the moments of all rows, and all less one have those of the other."""
    a, b = rng(0).normal(size=(30, 6)) + 100, rng(1).normal(size=(5, 6)) - 100
    both = Moments.of(a) + Moments.of(b)
    whole, rest = Moments.of(np.concatenate([a, b])), both - Moments.of(a)

    for found, expected in ((both, whole), (rest, Moments.of(b))):
        assert found.n == expected.n
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-9)
        np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-6, atol=1e-6)


def test_self_distance_is_what_few_rows_add():
    """Two sets of one distribution, of 64 numbers: their distance is the self-distance, though the truth is 0."""
    distances, selves = [], []
    for seed in range(8):
        a, b = rng(seed).normal(size=(213, 64)), rng(100 + seed).normal(size=(150, 64))
        pool = Pool.of(Sample(a), Sample(b))
        distances.append(frechet_distance_of_rows(a, b))
        selves.append(self_distance_of_rows(pool.rows, pool.labels(draws=5, seed=seed)))

    assert np.mean([each.mean for each in selves]) == pytest.approx(np.mean(distances), rel=0.03)
    assert np.mean(distances) > 10
    assert all(each.least <= each.mean <= each.most and each.draws == 5 for each in selves)


def test_self_distance_of_sums_is_that_of_rows():
    """Moments of a part and of all give what the rows of both parts give."""
    a, b = rng(0).normal(size=(40, 5)), rng(1).normal(size=(25, 5)) + 1
    pool = Pool.of(Sample(a), Sample(b))
    labels = pool.labels(draws=6, seed=3)
    parts = [in_batches(pool.rows[label]) for label in labels]

    found, expected = self_distance(Moments.of(a) + Moments.of(b), parts), self_distance_of_rows(pool.rows, labels)
    for name in ("mean", "least", "most", "draws"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6)


def test_parts_are_of_whole_inputs():
    """Rows of one input go to one part; where no draw leaves two rows on both sides there is no self-distance."""
    rows = rng().normal(size=(12, 3))
    pool = Pool.of(Sample(rows[:8], np.array([7, 7, 7, 7, 3, 3, 3, 3])), Sample(rows[8:], np.array([0, 0, 1, 1])))
    for label in pool.labels(draws=50, seed=0):
        assert all(len(set(label[pool.inputs == number])) == 1 for number in range(4))
        assert label[[0, 4, 8, 10]].sum() == 2

    alone = Pool.of(Sample(rows[:11]), Sample(rows[11:]))
    assert self_distance_of_rows(alone.rows, alone.labels(draws=5, seed=0)) is None
    assert self_distance(Moments.of(rows), [None, Moments.of(rows[:1]), Moments.of(rows[:11])]) is None


def test_labels_are_dealt_evenly():
    """Every labelling has as many of a, and every input is as often a as any other."""
    labels = deal(3, 7, draws=20_000, seed=1)

    assert (labels.sum(axis=1) == 3).all()
    assert np.abs(labels.mean(axis=0) - 0.3).max() < 5 * math.sqrt(0.21 / 20_000)
    assert (deal(3, 7, draws=5, seed=1) == deal(3, 7, draws=5, seed=1)).all()
