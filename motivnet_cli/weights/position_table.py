"""The position table of a Sapiens checkpoint: which grid of tokens it is for, and how it becomes that of the network.

The encoders were pretrained on square pictures with a class token, and take pictures of 4:3 without one. As in the
Sapiens reference, the class token's row is then dropped, and the others are resized bicubically. (Its loader drops the
first row of every table of an odd number of rows.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from motivnet_cli.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

_GRID_RATIO = (4, 3)
"""Rows to columns of the token grid, where the metadata does not give the input size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionTable:
    """What a file's table is for, and what the network's is for."""

    grid: tuple[int, int]
    """Rows and columns of tokens of the network (h, w)."""
    file_grid: tuple[int, int]
    """Rows and columns of tokens that the file's table is for."""
    has_class_token: bool
    """Its first row belongs to a class token, which the network does not have."""

    @property
    def num_rows(self) -> int:
        """Of the file's table."""
        return math.prod(self.file_grid) + self.has_class_token

    @property
    def change(self) -> str:
        """What `fit` does to it, in words; empty where it takes the table as it is."""
        done = []
        if self.file_grid != self.grid:
            sizes = " to ".join(f"{height} x {width}" for height, width in (self.file_grid, self.grid))
            done.append(f"resized from {sizes} tokens, bicubic")
        if self.has_class_token:
            done.append("class token dropped")
        return ", ".join(done)

    def fit(self, table: Tensor) -> Tensor:
        """The file's table [1, num_rows, D] as that of the network, float32 [1, h w, D]."""
        rows = table.float()[:, int(self.has_class_token) :]
        if self.file_grid == self.grid:
            return rows
        maps = torch.unflatten(rows.transpose(1, 2), 2, self.file_grid)  # [1, D, file's h, file's w]
        maps = functional.interpolate(maps, size=self.grid, mode="bicubic", align_corners=False)  # [1, D, h, w]
        return maps.flatten(2).transpose(1, 2).contiguous()


def read_position_table(num_rows: int, *, size: tuple[int, int] | None, patch: int) -> PositionTable:
    """What a table of so many rows is for. No number of rows can be read in two ways.

    Args:
        num_rows: Of the file's table.
        size: Height and width of the input in pixels, by the file's metadata. Without it the tokens are a grid of 4:3,
            perhaps after a class token, or a square after a class token, which is resized to as many rows of tokens.
        patch: Side of a token in pixels.

    Raises:
        WeightsError: The table is for no such grid.
    """
    if size is not None:
        height, width = size
        grid = (height // patch, width // patch)
        extra = num_rows - math.prod(grid)
        if extra not in (0, 1):
            raise WeightsError(
                f"its metadata says {height} x {width} pixels, which are {math.prod(grid)} patches, but its "
                f"position table has {num_rows}"
            )
        return PositionTable(grid=grid, file_grid=grid, has_class_token=bool(extra))
    high, wide = _GRID_RATIO
    for extra in (0, 1):
        unit = math.isqrt((num_rows - extra) // (high * wide))
        if unit and num_rows - extra == high * wide * unit**2:
            grid = (high * unit, wide * unit)
            return PositionTable(grid=grid, file_grid=grid, has_class_token=bool(extra))
    side = math.isqrt(num_rows - 1)
    if side and side**2 == num_rows - 1 and side % high == 0:
        return PositionTable(grid=(side, side // high * wide), file_grid=(side, side), has_class_token=True)
    raise WeightsError(
        f"its position table has {num_rows} tokens, which make no grid of 4:3, and no square with a class token: the "
        "file must say `height` and `width` in its metadata, which only safetensors has"
    )
