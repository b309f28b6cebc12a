"""AffectNet: one array file an annotation, the older lists, and folders by class."""

from __future__ import annotations

import ast
import os
import posixpath
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.by_class import class_folder_layout
from motivnet_cli.evaluation.datasets.disk import join_path, normalise_label, scan_csv
from motivnet_cli.evaluation.datasets.layouts import Layout, Row, SplitRows
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request

_SPLITS = ("train", "val")
_THREADS = 16
"""That read small files. One would do on a local disk; on a network disk nearly all of the time is waiting."""
_FILES_AT_ONCE = 500
_ARRAY_ENDING = "_exp.npy"


def _chosen_split(request: Request, found: Recognised, there: Sequence[str]) -> str:
    split = request.split or request.card.default_split
    if split not in there:
        raise ConfigError(
            f"{request.card.name}: {found.folder!r} has {', '.join(there)} and no {split}: choose with --split"
        )
    return split


# ---- an array file for each annotation --------------------------------------------------------------------


def _recognise_arrays(request: Request, folder: str) -> Paths:
    found: dict[str, str] = {}
    for split in _SPLITS:
        annotations = request.disk.child(folder, f"{split}_set/annotations")
        images = request.disk.child(folder, f"{split}_set/images")
        if annotations and images:
            found |= {f"{split} annotations": annotations, f"{split} images": images}
    return found


def _read_arrays(request: Request, found: Recognised) -> SplitRows:
    there = [split for split in _SPLITS if f"{split} images" in found.paths]
    split = _chosen_split(request, found, there)
    images, annotations = found.paths[f"{split} images"], found.paths[f"{split} annotations"]
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
    return SplitRows(split=split, rows=rows, faces=request.card.faces, dropped=dropped, from_index=True)


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


def _recognise_lists(request: Request, folder: str) -> Paths:
    lists = request.disk.child(folder, "Manually_Annotated_file_lists")
    files = {"train": "training.csv", "val": "validation.csv"}
    return {split: path for split, name in files.items() if lists and (path := request.disk.child(lists, name))}


def _read_lists(request: Request, found: Recognised) -> SplitRows:
    split = _chosen_split(request, found, [*found.paths])
    index = found.paths[split]
    images = request.disk.child(
        found.folder, "Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "Manually_Annotated"
    )
    if images is None:
        raise ConfigError(f"{request.card.name}: {index!r} is there, but no folder Manually_Annotated_Images")
    columns = {"path": "subdirectory_filepath", "label": "expression"}
    table = scan_csv(index, columns, without_header={"path": 0, "label": 6}).collect()
    dropped: Counter[str] = Counter()
    rows = []
    for path, label in table.select("path", "label").iter_rows():
        if path and label:
            rows.append(Row(join_path(images, path), normalise_label(label)))
        else:
            dropped["row not understood"] += 1
    return SplitRows(split=split, rows=rows, faces=request.card.faces, dropped=dropped, from_index=True)


LAYOUTS = (
    Layout(_recognise_arrays, _read_arrays),
    Layout(_recognise_lists, _read_lists),
    class_folder_layout({"train": ("train",), "val": ("val", "test")}),
)
