"""`motivnet bench` and `motivnet doctor`: how fast this machine is, and what it has."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motivnet_cli.cli.annotate_options import parse_faces
from motivnet_cli.cli.log import phase, say
from motivnet_cli.cli.missing_weights import with_weights
from motivnet_cli.cli.options import (
    AsJson,
    Compile,
    LogOptions,
    NetworkOptions,
    PrecisionName,
    StoreFolder,
    Threads,
)
from motivnet_cli.cli.progress import size_text
from motivnet_cli.cli.terminal import importing, print_json, print_lines, table_lines, talking
from motivnet_cli.config import FaceConfig, InputConfig, LoaderConfig, OutputConfig, RunConfig

if TYPE_CHECKING:
    from motivnet_cli.bench import BenchResult, MeasuredWay, SkippedWay
    from motivnet_cli.doctor import Device, Examination, Processor, Space

_PAGE_WIDTH = 80
"""Columns of the page of doctor, which is read in mails and bug reports, too."""


def bench(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Pictures, or folders of them, like those you will annotate.")
    ],
    *,
    network: NetworkOptions,
    precision: PrecisionName = "auto",
    compiled: Compile = False,
    faces: Annotated[
        str,
        typer.Option(
            metavar="detect|whole|auto", help="Where the faces are, as for annotate.", rich_help_panel="Faces"
        ),
    ] = "detect",
    threads: Threads = None,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.1, metavar="SECONDS", help="About how long to measure each stage.", rich_help_panel="Measurement"
        ),
    ] = 10.0,
    agreement: Annotated[
        bool,
        typer.Option(
            "--agreement",
            help="Measure every precision: its speed, and its agreement with fp32.",
            rich_help_panel="Measurement",
        ),
    ] = False,
    plot: Annotated[str | None, typer.Option(metavar="FILE", help="Draw the stages to a file (.png, .svg).")] = None,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Measure every stage on your own pictures, and say which one limits the speed.

    Example: motivnet bench ./photos --model expression-net --agreement

    The figures hold for this machine, these pictures and this moment.
    """
    with talking(log) as talk:
        config = RunConfig(
            inputs=InputConfig(paths=tuple(inputs)),
            output=OutputConfig(path="bench.parquet"),
            model=dataclasses.replace(network.config(), precision=precision, compile=compiled),
            faces=FaceConfig(mode=parse_faces(faces)),
            loader=LoaderConfig(threads=threads),
        )
        phase(f"bench: {', '.join(inputs[:3])} with {config.model.recorded_name} on {config.model.device}")
        with importing():
            from motivnet_cli.bench import bench as measure
            from motivnet_cli.bench import plot as draw

        def measured() -> BenchResult:
            return measure(
                config,
                seconds=seconds,
                agreement=agreement,
                on_stage=lambda text: phase(f"measuring: {text}"),
            )

        result = with_weights(measured, talk, log, accept_terms=network.accept_terms)
        if plot:
            draw(result, Path(plot))
            say(f"written: {plot}", path=plot)
        if as_json:
            print_json(result.as_json())
        else:
            print_lines(_lines_of_bench(result))


