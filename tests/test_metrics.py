"""Figures are what other libraries and a pencil say, and intervals hold what they promise."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from motivnet_cli.evaluation.metrics import calibration, paired, score
from motivnet_cli.evaluation.results import Agreement, to_json
from motivnet_cli.records import EMOTIONS

C = len(EMOTIONS)


@pytest.fixture(scope="module")
def made():
    """600 labelled images, predicted better than by chance, one in ten missed."""
    rng = np.random.default_rng(5)
    labels = rng.choice(C, size=600, p=[0.3, 0.25, 0.15, 0.1, 0.1, 0.06, 0.04])
    logits = rng.normal(size=(600, C)) * 1.5
    logits[np.arange(600), labels] += 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    is_missed = rng.random(600) < 0.1
    predicted[is_missed] = -1
    probabilities[is_missed] = np.nan
    return SimpleNamespace(
        labels=labels,
        predicted=predicted,
        probabilities=probabilities,
        is_scored=~is_missed,
        scores=score(labels, predicted, probabilities, resamples=100),
    )


def value(interval):
    return interval.value


# ---- values -----------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_torchmetrics_agrees_over_the_scored(made):
    """Each figure over the scored images is what torchmetrics computes."""
    tm = pytest.importorskip("torchmetrics.functional")
    target = torch.tensor(made.labels[made.is_scored])
    probabilities = torch.tensor(made.probabilities[made.is_scored])
    about = {"target": target, "num_classes": C, "task": "multiclass"}
    expected = {
        "accuracy": tm.accuracy(probabilities, **about, average="micro"),
        "uar": tm.recall(probabilities, **about, average="macro"),
        "macro_f1": tm.f1_score(probabilities, **about, average="macro"),
        "weighted_f1": tm.f1_score(probabilities, **about, average="weighted"),
        "top2_accuracy": tm.accuracy(probabilities, **about, average="micro", top_k=2),
        "kappa": tm.cohen_kappa(probabilities, **about),
        "auroc_macro": tm.auroc(probabilities, **about, average="macro"),
        "ece": tm.calibration_error(probabilities, **about, n_bins=15, norm="l1"),
    }

    assert {name: value(made.scores.scored[name]) for name in expected} == pytest.approx(
        {name: float(each) for name, each in expected.items()}, abs=1e-6
    )


def test_scikit_learn_agrees_where_it_was_not_asked(made):
    """Top-2 accuracy, and balanced accuracy for UAR, are scikit-learn's; the Brier score is its formula's."""
    labels, probabilities = made.labels[made.is_scored], made.probabilities[made.is_scored]
    scored = made.scores.scored

    assert value(scored["top2_accuracy"]) == sk.top_k_accuracy_score(labels, probabilities, k=2, labels=range(C))
    assert value(scored["uar"]) == pytest.approx(sk.balanced_accuracy_score(labels, probabilities.argmax(axis=1)))
    assert value(scored["brier"]) == pytest.approx(((probabilities - np.eye(C)[labels]) ** 2).sum(axis=1).mean())


@pytest.mark.thorough
def test_torchmetrics_agrees_per_class(made):
    """Precision, recall, F1 and AUROC of each class over the scored images are torchmetrics'."""
    tm = pytest.importorskip("torchmetrics.functional")
    target, probabilities = torch.tensor(made.labels[made.is_scored]), torch.tensor(made.probabilities[made.is_scored])
    about = {"target": target, "num_classes": C, "task": "multiclass", "average": "none"}
    functions = {"precision": tm.precision, "recall": tm.recall, "f1": tm.f1_score, "auroc": tm.auroc}

    for name, function in functions.items():
        ours = [getattr(each, name) for each in made.scores.per_class_scored]
        assert ours == pytest.approx(function(probabilities, **about).tolist(), abs=1e-6), name


