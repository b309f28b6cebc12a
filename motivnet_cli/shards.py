"""Which share of a run is this process's: as given, or as a batch scheduler numbers its tasks.

It knows the environment variables of schedulers and nothing of outputs. A scheduler that is asked for some tasks of
an array again says nothing of the others: what the whole is, only the run remembers.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` shares of a run.

    Of a submission that is not the whole (`is_partial`), `index` and `count` mean something only after `of_run`.
    """

    index: int
    """From 0."""
    count: int
    first: int = 0
    """The scheduler's number of share 0."""
    step: int = 1
    """Between two numbers of the scheduler."""
    each: int = 1
    """Shares that have the same number: the processes of one element of an array."""
    is_auto: bool = False
    """Read from a scheduler's variables, which tell only of the tasks of one submission."""
    is_counted: bool = False
    """The user gave the count all the same."""
    is_partial: bool = False
    """The submission is not known to be all of an array: it has gaps, no count, or another than the user's."""

    def __str__(self) -> str:
        return f"{self.index} of {self.count} (from 0)"

    @property
    def about_all(self) -> dict[str, int]:
        """What a run remembers of how it is shared."""
        return {"count": self.count, "first": self.first, "step": self.step, "each": self.each}

    @property
    def number(self) -> int:
        """What the scheduler calls it."""
        return self.first + self.index // self.each * self.step

    def of_run(self, shards: Mapping[str, int] | None) -> Shard:
        """This task's share of a run that remembers how it is shared, if it does.

        A scheduler that was asked for the missing tasks only counts fewer than the run was begun with, so the run's
        own count holds; a count that the user gave holds always.

        Raises:
            ConfigError: The run has no share of this number, or nothing says how many there are.
        """
        if not self.is_auto:
            return self
        is_alike = shards is not None and shards["count"] == self.count
        if shards is not None and (self.is_partial if is_alike else not self.is_counted):
            return self._renumbered(shards)
        if self.is_partial and not self.is_counted:
            raise ConfigError(
                f"--shard auto: task {self.number} does not say how many tasks share the run, and the run does not "
                "remember it: begin with an array without gaps, or give the number as auto/N"
            )
        if not 0 <= self.index < self.count:
            raise ConfigError(
                f"--shard auto/{self.count}: task {self.number} is outside {self._numbers}: submit the array "
                f"{self._numbers} or a part of it, or give another N"
            )
        return self

    def _renumbered(self, shards: Mapping[str, int]) -> Shard:
        known = first_of(shards)
        if known.each != self.each:
            raise ConfigError(
                f"this run was begun with {known.each} processes for each task number, and here there are "
                f"{self.each}: submit it alike, or say how the rest is shared with --shard I/N"
            )
        ahead, rest = divmod(self.number - known.first, known.step)
        index = ahead * known.each + self.index % self.each
        if rest or not 0 <= index < known.count:
            raise ConfigError(
                f"this run was begun with the tasks {known._numbers}, and this is task {self.number}: submit the "
                f"array {known._numbers} or a part of it, or say how the rest is shared with --shard I/N or auto/N"
            )
        return replace(known, index=index)

    @property
    def _numbers(self) -> str:
        last = replace(self, index=self.count - 1).number
        return f"{self.first}-{last}" + (f":{self.step}" if self.step > 1 else "")


def first_of(shards: Mapping[str, int]) -> Shard:
    """Share 0 of a run that remembers this of how it is shared."""
    return Shard(0, shards["count"], shards["first"], shards["step"], shards["each"])


def parse_shard(text: str, environ: Mapping[str, str] = os.environ) -> Shard:
    """The share that `I/N` names, or for `auto` and `auto/N` the batch scheduler's variables (docs/cluster.md).

    Raises:
        ConfigError: It is none of these, no scheduler says which, or what one says makes no sense.
    """
    found = re.fullmatch(r"(auto|(\d+)(?=/))(?:/(\d+))?", text)
    if not found:
        raise ConfigError(f"--shard takes I/N with I from 0 to N - 1, auto, or auto/N, got {text!r}")
    count = None if found[3] is None else int(found[3])
    if count == 0:
        raise ConfigError(f"--shard {text}: the number of shares is 1 or more")
    if found[2] is not None and count is not None:
        index = int(found[2])
        if index >= count:
            raise ConfigError(f"--shard {text}: shares are numbered from 0, so the last of {count} is {count - 1}")
        return Shard(index, count)
    task = _slurm(environ) or _sge(environ) or _pbs(environ) or _lsf(environ)
    if task is not None:
        return task.shard() if count is None else task.shard_of(count)
    if "SLURM_PROCID" not in environ:
        raise ConfigError(
            f"--shard {text} reads from the scheduler which task this is, and no variable of Slurm, SGE, PBS or LSF "
            "says so here: submit the job as an array, or give --shard I/N"
        )
    place, each = _process(environ)  # of a job that is no array: its processes are always all there
    if place >= (count or each):
        raise ConfigError(f"--shard {text}: this is process {place} (from 0) of {each}: start {count} with srun")
    return Shard(place, count or each)


