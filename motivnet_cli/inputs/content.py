"""What a file is by its first bytes, where its name does not say: cameras give videos endings of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli.inputs.names import kind_of, suffix_of
from motivnet_cli.inputs.transport_stream import is_transport_stream

if TYPE_CHECKING:
    from motivnet_cli.records import Kind

_HEAD_BYTES = 4096
_IMAGE_MARKS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
_IMAGE_BRANDS = {b"heic", b"heix", b"heif", b"hevc", b"mif1", b"msf1", b"avif", b"avis"}
"""Of ISO base media files (ISO/IEC 14496-12)."""
_VIDEO_MARKS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"FLV\1",
    b"OggS",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF
    b"\x06\x0e\x2b\x34",  # MXF
    b"DKIF",  # IVF
    b"\0\0\1\xba",  # MPEG program stream
    b"\0\0\1\xb3",  # MPEG-1 and MPEG-2 video
)
_ATOMS = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}
"""What QuickTime files and their kin begin with, behind four bytes of length."""


def kind_of_file(path: str, name: str) -> Kind | None:
    """What a file is: by its name, else by its first bytes; None for neither.

    Args:
        path: A local file; others, such as pipes, are not opened.
        name: Its name in full.
    """
    return kind_of(name) or _kind_of_content(_head_of(path))


def is_source_text(path: str) -> bool:
    """Whether a file whose name ends in `.ts` is TypeScript: text, and not a transport stream."""
    if path[-3:].lower() != ".ts" or suffix_of(path) != ".ts":
        return False
    head = _head_of(path)
    return bool(head) and b"\0" not in head and not is_transport_stream(head)


def is_in_fragments(head: bytes) -> bool:
    """Whether a file that begins so is an MP4 whose index is spread over it: FFmpeg walks through it all to begin."""
    at = 0
    while at + 8 <= len(head):
        size = int.from_bytes(head[at : at + 4], "big")
        if head[at + 4 : at + 8] == b"moov":
            return b"mvex" in head[at : at + size]
        if size == 1:
            size = int.from_bytes(head[at + 8 : at + 16], "big")
        if size < 8:
            break
        at += size
    return False


def _head_of(path: str) -> bytes:
    try:
        if not Path(path).is_file():
            return b""
        with Path(path).open("rb") as file:
            return file.read(_HEAD_BYTES)
    except (OSError, ValueError):  # whoever opens it says why
        return b""


def _kind_of_content(head: bytes) -> Kind | None:
    if head.startswith(_IMAGE_MARKS) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        return "image"
    if head[4:8] == b"ftyp" and head[8:12] in _IMAGE_BRANDS:
        return "image"
    is_video = (
        head.startswith(_VIDEO_MARKS)
        or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")
        or head[4:8] in _ATOMS
        or is_transport_stream(head)
        or _is_raw_video(head)
    )
    return "video" if is_video else None


def _is_raw_video(head: bytes) -> bool:
    """Whether it begins with a start code and a unit that begins a stream of H.264 or HEVC (Annex B of either)."""
    start = head.lstrip(b"\0")
    if not start.startswith(b"\1") or len(head) - len(start) not in (2, 3) or len(start) < 3:
        return False
    first, second = start[1], start[2]
    is_h264 = not first & 0x80 and first & 0x1F in (7, 9)  # parameters, or a delimiter
    is_hevc = first in (0x40, 0x46) and second == 1
    return is_h264 or is_hevc
