"""How alike two networks or two sets of pictures are, computed from arrays: embeddings and parameters.

Accumulators take embeddings in batches and keep sums or a sample of them, never all; how the rows fall into batches
changes results by rounding only. Every definition, with its formula and source, is in docs/similarity.md.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float32] | NDArray[np.float64]

SAMPLE_ROWS = 2000
"""Rows a side that pairwise measures look at: 4,000 rows pooled are a matrix of 128 MB."""
PERMUTATIONS = 1000
"""Random labellings behind a p-value and an interval: p is at least 1/1001."""
NEIGHBOURS = 5
"""Of each row, whose origin the overlap counts."""
LEVEL = 0.95
"""Of the interval that the random labellings give."""
_ROUNDING = 1e-12
"""Squared distances below this fraction of the largest squared norm are rounding: the rows are equal."""


# ---- two networks, the same pictures ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosine:
    """Cosine similarity of the two embeddings of one face, over the faces where neither is zero."""

    n: int
    mean: float
    sd: float
    """With divisor n."""
    least: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSimilarity:
    """How alike two networks embed the same faces."""

    n: int
    linear_cka: float | None
    """0 to 1; None when one side is the same for all faces."""
    linear_cka_debiased: float | None
    """About 0 for unrelated embeddings however few faces there are; None with fewer than 4."""
    cosine: Cosine | None
    """None when the embeddings differ in length."""


class PairedEmbeddings:
    """Linear CKA and cosine of two embeddings of the same faces, in one pass.

    It keeps (Dx + Dy)^2 float64: 75 MB for two of 1,536.
    """

    def __init__(self) -> None:
        self._n = 0
        self._cosines = np.zeros(3)  # their count, sum, and sum of squares
        self._least = math.inf

    def update(self, x: Floats, y: Floats) -> None:
        """Take the next faces: x [N, Dx] and y [N, Dy], finite, each row of x and y of the same face.

        Raises:
            ValueError: The two have different numbers of rows.
        """
        if len(x) != len(y):
            raise ValueError(f"every face needs both embeddings, got {len(x)} and {len(y)} rows")
        if not len(x):
            return
        rows = np.hstack([x, y]).astype(np.float64)  # [N, Dx + Dy]
        if not self._n:
            self._split = x.shape[1]
            self._shift = rows.mean(
                axis=0
            )  # [Dx + Dy]; any fixed point near the data keeps the sums free of cancellation
            self._sum = np.zeros(rows.shape[1])  # [Dx + Dy]
            self._products = np.zeros((rows.shape[1], rows.shape[1]))  # [Dx + Dy, Dx + Dy]
            self._norm_rows = np.zeros((2, rows.shape[1]))  # [2, Dx + Dy]: squared norms of x and of y, times the rows
            self._norm_products = np.zeros((2, 2))
        if x.shape[1] == y.shape[1]:
            self._add_cosines(rows[:, : self._split], rows[:, self._split :])
        rows -= self._shift
        squared = rows**2
        norms = np.stack([squared[:, : self._split].sum(axis=1), squared[:, self._split :].sum(axis=1)])  # [2, N]
        self._n += len(rows)
        self._sum += rows.sum(axis=0)
        self._products += rows.T @ rows
        self._norm_rows += norms @ rows
        self._norm_products += norms @ norms.T

    def _add_cosines(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)  # [N]
        cosines = np.clip(np.sum(x * y, axis=1)[lengths > 0] / lengths[lengths > 0], -1, 1)
        self._cosines += len(cosines), cosines.sum(), np.sum(cosines**2)
        self._least = min(self._least, cosines.min(initial=math.inf))

    def finish(self) -> PairSimilarity:
        """The similarity over all faces so far.

        Linear CKA: Kornblith et al. 2019; debiased with the HSIC estimator of Song et al. 2012.
        """
        plain = debiased = cosine = None
        if self._n:
            xy, xx, yy = self._dependence(0, 1), self._dependence(0, 0), self._dependence(1, 1)
            plain, debiased = (_cka(xy[i], xx[i], yy[i]) for i in (0, 1))
        if self._cosines[0]:
            count, mean = int(self._cosines[0]), float(self._cosines[1] / self._cosines[0])
            variance = max(0.0, float(self._cosines[2] / count) - mean**2)
            cosine = Cosine(n=count, mean=mean, sd=math.sqrt(variance), least=float(self._least))
        return PairSimilarity(n=self._n, linear_cka=plain, linear_cka_debiased=debiased, cosine=cosine)

    def _dependence(self, i: int, j: int) -> tuple[float, float | None]:
        """||X'Y||^2 of the centred sides i and j, and the same less its bias: the unbiased HSIC times n (n - 3).

        The second is None with fewer than 4 faces. Side 0 is x, side 1 is y.
        """
        n = self._n
        sides = (slice(0, self._split), slice(self._split, None))
        u, v = sides[i], sides[j]
        mean_u, mean_v = self._sum[u] / n, self._sum[v] / n
        products = self._products[u, v]  # [Du, Dv]
        total = float(np.sum((products - n * np.outer(mean_u, mean_v)) ** 2))
        if n < 4:
            return total, None
        # Of the centred rows: sum |x|^2, sum |y|^2, and sum |x|^2 |y|^2, expanded into the sums that are kept.
        square_u, square_v = float(mean_u @ mean_u), float(mean_v @ mean_v)
        raw_u, raw_v = (float(np.trace(self._products[side, side])) for side in (u, v))
        both = (
            self._norm_products[i, j]
            - 2 * (mean_v @ self._norm_rows[i, v] + mean_u @ self._norm_rows[j, u])
            + 4 * mean_u @ products @ mean_v
            + square_v * raw_u
            + square_u * raw_v
            - 3 * n * square_u * square_v
        )
        norms = (raw_u - n * square_u) * (raw_v - n * square_v)
        return total, total - n / (n - 2) * float(both) + norms / ((n - 1) * (n - 2))


def _cka(xy: float | None, xx: float | None, yy: float | None) -> float | None:
    if xy is None or xx is None or yy is None or xx <= 0 or yy <= 0:
        return None
    return xy / math.sqrt(xx) / math.sqrt(yy)


# ---- two sets of pictures, one network --------------------------------------------------------------------


class Gaussian:
    """Mean and covariance of rows that come in batches; it keeps D^2 float64 (19 MB for 1,536)."""

    def __init__(self) -> None:
        self.n = 0

    def update(self, x: Floats) -> None:
        """Take the next rows: x [N, D], finite."""
        if not len(x):
            return
        rows = x.astype(np.float64)  # [N, D]
        if not self.n:
            self._shift = rows.mean(axis=0)  # [D]
            self._sum = np.zeros(rows.shape[1])  # [D]
            self._products = np.zeros((rows.shape[1], rows.shape[1]))  # [D, D]
        rows -= self._shift
        self.n += len(rows)
        self._sum += rows.sum(axis=0)
        self._products += rows.T @ rows

    @property
    def mean(self) -> NDArray[np.float64]:
        """[D]."""
        mean: NDArray[np.float64] = self._shift + self._sum / self.n
        return mean

    @property
    def covariance(self) -> NDArray[np.float64]:
        """[D, D], with divisor n - 1; at least two rows must have come."""
        scatter: NDArray[np.float64] = self._products - np.outer(self._sum, self._sum) / self.n
        return scatter / (self.n - 1)


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """The squared Frechet distance of two Gaussians, in squared units of the embedding; 0 for equal ones.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), as the Frechet inception distance has it (Dowson and Landau
    1982; Heusel et al. 2017). The trace of the root is the sum of the singular values of C_a^(1/2) C_b^(1/2), which
    needs no root of an unsymmetric matrix and takes covariances that are singular.
    """
    covariance_a, covariance_b = a.covariance, b.covariance  # [D, D]
    cross = np.linalg.svd(_root(covariance_a) @ _root(covariance_b), compute_uv=False).sum()
    difference = a.mean - b.mean
    distance = difference @ difference + np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross
    return max(0.0, float(distance))


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The square root of a symmetric matrix [D, D] without negative eigenvalues, but for rounding."""
    values, vectors = np.linalg.eigh(covariance)
    root: NDArray[np.float64] = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root


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

    def update(self, x: Floats) -> None:
        """Take the next rows: x [N, D]."""
        draws = np.concatenate([self._draws, self._rng.random(len(x))])  # [rows kept + N]
        kept = np.sort(np.argsort(draws)[: self._limit])
        rows = x if self._rows is None else np.concatenate([self._rows, x])
        self._draws, self._rows = draws[kept], rows[kept].astype(np.float64)

    @property
    def rows(self) -> NDArray[np.float64]:
        """[at most limit, D], in the order in which they came; some batch must have come."""
        assert self._rows is not None, "update comes first"
        return self._rows


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSample:
    """A measure of two samples, beside its values when the labels a and b are assigned at random."""

    value: float
    low: float
    high: float
    """The middle 95 % of the values under random labels: two samples of one set give a value between them."""
    p_value: float
    """How often random labels look at least as different; at least 1 / (permutations + 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoSampleTests:
    """The measures of two samples that need every pair of rows."""

    n_a: int
    n_b: int
    mmd: TwoSample
    """The unbiased estimate of MMD^2; it can be negative."""
    bandwidth: float
    """Of the Gaussian kernel: the median distance of two pooled rows that differ."""
    overlap: TwoSample
    """Neighbours from the other sample, as a share of those expected in a perfect mixture: 0 apart, 1 mixed."""
    neighbours: int
    permutations: int


def two_sample_tests(a: Floats, b: Floats, *, seed: int, permutations: int = PERMUTATIONS) -> TwoSampleTests:
    """Kernel MMD and nearest-neighbour overlap of two samples, each with a permutation test.

    MMD^2: Gretton et al. 2012, its unbiased estimate, with the Gaussian kernel exp(-d^2 / 2 s^2). Overlap: one less
    the nearest-neighbour statistic of Schilling 1986 and Henze 1988, over its mean under random labels.
    Memory and time grow with the square of the number of rows.

    Args:
        a: [m, D], finite; m at least 2.
        b: [n, D], finite; n at least 2.

    Raises:
        ValueError: A side has fewer than two rows.
    """
    m, n = len(a), len(b)
    if min(m, n) < 2:
        raise ValueError(f"each side needs at least 2 rows, got {m} and {n}")
    squared = _squared_distances(np.concatenate([a, b]).astype(np.float64))  # [m + n, m + n]
    neighbours = min(NEIGHBOURS, m + n - 1)
    labels = np.zeros((permutations + 1, m + n))  # 1 for a; the first row holds the true labels
    labels[:, :m] = 1
    labels[1:] = np.random.default_rng(seed).permuted(labels[1:], axis=1)
    overlaps = _overlaps(squared, labels, neighbours)
    distinct = squared[np.triu_indices(m + n, 1)]
    distinct = distinct[distinct > 0]
    bandwidth = float(np.median(np.sqrt(distinct))) if len(distinct) else 0.0
    mmds = _mmds(squared, labels, bandwidth) if bandwidth else np.zeros(permutations + 1)
    return TwoSampleTests(
        n_a=m,
        n_b=n,
        mmd=_tested(mmds, mmds),
        bandwidth=bandwidth,
        overlap=_tested(overlaps, -overlaps),
        neighbours=neighbours,
        permutations=permutations,
    )


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


def _overlaps(squared: NDArray[np.float64], labels: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """The neighbour overlap under each labelling [P + 1, R]: [P + 1]."""
    np.fill_diagonal(squared, np.inf)
    nearest = np.argpartition(squared, k - 1, axis=1)[:, :k]  # [R, k]
    np.fill_diagonal(squared, 0)
    num_rows, num_a = len(squared), labels[0].sum()
    # Neighbours within a, counted once, give those across: b chooses the rest of what is of a, a the rest of its own.
    times_chosen = np.bincount(nearest.ravel(), minlength=num_rows)  # [R]
    within_a = np.array([label[nearest[label == 1]].sum() for label in labels])  # [P + 1]
    across = (labels @ times_chosen - within_a) + (k * num_a - within_a)
    expected = 2 * num_a * (num_rows - num_a) / (num_rows - 1) * k
    overlaps: NDArray[np.float64] = across / expected
    return overlaps


def _mmds(squared: NDArray[np.float64], labels: NDArray[np.float64], bandwidth: float) -> NDArray[np.float64]:
    """The unbiased estimate of MMD^2 under each labelling [P + 1, R]: [P + 1]. `squared` [R, R] is overwritten."""
    kernel = np.multiply(squared, -0.5 / bandwidth**2, out=squared)
    np.exp(kernel, out=kernel)
    np.fill_diagonal(kernel, 0)
    m = labels[0].sum()
    n = len(kernel) - m
    sums = kernel.sum(axis=1)  # [R]
    within_a = np.einsum("pi,pi->p", labels @ kernel, labels)
    across = labels @ sums - within_a
    within_b = sums.sum() - within_a - 2 * across
    estimates: NDArray[np.float64] = within_a / (m * (m - 1)) + within_b / (n * (n - 1)) - 2 * across / (m * n)
    return estimates


def _tested(values: NDArray[np.float64], differences: NDArray[np.float64]) -> TwoSample:
    """The first of the values [P + 1] among the others.

    Args:
        differences: [P + 1], larger where the samples look more different.
    """
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values[1:], [tail, 1 - tail])
    # Labellings that are equal but for rounding count as equal.
    as_different = np.sum(differences[1:] >= differences[0] - 1e-9 * np.abs(differences).max())
    p_value = (1 + int(as_different)) / len(values)
    return TwoSample(value=float(values[0]), low=float(low), high=float(high), p_value=p_value)


# ---- two networks, their parameters -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDrift:
    """How far the parameters of one layer are from the other network's."""

    layer: str
    num_parameters: int
    difference: float
    """||W_a - W_b||, the Euclidean norm over all its numbers."""
    reference: float
    """||W_b||."""
    relative: float | None
    """The former over the latter; None where the latter is 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How far one network's parameters are from another's, over the tensors that both have."""

    layers: tuple[LayerDrift, ...]
    """In the order of a."""
    overall: LayerDrift
    num_only_a: int
    num_only_b: int
    """Tensors that only one network has."""
    misshapen: tuple[str, ...]
    """Names that both have with different shapes: left out."""


