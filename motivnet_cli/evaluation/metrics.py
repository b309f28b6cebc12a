"""Labels and predictions -> figures with bootstrap intervals, over all labelled images and over those scored.

Nothing here knows of files, names or networks: the arguments are arrays. Formulas and sources are in docs/metrics.md.
Point values come from scikit-learn where it has them. The bootstrap needs a thousand of each, so there the same
formulas run on weighted counts. An image without a prediction is a miss (-1): wrong in `all`, left out of `scored`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse
import scipy.stats
from sklearn import metrics as sk

from motivnet_cli.evaluation.intervals import RESAMPLES, Units, percentile
from motivnet_cli.evaluation.permutation import sign_flip_p
from motivnet_cli.evaluation.results import (
    AccuracyPair,
    Agreement,
    Bin,
    ClassScore,
    Confusion,
    Interval,
    PairedScores,
    ScoredClassScore,
    Scores,
)
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from motivnet_cli.evaluation.intervals import Subjects

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

NUM_BINS = 15
"""Of the reliability diagram and the calibration error (Guo et al. 2017, arXiv 1706.04599, section 4)."""
FLOOR = float(np.finfo(np.float64).eps)
"""2.2e-16: what a probability below it counts as in a logarithm, as in scikit-learn's log_loss."""
FEW_IMAGES = 10
"""A class with fewer labelled images makes a mean over the classes, and its interval, unsure."""


