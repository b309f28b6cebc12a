"""Measures of faces by hand, and which faces they leave out."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from motivnet_cli.config import FaceConfig
from motivnet_cli.faces.find import load_detector
from motivnet_cli.faces.quality import NOSE_DEPTH, pose_of, quality_of, sharpness
from motivnet_cli.faces.resize import resized
from motivnet_cli.faces.select import select
from motivnet_cli.records import BLUR_SIDE, Face, LeftOut

ASTRONAUT = Path(__file__).parents[1] / "sample_data" / "astronaut.png"
GREY = np.full((200, 300, 3), 77, np.uint8)
BOX = (10.0, 20.0, 10.0 + BLUR_SIDE, 20.0 + BLUR_SIDE)
"""A box that is not resized."""


def turned(points, degrees, centre=(100.0, 100.0)):
    """Points after a turn of the picture, clockwise as one sees it (y is down)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x0, y0 = centre
    return tuple((x0 + c * (x - x0) - s * (y - y0), y0 + s * (x - x0) + c * (y - y0)) for x, y in points)


def head(yaw):
    """Left eye, right eye, nose and mouth of a head from afar; its eyes are 60 pixels apart where it looks straight."""
    cos, sin = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    places = ((30, -20, 0), (-30, -20, 0), (0, 15, 60 * NOSE_DEPTH), (20, 40, 10), (-20, 40, 10))
    return tuple((100 + x * cos + z * sin, 100.0 + y) for x, y, z in places)


def detected(box, roll=0.0):
    return Face(box, "detected", 0.9, turned(head(0), roll))


@pytest.mark.parametrize("roll", [0, 30, 90, 179, -30, -90, -179])
@pytest.mark.parametrize("yaw", [0, 25, -60])
def test_pose_of_a_head_that_is_turned(roll, yaw):
    """Roll, yaw and the distance of the eyes come back from where the points are, whatever the other is."""
    found = pose_of(turned(head(yaw), roll))

    assert found == pytest.approx((roll, yaw, 60 * math.cos(math.radians(yaw))), abs=1e-9)


def test_pose_of_points_that_are_not_known():
    left, right, nose, *_ = head(10)

    assert pose_of(None) == pose_of((None, right, nose, None, None)) == (None, None, None)
    assert pose_of((left, left, nose, None, None)) == (None, None, None)
    roll, yaw, distance = pose_of((left, right, None, None, None))
    assert (roll, yaw, distance) == (0, None, pytest.approx(60 * math.cos(math.radians(10))))


def test_landmarks_of_a_mirrored_face_say_the_other_side():
    """A real face and its mirror image: the same distance of the eyes, roll and yaw with the other sign."""
    rgb = np.array(Image.open(ASTRONAUT).convert("RGB"))
    faces = [load_detector("retinaface").detect(each, min_confidence=0.6)[0] for each in (rgb, rgb[:, ::-1].copy())]

    (roll, yaw, distance), other = (pose_of(face.landmarks) for face in faces)

    assert other == pytest.approx((-roll, -yaw, distance), abs=3)
    assert abs(roll) > 1 or abs(yaw) > 1


def test_a_face_in_a_picture_that_was_rotated():
    """Clockwise by 25 degrees, the roll is as much more."""
    portrait = Image.open(ASTRONAUT).convert("RGB")
    rolls = []
    for picture in (portrait, portrait.rotate(-25, Image.Resampling.BICUBIC)):
        face = load_detector("retinaface").detect(np.asarray(picture), min_confidence=0.6)[0]
        rolls.append(pose_of(face.landmarks)[0])

    assert rolls[1] - rolls[0] == pytest.approx(25, abs=5)


def test_a_plain_face_has_no_detail():
    """Grey of one value: its luma is its brightness, and its Laplacian nothing, in a box of any size."""
    colour = np.zeros((50, 40, 3), np.uint8)
    colour[:] = (200, 100, 50)

    assert quality_of(GREY, Face(BOX, "given")) == pytest.approx((None, None, None, 0, 77), abs=1e-3)
    found = quality_of(colour, Face((0.0, 0.0, 40.0, 50.0), "whole"))
    assert found.brightness == pytest.approx(0.299 * 200 + 0.587 * 100 + 0.114 * 50, abs=1e-3)


