"""FER2013: its table of pixels, and folders by split."""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.by_class import chosen_split, find_split_folders, read_split_folders
from motivnet_cli.evaluation.datasets.cards import CARDS
from motivnet_cli.evaluation.datasets.disk import normalise_label, pixels_of, scan_csv, start_of
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows, image_count
from motivnet_cli.evaluation.datasets.votes import VOTES_FILE, RowNames, majorities, read_votes, row_names
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

TABLE_FILES = ("fer2013.csv", "icml_face_data.csv")
_USAGES = {
    "train": ("training",),
    "public": ("publictest",),
    "private": ("privatetest",),
    "test": ("publictest", "privatetest"),
}

# ---- the table of pixels ----------------------------------------------------------------------------------


def _recognise_table(request: Request, folder: str) -> Paths:
    path = request.disk.child(folder, *TABLE_FILES)
    if path is None:
        return {}
    around = (folder, posixpath.dirname(folder), request.root)
    votes = next(filter(None, (request.disk.child(each, VOTES_FILE, f"FERPlus/{VOTES_FILE}") for each in around)), None)
    return {"table": path, **({"votes": votes} if votes else {})}


def _read_table(request: Request, found: Recognised) -> SplitRows:
    split = request.split or request.card.default_split
    path, votes = found.paths["table"], found.paths.get("votes")
    names, remarks = RowNames({}), []
    if votes is not None:
        table = read_votes(votes)
        if are_of_one_order(scan_table(path).select("usage", "emotion").collect(), table):
            names = row_names(table)
        else:
            remarks.append(f"{votes!r} lies there and is not of the order of {path!r}: images are named by row")
    chosen = scan_table(path).filter(pl.col("usage").is_in(_USAGES[split])).collect()
    rows, dropped = _rows_of(chosen, names)
    return SplitRows(split=split, rows=rows, faces=request.card.faces, dropped=dropped, remarks=remarks)


def _rows_of(table: pl.DataFrame, names: RowNames) -> tuple[list[Row], Counter[str]]:
    """The rows with their pixels, and how many had none that are understood."""
    rows = []
    dropped: Counter[str] = Counter()
    for row, label, pixels in zip(table["row"], table["emotion"], pixels_of(table["pixels"]), strict=True):
        if pixels is None:
            dropped["pixels not understood"] += 1
        else:
            rows.append(names.labelled(row, normalise_label(label or ""), pixels=pixels))
    return rows, dropped


def scan_table(path: str) -> pl.LazyFrame:
    """The columns row (from 0), emotion, pixels, and usage in lower case."""
    columns = {name: name for name in ("emotion", "pixels", "usage")}
    table = scan_csv(path, columns, without_header={"emotion": 0, "pixels": 1, "usage": 2})
    usage = pl.col("usage").str.strip_chars().str.to_lowercase()
    return table.with_columns(usage, pl.col("pixels").str.strip_chars()).with_row_index("row")


_ENOUGH_LABELS = 1000
_LEAST_AGREEMENT = 0.3
"""Of two lists whose rows are other images, a fifth of the labels agree by chance: by the shares of the classes."""


def are_of_one_order(table: pl.DataFrame, votes: pl.DataFrame) -> bool:
    """Whether the rows of FER2013's table and of FERPlus' list belong together one by one.

    Their usage must be the same, and of large tables the label must agree with the majority more than by chance.

    Args:
        table: With the columns usage and emotion.
    """
    if len(table) != len(votes) or not (table["usage"] == votes["usage"]).all():
        return False
    emotions = table["emotion"].to_list()
    own = CARDS["fer2013"].labels
    agree = [own.get(normalise_label(emotions[vote.row] or "")) == vote.label for vote in majorities(votes, Counter())]
    return len(agree) < _ENOUGH_LABELS or sum(agree) >= _LEAST_AGREEMENT * len(agree)


# ---- a folder for each split ------------------------------------------------------------------------------

_PUBLIC_AND_PRIVATE = 7_178
_PUBLIC = _PRIVATE = 3_589


def _read_folders(request: Request, found: Recognised) -> SplitRows:
    """Folders that tell Public from Private by their names, or a `test` of both; `val` beside it may be Public."""
    there, remarks = dict(found.paths), []
    names_them = "public" in there or "private" in there
    if "test" in there and not names_them:
        if "val" not in there or _num_pictures(request, there["test"]) == _PUBLIC_AND_PRIVATE:
            if request.split is None:
                request = replace(request, split="test")
                remarks.append(
                    f"these folders do not tell Public from Private: the split is all test images "
                    f"({_PUBLIC_AND_PRIVATE:,} as published), not the {_PRIVATE:,} of Private"
                )
        else:
            there |= {"public": there.pop("val"), "private": there.pop("test")}
            if request.split != "train":
                remarks.append("the folders for validation and test are taken for Public and Private")
    elif "val" in there and not names_them:
        if request.split is None:
            _refuse_another_division(request, there["val"])
        there["public"] = there.pop("val")
    found = found._replace(paths=there)
    if request.split == "test" and {"public", "private"} <= set(there):
        parts = [read_split_folders(replace(request, split=each), found) for each in ("public", "private")]
        rows = [row for part in parts for row in part.rows]
        said = dict.fromkeys((*parts[0].remarks, *parts[1].remarks, *remarks))
        return replace(
            parts[0], split="test", rows=rows, dropped=parts[0].dropped + parts[1].dropped, remarks=tuple(said)
        )
    read = read_split_folders(request, found)
    return replace(read, remarks=(*read.remarks, *remarks))


def _refuse_another_division(request: Request, folder: str) -> None:
    num_pictures = _num_pictures(request, folder)
    if num_pictures != _PUBLIC:
        raise ConfigError(
            f"fer2013: {folder!r} has {image_count(num_pictures)} and no test folder is beside it, so it is none of "
            f"the published splits (Public and Private have {_PUBLIC:,} each). Read it as a set of your own: "
            f"`{request.command(dataset='folder', root=folder, split=None)}`"
        )


def _num_pictures(request: Request, folder: str) -> int:
    return sum(kind_of(path) == "image" for path in request.disk.walk(folder))


# ---- the first table of the challenge ---------------------------------------------------------------------


def _recognise_challenge(request: Request, folder: str) -> Paths:
    """`train.csv` with emotion and pixels and no usage, beside a `test.csv` without labels."""
    path = request.disk.child(folder, "train.csv")
    if path is None:
        return {}
    head = start_of(path).partition("\n")[0].casefold().replace('"', "")
    return {"train": path} if [each.strip() for each in head.split(",")] == ["emotion", "pixels"] else {}


def _read_challenge(request: Request, found: Recognised) -> SplitRows:
    split, word, remarks = chosen_split(request, found)
    table = scan_csv(found.paths[word], {"emotion": "emotion", "pixels": "pixels"}).with_row_index("row").collect()
    rows, dropped = _rows_of(table, RowNames({}))
    # Whether its rows are those of fer2013.csv in their order is not known: names that could not be taken for them.
    rows = [row._replace(name=f"train-{row.name}", alias=None) for row in rows]
    return SplitRows(split=split, rows=rows, faces=request.card.faces, dropped=dropped, remarks=remarks)


LAYOUTS = (
    Layout(_recognise_table, _read_table),
    Layout(find_split_folders, _read_folders),
    Layout(_recognise_challenge, _read_challenge),
)
