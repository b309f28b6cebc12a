"""What one process does of a run: the units that it takes, and the rows that it commits of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, Protocol

from motivnet_cli.errors import ConfigError, OutputConflictError
from motivnet_cli.output.ledger import Ledger
from motivnet_cli.output.paths import output_paths
from motivnet_cli.output.tables import Rows, Tracks
from motivnet_cli.records import Cursor, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from motivnet_cli.config import OutputConfig
    from motivnet_cli.output.tables import RowLayout
    from motivnet_cli.records import Batch, Prediction, RunRecord, Todo

MAX_PART_BYTES = 64 << 20
"""A part is committed when its rows take this much memory, even before its time has come: in a file about half."""
CLAIM_TIMEOUT_SECONDS = 10.0
"""How long a unit that another process holds is waited for: a killed run's children take a moment to end."""
POLL_SECONDS = 0.5
"""Between two looks at what others have."""
Others = Literal["refuse", "leave", "wait"]


class Share:
    """The units that a process takes of a run, one after the other, and the rows that it writes of them.

    Args:
        layout: The columns, with those that the run keeps.
        units: Which it may take, in this order.
        commit_seconds: A part is committed at least this often.
        others: What is done about units that other processes have: refuse (nobody else should be at work), leave
            them, or wait in case they are let go of.
    """

    def __init__(
        self, ledger: Ledger, layout: RowLayout, units: Sequence[int], *, commit_seconds: float, others: Others
    ) -> None:
        self._ledger = ledger
        self.layout = layout
        self.units = units
        self._rows = Rows(layout, layout.schemas(ledger.run.record))
        self._tracks = None if layout.tracks is None else Tracks(layout.tracks, ledger.faces_of)
        self._commit_seconds = commit_seconds
        self._last_commit = time.monotonic()
        self._reached = Cursor(Position(0))
        self._others = others
        self._is_broken = False
        """Rows that were taken to be committed are lost: nothing may be committed past them."""
        self.num_items = ledger.items_in(units)
        self.num_resumed = ledger.done_in(units)

    @property
    def record(self) -> RunRecord:
        """Of who began the run."""
        return self._ledger.run.record

    def rounds(self, stop: Callable[[], bool]) -> Iterator[Iterator[Todo]]:
        """What is to do, in plan order, and again what others let go of meanwhile; ends when nothing can be taken.

        Args:
            stop: Asked while others are waited for.

        Raises:
            OutputConflictError: Others are refused, and one is at work.
        """
        while not stop():
            first = self._claim_next(0)
            if first is not None:
                yield self._todos(first)
                self._end_round()
            elif self._others == "wait" and not self.is_done:
                time.sleep(POLL_SECONDS)
            else:
                return

    def _end_round(self) -> None:
        """Commit all that is reached; the next round may begin earlier, in a unit that was lost to another process."""
        self.flush()
        self._reached = Cursor(Position(0))

    def _todos(self, index: int | None) -> Iterator[Todo]:
        while index is not None:
            yield from self._ledger.todos(self.units[index])
            index = self._claim_next(index + 1)

    def _claim_next(self, start: int) -> int | None:
        """Take the first unit that is to be had, from an index in `units` on; its index."""
        is_alone = self._others == "refuse"
        for index in range(start, len(self.units)):
            unit = self.units[index]
            if self._ledger.claim(unit, timeout=CLAIM_TIMEOUT_SECONDS if is_alone else 0):
                return index
            if is_alone and not (self._ledger.is_done(unit) or self._ledger.is_claimed(unit)):
                raise OutputConflictError(
                    "other processes are at work on this output: wait for them, or take part with --shard"
                )
        return None

    def write(self, batch: Batch, prediction: Prediction | None) -> None:
        """Take a batch's rows, and commit parts that are due."""
        self._rows.add(batch, prediction)
        self._reached = batch.reached
        waited = time.monotonic() - self._last_commit
        self._commit(all_reached=self._rows.num_bytes >= MAX_PART_BYTES or waited >= self._commit_seconds)

    def flush(self) -> None:
        """Commit all that is reached."""
        self._commit(all_reached=True)

    def close(self) -> None:
        """Commit all that is reached, and let others have the rest."""
        try:
            self.flush()
        finally:
            self._ledger.release()

    @property
    def is_done(self) -> bool:
        return all(map(self._ledger.is_done, self.units))

    def _commit(self, *, all_reached: bool) -> None:
        """Commit each unit that is whole by now, and if asked, and possible, what is reached of the next.

        Rows of a unit that was lost to another process are thrown away.
        """
        ledger, reached = self._ledger, self._reached
        if self._is_broken:
            return
        while (first := self._rows.first()) is not None:
            unit = ledger.unit_at(first)
            end = Cursor(Position(ledger.end_of(unit)))
            if end.position > reached.position:
                break
            self._commit_unit(unit, end)
        unit = ledger.unit_at(reached.position)
        if all_reached and unit in ledger.units and (ledger.has_lost(unit) or ledger.can_commit(unit, reached)):
            self._commit_unit(unit, reached)

    def _commit_unit(self, unit: int, reached: Cursor) -> None:
        self._is_broken = True
        positions, faces, inputs = self._rows.take(reached.position)
        if not self._ledger.has_lost(unit):
            if self._tracks is not None:
                faces = self._tracks.follow(positions, faces)
            self._ledger.commit(unit, faces, inputs, reached=reached)
        if self._tracks is not None and self._ledger.has_lost(unit):
            self._tracks.forget()
        self._is_broken = False
        self._last_commit = time.monotonic()


