"""Pictures: sound ones of every format, and mutators that know their chunks, segments, directories and boxes."""

from __future__ import annotations

import contextlib
import functools
import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.boxes import boxes, build_chunk, split_chunks
from tests.fuzz.mutate import Part, field, other_byte, parts, raw, told, with_crc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

MAX_PIXELS = 1_000_000
GOLDEN = Path(__file__).parents[1] / "golden"


# ---- sound files ----


def saved(file_format: str, *variants: dict[str, object]) -> Callable[[], Iterator[bytes]]:
    """Makes pictures of a format, one for each set of Pillow's options; `mode` and `frames` are ours."""

    def seeds() -> Iterator[bytes]:
        from PIL import Image

        from tests.pictures import quadrants

        exif = Image.Exif()
        exif[0x0112] = 6
        for variant in variants:
            options = dict(variant)
            picture = quadrants(96, 64).convert(str(options.pop("mode", "RGB")))
            if frames := options.pop("frames", 0):
                options |= {"save_all": True, "append_images": [picture.rotate(90)] * int(str(frames))}
            if options.pop("exif", False):
                options["exif"] = exif
            file = io.BytesIO()
            picture.save(file, file_format, **options)
            yield file.getvalue()

    return seeds


def plain_ppms() -> Iterator[bytes]:
    from tests.pictures import quadrants

    picture = quadrants(24, 16)
    numbers = " ".join(map(str, picture.tobytes()))
    yield f"P3\n# a comment\n24 16\n255\n{numbers}\n".encode()
    yield b"P1\n24 16\n" + b"01" * 192 + b"\n"
    yield from saved("PPM", {}, {"mode": "L"}, {"mode": "1"}, {"mode": "I;16"})()


def bmps() -> Iterator[bytes]:
    yield from saved("BMP", {}, {"mode": "P"}, {"mode": "1"}, {"mode": "RGBA"})()
    for bits, compression in ((8, 1), (4, 2)):
        palette = bytes(range(4 * (1 << bits) % 256 or 64)) * 64
        palette = palette[: 4 << bits]
        lines = (b"\x10\x01\x08\x02\x00\x00" * 4 + b"\x00\x03\x01\x02\x03\x00\x00\x02\x04\x01\x20\x03\x00\x00") * 4
        data = lines + b"\0\1"
        header = struct.pack("<IiiHHIIiiII", 40, 24, 24, 1, bits, compression, len(data), 0, 0, 0, 0)
        start = 14 + len(header) + len(palette)
        yield struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + header + palette + data


def heics() -> Iterator[bytes]:
    for path in sorted(GOLDEN.glob("*.heic")):
        yield path.read_bytes()


# ---- mutators ----


