"""How much a task asks of a file system: no more than docs/cluster.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.file_calls import KINDS, STEPS, UNITS, counted, why_not

PAGE = Path(__file__).parents[1] / "docs" / "cluster.md"
COLUMNS = ("opened", "created", "listed", "locked", "renamed", "synced", "looked at", "made or removed")


def said():
    """The table of the page: step -> kind of call -> number."""
    rows = re.findall(r"^\| \*(\w+)\*:? .*?\| ((?:\d+ \| ){7}\d+) \|$", PAGE.read_text(), re.MULTILINE)
    return {step: dict(zip(COLUMNS, map(int, numbers.split(" | ")), strict=True)) for step, numbers in rows}


@pytest.mark.thorough
@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_no_more_calls_than_the_page_says(tmp_path):
    """Of a start, a unit, the end of a task and that of the run; the last step goes through the parts of all units."""
    bounds = said()
    for kind, number in bounds.pop("part").items():
        bounds["complete"][kind] += UNITS * number
    calls = counted(tmp_path / "task")

    assert bounds.keys() == {*STEPS}
    assert {*COLUMNS} == {*KINDS, "created", "listed"}
    for step, numbers in calls.items():
        over = {kind: (n, bounds[step][kind]) for kind, n in numbers.items() if n > bounds[step][kind]}
        assert not over, step
        assert sum(numbers.values()), step
