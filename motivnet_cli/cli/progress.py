"""How a command that takes a while is watched: on a terminal a live line, elsewhere plain lines now and then.

The live line says what is being done, and is a bar once it is known how much there is to do. `watch_run` and the like
give the callback of a run, a training or a download. All of it goes to stderr.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from motivnet_cli.cli.log import PACKAGE, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.live import Live

    from motivnet_cli.records import Progress, TrainingProgress

    OnProgress = Callable[[Progress], None]
    OnTraining = Callable[[TrainingProgress], None]
    OnBytes = Callable[[int, int | None], None]
    """Called with the bytes that are there and, if it is known, their total."""

LINE_SECONDS = 30.0
"""Between two plain lines: people watch the logs of batch jobs, but a bar would fill them."""
MIN_BAR = 6
"""Columns of the drawn bar, below which words are left out."""
MAX_BAR = 40


class Talk:
    """The stderr of a command: lines, and on a terminal a live line below them.

    Args:
        is_live: Whether there may be a live line: not if --quiet, nor if stderr is for programs.
    """

    current: ClassVar[Talk | None] = None
    """That of the command that runs."""

    def __init__(self, *, is_live: bool) -> None:
        self.is_live = is_live and sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
        self._live: Live | None = None
        self._shown: RenderableType = ""

    def write(self, line: str) -> None:
        """A line of its own, above the live line, whatever its length. That it can be read no more ends nothing."""
        try:
            if self._live is None:
                sys.stderr.write(f"{line}\n")
                sys.stderr.flush()
            else:
                self._live.console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    def phase(self, text: str) -> None:
        """Have the live line say what is being done."""
        self._show(_Phase(text))

    def bar(self, meter: Meter) -> None:
        """Have the live line say how far it is."""
        self._show(meter)

    def hide(self) -> None:
        """Take the live line away, until there is more to show."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self, what: RenderableType) -> None:
        if not self.is_live:
            return
        self._shown = what
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            self._live = Live(
                console=console,
                transient=True,
                refresh_per_second=10,
                redirect_stdout=False,
                get_renderable=lambda: self._shown,
            )
            self._live.start(refresh=True)


def hide_live_line() -> None:
    """Take the live line away, before something else is written to the terminal, or asked there."""
    if Talk.current is not None:
        Talk.current.hide()


@contextlib.contextmanager
def watch_run(talk: Talk) -> Iterator[OnProgress]:
    """Inputs, faces, failures and faces a second of a run."""
    with _watching(talk) as show:
        yield lambda progress: show(_meter_of_run(progress))


@contextlib.contextmanager
def watch_training(talk: Talk) -> Iterator[OnTraining]:
    """Steps, epoch and losses of a training."""
    with _watching(talk) as show:
        yield lambda progress: show(_meter_of_training(progress))


@contextlib.contextmanager
def watch_bytes(talk: Talk) -> Iterator[OnBytes]:
    """Bytes of a download, and their rate."""
    began = time.monotonic()
    first: int | None = None

    def meter(done: int, total: int | None) -> Meter:
        nonlocal first
        first = done if first is None else first
        return _meter_of_bytes(done, total, resumed=first, seconds=time.monotonic() - began)

    with _watching(talk) as show:
        yield lambda done, total: show(meter(done, total))


@contextlib.contextmanager
def _watching(talk: Talk) -> Iterator[Callable[[Meter], None]]:
    due = time.monotonic() + LINE_SECONDS

    def show(meter: Meter) -> None:
        nonlocal due
        talk.bar(meter)
        if time.monotonic() >= due:
            due = time.monotonic() + LINE_SECONDS
            PACKAGE.info("%s", meter.line(), extra={"kind": "progress", "fields": meter.fields()})

    try:
        yield show
    finally:
        talk.hide()


