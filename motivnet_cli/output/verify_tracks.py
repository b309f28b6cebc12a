"""The tracks of videos, held against docs/tracks.md, and followed again from the stored boxes and embeddings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.config import VideoConfig
from motivnet_cli.output.tables import embedding_matrix, in_heights
from motivnet_cli.records import BOX_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

    from motivnet_cli.faces.track import TrackConfig, Tracker
    from motivnet_cli.output.findings import Findings
    from motivnet_cli.output.verify_inputs import Mask


@dataclass(slots=True)
class _Frame:
    """The faces of one frame, as far as they have come."""

    key: tuple[str, int, float]
    """Input, number, time in seconds."""
    tracks: list[int | None] = field(default_factory=list)
    boxes: list[NDArray[np.float32]] = field(default_factory=list)
    embeddings: list[NDArray[np.generic]] = field(default_factory=list)


class TracksCheck:
    """Goes through the rows of videos in their order.

    Args:
        settings: Of the run's record.
        recomputes: Whether tracks follow from what is stored by the rules of this version.
    """

    def __init__(self, findings: Findings, settings: Mapping[str, object], *, recomputes: bool) -> None:
        self._findings = findings
        self._config = _track_config(settings)
        self._recomputes = recomputes
        self._is_over = False
        self._frame: _Frame | None = None
        self._video: str | None = None
        self._next = 0
        self._seen: dict[int, float] = {}
        """Of the video, the tracks of the last longest gap, with the times at which they were seen."""
        self._tracker: Tracker | None = None

    def give_up(self) -> None:
        """Rows are missing: what follows cannot be told from those before."""
        self._frame, self._is_over = None, True

    def add(self, table: pa.RecordBatch, is_video: Mask) -> None:
        """Take some rows.

        Args:
            is_video: Which of them [N] have a frame and a time; the others must have no track.
        """
        tracks = table["track"].to_pylist()
        for row in np.flatnonzero(~is_video).tolist():
            if tracks[row] is not None:
                self._findings.fault("tracks", repr(table["input"][row].as_py()), "a track in a picture")
        rows = np.flatnonzero(is_video).tolist()
        if not rows or self._is_over:
            return
        boxes = np.stack([table[name].to_numpy(zero_copy_only=False) for name in BOX_COLUMNS], axis=1)  # [N, 4]
        boxes = in_heights(boxes, table["picture_height"].to_pylist())
        if table["embedding"].null_count:  # which is a fault of its own
            self._recomputes, self._tracker = False, None
        embeddings = embedding_matrix(table["embedding"]) if self._recomputes else np.zeros((len(table), 1))  # [N, D]
        names, frames, times = (table[name].to_pylist() for name in ("input", "frame", "time_s"))
        for row in rows:
            key = names[row], frames[row], times[row]
            if self._frame is None or self._frame.key != key:
                self.end()
                self._frame = _Frame(key)
            self._frame.tracks.append(tracks[row])
            self._frame.boxes.append(boxes[row])
            self._frame.embeddings.append(embeddings[row].copy())

    def end(self) -> None:
        """The frame in hand has no more faces."""
        frame, self._frame = self._frame, None
        if frame is None:
            return
        name, number, time_s = frame.key
        if name != self._video:
            self._begin(name)
        where = f"{name!r}, frame {number}"
        tracks = [track for track in frame.tracks if track is not None]
        if len(tracks) < len(frame.tracks) or min(tracks) < 0:
            self._findings.fault("tracks", where, "a face without a track")
            self._tracker = None
            return
        if len(set(tracks)) < len(tracks):
            self._findings.fault("tracks", where, f"one track twice in a frame: {tracks}")
            self._tracker = None
        self._check_numbers(tracks, time_s, where)
        self._check_followed(frame, tracks, where)

    def _begin(self, name: str) -> None:
        self._video, self._next, self._seen = name, 0, {}
        self._tracker = None
        if self._recomputes:
            from motivnet_cli.faces.track import Tracker

            self._tracker = Tracker(self._config)

    def _check_numbers(self, tracks: list[int], time_s: float, where: str) -> None:
        longest = self._config.max_gap_s
        self._seen = {track: seen for track, seen in self._seen.items() if time_s - seen <= longest}
        for track in tracks:
            if track > self._next:
                self._findings.fault("tracks", where, f"track {track} appears, and the next new one is {self._next}")
            elif track < self._next and track not in self._seen:
                what = f"track {track} goes on after more than {longest:g} s without its face"
                self._findings.fault("tracks", where, what)
            self._next = max(self._next, track + 1)
            self._seen[track] = time_s

    def _check_followed(self, frame: _Frame, tracks: list[int], where: str) -> None:
        """Once a video; what comes after the first difference follows from it."""
        if self._tracker is None:
            return
        found = self._tracker.assign(np.stack(frame.boxes), np.stack(frame.embeddings), frame.key[2]).tolist()
        if found != tracks:
            self._findings.fault("tracks", where, f"tracks {tracks}, and its boxes and embeddings lead to {found}")
            self._tracker = None


def _track_config(settings: Mapping[str, object]) -> TrackConfig:
    from motivnet_cli.faces.track import TrackConfig  # it takes half a second of importing scipy

    fps, every = settings.get("video.fps"), settings.get("video.every")
    video = VideoConfig(
        fps=float(fps) if isinstance(fps, int | float) else None, every=every if isinstance(every, int) else None
    )
    return TrackConfig.for_interval(video.interval_s)
