"""Common corruptions of a picture, in five severities: what a robustness benchmark does to it before it is looked at.

The values are those of ImageNet-C where it has the corruption (Hendrycks and Dietterich, arXiv 1903.12261, and their
code in github.com/hendrycks/robustness), made there for pictures of 224 x 224 pixels. Here a picture has any size, so
what they give in pixels is scaled to its face. Functions may run in several threads at once.
"""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import Image, ImageFilter

from motivnet_cli.config import SEVERITIES
from motivnet_cli.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.config import Corruption, CorruptionName
    from motivnet_cli.records import Box

    Rgb = NDArray[np.uint8]

REFERENCE_SIDE = 224
"""Pixels a side of ImageNet-C's pictures."""

STRENGTHS: dict[CorruptionName, tuple[float, ...]] = {
    "blur": (1, 2, 3, 4, 6),  # ImageNet-C gaussian_blur: standard deviation, pixels of REFERENCE_SIDE
    "noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # ImageNet-C gaussian_noise: standard deviation, share of the full range
    "jpeg": (25, 18, 15, 10, 7),  # ImageNet-C jpeg_compression: quality, 1 to 100
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # ImageNet-C brightness: added to the V of HSV, share of the full range
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),  # ImageNet-C contrast: what is left of the distance from the mean
    "resolution": (0.6, 0.5, 0.4, 0.3, 0.25),  # ImageNet-C pixelate: side of the picture, in REFERENCE_SIDE
    "occlusion": (0.05, 0.1, 0.2, 0.3, 0.4),  # ours: share of the face's box
}
"""How strong each corruption is at the severities 1 to 5."""

BY_FACES = frozenset({"blur", "noise", "resolution", "occlusion"})
"""Those that go by the boxes of the picture's faces; the others change every picture alike."""

_GREY = 127
"""Of the occluder, as in Zeiler and Fergus, arXiv 1311.2901: it adds no detail of its own."""
_MAX_JPEG_SIDE = 65_500
"""Of libjpeg."""
_BAND_PIXELS = 1 << 20
"""Of a picture that are computed on in floats at once: 12 MB."""


def corrupt(rgb: Rgb, corruption: Corruption, faces: Sequence[Box]) -> Rgb:
    """A picture after a corruption. What is drawn depends on the picture alone, not on threads, order or severity.

    The same noise and the same place of the occluder at every severity: a curve over severities shows their strength.

    Args:
        rgb: uint8 [H, W, 3], 0 to 255, not empty.
        corruption: A key of STRENGTHS, and a severity from 1 to 5.
        faces: Boxes of its faces in pixels, the picture's own where it is one face; they may reach over its edge. The
            shorter side of the largest is what stands for REFERENCE_SIDE. None: the picture.

    Returns:
        uint8 [H, W, 3], a new array.

    Raises:
        InputError: `too_large`: a side is longer than a JPEG's can be.
    """
    height, width = rgb.shape[:2]
    boxes = list(faces) or [(0.0, 0.0, float(width), float(height))]
    side = max(min(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes)
    scale = max(float(side), 1.0) / REFERENCE_SIDE
    name, severity = corruption
    strength = STRENGTHS[name][SEVERITIES.index(severity)]
    rgb = np.ascontiguousarray(rgb)
    if name == "blur":
        return _array(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(strength * scale)))
    if name == "noise":
        return _noisy(rgb, strength, max(scale, 1.0), _random(rgb, name))
    if name == "jpeg":
        return _jpeg(rgb, round(strength))
    if name == "brightness":
        return _brighter(rgb, strength)
    if name == "contrast":
        return _flatter(rgb, strength)
    if name == "resolution":
        return _coarser(rgb, strength / max(scale, 1.0))
    return _occluded(rgb, strength, boxes, _random(rgb, name))


def _random(rgb: Rgb, name: CorruptionName) -> np.random.Generator:
    """Numbers that depend on the picture alone: wherever it lies and however it is called, they are the same."""
    content = hashlib.blake2b(f"{name} {rgb.shape}".encode(), digest_size=16)
    content.update(rgb.data)
    return np.random.default_rng(int.from_bytes(content.digest(), "big"))


