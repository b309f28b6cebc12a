"""The process that takes the sound out of one video: a request on stdin, an MP4 with the sound alone, and a report.

Sound that every player of MP4 knows is copied as it is; other kinds become AAC, in stereo at most. Times count from the
start of the wanted part, by the clock of players: that begins with the first stream of the file.
"""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av
import numpy as np

from motivnet_cli.children import confine
from motivnet_cli.errors import InputError
from motivnet_cli.inputs.video_container import Content, opened_video, reason_of, time_offset_s, video_of
from motivnet_cli.inputs.video_protocol import SoundReport, SoundRequest
from motivnet_cli.inputs.video_worker import Pulse, send_message
from motivnet_cli.records import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import IO

    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from numpy.typing import NDArray

COPIED_CODECS = {"aac", "mp3", "ac3", "eac3", "alac"}
"""What players of MP4 know."""
BIT_RATE = 160_000
"""Of sound that is encoded anew, in bits a second."""
RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
"""Samples a second that AAC has."""
JITTER_S = 0.03
"""Packets that are so much off their time follow each other all the same; a larger gap is filled with silence."""
RESTART_S = 1.0
"""A time that is so much before the one before it belongs to another recording."""


def main() -> None:
    request = SoundRequest.from_line(sys.stdin.buffer.readline())
    confine(request.memory_bytes)
    av.logging.set_level(av.logging.PANIC)
    try:
        with os.fdopen(os.dup(request.shared), "w+b") as file:
            report = copy_sound(request, file)
    except InputError as error:
        report = SoundReport(video_offset_s=None, has_sound=False, problem=Problem.of(error))
    except MemoryError:
        problem = Problem("out_of_memory", "the decoder of the sound had no memory left")
        report = SoundReport(video_offset_s=None, has_sound=False, problem=problem)
    send_message(report)


def copy_sound(request: SoundRequest, file: IO[bytes]) -> SoundReport:
    """Write the sound to the file.

    Raises:
        InputError: The file is no video that can be opened.
    """
    with opened_video(Content(request.path)) as source:
        video = video_of(source)
        offset_s = time_offset_s(source, video)
        sound = cast("AudioStream | None", source.streams.best("audio", related=video))
        if sound is None or sound.codec_context is None:
            named = any(stream.type == "audio" for stream in source.streams)
            problem = Problem("unsupported", "FFmpeg does not know this kind of sound") if named else None
            return SoundReport(video_offset_s=offset_s, has_sound=False, problem=problem)
        part = _Part(source, sound, request)
        write = _copy if sound.codec_context.name in COPIED_CODECS else _encode
        with av.open(file, "w", format="mp4") as container:
            has_sound = write(part, container)
        return SoundReport(video_offset_s=offset_s, has_sound=has_sound, problem=part.problem)


class _Part:
    """The packets of the wanted part of a stream, up to where they cannot be read any more."""

    def __init__(self, source: InputContainer, stream: AudioStream, request: SoundRequest) -> None:
        self.stream = stream
        self.problem: Problem | None = None
        self._source = source
        self._time_base = Fraction(stream.time_base or Fraction(1, 48_000))
        self.start = Fraction(source.start_time or 0, av.time_base) + Fraction(request.start_s).limit_denominator(10**6)
        """Time 0 of what is written, in seconds by the clock of the stream."""
        self.end_s = None if request.end_s is None else request.end_s - request.start_s

    def packets(self) -> Iterator[tuple[Packet[AudioStream], float]]:
        """Those that are heard in the part and one before, each with its time from the start of the part in seconds."""
        last_s = -float("inf")
        pulse = Pulse()
        try:
            for packet in self._source.demux(self.stream):
                pulse.beat()
                if packet.pts is None or not packet.size:
                    continue
                time_s = float(packet.pts * self._time_base - self.start)
                if time_s < last_s - RESTART_S:
                    self.problem = Problem("time_restarts", f"its times start again after {last_s:.1f} s")
                    return
                last_s = max(last_s, time_s)
                if self.end_s is not None and time_s >= self.end_s:
                    return
                if time_s + 2 * float((packet.duration or 0) * self._time_base) > 0 or time_s >= 0:
                    yield packet, time_s
        except av.error.FFmpegError as error:
            self.problem = Problem("truncated", f"it breaks off after {max(last_s, 0):.1f} s: {reason_of(error)}")

    def shifted(self, packet: Packet[AudioStream]) -> Packet[AudioStream]:
        """The packet with times from the start of the part."""
        shift = round(self.start / self._time_base)
        packet.pts = (packet.pts or 0) - shift
        packet.dts = packet.pts
        return packet

    def decoded(self, packet: Packet[AudioStream] | None) -> Sequence[AudioFrame]:
        """What decodes of a packet, or of what the decoder still holds at the end."""
        try:
            return self.stream.codec_context.decode(packet)
        except EOFError:
            return ()
        except av.error.FFmpegError:
            self.problem = Problem("damaged", "parts of it did not decode, and are silent")
            return ()


