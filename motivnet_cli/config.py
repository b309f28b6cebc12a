"""The settings of a run: small frozen objects, made once at the edge and handed to the rooms by part.

Every field says whether it changes what is written. Those that do make up the run's fingerprint: an output
is only continued under the same fingerprint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar

from motivnet_cli.catalogue import DEFAULT_MODEL
from motivnet_cli.errors import ConfigError

FaceMode = Literal["auto", "detect", "whole"]
DetectorName = Literal["retinaface", "blazeface"]
EmbeddingType = Literal["float16", "float32", "none"]
T = TypeVar("T")

MIN_CONFIDENCE = 0.6
"""Detections below it are mostly not faces (docs/decisions/0003-face-detector.md)."""
DETECTION_SIZE = 720
"""Larger finds smaller faces and costs time by its square (docs/decisions/0003-face-detector.md)."""
MAX_PIXELS = 100_000_000
"""300 MB decoded: what a worker may hold. Larger than any camera but the 108 and 200 megapixel phones."""
COMMIT_SECONDS = 30.0
"""A part costs tens of milliseconds, so this costs nothing and a crash costs half a minute."""


def _setting(default: T, *, changes_output: bool) -> T:
    return field(default=default, metadata={"changes_output": changes_output})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Which network runs, and how."""

    name: str = _setting(DEFAULT_MODEL, changes_output=True)
    weights: str | None = _setting(None, changes_output=False)
    """A checkpoint file to use for `name`; what counts for the output is its hash, which the run adds."""
    store: str | None = _setting(None, changes_output=False)
    """Folder of the model store; None takes the default."""
    recipe: str | None = _setting(None, changes_output=True)
    """Input recipe; None takes the model's default."""
    flip: bool | None = _setting(None, changes_output=True)
    """Average with the mirror image; None takes the model's default."""
    precision: Literal["fp32"] = _setting("fp32", changes_output=True)
    device: str = _setting("auto", changes_output=False)
    batch_size: int | None = _setting(None, changes_output=False)
    """Faces in one pass of the network; None chooses by model and device."""

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"batch size must be at least 1 or auto, got {self.batch_size}")
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ConfigError(f"device must be auto, cpu, mps, cuda or cuda:N, got {self.device!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceConfig:
    """How faces are found and cut."""

    mode: FaceMode = _setting("auto", changes_output=True)
    detector: DetectorName = _setting("retinaface", changes_output=True)
    detection_size: int = _setting(DETECTION_SIZE, changes_output=True)
    """RetinaFace looks at pictures shrunk to this many pixels on their longer side."""
    margin: float | None = _setting(None, changes_output=True)
    """The crop is a square of (1 + margin) times the height of the face box; None takes the model's."""
    min_face: int = _setting(0, changes_output=True)
    """Detected faces whose box is narrower or lower than this many pixels are left out."""
    max_faces: int | None = _setting(None, changes_output=True)
    """Keep at most this many faces a picture, the largest first; None keeps all."""
    min_confidence: float = _setting(MIN_CONFIDENCE, changes_output=True)
    """Detections that score less are left out."""

    def __post_init__(self) -> None:
        if self.margin is not None and not 0 <= self.margin <= 4:
            raise ConfigError(f"margin must be between 0 and 4 (times the face's height), got {self.margin}")
        if not 128 <= self.detection_size <= 8192:
            raise ConfigError(f"detection-size must be between 128 and 8192 pixels, got {self.detection_size}")
        if self.min_face < 0:
            raise ConfigError(f"min-face must be 0 or more pixels, got {self.min_face}")
        if self.max_faces is not None and self.max_faces < 1:
            raise ConfigError(f"max-faces must be at least 1, got {self.max_faces}")
        if not 0 < self.min_confidence < 1:
            raise ConfigError(f"min-confidence must lie between 0 and 1, got {self.min_confidence}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderConfig:
    """How inputs are read."""

    workers: int | None = _setting(None, changes_output=False)
    """Threads that decode, detect and crop; None takes the number of usable cores."""
    max_pixels: int = _setting(MAX_PIXELS, changes_output=True)
    """A picture with more pixels is listed as failed, not decoded: it bounds the memory of a worker."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}")
        if self.max_pixels < 1:
            raise ConfigError(f"max-pixels must be at least 1, got {self.max_pixels}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputConfig:
    """Where and how rows are written."""

    path: str = field(metadata={"changes_output": False})
    """A name ending in `.parquet` gives one file, any other name a folder of parts."""
    embeddings: EmbeddingType = _setting("float16", changes_output=True)
    overwrite: bool = _setting(False, changes_output=False)
    retry_failed: bool = _setting(False, changes_output=False)
    commit_seconds: float = _setting(COMMIT_SECONDS, changes_output=False)
    """A part is committed at least this often, so this is about the most work that a crash can cost."""

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("the output needs a name, such as --out preds.parquet")
        if self.overwrite and self.retry_failed:
            raise ConfigError("--overwrite starts anew and --retry-failed keeps what is there: give one of them")
        if self.commit_seconds < 0:
            raise ConfigError(f"commit-seconds must be 0 or more, got {self.commit_seconds}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that one call of `annotate` needs."""

    inputs: tuple[str, ...] = field(metadata={"changes_output": True})
    """Files and folders."""
    output: OutputConfig = field(metadata={"changes_output": True})
    model: ModelConfig = field(default=ModelConfig(), metadata={"changes_output": True})
    faces: FaceConfig = field(default=FaceConfig(), metadata={"changes_output": True})
    loader: LoaderConfig = field(default=LoaderConfig(), metadata={"changes_output": True})
    command: str = field(default="", metadata={"changes_output": False})
    """The command line, recorded in the output's metadata."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ConfigError("no inputs were given: name files or folders")


def settings_that_change_output(config: Any) -> dict[str, Any]:  # noqa: ANN401 - any config object of this room
    """The nested settings that change what is written, by name.

    Raises:
        TypeError: A field does not say whether it changes the output.
    """
    settings: dict[str, Any] = {}
    for each in fields(config):
        if "changes_output" not in each.metadata:
            raise TypeError(f"{type(config).__name__}.{each.name} does not say whether it changes the output")
        value = getattr(config, each.name)
        if is_dataclass(value):
            settings.update({f"{each.name}.{k}": v for k, v in settings_that_change_output(value).items()})
        elif each.metadata["changes_output"]:
            settings[each.name] = list(value) if isinstance(value, tuple) else value
    return settings
