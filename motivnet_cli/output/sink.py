"""Predictions -> Parquet, so that nothing committed is ever lost.

Of several processes that write one output, one lists the inputs while the others wait, and the last one puts the
output in its place. An output in an object store is made in a temporary folder, but what is in the store counts:
whoever goes on fetches it from there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import math
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import filelock
import pyarrow.parquet as pq

from motivnet_cli.config import NAMING_SETTINGS
from motivnet_cli.durable import temporary_name
from motivnet_cli.errors import ConfigError, OutputConflictError
from motivnet_cli.inputs.names import kind_of
from motivnet_cli.inputs.patterns import has_wildcards
from motivnet_cli.output.amend import Amendment
from motivnet_cli.output.compare import changes_since, changes_since_plan, hashed
from motivnet_cli.output.counts import Counts
from motivnet_cli.output.damage import reading
from motivnet_cli.output.ledger import Ledger, read_run
from motivnet_cli.output.names import TABLES
from motivnet_cli.output.paths import finish_moves, move, output_paths
from motivnet_cli.output.plan import listed_once
from motivnet_cli.output.read import lost_parts_error, record_in
from motivnet_cli.output.share import Share
from motivnet_cli.output.tables import METADATA_KEY, TableWriter, rows_in
from motivnet_cli.records import (
    MAX_NAMED_FAILURES,
    STATUSES,
    Changes,
    InputReport,
    OutputSummary,
    Position,
    Problem,
)
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa
    from typing_extensions import Self

    from motivnet_cli.config import OutputConfig
    from motivnet_cli.errors import ErrorType
    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.output.names import RunFiles
    from motivnet_cli.output.paths import OutputPaths
    from motivnet_cli.output.tables import RowLayout
    from motivnet_cli.records import Batch, Item, Kind, Prediction, RunRecord, RunState, Status, Todo
    from motivnet_cli.shards import ArrayTask, Shard

log = logging.getLogger(__name__)
NOTICE_SECONDS = 2.0
"""A shard that waits longer for another says so."""
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.05, 2.0
"""Between two tries of a shard to have the output's lock: each time twice as long, and chance keeps many apart."""


