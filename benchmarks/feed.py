"""What decoding JPEGs at reduced scale would gain and change, and what glibc's allocator costs (docs/decisions/0008).

Nothing of this is in motivnet: the reduced way lives here. It decodes at the smallest of 1/1, 1/2, 1/4 and 1/8 (libjpeg
scales in the DCT) that leaves the longer side `least` pixels, finds faces there, and decodes again where the smallest
crop would have less than `times` the network's input. Costs are CPU time of one thread, picture by picture in turn, so
that other work on the machine does not count.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import simplejpeg
import torch
from harness import annotate_command, parser, report, say, time_process
from photos import make_photos

from motivnet_cli.config import FaceConfig
from motivnet_cli.faces.crop import cut, to_pixels
from motivnet_cli.faces.find import find_faces, load_detector
from motivnet_cli.faces.looks import FIRST_SIDE
from motivnet_cli.records import Face
from motivnet_cli.weights.load import load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SCALES = (8, 4, 2, 1)
WAYS = {
    f"least {least}, times {times:g}": (least, times)
    for least, times in ((720, 2.0), (1080, 2.0), (1440, 2.0), (720, 1.5))
}
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}


class Taken(NamedTuple):
    """One picture, one way."""

    faces: list[Face]
    """Boxes in pixels of the full picture."""
    crops: list[NDArray[np.uint8]]
    cpu_ms: NDArray[np.float64]
    """Of decoding, finding faces, decoding again, cropping."""
    scales: tuple[int, int]
    """In which faces were found, and from which they were cut."""


def decode_at(path: Path, choose: Callable[[float], int]) -> tuple[NDArray[np.uint8], int]:
    """The picture at the scale chosen by its longer side, and that scale. A full pixel is `scale` reduced ones."""
    content = path.read_bytes()
    height, width, *_ = simplejpeg.decode_jpeg_header(content)
    scale = choose(max(height, width))
    least = {"min_height": -(-height // scale), "min_width": -(-width // scale)}
    return simplejpeg.decode_jpeg(content, "RGB", **least), scale


def smallest(length: float, least: float) -> int:
    """The strongest reduction that leaves `least` pixels of this length."""
    return next((scale for scale in SCALES if length / scale >= least), 1)


class Feed:
    """Decoding, detector, recipe and network, in one thread."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.model = load_model("expression-net")
        self.config = FaceConfig()
        self.detector = load_detector(self.config.detector)

    def full(self, path: Path) -> Taken:
        return self.reduced(path, 10**9, 2)

    def reduced(self, path: Path, least: int, times: float) -> Taken:
        clock = [time.process_time()]
        rgb, scale = decode_at(path, lambda longer: smallest(longer, least))
        clock.append(time.process_time())
        found = find_faces(rgb, self.config, self.detector)
        clock.append(time.process_time())
        faces = [Face(tuple(scale * v for v in face.box), face.source, face.score) for face in found]  # type: ignore[arg-type]
        smallest_side = min((self._side(face) for face in faces), default=np.inf)
        kept = min(scale, smallest(smallest_side, times * max(self.model.height, self.model.width)))
        if kept < scale:
            rgb, _ = decode_at(path, lambda _: kept)
        clock.append(time.process_time())
        crops = [self.crop(rgb, face, kept) for face in faces]
        clock.append(time.process_time())
        return Taken(faces, crops, 1e3 * np.diff(clock), (scale, kept))

    def crop(self, rgb: NDArray[np.uint8], face: Face, scale: int) -> NDArray[np.uint8]:
        card = self.model.card
        if face.source != "whole":
            x1, y1, x2, y2 = (v / scale for v in face.box)
            rgb = cut(rgb, (x1, y1, x2, y2), margin=card.margin, fill_rgb=card.fill_rgb)
        size = {"height": self.model.height, "width": self.model.width}
        return to_pixels(rgb, recipe=self.model.recipe, fill_rgb=card.fill_rgb, **size)

    def probabilities(self, crops: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Mirror-averaged, as a run does it by default."""
        answers = []
        with torch.inference_mode():
            for start in range(0, len(crops), 16):
                pixels = torch.from_numpy(np.stack(crops[start : start + 16]))
                logits = (self.model.network(way)[0] for way in (pixels, pixels.flip(3)))
                answers.append(sum(each.softmax(1) for each in logits) / 2)
        return torch.cat(answers).numpy()

    def network_seconds(self, crops: list[NDArray[np.uint8]]) -> float:
        """CPU time for these crops, after a batch to warm up."""
        self.probabilities(crops[:16])
        mark = time.process_time()
        self.probabilities(crops)
        return time.process_time() - mark

    def _side(self, face: Face) -> float:
        x1, y1, x2, y2 = face.box
        return max(x2 - x1, y2 - y1) * (1 if face.source == "whole" else 1 + self.model.card.margin)


def time_scales(feed: Feed, folder: Path) -> dict[str, Any]:
    """Milliseconds to decode one picture at each scale, and to find its faces there; the median of five."""
    measured = {}
    for size in (4000, 2000):
        (photo,) = make_photos(folder / str(size), count=1, seed=3, sizes=(size, size))
        ways = {f"1/{scale}": feed.reduced(photo.path, size // scale, 0) for scale in reversed(SCALES)}
        rounds = [[feed.reduced(photo.path, size // scale, 0).cpu_ms for scale in reversed(SCALES)] for _ in range(5)]
        medians = np.median(np.array(rounds), axis=0)
        for name, (decoding, finding, _, cropping) in zip(ways, medians.tolist(), strict=True):
            say(f"long side {size} at {name}: decode {decoding:.1f}, find {finding:.1f}, crop {cropping:.1f} ms")
            measured[f"{size} {name}"] = {"decode": decoding, "find": finding, "crop": cropping}
    return measured


def compare(feed: Feed, paths: list[Path], title: str) -> dict[str, Any]:
    """Every way against full scale, on the same pictures in turn."""
    taken: dict[str, list[Taken]] = {"full": [], **{name: [] for name in WAYS}}
    for path in paths:
        taken["full"].append(feed.full(path))
        for name, way in WAYS.items():
            taken[name].append(feed.reduced(path, *way))
    crops = [crop for each in taken["full"] for crop in each.crops]
    network_ms = 1e3 * feed.network_seconds(crops) / len(paths)
    totals = {name: sum(each.cpu_ms.sum() for each in all_) / len(paths) + network_ms for name, all_ in taken.items()}
    measured: dict[str, Any] = {"pictures": len(paths), "network_ms": network_ms}
    for name, all_ in taken.items():
        decoding, finding, again, cropping = np.mean([each.cpu_ms for each in all_], axis=0).tolist()
        row = {"decode_ms": decoding, "find_ms": finding, "again_ms": again, "crop_ms": cropping}
        row |= {"total_ms": totals[name], "gain": totals["full"] / totals[name]}
        row["reduced"] = sum(each.scales[0] > 1 for each in all_)
        row["again"] = sum(each.scales[1] < each.scales[0] for each in all_)
        measured[name] = row if name == "full" else row | agreement(feed, taken["full"], all_)
        say(f"{title}, {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in measured[name].items()))
    return measured


def agreement(feed: Feed, full: list[Taken], reduced: list[Taken]) -> dict[str, float]:
    """How far boxes, crops and probabilities move, over the pictures that were reduced."""
    pairs = [(a, b) for a, b in zip(full, reduced, strict=True) if b.scales[0] > 1]
    alike = [(a, b) for a, b in pairs if len(a.faces) == len(b.faces)]
    faces = [both for a, b in alike for both in zip(a.faces, b.faces, strict=True)]
    crops = [both for a, b in alike for both in zip(a.crops, b.crops, strict=True)]
    if not faces:
        return {}
    return {"other_number_of_faces": len(pairs) - len(alike), **moved(faces), **changed(feed, crops)}


def changed(feed: Feed, crops: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> dict[str, float]:
    """By how much crops differ (mean grey levels of each; their mean and the worst), and what the network says."""
    ours, theirs = (feed.probabilities([both[side] for both in crops]) for side in (0, 1))
    greys = [float(np.abs(a.astype(int) - b).mean()) for a, b in crops]
    return {
        "grey_mean": statistics.fmean(greys),
        "grey_most": max(greys),
        "probability_mean": float(np.abs(ours - theirs).mean()),
        "probability_most": float(np.abs(ours - theirs).max()),
        "same_emotion": float((ours.argmax(1) == theirs.argmax(1)).mean()),
    }


def moved(faces: list[tuple[Face, Face]]) -> dict[str, float]:
    """By how many pixels of the full picture the sides of boxes differ: the worst side of each face."""
    shifts = [max(abs(p - q) for p, q in zip(a.box, b.box, strict=True)) for a, b in faces]
    return {"box_px_mean": statistics.fmean(shifts), "box_px_most": max(shifts)}


def compare_whole(feed: Feed, paths: list[Path]) -> dict[str, Any]:
    """The same for `--faces whole`: no detector, so the picture is decoded once, at `times` the network's input."""
    times_of = {"full": float("inf"), "times 2": 2.0, "times 4": 4.0}
    crops: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in times_of}
    spent = dict.fromkeys(times_of, 0.0)
    longer_input = max(feed.model.height, feed.model.width)
    for path in paths:
        for name, times in times_of.items():
            mark = time.process_time()
            rgb, scale = decode_at(path, partial(smallest, least=times * longer_input))
            crops[name].append(feed.crop(rgb, Face((0, 0, rgb.shape[1], rgb.shape[0]), "whole"), scale))
            spent[name] += time.process_time() - mark
    network_s = feed.network_seconds(crops["full"])
    measured = {}
    for name in ("times 2", "times 4"):
        row = {"gain": (spent["full"] + network_s) / (spent[name] + network_s)}
        measured[name] = row | changed(feed, list(zip(crops["full"], crops[name], strict=True)))
        say(f"--faces whole, {name}: " + ", ".join(f"{key} {value:.3g}" for key, value in measured[name].items()))
    return measured


