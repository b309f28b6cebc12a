"""Reading an output back: its tables and its record."""

from __future__ import annotations

import functools
import json
import logging
from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from motivnet_cli.errors import ConfigError, OutputConflictError, first_line
from motivnet_cli.output.damage import reading
from motivnet_cli.output.ledger import Ledger, read_run
from motivnet_cli.output.paths import OutputPaths, output_paths
from motivnet_cli.output.tables import METADATA_KEY
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import polars as pl

    from motivnet_cli.records import RunRecord

log = logging.getLogger(__name__)


def read_faces(path: str | Path) -> pl.DataFrame:
    """The faces table of a finished output, a `.parquet` file or a folder, in input order.

    Raises:
        ConfigError: No output of motivnet is there.
    """

    return _read(parts_of(path, "faces"))


def scan_faces(path: str | Path) -> pl.LazyFrame:
    """As `read_faces`, read only as far as the query needs.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    import polars

    return polars.scan_parquet(parts_of(path, "faces"), glob=False)


def read_inputs(path: str | Path) -> pl.DataFrame:
    """The inputs table that goes with `read_faces(path)`: one row an input, with what became of it.

    Raises:
        ConfigError: No output of motivnet is there.
    """

    return _read(parts_of(path, "inputs"))


def _read(parts: list[Path]) -> pl.DataFrame:
    """Parts as one table.

    Raises:
        OutputConflictError: One is damaged.
    """
    import polars

    for part in parts:  # pyarrow says which
        with reading(part):
            pq.read_metadata(part)
    with reading(f"a file of {str(parts[0].parent)!r}"):
        try:
            return polars.read_parquet(parts, glob=False)
        except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
            raise ValueError(first_line(error)) from error


def read_record(path: str | Path) -> RunRecord:
    """The record of the run that wrote an output: versions, model, terms, settings, command.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    return record_in(parts_of(path, "inputs")[0])


def parts_of(path: str | Path, table: str) -> list[Path]:
    """The files of an output's table, `faces` or `inputs`; of a folder that is not finished, what is committed.

    Of an output in an object store: copies that last as long as this process. A warning says if files are gone.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    paths = paths_to_read(path)
    parts = paths.backend.fetch_all(paths.final_parts(table), anew=True)
    if not parts:
        raise ConfigError(
            f"no motivnet output at {paths.given!r}; expected {paths.backend.name_of(paths.final_name(table))}"
        )
    ledger = None if paths.is_file else Ledger.find(paths.run, paths.backend)
    if ledger is not None and not ledger.run.is_finished and table == "inputs":
        log.warning(
            "%s is not finished: %d of %d inputs are done, and what follows is of these",
            paths.given,
            ledger.num_done,
            ledger.num_items,
        )
    if ledger is not None and (lost := ledger.lost_parts()):
        gone = paths.backend.name_of(lost[0])
        log.warning("files of %s are gone (%d, such as %s): what follows is without them", paths.given, len(lost), gone)
    return parts


def refuse_lost_parts(path: str | Path) -> None:
    """Refuse an output of which somebody has removed files.

    Raises:
        OutputConflictError: Some are gone.
    """
    paths = paths_to_read(path)
    ledger = None if paths.is_file else Ledger.find(paths.run, paths.backend)
    if ledger is not None and (lost := ledger.lost_parts()):
        raise lost_parts_error(paths, lost)


def lost_parts_error(paths: OutputPaths, lost: Sequence[Path]) -> OutputConflictError:
    """That somebody has removed files of an output."""
    gone = f"{len(lost):,}, such as {paths.backend.name_of(lost[0])!r}"
    return OutputConflictError(f"parts of the run at {paths.given!r} are gone ({gone}): start anew with --overwrite")


def is_finished(path: str | Path) -> bool:
    """Whether every input of an output is known to be done and in its place, with no amendment half made."""
    paths = paths_to_read(path)
    return paths.is_finished(read_run(paths.run, paths.backend)) and not paths.backend.has(paths.run.journal)


def paths_to_read(path: str | Path) -> OutputPaths:
    """The files of an output that is there; copies from an object store last as long as this process."""
    return _copied(str(path)) if is_remote(str(path)) else output_paths(str(path))


@functools.cache
def _copied(url: str) -> OutputPaths:
    """One for each URL, so that nothing is copied twice."""
    return output_paths(url)


def record_in(part: Path | IO[bytes]) -> RunRecord:
    """The record in a Parquet file; empty where motivnet did not write it."""
    try:
        metadata = pq.read_metadata(part).metadata or {}
    except (OSError, pa.ArrowInvalid):
        metadata = {}
    with reading("the record of the run"):
        record: RunRecord = json.loads(metadata.get(METADATA_KEY, b"{}"))
        if not isinstance(record, dict) or not isinstance(record.get("settings", {}), dict):
            raise TypeError("it is none")
        return record
