"""Accuracy under corruption: which images each run has right -> the curve over severities, its means, their intervals.

Formulas and sources are in docs/robustness.md. Nothing here knows what a corruption does to a picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from motivnet_cli.evaluation.intervals import percentile
from motivnet_cli.evaluation.metrics import ratio
from motivnet_cli.evaluation.results import Robustness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from motivnet_cli.evaluation.intervals import Units
    from motivnet_cli.evaluation.results import CorruptedRun, Interval

    Floats = NDArray[np.float64]


def robustness(
    run: str, is_hit: NDArray[np.bool_], corrupted: Sequence[CorruptedRun], hits: NDArray[np.bool_], units: Units
) -> Robustness:
    """The means of the accuracies over corruptions and severities, all runs resampled together.

    Args:
        run: Name of the run over the images as they are.
        is_hit: [N], which images it has right; a miss is wrong.
        corrupted: R runs: each severity of the first corruption, then the same severities of the next.
        hits: [R, N], which images each of them has right.
        units: Of the N images.
    """
    names = tuple(dict.fromkeys(each.corruption for each in corrupted))
    severities = tuple(dict.fromkeys(each.severity for each in corrupted))
    grid = [(each.corruption, each.severity) for each in corrupted]
    assert grid == [(name, severity) for name in names for severity in severities], "every corruption has the same"
    counts = np.vstack([is_hit, hits]).astype(np.float64)  # [1 + R, N]
    value = _means(counts.mean(axis=1, keepdims=True), len(names))
    draws = [_means(_shares(counts, weights), len(names)) for weights in units.resampled()]
    drawn = _Means(*(np.concatenate(figures, axis=-1) for figures in zip(*draws, strict=True)))
    return Robustness(
        run=run,
        corruptions=names,
        severities=severities,
        mean_accuracy=_interval(value.mean, drawn.mean),
        relative_accuracy=_interval(value.relative, drawn.relative),
        by_corruption=dict(zip(names, map(_interval, value.corruptions, drawn.corruptions), strict=True)),
        by_severity=dict(zip(map(str, severities), map(_interval, value.severities, drawn.severities), strict=True)),
        runs=tuple(corrupted),
        bootstrap=units.bootstrap,
    )


class _Means(NamedTuple):
    """The figures of B resamples; of the sample itself, B is 1."""

    corruptions: Floats
    """[C, B], the mean over severities."""
    severities: Floats
    """[S, B], the mean over corruptions."""
    mean: Floats
    """[B]."""
    relative: Floats
    """[B]; NaN where the images as they are have an accuracy of 0."""


def _means(accuracies: Floats, num_corruptions: int) -> _Means:
    """The figures of the accuracies [1 + R, B], of the images as they are first."""
    grid = accuracies[1:].reshape(num_corruptions, -1, accuracies.shape[1])  # [C, S, B]
    clean, mean = accuracies[0], grid.mean(axis=(0, 1))  # [B]
    return _Means(grid.mean(axis=1), grid.mean(axis=0), mean, ratio(mean, clean))


def _shares(counts: Floats, weights: NDArray[np.int32]) -> Floats:
    """The accuracy of each run in each resample, [1 + R, B]; NaN where no image was drawn."""
    hits = counts @ weights  # [1 + R, B]
    return ratio(hits, np.broadcast_to(weights.sum(axis=0), hits.shape))


def _interval(value: Floats, replicates: Floats) -> Interval:
    return percentile(float(value[0]), replicates)