def task_list(numbers: Iterable[int]) -> str:
    """Numbers as the array options of schedulers take them, such as `0-3,5,7-9`; empty for none."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in runs)


@dataclass(frozen=True, slots=True)
class _Task:
    """One task of an array, as its scheduler describes it."""

    number: int
    usual: int
    """What arrays of this scheduler begin with by custom."""
    first: int | None = None
    """Of the submission."""
    count: int | None = None
    """None where the submission is not known to be without gaps."""
    step: int = 1
    place: int = 0
    each: int = 1

    def shard(self) -> Shard:
        if self.first is None or self.count is None:
            return Shard(self.place, 0, self.number, each=self.each, is_auto=True, is_partial=True)
        index = (self.number - self.first) // self.step * self.each + self.place
        return Shard(index, self.count * self.each, self.first, self.step, self.each, is_auto=True)

    def shard_of(self, count: int) -> Shard:
        """The share where the user says how many there are."""
        if self.count is not None and self.count * self.each == count:
            return replace(self.shard(), is_counted=True)
        index = (self.number - self.usual) * self.each + self.place
        return Shard(index, count, self.usual, each=self.each, is_auto=True, is_counted=True, is_partial=True)


def _slurm(environ: Mapping[str, str]) -> _Task | None:
    number = _number(environ, "SLURM_ARRAY_TASK_ID")
    if number is None:
        return None
    count = _number(environ, "SLURM_ARRAY_TASK_COUNT", least=1)
    first, last = (_number(environ, f"SLURM_ARRAY_TASK_{which}") for which in ("MIN", "MAX"))
    place, each = _process(environ)
    if first is None or last is None or count != last - first + 1:
        return _Task(number, 0, place=place, each=each)
    _check_between("SLURM_ARRAY_TASK_ID", number, first, last)
    return _Task(number, 0, first, count, place=place, each=each)


def _process(environ: Mapping[str, str]) -> tuple[int, int]:
    """Which process of how many that srun started; a batch script has the variables too, but is alone."""
    each = _number(environ, "SLURM_NTASKS", least=1) or 1
    if "SLURM_STEP_ID" not in environ or each == 1:
        return 0, 1
    place = _number(environ, "SLURM_PROCID") or 0
    _check_between("SLURM_PROCID", place, 0, each - 1)
    return place, each


def _sge(environ: Mapping[str, str]) -> _Task | None:
    if environ.get("SGE_TASK_ID") == "undefined":  # a job that is no array
        return None
    number = _number(environ, "SGE_TASK_ID", least=1)
    if number is None:
        return None
    first, last, step = (_number(environ, f"SGE_TASK_{which}", least=1) for which in ("FIRST", "LAST", "STEPSIZE"))
    if first is None or last is None:
        return _Task(number, 1)
    _check_between("SGE_TASK_ID", number, first, last)
    return _Task(number, 1, first, (last - first) // (step or 1) + 1, step or 1)


def _pbs(environ: Mapping[str, str]) -> _Task | None:
    for name in ("PBS_ARRAY_INDEX", "PBS_ARRAYID"):  # PBS Professional and OpenPBS; Torque
        number = _number(environ, name)
        if number is not None:
            return _Task(number, 0)
    return None


def _lsf(environ: Mapping[str, str]) -> _Task | None:
    number = _number(environ, "LSB_JOBINDEX")
    if not number:  # 0 is a job that is no array
        return None
    last, step = (_number(environ, f"LSB_JOBINDEX_{which}", least=1) for which in ("END", "STEP"))
    if last is None:
        return _Task(number, 1)
    _check_between("LSB_JOBINDEX", number, 1, last)
    return _Task(number, 1, 1, (last - 1) // (step or 1) + 1, step or 1)


def _number(environ: Mapping[str, str], name: str, *, least: int = 0) -> int | None:
    """A scheduler's variable; None where it is not set."""
    text = environ.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise ConfigError(
            f"--shard auto: the variable {name} should be a whole number from {least} up, and is {text!r}: "
            "mend it in the job, or give --shard I/N"
        )
    return int(text)


def _check_between(name: str, number: int, first: int, last: int) -> None:
    if not first <= number <= last:
        raise ConfigError(
            f"--shard auto: the variable {name} is {number}, and the scheduler says the numbers are {first} to {last}: "
            "mend it in the job, or give --shard I/N"
        )
