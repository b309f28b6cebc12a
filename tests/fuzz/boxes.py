"""Containers of nested parts: boxes of ISO base media (MP4, HEIC, AVIF, JPEG 2000), elements of EBML, chunks of RIFF,
packets of transport streams.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.fuzz.mutate import NUMBERS, Part, parts, raw

if TYPE_CHECKING:
    from random import Random

_BOXES = {
    **dict.fromkeys((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"iprp", b"ipco", b"mvex"), 0),
    **dict.fromkeys((b"moof", b"traf", b"udta", b"jp2h"), 0),
    **{b"meta": 4, b"stsd": 8, b"dref": 8, b"iinf": 6},
}
"""Boxes that hold boxes, and how many bytes stand before these."""


def split_boxes(data: bytes) -> list[Part]:
    found, at = [], 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1 and at + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        length = length or len(data) - at
        if length < head:
            break
        found.append(Part(kind, data[at + head : at + length]))
        at += length
    return found


def build_box(part: Part) -> bytes:
    return struct.pack(">I", 8 + len(part.content)) + part.kind[:4].ljust(4) + part.content


def boxes(rng: Random, data: bytes) -> bytes:
    """Boxes at any depth; what refers to bytes of the file by their place then mostly refers to others."""
    found = split_boxes(data)
    return parts(rng, found, build_box, _in_box) if found else raw(rng, data)


def _in_box(rng: Random, part: Part) -> bytes:
    head = _BOXES.get(part.kind)
    if head is not None and rng.random() < 0.9:
        return part.content[:head] + boxes(rng, part.content[head:])
    return raw(rng, part.content)


def fields_of_boxes(rng: Random, data: bytes) -> bytes:
    """Another number in a box of the index, at its place: offsets stay right."""
    wanted = (
        b"tkhd",
        b"mdhd",
        b"stsd",
        b"stts",
        b"ctts",
        b"stsc",
        b"stsz",
        b"stco",
        b"elst",
        b"avcC",
        b"stss",
        b"mvhd",
    )
    starts = [at for kind in wanted if (at := data.find(kind)) > 0]
    if not starts:
        return raw(rng, data)
    start = rng.choice(starts) + 4
    return raw(rng, data, first=start, last=start + rng.choice((8, 24, 80)))


# ---- EBML ----

_MASTERS = {
    bytes.fromhex(name)
    for name in (
        "1a45dfa3",
        "18538067",
        "1654ae6b",
        "ae",
        "1f43b675",
        "a0",
        "114d9b74",
        "1c53bb6b",
        "e0",
        "1549a966",
        "bb",
    )
}


def elements(rng: Random, data: bytes) -> bytes:
    found = _split_elements(data)
    return parts(rng, found, _build_element, _in_element) if found else raw(rng, data)


def _in_element(rng: Random, part: Part) -> bytes:
    return elements(rng, part.content) if part.kind in _MASTERS and rng.random() < 0.9 else raw(rng, part.content)


def _split_elements(data: bytes) -> list[Part]:
    found, at = [], 0
    while at < len(data):
        name_bytes = 9 - data[at].bit_length()
        size_at = at + name_bytes
        if name_bytes > 4 or size_at >= len(data):
            break
        size_bytes = 9 - data[size_at].bit_length()
        if size_bytes > 8:
            break
        size = int.from_bytes(data[size_at : size_at + size_bytes], "big") & ((1 << 7 * size_bytes) - 1)
        start = size_at + size_bytes
        if size == (1 << 7 * size_bytes) - 1:
            size = len(data) - start
        found.append(Part(data[at:size_at], data[start : start + size]))
        at = start + size
    return found


def _build_element(part: Part) -> bytes:
    return part.kind + (1 << 56 | len(part.content)).to_bytes(8, "big") + part.content


# ---- RIFF ----


def riff(rng: Random, data: bytes) -> bytes:
    """An AVI: its lists and chunks."""
    body = _riff_body(rng, data[12:])
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + data[8:12] + body


def split_chunks(data: bytes) -> list[Part]:
    """The chunks that stand one behind the other."""
    found, at = [], 0
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        found.append(Part(kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return found


def _riff_body(rng: Random, data: bytes) -> bytes:
    found = split_chunks(data)
    return parts(rng, found, build_chunk, _in_chunk) if found else raw(rng, data)


def _in_chunk(rng: Random, part: Part) -> bytes:
    if part.kind == b"LIST" and rng.random() < 0.9:
        return part.content[:4] + _riff_body(rng, part.content[4:])
    return raw(rng, part.content)


def build_chunk(part: Part) -> bytes:
    return part.kind[:4].ljust(4) + struct.pack("<I", len(part.content)) + part.content + bytes(len(part.content) % 2)


# ---- transport streams ----


def packets(rng: Random, data: bytes) -> bytes:
    found = [bytearray(data[at : at + 188]) for at in range(0, len(data), 188)]
    for _ in range(rng.choice((1, 2, 5, 20))):
        at = rng.randrange(len(found))
        packet = found[at]
        choice = rng.randrange(7)
        if choice == 0:
            del found[at : at + rng.choice((1, 3, 30))]
        elif choice == 1:
            found[at:at] = found[at : at + rng.choice((1, 3, 30))]
        elif choice == 2:
            found[at], found[-1] = found[-1], found[at]
        elif choice == 3 and len(packet) > 4:  # another program
            packet[1:3] = (rng.choice(NUMBERS) & 0xFFFF).to_bytes(2, "big")
        elif choice == 4 and len(packet) > 12:  # adaptation field, clock
            packet[3] |= 0x20
            packet[4:12] = rng.randbytes(8)
        else:
            found[at] = bytearray(raw(rng, bytes(packet), first=4))
        if not found:
            return b""
    return b"".join(map(bytes, found))
