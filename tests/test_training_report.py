"""What is said of a training: every figure, name and term arrives, and nothing that a name holds becomes markup."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from motivnet_cli.report.training import write_training
from motivnet_cli.training.result import Judged, put_in_store, validation_of
from motivnet_cli.weights.store import Store
from motivnet_cli.weights.training_record import FewShot, Figure, Parent, TrainingRecord
from tests.test_report import HOSTILE
from tests.trained import CLASSES, record, tiny_motivnet

LABELS = [0] * 6 + [1] * 4 + [2] * 2
ANSWERS = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]


def judged(**changes):
    """Twelve faces: five of six, two of four and two of two are named rightly."""
    answers = np.full((12, 3), 0.1)
    answers[np.arange(12), ANSWERS] = 0.8
    plain = Judged(
        classes=CLASSES,
        names=tuple(f"faces/{number}.jpg" for number in range(12)),
        labels=np.array(LABELS),
        probabilities=answers,
    )
    return replace(plain, **changes)


def written(folder, training, answers, name="mine"):
    """The texts of all pages of a training, by name, and what was stored."""
    store = Store(folder / "store")
    stored = put_in_store(name, tiny_motivnet(training.classes), training, store=store)
    paths = write_training(stored, answers, folder / "out")
    assert all(path.is_file() for path in paths)
    return {
        path.name: path.read_text("utf-8", "surrogateescape") for path in paths if "figures" not in path.parts
    }, stored


def wilson(hits, n):
    """Wilson's score interval as its paper has it: the roots of (p - hits / n)^2 = z^2 p (1 - p) / n."""
    z, share = 1.959963984540054, hits / n
    roots = np.roots([1 + z * z / n, -(2 * share + z * z / n), share * share])
    return sorted(roots.real.tolist())


# ---- figures ------------------------------------------------------------------------------------------------


def test_recalls_have_intervals_of_their_own():
    """Wilson's of the faces of each class; none for a class without a face."""
    found = judged(
        classes=(*CLASSES, "sneer"), probabilities=np.pad(judged().probabilities, ((0, 0), (0, 1)))
    ).recalls()

    for name, (hits, n) in zip(CLASSES, ((5, 6), (2, 4), (2, 2)), strict=True):
        low, high = wilson(hits, n)
        assert (found[name].value, found[name].method) == (hits / n, "wilson")
        assert (found[name].low, found[name].high) == pytest.approx((low, min(high, 1)))
    assert found["sneer"] is None


def test_recalls_of_few_people_vary_with_the_people():
    """Ten faces of one who is always named rightly, and two of one who never is: the shares are those of resamples."""
    labels = np.array([0] * 12)
    answers = np.array([[0.9, 0.1]] * 10 + [[0.2, 0.8]] * 2)
    found = Judged(
        classes=("a", "b"), names=("",) * 12, labels=labels, probabilities=answers, groups=["x"] * 10 + ["y"] * 2
    ).recalls()["a"]

    assert (found.value, found.low, found.high, found.method) == (10 / 12, 0, 1, "bootstrap")


def test_the_record_has_the_figures_of_the_answers():
    """By hand: 9 of 12, and the mean of 5/6, 2/4 and 2/2."""
    validation = validation_of(judged().scores(), "the validation faces", loss=0.5)

    assert validation.n == 12
    assert validation.figures["accuracy"].value == 9 / 12
    assert validation.figures["uar"].value == pytest.approx((5 / 6 + 2 / 4 + 1) / 3)
    assert validation.figures["nll"].value == pytest.approx(-(9 * math.log(0.8) + 3 * math.log(0.1)) / 12)
    assert validation.figures["loss"] == Figure(0.5)
    assert (
        validation.in_words
        == "Accuracy 75.0 % (46.8 to 91.1), UAR 77.8 % ({:.1f} to {:.1f}) on 12 faces: {}.".format(
            100 * validation.figures["uar"].low, 100 * validation.figures["uar"].high, "the validation faces"
        )
    )


# ---- pages --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    training = record(validation=validation_of(judged().scores(), record().validation.how))
    return written(tmp_path_factory.mktemp("pages"), training, judged())


@pytest.mark.thorough
def test_metrics_hold_the_record_and_the_figures(pages):
    texts, stored = pages
    content = json.loads(texts["metrics.json"])

    assert (content["schema_version"], content["model"], content["sha256"]) == (1, "mine", stored.sha256)
    assert TrainingRecord.from_json(content["training"]) == stored.training
    assert content["validation"]["scores"]["confusion"]["counts"] == [[5, 1, 0, 0], [0, 2, 2, 0], [0, 0, 2, 0]]
    assert [content["validation"]["recall"][name]["value"] for name in CLASSES] == [5 / 6, 2 / 4, 2 / 2]
    assert [each["name"] for each in content["validation"]["mistakes"]] == [f"faces/{n}.jpg" for n in (5, 8, 9)]


