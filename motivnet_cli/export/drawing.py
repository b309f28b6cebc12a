"""Faces drawn on their picture: a box for each, and a plate with the person's number, the emotion and bars.

Boxes come first and plates over all of them. A plate stands beside its face where there is room, covers no other face
or plate where that can be avoided, and lies within the picture. Sizes go with those of the picture and of its faces.
"""

from __future__ import annotations

import bisect
import functools
import importlib.util
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.export.rows import FaceRow
    from motivnet_cli.records import Box

log = logging.getLogger(__name__)

MAX_BARS = 3
"""Probabilities that are shown of a face, the highest."""
MIN_SIDE = 240
"""A picture whose shorter side has fewer pixels holds no letters that can be read: it is enlarged."""
_MAX_ENLARGED = 2400
"""Pixels of the longer side of a picture that is enlarged."""
_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#D55E00", "#CC79A7")
"""Okabe and Ito's, which colour-blind people tell apart, without the two that are dark on a dark plate."""
_DARK, _WHITE = (16, 16, 16), (255, 255, 255)
_PLATE_OPACITY, _TRACK_OPACITY = 165, 205
"""Of 255: of the plate, and of the part of a bar that is empty."""
_TRACK = (92, 92, 92)
_FONTS = {False: "DejaVuSans.ttf", True: "DejaVuSans-Bold.ttf"}
"""By whether they are bold; they come with matplotlib."""
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
_FIRST_TO_LOOK_UP = 0x530
"""Characters before this one (of Latin, Greek, Cyrillic) are in the usual fonts, as is seen without opening them."""
_WIDEST = 18
"""Units that the widest plate has."""
_COVERING = 8
"""A pixel of another face or plate that is covered counts as so many of the own face."""

_Edges = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels; x2 and y2 are exclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnFace:
    """What is drawn of a face; what is None is left out."""

    box: Box
    """In pixels of the picture; it may reach beyond its edges."""
    number: int | None
    """Of the track or the face: it is shown, and chooses the colour."""
    emotion: str | None
    confidence: float | None
    """0 to 1."""
    probabilities: tuple[tuple[str, float], ...]
    """Emotions, each with its probability, 0 to 1."""


class _Line(NamedTuple):
    """A line of a plate."""

    name: str
    share: float | None
    """0 to 1."""


def drawn_faces(rows: Sequence[FaceRow]) -> tuple[list[DrawnFace], int]:
    """What is drawn of the rows of one picture, and how many have no box that can be.

    A face is numbered by its track, or else by its number in the picture where there are several.
    """
    with_box = [row for row in rows if row.box is not None and _is_box(row.box)]
    faces = [
        DrawnFace(
            box=row.box,
            number=row.track if row.track is not None else row.number if len(with_box) > 1 else None,
            emotion=row.emotion,
            confidence=row.score,
            probabilities=tuple(row.probabilities.items()),
        )
        for row in with_box
        if row.box is not None
    ]
    return faces, len(rows) - len(faces)


def _is_box(box: Box) -> bool:
    return all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]


