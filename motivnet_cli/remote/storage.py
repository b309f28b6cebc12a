"""Object stores, through fsspec: what lies there, and calls that are tried again.

No message holds the secrets of a URL, and foreign exceptions are not chained, because their texts hold whole URLs.
"""

from __future__ import annotations

import calendar
import datetime
import errno
import itertools
import sys
import time
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol, TypedDict, TypeVar, cast

from motivnet_cli.errors import ConfigError, FetchError
from motivnet_cli.remote.retries import InterruptedTryError, RefusedError, seconds_before_retry
from motivnet_cli.remote.urls import is_chain, redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motivnet_cli.errors import ErrorType


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


def list_remote(url: str, *, recursive: bool = True, begin: str = "", retries: int = 1) -> list[RemoteEntry]:
    """The files under a URL that ends in a slash, in the order of a walk: by bytes, a slash before every other.

    About 400 bytes of memory a file where the list comes page by page (S3); drivers of others hold it as a whole.

    Args:
        recursive: Enter folders; else they are entries themselves.
        begin: Only names that begin so; S3 is not asked for others.

    Raises:
        ConfigError, FetchError: As `is_remote_folder`; also if there is no such bucket.
    """
    fs, path = with_retries(lambda: file_system(url), url)
    if hasattr(fs, "call_s3"):
        found = _list_s3(cast("_S3FileSystem", fs), url, path, recursive=recursive, begin=begin, retries=retries)
    else:
        found = _list(fs, url, path, recursive=recursive, retries=retries)
    # Without the objects that some tools put in the place of a folder: their keys end in a slash.
    entries = [entry for entry in found if entry.name and entry.name.startswith(begin)]
    entries.sort(key=lambda entry: entry.name.encode("utf-8", "surrogatepass").replace(b"/", b"\0"))
    return entries


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


def _list_s3(
    fs: _S3FileSystem, url: str, path: str, *, recursive: bool, begin: str, retries: int
) -> Iterator[RemoteEntry]:
    """Page by page: s3fs itself would hold the answers for all keys at once, over a kilobyte for each."""
    bucket, key, _ = fs.split_path(path)
    slashes = "/" * (len(url) - len(url.rstrip("/")))
    prefix = key and key.rstrip("/") + slashes
    request = {"Bucket": bucket, "Prefix": prefix + begin, "Delimiter": "" if recursive else "/", **fs.req_kw}
    while True:
        page = with_retries(lambda: fs.call_s3("list_objects_v2", **request), url, retries=retries)
        try:
            entries = list(_entries_of(page, prefix))
            token = page["NextContinuationToken"] if page.get("IsTruncated") else None
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise FetchError(f"{redacted(url)} cannot be listed: the storage gives no list ({error!r})") from None
        yield from entries
        if token is None:
            return
        if token == request.get("ContinuationToken"):
            raise FetchError(f"{redacted(url)} cannot be listed: the storage gives the same page again and again")
        request["ContinuationToken"] = token


def _entries_of(page: _S3Page, prefix: str) -> Iterator[RemoteEntry]:
    """What a page of a list names.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: It is none, or names what was not asked for.
    """
    for found in page.get("Contents", ()):
        if not found["Key"].endswith("/"):
            yield RemoteEntry(_below(prefix, found["Key"]), (found["Size"], _time_ns(found["LastModified"])))
    for folder in page.get("CommonPrefixes", ()):
        yield RemoteEntry(_below(prefix, folder["Prefix"]))


def _below(prefix: str, key: str) -> str:
    """What follows a prefix in a key."""
    if not key.startswith(prefix):
        raise ValueError(f"{key!r} does not begin with {prefix!r}")
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
