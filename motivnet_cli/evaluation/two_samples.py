"""How different two samples of embeddings are: kernel distances, nearest neighbours, and a classifier, with tests.

Every test deals the labels a and b out anew, to whole inputs: the frames of a video and the faces of a picture keep
one label, for they are not independent. Formulas and sources are in docs/similarity.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.stats import rankdata

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32] | NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

SAMPLE_ROWS = 2000
"""Rows a side that pairwise measures look at: 4,000 rows pooled are a matrix of 128 MB."""
PERMUTATIONS = 1000
"""Random labellings behind a p-value and an interval: p is at least 1/1001."""
NEIGHBOURS = 5
"""Of each row, whose origin the overlap counts."""
FOLDS = 5
"""Of the classifier's cross-validation."""
SUBSETS = 100
SUBSET_ROWS = 1000
"""Number and size of the subsets of the kernel inception distance, as Binkowski et al. 2018 have them."""
LEVEL = 0.95
"""Of the interval that the random labellings give."""
_ROUNDING = 1e-12
"""Differences below this fraction of the largest number that goes into them are rounding: they are 0."""


# ---- samples ----------------------------------------------------------------------------------------------


class Sample(NamedTuple):
    """Rows, and the input that each is from."""

    rows: Floats
    """[n, D]."""
    inputs: Ints | None = None
    """[n], numbers that are equal for rows of one input; None where each row is an input of its own."""


class Reservoir:
    """A uniform sample without replacement of rows that come in batches; all of them while they are few.

    Every row draws a number, and those with the smallest stay: the sample depends on the seed and the order of the
    rows, not on the batches.
    """

    def __init__(self, *, seed: int | tuple[int, ...], limit: int = SAMPLE_ROWS) -> None:
        self._rng = np.random.default_rng(seed)
        self._limit = limit
        self._draws = np.empty(0)
        self._rows: NDArray[np.float64] | None = None
        self._inputs = np.empty(0, np.int64)
        self.n = 0
        """Rows that came."""

    def update(self, x: Floats, inputs: Ints) -> None:
        """Take the next rows: x [N, D], and the numbers of their inputs [N]."""
        self.n += len(x)
        draws = np.concatenate([self._draws, self._rng.random(len(x))])  # [rows kept + N]
        kept = np.sort(np.argsort(draws)[: self._limit])
        rows = x if self._rows is None else np.concatenate([self._rows, x])
        self._draws, self._rows = draws[kept], rows[kept].astype(np.float64)
        self._inputs = np.concatenate([self._inputs, inputs])[kept]

    @property
    def sample(self) -> Sample:
        """At most `limit` rows, in the order in which they came; some batch must have come."""
        assert self._rows is not None, "update comes first"
        return Sample(self._rows, self._inputs)


def deal(num_a: int, num_b: int, *, draws: int, seed: int) -> Bools:
    """Random labellings of inputs, true for a: [draws, num_a + num_b], each with num_a that are true."""
    labels = np.zeros((draws, num_a + num_b), bool)
    labels[:, :num_a] = True
    return np.random.default_rng(seed).permuted(labels, axis=1)


class Pool(NamedTuple):
    """Two samples as one, those of a first."""

    rows: NDArray[np.float64]
    """[R, D]."""
    inputs: Ints
    """[R], from 0, those of a first."""
    num_a: int
    """Inputs of a."""
    num_b: int

    @classmethod
    def of(cls, a: Sample, b: Sample) -> Pool:
        """Of two samples, whose inputs are all different."""
        numbers = [
            np.arange(len(side.rows)) if side.inputs is None else np.unique(side.inputs, return_inverse=True)[1]
            for side in (a, b)
        ]
        num_a, num_b = (int(each.max()) + 1 for each in numbers)
        rows = np.concatenate([a.rows, b.rows]).astype(np.float64)
        return cls(rows, np.concatenate([numbers[0], num_a + numbers[1]]), num_a, num_b)

    def labels(self, *, draws: int, seed: int) -> Bools:
        """Random labellings of the rows: [draws, R]."""
        return deal(self.num_a, self.num_b, draws=draws, seed=seed)[:, self.inputs]


