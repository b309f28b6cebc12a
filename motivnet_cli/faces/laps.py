"""Where the time of finding faces goes, for `bench`: looks beyond the first say how long they took, if anyone asks."""

from __future__ import annotations

import contextlib
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_laps: ContextVar[dict[str, float] | None] = ContextVar("laps", default=None)


@contextlib.contextmanager
def timed() -> Iterator[dict[str, float]]:
    """The seconds of what this thread does in `lap` blocks, by their names."""
    laps: dict[str, float] = {}
    token = _laps.set(laps)
    try:
        yield laps
    finally:
        _laps.reset(token)


@contextlib.contextmanager
def lap(name: str) -> Iterator[None]:
    """A block whose time is told apart; a lap within another one is part of it."""
    laps = _laps.get()
    token = _laps.set(None)
    started = time.perf_counter()
    try:
        yield
    finally:
        _laps.reset(token)
        if laps is not None:
            laps[name] = laps.get(name, 0.0) + time.perf_counter() - started
