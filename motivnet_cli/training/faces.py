"""Faces to learn from: found once, in a first pass over the pictures, then decoded and cropped when they are asked for.

Decoding, finding and cropping are those of `annotate` (`engine.prepare`), by the same settings.
"""

from __future__ import annotations

import json
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import filelock
import torch
from torch.utils.data import Dataset

from motivnet_cli import __version__
from motivnet_cli.config import VideoConfig
from motivnet_cli.durable import sha256_of
from motivnet_cli.engine.machine import usable_cores
from motivnet_cli.engine.prepare import Preparer
from motivnet_cli.errors import ConfigError, InputError, error_type_of
from motivnet_cli.inputs.decode import decode
from motivnet_cli.inputs.names import status_of, version_of
from motivnet_cli.inputs.picture_processes import PictureProcesses
from motivnet_cli.inputs.pillow import decoding_settings
from motivnet_cli.records import Face, GivenFace, Problem, Progress, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from motivnet_cli.config import FaceConfig, LoaderConfig
    from motivnet_cli.faces.crop import Cropping, NetworkInput
    from motivnet_cli.records import Box

FACES_FILE = "faces.jsonl"
"""In the folder of a training: where the face of each picture is, so that nobody looks for it again."""
NO_FACE = "no face found"
_LOCK_POLL_SECONDS = 0.2


class Picture(NamedTuple):
    """A picture that holds a face."""

    path: str
    """Absolute."""
    face: Face