@pytest.mark.parametrize("n", [600, 15], ids=["all classes in each resample", "classes come and go"])
@pytest.mark.parametrize("seed", range(4))
def test_the_resampled_formulas_are_the_ones_of_the_values(made, n, seed):
    """With one resample an interval is its figure: that of the drawn images, each as often as it was drawn."""
    labels, predicted, probabilities = made.labels[:n], made.predicted[:n], made.probabilities[:n]
    drawn = np.random.default_rng(seed).integers(n, size=n)
    once = score(labels, predicted, probabilities, resamples=1, seed=seed)
    again = score(labels[drawn], predicted[drawn], probabilities[drawn], resamples=1)

    for resampled, expected in ((once.all, again.all), (once.scored, again.scored)):
        for name in resampled.keys() - {"ece"}:  # its interval is moved to lie around the value
            if expected[name] is not None:
                assert resampled[name].low == resampled[name].high
                assert resampled[name].low == pytest.approx(value(expected[name])), name


def test_the_resampled_calibration_error_is_that_of_the_values(made):
    """Of two resamples, the interval is as wide as 95 % of the difference of their calibration errors."""
    rng = np.random.default_rng(7)
    eces = []
    for _ in range(2):
        drawn = rng.integers(600, size=600)
        again = score(made.labels[drawn], made.predicted[drawn], made.probabilities[drawn], resamples=1)
        eces.append(value(again.scored["ece"]))
    ece = score(made.labels, made.predicted, made.probabilities, resamples=2, seed=7).scored["ece"]

    assert ece.high - ece.low == pytest.approx(0.95 * abs(eces[0] - eces[1]))
    assert (ece.high + ece.low) / 2 == pytest.approx(value(ece))


def test_by_hand():
    """Six images worked out on paper: two classes, one confusion, one miss."""
    #         neutral: right, right, missed; happiness: right, wrong (neutral), right
    scores = score([0, 0, 0, 1, 1, 1], [0, 0, -1, 1, 0, 1], None, resamples=10)

    assert (scores.n, scores.n_scored) == (6, 5)
    assert {name: value(each) for name, each in scores.all.items() if each} == pytest.approx(
        {
            "accuracy": 4 / 6,
            "uar": (2 / 3 + 2 / 3) / 2,
            "macro_f1": (2 * 2 / (3 + 3) + 2 * 2 / (3 + 2)) / 2,
            "weighted_f1": (2 * 2 / (3 + 3) + 2 * 2 / (3 + 2)) / 2,
            "kappa": (4 / 6 - (3 * 3 + 3 * 2) / 36) / (1 - (3 * 3 + 3 * 2) / 36),
        }
    )
    assert value(scores.scored["accuracy"]) == pytest.approx(4 / 5)
    assert value(scores.scored["uar"]) == pytest.approx((1 + 2 / 3) / 2)
    assert scores.confusion.counts[0] == (2, 0, 0, 0, 0, 0, 0, 1)
    assert scores.confusion.counts[1] == (1, 2, 0, 0, 0, 0, 0, 0)
    assert sum(map(sum, scores.confusion.counts)) == 6


def test_calibration_by_hand():
    """ECE weighs |confidence - accuracy| of each bin by its share; a bin's upper edge belongs to it."""
    rows = np.full((4, C), np.nan)
    for row, confidence in enumerate((0.8, 0.8, 0.8, 1.0)):
        rows[row] = [confidence, *[(1 - confidence) / 6] * 6]
    scores = score([0, 0, 1, 0], [0, 0, 0, 0], rows, resamples=10)
    full = {number: each for number, each in enumerate(scores.reliability) if each.n}

    assert value(scores.scored["ece"]) == pytest.approx(3 / 4 * abs(0.8 - 2 / 3))
    assert {number: each.n for number, each in full.items()} == {11: 3, 14: 1}
    assert (full[11].low, full[11].high) == pytest.approx((11 / 15, 12 / 15))
    assert (full[11].confidence, full[11].accuracy) == pytest.approx((0.8, 2 / 3))
    assert calibration(scores.reliability) == pytest.approx((4, 0.85, 3 / 4))


