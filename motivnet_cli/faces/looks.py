"""Finding faces with RetinaFace by two looks: one at the whole picture, and a finer one at the places that it names.

Shrunk until a look is cheap, a small face is no longer sure, but it still leaves a weak answer where it is. Such places
are few, and cut out and enlarged they cost little: what a look at the whole picture at four times the pixels finds is
found for little more than the first look costs (docs/decisions/0003-face-detector.md).
"""

from __future__ import annotations

from math import prod, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from motivnet_cli.faces.detect import RetinaFace, moved, size_of
from motivnet_cli.faces.laps import lap
from motivnet_cli.faces.resize import resized

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.records import Box, Face

    Rgb = NDArray[np.uint8]

FIRST_SIDE = 720
FIRST_PIXELS = 720 * 540
"""The first look is at a picture shrunk to this many pixels, or to FIRST_SIDE on its longer side if that is more: a
panorama may be longer for the same work."""
WEAK_SCORE = 0.015
"""From this score on, an answer of the first look is a place to look at again."""
SMALL = 32
"""And so is a face of fewer pixels than this in the first look: where it begins and ends is not certain."""
SECOND_SCORE = 0.95
"""What the second look takes for a face where the first had only a weak answer: 0.98 of faces score so there, and 1 of
13,640 patterns in 156 pictures; 41 of these score 0.6."""
PLACE_FACES = 3.0
"""How many faces wide and high a place is."""
PLACE_SIDE = 128
"""Pixels of a place as the network sees it: the face in its middle has 43. At 192 five patterns score SECOND_SCORE."""
MAX_RATIO = 2.0
"""How much smaller than the face that a place is for another may be that is looked at there, too."""
MAX_PLACES = 64
"""Places of a picture that are looked at again, those of the best answers: what they cost is bounded."""
BATCH = 8
"""Places that are looked at together."""
SAME = 0.5
"""Two boxes that share so much of the smaller one are one face."""


_GROUND = (123, 117, 104)
"""The mean colour of the network's training pictures: what its own padding is."""


class OneLook:
    """The detector of `--detection-size N`: RetinaFace on pictures shrunk to N pixels on the longer side."""

    def __init__(self, detection_size: int) -> None:
        self._network = RetinaFace()
        self._detection_size = detection_size

    def detect(self, rgb: Rgb, *, min_confidence: float) -> list[Face]:
        """As `Detector.detect`."""
        return self._network.glance(rgb, self._detection_size / max(rgb.shape[:2]), min_confidence=min_confidence)


class TwoLooks:
    """The detector of `--detection-size auto`."""

    def __init__(self) -> None:
        self._network = RetinaFace()

    def detect(self, rgb: Rgb, *, min_confidence: float) -> list[Face]:
        """As `Detector.detect`."""
        height, width = rgb.shape[:2]
        scale = max(FIRST_SIDE / max(height, width), sqrt(FIRST_PIXELS / (height * width)))
        answers = self._network.glance(rgb, scale, min_confidence=min(WEAK_SCORE, min_confidence))
        sure = [face for face in answers if _score(face) >= min_confidence]
        least = SMALL / min(scale, 1)
        large = [face for face in sure if min(size_of(face.box)) >= least]
        small = [face for face in sure if min(size_of(face.box)) < least]
        weak = [face for face in answers[len(sure) :] if not any(_are_one(face.box, other.box) for other in sure)]
        again = self._look_again(rgb, [*small, *weak], max(min_confidence, SECOND_SCORE))
        small = [face for face in small if _score(face) >= SECOND_SCORE]  # or the second look has to see it
        return sorted(_distinct([*large, *again, *small]), key=_score, reverse=True)

    @lap("second_look")
    def _look_again(self, rgb: Rgb, doubtful: Iterable[Face], min_confidence: float) -> list[Face]:
        """What a finer look finds at the places of doubtful answers, best first."""
        places = _places(doubtful, height=rgb.shape[0], width=rgb.shape[1])
        found = []
        for start in range(0, len(places), BATCH):
            batch = places[start : start + BATCH]
            seen = self._network.look([place.cut(rgb) for place in batch], min_confidence=min_confidence)
            for place, faces in zip(batch, seen, strict=True):
                found += place.in_picture([face for face in faces if place.shows_whole(face)])
        return sorted(found, key=_score, reverse=True)


