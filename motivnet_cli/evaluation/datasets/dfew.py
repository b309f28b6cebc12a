"""DFEW: five folds of a list each, with clips as folders of aligned faces or as the original videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motivnet_cli.evaluation.datasets.by_class import check_numbers
from motivnet_cli.evaluation.datasets.clip_folders import chosen_clips, chosen_folds, find_folds, numbered_clips
from motivnet_cli.evaluation.datasets.disk import normalise_label, scan_csv
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_LISTS = (
    "EmoLabel_DataSplit/test(single-labeled)/set_{fold}.csv",
    "EmoLabel_DataSplit/test(single-labeled)/test_set_{fold}.csv",
    "EmoLabel_DataSplit/test(single_labeled)/set_{fold}.csv",
    "EmoLabel_DataSplit/test/set_{fold}.csv",
    "label/single_testset_{fold}.csv",
)
"""The authors' page and their archive spell the folder in two ways; the last is of their training code."""
_CLIPS = {
    "aligned": ("Clip/clip_224x224", "clip_224x224", "Clip/clip_224x224_avi", "clip_224x224_avi", "data"),
    "aligned_16f": ("Clip/clip_224x224_16f", "clip_224x224_16f"),
    "original": ("Clip/original", "original"),
}


def _recognise(request: Request, folder: str) -> Paths:
    return find_folds(request, folder, _LISTS, _CLIPS)


def _read(request: Request, found: Recognised) -> SplitRows:
    protocol, folder, remarks = chosen_clips(request, found)
    split, lists = chosen_folds(request, found)
    clips = numbered_clips(request.disk, folder)
    rows = []
    for path in lists:
        table = scan_csv(path, {"name": "video_name", "label": "label"}, without_header={"name": 0, "label": 1})
        labels = [(name or "", normalise_label(label or "")) for name, label in table.collect().iter_rows()]
        check_numbers(request, {label for _, label in labels}, "labels")
        for name, label in labels:
            number = name.strip().rpartition("/")[2].partition(".")[0].lstrip("0")
            rows.append(Row(clips.get(number, f"{folder}/{number.zfill(5)}"), label))
    return SplitRows(
        split=split,
        protocol=protocol,
        rows=rows,
        faces="auto" if protocol == "original" else "whole",
        remarks=remarks,
        from_index=True,
        unit="clip",
    )


LAYOUTS = (Layout(_recognise, _read),)
