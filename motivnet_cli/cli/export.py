"""`motivnet export`: results and models, in the forms that people use next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from motivnet_cli import errors
from motivnet_cli.catalogue import CARDS, DEFAULT_MODEL
from motivnet_cli.cli.terminal import STORE_OPTION, print_data, print_json, reporting_errors, talking

export = typer.Typer(
    help="Write results and models in the forms that people use next.", no_args_is_help=True, rich_markup_mode=None
)


@export.command()
def predictions(
    path: Annotated[str | None, typer.Argument(help="What annotate wrote: a .parquet file or a folder.")] = None,
    *,
    to: Annotated[str | None, typer.Option(help="The format: see --list.")] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="File or folder; - is stdout, for csv and jsonl.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Only such rows: \"confidence > 0.8 AND emotion = 'anger'\".")
    ] = None,
    columns: Annotated[str | None, typer.Option(metavar="A,B,...", help="Only these columns.")] = None,
    embeddings: Annotated[
        bool | None,
        typer.Option("--embeddings/--no-embeddings", help="Default: the format's way.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace what an earlier export wrote.")] = False,
    list_formats: Annotated[bool, typer.Option("--list", help="Show the formats: for whom, kept, lost.")] = False,
) -> None:
    """Write predictions as a table, captions, annotations or another tool's output.

    Example: motivnet export predictions preds.parquet --to csv

    It streams: memory does not grow with the file, and a killed export leaves nothing under the name.
    """
    with reporting_errors(), talking(quiet=False) as console:
        from motivnet_cli.export import FORMATS, export_predictions

        if list_formats:
            lines = [
                f"{form.name}\n  for: {form.for_whom}\n  kept: {form.kept}\n  lost: {form.lost}"
                for form in FORMATS.values()
            ]
            print_data("\n".join(lines))
            return
        if path is None or to is None:
            raise errors.ConfigError(
                "give predictions and a format: motivnet export predictions preds.parquet --to csv"
            )
        written = export_predictions(
            path,
            to,
            out or _default_name(path, FORMATS[to].suffix if to in FORMATS else ""),
            where=where,
            columns=[name.strip() for name in columns.split(",")] if columns else None,
            embeddings=embeddings,
            overwrite=overwrite,
        )
        if str(written) != "-":
            console.print(f"written: {written}", markup=False, soft_wrap=True)


def _default_name(path: str, suffix: str) -> str:
    """Beside the predictions, or here if they are behind a URL: preds.parquet -> preds.csv, or a folder."""
    stem = Path(Path(path).name if "://" in path else path)
    return str(stem.with_name(f"{stem.stem}-exported" if suffix in ("", stem.suffix) else stem.stem + suffix))


@export.command()
def merge(
    parts: Annotated[list[str], typer.Argument(help="Outputs of the shards of one run.")],
    *,
    out: Annotated[str, typer.Option("--out", "-o", help="The joined output, ending in .parquet.")],
    force: Annotated[
        bool, typer.Option("--force", help="Join other runs, doubled inputs or missing shards too.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
) -> None:
    """Join outputs of one run's shards into one.

    Example: motivnet export merge part1.parquet part2.parquet --out preds.parquet
    """
    with reporting_errors(), talking(quiet=False):
        from motivnet_cli.export.merge import merge as join

        print_json(join(parts, out, allow_mixed=force, overwrite=overwrite))


@export.command()
def model(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help=f"One of: {', '.join(CARDS)}.")] = DEFAULT_MODEL,
    *,
    to: Annotated[str, typer.Option(help="onnx, torch-export or safetensors.")],
    out: Annotated[str, typer.Option("--out", "-o", help="File to write.")],
    weights: Annotated[str | None, typer.Option(help="A checkpoint file in place of the stored weights.")] = None,
    store: Annotated[str | None, STORE_OPTION] = None,
    recipe: Annotated[str | None, typer.Option(help="Input recipe that the file is for.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16 or bf16, where the format allows.")] = "fp32",
    input_type: Annotated[str, typer.Option("--input", help="uint8 or float: of the pixels, 0 to 255.")] = "uint8",
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
) -> None:
    """Write a network to a file that runs without motivnet, checked against it, with an example that runs it.

    Example: motivnet export model expression-net --to onnx --out expression.onnx
    """
    with reporting_errors(), talking(quiet=False) as console:
        for option, value, known in (
            ("--to", to, ("onnx", "torch-export", "safetensors")),
            ("--precision", precision, ("fp32", "fp16", "bf16")),
            ("--input", input_type, ("uint8", "float")),
        ):
            if value not in known:
                raise errors.ConfigError(f"{option} takes {', '.join(known)}, got {value!r}")
        from motivnet_cli.export import network

        chosen: dict[str, Any] = {"to": to, "precision": precision, "input_type": input_type}
        result = network.export_model(
            name,
            out=out,
            weights=weights,
            store=store,
            recipe=recipe,
            overwrite=overwrite,
            **chosen,
        )
        console.print(
            f"written: {', '.join(map(str, result['files']))}; largest difference to PyTorch on random inputs: "
            f"{result['largest_difference']:.1e}",
            markup=False,
            soft_wrap=True,
        )
        print_json(result)


@export.command()
def report(
    path: Annotated[str, typer.Argument(help="What annotate wrote: a .parquet file or a folder.")],
    *,
    out: Annotated[str, typer.Option("--out", "-o", help="The page.")] = "report.html",
    images: Annotated[bool, typer.Option("--images/--no-images", help="Show faces cut from your local files.")] = True,
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
) -> None:
    """One page to show others: counts, failures, emotions, galleries, a map of the embeddings, timelines.

    Example: motivnet export report preds.parquet --out report.html
    """
    with reporting_errors(), talking(quiet=False) as console:
        from motivnet_cli.report.predictions import write_page

        written = write_page(path, out, images=images, overwrite=overwrite)
        console.print(f"written: {written}", markup=False, soft_wrap=True)


@export.command()
def overlay(
    video: Annotated[str, typer.Argument(help="The video.")],
    predictions: Annotated[str, typer.Argument(help="What annotate wrote of it.")],
    *,
    out: Annotated[str, typer.Option("--out", "-o", help="The video to write, ending in .mp4.")],
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
) -> None:
    """Draw boxes, tracks and emotions on a video.

    Example: motivnet export overlay talk.mp4 preds.parquet --out annotated.mp4
    """
    with reporting_errors(), talking(quiet=False):
        from motivnet_cli.export.overlay import write_overlay

        print_json(write_overlay(video, predictions, out, overwrite=overwrite))