# ---- how far it is ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Meter:
    """How far something is, in words and as a bar.

    Args:
        done: Of `total`, in `unit`; with what earlier starts have done, `resumed`.
        total: None if it is not known.
        seconds: Since this start.
        counts: `done` and `total` as they are shown.
        details: What else there is to say, by what is kept longest where the terminal is narrow.
    """

    done: int
    total: int | None
    resumed: int
    seconds: float
    unit: str
    counts: str
    details: tuple[str, ...]
    at: float = field(default_factory=time.monotonic)
    """When it was so, in the seconds of `time.monotonic`."""

    @property
    def percent(self) -> str:
        return f"{100 * self.done // self.total}%" if self.total else ""

    @property
    def seconds_left(self) -> float | None:
        """By the mean rate of this start; None before there is one."""
        if self.total is None or self.done <= self.resumed:
            return None
        return self.seconds * max(0, self.total - self.done) / (self.done - self.resumed)

    def times(self, since: float = 0.0) -> str:
        """Such as `0:12 elapsed, 0:48 left`, so many seconds later."""
        elapsed = f"{clock(self.seconds + since)} elapsed"
        left = self.seconds_left
        return elapsed if left is None else f"{elapsed}, {clock(max(0.0, left - since))} left"

    def line(self) -> str:
        """All of it in words."""
        share = f" ({self.percent})" if self.percent else ""
        return shown(", ".join([f"{self.counts}{share}", self.times(), *self.details]))

    def fields(self) -> dict[str, object]:
        left = self.seconds_left
        return {
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "elapsed_s": round(self.seconds, 1),
            "left_s": None if left is None else round(left, 1),
        }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        width = options.max_width
        text = self.words(width - MIN_BAR - 1)
        bar = ProgressBar(
            total=self.total,
            completed=self.done,
            width=max(1, min(MAX_BAR, width - len(text) - 1)),
            pulse=not self.total,
        )
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row(bar, Text(text, no_wrap=True, overflow="ellipsis"))
        yield grid

    def words(self, width: int) -> str:
        """What stands beside the bar, in as many columns; the details that do not fit are left out."""
        times = self.times(max(0.0, time.monotonic() - self.at))
        for number in range(len(self.details), -1, -1):
            text = " ".join(filter(None, [self.percent, ", ".join([self.counts, *self.details[:number], times])]))
            if len(text) <= width:
                return text
        return " ".join(filter(None, [self.percent, times]))


def clock(seconds: float) -> str:
    """Such as 0:07, 12:34 or 101:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size_text(num_bytes: int) -> str:
    """4.6 GB, and 9.8 kB of a head."""
    from rich.filesize import decimal

    return decimal(num_bytes)


def _meter_of_run(progress: Progress) -> Meter:
    faces, seconds = progress.faces, progress.seconds
    return Meter(
        progress.inputs_done,
        progress.inputs_total,
        progress.inputs_resumed,
        seconds,
        unit="inputs",
        counts=f"{progress.inputs_done}/{progress.inputs_total} inputs",
        details=(
            *([f"{progress.failed} failed"] if progress.failed else []),
            f"{faces} face{'s' * (faces != 1)}",
            *([f"{faces / seconds:.1f} faces/s"] if seconds else []),
        ),
    )


def _meter_of_training(progress: TrainingProgress) -> Meter:
    details = [f"epoch {progress.epoch}/{progress.epochs}"]
    if progress.is_validating:
        details.append("validating")
    elif progress.loss is not None:
        details.append(f"loss {progress.loss:.4f}")
    if progress.val_loss is not None:
        details.append(f"validation {progress.val_loss:.4f}")
    return Meter(
        progress.steps_done,
        progress.steps,
        progress.steps_resumed,
        progress.seconds,
        unit="steps",
        counts=f"{progress.steps_done}/{progress.steps} steps",
        details=tuple(details),
    )


def _meter_of_bytes(done: int, total: int | None, *, resumed: int, seconds: float) -> Meter:
    rate = [f"{size_text(int((done - resumed) / seconds))}/s"] if seconds and done > resumed else []
    counts = size_text(done) if total is None else f"{size_text(done)} of {size_text(total)}"
    return Meter(done, total, resumed, seconds, unit="bytes", counts=counts, details=tuple(rate))


@dataclass(frozen=True, slots=True)
class _Phase:
    """What is being done, and for how long."""

    text: str
    began: float = field(default_factory=time.monotonic)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        seconds = time.monotonic() - self.began
        mark = "|/-\\"[int(8 * seconds) % 4]
        yield Text(f"{mark} {clock(seconds)} {self.text}", no_wrap=True, overflow="ellipsis")