@pytest.mark.thorough
@pytest.mark.parametrize("page", ["report.html", "report.md", "model-card.md"])
def test_every_page_says_what_was_trained_on_what(pages, page):
    texts, stored = pages
    text = re.sub(r"\\(.)", r"\1", texts[page])

    training = stored.training
    for part in (
        *("mine", *CLASSES, training.command, training.tool, training.date[:10], stored.sha256, stored.terms),
        *("sapiens-1b", "a" * 64, "b" * 64, "20 % at random, seed 0", "no face was found"),
        *("Yawn has 25 faces, 5.6 times fewer than neutral.", *training.remarks),
        *("75.00", "77.78", "46.77", "91.11", "83.33", "batch_size", "AdamW"),
    ):
        assert part in text


@pytest.mark.thorough
def test_the_card_lies_beside_the_weights(pages):
    """And names the papers of what the model is made of, and what is forbidden."""
    texts, stored = pages
    card = texts["model-card.md"]

    assert Path(stored.path).with_name("model-card.md").read_text() == card
    assert re.findall(r"^## (.*)", card, flags=re.M) == [
        "Model details", "Intended use", "Training data", "Training procedure", "Evaluation", "Limits and terms",
        "How to use", "Reproduce", "Citation",
    ]  # fmt: skip
    assert "arXiv:2512.24231" in card
    assert "the EU AI Act, for\nexample, forbids it at work and in education" in card


@pytest.mark.thorough
def test_names_become_no_markup(tmp_path):
    """Of classes, data, settings, remarks, parents and faces, in every page."""
    classes = ("a", "<b>|$x$`")
    training = record(
        classes=classes,
        parents=(Parent(name=HOSTILE, sha256="a" * 64, role="start", terms=HOSTILE),),
        data=replace(record().data, name=HOSTILE, dropped={HOSTILE: 1}, remarks=(HOSTILE,), terms=HOSTILE),
        settings={HOSTILE: HOSTILE},
        remarks=(HOSTILE,),
        command=HOSTILE,
    )
    answers = Judged(
        classes=classes, names=(HOSTILE,) * 3, labels=np.array([0, 1, 1]), probabilities=np.eye(2)[[0, 0, 1]]
    )
    training = replace(training, data=replace(training.data, counts={"train": {"a": 2, "<b>|$x$`": 3}}))

    texts, _ = written(tmp_path, training, answers)

    assert "<script>" not in texts["report.html"]
    assert "<b>|" not in texts["report.html"]
    for page in ("report.md", "model-card.md"):
        lines = [line for line in texts[page].splitlines() if not line.startswith("    ")]
        assert "<" not in re.sub(r"\\.", "", "\n".join(lines))
    assert not any(mark in text for mark in "\x1b\u202e" for text in texts.values())


@pytest.mark.thorough
def test_a_head_has_its_curve_from_few_faces(tmp_path):
    """In place of epochs, of which it has none; its labels are people's."""
    few = tuple(
        FewShot(
            shots=shots, draws=7, figures={"accuracy": Figure(value, value - 0.1, value + 0.1), "uar": Figure(value)}
        )
        for shots, value in ((1, 0.4111), (50, 0.8222))
    )
    training = record(
        kind="head", validation=validation_of(judged().scores(), "2 folds"), history=(), best_epoch=None, few_shot=few
    )

    texts, _ = written(tmp_path, training, judged())

    assert {path.name for path in (tmp_path / "out" / "figures").iterdir()} == {
        f"{kind}.{suffix}"
        for kind in ("few_shot-training", "confusion-validation", "per_class-validation", "reliability-validation")
        for suffix in ("png", "svg")
    }
    for page in ("report.html", "report.md"):
        for part in ("41.11", "31.11", "51.11", "82.22"):
            assert part in texts[page]
        assert "Epochs" not in texts[page]
        assert "epochs as numbers" not in texts[page]


@pytest.mark.thorough
def test_a_student_is_measured_by_its_teacher(tmp_path):
    """No page calls its agreement an accuracy."""
    figures = {"agreement": Figure(0.75, 0.4677, 0.9111), "always": Figure(0.5), "kl": Figure(0.1234)}
    training = record(kind="student", validation=replace(record().validation, n=12, figures=figures))

    texts, stored = written(tmp_path, training, judged())

    assert "Agreement with the teacher 75.0 % (46.8 to 91.1)" in stored.training.validation.in_words
    for page in ("report.html", "report.md", "model-card.md"):
        for part in ("Agreement with the teacher", "Agreement by chance", "50.00", "0.123"):
            assert part in texts[page]
        assert "share named rightly" not in texts[page]
        assert "| Accuracy" not in texts[page]
