"""A connection to a Ray cluster, or a Ray of this machine that is started for the run."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from motivnet_cli.engine.machine import usable_cores
from motivnet_cli.errors import ConfigError
from motivnet_cli.records import PHASE

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

log = logging.getLogger(__name__)


POLL_SECONDS = 0.2
"""How soon a stop is passed on."""
ANSWER_SECONDS = 10.0
"""In which the head of a cluster takes a connection. Ray itself waits for minutes, or ends the process that asks."""
OBJECT_STORE_BYTES = 100 << 20
"""Of a Ray that is started here: nothing large goes through it, and Ray would take a third of the memory."""


class Session:
    """A connection that lasts from `open` to `close`, held by a thread of its own.

    Ray's start takes seconds in which a stop must be noticed, it takes the signal handlers of the main thread for
    itself, and the processes of a Ray that it starts end with the thread that started them.

    Args:
        address: Of a cluster, such as `auto` or HOST:PORT; None starts a Ray on this machine.

    Raises:
        ConfigError: Ray is not installed.
    """

    def __init__(self, address: str | None) -> None:
        self.ray = _import_ray()
        self._address = address
        self._was_open = self.ray.is_initialized()
        """The calling program has connected already, and keeps its connection."""
        self.is_local = address is None and not self._was_open
        self._opened, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._stay, name="ray session", daemon=True)
        self._error: Exception | None = None

    def open(self, stop: Callable[[], bool]) -> bool:
        """Join the cluster, or start one; False if `stop()` came before.

        Raises:
            ConfigError: No cluster is at the address, or none can be started.
        """
        if self._was_open:
            return True
        if self.is_local:
            log.info("starting Ray on this machine", extra=PHASE)
        _silence_stdout(self.ray)
        self._thread.start()
        while not self._opened.wait(POLL_SECONDS):
            if stop():
                return False
        if self._error is None:
            _take_back_signals()
            return True
        why = " ".join(str(self._error).split())
        if self.is_local:
            raise ConfigError(f"Ray does not start here: {why}") from self._error
        raise ConfigError(
            f"no Ray cluster to join at {self._address!r} ({why}): start one with `ray start --head`, or leave out "
            "--ray-address to have one on this machine"
        ) from self._error

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        self._closed.set()
        if self._opened.is_set():
            self._thread.join()

    def _stay(self) -> None:
        try:
            self._connect()
        except Exception as error:  # noqa: BLE001 - Ray raises all kinds, also the bare class
            self._error = error
            return
        finally:
            self._opened.set()
        self._closed.wait()
        self.ray.shutdown()

    def _connect(self) -> None:
        logging.getLogger("ray").setLevel(logging.ERROR)
        if hasattr(signal, "pthread_sigmask"):
            # A signal to the whole process group is for the driver: Ray's processes inherit this mask.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
        options: dict[str, object] = {
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "job_config": _config_of_job(self.ray),
        }
        if self.is_local:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends no statistics of a run
            options |= {
                "address": "local",
                "num_cpus": usable_cores(),
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
            }
        else:
            options["address"] = _answering_address(self.ray, self._address or "auto")
        self.ray.init(**options)


def _import_ray() -> ModuleType:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError("--engine ray needs Ray: pip install 'motivnet-cli[ray]'") from error


def _config_of_job(ray: ModuleType) -> object:
    """Keep workers from importing what lies in the folder in which the run is started: it may be a data set.

    Ray puts that folder, and the one of the script, at the front of every worker's path, but for a job that brings a
    working folder along (docs/decisions/0014-private-interfaces.md).
    """
    config = ray.job_config.JobConfig()
    config._runtime_env_has_working_dir = lambda: True
    return config


def _silence_stdout(ray: ModuleType) -> None:
    """Keep what Ray prints of dead workers off stdout: it is for data (docs/decisions/0014-private-interfaces.md)."""
    worker = getattr(getattr(ray, "_private", None), "worker", None)
    if worker is None or not hasattr(worker, "print_to_stdstream"):
        log.warning(
            "Ray %s cannot be kept from printing: its messages may stand among the data on stdout", ray.__version__
        )
        return
    worker.print_to_stdstream = _drop


def _answering_address(ray: ModuleType, address: str) -> str:
    """HOST:PORT of the cluster that was asked for.

    Raises:
        OSError: None is found, or nothing answers there.
        ValueError: It is no address.
    """
    if address == "auto":
        address = _look_up_auto(ray)
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.port is None:
        raise ValueError("expected auto or HOST:PORT")
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise ConnectionError(f"{address} does not answer: {error.strerror or error}") from error
    return address


def _look_up_auto(ray: ModuleType) -> str:
    """What `auto` stands for; no public name of Ray says it (docs/decisions/0014-private-interfaces.md)."""
    try:
        services = importlib.import_module("ray._private.services")
        return str(services.canonicalize_bootstrap_address_or_die("auto"))
    except (ImportError, AttributeError) as error:
        raise ValueError(f"Ray {ray.__version__} does not say where `auto` is: give HOST:PORT") from error


def _take_back_signals() -> None:
    """Undo the handlers that Ray puts in front of the program's own: they write a stack of addresses to stderr."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)):
        handler = signal.getsignal(number)
        if handler is not None:
            signal.signal(number, handler)


def _drop(*_: object, **__: object) -> None:
    pass
