"""Boxes that a manifest gives, held against the picture or the frame that they belong to."""

from __future__ import annotations

import re

import numpy as np
import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.config import FaceConfig, LoaderConfig, VideoConfig
from motivnet_cli.engine.given_frames import GivenFrames
from motivnet_cli.engine.loader import load
from motivnet_cli.engine.prepare import Preparer
from motivnet_cli.errors import InputError
from motivnet_cli.faces.crop import placed
from motivnet_cli.output.read import read_faces, read_inputs
from motivnet_cli.records import Cursor, Frame, GivenFace, Item, Position, Todo, never
from motivnet_cli.weights.load import load_model
from tests.pictures import SAMPLE_DATA, face_photo

SIZE = {"height": 360, "width": 640}


@pytest.mark.parametrize(
    "box", [(0, 0, 640, 360), (-10, 100, 90, 260), (600, 300, 700, 500), (-100, -100, 740, 460), (5, 5, 6, 6)]
)
def test_boxes_in_the_picture_or_partly_outside(box):
    assert placed(GivenFace(box), **SIZE) == box


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((5000, 5000, 5100, 5100), "outside"),
        ((-200, 0, -1, 100), "outside"),
        ((639, 0, 739, 100), "outside"),
        ((0, 0, 60_000, 60_000), "far larger"),
        ((1e9, 1e9, 2e9, 2e9), "far larger"),
        ((-1e300, -1e300, 1e300, 1e300), "far larger"),
        ((0.1, 0.2, 0.5, 0.6), "relative"),
        ((0, 0, 1, 1), "relative"),
        ((10, 10, 10.9, 20), "under a pixel"),
    ],
)
def test_boxes_that_cannot_be_in_the_picture(box, said):
    """Each of them would be padding, or memory without measure."""
    with pytest.raises(InputError, match=said) as caught:
        placed(GivenFace(box), **SIZE)

    assert caught.value.error_type == "bad_box"


def test_relative_boxes_are_of_the_size_of_the_picture():
    assert placed(GivenFace((0.25, 0.5, 0.5, 1.0), is_relative=True), **SIZE) == (160, 180, 320, 360)


def frames(*times):
    return [Frame(np.zeros((60, 100, 3), np.uint8), number, time_s) for number, time_s in enumerate(times)]


def at(*, frame=None, time_s=None, box=(1.0, 1.0, 20.0, 20.0)):
    return GivenFace(box, frame=frame, time_s=time_s)


@pytest.mark.parametrize(
    ("face", "number"),
    [
        (at(frame=0), 0),
        (at(frame=3), 3),
        (at(time_s=0.0), 0),
        (at(time_s=0.039), 0),
        (at(time_s=0.04), 1),
        (at(time_s=0.0397), 1),
        (at(time_s=0.5), 2),
        (at(time_s=1.039), 3),
    ],
)
def test_faces_find_their_frames(face, number):
    """A time belongs to the frame that is shown then, also where frames are not evenly spaced."""
    given = GivenFrames([face])
    chosen = list(given.among(frames(0.0, 0.04, 0.08, 1.0)))

    assert [(frame.index, faces) for frame, faces in chosen] == [(number, (face,))]
    assert given.problem is None


def test_faces_of_a_frame_come_together():
    given = GivenFrames([at(time_s=0.05), at(frame=2), at(frame=1), at(frame=2, box=(5.0, 5.0, 9.0, 9.0))])
    chosen = list(given.among(frames(0.0, 0.04, 0.08)))

    assert [(frame.index, len(faces)) for frame, faces in chosen] == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("face", "said"),
    [
        (at(frame=4), "there is no frame 4"),
        (at(time_s=9.0), "no frame is shown at 9 s"),
        (at(frame=1, box=(500.0, 500.0, 600.0, 600.0)), "frame 1: the box .* outside"),
    ],
)
def test_faces_without_a_frame_are_said(face, said):
    """Others stay."""
    given = GivenFrames([face, at(frame=0)])
    chosen = list(given.among(frames(0.0, 0.04)))

    assert [frame.index for frame, _ in chosen] == [0]
    assert given.problem.error_type == "bad_box"
    assert re.search(said, given.problem.message)


