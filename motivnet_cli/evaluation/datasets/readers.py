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
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import polars as pl

from motivnet_cli.errors import ConfigError
from motivnet_cli.inputs.listing import BOX_COLUMNS, kind_of, printable, suffix_of
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.records import Box

Faces = Literal["whole", "given", "auto"]
"""Whether the images are face crops, come with boxes, or need a look for faces."""

DROP = "drop"
"""What a label map gives for labels that are not to be used."""
PATH_COLUMNS = ("path", "image", "file", "input", "filename", "file_name", "image_path", "filepath", "img", "name")
LABEL_COLUMNS = ("label", "emotion", "expression", "class", "target")
"""Columns that a table's paths and labels are looked for in, in this order, whatever their case."""

SYNONYMS: dict[str, str] = {
    **{name: name for name in EMOTIONS},
    **dict.fromkeys(("ne", "neu"), "neutral"),
    **dict.fromkeys(("happy", "joy", "ha", "hap"), "happiness"),
    **dict.fromkeys(("sad", "sa"), "sadness"),
    **dict.fromkeys(("surprised", "su", "sur"), "surprise"),
    **dict.fromkeys(("fearful", "afraid", "scared", "fe", "fea"), "fear"),
    **dict.fromkeys(("disgusted", "di", "dis"), "disgust"),
    **dict.fromkeys(("angry", "an", "ang"), "anger"),
}
"""How folders and tables spell the emotions, in lower case."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """One labelled face."""

    name: str
    """The path relative to the set's folder, with `/`, unique within the set; faces of one image end in `#0`, `#1`,
    in the order of the index. A row of FER2013's table is named as FERPlus names it: `fer0000012.png` is row 12."""
    path: str | None
    """Absolute; None where the pixels are in a table."""
    label: int
    """Index into EMOTIONS."""
    subject: str | None = None
    """Who is in the picture, where the set says it."""
    box: Box | None = None
    """The labelled face, where the set says it."""
    pixels: NDArray[np.uint8] | None = None
    """[H, W], grey, 0 to 255; None where there is a file."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSet:
    """The images of a set's split that have one of the seven emotions, and what became of the others."""

    dataset: str
    root: str
    """As given, absolute."""
    layout: str
    """One of the card's `layouts`."""
    split: str
    protocol: str | None
    images: tuple[Labelled, ...]
    dropped: dict[str, int]
    """Reason -> how many labelled faces of the split are not among the images."""
    remarks: tuple[str, ...]
    """What a reader of the figures must know: counts that differ from the published, files that are missing."""
    faces: Faces
    label_map: dict[str, str]
    """The set's labels that occur -> the emotion, or why such faces are dropped."""

    def __repr__(self) -> str:
        return f"LabelledSet({self.dataset}, {self.split}, {len(self.images)} images, dropped={self.dropped})"


@dataclass(frozen=True, slots=True)
class Published:
    """How many images of a split its authors, or those who report on it, count."""

    split: str
    total: int | None
    """With one of the seven emotions; None where it is not known."""
    by_emotion: tuple[int, ...] | None = None
    """In the order of EMOTIONS."""
    with_contempt: tuple[int, ...] = ()
    """Totals with contempt as an eighth class; any of them is right."""
    protocol: str | None = None
    """None for every protocol."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """A published figure to print beside ours."""

    value: float
    """Accuracy in percent."""
    what: str
    source: str
    kind: Literal["in_set", "cross_set"]
    """Whether it was trained on the training split of the same set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetCard:
    """What a user should know of a set before reporting on it, and what its reader goes by."""

    name: str
    title: str
    layouts: tuple[str, ...]
    """What is looked for, in this order."""
    labels: dict[str, str]
    """The set's own labels, in lower case -> emotion, or the reason why such faces are dropped; empty where any
    spelling of the emotions' names will do."""
    faces: Faces
    splits: tuple[str, ...]
    default_split: str
    protocols: dict[str, str] = field(default_factory=dict)
    """Name -> what is evaluated."""
    default_protocol: str | None = None
    counts: tuple[Published, ...] = ()
    terms: str
    where: str
    """The page of those to ask for it."""
    anchors: tuple[Anchor, ...] = ()
    notes: tuple[str, ...] = ()


def read_dataset(
    name: str,
    root: str,
    *,
    split: str | None = None,
    protocol: str | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    label_map: Mapping[str, str] | None = None,
) -> LabelledSet:
    """The labelled images of a set on this disk, its layout recognised in the folder or down to two folders below.

    Names of folders and endings of files count in any case. A file that an index names and that is not there is
    dropped as `missing file`; of a path that is listed twice the first row counts.

    Args:
        name: A key of CARDS.
        root: The set's folder; for `csv` and `parquet` the table, whose paths are relative to its folder. A table may
            also have the columns x1 y1 x2 y2 (a face's box) and `subject`.
        split: None takes the layout's default, the card's where the layout has it.
        protocol: None takes the card's default.
        path_column: For tables; None looks for one of PATH_COLUMNS.
        label_column: For tables; None looks for one of LABEL_COLUMNS.
        label_map: The set's labels -> emotions in any spelling of SYNONYMS, or `drop`; stronger than the card's map
            and than the spelling.

    Raises:
        ConfigError: The layout is not recognised, or more than one is; the split or protocol does not exist; a folder
            or table of emotions has a label that names none; or no labelled image is left.
    """
    card = _card(name)
    given = {str(key).strip().casefold(): _meaning(key, value) for key, value in (label_map or {}).items()}
    if name not in _TABLES and (path_column or label_column):
        raise ConfigError(f"{name} has no table with columns to name: leave out --path-column and --label-column")
    split = _split(card, split)
    if protocol is not None and protocol not in card.protocols:
        known = ", ".join(card.protocols) or "none"
        raise ConfigError(f"{name} has no protocol {protocol!r}; it has: {known}")
    where = Path(os.path.abspath(root)).as_posix()  # noqa: PTH100 - as runs name their inputs: links are not followed
    ask = _Ask(card, where, split, protocol, path_column, label_column, _Disk())
    try:
        if name in _TABLES:
            found, base = _read_table(ask), posixpath.dirname(where)
        else:
            found, base = _recognised(ask)(), where
        return _labelled_set(ask, found, base=base, given=given)
    except OSError as error:
        raise ConfigError(f"{name}: {error.filename or where!r} cannot be read: {error.strerror or error}") from error
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"{name}: a table under {where!r} cannot be read: {reason}") from error


