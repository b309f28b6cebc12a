"""`motivnet annotate`."""

from __future__ import annotations

import dataclasses
import sys
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from motivnet_cli import errors
from motivnet_cli.catalogue import CARDS, DEFAULT_MODEL
from motivnet_cli.cli.terminal import (
    STORE_OPTION,
    StopSignals,
    batch_size_of,
    command_line,
    print_json,
    reporting_errors,
    talking,
    watching,
)
from motivnet_cli.config import (
    COMMIT_SECONDS,
    DEFAULT_FPS,
    DETECTION_SIZE,
    MAX_PIXELS,
    MIN_CONFIDENCE,
    FaceConfig,
    InputConfig,
    LoaderConfig,
    ModelConfig,
    OutputConfig,
    RunConfig,
    ScaleConfig,
    VideoConfig,
)
from motivnet_cli.shards import parse_shard

if TYPE_CHECKING:
    from rich.console import Console

    from motivnet_cli.config import FaceMode
    from motivnet_cli.records import Summary


class Detector(str, Enum):
    """Values of --detector."""

    retinaface = "retinaface"
    blazeface = "blazeface"


class Frames(str, Enum):
    """Values of --frames."""

    all = "all"


class Backend(str, Enum):
    """Values of --video-backend."""

    auto = "auto"
    pyav = "pyav"
    decord = "decord"


class Stream(str, Enum):
    """Values of --format."""

    jsonl = "jsonl"
    arrow = "arrow"


class EngineName(str, Enum):
    local = "local"
    ray = "ray"


