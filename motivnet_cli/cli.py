"""The command line: options -> config -> one call -> a few lines of text.

The one room that prints, reads signals and exits. Commands import what they run, so that `motivnet --help`
waits for neither torch nor pyarrow. stdout carries data only; all talk goes to stderr.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator
from enum import Enum
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from motivnet_cli import __version__, errors
from motivnet_cli.catalogue import CARDS, DEFAULT_MODEL
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
    VideoConfig,
)

if TYPE_CHECKING:
    from rich.console import Console

    from motivnet_cli.config import FaceMode
    from motivnet_cli.records import Summary
    from motivnet_cli.store import InstallPlan, Store, StoredModel

app = typer.Typer(
    name="motivnet",
    help="Emotions and embeddings for every face in your pictures, with MotivNet, to Parquet.",
    epilog="Exit codes: 0 done, 1 a fault of ours or of the machine, 2 wrong usage or settings, 3 done but too "
    "many inputs failed, 75 stopped by SIGTERM or SIGUSR1, 130 stopped by Ctrl-C (75 and 130: run the same "
    "command again to go on).",
    no_args_is_help=True,
    rich_markup_mode=None,  # boxes and markdown double the time that --help takes (benchmarks/startup.py)
    add_completion=False,
    pretty_exceptions_enable=False,
)


STORE_OPTION = typer.Option(
    envvar="MOTIVNET_HOME", help="Folder of the model store. Default: the platform's cache folder.", show_default=False
)


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


class Embeddings(str, Enum):
    """Values of --embeddings."""

    float16 = "float16"
    float32 = "float32"
    none = "none"


def main() -> None:
    """The console script."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"motivnet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@app.command()
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
    batch_size: Annotated[str, typer.Option(help="Faces in one pass of the network, or auto.")] = "auto",
    workers: Annotated[
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
    with _StopSignals() as stop, _reporting_errors(), _talking(quiet=quiet) as console:
        allowed = _Allowance(max_failures)
        face_mode, max_faces = _face_mode(faces, max_faces)
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
                device=device,
                batch_size=_batch_size(batch_size),
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
            loader=LoaderConfig(workers=workers, max_pixels=max_pixels),
            command=_command_line(),
        )
        if dry_run:
            _print_listing(console, config, as_json=as_json)
            return
        from motivnet_cli.store import Store, find_card

        find_card(config.model.name, Store(store))  # a mistyped name is said at once, before torch is imported
        from motivnet_cli.annotate import annotate as run

        pipe = sys.stdout.buffer if out == "-" else None
        with _watching(console, quiet=quiet) as progress:
            summary = run(config, progress=progress, stop=stop, pipe=pipe)
        if not quiet:
            _print_summary(console, summary)
        if as_json and pipe is None:
            _print_json(_as_json(summary))
        raise typer.Exit(_exit_code(summary, stop, allowed))


