"""How pixels are stored: what is read has the values that were written, and the rest is refused.

The files are written here, byte by byte, and what they show is computed from their values alone.
"""

from __future__ import annotations

import itertools
import struct
import zlib

import numpy as np
import pytest

from motivnet_cli.errors import InputError
from motivnet_cli.inputs.decode import decode_bytes

HEIGHT, WIDTH = 5, 7


def read(content):
    """The pixels as [H, W, 3] of int, or None where they are refused."""
    try:
        return decode_bytes(content, max_pixels=10_000).rgb.astype(int)
    except InputError:
        return None


def on_white(colour, alpha=1.0):
    """What a picture of values from 0 to 1 shows, as [H, W, 3] from 0 to 255."""
    return np.broadcast_to(colour * alpha + 1 - alpha, (HEIGHT, WIDTH, 3)) * 255


def samples(bits, channels):
    return np.random.default_rng(bits * 8 + channels).integers(0, 1 << bits, (HEIGHT, WIDTH, channels))


def rows_of(values, bits, order):
    """Each row of [H, N] as bytes, without gaps between its values."""
    if bits >= 8 and bits % 8 == 0:
        return [row.astype(f"{order}u{bits // 8}").tobytes() for row in values]
    split = [(row[:, None] >> np.arange(bits - 1, -1, -1)) & 1 for row in values]
    return [np.packbits(row.astype(np.uint8).ravel()).tobytes() for row in split]


