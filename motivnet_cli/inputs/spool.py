"""Rows of a table on this machine's disk, read once and given back in their order, or those of one path together."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from motivnet_cli.durable import TemporaryFolder, naming
from motivnet_cli.inputs.repeats import Repeats
from motivnet_cli.inputs.table import CHUNK_ROWS
from motivnet_cli.out_of_core import database

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SEEDS = (1, 2)


class Spool:
    """Rows, numbered from 1 in the column `row`, in a temporary file that goes with this object.

    Args:
        chunks: At least one, of the same columns.
        by_path: Bring rows together that have one `path`, at the place of the first; those without one stay alone.

    Raises:
        OSError: The temporary file cannot be written.
    """

    def __init__(self, chunks: Iterable[pl.DataFrame], *, by_path: bool) -> None:
        self._folder = TemporaryFolder()
        self._file = self._folder.path / "rows.parquet"
        before: str | None = None
        num_rows = 0
        with contextlib.ExitStack() as stack:
            paths = stack.enter_context(Repeats())
            writer: pq.ParquetWriter | None = None
            stack.enter_context(naming(self._file))
            for chunk in chunks:
                rows = chunk.with_row_index("row", num_rows + 1).cast({"row": pl.Int64})
                table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
                if writer is None:
                    new = pq.ParquetWriter(self._file, table.schema, compression="lz4", use_dictionary=False)
                    writer = stack.enter_context(new)
                writer.write_table(table)
                num_rows += len(rows)
                if by_path and len(rows):
                    # Neighbours count as one: of a picture with many faces the rows mostly follow each other.
                    path = rows["path"]
                    begins = path.filter((path != path.shift(1, fill_value=before)).fill_null(True) & (path != ""))
                    paths.add(np.stack([begins.hash(seed).to_numpy() for seed in _SEEDS], axis=1))
                    before = path[-1]
            self._is_apart = paths.compare() > 0

    def frames(self) -> Iterator[pl.DataFrame]:
        """The rows, some at a time."""
        if self._is_apart:
            yield from self._together()
            return
        with pq.ParquetFile(self._file, pre_buffer=False) as file:
            for batch in file.iter_batches(CHUNK_ROWS):
                yield pl.DataFrame(batch)

    def _together(self) -> Iterator[pl.DataFrame]:
        """The rows ordered by the first one of their path."""
        with database() as tables:
            tables.read_parquet(str(self._file)).create_view("rows")
            tables.execute(_FIRSTS)
            tables.execute(_PLACED)
            for batch in tables.sql(_IN_ORDER).fetch_record_batch(CHUNK_ROWS):
                yield pl.DataFrame(batch)


_FIRSTS = "CREATE TABLE firsts AS SELECT path, min(row) AS first FROM rows WHERE path != '' GROUP BY path"
_PLACED = """
    CREATE TABLE placed AS SELECT rows.*, coalesce(first, row) AS first FROM rows LEFT JOIN firsts USING (path)
"""
_IN_ORDER = "SELECT * EXCLUDE first FROM placed ORDER BY first, row"