@app.command("download-weights")
def download_weights(
    name: Annotated[
        str,
        typer.Argument(metavar="[NAME]", help="A model of the catalogue, or a name of your own."),
    ] = DEFAULT_MODEL,
    url: Annotated[
        str | None, typer.Option(help="Where to get it: http(s)://, file://, hf://owner/repo/file, s3://, gs://...")
    ] = None,
    from_file: Annotated[
        str | None, typer.Option(metavar="PATH", help="A checkpoint file brought by hand, in place of a download.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="What the file must hash to.")] = None,
    store: Annotated[str | None, STORE_OPTION] = None,
    accept_terms: Annotated[bool, typer.Option("--accept-terms", help="Accept the model's terms, in scripts.")] = False,
    list_models: Annotated[bool, typer.Option("--list", help="Say what is known and what is here.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash the stored file again.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the model out of the store.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON to stdout.")] = False,
) -> None:
    """Bring a model's weights into the store.

    Example: motivnet download-weights --accept-terms

    A download goes on where it broke off, is verified, and is stored whole or not at all.
    On a machine without internet: download the file elsewhere, copy it, and use --from-file.
    MOTIVNET_OFFLINE=1 forbids every use of the network; proxies are taken from HTTPS_PROXY and its kin.
    """
    with _reporting_errors(), _talking(quiet=quiet) as console:
        from motivnet_cli.store import Store

        if sum((list_models, verify, remove)) > 1 or (url and from_file):
            raise errors.ConfigError("give only one of --list, --verify, --remove, and only one of --url, --from-file")
        models = Store(store)
        if list_models:
            _list_models(models, as_json=as_json)
            return
        if verify:
            _print_stored(console, models.verify(name), "unchanged", as_json=as_json)
            return
        if remove:
            models.remove(name)
            console.print(f"removed {name} from {models.root}", markup=False, soft_wrap=True)
            return
        if present := models.find(name):
            _print_stored(console, present, "here already", as_json=as_json)
            return
        plan = models.plan(name, url=url, file=from_file)
        if dry_run:
            _print_plan(console, plan, as_json=as_json)
            return
        _ask_for_terms(console, plan, accepted=accept_terms)
        with _watching_bytes(console, quiet=quiet) as progress:
            stored = models.install(
                name, url=url, file=from_file, sha256=sha256, offline=_is_offline(), progress=progress
            )
        _print_stored(console, stored, "stored", as_json=as_json)


@app.command()
def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False,
) -> None:
    """List the models, their terms and limits.

    Example: motivnet models
    """
    if as_json:
        _print_json([dataclasses.asdict(card) for card in CARDS.values()])
        return
    lines = []
    for card in CARDS.values():
        weights = "inside this package" if card.embedded else f"brought by `motivnet download-weights {card.name}`"
        lines += [
            f"{card.name}: {card.title}",
            f"  {card.about}",
            f"  Weights: {weights}.",
            f"  Terms: {card.terms}",
        ]
        lines += [f"  Note: {limit}" for limit in card.limits]
        lines.append("")
    _print_data("\n".join(lines[:-1]))


# ---- exit codes and signals -------------------------------------------------------------------------------


class _StopSignals:
    """The stop callback of a run: true after the first SIGINT, SIGTERM or SIGUSR1; a second one ends at once.

    Handlers stay when the run is over, so that a signal during the seconds that Python takes to end does not
    turn a finished run into a killed one.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._over = False

    def __enter__(self) -> _StopSignals:
        for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True

    def __call__(self) -> bool:
        return self.exit_code is not None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._over:
            return
        code = errors.EXIT_INTERRUPTED if number == signal.SIGINT else errors.EXIT_STOPPED_RESUMABLE
        if self.exit_code is not None:
            os._exit(code)
        self.exit_code = code
        line_end = b"\n" if os.isatty(2) else b""  # the live display may hold the cursor in its line
        os.write(2, line_end + b"stopping: the batches in hand are finished and committed; again to stop at once\n")


class _Allowance:
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


def _exit_code(summary: Summary, stop: _StopSignals, allowed: _Allowance) -> int:
    if summary.stopped and stop.exit_code is not None:
        return stop.exit_code
    return errors.EXIT_OK if allowed.covers(summary) else errors.EXIT_TOO_MANY_FAILED


def _command_line() -> str:
    """As it was typed, but for what URLs must not tell."""
    words = sys.argv[1:]
    if any("://" in word for word in words):
        from motivnet_cli.fetch import redacted

        words = [redacted(word) if "://" in word else word for word in words]
    return shlex.join(["motivnet", *words])


def _face_mode(text: str, max_faces: int | None) -> tuple[FaceMode, int | None]:
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


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise errors.ConfigError(f"--batch-size takes a whole number or auto, got {text!r}") from None


@contextlib.contextmanager
def _reporting_errors() -> Iterator[None]:
    """Errors for the user become one line and exit 2; faults become exit 1, with what to do."""
    try:
        yield
    except errors.MotivNetError as error:
        typer.echo(f"error: {error}", err=True)
        is_fault = isinstance(error, errors.FetchError)
        raise typer.Exit(errors.EXIT_FAULT if is_fault else errors.EXIT_USAGE) from error
    except BrokenPipeError:  # the reader of the rows has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(errors.EXIT_OK) from None
    except OSError as error:
        advice = "what was committed is kept: run the same command again to go on"
        if error.errno == errno.ENOSPC:
            advice = f"free some space; {advice}"
        typer.echo(f"error: {error.strerror or error}: {error.filename or ''}; {advice}", err=True)
        raise typer.Exit(errors.EXIT_FAULT) from error
    except typer.Exit:
        raise
    except Exception as error:
        if os.environ.get("MOTIVNET_DEBUG"):
            traceback.print_exc()
        typer.echo(
            f"error: a fault in motivnet: {type(error).__name__}: {error}; what was committed is kept. "
            "Set MOTIVNET_DEBUG=1 for the traceback, and please report it",
            err=True,
        )
        raise typer.Exit(errors.EXIT_FAULT) from error


# ---- talk -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _talking(*, quiet: bool) -> Iterator[Console]:
    """A console on stderr that the library's log lines go to."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    log = logging.getLogger("motivnet_cli")
    handler = _ConsoleHandler(console)
    log.addHandler(handler)
    log.setLevel(logging.ERROR if quiet else logging.INFO)
    try:
        yield console
    finally:
        log.removeHandler(handler)


class _ConsoleHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(self.format(record), markup=False, soft_wrap=True)


def _watching(console: Console, *, quiet: bool) -> contextlib.AbstractContextManager[Any]:
    from motivnet_cli.progress import plain_lines, silence, terminal_display

    if quiet:
        return silence()
    if console.is_terminal:
        return terminal_display(console)
    return plain_lines(lambda line: console.print(line, markup=False, soft_wrap=True))


def _print_summary(console: Console, summary: Summary) -> None:
    from rich.markup import escape
    from rich.table import Table

    for report in summary.failures:
        reason = report.problem.message if report.problem else ""
        console.print(f"failed: {escape(_one_line(report.input))}: {escape(reason)}", soft_wrap=True)
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
    if not summary.stopped:
        for path in summary.outputs:
            table.add_row("written", "", escape(path))
    console.print(table)
    if summary.already_finished:
        console.print("nothing to do: this run was already finished (--overwrite starts anew)")
    if summary.stopped:
        console.print("stopped; what is done is committed: run the same command again to go on from here")


def _ask_for_terms(console: Console, plan: InstallPlan, *, accepted: bool) -> None:
    """Show the terms, and go on only if they are accepted: by the flag, or by a person at the terminal."""
    console.print(f"Terms of {plan.name}: {plan.terms}", markup=False, soft_wrap=True)
    if accepted:
        return
    if not (console.is_terminal and sys.stdin.isatty()):
        raise errors.ConfigError("nobody is here to accept these terms: read them, then add --accept-terms")
    if not typer.confirm("Do you accept these terms?", err=True):
        raise errors.ConfigError("the terms were not accepted; nothing was downloaded")


def _is_offline() -> bool:
    return os.environ.get("MOTIVNET_OFFLINE", "") not in ("", "0")


def _print_stored(console: Console, model: StoredModel, what: str, *, as_json: bool) -> None:
    console.print(
        f"{model.name} is {what}: {model.size_bytes / 1e9:.2f} GB, {model.num_parameters:,} parameters, "
        f"sha256 of the source {model.sha256}, in {model.path}",
        markup=False,
        soft_wrap=True,
    )
    if as_json:
        _print_json(dataclasses.asdict(model))


def _print_plan(console: Console, plan: InstallPlan, *, as_json: bool) -> None:
    size = f"about {plan.download_bytes / 1e9:.1f} GB" if plan.download_bytes else "of unknown size"
    console.print(
        f"would bring {plan.name} from {plan.source} ({size}) into {plan.folder}, where "
        f"{plan.free_bytes / 1e9:.1f} GB are free; terms: {plan.terms}",
        markup=False,
        soft_wrap=True,
    )
    if as_json:
        _print_json(dataclasses.asdict(plan))


def _list_models(models: Store, *, as_json: bool) -> None:
    from motivnet_cli.store import find_card

    here = {model.name: model for model in models.models()}
    rows: list[dict[str, Any]] = []
    for name in [*CARDS, *(name for name in here if name not in CARDS)]:
        card = find_card(name, models)
        stored = here.get(name)
        rows.append(
            {
                "name": name,
                "here": card.embedded or stored is not None,
                "size_bytes": stored.size_bytes if stored else card.download_bytes,
                "path": stored.path if stored else None,
                "source": stored.source if stored else card.url,
                "terms": card.terms,
            }
        )
    if as_json:
        _print_json(rows)
        return
    lines = [f"store: {models.root}"]
    for row in rows:
        where = row["path"] or ("inside the package" if row["here"] else f"not here; from {row['source']}")
        size = f"{row['size_bytes'] / 1e9:.2f} GB, " if row["size_bytes"] else ""
        lines += [f"{row['name']}: {size}{where}", f"  terms: {row['terms']}"]
    _print_data("\n".join(lines))


def _watching_bytes(console: Console, *, quiet: bool) -> contextlib.AbstractContextManager[Any]:
    from motivnet_cli.progress import byte_display, byte_lines, silence_bytes

    if quiet:
        return silence_bytes()
    if console.is_terminal:
        return byte_display(console)
    return byte_lines(lambda line: console.print(line, markup=False, soft_wrap=True))


def _print_listing(console: Console, config: RunConfig, *, as_json: bool) -> None:
    from motivnet_cli.plan import Listing, summarise

    found = summarise(Listing(config.inputs))
    counts = ", ".join(f"{n} {kind}s" for kind, n in found.counts.items()) or "nothing"
    megabytes = sum(found.size_bytes.values()) / 1e6
    console.print(f"would read {counts}: {megabytes:.1f} MB in local files", soft_wrap=True)
    for what, numbers in (("cannot be read", found.problems), ("passed over", found.skipped)):
        if numbers:
            named = ", ".join(f"{n} {kind}" for kind, n in numbers.items())
            console.print(f"{what}: {named}", markup=False, soft_wrap=True)
    if as_json:
        _print_json(dataclasses.asdict(found))


def _one_line(text: str) -> str:
    return text.encode("unicode_escape").decode() if not text.isprintable() else text


def _as_json(summary: Summary) -> dict[str, Any]:
    values = dataclasses.asdict(summary)
    values["failures"] = [
        {"input": report.input, **dataclasses.asdict(report.problem)} for report in summary.failures if report.problem
    ]
    return values | {
        "faces_per_second": summary.faces_predicted / summary.seconds if summary.seconds else None,
    }


def _print_json(value: Any) -> None:  # noqa: ANN401 - anything that JSON holds
    _print_data(json.dumps(value, indent=2, ensure_ascii=False))


def _print_data(text: str) -> None:
    """Print to stdout; a reader that has gone away is no error."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
