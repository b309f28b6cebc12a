"""Sets of one's own: folders named by emotion, and tables of paths and labels."""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.by_class import (
    NO_PICTURE,
    check_numbers,
    find_split_folders,
    read_classes,
    read_split_folders,
)
from motivnet_cli.evaluation.datasets.classes import emotion_named, is_number
from motivnet_cli.evaluation.datasets.disk import join_path, normalise_label
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows, image_count
from motivnet_cli.inputs.box_columns import box_cells, find_box_columns, with_boxes
from motivnet_cli.inputs.names import kind_of, suffix_of
from motivnet_cli.inputs.table import PARQUET_SUFFIXES, PATH_COLUMNS, column_named, open_table
from motivnet_cli.records import BOX_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request, Unit
    from motivnet_cli.inputs.box_columns import BoxColumns
    from motivnet_cli.inputs.table import Table
    from motivnet_cli.records import Box

LABEL_COLUMNS = ("label", "emotion", "expression", "class", "target")
"""Columns that a table's labels are looked for in, in this order; case, spaces and underscores do not count."""

# ---- folders ----------------------------------------------------------------------------------------------


_SPLITS = {name: (name,) for name in ("train", "val", "test", "public", "private")}


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
    if request.split in (None, "all"):
        splits = ", ".join(found.paths)
        raise ConfigError(
            f"folder: {found.folder!r} holds folders of emotions for {splits}: choose with --split, such as "
            f"{request.command(split=next(iter(found.paths)))}"
        )
    rows = read_split_folders(request, found, folders=_SPLITS)
    return _or_videos(request, found.paths[request.split], rows)


LAYOUTS = (Layout(_recognise_folders, _read_folders), Layout(find_split_folders, _read_split))

# ---- tables -----------------------------------------------------------------------------------------------


def check_table(request: Request) -> None:
    """Refuse a root that is no table, or one of another format than the set is called by.

    Raises:
        ConfigError: It is no file, or of the other kind.
    """
    path = request.root
    if not Path(path).is_file():
        raise ConfigError(f"{request.card.name}: {path!r} is no file; --root names the table itself")
    is_parquet = suffix_of(path) in PARQUET_SUFFIXES
    if is_parquet != (request.card.name == "parquet"):
        raise ConfigError(f"{path!r} is {'' if is_parquet else 'not '}a Parquet file by its name: --dataset must agree")


def read_table(request: Request, path_column: str | None, label_column: str | None) -> SplitRows:
    """The rows of a table with a path and a label column, and perhaps boxes and subjects.

    Args:
        path_column: None looks for one of PATH_COLUMNS.
        label_column: None looks for one of LABEL_COLUMNS.
    """
    check_table(request)
    table = open_table(request.root, "table")
    others = [name for name in request.columns if name in table.columns]
    values, boxes = _read_columns(table, path_column, label_column, others)
    has_boxes = boxes is not None
    dropped: Counter[str] = Counter()
    rows = []
    for row in values.iter_rows(named=True):
        if not row["path"] or not row["label"]:
            dropped["no path or no label"] += 1
            continue
        box: Box | None = None
        if has_boxes:
            if row["bad_box"] is not None:
                dropped["box not understood"] += 1
                continue
            if row["box0"] is not None:
                box = (row["box0"], row["box1"], row["box2"], row["box3"])
        known = {name: row[f"other {name}"] for name in others if row[f"other {name}"]}
        file, label = _locate(request, row["path"]), normalise_label(row["label"])
        rows.append(Row(file, label, row.get("subject"), box, columns=known))
    unit = _unit_of(request, rows)
    num_without = sum(row.box is None for row in rows)
    has_boxes = has_boxes and num_without < len(rows)
    remarks = []
    if unit == "clip" and has_boxes:
        rows, has_boxes = [row._replace(box=None) for row in rows], False
        remarks.append("boxes are not used: of clips, faces are looked for in every frame")
    elif boxes and boxes.names != BOX_COLUMNS:
        remarks.append(f"boxes are read from {', '.join(boxes.names)}: {boxes.meaning}")
    if has_boxes and num_without:
        remarks.append(f"{image_count(num_without)} without a box: the face is looked for")
    return SplitRows(
        split="all",
        rows=rows,
        faces="given" if has_boxes else "auto",
        dropped=dropped,
        remarks=tuple(remarks),
        from_index=True,
        columns=tuple(name for name in table.columns if name.casefold() != "subject"),
        unit=unit,
    )


def _unit_of(request: Request, rows: Sequence[Row]) -> Unit:
    """Whether a table is of images or of clips: of videos and folders.

    Raises:
        ConfigError: It is of both.
    """
    paths = [row.path for row in rows if row.path is not None]
    clip = next((path for path in paths if kind_of(path) == "video" or request.disk.is_folder(path)), None)
    if clip is None:
        return "image"
    picture = next((path for path in paths if kind_of(path) == "image" and not request.disk.is_folder(path)), None)
    if picture is not None:
        raise ConfigError(f"{request.root!r} names clips ({clip!r}) and pictures ({picture!r}): make a table of each")
    return "clip"


def _read_columns(
    table: Table, path_column: str | None, label_column: str | None, others: Sequence[str]
) -> tuple[pl.DataFrame, BoxColumns | None]:
    """The columns path and label as text, subject and those of `with_boxes` where they are there; and where boxes are.

    Args:
        others: Columns to be read as text besides, each as `other` and its name.

    Raises:
        ConfigError: As `Table.read`, or boxes are not in pixels.
    """
    by_name = {name.strip().casefold(): name for name in reversed(table.columns)}
    texts = {
        "path": _column(table, path_column, PATH_COLUMNS, "path"),
        "label": _column(table, label_column, LABEL_COLUMNS, "label"),
    }
    if "subject" in by_name:
        texts["subject"] = by_name["subject"]
    texts |= {f"other {name}": name for name in others}
    columns = [table.as_text(name).str.strip_chars().alias(new) for new, name in texts.items()]
    found = find_box_columns(table.columns)
    if found is None:
        return table.read(columns), None
    values, found = with_boxes(table.read([*columns, *box_cells(found, table)]), found)
    if found.is_relative:
        raise ConfigError(f"{table.path!r} has boxes as fractions of the picture: write them in pixels")
    return values, found


def _column(table: Table, chosen: str | None, known: Sequence[str], what: str) -> str:
    there = ", ".join(map(repr, table.columns))
    if chosen is not None:
        if chosen not in table.columns:
            raise ConfigError(f"{table.path!r} has no column {chosen!r}; it has {there}")
        return chosen
    found = column_named(known, table.columns)
    if found is not None:
        return found
    raise ConfigError(
        f"{table.path!r} has no {what} column by name ({', '.join(known)}); it has {there}: "
        f"name it with --{what}-column, or give the table a first line with names"
    )


def _locate(request: Request, path: str) -> str:
    """A path of the table below its folder or, where it is not there, below the current folder."""
    beside_table = join_path(posixpath.dirname(request.root), path)
    if path.startswith("/") or request.disk.find(beside_table) is not None:
        return beside_table
    in_current_folder = join_path(Path.cwd().as_posix(), path)
    return in_current_folder if request.disk.find(in_current_folder) is not None else beside_table
