"""The process that `crew` starts on a device: it takes up units of a run until none is left.

It talks JSON lines through its stdout: what it did, what it would log, and what went wrong. When its stdin ends,
nobody watches it any more, and it ends at once: what it committed is kept.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import sys
import threading
from typing import IO, TYPE_CHECKING, Any

from motivnet_cli.engine.work import Tally, load_network, make_predictor, row_layout, work
from motivnet_cli.errors import ConfigError, MotivNetError
from motivnet_cli.output.share import take_part

if TYPE_CHECKING:
    from motivnet_cli.config import RunConfig


def main() -> None:
    """Read the settings from stdin, and do the work."""
    voice = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no message
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):  # they reach the whole group, and the watching process decides
            signal.signal(getattr(signal, name), lambda *_: None)
    with open(0, "rb", buffering=0, closefd=False) as stdin:  # unbuffered: the bytes that follow are orders
        config, cores = pickle.load(stdin)
    if cores:
        os.sched_setaffinity(0, cores)
    stop = threading.Event()
    threading.Thread(target=_watch_stdin, args=(stop,), daemon=True).start()
    logging.getLogger("motivnet_cli").addHandler(_Messages(voice))
    logging.getLogger("motivnet_cli").setLevel(logging.INFO)
    try:
        take_units(config, voice, stop)
    except Exception as error:  # noqa: BLE001 - the watching process says it
        _say(voice, error=[type(error).__name__, str(error)])
        sys.exit(2 if isinstance(error, MotivNetError) else 1)


def take_units(config: RunConfig, voice: IO[str], stop: threading.Event) -> None:
    """The work itself.

    Raises:
        MotivNetError: The settings do not fit this device, or the run.
    """
    model = load_network(config.model)
    predictor = make_predictor(model, config.model)
    share = take_part(config.output, row_layout(config, model))
    record = share.record
    if predictor.choices.precision != record["precision"]:
        raise ConfigError(
            f"this run computes in {record['precision']}, and --precision {config.model.precision} comes to "
            f"{predictor.choices.precision} on {config.model.device}: give one that all devices have"
        )

    def on_progress(tally: Tally) -> None:
        stages = tally.stages
        numbers = [tally.inputs, tally.faces, tally.failed]
        _say(voice, tally=[*numbers, [stages.waiting, stages.computing, stages.writing]])

    try:
        on_progress(work(share, config, model, predictor, on_progress=on_progress, stop=stop.is_set))
    finally:
        share.close()


class _Messages(logging.Handler):
    def __init__(self, voice: IO[str]) -> None:
        super().__init__()
        self._voice = voice

    def emit(self, record: logging.LogRecord) -> None:
        _say(self._voice, log=[record.levelno, record.getMessage()])


def _say(voice: IO[str], **message: Any) -> None:  # noqa: ANN401 - anything that JSON holds
    voice.write(json.dumps(message) + "\n")


def _watch_stdin(stop: threading.Event) -> None:
    while os.read(0, 1):
        stop.set()
    os._exit(1)


if __name__ == "__main__":
    main()