def read_label_map(text: str) -> dict[str, str]:
    """A label map as the command line gives it: `0=neutral,1=happy,7=drop`, or the name of a JSON file of such pairs.

    Raises:
        ConfigError: It is neither, or a label is given twice.
    """
    if text.casefold().endswith(".json"):
        import json

        try:
            pairs = json.loads(_text(text))
        except (OSError, ValueError) as error:
            raise ConfigError(f"the label map {text!r} cannot be read: {error}") from error
        if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
            raise ConfigError(f'the label map {text!r} must be one JSON object such as {{"0": "neutral", "7": "drop"}}')
        return pairs
    chosen: dict[str, str] = {}
    for pair in text.split(","):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise ConfigError(f"a label map reads 0=neutral,1=happy,7=drop or names a .json file, got {text!r}")
        if key.strip() in chosen:
            raise ConfigError(f"the label map {text!r} gives {key.strip()!r} twice")
        chosen[key.strip()] = value.strip()
    return chosen


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


FERPLUS_COLUMNS = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    *("unknown", "nf"),
)
"""The votes in `fer2013new.csv`, in lower case."""

_TABLES = ("csv", "parquet")
_GENERIC = ("folder", *_TABLES)
_SEARCH_DEPTH = 2
_SEARCH_BREADTH = 200
"""Subfolders of one folder that are looked into: more are a set's images, not its layout."""
_READERS = 16
"""Threads that read small files. One would do on a local disk; on a network disk nearly all of the time is waiting."""
_NAMED = 5
"""How many of a kind a message names."""


class _Row(NamedTuple):
    """One line of an index, its label as the set writes it."""

    path: str | None
    label: str
    subject: str | None = None
    box: Box | None = None
    name: str | None = None
    pixels: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What a reader made of a split, before labels are mapped and files looked for."""

    layout: int
    """Place in the card's `layouts`."""
    split: str
    rows: Sequence[_Row]
    faces: Faces
    protocol: str | None = None
    dropped: Counter[str] = field(default_factory=Counter)
    remarks: Sequence[str] = ()
    listed: bool = False
    """The paths come from an index, so the files may be missing."""


class _Disk:
    """What folders hold, each listed once: a `stat` for each of 400,000 images would take minutes on a network disk."""

    def __init__(self) -> None:
        self._listings: dict[str, dict[str, bool]] = {}
        self._folded: dict[str, dict[str, str]] = {}

    def entries(self, folder: str) -> dict[str, bool]:
        """Name -> whether it is a folder, sorted, hidden ones left out; empty where there is no such folder."""
        if folder not in self._listings:
            try:
                with os.scandir(folder) as scan:
                    found = {each.name: each.is_dir() for each in scan if not each.name.startswith(".")}
            except (FileNotFoundError, NotADirectoryError):
                found = {}
            self._listings[folder] = dict(sorted(found.items()))
        return self._listings[folder]

    def find(self, path: str) -> str | None:
        """The path with its last name spelled as it is on disk; None where there is nothing of this name."""
        folder, _, name = path.rpartition("/")
        entries = self.entries(folder)
        if name in entries:
            return path
        if folder not in self._folded:
            self._folded[folder] = {each.casefold(): each for each in entries}
        actual = self._folded[folder].get(name.casefold())
        return None if actual is None else f"{folder}/{actual}"

    def child(self, folder: str, *names: str) -> str | None:
        """The first of these relative paths that is there, each of its names in any case."""
        for name in names:
            path: str | None = folder
            for part in name.split("/"):
                path = path and self.find(f"{path}/{part}")
            if path:
                return path
        return None

    def folders(self, folder: str) -> list[str]:
        return [name for name, is_folder in self.entries(folder).items() if is_folder]

    def files(self, folder: str) -> list[str]:
        return [name for name, is_folder in self.entries(folder).items() if not is_folder]

    def walk(self, folder: str, inside: tuple[str, ...] = ()) -> Iterator[str]:
        """Every file in a folder and below it, its own first; a link back up is not entered again."""
        real = os.path.realpath(folder)
        if real in inside:
            return
        for name in self.files(folder):
            yield f"{folder}/{name}"
        for name in self.folders(folder):
            yield from self.walk(f"{folder}/{name}", (*inside, real))

    def levels(self, root: str, depth: int) -> Iterator[list[str]]:
        """The root alone, then its subfolders, then theirs."""
        level = [root]
        for _ in range(depth):
            yield level
            level = [f"{folder}/{name}" for folder in level for name in self.folders(folder)[:_SEARCH_BREADTH]]
        yield level


@dataclass(frozen=True, slots=True)
class _Ask:
    """What is to be read, and the disk to look at."""

    card: DatasetCard
    root: str
    split: str | None
    protocol: str | None
    path_column: str | None
    label_column: str | None
    disk: _Disk


def _card(name: str) -> DatasetCard:
    if name not in CARDS:
        raise ConfigError(f"no dataset is called {name!r}; there are {', '.join(CARDS)}")
    return CARDS[name]


def _split(card: DatasetCard, split: str | None) -> str | None:
    """The card's own name for a split that goes by several."""
    if split is None:
        return None
    chosen = split.casefold()
    same = next((names for names in _SPLIT_NAMES if chosen in names), (chosen,))
    known = [name for name in card.splits if name in same]
    if not known:
        raise ConfigError(f"{card.name} has no split {split!r}; it has: {', '.join(card.splits)}")
    return known[0]


_SPLIT_NAMES = (
    ("train", "training"),
    ("val", "valid", "validation"),
    ("public", "publictest"),
    ("private", "privatetest"),
)


def _meaning(label: object, emotion: str) -> str:
    """What a given label map says of a label: an emotion, or why it is dropped."""
    if emotion.strip().casefold() == DROP:
        return f"label {label!s}, dropped by the label map"
    known = SYNONYMS.get(emotion.strip().casefold())
    if known is None:
        raise ConfigError(f"the label map gives {emotion!r} for {label!s}: expected {', '.join(EMOTIONS)} or {DROP}")
    return known


def _recognised(ask: _Ask) -> Callable[[], _Found]:
    """The reader of the layout that is there, nearest to the root; the first of the card's where there are several."""
    card, root = ask.card, ask.root
    if not Path(root).is_dir():
        raise ConfigError(f"{card.name}: {root!r} is no folder; give the one that holds the set as --root")
    for level in ask.disk.levels(root, 0 if card.name == "folder" else _SEARCH_DEPTH):
        there = {
            folder: readers
            for folder in level
            if (readers := [reader for each in _LAYOUTS[card.name] if (reader := each(ask, folder))])
        }
        if len(there) > 1:
            names = ", ".join(map(repr, [*there][:_NAMED]))
            raise ConfigError(f"{card.name}: {names} all look like the set: name the one you mean as --root")
        for readers in there.values():
            return readers[0]
    entries = [f"{name}/" if is_folder else name for name, is_folder in ask.disk.entries(root).items()]
    shown = ", ".join(entries[:20]) + (f" and {len(entries) - 20} more" if len(entries) > 20 else "")
    looked = "".join(f"\n  - {layout}" for layout in card.layouts)
    depth = "" if card.name == "folder" else f", in it or down to {_SEARCH_DEPTH} folders below"
    raise ConfigError(
        f"{card.name}: no layout of this set was recognised in {root!r}. Looked for{depth}:{looked}\n"
        f"Found there: {shown or 'nothing'}.{_hint(ask)} The set comes from {card.where}"
    )


