"""The networks: plain modules that know no file and choose no device.

All take faces as uint8 RGB [B, 3, H, W], 0 to 255, at their own input size, normalise them, and return
(logits [B, C], embedding [B, D]). Without a head, C is 0. They have the attributes `classes`, `embedding_size`,
`input_height` and `input_width`.
"""

from __future__ import annotations

from motivnet_cli.model.embedding_head import EmbeddingClassifier, LayeredHead, NeighboursHead, parent_of
from motivnet_cli.model.expression_net import ExpressionNet
from motivnet_cli.model.motivnet import MotivNet, MotivNetSizes
from motivnet_cli.model.sapiens import SapiensEmbedder, SapiensSizes

__all__ = [
    "EmbeddingClassifier",
    "ExpressionNet",
    "LayeredHead",
    "MotivNet",
    "MotivNetSizes",
    "NeighboursHead",
    "SapiensEmbedder",
    "SapiensSizes",
    "parent_of",
]
