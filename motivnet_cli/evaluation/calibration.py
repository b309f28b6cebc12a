"""Distributions at another temperature, or over the classes of a set alone.

Nothing here knows of files or names: the arguments are arrays. Neither changes what `metrics` computes, only what it is
computed of; each must be said beside the figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

from motivnet_cli.evaluation.metrics import FLOOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

TEMPERATURES = (0.05, 20.0)
"""Where a temperature is looked for. Networks have 1 to 3 (Guo et al. 2017, arXiv 1706.04599)."""
_FLAT = 1e-9
"""A derivative below it is none: where every answer is right, it nears 0 and never passes it."""


SCALED = ("nll", "ece", "brier")
"""The figures that are given before and after. Accuracy and all that goes by the predicted class stay as they are."""


class Temperature(NamedTuple):
    """The temperature with the least mean negative log-likelihood on some images."""

    value: float
    remarks: tuple[str, ...] = ()
    """That the value means nothing, where one beyond TEMPERATURES would do better: as where every answer is right."""


def fit_temperature(labels: Ints, probabilities: Floats) -> Temperature:
    """The temperature T whose softmax(log q / T) gives the labels the highest likelihood.

    Guo et al. 2017 (arXiv 1706.04599), section 4.2. The logarithms of probabilities are logits up to a constant of
    each row, which the softmax takes away. The mean negative log-likelihood is convex in b = 1 / T, so its derivative,
    the mean over images of E[log q] at b less the label's log q, rises through 0 once. Where all classes of every image
    are alike no temperature changes anything: 1.

    Args:
        labels: [M], M at least 1.
        probabilities: [M, C], rows sum to 1. Below `metrics.FLOOR` they count as that.
    """
    logits = np.log(np.maximum(probabilities, FLOOR))  # [M, C]
    if not np.ptp(logits, axis=1).any():
        return Temperature(1.0)
    own = float(logits[np.arange(len(labels)), labels].mean())

    def derivative(b: float) -> float:
        expected: Floats = (softmax(logits * b, axis=1) * logits).sum(axis=1)  # [M]
        return float(expected.mean()) - own

    coldest, hottest = TEMPERATURES
    beyond = f"no temperature from {coldest:g} to {hottest:g} is best: the one given means nothing"
    if derivative(1 / coldest) < _FLAT:
        return Temperature(coldest, (beyond,))
    if derivative(1 / hottest) > -_FLAT:
        return Temperature(hottest, (beyond,))
    return Temperature(1 / float(brentq(derivative, 1 / hottest, 1 / coldest, xtol=1e-10)))


def at_temperature(probabilities: Floats, temperature: float) -> Floats:
    """softmax(log q / T) of each row, [N, C]; rows of NaN stay so. The order of the classes does not change."""
    scaled: Floats = softmax(np.log(np.maximum(probabilities, FLOOR)) / temperature, axis=1)
    return scaled


def among(probabilities: Floats, is_allowed: Bools) -> Floats:
    """The rows with other classes set to 0 and divided by their sum, [N, C].

    A row of NaN stays so, and one without any probability for the allowed classes becomes one: it has no answer.

    Args:
        probabilities: [N, C].
        is_allowed: [C].
    """
    kept = np.where(is_allowed, probabilities, 0.0)  # [N, C]
    totals = kept.sum(axis=1, keepdims=True)  # [N, 1]
    rows: Floats = np.divide(kept, totals, out=np.full_like(kept, np.nan), where=totals > 0)
    return rows
