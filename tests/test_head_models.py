"""A head on real embeddings is a model as any other: it names faces, is scored, and is exported."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from motivnet_cli.config import ModelConfig
from motivnet_cli.engine.predictor import Predictor
from motivnet_cli.errors import ConfigError, OutputConflictError, WeightsError
from motivnet_cli.model import EmbeddingClassifier
from motivnet_cli.output.read import read_faces, read_record
from motivnet_cli.records import EMOTIONS, Batch, Crop, Cursor, Face, Position, Stopped
from motivnet_cli.training.config import HeadConfig
from motivnet_cli.training.train_head import train_head
from motivnet_cli.weights.heads import load_head
from motivnet_cli.weights.load import check_weights, load_model, model_card
from motivnet_cli.weights.store import RECORD_FILE, Store
from tests.labelled import blobs, record_of_the_embedded_model, write_labels, write_output
from tests.pictures import face_photo
from tests.runs import motivnet
from tests.trained import tiny_motivnet

_LOOKS = (
    lambda picture: picture,
    lambda picture: ImageEnhance.Brightness(picture).enhance(0.3),
    lambda picture: ImageEnhance.Contrast(picture).enhance(0.4),
    lambda picture: picture.filter(ImageFilter.GaussianBlur(4)),
    lambda picture: ImageOps.posterize(picture, 1),
    lambda picture: ImageChops.multiply(picture, Image.new("RGB", picture.size, (255, 90, 90))),
    lambda picture: ImageChops.multiply(picture, Image.new("RGB", picture.size, (90, 90, 255))),
)
"""A look for each emotion's name: what a small network can learn without labelled expressions."""
_SIZES = (76, 84, 92, 100, 110)
"""Of faces in pixels, a group each."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures, their labels, an output of the embedded model, and a store with a linear head on it."""
    folder = tmp_path_factory.mktemp("heads")
    (folder / "photos").mkdir()
    rows = []
    for number, size in enumerate(_SIZES):
        for emotion, look in zip(EMOTIONS, _LOOKS, strict=True):
            path = folder / "photos" / f"{emotion}-{number}.png"
            face_photo(path, size=(220, 200), faces=((110, 100, size),))
            with Image.open(path) as picture:
                look(picture).save(path)
            rows.append((path.name, emotion, f"size {number}"))
    write_labels(folder / "photos" / "labels.csv", ("path", "label", "subject"), rows)
    motivnet("annotate", folder / "photos", "--model", "expression-net", "--out", folder / "e.parquet", "--quiet")
    train(folder, "linear")
    return folder


def train(folder, kind, **options):
    usual = {"predictions": str(folder / "e.parquet"), "labels": str(folder / "photos" / "labels.csv")}
    config = HeadConfig(**{**usual, "out": f"my-{kind}", **options}, kind=kind, store=str(folder / "store"))
    return train_head(dataclasses.replace(config, out=str(folder / config.out)))


@pytest.fixture
def network(folder):
    return load_model("my-linear", store=str(folder / "store"))


def test_from_pictures_to_a_head_to_scores(folder):
    """annotate with the head says what scikit-learn says of the embeddings."""
    options = ("--model", "my-linear", "--store", folder / "store")
    motivnet("annotate", folder / "photos", *options, "--out", folder / "h.parquet", "--quiet")
    faces, learned = read_faces(folder / "h.parquet"), read_faces(folder / "e.parquet")
    truth = [name.rpartition("-")[0] for name in faces["input"]]
    record = Store(folder / "store").find("my-linear").training
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=record.settings["C"], max_iter=300))
    plain.fit(learned["embedding"].to_numpy().astype(np.float32), [EMOTIONS.index(name) for name in truth])
    logits = plain.decision_function(faces["embedding"].to_numpy().astype(np.float32)) / record.settings["temperature"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = faces.select(EMOTIONS).to_numpy()

    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)  # embeddings are stored as float16
    assert read_record(folder / "h.parquet")["settings"]["model.flip"] is True
    np.testing.assert_allclose(faces["embedding"].to_numpy(), learned["embedding"].to_numpy(), rtol=1e-3, atol=1e-4)

    scored = motivnet(
        "evaluate", "--dataset", "csv", "--root", folder / "photos" / "labels.csv",
        "--predictions", folder / "h.parquet", "--out", folder / "report", "--json", "--no-images", "--resamples", "20",
    )  # fmt: skip
    accuracy = json.loads(scored.stdout)["runs"][0]["scores"]["all"]["accuracy"]["value"]
    assert accuracy == np.mean(faces["emotion"].cast(str).to_numpy() == truth) > 0.9


