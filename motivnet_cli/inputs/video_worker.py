"""The process that decodes one video: a request on stdin, frames into shared memory, and messages of what they are.

It imports no more than it needs, so that it starts in a fraction of a second. FFmpeg is told to be silent: the last
line that is printed is taken for the reason if the process dies.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import av
import numpy as np

from motivnet_cli.children import confine, message_descriptor
from motivnet_cli.errors import InputError
from motivnet_cli.inputs.blocks import Blocks
from motivnet_cli.inputs.h264 import ReferenceCount
from motivnet_cli.inputs.matroska import Structure
from motivnet_cli.inputs.transport_stream import has_clean_joints_only, is_cut_off
from motivnet_cli.inputs.video_container import Content, opened_video, reason_of, time_offset_s, video_of, video_streams
from motivnet_cli.inputs.video_errors import DecoderErrors
from motivnet_cli.inputs.video_picture import Presentations
from motivnet_cli.inputs.video_protocol import Alive, DecodeRequest, SharedFrame, VideoReport, to_line
from motivnet_cli.inputs.video_timeline import Timeline
from motivnet_cli.records import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from motivnet_cli.errors import ErrorType
    from motivnet_cli.inputs.video_picture import Presentation
    from motivnet_cli.inputs.video_protocol import Message

_AVFMT_NOTIMESTAMPS = 0x80
_BLOCK_HEAD_BYTES = 32
"""No less than the head of a block and that of the next."""
_PACED_CODECS = {"mpeg1video", "mpeg2video"}
"""Of these, a program stream holds every frame, and says how long each stands."""
_NAMED_STREAMS = 5
"""Of those that are not read; a damaged file can have hundreds."""
BEAT_SECONDS = 1.0
"""Between two signs of life while nothing is sampled."""
DECORD_CODECS = {"h264", "vp8", "vp9", "mpeg4"}
DECORD_WINDOW = 16
"""Frames that decord is asked for at once; then it is told to let go of what it read ahead."""
MISSING_TOLERANCE_S = 1.0
"""A video that ends more than this before its announced end counts as cut short."""


class Sampler:
    """Which frames are taken, by number and time; see `VideoReader` for the rules."""

    def __init__(self, *, fps: float | None, every: int | None, start_s: float, end_s: float | None) -> None:
        self._fps, self._every = fps, every
        self._start, self._end = start_s, end_s
        self._due = 0
        self._origin: int | None = None

    def is_over(self, time_s: float) -> bool:
        return self._end is not None and time_s >= self._end

    def takes(self, number: int, time_s: float) -> bool:
        """Whether this frame is taken; to be asked once for each, in the order of time."""
        if time_s < self._start - 1e-9:
            return False
        if self._origin is None:
            self._origin = number
        if self._every:
            return (number - self._origin) % self._every == 0
        if not self._fps:
            return True
        ticks = (time_s - self._start) * self._fps + 1e-6
        if ticks < self._due:
            return False
        self._due = int(ticks) + 1
        return True


class Slots:
    """Frames on their way to the parent, which answers each that it has taken with a byte on stdin."""

    def __init__(self, descriptor: int, num_slots: int) -> None:
        self._descriptor = descriptor
        self._num_slots = num_slots
        self._map: mmap.mmap | None = None
        self._slot_bytes = 0
        self._free: list[int] = []
        self._lent: list[int] = []

    def send(self, number: int, time_s: float, rgb: NDArray[np.uint8]) -> None:
        """Hand over a frame, uint8 [H, W, 3]; waits until a slot is free."""
        if rgb.nbytes > self._slot_bytes:
            self._grow(rgb.nbytes)
        while not self._free:
            self._take_back()
        offset = self._free.pop(0)
        self._lent.append(offset)
        assert self._map, "it has grown"
        np.frombuffer(self._map, np.uint8, rgb.nbytes, offset).reshape(rgb.shape)[:] = rgb
        send_message(SharedFrame(number, time_s, rgb.shape[0], rgb.shape[1], offset))

    def _grow(self, num_bytes: int) -> None:
        while self._lent:
            self._take_back()
        self._slot_bytes = num_bytes
        self._free = [slot * num_bytes for slot in range(self._num_slots)]
        os.ftruncate(self._descriptor, self._num_slots * num_bytes)
        self._map = mmap.mmap(self._descriptor, 0)

    def _take_back(self) -> None:
        """Wait for the oldest: the parent takes frames in their order."""
        if not sys.stdin.buffer.read(1):
            sys.exit(0)  # the parent is gone
        self._free.append(self._lent.pop(0))


def main() -> None:
    request = DecodeRequest.from_line(sys.stdin.buffer.readline())
    confine(request.memory_bytes)
    av.logging.set_level(av.logging.PANIC)
    gc.freeze()  # what is imported stays: frames are looked for among the rest (see Presentations)
    try:
        report = decode(request, Slots(request.shared, request.num_slots))
    except InputError as error:
        report = VideoReport(is_whole=False, problem=Problem.of(error))
    except MemoryError:
        report = VideoReport(is_whole=False, problem=Problem("out_of_memory", "the decoder had no memory left"))
    send_message(report)


def decode(request: DecodeRequest, slots: Slots) -> VideoReport:
    """Send the sampled frames.

    Raises:
        InputError: The file gives no frames at all, or none in the wanted part.
    """
    pulse = Pulse()
    content = Content(request.path, Blocks(request.blocks, beat=pulse.beat) if request.blocks else None)
    with opened_video(content) as container:
        stream = video_of(container)
        if stream.width * stream.height > request.max_pixels:
            pixels = f"{stream.width} x {stream.height} pixels a frame"
            raise InputError(
                "too_large", f"{pixels}, and --max-pixels allows {request.max_pixels}: raise it, or shrink the video"
            )
        if request.backend == "decord":
            _check_for_decord(container, stream, max_pixels=request.max_pixels)
            report = _decode_by_decord(request, slots)
            return replace(report, time_offset_s=time_offset_s(container, stream))
        return _decode_by_pyav(_Reading(content, container, stream, pulse), request, slots)


def _sampler(request: DecodeRequest) -> Sampler:
    return Sampler(fps=request.fps, every=request.every, start_s=request.start_s, end_s=request.end_s)


def _decode_by_pyav(reading: _Reading, request: DecodeRequest, slots: Slots) -> VideoReport:
    """Decode here, convert and hand over in a second thread: FFmpeg does not hold Python's lock in either."""
    sampler = _sampler(request)
    presentations = Presentations(reading.stream, max_pixels=request.max_pixels)
    num_taken = 0
    last_s = 0.0
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as sender:
        for number, time_s, frame in reading.frames():
            last_s = time_s
            if sampler.is_over(time_s):
                reading.was_ended = True
                break
            if not sampler.takes(number, time_s):
                continue
            num_taken += 1
            try:
                presentation = presentations.of(frame)
            except InputError as error:
                if num_taken == 1:
                    raise
                reading.failure = Problem(error.error_type, f"frame {number}: {error}")
                break
            reading.size = reading.size or presentation.shown_size
            if num_taken <= request.skip_frames:
                continue
            pending.append(sender.submit(_convert_and_send, slots, number, time_s, frame, presentation))
            if len(pending) > 1:
                pending.popleft().result()
        for conversion in pending:
            conversion.result()
    report = reading.report()
    if report.num_read and not num_taken:
        raise _outside(None if reading.was_ended else last_s, report.problem)
    return report


