"""A small network learns what a large one said: its start, its loss, and how far it agrees with its teacher.

Knows no file and no trainer. The loss is that of Hinton, Vinyals and Dean, arXiv 1503.02531.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody reads
from torch import Tensor, nn

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.intervals import Units
from motivnet_cli.evaluation.metrics import score
from motivnet_cli.evaluation.soft import score_votes
from motivnet_cli.model import ExpressionNet
from motivnet_cli.records import in_column_order
from motivnet_cli.training.split import draw_groups
from motivnet_cli.weights.networks import load_expression_net
from motivnet_cli.weights.training_record import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch.utils.data import Dataset

    from motivnet_cli.training.result import Judged

    Floats = NDArray[np.float32]
    Ints = NDArray[np.int64]

VAL_SHARE = HELD_OUT_SHARE = 0.1
"""Of the faces: the best epoch is chosen by the first, agreement is measured on the second, and the rest is learned."""
MIN_INPUTS = 10
_ANSWERED_AT_ONCE = 256


class Sides(NamedTuple):
    """The faces of each side, by index, in their order. All faces of an input are on one side."""

    train: Ints
    val: Ints
    held_out: Ints


def split_by_input(names: Sequence[str], *, seed: int) -> Sides:
    """Deal inputs to the three sides until each has its share of the faces, or just more.

    Args:
        names: [N], of the input of each face.

    Raises:
        ConfigError: There are fewer than MIN_INPUTS inputs.
    """
    if (num_inputs := len(set(names))) < MIN_INPUTS:
        raise ConfigError(
            f"the faces are of {num_inputs} inputs, and a student needs {MIN_INPUTS} at least: a picture or video is "
            "learned from or held out as a whole. Annotate more of them"
        )
    rest, held_out = draw_groups(names, val_share=HELD_OUT_SHARE, seed=seed)
    train, val = draw_groups([names[i] for i in rest], val_share=VAL_SHARE / (1 - HELD_OUT_SHARE), seed=seed)
    return Sides(rest[train], rest[val], held_out)


# ---- the network ------------------------------------------------------------------------------------------


class Start(NamedTuple):
    """A network that is about to learn."""

    network: ExpressionNet
    """float32, in train mode, its parameters with gradients; on the CPU."""
    is_embedded: bool
    """It starts from the weights of the embedded model, at least in part."""
    how: str
    """What was taken and what drawn, in words."""


def start(classes: Sequence[str], *, from_scratch: bool, seed: int) -> Start:
    """The student before it learns.

    With the classes of the embedded model, in whatever order, it starts as that model, in that one's order of classes.
    With others its last layer is new, as PyTorch initialises it. From scratch all layers are (`_draw`).
    """
    embedded = load_expression_net()
    if not from_scratch and set(classes) == set(embedded.classes):
        return Start(_trainable(embedded), True, "all layers of expression-net")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ExpressionNet(classes=in_column_order(classes))
        if from_scratch:
            _draw(network)
            return Start(_trainable(network), False, f"new weights, seed {seed}")
    network.blocks.load_state_dict(embedded.blocks.state_dict())
    return Start(_trainable(network), True, f"the convolutions of expression-net, and a new last layer, seed {seed}")


def _draw(network: ExpressionNet) -> None:
    """New convolutions by He's rule (arXiv 1502.01852), biases 0.

    A depthwise convolution has no ReLU behind it, so its gain is 1. The last three of a block, which add to the first,
    have half the weights: the network has no norms, and outputs of all blocks are then about 1, as in the embedded one.
    """
    for name, module in network.blocks.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if module.groups == 1 else "linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if name.endswith("pointwise") and ".conv0." not in name:
                with torch.no_grad():
                    module.weight /= 2


def _trainable(network: ExpressionNet) -> ExpressionNet:
    return network.train().requires_grad_(True).to(memory_format=torch.channels_last)


# ---- the loss ---------------------------------------------------------------------------------------------


def soft_loss(logits: Tensor, targets: Tensor, *, temperature: float) -> Tensor:
    """Divergence of the student from its teacher at a temperature T, times T^2: the mean over the batch, in nats.

    It is the cross-entropy of the paper less the teacher's entropy, on which no gradient depends: 0 is then the least.
    The teacher's logits are known up to a constant, as the logarithms of its probabilities: softmax(log p / T) is
    p^(1/T) normalised, and is softmax(z / T) where p is softmax(z). The factor keeps gradients of one size over T.

    Args:
        logits: [B, C], the student's.
        targets: [B, C], the teacher's probabilities; rows sum to 1, zeros are allowed.
    """
    return divergence(logits / temperature, (targets.log() / temperature).softmax(dim=1)) * temperature**2


def divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the student from the teacher, in nats: the mean over the batch.

    It is 0 where they say the same; at a temperature of 1 the best epoch is chosen by it.

    Args:
        logits: [B, C], the student's.
        targets: [B, C], the teacher's probabilities.
    """
    return F.kl_div(logits.log_softmax(dim=1), targets, reduction="batchmean")


# ---- agreement --------------------------------------------------------------------------------------------


def agreement(judged: Judged, teacher: Floats, *, always: str) -> dict[str, Figure]:
    """How far a student says what its teacher said, with intervals over inputs (docs/training.md).

    Args:
        judged: The student's answers for N faces, of which the labels are the teacher's.
        teacher: The teacher's probabilities, [N, C].
        always: The class of a student that always says the same.

    Returns:
        `agreement`, the share of the faces that both give the same class; `kl`, the divergence of the student from the
        teacher in nats, its mean over the faces; `always`, the agreement of that other student.
    """
    units = Units(judged.groups, len(judged.labels))
    said, probabilities = judged.probabilities.argmax(axis=1), judged.probabilities.astype(np.float64)
    usual = np.full(len(said), judged.classes.index(always))
    figures = {
        "agreement": judged.scores().all["accuracy"],
        "kl": score_votes(teacher.astype(np.float64), judged.labels, said, probabilities, units).scored["kl"],
        "always": score(judged.labels, usual, None, classes=judged.classes, groups=judged.groups).all["accuracy"],
    }
    return {name: Figure(found.value, found.low, found.high) for name, found in figures.items() if found is not None}


@torch.inference_mode()
def answers(network: nn.Module, faces: Dataset[Tensor], num_faces: int) -> Floats:
    """Probabilities [N, C] of a network on its device: means over each face and its mirror image, as `annotate` does.

    Args:
        faces: uint8 RGB [3, H, W] by index.
    """
    device = next(network.parameters()).device
    network.eval()
    parts = []
    for first in range(0, num_faces, _ANSWERED_AT_ONCE):
        indices = range(first, min(first + _ANSWERED_AT_ONCE, num_faces))
        pixels = torch.stack([faces[i] for i in indices]).to(device)  # [B, 3, H, W]
        views = [network(view)[0].float().softmax(dim=1) for view in (pixels, pixels.flip(-1))]
        parts.append(((views[0] + views[1]) / 2).cpu().numpy())
    return np.concatenate(parts)