def parameter_drift(a: Mapping[str, Floats], b: Mapping[str, Floats]) -> Drift:
    """||W_a - W_b|| / ||W_b|| for each layer and overall, matched by the parameters' names.

    A layer is the tensors that share a name up to its first number (`encoder.blocks.3`), or without one up to `.weight`
    or `.bias`. Tensors are read one by one, so those that are mapped from files are never all in memory.
    """
    layers: dict[str, _Sums] = {}
    misshapen = []
    for name, tensor in a.items():
        if name not in b:
            continue
        if tensor.shape != b[name].shape:
            misshapen.append(name)
            continue
        reference = b[name].astype(np.float64)
        sums = _Sums(reference.size, float(np.sum((tensor - reference) ** 2)), float(np.sum(reference**2)))
        layer = _layer_of(name)
        layers[layer] = layers.get(layer, _Sums()) + sums
    return Drift(
        layers=tuple(_drift_of(layer, sums) for layer, sums in layers.items()),
        overall=_drift_of("all", sum(layers.values(), _Sums())),
        num_only_a=sum(name not in b for name in a),
        num_only_b=sum(name not in a for name in b),
        misshapen=tuple(misshapen),
    )


def _layer_of(name: str) -> str:
    numbered = re.match(r".*?\.\d+(?=\.)", name)
    return numbered[0] if numbered else re.sub(r"\.(weight|bias)$", "", name)


@dataclass(frozen=True, slots=True)
class _Sums:
    """Over the parameters of a layer: their number, and the sums of squares of the differences and of the reference."""

    num_parameters: int = 0
    differences: float = 0.0
    references: float = 0.0

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.num_parameters + other.num_parameters,
            self.differences + other.differences,
            self.references + other.references,
        )


def _drift_of(layer: str, sums: _Sums) -> LayerDrift:
    difference, reference = math.sqrt(sums.differences), math.sqrt(sums.references)
    return LayerDrift(
        layer=layer,
        num_parameters=sums.num_parameters,
        difference=difference,
        reference=reference,
        relative=difference / reference if reference else None,
    )
