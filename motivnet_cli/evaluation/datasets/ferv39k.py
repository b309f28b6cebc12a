"""FERV39k: one list of all scenes for each split, with clips as folders of cropped faces."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from motivnet_cli.evaluation.datasets.by_class import chosen_split
from motivnet_cli.evaluation.datasets.classes import emotion_named
from motivnet_cli.evaluation.datasets.disk import join_path, read_lines
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows, image_count

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_LISTS = ("4_setups/All_scenes/{split}_All.csv", "All_scenes/{split}_All.csv", "{split}_All.csv")
_CLIPS = ("2_ClipsforFaceCrop/2_ClipsforFaceCrop", "2_ClipsforFaceCrop")


def _recognise(request: Request, folder: str) -> Paths:
    found = {
        split: path
        for split in request.card.splits
        if (path := request.disk.child(folder, *(name.format(split=split) for name in _LISTS)))
    }
    clips = request.disk.child(folder, *_CLIPS)
    return {**found, "clips": clips} if found and clips else {}


def _read(request: Request, found: Recognised) -> SplitRows:
    split, word, remarks = chosen_split(request, found)
    rows = []
    dropped: Counter[str] = Counter()
    num_elsewhere = 0
    for line in read_lines(found.paths[word]):
        path, _, label = line.replace(",", " ").rpartition(" ")
        if not path:
            dropped["line not understood"] += 1
            continue
        folders = path.strip().replace("\\", "/").split("/")
        num_elsewhere += len(folders) > 1 and emotion_named(folders[-2]) not in (None, emotion_named(label))
        rows.append(Row(join_path(found.paths["clips"], path.strip()), label))
    if num_elsewhere:
        where = "in a folder of another class than the list says"
        remarks.append(f"{image_count(num_elsewhere, 'clip')} {where}: the list counts")
    return SplitRows(
        split=split,
        rows=rows,
        faces=request.card.faces,
        dropped=dropped,
        remarks=remarks,
        from_index=True,
        unit="clip",
    )


LAYOUTS = (Layout(_recognise, _read),)
