"""Faces that one look at a whole picture would miss: small ones, and those that lie on their side."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from motivnet_cli.config import FaceConfig
from motivnet_cli.faces.crop import cut, to_pixels
from motivnet_cli.faces.find import find_faces, load_detector
from motivnet_cli.faces.looks import TwoLooks
from motivnet_cli.faces.quality import pose_of
from motivnet_cli.records import Face
from tests.pictures import SAMPLE_DATA

FACE = (178, 56, 271, 178)
HEAD = (85, 0, 365, 300)


@pytest.fixture(scope="module")
def portrait():
    with Image.open(SAMPLE_DATA / "astronaut.png") as image:
        return image.convert("RGB")


@pytest.fixture(scope="module")
def detector():
    return load_detector("retinaface")


def picture_of(portrait, size, heads):
    """A picture with heads, each given by the middle and the height of its face, and the boxes of the faces."""
    picture, boxes = Image.new("RGB", size, (90, 120, 140)), []
    for x, y, height in heads:
        scale = height / (FACE[3] - FACE[1])
        left, top = (round(middle - (FACE[k] + FACE[k + 2]) / 2 * scale) for k, middle in enumerate((x, y)))
        head = portrait.resize((round(280 * scale), round(300 * scale)), Image.Resampling.LANCZOS, box=HEAD)
        picture.paste(head, (round(left + HEAD[0] * scale), top))
        boxes.append(tuple(value * scale + (left, top)[k % 2] for k, value in enumerate(FACE)))
    return picture, boxes


def overlap(a, b):
    both = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.mark.parametrize("size", [(1600, 1200), (4000, 3000), (8000, 6000), (8000, 1200)])
def test_a_face_of_three_percent_is_found(size, portrait, detector):
    """At any size of picture a face as high as 3 % of the longer side is found, once, and where it is."""
    middle = size[0] // 3, size[1] // 2
    picture, (box,) = picture_of(portrait, size, [(*middle, 0.03 * size[0])])

    (face,) = find_faces(np.array(picture), FaceConfig(), detector)

    assert overlap(face.box, box) > 0.75
    assert face.turn == 0
    eyes = np.array(face.landmarks[:2])
    assert ((eyes > face.box[:2]) & (eyes < face.box[2:])).all()


def test_a_panorama_is_seen_longer(portrait, detector):
    """A face of 1 % of a long picture is found: a look at it costs as much as at any other."""
    picture, (box,) = picture_of(portrait, (8000, 800), [(5100, 400, 80)])

    (face,) = find_faces(np.array(picture), FaceConfig(), detector)

    assert overlap(face.box, box) > 0.75


def test_each_face_of_a_crowd_is_found_once(portrait, detector):
    """Small and large faces side by side, which several looks see: each is one face, and none is a part of another."""
    heads = [(150 + 220 * k, 130, 48 + 4 * k) for k in range(6)] + [(300, 560, 240), (1000, 560, 330)]
    picture, boxes = picture_of(portrait, (1600, 900), heads)

    faces = detector.detect(np.array(picture), min_confidence=0.6)

    assert len(faces) == len(boxes)
    assert all(max(overlap(face.box, box) for face in faces) > 0.75 for box in boxes)
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_faces_of_a_turned_picture(turn, portrait, detector):
    """Found where they are, with the turn that makes them upright and points that lie as they do."""
    picture, _ = picture_of(portrait, (1200, 900), [(300, 400, 200), (800, 450, 45)])
    lying = np.ascontiguousarray(np.rot90(np.array(picture), turn // 90))  # anticlockwise

    faces = find_faces(lying, FaceConfig(), detector)

    assert [face.turn for face in faces] == [turn, turn]
    upright = find_faces(np.array(picture), FaceConfig(), detector)

    def back(x, y):  # in the upright picture
        return {90: (1200 - y, x), 180: (1200 - x, 900 - y), 270: (y, 900 - x)}[turn]

    for face in faces:
        (xa, ya), (xb, yb) = back(*face.box[:2]), back(*face.box[2:])
        box = min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)
        before = max(upright, key=lambda other: overlap(other.box, box))
        assert overlap(before.box, box) > 0.8
        np.testing.assert_allclose([back(*point) for point in face.landmarks], before.landmarks, atol=4)
        away = pose_of(face.landmarks)[0] + turn
        assert abs((away + 180) % 360 - 180) < 20


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_face_is_cropped_upright(turn, portrait, detector):
    """The crop of a picture on its side shows what that of the upright one shows."""

    def crop(rgb):
        (face,) = find_faces(rgb, FaceConfig(), detector)
        square = cut(rgb, face.box, margin=0.3, fill_rgb=(0, 0, 0), turn=face.turn)
        return to_pixels(square, recipe="stretch", height=64, width=64, fill_rgb=(0, 0, 0)).astype(int)

    upright = crop(np.array(portrait))
    lying = crop(np.ascontiguousarray(np.rot90(np.array(portrait), turn // 90)))

    assert np.abs(lying - upright).mean() < 12
    assert np.abs(np.rot90(lying, 1, axes=(1, 2)) - upright).mean() > 30


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("name", ["moon", "text"])
def test_more_looks_find_no_faces_where_none_are(name, scale, detector):
    """A picture without faces has none, however it is turned and however closely it is looked at."""
    with Image.open(SAMPLE_DATA.parent / "tests" / "cases" / "no_face" / f"{name}.jpg") as image:
        rgb = np.array(image.convert("RGB").resize((image.width * scale, image.height * scale)))

    assert detector.detect(rgb, min_confidence=0.6) == []


def test_a_number_is_one_look_at_the_picture_as_it_is(portrait):
    """With a given size nothing is looked at again, nor turned."""
    detector = load_detector("retinaface", detection_size=720)
    small, _ = picture_of(portrait, (1600, 1200), [(500, 600, 35)])
    lying = np.ascontiguousarray(np.rot90(np.array(portrait)))

    assert detector.detect(np.array(small), min_confidence=0.6) == []
    assert all(face.turn == 0 for face in detector.detect(lying, min_confidence=0.1))


class Network:
    """Stands for RetinaFace: `first` is what it sees in a whole picture, `second` in the square of every place."""

    def __init__(self, first, second):
        self.first, self.second = first, second
        self.places, self.scales = [], []

    def glance(self, rgb, scale, *, min_confidence):
        self.scales.append(scale)
        return [face for face in self.first if face.score >= min_confidence]

    def look(self, pictures, *, min_confidence):
        self.places += pictures
        return [[face for face in self.second if face.score >= min_confidence] for _ in pictures]


def seen(box, score):
    return Face(box, "detected", score, (None,) * 5)


def two_looks(first, second):
    detector = TwoLooks()
    detector._network = Network(first, second)
    return detector.detect(np.zeros((540, 720, 3), np.uint8), min_confidence=0.6), detector._network.places


@pytest.mark.parametrize(("size", "longer"), [((2880, 2880), 720), ((3000, 4000), 720), ((800, 8000), 1972)])
def test_the_first_look_costs_alike_at_any_shape(size, longer):
    """A picture of 4:3 or nearer to a square is shrunk to 720 px, a longer one to 720 x 540 pixels in all."""
    detector = TwoLooks()
    detector._network = Network([], [])
    detector.detect(np.zeros((*size, 3), np.uint8), min_confidence=0.6)

    (scale,) = detector._network.scales
    assert round(scale * max(size)) == longer


MIDDLE = (43, 43, 85, 85)
"""Of the square that a place is for the network."""


@pytest.mark.parametrize(
    ("first", "second", "box"),
    [
        (seen((300, 300, 320, 330), 0.1), [seen(MIDDLE, 0.97)], (295, 300, 325, 330)),
        (seen((300, 300, 320, 330), 0.1), [seen(MIDDLE, 0.9)], None),  # neither look is sure
        (seen((300, 300, 320, 330), 0.01), [seen(MIDDLE, 0.97)], None),  # no place to look at
        (seen((300, 300, 320, 330), 0.8), [seen(MIDDLE, 0.97)], (295, 300, 325, 330)),  # seen better
        (seen((300, 300, 320, 330), 0.96), [], (300, 300, 320, 330)),
        (seen((300, 300, 320, 330), 0.8), [], None),  # small, and not seen again
        (seen((300, 300, 400, 420), 0.8), [seen(MIDDLE, 0.97)], (300, 300, 400, 420)),  # large enough at once
        (seen((300, 300, 320, 330), 0.1), [seen((0, 43, 42, 85), 0.97)], None),  # cut by the edge of the place
        (seen((0, 300, 20, 330), 0.1), [seen((0, 43, 42, 85), 0.97)], (0, 300, 30, 330)),  # by that of the picture
    ],
)
def test_what_the_second_look_decides(first, second, box):
    """Which of the answers of two looks is a face, and from which of them its box is."""
    faces, _ = two_looks([first], second)

    assert len(faces) == (box is not None)
    if box:
        np.testing.assert_allclose(faces[0].box, box, atol=1)


def test_a_place_is_looked_at_once():
    """Answers side by side share a place, those of a face that is certain have none, and there is a bound."""
    near = [seen((300 + 3 * k, 300, 320 + 3 * k, 330), 0.3 - k / 100) for k in range(4)]
    certain = [seen((300, 290, 400, 420), 0.9), *near]
    everywhere = [seen((x, y, x + 10, y + 12), 0.3) for x in range(0, 700, 20) for y in range(0, 520, 20)]

    assert [len(two_looks(first, [])[1]) for first in (near, certain, everywhere)] == [1, 0, 64]
