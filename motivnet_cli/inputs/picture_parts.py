"""The parts of a picture file that its pixels are made from, so that nothing else in it can fail the picture.

Each function takes the content of a file and leaves out profiles, text, thumbnails, further pictures and the rest of
the metadata, also where their lengths and checksums are wrong: behind a wrong length, the next part that pixels need
is searched for. The parts that are kept are not checked here.

Time is in proportion to the size of the file, also for one that is made to be followed for ever.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from motivnet_cli.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class PictureParts(NamedTuple):
    content: bytes
    """A file of the same format that holds the pixels alone."""
    exif: bytes
    """The EXIF block as it stands in the file, sound or not; empty where there is none."""


class _Effort:
    """What may be spent on one file: steps of these functions, of which a second has about a million."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def spend(self, steps: int = 1) -> None:
        """Count steps.

        Raises:
            SyntaxError: They are too many for a file that a camera or program writes.
        """
        self._left -= steps
        if self._left < 0:
            raise SyntaxError("its parts are too many, or lead nowhere")


_MAX_PARTS = 2_000_000
"""Of 128 bytes on average in the largest file that is taken apart; programs write parts of 255 bytes or more."""
_MAX_SEARCHED = 100_000
"""Segments of a JPEG looked at behind a wrong length."""
_CRC_BYTES_A_STEP = 1024
MAX_SCANS = 200
"""Of a JPEG. Programs write up to about 30; a file of a megabyte can hold enough to decode for hours."""


class _Part(NamedTuple):
    """A JPEG segment, or a PNG or WebP chunk: bytes `start` to `end` of the file."""

    kind: bytes
    start: int
    end: int


def jpeg_parts(content: bytes) -> PictureParts:
    """Tables, frame and scans, and of the application segments what says how colours are coded: JFIF and Adobe.

    Raises:
        EOFError: The file has no scan or no end marker. Whether such a file has all its pixels cannot be told without
            decoding it in a way that Pillow does not offer.
        SyntaxError: No chain of segments leads to the scans.
        InputError: There are more scans than MAX_SCANS.
    """
    kept, exif = bytearray(b"\xff\xd8"), b""
    segments = _jpeg_header(content)
    for kind, start, end in segments[:-1]:
        if not _is_jpeg_metadata(kind):
            kept += content[start:end]
        elif kind == b"\xe0" and content.startswith(b"JFIF\0", start + 4):
            kept += _JFIF
        elif kind == b"\xee" and content.startswith(b"Adobe", start + 4) and end - start >= _ADOBE_BYTES:
            kept += content[start:end]
        elif kind == b"\xe1" and content.startswith(b"Exif\0", start + 4):
            exif = exif or content[start + 4 : end]
    scans = segments[-1].start
    end = _jpeg_end(content, scans)
    num_scans = content.count(b"\xff\xda", scans, end)  # cannot occur in a scan
    if num_scans > MAX_SCANS:
        raise InputError(
            "unsupported", f"it has {num_scans} scans, more than the {MAX_SCANS} that are read: save it anew"
        )
    kept += memoryview(content)[scans:end]
    return PictureParts(bytes(kept), exif)


_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
_ADOBE_BYTES = 16
_RESTARTS = frozenset(bytes([marker]) for marker in (0x01, *range(0xD0, 0xD8)))
_JPEG_TABLES_OR_IMAGE = re.compile(rb"\xff(?:[\xc0-\xcf\xda-\xdf\xe0-\xef\xfe]|\xd8(?=\xff))", re.DOTALL)


def _is_jpeg_metadata(kind: bytes) -> bool:
    return b"\xe0" <= kind <= b"\xef" or kind == b"\xfe"


def _jpeg_header(content: bytes) -> list[_Part]:
    """The segments up to and including the first start of scan."""
    effort = _Effort(_MAX_SEARCHED)
    segments, complete = _jpeg_chain(content, 2, effort)
    is_cut = not complete and bool(segments) and segments[-1].end > len(content)
    while not complete:
        while segments and not _is_jpeg_metadata(segments[-1].kind):
            segments.pop()
        if not segments:
            raise EOFError("it ends before its pixels") if is_cut else SyntaxError("its segments lead to no pixels")
        rest = _jpeg_chain_behind(content, segments.pop().start, effort)
        if rest:
            return segments + rest
    return segments


