"""Recall of small faces, false alarms and time of the face detectors, over their input size and score threshold.

The pictures are composed from sample_data/astronaut.png, so there is one woman, facing the camera, at many sizes,
angles and brightnesses: it ranks settings, and says little of faces in profile, in the dark or half hidden.
The last line on stdout is the row as JSON.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from harness import ROOT, parser, report, say
from PIL import Image, ImageFilter

from motivnet_cli.faces.detect import MIN_LONG_SIDE, BlazeFace, Detector, RetinaFace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motivnet_cli.records import Box, Face

LONG_SIDES = (320, 480, 640, 720, 960, 1280)
THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
TABLE_THRESHOLD = 0.6
MIN_OVERLAP = 0.4
"""Intersection over union from which a detection counts as the face."""
LEAST_HEIGHTS = (12, 20, 32, 50, 80, 125, 201)
"""Edges of the classes of face height in pixels of the picture."""
SIZES = ((640, 480), (800, 1200), (1280, 720), (1920, 1080), (2000, 1500), (4000, 3000))
UPSCALED_SIZES = (20, 32, 48, 64, 100)
"""Sides of small pictures that a face fills."""

_FACE = (178, 56, 271, 178)
_HEAD_AND_SHOULDERS = (85, 0, 365, 300)
_MEAN_RGB = (123, 117, 104)
_WITHOUT_FACE = ((300, 0, 512, 300), (0, 330, 160, 512), (280, 330, 512, 512), (0, 120, 130, 330))


class Scene(NamedTuple):
    """A picture and where its faces are."""

    rgb: np.ndarray
    faces: tuple[Box, ...]


class Hits(NamedTuple):
    """What one detector found in one scene at the lowest threshold."""

    scores_of_faces: tuple[float, ...]
    """The score of the detection that matches each face; 0 for a face that was missed."""
    scores_of_others: tuple[float, ...]
    """The scores of the detections that match no face."""
    overlaps: tuple[float, ...]
    """Of the matched faces."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=96, help="pictures")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    torch.set_num_threads(1)

    with Image.open(ROOT / "sample_data" / "astronaut.png") as image:
        portrait = image.convert("RGB")
    scenes = [
        _compose(portrait, np.random.default_rng([options.seed, number]), SIZES[number % len(SIZES)])
        for number in range(options.count)
    ]
    heights = np.array([box[3] - box[1] for scene in scenes for box in scene.faces])
    detectors: dict[str, Detector] = {f"retinaface {side}": RetinaFace(side) for side in LONG_SIDES}
    detectors["blazeface 256"] = BlazeFace()
    say(f"{len(scenes)} pictures, {len(heights)} faces; recall at score {TABLE_THRESHOLD} by height of the face")
    classes = [f"{low}-{high - 1}" for low, high in pairwise(LEAST_HEIGHTS)]
    say(f"{'':16}" + "".join(f"{name:>9}" for name in (*classes, "all", "false", "ms")))
    rows: dict[str, Any] = {}
    for name, detector in detectors.items():
        row = rows[name] = _measure(detector, scenes, heights)
        recalls = [*row["recall_by_height"].values(), row["recall"][str(TABLE_THRESHOLD)]]
        say(
            f"{name:16}"
            + "".join(f"{value:9.3f}" for value in recalls)
            + f"{row['false_per_picture'][str(TABLE_THRESHOLD)]:9.3f}{row['ms']:9.1f}"
        )
    say(f"\n{'':16}" + "".join(f"{f'>= {score}':>16}" for score in THRESHOLDS) + "   (recall / false a picture)")
    for name, row in rows.items():
        pairs = zip(row["recall"].values(), row["false_per_picture"].values(), strict=True)
        say(f"{name:16}" + "".join(f"{f'{recall:.3f} / {false:.3f}':>16}" for recall, false in pairs))
    upscaled = _measure_upscaling(portrait)
    say(f"\nfound in {upscaled['pictures']} small pictures, by side: as it is / enlarged to {MIN_LONG_SIDE}")
    for side, pair in upscaled["found"].items():
        say(f"{side:16}{pair[0]:9} /{pair[1]:4}")
    measured = {"pictures": len(scenes), "faces": len(heights), "min_overlap": MIN_OVERLAP, "detectors": rows}
    report(measured | {"upscaling": upscaled}, record=options.record)


def _measure(detector: Detector, scenes: Sequence[Scene], heights: np.ndarray) -> dict[str, Any]:
    detector.detect(scenes[0].rgb, min_confidence=0.5)  # the first call of a session is slow
    seconds, hits = [], []
    for scene in scenes:
        started = time.perf_counter()
        found = detector.detect(scene.rgb, min_confidence=min(THRESHOLDS))
        seconds.append(time.perf_counter() - started)
        hits.append(_match(found, scene.faces))
    scores = np.array([score for hit in hits for score in hit.scores_of_faces])
    others = np.array([score for hit in hits for score in hit.scores_of_others])
    overlaps = [overlap for hit in hits for overlap in hit.overlaps]
    by_height = {}
    for low, high in pairwise(LEAST_HEIGHTS):
        here = (heights >= low) & (heights < high)
        by_height[f"{low}-{high - 1}"] = round(float((scores[here] >= TABLE_THRESHOLD).mean()), 3)
    return {
        "recall_by_height": by_height,
        "recall": {str(t): round(float((scores >= t).mean()), 3) for t in THRESHOLDS},
        "false_per_picture": {str(t): round(float((others >= t).sum() / len(scenes)), 3) for t in THRESHOLDS},
        "mean_overlap": round(float(np.mean(overlaps)), 3),
        "ms": round(1000 * float(np.mean(seconds)), 1),
    }


