"""The five landmarks of made faces, of which every point is known: turned, scaled, mirrored, and in a video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from PIL import Image
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.config import FaceConfig
from motivnet_cli.faces.find import find_faces, load_detector
from motivnet_cli.faces.quality import pose_of
from motivnet_cli.records import LANDMARK_COLUMNS
from tests.clips import write_clip
from tests.pictures import ASTRONAUT_POINTS, SAMPLE_DATA

DETECTORS = {"retinaface": 5, "blazeface": 3}
"""And how many of LANDMARKS, from the first, each knows."""
_CENTRE = np.array((224.0, 121.0))
"""Of the face in the portrait."""
_MIRRORED = [1, 0, 2, 4, 3]
"""Where a mirror puts each of LANDMARKS: a left eye in it is a right one."""


@dataclass(frozen=True)
class Made:
    """A picture of the astronaut's face, and where its points lie in it."""

    rgb: np.ndarray
    points: np.ndarray  # [5, 2]

    @property
    def eye_distance(self):
        return float(np.linalg.norm(self.points[0] - self.points[1]))

    @property
    def roll(self):
        x, y = self.points[0] - self.points[1]
        return float(np.degrees(np.arctan2(y, x)))

    def errors(self, landmarks):
        """Distances of the landmarks, as many as are given, in distances of the eyes."""
        found = np.array(landmarks, float)
        return np.linalg.norm(found - self.points[: len(found)], axis=1) / self.eye_distance


@pytest.fixture(scope="module")
def portrait():
    with Image.open(SAMPLE_DATA / "astronaut.png") as picture:
        return picture.convert("RGB")


@pytest.fixture(scope="module", params=DETECTORS)
def detector(request):
    return request.param, load_detector(request.param)


def made(portrait, *, angle=0.0, scale=1.0, mirrored=False, centre=(290, 260), size=(640, 480)):
    """The portrait mirrored, scaled, turned clockwise by `angle` degrees, and moved so that its face is at `centre`."""
    radians = np.radians(angle)
    turn = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])  # y goes down
    forward = turn @ np.diag((-scale if mirrored else scale, scale))
    points = (np.array(ASTRONAUT_POINTS) - _CENTRE) @ forward.T + centre
    shrunk = portrait.resize((round(portrait.width * min(scale, 1)),) * 2, Image.Resampling.LANCZOS)
    back = np.linalg.inv(forward)
    affine = np.column_stack((back, _CENTRE - back @ centre)) * shrunk.width / portrait.width
    picture = shrunk.transform(
        size, Image.Transform.AFFINE, affine.ravel().tolist(), Image.Resampling.BICUBIC, fillcolor=(70, 110, 150)
    )
    return Made(np.array(picture), points[_MIRRORED] if mirrored else points)


def judged(pictures, detector, *, bound, mean_bound, roll_bound):
    """Find the face of each picture, the surest one, and hold its landmarks and the roll against what was made."""
    name, network = detector
    means, faces = [], []
    for picture in pictures:
        face = max(find_faces(picture.rgb, FaceConfig(detector=name), network), key=lambda face: face.score)
        errors = picture.errors(face.landmarks[: DETECTORS[name]])
        roll, _, eye_distance = pose_of(face.landmarks)
        assert face.landmarks[DETECTORS[name] :] == (None,) * (5 - DETECTORS[name])
        assert errors.max() < bound
        assert abs((roll - picture.roll + 180) % 360 - 180) < roll_bound
        assert eye_distance == pytest.approx(picture.eye_distance, rel=0.25)
        means.append(errors.mean())
        faces.append(face)
    assert np.mean(means) < mean_bound
    return faces


def test_turned_faces(portrait, detector):
    """From 30 degrees to the left to 30 to the right, anywhere in the picture."""
    pictures = [
        made(portrait, angle=angle, centre=(320 + 5 * angle, 240 - 2 * angle))
        for angle in (-30, -20, -10, 0, 10, 20, 30)
    ]
    judged(pictures, detector, bound=0.25, mean_bound=0.1, roll_bound=9)


def test_faces_on_their_side_and_upside_down(portrait):
    """The points are of the picture as it is, not as it was turned to find the face; the roll and the turn say how."""
    angles = (90, 120, 180, 240, 270)
    pictures = [made(portrait, angle=angle, centre=(260, 220)) for angle in angles]
    detector = "retinaface", load_detector("retinaface")
    faces = judged(pictures, detector, bound=0.25, mean_bound=0.12, roll_bound=9)
    assert [(face.turn + angle) % 360 in (0, 30, 330) for face, angle in zip(faces, angles, strict=True)] == [True] * 5


def test_mirrored_faces(portrait, detector):
    """The mirror has exchanged the person's left and right: the left eye is on the right of the picture, again."""
    pictures = [made(portrait, angle=angle, mirrored=True) for angle in (-20, 0, 20)]
    judged(pictures, detector, bound=0.2, mean_bound=0.1, roll_bound=9)
    assert all(picture.points[0][0] > picture.points[1][0] for picture in pictures)


def test_small_and_large_faces(portrait, detector):
    """From 37 pixels to 490: of the smallest, an eye is two pixels wide."""
    pictures = [
        made(
            portrait, scale=scale, centre=(290 * factor, 260 * factor), size=(round(640 * factor), round(480 * factor))
        )
        for scale in (0.3, 0.5, 1, 2, 4)
        for factor in [max(scale, 0.5)]
    ]
    judged(pictures, detector, bound=0.35, mean_bound=0.1, roll_bound=9)


def test_padded_faces(portrait, detector):
    """Ground on one side moves every point by its width."""
    plain = made(portrait)
    landmarks = []
    for left, top in ((0, 0), (128, 0), (64, 192)):
        padded = np.pad(plain.rgb, ((top, 192 - top), (left, 128 - left), (0, 0)))
        (face,) = find_faces(padded, FaceConfig(detector=detector[0]), detector[1])
        landmarks.append(np.array(face.landmarks[: DETECTORS[detector[0]]]) - (left, top))
    np.testing.assert_allclose(landmarks, landmarks[:1] * 3, atol=0.1 * plain.eye_distance)


def test_landmarks_follow_a_face_through_a_video(portrait, tmp_path):
    """A face that crosses the picture by 25 pixels a frame and turns: each row has the points of its own frame."""
    frames = [
        made(portrait, angle=2 * n - 10, scale=0.8 + 0.04 * n, centre=(170 + 25 * n, 250 - 5 * n)) for n in range(11)
    ]
    write_clip(tmp_path / "v.mp4", [(frame.rgb, n / 10) for n, frame in enumerate(frames)], fps=10)
    out = tmp_path / "v.parquet"
    command = ["annotate", str(tmp_path / "v.mp4"), "--frames", "all", "--model", "expression-net", "--out", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    rows = pl.read_parquet(out)

    assert rows["frame"].to_list() == list(range(11))
    found = rows.select(LANDMARK_COLUMNS).to_numpy().reshape(-1, 5, 2)
    errors = np.array([frame.errors(points) for frame, points in zip(frames, found, strict=True)])
    assert errors.max() < 0.2
    assert errors.mean() < 0.08
    np.testing.assert_allclose(rows["roll"], [frame.roll for frame in frames], atol=6)
    np.testing.assert_allclose(rows["eye_distance"], [frame.eye_distance for frame in frames], rtol=0.15)
    assert set(rows["turn"]) == {0}
