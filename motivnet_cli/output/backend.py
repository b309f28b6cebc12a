"""What an output lies in: a folder of this machine, or an object store that a folder here stands for.

Both answer the same questions, so what stands above knows one way only: it works on local files, says `fetch` before
it reads one and `publish` after it has written one. What is in the store counts; the folder here is a copy of some of
it. An object appears under its key whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Literal, Protocol, TypeVar

from motivnet_cli.durable import sha256_of
from motivnet_cli.errors import ConfigError
from motivnet_cli.remote.files import open_remote
from motivnet_cli.remote.storage import entry_at, file_system, list_remote, with_retries
from motivnet_cli.remote.urls import display_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from motivnet_cli.durable import TemporaryFolder

    Version = tuple[int | None, int | None]

_RETRIES = 8
"""Waits of 0.5 to 20 seconds, 70 in all, besides those of the driver: a store that is gone longer ends the run."""
_MAX_CONCURRENT = 16
"""Objects that are fetched or removed at the same time."""
_ATOMIC_SCHEMES = ("s3", "s3a", "gs", "gcs", "memory")
"""Stores in which an object appears when all of it has arrived; elsewhere a file grows under its name."""


class Backend(Protocol):
    """Where the files of an output lie. Paths are those of files here, whether or not they have been fetched."""

    has_locks: bool
    """Whether processes that write the same output can lock its files."""

    def name_of(self, path: Path) -> str:
        """The name by which the user knows a file."""

    def has(self, path: Path) -> bool:
        """Whether a file or folder is there."""

    def version(self, path: Path) -> Version | None:
        """What differs when another file has taken the place of this one; None if there is none."""

    def names(self, folder: Path) -> list[str]:
        """Names of the files in a folder, sorted."""

    def open(self, path: Path) -> IO[bytes]:
        """Read a file where it lies."""

    def fetch(self, path: Path) -> bool:
        """Copy a file here as it is there now; False if there is none, and then there is none here either."""

    def fetch_all(self, paths: Sequence[Path], *, anew: bool = False) -> list[Path]:
        """Copy files here that never change, unless they are here already; returns those that exist.

        Args:
            anew: Copy those that are here, too.
        """

    def publish(self, path: Path, source: Path | None = None) -> None:
        """Copy a file there as it is here; it appears under its name when all of it has arrived.

        Args:
            source: The file here, if it does not have its name yet.
        """

    def publish_distinct(self, path: Path) -> Path:
        """Publish a file that other processes may be writing too, so that none replaces another's.

        Returns:
            The name that it has now.
        """

    def create(self, path: Path, source: Path | None = None) -> bool:
        """As `publish`, unless such a file is there: then False."""

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove files, here and there; some may not exist."""


