"""What is going to be written, held against what is read: no file that is read may be replaced or removed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli.durable import temporary_name
from motivnet_cli.errors import ConfigError
from motivnet_cli.remote.urls import is_remote, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

_Identity = tuple[int, int]
"""Device and inode: the same file or folder under any name, and in either case where the file system ignores case."""


class WrittenPaths:
    """Files and folders that are going to be written, as they are now; of a folder, everything in it counts.

    Args:
        out: How the user named the output, for messages.
        paths: Those on this machine. A file counts with the temporary name under which it is written first.
        urls: Those in an object store.
    """

    def __init__(self, out: str, paths: Iterable[Path], urls: Iterable[str] = ()) -> None:
        self._out = out
        both = [each for path in paths for each in (path, temporary_name(path))]
        self._identities = {found for path in both if (found := _identity(path))}
        self._urls = {url.rstrip("/") for url in urls}
        self._folders: dict[str, bool] = {}
        """Whether a folder lies in what is written, for those that were asked for."""

    def holds(self, path: str) -> bool:
        """Whether a file or folder that is read is among them, or lies in one of them."""
        if is_remote(path):
            url = path.rstrip("/")
            return any(url == written or url.startswith(f"{written}/") for written in self._urls)
        if not self._identities:
            return False
        file = Path(path).absolute()
        folder = str(file.parent)
        if folder not in self._folders:
            self._folders[folder] = self._is_inside(file.parent) or self._is_inside(file.parent.resolve())
        if self._folders[folder] or _identity(file) in self._identities:
            return True
        return file.is_symlink() and self._is_inside(file.resolve())

    def refuse(self, reads: Iterable[str]) -> None:
        """Refuse to begin where one of these files or folders would be lost.

        Raises:
            ConfigError: With its name.
        """
        for read in reads:
            if self.holds(read):
                raise ConfigError(
                    f"{self._out!r} would replace {shown(read)!r}, which is read: give --out another name"
                )

    def _is_inside(self, path: Path) -> bool:
        return any(_identity(each) in self._identities for each in (path, *path.parents))


def _identity(path: Path) -> _Identity | None:
    """None where nothing is there, or it may not be asked for."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
