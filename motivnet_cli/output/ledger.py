"""A run's frozen plan and what is committed of it, unit by unit, by one process or by many at once.

A unit is a fixed slice of the plan. Its rows are written in *parts*: first `faces/part-U-S.parquet`, then
`inputs/part-U-S.parquet`, each whole under its name or not there. The second file is the marker: inputs that it
lists are done, and faces without it do not count. The last marker of a unit is `inputs/part-U-S-end.parquet`, so that
the names alone tell which units are done. Who works on a unit holds its lock, which the system takes back when the
process dies; whoever takes the unit next goes on after its last marker. In an object store there are no locks: there
the first process to write a part of a unit has written it, and any other gives its rows of that unit up (`commits`).
Where a store cannot say who was first, and in runs of former versions, a unit in a store is one part, and two
processes that do it by accident write the same rows.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections import Counter
from typing import TYPE_CHECKING, get_args

import filelock

from motivnet_cli import __version__
from motivnet_cli.config import KeptType
from motivnet_cli.durable import durably
from motivnet_cli.errors import OutputConflictError
from motivnet_cli.inputs.listing import NAMED_TWICE
from motivnet_cli.output.commits import Contest, TakenError, cursor_in, write_part
from motivnet_cli.output.damage import reading
from motivnet_cli.output.names import TABLES, faces_of, is_last, is_part, parts_begin, segment_of, unit_of
from motivnet_cli.output.plan import planned_items, planned_lines, write_plan
from motivnet_cli.output.tables import TrackedFace, rows_in
from motivnet_cli.records import Cursor, Position, Todo
from motivnet_cli.shards import Shard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.output.backend import Backend
    from motivnet_cli.output.names import RunFiles
    from motivnet_cli.records import Item, RunRecord

log = logging.getLogger(__name__)

RUN_FORMAT = 1
"""Of run.json and the plan that it names; it grows where an older version would read them wrongly. Before the first
release they had none."""
MAX_UNIT_ITEMS = 1000
"""In a run of so many inputs that this makes fewer than MANY_UNITS; in a larger one they grow."""
MANY_UNITS = 10_000
"""So many parts, or some times as many, are what file systems and readers bear."""
_MAX_SHARDS = 1_000_000
"""Schedulers allow some ten thousand tasks in an array."""
TARGET_UNITS_PER_WORKER = 32
"""In a run that many take part in: the last of them waits for the others about a thirtieth of its time."""
MIN_PICTURES_PER_UNIT = 16
"""In a unit of pictures only: fewer cost less than the two files that are written for them."""
MAX_PICTURES_PER_WHOLE_UNIT = 64
MAX_ITEMS_PER_WHOLE_UNIT = 8
"""In a unit that is committed only whole, of pictures and of whatever else: so much is done again after a crash."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is known of a run beside its items: the content of `run.json`."""

    record: RunRecord
    num_items: int
    skipped: dict[str, int]
    """What the listing passed over: kind -> count."""
    keep: dict[str, KeptType]
    """Columns of the user's manifest that pass through, with their types."""
    shards: dict[str, int] | None
    """How the run is shared (`Shard.numbering`); None if it is not."""
    plan: str
    """Name of the plan's file."""
    unit_size: int
    """Items in a unit; the last one may have fewer."""
    offsets: list[int] | None = None
    """Of each unit, where its first line begins in the plan, in bytes; None for a plan that is a table."""
    has_segments: bool = True
    """A unit may be committed in several parts; else only whole."""
    is_finished: bool = False
    """Everything is done: from then on parts may be rewritten, and their markers no longer count."""

    @classmethod
    def without_plan(cls, files: RunFiles, record: RunRecord) -> Run:
        """Of a finished output that was made of others: it has no items, and its parts are of no units."""
        return cls(
            record=record,
            num_items=0,
            skipped={},
            keep={},
            shards=None,
            plan=files.plan.name,
            unit_size=1,
            is_finished=True,
        )

    @property
    def units(self) -> range:
        return range(-(-self.num_items // self.unit_size))


def read_run(files: RunFiles, backend: Backend) -> Run | None:
    """What is known of a run by now; None if none has been begun, or it is gone.

    Raises:
        OutputConflictError: It is damaged, or a later version wrote it.
    """
    if not backend.fetch(files.about):
        return None
    with reading(f"the record of a run, {backend.name_of(files.about)!r},"):
        values = json.loads(files.about.read_bytes())
        if values.get("format", 0) > RUN_FORMAT:
            raise OutputConflictError(
                f"{backend.name_of(files.about)!r} was written by a later version of motivnet, in format "
                f"{values['format']}, and {__version__} reads {RUN_FORMAT}: go on with that version, or start anew "
                "with --overwrite"
            )
        run = Run(
            record=values["record"],
            num_items=values["num_items"],
            skipped=values["skipped"],
            keep=values["keep"],
            shards=values["shards"],
            plan=values.get("plan", files.former_plan.name),
            unit_size=values["unit"],
            offsets=values.get("offsets"),
            has_segments=bool(values.get("segments", backend.has_locks)),
            is_finished=bool(values.get("finished")),
        )
        _check_run(run, files)
    return run


def _check_run(run: Run, files: RunFiles) -> None:
    """Raise where what a file says cannot be: it decides which inputs are done, and which files are written.

    Raises:
        ValueError: What cannot be.
    """
    shards = {} if run.shards is None else run.shards
    offsets = run.offsets or []
    counts = [run.num_items, run.unit_size, *offsets, *run.skipped.values(), *shards.values()]
    if run.shards is not None and shards.keys() != Shard(0, 1).numbering.keys():
        raise ValueError("its shards are none")
    if not all(type(count) is int and count >= 0 for count in counts) or run.unit_size < 1:
        raise ValueError("its counts are no counts")
    if shards and not (0 < shards["count"] <= _MAX_SHARDS and shards["each"]):
        raise ValueError(f"it cannot have {shards['count']} shards")
    if run.offsets is not None and (len(offsets) != len(run.units) or offsets != sorted(set(offsets))):
        raise ValueError("its units do not fit its inputs")
    if (
        not files.is_plan(run.plan)
        or "/" in run.plan
        or run.plan.endswith(files.plan.suffix) == (run.offsets is not None)
    ):
        raise ValueError(f"its plan cannot be {run.plan!r}")
    if not isinstance(run.record, dict) or not isinstance(run.record.get("settings", {}), dict):
        raise TypeError("its settings are none")
    if not all(isinstance(name, str) and kind in get_args(KeptType) for name, kind in run.keep.items()):
        raise ValueError("its columns are of unknown types")


def planned(plan: Path, run: Run, start: int, stop: int, backend: Backend | None = None) -> Iterator[Item]:
    """Some items of a run's plan, from the first one of a unit on.

    Args:
        backend: What the plan lies in, if it is not here.

    Raises:
        OutputConflictError: The plan is damaged.
    """
    if run.offsets is None:
        return planned_items(plan, start, stop, num_items=run.num_items, backend=backend)
    if backend is not None:
        backend.fetch_all([plan])
    return planned_lines(plan, start, stop, offset=run.offsets[start // run.unit_size] if run.offsets else 0)


def write_run(files: RunFiles, backend: Backend, run: Run, *, is_new: bool = False) -> bool:
    """Write down what is known of a run; False if it should have been new and another process was first."""
    values = {
        "format": RUN_FORMAT,
        "record": run.record,
        "num_items": run.num_items,
        "skipped": run.skipped,
        "keep": run.keep,
        "shards": run.shards,
        "plan": run.plan,
        "unit": run.unit_size,
    }
    if run.offsets is not None:
        values["offsets"] = run.offsets
    if run.has_segments and not backend.has_locks:
        values["segments"] = True
    if run.is_finished:
        values["finished"] = True
    with durably(files.about) as temporary:
        temporary.write_text(json.dumps(values))
        if is_new:
            return backend.create(files.about, temporary)
        backend.publish(files.about, temporary)
    return True


class Ledger:
    """A run that has been begun: its plan, and the parts committed of it.

    `find` returns one that is there, `freeze` begins a new one.
    """

    def __init__(self, files: RunFiles, backend: Backend, run: Run) -> None:
        self._files = files
        self._backend = backend
        self._claims: dict[int, filelock.BaseFileLock] = {}
        self._lost: set[int] = set()
        """Units of which another process has written a part while this one was at work on them."""
        self._contest = Contest(files, backend, run.plan, self.end_of)
        self._take_in(run)

    @classmethod
    def find(cls, files: RunFiles, backend: Backend) -> Ledger | None:
        """The run with these files; None if none has been begun."""
        run = read_run(files, backend)
        return None if run is None else cls(files, backend, run)

    @classmethod
    def freeze(
        cls,
        files: RunFiles,
        backend: Backend,
        listing: Listing,
        items: Iterable[Item],
        *,
        record: RunRecord,
        num_workers: int = 1,
        shards: dict[str, int] | None = None,
        clear: Callable[[], None] | None = None,
    ) -> Ledger:
        """Write the plan down, once; whatever comes or goes in the folders later changes nothing.

        In an object store, the plan of the process that comes first holds for all.

        Args:
            listing: What the items come from, of which one may come again; its counts are read when all have come.
            num_workers: How many are expected to take part; more than one get smaller units.
            shards: As in `share_out`.
            clear: Remove what is there, once the plan is written.
        """
        files.control.mkdir(parents=True, exist_ok=True)
        counts = write_plan(files.plan, items, identity=listing.identity)
        if clear is not None:
            clear()
        if backend.has_locks:  # what an earlier run could not remove is of another plan
            for folder in map(files.table, reversed(TABLES)):
                backend.remove(folder / name for name in backend.names(folder) if is_part(name))
            plans = filter(files.is_plan, backend.names(files.control))
            backend.remove(files.control / name for name in plans if name != files.plan.name)
        plan = backend.publish_distinct(files.plan)
        has_segments = backend.has_locks or backend.has_exclusive_create(files.pending)
        size = unit_size(counts.num_items, num_workers, are_pictures=counts.are_pictures, are_whole=not has_segments)
        run = Run(
            record=record,
            num_items=counts.num_items,
            skipped=dict(listing.skipped + Counter({NAMED_TWICE: counts.num_repeated})),
            keep=listing.kept_types,
            shards=shards,
            plan=plan.name,
            unit_size=size,
            has_segments=has_segments,
        )
        while not write_run(files, backend, run, is_new=True):
            first = cls.find(files, backend)
            if first is not None:
                if first.run.plan != plan.name:
                    backend.remove([plan])
                return first
            backend.publish(plan)  # that run is finished and gone meanwhile, and all plans with it
        return cls(files, backend, run)

    def exists(self) -> bool:
        """Whether the run is still there: the last process removes one whose output is a single file."""
        return self._backend.has(self._files.about)

    def refresh(self) -> bool:
        """See what is committed by now; False if the run is gone, and then what was known of it stays."""
        run = read_run(self._files, self._backend)
        if run is not None:
            self._take_in(run)
        return run is not None

    def _take_in(self, run: Run) -> None:
        self.run = run
        self._num_parts: Counter[int] = Counter()
        """Of each unit, those included that were lost before the last one."""
        self._ended: set[int] = set()
        """Units whose last part says by its name that it is the last."""
        self._reached: dict[int, Cursor] = {}
        """Of units that have been asked for: a part is not opened before."""
        for name in filter(is_part, self._backend.names(self._files.table("inputs"))):
            self._note_part(name)

    def finish(self) -> None:
        """Note that everything is done and in its place, where no other parts are left."""
        for table in reversed(TABLES):
            committed = {part.name for part in self.committed(table)}
            folder = self._files.table(table)
            names = filter(is_part, self._backend.names(folder))
            self._backend.remove(folder / name for name in names if name not in committed)
        if self._is_contested:  # of attempts that came to nothing
            self._backend.remove(self._files.pending / name for name in self._backend.names(self._files.pending))
        self._note(dataclasses.replace(self.run, is_finished=True))
        shutil.rmtree(self._files.claims, ignore_errors=True)  # a file a unit, which nobody asks for any more

    def share_out(self, shards: dict[str, int]) -> None:
        """Note in how many shards the run goes on."""
        if self.run.shards != shards:
            self._note(dataclasses.replace(self.run, shards=shards))

    def _note(self, run: Run) -> None:
        write_run(self._files, self._backend, run)
        self.run = run

    # ---- units ----

    @property
    def num_items(self) -> int:
        return self.run.num_items

    @property
    def units(self) -> range:
        return self.run.units

    def items_in(self, units: Iterable[int]) -> int:
        return sum(self.end_of(unit) - self._start_of(unit) for unit in units)

    def done_in(self, units: Iterable[int]) -> int:
        """Items of these units that are wholly done."""
        return sum(self.reached(unit).position.item - self._start_of(unit) for unit in units)

    @property
    def num_done(self) -> int:
        return self.done_in(self.units)

    def unit_at(self, position: Position) -> int:
        return position.item // self.run.unit_size

    def _start_of(self, unit: int) -> int:
        return unit * self.run.unit_size

    def end_of(self, unit: int) -> int:
        """The first item after a unit."""
        return min(self._start_of(unit + 1), self.run.num_items)

    def reached(self, unit: int) -> Cursor:
        """How far a unit is committed.

        Raises:
            OutputConflictError: The last part of one that is begun and not known to be done is damaged.
        """
        if unit not in self._reached:
            is_done = self.run.is_finished or unit in self._ended
            if not is_done and self._num_parts[unit]:
                self._reached[unit] = self._cursor_after(unit)
            else:
                self._reached[unit] = Cursor(Position(self.end_of(unit) if is_done else self._start_of(unit)))
        return self._reached[unit]

    def is_done(self, unit: int) -> bool:
        return self.reached(unit).position.item >= self.end_of(unit)

    @property
    def _is_contested(self) -> bool:
        """Whether nothing keeps another process from writing a part of a unit that this one works on."""
        return self.run.has_segments and not self._backend.has_locks

    def refresh_unit(self, unit: int) -> None:
        """See what is committed of a unit by now: another process may have added to it."""
        before = self._num_parts[unit]
        if self._is_contested:
            self._contest.end_others(unit)
            for name in filter(is_part, self._backend.names(self._files.table("inputs"), parts_begin(unit))):
                self._note_part(name)
        while unit not in self._ended and not self._is_contested:
            number = self._num_parts[unit]
            if self.run.has_segments and self._backend.has(self._files.part("inputs", unit, number, is_last=True)):
                self._ended.add(unit)
            elif not self._backend.has(self._files.part("inputs", unit, number)):
                break
            self._num_parts[unit] += 1
        if self._num_parts[unit] > before:
            self._reached.pop(unit, None)

    def _note_part(self, name: str) -> None:
        """Take in that a part of the inputs is there."""
        unit = unit_of(name)
        self._num_parts[unit] = max(self._num_parts[unit], segment_of(name) + 1)
        if is_last(name):
            self._ended.add(unit)

    def claim(self, unit: int, *, timeout: float = 0.0) -> bool:
        """Take a unit that is not done, so that no one else does; False if it is done, or taken already.

        Args:
            timeout: Seconds for which one that another process has taken is waited for.
        """
        if self.is_done(unit) or unit in self._claims:
            return False
        file = self._files.claim(unit)
        file.parent.mkdir(exist_ok=True)  # where the run is gone, nothing may be left in its place
        lock = filelock.FileLock(file, thread_local=False)
        try:
            lock.acquire(timeout=timeout)
        except filelock.Timeout:
            return False
        self.refresh_unit(unit)
        if self.is_done(unit):
            lock.release()
            return False
        self._claims[unit] = lock
        self._lost.discard(unit)
        return True

    def is_claimed(self, unit: int) -> bool:
        """Whether this process has taken a unit and not yet done it."""
        return unit in self._claims

    def release(self) -> None:
        """Let others have what this process took."""
        for unit in list(self._claims):
            self._claims.pop(unit).release()

    def _cursor_after(self, unit: int) -> Cursor:
        """How far a unit is, by its last part, which does not say that it is the last one."""
        if not self.run.has_segments:
            return Cursor(Position(self.end_of(unit)))
        part = self._files.part("inputs", unit, self._num_parts[unit] - 1)
        with reading(f"the file {self._backend.name_of(part)!r}"):
            cursor = cursor_in(self._backend.footer(part))
            if not self._start_of(unit) <= cursor.position.item <= self.end_of(unit):
                raise ValueError(f"it ends at input {cursor.position.item}, which is none of its unit")
        return cursor

    # ---- the plan ----

    def todos(self, unit: int) -> Iterator[Todo]:
        """What is still to do of a unit, until it is lost to another process."""
        reached = self.reached(unit)
        if self.is_done(unit):
            return
        for item in self._planned(self._start_of(unit), self.end_of(unit)):
            if unit in self._lost:
                return
            if item.index >= reached.position.item:
                cursor = reached if item.index == reached.position.item else Cursor(Position(item.index))
                yield Todo(item, cursor)

    def items(self) -> Iterator[Item]:
        """All items of the plan."""
        return self._planned(0, self.num_items)

    def _planned(self, start: int, stop: int) -> Iterator[Item]:
        return planned(self._files.control / self.run.plan, self.run, start, stop, self._backend)

    def check_plan(self) -> None:
        """Hold the number of inputs against the plan's, which nobody reads where all of so many are done.

        Raises:
            OutputConflictError: The plan has more or fewer.
        """
        if self._backend.has(self._files.control / self.run.plan):
            next(self._planned(0, 0), None)

    # ---- parts ----

    def committed(self, table: str, units: Iterable[int] | None = None) -> list[Path]:
        """The parts of a table that are known to be committed, in plan order; in an object store, not all fetched.

        Args:
            units: Only of these; None for all.
        """
        units = self.units if units is None else units
        return [
            self._files.part(table, unit, number, is_last=unit in self._ended and number == self._num_parts[unit] - 1)
            for unit in units
            for number in range(self._num_parts[unit])
        ]

    def lost_parts(self) -> list[Path]:
        """Parts of either table that were committed and are gone; of a finished folder, where every unit has one."""
        there = {table: set(self._backend.names(self._files.table(table))) for table in TABLES}
        lost = [part for table in TABLES for part in self.committed(table) if part.name not in there[table]]
        if self.run.is_finished:
            lost += [self._files.part("inputs", unit, 0) for unit in self.units if not self._num_parts[unit]]
            known = {*map(faces_of, there["inputs"]), *(part.name for part in lost)}
            alone = sorted(name for name in there["faces"] - known if is_part(name))
            if alone and not self._backend.has(self._files.journal):  # else the inputs are about to get their names
                lost += [self._files.table("inputs") / name for name in alone]
        return lost

    def has_lost(self, unit: int) -> bool:
        """Whether another process has written parts of a unit since this one has taken it: rows come to nothing."""
        return unit in self._lost

    def can_commit(self, unit: int, reached: Cursor) -> bool:
        """Whether a part that ends there adds something to its unit, and may be written."""
        is_new = reached.position > self.reached(unit).position
        return is_new and (self.run.has_segments or reached.position.item >= self.end_of(unit))

    def commit(self, unit: int, faces: pa.Table, inputs: pa.Table, *, reached: Cursor) -> None:
        """Write the next part of a unit: its faces, and then the inputs that mark them as done.

        In an object store another process may have been first: the unit is lost to this one, until it takes it again.
        """
        if not self._is_contested:
            self.refresh_unit(unit)  # without locks, another process may have done it by accident: its rows stay
        if not self.is_done(unit) and not self._write_part(unit, faces, inputs, reached):
            self._lost.add(unit)
        if unit in self._claims and (self.is_done(unit) or self.has_lost(unit)):
            self._claims.pop(unit).release()

    def _write_part(self, unit: int, faces: pa.Table, inputs: pa.Table, reached: Cursor) -> bool:
        """False if another process has written the part of this number."""
        number = self._num_parts[unit]
        is_end = self.run.has_segments and reached.position.item >= self.end_of(unit)  # else each part is the last
        finals = {table: self._files.part(table, unit, number, is_last=is_end) for table in TABLES}
        tables = {"faces": faces, "inputs": inputs}
        try:
            if self._is_contested:
                self._contest.write_part(unit, number, finals, tables, reached)
            else:
                write_part(finals, tables, reached, lambda files: self._publish(finals, files))
        except TakenError:
            self.refresh_unit(unit)
            if self._num_parts[unit] == number:
                raise OutputConflictError(
                    f"a part of the run at {self._backend.name_of(self._files.control)!r} is gone: "
                    "start anew with --overwrite"
                ) from None
            log.info("another process works on the same inputs: what it has written of unit %d stays", unit)
            return False
        self._num_parts[unit] += 1
        self._reached[unit] = reached
        if is_end:
            self._ended.add(unit)
        log.debug("committed: %d faces of %d inputs, in unit %d", len(faces), len(inputs), unit)
        return True

    def _publish(self, finals: Mapping[str, Path], files: Mapping[str, Path]) -> None:
        for table in TABLES:
            self._backend.publish(finals[table], files[table])

    def faces_of(self, position: Position, name: str) -> Iterator[TrackedFace]:
        """What is committed of one input's faces."""
        parts = self._backend.fetch_all(self.committed("faces", [self.unit_at(position)]))
        return (row for row in rows_in(parts, TrackedFace) if row.input == name)


def unit_size(num_items: int, num_workers: int, *, are_pictures: bool, are_whole: bool) -> int:
    """Items in a unit: so many that each of several workers gets about TARGET_UNITS_PER_WORKER, and some at least.

    Args:
        are_pictures: All items are.
        are_whole: A unit is committed only as a whole.
    """
    most = max(MAX_UNIT_ITEMS, -(-num_items // MANY_UNITS))
    if num_workers == 1 and not are_whole:
        return most
    if are_whole:
        most = MAX_PICTURES_PER_WHOLE_UNIT if are_pictures else MAX_ITEMS_PER_WHOLE_UNIT
    least = max(1, min(MIN_PICTURES_PER_UNIT if are_pictures else 1, num_items // (num_workers * 4)))
    return min(most, max(least, -(-num_items // (num_workers * TARGET_UNITS_PER_WORKER))))