def doctor(
    *,
    store: StoreFolder = None,
    folder: Annotated[
        str,
        typer.Option(
            metavar="FOLDER",
            help="Folder that outputs will be written to. Default: the current one.",
            show_default=False,
        ),
    ] = ".",
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Describe this machine for a bug report: versions, devices, codecs, memory, disks, limits.

    Example: motivnet doctor
    """
    with talking(log):
        phase("doctor: looking at this machine")
        with importing():
            from motivnet_cli.doctor import examine

        found = examine(store=store, folder=folder)
        if as_json:
            print_json(found)
        else:
            print_lines(_page(found))


def _lines_of_bench(result: BenchResult) -> list[str]:
    whole, peak = result.whole, result.peak
    stages = [
        (name.replace("_", " "), _rate(stage.faces_per_s), f"{1e3 * stage.seconds_a_face:.2f}")
        for name, stage in result.stages.items()
    ]
    table = [("stage", "faces/s", "ms a face"), *stages, ("whole run", _rate(whole.faces_per_s), "")]
    lines = [
        *table_lines(table),
        f"bound by {result.bound_by.replace('_', ' ')}",
        "faces: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result.finding.items()),
        f"of the whole run's {whole.seconds:.1f} s, {whole.starting_s:.1f} until the first faces and "
        f"{whole.finishing_s:.1f} after the last",
        f"the network does {peak.network_flop_per_s / 1e9:,.1f} GFLOP/s, {peak.share_of_peak:.0%} of this machine's "
        f"matrix product ({peak.flop_per_s / 1e9:,.1f} in {peak.dtype}, measured now), "
        f"whose rate allows {_rate(peak.bound_faces_per_s)} faces/s",
    ]
    return lines if result.agreement is None else [*lines, *_lines_of_agreement(result.agreement)]


def _lines_of_agreement(ways: tuple[MeasuredWay | SkippedWay, ...]) -> list[str]:
    from motivnet_cli.bench import SkippedWay

    table = [("precision", "faces/s", "of fp32", "same emotion", "mean diff.", "largest diff.", "least cosine")]
    skipped = []
    for way in ways:
        if isinstance(way, SkippedWay):
            skipped.append(f"{way.name}: not run: {way.not_run}")
            continue
        found = way.agreement
        figures = ((found.same_emotion, ".1%"), (found.probability_mean, ".1e"), (found.probability_most, ".1e"))
        same, mean, most = ("" if figure is None else format(figure, form) for figure, form in figures)
        speed = (_rate(way.faces_per_s), f"{way.times_fp32:.2f} times")
        table.append((way.name, *speed, same, mean, most, f"{found.embedding_cosine_least:.6f}"))
    return [*skipped, *table_lines(table)]


def _rate(rate: float | None) -> str:
    return f"{rate:,.2f}" if rate else ""


def _page(found: Examination) -> list[str]:
    """What was found, as lines of at most _PAGE_WIDTH columns: what needs attention first."""
    remarks = [line for remark in found["remarks"] for line in _row("!", remark, indent=2)]
    lines = [f"motivnet {found['motivnet']}, Python {found['python']}, {found['system']}", ""]
    lines += ["Look at:", *remarks] if remarks else ["Nothing stands in the way of a run."]
    for title, rows in _sections(found).items():
        lines += ["", f"{title}:", *(line for name, text in rows for line in _row(name, text))]
    return lines


def _sections(found: Examination) -> dict[str, list[tuple[str, str]]]:
    from motivnet_cli.doctor import DISK_MEGABYTES

    processor, disk, shared, store = found["processor"], found["disk"], found["shared_memory"], found["store"]
    codecs, rate = found["codecs"], disk["write_megabytes_per_s"]
    written = f"; writes {rate:,.0f} MB/s ({DISK_MEGABYTES} MB, now)" if rate else ""
    models = ", ".join(f"{name} ({_size(model['bytes'])})" for name, model in store["models"].items())
    bf16 = "bf16" if processor["bf16"] else "no bf16"
    limits = [f"{name.replace('_', ' ')} {value or 'unlimited'}" for name, value in found["limits"].items()]
    packages = [f"{name} {version}" for name, version in found["packages"].items() if version]
    absent = [name for name, version in found["packages"].items() if not version]
    return {
        "Devices": [(device["device"], _about(device, processor)) for device in found["devices"]],
        "Machine": [
            ("cores", f"{processor['usable_cores']} of {processor['cores']}; {processor['instructions']}, {bf16}"),
            ("memory", f"{_size(processor['available_bytes'])} available of {_size(processor['memory_bytes'])}"),
            *([(shared["folder"], _space(shared))] if shared else []),
            ("limits", ", ".join(limits)),
        ],
        "Disk": [
            ("outputs", disk["folder"]),
            ("", f"{_space(disk)}{written}"),
            ("store", store["root"]),
            ("", models or "no models"),
        ],
        "Decoding": [
            ("images", _known(codecs["images"])),
            ("videos", _known(codecs["videos"])),
            ("ffmpeg", ", ".join(f"{name} {version}" for name, version in codecs["ffmpeg"].items())),
        ],
        "Software": [("packages", ", ".join(packages)), *([("absent", ", ".join(absent))] if absent else [])],
        **({"Environment": list(found["environment"].items())} if found["environment"] else {}),
    }


def _about(device: Device, processor: Processor) -> str:
    parts = [device.get("name", processor["name"] if device["device"] == "cpu" else "")]
    if "memory_bytes" in device:
        parts += [_size(device["memory_bytes"]), f"compute capability {device['compute_capability']}"]
        parts.append(f"CUDA {device['cuda']}")
    return ", ".join(filter(None, [*parts, f"precision auto: {device['auto_precision']}"]))


def _row(name: str, text: str, *, indent: int = 12) -> list[str]:
    """A name, and beside it, from a column on, its text: on several lines, if it is long."""
    return textwrap.wrap(
        text,
        _PAGE_WIDTH,
        initial_indent=f"  {name} ".ljust(indent + 2),
        subsequent_indent=" " * (indent + 2),
        break_on_hyphens=False,
        break_long_words=False,
    ) or [f"  {name}"]


def _known(codecs: Mapping[str, bool | None]) -> str:
    """Those that are there, then those that are not."""
    there, absent = ([name for name, known in codecs.items() if bool(known) is wanted] for wanted in (True, False))
    return ", ".join(there) + (f"; not {', '.join(absent)}" if absent else "")


def _space(space: Space) -> str:
    return f"{_size(space['free_bytes'])} free of {_size(space['bytes'])}"


def _size(num_bytes: int | None) -> str:
    return "unknown" if num_bytes is None else size_text(num_bytes)
