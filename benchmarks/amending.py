"""A finished output of ten million inputs, fabricated: what is asked of it again, and what it costs to amend it.

The output has a row for each input and no faces, written by the package's own writer; one input in a thousand failed.
Inputs come from a generator, as a listing would give them (what listing costs, planning.py measures): those of the
output, of which one in a thousand has changed since, and as many new ones between them. Every number is that of a whole
process, imports included: a rerun that finds the output finished and says what is new and changed, with the inputs in
their order and in the reverse order, in which nothing meets in memory; `--retry-failed` and `--extend`, with inputs
that fail at once, up to the output in its place. Against a tenth of the inputs, memory must be the same.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness import parser, report, say, time_process
from many_units import RECORD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.output.sink import Output
    from motivnet_cli.records import Item

TARGETS = {"peak_mb": 500, "growth_mb": 100, "rerun_seconds": 60}
ODD = 1000
"""Each such input failed, each such has changed, and behind each such is a new one."""
STEPS = ("rerun", "reversed", "retry", "extend")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=10_000_000)
    arguments.add_argument("--unit", type=int, default=4000, help="inputs in a part of the output")
    options = arguments.parse_args()
    row = {"unit": options.unit}
    for count in (options.count // 10, options.count):
        with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
            out = Path(scratch) / "out"
            time_process([sys.executable, __file__, "--step", "fabricate", str(out), str(count), str(options.unit)])
            row[str(count)] = {step: measured(step, out, count) for step in STEPS}
    few, many = (row[str(count)] for count in (options.count // 10, options.count))
    row["growth_mb"] = {step: round(many[step]["peak_mb"] - few[step]["peak_mb"]) for step in STEPS}
    report({**row, "targets": TARGETS}, record=options.record)


def measured(step: str, out: Path, count: int) -> dict[str, float]:
    usage = time_process([sys.executable, __file__, "--step", step, str(out), str(count)])
    odd = count // ODD
    expected = {
        "rerun": {"new": odd, "changed": odd},
        "reversed": {"new": odd, "changed": odd},
        "retry": {"done": odd, "inputs": count},
        "extend": {"done": 2 * odd, "inputs": count + odd},
    }
    if (found := json.loads(usage.stdout)) != expected[step]:
        raise SystemExit(f"{step}: {found}, not {expected[step]}")
    say(f"{step} of {count:,}: {usage.seconds:.1f} s, {usage.cpu_seconds:.1f} of them on a CPU, {usage.peak_mb:.0f} MB")
    return {
        "seconds": round(usage.seconds, 1),
        "cpu_seconds": round(usage.cpu_seconds, 1),
        "peak_mb": round(usage.peak_mb),
    }


def name_of(number: int) -> str:
    return f"folder-{number // 1000:05d}/photo-{number:08d}.jpg"


def fabricate(out: Path, count: int, size: int) -> None:
    """A finished output of so many inputs."""
    import dataclasses

    import pyarrow as pa

    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.output.backend import LocalFolder
    from motivnet_cli.output.counts import Counts
    from motivnet_cli.output.ledger import Ledger, write_run
    from motivnet_cli.output.names import RunFiles
    from motivnet_cli.output.tables import RowLayout, TableWriter
    from motivnet_cli.records import EMOTIONS, Item

    files, backend = RunFiles.at(out, is_file=False), LocalFolder()
    ledger = Ledger.freeze(files, backend, Listing([str(out.parent)]), [Item(0, "a", "a", "image")], record=RECORD)
    run = dataclasses.replace(ledger.run, num_items=count, unit_size=size, is_finished=True)
    write_run(files, backend, run)
    schemas = RowLayout(EMOTIONS, 256).schemas(RECORD)
    for table in ("faces", "inputs"):
        files.table(table).mkdir()
    with TableWriter(out / "no_faces", schemas["faces"]):
        pass
    for unit in range(-(-count // size)):
        numbers = range(unit * size, min(count, (unit + 1) * size))
        failed = [number % ODD == 1 for number in numbers]
        columns = {
            "input": pa.array(map(name_of, numbers)),
            "kind": pa.array(["image"] * len(numbers)),
            "status": pa.array(["failed" if each else "no_face" for each in failed]),
            "error": pa.array(["the file is empty" if each else None for each in failed]),
            "error_type": pa.array(["empty" if each else None for each in failed]),
            "frames": pa.array([1] * len(numbers)),
            "faces": pa.array([0] * len(numbers)),
            "size_bytes": pa.array([100_000 + number % 50_000 for number in numbers]),
            "mtime_ns": pa.array([10**18 + number * 10**9 for number in numbers]),
        }
        arrays = [
            columns[field.name].cast(field.type) if field.name in columns else pa.nulls(len(numbers), field.type)
            for field in schemas["inputs"]
        ]
        with TableWriter(files.part("inputs", unit, 0, is_last=True), schemas["inputs"], Counts()) as writer:
            writer.add(pa.table(arrays, schema=schemas["inputs"]))
        os.link(out / "no_faces", files.part("faces", unit, 0))
    (out / "no_faces").unlink()


def items(numbers: Iterable[int]) -> Iterator[Item]:
    from motivnet_cli.records import Item

    index = itertools.count()
    for number in numbers:
        name = name_of(number)
        size_bytes, mtime_ns = 100_000 + number % 50_000 + (number % ODD == 2), 10**18 + number * 10**9
        yield Item(next(index), name, f"/data/{name}", "image", size_bytes=size_bytes, mtime_ns=mtime_ns)
        if number % ODD == 3:
            name = name.replace(".jpg", "-new.jpg")
            yield Item(next(index), name, f"/data/{name}", "image", size_bytes=1, mtime_ns=1)


def listing_of(out: Path, inputs: Iterator[Item]) -> Listing:
    from motivnet_cli.inputs.listing import Listing

    class Made(Listing):
        def found(self) -> Iterator[Item]:
            return inputs

    return Made([str(out.parent)])


def opened(out: Path, **options: bool) -> Output:
    from motivnet_cli.config import OutputConfig
    from motivnet_cli.output.sink import Output
    from motivnet_cli.output.tables import RowLayout
    from motivnet_cli.records import EMOTIONS

    return Output(OutputConfig(path=str(out), **options), record=RECORD, layout=RowLayout(EMOTIONS, 256))


def rerun(out: Path, numbers: Iterable[int]) -> None:
    """Say what is new and changed."""
    with opened(out) as output:
        summary = output.finished_before(listing_of(out, items(numbers)))
    assert summary is not None, "it is finished"
    print(json.dumps({"new": summary.changes.new, "changed": summary.changes.changed}))


def amend(out: Path, numbers: Iterable[int], **option: bool) -> None:
    """Do what failed, or what changed or is new, and put the output in its place."""
    from motivnet_cli.records import Batch, Cursor, InputReport, Position, Problem, never

    problem = Problem("not_found", "not there")
    with opened(out, **option) as output:
        begun = output.begin(listing_of(out, items(numbers)))
        for todos in begun.rounds(never):
            for todo in todos:
                item = todo.item
                version = {"size_bytes": item.size_bytes, "mtime_ns": item.mtime_ns}
                failed = InputReport(Position(item.index), item.input, item.kind, "failed", problem=problem, **version)
                begun.write(Batch((), (failed,), Cursor(Position(item.index + 1))), None)
        if begun.complete() != "finished":
            raise SystemExit("the run did not end")
        summary = begun.summary()
    print(json.dumps({"done": begun.num_items, "inputs": summary.inputs}))


def step(name: str, out: Path, count: int) -> None:
    numbers = range(count)
    if name in ("rerun", "reversed"):
        rerun(out, numbers if name == "rerun" else reversed(numbers))
    else:
        amend(out, numbers, **{"retry_failed" if name == "retry" else name: True})


if __name__ == "__main__":
    if sys.argv[1:3] == ["--step", "fabricate"]:
        fabricate(Path(sys.argv[3]), *map(int, sys.argv[4:]))
    elif sys.argv[1:2] == ["--step"]:
        step(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