def _hint(ask: _Ask) -> str:
    """Where folders named by emotion are, if one step below."""
    if ask.card.name != "folder":
        return ""
    below = [name for name in ask.disk.folders(ask.root) if _folder(ask, f"{ask.root}/{name}")]
    return f" Folders named by emotion are in {', '.join(below)}: name one of them as --root." if below else ""


def _labelled_set(ask: _Ask, found: _Found, *, base: str, given: dict[str, str]) -> LabelledSet:
    """The images of a split, labels mapped, missing files and repeated rows counted."""
    card = ask.card
    meanings = {} if card.name in _GENERIC else dict(card.labels)
    meanings.update(given)
    faces_of = Counter(row.path for row in found.rows if row.box is not None)
    numbers: Counter[str | None] = Counter()
    dropped = Counter(found.dropped)
    used: dict[str, str] = {}
    unknown: Counter[str] = Counter()
    missing: list[str] = []
    labels: dict[str, int] = {}
    images: list[Labelled] = []
    for row in found.rows:
        number = numbers[row.path]
        if row.box is not None:
            numbers[row.path] += 1
        meaning = used.get(row.label)
        if meaning is None:
            meaning = meanings.get(row.label.casefold()) or (_spelled(row.label) if card.name in _GENERIC else None)
            if meaning is None:
                unknown[row.label] += 1
                continue
            used[row.label] = meaning
        label = _IDS.get(meaning)
        if label is None:
            dropped[meaning] += 1
            continue
        path = row.path
        if path is not None and found.listed:
            path = ask.disk.find(path)
            if path is None:
                dropped["missing file"] += 1
                missing.append(_name(row.path or "", base))
                continue
        name = row.name or _name(path or "", base)
        if faces_of[row.path] > 1:
            name = f"{name}#{number}"
        if name in labels:
            dropped["listed twice" if labels[name] == label else "listed twice, with different labels"] += 1
            continue
        labels[name] = label
        images.append(Labelled(name, path, label, row.subject, row.box, row.pixels))
    if unknown and card.name in _GENERIC:
        raise ConfigError(_unknown_labels(card.name, unknown))
    for each, count in unknown.items():
        dropped[f"unknown label {each!r}"] += count
    left_out = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items())
    if not images:
        raise ConfigError(f"{card.name}: no labelled image is left of {ask.root!r} ({left_out or 'it is empty'})")
    remarks = [*found.remarks]
    if missing:
        more = f" and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
        remarks.append(f"{_images(len(missing))} of the index not on disk: {', '.join(missing[:_NAMED])}{more}")
    remarks += [f"label {each!r} is none of this set's: {_images(n)} dropped" for each, n in unknown.items()]
    if dropped["contempt"]:
        why = "it is none of the seven emotions, so figures do not compare with those of eight classes"
        remarks.append(f"{_images(dropped['contempt'])} of contempt dropped: {why}")
    if given:
        remarks.append("labels go by the given label map, not only by the set's own")
    remarks += _departures(card, found, images, dropped)
    return LabelledSet(
        dataset=card.name,
        root=ask.root,
        layout=card.layouts[found.layout],
        split=found.split,
        protocol=found.protocol,
        images=tuple(images),
        dropped={reason: count for reason, count in dropped.items() if count},
        remarks=tuple(remarks),
        faces=found.faces,
        label_map=used,
    )


_IDS = {emotion: number for number, emotion in enumerate(EMOTIONS)}


def _name(path: str, base: str) -> str:
    name = path[len(base) :].lstrip("/") if path.startswith(f"{base.rstrip('/')}/") else path
    return name if name.isascii() else printable(name)


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _spelled(label: str) -> str | None:
    """The emotion that a folder or cell names, such as `Happy` or `1_happiness`; contempt is known, and dropped."""
    word = re.sub(r"^\d+[\s_.-]+", "", label.strip().casefold())
    return "contempt" if word in ("contempt", "contemptuous") else SYNONYMS.get(word)


def _unknown_labels(name: str, unknown: Counter[str]) -> str:
    shown = ", ".join(f"{label!r} ({count:,})" for label, count in unknown.most_common(12))
    if all(re.fullmatch(r"-?\d+", label) for label in unknown):
        why = "Sets number the emotions differently, so numbers need a map"
    else:
        why = "Say what they are, or drop them"
    example = ",".join(f"{label}={emotion}" for label, emotion in zip(sorted(unknown), ("neutral", DROP), strict=False))
    return f"{name}: labels that name no emotion: {shown}. {why}, such as --label-map {example}"


def _departures(
    card: DatasetCard, found: _Found, images: Sequence[Labelled], dropped: Mapping[str, int]
) -> Iterator[str]:
    """What differs from the published counts, and emotions that no image has."""
    counts = Counter(image.label for image in images)
    expected_none = set()
    for each in card.counts:
        if each.split != found.split or each.protocol not in (None, found.protocol):
            continue
        where = f"{card.name} {found.split}"
        if each.total is not None and each.total != len(images):
            yield f"{where} has {_images(len(images))} here, {each.total:,} published"
        if each.by_emotion is not None:
            expected_none = {number for number, count in enumerate(each.by_emotion) if count == 0}
            for number, count in enumerate(each.by_emotion):
                if counts[number] != count:
                    yield f"{where} has {_images(counts[number])} of {EMOTIONS[number]} here, {count:,} published"
        with_contempt = len(images) + dropped.get("contempt", 0)
        if each.with_contempt and with_contempt not in each.with_contempt:
            published = " or ".join(f"{count:,}" for count in each.with_contempt)
            yield f"{where} has {_images(with_contempt)} with contempt here, {published} published"
    without = [name for number, name in enumerate(EMOTIONS) if not counts[number] and number not in expected_none]
    if without:
        yield f"no image of {', '.join(without)}: means over the classes leave these out"


def _class_folders(
    ask: _Ask, folder: str, *, layout: int, splits: Mapping[str, Sequence[str]], default: str, remark: str = ""
) -> Callable[[], _Found] | None:
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


def _labels_in(ask: _Ask, folder: str) -> list[str]:
    return [name for name in ask.disk.folders(folder) if name.casefold() in ask.card.labels]


def _read_class_folders(
    ask: _Ask, folder: str, there: Mapping[str, str], *, layout: int, default: str, remark: str
) -> _Found:
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
    return _Found(layout=layout, split=split, rows=rows, faces=faces, dropped=dropped, remarks=remarks)


def _rows_of_folders(disk: _Disk, folder: str, names: Iterable[str], dropped: Counter[str]) -> list[_Row]:
    """Every picture below these folders, labelled by the folder's name."""
    rows = []
    for name in names:
        for path in disk.walk(f"{folder}/{name}"):
            if kind_of(path) == "image":
                rows.append(_Row(path, name))
            else:
                dropped["not a picture by its ending"] += 1
    return rows


