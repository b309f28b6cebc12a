"""The inputs as they are now, held against what an output or a plan has of them.

Memory does not grow with their number: as a rule both come in the same order, and what is far from its like is joined
on disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pyarrow as pa

from motivnet_cli.durable import sha256_of
from motivnet_cli.errors import ConfigError, FetchError
from motivnet_cli.out_of_core import database
from motivnet_cli.output.damage import reading
from motivnet_cli.output.plan import PLAN_SCHEMA, items_of, listed_once, table_of
from motivnet_cli.output.tables import rows_in
from motivnet_cli.records import Changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from duckdb import DuckDBPyConnection

    from motivnet_cli.errors import ErrorType
    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.output.ledger import Ledger
    from motivnet_cli.records import Item, Status

_AHEAD = 16_384
"""So many inputs of each side wait in memory for their like."""
_RETRIED_IF_PARTIAL: frozenset[ErrorType] = frozenset(
    (
        *("bad_prediction", "not_found", "broken_link", "permission_denied", "read_error", "unreachable", "changed"),
        *("out_of_memory", "decoder_crash", "decoder_stall"),
    )
)
"""What broke off an input and is not in its content: the next time it may be read to its end."""


class Known(NamedTuple):
    """What is known of an input; an archive is one with its members."""

    input: str
    place: int
    """The first of its rows in the table of inputs, from 0; in a plan, the item."""
    has_failed: bool
    """It or a member; or it was broken off by what may have passed."""
    size_bytes: int | None
    mtime_ns: int | None
    sha256: str | None

    def is_version_of(self, item: Item) -> bool:
        """Whether size and time are those of a file."""
        return (self.size_bytes, self.mtime_ns) == (item.size_bytes, item.mtime_ns)


_KNOWN_SCHEMA = pa.schema(
    [
        pa.field("input", pa.string()),
        pa.field("place", pa.int64()),
        pa.field("has_failed", pa.bool_()),
        pa.field("size_bytes", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("sha256", pa.string()),
    ]
)


def known_in(parts: Iterable[Path]) -> Iterator[Known]:
    """The inputs of an output.

    Args:
        parts: Of its inputs table.

    Raises:
        OutputConflictError: A file is damaged.
    """
    place, has_failed, archive = 0, False, None
    for number, row in enumerate(rows_in(parts, _Row), 1):
        has_failed |= row.status == "failed" or (row.status == "partial" and row.error_type in _RETRIED_IF_PARTIAL)
        with reading("the table of inputs"):
            if archive is not None and archive != (row.archive or row.input):
                raise ValueError(f"members of {archive!r} are there without it")
        archive = row.archive
        if archive is None:
            yield Known(row.input, place, has_failed, row.size_bytes, row.mtime_ns, row.sha256)
            place, has_failed = number, False


class _Row(NamedTuple):
    input: str
    archive: str | None
    status: Status
    error_type: ErrorType | None
    size_bytes: int | None
    mtime_ns: int | None
    sha256: str | None


def differing(
    known: Iterable[Known], items: Iterable[Item], is_same: Callable[[Item, Known], bool]
) -> Iterator[tuple[Item, Known | None]]:
    """The items that are not the same as what is known under their name, in its order; then those that are new.

    Where a name is there several times, an item of the size and time that are known of it is held against that, and the
    others against what is known at the same turn. In memory not all of a name are seen, so what meets there is dropped
    only if its version is the same.

    Args:
        is_same: True of what has not failed and is the same in size, time and hash.
    """
    with contextlib.ExitStack() as stack:
        rest = _Rest(stack)
        listed_ahead: dict[str, Item] = {}
        known_ahead: dict[str, Known] = {}
        for item, old in itertools.zip_longest(items, known):
            if item is not None:
                met = known_ahead.pop(item.input, None)
                if met is None:
                    _wait(item, listed_ahead, rest.add_item)
                elif not (met.is_version_of(item) and is_same(item, met)):
                    rest.add_item(item)
                    rest.add_known(met)
            if old is not None:
                found = listed_ahead.pop(old.input, None)
                if found is not None:
                    if not (old.is_version_of(found) and is_same(found, old)):
                        rest.add_item(found)
                        rest.add_known(old)
                elif item is not None or rest.has_items:  # else its like can no longer come
                    _wait(old, known_ahead, rest.add_known)
        for item in listed_ahead.values():
            rest.add_item(item)
        if rest.has_items:
            for old in known_ahead.values():
                rest.add_known(old)
            listed_ahead.clear()
            known_ahead.clear()
            for item, old in rest.joined():
                if old is None or not is_same(item, old):
                    yield item, old


_Side = TypeVar("_Side", "Item", Known)


def _wait(value: _Side, ahead: dict[str, _Side], give_up: Callable[[_Side], None]) -> None:
    """Keep a value until its like comes, and give up those that have waited the longest."""
    if value.input in ahead:
        give_up(value)
        return
    ahead[value.input] = value
    if len(ahead) > _AHEAD:
        for name in list(itertools.islice(ahead, _AHEAD // 2)):
            give_up(ahead.pop(name))


class _Rest:
    """Items, and what is known, that have not met their like in time: tables on disk, made when there are some."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._items: list[Item] = []
        self._known: list[Known] = []
        self.has_items = False

    def add_item(self, item: Item) -> None:
        self.has_items = True
        self._items.append(item)
        if len(self._items) == _AHEAD:
            self._store_items()

    def add_known(self, known: Known) -> None:
        self._known.append(known)
        if len(self._known) == _AHEAD:
            self._store_known()

    @cached_property
    def _database(self) -> DuckDBPyConnection:
        return self._stack.enter_context(database())

    def _store_items(self) -> None:
        numbers = pa.array([item.index for item in self._items], pa.int64())
        self._store("listed", table_of(self._items).append_column("number", numbers))
        self._items = []

    def _store_known(self) -> None:
        columns = zip(*self._known, strict=True) if self._known else ([] for _ in _KNOWN_SCHEMA)
        self._store("known", pa.table(list(map(pa.array, columns, _KNOWN_SCHEMA.types)), schema=_KNOWN_SCHEMA))
        self._known = []

    def _store(self, table: str, rows: pa.Table) -> None:
        self._database.register("rows", rows)
        self._database.execute(f"CREATE TABLE IF NOT EXISTS {table} AS FROM rows LIMIT 0")
        self._database.execute(f"INSERT INTO {table} FROM rows")
        self._database.unregister("rows")

    def joined(self) -> Iterator[tuple[Item, Known | None]]:
        """Each item with what is known of it, in the order of that; then the others."""
        if self._items:
            self._store_items()
        self._store_known()
        for step in _JOIN:
            self._database.execute(step)
        self._database.execute(_IN_ORDER)
        while rows := self._database.fetchmany(_FETCHED):
            columns = list(zip(*rows, strict=True))
            arrays = map(pa.array, columns[: len(PLAN_SCHEMA)], PLAN_SCHEMA.types)
            items = items_of(0, pa.table(list(arrays), schema=PLAN_SCHEMA))
            for item, *known in zip(items, *columns[-len(_KNOWN_SCHEMA) :], strict=True):
                yield item, None if known[0] is None else Known(*known)


