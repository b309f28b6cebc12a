"""Manifests: tables of inputs, with the boxes of faces and columns that pass through."""

from __future__ import annotations

import itertools
import logging
import operator
import os
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from motivnet_cli.errors import ConfigError, one_line
from motivnet_cli.inputs.box_columns import (
    box_cells,
    find_box_columns,
    has_openface_landmarks,
    parse_box_columns,
    with_boxes,
)
from motivnet_cli.inputs.cells import holds_pictures, names_of
from motivnet_cli.inputs.content import kind_of_file
from motivnet_cli.inputs.names import FoundInput, refused, remote_input, status_of, suffix_of, version_of
from motivnet_cli.inputs.table import PATH_COLUMNS, TABLE_SUFFIXES, column_named, open_table
from motivnet_cli.records import BOX_COLUMNS, FACE_COLUMNS, GivenFace, Problem
from motivnet_cli.remote.urls import is_remote, local_path, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from motivnet_cli.config import InputConfig, KeptType
    from motivnet_cli.inputs.box_columns import BoxColumns
    from motivnet_cli.inputs.table import Table
    from motivnet_cli.records import Box, Kept, Kind

log = logging.getLogger(__name__)

KEPT_PREFIX = "manifest_"
"""Before the name of a kept column whose own name is one of the output's."""
_FRAME_COLUMN, _TIME_COLUMN = "frame", "time_s"
"""Columns that say to which frame of a video a box belongs."""


