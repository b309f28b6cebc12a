"""Folders named by class, within a folder for each split: how most public copies of a set lie on disk."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.classes import emotion_named, is_certain, is_number, readings
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from motivnet_cli.evaluation.datasets.disk import Disk
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

SPLIT_WORDS = {
    "train": ("train", "training", "train_set", "trainset", "training_set", "fer2013train"),
    "val": ("val", "valid", "validation", "val_set", "valid_set", "validation_set", "fer2013valid"),
    "test": ("test", "testing", "test_set", "testset", "fer2013test"),
    "public": ("public", "publictest"),
    "private": ("private", "privatetest"),
}
"""What a split's folder, list or table may be called, in lower case."""
NO_PICTURE = "not a picture by its ending"
"""Why a file in a class folder is not among the rows."""
MAX_WRAPPERS = 2
"""Folders between that of a split and those of its classes, such as `Val/Val_Aligned_Faces_new/Val_Aligned_Faces/`."""


def split_named(name: str) -> str | None:
    """The split that a folder's name means, a key of SPLIT_WORDS."""
    return next((split for split, words in SPLIT_WORDS.items() if name.casefold() in words), None)


def split_of_words(name: str) -> str | None:
    """The split that one word of a file's name means, such as that of `affectnet_validation-cls7`; None for two."""
    found = {split for word in re.split(r"[^a-z]+", name.casefold()) if (split := split_named(word))}
    return found.pop() if len(found) == 1 else None


# ---- recognising ------------------------------------------------------------------------------------------


def class_folder_layout(*, protocol: str | None = None, are_its_own: bool = True) -> Layout:
    """A layout of class folders within a folder for each split.

    Args:
        are_its_own: Whether numbers of folders are the set's own if they fit.
        protocol: Which of the set's protocols these images are; another one that is asked for is not found here.
    """

    def recognise(request: Request, folder: str) -> Paths:
        if protocol is not None and request.protocol not in (None, protocol):
            return {}
        return find_split_folders(request, folder)

    return Layout(recognise, partial(read_split_folders, protocol=protocol, are_its_own=are_its_own))


def find_split_folders(request: Request, folder: str) -> dict[str, str]:
    """The folder of each split that holds folders named by class, by keys of SPLIT_WORDS.

    The folder itself may be that of a split.

    Raises:
        ConfigError: Several folders could be the same split.
    """
    found: dict[str, list[str]] = {}
    for name in request.disk.folders(folder):
        if split := split_named(name):
            found.setdefault(split, []).extend(class_roots(request, f"{folder}/{name}"))
    own = split_named(posixpath.basename(folder))
    if own and not any(found.values()) and has_class_folders(request, folder):
        found[own] = [folder]
    return one_of_each(request, found)


