"""Which inputs of a table a user means who names files, or names as the table has them."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from motivnet_cli.export.source import Source


class ChosenInputs:
    """The inputs that the user names, by files or by names.

    Raises:
        ConfigError: One of them is no input of the table, or stands for several.
    """

    def __init__(self, source: Source, given: Sequence[str]) -> None:
        self._files: dict[str, Path | None] = {}
        ends: dict[str, list[str]] = defaultdict(list)
        for each in given:
            if Path(each).is_dir():
                raise ConfigError(f"{each!r} is a folder: name files, or choose by --where \"input LIKE 'folder/%'\"")
            for end in _ends_of(each):
                ends[end].append(each)
        matches: dict[str, dict[str, int]] = {each: {} for each in given}
        same_file_name: dict[str, list[str]] = defaultdict(list)
        examples: list[str] = []
        for name in names_in(source):
            examples += [name][: 5 - len(examples)]
            plain = _plain(name)
            for each in ends.get(plain, ()):
                matches[each][name] = len(plain)
            same_file_name[posixpath.basename(plain)] += [name] if posixpath.basename(plain) in ends else []
        for each in given:
            longest = max(matches[each].values(), default=0)
            fitting = [name for name, length in matches[each].items() if length == longest]
            fitting = fitting or same_file_name[posixpath.basename(_plain(each))]
            if len(fitting) != 1:
                known = ", ".join(map(repr, (fitting or examples)[:5])) or "no picture and no video"
                raise ConfigError(f"{len(fitting)} inputs of {str(source.path)!r} fit {each!r}; there are {known}")
            self._files[fitting[0]] = Path(each) if Path(each).is_file() else None

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __len__(self) -> int:
        return len(self._files)

    def file_of(self, name: str) -> Path | None:
        """The file that stands for an input; None where only its name was given."""
        return self._files[name]


def names_in(source: Source) -> Iterator[str]:
    """The pictures and videos of a table, each once but for those that a table without inputs has in several places."""
    if source.has_inputs:
        yield from (info.input for info in source.inputs() if info.kind in ("image", "video"))
    else:
        for batch in source.batches(["input"]):
            yield from batch.column("input").unique().to_pylist()


def _ends_of(path: str) -> list[str]:
    """What names may stand for a path: all of it, and every end of it that begins with a whole part."""
    parts = _plain(str(Path(path).absolute())).split("/")
    return ["/".join(parts[n:]) for n in range(len(parts))]


def _plain(name: str) -> str:
    plain = posixpath.normpath(name)
    return posixpath.normpath(Path(plain).absolute().as_posix()) if plain.startswith("../") else plain
