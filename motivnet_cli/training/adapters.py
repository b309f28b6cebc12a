"""Low-rank adapters: beside a weight that stays, the product of two thin matrices learns.

Reference: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685. Why it is not a library:
docs/decisions/0021-adapters.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from motivnet_cli.model import SapiensEmbedder
    from motivnet_cli.training.config import AdapterConfig


class LoraLinear(nn.Linear):
    """The layer `base`, [..., I] -> [..., O], and s B A x beside it, with s = alpha / rank.

    It shares the parameters of `base` under their names, and adds `lora_a` [rank, I], drawn as in the paper's code, and
    `lora_b` [O, rank], which is 0: at first nothing changes.
    """

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__(base.in_features, base.out_features, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.scale = alpha / rank
        drawn = torch.empty(rank, base.in_features)
        nn.init.kaiming_uniform_(drawn, a=5**0.5, generator=generator)
        self.lora_a = nn.Parameter(drawn.to(base.weight))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        thin = self.scale * functional.linear(x, self.lora_a)  # [..., rank]
        return super().forward(x) + functional.linear(thin, self.lora_b)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer in place of the two, whose weight is changed where it is."""
        linear = nn.Linear(self.in_features, self.out_features, device="meta")
        self.weight.addmm_(self.lora_b, self.lora_a, alpha=self.scale)
        linear.weight, linear.bias = self.weight, self.bias
        return linear


def add_adapters(network: SapiensEmbedder, config: AdapterConfig, *, generator: torch.Generator) -> None:
    """Give the encoder's blocks adapters; what the network computes stays the same."""
    for block in network.encoder.blocks:
        for name in config.layers:
            base = block.get_submodule(name)
            assert isinstance(base, nn.Linear)
            adapted = LoraLinear(base, rank=config.rank, alpha=config.alpha, generator=generator)
            block.set_submodule(name, adapted)


def merge_adapters(network: SapiensEmbedder) -> None:
    """Fold all adapters into the weights beside them: the network has its plain layers and names again.

    A parameter that is mapped from a file is copied; the file stays as it is.
    """
    for name, module in list(network.named_modules()):
        if isinstance(module, LoraLinear):
            network.set_submodule(name, module.merged())


def adapter_parameters(network: SapiensEmbedder) -> list[nn.Parameter]:
    """The parameters of all adapters; none, where there are no adapters."""
    adapted = [module for module in network.modules() if isinstance(module, LoraLinear)]
    return [parameter for module in adapted for parameter in (module.lora_a, module.lora_b)]