class Manifest:
    """A table of inputs. It is read whole, but only the columns that count: 400 MB and 5 s
    for a million faces in a CSV.

    Raises:
        ConfigError: The table cannot be read, a column is missing, or the values of one cannot be kept.
    """

    def __init__(self, path: str, inputs: InputConfig) -> None:
        if suffix_of(path) not in TABLE_SUFFIXES:
            raise ConfigError(f"a manifest's name ends in one of {', '.join(TABLE_SUFFIXES)}, got {shown(path)!r}")
        self._path, self._inputs = path, inputs
        table = open_table(path, "manifest")
        path_column = _path_column(table, inputs)
        self._picture_column = path_column if holds_pictures(table.type_of(path_column)) else None
        """Of a table that holds the pictures themselves, one a row."""
        boxes = _box_columns(table, inputs)
        is_path = self._picture_column is None
        columns = [table.as_text(path_column).alias("path") if is_path else pl.int_range(pl.len()).alias("path")]
        columns += [pl.col(name).alias(f"kept{i}") for i, name in enumerate(inputs.keep)]
        if boxes:
            columns += [*box_cells(boxes, table), *_moments(table)]
        rows = table.read(columns)
        if self._picture_column is not None:
            names = names_of(path, self._picture_column, table.type_of(self._picture_column))
            begins_names = bool(inputs.paths or inputs.files_from or inputs.files0_from or len(inputs.manifests) > 1)
            rows = rows.with_columns(_picture_names(path, names or [None] * len(rows), begins_names=begins_names))
        self.types: dict[str, KeptType] = {}
        """Type of the values of each kept column."""
        for i, name in enumerate(inputs.keep):
            values, self.types[name] = _kept_values(rows[f"kept{i}"], table, name)
            rows = rows.with_columns(values)
        self._is_relative = False
        if boxes:
            rows, boxes = with_boxes(rows, boxes)
            self._is_relative = bool(boxes.is_relative)
            whose = f", as {boxes.tool} writes them" if boxes.tool else ""
            log.info("%s: boxes are read from %s: %s%s", path, one_line(", ".join(boxes.names)), boxes.meaning, whose)
        elif has_openface_landmarks(table.columns):
            log.info("%s: the points x_0 to y_67 of OpenFace are no box: faces are searched for", path)
        self._has_boxes = boxes is not None
        self._rows = _grouped(rows, by_path=is_path)
        self.num_repeated = 0
        """Rows that say nothing new of their path; known once `inputs` has ended."""

    def inputs(self, kept_types: dict[str, KeptType]) -> Iterator[FoundInput]:
        """What it names, each input at the place of its first row; to be called once.

        Args:
            kept_types: What the kept values are cast to.
        """
        casts = [pl.col(f"kept{i}").cast(_POLARS_TYPES[kept_type]) for i, kept_type in enumerate(kept_types.values())]
        table = self._rows.with_columns(casts)
        del self._rows
        folder = os.path.dirname(os.path.abspath(self._path))
        kept = [f"kept{i}" for i in range(len(kept_types))]
        rows = _rows_of(table, kept, has_boxes=self._has_boxes)
        for _, group in itertools.groupby(rows, operator.attrgetter("first")):
            yield self._input(list(group), folder)

    def _input(self, rows: list[_Row], folder: str) -> FoundInput:
        """The input that all of these rows are about."""
        number, name, kept = rows[0].number, rows[0].path, rows[0].kept
        if name and self._picture_column is not None:
            path = os.path.abspath(self._path)
            version = (None, version_of(status_of(path)[0])[1])
            found = FoundInput(name, path, "image", version, kept=kept, column=self._picture_column, row=number - 1)
            return self._with_faces(found, rows)
        if not name or "\0" in name:
            message = f"row {number} of {self._path!r} names no file: its path is {name!r}"
            where = f"{self._path}#{number}"
            return FoundInput(where, os.path.abspath(where), "image", problem=Problem("not_found", message), kept=kept)
        name = local_path(name)
        if is_remote(name) and not self._inputs.allows(name):
            return refused(name)._replace(kept=kept)
        return self._with_faces(_located(name, folder)._replace(kept=kept), rows)

    def _with_faces(self, found: FoundInput, rows: list[_Row]) -> FoundInput:
        if all(row.box is None and row.bad_box is None for row in rows):
            self.num_repeated += len(rows) - 1
            return found
        if problem := self._problem_of_boxes(rows, found.kind):
            return found._replace(problem=problem)
        return found._replace(given=tuple(self._given(row, row.box, found.kind) for row in rows if row.box))

    def _given(self, row: _Row, box: Box, kind: Kind) -> GivenFace:
        if kind != "video":
            return GivenFace(box, row.kept, is_relative=self._is_relative)
        time_s = row.time_s if row.frame is None else None
        return GivenFace(box, row.kept, is_relative=self._is_relative, frame=row.frame, time_s=time_s)

    def _problem_of_boxes(self, rows: list[_Row], kind: Kind) -> Problem | None:
        """What is wrong with the boxes of an input, of which one row at least has something in their place."""
        boxed = next(row.number for row in rows if row.box or row.bad_box is not None)
        if kind == "archive":
            return Problem("bad_box", f"row {boxed} of {self._path!r} gives a box, which an archive cannot have")
        for row in rows:
            if row.bad_box is not None:
                expected = "four numbers that give a width and a height, or four empty cells"
                message = f"row {row.number} of {self._path!r} has the box {row.bad_box}: expected {expected}"
                return Problem("bad_box", message)
            if kind == "video" and row.box and row.frame is None and row.time_s is None:
                message = f"row {row.number} of {self._path!r} gives a box in a video, and not in which frame"
                return Problem("bad_box", f"{message}: add a column {_FRAME_COLUMN} or {_TIME_COLUMN}")
        without = next((row.number for row in rows if not row.box), None)
        if kind == "image" and without is not None:
            message = f"row {boxed} of {self._path!r} gives a box for this picture, and row {without} none"
            return Problem("bad_box", f"{message}: give one in each row of a picture, or in none")
        return None


class _Row(NamedTuple):
    first: int
    """Number of the first row with the same path."""
    number: int
    """Its own, from 1."""
    path: str | None
    kept: Kept
    box: Box | None = None
    bad_box: str | None = None
    """What stands in the place of a box and is none."""
    frame: int | None = None
    time_s: float | None = None


def _rows_of(table: pl.DataFrame, kept: list[str], *, has_boxes: bool) -> Iterator[_Row]:
    table = table.select("first", "row", "path", *(_BOX_NAMES if has_boxes else ()), *kept)
    if not has_boxes:
        for first, number, path, *values in table.iter_rows():
            yield _Row(first, number, path, tuple(values))
        return
    for first, number, path, x1, y1, x2, y2, bad_box, frame, time_s, *values in table.iter_rows():
        box = None if x1 is None else (x1, y1, x2, y2)
        yield _Row(first, number, path, tuple(values), box, bad_box, frame, time_s)


