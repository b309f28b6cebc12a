"""Who does the work of a run: this process, worker processes on this machine, or actors on a Ray cluster."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from motivnet_cli.engine.machine import all_gpus
from motivnet_cli.engine.work import make_predictor, work
from motivnet_cli.errors import ConfigError
from motivnet_cli.scale.local_driver import LocalWorkers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motivnet_cli.config import RunConfig
    from motivnet_cli.engine.machine import Choices
    from motivnet_cli.engine.work import Tally
    from motivnet_cli.output.protocols import OpenRun
    from motivnet_cli.weights.load import LoadedModel


class Workforce(Protocol):
    """Who does the work of a run."""

    @property
    def choices(self) -> Choices:
        """What the settings come to where the work is done."""

    @property
    def name(self) -> str:
        """The devices, for people."""

    @property
    def num_workers(self) -> int:
        """How many processes do the work, as far as it is known: more of them get smaller units."""

    def do(self, run: OpenRun, *, on_progress: Callable[[Tally], None], stop: Callable[[], bool]) -> Tally:
        """Do the units of a run until none is left, or until `stop()`: what is in hand then is still written.

        Args:
            run: Begun, and held by this process.
            on_progress: Called with the tally of all workers, about after every batch.

        Raises:
            MotivNetError: A worker says that the settings do not fit where it runs.
            WorkerError: Workers died again and again; what they committed is kept.
        """


@contextlib.contextmanager
def open_workforce(config: RunConfig, model: LoadedModel, stop: Callable[[], bool]) -> Iterator[Workforce | None]:
    """Whoever the settings ask for, until the end of the block; None where `stop()` came before anyone could work.

    Raises:
        ConfigError: A device or the cluster does not exist, or cannot do what is asked for.
        WorkerError: Workers on a cluster died again and again.
    """
    if config.scale.engine == "ray":
        from motivnet_cli.scale.ray_driver import RayWorkers  # Ray is an extra

        with RayWorkers(config, model) as workers:
            yield workers if workers.wait_for_first(stop) else None
        return
    devices = _devices(config)
    yield LocalWorkers(config, model, devices) if devices else ThisProcess(config, model)


def _devices(config: RunConfig) -> tuple[str, ...]:
    """One for each worker process; none where this process does the work."""
    devices = config.scale.devices
    if devices != ("all",):
        return devices
    found = all_gpus()
    if not found:
        raise ConfigError("--devices all means every CUDA device, and torch sees none here; leave it out, or name some")
    return found


class ThisProcess:
    """The process that holds the output does the work, too."""

    num_workers = 1

    def __init__(self, config: RunConfig, model: LoadedModel) -> None:
        self._config = config
        self._model = model
        self._predictor = make_predictor(model, config.model)
        self.choices = self._predictor.choices
        self.name = self.choices.device_name

    def do(self, run: OpenRun, *, on_progress: Callable[[Tally], None], stop: Callable[[], bool]) -> Tally:
        """As `Workforce.do`."""
        return work(run, self._config, self._model, self._predictor, on_progress=on_progress, stop=stop)