def _rafdb_list(ask: _Ask, folder: str) -> Callable[[], _Found] | None:
    lists = ("list_patition_label.txt", "list_partition_label.txt")
    index = ask.disk.child(folder, *(f"EmoLabel/{name}" for name in lists))
    return partial(_read_rafdb_list, ask, folder, index) if index else None


def _read_rafdb_list(ask: _Ask, folder: str, index: str) -> _Found:
    pictures = {name: ask.disk.child(folder, f"Image/{name}") for name in ask.card.protocols}
    protocol = ask.protocol or next((name for name, path in pictures.items() if path), "aligned")
    where = pictures[protocol]
    if where is None:
        raise ConfigError(f"rafdb: {index!r} is there, but no folder Image/{protocol} beside EmoLabel")
    split = ask.split or ask.card.default_split
    dropped: Counter[str] = Counter()
    rows = []
    for line in _lines(index):
        name, _, label = line.rpartition(" ")
        stem, suffix = posixpath.splitext(name.strip())
        if not suffix:
            dropped["line not understood"] += 1
        elif stem.casefold().startswith(f"{split}_"):
            file = f"{stem}_aligned{suffix}" if protocol == "aligned" else name.strip()
            rows.append(_Row(f"{where}/{file}", label))
    faces: Faces = "whole" if protocol == "aligned" else "auto"
    chosen = ask.protocol is None and protocol != ask.card.default_protocol
    remarks = ("Image/aligned is not there: the original photographs are used",) if chosen else ()
    return _Found(
        layout=0,
        split=split,
        protocol=protocol,
        rows=rows,
        faces=faces,
        dropped=dropped,
        remarks=remarks,
        listed=True,
    )


def _rafdb_folders(ask: _Ask, folder: str) -> Callable[[], _Found] | None:
    if ask.protocol == "original":
        return None
    reader = _class_folders(ask, folder, layout=1, splits={"train": ["train"], "test": ["test"]}, default="test")
    return reader and (lambda: replace(reader(), protocol="aligned"))


def _affectnet_arrays(ask: _Ask, folder: str) -> Callable[[], _Found] | None:
    there = {
        split: (images, annotations)
        for split in ("train", "val")
        if (annotations := ask.disk.child(folder, f"{split}_set/annotations"))
        and (images := ask.disk.child(folder, f"{split}_set/images"))
    }
    return partial(_read_affectnet_arrays, ask, folder, there) if there else None


def _read_affectnet_arrays(ask: _Ask, folder: str, there: Mapping[str, tuple[str, str]]) -> _Found:
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
                rows.append(_Row(f"{images}/{files.get(stem, f'{stem}.jpg')}", label))
    return _Found(layout=0, split=split, rows=rows, faces=ask.card.faces, dropped=dropped, listed=True)


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


def _affectnet_lists(ask: _Ask, folder: str) -> Callable[[], _Found] | None:
    where = ask.disk.child(folder, "Manually_Annotated_file_lists")
    files = {"train": "training.csv", "val": "validation.csv"}
    there = {s: path for s, name in files.items() for path in (where and ask.disk.child(where, name),) if path}
    return partial(_read_affectnet_lists, ask, folder, there) if there else None


def _read_affectnet_lists(ask: _Ask, folder: str, there: Mapping[str, str]) -> _Found:
    split = ask.split or ask.card.default_split
    if split not in there:
        raise ConfigError(f"{ask.card.name}: {folder!r} has {', '.join(there)} and no {split}: choose with --split")
    images = ask.disk.child(
        folder, "Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "Manually_Annotated"
    )
    if images is None:
        raise ConfigError(f"{ask.card.name}: {there[split]!r} is there, but no folder Manually_Annotated_Images")
    columns = {"path": "subdirectory_filepath", "label": "expression"}
    table = _csv(there[split], columns, without_header={"path": 0, "label": 6})
    dropped: Counter[str] = Counter()
    rows = []
    for path, label in table.select("path", "label").iter_rows():
        if path and label:
            rows.append(_Row(_joined(images, path), _number(label)))
        else:
            dropped["row not understood"] += 1
    return _Found(layout=1, split=split, rows=rows, faces=ask.card.faces, dropped=dropped, listed=True)


def _affectnet_folders(ask: _Ask, folder: str) -> Callable[[], _Found] | None:
    splits = {"train": ["train", "train_set"], "val": ["val", "val_set"]}
    return _class_folders(ask, folder, layout=2, splits=splits, default="val")


def _fer_table(ask: _Ask, folder: str) -> Callable[[], _Found] | None:
    path = ask.disk.child(folder, *_FER_TABLES)
    return partial(_read_fer_table, ask, path) if path else None


_FER_TABLES = ("fer2013.csv", "icml_face_data.csv")
_FER_USAGE = {
    "train": ("training",),
    "public": ("publictest",),
    "private": ("privatetest",),
    "test": ("publictest", "privatetest"),
}


def _read_fer_table(ask: _Ask, path: str) -> _Found:
    split = ask.split or ask.card.default_split
    table = _fer_rows(path).filter(pl.col("usage").is_in(_FER_USAGE[split])).collect()
    rows = []
    dropped: Counter[str] = Counter()
    pictures = _pictures(table["pixels"])
    for row, label, picture in zip(table["row"], table["emotion"], pictures, strict=True):
        if picture is None:
            dropped["pixels not understood"] += 1
        else:
            rows.append(_Row(None, _number(label or ""), name=f"fer{row:07}.png", pixels=picture))
    return _Found(layout=0, split=split, rows=rows, faces=ask.card.faces, dropped=dropped)


