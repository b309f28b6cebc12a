"""What pixels are not made from can be wrong in any way without harm to a picture."""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from motivnet_cli.errors import InputError
from motivnet_cli.inputs.decode import decode_bytes
from tests.pictures import quadrants, saved

NUM_MUTATIONS = 200
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>' + b"nothing, said at length " * 20 + b"</rdf:RDF></x:xmpmeta>"


def rgb_of(content):
    return decode_bytes(content, max_pixels=100_000_000).rgb


def error_type_of(content):
    with pytest.raises(InputError) as caught:
        rgb_of(content)
    return caught.value.error_type


@functools.cache  # the time of its making stands in it
def profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif():
    block = Image.Exif()
    block[0x010F] = "A camera"
    block[0x0131] = "A program of a long name"
    return block.tobytes()


def span(content, part, *, before=0):
    """The range of bytes in which `part` lies, with the bytes `before` it."""
    start = content.index(part)
    return range(start - before, start + len(part))


def jpeg():
    content = saved("JPEG", quality=95, exif=exif(), icc_profile=profile(), comment=b"a comment " * 30, xmp=XMP)
    parts = (b"JFIF\0", exif(), profile(), b"a comment " * 30, XMP[:200])
    return content, [index for part in parts for index in span(content, part, before=2)]


def png():
    text = PngInfo()
    text.add_text("Title", "nothing " * 30)
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    content = saved("PNG", exif=exif(), icc_profile=profile(), pnginfo=text, dpi=(72, 72))
    spans, at = [], 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        if content[at + 4 : at + 8] not in (b"IHDR", b"IDAT", b"IEND"):
            spans += range(at, at + 12 + length)
        at += 12 + length
    return content, spans


def webp():
    content = saved("WEBP", lossless=True, exif=exif(), icc_profile=profile(), xmp=XMP)
    return content, [i for part in (profile(), exif()[6:], XMP) for i in span(content, part, before=8)]


def gif():
    content = saved("GIF", comment=b"a comment " * 60)
    start = content.index(b"\x21\xfe")
    return content, range(start + 2, start + 2 + 603)


def tiff():
    content = saved("TIFF", compression="tiff_lzw", icc_profile=profile(), description="nothing " * 30, dpi=(72, 72))
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    entries = range(start + 2, start + 2 + 12 * count, 12)
    unused = [at for at in entries if struct.unpack_from("<H", content, at)[0] in (270, 282, 283, 296, 34675)]
    assert len(unused) == 5
    return content, [i for at in unused for i in range(at + 2, at + 12)] + list(span(content, profile()))


def bmp():
    content = saved("BMP", dpi=(72, 72))
    return content, [*range(2, 10), *range(34, 46)]  # lengths of file and pixels among them


def avif():
    content = saved("AVIF", quality=90, exif=exif(), icc_profile=profile(), xmp=XMP)
    return content, [i for part in (profile(), exif()[6:], XMP) for i in span(content, part)]


def box(kind, data):
    return struct.pack(">I4s", 8 + len(data), kind) + data


def heic():
    """Pillow writes none: one from `tests/golden` is given XMP in a box of its own, and free space."""
    content = (Path(__file__).parent / "golden" / "quadrants.heic").read_bytes()
    content += box(b"uuid", bytes(16) + XMP) + box(b"free", exif())
    return content, [i for part in (bytes(16) + XMP, exif()) for i in span(content, part)]


def heic_of_camera():
    """Turned by a property, as its EXIF item says too; with a name, XMP and free space inside the `meta` box."""
    content = (Path(__file__).parent / "golden" / "quadrants-turned.heic").read_bytes()
    start, item = content.index(b"meta") - 4, content.index(b"Exif\0\0MM")
    end = start + int.from_bytes(content[start : start + 4], "big")
    more = box(b"uuid", bytes(16) + XMP) + box(b"free", b"nothing " * 30)
    head = content[:start] + struct.pack(">I", end - start + len(more)) + content[start + 4 : end]
    for offset in (492, 895):  # of the picture and of its EXIF, in the `iloc` box
        head = head.replace(struct.pack(">I", offset), struct.pack(">I", offset + len(more)))
    content = head + more + content[end:]
    name = content.index(b"hdlr") + 28  # behind the kind: reserved, and the name of the handler
    return content, [
        *range(name - 12, name + 1),
        *span(content, more[8:-248]),
        *range(item + len(more) + 6, len(content)),
    ]


def jpeg_2000():
    content = saved("JPEG2000", comment="nothing " * 30)
    return content, span(content, b"nothing " * 30)


def ppm():
    content = saved("PPM")
    return content[:3] + b"# a comment\n" + content[3:], range(4, 14)


@pytest.mark.thorough
@pytest.mark.parametrize("make", [jpeg, png, webp, gif, tiff, bmp, avif, heic, heic_of_camera, jpeg_2000, ppm])
def test_mutations_of_metadata_leave_pixels_as_they_were(make):
    """One to eight bytes of metadata, lengths and checksums among them, are given any values."""
    content, metadata = make()
    expected = rgb_of(content)
    chance = random.Random(14)
    for _ in range(NUM_MUTATIONS):
        mutated = bytearray(content)
        for index in chance.sample(list(metadata), chance.choice([1, 1, 2, 8])):
            values = b"!A~" if make is ppm else range(256)  # a line's end would end the comment
            mutated[index] = chance.choice(values)
        assert np.array_equal(rgb_of(bytes(mutated)), expected), bytes(mutated).hex()


