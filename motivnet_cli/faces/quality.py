"""How a face lies in its picture, and how well it is to be seen: measures that need no network.

Pose comes from the landmarks alone, sharpness and brightness from the pixels in the face's box alone: nothing of it
depends on the model, its margin or its recipe.
"""

from __future__ import annotations

from math import atan, atan2, ceil, degrees, floor, hypot
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.faces.resize import resized
from motivnet_cli.records import BLUR_SIDE, LANDMARKS, Quality

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from motivnet_cli.records import Box, Face, Landmarks, Point

NOSE_DEPTH = 0.605
"""How far the tip of the nose stands out before the plane of the eyes, in distances of the eyes: 3.83 to 6.33 in
MediaPipe's `canonical_face_model.obj` (vertex 1; an eye is the mean of its corners and lids, 33, 133, 145 and 159)."""
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)
"""Of red, green and blue (ITU-R BT.601)."""


def quality_of(rgb: NDArray[np.uint8], face: Face) -> Quality:
    """All measures of a face of the picture `rgb`, uint8 [H, W, 3]."""
    luma = _luma_in(rgb, face.box)
    return Quality(*pose_of(face.landmarks), blur=_laplacian_variance(luma), brightness=float(luma.mean()))


def pose_of(landmarks: Landmarks | None) -> tuple[float | None, float | None, float | None]:
    """Roll and yaw in degrees, and the distance of the eyes in pixels; None for what the landmarks do not tell.

    The roll is the angle of the line from the person's right eye to the left one in the picture, clockwise, -180 to
    180: 0 for an upright face, about 90 or -90 for one that lies on its side, about 180 for one upside down.

    The yaw is an estimate. Seen from far away, a head that is turned by ψ shows its eyes, which are e apart, at a
    distance of e cos ψ, and the tip of its nose, d before their plane, at n = d sin ψ from their middle along their
    line. So ψ is the arctangent of n over the distance of the eyes that is seen, over NOSE_DEPTH = d / e. It is
    positive where the person looks to their own left, which is the right of an upright picture that is not mirrored.
    It takes every face for the mean one, and the camera for far away, and knows nothing of how far the head nods; where
    an eye is hidden, a detector guesses it. It has not been compared with heads of known pose.
    """
    if landmarks is None:
        return None, None, None
    left_eye, right_eye, nose = (landmarks[LANDMARKS.index(name)] for name in ("left_eye", "right_eye", "nose"))
    if left_eye is None or right_eye is None or left_eye == right_eye:
        return None, None, None
    dx, dy = left_eye[0] - right_eye[0], left_eye[1] - right_eye[1]
    distance = hypot(dx, dy)
    return degrees(atan2(dy, dx)), None if nose is None else _yaw(left_eye, right_eye, nose), distance


def _yaw(left_eye: Point, right_eye: Point, nose: Point) -> float:
    dx, dy = left_eye[0] - right_eye[0], left_eye[1] - right_eye[1]
    aside = (nose[0] - (left_eye[0] + right_eye[0]) / 2) * dx + (nose[1] - (left_eye[1] + right_eye[1]) / 2) * dy
    return degrees(atan(aside / (dx * dx + dy * dy) / NOSE_DEPTH))


def sharpness(rgb: NDArray[np.uint8], box: Box) -> float:
    """The variance of the Laplacian of a face, at least 0: low where it is blurred, or too small to hold detail.

    The box's part of the picture `rgb`, uint8 [H, W, 3], is resized to BLUR_SIDE x BLUR_SIDE (bilinear, antialiased),
    made grey by the luma of BT.601, and convolved with 0 1 0 / 1 -4 1 / 0 1 0 (Pech-Pacheco et al., ICPR 2000).
    """
    return _laplacian_variance(_luma_in(rgb, box))


def _luma_in(rgb: NDArray[np.uint8], box: Box) -> NDArray[np.float32]:
    """What of a box lies in the picture, to whole pixels outwards, resized: float32 [BLUR_SIDE, BLUR_SIDE]."""
    x1, y1, x2, y2 = box
    inside = rgb[max(floor(y1), 0) : ceil(y2), max(floor(x1), 0) : ceil(x2)]  # [h, w, 3]
    grey: NDArray[np.float32] = resized(inside, BLUR_SIDE, BLUR_SIDE).astype(np.float32) @ _LUMA
    return grey


def _laplacian_variance(grey: NDArray[np.float32]) -> float:
    """Of grey [H, W]; where the kernel reaches beyond the edge, nothing is measured."""
    neighbours = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]  # [H - 2, W - 2]
    return float((neighbours - 4 * grey[1:-1, 1:-1]).var(dtype=np.float64))