def test_ties_count_half_in_auroc_and_go_to_the_lower_id_in_top_2():
    """With flat probabilities nothing is told apart: AUROC is 0.5 in every resample, and top-2 are ids 0 and 1."""
    labels = [0, 1, 1, 2, 3, 4, 5, 6]
    scores = score(labels, [0] * 8, np.full((8, C), 1 / C), resamples=20)
    auroc = scores.scored["auroc_macro"]

    assert (auroc.value, auroc.low, auroc.high) == (0.5, 0.5, 0.5)
    assert value(scores.all["top2_accuracy"]) == 3 / 8


# ---- misses and what is undefined -------------------------------------------------------------------------


def test_a_miss_is_wrong_in_all_and_absent_in_scored(made):
    """Missing more of the right answers lowers `all`, and leaves `scored` to those that remain."""
    everything = score(made.labels, np.where(made.is_scored, made.labels, -1), None, resamples=5)

    assert value(everything.all["accuracy"]) == made.is_scored.mean()
    assert value(everything.scored["accuracy"]) == 1
    assert [row[-1] for row in everything.confusion.counts] == np.bincount(
        made.labels[~made.is_scored], minlength=C
    ).tolist()
    precisions = [each.precision for each in everything.per_class]
    assert precisions == [1.0] * C, "a miss is a prediction of nothing, so it costs no class its precision"


def test_classes_without_support_are_left_out_of_means():
    """UAR and macro-F1 are means over the classes in the labels; predicting another class only costs recall."""
    scores = score([0, 0, 1, 1], [0, 5, 1, 1], None, resamples=20)
    disgust, fear = scores.per_class[5], scores.per_class[4]

    assert value(scores.all["uar"]) == (0.5 + 1) / 2
    assert value(scores.all["macro_f1"]) == pytest.approx((2 / 3 + 1) / 2)
    assert (disgust.support, disgust.precision, disgust.recall, disgust.f1) == (0, 0.0, None, None)
    assert (fear.support, fear.precision, fear.recall, fear.f1) == (0, None, None, None)


