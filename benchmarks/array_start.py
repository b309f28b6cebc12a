"""Tasks of an array that start within the same moment on one output: 10 and 200 processes, without network or pictures.

Each process is forked with everything imported, waits for the others, and goes the way of a task through the package's
own code: it opens the output, lists the inputs or waits for the one that does, and takes its first unit; when all have
one, all commit it and end at once. Rows say that the input could not be read. Times are those of a machine with fewer
cores than tasks; CPU time is of the median task. Counted is how often each opens a file of the output, by name
(`tests/test_file_calls.py` counts all calls of a single task).
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import IO, TypedDict

from harness import parser, report, say

from motivnet_cli.config import InputConfig
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.records import never
from motivnet_cli.shards import Shard
from tests.file_calls import A_UNIT, fail, output_at

SIZES = (10, 200)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--inputs", type=int, default=200_000)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        names = Path(scratch) / "names.txt"
        names.write_text("".join(f"https://nowhere.invalid/{number}.jpg\n" for number in range(options.inputs)))
        starts = {}
        for size in SIZES:
            starts[str(size)] = started(Path(scratch) / f"{size}", names, size)
            say(f"{size} tasks: {starts[str(size)]}")
    report({"inputs": options.inputs, "starts": starts}, record=options.record)


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


if __name__ == "__main__":
    main()
