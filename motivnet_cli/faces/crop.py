"""From a face's box to the network's pixels: the square cut out of the picture, and the input recipes by name.

Normalisation is the network's own. Each recipe has one resize and no second one that nearly agrees: it would change
predictions without anyone seeing it. Functions may run in several threads at once; each should compute on one torch
thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, cos, floor, radians, sin
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody reads
from PIL import Image

from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.faces.quality import pose_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from typing_extensions import Self

    from motivnet_cli.catalogue import ModelCard
    from motivnet_cli.config import FaceConfig
    from motivnet_cli.records import Box, Face, GivenFace, Point

RECIPES = ("stretch", "pad", "stretch-224", "letterbox")
MAX_BOX_LENGTH = 2
"""A given box may be so many times as long as the longer side of its picture: the crop is as large as the box."""
MIN_SHARE_INSIDE = 0.1
"""Of a given box's area: what lies outside the picture is filled with one colour, and says nothing of a face."""
_SAY_SO = "say so with --box-columns relative-xyxy:x1,y1,x2,y2 or relative-xywh"
_WHITE = (255, 255, 255)
_AFFECTNET_SIDE = 224
"""Rows and columns of the images of AffectNet's eight-label release."""
_BINS_AT_ONCE = 16
_MIN_REDUCED_PIXELS = 4
"""Rows or columns of a reduced picture that an output pixel averages, at least."""
_MIN_EYE_DISTANCE = 0.1
"""In heights of the face: nearer eyes are those of a profile, whose line says nothing of the roll. Seen from the front
they are 0.36 apart (the astronaut of `sample_data`)."""


class NetworkInput(Protocol):
    """What a crop depends on of a network; a `LoadedModel` is one."""

    @property
    def card(self) -> ModelCard: ...
    @property
    def recipe(self) -> str:
        """One of RECIPES."""

    @property
    def height(self) -> int:
        """In pixels."""

    @property
    def width(self) -> int:
        """In pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cropping:
    """How the faces of a picture become the input of one network."""

    recipe: str
    height: int
    width: int
    fill_rgb: tuple[int, int, int]
    margin: float
    align: bool

    @classmethod
    def of(cls, network: NetworkInput, faces: FaceConfig) -> Self:
        """As these settings have it, else as the network's card."""
        return cls(
            recipe=network.recipe,
            height=network.height,
            width=network.width,
            fill_rgb=network.card.fill_rgb,
            margin=faces.margin_for(network.card),
            align=faces.align_for(network.card),
        )

    def crop(self, rgb: NDArray[np.uint8], face: Face) -> NDArray[np.uint8]:
        """One face of a picture [h, w, 3] as the network takes it: uint8 [3, height, width], RGB, 0 to 255."""
        square = square_of(rgb, face, margin=self.margin, align=self.align, fill_rgb=self.fill_rgb)
        return to_pixels(square, recipe=self.recipe, height=self.height, width=self.width, fill_rgb=self.fill_rgb)


