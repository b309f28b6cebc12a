"""Predictions -> Parquet, so that nothing committed is ever lost; and reading it back.

This room knows the files of an output: where the parts of its run lie (`ledger` writes them), how they become one
file, and how a finished output is amended. Of several processes that write one output, one lists the inputs while
the others wait, and the last one puts it in its place. An output in an object store is made in a temporary folder,
and what there counts is in the store: whoever goes on brings it here (`mirror`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import os
import re
import shutil
import time
from collections import Counter, deque
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from motivnet_cli.durable import TemporaryFolder, durably, sync, temporary_name
from motivnet_cli.errors import ConfigError, OutputConflictError
from motivnet_cli.output.ledger import HandedShare, Ledger, Share, is_part, unit_of
from motivnet_cli.output.mirror import Folder, Mirror
from motivnet_cli.records import STATUSES, InputReport, Item, Place, Problem
from motivnet_cli.remote.files import is_remote, shown
from motivnet_cli.shards import Shard, first_of, task_list
from motivnet_cli.output.tables import Stream, TableWriter, faces_schema, inputs_schema, rows_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import polars as pl
    from typing_extensions import Self

    from motivnet_cli.config import OutputConfig
    from motivnet_cli.output.ledger import Hand, Others
    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.records import Batch, Prediction, Todo
    from motivnet_cli.faces.track import TrackConfig

SCHEMA_VERSION = 1
log = logging.getLogger(__name__)

METADATA_KEY = b"motivnet"
"""Key of the Parquet file metadata that holds the run's JSON record."""

_TABLES = ("faces", "inputs")
NAMED_FAILURES = 10
"""How many failed inputs a summary names."""
NOTICE_SECONDS = 2.0
"""A shard that waits longer for another says so."""
STATUS_ATTEMPTS = 20
"""How often an output is looked at that changes its form meanwhile, which each run does a few times."""
STATUS_SECONDS = 0.1


# ---- reading back -----------------------------------------------------------------------------------------


def read_faces(path: str | Path) -> pl.DataFrame:
    """The faces table of a finished output, a `.parquet` file or a folder, in input order.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    import polars

    return polars.read_parquet(parts_of(path, "faces"))


def read_inputs(path: str | Path) -> pl.DataFrame:
    """The inputs table that goes with `read_faces(path)`: one row an input, with what became of it.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    import polars

    return polars.read_parquet(parts_of(path, "inputs"))


def read_record(path: str | Path) -> dict[str, Any]:
    """The record of the run that wrote an output: versions, model, terms, settings, command.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    return _record_in(parts_of(path, "inputs")[0])


@dataclasses.dataclass(frozen=True, slots=True)
class ShardStatus:
    """How far one share of a run is."""

    index: int
    number: int
    """The scheduler's."""
    done: int
    inputs: int


@dataclasses.dataclass(frozen=True, slots=True)
class OutputStatus:
    """How far an output is. An archive is one input here, whatever it holds."""

    finished: bool
    """Everything is done and in its place."""
    inputs: int
    done: int
    failed: int
    """Of what is done; the failed members of archives count, too."""
    faces: int
    amending: tuple[int, int] | None
    """Inputs done and in all of an `--extend` or `--retry-failed` that has not ended; None where there is none."""
    shards: tuple[ShardStatus, ...]
    """Of a run that is shared and not finished."""

    @property
    def missing(self) -> int:
        return self.inputs - self.done

    @property
    def array(self) -> str:
        """Which of the scheduler's tasks to submit again; one to put the output in its place, if that is all."""
        numbers = [shard.number for shard in self.shards if shard.done < shard.inputs]
        return task_list(numbers or [shard.number for shard in self.shards[:1]])


