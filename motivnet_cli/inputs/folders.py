"""Folders on this machine and in object stores, one interface for both; and what a pattern finds in them."""

from __future__ import annotations

import itertools
import os
import stat
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from motivnet_cli.external_sort import in_order
from motivnet_cli.inputs.names import status_of, version_of
from motivnet_cli.remote.storage import list_remote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from motivnet_cli.inputs.names import Version
    from motivnet_cli.inputs.patterns import Pattern, State
    from motivnet_cli.remote.storage import RemoteEntry

Identity = tuple[int, int]
"""Device and inode: the same folder by whatever name."""


class Node(Protocol):
    """A file or a folder."""

    @property
    def name(self) -> str:
        """Its own, without the folders above."""

    @property
    def path(self) -> str:
        """Absolute, or a URL."""

    @property
    def is_folder(self) -> bool: ...

    @property
    def is_loop(self) -> bool:
        """Whether it is a symbolic link to a folder that holds it."""

    @property
    def is_outside(self) -> bool:
        """Whether it is a symbolic link that leads out of the folder to begin with."""

    @property
    def version(self) -> Version:
        """Of a file."""

    @property
    def reads_ahead(self) -> bool:
        """Whether folders may be listed before others that precede them, and by several threads."""

    def entries(self, *, named: Collection[str] = (), is_listed: bool = True) -> Iterator[Node]:
        """What lies in the folder, in the order of the bytes of the names.

        Without `reads_ahead`, an entry that is a folder is entered before the next entry is asked for, or not at all.

        Args:
            named: Names that are looked for even if the folder does not list them, such as `..`.
            is_listed: False to look for `named` alone, which a folder may allow that lets itself not be listed.

        Raises:
            OSError: The folder cannot be listed; it may come with the first entry that is asked for.
        """


class LocalNode(NamedTuple):
    """A file or folder on this machine."""

    path: str
    name: str
    is_folder: bool
    is_link: bool = False
    above: tuple[Identity, ...] = ()
    """The folders that hold it."""
    root: str = ""
    """The folder to begin with, without symbolic links."""

    @property
    def reads_ahead(self) -> bool:
        return True

    @classmethod
    def at(cls, path: str) -> LocalNode:
        """A folder to begin with, which need not be there."""
        path = os.path.abspath(path)
        parents = os.path.realpath(path)
        above = []
        while (parent := os.path.dirname(parents)) != parents:
            parents = parent
            if identity := _identity(parent):
                above.append(identity)
        return cls(path, os.path.basename(path), True, above=tuple(above), root=os.path.realpath(path))

    @property
    def is_loop(self) -> bool:
        return self.is_link and self.is_folder and _identity(self.path) in self.above

    @property
    def is_outside(self) -> bool:
        return self.is_link and os.path.commonpath([self.root, os.path.realpath(self.path)]) != self.root

    @property
    def version(self) -> Version:
        return version_of(status_of(self.path)[0])

    def entries(self, *, named: Collection[str] = (), is_listed: bool = True) -> Iterator[LocalNode]:
        here = _identity(self.path)
        above = (*self.above, here) if here else self.above
        spelt_out = (_record_of(self.path, name) for name in named if os.path.lexists(os.path.join(self.path, name)))
        records = in_order(itertools.chain(spelt_out, _records_in(self.path) if is_listed else ()))
        return self._nodes(records, above)

    def _nodes(self, records: Iterator[bytes], above: tuple[Identity, ...]) -> Iterator[LocalNode]:
        folder, last = os.path.join(self.path, ""), None
        for record in records:
            raw, kind = record[:-_KIND_BYTES], record[-_KIND_BYTES:]
            if raw == last:  # listed, and spelt out too
                continue
            last = raw
            name = raw.decode(_ENCODING, _ENCODING_ERRORS)
            path = os.path.abspath(folder + name) if name in _RELATIVE else folder + name
            yield LocalNode(path, name, *_KINDS[kind], above, self.root)


_ENCODING, _ENCODING_ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_RELATIVE = ("", ".", "..")
_FILE, _FOLDER, _LINK, _LINKED_FOLDER = b"\0f", b"\0d", b"\0l", b"\0e"
"""What follows a name in a record: no name holds a NUL byte, so records sort like names."""
_KINDS = {_FILE: (False, False), _FOLDER: (True, False), _LINK: (False, True), _LINKED_FOLDER: (True, True)}
"""Whether it is a folder, and whether it is a link."""
_KIND_BYTES = len(_FILE)


