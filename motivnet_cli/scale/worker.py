"""A worker's part of a run that another process has begun: the same on this machine and on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motivnet_cli.engine.work import work
from motivnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from motivnet_cli.config import RunConfig
    from motivnet_cli.engine.predictor import Predictor
    from motivnet_cli.engine.work import Tally
    from motivnet_cli.output.share import Share
    from motivnet_cli.weights.load import LoadedModel


def take_units(
    share: Share,
    config: RunConfig,
    model: LoadedModel,
    predictor: Predictor,
    *,
    on_progress: Callable[[Tally], None],
    stop: Callable[[], bool],
) -> Tally:
    """Do the units of a share until none is left, or until `stop()`; close the share.

    Args:
        share: Of a run that another process has begun.
        on_progress: Called with the tally after every batch.

    Raises:
        ConfigError: The network here is not the one that the run was begun with.
    """
    try:
        _check_network(share.record["settings"], config, model, predictor)
        return work(share, config, model, predictor, on_progress=on_progress, stop=stop)
    finally:
        share.close()


def _check_network(settings: dict[str, object], config: RunConfig, model: LoadedModel, predictor: Predictor) -> None:
    """Raise where the rows of this worker would differ from those of the run."""
    precision, weights = settings["model.precision"], settings["model.weights_sha256"]
    if predictor.choices.precision != precision:
        raise ConfigError(
            f"this run computes in {precision}, and --precision {config.model.precision} comes to "
            f"{predictor.choices.precision} on {predictor.choices.device_name}: give one that all devices have"
        )
    if model.weights_sha256 != weights:
        raise ConfigError(
            f"this run was begun with weights of SHA-256 {weights}, and here {model.card.name} has "
            f"{model.weights_sha256}: give every worker the same weights"
        )
