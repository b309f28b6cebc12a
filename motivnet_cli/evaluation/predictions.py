"""Predictions of motivnet or another tool, read from their tables: rows in our order of emotions, and their images.

Nothing here opens a picture or runs a network. Columns are found by name, never by their position. Whatever is not
used or was changed is counted, and named in `remarks`.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.answers import NO_LABEL, Answers, boxes_in, distributions_in, labels_in
from motivnet_cli.evaluation.datasets.classes import CONTEMPT, SYNONYMS, emotion_named
from motivnet_cli.evaluation.results import to_json
from motivnet_cli.inputs.box_columns import find_box_columns
from motivnet_cli.inputs.names import kind_of, printable
from motivnet_cli.inputs.table import (
    PARQUET_SUFFIXES,
    PATH_COLUMNS,
    TABLE_SUFFIXES,
    column_named,
    open_table,
    read_parquet_folder,
    squeezed,
)
from motivnet_cli.output.read import read_faces, read_inputs, read_record
from motivnet_cli.records import EMOTIONS
from motivnet_cli.remote.urls import is_remote, local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.evaluation.results import JSON

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

TableKind = Literal["csv", "jsonl", "parquet"]

LABEL_COLUMNS = ("dominant_emotion", "predicted_emotion", "predicted_label", "prediction", "predicted", "pred")
"""Whoever names a column so means the predicted label."""
UNSURE_LABEL_COLUMNS = ("emotion", "label", "expression", "class", "facial_expression")
"""A column that is named so is taken if it is the only one that could be: it may be the truth."""
_TRUTH = frozenset({"true", "truth", "gt", "ground", "target", "actual", "real", "annotated", "annotation", "gold"})
"""Words in the name of a column of true labels."""
_DECORATION = frozenset(
    {"p", "prob", "probs", "probability", "probabilities", "score", "scores", "emotion", "emotions", "expression"}
    | {"conf", "confidence", "percent", "pct", "pred", "predicted", "softmax"}
)
"""Words around an emotion in a column's name, as in `prob_happy`, `emotion.happy` or `Happy (percent)`."""
FRAME_COLUMNS = (
    "frame",
    "frame_number",
    "frame_num",
    "frame_no",
    "frame_id",
    "frame_index",
    "frame_idx",
    "time_s",
    "timestamp",
)
"""Which frame of a video a row is of."""
_ORIGIN_KEYS = ("tool", "model", "weights_sha256", "recipe", "precision", "faces", "terms", "settings")
"""What of a run's record says where its predictions come from."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Predictions:
    """What a tool predicted for the faces of some images: R rows of I images."""

    source: str
    kind: Literal["motivnet"] | TableKind
    images: tuple[str, ...]
    """Each once, with forward slashes, in order of first appearance."""
    paths: tuple[str | None, ...]
    """Absolute paths, where they are known."""
    misses: tuple[str | None, ...]
    """Why an image has no row: `no face was found`, an error type or else the status of a run's input, `empty row`,
    `row that lacks values` or `contempt`; None where it has one."""
    image_of: Ints
    """[R], the image of each row."""
    classes: tuple[str, ...]
    """The C that were asked for."""
    predicted: Ints
    """[R], ids of these classes."""
    probabilities: Floats | None
    """[R, C] in that order, rows sum to 1; None where the tool gives labels only."""
    boxes: Floats | None
    """[R, 4] x1, y1, x2, y2 in pixels, NaN where a row has none; None where no row has."""
    columns: dict[str, str]
    """Which column was taken for `path`, each emotion or `label`, and `frame` if one was."""
    origin: dict[str, JSON]
    """Of a run of motivnet: its table, tool, model, weights, recipe, faces, terms and settings, as far as they are
    recorded. Of another tool: its table and the columns that were taken."""
    remarks: tuple[str, ...]
    """What was left out, rescaled or guessed, a sentence each."""
    doubts: tuple[str, ...]
    """Those of the remarks that a reader of the figures must know first: the table contradicts itself."""
    frame_of: Ints | None = None
    """[R], tells the frames of one image apart; None where they were not asked for."""
    num_frames: Ints | None = None
    """[I], how many frames of each image were looked at; None where they were not asked for."""
    sizes: tuple[int | None, ...] | None = None
    """[I], bytes of each image's file when it was predicted, where they are known; None where none is."""


