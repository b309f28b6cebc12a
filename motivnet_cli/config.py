"""The settings of a run: small frozen objects, made once from the command line or in Python.

Every field says whether it changes what is written. Those that do make up the run's fingerprint: an output
is only continued under the same fingerprint.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar, get_args

from motivnet_cli.catalogue import recorded_name
from motivnet_cli.errors import ConfigError, did_you_mean
from motivnet_cli.remote.urls import is_chain, is_remote, local_path, scheme_of, shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from motivnet_cli.catalogue import ModelCard
    from motivnet_cli.shards import ArrayTask, Shard

FaceMode = Literal["auto", "detect", "whole"]
DetectorName = Literal["retinaface", "blazeface"]
DetectionSize = int | Literal["auto"]
VideoBackend = Literal["auto", "pyav", "decord"]
StreamFormat = Literal["jsonl", "arrow"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
EmbeddingType = Literal["float16", "float32", "none"]
Engine = Literal["local", "ray"]
CorruptionName = Literal["blur", "noise", "jpeg", "brightness", "contrast", "resolution", "occlusion"]
KeptType = Literal["string", "int64", "float64", "bool"]
"""Types of a manifest's columns that pass through to the output."""
T = TypeVar("T")

_DEVICE = r"cpu|mps|cuda(:\d+)?"
DEFAULT_FPS = 1.0
"""One frame a second: expressions last about that long, and an hour is 3,600 faces and not 90,000."""
CLIP_FPS = 5.0
"""Of labelled clips, which last 1 to 5 s: one frame a second would be too few to pool."""
MIN_CONFIDENCE = 0.6
"""Detections below it are mostly not faces (docs/decisions/0003-face-detector.md)."""
MAX_PIXELS = 210_000_000
"""630 MB decoded, and about 1.5 GB while a reading thread decodes it. The largest of phones have 201 million pixels."""
INPUT_TIMEOUT_SECONDS = 120.0
"""The largest pictures decode in less than a fifth of it, on a machine where nothing else runs."""
COMMIT_SECONDS = 30.0
"""A part costs tens of milliseconds, so this costs nothing and a crash costs half a minute."""
CORRUPTIONS: tuple[CorruptionName, ...] = get_args(CorruptionName)
SEVERITIES = (1, 2, 3, 4, 5)
"""Of a corruption, the mildest first."""


USUAL_SCHEMES = ("http", "https", "s3", "s3a", "gs", "gcs", "hf")
"""Of URLs, whoever names them."""


class Corruption(NamedTuple):
    """A common corruption of pictures, and how strong it is (faces/corrupt.py)."""

    name: CorruptionName
    severity: int
    """One of SEVERITIES."""

    def __str__(self) -> str:
        return f"{self.name} {self.severity}"


def parse_corruption(name: str, severity: str) -> Corruption:
    """A corruption by its name, and its severity as digits.

    Raises:
        ConfigError: There is none of this name, or no such severity.
    """
    known = next((each for each in CORRUPTIONS if each == name), None)
    if known is None:
        near = did_you_mean(name, CORRUPTIONS)
        raise ConfigError(f"no corruption is called {name!r}; there are {', '.join(CORRUPTIONS)}{near}")
    if severity not in map(str, SEVERITIES):
        raise ConfigError(f"the severity of a corruption is a whole number from 1 to 5, got {severity!r}")
    return Corruption(known, int(severity))


def _setting(default: T, *, changes_output: bool) -> T:
    return field(default=default, metadata={"changes_output": changes_output})


