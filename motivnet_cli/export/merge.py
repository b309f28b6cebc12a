"""Outputs of the shards of one run -> one output, as if one process had written it.

This module knows what makes outputs shards of one run, and what would be lost or doubled if they were joined. For each
input it holds eight bytes, and the names of those that are in several outputs; rows are streamed.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from motivnet_cli.config import NAMING_SETTINGS
from motivnet_cli.durable import sync, temporary_name
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.destination import check_destination
from motivnet_cli.export.source import listed
from motivnet_cli.output.counts import Counts
from motivnet_cli.output.names import TABLES, inputs_beside
from motivnet_cli.output.read import parts_of, read_record
from motivnet_cli.output.tables import METADATA_KEY, TableWriter, batches_in
from motivnet_cli.records import RunRecord
from motivnet_cli.remote.urls import local_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

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


def merge(
    outputs: Sequence[str | Path], out: str | Path, *, allow_mixed: bool = False, overwrite: bool = False
) -> Merged:
    """Join finished outputs of one run's shards into one output, which appears whole or not at all.

    Rows come in the order of the shards' numbers if every record has one, else in the order given.

    Args:
        outputs: `.parquet` files with their `.inputs.parquet`, or folders, as `annotate` writes them.
        out: A name ending in `.parquet`; its inputs table goes beside it.
        allow_mixed: Also join outputs of different runs, and go without shards that are missing. An input that is in
            several outputs is taken from the first.
        overwrite: Replace an output that exists.

    Raises:
        ConfigError: The outputs are not one run's, an input is in two of them, a shard is missing, their columns
            differ, or `out` cannot be written.
    """
    out = Path(local_path(str(out)))
    outputs = [local_path(str(output)) for output in outputs]
    records = _records_of(outputs)
    shards = {output: record["shard"] for output, record in records.items() if record.get("shard")}
    if not allow_mixed:
        _check_one_run(records)
        _check_shards(shards)
    order = sorted(records, key=lambda each: shards[each]["index"]) if len(shards) == len(records) else list(records)
    files = {table: {output: parts_of(output, table) for output in order} for table in TABLES}
    for table in TABLES:
        _check_columns(files[table])
    finals = _checked_finals(out, order, overwrite=overwrite)
    left_out = _find_doubled(files["inputs"])
    if not allow_mixed:
        _check_doubled(left_out)
    num_rows = _write_tables(finals, files, left_out, _joined_record(records, order))
    return Merged(
        outputs=(str(finals["faces"]), str(finals["inputs"])),
        parts=tuple(order),
        faces=num_rows["faces"],
        inputs=num_rows["inputs"],
        doubled=sum(map(len, left_out.values())),
    )


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


def _checked_finals(out: Path, outputs: Sequence[str], *, overwrite: bool) -> dict[str, Path]:
    """The paths of the two tables to write."""
    if out.suffix != ".parquet":
        raise ConfigError(f"the merged output is one file: give --out a name ending in .parquet, not {str(out)!r}")
    finals = {"faces": out, "inputs": inputs_beside(out)}
    for final in finals.values():
        check_destination(final, outputs, overwrite=overwrite)
    return finals


def _find_doubled(files: dict[str, list[Path]]) -> dict[str, set[str]]:
    """By output, the inputs that an earlier output has too; two members of one archive may share a name."""
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


def _write_tables(
    finals: dict[str, Path], files: dict[str, dict[str, list[Path]]], left_out: dict[str, set[str]], record: RunRecord
) -> dict[str, int]:
    """Write both tables under temporary names and rename them; returns the number of rows of each."""
    out = finals["faces"]
    num_rows = {}
    counts = Counts()
    try:
        for table in TABLES:
            num_rows[table] = _write_table(temporary_name(finals[table]), files[table], left_out, record, counts)
            sync(temporary_name(finals[table]))
        # The name of the faces table is what readers ask for, so it is removed first and appears last.
        out.unlink(missing_ok=True)
        for table in reversed(TABLES):
            temporary_name(finals[table]).replace(finals[table])
            sync(out.parent)
    except OSError as error:
        raise ConfigError(f"cannot write {str(out)!r} ({error.strerror or error}); choose another --out") from error
    finally:
        for final in finals.values():
            temporary_name(final).unlink(missing_ok=True)
    return num_rows


def _write_table(
    path: Path, files: dict[str, list[Path]], left_out: dict[str, set[str]], record: RunRecord, counts: Counts
) -> int:
    """Write one table of all outputs; returns how many rows it has."""
    schema = pq.read_schema(next(iter(files.values()))[0]).with_metadata({METADATA_KEY: json.dumps(record).encode()})
    num_rows = 0
    with TableWriter(path, schema, counts) as writer:
        for output, paths in files.items():
            unwanted = pa.array(sorted(left_out[output]), pa.string())
            for batch in itertools.chain.from_iterable(map(batches_in, paths)):
                rows = pa.Table.from_batches([batch])
                if len(unwanted):
                    rows = rows.filter(pc.invert(pc.is_in(rows["input"], value_set=unwanted)))
                writer.add(rows)
                num_rows += rows.num_rows
    return num_rows
