"""A head on a million embeddings of 1,536 numbers: seconds, and the peak of memory.

The embeddings are drawn: for each of seven classes a normal cloud, beside a shift for each person. They are written as
an output of `annotate`, 3 GB in a temporary folder, and training writes as much beside it; all is removed at the end.

    python benchmarks/heads.py [--faces 1000000] [--head linear] [--scratch FOLDER] [--record]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from harness import parser, report, say, time_process

from motivnet_cli.output.tables import BATCH_ROWS, METADATA_KEY
from motivnet_cli.records import EMOTIONS
from motivnet_cli.weights.file_hash import file_sha256
from motivnet_cli.weights.networks import embedded_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 1536
FACES_A_PERSON = 100
APART = 0.09
"""Of the centres of two classes, per dimension, against noise of 1 and a shift of each person of 0.3."""
TARGET_MB = 2000


def main() -> None:
    """Write the embeddings, train on them in a process of its own, and report what that took."""
    options = parser(__doc__)
    options.add_argument("--faces", type=int, default=1_000_000)
    options.add_argument("--head", default="linear")
    options.add_argument("--scratch", help="folder for 6 GB: the output, and what learns from all of it")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        folder = Path(scratch)
        labels = np.random.default_rng(0).integers(len(EMOTIONS), size=given.faces)
        say(f"writing {given.faces:,} embeddings of {SIZE} numbers")
        write_output(folder, labels)
        say("training")
        used = time_process(
            [
                *(sys.executable, "-m", "motivnet_cli", "train", "--from", str(folder / "preds.parquet")),
                *("--labels", str(folder / "labels.csv"), "--head", given.head, "--out", str(folder / "head")),
                *("--store", str(folder / "store"), "--quiet", "--json"),
            ]
        )
    training = json.loads(used.stdout)["training"]
    figures = training["validation"]["figures"]
    report(
        {
            "faces": given.faces,
            "numbers": SIZE,
            "head": given.head,
            "seconds": round(used.seconds, 1),
            "cpu_seconds": round(used.cpu_seconds, 1),
            "peak_mb": round(used.peak_mb),
            "target_mb": TARGET_MB,
            "learned_from": sum(training["data"]["counts"]["train"].values()),
            "judged": training["validation"]["n"],
            "settings": training["settings"],
            "accuracy": figures["accuracy"],
            "chance_accuracy": figures["chance_accuracy"]["value"],
            "ece": figures["ece"]["value"],
            "note": "on a machine that others used, too: seconds are an upper bound",
        },
        record=given.record,
    )


def write_output(folder: Path, labels: np.ndarray) -> None:
    """The tables of faces and inputs, and the labels, with a person for every FACES_A_PERSON faces."""
    with embedded_weights() as path:
        sha256 = file_sha256(path)
    settings = {
        "model.flip": True,
        "faces.mode": "detect",
        "faces.margin": 0.3,
        "faces.align": False,
        "inputs.paths": ["/photos"],
    }
    about = {"model": "expression-net", "weights_sha256": sha256, "recipe": "letterbox", "terms": "made up"}
    metadata = {METADATA_KEY: json.dumps({**about, "classes": [], "settings": settings})}
    tables = faces_of(labels)
    first = next(tables).replace_schema_metadata(metadata)
    with pq.ParquetWriter(folder / "preds.parquet", first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table.replace_schema_metadata(metadata))
    names = [name_of(number) for number in range(len(labels))]
    inputs = pa.table({"input": names}).replace_schema_metadata(metadata)
    pq.write_table(inputs, folder / "preds.inputs.parquet")
    with (folder / "labels.csv").open("w") as file:
        file.write("path,label,subject\n")
        for number, label in enumerate(labels.tolist()):
            file.write(f"{names[number]},{EMOTIONS[label]},{number // FACES_A_PERSON}\n")


def faces_of(labels: np.ndarray) -> Iterator[pa.Table]:
    """Some thousand rows of the table of faces at a time."""
    rng = np.random.default_rng(1)
    noise = rng.standard_normal(20_000_000, np.float32)  # a row is a piece of it: drawing them all takes minutes
    pieces = np.lib.stride_tricks.sliding_window_view(noise, SIZE)
    centres = APART * rng.normal(size=(len(EMOTIONS), SIZE)).astype(np.float32)
    for start in range(0, len(labels), BATCH_ROWS):
        own = labels[start : start + BATCH_ROWS]
        persons = np.arange(start, start + len(own)) // FACES_A_PERSON
        _, number = np.unique(persons, return_inverse=True)
        shifts = 0.3 * rng.standard_normal((number.max() + 1, SIZE), np.float32)
        values = pieces[rng.integers(len(pieces), size=len(own))] + centres[own] + shifts[number]
        embeddings = pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float16).ravel()), SIZE)
        zeros, ones = np.zeros(len(own), np.float32), np.ones(len(own), np.float32)
        yield pa.table(
            {
                "input": [name_of(start + row) for row in range(len(own))],
                "frame": pa.nulls(len(own), pa.int64()),
                "face": pa.array(np.zeros(len(own), np.int32)),
                **dict.fromkeys(("x1", "y1"), zeros),
                **dict.fromkeys(("x2", "y2"), ones),
                "embedding": embeddings,
            }
        )


def name_of(number: int) -> str:
    return f"{number // 1000:04d}/{number % 1000:03d}.jpg"


if __name__ == "__main__":
    main()