def _match(found: Sequence[Face], faces: Sequence[Box]) -> Hits:
    """Every face takes its best free detection, the best scores choosing first."""
    scores, overlaps, others = [0.0] * len(faces), [0.0] * len(faces), []
    for face in sorted(found, key=lambda face: -(face.score or 0)):
        candidates = [0.0 if scores[k] else _overlap(face.box, box) for k, box in enumerate(faces)]
        best = int(np.argmax(candidates))
        if candidates[best] >= MIN_OVERLAP:
            scores[best], overlaps[best] = face.score or 0, candidates[best]
        else:
            others.append(face.score or 0)
    return Hits(tuple(scores), tuple(others), tuple(value for value in overlaps if value))


def _overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def _measure_upscaling(portrait: Image.Image) -> dict[str, Any]:
    """Whether small pictures that a face fills should be enlarged before RetinaFace sees them.

    "As it is" stands on a plain ground of MIN_LONG_SIDE, so that the detector itself does not enlarge it.
    """
    detector = RetinaFace()
    turns = (-12, -6, 0, 6, 12)
    factors = (1.1, 1.3, 1.6, 2.2)
    found = {}
    for side in UPSCALED_SIZES:
        counts = [0, 0]
        for degrees in turns:
            turned = portrait.rotate(degrees, Image.Resampling.BICUBIC, center=(224, 117))
            for factor in factors:
                half = (_FACE[3] - _FACE[1]) * factor / 2
                crop = turned.crop((round(224 - half), round(117 - half), round(224 + half), round(117 + half)))
                small = crop.resize((side, side), Image.Resampling.BICUBIC)
                plain = Image.new("RGB", (MIN_LONG_SIDE, MIN_LONG_SIDE), _MEAN_RGB)
                plain.paste(small)
                for k, picture in enumerate((plain, small)):
                    counts[k] += bool(detector.detect(np.array(picture), min_confidence=TABLE_THRESHOLD))
        found[f"{side} x {side}"] = counts
    return {"pictures": len(turns) * len(factors), "found": found}


def _compose(portrait: Image.Image, rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Up to nine people in the cells of a grid, evenly spread by the logarithm of their height."""
    image = _ground(portrait, rng, size)
    rows, columns = 3, 3
    cell_width, cell_height = size[0] // columns, size[1] // rows
    limit = min(200.0, cell_width / 2.4, cell_height / 2.5)
    faces = []
    for cell in rng.permutation(rows * columns)[: rng.integers(3, 10)]:
        height = float(np.exp(rng.uniform(np.log(12), np.log(limit))))
        x0, y0 = int(cell % columns) * cell_width, int(cell // columns) * cell_height
        faces.append(_paste_person(image, portrait, rng, height, (x0, y0, cell_width, cell_height)))
    grain = rng.normal(0, 3, (size[1] // 2, size[0] // 2, 1)).repeat(2, 0).repeat(2, 1)
    rgb = np.asarray(image, np.float32)[: grain.shape[0], : grain.shape[1]] * float(rng.uniform(0.6, 1.25))
    return Scene(np.clip(rgb + grain, 0, 255).astype(np.uint8), tuple(faces))


def _ground(portrait: Image.Image, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A plain colour, noise at two scales, or a piece of the portrait that shows no face."""
    kind = int(rng.integers(3))
    if kind == 0:
        return Image.new("RGB", size, tuple(int(value) for value in rng.integers(20, 235, 3)))
    if kind == 1:
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        fine = Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        return Image.blend(coarse, fine, 0.35)
    box = _WITHOUT_FACE[int(rng.integers(len(_WITHOUT_FACE)))]
    return portrait.resize(size, Image.Resampling.BILINEAR, box=box)


def _paste_person(
    image: Image.Image,
    portrait: Image.Image,
    rng: np.random.Generator,
    height: float,
    cell: tuple[int, int, int, int],
) -> Box:
    """Pastes head and shoulders somewhere in the cell; returns where the face is.

    RetinaFace looks at what is around a face: on heads alone it found 6 % of those of 24 to 32 px, not a third.
    """
    left, top, right, bottom = _HEAD_AND_SHOULDERS
    scale = height / (_FACE[3] - _FACE[1])
    width_px, height_px = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    x, y = ((_FACE[0] + _FACE[2]) / 2 - left) * scale, ((_FACE[1] + _FACE[3]) / 2 - top) * scale
    person = portrait.resize((width_px, height_px), Image.Resampling.LANCZOS, box=_HEAD_AND_SHOULDERS)
    mask = Image.new("L", (96, 96), 0)
    mask.paste(255, (5, 5, 91, 91))
    mask = mask.filter(ImageFilter.GaussianBlur(3)).resize(person.size)
    if rng.random() < 0.5:
        person, x = person.transpose(Image.Transpose.FLIP_LEFT_RIGHT), width_px - x
    degrees, factor = float(rng.uniform(-15, 15)), float(rng.uniform(0.6, 1.2))
    person = person.rotate(degrees, Image.Resampling.BICUBIC, center=(x, y)).point(
        [min(255, round(value * factor)) for value in range(256)] * 3
    )
    mask = mask.rotate(degrees, Image.Resampling.BICUBIC, center=(x, y))
    x0 = cell[0] + int(rng.integers(0, max(1, cell[2] - width_px)))
    y0 = cell[1] + int(rng.integers(0, max(1, cell[3] - height_px)))
    image.paste(person, (x0, y0), mask)
    half_width = (_FACE[2] - _FACE[0]) / 2 * scale
    return x0 + x - half_width, y0 + y - height / 2, x0 + x + half_width, y0 + y + height / 2


if __name__ == "__main__":
    main()
