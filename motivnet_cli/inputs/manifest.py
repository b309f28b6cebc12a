"""Manifests: tables of inputs, with the boxes of faces and columns that pass through."""

from __future__ import annotations

import itertools
import operator
import os
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import polars as pl

from motivnet_cli.errors import ConfigError
from motivnet_cli.inputs.names import FoundInput, kind_of, status_of, suffix_of, version_of
from motivnet_cli.inputs.table import TABLE_SUFFIXES, open_table
from motivnet_cli.records import BOX_COLUMNS, GivenFace, Problem
from motivnet_cli.remote.urls import display_name, is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motivnet_cli.config import InputConfig, KeptType
    from motivnet_cli.inputs.table import Table
    from motivnet_cli.records import Box, Kept, Kind


class Manifest:
    """A table of inputs. It is read whole, but only the columns that count: about 150 MB for a million faces.

    Raises:
        ConfigError: The table cannot be read, a column is missing, or the values of one cannot be kept.
    """

    def __init__(self, path: str, inputs: InputConfig) -> None:
        if suffix_of(path) not in TABLE_SUFFIXES:
            raise ConfigError(f"a manifest's name ends in one of {', '.join(TABLE_SUFFIXES)}, got {path!r}")
        self._path = path
        table = open_table(path, "manifest")
        self._has_boxes = _check_columns(table, inputs)
        columns = [pl.col(inputs.path_column).cast(pl.String).alias("path")]
        columns += [pl.col(name).alias(f"box{i}") for i, name in enumerate(BOX_COLUMNS) if self._has_boxes]
        columns += [pl.col(name).alias(f"kept{i}") for i, name in enumerate(inputs.keep)]
        rows = table.read(columns)
        self.types: dict[str, KeptType] = {}
        """Type of the values of each kept column."""
        for i, name in enumerate(inputs.keep):
            values, self.types[name] = _kept_values(rows[f"kept{i}"], table, name)
            rows = rows.with_columns(values)
        self._rows = _grouped(_with_boxes(rows) if self._has_boxes else rows)
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
        for _, rows in itertools.groupby(_rows_of(table, has_boxes=self._has_boxes), operator.attrgetter("first")):
            yield self._input(list(rows), folder)

    def _input(self, rows: list[_Row], folder: str) -> FoundInput:
        """The input that all of these rows are about."""
        _, number, name, _, _, kept = rows[0]
        if not name or "\0" in name:
            message = f"row {number} of {self._path!r} names no file: its path is {name!r}"
            where = f"{self._path}#{number}"
            return FoundInput(where, os.path.abspath(where), "image", problem=Problem("not_found", message), kept=kept)
        found = _located(name, folder)._replace(kept=kept)
        if all(row.box is None and row.bad_box is None for row in rows):
            self.num_repeated += len(rows) - 1
            return found
        if problem := self._problem_of_boxes(rows, found.kind):
            return found._replace(problem=problem)
        return found._replace(given=tuple(GivenFace(row.box, row.kept) for row in rows if row.box))

    def _problem_of_boxes(self, rows: list[_Row], kind: Kind) -> Problem | None:
        """What is wrong with the boxes of an input, of which one row at least has something in their place."""
        boxed = next(row.number for row in rows if row.box or row.bad_box is not None)
        if kind != "image":
            return Problem("bad_box", f"row {boxed} of {self._path!r} gives a box, which only pictures can have")
        for row in rows:
            if row.bad_box is not None:
                expected = "four numbers with x1 < x2 and y1 < y2, or four empty cells"
                message = f"row {row.number} of {self._path!r} has the box {row.bad_box}: expected {expected}"
                return Problem("bad_box", message)
        without = next((row.number for row in rows if not row.box), None)
        if without is not None:
            message = f"row {boxed} of {self._path!r} gives a box for this picture, and row {without} none"
            return Problem("bad_box", f"{message}: give one in each row of a picture, or in none")
        return None


