"""What all commands share: start, signals, errors and exit codes, data on stdout, messages and progress on stderr."""

from __future__ import annotations

import codecs
import contextlib
import errno
import gc
import json
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING

import typer

from motivnet_cli import errors

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """A block of imports, among which garbage is never searched for: it takes a fifth of the time of torch's."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class StopSignals:
    """The stop callback of a run: true after the first SIGINT, SIGTERM or SIGUSR1; a second signal ends the process.

    The handlers stay after the run, so that a signal in the seconds that Python takes to exit does not turn a finished
    run into a killed one.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        """The exit code that the first signal asks for."""
        self._over = False

    @property
    def exit_code_of_stop(self) -> int:
        """The exit code of a run that was stopped, be it without a signal: processes beside it hold the rest."""
        return self.exit_code or errors.EXIT_STOPPED_RESUMABLE

    def __enter__(self) -> StopSignals:
        for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True

    def __call__(self) -> bool:
        return self.exit_code is not None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._over:
            return
        code = errors.EXIT_INTERRUPTED if number == signal.SIGINT else errors.EXIT_STOPPED_RESUMABLE
        if self.exit_code is not None:
            os._exit(code)
        self.exit_code = code
        line_end = b"\n" if os.isatty(2) else b""  # the live display may have left the cursor within a line
        os.write(2, line_end + b"stopping once what is in hand is kept; signal again to stop at once\n")


def exit_stopped(stop: StopSignals, console: Console) -> typer.Exit:
    """The end of a command that a signal stopped, to be raised."""
    console.print("stopped; what is done is kept: run the same command again to continue")
    return typer.Exit(stop.exit_code_of_stop)


def command_line() -> str:
    """The command as it was typed, without the secrets in its URLs."""
    words = sys.argv[1:]
    if any("://" in word for word in words):
        from motivnet_cli.remote.urls import redacted

        words = [redacted(word) if "://" in word else word for word in words]
    return shlex.join(["motivnet", *words])


@contextlib.contextmanager
def reporting_errors() -> Iterator[None]:
    """Report an error as one line on stderr: the user's mistakes exit with 2, faults with 1."""
    try:
        yield
    except errors.MotivNetError as error:
        _echo_error(str(error))
        is_fault = isinstance(error, errors.FetchError | errors.WorkerError | errors.TrainingError)
        raise typer.Exit(errors.EXIT_FAULT if is_fault else errors.EXIT_USAGE) from error
    except BrokenPipeError:  # the reader of stdout has gone away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(errors.EXIT_OK) from None
    except OSError as error:
        advice = "what was committed is kept: run the same command again to continue"
        if error.errno == errno.ENOSPC:
            advice = f"free some space; {advice}"
        reason = os.strerror(error.errno) if error.errno else str(error)
        _echo_error(f"{f'{error.filename}: ' if error.filename else ''}{reason}; {advice}")
        raise typer.Exit(errors.EXIT_FAULT) from error
    except typer.Exit:
        raise
    except Exception as error:
        if os.environ.get("MOTIVNET_DEBUG"):
            traceback.print_exc()
        _echo_error(
            f"a fault in motivnet: {type(error).__name__}: {error}; what was committed is kept. "
            "Set MOTIVNET_DEBUG=1 for the traceback, and please report it"
        )
        raise typer.Exit(errors.EXIT_FAULT) from error


def _echo_error(text: str) -> None:
    typer.echo(f"error: {_shown(text)}", err=True)


def _shown(text: str) -> str:
    """A message as it is shown: on one line, without anything a terminal obeys and without the secrets of URLs.

    What names, columns, servers and libraries say is among it, so this holds for every message.
    """
    if "://" in text:
        from motivnet_cli.remote.urls import without_secrets

        text = without_secrets(text)
    return errors.one_line(text)


@contextlib.contextmanager
def talking(*, quiet: bool) -> Iterator[Console]:
    """A console on stderr, which the log lines of the package go to; only errors if `quiet`."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    log = logging.getLogger("motivnet_cli")
    handler, level = _ConsoleHandler(console), log.level
    log.addHandler(handler)
    log.setLevel(logging.ERROR if quiet else logging.INFO)
    try:
        yield console
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        print_message(self._console, self.format(record))


def print_message(console: Console, text: str) -> None:
    """Print a message to stderr: names in it are no markup and no commands, and long lines are not wrapped."""
    console.print(_shown(text), markup=False, emoji=False, soft_wrap=True)  # a name may be `:x:`, or `[red]`


def print_json(value: object) -> None:
    """Print a value to stdout as indented JSON, in which nothing stands that a terminal obeys."""
    text = json.dumps(
        value, indent=2, ensure_ascii=not _prints_unicode()
    )  # beside ends of lines, all that does not print is in texts
    print_data("".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text))


def print_result(value: object, words: Iterable[str], *, as_json: bool) -> None:
    """Print a result to stdout: a terminal gets the words, a pipe the JSON of the value, as anyone does who asks."""
    from motivnet_cli.evaluation.results import to_json

    if as_json or not sys.stdout.isatty():
        print_json(to_json(value))
    else:
        print_lines(words)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines for people to stdout: what is in them is neither a further line nor a command to the terminal."""
    print_data("\n".join("\t".join(map(errors.one_line, line.split("\t"))) for line in lines))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, its cells below each other, two spaces between columns. For people: no tabs, no commands."""
    from rich.cells import cell_len

    table = [[errors.one_line(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def print_data(text: str) -> None:
    """Print to stdout as it is; a reader that has gone away is not an error.

    Names of files go out as the bytes that they are made of; what the encoding of stdout lacks, as an escape.
    """
    encoded = f"{text}\n".encode(sys.stdout.encoding, "surrogateescape" if _prints_unicode() else "backslashreplace")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(encoded)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _prints_unicode() -> bool:
    return codecs.lookup(sys.stdout.encoding).name == "utf-8"
