"""Predictions in the forms that people use next: the formats there are, and the one way of writing any of them.

What a format looks like is known by `tables` and `annotations`, which are imported when one of theirs is written; what
rows there are, by `source`. Whatever is written here appears under its name whole or not at all.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING

from motivnet_cli.durable import durably, sync, temporary_name
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.destination import MARKER, check_place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from motivnet_cli.export.source import Source

STDOUT = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A form that predictions are written in."""

    name: str
    suffix: str
    """Of its file, or of each of its files; empty for a folder of several kinds."""
    is_folder: bool | None
    """Several files; None where the output's name decides: one file if it ends in `suffix`, else a folder."""
    for_whom: str
    kept: str
    lost: str
    function: str
    """What writes it, as `module:function`: imported when it is used."""
    pipes: bool = False
    """May be written to stdout."""
    embeddings: bool = True
    """Whether the embeddings are written unless the user says."""

    @property
    def write(self) -> Callable[[Source, Path], None]:
        """Writes the rows of a source at a path: of a file that it makes, or of a folder that is there, empty."""
        module, _, name = self.function.partition(":")
        writer: Callable[[Source, Path], None] = getattr(import_module(module), name)
        return writer


_TABLES, _ANNOTATIONS = "motivnet_cli.export.tables", "motivnet_cli.export.boxes"

_FORMATS = (
    Format(
        name="csv",
        suffix=".csv",
        is_folder=False,
        for_whom="spreadsheets, R, anything",
        kept="every row and column in UTF-8, LF at line ends, text in quotes; numbers read back exactly",
        lost=(
            "embeddings, unless asked for (columns embedding_0, ...); the inputs table and the run's record; text that "
            "a spreadsheet would run (it begins with = + - @, tab, CR, LF or their wide forms) gets an apostrophe in "
            "front"
        ),
        function=f"{_TABLES}:write_csv",
        pipes=True,
        embeddings=False,
    ),
    Format(
        name="jsonl",
        suffix=".jsonl",
        is_folder=False,
        for_whom="jq, JavaScript, log pipelines",
        kept="every row and column, an object a line; numbers read back exactly",
        lost="embeddings, unless asked for (a list); the inputs table and the run's record; NaN becomes null",
        function=f"{_TABLES}:write_jsonl",
        pipes=True,
        embeddings=False,
    ),
    Format(
        name="parquet",
        suffix=".parquet",
        is_folder=False,
        for_whom="polars, DuckDB, pandas, Spark; and motivnet export again",
        kept="every row and column exactly, in one file with the run's record",
        lost="the inputs table, so which pictures had no face",
        function=f"{_TABLES}:write_parquet",
    ),
    Format(
        name="npy",
        suffix="",
        is_folder=True,
        for_whom="NumPy, scikit-learn, FAISS: np.load(folder/embeddings.npy, mmap_mode='r')",
        kept="embeddings.npy [N, D] as stored, and rows.parquet with all other columns of the same rows",
        lost="the inputs table",
        function=f"{_TABLES}:write_npy",
    ),
    Format(
        name="npz",
        suffix=".npz",
        is_folder=False,
        for_whom="NumPy alone, in one file that is read into memory",
        kept="an array a column under its name, embedding [N, D] as stored, and the array classes",
        lost=(
            "the inputs table and the run's record; null: NaN in numbers (whole numbers with nulls become float64), "
            "empty in text"
        ),
        function=f"{_TABLES}:write_npz",
    ),
    Format(
        name="arrow",
        suffix=".arrow",
        is_folder=False,
        for_whom="pyarrow, polars, pandas (Feather), R and Julia, memory-mapped",
        kept="every row and column exactly, with the run's record; not compressed",
        lost="the inputs table",
        function=f"{_TABLES}:write_arrow",
    ),
    Format(
        name="hf",
        suffix="",
        is_folder=True,
        for_whom="Hugging Face datasets: load_dataset(folder), offline; the folder can be pushed to the hub",
        kept="every row and column exactly, as the split train; a card with model and terms",
        lost="the inputs table",
        function=f"{_TABLES}:write_hf",
    ),
    Format(
        name="openface",
        suffix=".csv",
        is_folder=True,
        for_whom="scripts for OpenFace 2: a CSV a video or picture, named as it is",
        kept=(
            "frame (from 1), face_id (the track, else the face's number), timestamp, confidence (the detector's) and "
            "success of a video, face and confidence of a picture; then, by our names, emotion, its probabilities and "
            "the box"
        ),
        lost="frames without a face, embeddings, the manifest's columns; there are no landmarks, gaze, pose or AUs",
        function=f"{_TABLES}:write_openface",
        embeddings=False,
    ),
    Format(
        name="pyfeat",
        suffix=".csv",
        is_folder=False,
        for_whom="scripts for py-feat: feat.utils.io.read_feat, or pandas",
        kept=(
            "frame, FaceRectX, FaceRectY, FaceRectWidth, FaceRectHeight, FaceScore, the emotions in py-feat's order, "
            "Identity (of a track), input, approx_time; pictures are numbered as frames; boxes within 1e-4 pixels"
        ),
        lost="the dominant emotion (the largest of them), embeddings, times below a second, the manifest's columns",
        function=f"{_TABLES}:write_pyfeat",
        embeddings=False,
    ),
    Format(
        name="deepface",
        suffix=".jsonl",
        is_folder=False,
        for_whom="scripts for DeepFace.analyze: an object a line for each face",
        kept=(
            "emotion (angry, disgust, fear, happy, sad, surprise, neutral in percent), dominant_emotion, region in "
            "whole pixels (each edge within half a pixel), face_confidence; and img_path"
        ),
        lost="frame and time in a video, embeddings, the manifest's columns; there are no age, gender, race or eyes",
        function=f"{_TABLES}:write_deepface",
        embeddings=False,
    ),
    Format(
        name="coco",
        suffix=".json",
        is_folder=False,
        for_whom="pycocotools, detection tools, CVAT",
        kept="boxes, emotions as categories, scores, all probabilities, pictures without faces; frames of videos",
        lost="embeddings, the manifest's columns, failed inputs",
        function=f"{_ANNOTATIONS}:write_coco",
        embeddings=False,
    ),
    Format(
        name="fiftyone",
        suffix="",
        is_folder=True,
        for_whom="FiftyOne: Dataset.from_dir",
        kept="boxes relative to the picture, emotions, confidences, probabilities as attributes, frames of videos",
        lost="embeddings, the manifest's columns, failed inputs",
        function=f"{_ANNOTATIONS}:write_fiftyone",
        embeddings=False,
    ),
    Format(
        name="label-studio",
        suffix="",
        is_folder=True,
        for_whom="Label Studio: tasks with pre-annotations to correct, and the labelling setup",
        kept="boxes in percent of the picture, the dominant emotion and its confidence",
        lost="embeddings, the manifest's columns, failed inputs",
        function=f"{_ANNOTATIONS}:write_label_studio",
        embeddings=False,
    ),
    Format(
        name="webvtt",
        suffix=".vtt",
        is_folder=None,
        for_whom="players in browsers, VLC: captions over the video",
        kept="a cue for each stretch of one person's dominant emotion, to the millisecond, with the mean confidence",
        lost="boxes, all other probabilities, embeddings; pictures",
        function=f"{_ANNOTATIONS}:write_webvtt",
        embeddings=False,
    ),
    Format(
        name="srt",
        suffix=".srt",
        is_folder=None,
        for_whom="every video player: subtitles",
        kept="a subtitle for each stretch of one person's dominant emotion, to the millisecond",
        lost="boxes, all other probabilities, embeddings; pictures",
        function=f"{_ANNOTATIONS}:write_srt",
        embeddings=False,
    ),
    Format(
        name="elan",
        suffix=".eaf",
        is_folder=None,
        for_whom="ELAN, annotators of psychology: a tier a person",
        kept="an annotation for each stretch of one person's dominant emotion, to the millisecond",
        lost="boxes, all other probabilities, embeddings; pictures",
        function=f"{_ANNOTATIONS}:write_elan",
        embeddings=False,
    ),
)

