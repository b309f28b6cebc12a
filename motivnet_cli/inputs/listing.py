"""Inputs as the user names them -> the items of a run, in a fixed order.

This room looks at names, folders and lists only; it opens no picture, video or archive. A folder in an object store
is listed by `remote`, when the listing is iterated over; other URLs are taken as they are, without asking anyone.
Nothing found is dropped in silence: an item, an item with a problem, or a count in `Listing.skipped`.
"""

from __future__ import annotations

import codecs
import fnmatch
import hashlib
import itertools
import math
import os
import re
import stat
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from motivnet_cli.config import InputConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.records import Item, Problem
from motivnet_cli.remote.storage import can_list, is_remote_file, is_remote_folder, list_remote
from motivnet_cli.remote.urls import display_name, is_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from motivnet_cli.config import KeptType
    from motivnet_cli.remote.storage import RemoteEntry
from motivnet_cli.inputs.manifest import Manifest, common_type
from motivnet_cli.inputs.names import IMAGE_SUFFIXES, FoundInput, kind_of, printable, status_of, suffix_of, version_of

_MAX_BRACED = 1_000_000
"""Names that one brace pattern may stand for."""
_LIST_BYTES = 1 << 16


class Listing:
    """The items that the inputs hold, in a fixed order; iterate once.

    A folder is walked whole, its entries sorted by the bytes of their names; pictures, videos and archives are
    known by their endings, and hidden entries are left out. Symbolic links are followed, except to a folder that
    the walk is already inside. What a pattern finds comes in the order of such a walk, known by its ending too
    unless the pattern spells out another. A file that is named outright always counts. All this holds for what lies
    in an object store (`s3://bucket/photos/`), where the slashes in keys make the folders.

    Lines of a list are relative to the current folder. Rows of a manifest are relative to the manifest's folder
    where such a file is there, else to the current one; rows of one path are one item, at the place of the first.
    If the manifest has the columns x1 y1 x2 y2, each row gives one face of its picture; a picture without numbers
    there has its faces found. A row whose box is none fails its picture (`bad_box`).

    An input that is reached twice appears once, under its first name.

    Args:
        inputs: A sequence of names stands for `InputConfig(paths=...)`. With exactly one folder and nothing else, names
            in the output are relative to it; otherwise they are, or begin with, the input as given.
        stdin: Where `-` reads; None takes the process's own.

    Raises:
        ConfigError: None of the paths exists, a list or manifest cannot be read, or a column is missing.
    """

    def __init__(self, inputs: InputConfig | Sequence[str], *, stdin: IO[bytes] | None = None) -> None:
        self._inputs = inputs if isinstance(inputs, InputConfig) else InputConfig(paths=tuple(inputs))
        self._stdin = stdin
        self.skipped: Counter[str] = Counter()
        """What was passed over: other endings, `hidden`, `excluded`, `subfolder`, `named twice` -> count."""
        self._fits = _Filter(self._inputs.include, self._inputs.exclude)
        self._paths = tuple(itertools.chain.from_iterable(map(_expand_braces, self._inputs.paths)))
        lists = (*(path for path in self._paths if path == "-"), *self._inputs.files_from, *self._inputs.files0_from)
        _check_lists(lists)
        self._has_others = bool(lists or self._inputs.manifests)
        if not self._has_others and not any(map(_leads_somewhere, self._paths)):
            named = ", ".join(repr(name) for name in self._inputs.paths[:5])
            raise ConfigError(f"no such file or folder: {named}; name files or folders that hold pictures")
        if self._inputs.keep and not self._inputs.manifests:
            raise ConfigError(f"keep names the column {self._inputs.keep[0]!r} of a manifest, and no manifest is given")
        self._manifests = [Manifest(path, self._inputs) for path in self._inputs.manifests]
        self.kept_types: dict[str, KeptType] = {
            name: common_type({manifest.types[name] for manifest in self._manifests}) for name in self._inputs.keep
        }
        """Type of the values of each column of `keep`, in its order; any value may be None."""

    def __iter__(self) -> Iterator[Item]:
        self._remote_folders = frozenset(filter(_is_remote_folder, self._paths))
        self._is_alone = not self._has_others and len(self._paths) == 1
        only_folder = self._is_alone and (os.path.isdir(self._paths[0]) or self._paths[0] in self._remote_folders)
        no_values = (None,) * len(self._inputs.keep)
        seen: set[bytes] = set()
        number = 0
        for found in self._found(relative_names=only_folder):
            if not only_folder:
                # A digest in place of the path: about 100 bytes an input, however long the paths are.
                key = hashlib.blake2b(os.fsencode(found.path), digest_size=16).digest()
                if key in seen:
                    self.skipped["named twice"] += 1
                    continue
                seen.add(key)
            yield Item(
                index=number,
                input=printable(found.name),
                path=found.path,
                kind=found.kind,
                problem=found.problem,
                given=found.given,
                kept=() if found.given else found.kept or no_values,
                size_bytes=found.version[0],
                mtime_ns=found.version[1],
            )
            number += 1

    def _found(self, *, relative_names: bool) -> Iterator[FoundInput]:
        for path in self._paths:
            if path == "-":
                yield from self._listed("-", b"\n")
            elif _is_pattern(path):
                yield from self._matching(path)
            elif _is_remote_pattern(path):
                yield from self._matching_remote(path)
            else:
                yield from self._named(path, prefix="" if relative_names else path)
        for path in self._inputs.files_from:
            yield from self._listed(path, b"\n")
        for path in self._inputs.files0_from:
            yield from self._listed(path, b"\0")
        while self._manifests:  # each lets its table go when it is done
            manifest = self._manifests.pop(0)
            yield from manifest.inputs(self.kept_types)
            self.skipped["named twice"] += manifest.num_repeated
        self.skipped += Counter()  # without zeros

    def _named(self, given: str, *, prefix: str) -> Iterator[FoundInput]:
        if is_remote(given):
            if given in self._remote_folders or (given.endswith("/") and can_list(given)):
                yield from self._remote_folder(given, prefix and display_name(given))
            else:
                yield FoundInput(display_name(given), given, kind_of(urlsplit(given).path) or "image")
            return
        path = os.path.abspath(given)
        status, problem = status_of(path)
        if status and stat.S_ISDIR(status.st_mode):
            above = tuple(_identity(str(folder)) for folder in Path(os.path.realpath(path)).parents)
            yield from self._walk(path, prefix, "", inside=above)
        else:
            yield FoundInput(given, path, kind_of(given) or "image", version_of(status), problem)

    def _listed(self, source: str, end: bytes) -> Iterator[FoundInput]:
        for line in self._lines(source, end):
            name = os.fsdecode(line)
            yield from self._named(name, prefix=name)

    def _lines(self, source: str, end: bytes) -> Iterator[bytes]:
        """The entries of a list, blank ones left out."""
        what = "the list on stdin" if source == "-" else f"the list {source!r}"
        try:
            with nullcontext(self._stdin or sys.stdin.buffer) if source == "-" else Path(source).open("rb") as file:
                rest = file.read(len(codecs.BOM_UTF8)).removeprefix(codecs.BOM_UTF8)
                while True:
                    chunk = file.read(_LIST_BYTES)
                    *lines, rest = (rest + chunk).split(end)
                    if not chunk:
                        lines.append(rest)
                    for line in lines:
                        if end == b"\n":
                            line = line.removesuffix(b"\r")
                            if b"\0" in line:
                                raise ConfigError(f"{what} holds NUL bytes: give it with --files0-from")
                        if line.strip():
                            yield line
                    if not chunk:
                        return
        except OSError as error:
            raise ConfigError(f"cannot read {what}: {error.strerror}") from error

    def _matching(self, pattern: str) -> Iterator[FoundInput]:
        """What the pattern finds: folders are walked unless `**` has entered them already."""
        parts = pattern.split("/")
        first = next(number for number, part in enumerate(parts) if _MAGIC.search(part))
        start = "/".join(parts[:first]) + ("/" if first else "")
        ending = suffix_of(parts[-1])
        spelt_out = bool(ending) and not _MAGIC.search(ending)
        enters = "**" in parts and bool(_MAGIC.search(parts[-1]))
        matches: set[str] = set()
        for match in _glob(start, parts[first:], inside=()):
            if isinstance(match, FoundInput):
                yield match
            else:
                matches.add(match)
        found_any = False
        # A slash sorts before every other byte: the order of a walk.
        for name in sorted(matches, key=lambda name: os.fsencode(name).replace(b"/", b"\0")):
            found_any = True
            if os.path.isdir(name):
                if not enters:
                    yield from self._named(name, prefix=name)
            elif not self._fits.file(name[len(start) :], os.path.basename(name)):
                self.skipped["excluded"] += 1
            elif spelt_out or kind_of(name):
                yield from self._named(name, prefix=name)
            else:
                self.skipped[suffix_of(name) or "no ending"] += 1
        if not found_any:
            yield FoundInput(
                pattern,
                os.path.abspath(pattern),
                kind_of(pattern) or "image",
                problem=Problem("not_found", "no file fits this pattern; quote it or check the folder's name"),
            )

    def _walk(self, folder: str, prefix: str, below: str, *, inside: tuple[_Identity, ...]) -> Iterator[FoundInput]:
        """`prefix` begins the names in the output, `below` the names that the filters see."""
        try:
            inside = (*inside, _identity(folder))
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            yield _unreadable(prefix or ".", folder, error)
            return
        for entry in entries:
            name = os.path.join(prefix, entry.name)
            if entry.name.startswith("."):
                self.skipped["hidden"] += 1
            elif _is_folder(entry):
                if not self._inputs.recursive:
                    self.skipped["subfolder"] += 1
                elif not self._fits.folder(below + entry.name, entry.name):
                    self.skipped["excluded"] += 1
                else:
                    yield from self._enter(entry, name, below, inside)
            elif kind := kind_of(entry.name):
                if self._fits.file(below + entry.name, entry.name):
                    yield FoundInput(name, entry.path, kind, version_of(_entry_status(entry)))
                else:
                    self.skipped["excluded"] += 1
            else:
                self.skipped[suffix_of(entry.name) or "no ending"] += 1

    def _enter(
        self, entry: os.DirEntry[str], name: str, below: str, inside: tuple[_Identity, ...]
    ) -> Iterator[FoundInput]:
        if entry.is_symlink() and _identity(entry.path) in inside:
            message = "a symbolic link back to a folder that holds it: not followed"
            yield FoundInput(name, entry.path, "folder", problem=Problem("link_loop", message))
            return
        empty = True
        for found in self._walk(entry.path, name, f"{below}{entry.name}/", inside=inside):
            empty = False
            yield found
        if empty and suffix_of(entry.name) in IMAGE_SUFFIXES:
            message = "a folder named like a picture, with none in it"
            yield FoundInput(name, entry.path, "folder", problem=Problem("is_a_folder", message))

    def _remote_folder(self, url: str, prefix: str) -> Iterator[FoundInput]:
        """`prefix` begins the names in the output."""
        base, prefix = (each if each.endswith("/") or not each else f"{each}/" for each in (url, prefix))
        entries = list_remote(base, recursive=self._inputs.recursive)
        if not entries:
            yield self._nothing_at(base)
        yield from self._walk_remote(entries, base, prefix, "")

    def _walk_remote(self, entries: Iterable[RemoteEntry], base: str, prefix: str, below: str) -> Iterator[FoundInput]:
        """As `_walk`, of sorted entries that all lie in the folder `below`."""
        for (name, is_folder), inside in itertools.groupby(entries, key=lambda entry: entry.part(len(below))):
            path = below + name
            if name.startswith("."):
                self.skipped["hidden"] += 1
            elif is_folder:
                if not self._inputs.recursive:
                    self.skipped["subfolder"] += 1
                elif not self._fits.folder(path, name):
                    self.skipped["excluded"] += 1
                else:
                    yield from self._walk_remote(inside, base, prefix, f"{path}/")
            elif kind := kind_of(name):
                if self._fits.file(path, name):
                    yield FoundInput(prefix + path, base + path, kind, next(inside).version)
                else:
                    self.skipped["excluded"] += 1
            else:
                self.skipped[suffix_of(name) or "no ending"] += 1

    def _matching_remote(self, pattern: str) -> Iterator[FoundInput]:
        """As `_matching`, of keys: what lies under the last folder that the pattern spells out is listed."""
        scheme, _, rest = pattern.partition("://")
        parts = rest.split("/")
        first = next(number for number, part in enumerate(parts) if _MAGIC.search(part))
        if not first:
            raise ConfigError(f"{display_name(pattern)}: name the bucket; a pattern can stand only in what follows")
        base = f"{scheme}://{'/'.join(parts[:first])}/"
        prefix = display_name(base)
        ending = suffix_of(parts[-1])
        spelt_out = bool(ending) and not _MAGIC.search(ending)
        enters = "**" in parts and bool(_MAGIC.search(parts[-1]))
        is_flat = parts[first:] == parts[-1:] != ["**"]
        found_any = False
        entries = list_remote(base, recursive=not is_flat)
        for match, inside in itertools.groupby(entries, key=_matcher(parts[first:], enters=enters)):
            if match is None:
                continue
            found_any = True
            if match.endswith("/"):
                within = list_remote(base + match) if is_flat else (entry.within(match) for entry in inside)
                yield from self._walk_remote(within, base + match, prefix + match, "")
            elif not self._fits.file(match, os.path.basename(match)):
                self.skipped["excluded"] += 1
            elif spelt_out or kind_of(match):
                yield FoundInput(prefix + match, base + match, kind_of(match) or "image", next(inside).version)
            else:
                self.skipped[suffix_of(match) or "no ending"] += 1
        if not found_any:
            yield self._nothing_at(pattern)

    def _nothing_at(self, url: str) -> FoundInput:
        message = "nothing lies there: check the bucket and what follows it"
        if self._is_alone:
            raise ConfigError(f"{display_name(url)}: {message}")
        return FoundInput(display_name(url), url, "folder", problem=Problem("not_found", message))


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


