"""RAF-DB: the authors' list of labels with its images, and Kaggle's folders."""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.by_class import class_folder_layout
from motivnet_cli.evaluation.datasets.disk import read_lines
from motivnet_cli.evaluation.datasets.layouts import MAX_NAMES, NO_COLUMNS, Layout, Row, SplitRows, image_count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_LISTS = ("list_patition_label.txt", "list_partition_label.txt")
"""The first is as the authors spell it."""
_COMPOUND_ONLY = ("8", "9", "10", "11")
"""Numbers of compound emotions that are none of basic ones."""
_NUM_LANDMARKS = 5
_ANNOTATIONS = {
    "gender": {"0": "male", "1": "female", "2": "unsure"},
    "race": {"0": "Caucasian", "1": "African-American", "2": "Asian"},
    "age": {"0": "0-3", "1": "4-19", "2": "20-39", "3": "40-69", "4": "70+"},
}
"""The lines of `Annotation/manual/train_00001_manu_attri.txt` after those of the landmarks, in this order. Numbers and
meanings are as public readers of the set have them: what annotators saw, and not what people said of themselves."""


def _list_layout(*, compound: bool) -> Layout:
    """The authors' list with its images, of the one subset or the other: both are laid out alike."""

    def recognise(request: Request, folder: str) -> Paths:
        index = request.disk.child(folder, *(f"EmoLabel/{name}" for name in _LISTS), *_LISTS)
        return {"index": index} if index and _is_compound(index) == compound else {}

    return Layout(recognise, _read_list)


def _is_compound(index: str) -> bool:
    """Whether a list is of the subset of compound emotions. It numbers them from 1 to 11, the other from 1 to 7."""
    if "compound" in index.casefold().split("/")[-3:-1]:  # compound/EmoLabel/list... or compound/list...
        return True
    return any(line.rpartition(" ")[2] in _COMPOUND_ONLY for line in read_lines(index))


def _read_list(request: Request, found: Recognised) -> SplitRows:
    index = found.paths["index"]
    pictures = {name: _folder_of(request, found.folder, name) for name in request.card.protocols}
    protocol = request.protocol or next((name for name, path in pictures.items() if path), "aligned")
    folder = pictures[protocol]
    if folder is None:
        raise ConfigError(f"{request.card.name}: {index!r} is there, but no folder Image/{protocol} beside EmoLabel")
    split = request.split or request.card.default_split
    manual = request.disk.child(found.folder, "Annotation/manual")
    is_asked = manual is not None and not _ANNOTATIONS.keys().isdisjoint(request.columns)
    dropped: Counter[str] = Counter()
    rows = []
    for line in read_lines(index):
        name, _, label = line.rpartition(" ")
        stem, suffix = posixpath.splitext(name.strip())
        if not suffix:
            dropped["line not understood"] += 1
        elif stem.casefold().startswith(f"{split}_"):
            file = f"{stem}_aligned{suffix}" if protocol == "aligned" else name.strip()
            known = _annotations(request, f"{manual}/{stem}_manu_attri.txt") if is_asked else NO_COLUMNS
            rows.append(Row(f"{folder}/{file}", label, columns=known))
    is_second_choice = request.protocol is None and protocol != request.card.default_protocol
    return SplitRows(
        split=split,
        protocol=protocol,
        rows=rows,
        faces="whole" if protocol == "aligned" else "auto",
        dropped=dropped,
        remarks=("Image/aligned is not there: the original photographs are used",) if is_second_choice else (),
        from_index=True,
        columns=tuple(_ANNOTATIONS) if manual else (),
    )


def _folder_of(request: Request, folder: str, protocol: str) -> str | None:
    """Where the pictures lie; an archive may have been unpacked in a folder of its own name."""
    names = (f"Image/{protocol}/{protocol}", f"Image/{protocol}", f"{protocol}/{protocol}", protocol)
    return request.disk.child(folder, *names)


def _annotations(request: Request, path: str) -> Mapping[str, str]:
    """What annotators saw, by name; nothing where the file is missing.

    Raises:
        ConfigError: The file holds something else.
    """
    if (found := request.disk.find(path)) is None:
        return NO_COLUMNS
    numbers = [line.strip() for line in read_lines(found)][_NUM_LANDMARKS:]
    known = {
        name: meanings[number]
        for (name, meanings), number in zip(_ANNOTATIONS.items(), numbers, strict=False)
        if number in meanings
    }
    if len(known) != len(_ANNOTATIONS) or len(numbers) != len(known):
        raise ConfigError(
            f"RAF-DB: {found!r} holds {', '.join(map(repr, numbers[:MAX_NAMES])) or 'nothing'} after its landmarks: "
            f"expected the numbers of {', '.join(_ANNOTATIONS)}, one a line"
        )
    return known


_FOLDERS = class_folder_layout(protocol="aligned")


def _read_folders(request: Request, found: Recognised) -> SplitRows:
    """The folders of a split, which are believed; file names of the authors that say another split are counted."""
    rows = _FOLDERS.read(request, found)
    other = "test" if rows.split == "train" else "train"
    wrong = sum(posixpath.basename(row.path or "").casefold().startswith(f"{other}_") for row in rows.rows)
    if not wrong:
        return rows
    remark = f"{image_count(wrong)} named as the split {other} are, and read as {rows.split}"
    return replace(rows, remarks=(*rows.remarks, remark))


LAYOUTS = (_list_layout(compound=False), Layout(_FOLDERS.recognise, _read_folders))
COMPOUND_LAYOUTS = (_list_layout(compound=True),)
