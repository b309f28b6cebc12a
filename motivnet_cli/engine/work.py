"""One process's part of a run: its units -> load -> predict -> write, however the run is divided.

It does not know who else takes part, nor how a run is begun or put in its place.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from motivnet_cli.engine.answers import usable_answers
from motivnet_cli.engine.loader import load
from motivnet_cli.engine.machine import usable_cores
from motivnet_cli.engine.predictor import Predictor, Stages
from motivnet_cli.engine.prepare import Preparer
from motivnet_cli.inputs.pillow import decoding_settings
from motivnet_cli.output.tables import RowLayout
from motivnet_cli.records import PHASE
from motivnet_cli.weights.load import load_model
from motivnet_cli.weights.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from motivnet_cli.config import ModelConfig, RunConfig
    from motivnet_cli.faces.track import TrackConfig
    from motivnet_cli.output.protocols import RunPart
    from motivnet_cli.records import InputReport
    from motivnet_cli.weights.file_hash import FileHash
    from motivnet_cli.weights.load import LoadedModel


log = logging.getLogger(__name__)


@dataclass(slots=True)
class Tally:
    """What a process, or several, did of a run."""

    inputs: int = 0
    """Items that ended; of an archive's members none counts by itself."""
    faces: int = 0
    failed: int = 0
    stages: Stages = field(default_factory=Stages)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.inputs + other.inputs, self.faces + other.faces, self.failed + other.failed, self.stages + other.stages
        )


def load_network(config: ModelConfig, known_hash: FileHash | None = None) -> LoadedModel:
    """The model of a run; `known_hash` is as for `load_model`."""
    return load_model(
        config.name, weights=config.weights, recipe=config.recipe, store=config.store, known_hash=known_hash
    )


def make_predictor(model: LoadedModel, config: ModelConfig, *, num_threads: int | None = None) -> Predictor:
    """The network on its device, with what the model store remembers of devices."""
    return Predictor(model, config, cache=Store(config.store).root / "cache", num_threads=num_threads)


def row_layout(config: RunConfig, model: LoadedModel) -> RowLayout:
    """The columns of a run's tables, without those that the manifest passes through."""
    return RowLayout(
        model.classes,
        model.embedding_size,
        config.output.embeddings,
        _track_config(config),
        landmarks=config.output.landmarks,
    )


def _track_config(config: RunConfig) -> TrackConfig | None:
    """How a run follows faces through videos; None where it does not."""
    if not config.video.track:
        return None
    from motivnet_cli.faces.track import TrackConfig  # it takes half a second of importing scipy

    return TrackConfig.for_interval(config.video.interval_s)


def work(
    part: RunPart,
    config: RunConfig,
    model: LoadedModel,
    predictor: Predictor,
    *,
    on_progress: Callable[[Tally], None],
    stop: Callable[[], bool],
) -> Tally:
    """Take up units until none is left, or until `stop()`: what is in hand then is still written.

    Args:
        on_progress: Called with the tally after every batch.
    """
    tally = Tally(stages=predictor.stages)
    num_threads = config.loader.threads or usable_cores()
    log.info(
        "batch size %d; network threads %d, reading threads %d",
        predictor.batch_size,
        predictor.num_threads,
        num_threads,
    )
    log.debug("cores that this process may use: %d", usable_cores())
    log.info("reading the first inputs", extra=PHASE)
    preparer = Preparer(model, config.faces, config.video, config.loader)
    with decoding_settings():
        for todos in part.rounds(stop):
            batches = load(todos, preparer, num_threads=num_threads, batch_size=predictor.batch_size, stop=stop)
            # Closed here, not by the garbage collector: as the process ends it would wait for threads that are gone.
            with contextlib.closing(batches):
                for batch, prediction in usable_answers(predictor.run(batches), config.output.embeddings):
                    part.write(batch, prediction)
                    _log_problems(batch.finished)
                    tally.inputs += sum(report.archive is None for report in batch.finished)
                    tally.faces += len(batch.crops)
                    tally.failed += sum(report.status == "failed" for report in batch.finished)
                    on_progress(tally)
            if stop():
                break
    return tally


def _log_problems(reports: Iterable[InputReport]) -> None:
    for report in reports:
        if report.problem is not None:
            about = {"input": report.input, "error_type": report.problem.error_type}
            what = (report.input, report.status, report.problem.message)
            log.debug("%s: %s: %s", *what, extra={"fields": about})