def read_predictions(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    classes: tuple[str, ...] = EMOTIONS,
    with_videos: bool = False,
) -> Predictions:
    """Read an output of `annotate`, or another tool's `.csv`, `.tsv`, `.jsonl` or `.parquet` (or folder of these).

    Another tool's table has one row a face: a path column, and either seven columns named after the emotions, as
    probabilities or percent, or a column of labels by name; of both, the probabilities count. A row without values is
    a miss. Probabilities beside the seven (contempt) are left out and the seven normalised.

    Args:
        columns: Names of columns that are not found by themselves, under `path`, `label` or an emotion.
        classes: The seven emotions, or these and contempt, which is then kept; where the table has no column of it,
            its probability is 0. Of an output of `annotate`, also those that its model has in their place.
        with_videos: Keep rows of videos, and say which frame each row is of. A table that has none of FRAME_COLUMNS
            has a frame in every row.

    Raises:
        ConfigError: Nothing is there, it cannot be read, or a column is missing, ambiguous or holds other values.
    """
    name = path = local_path(str(path))
    if not Path(path).exists():
        raise ConfigError(f"no predictions at {name!r}: give the output of motivnet annotate, or another tool's table")
    if not columns and _is_output(name):
        return _read_output(name, classes, with_videos=with_videos)
    kind, table = _read_table(Path(path))
    return _read_columns(name, kind, table, columns or {}, classes, with_videos=with_videos)


def recorded_classes(path: str) -> tuple[str, ...] | None:
    """The classes of the model whose output this is; None of another tool's table, which has no record of them."""
    return tuple(read_record(path)["classes"]) if Path(path).exists() and _is_output(path) else None


def names_apart(paths: Sequence[str]) -> list[str]:
    """A short name for each table: the end of its path that no other has, of as few components as do for all.

    Raises:
        ConfigError: A table is named twice.
    """
    parts = [posixpath.normpath(path).split("/") for path in paths]
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    if paths:
        twice = next(path for path, own in zip(paths, parts, strict=True) if parts.count(own) > 1)
        raise ConfigError(f"the predictions {twice!r} are given twice: give each table once")
    return []


def _is_output(path: str) -> bool:
    try:
        return "settings" in read_record(path)
    except ConfigError:
        return False


# ---- outputs of motivnet ----------------------------------------------------------------------------------


def _read_output(path: str, classes: tuple[str, ...], *, with_videos: bool) -> Predictions:
    record = read_record(path)
    there = record["classes"]
    if not there:
        raise ConfigError(f"{path!r} holds no emotions: {record['model']} only describes faces; run another model")
    if lacking := [name for name in classes if name not in (*there, CONTEMPT)]:
        raise ConfigError(
            f"{path!r} has the classes {', '.join(there)} and lacks {', '.join(lacking)}: predictions are "
            "scored by the classes of their model"
        )
    kinds = ("image", "video") if with_videos else ("image",)
    faces, inputs = read_faces(path).drop("embedding", strict=False), read_inputs(path)
    remarks = []
    if not with_videos and (num_frames := faces["frame"].is_not_null().sum()):
        remarks.append(f"{num_frames} rows are of videos: left out")
        faces = faces.filter(pl.col("frame").is_null())
    recorded = {key: to_json(value) for key, value in record.items()}
    answers = distributions_in(faces, {name: name for name in there}, path, classes)
    corruption = record["settings"].get("loader.corruption")
    if isinstance(corruption, list):
        answers.doubts.append(f"{path!r} holds predictions of corrupted pictures ({' '.join(map(str, corruption))})")
    remarks += [*answers.doubts, *answers.remarks]
    return _assemble(  # the label of an output is checked by `verify`
        names_of(faces),
        answers,
        misses=_misses_in(inputs.filter(pl.col("kind").cast(pl.String).is_in(kinds))),
        absolute=absolute_paths(record["settings"]),
        source=path,
        kind="motivnet",
        classes=classes,
        boxes=boxes_in(faces),
        columns={"path": "input", **{name: name for name in classes if name in there}},
        origin={"table": path, **{key: recorded[key] for key in _ORIGIN_KEYS if key in recorded}},
        remarks=remarks,
        frames=faces["frame"].fill_null(0).to_numpy() if with_videos else None,
        looked_at=dict(zip(names_of(inputs), inputs["frames"].fill_null(0).to_list(), strict=True)),
        sizes=_sizes_in(inputs),
    )


