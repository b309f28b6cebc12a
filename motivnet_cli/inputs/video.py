"""A video -> its sampled frames with their true times, decoded in a process of its own that may be lost.

The process (`video_worker`) puts frames into SLOTS places of shared memory without a name, and waits where none is
free: that bounds the memory, beside what the decoder itself keeps, whatever the length of the video. The kernel frees
it however either side ends. A crash, a hang or a want of memory ends that one video; frames that came before stay.
"""

from __future__ import annotations

import mmap
import os
import selectors
import signal
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.children import Child, ProtocolError
from motivnet_cli.errors import InputError
from motivnet_cli.inputs.video_protocol import DecodeRequest, SharedFrame, VideoReport, from_line
from motivnet_cli.records import Frame, Problem, Stopped, never

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from motivnet_cli.config import VideoConfig
    from motivnet_cli.inputs.video_protocol import Message

SLOTS = 2
"""Frames between the decoder and its consumer: one that is being filled, one that is being taken."""
STALL_SECONDS = 60.0
"""Without a frame or a sign of life for so long, a decoder counts as hung."""
MEMORY_BYTES = 8 << 30
"""Address space of a decoder: 8K video decodes in less, a damaged header that asks for more does not."""
_KEPT_PRINTED_BYTES = 4096
"""Of what a decoder prints, the last bytes: they hold the reason if it dies."""
_MAX_REASON_LENGTH = 300


class VideoReader:
    """The sampled frames of a video, in the order of time; iterate once, then ask for the `report`.

    `Frame.index` counts the frames as they are presented, from 0, and `Frame.time_s` is the presentation time less the
    start of the stream, so variable frame rates are true. With `fps`, the frames taken are the first at or after
    start_s + k / fps for k = 0, 1, 2..., each once; with `every`, each N-th from the first at or after start_s on; with
    neither, all. Frames are upright, of square pixels, in SDR (see `video_picture`).

    Args:
        path: A local file.
        config: Sampling and decoder.
        max_pixels: A video with larger frames is refused.
        skip_frames: So many sampled frames were done before: they are decoded past, and the rest is the same.
        stall_s: As STALL_SECONDS.
        stop: Asked about once a second, also while no frame is taken.

    Raises:
        InputError: While iterating, when there is not one frame to be had: the file is no video, or cannot be read.
        Stopped: While iterating, after `stop` has said so.
    """

    def __init__(
        self,
        path: str,
        config: VideoConfig,
        *,
        max_pixels: int,
        skip_frames: int = 0,
        stall_s: float = STALL_SECONDS,
        stop: Callable[[], bool] = never,
    ) -> None:
        self._path = path
        self._config = config
        self._max_pixels = max_pixels
        self._skip_frames = skip_frames
        self._stall_s = stall_s
        self._stop = stop
        self._num_frames = skip_frames
        self._size: tuple[int, int] | None = None
        self.report: VideoReport
        """Whole once the iteration has ended."""

    def __iter__(self) -> Iterator[Frame]:
        with closing(_Slots()) as slots, closing(_Decoder(self._request(slots.descriptor))) as decoder:
            try:
                for message in decoder.messages(self._stall_s):
                    if self._stop():
                        raise Stopped
                    if isinstance(message, SharedFrame):
                        rgb = slots.copy(message)
                        decoder.give_back_slot()
                        self._size = self._size or (message.width, message.height)
                        self._num_frames += 1
                        yield Frame(rgb, message.number, message.time_s)
                    elif isinstance(message, VideoReport):
                        self._finish(message)
                        return
                self._give_up(decoder.death())
            except ProtocolError as error:
                self._give_up(Problem("decoder_crash", str(error)))
            except TimeoutError:
                self._give_up(Problem("decoder_stall", f"the decoder said nothing for {self._stall_s:g} s"))

    def _request(self, shared: int) -> DecodeRequest:
        config = self._config
        return DecodeRequest(
            path=os.path.abspath(self._path),  # noqa: PTH100 - FFmpeg takes `concat:a.mp4` for no name of a file
            backend=config.backend,
            fps=config.fps,
            every=config.every,
            start_s=config.start_s,
            end_s=config.end_s,
            skip_frames=self._skip_frames,
            max_pixels=self._max_pixels,
            memory_bytes=MEMORY_BYTES,
            shared=shared,
            num_slots=SLOTS,
        )

    def _finish(self, report: VideoReport) -> None:
        problem = report.problem
        if problem and not report.is_whole and not report.num_read:
            raise InputError(problem.error_type, problem.message)
        width, height = (report.width, report.height) if report.width else self._size or (None, None)
        self.report = replace(report, width=width, height=height)

    def _give_up(self, problem: Problem) -> None:
        """The decoder is lost: keep what came before."""
        if not self._num_frames:
            raise InputError(problem.error_type, problem.message)
        width, height = self._size or (None, None)
        self.report = VideoReport(
            is_whole=False, problem=problem, num_read=self._num_frames, width=width, height=height
        )


