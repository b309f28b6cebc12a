"""How far the detectors' landmarks lie from where they are, by the size, the tilt and the person of a face.

Faces are composed from the people of `people.py` (`--people FOLDER`; without it from the astronaut alone), whose points
were marked by eye, to about 3 % of the distance of the eyes: no error is known better than that. They are scaled,
mirrored and tilted by up to 40 degrees, in pictures of 1280 px. Each picture is looked at upright, which gives the
lines by size, tilt and person, and turned by 90, 180 or 270 degrees, which has lines of its own. The error of a face is
the mean distance of its points from the known ones, in distances of the eyes: left and right confused give more than
0.8. The last line on stdout is the row as JSON.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from detectors import match
from harness import parser, report, say
from people import load_people, load_without_people
from scenes import compose

from motivnet_cli.config import FaceConfig
from motivnet_cli.faces.find import find_faces, load_detector
from motivnet_cli.records import LANDMARKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from people import Person
    from scenes import Scene

    from motivnet_cli.records import Face

SETTINGS = {
    "default": FaceConfig(),
    "size 720": FaceConfig(detection_size=720),
    "blazeface": FaceConfig(detector="blazeface"),
}
LONG_SIDE = 1280
HEIGHTS = (40, 64, 100, 160, 320, 560)
"""Edges of the classes of face height, in pixels of a picture of LONG_SIDE."""
MAX_TURN = 40
TILTS = (0, 10, 20, 30, 180)
"""Edges of the classes of how far the line of the eyes is from level before the picture is turned, in degrees."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--people", type=Path, help="folder of people.py")
    arguments.add_argument("--count", type=int, default=6, help="pictures of every person and size")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    people, grounds = load_people(options.people), [photo.rgb for photo in load_without_people(options.people)]
    rows: dict[str, Any] = {}
    for name, config in SETTINGS.items():
        detector = load_detector(config.detector, detection_size=config.detection_size)
        errors: dict[str, list[np.ndarray | None]] = defaultdict(list)
        rolls: dict[str, list[float]] = defaultdict(list)
        for groups, scene in _scenes(people, grounds, count=options.count, seed=options.seed):
            known = scene.landmarks[0]  # [5, 2]
            (face,), _ = match(find_faces(scene.rgb, config, detector), scene.faces)
            for group in groups:
                errors[group].append(None if face is None else _errors(face, known))
                if face is not None:
                    rolls[group].append(_difference(_roll(_points(face)), _roll(known)))
        rows[name] = {group: _summary(errors[group]) for group in sorted(errors, key=_order)}
        for group, differences in rolls.items():
            rows[name][group]["roll"] = round(float(np.mean(differences)), 1)
        _say_row(name, rows[name])
    report({"people": len(people), "settings": rows}, record=options.record)


def _scenes(
    people: Sequence[Person], grounds: Sequence[np.ndarray], *, count: int, seed: int
) -> Iterator[tuple[tuple[str, ...], Scene]]:
    """Pictures of one face, and the groups that each counts in."""
    for who, person in enumerate(people):
        for size, (low, high) in enumerate(pairwise(HEIGHTS)):
            for number in range(count):
                rng = np.random.default_rng([seed, who, size, number])
                share = float(np.exp(rng.uniform(np.log(low), np.log(high)))) / LONG_SIDE
                scene = compose([person], grounds, rng, (LONG_SIDE, LONG_SIDE), [share], max_turn=MAX_TURN)
                tilt = abs(_roll(scene.landmarks[0]))
                tilts = next(f"tilted {a:2}-{b} degrees" for a, b in pairwise(TILTS) if tilt < b)
                yield ("upright", f"{low:3}-{high} px", tilts, person.name), scene
                quarters = 1 + number % 3
                yield (f"turned {90 * quarters:3}",), scene.turned(quarters)


def _order(group: str) -> tuple[int, str]:
    """Upright pictures first, then by size, tilt and turn, then by person."""
    kinds = ("upright", "px", "tilted", "turned")
    return next((k for k, kind in enumerate(kinds) if kind in group.split()), len(kinds)), group


def _points(face: Face) -> np.ndarray:
    """[5, 2], NaN for points that the detector does not know."""
    assert face.landmarks is not None
    return np.array([(np.nan, np.nan) if point is None else point for point in face.landmarks])


def _errors(face: Face, known: np.ndarray) -> np.ndarray:
    """[5]: how far each point is off, in distances of the eyes."""
    distances: np.ndarray = np.linalg.norm(_points(face) - known, axis=1) / np.linalg.norm(known[0] - known[1])
    return distances


def _roll(points: np.ndarray) -> float:
    """Degrees, as the column: of the line from the right eye to the left one."""
    x, y = points[0] - points[1]
    return float(np.degrees(np.arctan2(y, x)))


def _difference(a: float, b: float) -> float:
    return abs((a - b + 180) % 360 - 180)


def _summary(values: Sequence[np.ndarray | None]) -> dict[str, Any]:
    """Faces, those missed, and the errors of the others: mean, 90th percentile over faces, and mean of each point."""
    errors = np.array([value for value in values if value is not None]).reshape(-1, len(LANDMARKS))
    if not len(errors):
        return {"faces": len(values), "missed": len(values)}
    of_faces, known = np.nanmean(errors, axis=1), ~np.isnan(errors).all(axis=0)
    points = {name: round(float(np.nanmean(errors[:, k])), 3) for k, name in enumerate(LANDMARKS) if known[k]}
    return {
        "faces": len(values),
        "missed": len(values) - len(errors),
        "mean": round(float(of_faces.mean()), 3),
        "p90": round(float(np.percentile(of_faces, 90)), 3),
        **points,
    }


def _say_row(name: str, row: dict[str, Any]) -> None:
    columns = ("faces", "missed", "mean", "p90", *LANDMARKS, "roll")
    say(f"\n{name:44}" + "".join(f"{column:>12}" for column in columns))
    for group, summary in row.items():
        say(f"{group:44}" + "".join(f"{summary.get(column, ''):>12}" for column in columns))


if __name__ == "__main__":
    main()