def _sizes_in(inputs: pl.DataFrame) -> dict[str, int]:
    """Bytes of each input's file, where the run knew them; not of members of archives, which are no files."""
    files = inputs.filter(pl.col("size_bytes").is_not_null() & pl.col("archive").is_null())
    return dict(zip(names_of(files), files["size_bytes"].to_list(), strict=True))


def _misses_in(inputs: pl.DataFrame) -> dict[str, str]:
    """Why an input of a run would have no row, for each of these inputs in their order."""
    statuses, error_types = inputs["status"].cast(pl.String).to_list(), inputs["error_type"].to_list()
    return {
        name: error_type or ("no face was found" if status == "no_face" else status)
        for name, status, error_type in zip(names_of(inputs), statuses, error_types, strict=True)
    }


def names_of(table: pl.DataFrame) -> list[str]:
    """The inputs of an output's rows, without `./`."""
    return [posixpath.normpath(name) for name in table["input"].to_list()]


def absolute_paths(settings: Mapping[str, object]) -> Callable[[str], str | None]:
    """How the names of a run become absolute paths: by the folder that they are relative to, or because they are."""
    if isinstance(start := settings.get("inputs.relative_to"), str):
        return lambda name: _if_absolute(name) if is_remote(name) else posixpath.join(printable(start), name)
    given = settings.get("inputs.paths")
    has_others = any(settings.get(f"inputs.{name}") for name in ("files_from", "files0_from", "manifests"))
    folder = printable(given[0]) if isinstance(given, list) and len(given) == 1 and not has_others else None

    def absolute(name: str) -> str | None:
        if folder is None or name.startswith("/"):
            return _if_absolute(name)
        return folder if ends_with(folder, name) else posixpath.join(folder, name)

    return absolute


# ---- tables of other tools --------------------------------------------------------------------------------


def _read_table(path: Path) -> tuple[TableKind, pl.DataFrame]:
    if path.is_dir():
        return "parquet", read_parquet_folder(path)
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        expected = ".parquet, .csv, .tsv, .jsonl or .ndjson"
        raise ConfigError(f"predictions are read from {expected}, or a folder of .parquet; got {str(path)!r}")
    table = open_table(str(path), "table of predictions").read([pl.all()])
    if suffix in PARQUET_SUFFIXES:
        return "parquet", table
    return ("csv", table) if suffix in (".csv", ".tsv") else ("jsonl", _unnest(table))


def _unnest(table: pl.DataFrame) -> pl.DataFrame:
    """Objects within a line become columns, named `outer.inner`."""
    while nested := [name for name, kind in table.schema.items() if isinstance(kind, pl.Struct)]:
        table = table.unnest(nested, separator=".")
    return table


def _read_columns(
    path: str,
    kind: TableKind,
    table: pl.DataFrame,
    given: Mapping[str, str],
    classes: tuple[str, ...],
    *,
    with_videos: bool,
) -> Predictions:
    found = _find_columns(path, table, given)
    names = table[found["path"]].cast(pl.String).fill_null("").to_list()
    if "" in names:
        raise ConfigError(f"row {names.index('') + 1} of {path!r} has no {found['path']!r}: every row needs a name")
    label = None if "label" in found else _sure_label_column(path, table)
    if "label" in found:
        answers = labels_in(table[found["label"]], path, classes)
    else:
        emotions = {name: column for name, column in found.items() if name != "path"}
        answers = distributions_in(table, emotions, path, classes, label=label)
    remarks = [*answers.doubts, *answers.remarks]
    box_columns, boxes = find_box_columns(table.columns), boxes_in(table)
    frame_column = column_named(FRAME_COLUMNS, table.columns) if with_videos else None
    used = {*found.values(), label, *(box_columns.names if box_columns and boxes is not None else ()), frame_column}
    if others := [name for name in table.columns if name not in used]:
        more = f" and {len(others) - 10} more" if len(others) > 10 else ""
        remarks.append(f"columns not used: {', '.join(others[:10])}{more}")
    if frame_column is not None:
        found |= {"frame": frame_column}
    return _assemble(
        [with_forward_slashes(name) for name in names],
        answers,
        misses={},
        absolute=_if_absolute,
        source=path,
        kind=kind,
        classes=classes,
        boxes=boxes,
        columns=found,
        origin={"tool": "another tool", "table": path, "columns": to_json(found)},
        remarks=remarks,
        frames=_frames_in(table, frame_column, names, path) if with_videos else None,
    )


