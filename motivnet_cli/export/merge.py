"""Outputs of the shards of one run -> one output, as if one process had written it; parts of one output -> fewer.

This module knows what makes outputs shards of one run, and what would be lost or doubled if they were joined. For each
input it holds eight bytes, and the names of those that are in several outputs; rows are streamed.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from motivnet_cli.config import NAMING_SETTINGS
from motivnet_cli.durable import sync, temporary_name
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.destination import check_destination, whole_folder
from motivnet_cli.export.source import listed
from motivnet_cli.output.backend import LocalFolder
from motivnet_cli.output.counts import Counts
from motivnet_cli.output.ledger import Run, write_run
from motivnet_cli.output.names import TABLES, RunFiles, inputs_beside
from motivnet_cli.output.read import is_finished, parts_of, read_record, refuse_lost_parts
from motivnet_cli.output.tables import METADATA_KEY, TableWriter, batches_in
from motivnet_cli.records import RunRecord
from motivnet_cli.remote.urls import local_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

PART_BYTES = 256_000_000
"""Of a file of a merged folder, unless another size is asked for."""
_NAMED_INPUTS = 3
"""How many doubled inputs an error names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What a merge wrote."""

    outputs: tuple[str, str]
    """Names of the faces table and the inputs table."""
    parts: tuple[str, ...]
    """The outputs that were joined, in the order of their rows."""
    faces: int
    inputs: int
    doubled: int
    """Inputs that were left out, since an earlier output has them."""
    files: int
    """Of each table."""


def merge(
    outputs: Sequence[str | Path],
    out: str | Path,
    *,
    part_bytes: int | None = None,
    allow_mixed: bool = False,
    overwrite: bool = False,
) -> Merged:
    """Join finished outputs of one run's shards into one output, which appears whole or not at all.

    Rows come in the order of the shards' numbers if every record has one, else in the order given.

    Args:
        outputs: `.parquet` files with their `.inputs.parquet`, or folders, as `annotate` writes them.
        out: A name ending in `.parquet`, whose inputs table goes beside it; or a folder of parts.
        part_bytes: Of a folder: parts that follow each other are joined up to this size of a file; none is cut. None
            for PART_BYTES.
        allow_mixed: Also join outputs of different runs, and go without shards that are missing. An input that is in
            several outputs is taken from the first.
        overwrite: Replace an output that exists.

    Raises:
        ConfigError: The outputs are not one run's, an input is in two of them, a shard is missing, their columns
            differ, one that is to go into a folder is not finished, or `out` cannot be written.
        OutputConflictError: Files of an output are damaged, or gone.
    """
    is_file = _names_a_file(str(out))
    if is_file and part_bytes is not None:
        raise ConfigError("--part-size is of a folder: leave it out, or give --out the name of a folder")
    out = Path(local_path(str(out)))
    outputs = [local_path(str(output)) for output in outputs]
    for output in outputs:
        refuse_lost_parts(output)
    records = _records_of(outputs)
    shards = {output: record["shard"] for output, record in records.items() if record.get("shard")}
    if not allow_mixed:
        _check_one_run(records)
        _check_shards(shards)
    order = sorted(records, key=lambda each: shards[each]["index"]) if len(shards) == len(records) else list(records)
    files = {table: {output: parts_of(output, table) for output in order} for table in TABLES}
    for table in TABLES:
        _check_columns(files[table])
    check_destination(out, order, overwrite=overwrite, is_folder=not is_file)
    if is_file:
        check_destination(inputs_beside(out), order, overwrite=overwrite)
    else:
        _check_finished(order)
    left_out = _find_doubled(files["inputs"])
    if not allow_mixed:
        _check_doubled(left_out)
    pairs = [
        _Pair(output, faces, inputs)
        for output in order
        for faces, inputs in zip(*(files[table][output] for table in TABLES), strict=True)
    ]
    writing = _Writing(_joined_record(records, order), left_out)
    try:
        if is_file:
            finals = {"faces": out, "inputs": inputs_beside(out)}
            num_files = 1
            _write_file(finals, pairs, writing)
        else:
            finals = {table: out / table for table in TABLES}
            num_files = _write_folder(out, _grouped(pairs, part_bytes or PART_BYTES), writing)
    except OSError as error:
        raise ConfigError(f"cannot write {str(out)!r} ({error.strerror or error}); choose another --out") from error
    return Merged(
        outputs=(str(finals["faces"]), str(finals["inputs"])),
        parts=tuple(order),
        faces=writing.num_rows["faces"],
        inputs=writing.num_rows["inputs"],
        doubled=sum(map(len, left_out.values())),
        files=num_files,
    )


def _names_a_file(out: str) -> bool:
    suffix = Path(out).suffix
    if suffix not in ("", ".parquet") and not out.endswith("/"):
        raise ConfigError(
            "the merged output is a name ending in .parquet, or a folder (end it with / if its name has a dot), "
            f"got {out!r}"
        )
    return suffix == ".parquet" and not out.endswith("/")


def _records_of(outputs: Sequence[str | Path]) -> dict[str, RunRecord]:
    """The record of each output, by name."""
    if not outputs:
        raise ConfigError("no outputs to merge: name the files that the shards wrote")
    real = [Path(output).resolve() for output in outputs]
    if repeated := {str(output) for output, path in zip(outputs, real, strict=True) if real.count(path) > 1}:
        raise ConfigError(f"{', '.join(sorted(repeated))} is named more than once; name each output once")
    return {str(output): read_record(output) for output in outputs}


def _check_one_run(records: dict[str, RunRecord]) -> None:
    """Refuse outputs of different runs."""
    (first, expected), *others = ((output, _fingerprint(record)) for output, record in records.items())
    for output, got in others:
        if differing := sorted(key for key in expected | got if expected.get(key) != got.get(key)):
            key = differing[0]
            raise ConfigError(
                f"{output!r} is of another run than {first!r}: {key} is {got.get(key)!r}, not {expected.get(key)!r}"
                f"{f' (and {len(differing) - 1} more differ)' if len(differing) > 1 else ''}; "
                "merge the outputs of one run, or allow a mix with --force"
            )


def _fingerprint(record: RunRecord) -> dict[str, object]:
    """What the shards of one run agree in: all settings but which inputs they read."""
    settings = {"classes": record.get("classes"), **record.get("settings", {})}
    return {
        key: value
        for key, value in settings.items()
        if key in NAMING_SETTINGS or key.partition(".")[0] not in ("inputs", "shard")
    }


def _check_shards(shards: dict[str, dict[str, int]]) -> None:
    """Refuse shards of which one is missing, or which count differently."""
    for count in {shard["count"] for shard in shards.values()}:
        found = [shard["index"] for shard in shards.values() if shard["count"] == count]
        if missing := sorted(set(range(count)) - set(found)):
            raise ConfigError(
                f"shard {', '.join(map(str, missing))} of {count} (from 0) is missing; add its output, or go "
                "without it by --force"
            )
    if len({shard["count"] for shard in shards.values()}) > 1:
        counts = ", ".join(f"{output!r}: {shard['count']}" for output, shard in shards.items())
        raise ConfigError(
            f"the outputs are of runs with different numbers of shards ({counts}); merge those of one run"
        )


def _check_columns(files: dict[str, list[Path]]) -> None:
    """Refuse tables whose columns differ."""
    (first, expected), *others = ((output, pq.read_schema(paths[0])) for output, paths in files.items())
    for output, got in others:
        if not got.equals(expected):
            differing = [field.name for field in (*got, *expected) if field not in got or field not in expected]
            names = ", ".join(dict.fromkeys(differing)) or "their order"
            raise ConfigError(
                f"the columns of {output!r} and {first!r} differ ({names}), so they cannot be one table: merge those "
                "of one run"
            )


def _check_finished(outputs: Sequence[str]) -> None:
    """Refuse outputs of which a folder would say that everything is done, and it is not."""
    for output in outputs:
        if not is_finished(output):
            raise ConfigError(
                f"{output!r} is not finished, or what says so is gone, and parts are joined when all is done: end its "
                "run first, or give --out a name ending in .parquet for what is there"
            )


def _find_doubled(files: dict[str, list[Path]]) -> dict[str, set[str]]:
    """By output, the inputs that an earlier output has too; two members of one archive may share a name."""
    if len(files) == 1:
        return {output: set() for output in files}
    hashes: list[NDArray[np.uint64]] = []
    for paths in files.values():
        own = [pl.Series(names).hash().to_numpy() for path in paths for names in _names_in(path)]
        hashes.append(np.unique(np.concatenate(own)) if own else np.zeros(0, np.uint64))
    values, counts = np.unique(np.concatenate(hashes), return_counts=True)
    suspects = values[counts > 1]
    seen: set[str] = set()
    doubled: dict[str, set[str]] = {output: set() for output in files}
    if len(suspects):  # equal hashes are not yet equal names
        for output, paths in files.items():
            here: set[str] = set()
            for path in paths:
                for names in map(pl.Series, _names_in(path)):
                    here.update(names.filter(np.isin(names.hash().to_numpy(), suspects)))
            doubled[output] = here & seen
            seen |= here
    return doubled


def _names_in(path: Path) -> Iterator[pa.Array]:
    return (batch.column(0) for batch in batches_in(path, ["input"]))


def _check_doubled(doubled: dict[str, set[str]]) -> None:
    """Refuse inputs that are in several outputs."""
    for output, names in doubled.items():
        if names:
            some = ", ".join(map(repr, sorted(names)[:_NAMED_INPUTS]))
            raise ConfigError(
                f"{sum(map(len, doubled.values()))} inputs are in more than one output, such as {some} in {output!r}; "
                "leave that output out, or allow a mix with --force: then the first one counts"
            )


def _joined_record(records: dict[str, RunRecord], order: Sequence[str]) -> RunRecord:
    """The record of the first output, with the inputs of all."""
    record = records[order[0]].copy()
    record.pop("shard", None)
    settings = {key: value for key, value in record.get("settings", {}).items() if key.partition(".")[0] != "shard"}
    for key in settings:
        if key.startswith("inputs.") and isinstance(settings[key], list):
            settings[key] = list(dict.fromkeys(each for output in order for each in listed(records[output], key)))
    if len({records[output].get("settings", {}).get("inputs.relative_to") for output in order}) > 1:
        settings["inputs.relative_to"] = None  # of a mix: where the files are is not known
    return record | RunRecord(settings=settings, merged=[Path(output).name for output in order])


class _Pair(NamedTuple):
    """A part of an output."""

    output: str
    faces: Path
    inputs: Path

    def path(self, table: str) -> Path:
        return self.faces if table == "faces" else self.inputs


class _Writing:
    """Writes files of joined parts.

    Args:
        record: Of the merged output.
        left_out: By output, inputs that an earlier one has.
    """

    def __init__(self, record: RunRecord, left_out: dict[str, set[str]]) -> None:
        self.record = record
        self._left_out = {output: pa.array(sorted(names), pa.string()) for output, names in left_out.items()}
        self.num_rows: Counter[str] = Counter()
        """Of each table, that were written."""

    def write(self, paths: Mapping[str, Path], pairs: Sequence[_Pair]) -> None:
        """Write both tables of some parts as one file each, which are not synced."""
        counts = Counts()
        metadata = {METADATA_KEY: json.dumps(self.record).encode()}
        for table in TABLES:
            schema = pq.read_schema(pairs[0].path(table)).with_metadata(metadata)
            with TableWriter(paths[table], schema, counts) as writer:
                for pair in pairs:
                    for rows in self._rows_of(pair, table):
                        writer.add(rows)
                        self.num_rows[table] += rows.num_rows

    def _rows_of(self, pair: _Pair, table: str) -> Iterator[pa.Table]:
        unwanted = self._left_out[pair.output]
        for batch in batches_in(pair.path(table)):
            rows = pa.Table.from_batches([batch])
            yield rows.filter(pc.invert(pc.is_in(rows["input"], value_set=unwanted))) if len(unwanted) else rows


def _write_file(finals: dict[str, Path], pairs: Sequence[_Pair], writing: _Writing) -> None:
    """Write both tables under temporary names and rename them."""
    out = finals["faces"]
    temporary = {table: temporary_name(final) for table, final in finals.items()}
    try:
        writing.write(temporary, pairs)
        for path in temporary.values():
            sync(path)
        # The name of the faces table is what readers ask for, so it is removed first and appears last.
        out.unlink(missing_ok=True)
        for table in reversed(TABLES):
            temporary[table].replace(finals[table])
            sync(out.parent)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


def _write_folder(out: Path, groups: Iterable[Sequence[_Pair]], writing: _Writing) -> int:
    """Write a finished output of one part for each group; returns how many those are."""
    record = writing.record
    number = -1
    with whole_folder(out, {"merged": record["merged"], "record": record}) as folder:
        files = RunFiles.at(folder, is_file=False)
        for path in (files.control, *map(files.table, TABLES)):
            path.mkdir()
        for number, pairs in enumerate(groups):
            writing.write({table: files.part(table, number, 0, is_last=True) for table in TABLES}, pairs)
        write_run(files, LocalFolder(), Run.without_plan(files, record))
    return number + 1


def _grouped(pairs: Iterable[_Pair], part_bytes: int) -> Iterator[list[_Pair]]:
    """Parts that follow each other, so many that neither table's file is larger; at least one."""
    group: list[_Pair] = []
    sizes: Counter[str] = Counter()
    for pair in pairs:
        own = {table: pair.path(table).stat().st_size for table in TABLES}
        if group and any(sizes[table] + own[table] > part_bytes for table in TABLES):
            yield group
            group = []
            sizes.clear()
        group.append(pair)
        sizes.update(own)
    if group:
        yield group
