"""How long `motivnet --help` takes beside Python's own import of typer and rich, in turn, in one run."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from statistics import median

from harness import parser, report, say, time_process


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=15)
    options = arguments.parse_args()
    motivnet = shutil.which("motivnet") or f"{sys.prefix}/bin/motivnet"
    commands = [motivnet, "--help"], [sys.executable, "-c", "import typer, rich"]
    with tempfile.TemporaryDirectory() as compiled:  # as pip does, for both
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = compiled
        for command in commands:
            time_process(command)
        rounds = [[time_process(command).seconds for command in commands] for _ in range(options.rounds)]
    ours, theirs = zip(*rounds, strict=True)
    ratio = median(ours) / median(theirs)
    say(f"motivnet --help {median(ours):.3f} s, the imports {median(theirs):.3f} s: ratio {ratio:.2f} (target 2)")
    measured = {"help_seconds": round(median(ours), 4), "import_seconds": round(median(theirs), 4)}
    report(measured | {"ratio": round(ratio, 3), "target": 2}, record=options.record)


if __name__ == "__main__":
    main()
