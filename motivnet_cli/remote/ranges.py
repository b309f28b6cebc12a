"""Large files behind URLs that are read where a decoder needs them, a block at a time, without a copy.

Each block is certain to be of the same version of the file; one that changes is an error. What is read again and again
is copied after all, so that never much more than twice the file is fetched.
"""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from motivnet_cli.errors import InputError
from motivnet_cli.records import never
from motivnet_cli.remote.files import BUFFER_BYTES, RemoteFile, copy_of, open_ranges
from motivnet_cli.remote.urls import is_remote, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

BLOCK_BYTES = 4 << 20
"""Of one request: long enough that the time to its first byte counts little. What is smaller is copied."""
MAX_SHARE_READ_AGAIN, MAX_BLOCKS_READ_AGAIN = 0.25, 8
"""Of a file's blocks, so many may be fetched again, or at least that number, before it is copied."""


class RangedFile:
    """A file behind a URL of which blocks are read, in any order; for one thread. The first block is kept."""

    def __init__(self, file: RemoteFile, url: str, *, stop: Callable[[], bool] = never) -> None:
        self._file = file
        self._url = url
        self._stop = stop
        self._first = b""
        self._num_read = 0
        self._copy: io.BufferedReader | None = None
        self._failure: InputError | None = None
        self._left = contextlib.ExitStack()
        self._left.callback(file.close)
        self.name = f"video{Path(urlsplit(url).path).suffix}"
        """What it may be called, with the URL's ending."""
        self.size: int = file.size or 0
        """Bytes."""
        self.block_bytes = BLOCK_BYTES
        """All blocks are of this length but the last."""

    @property
    def num_blocks(self) -> int:
        return -(-self.size // self.block_bytes)

    def block(self, number: int) -> bytes:
        """The bytes of a block.

        Raises:
            InputError: As `open_remote`; or `changed`, if it belongs to another version of the file.
            Stopped: `stop` has said so.
        """
        if self._failure:
            raise self._failure
        if number == 0 and self._first:
            return self._first
        most = self.num_blocks + max(MAX_BLOCKS_READ_AGAIN, int(self.num_blocks * MAX_SHARE_READ_AGAIN))
        if self._num_read == most:
            self._copy = self._copied()
        self._num_read += 1
        file = self._copy or self._file
        file.seek(number * self.block_bytes)
        block = bytearray(min(self.block_bytes, self.size - file.tell()))
        rest = memoryview(block)
        while rest:
            rest = rest[file.readinto(rest) :]
        if number == 0:
            self._first = bytes(block)
        return bytes(block)

    def _copied(self) -> io.BufferedReader:
        log.info("%s is copied: its parts are read again and again", shown(self._url))
        self._file.seek(0)
        source = io.BufferedReader(self._file, BUFFER_BYTES)
        try:
            path = self._left.enter_context(copy_of(source, self._url, stop=self._stop))
        except InputError as error:
            self._failure = error  # the file is closed
            raise
        return self._left.enter_context(open(path, "rb"))  # noqa: PTH123

    def close(self) -> None:
        self._left.close()


@contextlib.contextmanager
def ranges_or_copy(
    path: str,
    *,
    needs_copy: Callable[[bytes], bool] = lambda head: False,
    stop: Callable[[], bool] = never,
    allow_private: bool = False,
) -> Iterator[str | RangedFile]:
    """A file to be read anywhere: a path; of a large file behind a URL that gives ranges, its blocks.

    Args:
        needs_copy: Says of the beginning of a file whether it is to be copied all the same.
        stop, allow_private: As in `local_copy`.

    Raises:
        InputError, Stopped, ConfigError: As `local_copy`.
    """
    if not is_remote(path):
        yield path
        return
    file = open_ranges(path, stretch_bytes=BLOCK_BYTES, allow_private=allow_private)
    if not file.has_ranges:
        log.debug("%s is copied: its server gives no ranges of a known version", shown(path))
    elif (file.size or 0) > BLOCK_BYTES:
        ranged = RangedFile(file, path, stop=stop)
        if not needs_copy(ranged.block(0)):
            log.debug("%s is read by ranges of %d bytes", shown(path), BLOCK_BYTES)
            with contextlib.closing(ranged):
                yield ranged
            return
        log.debug("%s is copied: it is not of a kind that is read in parts", shown(path))
        file.seek(0)
    with copy_of(io.BufferedReader(file, BUFFER_BYTES), path, stop=stop) as copy:
        yield copy