def _outside(last_s: float | None, problem: Problem | None = None) -> InputError:
    """That no frame is in the wanted part; where the last one was reached, its time; and what else is wrong."""
    message = "no frame is in the part that --start and --end ask for"
    if last_s is not None:
        message += f": the last one is {last_s:g} s after the first"
    return InputError("no_frame_in_part", f"{message}; {problem.message}" if problem else message)


def _convert_and_send(slots: Slots, number: int, time_s: float, frame: VideoFrame, presentation: Presentation) -> None:
    slots.send(number, time_s, presentation.rgb_of(frame))


class Pulse:
    """Says now and then that packets come, of whatever stream: an hour of sound may stand before the first picture."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def beat(self) -> None:
        if time.monotonic() - self._last > BEAT_SECONDS:
            self._last = time.monotonic()
            send_message(Alive())


class _Reading:
    """One pass over the packets of a video; what does not decode is passed over and counted.

    After damage, frames are left out up to the next key frame: decoders patch them from what is there, mostly without
    saying so, and a patched frame is not what was filmed.
    """

    def __init__(self, content: Content, container: InputContainer, stream: VideoStream, pulse: Pulse) -> None:
        self._content = content
        self._container = container
        self.stream = stream
        self.failure: Problem | None = None
        """Why the rest was not read."""
        self.was_ended = False
        """Whether the end of the wanted part came before that of the video."""
        self.size: tuple[int, int] | None = None
        """Width and height of the first sampled frame, as it is shown."""
        self._timeline = Timeline(
            stream,
            has_times=_has_times(container),
            is_cut_off=container.format.name == "mpegts" and is_cut_off(content.open, stream.id),
            lacks_reference=self._lacks_reference,
            is_paced=container.format.name == "mpeg" and stream.codec_context.name in _PACED_CODECS,
            has_clean_joints_only=self._has_clean_joints_only if container.format.name == "mpegts" else None,
        )
        self._structure = Structure(content.open) if "matroska" in container.format.name else None
        codec = stream.codec_context
        self._references = ReferenceCount(codec.extradata) if codec.name == "h264" else None
        self._errors = DecoderErrors(stream)
        self._num_bad_packets = 0
        self._others_end_s = 0.0
        self._pulse = pulse

    def frames(self) -> Iterator[tuple[int, float, VideoFrame]]:
        """Number, time in seconds, and frame, in the order of presentation."""
        for packet in self._timeline.packets(self._packets()):
            if not packet.size:  # asks the decoder for what it still holds
                self._timeline.ends_early |= bool(self.failure) or self._ends_early()
            self._errors.begin()
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self._num_bad_packets += 1
                self._timeline.lose(packet)
                continue
            if self._errors.tells_of_patches(packet):
                self._timeline.suspect(packet)
            for frame in frames:
                try:
                    placed = self._timeline.place(frame)
                except InputError as error:
                    self.failure = Problem(error.error_type, f"its frames cannot be put in order: {error}")
                    return
                self._errors.note(frame, placed)
                if placed:
                    yield placed.number, placed.time_s, frame

    def _has_clean_joints_only(self, start: int, end: int) -> bool:
        return has_clean_joints_only(self._content.open, self.stream.id, start, end)

    def _lacks_reference(self, packet: Packet[VideoStream]) -> bool:
        end = (packet.pos or 0) + packet.size + _BLOCK_HEAD_BYTES  # damage may begin in the packet before the break
        is_at_break = self._structure is not None and self._structure.breaks_before(end)
        # Another description of the stream begins, which PyAV does not give (and before version 15.1 does not tell).
        if hasattr(packet, "has_sidedata") and packet.has_sidedata("new_extradata"):
            self._references = None
        skips = self._references is not None and self._references.skips(bytes(packet), is_key=packet.is_keyframe)
        return skips or is_at_break

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Those of the stream; of the others, only their end is noted."""
        try:
            for packet in self._container.demux():
                self._pulse.beat()
                if packet.stream.index == self.stream.index:
                    yield cast("Packet[VideoStream]", packet)
                elif packet.pts is not None and packet.time_base:
                    end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    self._others_end_s = max(self._others_end_s, end_s)
        except (av.error.FFmpegError, UnicodeDecodeError) as error:
            message = f"the file breaks off after {self._timeline.num_packets} frames: {reason_of(error)}"
            self.failure = Problem("truncated", message)

    def report(self) -> VideoReport:
        """What the pass came to."""
        if not self._timeline.num_placed:
            problem = self.failure or Problem("damaged", "not one sound frame could be decoded")
            return self._report(problem, is_whole=False)
        if self.failure:
            return self._report(self.failure, is_whole=False)
        remarks = list(self._remarks())
        if damage := self._damage():
            message = "; ".join([damage.message, *(remark.message for remark in remarks)])
            return self._report(Problem(damage.error_type, message), is_whole=False)
        if remarks:
            message = "; ".join(remark.message for remark in remarks)
            return self._report(Problem(remarks[0].error_type, message), is_whole=True)
        return self._report(None, is_whole=True)

    def _report(self, problem: Problem | None, *, is_whole: bool) -> VideoReport:
        width, height = self.size or (self.stream.width, self.stream.height)
        return VideoReport(
            is_whole=is_whole,
            problem=problem,
            num_read=self._timeline.num_placed,
            width=width,
            height=height,
            time_offset_s=time_offset_s(self._container, self.stream),
        )

    def _remarks(self) -> Iterator[Problem]:
        """What is to be said about a video that was read whole."""
        timeline = self._timeline
        if times := timeline.remark():
            yield Problem("time_restarts", times)
        if others := [s for s in video_streams(self._container) if s.index != self.stream.index]:
            sizes = ", ".join(f"{s.width} x {s.height}" for s in others[:_NAMED_STREAMS])
            if len(others) > _NAMED_STREAMS:
                sizes += f" and {len(others) - _NAMED_STREAMS} more"
            read = f"{self.stream.width} x {self.stream.height}"
            yield Problem("other_streams", f"of {len(others) + 1} video streams one was read ({read}), not {sizes}")
        if timeline.num_leading and not timeline.begins_broken:
            yield Problem("frame_count_mismatch", f"it begins {timeline.num_leading} frames before its first key frame")
        num_found = timeline.num_decoded + timeline.num_lost
        # A packet of VP8 may hold a picture that is not to be shown.
        if num_found < timeline.num_packets and not self.was_ended and self.stream.codec_context.name != "vp8":
            message = f"of {timeline.num_packets} frames in the file the decoder gave {timeline.num_decoded}"
            yield Problem("frame_count_mismatch", message)
        if errors := self._errors.remark():
            yield errors

    def _damage(self) -> Problem | None:
        """What did not decode or is missing at the end."""
        timeline = self._timeline
        found = []
        if self._num_bad_packets:
            found.append(f"{self._num_bad_packets} packets did not decode")
        if timeline.num_patched:
            found.append(f"{timeline.num_patched} packets did not decode whole")
        if timeline.num_leading and timeline.begins_broken:
            found.append(f"{timeline.num_leading} frames before the first sound key frame were left out")
        if timeline.num_left_out:
            found.append(f"{timeline.num_left_out} frames were damaged and left out")
        if self._structure and self._structure.broken:
            found.append(f"the file is broken at byte {self._structure.broken[0]}")
        if found and not _has_times(self._container):
            found.append("numbers and times behind the damage may be too low, as the file holds no times")
        error_type: ErrorType = "damaged" if found else "truncated"
        missing_s = self._missing_s()
        if missing_s is not None and not self.was_ended:
            found.append(f"it ends {missing_s:.1f} s before its announced end")
        if not found:
            return None
        return Problem(error_type, f"{'; '.join(found)}; {timeline.num_placed} frames were read")

    def _missing_s(self) -> float | None:
        """Seconds that the video itself is known to lack at its end."""
        found = self._missing_and_interval_s()
        if found is None:
            return None
        missing_s, interval_s = found
        lacks_frames = self._timeline.num_packets < self.stream.frames and missing_s > 3 * interval_s
        is_long = missing_s > max(MISSING_TOLERANCE_S, 1.5 * interval_s)
        return missing_s if is_long or lacks_frames else None

    def _ends_early(self) -> bool:
        """Whether a frame or more may be missing at the end: too little to say so, but numbers there are unsure."""
        found = self._missing_and_interval_s()
        return found is not None and found[0] > found[1] / 2

    def _missing_and_interval_s(self) -> tuple[float, float] | None:
        """How much earlier than announced the video ends, and how long a frame stands; None where nothing says it."""
        end_s, stream = self._timeline.end_s, self.stream
        if end_s is None or self._timeline.has_restarts or not stream.time_base:
            return None
        start_s = float((stream.start_time or 0) * stream.time_base)
        interval_s = (end_s - start_s) / max(1, self._timeline.num_packets)
        announced_s = _announced_end_s(self._container, stream)
        if announced_s is None:  # only the file as a whole says how long it is: then all its streams must end early
            end_s = max(end_s, self._others_end_s)
            announced_s = ((self._container.start_time or 0) + (self._container.duration or 0)) / av.time_base
        return announced_s - end_s, interval_s


