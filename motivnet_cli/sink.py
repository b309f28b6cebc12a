"""Predictions -> Parquet, so that nothing committed is ever lost; and reading it back.

This is the one room that knows the schema and the files of an output. A run is written in *parts*: first
`faces/part-U-S.parquet`, then `inputs/part-U-S.parquet`, each under a temporary name, synced and renamed.
The second file is the marker: inputs that it lists are done, and faces without it do not count. U is the unit
(a fixed slice of the plan), S the segment within it, so a resumed run overwrites what was half committed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import time
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motivnet_cli.durable import durably, sync, temporary_name
from motivnet_cli.errors import ConfigError, OutputConflictError
from motivnet_cli.records import STATUSES, Item, ItemReport, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import polars as pl
    from numpy.typing import NDArray
    from typing_extensions import Self

    from motivnet_cli.config import EmbeddingType, OutputConfig
    from motivnet_cli.plan import Listing
    from motivnet_cli.records import Batch, Crop, Prediction

SCHEMA_VERSION = 1
METADATA_KEY = b"motivnet"
"""Key of the Parquet file metadata that holds the run's JSON record."""

UNIT = 1000
"""Inputs in a unit. Part of the layout on disk: never change it without SCHEMA_VERSION."""
PART_ROWS = 4096
"""A part is committed when it holds this many faces, even before its time has come."""
NAMED_FAILURES = 10
"""How many failed inputs a summary names."""


# ---- the schema -------------------------------------------------------------------------------------------


def faces_schema(classes: Sequence[str], embedding_size: int, embeddings: EmbeddingType) -> pa.Schema:
    """The columns of the faces table, one row a face; every field's `doc` says what it holds."""
    text = pa.dictionary(pa.int32(), pa.string())
    columns = [
        _column("input", pa.string(), "The input: its path relative to the given folder, or as given."),
        _column("frame", pa.int64(), "Frame number in a video, from 0; null for an image."),
        _column("time_s", pa.float64(), "Presentation time in seconds in a video; null for an image."),
        _column("face", pa.int32(), "Number of the face in its picture, from 0, left to right."),
        _column("face_source", text, "`detected`, `whole` (the whole picture was taken), or `given`."),
        _column("x1", pa.float32(), "Left edge of the face box, in pixels of the upright picture."),
        _column("y1", pa.float32(), "Upper edge of the face box."),
        _column("x2", pa.float32(), "Right edge of the face box (exclusive)."),
        _column("y2", pa.float32(), "Lower edge of the face box (exclusive)."),
        _column("detection_score", pa.float32(), "The detector's confidence, 0 to 1; null unless detected."),
    ]
    if classes:
        columns += [
            _column("emotion", text, "The most probable emotion."),
            _column("confidence", pa.float32(), "Its probability, 0 to 1."),
        ]
        columns += [_column(name, pa.float32(), f"Probability of {name}, 0 to 1.") for name in classes]
    if embeddings != "none":
        value = pa.float16() if embeddings == "float16" else pa.float32()
        doc = "The network's description of the face; its length depends on the model."
        columns.append(_column("embedding", pa.list_(value, embedding_size), doc))
    return pa.schema(columns)


def inputs_schema() -> pa.Schema:
    """The columns of the inputs table, one row an input; every input of the run is in it exactly once."""
    return pa.schema(
        [
            _column("input", pa.string(), "The input, as in the faces table."),
            _column(
                "kind",
                pa.dictionary(pa.int32(), pa.string()),
                "`image`, or `folder` for one that cannot be listed.",
            ),
            _column(
                "status",
                pa.dictionary(pa.int32(), pa.string()),
                "`ok`, `no_face` (read, nothing found), `partial` (rows up to a break), or `failed`.",
            ),
            _column("error", pa.string(), "What was wrong, in a sentence; null when nothing was."),
            _column("error_type", pa.string(), "A short name of it to filter by, such as `truncated`."),
            _column("frames", pa.int64(), "Frames read from it."),
            _column("faces", pa.int64(), "Rows that it has in the faces table."),
            _column("width", pa.int32(), "Width of the upright picture in pixels; null if it was not read."),
            _column("height", pa.int32(), "Height of the upright picture in pixels; null if it was not read."),
        ]
    )


def _column(name: str, kind: pa.DataType, doc: str) -> pa.Field:
    return pa.field(name, kind, metadata={"doc": doc})


# ---- reading back -----------------------------------------------------------------------------------------


