"""Mutators: a random source and the bytes of a sound file -> the bytes of one that is damaged in a way that its readers
get to see: parts are moved, repeated and mutated, and their lengths and checksums made right again, or wrong.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

NUMBERS = (
    *(0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 100, 127, 128, 255, 256, 1000, 4095, 4096, 0x7FFF, 0x8000, 0xFFFF),
    *(0x10000, 1 << 20, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, (1 << 64) - 1),
)
"""At the edges of what fields can hold."""
MAX_BYTES = 4 << 20
"""No mutant is larger."""


def raw(rng: Random, data: bytes, *, first: int = 0, last: int | None = None) -> bytes:
    """One to four damages without knowledge of structure, which begin between two offsets."""
    mutant = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        end = len(mutant) if last is None else min(last, len(mutant))
        at = rng.randrange(first, end) if end > first else len(mutant)
        length = rng.choice((1, 1, 2, 4, 8, 16, 64, 512))
        rng.choice(_RAW)(rng, mutant, at, length)
    return bytes(mutant[:MAX_BYTES])


def _flip(rng: Random, data: bytearray, at: int, length: int) -> None:
    if at < len(data):
        data[at] ^= 1 << rng.randrange(8)


def _set(rng: Random, data: bytearray, at: int, length: int) -> None:
    data[at : at + length] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))]) * min(
        length, len(data) - at
    )


def _number(rng: Random, data: bytearray, at: int, length: int) -> None:
    width = rng.choice((1, 2, 4, 8))
    number = rng.choice(NUMBERS) % (1 << 8 * width)
    data[at : at + width] = number.to_bytes(width, rng.choice(("big", "little")))


def _noise(rng: Random, data: bytearray, at: int, length: int) -> None:
    data[at : at + length] = rng.randbytes(length)


def _cut(rng: Random, data: bytearray, at: int, length: int) -> None:
    del data[at:]


def _remove(rng: Random, data: bytearray, at: int, length: int) -> None:
    del data[at : at + length]


def _insert(rng: Random, data: bytearray, at: int, length: int) -> None:
    data[at:at] = rng.randbytes(length)


def _repeat(rng: Random, data: bytearray, at: int, length: int) -> None:
    data[at:at] = data[at : at + length] * min(rng.choice((1, 2, 10, 1000)), 1 + (MAX_BYTES - len(data)) // length)


def _add(rng: Random, data: bytearray, at: int, length: int) -> None:
    if at < len(data):
        data[at] = (data[at] + rng.randrange(-16, 17)) % 256


_RAW: tuple[Callable[[Random, bytearray, int, int], None], ...] = (
    *(_flip, _flip, _set, _number, _number, _noise, _cut, _remove, _insert, _repeat, _add),
)


class Part(NamedTuple):
    """A chunk, segment, box or element."""

    kind: bytes
    content: bytes


def parts(
    rng: Random,
    found: Sequence[Part],
    build: Callable[[Part], bytes],
    inside: Callable[[Random, Part], bytes] | None = None,
) -> bytes:
    """The parts again, one to three times damaged.

    Args:
        build: Makes the bytes of a part, with a right length and checksum.
        inside: Damages the content of a part; None knows nothing of it.
    """
    pieces: list[Part | bytes] = list(found)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not pieces:
            break
        at = rng.randrange(len(pieces))
        piece = pieces[at]
        if isinstance(piece, bytes):
            continue
        pieces[at : at + 1] = _damaged(rng, piece, pieces, build, inside)
    built = b"".join(piece if isinstance(piece, bytes) else build(piece) for piece in pieces)
    return built[:MAX_BYTES] if rng.random() < 0.95 else raw(rng, built)


def _damaged(
    rng: Random,
    part: Part,
    others: Sequence[Part | bytes],
    build: Callable[[Part], bytes],
    inside: Callable[[Random, Part], bytes] | None,
) -> list[Part | bytes]:
    """What stands in the place of a part."""
    choice = rng.randrange(10)
    if choice < 4 and inside is not None:
        return [Part(part.kind, inside(rng, part))]
    if choice < 5:
        return [Part(part.kind, raw(rng, part.content))]
    if choice == 5:
        return [part, *[rng.choice(others)] * rng.choice((1, 1, 2, 300))]
    if choice == 6:
        return []
    if choice == 7:  # a wrong length or checksum, for `build` put it right
        return [raw(rng, build(part), last=12)]
    if choice == 8:
        other = rng.choice(others)
        return [Part(other.kind if isinstance(other, Part) else raw(rng, part.kind), part.content)]
    return [Part(part.kind, part.content[: rng.randrange(len(part.content) + 1)])]


# ---- numbers in the fields of a structure ----


def field(rng: Random, data: bytes, layout: str, at: int) -> bytes:
    """Another number in a field of a layout of `struct`."""
    size = struct.calcsize(layout)
    if at + size > len(data):
        return data
    (old,) = struct.unpack_from(layout, data, at)
    new = rng.choice((rng.choice(NUMBERS), old + 1, max(0, old - 1), old * 2, rng.randrange(1 << 8 * size)))
    packed = (new % (1 << 8 * size)).to_bytes(size, "big" if layout[0] == ">" else "little")
    return data[:at] + packed + data[at + size :]


# ---- JSON ----

_ODD = (
    *(None, True, False, 0, -1, 1.5, 1e308, 2**31, 2**63, -(2**63), 2**64, 10**30, "", "0", "x" * 5000, "\0", "\ud800"),
    *("../../../etc/passwd", "/etc/passwd", "-", "nan", [], [[]], [0], {}, {"": {}}, [None] * 100, {"a": 1}),
)


def json_value(rng: Random, value: object) -> object:
    """A value of JSON with one thing in it changed, dropped, doubled or replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        changed = dict(value)
        choice = rng.randrange(6)
        if choice == 0:
            del changed[key]
        elif choice == 1:
            changed[str(rng.choice(_ODD))] = changed.pop(key)
        else:
            changed[key] = json_value(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        choice = rng.randrange(4)
        if choice == 0:
            return value[:at] + value[at + 1 :]
        if choice == 1:
            return value + [value[at]] * rng.choice((1, 3, 1000))
        return [*value[:at], json_value(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
        return rng.choice((value + 1, value - 1, -value, value * 1000, rng.choice(NUMBERS)))
    return rng.choice(_ODD)


def json_text(rng: Random, text: bytes) -> bytes:
    """JSON text, mutated as a value or as bytes; now and then nested deeper than parsers go."""
    choice = rng.random()
    if choice < 0.75:
        return json.dumps(json_value(rng, json.loads(text))).encode("utf-8", "surrogatepass")
    if choice < 0.8:
        depth = rng.choice((100, 1000, 100_000))
        return rng.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth))
    return raw(rng, text)


def with_crc(kind: bytes, content: bytes) -> bytes:
    """A chunk of PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# ---- judging ----


def told(error: Exception) -> str:
    """The name of a documented error, whose message is a sentence and not a page."""
    assert 10 < len(str(error)) < 5000, f"a message of {len(str(error))} characters"
    return str(getattr(error, "error_type", type(error).__name__))


def other_byte(rng: Random, data: bytes, first: int, last: int) -> bytes:
    """One byte from `first` to before `last` is another one."""
    mutant = bytearray(data)
    mutant[rng.randrange(first, last)] ^= rng.randrange(1, 256)
    return bytes(mutant)
