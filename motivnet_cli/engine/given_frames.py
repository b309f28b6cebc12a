"""Which frames of a video a manifest's boxes belong to."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from motivnet_cli.errors import InputError
from motivnet_cli.faces.crop import placed
from motivnet_cli.records import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from motivnet_cli.records import Frame, GivenFace

_TIME_TOLERANCE_S = 0.0005
"""Times in tables are often rounded to milliseconds."""


class GivenFrames:
    """The frames that faces were given for, out of all frames of a video.

    A face with a time belongs to the frame that a player shows then: the last one that begins at this time or before.
    """

    def __init__(self, given: Sequence[GivenFace]) -> None:
        self._by_number: dict[int, list[GivenFace]] = defaultdict(list)
        timed: list[tuple[float, GivenFace]] = []
        for face in given:
            if face.frame is not None:
                self._by_number[face.frame].append(face)
            elif face.time_s is not None:
                timed.append((face.time_s, face))
        self._timed = sorted(timed, key=lambda pair: pair[0], reverse=True)
        """The earliest last."""
        self._bad: list[str] = []

    def among(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, tuple[GivenFace, ...]]]:
        """The frames that have faces, each with those whose box can be in it.

        Args:
            frames: All frames of the video in their order; every one has an index and a time.
        """
        held: Frame | None = None  # until the next one says how long it is shown
        duration_s = 0.0
        for frame in frames:
            start_s = frame.time_s or 0.0
            if held is not None:
                duration_s = start_s - (held.time_s or 0.0)
                yield from self._with_faces(held, until_s=start_s - _TIME_TOLERANCE_S)
            held = frame
        if held is not None:
            yield from self._with_faces(held, until_s=(held.time_s or 0.0) + max(duration_s, 2 * _TIME_TOLERANCE_S))

    def _with_faces(self, frame: Frame, *, until_s: float) -> Iterator[tuple[Frame, tuple[GivenFace, ...]]]:
        faces = self._by_number.pop(frame.index, []) if frame.index is not None else []
        while self._timed and self._timed[-1][0] < until_s:
            time_s, face = self._timed.pop()
            if time_s < (frame.time_s or 0.0) - _TIME_TOLERANCE_S:
                self._bad.append(f"no frame is shown at {time_s:g} s")
            else:
                faces.append(face)
        usable = tuple(face for face in faces if self._fits(face, frame))
        if usable:
            yield frame, usable

    def _fits(self, face: GivenFace, frame: Frame) -> bool:
        height, width = frame.rgb.shape[:2]
        try:
            placed(face, height=height, width=width)
        except InputError as error:
            self._bad.append(f"frame {frame.index}: {error}")
            return False
        return True

    @property
    def problem(self) -> Problem | None:
        """What was wrong with boxes, when all frames have passed."""
        missed = [f"there is no frame {number}" for number in self._by_number]
        missed += [f"no frame is shown at {time_s:g} s" for time_s, _ in reversed(self._timed)]
        bad = [*self._bad, *missed]
        if not bad:
            return None
        more = f" (and {len(bad) - 1} more boxes that cannot be used)" if len(bad) > 1 else ""
        return Problem("bad_box", f"a box of the manifest cannot be used: {bad[0]}{more}")
