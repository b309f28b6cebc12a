"""Makers of video clips for tests, written by real encoders.

Every frame of `make_clip` carries its number in large red and blue blocks that survive compression, so a test knows
which frame it was given; a turned or mirrored frame reads as another number.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from av.stream import Disposition
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SAMPLE_DATA = Path(__file__).parents[1] / "sample_data"

_COLUMNS, _ROWS = 4, 3
_ONE, _ZERO = (225, 60, 40), (30, 60, 205)
_TICKS = Fraction(1, 90_000)
"""Fine enough for the time of every frame of every test to be exact to 1 ms, where the container keeps it."""
_HEAD = (140, 15, 312, 200)
"""The head with some ground around it in sample_data/astronaut.png, x1 y1 x2 y2."""
_FACE_HEIGHT = 122
"""Of the face within the head, in pixels."""

_QUICK = {
    "libx264": {"preset": "veryfast", "crf": "20"},
    "libx265": {"preset": "veryfast", "crf": "20", "x265-params": "log-level=none:pools=1:frame-threads=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
    "libaom-av1": {"usage": "realtime", "cpu-used": "8", "crf": "20"},
    "libsvtav1": {"preset": "12", "crf": "20"},
    "mpeg4": {"qscale": "3", "flags": "+qscale"},
}


def can_encode(codec: str) -> bool:
    """Whether this build of FFmpeg has the encoder."""
    return codec in av.codecs_available


def encode_yuv(
    path: Path,
    frames: Sequence[av.VideoFrame],
    *,
    rate: int,
    crf: int,
    codec: str = "libx264",
    pixel_aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode frames of YUV as they are, `rate` a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, frames[0].format.name
        stream.options = {"preset": "veryfast", "crf": str(crf)} | (options or {})
        stream.codec_context.thread_count = 1
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_clip(
    path: Path,
    *,
    frames: int,
    size: tuple[int, int] = (96, 64),
    fps: float | Fraction = 30,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    times_s: Sequence[float] | None = None,
    gop: int = 12,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    audio_s: float = 0,
    first: int = 0,
) -> list[float]:
    """Write numbered frames; the container is told from the name.

    Args:
        size: Width and height of the upright picture.
        times_s: The time of every frame from the first's, rising, for a variable rate; `fps` is then not used.
        gop: Frames from one key frame to the next.
        rotation: 0, 90, 180 or 270: frames are stored turned clockwise by it, and the metadata of the MP4 turns them
            back.
        first: The number that the first frame says.

    Returns:
        The time of every frame in seconds from the first's.
    """
    times = [float(Fraction(k) / Fraction(fps)) for k in range(frames)] if times_s is None else list(times_s)
    upright = (numbered(first + k, size) for k in range(frames))
    stored = (np.ascontiguousarray(np.rot90(rgb, -rotation // 90)) for rgb in upright)
    write_clip(
        path,
        zip(stored, times, strict=True),
        codec=codec,
        pixel_format=pixel_format,
        fps=fps,
        gop=gop,
        rotation=rotation,
        options=options,
        container_options=container_options,
        audio_s=audio_s,
    )
    return times


def write_clip(
    path: Path,
    pictures: Iterable[tuple[np.ndarray, float]],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    fps: float | Fraction = 30,
    gop: int = 12,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    audio_s: float = 0,
) -> None:
    """Encode pictures, uint8 [H, W, 3] RGB with their times in seconds, all of one size."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.pix_fmt = pixel_format
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        stream.options = _QUICK.get(codec, {}) | (options or {})
        # The bitstreams of two hold the rate, in 16 bits; AVI writes an empty chunk for every tick; raw H.264 has no
        # other times than the rate.
        if codec not in ("mpeg4", "mpeg2video") and path.suffix not in (".avi", ".h264"):
            stream.codec_context.time_base = stream.time_base = _TICKS
        sound = container.add_stream("aac", rate=16_000, layout="mono") if audio_s else None
        ticks = stream.codec_context.time_base or Fraction(1, 30)
        opened = False
        for rgb, time_s in pictures:
            if not opened:
                stream.height, stream.width = rgb.shape[:2]
                opened = True
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = round(Fraction(time_s) / ticks), ticks
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            container.mux(packet for packet in _sound(sound, audio_s))
    if rotation:
        _turn_display(path, rotation)


