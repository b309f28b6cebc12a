"""The process that decodes one video: a request on stdin, frames into shared memory, and what they are to stdout.

It imports neither torch nor anything of ours but what it needs, so that it starts in a fraction of a second and
may crash for itself. Nothing but messages is written to stdout; FFmpeg is told to be silent.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import json
import mmap
import os
import resource
import signal
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

BEAT_SECONDS = 1.0
"""Between two signs of life while nothing is sampled."""
DECORD_CODECS = {"h264", "vp8", "vp9", "mpeg4"}
DECORD_WINDOW = 16
"""Frames that decord is asked for at once; then it is told to let go of what it read ahead."""
LEAST_MISSING_S = 1.0
"""A video that ends so much before its announced end counts as cut short."""
_PR_SET_PDEATHSIG = 1


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The file gives no frames at all: error type and message."""


class Sampler:
    """Which frames are taken, by number and time."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._fps, self._every = request["fps"], request["every"]
        self._start, self._end = request["start_s"], request["end_s"]
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
            return bool((number - self._origin) % self._every == 0)
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

    def send(self, number: int, time_s: float, rgb: np.ndarray[Any, Any]) -> None:
        """Hand a frame over; waits until there is room."""
        if rgb.nbytes > self._slot_bytes:
            self._grow(rgb.nbytes)
        while not self._free:
            self._take_back()
        offset = self._free.pop(0)
        self._lent.append(offset)
        assert self._map, "it has grown"
        np.frombuffer(self._map, np.uint8, rgb.nbytes, offset).reshape(rgb.shape)[:] = rgb
        _send({"frame": number, "time_s": time_s, "height": rgb.shape[0], "width": rgb.shape[1], "offset": offset})

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
    request = json.loads(sys.stdin.buffer.readline())
    request["slots"] = Slots(request["shared"], request["num_slots"])
    _limit(request["memory_bytes"])
    av.logging.set_level(av.logging.PANIC)
    try:
        end = decode(os.fsdecode(bytes.fromhex(request["path"])), request)
    except Refused as refused:
        end = _end(problem=refused.args, is_whole=False)
    except MemoryError:
        end = _end(problem=("out_of_memory", "the decoder had no memory left"), is_whole=False)
    _send({"end": end})


def decode(path: str, request: dict[str, Any]) -> dict[str, Any]:
    """Send the sampled frames; returns the end message."""
    with _opened(path) as container:
        stream = _video_of(container)
        if stream.width * stream.height > request["max_pixels"]:
            pixels = f"{stream.width} x {stream.height} pixels a frame"
            raise Refused("too_large", f"{pixels}, and --max-pixels allows {request['max_pixels']}")
        if request["backend"] == "decord":
            _check_for_decord(container, stream)
            return _decode_by_decord(path, request)
        return _decode_by_pyav(container, stream, request)


def _decode_by_pyav(container: InputContainer, stream: VideoStream, request: dict[str, Any]) -> dict[str, Any]:
    """Decode here, convert and hand over in a second thread: FFmpeg holds no lock of Python's in either."""
    sampler = Sampler(request)
    reading = _Reading(container, stream)
    taken = 0
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as sender:
        for number, time_s, frame in reading.frames():
            if sampler.is_over(time_s):
                reading.was_ended = True
                break
            if not sampler.takes(number, time_s):
                continue
            taken += 1
            if taken <= request["skip_frames"]:
                continue
            if frame.width * frame.height > request["max_pixels"]:
                reading.failure = ("too_large", f"frame {number} has {frame.width} x {frame.height} pixels")
                break
            pending.append(sender.submit(_convert_and_send, request["slots"], number, time_s, frame))
            if len(pending) > 1:
                pending.popleft().result()
        for each in pending:
            each.result()
    return reading.end()


