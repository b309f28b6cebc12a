"""Writes the photographs of the benchmarks, composed from sample_data/astronaut.png.

This room knows nothing of motivnet. Every face is the same smiling woman at another size and place, so the
pictures serve to time a run and to count faces, not to judge how well emotions are told apart.
"""

from __future__ import annotations

import argparse
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

PORTRAIT = Path(__file__).parents[1] / "sample_data" / "astronaut.png"
_FACE = (178, 56, 271, 178)
_HEAD_AND_SHOULDERS = (85, 0, 365, 300)
_WITHOUT_FACE = ((0, 0, 100, 300), (30, 300, 360, 512), (280, 345, 512, 512), (355, 0, 512, 280))
_ASPECTS = (4 / 3, 3 / 2, 16 / 9, 1.0, 3 / 4, 2 / 3)
_BICUBIC = Image.Resampling.BICUBIC
_BILINEAR = Image.Resampling.BILINEAR

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels; x2 and y2 are exclusive."""


class Photo(NamedTuple):
    """A photograph that was written, and where the faces were put."""

    path: Path
    faces: tuple[Box, ...]
    """Left to right, within about a tenth of their size."""


def make_photos(folder: Path, *, count: int, seed: int, sizes: tuple[int, int] = (300, 4000)) -> list[Photo]:
    """Writes `count` JPEG photographs of one to three faces (seven in ten have one), alike for the same seed.

    Args:
        folder: Made if missing.
        sizes: Least and greatest long side in pixels; between them they are spread evenly by logarithm.
    """
    folder.mkdir(parents=True, exist_ok=True)
    portrait = _portrait()
    photos = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        image, faces = _compose(portrait, rng, sizes)
        path = folder / f"photo-{number:06d}.jpg"
        image.save(path, quality=int(rng.integers(80, 96)))
        photos.append(Photo(path, faces))
    return photos


def small_photos(folder: Path, count: int, *, seed: int = 0) -> list[Path]:
    """Writes `count` different JPEG files of one face, 160 px wide (about 5 KB), alike for the same seed."""
    folder.mkdir(parents=True, exist_ok=True)
    portrait = _portrait()
    rng = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        path = folder / f"small-{number:06d}.jpg"
        path.write_bytes(_small(portrait, rng))
        paths.append(path)
    return paths


def _portrait() -> Image.Image:
    with Image.open(PORTRAIT) as image:
        return image.convert("RGB")


def _compose(
    portrait: Image.Image, rng: np.random.Generator, sizes: tuple[int, int]
) -> tuple[Image.Image, tuple[Box, ...]]:
    long_side = float(np.exp(rng.uniform(np.log(sizes[0]), np.log(sizes[1]))))
    aspect = float(rng.choice(_ASPECTS))
    width, height = round(long_side * min(1, aspect)), round(long_side / max(1, aspect))
    image = _ground(portrait, rng, (width, height))

    num_faces = int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))
    slot = width / num_faces
    widest = min(slot, height * 280 / 300)
    faces = []
    for place in range(num_faces):
        scale = max(widest * float(rng.uniform(0.35, 0.95)), 100) / 280
        centre_x = slot * (place + 0.5) + float(rng.uniform(-0.5, 0.5)) * max(0, slot - 280 * scale)
        centre_y = height / 2 + float(rng.uniform(-0.5, 0.5)) * max(0, height - 300 * scale)
        faces.append(_paste_person(image, portrait, rng, (centre_x, centre_y), scale))

    grain = Image.frombytes("L", (width, height), rng.bytes(width * height)).convert("RGB")
    image = Image.blend(image, grain, 0.03)  # a standard deviation of 2 grey levels, about a camera at ISO 400
    return _brightened(image, float(rng.uniform(0.7, 1.25))), tuple(faces)


def _ground(portrait: Image.Image, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Noise at several scales, with a few soft pieces of the portrait that show no face, in other colours."""
    image = Image.new("RGB", size, tuple(int(v) for v in rng.integers(60, 200, 3)))
    for cells, share, mode in ((3, 0.5, "RGB"), (9, 0.3, "RGB"), (40, 0.15, "L"), (160, 0.1, "L")):
        noise = Image.frombytes(mode, (cells, cells), rng.bytes(len(mode) * cells * cells))
        image = Image.blend(image, noise.resize(size, _BICUBIC).convert("RGB"), share)
    for _ in range(6):
        box = _WITHOUT_FACE[int(rng.integers(len(_WITHOUT_FACE)))]
        bands = portrait.crop(box).split()
        piece = Image.merge("RGB", [bands[k] for k in rng.permutation(3)])
        scale = max(size) * float(rng.uniform(0.25, 0.6)) / max(piece.size)
        piece = piece.resize((round(piece.width * scale), round(piece.height * scale)), _BILINEAR)
        at = (int(rng.integers(-piece.width // 3, size[0])), int(rng.integers(-piece.height // 3, size[1])))
        image.paste(piece, at, _soft_mask(piece.size, strength=int(rng.integers(120, 230))))
    return image


def _paste_person(
    image: Image.Image,
    portrait: Image.Image,
    rng: np.random.Generator,
    centre: tuple[float, float],
    scale: float,
) -> Box:
    """Pastes head and shoulders around `centre`, mirrored half of the time, turned by up to 12 degrees."""
    left, top, right, bottom = _HEAD_AND_SHOULDERS
    size = (round((right - left) * scale), round((bottom - top) * scale))
    person = portrait.resize(size, _BICUBIC, box=_HEAD_AND_SHOULDERS)
    x, y = ((_FACE[0] + _FACE[2]) / 2 - left) * scale, ((_FACE[1] + _FACE[3]) / 2 - top) * scale
    if rng.random() < 0.5:
        person = person.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x = size[0] - x
    person = _brightened(person, float(rng.uniform(0.8, 1.15)))
    degrees = float(rng.uniform(-12, 12))
    mask = _soft_mask(size, strength=255).rotate(degrees, _BILINEAR, center=(x, y))
    person = person.rotate(degrees, _BILINEAR, center=(x, y))

    x0, y0 = round(centre[0] - size[0] / 2), round(centre[1] - size[1] / 2)
    image.paste(person, (x0, y0), mask)
    half_width, half_height = (_FACE[2] - _FACE[0]) / 2 * scale, (_FACE[3] - _FACE[1]) / 2 * scale
    return x0 + x - half_width, y0 + y - half_height, x0 + x + half_width, y0 + y + half_height


def _soft_mask(size: tuple[int, int], *, strength: int) -> Image.Image:
    """`strength` inside, falling to 0 at the edge; blurred small and enlarged, since a blur costs by area."""
    mask = Image.new("L", (96, 96), 0)
    mask.paste(strength, (8, 8, 88, 88))
    return mask.filter(ImageFilter.GaussianBlur(4)).resize(size, _BILINEAR)


def _brightened(image: Image.Image, factor: float) -> Image.Image:
    return image.point([min(255, round(value * factor)) for value in range(256)] * 3)


def _small(portrait: Image.Image, rng: np.random.Generator) -> bytes:
    """A window of the portrait that holds the whole face, shrunk to 160 px."""
    side, across, down, other_side, factor, mirrored = rng.random(6)
    wide = 150 + 180 * side
    high = wide * (0.85 + 0.15 * other_side)
    left = max(0.0, _FACE[2] + 5 - wide + across * (wide - 103))
    top = max(0.0, _FACE[3] + 5 - high + down * (high - 132))
    image = portrait.resize((160, round(160 * high / wide)), _BILINEAR, box=(left, top, left + wide, top + high))
    if mirrored < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    encoded = BytesIO()
    _brightened(image, 0.7 + 0.5 * factor).save(encoded, "JPEG", quality=85)
    return encoded.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write seeded photographs of faces for the benchmarks.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", type=int, nargs=2, default=(300, 4000), metavar=("LEAST", "GREATEST"))
    parser.add_argument("--small", action="store_true", help="pictures of 160 px instead")
    options = parser.parse_args(arguments)
    if options.small:
        paths = small_photos(options.folder, options.count, seed=options.seed)
        faces = len(paths)
    else:
        photos = make_photos(options.folder, count=options.count, seed=options.seed, sizes=tuple(options.sizes))
        paths, faces = [photo.path for photo in photos], sum(len(photo.faces) for photo in photos)
    size_mb = sum(path.stat().st_size for path in paths) / 1e6
    print(f"{len(paths)} photographs of {faces} faces, {size_mb:.1f} MB, in {options.folder}")


if __name__ == "__main__":
    main()
