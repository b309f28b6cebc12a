"""Starts of the command: processes of their own, or forks of one that has imported everything."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).parents[2]
HANG_SECONDS = 120.0
"""A run that takes longer counts as hung; on a busy machine, as many times longer as there are runs for a core."""
_POLL_SECONDS = 0.02


@dataclass
class Start:
    """A process of `motivnet`, the leader of a session of its own."""

    pid: int
    talk_file: Path
    poll: Callable[[], int | None]
    """The exit code, or None while it runs."""

    @property
    def talk(self) -> str:
        """What it has written to stderr."""
        return self.talk_file.read_text(errors="replace")

    def send(self, number: int) -> None:
        """Send a signal to it alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def send_to_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, *, until: Callable[[], bool] = lambda: False, patience: float = 1.0) -> int | None:
        """Its exit code; None once `until()`.

        Args:
            patience: It may take so many times longer than others.

        Raises:
            TimeoutError: It hangs. Its stacks are in `talk`, and it is killed with its children.
        """
        began = time.monotonic()
        while (code := self.poll()) is None:
            if until():
                return None
            if time.monotonic() - began > patience * hang_seconds():
                self.send_to_group(signal.SIGCONT)
                self.send(signal.SIGABRT)  # faulthandler writes the stacks
                time.sleep(2)
                self.send_to_group(signal.SIGKILL)
                raise TimeoutError(f"process {self.pid} did not end in {time.monotonic() - began:.0f} s")
            time.sleep(_POLL_SECONDS)
        return code

    def is_group_gone(self) -> bool:
        """Whether all its children have ended, too; they get a moment for it."""
        deadline = time.monotonic() + hang_seconds()
        while _living_in_group(self.pid):
            if time.monotonic() > deadline:
                self.send_to_group(signal.SIGKILL)
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def stopped(self) -> list[int]:
        """Processes of its group that a signal has stopped."""
        return [pid for pid, state in _states_in_group(self.pid) if state == "T"]


def hang_seconds() -> float:
    return HANG_SECONDS * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _states_in_group(group: int) -> list[tuple[int, str]]:
    """The processes of a group and their states, as in proc(5)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                state, _, its_group = (entry / "stat").read_text().rpartition(") ")[2].split()[:3]
                if int(its_group) == group:
                    found.append((int(entry.name), state))
    return found


def _living_in_group(group: int) -> list[int]:
    return [pid for pid, state in _states_in_group(group) if state != "Z"]


class Starter:
    """Starts the command with the shim preloaded; a context, in which the process that forks lives.

    Args:
        library: The compiled shim.
    """

    def __init__(self, library: Path) -> None:
        self._environ = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "OMP_NUM_THREADS": "1",
            "PYTHONFAULTHANDLER": "1",
            "PYTHONPATH": str(ROOT),
        }
        self.num_starts = 0
        self._answers: dict[int, dict[str, int]] = {}
        self._rest = b""

    def __enter__(self) -> Starter:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.server"],
            cwd=ROOT, env=self._environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._server.stdout is not None, "a pipe was asked for"
        if not self._server.stdout.readline():
            raise RuntimeError("the process that forks runs did not start")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None, "a pipe was asked for"
        assert self._server.stdout is not None, "a pipe was asked for"
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def start(
        self,
        argv: Sequence[str],
        notes: Path,
        *,
        env: Mapping[str, str],
        forked: bool = True,
        file_limit: int = 0,
    ) -> Start:
        """Start the command.

        Args:
            argv: Without the program.
            notes: A folder for what it says.
            forked: Else it is a new process that runs the installed `motivnet`.
            file_limit: Bytes that a file may have (RLIMIT_FSIZE), if not 0; of a fork only.
        """
        self.num_starts += 1
        number = self.num_starts
        talk, said = notes / f"talk-{number}", notes / f"said-{number}"
        if not forked:
            return self._new_process(argv, notes, talk, said, env)
        request = {
            "id": number, "argv": list(argv), "env": dict(env), "talk": str(talk), "said": str(said),
            "cwd": str(notes), "file_limit": file_limit,
        }  # fmt: skip
        assert self._server.stdin is not None, "a pipe was asked for"
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        self._server.stdin.flush()
        while "pid" not in self._answers.get(number, {}):
            self._take_answers(timeout=1.0)
        return Start(self._answers[number]["pid"], talk, lambda: self._code_of(number))

    def _new_process(self, argv: Sequence[str], notes: Path, talk: Path, said: Path, env: Mapping[str, str]) -> Start:
        with talk.open("ab") as err, said.open("ab") as out:
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name("motivnet")), *argv],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=notes, env={**self._environ, **env},
                start_new_session=True,
            )  # fmt: skip
        return Start(process.pid, talk, process.poll)

    def _code_of(self, number: int) -> int | None:
        self._take_answers(timeout=0)
        return self._answers[number].get("code")

    def _take_answers(self, *, timeout: float) -> None:
        assert self._server.stdout is not None, "a pipe was asked for"
        while select.select([self._server.stdout], [], [], timeout)[0]:
            piece = os.read(self._server.stdout.fileno(), 1 << 16)
            if not piece:
                raise RuntimeError("the process that forks runs has died")
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for line in map(json.loads, lines):
                self._answers.setdefault(line["id"], {}).update(line)
            timeout = 0
