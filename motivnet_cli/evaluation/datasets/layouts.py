"""What the readers of all sets share: what is asked of them, what they answer, and folders named by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.classes import emotion_named
from motivnet_cli.inputs.names import kind_of
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from motivnet_cli.evaluation.datasets.cards import DatasetCard, Faces
    from motivnet_cli.evaluation.datasets.disk import Disk
    from motivnet_cli.records import Box

SEARCH_DEPTH = 2
"""How many folders below the root a set is looked for."""
MAX_NAMES = 5
"""How many of a kind a message names."""

Paths = Mapping[str, str]
NO_COLUMNS: Mapping[str, str] = MappingProxyType({})


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
    """Whose images are kept: the seven emotions, perhaps with contempt as the eighth."""


class Recognised(NamedTuple):
    """A layout of a set that was found."""

    layout: str
    """As the card describes it."""
    folder: str
    paths: Paths
    """Of this folder's files and subfolders, by names that the layout's reader knows."""


class Row(NamedTuple):
    """One labelled face of an index, its label as the set writes it."""

    path: str | None
    label: str
    subject: str | None = None
    box: Box | None = None
    name: str | None = None
    pixels: NDArray[np.uint8] | None = None
    columns: Mapping[str, str] = NO_COLUMNS
    """What else is known of it: `gender`, `age`, a column of a table."""


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
    by_folder: bool = False
    """Whether the labels are names of folders, so that an unknown one is a whole class."""
    columns: tuple[str, ...] = ()
    """Names of what else can be asked for of each image."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which people have a set on disk."""

    recognise: Callable[[Request, str], Paths]
    """The paths that `read` needs, by name, if this folder has the layout; else empty."""
    read: Callable[[Request, Recognised], SplitRows]


def image_count(count: int) -> str:
    """Such as `1 image` and `3,068 images`."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def find_class_folders(request: Request, folder: str, splits: Mapping[str, Sequence[str]]) -> Paths:
    """The folder of each split that has subfolders named by the set's labels, or by emotions in any spelling.

    Args:
        splits: Split -> names that its folder may have.
    """
    found: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            path = request.disk.child(folder, name)
            if path and any(_names_class(request.card, label) for label in request.disk.folders(path)):
                found.setdefault(split, path)
    return found


def _names_class(card: DatasetCard, label: str) -> bool:
    return label.casefold() in card.labels or emotion_named(label) is not None


def read_class_folders(
    request: Request, found: Recognised, *, default: str, remark: str = "", protocol: str | None = None
) -> SplitRows:
    """The pictures of one of the folders that `find_class_folders` found.

    Args:
        default: The split that is read where none is asked for; then `remark` is made, if there is one.
    """
    split = request.split or default
    if split not in found.paths:
        raise ConfigError(
            f"{request.card.name}: {found.folder!r} has no split {split!r} in this layout ({found.layout}); "
            f"it has {', '.join(found.paths)}: choose with --split"
        )
    folder = found.paths[split]
    dropped: Counter[str] = Counter()
    return SplitRows(
        split=split,
        protocol=protocol,
        rows=rows_in_folders(request.disk, folder, request.disk.folders(folder), dropped),
        faces=request.card.faces,
        dropped=dropped,
        remarks=(remark,) if remark and request.split is None else (),
        by_folder=True,
    )


def rows_in_folders(disk: Disk, folder: str, names: Iterable[str], dropped: Counter[str]) -> list[Row]:
    """Every picture below these subfolders, labelled by the subfolder's name."""
    rows = []
    for name in names:
        for path in disk.walk(f"{folder}/{name}"):
            if kind_of(path) == "image":
                rows.append(Row(path, name))
            else:
                dropped["not a picture by its ending"] += 1
    return rows
