"""How alike two networks are, computed from arrays: their embeddings of the same faces, and their parameters.

Embeddings come in batches, of which sums are kept; how they fall into batches changes results by rounding only. Every
definition, with its formula and source, is in docs/similarity.md.
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