@dataclass(frozen=True, slots=True, eq=False)
class RotatedSquare:
    """A square that is rotated in its picture: its pixels are made once a recipe says how many."""

    rgb: NDArray[np.uint8]
    """[H, W, 3]: the part of the picture that the square reaches."""
    centre: Point
    """x, y in pixels of `rgb`; the first pixel lies between 0 and 1."""
    side: float
    """In pixels of `rgb`."""
    roll: float
    """Degrees, clockwise, by which the square is rotated."""
    fill_rgb: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of its pixels at the picture's own scale."""
        side = max(1, round(self.side))
        return side, side, 3

    def resized(self, rows: int, columns: int) -> torch.Tensor:
        """Bilinear, without antialiasing, on an endless ground of the fill colour: uint8 [3, rows, columns]."""
        height, width = self.rgb.shape[:2]
        x, y = self.centre
        along, across = cos(radians(self.roll)) * self.side, sin(radians(self.roll)) * self.side
        theta = torch.tensor(
            [
                [along / width, -across / width, 2 * x / width - 1],
                [across / height, along / height, 2 * y / height - 1],
            ],
            dtype=torch.float32,
        )  # from the square to the picture, both from -1 to 1
        grid = F.affine_grid(theta[None], [1, 1, rows, columns], align_corners=False)  # [1, rows, columns, 2]
        planes = [  # one by one: the floats of a large face take much memory
            F.grid_sample(plane[None, None].float() - fill, grid, align_corners=False)[0, 0].add_(fill)
            for plane, fill in zip(_tensor(self.rgb).permute(2, 0, 1), self.fill_rgb, strict=True)
        ]
        return torch.stack(planes).round_().to(torch.uint8)

    def pixels(self, enough: int) -> NDArray[np.uint8]:
        """At the picture's own scale, or as means of its whole blocks that leave `enough` a side: uint8 [S, S, 3]."""
        factor = max(1, int(self.side) // enough)
        rgb = np.array(Image.fromarray(self.rgb).reduce(factor))
        centre = self.centre[0] / factor, self.centre[1] / factor
        small = replace(self, rgb=rgb, centre=centre, side=self.side / factor)
        return small.resized(*small.shape[:2]).permute(1, 2, 0).numpy()


def image_rows(recipe: str, height: int, width: int) -> tuple[int, int]:
    """The pixel rows (top, bottom) of a [height, width] network input that a recipe keeps for the image.

    `pad` keeps a square between its two bands, every other recipe the full height; bottom is exclusive.

    Raises:
        ConfigError: No recipe has this name, or `pad` was asked of an input wider than high.
    """
    _check_recipe(recipe, height, width)
    if recipe == "pad":
        top = (height - width) // 2
        return top, height - top
    return 0, height


def placed(face: GivenFace, *, height: int, width: int) -> Box:
    """The box of a given face in pixels of a [height, width] picture.

    Raises:
        InputError: `bad_box`: the box is under a pixel, longer than MAX_BOX_LENGTH allows, or less than
            MIN_SHARE_INSIDE of it lies in the picture.
    """
    x1, y1, x2, y2 = face.box
    if face.is_relative:
        x1, y1, x2, y2 = x1 * width, y1 * height, x2 * width, y2 * height
    elif max(map(abs, face.box)) <= 1:
        raise InputError("bad_box", f"the box {_shown(face.box)} is under a pixel: if it is relative, {_SAY_SO}")
    if min(x2 - x1, y2 - y1) < 1:
        raise InputError("bad_box", f"the box {_shown(face.box)} is under a pixel")
    size = f"the picture of {width} x {height} pixels"
    if max(x2 - x1, y2 - y1) > MAX_BOX_LENGTH * max(width, height):
        raise InputError("bad_box", f"the box {_shown(face.box)} is far larger than {size}")
    inside = max(0.0, min(x2, width) - max(x1, 0)) * max(0.0, min(y2, height) - max(y1, 0))
    if inside < MIN_SHARE_INSIDE * (x2 - x1) * (y2 - y1):
        raise InputError("bad_box", f"the box {_shown(face.box)} lies outside {size}, or nearly so")
    return x1, y1, x2, y2


def _shown(box: Box) -> str:
    return f"({', '.join(f'{side:g}' for side in box)})"


def eye_roll(face: Face) -> float | None:
    """The roll of a face as `pose_of` has it, to align it by; None where its eyes are not known, or are a profile's."""
    roll, _, distance = pose_of(face.landmarks)
    _, height = _upright_size(face.box, face.turn)
    return None if distance is None or distance < _MIN_EYE_DISTANCE * height else roll


def _upright_size(box: Box, turn: int) -> tuple[float, float]:
    """Width and height of a box when its picture is turned by `turn` degrees."""
    x1, y1, x2, y2 = box
    return (y2 - y1, x2 - x1) if turn in (90, 270) else (x2 - x1, y2 - y1)


def square_of(
    rgb: NDArray[np.uint8], face: Face, *, margin: float, align: bool, fill_rgb: tuple[int, int, int]
) -> NDArray[np.uint8] | RotatedSquare:
    """What a network sees of a picture [h, w, 3], before any resize: the square around the face, or all of it."""
    if face.source == "whole":
        return rgb
    roll = eye_roll(face) if align else None
    return cut(rgb, face.box, margin=margin, fill_rgb=fill_rgb, turn=face.turn, roll=roll)


def cut(
    rgb: NDArray[np.uint8],
    box: Box,
    *,
    margin: float,
    fill_rgb: tuple[int, int, int],
    turn: int = 0,
    roll: float | None = None,
) -> NDArray[np.uint8] | RotatedSquare:
    """The square around a face, never distorted; what lies outside the picture has the fill colour.

    Its side is (1 + margin) times the height of the box, or the width of the box where that is more, so that
    no box is cut short at its sides; centre and side are rounded to whole pixels, the side to at least one, the
    centre only where the square is not rotated.

    Args:
        rgb: uint8 [H, W, 3].
        box: x1, y1, x2, y2 in pixels of `rgb`; it may lie partly or wholly outside.
        margin: Space above and below the box together, as a fraction of its height.
        fill_rgb: Colour outside the picture, 0 to 255.
        turn: As of a `Face`: the crop of its picture turned so.
        roll: In place of `turn`, the degrees, clockwise, by which the square is rotated about the centre of the box.

    Returns:
        uint8 [S, S, 3]; a view of `rgb` when the whole square lies inside it.
    """
    x1, y1, x2, y2 = box
    face_width, face_height = _upright_size(box, turn)
    side = max(1, round(max((1 + margin) * face_height, face_width)))
    if roll is not None:
        return _rotated(rgb, ((x1 + x2) / 2, (y1 + y2) / 2), side, roll, fill_rgb)
    left, top = round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2)
    height, width = rgb.shape[:2]
    # In the picture's pixels, so empty (start >= stop) when the square lies wholly outside.
    rows = slice(max(top, 0), min(top + side, height))
    columns = slice(max(left, 0), min(left + side, width))
    if rows.stop - rows.start == side and columns.stop - columns.start == side:
        return np.rot90(rgb[rows, columns], -turn // 90)
    square = np.empty((side, side, 3), np.uint8)  # [S, S, 3]
    square[:] = fill_rgb
    if rows.start < rows.stop and columns.start < columns.stop:
        inside = rgb[rows, columns]
        square[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = inside
    return np.rot90(square, -turn // 90)


def _rotated(
    rgb: NDArray[np.uint8], centre: Point, side: int, roll: float, fill_rgb: tuple[int, int, int]
) -> RotatedSquare:
    """A rotated square, with no more of its picture than it reaches; that is a pixel at least."""
    reach = side * (abs(cos(radians(roll))) + abs(sin(radians(roll)))) / 2 + 1
    (left, right), (top, bottom) = (
        (min(max(floor(middle - reach), 0), length - 1), max(min(ceil(middle + reach), length), 1))
        for middle, length in zip(centre, (rgb.shape[1], rgb.shape[0]), strict=True)
    )
    return RotatedSquare(rgb[top:bottom, left:right], (centre[0] - left, centre[1] - top), side, roll, fill_rgb)


def to_pixels(
    rgb: NDArray[np.uint8] | RotatedSquare, *, recipe: str, height: int, width: int, fill_rgb: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """A picture of any size as the network's input; the recipe's first resize rotates a square that stands askew.

    `stretch` resizes to width x height; `pad` resizes to width x width between white bands; `letterbox` keeps
    the aspect, centred on the fill colour. The first two are bilinear without antialiasing, as MotivNet's
    reference (OpenCV's INTER_LINEAR) does it: within one grey level. `letterbox` averages areas to shrink
    (OpenCV's INTER_AREA) and is bilinear to enlarge: it gives FaceExpressionNet's reference input exactly.
    `stretch-224` resizes as `letterbox` does to 224 x 224, then as `stretch`: what MotivNet's loader makes of
    AffectNet's eight-label release, but that nobody says how that was shrunk.

    Args:
        rgb: uint8 [h, w, 3], 0 to 255, not empty.
        recipe: One of RECIPES.
        height: Rows of the result.
        width: Columns of the result.
        fill_rgb: Colour of the bands of `letterbox`, 0 to 255.

    Returns:
        uint8 [3, height, width], contiguous, 0 to 255.

    Raises:
        ConfigError: As `image_rows`.
    """
    if recipe == "letterbox":
        _check_recipe(recipe, height, width)
        scale = min(height / rgb.shape[0], width / rgb.shape[1])
        rows, columns = (max(1, round(length * scale)) for length in rgb.shape[:2])
        top, left = (height - rows) // 2, (width - columns) // 2
        return _framed(_smooth(rgb, rows, columns), height, width, top=top, left=left, fill_rgb=fill_rgb)
    top, bottom = image_rows(recipe, height, width)
    if recipe == "stretch-224":
        rgb = _smooth(rgb, _AFFECTNET_SIDE, _AFFECTNET_SIDE).permute(1, 2, 0).numpy()  # [224, 224, 3]
    return _framed(_bilinear(rgb, bottom - top, width), height, width, top=top, left=0, fill_rgb=_WHITE)


def _check_recipe(recipe: str, height: int, width: int) -> None:
    if recipe not in RECIPES:
        raise ConfigError(f"no input recipe is named {recipe!r}; known recipes: {', '.join(RECIPES)}")
    if recipe == "pad" and height < width:
        raise ConfigError(
            f"recipe 'pad' adds bands above and below, so its input cannot be wider than high, "
            f"got {width} x {height}; use 'letterbox'"
        )


def _framed(
    image: torch.Tensor, height: int, width: int, *, top: int, left: int, fill_rgb: Sequence[int]
) -> NDArray[np.uint8]:
    """An image [3, rows, columns] within a ground of one colour: uint8 [3, height, width]."""
    rows, columns = image.shape[1:]
    if (rows, columns) == (height, width):
        return image.contiguous().numpy()
    pixels = np.empty((3, height, width), np.uint8)
    pixels[:] = np.asarray(fill_rgb, np.uint8)[:, None, None]
    pixels[:, top : top + rows, left : left + columns] = image.numpy()
    return pixels


def _smooth(rgb: NDArray[np.uint8] | RotatedSquare, rows: int, columns: int) -> torch.Tensor:
    """Areas averaged to shrink, bilinear where a side is enlarged: uint8 [3, rows, columns]."""
    shrinks = rgb.shape[0] >= rows and rgb.shape[1] >= columns
    return (_shrink if shrinks else _bilinear)(rgb, rows, columns)


def _bilinear(rgb: NDArray[np.uint8] | RotatedSquare, rows: int, columns: int) -> torch.Tensor:
    """Bilinear with half-pixel centres and no antialiasing: uint8 [3, rows, columns].

    uint8 in and out takes 2.4 ms for 1024 x 768 on one thread, through float 10 to 18 ms; both are within one
    grey level of OpenCV. torchvision's `resize` is this very call.
    """
    if isinstance(rgb, RotatedSquare):
        return rgb.resized(rows, columns)
    image = _tensor(rgb).permute(2, 0, 1)[None]  # [1, 3, H, W]
    return F.interpolate(image, size=(rows, columns), mode="bilinear", align_corners=False)[0]


def _shrink(rgb: NDArray[np.uint8] | RotatedSquare, rows: int, columns: int) -> torch.Tensor:
    """Every output pixel is the mean of the area under it: uint8 [3, rows, columns].

    No library at hand has it for fractional factors: Pillow's BOX and torch's `area` take whole pixels, and
    are off by up to 33 and 62 grey levels.
    """
    if isinstance(rgb, RotatedSquare):
        rgb = rgb.pixels(enough=max(rows, columns) * _MIN_REDUCED_PIXELS)
    height, width = rgb.shape[:2]
    factors = tuple(max(1, long // (short * _MIN_REDUCED_PIXELS)) for long, short in ((width, columns), (height, rows)))
    if max(factors) > 1:
        # Means of whole blocks first, a face of 3000 pixels in 20 ms in place of 330: 0.4 grey levels off on
        # average, 7 at most, on a picture with added noise.
        rgb = np.array(Image.fromarray(rgb).reduce(factors))  # [H, W, 3], smaller
    pixels = _tensor(rgb).float()  # [H, W, 3]
    lines = _area_means(pixels, height / factors[1], rows)  # [rows, W, 3]
    cells = _area_means(lines.transpose(0, 1), width / factors[0], columns)  # [columns, rows, 3]
    return cells.permute(2, 1, 0).round_().to(torch.uint8)  # [3, rows, columns]


def _area_means(values: torch.Tensor, extent: float, bins: int) -> torch.Tensor:
    """The means of `values` [n, ...] over equal bins of [0, extent], where a value lies from its index to the next one.

    A product with all weights would mostly multiply by zero: some bins at a time take a fifth of it for large faces.
    """
    weights = _area_weights(extent, bins)  # [bins, n]
    flat = values.reshape(len(values), -1)  # [n, m]
    means = torch.empty((bins, flat.shape[1]))
    for first in range(0, bins, _BINS_AT_ONCE):
        last = min(first + _BINS_AT_ONCE, bins)
        under = slice(floor(extent * first / bins), ceil(extent * last / bins))
        torch.mm(weights[first:last, under], flat[under], out=means[first:last])
    return means.reshape(bins, *values.shape[1:])


def _area_weights(extent: float, bins: int) -> torch.Tensor:
    """How much of every source cell lies in each of `bins` equal bins of [0, extent]: float32 [bins, ceil(extent)]."""
    edges = np.linspace(0, extent, bins + 1)[:, None]  # [bins + 1, 1]
    cells = np.arange(ceil(extent))  # [ceil(extent)]
    overlap = np.minimum(edges[1:], cells + 1) - np.maximum(edges[:-1], cells)
    return torch.from_numpy((overlap.clip(0) * (bins / extent)).astype(np.float32))


def _tensor(rgb: NDArray[np.uint8]) -> torch.Tensor:
    # torch warns of read-only arrays and refuses negative strides; a contiguous writable one is not copied.
    return torch.from_numpy(np.require(rgb, np.uint8, ["C", "W"]))
