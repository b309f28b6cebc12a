"""What every benchmark shares: timing a real process, and writing its row down.

A row says what ran, where, with which versions, and what came out; the last line on stdout is that row as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.jsonl"
THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


class Usage(NamedTuple):
    """What one process cost."""

    seconds: float
    """From its start to its end."""
    cpu_seconds: float
    peak_mb: float
    """Largest resident memory, mapped files included, in units of 1e6 bytes."""
    stdout: str


def time_process(command: Sequence[str], *, threads: int | None = None, allowed: tuple[int, ...] = (0,)) -> Usage:
    """Run a command from the root of the repository and measure it.

    Args:
        threads: For OpenMP; None leaves the process its own choice.
        allowed: Exit codes that are not an error.
    """
    environment = {name: value for name, value in os.environ.items() if name not in THREAD_SETTINGS}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stdout, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        stdout.seek(0)
        stderr.seek(0)
        if process.returncode not in allowed:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{stderr.read()[-4000:]}")
        peak_mb = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
        return Usage(seconds, usage.ru_utime + usage.ru_stime, peak_mb, stdout.read())


def annotate_command(*arguments: str) -> list[str]:
    """`motivnet annotate` of this checkout, with its JSON summary on stdout."""
    return [sys.executable, "-m", "motivnet_cli", "annotate", *arguments, "--json", "--quiet"]


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A command line with the option that every benchmark has."""
    made = argparse.ArgumentParser(description=doc)
    made.add_argument("--record", action="store_true", help="append the row to benchmarks/results.jsonl")
    return made


def report(measured: Mapping[str, Any], *, record: bool) -> None:
    """Print the row as JSON, the last line on stdout, and append it to the results if asked."""
    script = Path(sys.argv[0]).stem
    command = " ".join(["python", f"benchmarks/{script}.py", *sys.argv[1:]]).replace(f"{ROOT}/", "")
    command = re.sub(r"(--scratch|--samples|--people) \S+", r"\1 PATH", command)  # where it was is of no use to others
    row = {
        "script": script,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": _machine(),
        "instructions": _instructions(),
        "load_average": round(os.getloadavg()[0], 2),
        "command": command,
        "versions": _versions(),
        **measured,
    }
    if record:
        with RESULTS.open("a", encoding="utf-8") as results:
            results.write(json.dumps(row) + "\n")
    print(json.dumps(row))


def say(line: str = "", *, end: str = "\n") -> None:
    """Print for people, to stderr."""
    print(line, file=sys.stderr, flush=True, end=end)


def _machine() -> str:
    names = [platform.processor() or platform.machine()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")] or names
    return f"{names[0]}, {os.cpu_count()} cores, {platform.system()}"


def _instructions() -> list[str]:
    """Those of matrix products that this processor has; none where the system does not list them."""
    cpuinfo = Path("/proc/cpuinfo")
    known = cpuinfo.read_text(encoding="utf-8").split() if cpuinfo.exists() else []
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    return [name for name in wanted if name in known]


def _versions() -> dict[str, str]:
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    libraries = {name: version(name) for name in ("torch", "onnxruntime", "pillow", "pyarrow")}
    return {"python": platform.python_version(), "commit": commit, **libraries}
