"""One page about a run that people show others: counts, emotions, galleries, a map, timelines. It asks for nothing.

Rows are streamed: what is kept of them are counts, a sample for the map, and the few most and least confident faces.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from PIL import Image
from sklearn.decomposition import PCA

from motivnet_cli import __version__, figures
from motivnet_cli.config import MAX_PIXELS, VideoConfig
from motivnet_cli.durable import durably
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.export.source import Source
from motivnet_cli.records import STATUSES
from motivnet_cli.report import data_uri, small_jpeg, thumbnail
from motivnet_cli.similarity import Reservoir
from motivnet_cli.video import VideoReader

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
NUM_POINTS = 2_000
"""Points of a timeline; of a longer one every n-th frame is drawn."""
MAX_TRACKED_POINTS = 200_000
"""Rows of videos that are kept for timelines; what comes later is only counted."""


@dataclass(slots=True)
class _Found:
    """What one pass over the rows gathers."""

    emotions: Counter[str] = field(default_factory=Counter)
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(20, np.int64))
    most: dict[str, list[tuple[float, int, dict[str, Any]]]] = field(default_factory=dict)
    least: dict[str, list[tuple[float, int, dict[str, Any]]]] = field(default_factory=dict)
    lines: dict[str, dict[int, list[tuple[float, int]]]] = field(default_factory=dict)
    num_points: int = 0


def write_page(path: str, out: str, *, images: bool = True, overwrite: bool = False) -> Path:
    """Write the page of an output of `annotate`.

    Args:
        path: What `Source` takes.
        out: The page; it appears whole or not at all.
        images: Whether faces are cut from the local pictures that the run read.

    Raises:
        ConfigError: It is no output with emotions, or `out` exists.
    """
    final = Path(out)
    if final.exists() and not overwrite:
        raise ConfigError(f"{out!r} exists: give --overwrite to replace it, or --out another name")
    source = Source(path)
    if not {"emotion", "confidence", "input"} <= set(source.schema.names):
        raise ConfigError(
            f"{path!r} names no emotions, and the page is about them: motivnet evaluate and compare read it"
        )
    found, sample = _gather(source)
    inputs = _inputs(source)
    values = {
        "tool": f"motivnet {__version__}",
        "name": Path(path).name,
        "record": source.record,
        "num_faces": source.num_rows,
        "inputs": inputs,
        "emotions": {name: found.emotions[name] for name in source.classes},
        "figures": list(_figures(source, found, sample, inputs["faces"])),
        "galleries": list(_galleries(source, found)) if images else [],
        "images": images,
        "num_mapped": len(sample[0]),
        "timelines": list(_timelines(source, found, images=images)),
        "num_videos": len(found.lines),
    }
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("motivnet_cli", "assets"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    html = environment.get_template("predictions.html.j2").render(values)
    with durably(final) as temporary:
        temporary.write_bytes(html.encode("utf-8", "backslashreplace"))
    return final


def _gather(source: Source) -> tuple[_Found, tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """One pass over the rows; of the embeddings a sample [n, D] with the emotions' numbers [n]."""
    found = _Found()
    has_embeddings = "embedding" in source.schema.names
    reservoir = Reservoir(seed=(0,), limit=NUM_MAPPED)
    numbers = {name: number for number, name in enumerate(source.classes)}
    columns = [name for name in source.schema.names if name in _READ]
    row_number = 0
    for batch in source.batches(columns):
        emotions = batch.column("emotion").to_pylist()
        confidence = batch.column("confidence").to_numpy(zero_copy_only=False)
        found.emotions.update(emotions)
        found.histogram += np.histogram(confidence, bins=20, range=(0, 1))[0]
        if has_embeddings:
            flat = batch.column("embedding").flatten().to_numpy(zero_copy_only=False).astype(np.float32)
            coded = np.array([[numbers.get(name, 0)] for name in emotions], np.float32)
            reservoir.update(np.hstack([flat.reshape(len(emotions), -1), coded]))
        for name in set(emotions):
            indices = np.flatnonzero([each == name for each in emotions])
            order = indices[np.argsort(confidence[indices], kind="stable")]
            for sign, ends, kept in ((1, order[-NUM_SHOWN:], found.most), (-1, order[:NUM_SHOWN], found.least)):
                for index in ends.tolist():
                    _keep(kept.setdefault(name, []), sign * float(confidence[index]), row_number + index, batch, index)
        if "time_s" in columns and batch.column("time_s").null_count < len(emotions):
            _follow(found, batch, numbers)
        row_number += len(emotions)
    rows = reservoir.rows
    if not len(rows):
        return found, (np.zeros((0, 1), np.float32), np.zeros(0, np.int64))
    return found, (rows[:, :-1].astype(np.float32), rows[:, -1].astype(np.int64))


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


