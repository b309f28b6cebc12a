"""A folder -> the labelled images of a set: find which layout is there, read it, map its labels.

No set is downloaded, and none is shipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from motivnet_cli.errors import ConfigError, did_you_mean, first_line
from motivnet_cli.evaluation.datasets import (
    afew,
    affectnet,
    ckplus,
    cremad,
    dfew,
    expw,
    fer2013,
    ferplus,
    ferv39k,
    jaffe,
    kdef,
    lists,
    mafw,
    mmi,
    oulu,
    own,
    rafdb,
    ravdess,
    sfew,
    tables,
)
from motivnet_cli.evaluation.datasets.by_class import class_folder_layout, has_class_folders, split_named
from motivnet_cli.evaluation.datasets.cards import CARDS
from motivnet_cli.evaluation.datasets.classes import CONTEMPT, are_emotions, emotion_named, refuse_contempt
from motivnet_cli.evaluation.datasets.disk import Disk, read_text
from motivnet_cli.evaluation.datasets.labelled import DROP, TABLES, labelled_set
from motivnet_cli.evaluation.datasets.layouts import MAX_NAMES, SEARCH_DEPTH, Recognised, Request
from motivnet_cli.records import EMOTIONS, in_column_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from motivnet_cli.evaluation.datasets.card import DatasetCard
    from motivnet_cli.evaluation.datasets.labelled import LabelledSet
    from motivnet_cli.evaluation.datasets.layouts import Layout, Naming

_SHARED = (lists.LISTS, lists.YOLO, tables.PARQUET)
"""In which copies of any set lie on disk."""
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "rafdb": (*rafdb.LAYOUTS, *_SHARED),
    "rafdb_compound": rafdb.COMPOUND_LAYOUTS,
    "affectnet7": (*affectnet.LAYOUTS, lists.JSON, *_SHARED),
    "affectnet8": (*affectnet.LAYOUTS, lists.JSON, *_SHARED),
    "fer2013": (*fer2013.LAYOUTS, *_SHARED),
    "ferplus": (*ferplus.LAYOUTS, *_SHARED),
    "ckplus": ckplus.LAYOUTS,
    "jaffe": jaffe.LAYOUTS,
    "kdef": kdef.LAYOUTS,
    "sfew": sfew.LAYOUTS,
    "expw": expw.LAYOUTS,
    "mmafedb": (class_folder_layout(),),
    "caers": (class_folder_layout(),),
    "oulucasia": oulu.LAYOUTS,
    "dfew": dfew.LAYOUTS,
    "ferv39k": ferv39k.LAYOUTS,
    "mafw": mafw.LAYOUTS,
    "afew": afew.LAYOUTS,
    "ravdess": ravdess.LAYOUTS,
    "cremad": cremad.LAYOUTS,
    "mmi": mmi.LAYOUTS,
    "folder": (*own.LAYOUTS, lists.JSON),
}
"""The layouts of each set that is a folder, in the order of its card's `layouts`."""
_MISTAKEN = {"rafdb": "rafdb_compound", "rafdb_compound": "rafdb"}
"""Sets that lie on disk alike."""