class _Row(NamedTuple):
    first: int
    """Number of the first row with the same path."""
    number: int
    """Its own, from 1."""
    path: str | None
    box: Box | None
    bad_box: str | None
    """What stands in the place of a box and is none."""
    kept: Kept


def _rows_of(table: pl.DataFrame, *, has_boxes: bool) -> Iterator[_Row]:
    if not has_boxes:
        for first, number, path, *kept in table.iter_rows():
            yield _Row(first, number, path, None, None, tuple(kept))
        return
    for first, number, path, x1, y1, x2, y2, bad_box, *kept in table.iter_rows():
        yield _Row(first, number, path, None if x1 is None else (x1, y1, x2, y2), bad_box, tuple(kept))


def _check_columns(table: Table, inputs: InputConfig) -> bool:
    """Whether there are boxes.

    Raises:
        ConfigError: A column is missing.
    """
    there = ", ".join(repr(name) for name in table.columns)
    for name, option in ((inputs.path_column, "--path-column"), *((name, "--keep") for name in inputs.keep)):
        if name not in table.columns:
            raise ConfigError(
                f"the manifest {table.path!r} has no column {name!r}; it has {there}: name one with {option}"
            )
    missing = [name for name in BOX_COLUMNS if name not in table.columns]
    if 0 < len(missing) < len(BOX_COLUMNS):
        raise ConfigError(
            f"the manifest {table.path!r} has some columns of a face's box but not {', '.join(missing)}: "
            f"give all of {', '.join(BOX_COLUMNS)}, or rename those it has"
        )
    return not missing


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
    if dtype.is_numeric():
        return values.cast(pl.Float64), "float64"
    if dtype.is_temporal() or dtype in (pl.Categorical, pl.Enum, pl.Null):
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


def common_type(types: set[KeptType]) -> KeptType:
    """The type that holds the values of all of these."""
    if len(types) == 1:
        return next(iter(types))
    return "float64" if types == {"int64", "float64"} else "string"


def _with_boxes(table: pl.DataFrame) -> pl.DataFrame:
    """box0 to box3 as numbers, all null where there is no box, and `bad`: what stands there and is no box."""
    names = [f"box{i}" for i in range(len(BOX_COLUMNS))]
    x1, y1, x2, y2 = sides = [pl.col(name).cast(pl.Float64, strict=False) for name in names]
    texts = [pl.col(name).cast(pl.String).fill_null("") for name in names]
    is_empty = pl.all_horizontal(text.str.strip_chars() == "" for text in texts)
    is_box = pl.all_horizontal(x1 < x2, y1 < y2, *(side.is_finite() for side in sides)).fill_null(False)
    as_given = pl.format("({})", pl.concat_str(texts, separator=", "))
    numbers = [pl.when(is_box).then(side).alias(name) for name, side in zip(names, sides, strict=True)]
    others = [name for name in table.columns if name not in names and name != "path"]
    return table.select("path", *numbers, pl.when(~is_empty & ~is_box).then(as_given).alias("bad"), *others)


def _grouped(table: pl.DataFrame) -> pl.DataFrame:
    """Rows of one path brought together at the place of the first; rows without a path stay alone."""
    row = pl.int_range(1, pl.len() + 1)
    table = table.select(row.alias("row"), pl.all())
    has_path = pl.col("path").fill_null("") != ""
    first = pl.when(has_path).then(pl.col("row").min().over("path")).otherwise(pl.col("row"))
    table = table.select(first.alias("first"), pl.all())
    return table if table["first"].is_sorted() else table.sort("first", maintain_order=True)


def _located(name: str, folder: str) -> FoundInput:
    """A file beside the manifest or, where there is none, in the current folder; or a URL."""
    if is_remote(name):
        return FoundInput(display_name(name), name, kind_of(urlsplit(name).path) or "image")
    path = os.path.abspath(os.path.join(folder, name))
    status, problem = status_of(path)
    if status is None and os.path.lexists(name):
        path = os.path.abspath(name)
        status, problem = status_of(path)
    return FoundInput(name, path, kind_of(name) or "image", version_of(status), problem)
