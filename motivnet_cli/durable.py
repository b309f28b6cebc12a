"""Files on this machine's disk: whole or not there when a process is killed, no temporary folders left, and hashes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEMPORARY = "motivnet-tmp-"


@contextlib.contextmanager
def durably(final: Path) -> Iterator[Path]:
    """A temporary name beside `final`; what the block writes there is synced and appears under `final`."""
    temporary = temporary_name(final)
    temporary.unlink(missing_ok=True)  # left by a process that was killed, or a link that somebody else put there
    with naming(final):
        yield temporary
        sync(temporary)
        temporary.replace(final)
        sync(final.parent)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an OSError of the block name this file, if it names none: those of a write or a sync know a number only."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_at_once(final: Path, text: str) -> None:
    """Write a small file that many processes may write at once: a reader sees one of theirs whole, or none.

    Raises:
        OSError: The folder cannot be written.
    """
    descriptor, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(final)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def temporary_name(final: Path) -> Path:
    """Hidden, without the ending that readers look for, and the same each time, so that no litter gathers."""
    return final.with_name(f".{final.name}.tmp")


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk before going on (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes in hexadecimal, read in pieces of 1 MiB.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def is_private(folder: Path) -> bool:
    """Whether a folder is this user's own, and nobody else can put anything into it."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


class TemporaryFolder:
    """A new folder where this machine has its temporary files (`TMPDIR`); it goes with this object or the process.

    A process that is killed leaves its folder, and the next one that needs such a folder removes it: a lock beside
    each tells whether anybody still holds it, also from within another container.
    """

    def __init__(self) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*.lock"):
            with contextlib.suppress(OSError, filelock.Timeout):  # gone meanwhile, or in use
                if _is_own_file(left):
                    _remove(left.with_suffix(""), _lock(left))
        self.path, lock = _locked_folder()
        self.remove = weakref.finalize(self, _remove, self.path, lock)


def _locked_folder() -> tuple[Path, filelock.BaseFileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY))
        # Before it is locked, another process that begins may take it for one that was left.
        with contextlib.suppress(filelock.Timeout):
            lock = _lock(folder.with_suffix(".lock"))
            if folder.exists() and Path(lock.lock_file).exists():
                return folder, lock


def _is_own_file(path: Path) -> bool:
    """Whether it is a regular file of this user: in a folder that is shared, anybody may have put a link there."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid()


def _lock(path: Path) -> filelock.BaseFileLock:
    lock = filelock.FileLock(path, timeout=0, thread_local=False)
    lock.acquire()
    return lock


def _remove(folder: Path, lock: filelock.BaseFileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
