"""What a training writes down, so that it goes on after a kill: how far it is, and the tensors that it changes.

Files of the weights module, written one tensor at a time: Lightning's own checkpoints are pickles that are built in
memory, with an encoder of gigabytes that never changes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from motivnet_cli.durable import durably
from motivnet_cli.errors import OutputConflictError, WeightsError
from motivnet_cli.weights.checkpoint import read_checkpoint, write_safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

LAST = "checkpoints/last.safetensors"
BEST = "checkpoints/best.safetensors"
"""Within the folder of a training."""
_STATE_KEY = "training_state"

EpochFigures = dict[str, "float | None"]
"""An epoch of the history: `epoch` (from 1), `train_loss`, `val_loss`, `val_accuracy`, `val_uar`, `val_auroc`, and the
learning rate `lr_<group>` of each group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """How far a training is."""

    epoch: int = 0
    """The one that is trained, from 0."""
    step: int = 0
    """Of it that are done; where that is all, it is to be validated."""
    loss_sum: float = 0.0
    """Of the losses of its examples so far."""
    examples: int = 0
    """That it is of."""
    learning_rates: dict[str, float] = field(default_factory=dict)
    """Of the epoch: `lr_<group>`."""
    history: tuple[EpochFigures, ...] = ()
    """The epochs that are over."""


def save(path: Path, tensors: Mapping[str, Tensor], state: TrainingState) -> None:
    """Write a checkpoint, whole or not at all: until it is, the one before stays.

    Raises:
        OSError: It cannot be written, or the disk is full.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    metadata = {_STATE_KEY: json.dumps(asdict(state))}
    path.parent.mkdir(exist_ok=True)
    with durably(path) as temporary:
        write_safetensors(temporary, (tensor.cpu() for tensor in tensors.values()), shapes=shapes, metadata=metadata)


def load(path: Path) -> tuple[dict[str, Tensor], TrainingState] | None:
    """The tensors, on the CPU, and how far it is; None where there is no checkpoint.

    Raises:
        OutputConflictError: It is damaged.
    """
    if not path.exists():
        return None
    try:
        checkpoint = read_checkpoint(path)
        values = json.loads(checkpoint.metadata[_STATE_KEY])
        state = TrainingState(**{**values, "history": tuple(values["history"])})
    except (WeightsError, KeyError, ValueError, TypeError) as error:
        raise OutputConflictError(
            f"the checkpoint {str(path)!r} is damaged ({error}): start anew with --overwrite, or choose another --out"
        ) from error
    return checkpoint.tensors, state


def kept_tensors(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that a checkpoint holds: all but those of an encoder that stay as they were loaded."""
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if parameter.requires_grad or not name.startswith("encoder.")
    }
