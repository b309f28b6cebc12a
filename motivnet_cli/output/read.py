"""Reading an output back: its tables and its record."""

from __future__ import annotations

import functools
import json
import logging
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from motivnet_cli.errors import ConfigError
from motivnet_cli.output.ledger import Ledger
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

from motivnet_cli.output.place import OutputPaths

log = logging.getLogger(__name__)

METADATA_KEY = b"motivnet"
"""Key of the Parquet file metadata that holds the run's JSON record."""


def read_faces(path: str | Path) -> pl.DataFrame:
    """The faces table of a finished output, a `.parquet` file or a folder, in input order.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    import polars

    return polars.read_parquet(parts_of(path, "faces"))


def read_inputs(path: str | Path) -> pl.DataFrame:
    """The inputs table that goes with `read_faces(path)`: one row an input, with what became of it.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    import polars

    return polars.read_parquet(parts_of(path, "inputs"))


def read_record(path: str | Path) -> dict[str, Any]:
    """The record of the run that wrote an output: versions, model, terms, settings, command.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    return record_in(parts_of(path, "inputs")[0])


def parts_of(path: str | Path, table: str) -> list[Path]:
    """The files of an output's table, `faces` or `inputs`; of a folder that is not finished, what is committed.

    Of an output in an object store: copies that last as long as this process.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    place = place_to_read(path)
    parts = place.store.fetch_all(place.final_parts(table), anew=True)
    if not parts:
        raise ConfigError(
            f"no motivnet output at {str(path)!r}; expected {place.store.name_of(place.final_name(table))}"
        )
    run = Ledger(place.work, place.parts, place.store)
    if not place.is_file and run.exists() and not run.is_finished and table == "inputs":
        log.warning(
            "%s is not finished: %d of %d inputs are done, and what follows is of these",
            path,
            run.num_done,
            run.num_items,
        )
    return parts


def place_to_read(path: str | Path) -> OutputPaths:
    return _copied_place(str(path)) if is_remote(str(path)) else OutputPaths(str(path))


@functools.cache
def _copied_place(url: str) -> OutputPaths:
    """One for each URL, so that its copies last as long as this process, and are not made twice."""
    return OutputPaths(url)


def record_in(part: Path | IO[bytes]) -> dict[str, Any]:
    try:
        metadata = pq.read_metadata(part).metadata or {}
    except (OSError, pa.ArrowInvalid):
        metadata = {}
    record: dict[str, Any] = json.loads(metadata.get(METADATA_KEY, b"{}"))
    return record
