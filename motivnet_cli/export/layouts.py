"""Predictions in the layouts of other face tools: OpenFace, py-feat and DeepFace.

A column is written only if its value is known; `formats.FORMATS` says what each layout keeps and loses.
"""

from __future__ import annotations

from itertools import groupby
from typing import IO, TYPE_CHECKING

import polars as pl
import pyarrow as pa

from motivnet_cli.errors import ConfigError
from motivnet_cli.export.destination import path_below
from motivnet_cli.export.rows import select_columns
from motivnet_cli.export.tables import escape_formulas
from motivnet_cli.records import BOX_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from motivnet_cli.export.source import Source

_PYFEAT_EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""In the order of py-feat's FEAT_EMOTION_COLUMNS."""
_DEEPFACE_EMOTIONS = {
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprise": "surprise",
    "neutral": "neutral",
}
_POINTS_OF_68 = {30: "nose", 48: "right_mouth", 54: "left_mouth"}
"""Landmarks among iBUG's 68 points, which OpenFace and py-feat number from 0: the tip of the nose, and the corners of
the mouth, 48 the person's right one. The centre of an eye is none of them."""
_OWN_COLUMNS = ("left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y", "roll", "yaw")
"""Columns that keep motivnet's names: `pose_Rz` and `pose_Ry` of OpenFace, and `Roll` and `Yaw` of py-feat, are Euler
angles of a head in space, in radians. Where a head nods and turns, its eyes are level at another roll than 0; and
py-feat's angles are positive to the person's right, where ours are to the left."""
_DEEPFACE_POINTS = {
    "left_eye": "left_eye",
    "right_eye": "right_eye",
    "nose": "nose",
    "mouth_left": "left_mouth",
    "mouth_right": "right_mouth",
}
"""DeepFace's left is the person's, too (`FacialAreaRegion`)."""
_OPTIONAL = {
    "frame": pl.Int64,
    "time_s": pl.Float64,
    "track": pl.Int64,
    "detection_score": pl.Float32,
    "face_source": pl.String,
}
"""Columns that a layout can do without."""
_NUM_POINTS = 68
_UNKNOWN = pl.lit(None, pl.Float32)
_SCORE = pl.when(pl.col("face_source") == "whole").then(pl.lit(0.0, pl.Float32)).otherwise("detection_score")
"""The detector's score; 0 where no face was looked for and the whole picture was taken, null for a given box."""


def write_openface(source: Source, out: Path) -> None:
    """Write a CSV for each video and picture: the first columns are OpenFace 2's, the others motivnet's.

    For a video `frame` (from 1), `face_id`, `timestamp` (seconds), `confidence` (the detector's) and `success`, both 0
    where the whole frame was taken; for a picture `face` and `confidence`. Then `x_30`, `x_48`, `x_54` and the same of
    y, and under motivnet's names `emotion`, the probabilities, `x1` to `y2`, the eyes, `roll` and `yaw`.

    Raises:
        ConfigError: A needed column is left out, or the rows of an input are not together.
    """
    points = _points_of_68(source)
    own = [*(("emotion", *source.classes) if source.classes else ()), *BOX_COLUMNS, *_known(source, _OWN_COLUMNS)]
    rest = [*(pl.col(ours).alias(theirs) for theirs, ours in points.items()), *map(pl.col, own)]
    confidence = _SCORE.alias("confidence")
    of_picture = [pl.col("face"), confidence, *rest]
    of_video = [
        pl.col("frame") + 1,
        pl.coalesce("track", "face").alias("face_id"),
        pl.col("time_s").alias("timestamp"),
        confidence,
        (pl.col("face_source") != "whole").fill_null(value=True).cast(pl.Int64).alias("success"),
        *rest,
    ]
    written: set[str] = set()
    tables = (part for table in _tables(source, "face", *points.values(), *own) for part in table.partition_by("input"))
    for name, parts in groupby(tables, key=lambda part: str(part["input"][0])):
        if name in written:
            raise ConfigError(f"the rows of {name!r} are not together; sort the table by its column input")
        written.add(name)
        with path_below(out, name, ".csv").open("wb") as file:
            for number, part in enumerate(parts):
                is_picture = part["frame"].null_count() == len(part)
                _append_csv(file, part.select(of_picture if is_picture else of_video), header=number == 0)


