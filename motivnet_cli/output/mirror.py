"""Where an output lies: in a folder of this machine, or in an object store that a folder here stands for.

Both answer the same questions, so the rooms above know one way only: they work on local files, and say `push` after
each that has to last. What is in the store counts; the folder here is a copy of some of it. An object appears under
its key whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, TypeVar

from motivnet_cli.errors import ConfigError
from motivnet_cli.remote.files import open_remote
from motivnet_cli.remote.storage import entry_at, file_system, list_remote, with_retries
from motivnet_cli.remote.urls import display_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from motivnet_cli.durable import TemporaryFolder

_RETRIES = 8
"""Waits of 0.5 to 20 seconds, 70 in all, besides those of the driver: a store that is gone longer ends the run."""
_AT_ONCE = 16
"""Objects that are brought or removed at the same time."""
_WHOLE = ("s3", "s3a", "gs", "gcs", "memory")
"""Stores in which an object appears when all of it has arrived; elsewhere a file grows under its name."""


class Folder:
    """A folder of this machine: what is there is there."""

    is_remote = False

    def name_of(self, path: Path) -> str:
        """As the user is told."""
        return str(path)

    def has(self, path: Path) -> bool:
        """Whether a file or folder is there."""
        return path.exists()

    def version(self, path: Path) -> tuple[int | None, int | None] | None:
        """What differs when another file is at its place; None if there is none."""
        status = path.stat() if path.is_file() else None
        return None if status is None else (status.st_ino, status.st_mtime_ns)

    def names(self, folder: Path) -> list[str]:
        """Of the files in a folder, sorted."""
        return sorted(path.name for path in folder.glob("*"))

    def open(self, path: Path) -> IO[bytes]:
        """A file to be read where it lies."""
        return path.open("rb")

    def fetch(self, path: Path) -> bool:
        """Have a file here as it is there; False if there is none, and then there is none here either."""
        return path.exists()

    def fetch_all(self, paths: Sequence[Path], *, anew: bool = False) -> list[Path]:
        """Have files here that never change, unless they are already; those that exist.

        Args:
            anew: Whether they are here or not.
        """
        return list(paths)

    def publish(self, path: Path, source: Path | None = None) -> None:
        """Have a file there as it is here, under its name only when all of it is.

        Args:
            source: What it is here, if it has not got its name yet.
        """

    def create(self, path: Path, source: Path | None = None) -> bool:
        """As `push`, unless such a file is there: then False."""
        return True

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove files, here and there; some may not exist."""
        for path in paths:
            path.unlink(missing_ok=True)


class Mirror(Folder):
    """A folder here that stands for what lies under a URL.

    Each call may be made anew for more than a minute. Credentials are in no message.

    Args:
        url: s3://, gs:// or another that fsspec has a driver for. Of those whose files grow under their names (sftp://,
            file://), a file gets its name when it is whole, and `create` is a look and then a push: of two processes
            at the same moment, both may believe to be first. S3 and GCS decide that themselves.
        local: The folder; what is in it may be replaced.
        temporary: What that folder lies in, if it is to go with this object.

    Raises:
        ConfigError: By each call: the place does not exist, the credentials found here do not open it, or software for
            this kind of URL is not installed.
        FetchError: By each call: the store could not be reached.
        OSError: This machine's disk is full.
    """

    is_remote = True

    def __init__(self, url: str, local: Path, temporary: TemporaryFolder | None = None) -> None:
        scheme = url.partition("://")[0].lower()
        if scheme in ("http", "https"):
            raise ConfigError(
                f"{display_name(url)}: a web server takes no files; --out takes a local name, s3:// or gs://"
            )
        self._url = url.rstrip("/")
        self._local = local
        self._temporary = temporary
        self._is_whole = scheme in _WHOLE
        self._fs, self._root = with_retries(lambda: file_system(self._url), url)

    def name_of(self, path: Path) -> str:
        return display_name(self._url_of(path))

    def has(self, path: Path) -> bool:
        return entry_at(self._url_of(path), retries=_RETRIES) is not None

    def version(self, path: Path) -> tuple[int | None, int | None] | None:
        entry = entry_at(self._url_of(path), retries=_RETRIES)
        return None if entry is None else entry.version

    def names(self, folder: Path) -> list[str]:
        """Of the files in a folder, and of its folders with a slash at the end, sorted."""
        url = f"{self._url_of(folder)}/"
        return sorted(entry.name for entry in list_remote(url, recursive=False, retries=_RETRIES))

    def open(self, path: Path) -> IO[bytes]:
        return open_remote(self._url_of(path))

    def fetch(self, path: Path) -> bool:
        path.parent.mkdir(parents=True, exist_ok=True)
        arriving = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")  # of several processes

        def brought() -> bool:
            try:
                self._fs.get_file(self._key(path), str(arriving))
            except FileNotFoundError:
                return False
            return True

        try:
            if self._insist(brought, path):
                arriving.replace(path)
                return True
        finally:
            arriving.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        return False

    def fetch_all(self, paths: Sequence[Path], *, anew: bool = False) -> list[Path]:
        missing = [path for path in paths if anew or not path.exists()]
        gone = {path for path, is_here in zip(missing, self._at_once(self.fetch, missing), strict=True) if not is_here}
        return [path for path in paths if path not in gone]

    def publish(self, path: Path, source: Path | None = None) -> None:
        self._insist(lambda: self._put(path, source or path, mode="overwrite"), path)

    def create(self, path: Path, source: Path | None = None) -> bool:
        if not self._is_whole and self.has(path):
            return False

        def created() -> bool:
            try:
                self._put(path, source or path, mode="create")
            except FileExistsError:
                return False
            return True

        return self._insist(created, path)

    def remove(self, paths: Iterable[Path]) -> None:
        self._at_once(self._remove, list(paths))

    def _remove(self, path: Path) -> None:
        def removed() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._key(path))

        self._insist(removed, path)
        path.unlink(missing_ok=True)

    def _put(self, path: Path, source: Path, *, mode: str) -> None:
        key = self._key(path)
        if self._is_whole:
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
        """As the driver calls it."""
        return f"{self._root}/{path.relative_to(self._local).as_posix()}"

    def _insist(self, step: Callable[[], _Answer], path: Path) -> _Answer:
        return with_retries(step, self._url_of(path), retries=_RETRIES)

    def _at_once(self, step: Callable[[Path], _Answer], paths: Sequence[Path]) -> list[_Answer]:
        """Several at a time where the driver can do so."""
        workers = _AT_ONCE if self._fs.async_impl else 1
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(step, paths))


_Answer = TypeVar("_Answer")