class UnitQueue(Protocol):
    """Where an `AssignedShare` gets its units from."""

    def next(self) -> int | None:
        """Another unit at once; None if there is none now."""

    def wait(self) -> int | None:
        """Another unit, whenever it comes; None when there will be none."""


class AssignedShare(Share):
    """A share of a run in which another process decides which unit is next, so that no two take the same."""

    def __init__(self, ledger: Ledger, layout: RowLayout, queue: UnitQueue, *, commit_seconds: float) -> None:
        super().__init__(ledger, layout, ledger.units, commit_seconds=commit_seconds, others="leave")
        self._queue = queue
        self._next: int | None = None
        self._open: set[int] = set()
        """Units that came and are not settled."""

    def rounds(self, stop: Callable[[], bool]) -> Iterator[Iterator[Todo]]:
        """As `Share.rounds`; a round ends where no unit is there yet, or one that comes earlier in the plan."""
        self._next = self._queue.wait()
        while self._next is not None and not stop():
            yield self._assigned_todos()
            self._end_round()
            if self._next is None:
                self._next = self._queue.wait()

    def _assigned_todos(self) -> Iterator[Todo]:
        last = -1
        while self._next is not None and self._next > last:
            last = self._next
            is_claimed = self._ledger.claim(last)
            self._open.add(last)
            if is_claimed:
                yield from self._ledger.todos(last)
            self._next = self._queue.next()

    def settled(self) -> list[tuple[int, bool]]:
        """Units that this process no longer has, each once, and whether they are done: else others have them."""
        gone = [unit for unit in list(self._open) if not self._ledger.is_claimed(unit)]
        self._open.difference_update(gone)
        return [(unit, self._ledger.is_done(unit)) for unit in gone]


# ---- runs that another process has begun ------------------------------------------------------------------


def begun_run(config: OutputConfig) -> Ledger:
    """The run that another process has begun.

    Raises:
        ConfigError: None is to be seen here.
    """
    paths = output_paths(config.path, config.staging)
    for files in (paths.run.amendment, paths.run):
        ledger = Ledger.find(files, paths.backend)
        if ledger is not None:
            return ledger
    raise ConfigError(
        f"no run is to be seen at {paths.given!r} (looked for {paths.backend.name_of(paths.run.about)!r}): "
        "every process that takes part must see the same folder under this name"
    )


def take_part(config: OutputConfig, layout: RowLayout) -> Share:
    """A share of all units of a run that another process has begun and will complete.

    Raises:
        ConfigError: No run is there.
    """
    ledger = begun_run(config)
    layout = layout.keeping(ledger.run.keep)
    return Share(ledger, layout, ledger.units, commit_seconds=config.commit_seconds, others="wait")


def take_assigned(config: OutputConfig, layout: RowLayout, queue: UnitQueue) -> AssignedShare:
    """As `take_part`, with the units that come from `queue`."""
    ledger = begun_run(config)
    return AssignedShare(ledger, layout.keeping(ledger.run.keep), queue, commit_seconds=config.commit_seconds)