def summarise(listing: Listing) -> Contents:
    """Go through the listing, as a dry run does."""
    counts: Counter[str] = Counter()
    size_bytes: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    num_without_size = num_given_faces = 0
    for item in listing:
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


_Identity = tuple[int, int]
"""Device and inode: the same folder by whatever name."""
_MAGIC = re.compile(r"[*?\[]")


class _Filter:
    """`include` and `exclude`: each pattern is tried on the path below the given folder and on the name alone."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        self._include = _any_of(include)
        self._exclude = _any_of(exclude)

    def file(self, below: str, name: str) -> bool:
        return self.folder(below, name) and (
            self._include is None or bool(self._include.match(name) or self._include.match(below))
        )

    def folder(self, below: str, name: str) -> bool:
        return self._exclude is None or not (self._exclude.match(name) or self._exclude.match(below))


def _any_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, patterns))) if patterns else None


def _expand_braces(given: str) -> Iterable[str]:
    """`a{00..12}b` and `a{x,y}b` as the shell has them; other braces, and a file of that very name, stay."""
    if "{" not in given or os.path.lexists(given):
        return (given,)
    pieces = re.split(r"\{((?:-?\d+\.\.-?\d+)|[^{}]*,[^{}]*)\}", given)
    choices = [_choices(piece) if number % 2 else [piece] for number, piece in enumerate(pieces)]
    count = math.prod(map(len, choices))
    if count > _MAX_BRACED:
        raise ConfigError(f"{given!r} stands for {count} names, more than {_MAX_BRACED}: give a list or a folder")
    return map("".join, itertools.product(*choices))


def _choices(braced: str) -> Sequence[str]:
    if "," in braced:
        return braced.split(",")
    first, last = braced.split("..")
    width = max(len(end) if re.match(r"-?0\d", end) else 0 for end in (first, last))
    step = 1 if int(first) <= int(last) else -1
    if abs(int(last) - int(first)) >= _MAX_BRACED:
        raise ConfigError(f"{{{braced}}} stands for more than {_MAX_BRACED} names: give a list or a folder")
    return [f"{number:0{width}d}" for number in range(int(first), int(last) + step, step)]


def _is_pattern(path: str) -> bool:
    return bool(_MAGIC.search(path)) and not is_remote(path) and not os.path.lexists(path)


def _leads_somewhere(path: str) -> bool:
    return is_remote(path) or os.path.lexists(path) or (_is_pattern(path) and _finds(path))


def _finds(pattern: str) -> bool:
    parts = pattern.split("/")
    start = "/" if pattern.startswith("/") else ""
    return any(isinstance(match, str) for match in _glob(start, parts[1:] if start else parts, inside=()))


def _glob(folder: str, parts: Sequence[str], *, inside: tuple[_Identity, ...]) -> Iterator[str | FoundInput]:
    """Names that the parts of a pattern fit below `folder`, in no order and perhaps twice.

    Python's own `glob` would follow a circle of links to the 40 levels that the system allows, in all combinations.
    """
    part, rest = parts[0], parts[1:]
    if part == "**" and not rest:
        rest = ["*"]
    if not _MAGIC.search(part):
        path = folder + part
        if rest:
            yield from _glob(f"{path}/", rest, inside=inside)
        elif os.path.lexists(path):
            yield path
        return
    if part == "**":
        yield from _glob(folder, rest, inside=inside)
    try:
        here = _identity(folder or ".")
        with os.scandir(folder or ".") as scan:
            entries = list(scan)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield _unreadable(folder.rstrip("/") or ".", os.path.abspath(folder), error)
        return
    fits = re.compile(fnmatch.translate(part)).match
    for entry in entries:
        if entry.name.startswith(".") and not part.startswith("."):
            continue
        path = folder + entry.name
        if part == "**":
            if _is_folder(entry) and not (entry.is_symlink() and _identity(entry.path) in (*inside, here)):
                yield from _glob(f"{path}/", parts, inside=(*inside, here))
        elif fits(entry.name):
            if not rest:
                yield path
            elif _is_folder(entry):
                yield from _glob(f"{path}/", rest, inside=(*inside, here))


def _is_remote_folder(path: str) -> bool:
    """Whether a URL that the user named stands for what lies under it; what has a known ending is a file."""
    if not (is_remote(path) and can_list(path)):
        return False
    key = urlsplit(path).path
    return key in ("", "/") or key.endswith("/") or (not kind_of(key) and is_remote_folder(path))


def _is_remote_pattern(path: str) -> bool:
    if not (_MAGIC.search(path) and is_remote(path) and can_list(path)):
        return False
    return bool(_MAGIC.search(urlsplit(path).netloc)) or not is_remote_file(path)


def _matcher(parts: Sequence[str], *, enters: bool) -> Callable[[RemoteEntry], str | None]:
    """What of a name the parts of a pattern fit, as `_glob` has it: all of it, or a folder, with a slash at its end.

    Args:
        enters: Take no folders.
    """
    parts = [*parts, "*"] if parts[-1] == "**" else parts
    tests = [None if part == "**" else re.compile(fnmatch.translate(part)).match for part in parts]
    takes_hidden = [part.startswith(".") or not _MAGIC.search(part) for part in parts]

    def fits(names: Sequence[str], number: int = 0) -> bool:
        if number == len(tests) or not names:
            return number == len(tests) and not names
        test, is_hidden = tests[number], names[0].startswith(".")
        if test is None:
            return fits(names, number + 1) or (not is_hidden and fits(names[1:], number))
        return (takes_hidden[number] or not is_hidden) and bool(test(names[0])) and fits(names[1:], number + 1)

    def match(entry: RemoteEntry) -> str | None:
        names = entry.name.split("/")
        for count in range(1, 1 if enters else len(names)):
            if fits(names[:count]):
                return "/".join(names[:count]) + "/"
        return entry.name if fits(names) else None

    return match


def _check_lists(lists: Sequence[str]) -> None:
    """Raise where a list is certain to fail; it is opened later, and once, since it may be a pipe."""
    if lists.count("-") > 1:
        raise ConfigError("stdin (-) was given as a list more than once: it can be read once")
    for path in lists:
        if path != "-" and not os.path.exists(path):
            raise ConfigError(f"no such file: {path!r}, which should hold a list of inputs")
        if path != "-" and os.path.isdir(path):
            raise ConfigError(f"{path!r} is a folder, not a list of inputs: name it as an input to read what it holds")


def _entry_status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:  # a broken or circular link: the decoder says which
        return None


def _identity(folder: str) -> _Identity:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISDIR(entry.stat().st_mode) if entry.is_symlink() else entry.is_dir()
    except OSError:  # as above
        return False


def _unreadable(name: str, folder: str, error: OSError) -> FoundInput:
    message = f"cannot list this folder: {error.strerror or error}"
    return FoundInput(name, folder, "folder", problem=Problem("unreadable_folder", message))
