"""Object stores, through fsspec: what lies there, and calls that are tried again.

No message holds the secrets of a URL, and foreign exceptions are not chained, because their texts hold whole URLs.
"""

from __future__ import annotations

import calendar
import datetime
import errno
import itertools
import math
import sys
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol, TypedDict, TypeVar, cast

from motivnet_cli.errors import ConfigError, FetchError
from motivnet_cli.external_sort import in_order
from motivnet_cli.remote.retries import InterruptedTryError, RefusedError, seconds_before_retry
from motivnet_cli.remote.urls import is_chain, redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from motivnet_cli.errors import ErrorType


_REQUESTS = 10
"""For pages of a list, at once: as many connections as s3fs keeps."""
_PARTS = 64
"""That the folders in a page of 1,000 are divided into."""

_Description = Mapping[str, object]
"""What a driver says of a file or folder: at least its name and type."""


class FileSystem(Protocol):
    """A driver of fsspec, as far as it is used."""

    async_impl: bool
    """Whether calls of several threads go on at the same time."""

    def info(self, path: str) -> _Description: ...
    def ls(self, path: str, *, detail: bool) -> list[_Description]: ...
    def find(self, path: str, *, detail: bool) -> dict[str, _Description]: ...
    def open(self, path: str, mode: str) -> IO[bytes]: ...
    def cat_file(self, path: str, start: int, end: int | None = None) -> bytes: ...
    def get_file(self, rpath: str, lpath: str) -> None: ...
    def put_file(self, lpath: str, rpath: str, *, mode: str = "overwrite") -> None: ...
    def rm_file(self, path: str) -> None: ...
    def mv(self, path1: str, path2: str) -> None: ...
    def makedirs(self, path: str, *, exist_ok: bool) -> None: ...
    def invalidate_cache(self) -> None: ...


class _S3FileSystem(FileSystem, Protocol):
    req_kw: dict[str, str]

    def split_path(self, path: str) -> tuple[str, str, str | None]: ...
    def call_s3(self, method: str, **request: str) -> _S3Page: ...


class _S3Page(TypedDict, total=False):
    """An answer of `ListObjectsV2`."""

    Contents: list[_S3Object]
    CommonPrefixes: list[_S3Folder]
    IsTruncated: bool
    NextContinuationToken: str


class _S3Object(TypedDict):
    Key: str
    Size: int
    LastModified: datetime.datetime


class _S3Folder(TypedDict):
    Prefix: str


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
    fs, path = with_retries(lambda: file_system(url), url)

    def look() -> RemoteEntry | None:
        fs.invalidate_cache()
        try:
            found = fs.info(path)
        except FileNotFoundError:
            return None
        if found["type"] == "directory":
            return RemoteEntry("/")
        return RemoteEntry("", _version_of(found))

    return with_retries(look, url, retries=retries)


def list_remote(url: str, *, recursive: bool = True, begin: str = "", retries: int = 1) -> Iterator[RemoteEntry]:
    """The files under a URL that ends in a slash, in the order of a walk: by bytes, a slash before every other.

    Memory does not grow with their number where the list comes page by page (S3); drivers of others hold it as a whole.
    S3 gives another order, in which `a.jpg` stands before `a/b.jpg`: nothing is known to be the first before all is
    listed, and what memory should not hold is sorted on disk.

    Args:
        recursive: Enter folders; else they are entries themselves.
        begin: Only names that begin so; S3 is not asked for others.

    Raises:
        ConfigError, FetchError: As `is_remote_folder`; also if there is no such bucket. They may come with the first
            entry that is asked for.
    """
    fs, path = with_retries(lambda: file_system(url), url)
    if hasattr(fs, "call_s3"):
        found = _Bucket(cast("_S3FileSystem", fs), url, path, recursive=recursive, retries=retries).entries(begin)
    else:
        found = _list(fs, url, path, recursive=recursive, retries=retries)
    # Without the objects that some tools put in the place of a folder: their keys end in a slash.
    return map(_entry_of, in_order(_record_of(entry) for entry in found if entry.name and entry.name.startswith(begin)))


