"""Soft targets: the faces of an `annotate` output, each with the probabilities that its network gave, cut anew.

No detector runs: boxes and turns are those of the table, and the crops are the student's own. Every input is read once
and its crops are kept in a file, since an epoch takes them in any order and training takes many epochs.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import torch

from motivnet_cli import __version__
from motivnet_cli.config import FaceConfig, LoaderConfig, VideoConfig
from motivnet_cli.durable import durably
from motivnet_cli.engine.found_again import find_items, is_changed, pictures_of, section_of
from motivnet_cli.engine.machine import usable_cores
from motivnet_cli.engine.prepare import Preparer
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.export.source import Source
from motivnet_cli.inputs.cells import CellReader
from motivnet_cli.inputs.decoder_process import write_at
from motivnet_cli.inputs.pillow import decoding_settings
from motivnet_cli.output.verify_sample import SampledInput
from motivnet_cli.records import BOX_COLUMNS, SIZE_COLUMNS, SUM_TOLERANCE, Face, Progress, Stopped, never, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from motivnet_cli.records import Frame, Item, RunRecord
    from motivnet_cli.weights.load import LoadedModel

_NEEDED = ("input", "frame", "face", "face_source", *BOX_COLUMNS, *SIZE_COLUMNS)
_RECORDED = ("model", "weights_sha256", "terms", "settings")
_CROPS, _CROPPED = "faces.bin", "faces.json"
"""In the folder of a training: the crops, uint8 [N, 3, H, W], and what they are; the second is written last."""
_GONE = {
    **dict.fromkeys(("not_found", "broken_link", "unreachable"), "files that were not found"),
    "changed": "files that have changed",
}
"""Why faces are left out, by the error types of inputs that are no longer what they were."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Targets:
    """N faces of an output of `annotate`, with the answers of its network."""

    path: str
    record: RunRecord
    """Of the run that named the faces."""
    classes: tuple[str, ...]
    faces: pl.DataFrame
    """Where each lies: `input`, `frame`, `face`, `face_source`, the box, `turn`, and the size of its picture."""
    probabilities: NDArray[np.float32]
    """[N, C], rows sum to 1."""
    inputs: Mapping[str, SampledInput]
    """What is known of each input, by its name."""
    num_unusable: int = 0
    """Rows that were left out: without a box, or whose probabilities do not sum to 1."""


