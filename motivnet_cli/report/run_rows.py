"""What one pass over the rows of a run keeps for its page, and what its inputs table says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
from sklearn.decomposition import PCA

from motivnet_cli.export.summary import folder_of
from motivnet_cli.records import BOX_COLUMNS, SIZE_COLUMNS, STATUSES
from motivnet_cli.report.face_pictures import MAX_VIDEO_SECONDS, FacePicture
from motivnet_cli.report.people import largest_first

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from motivnet_cli.export.source import Source
    from motivnet_cli.report.people import People
    from motivnet_cli.report.timelines import Timeline

    Floats = NDArray[np.float32]
    Ints = NDArray[np.int64]

MAX_SHOWN = 6
"""Faces of an emotion that are shown, of each end of confidence."""
MAX_MAPPED = 5_000
"""Faces on the map: a random sample of all."""
MAX_STILLS = 40
"""Frames of a video that the page holds."""
MAX_FAILURES = 25
"""Inputs with a problem that are named."""
NUM_BINS = 20
"""Of the histogram of confidences."""
MANY_FACES = 10
"""From this number of faces on, pictures are counted together."""
_TEXT_COLUMNS = {
    "input": pl.String,
    "frame": pl.Int64,
    "time_s": pl.Float64,
    "face_source": pl.String,
    "track": pl.Int64,
    "emotion": pl.String,
    "confidence": pl.Float32,
    **dict.fromkeys(BOX_COLUMNS, pl.Float32),
    **dict.fromkeys(SIZE_COLUMNS, pl.Int32),
}
"""The columns that are read, but for the embedding; those that a table does not have are null."""
_IS_IN_VIDEO = pl.col("frame").is_not_null()
_IS_EARLY = pl.col("time_s") <= MAX_VIDEO_SECONDS


class SourceCount(NamedTuple):
    """Faces of one kind that were found in one way."""

    is_video: bool
    face_source: str
    faces: int
    shares: dict[str, float]
    """0 to 1 by emotion."""

    @property
    def largest_first(self) -> list[tuple[str, float]]:
        return largest_first(self.shares)


class Gallery(NamedTuple):
    emotion: str
    num_faces: int
    ends: list[tuple[str, list[FacePicture]]]
    """The most and the least confident faces, each with a title."""


@dataclass(slots=True)
class RunRows:
    """What is kept of the rows."""

    counts: Counter[tuple[bool, str, str | None]] = field(default_factory=Counter)
    """Faces: whether in a video, how they were found, emotion."""
    histograms: dict[bool, Ints] = field(default_factory=dict)
    """Faces by confidence, [NUM_BINS], of photographs and of frames of videos."""
    portraits: dict[tuple[str, str, int | None], FacePicture] = field(default_factory=dict)
    """The largest face of each row of people, by its kind and key; of a video, of the part that is decoded."""
    frames: dict[str, list[FacePicture]] = field(default_factory=dict)
    """Of videos with a timeline, pictures of some frames with faces."""
    most: dict[str, list[tuple[float, int, FacePicture]]] = field(default_factory=dict)
    least: dict[str, list[tuple[float, int, FacePicture]]] = field(default_factory=dict)
    """The most and the least confident faces of each emotion, as heaps by (rank, less the row's number)."""
    embeddings: Floats = field(default_factory=lambda: np.zeros((0, 1), np.float32))
    """[n, D], a sample."""
    emotion_ids: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """[n], of the sample: index into the source's classes, -1 for no emotion."""

    @property
    def num_faces(self) -> dict[bool, int]:
        """In photographs and in videos, where there are any."""
        totals: Counter[bool] = Counter()
        for (is_video, _, _), count in self.counts.items():
            totals[is_video] += count
        return dict(totals)

    @property
    def num_nameless(self) -> int:
        """Faces without an emotion."""
        return sum(count for (_, _, emotion), count in self.counts.items() if emotion is None)

    def by_source(self, classes: Sequence[str]) -> list[SourceCount]:
        """The faces of each kind and source, the most first; emotions in the order of `classes`."""
        totals: Counter[tuple[bool, str]] = Counter()
        for (is_video, source, emotion), count in self.counts.items():
            if emotion is not None:
                totals[is_video, source] += count
        return [
            SourceCount(
                is_video, source, total, {name: self.counts[is_video, source, name] / total for name in classes}
            )
            for (is_video, source), total in totals.most_common()
        ]

    def stills(self) -> Iterator[FacePicture]:
        for pictures in self.frames.values():
            yield from pictures

    def galleries(self, classes: Iterable[str]) -> list[Gallery]:
        """Of the emotions that some face has, those of most faces first."""
        numbers: Counter[str | None] = Counter()
        for (_, _, emotion), count in self.counts.items():
            numbers[emotion] += count
        shown = sorted((name for name in classes if name in self.most), key=lambda name: -numbers[name])
        ends = {"most confident": self.most, "least confident": self.least}
        return [
            Gallery(
                name,
                numbers[name],
                [(title, [face for _, _, face in sorted(heaps[name], reverse=True)]) for title, heaps in ends.items()],
            )
            for name in shown
        ]

    @staticmethod
    def in_galleries(galleries: Iterable[Gallery]) -> Iterator[FacePicture]:
        for gallery in galleries:
            for _, faces in gallery.ends:
                yield from faces


def gather(source: Source, people: Sequence[People], timelines: Sequence[Timeline]) -> RunRows:
    """One pass over the rows.

    Args:
        people: Whose portraits are wanted.
        timelines: Of the videos whose frames are.
    """
    rows = RunRows()
    portraits = _Portraits(people)
    frames = _Frames([timeline.video for timeline in timelines])
    has_embeddings = "embedding" in source.schema.names
    picks = np.zeros(0, np.int64)
    if has_embeddings:  # chosen before the pass, so that few of the embeddings are copied
        size = min(MAX_MAPPED, source.num_rows)
        picks = np.sort(np.random.default_rng(0).choice(source.num_rows, size, replace=False))
    embeddings: list[Floats] = []
    ids: list[Ints] = []
    numbers = {name: number for number, name in enumerate(source.classes)}
    first_row = 0
    for batch in source.batches([name for name in source.schema.names if name in {*_TEXT_COLUMNS, "embedding"}]):
        faces = _faces_of(batch, first_row)
        _count(rows, faces)
        _rank(rows, faces.filter(pl.col("emotion").is_in(list(numbers)) & pl.col("confidence").is_finite()))
        portraits.add(faces)
        frames.add(faces)
        if has_embeddings:
            begin, end = np.searchsorted(picks, [first_row, first_row + len(faces)])
            picked, matrix = _finite(batch.column("embedding"), picks[begin:end] - first_row)
            if len(picked):
                embeddings.append(matrix)
                ids.append(np.array([numbers.get(name or "", -1) for name in faces["emotion"][picked.tolist()]]))
        first_row += len(faces)
    if embeddings:
        rows.embeddings, rows.emotion_ids = np.concatenate(embeddings), np.concatenate(ids)
    rows.portraits, rows.frames = portraits.found, frames.chosen()
    return rows


def _faces_of(batch: pa.RecordBatch, first_row: int) -> pl.DataFrame:
    """The rows with all of `_TEXT_COLUMNS`, and `row`, their number in the table."""
    there = [name for name in batch.schema.names if name in _TEXT_COLUMNS]
    return (
        pl.DataFrame(batch.select(there))
        .with_columns(
            (pl.col(name) if name in there else pl.lit(None).alias(name)).cast(kind)
            for name, kind in _TEXT_COLUMNS.items()
        )
        .with_row_index("row", first_row)
    )


def _picture_of(row: dict[str, Any], *, is_whole: bool = False) -> FacePicture:
    edges = [row[side] for side in BOX_COLUMNS]
    has_box = not is_whole and all(edge is not None and np.isfinite(edge) for edge in edges)
    return FacePicture(
        row=row["row"],
        input=row["input"],
        frame=row["frame"],
        time_s=row["time_s"],
        face_source=row["face_source"],
        size=(row["picture_width"], row["picture_height"]),
        box=(edges[0], edges[1], edges[2], edges[3]) if has_box else None,
        confidence=row["confidence"],
    )


def _count(rows: RunRows, faces: pl.DataFrame) -> None:
    by = [_IS_IN_VIDEO.alias("is_video"), pl.col("face_source").fill_null("unknown"), "emotion"]
    for is_video, source, emotion, count in faces.group_by(by).len().iter_rows():
        rows.counts[is_video, source, emotion] += count
    for is_video in (False, True):
        confidence = faces.filter(pl.col("confidence").is_finite() & (is_video == _IS_IN_VIDEO))["confidence"]
        if len(confidence):
            counted = np.histogram(confidence.to_numpy(), bins=NUM_BINS, range=(0, 1))[0]
            rows.histograms[is_video] = rows.histograms.get(is_video, 0) + counted


def _rank(rows: RunRows, faces: pl.DataFrame) -> None:
    """Offer named faces to the heaps of the most and the least confident."""
    for sign, heaps in ((1, rows.most), (-1, rows.least)):
        ordered = faces.sort("confidence", "row", descending=[sign == 1, False])
        for row in ordered.group_by("emotion").head(MAX_SHOWN).iter_rows(named=True):
            heap = heaps.setdefault(row["emotion"], [])
            entry = (sign * row["confidence"], -row["row"], _picture_of(row))
            (heappush if len(heap) < MAX_SHOWN else heappushpop)(heap, entry)


class _Portraits:
    """The largest face of each row of people, as the rows pass."""

    def __init__(self, people: Sequence[People]) -> None:
        self._by_track = any(each.by == "track" for each in people)
        self._wanted = {(each.kind, *row.key) for each in people for row in each.shown}
        self._inputs = [name for kind, name, _ in self._wanted if kind == "video"]
        self._has_folders = any(kind == "image" for kind, _, _ in self._wanted)
        self._areas: dict[tuple[str, str, int | None], float] = {}
        self.found: dict[tuple[str, str, int | None], FacePicture] = {}

    def add(self, faces: pl.DataFrame) -> None:
        x1, y1, x2, y2 = map(pl.col, BOX_COLUMNS)
        faces = faces.with_columns(area=((x2 - x1) * (y2 - y1)).fill_nan(None).fill_null(0.0))
        track = pl.col("track") if self._by_track else pl.lit(None, pl.Int64)
        of_videos = faces.filter(_IS_IN_VIDEO & pl.col("input").is_in(self._inputs) & _IS_EARLY)
        self._offer("video", of_videos.with_columns(name="input", number=track))
        if self._has_folders:
            pictures = faces.filter(~_IS_IN_VIDEO)
            folders = pl.Series("name", [folder_of(name) for name in pictures["input"]], pl.String)
            self._offer("image", pictures.with_columns(folders, number=pl.lit(None, pl.Int64)))

    def _offer(self, kind: str, faces: pl.DataFrame) -> None:
        largest = faces.sort("area", "row", descending=[True, False]).unique(["name", "number"], keep="first")
        for row in largest.iter_rows(named=True):
            key = (kind, row["name"], row["number"])
            if key in self._wanted and row["area"] > self._areas.get(key, -1.0):
                self._areas[key], self.found[key] = row["area"], _picture_of(row)


class _Frames:
    """The frames of some videos that have faces, as the rows pass."""

    def __init__(self, videos: Sequence[str]) -> None:
        self._videos = list(videos)
        self._seen: list[pl.DataFrame] = []

    def add(self, faces: pl.DataFrame) -> None:
        if self._videos:
            of_videos = faces.filter(pl.col("input").is_in(self._videos) & _IS_IN_VIDEO & _IS_EARLY)
            self._seen.append(of_videos.unique(["input", "frame"], keep="first"))

    def chosen(self) -> dict[str, list[FacePicture]]:
        """At most MAX_STILLS of each video, evenly among those that have faces."""
        if not self._seen:
            return {}
        frames = pl.concat(self._seen).sort("row").unique(["input", "frame"], keep="first", maintain_order=True)
        pictures = {}
        for video in self._videos:
            of_video = frames.filter(pl.col("input") == video)
            of_video = of_video.gather_every(max(1, -(-len(of_video) // MAX_STILLS)))
            pictures[video] = [_picture_of(row, is_whole=True) for row in of_video.iter_rows(named=True)]
        return pictures


def _finite(column: pa.FixedSizeListArray, rows: Ints) -> tuple[Ints, Floats]:
    """Those of the rows whose embedding is not null and has no NaN or infinity, and the embeddings [n, D]."""
    taken = column.take(rows)
    rows = rows[taken.is_valid().to_numpy(zero_copy_only=False)]
    flat = taken.drop_null().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    matrix = flat.reshape(len(rows), column.type.list_size)  # [n, D]
    is_finite = np.isfinite(matrix).all(axis=1)
    return rows[is_finite], matrix[is_finite]


# ---- the map ----------------------------------------------------------------------------------------------


class MapGroup(NamedTuple):
    """The faces of an emotion on the map."""

    emotion: str | None
    num_faces: int
    centre: tuple[float, float]
    """Mean of the two components."""


class Map(NamedTuple):
    """Two principal components of a sample of faces."""

    num_faces: int
    variance_share: float
    """That the two components hold, 0 to 1."""
    layers: list[tuple[str | None, list[tuple[float, float]]]]
    """Points from 0 to 1 of one emotion each, to be drawn over each other: no emotion lies on top of all others."""
    groups: list[MapGroup]


_LAYERS = 24
"""In which the points of an emotion are drawn."""


def map_of(rows: RunRows, classes: Sequence[str]) -> Map | None:
    """The map; None without three different embeddings."""
    size = len(rows.embeddings)
    if size < 3 or rows.embeddings.shape[1] < 2 or not np.ptp(rows.embeddings, axis=0).any():
        return None
    pca = PCA(2, svd_solver="full" if size < 500 else "randomized", random_state=0)
    points = pca.fit_transform(rows.embeddings)  # [n, 2]
    extent = np.where(np.ptp(points, axis=0) > 0, np.ptp(points, axis=0), 1.0)
    places = (points - points.min(axis=0)) / extent  # [n, 2]
    names: list[str | None] = [*classes, None]  # id -1 is the last
    present = np.unique(rows.emotion_ids).tolist()
    layers = []
    for part in np.array_split(np.random.default_rng(0).permutation(size), _LAYERS):
        for number in present:
            of_emotion = places[part[rows.emotion_ids[part] == number]]
            if len(of_emotion):
                layers.append((names[number], [(x, y) for x, y in of_emotion.tolist()]))
    groups = []
    for number in present:
        of_emotion = points[rows.emotion_ids == number]
        x, y = of_emotion.mean(axis=0).tolist()
        groups.append(MapGroup(names[number], len(of_emotion), (x, y)))
    return Map(size, float(pca.explained_variance_ratio_.sum()), layers, groups)


# ---- inputs -----------------------------------------------------------------------------------------------


class Failure(NamedTuple):
    input: str
    status: str
    error: str | None


@dataclass(frozen=True, slots=True)
class InputCounts:
    """What the inputs table says; all is empty for a table that motivnet did not write."""

    statuses: dict[str, int]
    reasons: dict[str, int]
    failures: list[Failure]
    """The first inputs that had a problem."""
    faces: Counter[int]
    """Pictures by their number of faces, those with many together."""
    offsets_s: dict[str, float]
    """Of the videos that do not begin with their file: from its start to theirs, in seconds."""

    @property
    def total(self) -> int:
        return sum(self.statuses.values())

    @property
    def num_problems(self) -> int:
        return sum(self.reasons.values())


def count_inputs(source: Source) -> InputCounts:
    """One pass over the inputs table."""
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    faces: Counter[int] = Counter()
    failures: list[Failure] = []
    offsets_s: dict[str, float] = {}
    for row in source.inputs():
        if row.time_offset_s:
            offsets_s[row.input] = row.time_offset_s
        statuses[row.status] += 1
        if row.status in ("ok", "no_face") and row.kind == "image":
            faces[min(row.faces, MANY_FACES)] += 1
        if row.error_type:
            reasons[row.error_type] += 1
            if len(failures) < MAX_FAILURES:
                failures.append(Failure(row.input, row.status, row.error))
    named: dict[str, int] = {name: statuses[name] for name in STATUSES}
    return InputCounts(named, dict(reasons.most_common()), failures, faces, offsets_s)