class Output:
    """One run's output: locked while open, continued where it stopped, put in its place when complete.

    Args:
        config: Where and how.
        record: What the files' metadata says of the run. Its `settings` decide whether an output that is
            already there belongs to this run.
        layout: The columns, without those that the listing keeps.
        shard: Which share of the run is this process's; others do the rest.
        num_workers: How many processes will take part, as `share.take_part` does, in a run of which this is the owner.
        reads: Files and folders that the run reads besides what the listing holds: none is ever written or removed.

    Raises:
        OutputConflictError: By `with`: another run's output is there, or another process is writing it.
        ConfigError: By `with`: the place cannot be written, or one of `reads` is there, or what is there cannot be
            amended.
    """

    def __init__(
        self,
        config: OutputConfig,
        *,
        record: RunRecord,
        layout: RowLayout,
        shard: Shard | ArrayTask | None = None,
        num_workers: int = 1,
        reads: Iterable[str] = (),
    ) -> None:
        self._config = config
        self._reads = tuple(reads)
        self._record = record
        self._layout = layout
        self._shard = shard
        self._num_workers = num_workers
        self._amending = "--retry-failed" if config.retry_failed else "--extend" if config.extend else ""
        """The option that asks for an amendment."""
        self._paths = output_paths(config.path, config.staging)
        self._lock = _OutputLock(self._paths, is_shared=shard is not None)
        self._run: OpenOutput | None = None

    def __enter__(self) -> Self:
        self._check_options()
        self._written = self._paths.written()
        self._written.refuse(self._reads)
        self._paths.prepare()
        self._lock.acquire()
        try:
            self._settle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._run is not None:
            with contextlib.suppress(OSError):  # of a full disk, which the error says that is being raised
                self._run.close()
        if self._lock.is_held:
            self._paths.leave()
            self._lock.release()

    def _check_options(self) -> None:
        # Under --overwrite, each shard would throw away what the others have done.
        alone = "--overwrite" if self._config.overwrite else self._amending
        if alone and self._shard is not None:
            raise ConfigError(f"{alone} is the work of one call: leave out --shard (several --devices may share it)")
        if self._amending:
            self._paths.check_amendable(self._amending)

    def _settle(self) -> None:
        """Find out whose output is here, how far it is, and what is to be done."""
        paths, config = self._paths, self._config
        run = None
        if config.overwrite:  # it is cleared once the inputs are listed
            with contextlib.suppress(OutputConflictError):
                finish_moves(paths)
        else:
            finish_moves(paths)
            run = read_run(paths.run, paths.backend)
        if config.overwrite:
            pass
        elif run is not None:
            self._refuse_other(run.record)
        else:
            for part in (part for table in TABLES for part in paths.final_parts(table)):
                with paths.backend.open(part) as file:
                    self._refuse_other(record_in(file))
            if not paths.is_file and paths.backend.has_locks and paths.final_parts("inputs"):
                raise OutputConflictError(
                    f"{paths.given!r} holds parts of a run whose plan is gone: start anew with --overwrite"
                )
        self._is_finished = not config.overwrite and paths.is_finished(run)
        self._goal: _Goal = _NewFile(paths) if paths.is_file else _NewFolder(paths)
        if self._amending:
            if not self._is_finished:
                raise ConfigError(
                    f"{self._amending} needs a finished output, and {paths.given!r} is not: "
                    "run the same command without it first"
                )
            self._refuse_lost_parts_of_folder()
            self._is_finished = False
            self._goal = Amendment(paths, retry_failed=config.retry_failed)

    def _refuse_other(self, record: RunRecord) -> None:
        if "settings" not in record:
            raise OutputConflictError(
                f"{self._paths.given!r} was not written by motivnet; choose another --out, "
                "or replace it with --overwrite"
            )
        old, new = (each.get("schema_version") for each in (record, self._record))
        if old != new:
            raise OutputConflictError(
                f"{self._paths.given!r} has schema {old}, and this version writes schema {new}: go on with the version "
                "that wrote it, choose another --out, or start anew with --overwrite"
            )
        before, now = ({"classes": each.get("classes"), **each["settings"]} for each in (record, self._record))
        keys = dict.fromkeys((*before, *now))
        if self._config.extend:  # other inputs are its very purpose, but under names of the same kind
            self._refuse_other_names(before, now)
            keys = dict.fromkeys(key for key in keys if key in NAMING_SETTINGS or not key.startswith("inputs"))
        differing = [key for key in keys if before.get(key) != now.get(key)]
        if differing:
            named = "; ".join(f"{key} was {before.get(key)!r}, is now {now.get(key)!r}" for key in differing)
            raise OutputConflictError(
                f"{self._paths.given!r} belongs to a run with other settings ({named}); give that run's "
                "settings to go on with it, choose another --out, or start anew with --overwrite"
            )

    def _refuse_other_names(self, before: Mapping[str, object], now: Mapping[str, object]) -> None:
        """Refuse to extend an output whose names are relative to another folder: they would mean other files."""
        if any(before.get(key) != now.get(key) for key in NAMING_SETTINGS) or any(map(before.get, NAMING_SETTINGS)):
            return  # of which other differences are refused
        folders = [_only_folder(settings) for settings in (before, now)]
        if folders[0] != folders[1]:
            first, second = (f"relative to {folder!r}" if folder else "as the inputs are given" for folder in folders)
            raise OutputConflictError(
                f"the names in {self._paths.given!r} are {first}, and with these inputs they would be {second}: extend "
                "it with the same folder, or use --absolute or --relative-to from the first run on"
            )

    def finished_before(self, listing: Listing | None = None) -> OutputSummary | None:
        """What the output holds, if every input was done and in its place before; None if there is something to do.

        Args:
            listing: What the inputs are now, to say what is new or changed.
        """
        if not self._is_finished:
            return None
        self._refuse_lost_parts_of_folder()
        summary = _summary(self._paths, self._layout, self._paths.final_parts)
        if listing is None:
            return summary
        parts = self._paths.backend.fetch_all(self._paths.final_parts("inputs"))
        return dataclasses.replace(summary, changes=changes_since(parts, listing))

    def begin(self, listing: Listing | None) -> OpenOutput:
        """Freeze the plan, if none is frozen yet: only then is the listing asked.

        Args:
            listing: None where the inputs cannot be listed now, which only a run with a plan goes on without.

        Raises:
            ConfigError: The listing holds nothing, or a file that would be written; or the run has no share of this
                shard's number; or there is no listing, and no run or nothing that is left of it.
        """
        ledger = None if self._config.overwrite else Ledger.find(self._goal.files, self._paths.backend)
        was_begun = ledger is not None
        if self._shard is None:  # of many tasks, the last one finds out
            self._refuse_lost_parts(ledger)
        if ledger is None and listing is not None:
            ledger = self._frozen(listing)
        elif listing is None:
            ledger = self._resumed(ledger)
        assert ledger is not None, "it was found or frozen"
        shard = None if self._shard is None else self._shard.of_run(ledger.run.shards)
        if shard is not None:
            ledger.share_out(shard.numbering)
        share = Share(
            ledger,
            self._layout.keeping(ledger.run.keep),
            ledger.units if shard is None else ledger.units[shard.index :: shard.count],
            commit_seconds=self._config.commit_seconds,
            others="refuse" if shard is None else "leave",
        )
        staging = self._paths.staging
        config = dataclasses.replace(self._config, staging=str(staging) if staging else None)
        self._run = OpenOutput(
            self._paths,
            self._goal,
            ledger,
            share,
            shard=shard,
            lock=self._lock,
            worker_config=config,
            # Each of many shards would walk the same folders for it.
            listing=listing if was_begun and shard is None and not self._amending else None,
        )
        if shard is not None:
            self._lock.release()
        return self._run

    def _refuse_lost_parts_of_folder(self) -> None:
        """The same for a finished output, of which nothing else opens all files."""
        if not self._paths.is_file:
            self._refuse_lost_parts(Ledger.find(self._paths.run, self._paths.backend))

    def _refuse_lost_parts(self, ledger: Ledger | None) -> None:
        """Refuse to go on with an output of which somebody has removed what was committed."""
        if ledger is not None and (lost := ledger.lost_parts()):
            raise lost_parts_error(self._paths, lost)

    def _resumed(self, ledger: Ledger | None) -> Ledger:
        """The run, if it can go on without a look at the inputs.

        Raises:
            ConfigError: There is none, or none of the inputs that are left is there: perhaps a disk is missing.
        """
        if ledger is None:
            raise ConfigError(
                f"the inputs cannot be listed, and no run has been begun at {self._paths.given!r}: check both names"
            )
        left = (todo.item for unit in ledger.units for todo in ledger.todos(unit))
        first = next(left, None)
        if first is not None and not any(
            is_remote(item.path) or os.path.lexists(item.path) for item in itertools.chain([first], left)
        ):
            raise ConfigError(
                f"none of the inputs that are still to do is there, such as {first.path!r}: mount their disk, or put "
                "them back"
            )
        return ledger

    def _frozen(self, listing: Listing) -> Ledger:
        self._layout.keeping(listing.kept_types)  # what cannot be kept is refused before anything is written
        begun_as = None if self._shard is None else self._shard.of_run(None)
        found = listed_once(listing) if self._amending else listing.found()  # else the plan takes each once
        items = map(self._checked, found)
        ledger = Ledger.freeze(
            self._goal.files,
            self._paths.backend,
            listing,
            self._goal.items(listing, map(hashed, items) if self._config.hash_contents else items),
            record=self._record,
            num_workers=self._num_workers if begun_as is None else begun_as.count,
            shards=None if begun_as is None else begun_as.numbering,
            clear=self._paths.clear if self._config.overwrite else None,
        )
        self._refuse_other(ledger.run.record)  # in an object store, another process may have been first
        return ledger

    def _checked(self, item: Item) -> Item:
        """The item, if this run does not write its file."""
        self._written.refuse([item.path])
        return item


