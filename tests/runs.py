"""Runs in processes of their own, to be disturbed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor


def command(photos, out, *options):
    return [
        sys.executable, "-m", "motivnet_cli", "annotate", str(photos),
        "--model", "expression-net", "--out", str(out), "--max-failures", "100%", "--commit-seconds", "0", *options,
    ]  # fmt: skip


def at_start(folder, code):
    """The variables of a process in which Python runs `code` before all else."""
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


def slow_disk(folder):
    """The variables of a process that opens a picture in 0.2 s, and so is killed before it is done."""
    return at_start(
        folder,
        "import sys, time\n"
        "sys.addaudithook(lambda event, on: event == 'open' and str(on[0]).endswith('.jpg') and time.sleep(0.2))\n",
    )


def talk_of(processes, *, awaited, heard):
    """What each process writes to stderr until it ends; the event `heard` is set once one of them says `awaited`."""

    def listen(process):
        lines = []
        with process:  # closes the pipe, and waits
            for line in process.stderr:
                lines.append(line)
                if awaited in line:
                    heard.set()
        return "".join(lines)

    with ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(listen, processes))


def start_until_work_is_committed(photos, out, *options, **how):
    """A running `annotate` that has committed at least one part."""
    process = subprocess.Popen(command(photos, out, *options), stderr=subprocess.PIPE, text=True, **how)
    parts = out.with_name(out.name + ".work") / "inputs" if out.suffix else out / "inputs"
    before = len(list(parts.glob("part-*"))) if parts.exists() else 0
    while process.poll() is None and (not parts.exists() or len(list(parts.glob("part-*"))) <= before):
        time.sleep(0.005)
    return process