def _record_of(entry: RemoteEntry) -> bytes:
    """Its name, in which a slash has become the lowest of all characters, a NUL byte, and its version."""
    name = entry.name.encode("utf-8", "surrogatepass")
    for character, code in _CODES:
        name = name.replace(character, code)
    size, time_ns = ("" if value is None else value for value in entry.version)
    return b"%b\0%b" % (name, f"{size} {time_ns}".encode())


def _entry_of(record: bytes) -> RemoteEntry:
    name, _, version = record.partition(b"\0")
    for character, code in reversed(_CODES):
        name = name.replace(code, character)
    size, time_ns = (int(value) if value else None for value in version.split(b" "))
    return RemoteEntry(name.decode("utf-8", "surrogatepass"), (size, time_ns))


_CODES = ((b"\1", b"\1\3"), (b"\0", b"\1\2"), (b"/", b"\1\1"))


def _list(fs: FileSystem, url: str, path: str, *, recursive: bool, retries: int) -> Iterator[RemoteEntry]:
    def look() -> list[_Description]:
        fs.invalidate_cache()
        try:
            return list(fs.find(path, detail=True).values()) if recursive else fs.ls(path, detail=True)
        except FileNotFoundError:
            return []

    for found in with_retries(look, url, retries=retries):
        full_name = str(found["name"])
        name = full_name.rstrip("/")[len(path.rstrip("/")) + 1 :]
        if found["type"] == "directory":
            yield RemoteEntry(f"{name}/")
        elif not full_name.endswith("/"):
            yield RemoteEntry(name, _version_of(found))


class _Part(NamedTuple):
    """A part of what lies in a bucket, which is listed page by page; names are those of `RemoteEntry`."""

    below: str
    """What all names begin with, mostly a folder."""
    is_level: bool = False
    """Do not enter its folders."""
    first: str = ""
    last: str = ""
    """Of its folders, those from one to another; both empty for all that it holds."""
    token: str = ""
    """Of the next page; empty for the first one."""
    seen: str = ""
    """The last name on the page before it."""

    def holds(self, name: str) -> bool:
        if not self.first:
            return True
        return self.first < name and not self.is_before(name) and "/" in name[len(self.below) :]

    def is_before(self, name: str) -> bool:
        return bool(self.last) and name > self.last and not name.startswith(self.last)


