"""What an evaluation finds, as frozen records, and the one function that makes JSON of them.

`metrics.json` and `--json` hold an `Evaluation`: the keys are the names of the fields, in their order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motivnet_cli.evaluation.datasets.published import Anchor, LeftOut
    from motivnet_cli.evaluation.permutation import Exchanged
    from motivnet_cli.records import Box

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

INLINE = {"inline": True}
"""Metadata of a field that holds a mapping: in JSON its keys stand beside the other fields."""


def to_json(value: object) -> JSON:
    """Plain dicts, lists, strings and numbers for a value made of dataclasses, mappings and sequences.

    A field that is named with a trailing underscore because its name is a Python keyword loses the underscore.
    """
    if dataclasses.is_dataclass(value):
        members: dict[str, JSON] = {}
        for field_ in dataclasses.fields(value):
            member = to_json(getattr(value, field_.name))
            if field_.metadata == INLINE and isinstance(member, dict):
                members |= member
            else:
                members[field_.name.removesuffix("_")] = member
        return members
    if isinstance(value, Mapping):
        return {str(key): to_json(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(member) for member in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} has no form in JSON")


# ---- scores -----------------------------------------------------------------------------------------------

Argmax = Literal["all", "labelled"]
"""Whether the predicted class is the most probable of all, or of those that labelled images have."""
IntervalMethod = Literal["wilson", "bootstrap", "exact"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None
    method: IntervalMethod | None = None
    """How low and high were made; None where they are undefined."""

    @property
    def if_defined(self) -> tuple[float, float, float] | None:
        """Value, low and high; None where one of them is undefined."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return self.value, self.low, self.high


def mean_over_sets(figures: Sequence[Interval | None]) -> float | None:
    """The unweighted mean of a figure over sets; None where a set lacks it."""
    values = [figure.value for figure in figures if figure is not None and figure.value is not None]
    return sum(values) / len(figures) if len(values) == len(figures) else None


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class against the rest; `recall` and `f1` are None without support, `precision` if it is never predicted."""

    class_: str
    support: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class ScoredClassScore(ClassScore):
    """The same over the scored images only."""

    auroc: float | None
    """None without probabilities, or unless some scored images have the class and others have not."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many images of each label were predicted as what."""

    rows: tuple[str, ...]
    """The labels: C classes."""
    columns: tuple[str, ...]
    """The C predicted classes and `missed`."""
    counts: tuple[tuple[int, ...], ...]
    """C rows of C + 1 counts."""

    @property
    def shares(self) -> tuple[tuple[float, ...], ...]:
        """The counts over the sum of their row; 0 in a row without images."""
        return tuple(tuple(count / max(sum(row), 1) for count in row) for row in self.counts)


