"""Worker processes on this machine, one for each device, and the driver that watches them.

Each is a `Child` that runs `motivnet_cli.scale.local_worker`: its settings come through its stdin, which stays open. A
byte there says stop; its end says that the driver is gone. A worker that dies is replaced, and its unit is taken up by
whoever comes next.
"""

from __future__ import annotations

import logging
import pickle
import queue
import signal
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING

from motivnet_cli.children import Child, ProtocolError, Silence
from motivnet_cli.config import ScaleConfig
from motivnet_cli.engine.machine import Choices, divide_cores
from motivnet_cli.engine.work import Tally
from motivnet_cli.errors import WorkerError, one_line
from motivnet_cli.output.share import begun_run
from motivnet_cli.scale.messages import MAX_DEATHS_IN_A_ROW, SETTINGS_LENGTH_BYTES, STOP, Failure, Log, decode_message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from motivnet_cli.config import RunConfig
    from motivnet_cli.output.protocols import OpenRun
    from motivnet_cli.records import Cursor
    from motivnet_cli.scale.messages import Message
    from motivnet_cli.weights.file_hash import FileHash
    from motivnet_cli.weights.load import LoadedModel

log = logging.getLogger(__name__)

STOP_POLL_SECONDS = 0.2
"""How soon a stop is passed on."""
STALL_SECONDS = 300.0
"""Without a sign of life for so long, a worker counts as hung; importing torch from a slow disk takes minutes."""
STALL_SECONDS_OF_STOP = 15.0
"""The same once the run is to stop."""
MAX_PRINTED_LINES = 3
"""Of a worker that died: the last lines that it printed, which say why."""
PRINTED_SECONDS = 1.0
"""How long what a dead worker prints is read on: processes that it has started may hold the pipe open."""


class LocalWorkers:
    """A worker process on each of some devices of this machine; a `Workforce`.

    Args:
        devices: Such as `cuda:0`, or `cpu` twice.

    Raises:
        ConfigError: The first device does not exist here, or cannot compute in the precision.
    """

    def __init__(self, config: RunConfig, model: LoadedModel, devices: Sequence[str]) -> None:
        self._config = config
        self._devices = devices
        self._model = model
        self.choices = Choices.of(model, replace(config.model, device=devices[0]))
        self.name = ", ".join(devices)
        self.num_workers = len(devices)

    def do(self, run: OpenRun, *, on_progress: Callable[[Tally], None], stop: Callable[[], bool]) -> Tally:
        """As `Workforce.do`."""
        pool = _Pool(replace(self._config, output=run.worker_config), self._devices, self._model.file_hash)
        try:
            return pool.run(on_progress, stop)
        finally:
            pool.close()


class _Printed:
    """Logs what a worker prints, and keeps the end of it."""

    def __init__(self, pipe: IO[bytes], device: str) -> None:
        self._lines: deque[str] = deque(maxlen=MAX_PRINTED_LINES)
        self._thread = threading.Thread(target=self._read, args=(pipe, device), daemon=True)
        self._thread.start()

    def last_lines(self) -> str:
        """The last lines of a worker that has ended; empty if there are none."""
        self._thread.join(PRINTED_SECONDS)
        return " | ".join(self._lines)

    def _read(self, pipe: IO[bytes], device: str) -> None:
        with pipe:
            for line in pipe:
                text = one_line(line.decode(errors="replace").strip())
                if text:
                    self._lines.append(text)
                    log.info("%s: %s", device, text)


@dataclass(slots=True, eq=False)
class _Worker:
    number: int
    device: str
    process: Child
    printed: _Printed
    tally: Tally = field(default_factory=Tally)
    failure: Failure | None = None
    """What it said before it died."""
    silence: Silence = field(default_factory=Silence)

    def why_it_died(self) -> str:
        if self.failure is not None:
            return str(self.failure)
        code = self.process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        said = self.printed.last_lines()
        return f"{how}: {said}" if said else how


