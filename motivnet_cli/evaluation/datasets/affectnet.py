"""AffectNet: one array file an annotation, the older lists, and folders by class."""

from __future__ import annotations

import ast
import os
import posixpath
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.by_class import chosen_split, class_folder_layout
from motivnet_cli.evaluation.datasets.disk import join_path, normalise_label, scan_csv, start_of
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motivnet_cli.evaluation.datasets.card import Faces
    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request
    from motivnet_cli.records import Box

_SPLITS = ("train", "val")
_THREADS = 16
"""That read small files. One would do on a local disk; on a network disk nearly all of the time is waiting."""
_FILES_AT_ONCE = 500
_ARRAY_ENDING = "_exp.npy"


# ---- an array file for each annotation --------------------------------------------------------------------


def _recognise_arrays(request: Request, folder: str) -> Paths:
    found: dict[str, str] = {}
    for split in _SPLITS:
        annotations = request.disk.child(folder, f"{split}_set/annotations")
        images = request.disk.child(folder, f"{split}_set/images")
        if annotations and images:
            found |= {f"{split} annotations": annotations, split: images}
    return found


def _read_arrays(request: Request, found: Recognised) -> SplitRows:
    split, word, remarks = chosen_split(request, found)
    images, annotations = found.paths[word], found.paths[f"{word} annotations"]
    names = [name for name in request.disk.files(annotations) if name.casefold().endswith(_ARRAY_ENDING)]
    files = {posixpath.splitext(name)[0]: name for name in request.disk.files(images) if kind_of(name) == "image"}
    dropped: Counter[str] = Counter()
    rows = []
    for name, label in zip(names, _read_labels(annotations, names), strict=True):
        stem = name[: -len(_ARRAY_ENDING)]
        if label is None:
            dropped["annotation not understood"] += 1
        else:
            rows.append(Row(f"{images}/{files.get(stem, f'{stem}.jpg')}", label))
    return SplitRows(
        split=split, rows=rows, faces=request.card.faces, dropped=dropped, remarks=remarks, from_index=True
    )


def _read_labels(folder: str, names: list[str]) -> list[str | None]:
    chunks = [names[start : start + _FILES_AT_ONCE] for start in range(0, len(names), _FILES_AT_ONCE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [label for labels in pool.map(partial(_read_chunk, folder), chunks) for label in labels]


def _read_chunk(folder: str, names: Iterable[str]) -> list[str | None]:
    return [_label_in(_read_start(f"{folder}/{name}")) for name in names]


def _read_start(path: str) -> bytes:
    """The first 4 KiB: `open` holds the interpreter's lock so often that 16 threads take 100 us a file, this 40."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return os.read(file, 4096)
    finally:
        os.close(file)


def _label_in(content: bytes) -> str | None:
    """The one number in an .npy file, written as text or as a number; None where it is none.

    `numpy.load` takes 130 us for it, half a minute for AffectNet's training split.
    """
    start = 10 + int.from_bytes(content[8:10], "little")
    dtype = _array_type(content[:start])
    if dtype is None or len(content) < start + dtype.itemsize:
        return None
    text = str(np.frombuffer(content, dtype, 1, start)[0])
    try:
        return str(int(float(text)))
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=64)
def _array_type(head: bytes) -> np.dtype[np.generic] | None:
    if head[:7] != b"\x93NUMPY\x01":
        return None
    try:
        dtype = np.dtype(ast.literal_eval(head[10:].decode("latin-1"))["descr"])
    except (ValueError, SyntaxError, KeyError, TypeError):
        return None
    return dtype if dtype.kind in "iufU" and dtype.itemsize else None


# ---- lists of all annotations -----------------------------------------------------------------------------

_COLUMNS = {
    **{"path": "subdirectory_filepath", "x": "face_x", "y": "face_y", "width": "face_width", "height": "face_height"},
    "label": "expression",
}
_PLACES = {"path": 0, "x": 1, "y": 2, "width": 3, "height": 4, "label": 6}
_FILES = {"train": "training.csv", "val": "validation.csv"}
_PICTURES = "Manually_Annotated_Images"


def _recognise_lists(request: Request, folder: str) -> Paths:
    """The lists in a folder of their own, or where they can be known by their first line."""
    lists = request.disk.child(folder, "Manually_Annotated_file_lists")
    found = {split: path for split, name in _FILES.items() if lists and (path := request.disk.child(lists, name))}
    if found:
        return found
    paths = {split: request.disk.child(folder, name) for split, name in _FILES.items()}
    mark = _COLUMNS["path"]
    return {split: path for split, path in paths.items() if path and start_of(path).casefold().startswith(mark)}


def _read_lists(request: Request, found: Recognised) -> SplitRows:
    """The faces of the lists, each with its box in a picture that shows more than the face."""
    split, word, remarks = chosen_split(request, found)
    index = found.paths[word]
    around = (f"{name}/" for name in ("", "Manually_Annotated", "Manually_Annotated_compressed"))
    names = (*(f"{each.lstrip('/')}{_PICTURES}" for each in around), "Manually_Annotated")
    images = request.disk.child(found.folder, *names)
    if images is None:
        raise ConfigError(f"{request.card.name}: {index!r} is there, but no folder {_PICTURES}")
    protocol = request.protocol or "box"
    table = scan_csv(index, _COLUMNS, without_header=_PLACES).collect()
    dropped: Counter[str] = Counter()
    rows = []
    for path, label, *numbers in table.select("path", "label", "x", "y", "width", "height").iter_rows():
        box = _box(numbers)
        if not path or not label:
            dropped["row not understood"] += 1
        elif protocol == "box" and box is None:
            dropped["box not understood"] += 1
        else:
            rows.append(Row(join_path(images, path), normalise_label(label), box=box if protocol == "box" else None))
    if request.protocol is None:
        remarks.append("faces are cut by the boxes of the list: --protocol image takes the pictures whole")
    faces: Faces = "given" if protocol == "box" else "whole"
    return SplitRows(
        split=split, protocol=protocol, rows=rows, faces=faces, dropped=dropped, remarks=remarks, from_index=True
    )


def _box(numbers: Sequence[str | None]) -> Box | None:
    """Left, top, width and height in pixels, as corners; None where they are none."""
    try:
        x, y, width, height = (float(number or "") for number in numbers)
    except ValueError:
        return None
    if not (width > 0 and height > 0 and all(map(isfinite, (x, y, width, height)))):
        return None
    return x, y, x + width, y + height


# ---- folders by class -------------------------------------------------------------------------------------

_FOLDERS = class_folder_layout()


def _read_folders(request: Request, found: Recognised) -> SplitRows:
    rows = _FOLDERS.read(request, found)
    if not {"val", "test"} <= found.paths.keys():
        return rows
    remark = "a test folder is there too: labels of AffectNet's test were never published, so the splits are new ones"
    return replace(rows, remarks=(*rows.remarks, remark))


LAYOUTS = (
    Layout(_recognise_arrays, _read_arrays),
    Layout(_recognise_lists, _read_lists),
    Layout(_FOLDERS.recognise, _read_folders),
)
