"""`motivnet annotate`."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from motivnet_cli import errors
from motivnet_cli.catalogue import DEFAULT_MODEL
from motivnet_cli.cli.annotate_options import (
    FaceOptions,
    InputOptions,
    OutputOptions,
    PredictionOptions,
    ReadingOptions,
    ScaleOptions,
    VideoOptions,
)
from motivnet_cli.cli.help import GENERAL
from motivnet_cli.cli.log import phase, say
from motivnet_cli.cli.missing_weights import with_weights
from motivnet_cli.cli.options import AsJson, LogOptions
from motivnet_cli.cli.progress import watch_run
from motivnet_cli.cli.settings import Preset
from motivnet_cli.cli.terminal import (
    StopSignals,
    aligned,
    command_line,
    importing,
    print_json,
    print_lines,
    talking,
)
from motivnet_cli.config import RunConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from motivnet_cli.records import Summary


Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        rich_help_panel="Inputs",
        help="Pictures, videos, archives (.tar, .zip), folders of them, patterns and URLs; - reads a list of them from "
        "stdin.",
    ),
]
Out = Annotated[
    str,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE|FOLDER|-",
        help="A name ending in .parquet for one file, any other name for a folder of parts, or - for rows on stdout.",
    ),
]
MaxFailures = Annotated[
    str,
    typer.Option(metavar="N|P%", help="Exit with code 3 if more inputs than this failed."),
]


def annotate(
    inputs: Inputs = None,
    *,
    out: Out,
    listing: InputOptions,
    faces: FaceOptions,
    video: VideoOptions,
    network: PredictionOptions,
    reading: ReadingOptions,
    scale: ScaleOptions,
    output: OutputOptions,
    max_failures: MaxFailures = "0",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be read, and do nothing.", rich_help_panel=GENERAL)
    ] = False,
    preset: Preset = None,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Predict the emotion of every face in pictures and videos.

    Example: motivnet annotate ./photos --out preds.parquet

    preds.parquet gets one row per face; preds.inputs.parquet, beside it, lists every input and what became of it.
    To continue after an interruption, run the same command again.
    """
    with StopSignals(log) as stop, talking(log) as talk:
        allowed = Allowance(max_failures)
        config = RunConfig(
            inputs=listing.config(inputs or ()),
            output=output.config(out),
            model=network.config(),
            faces=faces.config(),
            video=video.config(),
            loader=reading.config(),
            scale=scale.config(),
            command=command_line(),
        )
        if dry_run:
            stop.hand_back()
            _print_listing(config, as_json=as_json)
            return
        _say_start(config)
        from motivnet_cli.weights.cards import find_card
        from motivnet_cli.weights.store import Store

        if config.model.name is not None:  # a mistyped one is an error before torch is imported
            find_card(config.model.name, Store(config.model.store))
        with importing():
            from motivnet_cli.run import annotate as run

        def watched() -> Summary:
            with watch_run(talk) as progress:
                return run(config, progress=progress, stop=stop, pipe=sys.stdout.buffer if out == "-" else None)

        is_share = config.scale.shard is not None
        summary = with_weights(watched, talk, log, accept_terms=network.accept_terms, is_share=is_share)
        _say_summary(summary)
        if as_json and out != "-":
            print_json(_as_json(summary))
        raise typer.Exit(_exit_code(summary, stop, allowed))


def _say_start(config: RunConfig) -> None:
    """What is read, with what, and where it goes: the first line of a run."""
    inputs, model = config.inputs, config.model
    given = [*inputs.paths, *inputs.manifests, *inputs.files_from, *inputs.files0_from]
    named = ", ".join(given[:_MAX_NAMED]) + (
        f" and {len(given) - _MAX_NAMED:,} more" if len(given) > _MAX_NAMED else ""
    )
    device = ", ".join(config.scale.devices) or model.device
    name = model.name or model.weights or DEFAULT_MODEL
    out = "stdout" if config.output.path == "-" else config.output.path
    phase(f"annotate: {named} with {name} on {device} to {out}", model=name, out=out)


_MAX_NAMED = 3
"""Inputs that the first line names."""


class Allowance:
    """How many inputs may fail before the exit code says so: a number, or a percentage of the inputs."""

    def __init__(self, text: str) -> None:
        try:
            self._percent = float(text[:-1]) if text.endswith("%") else None
            self._number = 0 if text.endswith("%") else int(text)
        except ValueError:
            raise errors.ConfigError(
                f"--max-failures takes a number or a percentage such as 5 or 1%, got {text!r}"
            ) from None
        if self._number < 0 or not 0 <= (self._percent or 0) <= 100:
            raise errors.ConfigError(f"--max-failures must be 0 or more, and at most 100%, got {text!r}")

    def covers(self, summary: Summary) -> bool:
        if self._percent is None:
            return summary.num_failed <= self._number
        return summary.num_failed * 100 <= self._percent * summary.inputs


