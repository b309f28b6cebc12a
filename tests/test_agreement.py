"""The comparison of two runs that the other tests lean on: it lets nothing through but what docs/output.md allows."""

from __future__ import annotations

import numpy as np
import polars
import pytest

from tests.agreement import TOLERANCE, assert_same_figures, assert_same_rows


def rows(*, emotion="anger", x1=1.0, anger=0.5, embedding=(1.0, 0.25)):
    columns = {"input": ["a.png"], "x1": [x1], "emotion": [emotion], "anger": np.array([anger], np.float32)}
    schema = {"embedding": polars.Array(polars.Float32, 2)}
    return polars.DataFrame(columns).with_columns(polars.Series("embedding", [embedding], schema["embedding"]))


def test_sums_in_another_order_agree():
    """A difference within the tolerance, of the network's outputs alone."""
    assert_same_rows(rows(anger=0.5 + TOLERANCE / 2, embedding=(1 + TOLERANCE, 0.25)), rows())


@pytest.mark.parametrize(
    "change",
    [
        {"emotion": "fear"},
        {"x1": 1 + TOLERANCE / 2},
        {"anger": 0.5 + TOLERANCE * 2},
        {"embedding": (1.0, 0.25 + TOLERANCE * 2)},
    ],
)
def test_what_differs_is_refused(change):
    """Discrete columns, boxes, and outputs of the network beyond the tolerance."""
    with pytest.raises(AssertionError):
        assert_same_rows(rows(**change), rows())


def test_missing_and_misplaced_rows_are_refused():
    """Rows are compared by their order, and all of them."""
    two = polars.concat([rows(), rows(x1=9.0)])
    for other in (rows(), two.reverse(), two.drop("anger")):
        with pytest.raises(AssertionError):
            assert_same_rows(other, two)


def test_figures_of_a_record():
    """Fractions within the tolerance; whole numbers, texts and what is missing are exact."""
    record = {"n": 7, "scores": [{"loss": 0.5, "label": "fear", "auc": None}]}
    assert_same_figures({"n": 7, "scores": [{"loss": 0.5 + TOLERANCE, "label": "fear", "auc": None}]}, record)
    for wrong in ({"loss": 0.51}, {"label": "joy"}, {"auc": 0.5}):
        with pytest.raises(AssertionError):
            assert_same_figures({"n": 7, "scores": [record["scores"][0] | wrong]}, record)
    with pytest.raises(AssertionError):
        assert_same_figures(record | {"n": 8}, record)
