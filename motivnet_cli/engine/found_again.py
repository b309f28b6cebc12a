"""The inputs of an output, found and read again: where they lie now, whether they have changed, their pictures.

They are looked for where the plan has them, else where the run's settings lead, else where the user says.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from motivnet_cli import __version__
from motivnet_cli.config import FaceConfig, LoaderConfig, VideoConfig
from motivnet_cli.durable import sha256_of
from motivnet_cli.engine.given_frames import GivenFrames
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.inputs.archive import Archive
from motivnet_cli.inputs.listing import listed_again
from motivnet_cli.output.verify_sample import planned_items
from motivnet_cli.records import Item
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from motivnet_cli.engine.picture_reader import PictureReader
    from motivnet_cli.inputs.cells import CellReader
    from motivnet_cli.output.verify_sample import SampledInput
    from motivnet_cli.records import Frame, GivenFace

_Config = TypeVar("_Config", FaceConfig, LoaderConfig, VideoConfig)


def find_items(
    path: str, inputs: Iterable[SampledInput], settings: Mapping[str, object], *, inputs_from: str | None
) -> dict[str, Item]:
    """The items of some inputs of an output, by their names; of members of an archive that of the archive.

    Args:
        path: The output.
        settings: Of its run, as recorded.
        inputs_from: The folder below which the inputs lie by their names; None looks where the run had them.

    Returns:
        With `inputs_from` every one, there or not, else those that are found.
    """
    kinds = {each.archive or each.name: "archive" if each.archive else each.kind for each in inputs}
    if inputs_from is not None:
        return {name: Item(0, name, str(Path(inputs_from, name)), kind) for name, kind in kinds.items()}
    names = set(kinds)
    found = planned_items(path, names)
    return found if len(found) == len(names) else _listed(settings, names - set(found)) | found


def _listed(settings: Mapping[str, object], names: set[str]) -> dict[str, Item]:
    """The items of these names that the run's own inputs hold now."""
    found: dict[str, Item] = {}
    by_end: dict[str, list[Item]] = {}
    ends = {name: _without_dots(name) for name in names}
    last_parts = {Path(end).name for end in ends.values()}
    for item in listed_again(settings):
        if item.input in names:
            found[item.input] = item
        elif Path(item.input).name in last_parts:
            by_end.setdefault(Path(item.input).name, []).append(item)
    for name in names - set(found):
        # Names that were given relative to a folder: the record has the inputs by their absolute paths.
        fitting = [item for item in by_end.get(Path(name).name, []) if f"/{item.input}".endswith(f"/{ends[name]}")]
        if len(fitting) == 1:
            found[name] = replace(fitting[0], input=name)
    return found


def recorded(config: type[_Config], settings: Mapping[str, object], name: str) -> _Config:
    """A part of a run's settings, such as `faces`, as the run's record has it.

    Raises:
        ConfigError: It has a setting that this version does not know.
    """
    values = {key.removeprefix(f"{name}."): value for key, value in settings.items() if key.startswith(f"{name}.")}
    if unknown := values.keys() - {field.name for field in fields(config)}:
        raise ConfigError(
            f"the record of the run has the setting {name}.{min(unknown)}, which motivnet {__version__} does not know: "
            "use the version that wrote it"
        )
    return config(**values)  # type: ignore[arg-type]


def _without_dots(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


def is_changed(item: Item, about: SampledInput) -> bool:
    """Whether the file is another one than the run read, as far as its size and its hash tell."""
    if is_remote(item.path) or item.row is not None or about.archive is not None or about.size_bytes is None:
        return False
    path = Path(item.path)
    return path.stat().st_size != about.size_bytes or (about.sha256 is not None and sha256_of(path) != about.sha256)


def pictures_of(
    item: Item, names: Collection[str], reader: PictureReader, cells: CellReader, *, every_frame: bool
) -> Iterator[tuple[str, Frame, tuple[GivenFace, ...] | None]]:
    """The pictures of an item: name of the input, pixels, and faces that a manifest gives.

    Args:
        names: Of an archive, the members that are wanted.
        every_frame: Of a video, all frames and not those that the reader samples.

    Raises:
        InputError: It cannot be read.
        OSError: It is not there.
    """
    if item.kind == "archive":
        archive = Archive(item.path, allow_private=reader.allow_private)
        for member in archive:
            name = f"{item.input}/{member.name}"
            if name in names and not member.problem:
                yield name, reader.decode(item.path, member.data), None
        if problem := archive.report.problem:
            raise InputError(problem.error_type, problem.message)
    elif item.kind == "video":
        with reader.opened_video(item.path, every_frame=every_frame or item.given is not None) as video:
            if item.given is not None:
                for frame, faces in GivenFrames(item.given).among(video):
                    yield item.input, frame, faces
            else:
                for frame in video:
                    yield item.input, frame, None
    elif item.column is not None and item.row is not None:
        data = cells.read(item.path, item.column, item.row)
        yield item.input, reader.decode(item.path, data), item.given
    else:
        yield item.input, reader.decode(item.path), item.given
