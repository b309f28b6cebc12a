"""Which share of a run is this process's: as the user gives it, or as a batch scheduler numbers its tasks.

It reads the environment variables of schedulers and knows nothing of outputs. A scheduler that is asked for some tasks
of an array again says nothing of the others: how many shares there are, only the run remembers.
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
    """One of `count` shares of a run."""

    index: int
    """From 0."""
    count: int
    first: int = 0
    """The number of the task that does share 0."""
    step: int = 1
    """Between the numbers of two tasks."""
    processes: int = 1
    """Of one task: so many shares have the same number."""

    def __str__(self) -> str:
        return f"{self.index} of {self.count} (from 0)"

    @classmethod
    def first_of(cls, numbering: Mapping[str, int]) -> Shard:
        """Share 0 of a run that remembers this numbering."""
        return cls(0, numbering["count"], numbering["first"], numbering["step"], numbering["each"])

    @property
    def numbering(self) -> dict[str, int]:
        """What a run remembers of how it is shared, the same for all its shares."""
        return {"count": self.count, "first": self.first, "step": self.step, "each": self.processes}

    @property
    def number(self) -> int:
        """Of the task that does it."""
        return self.first + self.index // self.processes * self.step

    @property
    def task_numbers(self) -> str:
        """Of all tasks, as the array options of schedulers take them."""
        last = replace(self, index=self.count - 1).number
        return f"{self.first}-{last}" + (f":{self.step}" if self.step > 1 else "")

    def of_run(self, numbering: Mapping[str, int] | None) -> Shard:
        """Itself; see `ArrayTask.of_run`."""
        return self


@dataclass(frozen=True, slots=True)
class ArrayTask:
    """One process of an array of tasks, as its scheduler describes it: which share it does depends on the run."""

    number: int
    first: int | None = None
    """The lowest number of the submission."""
    count: int | None = None
    """Tasks of the submission; None where it is not known to be without gaps."""
    step: int = 1
    process: int = 0
    """Which of the task's processes, from 0."""
    processes: int = 1
    usual_first: int = 0
    """The number that arrays of this scheduler begin with by custom."""
    num_shares: int | None = None
    """As the user gives it."""

    def of_run(self, numbering: Mapping[str, int] | None) -> Shard:
        """This process's share of a run that remembers how it is shared, or of a new one (None).

        A scheduler that was asked for the missing tasks only counts fewer than the run was begun with, so the run's
        own count holds; a count that the user gave holds always.

        Raises:
            ConfigError: The run has no share of this number, or nothing says how many there are.
        """
        submitted, given = self._of_submission(), self.num_shares
        if given is not None:
            if submitted is not None and submitted.count == given:
                return submitted
            if numbering is not None and numbering["count"] == given:
                return self._of_numbering(numbering)
            return self._of_usual_array(given)
        if submitted is not None and (numbering is None or numbering["count"] == submitted.count):
            return submitted
        if numbering is not None:
            return self._of_numbering(numbering)
        raise ConfigError(
            f"--shard auto: task {self.number} does not say how many tasks share the run, and the run does not "
            "remember it: begin with an array without gaps, or give the number as auto/N"
        )

    def _of_submission(self) -> Shard | None:
        """By the submission's own numbers, as if it were the whole run; None where they have gaps."""
        if self.first is None or self.count is None:
            return None
        index = (self.number - self.first) // self.step * self.processes + self.process
        return Shard(index, self.count * self.processes, self.first, self.step, self.processes)

    def _of_numbering(self, numbering: Mapping[str, int]) -> Shard:
        """By the numbers that the run was begun with."""
        run = Shard.first_of(numbering)
        if run.processes != self.processes:
            raise ConfigError(
                f"this run was begun with {run.processes} processes for each task number, and here there are "
                f"{self.processes}: submit it alike, or say how the rest is shared with --shard I/N"
            )
        steps, rest = divmod(self.number - run.first, run.step)
        index = steps * run.processes + self.process
        if rest or not 0 <= index < run.count:
            raise ConfigError(
                f"this run was begun with the tasks {run.task_numbers}, and this is task {self.number}: submit the "
                f"array {run.task_numbers} or a part of it, or say how the rest is shared with --shard I/N or auto/N"
            )
        return replace(run, index=index)

    def _of_usual_array(self, count: int) -> Shard:
        """By the number alone, in an array of so many shares that begins where this scheduler's usually do."""
        index = (self.number - self.usual_first) * self.processes + self.process
        shard = Shard(index, count, self.usual_first, processes=self.processes)
        if not 0 <= index < count:
            raise ConfigError(
                f"--shard auto/{count}: task {self.number} is outside {shard.task_numbers}: submit the array "
                f"{shard.task_numbers} or a part of it, or give another N"
            )
        return shard


