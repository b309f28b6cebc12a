"""A long run over a mixed corpus, in one process and with `--devices cpu,cpu`: nothing grows with the time.

Pictures of several formats and sizes, videos, a tar and a zip, damaged ones among them, come again and again under
other names (hard links), more of them than the time allows for. Both runs work at the same time. Every few seconds
the memory, open descriptors, threads and processes of each run with all its children are read, and the files in its
own TMPDIR and (those of anybody) in /dev/shm counted. When the time is over, the runs are told to stop.

The first tenth is left out as warm-up. Each series gets a line by least squares; the 95 % interval of its slope comes
from resampling the residuals in blocks of a fifteenth of the time, as the samples of one block depend on each other.
A measure is flat if the upper end of its interval stays below LIMITS.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import psutil
from harness import ROOT, THREAD_SETTINGS, annotate_command, parser, report, say
from photos import make_photos, small_photos
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WAYS = {"local": (), "devices": ("--devices", "cpu,cpu")}
LIMITS = {"main_mb": 20, "all_mb": 40, "descriptors": 5, "threads": 2, "processes": 1, "files": 1, "shared": 1}
"""What the first process's memory, that of all, and the counts may grow by in an hour, at most.

A run reads thousands of inputs in that time, hundreds of them videos: a leak of one thing for each is far above."""
ROUNDS_A_MINUTE = 30
"""More than any machine gets through: each is some 80 inputs and 5 s of work for a core."""
WARM_UP = 0.1
BLOCKS = 15
DRAWS = 2000
FORMATS = ("png", "webp", "tif", "bmp", "gif", "avif")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=60)
    arguments.add_argument("--every", type=float, default=5, help="seconds between two samples")
    arguments.add_argument("--samples", type=Path, help="a file for the samples, as lines of JSON")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        corpus = Path(scratch) / "corpus"
        make_corpus(corpus, rounds=max(2, round(options.minutes * ROUNDS_A_MINUTE)))
        samples = options.samples or Path(scratch) / "samples.jsonl"
        runs = [Run(way, corpus, Path(scratch)) for way in WAYS]
        with samples.open("w", encoding="utf-8", buffering=1) as file:
            watch(runs, file, seconds=options.minutes * 60, every=options.every)
        lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
        ended = {run.way: run.stop() for run in runs}
    trends = {way: trends_of([line for line in lines if line["run"] == way]) for way in WAYS}
    for way, measures in trends.items():
        say(f"{way}: {ended[way]}")
        for name, trend in measures.items():
            low, high = trend["interval"]
            word = "flat" if trend["is_flat"] else "NOT FLAT"
            say(f"  {name}: {trend['level']:g}, an hour {trend['an_hour']:+g} ({low:+g} to {high:+g}): {word}")
    measured = {"minutes": options.minutes, "ended": ended, "trends": trends, "limits_an_hour": LIMITS}
    report(measured, record=options.record)


def make_corpus(folder: Path, *, rounds: int) -> None:
    """One folder of specimens, and hard links to all of them in a folder for each round."""
    first = folder / "00000"
    make_specimens(first)
    names = sorted(path.name for path in first.iterdir())
    for number in range(1, rounds):
        below = folder / f"{number:05d}"
        below.mkdir()
        for name in names:
            os.link(first / name, below / name)
    say(f"{len(names)} inputs a round, {rounds} rounds")


def make_specimens(folder: Path) -> None:
    small = small_photos(folder, 40)
    photos = make_photos(folder, count=12, seed=1, sizes=(300, 3000))
    with Image.open(photos[0].path) as image:
        for suffix in FORMATS:
            image.save(folder / f"format.{suffix}")
    with tarfile.open(folder / "photos.tar", "w") as tar, zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for path in small[:10]:
            tar.add(path, path.name)
            archive.write(path, path.name)
    video = (ROOT / "sample_data" / "face.mp4").read_bytes()
    middle = len(video) // 2
    (folder / "clip.mp4").write_bytes(video)
    (folder / "damaged.mp4").write_bytes(video[:middle] + bytes(400) + video[middle + 400 :])
    (folder / "no index.mp4").write_bytes(video[:middle])
    for name in ("format.png", "photo-000001.jpg", "photos.tar", "photos.zip"):
        content = (folder / name).read_bytes()
        (folder / f"cut {name}").write_bytes(content[: len(content) * 6 // 10])
    (folder / "text.jpg").write_text("no picture\n", encoding="utf-8")
    (folder / "empty.jpg").touch()
    Image.new("1", (20_000, 20_000)).save(folder / "too large.png")


class Run:
    """An `annotate` of the corpus, with a folder of its own for what is temporary."""

    def __init__(self, way: str, corpus: Path, scratch: Path) -> None:
        self.way = way
        self._temporary = scratch / f"{way} tmp"
        self._temporary.mkdir()
        self._talk = scratch / f"{way}.txt"
        about = ("--model", "expression-net", "--fps", "5", "--track", "--max-failures", "100%")
        command = annotate_command(str(corpus), *about, "--out", f"{scratch / way}/", *WAYS[way])
        environment = {name: value for name, value in os.environ.items() if name not in THREAD_SETTINGS}
        environment |= {"TMPDIR": str(self._temporary), "OMP_NUM_THREADS": "1"}
        with self._talk.open("w") as stderr:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        self._main = psutil.Process(self._process.pid)

    def sample(self) -> dict[str, float]:
        """What the run holds now, in units of 1e6 bytes and as counts."""
        if self._process.poll() is not None:
            raise SystemExit(f"{self.way} ended with {self._process.returncode}:\n{self._talk.read_text()[-4000:]}")
        held = []
        for process in (self._main, *self._main.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied), process.oneshot():
                held.append((process.memory_info().rss / 1e6, process.num_fds(), process.num_threads()))
        memory, descriptors, threads = zip(*held, strict=True)
        return {
            "main_mb": memory[0],
            "all_mb": sum(memory),
            "descriptors": sum(descriptors),
            "threads": sum(threads),
            "processes": len(held),
            "files": num_files(self._temporary),
            "shared": num_files(Path("/dev/shm")),
        }

    def stop(self) -> dict[str, int]:
        """End it as a batch system does; what it has done, and what it has left behind in its TMPDIR."""
        children = self._main.children(recursive=True)
        self._process.send_signal(signal.SIGTERM)
        stdout, _ = self._process.communicate()
        if self._process.returncode != 75:
            raise SystemExit(f"{self.way}: the stop ended with {self._process.returncode}, not 75")
        summary = json.loads(stdout)
        _, alive = psutil.wait_procs(children, timeout=10)
        return {
            "inputs": summary["done"],
            "failed": summary["by_status"].get("failed", 0),
            "faces": summary["faces"],
            "files_left": num_files(self._temporary),
            "processes_left": len(alive),
        }


def num_files(folder: Path) -> int:
    """Files, folders and links below a folder; some may go meanwhile."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))


