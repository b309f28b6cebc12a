"""`motivnet export`: predictions and networks in other formats."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motivnet_cli import errors
from motivnet_cli.catalogue import DEFAULT_MODEL
from motivnet_cli.cli.command import App
from motivnet_cli.cli.help import OTHER
from motivnet_cli.cli.log import phase, say, warn
from motivnet_cli.cli.missing_weights import with_weights
from motivnet_cli.cli.options import (
    AcceptTerms,
    AsJson,
    FilterOptions,
    LogOptions,
    OptionGroup,
    Overwrite,
    Predictions,
    StoreFolder,
    Weights,
)
from motivnet_cli.cli.progress import watch_run
from motivnet_cli.cli.terminal import StopSignals, exit_stopped, importing, print_json, print_lines, talking
from motivnet_cli.export.formats import FORMATS, Format, NetworkFormat, NetworkPrecision, PixelType

if TYPE_CHECKING:
    from motivnet_cli.export.overlay import Overlays

export = App("export", help="Write predictions and networks in other formats.")


Where = Annotated[
    str | None,
    typer.Option(
        metavar="SQL",
        help="Write only these rows, such as \"confidence > 0.8 AND emotion = 'anger'\".",
        rich_help_panel="Rows and columns",
    ),
]
ImagesFrom = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Where the pictures and videos are now, if they have moved since the run.",
        rich_help_panel="Inputs",
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowOptions(OptionGroup):
    """Which rows and columns are written."""

    panel = "Rows and columns"

    where: Where = None
    columns: Annotated[str | None, typer.Option(metavar="A,B,...", help="Write only these columns.")] = None
    embeddings: Annotated[
        bool | None,
        typer.Option(
            "--embeddings/--no-embeddings",
            help="Write the embeddings. Default: depends on the format.",
        ),
    ] = None
    float32: Annotated[
        bool,
        typer.Option(
            "--float32",
            help="Write the embeddings as float32: Spark reads no float16, and R's arrow up to 24 gets other numbers.",
        ),
    ] = False


@export.command()
def predictions(
    path: Annotated[
        str | None,
        typer.Argument(metavar="PREDICTIONS", help="An output of annotate: a .parquet file or a folder."),
    ] = None,
    *,
    to: Annotated[str | None, typer.Option(metavar="FORMAT", help="Format, of those that --list shows.")] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE|FOLDER|-",
            help="File or folder to write; - is stdout, for csv and jsonl. Default: a file beside the predictions.",
        ),
    ] = None,
    rows: RowOptions,
    bom: Annotated[
        bool,
        typer.Option("--bom", help="Begin a CSV file with a byte order mark, so that Excel knows it is UTF-8."),
    ] = False,
    decimal_comma: Annotated[
        bool,
        typer.Option(
            "--decimal-comma",
            help="Write the numbers of a CSV file as 1,4 and semicolons between fields, as Excel reads them in "
            "countries with decimal commas.",
        ),
    ] = False,
    filters: FilterOptions,
    overwrite: Overwrite = False,
    list_formats: Annotated[
        bool,
        typer.Option("--list", help="List the formats: what each is for, keeps and loses.", rich_help_panel=OTHER),
    ] = False,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Write predictions as a table, captions, annotations or another tool's output.

    Example: motivnet export predictions preds.parquet --to csv

    Rows are streamed, so memory does not grow with the file, but for sav and dta. An export that is killed leaves
    nothing under its name.
    """
    with talking(log):
        if list_formats:
            if as_json:
                print_json([dataclasses.asdict(form) for form in FORMATS.values()])
            else:
                print_lines(line for form in FORMATS.values() for line in _description(form))
            return
        if path is None or to is None:
            raise errors.ConfigError(
                "give predictions and a format: motivnet export predictions preds.parquet --to csv"
            )
        phase(f"export: {path} to {to}")
        from motivnet_cli.export.predictions import STDOUT, export_predictions

        written = export_predictions(
            path,
            to,
            out or (_default_name(path, FORMATS[to]) if to in FORMATS else ""),
            where=rows.where,
            columns=[name.strip() for name in rows.columns.split(",")] if rows.columns else None,
            embeddings=rows.embeddings,
            float32=rows.float32,
            bom=bom,
            decimal_comma=decimal_comma,
            filters=filters.filters(),
            overwrite=overwrite,
        )
        if str(written) != STDOUT:
            _say_written(written, as_json=as_json)


def _say_written(path: Path | str, *, as_json: bool) -> None:
    say(f"written: {path}", path=path)
    if as_json:
        print_json({"written": str(path)})


