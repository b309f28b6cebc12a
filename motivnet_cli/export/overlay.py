"""A video with its predictions drawn on it: boxes, tracks, emotions.

Frames are streamed one by one; of what grows with the video, only the numbers of its rows are held (no embeddings).
Sound is left out, and frame times are kept. This module decides which rows belong to a frame; how frames are decoded is
known by `inputs.video`, how a face is drawn by `drawing`.
"""

from __future__ import annotations

import math
import posixpath
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import polars as pl
from PIL import Image, ImageOps

from motivnet_cli.config import MAX_PIXELS, VideoConfig
from motivnet_cli.durable import durably, temporary_name
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.export.destination import check_destination
from motivnet_cli.export.drawing import DrawnFace, draw_faces
from motivnet_cli.export.source import Source
from motivnet_cli.inputs.video import VideoReader
from motivnet_cli.inputs.video_worker import Sampler
from motivnet_cli.records import BOX_COLUMNS, EMOTIONS
from motivnet_cli.remote.urls import local_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motivnet_cli.records import Frame

TIME_BASE = Fraction(1, 90_000)
"""Unit of the frame times that are written, in seconds: it divides the frame times of every usual rate."""
MAX_INTERVALS = 1.5
"""The rows of a sampled frame are shown for so many sampling intervals, at most until the next sampled frame."""
_NEEDED = ("input", "frame", "time_s", "face", *BOX_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """What an overlay came to."""

    out: str
    frames: int
    """Frames that were written."""
    rows: int
    """Rows that were drawn, each on one frame or more."""
    rows_without_box: int
    """Rows that could not be drawn."""
    problem: str | None
    """Why the video broke off, in a sentence; None if it did not."""


def write_overlay(
    video: str, predictions: str, out: str, *, overwrite: bool = False, max_pixels: int = MAX_PIXELS
) -> Overlay:
    """Draw a video's rows on every frame of it, and write it as H.264 without sound.

    A row is drawn from its frame on until the next sampled frame, with a face or without, and at most MAX_INTERVALS
    sampling intervals. For a table that does not say how it was sampled, the interval is the median time between its
    frames.

    Args:
        video: A local file. Its rows are those whose `input` is this path or its end, the longest of several; or else
            the only one with its file name.
        predictions: An output of `annotate` that has rows of the video.
        out: A name ending in `.mp4`; it appears whole or not at all. An odd width or height grows by one pixel. It has
            the size of the first frame: others are drawn on, then fitted into it.
        overwrite: Replace a file at `out`.
        max_pixels: A video with larger frames is refused.

    Raises:
        ConfigError: The rows of no input, or of several, fit the video; it cannot be read; `out` exists, is the video
            or the predictions, has another ending, or cannot be written.
    """
    video, predictions, out = map(local_path, (video, predictions, out))
    final = Path(out)
    if final.suffix.lower() != ".mp4":
        raise ConfigError(f"the overlay is an MP4: give --out a name ending in .mp4, got {out!r}")
    if not Path(video).exists():
        raise ConfigError(f"no video at {video!r}: give the file that was annotated")
    check_destination(final, [video, predictions], overwrite=overwrite)
    rows = _VideoRows(video, predictions)
    check_destination(final, rows.files_named, overwrite=overwrite)
    reader = VideoReader(video, VideoConfig(fps=None), max_pixels=max_pixels)
    try:
        with durably(final) as temporary:
            num_frames = _draw_all(reader, rows, temporary)
    except InputError as error:
        raise ConfigError(f"{video!r} cannot be read: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot write {out!r} ({error.strerror or error}); choose another --out") from error
    finally:
        temporary_name(final).unlink(missing_ok=True)
    problem = reader.report.problem
    return Overlay(
        out=out,
        frames=num_frames,
        rows=rows.num_shown,
        rows_without_box=rows.num_without_box,
        problem=problem.message if problem else None,
    )


class _VideoRows:
    """The rows of a video; to be asked for every frame of it, in the order of time."""

    def __init__(self, video: str, predictions: str) -> None:
        source = Source(predictions, embeddings=False)
        self.files_named = source.files_named
        """Files that the run read, none of which is replaced."""
        if missing := [name for name in _NEEDED if name not in source.schema.names]:
            raise ConfigError(f"{predictions!r} has no column {missing[0]!r}: an overlay needs boxes and frames")
        usual = [name for name in EMOTIONS if name in source.classes]
        others = [name for name in source.classes if name not in usual]
        self._classes = [name for name in (*usual, *others) if name in source.schema.names]
        self._table = _table_of(video, source, self._classes)
        times, first_rows = np.unique(self._table["time_s"].to_numpy(), return_index=True)
        self._times: list[float] = times.tolist()
        self._first_rows: list[int] = [*first_rows.tolist(), len(self._table)]
        self._interval = _Interval.of(source, self._times)
        self._sampler = _sampler_of(source)
        self._reached = -1
        """The last of `_times` that is not after the frame asked for."""
        self._current: list[DrawnFace] = []
        self._since = (0, 0.0)
        """Number and time of the frame that `_current` is of."""
        self.num_shown = self.num_without_box = 0

    def at(self, frame: Frame) -> list[DrawnFace]:
        """The faces to draw on this frame."""
        assert frame.index is not None, "frames of videos are numbered"
        assert frame.time_s is not None, "frames of videos have times"
        sampler = self._sampler
        if sampler and not sampler.is_over(frame.time_s) and sampler.takes(frame.index, frame.time_s):
            self._current = []
        before = self._reached
        while self._reached + 1 < len(self._times) and self._times[self._reached + 1] <= frame.time_s + 1e-6:
            self._reached += 1
        if self._reached > before:
            self._since = frame.index, self._times[self._reached]
            self._take_current()
        index, time_s = self._since
        is_over = self._interval.is_over(frames=frame.index - index, seconds=frame.time_s - time_s)
        return [] if is_over else self._current

    def _take_current(self) -> None:
        rows = self._table[self._first_rows[self._reached] : self._first_rows[self._reached + 1]]
        self._current = [
            DrawnFace(
                box=(row["x1"], row["y1"], row["x2"], row["y2"]),
                number=row["face"] if row.get("track") is None else row["track"],
                emotion=row.get("emotion"),
                confidence=row.get("confidence"),
                probabilities=tuple((name, row[name]) for name in self._classes if row[name] is not None),
            )
            for row in rows.iter_rows(named=True)
            if _is_box(*(row[side] for side in BOX_COLUMNS))
        ]
        self.num_shown += len(self._current)
        self.num_without_box += len(rows) - len(self._current)


def _table_of(video: str, source: Source, classes: Sequence[str]) -> pl.DataFrame:
    """The rows of a video, by time and face; NaN is null.

    Raises:
        ConfigError: No input with times fits the video, or several do.
    """
    timed = source.lazy().filter(pl.col("time_s").is_not_null())
    names = timed.select(pl.col("input").unique(maintain_order=True)).collect()["input"].to_list()
    fitting = _fitting(names, video)
    if len(fitting) != 1:
        known = ", ".join(map(repr, (fitting or names)[:5])) or "no video with a face"
        raise ConfigError(f"{len(fitting)} inputs of {str(source.path)!r} fit the video {video!r}; there are {known}")
    numbers = [name for name in (*BOX_COLUMNS, "confidence", *classes) if name in source.schema.names]
    others = [name for name in ("frame", "time_s", "face", "track", "emotion") if name in source.schema.names]
    rows = timed.filter(pl.col("input") == fitting[0]).select(*others, pl.col(numbers).cast(pl.Float32).fill_nan(None))
    return rows.sort("time_s", "face", maintain_order=True).collect()


def _fitting(names: Sequence[str], video: str) -> list[str]:
    """The inputs that the path may stand for: those that match most of it, or else those with its file name."""
    path = _plain(Path(video).absolute().as_posix())
    matched: dict[str, int] = {}
    for name in names:
        plain = _plain(name)
        if path == plain or path.endswith(f"/{plain}"):
            matched[name] = len(plain)
    if matched:
        return [name for name, length in matched.items() if length == max(matched.values())]
    return [name for name in names if posixpath.basename(name) == posixpath.basename(path)]


def _plain(name: str) -> str:
    plain = posixpath.normpath(name)
    return posixpath.normpath(Path(plain).absolute().as_posix()) if plain.startswith("../") else plain


@dataclass(frozen=True, slots=True)
class _Interval:
    """Between two sampled frames: a number of frames, or a time."""

    frames: int | None
    """None where frames were sampled by time."""
    seconds: float

    @classmethod
    def of(cls, source: Source, times: Sequence[float]) -> _Interval:
        """As the run's record says; else the median of the times between rows."""
        recorded = source.sampling
        if recorded is None:
            return cls(None, float(np.median(np.diff(times))) if len(times) > 1 else 1.0)
        if fps := recorded.get("fps"):
            return cls(None, 1 / fps)
        return cls(recorded.get("every") or 1, 0.0)

    def is_over(self, *, frames: int, seconds: float) -> bool:
        """Whether rows are no longer shown, so many frames and seconds after their own."""
        if self.frames:
            return frames >= MAX_INTERVALS * self.frames
        return seconds >= MAX_INTERVALS * self.seconds


def _sampler_of(source: Source) -> Sampler | None:
    """Which frames were sampled, by the run's record; None where it does not say."""
    recorded = source.sampling
    if recorded is None:
        return None
    return Sampler(
        fps=recorded.get("fps"),
        every=recorded.get("every"),
        start_s=recorded.get("start_s") or 0.0,
        end_s=recorded.get("end_s"),
    )


def _is_box(x1: float | None, y1: float | None, x2: float | None, y2: float | None) -> bool:
    """Whether these are the edges of a box that can be drawn."""
    if x1 is None or y1 is None or x2 is None or y2 is None:
        return False
    return all(map(math.isfinite, (x1, y1, x2, y2))) and x1 < x2 and y1 < y2


def _draw_all(reader: VideoReader, rows: _VideoRows, out: Path) -> int:
    """Write all frames with their faces; returns how many there were."""
    num_frames = 0
    with av.open(str(out), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "20"})
        stream.pix_fmt, stream.time_base, stream.codec_context.time_base = "yuv420p", TIME_BASE, TIME_BASE
        for frame in reader:
            assert frame.time_s is not None, "frames of videos have times"
            image = Image.fromarray(frame.rgb)
            draw_faces(image, rows.at(frame))
            if not num_frames:
                first_size = image.size
                stream.width, stream.height = (length + length % 2 for length in first_size)
            elif image.size != first_size:
                image = ImageOps.pad(image, first_size)
            pixels = np.asarray(image.crop((0, 0, stream.width, stream.height)))
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = round(frame.time_s / TIME_BASE), TIME_BASE
            container.mux(stream.encode(picture))
            num_frames += 1
        if num_frames:
            container.mux(stream.encode())
    return num_frames
