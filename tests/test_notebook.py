"""The notebook of five minutes: it runs, and its cells show what they promise; what is stored of it is small."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from base64 import b64decode
from pathlib import Path

import pytest
from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"
"""`python -m tests.test_notebook` stores its outputs."""
MAX_BYTES = 500_000


def executed():
    """The notebook with the outputs of a run."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": NOTEBOOK.parent}}
    nbclient.NotebookClient(notebook, timeout=120, record_timing=False, resources=resources).execute(
        env=os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    )
    return notebook


@pytest.fixture(scope="module")
def cells():
    """The outputs of the code cells, by the first line of each, as MIME type -> content."""
    return {cell["source"].split("\n")[0]: _shown_by(cell) for cell in executed().cells if cell["cell_type"] == "code"}


def _shown_by(cell):
    shown = {}
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            shown[output["name"]] = shown.get(output["name"], "") + output["text"]
        else:
            shown |= output["data"]
    return shown


def _cell(cells, start):
    return next(shown for line, shown in cells.items() if line.startswith(start))


def _table(text):
    """The rows of a data frame that polars has printed."""
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return [[part.strip() for part in re.split("[│┆]", line)[1:-1]] for line in lines]


@pytest.mark.slow
def test_a_picture(cells):
    """Three faces from left to right, drawn, and as rows."""
    said = _cell(cells, "picture = predict")["stdout"].splitlines()
    assert [int(re.search(r"at x (\d+)", line)[1]) // 100 for line in said] == [2, 5, 8]
    assert all(line.startswith("happiness 100% at x") for line in said)
    with Image.open(io.BytesIO(b64decode(_cell(cells, "picture.draw")["image/png"]))) as drawn:
        assert drawn.size == (400, 267)
    rows = _table(_cell(cells, "picture.to_polars")["text/plain"])
    assert [row[:2] for row in rows[-3:]] == [["0", "happiness"], ["1", "happiness"], ["2", "happiness"]]


@pytest.mark.slow
def test_a_folder(cells):
    """Every sample has its faces, in a table, in seconds, and on every frame; nothing is said on stderr."""
    faces = {(row[0], row[1]): row[2:] for row in _table(_cell(cells, "faces = read_faces")["text/plain"])}
    counts = [int(row[0]) for row in faces.values() if row[0].isdigit()]
    assert faces["group.jpg", "null"] == ["3", "1.0", "0.0"]
    assert faces["face.mp4", "0"] == ["4", "1.0", "0.0"]
    assert _cell(cells, "folder = Path")["stdout"] == f"{sum(counts)} faces\n"
    summed = {(row[0], row[1]): row[2:6] for row in _table(_cell(cells, "!motivnet summary")["text/plain"])}
    assert summed["face.mp4", "0"] == ["video", "4", "4.0", "happiness"]
    assert summed["group.jpg", "null"] == ["image", "3", "null", "happiness"]
    assert {summed["interview.mp4", track][3] for track in "01"} == {"happiness", "neutral"}
    assert "base64," in _cell(cells, "!motivnet export overlay")["text/html"]
    assert [line for line, shown in cells.items() if "stderr" in shown] == []


def test_what_is_stored():
    """Outputs of all cells, few bytes, no names of this machine's folders, no times."""
    text = NOTEBOOK.read_text(encoding="utf-8")
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]

    assert len(text) < MAX_BYTES
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not any(name in text for name in ("/tmp", "/home/", "/root", "/work", sys.prefix, "iopub"))
    assert all(cell["outputs"] for cell in code[1:])


def store():
    """Write the outputs of a run into the notebook; of two forms of one picture, the smaller."""
    import nbformat

    notebook = executed()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "image/jpeg" in output.get("data", {}):
                output["data"].pop("image/png", None)
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    store()
