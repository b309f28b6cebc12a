"""The path of a run, in one screen: plan -> work, here or in workers -> the output in its place.

The same function serves the command line and Python; it prints nothing and exits nowhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from motivnet_cli import __version__
from motivnet_cli.config import settings_that_change_output
from motivnet_cli.engine.machine import Choices, all_gpus
from motivnet_cli.engine.work import Tally, load_network, make_predictor, row_layout, work
from motivnet_cli.errors import ConfigError
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output.sink import Output
from motivnet_cli.output.stream import StreamOutput
from motivnet_cli.output.tables import SCHEMA_VERSION
from motivnet_cli.records import Progress, Summary, never, no_progress
from motivnet_cli.remote.urls import display_name, is_remote
from motivnet_cli.scale.local import run_workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from motivnet_cli.config import RunConfig
    from motivnet_cli.output.protocols import OpenRun, RunOutput
    from motivnet_cli.records import OutputSummary, RunRecord, RunState
    from motivnet_cli.weights.load import LoadedModel

log = logging.getLogger(__name__)


def annotate(
    config: RunConfig,
    *,
    progress: Callable[[Progress], None] = no_progress,
    stop: Callable[[], bool] = never,
    pipe: IO[bytes] | None = None,
) -> Summary:
    """Annotate every face of the inputs and write the output; go on where an earlier start of the run stopped.

    Args:
        config: Inputs, model, faces, output, and who takes part.
        progress: Called after every batch.
        stop: Asked before every input; once true, the batches in hand are finished and committed.
        pipe: Write rows here as they come, in place of the output's files; nothing can then be resumed.

    Raises:
        ConfigError: No input exists, or an option does not fit this machine or the output.
        WeightsError: The model's weights are missing or damaged.
        OutputConflictError: The output belongs to another run or is being written.
        WorkerError: Worker processes died again and again; what they committed is kept.
    """
    listing = Listing(config.inputs)
    model = load_network(config.model)
    with contextlib.ExitStack() as stack:
        team = _team_for(config, model, stack, stop)
        if team is None:
            return _nothing_done(model)
        return _run(config, listing, model, team, progress=progress, stop=stop, pipe=pipe)


@dataclasses.dataclass(frozen=True, slots=True)
class _Team:
    """Who does the work of a run: this process, workers on this machine, or actors on a Ray cluster."""

    choices: Choices
    devices: str
    """For people."""
    num_workers: int
    work: Callable[[OpenRun, Callable[[Tally], None], Callable[[], bool]], Tally]
    """Do what is left of a run that has been begun: (run, on_progress, stop)."""


def _team_for(
    config: RunConfig, model: LoadedModel, stack: contextlib.ExitStack, stop: Callable[[], bool]
) -> _Team | None:
    """None if `stop()` came before anyone could work."""
    if config.scale.engine == "ray":
        from motivnet_cli.scale.ray_driver import RayWorkers  # its library is an extra

        workers = stack.enter_context(RayWorkers(config))
        found = workers.choices(stop)
        if found is None:
            return None
        return _Team(
            found,
            f"{found.device_name} on Ray",
            workers.num_expected,
            lambda _, on_progress, stop: workers.run(on_progress=on_progress, stop=stop),
        )
    devices = _devices_of(config)
    if devices:
        return _Team(
            Choices.of(model, dataclasses.replace(config.model, device=devices[0])),
            ", ".join(devices),
            len(devices),
            lambda run, on_progress, stop: run_workers(
                dataclasses.replace(config, output=run.worker_config), devices, on_progress=on_progress, stop=stop
            ),
        )
    choices = Choices.of(model, config.model)
    predictor = make_predictor(model, config.model)
    return _Team(
        choices,
        choices.device_name,
        1,
        lambda run, on_progress, stop: work(run, config, model, predictor, on_progress=on_progress, stop=stop),
    )


def _run(
    config: RunConfig,
    listing: Listing,
    model: LoadedModel,
    team: _Team,
    *,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
    pipe: IO[bytes] | None,
) -> Summary:
    with _open_output(config, model, team, pipe) as output:
        started = time.monotonic()
        before = output.finished_before()
        if before is not None:
            return _summary(before, "already_finished", Tally(), model, team.devices, started)
        run = output.begin(listing)
        _log_start(config, run, model, team)

        def on_progress(tally: Tally) -> None:
            progress(
                Progress(
                    inputs_total=run.num_items,
                    inputs_done=min(run.num_items, run.num_resumed + tally.inputs),
                    inputs_resumed=run.num_resumed,
                    faces=tally.faces,
                    failed=tally.failed,
                    seconds=time.monotonic() - started,
                )
            )

        tally = team.work(run, on_progress, stop)
        mark = time.monotonic()
        state = run.complete()
        tally.stages.writing += time.monotonic() - mark
        return _summary(run.summary(), state, tally, model, team.devices, started)


def _summary(
    output: OutputSummary, state: RunState, tally: Tally, model: LoadedModel, devices: str, started: float
) -> Summary:
    return Summary(
        inputs=output.inputs,
        done=output.done,
        by_status=output.by_status,
        faces=output.faces,
        emotions=output.emotions,
        outputs=output.outputs,
        failures=output.failures,
        state=state,
        model=model.card.name,
        device=devices,
        faces_predicted=tally.faces,
        seconds=time.monotonic() - started,
        device_busy=round(tally.stages.busy, 3),
        bound_by=tally.stages.bound_by,
        writing_s=tally.stages.writing,
    )


def _devices_of(config: RunConfig) -> tuple[str, ...]:
    """One for each worker process; none where this process does the work."""
    devices = config.scale.devices
    if devices != ("all",):
        return devices
    found = all_gpus()
    if not found:
        raise ConfigError("--devices all means every CUDA device, and torch sees none here; leave it out, or name some")
    return found


def _nothing_done(model: LoadedModel) -> Summary:
    """Of a run that was stopped before it began."""
    return Summary(
        inputs=0,
        done=0,
        by_status={},
        faces=0,
        emotions={},
        outputs=(),
        state="stopped",
        model=model.card.name,
        device="none",
    )


def _open_output(config: RunConfig, model: LoadedModel, team: _Team, pipe: IO[bytes] | None) -> RunOutput:
    record, layout = _record_of(config, model, team.choices), row_layout(config, model)
    if pipe is not None:
        return StreamOutput(pipe, config.output, record=record, layout=layout)
    return Output(config.output, record=record, layout=layout, shard=config.scale.shard, num_workers=team.num_workers)


def _log_start(config: RunConfig, run: OpenRun, model: LoadedModel, team: _Team) -> None:
    faces = config.faces.mode if config.faces.mode == "whole" else f"{config.faces.mode} ({config.faces.detector})"
    log.info(
        "%s on %s in %s; faces: %s; recipe: %s",
        model.card.name,
        team.devices,
        team.choices.precision,
        faces,
        model.recipe,
    )
    if run.num_items:
        share = f" in shard {run.shard}" if run.shard else ""
        done_before = f", {run.num_resumed} of them done before" if run.num_resumed else ""
        log.info("%d inputs%s%s", run.num_items, share, done_before)
    if run.skipped:
        log.info("passed over: %s", ", ".join(f"{n} {what}" for what, n in run.skipped.items()))
    if team.choices.device.type == "cpu" and not model.card.single_thread:
        log.warning("%s is made for a GPU: on a CPU each face takes a minute or more", model.card.name)


def _record_of(config: RunConfig, model: LoadedModel, choices: Choices) -> RunRecord:
    """What the output says of the run. `settings` is its fingerprint: what changes the rows, resolved."""
    settings = settings_that_change_output(config) | {
        "inputs.paths": [
            display_name(given) if is_remote(given) else str(Path(given).absolute()) for given in config.inputs.paths
        ],
        "model.recipe": model.recipe,
        "model.flip": choices.flip,
        "model.precision": choices.precision,
        "model.weights_sha256": model.weights_sha256,
        "faces.margin": model.card.margin if config.faces.margin is None else config.faces.margin,
        "version": __version__,
        "schema": SCHEMA_VERSION,
    }
    return {
        "tool": f"motivnet {__version__}",
        "schema_version": SCHEMA_VERSION,
        "model": model.card.name,
        "classes": list(model.classes),
        "weights_sha256": model.weights_sha256,
        "terms": model.card.terms,
        "recipe": model.recipe,
        "precision": choices.precision,
        "device": choices.device_name,
        "faces": _section(settings, "faces"),
        "video": _section(settings, "video"),
        "command": config.command,
        "settings": settings,
    }


def _section(settings: dict[str, object], name: str) -> dict[str, object]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}