def test_sharpness_of_a_checkerboard():
    """Of 0 and 10 in turn the Laplacian is 40 or -40 everywhere: of equal numbers of both the variance is 1600."""
    board = np.indices(GREY.shape[:2]).sum(axis=0) % 2 * 10  # [200, 300]
    rgb = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)

    assert sharpness(rgb, BOX) == pytest.approx(1600, rel=1e-4)
    assert quality_of(rgb, Face(BOX, "given")).brightness == pytest.approx(5, abs=1e-4)


def test_only_what_lies_in_the_box_and_in_the_picture_counts():
    """Of a box that reaches beyond, the part inside; of one that begins within a pixel, that pixel, too."""
    rgb = GREY.copy()
    rgb[:, 150:] = 255
    rgb[100:] = 255

    left_above = quality_of(rgb, Face((-60.0, -40.0, 150.0, 100.0), "given"))
    a_column_more = quality_of(rgb, Face((130.0, 0.0, 150.5, 100.0), "given"))

    assert (left_above.blur, left_above.brightness) == pytest.approx((0, 77), abs=1e-3)
    assert a_column_more.brightness > 77


def test_a_blurred_face_is_less_sharp():
    """A real face, and the same after it was shrunk and enlarged."""
    rgb = np.array(Image.open(ASTRONAUT).convert("RGB"))
    face = load_detector("retinaface").detect(rgb, min_confidence=0.6)[0]
    blurred = resized(resized(rgb, 128, 128), 512, 512)

    before, after = quality_of(rgb, face), quality_of(blurred, face)

    assert after.blur < before.blur / 2
    assert after.brightness == pytest.approx(before.brightness, abs=3)


RNG = np.random.default_rng(3)
NOISE = RNG.integers(0, 256, GREY.shape, dtype=np.uint8)
SMALL, LARGE, LARGER = ((0.0, 0.0, 20.0, 60.0), (30.0, 0.0, 90.0, 60.0), (100.0, 0.0, 190.0, 90.0))


def test_each_option_leaves_out_what_it_names_and_counts_it():
    """A face counts once, for the first option that it meets; the largest of what is left are kept, left to right."""
    faces = [detected(SMALL, 90), detected(LARGE, -90), detected(LARGE, -30), detected(LARGER), detected(LARGER, 10)]

    assert select(NOISE, faces, FaceConfig()) == (faces, LeftOut())
    assert select(NOISE, faces, FaceConfig(min_face=21)) == (faces[1:], LeftOut(min_face=1))
    assert select(NOISE, faces, FaceConfig(max_roll=45)) == (faces[2:], LeftOut(max_roll=2))
    assert select(NOISE, faces, FaceConfig(min_sharpness=10)) == (faces, LeftOut())
    assert select(GREY, faces, FaceConfig(min_sharpness=10)) == ([], LeftOut(min_sharpness=5))
    every = FaceConfig(min_face=21, max_roll=45, max_faces=2, min_sharpness=10)
    assert select(NOISE, faces, every) == (faces[3:], LeftOut(min_face=1, max_roll=1, max_faces=1))
    assert select(GREY, faces, every) == ([], LeftOut(min_face=1, max_roll=1, min_sharpness=3))
    two = select(NOISE, [faces[3], faces[0], faces[2]], FaceConfig(max_faces=2))
    assert two == ([faces[3], faces[2]], LeftOut(max_faces=1))


def test_what_was_not_detected_is_not_left_out():
    """Nor is a face whose eyes the detector does not know, by its roll."""
    whole, blind = Face(SMALL, "whole"), replace(detected(SMALL), landmarks=(None,) * 5)

    assert select(GREY, [whole], FaceConfig(min_face=500, max_roll=0, min_sharpness=1)) == ([whole], LeftOut())
    assert select(GREY, [blind], FaceConfig(max_roll=0)) == ([blind], LeftOut())


def test_faces_left_out_as_text():
    """Counts add up by option, and the text gives them back; what is no such text is refused."""
    left_out = LeftOut(min_face=2, max_roll=1) + LeftOut(max_roll=4, max_faces=1)

    assert left_out.text == "min-face 2, max-roll 5, max-faces 1"
    assert (left_out.total, LeftOut.of(left_out.text)) == (8, left_out)
    assert (LeftOut().text, LeftOut.of(None)) == (None, LeftOut())
    for wrong in (
        "",
        "min-face",
        "min-face 0",
        "min-face -1",
        "other 2",
        "max-roll 1, min-face 2",
        "min-face 2,max-roll 1",
    ):
        with pytest.raises(ValueError, match=r"names no options|invalid literal"):
            LeftOut.of(wrong)