# ---- results ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSample:
    """A measure of two samples, beside its values when the labels a and b are dealt out at random."""

    value: float
    low: float | None
    high: float | None
    """The middle 95 % of the values under random labels: two samples of one set give a value between them.

    None where no random labelling leaves two rows on both sides.
    """
    p_value: float
    """How often random labels look at least as different; at least 1 / (permutations + 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelInceptionDistance(TwoSample):
    """The unbiased MMD^2 with a cubic kernel over the whole samples, and as others give it: over random subsets."""

    subset_mean: float | None
    subset_sd: float | None
    """With divisor `subsets`. Both are None where a side has fewer than 4 rows."""
    subset_size: int
    """Rows of each side in a subset."""
    subsets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """How well a linear classifier, fitted on some inputs, tells the samples apart on others."""

    accuracy: TwoSample
    """Mean of the shares of a and of b that are told right: 0.5 is chance whatever the sizes."""
    auroc: TwoSample
    folds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSampleTests:
    """The measures of two samples, each with its test."""

    n_a: int
    n_b: int
    mmd: TwoSample
    """The unbiased estimate of MMD^2; it can be negative."""
    bandwidth: float
    """Of the Gaussian kernel: the median distance of two pooled rows that differ."""
    kid: KernelInceptionDistance
    overlap: TwoSample
    """Neighbours from the other sample, as a share of those expected in a perfect mixture: 0 apart, 1 mixed."""
    neighbours: int
    classifier: Classifier
    permutations: int


def two_sample_tests(a: Sample, b: Sample, *, seed: int, permutations: int = PERMUTATIONS) -> TwoSampleTests:
    """Kernel distances, nearest-neighbour overlap and a classifier between two samples, each with a permutation test.

    Memory and time grow with the square of the number of rows.

    Args:
        a: Rows [m, D], finite; m at least 2.
        b: Rows [n, D], finite; n at least 2.

    Raises:
        ValueError: A side has fewer than two rows.
    """
    m, n = len(a.rows), len(b.rows)
    if min(m, n) < 2:
        raise ValueError(f"each side needs at least 2 rows, got {m} and {n}")
    pool = Pool.of(a, b)
    true = np.arange(m + n) < m
    labels = np.concatenate([true[None], pool.labels(draws=permutations, seed=seed)]).astype(np.float64)  # [P + 1, R]
    squared = _squared_distances(pool.rows)  # [m + n, m + n]
    neighbours, overlaps = _overlaps(squared, labels, pool)
    distinct = squared[np.triu_indices(m + n, 1)]
    distinct = distinct[distinct > 0]
    bandwidth = float(np.median(np.sqrt(distinct))) if len(distinct) else 0.0
    mmds = _mmds(_gaussian_kernel(squared, bandwidth), labels) if bandwidth else np.zeros(permutations + 1)
    return TwoSampleTests(
        n_a=m,
        n_b=n,
        mmd=_tested(mmds, mmds),
        bandwidth=bandwidth,
        kid=_kid(pool.rows, labels, seed),
        overlap=_tested(overlaps, -overlaps),
        neighbours=neighbours,
        classifier=_classified(pool, labels, seed),
        permutations=permutations,
    )


def _tested(values: NDArray[np.float64], differences: NDArray[np.float64]) -> TwoSample:
    """The first of the values [P + 1] among the others; NaN where a labelling leaves too few rows on a side.

    Args:
        differences: [P + 1], larger where the samples look more different.
    """
    tail = (1 - LEVEL) / 2
    drawn = values[1:][~np.isnan(values[1:])]
    low, high = map(float, np.quantile(drawn, [tail, 1 - tail])) if len(drawn) else (None, None)
    # Labellings that are equal but for rounding count as equal, and those without a value as different.
    less_different = np.sum(differences[1:] < differences[0] - 1e-9 * np.nanmax(np.abs(differences)))
    p_value = (len(values) - int(less_different)) / len(values)
    return TwoSample(value=float(values[0]), low=low, high=high, p_value=p_value)


# ---- kernels ----------------------------------------------------------------------------------------------


def _squared_distances(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each pair of rows [R, D]: [R, R], 0 for equal rows."""
    rows = rows - rows.mean(axis=0)
    squared: NDArray[np.float64] = rows @ rows.T
    norms = squared.diagonal().copy()
    squared *= -2
    squared += norms[:, None]
    squared += norms[None, :]
    squared[squared < _ROUNDING * norms.max()] = 0
    np.fill_diagonal(squared, 0)
    return squared


