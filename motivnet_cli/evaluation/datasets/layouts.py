"""What the readers of all sets share: what is asked of them, and what they answer."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from motivnet_cli.evaluation.datasets.classes import CONTEMPT, SYNONYMS, emotion_named
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from motivnet_cli.evaluation.datasets.card import DatasetCard, Faces
    from motivnet_cli.evaluation.datasets.disk import Disk
    from motivnet_cli.records import Box

SEARCH_DEPTH = 2
"""How many folders below the root a set is looked for."""
MAX_NAMES = 5
"""How many of a kind a message names."""

Paths = Mapping[str, str]
NO_COLUMNS: Mapping[str, str] = MappingProxyType({})
Unit = Literal["image", "clip"]
"""What has a label: an image, or a video or folder of frames."""
Naming = Literal["emotions", "classes", "labels"]
"""What labels name: emotions in any usual spelling; classes that are given, or else emotions; or whatever they say."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be read, and the disk to look at."""

    card: DatasetCard
    root: str
    """Absolute, with `/`."""
    split: str | None
    protocol: str | None
    disk: Disk
    columns: tuple[str, ...] = ()
    """What else of each image is asked for, by name: what takes reading is read only then."""
    classes: tuple[str, ...] = EMOTIONS
    """Whose images are kept: the seven emotions, perhaps with contempt as the eighth, or those of a model. Where labels
    name whatever they say, the classes follow from them."""
    naming: Naming = "emotions"
    given: Mapping[str, str] = field(default_factory=dict)
    """The label map of the user: label in lower case -> class, or why such faces are dropped."""
    left_out: frozenset[str] = frozenset()
    """The labels that this map drops."""
    path_column: str | None = None
    label_column: str | None = None
    soft_columns: tuple[str, ...] = ()
    """Of a table: in place of a label, the columns that have the share of each class, or its votes."""
    for_training: bool = False
    """Without `split`, that for training is meant."""

    def meaning_of(self, label: str) -> str | None:
        """The class that a label names, or why such images are dropped; None where it names nothing.

        One of the emotions may be none of `classes`.
        """
        key = label.strip().casefold()
        if (known := self.given.get(key) or self.card.labels.get(key)) is not None:
            return known
        if self.naming == "labels":
            return label
        if self.naming == "classes" and (own := next((name for name in self.classes if name.casefold() == key), None)):
            return own
        return emotion_named(label)

    def command(self, *, label_map: Mapping[str, str] = MappingProxyType({}), **options: str | None) -> str:
        """The call that reads this set so, for messages.

        Args:
            label_map: Label -> emotion, beside what the user has given.
            options: Those that differ from the call at hand, such as `dataset` or `root`; None leaves one out.
        """
        given = {label: meaning if meaning in SYNONYMS else "drop" for label, meaning in self.given.items()}
        asked = {
            **{"dataset": self.card.name, "root": self.root, "split": self.split, "protocol": self.protocol},
            **{"path_column": self.path_column, "label_column": self.label_column},
            "label_map": ",".join(f"{label}={meaning}" for label, meaning in {**given, **label_map}.items()),
        }
        words = ["motivnet", "train" if self.for_training else "evaluate"]
        for name, value in (asked | options).items():
            if value:
                words += [f"--{name.replace('_', '-')}", shlex.quote(value)]
        return " ".join([*words, "--contempt"] if self.classes == (*EMOTIONS, CONTEMPT) else words)


class Recognised(NamedTuple):
    """A layout of a set that was found."""

    layout: str
    """As the card describes it."""
    folder: str
    paths: Paths
    """Of this folder's files and subfolders, by names that the layout's reader knows."""


class Cell(NamedTuple):
    """A picture that stands in a cell of a Parquet table."""

    table: str
    """Absolute."""
    version: tuple[int | None, int | None]
    """Of the table, when it was read: size in bytes and time of last change in ns."""
    column: str
    row: int
    """From 0."""


class Row(NamedTuple):
    """One labelled face or clip of an index, its label as the set writes it."""

    path: str | None
    label: str
    subject: str | None = None
    box: Box | None = None
    name: str | None = None
    pixels: NDArray[np.uint8] | None = None
    columns: Mapping[str, str] = NO_COLUMNS
    """What else is known of it: `gender`, `age`, a column of a table."""
    alias: str | None = None
    """Another name that predictions may give this image."""
    cell: Cell | None = None
    votes: Mapping[str, float] | None = None
    """Annotators by the class that they named, where there are several; or shares, which sum to more than 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRows:
    """A split as its files list it, before labels are mapped and files looked for."""

    split: str
    rows: Sequence[Row]
    faces: Faces
    protocol: str | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    """Labelled faces that are not among the rows, by reason."""
    remarks: Sequence[str] = ()
    from_index: bool = False
    """Whether an index names the files, so that some may be missing."""
    names_classes: bool = False
    """Whether the labels name classes, as folders do: an unknown one is a whole class then, and refused."""
    columns: tuple[str, ...] = ()
    """Names of what else can be asked for of each image."""
    unit: Unit = "image"
    """Of clips, the path of a row is a video or a folder of frames."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which people have a set on disk."""

    recognise: Callable[[Request, str], Paths]
    """The paths that `read` needs, by name, if this folder has the layout; else empty."""
    read: Callable[[Request, Recognised], SplitRows]


def image_count(count: int, unit: Unit = "image") -> str:
    """Such as `1 image` and `3,068 images`."""
    return f"{count:,} {unit}{'' if count == 1 else 's'}"