def read_dataset(
    name: str,
    root: str,
    *,
    split: str | None = None,
    protocol: str | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    label_map: Mapping[str, str] | None = None,
    columns: Sequence[str] = (),
    contempt: bool = False,
    classes: Sequence[str] | None = None,
    soft_columns: Sequence[str] = (),
    for_training: bool = False,
    disk: Disk | None = None,
) -> LabelledSet:
    """The labelled images of a set on this disk, its layout recognised in the folder or down to two folders below.

    Names of folders and endings of files count in any case. A file that an index names and that is not there is
    dropped as `missing file`; of a path that is listed twice the first row counts.

    Args:
        name: A key of CARDS.
        root: The set's folder; for `csv` and `parquet` the table, whose paths are relative to its folder. A table may
            also have the columns x1 y1 x2 y2 (a face's box) and `subject`.
        split: None takes the layout's default, the card's where the layout has it; `for_training` the training split,
            where the set has one.
        protocol: None takes the card's default.
        path_column: For tables, and sets in Parquet; None looks for one of `table.PATH_COLUMNS`.
        label_column: For the same; None looks for one of `tables.LABEL_COLUMNS`.
        label_map: The set's labels -> emotions or contempt in any spelling of `classes.SYNONYMS`, other classes where
            there may be such, or `drop`; stronger than the card's map and than the spelling.
        columns: What else is asked of each image (`Labelled.columns`): of a table any column, of another set what it
            says of its images. A name that a set does not have is no error here.
        contempt: Keeps images of contempt, as an eighth class; else they are dropped and counted.
        classes: Those of a model, in place of the seven emotions: a label names the class that is called so in any
            case, else an emotion; images of emotions that are none of them are dropped and counted.
        soft_columns: Of `csv` and `parquet`, in place of a label: columns that are called as the classes, with shares
            or votes. They become the `votes` of each image, and its label is the class that has most, of equals the
            first.
        for_training: Sets of one's own have the classes that their labels name, in any case; they are emotions where
            each label is an emotion in any spelling.
        disk: With listings of folders that are not to be made again.

    Raises:
        ConfigError: The layout is not recognised, or more than one is; the split or protocol does not exist; a folder
            or table of emotions has a label that names none; or no labelled image is left, or none of contempt that
            is to be kept.
    """
    card = card_named(name)
    naming, kept = _classes_of(card, classes, contempt=contempt, for_training=for_training)
    given = {
        str(label).strip().casefold(): _meaning(label, meaning, kept, naming)
        for label, meaning in (label_map or {}).items()
    }
    may_be_table = name in TABLES or tables.PARQUET in LAYOUTS[name]
    if not may_be_table and (path_column or label_column):
        raise ConfigError(f"{name} has no table with columns to name: leave out --path-column and --label-column")
    if for_training and split is None and card.default_split != "all" and "train" in card.splits:
        split = "train"
    if soft_columns and (name not in TABLES or label_column):
        raise ConfigError(
            f"soft-columns {', '.join(soft_columns)} stand in place of the label column of a csv or parquet set: leave "
            f"them out of {name}, or leave out --label-column"
        )
    split = _split(card, split)
    if protocol is not None and protocol not in card.protocols:
        known = ", ".join(card.protocols) or "none"
        raise ConfigError(f"{name} has no protocol {protocol!r}; it has: {known}")
    request = Request(
        *(card, _absolute(root), split, protocol, disk or Disk(), tuple(columns), kept, naming, given),
        left_out=frozenset(
            str(label).strip().casefold() for label, meaning in (label_map or {}).items() if _drops(meaning)
        ),
        path_column=path_column,
        label_column=label_column,
        soft_columns=tuple(soft_columns),
        for_training=for_training,
    )
    with _explained(request):
        if name in TABLES:
            rows = tables.read_table(request)
            base = posixpath.dirname(request.root)
            return labelled_set(request, rows, layout=card.layouts[0], base=base)
        layout, found = _recognise(request)
        if layout is not tables.PARQUET and (path_column or label_column):
            raise ConfigError(
                f"{name}: {found.folder!r} is no table with columns to name ({found.layout}): leave out --path-column "
                "and --label-column"
            )
        rows = layout.read(request, found)
        if protocol is not None and rows.protocol != protocol:
            raise ConfigError(
                f"{name}: {found.folder!r} has nothing of the protocol {protocol!r} in this layout ({found.layout}): "
                "leave out --protocol"
            )
        return labelled_set(request, rows, layout=found.layout, base=request.root)


def is_recognised(name: str, root: str, disk: Disk) -> bool:
    """Whether a layout of a set is recognised in a folder; nothing is read.

    Raises:
        ConfigError: It is recognised more than once, or the folder cannot be looked into.
    """
    request = Request(card_named(name), _absolute(root), None, None, disk)
    with _explained(request):
        return _layout_in(request) is not None


def check_root(name: str, root: str) -> None:
    """Refuse a folder, or table, that `read_dataset` would not recognise as the set; nothing is read.

    Raises:
        ConfigError: As `read_dataset`.
    """
    request = Request(card_named(name), _absolute(root), None, None, Disk())
    with _explained(request):
        if name in TABLES:
            tables.check_table(request)
        else:
            _recognise(request)


def card_named(name: str) -> DatasetCard:
    """The card of a set.

    Raises:
        ConfigError: No set has this name.
    """
    if name not in CARDS:
        raise ConfigError(f"no dataset is called {name!r}; there are {', '.join(CARDS)}{did_you_mean(name, CARDS)}")
    return CARDS[name]


def _absolute(root: str) -> str:
    return Path(os.path.abspath(root)).as_posix()  # noqa: PTH100 - as runs name their inputs: links are not followed


@contextlib.contextmanager
def _explained(request: Request) -> Iterator[None]:
    """Errors of the system and of tables, as errors of the set."""
    name, path = request.card.name, request.root
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{name}: {error.filename or path!r} cannot be read: {error.strerror or error}") from error
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{name}: a table under {path!r} cannot be read: {first_line(error)}") from error


def read_label_map(text: str) -> dict[str, str]:
    """A label map as the command line gives it: `0=neutral,1=happy,7=drop`, or the name of a JSON file of such pairs.

    Raises:
        ConfigError: It is neither, or a label is given twice.
    """
    if text.casefold().endswith(".json"):
        try:
            pairs = json.loads(read_text(text))
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


