"""Which faces of a video are one person's: track ids, given frame by frame in the order of time.

Decisions depend on the values handed in, and of those on the last `max_gap_s` seconds alone, so that a tracker made
from stored rows decides as one that was never stopped. Embeddings are of expressions, not of identities: overlap counts
first (docs/tracks.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from motivnet_cli.errors import ConfigError
from motivnet_cli.faces.boxes import areas, iou

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Embeddings = NDArray[np.float16] | NDArray[np.float32]
    TrackedFrame = tuple[float, NDArray[np.float32], Embeddings, NDArray[np.int64]]
    """Time in seconds, boxes [N, 4], embeddings [N, D] and track ids [N] of the faces of one frame."""

# The measurements behind these numbers are in docs/decisions/0007-tracks.md.
MIN_GAP_S = 2.0
"""The longest gap in a track is this, or longer where frames are further apart."""
GAP_INTERVALS = 2.5
"""And it is as long as so many intervals: one missed frame lies within it, and half an interval is left for frames that
come late."""
MIN_IOU = 0.3
"""From this overlap on, two boxes are at one place."""
MIN_SIMILARITY = 0.4
"""Cosine similarity below which two faces at one place are two people, a second or more apart."""
MIN_SIMILARITY_AT_ONCE = 0.65
"""The same bound for two faces at the same moment ..."""
SIMILARITY_LOST_PER_S = 0.25
"""... and by how much it falls in a second, until it is MIN_SIMILARITY."""
MIN_SIMILARITY_ELSEWHERE = 0.7
"""The same bound for a face that does not overlap the track's last box."""
MAX_DISTANCE = 1.0
MAX_DISTANCE_PER_S = 1.0
"""How far such a face may be from that box, in sides of the smaller of the two: at the same moment, and more in each
second since."""
MAX_SIZE_RATIO = 2.0
"""How many times larger or smaller such a face may be."""
SIMILARITY_WEIGHT = 0.5
"""What similarity counts beside IoU when faces compete for tracks: the most with which a face that overlaps never loses
to one that does not, as MIN_IOU + 0.5 * MIN_SIMILARITY is 0.5. Two people who sit side by side and exchange their
expressions keep their tracks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackConfig:
    """How long a track waits for its face."""

    max_gap_s: float = GAP_INTERVALS
    """Seconds after which an unseen face is forgotten; the default is for one frame a second."""

    def __post_init__(self) -> None:
        if not (isfinite(self.max_gap_s) and self.max_gap_s > 0):
            raise ConfigError(f"the longest gap in a track must be more than 0 seconds, got {self.max_gap_s}")

    @classmethod
    def for_interval(cls, interval_s: float) -> TrackConfig:
        """Settings for frames taken every `interval_s` seconds: gaps up to 2.5 of them, and up to 2 s in any case."""
        return cls(max_gap_s=max(MIN_GAP_S, GAP_INTERVALS * interval_s))


class Tracker:
    """Gives the faces of one video their track ids, from 0 in order of first appearance."""

    def __init__(self, config: TrackConfig) -> None:
        self._max_gap_s = config.max_gap_s
        self._next_id = 0
        self._last_seen: dict[int, _Sighting] = {}

    @classmethod
    def resume(cls, config: TrackConfig, frames: Iterable[TrackedFrame], *, next_id: int) -> Tracker:
        """A tracker that goes on as the one that gave these ids would have.

        Args:
            frames: In the order in which they were assigned, all faces of a frame together, at least those of the
                last `max_gap_s` seconds; frames without faces may be left out.
            next_id: One more than the largest id of the whole video so far, 0 if there is none.
        """
        tracker = cls(config)
        tracker._next_id = next_id
        for time_s, boxes, embeddings, tracks in frames:
            assert tracks.max(initial=-1) < next_id, f"track {tracks.max()} was given, but next_id is {next_id}"
            tracker._forget(time_s)
            tracker._remember(tracks, boxes, embeddings, time_s)
        return tracker

    @property
    def next_id(self) -> int:
        """The id of the next new track: one more than the largest so far."""
        return self._next_id

    def assign(self, boxes: NDArray[np.float32], embeddings: Embeddings, time_s: float) -> NDArray[np.int64]:
        """The track of every face of the next frame.

        All values must be those that are stored, embeddings rounded to float16 where the output holds float16.
        All faces of a frame go in one call. New ids follow the order of the rows.

        Args:
            boxes: float32 [N, 4], x1 y1 x2 y2, all frames in one unit of length; N may be 0.
            embeddings: float16 or float32 [N, D].
            time_s: Of the frame. Where time steps back, tracks seen later than it end.

        Returns:
            int64 [N], no id twice.

        Raises:
            ConfigError: The faces have no embeddings.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] == 0:
            raise ConfigError(
                f"tracks need the embeddings of the faces, got an array of shape {list(embeddings.shape)}: "
                "use --embeddings float16 or float32, or leave out --track"
            )
        assert boxes.shape == (len(embeddings), 4), f"{boxes.shape} boxes for {embeddings.shape} embeddings"
        self._forget(time_s)
        tracks = np.full(len(boxes), -1, np.int64)
        ids = sorted(self._last_seen)  # not the order of insertion, which a resume does not know
        if ids and len(boxes):
            scores = _scores([self._last_seen[track] for track in ids], boxes, embeddings, time_s)  # [T, N]
            rows, faces = linear_sum_assignment(scores, maximize=True)
            joined = scores[rows, faces] > 0
            tracks[faces[joined]] = np.array(ids)[rows[joined]]
        new = np.flatnonzero(tracks < 0)
        tracks[new] = np.arange(self._next_id, self._next_id + len(new))
        self._next_id += len(new)
        self._remember(tracks, boxes, embeddings, time_s)
        return tracks

    def _forget(self, time_s: float) -> None:
        self._last_seen = {
            track: seen for track, seen in self._last_seen.items() if 0 <= time_s - seen.time_s <= self._max_gap_s
        }

    def _remember(
        self, tracks: NDArray[np.int64], boxes: NDArray[np.float32], embeddings: Embeddings, time_s: float
    ) -> None:
        for track, box, embedding in zip(tracks.tolist(), boxes, embeddings, strict=True):
            # Copies, so that no batch of predictions is kept alive by one of its rows.
            self._last_seen[track] = _Sighting(box.astype(np.float64), embedding.astype(np.float64), time_s)


