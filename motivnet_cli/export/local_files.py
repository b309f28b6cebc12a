"""Where the files of a run's inputs lie on this machine, for whoever shows their pixels, and which cannot be had.

A file that is not the one that the run read is never given, as far as the inputs table tells: by its size, and by its
hash where the run took one.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, TypeAlias

from motivnet_cli.durable import sha256_of
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.source import InputRow
from motivnet_cli.inputs.listing import listed_again
from motivnet_cli.output.verify_sample import SampledInput
from motivnet_cli.records import Item, Problem
from motivnet_cli.remote.urls import is_remote, local_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from motivnet_cli.export.source import Source

Absence: TypeAlias = Literal["missing", "remote", "archived", "changed"]
"""Why there is no file: not where it was, behind a URL, within an archive, or another one than the run read."""

_WORDS: dict[Absence, str] = {
    "missing": "not where the run read {them}",
    "remote": "behind a URL",
    "archived": "in an archive",
    "changed": "changed since the run",
}


class LocalFiles:
    """The local files of the inputs of a run.

    Args:
        source: The predictions.
        images_from: A folder to which the files have moved, under the names that the inputs have. What lay in a folder
            that the run was given is also looked for directly below it, and so is what lay in an archive.

    Raises:
        ConfigError: `images_from` is no folder.
    """

    def __init__(self, source: Source, images_from: str | None = None) -> None:
        self._source = source
        self._settings = source.record.get("settings", {})
        self._given = [Path(name) for name in source.settings("inputs.paths") if not is_remote(name)]
        folder = self._settings.get("inputs.relative_to")
        self._relative_to = Path(folder) if isinstance(folder, str) else None
        self._moved_to = None if images_from is None else Path(local_path(images_from))
        if self._moved_to is not None and not self._moved_to.is_dir():
            raise ConfigError(f"--images-from {images_from!r} is no folder: give the one that holds the pictures now")
        self._found: dict[str, Path | Absence] = {}
        self._found_archives: dict[str, Path | Absence] = {}

    def find(self, info: InputRow) -> Path | None:
        """The file of an input, if it is here and the one that the run read; an input may be asked for again."""
        found = self.look_for(info)
        return found if isinstance(found, Path) else None

    def look_for(self, info: InputRow) -> Path | Absence:
        """The same, or why there is none."""
        if info.input not in self._found:
            self._found[info.input] = self._look_for(info)
        return self._found[info.input]

    def find_archive(self, info: InputRow) -> Path | None:
        """The archive that an input is a member of, if it is here and the one that the run read."""
        found = None if info.archive is None else self._look_for_archive(info.archive)
        return found if isinstance(found, Path) else None

    def items_of(self, infos: Iterable[InputRow]) -> tuple[dict[str, SampledInput], dict[str, Item]]:
        """What `FacesAgain` takes: what is known of inputs, and the items of those that are found or have changed.

        An archive is taken before what was unpacked from it, and a member that lies unpacked is none any more. That
        they are as the run read them has been looked at here.
        """
        inputs: dict[str, SampledInput] = {}
        items: dict[str, Item] = {}
        for info in infos:
            archive = self.find_archive(info)
            found = archive or self.look_for(info)
            about = SampledInput(info.input, info.kind, info.archive if archive else None, None, None)  # type: ignore[arg-type]
            inputs[info.input] = about
            name, kind = (about.archive, "archive") if about.archive else (info.input, info.kind)
            problem = Problem("changed", "another file than the run read") if found == "changed" else None
            if isinstance(found, Path) or problem:
                items[name] = Item(0, name, str(found), kind, problem)  # type: ignore[arg-type]
        return inputs, items

    def absence_of(self, info: InputRow) -> Absence | None:
        """Why an input that was asked for has no file."""
        found = self._found.get(info.input)
        return None if isinstance(found, Path) else found

    def leave_out(self, name: str) -> None:
        """Take the file of an input for changed, since its content turned out to be another."""
        self._found[name] = "changed"

    @property
    def absences(self) -> Counter[Absence]:
        """Of the inputs asked for, those without a file: how many for which reason."""
        return Counter(found for found in self._found.values() if not isinstance(found, Path))

    @property
    def sentence(self) -> str:
        """What could not be had, and the way on; empty where nothing is amiss."""
        return sentence_on(self.absences, len(self._found))

    def _look_for(self, info: InputRow) -> Path | Absence:
        if is_remote(info.input):
            return "remote"
        is_changed = False
        for path in self._candidates(info):
            if path.is_file():
                if _is_as_read(path, info):
                    return path
                is_changed = True
        if info.archive is not None:
            return "changed" if is_changed or self._look_for_archive(info.archive) == "changed" else "archived"
        return "changed" if is_changed else "missing"

    def _look_for_archive(self, name: str) -> Path | Absence:
        if name not in self._found_archives:
            self._found_archives[name] = self._look_for(self._archives.get(name) or InputRow(name, "archive", "ok"))
        return self._found_archives[name]

    @cached_property
    def _archives(self) -> dict[str, InputRow]:
        """By name, what the inputs table says of them."""
        return {row.input: row for row in self._source.inputs() if row.kind == "archive"}

    def _candidates(self, info: InputRow) -> Iterator[Path]:
        """Where the file may be, the likeliest first."""
        name = Path(info.input)
        if self._moved_to is not None:
            yield self._moved_to / _below(name)
            if info.archive is not None and info.input.startswith(f"{info.archive}/"):
                yield self._moved_to / _below(Path(info.input[len(info.archive) + 1 :]))
            for given in self._given:
                if given == name:
                    yield self._moved_to / name.name
                elif given in name.parents:
                    inside = _below(name.relative_to(given))
                    # Of several folders that were given, two may hold a file of the same name.
                    yield self._moved_to / (inside if len(self._given) == 1 else given.name / inside)
        if info.archive is not None:
            return
        if name.is_absolute():
            yield name
        elif self._relative_to is not None:
            yield self._relative_to / name
        elif self._given:
            yield from self._below_given(name)
        else:
            yield name
        if info.input in self._listed:
            yield self._listed[info.input]

    @cached_property
    def _listed(self) -> dict[str, Path]:
        """By its name, each file that the run's own folders, lists and manifests name now.

        It is asked where the name alone does not lead to a file: one that is no UTF-8, or that only a list knows.
        """
        paths = [str(path) for path in self._given]
        items = listed_again({**self._settings, "inputs.paths": paths})
        return {item.input: Path(item.path) for item in items if item.row is None and not is_remote(item.path)}

    def _below_given(self, name: Path) -> Iterator[Path]:
        """Places of a name that is relative to a given path, or begins with one."""
        parts = [part for part in name.parts if part != ".."]
        for given in self._given:
            for shared in range(len(parts) + 1):
                if not shared or given.parts[-shared:] == tuple(parts[:shared]):
                    yield given.joinpath(*parts[shared:])


def sentence_on(absences: Counter[Absence], num_asked: int) -> str:
    """What could not be had of so many inputs, and the way on; empty where nothing is amiss."""
    if not absences:
        return ""
    reasons = [f"{absences[each]:,} {_WORDS[each]}" for each in _WORDS if absences[each]]
    listed = ", ".join(reasons).format(them="it" if absences["missing"] == 1 else "them")
    text = f"The files of {absences.total():,} of {num_asked:,} inputs to be shown cannot be used: {listed}."
    if absences["missing"] or absences["archived"]:
        text += " If they lie in another folder now, give it with --images-from FOLDER."
    return text


def _below(name: Path) -> PurePosixPath:
    """The name without what would lead out of a folder."""
    return PurePosixPath(*(part for part in name.parts if part not in ("..", name.anchor)))


def _is_as_read(path: Path, info: InputRow) -> bool:
    """Whether it is the file that the run read, as far as is known."""
    try:
        if info.archive is None and info.size_bytes is not None and path.stat().st_size != info.size_bytes:
            return False
        return info.sha256 is None or sha256_of(path) == info.sha256
    except OSError:
        return False
