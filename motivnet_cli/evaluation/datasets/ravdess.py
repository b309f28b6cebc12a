"""RAVDESS: recordings of actors, whose file names hold emotion, actor and all else in seven numbers."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from typing import TYPE_CHECKING

from motivnet_cli.evaluation.datasets.clip_folders import clips_below
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_CODE = re.compile(r"(0[12])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(\d\d)")
"""Modality (01 with sound, 02 without), channel (01 speech, 02 song), emotion, intensity, statement, repetition,
actor. Modality 03 is sound alone."""
_ACTOR = re.compile(r"(video_(speech|song)_)?actor_\d\d", re.IGNORECASE)
_CHANNELS = {"speech": ("01",), "song": ("02",), "speech_and_song": ("01", "02")}


def _recognise(request: Request, folder: str) -> Paths:
    folders = _folders(request, folder)
    return {path: path for path in folders if any(_code_of(clip) for clip in clips_below(request.disk, path))}


def _folders(request: Request, folder: str) -> Iterator[str]:
    """Those of the actors; the folder itself where it holds recordings of them all."""
    names = [name for name in request.disk.folders(folder) if _ACTOR.fullmatch(name)]
    yield from (f"{folder}/{name}" for name in names)
    if not names and any(_CODE.match(name) for name in request.disk.entries(folder)):
        yield folder


def _code_of(path: str) -> re.Match[str] | None:
    return _CODE.fullmatch(posixpath.splitext(posixpath.basename(path))[0])


def _read(request: Request, found: Recognised) -> SplitRows:
    protocol = request.protocol or request.card.default_protocol or "speech"
    recordings: dict[str, tuple[str, re.Match[str]]] = {}
    dropped: Counter[str] = Counter()
    for path in (clip for folder in found.paths for clip in clips_below(request.disk, folder)):
        code = _code_of(path)
        if code is None:
            dropped["name not understood"] += 1
        elif code[2] in _CHANNELS[protocol]:
            recording = code[0].partition("-")[2]
            if recording in recordings:
                dropped["second file of a recording"] += 1
            if recording not in recordings or code[0] < recordings[recording][1][0]:
                recordings[recording] = (path, code)
    rows = [Row(path, code[3], subject=code[7], columns=_known(code)) for path, code in recordings.values()]
    return SplitRows(
        split="all",
        protocol=protocol,
        rows=rows,
        faces=request.card.faces,
        dropped=dropped,
        columns=("gender", "intensity", "channel"),
        unit="clip",
    )


def _known(code: re.Match[str]) -> dict[str, str]:
    return {
        "gender": "male" if int(code[7]) % 2 else "female",
        "intensity": {"01": "normal", "02": "strong"}[code[4]],
        "channel": {"01": "speech", "02": "song"}[code[2]],
    }


LAYOUTS = (Layout(_recognise, _read),)
