"""KDEF: a folder for each session of a person, pictures whose names hold the expression and the angle."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from motivnet_cli.evaluation.datasets.layouts import MAX_NAMES, Layout, Row, SplitRows, image_count
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_FOLDER = re.compile(r"[AB][FM]\d\d", re.IGNORECASE)
_NAME = re.compile(r"([AB])([FM]\d\d)([A-Z]{2})(FL|HL|S|HR|FR)\.(?:jpe?g|png|tiff?|bmp)", re.IGNORECASE)
"""Session, person, expression, angle."""
_GENDERS = {"F": "female", "M": "male"}


def _recognise(request: Request, folder: str) -> Paths:
    disk = request.disk
    folders = [folder, *(f"{folder}/{name}" for name in disk.folders(folder) if _FOLDER.fullmatch(name))]
    return {path: path for path in folders if any(map(_NAME.fullmatch, disk.files(path)))}


def _read(request: Request, found: Recognised) -> SplitRows:
    protocol = request.protocol or request.card.default_protocol
    rows = []
    dropped: Counter[str] = Counter()
    others: list[str] = []
    for folder in found.paths.values():
        for name in request.disk.files(folder):
            match = _NAME.fullmatch(name)
            if match and (protocol == "all_angles" or match[4].upper() == "S"):
                session, person, expression, angle = (part.upper() for part in match.groups())
                known = {"gender": _GENDERS[person[0]], "session": session, "angle": angle}
                rows.append(Row(f"{folder}/{name}", expression.casefold(), subject=person, columns=known))
            elif not match and kind_of(name) == "image":
                others.append(name)
    remarks = []
    if others:
        dropped["name not understood"] = len(others)
        remarks = [f"{image_count(len(others))} with other names than KDEF's: {', '.join(others[:MAX_NAMES])}"]
    return SplitRows(
        split="all",
        protocol=protocol,
        rows=rows,
        faces=request.card.faces,
        dropped=dropped,
        remarks=remarks,
        columns=("gender", "session", "angle"),
    )


LAYOUTS = (Layout(_recognise, _read),)