def _frames_in(table: pl.DataFrame, column: str | None, names: list[str], path: str) -> Ints:
    """Numbers that tell the frames of one video apart: [R]; 0 for a picture, which is one frame."""
    frames = np.arange(len(table))
    if column is not None:
        values = table[column].cast(pl.String).fill_null("").to_list()
        rows_of = Counter(names)
        for row, (name, value) in enumerate(zip(names, values, strict=True), 1):
            if not value and rows_of[name] > 1 and kind_of(name) != "image":
                raise ConfigError(f"row {row} of {path!r} has no {column!r}: every row of a clip needs its frame")
        frames = np.unique(np.array(values, np.str_), return_inverse=True)[1]
    return np.where([kind_of(name) == "image" for name in names], 0, frames).astype(np.int64)


def _find_columns(path: str, table: pl.DataFrame, given: Mapping[str, str]) -> dict[str, str]:
    """The columns of `path`, and of the seven emotions (with `contempt` if there) or of `label`."""
    columns = table.columns
    for role, column in given.items():
        if role not in ("path", "label", "contempt", *EMOTIONS):
            raise ConfigError(f"unknown column role {role!r}: expected path, label or one of {', '.join(EMOTIONS)}")
        if column not in columns:
            raise ConfigError(f"{path!r} has no column {column!r} for {role}; it has {', '.join(columns)}")
    path_column = given.get("path") or _path_column(path, columns)
    if "label" in given:
        return {"path": path_column, "label": given["label"]}
    emotions = _emotion_columns(path, columns, given)
    if set(EMOTIONS) <= set(emotions):
        known = {name: emotions[name] for name in (*EMOTIONS, "contempt") if name in emotions}
        return {"path": path_column, **known}
    lacking = [name for name in EMOTIONS if name not in emotions]
    return {"path": path_column, "label": _label_column(path, table, path_column, lacking)}


def _path_column(path: str, columns: list[str]) -> str:
    found = column_named(PATH_COLUMNS, columns)
    if found is None:
        raise ConfigError(f"{path!r} has no path column, one of {', '.join(PATH_COLUMNS)}; it has {', '.join(columns)}")
    return found


def _emotion_columns(path: str, columns: list[str], given: Mapping[str, str]) -> dict[str, str]:
    """The column of each emotion that one is named after, or that is given."""
    candidates: dict[str, list[str]] = defaultdict(list)
    for name in columns:
        words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and word not in _DECORATION]
        if len(words) == 1 and words[0] in SYNONYMS:
            candidates[SYNONYMS[words[0]]].append(name)
    for emotion, names in candidates.items():
        if emotion not in given and len(names) > 1:
            raise ConfigError(
                f"columns {' and '.join(names)} of {path!r} may all be {emotion}: rename or remove the others"
            )
    found = {emotion: names[0] for emotion, names in candidates.items()}
    return found | {role: column for role, column in given.items() if role != "path"}


def _sure_label_column(path: str, table: pl.DataFrame) -> str | None:
    """The column whose name says that it holds the predicted label: of words rather than numbers.

    Raises:
        ConfigError: Several do, and say different things.
    """
    named = [name for word in LABEL_COLUMNS for name in table.columns if squeezed(name) == squeezed(word)]
    words = [name for name in named if _labels_of(table[name])] or named
    differing = [name for name in words[1:] if _labels_of(table[name]) != _labels_of(table[words[0]])]
    if differing:
        raise ConfigError(_both_labels(path, [words[0], differing[0]]))
    return words[0] if words else None