class OpenOutput:
    """A run that has been begun, and this process's share of it."""

    def __init__(
        self,
        paths: OutputPaths,
        goal: _Goal,
        ledger: Ledger,
        share: Share,
        *,
        shard: Shard | None,
        lock: _OutputLock,
        worker_config: OutputConfig,
        listing: Listing | None,
    ) -> None:
        self._paths = paths
        self._listing = listing
        self._goal = goal
        self._ledger = ledger
        self._share = share
        self._lock = lock
        self._is_finished = False
        self._changes = Changes()
        self.shard = shard
        self.worker_config = worker_config
        self.num_items = share.num_items
        self.num_resumed = share.num_resumed
        self.skipped = ledger.run.skipped

    def rounds(self, stop: Callable[[], bool]) -> Iterator[Iterator[Todo]]:
        """As `share.Share.rounds`."""
        return self._share.rounds(stop)

    def write(self, batch: Batch, prediction: Prediction | None) -> None:
        """Take a batch's rows, and commit parts that are due."""
        self._share.write(batch, prediction)

    def close(self) -> None:
        """Commit all that is reached, and let others have the rest."""
        self._share.close()

    def complete(self) -> RunState:
        """Put the output in its place if every input of the run is done."""
        self._share.flush()
        self._lock.acquire()
        ledger = self._ledger
        is_there = ledger.refresh()
        is_done = ledger.num_done == ledger.num_items
        if is_there and is_done:
            ledger.check_plan()
        if self._listing is not None and is_done:  # the plan may be gone afterwards
            self._changes = changes_since_plan(ledger, self._listing)
        lost = self._goal.lost_parts(ledger) if is_there and is_done else []
        if is_there and is_done and not lost:
            self._goal.put_in_place(ledger, self._share.layout.schemas(ledger.run.record))
        elif is_there and ledger.exists():
            if lost:
                raise lost_parts_error(self._paths, lost)
            return "share_done" if self.shard is not None and self._share.is_done else "stopped"
        elif not self._was_put_in_place():
            raise OutputConflictError(
                f"the working folder of the run, {self._paths.backend.name_of(self._goal.files.control)!r}, is gone: "
                "somebody has removed it, and what is done with it; start anew"
            )
        self._is_finished = True
        return "finished"

    def _was_put_in_place(self) -> bool:
        """Whether another process was the last one: of one that amends an output there are no others."""
        is_amended = isinstance(self._goal, Amendment)
        return not is_amended and self._paths.is_finished(read_run(self._paths.run, self._paths.backend))

    def summary(self) -> OutputSummary:
        """What the output holds by now; of a shard before all are done, what that shard holds."""
        num_items = 0 if self._is_finished else self._share.num_items
        summary = _summary(self._paths, self._share.layout, self._current_parts, num_items=num_items)
        return dataclasses.replace(summary, changes=self._changes)

    def _current_parts(self, table: str) -> list[Path]:
        if self.shard is not None and not self._is_finished:
            return self._ledger.committed(table, self._share.units)
        return self._paths.final_parts(table) if self._paths.is_complete() else self._ledger.committed(table)


