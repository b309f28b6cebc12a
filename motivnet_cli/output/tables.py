"""Rows as tables: the columns of an output, predictions gathered into them, and Parquet files of them.

It does not know runs or folders.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motivnet_cli.durable import naming
from motivnet_cli.errors import ConfigError
from motivnet_cli.output.counts import WRITTEN_KEY
from motivnet_cli.output.damage import reading
from motivnet_cli.records import (
    BLUR_SIDE,
    BOX_COLUMNS,
    LANDMARK_COLUMNS,
    LANDMARKS,
    QUALITY_COLUMNS,
    SIZE_COLUMNS,
    in_column_order,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from typing_extensions import Self

    from motivnet_cli.config import EmbeddingType, KeptType
    from motivnet_cli.faces.track import Embeddings, TrackConfig, Tracker
    from motivnet_cli.output.counts import Counts
    from motivnet_cli.records import Batch, Box, Crop, Face, InputReport, Position, Prediction, Quality, RunRecord

SCHEMA_VERSION = 3
READABLE_VERSIONS = (2, 3)
"""Of tables that this version reads: 2 lacks ADDED_COLUMNS."""
MEASURED_COLUMNS = (*LANDMARK_COLUMNS, "turn", *QUALITY_COLUMNS)
"""Columns of how a face lies and how well it is to be seen."""
ADDED_COLUMNS = frozenset((*MEASURED_COLUMNS, "left_out", "left_out_by"))
"""Columns that came with version 3."""
METADATA_KEY = b"motivnet"
"""Key of the Parquet file metadata that holds the run's JSON record."""
_KEPT_TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}

BATCH_ROWS = 4096
"""Rows of a file that are in memory at a time, where it is read row by row."""
ROW_GROUP_BYTES = 16 << 20
"""Of a row group before it is compressed: readers skip and keep track of whole ones, and writers can hold one."""
_TEXT_BYTES = 32
"""About so many has a text, such as a name: what decides on the rows of a group need not be exact."""
_MAX_WAITING = 1000
"""Tables of a row or two that wait to be written are joined when they are so many: each takes some KB by itself."""
ROW_BYTES = 1200
"""About so many bytes of memory takes a face or an input that waits to become a row, without its embedding."""


@dataclass(frozen=True, slots=True)
class RowLayout:
    """What decides on the columns of a run's tables."""

    classes: tuple[str, ...]
    """The model's, in the order of `Prediction.probabilities`; empty for none."""
    embedding_size: int
    """D."""
    embeddings: EmbeddingType = "float16"
    tracks: TrackConfig | None = None
    """How faces are followed through videos; None where they are not."""
    keep: Mapping[str, KeptType] = field(default_factory=dict)
    """Columns of the user's manifest that pass through, with their types."""
    landmarks: bool = True
    """Whether the five points of each face are written."""

    def keeping(self, keep: Mapping[str, KeptType]) -> RowLayout:
        """The same with the columns that a run keeps, which are known when it is begun.

        Raises:
            ConfigError: One of them is called like a class of the model.
        """
        for name in keep:
            if name.casefold() in map(str.casefold, self.classes):
                raise ConfigError(
                    f"keep names {name!r}, which is a class of the model and so a column of the output: rename the "
                    "manifest's column"
                )
        return replace(self, keep=keep)

    def schemas(self, record: RunRecord) -> dict[str, pa.Schema]:
        """Of both tables, with the run's record."""
        metadata = {METADATA_KEY: json.dumps(record).encode()}
        is_tracked = self.tracks is not None
        faces = faces_schema(
            self.classes,
            self.embedding_size,
            self.embeddings,
            landmarks=self.landmarks,
            tracks=is_tracked,
            keep=self.keep,
        )
        return {"faces": faces.with_metadata(metadata), "inputs": inputs_schema().with_metadata(metadata)}


