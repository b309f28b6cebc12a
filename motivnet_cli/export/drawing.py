"""A face drawn on its picture: a box with the person's number, the emotion, and a bar for each probability."""

from __future__ import annotations

import colorsys
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motivnet_cli.records import Box

_GOLDEN_RATIO = 0.618034
"""Hues that lie this part of the circle apart stay apart, however many there are."""
_LETTERS = {"surprise": "U"}
"""For an emotion whose first letter is that of another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnFace:
    """What is drawn of a face; what is None is left out."""

    box: Box
    """In pixels of the picture; it may reach beyond its edges."""
    number: int | None
    """Of the track or the face: it chooses the colour."""
    emotion: str | None
    confidence: float | None
    """0 to 1."""
    probabilities: Mapping[str, float]
    """By emotion, 0 to 1, in the order of the bars."""


def draw_face(image: Image.Image, face: DrawnFace) -> None:
    """Draw a face on an RGB picture, all within its edges; sizes go with those of the picture."""
    hue = (face.number or 0) * _GOLDEN_RATIO % 1
    colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.55, 1.0))
    draw = ImageDraw.Draw(image)
    unit = max(10, round(min(image.size) / 40))
    line = max(2, unit // 6)
    left, top, right, bottom = face.box
    x1, x2 = (min(max(round(x), -line), image.width + line) for x in (left, right - 1))
    y1, y2 = (min(max(round(y), -line), image.height + line) for y in (top, bottom - 1))
    draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=line)
    words = [f"#{face.number}", face.emotion or "", "" if face.confidence is None else f"{face.confidence:.0%}"]
    _write_label(draw, "  ".join(filter(None, words)), (x1, y1), unit, colour, within=image.size)
    if face.probabilities:
        _draw_bars(draw, face.probabilities, (x1, y1, x2, y2), unit, colour, within=image.size)


def _write_label(
    draw: ImageDraw.ImageDraw,
    words: str,
    corner: tuple[int, int],
    unit: int,
    colour: tuple[int, ...],
    *,
    within: tuple[int, int],
) -> None:
    """Text on black above the corner, moved to where it lies within the picture."""
    font = _font(unit)
    width, height = round(font.getlength(words)) + 6, round(1.4 * unit)
    left = max(0, min(corner[0], within[0] - width))
    top = max(0, min(corner[1] - height, within[1] - height))
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=(0, 0, 0))
    draw.text((left + 3, top + height / 2), words, font=font, fill=colour, anchor="lm")


def _draw_bars(
    draw: ImageDraw.ImageDraw,
    probabilities: Mapping[str, float],
    box: tuple[int, int, int, int],
    unit: int,
    colour: tuple[int, ...],
    *,
    within: tuple[int, int],
) -> None:
    """A letter and a bar for each probability, on black: below the box, beside it, or at its foot, where they fit."""
    width, height = 5 * unit, len(probabilities) * unit
    x1, _, x2, y2 = box
    right, bottom = within
    left, top = x1, y2 + 3
    if top + height > bottom:
        top = bottom - height
        left = x2 + 3 if x2 + 3 + width <= right else x1 - 3 - width if x1 - 3 - width >= 0 else x1
    left, top = max(0, min(left, right - width)), max(0, top)
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=(0, 0, 0))
    for number, (name, probability) in enumerate(probabilities.items()):
        y = top + number * unit
        length = min(max(probability, 0.0), 1.0) * (4 * unit - 1)
        draw.rectangle((left + unit, y + 1, left + unit + length, y + unit - 2), fill=colour)
        letter = _LETTERS.get(name, name[:1].upper())
        draw.text((left + unit / 2, y + unit / 2), letter, font=_font(unit - 1), fill=(255, 255, 255), anchor="mm")


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
