"""What workers and drivers say to each other, and which workers may take part."""

from __future__ import annotations

import random
import threading
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from motivnet_cli.config import InputConfig, ModelConfig, OutputConfig, RunConfig, ScaleConfig
from motivnet_cli.engine.machine import Choices
from motivnet_cli.engine.predictor import Stages
from motivnet_cli.engine.work import Tally
from motivnet_cli.errors import ConfigError, OutputConflictError
from motivnet_cli.records import never
from motivnet_cli.scale import workforce
from motivnet_cli.scale.messages import Failure, Log, decode_message, encode_message
from motivnet_cli.scale.ray_worker import DriverQueue
from motivnet_cli.scale.worker import take_units

SOON = 20.0
"""Seconds after which a test that waits has failed."""

# ---- messages ---------------------------------------------------------------------------------------------

counts = st.integers(0, 1 << 40)
seconds = st.floats(0, 1e9)
tallies = st.builds(Tally, counts, counts, counts, st.builds(Stages, seconds, seconds, seconds))


@given(st.one_of(tallies, st.builds(Log, counts, st.text()), st.builds(Failure, st.text(), st.text())))
def test_messages_come_back_from_a_line(message):
    """Whatever is in them, a message is one line."""
    line = encode_message(message)

    assert "\n" not in line
    assert decode_message(line.encode()) == message


def test_errors_of_settings_end_a_run():
    """An error that every worker would meet is raised as itself; any other is a worker's death."""
    conflict = Failure.of(OutputConflictError("taken")).for_user("node 3")

    assert isinstance(conflict, OutputConflictError)
    assert str(conflict) == "node 3: taken"
    assert [Failure(name, "x").for_user() for name in ("ValueError", "InputError", "EXIT_OK", "annotations")] == [
        None
    ] * 4
    assert str(Failure.of(ValueError("bad"))) == "ValueError: bad"


# ---- who may take part ------------------------------------------------------------------------------------


class Share:
    record = {"settings": {"model.precision": "bf16", "model.weights_sha256": "a1"}}  # noqa: RUF012
    is_open = True

    def rounds(self, stop):
        return iter(())

    def close(self):
        self.is_open = False


def take_part(share, *, precision="bf16", weights="a1"):
    config = RunConfig(
        inputs=InputConfig(paths=("a",)), output=OutputConfig(path="p"), model=ModelConfig(precision="auto")
    )
    card = SimpleNamespace(name="m", margin=0.0, align=False, fill_rgb=(0, 0, 0))
    model = SimpleNamespace(weights_sha256=weights, card=card, recipe="square", height=8, width=8)
    choices = Choices(torch.device("cpu"), precision, False, "cpu")
    predictor = SimpleNamespace(choices=choices, stages=Stages(), batch_size=1, num_threads=1)
    return take_units(share, config, model, predictor, on_progress=lambda _: None, stop=never)


def test_worker_with_the_network_of_the_run():
    """It works, and lets go of its share."""
    share = Share()

    assert take_part(share) == Tally()
    assert not share.is_open


@pytest.mark.parametrize(
    ("differs", "words"),
    [
        ({"precision": "fp32"}, "computes in bf16, and --precision auto comes to fp32 on cpu"),
        ({"weights": "b2"}, "weights of SHA-256 a1, and here m has b2"),
    ],
    ids=["precision", "weights"],
)
def test_worker_with_another_network(differs, words):
    """A worker whose rows would be others is refused, wherever it runs."""
    share = Share()
    with pytest.raises(ConfigError, match=words):
        take_part(share, **differs)

    assert not share.is_open


def test_all_devices_of_a_machine_without_any(monkeypatch):
    """--devices all means GPUs: where there are none, no process is started."""
    config = RunConfig(
        inputs=InputConfig(paths=("a",)), output=OutputConfig(path="p"), scale=ScaleConfig(devices=("all",))
    )
    monkeypatch.setattr(workforce, "all_gpus", tuple)
    with (
        pytest.raises(ConfigError, match="all means every CUDA device, and torch sees none"),
        workforce.open_workforce(config, None, never),
    ):
        pass


# ---- units from the driver --------------------------------------------------------------------------------


class Engine(threading.Thread):
    """Calls something of a queue in a thread of its own."""

    def __init__(self, call):
        super().__init__(daemon=True)
        self._call = call
        self.start()

    def run(self):
        self.result = self._call()

    def ends_with(self):
        self.join(SOON)
        assert not self.is_alive()
        return self.result


def test_a_request_is_answered_once_the_driver_has_heard_it():
    """What the driver says before it has heard of a request is no answer to it; then None is one, too."""
    queue = DriverQueue()
    queue.answer(None, stop=False)
    engine = Engine(queue.next)
    assert queue.wait_for_request(SOON)
    queue.answer(None, stop=False)
    assert engine.ends_with() is None

    engine = Engine(queue.next)
    assert queue.wait_for_request(SOON)
    queue.answer(7, stop=False)
    assert engine.ends_with() == 7
    assert not queue.wait_for_request(0)


def test_an_idle_engine_waits_for_a_unit():
    """It is not content with None, and wants a unit as long as none has come."""
    queue = DriverQueue()
    engine = Engine(queue.wait)
    assert queue.wait_for_request(SOON)
    queue.answer(None, stop=False)
    assert queue.wait_for_request(0)
    queue.answer(4, stop=False)
    assert not queue.wait_for_request(0)
    assert engine.ends_with() == 4


@pytest.mark.parametrize("name", ["next", "wait"])
def test_a_stop_ends_every_wait(name):
    """The engine gets no further unit, then and later."""
    queue = DriverQueue()
    engine = Engine(getattr(queue, name))
    assert queue.wait_for_request(SOON)
    queue.answer(None, stop=True)

    assert engine.ends_with() is None
    assert queue.is_stopped()
    assert queue.next() is queue.wait() is None


def test_the_driver_can_be_woken():
    """An actor whose work has ended says so at once."""
    queue = DriverQueue()
    driver = Engine(lambda: queue.wait_for_request(SOON))
    queue.wake_driver()

    assert driver.ends_with() is False


def test_no_unit_is_lost_between_driver_and_engine():
    """Every unit arrives once and in order, however the two meet."""
    queue, rng = DriverQueue(), random.Random(5)
    units = list(range(1000))

    def work():
        done = []
        unit = queue.wait()
        while unit is not None:
            done.append(unit)
            unit = queue.next()
            if unit is None:
                unit = queue.wait()
        return done

    engine = Engine(work)
    waiting = list(reversed(units))
    while waiting:
        is_wanted = queue.wait_for_request(0.001)
        queue.answer(waiting.pop() if is_wanted and rng.random() < 0.7 else None, stop=False)
    while not queue.wait_for_request(0.001):
        queue.answer(None, stop=False)
    queue.answer(None, stop=True)

    assert engine.ends_with() == units
