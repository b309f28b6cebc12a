"""The model store: one folder a model, with its weights as `.safetensors` and a record of where they came from.

This room knows files and names, not networks; it imports torch only to convert. A model is there if and only
if its folder is: everything is prepared beside it and renamed into place at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import shutil
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import platformdirs

from motivnet_cli import __version__
from motivnet_cli.catalogue import CARDS, Architecture, ModelCard
from motivnet_cli.durable import durably, sync
from motivnet_cli.errors import ConfigError, FetchError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motivnet_cli.remote.fetch import FetchProgress

log = logging.getLogger(__name__)

WEIGHTS_FILE = "weights.safetensors"
RECORD_FILE = "model.json"
UNKNOWN_TERMS = (
    "Whoever gave you this checkpoint did not state its terms here. MotivNet checkpoints derive from Sapiens "
    "(CC BY-NC 4.0) and AffectNet (research only)."
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """What the store knows of a model."""

    name: str
    architecture: Architecture
    source: str
    """Where it came from, without credentials: a URL, or the name of a file."""
    sha256: str
    """Of the file as it came; it is what outputs record, so that they can be compared with the published file."""
    stored_sha256: str
    """Of the file in the store."""
    size_bytes: int
    """Of the file in the store."""
    num_tensors: int
    num_parameters: int
    terms: str
    date: str
    """When it was stored, ISO 8601, UTC."""
    tool: str
    path: str = dataclasses.field(default="", compare=False)
    """The weights file, absolute; not part of the record on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallPlan:
    """What `Store.install` would do."""

    name: str
    source: str
    """Without credentials."""
    download_bytes: int | None
    terms: str
    folder: str
    free_bytes: int


