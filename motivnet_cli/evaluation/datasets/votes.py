"""FERPlus' votes: ten annotators for each row of FER2013's table, and what the rows are called."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.cards import FERPLUS_COLUMNS
from motivnet_cli.evaluation.datasets.disk import scan_csv
from motivnet_cli.evaluation.datasets.layouts import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from motivnet_cli.evaluation.datasets.labelled import Labelled

VOTES_FILE = "fer2013new.csv"
_ROW = re.compile(r"row-(\d+)\.png")
_MAX_VOTES = 1_000_000
"""Of one image for one class: FERPlus has ten annotators."""
_USAGES = {"train": "training", "valid": "publictest", "test": "privatetest"}


@dataclass(frozen=True, slots=True)
class RowNames:
    """What the rows of FER2013's table are called.

    FERPlus numbers its files otherwise than the rows: `fer0000012.png` is another image than row 12. A row without a
    name of FERPlus is therefore called `row-00012.png`, which FERPlus could not give.
    """

    by_row: Mapping[int, str]
    """FERPlus' names, of the rows that have one for themselves."""

    def labelled(
        self,
        row: int,
        label: str,
        *,
        path: str | None = None,
        pixels: NDArray[np.uint8] | None = None,
        votes: Mapping[str, int] | None = None,
    ) -> Row:
        """A labelled image that predictions may name by FERPlus' name or by its row."""
        by_number = f"row-{row:05}.png"
        if path is not None:
            return Row(path, label, alias=by_number, votes=votes)
        return Row(None, label, name=self.by_row.get(row, by_number), pixels=pixels, alias=by_number, votes=votes)


class Vote(NamedTuple):
    """What the annotators say of one image."""

    row: int
    """Of FER2013's table, from 0."""
    image: str
    """Its name in FERPlus' list; empty where the list gives it none."""
    label: str
    """The majority's, one of FERPLUS_COLUMNS."""
    votes: Mapping[str, int]
    """Annotators by column."""


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


def read_votes(path: str) -> pl.DataFrame:
    """The columns row (from 0), usage in lower case, image, and FERPLUS_COLUMNS as text.

    Raises:
        ConfigError: A column is missing.
    """
    names = {"usage": "usage", "image": "image name", **{name: name for name in FERPLUS_COLUMNS}}
    table = scan_csv(path, names).with_row_index("row")
    text = pl.col("image").fill_null("").str.strip_chars()
    return table.with_columns(pl.col("usage").str.strip_chars().str.to_lowercase(), text).collect()


def row_names(table: pl.DataFrame) -> RowNames:
    """FERPlus' names of the rows; those that several rows share name none of them."""
    counts = Counter(table["image"])
    pairs = zip(table["row"], table["image"], strict=True)
    return RowNames({row: image for row, image in pairs if image and counts[image] == 1})


def refuse_numbers_of_rows(images: Iterable[Labelled], predicted: Iterable[str]) -> None:
    """Refuse predictions that call row 12 `fer0000012.png`: in FERPlus' list that is another image.

    Args:
        images: Of FER2013's rows, by FERPlus' names.
        predicted: Names of images in the predictions.

    Raises:
        ConfigError: More of these are numbers of the rows than FERPlus' names of them.
    """
    ours = {stem for image in images if (stem := PurePosixPath(image.name).stem).startswith("fer")}
    rows = {f"fer{int(number[1]):07}" for image in images if (number := _ROW.fullmatch(image.alias or ""))}
    theirs = {PurePosixPath(name).stem for name in predicted}
    if ours and len(rows & theirs) > len(ours & theirs):
        example = sorted(rows & theirs - ours or rows & theirs)[0]
        raise ConfigError(
            f"the predictions seem to name images by the rows of FER2013's table, such as {example}: FERPlus gives "
            "these names to other images. Name row 12, counted from 0, row-00012.png"
        )


def repeated_names(table: pl.DataFrame) -> set[str]:
    """Names that several rows share."""
    return {image for image, count in Counter(table["image"]).items() if image and count > 1}


def majority_votes(table: pl.DataFrame, split: str, dropped: Counter[str]) -> list[Vote]:
    """The images of a split that have a majority; the others are counted by reason."""
    chosen = table.filter(pl.col("usage") == _USAGES[split])
    return majorities(chosen, dropped)


def majorities(chosen: pl.DataFrame, dropped: Counter[str]) -> list[Vote]:
    """The rows that have a name and a majority; the others are counted by reason."""
    numbers = chosen.select(pl.col(*FERPLUS_COLUMNS).str.strip_chars().cast(pl.Float64, strict=False))
    are_counts = [pl.col(name).is_between(0, _MAX_VOTES) & (pl.col(name) % 1 == 0) for name in FERPLUS_COLUMNS]
    is_understood = numbers.select(pl.all_horizontal(are_counts).fill_null(value=False)).to_series()
    counts = np.where(is_understood.to_numpy()[:, None], numbers.fill_null(0).to_numpy(), 0).astype(np.int64)  # [N, 10]
    votes = []
    for row, image, column, is_good, each in zip(
        chosen["row"], chosen["image"], ferplus_majority(counts), is_understood, counts.tolist(), strict=True
    ):
        if not is_good:
            dropped["votes not understood"] += 1
        elif not image:
            dropped["no image name"] += 1
        elif column < 0:
            dropped["no majority"] += 1
        else:
            votes.append(Vote(row, image, FERPLUS_COLUMNS[column], dict(zip(FERPLUS_COLUMNS, each, strict=True))))
    return votes
