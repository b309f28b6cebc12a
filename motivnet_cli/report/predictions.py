"""One page about a run that people show others: counts, emotions, galleries, a map, timelines. It asks for nothing.

Rows are streamed: what is kept of them are counts, a sample for the map, and the few most and least confident faces.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from PIL import Image
from sklearn.decomposition import PCA

from motivnet_cli import __version__
from motivnet_cli.config import MAX_PIXELS, VideoConfig
from motivnet_cli.durable import durably
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.export.destination import check_destination
from motivnet_cli.export.source import Source
from motivnet_cli.inputs.video import VideoReader
from motivnet_cli.records import BOX_COLUMNS, STATUSES
from motivnet_cli.report import figures
from motivnet_cli.report.pages import PAGES, cut_to, data_uri, small_jpeg, thumbnail

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

NUM_SHOWN = 6
"""Faces of an emotion that are shown, of each end of confidence."""
NUM_MAPPED = 5_000
"""Faces on the map: a random sample of all."""
NUM_TIMELINES = 12
NUM_STILLS = 40
STILLS_S = 600.0
"""Frames of a video that the page holds, and from how much of it: it is decoded to there."""
NUM_FAILURES = 25
NUM_STEPS = 240
"""Of a timeline, each with its most frequent emotion: about three pixels wide, so that none covers another."""
NUM_LANES = 12
"""Tracks of a video that are drawn: those with most rows."""
NUM_GALLERY_VIDEOS = 12
"""Videos that are decoded for faces of the galleries."""


@dataclass(slots=True)
class _Found:
    """What one pass over the rows gathers."""

    emotions: Counter[str] = field(default_factory=Counter)
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(20, np.int64))
    most: dict[str, list[tuple[float, int, dict[str, Any]]]] = field(default_factory=dict)
    least: dict[str, list[tuple[float, int, dict[str, Any]]]] = field(default_factory=dict)


def write_page(path: str, out: str, *, images: bool = True, overwrite: bool = False) -> Path:
    """Write the page of an output of `annotate`.

    Args:
        path: What `Source` takes.
        out: The page; it appears whole or not at all.
        images: Whether small copies of the local pictures and videos that the run read are in it.

    Raises:
        ConfigError: It is no output with emotions, or `check_destination` refuses `out`.
    """
    final = Path(out)
    check_destination(final, [path], overwrite=overwrite)
    source = Source(path)
    if not {"emotion", "confidence", "input"} <= set(source.schema.names):
        raise ConfigError(
            f"{path!r} names no emotions, and the page is about them: motivnet evaluate and compare read it"
        )
    found, sample = _gather(source)
    inputs = _inputs(source)
    galleries = list(_galleries(source, found))
    if images:
        _add_faces(source, [face for gallery in galleries for _, faces in gallery["ends"] for face in faces])
    videos = _videos(source)
    values = {
        "tool": f"motivnet {__version__}",
        "name": Path(path).name,
        "record": source.record,
        "num_faces": source.num_rows,
        "inputs": inputs,
        "emotions": {name: found.emotions[name] for name in source.classes},
        "figures": list(_figures(source, found, sample, inputs["faces"])),
        "galleries": galleries,
        "images": images,
        "num_mapped": len(sample[0]),
        "timelines": list(_timelines(source, videos[:NUM_TIMELINES], images=images)),
        "num_videos": len(videos),
    }
    html = PAGES.get_template("predictions.html.j2").render(values)
    with durably(final) as temporary:
        temporary.write_bytes(html.encode("utf-8", "backslashreplace"))
    return final


def _gather(source: Source) -> tuple[_Found, tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """One pass over the rows; of the embeddings a sample [n, D] with the emotions' numbers [n]."""
    found = _Found()
    has_embeddings = "embedding" in source.schema.names
    picks = np.zeros(0, np.int64)
    if has_embeddings:  # chosen before the pass, so that few of the embeddings are copied
        size = min(NUM_MAPPED, source.num_rows)
        picks = np.sort(np.random.default_rng(0).choice(source.num_rows, size, replace=False))
    embeddings, kinds = [np.zeros((0, 1), np.float32)], [np.zeros(0, np.int64)]
    numbers = {name: number for number, name in enumerate(source.classes)}
    columns = [name for name in source.schema.names if name in _READ]
    row_number = 0
    for batch in source.batches(columns):
        emotions = batch.column("emotion").to_pylist()
        confidence = batch.column("confidence").to_numpy(zero_copy_only=False)
        found.emotions.update(emotions)
        found.histogram += np.histogram(confidence[np.isfinite(confidence)], bins=20, range=(0, 1))[0]
        if has_embeddings:
            begin, end = np.searchsorted(picks, [row_number, row_number + len(emotions)])
            rows, matrix = _finite(batch.column("embedding"), picks[begin:end] - row_number)
            if len(rows):
                embeddings.append(matrix)
                kinds.append(np.array([numbers.get(emotions[row], -1) for row in rows.tolist()]))
        for name in set(emotions) & numbers.keys():
            indices = np.flatnonzero(np.isfinite(confidence) & np.array([each == name for each in emotions]))
            order = indices[np.argsort(confidence[indices], kind="stable")]
            for sign, ends, kept in ((1, order[-NUM_SHOWN:], found.most), (-1, order[:NUM_SHOWN], found.least)):
                for index in ends.tolist():
                    _keep(kept.setdefault(name, []), sign * float(confidence[index]), row_number + index, batch, index)
        row_number += len(emotions)
    return found, (np.concatenate(embeddings[1:] or embeddings), np.concatenate(kinds))