@dataclass(frozen=True, slots=True, eq=False)
class _Sighting:
    """The last face of a track."""

    box: NDArray[np.float64]
    """[4]."""
    embedding: NDArray[np.float64]
    """[D]."""
    time_s: float


def _scores(
    seen: list[_Sighting], boxes: NDArray[np.float32], embeddings: Embeddings, time_s: float
) -> NDArray[np.float64]:
    """How well each face [N] goes on each track [T]: [T, N], 0 where it cannot."""
    before = np.stack([sighting.box for sighting in seen])  # [T, 4]
    now = boxes.astype(np.float64)  # [N, 4]
    elapsed = np.array([time_s - sighting.time_s for sighting in seen])[:, None]  # [T, 1]
    similarity = _cosine(np.stack([sighting.embedding for sighting in seen]), embeddings.astype(np.float64))  # [T, N]
    overlap = _rounded(iou(before, now))  # [T, N]
    needed = np.maximum(MIN_SIMILARITY, MIN_SIMILARITY_AT_ONCE - SIMILARITY_LOST_PER_S * elapsed)  # [T, 1]
    at_one_place = (overlap >= MIN_IOU) & (similarity >= needed)
    is_near = _are_near(before, now, MAX_DISTANCE + MAX_DISTANCE_PER_S * elapsed)
    elsewhere = is_near & (similarity >= MIN_SIMILARITY_ELSEWHERE)
    return np.where(at_one_place | elsewhere, overlap + SIMILARITY_WEIGHT * similarity, 0.0)


def _are_near(a: NDArray[np.float64], b: NDArray[np.float64], max_distance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the boxes [N, 4] are near which of [T, 4], and of a like size: [T, N].

    Args:
        max_distance: [T, 1], of the centres, in sides of the smaller of the two boxes.
    """
    sizes_a, sizes_b = np.sqrt(areas(a))[:, None], np.sqrt(areas(b))[None]  # [T, 1], [1, N]
    smaller, larger = np.minimum(sizes_a, sizes_b), np.maximum(sizes_a, sizes_b)  # [T, N]
    centres_a, centres_b = (a[:, :2] + a[:, 2:]) / 2, (b[:, :2] + b[:, 2:]) / 2  # [T, 2], [N, 2]
    distance = np.linalg.norm(centres_a[:, None] - centres_b[None], axis=2)  # [T, N]
    near: NDArray[np.bool_] = (distance <= max_distance * smaller) & (larger <= MAX_SIZE_RATIO * smaller)
    return near


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine similarity of vectors [T, D] and [N, D]: [T, N]; 0 where one is zero or not finite."""
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None]  # [T, N]
    usable = np.isfinite(lengths) & (lengths > 0)
    products = np.where(np.isfinite(a), a, 0) @ np.where(np.isfinite(b), b, 0).T
    return _rounded(np.divide(products, lengths, out=np.zeros_like(products), where=usable))


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """To millionths, far above what the order of a sum changes: what is equal is equal on every machine."""
    return np.round(values, 6)
