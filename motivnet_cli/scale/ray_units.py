"""The units of a run that are left to do on a Ray cluster: which actor gets which, and when one is given up."""

from __future__ import annotations

import heapq
import logging
import time
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError, WorkerError
from motivnet_cli.scale.messages import MAX_DEATHS_IN_A_ROW

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motivnet_cli.output.ledger import Ledger
    from motivnet_cli.records import Cursor

log = logging.getLogger(__name__)

BUSY_SECONDS = 1.0
"""A unit that a process outside this cluster holds is tried again after this time."""
VISIBLE_SECONDS = 90.0
"""How long what another node wrote may take to be seen here: NFS keeps what it knows of a folder for a minute."""


class UnitPool:
    """The units that are left. Who gets which is decided here; what is done is the ledger's to say.

    Args:
        ledger: Of a run that has been begun.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._left = {unit for unit in ledger.units if not ledger.is_done(unit)}
        self._free = sorted(self._left)
        """A heap of those that no actor has."""
        self._busy: list[tuple[float, int]] = []
        """A heap of those that a process outside this cluster has, by when to try them again."""
        self._reached_before: dict[int, Cursor] = {}
        """How far a unit was when it was last given to an actor."""
        self._deaths: dict[int, int] = {}
        """Actors that died with a unit in hand, one after the other, while it did not get on."""

    @property
    def num_left(self) -> int:
        return len(self._left)

    def take(self, in_hand: set[int]) -> int | None:
        """The next unit for an actor that has these; None if there is none for it now.

        Whoever has a unit with which another died has only that one, so that it is clear what a death is due to.
        """
        while self._busy and self._busy[0][0] <= time.monotonic():
            heapq.heappush(self._free, heapq.heappop(self._busy)[1])
        if not self._free or (in_hand and any(unit in self._deaths for unit in {self._free[0], *in_hand})):
            return None
        unit = heapq.heappop(self._free)
        self._reached_before[unit] = self._ledger.reached(unit)
        return unit

    def settle(self, unit: int, *, is_done: bool) -> None:
        """An actor has done a unit, or could not have it."""
        if is_done:
            self._left.discard(unit)
            self._deaths.pop(unit, None)
            return
        if not self._busy:
            log.info("a process outside this cluster still works on unit %d: waiting for it", unit)
        heapq.heappush(self._busy, (time.monotonic() + BUSY_SECONDS, unit))

    def give_back(self, units: Iterable[int], how: str) -> bool:
        """Take back what an actor had in hand that has died.

        Args:
            how: It died; for the error.

        Returns:
            Whether it had committed any of them, or a part of one.

        Raises:
            WorkerError: A unit does not get on however often it is tried.
        """
        got_on = set()
        for unit in units:
            self._ledger.refresh_unit(unit)
            if self._ledger.reached(unit) != self._reached_before[unit]:
                got_on.add(unit)
            if self._ledger.is_done(unit):
                self._left.discard(unit)
                continue
            self._deaths[unit] = 1 if unit in got_on else self._deaths.get(unit, 0) + 1
            if self._deaths[unit] >= MAX_DEATHS_IN_A_ROW:
                names = [todo.item.input for todo in self._ledger.todos(unit)]
                raise WorkerError(
                    f"{MAX_DEATHS_IN_A_ROW} workers died with the same inputs in hand ({names[0]!r} to {names[-1]!r}), "
                    f"the last of {how}; what was committed is kept. Without --engine ray an error speaks for itself"
                )
            heapq.heappush(self._free, unit)
        return bool(got_on)

    def wait_until_visible(self, path: str) -> None:
        """Wait until everything that was done elsewhere is to be seen here.

        Raises:
            ConfigError: It is not.
        """
        deadline = time.monotonic() + VISIBLE_SECONDS
        self._ledger.refresh()
        while self._ledger.num_done < self._ledger.num_items:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"workers have written parts that are not to be seen on this node: {path!r} must be one folder "
                    "that all nodes share"
                )
            time.sleep(1)
            self._ledger.refresh()
