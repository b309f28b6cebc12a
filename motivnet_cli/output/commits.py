"""How the files of a part get their names, so that all of its rows are of one process.

On a disk, who works on a unit holds its lock: first the faces get their name, then the inputs. In an object store there
are no locks, and two processes may work on one unit by accident: a task that was given up for dead goes on, or a run is
started twice. There a part is settled by what a store can decide, which is who of several is the first to make an
object:

1. `pending/part-U-S-ATTEMPT.pq` in the working folder: the inputs, under a name that no other attempt has.
2. `faces/part-U-S.parquet`, unless it is there. Its footer names the object of step 1. From here on the part is
   decided: its faces and inputs are those of this attempt, whoever takes the next steps.
3. `inputs/part-U-S.parquet` or `-end.parquet`, the marker, unless it is there: a copy of the object of step 1.
4. The object of step 1 is removed.

Who finds faces in step 2 takes steps 3 and 4 for them, gives its own rows of that unit up, and may take the unit again
from its last marker. So does who takes a unit that has pending objects: a process may have died between 2 and 4. One
that dies before 2 leaves an object that no faces name; it goes when the run ends. No part is ever replaced: however
late a process goes on, it changes nothing that others have seen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from motivnet_cli.durable import durably
from motivnet_cli.errors import OutputConflictError
from motivnet_cli.output.counts import Counts
from motivnet_cli.output.damage import reading
from motivnet_cli.output.names import TABLES, parts_begin, segment_of
from motivnet_cli.output.tables import TableWriter
from motivnet_cli.records import Cursor, LeftOut, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pyarrow as pa

    from motivnet_cli.output.backend import Backend
    from motivnet_cli.output.names import RunFiles

_CURSOR_KEY = b"motivnet.reached"
"""In the metadata of an inputs part: from where its unit goes on."""
_ATTEMPT_KEY = b"motivnet.attempt"
"""In the metadata of faces in an object store, in JSON: the name of their `pending` inputs, and the run's `plan`."""


def write_part(
    finals: Mapping[str, Path],
    tables: Mapping[str, pa.Table],
    reached: Cursor,
    settle: Callable[[Mapping[str, Path]], None],
    *,
    about_faces: Mapping[bytes, bytes] | None = None,
) -> None:
    """Write a part: the faces get their name first, and then the inputs, which mark them as done.

    Args:
        finals: The names of both tables' files.
        reached: From where the unit goes on after it.
        settle: Called with both files before they have their names; what it raises leaves them without.
        about_faces: Further metadata of the faces.
    """
    about = {
        "faces": dict(about_faces or {}),
        "inputs": {_CURSOR_KEY: json.dumps(dataclasses.astuple(reached)).encode()},
    }
    counts = Counts()
    with contextlib.ExitStack() as stack:
        files = {}
        for table in reversed(TABLES):  # the first to be entered is the last to get its name
            finals[table].parent.mkdir(exist_ok=True)
            files[table] = stack.enter_context(durably(finals[table]))
        for table in TABLES:
            rows = tables[table].replace_schema_metadata({**(tables[table].schema.metadata or {}), **about[table]})
            with TableWriter(files[table], rows.schema, counts) as writer:
                writer.add(rows)
        settle(files)


def cursor_in(footer: pq.FileMetaData) -> Cursor:
    """How far the unit of a part of the inputs is, by what its file says.

    Raises:
        ValueError, LookupError, TypeError: It says nothing of that.
    """
    (item, step), num_frames, num_faces, num_lost, *more = json.loads(footer.metadata[_CURSOR_KEY])
    left_out = more[0] if more else []  # of which former versions say nothing
    counts = num_frames, num_faces, num_lost
    if not all(type(count) is int and count >= 0 for count in (item, step, *counts, *left_out)):
        raise ValueError("it says nothing of how far its unit is")
    return Cursor(Position(item, step), *counts, LeftOut(*left_out))


class TakenError(Exception):
    """Another process has written the part of this number."""


class Contest:
    """Commits parts of a run in an object store, where other processes may commit parts of the same units.

    Args:
        plan: The name of the run's plan: parts of another run are not taken for parts of this one.
        end_of: The first item after a unit.
    """

    def __init__(self, files: RunFiles, backend: Backend, plan: str, end_of: Callable[[int], int]) -> None:
        self._files = files
        self._backend = backend
        self._plan = plan
        self._end_of = end_of

    def write_part(
        self, unit: int, segment: int, finals: Mapping[str, Path], tables: Mapping[str, pa.Table], reached: Cursor
    ) -> None:
        """As the module's `write_part`.

        Raises:
            TakenError: Another process was first, and its part is there.
            OutputConflictError: What is there is none of this run, or a part of it is gone.
        """
        pending = self._files.pending_part(unit, segment, secrets.token_hex(8))

        def settle(files: Mapping[str, Path]) -> None:
            self._backend.publish(pending, files["inputs"])
            is_first = self._backend.create(finals["faces"], files["faces"])
            # It is not where the store has made the object and its answer was lost.
            if not is_first and self._end_other(unit, segment) != pending.name:
                self._backend.remove([pending])
                raise TakenError
            self._backend.create(finals["inputs"], files["inputs"])
            self._backend.remove([pending])

        attempt = json.dumps({"pending": pending.name, "plan": self._plan}).encode()
        write_part(finals, tables, reached, settle, about_faces={_ATTEMPT_KEY: attempt})

    def end_others(self, unit: int) -> None:
        """Give their markers to parts whose faces are there, and whose process may have died before it could.

        Raises:
            OutputConflictError: What is there is none of this run.
        """
        for name in self._backend.names(self._files.pending, parts_begin(unit)):
            self._end_other(unit, segment_of(name))

    def _end_other(self, unit: int, segment: int) -> str | None:
        """End the part that another process has begun, if it has written the faces, and not ended it itself.

        Returns:
            The name of the attempt's pending inputs; None if there are no faces.
        """
        faces = self._files.part("faces", unit, segment)
        try:
            footer = self._backend.footer(faces)
        except FileNotFoundError:
            return None
        with reading(f"the file {self._backend.name_of(faces)!r}"):
            about = json.loads(footer.metadata[_ATTEMPT_KEY])
            name, plan = str(about["pending"]), about["plan"]
            if "/" in name or not name.startswith(parts_begin(unit)) or segment_of(name) != segment:
                raise ValueError(f"it cannot be of {name!r}")
        if plan != self._plan:
            raise OutputConflictError(
                f"{self._backend.name_of(faces)!r} is of another run than the one that is there now: "
                "start anew with --overwrite"
            )
        pending = self._files.pending / name
        if self._backend.fetch(pending):
            with reading(f"the file {self._backend.name_of(pending)!r}"):
                reached = cursor_in(pq.read_metadata(pending))
            is_last = reached.position.item >= self._end_of(unit)
            self._backend.create(self._files.part("inputs", unit, segment, is_last=is_last), pending)
            self._backend.remove([pending])
        return name
