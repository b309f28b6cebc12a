"""Faces in pictures that lie on their side or stand on their head, as of phones that wrote no orientation.

A detector that was trained on upright faces finds many of the others, too, and then their crop lies on its side. But it
is seldom as sure, and its landmarks say how the face lies: so a picture is turned where no face of it is surely upright
(docs/decisions/0003-face-detector.md).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.faces.detect import moved
from motivnet_cli.faces.laps import lap
from motivnet_cli.faces.quality import pose_of
from motivnet_cli.faces.resize import resized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from motivnet_cli.faces.detect import Detector
    from motivnet_cli.records import Face, Point

    Rgb = NDArray[np.uint8]

SURE = 0.99
"""From this score on, a face whose eyes are level is upright: of 100 faces in upright pictures 94 score so, in pictures
that are turned 2 of the 162 that are found at all. A picture is turned only where a face in it is then as sure: of 110
pictures without people three had patterns that scored 0.96 to 0.989 when they were turned."""
MAX_ROLL = 45
"""Degrees from which on the eyes are not level."""
TURNED_SIDE = 1440
"""A picture is shrunk to this many pixels on its longer side before it is turned: it bounds the memory."""


class AnyTurn:
    """A detector that looks at pictures turned by 90, 180 and 270 degrees, too, where no face is surely upright."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def detect(self, rgb: Rgb, *, min_confidence: float) -> list[Face]:
        """As `Detector.detect`, but that `rgb` need not be upright; all faces of a picture have the same `turn`."""
        faces = self._detector.detect(rgb, min_confidence=min_confidence)
        if _evidence(faces) >= SURE:
            return faces
        small = _shrunk(rgb)
        height, width = rgb.shape[:2]
        best = SURE
        for turn in (90, 180, 270):
            turned = np.rot90(small, -turn // 90).copy()
            with lap("turned_looks"):
                found = self._detector.detect(turned, min_confidence=min_confidence)
            if _evidence(found) >= best:
                best = _evidence(found)
                factors = width / small.shape[1], height / small.shape[0]
                faces = moved((_back(face, turn, small.shape) for face in found), factors, picture=(width, height))
        return faces


def _evidence(faces: Sequence[Face]) -> float:
    """The best score of a face whose eyes are level, 0 if there is none."""
    return max((face.score or 0.0 for face in faces if abs(pose_of(face.landmarks)[0] or 0) < MAX_ROLL), default=0.0)


def _shrunk(rgb: Rgb) -> Rgb:
    height, width = rgb.shape[:2]
    scale = min(1, TURNED_SIDE / max(height, width))
    return resized(rgb, max(1, round(height * scale)), max(1, round(width * scale)))


def _back(face: Face, turn: int, shape: tuple[int, ...]) -> Face:
    """A face of a picture that was turned by `turn` degrees, as it lies in the picture of `shape` itself."""
    height, width = shape[:2]

    def back(x: float, y: float) -> Point:
        if turn == 90:
            return y, height - x
        return (width - x, height - y) if turn == 180 else (width - y, x)

    x1, y1, x2, y2 = face.box
    (left, right), (top, bottom) = map(sorted, zip(back(x1, y1), back(x2, y2), strict=True))
    points = tuple(point and back(*point) for point in face.landmarks or ())
    return replace(face, box=(left, top, right, bottom), landmarks=points, turn=turn)
