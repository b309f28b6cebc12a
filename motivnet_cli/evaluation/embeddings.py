"""Embeddings and names of the faces in an output of `annotate`, read some thousand at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from motivnet_cli.errors import ConfigError
from motivnet_cli.output.read import scan_faces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

BATCH_ROWS = 4096
"""Embeddings in memory at a time: one row group, 50 MB as float64 of 1,536."""
MAX_UNPAIRED_NAMES = 10
"""How many inputs with unpaired faces are named."""
_FACE = ("input", "frame", "face")
"""Columns that name a face within an output."""


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Faces that only one of two outputs has."""

    a: int
    b: int
    inputs: tuple[str, ...]
    """The first inputs that have such faces."""


class Pairing(NamedTuple):
    """The faces that two outputs both have."""

    rows_a: Ints
    """Row numbers in a, ascending."""
    rows_b: Ints
    """Row numbers in b of the same faces, ascending too."""
    unpaired: Unpaired


class FaceBatch(NamedTuple):
    """Some faces of an output whose embeddings are finite."""

    embeddings: Floats
    """[N, D]."""
    inputs: Ints
    """[N]: the number of the input, from 0, counting those that have such a face."""
    emotions: NDArray[np.object_]
    """[N], the predicted ones; None for a network without."""
    num_unusable: int
    """Faces that were left out of the batch for infinities or NaN."""


def embedding_type(output: str) -> pl.Array:
    """The type of an output's embeddings, with their size.

    Raises:
        ConfigError: It holds none.
    """
    kind = scan_faces(output).collect_schema().get("embedding")
    if not isinstance(kind, pl.Array):
        raise ConfigError(f"{output} holds no embeddings: make it again without --embeddings none")
    return kind


def pair_faces(a: str, b: str) -> Pairing:
    """Pair the faces of two outputs by input, frame and number.

    Raises:
        ConfigError: The outputs have these faces in different orders.
    """
    tables = []
    for output in (a, b):
        faces = (
            scan_faces(output).select(_FACE).with_columns(pl.col("frame").fill_null(-1)).with_row_index("row").collect()
        )
        # An archive may hold two members of one name: the first goes with the first.
        tables.append(faces.with_columns(pl.int_range(pl.len()).over(_FACE).alias("occurrence")))
    keys = [*_FACE, "occurrence"]
    both = tables[0].join(tables[1], on=keys, suffix="_b").sort("row")
    rows_a, rows_b = (both[name].to_numpy().astype(np.int64) for name in ("row", "row_b"))
    if np.any(np.diff(rows_b) < 0):
        raise ConfigError(f"{a} and {b} list the same faces in different orders: remove one, and it is made again")
    left = [own.join(other, on=keys, how="anti").sort("row") for own, other in permutations(tables)]
    names = [
        name for table in left for name in table["input"].unique(maintain_order=True).head(MAX_UNPAIRED_NAMES).to_list()
    ]
    first = tuple(dict.fromkeys(names))[:MAX_UNPAIRED_NAMES]
    return Pairing(rows_a, rows_b, Unpaired(len(left[0]), len(left[1]), first))


def read_embeddings(output: str, rows: Ints | None = None) -> Iterator[Floats]:
    """The embeddings of an output in order, [N, D]: N is BATCH_ROWS but in the last batch.

    Args:
        rows: Row numbers to take, ascending; None takes all.

    Raises:
        ConfigError: The output holds no embeddings.
    """
    embedding_type(output)
    faces = scan_faces(output).select("embedding")
    num_rows = faces.select(pl.len()).collect().item()
    batches = (
        faces.slice(start, BATCH_ROWS).collect()["embedding"].to_numpy().astype(np.float64)
        for start in range(0, num_rows, BATCH_ROWS)
    )
    if rows is None:
        yield from batches
        return
    chosen: list[Floats] = []
    for number, batch in enumerate(batches):
        first, last = np.searchsorted(rows, [number * BATCH_ROWS, (number + 1) * BATCH_ROWS])
        chosen.append(batch[rows[first:last] - number * BATCH_ROWS])
        if sum(map(len, chosen)) >= BATCH_ROWS:
            joined = np.concatenate(chosen)
            yield joined[:BATCH_ROWS]
            chosen = [joined[BATCH_ROWS:]]
    if any(map(len, chosen)):
        yield np.concatenate(chosen)


def read_face_batches(output: str) -> Iterator[FaceBatch]:
    """The faces of an output in order, BATCH_ROWS read at a time.

    Raises:
        ConfigError: The output holds no embeddings.
    """
    embedding_type(output)
    faces = scan_faces(output)
    emotion = pl.col("emotion") if "emotion" in faces.collect_schema() else pl.lit(None)
    faces = faces.select("input", emotion.cast(pl.String).alias("emotion"), "embedding")
    num_rows = faces.select(pl.len()).collect().item()
    num_inputs, last = 0, None
    for start in range(0, num_rows, BATCH_ROWS):
        batch = faces.slice(start, BATCH_ROWS).collect()
        embeddings = batch["embedding"].to_numpy().astype(np.float64)
        is_usable = np.isfinite(embeddings).all(axis=1)
        names = batch["input"].to_numpy()[is_usable]
        if not len(names):
            yield FaceBatch(embeddings[:0], np.empty(0, np.int64), np.empty(0, object), len(batch))
            continue
        # The rows of an input stand together.
        is_first = np.concatenate([[names[0] != last], names[1:] != names[:-1]])
        numbers = num_inputs - 1 + np.cumsum(is_first)
        num_inputs, last = int(numbers[-1]) + 1, names[-1]
        emotions = batch["emotion"].to_numpy().astype(object)[is_usable]
        yield FaceBatch(embeddings[is_usable], numbers, emotions, int(np.sum(~is_usable)))
