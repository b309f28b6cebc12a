"""The rows of a source as records: every picture and video that was read, with its faces.

This module knows the columns of both tables, what a face is labelled, and where its picture lies; it knows no format.
"""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from motivnet_cli.errors import ConfigError, one_line
from motivnet_cli.export.source import InputRow
from motivnet_cli.records import BOX_COLUMNS, LANDMARK_COLUMNS, LANDMARKS, SIZE_COLUMNS
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from motivnet_cli.export.source import Source
    from motivnet_cli.records import Box, Point

log = logging.getLogger(__name__)

EMOTION_COLUMNS = ("emotion", "confidence")
POSITION_COLUMNS = ("input", "frame", "time_s", "face", "track")
DETECTION_COLUMNS = ("face_source", "detection_score")
_NO_EMOTION = "face"
"""Label of every face of a model that names no emotions."""
Group: TypeAlias = str | int | bool | None
"""A value that faces can be grouped by."""


@dataclass(frozen=True, slots=True, order=True)
class Person:
    """Whom a face belongs to: a track where faces were tracked, else a face number, which can change its owner."""

    kind: Literal["face", "track"]
    number: int

    @property
    def label(self) -> str:
        return f"{self.kind} {self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceRow:
    """A row of the faces table; None where a value is null, or its column is not read.

    Scores and probabilities are the shortest decimals that give the same float32; None where they are not finite.
    """

    input: str
    frame: int | None
    """Number in the video, from 0; None in a still picture."""
    time_s: float | None
    number: int | None
    """Of the face in its picture, from 0."""
    track: int | None
    box: Box | None
    picture_size: tuple[int, int] | None
    """Width and height of its own picture or frame in pixels."""
    emotion: str | None
    score: float | None
    """Confidence of the emotion, 0 to 1; where that column is not read, the detection score."""
    probabilities: Mapping[str, float]
    """By emotion, in the order of the classes; without those that are None."""
    detection_score: float | None
    face_source: str | None
    landmarks: Mapping[str, Point] | None
    """Those that are known, by name, in pixels; None where not all of their columns are read."""
    group: Group = None
    """The value of the column that faces are grouped by; None where they are not."""

    @property
    def label(self) -> str:
        return self.emotion or _NO_EMOTION

    @property
    def person(self) -> Person:
        return Person("face", self.number or 0) if self.track is None else Person("track", self.track)

    @property
    def attributes(self) -> dict[str, float | str]:
        """The probabilities, `detection_score` and `face_source`, as far as they are known."""
        attributes: dict[str, float | str] = dict(self.probabilities)
        if self.detection_score is not None:
            attributes["detection_score"] = self.detection_score
        if self.face_source:
            attributes["face_source"] = self.face_source
        return attributes

    def landmarks_inside(self, info: InputRow) -> dict[str, Point]:
        """Those of the landmarks that lie in their picture, as far as its size is known."""
        width, height = self.picture_size or (info.width, info.height)
        return {
            name: (x, y)
            for name, (x, y) in (self.landmarks or {}).items()
            if 0 <= x <= (width or math.inf) and 0 <= y <= (height or math.inf)
        }

    def box_in_pixels(self) -> Box:
        """The box, in pixels of the upright picture.

        Raises:
            ConfigError: It is null.
        """
        if self.box is None:
            raise ConfigError(f"a face in {self.input!r} has no box; leave such rows out with --where")
        return self.box

    def size(self, info: InputRow) -> tuple[int, int]:
        """Width and height of its own picture or frame in pixels.

        Raises:
            ConfigError: They are not known.
        """
        width, height = self.picture_size or (info.width, info.height)
        if not width or not height:
            raise ConfigError(
                f"the size of {info.input!r} is not known, and this format's boxes are relative to it; export from "
                "annotate's own output with its inputs table beside it, or choose coco"
            )
        return width, height

    def box_in_shares(self, info: InputRow) -> Box:
        """The box, as shares of the width and height of its own picture or frame.

        Raises:
            ConfigError: It is null, or the size of the picture is not known.
        """
        width, height = self.size(info)
        x1, y1, x2, y2 = self.box_in_pixels()
        return x1 / width, y1 / height, x2 / width, y2 / height


class FrameTime(NamedTuple):
    """Which frame of a video."""

    number: int
    """From 0."""
    time_s: float | None
    size: tuple[int, int] | None = None
    """Width and height in pixels, where they are known."""


def label_names(source: Source) -> list[str]:
    """All labels that the faces of a source can have."""
    return list(source.classes) or [_NO_EMOTION]


def emotion_columns(source: Source) -> tuple[str, ...]:
    """The columns of the dominant emotion; none for a model that names no emotions."""
    return EMOTION_COLUMNS if source.classes else ()


def select_columns(source: Source, *, needed: Sequence[str], optional: Sequence[str]) -> list[str]:
    """The columns that an export reads: `input`, the needed ones, and those of the optional ones that the source has.

    Raises:
        ConfigError: `input` or a needed column is missing, or the size of the pictures is wanted and was left out.
    """
    # A size that is there must be used: that of the inputs table may be another frame's.
    sizes = [name for name in SIZE_COLUMNS if name in optional and name in source.stored_names]
    needed = ("input", *needed, *sizes)
    missing = [name for name in needed if name not in source.schema.names]
    if missing:
        raise ConfigError(
            f"this format needs the columns {', '.join(missing)}, and there are only {', '.join(source.schema.names)}; "
            "name them in --columns, or leave that option out"
        )
    return [name for name in dict.fromkeys((*needed, *optional)) if name in source.schema.names]


