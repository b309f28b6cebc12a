"""SFEW 2.0: folders of aligned faces by class, within a folder for each split."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from motivnet_cli.evaluation.datasets.layouts import Layout, find_class_folders, read_class_folders

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request, SplitRows

_FACES = re.compile(r"(train|val)_aligned_faces", re.IGNORECASE)


def _recognise(request: Request, folder: str) -> Paths:
    splits: dict[str, list[str]] = {}
    for split in ("Train", "Val"):
        path = request.disk.child(folder, split)
        names = [name for name in (request.disk.folders(path) if path else []) if _FACES.match(name)]
        splits[split.casefold()] = [f"{split}/{name}" for name in names if name.casefold().startswith(split.casefold())]
    return find_class_folders(request, folder, splits)


def _read(request: Request, found: Recognised) -> SplitRows:
    return read_class_folders(request, found, default="val")


LAYOUTS = (Layout(_recognise, _read),)
