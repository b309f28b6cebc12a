"""Predictions made before, by motivnet or another tool -> rows in our order of emotions, matched to labelled images.

This room knows tables and names; it opens no picture and runs no network. Columns are found by name, never by
their place. Whatever is not used, cannot be matched or was changed is counted and said.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from motivnet_cli.errors import ConfigError, first_line
from motivnet_cli.evaluation.datasets.cards import SYNONYMS
from motivnet_cli.inputs.names import printable
from motivnet_cli.output.read import read_faces, read_inputs, read_record
from motivnet_cli.records import BOX_COLUMNS, EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    _Keys = Callable[[int], list[str]]
    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


PATH_COLUMNS = ("path", "file_path", "image_path", "img_path", "file", "filename", "file_name", "image", "image_name")
"""And the last resorts `img`, `input` and `name`; letters' case, spaces and underscores do not count."""
LABEL_COLUMNS = ("dominant_emotion", "predicted_emotion", "predicted_label", "prediction", "predicted", "pred")
"""A column `emotion`, `label`, `expression` or `class` is taken if it is the only one: it may be the truth."""
NAMED = 100
"""How many names of each kind are kept."""
_EMOTION_OF = {**SYNONYMS, "contempt": "contempt", "contemptuous": "contempt"}
_DECORATION = frozenset(
    {"p", "prob", "probs", "probability", "probabilities", "score", "scores", "emotion", "emotions", "expression"}
    | {"conf", "confidence", "percent", "pct", "pred", "predicted", "softmax"}
)
"""Words around an emotion in a column's name, as in `prob_happy`, `emotion.happy` or `Happy (percent)`."""
_NO_LABEL = frozenset({"", "none", "nan", "null", "na", "n/a", "unknown", "no face", "no_face", "noface"})
_CORNERS = (BOX_COLUMNS, ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
_SIZES = (
    ("facerectx", "facerecty", "facerectwidth", "facerectheight"),
    ("regionx", "regiony", "regionw", "regionh"),
    ("facialareax", "facialareay", "facialareaw", "facialareah"),
    ("x", "y", "w", "h"),
)
EMPTY_ROW = "empty row"


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What some tool said of the faces of some images; R rows of I images."""

    source: str
    kind: Literal["motivnet", "csv", "jsonl", "parquet"]
    images: tuple[str, ...]
    """Each once, with forward slashes, in order of first appearance."""
    paths: tuple[str | None, ...]
    """Absolute paths, where they are known."""
    misses: tuple[str | None, ...]
    """Why an image has no row: `no face was found`, an error type, `empty row` or `contempt`; None where it has one."""
    image_of: Ints
    """[R], the image of each row."""
    predicted: Ints
    """[R], ids 0 to 6."""
    probabilities: Floats | None
    """[R, 7] in the order of `EMOTIONS`, rows sum to 1; None where the tool gives labels only."""
    boxes: Floats | None
    """[R, 4] x1, y1, x2, y2 in pixels, NaN where a row has none; None where no row has."""
    columns: dict[str, str]
    """Which column was taken for `path`, each emotion or `label`."""
    record: dict[str, Any]
    """The record of motivnet's run; empty for other tools."""
    remarks: tuple[str, ...]
    """What was left out, rescaled or guessed, a sentence each."""

    @property
    def about(self) -> dict[str, Any]:
        """Where they come from: tool, model, weights, recipe, faces, terms and settings of a run of ours; of other
        tools the table and the columns that were taken."""
        if not self.record:
            return {"tool": "another tool", "table": self.source, "columns": self.columns, "remarks": self.remarks}
        keys = ("tool", "model", "weights_sha256", "recipe", "precision", "faces", "terms", "settings")
        return {
            "table": self.source,
            **{key: self.record[key] for key in keys if key in self.record},
            "remarks": self.remarks,
        }


def read_predictions(path: str | Path, *, columns: Mapping[str, str] | None = None) -> Predictions:
    """Read an output of `annotate`, or another tool's `.csv`, `.tsv`, `.jsonl` or `.parquet` (or folder of these).

    A foreign table has one row a face: a path column, and either seven columns named after the emotions, as
    probabilities or percent, or a column of labels by name. A row without values is a miss. Probabilities beside
    the seven (contempt) are left out and the seven normalised.

    Args:
        columns: Names of columns that are not found by themselves, under `path`, `label` or an emotion.

    Raises:
        ConfigError: Nothing is there, it cannot be read, or a column is missing, ambiguous or holds other values.
    """
    shown = str(path)
    if not Path(path).exists():
        raise ConfigError(f"no predictions at {shown!r}: give the output of motivnet annotate, or another tool's table")
    record = {} if columns else _record_at(shown)
    if "settings" in record:
        return _ours(shown, record)
    kind, table = _table_at(Path(path))
    return _theirs(shown, kind, table, dict(columns or {}))


def _record_at(path: str) -> dict[str, Any]:
    try:
        return dict(read_record(path))
    except ConfigError:
        return {}


def _ours(path: str, record: dict[str, Any]) -> Predictions:
    if not record["classes"]:
        raise ConfigError(f"{path!r} holds no emotions: {record['model']} only describes faces; run another model")
    faces, inputs = read_faces(path).drop("embedding", strict=False), read_inputs(path)
    remarks = []
    if num_frames := faces["frame"].is_not_null().sum():
        remarks.append(f"{num_frames} rows are of videos: left out")
        faces = faces.filter(pl.col("frame").is_null())
    inputs = inputs.filter(pl.col("kind").cast(pl.String) == "image")
    names = [posixpath.normpath(name) for name in inputs["input"].to_list()]
    status, error_type = inputs["status"].cast(pl.String).to_list(), inputs["error_type"].to_list()
    whys = [
        error or ("no face was found" if state == "no_face" else state)
        for state, error in zip(status, error_type, strict=True)
    ]
    rows = _Rows([posixpath.normpath(name) for name in faces["input"].to_list()], dict(zip(names, whys, strict=True)))
    chances, extra = rows.distributions(faces, {name: name for name in record["classes"]}, path)
    return rows.predictions(
        source=path,
        kind="motivnet",
        predicted=chances.argmax(axis=1),
        probabilities=chances,
        boxes=_boxes_in(faces),
        columns={"path": "input", **{name: name for name in EMOTIONS}},
        record=record,
        remarks=(*remarks, *extra),
        root=_root_of(record),
    )


def _root_of(record: dict[str, Any]) -> Callable[[str], str | None]:
    """How the names of a run become absolute paths: by its one folder, or because they are."""
    settings = record["settings"]
    given = settings.get("inputs.paths", [])
    has_others = any(settings.get(f"inputs.{name}") for name in ("files_from", "files0_from", "manifests"))
    only = given[0] if len(given) == 1 and not has_others else None

    def absolute(name: str) -> str | None:
        if only is None or name.startswith("/"):
            return _if_absolute(name)
        return printable(only) if ends_with(printable(only), name) else posixpath.join(printable(only), name)

    return absolute


def _table_at(path: Path) -> tuple[Literal["csv", "jsonl", "parquet"], pl.DataFrame]:
    try:
        if path.is_dir():
            parts = sorted(path.rglob("*.parquet"))
            if not parts:
                raise ConfigError(f"the folder {str(path)!r} holds no .parquet file; give the table's own name")
            return "parquet", pl.read_parquet(parts, missing_columns="raise")
        suffix = path.suffix.lower()
        if suffix in (".parquet", ".pq"):
            return "parquet", pl.read_parquet(path, glob=False)
        if suffix in (".csv", ".tsv"):  # as text, so that 007 stays a name
            return "csv", pl.read_csv(path, infer_schema=False, separator="," if suffix == ".csv" else "\t", glob=False)
        if suffix in (".jsonl", ".ndjson"):
            return "jsonl", _unnested(pl.read_ndjson(path, infer_schema_length=None))
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = first_line(error)
        raise ConfigError(f"cannot read the predictions {str(path)!r}: {reason}") from error
    expected = ".parquet, .csv, .tsv, .jsonl or .ndjson"
    raise ConfigError(f"predictions are read from {expected}, or a folder of .parquet; got {str(path)!r}")


def _unnested(table: pl.DataFrame) -> pl.DataFrame:
    """Objects within a line become columns, named `outer.inner`."""
    while nested := [name for name, kind in table.schema.items() if isinstance(kind, pl.Struct)]:
        table = table.unnest(nested, separator=".")
    return table


def _theirs(
    path: str, kind: Literal["csv", "jsonl", "parquet"], table: pl.DataFrame, given: dict[str, str]
) -> Predictions:
    found = _found_columns(path, table.columns, given)
    names = table[found["path"]].cast(pl.String).fill_null("").to_list()
    if "" in names:
        raise ConfigError(f"row {names.index('') + 1} of {path!r} has no {found['path']!r}: every row needs a name")
    rows = _Rows([_normalised(name) for name in names], {})
    probabilities, remarks = None, list[str]()
    if "label" in found:
        predicted = rows.labels(table[found["label"]], path)
    else:
        taken = {name: column for name, column in found.items() if name != "path"}
        probabilities, remarks = rows.distributions(table, taken, path)
        predicted = probabilities.argmax(axis=1)
    used = {*found.values(), *(_box_columns(table.columns) or ((), False))[0]}
    if others := [name for name in table.columns if name not in used]:
        more = f" and {len(others) - 10} more" if len(others) > 10 else ""
        remarks.append(f"columns not used: {', '.join(others[:10])}{more}")
    return rows.predictions(
        source=path,
        kind=kind,
        predicted=predicted,
        probabilities=probabilities,
        boxes=_boxes_in(table),
        columns=found,
        record={},
        remarks=tuple(remarks),
        root=_if_absolute,
    )


class _Rows:
    """Rows on their way to be `Predictions`: which image each is of, and which say nothing."""

    def __init__(self, names: list[str], without_rows: dict[str, str]) -> None:
        self._names = names
        self._why: list[str | None] = [None] * len(names)
        self._without_rows = without_rows

    def labels(self, column: pl.Series, path: str) -> Ints:
        """The ids of a column of labels."""
        texts = column.cast(pl.String).fill_null("").to_list()
        if column.dtype.is_numeric() or any(text.strip().isdigit() for text in texts):
            raise ConfigError(
                f"{column.name!r} in {path!r} holds numbers, and every tool numbers emotions differently: "
                f"write their names, such as {', '.join(EMOTIONS)}"
            )
        predicted = np.zeros(len(column), np.int64)
        for row, text in enumerate(texts):
            word = text.strip().lower()
            emotion = _EMOTION_OF.get(word)
            if word in _NO_LABEL or emotion == "contempt":
                self._why[row] = emotion or EMPTY_ROW
            elif emotion is None:
                raise ConfigError(f"row {row + 1} of {path!r} has the label {text!r}: expected {', '.join(EMOTIONS)}")
            else:
                predicted[row] = EMOTIONS.index(emotion)
        return predicted

    def distributions(self, table: pl.DataFrame, columns: dict[str, str], path: str) -> tuple[Floats, list[str]]:
        """The seven probabilities of each row, and what had to be done to have them."""
        remarks = []
        classes = [*EMOTIONS, *(name for name in columns if name not in EMOTIONS)]
        values = np.stack([_numbers(table[columns[name]], path) for name in classes], axis=1)
        if (values < 0).any():
            row = int(np.flatnonzero((values < 0).any(axis=1))[0])
            raise ConfigError(
                f"row {row + 1} of {path!r} has negative values for the emotions: expected probabilities or percent; "
                "of logits take the softmax"
            )
        totals, seven = values.sum(axis=1), values[:, : len(EMOTIONS)].sum(axis=1)
        is_full = np.isfinite(totals) & (totals > 0)
        scale = 1.0
        if is_full.any() and np.median(totals[is_full]) > 10:
            scale = 100.0
            remarks.append("the values are in percent")
        if num_off := int((np.abs(totals[is_full] / scale - 1) > 0.01).sum()):
            remarks.append(f"{num_off} rows do not sum to {scale:.0f} within 1 %: normalised")
        if len(classes) > len(EMOTIONS):
            num_first = int((values[is_full].argmax(axis=1) >= len(EMOTIONS)).sum())
            left_out = ", ".join(columns[name] for name in classes[len(EMOTIONS) :])
            remarks.append(f"{left_out} left out, the seven normalised; it was the most probable in {num_first} rows")
        is_usable = is_full & (seven > 0)
        for row in np.flatnonzero(~is_usable).tolist():
            self._why[row] = "contempt" if is_full[row] else EMPTY_ROW
        chances = np.full((len(table), len(EMOTIONS)), 1 / len(EMOTIONS))
        chances[is_usable] = values[is_usable, : len(EMOTIONS)] / seven[is_usable, None]
        return chances, remarks

    def predictions(
        self,
        *,
        predicted: Ints,
        probabilities: Floats | None,
        boxes: Floats | None,
        root: Callable[[str], str | None],
        **about: Any,  # noqa: ANN401 - the fields of Predictions that pass through
    ) -> Predictions:
        numbers: dict[str, int] = {name: number for number, name in enumerate(self._without_rows)}
        image_of = np.array([numbers.setdefault(name, len(numbers)) for name in self._names], np.int64)
        is_kept = np.array([why is None for why in self._why], np.bool_)
        misses: list[str | None] = [None] * len(numbers)
        for name, why in [*self._without_rows.items(), *zip(self._names, self._why, strict=True)]:
            misses[numbers[name]] = why or misses[numbers[name]]
        for number in np.unique(image_of[is_kept]):
            misses[number] = None
        return Predictions(
            images=tuple(numbers),
            paths=tuple(root(name) for name in numbers),
            misses=tuple(misses),
            image_of=image_of[is_kept],
            predicted=predicted[is_kept],
            probabilities=None if probabilities is None else probabilities[is_kept],
            boxes=None if boxes is None else boxes[is_kept],
            **about,
        )


def _found_columns(path: str, columns: list[str], given: dict[str, str]) -> dict[str, str]:
    """The columns of `path`, and of the seven emotions (with `contempt` if there) or of `label`."""
    for role, column in given.items():
        if role not in ("path", "label", "contempt", *EMOTIONS):
            raise ConfigError(f"unknown column role {role!r}: expected path, label or one of {', '.join(EMOTIONS)}")
        if column not in columns:
            raise ConfigError(f"{path!r} has no column {column!r} for {role}; it has {', '.join(columns)}")
    found = dict(given)
    if "path" not in found:
        accepted = (*PATH_COLUMNS, "img", "input", "name")
        candidates = [name for word in accepted for name in columns if _squeezed(name) == _squeezed(word)]
        if not candidates:
            raise ConfigError(f"{path!r} has no path column, one of {', '.join(accepted)}; it has {', '.join(columns)}")
        found["path"] = candidates[0]
    if "label" in found:
        return {"path": found["path"], "label": found["label"]}
    emotions: dict[str, list[str]] = defaultdict(list)
    for name in columns:
        words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and word not in _DECORATION]
        if len(words) == 1 and words[0] in _EMOTION_OF:
            emotions[_EMOTION_OF[words[0]]].append(name)
    for emotion, names in emotions.items():
        if emotion not in given and len(names) > 1:
            raise ConfigError(f"columns {' and '.join(names)} of {path!r} may all be {emotion}: say which one is meant")
        found.setdefault(emotion, names[0])
    if set(EMOTIONS) <= set(found):
        return {name: found[name] for name in ("path", *EMOTIONS, "contempt") if name in found}
    return {"path": found["path"], "label": _label_column(path, columns, [e for e in EMOTIONS if e not in found])}


