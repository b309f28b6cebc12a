"""A million inputs: how long a run takes until its plan is frozen, and how long a resumed run takes to end.

Files are empty, and lie a thousand to a folder: planning looks at names, sizes and times alone. The time until the
plan is there is that of the whole process, imports included. For the second figure all but the last thousand inputs
are committed (with a face each, as a run would have written them) by the package's own ledger; then the same command
is started again and runs to its end: it reads what is done, takes up the last thousand (which fail, being empty), and
sums up.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness import ROOT, annotate_command, parser, report, say, time_process

if TYPE_CHECKING:
    import pyarrow as pa

    from motivnet_cli.records import RunRecord

TARGETS = {"plan_seconds": 60, "peak_mb": 1000, "resume_seconds": 30, "growth": 12}
A_FOLDER = 1000


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=1_000_000)
    options = arguments.parse_args()
    measured = {}
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        for count in (options.count // 10, options.count):
            folder, out = Path(scratch) / f"in{count}", Path(scratch) / f"out{count}"
            make_files(folder, count)
            seconds, peak_mb = plan(folder, out)
            say(f"{count:,} inputs: planned in {seconds:.1f} s, peak {peak_mb:.0f} MB")
            measured[count] = {"plan_seconds": round(seconds, 1), "peak_mb": round(peak_mb)}
        time_process([sys.executable, __file__, "--fill", str(out)])
        usage = time_process(command(folder, out), allowed=(3,))
        summary = json.loads(usage.stdout)
        if summary["inputs"] != options.count or summary["faces"] != options.count - A_FOLDER:
            raise SystemExit(f"not the whole run: {summary}")
        resumed = {"seconds": round(usage.seconds, 1), "peak_mb": round(usage.peak_mb)}
        say(f"resumed with all but {A_FOLDER:,} done: {resumed}")
    growth = measured[options.count]["plan_seconds"] / measured[options.count // 10]["plan_seconds"]
    say(f"ten times the inputs take {growth:.1f} times as long")
    row = {"planned": measured, "resumed": resumed, "growth": round(growth, 1), "targets": TARGETS}
    report(row, record=options.record)


def make_files(folder: Path, count: int) -> None:
    for number in range(count):
        if number % A_FOLDER == 0:
            below = folder / f"{number // A_FOLDER:05d}"
            below.mkdir(parents=True)
        os.close(os.open(below / f"{number:08d}.jpg", os.O_CREAT | os.O_WRONLY))


def command(folder: Path, out: Path) -> list[str]:
    return annotate_command(str(folder), *("--model", "expression-net"), *("--out", str(out)))


def plan(folder: Path, out: Path) -> tuple[float, float]:
    """Seconds until the plan is frozen, and the peak memory by then in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(command(folder, out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (out / ".motivnet" / "run.json").exists():
        if process.poll() is not None:
            raise SystemExit("the run ended before its plan was there")
        time.sleep(0.01)
    seconds = time.perf_counter() - started
    process.send_signal(signal.SIGKILL)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = -signal.SIGKILL
    return seconds, usage.ru_maxrss / (1e6 / 1024)


def fill(out: Path) -> None:
    """Commit all units but the last."""
    from motivnet_cli.output.backend import LocalFolder
    from motivnet_cli.output.ledger import Ledger
    from motivnet_cli.output.names import RunFiles
    from motivnet_cli.records import Cursor, Position

    ledger = Ledger.find(RunFiles(out / ".motivnet", out), LocalFolder())
    assert ledger is not None, "the run's plan is there"
    for unit in ledger.units[:-1]:
        tables = tables_of([todo.item.input for todo in ledger.todos(unit)], ledger.run.record)
        ledger.commit(unit, tables["faces"], tables["inputs"], reached=Cursor(Position(ledger.end_of(unit))))


def tables_of(names: list[str], record: RunRecord) -> dict[str, pa.Table]:
    """Rows of both tables, as a run would have written them, for inputs with a face each."""
    import numpy as np
    import pyarrow as pa

    from motivnet_cli.output.tables import RowLayout
    from motivnet_cli.records import EMOTIONS

    n = len(names)
    schemas = RowLayout(EMOTIONS, 256).schemas(record)
    embeddings = np.random.default_rng(0).normal(size=(n, 256)).astype(np.float16)
    known = {
        "input": pa.array(names),
        "face": pa.array([0] * n, schemas["faces"].field("face").type),
        "face_source": pa.array(["whole"] * n),
        "emotion": pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array(EMOTIONS)),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(embeddings.reshape(-1)), 256),
        "kind": pa.array(["image"] * n),
        "status": pa.array(["ok"] * n),
        "frames": pa.array([1] * n),
        "faces": pa.array([1] * n),
    }
    return {
        name: pa.table(
            [known[field.name].cast(field.type) if field.name in known else _filler(field, n) for field in schema],
            schema=schema,
        )
        for name, schema in schemas.items()
    }


def _filler(field: pa.Field, n: int) -> pa.Array:
    import pyarrow as pa

    is_number = pa.types.is_floating(field.type)
    return pa.array([0.5] * n, field.type) if is_number else pa.nulls(n, field.type)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fill"]:
        fill(Path(sys.argv[2]))
    else:
        main()
