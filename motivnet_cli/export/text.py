"""Text files that are written piece by piece, so that no format holds more than a video at a time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from pathlib import Path


class JsonElements:
    """The elements of a JSON array or object, written one by one; the brackets around them are the caller's."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.count = 0

    def add(self, value: object, *, key: str | None = None) -> None:
        """Write an element: of an array, or of an object, under a key."""
        name = "" if key is None else f"{json_text(key)}: "
        self._file.write(f"{',' if self.count else ''}\n{name}{json_text(value)}")
        self.count += 1


def json_text(value: object) -> str:
    """A value as strict JSON, so without NaN, on one line."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def open_text(path: Path) -> TextIO:
    """A new text file: UTF-8, LF at line ends."""
    return path.open("w", encoding="utf-8", newline="\n")
