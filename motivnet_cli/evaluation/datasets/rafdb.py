"""RAF-DB: the authors' list of labels with its images, and Kaggle's folders."""

from __future__ import annotations

import posixpath
from collections import Counter
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.disk import read_lines
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows, find_class_folders, read_class_folders

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_LISTS = ("list_patition_label.txt", "list_partition_label.txt")
"""The first is as the authors spell it."""


def _recognise_list(request: Request, folder: str) -> Paths:
    index = request.disk.child(folder, *(f"EmoLabel/{name}" for name in _LISTS))
    return {"index": index} if index else {}


def _read_list(request: Request, found: Recognised) -> SplitRows:
    index = found.paths["index"]
    pictures = {name: request.disk.child(found.folder, f"Image/{name}") for name in request.card.protocols}
    protocol = request.protocol or next((name for name, path in pictures.items() if path), "aligned")
    folder = pictures[protocol]
    if folder is None:
        raise ConfigError(f"rafdb: {index!r} is there, but no folder Image/{protocol} beside EmoLabel")
    split = request.split or request.card.default_split
    dropped: Counter[str] = Counter()
    rows = []
    for line in read_lines(index):
        name, _, label = line.rpartition(" ")
        stem, suffix = posixpath.splitext(name.strip())
        if not suffix:
            dropped["line not understood"] += 1
        elif stem.casefold().startswith(f"{split}_"):
            file = f"{stem}_aligned{suffix}" if protocol == "aligned" else name.strip()
            rows.append(Row(f"{folder}/{file}", label))
    is_second_choice = request.protocol is None and protocol != request.card.default_protocol
    return SplitRows(
        split=split,
        protocol=protocol,
        rows=rows,
        faces="whole" if protocol == "aligned" else "auto",
        dropped=dropped,
        remarks=("Image/aligned is not there: the original photographs are used",) if is_second_choice else (),
        from_index=True,
    )


def _recognise_folders(request: Request, folder: str) -> Paths:
    if request.protocol == "original":
        return {}
    return find_class_folders(request, folder, {"train": ["train"], "test": ["test"]})


def _read_folders(request: Request, found: Recognised) -> SplitRows:
    return read_class_folders(request, found, default="test", protocol="aligned")


LAYOUTS = (Layout(_recognise_list, _read_list), Layout(_recognise_folders, _read_folders))