def score(
    labels: ArrayLike,
    predicted: ArrayLike,
    probabilities: ArrayLike | None,
    *,
    classes: Sequence[str] = EMOTIONS,
    groups: Subjects | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scores:
    """Every figure with its interval; the same seed gives the same intervals.

    UAR and macro-F1 are means over the classes that occur in the labels; macro AUROC over the classes that some
    scored images have and others have not. In a resample, the same holds of the resampled images.

    Args:
        labels: [N], ids from 0, in the order of `classes`.
        predicted: [N], the same, or -1 for a miss.
        probabilities: [N, C], rows sum to 1, rows of misses are not looked at; None for labels only.
        classes: The names of the C classes, at least two.
        groups: [N] names of subjects; they are drawn with all their images. An image whose name is None is a
            subject of its own. None draws images.

    Raises:
        ValueError: Shapes differ, N is 0, an id is out of range, or the row of a scored image is no distribution.
    """
    names = tuple(classes)
    y_true, y_pred = _checked_ids(labels, predicted, len(names))  # [N]
    is_scored = y_pred >= 0
    y_prob = None if probabilities is None else _checked_probabilities(probabilities, is_scored, len(names))  # [M, C]
    has_top2 = _in_top2(y_true, y_pred, y_prob)
    units = Units(groups, len(y_true), resamples=resamples, seed=seed)
    sums = _Sums(y_true, y_pred, has_top2, y_prob, num_classes=len(names))
    of_all, of_scored = sums.draw(units)

    values, values_scored = _points(y_true, y_pred), {}
    hits = {"accuracy": y_true == y_pred}
    aurocs = [math.nan] * len(names)
    if y_prob is not None:
        hits["top2_accuracy"] = has_top2
    if is_scored.any():
        values_scored = _points(y_true[is_scored], y_pred[is_scored])
        if y_prob is not None:
            aurocs = _aurocs(y_true[is_scored], y_prob)
            values_scored |= _points_of_distributions(y_true[is_scored], y_prob, aurocs)
            values_scored["ece"] = sums.ece_of_all()
    return Scores(
        n=len(y_true),
        n_scored=int(is_scored.sum()),
        n_missed=int((~is_scored).sum()),
        classes=names,
        all=_intervals(_HEADLINES, values, hits, np.ones(len(y_true), np.bool_), of_all, units),
        scored=_intervals(_SCORED_HEADLINES, values_scored, hits, is_scored, of_scored, units),
        per_class=_per_class(y_true, y_pred, names),
        per_class_scored=_per_class_scored(y_true[is_scored], y_pred[is_scored], names, aurocs),
        confusion=_confusion(y_true, y_pred, names),
        reliability=sums.reliability() if y_prob is not None else (),
        bootstrap=units.bootstrap,
        remarks=tuple(_remarks(y_true, is_scored, y_prob, names, units)),
    )


def paired(
    labels: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    *,
    num_classes: int = len(EMOTIONS),
    groups: Subjects | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedScores:
    """Whether two predictions of the same images differ: exact tests, and the bootstrapped difference.

    McNemar's test takes images as independent; where they come in subjects, a second test exchanges the two for whole
    subjects.

    Args:
        labels: [N], ids from 0, below `num_classes`.
        a: [N], the same, or -1 for a miss.
        b: The same of the other.
        groups: As for `score`.

    Raises:
        ValueError: Shapes differ, N is 0, or an id is out of range.
    """
    y_true, y_pred_a = _checked_ids(labels, a, num_classes)  # [N]
    _, y_pred_b = _checked_ids(labels, b, num_classes)
    units = Units(groups, len(y_true), resamples=resamples, seed=seed)
    is_both = (y_pred_a >= 0) & (y_pred_b >= 0)
    everywhere = np.ones(len(y_true), np.bool_)
    hits = y_pred_a == y_true, y_pred_b == y_true
    return PairedScores(
        all=_compared(*hits, everywhere, units),
        both_scored=_compared(*hits, is_both, units) if is_both.any() else None,
        bootstrap=units.bootstrap,
    )


def point_values(labels: Ints, y_prob: Floats) -> dict[str, float]:
    """The figures of `Scores.scored` but top2_accuracy and ece, without intervals: for the epochs of a training.

    Args:
        labels: [N], ids from 0.
        y_prob: [N, C], rows sum to 1.
    """
    y_pred = y_prob.argmax(axis=1)
    figures = {"accuracy": float((labels == y_pred).mean()), **_points(labels, y_pred)}
    return figures | _points_of_distributions(labels, y_prob, _aurocs(labels, y_prob))


# ---- point values -----------------------------------------------------------------------------------------

_HEADLINES = ("accuracy", "uar", "macro_f1", "weighted_f1", "top2_accuracy", "kappa")
_SCORED_HEADLINES = (*_HEADLINES, "auroc_macro", "ece", "brier", "nll")
"""The last four need a distribution for each image."""


def _points(y_true: Ints, y_pred: Ints) -> dict[str, float]:
    _, recall, f1, support = sk.precision_recall_fscore_support(
        y_true, y_pred, labels=np.unique(y_true), average=None, zero_division=0
    )
    is_constant = len(np.union1d(y_true, y_pred)) == 1  # chance alone agrees everywhere: kappa is 0 / 0
    return {
        "uar": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "weighted_f1": float(np.average(f1, weights=support)),
        "kappa": math.nan if is_constant else float(sk.cohen_kappa_score(y_true, y_pred)),
    }


def _points_of_distributions(y_true: Ints, y_prob: Floats, aurocs: list[float]) -> dict[str, float]:
    return {
        "auroc_macro": float(_mean_of_defined(np.array(aurocs))),
        "brier": float(sk.brier_score_loss(y_true, y_prob, labels=range(y_prob.shape[1]), scale_by_half=False)),
        "nll": float(negative_logs(y_true, y_prob).mean()),
    }


def negative_logs(labels: Ints, y_prob: Floats) -> Floats:
    """-log of the probability that each label [M] was given in [M, C], at most -log(FLOOR) = 36.04; [M]."""
    logs: Floats = 0.0 - np.log(np.maximum(y_prob[np.arange(len(labels)), labels], FLOOR))
    return logs


def bin_of(confidence: Floats) -> Ints:
    """The number of each bin, [M]: (low, high], and 0 in the first, as Guo et al. have it."""
    bins: Ints = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    return bins


def calibration_error(sums: Floats) -> Floats:
    """The expected calibration error of each resample, [B].

    Args:
        sums: [3 * NUM_BINS, B]: the images in each bin, their sum of confidence, and that of what they are right.
    """
    n, confidence, hits = sums.reshape(3, NUM_BINS, -1)  # [bins, B] each
    return ratio(np.abs(hits - confidence).sum(axis=0), n.sum(axis=0))


def reliability(sums: Floats) -> tuple[Bin, ...]:
    """The bins of the same sums, with B = 1."""
    columns = zip(*sums.reshape(3, NUM_BINS).tolist(), strict=True)
    return tuple(
        Bin(k / NUM_BINS, (k + 1) / NUM_BINS, int(n), confidence / n if n else None, hits / n if n else None)
        for k, (n, confidence, hits) in enumerate(columns)
    )


def _in_top2(y_true: Ints, y_pred: Ints, y_prob: Floats | None) -> Bools:
    """Whether the label is among the two most probable classes, [N].

    Of equals the predicted class goes first, then the lower id.

    Args:
        y_pred: [N], -1 for a miss.
        y_prob: [M, C] of the M scored images; false for all others.
    """
    is_among = np.zeros(len(y_true), np.bool_)
    if y_prob is not None:
        is_scored = y_pred >= 0
        labels, called = y_true[is_scored][:, None], y_pred[is_scored][:, None]  # [M, 1]
        own = np.take_along_axis(y_prob, labels, axis=1)  # [M, 1]
        ids = np.arange(y_prob.shape[1])
        goes_first = (labels != called) & ((ids < labels) | (ids == called))  # [M, C], of equals
        is_ahead = (y_prob > own) | ((y_prob == own) & goes_first)
        is_among[is_scored] = is_ahead.sum(axis=1) < 2
    return is_among


def _aurocs(y_true: Ints, y_prob: Floats) -> list[float]:
    """One class against the rest; NaN where all images have the class, or none."""
    return [
        float(sk.roc_auc_score(y_true == c, y_prob[:, c])) if 0 < (y_true == c).sum() < len(y_true) else math.nan
        for c in range(y_prob.shape[1])
    ]


def _per_class(y_true: Ints, y_pred: Ints, classes: tuple[str, ...]) -> tuple[ClassScore, ...]:
    if not len(y_true):
        return tuple(ClassScore(name, 0, None, None, None) for name in classes)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        y_true, y_pred, labels=range(len(classes)), average=None, zero_division=np.nan
    )
    return tuple(
        ClassScore(
            name,
            int(support[c]),
            _defined(precision[c]),
            _defined(recall[c]),
            _defined(f1[c]) if support[c] else None,
        )
        for c, name in enumerate(classes)
    )


def _per_class_scored(
    y_true: Ints, y_pred: Ints, classes: tuple[str, ...], aurocs: list[float]
) -> tuple[ScoredClassScore, ...]:
    return tuple(
        ScoredClassScore(row.class_, row.support, row.precision, row.recall, row.f1, _defined(auroc))
        for row, auroc in zip(_per_class(y_true, y_pred, classes), aurocs, strict=True)
    )


def _confusion(y_true: Ints, y_pred: Ints, classes: tuple[str, ...]) -> Confusion:
    num_classes = len(classes)
    with_missed = np.where(y_pred < 0, num_classes, y_pred)
    counts = sk.confusion_matrix(y_true, with_missed, labels=range(num_classes + 1))[:num_classes]  # [C, C + 1]
    return Confusion(classes, (*classes, "missed"), tuple(tuple(row) for row in counts.tolist()))


def _remarks(
    y_true: Ints, is_scored: Bools, y_prob: Floats | None, classes: tuple[str, ...], units: Units
) -> Iterator[str]:
    """What a reader of the figures must know.

    Args:
        y_prob: [M, C] of the M scored images, or None.
    """
    supports = np.bincount(y_true, minlength=len(classes)).tolist()
    few = [f"{name} ({n})" for name, n in zip(classes, supports, strict=True) if 0 < n < FEW_IMAGES]
    if few:
        yield (
            f"fewer than {FEW_IMAGES} labels of {', '.join(few)}: means over the classes lean on these, and "
            "their intervals are too narrow"
        )
    if y_prob is not None and len(y_prob):
        never = [name for name, n, most in zip(classes, supports, y_prob.max(axis=0), strict=True) if n and not most]
        if never:
            yield (
                f"the probability of {', '.join(never)} is 0 everywhere: these predictions have no such class, and "
                "can only be wrong where it is the label"
            )
    if units.bootstrap.units < 2:
        yield f"one {units.bootstrap.unit} in all: how figures would vary with others cannot be known"
    if y_prob is not None:
        own = y_prob[np.arange(len(y_prob)), y_true[is_scored]]  # [M]
        if at_floor := int((own < FLOOR).sum()):
            yield (
                f"the probability of the label is 0 or below {FLOOR:.1e} in {at_floor} of the scored images: each "
                f"counts as {-math.log(FLOOR):.1f} in nll, which so depends on how the predictions were rounded"
            )


class Calibration(NamedTuple):
    """How sure the predictions of n scored images are on average, and how often right."""

    n: int
    confidence: float
    accuracy: float


def calibration(bins: Sequence[Bin]) -> Calibration:
    """Over the images of all bins; there must be some."""
    filled = [(bin_.n, bin_.confidence, bin_.accuracy) for bin_ in bins if bin_.n]
    n = sum(n for n, _, _ in filled)
    confidence = sum(n * confidence for n, confidence, _ in filled if confidence is not None) / n
    accuracy = sum(n * accuracy for n, _, accuracy in filled if accuracy is not None) / n
    return Calibration(n, confidence, accuracy)


# ---- the bootstrap ----------------------------------------------------------------------------------------


class _Sums:
    """The headlines of resampled images, from how often each image was drawn.

    All but the AUROC are functions of K sums over images, so a matrix product gives those of many resamples. The sums
    are C x (C + 1) cells of the confusion matrix, the top-2 hits, squared errors, negative logarithms, then of the bins
    the numbers, the sums of confidence, and the hits.

    Args:
        y_true: [N].
        y_pred: [N], -1 for a miss.
        has_top2: [N].
        y_prob: [M, C] of the M scored images, or None.
    """

    def __init__(self, y_true: Ints, y_pred: Ints, has_top2: Bools, y_prob: Floats | None, *, num_classes: int) -> None:
        self._is_scored = y_pred >= 0
        self._num_classes = c = num_classes
        self._top2 = c * (c + 1)
        self._means = {"brier": self._top2 + 1, "nll": self._top2 + 2}
        first_bin = self._top2 + 3
        self._bins = slice(first_bin, first_bin + 3 * NUM_BINS)
        n = len(y_true)
        cell = y_true * (c + 1) + np.where(self._is_scored, y_pred, c)  # [N], of the flattened confusion matrix
        entries = [
            (cell, np.arange(n), np.ones(n)),
            (np.full(n, self._top2), np.arange(n), has_top2.astype(np.float64)),
        ]
        self._rankings: list[_Ranking] = []
        self._has_probabilities = y_prob is not None
        if y_prob is not None:
            where = np.flatnonzero(self._is_scored)
            entries += self._entries_of_distributions(where, y_true[where], y_pred[where], y_prob)
            self._rankings = [_Ranking(where, y_true[where] == k, y_prob[:, k]) for k in range(c)]
        rows, columns, values = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        self._matrix = scipy.sparse.csr_array((values, (rows, columns)), shape=(self._bins.stop, n))  # [K, N]

    def _entries_of_distributions(
        self, where: Ints, labels: Ints, predicted: Ints, y_prob: Floats
    ) -> list[tuple[Ints, Ints, Floats]]:
        """Rows, columns and values of the matrix of sums, for the M scored images; all arguments are [M] or [M, C]."""
        each = np.arange(len(where))
        confidence = y_prob[each, predicted]
        squares = ((y_prob - np.eye(self._num_classes)[labels]) ** 2).sum(axis=1)
        bins = bin_of(confidence) + self._bins.start
        return [
            (np.full(len(where), self._means["brier"]), where, squares),
            (np.full(len(where), self._means["nll"]), where, negative_logs(labels, y_prob)),
            (bins, where, np.ones(len(where))),
            (bins + NUM_BINS, where, confidence),
            (bins + 2 * NUM_BINS, where, (labels == predicted).astype(np.float64)),
        ]

    def draw(self, units: Units) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Each headline of each resample, [B]; of all images, and of those scored. NaN where it is undefined."""
        of_all: dict[str, list[Floats]] = {}
        of_scored: dict[str, list[Floats]] = {}
        c = self._num_classes
        for weights in units.resampled():
            totals = self.totals(weights)  # [K, B]
            counts = totals[: self._top2].T.reshape(-1, c, c + 1)  # [B, C, C + 1]
            for into, cells in ((of_all, counts), (of_scored, counts[:, :, :c])):
                for name, values in _headlines(cells, totals[self._top2]).items():
                    into.setdefault(name, []).append(values)
            if self._has_probabilities:
                n_scored = counts[:, :, :c].sum(axis=(1, 2))  # [B]
                for name, row in self._means.items():
                    of_scored.setdefault(name, []).append(ratio(totals[row], n_scored))
                of_scored.setdefault("ece", []).append(self.ece(totals))
                aurocs = np.stack([ranking.auroc(weights) for ranking in self._rankings], axis=1)  # [B, C]
                of_scored.setdefault("auroc_macro", []).append(_mean_of_defined(aurocs))
        return _joined(of_all), _joined(of_scored)

    def totals(self, weights: NDArray[np.int32]) -> Floats:
        """The sums, [K, B], of images drawn `weights` [N, B] times."""
        totals: Floats = self._matrix @ weights
        return totals

    def ece(self, totals: Floats) -> Floats:
        """The calibration error of each resample, [B], from the sums [K, B]."""
        return calibration_error(totals[self._bins])

    def ece_of_all(self) -> float:
        """The calibration error of all scored images, each taken once."""
        return float(self.ece(self._totals_of_all())[0])

    def _totals_of_all(self) -> Floats:
        return self.totals(np.ones((len(self._is_scored), 1), np.int32))  # [K, 1]

    def reliability(self) -> tuple[Bin, ...]:
        """The bins over all scored images, each taken once."""
        return reliability(self._totals_of_all()[self._bins])


class _Ranking:
    """The scores of one class, sorted once, so that the AUROC of any weights is two gathers and a running sum.

    Args:
        where: [M], the scored images.
        is_positive: [M], whether the class is their label.
        scores: [M], the probability that the class was given.
    """

    def __init__(self, where: Ints, is_positive: Bools, scores: Floats) -> None:
        negatives = np.flatnonzero(~is_positive)
        negatives = negatives[np.argsort(scores[negatives], kind="stable")]
        self._positives, self._negatives = where[is_positive], where[negatives]
        self._below = np.searchsorted(scores[negatives], scores[is_positive], "left")
        self._up_to = np.searchsorted(scores[negatives], scores[is_positive], "right")

    def auroc(self, weights: NDArray[np.int32]) -> Floats:
        """P(a positive scores above a negative) + P(they tie) / 2, [B]; NaN where one side was not drawn."""
        passed = np.zeros((len(self._negatives) + 1, weights.shape[1]), np.int32)  # drawn negatives so far
        np.cumsum(weights[self._negatives], axis=0, out=passed[1:])
        drawn = weights[self._positives]
        wins = np.einsum("nb,nb->b", drawn, passed[self._below] + passed[self._up_to], dtype=np.float64) / 2
        return ratio(wins, drawn.sum(axis=0, dtype=np.float64) * passed[-1])


def _joined(figures: dict[str, list[Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate(parts) for name, parts in figures.items()}


def _headlines(counts: Floats, top2: Floats) -> dict[str, Floats]:
    """Figures of `_points` and both accuracies, from confusion matrices [B, C, C or C + 1] and top-2 hits [B]."""
    hits = np.diagonal(counts, axis1=1, axis2=2)  # [B, C]
    support, called = counts.sum(axis=2), counts[:, :, : counts.shape[1]].sum(axis=1)  # [B, C]
    n = support.sum(axis=1)  # [B]
    f1 = np.where(support > 0, ratio(2 * hits, support + called), np.nan)
    by_chance = (support * called).sum(axis=1)  # times n squared: whole numbers, so that 0 / 0 is seen as such
    return {
        "accuracy": ratio(hits.sum(axis=1), n),
        "uar": _mean_of_defined(ratio(hits, support)),
        "macro_f1": _mean_of_defined(f1),
        "weighted_f1": ratio(np.nansum(f1 * support, axis=1), n),
        "top2_accuracy": ratio(top2, n),
        "kappa": ratio(n * hits.sum(axis=1) - by_chance, n**2 - by_chance),
    }


def _intervals(
    names: Sequence[str],
    values: dict[str, float],
    hits: dict[str, Bools],
    is_counted: Bools,
    replicates: dict[str, Floats],
    units: Units,
) -> dict[str, Interval | None]:
    """The named figures, None where there is no value.

    Args:
        values: Figures that are no proportion of images.
        hits: Of those that are, the images that they are the share of, [N].
        is_counted: [N], the images that figures are over.
        replicates: Of both.
    """
    figures: dict[str, Interval | None] = dict.fromkeys(names)
    for name in names:
        if name in hits and is_counted.any():
            figures[name] = units.proportion(hits[name], replicates[name], is_counted=is_counted)
        elif name in values:
            figures[name] = percentile(values[name], replicates[name], centred=name == "ece")
    return figures


def _compared(hit_a: Bools, hit_b: Bools, is_counted: Bools, units: Units) -> AccuracyPair:
    """The comparison over the images that are counted; all arguments are [N]."""
    gain = (hit_a.astype(np.int64) - hit_b) * is_counted
    replicates = [ratio(gain @ weights, is_counted @ weights) for weights in units.resampled()]
    n, n_a, n_b = int(is_counted.sum()), int(hit_a[is_counted].sum()), int(hit_b[is_counted].sum())
    both = int((hit_a & hit_b & is_counted).sum())
    only_a, only_b = n_a - both, n_b - both
    disagree = only_a + only_b
    return AccuracyPair(
        n=n,
        accuracy_a=n_a / n,
        accuracy_b=n_b / n,
        difference=percentile((n_a - n_b) / n, np.concatenate(replicates)),
        mcnemar_p=float(scipy.stats.binomtest(only_a, disagree).pvalue) if disagree else 1.0,
        subject_p=sign_flip_p(np.bincount(units.unit_of, gain)) if units.bootstrap.unit == "subject" else None,
        table=Agreement(both, only_a, only_b, neither=n - both - disagree),
    )


# ---- checks and helpers -----------------------------------------------------------------------------------


def _checked_ids(labels: ArrayLike, predicted: ArrayLike, num_classes: int) -> tuple[Ints, Ints]:
    y_true, y_pred = np.asarray(labels), np.asarray(predicted)
    if y_true.ndim != 1 or y_true.shape != y_pred.shape or not len(y_true):
        raise ValueError(
            f"labels and predictions must be of one length, at least 1; got {y_true.shape} and {y_pred.shape}"
        )
    for name, ids, lowest in (("labels", y_true, 0), ("predictions", y_pred, -1)):
        if ids.dtype.kind not in "iu":
            raise ValueError(f"{name} must be whole numbers, got {ids.dtype}")
        if ids.min() < lowest or ids.max() >= num_classes:
            raise ValueError(f"{name} must lie between {lowest} and {num_classes - 1}, got {ids.min()} to {ids.max()}")
    return y_true.astype(np.int64), y_pred.astype(np.int64)


def _checked_probabilities(probabilities: ArrayLike, is_scored: Bools, num_classes: int) -> Floats:
    """The rows of the scored images, [M, C], in double precision, summing to 1 to the last digit."""
    y_prob = np.asarray(probabilities, np.float64)
    if y_prob.shape != (len(is_scored), num_classes):
        raise ValueError(f"probabilities must be of shape {(len(is_scored), num_classes)}, got {y_prob.shape}")
    y_prob = y_prob[is_scored]
    sums = y_prob.sum(axis=1, keepdims=True)
    is_wrong = ~((y_prob >= 0).all(axis=1) & (np.abs(sums[:, 0] - 1) < 1e-3))
    if is_wrong.any():
        row = int(np.flatnonzero(is_scored)[is_wrong][0])
        raise ValueError(f"the row of a scored image must be probabilities that sum to 1; row {row} is none")
    normalised: Floats = y_prob / sums
    return normalised


def ratio(numerator: Floats | Ints, denominator: Floats | Ints | NDArray[np.int32]) -> Floats:
    """Their quotient, NaN where the denominator is 0."""
    quotients = np.full(np.shape(denominator), np.nan)
    quotient: Floats = np.divide(numerator, denominator, out=quotients, where=denominator != 0)
    return quotient


def _mean_of_defined(values: Floats) -> Floats:
    """The mean of what is not NaN along the last axis; NaN where nothing is."""
    is_defined = ~np.isnan(values)
    return ratio(np.where(is_defined, values, 0).sum(axis=-1), is_defined.sum(axis=-1))


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
