"""The frozen plan of a run: a Parquet file with an input a row, of which a unit reads its rows and no others."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from motivnet_cli.durable import durably
from motivnet_cli.output.damage import reading
from motivnet_cli.records import KINDS, GivenFace, Item, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

ROW_GROUP = 32_768
"""Inputs in a row group: units have some thousands, and the footer of a hundred million inputs stays small."""
_SCHEMA = pa.schema(
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
_MORE = ("problem", "given", "kept")


def write_plan(plan: Path, items: Iterable[Item]) -> tuple[int, bool]:
    """Write the items as they come: how many there are, and whether all are pictures."""
    items = iter(items)
    num_items, are_pictures = 0, True
    with durably(plan) as temporary, temporary.open("wb") as file:
        temporary.chmod(0o600)  # URLs stand here with what opens them
        with pq.ParquetWriter(
            file,
            _SCHEMA,
            compression="zstd",
            compression_level=1,
            use_dictionary=["kind", "column"],
            column_encoding=dict.fromkeys(_NAMES, "DELTA_BYTE_ARRAY"),
            write_statistics=False,
            write_page_checksum=True,
            store_schema=False,
        ) as writer:
            while group := list(itertools.islice(items, ROW_GROUP)):
                num_items += len(group)
                are_pictures = are_pictures and all(item.kind == "image" for item in group)
                writer.write_table(_table_of(group), row_group_size=ROW_GROUP)
    return num_items, are_pictures


def planned_items(plan: Path, start: int, stop: int, *, num_items: int) -> Iterator[Item]:
    """Some items of a plan that `write_plan` wrote.

    Args:
        num_items: Of the whole plan.

    Raises:
        OutputConflictError: The plan is damaged, or of another number of items.
    """
    with reading(f"the plan {str(plan)!r}"):
        file = pq.ParquetFile(plan, page_checksum_verification=True, pre_buffer=False)
        if not file.schema_arrow.equals(_SCHEMA) or file.metadata.num_rows != num_items:
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
                items = _items_of(first + begin, rows.slice(begin, stop - first - begin))
            yield from items


def _table_of(items: list[Item]) -> pa.Table:
    columns = {name: [getattr(item, name) for item in items] for name in _SCHEMA.names if name not in ("path", "more")}
    columns["path"] = [None if item.path == item.input else os.fsencode(item.path) for item in items]
    columns["more"] = [
        _more_of(item) if item.problem or item.kept or item.given is not None else None for item in items
    ]
    return pa.table({name: columns[name] for name in _SCHEMA.names}, schema=_SCHEMA)


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


def _items_of(start: int, rows: pa.Table) -> list[Item]:
    """The items of some rows.

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
