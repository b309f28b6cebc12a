"""Whatever the encoder writes: rows carry the frame that FFmpeg itself shows at that place, and never go back."""

from __future__ import annotations

import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motivnet_cli.errors import InputError
from tests.clips import make_clip, read_number
from tests.test_video import read

SIZE = (96, 64)
RATES = [Fraction(10), Fraction(25), Fraction(30_000, 1001)]
imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")


def shown_by_ffmpeg(path):
    """The numbers that the frames of FFmpeg's own decode say, in their order."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", "-i", str(path), "-map", "0:v:0"]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    shown = subprocess.run(command, capture_output=True, timeout=120, check=False).stdout
    width, height = SIZE
    frames = np.frombuffer(shown[: len(shown) // (width * height * 3) * width * height * 3], np.uint8)
    return [said for frame in frames.reshape(-1, height, width, 3) if (said := number_of(frame)) is not None]


def number_of(frame):
    try:
        return read_number(frame)
    except AssertionError:  # patched
        return None


@st.composite
def clips(draw):
    """How a clip is written: its name, parts, and the first and last part of its bytes that is kept."""
    name = draw(st.sampled_from(["c.mp4", "c.mkv", "c.avi", "c.ts", "c.h264"]))
    rate = draw(st.sampled_from(RATES))
    offset = "0" if name == "c.avi" else draw(st.sampled_from(["0", "1.5", "3600"]))
    parts = [
        {
            "frames": draw(st.integers(5, 40)),
            "gop": draw(st.sampled_from([1, 7, 25])),
            "options": {"bf": draw(st.sampled_from(["0", "1", "3"]))},
            "rotation": draw(st.sampled_from([0, 90, 180, 270])) if name == "c.mp4" else 0,
            "container_options": {"output_ts_offset": offset},
        }
        for _ in range(draw(st.integers(1, 3)) if name in ("c.ts", "c.h264") else 1)
    ]
    begin = draw(st.sampled_from([0, 0, 0.1, 0.4])) if name in ("c.ts", "c.h264") else 0
    return name, rate, parts, begin, draw(st.sampled_from([1.0, 1.0, 0.9, 0.5]))


@pytest.mark.slow
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(clips())
def test_rows_carry_the_frame_that_is_shown(clip):
    """Numbers and times strictly increase, and each frame is the one that FFmpeg shows at its number."""
    name, rate, parts, begin, end = clip
    with tempfile.TemporaryDirectory() as folder:
        path, content, first = Path(folder) / name, b"", 0
        for options in parts:
            make_clip(path, fps=rate, first=first, size=SIZE, **options)
            content += path.read_bytes()
            first += options["frames"]
        path.write_bytes(content[int(len(content) * begin) : int(len(content) * end)])
        expected = shown_by_ffmpeg(path)
        try:
            said, numbers, times, report = read(path)
        except InputError:
            assert not expected or (begin and name == "c.h264")  # it is not known by its content then
            return

    lacking = said[0] - numbers[0]
    assert said == [number + lacking for number in numbers]
    assert times == sorted(set(times))
    assert [time_s - times[0] for time_s in times] == pytest.approx(
        [float((number - numbers[0]) / rate) for number in numbers], abs=2e-3
    )
    assert set(said) <= set(expected)
    if begin == 0:
        assert lacking == 0
        assert times[0] == pytest.approx(float(numbers[0] / rate), abs=2e-3)
    elif numbers[0]:
        assert report.problem
    if (begin, end) == (0, 1):
        assert said == expected == list(range(first))
        assert report.is_whole
