"""How a run is watched: a tqdm bar for library users, plain lines for logs, a rich display for terminals.

Each is a context manager that gives the callback for `annotate(progress=...)`. All of it goes to stderr;
this room knows nothing of models or files.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from motivnet_cli.records import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from motivnet_cli.records import Progress

LINE_SECONDS = 30.0
"""Between two plain lines: people watch the logs of batch jobs, but a bar would fill them."""


@contextlib.contextmanager
def tqdm_bar() -> Iterator[Callable[[Progress], None]]:
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


@contextlib.contextmanager
def plain_lines(write: Callable[[str], None]) -> Iterator[Callable[[Progress], None]]:
    """One line now and then, without control characters."""
    from tqdm import tqdm

    due = time.monotonic() + LINE_SECONDS

    def show(progress: Progress) -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        due = time.monotonic() + LINE_SECONDS
        meter = tqdm.format_meter(
            progress.inputs_done,
            progress.inputs_total,
            progress.seconds,
            initial=progress.inputs_resumed,
            unit="input",
            bar_format="{n_fmt}/{total_fmt} inputs, {elapsed} elapsed, {remaining} left, {rate_fmt}",
        )
        write(f"{meter}, {progress.faces} faces, {progress.failed} failed")

    yield show


@contextlib.contextmanager
def terminal_display(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A live display: bar, inputs, faces, faces a second, time left, failures."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
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
def silence() -> Iterator[Callable[[Progress], None]]:
    """Nothing at all."""
    yield no_progress


@contextlib.contextmanager
def byte_display(console: Console) -> Iterator[Callable[[int, int | None], None]]:
    """A live display of a download: bytes, rate, time left."""
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Display

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Display(*columns, console=console, transient=True) as display:
        task = display.add_task("", total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)


@contextlib.contextmanager
def byte_lines(write: Callable[[str], None]) -> Iterator[Callable[[int, int | None], None]]:
    """One line of a download now and then, without control characters."""
    from tqdm import tqdm

    started = time.monotonic()
    due = started + LINE_SECONDS
    first: int | None = None

    def show(done: int, total: int | None) -> None:
        nonlocal due, first
        first = done if first is None else first
        now = time.monotonic()
        if now < due:
            return
        due = now + LINE_SECONDS
        meter_format = "{n_fmt}/{total_fmt}, {elapsed} elapsed, {remaining} left, {rate_fmt}"
        write(
            tqdm.format_meter(
                done,
                total,  # type: ignore[arg-type]  # the stubs forget that it may be unknown
                now - started,
                initial=first,
                unit="B",
                unit_scale=True,
                bar_format=meter_format if total else None,
            )
        )

    yield show


@contextlib.contextmanager
def silence_bytes() -> Iterator[Callable[[int, int | None], None]]:
    """Nothing at all."""
    yield lambda done, total: None
