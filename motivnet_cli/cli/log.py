"""What a command says, as log lines: on stderr for people, in --log-file and with --log-format json for programs.

`say` and `warn` speak for a command; the modules that it runs have loggers of their own. A record may carry `fields`,
what is known of it by name, such as the input: they stand in its JSON.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import traceback
import warnings
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TextIO

from motivnet_cli.errors import ConfigError, one_line
from motivnet_cli.records import PHASE
from motivnet_cli.remote.urls import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motivnet_cli.cli.options import LogFormat
    from motivnet_cli.cli.progress import Talk

PACKAGE = logging.getLogger("motivnet_cli")


def say(text: str, **fields: object) -> None:
    """Say something to the user; nothing if --quiet.

    Args:
        fields: What is said of, by names for programs.
    """
    PACKAGE.info("%s", text, extra={"fields": fields})


def phase(text: str, **fields: object) -> None:
    """Say what is done from now on and takes a while: a terminal shows it until the next, or until there is a bar."""
    PACKAGE.info("%s", text, extra=PHASE | {"fields": fields})


def warn(text: str, **fields: object) -> None:
    """Say what the user might take wrongly otherwise."""
    PACKAGE.warning("%s", text, extra={"fields": fields})


def shown(text: str) -> str:
    """A message as it is shown: on one line, without anything a terminal obeys and without the secrets of URLs.

    What names, columns, servers and libraries say is among it, so this holds for every message.
    """
    return one_line(without_secrets(text))


class StderrHandler(logging.Handler):
    """Log lines on stderr; what is being done, and how far it is, on its live line where there is one.

    Args:
        with_traceback: Show where a fault happened.
    """

    def __init__(self, talk: Talk, *, level: int, log_format: LogFormat, with_traceback: bool) -> None:
        super().__init__(level)
        self.addFilter(_is_of_use)
        self._talk, self._format, self._with_traceback = talk, log_format, with_traceback

    def emit(self, record: logging.LogRecord) -> None:
        kind = getattr(record, "kind", None)
        if self._talk.is_live and kind == "phase":
            self._talk.phase(_message(record))
        elif self._format == "json":
            self._talk.write(_json_line(record))
        elif not (self._talk.is_live and kind == "progress"):  # which the bar shows
            if self._with_traceback:
                for line in _traceback(record):
                    self._talk.write(line)
            self._talk.write(_prefix(record.levelno) + _message(record))


class FileHandler(logging.Handler):
    """Log lines with UTC time and level, appended to a file; each in one write, so that processes can share it.

    A file that can no longer be written, as on a full disk, ends nothing: that is said once.

    Raises:
        ConfigError: The file cannot be written, or is no text.
    """

    def __init__(self, path: str, *, level: int, log_format: LogFormat) -> None:
        super().__init__(level)
        self.addFilter(_is_of_use)
        self._path, self._format = path, log_format
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise ConfigError(f"--log-file {path!r} cannot be written: {reason}; name another file") from error
        if stat.S_ISREG(os.fstat(self._file).st_mode) and b"\0" in os.pread(self._file, _HEAD_BYTES, 0):
            os.close(self._file)
            raise ConfigError(f"--log-file {path!r} is there and is no text: name another file")
        self._is_torn = self._is_lost = False

    def emit(self, record: logging.LogRecord) -> None:
        data = "".join(f"{line}\n" for line in self._lines(record)).encode(errors="backslashreplace")
        try:
            num_written = os.write(self._file, b"\n" + data if self._is_torn else data)
        except OSError as error:
            if not self._is_lost:
                self._is_lost = True
                warn(f"--log-file {self._path!r} can no longer be written: {os.strerror(error.errno or 0)}")
        else:
            self._is_torn = num_written < len(data)

    def close(self) -> None:
        os.close(self._file)
        super().close()

    def _lines(self, record: logging.LogRecord) -> Iterator[str]:
        if self._format == "json":
            yield _json_line(record)
        else:
            for line in [*_traceback(record), _message(record)]:
                yield f"{_time(record)} {record.levelname} {line}"


_HEAD_BYTES = 1024
"""In which a file that is no text has a NUL byte."""


def _is_of_use(record: logging.LogRecord) -> bool:
    """Pillow's words on damaged pictures are left out: their rows say what is wrong."""
    return not record.name.startswith("PIL")


def _prefix(level: int) -> str:
    return "error: " if level >= logging.ERROR else "warning: " if level >= logging.WARNING else ""


def _message(record: logging.LogRecord) -> str:
    of_library = "" if record.name.partition(".")[0] == PACKAGE.name else f"{record.name}: "
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - the words of a library do not fit its values, which is no fault of the run
        text = f"{record.msg} {record.args}"
    return shown(of_library + text)


def _traceback(record: logging.LogRecord) -> list[str]:
    if not record.exc_info or record.exc_info[0] is None:
        return []
    return [
        one_line(line) for line in without_secrets("".join(traceback.format_exception(*record.exc_info))).splitlines()
    ]


def _time(record: logging.LogRecord) -> str:
    """Such as 2026-01-31T12:00:00.123Z."""
    return datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")[:-6] + "Z"


def _json_line(record: logging.LogRecord) -> str:
    fields = {name: _plain(value) for name, value in getattr(record, "fields", {}).items()}
    line = {"time": _time(record), "level": record.levelname.lower(), "message": _message(record), **fields}
    if where := _traceback(record):
        line["traceback"] = where
    return json.dumps(line)


def _plain(value: object) -> object:
    if isinstance(value, bool | int | float | None):
        return value
    return without_secrets(str(value))


@contextmanager
def warnings_logged() -> Iterator[None]:
    """The warnings of Python and of libraries are log lines within the block."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        logging.getLogger("py.warnings").warning("%s: %s (%s:%d)", category.__name__, message, filename, lineno)

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
