"""Segments of a video: one person with one dominant emotion, from one time to another.

A segment ends when the emotion changes, or the person is missing from a frame that was looked at. A person is a track,
or a face number where faces were not tracked. The segments of one video are held at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from motivnet_cli.config import DEFAULT_FPS
from motivnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motivnet_cli.export.rows import FaceRow, Person
    from motivnet_cli.export.source import Source

_UNKNOWN_FPS = 24.0
"""What Label Studio assumes for a video whose rate it does not know."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames of a video were looked at: a person missing from others is not known to be away."""

    fps: float | None
    """Frames per second that were looked at; None where they were counted."""
    every: int
    """Every N-th frame was looked at; 1 where they were chosen by time."""

    @classmethod
    def of(cls, source: Source) -> Sampling:
        """As the run's record says; the default of `annotate` where there is no record."""
        sampling = source.sampling or {"fps": DEFAULT_FPS}
        every = sampling.get("every")
        return cls(None if every else sampling.get("fps"), every or 1)

    def step_s(self, seconds_per_frame: float | None) -> float:
        """The time that one frame stands for, in seconds.

        Args:
            seconds_per_frame: Of the video; None where it is not known.
        """
        if self.fps is None:
            return self.every * (seconds_per_frame or 1 / DEFAULT_FPS)
        return max(1 / self.fps, seconds_per_frame or 0)

    def are_neighbours(self, last: Sighting, this: Sighting) -> bool:
        """Whether no frame between the two was looked at."""
        if this.frame - last.frame <= self.every:
            return True
        # Sampled by time, the nearest frame is taken: steps vary by less than half.
        return self.fps is not None and this.time_s - last.time_s < 1.5 / self.fps


class Sighting(NamedTuple):
    """Where and when a face was seen."""

    frame: int
    """Number in the video, from 0."""
    time_s: float
    """In the file, in seconds."""
    face: FaceRow


@dataclass(slots=True, eq=False)
class Segment:
    """One person with one dominant emotion, from `start_s` up to `end_s`."""

    person: Person
    emotion: str
    start_s: float
    last: Sighting
    end_s: float = math.nan
    previous: Segment | None = None
    """That of the same person which ended as this one began; None after an absence."""
    num_faces: int = 0
    score_sum: float = 0.0
    num_scores: int = 0
    """Of the faces that have this emotion and a score."""
    probability_s: list[float] = field(default_factory=list)
    """Of each class that was asked for, its probability integrated over the segment, in seconds; NaN where a face has
    none."""
    sightings: list[Sighting] = field(default_factory=list)
    """All of them, if they were asked for."""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def changes_emotion(self) -> bool:
        """Whether the person had another emotion just before, in the same group."""
        return self.follows_in_group and self.previous is not None and self.previous.emotion != self.emotion

    @property
    def follows_in_group(self) -> bool:
        """Whether it goes on from a segment of the same group."""
        return self.previous is not None and self.previous.last.face.group == self.last.face.group

    @property
    def start_ms(self) -> int:
        return round(1000 * self.start_s)

    @property
    def end_ms(self) -> int:
        return max(round(1000 * self.end_s), self.start_ms + 1)  # ELAN and players want a length

    @property
    def confidence(self) -> float | None:
        """Mean over the faces that have this emotion, 0 to 1; None if the model gives none."""
        return self.score_sum / self.num_scores if self.num_scores else None

    @property
    def text(self) -> str:
        """Who, which emotion, and its mean confidence, as captions show them."""
        score = "" if self.confidence is None else f" {self.confidence:.2f}"
        return f"{self.person.label}: {self.emotion}{score}"


@dataclass(frozen=True, slots=True)
class VideoSegments:
    """The segments of a video, ordered by start, then person."""

    segments: list[Segment]
    seconds_per_frame: float | None
    """Mean over the video, of all its frames; None for a single frame, which does not show it."""
    has_mixed_people: bool
    """Whether a frame has several faces that were not tracked: their numbers may change owners."""

    @property
    def frames_per_second(self) -> float:
        return 1 / self.seconds_per_frame if self.seconds_per_frame else _UNKNOWN_FPS


def find_segments(
    faces: Iterable[FaceRow],
    sampling: Sampling,
    *,
    offset_s: float = 0.0,
    with_sightings: bool = False,
    classes: Sequence[str] = (),
) -> VideoSegments:
    """The segments of one video, whose faces come in the order of time; those without a frame or time are passed over.

    Args:
        offset_s: From the start of the file to that of its video: times are those of the file.
        with_sightings: Keep every face in its segment, and not the last one only.
        classes: Integrate the probabilities of these.

    Raises:
        ConfigError: The faces are not in the order of time, or a frame has a person twice.
    """
    segments: list[Segment] = []
    current: dict[Person, Segment] = {}
    first: Sighting | None = None
    before: Sighting | None = None
    seconds_per_frame: float | None = None
    has_mixed_people = False
    for face in faces:
        if face.frame is None or face.time_s is None:
            continue
        this = Sighting(face.frame, face.time_s + offset_s, face)
        first = first or this
        if this.frame > first.frame and this.time_s > first.time_s:
            seconds_per_frame = (this.time_s - first.time_s) / (this.frame - first.frame)
        segment, previous = current.get(face.person), None
        _check_order(before, segment, this)
        has_mixed_people |= face.track is None and before is not None and before.frame == this.frame
        before = this
        if segment is not None:
            follows = sampling.are_neighbours(segment.last, this)
            gap_s = sampling.step_s(seconds_per_frame)
            _end(segment, this.time_s if follows else min(segment.last.time_s + gap_s, this.time_s), classes)
            if not follows:
                segment = None
            elif segment.emotion != face.label or segment.last.face.group != face.group:
                segment, previous = None, segment
        if segment is None:
            segment = Segment(face.person, face.label, this.time_s, this, previous=previous)
            segment.probability_s = [0.0] * len(classes)
            current[face.person] = segment
            segments.append(segment)
        segment.last = this
        segment.num_faces += 1
        if face.score is not None:
            segment.score_sum += face.score
            segment.num_scores += 1
        if with_sightings:
            segment.sightings.append(this)
    for segment in current.values():
        _end(segment, segment.last.time_s + sampling.step_s(seconds_per_frame), classes)
    segments.sort(key=lambda each: (each.start_s, each.person))
    return VideoSegments(segments, seconds_per_frame, has_mixed_people)


def _check_order(before: Sighting | None, segment: Segment | None, this: Sighting) -> None:
    """Refuse a face that comes before the one above it, or is a second one of its person in a frame."""
    if before is not None and this.time_s < before.time_s:
        raise ConfigError(
            f"the faces of {this.face.input!r} are not in the order of time ({this.time_s:g} s after "
            f"{before.time_s:g} s); sort the table by input and frame, or give the file that annotate wrote"
        )
    if segment is not None and segment.last.frame == this.frame:
        raise ConfigError(
            f"frame {this.frame} of {this.face.input!r} has {this.face.person.label} twice, so its faces cannot be "
            "told apart; give a table with the columns track or face, and every row once"
        )


def _end(segment: Segment, end_s: float, classes: Sequence[str]) -> None:
    """Let a segment last until `end_s`, for now: the last face stands for the time since it was seen."""
    segment.end_s = end_s
    seconds, probabilities = end_s - segment.last.time_s, segment.last.face.probabilities
    for number, name in enumerate(classes):
        segment.probability_s[number] += seconds * probabilities.get(name, math.nan)
