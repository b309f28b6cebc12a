"""A run's frozen plan and what is committed of it, unit by unit, by one process or by many at once.

A unit is a fixed slice of the plan. Its rows are written in *parts*: first `faces/part-U-S.parquet`, then
`inputs/part-U-S.parquet`, each whole under its name or not there. The second file is the marker: inputs that it
lists are done, and faces without it do not count. Who works on a unit holds its lock, which the system takes back
when the process dies; whoever takes the unit next goes on after its last marker. In an object store there are no
locks: there a unit is one part, and two processes that do it by accident write the same rows.
"""

from __future__ import annotations

import dataclasses
import json
import time
from array import array
from collections import Counter
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

import filelock
import pyarrow.parquet as pq

from motivnet_cli.durable import durably, sha256_of
from motivnet_cli.errors import OutputConflictError
from motivnet_cli.output.mirror import Folder
from motivnet_cli.output.tables import ROW_GROUP, Rows, TableWriter, Tracks, rows_in
from motivnet_cli.records import Cursor, GivenFace, Item, Position, Problem, Todo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from motivnet_cli.config import KeptType
    from motivnet_cli.faces.track import TrackConfig
    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.records import Batch, Prediction

UNIT = 1000
"""Inputs in a unit, at most."""
UNITS_A_WORKER = 32
"""Of a run that many take part in: the last of them waits for the others about a thirtieth of its time."""
LEAST_PICTURES = 16
"""In a unit of pictures only: fewer cost less than the two files that are written for them."""
MOST_PICTURES = 64
MOST_OTHERS = 8
"""In a unit that is committed only whole, of pictures and of whatever else: so much is done again after a crash."""
PART_ROWS = ROW_GROUP
"""A part is committed when it holds this many rows, even before its time has come."""
PATIENCE_SECONDS = 10.0
"""How long a unit that another process holds is waited for: a killed run's children take a moment to end."""
WAIT_SECONDS = 0.5
"""Between two looks at what others have."""
Others = Literal["refuse", "leave", "wait"]
_CURSOR_KEY = b"motivnet.reached"
"""In the metadata of an inputs part: from where its unit goes on."""