def faces_schema(
    classes: Sequence[str],
    embedding_size: int,
    embeddings: EmbeddingType,
    *,
    landmarks: bool = True,
    tracks: bool = False,
    keep: Mapping[str, KeptType] | None = None,
    version: int = SCHEMA_VERSION,
) -> pa.Schema:
    """The columns of the faces table, one row a face; every field's `doc` says what it holds.

    Args:
        classes: Names of the emotions in any order; empty for a model without.
        embedding_size: D.
        landmarks: Whether the five points of each face are there.
        tracks: Whether faces are followed from frame to frame.
        keep: Columns of the user's manifest that pass through, with their types.
        version: Of the schema, one of READABLE_VERSIONS.
    """
    text = pa.dictionary(pa.int32(), pa.string())
    columns = [
        _column("input", pa.string(), "The input: its path relative to the given folder, or as given."),
        _column("frame", pa.int64(), "Frame number in a video, from 0; null for an image."),
        _column("time_s", pa.float64(), "Time in seconds from the start of the video stream; null for an image."),
        _column("face", pa.int32(), "Number of the face in its picture, from 0, left to right."),
        _column("face_source", text, "`detected`, `whole` (the whole picture was taken), or `given`."),
        _column("x1", pa.float32(), "Left edge of the face box, in pixels of the upright picture."),
        _column("y1", pa.float32(), "Upper edge of the face box."),
        _column("x2", pa.float32(), "Right edge of the face box (exclusive)."),
        _column("y2", pa.float32(), "Lower edge of the face box (exclusive)."),
        _column("picture_width", pa.int32(), "Width in pixels of the upright picture or frame that the box is in."),
        _column("picture_height", pa.int32(), "Its height."),
        _column("detection_score", pa.float32(), "The detector's confidence, 0 to 1; null unless detected."),
    ]
    if landmarks:
        columns += [_column(name, pa.float32(), doc) for name, doc in _landmark_docs().items()]
    columns += [
        _column(
            "turn",
            pa.int32(),
            "0, 90, 180 or 270: degrees, clockwise, by which the picture was turned to find the face upright.",
        ),
        _column(
            "roll",
            pa.float32(),
            "Angle of the line of the eyes in the picture, in degrees, clockwise, -180 to 180: 0 is upright, "
            "90 and -90 lie on a side; null where the eyes are not known.",
        ),
        _column(
            "yaw",
            pa.float32(),
            "Estimate from eyes and nose of how far the head is turned, in degrees, -90 to 90, positive to the "
            "person's own left; null where they are not known.",
        ),
        _column("eye_distance", pa.float32(), "Pixels between the eyes; null where they are not known."),
        _column(
            "blur",
            pa.float32(),
            f"Variance of the Laplacian of the face box, in grey at {BLUR_SIDE} x {BLUR_SIDE}: **low** is blurred.",
        ),
        _column("brightness", pa.float32(), "Mean luma of the face box, 0 to 255."),
    ]
    if tracks:
        columns.append(_column("track", pa.int64(), "Number of the person's track in its video; null for an image."))
    if classes:
        columns += [
            _column("emotion", text, "The most probable emotion."),
            _column("confidence", pa.float32(), "Its probability, 0 to 1."),
        ]
        names = in_column_order(classes)
        columns += [_column(name, pa.float32(), f"Probability of {name}, 0 to 1.") for name in names]
    own = columns_as_of(version, [column.name for column in columns])
    columns = [column for column in columns if column.name in own]
    columns += [_column(name, _KEPT_TYPES[kind], "From the manifest.") for name, kind in (keep or {}).items()]
    if embeddings != "none":
        value = pa.float16() if embeddings == "float16" else pa.float32()
        doc = "The network's description of the face; its length depends on the model."
        columns.append(_column("embedding", pa.list_(value, embedding_size), doc))
    return pa.schema(columns)


def inputs_schema(version: int = SCHEMA_VERSION) -> pa.Schema:
    """The columns of the inputs table, one row an input; every input of the run is in it exactly once.

    Args:
        version: Of the schema, one of READABLE_VERSIONS.
    """
    schema = pa.schema(
        [
            _column("input", pa.string(), "The input, as in the faces table."),
            _column(
                "kind",
                pa.dictionary(pa.int32(), pa.string()),
                "`image`, `video`, `archive`, or `folder` for one that cannot be listed.",
            ),
            _column(
                "status",
                pa.dictionary(pa.int32(), pa.string()),
                "`ok`, `no_face` (read, no face found or kept), `partial` (rows up to a break, or of some faces), or "
                "`failed`.",
            ),
            _column("error", pa.string(), "What was wrong, in a sentence; null when nothing was."),
            _column("error_type", pa.string(), "A short name of it to filter by, such as `truncated`."),
            _column("frames", pa.int64(), "Frames that were looked at; of an archive, its members."),
            _column("faces", pa.int64(), "Rows that it has in the faces table."),
            _column("left_out", pa.int64(), "Faces that were found and have no row, since options leave them out."),
            _column(
                "left_out_by", pa.string(), "By which options, and how many: `min-face 2, max-roll 1`; null for none."
            ),
            _column("width", pa.int32(), "Width of the upright picture in pixels; null if it was not read."),
            _column("height", pa.int32(), "Its height. Of a video, both are those of the first frame looked at."),
            _column(
                "time_offset_s",
                pa.float64(),
                "When the video begins, in seconds from the start of its file; null for an image.",
            ),
            _column("archive", pa.string(), "The archive that it is a member of; null for others."),
            _column("size_bytes", pa.int64(), "Size of the file when the run was planned; null where unknown."),
            _column("mtime_ns", pa.int64(), "Its time of last change, in ns since 1970; null where unknown."),
            _column("sha256", pa.string(), "SHA-256 of its content; null without `--hash`."),
        ]
    )
    own = columns_as_of(version, schema.names)
    return pa.schema([column for column in schema if column.name in own])


