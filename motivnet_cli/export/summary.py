"""What predictions say of each input, track or group: a row for each, with how much of every emotion was seen.

Videos are counted in seconds, over the segments that captions show, and photographs in faces; the two are never added
up. The faces of one input are read at a time; the figures of all groups of a column are held.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
import posixpath
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import polars as pl
import pyarrow as pa

from motivnet_cli.durable import durably, temporary_name
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.destination import check_destination
from motivnet_cli.export.rows import POSITION_COLUMNS, inputs_with_faces, warn_of_unknown_offsets
from motivnet_cli.export.segments import Sampling
from motivnet_cli.export.source import Source
from motivnet_cli.export.tables import escape_formulas
from motivnet_cli.export.workbook import write_sheets
from motivnet_cli.output.tables import METADATA_KEY, TableWriter
from motivnet_cli.records import in_column_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from motivnet_cli.export.filters import Filters
    from motivnet_cli.export.rows import FaceRow, Group
    from motivnet_cli.export.segments import Segment, VideoSegments
    from motivnet_cli.export.source import InputRow

    _Key: TypeAlias = tuple[Group, ...]
    """Kind, and the values of the columns that a row is of."""
    _Tallies: TypeAlias = dict[_Key, "_Tally"]

log = logging.getLogger(__name__)

_DECIMALS = 6
"""Of seconds, shares and probabilities: microseconds and millionths, so that 1.4 is not 1.4000000000000001."""
_BATCH = 1024
"""Rows that are written at a time."""


class Summary:
    """The summary of predictions.

    Args:
        path: An output of `annotate`, or a table like it (see `Source`).
        by: `input`, `track`, another column of text, whole numbers or truth values, or `folder`: that of the input, in
            a table without such a column.
        filters: Of the emotions in videos.
        where: Count only these faces (see `Source`).

    Raises:
        ConfigError: It is no such table, its model names no emotions, or it cannot be grouped so.
    """

    def __init__(self, path: str | Path, *, by: str, filters: Filters, where: str | None = None) -> None:
        self.source = Source(path, embeddings=False, where=where)
        self.by = by
        self.filters = filters
        self._is_by_folder = by == "folder" and by not in self.source.schema.names
        self._is_grouped = by not in ("input", "track")
        _check_columns(self.source, None if self._is_by_folder else by)
        self.classes = in_column_order(self.source.classes)
        self.schema = self._schema()
        """Of the rows: every field's `doc` says what it holds, and the metadata hold the run's record."""
        self.keys = [name for name in self.schema.names if name in ("input", by)]
        """The columns that a row is of."""
        self._names = self.schema.names
        self._filtered: dict[str, float | None] = dataclasses.asdict(filters)

    def rows(self) -> Iterator[Mapping[str, Group | float]]:
        """The rows in the order of the inputs, or in that in which groups appear; no number in them is NaN.

        Raises:
            ConfigError: A file cannot be read, or the faces are not in the order in which `annotate` writes them.
        """
        sampling = Sampling.of(self.source)
        columns = ("input", "emotion", self.by, *POSITION_COLUMNS, *self.source.classes)
        columns = tuple(name for name in dict.fromkeys(columns) if name in self.source.schema.names)
        remarks = _Remarks(self.source, self.filters, sampling)
        groups: _Tallies = {}
        group_by = self.by if self._is_grouped and not self._is_by_folder else None
        for info, faces in inputs_with_faces(self.source, columns, group_by=group_by):
            remarks.check_input(info)
            tallies: _Tallies = {}
            if self.by == "input":  # an input has a row, whatever was found in it
                tallies[info.kind, info.input] = _Tally(self.source.classes)
            if info.kind == "video":
                self._add_video(info, faces, sampling, tallies, remarks)
            else:
                for face in faces:
                    self._tally_of(info, face, tallies).add_picture(face)
            if not self._is_grouped:
                yield from map(self._row, tallies, tallies.values())
                continue
            for key, tally in tallies.items():
                groups[key] = groups[key].plus(tally) if key in groups else tally
        yield from map(self._row, groups, groups.values())
        remarks.log()

    def _add_video(
        self, info: InputRow, faces: Iterator[FaceRow], sampling: Sampling, tallies: _Tallies, remarks: _Remarks
    ) -> None:
        offset_s = info.time_offset_s or 0.0
        found = self.filters.find_segments(_with_times(faces), sampling, self.source.classes, offset_s=offset_s)
        is_timed = bool(sampling.fps or found.seconds_per_frame)
        for segment in found.segments:
            tally = self._tally_of(info, segment.last.face, tallies)
            if is_timed:
                tally.add_segment(segment, is_mixed=found.has_mixed_people and segment.person.kind == "face")
            else:  # all that there is, is one frame
                tally.add_picture(segment.last.face)
        remarks.note_video(found, is_timed=is_timed)

    def _tally_of(self, info: InputRow, face: FaceRow, tallies: _Tallies) -> _Tally:
        key: _Key = (info.kind, info.input)
        if self._is_by_folder:
            key = (info.kind, folder_of(info.input))
        elif self._is_grouped:
            key = (info.kind, face.group)
        elif self.by == "track":
            key = (*key, face.track)
        if key not in tallies:
            tallies[key] = _Tally(self.source.classes)
        return tallies[key]

    def _schema(self) -> pa.Schema:
        """The columns that `_row` fills, in this order."""
        key_type = pa.string() if self._is_by_folder else self.source.schema.field(self.by).type
        keys = [] if self._is_grouped else [_column("input", pa.string(), "The input, as in the other tables.")]
        if self.by != "input":
            keys.append(
                _column(self.by, key_type, "The value that the faces have in common; null where they have none.")
            )
        known = [
            _column("kind", pa.string(), "`video`, or `image`: photographs and videos are never in one row."),
            _column("inputs", pa.int64(), "Inputs in which such a face was seen."),
            _column(
                "faces", pa.int64(), "Rows of the faces table; in a video, a face counts in every frame looked at."
            ),
            _column("seconds", pa.float64(), "How long faces are seen, added up over persons; null for photographs."),
            _column("first_s", pa.float64(), "When a face is first seen, from the start of the file."),
            _column("last_s", pa.float64(), "When a face was last seen."),
            _column("dominant", pa.string(), "The emotion with the largest share; of equals, the more probable."),
            *_episode_columns("", "all emotions"),
            _column("transitions", pa.int64(), "Changes from one emotion to another of a person seen without a gap."),
        ]
        if not self._is_grouped:
            known = [each for each in known if each.name != "inputs"]
        else:
            known = [each for each in known if each.name not in ("first_s", "last_s")]
        for name in self.classes:
            known += [
                _column(
                    f"{name}_share", pa.float64(), f"Share of `seconds` (photographs: `faces`) with {name}, 0 to 1."
                ),
                _column(f"{name}_probability", pa.float64(), f"Mean probability of {name} over the same, 0 to 1."),
                *_episode_columns(f"{name}_", name),
            ]
        known += [
            _column("smooth_s", pa.float64(), "`--smooth`; null without."),
            _column("min_duration_s", pa.float64(), "`--min-duration`; null without."),
        ]
        if self.by in [each.name for each in known]:
            raise ConfigError(f"a summary has a column {self.by!r} of its own; give that of the table another name")
        about = {"summary": {"by": self.by, **dataclasses.asdict(self.filters)}}
        return pa.schema([*keys, *known], metadata={METADATA_KEY: json.dumps(self.source.record | about)})

    def _row(self, key: _Key, tally: _Tally) -> Mapping[str, Group | float]:
        kind, *keys = key
        values = {**dict(zip(self.keys, keys, strict=True)), "kind": kind, **tally.figures(is_video=kind == "video")}
        values |= self._filtered
        return {
            name: round(value, _DECIMALS) if isinstance(value := values[name], float) else value for name in self._names
        }


def write_summary(summary: Summary, out: Path, *, overwrite: bool) -> None:
    """Write the rows as CSV, a workbook of Excel or Parquet, as the name says; it appears whole or not at all.

    Raises:
        ConfigError: The name ends otherwise, or the file cannot be written; or as `write_sheets` or `Summary.rows`.
    """
    if out.suffix.lower() not in (".csv", ".xlsx", ".parquet"):
        raise ConfigError(
            f"a summary is written as .csv, .xlsx or .parquet, and {str(out)!r} is none; give --out such a name"
        )
    check_destination(out, [summary.source.path, *summary.source.files_named], overwrite=overwrite)
    tables = _tables(summary)
    try:
        with durably(out) as temporary:
            if out.suffix.lower() == ".parquet":
                with TableWriter(temporary, summary.schema) as writer:
                    for table in tables:
                        writer.add(table)
            elif out.suffix.lower() == ".xlsx":
                write_sheets(temporary, {"summary": tables})
            else:
                _write_csv(tables, temporary)
    except OSError as error:
        raise ConfigError(f"cannot write {str(out)!r} ({error.strerror or error}); choose another --out") from error
    finally:
        temporary_name(out).unlink(missing_ok=True)


def _tables(summary: Summary) -> Iterator[pa.Table]:
    """The rows, some at a time: at least one table, be it without rows."""
    rows = summary.rows()
    yield pa.Table.from_pylist(list(itertools.islice(rows, _BATCH)), schema=summary.schema)
    while batch := list(itertools.islice(rows, _BATCH)):
        yield pa.Table.from_pylist(batch, schema=summary.schema)


def _write_csv(tables: Iterable[pa.Table], path: Path) -> None:
    """As `tables.write_csv` writes predictions."""
    with path.open("wb") as file:
        for number, table in enumerate(tables):
            rows = pl.from_arrow(table)
            assert isinstance(rows, pl.DataFrame)
            escaped = escape_formulas(rows.lazy()).collect()
            escaped.write_csv(file, include_header=number == 0, quote_style="non_numeric")


def folder_of(name: str) -> str:
    """That of an input, which may be an archive or behind a URL; a point for a name without one."""
    return posixpath.dirname(name) or "."


def _check_columns(source: Source, by: str | None) -> None:
    if not source.classes or "emotion" not in source.schema.names:
        raise ConfigError(
            f"{str(source.path)!r} names no emotions to sum up (its model is {source.record.get('model')!r}); give the "
            "output of a model that does"
        )
    if by is None:
        return
    if by == "track" and by not in source.schema.names:
        raise ConfigError(
            f"the faces of {str(source.path)!r} were not tracked; run annotate with --track, or leave out --by track"
        )
    if by not in source.schema.names:
        raise ConfigError(
            f"no column {by!r} to sum up by in {str(source.path)!r}: it has {', '.join(source.schema.names)}"
        )
    kind = source.schema.field(by).type
    if not (pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise ConfigError(f"--by takes a column of text or whole numbers, and {by!r} holds {kind}")


def _column(name: str, kind: pa.DataType, doc: str) -> pa.Field:
    return pa.field(name, kind, metadata={"doc": doc})


def _episode_columns(prefix: str, of: str) -> list[pa.Field]:
    return [
        _column(f"{prefix}episodes", pa.int64(), f"Episodes of {of}; null where not known, and for photographs."),
        _column(f"{prefix}mean_episode_s", pa.float64(), "Their mean duration in seconds; null for none."),
        _column(f"{prefix}longest_episode_s", pa.float64(), "That of the longest."),
    ]


def _with_times(faces: Iterable[FaceRow]) -> Iterator[FaceRow]:
    """The same faces of a video.

    Raises:
        ConfigError: One has no frame or time.
    """
    for face in faces:
        if face.frame is None or face.time_s is None or not math.isfinite(face.time_s):
            raise ConfigError(
                f"a face in the video {face.input!r} has no frame or no time, which a summary counts in; give a table "
                "with the columns frame and time_s"
            )
        yield face


class _Remarks:
    """What there is to say of a table, beside its figures."""

    def __init__(self, source: Source, filters: Filters, sampling: Sampling) -> None:
        self._source, self._filters, self._sampling = source, filters, sampling
        self._seen: set[str] = set()
        self._videos = self._mixed = self._untimed = 0

    def check_input(self, info: InputRow) -> None:
        """Refuse an input that comes again; where there is an inputs table, reading has found that out."""
        if self._source.has_inputs:
            return
        if info.input in self._seen:
            raise ConfigError(f"the rows of {info.input!r} are not together; sort the table by its column input")
        self._seen.add(info.input)

    def note_video(self, found: VideoSegments, *, is_timed: bool) -> None:
        self._videos += 1
        self._mixed += found.has_mixed_people
        self._untimed += bool(found.segments) and not is_timed

    def log(self) -> None:
        if self._videos:
            self._filters.warn_if_narrow(self._sampling)
            warn_of_unknown_offsets(self._source)
            if self._source.sampling is None:
                log.warning(
                    "%s does not say which frames were looked at: taken to be %g a second, the default of annotate",
                    *(self._source.path, self._sampling.fps),
                )
        if self._mixed:
            log.warning(
                "videos with several faces in a frame that were not tracked: %d; whose face is whose is not known, so "
                "they have no episodes (annotate --track finds out)",
                self._mixed,
            )
        if self._untimed:
            log.warning(
                "videos with faces in a single frame, of which the rate is not known: %d; their faces count, but no "
                "seconds",
                self._untimed,
            )


@dataclass(slots=True)
class _Sums:
    """Sums over seconds, or over faces."""

    weights: list[float]
    """Of each class, seconds or faces with that emotion."""
    probabilities: list[float]
    """Of each class, its probability times the same of all faces; NaN where one has none."""

    @classmethod
    def none(cls, num_classes: int) -> _Sums:
        return cls([0.0] * num_classes, [0.0] * num_classes)

    def add(self, number: int, weight: float, probabilities: Iterable[float]) -> None:
        self.weights[number] += weight
        self.probabilities = [each + more for each, more in zip(self.probabilities, probabilities, strict=True)]

    def plus(self, other: _Sums) -> _Sums:
        return _Sums(_added(self.weights, other.weights), _added(self.probabilities, other.probabilities))


def _added(these: Iterable[float], those: Iterable[float]) -> list[float]:
    return [this + that for this, that in zip(these, those, strict=True)]


@dataclass(slots=True)
class _Tally:
    """The figures of a row, as they grow; lists have an element for each class."""

    classes: Sequence[str]
    """In the order of the model."""
    inputs: int = 1
    faces: int = 0
    timed: _Sums = field(init=False)
    """In seconds."""
    untimed: _Sums = field(init=False)
    """In faces: photographs, and videos of which the rate is not known."""
    episodes: list[int] = field(init=False)
    longest_s: list[float] = field(init=False)
    transitions: int = 0
    has_episodes: bool = True
    """Whether it is known whose face is whose, and how long a frame lasts."""
    first_s: float = math.inf
    last_s: float = -math.inf

    def __post_init__(self) -> None:
        size = len(self.classes)
        self.timed, self.untimed = _Sums.none(size), _Sums.none(size)
        self.episodes, self.longest_s = [0] * size, [0.0] * size

    def add_picture(self, face: FaceRow) -> None:
        """Count a face of which nobody knows how long it was seen."""
        assert face.emotion is not None, "face_rows refuses others"
        self.faces += 1
        probabilities = (face.probabilities.get(name, math.nan) for name in self.classes)
        self.untimed.add(self.classes.index(face.emotion), 1, probabilities)

    def add_segment(self, segment: Segment, *, is_mixed: bool) -> None:
        """Count a segment of a video.

        Args:
            is_mixed: The segment may be of several persons.
        """
        number = self.classes.index(segment.emotion)
        self.faces += segment.num_faces
        self.timed.add(number, segment.duration_s, segment.probability_s)
        self.first_s, self.last_s = min(self.first_s, segment.start_s), max(self.last_s, segment.end_s)
        self.has_episodes &= not is_mixed
        self.episodes[number] += 1
        self.longest_s[number] = max(self.longest_s[number], segment.duration_s)
        self.transitions += segment.changes_emotion

    def plus(self, other: _Tally) -> _Tally:
        both = _Tally(self.classes, self.inputs + other.inputs, self.faces + other.faces)
        both.timed, both.untimed = self.timed.plus(other.timed), self.untimed.plus(other.untimed)
        both.episodes = [this + that for this, that in zip(self.episodes, other.episodes, strict=True)]
        both.longest_s = list(map(max, self.longest_s, other.longest_s))
        both.transitions = self.transitions + other.transitions
        both.has_episodes = self.has_episodes and other.has_episodes
        return both

    def figures(self, *, is_video: bool) -> dict[str, Group | float]:
        """Values of the columns, by name; None for what is not known."""
        sums = self.timed if any(self.timed.weights) else self.untimed
        total = sum(sums.weights)
        has_seconds = is_video and (sums is self.timed or not self.faces)
        has_episodes = has_seconds and self.has_episodes
        seconds = sum(self.timed.weights)
        values: dict[str, Group | float] = {
            "inputs": self.inputs,
            "faces": self.faces,
            "seconds": seconds if has_seconds else None,
            "first_s": self.first_s if math.isfinite(self.first_s) else None,
            "last_s": self.last_s if math.isfinite(self.last_s) else None,
            "dominant": None,
            "transitions": self.transitions if has_episodes else None,
        }
        values |= _episodes("", sum(self.episodes), seconds, max(self.longest_s), known=has_episodes)
        most: tuple[float, float] = (0.0, 0.0)
        for name in in_column_order(self.classes):
            number = self.classes.index(name)
            share = sums.weights[number] / total if total else None
            probability = sums.probabilities[number] / total if total else None
            if probability is not None and math.isnan(probability):
                probability = None
            if share and (share, probability or 0.0) > most:
                most, values["dominant"] = (share, probability or 0.0), name
            values |= {f"{name}_share": share, f"{name}_probability": probability}
            figures = (self.episodes[number], self.timed.weights[number], self.longest_s[number])
            values |= _episodes(f"{name}_", *figures, known=has_episodes)
        return values


def _episodes(prefix: str, count: int, seconds: float, longest_s: float, *, known: bool) -> dict[str, Group | float]:
    return {
        f"{prefix}episodes": count if known else None,
        f"{prefix}mean_episode_s": seconds / count if known and count else None,
        f"{prefix}longest_episode_s": longest_s if known and count else None,
    }
