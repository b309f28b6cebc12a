"""Figures against votes are what scipy and a pencil say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import rel_entr
from scipy.stats import entropy

from motivnet_cli.evaluation.config import EvaluateConfig
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.evaluation.evaluate import evaluate
from motivnet_cli.evaluation.intervals import Units
from motivnet_cli.evaluation.soft import score_votes, vote_shares
from motivnet_cli.records import EMOTIONS
from tests.runs import motivnet
from tests.test_datasets import VOTES, make_ferplus_table, write


def drawn(n=200, *, seed=0):
    """Shares of votes, the majority's labels, predictions of which a tenth is missed, and their probabilities."""
    rng = np.random.default_rng(seed)
    shares = rng.multinomial(10, rng.dirichlet(np.ones(7) * 0.4, size=n)) / 10
    probabilities = rng.dirichlet(np.ones(7), size=n)
    predicted = probabilities.argmax(axis=1)
    predicted[::10] = -1
    probabilities[::10] = np.nan
    return shares, shares.argmax(axis=1), predicted, probabilities


def test_scipy_agrees():
    """Over the scored images, KL is the sum of rel_entr, and cross-entropy that and the entropy of the votes."""
    shares, labels, predicted, probabilities = drawn()
    scores = score_votes(shares, labels, predicted, probabilities, Units(None, 200, resamples=9))
    p, q = shares[predicted >= 0], probabilities[predicted >= 0]
    kl = rel_entr(p, q).sum(axis=1).mean()

    assert scores.scored["kl"].value == pytest.approx(kl)
    assert scores.scored["kl"].value == pytest.approx(entropy(p, q, axis=1).mean())
    assert scores.scored["cross_entropy"].value == pytest.approx(kl + entropy(p, axis=1).mean())
    assert scores.entropy == pytest.approx(entropy(p, axis=1).mean())
    for name in ("kl", "cross_entropy", "voter_agreement"):
        assert scores.scored[name].low < scores.scored[name].value < scores.scored[name].high
        assert scores.scored[name].method == "bootstrap"


def test_by_hand():
    """Three images of two classes, one missed: each figure from a calculator."""
    shares = np.array([[0.75, 0.25], [0.5, 0.5], [1, 0]])
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75], [np.nan, np.nan]])
    scores = score_votes(shares, np.array([0, 0, 0]), np.array([0, 1, -1]), probabilities, Units(None, 3, resamples=9))

    assert scores.scored["voter_agreement"].value == pytest.approx((0.75 + 0.5) / 2)
    assert scores.all["voter_agreement"].value == pytest.approx((0.75 + 0.5 + 0) / 3)
    assert scores.label_agreement == pytest.approx((0.75 + 0.5 + 1) / 3)
    assert scores.scored["cross_entropy"].value == pytest.approx((0.693147 + 0.836988) / 2, abs=1e-6)
    assert scores.scored["kl"].value == pytest.approx((0.130812 + 0.143841) / 2, abs=1e-6)
    assert scores.scored["soft_ece"].value == pytest.approx((abs(0.75 - 0.5) + abs(0.5 - 0.75)) / 2)
    assert [(bin_.n, bin_.confidence, bin_.accuracy) for bin_ in scores.reliability if bin_.n] == [
        (1, 0.5, 0.75),
        (1, 0.75, 0.5),
    ]


def test_the_probabilities_of_the_votes_themselves_are_perfect():
    """KL and the calibration error are 0, and cross-entropy is the entropy; the agreement is that of the labels."""
    shares, labels, _, _ = drawn()
    scores = score_votes(shares, labels, labels, shares, Units(None, 200, resamples=9))

    assert scores.scored["kl"].value == pytest.approx(0, abs=1e-12)
    assert scores.scored["soft_ece"].value == pytest.approx(0, abs=1e-12)
    assert scores.scored["cross_entropy"].value == pytest.approx(scores.entropy)
    assert scores.all["voter_agreement"].value == pytest.approx(scores.label_agreement)
    assert scores.remarks == ()


def test_what_cannot_be_had_is_none():
    """Labels only have an agreement; where all is missed there is none of the scored; one image has no interval."""
    shares, labels, predicted, probabilities = drawn()
    of_labels = score_votes(shares, labels, predicted, None, Units(None, 200, resamples=9))
    missed = score_votes(shares, labels, np.full(200, -1), np.full((200, 7), np.nan), Units(None, 200, resamples=9))
    one = score_votes(shares[1:2], labels[1:2], predicted[1:2], probabilities[1:2], Units(None, 1, resamples=9))

    assert list(of_labels.scored) == ["voter_agreement"]
    assert of_labels.reliability == ()
    assert (missed.all["voter_agreement"].value, missed.scored["kl"], missed.entropy) == (0, None, None)
    assert {each.low for each in one.scored.values()} == {None}


