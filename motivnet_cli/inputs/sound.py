"""The sound of a video as a file of its own, taken out by a process that may be lost.

What is written is read by the muxer of this process, packet by packet.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import av

from motivnet_cli.children import ProtocolError
from motivnet_cli.config import INPUT_TIMEOUT_SECONDS
from motivnet_cli.inputs.decoder_process import DecoderProcess, stalled
from motivnet_cli.inputs.video_protocol import SoundReport, SoundRequest, from_line
from motivnet_cli.records import Problem, Stopped, never

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

MEMORY_BYTES = 1 << 30
"""What the process may take."""


class Sound:
    """The sound of a part of a video, to be put into an MP4 beside its pictures.

    Args:
        file: An MP4 with the sound alone; None for none.
        report: What became of it.
    """

    def __init__(self, file: IO[bytes] | None, report: SoundReport) -> None:
        self.report = report
        self._source: InputContainer | None = None if file is None else av.open(file, "r")
        self._packets: Iterator[Packet[AudioStream] | None] = iter(())

    def begin(self, container: OutputContainer) -> None:
        """Give a container that is about to be written a stream for the sound, if there is any."""
        if self._source is not None:
            self._packets = self._written(self._source, container)
            next(self._packets)

    def put_until(self, time_s: float) -> None:
        """Write what is heard before this time, if it was not written before."""
        for packet in self._packets:
            if packet and packet.pts is not None and packet.time_base and packet.pts * packet.time_base > time_s:
                break

    def close(self) -> None:
        if self._source is not None:
            self._source.close()

    @staticmethod
    def _written(source: InputContainer, container: OutputContainer) -> Iterator[Packet[AudioStream] | None]:
        """Each packet once it is written; first None, when the container has got its stream."""
        stream = source.streams.audio[0]
        target = container.add_stream_from_template(stream)
        yield None
        for packet in source.demux(stream):
            if packet.size:
                packet.stream = target
                container.mux(packet)
                yield packet


@contextmanager
def sound_of(path: str, *, start_s: float, end_s: float | None, stop: Callable[[], bool] = never) -> Iterator[Sound]:
    """The sound of a part of a video, in seconds from the start of the file; kept in a temporary file meanwhile.

    Raises:
        Stopped: `stop` has said so.
    """
    with tempfile.TemporaryFile(prefix="motivnet-sound-") as file:
        report = _extract(path, file, start_s, end_s, stop)
        file.seek(0)
        sound = Sound(file if report.has_sound else None, report)
        try:
            yield sound
        finally:
            sound.close()


def _extract(path: str, file: IO[bytes], start_s: float, end_s: float | None, stop: Callable[[], bool]) -> SoundReport:
    request = SoundRequest(
        path=str(Path(path).absolute()),
        start_s=start_s,
        end_s=end_s,
        memory_bytes=MEMORY_BYTES,
        shared=file.fileno(),
    )
    worker = DecoderProcess("motivnet_cli.inputs.sound_worker", descriptors=[file.fileno()])
    try:
        worker.give(request.to_line())
        for message in map(from_line, worker.lines(INPUT_TIMEOUT_SECONDS)):
            if stop():
                raise Stopped
            if isinstance(message, SoundReport):
                return message
        problem = worker.death()
    except ProtocolError as error:
        problem = Problem("decoder_crash", str(error))
    except TimeoutError:
        problem = stalled(INPUT_TIMEOUT_SECONDS)
    finally:
        worker.close()
    return SoundReport(video_offset_s=None, has_sound=False, problem=problem)
