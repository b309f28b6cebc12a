"""What `motivnet evaluate` says of scores beyond accuracy: intervals that cannot be had, calibration, classes."""

from __future__ import annotations

import csv
import json

import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.evaluation.evaluate import EvaluateConfig, evaluate
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
        **{"dataset": "csv", "root": str(root), "out": str(root.parent / "r"), "predictions": str(predictions)},
        **{"resamples": 9, **options},
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

        assert (cells["uar"], cells["uar_95%"], cells["macro_f1_95%"]) == ("1.0000", "", "")
        assert cells["accuracy_95%"] == ("0.2065-1.0000" if name == "image" else "")
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
    comparison = json.loads(motivnet("compare", "predictions", table, table, *given).stdout)

    assert "eighth class" in (tmp_path / "r" / "report.md").read_text()
    assert json.loads((tmp_path / "r" / "metrics.json").read_text())["dataset"]["counts"]["contempt"] == 3
    assert (comparison["all"]["n"], comparison["dataset"]["classes"][7]) == (24, "contempt")


def test_a_set_without_contempt_refuses_it(tmp_path):
    """Scored with an eighth class it would pass for a figure of eight classes."""
    root = table_of_set(tmp_path / "set", EMOTIONS)
    with pytest.raises(ConfigError, match="no image of contempt is in the split 'all': leave out --contempt"):
        read_dataset("csv", str(root), contempt=True)
