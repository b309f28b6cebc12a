"""Whether an output is whole: its files, read from their first byte to their last, held against each other.

Nothing that a run counted is believed, and nothing is changed. What rows may say is known to `verify_inputs`,
`verify_faces` and `verify_tracks`; here is how their files are found and read, and what files must be like.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motivnet_cli import __version__
from motivnet_cli.durable import temporary_name
from motivnet_cli.errors import ConfigError, OutputConflictError, first_line
from motivnet_cli.inputs.repeats import RUN_ROWS, Repeats
from motivnet_cli.output.commits import cursor_in
from motivnet_cli.output.counts import WRITTEN_KEY, Counts
from motivnet_cli.output.findings import MAX_EXAMPLES, Findings, Verification
from motivnet_cli.output.ledger import read_run
from motivnet_cli.output.names import TABLES, is_part
from motivnet_cli.output.paths import output_paths
from motivnet_cli.output.tables import BATCH_ROWS, METADATA_KEY, READABLE_VERSIONS
from motivnet_cli.output.verify_faces import FacesCheck
from motivnet_cli.output.verify_inputs import InputsCheck
from motivnet_cli.output.verify_plan import Plan
from motivnet_cli.output.verify_record import Extremes, check_record, check_schema
from motivnet_cli.records import Position, RunRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from motivnet_cli.output.findings import Check
    from motivnet_cli.output.ledger import Run
    from motivnet_cli.output.paths import OutputPaths
    from motivnet_cli.output.verify_inputs import InputIndex
    from motivnet_cli.records import Cursor

READ_FAILURES = (
    *(OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, MemoryError),
    *(NotImplementedError, pa.ArrowException),
)
"""What pyarrow and json raise of files that are damaged in one way or another."""
_PART = re.compile(r"part-(\d{6,})-(\d{4,})(-end)?\.parquet")


def verify_output(path: str | Path) -> Verification:
    """Look at all that an output holds. Its files are read once; memory holds about 100 bytes an input of one unit.

    Of an output in an object store, copies are read, which need as much room in the temporary folder.

    Args:
        path: A `.parquet` file or a folder, here or in an object store, finished or not.

    Raises:
        ConfigError: No output of motivnet is there, it has another schema than this version's, or it changes meanwhile.
    """
    paths = output_paths(str(path))
    before = paths.fingerprint()
    try:
        verification = _Look(paths).verification()
    finally:
        if paths.fingerprint() != before:
            raise ConfigError(f"{paths.given!r} changes while it is read: verify it when no process writes it")
    return verification


class PartKey(NamedTuple):
    """By which the parts of an output are ordered; a single file is the only part of unit 0."""

    unit: int
    segment: int


@dataclass(frozen=True, slots=True)
class _File:
    """A file whose footer could be read."""

    path: Path
    name: str
    """By which the user knows it."""
    table: str
    record: RunRecord
    written: dict[str, object]
    """What the writer said of the file; empty in one by an older version."""


class _Look:
    """One look at an output."""

    def __init__(self, paths: OutputPaths) -> None:
        self._paths = paths
        self._findings = Findings()
        self._files: dict[str, dict[PartKey, _File]] = {}
        """By table, those whose footer could be read."""
        self._last: set[PartKey] = set()
        """Parts of the inputs that say by their names that their units end with them."""
        self._counts: dict[Path, Counts] = {}
        """What the rows of each file come to."""
        self._read: list[tuple[_File, int, int]] = []
        """Files of inputs, with their first row and the one after their last."""
        self._records: dict[bytes, RunRecord] = {}
        """By their text."""
        self._is_final = False
        """Whether it is a single file that has been put in its place, or half of it."""
        self._are_rows_missing = False
        """Some rows could not be read, and others cannot be held against them."""

    def verification(self) -> Verification:
        self._run = self._read_run()
        keys, is_finished = self._find()
        self._files = {table: self._footers(table, keys) for table in TABLES}
        record = self._check_footers()
        with Repeats() as repeats:
            inputs, faces = InputsCheck(self._findings, repeats), self._faces_check(record)
            self._look_at_rows(keys, inputs, faces, record, is_finished=is_finished)
            self._check_repeated(repeats, inputs.num_rows)
        faces.end()
        if self._are_rows_missing:
            self._findings.skip("faces_of_inputs", "not all rows could be read")
        self._findings.skip("sample", "not asked for")
        return Verification(
            output=self._paths.given, inputs=inputs.num_rows, faces=faces.num_rows, checks=self._findings.results()
        )

    # ---- which files there are ----------------------------------------------------------------------------

    def _read_run(self) -> Run | None:
        about = self._paths.run.about
        try:
            return read_run(self._paths.run, self._paths.backend)
        except (OutputConflictError, *READ_FAILURES) as error:
            self._findings.fault("plan", self._name_of(about), f"cannot be read: {first_line(error)}")
            return None

    def _name_of(self, path: Path) -> str:
        return self._paths.backend.name_of(path)

    def _find(self) -> tuple[list[PartKey], bool]:
        """The parts that count, in order, and whether the output is said to be finished.

        Raises:
            ConfigError: There is no output.
        """
        paths, backend = self._paths, self._paths.backend
        there = [table for table in TABLES if backend.has(paths.final_name(table))]
        if paths.is_file and there:
            for table in set(TABLES) - set(there):
                self._findings.fault("finished", self._name_of(paths.final_name(table)), "is missing")
            self._check_leftovers()
            self._is_final = True
            return [PartKey(0, 0)], True
        # The inputs first: of a part that is being committed meanwhile, the faces are there before.
        names = {table: backend.names(paths.run.table(table)) for table in reversed(TABLES)}
        if self._run is None and not any(map(is_part, itertools.chain.from_iterable(names.values()))):
            if self._findings.has("plan"):
                return [], False
            expected = self._name_of(paths.final_name("inputs"))
            why = "its inputs are not listed yet" if backend.has(paths.work) else f"expected {expected}"
            raise ConfigError(f"no motivnet output at {paths.given!r}; {why}")
        is_finished = not paths.is_file and self._run is not None and self._run.is_finished
        if not is_finished:
            self._findings.fault("finished", paths.given, self._why_unfinished())
        else:
            self._check_leftovers()
        return self._check_parts(names, is_finished=is_finished), is_finished

    def _why_unfinished(self) -> str:
        if self._run is None:
            return f"{self._name_of(self._paths.run.about)} is missing, which says whether everything is done"
        return "not everything is done: run the same command again to go on; what is committed was looked at"

    def _check_leftovers(self) -> None:
        """Of a finished output: what a run that was killed leaves, and the next one removes."""
        paths, backend = self._paths, self._paths.backend
        if backend.has(paths.run.journal):
            what = "its files were being renamed: run the same command again, which ends it"
            self._findings.fault("finished", self._name_of(paths.run.journal), what)
        if backend.has(paths.run.amendment.about):
            self._findings.note("finished", "an --extend or --retry-failed has not ended: run it again to go on")
        elif paths.is_file and (backend.has(paths.work) if paths.staging is None else backend.names(paths.work)):
            self._findings.fault("leftovers", self._name_of(paths.work), "the run's working folder is still there")
        temporary = [temporary_name(paths.final_name(table)) for table in TABLES] if paths.is_file else []
        if not paths.is_file:
            folders = [paths.work, *map(paths.run.table, TABLES)]
            temporary = [folder / name for folder in folders for name in backend.names(folder) if _is_temporary(name)]
        for file in temporary:
            if backend.has(file):
                self._findings.fault("leftovers", self._name_of(file), "a temporary file")

    def _check_parts(self, names: dict[str, list[str]], *, is_finished: bool) -> list[PartKey]:
        """Whether parts come in pairs and none is missing; the parts that readers see."""
        keys: dict[str, set[PartKey]] = {}
        for table in TABLES:
            keys[table] = set()
            for name in (name for name in names[table] if name.endswith(".parquet")):
                part = _PART.fullmatch(name)
                key = None if part is None else PartKey(int(part[1]), int(part[2]))
                if part is None or key is None or (part[3] and table == "faces"):
                    self._parts_fault(table, name, "is no part of a run")
                    continue
                if key in keys[table]:
                    self._parts_fault(table, name, "is there twice, once as the last part of its unit")
                keys[table].add(key)
                if part[3]:
                    self._last.add(key)
        for key in sorted(keys["inputs"] - keys["faces"]):
            self._findings.fault("parts", self._part_name("faces", key), "is missing")
        unmarked = sorted(keys["faces"] - keys["inputs"])
        if is_finished:
            for key in unmarked:
                what = f"has faces, and {self._part_name('inputs', key)} is missing"
                self._findings.fault("parts", self._part_name("faces", key), what)
        elif unmarked:
            self._findings.note("parts", f"{len(unmarked)} parts of faces are not committed: they are written again")
        self._check_gaps(keys["inputs"], is_finished=is_finished)
        return sorted(keys["inputs"])

    def _check_gaps(self, keys: set[PartKey], *, is_finished: bool) -> None:
        by_unit = {unit: {key.segment for key in group} for unit, group in itertools.groupby(sorted(keys), _unit)}
        for unit, segments in by_unit.items():
            for segment in sorted(segments - {max(segments)}):
                if PartKey(unit, segment) in self._last:
                    what = "is said to be the last part of its unit, and others follow"
                    self._findings.fault("parts", self._part_name("inputs", PartKey(unit, segment)), what)
            for segment in sorted(set(range(max(segments) + 1)) - segments):
                self._findings.fault("parts", self._part_name("inputs", PartKey(unit, segment)), "is missing")
        if is_finished and self._run is not None:
            last = max([len(self._run.units) - 1, *by_unit])
            for unit in sorted(set(range(last + 1)) - set(by_unit)):
                self._findings.fault("parts", self._part_name("inputs", PartKey(unit, 0)), "is missing")

    def _parts_fault(self, table: str, name: str, what: str) -> None:
        self._findings.fault("parts", self._name_of(self._paths.run.table(table) / name), what)

    def _part(self, table: str, key: PartKey) -> Path:
        return self._paths.run.part(table, key.unit, key.segment, is_last=key in self._last)

    def _part_name(self, table: str, key: PartKey) -> str:
        return self._name_of(self._part(table, key))

    # ---- footers ------------------------------------------------------------------------------------------

    def _footers(self, table: str, keys: Sequence[PartKey]) -> dict[PartKey, _File]:
        paths = self._paths
        files = {key: self._part(table, key) for key in keys}
        if self._is_final:
            files = {key: paths.final_name(table) for key in keys}
        there = set(paths.backend.fetch_all(list(files.values()), anew=True))
        found = {}
        for key, path in files.items():
            file = self._footer(table, path) if path in there else None
            if file is not None:
                found[key] = file
        return found

    def _footer(self, table: str, path: Path) -> _File | None:
        name = self._name_of(path)
        try:
            metadata = pq.read_metadata(path).metadata or {}
        except READ_FAILURES as error:
            self._findings.fault("readable", name, f"cannot be opened as Parquet: {first_line(error)}")
            return None
        try:
            record = self._record_in(metadata.get(METADATA_KEY, b"{}"))
            written = json.loads(metadata.get(WRITTEN_KEY, b"{}"))
        except ValueError as error:
            self._findings.fault("record", name, f"cannot be read: {first_line(error)}")
            record, written = RunRecord(), {}
        return _File(path, name, table, record, written if isinstance(written, dict) else {})

    def _record_in(self, text: bytes) -> RunRecord:
        """The record that a footer holds; one object for all files that have the same.

        Raises:
            ValueError: It is no record.
        """
        if text not in self._records:
            record = json.loads(text)
            if not isinstance(record, dict) or not isinstance(record.get("settings", {}), dict):
                raise ValueError("the record is no JSON object with settings")
            self._records[text] = cast("RunRecord", record)
        return self._records[text]

    def _check_footers(self) -> RunRecord:
        """Whether the files say the same of the run; what most of them say.

        Raises:
            ConfigError: They are not motivnet's, or of another schema.
        """
        given, findings = self._paths.given, self._findings
        files = [file for table in TABLES for file in self._files[table].values()]
        records = [file.record for file in files if file.record]
        if files and not any("settings" in record for record in records) and not findings.has("record"):
            raise ConfigError(f"{given!r} was not written by motivnet")
        versions = {record.get("schema_version") for record in records}
        if len(versions) == 1 and versions.isdisjoint({*READABLE_VERSIONS, None}):
            raise ConfigError(
                f"{given!r} has schema {versions.pop()}, and motivnet {__version__} verifies schema "
                f"{' and '.join(map(str, READABLE_VERSIONS))}: "
                "verify it with the version that wrote it"
            )
        if self._run is not None:
            record = self._run.record
        else:
            texts = Counter(json.dumps(record, sort_keys=True) for record in records)
            record = json.loads(texts.most_common(1)[0][0]) if texts else RunRecord()
        if record or self._run is not None:
            check_record(findings, given, record)
        expected = _same_in_amendments(record)
        for file in files:
            if _same_in_amendments(file.record) != expected:
                findings.fault("record", file.name, "has another record than the rest of the output")
        for file in (file for file in files if not file.written):
            if record.get("checksums"):
                findings.fault("row_counts", file.name, "another program has written it anew: checksums are gone")
            else:
                findings.skip("row_counts", "the run was begun by a version that did not note it")
                findings.skip("checksums", "the run was begun by a version that wrote none")
        return record

    def _check_repeated(self, repeats: Repeats, num_rows: int) -> None:
        count = repeats.compare()
        if count:
            row = next(
                start + int(np.flatnonzero(found)[0])
                for start in range(0, num_rows, RUN_ROWS)
                if (found := repeats.is_repeated(start, min(start + RUN_ROWS, num_rows))).any()
            )
            name = self._names_of([row]).get(row, "")
            self._findings.fault("inputs_once", name, "is there more than once", count=count)

    # ---- rows ---------------------------------------------------------------------------------------------

    def _look_at_rows(
        self,
        keys: Sequence[PartKey],
        inputs: InputsCheck,
        faces: FacesCheck,
        record: RunRecord,
        *,
        is_finished: bool,
    ) -> None:
        """Look at the rows of both tables, unit by unit."""
        has_plan = self._run is not None and self._run.num_items > 0 and not self._is_final
        plan = Plan(self._findings, self._paths, self._run) if has_plan and self._run is not None else None
        if plan is None:
            why = "no plan is kept: that of a single file goes when it is finished, and a merged output has none"
            self._findings.skip("plan", why)
        for unit, group in itertools.groupby(keys, _unit):
            parts = list(group)
            names: list[str] = []
            is_read = True
            reached: Cursor | None = None
            for key in parts:
                file = self._files["inputs"].get(key)
                is_read = file is not None and self._read_inputs(file, inputs, names, record) and is_read
                reached = None if is_finished or file is None else self._reached(file, key)
            expected = plan.check_unit(unit, names, reached) if plan is not None and is_read else None
            inputs.end_unit(expected, is_done=is_finished or (reached is not None and not reached.position.step))
            index = inputs.take_index()
            faces.begin_unit(index, are_inputs_whole=is_read)
            for key in parts:
                is_read = self._read_faces(self._files["faces"].get(key), faces, record) and is_read
            wrong = faces.end_unit()
            if is_read:
                self._check_faces_of(index, wrong)
                self._check_counts(parts)
            else:
                self._are_rows_missing = True

    def _check_faces_of(self, index: InputIndex, wrong: Sequence[tuple[int, str]]) -> None:
        rows = [index.first_row + place for place, _ in wrong[:MAX_EXAMPLES] if place < index.num_rows]
        names = self._names_of(rows)
        for place, what in wrong:
            is_row = place < index.num_rows
            name = names.get(index.first_row + place, "") if is_row else repr(index.name_without_row(place))
            self._findings.fault("faces_of_inputs", name, what)

    def _read_inputs(self, file: _File, check: InputsCheck, names: list[str], record: RunRecord) -> bool:
        before = check.num_rows
        is_read = True
        for rows in self._rows_of(file, record):
            if rows is None:
                is_read = False
            else:
                names += check.add(rows)
        self._read.append((file, before, check.num_rows))
        return is_read

    def _reached(self, file: _File, key: PartKey) -> Cursor | None:
        try:
            reached = cursor_in(pq.read_metadata(file.path))
        except READ_FAILURES as error:
            self._findings.fault("plan", file.name, f"does not say how far its unit is: {first_line(error)}")
            return None
        if key in self._last and self._run is not None:
            end = min((key.unit + 1) * self._run.unit_size, self._run.num_items)
            if reached.position != Position(end):
                where = f"input {reached.position.item}, step {reached.position.step}"
                what = f"is said to be the last part of its unit, which ends at input {end}, and ends at {where}"
                self._findings.fault("parts", file.name, what)
        return reached

    def _faces_check(self, record: RunRecord) -> FacesCheck:
        settings = record.get("settings", {})
        recomputes = settings.get("version") == __version__
        if not settings.get("video.track"):
            self._findings.skip("tracks", "the run did not follow faces")
        elif not recomputes:
            self._findings.note("tracks", f"motivnet {settings.get('version')} wrote them: they are not followed again")
        return FacesCheck(self._findings, record, recomputes_tracks=recomputes)

    def _read_faces(self, file: _File | None, check: FacesCheck, record: RunRecord) -> bool:
        if file is None:
            return False
        is_read = True
        for rows in self._rows_of(file, record):
            if rows is None:
                check.interrupt()
                is_read = False
            else:
                check.add(rows)
        return is_read

    def _check_counts(self, parts: Sequence[PartKey]) -> None:
        """Whether files of inputs say what their rows and the faces that go with them come to."""
        for key in parts:
            file = self._files["inputs"][key]
            said = file.written.get("counts")
            counts = self._counts.pop(file.path)
            counts += self._counts.pop(self._files["faces"][key].path)
            if said is not None and said != counts.as_dict():
                self._findings.fault("row_counts", file.name, f"says {said} of its rows, which are {counts.as_dict()}")

    def _rows_of(self, file: _File, record: RunRecord) -> Iterator[pa.RecordBatch | None]:
        """The rows of a file, a few thousand at a time; None where no more of them can be read."""
        num_rows = said = 0
        counts = self._counts[file.path] = Counts()
        try:
            with pq.ParquetFile(file.path, page_checksum_verification=True, pre_buffer=False) as parquet:
                if not check_schema(self._findings, file.name, file.table, parquet.schema_arrow, record):
                    yield None
                    return
                said = parquet.metadata.num_rows
                for number in range(parquet.num_row_groups):
                    extremes = Extremes()
                    for rows in parquet.iter_batches(BATCH_ROWS, row_groups=[number]):
                        rows.validate(full=True)
                        extremes.add(rows)
                        with contextlib.suppress(ValueError):  # of what no run writes, which other checks find
                            counts.add(rows)
                        num_rows += len(rows)
                        yield rows
                    extremes.check(self._findings, file.name, parquet.metadata.row_group(number))
        except READ_FAILURES as error:
            check: Check = "checksums" if "crc" in str(error).lower() else "readable"
            self._findings.fault(check, file.name, f"cannot be read to its end: {first_line(error)}")
            yield None
            return
        if not num_rows == said == file.written.get("rows", num_rows):
            written = file.written.get("rows", said)
            self._findings.fault("row_counts", file.name, f"has {num_rows} rows, and {written} were written to it")

    def _names_of(self, rows: Sequence[int]) -> dict[int, str]:
        """Names of inputs by their rows, quoted; those that cannot be read again are left out."""
        names: dict[int, str] = {}
        for file, start, end in self._read:
            wanted = [row for row in rows if start <= row < end]
            if wanted:
                column = pq.read_table(file.path, columns=["input"])["input"]
                names |= {row: repr(column[row - start].as_py()) for row in wanted}
        return names


def _unit(key: PartKey) -> int:
    return key.unit


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _same_in_amendments(record: RunRecord) -> dict[str, object]:
    """What all parts agree in: those that `--retry-failed` and `--extend` wrote name their own command and no merge."""
    settings = record.get("settings", {})
    kept = {key: value for key, value in settings.items() if not key.startswith("inputs.")}
    return {key: value for key, value in record.items() if key not in ("command", "device", "torch", "merged")} | {
        "settings": kept
    }
