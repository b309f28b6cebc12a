"""Timelines of videos: for each person, the probability of every emotion over time, and the dominant one.

A video is drawn in a few hundred steps, each the mean of its faces; what is held of a video does not grow with its
length, unless its probabilities are smoothed.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from motivnet_cli.export.rows import POSITION_COLUMNS, inputs_with_faces
from motivnet_cli.export.segments import Sampling, Sighting, find_segments
from motivnet_cli.records import in_column_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.export.filters import Filters
    from motivnet_cli.export.rows import FaceRow, Person
    from motivnet_cli.export.segments import Segment
    from motivnet_cli.export.source import InputRow, Source

MAX_TIMELINES = 12
"""Videos that are drawn."""
MAX_LANES = 6
"""Persons of a video that are drawn: those that are seen longest."""
MAX_CURVES = 10
"""Emotions of a person that are drawn: those that are most probable over the video."""
MAX_STEPS = 240
"""Of a timeline: each is then about three pixels wide."""
MAX_TABLE_STEPS = 24
"""Rows of a table of numbers, for each person."""
_TOLERANCE = 1e-6
"""By which times that are meant to be equal may differ, in seconds or steps."""


class Span(NamedTuple):
    """The time of a video that is drawn, in seconds from the start of its file."""

    first_s: float
    step_s: float
    num_steps: int

    @property
    def last_s(self) -> float:
        return self.first_s + self.num_steps * self.step_s

    def place(self, time_s: float) -> float:
        """Where a time is, as a share of the width."""
        return (time_s - self.first_s) / (self.num_steps * self.step_s)


class Bar(NamedTuple):
    """The dominant emotion from one share of the width to another."""

    left: float
    width: float
    emotion: str


class TableRow(NamedTuple):
    """Mean probabilities from one time to another."""

    start_s: float
    end_s: float
    probabilities: list[float]
    """0 to 1, in the order of the timeline's emotions; NaN where they are not known."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A person of a video."""

    person: Person
    seconds: float
    """For how long the person is seen."""
    curves: dict[str, list[list[tuple[float, float]]]]
    """By emotion, pieces of (share of the width, probability); between two pieces the person is missing."""
    bars: list[Bar]
    table: list[TableRow]


@dataclass(frozen=True, slots=True)
class Timeline:
    """A video."""

    video: str
    offset_s: float
    """From the start of the file to that of its video."""
    span: Span
    emotions: tuple[str, ...]
    """That are drawn, in the order in which tables have them."""
    lanes: list[Lane]
    num_people: int
    is_mixed: bool
    """Whether lanes are numbers of faces in a frame, which may change owners."""

    @property
    def ticks(self) -> list[float]:
        """Times for the axis, in seconds: round ones, four to eight."""
        length_s = self.span.last_s - self.span.first_s
        step_s = next(step for step in _tick_steps() if length_s / step <= 7)
        return [n * step_s for n in range(math.ceil(self.span.first_s / step_s), int(self.span.last_s / step_s) + 1)]


def _tick_steps() -> Iterator[float]:
    """Round distances on an axis of time, in seconds."""
    yield from (0.001 * factor * 10**power for power in range(4) for factor in (1, 2, 5))
    yield from (10, 15, 30, 60, 120, 300, 600, 900, 1800)
    hours = 1
    while True:
        yield 3600 * hours
        hours *= 2


def timelines(source: Source, filters: Filters) -> tuple[list[Timeline], int]:
    """The timelines of the first videos with faces, and how many such videos there are.

    Args:
        source: Faces in videos alone, each with an emotion.

    Raises:
        ConfigError: As `Filters.find_segments` and `inputs_with_faces`.
    """
    sampling = Sampling.of(source)
    spans = _spans(source, sampling)
    names = [name for name in (*POSITION_COLUMNS, "emotion", *source.classes) if name in source.schema.names]
    drawn: list[Timeline] = []
    for info, faces in inputs_with_faces(source, names):
        if len(drawn) == min(MAX_TIMELINES, len(spans)):
            break
        if info.input in spans:
            drawn.append(_timeline(info, faces, spans[info.input], source.classes, sampling, filters))
    return drawn, len(spans)


def _spans(source: Source, sampling: Sampling) -> dict[str, Span]:
    """The span of each video, before its offset: a step is at least the time that a frame stands for."""
    times, frames = pl.col("time_s"), pl.col("frame")
    first, last = times.min().alias("first"), times.max().alias("last")
    ends = source.lazy().group_by("input").agg(first, last, (frames.max() - frames.min()).alias("frames"))
    spans = {}
    for name, first_s, last_s, num_frames in ends.collect(engine="streaming").iter_rows():
        length_s = last_s - first_s
        step_s = max(sampling.step_s(length_s / num_frames if num_frames else None), length_s / (MAX_STEPS - 1))
        spans[name] = Span(first_s, step_s, int(length_s / step_s + _TOLERANCE) + 1)
    return spans


