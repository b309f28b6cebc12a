"""Where the files of an output lie, on this machine or in an object store, and how several are renamed as one step."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli.durable import TemporaryFolder, durably, sync, temporary_name
from motivnet_cli.errors import ConfigError, OutputConflictError
from motivnet_cli.output.backend import LocalFolder, ObjectStoreMirror
from motivnet_cli.output.counts import read_counts, written_counts
from motivnet_cli.output.damage import reading
from motivnet_cli.output.ledger import read_run, write_run
from motivnet_cli.output.names import TABLES, RunFiles, faces_of, inputs_beside, is_part, place_of
from motivnet_cli.output.written import WrittenPaths
from motivnet_cli.remote.urls import display_name, is_remote, local_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from motivnet_cli.output.backend import Backend, Version
    from motivnet_cli.output.counts import Counts
    from motivnet_cli.output.ledger import Run


def output_paths(path: str, staging: str | None = None) -> OutputPaths:
    """The files of the output at a path or URL.

    Args:
        staging: The folder that stands for the object store, where another process has made it.

    Raises:
        ConfigError: The name has an ending of another format, or the store cannot be used.
    """
    path = local_path(path)
    return StoredPaths(path, staging) if is_remote(path) else LocalPaths(path)


class OutputPaths(ABC):
    """The files of one output: what the user sees, and the working folder behind it.

    Args:
        given: The path or URL as the user gave it, without secrets.
        path: The file or folder here.
    """

    staging: Path | None = None
    """The folder that stands for the object store."""

    def __init__(self, given: str, path: Path, backend: Backend, *, is_file: bool) -> None:
        self.given = given
        self.path = path
        self.is_file = is_file
        self.backend = backend
        self.run = RunFiles.at(path, is_file=is_file)
        self.work = self.run.control
        """The working folder; for a single file it also holds the parts, and is gone when the file is finished."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the working folder.

        Raises:
            OutputConflictError: Something that is not an output of motivnet is in the way.
            ConfigError: Nothing can be written there.
        """

    @abstractmethod
    def check_amendable(self, option: str) -> None:
        """Refuse to amend an output that lies where it cannot be done.

        Raises:
            ConfigError: It is in an object store.
        """

    @abstractmethod
    def clear(self) -> None:
        """Remove an earlier output, whole or half, but nothing else."""

    @abstractmethod
    def leave(self) -> None:
        """Remove the working folder where nothing in it is needed to go on."""

    def written(self) -> WrittenPaths:
        """What a run writes here, or replaces with `clear`."""
        paths = [*map(self.final_name, TABLES), *map(self.run.table, TABLES), self.work]
        if self.staging is None:
            return WrittenPaths(self.given, paths)
        return WrittenPaths(self.given, (), map(self.backend.name_of, paths))

    def counts(self, parts: Mapping[str, Sequence[Path]]) -> Iterator[tuple[Path, Counts]]:
        """Files of the inputs that are there, and what each comes to with its faces.

        Args:
            parts: Of each table, in the same order. Rows are read where the inputs do not say what they come to.
        """
        pairs = dict(zip(parts["inputs"], parts["faces"], strict=True))
        for inputs, (is_there, said) in zip(pairs, self.backend.each(self._said, list(pairs)), strict=True):
            counts = said
            if is_there and counts is None and self.backend.fetch_all([inputs, pairs[inputs]], anew=True):
                counts = read_counts(inputs, pairs[inputs])
            if counts is not None:
                yield inputs, counts

    def _said(self, inputs: Path) -> tuple[bool, Counts | None]:
        """Whether a file of inputs is there, and what it says that it comes to."""
        try:
            with reading(f"the file {self.backend.name_of(inputs)!r}"):
                return True, written_counts(self.backend.footer(inputs))
        except FileNotFoundError:
            return False, None

    def final_name(self, table: str) -> Path:
        if not self.is_file:
            return self.run.table(table)
        return self.path if table == "faces" else inputs_beside(self.path)

    def final_parts(self, table: str) -> list[Path]:
        """The files of a table as readers see them; empty before anything is committed."""
        final = self.final_name(table)
        if self.is_file:
            return [final] if self.backend.has(final) else []
        names = sorted(filter(is_part, self.backend.names(self.run.table("inputs"))), key=place_of)
        return [final / (faces_of(name) if table == "faces" else name) for name in names]

    def final_like(self, path: Path) -> Path:
        """The file of this output that has the name of a path, and lies in the same table.

        Raises:
            ValueError: There can be none.
        """
        for table in TABLES:
            final = self.final_name(table)
            if self.is_file and path.name == final.name:
                return final
            if not self.is_file and is_part(path.name) and path.parent.name == final.name:
                return final / path.name
        raise ValueError(f"{path} is no file of this output")

    def is_complete(self) -> bool:
        """Whether readers find both tables in their place."""
        return all(self.backend.has(self.final_name(table)) for table in TABLES)

    def is_finished(self, run: Run | None) -> bool:
        """Whether every input is done and in its place, given what is known of the run."""
        return self.is_complete() and (self.is_file or (run is not None and run.is_finished))

    def fingerprint(self) -> list[Version | None]:
        """What tells whether the output was put in its place, amended or begun anew between two looks."""
        files = [self.final_name(table) for table in TABLES]
        files += [self.run.about, self.run.journal, self.run.amendment.about]
        return [self.backend.version(path) for path in files]


class LocalPaths(OutputPaths):
    """An output on this machine, or on a disk that several machines share."""

    def __init__(self, path: str) -> None:
        super().__init__(path, Path(path), LocalFolder(), is_file=_names_a_file(path, path))
        self._is_new = False

    def prepare(self) -> None:
        if self.is_file and self.path.is_dir():
            raise OutputConflictError(f"{self.given!r} is a folder; give --out the name of a file in it")
        if not self.is_file and self.path.is_file():
            raise OutputConflictError(f"{self.given!r} is a file; --out takes a name ending in .parquet, or a folder")
        if not self.is_file and self.path.is_dir() and not self.work.exists() and any(self.path.iterdir()):
            raise OutputConflictError(f"the folder {self.given!r} holds other files; give --out a new or empty folder")
        self._is_new = not self.path.exists()
        make_folder(self.work, self.given)

    def check_amendable(self, option: str) -> None:
        pass

    def clear(self) -> None:
        if self.is_file:
            self.backend.remove(map(self.final_name, reversed(TABLES)))
        self.run.about.unlink(missing_ok=True)
        for folder in map(self.run.table, reversed(TABLES)):
            self.backend.remove(folder / name for name in self.backend.names(folder) if is_part(name))
            with contextlib.suppress(OSError):  # it is not there, or holds files of the user's
                folder.rmdir()
        shutil.rmtree(self.run.amendment.control, ignore_errors=True)
        self.run.journal.unlink(missing_ok=True)

    def leave(self) -> None:
        if self.run.journal.exists():
            return
        if not self.run.amendment.about.exists():  # what is there is the rest of one that is done
            shutil.rmtree(self.run.amendment.control, ignore_errors=True)
        needed = self.run.amendment if self.is_file and self.is_complete() else self.run
        if not needed.about.exists() and (self.is_file or not self.final_parts("inputs")):
            with contextlib.suppress(OSError):
                self.run.about.unlink(missing_ok=True)  # first: of a run that is known, all parts are there
                shutil.rmtree(self.work, ignore_errors=True)
            if self._is_new and not self.is_file:
                with contextlib.suppress(OSError):
                    self.path.rmdir()


class StoredPaths(OutputPaths):
    """An output in an object store, with a folder here that stands for it."""

    def __init__(self, url: str, staging: str | None) -> None:
        given, key = display_name(url), url.partition("://")[2].rstrip("/")
        is_file = "/" in key and _names_a_file(url, given)  # else it is a whole bucket
        temporary = None
        if staging is None:
            temporary = TemporaryFolder()
            staging = str(temporary.path)
        self.staging = Path(staging)
        path = self.staging / (Path(url).name if is_file else "out")
        folder_url = url.rstrip("/").removesuffix(path.name) if is_file else url.rstrip("/")
        # The backend keeps the temporary folder, since who takes part in a run keeps nothing else of the output.
        backend = ObjectStoreMirror(folder_url, self.staging if is_file else path, temporary)
        super().__init__(given, path, backend, is_file=is_file)

    def prepare(self) -> None:
        self._refuse_foreign_objects()
        make_folder(self.work, self.given)

    def check_amendable(self, option: str) -> None:
        raise ConfigError(f"{option} works on an output on this machine: copy {self.given!r} here first")

    def clear(self) -> None:
        if self.is_file:
            for table in reversed(TABLES):
                self.backend.remove([self.final_name(table)])
        run = None
        with contextlib.suppress(OutputConflictError):  # it is damaged
            run = read_run(self.run, self.backend)
        if run is not None:  # until it is gone, what is left of it may go on, but is not finished
            write_run(self.run, self.backend, dataclasses.replace(run, is_finished=False))
        self._remove_in_order(self._parts(), [self.run.about], self._plans())

    def leave(self) -> None:
        if self.is_file and self.is_complete():
            self._remove_in_order([self.run.about], self._parts(), self._plans())

    def _refuse_foreign_objects(self) -> None:
        if self.is_file and self.backend.names(self.path):
            raise OutputConflictError(f"{self.given!r} is a folder; give --out the name of a file in it")
        # In this order: of a run that another process begins meanwhile, what is known of it comes before any part.
        there = self.backend.names(self.work if self.is_file else self.path)
        if self.backend.has(self.run.about):
            return
        if self.is_file:
            if there:  # the end of a run was interrupted
                self._remove_in_order(self._parts())
        elif any(map(self._is_foreign, there)):
            raise OutputConflictError(f"{self.given!r} holds other objects; give --out a new or empty prefix")

    def _is_foreign(self, name: str) -> bool:
        """Empty folders, which only some stores have, do not count."""
        is_folder = name.endswith("/")
        return name != f"{self.work.name}/" and (not is_folder or bool(self.backend.names(self.path / name)))

    def _remove_in_order(self, *groups: Sequence[Path]) -> None:
        for paths in groups:
            self.backend.remove(paths)

    def _parts(self) -> list[Path]:
        """The inputs first, without which faces do not count."""
        folders = map(self.run.table, reversed(TABLES))
        parts = [folder / name for folder in folders for name in self.backend.names(folder) if is_part(name)]
        return [*parts, *(self.run.pending / name for name in self.backend.names(self.run.pending))]

    def _plans(self) -> list[Path]:
        return [self.work / name for name in self.backend.names(self.work) if self.run.is_plan(name)]


def _names_a_file(path: str, given: str) -> bool:
    """Whether a path or URL names a single file, not a folder."""
    suffix = Path(path).suffix
    if suffix and suffix != ".parquet" and not Path(path).is_dir() and not path.endswith(os.sep):
        raise ConfigError(
            f"an output of annotate is a name ending in .parquet, or a folder (end it with / if its name has a dot), "
            f"got {given!r}"
        )
    return suffix == ".parquet"


def make_folder(folder: Path, given: str) -> None:
    """Make a folder for what a user named.

    Raises:
        ConfigError: The place is none for a folder.
        OSError: The machine is at fault, and the same place will do later.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in _PASSING:
            raise
        raise ConfigError(f"cannot write at {given!r} ({error.strerror}); choose another --out") from error


