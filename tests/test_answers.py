"""A network that gives NaN for some faces: these get no row and their inputs say so; all others are as ever."""

from __future__ import annotations

import tarfile

import numpy as np
import polars
import pytest
from PIL import Image

from motivnet_cli.config import FaceConfig, InputConfig, LoaderConfig, ModelConfig, OutputConfig, RunConfig, VideoConfig
from motivnet_cli.engine.answers import are_usable
from motivnet_cli.faces.detect import RetinaFace
from motivnet_cli.model.expression_net import ExpressionNet
from motivnet_cli.output.read import read_faces, read_inputs
from motivnet_cli.records import Prediction
from motivnet_cli.run import annotate
from tests.agreement import assert_same_rows
from tests.clips import write_clip
from tests.outputs import assert_whole

RED, BLUE = (230, 20, 20), (20, 20, 230)
FRAMES = (BLUE, RED, RED, BLUE, BLUE, RED, BLUE)


@pytest.fixture
def sick(monkeypatch):
    """The network answers red faces with NaN, until it is healed."""
    forward = ExpressionNet.forward
    state = {"is_sick": True}

    def answer(self, pixels):
        logits, embeddings = forward(self, pixels)
        mean = pixels.float().mean(dim=(2, 3))  # [B, 3]
        is_red = mean[:, 0] > mean[:, 2]
        if state["is_sick"]:
            logits[is_red] = float("nan")
        return logits, embeddings

    monkeypatch.setattr(ExpressionNet, "forward", answer)
    return state


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Pictures with one face or several, an archive, and a clip; in this order."""
    folder = tmp_path_factory.mktemp("inputs")
    for name, colour in {"a": BLUE, "b": RED, "c": BLUE}.items():
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    with tarfile.open(folder / "d.tar", "w") as archive:
        for name in "abc":
            archive.add(folder / f"{name}.png", f"{name}.png")
    pictures = [(np.full((64, 64, 3), colour, np.uint8), float(time_s)) for time_s, colour in enumerate(FRAMES)]
    write_clip(folder / "e.mp4", pictures, fps=1)
    wide = Image.new("RGB", (320, 64), BLUE)
    wide.paste(RED, (64, 0, 192, 64))
    wide.save(folder / "wide.png")
    (folder / "faces.csv").write_text(
        "path,x1,y1,x2,y2\n" + "".join(f"wide.png,{x},0,{x + 64},64\n" for x in range(0, 320, 64))
    )
    return folder


def run(inputs, out, *, mode="whole", batch_size=2, stop_after=None, **output):
    config = RunConfig(
        inputs=InputConfig(paths=tuple(str(inputs / name) for name in ("a.png", "b.png", "c.png", "d.tar", "e.mp4"))),
        model=ModelConfig(name="expression-net", device="cpu", batch_size=batch_size),
        faces=FaceConfig(mode=mode),
        video=VideoConfig(fps=1),
        loader=LoaderConfig(threads=1),
        output=OutputConfig(path=str(out), commit_seconds=0, **output),
    )
    batches = []
    return annotate(config, progress=batches.append, stop=lambda: stop_after is not None and len(batches) >= stop_after)


def outcomes(out):
    rows = read_inputs(out).select("input", polars.col("status").cast(str), "error_type", "frames", "faces")
    return {name.rpartition("/")[2]: rest for name, *rest in rows.iter_rows()}


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_faces_without_an_answer_have_no_row(inputs, sick, tmp_path, batch_size):
    """Their inputs are failed, or partial where others have one; whatever the company in a batch."""
    summary = run(inputs, tmp_path / "p.parquet", batch_size=batch_size)
    rows = read_inputs(tmp_path / "p.parquet")

    assert [
        [*rest] for rest in rows.select(polars.col("status").cast(str), "error_type", "frames", "faces").rows()
    ] == [
        ["ok", None, 1, 1],
        ["failed", "bad_prediction", 1, 0],
        ["ok", None, 1, 1],
        ["ok", None, 1, 1],
        ["failed", "bad_prediction", 1, 0],
        ["ok", None, 1, 1],
        ["ok", None, 3, 0],
        ["partial", "bad_prediction", 7, 4],
    ]
    assert "for 3 of 7 faces" in rows["error"][-1]
    faces = read_faces(tmp_path / "p.parquet")
    assert faces["frame"].to_list() == [None] * 4 + [0, 3, 4, 6]
    assert faces["confidence"].is_finite().all()
    assert (summary.num_failed, summary.faces, summary.faces_predicted) == (2, 8, 8)


def test_other_faces_of_a_picture_keep_their_numbers(inputs, sick, tmp_path):
    """Two of five faces are lost: the others have the numbers and boxes that they have with a sound network."""
    config = RunConfig(
        inputs=InputConfig(manifests=(str(inputs / "faces.csv"),)),
        model=ModelConfig(name="expression-net", device="cpu", batch_size=2),
        output=OutputConfig(path=str(tmp_path / "p.parquet")),
    )
    annotate(config)
    faces = read_faces(tmp_path / "p.parquet")

    assert faces["face"].to_list() == [0, 3, 4]
    assert faces["x1"].to_list() == [0, 192, 256]
    assert outcomes(tmp_path / "p.parquet")["wide.png"] == ["partial", "bad_prediction", 1, 3]
    assert_whole(tmp_path / "p.parquet")


@pytest.mark.parametrize("name", ["p.parquet", "p"])
def test_a_run_that_is_resumed_forgets_no_loss(inputs, sick, tmp_path, name):
    """Stopped after every few faces, the rows and the counts are those of an undisturbed run."""
    run(inputs, tmp_path / "undisturbed.parquet")
    for _ in range(20):
        if run(inputs, tmp_path / name, batch_size=1, stop_after=2).finished:
            break

    assert_same_rows(tmp_path / name, tmp_path / "undisturbed.parquet")
    assert_whole(tmp_path / name)


def test_retry_does_them_again(inputs, sick, tmp_path):
    """With a sound network nothing is left of it."""
    for name in ("p.parquet", "p"):
        run(inputs, tmp_path / name)
    sick["is_sick"] = False
    run(inputs, tmp_path / "sound.parquet")
    for name in ("p.parquet", "p"):
        summary = run(inputs, tmp_path / name, retry_failed=True)
        assert_same_rows(tmp_path / name, tmp_path / "sound.parquet")
        assert summary.by_status == {"ok": 8}


SOUND = ([0.25, 0.75], [1.0, -2.0])


@pytest.mark.parametrize(
    ("probabilities", "embedding", "usable"),
    [
        (*SOUND, {"none", "float16", "float32"}),
        ([np.nan, 0.75], [1.0, -2.0], set()),
        ([0.25, 0.76], [1.0, -2.0], set()),
        ([-0.25, 1.25], [1.0, -2.0], set()),
        ([0.25, 0.75], [np.inf, -2.0], set()),
        ([0.25, 0.75], [70_000.0, -2.0], {"none", "float32"}),
    ],
)
def test_what_is_usable(probabilities, embedding, usable):
    """Probabilities are from 0 to 1 with a sum of 1, and embeddings are finite in the type in which they are stored."""
    both = Prediction(np.array([SOUND[0], probabilities], np.float32), np.array([SOUND[1], embedding], np.float32))
    for kind in ("none", "float16", "float32"):
        assert are_usable(both, kind).tolist() == [True, kind in usable]


def test_a_network_without_classes_has_no_sum():
    """Embeddings alone decide."""
    prediction = Prediction(np.zeros((2, 0), np.float32), np.array([[1, 2], [np.nan, 2]], np.float32))

    assert are_usable(prediction, "float16").tolist() == [True, False]


@pytest.fixture
def sick_detector(monkeypatch):
    """The face detector's network answers red pictures with NaN, until it is healed."""
    state = {"is_sick": True}
    detect = RetinaFace._input

    def make(self, rgb):
        image = detect(self, rgb)
        is_red = rgb[..., 0].mean() > rgb[..., 2].mean()
        return image * np.float32("nan") if is_red and state["is_sick"] else image

    monkeypatch.setattr(RetinaFace, "_input", make)
    return state


def test_a_detector_without_numbers_is_never_a_picture_without_a_face(sick_detector, inputs, tmp_path):
    """Pictures, members and videos fail, and are looked at again by --retry-failed; a resumed video forgets nothing."""
    out = tmp_path / "p.parquet"
    run(inputs, out, mode="detect", stop_after=3)
    run(inputs, out, mode="detect")

    assert outcomes(out) == {
        "a.png": ["no_face", None, 1, 0],
        "b.png": ["failed", "bad_prediction", 0, 0],
        "c.png": ["no_face", None, 1, 0],
        "d.tar": ["ok", None, 3, 0],
        "e.mp4": ["failed", "bad_prediction", 7, 0],
    }
    sick_detector["is_sick"] = False
    run(inputs, out, mode="detect", retry_failed=True)
    assert {status for status, *_ in outcomes(out).values()} == {"ok", "no_face"}
