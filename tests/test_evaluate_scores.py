"""What `motivnet evaluate` says of scores beyond accuracy: intervals that cannot be had, calibration, classes."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from motivnet_cli.config import ModelConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.config import EvaluateConfig
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.evaluation.evaluate import evaluate
from motivnet_cli.records import EMOTIONS
from tests.runs import motivnet
from tests.test_datasets import picture


def table_of_set(folder, labels, subjects=None):
    """A labelled set of one's own: as many pictures as labels, perhaps with the subject of each."""
    folder.mkdir(parents=True)
    with (folder / "set.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", *(["subject"] if subjects else [])])
        for number, label in enumerate(labels):
            picture(folder / f"{number}.png")
            rows.writerow([f"{number}.png", label, *([subjects[number]] if subjects else [])])
    return folder / "set.csv"


def table_of_predictions(path, probabilities, *, names=EMOTIONS):
    """What a tool gives for the pictures of `table_of_set`, a row of probabilities each."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", *names])
        rows.writerows([f"{number}.png", *row] for number, row in enumerate(probabilities))
    return path


def labels_only(path, labels, *, names=None):
    """What a tool gives that names the emotion of each picture."""
    names = names or [f"{number}.png" for number in range(len(labels))]
    path.write_text("\n".join(["path,predicted", *map(",".join, zip(names, labels, strict=True))]) + "\n")
    return path


def certain(labels, *, classes=EMOTIONS, share=0.9):
    """Rows of probabilities with `share` for each label."""
    rest = (1 - share) / (len(classes) - 1)
    return [[share if name == label else rest for name in classes] for label in labels]


def evaluated(root, predictions, out, *options, code=0, dataset="csv"):
    given = ("--dataset", dataset, "--root", root, "--predictions", predictions, "--out", out, "--resamples", 9)
    return motivnet("evaluate", *given, *options, code=code)


def scored(root, predictions, **options):
    """The run of an evaluation that writes no report."""
    config = EvaluateConfig(
        **{"root": str(root), "predictions": predictions and str(predictions)},
        **{"dataset": "csv", "out": str(root.parent / "r"), "resamples": 9, **options},
    )
    ((run,),) = (each.runs for each in evaluate([config]))
    return run


def test_one_image_and_one_subject_are_scored_without_intervals(tmp_path):
    """The table ends in empty cells, and the page says that there is no interval; nothing ends in an error."""
    for name, labels, subjects in (("image", ["happiness"], None), ("subject", ["happiness", "fear"], ["S1", "S1"])):
        root = table_of_set(tmp_path / name, labels, subjects)
        predictions = table_of_predictions(tmp_path / f"{name}.csv", certain(labels))
        shown = evaluated(root, predictions, tmp_path / f"{name}-r")
        header, over_all, _ = (line.split("\t") for line in shown.stdout.splitlines())
        cells = dict(zip(header, over_all, strict=True))

        assert (cells["uar"], cells["uar_low"], cells["macro_f1_high"]) == ("1.0000", "", "")
        ends = cells["accuracy_low"], cells["accuracy_high"]
        assert ends == (("0.2065", "1.0000") if name == "image" else ("", ""))
        assert f"one {name} in all" in shown.stderr
        page = (tmp_path / f"{name}-r" / "report.html").read_text()
        assert "no interval" in page
        assert ("Wilson&#39;s score interval (Accuracy" in page) == (name == "image")
        assert "no interval" in (tmp_path / f"{name}-r" / "report.md").read_text()


def test_each_figure_says_how_its_interval_was_made(tmp_path):
    """By image Wilson's, by subject the exact one where all is right; UAR of 1 has none."""
    labels = [name for name in EMOTIONS for _ in range(2)]
    predictions = table_of_predictions(tmp_path / "p.csv", certain(labels))
    for subjects, method in ((None, "wilson"), ([f"S{number % 3}" for number in range(14)], "exact")):
        figures = scored(table_of_set(tmp_path / method, labels, subjects), predictions).scores.all

        assert (figures["accuracy"].method, figures["uar"].method) == (method, None)