def _follow(found: _Found, batch: pa.RecordBatch, numbers: dict[str, int]) -> None:
    names = batch.schema.names
    persons = batch.column("track" if "track" in names else "face").to_pylist()
    rows = zip(*(batch.column(name).to_pylist() for name in ("input", "time_s", "emotion")), persons, strict=True)
    for name, time_s, emotion, person in rows:
        if time_s is not None and found.num_points < MAX_TRACKED_POINTS:
            found.num_points += 1
            found.lines.setdefault(name, {}).setdefault(person or 0, []).append((time_s, numbers.get(emotion, 0)))


def _inputs(source: Source) -> dict[str, Any]:
    """Inputs by status and by reason, the first that failed, and how many have how many faces."""
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    faces: Counter[int] = Counter()
    failures: list[dict[str, Any]] = []
    for row in source.inputs():
        statuses[row["status"]] += 1
        if row["status"] in ("ok", "no_face") and row["kind"] == "image":
            faces[min(row["faces"], 10)] += 1
        if row["error_type"]:
            reasons[row["error_type"]] += 1
            if len(failures) < NUM_FAILURES:
                failures.append({"input": row["input"], "status": row["status"], "error": row["error"]})
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
        places = map_.fit_transform(np.nan_to_num(embeddings))
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


def _timelines(source: Source, found: _Found, *, images: bool) -> Iterator[dict[str, Any]]:
    root = _root_of(source)
    for name, persons in list(found.lines.items())[:NUM_TIMELINES]:
        longest = max(map(len, persons.values()))
        step = -(-longest // NUM_POINTS)
        thinned = {person: points[::step] for person, points in persons.items()}
        noun = "track" if "track" in source.schema.names else "face of each frame"
        caption = f"Dominant emotion over time in seconds, a row for each {noun}"
        caption += f"; every {step}th sampled frame is drawn." if step > 1 else "."
        yield {
            "title": name,
            "caption": caption,
            "uri": data_uri(figures.timeline(thinned, source.classes)["svg"], "image/svg+xml"),
            "stills": _stills(_local(name, root), [time for points in persons.values() for time, _ in points])
            if images
            else [],
        }


def _stills(path: str | None, times: list[float]) -> list[dict[str, Any]]:
    """Frames of a local video that faces were found in, at most NUM_STILLS and of its first STILLS_S seconds."""
    if path is None:
        return []
    last = min(max(times), STILLS_S)
    wanted = sorted({time for time in times if time <= last})
    wanted = wanted[:: -(-len(wanted) // NUM_STILLS)] if wanted else []
    stills: list[dict[str, Any]] = []
    try:
        for frame in VideoReader(path, VideoConfig(fps=None, end_s=last + 1), max_pixels=MAX_PIXELS):
            if len(stills) == len(wanted):
                break
            if frame.time_s is not None and frame.time_s >= wanted[len(stills)] - 1e-3:
                stills.append({"time_s": frame.time_s, "uri": small_jpeg(Image.fromarray(frame.rgb))})
    except InputError:
        pass  # a video that has gone or changed since: the timeline stands without its frames
    return stills


def _galleries(source: Source, found: _Found) -> Iterator[dict[str, Any]]:
    root = _root_of(source)
    for name in source.classes:
        if found.emotions[name]:
            ends = (("most confident", found.most[name]), ("least confident", found.least[name]))
            yield {
                "emotion": name,
                "ends": [
                    (title, [_shown(row, root) for _, _, row in sorted(kept, reverse=True)]) for title, kept in ends
                ],
            }


def _shown(row: dict[str, Any], root: Path) -> dict[str, Any]:
    """A row with its thumbnail; None where there is no local picture."""
    path = None if row.get("frame") is not None else _local(row["input"], root)
    box = [row[side] for side in ("x1", "y1", "x2", "y2")] if "x1" in row else None
    return {**row, "thumbnail": thumbnail({"path": path, "box": box}) if path else None}


def _local(name: str, root: Path) -> str | None:
    """The file of an input, if it is still there."""
    path = root / name
    return str(path) if path.is_file() else None


def _root_of(source: Source) -> Path:
    """The folder that names in the output are relative to: the one that the run was given, else the current one."""
    paths = source.record.get("settings", {}).get("inputs.paths", [])
    if len(paths) != 1:
        return Path.cwd()
    root = Path(paths[0])
    return root if root.is_dir() else root.parent
