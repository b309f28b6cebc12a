"""Tables that users bring (CSV, TSV, JSON lines, Parquet), read column by column.

The separator and the encoding of text are told from its bytes, columns from their names. What a row means is the
caller's knowledge.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import polars as pl

from motivnet_cli.errors import ConfigError, first_line
from motivnet_cli.inputs.cells import parquet_chunks, parquet_rows
from motivnet_cli.inputs.names import suffix_of
from motivnet_cli.remote.urls import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

log = logging.getLogger(__name__)

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq")
_JSON_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet", ".pq")
_OTHER_SUFFIXES = (".xlsx", ".xls", ".ods", ".json")
"""Of files that people keep tables in, and that are no text of cells."""
PATH_COLUMNS = (
    *("path", "image_path", "img_path", "file_path", "video_path", "image", "file", "input", "filename", "file_name"),
    *("image_name", "img", "img_name", "video", "url", "image_url", "video_url", "uri", "name", "pth"),
)
"""Columns that paths are looked for in, in this order; letters' case, spaces and underscores do not count."""
_EXCEL_SEPARATOR_ROW = ["sep=", ""]
"""The first row of a text in which Excel says what separates the cells."""
_MAX_HEADER_BYTES = 1 << 20
_MAX_LINE_LENGTH = 1 << 24
_CHUNK_BYTES = 1 << 20
CHUNK_ROWS = 1 << 16
"""Rows of a table that are held at once, where not all are."""
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, RecursionError, OSError)
"""The third of objects within objects within objects."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table that has been opened: its columns are known, its rows not yet read."""

    path: str
    what: str
    """What the user knows it as, for messages: `manifest`."""
    columns: tuple[str, ...]
    """Their names, as the table spells them but for spaces around them."""
    types: tuple[pl.DataType, ...]
    """Of the columns."""
    is_text: bool
    """Whether the format has no types. Every cell is text then, so that the identifier 007 stays 007."""
    _chunks: Callable[[frozenset[str] | None], Iterable[pl.DataFrame]] = field(repr=False)
    """The rows with at least these columns (None for all), in one frame or more."""

    def read(self, columns: Iterable[pl.Expr]) -> pl.DataFrame:
        """All rows, and of them only what these columns need. Blank rows are left out.

        Raises:
            ConfigError: The table is damaged, or a value does not fit the type that a column asks for.
        """
        columns = list(columns)
        with self._refusing_damage():
            return pl.concat(self._frames(columns)).select(columns)

    def chunks(self, columns: Iterable[pl.Expr]) -> Iterator[pl.DataFrame]:
        """As `read`, in frames of CHUNK_ROWS rows or so, of which an expression sees one at a time.

        Raises:
            ConfigError: As `read`, when the rows are reached.
        """
        columns = list(columns)
        with self._refusing_damage():
            for frame in self._frames(columns):
                yield frame.select(columns)

    def _frames(self, columns: Sequence[pl.Expr]) -> Iterable[pl.DataFrame]:
        needs_all = any(column.meta.has_multiple_outputs() for column in columns)
        needed = frozenset(itertools.chain.from_iterable(column.meta.root_names() for column in columns))
        return self._chunks(None if needs_all else needed)

    @contextlib.contextmanager
    def _refusing_damage(self) -> Iterator[None]:
        try:
            yield
        except _POLARS_ERRORS as error:
            raise _unreadable(self.path, self.what, error) from error

    def type_of(self, name: str) -> pl.DataType:
        return self.types[self.columns.index(name)]

    def as_text(self, name: str) -> pl.Expr:
        """A column as text.

        Raises:
            ConfigError: What it holds is no text and cannot be written as one: lists, objects, bytes.
        """
        dtype = self.type_of(name)
        if dtype == pl.Duration:
            return pl.col(name).dt.to_string()
        if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
            raise ConfigError(f"column {name!r} of the {self.what} {self.path!r} holds {dtype}, not text")
        return pl.col(name).cast(pl.String)


def column_named(names: Iterable[str], columns: Sequence[str]) -> str | None:
    """The column that one of these names means, the first name first; None where there is none."""
    by_word = {squeezed(name): name for name in reversed(columns)}
    return next((by_word[word] for word in map(squeezed, names) if word in by_word), None)


