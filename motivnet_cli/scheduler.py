"""Which share of a run is this process's: as given, or as a batch scheduler numbers its tasks.

It knows the environment variables of schedulers and nothing of outputs.
"""

from __future__ import annotations

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
