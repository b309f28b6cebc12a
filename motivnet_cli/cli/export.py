"""`motivnet export`: predictions and networks in other formats."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from motivnet_cli import errors
from motivnet_cli.catalogue import DEFAULT_MODEL
from motivnet_cli.cli.command import App
from motivnet_cli.cli.help import OTHER
from motivnet_cli.cli.log import say, warn
from motivnet_cli.cli.options import (
    AsJson,
    FilterOptions,
    LogOptions,
    OptionGroup,
    Overwrite,
    Predictions,
    StoreFolder,
    Weights,
)
from motivnet_cli.cli.terminal import print_json, print_lines, talking
from motivnet_cli.export.formats import FORMATS, Format, NetworkFormat, NetworkPrecision, PixelType

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
        list[str], typer.Argument(metavar="PREDICTIONS", help="Outputs of annotate, one for each shard of a run.")
    ],
    *,
    out: Annotated[
        str,
        typer.Option("--out", "-o", metavar="FILE", help="The merged output, ending in .parquet."),
    ],
    force: Annotated[
        bool,
        typer.Option("--force", help="Also merge different runs, with doubled inputs, or without missing shards."),
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Merge outputs of the shards of one run into one output.

    Example: motivnet export merge part1.parquet part2.parquet --out preds.parquet
    """
    with talking(log):
        from motivnet_cli.export.merge import merge as join

        merged = join(parts, out, allow_mixed=force, overwrite=overwrite)
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
    with talking(log):
        from motivnet_cli.export.network import export_model

        result = export_model(
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
        from motivnet_cli.export.crops import write_crops

        written = write_crops(path, out, where=where, per_class=per_class, images_from=images_from, overwrite=overwrite)
        say(f"written: {out} ({written.faces:,} faces)", path=out)
        if as_json:
            print_json(dataclasses.asdict(written))


@export.command()
def overlay(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="The video that was annotated.")],
    predictions: Annotated[
        str, typer.Argument(metavar="PREDICTIONS", help="An output of annotate with the video among its inputs.")
    ],
    *,
    out: Annotated[
        str,
        typer.Option("--out", "-o", metavar="FILE", help="Video to write, ending in .mp4."),
    ],
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Draw boxes, tracks and emotions on a video.

    Example: motivnet export overlay talk.mp4 preds.parquet --out annotated.mp4
    """
    with talking(log):
        from motivnet_cli.export.overlay import write_overlay

        written = write_overlay(video, predictions, out, overwrite=overwrite)
        say(f"written: {written.out}: {written.frames:,} frames, {written.rows:,} rows drawn", path=written.out)
        if written.rows_without_box:
            warn(f"rows without a box, which are not drawn: {written.rows_without_box:,}")
        if written.problem:
            warn(f"the video breaks off: {written.problem}")
        if as_json:
            print_json(dataclasses.asdict(written))
