"""A run of a hundred million inputs, fabricated: how long a process takes to start, `status` to answer, a run to end.

The run is begun by the package's own ledger. Its plan has the same 32,768 inputs again and again, and each unit is a
link to the parts of one that was committed as a run would have (a face an input): opening, listing and counting cost
what they would, and making them does not take days. Every number is that of a whole process, imports included: a shard
of a thousand up to its first input, with nine tenths done; `motivnet status` then; and a process that finds all but the
last unit done, does it (its inputs fail), ends the run and sums up.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness import parser, report, say, time_process
from planning import tables_of

if TYPE_CHECKING:
    from motivnet_cli.output.sink import Output
    from motivnet_cli.shards import Shard

TARGETS = {"start_seconds": 5, "status_seconds": 5, "end_seconds": 10}
SHARDS = 1000
PART_INPUTS = 4096
"""As many as are done within --commit-seconds at 140 a second."""
RECORD = {"model": "m", "settings": {"model.name": "m"}}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=100_000_000)
    options = arguments.parse_args()
    row = {"count": options.count}
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        out = Path(scratch) / "out"
        time_process([sys.executable, __file__, "--step", "fabricate", str(out), str(options.count)])
        num_units = -(-options.count // json.loads((out / ".motivnet" / "run.json").read_text())["unit"])
        link_units(out, range(1, num_units * 9 // 10))
        status = [sys.executable, "-m", "motivnet_cli", "status", str(out), "--json"]
        row |= measured("start", [sys.executable, __file__, "--step", "start", str(out)])
        row |= measured("status", status)
        link_units(out, range(num_units * 9 // 10, num_units - 1))
        row |= measured("end", [sys.executable, __file__, "--step", "end", str(out)])
        told = json.loads(time_process(status).stdout)
        if not told["finished"] or told["inputs"] != options.count:
            raise SystemExit(f"not the whole run: {told}")
        row |= {"units": num_units, "parts": sum(1 for _ in (out / "inputs").iterdir())}
    report({**row, "targets": TARGETS}, record=options.record)


def measured(step: str, command: list[str]) -> dict[str, float]:
    usage = time_process(command)
    say(f"{step}: {usage.seconds:.1f} s, {usage.cpu_seconds:.1f} of them on a CPU, peak {usage.peak_mb:.0f} MB")
    about = {"seconds": usage.seconds, "cpu_seconds": usage.cpu_seconds, "peak_mb": usage.peak_mb}
    return {f"{step}_{name}": round(value, 1) for name, value in about.items()}


def fabricate(out: Path, given: str) -> None:
    """Begin a run of so many inputs, and commit its first unit."""
    import pyarrow.parquet as pq

    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.output.backend import LocalFolder
    from motivnet_cli.output.ledger import MANY_UNITS, MAX_UNIT_ITEMS, Ledger, write_run
    from motivnet_cli.output.names import RunFiles
    from motivnet_cli.output.plan import ROW_GROUP
    from motivnet_cli.records import Cursor, Item, Position

    count = int(given)
    files, backend = RunFiles.at(out, is_file=False), LocalFolder()
    names = (f"https://example.org/{number // 1000:05d}/{number:08d}.jpg" for number in range(ROW_GROUP))
    items = (Item(number, name, name, "image", size_bytes=100_000) for number, name in enumerate(names))
    ledger = Ledger.freeze(files, backend, Listing([str(out.parent)]), items, record=RECORD)
    group = pq.read_table(files.plan)
    how = {"compression": "zstd", "write_statistics": False, "store_schema": False, "write_page_checksum": True}
    with pq.ParquetWriter(files.plan, group.schema, **how) as writer:
        for start in range(0, count, ROW_GROUP):
            writer.write_table(group[: count - start])
    unit_size = max(MAX_UNIT_ITEMS, -(-count // MANY_UNITS))
    write_run(files, backend, dataclasses.replace(ledger.run, num_items=count, unit_size=unit_size))
    ledger = Ledger.find(files, backend)
    assert ledger is not None, "it has just been written"
    names = [todo.item.input for todo in ledger.todos(0)]
    for start in range(0, unit_size, PART_INPUTS):
        end = min(start + PART_INPUTS, unit_size)
        tables = tables_of(names[start:end], RECORD)
        ledger.commit(0, tables["faces"], tables["inputs"], reached=Cursor(Position(end)))


def link_units(out: Path, units: range) -> None:
    parts = [path for table in ("faces", "inputs") for path in (out / table).glob("part-000000-*")]
    for unit in units:
        for part in parts:
            os.link(part, part.with_name(part.name.replace("part-000000", f"part-{unit:06d}")))


def opened(out: Path, shard: Shard | None = None) -> Output:
    from motivnet_cli.config import OutputConfig
    from motivnet_cli.output.sink import Output
    from motivnet_cli.output.tables import RowLayout
    from motivnet_cli.records import EMOTIONS

    return Output(OutputConfig(path=str(out)), record=RECORD, layout=RowLayout(EMOTIONS, 256), shard=shard)


def start(out: Path) -> None:
    """Take part in the run as one of many shards, up to the first input."""
    from motivnet_cli.records import never
    from motivnet_cli.shards import Shard

    with opened(out, Shard(SHARDS - 1, SHARDS)) as output:
        next(next(output.begin(None).rounds(never)))


def end(out: Path) -> None:
    """Do what is left, and sum up."""
    from motivnet_cli.records import Batch, Cursor, InputReport, Position, Problem, never

    problem = Problem("not_found", "not there")
    with opened(out) as output:
        begun = output.begin(None)
        for todos in begun.rounds(never):
            for todo in todos:
                index = todo.item.index
                failed = InputReport(Position(index), todo.item.input, todo.item.kind, "failed", problem=problem)
                begun.write(Batch((), (failed,), Cursor(Position(index + 1))), None)
        if begun.complete() != "finished":
            raise SystemExit("the run did not end")
        begun.summary()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        {"fabricate": fabricate, "start": start, "end": end}[sys.argv[2]](Path(sys.argv[3]), *sys.argv[4:])
    else:
        main()
