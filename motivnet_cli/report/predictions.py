"""One page about a run to show others: counts, emotions, galleries, a map of the embeddings, timelines.

Rows are streamed: what is kept of them are counts, a sample for the map, and the few most and least confident faces.
The page loads nothing.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image
from sklearn.decomposition import PCA

from motivnet_cli import __version__
from motivnet_cli.config import MAX_PIXELS, VideoConfig
from motivnet_cli.durable import durably
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.export.destination import check_destination
from motivnet_cli.export.local_files import LocalFiles
from motivnet_cli.export.source import InputRow, Source
from motivnet_cli.inputs.video import VideoReader
from motivnet_cli.records import BOX_COLUMNS, STATUSES
from motivnet_cli.remote.urls import local_path
from motivnet_cli.report import figures
from motivnet_cli.report.pages import PAGES, cut_to, data_uri, picture_processes, small_jpeg, thumbnail
from motivnet_cli.report.timelines import MAX_TIMELINES, timelines, videos_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from motivnet_cli.records import Box
    from motivnet_cli.report.timelines import Timeline

    Floats = NDArray[np.float32]
    Ints = NDArray[np.int64]

MAX_SHOWN = 6
"""Faces of an emotion that are shown, of each end of confidence."""
MAX_MAPPED = 5_000
"""Faces on the map: a random sample of all."""
MAX_STILLS = 40
"""Frames of a video that the page holds."""
MAX_STILLS_SECONDS = 600.0
"""How much of a video is decoded, for frames and faces."""
MAX_FAILURES = 25
"""Inputs with a problem that are named."""
MAX_GALLERY_VIDEOS = 12
"""Videos that are decoded for faces of the galleries."""
_NUM_BINS = 20
_MANY_FACES = 10
"""From this number of faces on, pictures are counted together."""


def write_page(
    path: str, out: str, *, images: bool = True, images_from: str | None = None, overwrite: bool = False
) -> Path:
    """Write the page of an output of `annotate`.

    Args:
        path: What `Source` takes.
        out: The page; it appears whole or not at all.
        images: Whether small copies of the local pictures and videos that the run read are in it.
        images_from: The folder to which they have moved (see `LocalFiles`).

    Raises:
        ConfigError: It is no output with emotions, or `check_destination` refuses `out`.
    """
    path, out = local_path(path), local_path(out)
    final = Path(out)
    check_destination(final, [path], overwrite=overwrite)
    source = Source(path)
    check_destination(final, source.files_named, overwrite=overwrite)
    if final.suffix.lower() not in (".html", ".htm"):  # it may be a picture that the run read
        raise ConfigError(f"the report is a page: give --out a name ending in .html, got {out!r}")
    if not {"emotion", "confidence", "input"} <= set(source.schema.names):
        raise ConfigError(
            f"{path!r} names no emotions, and the page is about them: motivnet evaluate and compare read it"
        )
    files = LocalFiles(source, images_from)
    rows = _gather(source)
    inputs = _count_inputs(source)
    galleries = _galleries(source, rows)
    videos = videos_in(source)
    drawn = list(timelines(source, videos[:MAX_TIMELINES]))
    paths: dict[str, str] = {}
    if images:
        faces = [face for gallery in galleries for _, faces in gallery.ends for face in faces]
        paths = _paths_of({*(face.input for face in faces), *(timeline.video for timeline in drawn)}, source, files)
        _add_thumbnails(paths, faces)
    values = {
        "tool": f"motivnet {__version__}",
        "name": Path(path).name,
        "record": source.record,
        "num_faces": source.num_rows,
        "sources": dict(rows.sources.most_common()),
        "inputs": inputs,
        "figures": list(_figures(source, rows, inputs.faces)),
        "galleries": galleries,
        "images": images,
        "timelines": [(timeline, _stills(timeline, paths)) for timeline in drawn],
        "absent": files.sentence,
        "num_videos": len(videos),
    }
    html = PAGES.get_template("predictions.html.j2").render(values)
    with durably(final) as temporary:
        temporary.write_bytes(html.encode("utf-8", "backslashreplace"))
    return final


# ---- one pass over the rows -------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Face:
    """A face of a gallery."""

    input: str
    time_s: float | None
    box: Box | None
    confidence: float
    thumbnail: str | None = None


_Ranked = tuple[float, int, _Face]
"""The rank that a heap goes by, less the row's number (so that ties go to the earlier row), and the face."""


@dataclass(slots=True)
class _Rows:
    """What one pass over the rows keeps."""

    emotions: Counter[str | None] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    """Faces by how they were found; empty for a table without `face_source`."""
    histogram: Ints = field(default_factory=lambda: np.zeros(_NUM_BINS, np.int64))
    """Faces by confidence."""
    most: dict[str, list[_Ranked]] = field(default_factory=dict)
    least: dict[str, list[_Ranked]] = field(default_factory=dict)
    """The most and the least confident faces of each emotion, as heaps."""
    embeddings: Floats = field(default_factory=lambda: np.zeros((0, 1), np.float32))
    """[n, D], a sample."""
    emotion_ids: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """[n], of the sample: index into the source's classes, -1 for no emotion."""


