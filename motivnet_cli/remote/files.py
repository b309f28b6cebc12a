"""Bytes behind URLs, and what lies under them: http and https through requests, s3, gs, hf and the rest through fsspec.

This room does not know what the bytes are, and writes nothing to the disk but in `local_copy`. A read that breaks
goes on where it broke, as long as the other side can tell that the file is still the same. No message holds what
`redacted` takes away, and foreign exceptions are not chained, because their texts hold whole URLs.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import re
import shutil
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import requests

from motivnet_cli.durable import TemporaryFolder
from motivnet_cli.errors import InputError
from motivnet_cli.remote.urls import direct_url, redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

    from motivnet_cli.errors import ErrorType
from motivnet_cli.remote.storage import BACKOFF_SECONDS, MAX_WAIT_SECONDS, file_system, fsspec_failures, meaning_of
from motivnet_cli.remote.urls import is_remote

RETRIES = 3
"""Tries in a row that may bring nothing new before an input counts as failed."""
_TIMEOUT = (10.0, 60.0)
"""Seconds for a connection, and for the next bytes."""
_CHUNK_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 18
_SKIP_BYTES = 1 << 20
"""A gap that is read over rather than asked for in a new request."""
_HEADERS = {
    # An encoded answer has neither the size nor the ranges of the file.
    "Accept-Encoding": "identity",
    # Share hosts show some of their pages to browsers only.
    "User-Agent": "Mozilla/5.0 (compatible; motivnet-cli)",
}


def read_bytes(url: str, *, max_bytes: int, retries: int = RETRIES) -> bytes:
    """The whole file.

    Raises:
        InputError: As `open_remote`, or `too_large`: it has more than `max_bytes`.
        ConfigError: As `open_remote`.
    """
    for failures in itertools.count():
        try:
            with open_remote(url, retries=retries) as file:
                data = file.read(max_bytes + 1)
            break
        except _CannotGoOnError:  # but it can begin anew
            if failures >= retries:
                raise
    if len(data) > max_bytes:
        raise InputError("too_large", f"{redacted(url)} has more than the {max_bytes} bytes that are read of one file")
    return data


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """A path that can be opened by name: of a URL, a temporary copy that is gone after the block.

    Raises:
        InputError: As `open_remote`.
    """
    if not is_remote(path):
        yield path
        return
    folder = TemporaryFolder()
    copy = folder.path / f"copy{Path(urlsplit(path).path).suffix}"
    try:
        with open_remote(path) as source, copy.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        yield str(copy)
    finally:
        folder.remove()


def open_remote(url: str, *, retries: int = RETRIES) -> IO[bytes]:
    """The file behind a URL, to be read from front to back or, where `seekable()` is true, anywhere.

    A read that breaks is tried again until `retries` tries in a row brought nothing new, after 0.5, 1, 2... seconds.
    Memory is a few megabytes, however long the file is.

    Raises:
        InputError: Here or by a read: not_found, permission_denied, unreachable, changed, read_error, unsupported.
        ConfigError: Software for this kind of URL is not installed.
    """
    scheme = url.partition("://")[0].lower()
    source = _Http(url) if scheme in ("http", "https") else _Fsspec(url)
    return io.BufferedReader(_Remote(source, redacted(url), retries), _BUFFER_BYTES)


class _Interrupted(Exception):  # noqa: N818 - no failure yet: another try may go on
    def __init__(self, reason: str, *, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class _CannotGoOnError(InputError):
    """The read broke, and the rest belongs to another file, or may."""


class _Source(Protocol):
    """A file elsewhere, of which one stretch at a time is read."""

    size: int | None
    can_jump: bool
    """Whether a stretch can begin anywhere."""
    is_known: bool
    """Whether a later stretch is certain to belong to the same file."""

    def start(self, position: int) -> int:
        """Begin a stretch at `position`, or at 0 where that cannot be had; raises _Interrupted or InputError."""

    def next(self) -> bytes:
        """The next bytes of it, none at the end; raises _Interrupted or InputError."""

    def close(self) -> None: ...


class _Remote(io.RawIOBase):
    """A source as a file of Python, with new tries."""

    def __init__(self, source: _Source, name: str, retries: int) -> None:
        self._source = source
        self._shown = name
        self._retries = retries
        self._failures = 0
        self._position = 0
        self._rest = memoryview(b"")
        self._rest_at: int | None = None
        """Where the bytes of `_rest`, and then those of the source, belong; None where no stretch has begun."""
        self._insist(self._begin)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._source.can_jump and self._source.size is not None

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if not self.seekable():
            raise io.UnsupportedOperation(f"{self._shown} can only be read from front to back")
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size or 0}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Buffer) -> int:
        with memoryview(buffer).cast("B") as target:
            if len(target) and not self._is_at_end():
                self._insist(self._fill)
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
                f"{self._shown} broke off after {self._position} bytes, and its server cannot go on from there",
            )
        self._rest_at = self._source.start(self._position)

    def _fill(self) -> None:
        """Have bytes of the current position in `_rest`; at the end, where the size is not known, none."""
        if self._rest_at is None or not 0 <= self._position - self._rest_at <= len(self._rest) + _SKIP_BYTES:
            self._leave()
            self._begin()
        while self._rest_at is not None:
            self._drop(min(len(self._rest), self._position - self._rest_at))
            if self._rest:
                return
            self._rest = memoryview(self._source.next())
            if not self._rest:
                if self._source.size is not None or self._rest_at < self._position:
                    raise _Interrupted(f"it ended after {self._rest_at} of {self._source.size or 'more'} bytes")
                return
            if self._rest_at >= self._position:
                self._failures = 0

    def _drop(self, count: int) -> None:
        self._rest = self._rest[count:]
        self._rest_at = (self._rest_at or 0) + count

    def _insist(self, step: Callable[[], None]) -> None:
        while True:
            try:
                step()
                return
            except _Interrupted as interrupted:  # noqa: PERF203 - a step is a read over a network
                self._leave()
                self._failures += 1
                if self._failures > self._retries:
                    message = f"{self._shown} was not read, in {self._failures} tries: {interrupted}"
                    raise InputError("unreachable", message) from None
                wait = interrupted.wait_seconds
                if wait is None:
                    wait = BACKOFF_SECONDS * 2 ** (self._failures - 1)
                time.sleep(min(MAX_WAIT_SECONDS, wait))

    def _leave(self) -> None:
        self._source.close()
        self._rest, self._rest_at = memoryview(b""), None

    def close(self) -> None:
        if not self.closed:
            self._leave()
        super().close()


class _Http:
    """A file on a web server. `requests` and not fsspec's own way, which needs aiohttp and does not go on."""

    def __init__(self, url: str) -> None:
        self._url = direct_url(url)
        self._shown = redacted(url)
        self._response: requests.Response | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._etag: str | None = None
        self._modified: str | None = None
        self.size: int | None = None
        self.can_jump = False
        self.is_known = False

    def start(self, position: int) -> int:
        headers = dict(_HEADERS)
        if position and self.can_jump:
            headers["Range"] = f"bytes={position}-"
            # If-Range takes strong validators only (RFC 9110, 13.1.5).
            validator = self._etag if self._etag and not self._etag.startswith("W/") else self._modified
            if validator:
                headers["If-Range"] = validator
        try:
            response = _session().get(self._url, headers=headers, stream=True, timeout=_TIMEOUT)
        except requests.RequestException as error:
            raise self._explained(error) from None
        self._response = response
        self._check_status(response)
        starts_at = 0
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
            if not span or int(span[1]) != position or (span[2] != "*" and int(span[2]) != self.size):
                raise _CannotGoOnError("changed", f"{self._shown} changed while it was read: try again")
            starts_at = position
        else:
            self._learn(response, is_anew=position == 0)
        self._chunks = response.iter_content(_CHUNK_BYTES)
        return starts_at

    def next(self) -> bytes:
        try:
            return next(self._chunks, b"")
        except requests.RequestException as error:
            raise self._explained(error) from None

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response, self._chunks = None, iter(())

    def _learn(self, response: requests.Response, *, is_anew: bool) -> None:
        headers = response.headers
        is_plain = headers.get("Content-Encoding", "identity").strip().lower() in ("", "identity")
        length = headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() and is_plain else None
        version = (headers.get("ETag"), headers.get("Last-Modified"), size)
        if not is_anew and version != (self._etag, self._modified, self.size):
            raise _CannotGoOnError("changed", f"{self._shown} changed while it was read: try again")
        self._etag, self._modified, self.size = version
        self.is_known = any(each is not None for each in version)
        self.can_jump = is_plain and size is not None and headers.get("Accept-Ranges", "").strip().lower() == "bytes"

    def _check_status(self, response: requests.Response) -> None:
        status = response.status_code
        if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return
        name = f"{status} {http.client.responses.get(status, '')}".strip()
        if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500:
            after = response.headers.get("Retry-After", "").strip()
            raise _Interrupted(f"its server answered {name}", wait_seconds=float(after) if after.isdecimal() else None)
        response.close()
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _CannotGoOnError("changed", f"{self._shown} changed while it was read: try again")
        meanings: dict[int, tuple[ErrorType, str]] = {
            401: ("permission_denied", "it needs a sign-in, or the link was revoked"),
            403: ("permission_denied", "it needs a sign-in, or the link was revoked"),
            404: ("not_found", "the link is misspelt, or the file was removed"),
            407: ("permission_denied", "the proxy needs a user and password in HTTP_PROXY or HTTPS_PROXY"),
            410: ("not_found", "the file was removed"),
        }
        error_type, meaning = meanings.get(status, ("read_error", "no file came with it"))
        raise InputError(error_type, f"{self._shown} answered {name}: {meaning}")

    def _explained(self, error: requests.RequestException) -> _Interrupted | InputError:
        """The same failure in our words: those of requests hold the URL with its secrets."""
        if isinstance(error, requests.exceptions.SSLError):
            message = f"the TLS certificate of {self._shown} could not be verified: see REQUESTS_CA_BUNDLE"
            return InputError("unreachable", message)
        if isinstance(error, ValueError | requests.TooManyRedirects):  # of no valid form
            return InputError("not_found", f"{self._shown} leads to no file ({type(error).__name__})")
        if isinstance(error, requests.ConnectTimeout):
            return _Interrupted(f"its server did not answer within {_TIMEOUT[0]:g} s")
        if isinstance(error, requests.Timeout):
            return _Interrupted(f"nothing came for {_TIMEOUT[1]:g} s")
        return _Interrupted(f"the connection could not be made, or broke ({type(error).__name__})")


_THREAD = threading.local()


def _session() -> requests.Session:
    """One for each thread: its connections are used again, and `requests` does not promise to share them."""
    if not hasattr(_THREAD, "session"):
        _THREAD.session = requests.Session()
    session: requests.Session = _THREAD.session
    return session


class _Fsspec:
    """A file in a bucket, or wherever else fsspec has a driver for."""

    is_known = True

    def __init__(self, url: str) -> None:
        self._url = url
        self._shown = redacted(url)
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
            raise self._explained(error) from None
        if position and size != self.size:
            raise _CannotGoOnError("changed", f"{self._shown} changed while it was read: try again")
        self.size = size
        return position if self.can_jump else 0

    def next(self) -> bytes:
        if self._file is None:
            return b""
        try:
            return self._file.read(_CHUNK_BYTES)
        except fsspec_failures() as error:
            raise self._explained(error) from None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def _explained(self, error: BaseException) -> _Interrupted | InputError:
        error_type, meaning = meaning_of(error)
        if error_type is None:
            return _Interrupted(f"{meaning} ({type(error).__name__})")
        return InputError(error_type, f"{self._shown} cannot be read: {meaning} ({type(error).__name__})")