def one_pixel_less(feed: Feed, paths: list[Path]) -> dict[str, float]:
    """How far the detector's boxes move at full scale when the picture's first row and column are cut off."""
    faces: list[tuple[Face, Face]] = []
    for path in paths:
        rgb, _ = decode_at(path, lambda _: 1)
        if max(rgb.shape) < 2 * FIRST_SIDE:
            continue
        whole, less = (find_faces(each, feed.config, feed.detector) for each in (rgb, rgb[1:, 1:].copy()))
        if len(whole) == len(less):
            faces += zip(whole, [Face(tuple(v + 1 for v in each.box), each.source) for each in less], strict=True)  # type: ignore[arg-type]
    row = moved(faces)
    say("one pixel less: " + ", ".join(f"{key} {value:.3g}" for key, value in row.items()))
    return row


def compare_malloc(folder: Path, *, rounds: int) -> dict[str, Any]:
    """Whole runs in turn, as glibc comes and with both of its thresholds out of the way."""
    pairs = []
    for _ in range(rounds):
        pair = []
        for settings in ({}, MALLOC):
            os.environ.update(settings)
            with tempfile.TemporaryDirectory() as out:
                command = annotate_command(str(folder), "--model", "expression-net", "--out", f"{out}/p.parquet")
                pair.append(time_process(command))
            for name in settings:
                del os.environ[name]
        pairs.append(pair)
    row = {
        "cpu_gain": statistics.median(a.cpu_seconds / b.cpu_seconds for a, b in pairs),
        "cpu_gains": sorted(round(a.cpu_seconds / b.cpu_seconds, 3) for a, b in pairs),
        "wall_gain": statistics.median(a.seconds / b.seconds for a, b in pairs),
        "more_mb": statistics.median(b.peak_mb - a.peak_mb for a, b in pairs),
    }
    say(f"malloc thresholds, {folder.name}: {row}")
    return row


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=200)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    feed = Feed()
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        mixed, large = Path(scratch, "mixed"), Path(scratch, "large")
        paths = [photo.path for photo in make_photos(mixed, count=options.count, seed=11)]
        large_paths = [
            photo.path for photo in make_photos(large, count=options.count // 8, seed=12, sizes=(4000, 4000))
        ]
        measured = {
            "scales": time_scales(feed, Path(scratch)),
            "mixed": compare(feed, paths, "300 to 4000 px"),
            "large": compare(feed, large_paths, "4000 px"),
            "whole": compare_whole(feed, paths),
            "one_pixel_less": one_pixel_less(feed, paths),
            "malloc": {folder.name: compare_malloc(folder, rounds=options.rounds) for folder in (mixed, large)},
        }
    report({"count": options.count, **measured}, record=options.record)


if __name__ == "__main__":
    main()
