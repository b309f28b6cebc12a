"""What two runs over the same pictures have in common: "How exact it is" in docs/output.md, as assertions.

Every comparison of runs whose faces came into other batches goes through this module: another batch size, other workers
or shards, a resumed run, a pipe in place of a file, the same pictures by another way.
"""

from __future__ import annotations

import math

import numpy as np
import polars
import polars.testing

from motivnet_cli.catalogue import CARDS
from motivnet_cli.output.read import read_faces, read_inputs
from motivnet_cli.records import EMOTIONS, FLOAT16_STEP

TOLERANCE = CARDS["expression-net"].batch_tolerance
"""Between float32 outputs of `expression-net` in two batches; measured were 2e-7, with AVX-512, with AVX2 and with
neither."""

_OUTPUTS = (*EMOTIONS, "confidence")


def assert_same_rows(actual, expected, *, tolerance=TOLERANCE):
    """Two outputs, or two tables of faces, have the same rows in the same order.

    Exact are all columns but what the network says: names, positions, boxes and scores (a detector sees one picture at
    a time), the emotion, and the whole table of inputs. Probabilities are equal within `tolerance`, absolute, and
    embeddings within it, relative to values above one; in float16 within one step of that type beside it.

    Args:
        actual: The path of an output, its faces and inputs, or a frame of faces.
        expected: The same of the other run.
        tolerance: Between float32 outputs of the network.
    """
    if not isinstance(actual, polars.DataFrame):
        polars.testing.assert_frame_equal(read_inputs(actual), read_inputs(expected), categorical_as_str=True)
        actual, expected = read_faces(actual), read_faces(expected)
    assert actual.schema == expected.schema
    exact = polars.selectors.exclude(*_OUTPUTS, "embedding")
    polars.testing.assert_frame_equal(
        actual.select(exact), expected.select(exact), check_exact=True, categorical_as_str=True
    )
    for name in set(_OUTPUTS).intersection(actual.columns):
        np.testing.assert_allclose(actual[name], expected[name], rtol=0, atol=tolerance, err_msg=name)
    if "embedding" in actual.columns:
        assert_same_embeddings(actual["embedding"].to_numpy(), expected["embedding"].to_numpy(), tolerance=tolerance)


def assert_same_embeddings(actual, expected, *, tolerance=TOLERANCE):
    """Float32 or float16 [N, D] of two runs: within `tolerance`, relative above one, and a step of float16."""
    assert actual.dtype == expected.dtype
    step = FLOAT16_STEP if actual.dtype == np.float16 else 0
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_allclose(actual, expected, rtol=tolerance + step, atol=tolerance, err_msg="embedding")


def assert_same_predictions(prediction, probabilities, embeddings, *, tolerance=TOLERANCE):
    """A prediction of a batch is what its faces got in others."""
    np.testing.assert_allclose(prediction.probabilities, probabilities, rtol=0, atol=tolerance)
    assert_same_embeddings(prediction.embeddings, embeddings, tolerance=tolerance)


def assert_same_figures(actual, expected, *, where="", tolerance=10 * TOLERANCE):
    """Two records made of nested dicts and lists are equal, their fractions within `tolerance`.

    Figures made of many probabilities (a loss, a calibration error, the bounds of an interval) may be a few times as
    far apart as these are; whole numbers, texts and what is missing are exact.
    """
    assert type(actual) is type(expected), where
    if isinstance(expected, dict):
        assert list(actual) == list(expected), where
        for name in expected:
            assert_same_figures(actual[name], expected[name], where=f"{where}.{name}", tolerance=tolerance)
    elif isinstance(expected, list):
        assert len(actual) == len(expected), where
        for index, pair in enumerate(zip(actual, expected, strict=True)):
            assert_same_figures(*pair, where=f"{where}[{index}]", tolerance=tolerance)
    elif isinstance(expected, float):
        assert math.isclose(actual, expected, rel_tol=tolerance, abs_tol=tolerance), (where, actual, expected)
    else:
        assert actual == expected, where
