"""The rows of a faces table, held against each other, against the inputs, and against what the run's record allows.

Rows come a few thousand at a time, and of those before only the last one is kept, with the tracks of its video.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from motivnet_cli.output.tables import SCHEMA_VERSION, columns_as_of
from motivnet_cli.output.verify_inputs import IMAGE, MISSING, NULL, UNKNOWN, VIDEO, codes, is_null, whole_numbers
from motivnet_cli.output.verify_tracks import TracksCheck
from motivnet_cli.records import BOX_COLUMNS, FACE_SOURCES, LANDMARK_COLUMNS, SUM_TOLERANCE, TURNS

if TYPE_CHECKING:
    import pyarrow as pa

    from motivnet_cli.output.findings import Check, Findings
    from motivnet_cli.output.verify_inputs import InputIndex, Mask
    from motivnet_cli.records import RunRecord

_DETECTED, _WHOLE, _GIVEN = range(len(FACE_SOURCES))
_SOURCES_OF_MODE = {"whole": (_WHOLE, _GIVEN), "detect": (_DETECTED, _GIVEN)}
"""By the setting `faces.mode`; with `auto` there may be any."""
_FLOAT32_STEP = 1e-6
_POSE = ("roll", "yaw", "eye_distance")
_MAX_LAPLACIAN = 4 * 255
_RANGES = (
    *(("roll", -180, 180), ("yaw", -90, 90), ("eye_distance", 0, math.inf)),
    *(("blur", 0, _MAX_LAPLACIAN**2), ("brightness", 0, 255)),
)
"""Columns with the least and the most that they can hold."""
_NEVER_MISSING = ("input", "face", "face_source", *BOX_COLUMNS, "picture_width", "picture_height")


@dataclass(slots=True)
class _Last:
    """The row before: 0 faces so far."""

    name: str | None = None
    place: int = -1
    """Of the input in the index."""
    numbers: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    reals: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """Of some columns, [1]."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Some rows, by columns [N], and how each goes on from the one before it."""

    table: pa.RecordBatch
    places: NDArray[np.int64]
    """Of the input in the index; -1 where there is none."""
    begins_input: Mask
    begins_picture: Mask
    numbers: dict[str, NDArray[np.int64]]
    reals: dict[str, NDArray[np.float64]]
    numbers_before: dict[str, NDArray[np.int64]]
    reals_before: dict[str, NDArray[np.float64]]
    """Of the row before."""


