"""Face detection on real pixels: one portrait, and pictures composed from it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from motivnet_cli.config import FaceConfig
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.faces.boxes import non_maximum_suppression
from motivnet_cli.faces.find import find_faces, load_detector
from motivnet_cli.faces.laps import timed
from tests.pictures import ASTRONAUT_POINTS

ASTRONAUT = Path(__file__).parents[1] / "sample_data" / "astronaut.png"
FACE = (178, 56, 271, 178)
HEAD = (130, 0, 320, 230)
DETECTORS = ("retinaface", "blazeface")


@pytest.fixture(scope="module")
def portrait():
    with Image.open(ASTRONAUT) as image:
        return image.convert("RGB")


@pytest.fixture(scope="module")
def detectors():
    return {name: load_detector(name) for name in DETECTORS}


@pytest.fixture(scope="module")
def group(portrait):
    """Four heads of different size on a plain ground, and their face boxes, left to right."""
    picture, boxes = Image.new("RGB", (900, 400), (90, 120, 140)), []
    for x, y, scale in ((10, 20, 1.0), (240, 150, 0.8), (440, 10, 1.2), (710, 120, 0.9)):
        head = portrait.crop(HEAD)
        picture.paste(head.resize((round(head.width * scale), round(head.height * scale))), (x, y))
        left, top = x - HEAD[0] * scale, y - HEAD[1] * scale
        boxes.append((left + 178 * scale, top + 56 * scale, left + 271 * scale, top + 178 * scale))
    return np.array(picture), boxes


def overlap(a, b):
    both = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_retinaface_finds_the_portraits_face(portrait, detectors):
    """One face within three pixels of the known box, with the score that the network gives to BGR and not to RGB."""
    (face,) = detectors["retinaface"].detect(np.array(portrait), min_confidence=0.6)

    assert face.score == pytest.approx(0.9997, abs=5e-5)
    assert face.source == "detected"
    np.testing.assert_allclose(face.box, FACE, atol=3)


def test_blazeface_means_the_same_box(portrait, detectors):
    """BlazeFace's one face, in RetinaFace's convention, covers the same part of the picture."""
    (face,) = detectors["blazeface"].detect(np.array(portrait), min_confidence=0.6)

    assert face.score > 0.8
    assert overlap(face.box, FACE) >= 0.6


@pytest.mark.parametrize("name", DETECTORS)
def test_landmarks_are_where_the_eye_sees_them(name, portrait, detectors):
    """Within four pixels, left and right as the person has them; BlazeFace does not know the corners of the mouth."""
    (face,) = detectors[name].detect(np.array(portrait), min_confidence=0.6)

    known = 5 if name == "retinaface" else 3
    np.testing.assert_allclose(face.landmarks[:known], ASTRONAUT_POINTS[:known], atol=4)
    assert face.landmarks[known:] == (None,) * (5 - known)


@pytest.mark.parametrize("name", DETECTORS)
def test_group_is_found_left_to_right(name, group, detectors):
    """Four people give four faces in the order of their left edges, each where it was put."""
    rgb, boxes = group

    faces = find_faces(rgb, FaceConfig(mode="detect", min_confidence=0.4), detectors[name])

    assert len(faces) == 4
    assert all(overlap(face.box, box) > 0.5 for face, box in zip(faces, boxes, strict=True))


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("scale", [0.5, 1.5, 4.0])
def test_boxes_scale_with_the_picture(name, scale, portrait, detectors):
    """The same picture at another size has the same face, also where it is shrunk for the detector."""
    size = round(512 * scale)
    rgb = np.array(portrait.resize((size, size)))
    (plain,) = detectors[name].detect(np.array(portrait), min_confidence=0.6)

    (scaled,) = detectors[name].detect(rgb, min_confidence=0.6)

    assert overlap([value / scale for value in scaled.box], plain.box) > 0.85


@pytest.mark.parametrize("name", DETECTORS)
def test_box_moves_with_the_face(name, portrait, detectors):
    """A strip of ground to the left, above or below of any odd width moves the box by that much."""
    (plain,) = detectors[name].detect(np.array(portrait), min_confidence=0.6)
    x1, y1, x2, y2 = plain.box
    for left, top, bottom in ((77, 0, 0), (0, 45, 0), (13, 31, 101)):
        rgb = np.pad(np.array(portrait), ((top, bottom), (left, 0), (0, 0)))

        (moved,) = detectors[name].detect(rgb, min_confidence=0.6)

        assert overlap(moved.box, (x1 + left, y1 + top, x2 + left, y2 + top)) > 0.8


@pytest.mark.parametrize("name", DETECTORS)
def test_boxes_are_clipped_to_the_picture(name, portrait, detectors):
    """A face cut by the edge of the picture has a box that ends there."""
    rgb = np.array(portrait)[80:, 195:]

    (face,) = detectors[name].detect(rgb, min_confidence=0.3)

    assert face.box[0] == 0
    assert 0 <= face.box[1] < 2
    assert face.box[2] < 120
    assert face.box[3] < 140


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (1, 700), (50, 6000), (6000, 50), (400, 300)])
def test_flat_pictures_have_no_face(name, size, detectors):
    """A picture of one colour has no face, however small or long it is."""
    rgb = np.full((*size, 3), (200, 170, 150), np.uint8)

    assert detectors[name].detect(rgb, min_confidence=0.3) == []


@pytest.mark.parametrize("side", [24, 48])
def test_small_crops_are_enlarged(side, portrait, detectors):
    """A face that fills a thumbnail is found."""
    rgb = np.array(portrait.crop((145, 37, 305, 197)).resize((side, side)))

    (face,) = detectors["retinaface"].detect(rgb, min_confidence=0.6)

    assert overlap([value * 160 / side for value in face.box], (33, 19, 126, 141)) > 0.7


def test_one_look_is_at_the_size_that_is_asked_for(portrait):
    """A face that is too small once the picture is shrunk to a given detection size is not found."""
    detector = load_detector("retinaface", detection_size=256)
    rgb = np.zeros((256 * 16, 512, 3), np.uint8)
    rgb[:512] = np.array(portrait)

    assert detector.detect(rgb, min_confidence=0.6) == []
    assert len(detector.detect(rgb[:512], min_confidence=0.6)) == 1


def test_what_further_looks_take_is_told_to_who_asks(portrait, detectors):
    """Only inside the block; the second looks at turned pictures are part of the turned looks."""
    rgb = np.array(portrait)
    for picture, looks in ((rgb, ["second_look"]), (np.rot90(rgb).copy(), ["second_look", "turned_looks"])):
        with timed() as laps:
            start = time.perf_counter()
            detectors["retinaface"].detect(picture, min_confidence=0.6)
            total = time.perf_counter() - start
        told = dict(laps)
        detectors["retinaface"].detect(picture, min_confidence=0.6)

        assert list(told) == looks
        assert 0 < sum(told.values()) < total
        assert laps == told


def test_confidence_is_a_threshold(portrait, detectors):
    """A detection that scores less than asked is left out, one that scores just as much is kept."""
    rgb = np.array(portrait)
    (face,) = detectors["blazeface"].detect(rgb, min_confidence=0.6)

    assert detectors["blazeface"].detect(rgb, min_confidence=face.score) == [face]
    assert detectors["blazeface"].detect(rgb, min_confidence=min(1.0, face.score + 1e-4)) == []


@pytest.mark.thorough
@pytest.mark.parametrize("name", DETECTORS)
def test_threads_share_a_detector(name, group, portrait, detectors):
    """Several threads at once find what one finds."""
    pictures = [group[0], np.array(portrait), group[0][:, :500], np.array(portrait)[:300]] * 3

    def find(rgb):
        return detectors[name].detect(rgb, min_confidence=0.6)

    expected = [find(rgb) for rgb in pictures]
    with ThreadPoolExecutor(3, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        assert list(pool.map(find, pictures)) == expected


def test_whole_is_the_picture():
    """Mode `whole` needs no detector and takes the picture as it is."""
    (face,) = find_faces(np.zeros((30, 40, 3), np.uint8), FaceConfig(mode="whole"), None)

    assert (face.box, face.source, face.score) == ((0, 0, 40, 30), "whole", None)


def test_auto_falls_back_to_the_whole_picture(detectors):
    """Where there is no face, `auto` takes the whole picture and `detect` nothing."""
    rgb = np.full((300, 400, 3), 128, np.uint8)

    assert [f.source for f in find_faces(rgb, FaceConfig(mode="auto"), detectors["retinaface"])] == ["whole"]
    assert find_faces(rgb, FaceConfig(mode="detect"), detectors["retinaface"]) == []
    assert find_faces(rgb, FaceConfig(), detectors["retinaface"]) == []


@pytest.mark.parametrize(
    ("size", "in_video", "is_whole"),
    [
        ((512, 512), False, True),
        ((342, 512), False, True),
        ((340, 512), False, False),
        ((513, 513), False, False),
        ((48, 73), False, False),
        ((48, 48), True, False),
    ],
)
def test_auto_takes_whole_only_what_can_be_a_crop(detectors, size, in_video, is_whole):
    """The longer side is at most 512 pixels and 1.5 times the shorter, and the picture is no frame of a video."""
    rgb = np.full((*size, 3), 128, np.uint8)
    found = find_faces(rgb, FaceConfig(mode="auto"), detectors["retinaface"], in_video=in_video)

    assert [face.source for face in found] == ["whole"] * is_whole


def test_auto_keeps_what_it_finds(group, detectors):
    """Where there are faces, `auto` is `detect`."""
    found = [find_faces(group[0], FaceConfig(mode=mode), detectors["retinaface"]) for mode in ("auto", "detect")]

    assert found[0] == found[1]
    assert len(found[0]) == 4


def network_of(detector):
    """What holds the session of a detector."""
    detector = getattr(detector, "_detector", detector)
    return getattr(detector, "_network", detector)


class FakeNetwork:
    """Stands for a detector's network: every number that it says is drawn, in the shapes that the true one gives."""

    def __init__(self, name, seed, spread):
        self._session = network_of(load_detector(name))._session
        self._rng = np.random.default_rng(seed)
        self._spread = spread

    def run(self, names, feed):
        answers = [np.array(answer) for answer in self._session.run(names, feed)]
        if "image" in feed:
            boxes, scores, landmarks = answers
            boxes[:] = self._rng.normal(0, self._spread, boxes.shape)
            landmarks[:] = self._rng.normal(0, self._spread, landmarks.shape)
            scores[..., 1] = self._rng.uniform(0, 1, scores.shape[:-1]) ** 500  # few are doubtful, and fewer likely
        else:
            for answer in answers:  # logits, and 16 numbers of each anchor in pixels
                spread = 3 if answer.shape[-1] == 1 else 20 * self._spread
                answer[:] = self._rng.normal(0, spread, answer.shape)
        return answers


