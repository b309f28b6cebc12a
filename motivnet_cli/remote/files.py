"""Bytes behind URLs, and what lies under them: http and https through requests, s3, gs, hf and the rest through fsspec.

This room does not know what the bytes are, and writes nothing to the disk but in `local_copy`. A read that breaks
goes on where it broke, as long as the other side can tell that the file is still the same. No message holds what
`redacted` takes away, and foreign exceptions are not chained, because their texts hold whole URLs.
"""

from __future__ import annotations

import calendar
import contextlib
import datetime
import errno
import http.client
import io
import itertools
import re
import shutil
import sys
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

import requests

from motivnet_cli.durable import TemporaryFolder
from motivnet_cli.errors import ConfigError, FetchError, InputError
from motivnet_cli.remote.fetch import direct_url, redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

RETRIES = 3
"""Tries in a row that may bring nothing new before an input counts as failed."""
_BACKOFF_SECONDS = 0.5
"""Before the first new try; it doubles from there."""
_MAX_WAIT_SECONDS = 20.0
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


def is_remote(path: str) -> bool:
    """Whether an input is a URL such as `https://host/file` or `s3://bucket/key`, and no path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path) is not None


def shown(url: str) -> str:
    """The URL as a name in the output: without user, password, fragment, and the parameters that sign or unlock it.

    Other parameters stay: they may be all that tells two pictures apart.
    """
    plain = redacted(url)
    try:
        query = urlsplit(url).query
    except ValueError:
        return plain
    kept = [part for part in query.split("&") if part and not _SECRET.fullmatch(part.partition("=")[0])]
    return f"{plain}?{'&'.join(kept)}" if kept else plain


_SECRET = re.compile(
    r"x-(amz|goog|oss|cos|ms)-.*|.*(signature|token|secret|password|passwd|credential|api_?key|access_?key).*"
    r"|awsaccesskeyid|googleaccessid|expires|policy|key-pair-id|auth|authorization|key|pwd|code|hmac"
    r"|sig|se|sp|sv|sr|st|spr|skoid|sktid|skt|ske|sks|skv",  # the last two lines: CloudFront, Azure
    re.IGNORECASE,
)


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


# ---- what lies under a URL ----------------------------------------------------------------------------------


class RemoteEntry(NamedTuple):
    """A file under a URL."""

    name: str
    """What follows the URL, with slashes; a folder that is not entered ends in one."""
    version: tuple[int | None, int | None] = (None, None)
    """Size in bytes and time of last change in ns since 1970; None where unknown."""

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")

    def part(self, start: int) -> tuple[str, bool]:
        """What stands in the name from `start` to the next slash, and whether there is one: then it is a folder."""
        end = self.name.find("/", start)
        return (self.name[start:], False) if end < 0 else (self.name[start:end], True)

    def within(self, folder: str) -> RemoteEntry:
        """The same file seen from a folder that its name begins with."""
        return self._replace(name=self.name[len(folder) :])


def can_list(url: str) -> bool:
    """Whether there may be folders behind such URLs: a web server has only files."""
    return url.partition("://")[0].lower() not in ("http", "https")


def is_remote_folder(url: str) -> bool:
    """Whether files lie under a URL and none at it.

    Raises:
        ConfigError: Software is missing, or the credentials found here do not open it.
        FetchError: The storage cannot be reached.
    """
    entry = entry_at(url)
    return entry is not None and entry.is_folder


def is_remote_file(url: str) -> bool:
    """Whether a file lies at a URL.

    Raises:
        ConfigError, FetchError: As `is_remote_folder`.
    """
    entry = entry_at(url)
    return entry is not None and not entry.is_folder


def entry_at(url: str, *, retries: int = 1) -> RemoteEntry | None:
    """What lies at a URL: a file, or a folder if files lie under it; None if there is nothing.

    Raises:
        ConfigError, FetchError: As `is_remote_folder`.
    """
    fs, path = insist(lambda: file_system(url), url)

    def asked() -> RemoteEntry | None:
        fs.invalidate_cache()
        try:
            about = fs.info(path)
        except FileNotFoundError:
            return None
        if about["type"] == "directory":
            return RemoteEntry("/")
        return RemoteEntry("", (about.get("size"), _time_ns(about)))

    return insist(asked, url, retries=retries)


def list_remote(url: str, *, recursive: bool = True, retries: int = 1) -> list[RemoteEntry]:
    """The files under a URL that ends in a slash, in the order of a walk: by bytes, a slash before every other.

    About 400 bytes of memory a file where the list comes page by page (S3); drivers of others hold it as a whole.

    Args:
        recursive: Enter folders; else they are entries themselves.

    Raises:
        ConfigError, FetchError: As `is_remote_folder`; also if there is no such bucket.
    """
    entries = list(_entries(url, recursive=recursive, retries=retries))
    entries.sort(key=lambda entry: entry.name.encode("utf-8", "surrogatepass").replace(b"/", b"\0"))
    return entries


def _entries(url: str, *, recursive: bool, retries: int) -> Iterator[RemoteEntry]:
    """Without the objects that some tools put in the place of a folder: their keys end in a slash."""
    fs, path = insist(lambda: file_system(url), url)
    if hasattr(fs, "call_s3"):
        yield from _s3_entries(fs, url, path, recursive=recursive, retries=retries)
        return

    def listed() -> list[dict[str, Any]]:
        fs.invalidate_cache()
        try:
            return list(fs.find(path, detail=True).values()) if recursive else list(fs.ls(path, detail=True))
        except FileNotFoundError:
            return []

    for each in insist(listed, url, retries=retries):
        name = each["name"].rstrip("/")[len(path.rstrip("/")) + 1 :]
        if each["type"] == "directory":
            yield RemoteEntry(f"{name}/")
        elif name and not each["name"].endswith("/"):
            yield RemoteEntry(name, (each.get("size"), _time_ns(each)))


def _s3_entries(
    fs: Any,  # noqa: ANN401 - of a library that may be missing
    url: str,
    path: str,
    *,
    recursive: bool,
    retries: int,
) -> Iterator[RemoteEntry]:
    """Page by page: s3fs itself would hold the answers for all keys at once, over a kilobyte for each."""
    bucket, key, _ = fs.split_path(path)
    slashes = "/" * (len(url) - len(url.rstrip("/")))
    prefix = key and key.rstrip("/") + slashes
    request = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "" if recursive else "/", **fs.req_kw}
    while True:
        page = insist(lambda: fs.call_s3("list_objects_v2", **request), url, retries=retries)
        for each in page.get("Contents", ()):
            if not each["Key"].endswith("/"):
                yield RemoteEntry(each["Key"][len(prefix) :], (each["Size"], _time_ns(each)))
        for each in page.get("CommonPrefixes", ()):
            yield RemoteEntry(each["Prefix"][len(prefix) :])
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def _time_ns(entry: dict[str, Any]) -> int | None:
    """The time of last change in what a driver of fsspec says of a file."""
    for name in ("LastModified", "last_modified", "mtime", "modified"):
        value = entry.get(name)
        if isinstance(value, datetime.datetime):
            return calendar.timegm(value.utctimetuple()) * 10**9 + value.microsecond * 1000
        if isinstance(value, int | float):
            return int(value * 10**9)
    return None


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's driver for a URL, and what it calls the place.

    Raises:
        ConfigError: Software for this kind of URL is not installed.
        ValueError: There is none.
    """
    scheme, _, rest = url.partition("://")
    try:
        import fsspec

        if "::" in rest and "://" in rest:  # a chain, such as zip://a.jpg::s3://bucket/b.zip
            fs, path = fsspec.core.url_to_fs(url)
        else:  # two colons in a key are no chain
            kind = fsspec.get_filesystem_class(scheme)
            fs, path = fsspec.filesystem(scheme, **kind._get_kwargs_from_urls(url)), kind._strip_protocol(url)
    except ImportError:
        raise ConfigError(
            f"{redacted(url)} needs fsspec and its driver for {scheme}://: pip install 'motivnet-cli[remote]'"
        ) from None
    return fs, path


