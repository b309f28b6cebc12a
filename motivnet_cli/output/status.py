"""How far an output is, without locks."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from motivnet_cli.errors import ConfigError
from motivnet_cli.output.ledger import Ledger
from motivnet_cli.output.place import TABLES, OutputPaths
from motivnet_cli.output.read import place_to_read, record_in
from motivnet_cli.shards import Shard, first_of, task_list

if TYPE_CHECKING:
    from pathlib import Path

STATUS_ATTEMPTS = 20
"""How often an output is looked at that changes its form meanwhile, which each run does a few times."""
STATUS_SECONDS = 0.1


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
    place = place_to_read(path)
    for _ in range(STATUS_ATTEMPTS):
        before = place.fingerprint()
        with contextlib.suppress(FileNotFoundError):  # the last process has just put the output in its place
            status = _status_of(place, shards)
            if place.fingerprint() == before:
                return status
        time.sleep(STATUS_SECONDS)
    raise ConfigError(f"{place.given!r} changes faster than it can be read: ask again")


def _status_of(place: OutputPaths, num_shards: int | None) -> OutputStatus:
    store = place.store
    run, finals = Ledger(place.work, place.parts, store), store.fetch_all(place.final_parts("inputs"), anew=True)
    if not run.exists():
        if not finals:
            expected = store.name_of(place.final_name("inputs"))
            why = "its inputs are not listed yet" if store.has(place.work) else f"expected {expected}"
            raise ConfigError(f"no motivnet output at {place.given!r}; {why}")
        if "settings" not in record_in(finals[0]):
            raise ConfigError(f"{place.given!r} was not written by motivnet")
    finished = place.is_complete() and (place.is_file or run.is_finished) and not (place.work / "moves.json").exists()
    parts = {table: place.final_parts(table) if finished else run.committed(table) for table in TABLES}
    num_items, failed, num_faces = 0, 0, 0
    for part in store.fetch_all(parts["inputs"]):
        rows = pq.read_table(part, columns=["archive", "status", "faces"])
        num_items += rows["archive"].null_count
        num_faces += sum(rows["faces"].to_pylist())
        failed += sum(row["counts"] for row in rows["status"].value_counts().to_pylist() if row["values"] == "failed")
    if not finished:
        run.read()  # after the parts: what they say is of inputs that are done
    amendment = Ledger(*place.amendment)
    return OutputStatus(
        finished=finished,
        inputs=num_items if finished else run.num_items,
        done=num_items if finished else run.num_done,
        failed=failed,
        # Where units are whole, the inputs say it, and nothing large is brought here.
        faces=num_faces if store.is_remote else sum(pq.read_metadata(part).num_rows for part in parts["faces"]),
        amending=(amendment.num_done, amendment.num_items) if amendment.exists() else None,
        shards=() if finished else _shards_of(run, num_shards),
    )


def _shards_of(run: Ledger, count: int | None) -> tuple[ShardStatus, ...]:
    if run.shards is None and count is None:
        return ()
    first = Shard(0, count or 0) if run.shards is None else first_of(run.shards)
    if count is not None and count != first.count:
        first = Shard(0, count, first.first)
    shards = (dataclasses.replace(first, index=index) for index in range(first.count))
    return tuple(
        ShardStatus(
            shard.index,
            shard.number,
            run.done_in(run.units[shard.index :: shard.count]),
            run.items_in(run.units[shard.index :: shard.count]),
        )
        for shard in shards
    )
