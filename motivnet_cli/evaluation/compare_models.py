"""Two networks on the same pictures; the mathematics is in `similarity`."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.engine.work import load_network
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.embeddings import pair_faces, read_embeddings
from motivnet_cli.evaluation.results import INLINE
from motivnet_cli.evaluation.sides import (
    DEFAULT_READING,
    Comparison,
    Reading,
    Run,
    outputs_of,
    remark_on_unusable,
    side_of,
)
from motivnet_cli.evaluation.similarity import PairedEmbeddings, parameter_drift
from motivnet_cli.records import PHASE, never, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from motivnet_cli.config import InputConfig, ModelConfig
    from motivnet_cli.evaluation.embeddings import Pairing, Unpaired
    from motivnet_cli.evaluation.sides import Side
    from motivnet_cli.evaluation.similarity import Drift, PairSimilarity
    from motivnet_cli.records import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelComparison(Comparison):
    """How alike two networks embed the same faces, and how far their parameters are from each other."""

    unpaired: Unpaired
    similarity: PairSimilarity = field(metadata=INLINE)
    drift: Drift | None
    """None where no parameters have the same name and shape."""


def compare_models(
    a: ModelConfig,
    b: ModelConfig,
    images: InputConfig,
    *,
    work: Path,
    reading: Reading = DEFAULT_READING,
    command: str = "",
    progress: Callable[[Progress], None] = no_progress,
    stop: Callable[[], bool] = never,
) -> ModelComparison | None:
    """How alike two networks embed the same faces, and how far a's parameters are from b's.

    The output of each network is kept in `work/<its name>` (b's in `work/<its name>-b` where both have one name); the
    same call resumes there. Faces are paired by input, frame and number; those that one output lacks are counted.

    Args:
        a: The network that is compared, such as MotivNet.
        b: The one to compare with, such as the encoder that it came from.
        command: The command line, to be recorded.
        progress: Of the run of a, then of b.

    Returns:
        None when `stop` ended a run.

    Raises:
        ConfigError: Fewer than two faces have both embeddings, or a setting is wrong.
        WeightsError: A network's weights are missing or damaged.
        OutputConflictError: The work folder holds runs of other settings or inputs.
    """
    _parameters(b)  # missing weights show now, and not after hours of running a
    name_a, name_b = a.recorded_name, b.recorded_name
    if name_a == name_b:
        name_b = f"{name_b}-b"
    runs = [Run(a, images, work / name_a), Run(b, images, work / name_b)]
    outputs = outputs_of(runs, reading=reading, command=command, progress=progress, stop=stop)
    if outputs is None:
        return None
    pairing = pair_faces(*outputs)
    similarity, num_unusable = _similarity(outputs, pairing)
    side_a, side_b = map(side_of, outputs)
    log.info("comparing the parameters of %s and %s", side_a.model, side_b.model, extra=PHASE)
    drift = parameter_drift(_parameters(a), _parameters(b))
    return ModelComparison(
        kind="models",
        command=command,
        remarks=(*_remarks_on_models(side_a, side_b, similarity, drift), *remark_on_unusable(num_unusable)),
        a=side_a,
        b=side_b,
        unpaired=pairing.unpaired,
        similarity=similarity,
        drift=drift if drift.layers else None,
    )


def _similarity(outputs: Sequence[str], pairing: Pairing) -> tuple[PairSimilarity, int]:
    """Over the faces that both outputs have; and how many of them were left out for infinities or NaN."""
    pairs = PairedEmbeddings()
    num_unusable = 0
    batches = (read_embeddings(output, rows) for output, rows in zip(outputs, pairing[:2], strict=True))
    for x, y in zip(*batches, strict=True):
        is_usable = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
        num_unusable += int(np.sum(~is_usable))
        pairs.update(x[is_usable], y[is_usable])
    similarity = pairs.finish()
    if similarity.n < 2:
        raise ConfigError(
            f"comparing networks takes at least 2 faces, and {similarity.n} have both embeddings: give more pictures, "
            "or look into the inputs tables in the work folder for why none was found"
        )
    return similarity, num_unusable


def _remarks_on_models(a: Side, b: Side, similarity: PairSimilarity, drift: Drift) -> Iterator[str]:
    if similarity.n < min(a.embedding_size, b.embedding_size):
        yield (
            f"{similarity.n} faces are fewer than an embedding has numbers: linear_cka is near 1 for any two networks "
            "then, so read linear_cka_debiased"
        )
    settings = (("recipe", a.recipe, b.recipe), ("flip", a.flip, b.flip), ("precision", a.precision, b.precision))
    if differing := [name for name, one, other in settings if one != other]:
        yield f"the two networks ran with different settings ({', '.join(differing)})"
    if not drift.layers:
        yield "the networks have no parameters of the same name and shape, so there is no drift"


def _parameters(model: ModelConfig) -> dict[str, NDArray[np.float32]]:
    """A network's parameters by name; they stay mapped to their file."""
    return {name: tensor.numpy() for name, tensor in load_network(model).network.state_dict().items()}