_VERSIONS = """CREATE TABLE turns_of_versions AS SELECT key, input, size_bytes, mtime_ns, row_number() OVER
    (PARTITION BY input, size_bytes, mtime_ns ORDER BY key) AS turn FROM turns SEMI JOIN several USING (input)"""
_TURNS_OF_REST = """UPDATE turns SET turn = rest.turn FROM
    (SELECT key, row_number() OVER (PARTITION BY input ORDER BY key) AS turn
    FROM turns SEMI JOIN several USING (input) ANTI JOIN same USING (key)) AS rest WHERE turns.key = rest.key"""
_TURNS_OF_SAME = "UPDATE turns SET turn = -1 - same.place FROM same WHERE turns.key = same.key"


def _of_both(step: str) -> tuple[str, str]:
    """A step for the table of what is listed, and for that of what is known."""
    return tuple(  # type: ignore[return-value]
        step.replace("turns", table).replace("key", key)
        for table, key in (("listed_turns", "number"), ("known_turns", "place"))
    )


_JOIN = (  # in steps: a query that does several of them needs memory for all at once
    "CREATE TABLE listed_turns AS SELECT number, input, size_bytes, mtime_ns, sha256, "
    "row_number() OVER (PARTITION BY input ORDER BY number) AS turn FROM listed",
    "CREATE TABLE known_turns AS SELECT *, row_number() OVER (PARTITION BY input ORDER BY place) AS turn FROM known",
    # Of the inputs of one name, those of one version are the same, and the others go by their turns among the rest.
    "CREATE TABLE several AS SELECT DISTINCT input FROM known_turns WHERE turn > 1",
    *_of_both(_VERSIONS),
    "CREATE TABLE same AS SELECT number, place FROM listed_turns_of_versions AS listed "
    "JOIN known_turns_of_versions AS known ON listed.input = known.input AND listed.turn = known.turn "
    "AND listed.size_bytes IS NOT DISTINCT FROM known.size_bytes "
    "AND listed.mtime_ns IS NOT DISTINCT FROM known.mtime_ns",
    *_of_both(_TURNS_OF_REST),
    *_of_both(_TURNS_OF_SAME),
    # What has not failed and is the same in all is the same to whoever asks.
    "CREATE TABLE pairs AS SELECT number, known.* EXCLUDE turn FROM listed_turns AS listed "
    "LEFT JOIN known_turns AS known ON listed.input = known.input AND listed.turn = known.turn "
    "WHERE place IS NULL OR has_failed OR (listed.size_bytes, listed.mtime_ns, listed.sha256) "
    "IS DISTINCT FROM (known.size_bytes, known.mtime_ns, known.sha256)",
    "CREATE TABLE wanted AS SELECT listed.*, pairs.* EXCLUDE number FROM listed JOIN pairs USING (number)",
)
_IN_ORDER = "FROM wanted ORDER BY place NULLS LAST, number"
_FETCHED = 4096


