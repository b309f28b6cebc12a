"""Outputs that are written without a network: faces are made up from the names of the inputs."""

from __future__ import annotations

import itertools
import json

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from motivnet_cli.config import OutputConfig
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output.read import read_faces, read_inputs
from motivnet_cli.output.sink import Output
from motivnet_cli.output.tables import METADATA_KEY, RowLayout
from motivnet_cli.output.verify import verify_output
from motivnet_cli.records import (
    EMOTIONS,
    Batch,
    Crop,
    Cursor,
    Face,
    InputReport,
    Position,
    Prediction,
    Problem,
    Quality,
    never,
)

NO_PIXELS = np.zeros((3, 1, 1), np.uint8)
SIZE = 640, 480
"""Of every picture."""
RECORD = {"model": "m", "settings": {"model.name": "m", "inputs": ["/photos"]}}


def nine_inputs(folder):
    """A folder of nine inputs; `faces_in` decides by number what each holds."""
    folder.mkdir()
    for number in range(9):
        (folder / f"{number}.jpg").write_bytes(b"")
    return folder


def faces_in(item, healed=False):
    """0, 1, 2, 0, 1, 2, ... faces; inputs 3 and 6 fail until healed."""
    if item.input in ("3.jpg", "6.jpg"):
        return 2 if healed else None
    return int(item.input[0]) % 3


def run(out, photos, *, batch_size=2, healed=False, more_faces=0, record=RECORD, stop_after=None, **options):
    """Drive an Output as `annotate` does, with faces made up from the input's name.

    Args:
        photos: The folder of the inputs; None where it cannot be listed.
        more_faces: As many more are found in each input that is read, so that it shows who did it.
    """
    config = OutputConfig(path=str(out), **options)
    with Output(config, record=record, layout=RowLayout(EMOTIONS, 4, config.embeddings)) as output:
        if before := output.finished_before():
            return before
        begun = output.begin(None if photos is None else Listing([str(photos)]))
        done, reached = 0, Cursor(Position(0))
        for todos in begun.rounds(never):
            crops, finished = [], []
            for todo in todos:
                if stop_after is not None and done >= stop_after:
                    return begun.summary()
                item, reached = todo.item, todo.cursor
                count = faces_in(item, healed)
                count = None if count is None else count + more_faces
                for crop in crops_of(item, reached.position, count):
                    crops.append(crop)
                    if len(crops) == batch_size:
                        begun.write(Batch(tuple(crops), tuple(finished), reached), predict(crops))
                        crops, finished = [], []
                finished.append(report_of(item, count))
                reached = Cursor(Position(item.index + 1))
                done += 1
            begun.write(Batch(tuple(crops), tuple(finished), reached), predict(crops) if crops else None)
        begun.complete()
        return begun.summary()


def crops_of(item, position, count):
    """So many faces; None is none."""
    face, quality = Face((1, 2, 3, 4), "detected", 0.5), Quality(None, None, None, blur=9.0, brightness=99.0)
    return tuple(
        Crop(position, item.input, face, n, NO_PIXELS, picture_size=SIZE, quality=quality) for n in range(count or 0)
    )


def report_of(item, count):
    about = {"size_bytes": item.size_bytes, "mtime_ns": item.mtime_ns}
    if count is None:
        problem = Problem("damaged", "does not decode")
        return InputReport(Position(item.index), item.input, item.kind, "failed", problem=problem, **about)
    status = "ok" if count else "no_face"
    about |= {"num_frames": 1, "num_faces": count, "width": SIZE[0], "height": SIZE[1]}
    return InputReport(Position(item.index), item.input, item.kind, status, **about)


def predict(crops):
    seeds = [int(crop.input[0]) * 10 + crop.number for crop in crops]
    logits = np.stack([np.random.default_rng(seed).normal(size=7) for seed in seeds])
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    embeddings = np.stack([np.arange(4) + seed for seed in seeds])
    return Prediction(probabilities.astype(np.float32), embeddings.astype(np.float32))


def with_plan_of_lines(control):
    """Write the plan of a run as the former version did: a line an item, and in run.json where each unit begins."""
    about = json.loads((control / "run.json").read_text())
    plan = control / about["plan"]
    lines = []
    for row in pq.read_table(plan).to_pylist():
        row["path"] = row["input"] if row["path"] is None else row["path"].decode()
        row |= json.loads(row.pop("more") or "{}")
        lines.append(json.dumps({name: value for name, value in row.items() if value is not None}).encode() + b"\n")
    begins = [0, *itertools.accumulate(map(len, lines))]
    plan.unlink()
    (control / "plan.jsonl").write_bytes(b"".join(lines))
    about |= {"plan": "plan.jsonl", "offsets": begins[:-1][:: about["unit"]]}
    (control / "run.json").write_text(json.dumps(about))


def assert_whole(out):
    """No check of `motivnet verify` finds a fault in an output."""
    assert {check.check: check.examples for check in verify_output(out).checks if check.result == "wrong"} == {}


def tables(out):
    return read_faces(out), read_inputs(out)


class Killed(BaseException):
    """What stands for the end of the process."""


def rewritten(path, change, record=None):
    """Write the faces table anew, by a function of its frame, and with other entries of its record."""
    table = pq.read_table(path)
    entries = json.loads(table.schema.metadata[METADATA_KEY]) | (record or {})
    metadata = {METADATA_KEY: json.dumps({key: value for key, value in entries.items() if value is not None})}
    pq.write_table(change(pl.from_arrow(table)).to_arrow().replace_schema_metadata(metadata), path)