@pytest.mark.parametrize("make", [jpeg, png, webp])
@pytest.mark.parametrize("length", [0, 1, 3, 60_000])
def test_wrong_length_of_every_part(make, length):
    """Each part that is not needed says a length that is too small, or ends in the pixels or behind the file."""
    content, _ = make()
    content, expected = bytearray(content), rgb_of(content)
    if make is jpeg:
        at = content.index(b"\xff\xfe") + 2
        content[at : at + 2] = struct.pack(">H", length)
    elif make is png:
        at = content.index(b"iCCP") - 4
        content[at : at + 4] = struct.pack(">I", length)
    else:
        at = content.index(b"ICCP") + 4
        content[at : at + 4] = struct.pack("<I", length)

    assert np.array_equal(rgb_of(bytes(content)), expected)


@pytest.mark.parametrize("length", [1, 7, 2000, 1 << 31])
@pytest.mark.parametrize("make", [heic, jpeg_2000])
def test_wrong_length_of_a_box_behind_the_pixels(make, length):
    """Nothing that pixels are made from follows it."""
    content, _ = make()
    wrong = struct.pack(">I4s", length, b"free") + bytes(100)

    assert np.array_equal(rgb_of(content + wrong), rgb_of(content))


@pytest.mark.parametrize("length", [0, 2, 65_000])
def test_thumbnail_in_a_segment_of_wrong_length_is_not_the_picture(length):
    """The thumbnail of a camera is a whole JPEG inside the EXIF segment."""
    thumbnail = saved("JPEG", quadrants(16, 12).convert("L"))
    segment = b"\xff\xe1" + struct.pack(">H", length) + b"Exif\0\0II*\0" + thumbnail
    whole = saved("JPEG", quality=95)

    assert np.array_equal(rgb_of(whole[:2] + segment + whole[2:]), rgb_of(whole))


@pytest.mark.parametrize("num_bytes", [100_000, 3_000_000])
def test_large_texts_and_profiles(num_bytes):
    """Pillow has limits for them: a picture does not."""
    whole = saved("PNG")
    for kind, start in ((b"zTXt", b"Title\0\0"), (b"iCCP", b"profile\0\0")):
        chunk = kind + start + zlib.compress(bytes(num_bytes))
        added = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        assert np.array_equal(rgb_of(whole[:33] + added + whole[33:]), rgb_of(whole))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_orientation_in_xmp_is_not_used(file_format):
    """EXIF and the container say how a picture is turned."""
    xmp = XMP.replace(b"<rdf:RDF>", b'<rdf:RDF><rdf:Description tiff:Orientation="6"/>')
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    content = saved(file_format, **({"pnginfo": text} if file_format == "PNG" else {"xmp": xmp}))

    assert Image.open(io.BytesIO(content)).getexif()[0x0112] == 6
    assert rgb_of(content).shape == (48, 64, 3)


def test_metadata_of_jpeg_decide_no_colours():
    """Without an application segment, with a broken Adobe one and with JFIF the three components are YCbCr."""
    whole = saved("JPEG", quality=95)
    assert whole[2:4] == b"\xff\xe0"
    bare = whole[:2] + whole[20:]
    short = whole[:2] + b"\xff\xee\0\x0bAdobe\0\x64\0\0" + whole[20:]

    assert np.array_equal(rgb_of(bare), rgb_of(whole))
    assert np.array_equal(rgb_of(short), rgb_of(whole))


def test_adobe_segment_decides_colours():
    """A whole Adobe segment that says RGB is followed."""
    whole = saved("JPEG", quality=100, keep_rgb=True, subsampling=0)
    difference = np.abs(rgb_of(whole).astype(int) - np.asarray(quadrants()))

    assert difference.max() < 12


JPEGS = {
    "small": (quadrants(), {}),
    "large": (quadrants(1400, 1000), {"quality": 98}),
    "grey": (quadrants().convert("L"), {}),
    "restarts": (quadrants(300, 200), {"restart_marker_blocks": 4}),
    "progressive": (quadrants(300, 200), {"progressive": True}),
}


@pytest.mark.parametrize("kind", JPEGS)
def test_jpeg_without_its_end_marker_is_truncated(kind):
    """One rule for all kinds and sizes; what stands behind the end marker does not matter."""
    picture, options = JPEGS[kind]
    whole = saved("JPEG", picture, **options)

    assert whole.endswith(b"\xff\xd9")
    assert error_type_of(whole[:-2]) == "truncated"
    assert error_type_of(whole[:-2] + bytes(1000)) == "truncated"
    assert np.array_equal(rgb_of(whole + b"something else"), rgb_of(whole))


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_pixels_that_are_cut_short_are_truncated(file_format, part):
    """Leaving out metadata hides no missing pixels."""
    whole = saved(file_format, quadrants(300, 200))

    assert error_type_of(whole[: int(len(whole) * part)]) == "truncated"


def test_metadata_that_are_cut_short_cost_nothing():
    """What is missing is the end of the EXIF block, behind the pixels."""
    whole = saved("WEBP", lossless=True, exif=exif())

    assert np.array_equal(rgb_of(whole[:-10]), rgb_of(whole))
