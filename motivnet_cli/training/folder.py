"""The folder of a training: one process's at a time, and one training's."""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING

import filelock

from motivnet_cli.durable import durably
from motivnet_cli.errors import OutputConflictError
from motivnet_cli.output.paths import make_folder
from motivnet_cli.training.checkpoints import LAST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SETTINGS_FILE = "settings.json"
_LOCK = ".training.lock"


class TrainingFolder:
    """What a training of these settings has left in its folder.

    Args:
        path: Made if it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """No other process may hold it meanwhile.

        Raises:
            OutputConflictError: One does, or it is a file, or a folder with other files.
            ConfigError: It cannot be made.
        """
        if self.path.exists() and not self.path.is_dir():
            raise OutputConflictError(f"{str(self.path)!r} is a file, and --out takes a folder")
        if self.path.is_dir() and not (self.path / _LOCK).exists() and any(self.path.iterdir()):
            raise OutputConflictError(f"the folder {str(self.path)!r} holds other files; give --out a new or empty one")
        make_folder(self.path, str(self.path))
        lock = filelock.FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise OutputConflictError(
                f"another process trains in {str(self.path)!r}: wait for its end, or choose another --out"
            ) from error
        try:
            (self.path / _LOCK).touch()  # some releases of filelock remove it
            yield
        finally:
            lock.release()
            (self.path / _LOCK).touch()

    def clear(self) -> None:
        """Remove the checkpoints and settings of an earlier training; other files are replaced as they are written."""
        shutil.rmtree(self.path / LAST.split("/", maxsplit=1)[0], ignore_errors=True)
        (self.path / SETTINGS_FILE).unlink(missing_ok=True)

    def claim(self, settings: Mapping[str, object]) -> None:
        """Write the settings down, or compare them with those of the training that was begun here.

        Args:
            settings: All that decide the result, by name; values are those of JSON.

        Raises:
            OutputConflictError: They differ.
        """
        before, now = self.settings, dict(settings)
        if before is None:
            with durably(self.path / SETTINGS_FILE) as temporary:
                temporary.write_text(json.dumps(now, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            return
        differing = [key for key in dict.fromkeys((*before, *now)) if before.get(key) != now.get(key)]
        if differing:
            named = "; ".join(f"{key} was {before.get(key)!r}, is now {now.get(key)!r}" for key in differing)
            raise OutputConflictError(
                f"{str(self.path)!r} belongs to a training with other settings ({named}); give that training's "
                "settings to go on with it, choose another --out, or start anew with --overwrite"
            )

    @property
    def has_checkpoint(self) -> bool:
        return (self.path / LAST).exists()

    @property
    def settings(self) -> dict[str, object] | None:
        """Of the training that was begun here; None where there is none.

        Raises:
            OutputConflictError: Their file is damaged.
        """
        try:
            noted = json.loads((self.path / SETTINGS_FILE).read_text(encoding="utf-8"))
            return dict(noted)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise OutputConflictError(
                f"{str(self.path / SETTINGS_FILE)!r} is damaged ({error}): start anew with --overwrite, or choose "
                "another --out"
            ) from error