def one_of_each(request: Request, found: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The folder of each split, of those that could be it; without the splits that have none.

    Raises:
        ConfigError: Several could be the same split.
    """
    for split, paths in found.items():
        if len(paths) > 1:
            names = " and ".join(map(repr, paths))
            raise ConfigError(f"{request.card.name}: {names} could all be the split {split}: name one as --root")
    return {split: paths[0] for split, paths in found.items() if paths}


def class_roots(request: Request, folder: str) -> list[str]:
    """Where the class folders below a folder lie: in it, or in folders around them that hold nothing else."""
    for level in request.disk.levels(folder, MAX_WRAPPERS):
        if there := [path for path in level if has_class_folders(request, path)]:
            return there
    return []


def has_class_folders(request: Request, folder: str) -> bool:
    return any(names_class(request, name) for name in request.disk.folders(folder))


def names_class(request: Request, label: str) -> bool:
    """Whether a folder's name is a class: the set's own label, one that the user maps, an emotion's name, or a number.

    Any number counts where the set numbers its classes: whether it is one of them is asked later, and said.
    """
    if is_number(label) and any(map(is_number, request.card.labels)):
        return True
    return request.meaning_of(label) is not None


# ---- reading ----------------------------------------------------------------------------------------------


def read_split_folders(
    request: Request, found: Recognised, *, protocol: str | None = None, are_its_own: bool = True
) -> SplitRows:
    """The pictures of a split, labelled by their class folders.

    Raises:
        ConfigError: The split is not there, or numbered folders can be read in more than one way.
    """
    split, word, remarks = chosen_split(request, found)
    folder = found.paths[word]
    labels = [label for path in found.paths.values() for label in request.disk.folders(path)]
    check_numbers(request, labels, "folders", are_its_own=are_its_own)
    remarks += _remark_on_numbers(request, labels)
    return read_classes(request, folder, split=split, protocol=protocol, remarks=remarks)


def chosen_split(request: Request, found: Recognised) -> tuple[str, str, list[str]]:
    """The split of the set that is read, which of the found splits it is, and what must be said of that.

    Without a split, it is the card's default, or where that is not there, a single other one that is not for training.
    To learn from, it is the split for training, or where there is none, the card's default.

    Args:
        found: With paths by keys of SPLIT_WORDS.

    Raises:
        ConfigError: The split is not there.
    """
    card, there = request.card, found.paths
    splits = {split: word for split in card.splits if (word := next(filter(there.get, card.words_of(split)), None))}
    default = "train" if request.for_training and "train" in splits else card.default_split
    chosen, remarks = request.split or default, []
    if chosen not in splits and request.split is None and not request.for_training:
        others = [split for split in splits if split != "train"]
        if len(others) == 1:
            chosen = others[0]
            remarks.append(f"this copy has no split {card.default_split}: the split {chosen} is read")
    if chosen not in splits:
        call = f", such as `{request.command(split=next(reversed(splits)))}`" if splits else ""
        raise ConfigError(
            f"{card.name}: {found.folder!r} has no split {chosen!r} in this layout ({found.layout}); "
            f"it has {', '.join(splits) or 'none of this set'}: choose with --split{call}"
        )
    word = splits[chosen]
    if word != card.words_of(chosen)[0]:
        name = posixpath.basename(there[word])
        remarks.append(f"the split {chosen} is read from {name!r}: check that its images are that split's")
    return chosen, word, remarks


def read_classes(
    request: Request,
    folder: str,
    *,
    split: str,
    protocol: str | None = None,
    remarks: Sequence[str] = (),
    names: Iterable[str] | None = None,
) -> SplitRows:
    """The pictures below the class folders of a folder.

    Args:
        names: Of the class folders; None for all subfolders.
    """
    dropped: Counter[str] = Counter()
    names = request.disk.folders(folder) if names is None else names
    return SplitRows(
        split=split,
        protocol=protocol,
        rows=rows_in_folders(request.disk, folder, names, dropped),
        faces=request.card.faces,
        dropped=dropped,
        remarks=remarks,
        names_classes=True,
    )


def rows_in_folders(disk: Disk, folder: str, names: Iterable[str], dropped: Counter[str]) -> list[Row]:
    """Every picture below these subfolders, labelled by the subfolder's name."""
    rows = []
    for name in names:
        for path in disk.walk(f"{folder}/{name}"):
            if kind_of(path) == "image":
                rows.append(Row(path, name))
            else:
                dropped[NO_PICTURE] += 1
    return rows


def check_numbers(request: Request, labels: Collection[str], what: str, *, are_its_own: bool = True) -> None:
    """Refuse numbers that can be read in more than one way, and name the call for each way.

    Args:
        labels: Of all splits that are there: half a set leaves open what the whole tells.
        what: They are: `folders` or `labels`.
        are_its_own: Whether these are the set's own numbers if they fit; False for a source that may number otherwise.

    Raises:
        ConfigError: The user's label map does not name them all, and they are not certainly the set's own.
    """
    numbers = sorted({label for label in labels if is_number(label)}, key=int)
    if all(number in request.given or number in request.classes for number in numbers):
        return
    if are_its_own and is_certain(request.card.labels, numbers):
        return
    if request.naming == "classes":
        raise ConfigError(
            f"{request.card.name}: the {what} {', '.join(numbers)} under {request.root!r} are numbers, which name none "
            f"of the classes {', '.join(request.classes)}: say which each is, such as --label-map "
            f"{numbers[0]}={request.classes[0]},... (or drop)"
        )
    calls = "; ".join(
        f"{each.name}: `{request.command(label_map=_meanings(each.classes, numbers))}`"
        for each in readings(request.card.labels, request.card.name, numbers, are_its_own=are_its_own)
    )
    if request.naming == "labels":
        calls += f"{'; ' if calls else ''}classes of your own: --label-map {numbers[0]}=NAME,..."
    raise ConfigError(
        f"{request.card.name}: the {what} {', '.join(numbers)} under {request.root!r} can be read in more than one "
        f"way. Look at a few images of each, and say which it is: {calls or f'--label-map {numbers[0]}=EMOTION,...'}"
    )


def _remark_on_numbers(request: Request, labels: Collection[str]) -> Iterator[str]:
    """Numbers from 0 that are read as the set's own are said: loaders number folders by the alphabet, from 0 too."""
    numbers = sorted({label for label in labels if is_number(label) and label not in request.given}, key=int)
    if "0" in numbers:
        own = ", ".join(f"{number} {request.card.labels[number]}" for number in numbers)
        yield f"the folders are read by {request.card.name}'s own numbers, not by the alphabet: {own}"


def _meanings(classes: Mapping[str, str], numbers: Iterable[str]) -> dict[str, str]:
    """Of these numbers, as a label map has them."""
    return {number: emotion_named(classes[number]) or "drop" for number in numbers}
