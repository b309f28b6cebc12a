"""Face crops as pictures in a folder for each emotion, with a table of what is known of each.

A crop is what the network saw of the face, before any resize: PNG at the picture's own scale. Its picture is read anew
(`engine.faces_again`); what was chosen is held in memory without embeddings.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from PIL import Image

from motivnet_cli.catalogue import fill_rgb_of
from motivnet_cli.engine.faces_again import FacesAgain
from motivnet_cli.engine.found_again import find_items
from motivnet_cli.engine.machine import usable_cores
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.destination import check_destination, whole_folder
from motivnet_cli.export.local_files import LocalFiles
from motivnet_cli.export.source import Source
from motivnet_cli.export.tables import escape_formulas
from motivnet_cli.faces.crop import RotatedSquare, square_of
from motivnet_cli.output.tables import SCHEMA_VERSION, columns_as_of
from motivnet_cli.records import BOX_COLUMNS, LANDMARK_COLUMNS, LANDMARKS, SIZE_COLUMNS, Face
from motivnet_cli.remote.urls import local_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from motivnet_cli.records import Landmarks

log = logging.getLogger(__name__)

INDEX = "metadata.csv"
"""The table beside the class folders, under the name that Hugging Face's `imagefolder` reads."""
_FILE = "file_name"
_IN_INDEX = {"input": "source_input", **{side: f"source_{side}" for side in BOX_COLUMNS}}
"""Columns that the index calls otherwise: `input` would be taken for the path of the crop, and the box of a face in the
picture for one in the crop."""
_NEEDED = ("input", "frame", "face", "face_source", "turn", "emotion", *BOX_COLUMNS, *SIZE_COLUMNS)
_IS_PLACED = (pl.col("face_source") == "whole") | pl.all_horizontal(
    pl.col(side).is_not_null() & pl.col(side).is_finite() for side in BOX_COLUMNS
)
_MAX_STEM_BYTES = 80
"""Of the input's name in that of a crop: the whole name stays under the 255 bytes that file systems allow."""
_MIN_ROWS = 1 << 16
"""That are gathered before all but the chosen ones are let go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropsWritten:
    """What an export of crops came to."""

    written: str
    """The folder."""
    faces: int
    by_emotion: dict[str, int]
    """Faces of each emotion that were written, in the order of the classes."""
    left_out: dict[str, int]
    """Faces that could not be cut, by reasons."""


def write_crops(
    predictions: str | Path,
    out: str | Path,
    *,
    where: str | None = None,
    per_class: int | None = None,
    images_from: str | None = None,
    overwrite: bool = False,
) -> CropsWritten:
    """Write the faces of an output as `out/<emotion>/<input>-<hash>[-f<frame>]-<face>.png`, and `out/metadata.csv`.

    The hash is of the input's whole name. The table has a row for each crop, `file_name` first, then the columns of the
    faces table but for the embedding; `input` and the box are called `source_input` and `source_x1` to `source_y2`.

    Args:
        predictions: An output of `annotate`, with its inputs table.
        out: Folder to write; it appears whole or not at all.
        where: A condition in SQL on the columns of a row.
        per_class: At most so many faces of each emotion: those of which a hash of input, frame and face is least. That
            is a random sample, the same one each time, also from another order of the rows; a larger one holds it.
        images_from: The folder to which the inputs have moved (see `LocalFiles`).
        overwrite: Replace a folder that an earlier export made.

    Raises:
        ConfigError: The output does not say what the crops were, none of the faces can be cut, or the destination does
            not fit.
    """
    path = local_path(str(predictions))
    source = Source(path, where=where, embeddings=False)
    folder = Path(local_path(str(out)))
    check_destination(folder, [source.path, *source.files_named], overwrite=overwrite, is_folder=True)
    cutting = _cutting_of(source)
    _check_classes(source)
    chosen, num_unplaced = _chosen(source, per_class)
    faces = _named(source, chosen)
    settings, names = source.reading_settings(), set(faces["input"].to_list())
    inputs = source.about_inputs(names)
    if images_from is None:
        items = find_items(path, inputs.values(), settings, inputs_from=None)
    else:
        inputs, items = LocalFiles(source, images_from).items_of(row for row in source.inputs() if row.input in names)
    again = FacesAgain(settings, faces, inputs, items)
    log.info("faces to cut: %s, from inputs: %s", f"{len(faces):,}", f"{faces['input'].n_unique():,}")
    try:
        with whole_folder(folder, {"format": "crops", "predictions": path, "record": source.record}) as temporary:
            use = functools.partial(_write_crop, faces, cutting, temporary)
            for _ in again.show(use, num_threads=usable_cores()):
                pass
            if not again.num_shown:
                raise ConfigError(
                    f"of the {len(faces):,} faces of {path!r} none could be cut from its picture "
                    f"({'; '.join(again.left_out.remarks)}): give the folder of the inputs with --images-from"
                )
            written = faces.filter(pl.Series(again.is_shown))
            _write_index(written, temporary / INDEX)
    except OSError as error:
        raise ConfigError(f"cannot write {str(out)!r} ({error.strerror or error}); choose another --out") from error
    counts = Counter(written["emotion"].to_list())
    by_emotion = {name: counts[name] for name in source.classes}
    left_out = again.left_out.counts
    for remark in again.left_out.remarks:
        log.warning(remark)
    if num_unplaced:
        left_out["rows without a box"] = num_unplaced
        log.warning("rows left out, since they have no box: %s", f"{num_unplaced:,}")
    if fewer := [f"{name} {count:,}" for name, count in by_emotion.items() if per_class and count < per_class]:
        log.warning("emotions with fewer faces than --per-class %d: %s", per_class, ", ".join(fewer))
    return CropsWritten(written=str(out), faces=len(written), by_emotion=by_emotion, left_out=left_out)


# ---- which faces -------------------------------------------------------------------------------------------


def _check_classes(source: Source) -> None:
    if not source.classes:
        raise ConfigError(
            f"{str(source.path)!r} names no emotions (its model is {source.record.get('model')!r}), and crops lie in "
            "folders by emotion; annotate with another model"
        )
    for name in source.classes:
        # Hidden folders are skipped by readers, and names that a spreadsheet runs are changed in the table.
        if re.search(r"[/\\:\0]|^[.=+\-@]", name):
            raise ConfigError(f"the class {name!r} cannot be the name of a folder, so its faces have no place")
    needed = columns_as_of(source.record.get("schema_version", SCHEMA_VERSION), _NEEDED)
    missing = [name for name in needed if name not in source.schema.names]
    if missing:
        raise ConfigError(f"{str(source.path)!r} has no column {missing[0]!r}, which crops need: give the faces table")


def _chosen(source: Source, per_class: int | None) -> tuple[pl.DataFrame, int]:
    """The rows to be cut, in the order of the table, and how many there are without a box.

    Raises:
        ConfigError: There are none, or one has an emotion that is none of the model's.
    """
    sample = None if per_class is None else _sampled(source, per_class)
    parts: list[pa.RecordBatch] = []
    first = num_unplaced = 0
    for batch in source.batches():
        rows = pl.DataFrame(batch)
        _check_emotions(source, rows)
        is_placed = rows.select(_IS_PLACED).to_series().to_numpy()
        num_unplaced += len(rows) - int(is_placed.sum())
        is_chosen = is_placed if sample is None else np.isin(np.arange(first, first + len(rows)), sample)
        parts.append(batch.filter(pa.array(is_chosen)))  # a copy of these rows alone
        first += len(rows)
    faces = pl.DataFrame(pa.Table.from_batches(parts, schema=source.schema))
    if faces.is_empty():
        raise ConfigError(
            f"{str(source.path)!r} has no face with a box to be cut: give another output, or another --where"
        )
    return faces, num_unplaced


def _sampled(source: Source, per_class: int) -> NDArray[np.int64]:
    """The numbers of the rows of which a hash of their names is least in their class; numbers are all that is held."""
    if per_class < 1:
        raise ConfigError(f"--per-class takes a number of faces from 1 on, got {per_class}")
    kept: list[pl.DataFrame] = []
    first = num_kept = num_new = 0
    for batch in source.batches(["input", "frame", "face", "face_source", "emotion", *BOX_COLUMNS]):
        rows = pl.DataFrame(batch)
        _check_emotions(source, rows)
        rows = rows.with_columns(
            pl.int_range(first, first + len(rows)).alias("row"), pl.col("emotion").cast(pl.Enum(source.classes))
        )
        first += len(rows)
        rows = rows.filter(_IS_PLACED)
        num_new += len(rows)
        kept.append(rows.select("row", "emotion", rank=_ranks(rows)))
        if num_new > max(_MIN_ROWS, num_kept):
            kept, num_new = [_least(pl.concat(kept), per_class)], 0
            num_kept = len(kept[0])
    return _least(pl.concat(kept), per_class)["row"].to_numpy() if kept else np.zeros(0, np.int64)


def _check_emotions(source: Source, rows: pl.DataFrame) -> None:
    others = rows.filter(~pl.col("emotion").is_in(source.classes, nulls_equal=True))
    if len(others):
        raise ConfigError(
            f"a face in {others['input'][0]!r} has emotion {others['emotion'][0]!r}, which is none of the model's "
            f"({', '.join(source.classes)}); leave such rows out with --where"
        )


def _least(rows: pl.DataFrame, per_class: int) -> pl.DataFrame:
    return rows.sort("rank").group_by("emotion", maintain_order=True).head(per_class).select(rows.columns)


def _ranks(rows: pl.DataFrame) -> pl.Series:
    """A hash of what names each face."""
    names = rows.select("input", "frame", "face").iter_rows()
    digests = (hashlib.blake2b(repr(name).encode(), digest_size=8).digest() for name in names)
    return pl.Series(np.frombuffer(b"".join(digests), np.uint64))


def _named(source: Source, faces: pl.DataFrame) -> pl.DataFrame:
    """The faces with the names of their files.

    Raises:
        ConfigError: A face is there twice.
    """
    names = [
        f"{emotion}/{_stem_of(name)}{'' if frame is None else f'-f{frame:06}'}-{face}.png"
        for emotion, name, frame, face in faces.select("emotion", "input", "frame", "face").iter_rows()
    ]
    files = pl.Series(_FILE, names)
    if files.is_duplicated().any():
        name = faces.filter(files.is_duplicated())["input"][0]
        raise ConfigError(f"a face of {name!r} is in {str(source.path)!r} twice; give every row once")
    taken = {name: f"source_{name}" for name in (_FILE, *_IN_INDEX.values()) if name in faces.columns}
    return faces.rename(taken).with_columns(files)


@functools.lru_cache
def _stem_of(name: str) -> str:
    """What says of which input a crop is: the end of its name as far as every file system takes it, and a hash."""
    stem = Path(re.split(r"[/\\]+", name.rstrip("/\\"))[-1]).stem
    plain = re.sub(r"[^\w.]+", "_", stem).strip("._").encode()[:_MAX_STEM_BYTES].decode(errors="ignore")
    return f"{plain or 'input'}-{hashlib.blake2b(name.encode(), digest_size=6).hexdigest()}"


# ---- their pixels ------------------------------------------------------------------------------------------


class _Cutting(NamedTuple):
    """How the run cut its faces."""

    margin: float
    align: bool
    fill_rgb: tuple[int, int, int]


def _cutting_of(source: Source) -> _Cutting:
    settings = source.reading_settings()
    margin, align, recipe = (settings.get(name) for name in ("faces.margin", "faces.align", "model.recipe"))
    fill_rgb = fill_rgb_of(str(recipe))
    if not isinstance(margin, int | float) or fill_rgb is None:
        raise ConfigError(
            f"{str(source.path)!r} does not say how its faces were cut (margin {margin!r}, recipe {recipe!r}): "
            "annotate the pictures again"
        )
    if align and (missing := [name for name in LANDMARK_COLUMNS if name not in source.schema.names]):
        raise ConfigError(
            f"the faces of {str(source.path)!r} were cut along the line of their eyes, and it has no column "
            f"{missing[0]!r} that says where these are: annotate the pictures again, without --no-landmarks"
        )
    return _Cutting(margin, bool(align), fill_rgb)


def _write_crop(faces: pl.DataFrame, cutting: _Cutting, folder: Path, row: int, rgb: NDArray[np.uint8]) -> None:
    """Cut one face out of its picture [H, W, 3]."""
    about = faces.row(row, named=True)
    x1, y1, x2, y2 = (about[side] for side in BOX_COLUMNS)
    landmarks = _landmarks_in(about) if cutting.align else None
    face = Face((x1, y1, x2, y2), about["face_source"], landmarks=landmarks, turn=about.get("turn", 0))
    square = square_of(rgb, face, margin=cutting.margin, align=cutting.align, fill_rgb=cutting.fill_rgb)
    if isinstance(square, RotatedSquare):
        square = square.pixels(enough=square.shape[0])
    file = folder / about[_FILE]
    file.parent.mkdir(exist_ok=True)
    Image.fromarray(np.ascontiguousarray(square)).save(file, "PNG")


def _landmarks_in(about: Mapping[str, float | None]) -> Landmarks:
    points = ((about[f"{name}_x"], about[f"{name}_y"]) for name in LANDMARKS)
    return tuple(None if x is None or y is None else (x, y) for x, y in points)


def _write_index(faces: pl.DataFrame, path: Path) -> None:
    table = faces.rename(_IN_INDEX).select(_FILE, pl.all().exclude(_FILE))
    escape_formulas(table.lazy()).collect().write_csv(path, quote_style="non_numeric")
