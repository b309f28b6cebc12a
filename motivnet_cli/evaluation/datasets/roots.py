"""Where a labelled set lies on this machine: as given, as remembered, or under its usual name.

The places, in this order: the given root; `[datasets]` of `motivnet.toml` in the working folder; that of the user's
`motivnet.toml`; a folder with one of the set's usual names in `$MOTIVNET_DATASETS`, then in the working folder, which
may be that folder itself. Nothing is guessed: of several such folders none is taken, and where a file or the variable
names a folder that is not there, no other copy is read in its place.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import platformdirs
import tomlkit
from tomlkit.exceptions import TOMLKitError

from motivnet_cli.durable import write_at_once
from motivnet_cli.errors import ConfigError, did_you_mean, first_line
from motivnet_cli.evaluation.datasets.cards import CARDS
from motivnet_cli.evaluation.datasets.disk import Disk
from motivnet_cli.evaluation.datasets.read import card_named, check_root, is_recognised
from motivnet_cli.remote.urls import local_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from motivnet_cli.evaluation.datasets.card import DatasetCard

log = logging.getLogger(__name__)

CONFIG_FILE = "motivnet.toml"
FOLDERS_VARIABLE = "MOTIVNET_DATASETS"
"""The environment variable that names a folder of sets."""
_TABLE = "datasets"


class Root(NamedTuple):
    """Where a set lies, and who said so."""

    path: str
    """Absolute."""
    source: str
    """Such as `--root`, or the file that names it."""


class Search(NamedTuple):
    """What came of looking for a set."""

    root: Root | None
    looked: tuple[str, ...]
    """What each place had, down to the one that was taken."""
    others: tuple[str, ...] = ()
    """Folders with a usual name of the set in which it is not recognised."""


class Remembered(NamedTuple):
    """An entry of the user's `motivnet.toml`."""

    file: str
    root: str
    """Absolute."""
    before: str | None
    """What the entry said before."""


def find_root(name: str, given: str | None = None) -> Root:
    """Where a set lies: the given root, else the first place that has it.

    Raises:
        ConfigError: No place has it, several folders of one place have it, what names its folder is wrong, or no set
            has this name.
    """
    card = card_named(name)
    root = given_root(given) if given is not None else _found(card, Places.here())
    log.info("%s: %s (%s)", name, root.path, root.source)
    return root


def given_root(path: str) -> Root:
    """A root that was given with the command: a path, or a URL of a file here."""
    return Root(os.path.abspath(local_path(path)), "--root")  # noqa: PTH100 - as runs name inputs: links stay


def _found(card: DatasetCard, places: Places) -> Root:
    root, looked, _ = places.search(card)
    if root is None:
        raise ConfigError(
            f"{card.name}: the set was not found here. Give its folder as --root, or once for all with `motivnet "
            f"evaluate --remember {card.name}=FOLDER`. Looked at: {'; '.join(looked)}. The set comes from {card.where}"
        )
    return root


def remember(name: str, root: str) -> Remembered:
    """Write a set's folder to the user's `motivnet.toml`; what else is in the file stays, comments too.

    Raises:
        ConfigError: No set has this name, it is not recognised in the folder, or the file cannot be read or written.
    """
    card_named(name)
    path = os.path.abspath(os.path.expanduser(local_path(root)))  # noqa: PTH100, PTH111 - as runs name inputs: links stay
    check_root(name, path)
    file = Path(os.path.realpath(user_config()))  # a link to a file elsewhere stays one
    document = _document(file)
    entries = _entries(file, document)
    table = document.setdefault(_TABLE, tomlkit.table())
    table[name] = path
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_at_once(file, tomlkit.dumps(document))
    except (OSError, UnicodeEncodeError) as error:
        raise ConfigError(f"{str(file)!r} cannot be written ({first_line(error)}): give --root instead") from error
    return Remembered(str(file), path, entries.get(name))


def user_config() -> Path:
    """The user's `motivnet.toml`, be it there or not."""
    return platformdirs.user_config_path("motivnet") / CONFIG_FILE