def _gaussian_kernel(squared: NDArray[np.float64], bandwidth: float) -> NDArray[np.float64]:
    """[R, R]. `squared` is overwritten."""
    kernel = np.multiply(squared, -0.5 / bandwidth**2, out=squared)
    return np.exp(kernel, out=kernel)


def _mmds(kernel: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unbiased estimate of MMD^2 under each labelling [P + 1, R]: [P + 1]; NaN where a side has under two rows.

    Args:
        kernel: [R, R]; its diagonal is overwritten.
    """
    np.fill_diagonal(kernel, 0)
    m = labels.sum(axis=1)
    n = len(kernel) - m
    sums = kernel.sum(axis=1)  # [R]
    within_a = np.einsum("pi,pi->p", labels @ kernel, labels)
    across = labels @ sums - within_a
    within_b = sums.sum() - within_a - 2 * across
    with np.errstate(divide="ignore", invalid="ignore"):
        estimates = within_a / (m * (m - 1)) + within_b / (n * (n - 1)) - 2 * across / (m * n)
    estimates[np.abs(estimates) < _ROUNDING * np.abs(kernel).max()] = 0
    return np.where((m >= 2) & (n >= 2), estimates, np.nan)


def _kid(rows: NDArray[np.float64], labels: NDArray[np.float64], seed: int) -> KernelInceptionDistance:
    """Binkowski, Sutherland, Arbel, Gretton 2018: MMD^2 with the kernel (x'y / D + 1)^3."""
    kernel = rows @ rows.T  # [R, R]
    kernel /= rows.shape[1]
    kernel += 1
    np.power(kernel, 3, out=kernel)
    values = _mmds(kernel, labels)
    test = _tested(values, values)
    is_a = labels[0] == 1
    size = min(SUBSET_ROWS, int(min(is_a.sum(), (~is_a).sum())) // 2)
    subsets = _subset_mmds(kernel, is_a, size, seed) if size >= 2 else None
    return KernelInceptionDistance(
        value=test.value,
        low=test.low,
        high=test.high,
        p_value=test.p_value,
        subset_mean=None if subsets is None else float(subsets.mean()),
        subset_sd=None if subsets is None else float(subsets.std()),
        subset_size=size,
        subsets=SUBSETS,
    )


def _subset_mmds(kernel: NDArray[np.float64], is_a: Bools, size: int, seed: int) -> NDArray[np.float64]:
    """MMD^2 between random subsets of `size` rows of each side: [SUBSETS]. The diagonal of the kernel is 0."""
    rng = np.random.default_rng(seed)
    chosen_a, chosen_b = np.zeros((2, SUBSETS, len(is_a)))  # [SUBSETS, R] each
    for number in range(SUBSETS):
        chosen_a[number, rng.choice(np.flatnonzero(is_a), size, replace=False)] = 1
        chosen_b[number, rng.choice(np.flatnonzero(~is_a), size, replace=False)] = 1
    from_a = chosen_a @ kernel
    within_a = np.einsum("si,si->s", from_a, chosen_a)
    within_b = np.einsum("si,si->s", chosen_b @ kernel, chosen_b)
    across = np.einsum("si,si->s", from_a, chosen_b)
    estimates: NDArray[np.float64] = (within_a + within_b) / (size * (size - 1)) - 2 * across / size**2
    return estimates


# ---- neighbours -------------------------------------------------------------------------------------------


def _overlaps(squared: NDArray[np.float64], labels: NDArray[np.float64], pool: Pool) -> tuple[int, NDArray[np.float64]]:
    """How many neighbours each row has, and their overlap under each labelling [P + 1, R]: [P + 1].

    Neighbours are rows of other inputs. One less the statistic of Schilling 1986 and Henze 1988, over its mean under
    random labels.
    """
    num_rows = len(squared)
    k = min(NEIGHBOURS, num_rows - int(np.bincount(pool.inputs).max()))
    of_others = np.where(pool.inputs[:, None] == pool.inputs[None, :], np.inf, squared)
    nearest = np.argpartition(of_others, k - 1, axis=1)[:, :k]  # [R, k]
    # Neighbours within a, counted once, give those across: b chooses the rest of what is of a, a the rest of its own.
    times_chosen = np.bincount(nearest.ravel(), minlength=num_rows)  # [R]
    within_a = np.array([label[nearest[label == 1]].sum() for label in labels])  # [P + 1]
    across = (labels @ times_chosen - within_a) + (k * labels.sum(axis=1) - within_a)
    num_inputs = pool.num_a + pool.num_b
    differ = 2 * pool.num_a * pool.num_b / (num_inputs * (num_inputs - 1))  # the labels of two inputs, at random
    overlaps: NDArray[np.float64] = across / (k * num_rows * differ)
    return k, overlaps


# ---- a classifier -----------------------------------------------------------------------------------------


def _classified(pool: Pool, labels: NDArray[np.float64], seed: int) -> Classifier:
    """A classifier two-sample test (Lopez-Paz and Oquab 2017), cross-validated by input.

    The classifier is a ridge regression of +1 and -1 on the standardised rows, with the ridge D, which is the
    regularised discriminant of Fisher: its closed form lets every random labelling be fitted anew. Neither the folds
    nor the standardisation look at the labels, so that the test is exact where inputs are exchangeable.
    """
    rows = _standardised(pool.rows)
    fold_of = _folds(pool.inputs, seed)[pool.inputs]  # [R]
    num_folds = int(fold_of.max()) + 1
    margins = np.zeros(labels.shape)  # [P + 1, R]
    for fold in range(num_folds):
        is_held_out = fold_of == fold
        margins[:, is_held_out] = _margins(
            rows[~is_held_out], labels[:, ~is_held_out], rows[is_held_out], ridge=pool.rows.shape[1]
        )
    m = labels.sum(axis=1)
    n = labels.shape[1] - m
    right = (np.sign(margins) + 1) / 2  # [P + 1, R]: 1 for a, 0 for b, half for neither
    ranks = rankdata(margins, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracies = ((labels * right).sum(axis=1) / m + ((1 - labels) * (1 - right)).sum(axis=1) / n) / 2
        aurocs = ((labels * ranks).sum(axis=1) - m * (m + 1) / 2) / (m * n)
    return Classifier(accuracy=_tested(accuracies, accuracies), auroc=_tested(aurocs, aurocs), folds=num_folds)


def _standardised(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows [R, D] with mean 0 and deviation 1 in each column, turned into at most R columns; constant ones go."""
    deviations = rows.std(axis=0)
    is_constant = deviations <= _ROUNDING * np.abs(rows).max(initial=0)
    standardised: NDArray[np.float64] = (rows - rows.mean(axis=0))[:, ~is_constant] / deviations[~is_constant]
    if standardised.shape[1] <= len(rows):
        return standardised
    values, vectors = np.linalg.eigh(standardised @ standardised.T)  # [R, R]
    turned: NDArray[np.float64] = vectors * np.sqrt(np.maximum(values, 0))  # [R, R]: with the same inner products
    return turned


def _folds(inputs: Ints, seed: int) -> Ints:
    """The fold of each input, [inputs]: each in turn, in random order, goes to the fold with the fewest rows."""
    sizes = np.bincount(inputs)
    folds = np.empty(len(sizes), np.int64)
    num_rows = np.zeros(min(FOLDS, len(sizes)))
    for number in np.random.default_rng(seed).permutation(len(sizes)):
        folds[number] = num_rows.argmin()
        num_rows[folds[number]] += sizes[number]
    return folds


def _margins(
    train: NDArray[np.float64], labels: NDArray[np.float64], test: NDArray[np.float64], *, ridge: float
) -> NDArray[np.float64]:
    """How far each row of `test` lies on the side of a, by the classifier of each labelling of `train`: [P, test].

    The bound is midway between the means of a and of b. All are 0 where only one label is in `train`.
    """
    mean = train.mean(axis=0)
    train = train - mean
    sums = labels @ train  # [P, D]: of a; those of b are the same with the other sign
    m = labels.sum(axis=1, keepdims=True)
    n = len(train) - m
    gram = train.T @ train
    gram[np.diag_indices_from(gram)] += ridge
    weights = np.linalg.solve(gram, 2 * sums.T).T  # [P, D]
    has_both = (m > 0) & (n > 0)
    weights = np.where(has_both, weights, 0)
    middles = sums * np.where(has_both, 1 / np.maximum(m, 1) - 1 / np.maximum(n, 1), 0) / 2  # [P, D]
    margins: NDArray[np.float64] = weights @ (test - mean).T - np.sum(weights * middles, axis=1, keepdims=True)
    return margins
