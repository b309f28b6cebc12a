"""A run's units on a Ray cluster: actors with a model each, and the driver that hands the units out.

Ray finds the actors a place, says when one is gone, and carries a few hundred bytes a unit. Pixels and rows never
pass through it: an actor reads the inputs and writes the parts itself, as every process that takes part in a run, so
whatever dies, the ledger says what is done, and any engine goes on from it.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import math
import pickle
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from motivnet_cli import __version__, errors
from motivnet_cli.config import ScaleConfig
from motivnet_cli.engine.work import Tally
from motivnet_cli.errors import ConfigError, WorkerError
from motivnet_cli.output.share import begun_run
from motivnet_cli.remote.urls import is_remote
from motivnet_cli.weights.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

    from motivnet_cli.config import RunConfig
    from motivnet_cli.engine.machine import Choices
    from motivnet_cli.output.ledger import Ledger
    from motivnet_cli.records import Cursor
from motivnet_cli.scale.ray_session import TURN_SECONDS, Session
from motivnet_cli.scale.ray_worker import News, Worker

log = logging.getLogger(__name__)
MAX_DEATHS = 3
"""Workers that may die one after the other in one place without an input done, or with one unit in hand that does
not get on."""
MOST_CPUS = 4
"""Of a worker without a GPU that is not told otherwise: as many as read for one network."""
EXPECTED_WORKERS = 8
"""The least that a run on a cluster is cut up for: more nodes may come."""
LOOK_SECONDS = 2.0
"""Between two looks at what the cluster has."""
FIRST_NOTICE_SECONDS, NOTICE_SECONDS = 15.0, 30.0
"""After so long without the workers that were asked for it is said what is waited for, and then so often."""
BUSY_SECONDS = 1.0
"""A unit that a process outside this cluster holds is tried again after this time."""
VISIBLE_SECONDS = 90.0
"""How long what another node wrote may take to be seen here: NFS keeps what it knows of a folder for a minute."""


class RayWorkers:
    """Workers on a Ray cluster, or on a Ray of this machine that is started for the run and ended with it.

    Raises:
        ConfigError: Ray is not installed.
    """

    def __init__(self, config: RunConfig) -> None:
        self._scale = config.scale
        self._config = _as_every_node_reads_it(config)
        self._session = Session(config.scale.ray_address)
        self._ray = self._session.ray
        self._members: list[_Member] = []
        self._calls: dict[Any, _Member] = {}
        """Whom each reference to an answer is awaited from."""
        self._before = Tally()
        """Of workers that have died."""
        self._units: _Units | None = None
        self._is_stopping = False
        self._num_given_up = 0
        self._next_look = 0.0
        self._next_notice = math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            self._kill(member)
        self._session.close()

    def choices(self, stop: Callable[[], bool]) -> Choices | None:
        """What the settings come to where the first worker is ready; None if `stop()` came before.

        Raises:
            ConfigError: No cluster is at the address, or the settings do not fit it.
            WorkerError: Workers died again and again.
        """
        if not self._session.open(stop):
            return None
        self._next_notice = time.monotonic() + FIRST_NOTICE_SECONDS
        self._need = Need.of(self._config.model.device, self._scale, self._nodes())
        while not stop():
            for member in self._members:
                if member.choices is not None:
                    return member.choices
            self._look()
            self._turn()
        return None

    @property
    def num_expected(self) -> int:
        """How many will take part, as far as it is known."""
        num_fitting = max(1, self._need.num_fitting(self._nodes()))
        return self._scale.workers or (num_fitting if self._session.is_local else max(num_fitting, EXPECTED_WORKERS))

    def run(self, *, on_progress: Callable[[Tally], None], stop: Callable[[], bool]) -> Tally:
        """Have the workers do the units of the run, which has been begun and is locked by us, until none is left.

        Raises:
            MotivNetError: What a worker says of its settings, or what it writes is not to be seen here.
            WorkerError: Workers died again and again.
        """
        units = self._units = _Units(begun_run(self._config.output))
        try:
            while units.num_left and not stop():
                self._look()
                self._turn()
                on_progress(self._tally())
        finally:
            self._stop_all()
            on_progress(self._tally())
        if not units.num_left:
            units.wait_until_seen(self._config.output.path)
        return self._tally()

    def _stop_all(self) -> None:
        """Let the workers finish and commit what they have in hand; those that have nothing end at once."""
        self._is_stopping = True
        for member in list(self._members):
            if member.stage != "working":
                self._remove(member)
        while self._members:
            self._turn()

    def _look(self) -> None:
        """Ask for as many workers as there is room for, and say what is missing."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        nodes = self._nodes()
        num_placed = sum(member.stage != "asked" for member in self._members)
        wanted = self._scale.workers or max(1, self._need.num_fitting(nodes))
        if self._scale.workers is None and not self._session.is_local:
            wanted = max(wanted, num_placed + 1)  # the one without a place tells an autoscaler that more are welcome
        if self._units is not None:
            wanted = min(wanted, self._units.num_left)
        for _ in range(len(self._members) + self._num_given_up, wanted):
            self._ask_for_one()
        num_missing = max(1, self._scale.workers or 1) - num_placed
        if num_missing <= 0:
            self._next_notice = time.monotonic() + FIRST_NOTICE_SECONDS
        elif time.monotonic() >= self._next_notice:
            self._next_notice = time.monotonic() + NOTICE_SECONDS
            self._say_what_is_missing(num_missing, num_placed, nodes)

    def _say_what_is_missing(self, num_missing: int, num_placed: int, nodes: list[dict[str, float]]) -> None:
        free = self._ray.available_resources()
        there = ", ".join(
            f"{sum(node.get(kind, 0) for node in nodes):g} {kind}s ({free.get(kind, 0):g} free)"
            for kind in ("CPU", "GPU")
        )
        advice = ""
        if not self._need.num_fitting(nodes):
            advice = "; none is large enough: add one, or ask for less with --cpus-per-worker or --gpus-per-worker"
        who = f"{num_missing} more" if num_placed else str(num_missing)
        log.warning(
            "waiting for %s worker%s of %s to start; the Ray cluster has %s in %d node%s%s",
            who,
            "s" * (num_missing > 1),
            self._need,
            there,
            len(nodes),
            "s" * (len(nodes) != 1),
            advice,
        )

    def _nodes(self) -> list[dict[str, float]]:
        """What each node that is up has, in use or not."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _ask_for_one(self, deaths: int = 0) -> None:
        options = {"num_cpus": self._need.cpus, "num_gpus": self._need.gpus, "max_restarts": 0}
        actor = self._ray.remote(Worker).options(**options).remote(__version__, self._settings(), self._need.cpus)
        member = _Member(actor, deaths)
        self._members.append(member)
        self._calls[actor.where.remote()] = member

    def _settings(self) -> bytes:
        model, loader = self._config.model, self._config.loader
        if model.device == "auto":
            model = replace(model, device="cuda" if self._need.gpus else "cpu")
        loader = replace(loader, threads=loader.threads or self._need.cpus)
        return pickle.dumps(replace(self._config, model=model, loader=loader))

    def _turn(self) -> None:
        """Take in what one worker has to say, and answer it."""
        for member in self._members:
            if member.stage == "ready" and self._units is not None:
                member.stage = "working"
                self._talk(member)
        answered, _ = self._ray.wait(list(self._calls), timeout=TURN_SECONDS)
        for call in answered:
            member = self._calls.pop(call)
            try:
                answer = self._ray.get(call)
            except self._ray.exceptions.RayError as error:
                self._lost(member, _how_it_died(error))
            else:
                self._heard(member, answer)

    def _heard(self, member: _Member, answer: str | News) -> None:
        if isinstance(answer, str):
            member.where, member.stage = answer, "loading"
            self._calls[member.actor.set_up.remote()] = member
            return
        for level, text in answer.logs:
            log.log(level, "%s: %s", member.where, text)
        if answer.error is not None:
            kind, text = answer.error
            known = getattr(errors, kind, None)
            if known is not None and not self._is_stopping:
                self._remove(member)
                raise known(f"{member.where}: {text}")
            self._lost(member, f"{kind}: {text}")
            return
        member.tally = answer.tally
        if member.stage == "loading":
            member.choices, member.stage = answer.choices, "ready"
            return
        assert self._units is not None
        for unit, is_done in answer.settled:
            member.units.discard(unit)
            if is_done or not self._is_stopping:
                self._units.settle(unit, is_done=is_done)
        if answer.is_over:
            self._remove(member)
            return
        member.wants = answer.wants
        self._talk(member)

    def _talk(self, member: _Member) -> None:
        unit = None
        if member.wants and not self._is_stopping:
            assert self._units is not None
            unit = self._units.take(member.units)
            if unit is not None:
                member.units.add(unit)
        self._calls[member.actor.talk.remote(unit, stop=self._is_stopping)] = member

    def _lost(self, member: _Member, how: str) -> None:
        """A worker is gone: its units go back, and another takes its place, unless that did not help before."""
        self._remove(member)
        if self._is_stopping:
            return
        got_on = self._units is not None and self._units.give_back(member.units, how)
        deaths = 1 if got_on or member.tally.inputs else member.deaths + 1
        is_hopeless = deaths >= MAX_DEATHS
        then = (
            f"{deaths} died there one after the other, and no other is started"
            if is_hopeless
            else "another takes its place"
        )
        log.warning("the worker on %s died (%s): %s", member.where, how, then)
        if not is_hopeless:
            self._ask_for_one(deaths)
            return
        self._num_given_up += 1
        if not self._members:
            raise WorkerError(
                f"all workers on the Ray cluster died again and again, the last on {member.where} of {how}; what was "
                "committed is kept: the same command goes on from there"
            )

    def _remove(self, member: _Member) -> None:
        self._members.remove(member)
        self._calls = {call: other for call, other in self._calls.items() if other is not member}
        self._before += member.tally
        self._kill(member)

    def _kill(self, member: _Member) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(member.actor)

    def _tally(self) -> Tally:
        return sum((member.tally for member in self._members), self._before)


@dataclass(slots=True, eq=False)
class _Member:
    """What the driver knows of one worker."""

    actor: Any
    deaths: int
    """How many in its place died before it, one after the other, without an input done."""
    stage: Literal["asked", "loading", "ready", "working"] = "asked"
    where: str = "a node"
    choices: Choices | None = None
    tally: Tally = field(default_factory=Tally)
    units: set[int] = field(default_factory=set)
    """What it has in hand."""
    wants: bool = False
    """It has room for another unit."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a worker takes up of a node."""

    cpus: int
    gpus: float

    @classmethod
    def of(cls, device: str, scale: ScaleConfig, nodes: list[dict[str, float]]) -> Need:
        """As asked for; else a GPU where there are any, and the CPUs that come with it."""
        gpus, cpus = scale.gpus_per_worker, scale.cpus_per_worker
        if gpus is None:
            wants_gpus = device == "cuda" or (device == "auto" and any(node.get("GPU") for node in nodes))
            gpus = 1.0 if wants_gpus else 0.0
        if cpus is None and gpus:
            cpus = int(min((node.get("CPU", 0) * gpus / node["GPU"] for node in nodes if node.get("GPU")), default=1))
        elif cpus is None:
            cpus = int(min([MOST_CPUS, *(node["CPU"] for node in nodes if node.get("CPU"))]))
        return cls(max(1, cpus), gpus)

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus} CPU{'s' * (self.cpus > 1)}{gpus}"

    def num_fitting(self, nodes: list[dict[str, float]]) -> int:
        """How many workers the nodes have room for when nothing else runs on them."""
        return sum(
            int(min(node.get("CPU", 0) / self.cpus, node.get("GPU", 0) / self.gpus if self.gpus else math.inf))
            for node in nodes
        )