class Ledger:
    """A frozen plan and the parts committed of it.

    Args:
        control: Folder of the plan (`plan.jsonl`), of `run.json`, whose presence makes it a run, and of the locks.
        parts: Folder of `faces/` and `inputs/`.
        store: What both lie in, if that is not this machine.
    """

    def __init__(self, control: Path, parts: Path, store: Folder | None = None) -> None:
        self._control = control
        self._parts = parts
        self._store = store or Folder()
        self.has_whole_units = self._store.is_remote
        """Whether a unit is committed only as a whole."""
        self._claims: dict[int, filelock.BaseFileLock] = {}
        self.num_items = 0
        self.skipped: dict[str, int] = {}
        self.record: dict[str, Any] = {}
        self.keep: dict[str, KeptType] = {}
        self.shards: dict[str, int] | None = None
        """`count` and `first` (the scheduler's number of shard 0) of the tasks that share the run."""
        self.is_finished = False
        self._is_read = False
        self.exists()

    def exists(self) -> bool:
        """Whether there is a run; one that another process has begun meanwhile is read."""
        if not self._store.fetch(self._control / "run.json"):
            self._is_read = False
        elif not self._is_read:
            self.read()
        return self._is_read

    def freeze(
        self,
        listing: Listing,
        items: Iterable[Item],
        *,
        record: dict[str, Any],
        num_workers: int = 1,
        shards: dict[str, int] | None = None,
    ) -> None:
        """Write the plan down, once; whatever comes or goes in the folders later changes nothing.

        In an object store, the plan of the process that comes first holds for all.

        Args:
            num_workers: How many are expected to take part; more than one get smaller units.
            shards: As in `share_out`.
        """
        self._control.mkdir(parents=True, exist_ok=True)
        offsets, end, are_small = array("Q"), 0, True
        plan = self._control / "plan.jsonl"
        with durably(plan) as temporary, temporary.open("wb") as lines:
            temporary.chmod(0o600)  # URLs stand here with what opens them
            for item in items:
                offsets.append(end)
                end += lines.write(_line_of(item).encode() + b"\n")
                are_small = are_small and item.kind == "image"
        if self._store.is_remote:  # under a name of its own, so that no other process's plan takes its place
            plan = plan.replace(plan.with_name(f"plan-{sha256_of(plan)[:32]}.jsonl"))
            self._store.publish(plan)
        unit = _unit_size(len(offsets), num_workers, are_small=are_small, are_whole=self.has_whole_units)
        run = {
            "record": record,
            "num_items": len(offsets),
            "skipped": listing.skipped,
            "keep": listing.kept_types,
            "shards": shards,
            "plan": plan.name,
            "unit": unit,
            "offsets": offsets[::unit].tolist(),
        }
        if not self._write(run, is_new=True):
            self._store.fetch(self._control / "run.json")
            if json.loads((self._control / "run.json").read_text())["plan"] != plan.name:
                self._store.remove([plan])
        self.read()

    def read(self) -> None:
        """Find out what is committed by now."""
        run = json.loads((self._control / "run.json").read_text())
        self.record, self.num_items, self.skipped = run["record"], run["num_items"], run["skipped"]
        self.keep, self.shards = run["keep"], run["shards"]
        self.unit: int = run["unit"]
        self._offsets: list[int] = run["offsets"]
        self.is_finished = bool(run.get("finished"))
        self._plan: Path = self._control / run.get("plan", "plan.jsonl")
        self._segments: Counter[int] = Counter()
        self._reached: dict[int, Cursor] = {}
        last: dict[int, Path] = {}
        for part in self._listed("inputs"):
            unit = unit_of(part)
            self._segments[unit] += 1
            last[unit] = part
        if not self.is_finished:
            self._reached = {unit: self._cursor_after(unit, part) for unit, part in last.items()}
        self._is_read = True

    def finish(self) -> None:
        """Note that everything is done: from then on parts may be rewritten, and their markers no longer count."""
        self._write(json.loads((self._control / "run.json").read_text()) | {"finished": True})
        self.is_finished = True

    def share_out(self, shards: dict[str, int]) -> None:
        """Note in how many shards the run goes on: what `self.shards` says."""
        if self.shards != shards:
            self._write(json.loads((self._control / "run.json").read_text()) | {"shards": shards})
            self.shards = shards

    def _write(self, run: dict[str, Any], *, is_new: bool = False) -> bool:
        """False if it should have been new and is not."""
        final = self._control / "run.json"
        with durably(final) as temporary:
            temporary.write_text(json.dumps(run))
            if is_new:
                return self._store.create(final, temporary)
            self._store.publish(final, temporary)
        return True

    # ---- units ----

    @property
    def units(self) -> range:
        return range(len(self._offsets))

    def items_in(self, units: Iterable[int]) -> int:
        return sum(self.end_of(unit) - unit * self.unit for unit in units)

    def done_in(self, units: Iterable[int]) -> int:
        """Items of these units that are wholly done."""
        return sum(self.reached(unit).position.item - unit * self.unit for unit in units)

    @property
    def num_done(self) -> int:
        return self.done_in(self.units)

    def end_of(self, unit: int) -> int:
        """The first item after a unit."""
        return min((unit + 1) * self.unit, self.num_items)

    def reached(self, unit: int) -> Cursor:
        """How far a unit is committed."""
        start = self.end_of(unit) if self.is_finished else unit * self.unit
        return self._reached.get(unit, Cursor(Position(start)))

    def is_done(self, unit: int) -> bool:
        return self.reached(unit).position.item >= self.end_of(unit)

    def claim(self, unit: int, *, patience: float = 0.0) -> bool:
        """Take a unit that is not done, so that no one else does; False if it is done, or taken already."""
        if self.is_done(unit) or unit in self._claims:
            return False
        folder = self._control / "claims"
        folder.mkdir(exist_ok=True)
        lock = filelock.FileLock(folder / f"{unit:06d}.lock", thread_local=False)
        try:
            lock.acquire(timeout=patience)
        except filelock.Timeout:
            return False
        self.look_again(unit)
        if self.is_done(unit):
            lock.release()
            return False
        self._claims[unit] = lock
        return True

    def has(self, unit: int) -> bool:
        """Whether this process has taken a unit and not yet done it."""
        return unit in self._claims

    def release(self) -> None:
        """Let others have what this process took up."""
        for unit in list(self._claims):
            self._claims.pop(unit).release()

    def look_again(self, unit: int) -> None:
        """See what is committed of a unit by now: another process may have added to it."""
        while self._store.has(self._part("inputs", unit, self._segments[unit])):
            self._segments[unit] += 1
        if self._segments[unit]:
            self._reached[unit] = self._cursor_after(unit, self._part("inputs", unit, self._segments[unit] - 1))

    def _cursor_after(self, unit: int, part: Path) -> Cursor:
        return Cursor(Position(self.end_of(unit))) if self.has_whole_units else _cursor_in(part)

    def todos(self, unit: int) -> Iterator[Todo]:
        """What is still to do of a unit."""
        reached = self.reached(unit)
        with self._open_plan() as lines:
            lines.seek(self._offsets[unit])
            for index, line in zip(range(unit * self.unit, self.end_of(unit)), lines, strict=False):
                if index >= reached.position.item:
                    yield Todo(
                        _item_of(index, line), reached if index == reached.position.item else Cursor(Position(index))
                    )

    def _open_plan(self) -> IO[bytes]:
        self._store.fetch_all([self._plan])
        return self._plan.open("rb")

    def items(self) -> Iterator[Item]:
        with self._open_plan() as lines:
            for index, line in enumerate(lines):
                yield _item_of(index, line)

    # ---- parts ----

    def committed(self, table: str) -> list[Path]:
        """The parts of a table; in an object store, those of the last listing, not all of them fetched."""
        if self.has_whole_units:  # a new list could be that of a run that another process has just cleared away
            return [self._part(table, unit, 0) for unit in self.units if self._segments[unit]]
        return self._listed(table)

    def _listed(self, table: str) -> list[Path]:
        names = self._store.names(self._parts / "inputs")
        return [self._parts / table / name for name in names if is_part(name)]

    def commit(self, unit: int, faces: pa.Table, inputs: pa.Table, *, reached: Cursor) -> None:
        """Write the next part of a unit: its faces, and then the inputs that mark them as done."""
        if self.has_whole_units:
            self.look_again(unit)  # another process may have done it by accident: its rows stay
        if not self.is_done(unit):
            self._write_part(unit, faces, inputs, reached)
        if self.is_done(unit) and unit in self._claims:
            self._claims.pop(unit).release()

    def _write_part(self, unit: int, faces: pa.Table, inputs: pa.Table, reached: Cursor) -> None:
        marker = {**inputs.schema.metadata, _CURSOR_KEY: json.dumps(dataclasses.astuple(reached)).encode()}
        for table, name in ((faces, "faces"), (inputs.replace_schema_metadata(marker), "inputs")):
            final = self._part(name, unit, self._segments[unit])
            final.parent.mkdir(exist_ok=True)
            with durably(final) as temporary:
                with TableWriter(temporary, table.schema) as writer:
                    writer.add(table)
                self._store.publish(final, temporary)
        self._segments[unit] += 1
        self._reached[unit] = reached

    def rows_of(self, position: Position, name: str, *columns: str) -> Iterator[dict[str, Any]]:
        """What is committed of one input's faces."""
        unit = position.item // self.unit
        parts = [self._part("faces", unit, segment) for segment in range(self._segments[unit])]
        yield from (row for row in rows_in(parts, "input", *columns) if row["input"] == name)

    def _part(self, table: str, unit: int, segment: int) -> Path:
        return self._parts / table / f"part-{unit:06d}-{segment:04d}.parquet"


