"""A video with the faces of its rows drawn on every frame, written as H.264 with its sound.

Times are those that players show of the file: they count from its first stream, be that sound or pictures. Frames are
streamed, and so are rows: of what grows with the video, nothing is held but for a table that does not say how it was
sampled.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import av
import numpy as np
from av.video.reformatter import Colorspace
from PIL import Image, ImageOps

from motivnet_cli.config import VideoConfig
from motivnet_cli.errors import ConfigError, InputError, first_line
from motivnet_cli.export.drawing import draw_faces, drawn_faces
from motivnet_cli.inputs.sound import sound_of
from motivnet_cli.inputs.video import VideoReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from av.container import OutputContainer
    from av.video.stream import VideoStream

    from motivnet_cli.export.drawing import DrawnFace
    from motivnet_cli.export.rows import FaceRow
    from motivnet_cli.export.source import FrameSampling
    from motivnet_cli.inputs.sound import Sound
    from motivnet_cli.records import Frame

TIME_BASE = Fraction(1, 90_000)
"""Unit of the frame times that are written, in seconds: it divides the frame times of every usual rate."""
MAX_INTERVALS = 1.5
"""The rows of a sampled frame are shown for so many sampling intervals, at most until the next sampled frame."""
_BT709 = 1
"""Of HD video: what FFmpeg calls its primaries, its transfer and its matrix (ITU-T H.273)."""


@dataclass(frozen=True, slots=True)
class DrawnVideo:
    """What became of a video."""

    frames: int
    """Frames that were written."""
    faces: int
    """Rows that were drawn, each on one frame or more."""
    faces_without_box: int
    """Rows that could not be drawn."""
    remarks: tuple[str, ...]
    """What is missing of the pictures or the sound, in sentences."""


def draw_video(
    path: Path,
    faces: Iterable[FaceRow],
    sampling: FrameSampling | None,
    out: Path,
    *,
    bars: bool,
    start_s: float,
    end_s: float | None,
    max_pixels: int,
    stop: Callable[[], bool],
) -> DrawnVideo:
    """Draw the rows of a video on its frames.

    A row is drawn from its frame on until the next sampled frame, with a face or without, and at most MAX_INTERVALS
    sampling intervals. Where it is not known how frames were sampled, the interval is the median time between those
    with rows.

    Args:
        path: The video.
        faces: Its rows, in the order of time.
        sampling: Which frames were looked at; None where that is not known.
        out: The MP4 to write. An odd width or height grows by one pixel. It has the size of the first frame: others are
            drawn on, then fitted into it.
        start_s: From when on frames are written, in seconds as players show them; it becomes time 0.
        end_s: Until when, exclusive.
        stop: Asked now and then.

    Raises:
        InputError: There is no frame to be had, or the frames are not those that the rows are of.
        ConfigError: The rows are not in the order of time.
        Stopped: `stop` has said so.
        OSError: `out` cannot be written.
    """
    with sound_of(str(path), start_s=start_s, end_s=end_s, stop=stop) as sound:
        offset_s = sound.report.video_offset_s or 0.0
        if end_s is not None and end_s <= offset_s:
            raise InputError("truncated", f"its pictures begin at {offset_s:g} s, after --end {end_s:g}")
        config = VideoConfig(
            fps=None, start_s=max(0.0, start_s - offset_s), end_s=None if end_s is None else end_s - offset_s
        )
        reader = VideoReader(str(path), config, max_pixels=max_pixels, stop=stop)
        shown = _ShownFaces(faces, sampling)
        try:
            num_frames = _write(reader, shown, sound, out, bars=bars, shift_s=offset_s - start_s)
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):  # of the disk
                raise
            raise InputError("unsupported", f"it cannot be written as MP4: {first_line(error)}") from error
    remarks = [] if reader.report.problem is None else [reader.report.problem.message]
    if sound.report.problem is not None:
        times = ", and times count from its first picture" if sound.report.video_offset_s is None else ""
        remarks.append(f"sound is left out{times}: {sound.report.problem.message}")
    return DrawnVideo(num_frames, shown.num_shown, shown.num_without_box, tuple(remarks))


def _write(reader: VideoReader, shown: _ShownFaces, sound: Sound, out: Path, *, bars: bool, shift_s: float) -> int:
    """Write pictures and sound; returns how many frames there were."""
    num_frames = 0
    with av.open(str(out), "w", format="mp4") as container:
        film = _Film(container)
        for frame in reader:
            assert frame.time_s is not None, "frames of videos have times"
            image = Image.fromarray(frame.rgb)
            draw_faces(image, shown.at(frame), bars=bars)
            if not num_frames:
                film.begin(image.size)
                sound.begin(container)
            film.add(image, frame.time_s + shift_s)
            sound.put_until(frame.time_s + shift_s)
            num_frames += 1
        film.end()
        sound.put_until(float("inf"))
    return num_frames


class _Film:
    """The pictures of an MP4."""

    def __init__(self, container: OutputContainer) -> None:
        self._container = container
        stream: VideoStream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "20"})
        stream.pix_fmt, stream.time_base, stream.codec_context.time_base = "yuv420p", TIME_BASE, TIME_BASE
        codec = stream.codec_context  # players take what does not say so for BT.601 or BT.709, by its size
        codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
        self._stream = stream
        self._size = (0, 0)

    def begin(self, size: tuple[int, int]) -> None:
        """Have it show pictures of this width and height."""
        self._size = size
        self._stream.width, self._stream.height = (length + length % 2 for length in size)

    def add(self, image: Image.Image, time_s: float) -> None:
        if image.size != self._size:
            image = ImageOps.pad(image, self._size)
        pixels = np.asarray(image.crop((0, 0, self._stream.width, self._stream.height)))
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709
        )
        picture.pts, picture.time_base = round(time_s / TIME_BASE), TIME_BASE
        self._container.mux(self._stream.encode(picture))

    def end(self) -> None:
        self._container.mux(self._stream.encode())


class _ShownFaces:
    """The faces that each frame shows; to be asked for the frames in the order of time."""

    def __init__(self, faces: Iterable[FaceRow], sampling: FrameSampling | None) -> None:
        if sampling is None:
            faces = sorted(faces, key=lambda face: face.time_s or 0.0)
            times = np.unique([face.time_s for face in faces if face.time_s is not None])
            sampling = {"fps": 1 / float(np.median(np.diff(times))) if len(times) > 1 else 1.0, "end_s": 0.0}
        self._hold = _Hold.of(sampling)
        self._last_s = 0.0
        self._groups = itertools.groupby(faces, key=lambda face: (face.time_s, face.frame))
        self._following = self._next()
        self._rows: Sequence[FaceRow] = ()
        self._current: Sequence[DrawnFace] = ()
        self.num_shown = self.num_without_box = 0

    def at(self, frame: Frame) -> Sequence[DrawnFace]:
        """The faces to draw on this frame.

        Raises:
            InputError: Their frame had another size when they were found.
            ConfigError: They are not in the order of time.
        """
        assert frame.index is not None, "frames of videos are numbered"
        assert frame.time_s is not None, "frames of videos have times"
        while self._following and _time_of(self._following) <= frame.time_s + 1e-6:
            self._rows, self._following = self._following, self._next()
            self._current = ()
            is_late = bool(self._following) and _time_of(self._following) <= frame.time_s + 1e-6
            if not is_late and not self._hold.is_over(self._rows[0], frame):
                self._current, num_without_box = drawn_faces(self._rows)
                self.num_shown += len(self._current)
                self.num_without_box += num_without_box
        if not self._current or self._hold.is_over(self._rows[0], frame):
            return ()
        return self._current if self._fits(frame) else ()

    def _fits(self, frame: Frame) -> bool:
        """Whether the frame has the size of that of the rows, which it must have where it is that one."""
        size = self._rows[0].picture_size
        found = frame.rgb.shape[1], frame.rgb.shape[0]
        if size in (None, found):
            return True
        if frame.index == self._rows[0].frame:
            raise InputError(
                "changed",
                f"frame {frame.index} had {size[0]} x {size[1]} pixels in the run and has {found[0]} x {found[1]} now",
            )
        return False

    def _next(self) -> Sequence[FaceRow]:
        """The rows of the next frame with rows; none at the end."""
        for (time_s, _), group in self._groups:
            rows = list(group)
            if time_s is None:
                self.num_without_box += len(rows)
                continue
            if time_s < self._last_s:
                raise ConfigError(
                    f"the faces of {rows[0].input!r} are not in the order of time ({time_s:g} s after "
                    f"{self._last_s:g} s); sort the table by input and frame, or give the file that annotate wrote"
                )
            self._last_s = time_s
            return rows
        return ()


def _time_of(rows: Sequence[FaceRow]) -> float:
    assert rows[0].time_s is not None, "of others no group is made"
    return rows[0].time_s


class _Hold(NamedTuple):
    """How long the rows of a sampled frame are shown."""

    fps: float | None
    """Sampled frames a second; None where frames were counted."""
    every: int
    start_s: float
    end_s: float
    """From then on no frame was sampled."""

    @classmethod
    def of(cls, sampling: FrameSampling) -> _Hold:
        end_s = sampling.get("end_s")
        return cls(
            sampling.get("fps"),
            sampling.get("every") or 1,
            sampling.get("start_s") or 0.0,
            math.inf if end_s is None else end_s,
        )

    def is_over(self, row: FaceRow, frame: Frame) -> bool:
        """Whether a frame is, or follows, the one that was sampled after the row's; or is too late for the row."""
        assert row.time_s is not None, "without a time it is not shown"
        assert frame.time_s is not None, "frames of videos have times"
        assert frame.index is not None, "frames of videos are numbered"
        is_sampled = frame.time_s < self.end_s
        if self.fps:
            intervals = (frame.time_s - row.time_s) * self.fps
            is_next = self._tick(frame.time_s) > self._tick(row.time_s)
        else:
            intervals = (frame.index - (frame.index if row.frame is None else row.frame)) / self.every
            is_next = intervals >= 1
        return intervals >= MAX_INTERVALS or (is_sampled and is_next)

    def _tick(self, time_s: float) -> int:
        """How many sampled frames are due by this time, less one (see `VideoReader`)."""
        return math.floor((time_s - self.start_s) * (self.fps or 1.0) + 1e-6)