def columns_as_of(version: int, names: Iterable[str]) -> list[str]:
    """The columns that were there in a version of the schema, of all that there are now."""
    return [name for name in names if version not in (1, 2) or name not in ADDED_COLUMNS]


def _landmark_docs() -> dict[str, str]:
    """What each of LANDMARK_COLUMNS holds."""
    docs: dict[str, str] = {}
    other = {"left": "right", "right": "left"}
    for name in LANDMARKS:
        side, _, part = name.rpartition("_")
        what = {"eye": "centre of the eye", "mouth": "corner of the mouth", "nose": "tip of the nose"}[part]
        whose = (
            f"The {what} on the person's own {side} ({other[side]} in an upright picture)" if side else f"The {what}"
        )
        docs |= {
            f"{name}_x": f"{whose}, in pixels of the upright picture; null where not known.",
            f"{name}_y": "Its y.",
        }
    return docs


def _column(name: str, kind: pa.DataType, doc: str) -> pa.Field:
    return pa.field(name, kind, metadata={"doc": doc})


class Rows:
    """Predicted faces and ended inputs that wait to be committed, in plan order."""

    def __init__(self, layout: RowLayout, schemas: Mapping[str, pa.Schema]) -> None:
        self._layout = layout
        self._faces_schema = schemas["faces"]
        self._inputs_schema = schemas["inputs"]
        self._crops: list[tuple[Position, dict[str, object]]] = []
        self._probabilities: list[NDArray[np.float32]] = []
        self._embeddings: list[NDArray[np.floating]] = []
        """As they are stored."""
        self._reports: list[InputReport] = []

    @property
    def num_bytes(self) -> int:
        """About how much memory they take."""
        embeddings = sum(embedding.nbytes for embedding in self._embeddings[:1]) * len(self._embeddings)
        return (len(self._crops) + len(self._reports)) * ROW_BYTES + embeddings

    def add(self, batch: Batch, prediction: Prediction | None) -> None:
        self._crops += [(crop.position, self._face_row(crop)) for crop in batch.crops]
        if prediction is not None:
            self._probabilities += list(prediction.probabilities)
            if self._layout.embeddings != "none":
                self._embeddings += list(prediction.embeddings.astype(self._layout.embeddings, copy=False))
        self._reports += batch.finished

    def first(self) -> Position | None:
        """The position of the first of them."""
        crops, reports = self._crops[:1], self._reports[:1]
        return min((*(position for position, _ in crops), *(report.position for report in reports)), default=None)

    def take(self, end: Position) -> tuple[list[Position], pa.Table, pa.Table]:
        """Remove the faces and inputs before `end`: the faces' positions, and both tables."""
        num_reports = sum(1 for report in self._reports if report.position < end)
        reports, self._reports = self._reports[:num_reports], self._reports[num_reports:]
        n = sum(1 for position, _ in self._crops if position < end)
        taken, self._crops = self._crops[:n], self._crops[n:]
        columns = {
            name: pa.array([row[name] for _, row in taken], self._faces_schema.field(name).type)
            for name in self._faces_schema.names
            if name in _CROP_COLUMNS or name in self._layout.keep
        }
        if self._layout.tracks is not None:
            columns["track"] = pa.nulls(n, pa.int64())
        if self._layout.classes:
            columns |= self._emotion_columns(n)
        if self._layout.embeddings != "none":
            columns["embedding"] = self._embedding_column(n)
        self._probabilities, self._embeddings = self._probabilities[n:], self._embeddings[n:]
        faces = pa.table([columns[name] for name in self._faces_schema.names], schema=self._faces_schema)
        inputs = pa.Table.from_pylist([_input_row(report) for report in reports], schema=self._inputs_schema)
        return [position for position, _ in taken], faces, inputs

    def _face_row(self, crop: Crop) -> dict[str, object]:
        x1, y1, x2, y2 = _box_of(crop)
        row: dict[str, object] = {
            "input": crop.input,
            "frame": crop.frame_index,
            "time_s": crop.time_s,
            "face": crop.number,
            "face_source": crop.face.source,
            "x1": x1,
            "y1": y1,
            "x2": x2,
            "y2": y2,
            "picture_width": crop.picture_size and crop.picture_size[0],
            "picture_height": crop.picture_size and crop.picture_size[1],
            "detection_score": crop.face.score,
            **measured(crop.face, crop.quality),
        }
        keep = self._layout.keep
        return row | dict(zip(keep, crop.kept or [None] * len(keep), strict=True))

    def _emotion_columns(self, n: int) -> dict[str, pa.Array]:
        classes = self._layout.classes
        probabilities = np.stack(self._probabilities[:n]) if n else np.zeros((0, len(classes)), np.float32)  # [n, C]
        best = probabilities.argmax(axis=1).astype(np.int32)
        emotion = pa.DictionaryArray.from_arrays(pa.array(best), pa.array(classes))
        columns = {name: pa.array(probabilities[:, i]) for i, name in enumerate(classes)}
        return columns | {"emotion": emotion, "confidence": pa.array(probabilities[np.arange(n), best])}

    def _embedding_column(self, n: int) -> pa.Array:
        kind = self._faces_schema.field("embedding").type
        values = np.concatenate(self._embeddings[:n]) if n else np.zeros(0, self._layout.embeddings)
        return pa.FixedSizeListArray.from_arrays(pa.array(values), type=kind)


