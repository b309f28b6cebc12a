"""Outputs of annotate made by hand, to be exported: faces of which every number is known, without a network."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from motivnet_cli.output.tables import METADATA_KEY, faces_schema, inputs_schema
from motivnet_cli.records import EMOTIONS

WIDTH, HEIGHT = 640, 480
RANDOM = np.random.default_rng(6)


def face(name, number=0, *, frame=None, time_s=None, emotion=None, track=None, box=None, size=(WIDTH, HEIGHT)):
    """A row of the faces table; what is not given is random, as a network and a detector might say it."""
    probabilities = RANDOM.dirichlet(np.ones(7)).astype(np.float32)
    if emotion is not None:
        largest, wanted = probabilities.argmax(), EMOTIONS.index(emotion)
        probabilities[[largest, wanted]] = probabilities[[wanted, largest]]
    best = int(probabilities.argmax())
    x1, y1 = RANDOM.uniform(0, 300, 2)
    box = box or (x1, y1, x1 + RANDOM.uniform(20, 100), y1 + RANDOM.uniform(20, 100))
    return {
        "input": name,
        "frame": frame,
        "time_s": time_s,
        "face": number,
        "face_source": "detected",
        **dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True)),
        "picture_width": size[0],
        "picture_height": size[1],
        "detection_score": float(np.float32(RANDOM.uniform(0.6, 1))),
        "track": track,
        "emotion": EMOTIONS[best],
        "confidence": float(probabilities[best]),
        **dict(zip(EMOTIONS, map(float, probabilities), strict=True)),
        "embedding": [0.0] * 4,
    }


def clip(name, story, *, fps=25.0, track=0, every=25):
    """Faces of one person in a video: an emotion a sampled frame, None where the person is away."""
    return [
        face(name, frame=n * every, time_s=n * every / fps, emotion=emotion, track=track)
        for n, emotion in enumerate(story)
        if emotion is not None
    ]


def output(folder, faces, inputs=(), *, video=None, classes=EMOTIONS, tracks=True, settings=None):
    """An output of annotate: `inputs` are names with what differs from a picture that was read."""
    record = {
        "tool": "motivnet 1.0",
        "model": "expression-net",
        "classes": list(classes),
        "video": video or {"fps": 1.0, "every": None},
        "settings": {"model.flip": False, **(settings or {})},
        "weights_sha256": "0" * 64,
        "terms": "none",
        "recipe": "stretch",
        "precision": "fp32",
        "faces": {},
    }
    metadata = {METADATA_KEY: json.dumps(record)}
    path = folder / "preds.parquet"
    embedding_size = len(faces[0]["embedding"]) if faces else 4
    schema = faces_schema(classes, embedding_size, "float16", tracks=tracks).with_metadata(metadata)
    faces = [{name: row.get(name) for name in schema.names} for row in faces]
    pq.write_table(pa.Table.from_pylist(faces, schema=schema), path)
    counts = Counter(row["input"] for row in faces)
    rows = [
        {
            "input": name,
            "kind": "image",
            "status": "ok",
            "width": WIDTH,
            "height": HEIGHT,
            "faces": counts[name],
        }
        | differs
        for name, differs in dict(inputs).items()
    ]
    schema = inputs_schema().with_metadata(metadata)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path.with_suffix(".inputs.parquet"))
    return path


VIDEO = {"kind": "video"}
_NEEDED = {"xlsx": "xlsxwriter", "sav": "pyreadstat", "dta": "pyreadstat"}


def skip_without(form):
    """Skip a test of a format whose library, an extra, is not installed."""
    if form in _NEEDED:
        pytest.importorskip(_NEEDED[form])


def mixed_output(folder):
    """Two pictures with faces, one without, one that failed, an archive, and a video with two people."""
    video = clip("clip.mp4", ["happiness", "happiness", "anger"]) + clip("clip.mp4", ["fear"] * 3, track=1)
    video.sort(key=lambda row: row["frame"])
    faces = [face("a b.jpg"), face("a b.jpg", 1), *video, face("ö/c.png")]
    inputs = {
        "a b.jpg": {},
        "none.jpg": {"status": "no_face"},
        "bad.jpg": {"status": "failed", "width": None, "height": None},
        "clip.mp4": VIDEO,
        "ö/c.png": {},
        "pictures.zip": {"kind": "archive", "width": None, "height": None, "faces": 1},
    }
    return output(folder, faces, inputs)


def rows_of(path):
    return pq.read_table(path).to_pylist()


def assert_same_faces(found, rows, *, tolerance=0.0):
    """Boxes as x1 y1 x2 y2, and probabilities as float32, of the same faces in the same order."""
    assert len(found) == len(rows) > 0
    boxes = np.array([box for box, _ in found])
    np.testing.assert_allclose(boxes, [[row[side] for side in ("x1", "y1", "x2", "y2")] for row in rows], 0, tolerance)
    probabilities = np.array([[each[name] for name in EMOTIONS] for _, each in found], np.float32)
    assert (probabilities == np.array([[row[name] for name in EMOTIONS] for row in rows], np.float32)).all()


def files_written(write, source, out):
    """The bytes of every file that an exporter writes at `out`, a file or a folder, in the order of their names."""
    write(source, out)
    return [file.read_bytes() for file in (out, *sorted(out.rglob("*"))) if file.is_file()]
