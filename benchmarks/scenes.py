"""Composes photographs of the people of `people.py`, and says where every face and its landmarks are.

Each person is head and shoulders with a soft edge, mirrored half of the time, leaning to a side, darker or
brighter; faces that are larger than in the photograph they come from are soft. This room knows nothing of motivnet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from people import Box, Person

MAX_TURN = 15
"""Degrees by which people lean to either side in a photograph."""
_PLACES = 60
"""Places that are tried for a person before it is left out."""
_CLEARANCE = 0.3
"""How far around an earlier face nobody else may reach, in heights of that face."""
_MAX_OF_SHORTER = 0.45
"""The largest face, in shorter sides of the picture: a panorama has none of half its length."""


class Scene(NamedTuple):
    """A picture and where its faces are."""

    rgb: np.ndarray
    faces: tuple[Box, ...]
    landmarks: np.ndarray
    """[N, 5, 2], as `Person.landmarks`."""
    shares: tuple[float, ...]
    """Heights of the faces, hairline to chin, in longer sides of the picture."""

    def turned(self, quarters: int) -> Scene:
        """Turned counter-clockwise by so many times 90 degrees."""
        scene = self
        for _ in range(quarters % 4):
            width = scene.rgb.shape[1]
            boxes = tuple((y1, width - x2, y2, width - x1) for x1, y1, x2, y2 in scene.faces)
            points = np.stack((scene.landmarks[..., 1], width - scene.landmarks[..., 0]), axis=-1)
            scene = Scene(np.rot90(scene.rgb), boxes, points, scene.shares)
        return scene._replace(rgb=np.ascontiguousarray(scene.rgb))


def compose(
    people: Sequence[Person],
    textures: Sequence[np.ndarray],
    rng: np.random.Generator,
    size: tuple[int, int],
    shares: Sequence[float],
    *,
    max_turn: float = MAX_TURN,
) -> Scene:
    """A photograph of somebody for each of `shares`, the largest first; one that finds no place is left out.

    Args:
        textures: Pictures without people, for some of the grounds.
        size: Width and height in pixels.
        shares: Heights of the faces, in longer sides of the picture.
        max_turn: Degrees by which a person is turned at most, to either side.
    """
    image = ground(textures, rng, size)
    faces: list[Box] = []
    landmarks = []
    for share in sorted(shares, reverse=True):
        height = min(share * max(size), _MAX_OF_SHORTER * min(size))
        placed = _paste(image, people[int(rng.integers(len(people)))], rng, height, faces, max_turn)
        if placed is not None:
            faces.append(placed[0])
            landmarks.append(placed[1])
    grain = Image.frombytes("L", size, rng.bytes(size[0] * size[1])).convert("RGB")
    image = Image.blend(image, grain, 0.03)  # a standard deviation of 2 grey levels, about a camera at ISO 400
    placed_shares = tuple((y2 - y1) / max(size) for _, y1, _, y2 in faces)
    return Scene(np.array(image), tuple(faces), np.array(landmarks).reshape(-1, 5, 2), placed_shares)


def ground(textures: Sequence[np.ndarray], rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A plain colour, noise at several scales, or a piece of one of the textures."""
    kind = int(rng.integers(4))
    if kind == 0:
        return Image.new("RGB", size, tuple(int(value) for value in rng.integers(20, 235, 3)))
    if kind == 1 or not textures:
        image = Image.new("RGB", size, tuple(int(value) for value in rng.integers(60, 200, 3)))
        for cells, share in ((3, 0.5), (9, 0.3), (40, 0.15), (160, 0.1)):
            noise = Image.frombytes("RGB", (cells, cells), rng.bytes(3 * cells * cells))
            image = Image.blend(image, noise.resize(size, Image.Resampling.BICUBIC), share)
        return image
    texture = Image.fromarray(textures[int(rng.integers(len(textures)))])
    # Never side by side: what a detector takes for a face in it would count as often as it is repeated.
    scale = max(size[0] / texture.width, size[1] / texture.height) * float(rng.uniform(1, 1.5))
    width, height = size[0] / scale, size[1] / scale
    left, top = rng.random(2) * (texture.width - width, texture.height - height)
    return texture.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))


def _paste(
    image: Image.Image, person: Person, rng: np.random.Generator, height: float, earlier: Sequence[Box], max_turn: float
) -> tuple[Box, np.ndarray] | None:
    """Where the face of the person now is, and its landmarks [5, 2]; None if there was no place.

    RetinaFace looks at what is around a face: on heads alone it found 6 % of those of 24 to 32 px, not a third.
    """
    x1, y1, x2, y2 = person.box
    scale = height / (y2 - y1)
    cut = person.image.resize(
        (max(1, round(person.image.width * scale)), max(1, round(person.image.height * scale))),
        Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC,
    )
    centre, points = np.array(((x1 + x2) / 2, (y1 + y2) / 2)) * scale, person.landmarks * scale
    if rng.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        centre[0], points[:, 0] = cut.width - centre[0], cut.width - points[:, 0]
        points = points[[1, 0, 2, 4, 3]]
    degrees, factor = float(rng.uniform(-max_turn, max_turn)), float(rng.uniform(0.5, 1.2))
    cut = cut.rotate(degrees, Image.Resampling.BICUBIC, center=tuple(centre))
    mask = _soft_mask(cut.size).rotate(degrees, Image.Resampling.BILINEAR, center=tuple(centre))
    cut = cut.point([min(255, round(value * factor)) for value in range(256)] * 3)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    points = (points - centre) @ np.array(((cosine, -sine), (sine, cosine))) + centre

    half = np.array(((x2 - x1) * scale, height)) / 2
    for _ in range(_PLACES):
        x, y = (int(value) for value in _corner(rng, image.size, cut.size, centre, half))
        if not any(_overlaps((x, y, x + cut.width, y + cut.height), face) for face in earlier):
            image.paste(cut, (x, y), mask)
            left, top = (float(value) for value in centre - half + (x, y))
            return (left, top, left + 2 * float(half[0]), top + height), points + np.array((x, y))
    return None


def _corner(
    rng: np.random.Generator, size: tuple[int, int], cut: tuple[int, int], centre: np.ndarray, half: np.ndarray
) -> np.ndarray:
    """The place of the upper left corner: all of the cut-out within the picture where it fits, else the whole face."""
    least = np.minimum(0, np.array(size) - cut)
    most = np.maximum(0, np.array(size) - cut)
    least = np.maximum(least, -(centre - 1.1 * half))
    most = np.maximum(np.minimum(most, size - (centre + 1.1 * half)), least)
    return np.round(rng.uniform(least, most))


def _overlaps(cut: Box, face: Box) -> bool:
    margin = _CLEARANCE * (face[3] - face[1])
    return (
        cut[0] < face[2] + margin
        and cut[2] > face[0] - margin
        and cut[1] < face[3] + margin
        and cut[3] > face[1] - margin
    )


def _soft_mask(size: tuple[int, int]) -> Image.Image:
    """255 inside, falling to 0 at the edge; blurred small and enlarged, since a blur costs by area."""
    mask = Image.new("L", (96, 96), 0)
    mask.paste(255, (5, 5, 91, 91))
    return mask.filter(ImageFilter.GaussianBlur(3)).resize(size, Image.Resampling.BILINEAR)