def _timeline(
    info: InputRow,
    faces: Iterable[FaceRow],
    span: Span,
    classes: Sequence[str],
    sampling: Sampling,
    filters: Filters,
) -> Timeline:
    offset_s = info.time_offset_s or 0.0
    span = span._replace(first_s=span.first_s + offset_s)
    steps = _Steps(span, classes, sampling)
    smoothed = filters.smooth(faces, sampling, classes)
    found = filters.join(find_segments(steps.watch(smoothed, offset_s), sampling, offset_s=offset_s))
    segments: dict[Person, list[Segment]] = {}
    for segment in found.segments:
        segments.setdefault(segment.person, []).append(segment)
    seconds = {person: sum(each.duration_s for each in of_person) for person, of_person in segments.items()}
    people = sorted(sorted(seconds), key=lambda person: -seconds[person])[:MAX_LANES]
    emotions = steps.most_probable(people)
    lanes = [
        Lane(
            person,
            seconds[person],
            {name: steps.pieces(person, name) for name in emotions},
            _bars(segments[person], span),
            steps.table(person, emotions),
        )
        for person in sorted(people)
    ]
    return Timeline(info.input, offset_s, span, emotions, lanes, len(segments), found.has_mixed_people)


@dataclass(slots=True)
class _Step:
    """The faces of a person in a step."""

    follows: bool
    """Whether the person was there without a gap since the step before that has faces."""
    sums: NDArray[np.float64]
    """[C]; NaN where a face has no probability."""
    num_faces: int = 0
    time_s: float = 0.0
    """Sum over the faces."""


class _Steps:
    """The faces of a video, added up by persons and steps as they pass."""

    def __init__(self, span: Span, classes: Sequence[str], sampling: Sampling) -> None:
        self._span, self._classes, self._sampling = span, tuple(classes), sampling
        self._steps: dict[Person, dict[int, _Step]] = {}
        self._last: dict[Person, Sighting] = {}

    def watch(self, faces: Iterable[FaceRow], offset_s: float) -> Iterator[FaceRow]:
        """The same faces."""
        for face in faces:
            if face.frame is not None and face.time_s is not None:
                self._add(Sighting(face.frame, face.time_s + offset_s, face))
            yield face

    def _add(self, this: Sighting) -> None:
        person, probabilities = this.face.person, this.face.probabilities
        number = int((this.time_s - self._span.first_s) / self._span.step_s + _TOLERANCE)
        steps = self._steps.setdefault(person, {})
        if number not in steps:
            last = self._last.get(person)
            follows = last is not None and self._sampling.are_neighbours(last, this)
            steps[number] = _Step(follows, np.zeros(len(self._classes)))
        step = steps[number]
        step.sums += [probabilities.get(name, math.nan) for name in self._classes]
        step.num_faces += 1
        step.time_s += this.time_s
        self._last[person] = this

    def most_probable(self, people: Sequence[Person]) -> tuple[str, ...]:
        """The emotions with the largest sums over some people, at most MAX_CURVES, in the order of tables."""
        sums = np.sum([step.sums for person in people for step in self._steps[person].values()], axis=0)  # [C]
        order = np.argsort(-np.nan_to_num(sums), kind="stable")[:MAX_CURVES]
        chosen = {self._classes[number] for number in order.tolist()}
        return tuple(name for name in in_column_order(self._classes) if name in chosen)

    def pieces(self, person: Person, emotion: str) -> list[list[tuple[float, float]]]:
        """The curve of an emotion, as `Lane.curves` has it."""
        number = self._classes.index(emotion)
        pieces: list[list[tuple[float, float]]] = []
        is_open = False
        for step in self._steps[person].values():
            probability = step.sums[number] / step.num_faces
            is_known = bool(np.isfinite(probability))
            if is_known and not (is_open and step.follows):
                pieces.append([])
            if is_known:
                pieces[-1].append((self._span.place(step.time_s / step.num_faces), float(probability)))
            is_open = is_known
        return pieces

    def table(self, person: Person, emotions: Sequence[str]) -> list[TableRow]:
        """Means over longer steps, of which there are at most MAX_TABLE_STEPS; those without a face are left out."""
        numbers = [self._classes.index(name) for name in emotions]
        size = -(-self._span.num_steps // MAX_TABLE_STEPS)
        rows: list[TableRow] = []
        for row, of_row in itertools.groupby(self._steps[person].items(), key=lambda each: each[0] // size):
            steps = [step for _, step in of_row]
            means = np.sum([step.sums for step in steps], axis=0) / sum(step.num_faces for step in steps)  # [C]
            start_s = self._span.first_s + row * size * self._span.step_s
            end_s = min(start_s + size * self._span.step_s, self._span.last_s)
            rows.append(TableRow(start_s, end_s, means[numbers].tolist()))
        return rows


def _bars(segments: Sequence[Segment], span: Span) -> list[Bar]:
    """The dominant emotions of a person; where they change within a step, the one with the most time there."""
    ends: list[tuple[float, float]] = []
    seconds: list[dict[str, float]] = []
    for segment in segments:
        start_s = ends[-1][0] if ends else -math.inf
        if ends and ends[-1][1] - start_s < span.step_s - _TOLERANCE and segment.start_s - ends[-1][1] < span.step_s:
            ends[-1] = (start_s, segment.end_s)
        else:
            ends.append((segment.start_s, segment.end_s))
            seconds.append({})
        seconds[-1][segment.emotion] = seconds[-1].get(segment.emotion, 0.0) + segment.duration_s
    return [
        Bar(span.place(start_s), span.place(end_s) - span.place(start_s), max(of_bar, key=lambda name: of_bar[name]))
        for (start_s, end_s), of_bar in zip(ends, seconds, strict=True)
    ]
