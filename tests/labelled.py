"""Outputs of `annotate` that are written without it, and labels for their faces: embeddings are what a test says."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motivnet_cli.output.tables import METADATA_KEY
from motivnet_cli.weights.file_hash import file_sha256
from motivnet_cli.weights.networks import embedded_weights


def record_of_the_embedded_model():
    """What a run of `expression-net` says of itself, as far as a head asks."""
    with embedded_weights() as path:
        sha256 = file_sha256(path)
    settings = {
        "model.flip": True, "model.recipe": "letterbox", "faces.margin": 0.3, "faces.align": False,
        "faces.mode": "detect", "output.embeddings": "float16", "inputs.paths": ["/photos"],
    }  # fmt: skip
    return {
        "model": "expression-net", "weights_sha256": sha256, "recipe": "letterbox", "precision": "fp32",
        "terms": "MIT", "classes": [], "settings": settings,
    }  # fmt: skip


def write_output(path, embeddings, *, inputs, frames=None, faces=None, tracks=None, sides=None, record=None):
    """The two tables of an output.

    Args:
        embeddings: [N, D]; None in place of a row is no embedding.
        inputs: [N] names; faces of one input stand together.
        sides: [N], of the square boxes.
    """
    count = len(inputs)
    size = next(len(row) for row in embeddings if row is not None)
    sides = np.ones(count) if sides is None else np.asarray(sides, np.float64)
    columns = {
        "input": pa.array(inputs),
        "frame": pa.array([None] * count if frames is None else frames, pa.int64()),
        "face": pa.array([0] * count if faces is None else faces, pa.int32()),
        **({} if tracks is None else {"track": pa.array(tracks, pa.int32())}),
        **{name: pa.array(np.zeros(count), pa.float32()) for name in ("x1", "y1")},
        **{name: pa.array(sides, pa.float32()) for name in ("x2", "y2")},
        "embedding": pa.array(
            [None if row is None else np.asarray(row, np.float16) for row in embeddings], pa.list_(pa.float16(), size)
        ),
    }
    about = {METADATA_KEY: json.dumps(record or record_of_the_embedded_model())}
    pq.write_table(pa.table(columns).replace_schema_metadata(about), path)
    names = list(dict.fromkeys(inputs))
    of_inputs = pa.table({"input": names, "kind": ["image"] * len(names), "status": ["ok"] * len(names)})
    pq.write_table(of_inputs.replace_schema_metadata(about), path.with_suffix(".inputs.parquet"))
    return str(path)


def write_labels(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def blobs(*, groups, a_group, classes=2, size=8, apart=3.0, seed=0):
    """Normal clouds, one a class, and groups that hold faces of one class each.

    Returns:
        Embeddings [N, size] as float16 holds them, labels [N], groups [N].
    """
    rng = np.random.default_rng(seed)
    group_of = np.repeat(np.arange(groups), a_group)
    labels = group_of % classes
    centres = apart * np.eye(classes, size)
    values = centres[labels] + rng.normal(size=(len(labels), size))
    return values.astype(np.float16).astype(np.float32), labels, group_of
