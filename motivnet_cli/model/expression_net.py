"""FaceExpressionNet: a small convolutional network for seven expressions, whose weights ship inside the package.

Knows no file and chooses no device. The order of its classes is that of its weights, not MotivNet's.
Architecture: `face_expression_model` of justadudewhohacks/face-api.js.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_MEAN_RGB = (122.782, 117.001, 104.298)
_SCALE = 255.0
_WIDTHS = (32, 64, 128, 256)
_SIDE = 112


class ExpressionNet(nn.Module):
    """Logits of expressions and an embedding for each face.

    Args:
        classes: One name for each logit, in the order of the weights.
    """

    mean: Tensor

    def __init__(self, *, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.classes = classes
        self.embedding_size = _WIDTHS[-1]
        self.input_height = _SIDE
        self.input_width = _SIDE
        first, *rest = _WIDTHS
        blocks = [_Block(nn.Conv2d(3, first, 3, stride=2), width=first)]
        for before, width in zip(_WIDTHS, rest, strict=False):
            blocks.append(_Block(_SeparableConv(before, width, stride=2, padding=0), width=width))
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(_WIDTHS[-1], len(classes))
        # Explicitly on the CPU, so that it holds values even when the module is built on the meta device.
        mean = torch.tensor(_MEAN_RGB, device="cpu").view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB [B, 3, 112, 112] -> (logits [B, C], embedding [B, 256]).

        Raises:
            ValueError: The pixels are not of the network's input size.
        """
        self._check_size(pixels)
        embedding = self.forward_features((pixels - self.mean) / _SCALE)
        return self.forward_head(embedding), embedding

    def forward_features(self, images: Tensor) -> Tensor:
        """Normalised float [B, 3, 112, 112] -> embedding [B, 256].

        Raises:
            ValueError: The images are not of the network's input size.
        """
        self._check_size(images)
        maps = self.blocks(images.to(next(self.blocks.parameters()).dtype))  # [B, 256, 7, 7]
        return functional.avg_pool2d(maps, 7).flatten(1)

    def forward_head(self, embedding: Tensor) -> Tensor:
        """Embedding [B, 256] -> logits [B, C]."""
        logits: Tensor = self.fc(embedding)
        return logits

    def _check_size(self, images: Tensor) -> None:
        # The normalisation would silently broadcast one channel to three.
        if images.shape[1:] != (3, _SIDE, _SIDE):
            raise ValueError(f"the network takes [B, 3, {_SIDE}, {_SIDE}] (B, RGB, H, W), got {list(images.shape)}")


class _Block(nn.Module):
    """Four convolutions, the first with stride 2. Each of the others takes the sum of all outputs before it."""

    def __init__(self, conv0: nn.Module, *, width: int) -> None:
        super().__init__()
        self.conv0 = conv0
        self.conv1 = _SeparableConv(width, width, stride=1, padding=1)
        self.conv2 = _SeparableConv(width, width, stride=1, padding=1)
        self.conv3 = _SeparableConv(width, width, stride=1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        # TensorFlow's "same" padding for a 3 x 3 kernel with stride 2 and an even side: one pixel, right and below.
        first = functional.relu_(self.conv0(functional.pad(x, (0, 1, 0, 1))))
        total = first + self.conv1(first)
        for conv in (self.conv2, self.conv3):
            total += conv(functional.relu(total))
        return functional.relu_(total)


class _SeparableConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, stride: int, padding: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride=stride, padding=padding, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(x))
        return out
