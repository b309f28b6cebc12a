"""Recall, false detections and cost of finding faces: of the default settings, and of others beside them.

Photographs of 800 to 8,000 px and panoramas are composed from the astronaut of sample_data and from the people that
`people.py` fetches (`--people FOLDER`); without these there is one woman, and the row says so. A third of them are
looked at again, turned by 90, 180 and 270 degrees. In pictures without people every detection is false. What is judged
is `find_faces`, as a run calls it. Nearly all of these people face the camera: real photographs with faces in profile,
in the dark and half hidden are in FOLDER, too, and have their own lines. The last line on stdout is the row as JSON.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from harness import parser, report, say
from people import Person, Photograph, load_people, load_photographs, load_without_people
from PIL import Image
from scenes import Scene, compose, ground

from motivnet_cli.config import FaceConfig
from motivnet_cli.faces.boxes import iou
from motivnet_cli.faces.detect import MIN_LONG_SIDE, Detector
from motivnet_cli.faces.find import find_faces, load_detector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from motivnet_cli.records import Box, Face

SETTINGS = {
    "default": FaceConfig(),
    **{f"score {score}": FaceConfig(min_confidence=score) for score in (0.4, 0.8)},
    **{f"size {size}": FaceConfig(detection_size=size) for size in (720, 960, 1280, 1920)},
    "blazeface": FaceConfig(detector="blazeface"),
}
MIN_OVERLAP = 0.4
"""Intersection over union from which a detection counts as the face."""
SHARES = (0.015, 0.03, 0.05, 0.15, 0.5)
"""Edges of the classes of face height, in longer sides of the picture."""
CLASSES = ("1.5-3 %", "3-5 %", "5-15 %", "15-50 %")
SIZE_CLASSES = {"under 800 px": 800, "800-1599 px": 1600, "1600-3199 px": 3200, "3200-8000 px": 8001}
"""Classes of pictures, and the longer side from which the next one begins."""
PANORAMA = "panorama"
MIXTURES = ((1, 1, 1, 1, 1), (2, 2, 2, 2), (1, 1, 1, 2, 2), (0, 0, 0, 0, 0), (3,), (0, 0, 1, 1, 2, 3))
"""The classes of the faces of a picture."""
ASPECTS = (4 / 3, 3 / 2, 16 / 9, 20 / 3, 3 / 4, 1, 2 / 3, 9 / 16, 3, 4 / 3, 1 / 3)
UPSCALED_SIZES = (20, 32, 48, 64, 100)
"""Sides of small pictures that a face fills."""


@dataclass
class Tally:
    """What one choice of settings found in a set of pictures."""

    pictures: int = 0
    faces: Counter[str] = field(default_factory=Counter)
    """By size class."""
    found: Counter[str] = field(default_factory=Counter)
    upright: int = 0
    """Of the faces found, those of which is known how they lie: which way their crop is up."""
    false: int = 0
    overlaps: list[float] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """CPU time of a picture, by the picture's size."""

    def add(self, scene: Scene, found: Sequence[Face], seconds: float, *, turn: int) -> None:
        """One more picture: what is in it, what was found, the CPU time, and the turn that makes it upright."""
        faces, overlaps = match(found, scene.faces)
        self.pictures += 1
        self.upright += sum(face is not None and face.turn == turn for face in faces)
        self.false += len(found) - sum(face is not None for face in faces)
        for share, overlap in zip(scene.shares, overlaps, strict=True):
            name = _class(share)
            self.faces[name] += 1
            self.found[name] += overlap > 0
        self.overlaps += [overlap for overlap in overlaps if overlap]
        self.seconds[_size_class(*scene.rgb.shape[:2])].append(seconds)

    def row(self) -> dict[str, Any]:
        """For the results: faces found and all by class, false detections, mean overlap and CPU time."""
        by_class = {name: [self.found[name], self.faces[name]] for name in CLASSES if self.faces[name]}
        middle = [by_class[name] for name in CLASSES[1:3] if name in by_class]
        if middle:
            by_class["3-15 %"] = [sum(pair[0] for pair in middle), sum(pair[1] for pair in middle)]
        return {
            "pictures": self.pictures,
            "found": by_class,
            "upright": [self.upright, sum(self.found.values())],
            "false": self.false,
            "mean_overlap": round(float(np.mean(self.overlaps)), 3) if self.overlaps else None,
            "cpu_ms": {
                name: round(1000 * float(np.mean(self.seconds[name])), 1)
                for name in (*SIZE_CLASSES, PANORAMA)
                if name in self.seconds
            },
        }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--people", type=Path, help="folder of people.py")
    arguments.add_argument("--count", type=int, default=36, help="composed photographs")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="of the settings")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    people, empty = load_people(options.people), load_without_people(options.people)
    if options.people is None:
        say("Without --people every face is the astronaut's: run benchmarks/people.py for others.\n")
    tallies: dict[str, dict[str, Tally]] = {name: defaultdict(Tally) for name in options.only}
    detectors = {
        name: load_detector(SETTINGS[name].detector, detection_size=SETTINGS[name].detection_size) for name in tallies
    }
    for name, scene in _scenes(people, empty, count=options.count, seed=options.seed):
        for setting, tally in tallies.items():
            started = time.process_time()
            found = find_faces(scene.rgb, SETTINGS[setting], detectors[setting])
            seconds = time.process_time() - started
            tally[name].add(scene, found, seconds, turn=int(name.removeprefix("turned ")) if "turned" in name else 0)
    rows = {setting: {name: tally.row() for name, tally in sets.items()} for setting, sets in tallies.items()}
    _say_rows(rows)
    photographs = _measure_photographs(options.people, detectors)
    upscaled = _measure_upscaling(people[0])
    measured = {
        "people": len(people),
        "min_overlap": MIN_OVERLAP,
        "settings": rows,
        "photographs": photographs,
        "upscaling": upscaled,
    }
    report(measured, record=options.record)