def measured(face: Face, quality: Quality | None) -> dict[str, float | None]:
    """MEASURED_COLUMNS of a face, None for what is not known."""
    points = face.landmarks or (None,) * len(LANDMARKS)
    places = itertools.chain.from_iterable(point or (None, None) for point in points)
    values = quality or (None,) * len(QUALITY_COLUMNS)
    return dict(zip(MEASURED_COLUMNS, (*places, face.turn, *values), strict=True))


def _box_of(crop: Crop) -> Box:
    """Its box, which lies in the picture unless the user gave it."""
    x1, y1, x2, y2 = crop.face.box
    least, width, height = -math.inf, math.inf, math.inf
    if crop.picture_size is not None and crop.face.source != "given":
        least, (width, height) = 0, crop.picture_size
    assert least <= x1 < x2 <= width, f"{crop.input}: {crop.face.box} in {crop.picture_size}"
    assert least <= y1 < y2 <= height, f"{crop.input}: {crop.face.box} in {crop.picture_size}"
    return crop.face.box


def numpy_dtype(kind: pa.DataType) -> np.dtype[np.generic]:
    """NumPy's type for an Arrow type of numbers or truth values; `to_pandas_dtype` of pyarrow 21 needs pandas."""
    dtype: np.dtype[np.generic] = pa.array([], kind).to_numpy(zero_copy_only=False).dtype
    return dtype


_CROP_COLUMNS = (
    *("input", "frame", "time_s", "face", "face_source", *BOX_COLUMNS, *SIZE_COLUMNS, "detection_score"),
    *MEASURED_COLUMNS,
)


def _input_row(report: InputReport) -> dict[str, object]:
    problem = report.problem
    return {
        "input": report.input,
        "kind": report.kind,
        "status": report.status,
        "error": problem.message if problem else None,
        "error_type": problem.error_type if problem else None,
        "frames": report.num_frames,
        "faces": report.num_faces,
        "left_out": report.left_out.total,
        "left_out_by": report.left_out.text,
        "width": report.width,
        "height": report.height,
        "time_offset_s": report.time_offset_s,
        "archive": report.archive,
        "size_bytes": report.size_bytes,
        "mtime_ns": report.mtime_ns,
        "sha256": report.sha256,
    }


class TrackedFace(NamedTuple):
    """What is stored of a face in a video, as far as its track depends on it."""

    input: str
    frame: int
    time_s: float
    track: int
    embedding: list[float]
    x1: float
    y1: float
    x2: float
    y2: float
    picture_height: int


def _none_stored(position: Position, name: str) -> Iterable[TrackedFace]:
    return ()


