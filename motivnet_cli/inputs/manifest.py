"""Tables of inputs, with boxes and kept columns -> found inputs."""

from __future__ import annotations

import itertools
import operator
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import polars as pl

from motivnet_cli.errors import ConfigError, first_line
from motivnet_cli.records import BOX_COLUMNS, GivenFace, Problem
from motivnet_cli.remote.urls import display_name, is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from motivnet_cli.config import InputConfig, KeptType
    from motivnet_cli.records import Kind
from motivnet_cli.inputs.names import Found, kind_of, status_of, suffix_of, version_of


class Manifest:
    """A table of inputs: read whole, but only the columns that count; about 150 MB for a million faces."""

    def __init__(self, path: str, inputs: InputConfig) -> None:
        self._path = path
        table = _scan(path)
        try:
            names = table.collect_schema().names()
            has_boxes = self._check_columns(names, inputs)
            columns = [pl.col(inputs.path_column).cast(pl.String).alias("path")]
            columns += [pl.col(name).alias(f"box{place}") for place, name in enumerate(BOX_COLUMNS) if has_boxes]
            columns += [pl.col(name).alias(f"kept{place}") for place, name in enumerate(inputs.keep)]
            read = table.select(columns).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ConfigError(f"the manifest {path!r} cannot be read: {first_line(error)}") from error
        self.types: dict[str, KeptType] = {}
        for place, name in enumerate(inputs.keep):
            values, self.types[name] = _plain(read[f"kept{place}"], path, name)
            read = read.with_columns(values)
        self._table = _grouped(_with_boxes(read) if has_boxes else read)
        self._has_boxes = has_boxes
        self._num_kept = len(inputs.keep)
        self.num_repeated = 0
        """Rows that say nothing new of their path; known once `found` has ended."""

    def _check_columns(self, names: Sequence[str], inputs: InputConfig) -> bool:
        """Whether there are boxes."""
        there = ", ".join(repr(name) for name in names)
        for name, option in ((inputs.path_column, "--path-column"), *((name, "--keep") for name in inputs.keep)):
            if name not in names:
                raise ConfigError(
                    f"the manifest {self._path!r} has no column {name!r}; it has {there}: name one with {option}"
                )
        missing = [name for name in BOX_COLUMNS if name not in names]
        if 0 < len(missing) < len(BOX_COLUMNS):
            raise ConfigError(
                f"the manifest {self._path!r} has some columns of a face's box but not {', '.join(missing)}: "
                f"give all of {', '.join(BOX_COLUMNS)}, or rename those it has"
            )
        return not missing

    def found(self, kept_types: dict[str, KeptType]) -> Iterator[Found]:
        """Its items, each at the place of its first row, the kept values cast to these types."""
        casts = [
            pl.col(f"kept{place}").cast(_POLARS_TYPES[kept_type]) for place, kept_type in enumerate(kept_types.values())
        ]
        table = self._table.with_columns(casts)
        del self._table
        folder = os.path.dirname(os.path.abspath(self._path))
        for _, group in itertools.groupby(table.iter_rows(), key=_FIRST):
            yield self._item(list(group), folder)

    def _item(self, rows: list[tuple[Any, ...]], folder: str) -> Found:
        _, row, name, *values = rows[0]
        width = len(BOX_COLUMNS) + 1 if self._has_boxes else 0
        kept = tuple(values[width:])
        if not name or "\0" in name:
            message = f"row {row} of {self._path!r} names no file: its path is {name!r}"
            where = f"{self._path}#{row}"
            return Found(where, os.path.abspath(where), "image", problem=Problem("not_found", message), kept=kept)
        found = _located(name, folder)._replace(kept=kept)
        boxed = [each for each in rows if each[3] is not None or each[7] is not None] if self._has_boxes else []
        if not boxed:
            self.num_repeated += len(rows) - 1
            return found
        problem = self._problem_of_boxes(rows, boxed, found.kind)
        if problem:
            return found._replace(problem=problem)
        return found._replace(given=tuple(GivenFace(each[3:7], tuple(each[3 + width :])) for each in boxed))

    def _problem_of_boxes(
        self, rows: list[tuple[Any, ...]], boxed: list[tuple[Any, ...]], kind: Kind
    ) -> Problem | None:
        if kind != "image":
            return Problem("bad_box", f"row {boxed[0][1]} of {self._path!r} gives a box, which only pictures can have")
        for each in rows:
            if each[7] is not None:
                expected = "four numbers with x1 < x2 and y1 < y2, or four empty cells"
                return Problem("bad_box", f"row {each[1]} of {self._path!r} has the box {each[7]}: expected {expected}")
        if len(boxed) < len(rows):
            without = next(each[1] for each in rows if each[3] is None)
            message = f"row {boxed[0][1]} of {self._path!r} gives a box for this picture, and row {without} none"
            return Problem("bad_box", f"{message}: give one in each row of a picture, or in none")
        return None


