"""CREMA-D: recordings of actors, whose file names hold actor, sentence, emotion and level."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from typing import TYPE_CHECKING

from motivnet_cli.evaluation.datasets.clip_folders import clips_below
from motivnet_cli.evaluation.datasets.disk import scan_csv
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_NAME = re.compile(r"(\d{4})_[A-Z]{3}_([A-Z]{3})_(LO|MD|HI|XX?)", re.IGNORECASE)
"""Actor, sentence, emotion, level. One file of the set ends in X alone."""
_PEOPLE = {"gender": "sex", "age": "age", "race": "race", "ethnicity": "ethnicity"}
"""What is known of actors, by the columns of `VideoDemographics.csv` in lower case."""


def _recognise(request: Request, folder: str) -> Paths:
    disk = request.disk
    clips = disk.child(folder, "VideoFlash") or folder
    if not any(_NAME.fullmatch(posixpath.splitext(name)[0]) for name in disk.entries(clips)):
        return {}
    people = disk.child(folder, "VideoDemographics.csv") or disk.child(
        posixpath.dirname(folder), "VideoDemographics.csv"
    )
    return {"clips": clips, "people": people} if people else {"clips": clips}


def _read(request: Request, found: Recognised) -> SplitRows:
    people = _people(found.paths.get("people"), request.columns)
    rows: dict[str, Row] = {}
    dropped: Counter[str] = Counter()
    for path in clips_below(request.disk, found.paths["clips"]):
        name = posixpath.splitext(posixpath.basename(path))[0].upper()
        match = _NAME.fullmatch(name)
        if match is None:
            dropped["name not understood"] += 1
        elif name in rows:
            dropped["second file of a recording"] += 1
        else:
            known = {"level": match[3], **people.get(match[1], {})}
            rows[name] = Row(path, match[2], subject=match[1], columns=known)
    return SplitRows(
        split="all",
        rows=[*rows.values()],
        faces=request.card.faces,
        dropped=dropped,
        columns=("level", *(_PEOPLE if "people" in found.paths else ())),
        unit="clip",
    )


def _people(path: str | None, asked: Sequence[str]) -> dict[str, dict[str, str]]:
    """What the table of actors says, by the number of the actor; nothing where nothing of it is asked for."""
    if path is None or _PEOPLE.keys().isdisjoint(asked):
        return {}
    table = scan_csv(path, {"actor": "actorid", **_PEOPLE}).collect()
    return {
        row["actor"]: {name: _range_of(row[name]) if name == "age" else row[name] for name in _PEOPLE if row[name]}
        for row in table.iter_rows(named=True)
        if row["actor"]
    }


def _range_of(age: str) -> str:
    """The ten years that an age is in, such as 20-29: of 91 actors, ages themselves make no groups."""
    if not age.strip().isdecimal():
        return age
    first = int(age) // 10 * 10
    return f"{first}-{first + 9}"


LAYOUTS = (Layout(_recognise, _read),)
