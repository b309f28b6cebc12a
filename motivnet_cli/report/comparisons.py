"""Comparisons of predictions, networks and image sets, in a few lines of words."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motivnet_cli.evaluation.compare_data import DataComparison, Distances
    from motivnet_cli.evaluation.compare_models import ModelComparison
    from motivnet_cli.evaluation.results import AccuracyPair, AcrossSets, GroupTest, PredictionComparison, RunPair

_SURE = 0.05
"""Below this p one of two is called better, and groups are said to differ."""


def words_on_predictions(comparison: PredictionComparison) -> Iterator[str]:
    """Four lines: which predictions are better, by how much, the test, and the same where both have answers."""
    pair, thing = comparison.scores.all, comparison.dataset.unit
    unit = "subject" if comparison.scores.bootstrap.unit == "subject" else thing
    name_a, name_b = _names_of(comparison.a.path, comparison.b.path)
    is_a_ahead = pair.accuracy_a >= pair.accuracy_b
    ahead, behind = (name_a, name_b) if is_a_ahead else (name_b, name_a)
    shown = (
        f"{ahead} is better than {behind}" if pair.p < _SURE else f"no difference is shown between {ahead} and {behind}"
    )
    yield f"{shown}: {_shares(pair, is_a_ahead)} right of {_count(pair.n, thing)}"
    difference = f"difference: {100 * abs(pair.accuracy_a - pair.accuracy_b):.2f} points"
    if (interval := pair.difference.if_defined) is None:
        yield f"{difference}, without an interval"
    else:
        low, high = interval[1:] if is_a_ahead else (-interval[2], -interval[1])
        level = f"{100 * comparison.scores.bootstrap.level:.0f} % interval"
        yield f"{difference}, {level} {100 * low:.2f} to {100 * high:.2f} (bootstrap by {unit})"
    yield (
        f"{test_between(pair)}: p = {pair.p:.2g}; {_count(pair.table.only_a, thing)} only {name_a} has "
        f"right, {pair.table.only_b:,} only {name_b}"
    )
    if (both := comparison.scores.both_scored) is None:
        yield f"no {thing} was scored by both"
    else:
        yield f"of the {both.n:,} that both scored: {_shares(both, is_a_ahead)}, p = {both.p:.2g}"


def test_between(pair: AccuracyPair) -> str:
    """The test that `AccuracyPair.p` is of."""
    return "McNemar's exact test" if pair.subject_p is None else "exact test by subject"


def words_on_pair(pair: RunPair, num_pairs: int) -> str:
    """One line on two runs of a report, over all images.

    Args:
        num_pairs: That were tested, and for which p is corrected.
    """
    found = pair.scores.all
    difference = f"difference {100 * (found.accuracy_a - found.accuracy_b):.2f} points"
    if interval := found.difference.if_defined:
        difference += f" ({100 * interval[1]:.2f} to {100 * interval[2]:.2f})"
    corrected = f", {pair.p_holm:.2g} by Holm for {num_pairs} pairs" if num_pairs > 1 else ""
    return (
        f"{pair.a} against {pair.b}: {_shares(found, is_a_first=True)}, {difference}, {test_between(found)}: "
        f"p = {found.p:.2g}{corrected}"
    )


def words_on_groups(test: GroupTest, unit: str) -> str:
    """One line on whether groups of images or clips (the unit) differ."""
    shown = "the accuracies of the groups differ" if test.p < _SURE else "no difference between the groups is shown"
    exchanged = test.exchanged.replace("image", unit)
    return f"{shown}: p = {test.p:.2g} ({test.permutations:,} permutations of {exchanged})"


def words_on_sets(across: AcrossSets) -> Iterator[str]:
    """A line for each test of runs over several sets, and what must be known of it."""
    if across.friedman:
        ranks = ", ".join(
            f"{run} {rank:.2f}" for run, rank in zip(across.runs, across.friedman.mean_ranks, strict=True)
        )
        yield f"Friedman's test over {len(across.sets)} sets: p = {across.friedman.p:.2g}; mean ranks: {ranks}"
    for pair in across.pairs:
        corrected = f", {pair.p_holm:.2g} by Holm for {len(across.pairs)} pairs" if len(across.pairs) > 1 else ""
        yield (
            f"{pair.a} against {pair.b}: better on {pair.a_better} sets, worse on {pair.b_better}, "
            f"difference {100 * pair.mean_difference:.2f} points in the mean; Wilcoxon's signed-rank test: p = "
            f"{pair.wilcoxon_p:.2g}{corrected}"
        )
    yield from (f"note: {remark}" for remark in across.remarks)


def _shares(pair: AccuracyPair, is_a_first: bool) -> str:
    first, second = (pair.accuracy_a, pair.accuracy_b) if is_a_first else (pair.accuracy_b, pair.accuracy_a)
    return f"{100 * first:.2f} against {100 * second:.2f} %"


def _names_of(a: str, b: str) -> tuple[str, str]:
    """What to call two files: by their own names where these differ."""
    short = PurePath(a).name, PurePath(b).name
    if all(short) and short[0] != short[1]:
        return short
    return (a, b) if a != b else ("the first", "the second")


def words_on_models(comparison: ModelComparison) -> Iterator[str]:
    """How alike two networks are: the faces, their embeddings, the parameters, and what must be known of it."""
    similarity, unpaired, drift = comparison.similarity, comparison.unpaired, comparison.drift
    yield f"{comparison.a.model} and {comparison.b.model} on {_count(similarity.n, 'face')}" + (
        f"; {unpaired.a} and {unpaired.b} more have no partner" if unpaired.a or unpaired.b else ""
    )
    yield (
        f"embeddings: debiased linear CKA {_number(similarity.linear_cka_debiased)} (0 unrelated, 1 alike), plain "
        f"{_number(similarity.linear_cka)}"
        + (f", mean cosine {_number(similarity.cosine.mean)}" if similarity.cosine else "")
    )
    if drift is None:
        yield "parameters: none in common"
    else:
        yield (
            f"parameters: {_number(drift.overall.relative)} of their norm from those of {comparison.b.model}, over "
            f"{drift.overall.num_parameters:,} that both have"
        )
    yield from (f"note: {remark}" for remark in comparison.remarks)


def words_on_data(comparison: DataComparison) -> Iterator[str]:
    """How far two image sets are from each other, in all and within each emotion, and what must be known of it."""
    distances, inputs = comparison.distances, comparison.n_inputs
    yield (
        f"a: {_count(distances.n.a, 'face')} of {_count(inputs.a, 'input')}; b: {_count(distances.n.b, 'face')} of "
        f"{_count(inputs.b, 'input')}; embeddings of {comparison.a.model}"
    )
    yield _words_on_frechet(distances)
    tests = (("kernel MMD^2", distances.mmd_squared), ("KID", distances.kid))
    named = [f"{name} {_number(test.value)} (p = {test.p_value:.3f})" for name, test in tests]
    overlap = distances.neighbour_overlap
    yield f"{', '.join(named)}, neighbours {_number(overlap.value)} of an even mixture (p = {overlap.p_value:.3f})"
    accuracy, auroc = distances.classifier.accuracy, distances.classifier.auroc
    yield (
        f"a classifier tells them apart with accuracy {_percent(accuracy.value)} (chance is 50 %, p = "
        f"{accuracy.p_value:.3f}), AUROC {auroc.value:.3f}"
    )
    if comparison.emotions is not None:
        yield f"emotions: their shares differ by {_percent(comparison.emotions.total_variation)} of the faces"
    for emotion, within in comparison.by_emotion.items():
        itself, accuracy = within.frechet_self_distance, within.classifier.accuracy
        parts = "" if itself is None else f" (random parts {_number(itself.mean)})"
        yield (
            f"{emotion}, {within.n.a:,} and {within.n.b:,} faces: Frechet distance {_number(within.frechet_distance)}"
            f"{parts}, classifier {_percent(accuracy.value)} (p = {accuracy.p_value:.3f})"
        )
    yield from (f"note: {remark}" for remark in comparison.remarks)


def _words_on_frechet(distances: Distances) -> str:
    itself = distances.frechet_self_distance
    words = f"Frechet distance {_number(distances.frechet_distance)}"
    if itself is None:
        return words
    span = f"{_number(itself.least)} to {_number(itself.most)}"
    return f"{words}, where random parts of both are {_number(itself.mean)} apart ({span})"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _number(value: float | None) -> str:
    """Four significant digits."""
    return "undefined" if value is None else f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
