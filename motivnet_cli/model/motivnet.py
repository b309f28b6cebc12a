"""MotivNet: the Sapiens encoder with an ML-Decoder head that classifies emotions.

Knows no file and chooses no device. The embedding is that of the encoder; the reference returns logits only.
Reference: Medicharla and Yilmaz, arXiv 2512.24231.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from motivnet_cli.model.ml_decoder import MLDecoderHead
from motivnet_cli.model.sapiens import SapiensEmbedder, SapiensSizes
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class MotivNetSizes(SapiensSizes):
    """Every size of a MotivNet; the defaults are the published network's (1,161,033,863 parameters)."""

    decoder_width: int = 1152
    """Width of a query and of an embedded token (W)."""
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_ffn: int = 2048
    """Hidden width of a decoder layer's feed-forward part."""
    num_classes: int = 7


class MotivNet(SapiensEmbedder):
    """Logits of emotions and an embedding for each face.

    Args:
        sizes: The sizes of encoder and head.
        classes: One name for each logit, in the order of the head.

    Raises:
        ValueError: There are not as many names as classes.
    """

    def __init__(self, sizes: MotivNetSizes, *, classes: tuple[str, ...] = EMOTIONS) -> None:
        if len(classes) != sizes.num_classes:
            raise ValueError(f"{sizes.num_classes} classes need as many names, got {len(classes)}: {classes}")
        super().__init__(sizes)
        self.sizes: MotivNetSizes = sizes
        self.classes = classes
        self.head = MLDecoderHead(
            features=sizes.width,
            width=sizes.decoder_width,
            depth=sizes.decoder_depth,
            heads=sizes.decoder_heads,
            ffn=sizes.decoder_ffn,
            num_classes=sizes.num_classes,
        )

    def forward_head(self, features: Tensor) -> Tensor:
        """Features [B, D, h, w] -> logits [B, C]."""
        logits: Tensor = self.head(features.flatten(2).transpose(1, 2))
        return logits
