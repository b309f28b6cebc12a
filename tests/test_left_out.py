"""Faces that options leave out are counted: by input, over the frames of a video, in the end, and across a resume."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from motivnet_cli.config import FaceConfig, InputConfig, LoaderConfig, ModelConfig, OutputConfig, RunConfig, VideoConfig
from motivnet_cli.records import LeftOut
from motivnet_cli.run import annotate
from tests.clips import face_clip
from tests.outputs import assert_whole, tables
from tests.pictures import face_photo
from tests.runs import motivnet


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A video of a large and a small face in ten frames, then a picture of both."""
    folder = tmp_path_factory.mktemp("media")
    face_clip(folder / "a.mp4", size=(480, 240), faces=((120, 120, 80), (320, 120, 140)))
    face_photo(folder / "b.png", faces=((160, 240, 80), (480, 240, 160)))
    return folder


def config(media, out, **faces):
    """The settings of a run of one face at a time, each committed."""
    return RunConfig(
        inputs=InputConfig(paths=(str(media),)),
        model=ModelConfig(name="expression-net", device="cpu", batch_size=1),
        faces=FaceConfig(**faces),
        video=VideoConfig(fps=5),
        loader=LoaderConfig(threads=1),
        output=OutputConfig(path=str(out), commit_seconds=0),
    )


def test_counts_go_on_where_a_run_was_stopped(media, tmp_path):
    """Frames before the stop are not looked at again, and what was left out of them still counts."""
    settings = config(media, tmp_path / "p", min_face=80)
    batches = []
    assert annotate(settings, progress=batches.append, stop=lambda: len(batches) >= 3).stopped
    resumed = annotate(settings)
    inputs = tables(tmp_path / "p")[1]

    assert len(batches) < 10
    assert resumed.left_out == LeftOut(min_face=11)
    assert inputs["faces"].to_list() == [10, 1]
    assert inputs["left_out"].to_list() == [10, 1]
    assert inputs["left_out_by"].to_list() == ["min-face 10", "min-face 1"]
    assert_whole(tmp_path / "p")


def test_a_picture_whose_faces_are_all_left_out_says_why(tmp_path):
    """It is `no_face`, is not taken whole by `auto`, and the end of the run does not advise `--faces whole`."""
    face_photo(tmp_path / "a.png", size=(320, 320), faces=((160, 160, 120),))
    Image.open(tmp_path / "a.png").rotate(-60, expand=True, fillcolor=(70, 110, 150)).save(tmp_path / "b.png")
    options = ("--faces", "auto", "--max-roll", 30, "--min-sharpness", 1e6, "--model", "expression-net")
    run = motivnet("annotate", tmp_path, *options, "--out", tmp_path / "p.parquet", "--json")
    faces, inputs = tables(tmp_path / "p.parquet")

    assert faces.height == 0
    assert inputs["status"].to_list() == ["no_face"] * 2
    assert inputs["left_out_by"].to_list() == ["min-sharpness 1", "max-roll 1"]
    assert json.loads(run.stdout)["left_out"] == {"max-roll": 1, "min-sharpness": 1}
    assert "left out 2 by max-roll 1, min-sharpness 1" in " ".join(run.stderr.split())
    assert "--faces whole" not in run.stderr


def test_rows_to_a_pipe_have_the_measures_and_the_end_says_what_is_left_out(media):
    """JSON lines have the columns of the table, and stderr the count."""
    options = ("--min-face", 80, "--model", "expression-net", "--out", "-")
    run = motivnet("annotate", media / "b.png", *options)
    (row,) = map(json.loads, run.stdout.splitlines())

    assert {"left_eye_x", "right_mouth_y", "turn", "roll", "yaw", "eye_distance", "blur", "brightness"} <= set(row)
    assert row["left_eye_x"] > row["right_eye_x"]
    assert row["eye_distance"] == pytest.approx(row["left_eye_x"] - row["right_eye_x"], rel=0.05)
    assert "min-face 1" in run.stderr
