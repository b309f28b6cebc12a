"""`motivnet evaluate` and `motivnet compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from motivnet_cli import errors
from motivnet_cli.catalogue import CARDS, DEFAULT_MODEL
from motivnet_cli.cli.terminal import (
    STORE_OPTION,
    StopSignals,
    batch_size_of,
    command_line,
    print_data,
    print_json,
    reporting_errors,
    talking,
    watching,
)
from motivnet_cli.config import FaceConfig, InputConfig, LoaderConfig, ModelConfig

if TYPE_CHECKING:
    from rich.console import Console

    from motivnet_cli.config import FaceMode

compare = typer.Typer(
    help="Set predictions, models or image sets side by side.", no_args_is_help=True, rich_markup_mode=None
)
_FACES: dict[str, tuple[FaceMode, int | None]] = {
    "auto": ("auto", 1),
    "detect": ("detect", 1),
    "largest": ("auto", 1),
    "whole": ("whole", None),
}


Split = Annotated[str | None, typer.Option(help="Default: the set's test split.")]
Protocol = Annotated[str | None, typer.Option(help="Where a set has several: see --list of evaluate.")]
PathColumn = Annotated[str | None, typer.Option(help="Of csv and parquet sets.")]
LabelColumn = Annotated[str | None, typer.Option(help="Of csv and parquet sets.")]
LabelMap = Annotated[
    str | None, typer.Option(metavar="LABEL=EMOTION,...|FILE.json", help="What labels mean; drop leaves one out.")
]
Resamples = Annotated[int, typer.Option(help="Of the bootstrap.")]
Seed = Annotated[int, typer.Option(help="Of the bootstrap.")]


def evaluate(
    *,
    dataset: Annotated[str | None, typer.Option(help="Which one: see --list.")] = None,
    root: Annotated[str | None, typer.Option(help="Its folder; of csv and parquet, the table.")] = None,
    suite: Annotated[
        str | None, typer.Option(metavar="NAME=ROOT,...", help="Several sets, and a table over them at the end.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Folder of the report and predictions. Default: evaluation-DATASET."),
    ] = None,
    split: Split = None,
    protocol: Protocol = None,
    predictions: Annotated[
        str | None, typer.Option(help="Score these, ours or another tool's (.parquet, .csv, .jsonl), and run nothing.")
    ] = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    label_map: LabelMap = None,
    model: Annotated[str, typer.Option(help=f"One of: {', '.join(CARDS)}.")] = DEFAULT_MODEL,
    weights: Annotated[str | None, typer.Option(help="A checkpoint file in place of the stored weights.")] = None,
    store: Annotated[str | None, STORE_OPTION] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Input recipe, or both: each scored by itself. Default: the model's.")
    ] = None,
    faces: Annotated[
        str | None,
        typer.Option(
            metavar="auto|detect|whole",
            help="Where the face is. Default: the set's way (aligned crops are whole, given boxes are used).",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    batch_size: Annotated[str, typer.Option(help="Faces in one pass of the network, or auto.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Threads that read and find faces.")] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Exit with code 4 where the accuracy over all images (0 to 1) is below this.")
    ] = None,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Show thumbnails in the report.")] = True,
    overwrite: Annotated[bool, typer.Option(help="Predict anew.")] = False,
    list_datasets: Annotated[bool, typer.Option("--list", help="Show sets, layouts, terms, where to ask.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print metrics.json to stdout in place of the table.")
    ] = False,
) -> None:
    """Score a model, or predictions made before, on a labelled dataset.

    Example: motivnet evaluate --dataset rafdb --root ./RAF-DB

    The headline figures go to stdout, the whole report (report.html, metrics.json, figures) to --out. An image
    without a prediction counts as wrong in the figures over all images. Started again, it goes on where it stopped.
    """
    with StopSignals() as stop, reporting_errors(), talking(quiet=quiet) as console:
        if list_datasets:
            _list(as_json=as_json)
            return
        sets = _sets(dataset, root, suite)
        if min_accuracy is not None and not 0 <= min_accuracy <= 1:
            raise errors.ConfigError(f"--min-accuracy takes a share between 0 and 1, got {min_accuracy}")
        if faces is not None and faces not in _FACES:
            raise errors.ConfigError(f"--faces takes {', '.join(_FACES)}, got {faces!r}")
        from motivnet_cli.evaluation.datasets.read import read_label_map
        from motivnet_cli.evaluation.evaluate import EvaluateConfig
        from motivnet_cli.evaluation.evaluate import evaluate as run
        from motivnet_cli.weights.store import Store, find_card

        recipes = find_card(model, Store(store)).recipes if recipe == "both" else (recipe,)
        mode = _FACES[faces] if faces else None
        configs = [
            EvaluateConfig(
                dataset=name,
                root=folder,
                out=str(Path(out or "evaluation") / name) if suite else out or f"evaluation-{name}",
                split=split,
                protocol=protocol,
                path_column=path_column,
                label_column=label_column,
                label_map=read_label_map(label_map) if label_map else None,
                predictions=predictions,
                recipes=recipes,
                model=ModelConfig(
                    name=model, weights=weights, store=store, device=device, batch_size=batch_size_of(batch_size)
                ),
                faces=FaceConfig(mode=mode[0], max_faces=mode[1]) if mode else None,
                loader=LoaderConfig(threads=threads),
                resamples=resamples,
                seed=seed,
                images=images,
                overwrite=overwrite,
                command=command_line(),
            )
            for name, folder in sets
        ]
        with watching(console, quiet=quiet) as progress:
            evaluations = run(configs, suite=out or "evaluation" if suite else None, progress=progress, stop=stop)
        if evaluations is None:
            console.print("stopped; what is predicted is kept: run the same command again to go on from here")
            raise typer.Exit(stop.exit_code or errors.EXIT_OK)
        for evaluation in evaluations:
            for remark in evaluation["dataset"]["remarks"]:
                console.print(f"warning: {evaluation['dataset']['name']}: {remark}", markup=False, soft_wrap=True)
        if as_json:
            print_json(evaluations if suite else evaluations[0])
        else:
            print_data(_table(evaluations))
        pages = [Path(out or "evaluation") / "index.html"] if suite else [Path(configs[0].out) / "report.html"]
        console.print(f"written: {pages[0]}", markup=False, soft_wrap=True)
        runs = [run for evaluation in evaluations for run in evaluation["runs"]]
        lowest = min(run["scores"]["all"]["accuracy"]["value"] for run in runs)
        if min_accuracy is not None and lowest < min_accuracy:
            console.print(f"the accuracy over all images, {lowest:.4f}, is below {min_accuracy:g}")
            raise typer.Exit(errors.EXIT_BELOW_MINIMUM)


@compare.command()
def predictions(
    a: Annotated[str, typer.Argument(help="Predictions, ours or another tool's.")],
    b: Annotated[str, typer.Argument(help="Others of the same images.")],
    *,
    dataset: Annotated[str, typer.Option(help="The labelled set: see `motivnet evaluate --list`.")],
    root: Annotated[str, typer.Option(help="Its folder.")],
    split: Split = None,
    protocol: Protocol = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    label_map: LabelMap = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Is one better than the other on a labelled set? McNemar's test and the difference with its interval.

    Example: motivnet compare predictions a.parquet b.csv --dataset rafdb --root ./RAF-DB
    """
    with reporting_errors(), talking(quiet=False):
        from motivnet_cli.evaluation.datasets.read import read_label_map
        from motivnet_cli.evaluation.evaluate import EvaluateConfig, compare_predictions

        config = EvaluateConfig(
            dataset=dataset,
            root=root,
            out="",
            split=split,
            protocol=protocol,
            path_column=path_column,
            label_column=label_column,
            label_map=read_label_map(label_map) if label_map else None,
            resamples=resamples,
            seed=seed,
        )
        print_json(compare_predictions(config, a, b))


