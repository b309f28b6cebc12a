"""Child processes: each runs a module of this package and sends its messages through a pipe of its own.

The folder in which a program stands is no place to import from: a data set may hold an `av.py`. `python -m` puts that
folder first, so children are started in another way, on every version of Python the same.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

_RUN_MODULE = """\
import sys
sys.path[:] = filter(None, sys.path)
import runpy
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
"""An empty entry of the path is the working folder. `sys` is built in: no file of that folder stands for it."""
_OPTIONS = ["-P"] if sys.version_info >= (3, 11) else []
"""No such entry from the start: Python 3.13 imports `linecache` before it runs what `-c` gives."""


class Child:
    """A process that runs a module of this package.

    Args:
        module: Its full name. It finds the descriptor of its messages with `message_descriptor`.
        pass_fds: Descriptors that it inherits.
    """

    def __init__(self, module: str, *, pass_fds: Sequence[int] = ()) -> None:
        read_end, write_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, *_OPTIONS, "-c", _RUN_MODULE, module, str(write_end)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[write_end, *pass_fds],
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        assert self._process.stdin is not None, "a pipe was asked for"
        assert self._process.stdout is not None, "a pipe was asked for"
        self.orders: IO[bytes] = self._process.stdin
        """Its stdin."""
        self.messages: IO[bytes] = os.fdopen(read_end, "rb")
        """What the module sends; ends with the process."""
        self.printed: IO[bytes] = self._process.stdout
        """Its stdout and stderr: what Python, a library or the linker prints, at any time."""

    @property
    def pid(self) -> int:
        return self._process.pid

    def give(self, data: bytes) -> None:
        """Write to its stdin. If it has ended nothing happens: that is noticed where its messages are read."""
        with suppress(BrokenPipeError):
            self.orders.write(data)
            self.orders.flush()

    def wait(self) -> int:
        """Wait for its end, and close its stdin.

        Returns:
            Its exit code; if a signal has ended it, the signal's number, negative.
        """
        code = self._process.wait()
        with suppress(BrokenPipeError):
            self.orders.close()
        return code

    def send_kill(self) -> None:
        """Have it end, whatever it is doing, and do not wait; any thread may."""
        self._process.kill()

    def kill(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self.wait()


class Silence:
    """How long a child has not been heard of, by a process that listens.

    A process that is suspended with its children (a scheduler does that to whole jobs, a laptop to everything) finds
    hours gone when it goes on, in which none could say a thing: one wait counts for a second at most.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def add(self, waited_s: float) -> None:
        """Nothing came in a wait of so many seconds, about one or less."""
        self.seconds += min(waited_s, MAX_WAIT_SECONDS)

    def end(self) -> None:
        """Something came."""
        self.seconds = 0.0


MAX_WAIT_SECONDS = 1.0
"""Of one wait for a child."""


def message_descriptor() -> int:
    """In a child: the write end of the pipe for its messages. Processes that it starts in turn do not inherit it."""
    return int(sys.argv[1])


def confine(memory_bytes: int, *, dies_with_thread: bool = True) -> None:
    """In a child: leave Ctrl-C to the parent, leave no core file, and take no more memory than this from now on.

    Args:
        memory_bytes: Address space beside what is taken already: with many cores, libraries reserve gigabytes.
        dies_with_thread: Die with the thread that has started this process; on Linux only.
    """
    if dies_with_thread:
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    taken = 0
    with suppress(OSError, ValueError):
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory_bytes, taken + memory_bytes))


_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Line:
    """Base of what goes to a process, or comes from it, as a line of JSON."""

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """What `to_line` wrote."""
        return cls(**json.loads(line))


class ProtocolError(Exception):
    """A child has sent something that is no message."""

    def __init__(self, line: bytes) -> None:
        super().__init__(f"a message of a child process cannot be read: {line[:80]!r}")
