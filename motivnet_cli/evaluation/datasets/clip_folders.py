"""What the readers of several sets of clips share: folds, and clips that are videos or folders of frames."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from motivnet_cli.evaluation.datasets.disk import Disk
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

FOLDS = range(1, 6)


def find_folds(request: Request, folder: str, lists: Sequence[str], clips: Mapping[str, Sequence[str]]) -> Paths:
    """The list of each fold's test clips, and where the clips of each protocol are; empty without a list.

    Args:
        lists: Where a list may be, with `{fold}` for its number.
        clips: Protocol -> where its clips may be.
    """
    disk = request.disk
    found: dict[str, str] = {}
    for fold in FOLDS:
        if path := disk.child(folder, *(name.format(fold=fold) for name in lists)):
            found[f"fold{fold}"] = path
    if found:
        for protocol, names in clips.items():
            if path := disk.child(folder, *names):
                found[protocol] = path
    return found


def chosen_folds(request: Request, found: Recognised) -> tuple[str, list[str]]:
    """The split, and the lists of its test clips: one fold's, or those of all five."""
    there = [f"fold{fold}" for fold in FOLDS if f"fold{fold}" in found.paths]
    split = request.split or request.card.default_split
    wanted = [f"fold{fold}" for fold in FOLDS] if split == "all" else [split]
    if missing := [fold for fold in wanted if fold not in there]:
        raise ConfigError(
            f"{request.card.name}: {found.folder!r} has no list of {', '.join(missing)}; it has {', '.join(there)}: "
            "choose with --split"
        )
    return split, [found.paths[fold] for fold in wanted]


def chosen_clips(request: Request, found: Recognised) -> tuple[str, str, tuple[str, ...]]:
    """The protocol, its folder, and a remark where it is not the default one because that is not there."""
    protocols = request.card.protocols
    there = [name for name in protocols if name in found.paths]
    protocol = request.protocol or next(iter(there), None)
    if protocol is None or protocol not in there:
        raise ConfigError(
            f"{request.card.name}: {found.folder!r} has lists but not the clips of "
            f"{f'protocol {request.protocol}' if request.protocol else 'any protocol'} ({found.layout}); "
            f"it has those of: {', '.join(there) or 'none'}"
        )
    default = request.card.default_protocol
    remark = f"the clips of protocol {default} are not there: those of {protocol} are used ({protocols[protocol]})"
    is_second_choice = request.protocol is None and protocol != default
    return protocol, found.paths[protocol], (remark,) if is_second_choice else ()


def numbered_clips(disk: Disk, folder: str) -> dict[str, str]:
    """Number, without the zeros before it -> path of each clip below a folder that is called by it: `00012.mp4`, `12`.

    Folders with other names, as parts of an archive are unpacked into, are entered.
    """
    clips: dict[str, str] = {}
    for name, is_folder in disk.entries(folder).items():
        stem = name if is_folder else posixpath.splitext(name)[0]
        path = f"{folder}/{name}"
        if stem.isdecimal() and (is_folder or kind_of(name) == "video"):
            clips.setdefault(stem.lstrip("0"), path)
        elif is_folder:
            for number, below in numbered_clips(disk, path).items():
                clips.setdefault(number, below)
    return clips


def clips_below(disk: Disk, folder: str) -> Iterator[str]:
    """Every video below a folder, and every folder below it that holds pictures."""
    for name in disk.files(folder):
        if kind_of(name) == "video":
            yield f"{folder}/{name}"
    for name in disk.folders(folder):
        path = f"{folder}/{name}"
        if any(kind_of(file) == "image" for file in disk.files(path)):
            yield path
        else:
            yield from clips_below(disk, path)
