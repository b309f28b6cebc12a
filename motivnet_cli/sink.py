"""Predictions -> Parquet, so that nothing committed is ever lost; and reading it back.

This is the one room that knows the schema and the files of an output. A run is written in *parts*: first
`faces/part-U-S.parquet`, then `inputs/part-U-S.parquet`, each under a temporary name, synced and renamed.
The second file is the marker: inputs that it lists are done, and faces without it do not count. U is the unit
(a fixed slice of the plan), S the segment within it, so a resumed run overwrites what was half committed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import logging
import os
import shutil
import time
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from motivnet_cli.durable import durably, sync, temporary_name
from motivnet_cli.errors import ConfigError, OutputConflictError
from motivnet_cli.records import STATUSES, Cursor, Given, InputReport, Item, Place, Problem, Todo
from motivnet_cli.tables import ROW_GROUP, Rows, Stream, TableWriter, Tracks, faces_schema, inputs_schema, rows_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import polars as pl
    from typing_extensions import Self

    from motivnet_cli.config import KeptType, OutputConfig
    from motivnet_cli.plan import Listing
    from motivnet_cli.records import Batch, Prediction
    from motivnet_cli.track import TrackConfig

SCHEMA_VERSION = 1
log = logging.getLogger(__name__)

METADATA_KEY = b"motivnet"
"""Key of the Parquet file metadata that holds the run's JSON record."""

UNIT = 1000
"""Inputs in a unit. Part of the layout on disk: never change it without SCHEMA_VERSION."""
PART_ROWS = ROW_GROUP
"""A part is committed when it holds this many rows, even before its time has come."""
_TABLES = ("faces", "inputs")
NAMED_FAILURES = 10
"""How many failed inputs a summary names."""


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


def parts_of(path: str | Path, table: str) -> list[Path]:
    """The files of an output's table, `faces` or `inputs`; of a folder that is not finished, what is committed.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    place = _Place(str(path))
    parts = place.final_parts(table)
    if not parts:
        raise ConfigError(f"no motivnet output at {str(path)!r}; expected {place.final_name(table)}")
    run = _Run(place.work, place.parts)
    if not place.is_file and run.exists() and not run.is_finished() and table == "inputs":
        log.warning(
            "%s is not finished: %d of %d inputs are done, and what follows is of these",
            path,
            run.num_done,
            run.num_items,
        )
    return parts


def _record_in(part: Path) -> dict[str, Any]:
    try:
        metadata = pq.read_metadata(part).metadata or {}
    except (OSError, pa.ArrowInvalid):
        metadata = {}
    record: dict[str, Any] = json.loads(metadata.get(METADATA_KEY, b"{}"))
    return record


# ---- where things lie -------------------------------------------------------------------------------------


class _Place:
    """The files of one output: what the user sees, and the working folder behind it."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.is_file = self.path.suffix == ".parquet"
        if not self.is_file and self.path.suffix and not self.path.is_dir() and not path.endswith(os.sep):
            raise ConfigError(
                f"cannot write {self.path.suffix!r} files: {path!r}; --out takes a name ending in .parquet, "
                "or a folder (end it with / if its name has a dot)"
            )
        self.work = Path(f"{path}.work") if self.is_file else self.path / ".motivnet"
        """Holds the frozen plan and the lock; for a single file also the parts. Gone when a file is finished."""
        self.parts = self.work if self.is_file else self.path
        """Where the parts of the run lie, in `faces/` and `inputs/`."""

    def final_name(self, table: str) -> Path:
        if not self.is_file:
            return self.path / table
        return self.path if table == "faces" else self.path.with_suffix(".inputs.parquet")

    def final_parts(self, table: str) -> list[Path]:
        """The files of a table as readers see them; empty before anything is committed."""
        final = self.final_name(table)
        if self.is_file:
            return [final] if final.is_file() else []
        committed = sorted((self.path / "inputs").glob("part-*.parquet"))
        return [final / part.name for part in committed]

    def prepare(self) -> None:
        """Make the working folder, unless something that is not ours is in the way."""
        shown = str(self.path)
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
                self.final_name(table).unlink(missing_ok=True)
        (self.work / "run.json").unlink(missing_ok=True)
        for folder in (self.parts / "inputs", self.parts / "faces", self.work / "amend"):
            shutil.rmtree(folder, ignore_errors=True)
        (self.work / "moves.json").unlink(missing_ok=True)

    def leave(self) -> None:
        """Remove the working folder where nothing in it is needed to go on."""
        is_needed = self.work / ("amend" if self.is_file and self.is_complete() else "") / "run.json"
        if not is_needed.exists() and not (self.work / "moves.json").exists():
            shutil.rmtree(self.work, ignore_errors=True)
            if self._is_new and not self.is_file:
                with contextlib.suppress(OSError):
                    self.path.rmdir()

    def is_complete(self) -> bool:
        """Whether readers find both tables in their place."""
        return all(self.final_name(table).exists() for table in ("faces", "inputs"))


