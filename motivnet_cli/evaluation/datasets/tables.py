"""Tables of labelled faces: paths, or the pictures themselves, and labels; of one's own, or of a set in Parquet."""

from __future__ import annotations

import posixpath
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import polars as pl

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.by_class import check_numbers, chosen_split, split_named, split_of_words
from motivnet_cli.evaluation.datasets.disk import join_path, normalise_label, pixels_of
from motivnet_cli.evaluation.datasets.layouts import Cell, Layout, Row, SplitRows
from motivnet_cli.inputs.box_columns import Extent, box_cells, find_box_columns, with_boxes
from motivnet_cli.inputs.cells import class_names, holds_pictures, names_of
from motivnet_cli.inputs.names import kind_of, status_of, suffix_of, version_of
from motivnet_cli.inputs.table import PARQUET_SUFFIXES, PATH_COLUMNS, column_named, open_table
from motivnet_cli.records import BOX_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request, Unit
    from motivnet_cli.inputs.box_columns import BoxColumns
    from motivnet_cli.inputs.table import Table
    from motivnet_cli.records import Box

LABEL_COLUMNS = ("label", "emotion", "expression", "class", "target", "labels")
"""Columns that a table's labels are looked for in, in this order; case, spaces and underscores do not count."""
_PIXELS = "pixels"
"""A column of grey values as text, as in FER2013's table."""

# ---- tables -----------------------------------------------------------------------------------------------


def check_table(request: Request) -> None:
    """Refuse a root that is no table, or one of another format than the set is called by.

    Raises:
        ConfigError: It is no file, or of the other kind.
    """
    path = request.root
    if not Path(path).is_file():
        raise ConfigError(f"{request.card.name}: {path!r} is no file; --root names the table itself")
    is_parquet = suffix_of(path) in PARQUET_SUFFIXES
    if is_parquet != (request.card.name == "parquet"):
        raise ConfigError(f"{path!r} is {'' if is_parquet else 'not '}a Parquet file by its name: --dataset must agree")


def _unit_of(request: Request, rows: Sequence[Row]) -> Unit:
    """Whether a table is of images or of clips: of videos and folders.

    Raises:
        ConfigError: It is of both.
    """
    paths = [row.path for row in rows if row.path is not None]
    clip = next((path for path in paths if kind_of(path) == "video" or request.disk.is_folder(path)), None)
    if clip is None:
        return "image"
    picture = next((path for path in paths if kind_of(path) == "image" and not request.disk.is_folder(path)), None)
    if picture is not None:
        raise ConfigError(f"{request.root!r} names clips ({clip!r}) and pictures ({picture!r}): make a table of each")
    return "clip"


class _Source(NamedTuple):
    """What shows the faces of a table."""

    kind: Literal["path", "picture", "pixels"]
    column: str


class _TableRows(NamedTuple):
    """What a table says, row by row."""

    rows: list[Row]
    boxes: BoxColumns | None
    """None where no row has one."""
    columns: tuple[str, ...]


def read_table(request: Request) -> SplitRows:
    """The rows of a table with a path and a label column, and perhaps boxes and subjects.

    In place of paths a Parquet table may hold the pictures, and any table grey values in a column `pixels`.

    Columns that the request does not name are looked for among PATH_COLUMNS and LABEL_COLUMNS.

    Raises:
        ConfigError: A column is missing, or the labels are numbers of unknown meaning.
    """
    check_table(request)
    dropped: Counter[str] = Counter()
    read = _rows_in(request, request.root, dropped)
    rows, boxes = read.rows, read.boxes
    unit = _unit_of(request, rows)
    remarks = []
    if unit == "clip" and boxes:
        rows, boxes = [row._replace(box=None) for row in rows], None
        remarks.append("boxes are not used: of clips, faces are looked for in every frame")
    elif boxes and boxes.names != BOX_COLUMNS:
        remarks.append(f"boxes are read from {', '.join(boxes.names)}: {boxes.meaning}")
    return SplitRows(
        split="all",
        rows=rows,
        faces="given" if boxes else "auto",
        dropped=dropped,
        remarks=tuple(remarks),
        from_index=True,
        columns=read.columns,
        unit=unit,
    )


