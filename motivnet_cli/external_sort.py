"""More names than memory should hold, put in order: sorted runs in a temporary file, merged."""

from __future__ import annotations

import heapq
import itertools
import tempfile
from typing import IO, TYPE_CHECKING

from motivnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RUN_RECORDS = 1 << 15
"""Held and sorted at a time: some 3 MB of names."""
_END = b"/"
_READ_BYTES = 1 << 22
"""For the runs of a merge, all together."""
_MIN_READ_BYTES = 1 << 12


def in_order(records: Iterable[bytes]) -> Iterator[bytes]:
    """Records in the order of their bytes, which are not to hold a slash.

    The first RUN_RECORDS are read at once, the others when the first one is asked for; what reading raises comes then.

    Raises:
        ConfigError: The temporary file cannot be written.
    """
    records = iter(records)
    run = sorted(itertools.islice(records, RUN_RECORDS))
    return iter(run) if len(run) < RUN_RECORDS else _merged(run, records)


def _merged(run: list[bytes], records: Iterator[bytes]) -> Iterator[bytes]:
    with tempfile.TemporaryFile(prefix="motivnet-sort-", buffering=0) as file:
        ends = [0]
        while run:
            ends.append(ends[-1] + _write(file, _END.join(run) + _END))
            run = sorted(itertools.islice(records, RUN_RECORDS))
        size = max(_READ_BYTES // len(ends), _MIN_READ_BYTES)
        yield from heapq.merge(*(_read(file, start, end, size) for start, end in itertools.pairwise(ends)))


def _write(file: IO[bytes], run: bytes) -> int:
    try:
        left = memoryview(run)
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise ConfigError(
            f"cannot sort the names of a large folder in {tempfile.gettempdir()}: {error.strerror}; have TMPDIR name "
            "a larger disk"
        ) from error
    return len(run)


def _read(file: IO[bytes], start: int, end: int, size: int) -> Iterator[bytes]:
    rest = b""
    while start < end:
        file.seek(start)
        chunk = file.read(min(size, end - start))
        start += len(chunk)
        *whole, rest = (rest + chunk).split(_END)
        yield from whole
