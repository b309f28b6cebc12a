"""How often a task of a run calls the system for files of its output, by what it does; counted by `strace`.

The task is one of two that share a run of URLs, of which it writes that they could not be read: no network, no picture.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from motivnet_cli.config import InputConfig, OutputConfig
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output.share import begun_run
from motivnet_cli.output.sink import Output
from motivnet_cli.output.tables import RowLayout
from motivnet_cli.records import EMOTIONS, Batch, Cursor, InputReport, Position, Problem, never
from motivnet_cli.shards import Shard

UNITS = 16
"""Of both tasks together."""
A_UNIT = 16
RECORD = {"model": "m", "settings": {"model.name": "m"}}
STEPS = ("start", "first", "unit", "taken", "end", "restart", "complete")
"""A task opens an output that is begun, up to its first unit; commits that and takes the next; does the same again;
another asks for that unit in vain; the task closes its share, which others have not finished. Another opens the output
when all but one unit are done, up to that; and commits it, puts the output in its place, and sums up."""
KINDS = {
    "opened": ("open", "openat", "creat"),
    "locked": ("flock",),
    "renamed": ("rename", "renameat", "renameat2"),
    "synced": ("fsync", "fdatasync"),
    "looked at": ("stat", "lstat", "newfstatat", "statx", "access", "faccessat", "readlink", "readlinkat"),
    "made or removed": ("mkdir", "mkdirat", "unlink", "unlinkat", "rmdir"),
}
"""Calls that ask a file server, whatever it keeps in memory; reading, writing and closing an open file are not."""


def why_not() -> str:
    """Why nothing can be counted here; empty if it can."""
    if not shutil.which("strace"):
        return "there is no strace"
    tried = subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return f"strace does not work here: {tried.stderr.strip()}" if tried.returncode else ""


def counted(folder: Path) -> dict[str, dict[str, int]]:
    """The calls of each of STEPS, by KINDS; `created` and `listed` are those of `opened` that make a file, or list."""
    folder.mkdir(exist_ok=True)
    log = folder / "calls"
    watched = ["strace", "-f", "-y", "-qq", "-e", "trace=%file,%desc", "-o", str(log)]
    task = [sys.executable, "-m", "tests.file_calls", str(folder)]
    subprocess.run([*watched, *task], check=True, stdout=sys.stderr, cwd=Path(__file__).parents[1])
    kinds = {call: kind for kind, calls in KINDS.items() for call in calls}
    calls: dict[str, Counter[str]] = {step: Counter(dict.fromkeys((*KINDS, "created", "listed"), 0)) for step in STEPS}
    step = ""
    for line in log.read_text(errors="replace").splitlines():
        if mark := re.search(r"/mark-(\w*)", line):
            step = mark[1]
        called = re.match(r"\d+ +(\w+)\((.*)", line)
        if step and called and str(folder / "out") in line:
            name, about = called.groups()
            is_of_descriptor = kinds.get(name) == "looked at" and "AT_EMPTY_PATH" in about
            if name in kinds and not is_of_descriptor:
                calls[step][kinds[name]] += 1
                calls[step]["created"] += "O_CREAT" in about and " = -1 " not in about
                calls[step]["listed"] += "O_DIRECTORY" in about
    return {step: dict(counter) for step, counter in calls.items()}


def output_at(out: Path, shard: Shard) -> Output:
    config = OutputConfig(path=str(out), commit_seconds=3600)
    return Output(config, record=RECORD, layout=RowLayout(EMOTIONS, 4, config.embeddings), shard=shard)


def fail(run, todos) -> None:
    """Write that these could not be read."""
    problem = Problem("unreachable", "nobody tried")
    reports = [
        InputReport(Position(todo.item.index), todo.item.input, todo.item.kind, "failed", problem=problem)
        for todo in todos
    ]
    run.write(Batch((), tuple(reports), Cursor(Position(todos[-1].item.index + 1))), None)


def main(folder: Path) -> None:
    """What is counted; names that are not there mark in the log where it stands."""
    names, out = folder / "names.txt", folder / "out"
    names.write_text("".join(f"https://nowhere.invalid/{number}.jpg\n" for number in range(UNITS * A_UNIT)))

    def begun(shard: Shard, output: Output):
        run = output.begin(Listing(InputConfig(files_from=(str(names),))))
        assert run.num_items == UNITS * A_UNIT // 2, shard
        return run

    def mark(step: str) -> None:
        (folder / f"mark-{step}").exists()

    with output_at(out, Shard(1, 2)) as output:
        begun(Shard(1, 2), output).close()
    mark("start")
    with output_at(out, Shard(0, 2)) as output:
        run = begun(Shard(0, 2), output)
        todos = next(run.rounds(never))
        for step in ("first", "unit", ""):
            unit = list(itertools.islice(todos, A_UNIT))
            mark(step)
            fail(run, unit)
            first = next(todos)
            mark("")
            todos = itertools.chain([first], todos)
        other = begun_run(OutputConfig(path=str(out)))
        mark("taken")
        assert not other.claim(first.item.index // A_UNIT)
        mark("")
        while unit := list(itertools.islice(todos, A_UNIT)):
            fail(run, unit)
        mark("end")
        run.close()
        assert run.complete() == "share_done"
    mark("")
    with output_at(out, Shard(1, 2)) as output:
        run = begun(Shard(1, 2), output)
        todos = next(run.rounds(never))
        for _ in range(UNITS // 2 - 1):
            fail(run, list(itertools.islice(todos, A_UNIT)))
        run.close()
    mark("restart")
    with output_at(out, Shard(1, 2)) as output:
        run = begun(Shard(1, 2), output)
        todos = next(run.rounds(never))
        unit = list(itertools.islice(todos, A_UNIT))
        mark("complete")
        fail(run, unit)
        assert run.complete() == "finished"
        run.summary()
    mark("")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)
