"""A trained model in the store: whole or not at all, with the record of how it was made."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from motivnet_cli.catalogue import CARDS
from motivnet_cli.cli import app
from motivnet_cli.durable import sha256_of
from motivnet_cli.errors import ConfigError, WeightsError
from motivnet_cli.export.network import export_model
from motivnet_cli.output.read import read_faces, read_record
from motivnet_cli.records import EMOTIONS
from motivnet_cli.training.result import check_result, put_in_store
from motivnet_cli.weights.cards import find_card
from motivnet_cli.weights.checkpoint import read_training
from motivnet_cli.weights.load import load_model, model_card
from motivnet_cli.weights.store import RECORD_FILE, Store
from motivnet_cli.weights.training_record import FewShot, Figure, Parent, Preparation, TrainingRecord
from tests.pictures import SAMPLE_DATA
from tests.trained import CLASSES, faces, files_of, record, tiny_motivnet, tiny_student


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


# ---- the record ---------------------------------------------------------------------------------------------


def test_a_record_survives_json():
    """Tuples, parts, missing intervals and an undefined figure come back as they were."""
    whole = record(few_shot=(FewShot(shots=1, draws=5, figures={"accuracy": Figure(0.4, 0.3, 0.5)}),))

    assert TrainingRecord.from_json(json.loads(json.dumps(whole.to_json()))) == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("parents"), "parents"),
        (lambda content: content.update(mood="good"), "training has 'mood'"),
        (lambda content: content.update(kind="table"), "training.kind is 'table'"),
        (lambda content: content["data"].update(counts=[1]), r"training.data.counts is \[1\]"),
        (lambda content: content["validation"].update(n="35"), "training.validation.n is '35'"),
        (lambda content: content["preparation"].update(margin=True), "training.preparation.margin is True"),
    ],
)
def test_another_record_is_refused(change, message):
    content = record().to_json()
    change(content)

    with pytest.raises(ValueError, match=message):
        TrainingRecord.from_json(content)


def test_terms_of_everything_are_inherited():
    """Each terms once, with what they are the terms of."""
    parents = record().parents
    twice = (*parents, dataclasses.replace(parents[0], name="motivnet-1b", role="teacher"))

    assert record(parents=twice).terms == (
        "Inherited from what it was made from. Of sapiens-1b (start) and motivnet-1b (teacher): CC BY-NC 4.0. "
        "Of the data, labels.csv: Ask its owner."
    )


# ---- the store ----------------------------------------------------------------------------------------------


def test_a_trained_network_computes_the_same_from_the_store(store):
    """And is found with its record; the hash that outputs record is that of the file."""
    network = tiny_motivnet()

    stored = put_in_store("mine", network, record(), store=store)
    loaded = load_model("mine", store=str(store.root), recipe="stretch")  # `pad` leaves rows out of the embedding

    pixels = faces(2, height=64, width=48)
    for ours, theirs in zip(loaded.network(pixels), network(pixels), strict=True):
        assert torch.equal(ours, theirs)
    assert store.find("mine") == stored
    assert stored.training == record()
    assert loaded.classes == CLASSES
    assert loaded.weights_sha256 == stored.sha256 == sha256_of(Path(stored.path))
    assert store.verify("mine") == stored


def test_a_record_of_an_earlier_motivnet_is_read(store):
    """One that knew of no training."""
    put_in_store("mine", tiny_motivnet(), record(), store=store)
    path = store.root / "mine" / RECORD_FILE
    content = json.loads(path.read_text())
    del content["training"]
    path.write_text(json.dumps(content))

    assert store.find("mine").training is None


def test_a_damaged_record_is_named(store):
    put_in_store("mine", tiny_motivnet(), record(), store=store)
    path = store.root / "mine" / RECORD_FILE
    content = json.loads(path.read_text())
    content["training"]["classes"] = "neutral"
    path.write_text(json.dumps(content))

    with pytest.raises(WeightsError, match=r"training\.classes is 'neutral'"):
        store.find("mine")


def test_a_name_is_taken_once(store):
    """Without --overwrite the first stays as it is, and with it nothing of the first is left."""
    first = put_in_store("mine", tiny_motivnet(), record(), store=store)

    with pytest.raises(ConfigError, match="has a model 'mine' already"):
        put_in_store("mine", tiny_motivnet(), record(best_epoch=3), store=store)
    assert store.verify("mine") == first

    second = put_in_store("mine", tiny_motivnet(), record(best_epoch=3), store=store, overwrite=True)
    assert store.verify("mine") == second
    assert second.training.best_epoch == 3
    assert files_of(store.root) == ["mine/model.json", "mine/weights.safetensors"]


def test_who_waited_for_another_process_does_not_replace_its_model(store, monkeypatch):
    """The name was free when this one came to the lock, and is not when it gets it."""
    locked = Store._locked

    @contextlib.contextmanager
    def after_another(waiting, name):
        monkeypatch.setattr(Store, "_locked", locked)
        put_in_store(name, tiny_motivnet(), record(), store=Store(waiting.root))
        with locked(waiting, name):
            yield

    monkeypatch.setattr(Store, "_locked", after_another)
    with pytest.raises(ConfigError, match="has a model 'mine' already"):
        put_in_store("mine", tiny_motivnet(), record(best_epoch=3), store=store)

    assert store.verify("mine").training.best_epoch == 2


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_left_of_a_model_that_could_not_be_written(store, monkeypatch, overwrite):
    """A disk that fills up at the last file: what was there before is there after it."""
    before = put_in_store("mine", tiny_motivnet(), record(), store=store) if overwrite else None

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("motivnet_cli.weights.store._write_json", full)
    with pytest.raises(OSError, match="No space left"):
        put_in_store("mine", tiny_motivnet(), record(), store=store, overwrite=overwrite)

    assert store.find("mine") == before
    assert files_of(store.root) == (["mine/model.json", "mine/weights.safetensors"] if overwrite else [])


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("motivnet-1b", CLASSES, "is a model of the catalogue"),
        ("expression-net", CLASSES, "is a model of the catalogue"),
        ("my model", CLASSES, "a model's name is made of letters"),
        ("mine", ("smirk",), "at least two classes apart, and the labels have: 'smirk'"),
        ("mine", ("smirk", "yawn", "smirk"), "a name of its own"),
        ("mine", ("smirk", "a,b"), "no class can be called 'a,b'"),
        ("mine", ("smirk", "frame"), "no class can be called 'frame'"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_computed(store, name, classes, message):
    with pytest.raises(ConfigError, match=message):
        check_result(name, classes, store=store)


# ---- students, and files ------------------------------------------------------------------------------------


def student_record(**changes):
    return record(
        kind="student",
        parents=(Parent(name="motivnet-1b", sha256="c" * 64, role="teacher", terms="Research only."),),
        preparation=Preparation(recipe="letterbox", margin=0.3, flip=True),
        **changes,
    )


def test_a_student_computes_the_same_from_the_store(store):
    """With its own classes; what suits the small network is the catalogue's, and the rest is its training's."""
    network = tiny_student()
    put_in_store("mine", network, student_record(), store=store)

    loaded = load_model("mine", store=str(store.root))

    pixels = faces(2, height=112, width=112)
    for ours, theirs in zip(loaded.network(pixels), network(pixels), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    like = CARDS["expression-net"]
    assert loaded.classes == CLASSES
    assert (loaded.card.single_thread, loaded.card.cpu_batch_size) == (True, like.cpu_batch_size)
    assert (loaded.card.embedded, loaded.card.recipes, loaded.card.flip) == (False, ("letterbox",), True)
    assert loaded.card.terms == (
        "Inherited from what it was made from. Of motivnet-1b (teacher): Research only. Of the data, labels.csv: Ask "
        "its owner."
    )


def test_a_card_says_what_was_trained_on_what(store):
    """And faces are prepared as in training, whatever the catalogue does for this architecture."""
    put_in_store("mine", tiny_motivnet(), record(), store=store)

    card = find_card("mine", store)

    assert card.title == "motivnet trained from sapiens-1b, 94,467 parameters of its own"
    assert card.about == (
        "3 classes (neutral, smirk, yawn), learned from labels.csv on 2026-11-29. Accuracy 80.0 % (64.0 to 90.0), UAR "
        "75.0 % (60.0 to 88.0) on 35 faces: the validation faces, by the network of the best epoch."
    )
    assert card.recipes == ("pad", "stretch", "stretch-224")
    assert (card.margin, card.align, card.flip) == (0.2, True, True)
    assert card.limits == (
        "Its figures are of faces that were set aside so: 20 % at random, seed 0. How it does on others is not known.",
        "yawn has 25 faces, 5.6 times fewer than neutral.",
        "The position table was resized from 64 x 64 to 64 x 48.",
    )


def test_a_card_says_that_only_crops_were_learned_from(store):
    """What becomes of faces that are cut out was not measured then."""
    whole = dataclasses.replace(record().preparation, whole=True)
    put_in_store("mine", tiny_motivnet(), record(preparation=whole), store=store)

    assert "`--faces whole` takes pictures as it learned them" in find_card("mine", store).limits[1]


@pytest.mark.parametrize("network", [tiny_motivnet, tiny_student])
def test_a_file_of_a_trained_model_says_how_it_was_made(store, tmp_path, network):
    """Given as --weights or stored elsewhere from a copy, it has card, terms and record as it had here."""
    whole = record() if network is tiny_motivnet else student_record()
    stored = put_in_store("mine", network(), whole, store=store)
    file = str(shutil.copy(stored.path, tmp_path / "sent.safetensors"))

    elsewhere = Store(tmp_path / "elsewhere")
    assert elsewhere.plan("theirs", file=file).terms == whole.terms
    copied = elsewhere.install("theirs", file=file)
    given = load_model(weights=file, store=str(elsewhere.root)).card

    assert copied.training == whole
    assert copied.sha256 == stored.sha256
    card = find_card("mine", store)
    assert find_card("theirs", elsewhere) == dataclasses.replace(card, name="theirs")
    assert given == dataclasses.replace(card, name="sent.safetensors") == model_card(weights=file)
    assert read_training(copied.path) == whole


def test_a_file_with_a_record_that_cannot_be_read_is_refused(tmp_path):
    """How faces are prepared for it would be guessed."""
    path = tmp_path / "sent.safetensors"
    metadata = {"classes": ",".join(CLASSES), "training": '{"kind": "table"}'}
    save_file(tiny_student().state_dict(), path, metadata=metadata)

    with pytest.raises(WeightsError, match="do not say how it was trained"):
        load_model(weights=str(path))


def test_an_expression_net_without_names_is_refused(tmp_path):
    """Seven classes are not in MotivNet's order here."""
    path = tmp_path / "small.safetensors"
    save_file(tiny_student(EMOTIONS).state_dict(), path)

    with pytest.raises(WeightsError, match="is an ExpressionNet that does not name its classes"):
        load_model(weights=str(path))


