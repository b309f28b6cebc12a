"""The public call: a folder -> the labelled images of a set, with what was dropped and why."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from motivnet_cli.errors import ConfigError, first_line
from motivnet_cli.inputs.names import printable, suffix_of
from motivnet_cli.records import BOX_COLUMNS, EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from motivnet_cli.records import Box
from motivnet_cli.evaluation.datasets.cards import CARDS, SYNONYMS, DatasetCard, Faces, spelled
from motivnet_cli.evaluation.datasets.disk import Disk, joined, label_number, separator_of, text_of
from motivnet_cli.evaluation.datasets.readers import (
    NAMED,
    SEARCH_DEPTH,
    Ask,
    Found,
    Row,
    affectnet_arrays,
    affectnet_folders,
    affectnet_lists,
    ckplus,
    expw,
    fer_folders,
    fer_table,
    ferplus,
    images_text,
    jaffe,
    kdef,
    rafdb_folders,
    rafdb_list,
    recognise_folder,
    sfew,
)

DROP = "drop"
"""What a label map gives for labels that are not to be used."""
PATH_COLUMNS = ("path", "image", "file", "input", "filename", "file_name", "image_path", "filepath", "img", "name")
LABEL_COLUMNS = ("label", "emotion", "expression", "class", "target")
"""Columns that a table's paths and labels are looked for in, in this order, whatever their case."""


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
    ask = Ask(card, where, split, protocol, path_column, label_column, Disk())
    try:
        if name in _TABLES:
            found, base = _read_table(ask), posixpath.dirname(where)
        else:
            found, base = _recognised(ask)(), where
        return _labelled_set(ask, found, base=base, given=given)
    except OSError as error:
        raise ConfigError(f"{name}: {error.filename or where!r} cannot be read: {error.strerror or error}") from error
    except pl.exceptions.PolarsError as error:
        reason = first_line(error)
        raise ConfigError(f"{name}: a table under {where!r} cannot be read: {reason}") from error


def read_label_map(text: str) -> dict[str, str]:
    """A label map as the command line gives it: `0=neutral,1=happy,7=drop`, or the name of a JSON file of such pairs.

    Raises:
        ConfigError: It is neither, or a label is given twice.
    """
    if text.casefold().endswith(".json"):
        import json

        try:
            pairs = json.loads(text_of(text))
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


_TABLES = ("csv", "parquet")
_GENERIC = ("folder", *_TABLES)


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


def _recognised(ask: Ask) -> Callable[[], Found]:
    """The reader of the layout that is there, nearest to the root; the first of the card's where there are several."""
    card, root = ask.card, ask.root
    if not Path(root).is_dir():
        raise ConfigError(f"{card.name}: {root!r} is no folder; give the one that holds the set as --root")
    for level in ask.disk.levels(root, 0 if card.name == "folder" else SEARCH_DEPTH):
        there = {
            folder: readers
            for folder in level
            if (readers := [reader for each in _LAYOUTS[card.name] if (reader := each(ask, folder))])
        }
        if len(there) > 1:
            names = ", ".join(map(repr, [*there][:NAMED]))
            raise ConfigError(f"{card.name}: {names} all look like the set: name the one you mean as --root")
        for readers in there.values():
            return readers[0]
    entries = [f"{name}/" if is_folder else name for name, is_folder in ask.disk.entries(root).items()]
    shown = ", ".join(entries[:20]) + (f" and {len(entries) - 20} more" if len(entries) > 20 else "")
    looked = "".join(f"\n  - {layout}" for layout in card.layouts)
    depth = "" if card.name == "folder" else f", in it or down to {SEARCH_DEPTH} folders below"
    raise ConfigError(
        f"{card.name}: no layout of this set was recognised in {root!r}. Looked for{depth}:{looked}\n"
        f"Found there: {shown or 'nothing'}.{_hint(ask)} The set comes from {card.where}"
    )


def _hint(ask: Ask) -> str:
    """Where folders named by emotion are, if one step below."""
    if ask.card.name != "folder":
        return ""
    below = [name for name in ask.disk.folders(ask.root) if recognise_folder(ask, f"{ask.root}/{name}")]
    return f" Folders named by emotion are in {', '.join(below)}: name one of them as --root." if below else ""


