"""Clips with what people reported of theirs, through the whole of a run: which frames have rows, and what is said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from motivnet_cli.config import VideoConfig
from motivnet_cli.inputs.video import VideoReader
from tests.runs import finish

CASES = Path(__file__).parent / "cases" / "video"


@dataclass(frozen=True)
class Case:
    """What is right for a clip, of 640 x 360 and 25 frames a second unless said."""

    frames: list[int]
    """Numbers of those that have a row each."""
    status: str = "ok"
    error_type: str | None = None
    options: tuple[str, ...] = ()
    frame_s: float = 0.04
    travel: int = 2
    """Pixels that the face moves to the right from one frame to the next."""


EACH_SECOND = [25 * second for second in range(10)]
CASES_OF_VIDEO = {
    "cat_reset.ts": Case(EACH_SECOND[:8], error_type="time_restarts"),
    "preview_first.mp4": Case(EACH_SECOND[:3], error_type="other_streams"),
    "preview_first.mkv": Case(EACH_SECOND[:3], error_type="other_streams"),
    "h264_bframes.avi": Case(EACH_SECOND),
    "raw.mpg": Case(EACH_SECOND),
    "held_last_frame.mp4": Case(EACH_SECOND[:4]),
    "longaudio.mkv": Case(EACH_SECOND[:4]),
    "timelapse.mkv": Case(list(range(10)), options=("--frames", "all"), frame_s=2, travel=20),
    "slides_10s.mp4": Case(list(range(6)), options=("--frames", "all"), frame_s=10, travel=20),
    "corrupt_middle.ts": Case([0, 25, 50, 75, 100, 150, 175, 200, 225], status="partial", error_type="damaged"),
}


@pytest.mark.parametrize("name", CASES_OF_VIDEO)
def test_rows_of_a_case(tmp_path, name):
    """The place of the face tells which frame was looked at: its box begins at 62 in frame 0."""
    case = CASES_OF_VIDEO[name]
    finish(CASES / name, tmp_path / "o.parquet", *case.options)
    rows = pl.read_parquet(tmp_path / "o.parquet")
    (of_input,) = pl.read_parquet(tmp_path / "o.inputs.parquet").rows(named=True)

    assert (of_input["status"], of_input["error_type"]) == (case.status, case.error_type)
    assert (of_input["width"], of_input["height"], of_input["frames"]) == (640, 360, len(case.frames))
    assert rows["frame"].to_list() == case.frames
    assert rows["time_s"].to_list() == pytest.approx([number * case.frame_s for number in case.frames], abs=1e-6)
    assert rows["x1"].to_list() == pytest.approx([62 + case.travel * number for number in case.frames], abs=3)
    assert rows.select("face_source", "picture_width", "picture_height").unique().rows() == [("detected", 640, 360)]
    assert set(rows["emotion"]) == {"happiness"}


def test_sound_with_a_cover_picture_is_no_video(tmp_path):
    """The cover is not looked at."""
    finish(CASES / "podcast_audio_only.mp4", tmp_path / "o.parquet")
    (of_input,) = pl.read_parquet(tmp_path / "o.inputs.parquet").rows(named=True)

    assert (of_input["status"], of_input["error_type"], of_input["frames"]) == ("failed", "no_video_stream", 0)
    assert pl.read_parquet(tmp_path / "o.parquet").height == 0


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("h264_bframes.avi", list(range(235))),
        ("raw.mpg", list(range(235))),
        ("cat_reset.ts", list(range(200))),
        ("held_last_frame.mp4", list(range(100))),
        ("corrupt_middle.ts", [*range(119), *range(150, 235)]),
    ],
)
def test_every_frame_of_a_case(name, numbers):
    """Each number once, in the order of presentation; what is left out is counted, and no number moves for it."""
    reader = VideoReader(str(CASES / name), VideoConfig(fps=None), max_pixels=10**6)
    read = [(frame.index, frame.time_s) for frame in reader]

    assert read == [(number, pytest.approx(number / 25, abs=1e-6)) for number in numbers]
    if name == "corrupt_middle.ts":
        assert reader.report.problem.message == "27 frames were damaged and left out; 204 frames were read"
