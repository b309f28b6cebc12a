"""JAFFE: pictures whose names hold the subject and the expression."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_NAME = re.compile(r"([A-Z]{2})\.([A-Z]{2})(\d*)\.(\d+)\.(?:tiff?|png|jpe?g|bmp)", re.IGNORECASE)
"""Subject, expression, take, number."""


def _recognise(request: Request, folder: str) -> Paths:
    return {"pictures": folder} if any(map(_NAME.fullmatch, request.disk.files(folder))) else {}


def _read(request: Request, found: Recognised) -> SplitRows:
    rows = []
    dropped: Counter[str] = Counter()
    for name in request.disk.files(found.folder):
        match = _NAME.fullmatch(name)
        if match:
            rows.append(Row(f"{found.folder}/{name}", match[2].casefold(), subject=match[1].upper()))
        elif kind_of(name) == "image":
            dropped["name not understood"] += 1
    return SplitRows(split="all", rows=rows, faces=request.card.faces, dropped=dropped)


LAYOUTS = (Layout(_recognise, _read),)