def write_pyfeat(source: Source, out: Path) -> None:
    """Write one CSV with py-feat's columns: boxes as corner and size, emotions 0 to 1, `approx_time` as mm:ss.

    `frame` is the frame of a video, from 0; for pictures, which have none, it is the number of the picture. Where the
    source has landmarks, all of py-feat's 68 are columns, since `Fex.landmarks` asks for all; those that are not known
    are empty. The eyes, `roll` and `yaw` follow under motivnet's names.

    Raises:
        ConfigError: A needed column is left out, or the model names other emotions.
    """
    _need_emotions(source, "py-feat", _PYFEAT_EMOTIONS)
    seconds = pl.col("time_s").floor().cast(pl.Int64)
    minutes, rest = ((part).cast(pl.String).str.zfill(2) for part in (seconds // 60, seconds % 60))
    points, own = _points_of_68(source), _known(source, _OWN_COLUMNS)
    landmarks = [f"{axis}_{number}" for axis in "xy" for number in range(_NUM_POINTS)] if points else []
    needed = (*BOX_COLUMNS, *_PYFEAT_EMOTIONS, *points.values(), *own)
    columns = [
        pl.col("frame").fill_null(pl.col("picture")),
        *_corner_and_size("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight"),
        _SCORE.alias("FaceScore"),
        *(pl.col(points[name]).alias(name) if name in points else _UNKNOWN.alias(name) for name in landmarks),
        *_PYFEAT_EMOTIONS,
        *([pl.format("Person_{}", "track").alias("Identity")] if "track" in source.schema.names else []),
        "input",
        pl.concat_str(minutes, rest, separator=":").alias("approx_time"),
        *own,
    ]
    last, num_pictures = None, 0
    with out.open("wb") as file:
        _append_csv(file, _no_rows(source, *needed).select(columns), header=True)
        for table in _tables(source, *needed):
            names = table["input"]
            begins = names.ne_missing(names.shift(1)).cast(pl.Int64)
            begins[0] = int(names[0] != last)
            numbered = table.with_columns(picture=num_pictures - 1 + begins.cum_sum())
            last, num_pictures = names[-1], num_pictures + int(begins.sum())
            _append_csv(file, numbered.select(columns), header=False)


def write_deepface(source: Source, out: Path) -> None:
    """Write a line of JSON for each face, as `DeepFace.analyze(actions=["emotion"])` returns it, with `img_path`.

    Probabilities are in percent, and `region` in whole pixels, with the landmarks as [x, y] where the source has them.

    Raises:
        ConfigError: A needed column is left out, or the model names other emotions.
    """
    _need_emotions(source, "DeepFace", tuple(_DEEPFACE_EMOTIONS))
    x1, y1, x2, y2 = (pl.col(name).round().cast(pl.Int64) for name in BOX_COLUMNS)
    region = [x1.alias("x"), y1.alias("y"), (x2 - x1).alias("w"), (y2 - y1).alias("h")]
    points = {theirs: ours for theirs, ours in _DEEPFACE_POINTS.items() if len(_known(source, _axes(ours))) == 2}
    percent = [(100 * pl.col(ours).cast(pl.Float64)).alias(theirs) for ours, theirs in _DEEPFACE_EMOTIONS.items()]
    columns = [
        pl.col("input").alias("img_path"),
        pl.struct(percent).alias("emotion"),
        pl.col("emotion").replace(_DEEPFACE_EMOTIONS).alias("dominant_emotion"),
        pl.struct(*region, *(_whole_point(ours).alias(theirs) for theirs, ours in points.items())).alias("region"),
        _SCORE.alias("face_confidence"),
    ]
    with out.open("wb") as file:
        landmarks = [name for point in points.values() for name in _axes(point)]
        for table in _tables(source, "emotion", *BOX_COLUMNS, *_DEEPFACE_EMOTIONS, *landmarks):
            table.select(columns).write_ndjson(file)


def _points_of_68(source: Source) -> dict[str, str]:
    """The columns of the 68 points that the source has, with its own names for them."""
    ours = {f"{axis}_{number}": f"{name}_{axis}" for axis in "xy" for number, name in _POINTS_OF_68.items()}
    return {theirs: name for theirs, name in ours.items() if name in source.schema.names}


def _known(source: Source, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in source.schema.names]


def _axes(landmark: str) -> tuple[str, str]:
    return f"{landmark}_x", f"{landmark}_y"


def _whole_point(landmark: str) -> pl.Expr:
    """[x, y] in whole pixels, or null."""
    x, y = (pl.col(name).round().cast(pl.Int64) for name in _axes(landmark))
    return pl.when(x.is_not_null() & y.is_not_null()).then(pl.concat_list(x, y))


def _need_emotions(source: Source, tool: str, emotions: Sequence[str]) -> None:
    if missing := [name for name in emotions if name not in source.classes]:
        raise ConfigError(
            f"{tool} needs {', '.join(missing)}, which {str(source.path)!r} does not have; choose another format"
        )


def _tables(source: Source, *needed: str) -> Iterator[pl.DataFrame]:
    """The rows with `input`, the needed columns, and the optional ones, null where the source has none."""
    yield from (_with_optional(pl.DataFrame(batch)) for batch in source.batches(_columns(source, needed)))


def _no_rows(source: Source, *needed: str) -> pl.DataFrame:
    schema = pa.schema([source.schema.field(name) for name in _columns(source, needed)])
    return _with_optional(pl.DataFrame(schema.empty_table())).with_columns(picture=pl.lit(0, pl.Int64))


def _columns(source: Source, needed: Sequence[str]) -> list[str]:
    return select_columns(source, needed=needed, optional=tuple(_OPTIONAL))


def _with_optional(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(
        pl.col(name).cast(kind) if name in table.columns else pl.lit(None, kind).alias(name)
        for name, kind in _OPTIONAL.items()
    )


def _corner_and_size(x: str, y: str, width: str, height: str) -> list[pl.Expr]:
    x1, y1, x2, y2 = (pl.col(name).cast(pl.Float64) for name in BOX_COLUMNS)
    return [pl.col("x1").alias(x), pl.col("y1").alias(y), (x2 - x1).alias(width), (y2 - y1).alias(height)]


def _append_csv(file: IO[bytes], table: pl.DataFrame, *, header: bool) -> None:
    escape_formulas(table.lazy()).collect().write_csv(file, include_header=header, quote_style="non_numeric")