class Store:
    """A folder of models.

    Args:
        root: The folder; None takes `MOTIVNET_HOME`, else the platform's cache folder for motivnet.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        root = root or os.environ.get("MOTIVNET_HOME") or platformdirs.user_cache_path("motivnet")
        self.root = Path(root).absolute()

    def find(self, name: str) -> StoredModel | None:
        """The model of this name, if it is here.

        Raises:
            WeightsError: It is here, but its file is not what the record says.
        """
        folder = self.root / name
        if not _NAME.fullmatch(name) or not (folder / RECORD_FILE).is_file():
            return None
        try:
            record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
            model = StoredModel(**record, path=str(folder / WEIGHTS_FILE))
            size = (folder / WEIGHTS_FILE).stat().st_size
        except (OSError, ValueError, TypeError) as error:
            raise _damaged(folder, str(error)) from error
        if size != model.size_bytes:
            raise _damaged(folder, f"{WEIGHTS_FILE} has {size} bytes where the record says {model.size_bytes}")
        return model

    def models(self) -> list[StoredModel]:
        """Every model that is here, by name.

        Raises:
            WeightsError: As `find`.
        """
        names = sorted(path.parent.name for path in self.root.glob(f"*/{RECORD_FILE}"))
        return [model for name in names if (model := self.find(name))]

    def install(
        self,
        name: str,
        *,
        url: str | None = None,
        file: str | Path | None = None,
        sha256: str | None = None,
        offline: bool = False,
        progress: FetchProgress = lambda done, total: None,
    ) -> StoredModel:
        """Bring a model in from a URL or a file, verified and converted, whole or not at all.

        A model that is already here is returned as it is. Of two processes, the second waits for the first.

        Args:
            name: A name of the catalogue, or one of the user's own.
            url: As `fetch.fetch`; by default the catalogue's.
            file: A checkpoint brought by hand, in place of a URL; it is read, never moved.
            sha256: What the source must hash to. Without it, the hash of the first download from an address is
                kept, and later downloads from there must agree.
            offline: Use no network.
            progress: For the download.

        Raises:
            ConfigError: The name cannot be used, or no source is known for it.
            FetchError: The download failed, or what came is not what it should be.
            WeightsError: The file is no checkpoint.
        """
        url, file = self._source(name, url, file)
        self.root.mkdir(parents=True, exist_ok=True)
        with self._locked(name):
            if present := self.find(name):
                return present
            if file is not None:
                return self._install_file(name, Path(file), sha256=sha256)
            return self._install_url(name, url, sha256=sha256, offline=offline, progress=progress)

    def plan(self, name: str, *, url: str | None = None, file: str | Path | None = None) -> InstallPlan:
        """What `install` would do with the same arguments; touches neither the network nor the disk.

        Raises:
            ConfigError: As `install`.
        """
        from motivnet_cli.remote.urls import redacted

        url, file = self._source(name, url, file)
        card = CARDS.get(name)
        size = card.download_bytes if card else None
        if file is not None:
            size = Path(file).stat().st_size if Path(file).is_file() else None
        existing = next(folder for folder in (self.root, *self.root.parents) if folder.exists())
        return InstallPlan(
            name=name,
            source=str(file) if file is not None else redacted(url),
            download_bytes=size,
            terms=card.terms if card else UNKNOWN_TERMS,
            folder=str(self.root / name),
            free_bytes=shutil.disk_usage(existing).free,
        )

    def verify(self, name: str) -> StoredModel:
        """Hash a model's file again and compare it with the record.

        Raises:
            ConfigError: There is no such model here.
            WeightsError: The file changed.
        """
        from motivnet_cli.weights.networks import file_sha256

        model = self._present(name)
        found = file_sha256(model.path)
        if found != model.stored_sha256:
            reason = f"{WEIGHTS_FILE} hashes to {found} where the record says {model.stored_sha256}"
            raise _damaged(self.root / name, reason)
        return model

    def remove(self, name: str) -> None:
        """Take a model out, and what is left of a download of it.

        Raises:
            ConfigError: There is no such model here.
        """
        folder = self.root / name
        if not _NAME.fullmatch(name) or not (folder.is_dir() or any(self._downloads(name))):
            raise ConfigError(f"no model {name!r} in {self.root}")
        with self._locked(name):
            for left in self._downloads(name):
                left.unlink()
            (folder / RECORD_FILE).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)

    def _present(self, name: str) -> StoredModel:
        model = self.find(name)
        if model is None:
            raise ConfigError(f"no model {name!r} in {self.root}: see motivnet download-weights --list")
        return model

    def _source(self, name: str, url: str | None, file: str | Path | None) -> tuple[str, str | Path | None]:
        card = CARDS.get(name)
        if card and card.embedded:
            raise ConfigError(f"{name} is inside the package: it needs no download")
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"a model's name is made of letters, digits, dots, dashes and underscores, at most 64, got {name!r}"
            )
        url = url or (card.url if card else None)
        if url is None and file is None:
            raise ConfigError(f"no source is known for {name!r}: say --url URL or --from-file PATH")
        return url or "", file

    def _install_file(self, name: str, file: Path, *, sha256: str | None) -> StoredModel:
        from motivnet_cli.weights.networks import file_sha256

        found = file_sha256(file)
        if sha256 and found != sha256.lower():
            raise FetchError(f"{file} hashes to {found}, not to the {sha256} that --sha256 says; nothing was stored")
        return self._convert(name, file, source=file.name, sha256=found)

    def _install_url(
        self, name: str, url: str, *, sha256: str | None, offline: bool, progress: FetchProgress
    ) -> StoredModel:
        from motivnet_cli.remote.fetch import fetch
        from motivnet_cli.remote.urls import redacted

        download = self.root / ".downloads" / name
        download.parent.mkdir(exist_ok=True)
        fetched = fetch(url, download, sha256=sha256, offline=offline, progress=progress)
        pins = self.root / ".pins" / f"{name}.json"
        pinned = json.loads(pins.read_text(encoding="utf-8")) if pins.exists() else {}
        before = pinned.get(redacted(url))
        if sha256 is None and before not in (None, fetched.sha256):
            download.unlink()
            raise FetchError(
                f"the file at {redacted(url)} is not the one that was downloaded from there before: it hashes to "
                f"{fetched.sha256}, then it was {before}. If its owner says that this is right, say --sha256 "
                f"{fetched.sha256}"
            )
        try:
            model = self._convert(name, download, source=redacted(url), sha256=fetched.sha256)
        except WeightsError:
            download.unlink()  # else it would be taken as fetched again
            raise
        pins.parent.mkdir(exist_ok=True)
        with durably(pins) as temporary:
            temporary.write_text(json.dumps(pinned | {redacted(url): fetched.sha256}, indent=1), encoding="utf-8")
        download.unlink()
        return model

    def _convert(self, name: str, file: Path, *, source: str, sha256: str) -> StoredModel:
        from motivnet_cli.weights.networks import convert

        incoming = self.root / ".incoming" / name
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir(parents=True)
        try:
            self._check_room(file)
            metadata = {"name": name, "source": source, "source_sha256": sha256}
            converted = convert(file, incoming / WEIGHTS_FILE, metadata=metadata)
            card = CARDS.get(name)
            if card and card.architecture != converted.kind:
                raise WeightsError(
                    f"{source} holds a {converted.kind} network, and {name} is a {card.architecture} one: "
                    "give it another name, or another file"
                )
            model = StoredModel(
                name=name,
                architecture=converted.kind,
                source=source,
                sha256=sha256,
                stored_sha256=converted.sha256,
                size_bytes=converted.size_bytes,
                num_tensors=converted.num_tensors,
                num_parameters=converted.num_parameters,
                terms=card.terms if card else UNKNOWN_TERMS,
                date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                tool=f"motivnet {__version__}",
                path=str(self.root / name / WEIGHTS_FILE),
            )
            record = {key: value for key, value in dataclasses.asdict(model).items() if key != "path"}
            with durably(incoming / RECORD_FILE) as temporary:
                temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
            shutil.rmtree(self.root / name, ignore_errors=True)
            incoming.rename(self.root / name)
            sync(self.root)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return model

    def _check_room(self, file: Path) -> None:
        """Refuse early what cannot fit: a stored float32 file is about as large as its source."""
        needed, free = file.stat().st_size, shutil.disk_usage(self.root).free
        if free < needed:
            raise FetchError(
                f"the converted weights need about {needed / 1e9:.1f} GB in {self.root}, and {free / 1e9:.1f} GB are "
                "free there: free some space, or choose another store with --store or MOTIVNET_HOME"
            )

    def _downloads(self, name: str) -> Iterator[Path]:
        """A download of this model, whole or not, with what `fetch` keeps beside it."""
        for suffix in ("", ".part", ".part.json", ".lock"):
            path = self.root / ".downloads" / f"{name}{suffix}"
            if path.exists():
                yield path

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        lock = filelock.FileLock(self.root / f".{name}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            log.warning("another process is bringing %s into %s: waiting for it", name, self.root)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def find_card(name: str, store: Store) -> ModelCard:
    """The card of a model of the catalogue, or one for a model that the user stored under a name of their own.

    Raises:
        ConfigError: No model has this name.
    """
    if name in CARDS:
        return CARDS[name]
    model = store.find(name)
    if model is None:
        stored = [each.name for each in store.models() if each.name not in CARDS]
        known = ", ".join([*CARDS, *stored])
        raise ConfigError(f"no model is named {name!r}; known models: {known} (see `motivnet models`)")
    like = next(card for card in CARDS.values() if card.architecture == model.architecture)
    return dataclasses.replace(
        like,
        name=name,
        title=f"a {model.architecture} checkpoint of your own, {model.num_parameters:,} parameters",
        about=f"Stored from {model.source} on {model.date[:10]}.",
        url=None,
        terms=model.terms,
        sources=model.source,
        limits=("Nothing is known of its accuracy here.",),
    )


def _damaged(folder: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"the stored model in {folder} is damaged ({reason}): take it out with "
        f"`motivnet download-weights {folder.name} --remove` and download it again"
    )
