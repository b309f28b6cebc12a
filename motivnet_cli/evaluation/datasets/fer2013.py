"""FER2013: its table of pixels and Kaggle's folders; and FERPlus, ten votes for each of the same images."""

from __future__ import annotations

import itertools
import posixpath
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.cards import FERPLUS_COLUMNS
from motivnet_cli.evaluation.datasets.disk import normalise_label, scan_csv
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows, find_class_folders, read_class_folders
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_TABLES = ("fer2013.csv", "icml_face_data.csv")
_USAGES = {
    "train": ("training",),
    "public": ("publictest",),
    "private": ("privatetest",),
    "test": ("publictest", "privatetest"),
}
_ROWS_AT_ONCE = 2048
"""4.7 million numbers as text."""

# ---- the table of pixels ----------------------------------------------------------------------------------


def _recognise_table(request: Request, folder: str) -> Paths:
    path = request.disk.child(folder, *_TABLES)
    return {"table": path} if path else {}


def _read_table(request: Request, found: Recognised) -> SplitRows:
    split = request.split or request.card.default_split
    table = _scan_table(found.paths["table"]).filter(pl.col("usage").is_in(_USAGES[split])).collect()
    rows = []
    dropped: Counter[str] = Counter()
    for row, label, pixels in zip(table["row"], table["emotion"], _pixels(table["pixels"]), strict=True):
        if pixels is None:
            dropped["pixels not understood"] += 1
        else:
            rows.append(Row(None, normalise_label(label or ""), name=f"fer{row:07}.png", pixels=pixels))
    return SplitRows(split=split, rows=rows, faces=request.card.faces, dropped=dropped)


def _scan_table(path: str) -> pl.LazyFrame:
    """The columns row (from 0), emotion, pixels, and usage in lower case."""
    columns = {name: name for name in ("emotion", "pixels", "usage")}
    table = scan_csv(path, columns, without_header={"emotion": 0, "pixels": 1, "usage": 2})
    usage = pl.col("usage").str.strip_chars().str.to_lowercase()
    return table.with_columns(usage, pl.col("pixels").str.strip_chars()).with_row_index("row")


def _pixels(texts: pl.Series) -> Iterator[NDArray[np.uint8] | None]:
    """[S, S] for each text of S * S numbers from 0 to 255; None for any other. FER2013's are 48 x 48."""
    for first in range(0, len(texts), _ROWS_AT_ONCE):
        numbers = texts.slice(first, _ROWS_AT_ONCE).fill_null("").str.split(" ")
        values = numbers.explode().cast(pl.UInt8, strict=False)
        is_valid = values.is_not_null().to_numpy()
        flat = values.fill_null(0).to_numpy()
        ends = [0, *itertools.accumulate(numbers.list.len().to_list())]
        for start, end in itertools.pairwise(ends):
            side = round((end - start) ** 0.5)
            is_square = side * side == end - start and is_valid[start:end].all()
            yield flat[start:end].reshape(side, side) if is_square else None


# ---- Kaggle's folders -------------------------------------------------------------------------------------


def _recognise_folders(request: Request, folder: str) -> Paths:
    return find_class_folders(request, folder, {"train": ["train"], "test": ["test"]})


def _read_folders(request: Request, found: Recognised) -> SplitRows:
    remark = (
        "these folders do not tell Public from Private: the split is all 7,178 test images, not the 3,589 of Private"
    )
    return read_class_folders(request, found, default="test", remark=remark)


LAYOUTS = (Layout(_recognise_table, _read_table), Layout(_recognise_folders, _read_folders))

# ---- FERPlus ----------------------------------------------------------------------------------------------

_FERPLUS_USAGE = {"train": "training", "valid": "publictest", "test": "privatetest"}