def _has_times(container: InputContainer) -> bool:
    """Whether packets have presentation times; AVI's are made up, and wrong where frames are reordered."""
    return not (container.format.name == "avi" or container.format.flags & _AVFMT_NOTIMESTAMPS)


def _announced_end_s(container: InputContainer, stream: VideoStream) -> float | None:
    """When a stream ends by what its header says of itself, in seconds of the file's own time."""
    if "matroska" in container.format.name:
        said = next((value for key, value in stream.metadata.items() if key.startswith("DURATION")), "")
        try:
            hours, minutes, seconds = map(float, said.split(":"))
        except ValueError:
            return None
        return hours * 3600 + minutes * 60 + seconds
    if stream.duration and stream.time_base:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    return None


def _check_for_decord(container: InputContainer, stream: VideoStream, *, max_pixels: int) -> None:
    """Refuse what decord reads wrongly without saying so (docs/decisions/0006-video-decoder.md)."""
    reasons = []
    if len(container.streams.video) > 1:
        reasons.append("more than one video stream")
    if not _has_times(container) and stream.codec_context.has_b_frames:
        reasons.append("frames without times in another order")
    codec = stream.codec_context.name
    if codec not in DECORD_CODECS:
        reasons.append(f"codec {codec}")
    if "mpegts" in container.format.name:
        reasons.append("MPEG-TS")
    if stream.start_time not in (0, None):
        reasons.append("a start time that is not 0")
    if not reasons:
        reasons = _packets_against_decord(container, stream, max_pixels=max_pixels)
    if reasons:
        message = f"decord is not right for {' and '.join(reasons)}: use --video-backend pyav or auto"
        raise InputError("unsupported", message)


