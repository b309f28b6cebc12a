"""Inputs as the user names them -> the items of a run, in a fixed order.

Names, folders and lists are looked at only: no picture, video or archive is opened. A folder in an object store is
listed when the listing is iterated over; other URLs are taken as they are, and nobody is asked for them. Nothing that
is found disappears: it becomes an item, an item with a problem, or a count in `Listing.skipped`.
"""

from __future__ import annotations

import codecs
import hashlib
import itertools
import os
import stat
import sys
from collections import Counter
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from motivnet_cli.config import InputConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.inputs.content import kind_of_file
from motivnet_cli.inputs.folders import LocalNode, RemoteNode, matches
from motivnet_cli.inputs.names import (
    FoundInput,
    kind_of,
    printable,
    refused,
    remote_input,
    status_of,
    suffix_of,
    version_of,
)
from motivnet_cli.inputs.patterns import Filter, Pattern, existing_folder, expand_braces, has_wildcards, split_pattern
from motivnet_cli.inputs.walk import Walk, unreadable
from motivnet_cli.records import Item, Problem
from motivnet_cli.remote.storage import can_list, is_remote_file, is_remote_folder
from motivnet_cli.remote.urls import display_name, is_remote, local_path, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from motivnet_cli.config import KeptType
    from motivnet_cli.inputs.folders import Node
    from motivnet_cli.inputs.manifest import Manifest

NAMED_TWICE = "named twice"
"""What `Listing.skipped` calls an input that was there before."""
Identity = Literal["input", "path", None]
_LIST_BYTES = 1 << 16
"""Of a list, read at a time."""
_MAX_NAME_BYTES = 1 << 17
"""In a list: paths have at most 4 KiB, and signed URLs a few."""