def _label_column(path: str, table: pl.DataFrame, path_column: str, lacking: list[str]) -> str:
    if sure := _sure_label_column(path, table):
        return sure
    unsure = {squeezed(name) for name in UNSURE_LABEL_COLUMNS}
    possible = [name for name in table.columns if squeezed(name) in unsure]
    if possible:
        rivals = [
            name
            for name in table.columns
            if name not in (path_column, *possible)
            and not _TRUTH & set(re.split(r"[^a-z]+", name.lower()))
            and any(_labels_of(table[name]) or ())
        ]
        if len(possible) + len(rivals) > 1:
            raise ConfigError(_both_labels(path, [*possible, *rivals]))
        return possible[0]
    raise ConfigError(
        f"{path!r} has no column for {', '.join(lacking)}, and none of labels ({', '.join(LABEL_COLUMNS)}); "
        f"it has {', '.join(table.columns)}"
    )


def _labels_of(column: pl.Series) -> list[str | None] | None:
    """The emotion that each cell names, None for one that names none by intent; None where cells hold other things."""
    if column.dtype.is_numeric() or column.dtype.is_nested():
        return None
    texts = [text.strip() for text in column.cast(pl.String).fill_null("").to_list()]
    labels = [emotion_named(text) for text in texts]
    is_label = all(label or text.lower() in NO_LABEL for text, label in zip(texts, labels, strict=True))
    return labels if is_label else None


def _both_labels(path: str, columns: list[str]) -> str:
    return (
        f"columns {' and '.join(columns)} of {path!r} may all be the predicted label: say which one is meant, by "
        "naming it pred"
    )


# ---- rows to images ---------------------------------------------------------------------------------------


def _assemble(
    names: list[str],
    answers: Answers,
    *,
    misses: Mapping[str, str],
    absolute: Callable[[str], str | None],
    source: str,
    kind: Literal["motivnet"] | TableKind,
    classes: tuple[str, ...],
    boxes: Floats | None,
    columns: dict[str, str],
    origin: dict[str, JSON],
    remarks: list[str],
    frames: Ints | None = None,
    looked_at: Mapping[str, int] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Predictions:
    """Number the images, and keep the rows that say something.

    Args:
        names: [R], the image of each row.
        misses: Images that may have no row, each with the reason.
        absolute: Name of an image -> its absolute path, if that is known.
        frames: [R], the frame of each row; None where they were not asked for.
        looked_at: How many frames of an image were looked at, where that is known beside its rows.
        sizes: Bytes of an image's file, where they are known.
    """
    numbers: dict[str, int] = {name: number for number, name in enumerate(misses)}
    image_of = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)  # [R]
    is_kept = np.array([reason is None for reason in answers.reasons], np.bool_)
    reasons: list[str | None] = [None] * len(numbers)
    for name, reason in [*misses.items(), *zip(names, answers.reasons, strict=True)]:
        reasons[numbers[name]] = reason or reasons[numbers[name]]
    for number in np.unique(image_of[is_kept]):
        reasons[number] = None
    return Predictions(
        source=source,
        kind=kind,
        images=tuple(numbers),
        paths=tuple(absolute(name) for name in numbers),
        misses=tuple(reasons),
        image_of=image_of[is_kept],
        classes=classes,
        predicted=answers.predicted[is_kept],
        probabilities=None if answers.probabilities is None else answers.probabilities[is_kept],
        boxes=None if boxes is None else boxes[is_kept],
        columns=columns,
        origin={**origin, "remarks": to_json(remarks)},
        remarks=tuple(remarks),
        doubts=tuple(answers.doubts),
        frame_of=None if frames is None else frames[is_kept],
        sizes=None if sizes is None else tuple(map(sizes.get, numbers)),
        num_frames=None if frames is None else _num_frames(numbers, image_of, frames, looked_at or {}),
    )


def _num_frames(numbers: Mapping[str, int], image_of: Ints, frames: Ints, looked_at: Mapping[str, int]) -> Ints:
    """How many frames of each image were looked at, those without a face among them: [I]."""
    in_rows = np.bincount(np.unique(np.stack([image_of, frames], axis=1), axis=0)[:, 0], minlength=len(numbers))
    return np.maximum(in_rows, [looked_at.get(name, 0) for name in numbers]).astype(np.int64)


def with_forward_slashes(name: str) -> str:
    """Without `./`, and with `/` for `\\` in names that have no `/`: tables come from Windows, too."""
    return posixpath.normpath(name if "/" in name else name.replace("\\", "/"))


def _if_absolute(name: str) -> str | None:
    return name if name.startswith("/") else None


def ends_with(path: str, name: str) -> bool:
    """Whether the path's last components are the name."""
    return path == name or path.endswith("/" + name)
