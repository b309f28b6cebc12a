"""The frozen plan of a run: a Parquet file with an input a row, of which a unit reads its rows and no others."""

from __future__ import annotations

import dataclasses
import itertools
import json
import operator
import os
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motivnet_cli.durable import TemporaryFolder, durably, temporary_name
from motivnet_cli.inputs.listing import NAMED_TWICE, digest_of
from motivnet_cli.inputs.repeats import Repeats
from motivnet_cli.output.backend import LocalFolder
from motivnet_cli.output.damage import reading
from motivnet_cli.records import KINDS, GivenFace, Item, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from motivnet_cli.inputs.listing import Identity, Listing
    from motivnet_cli.output.backend import Backend

ROW_GROUP = 32_768
"""Inputs in a row group: units have some thousands, and the footer of a hundred million inputs stays small."""
PLAN_SCHEMA = pa.schema(
    [
        pa.field("input", pa.string(), nullable=False),
        pa.field("path", pa.binary()),  # as the file system has it; none where it is the input
        pa.field("kind", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("column", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("more", pa.string()),  # JSON of _MORE; none where an item has nothing of these
    ]
)
_NAMES = ("input", "path")
_FIELDS = tuple(name for name in PLAN_SCHEMA.names if name != "more")
_MORE = ("problem", "given", "kept", "place")


class PlanCounts(NamedTuple):
    """What a plan holds."""

    num_items: int
    are_pictures: bool
    """All of them."""
    num_repeated: int
    """Inputs that were named again, and stand in the plan once."""


def write_plan(plan: Path, items: Iterable[Item], *, identity: Identity = None) -> PlanCounts:
    """Write the items as they come, each where it comes first, in memory that does not depend on their number.

    Args:
        identity: By what one that is named again is known; None if none can be.
    """
    are_pictures = True

    def tables() -> Iterator[pa.Table]:
        nonlocal are_pictures
        left = iter(items)
        while group := list(itertools.islice(left, ROW_GROUP)):
            are_pictures = are_pictures and all(item.kind == "image" for item in group)
            if identity is not None:
                digests = b"".join([digest_of(item, identity) for item in group])
                repeats.add(np.frombuffer(digests, np.uint64).reshape(len(group), -1))
            yield table_of(group)

    found = temporary_name(plan.with_name(f"{plan.name}.found"))
    found.unlink(missing_ok=True)  # left by a process that was killed
    with Repeats() as repeats, durably(plan) as temporary:
        num_items = _write_tables(temporary, tables())
        num_repeated = repeats.compare()
        if num_repeated:
            temporary.replace(found)
            try:
                _write_tables(temporary, _without_repeated(found, repeats))
            finally:
                found.unlink()
    return PlanCounts(num_items - num_repeated, are_pictures, num_repeated)


def listed_once(listing: Listing) -> Iterator[Item]:
    """The items of a listing, each once: where one may come again, through a plan in a temporary folder."""
    if listing.identity is None:
        yield from listing.found()
        return
    folder = TemporaryFolder()
    try:
        plan = folder.path / "plan"
        counts = write_plan(plan, listing.found(), identity=listing.identity)
        listing.skipped += Counter({NAMED_TWICE: counts.num_repeated})
        yield from planned_items(plan, 0, counts.num_items, num_items=counts.num_items)
    finally:
        folder.remove()


def _write_tables(file: Path, tables: Iterable[pa.Table]) -> int:
    """Write tables of ROW_GROUP rows, of which the last may have fewer: how many rows there are."""
    num_rows = 0
    with file.open("wb") as sink:
        file.chmod(0o600)  # URLs stand here with what opens them
        with pq.ParquetWriter(
            sink,
            PLAN_SCHEMA,
            compression="zstd",
            compression_level=1,
            use_dictionary=["kind", "column"],
            column_encoding=dict.fromkeys(_NAMES, "DELTA_BYTE_ARRAY"),
            write_statistics=False,
            write_page_checksum=True,
            store_schema=False,
        ) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=ROW_GROUP)
                num_rows += len(table)
    return num_rows


def _without_repeated(plan: Path, repeats: Repeats) -> Iterator[pa.Table]:
    waiting = PLAN_SCHEMA.empty_table()
    with pq.ParquetFile(plan, page_checksum_verification=True, pre_buffer=False) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group, use_threads=False)
            start = group * ROW_GROUP
            waiting = pa.concat_tables([waiting, rows.filter(~repeats.is_repeated(start, start + len(rows)))])
            if len(waiting) >= ROW_GROUP:
                yield waiting[:ROW_GROUP]
                waiting = waiting[ROW_GROUP:].combine_chunks()
    if len(waiting):
        yield waiting