class Faces(Dataset[torch.Tensor]):
    """N labelled faces as the network takes them; several processes may each have a copy.

    Args:
        names: [N], of the labelled images.
        pictures: [N].
        targets: [N, C], float32, rows sum to 1: one-hot, or the shares of the classes.
        cropping: How a face becomes pixels.
        max_pixels: As in `LoaderConfig`.
        subjects: [N], who is in the picture; None where it is not known.
    """

    def __init__(
        self,
        names: Sequence[str],
        pictures: Sequence[Picture],
        targets: NDArray[np.float32],
        cropping: Cropping,
        *,
        max_pixels: int,
        subjects: Sequence[str | None] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.pictures = tuple(pictures)
        self.targets = targets
        self.cropping = cropping
        self.subjects = tuple(subjects) if subjects is not None else (None,) * len(self.names)
        self._max_pixels = max_pixels
        self._processes = PictureProcesses(max_pixels=max_pixels)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> torch.Tensor:
        """One face: uint8 [3, H, W], RGB, 0 to 255.

        Raises:
            ConfigError: Its picture cannot be read any more.
        """
        path, face = self.pictures[index]
        try:
            with decoding_settings():
                frame = decode(path, max_pixels=self._max_pixels, apart=self._processes.decode)
        except InputError as error:
            raise ConfigError(
                f"{path!r} was readable before the training, and is not now: {error}. Put it back, and the same "
                "command goes on"
            ) from error
        return torch.from_numpy(self.cropping.crop(frame.rgb, face))

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_processes"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._processes = PictureProcesses(max_pixels=self._max_pixels)

    def close(self) -> None:
        """End the processes that decode pictures of rare formats."""
        self._processes.close()


# ---- the first pass ---------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    """A picture whose face is wanted."""

    path: str
    box: Box | None
    """Of the face, where the set gives it."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a picture found: a face, or why there is none."""

    face: Face | None
    problem: Problem | None = None
    sha256: str | None = None
    """Of the file; None where it cannot be read."""
    size_bytes: int | None = None
    mtime_ns: int | None = None

    @property
    def reason(self) -> str:
        """Why there is no face, for a count."""
        return self.problem.error_type if self.problem else NO_FACE


@contextmanager
def alone_in(out: Path, stop: Callable[[], bool]) -> Iterator[None]:
    """A block that one process at a time is in: of several that train together, one looks for faces, the others wait.

    Raises:
        Stopped: `stop()` turned true while another process was at it.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / f".{FACES_FILE}.lock")
    while True:
        with suppress(filelock.Timeout):
            lock.acquire(timeout=_LOCK_POLL_SECONDS)
            break
        if stop():
            raise Stopped
    try:
        yield
    finally:
        lock.release()


def look_at(
    wanted: Sequence[Wanted],
    network: NetworkInput,
    faces: FaceConfig,
    loader: LoaderConfig,
    *,
    out: Path,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> list[Look]:
    """Decode every picture and find its face, or take what an earlier pass with these settings found.

    What is found is kept in FACES_FILE, a line for each picture as it comes; a picture that has changed is looked at
    again. One process at a time may look (`alone_in`).

    Returns:
        [N], in the order of `wanted`.

    Raises:
        Stopped: `stop()` turned true: what was found until then is kept.
    """
    notes = _Notes(out / FACES_FILE, _settings(faces, loader))
    with closing(notes), closing(Preparer(network, faces, VideoConfig(), loader)) as preparer, decoding_settings():
        return _look_at_all(wanted, preparer, notes, loader.threads or usable_cores(), progress, stop)


def _look_at_all(
    wanted: Sequence[Wanted],
    preparer: Preparer,
    notes: _Notes,
    num_threads: int,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> list[Look]:
    start = time.monotonic()
    looks: list[Look] = []
    num_known = num_faces = num_failed = 0
    pool = ThreadPoolExecutor(num_threads, "look", initializer=torch.set_num_threads, initargs=(1,))

    def ahead() -> Iterator[tuple[Wanted, Callable[[], Look], bool]]:
        waiting: deque[tuple[Wanted, Callable[[], Look], bool]] = deque()
        for each in wanted:
            known = notes.known(each)
            result = (lambda look=known: look) if known else pool.submit(_look, preparer, each).result
            waiting.append((each, result, known is not None))
            if len(waiting) > 4 * num_threads:
                yield waiting.popleft()
        yield from waiting

    try:
        for each, result, is_known in ahead():
            if stop():
                raise Stopped
            look = result()
            if not is_known:
                notes.add(each, look)
            looks.append(look)
            num_known += is_known
            num_faces += look.face is not None
            num_failed += look.problem is not None
            seconds = time.monotonic() - start
            progress(Progress(len(wanted), len(looks), num_known, num_faces, num_failed, seconds))
    finally:
        with preparer.closed():
            pool.shutdown(cancel_futures=True)
    return looks


def _look(preparer: Preparer, wanted: Wanted) -> Look:
    version = version_of(status_of(wanted.path)[0])
    digest = None
    try:
        digest = sha256_of(Path(wanted.path))
        given = None if wanted.box is None else (GivenFace(wanted.box),)
        found = preparer.find(preparer.decode(wanted.path), given).faces
    except InputError as error:
        return Look(None, Problem.of(error), digest, *version)
    except OSError as error:
        return Look(None, Problem(error_type_of(error), f"it cannot be read: {error.strerror or error}"))
    return Look(found[0][0] if found else None, None, digest, *version)


# ---- what was found before --------------------------------------------------------------------------------


def _settings(faces: FaceConfig, loader: LoaderConfig) -> dict[str, object]:
    """What changes where a face is found; how it is cropped does not matter yet."""
    found = {name: value for name, value in asdict(faces).items() if name not in ("margin", "align")}
    return {"tool": f"motivnet {__version__}", **found, "max_pixels": loader.max_pixels}


class _Notes:
    """FACES_FILE: a first line of settings, then a line for each picture. Under other settings it begins anew."""

    def __init__(self, path: Path, settings: Mapping[str, object]) -> None:
        first = json.loads(json.dumps({"settings": settings}))
        self._looks = _read_notes(path, first)
        if self._looks is None:
            self._looks = {}
            path.write_text(json.dumps(first) + "\n", encoding="utf-8")
        self._file = path.open("a", buffering=1, encoding="utf-8")
        self._file.write("\n")  # here ends a line that a kill has cut off

    def known(self, wanted: Wanted) -> Look | None:
        """What was found of a picture that has not changed since."""
        look = self._looks.get(_key_of(wanted)) if self._looks else None
        if look is None or look.size_bytes is None:
            return None
        return look if version_of(status_of(wanted.path)[0]) == (look.size_bytes, look.mtime_ns) else None

    def add(self, wanted: Wanted, look: Look) -> None:
        self._file.write(json.dumps({"key": _key_of(wanted), **asdict(look)}) + "\n")

    def close(self) -> None:
        self._file.close()


def _read_notes(path: Path, first: Mapping[str, object]) -> dict[str, Look] | None:
    """The looks by key; None where there are none by these settings."""
    looks: dict[str, Look] = {}
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            if _parsed(file.readline()) != first:
                return None
            for note in map(_parsed, file):
                with suppress(LookupError, TypeError):
                    looks[note["key"]] = _look_of(note)
    except FileNotFoundError:
        return None
    return looks


def _parsed(line: str) -> dict[str, Any]:
    """A line of FACES_FILE; empty where it was cut off."""
    with suppress(ValueError):
        return dict(json.loads(line))
    return {}


def _look_of(note: Mapping[str, Any]) -> Look:
    face, problem = note["face"], note["problem"]
    if face is not None:
        points = face["landmarks"]
        landmarks = points and tuple(point and tuple(point) for point in points)
        face = Face(tuple(face["box"]), face["source"], face["score"], landmarks, face["turn"])
    return Look(face, problem and Problem(**problem), *(note[name] for name in ("sha256", "size_bytes", "mtime_ns")))


def _key_of(wanted: Wanted) -> str:
    return json.dumps([wanted.path, wanted.box])
