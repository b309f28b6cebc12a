"""The options of `motivnet annotate`, in the groups of `config`, and the settings that they become."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal, cast

import typer

from motivnet_cli.cli.options import Compile, NetworkOptions, OptionGroup, PrecisionName, Threads
from motivnet_cli.config import (
    COMMIT_SECONDS,
    DEFAULT_FPS,
    INPUT_TIMEOUT_SECONDS,
    MAX_PIXELS,
    MIN_CONFIDENCE,
    DetectionSize,
    DetectorName,
    EmbeddingType,
    Engine,
    FaceConfig,
    FaceMode,
    InputConfig,
    LoaderConfig,
    ModelConfig,
    OutputConfig,
    ScaleConfig,
    StreamFormat,
    VideoBackend,
    VideoConfig,
)
from motivnet_cli.errors import ConfigError
from motivnet_cli.shards import parse_shard


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputOptions(OptionGroup):
    """What is read, beside the arguments."""

    panel = "Inputs"

    recursive: Annotated[bool, typer.Option("--recursive/--no-recursive", help="Read subfolders.")] = True
    include: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Of the files in folders, read only those that match.")
    ] = None
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Of the files in folders, skip those that match.")
    ] = None
    manifest: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="A table (.csv, .jsonl, .parquet) with one input per row.")
    ] = None
    path_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="The manifest's column of paths. Default: one of the usual names, path first."
        ),
    ] = None
    box_columns: Annotated[
        str | None,
        typer.Option(
            metavar="[UNIT:]A,B,C,D",
            help="The manifest's columns of face boxes, or one column of lists. UNIT is xyxy, xywh, relative-xyxy or "
            "relative-xywh. Default: the usual names.",
        ),
    ] = None
    keep: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column of the manifest to copy to the output.")
    ] = None
    files_from: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="A list of inputs, one per line; - is stdin.")
    ] = None
    files0_from: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A list of inputs that end in NUL bytes, as find -print0 writes it."),
    ] = None
    relative_to: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Name inputs by their paths below this folder, however they are given."),
    ] = None
    absolute: Annotated[
        bool, typer.Option("--absolute", help="Name inputs by their absolute paths, however they are given.")
    ] = False
    follow: Annotated[
        bool,
        typer.Option(
            "--follow/--no-follow",
            help="Follow symbolic links that lead out of the given folders, or list each of them as failed.",
        ),
    ] = True
    allow_scheme: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCHEME",
            help="Read URLs of this scheme, too, where lists and manifests name them. Always read: http, https, s3, "
            "gs, hf, and the schemes of URLs among the arguments.",
        ),
    ] = None

    def config(self, paths: Sequence[str]) -> InputConfig:
        return InputConfig(
            paths=tuple(paths),
            recursive=self.recursive,
            follow_links=self.follow,
            include=tuple(self.include or ()),
            exclude=tuple(self.exclude or ()),
            files_from=tuple(self.files_from or ()),
            files0_from=tuple(self.files0_from or ()),
            manifests=tuple(self.manifest or ()),
            allow_schemes=tuple(self.allow_scheme or ()),
            path_column=self.path_column,
            box_columns=self.box_columns,
            keep=tuple(self.keep or ()),
            relative_to=self.relative_to,
            absolute=self.absolute,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceOptions(OptionGroup):
    """How faces are found and cropped."""

    panel = "Faces"

    faces: Annotated[
        str,
        typer.Option(
            metavar="detect|whole|auto",
            help="detect: find faces; a picture without one has no row. whole: every picture is a face crop already. "
            "auto: like detect, but a small, nearly square picture without a face is taken whole; never in a video.",
        ),
    ] = "detect"
    detector: Annotated[
        DetectorName,
        typer.Option(help="blazeface is faster, misses small faces, and takes more other things for faces."),
    ] = "retinaface"
    detection_size: Annotated[
        str,
        typer.Option(
            metavar="auto|PIXELS",
            help="auto: RetinaFace looks at the picture, and again and closer where it is in doubt, so that a face of "
            "3 % of the longer side is found. A number: one look at the picture shrunk to it on the longer side.",
        ),
    ] = "auto"
    margin: Annotated[
        float | None,
        typer.Option(
            help="Margin around a face: the crop is a square of (1 + margin) times the height of the face. "
            "Default: the model's.",
        ),
    ] = None
    align: Annotated[
        bool | None,
        typer.Option(
            "--align/--no-align",
            help="Rotate the crop until the eyes are level, where the detector saw them. Default: the model's.",
        ),
    ] = None
    min_face: Annotated[
        int, typer.Option(metavar="PIXELS", help="Leave out detected faces narrower or lower than this.")
    ] = 0
    max_roll: Annotated[
        float | None,
        typer.Option(
            metavar="DEGREES",
            help="Leave out detected faces that lie further on their side in the picture, either way, than this.",
        ),
    ] = None
    min_sharpness: Annotated[
        float, typer.Option(help="Leave out detected faces whose column blur (the variance of the Laplacian) is lower.")
    ] = 0.0
    max_faces: Annotated[
        int | None, typer.Option(help="Keep at most this many faces per picture, the largest first.")
    ] = None
    min_confidence: Annotated[
        float, typer.Option(metavar="SCORE", help="Skip detections with a lower score, which is between 0 and 1.")
    ] = MIN_CONFIDENCE

    def config(self) -> FaceConfig:
        return FaceConfig(
            mode=parse_faces(self.faces),
            detector=self.detector,
            detection_size=parse_detection_size(self.detection_size),
            margin=self.margin,
            align=self.align,
            min_face=self.min_face,
            max_roll=self.max_roll,
            min_sharpness=self.min_sharpness,
            max_faces=self.max_faces,
            min_confidence=self.min_confidence,
        )


def parse_faces(text: str) -> FaceMode:
    """The mode that --faces names.

    Raises:
        ConfigError: It names none.
    """
    if text in ("detect", "whole", "auto"):
        return cast("FaceMode", text)
    if text == "largest" or text.isdigit():
        number = 1 if text == "largest" else int(text)
        raise ConfigError(f"--faces {text} is now --max-faces {number}, and --faces takes detect, whole or auto")
    raise ConfigError(f"--faces takes detect, whole or auto, got {text!r}")


def parse_detection_size(text: str) -> DetectionSize:
    """The setting that --detection-size names.

    Raises:
        ConfigError: It is neither `auto` nor a whole number.
    """
    if text == "auto":
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"--detection-size takes auto or a whole number of pixels, got {text!r}") from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoOptions(OptionGroup):
    """Which frames of a video are looked at, and how they are decoded."""

    panel = "Video"

    fps: Annotated[
        float | None,
        typer.Option(help=f"Frames per second of video to look at. Default: {DEFAULT_FPS:g}."),
    ] = None
    every: Annotated[int | None, typer.Option(help="Look at every N-th frame, in place of --fps.")] = None
    frames: Annotated[Literal["all"] | None, typer.Option(help="all: look at every frame, in place of --fps.")] = None
    start: Annotated[float, typer.Option(metavar="SECONDS", help="Start videos at this second.")] = 0.0
    end: Annotated[float | None, typer.Option(metavar="SECONDS", help="End videos at this second.")] = None
    track: Annotated[
        bool, typer.Option("--track", help="Give the faces of one person in a video the same track number.")
    ] = False
    video_backend: Annotated[VideoBackend, typer.Option(help="Video decoder.")] = "auto"

    def config(self) -> VideoConfig:
        if sum(option is not None for option in (self.fps, self.every, self.frames)) > 1:
            raise ConfigError("give only one of --fps, --every and --frames all")
        takes_default = self.fps is None and self.every is None and self.frames is None
        return VideoConfig(
            fps=DEFAULT_FPS if takes_default else self.fps,
            every=self.every,
            start_s=self.start,
            end_s=self.end,
            track=self.track,
            backend=self.video_backend,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionOptions(NetworkOptions):
    """Which network runs, on what, and how."""

    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="How a crop is fitted to the network's input: of MotivNet stretch, pad or stretch-224. Default: the "
            "model's.",
        ),
    ] = None
    flip: Annotated[
        bool | None,
        typer.Option("--flip/--no-flip", help="Average with the mirror image. Default: the model's."),
    ] = None
    precision: PrecisionName = "auto"
    compiled: Compile = False

    def config(self) -> ModelConfig:
        return dataclasses.replace(
            super().config(),
            recipe=self.recipe,
            flip=self.flip,
            precision=self.precision,
            compile=self.compiled,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadingOptions(OptionGroup):
    """How inputs are read."""

    panel = "Machine"

    threads: Threads = None
    max_pixels: Annotated[
        int, typer.Option(metavar="PIXELS", help="A picture with more pixels is listed as failed and not decoded.")
    ] = MAX_PIXELS
    input_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Give up a picture that is not decoded in this time, and a video of which nothing comes for as long.",
        ),
    ] = INPUT_TIMEOUT_SECONDS

    allow_private: Annotated[
        bool,
        typer.Option(
            "--allow-private-addresses",
            rich_help_panel="Inputs",
            help="Follow redirects of public web servers into a private network, and read from link-local addresses.",
        ),
    ] = False

    def config(self) -> LoaderConfig:
        return LoaderConfig(
            threads=self.threads,
            max_pixels=self.max_pixels,
            input_timeout_s=self.input_timeout,
            allow_private=self.allow_private,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaleOptions(OptionGroup):
    """Which processes take part in the run."""

    panel = "Cluster"

    devices: Annotated[
        str | None,
        typer.Option(
            metavar="all|A,B,...",
            rich_help_panel="Machine",
            help="Start a worker process on each device: all (every CUDA device), or a list such as 0,1 or cpu,cpu. "
            "They write one output.",
        ),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N|auto",
            help="Do share I (from 0) of N of this run, while other processes do theirs with the same --out. auto "
            "reads I and N from Slurm, PBS, SGE or LSF.",
        ),
    ] = None
    engine: Annotated[
        Engine,
        typer.Option(help="Where the work is done: on this machine, or on a Ray cluster (needs motivnet-cli[ray])."),
    ] = "local"
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="auto|HOST:PORT",
            help="With --engine ray: the cluster to join. Default: a Ray on this machine, for this run.",
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            help="With --engine ray: number of actors. Default: as many as fit on the cluster, also when it grows.",
        ),
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            help="With --engine ray: GPUs per actor, from 0 to 1; 0.5 puts two actors on a GPU. Default: 1 where the "
            "cluster has GPUs.",
        ),
    ] = None
    cpus_per_worker: Annotated[
        int | None,
        typer.Option(
            help="With --engine ray: CPUs per actor. Default: a GPU's share of its node, or up to 4.",
        ),
    ] = None

    def config(self) -> ScaleConfig:
        return ScaleConfig(
            devices=_parse_devices(self.devices),
            shard=None if self.shard is None else parse_shard(self.shard),
            engine=self.engine,
            ray_address=self.ray_address,
            workers=self.workers,
            gpus_per_worker=self.gpus_per_worker,
            cpus_per_worker=self.cpus_per_worker,
        )


def _parse_devices(text: str | None) -> tuple[str, ...]:
    """The devices that --devices names; a number is a CUDA device."""
    names = [] if text is None else [name.strip() for name in text.split(",")]
    return tuple(f"cuda:{name}" if name.isdigit() else name for name in names)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputOptions(OptionGroup):
    """What is written, and what happens to an output that exists."""

    panel = "Output"

    embeddings: Annotated[
        EmbeddingType, typer.Option(help="Number type of the column embedding; none leaves the column out.")
    ] = "float16"
    landmarks: Annotated[
        bool,
        typer.Option(
            "--landmarks/--no-landmarks", help="Write the five points of each face (columns left_eye_x, ...)."
        ),
    ] = True
    stream_format: Annotated[StreamFormat, typer.Option("--format", help="Format of rows on stdout (--out -).")] = (
        "jsonl"
    )
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Start anew, and replace what is at --out.", rich_help_panel="Resume"),
    ] = False
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Read the failed inputs of a finished output again.", rich_help_panel="Resume"
        ),
    ] = False
    extend: Annotated[
        bool,
        typer.Option("--extend", help="Add new and changed inputs to a finished output.", rich_help_panel="Resume"),
    ] = False
    hash_contents: Annotated[
        bool,
        typer.Option(
            "--hash",
            help="Hash every file, so that --extend recognises changed inputs by content.",
            rich_help_panel="Resume",
        ),
    ] = False
    commit_seconds: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Commit at least this often. A crash costs no more work than that.",
            rich_help_panel="Resume",
        ),
    ] = COMMIT_SECONDS

    def config(self, path: str) -> OutputConfig:
        return OutputConfig(
            path=path,
            stream_format=self.stream_format,
            embeddings=self.embeddings,
            landmarks=self.landmarks,
            overwrite=self.overwrite,
            retry_failed=self.retry_failed,
            extend=self.extend,
            hash_contents=self.hash_contents,
            commit_seconds=self.commit_seconds,
        )
