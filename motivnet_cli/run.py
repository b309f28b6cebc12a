"""The path of a run, in one screen: plan -> work, here or in workers -> the output in its place.

The same function serves the command line and Python; it prints nothing and exits nowhere.
"""

from __future__ import annotations

import importlib.metadata
import logging
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from motivnet_cli import __version__
from motivnet_cli.config import settings_that_change_output
from motivnet_cli.engine.work import Tally, load_network, row_layout
from motivnet_cli.errors import ConfigError, one_line
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output.sink import Output, can_go_on
from motivnet_cli.output.stream import StreamOutput
from motivnet_cli.output.tables import SCHEMA_VERSION
from motivnet_cli.records import PHASE, LeftOut, Progress, Summary, in_column_order, never, no_progress
from motivnet_cli.remote.urls import display_name, is_remote
from motivnet_cli.scale.workforce import open_workforce

if TYPE_CHECKING:
    from collections.abc import Callable

    from motivnet_cli.config import RunConfig
    from motivnet_cli.engine.machine import Choices
    from motivnet_cli.output.protocols import OpenRun, RunOutput
    from motivnet_cli.records import OutputSummary, RunRecord, RunState
    from motivnet_cli.scale.workforce import Workforce
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
    log.info("looking for the inputs", extra=PHASE)
    listing = _listing_of(config, is_piped=pipe is not None)
    return _annotate(config, listing, load_network(config.model), progress=progress, stop=stop, pipe=pipe)


def annotate_with(
    model: LoadedModel,
    config: RunConfig,
    *,
    progress: Callable[[Progress], None] = no_progress,
    stop: Callable[[], bool] = never,
) -> Summary:
    """As `annotate`, for one of many runs of the same network.

    Args:
        model: What `load_network` gives for `config.model`; it may have been used by other runs.
    """
    return _annotate(config, _listing_of(config, is_piped=False), model, progress=progress, stop=stop, pipe=None)


def _annotate(
    config: RunConfig,
    listing: Listing | None,
    model: LoadedModel,
    *,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
    pipe: IO[bytes] | None,
) -> Summary:
    with open_workforce(config, model, stop) as workforce:
        if workforce is None:
            return _nothing_done(model)
        summary = _run(config, listing, model, workforce, progress=progress, stop=stop, pipe=pipe)
    num_unseen = summary.faces - summary.face_sources.get("detected", 0)
    if num_unseen and config.faces.align_for(model.card):
        log.warning(
            "--align: %d of %d faces are cropped as they are, since no detector saw the eyes of given faces and whole "
            "pictures",
            num_unseen,
            summary.faces,
        )
    return summary


def _listing_of(config: RunConfig, *, is_piped: bool) -> Listing | None:
    """The inputs; None where an output is there that does not need them, and they cannot be listed or are many tasks'.

    Raises:
        ConfigError: They cannot be listed, and have to be.
    """
    is_needed = is_piped or not can_go_on(config.output)
    if config.scale.shard is not None and not is_needed:
        return None
    try:
        listing = Listing(config.inputs)
    except ConfigError:
        if is_needed:
            raise
        return None
    if config.scale.shard is None and is_needed:
        listing.read_manifests()  # what is wrong with them is said before the network is loaded
    return listing


def _run(
    config: RunConfig,
    listing: Listing | None,
    model: LoadedModel,
    workforce: Workforce,
    *,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
    pipe: IO[bytes] | None,
) -> Summary:
    with _open_output(config, model, workforce, pipe) as output:
        started = time.monotonic()
        before = output.finished_before(listing)
        if before is not None:
            return _summary(before, "already_finished", Tally(), model, workforce.name, started, started)
        log.info("listing the inputs", extra=PHASE)
        run = output.begin(listing)
        _log_start(config, run, model, workforce)

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

        begun = time.monotonic()
        tally = workforce.do(run, on_progress=on_progress, stop=stop)
        log.info("keeping what is done" if stop() else "completing the output", extra=PHASE)
        mark = time.monotonic()
        state = run.complete()
        tally.stages.finishing += time.monotonic() - mark
        return _summary(run.summary(), state, tally, model, workforce.name, started, begun)


def _summary(
    output: OutputSummary, state: RunState, tally: Tally, model: LoadedModel, devices: str, started: float, begun: float
) -> Summary:
    """How a run ended.

    Args:
        started: When it looked for its inputs, by the monotonic clock.
        begun: When it began to work on them.
    """
    return Summary(
        inputs=output.inputs,
        done=output.done,
        by_status=output.by_status,
        faces=output.faces,
        face_sources=output.face_sources,
        emotions=output.emotions,
        left_out=output.left_out,
        outputs=output.outputs,
        failures=output.failures,
        changes=output.changes,
        state=state,
        model=model.card.name,
        device=devices,
        faces_predicted=tally.faces,
        seconds=time.monotonic() - started,
        device_busy=round(tally.stages.busy, 3),
        bound_by=tally.stages.bound_by,
        writing_s=tally.stages.writing,
        starting_s=begun - started + tally.stages.starting,
        finishing_s=tally.stages.finishing,
    )


