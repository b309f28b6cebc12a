"""How pixels are stored: what is read has the values that were written, and the rest is refused.

The files are written here, byte by byte, and what they show is computed from their values alone.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from motivnet_cli.errors import InputError
from motivnet_cli.inputs.decode import decode_bytes

HEIGHT, WIDTH = 5, 7


def read(content):
    """The pixels as [H, W, 3] of int, or None where they are refused as `unsupported`."""
    try:
        return decode_bytes(content, max_pixels=10_000).rgb.astype(int)
    except InputError as error:
        if error.error_type != "unsupported":
            raise
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


def lzw(rows):
    """LZW (TIFF 6.0, section 13) by literal codes alone: the table is cleared before codes grow to 10 bits."""
    codes = [code for index, byte in enumerate(b"".join(rows)) for code in ([256] if index % 200 == 0 else []) + [byte]]
    bits = (np.array([*codes, 257])[:, None] >> np.arange(8, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8).ravel()).tobytes()


COMPRESSIONS = {
    1: b"".join,
    5: lzw,
    8: lambda rows: zlib.compress(b"".join(rows)),
    32773: lambda rows: b"".join(map(packed_bits, rows)),
}
"""TIFF's numbers of no compression, LZW, Deflate and PackBits."""


def differences(values, bits):
    """Predictor 2 (TIFF 6.0, section 14) of [H, W, C]."""
    return np.concatenate((values[:, :1], np.diff(values, axis=1)), axis=1) % (1 << bits)


def turned_bits(data):
    """Fill order 2: the first pixel lies in the lowest bits of a byte."""
    return np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()


def tiff(
    values,
    bits,
    photometric,
    *,
    order="<",
    planar=1,
    compression=1,
    tiled=False,
    sample_format=1,
    extra=(),
    predictor=1,
    fill_order=1,
    is_big=False,
    tags=None,
):
    """A TIFF of one strip or tile a plane; `tags` are more of them, by number."""
    channels = values.shape[2]
    stored = differences(values, bits) if predictor == 2 else values
    if tiled:
        stored = np.pad(stored, ((0, 16 - HEIGHT), (0, 16 - WIDTH), (0, 0)))
    planes = [stored] if planar == 1 else np.split(stored, channels, axis=2)
    rows = [rows_of(plane.reshape(len(plane), -1), bits, order) for plane in planes]
    parts = [COMPRESSIONS[compression](plane) for plane in rows]
    if fill_order == 2:
        parts = [turned_bits(part) for part in parts]
    all_tags = {258: [bits] * channels, 259: [compression], 262: [photometric], 266: [fill_order]}
    all_tags |= {277: [channels], 284: [planar], 317: [predictor], 339: [sample_format] * channels}
    all_tags |= {338: list(extra)} if extra else {}
    return tiff_of(parts, all_tags | (tags or {}), order=order, tiled=tiled, is_big=is_big)


def tiff_of(parts, tags, *, order="<", tiled=False, is_big=False):
    """A TIFF of the strips or tiles `parts`; all its tags are LONG, but those of more than one value SHORT."""
    head_bytes, offset, count, inline = (16, "Q", "Q", 8) if is_big else (8, "I", "H", 4)
    at = [head_bytes + sum(len(part) for part in parts[:index]) for index in range(len(parts))]
    lengths = [len(part) for part in parts]
    tags = {256: [WIDTH], 257: [HEIGHT]} | tags
    tags |= {322: [16], 323: [16], 324: at, 325: lengths} if tiled else {273: at, 278: tags[257], 279: lengths}
    body = b"".join(parts)
    entry_bytes = 4 + 2 * inline
    values_at = head_bytes + len(body) + struct.calcsize(f"={count}") + entry_bytes * len(tags) + inline
    entries, behind = b"", b""
    for tag, numbers in sorted(tags.items()):
        kind, letter = (3, "H") if len(numbers) > 1 else (4, "I")
        data = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        entries += struct.pack(f"{order}HH{offset}", tag, kind, len(numbers))
        if len(data) > inline:
            entries += struct.pack(f"{order}{offset}", values_at + len(behind))
            behind += data + bytes(len(data) % 2)
        else:
            entries += data.ljust(inline, b"\0")
    mark = b"II" if order == "<" else b"MM"
    version = struct.pack(f"{order}HHHQ", 43, 8, 0, 16 + len(body)) if is_big else b""
    head = mark + (version or struct.pack(f"{order}HI", 42, 8 + len(body)))
    return head + body + struct.pack(f"{order}{count}", len(tags)) + entries + bytes(inline) + behind


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