def write_streams(path: Path, clips: Sequence[Path], *, default: int | None = None) -> None:
    """Write the video streams of several clips into one file, one of them marked as the default, or none."""
    with av.open(str(path), "w") as container:
        streams = []
        for number, clip in enumerate(clips):
            with av.open(str(clip)) as source:
                stream = container.add_stream_from_template(source.streams.video[0])
            stream.disposition = Disposition.default.value if number == default else 0  # PyAV 15 takes numbers only
            streams.append(stream)
        for stream, clip in zip(streams, clips, strict=True):
            with av.open(str(clip)) as source:
                for packet in source.demux(video=0):
                    if packet.dts is not None:
                        packet.stream = stream
                        container.mux(packet)


def _turn_display(path: Path, rotation: int) -> None:
    """Have players turn an MP4's only track counter-clockwise: PyAV before 18 cannot write it."""
    content = path.read_bytes()
    box = content.index(b"tkhd")
    start = content.index(_matrix(0), box)
    path.write_bytes(content[:start] + _matrix(rotation) + content[start + 36 :])


def _matrix(rotation: int) -> bytes:
    """A display matrix as MP4 stores it (ISO/IEC 14496-12): big-endian 16.16, the last column 2.30."""
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[rotation]
    return struct.pack(">9i", cos << 16, -sin << 16, 0, sin << 16, cos << 16, 0, 0, 0, 1 << 30)