class _Units:
    """The units that are left: who gets which is decided here, and what is done is the ledger's to say."""

    def __init__(self, run: Ledger) -> None:
        self._run = run
        self._left = {unit for unit in run.units if not run.is_done(unit)}
        self._heap = sorted(self._left)
        self._busy: list[tuple[float, int]] = []
        """Units that someone outside has, and when to try them again."""
        self._given: dict[int, Cursor] = {}
        """How far a unit was when it was last given out."""
        self._deaths: dict[int, int] = {}
        """Workers that died with a unit in hand, one after the other, while it did not get on."""

    @property
    def num_left(self) -> int:
        return len(self._left)

    def take(self, in_hand: set[int]) -> int | None:
        """The next unit for a worker that has these; None if there is none for it now.

        Whoever has a unit with which another died has only that one, so that it is clear what a death is due to.
        """
        while self._busy and self._busy[0][0] <= time.monotonic():
            heapq.heappush(self._heap, heapq.heappop(self._busy)[1])
        if not self._heap or (in_hand and any(unit in self._deaths for unit in {self._heap[0], *in_hand})):
            return None
        unit = heapq.heappop(self._heap)
        self._given[unit] = self._run.reached(unit)
        return unit

    def settle(self, unit: int, *, is_done: bool) -> None:
        """A worker has done a unit, or could not have it."""
        if is_done:
            self._left.discard(unit)
            self._deaths.pop(unit, None)
            return
        if not self._busy:
            log.info("a process outside this cluster still works on unit %d: waiting for it", unit)
        heapq.heappush(self._busy, (time.monotonic() + BUSY_SECONDS, unit))

    def give_back(self, units: Iterable[int], how: str) -> bool:
        """Take back what a dead worker had in hand; says whether it had committed any of it.

        Raises:
            WorkerError: A unit does not get on however often it is tried.
        """
        got_on = set()
        for unit in units:
            self._run.refresh_unit(unit)
            if self._run.reached(unit) != self._given[unit]:
                got_on.add(unit)
            if self._run.is_done(unit):
                self._left.discard(unit)
                continue
            self._deaths[unit] = 1 if unit in got_on else self._deaths.get(unit, 0) + 1
            if self._deaths[unit] >= MAX_DEATHS:
                names = [todo.item.input for todo in self._run.todos(unit)]
                raise WorkerError(
                    f"{MAX_DEATHS} workers died with the same inputs in hand ({names[0]!r} to {names[-1]!r}), the last "
                    f"of {how}; what was committed is kept. Without --engine ray an error speaks for itself"
                )
            heapq.heappush(self._heap, unit)
        return bool(got_on)

    def wait_until_seen(self, path: str) -> None:
        """Until everything that was done elsewhere is to be seen here.

        Raises:
            ConfigError: It is not.
        """
        deadline = time.monotonic() + VISIBLE_SECONDS
        self._run.refresh()
        while self._run.num_done < self._run.num_items:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"workers have written parts that are not to be seen on this node: {path!r} must be one folder "
                    "that all nodes share"
                )
            time.sleep(1)
            self._run.refresh()


def _how_it_died(error: Exception) -> str:
    """Ray's explanation in short."""
    last = str(error).strip().splitlines()[-1]
    return last.partition("exit detail: ")[2].partition(" Some common causes")[0] or last


def _as_every_node_reads_it(config: RunConfig) -> RunConfig:
    """The settings with paths that do not depend on where a process stands."""
    model = config.model
    return replace(
        config,
        output=replace(config.output, path=_absolute(config.output.path)),
        model=replace(
            model,
            weights=None if model.weights is None else _absolute(model.weights),
            store=_absolute(str(Store(model.store).root)),
        ),
        scale=ScaleConfig(),
    )


def _absolute(path: str) -> str:
    return path if is_remote(path) else str(Path(path).absolute())