def test_json_holds_null_and_never_nan(made):
    """The JSON of full, label-only, one-class and all-missed scores is strict JSON with the same keys throughout."""
    cases = [
        made.scores,
        score(made.labels, made.predicted, None, resamples=5),
        score([2, 2], [2, 2], np.eye(C)[[2, 2]], resamples=5),
        score([2, 3], [-1, -1], np.full((2, C), np.nan), resamples=5),
    ]
    texts = [to_json(each) for each in cases]

    for text in texts:
        json.dumps(text, allow_nan=False)
        assert text.keys() == texts[0].keys()
        assert text["all"].keys() == texts[0]["all"].keys()
        assert text["scored"].keys() == texts[0]["scored"].keys()
        assert text["n_missed"] == text["n"] - text["n_scored"]
    assert texts[1]["scored"]["ece"] is texts[1]["all"]["top2_accuracy"] is None
    assert texts[2]["all"]["kappa"] == {"value": None, "low": None, "high": None}
    assert texts[3]["scored"]["accuracy"] is None
    assert texts[3]["all"]["accuracy"] == {"value": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.parametrize(
    ("labels", "predicted", "probabilities", "message"),
    [
        ([], [], None, "of one length, at least 1"),
        ([0, 1], [0], None, "of one length"),
        ([0, 7], [0, 1], None, "labels must lie between 0 and 6"),
        ([0, 1], [0, -2], None, "predictions must lie between -1 and 6"),
        ([0.0, 1.0], [0, 1], None, "labels must be whole numbers"),
        ([0, 1], [0, 1], np.ones((2, 6)) / 6, "must be of shape"),
        ([0, 1], [-1, 1], np.full((2, C), 0.5), "row 1 is none"),
        ([0, 1], [0, 1], np.full((2, C), np.nan), "row 0 is none"),
    ],
)
def test_refuses_what_it_cannot_score(labels, predicted, probabilities, message):
    """Wrong lengths, ids, shapes and rows that are no distribution are named."""
    with pytest.raises(ValueError, match=message):
        score(labels, predicted, probabilities)


# ---- intervals --------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_intervals(made):
    """Intervals repeat to the last bit under one seed, and move under another."""

    def again(seed):
        scores = score(made.labels, made.predicted, made.probabilities, resamples=70, seed=seed)
        return json.dumps(to_json(scores))

    assert again(3) == again(3) != again(4)


def test_every_headline_has_an_interval_around_it(made):
    """low < value < high for each figure of both denominators."""
    for each in [*made.scores.all.values(), *made.scores.scored.values()]:
        assert each.low < each.value < each.high


def coverage(hit_rows, truth, groups=None):
    """How often the interval of accuracy holds the truth."""
    inside = 0
    for seed, hits in enumerate(hit_rows):
        labels = np.zeros(len(hits), int)
        accuracy = score(labels, np.where(hits, 0, 1), None, groups=groups, resamples=150, seed=seed).all["accuracy"]
        inside += accuracy.low <= truth <= accuracy.high
    return inside / len(hit_rows)


@pytest.mark.thorough
def test_the_interval_covers_a_known_rate():
    """Of 95 % intervals around Bernoulli(0.7) samples of 300, about 95 % hold 0.7."""
    hits = np.random.default_rng(11).random((100, 300)) < 0.7

    assert 0.90 <= coverage(hits, 0.7) <= 0.99


@pytest.mark.thorough
def test_the_interval_by_subject_covers_where_that_by_image_does_not():
    """Ten images a subject that are all right or all wrong: only drawing subjects gives 95 %."""
    hits = np.repeat(np.random.default_rng(12).random((50, 40)) < 0.7, 10, axis=1)
    subjects = [f"S{number // 10}" for number in range(400)]

    assert coverage(hits, 0.7, subjects) >= 0.88
    assert coverage(hits, 0.7) <= 0.7


def test_subjects_are_drawn_whole(made):
    """One subject an image is the bootstrap by image; one subject for all has no spread; None is a subject alone."""

    def interval(groups):
        scores = score(made.labels, made.predicted, None, groups=groups, resamples=50)
        return scores.bootstrap.unit, scores.bootstrap.units, scores.all["accuracy"].low, scores.all["accuracy"].high

    images = interval(None)

    assert images[:2] == ("image", 600)
    assert interval(list(range(600)))[1:] == interval([None] * 600)[1:] == images[1:]
    assert interval(["S1"] * 600) == ("subject", 1, None, None)


# ---- paired -----------------------------------------------------------------------------------------------


def test_paired_by_hand():
    """Ten images: the table, both accuracies, and McNemar's exact p of 1 against 5 disagreements, 2 (1 + 6) / 64."""
    a = [0, 0, 0, 0, 1, 1, 1, 1, 1, -1]
    b = [0, 0, 0, 1, 0, 0, 0, 0, 0, -1]
    both = paired([0] * 10, a, b, resamples=50).all

    assert both.table == Agreement(both=3, only_a=1, only_b=5, neither=1)
    assert (both.accuracy_a, both.accuracy_b) == (0.4, 0.8)
    assert both.difference.value == pytest.approx(-0.4)
    assert both.difference.low < -0.4 < both.difference.high
    assert both.mcnemar_p == pytest.approx(2 * (1 + 6) / 64)


def test_paired_counts_misses_as_wrong_and_once_not_at_all():
    """What one missed stands against it over all images, and is left out of those that both scored."""
    result = paired([0, 0, 0, 0], [0, 0, -1, -1], [0, 1, 0, -1], resamples=20)

    assert (result.all.n, result.all.accuracy_a, result.all.accuracy_b) == (4, 0.5, 0.5)
    assert (result.both_scored.n, result.both_scored.accuracy_a, result.both_scored.accuracy_b) == (2, 1.0, 0.5)
    assert paired([0, 0], [-1, 0], [0, -1], resamples=5).both_scored is None


def test_paired_of_the_same():
    """Predictions against themselves: no difference, no spread, p = 1."""
    comparison = paired([0, 1, 2], [0, 1, 1], [0, 1, 1], resamples=20).all

    assert comparison.mcnemar_p == 1
    assert (comparison.difference.value, comparison.difference.low, comparison.difference.high) == (0, 0, 0)