_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Faults of the machine, after which the same place will do."""


def move(paths: OutputPaths, finals: Iterable[Path]) -> None:
    """Give files of an output their names, from their temporary ones, as one step.

    They are synced, and it is written down, first, so that a killed process's next start ends it.
    """
    finals = list(finals)
    for final in finals:
        sync(temporary_name(final))
    with durably(paths.run.journal) as temporary:
        temporary.write_text(json.dumps([(str(temporary_name(final)), str(final)) for final in finals]))
    finish_moves(paths)


def finish_moves(paths: OutputPaths) -> None:
    """Do what is left of the renames that the journal lists, if there is one; an amendment ends with them.

    Raises:
        OutputConflictError: It is damaged, or names a file that is none of this output.
    """
    journal = paths.run.journal
    if not journal.exists():
        return
    try:
        # The names alone count: from another folder, a relative path leads elsewhere.
        finals = [paths.final_like(Path(final)) for _, final in json.loads(journal.read_bytes())]
    except (ValueError, TypeError, RecursionError) as error:
        raise OutputConflictError(
            f"{str(journal)!r}, which lists files that are being renamed, is damaged: start anew with --overwrite, or "
            "take another --out"
        ) from error
    for final in finals:
        source = temporary_name(final)
        if source.exists():
            source.replace(final)
    for folder in {final.parent for final in finals}:
        sync(folder)
    # What amended the output is done with it: done once more, it would add its rows again.
    paths.run.amendment.about.unlink(missing_ok=True)
    journal.unlink()