@dataclass(frozen=True, slots=True, kw_only=True)
class InputConfig:
    """What a run reads, as the user names it: `paths` first, then the lists, then the manifests."""

    paths: tuple[str, ...] = _setting((), changes_output=True)
    """Files, folders, URLs, patterns (`*`, `?`, `[a-z]`, `**`; `{000..012}` and `{a,b}`), and `-` for a list on
    stdin. A file or folder of that very name is itself, not a pattern."""
    recursive: bool = _setting(True, changes_output=True)
    """Enter the folders within the given ones."""
    follow_links: bool = _setting(True, changes_output=True)
    """Follow symbolic links out of the given folders; else each is listed as failed (`link_leaves_root`)."""
    include: tuple[str, ...] = _setting((), changes_output=True)
    """Of files found in folders and by patterns, take only those whose name, or path below the folder, fits one;
    `*` also crosses slashes."""
    exclude: tuple[str, ...] = _setting((), changes_output=True)
    """Leave out such files, and do not enter such folders; stronger than `include`."""
    files_from: tuple[str, ...] = _setting((), changes_output=True)
    """Lists of files, folders and URLs, one a line; no patterns. `-` is stdin."""
    files0_from: tuple[str, ...] = _setting((), changes_output=True)
    """The same with a NUL byte after every name, as `find -print0` writes it."""
    manifests: tuple[str, ...] = _setting((), changes_output=True)
    """Tables (.csv, .tsv, .jsonl, .ndjson, .parquet) with a picture, video, archive or URL in every row."""
    allow_schemes: tuple[str, ...] = _setting((), changes_output=True)
    """Of URLs in lists and manifests, beside USUAL_SCHEMES and those of `paths`; others are `refused_url`."""
    path_column: str | None = _setting(None, changes_output=True)
    """Of the manifests; None looks for one of the usual names, `path` first."""
    box_columns: str | None = _setting(None, changes_output=True)
    """Of the manifests, as `inputs.box_columns.parse_box_columns` reads it; None looks for the usual names."""
    keep: tuple[str, ...] = _setting((), changes_output=True)
    """Columns of the manifests that pass through to the output."""
    relative_to: str | None = _setting(None, changes_output=True)
    """Name files by their paths below this folder, however they are given; URLs keep their names."""
    absolute: bool = _setting(False, changes_output=True)
    """Name files by their absolute paths, however they are given."""

    def __post_init__(self) -> None:
        if not (self.paths or self.files_from or self.files0_from or self.manifests):
            raise ConfigError("no inputs were given: name files or folders, a list, or a manifest")
        if self.absolute and self.relative_to is not None:
            raise ConfigError("give --relative-to or --absolute, not both")
        if self.relative_to is not None:
            object.__setattr__(self, "relative_to", str(Path(local_path(self.relative_to)).absolute()))
        for name in ("paths", "files_from", "files0_from", "manifests"):
            object.__setattr__(self, name, tuple(map(local_path, getattr(self, name))))
        object.__setattr__(self, "allow_schemes", tuple(map(_plain_scheme, self.allow_schemes)))
        names = [name.casefold() for name in self.keep]
        if twice := [name for name in self.keep if names.count(name.casefold()) > 1]:
            raise ConfigError(f"keep names the column {twice[0]!r} twice: name each once, whatever the case of letters")

    def allows(self, url: str) -> bool:
        """Whether a URL is read that stands in a list or a manifest, which somebody else may have written.

        It has a usual scheme, or one that the user has named, and no second URL within: fsspec reads
        `zip://a.jpg::file:///b.zip` as a file in another.
        """
        if is_chain(url):
            return False
        scheme = scheme_of(url)
        if scheme in USUAL_SCHEMES or scheme in self.allow_schemes:
            return True
        return any(is_remote(path) and scheme_of(path) == scheme for path in self.paths)


def _plain_scheme(text: str) -> str:
    scheme = text.lower().removesuffix("://")
    if not re.fullmatch("[a-z][a-z0-9+.-]+", scheme):
        raise ConfigError(f"a scheme is what stands before :// in a URL, such as abfs; got {text!r}")
    return scheme


