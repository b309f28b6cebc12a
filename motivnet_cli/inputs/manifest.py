"""Manifests: tables of inputs, with the boxes of faces and columns that pass through."""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from motivnet_cli.errors import ConfigError, one_line
from motivnet_cli.inputs.box_columns import (
    Extent,
    box_cells,
    find_box_columns,
    has_openface_landmarks,
    parse_box_columns,
    with_boxes,
)
from motivnet_cli.inputs.cells import holds_pictures, names_of
from motivnet_cli.inputs.content import kind_of_file
from motivnet_cli.inputs.kept_columns import KeptColumn, cast
from motivnet_cli.inputs.names import FoundInput, refused, remote_input, status_of, suffix_of, version_of
from motivnet_cli.inputs.spool import Spool
from motivnet_cli.inputs.table import PATH_COLUMNS, TABLE_SUFFIXES, column_named, open_table
from motivnet_cli.records import BOX_COLUMNS, GivenFace, Problem
from motivnet_cli.remote.urls import is_remote, local_path, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from motivnet_cli.config import InputConfig, KeptType
    from motivnet_cli.inputs.box_columns import BoxColumns
    from motivnet_cli.inputs.table import Table
    from motivnet_cli.records import Box, Kept, Kind

log = logging.getLogger(__name__)

_FRAME_COLUMN, _TIME_COLUMN = "frame", "time_s"
"""Columns that say to which frame of a video a box belongs."""


class Manifest:
    """A table of inputs, opened: its columns are known, and its rows are read when they are asked for.

    They are written down once, in a temporary file with only the columns that count: what a column of text holds is
    known when all of it has been seen. Memory does not depend on their number, but for a table that holds the pictures
    themselves, whose names are held.

    Raises:
        ConfigError: The table cannot be read, a column is missing, or the values of one cannot be kept.
    """

    def __init__(self, path: str, inputs: InputConfig) -> None:
        if suffix_of(path) not in TABLE_SUFFIXES:
            raise ConfigError(f"a manifest's name ends in one of {', '.join(TABLE_SUFFIXES)}, got {shown(path)!r}")
        self._path, self._inputs = path, inputs
        self._table = table = open_table(path, "manifest")
        path_column = _path_column(table, inputs)
        self._picture_column = path_column if holds_pictures(table.type_of(path_column)) else None
        """Of a table that holds the pictures themselves, one a row."""
        self._boxes = _box_columns(table, inputs)
        self._kept = [KeptColumn(table, name) for name in inputs.keep]
        is_path = self._picture_column is None
        self._columns = [table.as_text(path_column).alias("path") if is_path else pl.int_range(pl.len()).alias("path")]
        self._columns += [
            column.values.alias(name) for name, column in zip(_kept_names(inputs), self._kept, strict=True)
        ]
        if self._boxes:
            self._columns += [*box_cells(self._boxes, table), *_moments(table)]
        elif has_openface_landmarks(table.columns):
            log.info("%s: the points x_0 to y_67 of OpenFace are no box: faces are searched for", path)
        self._folder = os.path.dirname(os.path.abspath(path))
        self._rows: Spool | None = None
        self.num_repeated = 0
        """Rows of one path with the columns of boxes, and no box, that follow its first; once `inputs` has ended."""

    @property
    def kept_types(self) -> list[KeptType | None]:
        """Of each column that is kept, the type that holds its values; None if it has none."""
        self.read()
        return [column.type for column in self._kept]

    def read(self) -> Spool:
        """Read all rows, unless they have been.

        Raises:
            ConfigError: The table is damaged.
        """
        if self._rows is None:
            self._rows = Spool(self._chunks(), by_path=self._has_groups)
            if self._boxes:
                boxes = self._boxes
                whose = f", as {boxes.tool} writes them" if boxes.tool else ""
                names = one_line(", ".join(boxes.names))
                log.info("%s: boxes are read from %s: %s%s", self._path, names, boxes.meaning, whose)
        return self._rows

    @property
    def _has_groups(self) -> bool:
        """Whether several rows may be about one input."""
        return self._boxes is not None and self._picture_column is None

    def _chunks(self) -> Iterator[pl.DataFrame]:
        names = None
        if self._picture_column is not None:
            names = _PictureNames(self._table, self._picture_column, self._inputs)
        extent = Extent()
        num_rows = 0
        for chunk in self._table.chunks(self._columns):
            rows = chunk
            for name, column in zip(_kept_names(self._inputs), self._kept, strict=True):
                column.note(rows[name])
            if names is not None:
                rows = rows.with_columns(names.of_rows(num_rows, num_rows + len(rows)))
            if self._boxes:
                rows = with_boxes(rows, self._boxes, extent)
            num_rows += len(rows)
            yield rows
        if self._boxes:
            self._boxes = extent.decide(self._boxes)

    def inputs(self, kept_types: Iterable[KeptType]) -> Iterator[FoundInput]:
        """What it names, each input at the place of its first row; to be called once.

        Args:
            kept_types: What the kept values are cast to.
        """
        kept = dict(zip(_kept_names(self._inputs), kept_types, strict=True))
        columns = ["row", "path", *(_BOX_NAMES if self._boxes else ()), *kept]
        rows = itertools.chain.from_iterable(
            frame.with_columns(cast(name, frame, kept_type) for name, kept_type in kept.items())
            .select(columns)
            .iter_rows()
            for frame in self.read().frames()
        )
        if not self._boxes:
            for number, path, *values in rows:
                yield self._input(number, path, tuple(values))
            return
        # Rows without a path stay alone, and so do pictures in cells, whatever they are called.
        with_boxes = (
            _Row(number, path, tuple(values[len(_BOX_NAMES) :]), *values[: len(_BOX_NAMES)])
            for number, path, *values in rows
        )
        for _, group in itertools.groupby(with_boxes, key=lambda row: (self._has_groups and row.path) or row.number):
            first, *others = group
            found = self._input(first.number, first.path, first.kept)
            yield found if found.problem else self._with_faces(found, [first, *others])

    def _input(self, number: int, name: str | None, kept: Kept) -> FoundInput:
        """What a row is about.

        Args:
            number: Of the row, from 1.
        """
        if name and self._picture_column is not None:
            path = os.path.abspath(self._path)
            version = (None, version_of(status_of(path)[0])[1])
            return FoundInput(name, path, "image", version, kept=kept, column=self._picture_column, row=number - 1)
        if not name or "\0" in name:
            message = f"row {number} of {self._path!r} names no file: its path is {name!r}"
            where = f"{self._path}#{number}"
            return FoundInput(where, os.path.abspath(where), "image", problem=Problem("not_found", message), kept=kept)
        name = local_path(name)
        if is_remote(name):
            return remote_input(name, kept) if self._inputs.allows(name) else refused(name, kept)
        return _located(name, self._folder, kept)

    def _with_faces(self, found: FoundInput, rows: list[_Row]) -> FoundInput:
        if all(row.box is None and row.bad_box is None for row in rows):
            self.num_repeated += len(rows) - 1
            return found
        if problem := self._problem_of_boxes(rows, found.kind):
            return found._replace(problem=problem)
        return found._replace(given=tuple(self._given(row, row.box, found.kind) for row in rows if row.box))

    def _given(self, row: _Row, box: Box, kind: Kind) -> GivenFace:
        is_relative = bool(self._boxes and self._boxes.is_relative)
        if kind != "video":
            return GivenFace(box, row.kept, is_relative=is_relative)
        time_s = row.time_s if row.frame is None else None
        return GivenFace(box, row.kept, is_relative=is_relative, frame=row.frame, time_s=time_s)

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
    number: int
    """From 1."""
    path: str | None
    kept: Kept
    x1: float | None
    y1: float | None
    x2: float | None
    y2: float | None
    bad_box: str | None
    """What stands in the place of a box and is none."""
    frame: int | None
    time_s: float | None

    @property
    def box(self) -> Box | None:
        if self.x1 is None or self.y1 is None or self.x2 is None or self.y2 is None:
            return None
        return self.x1, self.y1, self.x2, self.y2


