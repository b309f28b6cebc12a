"""SFEW 2.0: aligned faces, or whole frames of films, in folders by class within a folder for each split."""

from __future__ import annotations

import posixpath
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.evaluation.datasets.by_class import (
    MAX_WRAPPERS,
    has_class_folders,
    one_of_each,
    read_classes,
    split_named,
)
from motivnet_cli.evaluation.datasets.layouts import Layout
from motivnet_cli.inputs.decode import upright_size
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request, SplitRows

_SPLITS = ("train", "val")
_ALIGNED = "aligned_faces"
_MAX_ALIGNED_SIDE = 300
"""Aligned faces have 143 x 181 pixels, frames 720 x 576."""


def _recognise(request: Request, folder: str) -> Paths:
    """Paths by split and, where the folder's name says that faces are aligned, `val aligned`.

    Raises:
        ConfigError: Several folders could be the same.
    """
    found: dict[str, list[str]] = {}
    for path in (folder, *(f"{folder}/{name}" for name in request.disk.folders(folder))):
        split = split_named(posixpath.basename(path).casefold().partition(f"_{_ALIGNED}")[0])
        if split in _SPLITS:
            depth = 0 if path == folder else MAX_WRAPPERS
            for root in (each for level in request.disk.levels(path, depth) for each in level):
                if has_class_folders(request, root):
                    is_aligned = _ALIGNED in root[len(posixpath.dirname(folder)) :].casefold()
                    found.setdefault(f"{split} aligned" if is_aligned else split, []).append(root)
    return one_of_each(request, found)


def _read(request: Request, found: Recognised) -> SplitRows:
    split = request.split or request.card.default_split
    aligned, unnamed = found.paths.get(f"{split} aligned"), found.paths.get(split)
    folder = unnamed if request.protocol == "frames" else aligned or unnamed
    if folder is None:
        there = ", ".join(found.paths)
        raise ConfigError(
            f"sfew: {found.folder!r} has {there}, and no {request.protocol or ''} pictures of {split}: choose with "
            "--split and --protocol"
        )
    protocol, remarks = request.protocol or "aligned", []
    if folder == unnamed and request.protocol is None:
        size = _first_size(request, folder)
        if size is None:
            raise ConfigError(
                f"sfew: no picture below {folder!r} can be opened, to see whether it is a face or a frame: say it with "
                "--protocol"
            )
        protocol = "aligned" if max(size) <= _MAX_ALIGNED_SIDE else "frames"
        remarks.append(
            f"read as the protocol {protocol}, since the first picture has {size[0]} x {size[1]} pixels (aligned faces "
            "have 143 x 181, frames 720 x 576)"
        )
    names = [name for name in request.disk.folders(folder) if _ALIGNED not in name.casefold()]
    rows = read_classes(request, folder, split=split, protocol=protocol, remarks=remarks, names=names)
    return replace(rows, faces="whole" if protocol == "aligned" else "auto")


def _first_size(request: Request, folder: str) -> tuple[int, int] | None:
    """Width and height of the first picture that can be opened; None where none can."""
    for path in request.disk.walk(folder):
        if kind_of(path) == "image":
            with suppress(InputError):
                return upright_size(path)
    return None


LAYOUTS = (Layout(_recognise, _read),)