@dataclass(frozen=True, slots=True)
class Bin:
    """Scored images whose confidence lies in (low, high]; the means are None where there are no images."""

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
    level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """All figures of one set of predictions (docs/metrics.md)."""

    n: int
    n_scored: int
    n_missed: int
    classes: tuple[str, ...]
    all: dict[str, Interval | None]
    """accuracy, uar, macro_f1, weighted_f1, top2_accuracy, kappa over all n images; a miss counts as wrong."""
    scored: dict[str, Interval | None]
    """The same over the scored images, and auroc_macro, ece, brier, nll."""
    per_class: tuple[ClassScore, ...]
    per_class_scored: tuple[ScoredClassScore, ...]
    confusion: Confusion
    reliability: tuple[Bin, ...]
    """Empty without probabilities."""
    bootstrap: Bootstrap
    remarks: tuple[str, ...]
    """What a reader of the figures must know, a sentence each."""

    @property
    def accuracy(self) -> float:
        """Over all n images: the one figure that is never undefined."""
        value = None if (figure := self.all["accuracy"]) is None else figure.value
        assert value is not None, "there is at least one image"
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureScaling:
    """What a temperature fitted on one split does to the probabilities of another."""

    split: str
    """Where it was fitted."""
    n: int
    """The scored images that it was fitted on."""
    n_missed: int
    """Images of that split without a prediction."""
    temperature: float
    before: dict[str, Interval | None]
    """nll, ece and brier over the scored images of the evaluated split."""
    after: dict[str, Interval | None]
    """The same at the temperature. Of the other figures auroc_macro changes, and for sets with votes cross_entropy, kl
    and soft_ece."""
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftScores:
    """Predictions against the votes of several annotators."""

    all: dict[str, Interval | None]
    """voter_agreement over all images; a miss names no class, so no annotator agrees."""
    scored: dict[str, Interval | None]
    """The same over the scored images, and cross_entropy, kl and soft_ece where there are probabilities."""
    label_agreement: float
    """voter_agreement of the labels themselves: what a prediction that is always right has."""
    entropy: float | None
    """Of the votes, mean over the scored images: no cross_entropy can be lower. None where none is scored."""
    reliability: tuple[Bin, ...]
    """By confidence, as of `Scores`; `accuracy` is the mean share of the votes for the predicted class."""
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Images by which of two predictions has them right."""

    both: int
    only_a: int
    only_b: int
    neither: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyPair:
    """Two predictions of the same n images."""

    n: int
    accuracy_a: float
    accuracy_b: float
    difference: Interval
    """Accuracy of a minus that of b."""
    mcnemar_p: float
    """Exact, two-sided; 1 where they never disagree. It takes images as independent."""
    subject_p: float | None
    """Exact, two-sided, of exchanging the two for whole subjects; None where images are the units."""
    table: Agreement

    @property
    def p(self) -> float:
        """Of the test that fits: by subject where subjects are named, else McNemar's."""
        return self.mcnemar_p if self.subject_p is None else self.subject_p


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedScores:
    """Two predictions compared over all images (a miss is wrong) and over those that both scored."""

    all: AccuracyPair
    both_scored: AccuracyPair | None
    """None where no image was scored by both."""
    bootstrap: Bootstrap


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPair:
    """Two runs on the same images."""

    a: str
    b: str
    p_holm: float
    """`AccuracyPair.p` over all images, corrected for the number of pairs of runs."""
    scores: PairedScores = field(metadata=INLINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetsPair:
    """Two runs over several sets; differences are a minus b."""

    a: str
    b: str
    mean_difference: float
    a_better: int
    """On how many sets."""
    b_better: int
    wilcoxon_p: float
    """Exact, two-sided; 1 where they never differ."""
    p_holm: float
    """Corrected for the number of pairs."""


@dataclass(frozen=True, slots=True)
class Friedman:
    """Whether three or more runs differ over several sets."""

    statistic: float
    """Corrected for ties; about chi-squared with one degree of freedom less than there are runs, for many sets."""
    p: float
    """From permutations of the ranks within each set."""
    permutations: int
    seed: int
    mean_ranks: tuple[float, ...]
    """Of the runs; 1 is the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcrossSets:
    """Whether runs differ over several labelled sets: what `suite.json` holds."""

    figure: str
    """Over all images."""
    sets: tuple[str, ...]
    runs: tuple[str, ...]
    friedman: Friedman | None
    """None for two runs."""
    pairs: tuple[SetsPair, ...]
    remarks: tuple[str, ...]


# ---- groups -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupScore:
    """The figures of the images of one group, over all of them: a miss is wrong."""

    name: str
    n: int
    n_missed: int
    num_classes: int
    """How many classes occur in the labels: means over the classes are over these."""
    accuracy: Interval | None
    uar: Interval | None
    macro_f1: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTest:
    """Whether the accuracies of groups differ by more than chance."""

    statistic: float
    """Pearson's chi-squared of right and wrong by group."""
    p: float
    exchanged: Exchanged
    """What was dealt to the groups by chance."""
    permutations: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """The images by what a column says of them."""

    column: str
    groups: tuple[GroupScore, ...]
    n_without: int
    """Images of which the column says nothing; they are in no group."""
    unit: Literal["image", "subject"]
    """Of the intervals."""
    test: GroupTest | None
    """None where there is one group."""
    remarks: tuple[str, ...]


# ---- an evaluation ----------------------------------------------------------------------------------------

MAX_NAMES = 100
"""How many images of a kind are named in results (missed, unmatched, ambiguous, unused); all are counted."""


@dataclass(frozen=True, slots=True)
class Names:
    """Some images: how many, and the first of their names."""

    n: int
    first: tuple[str, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> Names:
        return cls(len(names), tuple(names[:MAX_NAMES]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """How labelled images found their predictions, and what did not fit."""

    how: dict[str, int] = field(metadata=INLINE)
    """Labelled images by the way they found theirs: `absolute path`, `relative path`, `other name`, `path suffix`,
    `file name`, `clip name`."""
    unmatched: Names
    """Labelled images that the predictions do not have."""
    ambiguous: Names
    """Labelled images for which more than one prediction could be meant."""
    contradicted: Names
    """Labelled images whose name only predictions in the folder of another split or class have."""
    unused: Names
    """Images of the predictions that are not labelled."""
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSummary:
    """The labelled images that were scored, and what a reader must know of them."""

    name: str
    title: str
    root: str | None = None
    """The folder or table that was read, absolute."""
    layout: str
    split: str
    protocol: str | None
    classes: tuple[str, ...] = EMOTIONS
    """The seven emotions, or these and contempt; of a model that has others, its own."""
    label_map: dict[str, str]
    terms: str
    where: str
    """Where to request the set."""
    unit: Literal["image", "clip"] = "image"
    """What has a label; wherever images are counted, these are."""
    n: int
    counts: dict[str, int]
    """Images by emotion."""
    dropped: dict[str, int]
    """Labelled faces that are not among the n images, by reason."""
    remarks: tuple[str, ...]
    images_sha256: str
    """Of the names and labels of the images."""


@dataclass(frozen=True, slots=True)
class Missed:
    """A labelled image without a prediction."""

    image: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A labelled image with a wrong prediction."""

    image: str
    path: str
    """Absolute; of a folder of frames the middle one's."""
    box: Box | None
    label: str
    predicted: str
    confidence: float
    """Probability of the predicted emotion, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One set of predictions, scored."""

    name: str
    predictions: dict[str, JSON]
    """Where they come from (`Predictions.origin`)."""
    scores: Scores
    temperature_scaling: TemperatureScaling | None = None
    """None where no split was given to fit a temperature on."""
    soft: SoftScores | None = None
    """None where the set has no votes."""
    missed: tuple[Missed, ...]
    """At most MAX_NAMES of them."""
    missed_by_reason: dict[str, int]
    matching: Matching
    mistakes: tuple[Mistake, ...]
    """The most confident ones."""
    by: tuple[Grouping, ...] = ()
    """For each column that was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptedRun:
    """The network's answers for the labelled images under one corruption, scored."""

    name: str
    """Such as `noise 3`."""
    corruption: str
    severity: int
    """1 to 5."""
    scores: Scores
    missed_by_reason: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """What corruptions cost a run (docs/robustness.md): accuracies over all images, a miss being wrong."""

    run: str
    """Over the images as they are: the name of one of the evaluation's runs."""
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    mean_accuracy: Interval
    """Over the corruptions, of the mean over severities."""
    relative_accuracy: Interval
    """The mean over the accuracy of the images as they are; None where that is 0."""
    by_corruption: dict[str, Interval]
    """The mean over severities."""
    by_severity: dict[str, Interval]
    """The mean over corruptions."""
    runs: tuple[CorruptedRun, ...]
    bootstrap: Bootstrap


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Predictions scored on a labelled set: what `metrics.json` holds."""

    schema_version: int
    tool: str
    command: str
    remarks: tuple[str, ...]
    """What a reader must know first: of predictions that fit the set badly."""
    argmax: Argmax = "all"
    dataset: DatasetSummary
    runs: tuple[Run, ...]
    between: tuple[RunPair, ...] = ()
    """Every pair of the runs."""
    anchors: tuple[Anchor, ...]
    """Published figures of other work on the same images."""
    anchors_left_out: tuple[LeftOut, ...]
    """Published figures of the same set that are not comparable, and why."""
    robustness: tuple[Robustness, ...] = ()
    """One for each of the runs, if the images were corrupted; else none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedPredictions:
    """One side of a comparison of predictions."""

    path: str
    origin: dict[str, JSON] = field(metadata=INLINE)
    matching: Matching


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionComparison:
    """Two sets of predictions of the same labelled images: what `motivnet compare predictions` prints."""

    schema_version: int
    remarks: tuple[str, ...]
    """What a reader must know first: of predictions that fit the set badly."""
    argmax: Argmax = "all"
    dataset: DatasetSummary
    a: ComparedPredictions
    b: ComparedPredictions
    scores: PairedScores = field(metadata=INLINE)
