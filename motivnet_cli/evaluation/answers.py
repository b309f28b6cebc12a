"""The cells of a table of predictions -> labels, probabilities and boxes, and what contradicts itself there.

Values that are no probabilities are refused: what they would be normalised to is not what the tool meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.classes import emotion_named
from motivnet_cli.inputs.box_columns import find_box_columns
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

EMPTY_ROW = "empty row"
"""Why an image is missed whose row holds no values."""
PARTLY_EMPTY_ROW = "row that lacks values"
"""Why an image is missed whose row holds values of some emotions only."""
SUM_TOLERANCE = 0.08
"""How far a row's sum may be from 1, or from 100 in percent. Tools write whole percent or two decimals: eight values
rounded so are off by at most 4 %, and cut off by at most 8 %."""
_ROUNDING = 0.01
"""Above this difference, rows that are divided by their sum are counted."""

NO_LABEL = frozenset({"", "none", "nan", "null", "na", "n/a", "unknown", "no face", "no_face", "noface"})
"""What tools write instead of a label where they found no face."""


class Answers(NamedTuple):
    """What the R rows of a table say."""

    predicted: Ints
    """[R], ids of the C classes."""
    probabilities: Floats | None
    """[R, C]."""
    reasons: list[str | None]
    """[R], why a row says nothing; None where it does."""
    remarks: list[str]
    doubts: list[str]


def labels_in(column: pl.Series, path: str, classes: tuple[str, ...]) -> Answers:
    texts = column.cast(pl.String).fill_null("").to_list()
    if column.dtype.is_numeric() or any(text.strip().isdigit() for text in texts):
        raise ConfigError(
            f"{column.name!r} in {path!r} holds numbers, and every tool numbers emotions differently: "
            f"write their names, such as {', '.join(EMOTIONS)}"
        )
    predicted = np.zeros(len(column), np.int64)
    reasons: list[str | None] = [None] * len(column)
    for row, text in enumerate(texts):
        word = text.strip().lower()
        emotion = emotion_named(text)
        if word in NO_LABEL or (emotion and emotion not in classes):
            reasons[row] = emotion or EMPTY_ROW
        elif emotion is None:
            raise ConfigError(f"row {row + 1} of {path!r} has the label {text!r}: expected {', '.join(EMOTIONS)}")
        else:
            predicted[row] = classes.index(emotion)
    return Answers(predicted, None, reasons, [], [])


def distributions_in(
    table: pl.DataFrame, columns: Mapping[str, str], path: str, classes: tuple[str, ...], *, label: str | None = None
) -> Answers:
    """The probabilities of each row's classes, with what had to be done to have them.

    Args:
        columns: Emotion -> its column, for the seven and perhaps others.
        classes: The C that are kept; one without a column has a probability of 0.
        label: A column of labels beside them, which should say the same.
    """
    others = [name for name in columns if name not in classes]
    names, num_classes = [*classes, *others], len(classes)
    without = np.zeros(len(table))
    values = np.stack(
        [_numbers(table[columns[name]], path) if name in columns else without for name in names], axis=1
    )  # [R, C + others]
    if (values < 0).any():
        row = int(np.flatnonzero((values < 0).any(axis=1))[0])
        raise ConfigError(
            f"row {row + 1} of {path!r} has negative values for the emotions: expected probabilities or percent; "
            "of logits take the softmax"
        )
    totals, kept = values.sum(axis=1), values[:, :num_classes].sum(axis=1)  # [R]
    has_values = totals > 0
    scale, remarks = _scale_of(totals, path)
    if others:
        num_first = int((values[has_values].argmax(axis=1) >= num_classes).sum())
        left_out = ", ".join(columns[name] for name in others)
        remarks.append(f"{left_out} left out, the seven normalised; it was the most probable in {num_first} rows")
    is_usable = has_values & (kept > 0)
    probabilities = np.full((len(table), num_classes), 1 / num_classes)  # [R, C]
    probabilities[is_usable] = values[is_usable, :num_classes] / kept[is_usable, None]
    is_partial = np.isnan(values).any(axis=1) & np.any(np.nan_to_num(values) > 0, axis=1)
    reasons: list[str | None] = [None] * len(table)
    for row in np.flatnonzero(~is_usable).tolist():
        reasons[row] = "contempt" if has_values[row] else PARTLY_EMPTY_ROW if is_partial[row] else EMPTY_ROW
    doubts = []
    if label is not None:
        doubts = _contradictions(table[label], np.where(has_values[:, None], values / scale, np.nan), names)
    predicted, num_tied = _most_probable(probabilities, is_usable, None if label is None else table[label], classes)
    if num_tied:
        doubts.append(doubt_on_ties(num_tied, "rows", classes))
    return Answers(predicted, probabilities, reasons, remarks, doubts)


def doubt_on_ties(num_tied: int, what: str, classes: tuple[str, ...]) -> str:
    return (
        f"in {num_tied:,} {what} several emotions are the most probable: the first in the order "
        f"{', '.join(classes)} counts"
    )


def _most_probable(
    probabilities: Floats, is_usable: NDArray[np.bool_], label: pl.Series | None, classes: tuple[str, ...]
) -> tuple[Ints, int]:
    """The most probable class of each row [R, C]: of equal ones the row's label, else the first; and how often that.

    Args:
        label: [R], of the tool, which knew more than the decimals that it wrote.
    """
    predicted = probabilities.argmax(axis=1).astype(np.int64)
    is_most = probabilities == probabilities.max(axis=1, keepdims=True)
    tied = np.flatnonzero(is_usable & (is_most.sum(axis=1) > 1)).tolist()
    texts = None if label is None else label.cast(pl.String).fill_null("").to_list()
    num_tied = 0
    for row in tied:
        emotion = None if texts is None else emotion_named(texts[row])
        if emotion in classes and is_most[row, classes.index(emotion)]:
            predicted[row] = classes.index(emotion)
        else:
            num_tied += 1
    return predicted, num_tied


def _scale_of(totals: Floats, path: str) -> tuple[float, list[str]]:
    """What rows sum to, 1 or 100, and what must be said of it.

    Args:
        totals: [R], NaN or 0 for a row without values.

    Raises:
        ConfigError: A row sums to something else, so that its values are no probabilities.
    """
    has_values = totals > 0
    scale, remarks = 1.0, []
    if has_values.any() and np.median(totals[has_values]) > 10:
        scale = 100.0
        remarks.append("the values are in percent")
    off = np.where(has_values, np.abs(totals / scale - 1), 0)  # [R]
    if (is_far := off > SUM_TOLERANCE + 1e-9).any():
        row = int(np.flatnonzero(is_far)[0])
        raise ConfigError(
            f"row {row + 1} of {path!r} sums to {totals[row]:.6g} over the emotions: expected {scale:.0f}, give or "
            f"take {SUM_TOLERANCE:.0%}. Of logits take the softmax; divide votes, and what is left of more classes, "
            "by their sum; scores that each class has by itself, such as sigmoids, are no probabilities: give the "
            "label alone, in a column pred"
        )
    if num_off := int((off > _ROUNDING).sum()):
        remarks.append(f"{num_off} rows do not sum to {scale:.0f} within {_ROUNDING:.0%}: normalised")
    return scale, remarks


def _contradictions(labels: pl.Series, values: Floats, names: list[str]) -> list[str]:
    """What must be said where a label beside the probabilities is not the most probable emotion, nor one of equals.

    Args:
        labels: [R].
        values: [R, C] of the emotions `names`, NaN for a row without values.
    """
    if labels.dtype.is_numeric():
        return [f"{labels.name!r} beside the probabilities holds numbers: it was not compared with them"]
    wrong, unknown = [], []
    texts = labels.cast(pl.String).fill_null("").to_list()
    for row in np.flatnonzero(np.isfinite(values).all(axis=1)).tolist():
        word = texts[row].strip().lower()
        emotion = emotion_named(word)
        if word in NO_LABEL:
            continue
        if emotion is None:
            unknown.append(row)
        elif emotion not in names or values[row, names.index(emotion)] < values[row].max():
            wrong.append(row)
    doubts = []
    if wrong:
        row = wrong[0]
        doubts.append(
            f"in {len(wrong):,} rows {labels.name!r} is not the most probable emotion (row {row + 1}: {texts[row]!r} "
            f"and {names[int(values[row].argmax())]}): the probabilities count"
        )
    if unknown:
        row = unknown[0]
        doubts.append(
            f"in {len(unknown):,} rows {labels.name!r} names no emotion (row {row + 1}: {texts[row]!r}): it was not "
            "compared with the probabilities"
        )
    return doubts


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


def boxes_in(table: pl.DataFrame) -> Floats | None:
    """The boxes as corners, [R, 4], NaN where there is none; None where no row has one, or each is one cell."""
    found = find_box_columns(table.columns)
    if found is None or len(found.names) == 1:
        return None
    sides = [table[name].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy() for name in found.names]
    boxes = np.stack(sides, axis=1)  # [R, 4]
    if found.has_size:
        boxes[:, 2:] += boxes[:, :2]
    return boxes if np.isfinite(boxes).any() else None