class FacesCheck:
    """Goes through the rows of the faces table in their order.

    Args:
        record: The run's; its settings say what may be there.
        recomputes_tracks: Whether this version follows faces as the one did that wrote the output.
    """

    def __init__(self, findings: Findings, record: RunRecord, *, recomputes_tracks: bool) -> None:
        self._findings = findings
        self._settings = record.get("settings", {})
        self._classes = tuple(record.get("classes", ()))
        self._has_measures = "turn" in columns_as_of(record.get("schema_version", SCHEMA_VERSION), ["turn"])
        """A column of that name that a former version wrote is one that the user kept."""
        self._last = _Last()
        self._last_rank = -1
        self._tracks: TracksCheck | None = None
        if self._settings.get("video.track"):
            self._tracks = TracksCheck(findings, self._settings, recomputes=recomputes_tracks)
        self.num_rows = 0

    def begin_unit(self, index: InputIndex, *, are_inputs_whole: bool) -> None:
        """The faces of some inputs come now.

        Args:
            are_inputs_whole: Whether the index holds all of these inputs.
        """
        self._index = index
        self._are_inputs_whole = are_inputs_whole
        self._counts = np.zeros(len(index.faces), np.int64)
        self._pictures = np.zeros(len(index.faces), np.int64)
        self._last = _Last()

    def add(self, table: pa.RecordBatch) -> None:
        """Check some rows."""
        for name in self._required(table):
            if table[name].null_count:
                self._findings.fault("ranges", "faces", f"{name} is missing", count=table[name].null_count)
        rows = self._read(table)
        self._check_order(rows)
        self._check_frames(rows)
        self._check_numbers(rows)
        self._check_sources(rows)
        self._check_boxes(rows)
        if self._has_measures:
            self._check_filters(rows)
            self._check_measures(rows)
        if self._classes:
            self._check_emotions(rows)
        if "embedding" in table.schema.names:
            self._check_embeddings(rows)
        if self._tracks is not None:
            is_video = ~is_null(table["frame"]) & ~is_null(table["time_s"])
            self._tracks.add(table, is_video)
        np.add.at(self._counts, rows.places[rows.places >= 0], 1)
        np.add.at(self._pictures, rows.places[(rows.places >= 0) & rows.begins_picture], 1)
        self.num_rows += len(table)

    def interrupt(self) -> None:
        """Rows that cannot be read are passed by: what comes does not go on from the last one."""
        self._last = _Last()
        if self._tracks is not None:
            self._tracks.give_up()

    def end(self) -> None:
        """All rows have come."""
        if self._tracks is not None:
            self._tracks.end()

    def end_unit(self) -> list[tuple[int, str]]:
        """The faces of these inputs have come.

        Returns:
            Inputs, by their places in the index, whose faces are not as many as they say, and what is wrong.
        """
        index = self._index
        wrong = np.flatnonzero((self._counts != index.faces) & (index.faces != MISSING))
        found = [(int(i), f"says {index.faces[i]} faces, and {self._counts[i]} are there") for i in wrong]
        many = np.flatnonzero((self._pictures > index.frames) & (self._counts == index.faces))
        return found + [(int(i), f"faces in {self._pictures[i]} frames, of {index.frames[i]}") for i in many]

    def _required(self, table: pa.RecordBatch) -> list[str]:
        predicted = ["emotion", "confidence", *self._classes] if self._classes else []
        measured = ("turn", "blur", "brightness") if self._has_measures else ()
        return [name for name in (*_NEVER_MISSING, *measured, *predicted, "embedding") if name in table.schema.names]

    def _read(self, table: pa.RecordBatch) -> _Rows:
        names = table["input"].fill_null("")
        n = len(names)
        begins_input = np.ones(n, np.bool_)
        begins_input[1:] = pc.not_equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)
        begins_input[0] = names[0].as_py() != self._last.name
        starts = np.flatnonzero(begins_input)
        found = self._index.find(names.take(starts).to_pylist())
        places = np.concatenate([[self._last.place], found])[np.cumsum(begins_input)]
        numbers = {name: whole_numbers(table[name]) for name in ("frame", "face", "picture_width", "picture_height")}
        reals = {
            name: table[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in ("time_s", *BOX_COLUMNS)
        }
        numbers_before = {name: _shifted(column, self._last.numbers.get(name)) for name, column in numbers.items()}
        reals_before = {name: _shifted(column, self._last.reals.get(name)) for name, column in reals.items()}
        begins_picture = begins_input | (numbers["frame"] != numbers_before["frame"])
        self._last = _Last(
            names[n - 1].as_py(),
            int(places[-1]),
            {name: column[-1:] for name, column in numbers.items()},
            {name: column[-1:] for name, column in reals.items()},
        )
        return _Rows(table, places, begins_input, begins_picture, numbers, reals, numbers_before, reals_before)

    def _found(self, check: Check, bad: Mask, rows: _Rows, what: str) -> None:
        places = np.flatnonzero(bad)
        if len(places):
            self._findings.fault(check, _where(rows.table, int(places[0])), what, count=len(places))

    def _check_order(self, rows: _Rows) -> None:
        is_known = rows.places >= 0
        if self._are_inputs_whole:
            self._found("faces_of_inputs", ~is_known & rows.begins_input, rows, "its input is not among the inputs")
        starts = np.flatnonzero(rows.begins_input & is_known)
        if not len(starts):
            return
        ranks = self._index.ranks[rows.places[starts]]
        highest = np.maximum.accumulate(np.concatenate([[self._last_rank], ranks]))
        bad = np.zeros(len(rows.places), np.bool_)
        bad[starts] = ranks <= highest[:-1]
        self._last_rank = int(highest[-1])
        self._found("order", bad, rows, "its faces do not follow those of the input before it")

    def _check_frames(self, rows: _Rows) -> None:
        kinds = self._index.kinds[rows.places] if len(self._index.kinds) else np.full(len(rows.places), NULL)
        kinds = np.where(rows.places >= 0, kinds, NULL)
        frames, times = rows.numbers["frame"], rows.reals["time_s"]
        frames_before, times_before = rows.numbers_before["frame"], rows.reals_before["time_s"]
        has_time = ~is_null(rows.table["time_s"])
        has_frame = frames != MISSING
        goes_on = ~rows.begins_input & has_frame & has_time
        same_picture = ~rows.begins_picture
        for bad, what in (
            ((kinds == IMAGE) & (has_frame | has_time), "a frame or time in a picture"),
            ((kinds == VIDEO) & ~(has_frame & has_time), "no frame or time in a video"),
            ((kinds != IMAGE) & (kinds != VIDEO) & (kinds != NULL), "faces of what is no picture and no video"),
            (has_frame & (frames < 0), "the frame is negative"),
            (has_time & ~(np.isfinite(times) & (times >= 0)), "the time is negative or not a number"),
            (goes_on & (frames < frames_before), "the frame comes before the one of the row before"),
            (goes_on & (frames > frames_before) & ~(times > times_before), "a later frame at no later time"),
            (goes_on & same_picture & (times != times_before), "two times in one frame"),
        ):
            self._found("frames_and_times", bad, rows, what)

    def _check_numbers(self, rows: _Rows) -> None:
        faces, before = rows.numbers["face"], rows.numbers_before["face"]
        has_gaps = rows.places < 0  # of what is unknown, nothing is known
        if len(self._index.has_gaps):
            has_gaps = has_gaps | self._index.has_gaps[rows.places]
        expected = np.where(rows.begins_picture, 0, before + 1)
        bad = np.where(has_gaps, faces < expected, faces != expected)
        self._found("face_numbers", bad, rows, "the number of the face does not follow")
        left = ~rows.begins_picture & (rows.reals["x1"] < rows.reals_before["x1"])
        self._found("face_numbers", left, rows, "the face lies to the left of the one before it")

    def _check_sources(self, rows: _Rows) -> None:
        sources = codes(rows.table["face_source"], FACE_SOURCES)
        self._found("ranges", sources == UNKNOWN, rows, "face_source is none of those that there are")
        mode = self._settings.get("faces.mode")
        allowed = _SOURCES_OF_MODE.get(str(mode))
        if allowed is not None:
            bad = ~np.isin(sources, [*allowed, NULL, UNKNOWN])
            self._found("ranges", bad, rows, f"a face that `--faces {mode}` does not give")
        scores = rows.table["detection_score"].to_numpy(zero_copy_only=False).astype(np.float64)
        least = self._settings.get("faces.min_confidence")
        least = float(least) - _FLOAT32_STEP if isinstance(least, int | float) else 0.0
        is_detected = sources == _DETECTED
        with np.errstate(invalid="ignore"):
            is_score = (scores >= least) & (scores <= 1)
        self._found("ranges", is_detected & ~is_score, rows, f"the detection score is not between {least:.2f} and 1")
        has_score = ~is_null(rows.table["detection_score"])
        self._found("ranges", ~is_detected & has_score, rows, "a detection score of a face that was not detected")

    def _check_boxes(self, rows: _Rows) -> None:
        sources = codes(rows.table["face_source"], FACE_SOURCES)
        x1, y1, x2, y2 = (rows.reals[name] for name in BOX_COLUMNS)
        widths, heights = rows.numbers["picture_width"], rows.numbers["picture_height"]
        is_inside = (x1 >= 0) & (y1 >= 0) & (x2 <= widths.astype(np.float32)) & (y2 <= heights.astype(np.float32))
        is_all = (x1 == 0) & (y1 == 0) & (x2 == widths) & (y2 == heights)
        is_finite = np.isfinite(x1) & np.isfinite(y1) & np.isfinite(x2) & np.isfinite(y2)
        resized = (widths != rows.numbers_before["picture_width"]) | (heights != rows.numbers_before["picture_height"])
        for bad, what in (
            (~is_finite, "a side of the box is not a number"),
            (is_finite & ~((x1 < x2) & (y1 < y2)), "the box has no size"),
            (is_finite & (sources == _DETECTED) & ~is_inside, "the box does not lie in its picture"),
            ((sources == _WHOLE) & ~is_all, "the box is not the whole picture"),
            ((widths < 1) | (heights < 1), "the picture has no size"),
            (~rows.begins_picture & resized, "two sizes of one picture"),
            (self._differ_from_inputs(rows, widths, heights), "its picture has another size than its input"),
        ):
            self._found("boxes", bad, rows, what)

    def _check_filters(self, rows: _Rows) -> None:
        """Whether there is a detected face that the settings leave out."""
        is_detected = codes(rows.table["face_source"], FACE_SOURCES) == _DETECTED
        x1, y1, x2, y2 = (rows.reals[name] for name in BOX_COLUMNS)
        rounding = _FLOAT32_STEP * np.maximum(x2, y2)
        for name, excess in (
            ("min_face", -(np.minimum(x2 - x1, y2 - y1) + rounding)),
            ("max_roll", abs(_reals(rows, "roll")) - 180 * _FLOAT32_STEP),
            ("min_sharpness", -(_reals(rows, "blur") * (1 + _FLOAT32_STEP))),
        ):
            limit = self._settings.get(f"faces.{name}")
            if not isinstance(limit, int | float):
                continue
            with np.errstate(invalid="ignore"):
                bad = excess > (limit if name == "max_roll" else -limit)
            option = name.replace("_", "-")
            self._found("ranges", is_detected & bad, rows, f"a face that `--{option} {limit:g}` leaves out")

    def _check_measures(self, rows: _Rows) -> None:
        """Whether landmarks, turn, pose and quality can be."""
        table = rows.table
        is_detected = codes(table["face_source"], FACE_SOURCES) == _DETECTED
        points = [name for name in LANDMARK_COLUMNS if name in table.schema.names]
        for name, least, most in (*_RANGES, *((name, -math.inf, math.inf) for name in points)):
            values, is_there = _reals(rows, name), ~is_null(table[name])
            with np.errstate(invalid="ignore"):
                is_range = np.isfinite(values) & (values >= least) & (values <= most)
            self._found("ranges", is_there & ~is_range, rows, f"{name} is no number from {least:g} to {most:g}")
        for name in (*_POSE, *points):
            self._found("ranges", ~is_null(table[name]) & ~is_detected, rows, f"{name} of a face that was not detected")
        for x, y in zip(points[::2], points[1::2], strict=True):
            self._found("ranges", is_null(table[x]) != is_null(table[y]), rows, f"of {x} and {y}, one is missing")
        turns = whole_numbers(table["turn"])
        self._found("ranges", ~np.isin(turns, (*TURNS, MISSING)), rows, f"turn is none of {', '.join(map(str, TURNS))}")
        self._found("ranges", ~is_detected & (turns > 0), rows, "a turn of a face that was not detected")

    def _differ_from_inputs(self, rows: _Rows, widths: NDArray[np.int64], heights: NDArray[np.int64]) -> Mask:
        index = self._index
        if not len(index.kinds):
            return np.zeros(len(widths), np.bool_)
        is_picture = (rows.places >= 0) & (index.kinds[rows.places] == IMAGE)
        differs: Mask = is_picture & ((index.widths[rows.places] != widths) | (index.heights[rows.places] != heights))
        return differs

    def _check_emotions(self, rows: _Rows) -> None:
        columns = [rows.table[name].to_numpy(zero_copy_only=False) for name in self._classes]
        probabilities = np.stack(columns, axis=1)  # [N, C]
        confidence = rows.table["confidence"].to_numpy(zero_copy_only=False)
        emotions = codes(rows.table["emotion"], self._classes)
        is_finite = np.isfinite(probabilities).all(axis=1)
        is_range = ((probabilities >= 0) & (probabilities <= 1 + SUM_TOLERANCE)).all(axis=1)
        is_sum = abs(probabilities.sum(axis=1, dtype=np.float64) - 1) <= SUM_TOLERANCE + 1e-9
        said = probabilities[np.arange(len(emotions)), np.maximum(emotions, 0)]
        for check, bad, what in (
            ("probabilities", ~is_finite, "a probability is not a number"),
            ("probabilities", is_finite & ~is_range, "a probability is not between 0 and 1"),
            ("probabilities", is_finite & is_range & ~is_sum, "the probabilities do not sum to 1"),
            ("emotion", emotions == UNKNOWN, "the emotion is none of the model's"),
            ("emotion", is_finite & (emotions >= 0) & (said < probabilities.max(axis=1)), "not the most probable one"),
            ("emotion", (emotions >= 0) & is_finite & (confidence != said), "the confidence is not its probability"),
        ):
            self._found(cast("Check", check), bad, rows, what)

    def _check_embeddings(self, rows: _Rows) -> None:
        column = rows.table["embedding"]
        flat = column.flatten().to_numpy(zero_copy_only=False)
        valid = np.flatnonzero(~is_null(column))
        bad = np.zeros(len(column), np.bool_)
        bad[valid] = ~np.isfinite(flat.reshape(len(valid), -1)).all(axis=1)
        self._found("embeddings", bad, rows, "the embedding is not finite")


_Values = TypeVar("_Values", NDArray[np.int64], NDArray[np.float64])


def _shifted(column: _Values, last: _Values | None) -> _Values:
    """Of every row the value of the row before it, [N]; the first row's own where none is before it."""
    return np.concatenate([column[:1] if last is None else last, column[:-1]])


def _reals(rows: _Rows, name: str) -> NDArray[np.float64]:
    """A column of numbers, NaN where they are missing: [N]."""
    values: NDArray[np.float64] = rows.table[name].to_numpy(zero_copy_only=False).astype(np.float64)
    return values


def _where(table: pa.RecordBatch, row: int) -> str:
    """An input with the frame and the face in it."""
    name, frame, face = (table[column][row].as_py() for column in ("input", "frame", "face"))
    return f"{name!r}{f', frame {frame}' if frame is not None else ''}, face {face}"