def test_a_student_does_not_pass_for_a_published_network(store, tmp_path):
    path = put_in_store("mine", tiny_student(EMOTIONS), student_record(classes=EMOTIONS), store=store).path

    with pytest.raises(WeightsError, match="holds another network than motivnet-1b: kind is an ExpressionNet"):
        load_model("motivnet-1b", weights=path)
    with pytest.raises(WeightsError, match="holds another network than motivnet-1b: kind is an ExpressionNet"):
        Store(tmp_path / "elsewhere").install("motivnet-1b", file=path)


# ---- on the command line ------------------------------------------------------------------------------------


def motivnet(*arguments, store):
    """A command in this process, on this store; what it printed to stdout."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--store", str(store.root)], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_an_output_names_the_trained_model(store, tmp_path):
    """Its name, its hash and the terms that it inherited; the classes are columns, and the output is whole."""
    stored = put_in_store("mine", tiny_student(), student_record(), store=store)
    out = tmp_path / "preds.parquet"

    motivnet("annotate", SAMPLE_DATA / "group.jpg", "--model", "mine", "--out", out, store=store)

    record = read_record(out)
    assert (record["model"], record["weights_sha256"]) == ("mine", stored.sha256)
    assert (record["classes"], record["terms"]) == (list(CLASSES), stored.terms)
    assert read_faces(out).select(CLASSES).sum_horizontal().to_numpy() == pytest.approx(1)
    whole = CliRunner().invoke(app, ["verify", str(out)], catch_exceptions=False)
    assert whole.exit_code == 0, whole.stdout


def test_models_and_the_store_describe_it(store):
    """In words and as JSON; what is listed can be verified and removed."""
    stored = put_in_store("mine", tiny_motivnet(), record(), store=store)

    described = motivnet("models", "mine", store=store)
    listed = json.loads(motivnet("download-weights", "--list", "--json", store=store))[-1]

    for line in (
        f"Weights: {stored.path}.",
        f"Terms: {stored.terms}",
        f"From: sapiens-1b (start), sha256 {'a' * 64}",
        f"Data: labels.csv, train 140, val 35 faces; sha256 of the list {'b' * 64}",
        f"Trained by: {record().command}",
    ):
        assert line in " ".join(described.split())
    assert (
        TrainingRecord.from_json(json.loads(motivnet("models", "mine", "--json", store=store))["training"]) == record()
    )
    every = json.loads(motivnet("models", "--json", store=store))
    assert [each["name"] for each in every if each["training"]] == ["mine"]
    assert (listed["name"], listed["terms"], listed["here"]) == ("mine", stored.terms, True)
    motivnet("download-weights", "mine", "--verify", store=store)
    motivnet("download-weights", "mine", "--remove", store=store)
    assert files_of(store.root) == []


# ---- exports ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [tiny_motivnet, tiny_student])
def test_exported_weights_are_the_model_again(store, tmp_path, network):
    """With its classes, card and record: what is sent to others lacks nothing but its name."""
    whole = record() if network is tiny_motivnet else student_record()
    stored = put_in_store("mine", network(), whole, store=store)
    out = tmp_path / "sent.safetensors"

    said = export_model("mine", "safetensors", out, store=str(store.root)).metadata

    assert said["parents"] == ", ".join(f"{each.name} ({each.role}) sha256:{each.sha256}" for each in whole.parents)
    assert (said["training_data"], said["training_data_sha256"]) == ("labels.csv", "b" * 64)
    assert (said["classes"], said["terms"], said["source_sha256"]) == (",".join(CLASSES), whole.terms, stored.sha256)
    assert ("turned until the eyes are level" in said["input"]) == whole.preparation.align
    again, original = load_model(weights=str(out)), load_model("mine", store=str(store.root))
    assert read_training(out) == whole
    assert again.card == dataclasses.replace(original.card, name="sent.safetensors")
    pixels = faces(2, height=original.height, width=original.width)
    for ours, theirs in zip(again.network(pixels), original.network(pixels), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.thorough
def test_a_student_answers_in_onnxruntime_alone(store, tmp_path):
    """As from the store, in its own classes, which the file names."""
    pytest.importorskip("onnxscript")
    put_in_store("mine", tiny_student(), student_record(), store=store)
    out = tmp_path / "mine.onnx"
    export_model("mine", "onnx", out, store=str(store.root))
    pixels = faces(3, height=112, width=112)

    session = onnxruntime.InferenceSession(str(out))
    found = dict(
        zip(("probabilities", "logits", "embedding"), session.run(None, {"pixels": pixels.numpy()}), strict=True)
    )

    logits, embedding = tiny_student()(pixels)
    about = session.get_modelmeta().custom_metadata_map
    assert about["classes"].split(",") == list(CLASSES)
    assert TrainingRecord.from_json(json.loads(about["training"])) == student_record()
    torch.testing.assert_close(torch.from_numpy(found["logits"]), logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.from_numpy(found["probabilities"]), logits.softmax(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.from_numpy(found["embedding"]), embedding, atol=1e-4, rtol=0)
