"""Sets of classes that are no emotions, or not all of them: read for training, and for a model that has such."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import polars
import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.published import published_beside
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.records import EMOTIONS
from motivnet_cli.training.result import put_in_store
from motivnet_cli.weights.store import Store
from tests.pictures import face_photo
from tests.test_datasets import make_ferplus_table, picture
from tests.trained import CLASSES, record, tiny_student


def names_and_labels(labelled):
    return {image.name: labelled.classes[image.label] for image in labelled.images}


def make(root, *files):
    for number, file in enumerate(files):
        picture(root / file, shade=number)
    return str(root)


# ---- what the labels name, to learn from ------------------------------------------------------------------


def test_folders_name_the_classes(tmp_path):
    """Whatever they are called, in any case; the known emotions come first, as in tables."""
    root = make(tmp_path, "bored/a.jpg", "Bored ones/b.jpg", "surprise/deep/c.jpg", "anger/d.jpg")
    labelled = read_dataset("folder", root, for_training=True)
    assert labelled.classes == ("surprise", "anger", "Bored ones", "bored")
    assert names_and_labels(labelled) == {
        "Bored ones/b.jpg": "Bored ones",
        "anger/d.jpg": "anger",
        "bored/a.jpg": "bored",
        "surprise/deep/c.jpg": "surprise",
    }


def test_labels_that_are_all_emotions_are_read_as_evaluate_reads_them(tmp_path):
    labelled = read_dataset("folder", make(tmp_path, "happy/a.jpg", "1_Sad/b.jpg"), for_training=True)
    assert names_and_labels(labelled) == {"happy/a.jpg": "happiness", "1_Sad/b.jpg": "sadness"}


def test_a_table_names_classes_in_any_case(tmp_path):
    """The commonest spelling counts; cells that say nothing are counted, as empty ones are."""
    make(tmp_path, *(f"{number}.jpg" for number in range(8)))
    rows = ["cat", "Cat", " cat ", "dog", "NaN", "null", "", "DOG"]
    lines = [f"{number}.jpg,{label}" for number, label in enumerate(rows)]
    (tmp_path / "set.csv").write_text("\n".join(["path,label", *lines]))
    labelled = read_dataset("csv", str(tmp_path / "set.csv"), for_training=True)
    assert labelled.classes == ("DOG", "cat")
    assert [*names_and_labels(labelled).values()] == ["cat", "cat", "cat", "DOG", "DOG"]
    (tmp_path / "na.csv").write_text("path,label\n0.jpg,cat\n1.jpg,None\n2.jpg,NA")
    mapped = read_dataset("csv", str(tmp_path / "na.csv"), label_map={"none": "None"}, for_training=True)
    assert (mapped.classes, mapped.dropped) == (("None", "cat"), {"label 'NA', which is none": 1})
    assert labelled.dropped == {
        "no path or no label": 1,
        "label 'NaN', which is none": 1,
        "label 'null', which is none": 1,
    }


def test_a_json_list_of_classes(tmp_path):
    """The reference's lists, by names and, with a map, by numbers."""
    make(tmp_path, "pictures/a.jpg", "pictures/b.jpg", "pictures/c.jpg")
    (tmp_path / "train.json").write_text(json.dumps({"cat": ["a.jpg", "b.jpg"], "dog": ["c.jpg"]}))
    labelled = read_dataset("folder", str(tmp_path), for_training=True)
    assert (labelled.split, labelled.classes) == ("train", ("cat", "dog"))
    assert names_and_labels(labelled)["pictures/c.jpg"] == "dog"
    (tmp_path / "train.json").write_text(json.dumps({"0": ["a.jpg", "b.jpg"], "1": ["c.jpg"]}))
    labelled = read_dataset("folder", str(tmp_path), label_map={"0": "cat", "1": "dog"}, for_training=True)
    assert names_and_labels(labelled)["pictures/c.jpg"] == "dog"


def test_numbers_need_a_map(tmp_path):
    root = make(tmp_path, "0/a.jpg", "1/b.jpg", "2/c.jpg")
    with pytest.raises(ConfigError, match=r"classes of your own: --label-map 0=NAME"):
        read_dataset("folder", root, for_training=True)
    labelled = read_dataset("folder", root, label_map={"0": "cat", "1": "dog", "2": "drop"}, for_training=True)
    assert names_and_labels(labelled) == {"0/a.jpg": "cat", "1/b.jpg": "dog"}
    assert labelled.dropped == {"label 2, dropped by the label map": 1}
    labelled = read_dataset("folder", root, label_map={"0": "happy", "1": "SAD", "2": "drop"}, for_training=True)
    assert names_and_labels(labelled) == {"0/a.jpg": "happiness", "1/b.jpg": "sadness"}


def test_a_map_may_name_labels_that_do_not_occur(tmp_path):
    labelled = read_dataset(
        "folder",
        make(tmp_path, "0/a.jpg", "1/b.jpg"),
        label_map={"0": "cat", "1": "dog", "2": "cow"},
        for_training=True,
    )
    assert labelled.classes == ("cat", "dog")
    assert labelled.remarks == ("the label map names labels that do not occur here: 2",)


