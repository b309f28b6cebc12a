"""Figures are what other libraries and a pencil say, and intervals hold what they promise."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn import metrics as sk

from motivnet_cli.evaluation.intervals import wilson
from motivnet_cli.evaluation.metrics import calibration, paired, score
from motivnet_cli.evaluation.results import Agreement, Interval, to_json
from motivnet_cli.records import EMOTIONS
from tests.agreement import assert_same_figures
from tests.interval_coverage import CASES

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
    """Top-2 accuracy, NLL, and balanced accuracy for UAR, are scikit-learn's; the Brier score is its formula's."""
    labels, probabilities = made.labels[made.is_scored], made.probabilities[made.is_scored]
    scored = made.scores.scored

    assert value(scored["top2_accuracy"]) == sk.top_k_accuracy_score(labels, probabilities, k=2, labels=range(C))
    assert value(scored["uar"]) == pytest.approx(sk.balanced_accuracy_score(labels, probabilities.argmax(axis=1)))
    assert value(scored["nll"]) == pytest.approx(sk.log_loss(labels, probabilities, labels=range(C)))
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
    """Of two resamples, an interval ends 2.5 % within their figures: those of the drawn images."""
    labels, predicted, probabilities = made.labels[:n], made.predicted[:n], made.probabilities[:n]
    resampled = score(labels, predicted, probabilities, resamples=2, seed=seed)
    rng = np.random.default_rng(seed)
    again = []
    for drawn in (rng.integers(n, size=n), rng.integers(n, size=n)):
        again.append(score(labels[drawn], predicted[drawn], probabilities[drawn], resamples=1))

    for over in ("all", "scored"):
        for name, interval in getattr(resampled, over).items():
            ends = sorted(value(getattr(each, over)[name]) for each in again if interval)
            if interval and interval.method == "bootstrap" and name != "ece":  # it is moved to lie around the value
                inside = 0.025 * (ends[1] - ends[0])
                assert (interval.low, interval.high) == pytest.approx((ends[0] + inside, ends[1] - inside)), name


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
    """With flat probabilities nothing is told apart: AUROC is 0.5 in every resample, and top-2 are ids 0 and 1.

    What is the same in every resample has no interval.
    """
    labels = [0, 1, 1, 2, 3, 4, 5, 6]
    scores = score(labels, [0] * 8, np.full((8, C), 1 / C), resamples=20)
    auroc = scores.scored["auroc_macro"]

    assert auroc == Interval(0.5, None, None)
    assert value(scores.all["top2_accuracy"]) == 3 / 8


def test_of_equals_the_predicted_class_is_in_the_top_2():
    """A tool's label may have decided which; the other of the two is the lowest id, and there are no three."""
    tied = np.array([[1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0]] * 3)

    assert value(score([2, 2, 2], [2, 2, 2], tied, resamples=5).all["top2_accuracy"]) == 1
    assert value(score([0, 1, 2], [2, 2, 2], tied, resamples=5).all["top2_accuracy"]) == 2 / 3


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
    assert texts[2]["all"]["kappa"] == {"value": None, "low": None, "high": None, "method": None}
    assert texts[3]["scored"]["accuracy"] is None
    assert texts[3]["all"]["accuracy"] == {
        "value": 0.0,
        "low": 0.0,
        "high": pytest.approx(0.657620, abs=1e-6),
        "method": "wilson",
    }


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


def test_wilson_is_that_of_statsmodels():
    """For every count of hits among 1, 2, 10 and 301 images."""
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for n in (1, 2, 10, 301):
        for hits in range(n + 1):
            expected = proportion.proportion_confint(hits, n, method="wilson")
            assert wilson(hits, n) == pytest.approx(expected, abs=1e-12)