def ferplus_majority(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The column that FERPlus's majority rule chooses for each image, or -1 where there is none.

    Single votes are taken as noise and become 0; the column with the most must then hold more than half of all votes
    that are left, those for unknown and for no face among them.

    Args:
        votes: [N, 10], in the order of FERPLUS_COLUMNS.

    Returns:
        [N]. Source: Barsoum et al., arXiv 1608.01041, and the authors' published label file.
    """
    kept = np.where(votes <= 1, 0, votes)
    most = kept.max(axis=1, initial=0)
    return np.where(2 * most > kept.sum(axis=1), kept.argmax(axis=1), -1)


class _Vote(NamedTuple):
    """What the annotators say of one image."""

    row: int
    """Of FER2013's table."""
    image: str
    label: str


def _recognise_votes(request: Request, folder: str) -> Paths:
    votes = request.disk.child(folder, "fer2013new.csv")
    return {"votes": votes} if votes else {}


def _recognise_votes_and_table(request: Request, folder: str) -> Paths:
    """The table may lie beside the votes, one folder above, or in the root."""
    votes = _recognise_votes(request, folder)
    names = (*_TABLES, *(f"fer2013/{name}" for name in _TABLES))
    tables = (request.disk.child(around, *names) for around in (folder, posixpath.dirname(folder), request.root))
    table = next(filter(None, tables), None)
    return {**votes, "table": table} if votes and table else {}


def _read_votes_and_table(request: Request, found: Recognised) -> SplitRows:
    split = request.split or request.card.default_split
    table = _read_votes_table(found.paths["votes"])
    dropped: Counter[str] = Counter()
    votes = _votes_of(table, split, dropped)
    path = found.paths["table"]
    usage = _scan_table(path).select("usage").collect()["usage"]
    if len(usage) != len(table) or not (usage == table["usage"]).all():
        raise ConfigError(
            f"ferplus: {path!r} ({len(usage):,} rows) and fer2013new.csv ({len(table):,} rows) are not of one order: "
            "both must be the published files, whose rows belong together one by one"
        )
    texts = _scan_table(path).select("row", "pixels").filter(pl.col("row").is_in([vote.row for vote in votes]))
    rows = []
    for vote, pixels in zip(votes, _pixels(texts.collect()["pixels"]), strict=True):
        if pixels is None:
            dropped["pixels not understood"] += 1
        else:
            rows.append(Row(None, vote.label, name=vote.image, pixels=pixels))
    return SplitRows(split=split, rows=rows, faces=request.card.faces, dropped=dropped)


def _read_votes_and_images(request: Request, found: Recognised) -> SplitRows:
    split = request.split or request.card.default_split
    path = found.paths["votes"]
    dropped: Counter[str] = Counter()
    votes = _votes_of(_read_votes_table(path), split, dropped)
    files = {
        posixpath.basename(file).casefold(): file
        for file in request.disk.walk(request.root)
        if kind_of(file) == "image"
    }
    if not any(vote.image.casefold() in files for vote in votes):
        raise ConfigError(
            f"ferplus: {path!r} holds votes and no images: put FER2013's fer2013.csv beside it, or the images "
            f"that it names (such as {votes[0].image if votes else 'fer0000000.png'}) anywhere under {request.root!r}"
        )
    rows = [Row(files.get(vote.image.casefold(), f"{found.folder}/{vote.image}"), vote.label) for vote in votes]
    return SplitRows(split=split, rows=rows, faces=request.card.faces, dropped=dropped, from_index=True)


def _read_votes_table(path: str) -> pl.DataFrame:
    """The columns row (from 0), usage in lower case, image, and FERPLUS_COLUMNS as text."""
    names = {"usage": "usage", "image": "image name", **{name: name for name in FERPLUS_COLUMNS}}
    table = scan_csv(path, names).with_row_index("row")
    return table.with_columns(pl.col("usage").str.strip_chars().str.to_lowercase()).collect()


def _votes_of(table: pl.DataFrame, split: str, dropped: Counter[str]) -> Sequence[_Vote]:
    """The images of a split that have a majority."""
    chosen = table.filter(pl.col("usage") == _FERPLUS_USAGE[split])
    numbers = chosen.select(pl.col(*FERPLUS_COLUMNS).str.strip_chars().cast(pl.Float64, strict=False))
    is_understood = numbers.select(pl.all_horizontal(pl.all().is_not_null())).to_series().to_list()
    majority = ferplus_majority(numbers.fill_null(0).to_numpy().astype(np.int64))
    votes = []
    for row, image, column, is_good in zip(chosen["row"], chosen["image"], majority, is_understood, strict=True):
        if not is_good:
            dropped["votes not understood"] += 1
        elif not (image or "").strip():
            dropped["no image name"] += 1
        elif column < 0:
            dropped["no majority"] += 1
        else:
            votes.append(_Vote(row, image.strip(), FERPLUS_COLUMNS[column]))
    return votes


FERPLUS_LAYOUTS = (
    Layout(_recognise_votes_and_table, _read_votes_and_table),
    Layout(_recognise_votes, _read_votes_and_images),
)