class LocalFolder:
    """A folder of this machine, or one that several machines share: what is there is here."""

    has_locks = True

    def name_of(self, path: Path) -> str:
        return str(path)

    def has(self, path: Path) -> bool:
        return path.exists()

    def version(self, path: Path) -> Version | None:
        status = path.stat() if path.is_file() else None
        return None if status is None else (status.st_ino, status.st_mtime_ns)

    def names(self, folder: Path) -> list[str]:
        return sorted(path.name for path in folder.glob("*"))

    def open(self, path: Path) -> IO[bytes]:
        return path.open("rb")

    def fetch(self, path: Path) -> bool:
        return path.exists()

    def fetch_all(self, paths: Sequence[Path], *, anew: bool = False) -> list[Path]:
        return [path for path in paths if path.exists()]

    def publish(self, path: Path, source: Path | None = None) -> None:
        pass

    def publish_distinct(self, path: Path) -> Path:
        return path

    def create(self, path: Path, source: Path | None = None) -> bool:
        return True

    def remove(self, paths: Iterable[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)


class ObjectStoreMirror:
    """A folder here that stands for what lies under a URL.

    Each call may be tried again for more than a minute. Credentials are in no message.

    Args:
        url: s3://, gs:// or another that fsspec has a driver for. Of those whose files grow under their names (sftp://,
            file://), a file gets its name when it is whole, and `create` is a look and then a write: of two processes
            at the same moment, both may believe to be first. S3 and GCS decide that themselves.
        local: The folder; what is in it may be replaced.
        temporary: What that folder lies in, if it is to go with this object.

    Raises:
        ConfigError: By each call: the place does not exist, the credentials found here do not open it, or software for
            this kind of URL is not installed.
        FetchError: By each call: the store could not be reached.
        OSError: This machine's disk is full.
    """

    has_locks = False

    def __init__(self, url: str, local: Path, temporary: TemporaryFolder | None = None) -> None:
        scheme = url.partition("://")[0].lower()
        if scheme in ("http", "https"):
            raise ConfigError(
                f"{display_name(url)}: a web server takes no files; --out takes a local name, s3:// or gs://"
            )
        self._url = url.rstrip("/")
        self._local = local
        self._temporary = temporary
        self._is_atomic = scheme in _ATOMIC_SCHEMES
        self._fs, self._root = with_retries(lambda: file_system(self._url), url)

    def name_of(self, path: Path) -> str:
        return display_name(self._url_of(path))

    def has(self, path: Path) -> bool:
        return entry_at(self._url_of(path), retries=_RETRIES) is not None

    def version(self, path: Path) -> Version | None:
        entry = entry_at(self._url_of(path), retries=_RETRIES)
        return None if entry is None else entry.version

    def names(self, folder: Path) -> list[str]:
        """Names of the files in a folder, and of its folders with a slash at the end, sorted."""
        url = f"{self._url_of(folder)}/"
        return sorted(entry.name for entry in list_remote(url, recursive=False, retries=_RETRIES))

    def open(self, path: Path) -> IO[bytes]:
        return open_remote(self._url_of(path))

    def fetch(self, path: Path) -> bool:
        path.parent.mkdir(parents=True, exist_ok=True)
        arriving = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")  # of several processes

        def fetched() -> bool:
            try:
                self._fs.get_file(self._key(path), str(arriving))
            except FileNotFoundError:
                return False
            return True

        try:
            if self._retried(fetched, path):
                arriving.replace(path)
                return True
        finally:
            arriving.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        return False

    def fetch_all(self, paths: Sequence[Path], *, anew: bool = False) -> list[Path]:
        missing = [path for path in paths if anew or not path.exists()]
        found = self._concurrently(self.fetch, missing)
        gone = {path for path, is_here in zip(missing, found, strict=True) if not is_here}
        return [path for path in paths if path not in gone]

    def publish(self, path: Path, source: Path | None = None) -> None:
        self._retried(lambda: self._put(path, source or path, mode="overwrite"), path)

    def publish_distinct(self, path: Path) -> Path:
        """The name gets the hash of what is in the file."""
        path = path.replace(path.with_name(f"{path.stem}-{sha256_of(path)[:32]}{path.suffix}"))
        self.publish(path)
        return path

    def create(self, path: Path, source: Path | None = None) -> bool:
        if not self._is_atomic and self.has(path):
            return False

        def created() -> bool:
            try:
                self._put(path, source or path, mode="create")
            except FileExistsError:
                return False
            return True

        return self._retried(created, path)

    def remove(self, paths: Iterable[Path]) -> None:
        self._concurrently(self._remove, list(paths))

    def _remove(self, path: Path) -> None:
        def removed() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._key(path))

        self._retried(removed, path)
        path.unlink(missing_ok=True)

    def _put(self, path: Path, source: Path, *, mode: Literal["create", "overwrite"]) -> None:
        key = self._key(path)
        if self._is_atomic:
            self._fs.put_file(str(source), key, mode=mode)
            return
        folder, _, name = key.rpartition("/")
        arriving = f"{folder}/.{name}.{os.getpid()}.tmp"
        self._fs.makedirs(folder, exist_ok=True)
        self._fs.put_file(str(source), arriving)
        self._fs.mv(arriving, key)

    def _url_of(self, path: Path) -> str:
        below = path.relative_to(self._local).as_posix()
        return self._url if below == "." else f"{self._url}/{below}"

    def _key(self, path: Path) -> str:
        """The driver's name for it."""
        return f"{self._root}/{path.relative_to(self._local).as_posix()}"

    def _retried(self, step: Callable[[], _Answer], path: Path) -> _Answer:
        return with_retries(step, self._url_of(path), retries=_RETRIES)

    def _concurrently(self, step: Callable[[Path], _Answer], paths: Sequence[Path]) -> list[_Answer]:
        """Several at a time where the driver can do so."""
        workers = _MAX_CONCURRENT if self._fs.async_impl else 1
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(step, paths))


_Answer = TypeVar("_Answer")