class _Pool:
    """The workers of one run, from their start to their end."""

    def __init__(self, config: RunConfig, devices: Sequence[str], known_hash: FileHash | None) -> None:
        self._config = config
        self._known_hash = known_hash
        self._messages: queue.SimpleQueue[tuple[_Worker, Message | None]] = queue.SimpleQueue()
        """None: there are no more messages of this worker: it has ended."""
        self._tally_of_ended = Tally()
        self._deaths_in_a_row = 0
        self._reached: list[Cursor] = []
        """How far each unit was at the last death."""
        self._failure: Exception | None = None
        self._is_stopping = False
        self._cores = divide_cores(len(devices))
        self._workers = {number: self._start(number, device) for number, device in enumerate(devices)}
        """Those that run, by number."""

    def run(self, on_progress: Callable[[Tally], None], stop: Callable[[], bool]) -> Tally:
        while self._workers:
            if (stop() or self._failure) and not self._is_stopping:
                self._stop_all()
            heard = self._next_message()
            if heard is None:
                continue
            worker, message = heard
            if message is None:
                self._settle_end(worker)
            else:
                self._take_in(worker, message)
                if isinstance(message, Tally):
                    on_progress(self._tally())
        if self._failure is not None:
            raise self._failure
        return self._tally()

    def close(self) -> None:
        """End what still runs: nothing is lost but what was not yet committed."""
        for worker in self._workers.values():
            worker.process.kill()

    # ---- one worker ---------------------------------------------------------------------------------------

    def _start(self, number: int, device: str) -> _Worker:
        config = replace(self._config, model=replace(self._config.model, device=device), scale=ScaleConfig())
        settings = pickle.dumps((config, self._cores[number], self._known_hash, log.getEffectiveLevel()))
        process = Child("motivnet_cli.scale.local_worker")
        worker = _Worker(number, device, process, _Printed(process.printed, device))
        threading.Thread(target=self._read_messages, args=(worker,), daemon=True).start()
        process.give(len(settings).to_bytes(SETTINGS_LENGTH_BYTES, "big") + settings)
        return worker

    def _read_messages(self, worker: _Worker) -> None:
        with worker.process.messages as lines:
            for line in lines:
                try:
                    message = decode_message(line)
                except ProtocolError as error:
                    message = Failure.of(error)
                    worker.process.kill()
                self._messages.put((worker, message))
        self._messages.put((worker, None))

    def _take_in(self, worker: _Worker, message: Message) -> None:
        if isinstance(message, Tally):
            worker.tally = message
        elif isinstance(message, Log):
            message.relay(log, worker.device)
        elif isinstance(message, Failure):
            worker.failure = message
            self._failure = self._failure or message.for_user()

    def _next_message(self) -> tuple[_Worker, Message | None] | None:
        """What comes next of any worker; None if nothing does for a while."""
        began = time.monotonic()
        try:
            heard = self._messages.get(timeout=STOP_POLL_SECONDS)
        except queue.Empty:
            heard = None
        waited_s = time.monotonic() - began
        for worker in self._workers.values():
            worker.silence.add(waited_s)
        if heard is not None:
            heard[0].silence.end()
        self._end_hung()
        return heard

    def _end_hung(self) -> None:
        """End workers that have given no sign of life for too long."""
        limit = STALL_SECONDS_OF_STOP if self._is_stopping else STALL_SECONDS
        for worker in self._workers.values():
            if worker.silence.seconds >= limit:
                log.warning(
                    "the worker on %s (process %d) has said nothing for %.0f s and is ended",
                    worker.device,
                    worker.process.pid,
                    limit,
                )
                worker.silence.end()
                worker.process.send_kill()  # one in a call that nothing ends, as of a dead disk, is not waited for

    def _settle_end(self, worker: _Worker) -> None:
        """Count what a worker has done that has ended, and replace it if it died."""
        code = worker.process.wait()
        self._tally_of_ended += worker.tally
        del self._workers[worker.number]
        if code and not self._is_stopping and self._failure is None:
            self._replace(worker)

    def _replace(self, worker: _Worker) -> None:
        """Start another worker for one that died, unless that did not help before."""
        run = begun_run(self._config.output)
        before, self._reached = self._reached, [run.reached(unit) for unit in run.units]
        self._deaths_in_a_row = self._deaths_in_a_row + 1 if self._reached == before else 1
        why = worker.why_it_died()
        if self._deaths_in_a_row >= MAX_DEATHS_IN_A_ROW:
            self._failure = WorkerError(
                f"{MAX_DEATHS_IN_A_ROW} workers died one after the other, the last on {worker.device} of {why}; what "
                "was committed is kept: the same command goes on, and without --devices an error speaks for itself"
            )
            return
        log.warning("the worker on %s died (%s): another takes its place", worker.device, why)
        self._workers[worker.number] = self._start(worker.number, worker.device)

    # ---- all of them --------------------------------------------------------------------------------------

    def _tally(self) -> Tally:
        return sum((worker.tally for worker in self._workers.values()), self._tally_of_ended)

    def _stop_all(self) -> None:
        self._is_stopping = True
        for worker in self._workers.values():
            worker.process.give(STOP)
