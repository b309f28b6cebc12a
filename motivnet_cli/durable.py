"""Files that appear under their name whole or not at all, whatever kills the process or the machine."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def durably(final: Path) -> Iterator[Path]:
    """A temporary name beside `final`; what the block writes there is synced and appears under `final`."""
    temporary = temporary_name(final)
    yield temporary
    sync(temporary)
    temporary.replace(final)
    sync(final.parent)


def temporary_name(final: Path) -> Path:
    """Hidden, without the ending that readers look for, and the same each time, so that no litter gathers."""
    return final.with_name(f".{final.name}.tmp")


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk before going on (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
