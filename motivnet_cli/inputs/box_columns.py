"""Which columns of a table hold the boxes of faces, under the names that other tools give them, and what they say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from motivnet_cli.errors import ConfigError
from motivnet_cli.inputs.table import squeezed
from motivnet_cli.records import BOX_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motivnet_cli.inputs.table import Table

UNITS = ("xyxy", "xywh", "relative-xyxy", "relative-xywh")
"""What four numbers of a box mean: two corners, or a corner with width and height; in pixels, or as fractions of the
picture's width and height."""


@dataclass(frozen=True, slots=True)
class BoxColumns:
    """Where a table has its boxes."""

    names: tuple[str, ...]
    """Four columns, or one whose cells hold four numbers."""
    has_size: bool
    """Whether the last two numbers are width and height, not the second corner."""
    is_relative: bool | None = False
    """Whether the numbers are fractions of the picture's size; None if the values decide it for the whole table."""
    tool: str = ""
    """Whose names they are."""

    @property
    def meaning(self) -> str:
        numbers = "x, y, width, height" if self.has_size else "x1, y1, x2, y2"
        return f"{numbers} {'as fractions of the picture' if self.is_relative else 'in pixels'}"


class _Layout(NamedTuple):
    names: tuple[str, ...]
    has_size: bool
    tool: str = ""
    is_relative: bool | None = False


_LAYOUTS = (
    _Layout(BOX_COLUMNS, has_size=False),
    _Layout(("xmin", "ymin", "xmax", "ymax"), has_size=False),
    _Layout(("left", "top", "right", "bottom"), has_size=False),
    _Layout(("facerectx", "facerecty", "facerectwidth", "facerectheight"), has_size=True, tool="py-feat"),
    _Layout(("regionx", "regiony", "regionw", "regionh"), has_size=True, tool="DeepFace"),
    _Layout(("facialareax", "facialareay", "facialareaw", "facialareah"), has_size=True, tool="DeepFace"),
    _Layout(("bboxx", "bboxy", "bboxw", "bboxh"), has_size=True),
    _Layout(("bboxx", "bboxy", "bboxwidth", "bboxheight"), has_size=True),
    _Layout(("x", "y", "w", "h"), has_size=True),
    _Layout(("x", "y", "width", "height"), has_size=True),
    _Layout(("left", "top", "width", "height"), has_size=True),
    _Layout(("bbox",), has_size=True, tool="COCO or MegaDetector", is_relative=None),
)
_LANDMARKS_OF_68 = frozenset(f"{axis}{number}" for axis in "xy" for number in range(68))
_OPENFACE_LANDMARKS = ("x0", "y0", "x67", "y67")


def find_box_columns(columns: Sequence[str]) -> BoxColumns | None:
    """The columns that hold boxes, by their names; never two of the 68 points of a face, x_1 and x_2."""
    by_word = {squeezed(name): name for name in reversed(columns)}
    if has_openface_landmarks(columns):
        by_word = {word: name for word, name in by_word.items() if word not in _LANDMARKS_OF_68}
    for layout in _LAYOUTS:
        if all(name in by_word for name in layout.names):
            names = tuple(by_word[name] for name in layout.names)
            return BoxColumns(names, layout.has_size, layout.is_relative, layout.tool)
    return None


def has_openface_landmarks(columns: Sequence[str]) -> bool:
    """Whether a table has the 68 points that OpenFace and py-feat find in a face, which are no box."""
    return {squeezed(name) for name in columns}.issuperset(_OPENFACE_LANDMARKS)


def parse_box_columns(text: str) -> BoxColumns:
    """The columns that a user names, such as `left,top,w,h`, `relative-xywh:a,b,c,d` or `xyxy:box`.

    Without one of UNITS in front, the names themselves must say what the numbers are.

    Raises:
        ConfigError: They do not, or their number is wrong.
    """
    unit, mark, rest = text.partition(":")
    if unit not in UNITS or not mark:
        unit, rest = "", text
    names = tuple(name.strip() for name in rest.split(","))
    if len(names) not in (1, 4) or not all(names):
        raise ConfigError(f"box-columns are four names of columns, or one whose cells hold four numbers, got {text!r}")
    if unit:
        return BoxColumns(names, unit.endswith("xywh"), unit.startswith("relative"))
    found = find_box_columns(names)
    if found is None or found.names != names:
        raise ConfigError(
            f"box-columns {text!r} do not say what the numbers are: write one of {', '.join(UNITS)} and a colon before "
            f"them, such as xywh:{rest}"
        )
    return found