class _Bucket:
    """What lies under a URL of S3, page by page: s3fs itself would hold the answers for all keys, a kilobyte for each.

    A store gives one page after the other. So a folder that has more than one is listed level by level, and its folders
    at the same time, _PARTS of a page at most: whether a folder is large is known when it is asked for, and small ones
    share pages.
    """

    def __init__(self, fs: _S3FileSystem, url: str, path: str, *, recursive: bool, retries: int) -> None:
        bucket, key, _ = fs.split_path(path)
        slashes = "/" * (len(url) - len(url.rstrip("/")))
        self._fs = fs
        self._url = url
        self._prefix = key and key.rstrip("/") + slashes
        self._request = {"Bucket": bucket, **fs.req_kw}
        self._recursive = recursive
        self._retries = retries

    def entries(self, begin: str) -> Iterator[RemoteEntry]:
        """Those whose names begin so, in no order."""
        todo = [_Part(begin, is_level=not self._recursive)]
        asked: set[Future[tuple[list[RemoteEntry], list[_Part]]]] = set()
        threads = ThreadPoolExecutor(_REQUESTS, "motivnet-list")
        try:
            while todo or asked:
                while todo and len(asked) < _REQUESTS:
                    asked.add(threads.submit(self._ask, todo.pop()))
                answered, asked = wait(asked, return_when=FIRST_COMPLETED)
                for answer in answered:
                    entries, parts = answer.result()
                    todo += parts  # the last one is the next: so there are never many
                    yield from entries
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, part: _Part) -> tuple[list[RemoteEntry], list[_Part]]:
        """What a page says, and what is to be asked for because of it; that which comes first is the last."""
        entries, token = self._page(part)
        names = sorted(entry.name for entry in entries)
        is_in_order = _are_in_order(entries) and (not names or part.seen < names[0])
        rest = [part._replace(token=token, seen=names[-1] if names else part.seen)] if token else []
        if not self._recursive:
            return entries, rest
        if not (part.is_level or part.first):
            is_divided = rest and not part.token and is_in_order  # directory buckets of S3 have no order
            return ([], [_Part(part.below, is_level=True)]) if is_divided else (entries, rest)
        if not is_in_order:
            raise FetchError(f"{redacted(self._url)} cannot be listed: the storage gives names out of their order")
        if part.is_level:
            folders = [entry.name for entry in entries if entry.is_folder]
            return [entry for entry in entries if not entry.is_folder], rest + _parts_of(part.below, folders)
        if names and part.is_before(names[-1]):
            rest = []
        return [entry for entry in entries if part.holds(entry.name)], rest

    def _page(self, part: _Part) -> tuple[list[RemoteEntry], str]:
        """What a page names, and the token of the next one."""
        request = self._request | {"Prefix": self._prefix + part.below, "Delimiter": "/" if part.is_level else ""}
        if part.token:
            request["ContinuationToken"] = part.token
        elif part.first:
            request["StartAfter"] = self._prefix + part.first
        page = with_retries(lambda: self._fs.call_s3("list_objects_v2", **request), self._url, retries=self._retries)
        try:
            entries = list(_entries_of(page, self._prefix, part.below))
            token = page["NextContinuationToken"] if page.get("IsTruncated") else ""
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise FetchError(f"{redacted(self._url)} cannot be listed: the storage gives no list ({error!r})") from None
        if token and token == part.token:
            raise FetchError(f"{redacted(self._url)} cannot be listed: the storage gives the same page again and again")
        return entries, token


def _parts_of(below: str, folders: list[str]) -> list[_Part]:
    """Folders that follow each other, as at most _PARTS parts."""
    size = math.ceil(len(folders) / _PARTS) or 1
    groups = [folders[start : start + size] for start in range(0, len(folders), size)]
    return [_Part(group[0]) if len(group) == 1 else _Part(below, first=group[0], last=group[-1]) for group in groups]


def _are_in_order(entries: list[RemoteEntry]) -> bool:
    """Whether the files of a page are, and the folders."""
    files, folders = ([entry.name for entry in entries if entry.is_folder is kind] for kind in (False, True))
    return all(one < other for names in (files, folders) for one, other in itertools.pairwise(names))


def _entries_of(page: _S3Page, prefix: str, below: str) -> Iterator[RemoteEntry]:
    """What a page of a list names.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: It is none, or names what was not asked for.
    """
    for found in page.get("Contents", ()):
        if not found["Key"].endswith("/"):
            yield RemoteEntry(_within(prefix, below, found["Key"]), (found["Size"], _time_ns(found["LastModified"])))
    for folder in page.get("CommonPrefixes", ()):
        name = _within(prefix, below, folder["Prefix"])
        if name == below:
            raise ValueError(f"{name!r} lies in itself")
        yield RemoteEntry(name)


def _within(prefix: str, below: str, key: str) -> str:
    """What follows a prefix in a key, if that begins with `below`."""
    if not key.startswith(prefix + below):
        raise ValueError(f"{key!r} does not begin with {prefix + below!r}")
    return key[len(prefix) :]


def _version_of(found: _Description) -> tuple[int | None, int | None]:
    """Size in bytes and time of last change in ns since 1970, under the names that drivers have for them."""
    size = found.get("size")
    times = (_time_ns(found.get(name)) for name in ("LastModified", "last_modified", "mtime", "modified"))
    return size if isinstance(size, int) else None, next((time for time in times if time is not None), None)


_VALIDATORS = ("ETag", "etag", "generation", "blob_id")
_TIMES = ("LastModified", "last_modified", "updated", "modified", "mtime", "created")


