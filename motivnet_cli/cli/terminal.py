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
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING

import typer

from motivnet_cli import errors
from motivnet_cli.cli.log import PACKAGE, FileHandler, StderrHandler, phase, say, warnings_logged
from motivnet_cli.cli.progress import Talk, hide_live_line
from motivnet_cli.remote.urls import redacted

if TYPE_CHECKING:
    from motivnet_cli.cli.options import LogOptions


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """A block that imports torch, which takes seconds, and a fifth less where garbage is not searched for meanwhile.

    What torch logs goes where the log lines of all others go, and not to stderr by itself.
    """
    phase("loading PyTorch")
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        of_torch = logging.getLogger("torch")
        of_torch.propagate = True
        for handler in [*of_torch.handlers]:
            of_torch.removeHandler(handler)


_STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


def _exit_code_of(number: int) -> int:
    return errors.EXIT_INTERRUPTED if number == signal.SIGINT else errors.EXIT_STOPPED_RESUMABLE


@contextlib.contextmanager
def ending_at_once(last_words: str = "") -> Iterator[None]:
    """A block that the first SIGINT, SIGTERM or SIGUSR1 ends, and with it the command: nothing is lost by that."""
    code = errors.EXIT_STOPPED_RESUMABLE

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal code
        code = _exit_code_of(number)
        raise KeyboardInterrupt  # no `except Exception` of a library stops it

    before = {number: signal.signal(number, end) for number in _STOP_SIGNALS}
    try:
        yield
    except KeyboardInterrupt:
        if os.isatty(2):
            typer.echo(err=True)  # the cursor may be within a line
        if last_words:
            say(last_words)
        raise typer.Exit(code) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopSignals:
    """The stop callback of a run: true after the first SIGINT, SIGTERM or SIGUSR1; a second signal ends the process.

    The handlers stay after the run, so that a signal in the seconds that Python takes to exit does not turn a finished
    run into a killed one.
    """

    def __init__(self, log: LogOptions) -> None:
        self.exit_code: int | None = None
        """The exit code that the first signal asks for."""
        self._over = False
        self._log = log

    @property
    def exit_code_of_stop(self) -> int:
        """The exit code of a run that was stopped, be it without a signal: processes beside it hold the rest."""
        return self.exit_code or errors.EXIT_STOPPED_RESUMABLE

    def __enter__(self) -> StopSignals:
        for number in _STOP_SIGNALS:
            signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True

    def hand_back(self) -> None:
        """Have signals end the process at once again: it has nothing that is to be kept."""
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def __call__(self) -> bool:
        return self.exit_code is not None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._over:
            return
        code = _exit_code_of(number)
        if self.exit_code is not None:
            os._exit(code)
        self.exit_code = code
        if not self._log.quiet and self._log.format_on_stderr == "text":
            line_end = b"\n" if os.isatty(2) else b""  # the live display may have left the cursor within a line
            os.write(2, line_end + b"stopping once what is in hand is kept; signal again to stop at once\n")


def exit_stopped(stop: StopSignals) -> typer.Exit:
    """The end of a command that a signal stopped, to be raised."""
    say("stopped; what is done is kept: run the same command again to continue")
    return typer.Exit(stop.exit_code_of_stop)


settings_from: list[str] = []
"""Where the options of this command are from, beside what was typed: a file with its hash, a preset."""


def command_line() -> str:
    """The command as it was typed, without the secrets in its URLs; in a comment where its other options are from."""
    words = [redacted(word) if "://" in word else word for word in sys.argv[1:]]
    comment = f"  # {'; '.join(settings_from)}" if settings_from else ""
    return shlex.join(["motivnet", *words]) + comment


@contextlib.contextmanager
def talking(log: LogOptions) -> Iterator[Talk]:
    """Within the block, log lines go where the options say, and an error is reported and ends the command.

    An error is one line: the user's mistakes exit with 2, faults with 1.
    """
    talk = Talk(is_live=not log.quiet and log.format_on_stderr == "text")
    with _logging(log, talk) as add_log_file, _reporting_errors(talk), warnings_logged():
        add_log_file()
        yield talk