_BOX_NAMES = (*(f"box{i}" for i in range(len(BOX_COLUMNS))), "bad_box", "frame", "time_s")


def _path_column(table: Table, inputs: InputConfig) -> str:
    """The column of paths: the one that was named, else the first that is named like one.

    Raises:
        ConfigError: This column, or one that is to be kept, is missing.
    """
    there = ", ".join(repr(name) for name in table.columns)
    named = () if inputs.path_column is None else ((inputs.path_column, "--path-column"),)
    for name, option in (*named, *((name, "--keep") for name in inputs.keep)):
        if name not in table.columns:
            raise ConfigError(
                f"the manifest {table.path!r} has no column {name!r}; it has {there}: name one with {option}"
            )
    if inputs.path_column is not None:
        return inputs.path_column
    with_pictures = [name for name in table.columns if holds_pictures(table.type_of(name))]
    if with_pictures:
        chosen = column_named(PATH_COLUMNS, with_pictures) or with_pictures[0]
        log.info("%s: pictures are read from the column %r", table.path, chosen)
        return chosen
    found = column_named(PATH_COLUMNS, table.columns)
    if found is None:
        raise ConfigError(
            f"the manifest {table.path!r} has no column of paths by name ({', '.join(PATH_COLUMNS)}); it has {there}: "
            "name it with --path-column, or give the table a first line with names"
        )
    if found != "path":
        log.info("%s: paths are read from the column %r", table.path, found)
    return found


def _picture_names(path: str, names: list[str | None], *, begins_names: bool) -> pl.Series:
    """The names of a table's pictures: as they are called there, or by the row where that is no name of its own.

    Args:
        begins_names: The table's name stands before theirs, since there are other inputs.
    """
    counts = Counter(names)
    prefix = f"{path}/" if begins_names else ""
    own = (
        f"{prefix}{name}" if name and counts[name] == 1 else f"{path}#{number}" for number, name in enumerate(names, 1)
    )
    return pl.Series("path", list(own), pl.String)


def _box_columns(table: Table, inputs: InputConfig) -> BoxColumns | None:
    """Where the boxes are; None where there are none.

    Raises:
        ConfigError: A column is missing.
    """
    if inputs.box_columns is not None:
        chosen = parse_box_columns(inputs.box_columns)
        if missing := [name for name in chosen.names if name not in table.columns]:
            there = ", ".join(repr(name) for name in table.columns)
            raise ConfigError(f"the manifest {table.path!r} has no column {missing[0]!r} for boxes; it has {there}")
        return chosen
    found = find_box_columns(table.columns)
    missing = [name for name in BOX_COLUMNS if name not in table.columns]
    if found is None and 0 < len(missing) < len(BOX_COLUMNS):
        raise ConfigError(
            f"the manifest {table.path!r} has some columns of a face's box but not {', '.join(missing)}: "
            f"give all of {', '.join(BOX_COLUMNS)}, or rename those it has"
        )
    return found


def _moments(table: Table) -> list[pl.Expr]:
    """The columns `frame` and `time_s`, null where they hold no number from 0 on."""
    columns = []
    for name, dtype in ((_FRAME_COLUMN, pl.Int64()), (_TIME_COLUMN, pl.Float64())):
        if name not in table.columns:
            columns.append(pl.lit(None, dtype).alias(name))
            continue
        number = table.as_text(name).str.strip_chars().cast(pl.Float64, strict=False)
        is_usable = number.is_finite() & (number >= 0)
        if dtype == pl.Int64:
            is_usable &= number == number.floor()
        columns.append(pl.when(is_usable).then(number).cast(dtype, strict=False).alias(name))
    return columns


_MAX_EXACT_DIGITS = 15
"""Decimal digits that a float64 holds."""
_POLARS_TYPES = {"string": pl.String, "int64": pl.Int64, "float64": pl.Float64, "bool": pl.Boolean}


