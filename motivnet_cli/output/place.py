"""Where the files of an output lie, and how several of them are renamed as one step."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli.durable import TemporaryFolder, durably, sync
from motivnet_cli.errors import ConfigError, OutputConflictError
from motivnet_cli.output.ledger import is_part
from motivnet_cli.output.mirror import Folder, Mirror
from motivnet_cli.remote.urls import display_name, is_remote

if TYPE_CHECKING:
    from collections.abc import Sequence


TABLES = ("faces", "inputs")


class OutputPaths:
    """The files of one output: what the user sees, and the working folder behind it."""

    def __init__(self, path: str, staging: str | None = None) -> None:
        self.given = display_name(path) if is_remote(path) else path
        self.path = Path(path)
        is_bucket = is_remote(path) and "/" not in path.partition("://")[2].rstrip("/")
        suffix = "" if is_bucket else self.path.suffix
        self.is_file = suffix == ".parquet"
        if not self.is_file and suffix and not self.path.is_dir() and not path.endswith(os.sep):
            raise ConfigError(
                f"cannot write {suffix!r} files: {self.given!r}; --out takes a name ending in .parquet, "
                "or a folder (end it with / if its name has a dot)"
            )
        self.store = Folder()
        self.staging: Path | None = None
        """The folder that stands for the object store."""
        if is_remote(path):
            self._mirror(path.rstrip("/"), staging)
        self.work = Path(f"{self.path}.work") if self.is_file else self.path / ".motivnet"
        """Holds the frozen plan and the lock; for a single file also the parts. Gone when a file is finished."""
        self.parts = self.work if self.is_file else self.path
        """Where the parts of the run lie, in `faces/` and `inputs/`."""

    def _mirror(self, url: str, staging: str | None) -> None:
        """Have a folder here stand for the object store."""
        temporary = None
        if staging is None:
            temporary = TemporaryFolder()
            staging = str(temporary.path)
        self.staging = Path(staging)
        self.path = self.staging / (self.path.name if self.is_file else "out")
        local = self.staging if self.is_file else self.path
        # The store keeps the folder, since who takes part in a run knows no more of the place.
        self.store = Mirror(url.removesuffix(self.path.name) if self.is_file else url, local, temporary)

    @property
    def amendment(self) -> tuple[Path, Path]:
        """The folders of a run that amends this output, as `Ledger` takes them."""
        return self.work / "amend", self.work / "amend"

    def final_name(self, table: str) -> Path:
        if not self.is_file:
            return self.path / table
        return self.path if table == "faces" else self.path.with_suffix(".inputs.parquet")

    def final_parts(self, table: str) -> list[Path]:
        """The files of a table as readers see them; empty before anything is committed."""
        final = self.final_name(table)
        if self.is_file:
            return [final] if self.store.has(final) else []
        return [final / name for name in self.store.names(self.path / "inputs") if is_part(name)]

    def prepare(self) -> None:
        """Make the working folder, unless something that is not ours is in the way."""
        if self.store.is_remote:
            self._refuse_others_objects()
        shown = self.given
        if self.is_file and self.path.is_dir():
            raise OutputConflictError(f"{shown!r} is a folder; give --out the name of a file in it")
        if not self.is_file and self.path.is_file():
            raise OutputConflictError(f"{shown!r} is a file; --out takes a name ending in .parquet, or a folder")
        if not self.is_file and self.path.is_dir() and not self.work.exists() and any(self.path.iterdir()):
            raise OutputConflictError(f"the folder {shown!r} holds other files; give --out a new or empty folder")
        self._is_new = not self.path.exists()
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot write at {shown!r} ({error.strerror}); choose another --out") from error

    def clear(self) -> None:
        """Remove an earlier output, whole or half, but nothing else."""
        if self.is_file:
            for table in ("inputs", "faces"):
                self.store.remove([self.final_name(table)])
        if self.store.is_remote:
            run = self.work / "run.json"
            if self.store.fetch(run):  # until it is gone, what is left of it may go on, but is not finished
                run.write_text(json.dumps(json.loads(run.read_text()) | {"finished": False}))
                self.store.publish(run)
            self._remove_objects(self._parts_there(), [run], self._plans_there())
            return
        (self.work / "run.json").unlink(missing_ok=True)
        for folder in (self.parts / "inputs", self.parts / "faces", self.work / "amend"):
            shutil.rmtree(folder, ignore_errors=True)
        (self.work / "moves.json").unlink(missing_ok=True)

    def leave(self) -> None:
        """Remove the working folder where nothing in it is needed to go on."""
        if self.store.is_remote:
            if self.is_file and self.is_complete():
                self._remove_objects([self.work / "run.json"], self._parts_there(), self._plans_there())
            return
        is_needed = self.work / ("amend" if self.is_file and self.is_complete() else "") / "run.json"
        if not is_needed.exists() and not (self.work / "moves.json").exists():
            shutil.rmtree(self.work, ignore_errors=True)
            if self._is_new and not self.is_file:
                with contextlib.suppress(OSError):
                    self.path.rmdir()

    def is_complete(self) -> bool:
        """Whether readers find both tables in their place."""
        return all(self.store.has(self.final_name(table)) for table in ("faces", "inputs"))

    def _refuse_others_objects(self) -> None:
        if self.is_file and self.store.names(self.path):
            raise OutputConflictError(f"{self.given!r} is a folder; give --out the name of a file in it")
        # In this order: of a run that another process begins meanwhile, run.json comes before any part.
        there = self.store.names(self.work if self.is_file else self.path)
        if self.store.has(self.work / "run.json"):
            return
        if self.is_file:
            if there:  # the end of a run was interrupted
                self._remove_objects(self._parts_there())
        elif any(self._is_others(name) for name in there):
            raise OutputConflictError(f"{self.given!r} holds other objects; give --out a new or empty prefix")

    def _is_others(self, name: str) -> bool:
        """Empty folders, which only some stores have, are nobody's."""
        is_folder = name.endswith("/")
        return name != f"{self.work.name}/" and (not is_folder or bool(self.store.names(self.path / name)))

    def _remove_objects(self, *in_this_order: Sequence[Path]) -> None:
        for paths in in_this_order:
            self.store.remove(paths)

    def _parts_there(self) -> list[Path]:
        """The markers first."""
        folders = [self.parts / table for table in ("inputs", "faces")]
        return [folder / name for folder in folders for name in self.store.names(folder) if is_part(name)]

    def _plans_there(self) -> list[Path]:
        return [self.work / name for name in self.store.names(self.work) if re.fullmatch(r"plan-\w+\.jsonl", name)]

    def fingerprint(self) -> list[tuple[int | None, int | None] | None]:
        """What tells whether the output was put in its place, amended or begun anew between two looks."""
        files = [self.final_name(table) for table in TABLES]
        files += [self.work / name for name in ("run.json", "moves.json", "amend/run.json")]
        return [self.store.version(path) for path in files]


Moved = tuple[Path, Path]


def move(work: Path, moves: list[Moved]) -> None:
    """Rename several files as one step: written down first, so that a killed process's next start ends it."""
    with durably(work / "moves.json") as temporary:
        temporary.write_text(json.dumps([(str(source), str(final)) for source, final in moves]))
    finish_moves(work)


def finish_moves(work: Path) -> None:
    journal = work / "moves.json"
    if not journal.exists():
        return
    moves = [(Path(source), Path(final)) for source, final in json.loads(journal.read_text())]
    for source, final in moves:
        if source.exists():
            source.replace(final)
    for folder in {final.parent for _, final in moves}:
        sync(folder)
    journal.unlink()
