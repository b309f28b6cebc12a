"""Predictions as tables of other kinds: text, columns, arrays, and the layouts of other face tools.

A writer takes a `Source` and a path: of a file that it makes, or of an empty folder. It holds a few thousand rows at a
time. A column is written only if its value is known; what each layout keeps and loses stands in `export.FORMATS`.
"""

from __future__ import annotations

import re
import zipfile
from itertools import chain, count, groupby
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from motivnet_cli.errors import ConfigError
from motivnet_cli.output.tables import TableWriter
from motivnet_cli.records import BOX_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from motivnet_cli.export.source import Source

_LIVE = r"^[=+\-@\t\r\n＝＋－＠]"  # noqa: RUF001 - the wide forms are meant
"""What makes a spreadsheet take a cell for a formula (OWASP, CSV injection)."""


# ---- text -------------------------------------------------------------------------------------------------


def write_csv(source: Source, out: Path | IO[bytes]) -> None:
    """Write one CSV: RFC 4180 but for LF at line ends, UTF-8, a header, nothing for null.

    All text is in quotes, so that a spreadsheet that splits at semicolons cannot find a formula within a name. Text
    that it would run gets an apostrophe in front; numbers are as they are, and read back as the same float.
    """
    rows = source.lazy()
    if "embedding" in source.schema.names:
        size = source.schema.field("embedding").type.list_size
        rows = rows.with_columns(pl.col("embedding").arr.to_struct([f"embedding_{i}" for i in range(size)]))
        rows = rows.unnest("embedding")
    _harmless(rows).sink_csv(out, quote_style="non_numeric", engine="streaming")


def write_jsonl(source: Source, out: Path | IO[bytes]) -> None:
    """Write an object a row and line, keys in the order of the columns; null for null and NaN."""
    source.lazy().sink_ndjson(out, engine="streaming")