class Share:
    """What one process does of a run: the units that it takes up, and the rows that it writes of them.

    Args:
        units: Which it may take, in this order.
        commit_seconds: A part is committed at least this often.
        others: What is done about units that other processes have: refuse (nobody else should be at work), leave
            them, or wait in case they are let go of.
    """

    def __init__(
        self,
        ledger: Ledger,
        units: Sequence[int],
        *,
        schemas: dict[str, pa.Schema],
        classes: tuple[str, ...],
        tracks: TrackConfig | None,
        commit_seconds: float,
        others: Others,
    ) -> None:
        self._ledger = ledger
        self.units = units
        self._rows = Rows(classes, schemas["faces"], schemas["inputs"])
        self._tracks = None if tracks is None else Tracks(tracks, ledger.rows_of)
        self._commit_seconds = commit_seconds
        self._last_commit = time.monotonic()
        self._reached = Cursor(Position(0))
        self._others = others
        self._is_broken = False
        """Rows that were taken to be committed are lost: nothing may be committed past them."""
        self.num_items = ledger.items_in(units)
        self.num_resumed = ledger.done_in(units)

    def rounds(self, stop: Callable[[], bool]) -> Iterator[Iterator[Todo]]:
        """What is to do, in plan order, and again what others let go of meanwhile; ends when nothing can be taken.

        Args:
            stop: Asked while others are waited for.

        Raises:
            OutputConflictError: Others are refused, and one is at work.
        """
        while not stop():
            first = self._take(0)
            if first is not None:
                yield self._todos(first)
                self.flush()
            elif self._others == "wait" and not self.is_done:
                time.sleep(WAIT_SECONDS)
            else:
                return

    def _todos(self, position: int | None) -> Iterator[Todo]:
        while position is not None:
            yield from self._ledger.todos(self.units[position])
            position = self._take(position + 1)

    def _take(self, start: int) -> int | None:
        """The position in `units` of the next one that is to be had."""
        for position in range(start, len(self.units)):
            unit = self.units[position]
            is_alone = self._others == "refuse"
            if self._ledger.claim(unit, patience=PATIENCE_SECONDS if is_alone else 0):
                return position
            if is_alone and not (self._ledger.is_done(unit) or self._ledger.has(unit)):
                raise OutputConflictError(
                    "other processes are at work on this output: wait for them, or take part with --shard"
                )
        return None

    def write(self, batch: Batch, prediction: Prediction | None) -> None:
        """Take a batch's rows, and commit parts that are due."""
        self._rows.add(batch, prediction)
        self._reached = batch.reached
        waited = time.monotonic() - self._last_commit
        self._commit(all_reached=len(self._rows) >= PART_ROWS or waited >= self._commit_seconds)

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
        """Commit each unit that is whole by now, and if asked, and possible, what is reached of the next."""
        ledger, reached = self._ledger, self._reached
        if self._is_broken:
            return
        while (first := self._rows.first()) is not None:
            unit = first.item // ledger.unit
            end = Cursor(Position(ledger.end_of(unit)))
            if end.position > reached.position:
                break
            self._commit_unit(unit, end)
        if ledger.has_whole_units:
            return
        unit = reached.position.item // ledger.unit
        if all_reached and unit in ledger.units and reached.position > ledger.reached(unit).position:
            self._commit_unit(unit, reached)

    def _commit_unit(self, unit: int, reached: Cursor) -> None:
        self._is_broken = True
        positions, faces, inputs = self._rows.take(reached.position)
        if self._tracks is not None:
            faces = self._tracks.follow(positions, faces)
        self._ledger.commit(unit, faces, inputs, reached=reached)
        self._is_broken = False
        self._last_commit = time.monotonic()


