"""How far an output is, without locks."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError
from motivnet_cli.output.counts import Counts
from motivnet_cli.output.ledger import Ledger
from motivnet_cli.output.names import TABLES
from motivnet_cli.output.read import paths_to_read, record_in
from motivnet_cli.shards import Shard, task_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from motivnet_cli.output.paths import OutputPaths
    from motivnet_cli.records import FaceSource

MAX_ATTEMPTS = 20
"""How often an output is looked at that changes its form meanwhile, which each run does a few times."""
RETRY_SECONDS = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class ShardStatus:
    """How far one share of a run is."""

    index: int
    number: int
    """The scheduler's."""
    done: int
    inputs: int


@dataclasses.dataclass(frozen=True, slots=True)
class OutputStatus:
    """How far an output is. An archive is one input here, whatever it holds."""

    finished: bool
    """Everything is done and in its place."""
    inputs: int
    done: int
    failed: int
    """Of what is done; the failed members of archives count, too."""
    faces: int
    amending: tuple[int, int] | None
    """Inputs done and in all of an `--extend` or `--retry-failed` that has not ended; None where there is none."""
    shards: tuple[ShardStatus, ...]
    """Of a run that is shared and not finished."""
    face_sources: dict[FaceSource, int]
    """Faces by how they were found."""
    lost: tuple[str, ...] = ()
    """Files that were written and are gone; what is in the others is counted."""

    @property
    def missing(self) -> int:
        return self.inputs - self.done

    @property
    def array(self) -> str:
        """Which of the scheduler's tasks to submit again; one to put the output in its place, if that is all."""
        numbers = [shard.number for shard in self.shards if shard.done < shard.inputs]
        return task_list(numbers or [shard.number for shard in self.shards[:1]])


def output_status(path: str | Path, *, shards: int | None = None) -> OutputStatus:
    """What is done of an output and what is not, read without locks: right at some moment of this call.

    Args:
        shards: Look at it as this many shares, however many it was begun with.

    Raises:
        ConfigError: No output of motivnet is there, or none has been begun yet.
    """
    if shards is not None and shards < 1:
        raise ConfigError(f"--shards: a run has at least 1, got {shards}")
    paths = paths_to_read(path)
    for _ in range(MAX_ATTEMPTS):
        before = paths.fingerprint()
        with contextlib.suppress(FileNotFoundError):  # the last process has just put the output in its place
            status = _status_of(paths, shards)
            if paths.fingerprint() == before:
                return status
        time.sleep(RETRY_SECONDS)
    raise ConfigError(f"{paths.given!r} changes faster than it can be read: ask again")


def _status_of(paths: OutputPaths, num_shards: int | None) -> OutputStatus:
    """How far an output is.

    Raises:
        FileNotFoundError: It changed its form meanwhile.
    """
    ledger = Ledger.find(paths.run, paths.backend)
    if ledger is None:
        _check_is_output(paths)
    lost = [] if ledger is None else ledger.lost_parts()
    if paths.is_finished(None if ledger is None else ledger.run) and not paths.run.journal.exists():
        counts = _sum_of(paths, {table: paths.final_parts(table) for table in TABLES}, lost)
        num_items = num_done = counts.items
        shards: tuple[ShardStatus, ...] = ()
        is_finished = True
    elif ledger is not None:
        counts = _sum_of(paths, {table: ledger.committed(table) for table in TABLES}, lost)
        if not ledger.refresh():  # after the parts: what they say is of inputs that are done
            raise FileNotFoundError(paths.run.about)
        num_items, num_done = ledger.num_items, ledger.num_done
        shards = _shards_of(ledger, num_shards)
        is_finished = False
    else:
        raise FileNotFoundError(paths.run.about)
    amendment = Ledger.find(paths.run.amendment, paths.backend)
    return OutputStatus(
        finished=is_finished,
        inputs=num_items,
        done=num_done,
        failed=counts.status["failed"],
        faces=counts.faces,
        amending=None if amendment is None else (amendment.num_done, amendment.num_items),
        shards=shards,
        face_sources=counts.face_sources,
        lost=tuple(map(paths.backend.name_of, lost)),
    )


def _check_is_output(paths: OutputPaths) -> None:
    """Refuse what is no output of motivnet, or none yet."""
    finals = paths.final_parts("inputs")
    if not finals:
        expected = paths.backend.name_of(paths.final_name("inputs"))
        why = "its inputs are not listed yet" if paths.backend.has(paths.work) else f"expected {expected}"
        raise ConfigError(f"no motivnet output at {paths.given!r}; {why}")
    with paths.backend.open(finals[0]) as file:
        if "settings" not in record_in(file):
            raise ConfigError(f"{paths.given!r} was not written by motivnet: name what --out named")


def _sum_of(paths: OutputPaths, parts: Mapping[str, Sequence[Path]], lost: Sequence[Path]) -> Counts:
    """What the parts come to of which both files are there."""
    total = Counts()
    gone = set(lost)
    whole = [pair for pair in zip(*(parts[table] for table in TABLES), strict=True) if gone.isdisjoint(pair)]
    for _, counts in paths.counts({table: [pair[number] for pair in whole] for number, table in enumerate(TABLES)}):
        total += counts
    return total


def _shards_of(ledger: Ledger, count: int | None) -> tuple[ShardStatus, ...]:
    shards = ledger.run.shards
    if shards is None and count is None:
        return ()
    first = Shard(0, count or 0) if shards is None else Shard.first_of(shards)
    if count is not None and count != first.count:
        first = Shard(0, count, first.first)
    return tuple(
        ShardStatus(
            index, dataclasses.replace(first, index=index).number, ledger.done_in(units), ledger.items_in(units)
        )
        for index, units in ((index, ledger.units[index :: first.count]) for index in range(first.count))
    )
