"""MotivNet: the Sapiens encoder, its ML-Decoder head, and an embedding beside the logits.

It knows no file and chooses no device. The embedding is ours, not the reference's: the mean of the encoder's
features over the tokens of the image area. Reference: Medicharla and Yilmaz, arXiv 2512.24231.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from motivnet_cli.model.ml_decoder import MLDecoderHead
from motivnet_cli.model.sapiens import SapiensEncoder
from motivnet_cli.records import EMOTIONS

_MEAN_RGB = (123.5, 116.5, 103.5)
_STD_RGB = (58.5, 57.0, 57.5)
"""Of RGB 0 to 255, as in the Sapiens reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MotivNetSizes:
    """Every size of a MotivNet; the defaults are the published network's (1,161,033,863 parameters)."""

    width: int = 1536
    depth: int = 40
    heads: int = 24
    mlp: int = 6144
    decoder_width: int = 1152
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_ffn: int = 2048
    num_classes: int = 7
    grid_height: int = 64
    """Token rows: the input is grid_height * patch pixels high."""
    grid_width: int = 48
    patch: int = 16
    padding: int = 2


class MotivNet(nn.Module):
    """Emotions and an embedding of a face.

    Args:
        classes: One name for each logit, in the order of the head.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, sizes: MotivNetSizes, *, classes: tuple[str, ...] = EMOTIONS) -> None:
        super().__init__()
        if len(classes) != sizes.num_classes:
            raise ValueError(f"{sizes.num_classes} classes need as many names, got {len(classes)}: {classes}")
        self.sizes = sizes
        self.classes = classes
        self.embedding_size = sizes.width
        self.input_height = sizes.grid_height * sizes.patch
        self.input_width = sizes.grid_width * sizes.patch
        self.image_rows = (0, sizes.grid_height)
        """Token rows [top, bottom) that show the face, not the bands an input recipe may add above and below:
        only they count for the embedding."""
        self.encoder = SapiensEncoder(
            width=sizes.width,
            depth=sizes.depth,
            heads=sizes.heads,
            mlp=sizes.mlp,
            grid_height=sizes.grid_height,
            grid_width=sizes.grid_width,
            patch=sizes.patch,
            padding=sizes.padding,
        )
        self.head = MLDecoderHead(
            features=sizes.width,
            width=sizes.decoder_width,
            depth=sizes.decoder_depth,
            heads=sizes.decoder_heads,
            ffn=sizes.decoder_ffn,
            num_classes=sizes.num_classes,
        )
        # On the CPU by name, so that they hold numbers even when the module is built on the meta device.
        mean, std = (torch.tensor(rgb, device="cpu").view(1, 3, 1, 1) for rgb in (_MEAN_RGB, _STD_RGB))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB [B, 3, H, W] -> (logits [B, C], embedding [B, D]).

        Raises:
            ValueError: The pixels are not of the network's input size.
        """
        self._check_size(pixels)
        features = self.forward_features((pixels - self.mean) / self.std)
        top, bottom = self.image_rows
        return self.forward_head(features), features[:, :, top:bottom].mean((2, 3))

    def forward_features(self, images: Tensor) -> Tensor:
        """Normalised float [B, 3, H, W] -> features [B, D, h, w].

        Raises:
            ValueError: The images are not of the network's input size.
        """
        self._check_size(images)
        features: Tensor = self.encoder(images)
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        """Features [B, D, h, w] -> logits [B, C]."""
        logits: Tensor = self.head(features.flatten(2).transpose(1, 2))
        return logits

    def _check_size(self, images: Tensor) -> None:
        # Height and width exchanged make as many tokens, and one channel would be spread over three by the
        # normalisation: nothing else would notice either.
        if images.shape[1:] != (3, self.input_height, self.input_width):
            expected = f"[B, 3, {self.input_height}, {self.input_width}]"
            raise ValueError(f"the network takes {expected} (B, RGB, H, W), got {list(images.shape)}")