# ---- contempt ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_contempt(tmp_path_factory):
    """Three images of each of the seven emotions, and three of contempt: the set, and its labels."""
    labels = [name for name in (*EMOTIONS, "contempt") for _ in range(3)]
    return table_of_set(tmp_path_factory.mktemp("contempt") / "set", labels), labels


def test_contempt_is_an_eighth_class_if_asked_for(with_contempt, tmp_path):
    """A tool that has it can be right everywhere; one that has not is wrong in each of its images, and that is said."""
    root, labels = with_contempt
    eight = table_of_predictions(
        tmp_path / "8.csv", certain(labels, classes=(*EMOTIONS, "contempt")), names=(*EMOTIONS, "contempt")
    )
    seven = table_of_predictions(
        tmp_path / "7.csv", [certain([label if label in EMOTIONS else "fear"])[0] for label in labels]
    )
    default, with_it, without_it = (
        scored(root, table, contempt=contempt).scores
        for table, contempt in ((eight, False), (eight, True), (seven, True))
    )

    assert (default.n, len(default.classes), default.accuracy) == (21, 7, 1.0)
    assert (with_it.n, with_it.classes[7], with_it.accuracy) == (24, "contempt", 1.0)
    assert without_it.accuracy == 21 / 24
    assert any("probability of contempt is 0 everywhere" in remark for remark in without_it.remarks)
    assert not any("everywhere" in remark for remark in with_it.remarks)


def test_contempt_reaches_the_page_and_the_comparison(with_contempt, tmp_path):
    """Eight rows in the confusion matrix of the page; both sides of a comparison have eight classes."""
    root, labels = with_contempt
    table = table_of_predictions(
        tmp_path / "7.csv", [certain([label if label in EMOTIONS else "fear"])[0] for label in labels]
    )
    evaluated(root, table, tmp_path / "r", "--contempt", "--no-images")
    given = ("--dataset", "csv", "--root", root, "--contempt", "--resamples", 9)
    comparison = json.loads(motivnet("compare", "predictions", table, table, *given, "--json").stdout)

    assert "eighth class" in (tmp_path / "r" / "report.md").read_text()
    assert json.loads((tmp_path / "r" / "metrics.json").read_text())["dataset"]["counts"]["contempt"] == 3
    assert (comparison["all"]["n"], comparison["dataset"]["classes"][7]) == (24, "contempt")


def test_a_set_without_contempt_refuses_it(tmp_path):
    """Scored with an eighth class it would pass for a figure of eight classes."""
    root = table_of_set(tmp_path / "set", EMOTIONS)
    with pytest.raises(ConfigError, match="no image of contempt is in the split 'all': leave out --contempt"):
        read_dataset("csv", str(root), contempt=True)


# ---- among the labelled classes ---------------------------------------------------------------------------


def test_argmax_among_the_labelled_classes(tmp_path):
    """Six classes without neutral: what was called neutral becomes the likeliest other, and the run's name says it."""
    labels = [name for name in EMOTIONS[1:] for _ in range(2)]
    rows = [[0.5, *(0.4 if name == label else 0.02 for name in EMOTIONS[1:])] for label in labels]
    root = table_of_set(tmp_path / "set", labels)
    table = table_of_predictions(tmp_path / "p.csv", [*rows[:-1], [1, 0, 0, 0, 0, 0, 0]])
    of_all, of_labelled = scored(root, table), scored(root, table, argmax="labelled")

    assert (of_all.name, of_all.scores.accuracy) == ("predictions", 0)
    assert (of_labelled.name, of_labelled.scores.accuracy) == ("predictions, argmax of 6 classes", 11 / 12)
    assert of_labelled.missed_by_reason == {"no probability for any class that is labelled": 1}
    assert of_labelled.scores.scored["nll"].value == pytest.approx(-np.log(0.4 / 0.5))
    with pytest.raises(ConfigError, match="labels without probabilities"):
        scored(root, labels_only(tmp_path / "l.csv", labels), argmax="labelled")


