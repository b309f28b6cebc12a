"""Predictions as a workbook of Excel: a sheet of faces and a sheet of inputs.

Rows wait in files in the folder for temporary files, so memory does not grow with them.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from motivnet_cli.durable import TemporaryFolder
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.tables import as_cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from xlsxwriter import Workbook
    from xlsxwriter.worksheet import Worksheet

    from motivnet_cli.export.source import Source

log = logging.getLogger(__name__)

# https://support.microsoft.com/office/excel-specifications-and-limits-1672b34d-7043-467e-8e27-269d656771c3
MAX_ROWS = 1_048_575
"""Below the header of a sheet."""
MAX_COLUMNS = 16_384
MAX_TEXT = 32_767
"""Characters in a cell."""
MAX_WHOLE = 10**15 - 1
"""Beyond it Excel shows zeros for the last digits."""


def write_xlsx(source: Source, out: Path) -> None:
    """Write the sheets `faces` and, if there is an inputs table of no more than MAX_ROWS, `inputs`.

    Raises:
        ConfigError: As `write_sheets`; there are more rows or columns than a sheet has.
    """
    _check_size(source)
    faces = (pa.Table.from_batches([batch]) for batch in source.batches())
    sheets: dict[str, Iterable[pa.Table]] = {"faces": itertools.chain([source.schema.empty_table()], faces)}
    if source.num_inputs > MAX_ROWS:
        log.warning(f"the sheet inputs is left out: there are {source.num_inputs:,}, and a sheet has {MAX_ROWS:,} rows")
    elif source.has_inputs:
        sheets["inputs"] = source.input_tables()
    write_sheets(out, sheets)


def write_sheets(out: Path, sheets: Mapping[str, Iterable[pa.Table]]) -> None:
    """Write a workbook of some sheets by their names, each of at least one table, be it without rows.

    Raises:
        ConfigError: XlsxWriter is not installed, a sheet has too many rows, a text is too long for a cell, or the
            workbook is too large.
        OSError: The file cannot be written.
    """
    try:
        import xlsxwriter
        from xlsxwriter.exceptions import FileCreateError, FileSizeError
    except ImportError as error:
        raise ConfigError("xlsx needs XlsxWriter: pip install 'motivnet-cli[stats]'") from error
    folder = TemporaryFolder()
    try:
        with xlsxwriter.Workbook(out, {"constant_memory": True, "tmpdir": str(folder.path)}) as book:
            for name, tables in sheets.items():
                _add_sheet(book, name, map(_cells, tables))
    except FileSizeError as error:
        raise ConfigError("a workbook holds sheets of at most 4 GB: leave columns out with --columns") from error
    except FileCreateError as error:  # it wraps the OSError
        raise error.args[0] from error
    finally:
        folder.remove()


def _check_size(source: Source) -> None:
    if source.num_rows > MAX_ROWS:
        raise ConfigError(
            f"{source.num_rows:,} faces are more than a sheet has rows ({MAX_ROWS:,}): choose some with --where, or "
            "--to csv or parquet, which hold any number"
        )
    schema = as_cells(source.lazy(), "xlsx").collect_schema()
    if len(schema) > MAX_COLUMNS:
        raise ConfigError(
            f"{len(schema):,} columns are more than a sheet has ({MAX_COLUMNS:,}): choose some with --columns, or --to "
            "csv or parquet"
        )


def _add_sheet(book: Workbook, name: str, tables: Iterator[pl.DataFrame]) -> None:
    first = next(tables)
    sheet = book.add_worksheet(name)
    sheet.freeze_panes(1, 0)
    bold = book.add_format({"bold": True})
    for column, title in enumerate(first.columns):
        sheet.set_column(column, column, 40 if title in ("input", "error") else max(10, len(title) + 3))
        sheet.write_string(0, column, title, bold)
    num_rows = 0
    for values in itertools.chain(
        first.iter_rows(), itertools.chain.from_iterable(map(pl.DataFrame.iter_rows, tables))
    ):
        num_rows += 1
        if num_rows > MAX_ROWS:
            raise ConfigError(f"{name!r} has more rows than a sheet ({MAX_ROWS:,}); choose .csv or .parquet")
        _add_cells(sheet, num_rows, values)
    sheet.autofilter(0, 0, num_rows, first.width - 1)
    sheet.ignore_errors({"number_stored_as_text": f"A1:XFD{MAX_ROWS + 1}"})


def _cells(table: pa.Table) -> pl.DataFrame:
    """Some rows of a sheet; a text that no cell holds, which XlsxWriter would cut, is refused."""
    rows = as_cells(pl.DataFrame(table).lazy(), "xlsx").collect()
    for column in rows.select(pl.col(pl.String)):
        length = column.str.len_chars().max()
        if isinstance(length, int) and length > MAX_TEXT:
            raise ConfigError(
                f"column {column.name!r} has a text of {length:,} characters, and a cell holds {MAX_TEXT:,}; leave it "
                "out with --columns, or choose csv"
            )
    return rows


def _add_cells(sheet: Worksheet, row: int, values: tuple[object, ...]) -> None:
    for column, value in enumerate(values):
        if isinstance(value, bool):
            sheet.write_boolean(row, column, value)
        elif isinstance(value, float) or (isinstance(value, int) and abs(value) <= MAX_WHOLE):
            sheet.write_number(row, column, value)
        elif value is not None:
            sheet.write_string(row, column, str(value))
