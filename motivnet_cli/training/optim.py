"""What a training changes of a network, by how much, and for which loss: the recipe of MotivNet's reference.

The reference (arXiv 2512.24231 and its code) trains with AdamW, the encoder at 1e-8 and the head at 1e-5, and takes
everything else as PyTorch has it. Class weights, label smoothing, soft labels, a frozen encoder and adapters are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from motivnet_cli.errors import ConfigError
from motivnet_cli.training.adapters import adapter_parameters, add_adapters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motivnet_cli.model import MotivNet
    from motivnet_cli.training.config import OptimConfig


def prepare(network: MotivNet, config: OptimConfig, *, generator: torch.Generator) -> None:
    """Make a network ready to train: adapters, drawn by `generator`, dropout, the parameters that train, train mode.

    Networks are loaded in eval mode, and Lightning trains them in the mode that they have: without dropout.
    """
    if config.adapters:
        add_adapters(network, config.adapters, generator=generator)
    network.head.dropout.p = config.dropout
    set_trainable(network, freeze_encoder=config.freeze_encoder)
    network.train()


def set_trainable(network: MotivNet, *, freeze_encoder: bool) -> None:
    """Set `requires_grad` of every parameter.

    The head trains but for its queries, which the reference never trains. Of an encoder with adapters they alone train;
    of another all parameters, patches and position table too, or none. An encoder in which nothing trains keeps nothing
    for the backward pass.
    """
    adapters = adapter_parameters(network)
    network.encoder.requires_grad_(not freeze_encoder and not adapters)
    for parameter in adapters:
        parameter.requires_grad_()
    network.head.requires_grad_()
    network.head.queries.requires_grad_(False)


def make_optimizer(network: MotivNet, config: OptimConfig) -> AdamW:
    """AdamW over what trains, in groups named `encoder` or `adapters`, and `head`.

    As in the reference weight decay is for all parameters of a group, biases and norms too.
    """
    encoder_lr = config.adapters.learning_rate if config.adapters else config.encoder_lr
    parts = [
        ("adapters" if config.adapters else "encoder", network.encoder, encoder_lr),
        ("head", network.head, config.head_lr),
    ]
    groups = [
        {"name": name, "params": [each for each in part.parameters() if each.requires_grad], "lr": rate}
        for name, part, rate in parts
    ]
    groups = [group for group in groups if group["params"]]
    return AdamW(groups, betas=config.betas, weight_decay=config.weight_decay)


def make_schedule(optimizer: AdamW, config: OptimConfig) -> CosineAnnealingWarmRestarts:
    """To be stepped before every epoch, with its number from 0."""
    return CosineAnnealingWarmRestarts(optimizer, T_0=config.restart_epochs)


def classification_loss(
    logits: Tensor, targets: Tensor, *, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """The mean over the batch of - sum over c of w_c t_c log p_c: cross-entropy in float32.

    t is the target, of which a part is spread evenly over all classes by label smoothing; p is the softmax of the
    logits, and w_c is 1 without class weights. Where weights meet soft labels, each class counts by its own weight. The
    sum is divided by B and not by the weights of the batch, as torch divides where targets are numbers of classes: so
    an example counts the same whatever stands beside it, and batches that are accumulated or split between devices give
    the gradient of the whole.

    Args:
        logits: [B, C].
        targets: [B, C], each row a distribution over the classes.
        class_weights: [C].
    """
    return functional.cross_entropy(logits.float(), targets, weight=class_weights, label_smoothing=label_smoothing)


def balanced_weights(counts: Mapping[str, float]) -> Tensor:
    """n / (C n_c) for each of C classes with n_c of n examples; their mean over the examples is 1. -> float32 [C]

    Args:
        counts: Class -> examples; of soft labels the sums of their parts.

    Raises:
        ConfigError: A class has no example.
    """
    if missing := [name for name, count in counts.items() if count <= 0]:
        raise ConfigError(
            f"balanced class weights need an example of every class, and there is none of {', '.join(missing)}: leave "
            "the class or the weights out"
        )
    total = sum(counts.values())
    return torch.tensor([total / (len(counts) * count) for count in counts.values()])
