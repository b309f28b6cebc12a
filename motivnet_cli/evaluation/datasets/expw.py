"""ExpW: a list of faces with their boxes, and the images that it names."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.disk import read_lines
from motivnet_cli.evaluation.datasets.layouts import SEARCH_DEPTH, Layout, Row, SplitRows

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request
    from motivnet_cli.records import Box


def _recognise(request: Request, folder: str) -> Paths:
    index = request.disk.child(folder, "label.lst", "label/label.lst")
    return {"index": index} if index else {}


def _read(request: Request, found: Recognised) -> SplitRows:
    index = found.paths["index"]
    dropped: Counter[str] = Counter()
    faces: list[tuple[str, str, Box]] = []
    for line in read_lines(index):
        name, *numbers = line.rsplit(None, 7)  # a name may hold spaces
        try:
            _, top, left, right, bottom, _, label = map(float, numbers)
        except ValueError:
            dropped["line not understood"] += 1
            continue
        if left < right and top < bottom:
            faces.append((name, str(int(label)), (left, top, right, bottom)))
        else:
            dropped["box not understood"] += 1
    folder = _folder_of(request, [name for name, _, _ in faces])
    if folder is None:
        raise ConfigError(
            f"expw: {index!r} is there, but no folder under {request.root!r} holds the images that it names"
        )
    rows = [Row(f"{folder}/{name}", label, box=box) for name, label, box in faces]
    return SplitRows(split="all", rows=rows, faces=request.card.faces, dropped=dropped, from_index=True)


def _folder_of(request: Request, names: list[str]) -> str | None:
    """The folder that holds most of a hundred of the images; None where none holds any."""
    sample = names[:: max(1, len(names) // 100)]
    most, chosen = 0, None
    for level in request.disk.levels(request.root, SEARCH_DEPTH + 1):
        for folder in level:
            hits = sum(request.disk.find(f"{folder}/{name}") is not None for name in sample)
            if hits > most:
                most, chosen = hits, folder
    return chosen


LAYOUTS = (Layout(_recognise, _read),)
