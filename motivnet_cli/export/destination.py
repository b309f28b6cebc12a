"""Where an export may be written: nowhere that would cost the user a file.

One rule for tables, pages, videos and networks: what an export reads is never replaced, what exists only when asked.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli.durable import sync, temporary_name
from motivnet_cli.errors import ConfigError
from motivnet_cli.output.names import inputs_beside
from motivnet_cli.output.written import WrittenPaths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MARKER = ".motivnet-export.json"
"""Name of a file in every folder that an export made; `overwrite` replaces no folder without it."""


def check_destination(out: Path, reads: Iterable[str | Path], *, overwrite: bool, is_folder: bool = False) -> None:
    """Refuse a destination that cannot be written, or whose files must not be replaced.

    Args:
        out: The file or folder that is to appear.
        reads: What the export is made from. The inputs table beside an output counts with it, and so does everything
            in a folder.
        overwrite: Replace a file, or a folder that an earlier export made.
        is_folder: Whether `out` is to be a folder.

    Raises:
        ConfigError: With what to do instead.
    """
    name = str(out)
    if not out.parent.is_dir():
        raise ConfigError(f"cannot write {name!r}: there is no folder {str(out.parent)!r}; make it first")
    written = WrittenPaths(name, [out])
    for read in map(Path, reads):
        is_written = any(map(written.holds, map(str, (read, inputs_beside(read)))))
        if is_written or (read.is_dir() and read.resolve() in out.resolve().parents):
            raise ConfigError(f"{name!r} holds what the export is made from ({str(read)!r}); give --out another name")
    if not out.exists():
        return
    if out.is_dir() != is_folder:
        found, wanted = ("folder", "file") if out.is_dir() else ("file", "folder")
        raise ConfigError(f"{name!r} is a {found} and this export makes a {wanted}; give --out another name")
    if is_folder and not any(out.iterdir()):
        return
    if not overwrite:
        raise ConfigError(f"{name!r} exists; give --overwrite to replace it, or --out another name")
    if is_folder and not (out / MARKER).is_file():
        raise ConfigError(f"{name!r} is a folder that no export made, so it is not replaced; give --out another name")


@contextlib.contextmanager
def whole_folder(out: Path, about: Mapping[str, object]) -> Iterator[Path]:
    """An empty folder beside `out`; what the block writes there is synced and becomes `out`, in place of an older one.

    Args:
        about: What MARKER says of the export.
    """
    temporary = temporary_name(out)
    remove(temporary)
    try:
        temporary.mkdir()
        yield temporary
        (temporary / MARKER).write_text(json.dumps(about, indent=1), encoding="utf-8")
        for path in temporary.rglob("*"):
            sync(path)
        sync(temporary)
        if out.exists():  # a folder cannot be renamed over one that holds files
            old = out.with_name(f".{out.name}.old")
            remove(old)
            out.rename(old)
            temporary.rename(out)
            remove(old)
        else:
            temporary.rename(out)
        sync(out.parent)
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Delete a file or a folder with all that it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def path_below(folder: Path, name: str, suffix: str) -> Path:
    """A free path below `folder` for the file of an input, whatever the input's name; its parent is made.

    It is the name with another suffix: `a.csv` for `a.jpg`; where that is taken `a.jpg.csv`, then `a.jpg-2.csv`.
    """
    parts = [part for part in re.split(r"[/\\:\0]+", name) if part not in ("", ".", "..")] or ["input"]
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    numbered = (path.with_name(f"{path.name}-{n}{suffix}") for n in itertools.count(2))
    candidates = itertools.chain((path.with_suffix(suffix), path.with_name(f"{path.name}{suffix}")), numbered)
    return next(candidate for candidate in candidates if not candidate.exists())
