"""The inputs of an output, held against the plan of its run, where it is kept."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from motivnet_cli.errors import OutputConflictError, first_line
from motivnet_cli.output.ledger import planned
from motivnet_cli.output.verify_inputs import ARCHIVE, Expected
from motivnet_cli.records import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from motivnet_cli.output.findings import Findings
    from motivnet_cli.output.ledger import Run
    from motivnet_cli.output.paths import OutputPaths
    from motivnet_cli.records import Cursor, Item


class Plan:
    """The plan of a run, read a unit at a time."""

    def __init__(self, findings: Findings, paths: OutputPaths, run: Run) -> None:
        self._findings = findings
        self._run = run
        self._file = paths.run.control / run.plan
        self._name = paths.backend.name_of(self._file)
        self._ahead: Iterator[Item] = iter(())
        self._unit_ahead: int | None = None
        """The unit that `_ahead` goes on with."""
        self._is_there = bool(paths.backend.fetch_all([self._file], anew=True))
        if not self._is_there:
            findings.fault("plan", self._name, "is missing")

    def check_unit(self, unit: int, names: Sequence[str], reached: Cursor | None) -> Expected | None:
        """Hold the inputs of a unit against the plan's.

        Args:
            names: Of all its inputs in their order, without members of archives.
            reached: How far it is done, by its last part; None where all of it has to be.

        Returns:
            The video that is being done: its faces are there before it is.
        """
        if not self._is_there:
            return None
        if unit not in self._run.units:
            if not self._run.is_finished:
                self._findings.fault("plan", f"unit {unit}", "is not in the plan")
            return None  # of inputs that --extend has added
        items = self._items_of(unit)
        if items is None:
            return None
        start = unit * self._run.unit_size
        num_done = len(items) if reached is None else reached.position.item - start
        self._compare([name for name, _ in items[:num_done]], names)
        if reached is None or not reached.position.step or not 0 <= num_done < len(items):
            return None
        name, kind = items[num_done]
        return None if kind == ARCHIVE else Expected(name, kind, reached.num_faces, reached.num_lost > 0)

    def _items_of(self, unit: int) -> list[tuple[str, int]] | None:
        """Name and kind of each input; None where they cannot be read, which is said once."""
        run = self._run
        if unit != self._unit_ahead or run.offsets is not None:  # each offset is held against its line
            self._ahead = planned(self._file, run, unit * run.unit_size, run.num_items)
        self._unit_ahead = unit + 1
        try:
            items = itertools.islice(self._ahead, run.unit_size)
            return [(item.input, KINDS.index(item.kind)) for item in items]
        except (OSError, OutputConflictError) as error:
            self._findings.fault("plan", self._name, f"cannot be read: {first_line(error)}")
            self._is_there = False
            return None

    def _compare(self, planned: Sequence[str], names: Sequence[str]) -> None:
        if list(planned) == list(names):
            return
        there, wanted = set(names), set(planned)
        missing = [name for name in planned if name not in there]
        unplanned = [name for name in names if name not in wanted]
        if missing:
            self._findings.fault("plan", repr(missing[0]), "is planned and not there", count=len(missing))
        if unplanned:
            self._findings.fault("plan", repr(unplanned[0]), "is there and not planned", count=len(unplanned))
        if not missing and not unplanned:
            moved = next((a for a, b in zip(names, planned, strict=False) if a != b), names[-1])
            self._findings.fault("plan", repr(moved), "is not where the plan has it")