@pytest.mark.parametrize("label", ["input", "Happiness x1", "x1", "a\tb"])
def test_names_that_cannot_be_columns(tmp_path, label):
    make(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "set.csv").write_text(f"path,label\na.jpg,{label}\nb.jpg,dog")
    if label == "Happiness x1":
        assert label in read_dataset("csv", str(tmp_path / "set.csv"), for_training=True).classes
        return
    with pytest.raises(ConfigError, match="no class can be called"):
        read_dataset("csv", str(tmp_path / "set.csv"), for_training=True)


def test_splits_of_classes(tmp_path):
    """The split for training is read; folders beside the splits are named."""
    root = make(tmp_path, "train/cat/a.jpg", "train/dog/b.jpg", "val/cat/c.jpg", "extra/d.jpg")
    labelled = read_dataset("folder", root, for_training=True)
    assert names_and_labels(labelled) == {"train/cat/a.jpg": "cat", "train/dog/b.jpg": "dog"}
    assert any("folders beside those of the splits are not read: extra" in remark for remark in labelled.remarks)
    assert names_and_labels(read_dataset("folder", root, split="val", for_training=True)) == {"val/cat/c.jpg": "cat"}


def test_a_class_called_train(tmp_path):
    labelled = read_dataset("folder", make(tmp_path, "train/a.jpg", "bus/b.jpg"), for_training=True)
    assert labelled.classes == ("bus", "train")


def test_sets_with_labels_of_their_own_stay_as_they_are(tmp_path):
    root = make(tmp_path, *(f"train/{number}/a.jpg" for number in range(1, 8)))
    labelled = read_dataset("rafdb", root, for_training=True)
    assert (labelled.split, labelled.classes) == ("train", EMOTIONS)


@pytest.mark.parametrize("name", ["fer2013", "ferplus"])
def test_the_split_for_training_of_a_named_set(tmp_path, name):
    make_ferplus_table(tmp_path)
    labelled = read_dataset(name, str(tmp_path), for_training=True)
    assert (labelled.split, len(labelled.images)) == ("train", 7)


def test_without_training_labels_must_be_emotions(tmp_path):
    with pytest.raises(ConfigError, match="name no emotion"):
        read_dataset("folder", make(tmp_path, "happy/a.jpg", "bored/b.jpg"))


# ---- the classes of a model -------------------------------------------------------------------------------


def test_labels_name_the_classes_of_a_model(tmp_path):
    root = make(tmp_path, "Cat/a.jpg", "dog/b.jpg")
    labelled = read_dataset("folder", root, classes=("dog", "cat", "bird"))
    assert labelled.classes == ("dog", "cat", "bird")
    assert names_and_labels(labelled) == {"Cat/a.jpg": "cat", "dog/b.jpg": "dog"}
    assert any("no image of bird" in remark for remark in labelled.remarks)


def test_emotions_that_a_model_does_not_know_are_dropped_and_said(tmp_path):
    root = make(tmp_path, *(f"test/{number}/{n}.jpg" for number in range(1, 8) for n in "ab"))
    labelled = read_dataset("rafdb", root, classes=("sadness", "neutral", "bored"))
    assert labelled.classes == ("neutral", "sadness", "bored")
    assert set(names_and_labels(labelled).values()) == {"neutral", "sadness"}
    assert sum(labelled.dropped[name] for name in ("happiness", "surprise", "fear", "disgust", "anger")) == 10
    assert any(
        "10 images of emotions that are none of the classes neutral, sadness, bored" in r for r in labelled.remarks
    )
    assert any("has 14 images here, 3,068 published" in remark for remark in labelled.remarks)


def test_another_name_is_refused_until_it_is_dropped(tmp_path):
    root = make(tmp_path, "cat/a.jpg", "horse/b.jpg")
    with pytest.raises(ConfigError, match=r"name no class: 'horse' \(1\).*--label-map horse=drop"):
        read_dataset("folder", root, classes=("cat", "dog"))
    labelled = read_dataset("folder", root, classes=("cat", "dog"), label_map={"horse": "drop"})
    assert names_and_labels(labelled) == {"cat/a.jpg": "cat"}


def test_nothing_that_a_model_knows(tmp_path):
    with pytest.raises(ConfigError, match=r"no labelled image is left .*happiness 1"):
        read_dataset("folder", make(tmp_path, "happy/a.jpg"), classes=("cat", "dog"))


def test_a_map_onto_the_classes_of_a_model(tmp_path):
    root = make(tmp_path, "0/a.jpg", "1/b.jpg")
    with pytest.raises(ConfigError, match="are numbers, which name none of the classes dog, cat"):
        read_dataset("folder", root, classes=("dog", "cat"))
    labelled = read_dataset("folder", root, classes=("dog", "cat"), label_map={"0": "CAT", "1": "dog"})
    assert names_and_labels(labelled) == {"0/a.jpg": "cat", "1/b.jpg": "dog"}
    with pytest.raises(ConfigError, match="expected dog, cat or drop"):
        read_dataset("folder", root, classes=("dog", "cat"), label_map={"0": "bird", "1": "dog"})