def planned_items(
    plan: Path, start: int, stop: int, *, num_items: int, backend: Backend | None = None
) -> Iterator[Item]:
    """Some items of a plan that `write_plan` wrote.

    Args:
        num_items: Of the whole plan.
        backend: What the plan lies in; None for a folder of this machine.

    Raises:
        OutputConflictError: The plan is damaged, or of another number of items.
    """
    with reading(f"the plan {str(plan)!r}"):
        file = (backend or LocalFolder()).open_table(plan)
        if not file.schema_arrow.equals(PLAN_SCHEMA) or file.metadata.num_rows != num_items:
            raise ValueError(f"it is none of {num_items} inputs")
        size = file.metadata.row_group(0).num_rows if num_items else 1
    with file:
        for group in range(start // size, -(-stop // size)):
            first = group * size
            with reading(f"the plan {str(plan)!r}"):
                rows = file.read_row_group(group, use_threads=False)
                rows.validate(full=True)
                if len(rows) != min(size, num_items - first):
                    raise ValueError("its row groups are of other sizes")
                begin = max(start - first, 0)
                items = items_of(first + begin, rows.slice(begin, stop - first - begin))
            yield from items


def table_of(items: list[Item]) -> pa.Table:
    """The items as rows of a plan."""
    values = zip(*map(operator.attrgetter(*_FIELDS), items), strict=True)
    columns: dict[str, Sequence[Any]] = dict(zip(_FIELDS, values, strict=True))
    pairs = zip(columns["input"], columns["path"], strict=True)
    columns["path"] = [None if path == name else os.fsencode(path) for name, path in pairs]
    columns["more"] = [
        _more_of(item) if item.problem or item.kept or item.given is not None or item.place is not None else None
        for item in items
    ]
    return pa.table({name: columns[name] for name in PLAN_SCHEMA.names}, schema=PLAN_SCHEMA)


def _more_of(item: Item) -> str:
    values = {name: value for name in _MORE if (value := getattr(item, name)) is not None and value != ()}
    if item.given is not None:
        values["given"] = item.given  # of none, too: faces are not to be found
    return json.dumps(values, separators=(",", ":"), default=_values_of)  # asdict of all would cost half


def _values_of(record: Problem | GivenFace) -> dict[str, object]:
    """The fields that have another value than None and False."""
    return {
        name: value for name, value in dataclasses.asdict(record).items() if value is not None and value is not False
    }


def items_of(start: int, rows: pa.Table) -> list[Item]:
    """The items of some rows of a plan, numbered from `start`.

    Raises:
        ValueError: A row is no item.
    """
    if rows["input"].null_count or not set(rows["kind"].unique().to_pylist()) <= set(KINDS):
        raise ValueError("it names no inputs")
    columns = (
        itertools.repeat(None, len(rows)) if column.null_count == len(rows) else column.to_pylist()
        for column in rows.itercolumns()
    )
    return [
        Item(
            index=index,
            input=name,
            path=name if path is None else os.fsdecode(path),
            kind=kind,
            size_bytes=size_bytes,
            mtime_ns=mtime_ns,
            sha256=sha256,
            column=column,
            row=row,
            **(_read_more(json.loads(more)) if more else {}),
        )
        for index, (name, path, kind, size_bytes, mtime_ns, sha256, column, row, more) in enumerate(
            zip(*columns, strict=True), start
        )
    ]


def _read_more(values: dict[str, Any]) -> dict[str, Any]:
    if "problem" in values:
        values["problem"] = Problem(**values["problem"])
    if "given" in values:
        values["given"] = tuple(
            GivenFace(**face | {"box": tuple(face["box"]), "kept": tuple(face["kept"])}) for face in values["given"]
        )
    return values | {"kept": tuple(values.get("kept", ()))}


# ---- plans of the former version ----------------------------------------------------------------------------


def planned_lines(plan: Path, start: int, stop: int, *, offset: int) -> Iterator[Item]:
    """Some items of a plan that has one a line, in JSON.

    Args:
        offset: Where the first line begins, in bytes.

    Raises:
        OutputConflictError: A line is damaged, missing, or not where it was written.
    """
    with plan.open("rb") as lines:
        with reading("the record of the run"):
            lines.seek(max(offset - 1, 0))
            is_begin = not offset or lines.read(1) == b"\n"
        for index in range(start, stop):
            with reading(f"line {index + 1} of the plan"):
                if not is_begin:
                    raise ValueError("lines are not where they were written")
                values = json.loads(lines.readline())
                item = Item(index=index, **values | _read_more(values))
                _check_item(item)
            yield item


def _check_item(item: Item) -> None:
    texts = (item.input, item.path, item.column or "", item.sha256 or "")
    numbers = (item.row, item.size_bytes, item.mtime_ns)
    if not all(isinstance(text, str) for text in texts) or item.kind not in KINDS:
        raise ValueError("it names no input")
    if not all(number is None or (type(number) is int and abs(number) < 1 << 63) for number in numbers):
        raise ValueError("its numbers are none")
