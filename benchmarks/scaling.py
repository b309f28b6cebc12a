"""What a second process brings: `--devices cpu,cpu`, two shards, and two Ray actors, against one process on one core.

Efficiency is the rate of two over twice the rate of one; Ray's overhead is the time of two actors over that of two
local workers. Two ordinary runs at once, each over half the files and into an output of its own, say what the machine
gives two processes that share nothing but its memory. Start-up is left out: the clock starts at the part with which a
fifth of the inputs is committed, when all processes are at work, and stops at the last part, so what they wait for
each other in the end counts. One process, a shard and half a run are held on one core (`taskset`), each local worker
keeps to one itself, and an actor is given one CPU. The ways run in turn, a few rounds of them; every output is
compared with that of the one process.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars
import polars.testing
import pyarrow.parquet as pq
from harness import annotate_command, parser, report, say, time_process
from photos import small_photos

from motivnet_cli.output.read import read_faces, read_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGETS = {"efficiency": 0.85, "ray_overhead": 1.15}
STARTED_UP = 0.2
"""Share of the inputs that is committed when the clock starts."""
ONE = "one process"
APART, DEVICES, SHARDS, RAY = "two runs apart", "devices", "shards", "ray"
OPTIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    ONE: ((),),
    APART: ((), ()),
    DEVICES: (("--devices", "cpu,cpu"),),
    SHARDS: (("--shard", "0/2"), ("--shard", "1/2")),
    RAY: (("--engine", "ray", "--workers", "2", "--cpus-per-worker", "1"),),
}
"""What each process that is started is asked for."""
HELD = (ONE, APART, SHARDS)
"""Each of their processes is held on one core, as a scheduler of clusters would do it."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=5000)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    taskset = shutil.which("taskset")
    if taskset is None:
        raise SystemExit("holding a process on one core takes taskset (util-linux)")
    rates: dict[str, list[float]] = {way: [] for way in OPTIONS}
    parts = {}
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        photos = Path(scratch) / "photos"
        for half in range(2):
            small_photos(photos / f"{half}", options.count // 2, seed=half)
        for number in range(options.rounds):
            reference = Path(scratch) / f"{number} {ONE}"
            for way, processes in OPTIONS.items():
                places = [Path(scratch) / f"{number} {way}"] * len(processes)
                sources = [photos] * len(processes)
                if way == APART:
                    places = [place.with_name(f"{place.name} {half}") for half, place in enumerate(places)]
                    sources = [photos / f"{half}" for half in range(2)]
                outs = sorted(set(places))
                prefixes = [(taskset, "--cpu-list", f"{core}") if way in HELD else () for core in range(len(processes))]
                run(list(zip(prefixes, sources, processes, places, strict=True)))
                rates[way].append(rate_of(outs))
                parts[way] = sum(1 for out in outs for _ in (out / "inputs").iterdir())
                if way != APART:
                    assert_same(outs[0], reference)
                say(f"{way}: {rates[way][-1]:.1f} inputs a second, {parts[way]} parts")
                for out in outs:
                    if out != reference:
                        shutil.rmtree(out)
            shutil.rmtree(reference)
    efficiency = {way: over(rates[way], rates[ONE], 0.5) for way in OPTIONS if way != ONE}
    overhead = over(rates[DEVICES], rates[RAY], 1.0)
    for way, values in efficiency.items():
        say(f"{way}: efficiency {statistics.median(values):.2f} of {values} (target {TARGETS['efficiency']})")
    say(f"Ray's overhead: {statistics.median(overhead):.2f} of {overhead} (target {TARGETS['ray_overhead']})")
    measured = {
        "count": options.count,
        "rates": {way: [round(rate, 1) for rate in each] for way, each in rates.items()},
        "parts": parts,
        "efficiency": efficiency,
        "ray_overhead": overhead,
        "targets": TARGETS,
    }
    report(measured, record=options.record)


def run(processes: Sequence[tuple[Sequence[str], Path, Sequence[str], Path]]) -> None:
    """Run them at once: what holds each on its core, what it reads, its options, and where it writes."""
    about = ["--model", "expression-net", "--faces", "whole", "--commit-seconds", "5"]
    commands = [
        [*prefix, *annotate_command(str(source), *about, "--out", f"{out}/", *options)]
        for prefix, source, options, out in processes
    ]
    with ThreadPoolExecutor(len(commands)) as pool:
        list(pool.map(partial(time_process, threads=1), commands))


def rate_of(outs: Sequence[Path]) -> float:
    """Inputs a second between two commits: that with which everybody is at work, and the last one."""
    files = (part for out in outs for part in (out / "inputs").iterdir())
    parts = sorted((file.stat().st_mtime, pq.read_metadata(file).num_rows) for file in files)
    total, done = sum(rows for _, rows in parts), 0
    for started, rows in parts:
        done += rows
        if done >= STARTED_UP * total:
            return (total - done) / (parts[-1][0] - started)
    raise AssertionError


def over(numerators: Sequence[float], denominators: Sequence[float], factor: float) -> list[float]:
    return [round(factor * above / below, 3) for above, below in zip(numerators, denominators, strict=True)]


def assert_same(out: Path, reference: Path) -> None:
    """Equal rows in the same order; probabilities may differ by the order of sums in another batch."""
    polars.testing.assert_frame_equal(read_inputs(out), read_inputs(reference), categorical_as_str=True)
    ours, theirs = read_faces(out), read_faces(reference)
    polars.testing.assert_frame_equal(
        ours.drop("embedding"), theirs.drop("embedding"), abs_tol=1e-5, categorical_as_str=True
    )
    ours, theirs = (table["embedding"].to_numpy().astype(np.float32) for table in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-3)


if __name__ == "__main__":
    main()
