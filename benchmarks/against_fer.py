"""Times `motivnet annotate` against the PyPI package `fer` with its MTCNN, as whole processes.

Both read the same photographs in turn, in one run, with every core at hand; fer also runs with one thread and its
faster setting counts: on a busy machine its two threads took three to ten times as long as one, so `--one-thread`
leaves them out; there only CPU times say anything. All photographs show one smiling woman: this compares speed and
found faces, not which tool reads emotions better.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.parquet as pq
from harness import Usage, annotate_command, parser, report, say, time_process
from photos import Box, make_photos

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent
FER = "fer==25.10.3"
FER_EMOTIONS = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "sad": "sadness",
    "surprise": "surprise",
}
LEAST_IOU = 0.4


class FoundFace(NamedTuple):
    box: Box
    emotion: str


class Run(NamedTuple):
    """One process over all photographs."""

    usage: Usage
    seconds_after_start: float
    """As the tool itself reports, from the first photograph to the end."""
    faces: Mapping[str, list[FoundFace]]
    """By file name."""
    told: Mapping[str, Any]
    """What the tool says of itself: versions, device, threads."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=300, help="photographs")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--sizes", type=int, nargs=2, default=(500, 2000), metavar=("LEAST", "GREATEST"))
    arguments.add_argument("--rounds", type=int, default=2, help="how often each tool runs, in turn")
    arguments.add_argument("--model", default="expression-net")
    arguments.add_argument("--one-thread", action="store_true", help="leave out fer with threads of its own choice")
    arguments.add_argument("--fer-venv", type=Path, default=HERE / ".fer-venv", help="made if missing, 7 GB")
    options = arguments.parse_args()

    fer_python = _fer_python(options.fer_venv.absolute())
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        folder = Path(scratch) / "photos"
        photos = make_photos(folder, count=options.count, seed=options.seed, sizes=tuple(options.sizes))
        truth = {photo.path.name: list(photo.faces) for photo in photos}
        size_mb = sum(photo.path.stat().st_size for photo in photos) / 1e6
        runs: dict[str, list[Run]] = {"fer": [], "fer_one_thread": [], "motivnet": []}
        if options.one_thread:
            del runs["fer"]
        for number in range(options.rounds):
            out = Path(scratch) / str(number)
            if "fer" in runs:
                runs["fer"].append(_run_fer(fer_python, folder, out.with_suffix(".json"), threads=None))
            runs["motivnet"].append(_run_motivnet(folder, out.with_suffix(".parquet"), model=options.model))
            runs["fer_one_thread"].append(_run_fer(fer_python, folder, out.with_suffix(".json"), threads=1))
            say(f"round {number + 1}: " + ", ".join(f"{tool} {r[-1].usage.seconds:.1f} s" for tool, r in runs.items()))

    photographs = {"count": options.count, "seed": options.seed, "sizes": list(options.sizes)}
    measured = {
        "load_average_before": round(load, 2),
        "photographs": photographs | {"mb": round(size_mb, 1), "faces": sum(map(len, truth.values()))},
        "fer_versions": runs["fer_one_thread"][0].told["versions"],
        **_compare(runs, truth),
    }
    _print_table(measured)
    report(measured, record=options.record)


def _fer_python(venv: Path) -> Path:
    """The Python of fer's environment, which is made first if its last step did not finish before."""
    python, finished = venv / "bin" / "python", venv / f"{FER}.installed"
    if not finished.exists():
        say(f"installing {FER} into {venv} (some minutes, about 7 GB)")
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(venv)],
            [*pip, "-r", str(HERE / "fer_requirements.txt")],
            [*pip, "--no-deps", FER],
        ):
            subprocess.run(command, check=True, stdout=sys.stderr)
        (venv / ".gitignore").write_text("*\n", encoding="utf-8")
        finished.touch()
    return python


def _run_fer(python: Path, folder: Path, out: Path, *, threads: int | None) -> Run:
    command = [str(python), str(HERE / "fer_worker.py"), str(folder), "--out", str(out)]
    usage = time_process(command, threads=threads)
    told = json.loads(out.read_text(encoding="utf-8"))
    faces = {
        image["input"]: [FoundFace(tuple(f["box"]), FER_EMOTIONS[f["emotion"]]) for f in image["faces"]]
        for image in told.pop("images")
    }
    return Run(usage, seconds_after_start=told["seconds_after_start"], faces=faces, told=told)


