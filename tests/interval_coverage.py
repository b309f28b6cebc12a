"""How often intervals hold the truth, by simulation: `python -m tests.interval_coverage` gives docs/metrics.md's table.

Each case draws samples of which the truth is known, and counts the intervals that hold it.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
from scipy.special import softmax

from motivnet_cli.evaluation.intervals import Units, percentile
from motivnet_cli.evaluation.metrics import score
from motivnet_cli.evaluation.results import CorruptedRun
from motivnet_cli.evaluation.robustness import robustness
from motivnet_cli.evaluation.soft import score_votes

PRIORS = (0.30, 0.25, 0.15, 0.10, 0.10, 0.06, 0.04)
"""Of seven uneven classes."""
RESAMPLES = 200


def classified(rng, n, strength=2.0):
    """Labels of uneven classes, and the probabilities of a network that has half of them right, or with 5.5 98 %."""
    labels = rng.choice(7, size=n, p=PRIORS)
    logits = rng.normal(size=(n, 7)) * 1.5
    logits[np.arange(n), labels] += strength
    return labels, softmax(logits, axis=1)


def images(num_samples, *, n=500, strength=2.0):
    """Every figure but the calibration error, whose interval is not one of its truth; by image."""
    rng = np.random.default_rng(1)
    truth = scored_figures(*classified(rng, 200_000, strength), resamples=2)
    return held(
        (scored_figures(*classified(rng, n, strength), resamples=RESAMPLES, seed=seed) for seed in range(num_samples)),
        {name: interval.value for name, interval in truth.items() if name != "ece"},
    )


def within_classes(num_samples, *, n):
    """The UAR, were the images drawn class by class, which is not done: each class keeps its number of images."""
    rng = np.random.default_rng(1)
    labels, probabilities = classified(rng, 200_000)
    truth = np.mean([(probabilities[labels == c].argmax(axis=1) == c).mean() for c in range(7)])
    intervals = []
    for _ in range(num_samples):
        labels, probabilities = classified(rng, n)
        hits = [probabilities[labels == c].argmax(axis=1) == c for c in np.unique(labels)]
        recalls = [rng.binomial(len(each), each.mean(), size=RESAMPLES) / len(each) for each in hits]
        intervals.append({"uar": percentile(0.0, np.mean(recalls, axis=0))})
    return held(intervals, {"uar": truth})


def scored_figures(labels, probabilities, **how):
    return score(labels, probabilities.argmax(axis=1), probabilities, **how).scored


def held(samples, truth):
    """Figure -> share of the samples whose interval holds its truth; a sample without an interval holds nothing."""
    counts, num_samples = Counter(), 0
    for figures in samples:
        num_samples += 1
        for name, value in truth.items():
            counts[name] += figures[name].low is not None and figures[name].low <= value <= figures[name].high
    return {name: counts[name] / num_samples for name in truth}


def accuracy(hits, subjects=None, **how):
    """The interval of the accuracy of images [N] that are right or wrong."""
    return score(np.zeros(len(hits), int), np.where(hits, 0, 1), None, groups=subjects, **how).all


def proportions(num_samples, *, n, rate):
    """Wilson's interval of the accuracy of n images."""
    hits = np.random.default_rng(2).random((num_samples, n)) < rate
    units = Units(None, n, resamples=2)
    intervals = ({"accuracy": units.proportion(each, np.zeros(0))} for each in hits)
    return held(intervals, {"accuracy": rate})


def subjects(num_samples, *, num_subjects, rates, images_each=20, truth, by_subject=True):
    """The accuracy by subject, whose rates are drawn; or, for comparison, as if the images were of many."""
    rng = np.random.default_rng(3)
    names = np.repeat(np.arange(num_subjects), images_each)
    samples = []
    for seed in range(num_samples):
        hits = rng.random(len(names)) < np.repeat(rates(rng, num_subjects), images_each)
        samples.append(accuracy(hits, names if by_subject else None, resamples=RESAMPLES, seed=seed))
    return held(samples, {"accuracy": truth})


