"""Labelled images and clips as files that a run can read, and the manifest of them."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from motivnet_cli.config import FaceConfig
from motivnet_cli.durable import durably, temporary_name
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.inputs.cells import CellReader
from motivnet_cli.inputs.names import kind_of, status_of, version_of
from motivnet_cli.records import BOX_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from motivnet_cli.config import FaceMode
    from motivnet_cli.evaluation.datasets.labelled import Labelled, LabelledSet
    from motivnet_cli.evaluation.matching import Matched
    from motivnet_cli.evaluation.predictions import Predictions


_MAX_COMPARED = 10_000
"""Files whose sizes are compared, spread over the set: on a shared file system each may take a millisecond."""


def face_settings(labelled: LabelledSet, chosen: FaceConfig | None) -> tuple[FaceConfig, bool]:
    """How the faces of a set are found, and whether at the boxes that it gives: as chosen, else as suits the set.

    Crops are taken whole; else the largest face counts, and only a set of images may have pictures that are crops.
    """
    if chosen is not None:
        return chosen, False
    found: FaceMode = "detect" if labelled.unit == "clip" else "auto"
    faces = FaceConfig(mode="whole" if labelled.faces == "whole" else found, max_faces=1)
    return faces, labelled.faces == "given"


def write_manifest(labelled: LabelledSet, out: Path, *, with_boxes: bool, every: int) -> Path:
    """The labelled images as a manifest; its name changes when they do, and with it the run's fingerprint.

    Args:
        every: Which frames are taken of clips that are folders of frames: every N-th, from the first.
    """
    lines = []
    for image, path in zip(labelled.images, write_pictures(labelled.images, out), strict=True):
        row: dict[str, str | float] = {"path": path}
        if with_boxes and image.box:
            row |= dict(zip(BOX_COLUMNS, image.box, strict=True))
        lines += [json.dumps({"path": frame}) for frame in image.frames[::every]] or [json.dumps(row)]
    text = "\n".join(lines) + "\n"
    manifest = out / "inputs" / f"{labelled.dataset}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
    if not manifest.exists():
        with durably(manifest) as temporary:
            temporary.write_text(text)
    return manifest


def write_pictures(images: Iterable[Labelled], out: Path) -> Iterator[str]:
    """The path of each image or clip; pictures of tables become files on the way."""
    (out / "inputs").mkdir(parents=True, exist_ok=True)
    with closing(CellReader()) as cells:
        for image in images:
            path = path_of(image, out)
            if image.path is None and not Path(path).exists():
                temporary = temporary_name(Path(path))
                _write_picture(image, temporary, cells)
                temporary.replace(path)  # not synced: tens of thousands, and they can be made again
            yield path


def _write_picture(image: Labelled, path: Path, cells: CellReader) -> None:
    """The picture of a table as a file; an empty one where its cell cannot be read, which the run then says of it."""
    if image.pixels is not None:
        Image.fromarray(image.pixels).save(path, format="png")
    elif image.cell is not None:
        try:
            content = cells.read(image.cell.table, image.cell.column, image.cell.row)
        except InputError:
            content = b""
        path.write_bytes(content)


def path_of(image: Labelled, out: Path) -> str:
    """Where an image lies; one of a table gets a file named after it, so that another split has other files."""
    if image.path is not None:
        return image.path
    name = PurePosixPath(image.name)
    if image.pixels is not None:
        content, suffix = image.pixels.tobytes(), ".png"
    else:
        content, suffix = repr(image.cell).encode(), name.suffix if kind_of(name.name) == "image" else ""
    return str((out / "inputs" / f"{name.stem}-{hashlib.sha256(content).hexdigest()[:16]}{suffix}").absolute())


def picture_of(image: Labelled, out: Path) -> str:
    """The file that shows an image: of a folder of frames the middle one, of a video itself."""
    return image.frames[len(image.frames) // 2] if image.frames else path_of(image, out)


def remark_on_other_files(
    predictions: Predictions, matched: Matched, names: Sequence[str], paths: Sequence[str | None]
) -> str | None:
    """What must be said first where files that were predicted had other sizes than the labelled ones of their names.

    Two sets may have one another's names, such as `happy/0.jpg`. A run of motivnet has recorded the size of each file.

    Args:
        names: [N], of the labelled images.
        paths: [N], of their files; None where there is none.

    Raises:
        ConfigError: All had other sizes.
    """
    if predictions.sizes is None:
        return None
    num, differing = 0, []
    found = np.flatnonzero(matched.rows >= 0)
    for image in found[:: 1 + len(found) // _MAX_COMPARED].tolist():
        path, size = paths[image], predictions.sizes[predictions.image_of[matched.rows[image]]]
        if path is not None and size is not None and (own := version_of(status_of(path)[0])[0]) is not None:
            num += 1
            if own != size:
                differing.append(f"{names[image]!r}: {own:,} bytes here, {size:,} when it was predicted")
    if not differing:
        return None
    if len(differing) == num:
        raise ConfigError(
            f"{predictions.source!r} has the names of {num:,} of these files, and all had other sizes "
            f"({differing[0]}): they are other pictures of the same names, or were written anew. Predict those that "
            "are here"
        )
    return (
        f"{len(differing):,} of {num:,} files of these names had other sizes ({differing[0]}): they are other "
        "pictures, or were written anew"
    )
