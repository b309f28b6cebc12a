"""ExpW: a list of faces with their boxes, and the images that it names."""

from __future__ import annotations

from collections import Counter
from math import isfinite
from typing import TYPE_CHECKING

from motivnet_cli.evaluation.datasets.disk import join_path, normalise_label, read_lines
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows
from motivnet_cli.evaluation.datasets.lists import folder_of_images

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
            _, *sides, _, label = numbers
            top, left, right, bottom = map(float, sides)
        except ValueError:
            dropped["line not understood"] += 1
            continue
        if left < right and top < bottom and all(map(isfinite, (left, top, right, bottom))):
            faces.append((name, normalise_label(label), (left, top, right, bottom)))
        else:
            dropped["box not understood"] += 1
    folder = folder_of_images(request, index, [name for name, _, _ in faces])
    rows = [Row(join_path(folder, name), label, box=box) for name, label, box in faces]
    return SplitRows(split="all", rows=rows, faces=request.card.faces, dropped=dropped, from_index=True)


LAYOUTS = (Layout(_recognise, _read),)
