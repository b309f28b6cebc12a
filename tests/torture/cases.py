"""The kinds of disturbance. A case has a number, and with the seed the number says all that is random about it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from tests.torture.check import is_one_version
from tests.torture.corpus import CLIP, TAR, make_faces, picture_of
from tests.torture.faults import NO_FAULT, Fault, Whom, calls_in
from tests.torture.scenarios import Disturbed, Laboratory, Place, Scenario

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.torture.starts import Start

ONE_PROCESS = ("file", "folder", "tracks", "retry", "extend", "overwrite")
DAY = 86_400
_ENDS = {
    signal.SIGKILL: {-signal.SIGKILL, 0},
    signal.SIGTERM: {75, -signal.SIGTERM, 0},
    signal.SIGUSR1: {75, -signal.SIGUSR1, 0},
    signal.SIGINT: {130, -signal.SIGINT, 0},
}
"""The exit codes after a signal: 0 where the run was over, the signal's where it came before anything was set up."""


@dataclass(frozen=True)
class Kind:
    """One kind of disturbance.

    Args:
        count: How many cases a whole campaign has; 0: as many as there are `fault_sites`.
        run: Does one case, and says what it was.
    """

    name: str
    title: str
    count: int
    run: Callable[[Laboratory, int, random.Random], tuple[str, Disturbed]]
    needs_bucket: bool = False
    needs_root: bool = False


# ---- ends -------------------------------------------------------------------------------------------------


def _expect(result: Disturbed, start: Start, code: int, allowed: set[int]) -> None:
    result.codes.append(code)
    if code not in allowed:
        result.add("unexplained", f"exit code {code}, not one of {sorted(allowed)}: {start.talk[-800:]}")


def _expect_explained(result: Disturbed, start: Start, code: int, place: Place, *, reasons: tuple[str, ...]) -> None:
    """Exit code 0, or 1 (2 of a disk that is read-only) with a sentence that names a file and the reason."""
    _expect(result, start, code, {0, 1, 2} if os.strerror(errno.EROFS) in reasons else {0, 1})
    errors = [line for line in start.talk.splitlines() if line.startswith("error: ")]
    names = (str(place.disk), f"s3://{place.bucket}") if place.server else (str(place.disk),)
    if code and not (errors and any(name in errors[-1] for name in names)):
        result.add("unexplained", f"exit code {code} and no file is named: {start.talk[-800:]}")
    elif code and not any(reason in errors[-1] for reason in reasons):
        result.add("unexplained", f"exit code {code} and no reason is given: {start.talk[-800:]}")


