"""What a file is by its first bytes, where its name does not say."""

from __future__ import annotations

import pytest
from PIL import Image

from motivnet_cli.inputs.content import is_source_text, kind_of_file
from motivnet_cli.inputs.listing import Listing
from tests.clips import make_clip


@pytest.mark.parametrize("written", ["c.mp4", "c.mkv", "c.avi", "c.ts", "c.h264", "c.hevc", "c.mpg", "c.flv", "c.mxf"])
@pytest.mark.parametrize("name", ["VID_1.insv", "GL010001.LRV", "clip"])
def test_videos_with_endings_of_cameras(tmp_path, written, name):
    """A video is one under any name that it is given outright."""
    codec = {"c.hevc": "libx265", "c.mpg": "mpeg2video"}.get(written, "libx264")
    make_clip(tmp_path / written, frames=5, codec=codec, fps=25)
    (tmp_path / written).rename(tmp_path / name)

    assert kind_of_file(str(tmp_path / name), name) == "video"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_pictures_without_endings(tmp_path, format):
    """A picture is one without an ending."""
    Image.new("RGB", (8, 8)).save(tmp_path / "x", format)

    assert kind_of_file(str(tmp_path / "x"), "x") == "image"


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 4096, b"x = 1\n" * 99, b"\0\0\1\x05", b"GG", b"G" + b"\0" * 187 + b"H"]
)
def test_neither(tmp_path, content):
    """Text, zeros and what is too short are nothing."""
    (tmp_path / "x").write_bytes(content)

    assert kind_of_file(str(tmp_path / "x"), "x") is None


def test_typescript_is_no_video(tmp_path):
    """In a folder, source text whose name ends as those of transport streams is passed over and counted."""
    (tmp_path / "app.ts").write_text("export const x: number = 1;\n" * 200)
    make_clip(tmp_path / "film.ts", frames=5)
    (tmp_path / "cut.ts").write_bytes(bytes(400))
    listing = Listing([str(tmp_path)])

    assert [(item.input, item.kind) for item in listing] == [("cut.ts", "video"), ("film.ts", "video")]
    assert listing.skipped[".ts"] == 1
    assert is_source_text(str(tmp_path / "app.ts"))


def test_named_outright(tmp_path):
    """The list of inputs knows a video with an ending of its own; a folder passes it over."""
    make_clip(tmp_path / "c.mp4", frames=5)
    (tmp_path / "c.mp4").rename(tmp_path / "c.insv")

    assert [item.kind for item in Listing([str(tmp_path / "c.insv")])] == ["video"]
    assert list(Listing([str(tmp_path)])) == []
