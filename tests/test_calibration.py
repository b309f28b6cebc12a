"""Temperatures and restricted distributions are what a pencil and another optimiser say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn import metrics as sk

from motivnet_cli.evaluation.calibration import TEMPERATURES, among, at_temperature, fit_temperature


def drawn(temperature, *, n=4000, seed=3):
    """Labels drawn from softmax(logits), and the probabilities of a network that is `temperature` times as sure."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 7)) * 2
    labels = np.array([rng.choice(7, p=row) for row in softmax(logits, axis=1)])
    return labels, softmax(logits * temperature, axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1, 3])
def test_the_temperature_of_a_known_network_is_found(temperature):
    """A network that is three times as sure as it should be has the temperature 3, within its spread."""
    assert fit_temperature(*drawn(temperature)).value == pytest.approx(temperature, rel=0.06)


@pytest.mark.parametrize("temperature", [0.5, 3])
def test_no_other_temperature_has_a_lower_log_loss(temperature):
    """Scikit-learn's log_loss, minimised by a search that knows no derivative."""
    labels, probabilities = drawn(temperature, n=300)

    def loss(temperature):
        return sk.log_loss(labels, softmax(np.log(probabilities) / temperature, axis=1), labels=range(7))

    best = minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-6}).x
    assert fit_temperature(labels, probabilities).value == pytest.approx(best, rel=1e-4)


def test_by_hand():
    """Two classes at 0.9, right in three of four: the likelihood is highest where 0.9 has become 0.75.

    0.9 is 9 to 1, 0.75 is 3 to 1, and 9 ** (1 / 2) is 3: the temperature is 2.
    """
    probabilities = np.array([[0.9, 0.1]] * 4)
    fitted = fit_temperature(np.array([0, 0, 0, 1]), probabilities)

    assert fitted.value == pytest.approx(2, rel=1e-5)
    assert at_temperature(probabilities, 2)[0] == pytest.approx([0.75, 0.25])


def test_what_has_no_best_temperature_says_so():
    """All right: the surer the better. All wrong: the flatter the better. Flat: nothing changes."""
    sure = np.array([[0.9, 0.1]] * 3)
    right, wrong = (fit_temperature(np.full(3, label), sure) for label in (0, 1))

    assert (right.value, wrong.value) == TEMPERATURES
    assert right.remarks == wrong.remarks
    assert right.remarks[0].endswith("means nothing")
    assert fit_temperature(np.array([0, 1]), np.full((2, 7), 1 / 7)) == (1.0, ())


def test_a_temperature_changes_no_order_and_leaves_misses():
    """Of a hundred distributions at several temperatures; a row of NaN stays one; 1 changes nothing."""
    rows = np.random.default_rng(0).dirichlet(np.ones(7), size=100)
    rows[3] = np.nan

    assert at_temperature(rows, 1.0) == pytest.approx(rows, nan_ok=True)
    for temperature in (0.2, 5):
        scaled = at_temperature(rows, temperature)
        assert np.isnan(scaled[3]).all()
        others = np.delete(np.arange(100), 3)
        assert (np.argsort(scaled[others]) == np.argsort(rows[others])).all()
        assert scaled[others].sum(axis=1) == pytest.approx(np.ones(99))


def test_among_by_hand():
    """Other classes are 0 and the rest sums to 1; without any probability left there is no answer."""
    rows = np.array([[0.5, 0.25, 0.25], [1, 0, 0], [np.nan] * 3])
    kept = among(rows, np.array([False, True, True]))

    assert kept[0].tolist() == [0, 0.5, 0.5]
    assert np.isnan(kept[1:]).all()