def read_faces(path: str | Path) -> pl.DataFrame:
    """The faces table of a finished output, a `.parquet` file or a folder, in input order.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    import polars

    return polars.read_parquet(_parts_of(path, "faces"))


def read_inputs(path: str | Path) -> pl.DataFrame:
    """The inputs table that goes with `read_faces(path)`: one row an input, with what became of it.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    import polars

    return polars.read_parquet(_parts_of(path, "inputs"))


def read_record(path: str | Path) -> dict[str, Any]:
    """The record of the run that wrote an output: versions, model, terms, settings, command.

    Raises:
        ConfigError: No output of motivnet is there.
    """
    return _record_in(_parts_of(path, "inputs")[0])


def _parts_of(path: str | Path, table: str) -> list[Path]:
    place = _Place(str(path))
    parts = place.final_parts(table)
    if not parts:
        raise ConfigError(f"no motivnet output at {str(path)!r}; expected {place.final_name(table)}")
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
        for folder in (self.parts / "inputs", self.parts / "faces", self.work / "retry"):
            shutil.rmtree(folder, ignore_errors=True)
        (self.work / "moves.json").unlink(missing_ok=True)

    def leave(self) -> None:
        """Remove the working folder where nothing in it is needed to go on."""
        is_needed = self.work / ("retry" if self.is_file and self.is_complete() else "") / "run.json"
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
        self._done: Counter[int] = Counter()
        self.num_items = 0
        self.skipped: dict[str, int] = {}
        self.record: dict[str, Any] = {}
        if self.exists():
            self._read()

    def exists(self) -> bool:
        return (self._control / "run.json").exists()

    def freeze(self, items: Iterable[Item], *, record: dict[str, Any], skipped: dict[str, int]) -> None:
        """Write the plan down, once; whatever comes or goes in the folders later changes nothing."""
        self._control.mkdir(parents=True, exist_ok=True)
        num_items = 0
        with durably(self._control / "plan.jsonl") as temporary, temporary.open("w") as lines:
            for item in items:
                problem = (item.problem.error_type, item.problem.message) if item.problem else ()
                lines.write(json.dumps((item.input, item.path, item.kind, *problem)) + "\n")
                num_items += 1
        run = {"record": record, "num_items": num_items, "skipped": skipped}
        with durably(self._control / "run.json") as temporary:
            temporary.write_text(json.dumps(run, indent=1))
        self._read()

    def _read(self) -> None:
        run = json.loads((self._control / "run.json").read_text())
        self.record, self.num_items, self.skipped = run["record"], run["num_items"], run["skipped"]
        for part in self.committed("inputs"):
            unit, _segment = map(int, part.stem.split("-")[1:])
            self._segments[unit] += 1
            self._done[unit] += pq.read_metadata(part).num_rows

    @property
    def num_done(self) -> int:
        return self._done.total()

    def committed(self, table: str) -> list[Path]:
        return [self._parts / table / part.name for part in sorted((self._parts / "inputs").glob("part-*.parquet"))]

    def todo(self) -> Iterator[Item]:
        """The items that no committed part lists, in plan order."""
        with (self._control / "plan.jsonl").open() as lines:
            for index, line in enumerate(lines):
                unit, place = divmod(index, UNIT)
                if place >= self._done[unit]:
                    yield _item(index, line)

    def commit(self, unit: int, faces: pa.Table, inputs: pa.Table) -> None:
        """Write the next part of a unit: its faces, and then the inputs that mark them as done."""
        name = f"part-{unit:06d}-{self._segments[unit]:04d}.parquet"
        for table, folder in ((faces, "faces"), (inputs, "inputs")):
            final = self._parts / folder / name
            final.parent.mkdir(exist_ok=True)
            with durably(final) as temporary, _TableWriter(temporary, table.schema) as writer:
                writer.add(table)
        self._segments[unit] += 1
        self._done[unit] += inputs.num_rows


def _item(index: int, line: str) -> Item:
    name, path, kind, *problem = json.loads(line)
    return Item(index=index, input=name, path=path, kind=kind, problem=Problem(*problem) if problem else None)


