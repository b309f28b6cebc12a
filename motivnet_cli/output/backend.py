"""What an output lies in: a folder of this machine, or an object store that a folder here stands for.

Both answer the same questions, so what stands above knows one way only: it works on local files, says `fetch` before
it reads one and `publish` after it has written one. What is in the store counts; the folder here is a copy of some of
it. An object appears under its key whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Literal, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from motivnet_cli.durable import sha256_of
from motivnet_cli.errors import ConfigError
from motivnet_cli.remote.files import open_remote
from motivnet_cli.remote.storage import entry_at, file_system, list_remote, with_retries
from motivnet_cli.remote.urls import display_name
from motivnet_cli.seekable import SeekableFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from typing_extensions import Buffer

    from motivnet_cli.durable import TemporaryFolder

    Version = tuple[int | None, int | None]

_RETRIES = 8
"""Waits of 0.5 to 20 seconds, 70 in all, besides those of the driver: a store that is gone longer ends the run."""
_MAX_CONCURRENT = 16
"""Objects that are fetched, looked at or removed at the same time."""
_ATOMIC_SCHEMES = ("s3", "s3a", "gs", "gcs", "memory")
"""Stores in which an object appears when all of it has arrived, and which decide who of several is the first to make
it; elsewhere a file grows under its name."""
_TAIL_BYTES = 1 << 16
"""Of a Parquet file, read at once: the footers of most parts are shorter."""
_SMALL_TABLE_BYTES = 32 << 20
"""A table of which row groups are needed is copied whole up to this size: the plan of some three million inputs."""
_TRAILER_BYTES = 8
"""After the footer of a Parquet file: its length, and PAR1."""


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

    def names(self, folder: Path, prefix: str = "") -> list[str]:
        """Names of the files in a folder that begin with `prefix`, sorted."""

    def open(self, path: Path) -> IO[bytes]:
        """Read a file where it lies."""

    def footer(self, path: Path) -> pq.FileMetaData:
        """The footer of a Parquet file, read where it lies.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError, pyarrow.ArrowException: It is none of Parquet, or damaged.
        """

    def open_table(self, path: Path) -> pq.ParquetFile:
        """A Parquet file that never changes, to be read row group by row group; checksums are verified.

        Raises:
            FileNotFoundError, ValueError, pyarrow.ArrowException: As `footer`.
        """

    def each(self, step: Callable[[Path], _Answer], paths: Sequence[Path]) -> Iterator[_Answer]:
        """What a step gives for each file, in their order; several at a time where that is faster."""

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

    def has_exclusive_create(self, folder: Path) -> bool:
        """Whether of several processes that `create` a file, exactly one makes it; tried in a folder."""

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

    def names(self, folder: Path, prefix: str = "") -> list[str]:
        return sorted(path.name for path in folder.glob("*") if path.name.startswith(prefix))

    def open(self, path: Path) -> IO[bytes]:
        return path.open("rb")

    def footer(self, path: Path) -> pq.FileMetaData:
        return pq.read_metadata(path)

    def open_table(self, path: Path) -> pq.ParquetFile:
        return pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)

    def each(self, step: Callable[[Path], _Answer], paths: Sequence[Path]) -> Iterator[_Answer]:
        return map(step, paths)

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

    def has_exclusive_create(self, folder: Path) -> bool:
        return False  # `create` is not asked where there are locks

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
        self._tables: dict[Path, tuple[int, pq.FileMetaData]] = {}
        """Sizes in bytes and footers of those that are read by ranges."""

    def name_of(self, path: Path) -> str:
        return display_name(self._url_of(path))

    def has(self, path: Path) -> bool:
        return entry_at(self._url_of(path), retries=_RETRIES) is not None

    def version(self, path: Path) -> Version | None:
        entry = entry_at(self._url_of(path), retries=_RETRIES)
        return None if entry is None else entry.version

    def names(self, folder: Path, prefix: str = "") -> list[str]:
        """Names of the files in a folder, and of its folders with a slash at the end, sorted."""
        url = f"{self._url_of(folder)}/"
        entries = list_remote(url, recursive=False, begin=prefix, retries=_RETRIES)
        return sorted(entry.name for entry in entries)

    def open(self, path: Path) -> IO[bytes]:
        return open_remote(self._url_of(path))

    def footer(self, path: Path) -> pq.FileMetaData:
        """In one request, or two where it is long."""
        tail = self._tail(path, _TAIL_BYTES)
        needed = int.from_bytes(tail[-_TRAILER_BYTES:-4], "little") + _TRAILER_BYTES
        if needed > len(tail) == _TAIL_BYTES:
            tail = self._tail(path, needed)
        return pq.read_metadata(pa.BufferReader(tail))

    def open_table(self, path: Path) -> pq.ParquetFile:
        """A small one is copied here; of a larger one, each row group is a request."""
        if path not in self._tables and not path.exists():
            entry = entry_at(self._url_of(path), retries=_RETRIES)
            size = None if entry is None else entry.version[0]
            if size is None or size <= _SMALL_TABLE_BYTES:
                self.fetch(path)
            else:
                self._tables[path] = size, self.footer(path)
        if path not in self._tables:
            return pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
        size, footer = self._tables[path]
        ranges = _Ranges(lambda start, end: self._range(path, start, end), size)
        return pq.ParquetFile(ranges, metadata=footer, page_checksum_verification=True, pre_buffer=True)

    def each(self, step: Callable[[Path], _Answer], paths: Sequence[Path]) -> Iterator[_Answer]:
        with ThreadPoolExecutor(_MAX_CONCURRENT if self._fs.async_impl else 1) as pool:  # where the driver can do so
            yield from pool.map(step, paths)

    def _tail(self, path: Path, num_bytes: int) -> bytes:
        return self._range(path, -num_bytes, None)

    def _range(self, path: Path, start: int, end: int | None) -> bytes:
        """Some bytes of a file, of which negative numbers count from the end."""

        def read() -> bytes | None:
            try:
                return self._fs.cat_file(self._key(path), start=start, end=end)
            except FileNotFoundError:
                return None

        found = self._retried(read, path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.name_of(path))
        return found

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
        found = self.each(self.fetch, missing)
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

    def has_exclusive_create(self, folder: Path) -> bool:
        """Some that speak S3 take no notice of the condition, and replace what is there."""
        if not self._is_atomic:
            return False
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f"probe-{secrets.token_hex(8)}"
        probe.write_bytes(b"")
        self.create(probe)
        is_first_again = self.create(probe)
        self.remove([probe])
        return not is_first_again

    def remove(self, paths: Iterable[Path]) -> None:
        for _ in self.each(self._remove, list(paths)):
            pass

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


class _Ranges(SeekableFile):
    """A file elsewhere of which only what is read is asked for.

    Args:
        read: The bytes from one place up to another.
        size: Bytes in all.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        super().__init__(size)
        self._read = read

    def readinto(self, buffer: Buffer) -> int:
        with memoryview(buffer).cast("B") as target:
            end = min(self._position + len(target), self._size)
            data = self._read(self._position, end) if end > self._position else b""
            target[: len(data)] = data
        self._position += len(data)
        return len(data)


_Answer = TypeVar("_Answer")
