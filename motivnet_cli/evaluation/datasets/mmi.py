"""MMI: a folder for each session, with a recording, its view and, of some, its emotion."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from typing import TYPE_CHECKING

from motivnet_cli.evaluation.datasets.disk import read_text
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.disk import Disk
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_SESSION = "session.xml"
_VIEWS = {"frontal": ("0",), "frontal_and_dual": ("0", "2")}
"""Protocol -> `view` of a recording's track in `session.xml`: 0 is the front, 1 the profile, 2 both side by side."""


def _recognise(request: Request, folder: str) -> Paths:
    disk = request.disk
    sessions = disk.child(folder, "Sessions") or folder
    has_session = any(disk.child(f"{sessions}/{name}", _SESSION) for name in disk.folders(sessions))
    return {"sessions": sessions} if has_session else {}


def _read(request: Request, found: Recognised) -> SplitRows:
    protocol = request.protocol or request.card.default_protocol or "frontal"
    disk, sessions = request.disk, found.paths["sessions"]
    rows = []
    dropped: Counter[str] = Counter()
    for name in disk.folders(sessions):
        row = _row(disk, f"{sessions}/{name}", _VIEWS[protocol])
        if isinstance(row, Row):
            rows.append(row)
        else:
            dropped[row] += 1
    return SplitRows(split="all", protocol=protocol, rows=rows, faces=request.card.faces, dropped=dropped, unit="clip")


def _row(disk: Disk, folder: str, views: tuple[str, ...]) -> Row | str:
    """The recording of a session with its emotion, or why it is not used."""
    videos = [name for name in disk.files(folder) if kind_of(name) == "video"]
    if len(videos) != 1:
        return "session without a recording" if not videos else "session with several recordings"
    stem = posixpath.splitext(videos[0])[0]
    about, session = disk.child(folder, f"{stem}.xml"), disk.child(folder, _SESSION)
    emotion = about and _value(read_text(about), "Metatag", "Value", Name="Emotion")
    if not emotion:
        return "session without an emotion"
    view = session and _value(read_text(session), "track", "view")
    if view not in views:
        return f"recording of view {view}" if view else "recording of a view that is not said"
    return Row(f"{folder}/{videos[0]}", emotion, subject=stem.partition("-")[0].upper())


def _value(text: str, tag: str, wanted: str, **also: str) -> str | None:
    """An attribute of the first element of this name that has these other attributes; None without such an element."""
    for element in re.findall(rf"<{tag}\b([^>]*)>", text):
        attributes = dict(re.findall(r"""([\w:.-]+)\s*=\s*["']([^"']*)["']""", element))
        if wanted in attributes and also.items() <= attributes.items():
            return attributes[wanted].strip() or None
    return None


LAYOUTS = (Layout(_recognise, _read),)