class _Rows:
    """Predicted faces and ended inputs that wait to be committed, in plan order."""

    def __init__(self, classes: tuple[str, ...], faces: pa.Schema, inputs: pa.Schema) -> None:
        self.classes = classes
        self._faces_schema = faces
        self._inputs_schema = inputs
        self._crops: list[tuple[int, dict[str, Any]]] = []
        self._probabilities: list[NDArray[np.float32]] = []
        self._embeddings: list[NDArray[np.float32]] = []
        self.reports: list[ItemReport] = []

    def __len__(self) -> int:
        return len(self._crops)

    def add(self, batch: Batch, prediction: Prediction | None) -> None:
        self._crops += [(crop.item.index, _place_of(crop)) for crop in batch.crops]
        if prediction is not None:
            self._probabilities += list(prediction.probabilities)
            self._embeddings += list(prediction.embeddings)
        self.reports += batch.finished

    def take(self, num_reports: int) -> tuple[pa.Table, pa.Table]:
        """Remove the first inputs and all their faces, as tables."""
        reports, self.reports = self.reports[:num_reports], self.reports[num_reports:]
        last = reports[-1].item.index
        n = sum(1 for index, _ in self._crops if index <= last)
        columns = _transposed([place for _, place in self._crops[:n]], self._faces_schema)
        if self.classes:
            columns |= self._emotion_columns(n)
        if "embedding" in self._faces_schema.names:
            columns["embedding"] = self._embedding_column(n)
        self._crops, self._probabilities = self._crops[n:], self._probabilities[n:]
        self._embeddings = self._embeddings[n:]
        faces = pa.table([columns[name] for name in self._faces_schema.names], schema=self._faces_schema)
        rows = [_row_of(report) for report in reports]
        return faces, pa.Table.from_pylist(rows, schema=self._inputs_schema)

    def _emotion_columns(self, n: int) -> dict[str, pa.Array]:
        probabilities = np.stack(self._probabilities[:n]) if n else np.zeros((0, len(self.classes)), np.float32)
        best = probabilities.argmax(axis=1).astype(np.int32)
        emotion = pa.DictionaryArray.from_arrays(pa.array(best), pa.array(self.classes))
        columns = {name: pa.array(probabilities[:, i]) for i, name in enumerate(self.classes)}
        return columns | {"emotion": emotion, "confidence": pa.array(probabilities[np.arange(n), best])}

    def _embedding_column(self, n: int) -> pa.Array:
        kind = self._faces_schema.field("embedding").type
        stacked = np.stack(self._embeddings[:n]) if n else np.zeros((0, kind.list_size), np.float32)
        values = pa.array(stacked.astype(kind.value_type.to_pandas_dtype()).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(values, type=kind)


def _place_of(crop: Crop) -> dict[str, Any]:
    x1, y1, x2, y2 = crop.face.box
    return {
        "input": crop.item.input,
        "frame": crop.frame_index,
        "time_s": crop.time_s,
        "face": crop.number,
        "face_source": crop.face.source,
        "x1": x1,
        "y1": y1,
        "x2": x2,
        "y2": y2,
        "detection_score": crop.face.score,
    }


def _transposed(rows: list[dict[str, Any]], schema: pa.Schema) -> dict[str, pa.Array]:
    names = _PLACE_COLUMNS
    return {name: pa.array([row[name] for row in rows], schema.field(name).type) for name in names}


_PLACE_COLUMNS = (
    "input",
    "frame",
    "time_s",
    "face",
    "face_source",
    "x1",
    "y1",
    "x2",
    "y2",
    "detection_score",
)


def _row_of(report: ItemReport) -> dict[str, Any]:
    problem = report.problem
    return {
        "input": report.item.input,
        "kind": report.item.kind,
        "status": report.status,
        "error": problem.message if problem else None,
        "error_type": problem.error_type if problem else None,
        "frames": report.num_frames,
        "faces": report.num_faces,
        "width": report.width,
        "height": report.height,
    }


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
        self, config: OutputConfig, *, record: dict[str, Any], classes: Sequence[str], embedding_size: int
    ) -> None:
        self._config = config
        self._record = record
        self._place = _Place(config.path)
        metadata = {METADATA_KEY: json.dumps(record).encode()}
        faces = faces_schema(classes, embedding_size, config.embeddings).with_metadata(metadata)
        self._schemas = {"faces": faces, "inputs": inputs_schema().with_metadata(metadata)}
        self._rows = _Rows(tuple(classes), faces, self._schemas["inputs"])
        self._last_commit = time.monotonic()

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
            for part in (part for table in self._schemas for part in place.final_parts(table)):
                self._refuse_other(_record_in(part))
        self.finished = place.is_complete() and self._run.num_done == self._run.num_items
        """True when every input is done and in its place."""
        self._retrying = self._config.retry_failed
        if self._retrying:
            if not self.finished:
                raise ConfigError(
                    f"--retry-failed needs a finished output, and {self._config.path!r} is not: "
                    "run the same command without it first"
                )
            self._run = _Run(place.work / "retry", place.work / "retry")
            self.finished = False

    def _refuse_other(self, record: dict[str, Any]) -> None:
        if "settings" not in record:
            raise OutputConflictError(
                f"{self._config.path!r} was not written by motivnet; choose another --out, "
                "or replace it with --overwrite"
            )
        theirs, ours = record["settings"], self._record["settings"]
        differing = [key for key in theirs | ours if theirs.get(key) != ours.get(key)]
        if differing:
            named = "; ".join(f"{key} was {theirs.get(key)!r}, is now {ours.get(key)!r}" for key in differing)
            raise OutputConflictError(
                f"{self._config.path!r} belongs to a run with other settings ({named}); give that run's "
                "settings to go on with it, choose another --out, or start anew with --overwrite"
            )

    def begin(self, listing: Listing) -> Iterator[Item]:
        """The items to do, in plan order; the listing is asked only when no plan is frozen yet.

        Raises:
            ConfigError: The listing holds nothing.
        """
        if not self._run.exists():
            items = iter(self._failed_of(listing) if self._retrying else listing)
            first = list(itertools.islice(items, 1))
            if not first and not self._retrying:
                skipped = ", ".join(f"{n} {what}" for what, n in listing.skipped.most_common(5)) or "nothing"
                raise ConfigError(f"no pictures among the inputs (passed over: {skipped}); nothing was written")
            self._run.freeze(itertools.chain(first, items), record=self._record, skipped=listing.skipped)
        self.num_items, self.num_resumed = self._run.num_items, self._run.num_done
        self.skipped = self._run.skipped
        return self._run.todo()

    def _failed_of(self, listing: Iterable[Item]) -> list[Item]:
        failed = [
            row["input"]
            for row in _rows_in(self._place.final_parts("inputs"), "input", "status")
            if row["status"] == "failed"
        ]
        wanted = set(failed)
        found = {item.input: item for item in listing if item.input in wanted}
        return [
            dataclasses.replace(found[name], index=number)
            for number, name in enumerate(name for name in failed if name in found)
        ]

    def write(self, batch: Batch, prediction: Prediction | None) -> None:
        """Take a batch's rows, and commit a part when it is due."""
        self._rows.add(batch, prediction)
        while self._rows.reports:
            unit = self._rows.reports[0].item.index // UNIT
            num_reports = sum(1 for report in self._rows.reports if report.item.index // UNIT == unit)
            last = self._rows.reports[num_reports - 1].item.index
            unit_ends = last + 1 in (self._run.num_items, (unit + 1) * UNIT)
            if not (unit_ends or self._is_due()):
                break
            self._commit(unit, num_reports)

    def _is_due(self) -> bool:
        waited = time.monotonic() - self._last_commit
        return len(self._rows) >= PART_ROWS or waited >= self._config.commit_seconds

    def _commit(self, unit: int, num_reports: int) -> None:
        self._run.commit(unit, *self._rows.take(num_reports))
        self._last_commit = time.monotonic()

    def flush(self) -> None:
        """Commit every input that has ended."""
        while self._rows.reports:
            unit = self._rows.reports[0].item.index // UNIT
            self._commit(unit, sum(1 for report in self._rows.reports if report.item.index // UNIT == unit))

    def complete(self) -> bool:
        """Put the output in its place if every input is done; says whether it is."""
        self.flush()
        if self._run.num_done < self._run.num_items:
            return False
        place = self._place
        if self._retrying:
            _move(place.work, self._merged_with_retry())
            shutil.rmtree(place.work / "retry")
        elif place.is_file:
            _move(place.work, self._joined())
        self.finished = True
        return True

    def _joined(self) -> list[_Moved]:
        """Join the parts into one file a table, each beside its place."""
        moves = []
        for table, schema in self._schemas.items():
            final = self._place.final_name(table)
            with _TableWriter(temporary_name(final), schema) as writer:
                for part in self._run.committed(table):
                    writer.add(pq.read_table(part))
            moves.append((temporary_name(final), final))
        return moves

    def _merged_with_retry(self) -> list[_Moved]:
        """Rewrite the parts that list a retried input, each beside its place."""
        retried = {table: _Stream(self._run.committed(table)) for table in self._schemas}
        waiting = deque(row["input"] for row in _rows_in(self._run.committed("inputs"), "input"))
        moves = []
        for faces, inputs in zip(*(self._place.final_parts(table) for table in self._schemas), strict=True):
            if not waiting:
                break
            with (
                _TableWriter(temporary_name(faces), self._schemas["faces"]) as faces_writer,
                _TableWriter(temporary_name(inputs), self._schemas["inputs"]) as inputs_writer,
            ):
                before = {"faces": _Stream([faces]), "inputs": _Stream([inputs])}
                for row in _rows_in([inputs], "input", "status"):
                    kept = entry = before["inputs"].take(1)
                    source = before
                    if waiting and row == {"input": waiting[0], "status": "failed"}:
                        waiting.popleft()
                        before["faces"].take(kept["faces"][0].as_py())
                        source, entry = retried, retried["inputs"].take(1)
                    inputs_writer.add(entry)
                    faces_writer.add(source["faces"].take(entry["faces"][0].as_py()))
            moves += [(temporary_name(final), final) for final in (faces, inputs)]
        return moves

    def summary(self) -> dict[str, Any]:
        """What the output holds by now: the fields of `records.Summary` that are read off the tables."""
        statuses: Counter[str] = Counter()
        failures: list[ItemReport] = []
        for row in _rows_in(self._current("inputs"), "input", "kind", "status", "error", "error_type"):
            statuses[row["status"]] += 1
            if row["status"] == "failed" and len(failures) < NAMED_FAILURES:
                item = Item(index=len(failures), input=row["input"], path="", kind=row["kind"])
                failures.append(ItemReport(item, "failed", problem=Problem(row["error_type"], row["error"])))
        emotions: Counter[str] = Counter()
        num_faces = 0
        for part in self._current("faces"):
            num_faces += pq.read_metadata(part).num_rows
            if self._rows.classes:
                for batch in pq.ParquetFile(part).iter_batches(columns=["emotion"]):
                    emotions.update({c["values"]: c["counts"] for c in batch["emotion"].value_counts().to_pylist()})
        done = statuses.total()
        return {
            "inputs": done if self.finished else max(done, self._run.num_items),
            "done": done,
            "by_status": {status: statuses[status] for status in STATUSES if statuses[status]},
            "faces": num_faces,
            "emotions": {name: emotions[name] for name in self._rows.classes},
            "failures": tuple(failures),
            "outputs": tuple(str(self._place.final_name(table)) for table in self._schemas),
        }

    def _current(self, table: str) -> list[Path]:
        return self._place.final_parts(table) or self._run.committed(table)


# ---- files ------------------------------------------------------------------------------------------------

_Moved = tuple[Path, Path]


class _Stream:
    """Rows of some files one after another; only a few thousand are in memory."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._batches = (
            pa.Table.from_batches([batch])
            for part in parts
            for batch in pq.ParquetFile(part).iter_batches(batch_size=PART_ROWS)
        )
        self._schema = pq.read_schema(parts[0]) if parts else pa.schema([])
        self._waiting = self._schema.empty_table()

    def take(self, num_rows: int) -> pa.Table:
        while self._waiting.num_rows < num_rows:
            self._waiting = pa.concat_tables([self._waiting, next(self._batches)])
        taken, self._waiting = self._waiting.slice(0, num_rows), self._waiting.slice(num_rows)
        return taken


def _rows_in(parts: Iterable[Path], *columns: str) -> Iterator[dict[str, Any]]:
    for part in parts:
        for batch in pq.ParquetFile(part).iter_batches(columns=list(columns), batch_size=PART_ROWS):
            yield from batch.to_pylist()


class _TableWriter:
    """A Parquet file written in row groups of a few thousand rows, synced when closed."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._schema = schema
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> Self:
        self._writer = pq.ParquetWriter(
            self._path,
            self._schema,
            compression="zstd",
            compression_level=1,
            # Dictionaries cost on floats; byte-stream-split float16 cannot be read by DuckDB 2.0.
            use_dictionary=[field.name for field in self._schema if not _is_numeric(field.type)],
        )
        return self

    def add(self, rows: pa.Table) -> None:
        self._waiting.append(rows)
        if sum(table.num_rows for table in self._waiting) >= PART_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            rows = pa.concat_tables(table.replace_schema_metadata() for table in self._waiting)
            self._writer.write_table(rows.cast(self._schema).combine_chunks())
            self._waiting = []

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        sync(self._path)


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_fixed_size_list(kind))


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