def _nothing_done(model: LoadedModel) -> Summary:
    """Of a run that was stopped before it began."""
    return Summary(
        inputs=0,
        done=0,
        by_status={},
        faces=0,
        face_sources={},
        emotions={},
        left_out=LeftOut(),
        outputs=(),
        state="stopped",
        model=model.card.name,
        device="none",
    )


def _open_output(config: RunConfig, model: LoadedModel, workforce: Workforce, pipe: IO[bytes] | None) -> RunOutput:
    record, layout = _record_of(config, model, workforce.choices), row_layout(config, model)
    if pipe is not None:
        return StreamOutput(pipe, config.output, record=record, layout=layout)
    return Output(
        config.output,
        record=record,
        layout=layout,
        shard=config.scale.shard,
        num_workers=workforce.num_workers,
        reads=_files_read(config),
    )


def _files_read(config: RunConfig) -> list[str]:
    """Files and folders that the settings name; the listing has the rest."""
    inputs = config.inputs
    weights = [] if config.model.weights is None else [config.model.weights]
    return [*inputs.paths, *inputs.files_from, *inputs.files0_from, *inputs.manifests, *weights]


def _log_start(config: RunConfig, run: OpenRun, model: LoadedModel, workforce: Workforce) -> None:
    faces = config.faces.mode if config.faces.mode == "whole" else f"{config.faces.mode} ({config.faces.detector})"
    log.info(
        "%s on %s in %s; faces: %s; recipe: %s",
        model.card.name,
        workforce.name,
        workforce.choices.precision,
        faces,
        model.recipe,
        extra={"fields": {"model": model.card.name, "device": workforce.name, "recipe": model.recipe}},
    )
    log.debug("the model is of %s, sha256 %s", model.weights_path, model.weights_sha256)
    log.debug("settings that decide what is written: %s", settings_that_change_output(config))
    if run.num_items:
        share = f" in shard {run.shard}" if run.shard else ""
        done_before = f", {run.num_resumed} of them done before" if run.num_resumed else ""
        log.info("%d inputs%s%s", run.num_items, share, done_before)
    if run.skipped:
        log.info("passed over: %s", ", ".join(f"{n} {one_line(what)}" for what, n in run.skipped.items()))
    if config.model.weights is not None and config.model.name is None and not model.classes:
        log.warning("%s is a Sapiens encoder without an emotion head: rows get no emotions", model.card.name)
    if model.card.whole and config.faces.mode != "whole":
        log.warning(
            "%s learned from crops of faces, taken whole: how it does on faces that are found and cut out was not "
            "measured, and --faces whole takes pictures as it learned them",
            model.card.name,
        )
    if workforce.choices.device.type == "cpu" and not model.card.single_thread:
        pace = "a minute" if workforce.choices.precision == "fp32" else "ten seconds"
        log.warning("%s is made for a GPU: two CPU cores take %s or more for each face", model.card.name, pace)


def _record_of(config: RunConfig, model: LoadedModel, choices: Choices) -> RunRecord:
    """What the output says of the run. `settings` is its fingerprint: what changes the rows, resolved."""
    settings = settings_that_change_output(config) | {
        "inputs.paths": [
            display_name(given) if is_remote(given) else str(Path(given).absolute()) for given in config.inputs.paths
        ],
        "model.name": model.card.name,
        "model.recipe": model.recipe,
        "model.flip": choices.flip,
        "model.precision": choices.precision,
        "model.weights_sha256": model.weights_sha256,
        "faces.margin": config.faces.margin_for(model.card),
        "faces.align": config.faces.align_for(model.card),
        "version": __version__,
        "schema": SCHEMA_VERSION,
    }
    record: RunRecord = {
        "tool": f"motivnet {__version__}",
        "schema_version": SCHEMA_VERSION,
        "model": model.card.name,
        "classes": list(in_column_order(model.classes)),
        "embedding_size": model.embedding_size,
        "checksums": True,
        "weights_sha256": model.weights_sha256,
        "terms": model.card.terms,
        "architecture": model.card.architecture,
        "sources": model.card.sources,
        "recipe": model.recipe,
        "precision": choices.precision,
        "torch": importlib.metadata.version("torch"),
        "device": choices.device_name,
        "faces": _section(settings, "faces"),
        "video": _section(settings, "video"),
        "command": config.command,
        "settings": settings,
    }
    if model.position_change:
        record["position_change"] = model.position_change
    return record


def _section(settings: dict[str, object], name: str) -> dict[str, object]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}
