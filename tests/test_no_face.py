"""By default nothing is predicted where nobody is seen: pictures of other things, and parts of videos."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from motivnet_cli import read_faces, read_inputs
from tests.clips import make_clip
from tests.pictures import face_photo
from tests.runs import motivnet

CASES = Path(__file__).parent / "cases" / "no_face"
"""A cat (scikit-image's chelsea, by Stefan van der Walt, CC0), the moon (NASA), and a page of text: as JPEG."""


def bars():
    """Eight bars above a ramp, as on a test card."""
    colours = np.array([[x & 4, x & 2, x & 1] for x in range(7, -1, -1)], bool) * np.uint8(235)  # [8, 3]
    above = np.repeat(np.repeat(colours[None], 60, 1), 270, 0)  # [270, 480, 3]
    ramp = np.repeat(np.linspace(0, 255, 480).astype(np.uint8)[None, :, None], 90, 0).repeat(3, 2)  # [90, 480, 3]
    return np.concatenate((above, ramp))


@pytest.fixture(scope="module")
def nobody(tmp_path_factory):
    """A folder of pictures without a face, some with the size of a face crop."""
    folder = tmp_path_factory.mktemp("nobody")
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    drawn = {
        "black": np.zeros((300, 400, 3), np.uint8),
        "white": np.full((224, 224, 3), 255, np.uint8),
        "tiny": np.full((48, 48, 3), 128, np.uint8),
        "noise": noise,
        "card": bars(),
    }
    for name, rgb in drawn.items():
        Image.fromarray(rgb).save(folder / f"{name}.png")
    for path in CASES.iterdir():
        shutil.copy(path, folder)
    return folder


def annotate(*arguments):
    return motivnet("annotate", *arguments, "--model", "expression-net")


def test_no_row_where_there_is_no_face(nobody, tmp_path):
    """Every picture is `no_face`, there is no row, and the end says how face crops are read."""
    said = annotate(nobody, "--out", tmp_path / "p.parquet").stderr
    inputs = read_inputs(tmp_path / "p.parquet")

    assert read_faces(tmp_path / "p.parquet").height == 0
    assert inputs["status"].to_list() == ["no_face"] * 8
    assert "8 of 8 inputs had no face; if these are face crops already: --faces whole" in said


def test_json_counts_rows_by_face_source(tmp_path):
    """`--json` holds `face_sources`: as many as the table has rows of each."""
    face_photo(tmp_path / "face.jpg")
    Image.new("RGB", (200, 200)).save(tmp_path / "black.png")
    Image.new("RGB", (60, 60)).save(tmp_path / "tiny.png")
    summary = json.loads(annotate(tmp_path, "--faces", "auto", "--out", tmp_path / "p.parquet", "--json").stdout)
    rows = read_faces(tmp_path / "p.parquet")["face_source"].to_list()

    assert summary["face_sources"] == {"detected": 1, "whole": 2}
    assert Counter(rows) == {"detected": 1, "whole": 2}


def test_most_pictures_with_a_face_need_no_hint(tmp_path):
    """One of two pictures without a face is not most of them."""
    face_photo(tmp_path / "face.jpg")
    Image.new("RGB", (300, 300)).save(tmp_path / "black.png")
    said = annotate(tmp_path, "--out", tmp_path / "p.parquet").stderr

    assert "1 detected" in said
    assert "--faces whole" not in said


def test_a_video_that_ends_before_start_has_failed(tmp_path):
    """Nobody has looked at a frame of it: it is not `no_face`, and not among those that the hint counts."""
    make_clip(tmp_path / "short.mp4", frames=6, fps=2, size=(320, 240))
    make_clip(tmp_path / "long.mp4", frames=6, fps=1, size=(320, 240))
    run = motivnet("annotate", tmp_path, "--start", 4, "--model", "expression-net", "--out", tmp_path / "p", code=3)
    inputs = read_inputs(tmp_path / "p").sort("input")

    assert inputs.select("status", "error_type", "frames").rows() == [
        ("no_face", None, 2),
        ("failed", "no_frame_in_part", 0),
    ]
    assert "failed: short.mp4: no frame is in the part that --start and --end ask for" in run.stderr
    assert "1 of 1 inputs had no face" in run.stderr


def test_a_video_has_rows_where_somebody_is_seen(tmp_path):
    """Of a clip with nobody in its first two seconds only the frames after them have rows, with `auto`, too."""
    face_photo(tmp_path / "face.png", size=(320, 320), faces=((160, 160, 120),))
    seen = np.asarray(Image.open(tmp_path / "face.png").convert("RGB"))
    with av.open(str(tmp_path / "clip.mp4"), "w") as clip:
        stream = clip.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 320, "yuv420p", 4_000_000
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.full_like(seen, 90) if number < 10 else seen, format="rgb24")
            clip.mux(stream.encode(frame))
        clip.mux(stream.encode(None))
    for mode in ("detect", "auto"):
        annotate(tmp_path / "clip.mp4", "--faces", mode, "--out", tmp_path / f"{mode}.parquet")
        faces = read_faces(tmp_path / f"{mode}.parquet")

        assert faces["frame"].to_list() == [10, 15]
        assert faces["face_source"].to_list() == ["detected"] * 2