def _noisy(rgb: Rgb, deviation: float, grain: float, random: np.random.Generator) -> Rgb:
    """Gaussian noise in grains of `grain` >= 1 pixels a side; of a grey picture the noise is grey, too."""
    height, width = rgb.shape[:2]
    columns = (np.arange(width) / grain).astype(np.int64)  # [W], the grain of each column
    rows = (np.arange(height) / grain).astype(np.int64)  # [H]
    channels = 1 if (rgb == rgb[:, :, :1]).all() else 3
    noisy = np.empty_like(rgb)
    drawn, first_row = np.empty((0, columns[-1] + 1, channels), np.float32), 0  # [rows of grains, grains, channels]
    for band in _bands(rgb):
        own = rows[band]
        kept = drawn[own[0] - first_row :]  # a row of grains may reach from the band before into this one
        new = random.standard_normal((own[-1] + 1 - own[0] - len(kept), *drawn.shape[1:]), np.float32)
        drawn, first_row = np.concatenate((kept, new)), own[0]
        noise = drawn[own - first_row][:, columns]  # [band, W, channels]
        noisy[band] = _bytes(rgb[band] + 255 * deviation * noise)
    return noisy


def _jpeg(rgb: Rgb, quality: int) -> Rgb:
    """Compressed and decoded, with colours at half the resolution as most programs write them."""
    height, width = rgb.shape[:2]
    if max(height, width) > _MAX_JPEG_SIDE:
        raise InputError(
            "too_large",
            f"{width} x {height} pixels cannot be compressed as JPEG for --corrupt: {_MAX_JPEG_SIDE} a side at most",
        )
    content = BytesIO()
    Image.fromarray(rgb).save(content, "JPEG", quality=quality, subsampling="4:2:0")
    decoded: Rgb = simplejpeg.decode_jpeg(content.getvalue())
    return decoded


def _brighter(rgb: Rgb, amount: float) -> Rgb:
    """`amount` of the full range added to the V of HSV, hue and saturation as they were."""

    def change(band: Rgb) -> NDArray[np.float32]:
        value = band.max(axis=2, keepdims=True).astype(np.float32)  # [band, W, 1]
        wanted = np.minimum(value + 255 * amount, 255)
        is_black = value == 0  # it has no hue: it becomes grey
        brighter: NDArray[np.float32] = np.where(is_black, wanted, band * (wanted / np.where(is_black, 1, value)))
        return brighter

    return _by_bands(rgb, change)


def _flatter(rgb: Rgb, share: float) -> Rgb:
    """Every channel nearer to its mean over the picture."""
    means = rgb.mean(axis=(0, 1), dtype=np.float64)  # [3]
    table = _bytes((np.arange(256)[:, None] - means) * share + means)  # [256, 3]
    flatter: Rgb = table[rgb, np.arange(3)]
    return flatter


def _coarser(rgb: Rgb, share: float) -> Rgb:
    """Shrunk to `share` <= 1 of its sides and enlarged again, both by areas."""
    height, width = rgb.shape[:2]
    small = max(1, int(width * share)), max(1, int(height * share))
    shrunk = Image.fromarray(rgb).resize(small, Image.Resampling.BOX)
    return _array(shrunk.resize((width, height), Image.Resampling.BOX))


def _occluded(rgb: Rgb, share: float, faces: Sequence[Box], random: np.random.Generator) -> Rgb:
    """A grey block somewhere in each face: of its box's proportions, and of `share` of its area within the picture."""
    height, width = rgb.shape[:2]
    occluded: Rgb = rgb.copy()
    for x1, y1, x2, y2 in faces:
        across, down = random.uniform(size=2)
        left, right = _part(max(x1, 0), min(x2, width), share**0.5, across)
        top, bottom = _part(max(y1, 0), min(y2, height), share**0.5, down)
        occluded[top:bottom, left:right] = _GREY
    return occluded


def _part(low: float, high: float, share: float, where: float) -> tuple[int, int]:
    """A part of a stretch of pixels, `where` from 0 (its start) to 1 (its end): at least a pixel, if there is one.

    The shorter of two parts at the same place lies within the longer.
    """
    start, length = round(low), round(high) - round(low)
    if length < 1:
        return start, start
    size = max(1, round(length * share))
    first = start + round((length - size) * where)
    return first, first + size


def _bands(rgb: Rgb) -> Iterator[slice]:
    """The rows of a picture, some at a time."""
    rows = max(1, _BAND_PIXELS // rgb.shape[1])
    for start in range(0, len(rgb), rows):
        yield slice(start, min(start + rows, len(rgb)))


def _by_bands(rgb: Rgb, change: Callable[[Rgb], NDArray[np.float32]]) -> Rgb:
    changed = np.empty_like(rgb)
    for band in _bands(rgb):
        changed[band] = _bytes(change(rgb[band]))
    return changed


def _bytes(values: NDArray[np.float32] | NDArray[np.float64]) -> Rgb:
    rounded: Rgb = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


def _array(picture: Image.Image) -> Rgb:
    array: Rgb = np.array(picture)  # a copy: what a picture lends cannot be written to
    return array
