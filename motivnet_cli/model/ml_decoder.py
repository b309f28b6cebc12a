"""The ML-Decoder head: a fixed query for each class attends to all tokens, and a vector for each class gives its logit.

Knows nothing about images, files or the meaning of its classes. Reference: Ridnik et al., "ML-Decoder: Scalable and
Versatile Classification Head", arXiv 2111.12933, with as many queries as classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_SQRT3 = 3**0.5
"""Half the length of the interval on which a uniform draw has variance 1."""


class MLDecoderHead(nn.Module):
    """Turns the tokens of an image into one logit for each class.

    Args:
        features: Width of an incoming token (D).
        width: Width of a query and of an embedded token (W).
        depth: Decoder layers.
        heads: Attention heads of a layer.
        ffn: Hidden width of a layer's feed-forward part.
        num_classes: Queries and logits (C).
    """

    def __init__(self, *, features: int, width: int, depth: int, heads: int, ffn: int, num_classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        # Uniform draws with the variances of the reference. On the meta device, where networks are built before they
        # are loaded, a normal draw imports torch._dynamo, and loading takes 1.6 seconds in place of 0.05.
        # The reference draws the queries once and never trains them, but keeps them in its checkpoint.
        self.queries = nn.Parameter(torch.empty(num_classes, width).uniform_(-_SQRT3, _SQRT3), requires_grad=False)
        self.layers = nn.ModuleList([_Layer(width=width, heads=heads, ffn=ffn) for _ in range(depth)])
        bound = _SQRT3 * width**-0.5
        self.class_weight = nn.Parameter(torch.empty(num_classes, width, 1).uniform_(-bound, bound))
        self.class_bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] -> logits [B, C]."""
        memory = functional.relu(self.embed(tokens))  # [B, N, W]
        x = self.queries.expand(len(tokens), -1, -1)  # [B, C, W]
        for layer in self.layers:
            x = layer(x, memory)
        return torch.einsum("bcw,cwo->bc", x, self.class_weight) + self.class_bias


class _Layer(nn.Module):
    """One post-norm decoder layer without self-attention among the queries."""

    def __init__(self, *, width: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = _CrossAttention(width=width, heads=heads)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, ffn)
        self.down = nn.Linear(ffn, width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        # Doubled on purpose: where a decoder has self-attention, the reference adds dropout(x) to x. The norm cancels
        # the factor except for its epsilon, so it matters only for small queries.
        x = self.norm1(x + x)
        x = self.norm2(x + self.attention(x, memory))
        x = self.norm3(x + self.down(functional.relu(self.up(x))))
        return x


class _CrossAttention(nn.Module):
    """Multi-head attention of queries to tokens, which serve as keys and as values."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        width = x.shape[2]
        # One stored matrix: its first third projects x to queries, the rest projects memory to keys and values.
        weight, bias = self.qkv.weight, self.qkv.bias
        q = functional.linear(x, weight[:width], bias[:width])  # [B, C, W]
        q = torch.unflatten(q, 2, (self.heads, -1)).transpose(1, 2)  # [B, heads, C, W/heads]
        kv = functional.linear(memory, weight[width:], bias[width:])  # [B, N, 2W]
        k, v = torch.unflatten(kv, 2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, heads, N, W/heads]
        mixed = functional.scaled_dot_product_attention(q, k, v)  # [B, heads, C, W/heads]
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out