class Hand(Protocol):
    """Where a `HandedShare` gets its units from."""

    def next(self) -> int | None:
        """Another unit at once; None if there is none now."""

    def wait(self) -> int | None:
        """Another unit, whenever it comes; None when there will be none."""


class HandedShare(Share):
    """A share of a run in which someone else decides which unit is next, so that no two take the same."""

    def __init__(
        self,
        ledger: Ledger,
        hand: Hand,
        *,
        schemas: dict[str, pa.Schema],
        classes: tuple[str, ...],
        tracks: TrackConfig | None,
        commit_seconds: float,
    ) -> None:
        super().__init__(
            ledger,
            ledger.units,
            schemas=schemas,
            classes=classes,
            tracks=tracks,
            commit_seconds=commit_seconds,
            others="leave",
        )
        self._hand = hand
        self._next: int | None = None
        self._in_hand: set[int] = set()

    def rounds(self, stop: Callable[[], bool]) -> Iterator[Iterator[Todo]]:
        """As `Share.rounds`; a round ends where no unit is there yet, or one that comes earlier in the plan."""
        self._next = self._hand.wait()
        while self._next is not None and not stop():
            yield self._handed_todos()
            self.flush()
            if self._next is None:
                self._next = self._hand.wait()

    def _handed_todos(self) -> Iterator[Todo]:
        last = -1
        while self._next is not None and self._next > last:
            last = self._next
            is_claimed = self._ledger.claim(last)
            self._in_hand.add(last)
            if is_claimed:
                yield from self._ledger.todos(last)
            self._next = self._hand.next()

    def settled(self) -> list[tuple[int, bool]]:
        """Units handed over that are no longer in hand, each once, and whether they are done or others have them."""
        gone = [unit for unit in list(self._in_hand) if not self._ledger.has(unit)]
        self._in_hand.difference_update(gone)
        return [(unit, self._ledger.is_done(unit)) for unit in gone]


