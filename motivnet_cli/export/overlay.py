"""A video with its predictions drawn on it: boxes, tracks, emotions.

Frames are streamed one by one, so memory does not grow with the video. Sound is left out, and frame times are kept.
"""

from __future__ import annotations

import colorsys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import polars as pl
from PIL import Image, ImageDraw, ImageFont

from motivnet_cli.config import MAX_PIXELS, VideoConfig
from motivnet_cli.durable import sync
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.export.source import Source
from motivnet_cli.video import VideoReader

if TYPE_CHECKING:
    from collections.abc import Sequence

TIME_BASE = Fraction(1, 90_000)
"""Of the frame times that are written: a multiple of every usual rate."""
HELD = 1.5
"""Rows of a sampled frame are shown for so many sampling intervals, at most until the next sampled frame."""
_GOLDEN = 0.618034
_NEEDED = ("input", "frame", "time_s", "face", "x1", "y1", "x2", "y2")


def write_overlay(
    video: str, predictions: str, out: str, *, overwrite: bool = False, max_pixels: int = MAX_PIXELS
) -> dict[str, Any]:
    """Draw a video's rows on every frame of it, and write it as H.264.

    A row is drawn from its frame on until the next sampled frame, at most HELD sampling intervals.

    Args:
        video: A local file; its rows are those whose `input` is this path, ends it, or has its file name.
        predictions: What `annotate` wrote of it, among others perhaps.
        out: A name ending in `.mp4`; it appears whole or not at all.

    Returns:
        `out`, `frames` written, `rows` drawn, and `problem`, in a sentence, where the video broke off.

    Raises:
        ConfigError: No rows, or those of several inputs, fit the video; `out` exists or has another ending.
        InputError: The video cannot be read.
    """
    final = Path(out)
    if final.suffix.lower() != ".mp4":
        raise ConfigError(f"the overlay is an MP4: give --out a name ending in .mp4, got {out!r}")
    if final.exists() and not overwrite:
        raise ConfigError(f"{out!r} exists: give --overwrite to replace it, or --out another name")
    by_time, interval_s = _rows_of(video, predictions)
    temporary = final.with_name(f".{final.stem}.tmp.mp4")
    reader = VideoReader(video, VideoConfig(fps=None), max_pixels=max_pixels)
    try:
        num_frames = _draw_all(reader, by_time, interval_s, temporary)
        sync(temporary)
        temporary.replace(final)
        sync(final.parent)
    except InputError as error:
        raise ConfigError(f"{video!r} cannot be read: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    problem = reader.report.problem
    return {
        "out": out,
        "frames": num_frames,
        "rows": sum(len(rows) for _, rows in by_time),
        "problem": problem.message if problem else None,
    }


def _rows_of(video: str, predictions: str) -> tuple[list[tuple[float, list[dict[str, Any]]]], float]:
    """The sampled frames in order of time, each with its rows, and the sampling interval in seconds."""
    source = Source(predictions, embeddings=False)
    if missing := [name for name in _NEEDED if name not in source.schema.names]:
        raise ConfigError(f"{predictions!r} has no column {missing[0]!r}: an overlay needs boxes and frames")
    timed = source.lazy().filter(pl.col("time_s").is_not_null())
    names = timed.select(pl.col("input").unique(maintain_order=True)).collect()["input"].to_list()
    path = Path(video).absolute().as_posix()
    fitting = [name for name in names if path == name or path.endswith(f"/{name}")]
    fitting = fitting or [name for name in names if Path(name).name == Path(video).name]
    if len(fitting) != 1:
        there = ", ".join(map(repr, (fitting or names)[:5])) or "no video"
        raise ConfigError(f"{len(fitting)} inputs of {predictions!r} fit the video {video!r}; there are {there}")
    rows = timed.filter(pl.col("input") == fitting[0]).sort("frame", "face", maintain_order=True).collect()
    by_time = [(key[0], part.to_dicts()) for key, part in rows.group_by("time_s", maintain_order=True)]
    sampling = source.record.get("video", {})
    fps, every = sampling.get("fps"), sampling.get("every")
    return by_time, 1 / fps if fps else (every or 1) / 25


def _draw_all(
    reader: VideoReader, by_time: Sequence[tuple[float, list[dict[str, Any]]]], interval_s: float, out: Path
) -> int:
    reached, num_frames = -1, 0
    with av.open(str(out), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "20"})
        stream.pix_fmt, stream.time_base, stream.codec_context.time_base = "yuv420p", TIME_BASE, TIME_BASE
        for frame in reader:
            assert frame.time_s is not None, "frames of videos have times"
            while reached + 1 < len(by_time) and by_time[reached + 1][0] <= frame.time_s + 1e-6:
                reached += 1
            image = Image.fromarray(frame.rgb)
            if reached >= 0 and frame.time_s - by_time[reached][0] < HELD * interval_s:
                for row in by_time[reached][1]:
                    _draw(image, row)
            width, height = (length + length % 2 for length in image.size)
            if not num_frames:
                stream.width, stream.height = width, height
            pixels = np.asarray(image.crop((0, 0, stream.width, stream.height)))
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts, picture.time_base = round(frame.time_s / TIME_BASE), TIME_BASE
            container.mux(stream.encode(picture))
            num_frames += 1
        if num_frames:
            container.mux(stream.encode())
    return num_frames


def _draw(image: Image.Image, row: dict[str, Any]) -> None:
    """A box with the track, the emotion and its confidence, and a bar for each probability."""
    person = row["face"] if row.get("track") is None else row["track"]
    colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(person * _GOLDEN % 1, 0.55, 1.0))
    draw = ImageDraw.Draw(image)
    unit = max(10, round(min(image.size) / 40))
    font = ImageFont.load_default(unit)
    box = [row[side] for side in ("x1", "y1", "x2", "y2")]
    draw.rectangle(box, outline=colour, width=max(2, unit // 6))
    words = f"#{person}"
    if row.get("emotion"):
        words += f" {row['emotion']} {row['confidence']:.0%}"
    left, top, right, bottom = draw.textbbox((box[0], max(0, box[1] - 1.4 * unit)), words, font=font)
    draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill=(0, 0, 0))
    draw.text((box[0], max(0, box[1] - 1.4 * unit)), words, font=font, fill=colour)
    chances = {name: row[name] for name in _EMOTION_LETTERS if row.get(name) is not None}
    for number, (name, chance) in enumerate(chances.items()):
        y = box[3] + 3 + number * unit
        draw.rectangle((box[0], y, box[0] + 5 * unit, y + unit - 1), fill=(0, 0, 0))
        draw.rectangle((box[0] + unit, y + 1, box[0] + unit + 4 * unit * chance, y + unit - 2), fill=colour)
        draw.text(
            (box[0] + 1, y - 1), _EMOTION_LETTERS[name], font=ImageFont.load_default(unit - 1), fill=(255, 255, 255)
        )


_EMOTION_LETTERS = {
    "neutral": "N",
    "happiness": "H",
    "sadness": "S",
    "surprise": "U",
    "fear": "F",
    "disgust": "D",
    "anger": "A",
}
