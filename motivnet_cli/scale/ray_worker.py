"""An actor on a Ray cluster: it does the units that the driver assigns to it, and answers what there is to say."""

from __future__ import annotations

import logging
import logging.handlers
import pickle
import platform
import queue
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from motivnet_cli import __version__
from motivnet_cli.engine.work import Tally, load_network, make_predictor, row_layout
from motivnet_cli.errors import ConfigError
from motivnet_cli.output.share import take_assigned
from motivnet_cli.scale.messages import Failure, Log
from motivnet_cli.scale.worker import take_units

if TYPE_CHECKING:
    from motivnet_cli.config import RunConfig
    from motivnet_cli.engine.machine import Choices
    from motivnet_cli.output.share import AssignedShare


@dataclass(frozen=True, slots=True)
class Report:
    """What an actor answers to the driver."""

    tally: Tally
    logs: tuple[Log, ...] = ()
    choices: Choices | None = None
    """What the settings come to here, once the network is loaded."""
    settled: tuple[tuple[int, bool], ...] = ()
    """Units that it no longer has, and whether they are done."""
    wants_unit: bool = False
    is_over: bool = False
    failure: Failure | None = None
    """What ended it."""


class Worker:
    """The actor: it does the units that it is given in one long run of the engine.

    Its methods are called one after the other: `where`, `set_up`, and then `talk` again and again.

    Args:
        version: Of motivnet where the driver runs.
        settings: Pickled: the `RunConfig`, the hash of its weights file as the driver knows it, and the level to log.
        num_cpus: That Ray has set aside for it.
    """

    def __init__(self, version: str, settings: bytes, num_cpus: int) -> None:
        self._version, self._settings, self._num_cpus = version, settings, num_cpus
        self._tally = Tally()
        self._queue = DriverQueue()
        self._share: AssignedShare | None = None
        self._failure: Failure | None = None
        self._is_over = False
        self._thread: threading.Thread | None = None
        self._records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()

    def where(self) -> str:
        """The node's name: the answer says that Ray has placed the actor."""
        return platform.node()

    def set_up(self) -> Report:
        """Load the network."""
        logger = logging.getLogger("motivnet_cli")
        logger.addHandler(logging.handlers.QueueHandler(self._records))
        try:
            if self._version != __version__:
                raise ConfigError(  # noqa: TRY301
                    f"motivnet {__version__} is installed here, and {self._version} runs the run: have one on all nodes"
                )
            self._config: RunConfig
            self._config, known_hash, level = pickle.loads(self._settings)
            logger.setLevel(level)
            self._model = load_network(self._config.model, known_hash)
            self._predictor = make_predictor(self._model, self._config.model, num_threads=self._num_cpus)
        except Exception as error:  # noqa: BLE001 - the driver decides
            return Report(self._tally, self._take_logs(), failure=Failure.of(error))
        return Report(self._tally, self._take_logs(), choices=self._predictor.choices)

    def talk(self, unit: int | None, *, stop: bool, within_s: float) -> Report:
        """Take a unit, if one is given, or the order to stop; answer when one is wanted, or within so many seconds."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        self._queue.answer(unit, stop=stop)
        wants_unit = self._queue.wait_for_request(within_s)
        is_over = self._is_over  # read before what it makes final
        return Report(
            self._tally,
            self._take_logs(),
            settled=() if self._share is None else tuple(self._share.settled()),
            wants_unit=wants_unit,
            is_over=is_over,
            failure=self._failure if is_over else None,
        )

    def _take_logs(self) -> tuple[Log, ...]:
        logs = []
        while not self._records.empty():
            logs.append(Log.of(self._records.get()))
        return tuple(logs)

    def _work(self) -> None:
        config, model, predictor = self._config, self._model, self._predictor
        try:
            share = self._share = take_assigned(config.output, row_layout(config, model), self._queue)
            stop = self._queue.is_stopped
            self._tally = take_units(share, config, model, predictor, on_progress=self._note_progress, stop=stop)
        except Exception as error:  # noqa: BLE001 - the driver decides
            self._failure = Failure.of(error)
        finally:
            self._is_over = True
            self._queue.wake_driver()

    def _note_progress(self, tally: Tally) -> None:
        self._tally = tally


class DriverQueue:
    """The `UnitQueue` of an actor: the engine requests a unit, the driver hears of it, and answers with its next call.

    The engine calls `next`, `wait` and `is_stopped` from its thread, the actor the others from Ray's.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._units: deque[int] = deque()
        self._is_stopped = False
        self._is_asking = False
        """The engine waits for an answer, be it that there is nothing now."""
        self._is_idle = False
        """The engine waits for a unit."""
        self._is_heard = False
        """The driver has been told that the engine is asking, and so its next call is the answer."""
        self._has_news = False
        """The driver is to hear from the actor at once."""

    # ---- the engine's side --------------------------------------------------------------------------------

    def next(self) -> int | None:
        """Another unit at once; None if there is none now."""
        with self._changed:
            self._is_asking, self._is_heard = True, False
            self.wake_driver()
            self._changed.wait_for(lambda: self._units or self._is_stopped or not self._is_asking)
            self._is_asking = False
            return self._take()

    def wait(self) -> int | None:
        """Another unit, whenever it comes; None when there will be none."""
        with self._changed:
            self._is_idle = True
            self.wake_driver()
            self._changed.wait_for(lambda: self._units or self._is_stopped)
            self._is_idle = False
            return self._take()

    def is_stopped(self) -> bool:
        return self._is_stopped

    def _take(self) -> int | None:
        return self._units.popleft() if self._units and not self._is_stopped else None

    # ---- the driver's side --------------------------------------------------------------------------------

    def answer(self, unit: int | None, *, stop: bool) -> None:
        """What the driver says to what it last heard."""
        with self._changed:
            self._is_stopped = self._is_stopped or stop
            if unit is not None:
                self._units.append(unit)
            if self._is_heard:
                self._is_asking = self._is_heard = False
            self._changed.notify_all()

    def wait_for_request(self, seconds: float) -> bool:
        """Whether the engine wants a unit; known at once if it does or `wake_driver` is called."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_news, seconds)
            self._has_news = False
            self._is_heard = self._is_asking
            return self._is_asking or (self._is_idle and not self._units)

    def wake_driver(self) -> None:
        """Have `wait_for_request` return at once."""
        with self._changed:
            self._has_news = True
            self._changed.notify_all()
