"""Tasks of an array that start within the same moment on one output: 10 and 200 processes, without network or pictures.

Each process is forked with everything imported, waits for the others, and goes the way of a task through the package's
own code: it opens the output, lists the inputs or waits for the one that does, and takes its first unit; when all have
one, all commit it and end at once. Rows say that the input could not be read. Times are those of a machine with fewer
cores than tasks; CPU time is of the median task. Counted are how often each opens a file of the output, by name, and
how often a single task calls the system for one (`strace`), apart from the others:

- *start*: a task opens an output that is begun, up to its first unit;
- *unit*: it commits a unit, as one part a table, and takes the next;
- *end*: it closes its share, which others have not finished.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypedDict

from harness import parser, report, say

from motivnet_cli.config import InputConfig, OutputConfig
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output.sink import Output
from motivnet_cli.output.tables import RowLayout
from motivnet_cli.records import EMOTIONS, Batch, Cursor, InputReport, Position, Problem, never
from motivnet_cli.shards import Shard

if TYPE_CHECKING:
    from motivnet_cli.output.sink import OpenOutput
    from motivnet_cli.records import Todo

SIZES = (10, 200)
UNITS = 8
"""Of each task."""
A_UNIT = 16
RECORD = {"model": "m", "settings": {"model.name": "m"}}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--inputs", type=int, default=200_000)
    arguments.add_argument("--traced", metavar="FOLDER", help="one task, which `strace` watches")
    options = arguments.parse_args()
    if options.traced:
        traced(Path(options.traced))
        return
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        names = Path(scratch) / "names.txt"
        names.write_text("".join(f"https://nowhere.invalid/{number}.jpg\n" for number in range(options.inputs)))
        starts = {}
        for size in SIZES:
            starts[str(size)] = started(Path(scratch) / f"{size}", names, size)
            say(f"{size} tasks: {starts[str(size)]}")
        calls = counted(Path(scratch) / "traced")
    for mark, numbers in calls.items():
        say(f"{mark}: {sum(numbers.values())} calls: {numbers}")
    report({"inputs": options.inputs, "starts": starts, "calls": calls}, record=options.record)


# ---- many at once -----------------------------------------------------------------------------------------


def started(out: Path, names: Path, num_tasks: int) -> dict[str, float]:
    """Start so many tasks at once; when each has its first unit, let all commit it and end at once."""
    tasks = [Task(out, names, Shard(index, num_tasks)) for index in range(num_tasks)]
    began = time.monotonic()
    for task in tasks:
        task.go_on()
    firsts = [task.answer() for task in tasks]
    at = sorted(each["at"] - began for each in firsts)
    released = time.monotonic()
    for task in tasks:
        task.go_on()
    ends = [task.answer() for task in tasks]
    return {
        "planned_s": round(at[0], 2),
        "median_s": round(statistics.median(at) - at[0], 2),
        "last_s": round(at[-1] - at[0], 2),
        "start_cpu_ms": round(1000 * statistics.median(each["cpu"] for each in firsts)),
        "end_last_s": round(max(each["at"] for each in ends) - released, 2),
        "end_cpu_ms": round(1000 * statistics.median(each["cpu"] for each in ends)),
        **{f"{name}_opened_by_{when}": opened(name, answers) for name in ("lock", "run.json", ".run.json.tmp", "plan")
           for when, answers in (("start", firsts), ("end", ends))},
    }  # fmt: skip


def opened(name: str, answers: list[Answer]) -> dict[str, int]:
    """How often all tasks opened a file, and the one that did so most."""
    each = [sum(n for file, n in answer["opened"].items() if file.startswith(name)) for answer in answers]
    return {"all": sum(each), "most": max(each)}


class Answer(TypedDict):
    """What a task says of its start, or of its end."""

    at: float
    cpu: float
    opened: dict[str, int]


class Task:
    """A process that waits for `go_on` before its start, and before its end."""

    def __init__(self, out: Path, names: Path, shard: Shard) -> None:
        orders, answers = os.pipe(), os.pipe()
        if os.fork() == 0:
            code = 1
            try:
                os.close(orders[1])
                one_task(out, names, shard, os.fdopen(orders[0]), answers[1])
                code = 0
            except Exception:  # noqa: BLE001 - whatever it is, the child ends here
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(orders[0])
        os.close(answers[1])
        self._orders, self._answers = orders[1], os.fdopen(answers[0])

    def go_on(self) -> None:
        os.write(self._orders, b"\n")

    def answer(self) -> Answer:
        line = self._answers.readline()
        if not line:
            raise SystemExit("a task failed")
        answer: Answer = json.loads(line)
        return answer


def one_task(out: Path, names: Path, shard: Shard, orders: IO[str], answers: int) -> None:
    """Go the way of a task, and say what it opened."""
    opened: Counter[str] = Counter()

    def count(event: str, about: tuple[object, ...]) -> None:
        if event == "open" and isinstance(about[0], str) and about[0].startswith(str(out)):
            opened[Path(about[0]).name] += 1

    def tell(cpu_began: float) -> None:
        answer = Answer(at=time.monotonic(), cpu=time.process_time() - cpu_began, opened=dict(opened))
        os.write(answers, json.dumps(answer).encode() + b"\n")
        opened.clear()

    sys.addaudithook(count)
    orders.readline()
    cpu = time.process_time()
    with output_at(out, shard) as output:
        run = output.begin(Listing(InputConfig(files_from=(str(names),))))
        unit = list(itertools.islice(next(run.rounds(never)), A_UNIT))
        tell(cpu)
        orders.readline()
        cpu = time.process_time()
        fail(run, unit)
        run.close()
        run.complete()
    tell(cpu)


def output_at(out: Path, shard: Shard) -> Output:
    config = OutputConfig(path=str(out), commit_seconds=3600)
    return Output(config, record=RECORD, layout=RowLayout(EMOTIONS, 4, config.embeddings), shard=shard)


def fail(run: OpenOutput, todos: list[Todo]) -> None:
    """Write that these could not be read."""
    problem = Problem("unreachable", "nobody tried")
    reports = [
        InputReport(Position(todo.item.index), todo.item.input, todo.item.kind, "failed", problem=problem)
        for todo in todos
    ]
    run.write(Batch((), tuple(reports), Cursor(Position(todos[-1].item.index + 1))), None)


# ---- one by itself ----------------------------------------------------------------------------------------


def counted(folder: Path) -> dict[str, dict[str, int]]:
    """The calls of one task for files of its output, by what it does and by name."""
    strace = shutil.which("strace")
    if strace is None:
        raise SystemExit("counting calls takes strace")
    folder.mkdir()
    log = folder / "calls"
    watched = [strace, "-f", "-y", "-qq", "-e", "trace=%file,%desc", "-o", str(log)]
    subprocess.run([*watched, sys.executable, __file__, "--traced", str(folder)], check=True, stdout=sys.stderr)
    calls: dict[str, Counter[str]] = {mark: Counter() for mark in ("start", "unit", "end")}
    current = None
    for line in log.read_text(errors="replace").splitlines():
        mark = re.search(r"/mark-(\w+)", line)
        if mark:
            current = mark[1] if mark[1] in calls else None
        elif current and str(folder / "out") in line and (call := re.match(r"\d+ +(\w+)\(", line)):
            calls[current][call[1]] += 1
    return {mark: dict(counter.most_common()) for mark, counter in calls.items()}


def traced(folder: Path) -> None:
    """A task of two, after the other has begun the run; names that are not there mark in the log where it stands."""
    names, out = folder / "names.txt", folder / "out"
    names.write_text("".join(f"https://nowhere.invalid/{number}.jpg\n" for number in range(2 * UNITS * A_UNIT)))
    listing = InputConfig(files_from=(str(names),))
    with output_at(out, Shard(1, 2)) as output:
        output.begin(Listing(listing)).close()
    tell(folder, "start")
    with output_at(out, Shard(0, 2)) as output:
        run = output.begin(Listing(listing))
        todos = next(run.rounds(never))
        unit = list(itertools.islice(todos, A_UNIT))
        tell(folder, "unit")
        fail(run, unit)
        next(todos)
        tell(folder, "end")
        run.close()
        run.complete()
    tell(folder, "over")


def tell(folder: Path, mark: str) -> None:
    (folder / f"mark-{mark}").exists()


if __name__ == "__main__":
    main()
