"""Runs the campaign: `python -m tests.torture --help`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tests.torture.cases import KINDS, Kind, fault_sites
from tests.torture.faults import build, why_not
from tests.torture.scenarios import Disturbed, Laboratory
from tests.torture.starts import Starter

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).with_name("results.json")
_MAX_PRINTED = 4
"""Findings of one case that are printed; all are counted."""
_FINDINGS = ("lost", "doubled", "wrong", "unreadable", "litter", "hang", "unexplained")


def main() -> int:
    """Run what is asked for; the exit code is 1 if anything was found."""
    options = _options()
    if reason := why_not():
        print(f"not run: {reason}")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="torture-")) if options.folder is None else options.folder
    with laboratory(folder, with_bucket=not options.no_bucket) as lab:
        num_found = _run(lab, options)
    if not num_found and options.folder is None:
        shutil.rmtree(folder)
    return int(num_found > 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument(
        "--kinds", help="only these, in this order, separated by commas: " + ", ".join(kind.name for kind in KINDS)
    )
    parser.add_argument("--case", help="one case, such as kill-call/17; its folder is kept")
    parser.add_argument("--minutes", type=float, default=120, help="no case is begun later")
    parser.add_argument("--share", type=float, default=1.0, help="of the cases of each kind, from 0 to 1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", action="store_true", help="write the counts to results.json, kind by kind")
    parser.add_argument("--journal", type=Path, help="a file of cases: those in it without findings are not done again")
    parser.add_argument("--no-bucket", action="store_true", help="leave out what needs moto's server")
    parser.add_argument("--folder", type=Path, help="where to work; kept")
    return parser.parse_args()


@contextlib.contextmanager
def laboratory(folder: Path, *, with_bucket: bool) -> Iterator[Laboratory]:
    """What runs cases in a folder, with a bucket if it is to be had here."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        server = None
        if with_bucket:
            with contextlib.suppress(ImportError):
                import moto  # noqa: F401
                import s3fs  # noqa: F401

                from tests.s3_server import S3Server

                server = stack.enter_context(S3Server())
        starter = stack.enter_context(Starter(build(folder)))
        yield Laboratory(folder.resolve(), starter, server)


def _run(lab: Laboratory, options: argparse.Namespace) -> int:
    deadline = time.monotonic() + 60 * options.minutes
    by_name = {kind.name: kind for kind in KINDS}
    names = options.kinds.split(",") if options.kinds else list(by_name)
    if options.case:
        names = [options.case.partition("/")[0]]
    num_found = 0
    for kind in map(by_name.__getitem__, names):
        if (kind.needs_bucket and not lab.server) or (kind.needs_root and os.geteuid()):
            continue
        numbers = cases_of(lab, kind, options.seed)
        chosen = numbers[: max(1, round(len(numbers) * options.share))]
        if options.case:
            chosen = [int(options.case.partition("/")[2])]
        done = _known(options, kind)
        for number in (each for each in chosen if each not in done):
            if time.monotonic() > deadline:
                break
            done[number] = _entry(lab, kind, number, options)
            if options.record:
                record(_row(kind, list(done.values()), planned=len(numbers)), options.seed)
        if done:
            row = _row(kind, list(done.values()), planned=len(numbers))
            num_found += sum(row[name] for name in _FINDINGS)
            print(json.dumps(row), flush=True)
            if options.record:
                record(row, options.seed)
    return num_found


def _known(options: argparse.Namespace, kind: Kind) -> dict[int, dict]:
    """Cases of a kind that the journal holds, and in which nothing was found."""
    if options.journal is None or not options.journal.exists():
        return {}
    entries = map(json.loads, options.journal.read_text().splitlines())
    return {
        entry["number"]: entry
        for entry in entries
        if (entry["kind"], entry["seed"]) == (kind.name, options.seed) and not entry["findings"]
    }


def _entry(lab: Laboratory, kind: Kind, number: int, options: argparse.Namespace) -> dict:
    """Do a case; what the journal says of it."""
    starts = lab.starter.num_starts
    what, result = run_case(lab, kind, number, options.seed)
    for finding in result.findings[:_MAX_PRINTED]:
        print(f"  {kind.name}/{number}: {finding.kind}: {what}: {finding.text}", flush=True)
    entry = {
        "kind": kind.name,
        "number": number,
        "seed": options.seed,
        "what": what,
        "code": result.codes[0],
        "ended": sum(code != 0 for code in result.codes),
        "reached": result.hits > 0 or result.codes[0] != 0,
        "starts": lab.starter.num_starts - starts,
        "findings": [finding.kind for finding in result.findings],
    }
    if options.journal is not None:
        with options.journal.open("a") as journal:
            journal.write(json.dumps(entry) + "\n")
    return entry


def cases_of(lab: Laboratory, kind: Kind, seed: int) -> list[int]:
    """The numbers of all cases of a kind, in an order in which every beginning is a fair sample."""
    rng = random.Random(f"{seed}/{kind.name}")
    if kind.count:
        return rng.sample(range(kind.count), kind.count)
    sites, num_first = fault_sites(lab)
    return [
        *rng.sample(range(num_first), num_first),
        *rng.sample(range(num_first, len(sites)), len(sites) - num_first),
    ]


def run_case(lab: Laboratory, kind: Kind, number: int, seed: int) -> tuple[str, Disturbed]:
    """One case: what it was, and what came of it."""
    return kind.run(lab, number, random.Random(f"{seed}/{kind.name}/{number}"))


def _row(kind: Kind, entries: list[dict], *, planned: int) -> dict:
    codes = Counter(entry["code"] for entry in entries)
    found = Counter(finding for entry in entries for finding in entry["findings"])
    return {
        "kind": kind.name,
        "title": kind.title,
        "cases": len(entries),
        "planned": planned,
        "reached": sum(entry["reached"] for entry in entries),
        "ended": sum(entry["ended"] for entry in entries),
        "starts": sum(entry["starts"] for entry in entries),
        "codes": {str(code): count for code, count in sorted(codes.items())},
        **{name: found[name] for name in _FINDINGS},
    }


def record(row: dict, seed: int) -> None:
    """Put the row in the place of the last one of its kind."""
    rows = {each["kind"]: each for each in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    about = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": seed,
        "machine": f"{os.cpu_count()} cores, {platform.system()}",
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("motivnet-cli", "pyarrow", "torch", "filelock")},
    }
    rows[row["kind"]] = row | about
    order = [kind.name for kind in KINDS]
    kept = sorted(rows.values(), key=lambda each: order.index(each["kind"]))
    RESULTS.write_text("[\n" + ",\n".join(json.dumps(each) for each in kept) + "\n]\n")


if __name__ == "__main__":
    sys.exit(main())
