"""Worker processes on this machine, one a device, that do a run's units while this process watches them.

Each is `python -m motivnet_cli.scale.worker`: its settings come through its stdin, which stays open and says stop,
or by its end that nobody watches any more; what it did and says comes back through its stdout. A worker that dies is
replaced, and its unit is taken up by whoever comes next.
"""

from __future__ import annotations

import contextlib
import json
import logging
import pickle
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any

from motivnet_cli import errors
from motivnet_cli.config import ScaleConfig
from motivnet_cli.engine.machine import divide_cores
from motivnet_cli.engine.predictor import Stages
from motivnet_cli.engine.work import Tally
from motivnet_cli.output.share import begun_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from motivnet_cli.config import RunConfig
    from motivnet_cli.records import Cursor

log = logging.getLogger(__name__)

MAX_DEATHS = 3
"""Workers that may die one after the other while nothing more is committed."""
STOP_SECONDS = 0.2
"""How soon a stop is passed on."""
STOP = b"s"


@dataclass(slots=True)
class _Worker:
    device: str
    process: subprocess.Popen[bytes]
    tally: Tally = field(default_factory=Tally)
    error: str | None = None
    """What it said before it died."""

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin


def run_workers(
    config: RunConfig, devices: Sequence[str], *, on_progress: Callable[[Tally], None], stop: Callable[[], bool]
) -> Tally:
    """Have a worker on each device take up units until none is left; the run has been begun and is locked by us.

    Raises:
        MotivNetError: What a worker says of its settings.
        WorkerError: Workers died again and again.
    """
    crew = _Crew(config, devices)
    try:
        return crew.run(on_progress, stop)
    finally:
        crew.close()


class _Crew:
    def __init__(self, config: RunConfig, devices: Sequence[str]) -> None:
        self._config = config
        self._messages: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = queue.SimpleQueue()
        self._before = Tally()
        """Of workers that have died."""
        self._deaths = 0
        """One after the other, while nothing more was committed."""
        self._reached: list[Cursor] = []
        """How far each unit was at the last of them."""
        self._cores = divide_cores(len(devices))
        self._workers = [self._start(place, device) for place, device in enumerate(devices)]

    def run(self, on_progress: Callable[[Tally], None], stop: Callable[[], bool]) -> Tally:
        running = set(range(len(self._workers)))
        is_stopping = False
        failure: Exception | None = None
        while running:
            if (stop() or failure) and not is_stopping:
                is_stopping = True
                self._stop_all()
            try:
                worker, message = self._messages.get(timeout=STOP_SECONDS)
            except queue.Empty:
                continue
            if message is not None:
                failure = self._heard(worker, message) or failure
                if "tally" in message:
                    on_progress(self._tally())
                continue
            place = self._workers.index(worker)
            worker.process.wait()
            if worker.process.returncode and not is_stopping and failure is None:
                failure = self._replace(place)
            if self._workers[place] is worker:
                running.discard(place)
        if failure is not None:
            raise failure
        return self._tally()

    def close(self) -> None:
        """End what still runs: nothing is lost but what was not yet committed."""
        for worker in self._workers:
            worker.process.kill()
            worker.process.wait()
            with contextlib.suppress(OSError):
                worker.stdin.close()

    def _start(self, place: int, device: str) -> _Worker:
        config = replace(self._config, model=replace(self._config.model, device=device), scale=ScaleConfig())
        settings = pickle.dumps((config, self._cores[place]))
        command = [sys.executable, "-m", "motivnet_cli.scale.worker"]
        worker = _Worker(device, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        with contextlib.suppress(BrokenPipeError):  # it died already, and its end is noticed
            worker.stdin.write(settings)
            worker.stdin.flush()
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        with worker.process.stdout as lines:
            for line in lines:
                self._messages.put((worker, json.loads(line)))
        self._messages.put((worker, None))

    def _heard(self, worker: _Worker, message: dict[str, Any]) -> Exception | None:
        """Take in what a worker says; an error of settings ends the run."""
        if "tally" in message:
            inputs, faces, failed, stages = message["tally"]
            worker.tally = Tally(inputs, faces, failed, Stages(*stages))
        elif "log" in message:
            level, text = message["log"]
            log.log(level, "%s: %s", worker.device, text)
        elif "error" in message:
            kind, text = message["error"]
            known = getattr(errors, kind, None)
            if known is not None:
                told: Exception = known(text)
                return told
            worker.error = f"{kind}: {text}"
        return None

    def _replace(self, place: int) -> Exception | None:
        """Start another worker for one that died, unless that did not help before."""
        worker = self._workers[place]
        code = worker.process.returncode
        how = worker.error or (signal.Signals(-code).name if code < 0 else f"exit code {code}")
        run = begun_run(self._config.output)
        before, self._reached = self._reached, [run.reached(unit) for unit in run.units]
        self._deaths = self._deaths + 1 if self._reached == before else 1
        if self._deaths >= MAX_DEATHS:
            return errors.WorkerError(
                f"{MAX_DEATHS} workers died one after the other, the last on {worker.device} of {how}; what was "
                "committed is kept: the same command goes on, and without --devices an error speaks for itself"
            )
        log.warning("the worker on %s died (%s): another takes its place", worker.device, how)
        self._before += worker.tally
        worker.stdin.close()
        self._workers[place] = self._start(place, worker.device)
        return None

    def _tally(self) -> Tally:
        return sum((worker.tally for worker in self._workers), self._before)

    def _stop_all(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.stdin.write(STOP)
                worker.stdin.flush()