def output_status(path: str | Path, *, shards: int | None = None) -> OutputStatus:
    """What is done of an output and what is not, read without locks: right at some moment of this call.

    Args:
        shards: Look at it as this many shares, however many it was begun with.

    Raises:
        ConfigError: No output of motivnet is there, or none has been begun yet.
    """
    if shards is not None and shards < 1:
        raise ConfigError(f"--shards: a run has at least 1, got {shards}")
    place = _place_to_read(path)
    for _ in range(STATUS_ATTEMPTS):
        before = place.look()
        with contextlib.suppress(FileNotFoundError):  # the last process has just put the output in its place
            status = _status_of(place, shards)
            if place.look() == before:
                return status
        time.sleep(STATUS_SECONDS)
    raise ConfigError(f"{place.given!r} changes faster than it can be read: ask again")


def _status_of(place: _Place, num_shards: int | None) -> OutputStatus:
    store = place.store
    run, finals = Ledger(place.work, place.parts, store), store.bring(place.final_parts("inputs"), anew=True)
    if not run.exists():
        if not finals:
            expected = store.name_of(place.final_name("inputs"))
            why = "its inputs are not listed yet" if store.has(place.work) else f"expected {expected}"
            raise ConfigError(f"no motivnet output at {place.given!r}; {why}")
        if "settings" not in _record_in(finals[0]):
            raise ConfigError(f"{place.given!r} was not written by motivnet")
    finished = place.is_complete() and (place.is_file or run.is_finished) and not (place.work / "moves.json").exists()
    parts = {table: place.final_parts(table) if finished else run.committed(table) for table in _TABLES}
    num_items, failed, num_faces = 0, 0, 0
    for part in store.bring(parts["inputs"]):
        rows = pq.read_table(part, columns=["archive", "status", "faces"])
        num_items += rows["archive"].null_count
        num_faces += sum(rows["faces"].to_pylist())
        failed += sum(row["counts"] for row in rows["status"].value_counts().to_pylist() if row["values"] == "failed")
    if not finished:
        run.read()  # after the parts: what they say is of inputs that are done
    amendment = Ledger(*place.amendment)
    return OutputStatus(
        finished=finished,
        inputs=num_items if finished else run.num_items,
        done=num_items if finished else run.num_done,
        failed=failed,
        # Where units are whole, the inputs say it, and nothing large is brought here.
        faces=num_faces if store.is_remote else sum(pq.read_metadata(part).num_rows for part in parts["faces"]),
        amending=(amendment.num_done, amendment.num_items) if amendment.exists() else None,
        shards=() if finished else _shards_of(run, num_shards),
    )


def _shards_of(run: Ledger, count: int | None) -> tuple[ShardStatus, ...]:
    if run.shards is None and count is None:
        return ()
    first = Shard(0, count or 0) if run.shards is None else first_of(run.shards)
    if count is not None and count != first.count:
        first = Shard(0, count, first.first)
    shards = (dataclasses.replace(first, index=index) for index in range(first.count))
    return tuple(
        ShardStatus(
            shard.index,
            shard.number,
            run.done_in(run.units[shard.index :: shard.count]),
            run.items_in(run.units[shard.index :: shard.count]),
        )
        for shard in shards
    )


