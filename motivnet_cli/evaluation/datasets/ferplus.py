"""FERPlus: FER2013's images with ten votes each, and copies that are sorted by the majority."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.by_class import chosen_split, class_folder_layout, split_named
from motivnet_cli.evaluation.datasets.cards import FERPLUS_COLUMNS
from motivnet_cli.evaluation.datasets.disk import pixels_of, scan_csv
from motivnet_cli.evaluation.datasets.fer2013 import TABLE_FILES, are_of_one_order, scan_table
from motivnet_cli.evaluation.datasets.layouts import MAX_NAMES, Layout, Row, SplitRows
from motivnet_cli.evaluation.datasets.votes import (
    VOTES_FILE,
    majorities,
    majority_votes,
    read_votes,
    repeated_names,
    row_names,
)
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_SHARED = "image name that several rows share"

# ---- the list of votes ------------------------------------------------------------------------------------


def _recognise_votes(request: Request, folder: str) -> Paths:
    votes = request.disk.child(folder, VOTES_FILE)
    return {"votes": votes} if votes else {}


def _recognise_votes_and_table(request: Request, folder: str) -> Paths:
    """The table may lie beside the votes, one folder above, or in the root."""
    votes = _recognise_votes(request, folder)
    names = (*TABLE_FILES, *(f"fer2013/{name}" for name in TABLE_FILES))
    tables = (request.disk.child(around, *names) for around in (folder, posixpath.dirname(folder), request.root))
    table = next(filter(None, tables), None)
    return {**votes, "table": table} if votes and table else {}


def _read_votes_and_table(request: Request, found: Recognised) -> SplitRows:
    split = request.split or request.card.default_split
    table = read_votes(found.paths["votes"])
    dropped: Counter[str] = Counter()
    votes = majority_votes(table, split, dropped)
    path = found.paths["table"]
    labels = scan_table(path).select("usage", "emotion").collect()
    if not are_of_one_order(labels, table):
        raise ConfigError(
            f"ferplus: {path!r} ({len(labels):,} rows) and {VOTES_FILE} ({len(table):,} rows) are not of one order: "
            "both must be the published files, whose rows belong together one by one"
        )
    texts = scan_table(path).select("row", "pixels").filter(pl.col("row").is_in([vote.row for vote in votes]))
    names = row_names(table)
    rows = []
    for vote, pixels in zip(votes, pixels_of(texts.collect()["pixels"]), strict=True):
        if pixels is None:
            dropped["pixels not understood"] += 1
        else:
            rows.append(names.labelled(vote.row, vote.label, pixels=pixels, votes=vote.votes))
    shared = [vote.image for vote in votes if vote.row not in names.by_row]
    remarks = [f"{_named(shared)}: these rows go by their number, such as row-00012.png"] if shared else []
    return SplitRows(split=split, rows=rows, faces=request.card.faces, dropped=dropped, remarks=remarks)


def _named(shared: Sequence[str]) -> str:
    listed = ", ".join(sorted({*shared})[:MAX_NAMES])
    return f"{len(shared)} rows have an image name that others have too ({listed})"


def _read_votes_and_images(request: Request, found: Recognised) -> SplitRows:
    split = request.split or request.card.default_split
    path = found.paths["votes"]
    dropped: Counter[str] = Counter()
    table = read_votes(path)
    votes = majority_votes(table, split, dropped)
    files: dict[str, list[str]] = defaultdict(list)
    for file in request.disk.walk(request.root):
        if kind_of(file) == "image":
            files[posixpath.basename(file).casefold()].append(file)
    if not any(vote.image.casefold() in files for vote in votes):
        raise ConfigError(
            f"ferplus: {path!r} holds votes and no images: put FER2013's fer2013.csv beside it, or the images "
            f"that it names (such as {votes[0].image if votes else 'fer0000000.png'}) anywhere under {request.root!r}"
        )
    names = row_names(table)
    rows, shared = [], []
    for vote in votes:
        there = files[vote.image.casefold()]
        if vote.row not in names.by_row:
            shared.append(vote.image)
        elif len(there) > 1 and len(there := [file for file in there if _is_of(request, split, file)]) != 1:
            dropped["several files of one name"] += 1
        else:
            file = there[0] if there else f"{found.folder}/{vote.image}"
            rows.append(names.labelled(vote.row, vote.label, path=file, votes=vote.votes))
    dropped[_SHARED] = len(shared)
    remarks = [f"{_named(shared)}: which of them the file shows is not known, dropped"] if shared else []
    return SplitRows(
        split=split, rows=rows, faces=request.card.faces, dropped=dropped, remarks=remarks, from_index=True
    )


def _is_of(request: Request, split: str, path: str) -> bool:
    """Whether a file lies in a folder of this split, such as `FER2013Test`."""
    return any(split_named(part) in request.card.words_of(split) for part in path.split("/"))


# ---- a list for each split --------------------------------------------------------------------------------


def _recognise_lists(request: Request, folder: str) -> Paths:
    lists = {name: request.disk.child(folder, f"{name}/label.csv") for name in request.disk.folders(folder)}
    return {split: path for name, path in lists.items() if path and (split := split_named(name))}


def _read_lists(request: Request, found: Recognised) -> SplitRows:
    """A row of a list: image name, box of the whole picture, and the ten votes, without a line of names."""
    split, word, remarks = chosen_split(request, found)
    index = found.paths[word]
    table = scan_csv(
        index,
        {"image": "image name", **{name: name for name in FERPLUS_COLUMNS}},
        without_header={"image": 0, **{name: place for place, name in enumerate(FERPLUS_COLUMNS, 2)}},
    )
    dropped: Counter[str] = Counter()
    chosen = table.with_columns(pl.col("image").fill_null("").str.strip_chars()).with_row_index("row").collect()
    votes = majorities(chosen, dropped)
    shared = repeated_names(chosen)
    folder = posixpath.dirname(index)
    rows = [Row(f"{folder}/{vote.image}", vote.label, votes=vote.votes) for vote in votes if vote.image not in shared]
    if lost := [vote.image for vote in votes if vote.image in shared]:
        dropped[_SHARED] = len(lost)
        remarks.append(f"{_named(lost)}: the file shows the last of them, dropped")
    return SplitRows(
        split=split, rows=rows, faces=request.card.faces, dropped=dropped, remarks=remarks, from_index=True
    )


# ---- folders by class -------------------------------------------------------------------------------------

_CLASS_FOLDERS = class_folder_layout(are_its_own=False)  # they may be numbered as FER2013 is


def _read_folders(request: Request, found: Recognised) -> SplitRows:
    rows = _CLASS_FOLDERS.read(request, found)
    remark = "the labels are those of the folders: how they were made of the votes is not known"
    return replace(rows, remarks=(*rows.remarks, remark))


LAYOUTS = (
    Layout(_recognise_votes_and_table, _read_votes_and_table),
    Layout(_recognise_votes, _read_votes_and_images),
    Layout(_recognise_lists, _read_lists),
    Layout(_CLASS_FOLDERS.recognise, _read_folders),
)