@contextlib.contextmanager
def _logging(log: LogOptions, talk: Talk) -> Iterator[Callable[[], None]]:
    """The log lines of the package, and the warnings of libraries, go to stderr; to the log file from the call on."""
    level = logging.DEBUG if log.verbose else logging.INFO
    root, before, outer = logging.getLogger(), PACKAGE.level, Talk.current
    handlers: list[logging.Handler] = []

    def add(handler: logging.Handler) -> None:
        handlers.append(handler)
        root.addHandler(handler)

    def add_log_file() -> None:
        if log.quiet and log.verbose and log.log_file is None:
            raise errors.ConfigError("--quiet and --verbose go together only with --log-file, which gets all lines")
        if log.log_file is not None:
            add(FileHandler(log.log_file, level=level, log_format=log.log_format))

    add(
        StderrHandler(
            talk,
            level=logging.ERROR if log.quiet else level,
            log_format=log.format_on_stderr,
            with_traceback=log.verbose or bool(os.environ.get("MOTIVNET_DEBUG")),
        )
    )
    PACKAGE.setLevel(level)
    Talk.current = talk
    try:
        yield add_log_file
    finally:
        Talk.current = outer
        PACKAGE.setLevel(before)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


@contextlib.contextmanager
def _reporting_errors(talk: Talk) -> Iterator[None]:
    try:
        yield
    except errors.MotivNetError as error:
        PACKAGE.error("%s", error)
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
        PACKAGE.error("%s%s; %s", f"{error.filename}: " if error.filename else "", reason, advice)
        raise typer.Exit(errors.EXIT_FAULT) from error
    except typer.Exit:
        raise
    except KeyboardInterrupt:  # of a command that has no other way to stop
        if os.isatty(2):
            typer.echo(err=True)  # the cursor may be within a line
        say("stopped")
        raise typer.Exit(errors.EXIT_INTERRUPTED) from None
    except Exception as error:
        PACKAGE.exception(
            "a fault in motivnet: %s: %s; what was committed is kept. Add --verbose for the traceback, and please "
            "report it",
            type(error).__name__,
            error,
        )
        raise typer.Exit(errors.EXIT_FAULT) from error
    finally:
        talk.hide()


def print_json(value: object) -> None:
    """Print a value to stdout as indented JSON, in which nothing stands that a terminal obeys."""
    text = json.dumps(
        value, indent=2, ensure_ascii=not _prints_unicode()
    )  # beside ends of lines, all that does not print is in texts
    print_data("".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text))


def print_result(value: object, words: Iterable[str], *, as_json: bool) -> None:
    """Print a result to stdout: words for people, the JSON of the value for who asks."""
    if as_json:
        from motivnet_cli.evaluation.results import to_json

        print_json(to_json(value))
    else:
        print_lines(words)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines for people to stdout: what is in them is neither a further line nor a command to the terminal."""
    print_data("\n".join("\t".join(map(errors.one_line, line.split("\t"))) for line in lines))


def table_lines(table: Sequence[Sequence[str]]) -> list[str]:
    """The rows of a table as lines for stdout: aligned on a terminal, with tabs between the cells in a pipe."""
    if sys.stdout.isatty():
        return aligned(table)
    return ["\t".join(map(errors.one_line, row)) for row in table]


def aligned(table: Iterable[Sequence[str]]) -> list[str]:
    """A line for each row, its cells below each other, two spaces between columns. For people: no tabs, no commands."""
    from rich.cells import cell_len

    cells = [[errors.one_line(cell) for cell in row] for row in table]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def print_data(text: str) -> None:
    """Print to stdout as it is; a reader that has gone away is not an error.

    Names of files go out as the bytes that they are made of; what the encoding of stdout lacks, as an escape.
    """
    hide_live_line()
    encoded = f"{text}\n".encode(sys.stdout.encoding, "surrogateescape" if _prints_unicode() else "backslashreplace")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(encoded)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _prints_unicode() -> bool:
    return codecs.lookup(sys.stdout.encoding).name == "utf-8"