def test_a_probability_of_zero_is_said():
    """A class with votes that was given nothing makes KL as large as the floor allows."""
    shares = np.array([[0.5, 0.5], [1.0, 0.0]])
    scores = score_votes(shares, np.array([0, 0]), np.array([0, 0]), np.eye(2)[[0, 0]], Units(None, 2, resamples=9))

    assert "in 1 of the scored images" in scores.remarks[0]
    assert np.isfinite(scores.scored["kl"].value)


def test_shares_leave_out_single_votes_and_other_classes():
    """Nine of ten columns by hand: 5 happiness, 2 neutral, 1 fear, 1 unknown and 3 contempt."""
    votes = {"happiness": 5, "neutral": 2, "fear": 1, "unknown": 1, "contempt": 3}

    assert vote_shares([votes], EMOTIONS).tolist() == [[2 / 7, 5 / 7, 0, 0, 0, 0, 0]]
    assert vote_shares([votes], (*EMOTIONS, "contempt")).tolist() == [[0.2, 0.5, 0, 0, 0, 0, 0, 0.3]]


def votes_and_predictions(root):
    """FERPlus' table of four test images with votes by hand, and predictions for them by its names."""
    votes = ["6,2,0,0,0,0,0,2,0,0", "0,9,1,0,0,0,0,0,0,0", "0,0,0,7,3,0,0,0,0,0", "0,0,0,0,0,0,3,7,0,0"]
    lines = [f"PrivateTest,fer{row + 7:07}.png,{each}" for row, each in enumerate(votes)]
    write(root / "fer2013new.csv", "\n".join([VOTES, *lines]))
    write(root / "fer2013.csv", "emotion,pixels,Usage\n" + "6,7,PrivateTest\n" * 4)
    names = [f"fer{row + 7:07}.png" for row in range(4)]
    rows = [(0.6, 0.4), (0.1, 0.9), (0.5, 0.5), (0.5, 0.5)]
    lines = [f"{name},{a},{b},0,0,0,0,0" for name, (a, b) in zip(names, rows, strict=True)]
    write(root / "p.csv", "\n".join([f"path,{','.join(EMOTIONS)}", *lines]))
    return root / "p.csv"


def test_ferplus_is_scored_against_its_votes(tmp_path):
    """The votes come from the list, of the images that have a label; with contempt they are eight."""
    table = votes_and_predictions(tmp_path)
    how = {"dataset": "ferplus", "root": str(tmp_path), "out": str(tmp_path / "r"), "predictions": str(table)}
    ((seven,),) = (each.runs for each in evaluate([EvaluateConfig(**how, resamples=9)]))
    ((eight,),) = (each.runs for each in evaluate([EvaluateConfig(**how, resamples=9, contempt=True)]))

    # happiness has no vote in 2 and 3; neutral, the predicted of the first, 6 of 8, and 6 of 10 with contempt's two.
    assert seven.scores.n == 3
    assert seven.soft.all["voter_agreement"].value == pytest.approx((6 / 8 + 1 + 0) / 3)
    assert eight.soft.all["voter_agreement"].value == pytest.approx((6 / 10 + 1 + 0 + 0) / 4)
    assert seven.soft.label_agreement == pytest.approx((6 / 8 + 1 + 7 / 10) / 3)
    ((mapped,),) = (each.runs for each in evaluate([EvaluateConfig(**how, resamples=9, label_map={"sadness": "fear"})]))
    assert mapped.soft is None


def test_votes_reach_the_page(tmp_path):
    """Both pages have their table; a set without votes has none."""
    table = votes_and_predictions(tmp_path)
    given = ("--dataset", "ferplus", "--root", tmp_path, "--predictions", table, "--resamples", 9, "--no-images")
    motivnet("evaluate", *given, "--out", tmp_path / "r")

    assert "<h3>Against the annotators' votes</h3>" in (tmp_path / "r" / "report.html").read_text()
    assert "Agreement with annotators | 58.33" in (tmp_path / "r" / "report.md").read_text()


def test_every_image_of_ferplus_has_votes(tmp_path):
    """As many as the columns say, of the table's layout."""
    (tmp_path / "set").mkdir()
    make_ferplus_table(tmp_path / "set")
    images = read_dataset("ferplus", str(tmp_path / "set")).images

    assert {tuple(sorted(image.votes.values()))[-2:] for image in images} == {(2, 8)}
    assert all(image.votes[EMOTIONS[image.label]] == 8 for image in images)
