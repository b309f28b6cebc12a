"""`motivnet evaluate` and `motivnet compare`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from motivnet_cli import errors
from motivnet_cli.catalogue import DEFAULT_MODEL
from motivnet_cli.cli.options import Device, NetworkOptions, OptionGroup, Quiet, StoreFolder, Threads, expand_groups
from motivnet_cli.cli.terminal import (
    StopSignals,
    command_line,
    print_data,
    print_json,
    reporting_errors,
    talking,
)
from motivnet_cli.config import FaceConfig, InputConfig, LoaderConfig, ModelConfig
from motivnet_cli.progress import watch_run

if TYPE_CHECKING:
    from rich.console import Console

    from motivnet_cli.evaluation.evaluate import EvaluateConfig
    from motivnet_cli.evaluation.results import Evaluation, Interval

compare = typer.Typer(help="Compare predictions, models or image sets.", no_args_is_help=True, rich_markup_mode=None)
_FACES = {
    "auto": FaceConfig(mode="auto", max_faces=1),
    "detect": FaceConfig(mode="detect", max_faces=1),
    "largest": FaceConfig(mode="auto", max_faces=1),
    "whole": FaceConfig(mode="whole"),
}

WorkFolder = Annotated[str, typer.Option("--out", "-o", help="Folder for intermediate results, to resume from.")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelOptions(OptionGroup):
    """How a labelled set is read, and how predictions of it are scored."""

    split: Annotated[str | None, typer.Option(help="Default: the test split of the set.")] = None
    protocol: Annotated[
        str | None, typer.Option(help="For sets that have several (see `motivnet evaluate --list`).")
    ] = None
    path_column: Annotated[str | None, typer.Option(help="Column of paths in a csv or parquet set.")] = None
    label_column: Annotated[str | None, typer.Option(help="Column of labels in a csv or parquet set.")] = None
    label_map: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL=EMOTION,...|FILE.json", help="The emotion that each label means; drop leaves a label out."
        ),
    ] = None
    resamples: Annotated[int, typer.Option(help="Resamples of the bootstrap.")] = 1000
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0

    def config(self, dataset: str, root: str, *, out: str) -> EvaluateConfig:
        from motivnet_cli.evaluation.datasets.read import read_label_map
        from motivnet_cli.evaluation.evaluate import EvaluateConfig

        return EvaluateConfig(
            dataset=dataset,
            root=root,
            out=out,
            split=self.split,
            protocol=self.protocol,
            path_column=self.path_column,
            label_column=self.label_column,
            label_map=read_label_map(self.label_map) if self.label_map else None,
            resamples=self.resamples,
            seed=self.seed,
        )


@expand_groups
def evaluate(
    *,
    dataset: Annotated[str | None, typer.Option(help="Name of the labelled set (see --list).")] = None,
    root: Annotated[str | None, typer.Option(help="Folder of the set; for csv and parquet, the table.")] = None,
    suite: Annotated[
        str | None, typer.Option(metavar="NAME=ROOT,...", help="Evaluate several sets, and print a table of all.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Folder of the report and predictions. Default: evaluation-DATASET."),
    ] = None,
    predictions: Annotated[
        str | None,
        typer.Option(
            help="Score these predictions (.parquet, .csv, .jsonl), from motivnet or another tool, and run no network."
        ),
    ] = None,
    labels: LabelOptions,
    network: NetworkOptions,
    recipe: Annotated[
        str | None, typer.Option(help="Input recipe, or both to score each. Default: the model's.")
    ] = None,
    faces: Annotated[
        Literal["auto", "detect", "largest", "whole"] | None,
        typer.Option(
            metavar="auto|detect|whole",
            help="Where the face is. Default: what suits the set (aligned crops are whole, given boxes are used).",
        ),
    ] = None,
    threads: Threads = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Exit with code 4 if the accuracy over all images (0 to 1) is below this.")
    ] = None,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Show thumbnails in the report.")] = True,
    overwrite: Annotated[bool, typer.Option(help="Predict anew.")] = False,
    list_datasets: Annotated[
        bool, typer.Option("--list", help="List the sets: layouts, terms, and where to ask for them.")
    ] = False,
    quiet: Quiet = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print metrics.json to stdout in place of the table.")
    ] = False,
) -> None:
    """Score a model, or existing predictions, on a labelled dataset.

    Example: motivnet evaluate --dataset rafdb --root ./RAF-DB

    The main figures go to stdout, the whole report (report.html, metrics.json, figures) to --out. In the figures over
    all images, an image without a prediction counts as wrong. To continue after an interruption, run the same command
    again.
    """
    with StopSignals() as stop, reporting_errors(), talking(quiet=quiet) as console:
        if list_datasets:
            _list(as_json=as_json)
            return
        sets = _sets(dataset, root, suite)
        if min_accuracy is not None and not 0 <= min_accuracy <= 1:
            raise errors.ConfigError(f"--min-accuracy takes a share between 0 and 1, got {min_accuracy}")
        from motivnet_cli.evaluation.evaluate import evaluate as run
        from motivnet_cli.evaluation.results import to_json
        from motivnet_cli.report.evaluation import write_report, write_suite
        from motivnet_cli.weights.store import Store, find_card

        model = network.config()
        configs = [
            dataclasses.replace(
                labels.config(
                    name, folder, out=str(Path(out or "evaluation") / name) if suite else out or f"evaluation-{name}"
                ),
                predictions=predictions,
                recipes=find_card(model.name, Store(model.store)).recipes if recipe == "both" else (recipe,),
                model=model,
                faces=_FACES[faces] if faces else None,
                loader=LoaderConfig(threads=threads),
                overwrite=overwrite,
                command=command_line(),
            )
            for name, folder in sets
        ]
        with watch_run(console, quiet=quiet) as progress:
            evaluations = run(configs, progress=progress, stop=stop)
        if evaluations is None:
            raise _stopped(stop, console)
        if suite:
            write_suite(evaluations, Path(out or "evaluation"), images=images)
        else:
            write_report(evaluations[0], Path(configs[0].out), images=images)
        for evaluation in evaluations:
            for remark in evaluation.dataset.remarks:
                console.print(f"warning: {evaluation.dataset.name}: {remark}", markup=False, soft_wrap=True)
        if as_json:
            print_json(to_json(evaluations if suite else evaluations[0]))
        else:
            print_data(_table(evaluations))
        page = Path(out or "evaluation") / "index.html" if suite else Path(configs[0].out) / "report.html"
        console.print(f"written: {page}", markup=False, soft_wrap=True)
        lowest = min(run.scores.accuracy for evaluation in evaluations for run in evaluation.runs)
        if min_accuracy is not None and lowest < min_accuracy:
            console.print(f"the accuracy over all images, {lowest:.4f}, is below {min_accuracy:g}")
            raise typer.Exit(errors.EXIT_BELOW_MINIMUM)


@compare.command()
@expand_groups
def predictions(
    a: Annotated[str, typer.Argument(help="Predictions, from motivnet or another tool.")],
    b: Annotated[str, typer.Argument(help="Other predictions of the same images.")],
    *,
    dataset: Annotated[str, typer.Option(help="Name of the labelled set (see `motivnet evaluate --list`).")],
    root: Annotated[str, typer.Option(help="Folder of the set.")],
    labels: LabelOptions,
) -> None:
    """Test whether one set of predictions is better than another: McNemar's test, and the difference with its interval.

    Example: motivnet compare predictions a.parquet b.csv --dataset rafdb --root ./RAF-DB
    """
    with reporting_errors(), talking(quiet=False):
        from motivnet_cli.evaluation.evaluate import compare_predictions
        from motivnet_cli.evaluation.results import to_json

        print_json(to_json(compare_predictions(labels.config(dataset, root, out=""), a, b)))


@compare.command("models")
def compare_models(
    a: Annotated[str, typer.Argument(help="A model, such as motivnet-1b.")],
    b: Annotated[str, typer.Argument(help="The model that it was trained from, such as sapiens-1b.")],
    *,
    images: Annotated[str, typer.Option(help="Folder of images that both models see.")],
    out: WorkFolder = "comparison-models",
    store: StoreFolder = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Measure how similar two networks are: linear CKA and cosine of their embeddings, and drift of their parameters.

    Example: motivnet compare models motivnet-1b sapiens-1b --images ./faces
    """
    with StopSignals() as stop, reporting_errors(), talking(quiet=quiet) as console:
        from motivnet_cli.evaluation import compare as comparison
        from motivnet_cli.evaluation.results import to_json

        with watch_run(console, quiet=quiet) as progress:
            result = comparison.compare_models(
                ModelConfig(name=a, store=store, device=device),
                ModelConfig(name=b, store=store, device=device),
                InputConfig(paths=(images,)),
                work=Path(out),
                command=command_line(),
                progress=progress,
                stop=stop,
            )
        if result is None:
            raise _stopped(stop, console)
        print_json(to_json(result))