def make_sound(path: Path, *, seconds: float = 1) -> None:
    """Write a container with sound only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        container.mux(packet for packet in _sound(stream, seconds))


def numbered(number: int, size: tuple[int, int]) -> np.ndarray:
    """A picture, uint8 [H, W, 3], that says its number, 0 to 4095."""
    width, height = size
    rgb = np.empty((height, width, 3), np.uint8)
    for bit in range(_COLUMNS * _ROWS):
        rows, columns = _cell(bit, width, height)
        rgb[rows, columns] = _ONE if number >> bit & 1 else _ZERO
    return rgb


def read_number(rgb: np.ndarray) -> int:
    """The number that a picture says.

    Raises:
        AssertionError: A block is neither red nor blue: the picture is damaged, or not one of `numbered`.
    """
    height, width = rgb.shape[:2]
    number = 0
    for bit in range(_COLUMNS * _ROWS):
        rows, columns = _cell(bit, width, height)
        block = rgb[rows, columns]
        inner = block[block.shape[0] // 4 : -(block.shape[0] // 4), block.shape[1] // 4 : -(block.shape[1] // 4)]
        red, _, blue = inner.reshape(-1, 3).mean(0)
        assert abs(red - blue) > 60, f"block {bit} has the mean colour {inner.reshape(-1, 3).mean(0)}"
        number |= int(red > blue) << bit
    return number


def face_clip(
    path: Path,
    *,
    seconds: float = 2,
    fps: float = 10,
    size: tuple[int, int] = (320, 240),
    faces: Sequence[tuple[float, float, float]] = ((160, 120, 110),),
    travel: tuple[float, float] = (40, 0),
    ground: tuple[int, int, int] = (70, 110, 150),
    gaps: Sequence[tuple[float, float]] = (),
) -> None:
    """Write the astronaut's head, once for each of `faces`, moving evenly over a plain ground.

    Args:
        faces: Centre x, centre y and height in pixels of each face in the first frame.
        travel: Pixels to the right and down that all of them move until the last frame.
        gaps: From and to, in seconds: only the ground is seen then.
    """
    with Image.open(SAMPLE_DATA / "astronaut.png") as portrait:
        head = portrait.convert("RGB").crop(_HEAD)
    count = max(2, round(seconds * fps))

    def pictures() -> Iterator[tuple[np.ndarray, float]]:
        for k in range(count):
            picture = Image.new("RGB", size, ground)
            if not any(first <= k / fps < last for first, last in gaps):
                for x, y, height in faces:
                    scale = height / _FACE_HEIGHT
                    pasted = head.resize((round(head.width * scale), round(head.height * scale)))
                    x_now, y_now = x + travel[0] * k / (count - 1), y + travel[1] * k / (count - 1)
                    picture.paste(pasted, (round(x_now - pasted.width / 2), round(y_now - pasted.height / 2)))
            yield np.asarray(picture), k / fps

    write_clip(path, pictures(), fps=fps, gop=round(fps * 2))


def pan_over_portrait(path: Path, *, seconds: float = 4, fps: float = 25, size: tuple[int, int] = (320, 240)) -> None:
    """Write sample_data/face.mp4: a slow zoom on the astronaut's portrait that drifts to the side and back.

    python -c "from tests.clips import *; pan_over_portrait(SAMPLE_DATA / 'face.mp4')"
    """
    with Image.open(SAMPLE_DATA / "astronaut.png") as image:
        portrait = image.convert("RGB")
    count = round(seconds * fps)

    def pictures() -> Iterator[tuple[np.ndarray, float]]:
        for k in range(count):
            along = k / (count - 1)
            width = 420 - 180 * along
            height = width * size[1] / size[0]
            centre_x, centre_y = 225 + 30 * np.sin(2 * np.pi * along), 165 - 45 * along
            top = max(0.0, centre_y - height / 2)
            box = (centre_x - width / 2, top, centre_x + width / 2, top + height)
            yield np.asarray(portrait.resize(size, Image.Resampling.BICUBIC, box=box)), k / fps

    write_clip(path, pictures(), fps=fps, gop=50, options={"preset": "slow", "crf": "27"})


def conversation(path: Path, *, seconds: float = 8, fps: float = 15) -> None:
    """Write sample_data/interview.mp4: two portraits side by side, as in a video call, each moving slowly.

    The left one is there from the start and gone after 6 s; the right one comes after 2 s.

    python -c "from tests.clips import *; conversation(SAMPLE_DATA / 'interview.mp4')"
    """
    people = [
        ("grace_hopper.jpg", (256, 230), 330, (0.0, 6.0), 0.6),
        ("astronaut.png", (225, 145), 230, (2.0, seconds), 0.0),
    ]
    portraits = []
    for name, *_ in people:
        with Image.open(SAMPLE_DATA / name) as image:
            portraits.append(image.convert("RGB"))

    def pictures() -> Iterator[tuple[np.ndarray, float]]:
        for k in range(round(seconds * fps)):
            picture = Image.new("RGB", (640, 360), (38, 42, 48))
            for left, portrait, (_, (x, y), width, (first, last), phase) in zip(
                (0, 320), portraits, people, strict=True
            ):
                if first <= k / fps < last:
                    angle = 2 * np.pi * (k / fps / 5 + phase)
                    wide = width * (1 + 0.06 * np.cos(angle)) / 2
                    centre_x, top = x + 12 * np.sin(angle), max(0, y - wide * 1.1 + 8 * np.cos(angle))
                    box = (max(0, centre_x - wide), top, centre_x + wide, top + wide * 2 * 350 / 310)
                    picture.paste(portrait.resize((310, 350), Image.Resampling.BICUBIC, box=box), (left + 5, 5))
            yield np.asarray(picture), k / fps

    write_clip(path, pictures(), fps=fps, gop=50, options={"preset": "slow", "crf": "32"})


def _cell(bit: int, width: int, height: int) -> tuple[slice, slice]:
    row, column = divmod(bit, _COLUMNS)
    return (
        slice(row * height // _ROWS, (row + 1) * height // _ROWS),
        slice(column * width // _COLUMNS, (column + 1) * width // _COLUMNS),
    )


def _sound(stream: av.AudioStream, seconds: float) -> Iterator[av.Packet]:
    tone = np.sin(np.arange(round(16_000 * seconds)) * 0.2).astype(np.float32)
    for first in range(0, len(tone), 1024):
        frame = av.AudioFrame.from_ndarray(tone[None, first : first + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, first, Fraction(1, 16_000)
        yield from stream.encode(frame)
    yield from stream.encode(None)
