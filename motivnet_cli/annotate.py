"""The path of a run, in one screen: plan -> work, here or in workers -> the output in its place.

The same function serves the command line and Python; it prints nothing and exits nowhere.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from motivnet_cli import __version__
from motivnet_cli.config import settings_that_change_output
from motivnet_cli.crew import run_workers
from motivnet_cli.engine import Tally, load_network, make_predictor, track_config, work
from motivnet_cli.errors import ConfigError
from motivnet_cli.plan import Listing
from motivnet_cli.predictor import Choices, all_gpus, device_name
from motivnet_cli.records import Progress, Summary, never, no_progress
from motivnet_cli.remote import is_remote, shown
from motivnet_cli.sink import SCHEMA_VERSION, Output
from motivnet_cli.stream import StreamOutput

if TYPE_CHECKING:
    from collections.abc import Callable

    from motivnet_cli.config import RunConfig
    from motivnet_cli.load import LoadedModel

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
    devices = _devices_of(config)
    model_config = dataclasses.replace(config.model, device=devices[0]) if devices else config.model
    choices = Choices.of(model, model_config)
    predictor = None if devices else make_predictor(model, model_config)
    with _open_output(config, model, choices, pipe, num_workers=max(1, len(devices))) as output:
        finished_before = output.finished
        started = time.monotonic()
        tally, is_done = Tally(), True
        if not finished_before:
            output.begin(listing)
            _log_start(config, output, model, choices, devices)

            def tell(tally: Tally) -> None:
                progress(
                    Progress(
                        inputs_total=output.num_items,
                        inputs_done=min(output.num_items, output.num_resumed + tally.inputs),
                        inputs_resumed=output.num_resumed,
                        faces=tally.faces,
                        failed=tally.failed,
                        seconds=time.monotonic() - started,
                    )
                )

            if predictor is None:
                assert isinstance(output, Output), "the settings let workers write no stream"
                shared = dataclasses.replace(config, output=output.config_of_workers)
                tally = run_workers(shared, devices, tell=tell, stop=stop)
            else:
                tally = work(output, config, model, predictor, tell=tell, stop=stop)
            mark = time.monotonic()
            is_done = output.complete()
            tally.stages.writing += time.monotonic() - mark
        return Summary(
            **output.summary(),
            faces_predicted=tally.faces,
            seconds=time.monotonic() - started,
            device_busy=round(tally.stages.busy, 3),
            bound_by=tally.stages.bound_by,
            writing_s=tally.stages.writing,
            model=model.card.name,
            device=", ".join(devices) or device_name(choices.device),
            stopped=not is_done,
            finished=output.finished,
            already_finished=finished_before,
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


def _open_output(
    config: RunConfig, model: LoadedModel, choices: Choices, pipe: IO[bytes] | None, *, num_workers: int
) -> Output | StreamOutput:
    record = _record_of(config, model, choices)
    tracks = track_config(config)
    about: dict[str, Any] = {"record": record, "classes": model.classes, "embedding_size": model.embedding_size}
    if pipe is not None:
        embeddings, stream_format = config.output.embeddings, config.output.stream_format
        return StreamOutput(pipe, stream_format, embeddings=embeddings, tracks=tracks, **about)
    return Output(config.output, tracks=tracks, shard=config.scale.shard, num_workers=num_workers, **about)


def _log_start(
    config: RunConfig, output: Output | StreamOutput, model: LoadedModel, choices: Choices, devices: tuple[str, ...]
) -> None:
    faces = config.faces.mode if config.faces.mode == "whole" else f"{config.faces.mode} ({config.faces.detector})"
    log.info(
        "%s on %s in %s; faces: %s; recipe: %s",
        model.card.name,
        ", ".join(devices) or device_name(choices.device),
        choices.precision,
        faces,
        model.recipe,
    )
    if output.num_items:
        share = f" in shard {output.shard}" if output.shard else ""
        done_before = f", {output.num_resumed} of them done before" if output.num_resumed else ""
        log.info("%d inputs%s%s", output.num_items, share, done_before)
    if output.skipped:
        log.info("passed over: %s", ", ".join(f"{n} {what}" for what, n in output.skipped.items()))
    if choices.device.type == "cpu" and not model.card.single_thread:
        log.warning("%s is made for a GPU: on a CPU each face takes a minute or more", model.card.name)


def _record_of(config: RunConfig, model: LoadedModel, choices: Choices) -> dict[str, Any]:
    """What the output says of the run. `settings` is its fingerprint: what changes the rows, resolved."""
    settings = settings_that_change_output(config) | {
        "inputs.paths": [
            shown(given) if is_remote(given) else str(Path(given).absolute()) for given in config.inputs.paths
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
        "device": device_name(choices.device),
        "faces": {key[6:]: value for key, value in settings.items() if key.startswith("faces.")},
        "video": {key[6:]: value for key, value in settings.items() if key.startswith("video.")},
        "command": config.command,
        "settings": settings,
    }
