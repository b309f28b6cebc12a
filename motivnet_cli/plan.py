"""Inputs as the user names them -> the items of a run, in a fixed order.

This room looks at names and folders only; it opens no file. Nothing found is dropped in silence: an item,
an item with a problem, or a count in `Listing.skipped`.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from motivnet_cli.errors import ConfigError
from motivnet_cli.records import Item, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"}
    | {
        ".heic",
        ".heif",
        ".hif",
        ".heics",
        ".heifs",
        ".avif",
        ".avifs",
        ".jp2",
        ".j2k",
        ".jpx",
        ".jpf",
        ".j2c",
        ".jpc",
        ".mpo",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    }
)
"""Endings by which a file inside a given folder counts as a picture; a file named outright always counts."""


_Found = tuple[str, str, tuple[Literal["image", "folder"], Problem | None]]
"""Name in the output, absolute path, kind and problem."""
_Identity = tuple[int, int]
"""Device and inode: the same folder by whatever name."""
_IMAGE: tuple[Literal["image"], None] = ("image", None)


class Listing:
    """The items that the named files and folders hold, in a fixed order; iterate once.

    A folder is walked whole, its entries sorted by the bytes of their names. Hidden entries are left out.
    Symbolic links are followed, except to a folder that the walk is already inside.

    Args:
        inputs: Files and folders. With exactly one folder, names in the output are relative to it;
            otherwise they begin with the input as given.

    Raises:
        ConfigError: None of the inputs exists.
    """

    def __init__(self, inputs: Sequence[str]) -> None:
        self._inputs = inputs
        self.skipped: Counter[str] = Counter()
        """Files in folders that are not pictures by their ending, and hidden ones: ending -> count."""
        if not any(os.path.lexists(name) for name in inputs):
            named = ", ".join(repr(name) for name in inputs[:5])
            raise ConfigError(f"no such file or folder: {named}; name files or folders that hold pictures")

    def __iter__(self) -> Iterator[Item]:
        single_folder = len(self._inputs) == 1
        seen: set[str] = set()
        number = 0
        for given in self._inputs:
            for name, path, kind_problem in self._below(given, prefix="" if single_folder else given):
                if not single_folder:
                    if path in seen:
                        self.skipped["named twice"] += 1
                        continue
                    seen.add(path)
                kind, problem = kind_problem
                yield Item(index=number, input=_printable(name), path=path, kind=kind, problem=problem)
                number += 1

    def _below(self, given: str, *, prefix: str) -> Iterator[_Found]:
        path = os.path.abspath(given)
        if os.path.isdir(path):
            above = tuple(_identity(str(folder)) for folder in Path(os.path.realpath(path)).parents)
            yield from self._walk(path, prefix, inside=above)
        else:
            yield given, path, _IMAGE

    def _walk(self, folder: str, prefix: str, *, inside: tuple[_Identity, ...]) -> Iterator[_Found]:
        try:
            inside = (*inside, _identity(folder))
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            reason = error.strerror or str(error)
            yield (
                prefix or ".",
                folder,
                ("folder", Problem("unreadable_folder", f"cannot list this folder: {reason}")),
            )
            return
        for entry in entries:
            name = os.path.join(prefix, entry.name)
            if entry.name.startswith("."):
                self.skipped["hidden"] += 1
            elif _is_folder(entry):
                yield from self._enter(entry, name, inside)
            elif _suffix(entry.name) in IMAGE_SUFFIXES:
                yield name, entry.path, _IMAGE
            else:
                self.skipped[_suffix(entry.name) or "no ending"] += 1

    def _enter(self, entry: os.DirEntry[str], name: str, inside: tuple[tuple[int, int], ...]) -> Iterator[_Found]:
        if entry.is_symlink() and _identity(entry.path) in inside:
            message = "a symbolic link back to a folder that holds it: not followed"
            yield name, entry.path, ("folder", Problem("link_loop", message))
            return
        empty = True
        for found in self._walk(entry.path, name, inside=inside):
            empty = False
            yield found
        if empty and _suffix(entry.name) in IMAGE_SUFFIXES:
            yield (
                name,
                entry.path,
                ("folder", Problem("is_a_folder", "a folder named like a picture, with none in it")),
            )


def _identity(folder: str) -> _Identity:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISDIR(entry.stat().st_mode) if entry.is_symlink() else entry.is_dir()
    except OSError:  # a broken or circular link: the decoder says which
        return False


def _suffix(name: str) -> str:
    return Path(name).suffix.lower() if "." in name else ""


def _printable(name: str) -> str:
    """A name as UTF-8 text: bytes that are not UTF-8 become backslash escapes such as `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