def check_part(start_s: float, end_s: float | None) -> None:
    """See to it that a part of a video, in seconds, can be one.

    Raises:
        ConfigError: It begins before 0 s, or does not end after its beginning; or one of them is no number.
    """
    if not 0 <= start_s < math.inf or (end_s is not None and not end_s > start_s):
        end = "the end" if end_s is None else f"{end_s:g}"
        raise ConfigError(
            f"--start and --end take seconds from 0 on, the end after the start, got {start_s:g} to {end}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoConfig:
    """Which frames of a video are looked at, and how they are read."""

    fps: float | None = _setting(DEFAULT_FPS, changes_output=True)
    """Frames a second, by presentation time; None with no `every` takes all."""
    every: int | None = _setting(None, changes_output=True)
    """Every N-th frame, in place of `fps`."""
    start_s: float = _setting(0.0, changes_output=True)
    end_s: float | None = _setting(None, changes_output=True)
    backend: VideoBackend = _setting("auto", changes_output=False)
    """Both decoders give the same frames wherever both are right."""
    track: bool = _setting(False, changes_output=True)
    """Follow faces from frame to frame."""

    def __post_init__(self) -> None:
        if self.fps is not None and self.every is not None:
            raise ConfigError(f"give frames a second or every N-th frame, not both: got {self.fps} and {self.every}")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ConfigError(f"fps must be more than 0 and at most 1000, got {self.fps}")
        if self.every is not None and self.every < 1:
            raise ConfigError(f"every must be at least 1, got {self.every}")
        check_part(self.start_s, self.end_s)

    @property
    def interval_s(self) -> float:
        """About the time between two sampled frames; 1/25 s where it is counted in frames."""
        return 1 / self.fps if self.fps else (self.every or 1) / 25


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Which network runs, and how."""

    name: str | None = _setting(None, changes_output=True)
    """Of the catalogue or the store; None is the file of `weights`, else the catalogue's first. With `weights`, it
    demands that network of the file."""
    weights: str | None = _setting(None, changes_output=False)
    """A checkpoint file, recorded under its own name; what counts for the output is its hash, which the run adds."""
    store: str | None = _setting(None, changes_output=False)
    """Folder of the model store; None takes the default."""
    recipe: str | None = _setting(None, changes_output=True)
    """Input recipe; None takes the model's default."""
    flip: bool | None = _setting(None, changes_output=True)
    """Average with the mirror image; None takes the model's default."""
    precision: Precision = _setting("auto", changes_output=True)
    """What it comes to on the device is in the record. fp32 is without TF32."""
    compile: bool = _setting(False, changes_output=False)
    """Compile the network: a minute or more at the start; results agree within the tolerance of batches."""
    device: str = _setting("auto", changes_output=False)
    batch_size: int | None = _setting(None, changes_output=False)
    """Faces in one pass of the network; None chooses by model and device."""

    @property
    def recorded_name(self) -> str:
        """What the output calls the model."""
        return recorded_name(self.name, self.weights)

    def __post_init__(self) -> None:
        if self.weights is not None and is_remote(self.weights):
            raise ConfigError(
                f"weights are a file on this machine, got {shown(self.weights)!r}: bring it here with "
                "motivnet download-weights NAME --url URL"
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"batch size must be at least 1 or auto, got {self.batch_size}")
        if not re.fullmatch(f"auto|{_DEVICE}", self.device):
            raise ConfigError(f"device must be auto, cpu, mps, cuda or cuda:N, got {self.device!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleConfig:
    """Who takes part in a run. Rows do not depend on it."""

    devices: tuple[str, ...] = _setting((), changes_output=False)
    """A worker process for each, such as `cuda:0`, or `cpu` twice; `all` is every CUDA device. Empty: this process does
    the work."""
    shard: Shard | ArrayTask | None = _setting(None, changes_output=False)
    """This process's share, where others do the rest."""
    engine: Engine = _setting("local", changes_output=False)
    """`ray`: actors on a Ray cluster do the work."""
    ray_address: str | None = _setting(None, changes_output=False)
    """Of a cluster that runs, such as `auto`; None starts one on this machine for the run."""
    workers: int | None = _setting(None, changes_output=False)
    """Actors; None takes as many as fit on the cluster, and more as it grows."""
    gpus_per_worker: float | None = _setting(None, changes_output=False)
    """A part of a GPU, up to a whole one; None takes one where the cluster has any."""
    cpus_per_worker: int | None = _setting(None, changes_output=False)
    """None takes the CPUs that come with the GPU, or a few."""

    def __post_init__(self) -> None:
        for device in self.devices:
            if not re.fullmatch(f"all|{_DEVICE}", device):
                raise ConfigError(f"devices are all, or some of cpu, mps, cuda:N and N, got {device!r}")
        if "all" in self.devices and len(self.devices) > 1:
            raise ConfigError(f"devices are all or a list, not both: got {', '.join(self.devices)}")
        if self.engine == "local":
            if (self.ray_address, self.workers, self.gpus_per_worker, self.cpus_per_worker) != (None,) * 4:
                raise ConfigError(
                    "--ray-address, --workers, --gpus-per-worker and --cpus-per-worker are for --engine ray; "
                    "the number of reading threads is --threads"
                )
        elif self.devices or self.shard:
            raise ConfigError("Ray places the workers itself: leave out --devices and --shard, or --engine ray")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}")
        if self.gpus_per_worker is not None and not 0 <= self.gpus_per_worker <= 1:
            raise ConfigError(f"gpus-per-worker must be between 0 and 1, got {self.gpus_per_worker:g}")
        if self.cpus_per_worker is not None and self.cpus_per_worker < 1:
            raise ConfigError(f"cpus-per-worker must be at least 1, got {self.cpus_per_worker}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaceConfig:
    """How faces are found and cut."""

    mode: FaceMode = _setting("detect", changes_output=True)
    """`whole`: every picture and frame is a face crop. `auto`: a picture in which no face is found is taken whole if it
    can be a crop by its size."""
    detector: DetectorName = _setting("retinaface", changes_output=True)
    detection_size: DetectionSize = _setting("auto", changes_output=True)
    """RetinaFace looks once at pictures shrunk to this many pixels on their longer side. `auto`: it looks again where
    the first look leaves a doubt."""
    margin: float | None = _setting(None, changes_output=True)
    """The crop is a square of (1 + margin) times the height of the face box; None takes the model's."""
    align: bool | None = _setting(None, changes_output=True)
    """Rotate the square until the eyes are level, where the detector saw them; None takes the model's."""
    min_face: int = _setting(0, changes_output=True)
    """Detected faces whose box is narrower or lower than this many pixels are left out."""
    max_roll: float | None = _setting(None, changes_output=True)
    """Detected faces that are turned in the picture by more than so many degrees, either way, are left out."""
    min_sharpness: float = _setting(0.0, changes_output=True)
    """Detected faces whose `blur` (the variance of the Laplacian) is lower are left out."""
    max_faces: int | None = _setting(None, changes_output=True)
    """Keep at most this many faces a picture, the largest first; None keeps all."""
    min_confidence: float = _setting(MIN_CONFIDENCE, changes_output=True)
    """Detections that score less are left out."""

    def __post_init__(self) -> None:
        if self.margin is not None and not 0 <= self.margin <= 4:
            raise ConfigError(f"margin must be between 0 and 4 (times the face's height), got {self.margin}")
        if self.align and self.mode == "whole":
            raise ConfigError("--align goes by the eyes that a detector finds: leave it out, or --faces whole")
        if (self.min_face or self.max_roll is not None or self.min_sharpness) and self.mode == "whole":
            raise ConfigError(
                "--min-face, --max-roll and --min-sharpness go by faces that a detector finds: leave them out, or "
                "--faces whole"
            )
        if self.detection_size != "auto" and not 128 <= self.detection_size <= 8192:
            raise ConfigError(f"detection-size must be auto, or between 128 and 8192 pixels, got {self.detection_size}")
        if self.min_face < 0:
            raise ConfigError(f"min-face must be 0 or more pixels, got {self.min_face}")
        if self.max_roll is not None and not 0 <= self.max_roll <= 180:
            raise ConfigError(f"max-roll must be between 0 and 180 degrees, got {self.max_roll:g}")
        if not 0 <= self.min_sharpness < float("inf"):
            raise ConfigError(f"min-sharpness must be 0 or more, got {self.min_sharpness:g}")
        if self.max_faces is not None and self.max_faces < 1:
            raise ConfigError(f"max-faces must be at least 1, got {self.max_faces}")
        if not 0 < self.min_confidence < 1:
            raise ConfigError(f"min-confidence must be more than 0 and less than 1, got {self.min_confidence}")

    def margin_for(self, card: ModelCard) -> float:
        """The margin of a run of this model."""
        return card.margin if self.margin is None else self.margin

    def align_for(self, card: ModelCard) -> bool:
        """Whether a run of this model aligns faces."""
        return card.align and self.mode != "whole" if self.align is None else self.align


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderConfig:
    """How inputs are read."""

    threads: int | None = _setting(None, changes_output=False)
    """Threads that decode, detect and crop; None takes the number of usable cores."""
    max_pixels: int = _setting(MAX_PIXELS, changes_output=True)
    """A picture with more pixels is listed as failed, not decoded: it bounds the memory of a reading thread."""
    allow_private: bool = _setting(False, changes_output=True)
    """Follow redirects of web servers to private addresses, and read from link-local ones; else `refused_url`."""
    input_timeout_s: float = _setting(INPUT_TIMEOUT_SECONDS, changes_output=False)
    """A picture that is not decoded in this time, or a video of which nothing comes for as long, is given up."""
    corruption: Corruption | None = _setting(None, changes_output=True)
    """What is done to each picture and frame before faces are found in it, to measure robustness."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads must be at least 1, got {self.threads}")
        if self.max_pixels < 1:
            raise ConfigError(f"max-pixels must be at least 1, got {self.max_pixels}")
        if not 0 < self.input_timeout_s < float("inf"):
            raise ConfigError(f"input-timeout must be more than 0 seconds, got {self.input_timeout_s}")
        if self.corruption is not None:
            name, severity = self.corruption  # a list, in the record of a run
            object.__setattr__(self, "corruption", parse_corruption(name, str(severity)))


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputConfig:
    """Where and how rows are written."""

    path: str = field(metadata={"changes_output": False})
    """A name ending in `.parquet` gives one file, any other name a folder of parts."""
    stream_format: StreamFormat = _setting("jsonl", changes_output=False)
    """Of rows that go to a pipe."""
    embeddings: EmbeddingType = _setting("float16", changes_output=True)
    landmarks: bool = _setting(True, changes_output=True)
    """Write the five points of each face."""
    overwrite: bool = _setting(False, changes_output=False)
    retry_failed: bool = _setting(False, changes_output=False)
    extend: bool = _setting(False, changes_output=False)
    """Add new and changed inputs to a finished output."""
    hash_contents: bool = _setting(False, changes_output=False)
    """Record the SHA-256 of every file, and let `extend` go by it in place of size and time."""
    commit_seconds: float = _setting(COMMIT_SECONDS, changes_output=False)
    """A part is committed at least this often, so this is about the most work that a crash can cost."""
    staging: str | None = _setting(None, changes_output=False)
    """The folder on this machine that stands for an output in an object store, where another process has made it."""

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("the output needs a name, such as --out preds.parquet")
        object.__setattr__(self, "path", local_path(self.path))
        if self.path.lower().startswith("file://"):
            raise ConfigError(f"{self.path!r} names another machine: a file here is file:///absolute/path")
        if self.overwrite + self.retry_failed + self.extend > 1:
            raise ConfigError("give only one of --overwrite, --retry-failed and --extend")
        if not self.commit_seconds >= 0:
            raise ConfigError(f"commit-seconds must be 0 or more, got {self.commit_seconds}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that one call of `annotate` needs."""

    inputs: InputConfig = field(metadata={"changes_output": True})
    output: OutputConfig = field(metadata={"changes_output": True})
    model: ModelConfig = field(default=ModelConfig(), metadata={"changes_output": True})
    faces: FaceConfig = field(default=FaceConfig(), metadata={"changes_output": True})
    video: VideoConfig = field(default=VideoConfig(), metadata={"changes_output": True})
    loader: LoaderConfig = field(default=LoaderConfig(), metadata={"changes_output": True})
    scale: ScaleConfig = field(default=ScaleConfig(), metadata={"changes_output": False})
    command: str = field(default="", metadata={"changes_output": False})
    """The command line, recorded in the output's metadata."""

    def __post_init__(self) -> None:
        if self.scale.devices and self.model.device != "auto":
            raise ConfigError("give --device for one device, or --devices for a worker process on each of several")
        if self.scale.engine == "ray":
            if self.model.device.startswith("cuda:"):
                raise ConfigError(f"Ray chooses the GPUs: give --device cuda in place of {self.model.device}")
            device, gpus = self.model.device, self.scale.gpus_per_worker
            if device != "auto" and gpus is not None and (device == "cuda") != (gpus > 0):
                raise ConfigError(f"--device {device} does not go with {gpus:g} GPUs per worker")
        if self.output.path == "-" and self.scale != ScaleConfig():
            raise ConfigError(
                "rows go to stdout from one process only: name a file with --out, or leave out the others"
            )
        if self.video.track and self.output.embeddings == "none":
            raise ConfigError("--track needs the embeddings to tell faces apart: leave out --embeddings none")


NAMING_SETTINGS = ("inputs.relative_to", "inputs.absolute")
"""Settings of a run that decide how inputs are named: the same file has other names under others."""


def settings_that_change_output(config: DataclassInstance) -> dict[str, object]:
    """The settings that change what is written, by name; those of a part as `part.name`.

    Args:
        config: `RunConfig`, or one of its parts.

    Raises:
        TypeError: A field does not say whether it changes the output.
    """
    settings: dict[str, object] = {}
    for setting in fields(config):
        if "changes_output" not in setting.metadata:
            raise TypeError(f"{type(config).__name__}.{setting.name} does not say whether it changes the output")
        value = getattr(config, setting.name)
        if is_dataclass(value) and not isinstance(value, type) and setting.metadata["changes_output"]:
            settings.update({f"{setting.name}.{k}": v for k, v in settings_that_change_output(value).items()})
        elif setting.metadata["changes_output"]:
            settings[setting.name] = list(value) if isinstance(value, tuple) else value
    return settings