def test_contempt_is_beside_the_seven_emotions(tmp_path):
    with pytest.raises(ConfigError, match="--contempt is an eighth class"):
        read_dataset("folder", make(tmp_path / "a", "cat/a.jpg"), classes=("dog", "cat"), contempt=True)
    with pytest.raises(ConfigError, match="--contempt is an eighth class"):
        read_dataset("folder", str(tmp_path / "a"), contempt=True, for_training=True)
    labelled = read_dataset("folder", make(tmp_path / "b", "sad/a.jpg"), classes=(*reversed(EMOTIONS), "contempt"))
    assert labelled.classes == EMOTIONS


def test_no_published_figure_is_of_the_classes_of_a_model():
    emotions = published_beside("rafdb", split="test", protocol="aligned", n=3_068, classes=7)
    own = published_beside("rafdb", split="test", protocol="aligned", n=3_068, classes=7, own_classes=True)
    assert emotions.alike
    assert not own.alike
    assert {left.reason for left in own.left_out} == {
        f"it is of {n} classes, and this evaluation of those of its model"
        for n in {left.anchor.classes for left in own.left_out}
    }


# ---- evaluate ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A model of the store with classes of its own, evaluated on a folder of faces; and emotions, by another model."""
    folder = tmp_path_factory.mktemp("own")
    store = Store(str(folder / "store"))
    put_in_store("mine", tiny_student(), record(), store=store)
    for label, number in itertools.product(("neutral", "smirk", "Yawn"), range(3)):
        path = folder / "set" / label / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        face_photo(path, size=(200, 200), faces=((100, 100, 100 + 9 * number),), ground=(40 * number, 90, len(label)))
    options = ("--dataset", "folder", "--root", folder / "set")
    shown = run("evaluate", *options, "--model", "mine", "--store", store.root, "--out", folder / "r", "--resamples", 9)
    return folder, options, shown


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == code, result.stderr
    return result


def test_a_model_of_the_store_is_scored_by_its_own_classes(scored):
    folder, _, _ = scored
    evaluation = json.loads((folder / "r" / "metrics.json").read_text())
    rows = polars.read_parquet(folder / "r" / "predictions.parquet").select("input", polars.col("emotion").cast(str))
    right = sum(Path(name).parent.name.casefold() == emotion for name, emotion in rows.iter_rows())
    (only,) = evaluation["runs"]
    assert evaluation["dataset"]["classes"] == [*CLASSES]
    assert evaluation["dataset"]["counts"] == dict.fromkeys(CLASSES, 3)
    assert only["scores"]["all"]["accuracy"]["value"] == pytest.approx(right / 9)
    assert [each["class"] for each in only["scores"]["per_class"]] == [*CLASSES]
    assert not evaluation["anchors"]
    assert "yawn" in (folder / "r" / "report.html").read_text()


def test_its_predictions_are_scored_alike(scored):
    folder, options, _ = scored
    run(
        "evaluate",
        *options,
        "--predictions",
        folder / "r" / "predictions.parquet",
        "--out",
        folder / "p",
        "--resamples",
        9,
    )
    first, second = (json.loads((folder / each / "metrics.json").read_text()) for each in "rp")
    assert second["runs"][0]["scores"] == first["runs"][0]["scores"]


def test_models_of_other_classes_are_not_compared(scored, tmp_path):
    folder, options, _ = scored
    lines = [f"{folder}/set/{label}/0.jpg,happy" for label in ("neutral", "smirk")]
    (tmp_path / "other.csv").write_text("\n".join(["path,pred", *lines]))
    own = folder / "r" / "predictions.parquet"
    for command in (
        ("evaluate", *options, "--predictions", own, "--predictions", tmp_path / "other.csv", "--out", tmp_path / "x"),
        ("compare", "predictions", own, tmp_path / "other.csv", *options),
    ):
        shown = run(*command, code=2)
        assert "different classes (neutral, smirk, yawn and the emotions)" in " ".join(shown.stderr.split())
    shown = run("compare", "predictions", own, folder / "r" / ".." / "r" / "predictions.parquet", *options, "--json")
    assert json.loads(shown.stdout)["dataset"]["classes"] == [*CLASSES]


def test_labels_that_the_model_does_not_know(scored):
    folder, _, _ = scored
    shown = run("evaluate", "--dataset", "folder", "--root", folder / "set", "--model", "expression-net", code=2)
    assert "name no emotion: 'Yawn' (3), 'smirk' (3)" in " ".join(shown.stderr.split())
    face_photo(folder / "happy.jpg")
    (folder / "other" / "happy").mkdir(parents=True)
    (folder / "happy.jpg").rename(folder / "other" / "happy" / "0.jpg")
    command = ("evaluate", "--dataset", "folder", "--root", folder / "other", "--model", "mine")
    shown = run(*command, "--store", folder / "store", code=2)
    assert "no labelled image is left" in shown.stderr
