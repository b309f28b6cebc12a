"""The Sapiens encoder: a plain vision transformer over 16-pixel patches, without a class token.

Knows nothing about emotions or files, and chooses no device. The learned position table fixes the token grid, so
another input size needs another table. The reference defines no embedding; here it is the mean of the features over
the image area. Reference: Khirodkar et al., "Sapiens: Foundation for Human Vision Models", 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from motivnet_cli.model.attention import attention_in_blocks

_NORM_EPS = 1e-6
_MEAN_RGB = (123.5, 116.5, 103.5)
_STD_RGB = (58.5, 57.0, 57.5)
"""Of RGB 0 to 255, as in the Sapiens reference."""
_MLP_ROWS = 1024
"""Tokens at once in an MLP on a CPU: its hidden values then stay below the 32 MB above which the C library has the
system map and clear new memory each time. An MLP takes 3 to 7 % less time than with all 3,072 tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SapiensSizes:
    """Every size of the encoder; the defaults are Sapiens-1B's (1,139,163,648 parameters)."""

    width: int = 1536
    """Of a token (D)."""
    depth: int = 40
    heads: int = 24
    mlp: int = 6144
    """Hidden width of a block's MLP."""
    grid_height: int = 64
    """Token rows (h): the input is grid_height * patch pixels high."""
    grid_width: int = 48
    patch: int = 16
    """Side and stride of a patch, in pixels."""
    padding: int = 2
    """Zero pixels around the image. With 2, token row r covers pixel rows 16 r - 2 to 16 r + 13."""


class SapiensEmbedder(nn.Module):
    """The encoder alone: an embedding for each face, and no logits.

    A subclass adds a head by setting `classes` and overriding `forward_head`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, sizes: SapiensSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.classes: tuple[str, ...] = ()
        """One name for each logit."""
        self.embedding_size = sizes.width
        self.input_height = sizes.grid_height * sizes.patch
        self.input_width = sizes.grid_width * sizes.patch
        self.image_rows = (0, sizes.grid_height)
        """Token rows [top, bottom) that show the face, without the bands that an input recipe may add above and below.
        The embedding is the mean over these rows."""
        self.position_change = ""
        """How the position table of the weights was made to fit the input, in words; empty where it is as trained."""
        self.encoder = SapiensEncoder(sizes)
        # Explicitly on the CPU, so that they hold values even when the module is built on the meta device.
        mean, std = (torch.tensor(rgb, device="cpu").view(1, 3, 1, 1) for rgb in (_MEAN_RGB, _STD_RGB))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB [B, 3, H, W] -> (logits [B, C], embedding [B, D]); without a head, C is 0.

        Raises:
            ValueError: The pixels are not of the network's input size.
        """
        self._check_size(pixels)
        features = self.forward_features((pixels - self.mean) / self.std)
        top, bottom = self.image_rows
        return self.forward_head(features), features[:, :, top:bottom].float().mean((2, 3))

    def forward_features(self, images: Tensor) -> Tensor:
        """Normalised float [B, 3, H, W] -> features [B, D, h, w].

        Raises:
            ValueError: The images are not of the network's input size.
        """
        self._check_size(images)
        features: Tensor = self.encoder(images.to(self.encoder.patch_embed.weight.dtype))
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        """Features [B, D, h, w] -> logits [B, C]."""
        return features.new_empty(len(features), 0)

    def _check_size(self, images: Tensor) -> None:
        # Nothing else would fail: exchanged height and width make as many tokens, and the normalisation broadcasts one
        # channel to three.
        if images.shape[1:] != (3, self.input_height, self.input_width):
            expected = f"[B, 3, {self.input_height}, {self.input_width}]"
            raise ValueError(f"the network takes {expected} (B, RGB, H, W), got {list(images.shape)}")


class SapiensEncoder(nn.Module):
    """Turns a normalised image into a feature vector for each patch."""

    def __init__(self, sizes: SapiensSizes) -> None:
        super().__init__()
        width, self.grid = sizes.width, (sizes.grid_height, sizes.grid_width)
        self.patch_embed = nn.Conv2d(3, width, sizes.patch, stride=sizes.patch, padding=sizes.padding)
        self.position = nn.Parameter(torch.zeros(1, sizes.grid_height * sizes.grid_width, width))
        self.blocks = nn.ModuleList([_Block(width=width, heads=sizes.heads, mlp=sizes.mlp) for _ in range(sizes.depth)])
        self.norm = nn.LayerNorm(width, eps=_NORM_EPS)
        self.checkpoint_blocks = False
        """Keep the tokens before each block, and compute the rest anew in the backward pass: memory for time."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float [B, 3, 16 h, 16 w] -> features [B, D, h, w]."""
        x: Tensor = self.patch_embed(images)  # [B, D, h, w]
        x = x.flatten(2).transpose(1, 2) + self.position  # [B, hw, D]
        for block in self.blocks:
            if self.checkpoint_blocks:
                x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)  # nothing in it is random
            else:
                x = block(x)
        x = self.norm(x)
        return torch.unflatten(x.transpose(1, 2), 2, self.grid)


class _Block(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, *, width: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.attention = SelfAttention(width=width, heads=heads)
        self.norm2 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.mlp = _Mlp(width=width, hidden=mlp)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x


class SelfAttention(nn.Module):
    """Multi-head self-attention with one matrix for queries, keys and values, in that order."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_blocks = False
        """Computed by `attention_in_blocks` in place of torch's own kernel, where no gradient is asked for."""
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv: Tensor = self.qkv(x)  # [B, N, 3D]
        q, k, v = torch.unflatten(qkv, 2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, heads, N, D/heads]
        in_blocks = self.in_blocks and not qkv.requires_grad
        attend = attention_in_blocks if in_blocks else functional.scaled_dot_product_attention
        mixed = attend(q, k, v)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class _Mlp(nn.Module):
    def __init__(self, *, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            return torch.cat([self._forward(rows) for rows in torch.split(x, _MLP_ROWS, 1)], 1)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(functional.gelu(self.up(x)))
        return out