def _rows_in(
    request: Request,
    path: str,
    dropped: Counter[str],
    *,
    begins_names: bool = False,
) -> _TableRows:
    """The labelled faces of one table.

    Args:
        begins_names: The table's name stands before those of its pictures, since there are other tables.
    """
    table = open_table(path, "table")
    source = _source(table, request.path_column)
    others = [name for name in request.columns if name in table.columns]
    if absent := [name for name in request.soft_columns if name not in table.columns]:
        raise ConfigError(f"{path!r} has no column {absent[0]!r}; it has {', '.join(map(repr, table.columns))}")
    if request.soft_columns:
        values, boxes = _read_columns(table, source, None, [*dict.fromkeys([*others, *request.soft_columns])])
        votes = _votes_in(request, table, values)
        labels = [None if each is None else max(each, key=each.__getitem__) for each in votes]
    else:
        label_column = _column(table, request.label_column, LABEL_COLUMNS, "label")
        values, boxes = _read_columns(table, source, label_column, others)
        label_of = _meaning_of_labels(request, table, label_column, values["label"])
        labels, votes = [label_of(text) for text in values["label"]], [None] * len(values)
    make = _maker(request, table, source, values["path"], begins_names=begins_names)
    rows = []
    for number, row in enumerate(values.iter_rows(named=True)):
        label = labels[number]
        if not label or not row["path"]:
            dropped["no path or no label"] += 1
            continue
        box: Box | None = None
        if boxes is not None:
            if row["bad_box"] is not None:
                dropped["box not understood"] += 1
                continue
            if row["box0"] is not None:
                box = (row["box0"], row["box1"], row["box2"], row["box3"])
        known = {name: row[f"other {name}"] for name in others if row[f"other {name}"]}
        made = make(number, row["path"])
        if made is None:
            dropped["pixels not understood"] += 1
        else:
            made = made._replace(label=label, subject=row.get("subject"), box=box, columns=known)
            rows.append(made._replace(votes=votes[number]))
    columns = tuple(name for name in table.columns if name.casefold() != "subject" and name != source.column)
    return _TableRows(rows, boxes if any(row.box for row in rows) else None, columns)


def _votes_in(request: Request, table: Table, values: pl.DataFrame) -> list[Mapping[str, float] | None]:
    """What each row says of the classes, by column; None where it says nothing.

    Args:
        values: With these columns as text, as `_read_columns` calls them.

    Raises:
        ConfigError: A value is no number, or below 0, or none of a row is above it.
    """
    votes: list[Mapping[str, float] | None] = []
    columns = {name: values[f"other {name}"].to_list() for name in request.soft_columns}
    for row in range(len(values)):
        texts = {name: column[row] for name, column in columns.items()}
        if not any(texts.values()):
            votes.append(None)
            continue
        shares = {name: _share(text) for name, text in texts.items()}
        if wrong := [name for name, share in shares.items() if share is None]:
            raise ConfigError(
                f"row {row + 1} of {table.path!r} has {texts[wrong[0]]!r} in the column {wrong[0]!r}: soft labels are "
                "shares or votes, finite numbers from 0 on; a row without any label has all its cells empty"
            )
        votes.append({name: share for name, share in shares.items() if share is not None})
        if not sum(filter(None, shares.values())) > 0:
            raise ConfigError(
                f"row {row + 1} of {table.path!r} has 0 in every column of {', '.join(columns)}: soft labels are "
                "shares or votes, some of them above 0; a row without any label has all its cells empty"
            )
    return votes


def _share(text: str | None) -> float | None:
    """A finite number from 0 on; None for any other cell."""
    try:
        share = float(text or "nan")
    except ValueError:
        return None
    return share if 0 <= share < float("inf") else None


def _maker(
    request: Request, table: Table, source: _Source, values: pl.Series, *, begins_names: bool
) -> Callable[[int, str], Row | None]:
    """What makes a row of its number from 0 and its path, without a label yet; None where it shows no picture."""
    if source.kind == "path":
        base = posixpath.dirname(table.path)
        return lambda _, path: Row(_locate(request, base, path), "")
    if source.kind == "pixels":
        pixels = list(pixels_of(values))
        return lambda number, _: (
            None if pixels[number] is None else Row(None, "", name=f"row-{number:05}.png", pixels=pixels[number])
        )
    names = names_of(table.path, source.column, table.type_of(source.column)) or [None] * len(values)
    counts = Counter(names)
    version = version_of(status_of(table.path)[0])
    own = posixpath.basename(table.path)
    prefix = f"{own}/" if begins_names else ""

    def picture(number: int, _: str) -> Row:
        name = names[number]
        called = f"{prefix}{name}" if name and counts[name] == 1 else f"{own}#{number + 1}"
        return Row(None, "", name=called, cell=Cell(table.path, version, source.column, number))

    return picture


def _meaning_of_labels(
    request: Request, table: Table, column: str, values: pl.Series
) -> Callable[[str | None], str | None]:
    """What makes the set's label of a cell: names of classes that the table itself gives count before numbers.

    Raises:
        ConfigError: They are numbers, and neither the table nor the user says what they mean.
    """
    is_parquet = suffix_of(table.path) in PARQUET_SUFFIXES
    names = class_names(table.path, column) if is_parquet and table.type_of(column).is_integer() else None
    if names is None:
        labels = {normalise_label(text) for text in values.unique().drop_nulls()}
        check_numbers(request, labels, "labels", are_its_own=False)
        return lambda text: normalise_label(text) if text else None

    check_numbers(request, names, "classes")  # of numbered folders their names are numbers

    def named(text: str | None) -> str | None:
        if text is None or not 0 <= int(text) < len(names):
            return None
        return names[int(text)]

    return named


