"""Files behind URLs, read as Python's own: http and https through requests, s3, gs, hf and others through fsspec.

What the bytes are is not known here, and nothing is written to the disk but by `local_copy`. A read that breaks goes
on where it broke, as long as it is certain that the file is still the same. No message holds the secrets of a URL, and
foreign exceptions are not chained, because their texts hold whole URLs.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import shutil
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from motivnet_cli.durable import TemporaryFolder
from motivnet_cli.errors import InputError
from motivnet_cli.records import Stopped, never
from motivnet_cli.remote import http
from motivnet_cli.remote.retries import InterruptedTryError, PrivateAddressError, RefusedError, seconds_before_retry
from motivnet_cli.remote.storage import explained, file_system, fsspec_failures, identity_of
from motivnet_cli.remote.urls import is_chain, is_remote, redacted, scheme_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests
    from typing_extensions import Buffer

RETRIES = 3
"""Tries in a row that may bring nothing new before an input counts as failed."""
_CHUNK_BYTES = 1 << 16
BUFFER_BYTES = 1 << 18
_KEPT_FREE_BYTES = 1 << 30
"""On the disk of copies, or a twentieth of a small one: others write there too, and a server may send without end."""
_MAX_SKIPPED_BYTES = 1 << 20
"""A gap up to this size is read over rather than asked for in a new request."""


def read_bytes(url: str, *, max_bytes: int, retries: int = RETRIES, allow_private: bool = False) -> bytes:
    """The whole file.

    Args:
        allow_private: As in `open_remote`.

    Raises:
        InputError: As `open_remote`, or `too_large`: it has more than `max_bytes`.
        ConfigError: As `open_remote`.
    """
    for failures in itertools.count():
        try:
            with open_remote(url, retries=retries, allow_private=allow_private) as file:
                data = file.read(max_bytes + 1)
            break
        except _CannotGoOnError:  # but it can begin anew
            if failures >= retries:
                raise
    if len(data) > max_bytes:
        raise InputError("too_large", f"{redacted(url)} has more than the {max_bytes} bytes that are read of one file")
    return data


@contextlib.contextmanager
def local_copy(path: str, *, stop: Callable[[], bool] = never, allow_private: bool = False) -> Iterator[str]:
    """A path that can be opened by name: of a URL, a temporary copy that is gone after the block.

    Args:
        stop: Asked with every piece that arrives.
        allow_private: As in `open_remote`.

    Raises:
        InputError: As `open_remote`, or `too_large`: there is no room for it.
        Stopped: `stop` has said so.
    """
    if not is_remote(path):
        yield path
        return
    with copy_of(open_remote(path, allow_private=allow_private), path, stop=stop) as copy:
        yield copy


@contextlib.contextmanager
def copy_of(source: io.BufferedIOBase, path: str, *, stop: Callable[[], bool]) -> Iterator[str]:
    """The path of a temporary copy of what a file gives that was opened behind a URL, and is closed by this.

    Args:
        path: Its URL.
        stop: As in `local_copy`.

    Raises:
        InputError, Stopped: As `local_copy`.
    """
    folder = TemporaryFolder()
    size, _, _ = shutil.disk_usage(folder.path)
    kept_free = min(_KEPT_FREE_BYTES, size // 20)
    copy = folder.path / f"copy{Path(urlsplit(path).path).suffix}"
    try:
        with source, copy.open("wb") as file:
            is_full, unchecked = False, 0
            while piece := source.read1(1 << 20):  # what is there: of a slow server not a whole MiB
                if stop():
                    raise Stopped
                unchecked -= len(piece)
                if unchecked <= 0:
                    is_full = shutil.disk_usage(folder.path).free < kept_free
                    unchecked = kept_free // 64  # asking for each piece costs more than writing it, on a network's disk
                if is_full:
                    message = f"{redacted(path)} does not fit into {folder.path.parent}, of which some room stays free"
                    raise InputError("too_large", f"{message}: have TMPDIR name a larger disk")
                file.write(piece)
        yield str(copy)
    finally:
        folder.remove()


def open_remote(url: str, *, retries: int = RETRIES, allow_private: bool = False) -> io.BufferedReader:
    """The file behind a URL, to be read from front to back or, where `seekable()` is true, anywhere.

    A read that breaks is tried again until `retries` tries in a row brought nothing new, after 0.5, 1, 2... seconds.
    Memory is a few megabytes, however long the file is.

    Args:
        allow_private: Follow redirects of web servers to private addresses, and read from link-local ones.

    Raises:
        InputError: Here or by a read: not_found, permission_denied, unreachable, refused_url, changed, read_error,
            unsupported.
        ConfigError: Software for this kind of URL is not installed.
    """
    is_web = scheme_of(url) in ("http", "https")
    source = _Http(url, allow_private=allow_private) if is_web else _Fsspec(url)
    return io.BufferedReader(RemoteFile(source, redacted(url), retries), BUFFER_BYTES)


def open_ranges(url: str, *, stretch_bytes: int, allow_private: bool = False) -> RemoteFile:
    """The file behind a URL, asked for in ranges of `stretch_bytes` where that `has_ranges`, and else as `open_remote`.

    Raises:
        InputError, ConfigError: As `open_remote`.
    """
    name = redacted(url)
    if scheme_of(url) in ("http", "https"):
        return RemoteFile(_Http(url, allow_private=allow_private, stretch_bytes=stretch_bytes), name, RETRIES)
    if not is_chain(url):
        file = RemoteFile(_StoredRanges(url, stretch_bytes), name, RETRIES)
        if file.has_ranges:
            return file
        file.close()
    return RemoteFile(_Fsspec(url), name, RETRIES)


class _CannotGoOnError(InputError):
    """The read broke, and the rest belongs to another file, or may."""


class _ChangedError(Exception):
    """What comes now belongs to another file than what came before."""


class _Source(Protocol):
    """A file elsewhere, of which one stretch at a time is read."""

    @property
    def size(self) -> int | None: ...

    @property
    def can_jump(self) -> bool:
        """Whether a stretch can begin anywhere."""

    @property
    def is_known(self) -> bool:
        """Whether a later stretch is certain to belong to the same file."""

    @property
    def end(self) -> int | None:
        """Where the stretch ends that has begun; None at the end of the file."""

    def start(self, position: int) -> int:
        """Begin a stretch at `position`, or at 0 where that cannot be had, and say at which.

        Raises:
            InterruptedTryError, RefusedError, _ChangedError
        """

    def next(self) -> bytes:
        """The next bytes of it, none at the end.

        Raises:
            InterruptedTryError, RefusedError
        """

    def close(self) -> None: ...


class RemoteFile(io.RawIOBase):
    """A source as a file of Python, with new tries."""

    def __init__(self, source: _Source, name: str, retries: int) -> None:
        self._source = source
        self._name = name
        self._retries = retries
        self._failures = 0
        self._position = 0
        self._rest = memoryview(b"")
        self._rest_at: int | None = None
        """Where the bytes of `_rest`, and then those of the source, belong; None where no stretch has begun."""
        self._with_retries(self._begin)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._source.can_jump and self._source.size is not None

    @property
    def size(self) -> int | None:
        """Bytes, where it is known."""
        return self._source.size

    @property
    def has_ranges(self) -> bool:
        """Whether it is read in stretches, each checked to be of the same version of the file as the first."""
        return self._source.end is not None

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if not self.seekable():
            raise io.UnsupportedOperation(f"{self._name} can only be read from front to back")
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size or 0}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Buffer) -> int:
        with memoryview(buffer).cast("B") as target:
            if len(target) and not self._is_at_end():
                self._with_retries(self._fill)
            count = min(len(target), len(self._rest))
            target[:count] = self._rest[:count]
        self._drop(count)
        self._position += count
        return count

    def _is_at_end(self) -> bool:
        return self._source.size is not None and self._position >= self._source.size

    def _begin(self) -> None:
        if self._position and not self._source.is_known:
            raise _CannotGoOnError(
                "unreachable",
                f"{self._name} broke off after {self._position} bytes, and its server cannot go on from there",
            )
        self._rest_at = self._source.start(self._position)

    def _fill(self) -> None:
        """Have bytes of the current position in `_rest`; at the end, where the size is not known, none."""
        if self._rest_at is None or not 0 <= self._position - self._rest_at <= len(self._rest) + _MAX_SKIPPED_BYTES:
            self._leave()
            self._begin()
        while self._rest_at is not None:
            self._drop(min(len(self._rest), self._position - self._rest_at))
            if self._rest:
                return
            self._rest = memoryview(self._source.next())
            if not self._rest and self._rest_at == self._source.end:
                self._leave()
                self._begin()
            elif not self._rest:
                if self._source.size is not None or self._rest_at < self._position:
                    raise InterruptedTryError(f"it ended after {self._rest_at} of {self._source.size or 'more'} bytes")
                return
            elif self._rest_at >= self._position:
                self._failures = 0

    def _drop(self, count: int) -> None:
        self._rest = self._rest[count:]
        self._rest_at = (self._rest_at or 0) + count

    def _with_retries(self, step: Callable[[], None]) -> None:
        while True:
            try:
                step()
                return
            except InterruptedTryError as interrupted:  # noqa: PERF203 - a step is a read over a network
                self._leave()
                self._failures += 1
                if self._failures > self._retries:
                    message = f"{self._name} was not read, in {self._failures} tries: {interrupted}"
                    raise InputError("unreachable", message) from None
                time.sleep(seconds_before_retry(self._failures, asked=interrupted.wait_seconds))
            except _ChangedError:
                self._leave()
                raise _CannotGoOnError("changed", f"{self._name} changed while it was read: try again") from None
            except RefusedError as refused:
                self._leave()
                advice = ": --allow-private-addresses allows it" if isinstance(refused, PrivateAddressError) else ""
                raise InputError(refused.error_type, f"{self._name} {refused}{advice}") from None

    def _leave(self) -> None:
        self._source.close()
        self._rest, self._rest_at = memoryview(b""), None

    def close(self) -> None:
        if not self.closed:
            self._leave()
        super().close()


class _Http:
    """A file on a web server. `requests` and not fsspec's own way, which needs aiohttp and does not go on.

    Args:
        stretch_bytes: Of how many bytes a stretch is asked for; None asks for all. A server that gives no ranges, or
            nothing to tell versions of the file by, is asked for all.
    """

    def __init__(self, url: str, *, allow_private: bool, stretch_bytes: int | None = None) -> None:
        self._url = url
        self._allow_private = allow_private
        self._stretch_bytes = stretch_bytes
        self.end: int | None = None
        self._has_given = False
        self._response: requests.Response | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._version = http.Version()
        self.can_jump = False

    @property
    def size(self) -> int | None:
        return self._version.size

    @property
    def is_known(self) -> bool:
        return self._version.is_known

    def start(self, position: int) -> int:
        wanted = position if self.can_jump else 0
        count = self._stretch_bytes and self._stretch_bytes - position % self._stretch_bytes
        self._response = response = http.get(
            _session(), self._url, start=wanted, count=count, version=self._version, allow_private=self._allow_private
        )
        answer = http.Answer.of(response)
        if count and not self._has_given and not _is_range(response, answer):
            self._stretch_bytes = None
            if response.status_code in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
                self.close()
                return self.start(position)
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _ChangedError
        http.check_status(response)
        self._chunks = http.chunks(response, self._url)
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            if answer.first != position or not self._version.may_be(answer.version):
                raise _ChangedError
            if self._stretch_bytes:
                self._version = answer.version if not self._has_given else self._version
                self.can_jump, self.end = True, _end_of_stretch(position, self._stretch_bytes, self.size)
            return position
        if self._has_given and answer.version != self._version:
            raise _ChangedError
        if self._stretch_bytes:
            raise InterruptedTryError("the whole file came in place of a range")
        self._version = answer.version
        self.can_jump = self.size is not None and answer.has_ranges
        return 0

    def next(self) -> bytes:
        piece = next(self._chunks, b"")
        self._has_given |= bool(piece)
        return piece

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response, self._chunks = None, iter(())


def _end_of_stretch(position: int, stretch_bytes: int, size: int | None) -> int:
    """The next multiple of its length, so that one that broke is asked for to its own end."""
    end = (position // stretch_bytes + 1) * stretch_bytes
    return end if size is None else min(end, size)


def _is_range(response: requests.Response, answer: http.Answer) -> bool:
    """Whether a server answers with the beginning of a file that can be told from another one."""
    version = answer.version
    has_validator = bool(version.etag or version.last_modified)
    is_part = response.status_code == HTTPStatus.PARTIAL_CONTENT and answer.first == 0
    return is_part and has_validator and bool(version.size)


_THREAD = threading.local()


def _session() -> requests.Session:
    """One for each thread: its connections are used again, and `requests` does not promise to share them."""
    if not hasattr(_THREAD, "session"):
        _THREAD.session = http.new_session()
    session: requests.Session = _THREAD.session
    return session


class _Fsspec:
    """A file in a bucket, or wherever else fsspec has a driver for."""

    is_known = True
    end = None

    def __init__(self, url: str) -> None:
        self._url = url
        self._file: IO[bytes] | None = None
        self.size: int | None = None
        self.can_jump = True

    def start(self, position: int) -> int:
        try:
            fs, path = file_system(self._url)
            file: IO[bytes] = fs.open(path, "rb")
            self._file = file
            size = getattr(file, "size", None)
            self.can_jump = file.seekable()
            if self.can_jump:
                file.seek(position)
        except fsspec_failures() as error:
            raise explained(error) from None
        if position and size != self.size:
            raise _ChangedError
        self.size = size
        return position if self.can_jump else 0

    def next(self) -> bytes:
        if self._file is None:
            return b""
        try:
            return self._file.read(_CHUNK_BYTES)
        except fsspec_failures() as error:
            raise explained(error) from None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None


class _StoredRanges:
    """A file in a bucket, asked for in ranges; each is followed by a look at whether it is still the same file.

    Where it cannot be told from another one by that look, `end` stays None, and it is not to be read.
    """

    is_known = can_jump = True

    def __init__(self, url: str, stretch_bytes: int) -> None:
        self._url = url
        self._stretch_bytes = stretch_bytes
        self._identity: tuple[str, ...] = ()
        self._at = 0
        self.size: int | None = None
        self.end: int | None = None

    def start(self, position: int) -> int:
        if self.size is None:
            self.size, self._identity = self._look()
            if not self.size or not self._identity:
                return 0
        self._at = position
        self.end = _end_of_stretch(position, self._stretch_bytes, self.size)
        return position

    def next(self) -> bytes:
        if self.end is None or self._at >= self.end:
            return b""
        try:
            fs, path = file_system(self._url)
            data = fs.cat_file(path, start=self._at, end=self.end)
        except fsspec_failures() as error:
            raise explained(error) from None
        is_whole = len(data) == self.size  # one answer is of one version
        if len(data) > self.end - self._at or (not is_whole and self._look() != (self.size, self._identity)):
            raise _ChangedError
        self._at += len(data)
        return data

    def _look(self) -> tuple[int | None, tuple[str, ...]]:
        try:
            fs, path = file_system(self._url)
            fs.invalidate_cache()
            return identity_of(fs.info(path))
        except fsspec_failures() as error:
            raise explained(error) from None

    def close(self) -> None:
        pass
