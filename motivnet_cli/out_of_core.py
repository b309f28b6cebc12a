"""Tables that are joined, grouped and sorted on disk: memory stays the same, however many rows there are."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from motivnet_cli.durable import TemporaryFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from duckdb import DuckDBPyConnection

_MEMORY = "200MB"
"""For the rows that a query works on. To group a hundred million, 150 MB were too little."""
_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def database() -> Iterator[DuckDBPyConnection]:
    """An empty DuckDB database in a temporary folder, which is gone after the block.

    What a query needs beyond its memory is on that disk, too. A query that both joins and sorts many rows may run out
    of memory: it writes what it joins to a table first. Rows have no order but that of ORDER BY.

    Raises:
        OSError: The disk is full, or at fault.
    """
    import duckdb  # most runs have no use for it

    folder = TemporaryFolder()
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY,
        "threads": 1,  # each needs memory of its own
        "temp_directory": str(folder.path),
        "max_temp_directory_size": "1000TB",  # beyond a limit it would want of memory, not of room
        "preserve_insertion_order": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        with duckdb.connect(str(folder.path / "tables.duckdb"), config=settings) as connection:
            yield connection
    except duckdb.IOException as error:
        number = next((number for number in _DISK_FAULTS if os.strerror(number) in str(error)), errno.EIO)
        raise OSError(number, os.strerror(number), str(folder.path)) from error
    finally:
        folder.remove()
