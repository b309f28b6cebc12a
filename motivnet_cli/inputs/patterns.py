"""Names with wildcards: patterns of paths, braces that stand for several names, and the filters of a walk."""

from __future__ import annotations

import fnmatch
import itertools
import math
import os
import re
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError
from motivnet_cli.remote.urls import is_remote, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    State = frozenset[int]
    """The parts of a pattern that the next name may fit, by their numbers."""

MAX_BRACED_NAMES = 1_000_000
"""Names that one brace pattern may stand for."""
_WILDCARDS = re.compile(r"[*?\[]")


def has_wildcards(text: str) -> bool:
    return bool(_WILDCARDS.search(text))


def split_pattern(pattern: str) -> tuple[str, list[str]]:
    """The folder that a pattern spells out, ending in a slash or empty, and the parts from the first wildcard on.

    What looks like a wildcard in the name of a folder that exists is part of its name.
    """
    start = "" if is_remote(pattern) else existing_folder(pattern)
    parts = pattern.removeprefix(start).split("/")
    first = next(number for number, part in enumerate(parts) if has_wildcards(part))
    return start + "".join(f"{part}/" for part in parts[:first]), parts[first:]


def existing_folder(path: str) -> str:
    """The longest start of a path that is a folder by that very name, ending in a slash; empty where there is none."""
    start = ""
    for part in path.split("/")[:-1]:
        if not os.path.isdir(f"{start}{part}/"):
            break
        start = f"{start}{part}/"
    return start


class Pattern:
    """What a path fits, part by part: `*`, `?` and `[...]` within a name, `**` for any number of folders, also none.

    As in a shell, wildcards fit a hidden name only where their part begins with a dot, and `**` enters no hidden
    folder. A walk carries a state from folder to folder: it begins with `start`, and `after` gives the next one.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = (*parts, "*") if parts[-1] == "**" else tuple(parts)
        self._fits = [re.compile(fnmatch.translate(part)).match for part in self._parts]
        self.start = self._with_none({0})

    def after(self, state: State, name: str, *, is_loop: bool = False) -> State:
        """The state behind a name; empty where nothing that begins so can fit.

        Args:
            is_loop: The name leads back to a folder above it, which `**` does not follow.
        """
        following: set[int] = set()
        for number in self._open(state):
            part = self._parts[number]
            if part == "**":
                if name and not name.startswith(".") and not is_loop:
                    following.add(number)
            elif part == name:  # also of a name with brackets or asterisks in it
                following.add(number + 1)
            elif not has_wildcards(part):
                continue
            elif (part.startswith(".") or not name.startswith(".")) and self._fits[number](name):
                following.add(number + 1)
        return self._with_none(following)

    def is_whole(self, state: State) -> bool:
        """Whether the names so far fit the whole pattern."""
        return len(self._parts) in state

    def goes_on(self, state: State) -> bool:
        """Whether longer paths may fit as well."""
        return bool(self._open(state))

    def spelt_out(self, state: State) -> set[str]:
        """The next names that have no wildcards."""
        return {self._parts[number] for number in self._open(state) if not has_wildcards(self._parts[number])}

    def has_wildcards(self, state: State) -> bool:
        """Whether the next name may be another than one of `spelt_out`."""
        return any(has_wildcards(self._parts[number]) for number in self._open(state))

    def _open(self, state: State) -> State:
        return state - {len(self._parts)}

    def _with_none(self, numbers: set[int]) -> State:
        """With the parts behind each `**`, which may stand for no folder."""
        for number, part in enumerate(self._parts):
            if part == "**" and number in numbers:
                numbers.add(number + 1)
        return frozenset(numbers)


class Filter:
    """`include` and `exclude`: each pattern is tried on the path below the given folder and on the name alone."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        self._include = _any_of(include)
        self._exclude = _any_of(exclude)

    def takes_file(self, below: str, name: str) -> bool:
        return self.takes_folder(below, name) and (
            self._include is None or bool(self._include.match(name) or self._include.match(below))
        )

    def takes_folder(self, below: str, name: str) -> bool:
        return self._exclude is None or not (self._exclude.match(name) or self._exclude.match(below))


def _any_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, patterns))) if patterns else None


def expand_braces(given: str) -> Iterable[str]:
    """`a{00..12}b` and `a{x,y}b` as a shell has them; other braces stay, and so do names of files and folders there.

    Raises:
        ConfigError: It stands for too many names.
    """
    if "{" not in given or os.path.lexists(given):
        return (given,)
    start = existing_folder(given)
    pieces = re.split(r"\{((?:-?\d+\.\.-?\d+)|[^{}]*,[^{}]*)\}", given.removeprefix(start))
    pieces[0] = start + pieces[0]
    choices = [_choices(piece) if number % 2 else [piece] for number, piece in enumerate(pieces)]
    count = math.prod(map(len, choices))
    if count > MAX_BRACED_NAMES:
        raise ConfigError(
            f"{shown(given)!r} stands for {count} names, more than {MAX_BRACED_NAMES}: give a list or a folder"
        )
    return map("".join, itertools.product(*choices))


def _choices(braced: str) -> Sequence[str]:
    if "," in braced:
        return braced.split(",")
    first, last = braced.split("..")
    width = max(len(end) if re.match(r"-?0\d", end) else 0 for end in (first, last))
    step = 1 if int(first) <= int(last) else -1
    if abs(int(last) - int(first)) >= MAX_BRACED_NAMES:
        raise ConfigError(f"{{{braced}}} stands for more than {MAX_BRACED_NAMES} names: give a list or a folder")
    return [f"{number:0{width}d}" for number in range(int(first), int(last) + step, step)]
