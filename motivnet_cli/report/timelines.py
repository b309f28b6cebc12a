"""Timelines of videos: for each person, the most frequent emotion in each of a few hundred steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from motivnet_cli.export.segments import Sampling
from motivnet_cli.report import figures
from motivnet_cli.report.pages import data_uri

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from motivnet_cli.export.source import Source

MAX_TIMELINES = 12
"""Videos that are drawn."""
_MAX_STEPS = 240
"""Of a timeline: each is then about three pixels wide, so that none covers another."""
_MAX_LANES = 12
"""Persons of a video that are drawn: those with most rows."""


class Timeline(NamedTuple):
    video: str
    caption: str
    drawing: figures.Drawing
    times: list[float]
    """Of the frames with faces, in seconds."""

    @property
    def uri(self) -> str:
        return data_uri(self.drawing.svg, "image/svg+xml")


def videos_in(source: Source) -> list[str]:
    """The inputs that have rows with a time, in their order."""
    if "time_s" not in source.schema.names:
        return []
    names = source.lazy().filter(pl.col("time_s").is_finite()).select(pl.col("input").unique(maintain_order=True))
    return names.collect(engine="streaming")["input"].to_list()


def timelines(source: Source, videos: Sequence[str]) -> Iterator[Timeline]:
    """A row of a figure is a track or, in a run without tracks, a face number."""
    if not videos:
        return
    rows = _rows_of(source, videos)
    lanes = rows.group_by("input", "person").agg(pl.len().alias("rows")).collect(engine="streaming")
    times = rows.select("input", "time_s", "frame").unique().collect(engine="streaming").sort("input", "time_s")
    spans = _spans(times, Sampling.of(source))
    steps = _steps(rows, spans)
    numbers = {name: number for number, name in enumerate(source.classes)}
    noun = "tracks" if "track" in source.schema.names else "faces of each frame, from left to right"
    for video in videos:
        span = _Span(*spans.filter(pl.col("input") == video).select(_Span._fields).row(0))
        of_video = lanes.filter(pl.col("input") == video).sort("rows", "person", descending=[True, False])
        bars: dict[int, list[tuple[float, float, int]]] = {}
        for person in sorted(of_video["person"].head(_MAX_LANES)):
            of_lane = steps.filter((pl.col("input") == video) & (pl.col("person") == person))
            bars[person] = [
                (*span.bar(step), numbers.get(emotion, -1))
                for step, emotion in of_lane.select("step", "emotion").iter_rows()
            ]
        caption = f"Most frequent emotion in steps of {span.width:.3g} s, a row for each of the {noun}"
        caption += f"; the {_MAX_LANES} of {of_video.height:,} with most rows." if of_video.height > _MAX_LANES else "."
        seconds = times.filter(pl.col("input") == video)["time_s"].to_list()
        yield Timeline(video, caption, figures.timeline(bars, source.classes), seconds)


class _Span(NamedTuple):
    """The time of a video that is drawn, in seconds."""

    first: float
    width: float
    """Of a step."""

    def bar(self, step: float) -> tuple[float, float]:
        """Start and width of a step, which lies around its time; the first one does not begin before the video."""
        start = self.first + max(step - 0.5, 0.0) * self.width
        return start, self.width / 2 if step == 0 else self.width


def _rows_of(source: Source, videos: Sequence[str]) -> pl.LazyFrame:
    """The columns input, time_s, frame, emotion and person of some videos; frame is null where it is not known."""
    frame = pl.col("frame") if "frame" in source.schema.names else pl.lit(None, pl.Int64).alias("frame")
    person = [pl.col(name).cast(pl.Int64) for name in ("track", "face") if name in source.schema.names]
    return (
        source.lazy()
        .filter(pl.col("time_s").is_finite() & pl.col("input").is_in(videos))
        .select("input", "time_s", frame, "emotion", person=pl.coalesce(*person, pl.lit(0, pl.Int64)))
    )


def _spans(times: pl.DataFrame, sampling: Sampling) -> pl.DataFrame:
    """The first time and the width of a step of each video: at least the time that a frame stands for.

    Frames without a face are not among `times`, so the time between those that are says nothing of it.
    """
    spans = []
    for (name,), of_video in times.group_by("input", maintain_order=True):
        first_s, last_s = of_video["time_s"][0], of_video["time_s"][-1]
        frames = of_video["frame"].drop_nulls()
        num_frames = frames[-1] - frames[0] if len(frames) else 0
        step_s = sampling.step_s((last_s - first_s) / num_frames if num_frames else None)
        spans.append({"input": name, "first": first_s, "width": max(step_s, (last_s - first_s) / (_MAX_STEPS - 1))})
    return pl.DataFrame(spans, schema={"input": pl.String, "first": pl.Float64, "width": pl.Float64})


def _steps(rows: pl.LazyFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """The most frequent emotion of each step of each person."""
    step = ((pl.col("time_s") - pl.col("first")) / pl.col("width")).round()
    return (
        rows.join(spans.lazy(), on="input")
        .group_by("input", "person", "emotion", step=step)
        .agg(pl.len().alias("rows"))
        .collect(engine="streaming")
        .sort("rows", "emotion", descending=[True, False])
        .unique(["input", "person", "step"], keep="first")
        .sort("input", "person", "step")
    )
