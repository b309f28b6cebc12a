"""What a run asks of its output: files that last (`sink.Output`) or a pipe (`stream.StreamOutput`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from typing_extensions import Self

    from motivnet_cli.config import OutputConfig
    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.records import Batch, OutputSummary, Prediction, RunState, Todo
    from motivnet_cli.shards import Shard


class RunPart(Protocol):
    """One process's part of a run: gives out what is to do, and takes in the rows."""

    def rounds(self, stop: Callable[[], bool]) -> Iterator[Iterator[Todo]]:
        """What is to do, in plan order; more than once where others may leave something undone.

        Args:
            stop: Asked while others are waited for.
        """

    def write(self, batch: Batch, prediction: Prediction | None) -> None:
        """Take the rows of a batch; batches come in plan order."""


class OpenRun(RunPart, Protocol):
    """A run that has been begun: its inputs are listed, and this process does some of it or all."""

    @property
    def num_items(self) -> int:
        """Items of this process's share; 0 where they are counted as they come."""

    @property
    def num_resumed(self) -> int:
        """Of these, those that were done before."""

    @property
    def skipped(self) -> Mapping[str, int]:
        """What the listing passed over: kind -> count."""

    @property
    def shard(self) -> Shard | None:
        """This process's share; None where it does the whole run."""

    @property
    def worker_config(self) -> OutputConfig:
        """The settings with which other processes on this machine find the run."""

    def complete(self) -> RunState:
        """Commit what is reached, and put the output in its place if nothing is missing.

        Returns:
            `finished`, `share_done`, or `stopped` if something of this process's share is not done.
        """

    def summary(self) -> OutputSummary:
        """What the output holds by now; of a shard, while others are not done, what that shard holds."""


class RunOutput(Protocol):
    """Where a run's rows go, open for this process."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...

    def finished_before(self, listing: Listing | None = None) -> OutputSummary | None:
        """What the output holds, if every input was done and in its place before; None if there is something to do.

        Args:
            listing: What the inputs are now, to say what is new or changed.
        """

    def begin(self, listing: Listing | None) -> OpenRun:
        """Freeze the plan, if none is frozen yet: only then is the listing asked.

        Args:
            listing: None where the inputs cannot be listed now, which only a run with a plan goes on without.

        Raises:
            ConfigError: The listing holds nothing.
        """