def _gather(source: Source) -> _Rows:
    rows = _Rows()
    has_embeddings = "embedding" in source.schema.names
    picks = np.zeros(0, np.int64)
    if has_embeddings:  # chosen before the pass, so that few of the embeddings are copied
        size = min(MAX_MAPPED, source.num_rows)
        picks = np.sort(np.random.default_rng(0).choice(source.num_rows, size, replace=False))
    embeddings: list[Floats] = []
    ids: list[Ints] = []
    numbers = {name: number for number, name in enumerate(source.classes)}
    read = {"input", "time_s", "face_source", *BOX_COLUMNS, "emotion", "confidence", "embedding"}
    first_row = 0
    for batch in source.batches([name for name in source.schema.names if name in read]):
        emotions: list[str | None] = batch.column("emotion").to_pylist()
        confidence = batch.column("confidence").to_numpy(zero_copy_only=False)
        rows.emotions.update(emotions)
        if "face_source" in batch.schema.names:
            rows.sources.update(source or "unknown" for source in batch.column("face_source").to_pylist())
        rows.histogram += np.histogram(confidence[np.isfinite(confidence)], bins=_NUM_BINS, range=(0, 1))[0]
        if has_embeddings:
            begin, end = np.searchsorted(picks, [first_row, first_row + len(emotions)])
            picked, matrix = _finite(batch.column("embedding"), picks[begin:end] - first_row)
            if len(picked):
                embeddings.append(matrix)
                ids.append(np.array([numbers.get(emotions[row] or "", -1) for row in picked.tolist()]))
        for name in numbers.keys() & set(emotions):
            is_named = np.array([emotion == name for emotion in emotions])
            _rank(rows, name, np.flatnonzero(np.isfinite(confidence) & is_named), confidence, batch, first_row)
        first_row += len(emotions)
    if embeddings:
        rows.embeddings, rows.emotion_ids = np.concatenate(embeddings), np.concatenate(ids)
    return rows


def _finite(column: pa.FixedSizeListArray, rows: Ints) -> tuple[Ints, Floats]:
    """Those of the rows whose embedding is not null and has no NaN or infinity, and the embeddings [n, D]."""
    taken = column.take(rows)
    rows = rows[taken.is_valid().to_numpy(zero_copy_only=False)]
    flat = taken.drop_null().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    matrix = flat.reshape(len(rows), column.type.list_size)  # [n, D]
    is_finite = np.isfinite(matrix).all(axis=1)
    return rows[is_finite], matrix[is_finite]


def _rank(rows: _Rows, emotion: str, indices: Ints, confidence: Floats, batch: pa.RecordBatch, first_row: int) -> None:
    """Offer the rows of a batch that have the emotion to the heaps of the most and the least confident."""
    order = indices[np.argsort(confidence[indices], kind="stable")]
    for sign, ends, heaps in ((1, order[-MAX_SHOWN:], rows.most), (-1, order[:MAX_SHOWN], rows.least)):
        heap = heaps.setdefault(emotion, [])
        for index in ends.tolist():
            entry = (sign * float(confidence[index]), -(first_row + index), _face_in(batch, index))
            (heappush if len(heap) < MAX_SHOWN else heappushpop)(heap, entry)


def _face_in(batch: pa.RecordBatch, index: int) -> _Face:
    def value(name: str) -> float | None:
        found: float | None = batch.column(name)[index].as_py() if name in batch.schema.names else None
        return found

    edges = [edge for edge in map(value, BOX_COLUMNS) if edge is not None and np.isfinite(edge)]
    box = (edges[0], edges[1], edges[2], edges[3]) if len(edges) == len(BOX_COLUMNS) else None
    return _Face(batch.column("input")[index].as_py(), value("time_s"), box, value("confidence") or 0.0)


# ---- inputs -----------------------------------------------------------------------------------------------