def _signalled(
    lab: Laboratory,
    names: tuple[str, ...],
    number: int,
    rng: random.Random,
    ends: tuple[int, ...],
    *,
    times: int = 1,
    whom: Whom = "leader",
) -> tuple[str, Disturbed]:
    """A signal at a random write-side call."""
    scenario = lab.scenarios[names[number % len(names)]]
    sent = ends[number // len(names) % len(ends)]
    calls = len(lab.undisturbed(scenario).calls)
    fault = Fault("signal", rng.randint(1, calls), sent, whom, times)
    result = Disturbed()
    with lab.place(scenario) as place:
        start = lab.start(scenario, place, fault)
        _expect(result, start, lab.end_of(start, result), _ENDS[signal.Signals(sent)])
        lab.settle(scenario, place, result)
    return f"{scenario.name}: {fault}", result


def killed_at_call(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """SIGKILL at a random write-side call, once or three times in a row."""
    if number % 4:
        return _signalled(lab, ONE_PROCESS, number, rng, (signal.SIGKILL,))
    scenario = lab.scenarios[ONE_PROCESS[number // 4 % len(ONE_PROCESS)]]
    faults, result = _killed_in_a_row(lab, scenario, rng, starts=3, share=2)
    return f"{scenario.name}: {', then '.join(map(str, faults))}", result


def killed_again_and_again(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """SIGKILL of twelve starts in a row, each at a random one of its first write-side calls."""
    scenario = lab.scenarios[ONE_PROCESS[number % len(ONE_PROCESS)]]
    _, result = _killed_in_a_row(lab, scenario, rng, starts=12, share=3)
    return f"{scenario.name}: SIGKILL twelve times", result


def _killed_in_a_row(
    lab: Laboratory, scenario: Scenario, rng: random.Random, *, starts: int, share: int
) -> tuple[list[Fault], Disturbed]:
    """So many starts, each killed at a call in the first half (`share` 2) or third (3) of an undisturbed run."""
    last = max(2, len(lab.undisturbed(scenario).calls) // share)
    faults = [Fault("signal", rng.randint(1, last), signal.SIGKILL) for _ in range(starts)]
    result = Disturbed()
    with lab.place(scenario) as place:
        for fault in faults:
            start = lab.start(scenario, place, fault)
            _expect(result, start, lab.end_of(start, result), _ENDS[signal.SIGKILL])
        lab.settle(scenario, place, result)
    return faults, result


def stopped_in_order(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """SIGTERM or SIGUSR1 at a random write-side call."""
    return _signalled(lab, ONE_PROCESS, number, rng, (signal.SIGTERM, signal.SIGUSR1))


def interrupted_twice(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """SIGINT at a random write-side call and at those after it."""
    return _signalled(lab, ONE_PROCESS, number, rng, (signal.SIGINT,), times=rng.randint(2, 4))


def suspended(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """SIGSTOP of all processes of a run at a random write-side call, SIGCONT a moment later."""
    names = (*ONE_PROCESS, "devices") if number % 10 == 9 else ONE_PROCESS
    scenario = lab.scenarios[names[-1] if number % 10 == 9 else names[number % len(names)]]
    fault = Fault("signal", rng.randint(1, len(lab.undisturbed(scenario).calls)), signal.SIGSTOP, "group")
    result = Disturbed()
    with lab.place(scenario) as place:
        start = lab.start(scenario, place, fault)
        if start.wait(until=lambda: bool(start.stopped())) is None:
            time.sleep(rng.uniform(0, 0.3))
            start.send_to_group(signal.SIGCONT)
        _expect(result, start, lab.end_of(start, result), {0})
        lab.settle(scenario, place, result)
    return f"{scenario.name}: {fault}", result


def killed_at_time(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """A process of its own, ended by a signal at a random moment of its life."""
    names = ("file", "devices", "folder", "tracks", "devices")
    scenario = lab.scenarios[names[number % len(names)]]
    sent = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[number // len(names) % 4]
    after = rng.uniform(0.05, 1.1) * lab.seconds_of_process(scenario)
    result = Disturbed()
    with lab.place(scenario) as place:
        start = lab.start(scenario, place, forked=False)
        deadline = time.monotonic() + after
        start.wait(until=lambda: time.monotonic() > deadline)
        if rng.random() < 0.5:
            start.send(sent)
        else:
            start.send_to_group(sent)
        if sent == signal.SIGINT:
            time.sleep(rng.uniform(0, 0.2))
            start.send(sent)
        _expect(result, start, lab.end_of(start, result), _ENDS[sent])
        lab.settle(scenario, place, result)
    return f"{scenario.name}: {sent.name} after {after:.2f} s", result


# ---- workers, shards, buckets -----------------------------------------------------------------------------


def worker_lost(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """A worker of --devices killed at a random write-side call of its own, or stopped so that it hangs."""
    scenario = lab.scenarios["devices"]
    calls = lab.undisturbed(scenario).calls
    of_workers = [call.number for call in calls if "part-" in call.path and call.pid != calls[0].pid]
    sent = signal.SIGSTOP if number % 6 == 5 else signal.SIGKILL
    fault = Fault("signal", rng.choice(of_workers), sent, "self")
    result = Disturbed()
    with lab.place(scenario) as place:
        start = lab.start(scenario, place, fault)
        code = lab.end_of(start, result, patience=1 if sent == signal.SIGKILL else 5)  # noticed after five minutes
        made = calls_in(place.notes)
        hit = next((call.pid for call in made if call.is_hit), None)
        is_driver = hit is not None and hit == made[0].pid  # in this run, the call of that number was the driver's
        _expect(result, start, code, {-sent} if is_driver else {0})
        if hit is not None and not is_driver and "another takes its place" not in start.talk:
            result.add("wrong", f"nothing is said of the lost worker: {start.talk[-800:]}")
        lab.settle(scenario, place, result)
    return f"{scenario.name}: {fault}", result


def run_with_workers_ended(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """A run of --devices whose driver, or all of whose processes, get a signal at a random write-side call."""
    whom: Whom = "group" if number % 2 else "leader"
    return _signalled(lab, ("devices",), number, rng, (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL), whom=whom)


def shards_killed(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """Two or five processes on one output; one of them is killed, at a random write-side call of any."""
    scenario = lab.scenarios["five shards" if number % 3 == 2 else "two shards"]
    calls = len(lab.undisturbed(scenario).calls)
    fault = Fault("signal", rng.randint(1, calls), signal.SIGKILL, "self")
    result = Disturbed()
    with lab.place(scenario) as place:
        for start in lab.start_all(scenario, place, fault):
            _expect(result, start, lab.end_of(start, result), {0, 75, -signal.SIGKILL})
        lab.settle(scenario, place, result)
    return f"{scenario.name}: {fault}", result


def two_at_once(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """Two or five times the same command on one output: one does the work, the others are refused."""
    scenario = lab.scenarios[("file", "folder")[number % 2]]
    result = Disturbed()
    with lab.place(scenario) as place:
        environment = place.environment(NO_FAULT)
        starts = []
        for _ in range(5 if number % 3 == 2 else 2):
            starts.append(lab.starter.start(scenario.arguments(place), place.notes, env=environment))
            time.sleep(rng.uniform(0, 0.2))
        for start in starts:
            code = lab.end_of(start, result)
            _expect(result, start, code, {0, 2})
            if code == 2 and "another process is writing" not in start.talk:
                result.add("unexplained", f"exit code 2: {start.talk[-800:]}")
        if 0 not in result.codes:
            result.add("unexplained", "every process was refused")
        lab.settle(scenario, place, result)
    return f"{scenario.name}: {len(starts)} processes", result


def bucket_run_killed(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """A run into a bucket, killed or stopped at a random write-side call in its temporary folder."""
    names = ("bucket, file", "bucket, folder")
    return _signalled(lab, names, number, rng, (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL))


def bucket_requests_fail(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """A run into a bucket whose server fails every n-th request: it answers 503, or hangs up."""
    from tests.s3_server import FailingServer

    scenario = lab.scenarios[("bucket, file", "bucket, folder")[number % 2]]
    assert lab.server is not None, "the kind needs a bucket"
    every = rng.randint(3, 12)
    result = Disturbed()
    with lab.place(scenario) as place, FailingServer(lab.server, every=every) as front:
        start = lab.start(scenario, place, env=lab.server.environment(url=front.url))
        code = lab.end_of(start, result)
        _expect_explained(result, start, code, place, reasons=("",))
        lab.settle(scenario, place, result)
        result.hits = front.num_failed
    return f"{scenario.name}: every {every}th request fails", result


# ---- errors of the system ---------------------------------------------------------------------------------


def _disk_error(lab: Laboratory, scenario: Scenario, fault: Fault, reason: str) -> tuple[str, Disturbed]:
    result = Disturbed()
    with lab.place(scenario) as place:
        start = lab.start(scenario, place, fault)
        _expect_explained(result, start, lab.end_of(start, result), place, reasons=(reason,))
        hit = [f"{call.name} {call.path}" for call in calls_in(place.notes) if call.is_hit]
        lab.settle(scenario, place, result)
    return f"{scenario.name}: {fault} ({', '.join(hit[:1]) or 'not reached'})", result


def call_fails(lab: Laboratory, number: int, _rng: random.Random) -> tuple[str, Disturbed]:
    """Each write-side call of a run fails once, with ENOSPC and with EIO."""
    scenario, at, error = fault_sites(lab)[0][number]
    return _disk_error(lab, scenario, Fault("fail", at, error), os.strerror(error))


def fault_sites(lab: Laboratory) -> tuple[list[tuple[Scenario, int, int]], int]:
    """Write-side calls of the runs by one process, with each error: first one of every site, then all the others.

    Calls of one name on files of one name, but for the numbers in it, are a site.

    Returns:
        Them, and how many of them are the first of their sites.
    """
    first: list[tuple[Scenario, int]] = []
    others: list[tuple[Scenario, int]] = []
    for scenario in (lab.scenarios[name] for name in ("file", "retry", "extend", "folder", "overwrite")):
        known: set[tuple[str, str]] = set()
        for call in lab.undisturbed(scenario).calls:
            site = call.name, re.sub(r"\d+", "", call.path)
            (others if site in known else first).append((scenario, call.number))
            known.add(site)
    errors = (errno.ENOSPC, errno.EIO)
    return [(*each, error) for each, error in product([*first, *others], errors)], len(first) * len(errors)


def calls_fail_on(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """From a random write-side call on all fail: no space (ENOSPC), a broken disk (EIO), a read-only one (EROFS)."""
    names = ("file", "folder", "tracks", "retry", "extend", "devices") if number % 3 == 0 else ("file", "folder")
    scenario = lab.scenarios[names[number // 3 % len(names)]]
    error = (errno.ENOSPC, errno.EIO, errno.EROFS)[number % 3]
    fault = Fault("fail-on", rng.randint(1, len(lab.undisturbed(scenario).calls)), error)
    return _disk_error(lab, scenario, fault, os.strerror(error))


def file_too_large(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """A limit on the size of files (RLIMIT_FSIZE), which also holds for the memory that a video's decoder shares.

    So the video may have failed for that, and says so.
    """
    scenario = lab.scenarios[ONE_PROCESS[number % len(ONE_PROCESS)]]
    limit = rng.randint(1, 60_000)
    result = Disturbed()
    with lab.place(scenario) as place:
        start = lab.start(scenario, place, file_limit=limit)
        _expect_explained(result, start, lab.end_of(start, result), place, reasons=(os.strerror(errno.EFBIG),))
        lab.settle(scenario, place, result, changed=CLIP)
        result.hits = int(result.codes[0] != 0)
        result.findings += is_one_version(place.fetched(scenario.out), CLIP, [lab.undisturbed(scenario).rows])
    return f"{scenario.name}: files of at most {limit} bytes", result


def disk_full(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """A file system of a few pages (tmpfs), enlarged before the run goes on."""
    scenario = lab.scenarios[ONE_PROCESS[number % len(ONE_PROCESS)]]
    result = Disturbed()
    with lab.place(scenario) as place:
        before = _size_of(place.out_folder)
        pages = before // 4096 + rng.randint(4, 60)
        with _small_disk(place, scenario, pages):
            start = lab.start(scenario, place)
            _expect_explained(result, start, lab.end_of(start, result), place, reasons=(os.strerror(errno.ENOSPC),))
            subprocess.run(["mount", "-o", "remount,size=64m", str(place.disk)], check=True)
            lab.settle(scenario, place, result)
            result.hits = int(result.codes[0] != 0)
    return f"{scenario.name}: a disk of {pages} pages", result


def _size_of(folder: Path) -> int:
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def _small_disk(place: Place, scenario: Scenario, pages: int) -> Iterator[None]:
    """A file system of its own for a case."""
    size = f"size={pages * 4096}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "torture", str(place.disk)], check=True)
    try:
        place.make_disk()
        if scenario.before:
            shutil.copytree(scenario.before, place.out_folder, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place.disk)], check=True)


def clock_jumps(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """The clock is a day ahead or behind from a random write-side call on."""
    names = (*ONE_PROCESS, "two shards")
    scenario = lab.scenarios[names[number % len(names)]]
    off = DAY if number // len(names) % 2 else -DAY
    fault = Fault("clock", rng.randint(1, len(lab.undisturbed(scenario).calls)), off)
    result = Disturbed()
    with lab.place(scenario) as place:
        for start in lab.start_all(scenario, place, fault):
            _expect(result, start, lab.end_of(start, result), {0})
        lab.settle(scenario, place, result)
    return f"{scenario.name}: {fault}", result


# ---- files that change meanwhile --------------------------------------------------------------------------


def output_removed(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """All of the output, its working folder, a folder of parts or one part is removed while the run is stopped."""
    scenario = lab.scenarios[("file", "folder")[number % 2]]
    what = ("everything", "control", "table", "part")[number // 2 % 4]
    calls = lab.undisturbed(scenario).calls
    renamed = [call.number for call in calls if call.name == "rename"]
    # From the first part on, and not when all is in its place: then nobody could know.
    fault = Fault("signal", rng.randint(renamed[2], renamed[-1]), signal.SIGSTOP, "self")
    result = Disturbed()
    with lab.place(scenario) as place:
        start = lab.start(scenario, place, fault)
        removed = "nothing"
        if start.wait(until=lambda: bool(start.stopped())) is None:
            removed = _remove(place.out_folder / scenario.out, what, rng)
            start.send_to_group(signal.SIGCONT)
        code = lab.end_of(start, result)
        _expect(result, start, code, {0, 1, 2})
        if code and "error: " not in start.talk:
            result.add("unexplained", f"exit code {code} without an error: {start.talk[-800:]}")
        _settle_after_removal(lab, scenario, place, result)
    return f"{scenario.name}: {removed} removed at call {fault.at}", result


def _remove(out: Path, what: str, rng: random.Random) -> str:
    control = out.with_name(f"{out.name}.work") if out.suffix else out / ".motivnet"
    parts_folder = control if out.suffix else out
    parts = sorted(parts_folder.glob("*/part-*.parquet"))
    if what == "part" and parts:
        chosen = rng.choice(parts)
        chosen.unlink()
        return chosen.name
    if what == "table" and parts:
        folder = rng.choice([parts_folder / "faces", parts_folder / "inputs"])
        shutil.rmtree(folder, ignore_errors=True)
        return f"{folder.name}/"
    if what == "control":
        shutil.rmtree(control, ignore_errors=True)
        return f"{control.name}/"
    for path in out.parent.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return "everything"


def _settle_after_removal(lab: Laboratory, scenario: Scenario, place: Place, result: Disturbed) -> None:
    """The same command finishes, or says to start anew; what it says is finished is whole."""
    again = lab.start(scenario, place)
    code = lab.end_of(again, result)
    result.codes.append(code)
    if code == 2 and "--overwrite" in again.talk:
        start = lab.starter.start(
            [*scenario.arguments(place), "--overwrite"], place.notes, env=place.environment(NO_FAULT)
        )
        result.codes.append(lab.end_of(start, result))
    # Exit code 0 once more, from here on, would be a claim that everything is there.
    lab.settle(scenario, place, result)


def input_changed(lab: Laboratory, number: int, rng: random.Random) -> tuple[str, Disturbed]:
    """A picture, a video or an archive is replaced, truncated or removed while the run is stopped, or after a kill."""
    scenario = lab.scenarios[("file", "folder")[number % 2]]
    changed = ("07.jpg", CLIP, TAR)[number // 2 % 3]
    how = ("replaced", "truncated", "removed")[number // 6 % 3]
    is_killed = bool(number // 18 % 2)
    calls = lab.undisturbed(scenario).calls
    sent = signal.SIGKILL if is_killed else signal.SIGSTOP
    fault = Fault("signal", rng.randint(1, len(calls)), sent, "self")
    result = Disturbed()
    with lab.place(scenario) as place:
        inputs = shutil.copytree(lab.mixed, place.folder / "inputs")
        start = lab.start(scenario, place, fault, inputs=inputs)
        ended = start.wait(until=lambda: bool(start.stopped()))
        _change(inputs / changed, how, place.folder)
        start.send_to_group(signal.SIGCONT)
        _expect(result, start, lab.end_of(start, result), {0, -sent} if ended is None or is_killed else {0})
        lab.settle(scenario, place, result, changed=changed, inputs=inputs)
        versions = lab.versions(scenario, inputs, changed, how)
        result.findings += is_one_version(place.fetched(scenario.out), changed, versions)
    return (
        f"{scenario.name}: {changed} {how} {'after a kill' if is_killed else 'while stopped'} at call {fault.at}",
        result,
    )


def _change(path: Path, how: str, folder: Path) -> None:
    if how == "removed":
        path.unlink()
    elif how == "truncated":
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
    else:
        replacement(path.name, folder).replace(path)


def replacement(name: str, folder: Path) -> Path:
    """Another file of the same kind, with other content."""
    if name == CLIP:
        return make_faces(folder / "other") / CLIP
    new = folder / f"new-{name}"
    if name == TAR:
        import tarfile

        picture = folder / "new.jpg"
        picture_of(30, picture)
        with tarfile.open(new, "w") as archive:
            for number in range(8):
                archive.add(picture, f"other-{number}.jpg")
    else:
        picture_of(30, new)
    return new


KINDS = (
    Kind("kill-call", "killed (SIGKILL) at a random write-side call, once or three times", 130, killed_at_call),
    Kind("kill-again", "killed (SIGKILL) twelve times in a row", 24, killed_again_and_again),
    Kind(
        "kill-time",
        "processes of their own, ended at a random moment (SIGKILL, SIGTERM, SIGINT twice)",
        40,
        killed_at_time,
    ),
    Kind("stop", "stopped by SIGTERM or SIGUSR1", 40, stopped_in_order),
    Kind("interrupt", "interrupted by SIGINT several times in a row", 40, interrupted_twice),
    Kind("suspend", "suspended (SIGSTOP) and continued", 24, suspended),
    Kind("devices", "runs of `--devices` ended: the driver, or all processes", 10, run_with_workers_ended),
    Kind("worker", "a worker of `--devices` killed, or hung", 6, worker_lost),
    Kind("shards", "two and five shards on one output, one of them killed", 12, shards_killed),
    Kind("twice", "the same command two and five times at once", 8, two_at_once),
    Kind("bucket", "runs into a bucket killed or stopped", 16, bucket_run_killed, needs_bucket=True),
    Kind("requests", "a bucket whose server fails every n-th request", 8, bucket_requests_fail, needs_bucket=True),
    Kind("call-fails", "one write-side call fails, with ENOSPC and with EIO", 0, call_fails),
    Kind("fail-on", "from a random call on all fail, with ENOSPC, EIO or EROFS", 36, calls_fail_on),
    Kind("file-limit", "a limit on the size of files (RLIMIT_FSIZE)", 18, file_too_large),
    Kind("disk-full", "a disk of a few pages", 18, disk_full, needs_root=True),
    Kind("clock", "the clock jumps a day ahead or back", 14, clock_jumps),
    Kind("removed", "the output removed midway, whole or in part", 24, output_removed),
    Kind("inputs", "an input replaced, truncated or removed midway", 36, input_changed),
)
