"""The formats that predictions and networks are exported in, and what each keeps and loses.

This module imports nothing that writes them, so that a list of formats is there at once.
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
    kept: str
    lost: str
    embeddings: bool = True
    """Whether the embeddings are written unless the user says."""


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
        embeddings=False,
    ),
    Format(
        name="jsonl",
        suffix=".jsonl",
        is_folder=False,
        for_whom="jq, JavaScript, log pipelines",
        kept="every row and column, an object a line; numbers read back exactly",
        lost="embeddings, unless asked for (a list); the inputs table and the run's record; NaN becomes null",
        embeddings=False,
    ),
    Format(
        name="parquet",
        suffix=".parquet",
        is_folder=False,
        for_whom="polars, DuckDB, pandas, Spark; and motivnet export again",
        kept="every row and column exactly, in one file with the run's record",
        lost="the inputs table, so which pictures had no face",
    ),
    Format(
        name="npy",
        suffix="",
        is_folder=True,
        for_whom="NumPy, scikit-learn, FAISS: np.load(folder/embeddings.npy, mmap_mode='r')",
        kept="embeddings.npy [N, D] as stored, and rows.parquet with all other columns of the same rows",
        lost="the inputs table",
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
    ),
    Format(
        name="arrow",
        suffix=".arrow",
        is_folder=False,
        for_whom="pyarrow, polars, pandas (Feather), R and Julia, memory-mapped",
        kept="every row and column exactly, with the run's record; not compressed",
        lost="the inputs table",
    ),
    Format(
        name="hf",
        suffix="",
        is_folder=True,
        for_whom="Hugging Face datasets: load_dataset(folder), offline; the folder can be pushed to the hub",
        kept="every row and column exactly, as the split train; a card with model and terms",
        lost="the inputs table",
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
        embeddings=False,
    ),
    Format(
        name="coco",
        suffix=".json",
        is_folder=False,
        for_whom="pycocotools, detection tools, CVAT",
        kept="boxes, emotions as categories, scores, all probabilities, pictures without faces; frames of videos",
        lost="embeddings, the manifest's columns, failed inputs",
        embeddings=False,
    ),
    Format(
        name="fiftyone",
        suffix="",
        is_folder=True,
        for_whom="FiftyOne: Dataset.from_dir",
        kept="boxes relative to the picture, emotions, confidences, probabilities as attributes, frames of videos",
        lost="embeddings, the manifest's columns, failed inputs",
        embeddings=False,
    ),
    Format(
        name="label-studio",
        suffix="",
        is_folder=True,
        for_whom="Label Studio: tasks with pre-annotations to correct, and the labelling setup",
        kept="boxes in percent of the picture, the dominant emotion and its confidence",
        lost="embeddings, the manifest's columns, failed inputs",
        embeddings=False,
    ),
    Format(
        name="webvtt",
        suffix=".vtt",
        is_folder=None,
        for_whom="players in browsers, VLC: captions over the video",
        kept="a cue for each stretch of one person's dominant emotion, to the millisecond, with the mean confidence",
        lost="boxes, all other probabilities, embeddings; pictures",
        embeddings=False,
    ),
    Format(
        name="srt",
        suffix=".srt",
        is_folder=None,
        for_whom="every video player: subtitles",
        kept="a subtitle for each stretch of one person's dominant emotion, to the millisecond",
        lost="boxes, all other probabilities, embeddings; pictures",
        embeddings=False,
    ),
    Format(
        name="elan",
        suffix=".eaf",
        is_folder=None,
        for_whom="ELAN, annotators of psychology: a tier a person",
        kept="an annotation for each stretch of one person's dominant emotion, to the millisecond",
        lost="boxes, all other probabilities, embeddings; pictures",
        embeddings=False,
    ),
)

FORMATS = {each.name: each for each in _FORMATS}