def _fer_rows(path: str) -> pl.LazyFrame:
    """FER2013's table: row (from 0), emotion, pixels, and usage in lower case."""
    columns = ("emotion", "pixels", "usage")
    table = _scan_csv(
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


def _fer_folders(ask: _Ask, folder: str) -> Callable[[], _Found] | None:
    remark = (
        "these folders do not tell Public from Private: the split is all 7,178 test images, not the 3,589 of Private"
    )
    splits = {"train": ["train"], "test": ["test"]}
    return _class_folders(ask, folder, layout=1, splits=splits, default="test", remark=remark)


def _ferplus(ask: _Ask, folder: str) -> Callable[[], _Found] | None:
    votes = ask.disk.child(folder, "fer2013new.csv")
    return partial(_read_ferplus, ask, folder, votes) if votes else None


def _read_ferplus(ask: _Ask, folder: str, path: str) -> _Found:
    split = ask.split or ask.card.default_split
    names = {"usage": "usage", "image": "image name", **{name: name for name in FERPLUS_COLUMNS}}
    table = _csv(path, names).with_row_index("row")
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
        return _Found(layout=0, split=split, rows=rows, faces=ask.card.faces, dropped=dropped)
    files = {posixpath.basename(each).casefold(): each for each in ask.disk.walk(ask.root) if kind_of(each) == "image"}
    if not any(image.casefold() in files for _, image, _ in kept):
        raise ConfigError(
            f"ferplus: {path!r} holds votes and no images: put FER2013's fer2013.csv beside it, or the images "
            f"that it names (such as {kept[0][1] if kept else 'fer0000000.png'}) anywhere under {ask.root!r}"
        )
    rows = [_Row(files.get(image.casefold(), f"{folder}/{image}"), label) for _, image, label in kept]
    return _Found(layout=1, split=split, rows=rows, faces=ask.card.faces, dropped=dropped, listed=True)


_FERPLUS_USAGE = {"train": "training", "valid": "publictest", "test": "privatetest"}
_FER_BESIDE = (*_FER_TABLES, *(f"fer2013/{name}" for name in _FER_TABLES))


def _ferplus_pixels(
    kept: Sequence[tuple[int, str, str]], votes: pl.DataFrame, path: str, dropped: Counter[str]
) -> list[_Row]:
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
            rows.append(_Row(None, label, name=image, pixels=picture))
    return rows


def _ckplus(ask: _Ask, folder: str) -> Callable[[], _Found] | None:
    frames = ask.disk.child(folder, "cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")
    emotion = ask.disk.child(folder, "Emotion", "Emotion_labels/Emotion", "Emotion_labels")
    return partial(_read_ckplus, ask, frames, emotion) if frames and emotion else None


def _read_ckplus(ask: _Ask, frames: str, emotion: str) -> _Found:
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
            label = _number(_text(f"{where}/{texts[0]}").strip())
            rows += [_Row(path, label, subject) for path in pictures[-last:]]
            if not pictures:
                dropped["sequence without pictures"] += 1
            elif protocol.endswith("_neutral") and ask.card.labels.get(label) in EMOTIONS and len(pictures) > last:
                rows.append(_Row(pictures[0], "0", subject))
    for subject in disk.folders(emotion):
        for sequence in set(disk.folders(f"{emotion}/{subject}")) - set(disk.folders(f"{frames}/{subject}")):
            if any(name.casefold().endswith("_emotion.txt") for name in disk.files(f"{emotion}/{subject}/{sequence}")):
                dropped["sequence without pictures"] += 1
    without = num_sequences - num_labelled
    remarks = (f"{without} of {num_sequences} sequences have no label and are not used",) if without else ()
    faces = ask.card.faces
    return _Found(layout=0, split="all", protocol=protocol, rows=rows, faces=faces, dropped=dropped, remarks=remarks)


def _jaffe(ask: _Ask, folder: str) -> Callable[[], _Found] | None:
    names = ask.disk.files(folder)
    return partial(_read_jaffe, ask, folder, names) if any(map(_JAFFE.fullmatch, names)) else None


_JAFFE = re.compile(r"([A-Z]{2})\.([A-Z]{2})(\d*)\.(\d+)\.(?:tiff?|png|jpe?g|bmp)", re.IGNORECASE)


def _read_jaffe(ask: _Ask, folder: str, names: Sequence[str]) -> _Found:
    rows = []
    dropped: Counter[str] = Counter()
    for name in names:
        fits = _JAFFE.fullmatch(name)
        if fits:
            rows.append(_Row(f"{folder}/{name}", fits[2].casefold(), subject=fits[1].upper()))
        elif kind_of(name) == "image":
            dropped["name not understood"] += 1
    return _Found(layout=0, split="all", rows=rows, faces=ask.card.faces, dropped=dropped)


def _kdef(ask: _Ask, folder: str) -> Callable[[], _Found] | None:
    folders = [folder, *(f"{folder}/{name}" for name in ask.disk.folders(folder) if _KDEF_FOLDER.fullmatch(name))]
    there = [each for each in folders if any(map(_KDEF.fullmatch, ask.disk.files(each)))]
    return partial(_read_kdef, ask, there) if there else None


_KDEF_FOLDER = re.compile(r"[AB][FM]\d\d", re.IGNORECASE)
_KDEF = re.compile(r"[AB]([FM]\d\d)([A-Z]{2})(FL|HL|S|HR|FR)\.(?:jpe?g|png|tiff?|bmp)", re.IGNORECASE)


def _read_kdef(ask: _Ask, folders: Sequence[str]) -> _Found:
    protocol = ask.protocol or ask.card.default_protocol
    rows = []
    dropped: Counter[str] = Counter()
    odd: list[str] = []
    for folder in folders:
        for name in ask.disk.files(folder):
            fits = _KDEF.fullmatch(name)
            if fits and (protocol == "all_angles" or fits[3].upper() == "S"):
                rows.append(_Row(f"{folder}/{name}", fits[2].casefold(), subject=fits[1].upper()))
            elif not fits and kind_of(name) == "image":
                odd.append(name)
    if odd:
        dropped["name not understood"] = len(odd)
    remarks = (f"{_images(len(odd))} with other names than KDEF's: {', '.join(odd[:_NAMED])}",) if odd else ()
    faces = ask.card.faces
    return _Found(layout=0, split="all", protocol=protocol, rows=rows, faces=faces, dropped=dropped, remarks=remarks)


def _sfew(ask: _Ask, folder: str) -> Callable[[], _Found] | None:
    splits: dict[str, list[str]] = {}
    for split in ("Train", "Val"):
        where = ask.disk.child(folder, split)
        names = [name for name in (ask.disk.folders(where) if where else []) if _SFEW.match(name)]
        splits[split.casefold()] = [f"{split}/{name}" for name in names if name.casefold().startswith(split.casefold())]
    return _class_folders(ask, folder, layout=0, splits=splits, default="val")


_SFEW = re.compile(r"(train|val)_aligned_faces", re.IGNORECASE)


def _expw(ask: _Ask, folder: str) -> Callable[[], _Found] | None:
    index = ask.disk.child(folder, "label.lst", "label/label.lst")
    return partial(_read_expw, ask, index) if index else None


def _read_expw(ask: _Ask, index: str) -> _Found:
    dropped: Counter[str] = Counter()
    listed: list[tuple[str, str, Box]] = []
    for line in _lines(index):
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
    for level in ask.disk.levels(ask.root, _SEARCH_DEPTH + 1):
        for folder in level:
            hits = sum(ask.disk.find(f"{folder}/{name}") is not None for name in sample)
            if hits > most:
                most, where = hits, folder
    if not most:
        raise ConfigError(f"expw: {index!r} is there, but no folder under {ask.root!r} holds the images that it names")
    rows = [_Row(f"{where}/{name}", label, box=box) for name, label, box in listed]
    return _Found(layout=0, split="all", rows=rows, faces=ask.card.faces, dropped=dropped, listed=True)


def _folder(ask: _Ask, folder: str) -> Callable[[], _Found] | None:
    named = [name for name in ask.disk.folders(folder) if _spelled(name) in EMOTIONS]
    return partial(_read_folder, ask, folder) if named else None


def _read_folder(ask: _Ask, folder: str) -> _Found:
    dropped: Counter[str] = Counter()
    rows = _rows_of_folders(ask.disk, folder, ask.disk.folders(folder), dropped)
    loose = sum(kind_of(name) == "image" for name in ask.disk.files(folder))
    if loose:
        dropped["picture outside the folders named by emotion"] = loose
    return _Found(layout=0, split="all", rows=rows, faces=ask.card.faces, dropped=dropped)


def _read_table(ask: _Ask) -> _Found:
    """The rows of a table with a path and a label column, and perhaps boxes and subjects."""
    path = ask.root
    if not Path(path).is_file():
        raise ConfigError(f"{ask.card.name}: {path!r} is no file; --root names the table itself")
    is_parquet = suffix_of(path) in (".parquet", ".pq")
    if is_parquet != (ask.card.name == "parquet"):
        raise ConfigError(f"{path!r} is {'' if is_parquet else 'not '}a Parquet file by its name: --dataset must agree")
    if is_parquet:
        names = pl.read_parquet_schema(path)
    else:
        separator = _separator(path)
        names = pl.scan_csv(path, infer_schema=False, separator=separator, glob=False).collect_schema()
    plain = {name.strip().casefold(): name for name in reversed([*names])}
    chosen = {
        "path": _column(ask, ask.path_column, PATH_COLUMNS, [*names], plain, "path"),
        "label": _column(ask, ask.label_column, LABEL_COLUMNS, [*names], plain, "label"),
    }
    if "subject" in plain:
        chosen["subject"] = plain["subject"]
    has_boxes = all(name in plain for name in BOX_COLUMNS)
    table = (
        pl.scan_parquet(path, glob=False)
        if is_parquet
        else pl.scan_csv(path, infer_schema=False, separator=separator, glob=False)
    )
    columns = [pl.col(name).cast(pl.String).str.strip_chars().alias(new) for new, name in chosen.items()]
    if has_boxes:
        columns += [pl.col(plain[name]).cast(pl.Float64, strict=False).alias(name) for name in BOX_COLUMNS]
    folder = posixpath.dirname(path)
    dropped: Counter[str] = Counter()
    rows = []
    num_without = 0
    for row in table.select(columns).collect().iter_rows(named=True):
        values = [row[name] for name in BOX_COLUMNS] if has_boxes else []
        box: Box | None = None
        if not row["path"] or not row["label"]:
            dropped["no path or no label"] += 1
            continue
        if any(value is not None for value in values):
            if None in values or not (values[0] < values[2] and values[1] < values[3]):
                dropped["box not understood"] += 1
                continue
            box = (values[0], values[1], values[2], values[3])
        num_without += box is None
        where = _joined(folder, row["path"])
        if ask.disk.find(where) is None and not row["path"].startswith("/"):
            elsewhere = _joined(Path.cwd().as_posix(), row["path"])
            where = elsewhere if ask.disk.find(elsewhere) else where
        rows.append(_Row(where, _number(row["label"]), row.get("subject"), box))
    has_boxes = has_boxes and num_without < len(rows)
    remarks = (f"{_images(num_without)} without a box: the face is looked for",) if has_boxes and num_without else ()
    faces: Faces = "given" if has_boxes else "auto"
    return _Found(layout=0, split="all", rows=rows, faces=faces, dropped=dropped, remarks=remarks, listed=True)


def _column(
    ask: _Ask, asked: str | None, known: Sequence[str], names: Sequence[str], plain: Mapping[str, str], what: str
) -> str:
    there = ", ".join(repr(name) for name in names)
    if asked is not None:
        if asked not in names:
            raise ConfigError(f"{ask.root!r} has no column {asked!r}; it has {there}")
        return asked
    for name in known:
        if name in plain:
            return plain[name]
    raise ConfigError(
        f"{ask.root!r} has no {what} column by name ({', '.join(known)}); it has {there}: "
        f"name it with --{what}-column, or give the table a first line with names"
    )


def _joined(folder: str, path: str) -> str:
    """A path of an index below a folder, with `/` for `\\` and no `.` or `..` in it."""
    path = path.replace("\\", "/")
    whole = path if posixpath.isabs(path) else f"{folder}/{path}"
    return posixpath.normpath(whole) if "./" in path or "//" in path else whole


def _number(text: str) -> str:
    """A label as its set writes it: 3 for `3.0` and `3.0000000e+00`, any other text as it is."""
    if not re.fullmatch(r"\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?\s*", text):
        return text
    number = float(text)
    return str(int(number)) if number.is_integer() else text


def _text(path: str) -> str:
    """A text file as UTF-8, with or without its mark; bytes that are not become escapes, as in names of files."""
    return Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")


def _lines(path: str) -> Iterator[str]:
    """The lines that hold something, tabs taken as spaces."""
    for line in _text(path).splitlines():
        if line.strip():
            yield line.strip().replace("\t", " ")


def _separator(path: str) -> str:
    """Of a table's first line: the one of comma, semicolon and tab that it holds most of."""
    with Path(path).open("rb") as file:
        first = file.readline()
    return max(",;\t", key=lambda mark: first.count(mark.encode()))


def _csv(path: str, columns: Mapping[str, str], *, without_header: Mapping[str, int] | None = None) -> pl.DataFrame:
    return _scan_csv(path, columns, without_header=without_header).collect()


def _scan_csv(
    path: str, columns: Mapping[str, str], *, without_header: Mapping[str, int] | None = None
) -> pl.LazyFrame:
    """These columns of a table as text, under new names.

    Args:
        columns: New name -> the table's name in lower case, without the spaces around it.
        without_header: New name -> the column's place, for a file whose first line is data.

    Raises:
        ConfigError: A column is missing.
    """
    table = pl.scan_csv(path, infer_schema=False, glob=False)
    there = {name.strip().casefold(): name for name in table.collect_schema().names()}
    missing = [name for name in columns.values() if name not in there]
    if without_header is not None and len(missing) == len(columns):
        table = pl.scan_csv(path, infer_schema=False, glob=False, has_header=False)
        names = table.collect_schema().names()
        if len(names) > max(without_header.values()):
            return table.select(pl.col(names[place]).alias(new) for new, place in without_header.items())
    if missing:
        raise ConfigError(f"{path!r} has no column {', '.join(map(repr, missing))}; it has {', '.join(there)}")
    return table.select(pl.col(there[name]).alias(new) for new, name in columns.items())


_LAYOUTS: dict[str, tuple[Callable[[_Ask, str], Callable[[], _Found] | None], ...]] = {
    "rafdb": (_rafdb_list, _rafdb_folders),
    "affectnet7": (_affectnet_arrays, _affectnet_lists, _affectnet_folders),
    "affectnet8": (_affectnet_arrays, _affectnet_lists, _affectnet_folders),
    "fer2013": (_fer_table, _fer_folders),
    "ferplus": (_ferplus,),
    "ckplus": (_ckplus,),
    "jaffe": (_jaffe,),
    "kdef": (_kdef,),
    "sfew": (_sfew,),
    "expw": (_expw,),
    "folder": (_folder,),
}
"""What recognises each set's layouts in a folder, and then reads it."""


_AFFECTNET_LAYOUTS = (
    "{train_set,val_set}/images/*.jpg with {train_set,val_set}/annotations/<id>_exp.npy",
    "Manually_Annotated_file_lists/{training,validation}.csv (with or without a first line of names) with "
    "Manually_Annotated_Images/",
    "{train,val}/{0..7}/*.jpg",
)
_AFFECTNET_LABELS = {
    **{str(number): emotion for number, emotion in enumerate(EMOTIONS)},
    **{"7": "contempt", "8": "none", "9": "uncertain", "10": "no face"},
}
_AFFECTNET_TERMS = "Research only, under an agreement that a professor or head of a laboratory signs. Do not re-host."
_AFFECTNET_WHERE = "http://mohammadmahoor.com/pages/databases/affectnet/"
_AFFECTNET_TRAIN = (74_874, 134_415, 25_459, 14_090, 6_378, 3_803, 24_882)

_FER_LABELS = {
    **{"0": "anger", "1": "disgust", "2": "fear", "3": "happiness", "4": "sadness", "5": "surprise", "6": "neutral"},
    **{"angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness", "sad": "sadness"},
    **{"surprise": "surprise", "neutral": "neutral"},
}

_CAFE = "CAFE, ECCV 2024, Table 1 (arXiv 2408.10614)"
_CDFER = "CD-FER benchmark, AGRA (arXiv 2008.00923)"
_MOTIVNET = "MotivNet (arXiv 2512.24231)"
_POSTER = "POSTER++ (arXiv 2301.12149)"
_QCS = "QCS (arXiv 2411.01988)"


def _from_affectnet(cafe: float, eac: float, scn: float) -> tuple[Anchor, ...]:
    names = (("CAFE", cafe), ("EAC", eac), ("SCN", scn))
    how = "trained on AffectNet, no image of this set seen"
    return tuple(Anchor(value, f"{name}, {how}", _CAFE, "cross_set") for name, value in names)


def _from_rafdb(agra: float) -> tuple[Anchor, ...]:
    how = "AGRA, trained on RAF-DB and adapted to this set's images without their labels"
    return (Anchor(agra, how, _CDFER, "cross_set"),)


def _in_set(value: float, name: str, source: str) -> Anchor:
    return Anchor(value, f"{name}, trained on this set", source, "in_set")


_CARDS = (
    DatasetCard(
        name="rafdb",
        title="RAF-DB, basic emotions (single-label subset)",
        layouts=(
            "EmoLabel/list_patition_label.txt with Image/aligned/ or Image/original/, with or without a leading basic/",
            "DATASET/{train,test}/{1..7}/*.jpg (Kaggle; aligned)",
        ),
        labels={
            **{"1": "surprise", "2": "fear", "3": "disgust", "4": "happiness", "5": "sadness", "6": "anger"},
            **{"7": "neutral"},
        },
        faces="whole",
        splits=("train", "test"),
        default_split="test",
        protocols={
            "aligned": "the aligned crops of 100 x 100 pixels",
            "original": "the original photographs, faces to be found",
        },
        default_protocol="aligned",
        counts=(
            Published("train", 12_271, (2_524, 4_772, 1_982, 1_290, 281, 717, 705)),
            Published("test", 3_068, (680, 1_185, 478, 329, 74, 160, 162)),
        ),
        terms="Non-commercial research only, by request from an academic address. Do not re-host.",
        where="http://www.whdeng.cn/RAF/model1.html",
        anchors=(
            *_from_affectnet(72.69, 66.10, 70.70),
            _in_set(92.21, "POSTER++", _POSTER),
            _in_set(92.50, "QCS", _QCS),
            _in_set(93.09, "FMAE ViT-L", "FMAE"),
        ),
    ),
    DatasetCard(
        name="affectnet7",
        title="AffectNet, seven emotions",
        layouts=_AFFECTNET_LAYOUTS,
        labels=_AFFECTNET_LABELS,
        faces="whole",
        splits=("train", "val"),
        default_split="val",
        counts=(Published("train", 283_901, _AFFECTNET_TRAIN), Published("val", 3_500, (500,) * 7)),
        terms=_AFFECTNET_TERMS,
        where=_AFFECTNET_WHERE,
        anchors=(
            _in_set(64.87, "CAFE", _CAFE),
            _in_set(67.49, "POSTER++", _POSTER),
            _in_set(67.94, "QCS", _QCS),
            _in_set(66.51, "HSEmotion enet_b2", "HSEmotion"),
        ),
        notes=(
            "Papers call the val split test: the labels of the true test split are not published.",
            "MotivNet was trained on this set's training split.",
        ),
    ),
    DatasetCard(
        name="affectnet8",
        title="AffectNet with contempt as an eighth class, which is counted and dropped",
        layouts=_AFFECTNET_LAYOUTS,
        labels=_AFFECTNET_LABELS,
        faces="whole",
        splits=("train", "val"),
        default_split="val",
        counts=(
            Published("train", 283_901, _AFFECTNET_TRAIN, with_contempt=(287_651,)),
            Published("val", 3_500, (500,) * 7, with_contempt=(3_999, 4_000)),
        ),
        terms=_AFFECTNET_TERMS,
        where=_AFFECTNET_WHERE,
        notes=(
            "The images are those of affectnet7; only the check of the counts differs. Published eight-class figures "
            "are not comparable with ours, so none is printed.",
        ),
    ),
    DatasetCard(
        name="fer2013",
        title="FER2013",
        layouts=(
            "fer2013.csv (emotion,pixels,Usage), or icml_face_data.csv, which is the same table",
            "{train,test}/{angry,disgust,fear,happy,sad,surprise,neutral}/ (Kaggle; its test is Public and Private)",
        ),
        labels=_FER_LABELS,
        faces="whole",
        splits=("train", "public", "private", "test"),
        default_split="private",
        counts=(
            Published("train", 28_709, (4_965, 7_215, 4_830, 3_171, 4_097, 436, 3_995)),
            Published("public", 3_589, (607, 895, 653, 415, 496, 56, 467)),
            Published("private", 3_589, (626, 879, 594, 416, 528, 55, 491)),
            Published("test", 7_178, (1_233, 1_774, 1_247, 831, 1_024, 111, 958)),
        ),
        terms="No licence is stated; images from a web search, for research.",
        where="https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge",
        anchors=(
            Anchor(53.87, "MotivNet, trained on AffectNet; which test split is not known", _MOTIVNET, "cross_set"),
            *_from_rafdb(58.95),
        ),
        notes=("The split `test` is Public and Private together. In Kaggle's folders only that can be had.",),
    ),
    DatasetCard(
        name="ferplus",
        title="FERPlus (FER+): FER2013's images with ten votes each, by majority",
        layouts=(
            "fer2013new.csv with fer2013.csv, whose rows belong together one by one",
            "fer2013new.csv with the images that it names (fer0000000.png and so on) anywhere under the root",
        ),
        labels={
            **{name: name for name in FERPLUS_COLUMNS if name in EMOTIONS},
            **{"contempt": "contempt", "unknown": "unknown", "nf": "no face"},
        },
        faces="whole",
        splits=("train", "valid", "test"),
        default_split="test",
        counts=(
            Published("train", None, with_contempt=(25_060,)),
            Published("valid", None, with_contempt=(3_199,)),
            Published("test", 3_137, with_contempt=(3_153,)),
        ),
        terms="The votes are published under Microsoft's terms in their repository; the images are FER2013's.",
        where="https://github.com/microsoft/FERPlus",
        anchors=(*_from_affectnet(69.94, 57.19, 63.98), _in_set(91.41, "QCS", _QCS)),
        notes=(
            "Majority rule: rows without an image name are dropped, single votes become 0, and the label is what more "
            "than half of the remaining votes say.",
        ),
    ),
    DatasetCard(
        name="ckplus",
        title="Extended Cohn-Kanade (CK+)",
        layouts=("cohn-kanade-images/S005/001/*.png with Emotion/S005/001/*_emotion.txt",),
        labels={
            **{"0": "neutral", "1": "anger", "2": "contempt", "3": "disgust", "4": "fear", "5": "happiness"},
            **{"6": "sadness", "7": "surprise"},
        },
        faces="auto",
        splits=("all",),
        default_split="all",
        protocols={
            "last_frame": "the last frame of each labelled sequence",
            "last_frame_neutral": "the last frame, and the first as neutral",
            "last_three": "the last three frames of each labelled sequence",
            "last_three_neutral": "the last three frames, and the first as neutral",
        },
        default_protocol="last_frame",
        counts=(
            Published("all", 309, (0, 69, 28, 83, 25, 59, 45), (327,), protocol="last_frame"),
            Published("all", 618, (309, 69, 28, 83, 25, 59, 45), protocol="last_frame_neutral"),
            Published("all", 927, (0, 207, 84, 249, 75, 177, 135), (981,), protocol="last_three"),
            Published("all", 1_236, (309, 207, 84, 249, 75, 177, 135), protocol="last_three_neutral"),
        ),
        terms="Research only, under a signed agreement. Do not re-host.",
        where="https://www.jeffcohn.net/resources/",
        anchors=_from_rafdb(85.27),
        notes=(
            "Papers differ in the frames they take: only figures of one protocol compare. Which frames the figure of "
            "other work took was not checked.",
        ),
    ),
    DatasetCard(
        name="jaffe",
        title="JAFFE (Japanese Female Facial Expression)",
        layouts=("flat: KA.AN1.39.tiff and so on",),
        labels={code: SYNONYMS[code] for code in ("ne", "ha", "sa", "su", "fe", "di", "an")},
        faces="auto",
        splits=("all",),
        default_split="all",
        counts=(Published("all", 213, (30, 31, 31, 30, 32, 29, 30)),),
        terms="Non-commercial research only, by request. Do not re-host.",
        where="https://zenodo.org/records/3451524",
        anchors=_from_rafdb(61.50),
    ),
    DatasetCard(
        name="kdef",
        title="KDEF (Karolinska Directed Emotional Faces)",
        layouts=("AF01/AF01AFS.JPG and so on: session, sex, number, expression, angle",),
        labels={
            **{code: SYNONYMS[code] for code in ("ne", "ha", "sa", "su", "di", "an")},
            "af": "fear",
        },
        faces="auto",
        splits=("all",),
        default_split="all",
        protocols={"frontal": "the frontal pictures (angle S)", "all_angles": "all five angles"},
        default_protocol="frontal",
        counts=(
            Published("all", 980, (140,) * 7, protocol="frontal"),
            Published("all", 4_900, (700,) * 7, protocol="all_angles"),
        ),
        terms="Non-commercial research only, under the authors' terms. Do not re-host.",
        where="https://kdef.se/",
    ),
    DatasetCard(
        name="sfew",
        title="SFEW 2.0 (Static Facial Expressions in the Wild)",
        layouts=("{Train,Val}/{Train,Val}_Aligned_Faces*/{Angry,Disgust,Fear,Happy,Neutral,Sad,Surprise}/",),
        labels={name: _FER_LABELS[name] for name in _FER_LABELS if not name.isdigit()},
        faces="whole",
        splits=("train", "val"),
        default_split="val",
        counts=(Published("train", 958), Published("val", 436)),
        terms="Research only, under a signed agreement. Do not re-host.",
        where="https://users.cecs.anu.edu.au/~few_group/AFEW.html",
        anchors=(*_from_affectnet(51.18, 44.89, 41.98), *_from_rafdb(56.43)),
        notes=("The labels of the test split are withheld: papers report on val.",),
    ),
    DatasetCard(
        name="expw",
        title="ExpW (Expression in-the-Wild)",
        layouts=("label.lst (name, face, top, left, right, bottom, confidence, label) with the images it names",),
        labels={name: _FER_LABELS[name] for name in _FER_LABELS if name.isdigit()},
        faces="given",
        splits=("all",),
        default_split="all",
        counts=(Published("all", 91_793, (34_883, 30_537, 10_559, 7_060, 1_088, 3_995, 3_671)),),
        terms="Research only, unlicensed images from a web search. Do not re-host.",
        where="http://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html",
        anchors=_from_rafdb(68.50),
        notes=("It has no official split: papers that report on a part of it do not compare.",),
    ),
    DatasetCard(
        name="folder",
        title="Your own: folders named by emotion",
        layouts=("<emotion>/**/*.jpg: happy, Happiness, 1_happy, angry, anger and so on, in any case",),
        labels={},
        faces="auto",
        splits=("all",),
        default_split="all",
        terms="Yours to know.",
        where="yourself",
    ),
    DatasetCard(
        name="csv",
        title="Your own: a table of paths and labels (.csv, .tsv)",
        layouts=("a table with a path and a label column, and perhaps subject and x1, y1, x2, y2",),
        labels={},
        faces="auto",
        splits=("all",),
        default_split="all",
        terms="Yours to know.",
        where="yourself",
    ),
    DatasetCard(
        name="parquet",
        title="Your own: a table of paths and labels (.parquet)",
        layouts=("a table with a path and a label column, and perhaps subject and x1, y1, x2, y2",),
        labels={},
        faces="auto",
        splits=("all",),
        default_split="all",
        terms="Yours to know.",
        where="yourself",
    ),
)

CARDS: dict[str, DatasetCard] = {card.name: card for card in _CARDS}
"""The sets by name. Terms are readings, not advice.

The counts per emotion (RAF-DB's and AffectNet's val apart) and AffectNet's training split are as commonly reported:
each adds up to the published total, and none was counted on the set itself.
"""