class _Decoder:
    """The process that decodes: asked through its stdin, heard through its messages and, if it dies, what it prints."""

    def __init__(self, request: DecodeRequest) -> None:
        self._last_printed = b""
        self._process = Child("motivnet_cli.inputs.video_worker", pass_fds=[request.shared])
        self._process.give(request.to_line())

    def give_back_slot(self) -> None:
        """Say that the oldest frame was taken from the shared memory."""
        self._process.give(b".")

    def messages(self, stall_s: float) -> Iterator[Message]:
        """What the process says until it ends.

        Raises:
            TimeoutError: Nothing came for `stall_s` seconds.
            ProtocolError: It said what is no message.
        """
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.messages, selectors.EVENT_READ)
            selector.register(self._process.printed, selectors.EVENT_READ)
            last_heard = time.monotonic()
            while selector.get_map():
                for key, _ in selector.select(max(0.0, last_heard + stall_s - time.monotonic())):
                    piece = os.read(key.fd, 1 << 16)
                    if not piece:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is self._process.printed:
                        self._last_printed = (self._last_printed + piece)[-_KEPT_PRINTED_BYTES:]
                    else:
                        *lines, rest = (rest + piece).split(b"\n")
                        yield from map(from_line, lines)
                        last_heard = time.monotonic()  # what the consumer did in between does not count
                if time.monotonic() - last_heard >= stall_s:
                    raise TimeoutError

    def death(self) -> Problem:
        """Why it ended before it was done, by the last line that it printed."""
        code = self._process.wait()
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        lines = self._last_printed.decode("utf-8", "replace").split("\n")
        reason = next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "")
        return Problem("decoder_crash", f"the decoder {how}{reason and ': '}{reason[:_MAX_REASON_LENGTH]}")

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.messages.close()
        self._process.printed.close()


class _Slots:
    """Shared memory for frames, which the decoding process makes as large as they need."""

    def __init__(self) -> None:
        self.descriptor = _unnamed_file("motivnet-frames")
        self._map: mmap.mmap | None = None

    def copy(self, frame: SharedFrame) -> NDArray[np.uint8]:
        """The frame as an array of its own, uint8 [H, W, 3]."""
        num_bytes = frame.height * frame.width * 3
        if self._map is None or len(self._map) < frame.offset + num_bytes:
            self._unmap()
            self._map = mmap.mmap(self.descriptor, 0, prot=mmap.PROT_READ)
        rgb = np.empty((frame.height, frame.width, 3), np.uint8)  # [H, W, 3]
        rgb[:] = np.frombuffer(self._map, np.uint8, num_bytes, frame.offset).reshape(rgb.shape)
        return rgb

    def close(self) -> None:
        self._unmap()
        os.close(self.descriptor)

    def _unmap(self) -> None:
        if self._map is not None:
            self._map.close()


def _unnamed_file(prefix: str) -> int:
    """A descriptor of memory that the kernel frees with its last user; where it has none, of a file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(prefix, os.MFD_CLOEXEC)
    with tempfile.TemporaryFile(prefix=f"{prefix}-") as file:
        return os.dup(file.fileno())