def parse_shard(text: str, environ: Mapping[str, str] = os.environ) -> Shard | ArrayTask:
    """The share that `I/N` names, or for `auto` and `auto/N` what the scheduler's variables say (docs/cluster.md).

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
        return replace(task, num_shares=count)
    if "SLURM_PROCID" not in environ:
        raise ConfigError(
            f"--shard {text} reads from the scheduler which task this is, and no variable of Slurm, SGE, PBS or LSF "
            "says so here: submit the job as an array, or give --shard I/N"
        )
    process, processes = _process(environ)  # of a job that is no array: its processes are always all there
    if process >= (count or processes):
        raise ConfigError(f"--shard {text}: this is process {process} (from 0) of {processes}: start {count} with srun")
    return Shard(process, count or processes)


def is_batch_job(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a batch scheduler started this process, or the shell that it is in."""
    return any(name in environ for name in ("SLURM_JOB_ID", "SGE_TASK_ID", "PBS_JOBID", "LSB_JOBID"))


def task_list(numbers: Iterable[int]) -> str:
    """Numbers as the array options of schedulers take them, such as `0-3,5,7-9`; empty for none."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in runs)


def _slurm(environ: Mapping[str, str]) -> ArrayTask | None:
    number = _number(environ, "SLURM_ARRAY_TASK_ID")
    if number is None:
        return None
    count = _number(environ, "SLURM_ARRAY_TASK_COUNT", least=1)
    first, last = (_number(environ, f"SLURM_ARRAY_TASK_{which}") for which in ("MIN", "MAX"))
    process, processes = _process(environ)
    if first is None or last is None or count != last - first + 1:
        return ArrayTask(number, process=process, processes=processes)
    _check_between("SLURM_ARRAY_TASK_ID", number, first, last)
    return ArrayTask(number, first, count, process=process, processes=processes)


def _process(environ: Mapping[str, str]) -> tuple[int, int]:
    """Which process of how many that srun started; a batch script has the variables too, but is alone."""
    processes = _number(environ, "SLURM_NTASKS", least=1) or 1
    if "SLURM_STEP_ID" not in environ or processes == 1:
        return 0, 1
    process = _number(environ, "SLURM_PROCID") or 0
    _check_between("SLURM_PROCID", process, 0, processes - 1)
    return process, processes


def _sge(environ: Mapping[str, str]) -> ArrayTask | None:
    if environ.get("SGE_TASK_ID") == "undefined":  # a job that is no array
        return None
    number = _number(environ, "SGE_TASK_ID", least=1)
    if number is None:
        return None
    first, last, step = (_number(environ, f"SGE_TASK_{which}", least=1) for which in ("FIRST", "LAST", "STEPSIZE"))
    if first is None or last is None:
        return ArrayTask(number, usual_first=1)
    _check_between("SGE_TASK_ID", number, first, last)
    return ArrayTask(number, first, (last - first) // (step or 1) + 1, step or 1, usual_first=1)


def _pbs(environ: Mapping[str, str]) -> ArrayTask | None:
    for name in ("PBS_ARRAY_INDEX", "PBS_ARRAYID"):  # PBS Professional and OpenPBS; Torque
        number = _number(environ, name)
        if number is not None:
            return ArrayTask(number)
    return None


def _lsf(environ: Mapping[str, str]) -> ArrayTask | None:
    number = _number(environ, "LSB_JOBINDEX")
    if not number:  # 0 is a job that is no array
        return None
    last, step = (_number(environ, f"LSB_JOBINDEX_{which}", least=1) for which in ("END", "STEP"))
    if last is None:
        return ArrayTask(number, usual_first=1)
    _check_between("LSB_JOBINDEX", number, 1, last)
    return ArrayTask(number, 1, (last - 1) // (step or 1) + 1, step or 1, usual_first=1)


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
