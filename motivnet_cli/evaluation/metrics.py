"""Labels and predictions -> figures with intervals, over all labelled images and over those scored.

This room knows arrays only: no files, names or networks. Point values come from scikit-learn where it has them;
the bootstrap needs a thousand of each, so there the same formulas run on weighted counts (docs/metrics.md).
An image without a prediction is a miss (-1): wrong in `all`, left out of `scored`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse
import scipy.stats
from sklearn import metrics as sk

from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

NUM_BINS = 15
"""Of the reliability diagram and the calibration error (Guo et al. 2017, arXiv 1706.04599, section 4)."""
LEVEL = 0.95
RESAMPLES = 1000

_C = len(EMOTIONS)
_IDS = list(range(_C))
_CHUNK = 64
"""Resamples held at once: 64 x 36,000 counts of 4 bytes are 9 MB."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its bootstrap interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class against the rest; `recall` and `f1` are None without support, `precision` if it is never predicted."""

    name: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None
    auroc: float | None = None
    """None without probabilities, or unless some scored images have the class and others have not."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Scored images whose confidence lies in (low, high]; means are None where there are none."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How the intervals were made."""

    resamples: int
    seed: int
    unit: Literal["image", "subject"]
    units: int
    level: float = LEVEL


@dataclass(frozen=True, slots=True)
class Scores:
    """All figures of one set of predictions."""

    n: int
    n_scored: int
    all: dict[str, Interval | None]
    """accuracy, uar, macro_f1, weighted_f1, top2_accuracy, kappa over all N images; a miss counts as wrong."""
    scored: dict[str, Interval | None]
    """The same over the scored images, and auroc_macro, ece, brier."""
    per_class: tuple[ClassScore, ...]
    per_class_scored: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """C rows (labels) of C + 1 counts: the predicted classes, then the misses."""
    reliability: tuple[Bin, ...]
    """Empty without probabilities."""
    bootstrap: Bootstrap

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers; what is undefined is None, never NaN."""
        per_class = [_class_json(each) for each in self.per_class]
        for each in per_class:
            del each["auroc"]  # of scored images only
        return {
            "n": self.n,
            "n_scored": self.n_scored,
            "n_missed": self.n - self.n_scored,
            "classes": list(EMOTIONS),
            "all": _intervals_json(self.all),
            "scored": _intervals_json(self.scored),
            "per_class": per_class,
            "per_class_scored": [_class_json(each) for each in self.per_class_scored],
            "confusion": {
                "rows": list(EMOTIONS),
                "columns": [*EMOTIONS, "missed"],
                "counts": [list(row) for row in self.confusion],
            },
            "reliability": [dataclasses.asdict(each) for each in self.reliability],
            "bootstrap": dataclasses.asdict(self.bootstrap),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two predictions of the same n images."""

    n: int
    accuracy_a: float
    accuracy_b: float
    difference: Interval
    """Accuracy of a minus that of b."""
    both: int
    """Images that both have right."""
    only_a: int
    only_b: int
    neither: int
    mcnemar_p: float
    """Exact, two-sided; 1 where they never disagree."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Two predictions compared over all images (a miss is wrong) and over those that both scored."""

    all: Comparison
    both_scored: Comparison | None
    """None where no image was scored by both."""
    bootstrap: Bootstrap

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and numbers; what is undefined is None."""
        return {
            "all": _comparison_json(self.all),
            "both_scored": _comparison_json(self.both_scored) if self.both_scored else None,
            "bootstrap": dataclasses.asdict(self.bootstrap),
        }


def score(
    labels: ArrayLike,
    predicted: ArrayLike,
    probabilities: ArrayLike | None,
    *,
    groups: Sequence[Hashable | None] | NDArray[Any] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scores:
    """Every figure with its interval, the same for the same seed; formulas and sources are in docs/metrics.md.

    UAR and macro-F1 are means over the classes that occur in the labels; macro AUROC over the classes that some
    scored images have and others have not. In a resample, the same holds of the resampled images.

    Args:
        labels: [N], ids 0 to 6 in the order of `EMOTIONS`.
        predicted: [N], ids 0 to 6, or -1 for a miss.
        probabilities: [N, 7], rows sum to 1, rows of misses are not looked at; None for labels only.
        groups: [N] names of subjects; they are drawn with all their images. An image whose name is None is a
            subject of its own. None draws images.

    Raises:
        ValueError: Shapes differ, N is 0, an id is out of range, or the row of a scored image is no distribution.
    """
    truth, guess = _checked_ids(labels, predicted)
    is_scored = guess >= 0
    chances = None if probabilities is None else _checked_chances(probabilities, is_scored)
    has_top2 = np.zeros(len(truth), np.bool_)
    if chances is not None:
        has_top2[is_scored] = _in_top2(truth[is_scored], chances)
    replicates = _Replicates(truth, guess, has_top2, chances)
    unit_of, bootstrap = _units(groups, len(truth), resamples, seed)
    of_all, of_scored = replicates.draw(unit_of, bootstrap)

    values = _points(truth, guess)
    values_scored: dict[str, float] = {}
    aurocs = [math.nan] * _C
    if is_scored.any():
        values_scored = _points(truth[is_scored], guess[is_scored])
    if chances is not None:
        values["top2_accuracy"] = float(has_top2.mean())
    if chances is not None and is_scored.any():
        aurocs = _aurocs(truth[is_scored], chances)
        values_scored |= {
            "top2_accuracy": float(has_top2[is_scored].mean()),
            "auroc_macro": float(_mean_of_defined(np.array(aurocs))),
            "ece": float(replicates.ece(replicates.totals(np.ones((len(truth), 1), np.int32)))[0]),
            "brier": float(sk.brier_score_loss(truth[is_scored], chances, labels=_IDS, scale_by_half=False)),
        }
    return Scores(
        n=len(truth),
        n_scored=int(is_scored.sum()),
        all={name: _interval(values[name], of_all[name]) if name in values else None for name in _HEADLINES},
        scored={
            name: _interval(values_scored[name], of_scored[name], centred=name == "ece")
            if name in values_scored
            else None
            for name in (*_HEADLINES, "auroc_macro", "ece", "brier")
        },
        per_class=_per_class(truth, guess, [math.nan] * _C),
        per_class_scored=_per_class(truth[is_scored], guess[is_scored], aurocs),
        confusion=tuple(
            tuple(row)
            for row in sk.confusion_matrix(truth, np.where(is_scored, guess, _C), labels=[*_IDS, _C])[:_C].tolist()
        ),
        reliability=replicates.reliability() if chances is not None else (),
        bootstrap=bootstrap,
    )


def paired(
    labels: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    *,
    groups: Sequence[Hashable | None] | NDArray[Any] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """Whether two predictions of the same images differ: exact McNemar test, and the bootstrapped difference.

    McNemar's test takes images as independent; where they come in subjects, go by the interval.

    Args:
        labels: [N], ids 0 to 6.
        a: [N], ids 0 to 6, or -1 for a miss.
        b: The same of the other.
        groups: As for `score`.

    Raises:
        ValueError: Shapes differ, N is 0, or an id is out of range.
    """
    truth, first = _checked_ids(labels, a)
    _, second = _checked_ids(labels, b)
    unit_of, bootstrap = _units(groups, len(truth), resamples, seed)
    is_both = (first >= 0) & (second >= 0)
    everywhere = np.ones(len(truth), np.bool_)
    hits = first == truth, second == truth
    return Paired(
        all=_compared(*hits, everywhere, unit_of, bootstrap),
        both_scored=_compared(*hits, is_both, unit_of, bootstrap) if is_both.any() else None,
        bootstrap=bootstrap,
    )


# ---- point values -----------------------------------------------------------------------------------------

_HEADLINES = ("accuracy", "uar", "macro_f1", "weighted_f1", "top2_accuracy", "kappa")


def _points(truth: Ints, guess: Ints) -> dict[str, float]:
    _, recall, f1, support = sk.precision_recall_fscore_support(
        truth, guess, labels=np.unique(truth), average=None, zero_division=0
    )
    is_constant = len(np.union1d(truth, guess)) == 1  # chance alone agrees everywhere: kappa is 0 / 0
    return {
        "accuracy": float(sk.accuracy_score(truth, guess)),
        "uar": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "weighted_f1": float(np.average(f1, weights=support)),
        "kappa": math.nan if is_constant else float(sk.cohen_kappa_score(truth, guess)),
    }


def _in_top2(truth: Ints, chances: Floats) -> NDArray[np.bool_]:
    """Whether the label is among the two most probable classes; of equals the lower id goes first, as in argmax."""
    own = chances[np.arange(len(truth)), truth][:, None]
    is_ahead = (chances > own) | ((chances == own) & (np.arange(_C) < truth[:, None]))
    is_among: NDArray[np.bool_] = is_ahead.sum(axis=1) < 2
    return is_among


def _aurocs(truth: Ints, chances: Floats) -> list[float]:
    """One class against the rest; NaN where there is nothing to tell apart."""
    return [
        float(sk.roc_auc_score(truth == c, chances[:, c])) if 0 < (truth == c).sum() < len(truth) else math.nan
        for c in _IDS
    ]


def _per_class(truth: Ints, guess: Ints, aurocs: list[float]) -> tuple[ClassScore, ...]:
    if not len(truth):
        return tuple(ClassScore(name, 0, None, None, None) for name in EMOTIONS)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        truth, guess, labels=_IDS, average=None, zero_division=np.nan
    )
    return tuple(
        ClassScore(
            name,
            int(support[c]),
            _defined(precision[c]),
            _defined(recall[c]),
            _defined(f1[c]) if support[c] else None,
            _defined(aurocs[c]),
        )
        for c, name in enumerate(EMOTIONS)
    )


# ---- the bootstrap ----------------------------------------------------------------------------------------


class _Replicates:
    """The headlines of resampled images, from how often each image was drawn.

    All but the AUROC are functions of a few sums over images, so a matrix product gives those of many resamples.

    Args:
        truth: [N].
        guess: [N], -1 for a miss.
        has_top2: [N].
        chances: [M, C] of the M scored images, or None.
    """

    def __init__(self, truth: Ints, guess: Ints, has_top2: NDArray[np.bool_], chances: Floats | None) -> None:
        self._is_scored = guess >= 0
        n = len(truth)
        cell = truth * (_C + 1) + np.where(self._is_scored, guess, _C)
        entries = [(cell, np.arange(n), np.ones(n)), (np.full(n, _TOP2), np.arange(n), has_top2.astype(np.float64))]
        self._rankings: list[_Ranking] = []
        self._has_chances = chances is not None
        if chances is not None:
            where = np.flatnonzero(self._is_scored)
            labels, guesses = truth[where], guess[where]
            confidence = chances[np.arange(len(where)), guesses]
            squares = ((chances - np.eye(_C)[labels]) ** 2).sum(axis=1)
            # (low, high], and 0 in the first, as Guo et al. have it.
            bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
            entries += [
                (np.full(len(where), _BRIER), where, squares),
                (_BINS.start + bins, where, np.ones(len(where))),
                (_BINS.start + NUM_BINS + bins, where, confidence),
                (_BINS.start + 2 * NUM_BINS + bins, where, (labels == guesses).astype(np.float64)),
            ]
            self._rankings = [_Ranking(where, labels == c, chances[:, c]) for c in _IDS]
        rows, columns, values = (np.concatenate(each) for each in zip(*entries, strict=True))
        self._sums = scipy.sparse.csr_array((values, (rows, columns)), shape=(_BINS.stop, n))

    def draw(self, unit_of: Ints, bootstrap: Bootstrap) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Each headline of each resample, [B]; of all images, and of those scored. NaN where it is undefined."""
        of_all: dict[str, list[Floats]] = {}
        of_scored: dict[str, list[Floats]] = {}
        for weights in _resampled(unit_of, bootstrap):
            totals = self.totals(weights)
            counts = totals[:_TOP2].T.reshape(-1, _C, _C + 1)
            for into, cells in ((of_all, counts), (of_scored, counts[:, :, :_C])):
                for name, values in _headlines(cells, totals[_TOP2]).items():
                    into.setdefault(name, []).append(values)
            if self._has_chances:
                n_scored = counts[:, :, :_C].sum(axis=(1, 2))
                of_scored.setdefault("brier", []).append(_ratio(totals[_BRIER], n_scored))
                of_scored.setdefault("ece", []).append(self.ece(totals))
                aurocs = np.stack([ranking.auroc(weights) for ranking in self._rankings], axis=1)
                of_scored.setdefault("auroc_macro", []).append(_mean_of_defined(aurocs))
        return _joined(of_all), _joined(of_scored)

    def totals(self, weights: NDArray[np.int32]) -> Floats:
        """The sums, [K, B], of images drawn `weights` [N, B] times."""
        totals: Floats = self._sums @ weights
        return totals

    def ece(self, totals: Floats) -> Floats:
        n, confidence, hits = totals[_BINS].reshape(3, NUM_BINS, -1)
        return _ratio(np.abs(hits - confidence).sum(axis=0), n.sum(axis=0))

    def reliability(self) -> tuple[Bin, ...]:
        totals = self.totals(np.ones((len(self._is_scored), 1), np.int32))
        columns = zip(*totals[_BINS].reshape(3, NUM_BINS).tolist(), strict=True)
        return tuple(
            Bin(k / NUM_BINS, (k + 1) / NUM_BINS, int(n), confidence / n if n else None, hits / n if n else None)
            for k, (n, confidence, hits) in enumerate(columns)
        )


