"""Predictions -> Parquet, so that nothing committed is ever lost; and reading it back.

This room knows the files of an output: where the parts of its run lie (`ledger` writes them), how they become one
file, and how a finished output is amended. Of several processes that write one output, one lists the inputs while
the others wait, and the last one puts it in its place. An output in an object store is made in a temporary folder,
and what there counts is in the store: whoever goes on brings it here (`mirror`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import shutil
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from motivnet_cli.durable import sha256_of, temporary_name
from motivnet_cli.errors import ConfigError, OutputConflictError
from motivnet_cli.output.ledger import HandedShare, Ledger, Share, unit_of
from motivnet_cli.output.tables import Stream, TableWriter, faces_schema, inputs_schema, rows_in
from motivnet_cli.records import STATUSES, InputReport, Item, Position, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from typing_extensions import Self

    from motivnet_cli.config import OutputConfig
    from motivnet_cli.faces.track import TrackConfig
    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.output.ledger import Hand, Others
    from motivnet_cli.records import Batch, Prediction, Todo
    from motivnet_cli.shards import Shard
from motivnet_cli.output.place import TABLES, Moved, OutputPaths, finish_moves, move
from motivnet_cli.output.read import METADATA_KEY, record_in

SCHEMA_VERSION = 1
log = logging.getLogger(__name__)
NAMED_FAILURES = 10
"""How many failed inputs a summary names."""
NOTICE_SECONDS = 2.0
"""A shard that waits longer for another says so."""


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
        return dataclasses.replace(item, sha256=sha256_of(Path(item.path)))
    except OSError:  # reading it will say why
        return item


def _copy_input(source: dict[str, Stream], writers: dict[str, TableWriter]) -> None:
    """Copy the next input and its faces."""
    entry = source["inputs"].take(1)
    writers["inputs"].add(entry)
    writers["faces"].add(source["faces"].take(entry["faces"][0].as_py()))


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
        self._place = OutputPaths(config.path, config.staging)
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
        finish_moves(place.work)
        self._run = Ledger(place.work, place.parts, place.store)
        if self._run.exists():
            self._refuse_other(self._run.record)
        else:
            for part in (part for table in TABLES for part in place.final_parts(table)):
                with place.store.open(part) as file:
                    self._refuse_other(record_in(file))
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
            move(place.work, self._amended())
            shutil.rmtree(place.work / "amend")
        elif place.is_file:
            move(place.work, self._joined())
            for table in TABLES:  # inputs last: without them it is no output
                place.store.publish(place.final_name(table))
        else:
            self._run.finish()
        self.finished = True
        return True

    def _has_parts(self) -> bool:
        """Have all parts of the run here; False if some are gone."""
        parts = [part for table in TABLES for part in self._run.committed(table)]
        return len(self._place.store.fetch_all(parts)) == len(parts)

    def _joined(self) -> list[Moved]:
        """Join the parts into one file a table, each beside its place."""
        moves = []
        for table, schema in self._schemas.items():
            final = self._place.final_name(table)
            with TableWriter(temporary_name(final), schema) as writer:
                for part in self._run.committed(table):
                    writer.add(pq.read_table(part))
            moves.append((temporary_name(final), final))
        return moves

    def _amended(self) -> list[Moved]:
        """Rewrite the parts in which inputs were done again, and add what is new, each file beside its place."""
        news = {table: Stream(self._run.committed(table)) for table in TABLES}
        names = deque(row["input"] for row in rows_in(self._run.committed("inputs"), "input"))
        again = {item.input for item in self._run.items()}
        place, moves = self._place, []
        parts = list(zip(*(place.final_parts(table) for table in TABLES), strict=True))
        for number, finals in enumerate(parts):
            groups = {row["archive"] or row["input"] for row in rows_in([finals[1]], "archive", "input")}
            is_last_file = place.is_file and number == len(parts) - 1
            if not (groups & again or is_last_file):
                continue
            with self._writers(finals) as writers:
                before = {table: Stream([final]) for table, final in zip(TABLES, finals, strict=True)}
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
            finals = tuple(place.final_name(table) / added for table in TABLES)
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
                for table, final in zip(TABLES, finals, strict=True)
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
                failures.append(InputReport(Position(0), row["input"], row["kind"], "failed", problem=problem))
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
            "outputs": tuple(self._place.store.name_of(self._place.final_name(table)) for table in TABLES),
        }

    def _current(self, table: str) -> list[Path]:
        if self.finished or self.shard is None or self._share is None:
            return self._place.store.fetch_all(self._place.final_parts(table) or self._run.committed(table))
        units = set(self._share.units)
        return self._place.store.fetch_all([part for part in self._run.committed(table) if unit_of(part) in units])

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
    place = OutputPaths(config.path, config.staging)
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