def identity_of(found: _Description) -> tuple[int | None, tuple[str, ...]]:
    """Size in bytes, and what changes when a file does, as its storage says it; empty where it says nothing of it."""
    size = found.get("size")
    for names in (_VALIDATORS, _TIMES):
        if said := tuple(f"{name} {found[name]}" for name in names if found.get(name)):
            return size if isinstance(size, int) else None, said
    return None, ()


def _time_ns(value: object) -> int | None:
    if isinstance(value, datetime.datetime):
        return calendar.timegm(value.utctimetuple()) * 10**9 + value.microsecond * 1000
    if isinstance(value, int | float):
        return int(value * 10**9)
    return None


def file_system(url: str) -> tuple[FileSystem, str]:
    """fsspec's driver for a URL, and the path that it has there.

    Raises:
        ConfigError: Software for this kind of URL is not installed.
        ValueError: There is none.
    """
    scheme = url.partition("://")[0]
    try:
        import fsspec

        driver = fsspec.get_filesystem_class(scheme)
        if is_chain(url) or not (hasattr(driver, "_get_kwargs_from_urls") and hasattr(driver, "_strip_protocol")):
            fs, path = fsspec.core.url_to_fs(url)
        else:  # two colons in a key are no chain (docs/decisions/0014-private-interfaces.md)
            fs, path = fsspec.filesystem(scheme, **driver._get_kwargs_from_urls(url)), driver._strip_protocol(url)
    except ImportError:
        raise ConfigError(
            f"{redacted(url)} needs fsspec and its driver for {scheme}://: pip install 'motivnet-cli[remote]'"
        ) from None
    return fs, path


_Result = TypeVar("_Result")


def with_retries(step: Callable[[], _Result], url: str, *, retries: int = 1) -> _Result:
    """What a step gives that asks an object store, tried again after about 0.5, 1, 2... seconds where that fails.

    Drivers of object stores have new tries of their own: with one more here, s3fs gives a closed port about 20 s.

    Args:
        url: What the step is about, for messages.

    Raises:
        ConfigError: Nothing is there, the credentials found here do not open it, or the URL is of no valid form.
        FetchError: The storage failed each time.
        OSError: This machine failed, and not the storage: its disk is full.
    """
    for failures in itertools.count(1):
        try:
            return step()
        except fsspec_failures() as error:
            if _is_of_this_machine(error):
                raise
            failure = explained(error)
        if isinstance(failure, RefusedError):
            raise ConfigError(f"{redacted(url)} {failure}")
        if failures > retries:
            raise FetchError(f"{redacted(url)} cannot be used, in {failures} tries: {failure}")
        time.sleep(seconds_before_retry(failures))
    raise AssertionError("unreachable")


def explained(error: BaseException) -> InterruptedTryError | RefusedError:
    """What an error of a driver means."""
    meanings: tuple[tuple[tuple[type[BaseException], ...], ErrorType, str], ...] = (
        ((FileNotFoundError,), "not_found", "there is no such file, folder or bucket"),
        ((PermissionError,), "permission_denied", "the credentials found here do not open it"),
        (_raised_by(_NO_CREDENTIALS), "permission_denied", "no credentials were found that open it"),
        ((IsADirectoryError,), "is_a_folder", "it is a folder: name the files in it"),
        ((ValueError, *_raised_by(_NO_REQUEST)), "unsupported", "no driver reads such a URL"),
    )
    for kinds, error_type, meaning in meanings:
        if isinstance(error, kinds):
            return RefusedError(error_type, f"cannot be used: {meaning} ({type(error).__name__})")
    return InterruptedTryError(f"the storage failed ({type(error).__name__})")


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


def fsspec_failures() -> tuple[type[BaseException], ...]:
    """What drivers raise: Python's own errors, and those of the libraries below them."""
    return (OSError, ValueError, RuntimeError, *_raised_by(_FAILURES))


def _raised_by(names: tuple[tuple[str, str], ...]) -> tuple[type[BaseException], ...]:
    """Those of these classes whose modules have been imported: others cannot have been raised."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in names)
    return tuple(error for error in found if error is not None)