@pytest.mark.parametrize("bits", [1, 4, 8, 16])
@pytest.mark.parametrize(("photometric", "base"), [(0, 1), (1, 1), (2, 3), (5, 4)])
def test_tiff_of_unusual_storage_is_exact_or_refused(photometric, base, bits):
    """Differences in place of values, bits in reverse order, and BigTIFF."""
    read_kinds = set()
    for predictor, fill_order, is_big, planar, compression, order in itertools.product(
        (1, 2), (1, 2), (False, True), (1, 2), COMPRESSIONS, "<>"
    ):
        values = samples(bits, base)
        layout = {"planar": planar, "compression": compression, "order": order}
        layout |= {"predictor": predictor, "fill_order": fill_order, "is_big": is_big}
        rgb = read(tiff(values, bits, photometric, **layout))
        if rgb is not None:
            read_kinds.add((predictor, is_big, compression))
            assert np.abs(rgb - tiff_shows(values, bits, photometric, ())).max() < 3, layout
    if bits == 8:
        assert {(1, False, 5), (2, False, 5), (2, False, 8), (1, True, 1), (2, True, 5)} <= read_kinds


@pytest.mark.thorough
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_palette_tiff_is_exact_or_refused(bits):
    """Its colours have 16 bits; a palette that is too short, or of 8 bits, is refused."""
    palette = np.random.default_rng(bits).integers(0, 256, (3, 1 << bits))
    for extra, planar, compression, fill_order, is_big, order in itertools.product(
        ((), (2,)), (1, 2), (1, 5, 8), (1, 2), (False, True), "<>"
    ):
        values = samples(bits, 1 + len(extra))
        layout = {"planar": planar, "compression": compression, "order": order, "extra": extra}
        layout |= {"fill_order": fill_order, "is_big": is_big}
        rgb = read(tiff(values, bits, 3, **layout, tags={320: (palette * 257).ravel().tolist()}))
        if rgb is not None:
            alpha = values[:, :, 1:] / ((1 << bits) - 1) if extra else 1.0
            assert np.abs(rgb - on_white(palette.T[values[:, :, 0]] / 255, alpha)).max() < 3, layout
        else:
            assert bits in (2, 16) or extra or fill_order == 2 or (is_big and order == ">"), layout
    for wrong in (palette, palette[:, 1:] * 257):
        assert read(tiff(samples(bits, 1), bits, 3, tags={320: wrong.ravel().tolist()})) is None


def ycbcr_shows(values):
    """By the matrix of BT.601, in the full range of values."""
    y, cb, cr = np.moveaxis(values.astype(float) - [0, 128, 128], 2, 0)
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=2)
    return np.clip(rgb, 0, 255)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("tiled", [False, True])
def test_ycbcr_tiff_is_exact_or_refused(compression, planar, tiled):
    """Luminance and chrominance for each pixel; uncompressed is refused: Pillow before 13 misreads it."""
    values = samples(8, 3) // 2 + 64
    rgb = read(tiff(values, 8, 6, compression=compression, planar=planar, tiled=tiled, tags={530: [1, 1]}))

    assert (rgb is None) == (compression == 1)
    if rgb is not None:
        assert np.abs(rgb - ycbcr_shows(values)).max() < 3


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("photometric", [4, 9, 10, 32803, 32844, 32845, 34892])
def test_tiff_of_other_colours_is_refused(photometric, channels):
    """Masks, ICCLab, ITULab, colour filters, LogL, LogLuv and linear raw."""
    assert read(tiff(samples(8, channels), 8, photometric)) is None


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_lab_tiff(compression):
    """CIE L*a*b* of greys: a and b are signed, L* of 255 is white; the lightness is that of sRGB."""
    values = np.zeros((HEIGHT, WIDTH, 3), dtype=int)
    values[:, :, 0] = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 7
    lightness = values[:, :, 0] / 255 * 100
    linear = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    grey = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)

    assert np.abs(read(tiff(values, 8, 8, compression=compression)) - on_white(grey[:, :, None])).max() < 3