# ---- values -----------------------------------------------------------------------------------------------


def box_cells(found: BoxColumns, table: Table) -> list[pl.Expr]:
    """The four numbers of each row as text, `box0` to `box3`, and as they stand there, `box_text`.

    Where a cell does not hold four numbers, the four are null.

    Raises:
        ConfigError: A column holds what is no number.
    """
    if len(found.names) > 1:
        texts = [table.as_text(name).str.strip_chars() for name in found.names]
        cells = [text.alias(f"box{i}") for i, text in enumerate(texts)]
        text = pl.concat_str([text.fill_null("") for text in texts], separator=", ")
        return [*cells, pl.when(pl.any_horizontal(text != "" for text in texts)).then(text).alias("box_text")]
    (name,) = found.names
    dtype = table.type_of(name)
    if isinstance(dtype, (pl.List, pl.Array)):
        inner = pl.element().cast(pl.String)
        column = pl.col(name).cast(pl.List(dtype.inner))
        parts = column.list.eval(inner)
        text = parts.list.join(", ", ignore_nulls=True)
    else:
        text = table.as_text(name).str.strip_chars(" []()")
        parts = text.str.replace_all(r"[\s,;]+", " ").str.split(" ")
    has_four = parts.list.len() == len(BOX_COLUMNS)
    cells = [
        pl.when(has_four).then(parts.list.get(i, null_on_oob=True)).alias(f"box{i}") for i in range(len(BOX_COLUMNS))
    ]
    return [*cells, pl.when(text != "").then(text).alias("box_text")]


class Extent:
    """Where the numbers of a table's boxes lie, as its rows come: it decides a unit that the columns do not name."""

    def __init__(self) -> None:
        self._has_numbers = False
        self._are_fractions = True

    def note(self, numbers: pl.DataFrame) -> None:
        for column in numbers.iter_columns():
            values = column.drop_nulls().drop_nans()
            self._has_numbers |= bool(len(values))
            self._are_fractions &= bool(values.is_between(0, 1).all())

    def decide(self, found: BoxColumns) -> BoxColumns:
        """With its unit: fractions if there is a number, and none outside 0 to 1."""
        if found.is_relative is None:
            return replace(found, is_relative=self._has_numbers and self._are_fractions)
        return found


def with_boxes(rows: pl.DataFrame, found: BoxColumns, extent: Extent) -> pl.DataFrame:
    """`box0` to `box3` as the corners' numbers, all null where there is no box, and `bad_box`: what is none.

    Four cells of which none is a number are no box.

    Args:
        rows: With the columns of `box_cells`.
        extent: Is told the numbers as they stand there.
    """
    names = [f"box{i}" for i in range(len(BOX_COLUMNS))]
    numbers = rows.select(
        pl.col(name).str.replace(r"^(-?\d+),(\d+)$", "$1.$2").cast(pl.Float64, strict=False) for name in names
    )
    extent.note(numbers)
    x1, y1, x2, y2 = sides = [pl.col(name) for name in names]
    if found.has_size:
        x2, y2 = sides[2:] = [x1 + x2, y1 + y2]
    is_finite = [(side.is_not_null() & side.is_finite()).fill_null(False) for side in map(pl.col, names)]
    is_box = pl.all_horizontal(*is_finite, x1 < x2, y1 < y2).fill_null(False)
    corners = numbers.select(
        *(pl.when(is_box).then(side).alias(name) for name, side in zip(names, sides, strict=True)),
        is_box.alias("is_box"),
        pl.any_horizontal(is_finite).alias("has_number"),
    )
    is_of_another_length = pl.all_horizontal(pl.col(names).is_null()) & pl.col("box_text").str.contains(r"\d")
    bad = rows.select(is_of_another_length.fill_null(False).alias("other_length"), "box_text").hstack(corners)
    is_bad = pl.col("other_length") | (pl.col("has_number") & ~pl.col("is_box"))
    bad_box = bad.select(pl.when(is_bad).then(pl.format("({})", pl.col("box_text"))).alias("bad_box"))
    return rows.drop(*names, "box_text").hstack(corners.select(names)).hstack(bad_box)
