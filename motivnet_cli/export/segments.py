"""What the annotation formats share: rows of an input, segments of a person, labels and boxes as text."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from motivnet_cli.config import DEFAULT_FPS
from motivnet_cli.errors import ConfigError
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from motivnet_cli.export.source import Source


Row = dict[str, Any]
WHERE = ("input", "frame", "time_s", "face", "track")
FACE = ("face_source", "detection_score")
DOMINANT = ("emotion", "confidence")
_NO_EMOTION = "face"
"""Label of every box of a model that names no emotions."""


@dataclass(frozen=True, slots=True, order=True)
class _Person:
    """Who a segment is of: a track where faces were followed, else a face number, which may change its owner."""

    kind: str
    number: int

    @classmethod
    def of(cls, row: Row) -> _Person:
        track = row.get("track")
        return cls("face", row.get("face") or 0) if track is None else cls("track", track)

    @property
    def label(self) -> str:
        return f"{self.kind} {self.number}"


@dataclass(slots=True, eq=False)
class Segment:
    """One person with one dominant emotion, from `start_s` up to `end_s`."""

    person: _Person
    emotion: str
    start_s: float
    last_s: float
    last_frame: int
    end_s: float = math.nan
    scores: list[float] = field(default_factory=list)
    faces: list[Row] = field(default_factory=list)

    @property
    def start_ms(self) -> int:
        return round(1000 * self.start_s)

    @property
    def end_ms(self) -> int:
        return max(round(1000 * self.end_s), self.start_ms + 1)  # ELAN and players want a length

    @property
    def confidence(self) -> float | None:
        """Mean over the faces; None if the model gives none."""
        return sum(self.scores) / len(self.scores) if self.scores else None

    @property
    def text(self) -> str:
        return self.emotion if self.confidence is None else f"{self.emotion} {self.confidence:.2f}"


@dataclass(slots=True)
class Sampling:
    """Which frames of a video were looked at, so that a missing frame can be told from a frame not looked at."""

    fps: float | None
    every: int
    seconds_a_frame: float | None = None
    """Of the video now read, the mean so far; None before its second frame with faces."""

    @classmethod
    def of(cls, source: Source) -> Sampling:
        video = source.record.get("video", {"fps": DEFAULT_FPS})
        every = video.get("every")
        return cls(None if every else video.get("fps"), every or 1)

    @property
    def step_s(self) -> float:
        """Time that one frame stands for."""
        if self.fps is None:
            return self.every * (self.seconds_a_frame or 1 / DEFAULT_FPS)
        return max(1 / self.fps, self.seconds_a_frame or 0)

    def are_neighbours(self, segment: Segment, row: Row) -> bool:
        """Whether no frame was looked at between a segment's last and this one."""
        if row["frame"] - segment.last_frame <= self.every:
            return True
        # Sampled by time, the nearest frame is taken: steps vary by less than half.
        return self.fps is not None and row["time_s"] - segment.last_s < 1.5 / self.fps

    def frames_per_second(self) -> float:
        """Of the video that was read; 24, as Label Studio has it, where a single frame does not tell."""
        return 1 / self.seconds_a_frame if self.seconds_a_frame else 24.0


def segments_of(rows: Iterator[Row], sampling: Sampling, *, with_faces: bool = False) -> list[Segment]:
    """The segments of one video's rows, ordered by start, then person."""
    segments: list[Segment] = []
    current: dict[_Person, Segment] = {}
    sampling.seconds_a_frame = None
    first: Row | None = None
    for row in rows:
        first = first or row
        time_s, frame = row["time_s"], row["frame"]
        if frame > first["frame"] and time_s > first["time_s"]:
            sampling.seconds_a_frame = (time_s - first["time_s"]) / (frame - first["frame"])
        person = _Person.of(row)
        segment = current.get(person)
        if segment is not None:
            follows = sampling.are_neighbours(segment, row)
            segment.end_s = time_s if follows else min(segment.last_s + sampling.step_s, time_s)
            if not follows or segment.emotion != label_of(row):
                segment = None
        if segment is None:
            segment = current[person] = Segment(person, label_of(row), time_s, time_s, frame)
            segments.append(segment)
        segment.last_s, segment.last_frame = time_s, frame
        if (score := score_of(row)) is not None:
            segment.scores.append(score)
        if with_faces:
            segment.faces.append(row)
    for segment in current.values():
        segment.end_s = segment.last_s + sampling.step_s
    return sorted(segments, key=lambda segment: (segment.start_s, segment.person))


def columns_of(source: Source, needed: Sequence[str], useful: Sequence[str]) -> list[str]:
    """Those columns of the source that an export reads."""
    missing = [name for name in ("input", *needed) if name not in source.schema.names]
    if missing:
        raise ConfigError(
            f"this format needs the columns {', '.join(missing)}, and there are only {', '.join(source.schema.names)}; "
            "name them in --columns, or leave that option out"
        )
    return [name for name in dict.fromkeys((*needed, *useful)) if name in source.schema.names]