def match(found: Sequence[Face], faces: Sequence[Box]) -> tuple[list[Face | None], list[float]]:
    """For every face the detection that is it, None if there is none, and how far the two overlap.

    Every face takes its best free detection, the best scores choosing first.
    """
    matched: list[Face | None] = [None] * len(faces)
    overlaps = [0.0] * len(faces)
    for face in sorted(found, key=lambda face: -(face.score or 0)):
        free = [k for k, other in enumerate(matched) if other is None]
        candidates = iou(np.array([face.box]), np.array([faces[k] for k in free]).reshape(-1, 4))[0]
        if len(free) and candidates.max() >= MIN_OVERLAP:
            best = free[int(candidates.argmax())]
            matched[best], overlaps[best] = face, float(candidates.max())
    return matched, overlaps


def _class(share: float) -> str:
    """The size class of a face; one that a panorama made smaller than all classes counts in the least."""
    return CLASSES[int(np.clip(np.searchsorted(SHARES, share, side="right") - 1, 0, len(CLASSES) - 1))]


def _size_class(height: int, width: int) -> str:
    longer = max(height, width)
    if longer >= 3 * min(height, width):
        return PANORAMA
    return next(name for name, end in SIZE_CLASSES.items() if longer < end)


def _scenes(
    people: Sequence[Person], empty: Sequence[Photograph], *, count: int, seed: int
) -> Iterator[tuple[str, Scene]]:
    """Every picture with the name of its set: `upright`, `turned 90` ..., `without people`."""
    textures = [photograph.rgb for photograph in empty]
    grounds = [photograph.rgb for photograph in empty if not photograph.name.endswith("/chelsea.png")]  # a cat's face
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        size = _size(rng, number, count)
        shares = [float(np.exp(rng.uniform(*np.log(SHARES[k : k + 2])))) for k in MIXTURES[number % len(MIXTURES)]]
        scene = compose(people, grounds, rng, size, shares)
        yield "upright", scene
        if number // len(MIXTURES) % 3 == 0:  # every mixture
            for quarters in (1, 2, 3):
                yield f"turned {90 * quarters}", scene.turned(quarters)
        yield "without people", _scene(np.array(ground(grounds, rng, size)))
    for texture in textures:
        yield "without people", _scene(texture)


def _scene(rgb: np.ndarray, faces: tuple[Box, ...] = ()) -> Scene:
    shares = tuple((y2 - y1) / max(rgb.shape) for _, y1, _, y2 in faces)
    return Scene(rgb, faces, np.zeros((0, 5, 2)), shares)