def test_among_the_labelled_classes_the_label_breaks_ties_still(tmp_path):
    """The tool's label decides between equals as it does among all classes."""
    root = table_of_set(tmp_path / "set", ["happiness", "neutral"])
    rows = [["happiness", 0.5, 0.5, *[0] * 5], ["neutral", 0.5, 0.5, *[0] * 5]]
    run = scored(root, table_of_predictions(tmp_path / "p.csv", rows, names=("pred", *EMOTIONS)), argmax="labelled")

    assert run.scores.accuracy == 1


def test_where_all_classes_are_labelled_the_argmax_is_that_of_all(tmp_path):
    """Then the two are one, and the run keeps its name."""
    root = table_of_set(tmp_path / "set", EMOTIONS)
    run = scored(root, table_of_predictions(tmp_path / "p.csv", certain(EMOTIONS)), argmax="labelled")

    assert (run.name, run.scores.accuracy) == ("predictions", 1.0)


def test_a_comparison_among_the_labelled_classes(tmp_path):
    """Both sides are restricted, and it is recorded and said."""
    root = table_of_set(tmp_path / "set", ["fear", "anger"])
    table = table_of_predictions(tmp_path / "p.csv", certain(["neutral", "anger"]))
    given = ("--dataset", "csv", "--root", root, "--argmax", "labelled", "--resamples", 9)
    shown = motivnet("compare", "predictions", table, table, *given, "--json")

    assert json.loads(shown.stdout)["argmax"] == "labelled"
    assert shown.stderr.count("of the 2 classes that labelled images have, without neutral, happiness") == 1


# ---- a temperature ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_splits(tmp_path_factory):
    """FER2013's table with 70 rows in each of two splits, and predictions that are twice as sure as right."""
    folder = tmp_path_factory.mktemp("splits") / "set"
    folder.mkdir()
    labels = [number % 7 for number in range(140)]
    usages = ["Training" if number < 70 else "PrivateTest" for number in range(140)]
    lines = [f"{label},{' '.join(['7'] * 4)},{usage}" for label, usage in zip(labels, usages, strict=True)]
    (folder / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *lines]))
    return folder


def test_a_temperature_is_fitted_on_one_split_and_judged_on_the_other(two_splits, tmp_path):
    """T is 2 by construction: 9 to 1 of two classes where 3 to 1 is right; NLL and ECE fall, accuracy stays."""
    images = {split: read_dataset("fer2013", str(two_splits), split=split).images for split in ("train", "private")}
    with (tmp_path / "p.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", *EMOTIONS])
        for split in images.values():
            for number, image in enumerate(split):
                first, second = image.label, (image.label + 1) % 7
                if number % 4 == 3:
                    first, second = second, first
                row = [0.0] * 7
                row[first], row[second] = 0.9, 0.1
                rows.writerow([image.name, *row])
    how = {"dataset": "fer2013", "split": "private", "calibrate_on": "train"}
    run = scored(two_splits, tmp_path / "p.csv", **how)
    scaling = run.temperature_scaling
    hits = sum(number % 4 != 3 for number in range(70)) / 70

    assert (scaling.split, scaling.n, scaling.n_missed, scaling.remarks) == ("train", 70, 0, ())
    assert scaling.temperature == pytest.approx(np.log(9) / np.log(hits / (1 - hits)), rel=1e-4)
    assert scaling.before == {name: run.scores.scored[name] for name in ("nll", "ece", "brier")}
    assert scaling.after["nll"].value == pytest.approx(-hits * np.log(hits) - (1 - hits) * np.log(1 - hits))
    assert scaling.after["ece"].value == pytest.approx(0, abs=1e-5)
    assert run.scores.accuracy == pytest.approx(hits)
    shown = motivnet(
        *("evaluate", "--dataset", "fer2013", "--root", two_splits, "--predictions", tmp_path / "p.csv"),
        *("--split", "private", "--calibrate-on", "train", "--out", tmp_path / "r", "--resamples", 9, "--no-images"),
    )
    assert "Temperature 1.93" in (tmp_path / "r" / "report.md").read_text()
    assert "Calibration by temperature" in (tmp_path / "r" / "report.html").read_text()
    assert "0.7571" in shown.stdout