_TOP2 = _C * (_C + 1)
_BRIER = _TOP2 + 1
_BINS = slice(_BRIER + 1, _BRIER + 1 + 3 * NUM_BINS)
"""Rows of the sums: C x (C + 1) cells of the confusion matrix, top-2 hits, squared errors, and of each bin the
number, the confidence and the hits."""


class _Ranking:
    """The scores of one class, sorted once, so that the AUROC of any weights is two gathers and a running sum."""

    def __init__(self, where: Ints, is_positive: NDArray[np.bool_], scores: Floats) -> None:
        negatives = np.flatnonzero(~is_positive)
        negatives = negatives[np.argsort(scores[negatives], kind="stable")]
        self._positives, self._negatives = where[is_positive], where[negatives]
        self._below = np.searchsorted(scores[negatives], scores[is_positive], "left")
        self._up_to = np.searchsorted(scores[negatives], scores[is_positive], "right")

    def auroc(self, weights: NDArray[np.int32]) -> Floats:
        """P(a positive scores above a negative) + P(they tie) / 2, [B]; NaN where one side was not drawn."""
        passed = np.zeros((len(self._negatives) + 1, weights.shape[1]), np.int32)
        np.cumsum(weights[self._negatives], axis=0, out=passed[1:])
        drawn = weights[self._positives]
        wins = np.einsum("nb,nb->b", drawn, passed[self._below] + passed[self._up_to], dtype=np.float64) / 2
        return _ratio(wins, drawn.sum(axis=0, dtype=np.float64) * passed[-1])