def _records_in(folder: str) -> Iterator[bytes]:
    with os.scandir(os.fsencode(folder)) as scan:
        for entry in scan:
            is_folder = _is_folder(entry)
            if entry.is_symlink():
                yield entry.name + (_LINKED_FOLDER if is_folder else _LINK)
            else:
                yield entry.name + (_FOLDER if is_folder else _FILE)


def _record_of(folder: str, name: str) -> bytes:
    path = os.path.join(folder, name)
    kinds = (_LINK, _LINKED_FOLDER) if os.path.islink(path) else (_FILE, _FOLDER)
    return os.fsencode(name) + kinds[os.path.isdir(path)]


def _identity(folder: str) -> Identity | None:
    """None where it is not there, or may not be asked for."""
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return stat.S_ISDIR(entry.stat().st_mode) if entry.is_symlink() else entry.is_dir()
    except OSError:  # a broken or circular link: whatever opens it says which
        return False


@dataclass(frozen=True, slots=True, eq=False)
class RemoteNode:
    """A file in an object store, or a folder, which is what keys with a slash make."""

    path: str
    """A folder's ends in a slash."""
    name: str
    is_folder: bool
    version: Version = (None, None)
    files: Iterable[RemoteEntry] | None = None
    """All files below a folder, sorted, to be iterated once; None where they have not been listed yet."""
    start: int = 0
    """Where the part of their names begins that lies below the folder."""
    is_loop: ClassVar[bool] = False
    is_outside: ClassVar[bool] = False
    reads_ahead: ClassVar[bool] = False

    @classmethod
    def at(cls, url: str, *, is_recursive: bool = True) -> RemoteNode:
        """A folder to begin with, listed at once.

        Args:
            url: With a slash at its end.
            is_recursive: List what lies in its folders too; else that happens when one is entered.

        Raises:
            ConfigError: Software is missing, or the credentials found here do not open it.
            FetchError: The storage cannot be reached.
        """
        files = list_remote(url, recursive=is_recursive)
        first = next(files, None)
        return cls(url, "", is_folder=True, files=itertools.chain([first], files) if first else ())

    @property
    def is_empty(self) -> bool:
        """Whether a folder to begin with holds nothing."""
        return self.files == ()

    def entries(self, *, named: Collection[str] = (), is_listed: bool = True) -> Iterator[RemoteNode]:
        files = list_remote(self.path) if self.files is None else self.files
        for (name, is_folder), group in itertools.groupby(files, key=lambda file: file.part(self.start)):
            first = next(group)
            if not is_folder:
                yield RemoteNode(self.path + name, name, is_folder=False, version=first.version)
            elif first.is_folder:  # and what lies in it was not listed
                yield RemoteNode(f"{self.path}{name}/", name, is_folder=True)
            else:
                below = itertools.chain([first], group)  # noqa: B031 - the rest of it
                start = self.start + len(name) + 1
                yield RemoteNode(f"{self.path}{name}/", name, is_folder=True, files=below, start=start)


def matches(
    folder: Node,
    pattern: Pattern,
    *,
    enters_matches: bool,
    follow_links: bool = True,
    state: State | None = None,
    below: str = "",
) -> Iterator[tuple[str, Node | OSError]]:
    """What a pattern finds below a folder, in the order of a walk: where below it, and what.

    Links in a circle end, where Python's `glob` follows them to the 40 levels that the system allows. A folder that
    cannot be listed comes with the error.

    Args:
        enters_matches: Look also below folders that fit the whole pattern.
        follow_links: Else a link to a folder outside of the first one is found where the pattern would enter it.
        state: Of the pattern, by the parts of `below`.
        below: The path of `folder` below the first one, with a slash at its end.
    """
    state = pattern.start if state is None else state
    try:
        nodes = folder.entries(named=pattern.spelt_out(state), is_listed=pattern.has_wildcards(state))
        first = next(nodes, None)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield below, error
        return
    if first is None:
        return
    for node in itertools.chain([first], nodes):
        following = pattern.after(state, node.name, is_loop=node.is_loop)
        path = below + node.name
        goes_on = node.is_folder and pattern.goes_on(following)
        is_barred = not follow_links and node.is_outside
        if path and (pattern.is_whole(following) or (goes_on and is_barred)):
            yield path, node
            if not enters_matches:
                continue
        if goes_on and not is_barred:
            yield from matches(
                node,
                pattern,
                enters_matches=enters_matches,
                follow_links=follow_links,
                state=following,
                below=f"{path}/",
            )
