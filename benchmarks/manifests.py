"""Manifests of one, ten and, by hand, a hundred million rows: until the plan of a run is frozen.

The rows are URLs, a thousand to a folder; a column of labels is kept in the second measurement, and some rows come
twice (`--repeated`). Each figure is that of a whole process, imports included, that opens the manifest and freezes
the plan by the package's own ledger, as `annotate` does; the network, which `annotate` loads besides, is left out.
`--dry-run` is measured as the command. The plan is then read and held against the rows.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path

from harness import parser, report, say, time_process

WAYS = ("plain", "kept", "dry run")
TARGETS = {"rows_per_second": 100_000, "peak_mb": 500, "growth_mb": 100}
A_FOLDER = 1000
CHECKED = 1_000_000
"""Rows whose values are held against the plan's; how many there are is always."""


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--counts", type=int, nargs="+", default=[1_000_000, 10_000_000])
    arguments.add_argument("--repeated", type=int, default=1000, help="rows at the end that name an earlier one again")
    arguments.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    options = arguments.parse_args()
    planned: dict[str, dict[int, dict[str, float]]] = {way: {} for way in options.ways}
    for count in options.counts:
        with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
            manifest, out = Path(scratch) / "rows.csv", Path(scratch) / "out"
            write_manifest(manifest, count, options.repeated)
            freeze = [sys.executable, __file__, "--freeze", str(manifest)]
            dry_run = [sys.executable, "-m", "motivnet_cli", "annotate", "--manifest", str(manifest), "--dry-run"]
            commands = {
                "plain": [*freeze, str(out / "plain")],
                "kept": [*freeze, str(out / "kept"), "label"],
                "dry run": [*dry_run, "--out", str(out), "--json"],
            }
            for way in options.ways:
                usage = time_process(commands[way])
                row = {"seconds": usage.seconds, "cpu_seconds": usage.cpu_seconds, "peak_mb": usage.peak_mb}
                row = {name: round(value, 1) for name, value in row.items()}
                row["rows_per_second"] = round(count / usage.seconds)
                planned[way][count] = row
                say(f"{way}, {count:,} rows: {row}")
                if way != "dry run":
                    time_process([sys.executable, __file__, "--check", str(out / way), str(count - options.repeated)])
    peaks = [row["peak_mb"] for way in planned.values() for row in way.values()]
    row = {"planned": planned, "peak_mb": max(peaks), "growth_mb": round(max(peaks) - min(peaks)), "targets": TARGETS}
    report({**row, "repeated": options.repeated}, record=options.record)


def name_of(number: int) -> str:
    return f"https://example.org/{number // A_FOLDER:06d}/{number:09d}.jpg"


def write_manifest(path: Path, count: int, repeated: int) -> None:
    with path.open("w") as file:
        file.write("path,label\n")
        for start in range(0, count - repeated, A_FOLDER):
            numbers = range(start, min(start + A_FOLDER, count - repeated))
            file.write("".join([f"{name_of(number)},{number % 7}\n" for number in numbers]))
        file.write("".join([f"{name_of(number)},x\n" for number in range(repeated)]))


def freeze(manifest: str, out: str, *keep: str) -> None:
    from motivnet_cli.config import InputConfig
    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.output.backend import LocalFolder
    from motivnet_cli.output.ledger import Ledger
    from motivnet_cli.output.names import RunFiles

    listing = Listing(InputConfig(manifests=(manifest,), keep=keep))
    Ledger.freeze(
        RunFiles.at(Path(out), is_file=False), LocalFolder(), listing, listing.found(), record={"settings": {}}
    )


def check(out: str, count: str) -> None:
    """Raise if the plan does not hold every row once, in order, with its label."""
    from motivnet_cli.output.backend import LocalFolder
    from motivnet_cli.output.ledger import Ledger
    from motivnet_cli.output.names import RunFiles

    ledger = Ledger.find(RunFiles.at(Path(out), is_file=False), LocalFolder())
    assert ledger is not None, "its plan is there"
    if ledger.num_items != int(count) or ledger.run.keep not in ({}, {"label": "string"}):
        raise SystemExit(f"the plan has {ledger.num_items} inputs, and keeps {ledger.run.keep}")
    for number, item in enumerate(itertools.islice(ledger.items(), CHECKED)):
        if item.input != name_of(number) or item.kept != (str(number % 7),) * len(ledger.run.keep):
            raise SystemExit(f"input {number} of the plan is {item}")


if __name__ == "__main__":
    if sys.argv[1:2] in (["--freeze"], ["--check"]):
        {"--freeze": freeze, "--check": check}[sys.argv[1]](*sys.argv[2:])
    else:
        main()
