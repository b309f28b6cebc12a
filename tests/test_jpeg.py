"""JPEGs with damage inside their scans are refused; what libjpeg warns of but does not matter is not."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import random
import re

import numpy as np
import pytest
from PIL import Image

from motivnet_cli.errors import InputError
from motivnet_cli.inputs.decode import decode_bytes
from tests.pictures import SAMPLE_DATA

END = b"\xff\xd9"


@functools.cache
def photo(size=(512, 512), mode="RGB"):
    with Image.open(SAMPLE_DATA / "astronaut.png") as portrait:
        return portrait.convert("RGB").resize(size).convert(mode)


def jpeg(size=(512, 512), mode="RGB", **options):
    file = io.BytesIO()
    photo(size, mode).save(file, "JPEG", **({"quality": 85} | options))
    return file.getvalue()


def rgb_of(content):
    return decode_bytes(content, max_pixels=10**6).rgb


def outcome(content):
    try:
        rgb_of(content)
    except InputError as error:
        return error.error_type
    return "ok"


def pixels_of_pillow(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def first_scan(content):
    """The range of bytes of the first scan's codes."""
    start = content.index(b"\xff\xda")
    start += 2 + int.from_bytes(content[start + 2 : start + 4], "big")
    return range(start, re.compile(rb"\xff[^\0\xd0-\xd7]").search(content, start).start())


KINDS = {
    "usual": {},
    "full colour": {"subsampling": 0},
    "grey": {"mode": "L"},
    "ink": {"mode": "CMYK", "subsampling": 0},
    "progressive": {"progressive": True},
    "optimized": {"optimize": True},
    "restarts": {"restart_marker_rows": 1},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["zeros", "lost", "noise"])
def test_damaged_sector(kind, damage):
    """512 bytes of a scan are zeros, missing, or others. Nearly always libjpeg notices, though it reads on."""
    content = jpeg(**KINDS[kind])
    chance = random.Random(14)
    replaced = {"zeros": bytes(512), "lost": b"", "noise": bytes(chance.randrange(255) for _ in range(512))}[damage]
    scan = first_scan(content)
    found = 0
    for at in range(scan.start, scan.stop - 512, len(scan) // 10):
        wrong = content[:at] + replaced + content[at + 512 :]
        with contextlib.suppress(OSError):
            assert np.any(pixels_of_pillow(wrong) != pixels_of_pillow(content))
        found += outcome(wrong) == "damaged"
    assert found >= 7


def test_scan_that_ends_early_is_damaged():
    """Its end marker hides that most of the picture is missing."""
    content = jpeg()
    with pytest.raises(InputError, match="premature end") as caught:
        rgb_of(content[: len(content) // 3].rstrip(b"\xff") + END)
    assert caught.value.error_type == "damaged"


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (17, 33), (160, 121)])
def test_sound_pictures_have_the_pixels_of_pillow(size):
    """To the bit, over ways to reduce chrominance, odd sizes and ways to write codes."""
    ways = ({}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 3})
    for mode, subsampling, quality, way in itertools.product(("RGB", "L"), range(3), (30, 100), ways):
        content = jpeg(size, mode, subsampling=subsampling, quality=quality, **way)
        assert np.array_equal(rgb_of(content), pixels_of_pillow(content)), (mode, subsampling, quality, way)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns(orientation):
    """The result of each turn is what Pillow makes of it, contiguous and writable."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    photo((41, 30)).save(file, "JPEG", exif=exif)
    rgb = rgb_of(file.getvalue())
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)  # numbers of Image.Transpose
    image = Image.open(file) if turn is None else Image.open(file).transpose(Image.Transpose(turn))

    assert np.array_equal(rgb, np.asarray(image))
    assert rgb.flags.c_contiguous
    assert rgb.flags.writeable


def padded(content, num_zeros):
    return content[:-2] + bytes(num_zeros) + END


def with_scan_parameters(content):
    """Scans of a sequential JPEG with what belongs into a progressive one."""
    at = content.index(b"\xff\xda")
    end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return content[: end - 3] + b"\0\0\0" + content[end:]


def with_adobe_transform(content):
    return content[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x09" + content[20:]


HARMLESS = {
    "zeros in front of the end": lambda content: padded(content, 16),
    "many zeros": lambda content: padded(content, 60),
    "fill bytes": lambda content: content[:-2] + b"\xff" * 30 + END,
    "something behind the end": lambda content: content + b"\0\1\2" * 1000,
    "scan parameters": with_scan_parameters,
    "unknown transform": with_adobe_transform,
    "all of them": lambda content: with_adobe_transform(with_scan_parameters(padded(content, 40))),
}


@pytest.mark.parametrize("oddity", HARMLESS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_harmless_oddities(oddity, mode):
    content = jpeg((100, 75), mode)

    assert np.array_equal(rgb_of(HARMLESS[oddity](content)), pixels_of_pillow(content))


def test_more_zeros_than_padding_has_are_damage():
    """They stand where a part of the picture was."""
    with pytest.raises(InputError, match="extraneous bytes"):
        rgb_of(padded(jpeg(), 512))
