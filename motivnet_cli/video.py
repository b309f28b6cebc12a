"""A video -> its sampled frames with their true times, decoded in a process of its own that may be lost.

The child (`video_worker`) writes frames into a pipe, and the pipe is the bound: beside what the decoder itself
keeps, one frame is in the child and one here, whatever the length of the video. A crash, a hang or a want of memory
ends that one video; frames that came before stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from motivnet_cli.errors import InputError
from motivnet_cli.records import Frame, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motivnet_cli.config import VideoConfig

STALL_SECONDS = 60.0
"""Without a frame or a sign of life for so long, a decoder counts as hung."""
MEMORY_BYTES = 8 << 30
"""Address space of a decoder: 8K video decodes in less, a damaged header that asks for more does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoReport:
    """What became of a video."""

    is_whole: bool
    """False where it broke, or where parts of it could not be decoded."""
    problem: Problem | None
    """Why it is not whole; or, of a whole one, that its container announces another number of frames."""
    num_read: int
    """Frames decoded, sampled or not."""
    width: int | None
    height: int | None


class VideoReader:
    """The sampled frames of a video, in the order of time; iterate once, then ask for the `report`.

    `Frame.index` counts the frames as they are presented, from 0, and `Frame.time_s` is the presentation time less the
    start of the stream, so variable frame rates are true. With `fps`, the frames taken are the first at or after
    start_s + k / fps for k = 0, 1, 2..., each once; with `every`, each N-th from the first at or after start_s on; with
    neither, all. Rotation by metadata is applied.

    Args:
        path: A local file.
        config: Sampling and decoder.
        max_pixels: A video with larger frames is refused.
        skip_frames: So many sampled frames were done before: they are decoded past, and the rest is the same.
        stall_s: As STALL_SECONDS.

    Raises:
        InputError: While iterating, when there is not one frame to be had: the file is no video, or cannot be read.
    """

    def __init__(
        self,
        path: str,
        config: VideoConfig,
        *,
        max_pixels: int,
        skip_frames: int = 0,
        stall_s: float = STALL_SECONDS,
    ) -> None:
        self._request = {
            **asdict(config),
            "path": os.fsencode(path).hex(),
            "max_pixels": max_pixels,
            "skip_frames": skip_frames,
            "memory_bytes": MEMORY_BYTES,
        }
        self._stall_s = stall_s
        self._num_frames = skip_frames
        self._size: tuple[int, int] | None = None
        self.report: VideoReport
        """Whole once the iteration has ended."""

    def __iter__(self) -> Iterator[Frame]:
        child = subprocess.Popen(
            [sys.executable, "-m", "motivnet_cli.video_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield from self._frames(child)
        finally:
            child.kill()
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            child.wait()

    def _frames(self, child: subprocess.Popen[bytes]) -> Iterator[Frame]:
        assert child.stdin, "it was asked for"
        assert child.stdout, "it was asked for"
        with contextlib.suppress(BrokenPipeError):  # a child that died at once is noticed below
            child.stdin.write(json.dumps(self._request).encode())
            child.stdin.close()
        _widen(child.stdout.fileno())
        pipe = _Pipe(child.stdout.fileno(), self._stall_s)
        try:
            while (message := pipe.message()) is not None:
                if "frame" in message:
                    height, width = message["height"], message["width"]
                    rgb = pipe.array(height, width)
                    self._size = width, height
                    self._num_frames += 1
                    yield Frame(rgb, message["frame"], message["time_s"])
                elif "end" in message:
                    self._finish(message["end"])
                    return
            self._give_up(_death_of(child))
        except EOFError:
            self._give_up(_death_of(child))
        except TimeoutError:
            self._give_up(Problem("decoder_stall", f"the decoder said nothing for {self._stall_s:g} s"))

    def _finish(self, end: dict[str, Any]) -> None:
        problem = Problem(*end["problem"]) if end["problem"] else None
        if problem and not end["is_whole"] and not end["num_read"]:
            raise InputError(problem.error_type, problem.message)
        size = self._size or (end["width"], end["height"])
        self.report = VideoReport(
            is_whole=end["is_whole"], problem=problem, num_read=end["num_read"], width=size[0], height=size[1]
        )

    def _give_up(self, problem: Problem) -> None:
        """The decoder is lost: keep what came before."""
        if not self._num_frames:
            raise InputError(problem.error_type, problem.message)
        width, height = self._size or (None, None)
        self.report = VideoReport(
            is_whole=False, problem=problem, num_read=self._num_frames, width=width, height=height
        )


class _Pipe:
    """Messages from the child: a line of JSON, and after that of a frame, its bytes."""

    def __init__(self, descriptor: int, stall_s: float) -> None:
        self._descriptor = descriptor
        self._stall_s = stall_s
        self._buffer = bytearray()

    def message(self) -> dict[str, Any] | None:
        """The next message; None where the child ended without another.

        Raises:
            TimeoutError: Nothing came for too long.
        """
        while b"\n" not in self._buffer:
            piece = self._read(1 << 16)
            if not piece:
                return None
            self._buffer += piece
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        message: dict[str, Any] = json.loads(line)
        return message

    def array(self, height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The bytes of a frame.

        Raises:
            TimeoutError: Nothing came for too long.
            EOFError: The child ended within the frame.
        """
        rgb = np.empty((height, width, 3), np.uint8)
        flat = memoryview(rgb.reshape(-1).data)
        start = min(len(self._buffer), len(flat))
        flat[:start] = self._buffer[:start]
        del self._buffer[:start]
        while start < len(flat):
            self._wait()
            num_bytes = os.readv(self._descriptor, [flat[start:]])
            if not num_bytes:
                raise EOFError
            start += num_bytes
        return rgb

    def _read(self, num_bytes: int) -> bytes:
        self._wait()
        return os.read(self._descriptor, num_bytes)

    def _wait(self) -> None:
        if not select.select([self._descriptor], [], [], self._stall_s)[0]:
            raise TimeoutError


def _widen(pipe: int) -> None:
    """Let a pipe hold a megabyte where the system has that (Linux): fewer turns between the two processes."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)


def _death_of(child: subprocess.Popen[bytes]) -> Problem:
    code = child.wait()
    if code < 0:
        return Problem("decoder_crash", f"the decoder died of {signal.Signals(-code).name}")
    return Problem("decoder_crash", f"the decoder ended with exit code {code}")
