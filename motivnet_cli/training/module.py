"""A network, its losses and its optimizer as Lightning takes them. Knows no file, and chooses no device.

Imports Lightning, which the plain installation lacks: to be imported after `training.train.require_lightning`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    from motivnet_cli.training.order import Batch, Portion

    Loss = Callable[[Tensor, Tensor], Tensor]
    """Logits [B, C], target distributions [B, C] -> the mean over the batch."""


class Schedule(Protocol):
    """Of learning rates."""

    def step(self, epoch: int) -> None:
        """Set those of an epoch, from 0."""


def _as_they_are(pixels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return pixels, targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a network is trained for."""

    loss: Loss
    """Of training steps."""
    held_out_loss: Loss
    """Of validation: the best epoch has the least."""
    optimizer: Callable[[nn.Module], Optimizer]
    """Over the parameters that train; each group has a `name`."""
    schedule: Callable[[Optimizer], Schedule]
    mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = _as_they_are
    """What is done to a batch of pixels and targets, with torch's own generator, before the network sees it."""


@dataclass(slots=True)
class StepTally:
    """What this process has seen of a step."""

    loss_sum: float = 0.0
    counted: int = 0
    """Examples that the sum is of."""
    examples: list[int] = field(default_factory=list)
    failing: list[int] = field(default_factory=list)
    """Those in whose batches the loss was no finite number."""

    def add(self, portion: Portion, loss: float) -> None:
        """Count a batch with this mean loss."""
        self.loss_sum += loss * portion.counted
        self.counted += portion.counted
        self.examples += portion.indices
        if not math.isfinite(loss):
            self.failing += portion.indices


class TrainingModule(LightningModule):
    """Computes losses; what is done with them is the business of `training.fit`.

    Args:
        network: Takes uint8 RGB [B, 3, H, W] and returns (logits [B, C], embedding).
    """

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.tally = StepTally()
        self._held_out: list[Tensor] = []

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The loss as it is differentiated: with the share that the batch has in its step."""
        torch.manual_seed(batch.portion.seed)
        pixels, targets = self.objective.mix(batch.pixels, batch.targets)
        logits, _embedding = self.network(pixels)
        loss = self.objective.loss(logits.float(), targets)
        self.tally.add(batch.portion, loss.item())
        return loss * batch.portion.share

    def on_validation_epoch_start(self) -> None:
        self._held_out = []

    def validation_step(self, batch: Batch, _: int) -> None:
        logits, _embedding = self.network(batch.pixels)
        self._held_out.append(logits.float())

    def held_out_logits(self, num_examples: int) -> Tensor:
        """After a validation: float32 [N, C] on the CPU, of all processes, in the order of the examples."""
        gathered = self.all_gather(torch.cat(self._held_out))  # [P, N / P, C], or [N, C] of a single process
        assert isinstance(gathered, Tensor)
        self._held_out = []
        if gathered.ndim == 3:
            gathered = gathered.transpose(0, 1).flatten(0, 1)
        return gathered[:num_examples].cpu()

    def configure_optimizers(self) -> Optimizer:
        return self.objective.optimizer(self.network)
