"""Sets of one's own in folders named by emotion."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets import kdef
from motivnet_cli.evaluation.datasets.by_class import (
    NO_PICTURE,
    check_numbers,
    chosen_split,
    find_split_folders,
    read_classes,
    read_split_folders,
)
from motivnet_cli.evaluation.datasets.classes import emotion_named, is_number
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request


def has_emotion_folders(request: Request, folder: str) -> bool:
    return any(emotion_named(name) or is_number(name) for name in request.disk.folders(folder))


def _recognise_folders(request: Request, folder: str) -> Paths:
    return {"set": folder} if has_emotion_folders(request, folder) else {}


def _read_folders(request: Request, found: Recognised) -> SplitRows:
    """The folders named by emotion; pictures beside them are counted."""
    if request.split not in (None, "all"):
        raise ConfigError(
            f"folder: {found.folder!r} holds folders named by emotion, and none for a split {request.split!r}: leave "
            "out --split"
        )
    check_numbers(request, request.disk.folders(found.folder), "folders", are_its_own=False)
    rows = read_classes(request, found.folder, split="all")
    if remark := kdef.remark_on_angles(row.path for row in rows.rows):
        rows = replace(rows, remarks=(remark,))
    num_outside = sum(kind_of(name) == "image" for name in request.disk.files(found.folder))
    if num_outside:
        rows.dropped["picture outside the folders named by emotion"] = num_outside
    return _or_videos(request, found.folder, rows)


def _or_videos(request: Request, folder: str, rows: SplitRows) -> SplitRows:
    """The videos below the class folders, where these hold videos and no pictures."""
    if rows.rows:
        return rows
    disk = request.disk
    clips = [
        Row(path, name)
        for name in disk.folders(folder)
        for path in disk.walk(f"{folder}/{name}")
        if kind_of(path) == "video"
    ]
    if clips:
        rows.dropped[NO_PICTURE] -= len(clips)
    return replace(rows, rows=clips, unit="clip") if clips else rows


def _read_split(request: Request, found: Recognised) -> SplitRows:
    """One of several folders that each hold folders named by emotion."""
    is_chosen = request.for_training and request.split is None and "train" in found.paths
    if request.split in (None, "all") and not is_chosen:
        splits = ", ".join(found.paths)
        raise ConfigError(
            f"folder: {found.folder!r} holds folders of emotions for {splits}: choose with --split, such as "
            f"`{request.command(split=next(iter(found.paths)))}`"
        )
    word = chosen_split(request, found)[1]
    return _or_videos(request, found.paths[word], read_split_folders(request, found))


LAYOUTS = (Layout(_recognise_folders, _read_folders), Layout(find_split_folders, _read_split))
