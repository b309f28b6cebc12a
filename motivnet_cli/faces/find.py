"""The faces of a picture: which detector looks for them, and what is taken for a face without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError
from motivnet_cli.faces.detect import BlazeFace
from motivnet_cli.faces.looks import OneLook, TwoLooks
from motivnet_cli.faces.turns import AnyTurn
from motivnet_cli.records import Face

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from motivnet_cli.config import DetectionSize, FaceConfig
    from motivnet_cli.faces.detect import Detector

MAX_CROP_SIDE = 512
MAX_CROP_RATIO = 1.5
"""Mode `auto` takes a picture whole only if its longer side is at most MAX_CROP_SIDE pixels and MAX_CROP_RATIO times
the shorter one. Sets of face crops lie well within: 48 x 48 (FER2013), 100 x 100 (RAF-DB, aligned), 178 x 218 (CelebA),
224 x 224 (AffectNet as commonly passed on), 250 x 250 (LFW). Photographs and screens are larger, or 16:9."""


def load_detector(name: str, *, detection_size: DetectionSize = "auto") -> Detector:
    """The detector of this name, read from the package.

    Args:
        detection_size: The longer side to which RetinaFace shrinks larger pictures, for one look; `auto` looks again
            where the first look leaves a doubt, and at the picture turned where no face is surely upright. BlazeFace
            always looks once, at 256 x 256 pixels.

    Raises:
        ConfigError: No detector has this name.
    """
    if name == "retinaface":
        return AnyTurn(TwoLooks()) if detection_size == "auto" else OneLook(detection_size)
    if name == "blazeface":
        return BlazeFace()
    raise ConfigError(f"no face detector is named {name!r}; known detectors: retinaface, blazeface")


def find_faces(
    rgb: NDArray[np.uint8], config: FaceConfig, detector: Detector | None, *, in_video: bool = False
) -> list[Face]:
    """The faces of a picture, left to right.

    Mode `whole` takes the picture as one face; `detect` may find none; `auto` takes the whole picture where the
    detector finds none and the picture can be a face crop by its size (MAX_CROP_SIDE, MAX_CROP_RATIO), never in a
    video.

    Args:
        rgb: uint8 [H, W, 3], 0 to 255.
        config: Of it `mode` and `min_confidence` matter here.
        detector: None only for mode `whole`.
        in_video: Whether the picture is a frame of a video.

    Raises:
        InputError: As `Detector.detect`.
    """
    height, width = rgb.shape[:2]
    whole = Face((0.0, 0.0, float(width), float(height)), "whole")
    if config.mode == "whole":
        return [whole]
    assert detector is not None, f"mode {config.mode!r} needs a detector"
    found = detector.detect(rgb, min_confidence=config.min_confidence)
    if not found and config.mode == "auto" and not in_video and _can_be_crop(height, width):
        return [whole]
    return sorted(found, key=lambda face: face.box[:2])


def _can_be_crop(height: int, width: int) -> bool:
    shorter, longer = sorted((height, width))
    return longer <= MAX_CROP_SIDE and longer <= MAX_CROP_RATIO * shorter