_Answer = TypeVar("_Answer")


def insist(ask: Callable[[], _Answer], url: str, *, retries: int = 1) -> _Answer:
    """What `ask` says of a URL, asked again after 0.5, 1, 2... seconds if the storage fails.

    Drivers of object stores have new tries of their own: with one more here, s3fs gives a closed port about 20 s.

    Raises:
        ConfigError: There is no such place, the credentials found here do not open it, or the URL is of no valid form.
        FetchError: The storage failed each time.
        OSError: This machine failed, and not the storage: its disk is full.
    """
    for failures in itertools.count(1):
        try:
            return ask()
        except _fsspec_failures() as error:
            if _is_of_this_machine(error):
                raise
            reason, error_type, meaning = type(error).__name__, *_meaning(error)
        if error_type:
            raise ConfigError(f"{redacted(url)}: {meaning} ({reason})")
        if failures > retries:
            raise FetchError(f"{redacted(url)}: {meaning}, in {failures} tries ({reason})")
        time.sleep(min(_MAX_WAIT_SECONDS, _BACKOFF_SECONDS * 2 ** (failures - 1)))
    raise AssertionError("unreachable")


# ---- a file behind a URL ------------------------------------------------------------------------------------


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
                    wait = _BACKOFF_SECONDS * 2 ** (self._failures - 1)
                time.sleep(min(_MAX_WAIT_SECONDS, wait))

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
        error_type, meaning = {
            401: ("permission_denied", "it needs a sign-in, or the link was revoked"),
            403: ("permission_denied", "it needs a sign-in, or the link was revoked"),
            404: ("not_found", "the link is misspelt, or the file was removed"),
            407: ("permission_denied", "the proxy needs a user and password in HTTP_PROXY or HTTPS_PROXY"),
            410: ("not_found", "the file was removed"),
        }.get(status, ("read_error", "no file came with it"))
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
        except _fsspec_failures() as error:
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
        except _fsspec_failures() as error:
            raise self._explained(error) from None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None

    def _explained(self, error: BaseException) -> _Interrupted | InputError:
        error_type, meaning = _meaning(error)
        if error_type is None:
            return _Interrupted(f"{meaning} ({type(error).__name__})")
        return InputError(error_type, f"{self._shown} cannot be read: {meaning} ({type(error).__name__})")


