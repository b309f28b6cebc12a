"""What applying colour profiles would cost and change (docs/decisions/0016): motivnet takes all values for sRGB.

Pictures of sample_data in four lights are stored in wide colours, as a camera would store the same scene, and read with
and without conversion. To have faces of which the network is unsure, boxes are also moved and scaled at random.
"""

from __future__ import annotations

import io
import statistics
import struct
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from feed import Feed
from harness import ROOT, parser, report, say
from PIL import Image, ImageCms

from motivnet_cli.faces.find import find_faces
from motivnet_cli.records import Face

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHITE = (0.3127, 0.3290)
SPACES = {
    "Display P3": (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), 0.0),
    "Adobe RGB": (((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), 563 / 256),
}
"""Primaries in x and y, and gamma; 0 is the curve of sRGB."""
LIGHTS = ((1, 1, 1), (0.6, 0.55, 0.5), (1, 0.85, 0.65), (0.8, 0.9, 1))
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D50 = np.array([0.9642, 1, 0.8249])


def profile(primaries: tuple[tuple[float, float], ...], gamma: float) -> bytes:
    """An ICC profile of a matrix and a curve, by ICC.1."""
    xyz = [np.array([x / y, 1, (1 - x - y) / y]) for x, y in (*primaries, WHITE)]
    matrix = np.stack(xyz[:3], axis=1)
    matrix = matrix * np.linalg.solve(matrix, xyz[3])
    matrix = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ xyz[3])) @ BRADFORD @ matrix
    fixed = lambda values: struct.pack(f">{len(values)}i", *(round(v * 65536) for v in values))  # noqa: E731
    curve = b"para" + struct.pack(">IHH", 0, 3, 0) + fixed((2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    if gamma:
        curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))
    tags = {b"desc": b"desc" + struct.pack(">II", 0, 5) + b"wide\0" + bytes(78), b"cprt": b"text\0\0\0\0CC0\0"}
    tags |= {b"wtpt": b"XYZ \0\0\0\0" + fixed(D50)}
    for name, column in zip("rgb", matrix.T, strict=True):
        tags |= {f"{name}XYZ".encode(): b"XYZ \0\0\0\0" + fixed(column), f"{name}TRC".encode(): curve}
    table, data, start = b"", b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(">I4xI12s", start + len(data), 0x02400000, b"mntrRGB XYZ ") + struct.pack(
        ">6H", 2026, 1, 1, 0, 0, 0
    )
    head += b"acsp" + bytes(28) + fixed(D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def transforms(space: str) -> tuple[ImageCms.ImageCmsTransform, ImageCms.ImageCmsTransform]:
    """From sRGB and to sRGB, relative colorimetric."""
    wide, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile(*SPACES[space]))), ImageCms.createProfile("sRGB")
    return tuple(  # type: ignore[return-value]
        ImageCms.buildTransform(a, b, "RGB", "RGB", renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC)
        for a, b in ((srgb, wide), (wide, srgb))
    )


def applied(transform: ImageCms.ImageCmsTransform, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.array(transform.apply(Image.fromarray(rgb)))


def time_conversion(space: str) -> dict[str, float]:
    """CPU milliseconds, medians of seven: decoding a JPEG of 12 megapixels by Pillow, converting it or a crop of it."""
    _, to = transforms(space)
    with Image.open(ROOT / "sample_data" / "astronaut.png") as portrait:
        picture = portrait.convert("RGB").resize((4000, 3000))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    rgb = np.asarray(picture)
    spent: dict[str, list[float]] = {}
    for _ in range(7):
        mark = time.thread_time()
        np.asarray(Image.open(io.BytesIO(file.getvalue())))
        spent.setdefault("decode_ms", []).append(time.thread_time() - mark)
        for name, height, width in (("whole_ms", 3000, 4000), *((f"crop_{n}_ms", n, n) for n in (112, 224, 768))):
            mark = time.thread_time()
            applied(to, rgb[:height, :width])
            spent.setdefault(name, []).append(time.thread_time() - mark)
        mark = time.thread_time()
        transforms(space)
        spent.setdefault("prepare_ms", []).append((time.thread_time() - mark) / 2)
    return {name: 1e3 * statistics.median(values) for name, values in spent.items()}


def compare(feed: Feed, space: str) -> dict[str, Any]:
    """How far crops and probabilities move, for boxes as found and for boxes at random."""
    back, to = transforms(space)
    chance = np.random.default_rng(14)
    crops: dict[str, list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]] = {"found": [], "moved": []}
    for name in ("group.jpg", "astronaut.png"):
        with Image.open(ROOT / "sample_data" / name) as image:
            scene = np.asarray(image.convert("RGB"))
        for light in LIGHTS:
            stored = applied(back, (scene * np.array(light)).astype(np.uint8))
            converted = applied(to, stored)
            for face in find_faces(converted, feed.config, feed.detector):
                x1, y1, x2, y2 = face.box
                for times, dx, dy in ((1, 0, 0), *(chance.uniform((0.6, -0.4, -0.4), (1.6, 0.4, 0.4), (10, 3)))):
                    x, y = (x1 + x2) / 2 + dx * (y2 - y1), (y1 + y2) / 2 + dy * (y2 - y1)
                    half = times * (x2 - x1) / 2, times * (y2 - y1) / 2
                    box = Face((x - half[0], y - half[1], x + half[0], y + half[1]), "given")
                    crops["found" if times == 1 else "moved"].append(
                        (feed.crop(stored, box, 1), feed.crop(converted, box, 1))
                    )
    rows = {}
    for name, pairs in crops.items():
        ignored, right = (feed.probabilities([pair[side] for pair in pairs]) for side in (0, 1))
        change = np.abs(ignored - right).max(axis=1)
        row = {"faces": len(pairs), "grey_mean": float(np.mean([np.abs(a.astype(int) - b).mean() for a, b in pairs]))}
        row |= {"probability_mean": float(change.mean()), "probability_most": float(change.max())}
        rows[name] = row | {"other_emotion": int((ignored.argmax(axis=1) != right.argmax(axis=1)).sum())}
    return rows


def main() -> None:
    options = parser(__doc__).parse_args()
    feed = Feed()
    measured = {}
    for space in SPACES:
        measured[space] = {"times": time_conversion(space), **compare(feed, space)}
        say(f"{space}: {measured[space]}")
    report(measured, record=options.record)


if __name__ == "__main__":
    main()