def watch(runs: Sequence[Run], file: IO[str], *, seconds: float, every: float) -> None:
    """A sample of each run every few seconds, as a line of JSON."""
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        for run in runs:
            file.write(json.dumps({"run": run.way, "s": round(passed, 1), **run.sample()}) + "\n")
        time.sleep(every)


def trends_of(samples: Sequence[Mapping[str, float]]) -> dict[str, dict[str, object]]:
    """Level and slope of each measure, from the samples of one run."""
    begin = samples[0]["s"] + WARM_UP * (samples[-1]["s"] - samples[0]["s"])
    settled = [sample for sample in samples if sample["s"] >= begin]
    hours = np.array([sample["s"] for sample in settled]) / 3600
    trends: dict[str, dict[str, object]] = {}
    for name, limit in LIMITS.items():
        values = np.array([sample[name] for sample in settled], float)
        slope, low, high = slope_of(hours, values)
        trends[name] = {
            "level": round(float(values.mean()), 2),
            "largest": round(float(values.max()), 2),
            "an_hour": round(slope, 2),
            "interval": [round(low, 2), round(high, 2)],
            "is_flat": high < limit,
        }
    return trends


def slope_of(hours: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """The slope of a line by least squares and its 95 % interval, by a moving-block bootstrap of the residuals."""
    n = len(hours)
    centred = hours - hours.mean()
    weights = centred / (centred**2).sum()  # the slope is their sum with the values
    slope = float(weights @ values)
    residuals = values - values.mean() - slope * centred
    length = max(1, n // BLOCKS)
    starts = np.random.default_rng(0).integers(0, n - length + 1, (DRAWS, -(-n // length)))
    drawn = residuals[(starts[:, :, None] + np.arange(length)).reshape(DRAWS, -1)[:, :n]]  # [DRAWS, n]
    low, high = np.percentile(slope + (drawn - drawn.mean(axis=1, keepdims=True)) @ weights, (2.5, 97.5))
    return slope, float(low), float(high)


if __name__ == "__main__":
    main()