def _kept_names(inputs: InputConfig) -> list[str]:
    """What the kept columns are called between reading and casting."""
    return [f"kept{number}" for number in range(len(inputs.keep))]


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


class _PictureNames:
    """The names of a table's pictures: as they are called there, or by the row where that is no name of its own."""

    def __init__(self, table: Table, column: str, inputs: InputConfig) -> None:
        self._path = table.path
        self._names = names_of(table.path, column, table.type_of(column)) or []
        self._counts = Counter(self._names)
        has_others = inputs.paths or inputs.files_from or inputs.files0_from or len(inputs.manifests) > 1
        self._prefix = f"{table.path}/" if has_others else ""

    def of_rows(self, start: int, stop: int) -> pl.Series:
        """Of some rows, numbered from 0."""
        names = self._names[start:stop] or [None] * (stop - start)
        own = [
            f"{self._prefix}{name}" if name and self._counts[name] == 1 else f"{self._path}#{number}"
            for number, name in enumerate(names, start + 1)
        ]
        return pl.Series("path", own, pl.String)


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


def _located(name: str, folder: str, kept: Kept) -> FoundInput:
    """A file beside the manifest or, where there is none, in the current folder."""
    path = os.path.normpath(os.path.join(folder, name))
    status, problem = status_of(path)
    if status is None and os.path.lexists(name):
        path = os.path.abspath(name)
        status, problem = status_of(path)
    return FoundInput(name, path, kind_of_file(path, name) or "image", version_of(status), problem, None, kept)
