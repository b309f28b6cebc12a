"""`motivnet evaluate`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from motivnet_cli import errors
from motivnet_cli.catalogue import DEFAULT_MODEL
from motivnet_cli.cli.evaluate_figures import print_evaluations, print_fits
from motivnet_cli.cli.evaluate_options import AnswerOptions, LabelOptions, SetOptions
from motivnet_cli.cli.evaluate_sets import print_set, print_sets, remember_set
from motivnet_cli.cli.help import OTHER
from motivnet_cli.cli.log import phase, say, warn
from motivnet_cli.cli.missing_weights import with_weights
from motivnet_cli.cli.options import AsJson, LogOptions
from motivnet_cli.cli.progress import watch_run
from motivnet_cli.cli.terminal import (
    StopSignals,
    command_line,
    exit_stopped,
    importing,
    talking,
)

if TYPE_CHECKING:
    from pathlib import Path

    from motivnet_cli.evaluation.results import AcrossSets, Evaluation

MinAccuracy = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Exit with code 4 if the accuracy over all images is below this.",
        rich_help_panel="Scores",
    ),
]


def evaluate(
    *,
    chosen: SetOptions,
    labels: LabelOptions,
    answers: AnswerOptions,
    min_accuracy: MinAccuracy = None,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Show thumbnails in the report.")] = True,
    list_datasets: Annotated[
        bool,
        typer.Option(
            "--list",
            help="List the sets: which are here, where, and whole; with --dataset, all about one.",
            rich_help_panel=OTHER,
        ),
    ] = False,
    remember: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET=FOLDER",
            help="Write the folder of a set to your motivnet.toml, and do nothing else.",
            rich_help_panel=OTHER,
        ),
    ] = None,
    fits: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="List which published splits an accuracy such as 53.87 can be of, and do nothing else.",
            rich_help_panel=OTHER,
        ),
    ] = None,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Score a model, or existing predictions, on a labelled dataset.

    Example: motivnet evaluate --dataset rafdb --root ./RAF-DB

    The main figures go to stdout, as a table on a terminal and tab-separated into a pipe. The whole report
    (report.html, metrics.json, figures) goes to --out. In the figures over all images, an image without a prediction
    counts as wrong. To continue after an interruption, run the same command again.
    """
    with StopSignals(log) as stop, talking(log) as talk:
        if remember is not None:
            _remember(remember, chosen, as_json=as_json)
            return
        if list_datasets:
            _list_sets(chosen, labels, as_json=as_json)
            return
        if fits is not None:
            print_fits(fits, chosen.dataset, as_json=as_json)
            return
        if min_accuracy is not None and not 0 <= min_accuracy <= 1:
            raise errors.ConfigError(f"--min-accuracy takes a share between 0 and 1, got {min_accuracy}")
        sets, out = chosen.sets(), chosen.folder
        answered_by = answers.predictions or [answers.model or answers.weights or DEFAULT_MODEL]
        phase(f"evaluate: {', '.join(answered_by)} on {', '.join(sets)}, into {out}")
        configs = [
            dataclasses.replace(
                answers.applied_to(labels.config(name, root, out=str(out / name if chosen.suite else out))),
                command=command_line(),
            )
            for name, root in sets.items()
        ]
        with importing():
            from motivnet_cli.evaluation.evaluate import evaluate as run
            from motivnet_cli.evaluation.significance import across_sets

        def watched() -> list[Evaluation] | None:
            with watch_run(talk) as progress:
                return run(configs, progress=progress, stop=stop)

        evaluations = with_weights(watched, talk, log, accept_terms=answers.accept_terms)
        if evaluations is None:
            raise exit_stopped(stop)
        across = across_sets(evaluations) if chosen.suite else None
        phase("writing the report")
        page = _write_pages(evaluations, out, is_suite=bool(chosen.suite), images=images, across=across)
        _print_evaluations(evaluations, is_suite=bool(chosen.suite), as_json=as_json, across=across)
        say(f"written: {page}")
        _check_accuracy(evaluations, min_accuracy)


def _remember(entry: str, chosen: SetOptions, *, as_json: bool) -> None:
    if chosen != SetOptions():
        raise errors.ConfigError("--remember names the set and its folder by itself: give no other set with it")
    remember_set(entry, as_json=as_json)


def _list_sets(chosen: SetOptions, labels: LabelOptions, *, as_json: bool) -> None:
    if chosen.suite or (chosen.root and not chosen.dataset):
        raise errors.ConfigError("--list shows all sets, or with --dataset one of them, which --root may then locate")
    if chosen.dataset is None:
        print_sets(as_json=as_json)
    else:
        print_set(chosen.dataset, chosen.root, split=labels.split, protocol=labels.protocol, as_json=as_json)


def _write_pages(
    evaluations: list[Evaluation], out: Path, *, is_suite: bool, images: bool, across: AcrossSets | None
) -> Path:
    """Write the report of an evaluation, or those of a suite; returns the page to look at."""
    from motivnet_cli.report.evaluation import write_report, write_suite

    if is_suite:
        write_suite(evaluations, out, images=images, across=across)
        return out / "index.html"
    write_report(evaluations[0], out, images=images)
    return out / "report.html"


def _print_evaluations(
    evaluations: list[Evaluation], *, is_suite: bool, as_json: bool, across: AcrossSets | None
) -> None:
    for evaluation in evaluations:
        for remark in (*evaluation.remarks, *evaluation.dataset.remarks):
            warn(f"{evaluation.dataset.name}: {remark}")
        for run in evaluation.runs:
            for remark in (*run.scores.remarks, *(remark for grouping in run.by for remark in grouping.remarks)):
                warn(f"{evaluation.dataset.name}, {run.name}: {remark}")
    print_evaluations(evaluations, is_suite=is_suite, as_json=as_json, across=across)


def _check_accuracy(evaluations: list[Evaluation], minimum: float | None) -> None:
    """Exit with a code of its own where a run is below the minimum."""
    lowest, unit = min(
        (run.scores.accuracy, evaluation.dataset.unit) for evaluation in evaluations for run in evaluation.runs
    )
    if minimum is not None and lowest < minimum:
        say(f"the accuracy over all {unit}s, {lowest:.4f}, is below {minimum:g}")
        raise typer.Exit(errors.EXIT_BELOW_MINIMUM)
