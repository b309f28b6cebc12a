"""What a look at an output comes to: the checks by name, whether each holds, and the first places where it does not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

Check = Literal[
    "finished",
    "leftovers",
    "parts",
    "readable",
    "checksums",
    "record",
    "schema",
    "row_counts",
    "statistics",
    "plan",
    "inputs_once",
    "status",
    "archives",
    "faces_of_inputs",
    "order",
    "frames_and_times",
    "face_numbers",
    "ranges",
    "boxes",
    "probabilities",
    "emotion",
    "embeddings",
    "tracks",
    "sample",
]
"""The names of the checks, which scripts may rely on, in the order in which they are reported."""

CHECKS: dict[Check, str] = {
    "finished": "every input is done, and both tables are in their place",
    "leftovers": "nothing temporary is left",
    "parts": "of a folder: faces and inputs come in pairs, none is missing, and nothing else lies among them",
    "readable": "every file can be read to its end",
    "checksums": "no page differs from its checksum",
    "record": "every file has the same record of the run, which agrees with itself",
    "schema": "columns have the names, types and order that the record asks for",
    "row_counts": "every file has as many rows as were written to it, and they come to what it says",
    "statistics": "the footers say the true smallest and largest values, by which readers skip rows",
    "plan": "where the plan is kept: the inputs are those of the plan, in its order",
    "inputs_once": "no input is there twice",
    "status": "status, error, and the counts of an input fit together",
    "archives": "the members of an archive stand before it, and are as many as it says",
    "faces_of_inputs": "every face belongs to an input, and every input has as many as it says",
    "order": "faces are in the order of the inputs",
    "frames_and_times": "frames and times go forward within a video; a picture has none",
    "face_numbers": "faces of a picture are numbered from 0, left to right",
    "ranges": "no value is missing or outside its range",
    "boxes": "boxes have a size and lie in their picture, whose size is that of the input",
    "probabilities": "probabilities are from 0 to 1 and sum to 1",
    "emotion": "the emotion is the most probable one, and the confidence its probability",
    "embeddings": "embeddings have the model's length and are finite",
    "tracks": "a track is in a frame once, tracks are numbered as they appear, and the stored faces lead to them",
    "sample": "with `--sample`: inputs that are run again give the same rows",
}
"""What holds where a check finds nothing."""

MAX_EXAMPLES = 5
Result = Literal["ok", "wrong", "skipped"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One place where a check does not hold."""

    where: str
    """An input, with its frame and face where they are known, or a file."""
    what: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found."""

    check: Check
    result: Result
    faults: int
    examples: tuple[Fault, ...]
    """The first few."""
    note: str | None
    """Why it was skipped, or what it could not see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What is known of an output after all checks."""

    output: str
    inputs: int
    """Rows of the inputs table that were read."""
    faces: int
    """Rows of the faces table that were read."""
    checks: tuple[CheckResult, ...]

    @property
    def is_whole(self) -> bool:
        """Whether no check found a fault; an output that is not finished is not whole."""
        return all(check.result != "wrong" for check in self.checks)

    @property
    def is_readable(self) -> bool:
        """Whether it is finished, and its files are what they should be: then rows can be taken from it."""
        needed = ("finished", "parts", "readable", "checksums", "record", "schema", "faces_of_inputs")
        return all(check.result != "wrong" for check in self.checks if check.check in needed)

    def replacing(self, result: CheckResult) -> Verification:
        """The same with another result of one check."""
        checks = (result if check.check == result.check else check for check in self.checks)
        return replace(self, checks=tuple(checks))


class Findings:
    """Gathers what checks find; of each, all faults are counted, and the first few kept."""

    def __init__(self) -> None:
        self._counts: Counter[Check] = Counter()
        self._examples: dict[Check, list[Fault]] = {}
        self._skipped: set[Check] = set()
        self._notes: dict[Check, str] = {}

    def fault(self, check: Check, where: str, what: str, *, count: int = 1) -> None:
        """Note that a check does not hold; `count` says for how many rows."""
        self._counts[check] += count
        examples = self._examples.setdefault(check, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(Fault(where, what))

    def skip(self, check: Check, why: str) -> None:
        """Note that a check was not made."""
        self._skipped.add(check)
        self._notes.setdefault(check, why)

    def note(self, check: Check, what: str) -> None:
        """Note what a check could not see."""
        self._notes.setdefault(check, what)

    def has(self, *checks: Check) -> bool:
        """Whether one of these found a fault."""
        return any(self._counts[check] for check in checks)

    def results(self) -> tuple[CheckResult, ...]:
        return tuple(map(self._result, get_args(Check)))

    def _result(self, check: Check) -> CheckResult:
        examples: Sequence[Fault] = self._examples.get(check, ())
        result: Result = "wrong" if self._counts[check] else "skipped" if check in self._skipped else "ok"
        return CheckResult(check, result, self._counts[check], tuple(examples), self._notes.get(check))
