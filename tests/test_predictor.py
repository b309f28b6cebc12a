"""Batches -> predictions: what a face gets does not depend on its company."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from motivnet_cli.config import ModelConfig
from motivnet_cli.engine import machine
from motivnet_cli.engine.machine import usable_cores
from motivnet_cli.engine.predictor import MAX_AUTO_BATCH, Predictor, Stages, remembered_batch_size
from motivnet_cli.errors import ConfigError
from motivnet_cli.records import Batch, Crop, Cursor, Face, Position
from motivnet_cli.weights.load import load_model
from tests.agreement import assert_same_predictions

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3, 112, 112), dtype=np.uint8)


def batch_of(numbers, pixels=PIXELS):
    whole = Face((0, 0, 1, 1), "whole")
    crops = tuple(Crop(Position(0), "a.png", whole, i, pixels[i]) for i in numbers)
    return Batch(crops, (), Cursor(Position(1)))


def predictor(**options):
    return Predictor(load_model("expression-net"), ModelConfig(name="expression-net", **options))


@pytest.fixture(scope="module")
def alone():
    """Each face predicted by itself."""
    ours = predictor()
    results = [prediction for _, prediction in ours.run(batch_of([i]) for i in range(12))]
    return np.concatenate([r.probabilities for r in results]), np.concatenate([r.embeddings for r in results])


@settings(max_examples=20)
@given(numbers=st.lists(st.integers(0, 11), min_size=1, max_size=12))
def test_company_changes_nothing(alone, numbers):
    """A face in any batch, in any company, gets what it gets alone, within 1e-5 (docs/output.md)."""
    ((_, prediction),) = predictor().run([batch_of(numbers)])

    assert_same_predictions(prediction, alone[0][numbers], alone[1][numbers])


def test_order_is_kept_and_batches_without_faces_pass(alone):
    """Results lag one batch, but come in order; a batch of reports only comes back with None."""
    given_batches = [batch_of([3]), Batch((), (), Cursor(Position(1))), batch_of([5, 1])]
    results = list(predictor().run(given_batches))

    assert [batch for batch, _ in results] == given_batches
    assert results[1][1] is None
    assert_same_predictions(results[2][1], alone[0][[5, 1]], alone[1][[5, 1]])


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


class Counting(torch.nn.Module):
    """A network that notes on how many threads it is computed."""

    def __init__(self, network):
        super().__init__()
        self.network, self.counts = network, []

    def forward(self, pixels):
        outputs = self.network(pixels)
        self.counts.append(torch.get_num_threads())
        return outputs


def test_threads_that_read_do_not_slow_the_network():
    """They set one thread for themselves; the network keeps its own, also in a process that never computed before."""
    model = load_model("expression-net")
    network = Counting(model.network)
    card = dataclasses.replace(model.card, single_thread=False)
    model = dataclasses.replace(model, network=network, card=card)
    config = ModelConfig(name="expression-net", device="cpu", precision="fp32", flip=False)

    def read():
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.submit(batch_of, [0]).result()

    def main():
        list(Predictor(model, config, num_threads=3).run(read()))

    thread = threading.Thread(target=main)  # torch counts for each thread, and this one is new to it
    thread.start()
    thread.join()

    assert network.counts == [3]


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


# ---- memory, precision, cores -----------------------------------------------------------------------------


class Cramped(torch.nn.Module):
    """A network on a device that has no memory for more than so many faces at once."""

    def __init__(self, network, limit):
        super().__init__()
        self.network, self.limit, self.sizes = network, limit, []

    def forward(self, pixels):
        self.sizes.append(len(pixels))
        if len(pixels) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.network(pixels)


def cramped(limit, **options):
    model = load_model("expression-net")
    network = Cramped(model.network, limit)
    model = dataclasses.replace(model, network=network)
    return Predictor(model, ModelConfig(name="expression-net", flip=False, **options)), network


def test_out_of_memory_halves_the_batch_and_repeats_its_faces(caplog):
    """The faces of a batch that did not fit are computed in smaller ones, each once, and later batches fit at once."""
    ours, network = cramped(3, batch_size=12)
    results = [result for _, result in ours.run([batch_of(range(12)), batch_of(range(12))])]
    ((_, undisturbed),) = predictor(flip=False).run([batch_of(range(12))])

    for result in results:
        assert_same_predictions(result, undisturbed.probabilities, undisturbed.embeddings)
    assert network.sizes == [12, 6, 3, 3, 3, 3, 3, 3, 3, 3]
    assert ours.batch_size == 3
    assert "no memory for 12 faces" in caplog.text


def test_a_single_face_that_does_not_fit_is_an_error():
    """Below one face there is nothing to halve."""
    ours, _ = cramped(0, batch_size=4)

    with pytest.raises(torch.OutOfMemoryError):
        list(ours.run([batch_of([1, 2])]))


def test_other_errors_of_the_network_are_not_taken_for_a_full_device():
    """A fault is raised, not tried again with less."""
    ours, network = cramped(12, batch_size=4)
    network.network = torch.nn.Linear(3, 1)

    with pytest.raises(RuntimeError, match=r"dtype|shape"):
        list(ours.run([batch_of([1, 2])]))
    assert network.sizes == [2]


def test_the_largest_batch_is_found_once_and_remembered(tmp_path):
    """Doubling stops at the first size that does not fit; the next run reads the answer, another model asks anew."""
    tried = []

    def fits(size):
        tried.append(size)
        return size <= 11

    assert remembered_batch_size(tmp_path, "a", fits) == 8
    assert tried == [2, 4, 8, 16]
    assert remembered_batch_size(tmp_path, "a", fits) == 8
    assert len(tried) == 4
    assert remembered_batch_size(tmp_path, "b", lambda size: True) == MAX_AUTO_BATCH


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"key": "a"}', '{"key": "a", "batch_size": -3}', '{"key": "b", "batch_size": 8}']
)
def test_a_memory_that_makes_no_sense_is_written_anew(tmp_path, content):
    """Whatever stands there: the size is found again."""
    remembered_batch_size(tmp_path, "a", lambda size: size <= 4)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(content)

    assert remembered_batch_size(tmp_path, "a", lambda size: size <= 2) == 2
    assert remembered_batch_size(tmp_path, "a", lambda size: False) == 2


def test_a_store_that_cannot_be_written_ends_nothing(tmp_path):
    """A cache is no condition of a run: many clusters have the store read-only."""
    (tmp_path / "cache").write_text("not a folder")

    assert remembered_batch_size(tmp_path / "cache", "a", lambda size: size <= 4) == 4
    assert remembered_batch_size(tmp_path / "cache", "a", lambda size: size <= 2) == 2


def test_many_find_their_batch_size_at_once(tmp_path):
    """Workers that begin together neither disturb each other nor lose what another has found."""
    with ThreadPoolExecutor(16) as pool:
        sizes = [2**power for power in range(7)] * 16
        found = list(
            pool.map(lambda most: remembered_batch_size(tmp_path, str(most), lambda size: size <= most), sizes)
        )

    assert found == sizes
    assert [remembered_batch_size(tmp_path, str(most), lambda size: False) for most in sizes[:7]] == sizes[:7]
    assert len(list((tmp_path / "batch_sizes").iterdir())) == 7


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.05), ("int8", 0.05)])
def test_lower_precisions_agree(alone, precision, tolerance):
    """bf16 and int8 change probabilities a little: they are in effect, and close."""
    ((_, prediction),) = predictor(precision=precision).run([batch_of(range(12))])

    difference = np.abs(prediction.probabilities - alone[0]).max()
    assert 0 < difference < tolerance
    assert prediction.probabilities.dtype == prediction.embeddings.dtype == np.float32


def tiny_motivnet(precision):
    """The golden network, and its probabilities of two faces."""
    weights = Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors"
    model = load_model(weights=weights)
    ours = Predictor(model, ModelConfig(weights=str(weights), precision=precision, device="cpu"))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, model.height, model.width), dtype=np.uint8)
    ((_, prediction),) = ours.run([batch_of(range(2), pixels)])
    return model.network, prediction.probabilities


def test_motivnet_in_int8():
    """Its encoder multiplies in int8; its answers are close to those in fp32."""
    network, probabilities = tiny_motivnet("int8")

    assert not isinstance(network.encoder.blocks[0].mlp.up, torch.nn.Linear)
    np.testing.assert_allclose(probabilities, tiny_motivnet("fp32")[1], atol=0.02)


@pytest.mark.parametrize(
    ("precision", "features", "in_blocks"),
    [
        ("bf16", ["avx512_bf16"], True),
        ("bf16", ["avx512_bf16", "amx_bf16"], False),
        ("bf16", ["avx512f"], False),
        ("fp32", ["avx512_bf16"], False),
    ],
)
def test_attention_is_in_blocks_where_torch_is_slow(monkeypatch, precision, features, in_blocks):
    """That is in bf16, where a CPU has AVX512-BF16 and no AMX; the answers are close to those of fp32."""
    monkeypatch.setattr(machine, "_cpu_features", lambda: features)
    network, probabilities = tiny_motivnet(precision)

    assert {block.attention.in_blocks for block in network.encoder.blocks} == {in_blocks}
    np.testing.assert_allclose(probabilities, tiny_motivnet("fp32")[1], atol=0.02)


def test_where_the_time_goes_is_counted():
    """Waiting for faces, computing and writing are told apart, and none of it is counted twice."""
    ours = predictor()

    def slowly():
        for _ in range(3):
            time.sleep(0.1)
            yield batch_of([1])

    started = time.monotonic()
    for _ in ours.run(slowly()):
        time.sleep(0.1)
    total = time.monotonic() - started

    stages = ours.stages
    assert min(stages.starting, stages.finishing) >= 0.1
    assert min(stages.waiting, stages.writing) >= 0.2
    assert stages.computing > 0
    assert stages.starting + stages.waiting + stages.computing + stages.writing + stages.finishing <= total


def test_what_a_run_of_one_batch_is_bound_by_is_not_known():
    """Its start and its end are not the work of reading and writing that a long run would wait for."""
    ours = predictor()
    list(ours.run([batch_of([1])]))

    assert ours.stages.starting > 0
    assert ours.stages.finishing > 0
    assert ours.stages.computing > 0
    assert ours.stages.bound_by is None


def test_the_stage_that_the_others_waited_for():
    """The longest of the three, however long the start and the end took; none where nothing ran."""
    assert Stages(waiting=2, computing=1, starting=9, finishing=9).bound_by == "reading"
    assert Stages(waiting=1, computing=2, starting=4, finishing=1).busy == 0.25
    assert Stages(waiting=2, computing=1, writing=1).bound_by == "reading"
    assert Stages(waiting=1, computing=2, writing=1).bound_by == "network"
    assert Stages(waiting=1, computing=1, writing=2).bound_by == "writing"
    assert Stages(waiting=1, computing=3).busy == 0.75
    assert Stages().bound_by is None
    assert Stages().busy == 0
