"""Which of many inputs were there before, in memory that does not depend on their number."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.durable import naming

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

_RECORD = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<i8")])
RUN_ROWS = 1 << 20
"""Digests that are held at once."""
_EDGES = np.arange(1, 256, dtype=np.uint64) << np.uint64(56)
"""Between the slices of digests that are compared with one another: of a hundred million, each has some 400,000."""


class Repeats:
    """Digests as they come, sorted in runs that go to a temporary file; then a slice of all runs is compared at a time.

    Up to RUN_ROWS of them need no file.
    """

    def __init__(self) -> None:
        self._num_rows = self._num_waiting = 0
        self._waiting: list[NDArray[np.void]] = []
        self._file = tempfile.TemporaryFile(prefix="motivnet-")  # noqa: SIM115 - closed by __exit__
        self._slices: list[list[int]] = []
        """Of each run in the file, where its slices begin and the last one ends, in records."""
        self._flags: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, digests: NDArray[np.uint64]) -> None:
        """Take the digests of the next rows.

        Args:
            digests: [rows, 2], of 128 bits each: of a billion, two are the same by chance once in 10^20 times.

        Raises:
            OSError: The temporary file cannot be written.
        """
        records = np.empty(len(digests), _RECORD)
        records["high"], records["low"] = digests.T
        records["row"] = np.arange(self._num_rows, self._num_rows + len(digests))
        self._num_rows += len(digests)
        self._waiting.append(records)
        self._num_waiting += len(digests)
        if self._num_waiting >= RUN_ROWS:
            run = self._run()
            begin = self._file.tell() // _RECORD.itemsize
            edges = np.searchsorted(np.ascontiguousarray(run["high"]), _EDGES)
            self._slices.append([begin, *(begin + edges).tolist(), begin + len(run)])
            with naming(Path(tempfile.gettempdir())):
                self._file.write(run.tobytes())
                self._file.flush()

    def compare(self) -> int:
        """Compare all: how many rows have the digest of one before them."""
        self._flags = np.zeros(-(-self._num_rows // 8), np.uint8)
        rest = self._run()
        edges = [0, *np.searchsorted(np.ascontiguousarray(rest["high"]), _EDGES).tolist(), len(rest)]
        num_repeated = 0
        for number in range(len(edges) - 1) if self._slices else ():
            pieces = [self._read(bounds[number], bounds[number + 1]) for bounds in self._slices]
            num_repeated += self._note_repeated(np.concatenate([*pieces, rest[edges[number] : edges[number + 1]]]))
        return num_repeated if self._slices else self._note_repeated(rest)

    def is_repeated(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Of some rows, which have the digest of one before them; once all are compared."""
        first = start // 8
        bits = np.unpackbits(self._flags[first : -(-stop // 8)], bitorder="little")
        return bits[start - first * 8 : stop - first * 8].astype(np.bool_)

    def _run(self) -> NDArray[np.void]:
        """What waits, sorted by the first half of the digests."""
        run = np.concatenate([np.empty(0, _RECORD), *self._waiting])
        self._waiting, self._num_waiting = [], 0
        return run[np.argsort(run["high"])]

    def _read(self, begin: int, end: int) -> NDArray[np.void]:
        self._file.seek(begin * _RECORD.itemsize)
        return np.frombuffer(self._file.read((end - begin) * _RECORD.itemsize), _RECORD)

    def _note_repeated(self, records: NDArray[np.void]) -> int:
        order = np.lexsort((records["row"], records["low"], records["high"]))
        high, low, rows = (records[name][order] for name in ("high", "low", "row"))
        repeated = rows[1:][(high[1:] == high[:-1]) & (low[1:] == low[:-1])]
        np.bitwise_or.at(self._flags, repeated >> 3, np.left_shift(1, repeated & 7).astype(np.uint8))
        return len(repeated)
