"""Sequences of frames that go from a neutral face to the height of an expression: which frames are evaluated."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from motivnet_cli.evaluation.datasets.disk import Disk


def frames_in(disk: Disk, folder: str) -> list[str]:
    """The pictures of a folder by the numbers in their names, 2 before 10; none if there is no such folder."""
    names = [name for name in disk.files(folder) if kind_of(name) == "image"]
    return [f"{folder}/{name}" for name in sorted(names, key=_by_number)]


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def chosen_frames(frames: Sequence[str], num_last: int, *, with_neutral: bool) -> Iterator[tuple[str, bool]]:
    """The last frames of a sequence and, if asked for, its first one as neutral.

    A sequence that has no more frames than the last ones has no neutral one.

    Yields:
        Pairs of a path and whether it is the neutral frame.
    """
    for path in frames[-num_last:]:
        yield path, False
    if with_neutral and len(frames) > num_last:
        yield frames[0], True
