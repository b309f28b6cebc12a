"""Own classes from the embedding of another network: a small head that computes what scikit-learn's estimators do.

Knows no file and chooses no device. Heads compute in float32 whatever the precision of their network.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from motivnet_cli.model.expression_net import ExpressionNet
    from motivnet_cli.model.sapiens import SapiensEmbedder

NO_VOTE = float(torch.finfo(torch.float64).eps)
"""2.2e-16: the share of the votes that a class without any counts as, in its logarithm."""


class EmbeddingClassifier(nn.Module):
    """A network whose logits are a function of its embedding alone.

    Args:
        parent: Gives the embedding; its own logits are not used.
        head: Embeddings [B, D] -> logits [B, C], in float32.
        classes: One name for each logit.
        flip: The head learned from embeddings that are means over a face and its mirror image, so it is given such.
    """

    def __init__(
        self, parent: ExpressionNet | SapiensEmbedder, head: nn.Module, *, classes: tuple[str, ...], flip: bool
    ) -> None:
        super().__init__()
        self.parent = parent
        self.head = head
        self.classes = classes
        self.flip = flip
        self.embedding_size = parent.embedding_size
        self.input_height = parent.input_height
        self.input_width = parent.input_width

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB [B, 3, H, W] -> (logits [B, C], embedding [B, D]), both float32.

        Raises:
            ValueError: The pixels are not of the network's input size.
        """
        embedding = self.parent(pixels)[1].float()
        if self.flip:
            embedding = (embedding + self.parent(pixels.flip(-1))[1].float()) / 2
        return self.head(embedding), embedding


class LayeredHead(nn.Module):
    """Standardisation, and linear layers with ReLU between them: one is a logistic regression, more a perceptron.

    Args:
        widths: D, those of hidden layers, C.
    """

    mean: Tensor
    scale: Tensor
    temperature: Tensor

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(widths[0]))
        self.register_buffer("scale", torch.ones(widths[0]))
        self.layers = nn.ModuleList([nn.Linear(*pair) for pair in itertools.pairwise(widths)])
        self.register_buffer("temperature", torch.ones(1))

    def forward(self, embedding: Tensor) -> Tensor:
        """Embedding [B, D] -> logits [B, C]."""
        x = (embedding - self.mean) / self.scale
        for number, layer in enumerate(self.layers):
            x = layer(functional.relu(x) if number else x)
        return x / self.temperature


class NeighboursHead(nn.Module):
    """The shares of the classes among the labelled embeddings that are nearest by the angle.

    The logits are the logarithms of the shares, at least NO_VOTE. Where two are equally near as the last that votes,
    either may.

    Args:
        size: R labelled embeddings of D numbers.
        neighbours: How many vote, at most R.
    """

    references: Tensor
    labels: Tensor
    temperature: Tensor

    def __init__(self, size: tuple[int, int], *, neighbours: int, num_classes: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.num_classes = num_classes
        self.register_buffer("references", torch.zeros(size))  # [R, D], of length 1
        self.register_buffer("labels", torch.zeros(size[0]))  # [R], ids from 0
        self.register_buffer("temperature", torch.ones(1))

    def forward(self, embedding: Tensor) -> Tensor:
        """Embedding [B, D] -> logits [B, C]."""
        likeness = functional.normalize(embedding, dim=1) @ self.references.T  # [B, R]
        nearest = likeness.topk(self.neighbours, dim=1).indices  # [B, K]
        ids = torch.arange(self.num_classes, device=embedding.device)
        votes = (self.labels[nearest].unsqueeze(2) == ids).float().mean(1)  # [B, C]
        return votes.clamp(min=NO_VOTE).log() / self.temperature


def parent_of(network: nn.Module) -> nn.Module:
    """The network that looks at the pixels: of an `EmbeddingClassifier` the one within, else itself."""
    return network.parent if isinstance(network, EmbeddingClassifier) else network
