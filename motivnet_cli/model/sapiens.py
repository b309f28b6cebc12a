"""The Sapiens encoder: a plain vision transformer over 16-pixel patches, the pose variant (no class token).

It knows nothing of emotions, files or normalisation. The learned position table fixes the token grid:
another input size needs another table.
Reference: Khirodkar et al., "Sapiens: Foundation for Human Vision Models", 2024.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_NORM_EPS = 1e-6


class SapiensEncoder(nn.Module):
    """Turns a normalised image into one feature vector for each patch.

    Args:
        width: Numbers in a token (D).
        mlp: Hidden width of a block's MLP.
        grid_height: Token rows (h).
        grid_width: Token columns (w).
        patch: Side and stride of a patch, in pixels.
        padding: Zero pixels around the image. With 2, token row r sees pixel rows 16 r - 2 to 16 r + 13.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        heads: int,
        mlp: int,
        grid_height: int,
        grid_width: int,
        patch: int,
        padding: int,
    ) -> None:
        super().__init__()
        self.grid = (grid_height, grid_width)
        self.patch_embed = nn.Conv2d(3, width, patch, stride=patch, padding=padding)
        self.position = nn.Parameter(torch.zeros(1, grid_height * grid_width, width))
        self.blocks = nn.ModuleList([_Block(width=width, heads=heads, mlp=mlp) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=_NORM_EPS)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised float [B, 3, 16 h, 16 w] -> features [B, D, h, w]."""
        x: Tensor = self.patch_embed(images)  # B, D, h, w
        x = x.flatten(2).transpose(1, 2) + self.position  # B, hw, D
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return torch.unflatten(x.transpose(1, 2), 2, self.grid)


class _Block(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, *, width: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.attention = _SelfAttention(width=width, heads=heads)
        self.norm2 = nn.LayerNorm(width, eps=_NORM_EPS)
        self.mlp = _Mlp(width=width, hidden=mlp)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x


class _SelfAttention(nn.Module):
    """Multi-head self-attention with one matrix for queries, keys and values, in this order."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv: Tensor = self.qkv(x)  # B, N, 3D
        q, k, v = torch.unflatten(qkv, 2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each B, heads, N, D/heads
        mixed = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class _Mlp(nn.Module):
    def __init__(self, *, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(functional.gelu(self.up(x)))
        return out