def has_landmarks(columns: Sequence[str]) -> bool:
    """Whether all columns of the landmarks are among these."""
    return set(LANDMARK_COLUMNS) <= set(columns)


def face_rows(source: Source, columns: Sequence[str], *, group_by: str | None = None) -> Iterator[FaceRow]:
    """The faces in the order of the table, with what the columns hold.

    Args:
        columns: To be read.
        group_by: That of them whose value is the `group` of a face.

    Raises:
        ConfigError: The column `emotion` is read, and names an emotion that the model does not.
    """
    classes = [name for name in source.classes if name in columns]
    has_boxes, has_points = set(BOX_COLUMNS) <= set(columns), has_landmarks(columns)
    score = "confidence" if "confidence" in columns else "detection_score"
    for batch in source.batches(columns):
        for row in batch.to_pylist():
            if "emotion" in row and row["emotion"] not in source.classes:
                raise ConfigError(
                    f"a face in {row['input']!r} has emotion {row['emotion']!r}, which is none of the model's "
                    f"({', '.join(source.classes)}); leave such rows out with --where"
                )
            box = (row["x1"], row["y1"], row["x2"], row["y2"]) if has_boxes else None
            size = (row.get("picture_width"), row.get("picture_height"))
            probabilities = {name: _short(row[name]) for name in classes}
            yield FaceRow(
                input=row["input"],
                frame=row.get("frame"),
                time_s=row.get("time_s"),
                number=row.get("face"),
                track=row.get("track"),
                box=None if box is None or None in box else box,
                picture_size=None if None in size else size,
                emotion=row.get("emotion"),
                score=_short(row.get(score)),
                probabilities={name: value for name, value in probabilities.items() if value is not None},
                detection_score=_short(row.get("detection_score")),
                face_source=row.get("face_source"),
                landmarks=_landmarks_of(row) if has_points else None,
                group=row[group_by] if group_by is not None else None,
            )


def _landmarks_of(row: Mapping[str, float | None]) -> dict[str, Point]:
    places = ((name, _short(row[f"{name}_x"]), _short(row[f"{name}_y"])) for name in LANDMARKS)
    return {name: (x, y) for name, x, y in places if x is not None and y is not None}


def _short(value: float | None) -> float | None:
    """The short decimal that is the same float32: nine digits always are (IEEE 754); None for NaN, which JSON lacks."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.9g}")


def inputs_with_faces(
    source: Source, columns: Sequence[str], *, group_by: str | None = None
) -> Iterator[tuple[InputRow, Iterator[FaceRow]]]:
    """Every picture and video that was read, with its faces; without those whose faces were all filtered out.

    The faces of one must be taken before the next is asked for.

    Raises:
        ConfigError: As `face_rows`; or the faces are not in the order of the inputs table.
    """
    groups = itertools.groupby(face_rows(source, columns, group_by=group_by), key=lambda face: face.input)
    following = next(groups, None)
    has_inputs = False
    for info in source.inputs():
        has_inputs = True
        if following is not None and following[0] == info.input:
            yield info, following[1]
            following = next(groups, None)
        elif not info.faces and info.status != "failed" and info.kind in ("image", "video"):
            yield info, iter(())
    if following is not None and has_inputs:
        raise ConfigError(
            f"the faces of {following[0]!r} are not where its row of the inputs table is; "
            "sort the faces in the order of the inputs table, or export the file that annotate wrote"
        )
    while following is not None:  # the source has no inputs table
        name, faces = following
        first = next(faces)
        info = InputRow(input=name, kind="image" if first.frame is None else "video", status="ok")
        yield info, itertools.chain([first], faces)
        following = next(groups, None)


def faces_by_frame(info: InputRow, faces: Iterator[FaceRow]) -> Iterator[tuple[FrameTime | None, Iterator[FaceRow]]]:
    """The frames of a video that have faces, each with its faces; a still picture is one frame, None."""
    if info.kind != "video":
        yield None, faces
        return
    frames = itertools.groupby(faces, key=lambda face: (face.frame, face.time_s, face.picture_size))
    for (number, time_s, size), group in frames:
        yield (None if number is None else FrameTime(number, time_s, size)), group


def time_offsets(source: Source) -> dict[str, float]:
    """By name, the videos that do not begin with their file: the seconds from its start to theirs."""
    warn_of_unknown_offsets(source)
    return {info.input: info.time_offset_s for info in source.inputs() if info.time_offset_s}


def warn_of_unknown_offsets(source: Source) -> None:
    """Say so where it is not known when videos begin."""
    if not source.has_inputs:
        log.warning(
            "%s has no inputs table beside it: times count from the start of each video stream, not of its file",
            source.path,
        )


def media_path(source: Source, name: str, *, is_member: bool = False) -> str:
    """Where the file of an input is, as far as the run's record says; else the name of the input.

    Args:
        name: Of the input.
        is_member: It is a member of an archive, so it has no file of its own.
    """
    paths = source.settings("inputs.paths")
    others = source.settings("inputs.files_from", "inputs.files0_from", "inputs.manifests")
    folder = source.record.get("settings", {}).get("inputs.relative_to")
    if is_remote(name) or Path(name).is_absolute() or is_member:
        return name
    if isinstance(folder, str):
        return str(Path(folder, name))
    if len(paths) != 1 or others:
        return name
    base = Path(paths[0])
    return str(base / name if base.is_dir() else base)


def describe(source: Source) -> str:
    """A line for the formats that have a place for a description."""
    return one_line(f"Faces and their emotions as predicted by {source.record.get('model', 'an unnamed model')}")
