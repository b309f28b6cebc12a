"""The driver of a Ray run with hundreds of actors that only answer (tests/fake_ray.py); test_ray.py has real ones."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from motivnet_cli.config import InputConfig, ModelConfig, RunConfig, ScaleConfig
from motivnet_cli.records import never
from motivnet_cli.scale.ray_driver import RayWorkers
from motivnet_cli.scale.ray_units import UnitPool
from tests.fake_ray import FakeRay, begin_run

ACTORS, UNITS = 200, 3000


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A driver with ACTORS actors of a fake Ray, and that Ray."""
    ray = FakeRay(ACTORS // 8)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(UnitPool, "wait_until_visible", lambda *_: None)  # the actors write nothing
    config = RunConfig(
        inputs=InputConfig(paths=("nothing",)),
        output=begin_run(tmp_path, UNITS),
        model=ModelConfig(device="cpu"),
        scale=ScaleConfig(engine="ray", ray_address="nowhere", workers=ACTORS, cpus_per_worker=1),
    )
    with RayWorkers(config, SimpleNamespace(file_hash=None)) as workers:
        assert workers.wait_for_first(never)
        yield workers, ray


def test_many_actors(driver):
    """Each unit is done once, no actor has more in hand than it asked for, and Ray is not asked for each answer alone.

    That an actor is called again only when it has answered, so that no more answers wait than there are actors, the
    fake itself asserts.
    """
    workers, ray = driver
    tallies = []
    total = workers.do(None, on_progress=tallies.append, stop=never)

    assert sorted(unit for actor in ray.actors for unit in actor.taken) == list(range(UNITS))
    assert len(ray.actors) == ACTORS
    assert max(actor.most_in_hand for actor in ray.actors) <= ray.ahead
    assert ray.num_waits < ray.num_answers / 10
    assert total == tallies[-1]
    assert total.inputs == UNITS


def test_lost_node(driver):
    """What the actors of a lost node had in hand is done by others that take their place."""
    workers, ray = driver
    ray.unit_seconds = 0.05
    gone = []

    def lose_some(_):
        if not gone and len(ray.when_done) > UNITS / 10:
            gone.extend(actor for actor in ray.actors[:20] if actor.call is not None)
            ray.lose(gone)

    total = workers.do(None, on_progress=lose_some, stop=never)
    given_back = {unit for actor in gone for unit in actor.in_hand}

    assert len(ray.actors) == ACTORS + len(gone)
    assert given_back
    assert ray.when_done.keys() == set(range(UNITS))
    assert total.inputs == UNITS


def test_stop(driver):
    """At the order to stop, actors finish what they have in hand, and nobody is given more."""
    workers, ray = driver
    ray.unit_seconds = 0.05
    total = workers.do(None, on_progress=lambda _: None, stop=lambda: len(ray.when_done) > UNITS / 10)
    taken = [unit for actor in ray.actors for unit in actor.taken]

    assert UNITS / 10 < total.inputs < UNITS
    assert sorted(taken) == sorted(ray.when_done)


def test_an_answer_that_cannot_be_read(driver):
    """The run ends with the error, and waits for the others only: from that actor no further answer comes."""
    workers, ray = driver
    read = ray.get
    broken = []

    def get(call):
        answer = read(call)
        if not broken and len(ray.when_done) > UNITS / 10:
            broken.append(call)
            raise ValueError("no answer of this version")
        return answer

    ray.get = get
    with pytest.raises(ValueError, match="no answer of this version"):
        workers.do(None, on_progress=lambda _: None, stop=never)

    assert not any(actor.is_alive for actor in ray.actors)