def test_a_temperature_gives_nothing_to_classes_that_are_left_out(tmp_path):
    """Two labelled classes and answers no better than chance: at the hottest temperature each has half."""
    folder = tmp_path / "set"
    folder.mkdir()
    lines = [f"{3 + number % 2},7 7 7 7,{split}" for split in ("Training", "PrivateTest") for number in range(8)]
    (folder / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *lines]))
    with (tmp_path / "p.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", *EMOTIONS])
        for split in ("train", "private"):
            for number, image in enumerate(read_dataset("fer2013", str(folder), split=split).images):
                own = 0.9 if number < 4 else 0.1
                other = {"happiness": "sadness", "sadness": "happiness"}[EMOTIONS[image.label]]
                row = {EMOTIONS[image.label]: own, other: 1 - own}
                rows.writerow([image.name, *(row.get(name, 0) for name in EMOTIONS)])
    how = {"dataset": "fer2013", "split": "private", "calibrate_on": "train", "argmax": "labelled"}
    scaling = scored(folder, tmp_path / "p.csv", **how).temperature_scaling

    assert scaling.temperature == 20
    assert scaling.after["nll"].value == pytest.approx(np.log(2), abs=0.01)


@pytest.mark.parametrize(("split", "other"), [("private", "private"), ("private", "test"), ("test", "privatetest")])
def test_a_split_is_never_judged_by_itself(two_splits, tmp_path, split, other):
    """Nor by one that holds a part of it."""
    with pytest.raises(ConfigError, match="share 70 images, such as"):
        scored(two_splits, tmp_path / "p.csv", dataset="fer2013", split=split, calibrate_on=other)


def test_a_temperature_needs_probabilities(two_splits, tmp_path):
    """Labels have none."""
    images = read_dataset("fer2013", str(two_splits), split="private").images
    images += read_dataset("fer2013", str(two_splits), split="train").images
    table = labels_only(tmp_path / "l.csv", ["fear"] * 140, names=[image.name for image in images])
    with pytest.raises(ConfigError, match="holds labels and no probabilities"):
        scored(two_splits, table, dataset="fer2013", split="private", calibrate_on="train")


def test_the_split_that_predictions_lack_is_named(two_splits, tmp_path):
    """Of the split to fit on no image is found: the error says which split it speaks of; a part of it is counted."""
    private, train = (read_dataset("fer2013", str(two_splits), split=split).images for split in ("private", "train"))
    how = {"dataset": "fer2013", "split": "private", "calibrate_on": "train"}
    rows = certain([EMOTIONS[image.label] for image in (*private, *train)], share=0.5)
    names = [image.name for image in (*private, *train)]
    for number, end in ((0, 70), (1, 80)):
        lines = [",".join([name, *map(str, row)]) for name, row in zip(names[:end], rows, strict=False)]
        (tmp_path / f"{number}.csv").write_text("\n".join([f"path,{','.join(EMOTIONS)}", *lines]) + "\n")

    with pytest.raises(ConfigError, match=r"^the split 'train' of --calibrate-on: none of the 70 labelled images"):
        scored(two_splits, tmp_path / "0.csv", **how)
    scaling = scored(two_splits, tmp_path / "1.csv", **how).temperature_scaling
    assert (scaling.n, scaling.n_missed) == (10, 60)


def test_a_network_predicts_both_splits(two_splits, tmp_path):
    """Each into its own file; the second run of the command predicts nothing anew."""
    run = scored(
        two_splits,
        None,
        **{"dataset": "fer2013", "split": "private", "calibrate_on": "train", "out": str(tmp_path / "r")},
        model=ModelConfig(name="expression-net"),
    )
    assert run.temperature_scaling.n == 70
    assert {"predictions.parquet", "calibration.parquet"} <= {path.name for path in (tmp_path / "r").iterdir()}
    assert run.temperature_scaling.after["nll"].value < run.temperature_scaling.before["nll"].value
