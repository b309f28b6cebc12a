"""`motivnet compare`: predictions, models or image sets side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motivnet_cli.catalogue import DEFAULT_MODEL
from motivnet_cli.cli.command import App
from motivnet_cli.cli.evaluate_options import LabelOptions, SetRoot
from motivnet_cli.cli.log import phase, warn
from motivnet_cli.cli.missing_weights import with_weights
from motivnet_cli.cli.options import AcceptTerms, AsJson, Device, LogOptions, StoreFolder
from motivnet_cli.cli.progress import watch_run
from motivnet_cli.cli.terminal import (
    StopSignals,
    command_line,
    exit_stopped,
    importing,
    print_result,
    talking,
)
from motivnet_cli.config import InputConfig, ModelConfig

if TYPE_CHECKING:
    from motivnet_cli.evaluation.compare_data import DataComparison
    from motivnet_cli.evaluation.compare_models import ModelComparison

compare = App("compare", help="Compare predictions, models or image sets.")

WorkFolder = Annotated[
    str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for intermediate results, to resume from.")
]


@compare.command()
def predictions(
    a: Annotated[str, typer.Argument(metavar="PREDICTIONS", help="Predictions, from motivnet or another tool.")],
    b: Annotated[str, typer.Argument(metavar="OTHERS", help="Other predictions of the same images.")],
    *,
    dataset: Annotated[
        str,
        typer.Option(metavar="DATASET", help="Labelled set, of `motivnet evaluate --list`.", rich_help_panel="Dataset"),
    ],
    root: SetRoot = None,
    labels: LabelOptions,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Test whether one set of predictions is better than another: McNemar's test, and the difference with its interval.

    Example: motivnet compare predictions a.parquet b.csv --dataset rafdb
    """
    with talking(log):
        phase(f"compare: {a} and {b} on {dataset}")
        with importing():
            from motivnet_cli.evaluation.evaluate import compare_predictions
        from motivnet_cli.report.comparisons import words_on_predictions

        comparison = compare_predictions(labels.config(dataset, root, out=""), a, b)
        for remark in comparison.remarks:
            warn(f"{remark}")
        print_result(comparison, words_on_predictions(comparison), as_json=as_json)


@compare.command("models")
def compare_models(
    a: Annotated[str, typer.Argument(metavar="MODEL", help="A model, such as motivnet-1b.")],
    b: Annotated[str, typer.Argument(metavar="START", help="The model that it was trained from, such as sapiens-1b.")],
    *,
    images: Annotated[
        str,
        typer.Option(metavar="FOLDER", help="Folder of images that both models see.", rich_help_panel="Inputs"),
    ],
    out: WorkFolder = "comparison-models",
    store: StoreFolder = None,
    accept_terms: AcceptTerms = False,
    device: Device = "auto",
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Measure how similar two networks are: linear CKA and cosine of their embeddings, and drift of their parameters.

    Example: motivnet compare models motivnet-1b sapiens-1b --images ./faces
    """
    with StopSignals(log) as stop, talking(log) as talk:
        phase(f"compare: {a} and {b} on {images}, into {out}")
        with importing():
            from motivnet_cli.evaluation import compare_models as comparison
        from motivnet_cli.report.comparisons import words_on_models

        def watched() -> ModelComparison | None:
            with watch_run(talk) as progress:
                return comparison.compare_models(
                    ModelConfig(name=a, store=store, device=device),
                    ModelConfig(name=b, store=store, device=device),
                    InputConfig(paths=(images,)),
                    work=Path(out),
                    command=command_line(),
                    progress=progress,
                    stop=stop,
                )

        result = with_weights(watched, talk, log, accept_terms=accept_terms)
        if result is None:
            raise exit_stopped(stop)
        print_result(result, words_on_models(result), as_json=as_json)


@compare.command()
def data(
    a: Annotated[
        str, typer.Argument(metavar="IMAGES", help="A folder of images, or finished predictions with embeddings.")
    ],
    b: Annotated[str, typer.Argument(metavar="OTHERS", help="A folder or predictions to compare them with.")],
    *,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="Model whose embeddings are compared.", rich_help_panel="Model")
    ] = DEFAULT_MODEL,
    out: WorkFolder = "comparison-data",
    store: StoreFolder = None,
    accept_terms: AcceptTerms = False,
    device: Device = "auto",
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Measure how similar two image sets are: distances of their embeddings, and a classifier that tells them apart.

    Example: motivnet compare data ./mine ./theirs
    """
    with StopSignals(log) as stop, talking(log) as talk:
        phase(f"compare: {a} and {b} by {model}, into {out}")
        with importing():
            from motivnet_cli.evaluation import compare_data as comparison
        from motivnet_cli.report.comparisons import words_on_data

        def watched() -> DataComparison | None:
            with watch_run(talk) as progress:
                return comparison.compare_data(
                    a,
                    b,
                    work=Path(out),
                    model=ModelConfig(name=model, store=store, device=device),
                    command=command_line(),
                    progress=progress,
                    stop=stop,
                )

        result = with_weights(watched, talk, log, accept_terms=accept_terms)
        if result is None:
            raise exit_stopped(stop)
        print_result(result, words_on_data(result), as_json=as_json)
