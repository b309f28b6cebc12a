"""Rows of an output drawn at random, with what is known of their inputs, to be computed again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from motivnet_cli.output.ledger import Ledger
from motivnet_cli.output.paths import output_paths
from motivnet_cli.output.read import parts_of
from motivnet_cli.output.tables import MEASURED_COLUMNS, batches_in, embedding_matrix
from motivnet_cli.records import BOX_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from motivnet_cli.records import Box, FaceSource, Item, Kind


@dataclass(frozen=True, slots=True)
class SampledInput:
    """What the inputs table says of the input of a row."""

    name: str
    kind: Kind
    archive: str | None
    size_bytes: int | None
    sha256: str | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SampledFace:
    """A row of the faces table."""

    input: SampledInput
    number: int
    """Of the face in its picture."""
    source: FaceSource
    box: Box
    score: float | None
    picture_size: tuple[int, int]
    frame: int | None
    time_s: float | None
    measured: dict[str, float | None]
    """By column, of `MEASURED_COLUMNS` those that are stored."""
    emotion: str | None
    probabilities: NDArray[np.float32]
    """[C], in the order of the classes that were asked for."""
    embedding: NDArray[np.float32] | NDArray[np.float16] | None
    """[D]; None where none are stored."""

    @property
    def where(self) -> str:
        frame = "" if self.frame is None else f", frame {self.frame}"
        return f"{self.input.name!r}{frame}, face {self.number}"


def sample_faces(path: str | Path, classes: Sequence[str], *, size: int, seed: int) -> list[SampledFace]:
    """Rows of the faces table, each as likely as any other, in their order; all of them if there are no more.

    Args:
        path: A whole output.
        classes: Of the model, in the order in which their probabilities are wanted.
        size: How many.
        seed: The same one draws the same rows.

    Raises:
        ConfigError: No output is there.
    """
    parts = parts_of(path, "faces")
    num_rows = sum(pq.read_metadata(part).num_rows for part in parts)
    chosen = np.sort(np.random.default_rng(seed).choice(num_rows, min(size, num_rows), replace=False))
    tables = list(_rows_at(parts, chosen))
    if not tables:
        return []
    rows = pa.concat_tables(tables).unify_dictionaries()
    about = _inputs_named(parts_of(path, "inputs"), set(rows["input"].to_pylist()))
    return list(_faces_in(rows, about, classes))


def planned_items(path: str | Path, names: set[str]) -> dict[str, Item]:
    """The items of the run's plan that have these names; none where no plan is kept."""
    paths = output_paths(str(path))
    ledger = Ledger.find(paths.run, paths.backend)
    try:
        return {} if ledger is None else {item.input: item for item in ledger.items() if item.input in names}
    except FileNotFoundError:  # a merged output has none
        return {}


def _rows_at(parts: Sequence[Path], chosen: NDArray[np.int64]) -> Iterator[pa.Table]:
    """The rows with these numbers, which rise; row groups without any are not read."""
    start = 0
    for part in parts:
        with pq.ParquetFile(part, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                num_rows = file.metadata.row_group(group).num_rows
                here = chosen[(chosen >= start) & (chosen < start + num_rows)] - start
                start += num_rows
                if len(here):
                    yield file.read_row_group(group).take(here)


def _inputs_named(parts: Sequence[Path], names: set[str]) -> dict[str, SampledInput]:
    wanted = pa.array(sorted(names), pa.string())
    found = {}
    for part in parts:
        columns = ["input", "kind", "archive", "size_bytes", "sha256"]
        for rows in batches_in(part, columns):
            for row in rows.filter(pc.is_in(rows["input"], value_set=wanted)).to_pylist():
                found[row["input"]] = SampledInput(*(row[name] for name in columns))
    return found


def _faces_in(rows: pa.Table, about: dict[str, SampledInput], classes: Sequence[str]) -> Iterator[SampledFace]:
    names = ["input", "face", "face_source", "detection_score", "frame", "time_s", "picture_width", "picture_height"]
    if classes:
        names += ["emotion"]
    stored = [name for name in MEASURED_COLUMNS if name in rows.column_names]
    columns = {name: rows[name].to_pylist() for name in (*names, *BOX_COLUMNS, *stored)}
    no_probabilities = np.zeros((len(rows), 0), np.float32)
    matrix = np.stack([rows[name].to_numpy() for name in classes], axis=1) if classes else no_probabilities  # [N, C]
    embeddings = embedding_matrix(rows["embedding"]) if "embedding" in rows.column_names else None  # [N, D]
    for i in range(len(rows)):
        value = {name: column[i] for name, column in columns.items()}
        yield SampledFace(
            input=about[value["input"]],
            number=value["face"],
            source=value["face_source"],
            box=(value["x1"], value["y1"], value["x2"], value["y2"]),
            score=value["detection_score"],
            picture_size=(value["picture_width"], value["picture_height"]),
            frame=value["frame"],
            time_s=value["time_s"],
            measured={name: value[name] for name in stored},
            emotion=value.get("emotion"),
            probabilities=matrix[i],
            embedding=None if embeddings is None else embeddings[i],
        )
