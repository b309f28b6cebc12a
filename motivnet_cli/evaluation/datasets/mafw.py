"""MAFW, single expressions: five folds of a list each, with clips as videos or as folders of frames."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from motivnet_cli.evaluation.datasets.clip_folders import chosen_clips, chosen_folds, find_folds, numbered_clips
from motivnet_cli.evaluation.datasets.disk import read_lines
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_LISTS = (
    "Train & Test Set/single/no_caption/set_{fold}/test.txt",
    "train_test_set/Train & Test Set/single/no_caption/set_{fold}/test.txt",
    "split/single/no_caption/set_{fold}/test.txt",
    "single/no_caption/set_{fold}/test.txt",
)
_CLIPS = {
    "original": ("data/clips/unzip", "data/clips", "clips"),
    "frames": ("data/frames",),
    "faces": ("data/faces", "data/frames/frames_crop_align_224", "data/frames_crop_align_224"),
}


def _recognise(request: Request, folder: str) -> Paths:
    return find_folds(request, folder, _LISTS, _CLIPS)


def _read(request: Request, found: Recognised) -> SplitRows:
    protocol, folder, remarks = chosen_clips(request, found)
    split, lists = chosen_folds(request, found)
    clips = numbered_clips(request.disk, folder)
    rows = []
    dropped: Counter[str] = Counter()
    for path in lists:
        for line in read_lines(path):
            name, _, label = line.partition(" ")
            number = name.partition(".")[0].lstrip("0")
            if number.isdecimal() and label.strip():
                rows.append(Row(clips.get(number, f"{folder}/{name}"), label.strip()))
            else:
                dropped["line not understood"] += 1
    return SplitRows(
        split=split,
        protocol=protocol,
        rows=rows,
        faces="whole" if protocol == "faces" else "auto",
        dropped=dropped,
        remarks=remarks,
        from_index=True,
        unit="clip",
    )


LAYOUTS = (Layout(_recognise, _read),)
