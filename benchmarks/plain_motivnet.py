"""MotivNet as the spec words it and nothing more: the yardstick for what the package's network costs and answers.

Attention is torch's own function, modules are torch's defaults, numbers are fp32. It takes the published
checkpoint's tensors under their published names. (With attention written out as two products and a softmax a
picture takes 1.9 times as long.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDTH, DEPTH, HEADS, MLP = 1536, 40, 24, 6144
TOKENS, GRID = 3072, (64, 48)
DECODER_WIDTH, DECODER_DEPTH, DECODER_HEADS, DECODER_FFN, CLASSES = 1152, 2, 8, 2048, 7
MEAN, STD = (123.5, 116.5, 103.5), (58.5, 57.0, 57.5)


class PlainMotivNet(nn.Module):
    """uint8 RGB [B, 3, 1024, 768] -> probabilities [B, 7]."""

    def __init__(self) -> None:
        super().__init__()
        self.pose_encoder = _Encoder()
        self.decoder = nn.ModuleDict({"decoder": _Decoder()})

    def forward(self, pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        features = self.pose_encoder((pixels.float() - mean) / std)
        logits: Tensor = self.decoder["decoder"](features)
        return logits.softmax(-1)


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, WIDTH, 16, stride=16, padding=2)
        self.pos_embed = nn.Parameter(torch.zeros(1, TOKENS, WIDTH))
        self.layers = nn.ModuleList(_Layer() for _ in range(DEPTH))
        self.ln1 = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        x = self.projection(images).flatten(2).transpose(1, 2) + self.pos_embed
        for layer in self.layers:
            x = layer(x)
        normed: Tensor = self.ln1(x)
        return normed


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(WIDTH, 3 * WIDTH), "proj": nn.Linear(WIDTH, WIDTH)})
        self.ln2 = nn.LayerNorm(WIDTH, eps=1e-6)
        hidden = nn.Sequential(nn.Linear(WIDTH, MLP), nn.GELU())
        self.ffn = nn.ModuleDict({"layers": nn.Sequential(hidden, nn.Linear(MLP, WIDTH))})

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = self.attn["qkv"](self.ln1(x)).reshape(batch, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(*qkv)
        x = x + self.attn["proj"](mixed.transpose(1, 2).reshape(batch, tokens, WIDTH))
        out: Tensor = x + self.ffn["layers"](self.ln2(x))
        return out


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_standart = nn.Linear(WIDTH, DECODER_WIDTH)
        self.query_embed = nn.Embedding(CLASSES, DECODER_WIDTH)
        self.layers = nn.ModuleList(_DecoderLayer() for _ in range(DECODER_DEPTH))
        self.duplicate_pooling = nn.Parameter(torch.zeros(CLASSES, DECODER_WIDTH, 1))
        self.duplicate_pooling_bias = nn.Parameter(torch.zeros(CLASSES))

    def forward(self, features: Tensor) -> Tensor:
        memory = self.embed_standart(features).relu()
        x = self.query_embed.weight.expand(len(features), -1, -1)
        for layer in self.layers:
            x = layer(x, memory)
        return (x * self.duplicate_pooling.squeeze(-1)).sum(-1) + self.duplicate_pooling_bias


class _DecoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(DECODER_WIDTH) for _ in range(3))
        self.self_attn = nn.MultiheadAttention(DECODER_WIDTH, DECODER_HEADS, batch_first=True)
        self.linear1 = nn.Linear(DECODER_WIDTH, DECODER_FFN)
        self.linear2 = nn.Linear(DECODER_FFN, DECODER_WIDTH)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        x = self.norm1(x + x)
        x = self.norm2(x + self.self_attn(x, memory, memory)[0])
        out: Tensor = self.norm3(x + self.linear2(self.linear1(x).relu()))
        return out


def plain_network(tensors: Mapping[str, Tensor], *, assign: bool) -> PlainMotivNet:
    """The network with a published checkpoint's tensors, shared with it if `assign`, else copied into new modules."""
    if not assign:
        network = PlainMotivNet()
        network.load_state_dict(tensors)
        return network.eval()
    with torch.device("meta"):
        network = PlainMotivNet()
    network.load_state_dict(tensors, assign=True)
    return network.eval()