def _labelled_set(ask: Ask, found: Found, *, base: str, given: dict[str, str]) -> LabelledSet:
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
            meaning = meanings.get(row.label.casefold()) or (spelled(row.label) if card.name in _GENERIC else None)
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
        more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
        remarks.append(f"{images_text(len(missing))} of the index not on disk: {', '.join(missing[:NAMED])}{more}")
    remarks += [f"label {each!r} is none of this set's: {images_text(n)} dropped" for each, n in unknown.items()]
    if dropped["contempt"]:
        why = "it is none of the seven emotions, so figures do not compare with those of eight classes"
        remarks.append(f"{images_text(dropped['contempt'])} of contempt dropped: {why}")
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


def _unknown_labels(name: str, unknown: Counter[str]) -> str:
    shown = ", ".join(f"{label!r} ({count:,})" for label, count in unknown.most_common(12))
    if all(re.fullmatch(r"-?\d+", label) for label in unknown):
        why = "Sets number the emotions differently, so numbers need a map"
    else:
        why = "Say what they are, or drop them"
    example = ",".join(f"{label}={emotion}" for label, emotion in zip(sorted(unknown), ("neutral", DROP), strict=False))
    return f"{name}: labels that name no emotion: {shown}. {why}, such as --label-map {example}"


def _departures(
    card: DatasetCard, found: Found, images: Sequence[Labelled], dropped: Mapping[str, int]
) -> Iterator[str]:
    """What differs from the published counts, and emotions that no image has."""
    counts = Counter(image.label for image in images)
    expected_none = set()
    for each in card.counts:
        if each.split != found.split or each.protocol not in (None, found.protocol):
            continue
        where = f"{card.name} {found.split}"
        if each.total is not None and each.total != len(images):
            yield f"{where} has {images_text(len(images))} here, {each.total:,} published"
        if each.by_emotion is not None:
            expected_none = {number for number, count in enumerate(each.by_emotion) if count == 0}
            for number, count in enumerate(each.by_emotion):
                if counts[number] != count:
                    yield f"{where} has {images_text(counts[number])} of {EMOTIONS[number]} here, {count:,} published"
        with_contempt = len(images) + dropped.get("contempt", 0)
        if each.with_contempt and with_contempt not in each.with_contempt:
            published = " or ".join(f"{count:,}" for count in each.with_contempt)
            yield f"{where} has {images_text(with_contempt)} with contempt here, {published} published"
    without = [name for number, name in enumerate(EMOTIONS) if not counts[number] and number not in expected_none]
    if without:
        yield f"no image of {', '.join(without)}: means over the classes leave these out"


def _read_table(ask: Ask) -> Found:
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
        separator = separator_of(path)
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
        where = joined(folder, row["path"])
        if ask.disk.find(where) is None and not row["path"].startswith("/"):
            elsewhere = joined(Path.cwd().as_posix(), row["path"])
            where = elsewhere if ask.disk.find(elsewhere) else where
        rows.append(Row(where, label_number(row["label"]), row.get("subject"), box))
    has_boxes = has_boxes and num_without < len(rows)
    remarks = (
        (f"{images_text(num_without)} without a box: the face is looked for",) if has_boxes and num_without else ()
    )
    faces: Faces = "given" if has_boxes else "auto"
    return Found(layout=0, split="all", rows=rows, faces=faces, dropped=dropped, remarks=remarks, listed=True)


def _column(
    ask: Ask, asked: str | None, known: Sequence[str], names: Sequence[str], plain: Mapping[str, str], what: str
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


_LAYOUTS: dict[str, tuple[Callable[[Ask, str], Callable[[], Found] | None], ...]] = {
    "rafdb": (rafdb_list, rafdb_folders),
    "affectnet7": (affectnet_arrays, affectnet_lists, affectnet_folders),
    "affectnet8": (affectnet_arrays, affectnet_lists, affectnet_folders),
    "fer2013": (fer_table, fer_folders),
    "ferplus": (ferplus,),
    "ckplus": (ckplus,),
    "jaffe": (jaffe,),
    "kdef": (kdef,),
    "sfew": (sfew,),
    "expw": (expw,),
    "folder": (recognise_folder,),
}
"""What recognises each set's layouts in a folder, and then reads it."""
