"""What a name says of an input: its kind, by the ending; and the name as text that can be shown and stored."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from motivnet_cli.records import GivenFace, Problem
from motivnet_cli.remote.urls import display_name, is_chain, redacted, scheme_of

if TYPE_CHECKING:
    from motivnet_cli.records import Kept, Kind


IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"}
    | {".heic", ".heif", ".hif", ".heics", ".heifs", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c"}
    | {".jpc", ".mpo", ".ppm", ".pgm", ".pbm", ".pnm"}
)
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m1v", ".m2v", ".vob", ".ts", ".mts"}
    | {".m2ts", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf"}
)
ARCHIVE_SUFFIXES = frozenset({".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst", ".zip", ".7z", ".rar"})
"""And `.tar` followed by one of `.gz`, `.bz2`, `.xz`, `.zst`. Those of 7z and RAR fail with what to do about it."""


_KINDS: dict[str, Kind] = {
    **dict.fromkeys(IMAGE_SUFFIXES, "image"),
    **dict.fromkeys(VIDEO_SUFFIXES, "video"),
    **dict.fromkeys(ARCHIVE_SUFFIXES, "archive"),
}


def kind_of(name: str) -> Kind | None:
    """What a file is by the ending of its name; None for other endings."""
    known = _KINDS.get(name[-4:])  # most names end so, and to split them costs eight times as much
    if known and name[-5:-4] not in ("", ".", "/"):
        return known
    stem, suffix = os.path.splitext(name)
    suffix = suffix.lower()
    if suffix in _COMPRESSED and stem.lower().endswith(".tar"):
        return "archive"
    return _KINDS.get(suffix)


def suffix_of(name: str) -> str:
    """The ending in lower case, such as `.jpg`, or nothing."""
    return os.path.splitext(name)[1].lower()


def printable(name: str) -> str:
    """A name as UTF-8 text: bytes that are not UTF-8 become backslash escapes such as `\\xff`."""
    if name.isascii():
        return name
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a surrogate pair, as JSON can spell it
        return name.encode("utf-8", "backslashreplace").decode()


_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")

Version = tuple["int | None", "int | None"]
"""Size in bytes and time of last change in ns since 1970; None where unknown."""


class FoundInput(NamedTuple):
    """An input before it is numbered, and before it is known to be the first of its path."""

    name: str
    path: str
    kind: Kind
    version: Version = (None, None)
    problem: Problem | None = None
    given: tuple[GivenFace, ...] | None = None
    kept: Kept = ()
    column: str | None = None
    row: int | None = None
    """As in `Item`."""


def remote_input(url: str, kept: Kept = (), problem: Problem | None = None) -> FoundInput:
    """A file behind a URL, which is a picture where its name does not say otherwise."""
    return FoundInput(display_name(url), url, kind_of(redacted(url)) or "image", problem=problem, kept=kept)


def refused(url: str, kept: Kept = ()) -> FoundInput:
    """A URL in a list or a manifest that is not read."""
    message = (
        f"a list or manifest names a URL of the scheme {scheme_of(url)}, which is read only if it is allowed: "
        f"--allow-scheme {scheme_of(url)}"
    )
    if is_chain(url):
        message = "a list or manifest names a URL within a URL, which is not read: name it as an argument"
    return remote_input(url, kept, Problem("refused_url", message))


def status_of(path: str) -> tuple[os.stat_result | None, Problem | None]:
    """Of a file; None where it cannot be had, since whatever opens the file says why."""
    try:
        return os.stat(path), None
    except OSError:
        return None, None
    except ValueError:
        return None, Problem("not_found", "no file can have this name: it holds a NUL byte")


def version_of(status: os.stat_result | None) -> Version:
    """Of a regular file; unknown for anything else, and a time that 64 bits do not hold."""
    if status is None or not stat.S_ISREG(status.st_mode):
        return None, None
    return status.st_size, status.st_mtime_ns if abs(status.st_mtime_ns) < 1 << 63 else None
