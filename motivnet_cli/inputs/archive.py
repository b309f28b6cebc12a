"""A tar or zip archive -> its pictures, one after the other; nothing in it is ever unpacked to the disk.

It does not decode, and how the formats are read is known by `archive_formats`. Names in an archive are data: they are
shown as they are, and no file is opened or written by them. Memory is that of the largest picture allowed, plus about
120 bytes a member to tell repeated names apart, and a few hundred a link; the index of a zip is read whole, about 600
bytes a member. Members keep their order, and links come after them, so that `skip` leaves exactly the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING

from motivnet_cli.errors import InputError
from motivnet_cli.inputs.archive_formats import READ_FAILURES, Entry, entries_of, opened_archive, problem_of
from motivnet_cli.inputs.names import kind_of, printable, suffix_of
from motivnet_cli.records import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motivnet_cli.inputs.archive_formats import Link

MAX_MEMBER_BYTES = 256 << 20
"""Far more than any camera's JPEG, and what a worker can hold beside the picture itself."""


@dataclass(frozen=True, slots=True)
class Member:
    """One picture of an archive, or the reason why it is none."""

    number: int
    """Position among the members that are answered for, from 0."""
    name: str
    """As the archive has it, fit to be printed; the second of one name ends in `#2`, and so on."""
    data: bytes = field(default=b"", repr=False)
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What became of the archive as a whole."""

    num_members: int
    """Members answered for, those that were skipped included."""
    problem: Problem | None
    """Why the archive, or the rest of it, could not be read."""
    skipped: dict[str, int]
    """Members that are no pictures by their ending, and `hidden` ones: which -> count."""


class Archive:
    """The pictures of an archive, in its own order; iterate once, then ask for the `report`.

    The format is told from the content: tar, alone or compressed by gzip, bzip2, xz or (from Python 3.14) zstd, and
    zip, also behind bytes that are none of it (self-extracting archives). Folders, hidden members and those of other
    endings are passed over and counted, as in a folder. Devices, encrypted or damaged members, videos, archives in the
    archive, and whatever is larger than `max_member_bytes` come with a problem in place of data. A break in the
    archive ends it: what came before stays.

    A hard or symbolic link gives the content of the member that it leads to. Links come last, in the order of these
    members; the archive is read a second time for them, since a link may stand before its member. One that leads out
    of the archive, nowhere or in a circle comes with a problem.

    Args:
        source: Path of a file, URL, or an open file, which stays open. A zip has to be seekable.
        max_member_bytes: Reading a member stops here, whatever its header says.
        skip: So many members are passed by unread: those that an earlier run has answered for.
        allow_private: Of a URL, as in `open_remote`.
    """

    def __init__(
        self,
        source: str | IO[bytes],
        *,
        max_member_bytes: int = MAX_MEMBER_BYTES,
        skip: int = 0,
        allow_private: bool = False,
    ) -> None:
        self._source = source
        self._allow_private = allow_private
        self._max_bytes = max_member_bytes
        self._skip = skip
        self._names = _Names()
        self._links: list[Link] = []
        self._skipped: Counter[str] = Counter()
        self._problem: Problem | None = None
        self._num_members = 0
        self._broken: Exception | None = None

    @property
    def report(self) -> ArchiveReport:
        """Whole once the iteration has ended; it is the same whatever `skip` was."""
        return ArchiveReport(self._num_members, self._problem, dict(self._skipped))

    def __iter__(self) -> Iterator[Member]:
        try:
            yield from self._files()
        except InputError as error:
            self._problem = Problem.of(error)
        except READ_FAILURES as error:
            self._problem = problem_of(error, "archive")
        if self._links:
            yield from self._linked()

    def _files(self) -> Iterator[Member]:
        """Every member but the links, which are noted."""
        with self._opened() as entries:
            for entry in entries:
                kind = kind_of(entry.name)
                if _is_hidden(entry.name):
                    self._skipped["hidden"] += 1
                elif kind is None and (entry.link is not None or not entry.refusal):
                    self._skipped[suffix_of(entry.name) or "no ending"] += 1
                elif entry.link is not None and kind == "image":
                    self._links.append(entry.link)
                    continue
                elif member := self._answer(entry.name, entry):
                    yield member
                if entry.link is None:
                    self._names.note(entry.name)
                if self._broken and not entry.may_go_on:
                    raise self._broken

    def _linked(self) -> Iterator[Member]:
        """The links, each with what it leads to."""
        targets = _Targets(self._links, self._names)
        if isinstance(self._source, str) or self._source.seekable():
            # A break was noted when the archive was read first.
            with contextlib.suppress(InputError, *READ_FAILURES), self._opened() as entries:
                for entry in entries:
                    links = targets.leading_to(entry) if entry.link is None else []
                    entry = replace(entry, read=_Once(entry.read))  # a tar gives no content twice
                    for link in links:
                        if member := self._answer(link.name, entry):
                            yield member
        for link, problem in targets.unreached():
            if member := self._answer(link.name, Entry(link.name, 0, _no_bytes, refusal=problem)):
                yield member

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Iterator[Entry]]:
        if isinstance(self._source, str):
            with opened_archive(self._source, allow_private=self._allow_private) as file:
                yield entries_of(file)
        else:
            if self._source.seekable():
                self._source.seek(0)
            yield entries_of(self._source)

    def _answer(self, name: str, entry: Entry) -> Member | None:
        """The member of this name, with the content of an entry; None where it was answered for by an earlier run."""
        refusal, kind = entry.refusal, kind_of(name)
        number = self._num_members
        self._num_members += 1
        name = self._names.unique(printable(name))
        if number < self._skip:
            return None
        if not refusal and kind != "image":
            refusal = Problem("unsupported", f"{kind}s inside archives are not read: unpack it beside the archive")
        elif not refusal and entry.size > self._max_bytes:
            message = f"the member has {entry.size} bytes, more than the {self._max_bytes} that are read of one"
            refusal = Problem("too_large", message)
        if refusal:
            return Member(number, name, problem=refusal)
        try:
            return Member(number, name, entry.read())
        except InputError as error:
            self._broken = error
            return Member(number, name, problem=Problem.of(error))
        except READ_FAILURES as error:
            self._broken = error
            return Member(number, name, problem=problem_of(error, "member"))


class _Once:
    """Reads something at the first call; every call gives the same, or fails as the first."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._outcome: bytes | Exception | None = None

    def __call__(self) -> bytes:
        if self._outcome is None:
            try:
                self._outcome = self._read()
            except (InputError, *READ_FAILURES) as error:
                self._outcome = error
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class _Targets:
    """Which members links lead to, links to links followed."""

    def __init__(self, links: list[Link], names: _Names) -> None:
        self._names = names
        self._by_name = {posixpath.normpath(link.name): link for link in links}
        self._waiting: dict[str, list[Link]] = {}
        self._problems: list[tuple[Link, Problem]] = []
        for link in links:
            found = self._found(link)
            if isinstance(found, Problem):
                self._problems.append((link, found))
            else:
                self._waiting.setdefault(found, []).append(link)

    def _found(self, link: Link) -> str | Problem:
        """The member that a link leads to, or why it leads to none."""
        seen: set[str] = set()
        while link.target in self._by_name and not self._names.has(link.target):
            if link.target in seen:
                return Problem("link_loop", f"a link in a circle, which leads to {link.as_given!r}")
            seen.add(link.target)
            link = self._by_name[link.target]
        if link.target is None or not self._names.has(link.target):
            return Problem("broken_link", f"a link to {link.as_given!r}, which is no file in the archive")
        if self._names.is_repeated(link.target):
            return Problem("broken_link", f"a link to {link.as_given!r}, a name that several members have")
        return link.target

    def leading_to(self, entry: Entry) -> list[Link]:
        return self._waiting.pop(posixpath.normpath(entry.name), [])

    def unreached(self) -> Iterator[tuple[Link, Problem]]:
        """Links that lead nowhere, and those whose member could not be read a second time."""
        yield from self._problems
        for links in self._waiting.values():
            for link in links:
                message = f"a link to {link.as_given!r}, which cannot be read a second time from this source"
                yield link, Problem("read_error", message)


def _is_hidden(name: str) -> bool:
    parts = name.split("/")
    return "__MACOSX" in parts or any(part.startswith(".") and part.strip(".") for part in parts)


def _no_bytes() -> bytes:
    return b""


class _Names:
    """Tells repeated names apart. Hashes stand for names: two that agree by chance cost a needless `#2`."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._next: dict[str, int] = {}
        self._files: set[int] = set()
        self._repeated: set[int] = set()

    def note(self, name: str) -> None:
        """There is a file of this name in the archive, be it a picture or not."""
        key = _hash_of(posixpath.normpath(name))
        (self._repeated if key in self._files else self._files).add(key)

    def has(self, name: str | None) -> bool:
        """Whether there is a file of this name, of a normal form."""
        return name is not None and _hash_of(name) in self._files

    def is_repeated(self, name: str) -> bool:
        return _hash_of(name) in self._repeated

    def unique(self, name: str) -> str:
        if self._is_new(name):
            return name
        number = self._next.get(name, 2)
        while not self._is_new(f"{name}#{number}"):
            number += 1
        self._next[name] = number + 1
        return f"{name}#{number}"

    def _is_new(self, name: str) -> bool:
        key = _hash_of(name)
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new


def _hash_of(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