@compare.command()
def data(
    a: Annotated[str, typer.Argument(help="A folder of images, or finished predictions with embeddings.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    *,
    model: Annotated[str, typer.Option(help="Model whose embeddings are compared.")] = DEFAULT_MODEL,
    out: WorkFolder = "comparison-data",
    store: StoreFolder = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Measure how similar two image sets are: Frechet distance, kernel MMD and nearest neighbours of their embeddings.

    Example: motivnet compare data ./mine ./theirs
    """
    with StopSignals() as stop, reporting_errors(), talking(quiet=quiet) as console:
        from motivnet_cli.evaluation import compare as comparison
        from motivnet_cli.evaluation.results import to_json

        with watch_run(console, quiet=quiet) as progress:
            result = comparison.compare_data(
                a,
                b,
                work=Path(out),
                model=ModelConfig(name=model, store=store, device=device),
                command=command_line(),
                progress=progress,
                stop=stop,
            )
        if result is None:
            raise _stopped(stop, console)
        print_json(to_json(result))


def _stopped(stop: StopSignals, console: Console) -> typer.Exit:
    """The end of a command that a signal stopped."""
    console.print("stopped; what is done is kept: run the same command again to continue")
    return typer.Exit(stop.exit_code or errors.EXIT_OK)


def _sets(dataset: str | None, root: str | None, suite: str | None) -> list[tuple[str, str]]:
    if suite:
        if dataset or root:
            raise errors.ConfigError("give --suite, or --dataset and --root, not both")
        return list(_pairs(suite, "--suite").items())
    if not (dataset and root):
        raise errors.ConfigError("give --dataset and --root (or --suite NAME=ROOT,...; --list shows the sets)")
    return [(dataset, root)]


def _pairs(text: str | None, option: str) -> dict[str, str]:
    pairs = [word.partition("=") for word in (text or "").split(",") if word]
    for name, sign, value in pairs:
        if not (name and sign and value):
            raise errors.ConfigError(f"{option} takes pairs such as a=b,c=d, got {text!r}")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _list(*, as_json: bool) -> None:
    from motivnet_cli.evaluation.datasets.cards import CARDS as DATASETS

    if as_json:
        print_json([dataclasses.asdict(card) for card in DATASETS.values()])
        return
    blocks = []
    for card in DATASETS.values():
        lines = [f"{card.name}: {card.title}"]
        lines += [f"  layout: {layout}" for layout in card.layouts]
        if card.splits:
            lines.append(f"  splits: {', '.join(card.splits)} (default {card.default_split})")
        if card.protocols:
            lines.append(f"  protocols: {', '.join(card.protocols)} (default {card.default_protocol})")
        lines += [f"  terms: {card.terms}", f"  from: {card.where}"]
        blocks.append("\n".join(lines))
    print_data("\n\n".join(blocks))


_HEADLINES = ("accuracy", "uar", "macro_f1", "weighted_f1", "top2_accuracy", "kappa")


def _table(evaluations: list[Evaluation]) -> str:
    """Tab-separated: a line a run and denominator, so that cut and column read it."""
    lines = ["\t".join(("dataset", "run", "over", "n", *(f"{name}\t{name}_95%" for name in _HEADLINES)))]
    for evaluation in evaluations:
        for run in evaluation.runs:
            scores = run.scores
            for over, n, figures in (("all", scores.n, scores.all), ("scored", scores.n_scored, scores.scored)):
                cells = [evaluation.dataset.name, run.name, over, str(n)]
                cells += [_figure(figures[name]) for name in _HEADLINES]
                lines.append("\t".join(cells))
    return "\n".join(lines)


def _figure(figure: Interval | None) -> str:
    if figure is None or figure.value is None:
        return "\t"
    return f"{figure.value:.4f}\t{figure.low:.4f}-{figure.high:.4f}"