def _unit_size(num_items: int, num_workers: int, *, are_small: bool, are_whole: bool) -> int:
    """Inputs in a unit: so many that each of several workers gets about UNITS_A_WORKER units, and some at least.

    Args:
        are_small: All are pictures.
        are_whole: A unit is committed only as a whole.
    """
    if num_workers == 1 and not are_whole:
        return UNIT
    most = UNIT if not are_whole else MOST_PICTURES if are_small else MOST_OTHERS
    least = max(1, min(LEAST_PICTURES if are_small else 1, num_items // (num_workers * 4)))
    return min(most, max(least, -(-num_items // (num_workers * UNITS_A_WORKER))))


def is_part(name: str) -> bool:
    return name.startswith("part-") and name.endswith(".parquet")


def unit_of(part: Path) -> int:
    return int(part.stem.split("-")[1])


def _cursor_in(part: Path) -> Cursor:
    (item, step), num_frames, num_faces = json.loads(pq.read_metadata(part).metadata[_CURSOR_KEY])
    return Cursor(Position(item, step), num_frames, num_faces)


def _line_of(item: Item) -> str:
    """An item as a line of the plan; what it has not is left out."""
    values = {name: value for name in _WRITTEN if (value := getattr(item, name)) is not None and value != ()}
    return json.dumps(values, separators=(",", ":"), default=dataclasses.asdict)  # asdict of all would cost half


_WRITTEN = [field.name for field in dataclasses.fields(Item) if field.name != "index"]


def _item_of(index: int, line: bytes) -> Item:
    values = json.loads(line)
    if "problem" in values:
        values["problem"] = Problem(**values["problem"])
    if "given" in values:
        values["given"] = tuple(GivenFace(tuple(each["box"]), tuple(each["kept"])) for each in values["given"])
    return Item(index=index, **values | {"kept": tuple(values.get("kept", ()))})
