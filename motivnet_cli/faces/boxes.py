"""Areas and overlaps of boxes, many at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The areas of boxes [N, 4], x1 y1 x2 y2: [N]; 0 where a side is negative."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clip(0)  # [N, 2]
    products: NDArray[np.float64] = sides.prod(axis=1)
    return products


def iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of boxes [A, 4] with boxes [B, 4]: [A, B], from 0 to 1; 0 for boxes without area."""
    lower = np.maximum(a[:, None, :2], b[None, :, :2])  # [A, B, 2]
    upper = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (upper - lower).clip(0).prod(axis=2)  # [A, B]
    union = areas(a)[:, None] + areas(b)[None, :] - shared
    overlap: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def non_maximum_suppression(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], max_overlap: float
) -> NDArray[np.int64]:
    """The indices of the boxes [N, 4] that overlap no better one by more than an IoU of `max_overlap`, best first.

    What torchvision.ops.nms does, without the two seconds and 200 MB of importing it
    (docs/decisions/0005-torchvision.md).
    """
    waiting = np.argsort(-scores, kind="stable")  # [N]
    kept = []
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])  # [N]
    while len(waiting):
        best, others = waiting[0], waiting[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[others, :2])  # [M, 2]
        high = np.minimum(boxes[best, 2:], boxes[others, 2:])
        shared = (high - low).clip(0).prod(axis=1)  # [M]
        waiting = others[shared <= max_overlap * (area[best] + area[others] - shared)]
    return np.array(kept, np.int64)
