"""Pictures with what people reported of theirs, through the whole of a run: the pixels of the intact picture."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import polars as pl
import pytest
from PIL import Image

from motivnet_cli.inputs.decode import decode
from tests.pictures import face_photo
from tests.runs import finish

SEGMENTS = {
    "adobe-short": "ffee0007 41646f6265",
    "app-empty": "ffe10002 ffe20002 ffed0002 ffee0002",
    "app13-broken": "ffed001a 50686f746f73686f7020332e3000 3842494d 0404 0000ffff",
    "app2-icc-broken": "ffe20013 4943435f50524f46494c4500 0103616263",
    "app2-icc-short": "ffe2000e 4943435f50524f46494c4500",
    "com-bad": "fffe0006 fffe0080",
    "jfif-short": "ffe00004 4a46",
    "mpf-broken": "ffe20010 4d504600 4d4d002a00000008ffff",
}
"""What stands between the start of a JPEG and its JFIF segment: segments that are cut or wrong."""
CHUNKS = {"iccp-2mb": (b"iCCP", b"icc\0\0"), "ztxt-2mb": (b"zTXt", b"Comment\0\0")}
SIZE = 320, 240


def with_chunk(png, kind, start):
    """2 MB more, compressed, behind the header of a PNG."""
    data = kind + start + zlib.compress(bytes(2 << 20))
    return png[:33] + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data)) + png[33:]


def bmp_of_transparent_pixels(rgb):
    """A BMP of 32 bits with a mask for alpha, which is 0 everywhere (BITMAPV4HEADER)."""
    height, width, _ = rgb.shape
    data = np.concatenate((rgb[::-1, :, ::-1], np.zeros((height, width, 1), np.uint8)), axis=2).tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(data), 2835, 2835, 0, 0)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    return struct.pack("<2sIHHI", b"BM", 122 + len(data), 0, 0, 122) + header + masks + bytes(52) + data


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A folder of the cases; and the intact picture of each kind, by ending."""
    folder = tmp_path_factory.mktemp("cases") / "in"
    folder.mkdir()
    jpeg, png = io.BytesIO(), io.BytesIO()
    for file, name in ((jpeg, "JPEG"), (png, "PNG")):
        face_photo(file, size=SIZE, faces=((160, 120, 100),), format=name)
    intact = {"jpg": jpeg.getvalue(), "png": png.getvalue()}
    pixels = {ending: np.asarray(Image.open(io.BytesIO(content))) for ending, content in intact.items()}
    pixels["bmp"] = pixels["png"]
    for name, segments in SEGMENTS.items():
        content = intact["jpg"]
        (folder / f"{name}.jpg").write_bytes(content[:2] + bytes.fromhex(segments) + content[2:])
    for name, (kind, start) in CHUNKS.items():
        (folder / f"{name}.png").write_bytes(with_chunk(intact["png"], kind, start))
    (folder / "alpha0.bmp").write_bytes(bmp_of_transparent_pixels(pixels["png"]))
    return folder, pixels


def test_every_case_is_read(cases, tmp_path):
    """All have the one face, with the emotion and nearly the box of one another."""
    folder, _ = cases
    finish(folder, tmp_path / "o.parquet")
    inputs = pl.read_parquet(tmp_path / "o.inputs.parquet")
    rows = pl.read_parquet(tmp_path / "o.parquet")

    assert inputs.select("status", "error_type", "width", "height", "faces").unique().rows() == [("ok", None, *SIZE, 1)]
    assert inputs["input"].to_list() == sorted(path.name for path in folder.iterdir())
    assert rows["input"].to_list() == inputs["input"].to_list()
    assert rows.select("face_source", "emotion").unique().rows() == [("detected", "happiness")]
    assert (rows["x1"].max() - rows["x1"].min()) < 2


def test_pixels_are_those_of_the_intact_picture(cases):
    folder, pixels = cases
    paths = sorted(folder.iterdir())

    assert len(paths) == 11
    for path in paths:
        assert np.array_equal(decode(str(path), max_pixels=10**6).rgb, pixels[path.suffix[1:]]), path.name