def _copy(part: _Part, container: OutputContainer) -> bool:
    """The packets as they are."""
    target = container.add_stream_from_template(part.stream)
    last: int | None = None
    for packet, _ in part.packets():
        packet = part.shifted(packet)
        if last is not None and packet.pts is not None and packet.pts <= last:
            continue  # twice the same time, as damaged files have it
        last = packet.pts
        packet.stream = target
        container.mux(packet)
    return last is not None


def _encode(part: _Part, container: OutputContainer) -> bool:
    """Decoded, put at its times to the sample, and encoded as AAC."""
    codec = part.stream.codec_context
    rate = next((each for each in RATES if each <= codec.sample_rate), RATES[-1])
    layout = "mono" if codec.channels == 1 else "stereo"
    target = container.add_stream("aac", rate=rate, layout=layout)
    target.bit_rate = BIT_RATE
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    line = _SampleLine(rate, lambda samples: _put(target, container, samples, layout, rate, line.num_written))
    for frame in _frames(part):
        for piece in resampler.resample(frame):
            if piece.pts is not None and piece.time_base is not None:
                line.add(
                    piece.to_ndarray().astype(np.float32), float(piece.pts * piece.time_base - part.start), part.end_s
                )
    container.mux(target.encode(None))
    return line.num_written > 0


def _frames(part: _Part) -> Iterator[AudioFrame]:
    """What decodes of the packets."""
    for packet, _ in part.packets():
        yield from part.decoded(packet)
    yield from part.decoded(None)


class _SampleLine:
    """Samples at their places: what is missing is silence, and what was there before comes once."""

    def __init__(self, rate: int, put: Callable[[NDArray[np.float32]], None]) -> None:
        self._rate = rate
        self._put = put
        self.num_written = 0

    def add(self, samples: NDArray[np.float32], time_s: float, end_s: float | None) -> None:
        """Samples [C, n] that begin at a time; those before 0 and from `end_s` on are left out."""
        place = round(time_s * self._rate)
        if self.num_written and abs(place - self.num_written) <= JITTER_S * self._rate:
            place = self.num_written
        if end_s is not None:
            samples = samples[:, : max(0, round(end_s * self._rate) - place)]
        samples = samples[:, max(0, self.num_written - place) :]
        if not samples.shape[1]:
            return
        while (missing := min(place - self.num_written, self._rate)) > 0:
            self._write(np.zeros((samples.shape[0], missing), samples.dtype))
        self._write(samples)

    def _write(self, samples: NDArray[np.float32]) -> None:
        self._put(samples)
        self.num_written += samples.shape[1]


def _put(
    target: AudioStream,
    container: OutputContainer,
    samples: NDArray[np.float32],
    layout: str,
    rate: int,
    place: int,
) -> None:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, place, Fraction(1, rate)
    container.mux(target.encode(frame))


if __name__ == "__main__":
    main()
