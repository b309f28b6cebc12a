"""Predictions written in another format: the one way of writing any of them.

What is written appears under its name whole or not at all. What rows there are is known by `source`, what a format
looks like by the modules that hold the writers.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from motivnet_cli.durable import durably, temporary_name
from motivnet_cli.errors import ConfigError, did_you_mean
from motivnet_cli.export import arrays, boxes, cues, layouts, statistics, tables, workbook
from motivnet_cli.export.destination import check_destination, remove, whole_folder
from motivnet_cli.export.filters import NO_FILTERS
from motivnet_cli.export.formats import FORMATS
from motivnet_cli.export.source import Source
from motivnet_cli.remote.urls import local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from motivnet_cli.export.filters import Filters

STDOUT = "-"

_CUE_WRITERS = {"webvtt": cues.write_webvtt, "srt": cues.write_srt, "elan": cues.write_elan}
"""Formats of segments, whose emotions can be filtered."""
_WRITERS: dict[str, Callable[[Source, Path], None]] = {
    "csv": tables.write_csv,
    "xlsx": workbook.write_xlsx,
    "sav": statistics.write_sav,
    "dta": statistics.write_dta,
    "jsonl": tables.write_jsonl,
    "parquet": tables.write_parquet,
    "npy": arrays.write_npy,
    "npz": arrays.write_npz,
    "arrow": tables.write_arrow,
    "hf": tables.write_hf,
    "openface": layouts.write_openface,
    "pyfeat": layouts.write_pyfeat,
    "deepface": layouts.write_deepface,
    "coco": boxes.write_coco,
    "fiftyone": boxes.write_fiftyone,
    "label-studio": boxes.write_label_studio,
    **_CUE_WRITERS,
}
"""Each writes the rows of a source at a path: a file that it makes, or files in a folder that exists and is empty."""


def export_predictions(
    path: str | Path,
    to: str,
    out: str | Path,
    *,
    where: str | None = None,
    columns: Sequence[str] | None = None,
    embeddings: bool | None = None,
    float32: bool = False,
    bom: bool = False,
    decimal_comma: bool = False,
    filters: Filters = NO_FILTERS,
    overwrite: bool = False,
) -> Path:
    """Write predictions in another format; memory does not grow with them, but for SPSS and Stata.

    Args:
        path: An output of `annotate`, or a table like it (see `Source`).
        to: A name of `FORMATS`.
        out: File or folder to write; `-` is stdout, for CSV and JSON lines.
        where: A condition in SQL on the columns of a row.
        columns: Write only these.
        embeddings: Whether to write the embeddings; None leaves it to the format, and to `columns` if they name
            `embedding`.
        float32: Write the embeddings as float32: Spark reads no float16, and R's arrow up to 24 gets other numbers.
        bom: Begin a CSV file with the byte order mark of UTF-8, for Excel.
        decimal_comma: Write the numbers of a CSV file as 1,4, and semicolons between its fields.
        filters: Of the emotions in videos, for captions and annotations.
        overwrite: Replace a file, or a folder that an earlier export made.

    Returns:
        `out`; it appears whole or not at all.

    Raises:
        ConfigError: The format, an option or the destination does not fit, or `out` exists.
        BrokenPipeError: The reader of stdout has gone away.
    """
    if to not in FORMATS:
        raise ConfigError(f"no format {to!r}; choose one of {', '.join(FORMATS)}{did_you_mean(to, FORMATS)}")
    if embeddings is None:
        embeddings = FORMATS[to].embeddings or "embedding" in (columns or ())
    if bom and to != "csv":
        raise ConfigError(f"{to} takes no byte order mark; leave out --bom, which is for csv")
    if decimal_comma and to != "csv":
        raise ConfigError(f"{to} is no text with decimals; leave out --decimal-comma, which is for csv")
    if filters and to not in _CUE_WRITERS:
        raise ConfigError(
            f"{to} takes no --smooth or --min-duration, which are for {', '.join(_CUE_WRITERS)} and motivnet summary; "
            "leave them out"
        )
    source = Source(path, where=where, columns=columns, embeddings=embeddings, float32=float32)
    csv = functools.partial(tables.write_csv, bom=bom, decimal_comma=decimal_comma)
    if str(out) == STDOUT:
        _write_to_stdout(source, to, {"csv": csv, "jsonl": tables.write_jsonl})
    else:
        out = local_path(str(out))
        write = csv if to == "csv" else _WRITERS[to]
        if filters:
            write = functools.partial(_CUE_WRITERS[to], filters=filters)
        _write_to_path(source, to, write, Path(out), overwrite=overwrite)
    return Path(out)


def _write_to_stdout(source: Source, to: str, writers: Mapping[str, Callable[[Source, IO[bytes]], None]]) -> None:
    """Write one of the formats that a pipe can take."""
    if to not in writers:
        raise ConfigError(f"{to} cannot be written to a pipe, only {' and '.join(writers)} can; give --out a name")
    sys.stdout.flush()
    try:
        writers[to](source, sys.stdout.buffer)
    except OSError as error:
        if "Broken pipe" in str(error):  # polars raises it without an errno, so Python does not make it this class
            raise BrokenPipeError from error
        raise


def _write_to_path(
    source: Source, to: str, write: Callable[[Source, Path], None], out: Path, *, overwrite: bool
) -> None:
    """Write beside `out` under a temporary name, and rename."""
    form = FORMATS[to]
    is_folder = out.suffix.lower() != form.suffix if form.is_folder is None else form.is_folder
    check_destination(out, [source.path, *source.files_named], is_folder=is_folder, overwrite=overwrite)
    try:
        if is_folder:
            about = {"format": to, "predictions": str(source.path), "record": source.record}
            with whole_folder(out, about) as folder:
                write(source, folder)
        else:
            with durably(out) as temporary:
                write(source, temporary)
    except OSError as error:
        raise ConfigError(f"cannot write {str(out)!r} ({error.strerror or error}); choose another --out") from error
    finally:
        remove(temporary_name(out))