def beta(rng, n):
    """Rates of subjects that differ, 0.7 on average."""
    return rng.beta(7, 3, size=n)


def all_or_nothing(rate):
    return lambda rng, n: (rng.random(n) < rate).astype(float)


def votes(num_samples, *, n=300):
    """Every figure against votes but the calibration error."""
    rng = np.random.default_rng(4)

    def drawn(n, **how):
        labels, probabilities = classified(rng, n)
        shares = rng.multinomial(10, 0.7 * np.eye(7)[labels] + 0.3 / 7) / 10
        units = Units(None, n, **how)
        return score_votes(shares, labels, probabilities.argmax(axis=1), probabilities, units).scored

    truth = {name: each.value for name, each in drawn(200_000, resamples=2).items() if name != "soft_ece"}
    return held((drawn(n, resamples=RESAMPLES, seed=seed) for seed in range(num_samples)), truth)


def corruptions(num_samples, *, n=200):
    """The means of accuracies under corruption; what one run has wrong, the others have wrong more often, too."""
    rng = np.random.default_rng(8)
    rates = np.array([0.8, 0.7, 0.5, 0.75, 0.3])[:, None]

    def drawn(n, **how):
        is_hit, *hits = rng.random(n) + rng.normal(0, 0.15, (5, n)) < rates
        return found_of(is_hit, hits, ("blur", "jpeg"), (1, 5), Units(None, n, **how))

    names = ("mean_accuracy", "relative_accuracy")
    truth = drawn(1_000_000, resamples=1)
    samples = (drawn(n, resamples=RESAMPLES, seed=seed) for seed in range(num_samples))
    intervals = ({name: getattr(found, name) for name in names} for found in samples)
    return held(intervals, {name: getattr(truth, name).value for name in names})


def found_of(is_hit, hits, names, severities, units):
    """The robustness of a run that has these images [N] right, and [R, N] under each severity of each corruption."""
    labels = np.zeros(2, int)
    scores = score(labels, labels, None, resamples=1)  # of no run: the figures come from the hits
    runs = [
        CorruptedRun(name=f"{name} {severity}", corruption=name, severity=severity, scores=scores, missed_by_reason={})
        for name in names
        for severity in severities
    ]
    return robustness("run", np.array(is_hit), runs, np.array(hits), units)


CASES = {
    "seven uneven classes, N = 500": (images, {}),
    "the same, N = 100": (images, {"n": 100}),
    "the same, N = 300, and 98 % right": (images, {"n": 300, "strength": 5.5}),
    "UAR, N = 100, were images drawn class by class": (within_classes, {"n": 100}),
    "accuracy, rate 0.7, N = 300": (proportions, {"n": 300, "rate": 0.7}),
    "accuracy, rate 0.98, N = 100": (proportions, {"n": 100, "rate": 0.98}),
    "10 subjects of 20 images, rates Beta(7, 3)": (subjects, {"num_subjects": 10, "rates": beta, "truth": 0.7}),
    "40 subjects of 20 images, rates Beta(7, 3)": (subjects, {"num_subjects": 40, "rates": beta, "truth": 0.7}),
    "40 subjects, each all right (70 %) or all wrong": (
        subjects,
        {"num_subjects": 40, "rates": all_or_nothing(0.7), "truth": 0.7},
    ),
    "the same, as if the images were of many": (
        subjects,
        {"num_subjects": 40, "rates": all_or_nothing(0.7), "truth": 0.7, "by_subject": False},
    ),
    "20 subjects, each all right (98 %) or all wrong": (
        subjects,
        {"num_subjects": 20, "rates": all_or_nothing(0.98), "truth": 0.98},
    ),
    "votes, N = 300": (votes, {}),
    "accuracies under corruption, N = 200": (corruptions, {}),
}


def main():
    for name, (case, how) in CASES.items():
        shares = case(1000, **how)
        held_by = ", ".join(f"{figure} {100 * share:.0f} %" for figure, share in shares.items())
        sys.stdout.write(f"| {name} | {held_by} |\n")


if __name__ == "__main__":
    main()
