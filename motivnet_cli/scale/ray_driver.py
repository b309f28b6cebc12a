"""A run's units on a Ray cluster: the driver asks for actors, and assigns the units to them.

Ray finds a place for the actors, says when one is gone, and carries a few hundred bytes a unit. Pixels and rows never
pass through it: an actor reads the inputs and writes the parts itself, as every process that takes part in a run.
Whatever dies, the ledger says what is done, and a run without Ray can go on from it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import pickle
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from motivnet_cli import __version__
from motivnet_cli.config import ScaleConfig
from motivnet_cli.engine.work import Tally
from motivnet_cli.errors import WorkerError
from motivnet_cli.output.share import begun_run
from motivnet_cli.remote.urls import is_remote
from motivnet_cli.scale.messages import MAX_DEATHS_IN_A_ROW
from motivnet_cli.scale.ray_session import POLL_SECONDS, Session
from motivnet_cli.scale.ray_units import UnitPool
from motivnet_cli.scale.ray_worker import Report, Worker
from motivnet_cli.weights.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from motivnet_cli.config import RunConfig
    from motivnet_cli.engine.machine import Choices
    from motivnet_cli.output.protocols import OpenRun
    from motivnet_cli.weights.load import LoadedModel

log = logging.getLogger(__name__)
MAX_DEFAULT_CPUS = 4
"""Of an actor without a GPU whose CPUs nobody has given: as many as read for one network."""
MIN_EXPECTED_WORKERS = 8
"""A run on a cluster is cut up for as many at least: more nodes may come."""
LOOK_SECONDS = 2.0
"""Between two looks at what the cluster has."""
REPORT_SECONDS = 0.5
"""An actor that needs nothing answers after this time, and says how far it is."""
MAX_REPORTS_PER_SECOND = 400
"""Of all actors together that need nothing: Ray takes a third of a millisecond for each (benchmarks/ray_driver.py)."""
PROGRESS_SECONDS = 0.2
"""Between two sums of what all actors did."""
FIRST_NOTICE_SECONDS, NOTICE_SECONDS = 15.0, 30.0
"""After so long without the workers that were asked for it is said what is waited for, and then so often."""


class RayWorkers:
    """Actors on a Ray cluster, or on a Ray of this machine that is started for the run and ended with it.

    A `Workforce` once `wait_for_first` has said so.

    Raises:
        ConfigError: Ray is not installed.
    """

    choices: Choices

    def __init__(self, config: RunConfig, model: LoadedModel) -> None:
        self._model = model
        self._scale = config.scale
        self._config = _with_absolute_paths(config)
        self._session = Session(config.scale.ray_address)
        self._ray = self._session.ray
        self._actors: set[_Actor] = set()
        self._calls: dict[object, _Actor] = {}
        """Whom each reference to an answer is awaited from: one answer of each actor at most."""
        self._tally_of_ended = Tally()
        self._units: UnitPool | None = None
        """None while the run has not begun."""
        self._is_stopping = False
        self._num_given_up = 0
        """Actors that died too often to be asked for again."""
        self._next_look = self._next_progress = 0.0
        self._next_notice = math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            self._kill(actor)
        self._session.close()

    def wait_for_first(self, stop: Callable[[], bool]) -> bool:
        """Connect, and wait until an actor has loaded the network; False if `stop()` came before.

        Raises:
            ConfigError: No cluster is at the address, or the settings do not fit it.
            WorkerError: Workers died again and again.
        """
        if not self._session.open(stop):
            return False
        self._next_notice = time.monotonic() + FIRST_NOTICE_SECONDS
        self._need = Need.of(self._config.model.device, self._scale, self._nodes())
        while not stop():
            for actor in self._actors:
                if actor.choices is not None:
                    self.choices = actor.choices
                    return True
            self._ask_for_missing()
            self._take_answers()
        return False

    @property
    def name(self) -> str:
        """As `Workforce.name`."""
        return f"{self.choices.device_name} on Ray"

    @property
    def num_workers(self) -> int:
        """As `Workforce.num_workers`."""
        num_fitting = max(1, self._need.num_fitting(self._nodes()))
        if self._scale.workers:
            return self._scale.workers
        return num_fitting if self._session.is_local else max(num_fitting, MIN_EXPECTED_WORKERS)

    def do(self, run: OpenRun, *, on_progress: Callable[[Tally], None], stop: Callable[[], bool]) -> Tally:
        """As `Workforce.do`.

        Raises:
            ConfigError: What workers write is not to be seen here.
        """
        units = self._units = UnitPool(begun_run(self._config.output))
        try:
            for actor in self._actors:
                if actor.stage == "ready":
                    self._begin(actor)
            while units.num_left and not stop():
                self._ask_for_missing()
                self._take_answers()
                if time.monotonic() >= self._next_progress:
                    on_progress(self._tally())
                    self._next_progress = time.monotonic() + PROGRESS_SECONDS
        finally:
            self._stop_all()
            on_progress(self._tally())
        if not units.num_left:
            units.wait_until_visible(self._config.output.path)
        return self._tally()

    def _stop_all(self) -> None:
        """Let the actors finish and commit what they have in hand; those that have nothing end at once."""
        self._is_stopping = True
        for actor in list(self._actors):
            if actor.stage != "working" or actor.call is None:  # of an answer that could not be read no other comes
                self._remove(actor)
        while self._actors:
            self._take_answers()

    def _tally(self) -> Tally:
        return sum((actor.tally for actor in self._actors), self._tally_of_ended)

    # ---- how many -----------------------------------------------------------------------------------------

    def _ask_for_missing(self) -> None:
        """Now and then, ask for as many actors as fit, and say what is missing."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        nodes = self._nodes()
        num_placed = sum(actor.stage != "asked" for actor in self._actors)
        for _ in range(len(self._actors) + self._num_given_up, self._num_wanted(nodes, num_placed)):
            self._ask_for_one()
        num_missing = max(1, self._scale.workers or 1) - num_placed
        if num_missing <= 0:
            self._next_notice = time.monotonic() + FIRST_NOTICE_SECONDS
        elif time.monotonic() >= self._next_notice:
            self._next_notice = time.monotonic() + NOTICE_SECONDS
            self._say_what_is_missing(num_missing, num_placed, nodes)

    def _num_wanted(self, nodes: list[dict[str, float]], num_placed: int) -> int:
        wanted = self._scale.workers or max(1, self._need.num_fitting(nodes))
        if self._scale.workers is None and not self._session.is_local:
            wanted = max(wanted, num_placed + 1)  # one without a place lets an autoscaler know that more are welcome
        return wanted if self._units is None else min(wanted, self._units.num_left)

    def _say_what_is_missing(self, num_missing: int, num_placed: int, nodes: list[dict[str, float]]) -> None:
        free = self._ray.available_resources()
        there = ", ".join(
            f"{sum(node.get(kind, 0) for node in nodes):g} {kind}s ({free.get(kind, 0):g} free)"
            for kind in ("CPU", "GPU")
        )
        advice = ""
        if not self._need.num_fitting(nodes):
            advice = "; none is large enough: add one, or ask for less with --cpus-per-worker or --gpus-per-worker"
        log.warning(
            "waiting for %s worker%s of %s to start; the Ray cluster has %s in %d node%s%s",
            f"{num_missing} more" if num_placed else str(num_missing),
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
        remote = self._ray.remote(Worker).options(**options).remote(__version__, self._settings(), self._need.cpus)
        actor = _Actor(remote, deaths)
        self._actors.add(actor)
        self._await(actor, remote.where.remote())

    def _settings(self) -> bytes:
        model, loader = self._config.model, self._config.loader
        if model.device == "auto":
            model = replace(model, device="cuda" if self._need.gpus else "cpu")
        loader = replace(loader, threads=loader.threads or self._need.cpus)
        config = replace(self._config, model=model, loader=loader)
        return pickle.dumps((config, self._model.file_hash, log.getEffectiveLevel()))

    # ---- one actor ----------------------------------------------------------------------------------------

    def _take_answers(self) -> None:
        """Take in what actors have to say, and call them again; wait a moment for it."""
        calls = list(self._calls)
        # All that are there: for each by itself, Ray would look through the calls of all actors.
        answered, _ = self._ray.wait(calls, num_returns=max(1, len(calls)), timeout=0)
        if not answered:
            answered, _ = self._ray.wait(calls, timeout=POLL_SECONDS)
        for call in answered:
            actor = self._calls.pop(call, None)
            if actor is None:  # it has been removed since
                continue
            actor.call = None
            try:
                answer = self._ray.get(call)
            except self._ray.exceptions.RayError as error:
                self._lost(actor, _death_in(error))
                continue
            if isinstance(answer, Report):
                self._take_report(actor, answer)
            else:
                actor.where, actor.stage = str(answer), "loading"
                self._await(actor, actor.remote.set_up.remote())

    def _await(self, actor: _Actor, call: object) -> None:
        actor.call = call
        self._calls[call] = actor

    def _take_report(self, actor: _Actor, report: Report) -> None:
        for line in report.logs:
            line.relay(log, actor.where)
        if report.failure is not None:
            error = report.failure.for_user(actor.where)
            if error is not None and not self._is_stopping:
                self._remove(actor)
                raise error
            self._lost(actor, str(report.failure))
            return
        actor.tally = report.tally
        if actor.stage == "loading":
            actor.choices, actor.stage = report.choices, "ready"
            if self._units is not None:
                self._begin(actor)
            return
        self._settle(actor, report.settled)
        if report.is_over:
            self._remove(actor)
            return
        actor.wants_unit = report.wants_unit
        self._talk(actor)

    def _settle(self, actor: _Actor, settled: tuple[tuple[int, bool], ...]) -> None:
        for unit, is_done in settled:
            actor.units.discard(unit)
            if self._units is not None and (is_done or not self._is_stopping):
                self._units.settle(unit, is_done=is_done)

    def _begin(self, actor: _Actor) -> None:
        actor.stage = "working"
        self._talk(actor)

    def _talk(self, actor: _Actor) -> None:
        unit = None
        if self._units is not None and actor.wants_unit and not self._is_stopping:
            unit = self._units.take(actor.units)
            if unit is not None:
                actor.units.add(unit)
        within_s = max(REPORT_SECONDS, len(self._actors) / MAX_REPORTS_PER_SECOND)
        self._await(actor, actor.remote.talk.remote(unit, stop=self._is_stopping, within_s=within_s))

    def _lost(self, actor: _Actor, how: str) -> None:
        """An actor is gone: its units go back, and another takes its place, unless that did not help before."""
        self._remove(actor)
        if self._is_stopping:
            return
        got_on = self._units is not None and self._units.give_back(actor.units, how)
        deaths = 1 if got_on or actor.tally.inputs else actor.deaths + 1
        if deaths < MAX_DEATHS_IN_A_ROW:
            log.warning("the worker on %s died (%s): another takes its place", actor.where, how)
            self._ask_for_one(deaths)
            return
        log.warning(
            "the worker on %s died (%s): %d died there one after the other, and no other is started",
            actor.where,
            how,
            deaths,
        )
        self._num_given_up += 1
        if not self._actors:
            raise WorkerError(
                f"all workers on the Ray cluster died again and again, the last on {actor.where} of {how}; what was "
                "committed is kept: the same command goes on from there"
            )

    def _remove(self, actor: _Actor) -> None:
        self._actors.remove(actor)
        if actor.call is not None:
            del self._calls[actor.call]
        self._tally_of_ended += actor.tally
        self._kill(actor)

    def _kill(self, actor: _Actor) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor.remote)


