"""`motivnet evaluate`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from motivnet_cli import errors
from motivnet_cli.cli.evaluate_figures import print_fits
from motivnet_cli.cli.evaluate_options import AnswerOptions, LabelOptions, SetOptions
from motivnet_cli.cli.evaluate_sets import print_set, print_sets, remember_set
from motivnet_cli.cli.options import Quiet, expand_groups
from motivnet_cli.cli.terminal import (
    StopSignals,
    command_line,
    exit_stopped,
    print_json,
    print_lines,
    print_message,
    reporting_errors,
    talking,
)
from motivnet_cli.progress import watch_run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console

    from motivnet_cli.evaluation.results import Evaluation, Interval

MinAccuracy = Annotated[
    float | None, typer.Option(help="Exit with code 4 if the accuracy over all images (0 to 1) is below this.")
]


@expand_groups
def evaluate(
    *,
    chosen: SetOptions,
    labels: LabelOptions,
    answers: AnswerOptions,
    min_accuracy: MinAccuracy = None,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Show thumbnails in the report.")] = True,
    list_datasets: Annotated[
        bool,
        typer.Option("--list", help="List the sets: which are here, where, and whole; with --dataset, all about one."),
    ] = False,
    remember: Annotated[
        str | None,
        typer.Option(metavar="NAME=ROOT", help="Write the folder of a set to your motivnet.toml, and do nothing else."),
    ] = None,
    fits: Annotated[
        str | None,
        typer.Option(
            metavar="FIGURE", help="List which published splits an accuracy such as 53.87 (percent) can be of, and end."
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json to stdout, not the table.")] = False,
) -> None:
    """Score a model, or existing predictions, on a labelled dataset.

    Example: motivnet evaluate --dataset rafdb --root ./RAF-DB

    The main figures go to stdout, the whole report (report.html, metrics.json, figures) to --out. In the figures over
    all images, an image without a prediction counts as wrong. To continue after an interruption, run the same command
    again.
    """
    with StopSignals() as stop, reporting_errors(), talking(quiet=quiet) as console:
        if remember is not None:
            _remember(remember, chosen, console)
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
        configs = [
            dataclasses.replace(
                answers.applied_to(labels.config(name, root, out=str(out / name if chosen.suite else out))),
                command=command_line(),
            )
            for name, root in sets.items()
        ]
        from motivnet_cli.evaluation.evaluate import evaluate as run

        with watch_run(console, quiet=quiet) as progress:
            evaluations = run(configs, progress=progress, stop=stop)
        if evaluations is None:
            raise exit_stopped(stop, console)
        page = _write_pages(evaluations, out, is_suite=bool(chosen.suite), images=images)
        _print_evaluations(console, evaluations, is_suite=bool(chosen.suite), as_json=as_json)
        print_message(console, f"written: {page}")
        _check_accuracy(console, evaluations, min_accuracy)


def _remember(entry: str, chosen: SetOptions, console: Console) -> None:
    if chosen != SetOptions():
        raise errors.ConfigError("--remember names the set and its folder by itself: give no other set with it")
    remember_set(entry, console)


def _list_sets(chosen: SetOptions, labels: LabelOptions, *, as_json: bool) -> None:
    if chosen.dataset is None:
        print_sets(as_json=as_json)
    else:
        print_set(chosen.dataset, chosen.root, split=labels.split, protocol=labels.protocol, as_json=as_json)


def _write_pages(evaluations: list[Evaluation], out: Path, *, is_suite: bool, images: bool) -> Path:
    """Write the report of an evaluation, or those of a suite; returns the page to look at."""
    from motivnet_cli.report.evaluation import write_report, write_suite

    if is_suite:
        write_suite(evaluations, out, images=images)
        return out / "index.html"
    write_report(evaluations[0], out, images=images)
    return out / "report.html"


def _print_evaluations(console: Console, evaluations: list[Evaluation], *, is_suite: bool, as_json: bool) -> None:
    from motivnet_cli.evaluation.results import to_json

    for evaluation in evaluations:
        for remark in (*evaluation.remarks, *evaluation.dataset.remarks):
            print_message(console, f"warning: {evaluation.dataset.name}: {remark}")
        for run in evaluation.runs:
            for remark in run.scores.remarks:
                print_message(console, f"warning: {evaluation.dataset.name}, {run.name}: {remark}")
    if as_json:
        print_json(to_json(evaluations if is_suite else evaluations[0]))
    else:
        print_lines(_table(evaluations))


def _check_accuracy(console: Console, evaluations: list[Evaluation], minimum: float | None) -> None:
    """Exit with a code of its own where a run is below the minimum."""
    lowest = min(run.scores.accuracy for evaluation in evaluations for run in evaluation.runs)
    if minimum is not None and lowest < minimum:
        console.print(f"the accuracy over all images, {lowest:.4f}, is below {minimum:g}")
        raise typer.Exit(errors.EXIT_BELOW_MINIMUM)


_HEADLINES = ("accuracy", "uar", "macro_f1", "weighted_f1", "top2_accuracy", "kappa")


def _table(evaluations: list[Evaluation]) -> list[str]:
    """Tab-separated, so that cut and column read it: a line for each run, over all images and over those scored."""
    lines = ["\t".join(("dataset", "run", "over", "n", *(f"{name}\t{name}_95%" for name in _HEADLINES)))]
    for evaluation in evaluations:
        scored = [(run.name, run.scores) for run in evaluation.runs]
        scored += [(run.name, run.scores) for found in evaluation.robustness for run in found.runs]
        for run, scores in scored:
            for over, n, figures in (("all", scores.n, scores.all), ("scored", scores.n_scored, scores.scored)):
                lines.append(_row(evaluation, run, over, n, figures))
        for found in evaluation.robustness:
            name = "mean corruption" if len(evaluation.robustness) == 1 else f"{found.run}, mean corruption"
            lines.append(_row(evaluation, name, "all", evaluation.dataset.n, {"accuracy": found.mean_accuracy}))
    return lines


def _row(evaluation: Evaluation, run: str, over: str, n: int, figures: Mapping[str, Interval | None]) -> str:
    cells = [evaluation.dataset.name, errors.one_line(run), over, str(n)]
    return "\t".join([*cells, *(_figure(figures.get(name)) for name in _HEADLINES)])


def _figure(figure: Interval | None) -> str:
    if figure is None or figure.value is None:
        return "\t"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.4f}\t"
    return f"{figure.value:.4f}\t{figure.low:.4f}-{figure.high:.4f}"