def _source(table: Table, chosen: str | None) -> _Source:
    """Where the faces are.

    Raises:
        ConfigError: No column has them by its name.
    """
    with_pictures = [name for name in table.columns if holds_pictures(table.type_of(name))]
    if chosen is None and with_pictures:
        return _Source("picture", column_named(PATH_COLUMNS, with_pictures) or with_pictures[0])
    if chosen is None and column_named(PATH_COLUMNS, table.columns) is None:
        pixels = column_named((_PIXELS,), table.columns)
        if pixels is not None:
            return _Source("pixels", pixels)
    column = _column(table, chosen, PATH_COLUMNS, "path")
    return _Source("picture" if column in with_pictures else "path", column)


def _read_columns(
    table: Table, source: _Source, label_column: str | None, others: Sequence[str]
) -> tuple[pl.DataFrame, BoxColumns | None]:
    """The columns path and label as text, subject and those of `with_boxes` where they are there; and where boxes are.

    Args:
        source: Of pictures the path is the row's number.
        others: Columns to be read as text besides, each as `other` and its name.

    Raises:
        ConfigError: As `Table.read`, or boxes are not in pixels.
    """
    by_name = {name.strip().casefold(): name for name in reversed(table.columns)}
    texts = {"path": source.column, **({"label": label_column} if label_column else {})}
    if "subject" in by_name:
        texts["subject"] = by_name["subject"]
    texts |= {f"other {name}": name for name in others}
    if source.kind == "picture":
        del texts["path"]
    columns = [table.as_text(name).str.strip_chars().alias(new) for new, name in texts.items()]
    if source.kind == "picture":
        columns.append(pl.int_range(1, pl.len() + 1).cast(pl.String).alias("path"))
    found = find_box_columns(table.columns)
    if found is None:
        return table.read(columns), None
    extent = Extent()
    values = with_boxes(table.read([*columns, *box_cells(found, table)]), found, extent)
    found = extent.decide(found)
    if found.is_relative:
        raise ConfigError(f"{table.path!r} has boxes as fractions of the picture: write them in pixels")
    return values, found


def _column(table: Table, chosen: str | None, known: Sequence[str], what: str) -> str:
    there = ", ".join(map(repr, table.columns))
    if chosen is not None:
        if chosen not in table.columns:
            raise ConfigError(f"{table.path!r} has no column {chosen!r}; it has {there}")
        return chosen
    found = column_named(known, table.columns)
    if found is not None:
        return found
    raise ConfigError(
        f"{table.path!r} has no {what} column by name ({', '.join(known)}); it has {there}: "
        f"name it with --{what}-column, or give the table a first line with names"
    )


def _locate(request: Request, base: str, path: str) -> str:
    """A path of the table below its folder or, where it is not there, below the current folder."""
    beside_table = join_path(base, path)
    if path.startswith("/") or request.disk.find(beside_table) is not None:
        return beside_table
    in_current_folder = join_path(Path.cwd().as_posix(), path)
    return in_current_folder if request.disk.find(in_current_folder) is not None else beside_table


# ---- a set in Parquet, as Hugging Face keeps it -----------------------------------------------------------


def _recognise_parquet(request: Request, folder: str) -> Paths:
    """Tables by a word of their name or of their folder's: `test-00000-of-00001.parquet`, `test/0000.parquet`.

    Only those that hold pictures: a table of predictions beside the set has paths and emotions, too.
    """
    found: dict[str, str] = {}
    for path in (folder, *(f"{folder}/{name}" for name in request.disk.folders(folder) if split_named(name))):
        for name in request.disk.files(path):
            if suffix_of(name) in PARQUET_SUFFIXES:
                split = split_of_words(posixpath.splitext(name)[0]) or split_named(posixpath.basename(path))
                if split and any(map(holds_pictures, open_table(f"{path}/{name}", "table").types)):
                    found.setdefault(split, f"{path}/{name}")
                    found[f"{split} {len(found)}"] = f"{path}/{name}"
    return found


def _read_parquet(request: Request, found: Recognised) -> SplitRows:
    split, word, remarks = chosen_split(request, found)
    tables = [path for key, path in found.paths.items() if key.startswith(f"{word} ")]
    dropped: Counter[str] = Counter()
    read = [_rows_in(request, path, dropped, begins_names=len(tables) > 1) for path in tables]
    return SplitRows(
        split=split,
        rows=[row for each in read for row in each.rows],
        faces="given" if any(each.boxes for each in read) else request.card.faces,
        dropped=dropped,
        remarks=remarks,
        from_index=True,
        columns=read[0].columns,
        names_classes=True,
    )


PARQUET = Layout(_recognise_parquet, _read_parquet)
"""Of any set."""
