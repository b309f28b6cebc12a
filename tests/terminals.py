"""Pseudo-terminals: in place of stdout in this process, or for a process of its own."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading

from tests.server import GUARD_SECONDS

_SIZES = ("COLUMNS", "LINES")
"""Variables that say how large a terminal is, whatever it is: pytest-xdist sets them."""


class Screen:
    """What was written to the terminal."""

    text = ""

    @property
    def lines(self):
        """Without colours and the blanks at the ends of lines."""
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.text)
        return [line.rstrip() for line in plain.splitlines()]


@contextlib.contextmanager
def terminal(columns=80):
    """Stdout is a terminal of this width within the block; the screen is complete after it."""
    parent, child = _opened(columns)
    screen, pieces = Screen(), []
    sizes = {name: os.environ.pop(name) for name in _SIZES if name in os.environ}
    reader = threading.Thread(target=lambda: pieces.extend(_written(parent)))
    reader.start()
    sys.stdout.flush()
    before, stdout = os.dup(1), sys.stdout
    os.dup2(child, 1)
    os.close(child)
    try:
        with open(1, "w", encoding="utf-8", closefd=False) as sys.stdout:
            yield screen
    finally:
        sys.stdout = stdout
        termios.tcdrain(1)  # macOS throws away what is unread when the last writer leaves
        os.dup2(before, 1)
        os.close(before)
        reader.join()
        os.close(parent)
        os.environ.update(sizes)
        screen.text = b"".join(pieces).decode()


def on_a_terminal(*arguments, env=None, columns=120):
    """What a command that succeeds writes to a terminal of this width, as a process of its own."""
    parent, child = _opened(columns)
    command = [sys.executable, "-m", "motivnet_cli", *map(str, arguments)]
    environ = {name: value for name, value in os.environ.items() if name not in _SIZES}
    process = subprocess.Popen(
        command, stdout=child, stderr=child, env={**environ, "TERM": "xterm-256color", **(env or {})}
    )
    os.close(child)
    written = b"".join(_written(parent))
    os.close(parent)
    assert process.wait(timeout=300) == 0
    return written.decode()


class Dialogue:
    """A process whose stdin and stderr are a terminal, which it is started from, and whose stdout is a pipe."""

    def __init__(self, command, *, env=None):
        self._parent, child = _opened(120)
        self.process = subprocess.Popen(
            command,
            stdin=child,
            stdout=subprocess.PIPE,
            stderr=child,
            env=env,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C is a signal
        )
        os.close(child)
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # a piece may end within a character
        self._guard = threading.Timer(GUARD_SECONDS, self.process.kill)
        self._guard.start()

    def wait_for(self, text):
        """Read what is shown until this is among it."""
        while text not in self.shown:
            piece = next(_written(self._parent), None)
            assert piece, f"it ended without {text!r}:\n{self.shown}"
            self.shown += self._decoder.decode(piece)

    def type(self, keys):
        os.write(self._parent, keys.encode())

    def end(self):
        """Its exit code, and what it wrote to stdout; everything shown is then in `shown`."""
        self.shown += self._decoder.decode(b"".join(_written(self._parent)))
        os.close(self._parent)
        stdout = self.process.communicate()[0].decode()
        self._guard.cancel()
        return self.process.returncode, stdout


def _opened(columns):
    """Both ends of a terminal of this width: ours, and the one to write to."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    return parent, child


def _written(parent):
    """What is written to the other end until all have closed it."""
    with contextlib.suppress(OSError):  # Linux says EIO when the last writer is gone
        while piece := os.read(parent, 4096):
            yield piece