@dataclass(frozen=True, slots=True)
class Places:
    """The places in which sets are looked for where no root is given."""

    entries: tuple[tuple[Path, Mapping[str, str]], ...]
    """Of each `motivnet.toml`: set -> its folder, absolute."""
    folders: tuple[tuple[str, str], ...]
    """Folders that hold sets under their usual names: what each is called in a message, and its path."""
    disk: Disk

    @classmethod
    def here(cls) -> Places:
        """Those of this process: its working folder, user and environment.

        Raises:
            ConfigError: A `motivnet.toml` is wrong, or MOTIVNET_DATASETS names no folder.
        """
        working = Path.cwd()
        folders = []
        if shared := os.environ.get(FOLDERS_VARIABLE):
            if not Path(shared).is_dir():
                raise ConfigError(f"MOTIVNET_DATASETS names {shared!r}, which is no folder: correct or unset it")
            folders.append((FOLDERS_VARIABLE, os.path.abspath(shared)))  # noqa: PTH100
        files = (working / CONFIG_FILE, user_config())
        return cls(
            tuple((file, _entries(file, _document(file))) for file in files),
            (*folders, ("working folder", str(working))),
            Disk(),
        )

    def search(self, card: DatasetCard) -> Search:
        """The first place that has the set.

        Raises:
            ConfigError: An entry names a folder that is not there, or several folders of one place hold the set.
        """
        looked: list[str] = []
        strangers: list[str] = []
        for file, entries in self.entries:
            if card.name in entries:
                return Search(_remembered(card, file, entries[card.name]), tuple(looked))
            looked.append(f"{str(file)!r} ({'no entry' if file.exists() else 'not there'})")
        if FOLDERS_VARIABLE not in dict(self.folders):
            looked.append(f"{FOLDERS_VARIABLE} (not set)")
        for source, folder in self.folders:
            held, others = self._usual_folders(card, folder)
            if len(held) > 1:
                names = ", ".join(map(repr, held))
                raise ConfigError(f"{card.name}: {names} all hold the set: name the one you mean as --root")
            if held:
                return Search(Root(held[0], source), tuple(looked))
            names = " or ".join(card.folders) or "any folder"
            unknown = [f"{path!r} (no layout of the set is recognised in it)" for path in others]
            looked += unknown or [f"{source} {folder!r} (no {names})"]
            strangers += others
        return Search(None, tuple(looked), tuple(strangers))

    def _usual_folders(self, card: DatasetCard, folder: str) -> tuple[list[str], list[str]]:
        """The folders with a usual name of the set: those in which it is recognised, and the others.

        Raises:
            ConfigError: The set is recognised twice in one of them, or a folder cannot be looked into.
        """
        held: dict[str, str] = {}
        others = []
        try:
            called = [*_called(card, folder, self.disk)]
        except OSError as error:
            raise ConfigError(
                f"{folder!r} cannot be looked into for {card.name} ({error.strerror}): give --root"
            ) from error
        for path in called:
            if is_recognised(card.name, path, self.disk):
                held.setdefault(os.path.realpath(path), path)
            else:
                others.append(path)
        return [*held.values()], others


def _called(card: DatasetCard, folder: str, disk: Disk) -> Iterator[str]:
    """The folder and its subfolders, as far as they have a usual name of the set."""
    names = {_plain(name) for name in card.folders}
    if _plain(Path(folder).name) in names:
        yield folder
    for name in disk.folders(folder):
        if _plain(name) in names:
            yield f"{folder.rstrip('/')}/{name}"


def _plain(name: str) -> str:
    """A folder's name without case and what stands between words: rafdb for RAF-DB, RAF_DB and Raf DB."""
    return re.sub(r"[\s._-]", "", name.casefold())


def _remembered(card: DatasetCard, file: Path, root: str) -> Root:
    if not Path(root).exists():
        raise ConfigError(
            f"{card.name}: {root!r} is not there, and {str(file)!r} names it: mount it, give --root, or correct the "
            f"entry with `motivnet evaluate --remember {card.name}=FOLDER`"
        )
    return Root(root, f"[{_TABLE}] in {file}")


# ---- motivnet.toml ----------------------------------------------------------------------------------------


def _document(file: Path) -> tomlkit.TOMLDocument:
    """What is in the file; empty where there is no such file.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return tomlkit.parse(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return tomlkit.document()
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise ConfigError(f"{str(file)!r} cannot be read: {first_line(error)}; expected {_example()}") from error


def _entries(file: Path, document: tomlkit.TOMLDocument) -> dict[str, str]:
    """Set -> its folder, absolute. A relative path is one from the file's folder.

    Raises:
        ConfigError: The file holds anything but sets and their folders.
    """
    content = document.unwrap()
    unknown = [key for key in content if key != _TABLE]
    if unknown:
        raise ConfigError(f"{str(file)!r} has {', '.join(map(repr, unknown))}, which means nothing; write {_example()}")
    table = content.get(_TABLE, {})
    if not isinstance(table, dict):
        raise ConfigError(f"in {str(file)!r} {_TABLE} is {table!r}; expected {_example()}")
    entries = {}
    for name, root in table.items():
        if name not in CARDS:
            near = did_you_mean(name, CARDS)
            raise ConfigError(f"{str(file)!r} names the set {name!r}; there are {', '.join(CARDS)}{near}")
        if not isinstance(root, str) or not root:
            raise ConfigError(f"in {str(file)!r} the folder of {name} is {root!r}; expected a text such as '/data/set'")
        entries[name] = os.path.normpath(file.parent / Path(root).expanduser())
    return entries


def _example() -> str:
    return f"[{_TABLE}] with lines such as rafdb = '/data/RAF-DB'"
