"""Which of the faces that were found are annotated, and by which option the others are left out."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from motivnet_cli.faces.detect import size_of
from motivnet_cli.faces.quality import pose_of, sharpness
from motivnet_cli.records import LeftOut

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from motivnet_cli.config import FaceConfig
    from motivnet_cli.records import Face


def select(rgb: NDArray[np.uint8], faces: list[Face], config: FaceConfig) -> tuple[list[Face], LeftOut]:
    """The faces of a picture that the settings keep, in their order, and how many each option leaves out.

    A face that was not detected is kept. A face whose eyes are not known has no roll, and is not left out by it.

    Args:
        rgb: uint8 [H, W, 3], 0 to 255, upright.
        config: Of it `min_face`, `max_roll`, `min_sharpness` and `max_faces` matter here.
    """

    def is_large(face: Face) -> bool:
        return min(size_of(face.box)) >= config.min_face

    def is_upright(face: Face) -> bool:
        roll, *_ = pose_of(face.landmarks)
        return config.max_roll is None or roll is None or abs(roll) <= config.max_roll

    def is_sharp(face: Face) -> bool:
        return not config.min_sharpness or sharpness(rgb, face.box) >= config.min_sharpness

    counts: list[int] = []
    for is_kept in (is_large, is_upright, is_sharp):
        kept = [face for face in faces if face.source != "detected" or is_kept(face)]
        counts.append(len(faces) - len(kept))
        faces = kept
    by_size = sorted(range(len(faces)), key=lambda i: -prod(size_of(faces[i].box)))
    largest = sorted(by_size[: config.max_faces])
    min_face, max_roll, min_sharpness = counts
    left_out = LeftOut(min_face, max_roll, min_sharpness, max_faces=len(faces) - len(largest))
    return [faces[i] for i in largest], left_out