def squeezed(name: str) -> str:
    """A column's name without what different tools spell differently: case, spaces, underscores."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def open_table(path: str, what: str) -> Table:
    """A table by the ending of its name: one of TABLE_SUFFIXES, anything else being text as in a CSV.

    The cells of a text line are separated by commas, semicolons, tabs or bars, whichever its first line holds most of
    outside quotes. Text is UTF-8, or UTF-16 with a byte order mark; anything else is read as Windows-1252, and a
    warning names the first line that is no UTF-8.

    Raises:
        ConfigError: There is no such file, or no table can be read from it.
    """
    if not Path(path).is_file():
        raise ConfigError(f"no such {what}: {shown(path)!r} is no file")
    suffix = suffix_of(path)
    if suffix in _OTHER_SUFFIXES:
        raise ConfigError(
            f"the {what} {shown(path)!r} is a {suffix} file: save it as {', '.join(TABLE_SUFFIXES[:3])} or .parquet"
        )
    try:
        if suffix in PARQUET_SUFFIXES:
            schema = pl.scan_parquet(Path(path), glob=False).collect_schema()
            return Table(
                path,
                what,
                tuple(schema),
                tuple(schema.values()),
                False,
                lambda needed: parquet_chunks(path, schema if needed is None else needed, CHUNK_ROWS),
            )
        encoding = _encoding_of(path, what)
        if suffix in _JSON_SUFFIXES:
            is_plain = encoding == "utf-8"
            source = Path(path) if is_plain else io.BytesIO(Path(path).read_text(encoding).encode())
            return _typed(path, what, pl.scan_ndjson(source, infer_schema_length=None))
        return _text_table(path, what, encoding)
    except (*_POLARS_ERRORS, csv.Error) as error:
        raise _unreadable(path, what, error) from error


def _typed(path: str, what: str, rows: pl.LazyFrame) -> Table:
    schema = rows.collect_schema()

    def chunks(needed: frozenset[str] | None) -> Iterator[pl.DataFrame]:
        names = list(schema) if needed is None else sorted(needed)
        yield pl.DataFrame(schema={name: schema[name] for name in names})
        yield from rows.select(names).collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True)

    return Table(path, what, tuple(schema), tuple(schema.values()), False, chunks)


def _unreadable(path: str, what: str, error: BaseException) -> ConfigError:
    return ConfigError(f"the {what} {path!r} cannot be read: {first_line(error)}")


# ---- text -------------------------------------------------------------------------------------------------


def _text_table(path: str, what: str, encoding: str) -> Table:
    source = _Text(path, what, encoding)
    header = next(source.rows(), [])
    if not header:
        raise ConfigError(f"the {what} {path!r} cannot be read: it is empty")
    columns = tuple(name.strip() or f"column {number}" for number, name in enumerate(header, 1))
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise ConfigError(f"the {what} {path!r} has more than one column {twice[0]!r}: rename one")

    def chunks(needed: frozenset[str] | None) -> Iterator[pl.DataFrame]:
        wanted = [i for i, name in enumerate(columns) if needed is None or name in needed]
        cells = itertools.islice(source.rows(), 1, None)
        yield _text_frame(columns, wanted, [])
        while chunk := list(itertools.islice(cells, CHUNK_ROWS)):
            yield _text_frame(columns, wanted, chunk)

    return Table(path, what, columns, (pl.String(),) * len(columns), True, chunks)


def _text_frame(columns: Sequence[str], wanted: Sequence[int], rows: Sequence[list[str]]) -> pl.DataFrame:
    series = [pl.Series(columns[i], [row[i] or None for row in rows], pl.String) for i in wanted]
    return pl.DataFrame(series)


@dataclass(frozen=True, slots=True)
class _Text:
    """Text whose cells are separated by a mark."""

    path: str
    what: str
    encoding: str

    def rows(self) -> Iterator[list[str]]:
        """The rows that are not blank, each with as many cells as the first; cells beyond them must be empty.

        Raises:
            ConfigError: Not all rows are like that, or quotes are not closed.
        """
        width, last_line = 0, 0
        with Path(self.path).open(encoding=self.encoding, newline="") as file:
            reader = csv.reader(self._lines(file), delimiter=self._separator(file), strict=True)
            try:
                for row in reader:
                    line, last_line = last_line + 1, reader.line_num
                    if not any(map(str.strip, row)) or (line == 1 and row == _EXCEL_SEPARATOR_ROW):
                        continue
                    width = width or len(row)
                    if len(row) < width or any(row[width:]):
                        raise ConfigError(
                            f"line {line} of the {self.what} {self.path!r} has {len(row)} cells, and the first row "
                            f"{width}: put quotes around cells that hold the separator"
                        )
                    yield row
            except csv.Error as error:
                where = f"line {last_line + 1} of the {self.what} {self.path!r}"
                raise ConfigError(f"{where} cannot be read: {error}") from error

    def _lines(self, file: IO[str]) -> Iterator[str]:
        """The lines of the file.

        Raises:
            ConfigError: One is longer than is read.
        """
        for number in itertools.count(1):
            line = file.readline(_MAX_LINE_LENGTH)
            if not line:
                return
            if len(line) == _MAX_LINE_LENGTH:
                raise ConfigError(
                    f"line {number} of the {self.what} {self.path!r} has more than {_MAX_LINE_LENGTH} characters: "
                    "no row of a table has so many"
                )
            yield line

    def _separator(self, file: IO[str]) -> str:
        """What separates the cells, by the first line; the file is at its beginning before and after."""
        first = next((line for line in iter(partial(file.readline, _MAX_HEADER_BYTES), "") if line.strip()), "")
        file.seek(0)
        if spelt_out := re.fullmatch(r"sep=(.)\s*", first):
            return spelt_out[1]
        unquoted = re.sub(r'"[^"]*"', "", first)
        candidates = "\t,;|" if suffix_of(self.path) == ".tsv" else ",;\t|"  # the first where the line holds none
        return max(candidates, key=unquoted.count)


def _encoding_of(path: str, what: str) -> str:
    """The encoding of a text file.

    Raises:
        ConfigError: It is none that is known.
    """
    with Path(path).open("rb") as file:
        start = file.read(len(codecs.BOM_UTF32_LE))
        for mark, encoding in _BYTE_ORDER_MARKS:
            if start.startswith(mark):
                return _checked(file, encoding, path, what)
        file.seek(0)
        line = _first_line_outside(file, "utf-8")
        if line is None:
            return "utf-8"
        log.warning("line %d of the %s %r is not UTF-8: it is read as Windows-1252", line, what, path)
        return _checked(file, "cp1252", path, what)


def _checked(file: IO[bytes], encoding: str, path: str, what: str) -> str:
    file.seek(0)
    line = _first_line_outside(file, encoding)
    if line is not None:
        name = "Windows-1252" if encoding == "cp1252" else encoding.removesuffix("-sig").upper()
        raise ConfigError(f"line {line} of the {what} {path!r} is not {name} text: save it as UTF-8")
    return encoding


def _first_line_outside(file: IO[bytes], encoding: str) -> int | None:
    """The number of the first line that is not of an encoding, from 1; None where all are. NUL bytes are not text."""
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 1
    while True:
        chunk = file.read(_CHUNK_BYTES)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            return lines + error.object[: error.start].decode(encoding, "replace").count("\n")
        if "\0" in text:
            return lines + text[: text.index("\0")].count("\n")
        lines += text.count("\n")
        if not chunk:
            return None


def read_parquet_folder(folder: Path) -> pl.DataFrame:
    """All `.parquet` files of a folder and the folders in it as one table, in the order of their names.

    Raises:
        ConfigError: There is none, or they cannot be read as one table.
    """
    parts = sorted(folder.rglob("*.parquet"))
    if not parts:
        raise ConfigError(f"the folder {str(folder)!r} holds no .parquet file; give the table's own name")
    try:
        columns = list(pl.read_parquet_schema(parts[0]))
        for part in parts:
            if set(pl.read_parquet_schema(part)) != set(columns):
                raise pl.exceptions.SchemaError(f"{part.name} has other columns than {parts[0].name}")
        return pl.concat([parquet_rows(str(part), columns).select(columns) for part in parts])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ConfigError(
            f"the tables of predictions in {str(folder)!r} cannot be read: {first_line(error)}"
        ) from error