def dominant_columns(source: Source) -> tuple[str, ...]:
    return DOMINANT if source.classes else ()


def emotion_columns(source: Source) -> tuple[str, ...]:
    return (*dominant_columns(source), *source.classes)


def rows_of(source: Source, columns: Sequence[str]) -> Iterator[Row]:
    for batch in source.batches(columns):
        for row in batch.to_pylist():
            if "emotion" in row and row["emotion"] not in source.classes:
                raise ConfigError(
                    f"a face in {row['input']!r} has emotion {row['emotion']!r}, which is none of the model's "
                    f"({', '.join(source.classes)}); leave such rows out with --where"
                )
            yield row


def inputs_of(source: Source, columns: Sequence[str]) -> Iterator[tuple[Row, Iterator[Row]]]:
    """Every picture and video that was read, with its faces; not those whose faces were all filtered away."""
    groups = itertools.groupby(rows_of(source, columns), key=lambda row: row["input"])
    following = next(groups, None)
    has_inputs = False
    for info in source.inputs():
        has_inputs = True
        if following is not None and following[0] == info["input"]:
            yield info, following[1]
            following = next(groups, None)
        elif not info["faces"] and info["status"] != "failed" and info["kind"] in ("image", "video"):
            yield info, iter(())
    if following is not None and has_inputs:
        raise ConfigError(
            f"the faces of {following[0]!r} are not where its row of the inputs table is; "
            "sort the faces in the order of the inputs table, or export the file that annotate wrote"
        )
    while following is not None:  # a table of someone's own, without one of inputs
        name, rows = following
        first = next(rows)
        kind = "image" if first.get("frame") is None else "video"
        yield {"input": name, "kind": kind, "width": None, "height": None}, itertools.chain([first], rows)
        following = next(groups, None)


def frames_of(info: Row, rows: Iterator[Row]) -> Iterator[tuple[_FrameOf, Iterator[Row]]]:
    """The pictures that an input's faces are in, each with its faces: itself, or the frames of a video."""
    if info["kind"] == "video":
        yield from itertools.groupby(rows, key=lambda row: (row["frame"], row.get("time_s")))
    else:
        yield None, rows


_FrameOf = tuple[int, float | None] | None
"""Number, from 0, and time of a frame; None for a still picture."""


def labels_of(source: Source) -> list[str]:
    return list(source.classes) or [_NO_EMOTION]


def label_of(row: Row) -> str:
    return row.get("emotion") or _NO_EMOTION


def score_of(row: Row) -> float | None:
    return _shortest(row["confidence"] if "confidence" in row else row.get("detection_score"))


def attributes_of(source: Source, row: Row) -> Row:
    """What else is known of a face, without what is not."""
    numbers = {name: _shortest(row.get(name)) for name in (*source.classes, "detection_score")}
    known = {name: value for name, value in numbers.items() if value is not None}
    return known | {"face_source": row["face_source"]} if row.get("face_source") else known


def _shortest(value: float | None) -> float | None:
    """The short decimal that is the same float32: nine digits always are (IEEE 754); None for NaN, which JSON lacks."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.9g}")


def relative_box(info: Row, row: Row) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 as shares of the picture's width and height."""
    width, height = info["width"], info["height"]
    if not width or not height:
        raise ConfigError(
            f"the size of {info['input']!r} is not known, and this format's boxes are relative to it; export from "
            "annotate's own output with its inputs table beside it, or choose coco"
        )
    return row["x1"] / width, row["y1"] / height, row["x2"] / width, row["y2"] / height


def media_path(source: Source, info: Row) -> str:
    """Where an input's file is, as far as the run's record tells; else its name."""
    name: str = info["input"]
    given = [path for key, path in _given(source.record) if key == "inputs.paths"]
    if is_remote(name) or Path(name).is_absolute() or len(given) != 1 or len(_given(source.record)) != 1:
        return name
    base = Path(given[0])
    return str(base / name if base.is_dir() else base) if not info.get("archive") else name


def _given(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the run was told to read, with the setting that told it."""
    settings = record.get("settings", {})
    keys = ("inputs.paths", "inputs.files_from", "inputs.files0_from", "inputs.manifests")
    return [(key, path) for key in keys for path in settings.get(key) or ()]


def about(source: Source) -> str:
    return f"Faces and their emotions as predicted by {source.record.get('model', 'an unnamed model')}"


class Elements:
    """The elements of a JSON array or object, written one by one."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.count = 0

    def add(self, value: object, *, key: str | None = None) -> None:
        name = "" if key is None else f"{json_text(key)}: "
        self._file.write(f"{',' if self.count else ''}\n{name}{json_text(value)}")
        self.count += 1


def json_text(value: object) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def text_file(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", newline="\n")
