"""Changes of faces that leave their label as it is, and mixtures of two faces and their labels. All are off by default.

What chance decides for a face is a function of (seed, epoch, example) alone. So torchvision's v2 transforms are called
by their functions: its classes draw from torch's one generator, which threads share and every step seeds anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from torchvision.transforms.v2 import MixUp, functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from motivnet_cli.training.config import AugmentConfig

_AUGMENT = 3
"""What a draw is for: beside `order`'s, it has numbers of its own."""
_ERASED_SHARES = (0.02, 0.33)
_ERASED_RATIOS = (0.3, 3.3)
"""Of the face's area, and height to width: those of torchvision's RandomErasing. Zhong et al., arXiv 1708.04896."""
_MAX_TRIES = 10


@dataclass(frozen=True, slots=True)
class Augment:
    """What is done to a face before the network sees it. Several threads may call it at once."""

    config: AugmentConfig
    seed: int

    def __call__(self, pixels: Tensor, epoch: int, example: int) -> Tensor:
        """The face as this epoch has it: uint8 [3, H, W], RGB, 0 to 255."""
        config, draw = self.config, np.random.default_rng((_AUGMENT, self.seed, epoch, example))
        if config.flip and draw.random() < 0.5:
            pixels = functional.horizontal_flip(pixels)
        if config.color_jitter:
            brightness, contrast, saturation = draw.uniform(1 - config.color_jitter, 1 + config.color_jitter, 3)
            pixels = functional.adjust_brightness(pixels, brightness)
            pixels = functional.adjust_contrast(pixels, contrast)
            pixels = functional.adjust_saturation(pixels, saturation)
        if draw.random() < config.random_erasing:
            pixels = _erased(pixels, draw)
        return pixels


def _erased(pixels: Tensor, draw: np.random.Generator) -> Tensor:
    """Noise in place of a rectangle; in place of none where ten that are drawn are larger than the face."""
    _, height, width = pixels.shape
    for _ in range(_MAX_TRIES):
        area = height * width * draw.uniform(*_ERASED_SHARES)
        ratio = exp(draw.uniform(log(_ERASED_RATIOS[0]), log(_ERASED_RATIOS[1])))
        rows, columns = round(sqrt(area * ratio)), round(sqrt(area / ratio))
        if 0 < rows < height and 0 < columns < width:
            top, left = draw.integers(0, (height - rows + 1, width - columns + 1)).tolist()
            noise = torch.from_numpy(draw.integers(0, 256, (3, rows, columns), dtype=np.uint8))
            pixels = functional.erase(pixels, top, left, rows, columns, noise)
            break
    return pixels


def mixer(alpha: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """MixUp of a batch: each face and its target, weighed lam, with those before it in the batch, weighed 1 - lam.

    lam is drawn from Beta(alpha, alpha) by torch's generator, which a step seeds. Source: Zhang et al., arXiv
    1710.09412. Mixed pixels are whole grey levels, as networks take them.
    """
    mix_up = MixUp(alpha=alpha)

    def mix(pixels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        mixed, mixed_targets = mix_up(pixels.float(), targets)
        return mixed.round().to(torch.uint8), mixed_targets

    return mix