def test_its_onnx_file_says_the_same_by_itself(folder):
    pytest.importorskip("onnxscript")
    motivnet("export", "model", "my-linear", "--store", folder / "store", "--to", "onnx", "--out", folder / "m.onnx")
    session = onnxruntime.InferenceSession(str(folder / "m.onnx"), providers=["CPUExecutionProvider"])
    model = load_model("my-linear", store=str(folder / "store"))
    pixels = torch.randint(0, 256, (3, 3, 112, 112), dtype=torch.uint8)
    probabilities, embedding = session.run(["probabilities", "embedding"], {"pixels": pixels.numpy()})
    with torch.inference_mode():
        logits, wanted = model.network(pixels)
    np.testing.assert_allclose(embedding, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(probabilities, logits.softmax(-1), rtol=0, atol=1e-4)
    about = session.get_modelmeta().custom_metadata_map
    assert about["mirror_averaging"] == "inside"
    assert about["classes"].split(",") == list(EMOTIONS)


def test_the_record_says_how_it_was_made(folder):
    """Parents with their hash, data, preparation, settings, and figures with intervals beside those of chance."""
    model = Store(folder / "store").find("my-linear")
    training = model.training
    figures = training.validation.figures

    assert model.architecture == "head"
    assert (training.parents[0].name, training.parents[0].role) == ("expression-net", "encoder")
    assert training.parents[0].sha256 == record_of_the_embedded_model()["weights_sha256"]
    assert training.preparation == type(training.preparation)(recipe="letterbox", margin=0.3, align=False, flip=True)
    assert training.data.counts == {"train": dict.fromkeys(EMOTIONS, len(_SIZES))}
    assert "MIT" in model.terms
    assert (training.settings["groups"], training.settings["folds"]) == (len(_SIZES), len(_SIZES))
    assert training.settings["group_by"] == "subject"
    assert len(training.settings["C_by_fold"]) == len(_SIZES)
    assert (figures["chance_accuracy"].value, figures["chance_uar"].value) == (1 / 7, 1 / 7)
    assert figures["accuracy"].value > 0.8
    assert figures["uar"].value == pytest.approx(figures["accuracy"].value)  # as many faces of each class
    assert figures["accuracy"].low < figures["accuracy"].value
    assert figures["brier"].value <= figures["brier_uncalibrated"].value


def test_the_card_prepares_faces_as_in_training(folder):
    """Margin, alignment and mirror averaging are those of the embeddings, whatever the encoder's own are."""
    record = record_of_the_embedded_model()
    record["settings"] = record["settings"] | {"faces.margin": 0.5, "faces.align": True, "model.flip": False}
    x, labels, _ = blobs(groups=30, a_group=1, size=256)
    names = [f"{number}.jpg" for number in range(30)]
    write_output(folder / "o.parquet", x, inputs=names, record=record)
    write_labels(
        folder / "o.csv", ("path", "label"), [(name, f"c{label}") for name, label in zip(names, labels, strict=True)]
    )
    train(folder, "linear", predictions=str(folder / "o.parquet"), labels=str(folder / "o.csv"), out="other")

    card = model_card("other", store=str(folder / "store"))

    assert (card.margin, card.align, card.flip, card.recipes[0]) == (0.5, True, False, "letterbox")
    assert not load_model("other", store=str(folder / "store")).network.flip


def batch_of(model, count=3):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 3, model.height, model.width)).astype(np.uint8)
    face = Face((0, 0, 1, 1), "whole")
    crops = tuple(Crop(Position(number), f"{number}", face, 0, each) for number, each in enumerate(pixels))
    return Batch(crops, (), Cursor(Position(count))), torch.from_numpy(pixels)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_probabilities_come_from_the_averaged_embedding_at_every_precision(network, precision):
    """The head computes in float32 on the embedding that the row holds; the encoder mirrors once, not twice."""
    batch, pixels = batch_of(network)
    with torch.inference_mode():
        straight, mirrored = (network.network.parent(view)[1] for view in (pixels, pixels.flip(-1)))

    predictor = Predictor(network, ModelConfig(device="cpu", precision=precision))
    [(_, prediction)] = predictor.run([batch])

    logits = network.network.head(torch.from_numpy(prediction.embeddings))
    np.testing.assert_allclose(prediction.probabilities, logits.softmax(-1), rtol=0, atol=1e-6)
    tolerance = 1e-5 if precision == "fp32" else 0.1
    np.testing.assert_allclose(prediction.embeddings, (straight + mirrored) / 2, rtol=tolerance, atol=tolerance)
    assert not torch.equal(straight, mirrored)