def _kept_values(values: pl.Series, table: Table, name: str) -> tuple[pl.Series, KeptType]:
    """The values of a kept column in one of four types; of text, the type that every row fits."""
    dtype = values.dtype
    if dtype == pl.Boolean:
        return values, "bool"
    if dtype == pl.String:
        kept_type = _type_of_text(values) if table.is_text else "string"
        if kept_type == "bool":
            return values.str.to_lowercase() == "true", kept_type
        return values.cast(_POLARS_TYPES[kept_type]), kept_type
    if dtype.is_integer():
        wide = values.cast(pl.Int64, strict=False)
        return (wide, "int64") if wide.null_count() == values.null_count() else (values.cast(pl.String), "string")
    if dtype.is_float() or (isinstance(dtype, pl.Decimal) and dtype.precision <= _MAX_EXACT_DIGITS):
        return values.cast(pl.Float64), "float64"
    if dtype == pl.Duration:
        return values.dt.to_string(), "string"
    if dtype.is_temporal() or dtype.is_numeric() or dtype in (pl.Categorical, pl.Enum, pl.Null):
        return values.cast(pl.String), "string"
    raise ConfigError(
        f"column {name!r} of the manifest {table.path!r} holds {dtype}: only text, numbers and bool are kept"
    )


def _type_of_text(values: pl.Series) -> KeptType:
    def all_fit(pattern: str) -> bool:
        return bool(values.str.contains(pattern).all())

    if values.null_count() == len(values):
        return "string"
    if all_fit(r"^-?(0|[1-9][0-9]{0,17})$"):
        return "int64"
    if all_fit(r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]*)?([eE][-+]?[0-9]+)?$"):  # digits that a float64 holds
        return "float64"
    return "bool" if all_fit(r"^(?i:true|false)$") else "string"


def kept_name(name: str, keep: Sequence[str], own: Collection[str] = FACE_COLUMNS) -> str:
    """What a kept column is called in the output: `manifest_` stands before a name that the output has itself.

    Args:
        keep: All columns that are kept.
        own: Names that the output has itself.

    Raises:
        ConfigError: Another one of them is called so already.
    """
    if name.casefold() not in own:
        return name
    new = KEPT_PREFIX + name
    if new.casefold() in (other.casefold() for other in keep):
        raise ConfigError(f"keep names {name!r}, which the output calls {new!r}, and this one, too: rename one of them")
    log.info("the column %r of the manifest is called %r in the output", name, new)
    return new


def kept_types(keep: Sequence[str], manifests: Sequence[Manifest]) -> dict[str, KeptType]:
    """The types that hold the values of columns in all of some manifests, by what the output calls the columns."""
    return {kept_name(name, keep): _common_type({manifest.types[name] for manifest in manifests}) for name in keep}


def _common_type(types: set[KeptType]) -> KeptType:
    """The type that holds the values of all of these."""
    if len(types) == 1:
        return next(iter(types))
    return "float64" if types == {"int64", "float64"} else "string"


def _grouped(table: pl.DataFrame, *, by_path: bool) -> pl.DataFrame:
    """Rows of one path brought together at the place of the first; rows without a path stay alone."""
    row = pl.int_range(1, pl.len() + 1)
    table = table.select(row.alias("row"), pl.all())
    if not by_path:
        return table.select(pl.col("row").alias("first"), pl.all())
    has_path = pl.col("path").fill_null("") != ""
    first = pl.when(has_path).then(pl.col("row").min().over("path")).otherwise(pl.col("row"))
    table = table.select(first.alias("first"), pl.all())
    return table if table["first"].is_sorted() else table.sort("first", maintain_order=True)


def _located(name: str, folder: str) -> FoundInput:
    """A file beside the manifest or, where there is none, in the current folder; or a URL."""
    if is_remote(name):
        return remote_input(name)
    path = os.path.abspath(os.path.join(folder, name))
    status, problem = status_of(path)
    if status is None and os.path.lexists(name):
        path = os.path.abspath(name)
        status, problem = status_of(path)
    return FoundInput(name, path, kind_of_file(path, name) or "image", version_of(status), problem)
