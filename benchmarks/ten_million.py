"""Ten million inputs through the real engine, with a network that answers zeros and pictures that are made in memory.

Only these two are replaced. A list of URLs is listed, frozen as a plan, done by as many tasks as are asked for (of an
array, each a process of its own), committed unit by unit and completed; then `motivnet verify` and `motivnet export
merge` run on the output, and DuckDB judges it: every name once, in its place, with its face, and as many in each unit
as belong there. Every hundredth of its share a task notes its memory, descriptors, threads and CPU time; they are
flat if they are the same from the second tenth to the end.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import psutil
from harness import ROOT, parser, report, say, time_process

if TYPE_CHECKING:
    from motivnet_cli.config import RunConfig
    from motivnet_cli.records import Progress
    from motivnet_cli.weights.load import LoadedModel

TARGETS = {"grown_mb": 50, "grown_descriptors": 0}
"""Of each task, from a tenth of its share to its end."""
RECIPE = "stretch"
"""That of MotivNet."""
EMBEDDING_SIZE = 8
NAME = "https://nowhere.invalid/{:05d}/{:08d}.jpg"
A_FOLDER = 1000


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=10_000_000)
    arguments.add_argument("--tasks", type=int, default=2)
    arguments.add_argument("--scratch", type=Path, help="where the list and the output lie; a temporary folder if none")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-", dir=options.scratch) as scratch:
        names, out = Path(scratch) / "names.txt", Path(scratch) / "out"
        with names.open("w") as file:
            file.writelines(f"{NAME.format(number // A_FOLDER, number)}\n" for number in range(options.count))
        row = {"count": options.count, "tasks": options.tasks, **run(names, out, options.tasks, options.count)}
        row |= {f"{table}_files": files_in(out / table) for table in ("faces", "inputs")}
        row["lock_files"] = files_in(out / ".motivnet" / "claims")["files"]
        row["plan_bytes"] = (out / ".motivnet" / "plan.pq").stat().st_size
        merged = Path(scratch) / "merged.parquet"
        row["verify"] = measured("verify", "verify", str(out), "--json")
        row["merge"] = measured("merge", "export", "merge", str(out), "--out", str(merged))
        row["merged_bytes"] = sum(path.stat().st_size for path in Path(scratch).glob("merged*.parquet"))
        row["unit"] = json.loads((out / ".motivnet" / "run.json").read_text())["unit"]
        for faces, inputs in ((f"{out}/faces/*", f"{out}/inputs/*"), (merged, merged.with_suffix(".inputs.parquet"))):
            judge(str(faces), str(inputs), options.count, row["unit"])
    report({**row, "targets": TARGETS}, record=options.record)


# ---- the run ----------------------------------------------------------------------------------------------


class Sample(TypedDict):
    """A task, at some point of its share."""

    done: int
    seconds: float
    cpu_seconds: float
    mb: float
    descriptors: int
    threads: int


def run(names: Path, out: Path, num_tasks: int, count: int) -> dict[str, object]:
    """Have tasks do a run: what it took, and how each of them went."""
    started = time.monotonic()
    command = [sys.executable, __file__, "--task"]
    tasks = [
        subprocess.Popen([*command, str(names), str(out), str(index), str(num_tasks)], cwd=ROOT, stdout=subprocess.PIPE)
        for index in range(num_tasks)
    ]
    told = [json.loads(task.communicate()[0] or "{}") for task in tasks]
    if any(task.returncode for task in tasks):
        raise SystemExit("a task failed")
    seconds = time.monotonic() - started
    if sum(task["samples"][-1]["done"] for task in told) != count or {task["done"] for task in told} <= {0}:
        raise SystemExit(f"not the whole run: {told}")
    cpu_seconds = sum(task["cpu_seconds"] for task in told)
    say(f"{count:,} inputs in {seconds:.0f} s by {num_tasks} tasks; {1e6 * cpu_seconds / count:.0f} us of CPU each")
    return {
        "seconds": round(seconds),
        "inputs_per_s": round(count / seconds),
        "cpu_us_per_input": round(1e6 * cpu_seconds / count, 1),
        "of_each_task": [trend(task) for task in told],
    }


def trend(task: dict[str, list[Sample]]) -> dict[str, object]:
    """What a task held, and took for an input, in the second tenth of its share and in the last one."""
    samples = task["samples"]
    tenth = len(samples) // 10
    begin, early, late, end = samples[0], samples[tenth], samples[-1 - tenth], samples[-1]

    def us(first: Sample, last: Sample) -> float:
        return round(1e6 * (last["cpu_seconds"] - first["cpu_seconds"]) / max(1, last["done"] - first["done"]), 1)

    shown = {
        "first": begin,
        "early": early,
        "end": end,
        "peak_mb": task["peak_mb"],
        "largest_mb": max(sample["mb"] for sample in samples[tenth:]),
        "grown_mb": round(end["mb"] - early["mb"], 1),
        "grown_descriptors": end["descriptors"] - early["descriptors"],
        "us_per_input_early": us(early, samples[2 * tenth]),
        "us_per_input_late": us(late, end),
        "after_last_input": {name: task[name] for name in ("seconds", "cpu_seconds")},
    }
    say(f"  {shown}")
    return shown


def task(names: str, out: str, index: str, num_tasks: str) -> None:
    """One task of the run; its samples go to stdout."""
    from motivnet_cli.config import (
        FaceConfig,
        InputConfig,
        LoaderConfig,
        ModelConfig,
        OutputConfig,
        RunConfig,
        ScaleConfig,
    )
    from motivnet_cli.run import annotate_with
    from motivnet_cli.shards import Shard

    samples: list[Sample] = []
    own = psutil.Process()
    started = time.monotonic()
    shard = Shard(int(index), int(num_tasks)) if int(num_tasks) > 1 else None
    config = RunConfig(
        inputs=InputConfig(files_from=(names,)),
        output=OutputConfig(path=out),
        model=ModelConfig(name="expression-net", device="cpu", batch_size=64, flip=False),
        faces=FaceConfig(mode="whole"),
        loader=LoaderConfig(threads=1),  # more share one interpreter's lock
        scale=ScaleConfig(shard=shard),
    )

    def note(progress: Progress) -> None:
        is_last = progress.inputs_done >= progress.inputs_total
        if samples and not is_last and progress.inputs_done - samples[-1]["done"] < progress.inputs_total // 100:
            return
        with own.oneshot():
            sample = Sample(
                done=progress.inputs_done,
                seconds=round(time.monotonic() - started, 1),
                cpu_seconds=round(time.process_time(), 1),
                mb=round(own.memory_info().rss / 1e6, 1),
                descriptors=own.num_fds(),
                threads=own.num_threads(),
            )
        samples.append(sample)
        say(f"task {index}: {sample}")

    summary = annotate_with(zeros(config), config, progress=note)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
    about = {"seconds": round(time.monotonic() - started, 1), "cpu_seconds": round(time.process_time(), 1)}
    print(json.dumps({"samples": samples, "done": summary.done, "peak_mb": round(peak), **about}))


def zeros(config: RunConfig) -> LoadedModel:
    """The model, with a network that answers zeros, and pictures that need no file."""
    import numpy as np
    import torch

    from motivnet_cli.engine.picture_reader import PictureReader
    from motivnet_cli.engine.work import load_network
    from motivnet_cli.records import BLUR_SIDE, Frame

    model = load_network(config.model)
    num_classes = len(model.classes)

    class Zeros(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros(len(pixels), num_classes), torch.zeros(len(pixels), EMBEDDING_SIZE)

    def made(self: PictureReader, path: str, data: bytes | None = None) -> Frame:
        return Frame(np.full((BLUR_SIDE, BLUR_SIDE, 3), len(path), np.uint8))

    PictureReader.decode = made  # type: ignore[method-assign]
    network: Any = Zeros().eval()
    about = {"embedding_size": EMBEDDING_SIZE, "height": BLUR_SIDE, "width": BLUR_SIDE}
    return dataclasses.replace(model, network=network, recipe=RECIPE, **about)


# ---- what came out ----------------------------------------------------------------------------------------


def files_in(folder: Path) -> dict[str, int]:
    sizes = [entry.stat().st_size for entry in os.scandir(folder)]
    return {"files": len(sizes), "bytes": sum(sizes)}


def measured(step: str, *arguments: str) -> dict[str, float]:
    usage = time_process([sys.executable, "-m", "motivnet_cli", *arguments])
    say(f"{step}: {usage.seconds:.1f} s, {usage.cpu_seconds:.1f} of them on a CPU, peak {usage.peak_mb:.0f} MB")
    about = {"seconds": usage.seconds, "cpu_seconds": usage.cpu_seconds, "peak_mb": usage.peak_mb}
    return {name: round(value, 1) for name, value in about.items()}


def judge(faces: str, inputs: str, count: int, unit: int) -> None:
    """Compare both tables with what was asked for; neither the engine nor its reader has a say.

    Raises:
        SystemExit: They are not what they should be.
    """
    import duckdb

    database = duckdb.connect(config={"memory_limit": "1GB", "threads": 1})
    number = "cast(regexp_extract(input, '([0-9]{8})\\.jpg$', 1) as bigint)"
    for files in (faces, inputs):
        is_inputs = files == inputs
        right = "status = 'ok' and faces = 1 and frames = 1" if is_inputs else "face = 0 and face_source = 'whole'"
        found = database.execute(
            f"""select count(*), count(distinct n), min(n), max(n), bool_and({right}),
                bool_and(input = printf('https://nowhere.invalid/%05d/%08d.jpg', n // {A_FOLDER}, n))
            from (select *, {number} as n from read_parquet('{files}'))"""
        ).fetchone()
        if found != (count, count, 0, count - 1, True, True):
            raise SystemExit(f"{files}: {found}")
        if "*" in files:
            per_unit = database.execute(
                f"""select count(*), min(rows), max(rows), bool_and(first // {unit} = u and last // {unit} = u) from (
                    select cast(regexp_extract(filename, 'part-([0-9]+)-', 1) as bigint) as u, count(*) as rows,
                        min({number}) as first, max({number}) as last
                    from read_parquet('{files}', filename = true) group by u)"""
            ).fetchone()
            sizes = {unit} if count % unit == 0 else {unit, count % unit}
            if per_unit != (-(-count // unit), min(sizes), max(sizes), True):
                raise SystemExit(f"{files}: {per_unit}")
        say(f"{files}: right")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--task"]:
        task(*sys.argv[2:])
    else:
        main()
