"""Pictures that stand in the cells of a Parquet table, read one after the other.

A cell holds a file's bytes, or an object of `bytes` and `path`, as Hugging Face's `datasets` writes them.

polars is imported where a table is opened: a run without one does not wait for it.
"""

from __future__ import annotations

import bisect
import itertools
import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from motivnet_cli.errors import ConfigError, InputError, error_type_of, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import polars as pl

_BYTES, _PATH = "bytes", "path"
_BATCH_ROWS = 8
"""Cells that are decoded at once."""
_NAMES_BATCH_ROWS = 1 << 16
_DAMAGE = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, RuntimeError)
"""What pyarrow raises of a damaged table; text that is no UTF-8 is a ValueError."""
_BUFFER_BYTES = 1 << 20
"""Of a column, read at a time. Without it, or with `pre_buffer`, pyarrow reads the column of a row group whole."""


def holds_pictures(dtype: pl.DataType) -> bool:
    """Whether the cells of a column can be files."""
    import polars as pl

    return dtype == pl.Binary or (isinstance(dtype, pl.Struct) and _fields(dtype).get(_BYTES) == pl.Binary)


def names_of(path: str, column: str, dtype: pl.DataType) -> list[str | None] | None:
    """What a column of pictures calls each of them; None where it does not name them. No picture is read.

    Raises:
        ConfigError: The table cannot be read.
    """
    import polars as pl

    if not (isinstance(dtype, pl.Struct) and _fields(dtype).get(_PATH) == pl.String):
        return None
    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            batches = file.iter_batches(_NAMES_BATCH_ROWS, columns=[f"{column}.{_PATH}"])
            names = [cell and cell[_PATH] for batch in batches for cell in batch[column].to_pylist()]
            if len(names) != file.metadata.num_rows:
                raise ValueError(f"it has {file.metadata.num_rows} rows and {len(names)} names")
            return names
    except _DAMAGE as error:
        raise ConfigError(f"the manifest {path!r} cannot be read: {first_line(error)}") from error


def class_names(path: str, column: str) -> list[str] | None:
    """What the numbers of a column mean, 0 first, as Hugging Face's `datasets` writes it into a table; None if nowhere.

    Raises:
        ConfigError: The table cannot be read.
    """
    try:
        notes = (pq.read_schema(path).metadata or {}).get(b"huggingface", b"{}")
        features = json.loads(notes)["info"]["features"]
        feature = features[column]
        names = (feature[0] if isinstance(feature, list) else feature)["names"]
    except (LookupError, TypeError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    except _DAMAGE as error:
        raise ConfigError(f"the table {path!r} cannot be read: {first_line(error)}") from error
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def parquet_rows(path: str, columns: Iterable[str]) -> pl.DataFrame:
    """Some columns of a Parquet table; of none, an empty column that has as many rows.

    Raises:
        ConfigError: The table is damaged, or has more than MAX_ROWS rows.
    """
    import polars as pl

    return pl.concat(parquet_chunks(path, columns, _NAMES_BATCH_ROWS), rechunk=True)


def parquet_chunks(path: str, columns: Iterable[str], num_rows: int) -> Iterator[pl.DataFrame]:
    """As `parquet_rows`, in frames of at most `num_rows` rows, of which the first one has none.

    pyarrow reads them, which refuses damaged pages: polars 2.1 ends the process where a page has a negative length.

    Raises:
        ConfigError: The table is damaged, or has more than MAX_ROWS rows.
    """
    import polars as pl

    names = sorted(columns)
    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            stated = file.metadata.num_rows
            if not 0 <= stated <= MAX_ROWS:
                raise ConfigError(f"the table {path!r} has {stated} rows, and at most {MAX_ROWS} are read: split it")
            schema = pa.schema([file.schema_arrow.field(name) for name in names])
            read = 0
            for batch in itertools.chain([schema.empty_table()], file.iter_batches(num_rows, columns=names)):
                batch.validate(full=True)  # text that is no UTF-8 would crash polars
                read += batch.num_rows
                columns_of = batch.columns if names else [pa.nulls(batch.num_rows)]
                # Without notes on types: a stranger's may name one that polars does not know, which is an error.
                rows = pl.from_arrow(pa.table(columns_of, names=names or [""]))
                assert isinstance(rows, pl.DataFrame), "a table was given"
                yield rows
            if read != stated:
                raise ValueError(f"it has {read} rows and says to have {stated}")
    except _DAMAGE as error:
        raise ConfigError(f"the table {path!r} cannot be read: {first_line(error)}") from error


MAX_ROWS = 1_000_000_000
"""Of a table: more are a damaged number, by which all memory and time would go."""


def _fields(dtype: pl.Struct) -> dict[str, object]:
    return {field.name: field.dtype for field in dtype.fields}


class CellReader:
    """Reads cells, of one table at a time and from front to back; going back costs a new start in the row group.

    Memory is a few cells and a page of the column, which some writers make as large as the row group.
    """

    def __init__(self) -> None:
        self._open: tuple[str, str] | None = None
        self._file: pq.ParquetFile | None = None
        self._starts: list[int] = []
        """Of each row group, and where the last one ends."""
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._cells: pa.Array = pa.nulls(0)
        self._first = self._end = 0
        """The first row of the cells in hand, and the one after them."""

    def read(self, path: str, column: str, row: int) -> bytes:
        """The file in a cell.

        Args:
            row: From 0.

        Raises:
            InputError: The cell is empty, or the table is not what it was or cannot be read.
        """
        try:
            cell = self._cell(path, column, row)
        except OSError as error:
            self.close()
            raise InputError(error_type_of(error), f"cannot read the table {path!r}: {first_line(error)}") from error
        except (*_DAMAGE, StopIteration) as error:
            self.close()
            raise InputError("damaged", f"the table {path!r} is damaged: {first_line(error)}") from error
        data = cell.get(_BYTES) if isinstance(cell, dict) else cell
        if not isinstance(data, bytes) or not data:
            raise InputError("empty_file", f"row {row + 1} of the table {path!r} holds no bytes of a picture")
        return data

    def close(self) -> None:
        """Let go of the table."""
        if self._file is not None:
            self._file.close()
        self._file = self._open = None

    def _cell(self, path: str, column: str, row: int) -> object:
        if self._file is None or self._open != (path, column):
            self.close()
            self._file = pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            metadata = self._file.metadata
            sizes = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
            self._starts = [0, *itertools.accumulate(sizes)]
            self._first = self._end = self._starts[-1] + 1  # before which every row is
            self._open = (path, column)
        if row >= self._starts[-1] or column not in self._file.schema_arrow.names:
            raise InputError("changed", f"the table {path!r} has other rows or columns than when the run was planned")
        group = bisect.bisect_right(self._starts, row) - 1
        if row < self._first or self._starts[group] > self._end:
            groups = range(group, len(self._starts) - 1)
            self._batches = self._file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=[column])
            self._first = self._end = self._starts[group]
        while row >= self._end:
            self._cells = next(self._batches).column(0)
            self._first, self._end = self._end, self._end + len(self._cells)
        cell: object = self._cells[row - self._first].as_py()
        return cell