def _label_column(path: str, columns: list[str], lacking: list[str]) -> str:
    sure = [name for word in LABEL_COLUMNS for name in columns if _squeezed(name) == _squeezed(word)]
    maybe = [name for name in columns if _squeezed(name) in ("emotion", "label", "expression", "class")]
    if sure or len(maybe) == 1:
        return (sure or maybe)[0]
    if maybe:
        raise ConfigError(
            f"columns {' and '.join(maybe)} of {path!r} may all be the predicted label: say which one is meant"
        )
    raise ConfigError(
        f"{path!r} has no column for {', '.join(lacking)}, and none of labels ({', '.join(LABEL_COLUMNS)}); "
        f"it has {', '.join(columns)}"
    )


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _numbers(column: pl.Series, path: str) -> Floats:
    """The column as numbers, NaN where it is empty."""
    if column.dtype == pl.String:
        text = column.str.strip_chars(" %")
        numbers = text.cast(pl.Float64, strict=False)
        if (is_word := numbers.is_null() & (text.fill_null("") != "")).any():
            wrong = column.filter(is_word)[0]
            raise ConfigError(f"column {column.name!r} of {path!r} holds {wrong!r}: expected probabilities or percent")
    else:
        try:
            numbers = column.cast(pl.Float64)
        except pl.exceptions.PolarsError:
            raise ConfigError(
                f"column {column.name!r} of {path!r} holds {column.dtype}: expected probabilities or percent"
            ) from None
    values: Floats = numbers.fill_null(float("nan")).to_numpy()
    return values


def _box_columns(columns: list[str]) -> tuple[list[str], bool] | None:
    """Four columns of boxes, and whether the last two are a size."""
    by_word = {_squeezed(name): name for name in columns}
    for names in (*_CORNERS, *_SIZES):
        if all(name in by_word for name in names):
            return [by_word[name] for name in names], names in _SIZES
    return None


def _boxes_in(table: pl.DataFrame) -> Floats | None:
    found = _box_columns(table.columns)
    if found is None:
        return None
    names, has_size = found
    boxes = np.stack([table[name].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy() for name in names], 1)
    if has_size:
        boxes[:, 2:] += boxes[:, :2]
    return boxes if np.isfinite(boxes).any() else None


def _normalised(name: str) -> str:
    """Forward slashes, and no `./`: tables come from Windows, too."""
    return posixpath.normpath(name if "/" in name else name.replace("\\", "/"))


def _if_absolute(name: str) -> str | None:
    return name if name.startswith("/") else None


def ends_with(path: str, name: str) -> bool:
    return path == name or path.endswith("/" + name)
