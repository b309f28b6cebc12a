"""A finished output, amended: inputs that failed, changed or are new are done, and the files rewritten as one step."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pyarrow.parquet as pq

from motivnet_cli.durable import sha256_of, temporary_name
from motivnet_cli.output.counts import Counts
from motivnet_cli.output.damage import reading
from motivnet_cli.output.names import TABLES, part_name, unit_of
from motivnet_cli.output.paths import move
from motivnet_cli.output.tables import BATCH_ROWS, Stream, TableWriter, rows_in
from motivnet_cli.records import Changes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from motivnet_cli.errors import ErrorType
    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.output.ledger import Ledger
    from motivnet_cli.output.paths import OutputPaths
    from motivnet_cli.records import Item, Status

_RETRIED_IF_PARTIAL: frozenset[ErrorType] = frozenset(
    (
        *("bad_prediction", "not_found", "broken_link", "permission_denied", "read_error", "unreachable", "changed"),
        *("out_of_memory", "decoder_crash", "decoder_stall"),
    )
)
"""What broke off an input and is not in its content: the next time it may be read to its end."""


class Amendment:
    """What a run makes that amends the output at `paths`.

    Args:
        retry_failed: Do the inputs that failed; else those that changed or are new.
    """

    def __init__(self, paths: OutputPaths, *, retry_failed: bool) -> None:
        self._paths = paths
        self._retry_failed = retry_failed
        self.files = paths.run.amendment

    def items(self, listing: Listing, items: Iterable[Item]) -> Iterator[Item]:
        """First what is there already, in its order, then what is new."""
        known: dict[str, _Known] = {}
        failed: set[str] = set()
        for row in rows_in(self._paths.final_parts("inputs"), _Known):
            if row.archive is None:
                known[row.input] = row
            if row.status == "failed" or (row.status == "partial" and row.error_type in _RETRIED_IF_PARTIAL):
                failed.add(row.archive or row.input)  # an archive is read as a whole
        if self._retry_failed:
            wanted = [item for item in items if item.input in failed]
        else:
            wanted = [item for item in items if not _is_unchanged(item, known.get(item.input))]
        order = {name: number for number, name in enumerate(known)}
        wanted.sort(key=lambda item: order.get(item.input, len(order)))
        return (dataclasses.replace(item, index=number) for number, item in enumerate(wanted))

    def lost_parts(self, ledger: Ledger) -> Sequence[Path]:
        return ledger.lost_parts()

    def put_in_place(self, ledger: Ledger, schemas: Mapping[str, pa.Schema]) -> None:
        move(self._paths, list(self._rewritten(ledger, schemas)))
        self.files.about.unlink()  # first: of a run that is known, all parts are there
        shutil.rmtree(self.files.control, ignore_errors=True)

    def _rewritten(self, ledger: Ledger, schemas: Mapping[str, pa.Schema]) -> Iterator[Path]:
        """Rewrite the parts in which inputs were done again, and add what is new, each file under a temporary name.

        Yields:
            The names that they are to get.
        """
        new = _NewRows(ledger)
        each_table = map(self._paths.final_parts, TABLES)
        parts = [dict(zip(TABLES, finals, strict=True)) for finals in zip(*each_table, strict=True)]
        for together in _with_all_faces(parts):
            names = rows_in([finals["inputs"] for finals in together], _Name)
            if not self._paths.is_file and new.again.isdisjoint(row.group for row in names):
                continue
            before = {table: Stream([finals[table] for finals in together]) for table in TABLES}
            for finals in together:
                with _writers(finals, schemas) as writers:
                    _rewrite(finals["inputs"], before, new, writers)
                    if self._paths.is_file:
                        new.copy_rest(writers)
                yield from finals.values()
        if new.names:
            added = part_name(unit_of(parts[-1]["inputs"]) + 1)
            finals = {table: self._paths.final_name(table) / added for table in TABLES}
            with _writers(finals, schemas) as writers:
                new.copy_rest(writers)
            yield from finals.values()


def changes_since(parts: Iterable[Path], listing: Listing) -> Changes:
    """How the inputs differ from those of a finished output.

    Args:
        parts: Of its inputs table.
    """
    return _changes(((row.input, row) for row in rows_in(parts, _Known) if row.archive is None), listing)


def changes_since_plan(ledger: Ledger, listing: Listing) -> Changes:
    """How the inputs differ from those of a run's plan."""
    return _changes(((item.input, item) for item in ledger.items()), listing)


