"""Where an export may be written: nowhere that would cost the user a file.

One rule for tables, pages, videos and networks: what is read is never replaced, and what is there only when asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

MARKER = ".motivnet-export.json"
"""In every folder that an export made, so that `overwrite` removes no other."""


def check_destination(out: Path, reads: Iterable[str | Path], *, overwrite: bool, is_folder: bool = False) -> None:
    """Refuse a place that cannot be written, or whose files are not to be replaced.

    Args:
        out: The file or folder that is to appear.
        reads: What the export is made from; the inputs table beside an output counts with it, and so does all that
            is in a folder.
        overwrite: Replace a file, or a folder that an earlier export made.

    Raises:
        ConfigError: With what to do instead.
    """
    shown = str(out)
    if not out.parent.is_dir():
        raise ConfigError(f"cannot write {shown!r}: there is no folder {str(out.parent)!r}; make it first")
    real = out.resolve()
    for read in map(Path, reads):
        sources = {read.resolve(), read.with_suffix(".inputs.parquet").resolve()}
        holds = is_folder and real in read.resolve().parents
        if real in sources or holds or (read.is_dir() and read.resolve() in real.parents):
            raise ConfigError(f"{shown!r} holds what the export is made from ({str(read)!r}); give --out another name")
    if not out.exists():
        return
    if out.is_dir() != is_folder:
        is_there, wanted = ("folder", "file") if out.is_dir() else ("file", "folder")
        raise ConfigError(f"{shown!r} is a {is_there} and this export makes a {wanted}; give --out another name")
    if is_folder and not any(out.iterdir()):
        return
    if not overwrite:
        raise ConfigError(f"{shown!r} exists; give --overwrite to replace it, or --out another name")
    if is_folder and not (out / MARKER).is_file():
        raise ConfigError(f"{shown!r} is a folder that no export made, so it is not replaced; give --out another name")