def parts_of(path: str | Path, table: str) -> list[Path]:
    """The files of an output's table, `faces` or `inputs`; of a folder that is not finished, what is committed.

    Of an output in an object store: copies that last as long as this process.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    place = _place_to_read(path)
    parts = place.store.bring(place.final_parts(table), anew=True)
    if not parts:
        raise ConfigError(
            f"no motivnet output at {str(path)!r}; expected {place.store.name_of(place.final_name(table))}"
        )
    run = Ledger(place.work, place.parts, place.store)
    if not place.is_file and run.exists() and not run.is_finished and table == "inputs":
        log.warning(
            "%s is not finished: %d of %d inputs are done, and what follows is of these",
            path,
            run.num_done,
            run.num_items,
        )
    return parts


def _place_to_read(path: str | Path) -> _Place:
    return _copied_place(str(path)) if is_remote(str(path)) else _Place(str(path))


@functools.cache
def _copied_place(url: str) -> _Place:
    """One for each URL, so that its copies last as long as this process, and are not made twice."""
    return _Place(url)


def _record_in(part: Path | IO[bytes]) -> dict[str, Any]:
    try:
        metadata = pq.read_metadata(part).metadata or {}
    except (OSError, pa.ArrowInvalid):
        metadata = {}
    record: dict[str, Any] = json.loads(metadata.get(METADATA_KEY, b"{}"))
    return record


# ---- where things lie -------------------------------------------------------------------------------------


class _Place:
    """The files of one output: what the user sees, and the working folder behind it."""

    def __init__(self, path: str, staging: str | None = None) -> None:
        self.given = shown(path) if is_remote(path) else path
        self.path = Path(path)
        is_bucket = is_remote(path) and "/" not in path.partition("://")[2].rstrip("/")
        suffix = "" if is_bucket else self.path.suffix
        self.is_file = suffix == ".parquet"
        if not self.is_file and suffix and not self.path.is_dir() and not path.endswith(os.sep):
            raise ConfigError(
                f"cannot write {suffix!r} files: {self.given!r}; --out takes a name ending in .parquet, "
                "or a folder (end it with / if its name has a dot)"
            )
        self.store = Folder()
        self.staging: Path | None = None
        """The folder that stands for the object store."""
        if is_remote(path):
            self._mirror(path.rstrip("/"), staging)
        self.work = Path(f"{self.path}.work") if self.is_file else self.path / ".motivnet"
        """Holds the frozen plan and the lock; for a single file also the parts. Gone when a file is finished."""
        self.parts = self.work if self.is_file else self.path
        """Where the parts of the run lie, in `faces/` and `inputs/`."""

    def _mirror(self, url: str, staging: str | None) -> None:
        """Have a folder here stand for the object store."""
        temporary = None
        if staging is None:
            temporary = TemporaryFolder()
            staging = str(temporary.path)
        self.staging = Path(staging)
        self.path = self.staging / (self.path.name if self.is_file else "out")
        local = self.staging if self.is_file else self.path
        # The store keeps the folder, since who takes part in a run knows no more of the place.
        self.store = Mirror(url.removesuffix(self.path.name) if self.is_file else url, local, temporary)

    @property
    def amendment(self) -> tuple[Path, Path]:
        """The folders of a run that amends this output, as `Ledger` takes them."""
        return self.work / "amend", self.work / "amend"

    def final_name(self, table: str) -> Path:
        if not self.is_file:
            return self.path / table
        return self.path if table == "faces" else self.path.with_suffix(".inputs.parquet")

    def final_parts(self, table: str) -> list[Path]:
        """The files of a table as readers see them; empty before anything is committed."""
        final = self.final_name(table)
        if self.is_file:
            return [final] if self.store.has(final) else []
        return [final / name for name in self.store.names(self.path / "inputs") if is_part(name)]

    def prepare(self) -> None:
        """Make the working folder, unless something that is not ours is in the way."""
        if self.store.is_remote:
            self._refuse_others_objects()
        shown = self.given
        if self.is_file and self.path.is_dir():
            raise OutputConflictError(f"{shown!r} is a folder; give --out the name of a file in it")
        if not self.is_file and self.path.is_file():
            raise OutputConflictError(f"{shown!r} is a file; --out takes a name ending in .parquet, or a folder")
        if not self.is_file and self.path.is_dir() and not self.work.exists() and any(self.path.iterdir()):
            raise OutputConflictError(f"the folder {shown!r} holds other files; give --out a new or empty folder")
        self._is_new = not self.path.exists()
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot write at {shown!r} ({error.strerror}); choose another --out") from error

    def clear(self) -> None:
        """Remove an earlier output, whole or half, but nothing else."""
        if self.is_file:
            for table in ("inputs", "faces"):
                self.store.remove([self.final_name(table)])
        if self.store.is_remote:
            run = self.work / "run.json"
            if self.store.pull(run):  # until it is gone, what is left of it may go on, but is not finished
                run.write_text(json.dumps(json.loads(run.read_text()) | {"finished": False}))
                self.store.push(run)
            self._remove_objects(self._parts_there(), [run], self._plans_there())
            return
        (self.work / "run.json").unlink(missing_ok=True)
        for folder in (self.parts / "inputs", self.parts / "faces", self.work / "amend"):
            shutil.rmtree(folder, ignore_errors=True)
        (self.work / "moves.json").unlink(missing_ok=True)

    def leave(self) -> None:
        """Remove the working folder where nothing in it is needed to go on."""
        if self.store.is_remote:
            if self.is_file and self.is_complete():
                self._remove_objects([self.work / "run.json"], self._parts_there(), self._plans_there())
            return
        is_needed = self.work / ("amend" if self.is_file and self.is_complete() else "") / "run.json"
        if not is_needed.exists() and not (self.work / "moves.json").exists():
            shutil.rmtree(self.work, ignore_errors=True)
            if self._is_new and not self.is_file:
                with contextlib.suppress(OSError):
                    self.path.rmdir()

    def is_complete(self) -> bool:
        """Whether readers find both tables in their place."""
        return all(self.store.has(self.final_name(table)) for table in ("faces", "inputs"))

    def _refuse_others_objects(self) -> None:
        if self.is_file and self.store.names(self.path):
            raise OutputConflictError(f"{self.given!r} is a folder; give --out the name of a file in it")
        # In this order: of a run that another process begins meanwhile, run.json comes before any part.
        there = self.store.names(self.work if self.is_file else self.path)
        if self.store.has(self.work / "run.json"):
            return
        if self.is_file:
            if there:  # the end of a run was interrupted
                self._remove_objects(self._parts_there())
        elif any(self._is_others(name) for name in there):
            raise OutputConflictError(f"{self.given!r} holds other objects; give --out a new or empty prefix")

    def _is_others(self, name: str) -> bool:
        """Empty folders, which only some stores have, are nobody's."""
        is_folder = name.endswith("/")
        return name != f"{self.work.name}/" and (not is_folder or bool(self.store.names(self.path / name)))

    def _remove_objects(self, *in_this_order: Sequence[Path]) -> None:
        for paths in in_this_order:
            self.store.remove(paths)

    def _parts_there(self) -> list[Path]:
        """The markers first."""
        folders = [self.parts / table for table in ("inputs", "faces")]
        return [folder / name for folder in folders for name in self.store.names(folder) if is_part(name)]

    def _plans_there(self) -> list[Path]:
        return [self.work / name for name in self.store.names(self.work) if re.fullmatch(r"plan-\w+\.jsonl", name)]

    def look(self) -> list[tuple[int | None, int | None] | None]:
        """What tells whether the output was put in its place, amended or begun anew between two looks."""
        files = [self.final_name(table) for table in _TABLES]
        files += [self.work / name for name in ("run.json", "moves.json", "amend/run.json")]
        return [self.store.version(path) for path in files]


