"""Filters on the emotions of videos, for all that shows segments: off unless they are asked for, and recorded there.

`smooth_s` replaces the probabilities of a face by their centred moving average: the mean over the sightings of the same
person at most half of it before and after, without a gap between. `min_duration_s` then debounces the labels: a shorter
segment takes on the emotion before it. Neither reaches over an absence or to another person, nor changes how long a
person is seen.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.errors import ConfigError
from motivnet_cli.export.segments import Segment, Sighting, VideoSegments, find_segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.export.rows import FaceRow, Person
    from motivnet_cli.export.segments import Sampling

log = logging.getLogger(__name__)

_TOLERANCE_S = 1e-6
"""By which times that are meant to be equal may differ; time stamps of videos are further apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What is done to the emotions of a video before its segments are taken.

    Raises:
        ConfigError: A time is not above 0.
    """

    smooth_s: float | None = None
    """Width of the moving average, in seconds; None leaves the probabilities as they are."""
    min_duration_s: float | None = None
    """The shortest segment that is kept, in seconds; None keeps all."""

    def __post_init__(self) -> None:
        for option, value in (("--smooth", self.smooth_s), ("--min-duration", self.min_duration_s)):
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{option} takes seconds above 0, such as 1.5, got {value:g}; leave it out for none")

    def __bool__(self) -> bool:
        return self.smooth_s is not None or self.min_duration_s is not None

    @property
    def text(self) -> str:
        """What was done, for people; empty for nothing."""
        parts = []
        if self.smooth_s is not None:
            parts.append(f"probabilities averaged over {self.smooth_s:g} s")
        if self.min_duration_s is not None:
            parts.append(f"emotions of less than {self.min_duration_s:g} s joined to the one before")
        return ", ".join(parts)

    def warn_if_narrow(self, sampling: Sampling) -> None:
        """Say so where frames are too far apart for a filter to do what it is for."""
        if not sampling.fps:
            return
        step_s = 1 / sampling.fps
        if self.smooth_s is not None and self.smooth_s <= 2 * step_s:
            log.warning(
                "--smooth %g is at most twice the %g s from one frame to the next, and so catches a neighbour or not; "
                "give an odd multiple, such as %g",
                *(self.smooth_s, step_s, 3 * step_s),
            )
        if self.min_duration_s is not None and self.min_duration_s <= step_s:
            log.warning(
                "--min-duration %g joins nothing, as a frame was looked at every %g s; give more",
                *(self.min_duration_s, step_s),
            )

    def find_segments(
        self,
        faces: Iterable[FaceRow],
        sampling: Sampling,
        classes: Sequence[str],
        *,
        offset_s: float = 0.0,
    ) -> VideoSegments:
        """The segments of one video, filtered; to smooth them, all faces of the video are held in memory.

        Args:
            classes: All of the model, in its order; see `segments.find_segments` for the rest.

        Raises:
            ConfigError: As `segments.find_segments`; or a face to be smoothed lacks a probability.
        """
        smoothed = self.smooth(faces, sampling, classes)
        return self.join(find_segments(smoothed, sampling, offset_s=offset_s, classes=classes))

    def smooth(self, faces: Iterable[FaceRow], sampling: Sampling, classes: Sequence[str]) -> Iterable[FaceRow]:
        """The faces of one video with averaged probabilities, and the emotion and score that these give.

        Raises:
            ConfigError: A face to be smoothed lacks a probability.
        """
        return faces if self.smooth_s is None else _smoothed(list(faces), sampling, classes, self.smooth_s)

    def join(self, found: VideoSegments) -> VideoSegments:
        """The segments of a video without those that are too short."""
        if self.min_duration_s is None:
            return found
        return dataclasses.replace(found, segments=_debounced(found.segments, self.min_duration_s))


NO_FILTERS = Filters()


def _smoothed(faces: list[FaceRow], sampling: Sampling, classes: Sequence[str], smooth_s: float) -> list[FaceRow]:
    """The faces with averaged probabilities, and the emotion and score that these give."""
    presences: list[list[tuple[int, Sighting]]] = []
    current: dict[Person, list[tuple[int, Sighting]]] = {}
    for number, face in enumerate(faces):
        if face.frame is None or face.time_s is None:
            continue
        this = Sighting(face.frame, face.time_s, face)
        presence = current.get(face.person)
        if presence is None or not sampling.are_neighbours(presence[-1][1], this):
            presence = current[face.person] = []
            presences.append(presence)
        presence.append((number, this))
    smoothed = faces.copy()
    for presence in presences:
        times = np.array([sighting.time_s for _, sighting in presence])
        rows = [[sighting.face.probabilities.get(name, math.nan) for name in classes] for _, sighting in presence]
        means = _moving_average(np.array(rows), times, smooth_s)  # [N, C]
        if np.isnan(means).any():
            raise ConfigError(
                f"a face in {faces[0].input!r} has no probability of some emotion, and --smooth needs those of all; "
                "leave such rows out, or leave out --smooth"
            )
        for (number, _), mean in zip(presence, means, strict=True):
            best = int(mean.argmax())
            smoothed[number] = dataclasses.replace(
                faces[number],
                emotion=classes[best],
                score=float(mean[best]),
                probabilities=dict(zip(classes, mean.tolist(), strict=True)),
            )
    return smoothed


def _moving_average(values: NDArray[np.float64], times: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """The mean of the rows at most half of `width` before and after each; at the ends, of those that there are.

    Args:
        values: [N, C].
        times: [N], in order.
    """
    reach = width / 2 + _TOLERANCE_S
    first = np.searchsorted(times, times - reach, "left")
    end = np.searchsorted(times, times + reach, "right")
    sums = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(0)])
    means: NDArray[np.float64] = (sums[end] - sums[first]) / (end - first)[:, None]  # [N, C]
    return means.clip(0, 1)


def _debounced(segments: Sequence[Segment], min_duration_s: float) -> list[Segment]:
    """The segments of a video without those that are too short, in the same order.

    Of a person who is seen without a gap, a segment that is too short takes on the emotion of the last one that is not,
    or at the start of the first one. Where all are too short, all take on the emotion with the most time.
    """
    chains: dict[int, list[Segment]] = {}
    """The segments of a person that follow each other, by the identity of the last."""
    for segment in segments:
        chain = chains.pop(id(segment.previous)) if segment.follows_in_group else []
        chain.append(segment)
        chains[id(segment)] = chain
    kept = [segment for chain in chains.values() for segment in _debounced_chain(chain, min_duration_s)]
    return sorted(kept, key=lambda each: (each.start_s, each.person))


def _debounced_chain(chain: Sequence[Segment], min_duration_s: float) -> list[Segment]:
    def is_long(segment: Segment) -> bool:
        return segment.duration_s >= min_duration_s - _TOLERANCE_S

    emotion = next((segment.emotion for segment in chain if is_long(segment)), None) or _longest_emotion(chain)
    joined: list[Segment] = []
    for segment in chain:
        if is_long(segment):
            emotion = segment.emotion
        if joined and joined[-1].emotion == emotion:
            _join(joined[-1], segment)
        else:
            if segment.emotion != emotion:
                segment = dataclasses.replace(segment, emotion=emotion, score_sum=0.0, num_scores=0)
            previous = joined[-1] if joined else segment.previous
            joined.append(dataclasses.replace(segment, previous=previous))
    return joined


def _longest_emotion(segments: Iterable[Segment]) -> str:
    """The emotion with the most time; of equals, the first."""
    seconds: dict[str, float] = {}
    for segment in segments:
        seconds[segment.emotion] = seconds.get(segment.emotion, 0.0) + segment.duration_s
    return max(seconds, key=lambda name: seconds[name])


def _join(segment: Segment, following: Segment) -> None:
    """Let a segment go on through the next one, whose scores count only if they are of the same emotion."""
    segment.last, segment.end_s = following.last, following.end_s
    segment.num_faces += following.num_faces
    segment.probability_s = [sum(pair) for pair in zip(segment.probability_s, following.probability_s, strict=True)]
    if segment.emotion == following.emotion:
        segment.score_sum += following.score_sum
        segment.num_scores += following.num_scores