def smooth(channels):
    return np.stack(
        [60 + 20 * i + np.add.outer(4 * np.arange(HEIGHT), (3 + i) * np.arange(WIDTH)) for i in range(channels)], 2
    )


def jpeg_of(values, mode, *, subsampling=0, **options):
    file = io.BytesIO()
    bands = [
        Image.fromarray(np.ascontiguousarray(band))
        for band in np.moveaxis(np.atleast_3d(values), 2, 0).astype(np.uint8)
    ]
    Image.merge(mode, bands).save(file, "JPEG", quality=100, subsampling=subsampling, **options)
    return file.getvalue()


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize(("photometric", "channels"), [(0, 1), (1, 1), (2, 3), (6, 3)])
def test_jpeg_in_tiff_is_exact_or_refused(photometric, channels, planar, tiled):
    """The TIFF says what the components are, not the JPEG: see TIFF Technical Note 2."""
    values = smooth(channels)
    stored = np.pad(values, ((0, 16 - HEIGHT), (0, 16 - WIDTH), (0, 0)), "edge") if tiled else values
    if planar == 2:
        parts = [jpeg_of(stored[:, :, index], "L") for index in range(channels)]
    else:
        parts = [
            jpeg_of(
                stored,
                *(("L",) if channels == 1 else ("YCbCr",) if photometric == 6 else ("RGB",)),
                keep_rgb=photometric == 2,
            )
        ]
    tags = {258: [8] * channels, 259: [7], 262: [photometric], 277: [channels], 284: [planar], 530: [1, 1]}
    rgb = read(tiff_of(parts, tags, tiled=tiled))
    shows = ycbcr_shows(values) if photometric == 6 else tiff_shows(values, 8, photometric, ())

    assert rgb is not None
    assert np.abs(rgb - shows).max() < 6


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize(("subsampling", "said"), list(itertools.product(range(3), ([1, 1], [2, 1], [2, 2]))))
def test_jpeg_of_reduced_chrominance_in_tiff_is_exact_or_refused(subsampling, said, tiled):
    """Also where the TIFF says another reduction than the JPEG has."""
    values = smooth(3)
    stored = np.pad(values, ((0, 16 - HEIGHT), (0, 16 - WIDTH), (0, 0)), "edge") if tiled else values
    part = jpeg_of(stored, "YCbCr", subsampling=subsampling)
    try:
        rgb = read(tiff_of([part], {258: [8] * 3, 259: [7], 262: [6], 277: [3], 284: [1], 530: said}, tiled=tiled))
    except InputError as error:
        assert error.error_type == "damaged"  # noqa: PT017 - it may also be read
        rgb = None

    assert rgb is not None or said != [[1, 1], [2, 1], [2, 2]][subsampling]
    if rgb is not None:
        assert np.abs(rgb - ycbcr_shows(values)).max() < 12


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("reduced", [(2, 1), (2, 2), (4, 2)])
@pytest.mark.parametrize("tiled", [False, True])
def test_ycbcr_tiff_of_reduced_chrominance_is_exact_or_refused(reduced, compression, tiled):
    """The luminance of a block is followed by its chrominance (TIFF 6.0, section 21)."""
    across, down = reduced
    long = 16 if tiled else 8
    y = np.random.default_rng(1).integers(64, 192, (long, long))
    red, blue = np.random.default_rng(2).integers(64, 192, (2, long // down, long // across))
    rows = [
        b"".join(
            bytes([*y[top : top + down, left : left + across].ravel(), blue[top // down, left // across]])
            + bytes([red[top // down, left // across]])
            for left in range(0, long, across)
        )
        for top in range(0, long, down)
    ]
    tags = {256: [8], 257: [8], 258: [8] * 3, 259: [compression], 262: [6], 277: [3], 284: [1], 530: list(reduced)}
    rgb = read(tiff_of([COMPRESSIONS[compression](rows)], tags, tiled=tiled))
    whole = [np.kron(each, np.ones((down, across), int)) for each in (blue, red)]

    assert (rgb is None) == (compression == 1)
    if rgb is not None:
        assert np.abs(rgb - ycbcr_shows(np.stack([y, *whole], axis=2))[:8, :8]).max() < 3


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("transform", [0, 2])
def test_jpeg_of_inks(transform, progressive):
    """CMYK and YCCK, stored inverted as Adobe's segment says; without one, what its values mean is not known."""
    stored = smooth(4)  # cyan, magenta, yellow; or their luminance and chrominance
    content = jpeg_of(255 - stored, "CMYK", progressive=progressive)  # which Pillow inverts
    start = content.index(b"\xff\xee")
    adobe, rest = content[start : start + 16], content[start + 16 :]
    assert adobe[15] == 0
    inks = 255 - stored[:, :, :3] if transform == 0 else ycbcr_shows(stored[:, :, :3])
    shows = (255 - inks) * stored[:, :, 3:] / 255

    assert np.abs(read(content[:start] + adobe[:15] + bytes([transform]) + rest) - shows).max() < 6
    assert read(content[:start] + rest) is None


@pytest.mark.parametrize(("photometric", "channels"), [(1, 1), (2, 3), (5, 4)])
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("order", "<>")
def test_common_tiffs_are_read(photometric, channels, planar, order):
    """Eight bits in either order of bytes and in planes, and sixteen bits."""
    for bits, compression in ((8, 1), (8, 8), (16, 8), *(((16, 1),) if planar == 1 or channels == 1 else ())):
        content = tiff(samples(bits, channels), bits, photometric, planar=planar, order=order, compression=compression)
        assert read(content) is not None, (bits, compression)


@pytest.mark.parametrize("sample_format", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_signed_and_floating_point_tiffs_are_refused(sample_format, bits, channels):
    """Which of their values is white is not known."""
    photometric = {1: 1, 3: 2, 4: 5}[channels]
    for compression, planar in itertools.product((1, 5, 8), (1, 2)):
        layout = {"sample_format": sample_format, "compression": compression, "planar": planar}
        assert read(tiff(samples(bits, channels), bits, photometric, **layout)) is None


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


def palette_bmp(values, bits, palette, header_bytes, *, compression=0, data=None):
    """A BMP of palette entries, from the lowest row up."""
    if data is None:
        data = b"".join(row + bytes(-len(row) % 4) for row in rows_of(values[::-1, :, 0], bits, "<"))
    gap = bytes(header_bytes > 12)
    entries = b"".join(bytes(colour[::-1]) + gap for colour in palette.tolist())
    if header_bytes == 12:
        header = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        sizes = (WIDTH, HEIGHT, 1, bits, compression, len(data), 0, 0, len(palette), 0)
        header = struct.pack("<IiiHHIIiiII", header_bytes, *sizes) + bytes(header_bytes - 40)
    at = 14 + len(header) + len(entries)
    return struct.pack("<2sIHHI", b"BM", at + len(data), 0, 0, at) + header + entries + data


def run_lengths(values, bits):
    """RLE8 or RLE4: four values as they are and the others in runs of one."""
    first = {8: lambda row: bytes(row[:4]), 4: lambda row: bytes([row[0] << 4 | row[1], row[2] << 4 | row[3]])}[bits]
    runs = [b"\0\4" + first(row) + b"".join(bytes([1, v << 8 - bits]) for v in row[4:]) for row in values.tolist()]
    return b"\0\0".join(runs[::-1]) + b"\0\1"


@pytest.mark.parametrize("header_bytes", [12, 40, 64, 108, 124])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_bmp_is_exact_or_refused(bits, header_bytes):
    """Whole palettes and short ones, plain and in run lengths."""
    for num_colours in (1 << bits, *(() if header_bytes == 12 else (max(2, 1 << bits - 1),))):
        palette = np.random.default_rng(bits).integers(0, 256, (num_colours, 3))
        values = samples(bits, 1) % num_colours
        shows = palette[values[:, :, 0]]
        rgb = read(palette_bmp(values, bits, palette, header_bytes))
        assert (rgb is None) == (bits == 2)
        assert rgb is None or np.array_equal(rgb, shows)
        if bits >= 4 and header_bytes >= 40:
            packed = {"compression": {8: 1, 4: 2}[bits], "data": run_lengths(values[:, :, 0], bits)}
            assert np.array_equal(read(palette_bmp(values, bits, palette, header_bytes, **packed)), shows)