# ---- what an amended output needs ---------------------------------------------------------------------------


def _is_unchanged(item: Item, known: dict[str, Any] | None) -> bool:
    if known is None:
        return False
    if item.sha256 and known["sha256"]:
        return bool(item.sha256 == known["sha256"])
    return (item.size_bytes, item.mtime_ns) == (known["size_bytes"], known["mtime_ns"])


def _hashed(item: Item) -> Item:
    """The item with the hash of its file, if it is one that can be read."""
    if item.size_bytes is None or item.problem:
        return item
    try:
        digest = hashlib.sha256()
        with Path(item.path).open("rb", buffering=0) as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        return dataclasses.replace(item, sha256=digest.hexdigest())
    except OSError:  # reading it will say why
        return item


def _copy_input(source: dict[str, Stream], writers: dict[str, TableWriter]) -> None:
    """Copy the next input and its faces."""
    entry = source["inputs"].take(1)
    writers["inputs"].add(entry)
    writers["faces"].add(source["faces"].take(entry["faces"][0].as_py()))


# ---- the output -------------------------------------------------------------------------------------------


class Output:
    """One run's output: locked while open, continued where it stopped, put in its place when complete.

    Args:
        config: Where and how.
        record: What the files' metadata says of the run. Its `settings` decide whether an output that is
            already there belongs to this run.
        classes: The model's classes, in the order of `Prediction.probabilities`; empty for none.
        embedding_size: D.
        tracks: How faces are followed in videos; None where they are not.
        shard: Which share of the run is this process's; others do the rest.
        num_workers: How many processes will take part, as `take_part` does, in a run of which this is the owner.

    Raises:
        OutputConflictError: Another run's output is there, or another process is writing it.
        ConfigError: The place cannot be written, or `retry_failed` is set and no finished output is there.
    """

    def __init__(
        self,
        config: OutputConfig,
        *,
        record: dict[str, Any],
        classes: Sequence[str],
        embedding_size: int,
        tracks: TrackConfig | None = None,
        shard: Shard | None = None,
        num_workers: int = 1,
    ) -> None:
        self._config = config
        self._record = record
        self._place = _Place(config.path, config.staging)
        self._classes = tuple(classes)
        self._embedding_size = embedding_size
        self._tracks = tracks
        self.shard = shard
        self._num_workers = num_workers
        self._share: Share | None = None

    def __enter__(self) -> Self:
        alone = {
            "--retry-failed": self._config.retry_failed,
            "--extend": self._config.extend,
            "--overwrite": self._config.overwrite,  # each shard would throw away what the others have done
        }
        for option in (option for option, is_given in alone.items() if is_given and self.shard is not None):
            raise ConfigError(f"{option} is the work of one call: leave out --shard (several --devices may share it)")
        if self._place.store.is_remote and (self._config.retry_failed or self._config.extend):
            option = "--retry-failed" if self._config.retry_failed else "--extend"
            raise ConfigError(f"{option} works on an output on this machine: copy {self._place.given!r} here first")
        self._place.prepare()
        self._lock = filelock.FileLock(self._place.work / "lock")
        self._acquire()
        try:
            self._settle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._share is not None:
            with contextlib.suppress(OSError):  # a full disk already speaks through the error that brought us here
                self._share.close()
        if self._lock.is_locked:
            self._place.leave()
            self._lock.release()

    def _acquire(self) -> None:
        """Have the output to ourselves: for the whole run, or as a shard to begin and to end."""
        self._place.work.mkdir(parents=True, exist_ok=True)  # gone when another shard has just finished
        try:
            self._lock.acquire(timeout=0 if self.shard is None else NOTICE_SECONDS)
        except filelock.Timeout:
            shown = self._place.given
            if self.shard is None:
                raise OutputConflictError(
                    f"another process is writing {shown!r}: wait for it, or choose another --out"
                ) from None
            log.info("waiting for another process that lists the inputs of %r or finishes it", shown)
            self._lock.acquire()

    def _settle(self) -> None:
        """Find out whose output is here, and how far it is."""
        place = self._place
        if self._config.overwrite:
            place.clear()
        _finish_moves(place.work)
        self._run = Ledger(place.work, place.parts, place.store)
        if self._run.exists():
            self._refuse_other(self._run.record)
        else:
            for part in (part for table in _TABLES for part in place.final_parts(table)):
                with place.store.open(part) as file:
                    self._refuse_other(_record_in(file))
        self.finished = place.is_complete() and (place.is_file or self._run.is_finished)
        """True when every input is done and in its place."""
        self._amends = self._config.retry_failed or self._config.extend
        if self._amends:
            if not self.finished:
                option = "--retry-failed" if self._config.retry_failed else "--extend"
                raise ConfigError(
                    f"{option} needs a finished output, and {self._place.given!r} is not: "
                    "run the same command without it first"
                )
            self._run = Ledger(*place.amendment)
            self.finished = False

    def _refuse_other(self, record: dict[str, Any]) -> None:
        if "settings" not in record:
            raise OutputConflictError(
                f"{self._place.given!r} was not written by motivnet; choose another --out, "
                "or replace it with --overwrite"
            )
        theirs, ours = dict(record["settings"]), dict(self._record["settings"])
        if self._config.extend:  # other inputs are its very purpose
            theirs, ours = (
                {key: value for key, value in settings.items() if not key.startswith("inputs")}
                for settings in (theirs, ours)
            )
        differing = [key for key in theirs | ours if theirs.get(key) != ours.get(key)]
        if differing:
            named = "; ".join(f"{key} was {theirs.get(key)!r}, is now {ours.get(key)!r}" for key in differing)
            raise OutputConflictError(
                f"{self._place.given!r} belongs to a run with other settings ({named}); give that run's "
                "settings to go on with it, choose another --out, or start anew with --overwrite"
            )

    def begin(self, listing: Listing) -> None:
        """Freeze the plan, if none is frozen yet: only then is the listing asked.

        Raises:
            ConfigError: The listing holds nothing.
        """
        if not self._run.exists():
            listed = map(_hashed, listing) if self._config.hash_contents else listing
            items = iter(self._amended_items(listed) if self._amends else listed)
            first = list(itertools.islice(items, 1))
            if not first and not self._amends:
                skipped = ", ".join(f"{n} {what}" for what, n in listing.skipped.most_common(5)) or "nothing"
                raise ConfigError(f"no pictures among the inputs (passed over: {skipped}); nothing was written")
            begun_as = None if self.shard is None else self.shard.of_run(None)
            self._run.freeze(
                listing,
                itertools.chain(first, items),
                record=self._record,
                num_workers=self._num_workers if begun_as is None else begun_as.count,
                shards=None if begun_as is None else begun_as.about_all,
            )
            self._refuse_other(self._run.record)  # in an object store, another process may have been first
        shard = self.shard
        if shard is not None:
            shard = self.shard = shard.of_run(self._run.shards)
            self._run.share_out(shard.about_all)
        self.skipped = self._run.skipped
        self._schemas = _schemas(self._run, self._config, self._classes, self._embedding_size, self._tracks)
        self._share = _share_of(self._run, self._config, self._classes, self._embedding_size, self._tracks, shard)
        self.num_items, self.num_resumed = self._share.num_items, self._share.num_resumed
        if shard is not None:
            self._lock.release()

    def rounds(self, stop: Callable[[], bool]) -> Iterator[Iterator[Todo]]:
        """As `ledger.Share.rounds`."""
        assert self._share is not None, "begin comes first"
        return self._share.rounds(stop)

    def write(self, batch: Batch, prediction: Prediction | None) -> None:
        """Take a batch's rows, and commit parts that are due."""
        assert self._share is not None, "begin comes first"
        self._share.write(batch, prediction)

    def _amended_items(self, listing: Iterable[Item]) -> list[Item]:
        """What is to be done on top of a finished output: first what is there already, in its order, then the new."""
        known, failed = {}, set()
        columns = ("input", "archive", "status", "size_bytes", "mtime_ns", "sha256")
        for row in rows_in(self._place.final_parts("inputs"), *columns):
            if row["archive"] is None:
                known[row["input"]] = row
            if row["status"] == "failed":
                failed.add(row["archive"] or row["input"])  # an archive is read as a whole
        if self._config.retry_failed:
            wanted = [item for item in listing if item.input in failed]
        else:
            wanted = [item for item in listing if not _is_unchanged(item, known.get(item.input))]
        order = {name: number for number, name in enumerate(known)}
        wanted.sort(key=lambda item: order.get(item.input, len(order)))
        return [dataclasses.replace(item, index=number) for number, item in enumerate(wanted)]

    def complete(self) -> bool:
        """Put the output in its place if every input is done; says whether all is done that was this process's."""
        assert self._share is not None, "begin comes first"
        self._share.flush()
        if self.shard is not None:
            self._acquire()
            if not self._run.exists():  # another shard was the last one, and has put it in its place
                self.finished = True
                return True
        self._run.read()
        place = self._place
        if self._run.num_done < self._run.num_items or (place.is_file and not self._has_parts()):
            if place.store.is_remote and not self._run.exists():  # another process has just put it in its place
                self.finished = True
                return True
            if self._run.num_done == self._run.num_items:
                raise OutputConflictError(f"parts of the run at {place.given!r} are gone: start anew with --overwrite")
            return self.shard is not None and self._share.is_done
        if self._amends:
            _move(place.work, self._amended())
            shutil.rmtree(place.work / "amend")
        elif place.is_file:
            _move(place.work, self._joined())
            for table in _TABLES:  # inputs last: without them it is no output
                place.store.push(place.final_name(table))
        else:
            self._run.finish()
        self.finished = True
        return True

    def _has_parts(self) -> bool:
        """Have all parts of the run here; False if some are gone."""
        parts = [part for table in _TABLES for part in self._run.committed(table)]
        return len(self._place.store.bring(parts)) == len(parts)

    def _joined(self) -> list[_Moved]:
        """Join the parts into one file a table, each beside its place."""
        moves = []
        for table, schema in self._schemas.items():
            final = self._place.final_name(table)
            with TableWriter(temporary_name(final), schema) as writer:
                for part in self._run.committed(table):
                    writer.add(pq.read_table(part))
            moves.append((temporary_name(final), final))
        return moves

    def _amended(self) -> list[_Moved]:
        """Rewrite the parts in which inputs were done again, and add what is new, each file beside its place."""
        news = {table: Stream(self._run.committed(table)) for table in _TABLES}
        names = deque(row["input"] for row in rows_in(self._run.committed("inputs"), "input"))
        again = {item.input for item in self._run.items()}
        place, moves = self._place, []
        parts = list(zip(*(place.final_parts(table) for table in _TABLES), strict=True))
        for number, finals in enumerate(parts):
            groups = {row["archive"] or row["input"] for row in rows_in([finals[1]], "archive", "input")}
            is_last_file = place.is_file and number == len(parts) - 1
            if not (groups & again or is_last_file):
                continue
            with self._writers(finals) as writers:
                before = {table: Stream([final]) for table, final in zip(_TABLES, finals, strict=True)}
                for row in rows_in([finals[1]], "input", "archive"):
                    group = row["archive"] or row["input"]
                    if group not in again:
                        _copy_input(before, writers)
                        continue
                    before["faces"].take(before["inputs"].take(1)["faces"][0].as_py())
                    while group in names:  # its new rows, an archive's members before itself
                        _copy_input(news, writers)
                        if names.popleft() == group:
                            break
                while is_last_file and names:
                    names.popleft()
                    _copy_input(news, writers)
            moves += [(temporary_name(final), final) for final in finals]
        if names:
            added = f"part-{unit_of(parts[-1][1]) + 1:06d}-0000.parquet"
            finals = tuple(place.final_name(table) / added for table in _TABLES)
            with self._writers(finals) as writers:
                while names:
                    names.popleft()
                    _copy_input(news, writers)
            moves += [(temporary_name(final), final) for final in finals]
        return moves

    @contextlib.contextmanager
    def _writers(self, finals: Sequence[Path]) -> Iterator[dict[str, TableWriter]]:
        with contextlib.ExitStack() as stack:
            yield {
                table: stack.enter_context(TableWriter(temporary_name(final), self._schemas[table]))
                for table, final in zip(_TABLES, finals, strict=True)
            }

    def summary(self) -> dict[str, Any]:
        """What the output holds by now: the fields of `records.Summary` that are read off the tables.

        Of a shard before all are done, what is of that shard.
        """
        statuses: Counter[str] = Counter()
        failures: list[InputReport] = []
        for row in rows_in(self._current("inputs"), "input", "kind", "status", "error", "error_type"):
            statuses[row["status"]] += 1
            if row["status"] == "failed" and len(failures) < NAMED_FAILURES:
                problem = Problem(row["error_type"], row["error"])
                failures.append(InputReport(Place(0), row["input"], row["kind"], "failed", problem=problem))
        emotions: Counter[str] = Counter()
        num_faces = 0
        for part in self._current("faces"):
            num_faces += pq.read_metadata(part).num_rows
            if self._classes:
                for batch in pq.ParquetFile(part).iter_batches(columns=["emotion"]):
                    emotions.update({c["values"]: c["counts"] for c in batch["emotion"].value_counts().to_pylist()})
        done = statuses.total()
        expected = done if self.finished or self._share is None else self._share.num_items
        return {
            "inputs": max(done, expected),
            "done": done,
            "by_status": {status: statuses[status] for status in STATUSES if statuses[status]},
            "faces": num_faces,
            "emotions": {name: emotions[name] for name in self._classes},
            "failures": tuple(failures),
            "outputs": tuple(self._place.store.name_of(self._place.final_name(table)) for table in _TABLES),
        }

    def _current(self, table: str) -> list[Path]:
        if self.finished or self.shard is None or self._share is None:
            return self._place.store.bring(self._place.final_parts(table) or self._run.committed(table))
        units = set(self._share.units)
        return self._place.store.bring([part for part in self._run.committed(table) if unit_of(part) in units])

    @property
    def config_of_workers(self) -> OutputConfig:
        """Where processes on this machine that `take_part` find what there is here."""
        return dataclasses.replace(self._config, staging=str(self._place.staging) if self._place.staging else None)