def _exit_code(summary: Summary, stop: StopSignals, allowed: Allowance) -> int:
    if summary.stopped:
        return stop.exit_code_of_stop
    return errors.EXIT_OK if allowed.covers(summary) else errors.EXIT_TOO_MANY_FAILED


def _say_summary(summary: Summary) -> None:
    for report in summary.failures:
        problem = report.problem
        kind, reason = (problem.error_type, problem.message) if problem else (None, "")
        say(f"failed: {report.input}: {reason}", input=report.input, error_type=kind)
    if summary.num_failed > len(summary.failures):
        listed = f", listed in {summary.outputs[1]}" if len(summary.outputs) > 1 else ""  # not of a pipe
        say(f"and {summary.num_failed - len(summary.failures)} more{listed}")
    for line in aligned(_figures(summary)):
        say(line)
    if summary.finished:
        for path in summary.outputs:
            say(f"written   {path}", path=path)
    if summary.state == "already_finished":
        say("nothing to do: this run was already finished (--overwrite starts anew)")
    looked_at = summary.done - summary.num_failed
    without_face = summary.by_status.get("no_face", 0)
    if 2 * without_face > looked_at and not summary.left_out.total:
        hint = "if these are face crops already: --faces whole"
        say(f"{without_face} of {looked_at} inputs had no face; {hint}")
    if any(summary.changes):
        now = f"{summary.changes.new} inputs are new and {summary.changes.changed} changed since this run was begun"
        say(f"{now}: the same command with --extend reads them")
    if summary.stopped:
        is_piped = summary.outputs == ("-",)
        rest = "is out, and a pipe keeps nothing to" if is_piped else "is committed: run the same command again to"
        say(f"stopped; what is done {rest} continue")
    elif not summary.finished:
        say("this shard is done; the last shard to finish completes the output")


def _figures(summary: Summary) -> Iterator[tuple[str, str, str]]:
    statuses = ", ".join(f"{n} {status}" for status, n in summary.by_status.items())
    inputs = f"{summary.done} of {summary.inputs}" if summary.stopped else str(summary.inputs)
    yield "inputs", inputs, statuses
    yield "faces", str(summary.faces), ", ".join(f"{n} {source}" for source, n in summary.face_sources.items())
    if summary.left_out.total:
        yield "left out", str(summary.left_out.total), f"by {summary.left_out.text}"
    if summary.emotions:
        emotions = sorted(summary.emotions.items(), key=lambda pair: -pair[1])
        yield "emotions", "", ", ".join(f"{n} {name}" for name, n in emotions if n)
    if summary.state != "already_finished":
        rate = f"{summary.faces_predicted / summary.seconds:.1f} faces/s" if summary.seconds else ""
        yield "time", f"{summary.seconds:.1f} s", f"{rate} with {summary.model} on {summary.device}"
        if summary.faces_predicted:
            ends = f"{summary.starting_s:.1f} s until the first faces, {summary.finishing_s:.1f} s after the last"
            busy = f"the device was busy {summary.device_busy:.0%} of the time"
            yield "bound by", summary.bound_by or "not known", f"{busy}; {ends}"


def _print_listing(config: RunConfig, *, as_json: bool) -> None:
    from motivnet_cli.inputs.listing import Listing, summarise
    from motivnet_cli.output.plan import listed_once

    listing = Listing(config.inputs)
    found = summarise(listing, listed_once(listing))
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    counts = ", ".join(f"{n} {kind}s" for kind, n in found.counts.items()) or "nothing"
    megabytes = sum(found.size_bytes.values()) / 1e6
    lines = [f"would read {counts}: {megabytes:.1f} MB in local files"]
    for what, numbers in (("cannot be read", found.problems), ("skipped", found.skipped)):
        if numbers:
            named = ", ".join(f"{n} {kind}" for kind, n in numbers.items())
            lines.append(f"{what}: {named}")
    print_lines(lines)


def _as_json(summary: Summary) -> dict[str, object]:
    values = dataclasses.asdict(summary)
    return {
        **{name: values[name] for name in _JSON_FIELDS},
        "stopped": summary.stopped,
        "finished": summary.finished,
        "already_finished": summary.state == "already_finished",
        "left_out": summary.left_out.by_option,
        "new_inputs": summary.changes.new,
        "changed_inputs": summary.changes.changed,
        "failures": [
            {"input": report.input, **dataclasses.asdict(report.problem)}
            for report in summary.failures
            if report.problem
        ],
        "faces_per_second": summary.faces_predicted / summary.seconds if summary.seconds else None,
    }


_JSON_FIELDS = (
    "inputs", "done", "by_status", "faces", "face_sources", "emotions", "faces_predicted", "seconds", "model", "device",
    "outputs", "device_busy", "bound_by", "writing_s", "starting_s", "finishing_s",
)  # fmt: skip