# ---- a run in parts ---------------------------------------------------------------------------------------


class _Run:
    """A frozen plan and the parts committed of it.

    Args:
        control: Folder of the plan (`plan.jsonl`) and of `run.json`, whose presence makes it a run.
        parts: Folder of `faces/` and `inputs/`.
    """

    def __init__(self, control: Path, parts: Path) -> None:
        self._control = control
        self._parts = parts
        self._segments: Counter[int] = Counter()
        self._reached: dict[int, Cursor] = {}
        self.num_items = 0
        self.skipped: dict[str, int] = {}
        self.record: dict[str, Any] = {}
        self.keep: dict[str, KeptType] = {}
        if self.exists():
            self._read()

    def exists(self) -> bool:
        return (self._control / "run.json").exists()

    def freeze(self, listing: Listing, items: Iterable[Item], *, record: dict[str, Any]) -> None:
        """Write the plan down, once; whatever comes or goes in the folders later changes nothing."""
        self._control.mkdir(parents=True, exist_ok=True)
        num_items = 0
        with durably(self._control / "plan.jsonl") as temporary, temporary.open("w") as lines:
            temporary.chmod(0o600)  # URLs stand here with what opens them
            for item in items:
                lines.write(_line_of(item) + "\n")
                num_items += 1
        run = {"record": record, "num_items": num_items, "skipped": listing.skipped, "keep": listing.kept_types}
        with durably(self._control / "run.json") as temporary:
            temporary.write_text(json.dumps(run, indent=1))
        self._read()

    def _read(self) -> None:
        run = json.loads((self._control / "run.json").read_text())
        self.record, self.num_items, self.skipped = run["record"], run["num_items"], run["skipped"]
        self.keep = run["keep"]
        last: dict[int, Path] = {}
        for part in self.committed("inputs"):
            unit = _unit_of(part)
            self._segments[unit] += 1
            last[unit] = part
        if not run.get("finished"):
            self._reached = {unit: _cursor_in(part) for unit, part in last.items()}

    def is_finished(self) -> bool:
        return self.exists() and bool(json.loads((self._control / "run.json").read_text()).get("finished"))

    def finish(self) -> None:
        """Note that everything is done: from then on parts may be rewritten, and their markers no longer count."""
        run = json.loads((self._control / "run.json").read_text())
        with durably(self._control / "run.json") as temporary:
            temporary.write_text(json.dumps(run | {"finished": True}, indent=1))

    @property
    def num_done(self) -> int:
        """Items that are wholly done."""
        return sum(cursor.place.item - unit * UNIT for unit, cursor in self._reached.items())

    def committed(self, table: str) -> list[Path]:
        return [self._parts / table / part.name for part in sorted((self._parts / "inputs").glob("part-*.parquet"))]

    def todos(self) -> Iterator[Todo]:
        """What no committed part covers, in plan order."""
        with (self._control / "plan.jsonl").open() as lines:
            for index, line in enumerate(lines):
                reached = self.reached(Place(index))
                if index >= reached.place.item:
                    here = reached if index == reached.place.item else Cursor(Place(index))
                    yield Todo(_item_of(index, line), here)

    def items(self) -> Iterator[Item]:
        with (self._control / "plan.jsonl").open() as lines:
            for index, line in enumerate(lines):
                yield _item_of(index, line)

    def end_of(self, place: Place) -> Place:
        """Where the unit of a place ends."""
        return Place(min((place.item // UNIT + 1) * UNIT, self.num_items))

    def reached(self, place: Place) -> Cursor:
        """How far the unit of a place is committed."""
        unit = place.item // UNIT
        return self._reached.get(unit, Cursor(Place(unit * UNIT)))

    def commit(self, unit: int, faces: pa.Table, inputs: pa.Table, *, reached: Cursor) -> None:
        """Write the next part of a unit: its faces, and then the inputs that mark them as done."""
        name = f"part-{unit:06d}-{self._segments[unit]:04d}.parquet"
        marker = {**inputs.schema.metadata, _CURSOR_KEY: json.dumps(dataclasses.astuple(reached)).encode()}
        for table, folder in ((faces, "faces"), (inputs.replace_schema_metadata(marker), "inputs")):
            final = self._parts / folder / name
            final.parent.mkdir(exist_ok=True)
            with durably(final) as temporary, TableWriter(temporary, table.schema) as writer:
                writer.add(table)
        self._segments[unit] += 1
        self._reached[unit] = reached

    def rows_of(self, place: Place, name: str, *columns: str) -> Iterator[dict[str, Any]]:
        """What is committed of one input's faces."""
        for part in self.committed("faces"):
            if _unit_of(part) == place.item // UNIT:
                yield from (row for row in rows_in([part], "input", *columns) if row["input"] == name)


_CURSOR_KEY = b"motivnet.reached"
"""In the metadata of an inputs part: from where its unit goes on."""


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


def _unit_of(part: Path) -> int:
    return int(part.stem.split("-")[1])


def _cursor_in(part: Path) -> Cursor:
    (item, step), num_frames, num_faces = json.loads(pq.read_metadata(part).metadata[_CURSOR_KEY])
    return Cursor(Place(item, step), num_frames, num_faces)


def _line_of(item: Item) -> str:
    """An item as a line of the plan; what it has not is left out."""
    values = {
        key: value for key, value in dataclasses.asdict(item).items() if key != "index" and value not in (None, ())
    }
    return json.dumps(values, separators=(",", ":"))


def _item_of(index: int, line: str) -> Item:
    values = json.loads(line)
    if "problem" in values:
        values["problem"] = Problem(**values["problem"])
    if "given" in values:
        values["given"] = tuple(Given(tuple(each["box"]), tuple(each["kept"])) for each in values["given"])
    return Item(index=index, **values | {"kept": tuple(values.get("kept", ()))})


# ---- the output -------------------------------------------------------------------------------------------


class Output:
    """One run's output: locked while open, continued where it stopped, put in its place when complete.

    Args:
        config: Where and how.
        record: What the files' metadata says of the run. Its `settings` decide whether an output that is
            already there belongs to this run.
        classes: The model's classes, in the order of `Prediction.probabilities`; empty for none.
        embedding_size: D.

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
    ) -> None:
        self._config = config
        self._record = record
        self._place = _Place(config.path)
        self._classes = tuple(classes)
        self._embedding_size = embedding_size
        self._last_commit = time.monotonic()
        self._rows: Rows | None = None
        self._reached = Cursor(Place(0))
        self._track_config = tracks
        self._tracks: Tracks | None = None

    def __enter__(self) -> Self:
        self._place.prepare()
        self._lock = filelock.FileLock(self._place.work / "lock", timeout=0)
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise OutputConflictError(
                f"another process is writing {self._config.path!r}: wait for it, or choose another --out"
            ) from None
        try:
            self._settle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a full disk already speaks through the error that brought us here
            self.flush()
        self._place.leave()
        self._lock.release()

    def _settle(self) -> None:
        """Find out whose output is here, and how far it is."""
        place = self._place
        if self._config.overwrite:
            place.clear()
        _finish_moves(place.work)
        self._run = _Run(place.work, place.parts)
        if self._run.exists():
            self._refuse_other(self._run.record)
        else:
            for part in (part for table in _TABLES for part in place.final_parts(table)):
                self._refuse_other(_record_in(part))
        self.finished = place.is_complete() and (place.is_file or self._run.is_finished())
        """True when every input is done and in its place."""
        self._amends = self._config.retry_failed or self._config.extend
        if self._amends:
            if not self.finished:
                option = "--retry-failed" if self._config.retry_failed else "--extend"
                raise ConfigError(
                    f"{option} needs a finished output, and {self._config.path!r} is not: "
                    "run the same command without it first"
                )
            self._run = _Run(place.work / "amend", place.work / "amend")
            self.finished = False

    def _refuse_other(self, record: dict[str, Any]) -> None:
        if "settings" not in record:
            raise OutputConflictError(
                f"{self._config.path!r} was not written by motivnet; choose another --out, "
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
                f"{self._config.path!r} belongs to a run with other settings ({named}); give that run's "
                "settings to go on with it, choose another --out, or start anew with --overwrite"
            )

    def begin(self, listing: Listing) -> Iterator[Todo]:
        """What is to do, in plan order; the listing is asked only when no plan is frozen yet.

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
            self._run.freeze(listing, itertools.chain(first, items), record=self._record)
        self.num_items, self.num_resumed = self._run.num_items, self._run.num_done
        self.skipped = self._run.skipped
        metadata = {METADATA_KEY: json.dumps(self._record).encode()}
        faces = faces_schema(
            self._classes,
            self._embedding_size,
            self._config.embeddings,
            tracks=self._track_config is not None,
            keep=self._run.keep,
        )
        self._schemas = {"faces": faces.with_metadata(metadata), "inputs": inputs_schema().with_metadata(metadata)}
        self._rows = Rows(self._classes, self._schemas["faces"], self._schemas["inputs"])
        if self._track_config is not None:
            self._tracks = Tracks(self._track_config, self._run.rows_of)
        return self._run.todos()

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

    def write(self, batch: Batch, prediction: Prediction | None) -> None:
        """Take a batch's rows, and commit parts that are due."""
        assert self._rows is not None, "begin comes first"
        self._rows.add(batch, prediction)
        self._reached = batch.reached
        waited = time.monotonic() - self._last_commit
        self._commit(all_reached=len(self._rows) >= PART_ROWS or waited >= self._config.commit_seconds)

    def flush(self) -> None:
        """Commit all that is reached."""
        if self._rows is not None:
            self._commit(all_reached=True)

    def _commit(self, *, all_reached: bool) -> None:
        """Commit each unit that is whole by now, and if asked, what is reached of the next."""
        assert self._rows is not None, "begin comes first"
        while (first := self._rows.first()) is not None and self._run.end_of(first) <= self._reached.place:
            self._commit_unit(first.item // UNIT, Cursor(self._run.end_of(first)))
        if all_reached and self._reached.place > self._run.reached(self._reached.place).place:
            self._commit_unit(self._reached.place.item // UNIT, self._reached)

    def _commit_unit(self, unit: int, reached: Cursor) -> None:
        assert self._rows is not None, "begin comes first"
        places, faces, inputs = self._rows.take(reached.place)
        if self._tracks is not None:
            faces = self._tracks.follow(places, faces)
        self._run.commit(unit, faces, inputs, reached=reached)
        self._last_commit = time.monotonic()

    def complete(self) -> bool:
        """Put the output in its place if every input is done; says whether it is."""
        self.flush()
        if self._run.num_done < self._run.num_items:
            return False
        place = self._place
        if self._amends:
            _move(place.work, self._amended())
            shutil.rmtree(place.work / "amend")
        elif place.is_file:
            _move(place.work, self._joined())
        else:
            self._run.finish()
        self.finished = True
        return True

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
            added = f"part-{_unit_of(parts[-1][1]) + 1:06d}-0000.parquet"
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
        """What the output holds by now: the fields of `records.Summary` that are read off the tables."""
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
        return {
            "inputs": done if self.finished else max(done, self._run.num_items),
            "done": done,
            "by_status": {status: statuses[status] for status in STATUSES if statuses[status]},
            "faces": num_faces,
            "emotions": {name: emotions[name] for name in self._classes},
            "failures": tuple(failures),
            "outputs": tuple(str(self._place.final_name(table)) for table in _TABLES),
        }

    def _current(self, table: str) -> list[Path]:
        return self._place.final_parts(table) or self._run.committed(table)


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