# ---- what is asked ----------------------------------------------------------------------------------------


def _split(card: DatasetCard, split: str | None) -> str | None:
    """The card's own name for a split that goes by several."""
    if split is None:
        return None
    chosen = split.casefold()
    meant = split_named(split)
    known = [name for name in card.splits if name == chosen or (meant and split_named(name) == meant)]
    if not known:
        raise ConfigError(f"{card.name} has no split {split!r}; it has: {', '.join(card.splits)}")
    return known[0]


def _classes_of(
    card: DatasetCard, classes: Sequence[str] | None, *, contempt: bool, for_training: bool
) -> tuple[Naming, tuple[str, ...]]:
    """What labels name, and the classes whose images are kept."""
    emotions = (*EMOTIONS, CONTEMPT) if contempt else EMOTIONS
    if classes is not None and not are_emotions(classes):
        if contempt:
            refuse_contempt(classes)
        return "classes", in_column_order(classes)
    if for_training and not card.labels and classes is None:
        return "labels", emotions
    return "emotions", emotions


def _drops(meaning: str) -> bool:
    return meaning.strip().casefold() == DROP


def _meaning(label: object, meaning: str, classes: Sequence[str], naming: Naming) -> str:
    """What a given label map says of a label: a class, an emotion, or why it is dropped."""
    if _drops(meaning):
        return f"label {label!s}, dropped by the label map"
    if naming == "labels":
        return meaning.strip()
    own = [name for name in classes if name.casefold() == meaning.strip().casefold()]
    known = own[0] if own else emotion_named(meaning)
    if known is None:
        expected = (*EMOTIONS, CONTEMPT) if naming == "emotions" else classes
        raise ConfigError(f"the label map gives {meaning!r} for {label!s}: expected {', '.join(expected)} or {DROP}")
    return known


# ---- which layout is there --------------------------------------------------------------------------------


def _recognise(request: Request) -> tuple[Layout, Recognised]:
    """The layout that is there."""
    if not Path(request.root).is_dir():
        raise ConfigError(
            f"{request.card.name}: {request.root!r} is no folder; give the one that holds the set as --root"
        )
    found = _layout_in(request)
    if found is None:
        raise ConfigError(_unrecognised(request))
    return found


def _layout_in(request: Request) -> tuple[Layout, Recognised] | None:
    """The layout that is nearest to the root; the first of the card's where a folder has several."""
    card, root = request.card, request.root
    for level in request.disk.levels(root, 0 if card.name == "folder" else SEARCH_DEPTH):
        there = {folder: found for folder in level if (found := _recognise_in(request, folder))}
        if len(there) > 1:
            names = ", ".join(map(repr, [*there][:MAX_NAMES]))
            raise ConfigError(f"{card.name}: {names} all look like the set: name the one you mean as --root")
        for found in there.values():
            return found
    return None


def _recognise_in(request: Request, folder: str) -> tuple[Layout, Recognised] | None:
    for layout, description in zip(LAYOUTS[request.card.name], request.card.layouts, strict=True):
        if paths := layout.recognise(request, folder):
            return layout, Recognised(description, folder, paths)
    return None


def _without_splits(request: Request) -> str:
    """What to do with folders named by class that no split is above."""
    for level in request.disk.levels(request.root, SEARCH_DEPTH):
        for folder in level:
            if has_class_folders(request, folder):
                call = request.command(dataset="folder", root=folder, split=None, protocol=None)
                return (
                    f" {folder!r} holds folders named by class and has no splits. It can be read as your own: `{call}`."
                )
    return ""


def _unrecognised(request: Request) -> str:
    card, disk, root = request.card, request.disk, request.root
    entries = [f"{name}/" if is_folder else name for name, is_folder in disk.entries(root).items()]
    listed = ", ".join(entries[:20]) + (f" and {len(entries) - 20} more" if len(entries) > 20 else "")
    looked = "; ".join(card.layouts)
    depth, hint = f", in it or down to {SEARCH_DEPTH} folders below", ""
    if card.name != "folder":
        hint = _without_splits(request)
    else:
        depth = ""
        if below := [name for name in disk.folders(root) if own.has_emotion_folders(request, f"{root}/{name}")]:
            hint = f" Folders named by emotion are in {', '.join(below)}: name one of them as --root."
    if other := _MISTAKEN.get(card.name):
        with contextlib.suppress(ConfigError):  # several copies of the other set
            if _layout_in(Request(CARDS[other], root, None, None, disk)):
                hint += f" It is recognised as {other}, which is another set."
    return (
        f"{card.name}: no layout of this set was recognised in {root!r}. Looked for{depth}: {looked}. "
        f"Found there: {listed or 'nothing'}.{hint} The set comes from {card.where}"
    )
