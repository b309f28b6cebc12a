"""Folders -> what they hold. On a slow file system several folders and files are asked for at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from motivnet_cli.inputs.content import is_source_text
from motivnet_cli.inputs.names import IMAGE_SUFFIXES, FoundInput, kind_of, suffix_of
from motivnet_cli.records import Problem

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from motivnet_cli.config import InputConfig
    from motivnet_cli.inputs.folders import Node
    from motivnet_cli.inputs.names import Version
    from motivnet_cli.inputs.patterns import Filter
    from motivnet_cli.records import Kind

_FILES = 64
"""In a step of a walk."""
_THREADS = 16
_STEPS_AHEAD = 2 * _THREADS
_PATIENCE_SECONDS = 0.25
"""Waited for a file system before it may be called slow."""
_SLOW_SECONDS = 50e-6
"""A file or folder: a local disk answers in a few microseconds, which is less than to ask by another thread."""


@dataclass(slots=True, eq=False)
class _Folder:
    """A step of a walk: a folder that is to be listed, or whose entries are to become steps."""

    node: Node
    prefix: str
    """What begins the names in the output."""
    below: str
    """The folder below the first one, as the filters see it."""
    above: _Folder | None = None
    is_empty: bool = True
    listing: Future[Iterator[Node]] | None = None
    entries: Iterator[Node] | None = None

    @property
    def is_listed(self) -> bool:
        return self.entries is not None or (self.listing is not None and self.listing.done())


@dataclass(slots=True, eq=False)
class _Files:
    """A step of a walk: inputs in a folder, of which only the names have been looked at."""

    folder: _Folder
    nodes: list[Node] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    versions: Future[list[Version]] | None = None


@dataclass(slots=True, eq=False)
class _Problem:
    """A step of a walk: what cannot be read."""

    folder: _Folder
    found: FoundInput


_Step = _Folder | _Files | _Problem
_Answer = TypeVar("_Answer")


class Walk:
    """What folders hold, depth first, each in the order of the bytes of its names.

    The order is the same however many folders and files are asked for at once. That is one, until the file system has
    proved slow; then it is the next _STEPS_AHEAD steps, each of which lists a folder or asks for the versions of _FILES
    files. What is held besides is the names in one folder on each level, RUN_RECORDS at most of each.

    Args:
        skipped: Counts what is passed over.
    """

    def __init__(self, inputs: InputConfig, taken: Filter, skipped: Counter[str]) -> None:
        self._inputs = inputs
        self._filter = taken
        self._skipped = skipped
        self._is_slow = False
        self._num_asked = 0
        self._waited = 0.0

    def found(self, first: Node, prefix: str) -> Iterator[FoundInput]:
        """All that a folder holds.

        Args:
            prefix: What begins the names in the output.
        """
        steps: list[_Step] = [_Folder(first, prefix, "")]
        threads: ThreadPoolExecutor | None = None
        try:
            while steps:
                if self._is_slow and first.reads_ahead:
                    threads = threads or ThreadPoolExecutor(_THREADS, "motivnet-walk")
                    self._look_ahead(steps, threads)
                step = steps[0]
                if isinstance(step, _Folder):
                    steps[:1] = self._gone_into(step)
                    continue
                del steps[0]
                step.folder.is_empty = False
                if isinstance(step, _Problem):
                    yield step.found
                    continue
                prefix = step.folder.prefix
                for node, kind, version in zip(step.nodes, step.kinds, self._versions(step), strict=True):
                    yield FoundInput(prefix + node.name, node.path, kind, version)
        finally:
            if threads:
                threads.shutdown(wait=not steps, cancel_futures=True)  # a stop does not wait for a slow file system

    def outside(self, node: Node, name: str, below: str, *, is_wanted: bool = False) -> FoundInput | None:
        """A link that leads out of the given folder, if it would be read or entered otherwise.

        Args:
            below: Its path below that folder.
            is_wanted: Whatever the ending of a file's name.
        """
        takes = self._filter.takes_folder if node.is_folder else self._filter.takes_file
        kind = "folder" if node.is_folder else kind_of(node.name)
        if kind is None and not is_wanted:
            self._skipped[suffix_of(node.name) or "no ending"] += 1
        elif not takes(below, node.name):
            self._skipped["excluded"] += 1
        else:
            message = "a symbolic link out of the given folder, not followed because of --no-follow"
            return FoundInput(name, node.path, kind or "image", problem=Problem("link_leaves_root", message))
        return None

    def _look_ahead(self, steps: list[_Step], threads: ThreadPoolExecutor) -> None:
        """Have threads take up the next steps; folders that they have listed become steps."""
        at = 0
        while at < min(len(steps), _STEPS_AHEAD):
            step = steps[at]
            if isinstance(step, _Files):
                step.versions = step.versions or threads.submit(_versions_of, step.nodes)
            elif isinstance(step, _Folder):
                if not (step.entries or step.listing):
                    step.listing = threads.submit(step.node.entries)
                if step.is_listed and (following := self._steps_in(step)):
                    steps[at:at] = following
                    continue
            at += 1

    def _gone_into(self, folder: _Folder) -> list[_Step]:
        """What comes in the place of a folder."""
        if following := self._steps_in(folder):
            return [*following, folder]
        above, node = folder.above, folder.node
        if above is None:
            return []
        if not folder.is_empty:
            above.is_empty = False
        elif suffix_of(node.name) in IMAGE_SUFFIXES:
            problem = Problem("is_a_folder", "a folder named like a picture, with none in it")
            return [_Problem(above, FoundInput(folder.prefix[:-1], node.path, "folder", problem=problem))]
        return []

    def _steps_in(self, folder: _Folder) -> list[_Step]:
        """The next steps in a folder, up to a folder in it; none at its end."""
        files, other = _Files(folder), None
        below, follows, skipped = folder.below, self._inputs.follow_links, self._skipped
        try:
            if folder.entries is None:
                folder.entries = folder.listing.result() if folder.listing else self._timed(folder.node.entries, 1)
            for node in folder.entries:
                name = node.name
                if name.startswith("."):
                    skipped["hidden"] += 1
                elif node.is_folder or (not follows and node.is_outside):
                    if other := self._special(folder, node):
                        break
                elif (kind := kind_of(name)) is None or is_source_text(node.path):
                    skipped[suffix_of(name) or "no ending"] += 1
                elif self._filter.takes_file(below + name, name):
                    files.nodes.append(node)
                    files.kinds.append(kind)
                    if len(files.nodes) == _FILES:
                        break
                else:
                    skipped["excluded"] += 1
        except OSError as error:
            folder.entries = iter(())
            other = _Problem(folder, unreadable(folder.prefix.rstrip("/") or ".", folder.node.path, error))
        steps: list[_Step] = [files] if files.nodes else []
        return [*steps, other] if other else steps

    def _special(self, folder: _Folder, node: Node) -> _Folder | _Problem | None:
        """The step that a folder is, or a link that leads out of the first one; None if it is passed over."""
        name, below = folder.prefix + node.name, folder.below + node.name
        if node.is_folder and not self._inputs.recursive:
            self._skipped["subfolder"] += 1
        elif not self._inputs.follow_links and node.is_outside:
            found = self.outside(node, name, below)
            return found and _Problem(folder, found)
        elif not self._filter.takes_folder(below, node.name):
            self._skipped["excluded"] += 1
        elif node.is_loop:
            message = "a symbolic link back to a folder that holds it: not followed"
            return _Problem(folder, FoundInput(name, node.path, "folder", problem=Problem("link_loop", message)))
        else:
            return _Folder(node, f"{name}/", f"{below}/", folder)
        return None

    def _versions(self, files: _Files) -> list[Version]:
        if files.versions:
            return files.versions.result()
        return self._timed(lambda: _versions_of(files.nodes), len(files.nodes))

    def _timed(self, ask: Callable[[], _Answer], num_asked: int) -> _Answer:
        """What a file system answers; how long the process waits for it tells whether it is slow."""
        started, busy = time.perf_counter(), time.thread_time()
        answer = ask()
        self._waited += time.perf_counter() - started - (time.thread_time() - busy)
        self._num_asked += num_asked
        self._is_slow = self._waited > max(_PATIENCE_SECONDS, _SLOW_SECONDS * self._num_asked)
        return answer


def _versions_of(nodes: list[Node]) -> list[Version]:
    return [node.version for node in nodes]


def unreadable(name: str, folder: str, error: OSError) -> FoundInput:
    """A folder that cannot be listed."""
    message = f"cannot list this folder: {error.strerror or error}"
    return FoundInput(name, folder, "folder", problem=Problem("unreadable_folder", message))