def _joined(parts: dict[str, list[Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate(each) for name, each in parts.items()}


def _headlines(counts: Floats, top2: Floats) -> dict[str, Floats]:
    """The same figures as `_points`, from confusion matrices [B, C, C or C + 1] and top-2 hits [B]."""
    hits = np.diagonal(counts, axis1=1, axis2=2)
    support, called = counts.sum(axis=2), counts[:, :, :_C].sum(axis=1)
    n = support.sum(axis=1)
    f1 = np.where(support > 0, _ratio(2 * hits, support + called), np.nan)
    by_chance = (support * called).sum(axis=1)  # times n squared: whole numbers, so that 0 / 0 is seen as such
    return {
        "accuracy": _ratio(hits.sum(axis=1), n),
        "uar": _mean_of_defined(_ratio(hits, support)),
        "macro_f1": _mean_of_defined(f1),
        "weighted_f1": _ratio(np.nansum(f1 * support, axis=1), n),
        "top2_accuracy": _ratio(top2, n),
        "kappa": _ratio(n * hits.sum(axis=1) - by_chance, n**2 - by_chance),
    }


def _units(
    groups: Sequence[Hashable | None] | NDArray[Any] | None, n: int, resamples: int, seed: int
) -> tuple[Ints, Bootstrap]:
    """The number of the unit of each image, and what the bootstrap draws."""
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    if groups is None:
        return np.arange(n), Bootstrap(resamples, seed, "image", n)
    if len(groups) != n:
        raise ValueError(f"groups must name a subject for each of the {n} images, got {len(groups)}")
    numbers: dict[Hashable, int] = {}
    unit_of = [numbers.setdefault((i, None) if name is None else name, len(numbers)) for i, name in enumerate(groups)]
    return np.array(unit_of), Bootstrap(resamples, seed, "subject", len(numbers))


def _resampled(unit_of: Ints, bootstrap: Bootstrap) -> Iterator[NDArray[np.int32]]:
    """How often each image is drawn, [N, b] at a time: as many units as there are, with replacement.

    A single unit says nothing of how others would vary: no image is drawn then, and every figure is undefined.
    """
    if bootstrap.units < 2:
        yield np.zeros((len(unit_of), 1), np.int32)
        return
    rng = np.random.default_rng(bootstrap.seed)
    for start in range(0, bootstrap.resamples, _CHUNK):
        drawn = [
            np.bincount(rng.integers(bootstrap.units, size=bootstrap.units), minlength=bootstrap.units)[unit_of]
            for _ in range(min(_CHUNK, bootstrap.resamples - start))
        ]
        yield np.stack(drawn, axis=1).astype(np.int32)


def _interval(value: float, replicates: Floats, *, centred: bool = False) -> Interval:
    """The percentile interval; None where no resample has a value.

    `centred` shifts the replicates so that their mean is the value: the calibration error of a resample lies above
    that of the sample by about as much as that one lies above the truth.
    """
    replicates = replicates[np.isfinite(replicates)]
    if math.isnan(value) or not len(replicates):
        return Interval(_defined(value), None, None)
    shift = value - replicates.mean() if centred else 0.0
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) + shift
    return Interval(value, max(float(low), 0.0) if centred else float(low), float(high))


def _compared(
    hit_a: NDArray[np.bool_],
    hit_b: NDArray[np.bool_],
    counts: NDArray[np.bool_],
    unit_of: Ints,
    bootstrap: Bootstrap,
) -> Comparison:
    """The comparison over the images that count."""
    gain = (hit_a.astype(np.int64) - hit_b) * counts
    replicates = [_ratio(gain @ weights, counts @ weights) for weights in _resampled(unit_of, bootstrap)]
    n, n_a, n_b = int(counts.sum()), int(hit_a[counts].sum()), int(hit_b[counts].sum())
    both = int((hit_a & hit_b & counts).sum())
    only_a, only_b = n_a - both, n_b - both
    disagree = only_a + only_b
    return Comparison(
        n=n,
        accuracy_a=n_a / n,
        accuracy_b=n_b / n,
        difference=_interval((n_a - n_b) / n, np.concatenate(replicates)),
        both=both,
        only_a=only_a,
        only_b=only_b,
        neither=n - both - disagree,
        mcnemar_p=float(scipy.stats.binomtest(only_a, disagree).pvalue) if disagree else 1.0,
    )


# ---- what is let in, and small change ---------------------------------------------------------------------


def _checked_ids(labels: ArrayLike, predicted: ArrayLike) -> tuple[Ints, Ints]:
    truth, guess = np.asarray(labels), np.asarray(predicted)
    if truth.ndim != 1 or truth.shape != guess.shape or not len(truth):
        raise ValueError(
            f"labels and predictions must be of one length, at least 1; got {truth.shape} and {guess.shape}"
        )
    for name, ids, lowest in (("labels", truth, 0), ("predictions", guess, -1)):
        if ids.dtype.kind not in "iu":
            raise ValueError(f"{name} must be whole numbers, got {ids.dtype}")
        if ids.min() < lowest or ids.max() >= _C:
            raise ValueError(f"{name} must lie between {lowest} and {_C - 1}, got {ids.min()} to {ids.max()}")
    return truth.astype(np.int64), guess.astype(np.int64)


def _checked_chances(probabilities: ArrayLike, is_scored: NDArray[np.bool_]) -> Floats:
    """The rows of the scored images in double precision, summing to 1 to the last digit, as scikit-learn asks."""
    chances = np.asarray(probabilities, np.float64)
    if chances.shape != (len(is_scored), _C):
        raise ValueError(f"probabilities must be of shape {(len(is_scored), _C)}, got {chances.shape}")
    chances = chances[is_scored]
    sums = chances.sum(axis=1, keepdims=True)
    is_wrong = ~((chances >= 0).all(axis=1) & (np.abs(sums[:, 0] - 1) < 1e-3))
    if is_wrong.any():
        row = int(np.flatnonzero(is_scored)[is_wrong][0])
        raise ValueError(f"the row of a scored image must be probabilities that sum to 1; row {row} is none")
    normalised: Floats = chances / sums
    return normalised


def _ratio(top: NDArray[Any], bottom: NDArray[Any]) -> Floats:
    """Their quotient, NaN where the divisor is 0."""
    quotient: Floats = np.divide(top, bottom, out=np.full(np.shape(bottom), np.nan), where=bottom != 0)
    return quotient


def _mean_of_defined(values: Floats) -> Floats:
    """The mean of what is not NaN along the last axis; NaN where nothing is."""
    is_defined = ~np.isnan(values)
    return _ratio(np.where(is_defined, values, 0).sum(axis=-1), is_defined.sum(axis=-1))


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _intervals_json(intervals: dict[str, Interval | None]) -> dict[str, Any]:
    return {name: dataclasses.asdict(each) if each else None for name, each in intervals.items()}


def _class_json(each: ClassScore) -> dict[str, Any]:
    values = dataclasses.asdict(each)
    return {"class": values.pop("name"), **values}


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    values = dataclasses.asdict(comparison)
    table = {name: values.pop(name) for name in ("both", "only_a", "only_b", "neither")}
    return {**values, "table": table}