class PrecisionName(str, Enum):
    """Values of --precision."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"
    int8 = "int8"


class Embeddings(str, Enum):
    """Values of --embeddings."""

    float16 = "float16"
    float32 = "float32"
    none = "none"


def annotate(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUTS]...",
            help="Pictures, videos, archives (.tar, .zip), folders of them, patterns, URLs, and - for a list on stdin.",
        ),
    ] = None,
    *,
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            help="A name ending in .parquet for one file, a folder for a set of parts, or - for rows to stdout.",
        ),
    ],
    manifest: Annotated[
        list[str] | None, typer.Option(help="A table (.csv, .jsonl, .parquet) with an input in every row.")
    ] = None,
    path_column: Annotated[str, typer.Option(help="The manifest's column of paths.")] = "path",
    keep: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column of the manifest that passes through.")
    ] = None,
    files_from: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="A list of inputs, one a line; - is stdin.")
    ] = None,
    files0_from: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="A list with NUL bytes between, as find -print0 writes.")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive/--no-recursive", help="Enter folders within folders.")] = True,
    include: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="In folders, take only such files.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="In folders, leave out such files.")] = None,
    model: Annotated[str, typer.Option(help=f"One of: {', '.join(CARDS)} (see `motivnet models`).")] = DEFAULT_MODEL,
    weights: Annotated[
        str | None, typer.Option(help="A checkpoint file (.pth or .safetensors) in place of the stored weights.")
    ] = None,
    store: Annotated[str | None, STORE_OPTION] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="How a crop is fitted to the network: stretch or pad. Default: the model's."),
    ] = None,
    faces: Annotated[
        str,
        typer.Option(
            metavar="auto|detect|whole|largest|N",
            help="auto: find faces, and take the whole picture where there is none; detect: find faces only; "
            "whole: every picture is a face already; largest, or a number: as auto, but so many, the largest first.",
        ),
    ] = "auto",
    detector: Annotated[
        Detector, typer.Option(help="blazeface is faster and misses small faces.")
    ] = Detector.retinaface,
    detection_size: Annotated[
        int, typer.Option(help="RetinaFace looks at pictures of this longer side; larger finds smaller faces, slower.")
    ] = DETECTION_SIZE,
    margin: Annotated[
        float | None,
        typer.Option(
            help="Room around a face: the crop is a square of (1 + margin) face heights. Default: the model's."
        ),
    ] = None,
    min_face: Annotated[int, typer.Option(help="Leave out faces narrower or lower than this, in pixels.")] = 0,
    max_faces: Annotated[int | None, typer.Option(help="At most this many faces a picture, largest first.")] = None,
    min_confidence: Annotated[float, typer.Option(help="Leave out detections with a lower score.")] = MIN_CONFIDENCE,
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip",
            help="Average with the mirror image. Default: the model's.",
            show_default=False,
        ),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help=f"Frames of a video a second. Default: {DEFAULT_FPS:g}.", show_default=False)
    ] = None,
    every: Annotated[int | None, typer.Option(help="Every N-th frame, in place of --fps.")] = None,
    frames: Annotated[Frames | None, typer.Option(help="all: every frame, in place of --fps.")] = None,
    start: Annotated[float, typer.Option(help="Begin videos at this second.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="End videos at this second.")] = None,
    track: Annotated[bool, typer.Option("--track", help="Number the faces of one person in a video alike.")] = False,
    video_backend: Annotated[Backend, typer.Option(help="Video decoder.")] = Backend.auto,
    embeddings: Annotated[Embeddings, typer.Option(help="Number type of the embedding column.")] = Embeddings.float16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="all|LIST",
            help="A worker process for each, such as all (every CUDA device), 0,1 or cpu,cpu; one output.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N|auto",
            help="Do share I (from 0) of N of this run, while others do theirs to the same --out; auto reads I and N "
            "from Slurm, PBS, SGE or LSF.",
        ),
    ] = None,
    engine: Annotated[
        EngineName,
        typer.Option(help="Who does the work: this machine, or actors on a Ray cluster (extra motivnet-cli\\[ray])."),
    ] = EngineName.local,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="With --engine ray: the cluster to join, such as auto or HOST:6379. Default: a Ray on this machine "
            "for this run.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="With --engine ray: actors. Default: as many as the cluster has room for, and more as it grows.",
            show_default=False,
        ),
    ] = None,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            help="With --engine ray: from 0 to 1, such as 0.5 for two actors on one GPU. Default: 1 where the cluster "
            "has GPUs.",
            show_default=False,
        ),
    ] = None,
    cpus_per_worker: Annotated[
        int | None,
        typer.Option(
            help="With --engine ray: CPUs of an actor. Default: a GPU's share of its node, or up to 4.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        PrecisionName,
        typer.Option(help="auto: bf16 where the device multiplies in it, else fp32. fp32 is without TF32."),
    ] = PrecisionName.auto,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network first, which takes a minute or more.")
    ] = False,
    batch_size: Annotated[str, typer.Option(help="Faces in one pass of the network, or auto.")] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(help="Threads that read and find faces. Default: the cores this process may use."),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(help="Pictures with more pixels are listed as failed, not decoded.")
    ] = MAX_PIXELS,
    max_failures: Annotated[
        str, typer.Option(metavar="N|P%", help="Exit with code 3 when more inputs than this failed.")
    ] = "0",
    retry_failed: Annotated[bool, typer.Option(help="Take up the failed inputs of a finished output again.")] = False,
    extend: Annotated[bool, typer.Option("--extend", help="Add new and changed inputs to a finished output.")] = False,
    hash_contents: Annotated[
        bool, typer.Option("--hash", help="Tell changed inputs of --extend by content; hashes every file.")
    ] = False,
    stream_format: Annotated[Stream, typer.Option("--format", help="Of rows to stdout (--out -).")] = Stream.jsonl,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be read, and do nothing.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Start anew, replacing what is at --out.")] = False,
    commit_seconds: Annotated[
        float, typer.Option(help="Commit at least this often: the most work that a crash can cost.")
    ] = COMMIT_SECONDS,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON to stdout.")] = False,
) -> None:
    """Name the emotion of every face in pictures.

    Example: motivnet annotate ./photos --out preds.parquet

    One row a face goes to preds.parquet; preds.inputs.parquet beside it lists every input and what became of it.
    Started again, the same command goes on where it stopped.
    """
    with StopSignals() as stop, reporting_errors(), talking(quiet=quiet) as console:
        allowed = Allowance(max_failures)
        face_mode, max_faces = face_mode_of(faces, max_faces)
        config = RunConfig(
            inputs=InputConfig(
                paths=tuple(inputs or ()),
                recursive=recursive,
                include=tuple(include or ()),
                exclude=tuple(exclude or ()),
                files_from=tuple(files_from or ()),
                files0_from=tuple(files0_from or ()),
                manifests=tuple(manifest or ()),
                path_column=path_column,
                keep=tuple(keep or ()),
            ),
            output=OutputConfig(
                path=out,
                stream_format=stream_format.value,
                embeddings=embeddings.value,
                overwrite=overwrite,
                retry_failed=retry_failed,
                extend=extend,
                hash_contents=hash_contents,
                commit_seconds=commit_seconds,
            ),
            video=VideoConfig(
                fps=_frames_a_second(fps, every=every, all_frames=frames is not None),
                every=every,
                start_s=start,
                end_s=end,
                track=track,
                backend=video_backend.value,
            ),
            model=ModelConfig(
                name=model,
                weights=weights,
                store=store,
                recipe=recipe,
                flip=flip,
                precision=precision.value,
                compile=compiled,
                device=device,
                batch_size=batch_size_of(batch_size),
            ),
            faces=FaceConfig(
                mode=face_mode,
                detector=detector.value,
                detection_size=detection_size,
                margin=margin,
                min_face=min_face,
                max_faces=max_faces,
                min_confidence=min_confidence,
            ),
            loader=LoaderConfig(threads=threads, max_pixels=max_pixels),
            scale=ScaleConfig(
                devices=devices_of(devices),
                shard=None if shard is None else parse_shard(shard),
                engine=engine.value,
                ray_address=ray_address,
                workers=workers,
                gpus_per_worker=gpus_per_worker,
                cpus_per_worker=cpus_per_worker,
            ),
            command=command_line(),
        )
        if dry_run:
            _print_listing(console, config, as_json=as_json)
            return
        from motivnet_cli.weights.store import Store, find_card

        find_card(config.model.name, Store(store))  # a mistyped name is said at once, before torch is imported
        from motivnet_cli.run import annotate as run

        pipe = sys.stdout.buffer if out == "-" else None
        with watching(console, quiet=quiet) as progress:
            summary = run(config, progress=progress, stop=stop, pipe=pipe)
        if not quiet:
            print_summary(console, summary)
        if as_json and pipe is None:
            print_json(_as_json(summary))
        raise typer.Exit(_exit_code(summary, stop, allowed))


class Allowance:
    """How many inputs may fail before the exit code says so: a number, or a share of the inputs."""

    def __init__(self, text: str) -> None:
        try:
            self._percent = float(text[:-1]) if text.endswith("%") else None
            self._number = 0 if text.endswith("%") else int(text)
        except ValueError:
            raise errors.ConfigError(
                f"--max-failures takes a number or a percentage such as 5 or 1%, got {text!r}"
            ) from None

    def covers(self, summary: Summary) -> bool:
        if self._percent is None:
            return summary.num_failed <= self._number
        return summary.num_failed * 100 <= self._percent * summary.inputs


def _exit_code(summary: Summary, stop: StopSignals, allowed: Allowance) -> int:
    if summary.stopped:
        return stop.exit_code or errors.EXIT_STOPPED_RESUMABLE
    return errors.EXIT_OK if allowed.covers(summary) else errors.EXIT_TOO_MANY_FAILED


def devices_of(text: str | None) -> tuple[str, ...]:
    """The devices that --devices names; a number is a CUDA device."""
    names = [] if text is None else [name.strip() for name in text.split(",")]
    return tuple(f"cuda:{name}" if name.isdigit() else name for name in names)


def face_mode_of(text: str, max_faces: int | None) -> tuple[FaceMode, int | None]:
    """The mode that --faces names, and how many faces a picture may have."""
    if text in ("auto", "detect", "whole"):
        return cast("FaceMode", text), max_faces
    if max_faces is not None:
        raise errors.ConfigError(f"give the number of faces once: --faces {text} or --max-faces {max_faces}")
    if text == "largest":
        return "auto", 1
    if not text.isdigit():
        raise errors.ConfigError(f"--faces takes auto, detect, whole, largest or a number, got {text!r}")
    return "auto", int(text)


def _frames_a_second(fps: float | None, *, every: int | None, all_frames: bool) -> float | None:
    if sum((fps is not None, every is not None, all_frames)) > 1:
        raise errors.ConfigError("give only one of --fps, --every and --frames all")
    return None if all_frames or every is not None else fps or DEFAULT_FPS


def print_summary(console: Console, summary: Summary) -> None:
    from rich.markup import escape
    from rich.table import Table

    for report in summary.failures:
        reason = report.problem.message if report.problem else ""
        console.print(f"failed: {escape(one_line(report.input))}: {escape(reason)}", soft_wrap=True)
    if summary.num_failed > len(summary.failures):
        console.print(f"and {summary.num_failed - len(summary.failures)} more, listed in {summary.outputs[1]}")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    statuses = ", ".join(f"{n} {status}" for status, n in summary.by_status.items())
    done = f"{summary.done} of {summary.inputs}" if summary.stopped else str(summary.inputs)
    table.add_row("inputs", done, statuses)
    emotions = sorted(summary.emotions.items(), key=lambda pair: -pair[1])
    table.add_row("faces", str(summary.faces), ", ".join(f"{n} {name}" for name, n in emotions if n))
    if not summary.already_finished:
        rate = f"{summary.faces_predicted / summary.seconds:.1f} faces/s" if summary.seconds else ""
        table.add_row("time", f"{summary.seconds:.1f} s", f"{rate} with {summary.model} on {summary.device}")
        if summary.faces_predicted:
            busy = f"the device was busy {summary.device_busy:.0%} of the time"
            table.add_row("bound by", summary.bound_by, busy)
    console.print(table)
    if summary.finished:
        for path in summary.outputs:
            console.print(f"written   {escape(path)}", soft_wrap=True)
    if summary.already_finished:
        console.print("nothing to do: this run was already finished (--overwrite starts anew)")
    if summary.stopped:
        console.print("stopped; what is done is committed: run the same command again to go on from here")
    elif not summary.finished:
        console.print("this shard is done; the output is put in its place by the shard that is last")


def _print_listing(console: Console, config: RunConfig, *, as_json: bool) -> None:
    from motivnet_cli.inputs.listing import Listing, summarise

    found = summarise(Listing(config.inputs))
    counts = ", ".join(f"{n} {kind}s" for kind, n in found.counts.items()) or "nothing"
    megabytes = sum(found.size_bytes.values()) / 1e6
    console.print(f"would read {counts}: {megabytes:.1f} MB in local files", soft_wrap=True)
    for what, numbers in (("cannot be read", found.problems), ("passed over", found.skipped)):
        if numbers:
            named = ", ".join(f"{n} {kind}" for kind, n in numbers.items())
            console.print(f"{what}: {named}", markup=False, soft_wrap=True)
    if as_json:
        print_json(dataclasses.asdict(found))


def one_line(text: str) -> str:
    return text.encode("unicode_escape").decode() if not text.isprintable() else text


def _as_json(summary: Summary) -> dict[str, Any]:
    values = dataclasses.asdict(summary)
    values["failures"] = [
        {"input": report.input, **dataclasses.asdict(report.problem)} for report in summary.failures if report.problem
    ]
    return values | {
        "faces_per_second": summary.faces_predicted / summary.seconds if summary.seconds else None,
    }