def _jpeg_chain(content: bytes, at: int, effort: _Effort) -> tuple[list[_Part], bool]:
    """The segments from `at` on, and whether they lead to a start of scan by a start of frame.

    If they do not, the last one is not whole, or something else than a segment follows it.
    """
    segments: list[_Part] = []
    while content[at : at + 1] == b"\xff":
        effort.spend()
        kind = content[at + 1 : at + 2]
        if kind == b"\xff":  # padding
            at += 1
            continue
        if kind in _RESTARTS:
            at += 2
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if not b"\xc0" <= kind <= b"\xfe" or kind in (b"\xd8", b"\xd9"):
            break
        segments.append(_Part(kind, at, end))
        if not at + 4 <= end <= len(content):
            break
        if kind == b"\xda":
            return segments, any(_is_frame(segment.kind) for segment in segments)
        at = end
    return segments, False


def _is_frame(kind: bytes) -> bool:
    return b"\xc0" <= kind <= b"\xcf" and kind not in (b"\xc4", b"\xc8", b"\xcc")


def _jpeg_chain_behind(content: bytes, start: int, effort: _Effort) -> list[_Part]:
    """The first whole chain behind a segment whose length is wrong; thumbnails inside it are passed over."""
    at = start + 2
    while found := _JPEG_TABLES_OR_IMAGE.search(content, at):
        effort.spend()
        at = found.start() + 1
        if found[0] == b"\xff\xd8":
            end = content.find(b"\xff\xd9", at)
            if end < 0:
                break
            at = end + 2
            continue
        segments, complete = _jpeg_chain(content, found.start(), effort)
        if complete:
            return segments
    return []


def _jpeg_end(content: bytes, at: int) -> int:
    """Where the picture ends whose first scan begins at `at`."""
    if content.endswith(b"\xff\xd9"):
        return len(content)
    end = content.find(b"\xff\xd9", at)  # cannot occur in a scan
    if end >= 0:
        return end + 2
    raise EOFError("it has no end marker")


