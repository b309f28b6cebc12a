"""The model store: a folder for each model, with its weights as `.safetensors` and a record of where they came from.

Knows files and names, not networks; imports torch only to write weights. A model is installed if and only if its
folder exists: everything is prepared in another folder, which is renamed at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import platformdirs

from motivnet_cli import __version__
from motivnet_cli.catalogue import CARDS
from motivnet_cli.durable import durably, sync
from motivnet_cli.errors import ConfigError, FetchError, WeightsError
from motivnet_cli.records import PHASE
from motivnet_cli.weights.training_record import TrainingRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from motivnet_cli.catalogue import Architecture, ModelCard
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
    """The record of an installed model."""

    name: str
    architecture: Architecture
    source: str
    """Where it came from, without credentials: a URL, the name of a file, or `motivnet train`."""
    sha256: str
    """Of the source file. Outputs record it, so that they can be compared with the published file. Of a model that was
    trained here: of the file in the store."""
    stored_sha256: str
    """Of the file in the store."""
    size_bytes: int
    """Of the file in the store."""
    num_tensors: int
    num_parameters: int
    terms: str
    date: str
    """When it was stored: ISO 8601, UTC."""
    tool: str
    """The version of motivnet that stored it."""
    training: TrainingRecord | None = None
    """How it was made by `motivnet train`; None where it was made otherwise."""
    position_change: str = ""
    """How the position table of the source was made to fit the input, in words; empty where it was not changed."""
    terms_accepted: str = ""
    """When and how the command line had the terms accepted, such as `2026-01-31T12:00:00+00:00, by --accept-terms`."""
    path: str = dataclasses.field(default="", compare=False)
    """The weights file, absolute. Not part of the record on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallPlan:
    """What `Store.install` would do."""

    name: str
    source: str
    """Without credentials."""
    download_bytes: int | None
    """Size of the source file; None where it is not known."""
    terms: str
    folder: str
    """Where the model would be stored."""
    present_bytes: int
    """Of the source file, by a download that was interrupted."""
    needed_bytes: int | None
    """On the disk at most at one time, beside what is there: the rest of the source file, and the weights that are made
    of it. None where its size is not known."""
    free_bytes: int
    """On the file system of the store."""


