"""Comparisons of networks and of image sets, in a few lines of words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motivnet_cli.evaluation.compare_data import DataComparison, Distances
    from motivnet_cli.evaluation.compare_models import ModelComparison


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
    yield _words_on_classifier(distances)
    if comparison.emotions is not None:
        yield f"emotions: their shares differ by {comparison.emotions.total_variation:.1%} of the faces"
    for emotion, within in comparison.by_emotion.items():
        yield (
            f"{emotion} ({within.n.a:,} and {within.n.b:,} faces): {_words_on_frechet(within)}; "
            f"{_words_on_classifier(within)}"
        )
    yield from (f"note: {remark}" for remark in comparison.remarks)


def _words_on_frechet(distances: Distances) -> str:
    itself = distances.frechet_self_distance
    words = f"Frechet distance {_number(distances.frechet_distance)}"
    if itself is None:
        return words
    span = f"{_number(itself.least)} to {_number(itself.most)}"
    return f"{words}, where random parts of both are {_number(itself.mean)} apart ({span})"


def _words_on_classifier(distances: Distances) -> str:
    accuracy, auroc = distances.classifier.accuracy, distances.classifier.auroc
    return (
        f"a classifier tells them apart with accuracy {accuracy.value:.1%} (chance 50 %, p = {accuracy.p_value:.3f}), "
        f"AUROC {auroc.value:.3f}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _number(value: float | None) -> str:
    """Four significant digits."""
    return "undefined" if value is None else f"{value:.4g}"
