"""Labelled sets of faces as people have them on disk -> their images, each with one of the seven emotions.

This room knows no network and opens no picture: it reads names, lists and tables, and the pixels of FER2013's table.
Nothing is left out in silence: an image, or a count in `dropped`, and whatever departs from the published set is
said in `remarks`. No set is downloaded and none is shipped.
"""

from __future__ import annotations

import ast
import itertools
import os
import posixpath
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from motivnet_cli.errors import ConfigError
from motivnet_cli.inputs.names import kind_of
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.records import Box
from motivnet_cli.evaluation.datasets.cards import FERPLUS_COLUMNS, DatasetCard, Faces, spelled
from motivnet_cli.evaluation.datasets.disk import Disk, csv, joined, label_number, lines, scan_csv, text_of


def ferplus_majority(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The column that FERPlus's majority rule chooses for each image, or -1 where there is none.

    Single votes are taken as noise and become 0; the column with the most must then hold more than half of all votes
    that are left, those for unknown and for no face among them.

    Args:
        votes: [N, 10], in the order of FERPLUS_COLUMNS.

    Returns:
        [N]. Source: Barsoum et al., arXiv 1608.01041, and the authors' published label file.
    """
    kept = np.where(votes <= 1, 0, votes)
    most = kept.max(axis=1, initial=0)
    return np.where(2 * most > kept.sum(axis=1), kept.argmax(axis=1), -1)


SEARCH_DEPTH = 2
_READERS = 16
"""Threads that read small files. One would do on a local disk; on a network disk nearly all of the time is waiting."""
NAMED = 5
"""How many of a kind a message names."""


class Row(NamedTuple):
    """One line of an index, its label as the set writes it."""

    path: str | None
    label: str
    subject: str | None = None
    box: Box | None = None
    name: str | None = None
    pixels: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a reader made of a split, before labels are mapped and files looked for."""

    layout: int
    """Position in the card's `layouts`."""
    split: str
    rows: Sequence[Row]
    faces: Faces
    protocol: str | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    remarks: Sequence[str] = ()
    listed: bool = False
    """The paths come from an index, so the files may be missing."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be read, and the disk to look at."""

    card: DatasetCard
    root: str
    split: str | None
    protocol: str | None
    path_column: str | None
    label_column: str | None
    disk: Disk


def images_text(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _class_folders(
    ask: Ask, folder: str, *, layout: int, splits: Mapping[str, Sequence[str]], default: str, remark: str = ""
) -> Callable[[], Found] | None:
    """Recognise `<split>/<label>/` with images, for any of these names of the splits."""
    there: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            path = ask.disk.child(folder, name)
            if path and _labels_in(ask, path):
                there.setdefault(split, path)
    if not there:
        return None
    return partial(_read_class_folders, ask, folder, there, layout=layout, default=default, remark=remark)


def _labels_in(ask: Ask, folder: str) -> list[str]:
    return [name for name in ask.disk.folders(folder) if name.casefold() in ask.card.labels]


def _read_class_folders(
    ask: Ask, folder: str, there: Mapping[str, str], *, layout: int, default: str, remark: str
) -> Found:
    split = ask.split or default
    if split not in there:
        raise ConfigError(
            f"{ask.card.name}: {folder!r} has no split {split!r} in this layout ({ask.card.layouts[layout]}); "
            f"it has {', '.join(there)}: choose with --split"
        )
    dropped: Counter[str] = Counter()
    rows = _rows_of_folders(ask.disk, there[split], ask.disk.folders(there[split]), dropped)
    remarks = (remark,) if remark and ask.split is None else ()
    faces = ask.card.faces
    return Found(layout=layout, split=split, rows=rows, faces=faces, dropped=dropped, remarks=remarks)


def _rows_of_folders(disk: Disk, folder: str, names: Iterable[str], dropped: Counter[str]) -> list[Row]:
    """Every picture below these folders, labelled by the folder's name."""
    rows = []
    for name in names:
        for path in disk.walk(f"{folder}/{name}"):
            if kind_of(path) == "image":
                rows.append(Row(path, name))
            else:
                dropped["not a picture by its ending"] += 1
    return rows


def rafdb_list(ask: Ask, folder: str) -> Callable[[], Found] | None:
    lists = ("list_patition_label.txt", "list_partition_label.txt")
    index = ask.disk.child(folder, *(f"EmoLabel/{name}" for name in lists))
    return partial(_read_rafdb_list, ask, folder, index) if index else None


def _read_rafdb_list(ask: Ask, folder: str, index: str) -> Found:
    pictures = {name: ask.disk.child(folder, f"Image/{name}") for name in ask.card.protocols}
    protocol = ask.protocol or next((name for name, path in pictures.items() if path), "aligned")
    where = pictures[protocol]
    if where is None:
        raise ConfigError(f"rafdb: {index!r} is there, but no folder Image/{protocol} beside EmoLabel")
    split = ask.split or ask.card.default_split
    dropped: Counter[str] = Counter()
    rows = []
    for line in lines(index):
        name, _, label = line.rpartition(" ")
        stem, suffix = posixpath.splitext(name.strip())
        if not suffix:
            dropped["line not understood"] += 1
        elif stem.casefold().startswith(f"{split}_"):
            file = f"{stem}_aligned{suffix}" if protocol == "aligned" else name.strip()
            rows.append(Row(f"{where}/{file}", label))
    faces: Faces = "whole" if protocol == "aligned" else "auto"
    chosen = ask.protocol is None and protocol != ask.card.default_protocol
    remarks = ("Image/aligned is not there: the original photographs are used",) if chosen else ()
    return Found(
        layout=0,
        split=split,
        protocol=protocol,
        rows=rows,
        faces=faces,
        dropped=dropped,
        remarks=remarks,
        listed=True,
    )


def rafdb_folders(ask: Ask, folder: str) -> Callable[[], Found] | None:
    if ask.protocol == "original":
        return None
    reader = _class_folders(ask, folder, layout=1, splits={"train": ["train"], "test": ["test"]}, default="test")
    return reader and (lambda: replace(reader(), protocol="aligned"))


def affectnet_arrays(ask: Ask, folder: str) -> Callable[[], Found] | None:
    there = {
        split: (images, annotations)
        for split in ("train", "val")
        if (annotations := ask.disk.child(folder, f"{split}_set/annotations"))
        and (images := ask.disk.child(folder, f"{split}_set/images"))
    }
    return partial(_read_affectnet_arrays, ask, folder, there) if there else None


def _read_affectnet_arrays(ask: Ask, folder: str, there: Mapping[str, tuple[str, str]]) -> Found:
    split = ask.split or ask.card.default_split
    if split not in there:
        raise ConfigError(f"{ask.card.name}: {folder!r} has {', '.join(there)} and no {split}: choose with --split")
    images, annotations = there[split]
    endings = "_exp.npy"
    names = [name for name in ask.disk.files(annotations) if name.casefold().endswith(endings)]
    files = {posixpath.splitext(name)[0]: name for name in ask.disk.files(images) if kind_of(name) == "image"}
    dropped: Counter[str] = Counter()
    rows = []
    with ThreadPoolExecutor(_READERS) as pool:
        labels = pool.map(partial(_array_labels, annotations), _chunks(names, 500))
        for name, label in zip(names, (each for chunk in labels for each in chunk), strict=True):
            stem = name[: -len(endings)]
            if label is None:
                dropped["annotation not understood"] += 1
            else:
                rows.append(Row(f"{images}/{files.get(stem, f'{stem}.jpg')}", label))
    return Found(layout=0, split=split, rows=rows, faces=ask.card.faces, dropped=dropped, listed=True)


def _chunks(names: list[str], size: int) -> list[list[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


def _array_labels(folder: str, names: Iterable[str]) -> list[str | None]:
    return [_array_label(_start_of(f"{folder}/{name}")) for name in names]


def _start_of(path: str) -> bytes:
    """The first 4 KiB: `open` holds the interpreter's lock so often that 16 threads take 100 us a file, this 40."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return os.read(file, 4096)
    finally:
        os.close(file)


def _array_label(content: bytes) -> str | None:
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


def affectnet_lists(ask: Ask, folder: str) -> Callable[[], Found] | None:
    where = ask.disk.child(folder, "Manually_Annotated_file_lists")
    files = {"train": "training.csv", "val": "validation.csv"}
    there = {s: path for s, name in files.items() for path in (where and ask.disk.child(where, name),) if path}
    return partial(_read_affectnet_lists, ask, folder, there) if there else None


def _read_affectnet_lists(ask: Ask, folder: str, there: Mapping[str, str]) -> Found:
    split = ask.split or ask.card.default_split
    if split not in there:
        raise ConfigError(f"{ask.card.name}: {folder!r} has {', '.join(there)} and no {split}: choose with --split")
    images = ask.disk.child(
        folder, "Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "Manually_Annotated"
    )
    if images is None:
        raise ConfigError(f"{ask.card.name}: {there[split]!r} is there, but no folder Manually_Annotated_Images")
    columns = {"path": "subdirectory_filepath", "label": "expression"}
    table = csv(there[split], columns, without_header={"path": 0, "label": 6})
    dropped: Counter[str] = Counter()
    rows = []
    for path, label in table.select("path", "label").iter_rows():
        if path and label:
            rows.append(Row(joined(images, path), label_number(label)))
        else:
            dropped["row not understood"] += 1
    return Found(layout=1, split=split, rows=rows, faces=ask.card.faces, dropped=dropped, listed=True)


def affectnet_folders(ask: Ask, folder: str) -> Callable[[], Found] | None:
    splits = {"train": ["train", "train_set"], "val": ["val", "val_set"]}
    return _class_folders(ask, folder, layout=2, splits=splits, default="val")


def fer_table(ask: Ask, folder: str) -> Callable[[], Found] | None:
    path = ask.disk.child(folder, *_FER_TABLES)
    return partial(_read_fer_table, ask, path) if path else None


_FER_TABLES = ("fer2013.csv", "icml_face_data.csv")
_FER_USAGE = {
    "train": ("training",),
    "public": ("publictest",),
    "private": ("privatetest",),
    "test": ("publictest", "privatetest"),
}


def _read_fer_table(ask: Ask, path: str) -> Found:
    split = ask.split or ask.card.default_split
    table = _fer_rows(path).filter(pl.col("usage").is_in(_FER_USAGE[split])).collect()
    rows = []
    dropped: Counter[str] = Counter()
    pictures = _pictures(table["pixels"])
    for row, label, picture in zip(table["row"], table["emotion"], pictures, strict=True):
        if picture is None:
            dropped["pixels not understood"] += 1
        else:
            rows.append(Row(None, label_number(label or ""), name=f"fer{row:07}.png", pixels=picture))
    return Found(layout=0, split=split, rows=rows, faces=ask.card.faces, dropped=dropped)


def _fer_rows(path: str) -> pl.LazyFrame:
    """FER2013's table: row (from 0), emotion, pixels, and usage in lower case."""
    columns = ("emotion", "pixels", "usage")
    table = scan_csv(
        path, dict(zip(columns, columns, strict=True)), without_header={"emotion": 0, "pixels": 1, "usage": 2}
    )
    usage = pl.col("usage").str.strip_chars().str.to_lowercase()
    return table.with_columns(usage, pl.col("pixels").str.strip_chars()).with_row_index("row")


def _pictures(texts: pl.Series) -> Iterator[NDArray[np.uint8] | None]:
    """[S, S] for each text of S * S numbers from 0 to 255; None for any other. FER2013's are 48 x 48."""
    for first in range(0, len(texts), 2048):  # 4.7 million numbers as text at once
        numbers = texts.slice(first, 2048).fill_null("").str.split(" ")
        values = numbers.explode().cast(pl.UInt8, strict=False)
        good = values.is_not_null().to_numpy()
        flat = values.fill_null(0).to_numpy()
        ends = [0, *itertools.accumulate(numbers.list.len().to_list())]
        for start, end in itertools.pairwise(ends):
            side = round((end - start) ** 0.5)
            square = side * side == end - start and good[start:end].all()
            yield flat[start:end].reshape(side, side) if square else None


def fer_folders(ask: Ask, folder: str) -> Callable[[], Found] | None:
    remark = (
        "these folders do not tell Public from Private: the split is all 7,178 test images, not the 3,589 of Private"
    )
    splits = {"train": ["train"], "test": ["test"]}
    return _class_folders(ask, folder, layout=1, splits=splits, default="test", remark=remark)


def ferplus(ask: Ask, folder: str) -> Callable[[], Found] | None:
    votes = ask.disk.child(folder, "fer2013new.csv")
    return partial(_read_ferplus, ask, folder, votes) if votes else None


def _read_ferplus(ask: Ask, folder: str, path: str) -> Found:
    split = ask.split or ask.card.default_split
    names = {"usage": "usage", "image": "image name", **{name: name for name in FERPLUS_COLUMNS}}
    table = csv(path, names).with_row_index("row")
    usage = table["usage"].str.strip_chars().str.to_lowercase()
    table = table.with_columns(usage)
    chosen = table.filter(usage == _FERPLUS_USAGE[split])
    numbers = chosen.select(pl.col(*FERPLUS_COLUMNS).str.strip_chars().cast(pl.Float64, strict=False))
    understood = numbers.select(pl.all_horizontal(pl.all().is_not_null())).to_series().to_list()
    majority = ferplus_majority(numbers.fill_null(0).to_numpy().astype(np.int64))
    dropped: Counter[str] = Counter()
    kept: list[tuple[int, str, str]] = []
    for row, image, column, is_good in zip(chosen["row"], chosen["image"], majority, understood, strict=True):
        label = FERPLUS_COLUMNS[column]
        if not is_good:
            dropped["votes not understood"] += 1
        elif not (image or "").strip():
            dropped["no image name"] += 1
        elif column < 0:
            dropped["no majority"] += 1
        else:
            kept.append((row, image.strip(), label))
    around = [folder, posixpath.dirname(folder), ask.root]
    pixels = next((found for each in around if (found := ask.disk.child(each, *_FER_BESIDE))), None)
    if pixels:
        rows = _ferplus_pixels(kept, table, pixels, dropped)
        return Found(layout=0, split=split, rows=rows, faces=ask.card.faces, dropped=dropped)
    files = {posixpath.basename(each).casefold(): each for each in ask.disk.walk(ask.root) if kind_of(each) == "image"}
    if not any(image.casefold() in files for _, image, _ in kept):
        raise ConfigError(
            f"ferplus: {path!r} holds votes and no images: put FER2013's fer2013.csv beside it, or the images "
            f"that it names (such as {kept[0][1] if kept else 'fer0000000.png'}) anywhere under {ask.root!r}"
        )
    rows = [Row(files.get(image.casefold(), f"{folder}/{image}"), label) for _, image, label in kept]
    return Found(layout=1, split=split, rows=rows, faces=ask.card.faces, dropped=dropped, listed=True)


_FERPLUS_USAGE = {"train": "training", "valid": "publictest", "test": "privatetest"}
_FER_BESIDE = (*_FER_TABLES, *(f"fer2013/{name}" for name in _FER_TABLES))


def _ferplus_pixels(
    kept: Sequence[tuple[int, str, str]], votes: pl.DataFrame, path: str, dropped: Counter[str]
) -> list[Row]:
    """The kept rows with FER2013's pixels; the two tables must agree row by row."""
    usage = _fer_rows(path).select("usage").collect()["usage"]
    if len(usage) != len(votes) or not (usage == votes["usage"]).all():
        raise ConfigError(
            f"ferplus: {path!r} ({len(usage):,} rows) and fer2013new.csv ({len(votes):,} rows) are not of one order: "
            "both must be the published files, whose rows belong together one by one"
        )
    wanted = [row for row, _, _ in kept]
    texts = _fer_rows(path).select("row", "pixels").filter(pl.col("row").is_in(wanted)).collect()
    rows = []
    for (_, image, label), picture in zip(kept, _pictures(texts["pixels"]), strict=True):
        if picture is None:
            dropped["pixels not understood"] += 1
        else:
            rows.append(Row(None, label, name=image, pixels=picture))
    return rows


def ckplus(ask: Ask, folder: str) -> Callable[[], Found] | None:
    frames = ask.disk.child(folder, "cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")
    emotion = ask.disk.child(folder, "Emotion", "Emotion_labels/Emotion", "Emotion_labels")
    return partial(_read_ckplus, ask, frames, emotion) if frames and emotion else None


def _read_ckplus(ask: Ask, frames: str, emotion: str) -> Found:
    protocol = ask.protocol or ask.card.default_protocol or ""
    last = 3 if "last_three" in protocol else 1
    disk = ask.disk
    rows = []
    dropped: Counter[str] = Counter()
    num_sequences = num_labelled = 0
    for subject in disk.folders(frames):
        for sequence in disk.folders(f"{frames}/{subject}"):
            num_sequences += 1
            where = f"{emotion}/{subject}/{sequence}"
            texts = [name for name in disk.files(where) if name.casefold().endswith("_emotion.txt")]
            if not texts:
                continue
            num_labelled += 1
            folder = f"{frames}/{subject}/{sequence}"
            pictures = [f"{folder}/{name}" for name in disk.files(folder) if kind_of(name) == "image"]
            label = label_number(text_of(f"{where}/{texts[0]}").strip())
            rows += [Row(path, label, subject) for path in pictures[-last:]]
            if not pictures:
                dropped["sequence without pictures"] += 1
            elif protocol.endswith("_neutral") and ask.card.labels.get(label) in EMOTIONS and len(pictures) > last:
                rows.append(Row(pictures[0], "0", subject))
    for subject in disk.folders(emotion):
        for sequence in set(disk.folders(f"{emotion}/{subject}")) - set(disk.folders(f"{frames}/{subject}")):
            if any(name.casefold().endswith("_emotion.txt") for name in disk.files(f"{emotion}/{subject}/{sequence}")):
                dropped["sequence without pictures"] += 1
    without = num_sequences - num_labelled
    remarks = (f"{without} of {num_sequences} sequences have no label and are not used",) if without else ()
    faces = ask.card.faces
    return Found(layout=0, split="all", protocol=protocol, rows=rows, faces=faces, dropped=dropped, remarks=remarks)


def jaffe(ask: Ask, folder: str) -> Callable[[], Found] | None:
    names = ask.disk.files(folder)
    return partial(_read_jaffe, ask, folder, names) if any(map(_JAFFE.fullmatch, names)) else None


_JAFFE = re.compile(r"([A-Z]{2})\.([A-Z]{2})(\d*)\.(\d+)\.(?:tiff?|png|jpe?g|bmp)", re.IGNORECASE)


def _read_jaffe(ask: Ask, folder: str, names: Sequence[str]) -> Found:
    rows = []
    dropped: Counter[str] = Counter()
    for name in names:
        fits = _JAFFE.fullmatch(name)
        if fits:
            rows.append(Row(f"{folder}/{name}", fits[2].casefold(), subject=fits[1].upper()))
        elif kind_of(name) == "image":
            dropped["name not understood"] += 1
    return Found(layout=0, split="all", rows=rows, faces=ask.card.faces, dropped=dropped)


def kdef(ask: Ask, folder: str) -> Callable[[], Found] | None:
    folders = [folder, *(f"{folder}/{name}" for name in ask.disk.folders(folder) if _KDEF_FOLDER.fullmatch(name))]
    there = [each for each in folders if any(map(_KDEF.fullmatch, ask.disk.files(each)))]
    return partial(_read_kdef, ask, there) if there else None


_KDEF_FOLDER = re.compile(r"[AB][FM]\d\d", re.IGNORECASE)
_KDEF = re.compile(r"[AB]([FM]\d\d)([A-Z]{2})(FL|HL|S|HR|FR)\.(?:jpe?g|png|tiff?|bmp)", re.IGNORECASE)


def _read_kdef(ask: Ask, folders: Sequence[str]) -> Found:
    protocol = ask.protocol or ask.card.default_protocol
    rows = []
    dropped: Counter[str] = Counter()
    odd: list[str] = []
    for folder in folders:
        for name in ask.disk.files(folder):
            fits = _KDEF.fullmatch(name)
            if fits and (protocol == "all_angles" or fits[3].upper() == "S"):
                rows.append(Row(f"{folder}/{name}", fits[2].casefold(), subject=fits[1].upper()))
            elif not fits and kind_of(name) == "image":
                odd.append(name)
    if odd:
        dropped["name not understood"] = len(odd)
    remarks = (f"{images_text(len(odd))} with other names than KDEF's: {', '.join(odd[:NAMED])}",) if odd else ()
    faces = ask.card.faces
    return Found(layout=0, split="all", protocol=protocol, rows=rows, faces=faces, dropped=dropped, remarks=remarks)


def sfew(ask: Ask, folder: str) -> Callable[[], Found] | None:
    splits: dict[str, list[str]] = {}
    for split in ("Train", "Val"):
        where = ask.disk.child(folder, split)
        names = [name for name in (ask.disk.folders(where) if where else []) if _SFEW.match(name)]
        splits[split.casefold()] = [f"{split}/{name}" for name in names if name.casefold().startswith(split.casefold())]
    return _class_folders(ask, folder, layout=0, splits=splits, default="val")


_SFEW = re.compile(r"(train|val)_aligned_faces", re.IGNORECASE)


def expw(ask: Ask, folder: str) -> Callable[[], Found] | None:
    index = ask.disk.child(folder, "label.lst", "label/label.lst")
    return partial(_read_expw, ask, index) if index else None


def _read_expw(ask: Ask, index: str) -> Found:
    dropped: Counter[str] = Counter()
    listed: list[tuple[str, str, Box]] = []
    for line in lines(index):
        name, *numbers = line.rsplit(None, 7)  # a name may hold spaces
        try:
            _, top, left, right, bottom, _, label = map(float, numbers)
        except ValueError:
            dropped["line not understood"] += 1
            continue
        if left < right and top < bottom:
            listed.append((name, str(int(label)), (left, top, right, bottom)))
        else:
            dropped["box not understood"] += 1
    sample = [name for name, _, _ in listed[:: max(1, len(listed) // 100)]]
    most, where = 0, ""
    for level in ask.disk.levels(ask.root, SEARCH_DEPTH + 1):
        for folder in level:
            hits = sum(ask.disk.find(f"{folder}/{name}") is not None for name in sample)
            if hits > most:
                most, where = hits, folder
    if not most:
        raise ConfigError(f"expw: {index!r} is there, but no folder under {ask.root!r} holds the images that it names")
    rows = [Row(f"{where}/{name}", label, box=box) for name, label, box in listed]
    return Found(layout=0, split="all", rows=rows, faces=ask.card.faces, dropped=dropped, listed=True)


def recognise_folder(ask: Ask, folder: str) -> Callable[[], Found] | None:
    named = [name for name in ask.disk.folders(folder) if spelled(name) in EMOTIONS]
    return partial(_read_folder, ask, folder) if named else None


def _read_folder(ask: Ask, folder: str) -> Found:
    dropped: Counter[str] = Counter()
    rows = _rows_of_folders(ask.disk, folder, ask.disk.folders(folder), dropped)
    loose = sum(kind_of(name) == "image" for name in ask.disk.files(folder))
    if loose:
        dropped["picture outside the folders named by emotion"] = loose
    return Found(layout=0, split="all", rows=rows, faces=ask.card.faces, dropped=dropped)
