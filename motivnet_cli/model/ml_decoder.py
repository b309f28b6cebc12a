"""The ML-Decoder head: a fixed query for each class attends to all tokens, and a vector for each class gives its logit.

Knows nothing about images, files or the meaning of its classes. Reference: Ridnik et al., "ML-Decoder: Scalable and
Versatile Classification Head", arXiv 2111.12933, with as many queries as classes. What it drops in training, and how it
is drawn, is as in MotivNet's reference.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_DROPOUT = 0.1
"""The rate of the reference, at five places of every layer."""


class MLDecoderHead(nn.Module):
    """Turns the tokens of an image into one logit for each class.

    Queries and class weights are NaN until they are loaded, or drawn by `reset_parameters`. In train mode values are
    dropped at random, at the rate `dropout.p`.

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
        self.dropout = nn.Dropout(_DROPOUT)
        """One for all places, so that its rate is set once."""
        self.embed = nn.Linear(features, width)
        # The reference draws the queries once and never trains them, but keeps them in its checkpoint.
        self.queries = nn.Parameter(torch.full((num_classes, width), torch.nan), requires_grad=False)
        layers = [_Layer(width=width, heads=heads, ffn=ffn, dropout=self.dropout) for _ in range(depth)]
        self.layers = nn.ModuleList(layers)
        self.class_weight = nn.Parameter(torch.full((num_classes, width, 1), torch.nan))
        self.class_bias = nn.Parameter(torch.zeros(num_classes))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw a new head as the reference does, whose layers start equal, as copies of one.

        Queries are normal with variance 1, class weights by Glorot's normal rule with W inputs and C outputs. All else
        is drawn as by torch's own modules.
        """
        _reset_linear(self.embed, generator)
        self.queries.normal_(generator=generator)
        first, *others = (cast("_Layer", layer) for layer in self.layers)
        first.reset_parameters(generator)
        for layer in others:
            layer.load_state_dict(first.state_dict())
        nn.init.xavier_normal_(self.class_weight, generator=generator)
        self.class_bias.zero_()

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] -> logits [B, C]."""
        memory = functional.relu(self.embed(tokens))  # [B, N, W]
        x = self.queries.expand(len(tokens), -1, -1)  # [B, C, W]
        for layer in self.layers:
            x = layer(x, memory)
        return torch.einsum("bcw,cwo->bc", x, self.class_weight) + self.class_bias


class _Layer(nn.Module):
    """One post-norm decoder layer without self-attention among the queries."""

    def __init__(self, *, width: int, heads: int, ffn: int, dropout: nn.Dropout) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm1 = nn.LayerNorm(width)
        self.attention = _CrossAttention(width=width, heads=heads, dropout=dropout)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, ffn)
        self.down = nn.Linear(ffn, width)
        self.norm3 = nn.LayerNorm(width)

    def reset_parameters(self, generator: torch.Generator) -> None:
        for norm in (self.norm1, self.norm2, self.norm3):
            norm.reset_parameters()
        self.attention.reset_parameters(generator)
        _reset_linear(self.up, generator)
        _reset_linear(self.down, generator)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        # Doubled on purpose: where a decoder has self-attention, the reference adds dropout(x) to x. Without dropout
        # the norm cancels the factor except for its epsilon, so it matters only for small queries.
        x = self.norm1(x + self.dropout(x))
        x = self.norm2(x + self.dropout(self.attention(x, memory)))
        x = self.norm3(x + self.dropout(self.down(self.dropout(functional.relu(self.up(x))))))
        return x


class _CrossAttention(nn.Module):
    """Multi-head attention of queries to tokens, which serve as keys and as values."""

    def __init__(self, *, width: int, heads: int, dropout: nn.Dropout) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """As torch.nn.MultiheadAttention, which the reference uses: one matrix of W inputs and 3 W outputs."""
        nn.init.xavier_uniform_(self.qkv.weight, generator=generator)
        nn.init.zeros_(self.qkv.bias)
        _reset_linear(self.out, generator)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        width = x.shape[2]
        # One stored matrix: its first third projects x to queries, the rest projects memory to keys and values.
        weight, bias = self.qkv.weight, self.qkv.bias
        q = functional.linear(x, weight[:width], bias[:width])  # [B, C, W]
        q = torch.unflatten(q, 2, (self.heads, -1)).transpose(1, 2)  # [B, heads, C, W/heads]
        kv = functional.linear(memory, weight[width:], bias[width:])  # [B, N, 2W]
        k, v = torch.unflatten(kv, 2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, heads, N, W/heads]
        rate = self.dropout.p if self.training else 0.0  # of the softmax's weights
        mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=rate)  # [B, heads, C, W/heads]
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


def _reset_linear(linear: nn.Linear, generator: torch.Generator) -> None:
    """As torch.nn.Linear, whose own method takes no generator: uniform within 1 / sqrt(inputs)."""
    bound = linear.in_features**-0.5
    nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
    nn.init.uniform_(linear.bias, -bound, bound, generator=generator)