def test_time_before_the_first_frame():
    """As where a stream begins late."""
    given = GivenFrames([at(time_s=0.5)])

    assert not list(given.among(frames(2.0, 3.0)))
    assert "no frame is shown at 0.5 s" in given.problem.message


def annotate(manifest, out, *options, code=0):
    command = ["annotate", "--manifest", str(manifest), "--out", str(out), "--model", "expression-net", *options]
    run = CliRunner().invoke(app, command, catch_exceptions=False)
    assert run.exit_code == code, run.stderr
    return read_faces(out), read_inputs(out)


def test_one_bad_box_fails_its_picture_alone(tmp_path):
    """It used to end the run, and every resume of it."""
    for number in range(4):
        face_photo(tmp_path / f"{number}.jpg", size=(340, 240), faces=((100, 120, 60),))
    boxes = ["60,80,140,160", "0,0,60000,60000", "5000,5000,5100,5100", "-10,100,90,260"]
    rows = "".join(f"{number}.jpg,{box}\n" for number, box in enumerate(boxes))
    (tmp_path / "m.csv").write_text("path,x1,y1,x2,y2\n" + rows)
    faces, inputs = annotate(tmp_path / "m.csv", tmp_path / "p.parquet", code=3)

    assert inputs.select("status", "error_type").rows() == [
        ("ok", None),
        ("failed", "bad_box"),
        ("failed", "bad_box"),
        ("ok", None),
    ]
    assert faces.select("input", "x1", "face_source").rows() == [("0.jpg", 60.0, "given"), ("3.jpg", -10.0, "given")]


def test_boxes_of_a_video(tmp_path):
    """The frames that are named are looked at, whatever --fps says, and no others."""
    film = SAMPLE_DATA / "face.mp4"
    rows = [f"{film},{n},60,40,160,160,{who}\n" for n, who in ((7, "a"), (31, "b"), (31, "c"), (900, "d"))]
    (tmp_path / "m.csv").write_text("path,frame,x1,y1,x2,y2,who\n" + "".join(rows))
    faces, inputs = annotate(tmp_path / "m.csv", tmp_path / "p.parquet", "--keep", "who")

    assert faces.select("frame", "who", "face_source").rows() == [
        (7, "a", "given"),
        (31, "b", "given"),
        (31, "c", "given"),
    ]
    assert faces["time_s"].to_list() == pytest.approx([0.28, 1.24, 1.24], abs=1e-3)
    (row,) = inputs.iter_rows(named=True)
    assert (row["status"], row["error_type"], row["frames"]) == ("partial", "bad_box", 2)
    assert "there is no frame 900" in row["error"]


def test_boxes_of_a_video_go_on_where_the_run_stopped():
    """The frames that were committed are not looked at again, and are counted."""
    item = Item(
        index=0,
        input="face.mp4",
        path=str(SAMPLE_DATA / "face.mp4"),
        kind="video",
        given=(at(frame=3), at(frame=5), at(frame=8), at(frame=8, box=(30.0, 5.0, 60.0, 50.0)), at(frame=99_999)),
    )
    preparer = Preparer(load_model("expression-net"), FaceConfig(mode="whole"), VideoConfig(fps=1), LoaderConfig())
    todo = Todo(item, Cursor(Position(0, 2), num_frames=2, num_faces=2))
    (batch,) = load([todo], preparer, num_threads=1, batch_size=8, stop=never)

    assert [(crop.position.step, crop.frame_index, crop.number) for crop in batch.crops] == [(2, 8, 0), (2, 8, 1)]
    (report,) = batch.finished
    assert (report.status, report.num_frames, report.num_faces) == ("partial", 3, 4)
    assert "there is no frame 99999" in report.problem.message
