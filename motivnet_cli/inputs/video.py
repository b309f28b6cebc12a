"""A video -> its sampled frames with their true times, decoded in a process of its own that may be lost.

The process (`video_worker`) puts frames into SLOTS places of shared memory without a name, and waits where none is
free: that bounds the memory, beside what the decoder itself keeps, whatever the length of the video. The kernel frees
it however either side ends. A crash, a hang or a want of memory ends that one video; frames that came before stay.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli.children import ProtocolError
from motivnet_cli.config import INPUT_TIMEOUT_SECONDS
from motivnet_cli.errors import InputError
from motivnet_cli.inputs.blocks import BlockServer
from motivnet_cli.inputs.decoder_process import DecoderProcess, SharedMemory, stalled
from motivnet_cli.inputs.video_protocol import DecodeRequest, SharedFrame, VideoReport, from_line
from motivnet_cli.records import Frame, Problem, Stopped, never

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motivnet_cli.config import VideoConfig
    from motivnet_cli.inputs.blocks import BlockSource

log = logging.getLogger(__name__)

SLOTS = 2
"""Frames between the decoder and its consumer: one that is being filled, one that is being taken."""
BASE_MEMORY_BYTES, MEMORY_BYTES_A_PIXEL = 1 << 30, 36
"""What a decoder may take, the second for each of `max_pixels`: 8.6 GB by default. 8K video, of 33 million pixels and
16 frames that others refer to, decodes in less; a damaged header that asks for more does not."""


class VideoReader:
    """The sampled frames of a video, in the order of time; iterate once, then ask for the `report`.

    `Frame.index` counts the frames as they are presented, from 0, and `Frame.time_s` is the presentation time less the
    start of the stream, so variable frame rates are true. With `fps`, the frames taken are the first at or after
    start_s + k / fps for k = 0, 1, 2..., each once; with `every`, each N-th from the first at or after start_s on; with
    neither, all. Frames are upright, of square pixels, in SDR (see `video_picture`).

    Args:
        source: A local file, or one of which blocks are read.
        config: Sampling and decoder.
        max_pixels: A video with larger frames is refused.
        skip_frames: So many sampled frames were done before: they are decoded past, and the rest is the same.
        timeout_s: Without a frame or a sign of life for so many seconds, the decoder counts as hung.
        stop: Asked about once a second, also while no frame is taken.

    Raises:
        InputError: While iterating, when there is not one frame to be had: the file is no video, or cannot be read.
        Stopped: While iterating, after `stop` has said so.
    """

    def __init__(
        self,
        source: str | BlockSource,
        config: VideoConfig,
        *,
        max_pixels: int,
        skip_frames: int = 0,
        timeout_s: float = INPUT_TIMEOUT_SECONDS,
        stop: Callable[[], bool] = never,
    ) -> None:
        self._source = source
        self._config = config
        self._max_pixels = max_pixels
        self._skip_frames = skip_frames
        self._timeout_s = timeout_s
        self._stop = stop
        self._num_frames = skip_frames
        self._size: tuple[int, int] | None = None
        self.report: VideoReport
        """Whole once the iteration has ended."""

    def __iter__(self) -> Iterator[Frame]:
        with ExitStack() as stack:
            slots = stack.enter_context(closing(SharedMemory("motivnet-frames")))
            source = self._source
            blocks = None if isinstance(source, str) else stack.enter_context(closing(BlockServer(source)))
            request = self._request(slots, blocks)
            log.debug("decoding %s in a process of its own, by %s", request.path, request.backend)
            inherited = [slots.descriptor, *([blocks.address.descriptor] if blocks else [])]
            decoder = stack.enter_context(
                closing(DecoderProcess("motivnet_cli.inputs.video_worker", descriptors=inherited))
            )
            decoder.give(request.to_line())
            if blocks:
                blocks.begin()
            yield from self._frames(decoder, slots, blocks)

    def _frames(self, decoder: DecoderProcess, slots: SharedMemory, blocks: BlockServer | None) -> Iterator[Frame]:
        try:
            for message in map(from_line, decoder.lines(self._timeout_s)):
                if self._stop():
                    raise Stopped
                if isinstance(message, SharedFrame):
                    rgb = slots.copy(message.height, message.width, message.offset)
                    decoder.give(b".")  # its place can be used again
                    self._size = self._size or (message.width, message.height)
                    self._num_frames += 1
                    yield Frame(rgb, message.number, message.time_s)
                elif isinstance(message, VideoReport):
                    if problem := _problem_of(blocks):
                        message = replace(message, is_whole=False, problem=problem)
                    self._finish(message)
                    return
            self._give_up(_problem_of(blocks) or decoder.death())
        except ProtocolError as error:
            self._give_up(Problem("decoder_crash", str(error)))
        except TimeoutError:
            self._give_up(stalled(self._timeout_s))

    def _request(self, slots: SharedMemory, blocks: BlockServer | None) -> DecodeRequest:
        config, source = self._config, self._source
        return DecodeRequest(
            path=str(Path(source).absolute()) if isinstance(source, str) else source.name,
            backend=config.backend,
            fps=config.fps,
            every=config.every,
            start_s=config.start_s,
            end_s=config.end_s,
            skip_frames=self._skip_frames,
            max_pixels=self._max_pixels,
            memory_bytes=BASE_MEMORY_BYTES + MEMORY_BYTES_A_PIXEL * self._max_pixels,
            shared=slots.descriptor,
            num_slots=SLOTS,
            blocks=blocks.address if blocks else None,
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


def _problem_of(blocks: BlockServer | None) -> Problem | None:
    """Why blocks of a file could not be read, if they could not."""
    if blocks is None or blocks.failure is None:
        return None
    if isinstance(blocks.failure, InputError):
        return Problem.of(blocks.failure)
    raise blocks.failure