class _Failure(NamedTuple):
    input: str
    status: str
    error: str | None


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The inputs of the run; all are empty for a table that motivnet did not write."""

    statuses: dict[str, int]
    reasons: dict[str, int]
    failures: list[_Failure]
    """The first inputs that had a problem."""
    faces: Counter[int]
    """Pictures by their number of faces, those with many together."""

    @property
    def total(self) -> int:
        return sum(self.statuses.values())


def _count_inputs(source: Source) -> _Inputs:
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    faces: Counter[int] = Counter()
    failures: list[_Failure] = []
    for row in source.inputs():
        statuses[row.status] += 1
        if row.status in ("ok", "no_face") and row.kind == "image":
            faces[min(row.faces, _MANY_FACES)] += 1
        if row.error_type:
            reasons[row.error_type] += 1
            if len(failures) < MAX_FAILURES:
                failures.append(_Failure(row.input, row.status, row.error))
    return _Inputs({name: statuses[name] for name in STATUSES}, dict(reasons.most_common()), failures, faces)


# ---- figures ----------------------------------------------------------------------------------------------


class _Figure(NamedTuple):
    title: str
    caption: str
    drawing: figures.Drawing

    @property
    def uri(self) -> str:
        return data_uri(self.drawing.svg, "image/svg+xml")


def _figures(source: Source, rows: _Rows, faces: Counter[int]) -> Iterator[_Figure]:
    counts = [rows.emotions[name] for name in source.classes]
    yield _Figure("Emotion mix", "Faces by their most probable emotion.", figures.bars(source.classes, counts))
    edges = [f"{number * 100 // _NUM_BINS}" for number in range(_NUM_BINS)]
    caption = "Probability of the emotion that was named, in percent, in steps of five."
    yield _Figure("Confidence", caption, figures.bars(edges, rows.histogram.tolist(), every=4))
    if faces:
        numbers = range(max(faces) + 1)
        names = [f"{number}" if number < _MANY_FACES else f"{_MANY_FACES}+" for number in numbers]
        drawing = figures.bars(names, [faces[number] for number in numbers])
        yield _Figure("Faces a picture", "Pictures by the number of faces in them.", drawing)
    if len(rows.embeddings) >= 3 and rows.embeddings.shape[1] >= 2 and np.ptp(rows.embeddings, axis=0).any():
        yield _map_of(rows, source)


def _map_of(rows: _Rows, source: Source) -> _Figure:
    size = len(rows.embeddings)
    pca = PCA(2, svd_solver="full" if size < 500 else "randomized", random_state=0)
    points = pca.fit_transform(rows.embeddings)  # [n, 2]
    share = pca.explained_variance_ratio_.sum()
    which = "all" if size == source.num_rows else f"a random sample of {size:,} of {source.num_rows:,}"
    caption = f"Two principal components of the embeddings of {which} faces; they hold {share:.0%} of the variance."
    return _Figure("A map of the faces", caption, figures.scatter(points, rows.emotion_ids, source.classes))


# ---- pictures ---------------------------------------------------------------------------------------------


class _Gallery(NamedTuple):
    emotion: str
    ends: list[tuple[str, list[_Face]]]
    """The most and the least confident faces, each with a title."""


class _Still(NamedTuple):
    time_s: float
    uri: str


def _galleries(source: Source, rows: _Rows) -> list[_Gallery]:
    return [
        _Gallery(
            name,
            [
                ("most confident", [face for _, _, face in sorted(rows.most[name], reverse=True)]),
                ("least confident", [face for _, _, face in sorted(rows.least[name], reverse=True)]),
            ],
        )
        for name in source.classes
        if name in rows.most
    ]


def _paths_of(names: set[str], source: Source, files: LocalFiles) -> dict[str, str]:
    """The files of some inputs, as far as they are here."""
    rows = {name: InputRow(name, "image", "ok") for name in names}
    rows |= {row.input: row for row in source.inputs() if row.input in names}
    found = {name: files.find(row) for name, row in rows.items()}
    return {name: str(path) for name, path in found.items() if path is not None}


def _add_thumbnails(paths: Mapping[str, str], faces: Sequence[_Face]) -> None:
    """Give faces their thumbnails where they can be cut from a local picture, or the beginning of a local video."""
    of_videos: dict[str, list[tuple[float, _Face]]] = {}
    with picture_processes() as processes:
        for face in faces:
            path = paths.get(face.input)
            if path is None:
                continue
            if face.time_s is None:
                face.thumbnail = thumbnail(path, face.box, processes)
            elif face.time_s <= MAX_STILLS_SECONDS:
                of_videos.setdefault(path, []).append((face.time_s, face))
    for path, wanted in list(of_videos.items())[:MAX_GALLERY_VIDEOS]:
        pictures = _pictures_at(path, sorted({time_s for time_s, _ in wanted}))
        for time_s, face in wanted:
            if time_s in pictures:
                face.thumbnail = small_jpeg(cut_to(pictures[time_s], face.box))


def _stills(timeline: Timeline, paths: Mapping[str, str]) -> list[_Still]:
    """Frames in which faces were found, of a local video."""
    path = paths.get(timeline.video)
    wanted = [time_s for time_s in timeline.times if time_s <= MAX_STILLS_SECONDS]
    if path is None or not wanted:
        return []
    wanted = wanted[:: -(-len(wanted) // MAX_STILLS)]
    return [_Still(time_s, small_jpeg(picture)) for time_s, picture in _pictures_at(path, wanted).items()]


def _pictures_at(path: str, times: Sequence[float]) -> dict[float, Image.Image]:
    """The frames shown at some times in rising order; none of a video that has gone or changed since."""
    pictures: dict[float, Image.Image] = {}
    with suppress(InputError):
        for frame in VideoReader(path, VideoConfig(fps=None, end_s=times[-1] + 1), max_pixels=MAX_PIXELS):
            assert frame.time_s is not None, "frames of videos have times"
            if frame.time_s >= times[len(pictures)] - 1e-3:
                pictures[times[len(pictures)]] = Image.fromarray(frame.rgb)
            if len(pictures) == len(times):
                break
    return pictures
