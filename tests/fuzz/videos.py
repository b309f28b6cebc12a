"""Videos: short sound ones in every container, decoded as the process that decodes videos does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzz.boxes import boxes, elements, fields_of_boxes, packets, riff
from tests.fuzz.mutate import raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from random import Random

    from motivnet_cli.inputs.video_protocol import DecodeRequest

MAX_PIXELS = 1_000_000
NAME = "case.video"


def clips(ending: str, *codecs: str) -> Callable[[Path], Iterator[bytes]]:
    """Makes clips of a container, one for each codec that can be encoded here."""

    def seeds(folder: Path) -> Iterator[bytes]:
        from tests.clips import can_encode, make_clip

        for codec in codecs:
            if can_encode(codec):
                path = folder / f"{codec}{ending}"
                make_clip(path, frames=12, size=(64, 48), codec=codec, gop=6, audio_s=0.3 if ending == ".mp4" else 0)
                yield path.read_bytes()

    return seeds


def mp4(rng: Random, data: bytes) -> bytes:
    choice = rng.random()
    if choice < 0.4:
        return boxes(rng, data)
    return fields_of_boxes(rng, data) if choice < 0.8 else raw(rng, data)


def mkv(rng: Random, data: bytes) -> bytes:
    return elements(rng, data) if rng.random() < 0.7 else raw(rng, data)


def avi(rng: Random, data: bytes) -> bytes:
    return riff(rng, data) if rng.random() < 0.7 else raw(rng, data)


def ts(rng: Random, data: bytes) -> bytes:
    return packets(rng, data) if rng.random() < 0.8 else raw(rng, data)


class Slots:
    """What takes the frames in place of the parent's shared memory."""

    def __init__(self) -> None:
        self.num_frames = 0
        self._last = (-1, -1.0)

    def send(self, number: int, time_s: float, rgb: object) -> None:
        height, width, channels = rgb.shape  # type: ignore[attr-defined]
        assert channels == 3, rgb.shape  # type: ignore[attr-defined]
        assert 0 < height * width <= MAX_PIXELS, f"a frame of {width} x {height}"
        assert number > self._last[0], f"frame {number} after {self._last[0]}"
        assert time_s > self._last[1], f"time {time_s} after {self._last[1]}"
        assert 0 <= time_s < 1e12, f"a time of {time_s} s"
        self._last = number, time_s
        self.num_frames += 1


def request_for(path: Path) -> DecodeRequest:
    """Every frame of a video."""
    from motivnet_cli.inputs.video_protocol import DecodeRequest

    return DecodeRequest(
        path=str(path), backend="auto", fps=None, every=1, start_s=0, end_s=None, skip_frames=0, max_pixels=MAX_PIXELS,
        memory_bytes=0, shared=0, num_slots=2,
    )  # fmt: skip


def judge(data: bytes, folder: Path) -> str:
    """What the function of the decoding process makes of a video."""
    import av

    from motivnet_cli.errors import InputError
    from motivnet_cli.inputs import video_worker

    av.logging.set_level(av.logging.PANIC)
    video_worker.send_message = lambda message: None
    path = folder / NAME
    path.write_bytes(data)
    request = request_for(path)
    slots = Slots()
    try:
        report = video_worker.decode(request, slots)
    except InputError as error:
        return error.error_type
    except MemoryError:
        return "out_of_memory"
    if report.problem is not None:
        assert 5 < len(report.problem.message) < 2000, report.problem.message
    assert not report.is_whole or slots.num_frames, "a whole video without a frame"
    return "ok" if report.is_whole else "partial" if slots.num_frames else report.problem.error_type
