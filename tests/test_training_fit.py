"""A training does what a plain loop would do, and what becomes of it does not depend on how often it was stopped."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

from motivnet_cli.durable import sha256_of
from motivnet_cli.errors import ConfigError, OutputConflictError, TrainingError
from motivnet_cli.records import Stopped
from motivnet_cli.training import checkpoints
from motivnet_cli.training.checkpoints import BEST, LAST, load
from motivnet_cli.training.fit import HISTORY_FILE, fit
from motivnet_cli.training.order import Order
from tests.tiny_training import FIT, RATES, TRAIN, VAL, brightened, objective, tiny_network, train

ROOT = Path(__file__).parents[1]
STEPS = 3
"""Of an epoch."""
PLAIN = dataclasses.replace(FIT, accumulate=1, batch_size=8, ema=None)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    train(folder)
    torch.set_num_threads(before)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {name: sha256_of(folder / name) for name in (LAST, BEST, HISTORY_FILE)}


def stop_after(calls: int):
    """True from so many questions on. There is one after each step and each batch of validation."""
    counter = count(1)
    return lambda: next(counter) >= calls


def test_a_stop_at_any_moment_changes_nothing(undisturbed, tmp_path):
    """Within an epoch, after its last step, within and after its validation, and twice within one epoch.

    There are six questions an epoch: three steps, and three batches of validation.
    """
    stopped = 0
    for calls in (2, 1, 4, 1, 3):
        with pytest.raises(Stopped):
            train(tmp_path, stop=stop_after(calls))
        stopped += 1
    train(tmp_path)

    assert stopped == 5
    assert contents(tmp_path) == contents(undisturbed)


def test_a_finished_training_is_not_trained_again(undisturbed):
    """Its result is read."""
    before = contents(undisturbed)

    network, fitted = train(undisturbed, stop=lambda: True)

    assert len(fitted.history) == FIT.epochs
    assert contents(undisturbed) == before
    with torch.no_grad():
        logits, _ = network.eval()(torch.stack([VAL[i] for i in range(len(VAL))]))
    np.testing.assert_allclose(fitted.probabilities, logits.softmax(1), atol=1e-5)


def test_it_is_a_plain_loop(tmp_path):
    """The losses, rates and predictions of a loop without Lightning, with gradients of whole steps; no dropout."""
    rates = dataclasses.replace(RATES, dropout=0)
    network = tiny_network(rates)
    asked = objective(rates)
    optimizer = asked.optimizer(network)
    schedule = asked.schedule(optimizer)
    average = {name: value.clone() for name, value in network.named_parameters()}
    losses, best = [], None
    order = Order(num_examples=len(TRAIN), batch_size=8, seed=0)
    for epoch in range(FIT.epochs):
        network.train()
        total = 0.0
        for portion in order.portions(epoch):
            pixels = torch.stack([brightened(TRAIN[i], epoch, i) for i in portion.indices])
            targets = torch.from_numpy(TRAIN.targets[list(portion.indices)])
            loss = -(targets * network(pixels)[0].log_softmax(1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(targets)
            for name, value in network.named_parameters():
                average[name] = 0.8 * average[name] + 0.2 * value.detach()
        schedule.step()
        validated = tiny_network(rates)
        validated.load_state_dict(average)
        with torch.no_grad():
            logits = validated.eval()(torch.stack([VAL[i] for i in range(len(VAL))]))[0]
        val_loss = -(torch.from_numpy(VAL.targets) * logits.log_softmax(1)).sum(1).mean().item()
        losses.append((total / len(TRAIN), val_loss))
        if val_loss == min(each for _, each in losses):
            best = logits.softmax(1)

    _, fitted = train(tmp_path, rates=rates)  # two portions a step

    assert [(each["train_loss"], each["val_loss"]) for each in fitted.history] == [
        pytest.approx(each, rel=1e-4) for each in losses
    ]
    np.testing.assert_allclose(fitted.probabilities, best, atol=1e-4)
    hits = logits.argmax(1).numpy() == VAL.targets.argmax(1)
    assert fitted.history[-1]["val_accuracy"] == hits.mean()
    cosine = [1e-3 * (1 + np.cos(np.pi * epoch / 3)) / 2 for epoch in range(3)]
    assert [each["lr_head"] for each in fitted.history] == pytest.approx(cosine)


def test_dropout_is_on_and_of_this_run_alone(undisturbed, tmp_path):
    """What was drawn before a training, and in which mode the network was, do not matter to it; its seed does."""
    torch.manual_seed(99)
    network = tiny_network().eval()
    fit(network, objective(), TRAIN, VAL, FIT, folder=tmp_path, augment=brightened)
    assert contents(tmp_path) == contents(undisturbed)
    assert not any(module.training for module in network.modules())

    train(tmp_path / "other", dataclasses.replace(FIT, seed=1))
    assert contents(tmp_path / "other") != contents(undisturbed)


def test_the_history_is_a_table(undisturbed):
    with (undisturbed / HISTORY_FILE).open(newline="") as file:
        rows = list(csv.DictReader(file))

    _, state = load(undisturbed / LAST)
    assert [{name: float(value) for name, value in row.items()} for row in rows] == list(state.history)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]


def test_patience_ends_it(tmp_path):
    """At a rate so high that the first epoch stays the best."""
    rates = dataclasses.replace(RATES, encoder_lr=0.0, head_lr=0.3, restart_epochs=100)
    _, fitted = train(tmp_path, dataclasses.replace(PLAIN, epochs=30, patience=2), rates=rates)

    losses = [each["val_loss"] for each in fitted.history]
    assert len(losses) < 30
    assert len(losses) - fitted.best_epoch == 2
    assert min(losses) == losses[fitted.best_epoch - 1]
    assert train(tmp_path, dataclasses.replace(PLAIN, epochs=30, patience=2), rates=rates)[1].history == fitted.history


def test_a_frozen_encoder_is_not_written(tmp_path):
    rates = dataclasses.replace(RATES, freeze_encoder=True)
    network, _ = train(tmp_path, dataclasses.replace(PLAIN, epochs=1), rates=rates)

    for name in (LAST, BEST):
        tensors, _ = load(tmp_path / name)
        assert any(key.startswith("network.head") for key in tensors)
        assert not any("encoder" in key for key in tensors)
    torch.testing.assert_close(network.encoder.state_dict(), tiny_network(rates).encoder.state_dict())


@pytest.mark.parametrize("where", ["loss", "gradient", "validation"])
def test_a_loss_that_is_no_number_ends_it(undisturbed, tmp_path, where):
    """It names epoch, step and pictures, and the training can go on from before."""
    asked = objective()
    calls = count()

    def failing(logits, targets):
        loss = asked.loss(logits, targets)
        if next(calls) != 7:  # of the second step of the second epoch, the second portion; three steps of two portions
            return loss
        return loss * float("nan") if where == "loss" else loss + (logits.sum() * 0).sqrt()  # 1 / sqrt(0)

    def failing_validation(logits, targets):
        return asked.held_out_loss(logits, targets) * (float("nan") if (tmp_path / LAST).exists() else 1)

    if where == "validation":
        changed = dataclasses.replace(asked, held_out_loss=failing_validation)
    else:
        changed = dataclasses.replace(asked, loss=failing)
    with pytest.raises(TrainingError) as caught:
        _fit(tmp_path, changed)

    message = str(caught.value)
    if where == "validation":
        assert "epoch 2: the loss over the validation examples is no finite number" in message
    else:
        assert f"epoch 2, step 1: {'the loss' if where == 'loss' else 'a gradient'} is no finite number" in message
        portions = Order(num_examples=21, batch_size=4, seed=0, accumulate=2).portions(1)
        indices = portions[1].indices if where == "loss" else portions[0].indices + portions[1].indices
        assert "look at the pictures of the step: " + ", ".join(repr(TRAIN.names[i]) for i in indices) in message
    _, state = load(tmp_path / LAST)
    assert (state.epoch, state.step) == (1, 0)
    train(tmp_path)
    assert contents(tmp_path) == contents(undisturbed)


def _fit(folder, asked, config=FIT):
    return fit(tiny_network(), asked, TRAIN, VAL, config, folder=folder, augment=brightened)


def test_a_full_disk_keeps_the_checkpoint_before(undisturbed, tmp_path, monkeypatch):
    written = count()

    def filling(path, tensors, **more):
        if next(written) == 3:  # the second epoch's
            path.write_bytes(b"as far as it went")
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, tensors, **more)

    write = checkpoints.write_safetensors
    monkeypatch.setattr(checkpoints, "write_safetensors", filling)
    with pytest.raises(OSError, match="No space left on device") as caught:
        train(tmp_path)
    monkeypatch.undo()

    assert Path(caught.value.filename).name.endswith(".safetensors")
    assert load(tmp_path / LAST)[1].epoch == 1
    train(tmp_path)
    assert contents(tmp_path) == contents(undisturbed)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / LAST).parent.mkdir()
    (tmp_path / LAST).write_bytes(b"not what was written")

    with pytest.raises(OutputConflictError, match=r"last.safetensors' is damaged .*--overwrite"):
        train(tmp_path)


@pytest.mark.parametrize(
    ("freeze_encoder", "last"),
    [(False, "make up a step, or --checkpoint-activations, or --freeze-encoder"), (True, "step")],
)
def test_a_batch_too_large_for_memory(tmp_path, freeze_encoder, last):
    """What saves memory of an encoder that trains is not named where none does: a student has no such options."""

    def too_large(logits, targets):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    rates = dataclasses.replace(RATES, freeze_encoder=freeze_encoder)
    asked = dataclasses.replace(objective(rates), loss=too_large)
    with pytest.raises(ConfigError, match=rf"batches of 4 do not fit in memory: take a smaller --batch-size .*{last}$"):
        fit(tiny_network(rates), asked, TRAIN, VAL, FIT, folder=tmp_path)


def test_a_device_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="device 'cuda:99' was asked for"):
        train(tmp_path, dataclasses.replace(FIT, device="cuda:99"))


def test_bf16_trains(tmp_path):
    _, fitted = train(tmp_path, dataclasses.replace(PLAIN, epochs=1, precision="bf16"))
    _, exact = train(tmp_path / "fp32", dataclasses.replace(PLAIN, epochs=1))

    assert fitted.history[0]["train_loss"] != exact.history[0]["train_loss"]
    assert fitted.history[0]["train_loss"] == pytest.approx(exact.history[0]["train_loss"], rel=0.05)


def test_balanced_sampling_draws_every_class_alike(tmp_path, monkeypatch):
    drawn = []
    of_epoch = Order.of_epoch
    monkeypatch.setattr(Order, "of_epoch", lambda order, epoch: drawn.append(order.chances) or of_epoch(order, epoch))
    train(tmp_path, dataclasses.replace(PLAIN, epochs=1, balanced_sampling=True))

    assert (TRAIN.targets.T @ drawn[0]) == pytest.approx([1 / 3] * 3)


def test_tensorboard_has_the_curves(undisturbed):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(undisturbed / "tensorboard")).Reload()

    _, state = load(undisturbed / LAST)
    assert [each.step for each in events.Scalars("train/loss")] == list(range(1, 10))
    assert [each.step for each in events.Scalars("val/loss")] == [3, 6, 9]
    assert [each.value for each in events.Scalars("val/loss")] == pytest.approx(
        [each["val_loss"] for each in state.history]
    )
    assert events.Scalars("lr/head")[0].value == pytest.approx(RATES.head_lr)


@pytest.mark.thorough
def test_kills_change_nothing(undisturbed, tmp_path):
    """Five SIGKILLs at random steps, or in what follows them: validations and checkpoints, one after each step."""
    draw = random.Random(18)
    moments = sorted(draw.sample(range(1, 2 * STEPS + 1), 5))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.tiny_training", str(tmp_path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as nursery:  # fmt: skip
        for moment in moments:
            print("start", file=nursery.stdin, flush=True)
            child = int(nursery.stdout.readline())
            for line in nursery.stdout:
                if int(line) >= moment:
                    break
            time.sleep(draw.random() / 200)
            os.kill(child, signal.SIGKILL)
            assert next(line for line in nursery.stdout if "ended" in line) == f"ended {-signal.SIGKILL}\n"
        nursery.stdin.close()
    train(tmp_path, dataclasses.replace(FIT, checkpoint_minutes=0))

    assert contents(tmp_path) == contents(undisturbed)


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(tmp_path):
    """By gloo, with batches of 4 on each, of which the last is not whole; without dropout, whose draws are a process's.

    Adam divides gradients by their size, so that what rounding makes of a gradient of 0 (as of the bias of attention's
    keys) moves a weight: what the networks say is compared.
    """
    config = json.dumps({"devices": 2, "accumulate": 1, "patience": 3})
    command = [sys.executable, "-W", "error", "-m", "tests.tiny_training", str(tmp_path / "two"), config]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300, stdin=subprocess.DEVNULL)
    rates = dataclasses.replace(RATES, dropout=0)
    _, one = train(tmp_path / "one", dataclasses.replace(FIT, accumulate=1, batch_size=8), rates=rates)

    tensors, state = load(tmp_path / "two" / BEST)
    _, last = load(tmp_path / "two" / LAST)
    assert len(last.history) == FIT.epochs
    for ours, theirs in zip(one.history, last.history, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-4)
    assert len(state.history) == one.best_epoch
    np.testing.assert_allclose(tensors["probabilities"], one.probabilities, atol=1e-4)