class Listing:
    """The items that the inputs hold, in a fixed order; iterate once.

    A folder is walked whole, its entries sorted by the bytes of their names; pictures, videos and archives are
    known by their endings, and hidden entries are left out. Symbolic links are followed, except to a folder that
    the walk is already inside, and without `follow_links` out of the given folder. What a pattern finds comes in the
    order of such a walk, known by its ending too unless the pattern spells out another. A file that is named outright
    always counts. All this holds for what lies in an object store (`s3://bucket/photos/`), where the slashes in keys
    make the folders.

    Lines of a list are relative to the current folder. Rows of a manifest are relative to the manifest's folder
    where such a file is there, else to the current one; rows of one path are one item, at the place of the first.
    If the manifest has the columns x1 y1 x2 y2, each row gives one face of its picture; a picture without numbers
    there has its faces found. A row whose box is none fails its picture (`bad_box`).

    An input that is reached twice appears once, under its first name.

    Args:
        inputs: A sequence of names stands for `InputConfig(paths=...)`. With exactly one folder and nothing else, names
            in the output are relative to it; otherwise they are, or begin with, the input as given. `relative_to` and
            `absolute` name files alike however they are given.
        stdin: Where `-` reads; None takes the process's own.

    Raises:
        ConfigError: None of the paths exists, a list or manifest cannot be read, or a column is missing.
    """

    def __init__(self, inputs: InputConfig | Sequence[str], *, stdin: IO[bytes] | None = None) -> None:
        self._inputs = inputs if isinstance(inputs, InputConfig) else InputConfig(paths=tuple(inputs))
        self._stdin = stdin
        self.skipped: Counter[str] = Counter()
        """What was passed over: other endings, `hidden`, `excluded`, `subfolder`, `named twice` -> count."""
        self._filter = Filter(self._inputs.include, self._inputs.exclude)
        self._walk = Walk(self._inputs, self._filter, self.skipped)
        self._paths = tuple(itertools.chain.from_iterable(map(expand_braces, self._inputs.paths)))
        lists = (*(path for path in self._paths if path == "-"), *self._inputs.files_from, *self._inputs.files0_from)
        _check_lists(lists)
        self._has_others = bool(lists or self._inputs.manifests)
        if not self._has_others and not any(map(self._leads_somewhere, self._paths)):
            named = ", ".join(repr(name) for name in self._inputs.paths[:5])
            raise ConfigError(f"no such file or folder: {named}; name files or folders that hold pictures")
        if self._inputs.keep and not self._inputs.manifests:
            raise ConfigError(f"keep names the column {self._inputs.keep[0]!r} of a manifest, and no manifest is given")
        self._manifests: list[Manifest] = []
        if self._inputs.manifests:
            from motivnet_cli.inputs.kept_columns import kept_name  # polars, which most runs have no use for
            from motivnet_cli.inputs.manifest import Manifest

            self._kept_names = [kept_name(name, self._inputs.keep) for name in self._inputs.keep]
            self._manifests = [Manifest(path, self._inputs) for path in self._inputs.manifests]

    def read_manifests(self) -> None:
        """Read the rows of all manifests now, and not when they are first needed.

        Raises:
            ConfigError: One is damaged.
        """
        for manifest in self._manifests:
            manifest.read()

    @cached_property
    def kept_types(self) -> dict[str, KeptType]:
        """Type of the values of each column of `keep`, in its order, by its name in the output; any value may be None.

        Raises:
            ConfigError: As `read_manifests`.
        """
        if not self._manifests:
            return {}
        from motivnet_cli.inputs.kept_columns import common_types

        types = common_types([manifest.kept_types for manifest in self._manifests])
        return dict(zip(self._kept_names, types, strict=True))

    @property
    def needs_network(self) -> bool:
        """Whether a folder or pattern in an object store is among the inputs, as far as their names tell."""
        return any(is_remote(path) and can_list(path) for path in self._paths)

    @cached_property
    def identity(self) -> Identity:
        """By what an input that is named twice is known; None where none can be: in one folder."""
        if self._is_only_folder:
            return None
        return "input" if self._inputs.relative_to else "path"  # also what links lead to has one name

    @cached_property
    def _remote_folders(self) -> frozenset[str]:
        return frozenset(filter(_is_remote_folder, self._paths))

    @cached_property
    def _is_alone(self) -> bool:
        return not self._has_others and len(self._paths) == 1

    @cached_property
    def _is_only_folder(self) -> bool:
        return self._is_alone and (os.path.isdir(self._paths[0]) or self._paths[0] in self._remote_folders)

    def __iter__(self) -> Iterator[Item]:
        """Each input once, under its first name; about 100 bytes of memory for each."""
        seen: set[bytes] = set()
        number = 0
        for item in self.found():
            if self.identity is not None:
                digest = digest_of(item, self.identity)
                if digest in seen:
                    self.skipped[NAMED_TWICE] += 1
                    continue
                seen.add(digest)
            yield item if item.index == number else replace(item, index=number)
            number += 1

    def found(self) -> Iterator[Item]:
        """Every input as it is found: one that is reached twice comes twice, which `digest_of` tells."""
        no_values = (None,) * len(self._inputs.keep)
        for number, found in enumerate(self._found(relative_names=self._is_only_folder)):
            yield Item(
                index=number,
                input=printable(self._name_of(found)),
                path=found.path,
                kind=found.kind,
                problem=found.problem,
                given=found.given,
                kept=() if found.given else found.kept or no_values,
                size_bytes=found.version[0],
                mtime_ns=found.version[1],
                column=found.column,
                row=found.row,
            )

    def _leads_somewhere(self, path: str) -> bool:
        if is_remote(path) or os.path.lexists(path):
            return True
        return _is_pattern(path) and any(not isinstance(node, OSError) for _, node in self._matches(path))

    def _matches(self, pattern: str) -> Iterator[tuple[str, Node | OSError]]:
        """What a pattern finds, and where below the folder that it spells out."""
        parts, follow = split_pattern(pattern)[1], self._inputs.follow_links
        enters = _enters_matches(parts)
        return matches(_first_folder(pattern), Pattern(parts), enters_matches=enters, follow_links=follow)

    def _name_of(self, found: FoundInput) -> str:
        """The name in the output.

        Raises:
            ConfigError: It is to be relative to a folder, and the file lies elsewhere.
        """
        if not (self._inputs.absolute or self._inputs.relative_to):
            return found.name
        is_a_file = found.row is None and not is_remote(found.path)
        if self._inputs.absolute and is_a_file:
            return found.path
        folder = self._inputs.relative_to
        if folder is None or not is_a_file:
            return found.name
        # Links on the way: to the file's folder, or to the one that names are relative to.
        real = os.path.join(os.path.realpath(os.path.dirname(found.path)), os.path.basename(found.path))
        for path, start in ((found.path, folder), (real, os.path.realpath(folder))):
            name = os.path.relpath(path, start)
            if not name.startswith("../"):
                return name
        if found.problem:  # such as a row that names no file
            return found.name
        raise ConfigError(
            f"{found.path!r} does not lie in {folder!r}: give --relative-to a folder that holds all inputs"
        )

    def _found(self, *, relative_names: bool) -> Iterator[FoundInput]:
        for path in self._paths:
            if path == "-":
                yield from self._listed("-", b"\n")
            elif _is_pattern(path) or _is_remote_pattern(path):
                yield from self._matching(path)
            else:
                yield from self._named(path, prefix="" if relative_names else path)
        for path in self._inputs.files_from:
            yield from self._listed(path, b"\n")
        for path in self._inputs.files0_from:
            yield from self._listed(path, b"\0")
        kept_types = list(self.kept_types.values())
        while self._manifests:  # each lets its rows go when it is done
            manifest = self._manifests.pop(0)
            yield from manifest.inputs(kept_types)
            self.skipped[NAMED_TWICE] += manifest.num_repeated
        self.skipped += Counter()  # without zeros

    def _named(self, given: str, *, prefix: str) -> Iterator[FoundInput]:
        """What the user named outright; `prefix` begins the names of what lies in a folder."""
        if is_remote(given):
            if given in self._remote_folders or (given.endswith("/") and can_list(given)):
                url = _as_prefix(given)
                folder = RemoteNode.at(url, is_recursive=self._inputs.recursive)
                if folder.is_empty:
                    yield self._nothing_at(url)
                yield from self._walk.found(folder, _as_prefix(prefix and display_name(given)))
            else:
                yield remote_input(given)
            return
        path = os.path.abspath(given)
        status, problem = status_of(path)
        if status and stat.S_ISDIR(status.st_mode):
            yield from self._walk.found(LocalNode.at(path), _as_prefix(prefix))
        else:
            yield FoundInput(given, path, kind_of_file(path, given) or "image", version_of(status), problem)

    def _listed(self, source: str, end: bytes) -> Iterator[FoundInput]:
        for line in self._lines(source, end):
            name = local_path(os.fsdecode(line))
            if is_remote(name) and not self._inputs.allows(name):
                yield refused(name)
            else:
                yield from self._named(name, prefix=name)

    def _lines(self, source: str, end: bytes) -> Iterator[bytes]:
        """The entries of a list, blank ones left out."""
        what = "the list on stdin" if source == "-" else f"the list {source!r}"
        try:
            with nullcontext(self._stdin or sys.stdin.buffer) if source == "-" else Path(source).open("rb") as file:
                for line in _split(file, end, what):
                    if end == b"\n":
                        line = line.removesuffix(b"\r")
                        if b"\0" in line:
                            raise ConfigError(
                                f"{what} holds NUL bytes: if they end its names, give it with --files0-from; if it is "
                                "UTF-16, save it as UTF-8"
                            )
                    if line.strip():
                        yield line
        except OSError as error:
            raise ConfigError(f"cannot read {what}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(
                f"cannot read {what}: it begins as UTF-16 and goes on otherwise: save it as UTF-8"
            ) from error

    def _matching(self, pattern: str) -> Iterator[FoundInput]:
        """What a pattern finds: folders are walked unless its `**` enters them already."""
        start, parts = split_pattern(pattern)
        is_url = is_remote(pattern)
        enters_matches = _enters_matches(parts)
        ending = suffix_of(parts[-1])
        is_spelt_out = bool(ending) and not has_wildcards(ending)
        prefix = display_name(start) if is_url else start
        found_any = False
        for below, node in self._matches(pattern):
            if isinstance(node, OSError):
                yield unreadable((prefix + below).rstrip("/") or ".", os.path.abspath(start + below), node)
                continue
            found_any = True
            if not self._inputs.follow_links and node.is_outside:
                if outside := self._walk.outside(node, prefix + below, below, is_wanted=is_spelt_out):
                    yield outside
            elif node.is_folder:
                if not enters_matches:
                    yield from self._walk.found(node, _as_prefix(prefix + below))
            elif not self._filter.takes_file(below, node.name):
                self.skipped["excluded"] += 1
            elif is_spelt_out or kind_of(node.name):
                kind = kind_of_file(node.path, node.name) or "image"
                yield FoundInput(prefix + below, node.path, kind, node.version)
            else:
                self.skipped[suffix_of(node.name) or "no ending"] += 1
        if found_any:
            return
        if is_url:
            yield self._nothing_at(pattern)
        else:
            problem = Problem("not_found", "no file fits this pattern; quote it or check the folder's name")
            yield FoundInput(pattern, os.path.abspath(pattern), kind_of(pattern) or "image", problem=problem)

    def _nothing_at(self, url: str) -> FoundInput:
        message = "nothing lies there: check the bucket and what follows it"
        if self._is_alone:
            raise ConfigError(f"{display_name(url)}: {message}")
        return FoundInput(display_name(url), url, "folder", problem=Problem("not_found", message))