def png(rng: Random, data: bytes) -> bytes:
    found, at = [], 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append(Part(kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return data[:8] + parts(rng, found, lambda part: with_crc(*part), _in_png)


def _in_png(rng: Random, part: Part) -> bytes:
    if part.kind == b"IHDR":
        layout, at = rng.choice(((">I", 0), (">I", 4), (">B", 8), (">B", 9), (">B", 10), (">B", 11), (">B", 12)))
        return field(rng, part.content, layout, at)
    if part.kind == b"IDAT":
        try:
            pixels = zlib.decompress(part.content)
        except zlib.error:
            return raw(rng, part.content)
        return zlib.compress(raw(rng, pixels), rng.choice((0, 1, 9)))
    return raw(rng, part.content)


def png_data(rng: Random, data: bytes) -> bytes:
    """A byte of the pixels is another one, and no checksum knows."""
    start = data.index(b"IDAT") + 4
    (length,) = struct.unpack_from(">I", data, start - 8)
    return other_byte(rng, data, start, start + length)


def jpeg(rng: Random, data: bytes) -> bytes:
    found, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind = data[at : at + 2]
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        found.append(Part(kind, data[at + 4 : end]))
        at = end
        if kind == b"\xff\xda":
            end = next((i for i in range(at, len(data) - 1) if data[i] == 0xFF and data[i + 1] not in _IN_SCAN), at)
            found.append(Part(b"", data[at:end]))
            at = end
    mutant = data[:2] + parts(rng, found, _segment, _in_jpeg) + data[at:]
    return mutant if rng.random() < 0.9 else raw(rng, mutant)


_IN_SCAN = {0, *range(0xD0, 0xD8)}


def _segment(part: Part) -> bytes:
    if not part.kind:
        return part.content
    return part.kind + struct.pack(">H", min(0xFFFF, len(part.content) + 2)) + part.content[:0xFFFD]


def _in_jpeg(rng: Random, part: Part) -> bytes:
    if part.kind in (b"\xff\xc0", b"\xff\xc2"):
        at = rng.randrange(len(part.content))
        layout, at = rng.choice(((">B", 0), (">H", 1), (">H", 3), (">B", 5), (">B", at), (">B", at)))
        return field(rng, part.content, layout, at)
    return raw(rng, part.content)


def webp(rng: Random, data: bytes) -> bytes:
    body = parts(rng, split_chunks(data[12:]), build_chunk)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def gif(rng: Random, data: bytes) -> bytes:
    if rng.random() < 0.4:
        at = rng.choice((6, 8, 10, 11, 12))
        return field(rng, data, rng.choice(("<H", "<B")), at)
    comma = data.find(b"\x2c", 13)
    if rng.random() < 0.4 and comma > 0:
        return field(rng, data, "<H", comma + rng.choice((1, 3, 5, 7, 9, 10)))
    return raw(rng, data)


def tiff(rng: Random, data: bytes) -> bytes:
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    start = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)[0]
    count_bytes, entry_bytes = (8, 20) if is_big else (2, 12)
    num_entries = int.from_bytes(data[start : start + count_bytes], "little" if order == "<" else "big")
    mutant = data
    for _ in range(rng.choice((1, 1, 2, 3))):
        entry = start + count_bytes + rng.randrange(max(1, num_entries)) * entry_bytes
        choice = rng.randrange(8)
        if choice < 4:
            value_at = entry + (12 if is_big else 8)
            mutant = field(rng, mutant, order + rng.choice("HI"), value_at)
        elif choice == 4:
            mutant = field(rng, mutant, order + ("Q" if is_big else "I"), entry + 4)
        elif choice == 5:
            mutant = field(rng, mutant, order + "H", entry + rng.choice((0, 2)))
        elif choice == 6:
            mutant = field(rng, mutant, order + ("Q" if is_big else "H"), start)
        else:
            mutant = raw(rng, mutant)
    return mutant


def bmp(rng: Random, data: bytes) -> bytes:
    layout, at = rng.choice((("<I", 10), ("<I", 14), ("<I", 18), ("<I", 22), ("<H", 26), ("<H", 28), ("<I", 30)))
    mutant = field(rng, data, layout, at) if rng.random() < 0.5 else raw(rng, data)
    return mutant if rng.random() < 0.5 else raw(rng, mutant)


def ppm(rng: Random, data: bytes) -> bytes:
    words = data.split(None, 4)
    at = rng.randrange(min(4, len(words)))
    choice = rng.random()
    if choice < 0.5:
        words[at] = rng.choice((b"0", b"-1", b"9" * 9, b"9" * 30, b"65536", b"1", b"#", b"P6", b"# " + b"x" * 3000))
        return b"\n".join(words)
    if choice < 0.6:
        return data + b"#\n" * rng.choice((10, 20_000))
    return raw(rng, data)


def heif(rng: Random, data: bytes) -> bytes:
    return boxes(rng, data)


def jpeg_2000(rng: Random, data: bytes) -> bytes:
    start = data.find(b"\xff\x4f\xff\x51")
    choice = rng.random()
    if choice < 0.3 and start > 0:
        return boxes(rng, data)
    if choice < 0.8:
        at = start + rng.randrange(2, 110)
        return field(rng, data, rng.choice((">B", ">H", ">I")), at)
    return raw(rng, data)


# ---- judging ----


def judge(data: bytes, folder: Path) -> str:
    """What `decode` makes of a picture."""
    from motivnet_cli.errors import InputError
    from motivnet_cli.inputs.decode import decode_bytes

    try:
        _as_in_a_run()
        rgb = decode_bytes(data, max_pixels=MAX_PIXELS).rgb
    except InputError as error:
        return told(error)
    height, width, channels = rgb.shape
    assert channels == 3, rgb.shape
    assert 0 < height * width <= MAX_PIXELS, rgb.shape
    assert rgb.dtype == "uint8", rgb.dtype
    return "ok"


@functools.cache
def _as_in_a_run() -> contextlib.ExitStack:
    """Set Pillow up as a run does, once in a process."""
    from motivnet_cli.inputs.pillow import decoding_settings

    settings = contextlib.ExitStack()
    settings.enter_context(decoding_settings())
    return settings


def judge_checksum(data: bytes, folder: Path) -> str:
    """As `judge`: pixels that are read must be those of the sound file."""
    label = judge(data, folder)
    assert label != "ok", "pixels that do not fit their checksum were read"
    return label
