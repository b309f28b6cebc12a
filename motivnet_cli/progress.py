"""How a run or a download is watched: a tqdm bar for library users, plain lines for logs, a live display for terminals.

Each is a context manager that gives the callback, such as that of `annotate(progress=...)`. All of it goes to stderr.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from motivnet_cli.records import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from rich.console import Console

    from motivnet_cli.records import Progress, TrainingProgress

    OnProgress = Callable[[Progress], None]
    OnTraining = Callable[[TrainingProgress], None]
    OnBytes = Callable[[int, int | None], None]
    """Called with the bytes that are there and, if it is known, their total."""

LINE_SECONDS = 30.0
"""Between two plain lines: people watch the logs of batch jobs, but a bar would fill them."""


def watch_run(console: Console, *, quiet: bool) -> AbstractContextManager[OnProgress]:
    """A live display on a terminal, lines now and then elsewhere, nothing if `quiet`."""
    if quiet:
        return contextlib.nullcontext(no_progress)
    return _run_display(console) if console.is_terminal else _run_lines(console)


def watch_training(console: Console, *, quiet: bool) -> AbstractContextManager[OnTraining]:
    """The same of a training."""
    if quiet:
        return contextlib.nullcontext(no_progress)
    return _training_display(console) if console.is_terminal else _training_lines(console)


def watch_bytes(console: Console, *, quiet: bool) -> AbstractContextManager[OnBytes]:
    """The same of a download."""
    if quiet:
        return contextlib.nullcontext(lambda done, total: None)
    return _byte_display(console) if console.is_terminal else _byte_lines(console)


@contextlib.contextmanager
def tqdm_bar() -> Iterator[OnProgress]:
    """A tqdm bar over inputs, for scripts and notebooks."""
    from tqdm.auto import tqdm

    with tqdm(unit="input") as bar:

        def show(progress: Progress) -> None:
            bar.total, bar.initial = progress.inputs_total, progress.inputs_resumed
            bar.n = progress.inputs_done
            bar.set_postfix(faces=progress.faces, failed=progress.failed, refresh=False)
            bar.update(0)
            bar.refresh()

        yield show


# ---- live displays ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _run_display(console: Console) -> Iterator[OnProgress]:
    """Bar, inputs, faces, faces a second, failures, time gone and left."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("inputs"),
        TextColumn("{task.fields[faces]} faces, {task.fields[rate]}"),
        TextColumn("[red]{task.fields[failed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Display(*columns, console=console, transient=True) as display:
        task = display.add_task("", total=None, faces=0, rate="", failed="")

        def show(progress: Progress) -> None:
            display.update(
                task,
                total=progress.inputs_total,
                completed=progress.inputs_done,
                faces=progress.faces,
                rate=f"{progress.faces / progress.seconds:.1f} faces/s" if progress.seconds else "",
                failed=f"{progress.failed} failed" if progress.failed else "",
            )

        yield show


@contextlib.contextmanager
def _training_display(console: Console) -> Iterator[OnTraining]:
    """Bar, steps, epoch, losses, time gone and left."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[losses]}"),  # with all the rest it fits into 80 columns
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Display(*columns, console=console, transient=True) as display:
        task = display.add_task("", total=None, losses="")

        def show(progress: TrainingProgress) -> None:
            display.update(task, total=progress.steps, completed=progress.steps_done, losses=_losses(progress))

        yield show


@contextlib.contextmanager
def _byte_display(console: Console) -> Iterator[OnBytes]:
    """Bar, bytes, rate, time left."""
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Display

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Display(*columns, console=console, transient=True) as display:
        task = display.add_task("", total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)


# ---- plain lines ------------------------------------------------------------------------------------------


class _Lines:
    """Prints a line every LINE_SECONDS, and drops what is offered in between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._due = time.monotonic() + LINE_SECONDS

    def offer(self, line: Callable[[], str]) -> None:
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + LINE_SECONDS
        self._console.print(line(), markup=False, soft_wrap=True)


@contextlib.contextmanager
def _run_lines(console: Console) -> Iterator[OnProgress]:
    lines = _Lines(console)

    def line(progress: Progress) -> str:
        done, total, resumed = progress.inputs_done, progress.inputs_total, progress.inputs_resumed
        meter = _meter(done, total, progress.seconds, resumed=resumed, unit="input")
        return f"{meter}, {progress.faces} faces, {progress.failed} failed"

    yield lambda progress: lines.offer(lambda: line(progress))


@contextlib.contextmanager
def _training_lines(console: Console) -> Iterator[OnTraining]:
    lines = _Lines(console)

    def line(progress: TrainingProgress) -> str:
        done, total, resumed = progress.steps_done, progress.steps, progress.steps_resumed
        meter = _meter(done, total, progress.seconds, resumed=resumed, unit="step")
        return f"{meter}, {_losses(progress)}"

    yield lambda progress: lines.offer(lambda: line(progress))


def _meter(done: int, total: int, seconds: float, *, resumed: int, unit: str) -> str:
    """How much is done, how long it took and will take, and the rate."""
    from tqdm import tqdm

    shown = f"{{n_fmt}}/{{total_fmt}} {unit}s, {{elapsed}} elapsed, {{remaining}} left, {{rate_fmt}}"
    return tqdm.format_meter(done, total, seconds, initial=resumed, unit=unit, bar_format=shown)


def _losses(progress: TrainingProgress) -> str:
    """Where a training is, and how well it does."""
    parts = [f"epoch {progress.epoch}/{progress.epochs}"]
    if progress.is_validating:
        parts.append("validating")
    elif progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.val_loss is not None:
        parts.append(f"validation {progress.val_loss:.4f}")
    return ", ".join(parts)


@contextlib.contextmanager
def _byte_lines(console: Console) -> Iterator[OnBytes]:
    from tqdm import tqdm

    lines, started = _Lines(console), time.monotonic()
    first: int | None = None

    def line(done: int, total: int | None) -> str:
        meter_format = "{n_fmt}/{total_fmt}, {elapsed} elapsed, {remaining} left, {rate_fmt}"
        return tqdm.format_meter(
            done,
            total,  # type: ignore[arg-type]  # the stubs forget that it may be unknown
            time.monotonic() - started,
            initial=first or 0,
            unit="B",
            unit_scale=True,
            bar_format=meter_format if total else None,
        )

    def show(done: int, total: int | None) -> None:
        nonlocal first
        first = done if first is None else first
        lines.offer(lambda: line(done, total))

    yield show
