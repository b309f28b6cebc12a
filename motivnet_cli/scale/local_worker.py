"""The program that `local_driver` starts for each device: it takes up units of a run until none is left.

Messages go out through a pipe of their own, a line of JSON each. When its stdin ends, its driver is gone, and it ends
at once: what it committed is kept.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import pickle
import signal
import sys
import threading
import time
from typing import IO, TYPE_CHECKING

from motivnet_cli.children import message_descriptor
from motivnet_cli.engine.work import load_network, make_predictor, row_layout
from motivnet_cli.errors import MotivNetError
from motivnet_cli.output.share import take_part
from motivnet_cli.scale.messages import ALIVE_SECONDS, SETTINGS_LENGTH_BYTES, Alive, Failure, Log, encode_message
from motivnet_cli.scale.worker import take_units

if TYPE_CHECKING:
    from motivnet_cli.config import RunConfig
    from motivnet_cli.scale.messages import Message
    from motivnet_cli.weights.file_hash import FileHash


def main() -> None:
    """Read the settings from stdin, and do the work."""
    messages = MessageWriter(os.fdopen(message_descriptor(), "w"))
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):  # they reach the whole process group, and the driver decides
            signal.signal(getattr(signal, name), lambda *_: None)
    config, cores, known_hash, level = pickle.loads(
        _read_stdin(int.from_bytes(_read_stdin(SETTINGS_LENGTH_BYTES), "big"))
    )
    if cores:
        os.sched_setaffinity(0, cores)
    stop = threading.Event()
    threading.Thread(target=_watch_stdin, args=(stop,), daemon=True).start()
    threading.Thread(target=_show_life, args=(messages,), daemon=True).start()
    logger = logging.getLogger("motivnet_cli")
    logger.addHandler(logging.handlers.QueueHandler(messages))  # type: ignore[arg-type]  # it only puts, never gets
    logger.setLevel(level)
    try:
        _work(config, known_hash, messages, stop)
    except Exception as error:  # noqa: BLE001 - the driver says it
        messages.send(Failure.of(error))
        sys.exit(2 if isinstance(error, MotivNetError) else 1)


def _work(config: RunConfig, known_hash: FileHash | None, messages: MessageWriter, stop: threading.Event) -> None:
    model = load_network(config.model, known_hash)
    predictor = make_predictor(model, config.model)
    share = take_part(config.output, row_layout(config, model))
    messages.send(take_units(share, config, model, predictor, on_progress=messages.send, stop=stop.is_set))


def _watch_stdin(stop: threading.Event) -> None:
    while True:
        _read_stdin(1)
        stop.set()


def _show_life(messages: MessageWriter) -> None:
    while True:
        messages.send(Alive())
        time.sleep(ALIVE_SECONDS)


def _read_stdin(num_bytes: int) -> bytes:
    """So many bytes; ends the process if the driver is gone. Past Python's buffer: a thread waits here to the end."""
    data = b""
    while len(data) < num_bytes:
        piece = os.read(0, num_bytes - len(data))
        if not piece:
            os._exit(1)
        data += piece
    return data


class MessageWriter:
    """The worker's end of the pipe to its driver."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        with self._lock:
            self._pipe.write(encode_message(message) + "\n")
            self._pipe.flush()

    def put_nowait(self, record: logging.LogRecord) -> None:
        """Send what the worker logs: all that a `QueueHandler` asks of its queue."""
        self.send(Log.of(record))


if __name__ == "__main__":
    main()
