"""What workers and the driver that watches them say to each other."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from motivnet_cli import errors
from motivnet_cli.children import ProtocolError
from motivnet_cli.engine.predictor import Stages
from motivnet_cli.engine.work import Tally
from motivnet_cli.errors import InputError, MotivNetError

if TYPE_CHECKING:
    import logging

MAX_DEATHS_IN_A_ROW = 3
"""Workers that may die one after the other while nothing more gets done; then the run ends with an error."""

SETTINGS_LENGTH_BYTES = 8
"""Of the number that a worker on this machine reads first: how long its settings are."""

ALIVE_SECONDS = 1.0
"""Between two signs of life of a worker on this machine."""

STOP = b"s"
"""To a worker on this machine: finish the batches that are begun, and end."""


@dataclass(frozen=True, slots=True)
class Log:
    """A line that a worker logs."""

    level: int
    text: str
    kind: str | None = None
    """Of `records.PHASE`."""
    fields: dict[str, object] = field(default_factory=dict)
    """What is said of, by names for programs, as text where JSON has no such value."""

    @classmethod
    def of(cls, record: logging.LogRecord) -> Log:
        fields = {name: _plain(value) for name, value in getattr(record, "fields", {}).items()}
        return cls(record.levelno, record.getMessage(), getattr(record, "kind", None), fields)

    def relay(self, log: logging.Logger, worker: str) -> None:
        """Log it here, as what the worker says."""
        extra = {"kind": self.kind, "fields": {"worker": worker, **self.fields}}
        log.log(self.level, "%s: %s", worker, self.text, extra=extra)


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int | float | None) else str(value)


@dataclass(frozen=True, slots=True)
class Failure:
    """The error that ended a worker."""

    error_class: str
    text: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        return cls(type(error).__name__, str(error))

    def for_user(self, worker: str = "") -> MotivNetError | None:
        """The error to end the run with, where it is one that any other worker would meet, too.

        Args:
            worker: Named at the front of the message, if given.
        """
        known = getattr(errors, self.error_class, None)
        if not (isinstance(known, type) and issubclass(known, MotivNetError)) or known is InputError:
            return None
        return known(f"{worker}: {self.text}" if worker else self.text)

    def __str__(self) -> str:
        return f"{self.error_class}: {self.text}"


@dataclass(frozen=True, slots=True)
class Alive:
    """Said about once a second, whatever the worker does."""


Message = Tally | Log | Failure | Alive
"""What a worker on this machine says: what it did by now, what it logs, what ended it, or that it is there."""


def encode_message(message: Message) -> str:
    """A line of JSON, without its end."""
    return json.dumps({type(message).__name__: asdict(message)})


def decode_message(line: bytes) -> Message:
    """What `encode_message` wrote.

    Raises:
        ProtocolError: It is something else.
    """
    try:
        ((kind, values),) = json.loads(line).items()
        if kind == "Tally":
            return Tally(**values | {"stages": Stages(**values["stages"])})
        if kind == "Alive":
            return Alive()
        return Log(**values) if kind == "Log" else Failure(**values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProtocolError(line) from error
