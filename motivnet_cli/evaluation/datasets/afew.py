"""AFEW: clips in folders by class, within a folder for each split."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from motivnet_cli.evaluation.datasets.by_class import chosen_split, class_roots, one_of_each
from motivnet_cli.evaluation.datasets.clip_folders import clips_below
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_FACES = re.compile("aligned_?faces", re.IGNORECASE)
"""A folder beside those of the classes: the same clips once more, without their classes."""
_FOLDERS = {"train": ("Train_AFEW", "Train"), "val": ("Val_AFEW", "Val", "Validation")}


def _recognise(request: Request, folder: str) -> Paths:
    """The folder of each split that holds folders named by class with clips in them.

    Raises:
        ConfigError: Several folders could be the same split.
    """
    found: dict[str, list[str]] = {}
    for split, names in _FOLDERS.items():
        path = request.disk.child(folder, *names)
        roots = class_roots(request, path) if path else []
        found[split] = [classes for classes in roots if any(_rows(request, classes))]
    return one_of_each(request, found)


def _read(request: Request, found: Recognised) -> SplitRows:
    split, word, remarks = chosen_split(request, found)
    rows = [*_rows(request, found.paths[word])]
    return SplitRows(split=split, rows=rows, faces=request.card.faces, remarks=remarks, names_classes=True, unit="clip")


def _rows(request: Request, folder: str) -> Iterator[Row]:
    disk = request.disk
    names = [name for name in disk.folders(folder) if not _FACES.match(name)]
    return (Row(path, name) for name in names for path in clips_below(disk, f"{folder}/{name}"))


LAYOUTS = (Layout(_recognise, _read),)
