"""Who is seen in a run, and with which emotions: the figures of `motivnet summary`, a bounded number of its rows.

A row is a track or a video, and of photographs a folder.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from motivnet_cli.export.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motivnet_cli.export.filters import Filters

MAX_SHOWN = 24
"""Rows of each kind: those that are seen longest, or that have most faces."""

Kind: TypeAlias = Literal["video", "image"]
By: TypeAlias = Literal["track", "input", "folder"]
WHERE: dict[Kind, str] = {"video": "frame IS NOT NULL", "image": "frame IS NULL"}
"""The faces in videos, and those in photographs, as conditions of `Source`."""


@dataclass(slots=True)
class Seen:
    """A row: a person, a video, a folder of photographs, or all of a kind."""

    key: tuple[str, int | None]
    """Input and track, or a folder; "" for all."""
    faces: int
    inputs: int | None
    """Photographs in which there are faces; None for a person."""
    seconds: float | None
    """None for photographs, and for a video whose rate is not known."""
    first_s: float | None
    last_s: float | None
    shares: dict[str, float]
    """0 to 1 by emotion, in the order of tables; all 0 where there is no face."""
    dominant: str | None
    episodes: int | None
    mean_episode_s: float | None
    transitions: int | None
    """None where they are not known, and for photographs."""

    @property
    def weight(self) -> float:
        """By which rows of a kind are compared and added up: seconds, or faces."""
        return self.faces if self.seconds is None else self.seconds

    @property
    def largest_first(self) -> list[tuple[str, float]]:
        return largest_first(self.shares)


def largest_first(shares: Mapping[str, float]) -> list[tuple[str, float]]:
    """The emotions that have a share."""
    return sorted(((name, share) for name, share in shares.items() if share), key=lambda each: -each[1])


@dataclass(frozen=True, slots=True)
class People:
    """The rows of a kind."""

    kind: Kind
    by: By
    shown: list[Seen]
    """In the order of the inputs."""
    num_rows: int
    total: Seen
    """Of all rows, shown or not."""
    num_untimed: int
    """Videos whose rate is not known: they are not in the total."""

    @property
    def num_without_episodes(self) -> int:
        """Rows shown of which it is not known whose face is whose."""
        return sum(row.seconds is not None and row.episodes is None for row in self.shown)


def people_in(path: str, kind: Kind, by: By, filters: Filters, *, has_frames: bool) -> People | None:
    """The rows of a kind; None where there are none.

    Args:
        path: What `Source` takes.
        has_frames: Whether the table has a column `frame`; without one, all faces are in photographs.

    Raises:
        ConfigError: As `Summary`.
    """
    conditions = ["emotion IS NOT NULL", *([WHERE[kind]] if has_frames else [])]
    summary = Summary(path, by=by, filters=filters, where=" AND ".join(conditions))
    total = _Total(kind, dict.fromkeys(summary.classes, 0.0))
    largest: list[tuple[float, int, Seen]] = []
    for number, row in enumerate(_seen(row, summary) for row in summary.rows() if row["kind"] == kind):
        total.add(row)
        push = heapq.heappush if len(largest) < MAX_SHOWN else heapq.heappushpop
        push(largest, (row.weight, -number, row))
    if not largest:
        return None
    shown = [row for _, _, row in sorted(largest, key=lambda each: -each[1])]
    return People(kind, by, shown, total.num_rows, total.row, total.num_untimed)


def _seen(row: Mapping[str, object], summary: Summary) -> Seen:
    """A row of a summary."""
    values = cast("dict[str, Any]", row)
    return Seen(
        key=(values[summary.keys[0]], values.get("track")),
        faces=values["faces"],
        inputs=values.get("inputs"),
        seconds=values["seconds"],
        first_s=values.get("first_s"),
        last_s=values.get("last_s"),
        shares={name: values[f"{name}_share"] or 0.0 for name in summary.classes},
        dominant=values["dominant"],
        episodes=values["episodes"],
        mean_episode_s=values["mean_episode_s"],
        transitions=values["transitions"],
    )


@dataclass(slots=True)
class _Total:
    """The sum of rows of one kind."""

    kind: Kind
    weights: dict[str, float]
    """Seconds, or faces, by emotion."""
    num_rows: int = 0
    num_untimed: int = 0
    faces: int = 0
    inputs: int = 0

    def add(self, row: Seen) -> None:
        self.num_rows += 1
        if self.kind == "video" and row.seconds is None:
            self.num_untimed += 1
            return
        self.faces += row.faces
        self.inputs += row.inputs or 0
        for name, share in row.shares.items():
            self.weights[name] += share * row.weight

    @property
    def row(self) -> Seen:
        weight = sum(self.weights.values())
        is_video = self.kind == "video"
        return Seen(
            key=("", None),
            faces=self.faces,
            inputs=None if is_video else self.inputs,
            seconds=weight if is_video else None,
            first_s=None,
            last_s=None,
            shares={name: round(each / weight, 6) if weight else 0.0 for name, each in self.weights.items()},
            dominant=max(self.weights, key=lambda name: self.weights[name]) if weight else None,
            episodes=None,
            mean_episode_s=None,
            transitions=None,
        )