def _meaning(error: BaseException) -> tuple[str | None, str]:
    """The error type and our words for what a driver raised; no type where another try may succeed."""
    known: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
        ((FileNotFoundError,), "not_found", "there is no such file, folder or bucket"),
        ((PermissionError,), "permission_denied", "the credentials found here do not open it"),
        (_raised_by(_NO_CREDENTIALS), "permission_denied", "no credentials were found that open it"),
        ((IsADirectoryError,), "is_a_folder", "it is a folder: name the files in it"),
        ((ValueError, *_raised_by(_NO_REQUEST)), "unsupported", "no driver reads such a URL"),
    )
    for kinds, error_type, meaning in known:
        if isinstance(error, kinds):
            return error_type, meaning
    return None, "the storage failed"


_LOCAL_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS)


def _is_of_this_machine(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _LOCAL_FAILURES


_NO_CREDENTIALS = (
    ("botocore.exceptions", "NoCredentialsError"),
    ("botocore.exceptions", "PartialCredentialsError"),
    ("botocore.exceptions", "CredentialRetrievalError"),
    ("botocore.exceptions", "ProfileNotFound"),
    ("google.auth.exceptions", "DefaultCredentialsError"),
)
_NO_REQUEST = (("botocore.exceptions", "ParamValidationError"),)
_FAILURES = (
    ("aiohttp", "ClientError"),
    ("asyncio", "TimeoutError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("httpx", "HTTPError"),
)


def _fsspec_failures() -> tuple[type[BaseException], ...]:
    """What drivers raise: Python's own errors, and those of the libraries below them."""
    return (OSError, ValueError, RuntimeError, *_raised_by(_FAILURES))


def _raised_by(names: tuple[tuple[str, str], ...]) -> tuple[type[BaseException], ...]:
    """Of these, the classes of libraries that have been imported: others cannot have been raised."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in names)
    return tuple(error for error in found if error is not None)