def _size(rng: np.random.Generator, number: int, count: int) -> tuple[int, int]:
    """Width and height: long sides spread evenly by logarithm over the pictures, in an order of their own."""
    step = np.random.default_rng(count).permutation(count)[number]
    longer = 800 * 10 ** ((step + rng.random()) / count)
    aspect = ASPECTS[number % len(ASPECTS)]
    return round(longer * min(1, aspect)), round(longer / max(1, aspect))


def _say_rows(rows: dict[str, dict[str, dict[str, Any]]]) -> None:
    columns = (*CLASSES, "3-15 %")
    for name in next(iter(rows.values())):
        say(f"\n{name}, {next(iter(rows.values()))[name]['pictures']} pictures")
        say(
            f"{'':12}"
            + "".join(f"{column:>14}" for column in (*columns, "upright", "false", "overlap"))
            + "   CPU ms a picture"
        )
        for setting, sets in rows.items():
            row = sets[name]
            recalls = [f"{a}/{b} {a / b:.3f}" if b else "" for a, b in (row["found"].get(c, (0, 0)) for c in columns)]
            cells = "".join(
                f"{text:>14}" for text in (*recalls, row["upright"][0], row["false"], row["mean_overlap"] or "")
            )
            say(f"{setting:12}{cells}   " + ", ".join(f"{size}: {ms:.0f}" for size, ms in row["cpu_ms"].items()))


def _measure_photographs(folder: Path | None, detectors: dict[str, Detector]) -> dict[str, Any]:
    """Real photographs: the faces in each, and for every setting those found and the false detections, by turn."""
    measured: dict[str, Any] = {}
    totals = {setting: np.zeros((4, 2), int) for setting in detectors}
    for photograph in load_photographs(folder):
        scene = _scene(photograph.rgb, photograph.faces)
        row: dict[str, Any] = {"faces": len(scene.faces)}
        for setting, detector in detectors.items():
            row[setting] = []
            for quarters in range(4):
                turned = scene.turned(quarters)
                found = find_faces(turned.rgb, SETTINGS[setting], detector)
                matched = [face for face in match(found, turned.faces)[0] if face is not None]
                row[setting].append([len(matched), len(found) - len(matched)])
            totals[setting] += row[setting]
        measured[photograph.name] = row
    if measured:
        faces = sum(row["faces"] for row in measured.values())
        say(f"\n{len(measured)} real photographs, {faces} faces: found, false; turned by 0, 90, 180 and 270 degrees")
        for setting, counts in totals.items():
            say(f"{setting:12}" + "".join(f"{f'{found}, {false}':>12}" for found, false in counts.tolist()))
    return measured


def _measure_upscaling(person: Person) -> dict[str, Any]:
    """Whether small pictures that a face fills should be enlarged before RetinaFace sees them.

    "As it is" stands on a plain ground of MIN_LONG_SIDE, so that the detector itself does not enlarge it.
    """
    config = FaceConfig()
    detector = load_detector(config.detector, detection_size=config.detection_size)
    x1, y1, x2, y2 = person.box
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    turns, factors = (-12, -6, 0, 6, 12), (1.1, 1.3, 1.6, 2.2)
    found = {}
    for side in UPSCALED_SIZES:
        counts = [0, 0]
        for degrees in turns:
            turned = person.image.rotate(degrees, Image.Resampling.BICUBIC, center=(x, y))
            for factor in factors:
                half = (y2 - y1) * factor / 2
                crop = turned.crop((round(x - half), round(y - half), round(x + half), round(y + half)))
                small = crop.resize((side, side), Image.Resampling.BICUBIC)
                plain = Image.new("RGB", (MIN_LONG_SIDE, MIN_LONG_SIDE), (123, 117, 104))
                plain.paste(small)
                for k, picture in enumerate((plain, small)):
                    counts[k] += bool(find_faces(np.array(picture), config, detector))
        found[f"{side} x {side}"] = counts
    say(f"\nfound in {len(turns) * len(factors)} small pictures, by side: as it is / enlarged to {MIN_LONG_SIDE}")
    for name, pair in found.items():
        say(f"{name:16}{pair[0]:9} /{pair[1]:4}")
    return {"pictures": len(turns) * len(factors), "found": found}


if __name__ == "__main__":
    main()