def read_targets(path: str) -> Targets:
    """The faces of an output, in its order. Embeddings are not read: a million faces of as many inputs took 0.7 GB.

    Raises:
        ConfigError: It is no output of `annotate`, has no emotions or faces, or was made from corrupted pictures.
    """
    source = Source(path, embeddings=False)
    record = source.record
    if missing := [name for name in _RECORDED if name not in record]:
        raise ConfigError(
            f"{path!r} has no record of the run that named the faces ({missing[0]} is missing), so it does not "
            "say whose answers and terms a student takes over: give the output that motivnet annotate wrote"
        )
    if not source.classes:
        raise ConfigError(f"{path!r} holds no emotions: {record['model']} only describes faces; annotate with another")
    if isinstance(corruption := record["settings"].get("loader.corruption"), list):
        shown = " ".join(map(str, corruption))
        raise ConfigError(
            f"{path!r} was made from corrupted pictures ({shown}), and a student would see the pictures as they "
            "are: annotate these"
        )
    needed = [*_NEEDED, *source.classes]
    if missing := [name for name in needed if name not in source.schema.names]:
        raise ConfigError(f"{path!r} has no column {missing[0]!r}, which a student needs: give the whole faces table")
    turn = pl.col("turn") if "turn" in source.schema.names else pl.lit(0)
    # Classes come under numbers, since they may be called like columns that are made here.
    classes = [pl.col(name).cast(pl.Float32).alias(f"p{i}") for i, name in enumerate(source.classes)]
    table = source.lazy().select(*_NEEDED, turn.alias("turn"), *classes).collect(engine="streaming")
    numbers = table.select(pl.col(r"^p\d+$")).to_numpy().astype(np.float32)  # [N, C]
    boxes = table.select(BOX_COLUMNS).to_numpy()  # [N, 4]
    sums = numbers.sum(axis=1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        is_usable = np.isfinite(boxes.astype(np.float64)).all(axis=1) & (numbers >= 0).all(axis=1)
        is_usable &= abs(sums - 1) <= SUM_TOLERANCE
    if not is_usable.any():
        raise ConfigError(f"{path!r} holds no face with a box and probabilities: there is nothing to learn from")
    named = set(table["input"].to_list())
    inputs = {
        each.input: SampledInput(each.input, each.kind, each.archive, each.size_bytes, each.sha256)  # type: ignore[arg-type]
        for each in source.inputs()
        if each.input in named
    }
    if unknown := named - inputs.keys():
        raise ConfigError(
            f"{path!r} has no inputs table beside it that says what {min(unknown)!r} is: give the output that motivnet "
            "annotate wrote, with its inputs table"
        )
    return Targets(
        path=path,
        record=record,
        classes=source.classes,
        faces=table.select(*_NEEDED, "turn").filter(is_usable),
        probabilities=(numbers / sums[:, None])[is_usable].astype(np.float32),
        inputs=inputs,
        num_unusable=int((~is_usable).sum()),
    )


# ---- the crops --------------------------------------------------------------------------------------------


class Cropped(NamedTuple):
    """What became of the faces of some targets."""

    is_there: NDArray[np.bool_]
    """[N], whether the face was cut."""
    left_out: dict[str, int]
    """Reason -> faces that could not be cut."""
    examples: dict[str, str]
    """Reason -> an input that has such faces."""

    @property
    def remarks(self) -> list[str]:
        return [
            f"faces left out, of {reason}: {count:,}, such as of {self.examples[reason]!r}"
            for reason, count in self.left_out.items()
        ]


class FaceCrops(torch.utils.data.Dataset["Tensor"]):
    """Faces as the student takes them, read from a file of crops; any number of threads and processes may read.

    Args:
        path: Of the file.
        rows: [n], of the crops in the file.
        names: [n], of the inputs.
        targets: float32 [n, C], rows sum to 1.
        shape: Of a crop: 3, height, width.
    """

    def __init__(
        self,
        path: Path,
        rows: NDArray[np.int64],
        *,
        names: tuple[str, ...],
        targets: NDArray[np.float32],
        shape: tuple[int, int, int],
    ) -> None:
        assert len(rows) == len(names) == len(targets)
        self.names = names
        self.targets = targets
        self._path = path
        self._rows = rows
        self._shape = shape

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Tensor:
        """uint8 RGB [3, H, W], 0 to 255."""
        return torch.from_numpy(self.pixels(index))

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """The same as an array of its own."""
        return np.array(self._crops[self._rows[index]])

    @cached_property
    def _crops(self) -> NDArray[np.uint8]:
        return np.memmap(self._path, np.uint8, "r").reshape(-1, *self._shape)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_crops"}  # pickled, it would be copied


def crop_faces(
    targets: Targets,
    student: LoadedModel,
    out: Path,
    *,
    images: str | None,
    threads: int | None = None,
    progress: Callable[[Progress], None] = no_progress,
    stop: Callable[[], bool] = never,
) -> Cropped:
    """Cut every face for the student into `out`, or find that this was done.

    Args:
        images: The folder below which the inputs lie by their names; None looks where the run had them.
        progress: Called after every input, or archive.

    Raises:
        ConfigError: None of the faces could be cut.
        OSError: The crops cannot be written: they take 3 x height x width bytes a face.
        Stopped: `stop()` turned true; the next call begins anew.
    """
    key = _key_of(targets, student, images)
    if (before := _cropped_before(out / _CROPPED, key, len(targets.faces))) is not None:
        return before
    jobs = _jobs_of(targets, images)
    started = time.monotonic()
    with durably(out / _CROPS) as temporary, temporary.open("wb") as file:
        with closing(_Cutter(targets, student, file.fileno())) as cutter, decoding_settings():
            for done, _ in enumerate(_in_threads(cutter.cut, jobs, threads or usable_cores()), start=1):
                if stop():
                    raise Stopped
                progress(Progress(len(jobs), done, 0, cutter.num_cut, 0, time.monotonic() - started))
        file.truncate(len(targets.faces) * 3 * student.height * student.width)
    cropped = cutter.result
    if not cropped.is_there.any():
        looked = f"below {images!r}" if images is not None else "where the run had them"
        raise ConfigError(
            f"of the {len(targets.faces):,} faces of {targets.path!r} none could be cut from its picture, {looked} "
            f"({'; '.join(cropped.remarks)}): give the folder of the inputs with --images"
        )
    with durably(out / _CROPPED) as temporary:
        about = {"key": key, **cropped._asdict(), "is_there": np.flatnonzero(cropped.is_there).tolist()}
        temporary.write_text(json.dumps(about), encoding="utf-8")
    return cropped


def crops_in(
    out: Path, targets: Targets, rows: NDArray[np.int64], student: LoadedModel, *, classes: Sequence[str]
) -> FaceCrops:
    """Some of the faces that `crop_faces` cut into `out`, with their targets in the order of `classes`."""
    order = [targets.classes.index(name) for name in classes]
    return FaceCrops(
        out / _CROPS,
        rows,
        names=tuple(targets.faces["input"].gather(rows).to_list()),
        targets=np.ascontiguousarray(targets.probabilities[rows][:, order]),
        shape=(3, student.height, student.width),
    )


def remove_crops(out: Path) -> None:
    """Delete what `crop_faces` wrote, once nothing is learned from it any more."""
    for name in (_CROPPED, _CROPS):
        (out / name).unlink(missing_ok=True)


def list_sha256(targets: Targets, rows: NDArray[np.int64]) -> str:
    """A hash of some faces and their targets, in their order."""
    digest = hashlib.sha256()
    faces = targets.faces.select("input", "frame", "face")[rows]
    for face, target in zip(faces.iter_rows(), targets.probabilities[rows], strict=True):
        digest.update(f"{json.dumps(face)} {target.tobytes().hex()}\n".encode())
    return digest.hexdigest()


def _key_of(targets: Targets, student: LoadedModel, images: str | None) -> str:
    """Another one wherever the crops would be others."""
    about = [__version__, student.recipe, student.height, student.width, student.card.margin, images, targets.path]
    digest = hashlib.sha256(json.dumps([*about, targets.record["settings"]]).encode())
    for row in targets.faces.iter_rows():
        digest.update(f"{json.dumps(row)}\n".encode())
    return digest.hexdigest()


def _cropped_before(path: Path, key: str, num_faces: int) -> Cropped | None:
    """What an earlier call wrote for the same faces; None where it did not."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if about["key"] != key:
        return None
    is_there = np.zeros(num_faces, np.bool_)
    is_there[about["is_there"]] = True
    return Cropped(is_there, about["left_out"], about["examples"])


class _Job(NamedTuple):
    """What one thread does at a time: an item, or all pictures of one table, which is read in its order."""

    items: tuple[tuple[Item | None, list[int]], ...]
    """Each with its rows; None where it is not found."""


def _jobs_of(targets: Targets, images: str | None) -> list[_Job]:
    """Every row of the targets in one of them, in the order of the table."""
    items = find_items(targets.path, targets.inputs.values(), targets.record["settings"], inputs_from=images)
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(targets.faces["input"].to_list()):
        rows_of[targets.inputs[name].archive or name].append(row)
    by_table: dict[str, list[tuple[Item | None, list[int]]]] = defaultdict(list)
    for name, rows in rows_of.items():
        item = items.get(name)
        table = item.path if item is not None and item.row is not None else ""
        by_table[f"{table}\0{'' if table else name}"].append((item, rows))
    return [_Job(tuple(each)) for each in by_table.values()]


def _in_threads(work: Callable[[_Job], None], jobs: Sequence[_Job], num_threads: int) -> Iterator[None]:
    """Do the jobs, a thread each; whoever takes no more of the results waits for those that were begun."""
    pool = ThreadPoolExecutor(num_threads, "cut", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(work, jobs)
    finally:
        pool.shutdown(cancel_futures=True)


class _Cutter:
    """Cuts faces from their pictures into a file, for many threads at once.

    Args:
        descriptor: Of the file; the crop of row i becomes its i-th.
    """

    def __init__(self, targets: Targets, student: LoadedModel, descriptor: int) -> None:
        settings = targets.record["settings"]
        self._targets = targets
        self._descriptor = descriptor
        self._preparer = Preparer(
            student,
            FaceConfig(mode="whole"),  # no detector is loaded
            VideoConfig(**section_of(settings, "video")),  # type: ignore[arg-type]
            LoaderConfig(**section_of(settings, "loader")),  # type: ignore[arg-type]
        )
        self._lock = threading.Lock()
        self._is_there = np.zeros(len(targets.faces), np.bool_)
        self._left_out: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self.num_cut = 0
        """Faces so far."""

    @property
    def result(self) -> Cropped:
        return Cropped(self._is_there, dict(self._left_out), self._examples)

    def close(self) -> None:
        self._preparer.close()

    def cut(self, job: _Job) -> None:
        """Cut the faces of some items.

        Raises:
            OSError: The crops cannot be written.
        """
        with closing(CellReader()) as cells:
            for item, rows in job.items:
                left, reason = list(rows), "files that were not found"
                if item is not None:
                    reason = self._cut_item(item, rows, cells)
                    left = [row for row in rows if not self._is_there[row]]
                with self._lock:
                    self.num_cut += len(rows) - len(left)
                    if left:
                        self._left_out[reason] += len(left)
                        self._examples.setdefault(reason, self._targets.faces["input"][left[0]])

    def _cut_item(self, item: Item, rows: Sequence[int], cells: CellReader) -> str:
        """Cut the faces of an item; returns what is wrong with it where some could not be cut."""
        faces = self._targets.faces[rows]
        waiting: dict[tuple[str, int | None], list[int]] = defaultdict(list)
        for row, *picture in zip(rows, faces["input"].to_list(), faces["frame"].to_list(), strict=True):
            waiting[picture[0], picture[1]].append(row)
        try:
            if is_changed(item, self._targets.inputs[faces["input"][0]]):
                return _GONE["changed"]
        except OSError:
            return _GONE["not_found"]
        try:
            names = {name for name, _ in waiting}
            every = "given" in faces["face_source"]
            for name, frame, _ in pictures_of(item, names, self._preparer, cells, every_frame=every):
                self._cut_from(frame, waiting.pop((name, frame.index), []))
                if not waiting:
                    break
        except InputError as error:
            return _GONE.get(error.error_type, f"files that cannot be read ({error.error_type})")
        return _GONE["changed"]

    def _cut_from(self, frame: Frame, rows: Sequence[int]) -> None:
        for row in rows:
            about = self._targets.faces.row(row, named=True)
            if frame.rgb.shape[:2] != (about["picture_height"], about["picture_width"]):
                continue
            x1, y1, x2, y2 = (about[side] for side in BOX_COLUMNS)
            crop = self._preparer.crop(frame, Face((x1, y1, x2, y2), about["face_source"], turn=about["turn"]))
            write_at(self._descriptor, crop.tobytes(), row * crop.nbytes)
            self._is_there[row] = True