def can_go_on(config: OutputConfig) -> bool:
    """Whether an output is there that is finished or has a plan, and so needs no listing of the inputs.

    Raises:
        ConfigError: The place cannot be used.
    """
    if config.overwrite or config.retry_failed or config.extend:
        return False
    paths = output_paths(config.path, config.staging)
    return paths.backend.has(paths.run.about) or paths.is_complete()


def _only_folder(settings: Mapping[str, object]) -> str | None:
    """The folder that names are relative to, which is the only input of a run; None where names are as given."""
    paths = settings.get("inputs.paths")
    if not isinstance(paths, list) or len(paths) != 1:
        return None
    if any(settings.get(f"inputs.{name}") for name in ("files_from", "files0_from", "manifests")):
        return None
    path = str(paths[0])
    is_gone = not os.path.lexists(path) and not has_wildcards(path) and kind_of(path) is None
    return path.rstrip("/") if Path(path).is_dir() or is_gone else None


class _OutputLock:
    """Keeps others from an output: for a whole run, or while a shard begins it and ends it."""

    def __init__(self, paths: OutputPaths, *, is_shared: bool) -> None:
        self._file = paths.run.lock
        self._given = paths.given
        self._is_shared = is_shared
        self._lock = filelock.FileLock(self._file)

    @property
    def is_held(self) -> bool:
        return self._lock.is_locked

    def acquire(self) -> None:
        """Take the lock, unless this process has it already; a shard waits for others."""
        if self.is_held:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)  # gone when another shard has just finished
        wait, noticed_at = FIRST_WAIT_SECONDS, time.monotonic() + NOTICE_SECONDS
        while not self._has_acquired():
            if not self._is_shared:
                raise OutputConflictError(
                    f"another process is writing {self._given!r}: wait for it, or choose another --out"
                )
            if time.monotonic() >= noticed_at:
                log.info("waiting for another process that lists the inputs of %r or finishes it", self._given)
                noticed_at = math.inf
            time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 - no secret
            wait = min(2 * wait, MAX_WAIT_SECONDS)

    def _has_acquired(self) -> bool:
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            return False
        return True

    def release(self) -> None:
        self._lock.release()


