"""Runs: in this process, and in processes of their own, to be disturbed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from typer.testing import CliRunner

from motivnet_cli.cli import app

NUM_PHOTOS = 120
LAST_PHOTOS = r"11\d\.jpg$"


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


def motivnet(*arguments, stdin=None, code=0):
    """The command line in this process, for tests in which a process of its own is not the point: libraries are loaded.

    Returns:
        What it wrote, as Typer's runner keeps it.
    """
    run = CliRunner().invoke(app, list(map(str, arguments)), input=stdin, catch_exceptions=False)
    assert run.exit_code == code, run.stderr
    return run


def finish(photos, out, *options, code=0):
    """What `command` writes to stderr in this process."""
    return motivnet(*command(photos, out, *options)[3:], code=code).stderr


class HeldRun(subprocess.Popen):
    """The `annotate` of a command, which cannot end before the test waits for it, however slow the test is.

    Its last pictures are read only from then on, in whatever process of the run. Signals reach it at any time.

    Args:
        held: A pattern for the end of the names of these pictures.
    """

    def __init__(self, arguments, *, held=LAST_PHOTOS, **how):
        self._hold = Path(tempfile.mkdtemp())
        code = (
            "import os, re, sys, time\n"
            "def hold(event, arguments):\n"
            f"    if event == 'open' and re.search({held!r}, str(arguments[0])):\n"
            f"        while os.path.exists({str(self._hold)!r}): time.sleep(0.01)\n"
            "sys.addaudithook(hold)\n"
        )
        environ = {**os.environ, **at_start(self._hold, code)}
        super().__init__(arguments, stderr=subprocess.PIPE, text=True, env=environ, **how)

    def communicate(self, *arguments, **options):
        self.release()
        return super().communicate(*arguments, **options)

    def wait(self, *arguments, **options):
        self.release()
        return super().wait(*arguments, **options)

    def release(self):
        shutil.rmtree(self._hold, ignore_errors=True)

    def __del__(self):
        self.release()
        super().__del__()


def evaluate_and_kill(arguments, out, *, held):
    """Kill an evaluation that has committed some of its predictions and cannot end.

    Args:
        arguments: Of `motivnet`, without --out.
        held: As of `HeldRun`.

    Returns:
        The committed parts, by name.
    """
    code = (
        "import motivnet_cli.config as config\n"
        "config.OutputConfig.__init__.__kwdefaults__['commit_seconds'] = 0.0\n"
        "from motivnet_cli.cli import app\n"
        "app()\n"
    )
    process = HeldRun([sys.executable, "-c", code, *arguments, "--out", str(out)], held=held)
    parts = out / "predictions.parquet.work" / "inputs"
    while process.poll() is None and not any(parts.glob("part-*")):
        time.sleep(0.005)
    committed = {part.name: part.read_bytes() for part in parts.glob("part-*")}
    process.kill()
    process.communicate()
    assert committed, "it ended by itself"
    return committed


def start_until_work_is_committed(photos, out, *options, env=None, **how):
    """A running `annotate` that has committed at least one part more, and cannot end yet.

    Args:
        env: The variables of a process that is slow enough by itself, in place of one that is held.
    """
    if env is None:
        process = HeldRun(command(photos, out, *options), **how)
    else:
        process = subprocess.Popen(command(photos, out, *options), stderr=subprocess.PIPE, text=True, env=env, **how)
    parts = out.with_name(out.name + ".work") / "inputs" if out.suffix else out / "inputs"
    before = len(list(parts.glob("part-*"))) if parts.exists() else 0
    while process.poll() is None and (not parts.exists() or len(list(parts.glob("part-*"))) <= before):
        time.sleep(0.005)
    return process
