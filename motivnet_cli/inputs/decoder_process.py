"""A process that decodes, seen from the process that asks it: what it says, how it ended, and memory that both see.

It may crash, hang or ask for memory without end: that costs the input that it decodes, and nothing else.
"""

from __future__ import annotations

import mmap
import os
import selectors
import signal
import tempfile
import time
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.children import MAX_WAIT_SECONDS, Child, Silence
from motivnet_cli.records import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_KEPT_PRINTED_BYTES = 4096
"""Of what a decoder prints, the last bytes: they hold the reason if it dies."""
_MAX_REASON_LENGTH = 300


class DecoderProcess:
    """The process: asked through its stdin, heard through its messages and, if it dies, what it prints.

    Args:
        module: What it runs.
        descriptors: What it inherits: of memory that it shares with this process, and where it finds what it decodes.
    """

    def __init__(self, module: str, *, descriptors: Sequence[int]) -> None:
        self._last_printed = b""
        self._process = Child(module, pass_fds=descriptors)

    def give(self, data: bytes) -> None:
        """Write to its stdin."""
        self._process.give(data)

    def lines(self, timeout_s: float) -> Iterator[bytes]:
        """What the process says until it ends, line by line; the time in which nobody asks for one does not count.

        Raises:
            TimeoutError: Nothing came for `timeout_s` seconds.
        """
        rest, silence = b"", Silence()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.messages, selectors.EVENT_READ)
            selector.register(self._process.printed, selectors.EVENT_READ)
            while selector.get_map():
                began = time.monotonic()
                ready = selector.select(min(MAX_WAIT_SECONDS, timeout_s))
                silence.add(time.monotonic() - began)
                for key, _ in ready:
                    piece = os.read(key.fd, 1 << 16)
                    if not piece:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is self._process.printed:
                        self._last_printed = (self._last_printed + piece)[-_KEPT_PRINTED_BYTES:]
                    else:
                        *lines, rest = (rest + piece).split(b"\n")
                        yield from lines
                        silence.end()
                if silence.seconds >= timeout_s:
                    raise TimeoutError

    def death(self) -> Problem:
        """Why it ended before it was done, by the last line that it printed."""
        code = self._process.wait()
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        lines = self._last_printed.decode("utf-8", "replace").split("\n")
        reason = next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "")
        return Problem("decoder_crash", f"the decoder {how}{reason and ': '}{reason[:_MAX_REASON_LENGTH]}")

    def kill(self) -> None:
        """Have it end, whatever it is doing; any thread may."""
        self._process.send_kill()

    def close(self) -> None:
        """End it, and let go of its pipes."""
        self._process.kill()
        self._process.messages.close()
        self._process.printed.close()


def stalled(timeout_s: float) -> Problem:
    """The problem of an input whose decoder was given up after so many seconds."""
    return Problem("decoder_stall", f"the decoder said nothing for {timeout_s:g} s, the time of --input-timeout")


class SharedMemory:
    """Memory without a name, which the kernel frees with its last user; the decoding process makes it large."""

    def __init__(self, name: str) -> None:
        self.descriptor = _unnamed_file(name)
        self._map: mmap.mmap | None = None

    def copy(self, height: int, width: int, offset: int = 0) -> NDArray[np.uint8]:
        """The pixels that begin at a byte, as an array of its own, uint8 [height, width, 3]."""
        num_bytes = height * width * 3
        if self._map is None or len(self._map) < offset + num_bytes:
            self._unmap()
            self._map = mmap.mmap(self.descriptor, 0, prot=mmap.PROT_READ)
        rgb = np.empty((height, width, 3), np.uint8)  # [height, width, 3]
        rgb[:] = np.frombuffer(self._map, np.uint8, num_bytes, offset).reshape(rgb.shape)
        return rgb

    def put(self, data: bytes | memoryview) -> None:
        """Have it hold these bytes and nothing else."""
        write_whole(self.descriptor, data)

    def clear(self) -> None:
        """Give its memory back."""
        self._unmap()
        os.ftruncate(self.descriptor, 0)

    def close(self) -> None:
        self._unmap()
        os.close(self.descriptor)

    def _unmap(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None


def write_whole(descriptor: int, data: bytes | memoryview) -> None:
    """Make a file hold these bytes and nothing else."""
    os.ftruncate(descriptor, len(data))
    write_at(descriptor, data, 0)


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of these bytes at an offset; a single write may take fewer, as where the disk fills up."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.pwrite(descriptor, rest, offset + len(data) - len(rest)) :]


def _unnamed_file(prefix: str) -> int:
    """A descriptor of memory that the kernel frees with its last user; where it has none, of a file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(prefix, os.MFD_CLOEXEC)
    with tempfile.TemporaryFile(prefix=f"{prefix}-") as file:
        return os.dup(file.fileno())