def packed_bits(row):
    """PackBits (TIFF 6.0, section 9) by literal runs alone."""
    runs = [row[at : at + 128] for at in range(0, len(row), 128)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


COMPRESSIONS = {
    1: b"".join,
    8: lambda rows: zlib.compress(b"".join(rows)),
    32773: lambda rows: b"".join(map(packed_bits, rows)),
}
"""TIFF's numbers of no compression, Deflate and PackBits."""


def tiff(values, bits, photometric, *, order="<", planar=1, compression=1, tiled=False, sample_format=1, extra=()):
    """A TIFF of one strip or tile a plane."""
    channels = values.shape[2]
    planes = [values.reshape(HEIGHT, -1)] if planar == 1 else [values[:, :, index] for index in range(channels)]
    if tiled:
        planes = [np.pad(plane, ((0, 16 - HEIGHT), (0, plane.shape[1] // WIDTH * (16 - WIDTH)))) for plane in planes]
    parts = [COMPRESSIONS[compression](rows_of(plane, bits, order)) for plane in planes]
    at = [8 + sum(len(part) for part in parts[:index]) for index in range(len(parts))]
    lengths = [len(part) for part in parts]
    tags = {256: [WIDTH], 257: [HEIGHT], 258: [bits] * channels, 259: [compression], 262: [photometric]}
    tags |= {277: [channels], 284: [planar], 339: [sample_format] * channels}
    tags |= {322: [16], 323: [16], 324: at, 325: lengths} if tiled else {273: at, 278: [HEIGHT], 279: lengths}
    if extra:
        tags[338] = list(extra)
    body = b"".join(parts)
    values_at, entries, behind = 8 + len(body) + 2 + 12 * len(tags) + 4, b"", b""
    for tag, numbers in sorted(tags.items()):
        data = struct.pack(f"{order}{len(numbers)}I", *numbers)
        where = data if len(numbers) == 1 else struct.pack(f"{order}I", values_at + len(behind))
        behind += data if len(numbers) > 1 else b""
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + where
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}I", 8 + len(body)) + body
    return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + behind


def tiff_shows(values, bits, photometric, extra):
    base = {0: 1, 1: 1, 2: 3, 5: 4}[photometric]
    shares = values / ((1 << bits) - 1)
    colour = shares[:, :, :base]
    if photometric == 0:
        colour = 1 - colour
    elif photometric == 5:
        colour = (1 - colour[:, :, :3]) * (1 - colour[:, :, 3:])
    if extra == (1,):  # multiplied by its alpha already
        return np.minimum(on_white(0 * colour, shares[:, :, base:]) + on_white(colour), 255)
    return on_white(colour, shares[:, :, base:]) if extra == (2,) else on_white(colour)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16, 32])
@pytest.mark.parametrize(
    ("photometric", "base"), [(0, 1), (1, 1), (2, 3), (5, 4)], ids=["white is 0", "grey", "rgb", "cmyk"]
)
def test_tiff_is_exact_or_refused(photometric, base, bits):
    """Alpha, planes, compressions, tiles and byte orders: no combination gives other values."""
    for extra, planar, compression, tiled, order in itertools.product(
        ((), (0,), (1,), (2,)), (1, 2), COMPRESSIONS, (False, True), "<>"
    ):
        values = samples(bits, base + len(extra))
        layout = {"planar": planar, "compression": compression, "tiled": tiled, "order": order, "extra": extra}
        rgb = read(tiff(values, bits, photometric, **layout))
        if rgb is not None:
            assert np.abs(rgb - tiff_shows(values, bits, photometric, extra)).max() < 3, layout


@pytest.mark.parametrize(("photometric", "channels"), [(1, 1), (2, 3), (5, 4)])
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("order", "<>")
def test_common_tiffs_are_read(photometric, channels, planar, order):
    """Eight bits in either order of bytes and in planes, and sixteen bits."""
    for bits, compression in ((8, 1), (8, 8), (16, 8), *(((16, 1),) if planar == 1 or channels == 1 else ())):
        content = tiff(samples(bits, channels), bits, photometric, planar=planar, order=order, compression=compression)
        assert read(content) is not None, (bits, compression)


@pytest.mark.parametrize("sample_format", [2, 3])
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_signed_and_floating_point_tiffs_are_refused(sample_format, bits, channels):
    """Which of their values is white is not known."""
    content = tiff(samples(bits, channels), bits, 1 if channels == 1 else 2, sample_format=sample_format)

    assert read(content) is None


def png(values, bits, colour_type, *, transparency=b"", palette=b""):
    """A PNG without row filters."""
    data = zlib.compress(b"".join(b"\0" + row for row in rows_of(values.reshape(HEIGHT, -1), bits, ">")))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), (b"PLTE", palette), (b"tRNS", transparency), (b"IDAT", data)]
    chunks = [kind + part for kind, part in parts if part] + [b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("key", range(4))
def test_grey_png_with_a_transparent_value(bits, key):
    """The transparent value is one of as many bits as the pixels have."""
    values = samples(bits, 1)
    transparent = values[1, key]
    rgb = read(png(values, bits, 0, transparency=struct.pack(">H", *transparent)))

    assert np.abs(rgb - on_white(values / ((1 << bits) - 1), (values != transparent) * 1.0)).max() < 1


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("num_alphas", [0, 1, 2])
def test_palette_png(bits, num_alphas):
    """Transparency is given to the first entries of a palette; the others are opaque."""
    values = samples(bits, 1)
    palette = np.random.default_rng(1).integers(0, 256, (1 << bits, 3))
    alphas = np.array([40, 0][:num_alphas] + [255] * ((1 << bits) - num_alphas))
    content = png(values, bits, 3, transparency=bytes([40, 0][:num_alphas]), palette=palette.astype(np.uint8).tobytes())

    assert np.abs(read(content) - on_white(palette[values[:, :, 0]] / 255, alphas[values] / 255)).max() < 1


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
def test_png_of_whole_bytes(colour_type, bits):
    """Grey and colour, with alpha and without."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    values = samples(bits, channels)
    shares = values / ((1 << bits) - 1)
    expected = on_white(shares[:, :, :-1], shares[:, :, -1:]) if channels in (2, 4) else on_white(shares)

    assert np.abs(read(png(values, bits, colour_type)) - expected).max() < 1.5


def test_png_with_a_transparent_colour():
    """One of 8 bits is laid on white; one of 16 bits is refused, for its pixels are brought to 8 bits first."""
    values = samples(8, 3)
    key = struct.pack(">3H", *values[2, 2])
    expected = on_white(values / 255, 1.0 - (values == values[2, 2]).all(axis=2, keepdims=True))

    assert np.abs(read(png(values, 8, 2, transparency=key)) - expected).max() < 1
    assert read(png(samples(16, 3), 16, 2, transparency=key)) is None


def bmp(values, masks, bits, header_bytes):
    """A BMP with bit fields; `masks` are those of red, green, blue and alpha. [H, W, 4] of 0 to 255."""
    words = np.zeros((HEIGHT, WIDTH), dtype=np.uint64)
    for channel, mask in enumerate(masks):
        if mask:
            shift, largest = shift_and_largest(mask)
            words |= np.rint(values[:, :, channel] / 255 * largest).astype(np.uint64) << np.uint64(shift)
    gap = bytes(-WIDTH * bits // 8 % 4)
    data = b"".join(row.astype(f"<u{bits // 8}").tobytes() + gap for row in words[::-1])
    fields = struct.pack("<4I", *masks)
    fields = fields[:12] if header_bytes == 40 else fields + bytes(header_bytes - 56)
    header = struct.pack("<IiiHHIIiiII", header_bytes, WIDTH, HEIGHT, 1, bits, 3, len(data), 0, 0, 0, 0) + fields
    return struct.pack("<2sIHHI", b"BM", 14 + len(header) + len(data), 0, 0, 14 + len(header)) + header + data


def shift_and_largest(mask):
    shift = (mask & -mask).bit_length() - 1
    return shift, mask >> shift


def bmp_shows(values, masks):
    shares = np.ones((HEIGHT, WIDTH, 4))
    for channel, mask in enumerate(masks):
        if mask:
            _, largest = shift_and_largest(mask)
            shares[:, :, channel] = np.rint(values[:, :, channel] / 255 * largest) / largest
    has_alpha = masks[3] and shares[:, :, 3].any()
    return on_white(shares[:, :, :3], shares[:, :, 3:]) if has_alpha else on_white(shares[:, :, :3])


BYTES = (0xFF, 0xFF00, 0xFF0000, 0xFF000000)
MASKS = [
    *((32, masks) for masks in itertools.permutations(BYTES)),
    *((32, (*masks, 0)) for masks in itertools.permutations(BYTES, 3)),
    (32, (0x3FF00000, 0xFFC00, 0x3FF, 0)),
    *((16, masks) for masks in ((0xF800, 0x7E0, 0x1F, 0), (0x7C00, 0x3E0, 0x1F, 0), (0x1F, 0x7E0, 0xF800, 0))),
    *((16, masks) for masks in ((0x7C00, 0x3E0, 0x1F, 0x8000), (0xF00, 0xF0, 0xF, 0), (0xF00, 0xF0, 0xF, 0xF000))),
]


@pytest.mark.parametrize("header_bytes", [40, 56, 108, 124])
@pytest.mark.parametrize("is_opaque", [False, True])
def test_bmp_is_exact_or_refused(header_bytes, is_opaque):
    """Every order of bytes and the usual ones of bits; alpha that is 0 everywhere is none."""
    was_read = set()
    for bits, masks in MASKS:
        if header_bytes == 40 and masks[3]:
            continue  # this header has no place for it
        values = samples(8, 4)
        values[:, :, 3] *= not is_opaque
        rgb = read(bmp(values, masks, bits, header_bytes))
        if rgb is not None:
            was_read.add(masks)
            assert np.abs(rgb - bmp_shows(values, masks)).max() < 5, [hex(mask) for mask in masks]
    assert {(0xFF0000, 0xFF00, 0xFF, 0), (0xF800, 0x7E0, 0x1F, 0)} < was_read


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_of_0_everywhere_is_none(channels):
    """Programs that write four bytes a pixel leave the fourth 0; one pixel that is not 0 makes it an alpha."""
    values = samples(8, channels)
    values[:, :, -1] = 0
    colour_type = {2: 4, 4: 6}[channels]
    assert np.abs(read(png(values, 8, colour_type)) - on_white(values[:, :, :-1] / 255)).max() < 1

    values[0, 0, -1] = 1
    assert np.count_nonzero(read(png(values, 8, colour_type)) < 255) <= 3