@compare.command("models")
def compare_models(
    a: Annotated[str, typer.Argument(help="A model, such as motivnet-1b.")],
    b: Annotated[str, typer.Argument(help="The one it came from, such as sapiens-1b.")],
    *,
    images: Annotated[str, typer.Option(help="Folder of the images that both see.")],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder to go on from when killed.")] = "comparison-models",
    store: Annotated[str | None, STORE_OPTION] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """How alike two networks are: linear CKA and cosine of their embeddings, and drift of their parameters.

    Example: motivnet compare models motivnet-1b sapiens-1b --images ./faces
    """
    with StopSignals() as stop, reporting_errors(), talking(quiet=quiet) as console:
        from motivnet_cli.evaluation import compare as comparison

        with watching(console, quiet=quiet) as progress:
            result = comparison.compare_models(
                ModelConfig(name=a, store=store, device=device),
                ModelConfig(name=b, store=store, device=device),
                InputConfig(paths=(images,)),
                work=Path(out),
                command=command_line(),
                progress=progress,
                stop=stop,
            )
        _print_if_done(result, stop, console)


@compare.command()
def data(
    a: Annotated[str, typer.Argument(help="A folder of images, or finished predictions with embeddings.")],
    b: Annotated[str, typer.Argument(help="Another.")],
    *,
    model: Annotated[str, typer.Option(help="In whose embedding space.")] = DEFAULT_MODEL,
    out: Annotated[str, typer.Option("--out", "-o", help="Folder to go on from when killed.")] = "comparison-data",
    store: Annotated[str | None, STORE_OPTION] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """How alike two sets of images are: Frechet distance, kernel MMD and nearest neighbours of their embeddings.

    Example: motivnet compare data ./mine ./theirs
    """
    with StopSignals() as stop, reporting_errors(), talking(quiet=quiet) as console:
        from motivnet_cli.evaluation import compare as comparison

        with watching(console, quiet=quiet) as progress:
            result = comparison.compare_data(
                a,
                b,
                work=Path(out),
                model=ModelConfig(name=model, store=store, device=device),
                command=command_line(),
                progress=progress,
                stop=stop,
            )
        _print_if_done(result, stop, console)


def _print_if_done(result: dict[str, Any] | None, stop: StopSignals, console: Console) -> None:
    if result is None:
        console.print("stopped; what is done is kept: run the same command again to go on from here")
        raise typer.Exit(stop.exit_code or errors.EXIT_OK)
    print_json(result)


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
    import dataclasses

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


def _table(evaluations: list[dict[str, Any]]) -> str:
    """Tab-separated: a line a run and denominator, so that cut and column read it."""
    lines = ["\t".join(("dataset", "run", "over", "n", *(f"{name}\t{name}_95%" for name in _HEADLINES)))]
    for evaluation in evaluations:
        for run in evaluation["runs"]:
            for over, n in (("all", "n"), ("scored", "n_scored")):
                scores = run["scores"]
                cells = [evaluation["dataset"]["name"], run["name"], over, str(scores[n])]
                cells += [_figure(scores[over][name]) for name in _HEADLINES]
                lines.append("\t".join(cells))
    return "\n".join(lines)


def _figure(figure: dict[str, float] | None) -> str:
    if figure is None or figure["value"] is None:
        return "\t"
    return f"{figure['value']:.4f}\t{figure['low']:.4f}-{figure['high']:.4f}"