def _changes(known: Iterable[tuple[str, _Versioned]], listing: Listing) -> Changes:
    if listing.needs_network:  # it would be asked for nothing but this
        return Changes()
    before = {name: (row.size_bytes, row.mtime_ns, row.sha256) for name, row in known}
    new = changed = 0
    for item in listing:
        if item.input not in before:
            new += 1
            continue
        size_bytes, mtime_ns, sha256 = before[item.input]
        if (item.size_bytes, item.mtime_ns) != (size_bytes, mtime_ns):
            changed += sha256 is None or hashed(item).sha256 != sha256
    return Changes(new, changed)


def hashed(item: Item) -> Item:
    """The item with the hash of its file, if it is one that can be read."""
    if item.size_bytes is None or item.problem:
        return item
    try:
        return dataclasses.replace(item, sha256=sha256_of(Path(item.path)))
    except OSError:  # reading it will say why
        return item


class _Versioned(Protocol):
    """What tells whether a file is still the same."""

    @property
    def size_bytes(self) -> int | None: ...
    @property
    def mtime_ns(self) -> int | None: ...
    @property
    def sha256(self) -> str | None: ...


class _Known(NamedTuple):
    """What an output holds of an input."""

    input: str
    archive: str | None
    status: Status
    error_type: ErrorType | None
    size_bytes: int | None
    mtime_ns: int | None
    sha256: str | None


class _Name(NamedTuple):
    input: str
    archive: str | None

    @property
    def group(self) -> str:
        """What is done as one: an archive with its members, or the input alone."""
        return self.archive or self.input


class _NumFaces(NamedTuple):
    faces: int


class _NewRows:
    """The rows of the inputs that were done, in the order of the plan."""

    def __init__(self, ledger: Ledger) -> None:
        self.again = {item.input for item in ledger.items()}
        self.names = deque(row.input for row in rows_in(ledger.committed("inputs"), _Name))
        """Of those that are still to be copied."""
        self._rows = {table: Stream(ledger.committed(table)) for table in TABLES}

    def copy_group(self, group: str, writers: Mapping[str, TableWriter]) -> None:
        """Copy the rows of one item, an archive's members before itself; none are left when it comes again."""
        while group in self.names:
            _copy_input(self._rows, writers)
            if self.names.popleft() == group:
                break

    def copy_rest(self, writers: Mapping[str, TableWriter]) -> None:
        while self.names:
            self.names.popleft()
            _copy_input(self._rows, writers)


def _with_all_faces(parts: Iterable[dict[str, Path]]) -> Iterator[list[dict[str, Path]]]:
    """Parts by runs of neighbours that hold all faces of their inputs: a long video has faces in several parts."""
    together: list[dict[str, Path]] = []
    num_waiting = 0  # faces whose input is in a later part
    for finals in parts:
        together.append(finals)
        with reading(finals["faces"]):
            num_waiting += pq.read_metadata(finals["faces"]).num_rows
        num_waiting -= sum(row.faces for row in rows_in([finals["inputs"]], _NumFaces))
        if num_waiting == 0:
            yield together
            together = []
    assert not together, f"{num_waiting} faces are of no input"


def _rewrite(inputs: Path, before: Mapping[str, Stream], new: _NewRows, writers: Mapping[str, TableWriter]) -> None:
    """Copy the rows of one part of both tables, with the new ones in the place of those that were done again."""
    for row in rows_in([inputs], _Name):
        if row.group in new.again:
            _skip_input(before)
            new.copy_group(row.group, writers)
        else:
            _copy_input(before, writers)


def _copy_input(source: Mapping[str, Stream], writers: Mapping[str, TableWriter]) -> None:
    """Copy the next input and its faces."""
    entry = source["inputs"].take(1)
    writers["inputs"].add(entry)
    for faces in _faces_of(entry, source):
        writers["faces"].add(faces)


def _skip_input(source: Mapping[str, Stream]) -> None:
    for _ in _faces_of(source["inputs"].take(1), source):
        pass


def _faces_of(entry: pa.Table, source: Mapping[str, Stream]) -> Iterator[pa.Table]:
    """The faces of the next input, a few thousand at a time: a video may have a million."""
    num_faces = entry["faces"][0].as_py()
    for start in range(0, num_faces, BATCH_ROWS):
        yield source["faces"].take(min(BATCH_ROWS, num_faces - start))


@contextlib.contextmanager
def _writers(finals: Mapping[str, Path], schemas: Mapping[str, pa.Schema]) -> Iterator[dict[str, TableWriter]]:
    """Write both tables beside their places."""
    counts = Counts()
    with contextlib.ExitStack() as stack:
        yield {
            table: stack.enter_context(TableWriter(temporary_name(final), schemas[table], counts))
            for table, final in finals.items()
        }


def _is_unchanged(item: Item, known: _Known | None) -> bool:
    if known is None:
        return False
    if item.sha256 and known.sha256:
        return item.sha256 == known.sha256
    return (item.size_bytes, item.mtime_ns) == (known.size_bytes, known.mtime_ns)