def png_parts(content: bytes) -> PictureParts:
    """Header, palette, transparency and data.

    Raises:
        EOFError: The file ends before or within them.
        SyntaxError: The checksum of pixels is wrong, which Pillow does not look at.
        InputError: One colour of 16 bits is transparent. Pillow keeps 8 bits of the pixels, which cannot tell it.
    """
    bits, colour = content[24:25], content[25:26]
    kept, exif, has_data = bytearray(_PNG_SIGNATURE), b"", False
    for kind, start, end in _chunks(content, len(_PNG_SIGNATURE), _png_chunk, _PNG_PIXELS):
        if end > len(content):
            raise EOFError(f"a part of it should end at byte {end}")
        if kind == b"IDAT" and zlib.crc32(memoryview(content)[start + 4 : end - 4]) != _u32(content, end - 4):
            raise SyntaxError("the checksum of its pixels is wrong")
        if kind == b"tRNS" and colour == b"\0" and bits in (b"\2", b"\4") and end - start == 14:
            kept += _as_png_chunk(kind, bytes([0, content[start + 9] * (255 // ((1 << bits[0]) - 1)) & 255]))
        elif kind == b"tRNS" and colour == b"\2" and bits == b"\x10":
            raise InputError("unsupported", "a transparent colour of 16 bits is not read: convert it to 8 bits")
        elif kind in _PNG_PIXELS:
            has_data |= kind == b"IDAT"
            kept += memoryview(content)[start:end]
        elif kind == b"eXIf":
            exif = exif or content[start + 8 : end - 4]
        elif kind == b"IEND":
            break
    if not has_data:
        raise EOFError("it ends before its pixels")
    return PictureParts(bytes(kept + _PNG_END), exif)


_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT"})
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def _as_png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_chunk(content: bytes, at: int, effort: _Effort, *, certain: bool) -> _Part | None:
    """The chunk at `at`; if it is to be `certain`, only with a right checksum. Data that are cut short count."""
    if len(content) < at + 8:
        return None
    length, kind = struct.unpack_from(">I4s", content, at)
    end = at + 12 + length
    if not kind.isalpha() or not kind.isascii():
        return None
    if certain:
        effort.spend()
        if end > len(content):
            return None
        effort.spend(length // _CRC_BYTES_A_STEP)
        if zlib.crc32(memoryview(content)[at + 4 : end - 4]) != _u32(content, end - 4):
            return None
    if end > len(content) and kind not in _PNG_PIXELS:
        return None
    return _Part(kind, at, end)


def _u32(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 4], "big")


def webp_parts(content: bytes) -> PictureParts:
    """The first picture with its transparency.

    Raises:
        EOFError: The picture is cut short.
    """
    kept, exif, has_picture = bytearray(), b"", False
    for kind, start, end in _chunks(content, 12, _webp_chunk, _WEBP_PIXELS):
        if kind in _WEBP_PIXELS and not has_picture:
            if end > len(content):
                raise EOFError(f"a part of it should end at byte {end}")  # libwebp would only say that it failed
            has_picture = kind in (b"VP8 ", b"VP8L", b"ANMF")
            chunk = bytearray(content[start:end])
            if kind == b"VP8X":
                chunk[8] &= _WEBP_ALPHA | _WEBP_ANIMATION
            kept += chunk + bytes(len(chunk) % 2)
        elif kind == b"EXIF":
            exif = content[start + 8 : end]
    if not has_picture:
        raise EOFError("it holds no picture")
    return PictureParts(b"RIFF" + struct.pack("<I", 4 + len(kept)) + b"WEBP" + kept, exif)


_WEBP_PIXELS = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"})
_WEBP_ALPHA, _WEBP_ANIMATION = 0x10, 0x02


def _webp_chunk(content: bytes, at: int, effort: _Effort, *, certain: bool) -> _Part | None:
    """The chunk at `at`; if it is to be `certain`, only if it ends at another one or with the file."""
    if len(content) < at + 8:
        return None
    effort.spend()
    kind, length = struct.unpack_from("<4sI", content, at)
    end = at + 8 + length
    if not kind.isascii() or not all(32 <= letter < 127 for letter in kind):
        return None
    if (certain or kind not in _WEBP_PIXELS) and end > len(content):
        return None
    behind = end + length % 2
    if certain and behind < len(content) and _webp_chunk(content, behind, effort, certain=False) is None:
        return None
    return _Part(kind, at, end)


def _chunks(
    content: bytes, at: int, chunk_at: Callable[..., _Part | None], needed: frozenset[bytes]
) -> Iterator[_Part]:
    """The chunks from `at` on. Behind one of a wrong length, the next certain one that is needed follows."""
    search_from = at  # behind the last part that was needed
    pattern = re.compile(b"|".join(sorted(needed)))
    kind_at, padding = (4, 0) if chunk_at is _png_chunk else (0, 1)
    effort = _Effort(_MAX_PARTS)
    while at < len(content):
        effort.spend()
        part = chunk_at(content, at, effort, certain=False)
        if part is None:
            found = pattern.finditer(content, search_from + kind_at)
            certain = (chunk_at(content, match.start() - kind_at, effort, certain=True) for match in found)
            part = next((chunk for chunk in certain if chunk), None)
        if part is None:
            return
        yield part
        at = part.end + (part.end - part.start) % 2 * padding
        if part.kind in needed:
            search_from = at


def gif_parts(content: bytes) -> PictureParts:
    """The screen with its palette, and the first picture with its transparency; comments and applications go.

    Raises:
        SyntaxError: No block in it is a picture.
    """
    screen_end = 13 + _palette_bytes(content[10:11])
    effort = _Effort(_MAX_PARTS)
    control, at = b"", screen_end
    while content[at : at + 1] == b"\x21":
        end = _sub_blocks_end(content, at + 2, effort)
        if content[at + 1 : at + 3] == b"\xf9\x04":
            control = content[at : at + 7] + b"\0"
        elif content[end : end + 1] not in (b"\x21", b"\x2c"):
            break
        at = end
    start, end = _gif_picture(content, at, effort)
    before = content[start - 8 : start]
    if start != at and before.startswith(b"\x21\xf9\x04") and before.endswith(b"\0"):
        control = before
    return PictureParts(content[:screen_end] + control + content[start:end] + b"\x3b", b"")


def _palette_bytes(packed: bytes) -> int:
    return 3 << (packed[0] & 7) + 1 if packed and packed[0] & 0x80 else 0


def _sub_blocks_end(content: bytes, at: int, effort: _Effort) -> int:
    """Behind the empty sub-block that ends those from `at` on; behind the file where none does."""
    while at < len(content) and content[at]:
        effort.spend()
        at += 1 + content[at]
    return at + 1


def _gif_picture(content: bytes, at: int, effort: _Effort) -> tuple[int, int]:
    """First and last byte of the next picture: at `at`, or behind an extension there whose length is wrong."""
    width, height = struct.unpack_from("<HH", content, 6)
    start = at
    while (start := content.find(b"\x2c", start)) >= 0:
        effort.spend()
        descriptor = content[start : start + 10]
        if len(descriptor) == 10:
            left, top, wide, high = struct.unpack_from("<HHHH", descriptor, 1)
            data = start + 10 + _palette_bytes(descriptor[9:])
            end = _sub_blocks_end(content, data + 1, effort)
            follows = content[end : end + 1] in (b"\x21", b"\x2c", b"\x3b", b"") and end <= len(content)
            inside = 0 < left + wide <= width and 0 < top + high <= height and 2 <= content[data : data + 1][0] <= 8
            if start == at or (inside and follows):
                return start, end
        elif start == at:
            break
        start += 1
    raise SyntaxError("no block in it is a picture")


def tiff_parts(content: bytes, tags: frozenset[int] | None = None) -> PictureParts:
    """The first directory with the tags that say how pixels are stored, in the place where it was.

    Args:
        tags: Others that are kept in place of those.

    Raises:
        EOFError: Its first directory should stand behind its end.
    """
    order = ">" if content.startswith(b"MM") else "<"
    is_big = content[2:4] in (b"+\0", b"\0+")
    offset_at, offset, count, entry_bytes = (8, "Q", "Q", 20) if is_big else (4, "I", "H", 12)
    try:
        (start,) = struct.unpack_from(order + offset, content, offset_at)
        (num_entries,) = struct.unpack_from(order + count, content, start)
    except struct.error:
        raise EOFError("its first directory is missing") from None
    first = start + struct.calcsize(count)
    num_entries = min(num_entries, max(0, len(content) - first) // entry_bytes)
    entries = [content[at : at + entry_bytes] for at in range(first, first + num_entries * entry_bytes, entry_bytes)]
    by_tag = {struct.unpack_from(order + "H", entry)[0]: entry for entry in entries if len(entry) == entry_bytes}
    if _is_one_sample(by_tag.get(277, b""), order):
        by_tag.pop(284, None)  # planes of one sample are pixels: Pillow would read them without their bits and colour
    kept = [entry for tag, entry in by_tag.items() if tag in (tags or _TIFF_PIXELS)]
    directory = struct.pack(order + count, len(kept)) + b"".join(kept) + struct.pack(order + offset, 0)
    mended = bytearray(content)
    mended[start : start + len(directory)] = directory
    return PictureParts(bytes(mended), b"")


def _is_one_sample(entry: bytes, order: str) -> bool:
    """Whether a directory's entry of SamplesPerPixel, a SHORT or LONG, says 1; it may be missing."""
    kind = struct.unpack_from(order + "H", entry, 2)[0] if entry else 3
    start = 12 if len(entry) == 20 else 8
    value = entry[start : start + (2 if kind == 3 else 4)]
    return not entry or int.from_bytes(value, "big" if order == ">" else "little") == 1


_TIFF_PIXELS = frozenset(
    {
        *(254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284),  # baseline, TIFF 6.0
        *(292, 293, 317, 320, 322, 323, 324, 325, 332, 333, 334, 336, 338, 339),  # fax, predictor, palette, tiles, inks
        *(347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),  # JPEG, luminance and chrominance
        50706,  # the version of DNG
    }
)


def only_orientation(exif: bytes) -> bytes:
    """An EXIF block without all tags but the orientation, in place; empty where it has no directory.

    Pillow brings every tag into memory, each of the size that it says: of 64 KB, a block can make 300 MB.
    """
    start = 6 if exif.startswith(b"Exif\0\0") else 0
    start += 6 if exif.startswith(b"Exif\0\0", start) else 0
    block = exif[start:]
    if not block.startswith((b"II", b"MM")):
        return b""
    try:
        return tiff_parts(block, _ORIENTATION).content
    except EOFError:
        return b""


_ORIENTATION = frozenset({274})


def jpeg_2000_parts(content: bytes) -> PictureParts:
    """All up to the end of the first codestream; boxes that follow it go, for OpenJPEG would read them."""
    at = 0
    while len(content) >= at + 16:
        length, kind, long_length = struct.unpack_from(">I4sQ", content, at)
        length = long_length if length == 1 else length
        if kind == b"jp2c":
            return PictureParts(content[: at + length] if length else content, b"")
        if length < 8:
            break
        at += length
    return PictureParts(content, b"")


PARTS: dict[str, Callable[[bytes], PictureParts]] = {
    "JPEG": jpeg_parts,
    "PNG": png_parts,
    "WebP": webp_parts,
    "GIF": gif_parts,
    "TIFF": tiff_parts,
    "JPEG 2000": jpeg_2000_parts,
}
"""By the name of the format. In BMP and PPM there is no metadata that a reader could trip over."""
