"""A video with its predictions drawn on it: boxes, tracks, emotions.

Frames are streamed one by one; of what grows with the video, only the numbers of its rows are held (no embeddings).
Sound is left out, and frame times are kept. This room does not know how frames are decoded.
"""

from __future__ import annotations

import colorsys
import functools
import math
import posixpath
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import polars as pl
from PIL import Image, ImageDraw, ImageFont

from motivnet_cli.config import MAX_PIXELS, VideoConfig
from motivnet_cli.durable import durably, temporary_name
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.export.destination import check_destination
from motivnet_cli.export.source import Source
from motivnet_cli.inputs.video import VideoReader
from motivnet_cli.inputs.video_worker import Sampler
from motivnet_cli.records import BOX_COLUMNS, EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motivnet_cli.records import Frame

TIME_BASE = Fraction(1, 90_000)
"""Of the frame times that are written: a multiple of every usual rate."""
HELD = 1.5
"""Rows of a sampled frame are shown for so many sampling intervals, at most until the next sampled frame."""
_GOLDEN = 0.618034
"""Hues so far apart, in turns, stay apart however many there are."""
_NEEDED = ("input", "frame", "time_s", "face", *BOX_COLUMNS)
_LETTERS = {"surprise": "U"}
"""Where the first letter is another emotion's."""


def write_overlay(
    video: str, predictions: str, out: str, *, overwrite: bool = False, max_pixels: int = MAX_PIXELS
) -> dict[str, Any]:
    """Draw a video's rows on every frame of it, and write it as H.264 without sound.

    A row is drawn from its frame on until the next sampled frame, with a face or without, and at most HELD sampling
    intervals. In a table that does not say how it was sampled, the interval is the median time between its frames.

    Args:
        video: A local file; its rows are those whose `input` is the longest that is or ends this path, or else the
            only one with its file name.
        predictions: What `annotate` wrote of it, among others perhaps.
        out: A name ending in `.mp4`; it appears whole or not at all. An odd width or height grows by one pixel.

    Returns:
        `out`, `frames` written, `rows` drawn, `rows_without_box` that could not be, and `problem`, in a sentence,
        where the video broke off.

    Raises:
        ConfigError: No rows, or those of several inputs, fit the video; it cannot be read; `out` exists, is the video
            or the predictions, has another ending, or cannot be written.
    """
    final = Path(out)
    if final.suffix.lower() != ".mp4":
        raise ConfigError(f"the overlay is an MP4: give --out a name ending in .mp4, got {out!r}")
    if not Path(video).exists():
        raise ConfigError(f"no video at {video!r}: give the file that was annotated")
    check_destination(final, [video, predictions], overwrite=overwrite)
    rows = _Rows(video, predictions)
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
    return {
        "out": out,
        "frames": num_frames,
        "rows": rows.num_shown,
        "rows_without_box": rows.num_without_box,
        "problem": problem.message if problem else None,
    }


class _Rows:
    """The rows of a video, to be asked for every frame of it in the order of time."""

    def __init__(self, video: str, predictions: str) -> None:
        source = Source(predictions, embeddings=False)
        there = source.schema.names
        if missing := [name for name in _NEEDED if name not in there]:
            raise ConfigError(f"{predictions!r} has no column {missing[0]!r}: an overlay needs boxes and frames")
        timed = source.lazy().filter(pl.col("time_s").is_not_null())
        names = timed.select(pl.col("input").unique(maintain_order=True)).collect()["input"].to_list()
        fitting = _fitting(names, video)
        if len(fitting) != 1:
            known = ", ".join(map(repr, (fitting or names)[:5])) or "no video with a face"
            raise ConfigError(f"{len(fitting)} inputs of {predictions!r} fit the video {video!r}; there are {known}")
        usual = [name for name in EMOTIONS if name in source.classes]
        others = [name for name in source.classes if name not in usual]
        self.classes = [name for name in (*usual, *others) if name in there]
        numbers = [*BOX_COLUMNS, *(name for name in ("confidence",) if name in there), *self.classes]
        rest = [name for name in ("frame", "time_s", "face", "track", "emotion") if name in there]
        rows = timed.filter(pl.col("input") == fitting[0]).select(
            *rest, pl.col(numbers).cast(pl.Float32).fill_nan(None)
        )
        all_rows = rows.sort("time_s", "face", maintain_order=True).collect()
        times, self._first = np.unique(all_rows["time_s"].to_numpy(), return_index=True)
        self._times: list[float] = times.tolist()
        self._table = all_rows
        self._every, self._interval_s, self._sampler = _sampling(source.record.get("video"), self._times)
        self._reached, self._current, self._since = -1, list[dict[str, Any]](), (0, 0.0)
        self.num_shown = self.num_without_box = 0

    def at(self, frame: Frame) -> list[dict[str, Any]]:
        """The rows to draw on this frame."""
        assert frame.index is not None, "frames of videos are numbered"
        assert frame.time_s is not None, "frames of videos have times"
        sampler = self._sampler
        if sampler and not sampler.is_over(frame.time_s) and sampler.takes(frame.index, frame.time_s):
            self._current = []
        before = self._reached
        while self._reached + 1 < len(self._times) and self._times[self._reached + 1] <= frame.time_s + 1e-6:
            self._reached += 1
        if self._reached > before:
            self._take(frame)
        index, time_s = self._since
        if self._every:
            is_over = frame.index - index >= HELD * self._every
        else:
            is_over = frame.time_s - time_s >= HELD * self._interval_s
        return [] if is_over else self._current

    def _take(self, frame: Frame) -> None:
        assert frame.index is not None, "frames of videos are numbered"
        first = int(self._first[self._reached])
        is_last = self._reached + 1 == len(self._times)
        end = len(self._table) if is_last else int(self._first[self._reached + 1])
        rows = self._table[first:end].to_dicts()
        self._current = [row for row in rows if _has_box(row)]
        self._since = frame.index, self._times[self._reached]
        self.num_shown += len(self._current)
        self.num_without_box += len(rows) - len(self._current)