def test_all_right_is_not_100_to_100():
    """By image Wilson's interval reaches down; by subject the exact one of as many images as there are subjects."""
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    labels = [0, 1] * 20
    by_image = score(labels, labels, None, resamples=9).all
    by_subject = score(labels, labels, None, groups=[n // 4 for n in range(40)], resamples=9).all
    low, high = proportion.proportion_confint(40, 40, method="wilson")

    assert by_image["accuracy"] == Interval(1.0, pytest.approx(low), pytest.approx(high), "wilson")
    assert by_subject["accuracy"] == Interval(
        1.0, pytest.approx(proportion.proportion_confint(10, 10, method="beta")[0]), 1.0, "exact"
    )
    for name in ("uar", "macro_f1", "weighted_f1", "kappa"):
        assert by_image[name] == by_subject[name] == Interval(1.0, None, None), name


def test_all_wrong_by_subject_mirrors_all_right():
    """No subject has an image right: the interval of all right, turned round."""
    groups = [n // 4 for n in range(40)]
    right, wrong = (score([0] * 40, [p] * 40, None, groups=groups, resamples=9).all["accuracy"] for p in (0, 1))

    assert (wrong.value, wrong.low, wrong.high) == pytest.approx((0, 0, 1 - right.low))


def test_the_exact_interval_counts_the_subjects_that_are_scored():
    """Of ten subjects two have predictions, all right: the interval over the scored is that of two images."""
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    groups = [n // 4 for n in range(40)]
    scored = score([0] * 40, [0] * 8 + [-1] * 32, None, groups=groups, resamples=9).scored["accuracy"]

    low, _ = proportion.proportion_confint(2, 2, method="beta")
    assert (scored.value, scored.low, scored.method) == (1.0, pytest.approx(low), "exact")


def test_what_is_the_same_up_to_rounding_has_no_interval():
    """Every image right with 0.9: Brier score and NLL are those of each image, whatever is drawn."""
    rows = np.full((50, C), 0.1 / 6)
    rows[np.arange(50), np.arange(50) % C] = 0.9
    scored = score(np.arange(50) % C, np.arange(50) % C, rows, resamples=20).scored

    assert scored["nll"] == Interval(pytest.approx(-np.log(0.9)), None, None)
    assert (scored["brier"].low, scored["ece"].low) == (None, None)


def test_one_image_has_what_can_be_had():
    """Wilson's interval needs no second image; of all other figures there is a value and no interval."""
    scores = score([3], [3], np.eye(C)[[3]], resamples=9)
    one_subject = score([3, 3], [3, 2], np.eye(C)[[3, 2]], groups=["S1", "S1"], resamples=9)

    assert scores.all["accuracy"] == Interval(1.0, pytest.approx(0.2065, abs=1e-4), 1.0, "wilson")
    assert {each.method for name, each in scores.scored.items() if name not in ("accuracy", "top2_accuracy")} == {None}
    assert {each.method for each in [*one_subject.all.values(), *one_subject.scored.values()]} == {None}
    assert "one image in all" in scores.remarks[-1]
    assert any("one subject in all" in remark for remark in one_subject.remarks)


def test_small_classes_are_named(made):
    """Classes of nine images and fewer, but for those without any."""
    labels = [0] * 50 + [1] * 10 + [2] * 9 + [3]
    (remark,) = score(labels, labels, None, resamples=2).remarks

    assert remark.startswith("fewer than 10 labels of sadness (9), surprise (1): ")
    assert made.scores.remarks == ()


def test_a_probability_of_zero_has_a_floor_that_is_said():
    """A label that was given 0 costs 36.04 in NLL, and how often is a remark."""
    rows = np.eye(C)[[0, 0, 1]]
    scores = score([0, 1, 1], [0, 0, 1], rows, resamples=9)

    assert value(scores.scored["nll"]) == pytest.approx(-np.log(np.finfo(float).eps) / 3)
    assert any("in 1 of the scored images" in remark for remark in scores.remarks)


def test_eight_classes_are_scored_as_seven_are(made):
    """A class that never occurs changes no figure over all; one that does is the eighth of the matrix."""
    eight = np.hstack([made.probabilities, np.zeros((600, 1))])
    scores = score(made.labels, made.predicted, eight, classes=(*EMOTIONS, "contempt"), resamples=100)

    assert_same_figures(to_json(scores.all), to_json(made.scores.all))
    assert_same_figures(to_json(scores.scored), to_json(made.scores.scored))
    assert np.array(scores.confusion.counts).shape == (8, 9)
    assert scores.per_class[7].class_ == "contempt"
    labels = [*made.labels[:-1], 7]
    other = score(labels, made.predicted, eight, classes=(*EMOTIONS, "contempt"), resamples=2)
    assert other.per_class[7].support == 1
    with pytest.raises(ValueError, match="labels must lie between 0 and 6"):
        score(labels, made.predicted, made.probabilities)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "least"),
    [
        ("seven uneven classes, N = 500", 0.90),
        ("accuracy, rate 0.98, N = 100", 0.93),
        ("10 subjects of 20 images, rates Beta(7, 3)", 0.85),
        ("40 subjects of 20 images, rates Beta(7, 3)", 0.90),
        ("40 subjects, each all right (70 %) or all wrong", 0.90),
        ("20 subjects, each all right (98 %) or all wrong", 0.95),
        ("votes, N = 300", 0.90),
    ],
)
def test_intervals_hold_the_truth(case, least):
    """As often as docs/metrics.md says, or so: fewer of 80 than one in 10,000 such simulations would have."""
    function, how = CASES[case]
    shares = function(80, **how)

    assert min(shares.values()) >= binom.ppf(1e-4, 80, least) / 80, shares


def test_subjects_that_are_taken_for_images_have_too_narrow_an_interval():
    """Why subjects are drawn: of images that stand and fall together, the interval by image is a third as wide."""
    hits = np.repeat(np.random.default_rng(12).random(40) < 0.7, 10)
    labels, predicted = np.zeros(400, int), np.where(hits, 0, 1)
    by_image = score(labels, predicted, None, resamples=200).all["accuracy"]
    by_subject = score(labels, predicted, None, groups=np.arange(400) // 10, resamples=200).all["accuracy"]

    assert (by_subject.high - by_subject.low) / (by_image.high - by_image.low) == pytest.approx(np.sqrt(10), rel=0.15)


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
    """Predictions against themselves: no difference, p = 1, and nothing that an interval could be made of."""
    comparison = paired([0, 1, 2], [0, 1, 1], [0, 1, 1], resamples=20).all

    assert comparison.mcnemar_p == 1
    assert comparison.difference == Interval(0, None, None)
