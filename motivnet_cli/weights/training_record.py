"""How a model of the store was trained: from which models, on what data, with which settings, to which figures.

`model.json` holds it, the weights file carries it in its metadata, and cards and pages are made from it. Knows no
network and opens no file.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal, get_args, get_origin, get_type_hints

TrainingKind = Literal["network", "head", "student"]
"""A whole network was fine-tuned, a head was fitted on the embeddings of another, or a network learned from the
probabilities of another."""
ParentRole = Literal["start", "encoder", "teacher"]
"""Where the training started from, whose embeddings the head reads, or whose probabilities were learned."""

SHARES = {"accuracy": "Accuracy", "uar": "UAR", "agreement": "Agreement with the teacher"}
"""Figures that are shares of faces, 0 to 1, by name, and their titles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A model that this one comes from."""

    name: str
    sha256: str
    """Of its weights, as outputs record it."""
    role: ParentRole
    terms: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """The labelled or named faces that a model was trained and validated on."""

    name: str
    """Of a labelled set, or of the file with the labels."""
    sha256: str
    """Of the list of names and labels, so that two trainings can be told to have had the same."""
    counts: dict[str, dict[str, int]]
    """Split (`train`, `val`) -> class -> faces."""
    split: str
    """How the validation faces were chosen, in words: `20 % at random, seed 0`, `5 folds by subject`."""
    terms: str
    """Under which its owner gives it; what is known of them."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason -> faces that were left out."""
    remarks: tuple[str, ...] = ()
    """What was odd about it, and did not end the training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How faces were prepared for the network in training, and so must be in use."""

    recipe: str
    """An input recipe of `faces.crop`."""
    margin: float
    """The crop is a square of (1 + margin) times the height of the face box."""
    align: bool = False
    """Crops were rotated until the eyes were level."""
    flip: bool = False
    """What the network says of a face is averaged with what it says of the mirror image."""
    whole: bool = False
    """In training all pictures were crops of faces already and taken whole, so that nothing was measured of margin and
    alignment, by which faces that are found are cut out."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure with its 95 % interval, where there is one."""

    value: float | None
    """None where it is undefined."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What was measured on faces that the model did not learn from."""

    how: str
    """On which faces, in words: `the validation faces, by the network of the best epoch`."""
    n: int
    """Faces."""
    figures: dict[str, Figure]
    """`accuracy`, `uar`, `agreement`, `loss`, ... Shares are 0 to 1."""

    @property
    def in_words(self) -> str:
        """The shares that sum it up: `Accuracy 80.0 % (64.0 to 90.0) on 35 faces: ...`."""
        parts = []
        for key, title in SHARES.items():
            figure = self.figures.get(key)
            if figure is not None and figure.value is not None:
                interval = "" if figure.low is None else f" ({100 * figure.low:.1f} to {100 * (figure.high or 0):.1f})"
                parts.append(f"{title} {100 * figure.value:.1f} %{interval}")
        return f"{', '.join(parts) or 'Not measured'} on {self.n:,} faces: {self.how}."


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShot:
    """What a head learned from so many faces of each class."""

    shots: int
    """Faces of each class."""
    draws: int
    """How often so many were drawn at random."""
    figures: dict[str, Figure]
    """Means over the draws; as `Validation.figures`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """Everything that is known of how a model was made."""

    kind: TrainingKind
    parents: tuple[Parent, ...]
    classes: tuple[str, ...]
    """In the order of the logits."""
    data: TrainingSet
    preparation: Preparation
    settings: dict[str, object]
    """All that decide the result, resolved, by name; values are those of JSON."""
    validation: Validation
    history: tuple[dict[str, float | None], ...] = ()
    """By epoch: `epoch` (from 1), `train_loss`, `val_loss`, `val_accuracy`, `val_uar`, `lr_head`, `lr_encoder`; a key
    that starts with `lr_` is the learning rate of a group at the end of the epoch."""
    best_epoch: int | None = None
    """The epoch whose weights were kept."""
    few_shot: tuple[FewShot, ...] = ()
    remarks: tuple[str, ...] = ()
    """What a user must know of the training: a position table that was resized, an end before the last epoch."""
    command: str
    tool: str
    """Such as `motivnet 0.5.0`."""
    date: str
    """When the training ended: ISO 8601, UTC."""

    @property
    def terms(self) -> str:
        """The terms of all that it was made from."""
        sources = [(f"{parent.name} ({parent.role})", parent.terms) for parent in self.parents]
        by_terms: dict[str, list[str]] = {}
        for name, terms in [*sources, (f"the data, {self.data.name}", self.data.terms)]:
            by_terms.setdefault(terms, []).append(name)
        inherited = " ".join(f"Of {' and '.join(names)}: {terms.rstrip('.')}." for terms, names in by_terms.items())
        return f"Inherited from what it was made from. {inherited}"

    def to_json(self) -> dict[str, object]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: object) -> TrainingRecord:
        """The record that `to_json` wrote, also after it went through a file.

        Raises:
            ValueError: It is another thing; the message says which part.
        """
        try:
            record = _read(cls, content, at="training")
        except TypeError as error:  # a field is missing
            raise ValueError(f"it is no record of a training: {error}") from error
        assert isinstance(record, TrainingRecord)
        return record

    @property
    def metadata(self) -> dict[str, str]:
        """What a file of the weights says of it, for whoever finds the file alone."""
        return {
            "parents": ", ".join(f"{parent.name} ({parent.role}) sha256:{parent.sha256}" for parent in self.parents),
            "terms": self.terms,
            "training_data": self.data.name,
            "training_data_sha256": self.data.sha256,
            "training": json.dumps(self.to_json(), allow_nan=False),
        }


def _read(kind: object, content: object, *, at: str) -> object:
    """What the JSON `content` says, as a value of the type `kind`; lists become tuples.

    Raises:
        ValueError: It says something else. `at` is where, for the message.
        TypeError: A field of a dataclass is missing.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(content, dict):
        hints = get_type_hints(kind)
        if unknown := content.keys() - hints.keys():
            raise ValueError(f"{at} has {min(unknown)!r}, which is unknown here: a newer motivnet may have written it")
        made: object = kind(**{key: _read(hints[key], each, at=f"{at}.{key}") for key, each in content.items()})
        return made
    if origin is tuple and isinstance(content, (list, tuple)):
        return tuple(_read(arguments[0], each, at=at) for each in content)
    if origin is dict and isinstance(content, dict):
        return {str(key): _read(arguments[1], each, at=f"{at}.{key}") for key, each in content.items()}
    if origin is Literal and content in arguments:
        return content
    if type(None) in arguments:  # X | None
        return None if content is None else _read(arguments[0], content, at=at)
    if kind is float and isinstance(content, int) and not isinstance(content, bool):
        return float(content)
    if kind is object or (isinstance(kind, type) and type(content) is kind):
        return content
    raise ValueError(f"{at} is {content!r}, which is none of its values")
