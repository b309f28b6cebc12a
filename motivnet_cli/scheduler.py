"""Which share of a run is this process's: as given, or as a batch scheduler numbers its tasks.

It knows the environment variables of schedulers and nothing of outputs.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` shares of a run."""

    index: int
    """From 0."""
    count: int
    first: int = 0
    """The scheduler's number of share 0."""
    is_auto: bool = False
    """Read from a scheduler's variables, which count only the tasks of one submission."""

    def __str__(self) -> str:
        return f"{self.index} of {self.count} (from 0)"

    @property
    def about_all(self) -> dict[str, int]:
        """What a run remembers of how it is shared."""
        return {"count": self.count, "first": self.first}

    def of_run(self, shards: Mapping[str, int] | None) -> Shard:
        """This task's share of a run that was begun with so many.

        A scheduler that was asked for the missing tasks only counts fewer than the run was begun with, so the run's
        own count holds; a count that the user gave holds always.

        Raises:
            ConfigError: The run has no share of this number.
        """
        if shards is None or not self.is_auto:
            return self
        task, count, first = self.index + self.first, shards["count"], shards["first"]
        if not first <= task < first + count:
            raise ConfigError(
                f"this run was begun with {count} tasks, numbered from {first}, and this is task {task}: submit "
                f"--array={first}-{first + count - 1} or a part of it, or say how the rest is shared with --shard I/N"
            )
        return Shard(task - first, count, first, is_auto=True)


def parse_shard(text: str, environ: Mapping[str, str] = os.environ) -> Shard:
    """The share that `I/N` names, or for `auto` the batch scheduler's variables.

    Raises:
        ConfigError: It is neither, or no scheduler says which.
    """
    if text == "auto":
        task, count = environ.get("SLURM_ARRAY_TASK_ID"), environ.get("SLURM_ARRAY_TASK_COUNT")
        first = int(environ.get("SLURM_ARRAY_TASK_MIN", "0"))
        if task is None or count is None:
            raise ConfigError("--shard auto reads which task this is from a scheduler, and none says so here")
        return Shard(int(task) - first, int(count), first, is_auto=True)
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise ConfigError(f"--shard takes I/N with I from 0 to N - 1, or auto, got {text!r}")
    return Shard(int(found[1]), int(found[2]))