# ---- what is new or changed ---------------------------------------------------------------------------------


def changes_since(parts: Iterable[Path], listing: Listing) -> Changes:
    """How the inputs differ from those of a finished output.

    Args:
        parts: Of its inputs table.
    """
    return _changes(known_in(parts), listing)


def changes_since_plan(ledger: Ledger, listing: Listing) -> Changes:
    """How the inputs differ from those of a run's plan."""
    known = (
        Known(item.input, item.index, False, item.size_bytes, item.mtime_ns, item.sha256) for item in ledger.items()
    )
    return _changes(known, listing)


def _changes(known: Iterable[Known], listing: Listing) -> Changes:
    """None where the inputs cannot be listed now: what is done needs them no more."""
    if listing.needs_network:  # it would be asked for nothing but this
        return Changes()
    new = changed = 0
    try:
        for item, old in differing(known, listed_once(listing), lambda item, old: old.is_version_of(item)):
            if old is None:
                new += 1
            else:
                changed += old.sha256 is None or hashed(item).sha256 != old.sha256
    except (ConfigError, FetchError):
        return Changes()
    return Changes(new, changed)


def hashed(item: Item) -> Item:
    """The item with the hash of its file, if it is one that can be read."""
    if item.size_bytes is None or item.problem:
        return item
    try:
        return dataclasses.replace(item, sha256=sha256_of(Path(item.path)))
    except OSError:  # reading it will say why
        return item