def test_other_embeddings_than_it_learned_from_are_refused(network):
    """--no-flip would be another embedding in silence."""
    with pytest.raises(ConfigError, match=r"my-linear learned from embeddings with mirror averaging.*--no-flip"):
        Predictor(network, ModelConfig(device="cpu", flip=False))
    assert Predictor(network, ModelConfig(device="cpu", flip=True)).choices.flip


@pytest.mark.thorough
@pytest.mark.parametrize(("to", "name"), [("torch-export", "m.pt2"), ("safetensors", "m.safetensors")])
def test_a_head_is_exported(folder, to, name):
    """Encoder and head in one file, compared with the network by the export itself."""
    arguments = ("my-linear", "--store", folder / "store", "--to", to, "--out", folder / name, "--json")
    run = motivnet("export", "model", *arguments)

    assert (folder / name).stat().st_size > 1_000_000
    assert "expression-net" in run.stdout


def test_neighbours_are_stored_and_loaded(folder):
    """The labelled embeddings themselves, with how many of them vote."""
    model, _ = train(folder, "knn")
    loaded = load_model("my-knn", store=str(folder / "store"))

    assert isinstance(loaded.network, EmbeddingClassifier)
    assert loaded.network.head.neighbours == model.training.settings["n_neighbors"]
    assert loaded.network.head.references.shape == (35, 256)


@pytest.mark.thorough
def test_neighbours_are_exported(folder):
    """ONNX has all that they need; the export compares the file with the network."""
    train(folder, "knn", out="near")

    motivnet("export", "model", "near", "--store", folder / "store", "--to", "onnx", "--out", folder / "k.onnx")

    assert (folder / "k.onnx").exists()


def test_a_head_on_the_output_of_a_head_is_on_its_encoder(folder):
    """Embeddings are the encoder's, whoever names the classes."""
    again = folder / "again.parquet"
    options = ("--model", "my-linear", "--store", folder / "store", "--out", again)
    motivnet("annotate", folder / "photos", *options, "--quiet")

    model, _ = train(folder, "linear", predictions=str(again), out="second")

    assert model.training.parents[0].name == "expression-net"
    assert model.training.preparation.flip


def test_a_name_that_is_taken_is_refused_before_anything_is_read(folder):
    """One of the catalogue, or of the store; --overwrite replaces the latter."""
    with pytest.raises(ConfigError, match="'my-linear' already"):
        train(folder, "linear")
    with pytest.raises(ConfigError, match="expression-net is a model of the catalogue"):
        train(folder, "linear", predictions="gone", out="expression-net")


def test_a_folder_that_cannot_hold_the_report_is_refused_before_anything_is_read(folder):
    """A file, a place below one, and a folder of something else; or a model without a report would be stored."""
    for out, message in (
        ("e.parquet", "is a file, and --out takes a folder"),
        ("e.parquet/m", "cannot write at"),
        ("photos", "holds other files"),
    ):
        with pytest.raises((ConfigError, OutputConflictError), match=message):
            train(folder, "linear", predictions="gone", out=out)


def edited(folder, edit):
    """The head of the store with another record."""
    store = Store(folder / "store")
    path = store.root / "my-linear" / RECORD_FILE
    before = path.read_text()
    content = json.loads(before)
    edit(content)
    path.write_text(json.dumps(content))
    return path, before


@pytest.mark.parametrize(
    ("parent", "message"),
    [
        ({"sha256": "0" * 64}, "my-linear learned from embeddings of expression-net with the sha256 000000000000, and"),
        ({"name": "sapiens-1b"}, "my-linear is a head on embeddings of sapiens-1b, which is not in the store"),
        ({"name": "gone"}, "my-linear is a head on embeddings of gone, which is not in the store"),
    ],
)
def test_another_encoder_is_refused(folder, parent, message):
    """Its embeddings would mean something else; before a run and when it is loaded."""
    path, before = edited(folder, lambda content: content["training"]["parents"][0].update(parent))
    try:
        for load in (check_weights, load_model):
            with pytest.raises(WeightsError, match=message):
                load("my-linear", store=str(folder / "store"))
    finally:
        path.write_text(before)