def take_part(
    config: OutputConfig, *, classes: Sequence[str], embedding_size: int, tracks: TrackConfig | None
) -> tuple[Share, dict[str, Any]]:
    """The units of a run that another process has begun and will complete, and that run's record.

    Raises:
        ConfigError: No run is there.
    """
    run = begun_run(config)
    share = _share_of(run, config, tuple(classes), embedding_size, tracks, None, others="wait")
    return share, run.record


def take_handed(
    config: OutputConfig, hand: Hand, *, classes: Sequence[str], embedding_size: int, tracks: TrackConfig | None
) -> tuple[HandedShare, dict[str, Any]]:
    """As `take_part`, with the units that come from `hand`."""
    run, names = begun_run(config), tuple(classes)
    schemas = _schemas(run, config, names, embedding_size, tracks)
    share = HandedShare(run, hand, schemas=schemas, classes=names, tracks=tracks, commit_seconds=config.commit_seconds)
    return share, run.record


def begun_run(config: OutputConfig) -> Ledger:
    """The run that another process has begun.

    Raises:
        ConfigError: None is to be seen here.
    """
    place = _Place(config.path, config.staging)
    run = Ledger(*place.amendment)
    if not run.exists():
        run = Ledger(place.work, place.parts, place.store)
    if not run.exists():
        raise ConfigError(
            f"no run is to be seen at {place.given!r} (looked for {place.store.name_of(place.work / 'run.json')!r}): "
            "every process that takes part must see the same folder under this name"
        )
    return run


