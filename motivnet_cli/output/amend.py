"""A finished output, amended: inputs that failed, changed or are new are done, and the files rewritten as one step."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from motivnet_cli.durable import temporary_name
from motivnet_cli.output.compare import differing, known_in
from motivnet_cli.output.counts import Counts
from motivnet_cli.output.damage import reading
from motivnet_cli.output.names import TABLES, part_name, unit_of
from motivnet_cli.output.paths import move
from motivnet_cli.output.tables import BATCH_ROWS, Stream, TableWriter
from motivnet_cli.records import NEW

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.output.compare import Known
    from motivnet_cli.output.ledger import Ledger
    from motivnet_cli.output.paths import OutputPaths
    from motivnet_cli.records import Item


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
        known = known_in(self._paths.final_parts("inputs"))
        pairs = differing(known, items, _has_not_failed if self._retry_failed else _is_unchanged)
        wanted = (pair for pair in pairs if pair[1] is not None or not self._retry_failed)
        for number, (item, old) in enumerate(wanted):
            yield dataclasses.replace(item, index=number, place=NEW if old is None else old.place)

    def lost_parts(self, ledger: Ledger) -> Sequence[Path]:
        return ledger.lost_parts()

    def put_in_place(self, ledger: Ledger, schemas: Mapping[str, pa.Schema]) -> None:
        if ledger.num_items:
            move(self._paths, list(self._rewritten(ledger, schemas)))
        self.files.about.unlink(missing_ok=True)  # first: of a run that is known, all parts are there
        shutil.rmtree(self.files.control, ignore_errors=True)

    def _rewritten(self, ledger: Ledger, schemas: Mapping[str, pa.Schema]) -> Iterator[Path]:
        """Rewrite the parts in which inputs were done again, and add what is new, each file under a temporary name.

        Yields:
            The names that they are to get.
        """
        each_table = map(self._paths.final_parts, TABLES)
        parts = [dict(zip(TABLES, finals, strict=True)) for finals in zip(*each_table, strict=True)]
        merge = _Merge(ledger, self._places(ledger))
        if self._paths.is_file:
            with _writers(parts[0], schemas) as writers:
                merge.rewrite(_Rows(parts), _num_rows(parts), writers)
                merge.add(merge.num_left, writers)
            yield from parts[0].values()
            return
        for together in _touched(parts, merge):
            before = _Rows(together)
            for finals in together:
                with _writers(finals, schemas) as writers:
                    merge.rewrite(before, _num_rows([finals]), writers)
                yield from finals.values()
        for unit in itertools.count(unit_of(parts[-1]["inputs"]) + 1):
            if not merge.num_left:
                break
            finals = {table: self._paths.final_name(table) / part_name(unit) for table in TABLES}
            with _writers(finals, schemas) as writers:
                merge.add(min(merge.num_left, ledger.run.unit_size), writers)
            yield from finals.values()

    def _places(self, ledger: Ledger) -> Iterator[int]:
        """Of each item, the first row that it replaces, or NEW."""
        items = ledger.items()
        if all(item.place is not None for item in itertools.islice(ledger.items(), 1)):
            return (NEW if item.place is None else item.place for item in items)
        # A former version has begun it, in the same order.
        known = (old._replace(has_failed=True) for old in known_in(self._paths.final_parts("inputs")))
        return (NEW if old is None else old.place for _, old in differing(known, items, _has_not_failed))


def _has_not_failed(_: Item, known: Known) -> bool:
    return not known.has_failed


def _is_unchanged(item: Item, known: Known) -> bool:
    if item.sha256 and known.sha256:
        return item.sha256 == known.sha256
    return known.is_version_of(item)


class _Rows:
    """Rows of both tables, the inputs one after another, each with its faces."""

    def __init__(self, parts: Sequence[Mapping[str, Path]]) -> None:
        self._rows = {table: Stream([finals[table] for finals in parts]) for table in TABLES}

    def copy_rows(self, num_rows: int, writers: Mapping[str, TableWriter] | None) -> None:
        """Copy inputs with their faces, a few thousand at a time: a video may have a million; without writers, pass."""
        for inputs in self._rows["inputs"].take(num_rows):
            if writers:
                writers["inputs"].add(inputs)
            for faces in self._rows["faces"].take(pc.sum(inputs["faces"]).as_py() or 0):
                if writers:
                    writers["faces"].add(faces)

    def copy_inputs(
        self, num_inputs: int, writers: Mapping[str, TableWriter] | None, *, max_rows: int = BATCH_ROWS
    ) -> tuple[int, int]:
        """Copy inputs, archives with their members before them, as far as some rows reach.

        Returns:
            How many rows these were, and how many inputs have come to their end.
        """
        archives = self._rows["inputs"].peek(min(max_rows, BATCH_ROWS))["archive"]
        ends = np.flatnonzero(archives.is_null())[:num_inputs]
        num_rows = int(ends[-1]) + 1 if len(ends) == num_inputs else len(archives)
        self.copy_rows(num_rows, writers)
        return num_rows, len(ends)


class _Merge:
    """The rows of an output, with those of the inputs that were done in their places.

    Args:
        ledger: Of what was done.
        places: Of each of its items: first those with a place, which rise, and then what is NEW.
    """

    def __init__(self, ledger: Ledger, places: Iterator[int]) -> None:
        each_table = map(ledger.committed, TABLES)
        self._done = _Rows([dict(zip(TABLES, parts, strict=True)) for parts in zip(*each_table, strict=True)])
        self._places = places
        self.num_left = ledger.num_items
        """Inputs that were done, and are still to be copied."""
        self._row = 0
        """Of the output, the next one."""
        self._is_replaced = False
        """That row is one of an input that was done again."""
        self._next = next(places, NEW)

    def reaches(self, num_rows: int) -> bool:
        """Whether one of the next rows is to be replaced."""
        return self._is_replaced or NEW < self._next < self._row + num_rows

    @property
    def is_at_end(self) -> bool:
        """Whether no further row is."""
        return not self._is_replaced and self._next == NEW

    def keep(self, num_rows: int) -> None:
        """Leave rows as they are, where they are."""
        self._row += num_rows

    def rewrite(self, before: _Rows, num_rows: int, writers: Mapping[str, TableWriter]) -> None:
        """Copy the next rows of the output, and what was done again in its place."""
        end = self._row + num_rows
        while self._row < end:
            if self._is_replaced:
                num_copied, num_ended = before.copy_inputs(1, None, max_rows=end - self._row)
                self._is_replaced = not num_ended
            elif self._row == self._next:
                self.add(1, writers)
                self._next = next(self._places, NEW)
                self._is_replaced, num_copied = True, 0
            else:
                num_copied = (end if self._next == NEW else min(end, self._next)) - self._row
                with reading("the plan of the amendment"):
                    if num_copied < 0:
                        raise ValueError("its places do not rise")
                before.copy_rows(num_copied, writers)
            self._row += num_copied

    def add(self, num_inputs: int, writers: Mapping[str, TableWriter]) -> None:
        """Copy the next inputs that were done."""
        self.num_left -= num_inputs
        while num_inputs:
            num_rows, num_ended = self._done.copy_inputs(num_inputs, writers)
            with reading("the amendment"):
                if not num_rows:
                    raise ValueError(f"{num_inputs} inputs of it are missing")
            num_inputs -= num_ended


def _touched(parts: Iterable[dict[str, Path]], merge: _Merge) -> Iterator[list[dict[str, Path]]]:
    """Parts of which rows are to be replaced; with each the neighbours that hold faces of its inputs."""
    for _, unit in itertools.groupby(parts, key=lambda finals: unit_of(finals["inputs"])):
        if merge.is_at_end:
            return
        together = list(unit)
        num_rows = _num_rows(together)
        if not merge.reaches(num_rows):
            merge.keep(num_rows)
            continue
        for whole in _with_all_faces(together):
            num_rows = _num_rows(whole)
            if merge.reaches(num_rows):
                yield whole
            else:
                merge.keep(num_rows)
    with reading("the plan of the amendment"):
        if not merge.is_at_end:
            raise ValueError("it replaces rows that are not there")


def _num_rows(parts: Iterable[Mapping[str, Path]]) -> int:
    """Of their inputs."""
    num_rows = 0
    for finals in parts:
        with reading(finals["inputs"]):
            num_rows += pq.read_metadata(finals["inputs"]).num_rows
    return num_rows


def _with_all_faces(parts: Iterable[dict[str, Path]]) -> Iterator[list[dict[str, Path]]]:
    """Parts by runs of neighbours that hold all faces of their inputs: a long video has faces in several parts."""
    together: list[dict[str, Path]] = []
    num_waiting = 0  # faces whose input is in a later part
    for finals in parts:
        together.append(finals)
        with reading(finals["faces"]):
            num_waiting += pq.read_metadata(finals["faces"]).num_rows
        with reading(finals["inputs"]):
            num_waiting -= pc.sum(pq.read_table(finals["inputs"], columns=["faces"])["faces"]).as_py() or 0
        if num_waiting == 0:
            yield together
            together = []
    assert not together, f"{num_waiting} faces are of no input"


@contextlib.contextmanager
def _writers(finals: Mapping[str, Path], schemas: Mapping[str, pa.Schema]) -> Iterator[dict[str, TableWriter]]:
    """Write both tables beside their places."""
    counts = Counts()
    with contextlib.ExitStack() as stack:
        yield {
            table: stack.enter_context(TableWriter(temporary_name(final), schemas[table], counts))
            for table, final in finals.items()
        }