class _Place(NamedTuple):
    """A part of a picture, in its pixels; as the network sees it, it begins at the top left of a square."""

    left: int
    top: int
    right: int
    bottom: int
    width: int
    height: int
    """Of the picture."""

    @classmethod
    def around(cls, box: Box, *, width: int, height: int) -> _Place:
        """The square in whose middle a box is, as far as it lies in the picture: shifted first, then cut."""
        x1, y1, x2, y2 = box
        side = max(1, round(PLACE_FACES * max(size_of(box))))
        left = max(0, min(round((x1 + x2 - side) / 2), width - side))
        top = max(0, min(round((y1 + y2 - side) / 2), height - side))
        return cls(left, top, min(left + side, width), min(top + side, height), width, height)

    @property
    def _scale(self) -> tuple[float, float]:
        """Pixels of the picture for one of the network's, across and down."""
        rows, columns = self._shape
        return (self.right - self.left) / columns, (self.bottom - self.top) / rows

    @property
    def _shape(self) -> tuple[int, int]:
        across, down = self.right - self.left, self.bottom - self.top
        longer = max(across, down)
        return max(1, round(down * PLACE_SIDE / longer)), max(1, round(across * PLACE_SIDE / longer))

    def cut(self, rgb: Rgb) -> Rgb:
        """uint8 [PLACE_SIDE, PLACE_SIDE, 3]."""
        rows, columns = self._shape
        pixels = np.empty((PLACE_SIDE, PLACE_SIDE, 3), np.uint8)
        pixels[:] = _GROUND
        pixels[:rows, :columns] = resized(rgb[self.top : self.bottom, self.left : self.right], rows, columns)
        return pixels

    def shows_whole(self, face: Face) -> bool:
        """Whether a face, in the network's pixels, ends before the place does, but where the picture ends, too."""
        rows, columns = self._shape
        x1, y1, x2, y2 = face.box
        return (
            (x1 > 0 or self.left == 0)
            and (y1 > 0 or self.top == 0)
            and (x2 < columns or self.right == self.width)
            and (y2 < rows or self.bottom == self.height)
        )

    def in_picture(self, faces: Iterable[Face]) -> list[Face]:
        """Faces in the network's pixels in those of the picture."""
        return moved(faces, self._scale, offset=(self.left, self.top), picture=(self.width, self.height))

    def covers(self, box: Box) -> bool:
        """Whether a box lies well within, as a face of the size that the place is for."""
        x1, y1, x2, y2 = box
        side = max(size_of(box))
        rim = side / 2
        is_of_its_size = side > max(self.right - self.left, self.bottom - self.top) / (PLACE_FACES * MAX_RATIO)
        return (
            is_of_its_size
            and (x1 - rim >= self.left or self.left == 0)
            and (y1 - rim >= self.top or self.top == 0)
            and (x2 + rim <= self.right or self.right == self.width)
            and (y2 + rim <= self.bottom or self.bottom == self.height)
        )


def _places(doubtful: Iterable[Face], *, width: int, height: int) -> list[_Place]:
    """Where to look again: around each answer that no place of a better one covers."""
    places: list[_Place] = []
    for face in doubtful:
        if len(places) < MAX_PLACES and not any(place.covers(face.box) for place in places):
            places.append(_Place.around(face.box, width=width, height=height))
    return places


def _distinct(faces: Sequence[Face]) -> list[Face]:
    """Each face once, as the first that saw it did: part of a face is no other face."""
    kept: list[Face] = []
    for face in faces:
        if not any(_are_one(face.box, other.box) for other in kept):
            kept.append(face)
    return kept


def _are_one(a: Box, b: Box) -> bool:
    """Whether two boxes share so much of the smaller one that they are of one face."""
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if across <= 0 or down <= 0:
        return False
    return across * down > SAME * min(prod(size_of(a)), prod(size_of(b)))


def _score(face: Face) -> float:
    return face.score or 0.0
