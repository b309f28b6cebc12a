"""KDEF: a folder for each session of a person, pictures whose names hold the expression and the angle."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from typing import TYPE_CHECKING

from motivnet_cli.evaluation.datasets.layouts import MAX_NAMES, Layout, Row, SplitRows, image_count
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_NAME = re.compile(r"([AB])([FM]\d\d)([A-Z]{2})(FL|HL|S|HR|FR)\.(?:jpe?g|png|tiff?|bmp)", re.IGNORECASE)
"""Session, person, expression, angle."""
_GENDERS = {"F": "female", "M": "male"}


def _recognise(request: Request, folder: str) -> Paths:
    """Folders of pictures that are named so: the set's own for each session, or sorted by emotion, or none."""
    disk = request.disk
    folders = [folder, *(f"{folder}/{name}" for name in disk.folders(folder))]
    there = {path: path for path in folders if any(map(_NAME.fullmatch, disk.files(path)))}
    names = [name for path in there for name in disk.files(path) if _NAME.fullmatch(name)]
    return there if len(names) == len(set(names)) else {}  # two copies side by side are not one set


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


def remark_on_angles(paths: Iterable[str | None]) -> str | None:
    """What must be said of folders by emotion that hold KDEF's pictures of several angles; None of all others."""
    matches = [match for path in paths if path and (match := _NAME.fullmatch(posixpath.basename(path)))]
    if len({match[4].upper() for match in matches}) < 2:
        return None
    return (
        f"{image_count(len(matches))} are KDEF's by their names, and of several angles: --dataset kdef reads the "
        "frontal ones alone"
    )


LAYOUTS = (Layout(_recognise, _read),)