def _harmless(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with nothing in them that a spreadsheet would run, headers included."""
    schema = rows.collect_schema()
    texts = [name for name, kind in schema.items() if kind == pl.String]
    headers = {name: f"'{name}" for name in schema if re.match(_LIVE, name)}
    return rows.with_columns(
        pl.when(pl.col(name).str.contains(_LIVE)).then("'" + pl.col(name)).otherwise(pl.col(name)).alias(name)
        for name in texts
    ).rename(headers)


# ---- columns ----------------------------------------------------------------------------------------------


def write_parquet(source: Source, out: Path) -> None:
    """Write one Parquet file with the run's record in its metadata; `Source` reads it again."""
    _write_parquet(source, out, source.schema.names)


def write_arrow(source: Source, out: Path) -> None:
    """Write one Arrow IPC file (Feather version 2), not compressed, so that readers map it into memory."""
    with pa.ipc.new_file(out, source.schema) as writer:
        for batch in source.batches():
            writer.write_batch(batch)


def write_hf(source: Source, out: Path) -> None:
    """Write a folder that `datasets.load_dataset` reads: `data/train-00000-of-00001.parquet` and a card."""
    (out / "data").mkdir()
    _write_parquet(source, out / "data" / "train-00000-of-00001.parquet", source.schema.names)
    lines = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: data/*.parquet",
        "---",
        "",
        "# Emotions and embeddings of faces",
        "",
        f"{source.num_rows} faces as predicted by {source.record.get('model', 'an unnamed model')}, a row a face.",
    ]
    if terms := source.record.get("terms"):
        lines += ["", f"Terms of the model: {terms}"]
    (out / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_parquet(source: Source, out: Path, columns: Sequence[str]) -> None:
    schema = pa.schema([source.schema.field(name) for name in columns], metadata=source.schema.metadata)
    with TableWriter(out, schema) as writer:
        for batch in source.batches(columns):
            writer.add(pa.Table.from_batches([batch]))


# ---- arrays -----------------------------------------------------------------------------------------------


def write_npy(source: Source, out: Path) -> None:
    """Write `embeddings.npy` [N, D], float16 or float32 as stored, and `rows.parquet` with the N rows they are of.

    Raises:
        ConfigError: There are no embeddings.
    """
    if "embedding" not in source.schema.names:
        raise ConfigError("there are no embeddings to write as npy; choose parquet or npz for the other columns")
    with (out / "embeddings.npy").open("wb") as file:
        _write_array(file, source, "embedding")
    _write_parquet(source, out / "rows.parquet", [name for name in source.schema.names if name != "embedding"])


def write_npz(source: Source, out: Path) -> None:
    """Write an array [N] a column and `embedding` [N, D], not compressed; `classes` [C] names the emotions' columns.

    Text is as wide as its longest value (4 bytes a letter). Null is NaN in numbers, empty in text; whole numbers and
    truth values among which there are nulls become float64.
    """
    with zipfile.ZipFile(out, "w") as archive:
        for name in source.schema.names:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                _write_array(file, source, name)
        if "classes" not in source.schema.names:
            with archive.open("classes.npy", "w") as file:
                np.lib.format.write_array(file, np.array(source.classes, np.str_), allow_pickle=False)


def _write_array(file: IO[bytes], source: Source, name: str) -> None:
    """A column in NumPy's format, header first: it takes a pass to know the type and one to write."""
    kind = source.schema.field(name).type
    shape: tuple[int, ...] = (source.num_rows,)
    if pa.types.is_fixed_size_list(kind):
        shape, dtype = (source.num_rows, kind.list_size), np.dtype(kind.value_type.to_pandas_dtype())
    elif pa.types.is_string(kind):
        lengths = (pc.max(pc.utf8_length(column)).as_py() for column in _column(source, name))
        dtype = np.dtype(("U", max((length or 0 for length in lengths), default=0) or 1))
    elif pa.types.is_floating(kind) or not any(column.null_count for column in _column(source, name)):
        dtype = np.dtype(kind.to_pandas_dtype())
    else:
        dtype = np.dtype(np.float64)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for column in _column(source, name):
        file.write(_values(column, dtype).tobytes())


def _column(source: Source, name: str) -> Iterator[pa.Array]:
    return (batch.column(0) for batch in source.batches([name]))


def _values(column: pa.Array, dtype: np.dtype[Any]) -> NDArray[Any]:
    if pa.types.is_fixed_size_list(column.type):
        if column.null_count:
            raise ConfigError("some rows have no embedding; leave them out, or choose parquet")
        values: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
        return values
    if dtype.kind == "U":
        return np.array(column.fill_null("").to_pylist(), dtype)
    if column.null_count:
        column = column.cast(pa.from_numpy_dtype(dtype)).fill_null(float("nan"))
    values = column.to_numpy(zero_copy_only=False)
    return values


# ---- layouts of other tools -------------------------------------------------------------------------------

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
_OPTIONAL = {"frame": pl.Int64, "time_s": pl.Float64, "track": pl.Int64, "detection_score": pl.Float32}
"""Columns of which a layout has nothing to say where they are left out."""


def write_openface(source: Source, out: Path) -> None:
    """Write a CSV a video or picture that begins as OpenFace 2's do, and goes on with our own columns.

    Of a video `frame` (from 1), `face_id`, `timestamp` (s), `confidence` (the detector's), `success`; of a picture
    `face`, `confidence`. Then `emotion`, the probabilities and `x1` to `y2`.

    Raises:
        ConfigError: A needed column is left out, or the rows of an input are not together.
    """
    ours = [*(("emotion", *source.classes) if source.classes else ()), *BOX_COLUMNS]
    confidence = pl.col("detection_score").alias("confidence")
    of_picture = [pl.col("face"), confidence, *ours]
    of_video = [
        pl.col("frame") + 1,
        pl.coalesce("track", "face").alias("face_id"),
        pl.col("time_s").alias("timestamp"),
        confidence,
        pl.lit(1).alias("success"),
        *ours,
    ]
    written: set[str] = set()
    tables = (part for table in _tables(source, "face", *ours) for part in table.partition_by("input"))
    for name, parts in groupby(tables, key=lambda part: str(part["input"][0])):
        if name in written:
            raise ConfigError(f"the rows of {name!r} are not together; sort the table by its column input")
        written.add(name)
        with _path_in(out, name).open("wb") as file:
            for number, part in enumerate(parts):
                is_picture = part["frame"].null_count() == len(part)
                _append_csv(file, part.select(of_picture if is_picture else of_video), header=number == 0)


def write_pyfeat(source: Source, out: Path) -> None:
    """Write one CSV with py-feat's columns: boxes as corner and size, emotions 0 to 1, `approx_time` as mm:ss.

    `frame` is the frame of a video; pictures, which have none, are counted.

    Raises:
        ConfigError: A needed column is left out, or the model names other emotions.
    """
    _need_emotions(source, "py-feat", _PYFEAT_EMOTIONS)
    seconds = pl.col("time_s").floor().cast(pl.Int64)
    minutes, rest = ((part).cast(pl.String).str.zfill(2) for part in (seconds // 60, seconds % 60))
    columns = [
        pl.col("frame").fill_null(pl.col("picture")),
        *_corner_and_size("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight"),
        pl.col("detection_score").alias("FaceScore"),
        *_PYFEAT_EMOTIONS,
        *([pl.format("Person_{}", "track").alias("Identity")] if "track" in source.schema.names else []),
        "input",
        pl.concat_str(minutes, rest, separator=":").alias("approx_time"),
    ]
    last, num_pictures = None, 0
    with out.open("wb") as file:
        _append_csv(file, _no_rows(source, *BOX_COLUMNS, *_PYFEAT_EMOTIONS).select(columns), header=True)
        for table in _tables(source, *BOX_COLUMNS, *_PYFEAT_EMOTIONS):
            names = table["input"]
            begins = names.ne_missing(names.shift(1)).cast(pl.Int64)
            begins[0] = int(names[0] != last)
            numbered = table.with_columns(picture=num_pictures - 1 + begins.cum_sum())
            last, num_pictures = names[-1], num_pictures + int(begins.sum())
            _append_csv(file, numbered.select(columns), header=False)


def write_deepface(source: Source, out: Path) -> None:
    """Write a JSON object a face and line, as `DeepFace.analyze(actions=["emotion"])` returns it, with `img_path`.

    Probabilities are in percent, and `region` in whole pixels.

    Raises:
        ConfigError: A needed column is left out, or the model names other emotions.
    """
    _need_emotions(source, "DeepFace", tuple(_DEEPFACE_EMOTIONS))
    x1, y1, x2, y2 = (pl.col(name).round().cast(pl.Int64) for name in BOX_COLUMNS)
    percent = [(100 * pl.col(ours).cast(pl.Float64)).alias(theirs) for ours, theirs in _DEEPFACE_EMOTIONS.items()]
    columns = [
        pl.col("input").alias("img_path"),
        pl.struct(percent).alias("emotion"),
        pl.col("emotion").replace(_DEEPFACE_EMOTIONS).alias("dominant_emotion"),
        pl.struct(x=x1, y=y1, w=x2 - x1, h=y2 - y1).alias("region"),
        pl.col("detection_score").alias("face_confidence"),
    ]
    with out.open("wb") as file:
        for table in _tables(source, "emotion", *BOX_COLUMNS, *_DEEPFACE_EMOTIONS):
            table.select(columns).write_ndjson(file)


def _need_emotions(source: Source, tool: str, emotions: Sequence[str]) -> None:
    if missing := [name for name in emotions if name not in source.classes]:
        raise ConfigError(f"{tool} has {', '.join(missing)}, which {str(source.path)!r} has not; choose another format")


def _tables(source: Source, *needed: str) -> Iterator[pl.DataFrame]:
    """The rows with `input` and the needed columns, and the optional ones, null where there are none."""
    yield from (_with_optional(pl.DataFrame(batch)) for batch in source.batches(_columns(source, needed)))


def _no_rows(source: Source, *needed: str) -> pl.DataFrame:
    schema = pa.schema([source.schema.field(name) for name in _columns(source, needed)])
    return _with_optional(pl.DataFrame(schema.empty_table())).with_columns(picture=pl.lit(0, pl.Int64))


def _columns(source: Source, needed: Sequence[str]) -> list[str]:
    if missing := [name for name in ("input", *needed) if name not in source.schema.names]:
        raise ConfigError(f"this format needs the columns {', '.join(missing)}; add them to --columns, or leave it out")
    return ["input", *needed, *(name for name in _OPTIONAL if name in source.schema.names)]


def _with_optional(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(
        pl.col(name).cast(kind) if name in table.columns else pl.lit(None, kind).alias(name)
        for name, kind in _OPTIONAL.items()
    )


def _corner_and_size(x: str, y: str, width: str, height: str) -> list[pl.Expr]:
    x1, y1, x2, y2 = (pl.col(name).cast(pl.Float64) for name in BOX_COLUMNS)
    return [pl.col("x1").alias(x), pl.col("y1").alias(y), (x2 - x1).alias(width), (y2 - y1).alias(height)]


def _append_csv(file: IO[bytes], table: pl.DataFrame, *, header: bool) -> None:
    _harmless(table.lazy()).collect().write_csv(file, include_header=header, quote_style="non_numeric")


def _path_in(folder: Path, name: str) -> Path:
    """Where an input's file goes: below `folder` whatever its name; a.jpg.csv where a.csv is another's."""
    parts = [part for part in re.split(r"[/\\:]+", name) if part not in ("", ".", "..")] or ["input"]
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    numbered = (path.with_name(f"{path.name}-{n}.csv") for n in count(2))
    candidates = chain((path.with_suffix(".csv"), path.with_name(f"{path.name}.csv")), numbered)
    return next(candidate for candidate in candidates if not candidate.exists())