def test_a_damaged_head_is_refused(folder):
    """Classes that the tensors have no logits for, and a record without a training."""
    path, before = edited(folder, lambda content: content["training"]["classes"].pop())
    try:
        with pytest.raises(WeightsError, match=r"is no head that can be used .7 logits for 6 classes"):
            load_model("my-linear", store=str(folder / "store"))
        path.write_text(json.dumps(json.loads(before) | {"training": None}))
        with pytest.raises(WeightsError, match=r"damaged .a head without the record of its training"):
            load_model("my-linear", store=str(folder / "store"))
    finally:
        path.write_text(before)


def test_a_head_of_embeddings_of_another_size_is_refused(folder):
    """As where its encoder was replaced by one of another width."""
    head = Store(folder / "store").find("my-linear")
    with pytest.raises(WeightsError, match="classifies embeddings of 256 numbers, and those of its model have 64"):
        load_head(head.path, head.training, tiny_motivnet())


def test_the_command_trains_reports_and_says_what_it_is_worth(folder):
    """The record goes to stdout, remarks to stderr, and the page with its card to --out."""
    labels, out = folder / "photos" / "labels.csv", folder / "by-command"
    options = ("--from", folder / "e.parquet", "--labels", labels, "--out", out, "--store", folder / "store")

    run = motivnet("train", *options, "--head", "knn", "--shots", "1,50", "--folds", "3", "--json")

    said = json.loads(run.stdout)
    assert said["model"] == "by-command"
    assert said["training"]["settings"]["folds"] == 3
    assert (
        said["training"]["validation"]["figures"]["accuracy"]["value"]
        > said["training"]["few_shot"][0]["figures"]["accuracy"]["value"]
    )
    assert "warning: 50 shots are left out" in run.stderr
    names = {path.name for path in out.iterdir()}
    assert {"report.html", "metrics.json", "model-card.md"} <= names
    assert (
        "by-command: a head on the embeddings of expression-net"
        in motivnet("models", "--store", folder / "store", "by-command").stdout
    )
    assert "already" in motivnet("train", *options, code=2).stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "m"), "say what to train: a head on --from"),
        (("--out", "m", "--from", "p"), "a head takes embeddings and labels"),
        (("--from", "p", "--labels", "l"), "the model needs a name"),
        (("--from", "p", "--labels", "l", "--out", "m", "--shots", "1,x"), "--shots takes whole numbers"),
        (("--from", "p", "--labels", "l", "--out", "m"), "no motivnet output"),
    ],
)
def test_what_a_command_lacks_is_named(options, message, tmp_path):
    """Before anything is read."""
    options = [tmp_path / word if word == "m" else word for word in options]
    assert message in motivnet("train", *options, "--store", tmp_path, code=2).stderr


def test_a_signal_ends_it_without_a_model(folder):
    """Nothing is half done, so nothing is kept."""
    with pytest.raises(Stopped):
        train_head(
            HeadConfig(
                predictions=str(folder / "e.parquet"),
                labels=str(folder / "photos" / "labels.csv"),
                out=str(folder / "never"),
                store=str(folder / "store"),
            ),
            stop=lambda: True,
        )
    assert Store(folder / "store").find("never") is None


def test_the_first_commands_of_the_page_run_as_they_stand(folder, tmp_path, monkeypatch):
    """On photographs of three classes, with names and columns as the page tells them."""
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text()
    block = page.partition("```bash\n")[2].partition("```")[0]
    known, new = tmp_path / "photos", tmp_path / "others"
    rows = [(path, path.name.rpartition("-")[0]) for path in sorted((folder / "photos").glob("[ahn]*.png"))]
    for place in (known, new):
        place.mkdir()
    for path, _ in rows:
        (known / path.name).symlink_to(path)
    (new / "one.png").symlink_to(rows[0][0])
    write_labels(tmp_path / "labels.csv", ("path", "label"), [(path.name, label) for path, label in rows])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOTIVNET_HOME", "store")

    for line in block.splitlines():
        motivnet(*shlex.split(line)[1:])

    assert set(dict(rows).values()) == {"anger", "happiness", "neutral"} <= set(read_faces("others.parquet").columns)