def _share_of(
    run: Ledger,
    config: OutputConfig,
    classes: tuple[str, ...],
    embedding_size: int,
    tracks: TrackConfig | None,
    shard: Shard | None,
    *,
    others: Others | None = None,
) -> Share:
    return Share(
        run,
        run.units if shard is None else run.units[shard.index :: shard.count],
        schemas=_schemas(run, config, classes, embedding_size, tracks),
        classes=classes,
        tracks=tracks,
        commit_seconds=config.commit_seconds,
        others=others or ("refuse" if shard is None else "leave"),
    )


def _schemas(
    run: Ledger, config: OutputConfig, classes: tuple[str, ...], embedding_size: int, tracks: TrackConfig | None
) -> dict[str, pa.Schema]:
    """Of both tables, with the record of who began the run."""
    metadata = {METADATA_KEY: json.dumps(run.record).encode()}
    faces = faces_schema(classes, embedding_size, config.embeddings, tracks=tracks is not None, keep=run.keep)
    return {"faces": faces.with_metadata(metadata), "inputs": inputs_schema().with_metadata(metadata)}


# ---- files ------------------------------------------------------------------------------------------------

_Moved = tuple[Path, Path]


def _move(work: Path, moves: list[_Moved]) -> None:
    """Rename several files as one step: written down first, so that a killed process's next start ends it."""
    with durably(work / "moves.json") as temporary:
        temporary.write_text(json.dumps([(str(source), str(final)) for source, final in moves]))
    _finish_moves(work)


def _finish_moves(work: Path) -> None:
    journal = work / "moves.json"
    if not journal.exists():
        return
    moves = [(Path(source), Path(final)) for source, final in json.loads(journal.read_text())]
    for source, final in moves:
        if source.exists():
            source.replace(final)
    for folder in {final.parent for _, final in moves}:
        sync(folder)
    journal.unlink()
