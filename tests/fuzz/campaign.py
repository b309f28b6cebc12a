"""The campaign: cases are judged in forked processes, so that a crash or a hang is a finding like any other.

A case is named by its kind, the seed of the campaign and its number; that is all that is needed to make it again.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.fuzz.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.kinds import Kind

CASE_CPU_SECONDS, CASE_SECONDS = 20.0, 200.0
"""A case that computes for the one, or lasts for the other, hangs."""
PREPARATION_SECONDS = 300.0
"""For imports, and a first case that is sound."""
_PREPARING = -1
MEMORY_BYTES = 3 << 30
"""Address space of a process beside what it takes at its start."""
BATCH = 400
"""Cases that one process judges."""


@dataclass(frozen=True)
class Finding:
    """A case that ended neither well nor in a documented error."""

    kind: str
    seed: int
    number: int
    what: str


@dataclass
class Result:
    """What a campaign came to."""

    cases: Counter[str] = field(default_factory=Counter)
    """By kind."""
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind and label."""
    findings: list[Finding] = field(default_factory=list)


def mutant(kind: Kind, seeds: list[bytes], seed: int, number: int) -> bytes:
    """The bytes of a case."""
    rng = Random(f"{kind.name}/{seed}/{number}")
    return kind.mutate(rng, rng.choice(seeds))


def seeds_of(kind: Kind, folder: Path) -> list[bytes]:
    """The sound files of a kind, made in a process of its own: this one stays small and without threads."""
    made = folder / "seeds" / kind.name.replace(" ", "-")
    if not made.exists():
        work = folder / "making"
        work.mkdir(parents=True)

        def make() -> None:
            partial = made.with_name(made.name + ".partial")
            partial.mkdir(parents=True)
            for number, content in enumerate(kind.seeds(work)):
                (partial / f"{number:03d}").write_bytes(content)
            partial.rename(made)

        status = _in_child(make)
        shutil.rmtree(work, ignore_errors=True)
        assert status == 0, f"no sound files of {kind.name} could be made: {status}"
    return [path.read_bytes() for path in sorted(made.iterdir())]


def _in_child(work) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(names: list[str], *, cases: int, seed: int, folder: Path, first: int = 0) -> Iterator[tuple[str, Result]]:
    """Judge so many cases of these kinds, shared by their weights; yields after each kind what was found in it."""
    total = sum(KINDS[name].weight for name in names)
    for name in names:
        kind = KINDS[name]
        count = max(1, round(cases * kind.weight / total))
        result = Result()
        seeds = seeds_of(kind, folder)
        at = first
        while at < first + count:
            at = _batch(kind, seeds, seed, at, min(at + BATCH, first + count), folder, result)
        yield name, result


def _batch(kind: Kind, seeds: list[bytes], seed: int, first: int, end: int, folder: Path, result: Result) -> int:
    """Judge cases in one process until it has done all or dies; the first that is not done."""
    log = folder / "log"
    log.write_bytes(b"")
    place = mmap.mmap(-1, 8)
    place[:] = struct.pack("q", _PREPARING)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            _judge_all(kind, seeds, seed, first, end, folder, place)
        except BaseException:  # noqa: BLE001
            (folder / "log").write_text(json.dumps({"number": first, "finding": traceback.format_exc()}))
            place[:] = struct.pack("q", max(first, *struct.unpack("q", place[:])))
        os._exit(0)
    how = _watch(pid, place)
    (number,) = struct.unpack("q", place[:])
    assert number != _PREPARING, f"{kind.name}: no case was begun: {how}"
    for line in log.read_text().splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            result.cases[kind.name] += 1
            if finding := entry.get("finding"):
                result.findings.append(Finding(kind.name, seed, entry["number"], finding))
            else:
                result.outcomes[kind.name, entry["label"]] += 1
    if number < end:
        result.cases[kind.name] += 1
        if kind.is_apart:
            result.outcomes[kind.name, "decoder_stall" if how == "hang" else "decoder_crash"] += 1
        else:
            result.findings.append(Finding(kind.name, seed, number, how))
        return number + 1
    return end


def _watch(pid: int, place: mmap.mmap) -> str:
    """Wait for a process; one that stays with a case for too long is ended. How it ended."""
    last, since, cpu_before = _PREPARING, time.monotonic(), 0.0
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return signal.Signals(-code).name if code < 0 else f"exit code {code}"
        (number,) = struct.unpack("q", place[:])
        if number != last:
            last, since, cpu_before = number, time.monotonic(), _cpu_seconds(pid)
        limit = PREPARATION_SECONDS if number == _PREPARING else CASE_SECONDS
        computes = number != _PREPARING and _cpu_seconds(pid) - cpu_before > CASE_CPU_SECONDS
        if computes or time.monotonic() - since > limit:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "hang"
        time.sleep(0.02)


def _cpu_seconds(pid: int) -> float:
    """What a process has computed so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _judge_all(kind: Kind, seeds: list[bytes], seed: int, first: int, end: int, folder: Path, place: mmap.mmap) -> None:
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    for name in ("cwd", "tmp", "case"):
        (home / name).mkdir(parents=True)
    os.environ |= {"HOME": str(home), "TMPDIR": str(home / "tmp"), "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    os.chdir(home / "cwd")
    tempfile.tempdir = None  # the parent's
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    with (folder / "log").open("a") as log:
        with contextlib.suppress(AssertionError):
            kind.judge(seeds[0], home / "case")  # what is imported and cached is not a case's
        guard = Guard(home)
        _limit_memory()
        for number in range(first, end):
            data = mutant(kind, seeds, seed, number)
            place[:] = struct.pack("q", number)
            log.write(json.dumps({"number": number} | _judged(kind, data, home, guard)) + "\n")
            log.flush()
        place[:] = struct.pack("q", end)


def _judged(kind: Kind, data: bytes, home: Path, guard: Guard) -> dict[str, str]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        label = kind.judge(data, home / "case")
    except MemoryError:
        return {"label": "out_of_memory"} if kind.is_apart else {"finding": "MemoryError"}
    except BaseException:  # noqa: BLE001 - panics of Rust are no Exception
        return {"finding": traceback.format_exc(limit=-6)}
    if guard.written:
        written, guard.written = guard.written, []
        return {"finding": f"files outside of the case were changed: {written[:3]}"}
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    if grown > kind.resident_bytes and not kind.is_apart:
        return {"finding": f"{grown >> 20} MB more are resident"}
    if label == "out_of_memory" and not kind.is_apart:
        return {"finding": "out_of_memory in a thread"}
    return {"label": label}


class Guard:
    """Notes what Python writes, renames or removes outside of a folder."""

    _EVENTS = frozenset({"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate"})

    def __init__(self, home: Path) -> None:
        self._home = os.fsencode(str(home))
        self.written: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                return
            self._note(path)
        elif event in self._EVENTS:
            self._note(arguments[0])
            if event == "os.rename":
                self._note(arguments[1])
        elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"):
            self.written.append(f"{event} {arguments!r}")

    def _note(self, path: object) -> None:
        if isinstance(path, int) or not isinstance(path, str | bytes | os.PathLike):
            return
        full = os.path.realpath(os.fsencode(path))
        if not full.startswith((self._home, b"/dev/", b"/proc/")):
            self.written.append(repr(path))


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
