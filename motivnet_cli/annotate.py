"""The path of a run, in one screen: plan -> load -> predict -> write.

The same function serves the command line and Python; it prints nothing and exits nowhere.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from motivnet_cli import __version__
from motivnet_cli.config import settings_that_change_output
from motivnet_cli.load import load_model
from motivnet_cli.loader import load
from motivnet_cli.plan import Listing
from motivnet_cli.predictor import Predictor, device_name, usable_cores
from motivnet_cli.records import Progress, Summary, never, no_progress
from motivnet_cli.remote import is_remote, shown
from motivnet_cli.sink import SCHEMA_VERSION, Output
from motivnet_cli.store import Store
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
        config: Inputs, model, faces, output.
        progress: Called after every batch.
        stop: Asked before every input; once true, the batches in hand are finished and committed.
        pipe: Write rows here as they come, in place of the output's files; nothing can then be resumed.

    Raises:
        ConfigError: No input exists, or an option does not fit this machine or the output.
        WeightsError: The model's weights are missing or damaged.
        OutputConflictError: The output belongs to another run or is being written.
    """
    listing = Listing(config.inputs)
    model = load_model(
        config.model.name, weights=config.model.weights, recipe=config.model.recipe, store=config.model.store
    )
    predictor = Predictor(model, config.model, cache=Store(config.model.store).root / "cache")
    with _open_output(config, model, predictor, pipe) as output:
        finished_before = output.finished
        started = time.monotonic()
        num_faces = 0
        if not finished_before:
            todos = output.begin(listing)
            num_workers = config.loader.workers or usable_cores()
            _log_start(config, output, model, predictor, num_workers=num_workers)
            batches = load(
                todos,
                model=model,
                faces=config.faces,
                video=config.video,
                loader=config.loader,
                num_workers=num_workers,
                batch_size=predictor.batch_size,
                stop=stop,
            )
            num_failed = 0
            for batch, prediction in predictor.run(batches):
                output.write(batch, prediction)
                num_faces += len(batch.crops)
                num_failed += sum(report.status == "failed" for report in batch.finished)
                progress(
                    Progress(
                        inputs_total=output.num_items,
                        inputs_done=batch.reached.place.item,
                        inputs_resumed=output.num_resumed,
                        faces=num_faces,
                        failed=num_failed,
                        seconds=time.monotonic() - started,
                    )
                )
            mark = time.monotonic()
            output.complete()
            predictor.stages.writing += time.monotonic() - mark
        return Summary(
            **output.summary(),
            faces_predicted=num_faces,
            seconds=time.monotonic() - started,
            device_busy=round(predictor.stages.busy, 3),
            bound_by=predictor.stages.bound_by,
            writing_s=predictor.stages.writing,
            model=model.card.name,
            device=device_name(predictor.device),
            stopped=not output.finished,
            already_finished=finished_before,
        )


def _open_output(
    config: RunConfig, model: LoadedModel, predictor: Predictor, pipe: IO[bytes] | None
) -> Output | StreamOutput:
    record = _record_of(config, model, predictor)
    tracks = None
    if config.video.track:
        from motivnet_cli.track import TrackConfig  # it takes half a second of importing scipy

        tracks = TrackConfig.for_interval(config.video.interval_s)
    about: dict[str, Any] = {"record": record, "classes": model.classes, "embedding_size": model.embedding_size}
    if pipe is not None:
        embeddings, stream_format = config.output.embeddings, config.output.stream_format
        return StreamOutput(pipe, stream_format, embeddings=embeddings, tracks=tracks, **about)
    return Output(config.output, tracks=tracks, **about)


def _log_start(
    config: RunConfig, output: Output | StreamOutput, model: LoadedModel, predictor: Predictor, *, num_workers: int
) -> None:
    faces = config.faces.mode if config.faces.mode == "whole" else f"{config.faces.mode} ({config.faces.detector})"
    log.info(
        "%s on %s in %s; batch size %d; network threads %d, reading threads %d; faces: %s; recipe: %s",
        model.card.name,
        device_name(predictor.device),
        predictor.precision,
        predictor.batch_size,
        predictor.num_threads,
        num_workers,
        faces,
        model.recipe,
    )
    if output.num_items:
        done_before = f", {output.num_resumed} of them done before" if output.num_resumed else ""
        log.info("%d inputs%s", output.num_items, done_before)
    if output.skipped:
        log.info("passed over: %s", ", ".join(f"{n} {what}" for what, n in output.skipped.items()))
    if predictor.device.type == "cpu" and not model.card.single_thread:
        log.warning("%s is made for a GPU: on a CPU each face takes a minute or more", model.card.name)


def _record_of(config: RunConfig, model: LoadedModel, predictor: Predictor) -> dict[str, Any]:
    """What the output says of the run. `settings` is its fingerprint: what changes the rows, resolved."""
    settings = settings_that_change_output(config) | {
        "inputs.paths": [
            shown(given) if is_remote(given) else str(Path(given).absolute()) for given in config.inputs.paths
        ],
        "model.recipe": model.recipe,
        "model.flip": predictor.flip,
        "model.precision": predictor.precision,
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
        "precision": predictor.precision,
        "device": device_name(predictor.device),
        "faces": {key[6:]: value for key, value in settings.items() if key.startswith("faces.")},
        "video": {key[6:]: value for key, value in settings.items() if key.startswith("video.")},
        "command": config.command,
        "settings": settings,
    }
