"""The formats that predictions and networks are exported in, and what each keeps and loses.

This module imports none of what writes them, so that `motivnet export --help` is fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NetworkFormat = Literal["onnx", "torch-export", "safetensors"]
NetworkPrecision = Literal["fp32", "fp16", "bf16"]
PixelType = Literal["uint8", "float"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of predictions."""

    name: str
    suffix: str
    """Of its file, or of each of its files; empty for a folder of several kinds."""
    is_folder: bool | None
    """Whether it is a folder of files; None where the output's name decides: a file if it ends in `suffix`."""
    for_whom: str
    """Programs and people that use it."""
    kept: str
    lost: str
    embeddings: bool = True
    """Whether the embeddings are written, if the user does not say."""


_NO_INPUTS = "the inputs table, so which pictures had no face"
_CUES_LOSE = "boxes, the other probabilities, embeddings; pictures"
_BOXES_LOSE = "embeddings, the manifest's columns, failed inputs"

_FORMATS = (
    Format(
        name="csv",
        suffix=".csv",
        is_folder=False,
        for_whom="R, spreadsheets, anything",
        kept=(
            "every row and column in UTF-8 (for Excel with --bom, where decimals have a comma with --decimal-comma "
            "too), LF at line ends, text in quotes; numbers read back exactly"
        ),
        lost=(
            "embeddings, unless asked for (columns embedding_0, ...); the inputs table and the run's record. Text that "
            "a spreadsheet would run (it begins with = + - @, tab, CR, LF or their wide forms) gets an apostrophe in "
            "front"
        ),
        embeddings=False,
    ),
    Format(
        name="xlsx",
        suffix=".xlsx",
        is_folder=False,
        for_whom="Excel, LibreOffice, Google Sheets (needs motivnet-cli[stats])",
        kept=(
            "the sheets faces and inputs with every row and column: numbers as numbers, text as text that is never a "
            "formula, a header that stays in sight"
        ),
        lost=(
            "embeddings, unless asked for (columns embedding_0, ...), and the run's record; NaN and infinities are "
            "empty cells, whole numbers of more than 15 digits are text. A sheet has 1,048,575 rows below its header: "
            "more faces are refused, the sheet of more inputs is left out"
        ),
        embeddings=False,
    ),
    Format(
        name="sav",
        suffix=".sav",
        is_folder=False,
        for_whom="SPSS, PSPP, jamovi, R's haven (needs motivnet-cli[stats])",
        kept=(
            "every row and column: numbers, text, and emotion and face_source as numbers with value labels (0 is the "
            "model's first class); labels say what a variable is. Names that SPSS or Stata does not allow are changed, "
            "and the change is said"
        ),
        lost=(
            "embeddings, unless asked for, the inputs table, the run's record, and the difference of null and empty "
            "text; NaN and infinities are missing, whole numbers beyond 2^53 are text; blanks at the end of text. It "
            "is made in memory"
        ),
        embeddings=False,
    ),
    Format(
        name="dta",
        suffix=".dta",
        is_folder=False,
        for_whom="Stata 14 and later, R's haven, pandas (needs motivnet-cli[stats])",
        kept="as for sav",
        lost="as for sav, but blanks at the end of text are kept",
        embeddings=False,
    ),
    Format(
        name="jsonl",
        suffix=".jsonl",
        is_folder=False,
        for_whom="jq, JavaScript, log pipelines",
        kept="every row and column, one object per line; numbers read back exactly",
        lost="embeddings, unless asked for (a list); the inputs table and the run's record; NaN becomes null",
        embeddings=False,
    ),
    Format(
        name="parquet",
        suffix=".parquet",
        is_folder=False,
        for_whom="polars, DuckDB, pandas; and motivnet export again (Spark and R need --float32)",
        kept="every row and column exactly, in one file with the run's record",
        lost=_NO_INPUTS,
    ),
    Format(
        name="npy",
        suffix="",
        is_folder=True,
        for_whom="NumPy, scikit-learn, FAISS: np.load(folder/embeddings.npy, mmap_mode='r')",
        kept="embeddings.npy [N, D] as stored, and rows.parquet with the other columns of the same rows",
        lost="the inputs table",
    ),
    Format(
        name="npz",
        suffix=".npz",
        is_folder=False,
        for_whom="NumPy alone, in one file that is read into memory",
        kept="an array for each column, under its name; embedding [N, D] as stored; the array classes",
        lost=(
            "the inputs table and the run's record; null: it becomes NaN in numbers (whole numbers with nulls become "
            "float64), and empty text"
        ),
    ),
    Format(
        name="arrow",
        suffix=".arrow",
        is_folder=False,
        for_whom="pyarrow (memory-mapped), polars and pandas (Feather); R needs --float32",
        kept="every row and column exactly, with the run's record; not compressed",
        lost="the inputs table",
    ),
    Format(
        name="hf",
        suffix="",
        is_folder=True,
        for_whom="Hugging Face datasets: load_dataset(folder), offline",
        kept="every row and column exactly, as the split train; a card with the model and its terms",
        lost="the inputs table",
    ),
    Format(
        name="openface",
        suffix=".csv",
        is_folder=True,
        for_whom="scripts for OpenFace 2: a CSV for each video or picture, with its name",
        kept=(
            "for a video frame (from 1), face_id (the track, else the face's number), timestamp, confidence (the "
            "detector's) and success (both 0 for a whole frame); for a picture face and confidence; x_30, x_48, x_54 "
            "and y_30, y_48, y_54 (tip of the nose, corners of the mouth); then, under motivnet's names, the emotion, "
            "the probabilities, the box, the eyes, roll and yaw (degrees)"
        ),
        lost=(
            "frames without a face, embeddings, the manifest's columns; there are no other landmarks, no gaze, pose or "
            "AUs"
        ),
        embeddings=False,
    ),
    Format(
        name="pyfeat",
        suffix=".csv",
        is_folder=False,
        for_whom="scripts for py-feat: feat.utils.io.read_feat, or pandas",
        kept=(
            "frame, FaceRectX, FaceRectY, FaceRectWidth, FaceRectHeight, FaceScore, x_0 to y_67 (30, 48 and 54 are "
            "known, the others empty), the emotions in py-feat's order, Identity (from the track), input, approx_time; "
            "then, under motivnet's names, the eyes, roll and yaw (degrees); pictures are numbered as frames; boxes "
            "within 1e-4 pixels; FaceScore is 0 for a whole frame"
        ),
        lost=(
            "the dominant emotion (the largest of them), embeddings, times below a second, the manifest's columns; "
            "there are no pose, AUs or other landmarks"
        ),
        embeddings=False,
    ),
    Format(
        name="deepface",
        suffix=".jsonl",
        is_folder=False,
        for_whom="scripts for DeepFace.analyze: one object per line and face",
        kept=(
            "emotion (angry, disgust, fear, happy, sad, surprise, neutral in percent), dominant_emotion, region in "
            "whole pixels (each edge within half a pixel) with eyes, nose and corners of the mouth as in DeepFace's "
            "RetinaFace, but also outside the picture, face_confidence (0 for a whole frame); and img_path"
        ),
        lost="frame and time in a video, embeddings, the manifest's columns; there are no age, gender or race",
        embeddings=False,
    ),
    Format(
        name="coco",
        suffix=".json",
        is_folder=False,
        for_whom="pycocotools, Datumaro (pictures), detection tools",
        kept=(
            "boxes, the five landmarks as keypoints, emotions as categories, scores, all probabilities, pictures "
            "without faces; frames of videos"
        ),
        lost=_BOXES_LOSE,
        embeddings=False,
    ),
    Format(
        name="fiftyone",
        suffix="",
        is_folder=True,
        for_whom="FiftyOne: Dataset.from_dir",
        kept=(
            "boxes relative to the picture, emotions, confidences, probabilities and landmarks (in pixels) as "
            "attributes, frames of videos"
        ),
        lost=_BOXES_LOSE,
        embeddings=False,
    ),
    Format(
        name="label-studio",
        suffix="",
        is_folder=True,
        for_whom="Label Studio: tasks with pre-annotations to correct, and the labelling setup",
        kept="boxes and, in pictures, landmarks in percent of the picture, the dominant emotion and its confidence",
        lost=f"{_BOXES_LOSE}, the other probabilities",
        embeddings=False,
    ),
    Format(
        name="webvtt",
        suffix=".vtt",
        is_folder=None,
        for_whom="browsers, VLC, mpv: captions over the video",
        kept="a cue for each segment (one person with one dominant emotion), to the millisecond; the mean confidence",
        lost=_CUES_LOSE,
        embeddings=False,
    ),
    Format(
        name="srt",
        suffix=".srt",
        is_folder=None,
        for_whom="VLC, mpv, other video players: subtitles",
        kept="a subtitle for each segment (one person with one dominant emotion), to the millisecond",
        lost=_CUES_LOSE,
        embeddings=False,
    ),
    Format(
        name="elan",
        suffix=".eaf",
        is_folder=None,
        for_whom="ELAN, for annotators in psychology: a tier for each person",
        kept="an annotation for each segment (one person with one dominant emotion), to the millisecond",
        lost=_CUES_LOSE,
        embeddings=False,
    ),
)

FORMATS = {form.name: form for form in _FORMATS}
"""By name, in the order in which they are listed."""
