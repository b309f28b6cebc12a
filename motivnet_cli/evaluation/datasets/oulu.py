"""Oulu-CASIA: sequences of frames by camera, lighting, person and emotion."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows
from motivnet_cli.evaluation.datasets.sequences import chosen_frames, frames_in

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.card import Faces
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_CAMERAS = ("VL", "NI")
"""Visible light, and near infrared."""
_LIGHTINGS = ("Strong", "Weak", "Dark")
_SUBJECT = re.compile(r"P\d{3}", re.IGNORECASE)
_ORIGINAL = ("{}", "OriginalImg/{}", "B_OriginalImg/{}", "B_OriginalImg/OriginalImg/{}")
_CROPPED = ("{}_Acropped", "PreProcess_Img/{}_Acropped", "PreProcessImg/{}_Acropped", "PreProcess/{}_Acropped")


def _layout(places: tuple[str, ...], faces: Faces) -> Layout:
    def recognise(request: Request, folder: str) -> Paths:
        found = {}
        for camera in _CAMERAS:
            path = request.disk.child(folder, *(place.format(camera) for place in places))
            for lighting in _LIGHTINGS:
                below = path and request.disk.child(path, lighting)
                if below and any(map(_SUBJECT.fullmatch, request.disk.folders(below))):
                    found[f"{camera}_{lighting}".casefold()] = below
        return found

    def read(request: Request, found: Recognised) -> SplitRows:
        return _read(request, found, faces)

    return Layout(recognise, read)


def _read(request: Request, found: Recognised, faces: Faces) -> SplitRows:
    protocol = request.protocol or request.card.default_protocol or ""
    num_last, with_neutral = 1 if protocol.endswith("_last") else 3, protocol.endswith("_neutral")
    root = found.paths.get(protocol.removesuffix("_last").removesuffix("_neutral"))
    if root is None:
        raise ConfigError(
            f"oulucasia: {found.folder!r} has no sequences of protocol {protocol} in this layout ({found.layout}); "
            f"it has those of {', '.join(found.paths)}: choose with --protocol"
        )
    disk = request.disk
    rows: list[Row] = []
    dropped: Counter[str] = Counter()
    for subject in filter(_SUBJECT.fullmatch, disk.folders(root)):
        for label in disk.folders(f"{root}/{subject}"):
            pictures = frames_in(disk, f"{root}/{subject}/{label}")
            if not pictures:
                dropped["sequence without pictures"] += 1
            for path, is_neutral in chosen_frames(pictures, num_last, with_neutral=with_neutral):
                rows.append(Row(path, "neutral" if is_neutral else label, subject.upper()))
    return SplitRows(split="all", protocol=protocol, rows=rows, faces=faces, dropped=dropped, names_classes=True)


LAYOUTS = (_layout(_ORIGINAL, "auto"), _layout(_CROPPED, "whole"))
