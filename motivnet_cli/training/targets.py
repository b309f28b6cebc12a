"""Soft targets: the faces of an `annotate` output, each with the probabilities that its network gave, cut anew.

No detector runs: boxes and turns are those of the table, and the crops are the student's own. Every input is read once
and its crops are kept in a file, since an epoch takes them in any order and training takes many epochs.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import torch

from motivnet_cli import __version__
from motivnet_cli.config import FaceConfig
from motivnet_cli.durable import durably
from motivnet_cli.engine.faces_again import FacesAgain, LeftOut
from motivnet_cli.engine.found_again import find_items
from motivnet_cli.engine.machine import usable_cores
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.source import Source
from motivnet_cli.faces.crop import Cropping
from motivnet_cli.inputs.decoder_process import write_at
from motivnet_cli.records import BOX_COLUMNS, SIZE_COLUMNS, SUM_TOLERANCE, Face, Progress, Stopped, never, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from motivnet_cli.output.verify_sample import SampledInput
    from motivnet_cli.records import RunRecord
    from motivnet_cli.weights.load import LoadedModel

_NEEDED = ("input", "frame", "face", "face_source", *BOX_COLUMNS, *SIZE_COLUMNS)
_RECORDED = ("model", "weights_sha256", "terms", "settings")
_CROPS, _CROPPED = "faces.bin", "faces.json"
"""In the folder of a training: the crops, uint8 [N, 3, H, W], and what they are; the second is written last."""


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
    """What is known of each input, and of the archives that they are in, by their names."""
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
    source.reading_settings()
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
    inputs = source.about_inputs(set(table["input"].to_list()))
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
    left_out: LeftOut


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
    settings = targets.record["settings"]
    items = find_items(targets.path, targets.inputs.values(), settings, inputs_from=images)
    again = FacesAgain(settings, targets.faces, targets.inputs, items)
    started = time.monotonic()
    with durably(out / _CROPS) as temporary, temporary.open("wb") as file:
        use = _cutter(targets, student, file.fileno())
        for done, _ in enumerate(again.show(use, num_threads=threads or usable_cores()), start=1):
            if stop():
                raise Stopped
            progress(Progress(again.num_jobs, done, 0, again.num_shown, 0, time.monotonic() - started))
        file.truncate(len(targets.faces) * 3 * student.height * student.width)
    cropped = Cropped(again.is_shown, again.left_out)
    if not cropped.is_there.any():
        looked = f"below {images!r}" if images is not None else "where the run had them"
        raise ConfigError(
            f"of the {len(targets.faces):,} faces of {targets.path!r} none could be cut from its picture, {looked} "
            f"({'; '.join(cropped.left_out.remarks)}): give the folder of the inputs with --images"
        )
    with durably(out / _CROPPED) as temporary:
        about = {"key": key, "is_there": np.flatnonzero(cropped.is_there).tolist(), "left_out": cropped.left_out}
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
    return Cropped(is_there, LeftOut(*about["left_out"]))


def _cutter(targets: Targets, student: LoadedModel, descriptor: int) -> Callable[[int, NDArray[np.uint8]], None]:
    """What cuts a face out of its picture and writes it to a file: the crop of row i becomes its i-th."""
    cropping = Cropping.of(student, FaceConfig())

    def cut(row: int, rgb: NDArray[np.uint8]) -> None:
        about = targets.faces.row(row, named=True)
        x1, y1, x2, y2 = (about[side] for side in BOX_COLUMNS)
        crop = cropping.crop(rgb, Face((x1, y1, x2, y2), about["face_source"], turn=about["turn"]))
        write_at(descriptor, crop.tobytes(), row * crop.nbytes)

    return cut