@pytest.mark.parametrize("name", DETECTORS)
@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from((0.1, 1, 5)),
)
@settings(max_examples=25)
def test_boxes_lie_inside_the_picture(name, size, seed, spread):
    """Whatever the network says, a box has a width and a height, and no part of it is outside."""
    height, width = size
    detector = load_detector(name)
    network_of(detector)._session = FakeNetwork(name, seed, spread)

    faces = detector.detect(np.zeros((height, width, 3), np.uint8), min_confidence=0.5)

    for face in faces:
        x1, y1, x2, y2 = face.box
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert 0.5 <= face.score <= 1


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize(
    ("number", "which"), [(np.nan, "box"), (np.nan, "score"), (np.inf, "box"), (-np.inf, "score"), (1e30, "box")]
)
def test_a_detector_that_gives_no_numbers_fails_the_picture(name, number, which, portrait):
    """NaN, infinity or a box beyond all reason is an error, neither a face nor a picture without one."""
    detector = load_detector(name)
    network = network_of(detector)._session

    class Sick:
        def run(self, names, feed):
            answers = [np.array(answer) for answer in network.run(names, feed)]
            for answer in answers:
                if which == ("box" if answer.shape[-1] >= 4 else "score"):
                    answer[:] = number
            return answers

    network_of(detector)._session = Sick()
    with pytest.raises(InputError, match="the face detector gave") as caught:
        detector.detect(np.array(portrait), min_confidence=0.6)
    assert caught.value.error_type == "bad_prediction"


def test_unknown_detector_is_named():
    """An unknown detector is refused with the ones that exist."""
    with pytest.raises(ConfigError, match=r"'haar'.*retinaface, blazeface"):
        load_detector("haar")


@pytest.mark.thorough
@given(seed=st.integers(0, 2**32 - 1), num_boxes=st.integers(0, 40))
def test_overlapping_boxes_are_dropped_as_torchvision_does(seed, num_boxes):
    """Our non-maximum suppression keeps the very boxes that torchvision's keeps, in its order."""
    from torchvision.ops import nms

    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (num_boxes, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(5, 40, (num_boxes, 2))), axis=1).astype(np.float32)
    scores = rng.uniform(0, 1, num_boxes).astype(np.float32)
    kept = non_maximum_suppression(boxes, scores, 0.4)

    assert kept.tolist() == nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.4).tolist()
