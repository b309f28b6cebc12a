"""An actor on a Ray cluster: the units that it is handed, and its messages."""

from __future__ import annotations

import logging
import pickle
import platform
import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from motivnet_cli import __version__
from motivnet_cli.engine.work import Tally, load_network, make_predictor, row_layout, work
from motivnet_cli.errors import ConfigError
from motivnet_cli.output.share import take_assigned

if TYPE_CHECKING:
    from motivnet_cli.config import RunConfig
    from motivnet_cli.engine.machine import Choices
    from motivnet_cli.output.share import AssignedShare


NEWS_SECONDS = 0.5
"""An actor that needs nothing says so often how far it is."""


@dataclass(slots=True)
class News:
    """What a worker tells the driver."""

    tally: Tally
    choices: Choices | None = None
    settled: tuple[tuple[int, bool], ...] = ()
    """Units that it no longer has, and whether they are done."""
    wants: bool = False
    is_over: bool = False
    error: tuple[str, str] | None = None
    """Class and message of what ended it."""
    logs: tuple[tuple[int, str], ...] = ()


class Worker:
    """The actor: it does the units that it is handed, as one long run of the engine.

    Its three methods are called one after the other, `talk` again and again.
    """

    def __init__(self, version: str, settings: bytes, num_cpus: int) -> None:
        self._version, self._settings, self._num_cpus = version, settings, num_cpus
        self._tally = Tally()
        self._hand = _Hand()
        self._share: AssignedShare | None = None
        self._error: tuple[str, str] | None = None
        self._is_over = False
        self._thread: threading.Thread | None = None
        self._logs: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()

    def where(self) -> str:
        """The node's name: the answer says that Ray has found a place."""
        return platform.node()

    def set_up(self) -> News:
        """Load the model."""
        logger = logging.getLogger("motivnet_cli")
        logger.addHandler(_Messages(self._logs))
        logger.setLevel(logging.INFO)
        try:
            if self._version != __version__:
                raise ConfigError(f"motivnet {__version__} is installed here, and {self._version} runs the run")  # noqa: TRY301
            self._config: RunConfig = pickle.loads(self._settings)
            self._model = load_network(self._config.model)
            self._predictor = make_predictor(self._model, self._config.model, num_threads=self._num_cpus)
        except Exception as error:  # noqa: BLE001 - the driver decides
            return self._news(error=(type(error).__name__, str(error)))
        return self._news(choices=self._predictor.choices)

    def talk(self, unit: int | None, *, stop: bool) -> News:
        """Take a unit, if one is given, or the order to stop; the answer comes as soon as there is something to say."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()
        self._hand.receive(unit, stop=stop)
        wants = self._hand.wait_for_news()
        is_over = self._is_over
        settled = () if self._share is None else tuple(self._share.settled())
        return self._news(settled=settled, wants=wants, is_over=is_over, error=self._error if is_over else None)

    def _news(self, **told: Any) -> News:  # noqa: ANN401 - the fields of News
        logs = []
        while not self._logs.empty():
            logs.append(self._logs.get())
        return News(self._tally, logs=tuple(logs), **told)

    def _work(self) -> None:
        config, model, predictor = self._config, self._model, self._predictor
        try:
            share = take_assigned(config.output, row_layout(config, model), self._hand)
            record = share.record
            self._share = share
            ours = {"model.precision": predictor.choices.precision, "model.weights_sha256": model.weights_sha256}
            for name, value in ours.items():
                if value != record["settings"][name]:
                    raise ConfigError(  # noqa: TRY301
                        f"the run was begun with {name} {record['settings'][name]}, and here it comes to {value}"
                    )
            try:
                self._tally = work(share, config, model, predictor, on_progress=self._told, stop=self._hand.is_stopped)
            finally:
                share.close()
        except Exception as error:  # noqa: BLE001 - the driver decides
            self._error = (type(error).__name__, str(error))
        finally:
            self._is_over = True
            self._hand.wake()

    def _told(self, tally: Tally) -> None:
        self._tally = tally


class _Hand:
    """Where units come in: the engine asks, and the driver hears of it when it next talks with the worker."""

    def __init__(self) -> None:
        self._units: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._news = threading.Event()
        self._stopped = threading.Event()
        self._asks = False
        """The engine waits for an answer, be it that there is nothing now."""
        self._must_answer = False
        """The driver has been told of it."""
        self._is_idle = False

    # ---- of the engine ----

    def next(self) -> int | None:
        """Another unit at once; None if there is none now."""
        if self.is_stopped():
            return None
        self._asks = True
        self._news.set()
        return self._units.get()

    def wait(self) -> int | None:
        """Another unit, whenever it comes; None when there will be none."""
        unit = None
        while unit is None and not self.is_stopped():
            self._is_idle = True
            self._news.set()
            unit = self._units.get()
        self._is_idle = False
        return unit

    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def wake(self) -> None:
        """There is something to tell the driver."""
        self._news.set()

    # ---- of the driver ----

    def receive(self, unit: int | None, *, stop: bool) -> None:
        """What the driver answers to what it was last told."""
        if stop:
            self._stopped.set()
        if unit is not None:
            self._is_idle = False
        if unit is not None or self._must_answer or stop:
            self._units.put(unit)
        self._must_answer = False

    def wait_for_news(self) -> bool:
        """Whether the engine wants a unit; the answer comes at once if it does or `wake` is called."""
        self._news.wait(NEWS_SECONDS)
        self._news.clear()
        self._must_answer, self._asks = self._asks, False
        return self._must_answer or self._is_idle


class _Messages(logging.Handler):
    """Keeps what a worker would log, for the driver to say."""

    def __init__(self, kept: queue.SimpleQueue[tuple[int, str]]) -> None:
        super().__init__()
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.put((record.levelno, record.getMessage()))
