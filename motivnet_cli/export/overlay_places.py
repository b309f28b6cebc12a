"""Where overlays are written: one file, or a folder that mirrors the names of the inputs."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli.durable import durably, temporary_name
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.destination import MARKER, MirroredNames, check_destination
from motivnet_cli.inputs.names import suffix_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from motivnet_cli.export.source import InputRow, Source

JPEG_SUFFIXES, PNG_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif"}, {".png"}
_LOSSLESS = {".png", ".apng", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
"""Endings of pictures that are written as PNG; all others are written as JPEG."""


class OneFile:
    """The one file that is written."""

    def __init__(self, path: Path, reads: Sequence[str], *, overwrite: bool) -> None:
        self._path = path
        self._overwrite = overwrite
        self.check(reads)

    def check(self, reads: Sequence[str]) -> None:
        """Refuse what would be replaced.

        Raises:
            ConfigError: The file is one of them, or is there.
        """
        check_destination(self._path, reads, overwrite=self._overwrite)

    def place_of(self, info: InputRow) -> Path:
        """The file for an input.

        Raises:
            ConfigError: Its ending is of another kind.
        """
        wanted = {".mp4"} if info.kind == "video" else JPEG_SUFFIXES | PNG_SUFFIXES
        if suffix_of(self._path.name) not in wanted:
            what = "a video is an MP4: give --out a name ending in .mp4"
            if info.kind != "video":
                what = "a picture is a JPEG or PNG: give --out a name ending in .jpg or .png"
            raise ConfigError(f"the overlay of {what}, got {str(self._path)!r}")
        return self._path

    def is_there(self, path: Path) -> bool:
        return False

    def begin(self, path: Path) -> None:
        """Have the folder of a file."""


class MirroredFolder:
    """A folder in which the names of the inputs are mirrored; it is made with the first file.

    A file in it says what it was made of: only the same export goes on in it.
    """

    def __init__(self, folder: Path, reads: Sequence[str], marker: str, *, overwrite: bool) -> None:
        self._folder = folder
        self._marker = marker
        try:
            goes_on = not overwrite and (folder / MARKER).read_text(encoding="utf-8") == marker
        except (OSError, ValueError):
            goes_on = False
        check_destination(folder, reads, overwrite=overwrite or goes_on, is_folder=True)
        self._replaces = overwrite and folder.exists()
        self._has_begun = goes_on
        self._names = MirroredNames()
        self._resolved = folder.resolve()

    def check(self, reads: Sequence[str]) -> None:
        """Refuse what would be replaced or mixed with what is written.

        Raises:
            ConfigError: One of the files lies in the folder.
        """
        for read in reads:
            folder = _resolved_folder(Path(read).parent)
            if self._resolved in (folder, *folder.parents):
                raise ConfigError(
                    f"{str(self._folder)!r} holds what the export is made from ({read!r}); give --out another name"
                )

    def place_of(self, info: InputRow) -> Path:
        """The file for an input; to be asked once for each, in the order of the table."""
        suffix = suffix_of(info.input)
        if info.kind == "video":
            suffix = ".mp4"
        elif suffix not in JPEG_SUFFIXES | PNG_SUFFIXES:
            suffix = ".png" if suffix in _LOSSLESS else ".jpg"
        return self._folder / self._names.take(info.input, suffix)

    def is_there(self, path: Path) -> bool:
        """Whether an earlier start of the same export has written it."""
        return self._has_begun and path.exists()

    def begin(self, path: Path) -> None:
        """Have the folder of a file."""
        if not self._has_begun:
            if self._replaces:
                shutil.rmtree(self._folder)
            self._folder.mkdir(exist_ok=True)
            with durably(self._folder / MARKER) as temporary:
                temporary.write_text(self._marker, encoding="utf-8")
            self._has_begun = True
        path.parent.mkdir(parents=True, exist_ok=True)


@cache
def _resolved_folder(folder: Path) -> Path:
    return folder.resolve()


def overlay_marker(source: Source, settings: Mapping[str, object]) -> str:
    """What an overlay is made of, as text that is the same for the same table and options."""
    digest = hashlib.sha256()
    for path in source.files:
        status = path.stat()
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    marker = {
        "format": "overlay",
        "predictions": str(source.path),
        "table": digest.hexdigest(),
        "settings": settings,
        "record": source.record,
    }
    return json.dumps(marker, indent=1)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name for a file that appears whole, or leaves nothing."""
    try:
        with durably(path) as temporary:
            yield temporary
    finally:
        temporary_name(path).unlink(missing_ok=True)
