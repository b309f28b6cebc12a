"""`motivnet bench` and `motivnet doctor`: how fast this machine is, and what it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motivnet_cli.cli.annotate_options import parse_faces
from motivnet_cli.cli.options import (
    Compile,
    NetworkOptions,
    PrecisionName,
    Quiet,
    StoreFolder,
    Threads,
    expand_groups,
)
from motivnet_cli.cli.terminal import importing, print_json, print_lines, print_message, reporting_errors, talking
from motivnet_cli.config import FaceConfig, InputConfig, LoaderConfig, OutputConfig, RunConfig

if TYPE_CHECKING:
    from rich.console import Console

    from motivnet_cli.bench import BenchResult, MeasuredWay, SkippedWay


@expand_groups
def bench(
    inputs: Annotated[list[str], typer.Argument(help="Pictures, or folders of them, like those you will annotate.")],
    *,
    network: NetworkOptions,
    precision: PrecisionName = "auto",
    compiled: Compile = False,
    faces: Annotated[str, typer.Option(metavar="detect|whole|auto", help="As for annotate.")] = "detect",
    threads: Threads = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="About how long to measure each stage.")] = 10.0,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Measure every precision: its speed, and its agreement with fp32.")
    ] = False,
    plot: Annotated[str | None, typer.Option(metavar="FILE", help="Draw the stages to a file (.png, .svg).")] = None,
    quiet: Quiet = False,
) -> None:
    """Measure every stage on your own pictures, and say which one limits the speed.

    Example: motivnet bench ./photos --model expression-net --agreement

    JSON goes to stdout, a table to stderr. The figures hold for this machine, these pictures and this moment.
    """
    with reporting_errors(), talking(quiet=True) as console:
        config = RunConfig(
            inputs=InputConfig(paths=tuple(inputs)),
            output=OutputConfig(path="bench.parquet"),
            model=dataclasses.replace(network.config(), precision=precision, compile=compiled),
            faces=FaceConfig(mode=parse_faces(faces)),
            loader=LoaderConfig(threads=threads),
        )
        with importing():
            from motivnet_cli.bench import bench as measure
            from motivnet_cli.bench import plot as draw

        result = measure(
            config,
            seconds=seconds,
            agreement=agreement,
            on_stage=(lambda text: None) if quiet else lambda text: print_message(console, f"measuring: {text}"),
        )
        if not quiet:
            _print_bench(console, result)
        if plot:
            draw(result, Path(plot))
        print_json(result.as_json())


def doctor(
    *,
    store: StoreFolder = None,
    folder: Annotated[str, typer.Option(help="Folder that outputs will be written to.")] = ".",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Describe this machine for a bug report: versions, devices, codecs, memory, disks, limits.

    Example: motivnet doctor
    """
    with reporting_errors(), talking(quiet=False):
        from motivnet_cli.doctor import examine

        found = examine(store=store, folder=folder)
        if as_json:
            print_json(found)
        else:
            print_lines(_lines(found))


def _print_bench(console: Console, result: BenchResult) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("stage", "faces/s", "ms a face"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, stage in result.stages.items():
        table.add_row(name.replace("_", " "), _rate(stage.faces_per_s), f"{1e3 * stage.seconds_a_face:.2f}")
    table.add_row("whole run", _rate(result.whole.faces_per_s), "")
    console.print(table)
    whole, peak = result.whole, result.peak
    lines = (
        f"bound by {result.bound_by.replace('_', ' ')}",
        "faces: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result.finding.items()),
        f"of the whole run's {whole.seconds:.1f} s, {whole.starting_s:.1f} until the first faces and "
        f"{whole.finishing_s:.1f} after the last",
        f"the network does {peak.network_flop_per_s / 1e9:,.1f} GFLOP/s, {peak.share_of_peak:.0%} of this machine's "
        f"matrix product ({peak.flop_per_s / 1e9:,.1f} in {peak.dtype}, measured now), "
        f"whose rate allows {_rate(peak.bound_faces_per_s)} faces/s",
    )
    for line in lines:
        console.print(line, soft_wrap=True)
    if result.agreement is not None:
        _print_agreement(console, result.agreement)


def _print_agreement(console: Console, ways: tuple[MeasuredWay | SkippedWay, ...]) -> None:
    from rich.table import Table

    from motivnet_cli.bench import SkippedWay

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("precision", "faces/s", "of fp32", "same emotion", "mean diff.", "largest diff.", "least cosine"):
        table.add_column(column, justify="left" if column == "precision" else "right")
    for way in ways:
        if isinstance(way, SkippedWay):
            print_message(console, f"{way.name}: not run: {way.not_run}")
            continue
        found = way.agreement
        figures = ((found.same_emotion, ".1%"), (found.probability_mean, ".1e"), (found.probability_most, ".1e"))
        cells = ["" if figure is None else format(figure, form) for figure, form in figures]
        speed = (_rate(way.faces_per_s), f"{way.times_fp32:.2f} times")
        table.add_row(way.name, *speed, *cells, f"{found.embedding_cosine_least:.6f}")
    console.print(table)


def _rate(rate: float | None) -> str:
    return f"{rate:,.2f}" if rate else ""


def _lines(value: object, indent: str = "") -> list[str]:
    """Nested dicts and lists as indented lines."""
    lines = []
    for name, each in _pairs(value):
        head = f"{indent}{name}" if name == "-" else f"{indent}{name}:"
        if isinstance(each, dict | list) and each:
            lines += [head, *_lines(each, indent + "  ")]
        elif each is None or each in ([], {}):
            lines.append(f"{head} none")
        else:
            lines.append(f"{head} {('no', 'yes')[each] if isinstance(each, bool) else each}")
    return lines


def _pairs(value: object) -> Iterable[tuple[str, object]]:
    if isinstance(value, dict):
        return value.items()
    return [("-", each) for each in value] if isinstance(value, list) else []