class _RemoteMethod(Protocol):
    def remote(self, *args: object, **options: object) -> object:
        """Call it; a reference to the answer."""


class _RemoteWorker(Protocol):
    """Ray's handle to a `Worker`."""

    where: _RemoteMethod
    set_up: _RemoteMethod
    talk: _RemoteMethod


@dataclass(slots=True, eq=False)
class _Actor:
    """What the driver knows of an actor."""

    remote: _RemoteWorker
    deaths: int
    """How many in its place died before it, one after the other, without an input done."""
    call: object | None = None
    """The reference to the answer that is awaited."""
    stage: Literal["asked", "loading", "ready", "working"] = "asked"
    where: str = "a node"
    choices: Choices | None = None
    tally: Tally = field(default_factory=Tally)
    units: set[int] = field(default_factory=set)
    """Those that it has in hand."""
    wants_unit: bool = False


@dataclass(frozen=True, slots=True)
class Need:
    """What an actor takes up of a node."""

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
            cpus = int(min([MAX_DEFAULT_CPUS, *(node["CPU"] for node in nodes if node.get("CPU"))]))
        return cls(max(1, cpus), gpus)

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus} CPU{'s' * (self.cpus > 1)}{gpus}"

    def num_fitting(self, nodes: list[dict[str, float]]) -> int:
        """How many actors fit on the nodes when nothing else runs on them."""
        return sum(
            int(min(node.get("CPU", 0) / self.cpus, node.get("GPU", 0) / self.gpus if self.gpus else math.inf))
            for node in nodes
        )


def _death_in(error: Exception) -> str:
    """Ray's explanation in short."""
    last = str(error).strip().splitlines()[-1]
    return last.partition("exit detail: ")[2].partition(" Some common causes")[0] or last


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """The settings as every node reads them alike, wherever its processes stand."""
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