def _convert_and_send(slots: Slots, number: int, time_s: float, frame: VideoFrame) -> None:
    rgb = frame.to_ndarray(format="rgb24")
    slots.send(number, time_s, np.rot90(rgb, frame.rotation // 90) if frame.rotation else rgb)


class _Reading:
    """One pass over the packets of a video; what does not decode is passed over and counted.

    After damage, frames are left out up to the next key frame: decoders patch them from what is there, mostly without
    saying so, and a patched frame is not what was filmed.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container = container
        self._stream = stream
        self.failure: tuple[str, str] | None = None
        self.was_ended = False
        self._num_read = self._num_bad_packets = self._num_left_out = 0
        self._is_tainted = False
        self._last_s = 0.0
        self._waiting: list[int] = []
        """Presentation times of the packets whose frames have not come yet, as a heap."""
        self._num_passed = 0

    def frames(self) -> Iterator[tuple[int, float, VideoFrame]]:
        """Number, time in seconds, and frame, in the order of presentation."""
        base = float(self._stream.time_base or 0)
        start = (self._stream.start_time or 0) * base
        interval = 1 / float(self._stream.average_rate or 25)
        beat = time.monotonic()
        for packet in self._packets():
            if packet.pts is not None and not packet.is_discard:
                heapq.heappush(self._waiting, packet.pts)
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self._num_bad_packets += 1
                self._is_tainted = True
                continue
            for frame in frames:
                time_s = frame.pts * base - start if frame.pts is not None else self._last_s + interval
                number = self._number_of(frame)
                self._num_read += 1
                self._is_tainted = frame.is_corrupt or (self._is_tainted and not frame.key_frame)
                if self._is_tainted:
                    self._num_left_out += 1
                    continue
                self._last_s = time_s
                yield number, time_s, frame
            if time.monotonic() - beat > BEAT_SECONDS:
                beat = time.monotonic()
                _send({"beat": self._num_read})

    def _number_of(self, frame: VideoFrame) -> int:
        """How many frames the container has before this one, those that did not decode among them.

        Decoders give frames in the order of presentation, so every packet that is shown earlier was read by now.
        """
        if frame.pts is None:
            return self._num_read - 1
        while self._waiting and self._waiting[0] < frame.pts:
            heapq.heappop(self._waiting)
            self._num_passed += 1
        return self._num_passed

    def _packets(self) -> Iterator[Any]:
        try:
            yield from self._container.demux(self._stream)
        except (av.error.FFmpegError, UnicodeDecodeError) as error:
            self.failure = ("truncated", f"the file breaks off after frame {self._num_read - 1}: {_words(error)}")

    def end(self) -> dict[str, Any]:
        """What the pass came to."""
        size: dict[str, Any] = {
            "width": self._stream.width,
            "height": self._stream.height,
            "num_read": self._num_read,
        }
        if not self._num_read:
            problem = self.failure or ("damaged", "not one frame could be decoded")
            return _end(problem=problem, is_whole=self.was_ended, **size)
        damage = []
        if self._num_bad_packets:
            damage.append(f"{self._num_bad_packets} packets did not decode")
        if self._num_left_out:
            damage.append(f"{self._num_left_out} frames were damaged and left out")
        if self.failure:
            return _end(problem=self.failure, is_whole=False, **size)
        missing_s = self._missing_s()
        announced = self._stream.frames
        # The last frame of a variable rate may be held for long: frames must be missing too, or much time.
        lacks_frames = self._num_read < announced and missing_s > 3 / float(self._stream.average_rate or 25)
        if (missing_s > LEAST_MISSING_S or lacks_frames) and not self.was_ended:
            damage.append(f"it ends {missing_s:.1f} s before its announced end")
        if damage:
            kind = "damaged" if self._num_bad_packets or self._num_left_out else "truncated"
            return _end(
                problem=(kind, f"{'; '.join(damage)}; {self._num_read} frames were read"), is_whole=False, **size
            )
        if announced and announced != self._num_read and not self.was_ended:
            remark = f"the container announces {announced} frames, and {self._num_read} were read"
            return _end(problem=("frame_count_mismatch", remark), is_whole=True, **size)
        return _end(problem=None, is_whole=True, **size)

    def _missing_s(self) -> float:
        stream = self._stream
        if stream.duration and stream.time_base:
            announced = float(stream.duration * stream.time_base)
        else:
            announced = (self._container.duration or 0) / av.time_base
        return announced - self._last_s


def _check_for_decord(container: InputContainer, stream: VideoStream) -> None:
    """Refuse what decord reads wrongly without saying so (docs/decisions/0006-video-decoder.md)."""
    reasons = []
    codec = stream.codec_context.name
    if codec not in DECORD_CODECS:
        reasons.append(f"codec {codec}")
    if "mpegts" in container.format.name:
        reasons.append("MPEG-TS")
    if stream.start_time not in (0, None):
        reasons.append("a start time that is not 0")
    if not reasons:
        packets = list(container.demux(stream))
        if any(packet.is_discard or (packet.pts or 0) < 0 for packet in packets):
            reasons.append("an edit list")
    if reasons:
        message = f"decord is not right for {' and '.join(reasons)}: use --video-backend pyav or auto"
        raise Refused("unsupported", message)


def _decode_by_decord(path: str, request: dict[str, Any]) -> dict[str, Any]:
    import decord

    try:
        video = decord.VideoReader(path, num_threads=1)
        times = video.get_frame_timestamp(np.arange(len(video)))[:, 0]
    except (decord.DECORDError, RuntimeError) as error:
        raise Refused("damaged", f"decord cannot read it: {_words(error)}; use --video-backend pyav") from error
    if len(times) == 0 or times[0] < 0 or (np.diff(times) <= 0).any():
        raise Refused("unsupported", "decord gives no increasing times for it: use --video-backend pyav or auto")
    sampler = Sampler(request)
    numbers = [n for n, time_s in enumerate(times) if not sampler.is_over(time_s) and sampler.takes(n, time_s)]
    numbers = numbers[request["skip_frames"] :]
    size: dict[str, Any] = {"num_read": len(times)}
    for first in range(0, len(numbers), DECORD_WINDOW):
        window = numbers[first : first + DECORD_WINDOW]
        try:
            frames = video.get_batch(window).asnumpy()
        except (decord.DECORDError, RuntimeError) as error:
            problem = ("damaged", f"decord stopped at frame {window[0]}: {_words(error)}; try --video-backend pyav")
            return _end(problem=problem, is_whole=False, **size)
        video.seek(0)  # else what it decoded ahead stays in memory
        for number, rgb in zip(window, frames, strict=True):
            request["slots"].send(number, float(times[number]), rgb)
    return _end(problem=None, is_whole=True, **size)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[InputContainer]:
    try:
        if not os.path.isfile(path):  # noqa: PTH113 - a pipe or device would block
            raise Refused("not_found" if not os.path.lexists(path) else "not_a_file", "there is no such file to read")
        if os.path.getsize(path) == 0:  # noqa: PTH202
            raise Refused("empty_file", "0 bytes")
        container = av.open(path, metadata_errors="replace")
    except OSError as error:  # FFmpeg's errors are of this kind too
        if isinstance(error, PermissionError):
            raise Refused("permission_denied", "this user may not read it") from error
        raise Refused(
            "not_a_video", f"no video that FFmpeg knows, or one without its index: {_words(error)}"
        ) from error
    except (ValueError, LookupError) as error:
        raise Refused("not_a_video", f"no video that FFmpeg can open: {_words(error)}") from error
    with container:
        yield container


def _video_of(container: InputContainer) -> VideoStream:
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise Refused("no_video_stream", f"it holds no video, only {kinds}")
    # Slices, not frames: frame threads hide errors, and drop the last frames of a file that is cut short.
    streams[0].thread_type = "SLICE"
    return streams[0]


def _limit(memory_bytes: int) -> None:
    """Die with the parent, leave Ctrl-C to it, leave no core file, and take no more than this memory."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _end(
    *,
    problem: Any,  # noqa: ANN401 - a pair of words for JSON, or None
    is_whole: bool,
    num_read: int = 0,
    width: int | None = None,
    height: int | None = None,
) -> dict[str, Any]:
    return {"problem": problem, "is_whole": is_whole, "num_read": num_read, "width": width, "height": height}


def _send(message: dict[str, Any]) -> None:
    """One write each, from either thread; a pipe takes so short a line whole."""
    os.write(sys.stdout.fileno(), json.dumps(message).encode() + b"\n")


def _words(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    main()
