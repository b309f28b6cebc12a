"""Where an export may be written: nowhere that would cost the user a file.

One rule for tables, pages, videos and networks: what an export reads is never replaced, what exists only when asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import shutil
from pathlib import Path, PurePosixPath
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
    if out.name in ("", ".."):
        raise ConfigError(f"{name!r} is no new file or folder; give --out the name of one")
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
    path = folder.joinpath(*_parts_of(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    numbered = (path.with_name(f"{path.name}-{n}{suffix}") for n in itertools.count(2))
    candidates = itertools.chain((path.with_suffix(suffix), path.with_name(f"{path.name}{suffix}")), numbered)
    return next(candidate for candidate in candidates if not candidate.exists())


class MirroredNames:
    """Names below a folder for the files of inputs: their own, but for what would lead out of it, and none twice.

    They follow from the inputs and their order alone, so that a second pass gives the same. Names that differ by case
    only are taken for one, as some disks do.
    """

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def take(self, name: str, suffix: str) -> PurePosixPath:
        """The name for the file of an input, which ends in `suffix`: `a.heic.jpg`, and then `a.heic-2.jpg`."""
        *above, last = map(_shortened, _parts_of(name.replace("\\", "_")))  # as in `\\xff`, of a name that is no UTF-8
        stem = last[: len(last) - len(suffix)] if last.lower().endswith(suffix.lower()) else last
        suffix = last[len(stem) :] or suffix
        for n in itertools.count(1):
            number = f"-{n}" if n > 1 else ""
            is_above_taken = not self._folders_free(above)
            parts = [f"{above[0]}{number}", *above[1:]] if is_above_taken else above
            path = PurePosixPath(*parts, f"{stem}{'' if is_above_taken else number}{suffix}")
            if self._folders_free(parts) and (key := _key(path)) not in self._files and key not in self._folders:
                self._files.add(key)
                self._folders.update(map(_key, path.parents))
                return path
        raise AssertionError("numbers do not end")

    def _folders_free(self, parts: list[str]) -> bool:
        """Whether no file is called like one of these folders, each in the one before it."""
        return not any(_key(PurePosixPath(*parts[: n + 1])) in self._files for n in range(len(parts)))


_MAX_NAME_BYTES = 200
"""File systems take 255, and temporary names and numbers are longer."""


def _shortened(name: str) -> str:
    """A name that a file can have; of a long one the middle gives way to a hash."""
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) <= _MAX_NAME_BYTES:
        return name
    ends = (encoded[: _MAX_NAME_BYTES - 60], encoded[-40:])
    start, end = (each.decode("utf-8", "ignore") for each in ends)
    return f"{start}~{hashlib.sha256(encoded).hexdigest()[:16]}~{end}"


def _key(path: PurePosixPath) -> str:
    return str(path).casefold()


def _parts_of(name: str) -> list[str]:
    """The parts of the name of an input below any folder, without what would lead out of it."""
    return [part for part in re.split(r"[/\\:\0]+", name) if part not in ("", ".", "..")] or ["input"]