def enlargement(size: tuple[int, int]) -> int:
    """By what a picture of this width and height is to be enlarged for its letters to be read; 1 for most."""
    return max(1, min(-(-MIN_SIDE // min(size)), _MAX_ENLARGED // max(size)))


def enlarged(image: Image.Image, faces: Sequence[DrawnFace]) -> tuple[Image.Image, list[DrawnFace]]:
    """A picture that is too small for letters made larger, with its faces; any other as it is."""
    factor = enlargement(image.size)
    if factor == 1:
        return image, list(faces)
    large = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    return large, [
        replace(face, box=tuple(factor * edge for edge in face.box))  # type: ignore[arg-type]  # four of them
        for face in faces
    ]


def draw_faces(image: Image.Image, faces: Sequence[DrawnFace], *, bars: bool = True) -> None:
    """Draw faces on an RGB picture, all within its edges.

    Args:
        bars: Show the MAX_BARS highest probabilities, where there is room; else the emotion with its own.
    """
    for box in _drawing(image.size, tuple(faces), bars).boxes:
        box.draw(image)
    for plate, corner in _drawing(image.size, tuple(faces), bars).plates:
        image.paste(plate, corner, plate.getchannel("A"))


class _Outline(NamedTuple):
    """The edge of a face, with a dark line on either side: it is seen on light and dark ground."""

    edges: _Edges
    colour: str
    line: int

    def draw(self, image: Image.Image) -> None:
        draw = ImageDraw.Draw(image)
        x1, y1, x2, y2 = self.edges
        beside = max(1, self.line // 4)
        around = (x1 - beside, y1 - beside, x2 - 1 + beside, y2 - 1 + beside)
        draw.rectangle(around, outline=_DARK, width=self.line + 2 * beside)
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=self.colour, width=self.line)


class _Drawing(NamedTuple):
    """What is to be drawn, from back to front."""

    boxes: list[_Outline]
    plates: list[tuple[Image.Image, tuple[int, int]]]
    """Each with the place of its upper left corner."""


@functools.lru_cache(maxsize=2)  # most frames of a video show what the one before did
def _drawing(size: tuple[int, int], faces: tuple[DrawnFace, ...], bars: bool) -> _Drawing:
    edges = [_edges_of(face.box, size) for face in faces]
    units = [_unit(size, face.box) for face in faces]
    colours = [_COLOURS[(face.number or 0) % len(_COLOURS)] for face in faces]
    boxes = [
        _Outline(each, colour, max(2, unit // 7)) for each, colour, unit in zip(edges, colours, units, strict=True)
    ]
    room = _Room(size, edges)
    plates: dict[int, tuple[Image.Image, tuple[int, int]]] = {}
    for has_bars in (False, True) if bars else (False,):  # every label has its place before the first bars take any
        for number, (face, unit, colour) in enumerate(zip(faces, units, colours, strict=True)):
            lines = tuple(_lines_of(face)[: MAX_BARS if has_bars else 1])
            if not lines and face.number is None:
                continue
            plate = _plate(face.number, lines, unit, colour, has_bars=has_bars)
            place = room.place(plate.size, number, is_near=has_bars)
            if not room.is_worse(place, number):
                room.take(number, plate.size, place)
                plates[number] = plate, place.corner
    return _Drawing(boxes, list(plates.values()))


def _edges_of(box: Box, size: tuple[int, int]) -> _Edges:
    """The pixels of a box, of which at least one is in the picture or at its edge."""
    x1, y1 = (min(max(round(edge), 0), length - 1) for edge, length in zip(box[:2], size, strict=True))
    x2, y2 = (min(max(round(edge), 1), length) for edge, length in zip(box[2:], size, strict=True))
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def _unit(size: tuple[int, int], box: Box) -> int:
    """Height of the letters in pixels: a part of the face's height, within limits that go with the picture."""
    side = min(size)
    least, most = max(10, side // 75), max(12, side // 30)
    return max(6, min(min(max(round(box[3] - box[1]) // 6, least), most), size[0] // _WIDEST))


def _lines_of(face: DrawnFace) -> list[_Line]:
    """The emotion, and then the other probabilities from the highest on."""
    others = sorted((pair for pair in face.probabilities if pair[0] != face.emotion), key=lambda pair: -pair[1])
    first = [] if face.emotion is None else [_Line(face.emotion, face.confidence)]
    return [*first, *(_Line(*pair) for pair in others)]


class _Place(NamedTuple):
    """Where a plate can stand."""

    corner: tuple[int, int]
    """The upper left one."""
    covered: int
    """Pixels of other faces and plates."""
    hidden: int
    """Pixels of its own face."""


class _Room:
    """Where plates can stand in a picture, and where they do.

    Args:
        size: Its width and height.
        faces: The edges of all its faces.
    """

    def __init__(self, size: tuple[int, int], faces: Sequence[_Edges]) -> None:
        self._size = size
        self._faces = np.array(faces, np.int64).reshape(-1, 4)  # [N, 4]
        self._plates = np.zeros_like(self._faces)  # [N, 4], nothing where a face has none
        self._places: dict[int, _Place] = {}

    def place(self, plate: tuple[int, int], face: int, *, is_near: bool) -> _Place:
        """The best place for a plate at a face.

        Args:
            plate: Its width and height.
            face: Its number, from 0.
            is_near: It must touch the face.
        """
        best: _Place | None = None
        for corner in self._corners(plate, self._faces[face].tolist(), is_near=is_near):
            place = self._place_at(plate, corner, face)
            if best is None or _cost(place) < _cost(best):
                best = place
            if not _cost(best):
                break
        assert best is not None, "within the face a plate can stand always"
        return best

    def take(self, face: int, plate: tuple[int, int], place: _Place) -> None:
        """Have the plate of a face stand there."""
        self._plates[face] = (*place.corner, place.corner[0] + plate[0], place.corner[1] + plate[1])
        self._places[face] = place

    def is_worse(self, place: _Place, face: int) -> bool:
        """Whether a plate there hides more than the one that the face has."""
        taken = self._places.get(face)
        return taken is not None and (place.covered > taken.covered or place.hidden > 0 == taken.hidden)

    def _place_at(self, plate: tuple[int, int], corner: tuple[int, int], face: int) -> _Place:
        area = (*corner, corner[0] + plate[0], corner[1] + plate[1])
        faces, plates = _common(self._faces, area), _common(self._plates, area)  # [N]
        hidden = int(faces[face])
        return _Place(corner, int(faces.sum() + plates.sum() - plates[face]) - hidden, hidden)

    def _corners(self, plate: tuple[int, int], face: Sequence[int], *, is_near: bool) -> Iterator[tuple[int, int]]:
        """Above, below and beside a face, further away, and within it, as far as the plate is within the picture."""
        (width, height), (x1, y1, x2, y2) = plate, face
        left, right = self._within(x1, width, 0), self._within(x2 - width, width, 0)
        top, bottom = self._within(y1, height, 1), self._within(y2 - height, height, 1)
        near = [(left, y1 - height), (right, y1 - height), (left, y2), (right, y2)]
        near += [(x2, top), (x1 - width, top), (x2, bottom), (x1 - width, bottom)]
        far = [(x, y) for n in (1, 2) for x in (left, right) for y in (y1 - (n + 1) * height, y2 + n * height)]
        for x, y in near if is_near else (*near, *far):
            if (x, y) == (self._within(x, width, 0), self._within(y, height, 1)):
                yield x, y
        yield from [(left, top), (left, bottom), (right, top), (right, bottom)]

    def _within(self, start: int, length: int, axis: int) -> int:
        return max(0, min(start, self._size[axis] - length))


def _cost(place: _Place) -> int:
    return place.hidden + _COVERING * place.covered


def _common(rectangles: NDArray[np.int64], area: _Edges) -> NDArray[np.int64]:
    """Pixels that each of the rectangles [N, 4] has in common with an area, [N]."""
    widths = np.minimum(rectangles[:, 2], area[2]) - np.maximum(rectangles[:, 0], area[0])
    heights = np.minimum(rectangles[:, 3], area[3]) - np.maximum(rectangles[:, 1], area[1])
    common: NDArray[np.int64] = widths.clip(0) * heights.clip(0)
    return common


# ---- plates -----------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _plate(number: int | None, lines: tuple[_Line, ...], unit: int, colour: str, *, has_bars: bool) -> Image.Image:
    """A half transparent plate as RGBA: the number on the colour of the box, the lines beside it."""
    pad, small = max(2, unit // 3), max(6, round(0.8 * unit))
    badge = "" if number is None else f"#{number}"
    fonts = [_Font(unit, is_bold=True), *[_Font(small, is_bold=False)] * (len(lines) - 1)]
    heights = [round(1.45 * font.size) for font in fonts] if lines else [round(1.45 * unit)]
    shares = ["" if line.share is None else _percent(line.share) for line in lines]
    strip = max(pad, round(fonts[0].width(badge)) + 2 * pad if badge else 0)
    names = [font.elided(line.name, 8 * unit) for font, line in zip(fonts, lines, strict=False)]
    names_width = max((font.width(name) for font, name in zip(fonts, names, strict=False)), default=0)
    shares_width = max((font.width(share) for font, share in zip(fonts, shares, strict=False)), default=0)
    bar = 3 * unit if has_bars and any(shares) else 0
    columns = [width for width in (names_width, bar, shares_width) if width]
    width = strip + sum(columns) + pad * (len(columns) + 1 if columns else 0)
    plate = Image.new("RGBA", (width, sum(heights) + 2), (*_DARK, _PLATE_OPACITY))
    draw = ImageDraw.Draw(plate)
    draw.rectangle((0, 0, strip - 1, plate.height - 1), fill=colour)
    if badge:
        draw.text((strip / 2, 1 + heights[0] / 2), badge, font=fonts[0].face(badge), fill=_DARK, anchor="mm")
    top = 1
    for line, name, share, font, height in zip(lines, names, shares, fonts, heights, strict=False):
        middle, x = top + height / 2, strip + pad
        draw.text((x, middle), name, font=font.face(name), fill=_WHITE, anchor="lm")
        x += names_width + pad
        if bar and line.share is not None:
            _draw_bar(
                draw, (x, round(middle - 0.25 * font.size), x + bar, round(middle + 0.25 * font.size)), line.share
            )
        draw.text((width - pad, middle), share, font=font.face(share), fill=_WHITE, anchor="rm")
        top += height
    return plate


def _draw_bar(draw: ImageDraw.ImageDraw, area: _Edges, share: float) -> None:
    x1, y1, x2, y2 = area
    draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=(*_TRACK, _TRACK_OPACITY))
    if length := round(min(max(share, 0.0), 1.0) * (x2 - x1)):
        draw.rectangle((x1, y1, x1 + length - 1, y2 - 1), fill=_WHITE)


def _percent(share: float) -> str:
    return f"{share:.0%}"


class _Font(NamedTuple):
    """Letters of a height in pixels, in every script for which this machine has a font."""

    size: int
    is_bold: bool

    def face(self, text: str) -> ImageFont.FreeTypeFont:
        return _font(_font_file(frozenset(text), is_bold=self.is_bold), self.size)

    def width(self, text: str) -> int:
        return math.ceil(self.face(text).getlength(text))

    def elided(self, text: str, width: int) -> str:
        """The text, cut off where it is wider than so many pixels."""
        if self.width(text) <= width:
            return text
        fitting = max(1, bisect.bisect(range(len(text)), width, key=lambda n: self.width(f"{text[:n]}{_ELLIPSIS}")) - 1)
        return f"{text[:fitting].rstrip()}{_ELLIPSIS}"


@functools.cache
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@functools.cache
def _font_file(letters: frozenset[str], *, is_bold: bool) -> Path:
    """A font that has these letters; if there is none, the usual one, and a message says so once."""
    usual = _folder_of_fonts() / _FONTS[is_bold]
    if all(ord(letter) < _FIRST_TO_LOOK_UP for letter in letters):
        return usual
    from matplotlib import font_manager

    for path in (usual, *map(Path, sorted(font_manager.findSystemFonts()))):
        if _has(path, letters):
            return path
    missing = "".join(sorted(letter for letter in letters if not _has(usual, {letter})))
    log.warning("no font of this machine has the letters %s, which are drawn as boxes: install one that does", missing)
    return usual


def _has(path: Path, letters: Collection[str]) -> bool:
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(str(path))
    except (RuntimeError, OSError):  # no font, or of a kind that is not read
        return False
    return all(font.get_char_index(ord(letter)) for letter in letters)


@functools.cache
def _folder_of_fonts() -> Path:
    """That of matplotlib, found without the time that importing it takes."""
    found = importlib.util.find_spec("matplotlib")
    assert found is not None, "it is required"
    assert found.submodule_search_locations, "it is a package"
    return Path(next(iter(found.submodule_search_locations)), "mpl-data", "fonts", "ttf")
