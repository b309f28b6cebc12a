"""Tables that users bring (CSV, TSV, JSON lines, Parquet), read column by column.

What the columns mean is the caller's knowledge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from motivnet_cli.errors import ConfigError, first_line
from motivnet_cli.inputs.names import suffix_of

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq")
_JSON_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet", ".pq")
_MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table that has been opened: its columns are known, its rows not yet read."""

    path: str
    what: str
    """What the user knows it as, for messages: `manifest`."""
    columns: tuple[str, ...]
    """Their names, as the table spells them."""
    is_text: bool
    """Whether the format has no types. Every cell is text then, so that the identifier 007 stays 007."""
    _rows: pl.LazyFrame = field(repr=False)

    def read(self, columns: Iterable[pl.Expr]) -> pl.DataFrame:
        """All rows, and of them only what these columns need.

        Raises:
            ConfigError: The table is damaged, or a value does not fit the type that a column asks for.
        """
        try:
            return self._rows.select(list(columns)).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _unreadable(self.path, self.what, error) from error


def open_table(path: str, what: str) -> Table:
    """A table by the ending of its name: one of TABLE_SUFFIXES, anything else being text as in a CSV.

    The cells of a text line are separated by commas, semicolons or tabs, whichever its first line holds most of.

    Raises:
        ConfigError: There is no such file, or no table can be read from it.
    """
    if not Path(path).is_file():
        raise ConfigError(f"no such {what}: {path!r} is no file")
    suffix = suffix_of(path)
    is_text = suffix not in (*_JSON_SUFFIXES, *PARQUET_SUFFIXES)
    try:
        if suffix in PARQUET_SUFFIXES:
            rows = pl.scan_parquet(Path(path), glob=False)
        elif suffix in _JSON_SUFFIXES:
            rows = pl.scan_ndjson(Path(path), infer_schema_length=None)
        else:
            rows = pl.scan_csv(Path(path), infer_schema=False, separator=_separator_of(path), glob=False)
        columns = tuple(rows.collect_schema().names())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, what, error) from error
    return Table(path, what, columns, is_text, rows)


def _separator_of(path: str) -> str:
    with Path(path).open("rb") as file:
        first = file.readline(_MAX_HEADER_BYTES)
    candidates = "\t,;" if suffix_of(path) == ".tsv" else ",;\t"  # the first where the line holds none
    return max(candidates, key=lambda mark: first.count(mark.encode()))


def _unreadable(path: str, what: str, error: Exception) -> ConfigError:
    return ConfigError(f"the {what} {path!r} cannot be read: {first_line(error)}")


def read_parquet_folder(folder: Path) -> pl.DataFrame:
    """All `.parquet` files of a folder and the folders in it as one table, in the order of their names.

    Raises:
        ConfigError: There is none, or they cannot be read as one table.
    """
    parts = sorted(folder.rglob("*.parquet"))
    if not parts:
        raise ConfigError(f"the folder {str(folder)!r} holds no .parquet file; give the table's own name")
    try:
        return pl.read_parquet(parts, missing_columns="raise")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ConfigError(
            f"the tables of predictions in {str(folder)!r} cannot be read: {first_line(error)}"
        ) from error