def _packets_against_decord(container: InputContainer, stream: VideoStream, *, max_pixels: int) -> list[str]:
    """What decord is not right for, as far as packets and key frames show it."""
    stream.codec_context.skip_frame = "NONKEY"
    presentations = Presentations(stream, max_pixels=max_pixels)
    found: set[Presentation] = set()
    has_edits = False
    pulse = Pulse()
    for packet in container.demux(stream):
        pulse.beat()
        has_edits = has_edits or packet.is_discard or (packet.pts or 0) < 0
        with contextlib.suppress(av.error.FFmpegError):
            found |= {presentations.of(frame) for frame in packet.decode()}
    reasons = ["an edit list"] if has_edits else []
    if not all(presentation.is_as_stored for presentation in found):
        reasons.append("frames that are turned, of pixels that are not square, or of wide colours or HDR")
    if len(found) > 1:
        reasons.append("frames whose size or colours change")
    return reasons


def _decode_by_decord(request: DecodeRequest, slots: Slots) -> VideoReport:
    import decord

    try:
        video = decord.VideoReader(request.path, num_threads=1)
        times = video.get_frame_timestamp(np.arange(len(video)))[:, 0]
    except (decord.DECORDError, RuntimeError) as error:
        raise InputError("damaged", f"decord cannot read it: {reason_of(error)}; use --video-backend pyav") from error
    if len(times) == 0 or times[0] < 0 or (np.diff(times) <= 0).any():
        raise InputError("unsupported", "decord gives no increasing times for it: use --video-backend pyav or auto")
    sampler = _sampler(request)
    numbers = [n for n, time_s in enumerate(times) if not sampler.is_over(time_s) and sampler.takes(n, time_s)]
    if not numbers:
        last_s = float(times[-1])
        raise _outside(None if sampler.is_over(last_s) else last_s)
    numbers = numbers[request.skip_frames :]
    for first in range(0, len(numbers), DECORD_WINDOW):
        window = numbers[first : first + DECORD_WINDOW]
        try:
            frames = video.get_batch(window).asnumpy()
        except (decord.DECORDError, RuntimeError) as error:
            message = f"decord stopped at frame {window[0]}: {reason_of(error)}; try --video-backend pyav"
            return VideoReport(is_whole=False, problem=Problem("damaged", message), num_read=len(times))
        video.seek(0)  # else what it decoded ahead stays in memory
        for number, rgb in zip(window, frames, strict=True):
            slots.send(number, float(times[number]), rgb)
    return VideoReport(is_whole=True, problem=None, num_read=len(times))


def send_message(message: Message) -> None:
    """One write each, from either thread; a pipe takes so short a line whole."""
    os.write(message_descriptor(), to_line(message))


if __name__ == "__main__":
    main()
