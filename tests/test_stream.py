"""Rows to a pipe: what the run says of itself at its end, and what the pipe's reader gets."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pytest

from motivnet_cli.config import InputConfig, OutputConfig
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output.stream import StreamOutput
from motivnet_cli.output.tables import RowLayout
from motivnet_cli.records import EMOTIONS, Batch, Crop, Cursor, Face, InputReport, Position, Prediction, Problem, never
from tests.outputs import NO_PIXELS, RECORD

HAPPY = Prediction(np.eye(7, dtype=np.float32)[[1]], np.zeros((1, 4), np.float32))


def stream(listing, pipe, *, stop_after=None, failed=False, stream_format="jsonl"):
    """Each input has one happy face, or fails."""
    config = OutputConfig(path="-", stream_format=stream_format)
    with StreamOutput(pipe, config, record=RECORD, layout=RowLayout(EMOTIONS, 4)) as output:
        assert output.finished_before() is None
        run = output.begin(listing)
        for number, todo in enumerate(next(run.rounds(never))):
            if number == stop_after:
                break
            position, end = todo.cursor.position, Cursor(Position(todo.item.index + 1))
            problem = Problem("damaged", "does not decode") if failed else None
            status = "failed" if failed else "ok"
            report = InputReport(position, todo.item.input, "image", status, problem=problem)
            face = Face((1, 2, 3, 4), "detected", 0.5)
            crops = () if failed else (Crop(position, todo.item.input, face, 0, NO_PIXELS, kept=todo.item.kept),)
            run.write(Batch(crops, (report,), end), None if failed else HAPPY)
        return run.complete(), run.summary()


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number % 10}{number // 10}.jpg").write_bytes(b"")
    return folder


def test_jsonl(pictures):
    """One object a face, in the order of the inputs, and a summary of what went out."""
    pipe = io.BytesIO()
    state, summary = stream(Listing([str(pictures)]), pipe)
    rows = [json.loads(line) for line in pipe.getvalue().splitlines()]

    assert state == "finished"
    assert [row["input"] for row in rows] == sorted(path.name for path in pictures.iterdir())
    assert (summary.inputs, summary.done, summary.faces, summary.outputs) == (12, 12, 12, ("-",))
    assert summary.by_status == {"ok": 12}
    assert summary.emotions == dict.fromkeys(EMOTIONS, 0) | {"happiness": 12}


def test_stopped_run_is_not_finished(pictures):
    """Inputs that were asked for and did not end are missed."""
    state, summary = stream(Listing([str(pictures)]), io.BytesIO(), stop_after=5)

    assert state == "stopped"
    assert (summary.inputs, summary.done) == (6, 5)


def test_some_failures_are_named(pictures):
    """The first ten."""
    _, summary = stream(Listing([str(pictures)]), io.BytesIO(), failed=True)

    assert summary.num_failed == 12
    assert [report.input for report in summary.failures] == sorted(path.name for path in pictures.iterdir())[:10]


def test_arrow_with_kept_columns(pictures, tmp_path):
    """The stream is closed, and has the record and the columns of the manifest that pass through."""
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,who\n" + "".join(f"{path},{path.stem}\n" for path in sorted(pictures.iterdir())))
    pipe = io.BytesIO()
    stream(Listing(InputConfig(manifests=(str(manifest),), keep=("who",))), pipe, stream_format="arrow")
    table = pa.ipc.open_stream(pipe.getvalue()).read_all()

    assert json.loads(table.schema.metadata[b"motivnet"]) == RECORD
    assert table["who"].to_pylist() == [path.stem for path in sorted(pictures.iterdir())]
