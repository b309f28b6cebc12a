"""What the preloaded shim (shim.c) is told, and what it has counted."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Action = Literal["", "fail", "fail-on", "signal", "clock"]
Whom = Literal["self", "leader", "group"]


def why_not() -> str:
    """Why the campaign cannot be run here; empty if it can."""
    if sys.platform != "linux":
        return "the shim is for Linux"
    return "" if shutil.which("cc") else "there is no C compiler (cc)"


def build(folder: Path) -> Path:
    """Compile the shim into a folder.

    Raises:
        subprocess.CalledProcessError: The compiler says why.
    """
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


@dataclass(frozen=True)
class Fault:
    """What happens to a run, and at which of its write-side calls."""

    action: Action = ""
    at: int = 0
    """Number of the call, from 1; 0 for never."""
    value: int = 0
    """An errno, a signal, or seconds."""
    whom: Whom = "leader"
    times: int = 1

    def __str__(self) -> str:
        if not self.action:
            return "nothing"
        what = {
            "fail": lambda: errno.errorcode[self.value],
            "fail-on": lambda: f"{errno.errorcode[self.value]} from then on",
            "signal": lambda: f"{signal.Signals(self.value).name} to {self.whom}",
            "clock": lambda: f"the clock {self.value:+} s",
        }[self.action]()
        return f"{what}, call {self.at}" + (f", {self.times} times" if self.times > 1 else "")

    def environment(self, folder: Path, notes: Path) -> dict[str, str]:
        """The variables that tell the shim, with a new count: all processes that get them share it.

        Args:
            folder: Calls on files below it count.
            notes: Where the count and the log are kept; not below `folder`.
        """
        state = notes / f"count-{len(list(notes.glob('count-*')))}"  # an earlier one may still be in use
        state.write_bytes(bytes(64))
        return {
            "TORTURE_FOLDER": str(folder),
            "TORTURE_STATE": str(state),
            "TORTURE_LOG": str(notes / "calls"),
            "TORTURE_AT": str(self.at),
            "TORTURE_ACTION": self.action,
            "TORTURE_VALUE": str(self.value),
            "TORTURE_WHOM": self.whom,
            "TORTURE_TIMES": str(self.times),
        }


NO_FAULT = Fault()


@dataclass(frozen=True)
class Call:
    """One write-side call of a run, by the shim's log."""

    number: int
    pid: int
    is_hit: bool
    name: str
    path: str


def calls_in(notes: Path) -> list[Call]:
    """The calls that the shim has logged, in the order of their numbers; a line that a kill cut off is left out."""
    log = notes / "calls"
    if not log.exists():
        return []
    calls = []
    for line in log.read_text(errors="replace").splitlines():
        words = line.split(" ", 4)
        if len(words) == 5:
            calls.append(Call(int(words[0]), int(words[1]), words[2] == "hit", words[3], words[4]))
    return sorted(calls, key=lambda call: call.number)