# ---- what a run comes to ----------------------------------------------------------------------------------


class _Goal(Protocol):
    """What a run is to make: a new file, a new folder, or changes of what is there (`amend.Amendment`)."""

    files: RunFiles
    """Of the run."""

    def items(self, listing: Listing, items: Iterable[Item]) -> Iterator[Item]:
        """Which of the listed items are to be done, numbered.

        Raises:
            ConfigError: There are none.
        """

    def lost_parts(self, ledger: Ledger) -> Sequence[Path]:
        """Fetch the parts of a run whose inputs are done; those that are gone."""

    def put_in_place(self, ledger: Ledger, schemas: Mapping[str, pa.Schema]) -> None:
        """Make the output of a run whose parts are all committed."""


class _NewFolder:
    """The parts are the output."""

    def __init__(self, paths: OutputPaths) -> None:
        self._paths = paths
        self.files = paths.run

    def items(self, listing: Listing, items: Iterable[Item]) -> Iterator[Item]:
        items = iter(items)
        first = list(itertools.islice(items, 1))
        if not first:
            skipped = ", ".join(f"{n} {what}" for what, n in listing.skipped.most_common(5)) or "nothing"
            raise ConfigError(f"no pictures among the inputs (passed over: {skipped}); nothing was written")
        return itertools.chain(first, items)

    def lost_parts(self, ledger: Ledger) -> Sequence[Path]:
        return ledger.lost_parts()

    def put_in_place(self, ledger: Ledger, schemas: Mapping[str, pa.Schema]) -> None:
        ledger.finish()


class _NewFile(_NewFolder):
    """The parts are joined into one file a table."""

    def lost_parts(self, ledger: Ledger) -> Sequence[Path]:
        parts = [part for table in TABLES for part in ledger.committed(table)]
        there = set(self._paths.backend.fetch_all(parts))
        return [part for part in parts if part not in there]

    def put_in_place(self, ledger: Ledger, schemas: Mapping[str, pa.Schema]) -> None:
        finals = {table: self._paths.final_name(table) for table in TABLES}
        counts = Counts()
        for table, final in finals.items():
            with TableWriter(temporary_name(final), schemas[table], counts) as writer:
                for part in ledger.committed(table):
                    with reading(part):
                        rows = pq.read_table(part)
                        if not rows.schema.equals(schemas[table]):
                            raise ValueError("it has other columns than this run writes")
                        if rows.schema.metadata.get(METADATA_KEY) != schemas[table].metadata[METADATA_KEY]:
                            raise ValueError("it is of another run")
                    writer.add(rows)
        move(self._paths, finals.values())
        for final in finals.values():  # inputs last: without them it is no output
            self._paths.backend.publish(final)


class _InputRow(NamedTuple):
    input: str
    kind: Kind
    status: Status
    error: str
    error_type: ErrorType


def _summary(
    paths: OutputPaths, layout: RowLayout, parts: Callable[[str], Sequence[Path]], *, num_items: int = 0
) -> OutputSummary:
    """What is in the parts of both tables.

    Args:
        parts: The files of a table.
        num_items: Inputs that are expected; more may be done, as an archive holds several.
    """
    total = Counts()
    failures: list[InputReport] = []
    for part, counts in paths.counts({table: parts(table) for table in TABLES}):
        total += counts
        if counts.status["failed"] and len(failures) < MAX_NAMED_FAILURES:
            paths.backend.fetch_all([part])
            failed = (row for row in rows_in([part], _InputRow) if row.status == "failed")
            for row in itertools.islice(failed, MAX_NAMED_FAILURES - len(failures)):
                problem = Problem(row.error_type, row.error)
                failures.append(InputReport(Position(0), row.input, row.kind, "failed", problem=problem))
    return OutputSummary(
        inputs=max(total.inputs, num_items),
        done=total.inputs,
        by_status={status: total.status[status] for status in STATUSES if total.status[status]},
        faces=total.faces,
        face_sources=total.face_sources,
        emotions={name: total.emotion[name] for name in layout.classes},
        left_out=total.left_out,
        outputs=tuple(paths.backend.name_of(paths.final_name(table)) for table in TABLES),
        failures=tuple(failures),
    )
