"""A stand-in for Ray whose actors only answer: as many as a driver is to be tried with, in one process.

Each does its units one after the other, takes so long for each, and asks for the next one early, as the engine does.
It answers at once when it wants a unit, and else after the time that the driver names.
"""

from __future__ import annotations

import heapq
import itertools
import sys
import time
from types import ModuleType, SimpleNamespace

from motivnet_cli.config import InputConfig, OutputConfig
from motivnet_cli.engine.work import Tally
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output.sink import Output
from motivnet_cli.output.tables import RowLayout
from motivnet_cli.records import EMOTIONS
from motivnet_cli.scale.ray_worker import Report

CPUS_OF_A_NODE = 8


class RayError(Exception):
    """As `ray.exceptions.RayError`."""


class FakeRay(ModuleType):
    """The module `ray`, as far as the driver uses it.

    Args:
        num_nodes: Of CPUS_OF_A_NODE each.
        unit_seconds: What an actor takes for a unit.
        ahead: How many units an actor wants to have in hand.
    """

    def __init__(self, num_nodes, *, unit_seconds=0.0, ahead=2):
        super().__init__("ray")
        self.num_nodes, self.unit_seconds, self.ahead = num_nodes, unit_seconds, ahead
        self.exceptions = SimpleNamespace(RayError=RayError)
        self.actors = []
        self.num_waits = self.num_answers = 0
        self.when_done = {}
        """When each unit that an actor has done was done, by `time.monotonic`."""
        self._arriving = []
        """A heap of answers that are not there yet, by when they are."""
        self._there = set()
        self._numbers = itertools.count()

    def install(self, patch=sys.modules.__setitem__):
        """Have `import ray` find it."""
        patch("ray", self)
        return self

    # ---- what the driver calls ----

    def is_initialized(self):
        return True

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": float(CPUS_OF_A_NODE)}}] * self.num_nodes

    def available_resources(self):
        return {}

    def remote(self, _):
        made = SimpleNamespace(remote=lambda *_: self._new_actor())
        return SimpleNamespace(options=lambda **_: made)

    def wait(self, calls, *, num_returns=1, timeout=None):
        self.num_waits += 1
        deadline = time.monotonic() + (timeout or 0)
        while True:
            now = time.monotonic()
            while self._arriving and self._arriving[0][0] <= now:
                self._there.add(heapq.heappop(self._arriving)[2])
            ready = [call for call in calls if call in self._there][:num_returns]
            if len(ready) == num_returns or now >= deadline:
                return ready, []
            until = self._arriving[0][0] if self._arriving else deadline
            time.sleep(max(0.0, min(until, deadline) - now))

    def get(self, call):
        self._there.discard(call)
        self.num_answers += 1
        return call.answer()

    def kill(self, actor):
        actor.is_alive = False

    # ---- what the test does ----

    def lose(self, actors):
        """As a node does that is gone: all calls of its actors fail."""
        for actor in actors:
            actor.is_alive = False
            self._there.add(actor.call)

    def arrive(self, call, when):
        heapq.heappush(self._arriving, (when, next(self._numbers), call))

    def _new_actor(self):
        actor = FakeActor(self)
        self.actors.append(actor)
        return actor


class FakeActor:
    """A `Worker` that only answers."""

    def __init__(self, ray):
        self.ray = ray
        self.is_alive = True
        self.in_hand = {}
        """When each unit will be done."""
        self.most_in_hand = 0
        self.taken = []
        self.call = None
        self._is_stopping = False
        self._wants_unit = False
        self._num_done = 0
        self._choices = SimpleNamespace(device_name="fake")
        self.where = self._method(lambda: "fake node")
        self.set_up = self._method(lambda: Report(Tally(), choices=self._choices))
        self.talk = SimpleNamespace(remote=self._talk)

    def busy_seconds(self, now):
        """How long it has worked by now."""
        each = self.ray.unit_seconds
        return self._num_done * each + sum(max(0.0, min(each, now - (when - each))) for when in self.in_hand.values())

    def _method(self, answer):
        return SimpleNamespace(remote=lambda *_: self._call(answer, time.monotonic()))

    def _call(self, answer, when):
        assert self.call is None, "an actor is called again before it has answered"

        def answered():
            self.call = None
            if not self.is_alive:
                raise RayError("exit detail: its node is gone")
            return answer()

        self.call = Call(answered)
        self.ray.arrive(self.call, when)
        return self.call

    def _talk(self, unit, *, stop, within_s):
        now = time.monotonic()
        self._is_stopping = self._is_stopping or stop
        if unit is not None:
            self.taken.append(unit)
            self.in_hand[unit] = max(now, *self.in_hand.values(), now) + self.ray.unit_seconds
            self.most_in_hand = max(self.most_in_hand, len(self.in_hand))
        was_refused = unit is None and self._wants_unit
        when = now + within_s
        if self._is_stopping:
            when = max(self.in_hand.values(), default=now)
        elif len(self.in_hand) < self.ray.ahead and not was_refused:
            when = now
        elif self.in_hand:
            when = min(when, *self.in_hand.values(), when)
        return self._call(self._report, when)

    def _report(self):
        now = time.monotonic()
        done = [unit for unit, when in self.in_hand.items() if when <= now]
        for unit in done:
            self.ray.when_done[unit] = self.in_hand.pop(unit)
        self._num_done += len(done)
        self._wants_unit = len(self.in_hand) < self.ray.ahead and not self._is_stopping
        return Report(
            Tally(inputs=self._num_done),
            settled=tuple((unit, True) for unit in done),
            wants_unit=self._wants_unit,
            is_over=self._is_stopping and not self.in_hand,
        )


class Call:
    """A reference to an answer."""

    def __init__(self, answer):
        self.answer = answer


def begin_run(folder, num_units):
    """Freeze the plan of a run of so many videos that nobody reads, each a unit; where its output is to be."""
    names = folder / "names.txt"
    names.write_text("".join(f"https://nowhere.invalid/{number}.mp4\n" for number in range(num_units)))
    config = OutputConfig(path=str(folder / "out"))
    record = {"model": "m", "settings": {"model.name": "m"}}
    layout = RowLayout(EMOTIONS, 4, config.embeddings)
    with Output(config, record=record, layout=layout, num_workers=num_units) as output:
        output.begin(Listing(InputConfig(files_from=(str(names),)))).close()
    return config
