"""A video -> its sampled frames with their true times, decoded in a process of its own that may be lost.

The child (`video_worker`) puts frames into SLOTS places of shared memory without a name, and waits where none is free:
that is the bound, beside what the decoder itself keeps, whatever the length of the video. The kernel frees the memory
however either side ends. A crash, a hang or a want of memory ends that one video; frames that came before stay.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from motivnet_cli.errors import InputError
from motivnet_cli.records import Frame, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motivnet_cli.config import VideoConfig

SLOTS = 2
"""Frames between the decoder and its consumer: one that is being filled, one that is being taken."""
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
        shared = _shared_memory()
        child = subprocess.Popen(
            [sys.executable, "-m", "motivnet_cli.inputs.video_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[shared],
        )
        try:
            yield from self._frames(child, shared)
        finally:
            child.kill()
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            child.wait()
            os.close(shared)

    def _frames(self, child: subprocess.Popen[bytes], shared: int) -> Iterator[Frame]:
        assert child.stdin, "it was asked for"
        assert child.stdout, "it was asked for"
        _tell(child, json.dumps({**self._request, "shared": shared, "num_slots": SLOTS}).encode() + b"\n")
        slots = _Slots(shared)
        try:
            for message in _messages(child.stdout.fileno(), self._stall_s):
                if "frame" in message:
                    rgb = slots.copy(message["offset"], message["height"], message["width"])
                    _tell(child, b".")
                    self._size = message["width"], message["height"]
                    self._num_frames += 1
                    yield Frame(rgb, message["frame"], message["time_s"])
                elif "end" in message:
                    self._finish(message["end"])
                    return
            self._give_up(_death_of(child))
        except TimeoutError:
            self._give_up(Problem("decoder_stall", f"the decoder said nothing for {self._stall_s:g} s"))
        finally:
            slots.close()

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


class _Slots:
    """Our view of the shared memory, which grows when the frames do."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None

    def copy(self, offset: int, height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The frame that begins at this byte, as an array of its own."""
        num_bytes = height * width * 3
        if self._map is None or len(self._map) < offset + num_bytes:
            self.close()
            self._map = mmap.mmap(self._descriptor, 0, prot=mmap.PROT_READ)
        rgb = np.empty((height, width, 3), np.uint8)
        rgb[:] = np.frombuffer(self._map, np.uint8, num_bytes, offset).reshape(rgb.shape)
        return rgb

    def close(self) -> None:
        if self._map is not None:
            self._map.close()


def _shared_memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("motivnet-frames", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile(prefix="motivnet-frames-") as file:
        return os.dup(file.fileno())


def _tell(child: subprocess.Popen[bytes], words: bytes) -> None:
    """Write to the child; one that has died is noticed where it is read from."""
    assert child.stdin, "it was asked for"
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(words)
        child.stdin.flush()


def _messages(descriptor: int, stall_s: float) -> Iterator[dict[str, Any]]:
    """What the child says, a line of JSON each, until it ends.

    Raises:
        TimeoutError: Nothing came for too long.
    """
    rest = b""
    while True:
        if not select.select([descriptor], [], [], stall_s)[0]:
            raise TimeoutError
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield json.loads(line)


def _death_of(child: subprocess.Popen[bytes]) -> Problem:
    code = child.wait()
    if code < 0:
        return Problem("decoder_crash", f"the decoder died of {signal.Signals(-code).name}")
    return Problem("decoder_crash", f"the decoder ended with exit code {code}")
