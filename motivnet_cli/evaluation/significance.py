"""Whether runs differ: paired tests on one labelled set, rank tests over several sets, and Holm's correction.

Formulas and sources are in docs/metrics.md.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import scipy.stats

from motivnet_cli.evaluation.metrics import paired
from motivnet_cli.evaluation.permutation import PERMUTATIONS, sign_flip_p
from motivnet_cli.evaluation.results import AcrossSets, Friedman, RunPair, SetsPair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from motivnet_cli.evaluation.intervals import Subjects
    from motivnet_cli.evaluation.results import Evaluation

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

FEW_SETS = 5
"""Below this many sets a rank test can hardly find a difference: with four, no p of Wilcoxon's is below 0.125."""


def holm(p_values: Sequence[float]) -> list[float]:
    """The p of each test, corrected for their number (Holm, *Scand. J. Stat.* 6 (1979)): step down, at most 1."""
    p = np.asarray(p_values, np.float64)  # [K]
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return [float(each) for each in corrected]


def between_runs(
    labels: ArrayLike,
    predicted: Mapping[str, ArrayLike],
    *,
    num_classes: int,
    groups: Subjects | None = None,
    resamples: int,
    seed: int,
) -> tuple[RunPair, ...]:
    """Every pair of runs on the same images, tested as `metrics.paired` does, and corrected for the number of pairs.

    Args:
        labels: [N], as for `metrics.paired`.
        predicted: Run -> [N].
        groups: [N], of subjects, or None.
    """
    pairs = [
        (a, b, paired(labels, predicted[a], predicted[b], num_classes=num_classes, groups=groups,
                      resamples=resamples, seed=seed))
        for a, b in itertools.combinations(predicted, 2)
    ]  # fmt: skip
    corrected = holm([scores.all.p for _, _, scores in pairs])
    return tuple(RunPair(a=a, b=b, p_holm=p, scores=scores) for (a, b, scores), p in zip(pairs, corrected, strict=True))


def across_sets(evaluations: Sequence[Evaluation]) -> AcrossSets | None:
    """Whether runs differ over sets in their accuracy over all images; a set counts once, whatever its size.

    Two runs are compared by Wilcoxon's signed-rank test, three or more by Friedman's test and then each pair by
    Wilcoxon's with Holm's correction (Demsar, *J. Mach. Learn. Res.* 7 (2006); Benavoli et al., ibid. 17 (2016)).

    Returns:
        None unless there are two sets and two runs that all of them have.
    """
    figures = [{run.name: run.scores.accuracy for run in evaluation.runs} for evaluation in evaluations]
    runs = [name for name in figures[0] if all(name in each for each in figures)] if figures else []
    if len(evaluations) < 2 or len(runs) < 2:
        return None
    values = np.array([[each[name] for name in runs] for each in figures])  # [sets, runs]
    pairs = list(itertools.combinations(range(len(runs)), 2))
    p_values = [signed_rank_p(values[:, a], values[:, b]) for a, b in pairs]
    tested = [
        SetsPair(
            a=runs[a],
            b=runs[b],
            mean_difference=float((values[:, a] - values[:, b]).mean()),
            a_better=int((values[:, a] > values[:, b]).sum()),
            b_better=int((values[:, a] < values[:, b]).sum()),
            wilcoxon_p=p,
            p_holm=p_holm,
        )
        for (a, b), p, p_holm in zip(pairs, p_values, holm(p_values), strict=True)
    ]
    remarks = []
    if len(evaluations) < FEW_SETS:
        remarks.append(
            f"{len(evaluations)} sets are few: no p of a pair can be below {2.0 ** (1 - len(evaluations)):g}, so that "
            "these tests say little"
        )
    return AcrossSets(
        figure="accuracy",
        sets=tuple(evaluation.dataset.name for evaluation in evaluations),
        runs=tuple(runs),
        friedman=friedman(values) if len(runs) > 2 else None,
        pairs=tuple(tested),
        remarks=tuple(remarks),
    )


def signed_rank_p(a: ArrayLike, b: ArrayLike) -> float:
    """Wilcoxon's signed-rank test of paired values (*Biometrics Bull.* 1 (1945)), exact also with ties.

    Pairs without a difference are left out, as Wilcoxon did; equal differences share their mean rank.

    Args:
        a: [S].
        b: [S].
    """
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    # Shares of counts differ in the last digit where they are equal: 0.3 - 0.1 is not 0.2.
    difference = np.round(difference[~np.isclose(difference, 0, atol=1e-12)], 12)
    doubled = np.rint(2 * scipy.stats.rankdata(np.abs(difference)))  # whole numbers: mean ranks are halves
    return sign_flip_p((np.sign(difference) * doubled).astype(np.int64))


def friedman(values: ArrayLike, *, permutations: int = PERMUTATIONS, seed: int = 0) -> Friedman:
    """Friedman's test (*J. Am. Stat. Assoc.* 32 (1937)), with p from permutations of each set's ranks.

    The chi-squared distribution that the statistic tends to is a bad approximation for few sets.

    Args:
        values: [S, K], the figure of K runs on S sets; the best of a set has the lowest rank.
    """
    ranks = scipy.stats.rankdata(-np.asarray(values, np.float64).round(12), axis=1)  # [S, K]
    num_sets, num_runs = ranks.shape
    mean = (num_runs + 1) / 2
    spread = float(((ranks - mean) ** 2).sum())
    if spread == 0:  # all runs are equal on all sets
        return Friedman(0.0, 1.0, permutations, seed, tuple(float(each) for each in ranks.mean(axis=0)))
    scale = (num_runs - 1) / spread  # corrects for ties
    statistic = float(((ranks.sum(axis=0) - num_sets * mean) ** 2).sum() * scale)
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.broadcast_to(ranks, (permutations, *ranks.shape)), axis=2)  # [B, S, K]
    drawn = ((shuffled.sum(axis=1) - num_sets * mean) ** 2).sum(axis=1) * scale  # [B]
    p = (1 + int((drawn >= statistic - 1e-9).sum())) / (1 + permutations)
    return Friedman(statistic, p, permutations, seed, tuple(float(each) for each in ranks.mean(axis=0)))
