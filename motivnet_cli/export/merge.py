"""Outputs of the shards of one run -> one output, as if one process had written it.

This room knows what makes outputs parts of one run, and what would be lost or doubled if they were joined. Of each
input it holds eight bytes, and the names of those that come twice; the rows stream.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from motivnet_cli.durable import sync, temporary_name
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.destination import check_destination
from motivnet_cli.output.read import parts_of, read_record
from motivnet_cli.output.tables import METADATA_KEY, ROW_GROUP, TableWriter
from motivnet_cli.records import RunRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_TABLES = ("faces", "inputs")
_NAMED = 3
"""How many doubled inputs an error names."""


def merge(
    parts: Sequence[str | Path], out: str | Path, *, allow_mixed: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """Join finished outputs of one run's shards into one output, which is there whole or not at all.

    The order is that of the shards' numbers where all records have them, else the given one.

    Args:
        parts: `.parquet` files with their `.inputs.parquet`, or folders, as `annotate` writes them.
        out: A name ending in `.parquet`; its inputs table goes beside it.
        allow_mixed: Join outputs of different runs, too, and go without shards that are missing. Of an input that is
            in several outputs, the first counts.
        overwrite: Replace an output that is there.

    Returns:
        `outputs` (both names), `parts`, `inputs`, `faces`, and `doubled`, the number of inputs left out.

    Raises:
        ConfigError: The outputs are not one run's, an input is in two of them, a shard is missing, their columns
            differ, or `out` cannot be written.
    """
    out = Path(out)
    if not parts:
        raise ConfigError("no outputs to merge: name the files that the shards wrote")
    if doubles := {str(part) for part in parts if sum(_is_same(part, other) for other in parts) > 1}:
        raise ConfigError(f"{', '.join(sorted(doubles))} is named more than once; name each output once")
    records = {str(part): read_record(part) for part in parts}
    shards = _shards(records)
    if not allow_mixed:
        _check_one_run(records)
        _check_shards(shards)
    order = sorted(records, key=lambda part: shards[part]["index"]) if len(shards) == len(records) else list(records)
    files = {table: {part: parts_of(part, table) for part in order} for table in _TABLES}
    for table in _TABLES:
        _check_columns(files[table])
    if out.suffix != ".parquet":
        raise ConfigError(f"the merged output is one file: give --out a name ending in .parquet, not {str(out)!r}")
    finals = {"faces": out, "inputs": out.with_suffix(".inputs.parquet")}
    for final in finals.values():
        check_destination(final, order, overwrite=overwrite)
    left_out = _doubled(files["inputs"])
    num_doubled = sum(map(len, left_out.values()))
    if num_doubled and not allow_mixed:
        part, names = next((part, sorted(names)) for part, names in left_out.items() if names)
        raise ConfigError(
            f"{num_doubled} inputs are in more than one output, such as {', '.join(map(repr, names[:_NAMED]))} in "
            f"{part!r}; leave that output out, or allow a mix: then the first one counts"
        )
    record = _joined_record(records, order)
    rows = {}
    try:
        for table in _TABLES:
            rows[table] = _write(temporary_name(finals[table]), files[table], left_out, record)
        # The faces' name is what readers ask for, so it goes first and comes last.
        out.unlink(missing_ok=True)
        for table in reversed(_TABLES):
            temporary_name(finals[table]).replace(finals[table])
            sync(out.parent)
    except OSError as error:
        raise ConfigError(f"cannot write {str(out)!r} ({error.strerror or error}); choose another --out") from error
    finally:
        for final in finals.values():
            temporary_name(final).unlink(missing_ok=True)
    outputs = [str(finals[table]) for table in _TABLES]
    return {"outputs": outputs, "parts": order, **rows, "doubled": num_doubled}


# ---- what may be joined -----------------------------------------------------------------------------------


def _is_same(a: str | Path, b: str | Path) -> bool:
    return Path(a).resolve() == Path(b).resolve()


def _shards(records: dict[str, RunRecord]) -> dict[str, dict[str, int]]:
    """Number and count of the shards that say them."""
    return {part: record["shard"] for part, record in records.items() if record.get("shard")}


def _check_one_run(records: dict[str, RunRecord]) -> None:
    (first, expected), *others = ((part, _fingerprint(record)) for part, record in records.items())
    for part, got in others:
        if differing := sorted(key for key in expected | got if expected.get(key) != got.get(key)):
            key = differing[0]
            raise ConfigError(
                f"{part!r} is of another run than {first!r}: {key} is {got.get(key)!r}, not {expected.get(key)!r}"
                f"{f' (and {len(differing) - 1} more differ)' if len(differing) > 1 else ''}; "
                "merge the outputs of one run, or allow a mix"
            )


def _fingerprint(record: RunRecord) -> dict[str, object]:
    """What the shards of one run agree in: all settings but which inputs they read."""
    settings = {"classes": record.get("classes"), **record.get("settings", {})}
    return {key: value for key, value in settings.items() if key.partition(".")[0] not in ("inputs", "shard")}


def _check_shards(shards: dict[str, dict[str, int]]) -> None:
    for count in {shard["count"] for shard in shards.values()}:
        there = [shard["index"] for shard in shards.values() if shard["count"] == count]
        if missing := sorted(set(range(count)) - set(there)):
            raise ConfigError(
                f"shard {', '.join(map(str, missing))} of {count} (from 0) is missing; add its output, or allow a mix "
                "to go without"
            )
    if len({shard["count"] for shard in shards.values()}) > 1:
        counts = ", ".join(f"{part!r}: {shard['count']}" for part, shard in shards.items())
        raise ConfigError(
            f"the outputs are of runs with different numbers of shards ({counts}); merge those of one run"
        )


def _check_columns(files: dict[str, list[Path]]) -> None:
    (first, expected), *others = ((part, pq.read_schema(paths[0])) for part, paths in files.items())
    for part, got in others:
        if not got.equals(expected):
            differing = [field.name for field in (*got, *expected) if field not in got or field not in expected]
            names = ", ".join(dict.fromkeys(differing)) or "their order"
            raise ConfigError(f"the columns of {part!r} and {first!r} differ ({names}); they cannot be one table")


def _doubled(files: dict[str, list[Path]]) -> dict[str, set[str]]:
    """Of each output, the inputs that an earlier one has; two members of one archive may share a name."""
    hashes: list[NDArray[np.uint64]] = []
    for paths in files.values():
        own = [pl.Series(names).hash().to_numpy() for path in paths for names in _names_in(path)]
        hashes.append(np.unique(np.concatenate(own)) if own else np.zeros(0, np.uint64))
    values, counts = np.unique(np.concatenate(hashes), return_counts=True)
    suspects = values[counts > 1]
    seen: set[str] = set()
    doubled: dict[str, set[str]] = {part: set() for part in files}
    if len(suspects):  # equal hashes are not yet equal names
        for part, paths in files.items():
            here: set[str] = set()
            for path in paths:
                for names in map(pl.Series, _names_in(path)):
                    here.update(names.filter(np.isin(names.hash().to_numpy(), suspects)))
            doubled[part] = here & seen
            seen |= here
    return doubled


def _names_in(path: Path) -> Iterator[pa.Array]:
    return (batch.column(0) for batch in pq.ParquetFile(path).iter_batches(batch_size=ROW_GROUP, columns=["input"]))


# ---- joining ----------------------------------------------------------------------------------------------


def _joined_record(records: dict[str, RunRecord], order: Sequence[str]) -> RunRecord:
    """The first one's record, with the inputs of all."""
    record = records[order[0]].copy()
    record.pop("shard", None)
    settings = {key: value for key, value in record.get("settings", {}).items() if key.partition(".")[0] != "shard"}
    for key in settings:
        if key.startswith("inputs.") and isinstance(settings[key], list):
            settings[key] = list(dict.fromkeys(each for part in order for each in _listed(records[part], key)))
    return record | RunRecord(settings=settings, merged=[Path(part).name for part in order])


def _listed(record: RunRecord, key: str) -> list[object]:
    value = record.get("settings", {}).get(key)
    return value if isinstance(value, list) else []


def _write(out: Path, files: dict[str, list[Path]], left_out: dict[str, set[str]], record: RunRecord) -> int:
    """One table of all outputs; says how many rows it has."""
    schema = pq.read_schema(next(iter(files.values()))[0]).with_metadata({METADATA_KEY: json.dumps(record).encode()})
    num_rows = 0
    with TableWriter(out, schema) as writer:
        for part, paths in files.items():
            unwanted = pa.array(sorted(left_out[part]), pa.string())
            for path in paths:
                for batch in pq.ParquetFile(path).iter_batches(batch_size=ROW_GROUP):
                    rows = pa.Table.from_batches([batch])
                    if len(unwanted):
                        rows = rows.filter(pc.invert(pc.is_in(rows["input"], value_set=unwanted)))
                    writer.add(rows)
                    num_rows += rows.num_rows
    return num_rows
