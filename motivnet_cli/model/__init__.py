"""The networks: plain modules that know no file and choose no device.

All take faces as uint8 RGB [B, 3, H, W] at their own input size, normalise them inside, and answer
(logits [B, C], embedding [B, D]); without a head, C is 0. They expose `classes`, `embedding_size`,
`input_height` and `input_width`.
"""

from __future__ import annotations

from motivnet_cli.model.expression_net import ExpressionNet
from motivnet_cli.model.motivnet import MotivNet, MotivNetSizes
from motivnet_cli.model.sapiens import SapiensEmbedder, SapiensSizes

__all__ = ["ExpressionNet", "MotivNet", "MotivNetSizes", "SapiensEmbedder", "SapiensSizes"]
