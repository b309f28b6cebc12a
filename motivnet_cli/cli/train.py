"""`motivnet train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motivnet_cli.cli.options import Quiet, expand_groups
from motivnet_cli.cli.terminal import (
    StopSignals,
    command_line,
    print_message,
    print_result,
    reporting_errors,
    talking,
)
from motivnet_cli.cli.train_options import HeadOptions, ResultOptions

if TYPE_CHECKING:
    from rich.console import Console

    from motivnet_cli.training.config import HeadConfig
    from motivnet_cli.training.result import Judged
    from motivnet_cli.weights.store import StoredModel


@expand_groups
def train(
    *,
    result: ResultOptions,
    head: HeadOptions,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON, on a terminal too.")] = False,
) -> None:
    """Train a model on labels of your own.

    Example: motivnet train --from preds.parquet --labels labels.csv --head linear --out my-model

    A head learns any classes from the embeddings of an output of annotate, within seconds. The model is put into the
    store, where every command takes it by --model my-model; the report (report.html, metrics.json, model-card.md)
    goes to --out.
    """
    with StopSignals() as stop, reporting_errors(), talking(quiet=quiet) as console:
        config = head.config(result, command=command_line())
        model, judged = _train_head(config, stop, console, quiet=quiet)
        from motivnet_cli.report.training import write_training

        write_training(model, judged, Path(config.out))
        record = model.training
        assert record is not None, "it was just made"
        for remark in (*record.data.remarks, *record.remarks):
            print_message(console, f"warning: {remark}")
        value = {"model": model.name, "sha256": model.sha256, "training": record.to_json()}
        print_result(value, [f"{model.name}: {record.validation.in_words}"], as_json=as_json)
        print_message(console, f"written: {Path(config.out) / 'report.html'}; use it with --model {model.name}")


def _train_head(config: HeadConfig, stop: StopSignals, console: Console, *, quiet: bool) -> tuple[StoredModel, Judged]:
    from motivnet_cli.records import Stopped
    from motivnet_cli.training.train_head import train_head

    said = ""

    def say(stage: str) -> None:
        nonlocal said
        if stage != said and not quiet:
            print_message(console, stage)
        said = stage

    try:
        return train_head(config, on_stage=say, stop=stop)
    except Stopped:
        console.print("stopped: no model was stored")
        raise typer.Exit(stop.exit_code_of_stop) from None