class Store:
    """A folder of installed models.

    Args:
        root: The folder; None takes `MOTIVNET_HOME`, else the platform's cache folder for motivnet.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        root = root or os.environ.get("MOTIVNET_HOME") or platformdirs.user_cache_path("motivnet")
        self.root = Path(root).absolute()

    def find(self, name: str) -> StoredModel | None:
        """The installed model of this name, or None.

        Raises:
            WeightsError: It is installed, but its record is damaged or its file has another size.
        """
        folder = self.root / name
        if not _NAME.fullmatch(name) or not (folder / RECORD_FILE).is_file():
            return None
        try:
            record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
            training = record.pop("training", None)
            model = StoredModel(
                **record,
                training=None if training is None else TrainingRecord.from_json(training),
                path=str(folder / WEIGHTS_FILE),
            )
            size = (folder / WEIGHTS_FILE).stat().st_size
            if model.architecture == "head" and training is None:
                raise ValueError("a head without the record of its training")  # noqa: TRY301 - damage as all others
        except (OSError, ValueError, TypeError) as error:
            raise _damaged(folder, str(error)) from error
        if size != model.size_bytes:
            raise _damaged(folder, f"{WEIGHTS_FILE} has {size} bytes where the record says {model.size_bytes}")
        return model

    def models(self) -> list[StoredModel]:
        """All installed models, sorted by name.

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
        terms_accepted: str = "",
    ) -> StoredModel:
        """Install a model from a URL or a file: verified, converted, and stored completely or not at all.

        A model that is already installed is returned as it is. If another process is installing it, wait for that.

        Args:
            name: A name of the catalogue, or any other name that the user chooses.
            url: As for `fetch.fetch`; None takes the catalogue's.
            file: A checkpoint on this machine, in place of a URL. It is read, not moved.
            sha256: The expected SHA-256 of the source. Without it, the hash of the first download from a URL is
                remembered, and later downloads from that URL must have the same.
            offline: Use no network.
            progress: Called during the download with the bytes done and the total.
            terms_accepted: For the record: when and how.

        Raises:
            ConfigError: The name cannot be used, or no source is known for it.
            FetchError: The download failed, the file has another SHA-256, or the store cannot hold it.
            WeightsError: The file is no checkpoint, or holds another network than the one of the catalogue's name.
        """
        source = self._url_of(name, url, file)
        self._check_writable()
        self.root.mkdir(parents=True, exist_ok=True)
        with self._locked(name):
            if present := self.find(name):
                return present
            if file is not None:
                return self._install_file(name, Path(file), sha256=sha256, terms_accepted=terms_accepted)
            self._check_free_space(self.plan(name, url=url).needed_bytes or 0)
            return self._install_url(
                name, source, sha256=sha256, offline=offline, progress=progress, terms_accepted=terms_accepted
            )

    def add(
        self,
        name: str,
        tensors: Mapping[str, Tensor],
        *,
        architecture: Architecture,
        metadata: Mapping[str, str],
        training: TrainingRecord,
        overwrite: bool = False,
    ) -> StoredModel:
        """Store a model that was trained here, completely or not at all.

        If another process is storing a model of this name, wait for that.

        Args:
            name: Any that is not of the catalogue.
            tensors: Under the names that loading the architecture expects; stored as float32, one at a time.
            metadata: Of the weights file, beside what `training` says.
            overwrite: Replace a model of this name.

        Raises:
            ConfigError: As `check_free`, under the lock.
            FetchError: The disk is too full.
            OSError: The store cannot be written.
        """
        self.check_free(name, overwrite=overwrite)
        self.root.mkdir(parents=True, exist_ok=True)
        with self._locked(name), self._incoming_folder(name) as incoming:
            self.check_free(name, overwrite=overwrite)
            shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
            num_parameters = sum(math.prod(shape) for shape in shapes.values())
            self._check_free_space(4 * num_parameters)
            from motivnet_cli.weights.checkpoint import write_safetensors

            about = {**metadata, "name": name, **training.metadata}
            sha256 = write_safetensors(incoming / WEIGHTS_FILE, tensors.values(), shapes=shapes, metadata=about)
            model = StoredModel(
                name=name,
                architecture=architecture,
                source="motivnet train",
                sha256=sha256,
                stored_sha256=sha256,
                size_bytes=(incoming / WEIGHTS_FILE).stat().st_size,
                num_tensors=len(shapes),
                num_parameters=num_parameters,
                terms=training.terms,
                date=_now(),
                tool=f"motivnet {__version__}",
                training=training,
                position_change=metadata.get("position_change", ""),
                path=str(self.root / name / WEIGHTS_FILE),
            )
            self._publish(incoming, model)
        return model

    def check_free(self, name: str, *, overwrite: bool = False) -> None:
        """Raise if no model that is trained here can be stored under this name.

        Raises:
            ConfigError: It is no name, the catalogue has it, or a model has it and shall not be replaced.
        """
        _check_name(name)
        if name in CARDS:
            raise ConfigError(f"{name} is a model of the catalogue: choose another name for your own")
        if (self.root / name).exists() and not overwrite:
            raise ConfigError(
                f"the store ({self.root}) has a model {name!r} already: choose another name, or replace it with "
                "--overwrite"
            )

    def plan(self, name: str, *, url: str | None = None, file: str | Path | None = None) -> InstallPlan:
        """What `install` would do with the same arguments. Uses no network and writes nothing.

        Raises:
            ConfigError: As `install`.
            WeightsError: The file was trained by a motivnet whose record this one cannot read.
        """
        from motivnet_cli.remote.urls import redacted

        url = self._url_of(name, url, file)
        card = CARDS.get(name)
        size, training = card.download_bytes if card else None, None
        if file is not None:
            size = None
            if Path(file).is_file():
                from motivnet_cli.weights.checkpoint import read_training

                size, training = Path(file).stat().st_size, read_training(file)
        present = sum(_size(each) for each in self._download_files(name) if not each.name.endswith((".json", ".lock")))
        needed = size
        if size is not None and file is None:  # what is downloaded is removed once the weights are made of it
            made = _size(self.root / ".incoming" / name / WEIGHTS_FILE)
            needed = max(size - present, 0) + max(size - made, 0)
        return InstallPlan(
            name=name,
            source=str(file) if file is not None else redacted(url),
            download_bytes=size,
            terms=_terms(card, training),
            folder=str(self.root / name),
            present_bytes=present,
            needed_bytes=needed,
            free_bytes=shutil.disk_usage(self._existing()).free,
        )

    def check(self, plan: InstallPlan) -> None:
        """Raise what would stop `install` before a byte has come. Uses no network and writes nothing.

        Raises:
            FetchError: The store cannot be written, the disk is too full, or a library for the source is missing.
        """
        from motivnet_cli.remote.fetch import check_library

        self._check_writable()
        self._check_free_space(plan.needed_bytes or 0)
        check_library(plan.source)

    def verify(self, name: str) -> StoredModel:
        """Hash a model's file again and compare it with the record.

        Raises:
            ConfigError: No such model is installed.
            WeightsError: The file is damaged or has changed.
        """
        from motivnet_cli.weights.file_hash import file_sha256

        model = self.find(name)
        if model is None:
            raise ConfigError(f"no model {name!r} in {self.root}: see motivnet download-weights --list")
        found = file_sha256(model.path)
        if found != model.stored_sha256:
            reason = f"{WEIGHTS_FILE} hashes to {found} where the record says {model.stored_sha256}"
            raise _damaged(self.root / name, reason)
        return model

    def remove(self, name: str) -> None:
        """Remove a model, and the files of an unfinished download of it.

        Raises:
            ConfigError: There is neither.
        """
        folder = self.root / name
        if not _NAME.fullmatch(name) or not (folder.is_dir() or any(self._download_files(name))):
            raise ConfigError(f"no model {name!r} in {self.root}: see motivnet download-weights --list")
        with self._locked(name):
            for path in self._download_files(name):
                path.unlink()
            (folder / RECORD_FILE).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)

    def _url_of(self, name: str, url: str | None, file: str | Path | None) -> str:
        """Where to download a model from; empty where a file is given and no URL is known.

        Raises:
            ConfigError: The name cannot be used, or there is neither a URL nor a file.
        """
        card = CARDS.get(name)
        if card and card.embedded:
            raise ConfigError(f"{name} is inside the package: it needs no download")
        _check_name(name)
        url = url or (card.url if card else None)
        if url is None and file is None:
            raise ConfigError(f"no source is known for {name!r}: say --url URL or --from-file PATH")
        return url or ""

    def _install_file(self, name: str, file: Path, *, sha256: str | None, terms_accepted: str) -> StoredModel:
        from motivnet_cli.weights.file_hash import file_sha256

        log.info("hashing %s", file, extra=PHASE)
        found = file_sha256(file)
        if sha256 and found != sha256.lower():
            raise FetchError(f"{file} hashes to {found}, not to the {sha256} that --sha256 says; nothing was stored")
        return self._convert(name, file, source=file.name, sha256=found, terms_accepted=terms_accepted)

    def _install_url(
        self,
        name: str,
        url: str,
        *,
        sha256: str | None,
        offline: bool,
        progress: FetchProgress,
        terms_accepted: str,
    ) -> StoredModel:
        from motivnet_cli.remote.fetch import fetch
        from motivnet_cli.remote.urls import redacted

        download = self.root / ".downloads" / name
        download.parent.mkdir(exist_ok=True)
        log.info("asking for %s", redacted(url), extra=PHASE)
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
            model = self._convert(
                name, download, source=redacted(url), sha256=fetched.sha256, terms_accepted=terms_accepted
            )
        except WeightsError:
            download.unlink()  # otherwise the next install would take it as already downloaded
            raise
        pins.parent.mkdir(exist_ok=True)
        _write_json(pins, pinned | {redacted(url): fetched.sha256})
        download.unlink()
        return model

    def _convert(self, name: str, file: Path, *, source: str, sha256: str, terms_accepted: str) -> StoredModel:
        """Convert a checkpoint file and move the result into place, with its record."""
        from motivnet_cli.weights.checkpoint import read_training
        from motivnet_cli.weights.networks import convert, outline
        from motivnet_cli.weights.published import check_published

        card = CARDS.get(name)
        network = outline(file)
        if card:
            remedy = "store it under a name of your own: `motivnet download-weights NAME ...`"
            check_published(name, network, source=source, remedy=remedy)
        training = None if card else read_training(file)
        with self._incoming_folder(name) as incoming:
            self._check_free_space(file.stat().st_size)
            metadata = {
                "name": name,
                "source": source,
                "source_sha256": sha256,
                **(training.metadata if training else {}),
            }
            log.info("converting the weights of %s", name, extra=PHASE)
            converted = convert(file, incoming / WEIGHTS_FILE, metadata=metadata)
            model = StoredModel(
                name=name,
                architecture=converted.kind,
                source=source,
                sha256=sha256,
                stored_sha256=converted.sha256,
                size_bytes=converted.size_bytes,
                num_tensors=converted.num_tensors,
                num_parameters=converted.num_parameters,
                terms=_terms(card, training),
                date=_now(),
                tool=f"motivnet {__version__}",
                training=training,
                position_change=converted.position_change,
                terms_accepted=terms_accepted,
                path=str(self.root / name / WEIGHTS_FILE),
            )
            self._publish(incoming, model)
        return model

    def _publish(self, incoming: Path, model: StoredModel) -> None:
        """Write the record beside what was prepared, and move all of it into place."""
        record = dataclasses.asdict(model)
        del record["path"]
        _write_json(incoming / RECORD_FILE, record)
        final, replaced = self.root / model.name, incoming.with_name(f"{model.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        if final.exists():
            final.rename(replaced)
        incoming.rename(final)
        sync(self.root)
        shutil.rmtree(replaced, ignore_errors=True)

    @contextlib.contextmanager
    def _incoming_folder(self, name: str) -> Iterator[Path]:
        """An empty folder in which a model is prepared; it is removed at the end unless it was renamed."""
        folder = self.root / ".incoming" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _existing(self) -> Path:
        """The folder of the store, or the nearest one above that is there."""
        return next(folder for folder in (self.root, *self.root.parents) if folder.exists())

    def _check_writable(self) -> None:
        """Stop before anything is downloaded if nothing can be kept.

        Raises:
            FetchError: The store cannot be made or written.
        """
        folder = self._existing()
        try:
            with tempfile.TemporaryFile(dir=folder):  # permissions alone do not tell, such as of a read-only disk
                pass
        except OSError as error:
            raise FetchError(
                f"the store ({self.root}) cannot be written ({folder}: {error.strerror}): choose another with --store "
                "or MOTIVNET_HOME"
            ) from error

    def _check_free_space(self, needed: int) -> None:
        """Stop before weights are written if the disk is too full for so many bytes, those of float32 or of a source.

        Raises:
            FetchError: The disk is too full.
        """
        free = shutil.disk_usage(self._existing()).free
        if free < needed:
            raise FetchError(
                f"the weights need about {needed / 1e9:.1f} GB in {self.root}, and {free / 1e9:.1f} GB are "
                "free there: free some space, or choose another store with --store or MOTIVNET_HOME"
            )

    def _download_files(self, name: str) -> Iterator[Path]:
        """The files of a download of this model, finished or not, with those that `fetch` keeps beside it."""
        for suffix in ("", ".part", ".part.json", ".lock"):
            path = self.root / ".downloads" / f"{name}{suffix}"
            if path.exists():
                yield path

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Hold the lock of this model's name; wait while another process holds it."""
        lock = filelock.FileLock(self.root / f".{name}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            log.warning("another process is installing %s in %s: waiting for it", name, self.root)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _size(path: Path) -> int:
    """Of a file, in bytes; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def _check_name(name: str) -> None:
    """Raise a ConfigError where no model can be called so."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"a model's name is made of letters, digits, dots, dashes and underscores, at most 64, got {name!r}"
        )


def _terms(card: ModelCard | None, training: TrainingRecord | None) -> str:
    """Of a model with this card of the catalogue, or else with this record in its file."""
    if card:
        return card.terms
    return training.terms if training else UNKNOWN_TERMS


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _write_json(path: Path, content: dict[str, object]) -> None:
    with durably(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _damaged(folder: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"the stored model in {folder} is damaged ({reason}): remove it with "
        f"`motivnet download-weights {folder.name} --remove` and download it again"
    )