class Tracks:
    """Follows the faces of a run's videos as they become rows.

    Tracks are a function of what is stored, so after a kill the rows that were committed tell how to go on.

    Args:
        faces_of: What is stored of one input's faces, given its position and its name; none if it is new.
    """

    def __init__(
        self, config: TrackConfig, faces_of: Callable[[Position, str], Iterable[TrackedFace]] = _none_stored
    ) -> None:
        self._config = config
        self._faces_of = faces_of
        self._item = -1

    def forget(self) -> None:
        """What was followed last is not stored: of its video, others have stored something else."""
        self._item = -1

    def follow(self, positions: Sequence[Position], faces: pa.Table) -> pa.Table:
        """Fill the `track` column of the rows that belong to videos."""
        if not positions:
            return faces
        tracks: list[int | None] = [None] * len(positions)
        boxes = np.stack([faces[name].to_numpy() for name in BOX_COLUMNS], axis=1)  # [N, 4]
        boxes = in_heights(boxes, faces["picture_height"].to_pylist())
        embeddings = embedding_matrix(faces["embedding"])  # [N, D]
        times = faces["time_s"].to_pylist()
        for position, group in itertools.groupby(range(len(positions)), key=lambda i: positions[i]):
            rows = list(group)
            if times[rows[0]] is None:
                continue
            if position.item != self._item:
                self._item = position.item
                self._tracker = self._resumed(position, faces["input"][rows[0]].as_py(), embeddings.dtype)
            found = self._tracker.assign(boxes[rows], embeddings[rows], times[rows[0]])
            for row, track in zip(rows, found.tolist(), strict=True):
                tracks[row] = track
        where = faces.schema.get_field_index("track")
        return faces.set_column(where, faces.schema.field("track"), pa.array(tracks, pa.int64()))

    def _resumed(self, position: Position, name: str, dtype: np.dtype[np.floating]) -> Tracker:
        recent: deque[TrackedFace] = deque()
        next_id = 0
        for row in self._faces_of(position, name):
            next_id = max(next_id, row.track + 1)
            recent.append(row)
            while recent[0].time_s < row.time_s - self._config.max_gap_s:
                recent.popleft()
        from motivnet_cli.faces.track import Tracker

        frames = []
        for _, group in itertools.groupby(recent, key=lambda row: row.frame):
            rows = list(group)
            boxes = np.array([[row.x1, row.y1, row.x2, row.y2] for row in rows], np.float32)  # [N, 4]
            boxes = in_heights(boxes, [row.picture_height for row in rows])
            embeddings = np.array([row.embedding for row in rows], dtype)  # [N, D]
            frames.append((rows[0].time_s, boxes, embeddings, np.array([row.track for row in rows], np.int64)))
        return Tracker.resume(self._config, frames, next_id=next_id)


def in_heights(boxes: NDArray[np.float32], heights: Sequence[int | None]) -> NDArray[np.float32]:
    """Boxes, [N, 4], in heights of their frames: a face stays where it is if the size of a video changes."""
    return boxes / np.array([height or 1 for height in heights], np.float32)[:, None]


def embedding_matrix(column: pa.ChunkedArray | pa.Array) -> Embeddings:
    """A column of lists of one length, none of them missing: [N, D]."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    flat = array.flatten().to_numpy(zero_copy_only=False)
    matrix: Embeddings = flat.reshape(len(array), array.type.list_size)
    return matrix


def batches_in(part: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a file, a few thousand at a time, with some of its columns or all.

    Raises:
        OutputConflictError: The file is damaged.
    """
    with reading(part):
        yield from pq.ParquetFile(part, pre_buffer=False).iter_batches(batch_size=BATCH_ROWS, columns=columns)


def schema_of(part: Path) -> pa.Schema:
    """The columns of a file.

    Raises:
        OutputConflictError: The file is damaged.
    """
    with reading(part):
        return pq.read_schema(part)


