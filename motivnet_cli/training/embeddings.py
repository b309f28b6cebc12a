"""An output of `annotate` and a table of labels -> the labelled faces, and their embeddings.

The table of faces is read without its embeddings first. Of these only the labelled rows are kept, some thousand being
in memory beside them at a time.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from sklearn.preprocessing import StandardScaler

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.classes import MISSING_LABELS
from motivnet_cli.evaluation.datasets.disk import normalise_label
from motivnet_cli.evaluation.datasets.tables import LABEL_COLUMNS
from motivnet_cli.evaluation.embeddings import embedding_type, read_embeddings
from motivnet_cli.evaluation.matching import pair_images
from motivnet_cli.evaluation.predictions import absolute_paths, names_of, with_forward_slashes
from motivnet_cli.inputs.table import PATH_COLUMNS, column_named, open_table
from motivnet_cli.output.read import read_inputs, read_record, scan_faces
from motivnet_cli.records import BOX_COLUMNS, in_column_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.inputs.table import Table
    from motivnet_cli.records import RunRecord
    from motivnet_cli.training.config import HeadConfig
    from motivnet_cli.training.streamed import EmbeddingFile

    Floats = NDArray[np.float32]
    Ints = NDArray[np.int64]

SUBJECT_COLUMNS = ("subject", "subject_id", "person", "person_id", "participant", "participant_id")
"""Who is shown, where a table of labels has such a column; case, spaces and underscores do not count."""
_KEYS = ("frame", "face", "track")
"""Columns of a table of labels that say which face of an input they mean, as in the output."""
_MAX_EXAMPLES = 3


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LabelledFaces:
    """The N faces of an output that have a label, in its order."""

    rows: Ints
    """[N], row numbers in the table of faces, ascending."""
    names: NDArray[np.object_]
    """[N]: inputs, with frame and number where they have several faces."""
    labels: Ints
    """[N], ids of the classes."""
    classes: tuple[str, ...]
    """The known emotions first, then the others by name."""
    groups: Ints
    """[N]: faces of one number are never on both sides of a fold."""
    group_by: str
    """What a group is: the name of a column, or `input`."""
    folds: Ints | None
    """[N], the fold in which each is held out, from 0; None where the labels do not say."""
    list_sha256: str
    """Of the names and labels."""
    record: RunRecord
    """Of the run that computed the embeddings."""
    dropped: dict[str, int]
    """Labels that no face has, by reason."""
    remarks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def taken(self, indices: Ints) -> LabelledFaces:
        """Some of the faces, by their index, ascending."""
        return replace(
            self,
            rows=self.rows[indices],
            names=self.names[indices],
            labels=self.labels[indices],
            groups=self.groups[indices],
            folds=None if self.folds is None else self.folds[indices],
        )


def read_labelled_faces(config: HeadConfig) -> LabelledFaces:
    """Find the face that each label is of.

    Inputs are matched as `motivnet evaluate` matches predictions with labelled images. A label of an input and no
    column `frame`, `face` or `track` is that of all its frames, in each of which one face may be.

    Raises:
        ConfigError: The output holds no embeddings or no record; the table cannot be read, or lacks a column; a face
            would have two labels, or several faces could be meant; a class cannot be called so; or no face is labelled.
    """
    record = _record_of(config.predictions)
    read = _read_labels(config)
    faces = _read_faces(config.predictions)
    labels = _with_inputs_of(faces, read, record, config)
    keys = ["input", *(name for name in _KEYS if name in labels.columns)]
    _check_agreement(labels, keys, config.labels)
    labels = labels.unique(keys, keep="first", maintain_order=True).with_row_index("of")
    joined = faces.join(labels, on=keys, nulls_equal=True, maintain_order="left")
    if num_lost := len(labels) - joined["of"].n_unique():
        read.dropped["no such face in the output"] = num_lost
        read.remarks.append(f"{num_lost:,} labels are of faces that the output does not have: left out")
    if joined.is_empty():
        known = [key for key in keys if key != "input"] if len(labels) else []  # else no input is there at all
        raise ConfigError(
            f"no label of {config.labels!r} is of a face in {config.predictions!r} ({_reasons(read.dropped)}): the "
            f"labels have {_examples(read.rows, known)}, and the output has {_examples(faces, known)}"
        )
    if not {"face", "track"} & set(keys):
        joined = _one_face_each(joined, read, largest=config.largest_face)
    return _labelled(joined, read, record)


def read_finite(faces: LabelledFaces, output: str) -> tuple[LabelledFaces, Floats]:
    """The faces whose embeddings hold only finite numbers, and these, [N, D].

    Raises:
        ConfigError: There is none.
    """
    values = np.empty((len(faces), embedding_type(output).size), np.float32)  # [N, D]
    start = 0
    for batch in read_embeddings(output, faces.rows):
        values[start : start + len(batch)] = batch
        start += len(batch)
    usable = np.flatnonzero(np.isfinite(values).all(axis=1))
    return _with_usable(faces, usable, output), values if len(usable) == len(faces) else values[usable]


def write_finite(
    faces: LabelledFaces, output: str, embeddings: EmbeddingFile, *, on_batch: Callable[[int], None]
) -> tuple[LabelledFaces, StandardScaler]:
    """Write embeddings to a file where they hold only finite numbers.

    Args:
        on_batch: Called before each few thousand faces with the number of those that are done.

    Returns:
        The faces of the file, and what standardises its embeddings.

    Raises:
        ConfigError: There is none.
    """
    usable: list[Ints] = []
    scaler = StandardScaler()
    start = 0
    for batch in read_embeddings(output, faces.rows):
        on_batch(start)
        own = np.flatnonzero(np.isfinite(batch).all(axis=1))
        if len(own):
            embeddings.append(batch[own])
            scaler.partial_fit(batch[own])
        usable.append(start + own)
        start += len(batch)
    return _with_usable(faces, np.concatenate(usable), output), scaler


def _with_usable(faces: LabelledFaces, usable: Ints, output: str) -> LabelledFaces:
    """Those whose embeddings are finite, by their index.

    Raises:
        ConfigError: There is none.
    """
    num_bad = len(faces) - len(usable)
    if not num_bad:
        return faces
    if num_bad == len(faces):
        raise ConfigError(f"no labelled face in {output!r} has an embedding of finite numbers: predict again")
    remark = f"the embeddings of {num_bad:,} labelled faces are missing or not finite: left out"
    kept = faces.taken(usable)
    dropped = faces.dropped | {"embedding missing or not finite": num_bad}
    return replace(kept, dropped=dropped, remarks=(*faces.remarks, remark))


# ---- the output -------------------------------------------------------------------------------------------


def _record_of(output: str) -> RunRecord:
    """The record of the run, which must say how the embeddings were made.

    Raises:
        ConfigError: It does not, or there are no embeddings.
    """
    record = read_record(output)
    embedding_type(output)
    if not record.get("weights_sha256") or "model.flip" not in record.get("settings", {}):
        raise ConfigError(
            f"{output!r} does not say which model its embeddings are of: give an output of motivnet annotate"
        )
    return record


def _read_faces(output: str) -> pl.DataFrame:
    """`row`, `input`, `frame`, `face`, `track` where it is there, and `area`, in square pixels."""
    table = scan_faces(output)
    tracks = ["track"] if "track" in table.collect_schema() else []
    x1, y1, x2, y2 = map(pl.col, BOX_COLUMNS)
    faces = table.select("input", "frame", "face", *tracks, ((x2 - x1) * (y2 - y1)).alias("area")).collect()
    names = faces["input"].unique(maintain_order=True)
    normal = pl.Series([posixpath.normpath(name) for name in names.to_list()], dtype=pl.String)
    whole = pl.col("frame", "face", *tracks).cast(pl.Int64)
    return faces.with_columns(pl.col("input").replace_strict(names, normal), whole).with_row_index("row")


def _one_face_each(joined: pl.DataFrame, read: _Labels, *, largest: bool) -> pl.DataFrame:
    """One face for each label of a picture or frame.

    Raises:
        ConfigError: Several are there, and the largest is not meant.
    """
    place = ["input", "frame"]
    several = joined.group_by(place, maintain_order=True).len().filter(pl.col("len") > 1)
    if several.is_empty():
        return joined
    if not largest:
        name, frame, count = several.row(0)
        where = repr(name) if frame is None else f"frame {frame} of {name!r}"
        raise ConfigError(
            f"{count} faces are in {where}, and the labels do not say which they mean (pictures or frames in which "
            f"this is so: {len(several):,}): give them a column face, as the output has it, or say --largest-face"
        )
    read.remarks.append(f"several faces in a picture or frame, {len(several):,} times: the largest has the label")
    return joined.filter(pl.col("area").rank("ordinal", descending=True).over(place) == 1)


# ---- the labels -------------------------------------------------------------------------------------------


class _Labels(NamedTuple):
    """A table of labels, as far as it was understood."""

    rows: pl.DataFrame
    """`input`, `label`, `group` and `fold` as text, and whole numbers `frame`, `face`, `track`; the last five where the
    table has them."""
    group_by: str
    dropped: Counter[str]
    """Labels that no face has, by reason."""
    remarks: list[str]


def _read_labels(config: HeadConfig) -> _Labels:
    """The rows that have a label.

    Raises:
        ConfigError: The table cannot be read, a column is missing, or a row has no input or fold.
    """
    table = open_table(config.labels, "table of labels")
    path = _column(table, config.path_column, PATH_COLUMNS, "inputs", "--path-column")
    label = _column(table, config.label_column, LABEL_COLUMNS, "labels", "--label-column")
    group = _group_column(table, config, label)
    columns = [table.as_text(path).alias("input"), table.as_text(label).alias("label")]
    columns += [table.as_text(found).alias(key) for key in _KEYS if (found := column_named([key], table.columns))]
    columns.append((table.as_text(group) if group else pl.lit(None, pl.String)).alias("group"))
    if config.fold_column:
        columns.append(table.as_text(_named(table, config.fold_column)).alias("fold"))
    every = table.read(columns)
    numbers = [_whole_numbers(every[key], config.labels) for key in _KEYS if key in every.columns]
    every = every.with_columns(_class_names(every["label"]), *numbers)
    rows = every.filter(pl.col("label").is_not_null())
    if rows.is_empty():
        raise ConfigError(f"no row of {config.labels!r} has a label in its column {label!r}")
    for name, column in (("input", path), ("fold", config.fold_column)):
        if name in rows.columns and (num_without := rows[name].null_count()):
            raise ConfigError(f"{num_without:,} labels of {config.labels!r} have no {column!r}: every label needs one")
    read = _Labels(rows, group or "input", Counter(), [])
    if num_missing := len(every) - len(rows):
        read.dropped["no label"] = num_missing
        read.remarks.append(f"{num_missing:,} rows of {config.labels!r} have no label: left out")
    if group and (num_without := rows["group"].null_count()):
        read.remarks.append(f"the {group} of {num_without:,} labels is not named: their inputs are groups of their own")
    return read


def _column(table: Table, given: str | None, usual: Sequence[str], what: str, option: str) -> str:
    """A column that is given, or has a usual name.

    Raises:
        ConfigError: There is none.
    """
    if given is not None:
        return _named(table, given)
    found = column_named(usual, table.columns)
    if found is None:
        raise ConfigError(
            f"{table.path!r} has no column of {what} with a usual name ({', '.join(usual[:6])}, ...): name one of "
            f"{', '.join(table.columns)} with {option}"
        )
    return found


def _named(table: Table, name: str) -> str:
    if name not in table.columns:
        raise ConfigError(f"{table.path!r} has no column {name!r}; it has {', '.join(table.columns)}")
    return name


def _group_column(table: Table, config: HeadConfig, label: str) -> str | None:
    """The column of groups; None where the input is the group."""
    if config.group_by == "input":
        return None
    if config.group_by is not None:
        return _named(table, config.group_by)
    found = column_named(SUBJECT_COLUMNS, table.columns)
    return None if found == label else found  # where persons are the classes


def _class_names(cells: pl.Series) -> pl.Series:
    """The labels as they are compared: no spaces around them, whole numbers without decimals; null where there is none.

    Where a cell is missing, programs write the whole numbers of a column as 1.0.
    """
    given = cells.unique().drop_nulls().to_list()
    names = (normalise_label(cell.strip()) for cell in given)
    known = pl.Series([None if name.lower() in MISSING_LABELS else name for name in names], dtype=pl.String)
    named: pl.Series = cells.replace_strict(given, known)
    return named


def _whole_numbers(cells: pl.Series, path: str) -> pl.Series:
    """Frames, faces or tracks; null where there is none.

    Raises:
        ConfigError: One is no whole number.
    """
    text = cells.str.strip_chars()
    given = pl.DataFrame({"text": text.set(text.str.to_lowercase().is_in(list(MISSING_LABELS)), None)})
    number = pl.col("text").cast(pl.Float64, strict=False)
    is_whole = number.is_finite() & (number == number.round())
    read = given.with_columns(pl.when(is_whole).then(number.cast(pl.Int64, strict=False)).alias(cells.name))
    bad = read.filter(pl.col("text").is_not_null() & pl.col(cells.name).is_null())
    if len(bad):
        raise ConfigError(
            f"{path!r} has the {cells.name} {bad['text'][0]!r}: expected a whole number, as in the output's column "
            f"{cells.name}"
        )
    return read[cells.name]


class _Predicted(NamedTuple):
    """The inputs of an output, as `pair_images` takes them."""

    images: list[str]
    paths: list[str | None]


def _with_inputs_of(faces: pl.DataFrame, read: _Labels, record: RunRecord, config: HeadConfig) -> pl.DataFrame:
    """The labels with inputs as the output names them; those whose input it does not have are counted and left out."""
    given = read.rows["input"].unique(maintain_order=True).to_list()
    found = _inputs_found(faces, given, record, config)
    named = [found.get(name) for name in given]
    labels = read.rows.with_columns(pl.col("input").replace_strict(given, pl.Series(named, dtype=pl.String)))
    if num_lost := labels["input"].null_count():
        read.dropped["input not in the output, or several could be meant"] = num_lost
        read.remarks.append(
            f"{num_lost:,} labels are of inputs that the output does not have, or that could be several: left out"
        )
    return labels.filter(pl.col("input").is_not_null())


def _inputs_found(faces: pl.DataFrame, given: list[str], record: RunRecord, config: HeadConfig) -> dict[str, str]:
    """The input of the output that each name of the labels means."""
    absolute, folder = absolute_paths(record["settings"]), str(Path(config.labels).absolute().parent)
    there = faces["input"].unique().to_list()
    if set(there).issuperset(given):  # as where the labels were made from the output
        by_path = {absolute(name): name for name in there}
        # From the folder of the labels a name may be that of another input.
        return {name: name for name in given if by_path.get(posixpath.join(folder, name), name) == name}
    images = list(
        dict.fromkeys([*faces["input"].unique(maintain_order=True), *names_of(read_inputs(config.predictions))])
    )
    names = {name: with_forward_slashes(name) for name in given}
    unique = list(dict.fromkeys(names.values()))
    pairs = pair_images(
        _Predicted(images, [absolute(name) for name in images]),
        unique,
        [posixpath.join(folder, name) for name in unique],
    )
    found = {unique[labelled]: images[image] for labelled, image in pairs.found.items()}
    return {name: found[normal] for name, normal in names.items() if normal in found}


def _check_agreement(labels: pl.DataFrame, keys: list[str], path: str) -> None:
    """Refuse labels that say two things of one face.

    Raises:
        ConfigError: Some do.
    """
    said = [name for name in ("label", "group", "fold") if name in labels.columns]
    twice = (
        labels.unique([*keys, *said])
        .group_by(keys, maintain_order=True)
        .agg(pl.col(said))
        .filter(pl.col("label").list.len() > 1)
    )
    if len(twice):
        first = twice.row(0, named=True)
        differs = next(name for name in said if len(set(first[name])) > 1)
        raise ConfigError(
            f"{path!r} says two things of {len(twice):,} faces or inputs: {first['input']!r} has the {differs} "
            f"{' and '.join(map(repr, sorted(map(str, set(first[differs])))))}. Leave one, or name faces by frame, "
            "face or track"
        )


# ---- what comes out ---------------------------------------------------------------------------------------


def _labelled(joined: pl.DataFrame, read: _Labels, record: RunRecord) -> LabelledFaces:
    """The faces with their labels, the classes and groups numbered.

    Raises:
        ConfigError: Two classes differ in the case of letters only, or a group is in two folds.
    """
    classes = in_column_order(sorted(joined["label"].unique().to_list()))
    folded = [name.casefold() for name in classes]
    if same := [name for name in classes if folded.count(name.casefold()) > 1]:
        raise ConfigError(f"the classes {' and '.join(map(repr, same))} differ in the case of letters only: spell one")
    group = pl.coalesce(pl.lit("column ") + pl.col("group"), pl.lit("input ") + pl.col("input"))
    named = joined.select(pl.concat_str("input", pl.col("frame").fill_null(-1), "face", "label", separator="\t"))
    text = "\n".join(named.to_series().to_list())
    if "fold" in joined.columns:
        _check_folds(joined.with_columns(group.alias("whole")), read.group_by)
    corruption = record["settings"].get("loader.corruption")
    if isinstance(corruption, list):
        read.remarks.append(f"the embeddings are of corrupted pictures ({' '.join(map(str, corruption))})")
    ids = dict(zip(classes, range(len(classes)), strict=True))
    frame, number = (pl.format(f", {name} {{}}", name).fill_null("") for name in ("frame", "face"))
    several = pl.len().over("input", "frame") > 1
    names = joined.select(
        pl.concat_str("input", frame, pl.when(several).then(number).otherwise(pl.lit("")))
    ).to_series()
    return LabelledFaces(
        names=names.to_numpy().astype(object),
        rows=joined["row"].to_numpy().astype(np.int64),
        labels=joined["label"].replace_strict(ids, return_dtype=pl.Int64).to_numpy(),
        classes=classes,
        groups=_numbered(joined.select(group).to_series()),
        group_by=read.group_by,
        folds=_numbered(joined["fold"]) if "fold" in joined.columns else None,
        list_sha256=hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest(),
        record=record,
        dropped={reason: count for reason, count in read.dropped.items() if count},
        remarks=tuple(read.remarks),
    )


def _check_folds(joined: pl.DataFrame, group_by: str) -> None:
    """Refuse folds that share a group: a head would be judged by what it learned.

    Raises:
        ConfigError: Some do, or there is one fold.
    """
    if joined["fold"].n_unique() < 2:
        raise ConfigError(f"all labelled faces are of the fold {joined['fold'][0]!r}: at least two folds are needed")
    shared = joined.group_by("whole", maintain_order=True).agg(pl.col("fold").unique().sort())
    shared = shared.filter(pl.col("fold").list.len() > 1)
    if len(shared):
        whole, folds = shared.row(0)
        raise ConfigError(
            f"{len(shared):,} groups are in several folds, such as the {group_by} {whole.partition(' ')[2]!r} in "
            f"{' and '.join(map(repr, folds))}: faces of one {group_by} belong in one fold (--group-by says what a "
            "group is)"
        )


def _numbered(names: pl.Series) -> Ints:
    """[N]: a number from 0 for each name."""
    return names.rank("dense").to_numpy().astype(np.int64) - 1


def _reasons(dropped: Counter[str]) -> str:
    return ", ".join(f"{count:,}: {reason}" for reason, count in dropped.items() if count) or "no row has a label"


def _examples(rows: pl.DataFrame, keys: list[str]) -> str:
    """The first inputs, with their `frame`, `face` or `track`."""
    first = rows.select("input", *keys).unique(maintain_order=True).head(_MAX_EXAMPLES)
    numbered = ((name, zip(keys, numbers, strict=True)) for name, *numbers in first.iter_rows())
    return ", ".join(
        " ".join([repr(name), *(f"{k} {'none' if n is None else n}" for k, n in ns)]) for name, ns in numbered
    )