_FIRST = operator.itemgetter(0)
_POLARS_TYPES = {"string": pl.String, "int64": pl.Int64, "float64": pl.Float64, "bool": pl.Boolean}


def _scan(path: str) -> pl.LazyFrame:
    suffix = suffix_of(path)
    if suffix not in _MANIFEST_SUFFIXES:
        raise ConfigError(f"a manifest's name ends in one of {', '.join(_MANIFEST_SUFFIXES)}, got {path!r}")
    if not os.path.isfile(path):
        raise ConfigError(f"no such manifest: {path!r} is no file")
    file = Path(path)
    if suffix in (".csv", ".tsv"):  # all as text: polars would take the identifier 007 for 7
        separator = "," if suffix == ".csv" else "\t"
        return pl.scan_csv(file, infer_schema=False, separator=separator, glob=False)
    if suffix in (".jsonl", ".ndjson"):
        return pl.scan_ndjson(file, infer_schema_length=None)
    return pl.scan_parquet(file, glob=False)


_MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq")


def _plain(values: pl.Series, path: str, name: str) -> tuple[pl.Series, KeptType]:
    """The values of a kept column in one of four types: what text says where it says it in every row."""
    dtype = values.dtype
    if dtype == pl.Boolean:
        return values, "bool"
    if dtype == pl.String:
        kept_type = _type_of_text(values) if suffix_of(path) in (".csv", ".tsv") else "string"
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
    raise ConfigError(f"column {name!r} of the manifest {path!r} holds {dtype}: only text, numbers and bool are kept")


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
    if len(types) == 1:
        return next(iter(types))
    return "float64" if types == {"int64", "float64"} else "string"


def _with_boxes(table: pl.DataFrame) -> pl.DataFrame:
    """box0 to box3 as numbers, all null where there is no box, and `bad`: what stands there in place of a box."""
    names = [f"box{place}" for place in range(len(BOX_COLUMNS))]
    x1, y1, x2, y2 = (pl.col(name).cast(pl.Float64, strict=False) for name in names)
    raw = [pl.col(name).cast(pl.String).fill_null("") for name in names]
    is_empty = pl.all_horizontal(text.str.strip_chars() == "" for text in raw)
    is_box = pl.all_horizontal(x1 < x2, y1 < y2, *(each.is_finite() for each in (x1, y1, x2, y2))).fill_null(False)
    shown_box = pl.format("({})", pl.concat_str(raw, separator=", "))
    numbers = [pl.when(is_box).then(each).alias(name) for name, each in zip(names, (x1, y1, x2, y2), strict=True)]
    others = [name for name in table.columns if name not in names and name != "path"]
    return table.select("path", *numbers, pl.when(~is_empty & ~is_box).then(shown_box).alias("bad"), *others)


def _grouped(table: pl.DataFrame) -> pl.DataFrame:
    """Rows of one path brought together at the place of the first; rows without a path stay alone."""
    row = pl.int_range(1, pl.len() + 1)
    table = table.select(row.alias("row"), pl.all())
    has_path = pl.col("path").fill_null("") != ""
    first = pl.when(has_path).then(pl.col("row").min().over("path")).otherwise(pl.col("row"))
    table = table.select(first.alias("first"), pl.all())
    return table if table["first"].is_sorted() else table.sort("first", maintain_order=True)


def _located(name: str, folder: str) -> Found:
    if is_remote(name):
        return Found(display_name(name), name, kind_of(urlsplit(name).path) or "image")
    path = os.path.abspath(os.path.join(folder, name))
    status, problem = status_of(path)
    if status is None and os.path.lexists(name):
        path = os.path.abspath(name)
        status, problem = status_of(path)
    return Found(name, path, kind_of(name) or "image", version_of(status), problem)
