"""`motivnet train`: labels in, a model of the store out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motivnet_cli.cli.help import GENERAL
from motivnet_cli.cli.log import phase, say, warn
from motivnet_cli.cli.missing_weights import with_weights
from motivnet_cli.cli.options import AsJson, LogOptions
from motivnet_cli.cli.progress import Talk, watch_run, watch_training
from motivnet_cli.cli.terminal import (
    StopSignals,
    command_line,
    exit_stopped,
    importing,
    print_json,
    print_result,
    table_lines,
    talking,
)
from motivnet_cli.cli.train_options import (
    AugmentOptions,
    DataOptions,
    FitOptions,
    HeadOptions,
    RecipeOptions,
    ResultOptions,
    StudentOptions,
    refuse,
)
from motivnet_cli.errors import ConfigError
from motivnet_cli.records import Stopped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motivnet_cli.training.config import HeadConfig, StudentConfig, TrainConfig
    from motivnet_cli.training.result import Judged
    from motivnet_cli.training.train import Trained, TrainPlan
    from motivnet_cli.weights.store import StoredModel


def train(
    *,
    result: ResultOptions,
    head: HeadOptions,
    student: StudentOptions,
    data: DataOptions,
    recipe: RecipeOptions,
    augment: AugmentOptions,
    fit: FitOptions,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what would be trained, on what, and the memory; train no network.",
            rich_help_panel=GENERAL,
        ),
    ] = False,
    as_json: AsJson = False,
    log: LogOptions,
) -> None:
    """Train a model of your own, in one of three ways.

    A head learns any classes from the embeddings of an output of annotate, within seconds:
      motivnet train --from preds.parquet --labels labels.csv --out my-model

    A student is a small network that learns what a large one has said of faces:
      motivnet train --student expression-net --targets preds.parquet --out my-model

    A whole network learns from labelled faces, by the recipe of MotivNet's reference:
      motivnet train --dataset affectnet7 --init sapiens-1b --out my-model

    The model is put into the store, where every command takes it by --model my-model; the report (report.html,
    metrics.json, model-card.md) goes to --out. To continue the training of a student or a network after an
    interruption, run the same command again.
    """
    with StopSignals(log) as stop, talking(log) as talk:
        if head != HeadOptions():
            refuse("a head", data, recipe, fit, augment, student)
            if dry_run:
                raise ConfigError("a head has no --dry-run: leave that out")
            model, judged = _train_head(head.config(result, command=command_line()), stop)
            _write(model, judged, result, as_json=as_json)
            return
        try:
            if student != StudentOptions():
                refuse("a student", data, recipe, augment)
                if dry_run:
                    raise ConfigError("a student has no --dry-run: leave that out")
                lesson = student.config(result, fit.config(seed=result.seed), command=command_line())
                _teach(lesson, result, talk, stop, as_json=as_json)
                return
            config = _network(result, data, recipe, fit, augment)
            if dry_run:
                _show_plan(config, talk, stop, as_json=as_json)
            else:
                _train_network(config, result, talk, log, stop, accept_terms=recipe.accept_terms, as_json=as_json)
        except Stopped:
            raise exit_stopped(stop) from None


def _write(model: StoredModel, judged: Judged, result: ResultOptions, *, as_json: bool) -> None:
    """Write the report of a training, and say what a model is worth."""
    from motivnet_cli.report.training import write_training

    folder = Path(result.folder)
    phase("writing the report")
    write_training(model, judged, folder)
    record = model.training
    assert record is not None, "it was just made"
    _warn((*record.data.remarks, *record.remarks))
    say(f"{model.name}: {record.validation.in_words}")
    page = folder / "report.html"
    say(f"written: {page}; use it with --model {model.name}", model=model.name, path=page)
    if as_json:
        print_json({"model": model.name, "sha256": model.sha256, "training": record.to_json()})


def _warn(remarks: Iterable[str]) -> None:
    for remark in remarks:
        warn(remark)


# ---- a head -----------------------------------------------------------------------------------------------


def _train_head(config: HeadConfig, stop: StopSignals) -> tuple[StoredModel, Judged]:
    phase(f"train: a head ({config.kind}) on {config.predictions}, into {config.out}")
    with importing():
        from motivnet_cli.training.train_head import train_head

    said = ""

    def on_stage(stage: str) -> None:
        nonlocal said
        if stage != said:
            phase(stage)
        said = stage

    try:
        return train_head(config, on_stage=on_stage, stop=stop)
    except Stopped:
        say("stopped: no model was stored")
        raise typer.Exit(stop.exit_code_of_stop) from None


# ---- a whole network --------------------------------------------------------------------------------------


def _network(
    result: ResultOptions, data: DataOptions, recipe: RecipeOptions, fit: FitOptions, augment: AugmentOptions
) -> TrainConfig:
    from motivnet_cli.training.config import TrainConfig

    if data.dataset is None:
        raise ConfigError(
            "say what to train: a head on --from preds.parquet with --labels labels.csv, a network on --dataset NAME, "
            "or a --student on --targets preds.parquet"
        )
    if recipe.init is None:
        raise ConfigError(
            "name what to start from, such as --init sapiens-1b, which motivnet download-weights sapiens-1b brings"
        )
    return TrainConfig(
        data=data.config(result, threads=fit.threads),
        init=recipe.init,
        out=result.folder,
        recipe=data.recipe,
        new_head=recipe.new_head,
        optim=recipe.config(),
        augment=augment.config(),
        fit=fit.config(seed=result.seed),
        store=result.store,
        overwrite=result.overwrite,
        command=command_line(),
    )


def _train_network(
    config: TrainConfig,
    result: ResultOptions,
    talk: Talk,
    log: LogOptions,
    stop: StopSignals,
    *,
    accept_terms: bool,
    as_json: bool,
) -> None:
    phase(f"train: a network from {config.init} on {config.data.dataset}, into {config.out}")
    with importing():
        from motivnet_cli.training.train import train_network

    def watched() -> Trained | None:
        with watch_run(talk) as watch_faces, watch_training(talk) as watch_steps:
            return train_network(config, watch_faces=watch_faces, watch_steps=watch_steps, stop=stop)

    trained = with_weights(watched, talk, log, accept_terms=accept_terms)
    if trained is not None:  # else another process of this training says the rest
        _write(trained.model, trained.judged, result, as_json=as_json)


def _show_plan(config: TrainConfig, talk: Talk, stop: StopSignals, *, as_json: bool) -> None:
    phase(f"train: planning a network from {config.init} on {config.data.dataset}")
    with importing():
        from motivnet_cli.training.train import plan_training

    with watch_run(talk) as watch_faces:
        plan = plan_training(config, watch_faces=watch_faces, stop=stop)
    _warn(plan.remarks)
    print_result(dataclasses.asdict(plan), _lines_of(plan), as_json=as_json)


def _lines_of(plan: TrainPlan) -> list[str]:
    counts = [("class", "train", "val"), *((name, str(a), str(b)) for name, (a, b) in plan.classes.items())]
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in plan.dropped.items()) or "none"
    steps = plan.steps_per_epoch * plan.epochs
    return [
        f"{plan.name}, from {plan.start}: {plan.trainable:,} of {plan.parameters:,} parameters train",
        f"{plan.epochs} epochs of {plan.steps_per_epoch:,} steps, {steps:,} in all",
        f"about {plan.memory_bytes / 1e9:.2g} GB for weights, gradients, optimizer and one batch (an estimate)",
        f"validation: {plan.validation}; left out: {dropped}",
        *table_lines(counts),
    ]


# ---- a student --------------------------------------------------------------------------------------------


def _teach(config: StudentConfig, result: ResultOptions, talk: Talk, stop: StopSignals, *, as_json: bool) -> None:
    phase(f"train: a student of {config.targets}, into {config.out}")
    with importing():
        from motivnet_cli.training.teach import teach

    with watch_run(talk) as watch_faces, watch_training(talk) as watch_steps:
        taught = teach(config, watch_faces=watch_faces, watch_steps=watch_steps, stop=stop)
    _write(taught.model, taught.judged, result, as_json=as_json)
