"""The Frechet distance of two sets of embeddings, and what it is between two random parts of one set.

Formulas and sources are in docs/similarity.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """Size, mean and scatter of some rows, in float64: what the distance of two Gaussians takes."""

    n: int
    mean: NDArray[np.float64]
    """[D]."""
    scatter: NDArray[np.float64]
    """[D, D]: the sum of the outer products of the rows less their mean."""

    @classmethod
    def of(cls, rows: Floats) -> Moments:
        """Of rows [N, D], at least one."""
        gaussian = Gaussian()
        gaussian.update(rows)
        return gaussian.moments

    @property
    def covariance(self) -> NDArray[np.float64]:
        """[D, D], with divisor n - 1; at least two rows must be in it."""
        return self.scatter / (self.n - 1)

    def __add__(self, other: Moments) -> Moments:
        """Those of both sets of rows together (Chan, Golub, LeVeque 1979)."""
        n, step = self.n + other.n, other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(step, step * (self.n * other.n / n))
        return Moments(n, self.mean + step * (other.n / n), scatter)

    def __sub__(self, part: Moments) -> Moments:
        """Those of the other rows, where `part` is of some of these; at least one must be left."""
        n = self.n - part.n
        mean = self.mean + (self.mean - part.mean) * (part.n / n)
        step = mean - part.mean
        return Moments(n, mean, self.scatter - part.scatter - np.outer(step, step * (n * part.n / self.n)))


class Gaussian:
    """Moments of rows that come in batches; it keeps D^2 float64 (19 MB for 1,536)."""

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
    def moments(self) -> Moments:
        """Of the rows so far; some must have come."""
        assert self.n, "update comes first"
        scatter = self._products - np.outer(self._sum, self._sum) / self.n
        return Moments(self.n, self._shift + self._sum / self.n, scatter)


def frechet_distance(a: Moments, b: Moments) -> float:
    """The squared Frechet distance of two Gaussians, in squared units of the embedding; 0 for equal ones.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), as the Frechet inception distance has it (Dowson and Landau
    1982; Heusel et al. 2017). With C_a = F F', the trace of the root is the sum of the roots of the eigenvalues of
    F' C_b F, which is symmetric and may be singular. At least two rows must be in each.
    """
    if a.n > b.n:  # the side of the lower rank is the one that is factored
        a, b = b, a
    covariance_a, covariance_b = a.covariance, b.covariance  # [D, D]
    values, vectors = np.linalg.eigh(covariance_a)
    is_filled = values > values[-1] * np.finfo(np.float64).eps
    factor = vectors[:, is_filled] * np.sqrt(values[is_filled])  # [D, rank]
    total = float(np.trace(covariance_a) + np.trace(covariance_b))
    return _distance(a.mean - b.mean, total, factor.T @ covariance_b @ factor)


def frechet_distance_of_rows(a: Floats, b: Floats) -> float:
    """`frechet_distance` of rows [m, D] and [n, D], at least two each.

    Where they are fewer than D, no matrix of D x D is made.
    """
    if max(len(a), len(b)) > a.shape[1]:
        return frechet_distance(Moments.of(a), Moments.of(b))
    if len(a) > len(b):
        a, b = b, a
    mean_a, mean_b = (side.mean(axis=0, dtype=np.float64) for side in (a, b))
    centred_a, centred_b = (a - mean_a) / np.sqrt(len(a) - 1), (b - mean_b) / np.sqrt(len(b) - 1)
    across = centred_a @ centred_b.T  # [m, n]
    total = float(np.sum(centred_a**2) + np.sum(centred_b**2))
    return _distance(mean_a - mean_b, total, across @ across.T)


def _distance(step: NDArray[np.float64], total: float, product: NDArray[np.float64]) -> float:
    """From the difference of the means, the sum of the traces, and a matrix with the eigenvalues of C_a C_b."""
    root = np.sqrt(np.maximum(np.linalg.eigvalsh(product), 0)).sum()
    return max(0.0, float(step @ step + total - 2 * root))


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfDistance:
    """The Frechet distance between two random parts of the pooled set, as large as the two sides are."""

    mean: float
    least: float
    most: float
    draws: int
    """Partings behind these figures: those that left fewer than two rows on a side are not counted."""

    @classmethod
    def of(cls, distances: Sequence[float]) -> SelfDistance | None:
        """Of the distances of all draws; None without any."""
        if not distances:
            return None
        return cls(mean=float(np.mean(distances)), least=min(distances), most=max(distances), draws=len(distances))


def self_distance(pooled: Moments, parts: Sequence[Moments | None]) -> SelfDistance | None:
    """From the moments of all rows and of one random part of them a draw; the rest of them is the other part.

    Args:
        parts: None where a draw gave no row to the part.

    Returns:
        None where no draw leaves two rows on both sides.
    """
    drawn = [part for part in parts if part is not None and part.n >= 2 and pooled.n - part.n >= 2]
    return SelfDistance.of([frechet_distance(part, pooled - part) for part in drawn])


def self_distance_of_rows(rows: Floats, labels: NDArray[np.bool_]) -> SelfDistance | None:
    """The same from rows [R, D] and, for each draw, which of them are in the part: [draws, R]."""
    drawn = [label for label in labels if 2 <= label.sum() <= len(label) - 2]
    return SelfDistance.of([frechet_distance_of_rows(rows[label], rows[~label]) for label in drawn])