def _run_motivnet(folder: Path, out: Path, *, model: str) -> Run:
    usage = time_process(annotate_command(str(folder), "--model", model, "--out", str(out)))
    told = json.loads(usage.stdout)
    faces: dict[str, list[FoundFace]] = {}
    for row in pq.read_table(out, columns=["input", "x1", "y1", "x2", "y2", "emotion"]).to_pylist():
        box = (row["x1"], row["y1"], row["x2"], row["y2"])
        faces.setdefault(Path(row["input"]).name, []).append(FoundFace(box, row["emotion"]))
    if sum(map(len, faces.values())) != told["faces"]:
        raise SystemExit(f"{out.name} holds {sum(map(len, faces.values()))} faces, the summary says {told['faces']}")
    return Run(usage, seconds_after_start=told["seconds"], faces=faces, told=told)


def _compare(runs: Mapping[str, list[Run]], truth: Mapping[str, list[Box]]) -> dict[str, Any]:
    """The best round of each tool, how many times faster motivnet is, and how far they agree on what they saw."""
    described = {tool: _described(rounds, truth) for tool, rounds in runs.items()}
    theirs, ours = runs["fer_one_thread"][0].faces, runs["motivnet"][0].faces
    pairs = []
    for name in truth:
        their_faces, our_faces = theirs.get(name, []), ours.get(name, [])
        for i, j in _matches([face.box for face in their_faces], [face.box for face in our_faces]):
            pairs.append((their_faces[i].emotion, our_faces[j].emotion))
    rounds = [dict(zip(runs, each, strict=True)) for each in zip(*runs.values(), strict=True)]
    return {
        **described,
        "times_faster": _times_faster(described, "seconds"),
        "times_faster_after_start": _times_faster(described, "seconds_after_start"),
        "times_less_cpu": _times_faster(described, "cpu_seconds"),
        "times_faster_by_round": [
            round(
                min(each[tool].usage.seconds for tool in each if tool != "motivnet") / each["motivnet"].usage.seconds, 2
            )
            for each in rounds
        ],
        "matched_faces": len(pairs),
        "same_emotion": round(sum(a == b for a, b in pairs) / len(pairs), 4) if pairs else None,
    }


def _times_faster(described: Mapping[str, Mapping[str, Any]], key: str) -> float:
    """Against the faster of fer's two settings."""
    fer: float = min(described[tool][key] for tool in described if tool != "motivnet")
    return round(fer / float(described["motivnet"][key]), 2)


def _described(runs: list[Run], truth: Mapping[str, list[Box]]) -> dict[str, Any]:
    """The least of each measure over the rounds, since other work on the machine only ever adds to it."""
    faces = runs[0].faces
    right = sum(len(_matches([face.box for face in faces.get(name, [])], truth[name])) for name in truth)
    return {
        "seconds": round(min(run.usage.seconds for run in runs), 3),
        "seconds_after_start": round(min(run.seconds_after_start for run in runs), 3),
        "cpu_seconds": round(min(run.usage.cpu_seconds for run in runs), 2),
        "peak_mb": round(max(run.usage.peak_mb for run in runs)),
        "photographs_per_second": round(len(truth) / min(run.usage.seconds for run in runs), 2),
        "faces": sum(map(len, faces.values())),
        "faces_where_one_was_put": right,
        "device": runs[0].told.get("device"),
    }


def _matches(some: list[Box], others: list[Box]) -> list[tuple[int, int]]:
    """Index pairs of boxes that overlap by LEAST_IOU or more, the closest first, each box at most once."""
    by_overlap = sorted(((_iou(a, b), i, j) for i, a in enumerate(some) for j, b in enumerate(others)), reverse=True)
    pairs: dict[int, int] = {}
    for overlap, i, j in by_overlap:
        if overlap >= LEAST_IOU and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return list(pairs.items())


def _iou(a: Box, b: Box) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, wide) * max(0, high)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (areas - shared)


def _print_table(row: Mapping[str, Any]) -> None:
    tools = [tool for tool in ("fer", "fer_one_thread", "motivnet") if tool in row]
    photographs = row["photographs"]
    say(f"\n{photographs['count']} photographs of {photographs['faces']} faces")
    say(" " * 28 + "".join(f"{tool:>16}" for tool in tools))
    for label, key in (
        ("whole process, s", "seconds"),
        ("after start-up, s", "seconds_after_start"),
        ("processor time, s", "cpu_seconds"),
        ("peak memory, MB", "peak_mb"),
        ("faces found", "faces"),
        ("of them where one was put", "faces_where_one_was_put"),
    ):
        say(f"{label:28}" + "".join(f"{row[tool][key]:>16}" for tool in tools))
    say(f"times faster: {row['times_faster']} (by round {row['times_faster_by_round']}),", end=" ")
    say(f"after start-up {row['times_faster_after_start']}; times less CPU: {row['times_less_cpu']}")
    say(f"{row['matched_faces']} faces found by both; share with the same emotion: {row['same_emotion']}")
    if row["load_average_before"] > 0.5:
        say(f"the machine was busy (load {row['load_average_before']}): these times are not to be trusted")


if __name__ == "__main__":
    main()
