"""Predictions matched to a labelled set -> a run with its scores, and what is said of the set.

No file is read here. Formulas are in `metrics` and `calibration`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.calibration import SCALED, at_temperature, fit_temperature
from motivnet_cli.evaluation.datasets.cards import CARDS as DATASETS
from motivnet_cli.evaluation.intervals import Units
from motivnet_cli.evaluation.metrics import score
from motivnet_cli.evaluation.results import MAX_NAMES, DatasetSummary, Missed, Mistake, Run, TemperatureScaling
from motivnet_cli.evaluation.soft import score_votes, vote_shares

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from motivnet_cli.evaluation.datasets.labelled import Labelled, LabelledSet
    from motivnet_cli.evaluation.matching import Matched
    from motivnet_cli.evaluation.predictions import Predictions
    from motivnet_cli.evaluation.results import Scores

MAX_MISTAKES = 24
"""How many mistakes a run names: the most confident ones."""


class Predicted(NamedTuple):
    """Predictions, and which of them are of the labelled images."""

    predictions: Predictions
    matched: Matched
    remarks: tuple[str, ...]
    """What a reader must know first."""


def summary_of(labelled: LabelledSet) -> DatasetSummary:
    """What a reader of the figures must know of the set."""
    card = DATASETS[labelled.dataset]
    counts = Counter(image.label for image in labelled.images)
    names = "\n".join(f"{image.name}\t{labelled.classes[image.label]}" for image in labelled.images)
    return DatasetSummary(
        name=labelled.dataset,
        title=card.title,
        root=labelled.root,
        layout=labelled.layout,
        split=labelled.split,
        protocol=labelled.protocol,
        classes=labelled.classes,
        label_map=labelled.label_map,
        terms=card.terms,
        where=card.where,
        unit=labelled.unit,
        n=len(labelled.images),
        counts={name: counts[label] for label, name in enumerate(labelled.classes)},
        dropped=labelled.dropped,
        remarks=labelled.remarks,
        images_sha256=hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest(),
    )


def labels_of(labelled: LabelledSet) -> NDArray[np.int64]:
    """[N], ids of the set's classes."""
    return np.array([image.label for image in labelled.images], np.int64)


def subjects_of(labelled: LabelledSet) -> NDArray[np.str_] | None:
    """Who is in each image, [N], where the set says so of all."""
    subjects = [image.subject for image in labelled.images if image.subject]
    return np.array(subjects) if len(subjects) == len(labelled.images) else None


def score_run(
    name: str,
    predicted: Predicted,
    labelled: LabelledSet,
    *,
    path_of: Callable[[Labelled], str],
    resamples: int,
    seed: int,
) -> Run:
    """The run of some predictions.

    Args:
        path_of: The file that shows an image, absolute.
        resamples: As for `metrics.score`.
        seed: The same.
    """
    matched = predicted.matched
    labels = labels_of(labelled)
    units = Units(subjects_of(labelled), len(labels), resamples=resamples, seed=seed)
    votes = [image.votes for image in labelled.images if image.votes is not None]
    missed = _why_missed(matched)
    return Run(
        name=name,
        predictions=predicted.predictions.origin,
        scores=scores_of(labelled, matched.predicted, matched.probabilities, resamples, seed),
        soft=score_votes(vote_shares(votes, labelled.classes), labels, matched.predicted, matched.probabilities, units)
        if len(votes) == len(labels)
        else None,
        missed=tuple(Missed(labelled.images[index].name, missed[index]) for index in [*missed][:MAX_NAMES]),
        missed_by_reason=missed_by_reason(matched),
        matching=matched.summary,
        mistakes=tuple(_mistakes(matched, labels, labelled, path_of)),
    )


def scores_of(
    labelled: LabelledSet,
    predicted: NDArray[np.int64],
    probabilities: NDArray[np.float64] | None,
    resamples: int,
    seed: int,
) -> Scores:
    """`metrics.score` of answers for the images of a set."""
    return score(
        labels_of(labelled),
        predicted,
        probabilities,
        classes=labelled.classes,
        groups=subjects_of(labelled),
        resamples=resamples,
        seed=seed,
    )


def missed_by_reason(matched: Matched) -> dict[str, int]:
    """How many images have no prediction, by the reason, the most frequent first."""
    return dict(Counter(_why_missed(matched).values()).most_common())


def _why_missed(matched: Matched) -> dict[int, str]:
    """The images without a prediction, by their index."""
    missed = np.flatnonzero(matched.predicted < 0).tolist()
    return {index: matched.reasons.get(index, "no prediction") for index in missed}


def scale_run(
    run: Run,
    predicted: Predicted,
    labelled: LabelledSet,
    *,
    fitting: Predicted,
    other: LabelledSet,
    can_predict: NDArray[np.bool_],
    resamples: int,
    seed: int,
) -> Run:
    """The run with what a temperature that is fitted on another split does to it.

    Args:
        predicted: What the run was scored by.
        fitting: The predictions for the other split.
        other: The other split.
        can_predict: [C], whether each class may be predicted; the others' probabilities stay 0.

    Raises:
        ConfigError: There are no probabilities, or no image to fit a temperature on.
    """
    fitted, judged = fitting.matched, predicted.matched
    if fitted.probabilities is None or judged.probabilities is None:
        raise ConfigError(
            f"{predicted.predictions.source!r} holds labels and no probabilities: --calibrate-on fits a temperature to "
            "probabilities, so leave it out"
        )
    is_used = fitted.predicted >= 0
    if not is_used.any():
        raise ConfigError(f"no image of the split {other.split!r} has a prediction to fit a temperature on")
    kept = np.flatnonzero(can_predict)
    temperature = fit_temperature(
        np.searchsorted(kept, labels_of(other)[is_used]), fitted.probabilities[is_used][:, kept]
    )
    scaled = np.zeros_like(judged.probabilities)  # [N, C]
    scaled[:, kept] = at_temperature(judged.probabilities[:, kept], temperature.value)
    after = scores_of(labelled, judged.predicted, scaled, resamples, seed)
    scaling = TemperatureScaling(
        split=other.split,
        n=int(is_used.sum()),
        n_missed=int((~is_used).sum()),
        temperature=temperature.value,
        before={name: run.scores.scored[name] for name in SCALED},
        after={name: after.scored[name] for name in SCALED},
        remarks=temperature.remarks,
    )
    return replace(run, temperature_scaling=scaling)


def _mistakes(
    matched: Matched, labels: NDArray[np.int64], labelled: LabelledSet, path_of: Callable[[Labelled], str]
) -> list[Mistake]:
    """The wrong predictions with the highest probability; none where the tool gives labels only."""
    if matched.probabilities is None:
        return []
    images, classes = labelled.images, labelled.classes
    confidence = np.nan_to_num(matched.probabilities).max(axis=1)  # [N]
    wrong = np.flatnonzero((matched.predicted >= 0) & (matched.predicted != labels))
    return [
        Mistake(
            image=images[index].name,
            path=path_of(images[index]),
            box=images[index].box,
            label=classes[labels[index]],
            predicted=classes[matched.predicted[index]],
            confidence=round(float(confidence[index]), 4),
        )
        for index in wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_MISTAKES].tolist()
    ]