FORMATS = {each.name: each for each in _FORMATS}


def export_predictions(
    path: str | Path,
    to: str,
    out: str | Path,
    *,
    where: str | None = None,
    columns: Sequence[str] | None = None,
    embeddings: bool | None = None,
    overwrite: bool = False,
) -> Path:
    """Write predictions in another format; memory does not grow with them.

    Args:
        path: What `Source` takes.
        to: A name of `FORMATS`.
        out: File or folder to write; `-` is stdout, for the formats that pipe.
        where: A condition in SQL on the columns of a row.
        columns: Take only these.
        embeddings: None leaves it to the format, and to `columns` if they name `embedding`.
        overwrite: Replace a file, or a folder that an earlier export made.

    Returns:
        `out`; it appears whole or not at all.

    Raises:
        ConfigError: The format, an option or the place does not fit, or something is there already.
        BrokenPipeError: The reader of stdout has enough.
    """
    from motivnet_cli.export.source import Source

    if to not in FORMATS:
        raise ConfigError(f"no format {to!r}; choose one of {', '.join(FORMATS)}")
    form = FORMATS[to]
    if embeddings is None:
        embeddings = form.embeddings or "embedding" in (columns or ())
    source = Source(path, where=where, columns=columns, embeddings=embeddings)
    if str(out) == STDOUT:
        if not form.pipes:
            pipes = " and ".join(each.name for each in _FORMATS if each.pipes)
            raise ConfigError(f"{to} cannot be written to a pipe, only {pipes} can; give --out a name")
        sys.stdout.flush()
        try:
            _piped(form)(source, sys.stdout.buffer)
        except OSError as error:
            if "Broken pipe" in str(error):  # polars raises it without its number, so not as Python's own class
                raise BrokenPipeError from error
            raise
        return Path(STDOUT)
    out = Path(out)
    is_folder = out.suffix.lower() != form.suffix if form.is_folder is None else form.is_folder
    check_place(out, [source.path], is_folder=is_folder, overwrite=overwrite)
    temporary = temporary_name(out)
    try:
        _remove(temporary)
        if is_folder:
            _write_folder(form, source, out)
        else:
            with durably(out):
                form.write(source, temporary)
    except OSError as error:
        raise ConfigError(f"cannot write {str(out)!r} ({error.strerror or error}); choose another --out") from error
    finally:
        _remove(temporary)
    return out


def _piped(form: Format) -> Callable[[Source, IO[bytes]], None]:
    return form.write  # type: ignore[return-value]  # those that pipe take a file, too


def _write_folder(form: Format, source: Source, out: Path) -> None:
    temporary = temporary_name(out)
    temporary.mkdir()
    form.write(source, temporary)
    about = {"format": form.name, "predictions": str(source.path), "record": source.record}
    (temporary / MARKER).write_text(json.dumps(about, indent=1), encoding="utf-8")
    for path in temporary.rglob("*"):
        sync(path)
    sync(temporary)
    if out.exists():  # a folder cannot be renamed over one that holds files
        old = out.with_name(f".{out.name}.old")
        _remove(old)
        out.rename(old)
        temporary.rename(out)
        _remove(old)
    else:
        temporary.rename(out)
    sync(out.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
