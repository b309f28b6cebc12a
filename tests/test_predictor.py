"""Batches -> predictions: what a face gets does not depend on its company."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from motivnet_cli.config import ModelConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.load import load_model
from motivnet_cli.predictor import Predictor, usable_cores
from motivnet_cli.records import Batch, Crop, Cursor, Face, Place

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3, 112, 112), dtype=np.uint8)


def batch_of(numbers, pixels=PIXELS):
    whole = Face((0, 0, 1, 1), "whole")
    crops = tuple(Crop(Place(0), "a.png", whole, i, pixels[i]) for i in numbers)
    return Batch(crops, (), Cursor(Place(1)))


def predictor(**options):
    return Predictor(load_model("expression-net"), ModelConfig(name="expression-net", **options))


@pytest.fixture(scope="module")
def alone():
    """Each face predicted by itself."""
    ours = predictor()
    results = [prediction for _, prediction in ours.run(batch_of([i]) for i in range(12))]
    return np.concatenate([r.probabilities for r in results]), np.concatenate([r.embeddings for r in results])


@settings(max_examples=20, deadline=None)
@given(numbers=st.lists(st.integers(0, 11), min_size=1, max_size=12))
def test_company_changes_nothing(alone, numbers):
    """A face in any batch, in any company, gets what it gets alone, within 1e-5 (docs/output.md)."""
    ((_, prediction),) = predictor().run([batch_of(numbers)])

    np.testing.assert_allclose(prediction.probabilities, alone[0][numbers], atol=1e-5)
    np.testing.assert_allclose(prediction.embeddings, alone[1][numbers], atol=1e-5, rtol=1e-5)


def test_order_is_kept_and_batches_without_faces_pass(alone):
    """Results lag one batch, but come in order; a batch of reports only comes back with None."""
    given_batches = [batch_of([3]), Batch((), (), Cursor(Place(1))), batch_of([5, 1])]
    results = list(predictor().run(given_batches))

    assert [batch for batch, _ in results] == given_batches
    assert results[1][1] is None
    np.testing.assert_allclose(results[2][1].probabilities, alone[0][[5, 1]], atol=1e-5)


def test_flip_is_the_mean_with_the_mirror_image():
    """Mirror averaging is the mean of both probabilities and of both embeddings."""
    plain = predictor(flip=False)
    mirrored = batch_of(range(3), PIXELS[..., ::-1].copy())
    (_, left), (_, right) = plain.run([batch_of(range(3)), mirrored])
    ((_, both),) = predictor(flip=True).run([batch_of(range(3))])

    np.testing.assert_allclose(both.probabilities, (left.probabilities + right.probabilities) / 2, atol=1e-6)
    np.testing.assert_allclose(both.embeddings, (left.embeddings + right.embeddings) / 2, atol=1e-5)
    assert abs(left.probabilities - right.probabilities).max() > 1e-4


def test_probabilities_sum_to_one(alone):
    """Rows are distributions."""
    np.testing.assert_allclose(alone[0].sum(1), 1, atol=1e-6)


def test_batch_size_auto_and_given():
    """Auto takes the model's size for a CPU; a number is obeyed."""
    assert predictor(device="cpu").batch_size == 16
    assert predictor(batch_size=5).batch_size == 5


def test_small_network_runs_on_one_thread():
    """More threads slow a small network: it gets one, whatever the machine has."""
    ours = predictor()
    list(ours.run([batch_of([0])]))

    assert torch.get_num_threads() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_cores_are_those_the_process_may_use():
    """A scheduler's share counts, not the machine's number."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_missing_device_is_an_error():
    """A device that is not there is refused by name."""
    with pytest.raises(ConfigError, match="torch sees 0 CUDA devices"):
        predictor(device="cuda:3")


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(alone):
    """The CUDA path gives the CPU's answers within fp32 reordering."""
    ((_, prediction),) = predictor(device="cuda").run([batch_of(range(12))])

    np.testing.assert_allclose(prediction.probabilities, alone[0], atol=1e-3)
