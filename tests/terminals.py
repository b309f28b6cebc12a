"""A terminal for what is printed in this process: a pseudo-terminal in place of stdout."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading


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
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    screen, pieces = Screen(), []

    def read():
        with contextlib.suppress(OSError):  # Linux says EIO when the last writer is gone
            while piece := os.read(parent, 4096):
                pieces.append(piece)

    reader = threading.Thread(target=read)
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
        os.dup2(before, 1)
        os.close(before)
        reader.join()
        os.close(parent)
        screen.text = b"".join(pieces).decode()