class Stream:
    """Rows of some files one after another; only a few thousand are in memory."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._batches = (pa.Table.from_batches([batch]) for part in parts for batch in batches_in(part))
        self._waiting = (schema_of(parts[0]) if parts else pa.schema([])).empty_table()
        self._name = parts[-1] if parts else "the table"

    def peek(self, num_rows: int) -> pa.Table:
        """The next rows, or fewer where these are all."""
        while self._waiting.num_rows < num_rows and (batch := next(self._batches, None)) is not None:
            self._waiting = pa.concat_tables([self._waiting, batch])
        return self._waiting.slice(0, num_rows)

    def take(self, num_rows: int) -> Iterator[pa.Table]:
        """The next rows, a few thousand at a time.

        Raises:
            OutputConflictError: There are fewer.
        """
        while num_rows:
            taken = self.peek(min(num_rows, BATCH_ROWS))
            with reading(self._name):
                if not taken:
                    raise ValueError(f"{num_rows} rows are missing")
            self._waiting = self._waiting.slice(len(taken))
            num_rows -= len(taken)
            yield taken


_Row = TypeVar("_Row", bound=NamedTuple)


def rows_in(parts: Iterable[Path], kind: type[_Row]) -> Iterator[_Row]:
    """The rows of some files, with the columns that a named tuple has as its fields.

    A field with a default has that where there is no such column: another version of motivnet wrote the file.

    Raises:
        OutputConflictError: A file is damaged.
    """
    for part in parts:
        with reading(part):
            file = pq.ParquetFile(part, pre_buffer=False)
            own = file.schema_arrow.names
            lacking = {name: value for name, value in kind._field_defaults.items() if name not in own}
            names = [name for name in kind._fields if name not in lacking]
            for batch in file.iter_batches(columns=names, batch_size=BATCH_ROWS):
                columns: list[Iterable[object]] = [
                    itertools.repeat(lacking[name], len(batch)) if name in lacking else batch[name].to_pylist()
                    for name in kind._fields
                ]
                yield from map(kind._make, zip(*columns, strict=True))


class TableWriter:
    """A Parquet file with checksums, and statistics by which readers skip row groups; who names the file syncs it.

    Args:
        counts: What the rows of both tables come to; a file of inputs, which is closed last or gets its rows last,
            says so.
    """

    def __init__(self, path: Path, schema: pa.Schema, counts: Counts | None = None) -> None:
        self._path = path
        self._counts = counts
        # What another file says of itself does not hold for this one.
        metadata = {key: value for key, value in (schema.metadata or {}).items() if key != WRITTEN_KEY}
        self._schema = schema.with_metadata(metadata)
        self._group_rows = max(1, ROW_GROUP_BYTES // sum(_width(field.type) for field in schema))
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0
        self._num_rows = 0

    def __enter__(self) -> Self:
        self._path.unlink(missing_ok=True)  # a link that somebody put there is not followed
        with naming(self._path):
            self._writer = pq.ParquetWriter(
                self._path,
                self._schema,
                compression="zstd",
                compression_level=1,
                # Dictionaries cost on floats; byte-stream-split float16 cannot be read by DuckDB 2.0.
                use_dictionary=[field.name for field in self._schema if not _is_numeric(field.type)],
                # Of the numbers of embeddings they would say nothing.
                write_statistics=[field.name for field in self._schema if not pa.types.is_fixed_size_list(field.type)],
                write_page_checksum=True,
            )
        return self

    def add(self, rows: pa.Table) -> None:
        if self._counts is not None:
            self._counts.add(rows)
        self._waiting.append(rows.replace_schema_metadata())
        self._num_waiting += rows.num_rows
        if self._num_waiting >= self._group_rows:
            self._flush(self._num_waiting - self._num_waiting % self._group_rows)
        elif len(self._waiting) >= _MAX_WAITING:
            self._waiting = [self._joined()]

    def _joined(self) -> pa.Table:
        return pa.concat_tables(self._waiting).combine_chunks()

    def _flush(self, num_rows: int) -> None:
        rows = self._joined()
        with naming(self._path):
            self._writer.write_table(rows[:num_rows].cast(self._schema), row_group_size=self._group_rows)
        self._num_rows += num_rows
        self._num_waiting -= num_rows
        self._waiting = [rows[num_rows:]] if self._num_waiting else []

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._waiting:
            self._flush(self._num_waiting)
        written: dict[str, object] = {"rows": self._num_rows, "page_checksums": True}
        if self._counts is not None and "face_source" not in self._schema.names:
            written |= {"data_end": self._writer.file_handle.tell(), "counts": self._counts.as_dict()}
        self._writer.add_key_value_metadata({WRITTEN_KEY: json.dumps(written).encode()})
        with naming(self._path):
            self._writer.close()


def _width(kind: pa.DataType) -> int:
    """Bytes that a value of a column takes, about."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _width(kind.value_type)
    if pa.types.is_dictionary(kind):
        return _width(kind.index_type)
    return _TEXT_BYTES if pa.types.is_string(kind) else max(1, kind.bit_width // 8)


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_fixed_size_list(kind))
