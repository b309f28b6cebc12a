"""The SHA-256 of weights files: found while they are loaded, once for each state of a file, and kept for later runs.

The hash of a large file is kept beside it, or else in a folder of the model store. Either is believed only where nobody
else can have written it, and only of the file in the very state in which it was hashed. Imports no torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import stat
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from motivnet_cli.durable import is_private, sha256_of, write_at_once
from motivnet_cli.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator

StrPath: TypeAlias = "str | os.PathLike[str]"

log = logging.getLogger(__name__)

_MIN_KEPT_BYTES = 64 << 20
"""The hash of a smaller file is found sooner than anybody notices, and kept nowhere."""
_SETTLED_NS = 5 * 10**9
"""How long a file must have been left alone before its hash is kept. The clocks of file systems are coarse (FAT: 2 s):
a second change within one tick would leave the times, and often the size, as they are."""
_STATE = ("device", "inode", "size", "mtime_ns", "ctime_ns")


@dataclass(frozen=True, slots=True)
class FileHash:
    """The SHA-256 of a file in hexadecimal, and the state of the file in which it has it."""

    sha256: str
    state: tuple[int, ...]
    """Device, inode, size in bytes, and the times of the last changes of content and status in nanoseconds."""


class PendingHash:
    """The hash of a weights file that is being loaded, found in a thread of its own where it is not known.

    Between these two calls the file is loaded: a change of it meanwhile is an error of `result`.

    Args:
        path: The file.
        known: Its hash from before, maybe of another state.
        cache: Folder in which the hash is kept where that cannot be beside the file.

    Raises:
        WeightsError: The file cannot be read.
    """

    def __init__(self, path: StrPath, *, known: FileHash | None = None, cache: Path | None = None) -> None:
        self._path = Path(path)
        self._cache = cache
        self._state = file_state(path)
        candidates = (known, *(_kept_at(place, self._state) for place in self._places()))
        self._known = next((each for each in candidates if each is not None and each.state == self._state), None)
        self._found: Future[FileHash] = Future()

    def start(self) -> None:
        """Begin to hash, now that the file has been loaded, or mapped."""
        if self._known is not None:
            self._find()
        else:
            threading.Thread(target=self._find, daemon=True).start()

    def result(self) -> FileHash:
        """Wait for the hash.

        Raises:
            WeightsError: The file cannot be read, or was changed meanwhile.
        """
        return self._found.result()

    def _find(self) -> None:
        try:
            found = self._known or FileHash(_digest(self._path), self._state)
            _check_unchanged(self._path, self._state)
            if self._known is None:
                self._keep(found)
            self._found.set_result(found)
        except BaseException as error:  # noqa: BLE001 - for whoever waits
            self._found.set_exception(error)

    def _keep(self, found: FileHash) -> None:
        """Write the hash where the next run looks for it, if that is possible and safe."""
        if time.time_ns() - max(found.state[-2:]) < _SETTLED_NS:
            return
        for place in self._places():
            with contextlib.suppress(OSError):  # a read-only folder, a full disk
                if self._cache is not None and place.parent == self._cache:
                    self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
                if is_private(place.parent):
                    write_at_once(place, _text_of(found))
                    return
        log.debug("the hash of %s is kept nowhere", self._path)

    def _places(self) -> Iterator[Path]:
        """Where the hash may be kept, the first choice first."""
        if self._state[_STATE.index("size")] < _MIN_KEPT_BYTES:
            return
        with contextlib.suppress(OSError, RuntimeError):
            path = self._path.resolve(strict=True)
            yield path.with_name(f"{path.name}.sha256.json")
            # Files of an image (squashfs, ISO 9660) have the times and inodes that its maker gave them: another image
            # in its place may repeat them all.
            if self._cache is not None and not os.statvfs(path).f_flag & os.ST_RDONLY:
                yield self._cache / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"


def file_sha256(path: StrPath) -> str:
    """The SHA-256 of a weights file in hexadecimal, of its bytes as they are now.

    Raises:
        WeightsError: The file cannot be read, or was changed meanwhile.
    """
    state = file_state(path)
    found = _digest(path)
    _check_unchanged(path, state)
    return found


def file_state(path: StrPath) -> tuple[int, ...]:
    """The state of a file, as in `FileHash`.

    Raises:
        WeightsError: The file cannot be read.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        raise unreadable(path, error) from error
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def changed(path: StrPath) -> WeightsError:
    """The error for a file that is not the same any more."""
    return WeightsError(f"{path} was changed while it was read: try again when it is whole")


def unreadable(path: StrPath, error: OSError) -> WeightsError:
    """The error for a file that cannot be opened or read."""
    if isinstance(error, FileNotFoundError):
        return WeightsError(f"no weights file is at {path}: check the name")
    if isinstance(error, IsADirectoryError):
        return WeightsError(f"{path} is a folder: name the weights file itself, such as MotivNet.pth")
    return WeightsError(f"the weights file {path} cannot be read: {error.strerror or error}")


def _digest(path: StrPath) -> str:
    try:
        return sha256_of(Path(path))
    except OSError as error:
        raise unreadable(path, error) from error


def _check_unchanged(path: StrPath, state: tuple[int, ...]) -> None:
    if file_state(path)[:-1] != state[:-1]:  # another link to it changes its status, not its content
        raise changed(path)


def _kept_at(place: Path, state: tuple[int, ...]) -> FileHash | None:
    """The hash that is kept there of a file in this state; None where there is none, or it cannot be trusted."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if not is_private(place.parent):
            return None
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
                return None
            text = file.read(4096)
        found = re.search(r'"sha256": "([0-9a-f]{64})"', text)
        known = FileHash(found[1], state) if found else None
        if known is not None and text == _text_of(known):
            return known
    return None


def _text_of(known: FileHash) -> str:
    """A file that is kept, whole: what differs by one character is not believed."""
    content = {"sha256": known.sha256, **dict(zip(_STATE, known.state, strict=True))}
    check = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    return json.dumps({**content, "check": check}, indent=1) + "\n"