def _fitting(names: Sequence[str], video: str) -> list[str]:
    """The inputs that the path may be: those that match the most of it; without any, those of its file name."""
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


def _sampling(recorded: dict[str, Any] | None, times: Sequence[float]) -> tuple[int | None, float, Sampler | None]:
    """Every how many frames and how many seconds a frame was sampled, and which, as far as it was recorded."""
    if recorded is None:
        return None, float(np.median(np.diff(times))) if len(times) > 1 else 1.0, None
    fps, every = recorded.get("fps"), recorded.get("every")
    start_s = recorded.get("start_s") or 0.0
    sampler = Sampler(fps=fps, every=every, start_s=start_s, end_s=recorded.get("end_s"))
    if fps:
        return None, 1 / fps, sampler
    return every or 1, 0.0, sampler


def _has_box(row: dict[str, Any]) -> bool:
    x1, y1, x2, y2 = (row[side] for side in BOX_COLUMNS)
    return all(side is not None and math.isfinite(side) for side in (x1, y1, x2, y2)) and x1 < x2 and y1 < y2


def _draw_all(reader: VideoReader, rows: _Rows, out: Path) -> int:
    num_frames = 0
    with av.open(str(out), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "20"})
        stream.pix_fmt, stream.time_base, stream.codec_context.time_base = "yuv420p", TIME_BASE, TIME_BASE
        for frame in reader:
            assert frame.time_s is not None, "frames of videos have times"
            image = Image.fromarray(frame.rgb)
            for row in rows.at(frame):
                _draw(image, row, rows.classes)
            if not num_frames:
                stream.width, stream.height = (length + length % 2 for length in image.size)
            pixels = np.asarray(image.crop((0, 0, stream.width, stream.height)))
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = round(frame.time_s / TIME_BASE), TIME_BASE
            container.mux(stream.encode(picture))
            num_frames += 1
        if num_frames:
            container.mux(stream.encode())
    return num_frames


def _draw(image: Image.Image, row: dict[str, Any], classes: Sequence[str]) -> None:
    """A box with the track, the emotion and its confidence, and a bar for each probability, all within the picture."""
    person = row["face"] if row.get("track") is None else row["track"]
    hue = (person or 0) * _GOLDEN % 1
    colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.55, 1.0))
    draw = ImageDraw.Draw(image)
    unit = max(10, round(min(image.size) / 40))
    line = max(2, unit // 6)
    x1, x2 = (min(max(round(x), -line), image.width + line) for x in (row["x1"], row["x2"] - 1))
    y1, y2 = (min(max(round(y), -line), image.height + line) for y in (row["y1"], row["y2"] - 1))
    draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=line)
    words = [f"#{person}", row.get("emotion") or ""]
    words.append("" if row.get("confidence") is None else f"{row['confidence']:.0%}")
    _write_label(draw, "  ".join(filter(None, words)), (x1, y1), unit, colour, within=image.size)
    chances = {name: row[name] for name in classes if row[name] is not None}
    if chances:
        _draw_bars(draw, chances, (x1, y1, x2, y2), unit, colour, within=image.size)


def _write_label(
    draw: ImageDraw.ImageDraw,
    words: str,
    corner: tuple[int, int],
    unit: int,
    colour: tuple[int, ...],
    *,
    within: tuple[int, int],
) -> None:
    """Text on black above the corner, or moved to where it can be read."""
    font = _font(unit)
    width, height = round(font.getlength(words)) + 6, round(1.4 * unit)
    left = max(0, min(corner[0], within[0] - width))
    top = max(0, min(corner[1] - height, within[1] - height))
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=(0, 0, 0))
    draw.text((left + 3, top + height / 2), words, font=font, fill=colour, anchor="lm")


def _draw_bars(
    draw: ImageDraw.ImageDraw,
    chances: dict[str, float],
    box: tuple[int, int, int, int],
    unit: int,
    colour: tuple[int, ...],
    *,
    within: tuple[int, int],
) -> None:
    """A letter and a bar each on black: below the box, or beside it, or at its foot, wherever there is room."""
    width, height = 5 * unit, len(chances) * unit
    x1, _, x2, y2 = box
    right, bottom = within
    left, top = x1, y2 + 3
    if top + height > bottom:
        top = bottom - height
        left = x2 + 3 if x2 + 3 + width <= right else x1 - 3 - width if x1 - 3 - width >= 0 else x1
    left, top = max(0, min(left, right - width)), max(0, top)
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=(0, 0, 0))
    for number, (name, chance) in enumerate(chances.items()):
        y = top + number * unit
        length = min(max(chance, 0.0), 1.0) * (4 * unit - 1)
        draw.rectangle((left + unit, y + 1, left + unit + length, y + unit - 2), fill=colour)
        letter = _LETTERS.get(name, name[:1].upper())
        draw.text((left + unit / 2, y + unit / 2), letter, font=_font(unit - 1), fill=(255, 255, 255), anchor="mm")


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
