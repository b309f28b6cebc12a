"""python -m tests.fuzz [--cases N] [--seed S] [--only KIND ...] [--case NUMBER] [--record]: the campaign.

Mutants of what is found are saved in `.fuzz/`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

from tests.fuzz.campaign import Result, mutant, run, seeds_of
from tests.fuzz.kinds import KINDS

FOUND = Path(".fuzz")
MAX_TOLD = 2
"""Findings that end alike."""
RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Damages files and answers, and judges.")
    parser.add_argument("--cases", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each kind")
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="KIND")
    parser.add_argument("--case", type=int, help="judge one case in this process")
    parser.add_argument("--record", action="store_true", help="write tests/fuzz/results.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name).resolve()
        if options.case is not None:
            return _one(options.only[0], options.seed, options.case, folder)
        started = time.monotonic()
        found: dict[str, Result] = {}
        for kind, result in run(
            options.only, cases=options.cases, seed=options.seed, folder=folder, first=options.first
        ):
            found[kind] = result
            _tell(kind, result, seeds_of(KINDS[kind], folder))
            if options.record:
                _record(kind, result, options.seed, time.monotonic() - started)
            started = time.monotonic()
    return 1 if any(result.findings for result in found.values()) else 0


def _one(kind: str, seed: int, number: int, folder: Path) -> int:
    data = mutant(KINDS[kind], seeds_of(KINDS[kind], folder), seed, number)
    case = folder / "case"
    case.mkdir()
    os.chdir(folder)
    print(len(data), "bytes,", data[:64])
    print(KINDS[kind].judge(data, case))
    return 0


def _tell(kind: str, result: Result, seeds: list[bytes]) -> None:
    labels = {label: count for (_, label), count in result.outcomes.most_common()}
    print(f"{kind}: {result.cases[kind]} cases, {len(result.findings)} findings; {labels}", flush=True)
    told: Counter[str] = Counter()
    for finding in result.findings:
        FOUND.mkdir(exist_ok=True)
        path = FOUND / f"{kind.replace(' ', '-')}-{finding.seed}-{finding.number}"
        path.write_bytes(mutant(KINDS[kind], seeds, finding.seed, finding.number))
        last_line = finding.what.strip().rpartition("\n")[2]
        told[last_line[:40]] += 1
        if told[last_line[:40]] <= MAX_TOLD:
            print(f"  {path}: {finding.what.strip()[-700:]}", flush=True)


def _record(kind: str, result: Result, seed: int, seconds: float) -> None:
    """Put what a kind came to into the file, beside what others came to."""
    values = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    values[kind] = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "seed": seed,
        "seconds": round(seconds),
        "cases": result.cases[kind],
        "findings": len(result.findings),
        "outcomes": {label: count for (_, label), count in sorted(result.outcomes.items())},
    }
    ordered = {name: values[name] for name in KINDS if name in values}
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