def _description(form: Format) -> list[str]:
    return [form.name, f"  for: {form.for_whom}", f"  kept: {form.kept}", f"  lost: {form.lost}"]


def _default_name(path: str, form: Format) -> str:
    """Beside the predictions, or here if they are behind a URL: preds.csv, preds.coco.json, preds.label-studio."""
    given = Path(Path(path).name if "://" in path else path)
    stem = given.name.removesuffix(".parquet")  # a folder's name may have dots: run.1, run.2
    suffix = f".{form.name}"
    if not form.is_folder and form.suffix != suffix:
        suffix += form.suffix
    return str(given.with_name(stem + (f"-exported{suffix}" if suffix == given.suffix else suffix)))


@export.command()
def merge(
    parts: Annotated[
        list[str],
        typer.Argument(metavar="PREDICTIONS", help="Outputs of annotate: one for each shard of a run, or one folder."),
    ],
    *,
    out: Annotated[
        str,
        typer.Option("--out", "-o", metavar="OUT", help="The merged output: a name ending in .parquet, or a folder."),
    ],
    part_size: Annotated[
        int | None,
        typer.Option(
            metavar="MB",
            min=1,
            help="Of a folder: parts are joined to files of up to this size; none is cut. 256 by default.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also merge different runs, with doubled inputs, or without missing shards."),
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Merge outputs of the shards of one run into one output, or the many parts of a folder into fewer.

    Example: motivnet export merge part1.parquet part2.parquet --out preds.parquet
    """
    with talking(log):
        phase(f"export: merging to {out}")
        from motivnet_cli.export.merge import merge as join

        part_bytes = None if part_size is None else part_size * 1_000_000
        merged = join(parts, out, part_bytes=part_bytes, allow_mixed=force, overwrite=overwrite)
        doubled = f"; {merged.doubled:,} doubled inputs left out" if merged.doubled else ""
        say(f"written: {', '.join(merged.outputs)}: {merged.faces:,} faces of {merged.inputs:,} inputs{doubled}")
        if as_json:
            print_json(dataclasses.asdict(merged))


@export.command()
def model(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A model that `motivnet models` lists, or one in the store. "
            f"Default: {DEFAULT_MODEL}, or what the file of --weights holds.",
            metavar="MODEL",
        ),
    ] = None,
    *,
    to: Annotated[NetworkFormat, typer.Option(help="Format of the file.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="File to write.")],
    weights: Weights = None,
    store: StoreFolder = None,
    accept_terms: AcceptTerms = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE", help="Input recipe that the file is for. Default: the model's.", rich_help_panel="Model"
        ),
    ] = None,
    precision: Annotated[
        NetworkPrecision,
        typer.Option(help="Number type of weights and arithmetic, where the format allows it."),
    ] = "fp32",
    input_type: Annotated[
        PixelType,
        typer.Option("--input", help="Number type of the pixels, whose values are 0 to 255."),
    ] = "uint8",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Write a network to a file that runs without motivnet.

    Example: motivnet export model expression-net --to onnx --out expression.onnx

    The file is compared with the network first, and an example that runs it is written beside it.
    """
    with talking(log) as talk:
        phase(f"export: {name or weights or DEFAULT_MODEL} to {out} ({to})")
        with importing():
            from motivnet_cli.export.network import export_model

        export_it = partial(
            export_model,
            name,
            to,
            out,
            weights=weights,
            store=store,
            recipe=recipe,
            precision=precision,
            input_type=input_type,
            overwrite=overwrite,
        )
        result = with_weights(export_it, talk, log, accept_terms=accept_terms)
        say(
            f"written: {', '.join(map(str, result.files))}; largest difference to PyTorch on random inputs: "
            f"{result.largest_difference:.1e}"
        )
        if as_json:
            print_json(dataclasses.asdict(result))


@export.command()
def report(
    path: Predictions,
    *,
    out: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="HTML file to write.")] = "report.html",
    images: Annotated[
        bool,
        typer.Option("--images/--no-images", help="Show faces, cropped from local files.", rich_help_panel="Inputs"),
    ] = True,
    images_from: ImagesFrom = None,
    filters: FilterOptions,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Write a page that shows a run: people, timelines, emotions, a map of the embeddings, galleries, failures.

    Example: motivnet export report preds.parquet --out report.html
    """
    with talking(log):
        phase(f"export: {path} to {out}")
        from motivnet_cli.report.predictions import write_page

        written = write_page(
            path, out, images=images, images_from=images_from, filters=filters.filters(), overwrite=overwrite
        )
        _say_written(written, as_json=as_json)


@export.command()
def crops(
    path: Predictions,
    *,
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Folder to write: a folder for each emotion, and metadata.csv."
        ),
    ] = "crops",
    per_class: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many faces of each emotion: a random sample, the same one each time."),
    ] = None,
    where: Where = None,
    images_from: ImagesFrom = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Write the faces as PNG files in a folder for each emotion: a data set.

    Example: motivnet export crops preds.parquet --out crops --per-class 500 --where "confidence > 0.8"

    A crop is what the network saw. Faces whose pictures are gone or have changed are left out, and counted.
    """
    with talking(log):
        phase(f"export: {path} to {out}")
        from motivnet_cli.export.crops import write_crops

        written = write_crops(path, out, where=where, per_class=per_class, images_from=images_from, overwrite=overwrite)
        say(f"written: {out} (faces: {written.faces:,})", path=out)
        if as_json:
            print_json(dataclasses.asdict(written))


@export.command()
def overlay(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PREDICTIONS [INPUT]",
            help="An output of annotate, and the pictures and videos to draw, by file or by name. Default: all. "
            "One input may also stand first: talk.mp4 preds.parquet.",
        ),
    ],
    *,
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE|FOLDER",
            help="Folder to write, or the file for one input: a name ending in .mp4, .jpg or .png.",
        ),
    ],
    where: Where = None,
    images_from: ImagesFrom = None,
    bars: Annotated[
        bool, typer.Option("--bars/--no-bars", help="Draw bars of the three highest probabilities.")
    ] = True,
    start: Annotated[
        float, typer.Option(metavar="SECONDS", help="Of videos: begin here, by the clock of a player.")
    ] = 0.0,
    end: Annotated[float | None, typer.Option(metavar="SECONDS", help="Of videos: end here.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Draw boxes, labels and tracks on pictures and videos.

    Example: motivnet export overlay preds.parquet --out seen

    Each file appears whole or not at all, and the same command goes on where it was stopped.
    """
    with StopSignals(log) as stop, talking(log) as talk:
        phase(f"export: boxes and emotions to {out}")
        from motivnet_cli.export.overlay import write_overlays
        from motivnet_cli.inputs.names import kind_of

        predictions, *inputs = paths
        if inputs and kind_of(predictions) in ("image", "video"):
            *inputs, predictions = paths
        with watch_run(talk) as progress:
            drawn = write_overlays(
                predictions,
                out,
                inputs,
                where=where,
                images_from=images_from,
                bars=bars,
                start_s=start,
                end_s=end,
                overwrite=overwrite,
                progress=progress,
                stop=stop,
            )
        _say_overlays(drawn)
        if as_json:
            print_json(_overlays_as_json(drawn))
        if drawn.stopped:
            raise exit_stopped(stop)
        raise typer.Exit(errors.EXIT_TOO_MANY_FAILED if drawn.failed else errors.EXIT_OK)


def _say_overlays(drawn: Overlays) -> None:
    for name, problem in drawn.failures:
        warn(f"failed: {name}: {problem.message}", input=name, error_type=problem.error_type)
    if drawn.failed > len(drawn.failures):
        warn(f"and {drawn.failed - len(drawn.failures):,} more failed")
    for name, sentence in drawn.remarks:
        warn(f"{name}: {sentence}", input=name)
    if drawn.not_found:
        warn(drawn.not_found)
    if drawn.earlier and not drawn.drawn:
        say(f"nothing new to draw: {_count(drawn.earlier, 'file')} there (--overwrite starts anew)")
    else:
        say(f"written: {drawn.written} ({_what_was_drawn(drawn)})", path=drawn.written)


def _what_was_drawn(drawn: Overlays) -> str:
    kinds = {"picture": drawn.pictures, "video": drawn.videos, "face": drawn.faces}
    others = {"were there": drawn.earlier, "not found": drawn.absences.total(), "failed": drawn.failed}
    others |= {"not read in the run": drawn.unread, "without a box": drawn.faces_without_box}
    counts = [_count(count, noun) for noun, count in kinds.items() if count]
    return ", ".join([*counts, *(f"{count:,} {what}" for what, count in others.items() if count)])


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _overlays_as_json(drawn: Overlays) -> dict[str, object]:
    return dataclasses.asdict(drawn) | {
        "failures": [{"input": name, **dataclasses.asdict(problem)} for name, problem in drawn.failures],
        "remarks": [remark._asdict() for remark in drawn.remarks],
        "absences": dict(drawn.absences),  # which `asdict` takes apart
    }