def _finite(column: pa.FixedSizeListArray, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Those of the rows whose embedding is not null and has no NaN or infinity, and the embeddings [n, D]."""
    taken = column.take(rows)
    rows = rows[taken.is_valid().to_numpy(zero_copy_only=False)]
    flat = taken.drop_null().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    matrix = flat.reshape(len(rows), column.type.list_size)
    finite = np.isfinite(matrix).all(axis=1)
    return rows[finite], matrix[finite]


_READ = {
    "input",
    "frame",
    "time_s",
    "face",
    "track",
    "face_source",
    "x1",
    "y1",
    "x2",
    "y2",
    "emotion",
    "confidence",
    "embedding",
}


def _keep(
    kept: list[tuple[float, int, dict[str, Any]]], rank: float, number: int, batch: pa.RecordBatch, index: int
) -> None:
    """Into a heap of the best few; ties go to the earlier row."""
    entry = (
        rank,
        -number,
        {name: batch.column(name)[index].as_py() for name in batch.schema.names if name != "embedding"},
    )
    (heappush if len(kept) < NUM_SHOWN else heappushpop)(kept, entry)


def _inputs(source: Source) -> dict[str, Any]:
    """Inputs by status and by reason, the first that failed, and how many have how many faces."""
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    faces: Counter[int] = Counter()
    failures: list[dict[str, Any]] = []
    for row in source.inputs():
        statuses[row.status] += 1
        if row.status in ("ok", "no_face") and row.kind == "image":
            faces[min(row.faces, 10)] += 1
        if row.error_type:
            reasons[row.error_type] += 1
            if len(failures) < NUM_FAILURES:
                failures.append({"input": row.input, "status": row.status, "error": row.error})
    return {
        "statuses": {name: statuses[name] for name in STATUSES},
        "total": statuses.total(),
        "reasons": dict(reasons.most_common()),
        "failures": failures,
        "faces": faces,
    }


# ---- what is drawn ----------------------------------------------------------------------------------------


def _figures(
    source: Source, found: _Found, sample: tuple[NDArray[np.float32], NDArray[np.int64]], faces: Counter[int]
) -> Iterator[dict[str, str]]:
    shares = [found.emotions[name] for name in source.classes]
    yield _figure("Emotion mix", "Faces by their most probable emotion.", figures.bars(source.classes, shares))
    edges = [f"{number * 5}" for number in range(20)]
    caption = "Probability of the emotion that was named, in percent, in steps of five."
    yield _figure("Confidence", caption, figures.bars(edges, found.histogram.tolist(), every=4))
    if faces:
        counts = [faces[number] for number in range(max(faces) + 1)]
        names = [f"{number}" if number < 10 else "10+" for number in range(len(counts))]
        yield _figure("Faces a picture", "Pictures by the number of faces in them.", figures.bars(names, counts))
    embeddings, emotions = sample
    if len(embeddings) >= 3 and embeddings.shape[1] >= 2:
        map_ = PCA(2, svd_solver="full" if len(embeddings) < 500 else "randomized", random_state=0)
        places = map_.fit_transform(embeddings)
        share = map_.explained_variance_ratio_.sum()
        which = (
            "all"
            if len(embeddings) == source.num_rows
            else f"a random sample of {len(embeddings):,} of {source.num_rows:,}"
        )
        caption = f"Two principal components of the embeddings of {which} faces; they hold {share:.0%} of the variance."
        yield _figure("A map of the faces", caption, figures.scatter(places, emotions, source.classes))


def _figure(title: str, caption: str, drawn: dict[str, bytes]) -> dict[str, str]:
    return {"title": title, "caption": caption, "uri": data_uri(drawn["svg"], "image/svg+xml")}


def _videos(source: Source) -> list[str]:
    """The inputs that have rows with a time, in their order."""
    if "time_s" not in source.schema.names:
        return []
    names = source.lazy().filter(pl.col("time_s").is_finite()).select(pl.col("input").unique(maintain_order=True))
    return names.collect(engine="streaming")["input"].to_list()


def _timelines(source: Source, names: list[str], *, images: bool) -> Iterator[dict[str, Any]]:
    """A figure a video: of each of NUM_LANES tracks, or face numbers, the most frequent emotion of NUM_STEPS steps."""
    if not names:
        return
    has_tracks = "track" in source.schema.names
    person = [pl.col(name).cast(pl.Int64) for name in ("track", "face") if name in source.schema.names]
    rows = (
        source.lazy()
        .filter(pl.col("time_s").is_finite() & pl.col("input").is_in(names))
        .select("input", "time_s", "emotion", person=pl.coalesce(*person, pl.lit(0, pl.Int64)))
    )
    lanes = rows.group_by("input", "person").agg(pl.len().alias("rows")).collect(engine="streaming")
    times = rows.select("input", "time_s").unique().collect(engine="streaming").sort("input", "time_s")
    first, last = (getattr(pl.col("time_s"), end)() for end in ("min", "max"))
    interval = pl.col("time_s").diff().median().fill_null(1.0)
    spans = (
        times.group_by("input")
        .agg(first=first, last=last, interval=interval)
        .with_columns(width=pl.max_horizontal((pl.col("last") - pl.col("first")) / (NUM_STEPS - 1), "interval"))
    )
    steps = (
        rows.join(spans.lazy(), on="input")
        .group_by("input", "person", "emotion", step=((pl.col("time_s") - pl.col("first")) / pl.col("width")).round())
        .agg(pl.len().alias("rows"))
        .collect(engine="streaming")
        .sort("rows", "emotion", descending=[True, False])
        .unique(["input", "person", "step"], keep="first")
        .sort("input", "person", "step")
    )
    numbers = {name: number for number, name in enumerate(source.classes)}
    for name in names:
        span = spans.row(by_predicate=pl.col("input") == name, named=True)
        of_video = lanes.filter(pl.col("input") == name).sort("rows", "person", descending=[True, False])
        drawn: dict[int, list[tuple[float, float, int]]] = {}
        for person_number in sorted(of_video["person"].head(NUM_LANES)):
            of_lane = steps.filter((pl.col("input") == name) & (pl.col("person") == person_number))
            drawn[person_number] = [
                (
                    span["first"] + max(step - 0.5, 0.0) * span["width"],
                    span["width"] / 2 if step == 0 else span["width"],
                    numbers.get(emotion, -1),
                )
                for step, emotion in of_lane.select("step", "emotion").iter_rows()
            ]
        noun = "tracks" if has_tracks else "faces of each frame, from left to right"
        caption = f"Most frequent emotion in steps of {span['width']:.3g} s, a row for each of the {noun}"
        caption += f"; the {NUM_LANES} of {of_video.height:,} with most rows." if of_video.height > NUM_LANES else "."
        path = _local(name, source) if images else None
        yield {
            "title": name,
            "caption": caption,
            "uri": data_uri(figures.timeline(drawn, source.classes)["svg"], "image/svg+xml"),
            "stills": _stills(path, times.filter(pl.col("input") == name)["time_s"].to_list()),
        }


def _stills(path: str | None, times: list[float]) -> list[dict[str, Any]]:
    """Frames of a local video that faces were found in, at most NUM_STILLS and of its first STILLS_S seconds."""
    wanted = [time for time in times if time <= STILLS_S]
    if path is None or not wanted:
        return []
    wanted = wanted[:: -(-len(wanted) // NUM_STILLS)]
    return [{"time_s": time, "uri": small_jpeg(picture)} for time, picture in _pictures_at(path, wanted).items()]


def _pictures_at(path: str, times: list[float]) -> dict[float, Image.Image]:
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


def _galleries(source: Source, found: _Found) -> Iterator[dict[str, Any]]:
    for name in source.classes:
        if name in found.most:
            ends = (("most confident", found.most[name]), ("least confident", found.least[name]))
            yield {
                "emotion": name,
                "ends": [
                    (title, [{"time_s": None, **row, "thumbnail": None} for _, _, row in sorted(kept, reverse=True)])
                    for title, kept in ends
                ],
            }


def _add_faces(source: Source, faces: list[dict[str, Any]]) -> None:
    """Put the `thumbnail` into those that can be cut from a local picture, or the beginning of a local video."""
    of_videos: dict[str, list[dict[str, Any]]] = {}
    for face in faces:
        path = _local(face["input"], source)
        if path is None:
            continue
        if face["time_s"] is None:
            face["thumbnail"] = thumbnail({"path": path, "box": _box_of(face)})
        elif face["time_s"] <= STILLS_S:
            of_videos.setdefault(path, []).append(face)
    for path, wanted in list(of_videos.items())[:NUM_GALLERY_VIDEOS]:
        pictures = _pictures_at(path, sorted({face["time_s"] for face in wanted}))
        for face in wanted:
            if face["time_s"] in pictures:
                face["thumbnail"] = small_jpeg(cut_to(pictures[face["time_s"]], _box_of(face)))


def _box_of(row: dict[str, Any]) -> Any:  # noqa: ANN401 - a Box or None
    box = [row.get(side) for side in BOX_COLUMNS]
    return box if all(edge is not None and np.isfinite(edge) for edge in box) else None


def _local(name: str, source: Source) -> str | None:
    """The file of an input, if it is still there: absolute, or under, within or itself one of the given paths."""
    if Path(name).is_absolute():
        return name if Path(name).is_file() else None
    parts = [part for part in Path(name).parts if part != ".."]
    for given in map(Path, source.record.get("settings", {}).get("inputs.paths", ())):
        for shared in range(len(parts) + 1):
            file = given.joinpath(*parts[shared:])
            if (not shared or given.parts[-shared:] == tuple(parts[:shared])) and file.is_file():
                return str(file)
    return None