def digest_of(item: Item, identity: Identity) -> bytes:
    """16 bytes that two items have in common only if they are the same file, or the same cell of a table."""
    if item.row is not None:
        where = f"{item.path}\0{item.column}\0{item.row}"
    elif identity == "path":
        where = item.path
    else:
        where = f"{item.input}\0{item.path}" if "\\" in item.input else item.input  # a backslash may stand for bytes
    return hashlib.blake2b(where.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Contents:
    """What a listing holds, in numbers."""

    counts: dict[str, int]
    """Items by kind, those with a problem left out; an archive counts as one."""
    size_bytes: dict[str, int]
    """Bytes by kind, as far as they are known: not of single URLs."""
    num_without_size: int
    num_given_faces: int
    problems: dict[str, int]
    """Items that cannot be read, by error type, as far as names alone tell."""
    skipped: dict[str, int]


def summarise(listing: Listing, items: Iterable[Item]) -> Contents:
    """Go through a listing's items, each once, as a dry run does."""
    counts: Counter[str] = Counter()
    size_bytes: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    num_without_size = num_given_faces = 0
    for item in items:
        if item.problem:
            problems[item.problem.error_type] += 1
            continue
        counts[item.kind] += 1
        size_bytes[item.kind] += item.size_bytes or 0
        num_without_size += item.size_bytes is None
        num_given_faces += len(item.given or ())
    return Contents(
        dict(counts), dict(size_bytes), num_without_size, num_given_faces, dict(problems), dict(listing.skipped)
    )


def _is_pattern(path: str) -> bool:
    return not is_remote(path) and has_wildcards(path.removeprefix(existing_folder(path))) and not os.path.lexists(path)


def _first_folder(pattern: str) -> Node:
    """The last folder that a pattern spells out.

    Raises:
        ConfigError: Its bucket is not spelt out, or what lies there cannot be listed.
    """
    start, parts = split_pattern(pattern)
    if not is_remote(pattern):
        return LocalNode.at(start)
    if start.endswith("://"):
        raise ConfigError(f"{display_name(pattern)}: name the bucket; a pattern can stand only in what follows")
    return RemoteNode.at(start, is_recursive=len(parts) > 1 or parts == ["**"])


def _enters_matches(parts: Sequence[str]) -> bool:
    """Whether a pattern reaches itself what lies in the folders that it fits."""
    return "**" in parts and has_wildcards(parts[-1])


def _as_prefix(folder: str) -> str:
    """What begins the names of what lies in a folder: nothing in the current one."""
    return folder if folder.endswith("/") or not folder else f"{folder}/"


def _is_remote_folder(path: str) -> bool:
    """Whether a URL that the user named stands for what lies under it; what has a known ending is a file."""
    if not (is_remote(path) and can_list(path)):
        return False
    key = urlsplit(path).path
    return key in ("", "/") or key.endswith("/") or (not kind_of(key) and is_remote_folder(path))


def _is_remote_pattern(path: str) -> bool:
    if not (has_wildcards(path) and is_remote(path) and can_list(path)):
        return False
    return has_wildcards(urlsplit(path).netloc) or not is_remote_file(path)


def _split(file: IO[bytes], end: bytes, what: str) -> Iterator[bytes]:
    """What stands between the ends, without a byte order mark. Lines may be UTF-16, and become UTF-8.

    Raises:
        ConfigError: One is longer than any name.
    """
    rest = b""
    for chunk in _chunks(file, may_be_utf16=end == b"\n"):
        *whole, rest = (rest + chunk).split(end)
        yield from whole
        if len(rest) > _MAX_NAME_BYTES:
            how = "a line" if end == b"\n" else "a NUL byte"
            raise ConfigError(
                f"{what} holds a name of more than {_MAX_NAME_BYTES} bytes, which begins with {rest[:40]!r}: each name "
                f"ends in {how}"
            )
    yield from rest.split(end)


def _chunks(file: IO[bytes], *, may_be_utf16: bool) -> Iterator[bytes]:
    chunk = file.read(_LIST_BYTES)
    # The mark alone may begin a name; NUL bytes, which half of UTF-16 is, are in none.
    if may_be_utf16 and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and b"\0" in chunk:
        decoder = codecs.getincrementaldecoder("utf-16")()
        while chunk:
            yield decoder.decode(chunk).encode()
            chunk = file.read(_LIST_BYTES)
        decoder.decode(b"", final=True)
        return
    chunk = chunk.removeprefix(codecs.BOM_UTF8)
    while chunk:
        yield chunk
        chunk = file.read(_LIST_BYTES)


def _check_lists(lists: Sequence[str]) -> None:
    """Raise where a list is certain to fail; it is opened later, and once, since it may be a pipe."""
    if lists.count("-") > 1:
        raise ConfigError("stdin (-) was given as a list more than once: it can be read once")
    for path in lists:
        if path != "-" and not os.path.exists(path):
            raise ConfigError(f"no such file: {shown(path)!r}, which should hold a list of inputs")
        if path != "-" and os.path.isdir(path):
            raise ConfigError(f"{path!r} is a folder, not a list of inputs: name it as an input to read what it holds")


def listed_again(settings: Mapping[str, object]) -> Iterator[Item]:
    """What the inputs of an earlier run hold now, by its recorded settings, up to a list that cannot be read."""
    with suppress(ConfigError):
        yield from Listing(_input_config(settings))


def _input_config(settings: Mapping[str, object]) -> InputConfig:
    """What the run read, without what came on stdin.

    Raises:
        ConfigError: Nothing else was read.
    """
    values = {}
    for name in InputConfig.__dataclass_fields__:
        value = settings.get(f"inputs.{name}")
        if isinstance(value, list):
            value = tuple(str(each) for each in value if each != "-")
        if value is not None:
            values[name] = value
    return InputConfig(**values)  # type: ignore[arg-type]
