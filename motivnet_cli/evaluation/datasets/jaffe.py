"""JAFFE: pictures whose names hold the subject and the expression, in whatever folders."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from typing import TYPE_CHECKING

from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_NAME = re.compile(r"([A-Z]{2})[.-]([A-Z]{2})(\d*)[.-](\d+)(?:\.tiff?)?\.(?:tiff?|png|jpe?g|bmp)", re.IGNORECASE)
"""Subject, expression, take, number: `KA.AN1.39.tiff`, and of converted ones `KA.AN1.39.tiff.jpg`, `KA-AN1-39.jpg`."""


def _recognise(request: Request, folder: str) -> Paths:
    disk = request.disk
    folders = [folder, *(f"{folder}/{name}" for name in disk.folders(folder))]
    there = [path for path in folders if any(map(_NAME.fullmatch, disk.files(path)))]
    # Two copies side by side are not taken for one set in two folders.
    return {"pictures": folder} if there and _are_parts(request, there) else {}


def _are_parts(request: Request, folders: list[str]) -> bool:
    """Whether no picture is in two of these folders."""
    names = [name for folder in folders for name in request.disk.files(folder) if _NAME.fullmatch(name)]
    return len(names) == len(set(names))


def _read(request: Request, found: Recognised) -> SplitRows:
    rows = []
    dropped: Counter[str] = Counter()
    for path in request.disk.walk(found.folder):
        match = _NAME.fullmatch(posixpath.basename(path))
        if match:
            rows.append(Row(path, match[2].casefold(), subject=match[1].upper()))
        elif kind_of(path) == "image":
            dropped["name not understood"] += 1
    return SplitRows(split="all", rows=rows, faces=request.card.faces, dropped=dropped)


LAYOUTS = (Layout(_recognise, _read),)
