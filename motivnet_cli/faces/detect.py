"""Face detectors: the networks, and how their numbers become faces.

Boxes of both detectors mean the same, RetinaFace's box from hairline to chin, so that a crop does not depend on which
one was used. A detector may be shared by threads.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING, Protocol

import numpy as np
import onnxruntime

from motivnet_cli.errors import InputError
from motivnet_cli.faces.boxes import non_maximum_suppression
from motivnet_cli.faces.resize import resized
from motivnet_cli.records import LANDMARKS, Face

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.records import Box

MIN_LONG_SIDE = 128
"""Pictures with a smaller long side are enlarged to it: of 20 faces that fill 48 x 48 RetinaFace then finds 20,
not 14, and 20, not none, at 32 x 32 (benchmarks/detectors.py)."""

MAX_REACH = 100
"""A box that reaches further than this many long sides of the picture is no answer: the largest anchor is 4 long."""


class Detector(Protocol):
    """Finds faces in one picture."""

    def detect(self, rgb: NDArray[np.uint8], *, min_confidence: float) -> list[Face]:
        """Every face that scores at least `min_confidence`, best first.

        Args:
            rgb: uint8 [H, W, 3], 0 to 255, upright, of any size from 1 x 1.
            min_confidence: 0 to 1.

        Returns:
            Faces with a score, landmarks, and a box in pixels of `rgb`, clipped to it: 0 <= x1 < x2 <= W and
            0 <= y1 < y2 <= H.

        Raises:
            InputError: `bad_prediction`: the network's numbers are none, as of a damaged file or a faulty device.
        """


class RetinaFace:
    """RetinaFace with a MobileNet-0.25 body, trained on WIDER FACE."""

    # From the network's configuration: anchors, variances and the mean colour of its training pictures.
    _ANCHORS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
    """Stride in pixels, and the sides of the square anchors that every cell has."""
    _CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2
    _MEAN_BGR = np.array((104, 117, 123), np.float32)
    _COARSEST_STRIDE = 32
    _LANDMARKS = ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth")
    """In the order of its output, from the left of the picture to the right."""
    _MAX_OVERLAP = 0.4
    """IoU above which the weaker of two boxes is dropped."""

    def __init__(self) -> None:
        self._session = _session("retinaface_mobilenet025.onnx")

    def glance(self, rgb: NDArray[np.uint8], scale: float, *, min_confidence: float) -> list[Face]:
        """As `Detector.detect`, by a look at the picture shrunk to `scale`: 1 or more leaves it as large as it is.

        One under MIN_LONG_SIDE is enlarged to it.
        """
        height, width = rgb.shape[:2]
        longer = max(height, width)
        scale = max(min(scale, 1.0), MIN_LONG_SIDE / longer)
        rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
        (faces,) = self.look([resized(rgb, rows, columns)], min_confidence=min_confidence)
        return moved(faces, (width / columns, height / rows), picture=(width, height))

    def look(self, pictures: Sequence[NDArray[np.uint8]], *, min_confidence: float) -> list[list[Face]]:
        """The faces of each of some pictures of one shape, as `Detector.detect`, at the size that they have."""
        images = np.concatenate([self._input(rgb) for rgb in pictures])  # [B, 3, H', W']
        outputs = _numbers(self._session.run(["boxes", "scores", "landmarks"], {"image": images}))
        shape = pictures[0].shape[0], pictures[0].shape[1]
        order = [self._LANDMARKS.index(name) for name in LANDMARKS]
        found = []
        for offsets, scores, points in zip(*outputs, strict=True):  # [A, 4], [A, 2], [A, 10]
            likely = np.flatnonzero(scores[:, 1] >= min_confidence)  # [N]
            anchors = self._anchors(likely, images.shape[2:])  # [N, 3]
            boxes = self._boxes(offsets[likely], anchors)  # [N, 4]
            landmarks = self._points(points[likely], anchors)[:, order]  # [N, 5, 2]
            found.append(_faces(boxes, scores[likely, 1], landmarks, shape, max_overlap=self._MAX_OVERLAP))
        return found

    def _input(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """A picture [H, W, 3] as the network takes it: BGR less the mean colour, filled up to whole cells."""
        rows, columns = rgb.shape[:2]
        padded = (-(-side // self._COARSEST_STRIDE) * self._COARSEST_STRIDE for side in (rows, columns))
        image = np.zeros((1, 3, *padded), np.float32)  # [1, 3, H', W']; zero is the mean colour
        for channel, mean in enumerate(self._MEAN_BGR):  # plane by plane: 1.3 ms where all at once takes 6
            np.subtract(rgb[..., 2 - channel], mean, out=image[0, channel, :rows, :columns])
        return image

    def _anchors(self, indices: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Anchors [N, 3] in pixels of the network's input [H', W'] = `shape`: centre x, centre y, side.

        Args:
            indices: [N], of these anchors among all.
        """
        anchors = np.empty((len(indices), 3), np.float32)  # [N, 3]
        first = 0
        for stride, sides in self._ANCHORS:
            cells_across = shape[1] // stride
            num_anchors = shape[0] // stride * cells_across * len(sides)
            here = (indices >= first) & (indices < first + num_anchors)  # [N]
            cell, size = np.divmod(indices[here] - first, len(sides))
            row, column = np.divmod(cell, cells_across)
            anchors[here] = np.stack(((column + 0.5) * stride, (row + 0.5) * stride, np.take(sides, size)), axis=1)
            first += num_anchors
        return anchors

    def _boxes(self, offsets: NDArray[np.float32], anchors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes [N, 4] of `offsets` [N, 4], of centre and size, from `anchors` [N, 3]."""
        side = anchors[:, 2:]  # [N, 1]
        centre = anchors[:, :2] + self._CENTRE_VARIANCE * offsets[:, :2] * side  # [N, 2]
        with np.errstate(over="ignore"):  # to infinity, which `_faces` refuses
            half = side * np.exp(self._SIZE_VARIANCE * offsets[:, 2:]) / 2  # [N, 2]
        return np.concatenate((centre - half, centre + half), axis=1)  # [N, 4]

    def _points(self, offsets: NDArray[np.float32], anchors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points [N, 5, 2] of `offsets` [N, 10] from the centres of `anchors` [N, 3]."""
        points: NDArray[np.float32] = (
            anchors[:, None, :2] + self._CENTRE_VARIANCE * offsets.reshape(-1, 5, 2) * anchors[:, None, 2:]
        )
        return points


class BlazeFace:
    """MediaPipe's BlazeFace for the back camera: faster, but it misses small faces.

    It boxes a face from brow to chin in a square. On 22 faces in photographs that square was 0.76 as high as
    RetinaFace's box and its centre lay lower by 9 % of RetinaFace's height; the widths were alike. So its boxes
    are heightened and lifted by that much, and a crop means the same face with either detector.
    """

    _SIDE = 256
    _GRIDS = ((16, 2), (8, 6))
    """Cells along a side, and anchors in every cell."""
    _MAX_OVERLAP = 0.3
    """IoU above which the weaker of two boxes is dropped."""
    _LANDMARKS = ("right_eye", "left_eye", "nose")
    """The first of its six points; the others are the middle of the mouth and the ears."""
    _HEIGHT_OF_RETINAFACE = 0.76
    _LOWER = 0.09
    """Its height, and how much lower it lies, in heights of RetinaFace's box."""

    def __init__(self) -> None:
        self._session = _session("blazeface_back.onnx")
        centres = []
        for cells, num_anchors in self._GRIDS:
            y, x = np.mgrid[:cells, :cells].reshape(2, -1)
            centres.append(np.repeat(np.stack((x + 0.5, y + 0.5), axis=1) * (self._SIDE / cells), num_anchors, axis=0))
        self._centres = np.concatenate(centres).astype(np.float32)  # [A, 2]

    def detect(self, rgb: NDArray[np.uint8], *, min_confidence: float) -> list[Face]:
        """As `Detector.detect`."""
        height, width = rgb.shape[:2]
        scale = self._SIDE / max(height, width)
        rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = (self._SIDE - rows) // 2, (self._SIDE - columns) // 2
        square = np.zeros((self._SIDE, self._SIDE, 3), np.uint8)  # [256, 256, 3]
        square[top : top + rows, left : left + columns] = resized(rgb, rows, columns)
        boxes, scores, points = self._found(square, min_confidence)  # [N, 4], [N], [N, 3, 2]
        offset, factors = np.array((left, top), np.float32), np.array((width / columns, height / rows), np.float32)
        boxes = (boxes - np.tile(offset, 2)) * np.tile(factors, 2)
        landmarks = np.full((len(points), len(LANDMARKS), 2), np.nan, np.float32)  # [N, 5, 2]
        landmarks[:, [LANDMARKS.index(name) for name in self._LANDMARKS]] = (points - offset) * factors
        return _faces(boxes, scores, landmarks, (height, width), max_overlap=self._MAX_OVERLAP)

    def _found(
        self, square: NDArray[np.uint8], min_confidence: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Boxes [N, 4] in pixels of the square, as RetinaFace would draw them, scores [N] and points [N, 3, 2]."""
        image = (square.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]  # [1, 3, 256, 256]
        by_size = {output.shape[1:]: output[0] for output in _numbers(self._session.run(None, {"x": image}))}
        levels = [cells * cells * num_anchors for cells, num_anchors in self._GRIDS]
        logits = np.concatenate([by_size[n, 1] for n in levels])[:, 0]  # [A]
        scores = 1 / (1 + np.exp(-logits.clip(-80, 80)))
        likely = np.flatnonzero(scores >= min_confidence)  # [N]
        values = np.concatenate([by_size[n, 16] for n in levels])[likely]  # [N, 16]
        centre = self._centres[likely] + values[:, :2]  # [N, 2]
        size = values[:, 2:4] / (1, self._HEIGHT_OF_RETINAFACE)  # [N, 2]
        centre[:, 1] -= self._LOWER * size[:, 1]
        half = size / 2
        boxes = np.concatenate((centre - half, centre + half), axis=1)  # [N, 4]
        num_points = len(self._LANDMARKS)
        points = values[:, 4 : 4 + 2 * num_points].reshape(-1, num_points, 2) + self._centres[likely, None]
        return boxes.astype(np.float32), scores[likely], points.astype(np.float32)


def _session(name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # A plan for every input size stays in memory: 30 MB more over 1,000 sizes, flat without, and no slower.
    options.enable_mem_pattern = False
    network = (resources.files("motivnet_cli") / "assets" / name).read_bytes()
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def _numbers(answers: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """What the network has said of a picture, whether or not it makes a face: all of it must be finite."""
    if not all(np.isfinite(answer).all() for answer in answers):
        raise InputError("bad_prediction", "the face detector gave numbers that are NaN or infinite")
    return answers


def _faces(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    landmarks: NDArray[np.float32],
    shape: tuple[int, int],
    *,
    max_overlap: float,
) -> list[Face]:
    """Of boxes [N, 4] the best of those that overlap, clipped to a picture [H, W] = `shape`, best first.

    Args:
        landmarks: [N, 5, 2], in the order of LANDMARKS; NaN for what the detector does not know.

    Raises:
        InputError: A box or a point reaches beyond all reason, or a score is not between 0 and 1.
    """
    reach = MAX_REACH * max(shape)
    is_possible = (np.abs(boxes) <= reach).all() and not (np.abs(landmarks) > reach).any()
    if not is_possible or not ((scores >= 0) & (scores <= 1)).all():
        raise InputError("bad_prediction", "the face detector gave boxes or scores that cannot be")
    kept = non_maximum_suppression(boxes, scores, max_overlap)
    height, width = shape
    clipped = boxes[kept].clip(0, np.tile((width, height), 2)).tolist()
    faces = [
        Face((x1, y1, x2, y2), "detected", score, tuple(None if x != x else (x, y) for x, y in points))
        for (x1, y1, x2, y2), score, points in zip(
            clipped, scores[kept].tolist(), landmarks[kept].tolist(), strict=True
        )
    ]
    return [face for face in faces if min(size_of(face.box)) > 0]


def moved(
    faces: Iterable[Face],
    factors: tuple[float, float],
    *,
    offset: tuple[float, float] = (0, 0),
    picture: tuple[int, int],
) -> list[Face]:
    """Faces found in a part of a picture, or in a resized one, in the pixels of the picture itself.

    Args:
        factors: Pixels of the picture for one of the part's, across and down.
        offset: Where in the picture the part begins, from the left and from the top.
        picture: Width and height of the picture: boxes are clipped to it, and those of which nothing is left go.
    """
    (across, down), (left, top) = factors, offset
    result = []
    for face in faces:
        x1, y1, x2, y2 = (np.reshape(face.box, (2, 2)) * factors + offset).clip(0, picture).ravel().tolist()
        points = (point and (point[0] * across + left, point[1] * down + top) for point in face.landmarks or ())
        if x1 < x2 and y1 < y2:
            result.append(replace(face, box=(x1, y1, x2, y2), landmarks=tuple(points)))
    return result


def size_of(box: Box) -> tuple[float, float]:
    """Width and height of a box."""
    x1, y1, x2, y2 = box
    return x2 - x1, y2 - y1
