"""Sets of one's own in folders named by emotion."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets import kdef, lists
from motivnet_cli.evaluation.datasets.by_class import (
    NO_PICTURE,
    check_numbers,
    chosen_split,
    find_split_folders,
    read_classes,
    read_split_folders,
    split_named,
)
from motivnet_cli.evaluation.datasets.classes import is_number
from motivnet_cli.evaluation.datasets.layouts import MAX_NAMES, Layout, Row, SplitRows
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request


def has_emotion_folders(request: Request, folder: str) -> bool:
    """Whether folders are named by emotion, by number or, where labels may say anything, hold something."""
    names = request.disk.folders(folder)
    if request.naming == "labels":
        return bool(names) and not any(_is_split(request, folder, name) for name in names)
    return any(request.meaning_of(name) or is_number(name) for name in names)


def _is_split(request: Request, folder: str, name: str) -> bool:
    """Whether a folder is a split by its name: it holds no pictures, as a class that is called `train` does."""
    path = f"{folder}/{name}"
    files = request.disk.files(path)
    return split_named(name) is not None and bool(request.disk.folders(path)) and "image" not in map(kind_of, files)


def _recognise_folders(request: Request, folder: str) -> Paths:
    if request.naming == "labels" and lists.JSON.recognise(request, folder):
        return {}  # the folders beside the list hold its images
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
    rows = _or_videos(request, found.paths[word], read_split_folders(request, found))
    if request.naming == "labels" and (beside := [*_beside_splits(request, found.folder)]):
        remark = f"folders beside those of the splits are not read: {', '.join(beside[:MAX_NAMES])}"
        rows = replace(rows, remarks=(*rows.remarks, remark))
    return rows


def _beside_splits(request: Request, folder: str) -> Iterator[str]:
    """The folders that could be classes and are none, since there are splits."""
    for name in request.disk.folders(folder):
        if split_named(name) is None and "image" in map(kind_of, request.disk.walk(f"{folder}/{name}")):
            yield name


LAYOUTS = (Layout(_recognise_folders, _read_folders), Layout(find_split_folders, _read_split))
