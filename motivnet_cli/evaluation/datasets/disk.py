"""The files of a labelled set: folders, each listed once, texts, and columns of tables."""

from __future__ import annotations

import itertools
import os
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from motivnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray


_ROWS_AT_ONCE = 2048
"""Of 48 x 48 numbers as text: 4.7 million."""
_MAX_SUBFOLDERS = 200
"""Subfolders of one folder that are looked into: more are a set's images, not its layout."""


class Disk:
    """What folders hold, each listed once: a `stat` for each of 400,000 images would take minutes on a network disk."""

    def __init__(self) -> None:
        self._listings: dict[str, dict[str, bool]] = {}
        self._folded: dict[str, dict[str, str]] = {}

    def entries(self, folder: str) -> dict[str, bool]:
        """Name -> whether it is a folder, sorted, hidden ones left out; empty where there is no such folder."""
        if folder not in self._listings:
            try:
                with os.scandir(folder) as scan:
                    found = {entry.name: entry.is_dir() for entry in scan if not entry.name.startswith(".")}
            except (FileNotFoundError, NotADirectoryError):
                found = {}
            self._listings[folder] = dict(sorted(found.items()))
        return self._listings[folder]

    def find(self, path: str) -> str | None:
        """The path with its last name spelled as it is on disk; None where there is nothing of this name."""
        folder, _, name = path.rpartition("/")
        entries = self.entries(folder)
        if name in entries:
            return path
        if folder not in self._folded:
            self._folded[folder] = {entry.casefold(): entry for entry in entries}
        actual = self._folded[folder].get(name.casefold())
        return None if actual is None else f"{folder}/{actual}"

    def child(self, folder: str, *names: str) -> str | None:
        """The first of these relative paths that is there, each of its names in any case."""
        for name in names:
            path: str | None = folder
            for part in name.split("/"):
                path = path and self.find(f"{path}/{part}")
            if path:
                return path
        return None

    def folders(self, folder: str) -> list[str]:
        """The names of its subfolders."""
        return [name for name, is_folder in self.entries(folder).items() if is_folder]

    def is_folder(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return self.entries(folder).get(name, False)

    def files(self, folder: str) -> list[str]:
        """The names of its files."""
        return [name for name, is_folder in self.entries(folder).items() if not is_folder]

    def walk(self, folder: str, inside: tuple[str, ...] = ()) -> Iterator[str]:
        """Every file in a folder and below it, its own first; a link back up is not entered again."""
        real = os.path.realpath(folder)
        if real in inside:
            return
        for name in self.files(folder):
            yield f"{folder}/{name}"
        for name in self.folders(folder):
            yield from self.walk(f"{folder}/{name}", (*inside, real))

    def levels(self, root: str, depth: int) -> Iterator[list[str]]:
        """The root alone, then its subfolders, then the subfolders of those, down to a depth."""
        level = [root]
        for _ in range(depth):
            yield level
            level = [f"{folder}/{name}" for folder in level for name in self.folders(folder)[:_MAX_SUBFOLDERS]]
        yield level


def join_path(folder: str, path: str) -> str:
    """A path of an index below a folder, with `/` for `\\` and no `.` or `..` in it."""
    path = path.replace("\\", "/")
    whole = path if posixpath.isabs(path) else f"{folder}/{path}"
    return posixpath.normpath(whole) if "./" in path or "//" in path else whole


def read_text(path: str) -> str:
    """A file as UTF-8, with or without a byte order mark; other bytes become escapes, as in names of files."""
    return Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")


def read_lines(path: str) -> Iterator[str]:
    """The lines that hold something, without the space around them, tabs taken as spaces."""
    for line in read_text(path).splitlines():
        if line.strip():
            yield line.strip().replace("\t", " ")


def start_of(path: str) -> str:
    """The first 64 KiB, without the space before them: the rest of a large file is not read."""
    with Path(path).open("rb") as file:
        return file.read(1 << 16).decode("utf-8-sig", "surrogateescape").lstrip()


def normalise_label(text: str) -> str:
    """A label as its set's documentation writes it: 3 for `3.0` and `3.0000000e+00`, any other text as it is."""
    if not re.fullmatch(r"\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?\s*", text):
        return text
    number = float(text)
    return str(int(number)) if number.is_integer() else text


def scan_csv(path: str, columns: Mapping[str, str], *, without_header: Mapping[str, int] | None = None) -> pl.LazyFrame:
    """These columns of a set's comma-separated table as text, under new names.

    Args:
        columns: New name -> the table's name in lower case, without the spaces around it.
        without_header: New name -> the column's position, for a file whose first line is data.

    Raises:
        ConfigError: A column is missing.
    """
    table = pl.scan_csv(path, infer_schema=False, glob=False)
    there = {name.strip().casefold(): name for name in table.collect_schema().names()}
    missing = [name for name in columns.values() if name not in there]
    if without_header is not None and len(missing) == len(columns):
        table = pl.scan_csv(path, infer_schema=False, glob=False, has_header=False)
        names = table.collect_schema().names()
        if len(names) > max(without_header.values()):
            return table.select(pl.col(names[position]).alias(new) for new, position in without_header.items())
    if missing:
        raise ConfigError(f"{path!r} has no column {', '.join(map(repr, missing))}; it has {', '.join(there)}")
    return table.select(pl.col(there[name]).alias(new) for new, name in columns.items())


def pixels_of(texts: pl.Series) -> Iterator[NDArray[np.uint8] | None]:
    """[S, S] for each text of S * S numbers from 0 to 255; None for any other. FER2013's are 48 x 48."""
    for first in range(0, len(texts), _ROWS_AT_ONCE):
        numbers = texts.slice(first, _ROWS_AT_ONCE).fill_null("").str.split(" ")
        values = numbers.explode().cast(pl.UInt8, strict=False)
        is_valid = values.is_not_null().to_numpy()
        flat = values.fill_null(0).to_numpy()
        ends = [0, *itertools.accumulate(numbers.list.len().to_list())]
        for start, end in itertools.pairwise(ends):
            side = round((end - start) ** 0.5)
            is_square = side * side == end - start and is_valid[start:end].all()
            yield flat[start:end].reshape(side, side) if is_square else None
