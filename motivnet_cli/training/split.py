"""Which labelled images are learned from, and which the training is judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


class Drawn(NamedTuple):
    """Indices of the images of both sides, each in their order."""

    train: Ints
    val: Ints


def draw_images(count: int, *, val_share: float, seed: int) -> Drawn:
    """Draw images for validation without regard to their classes, as MotivNet's reference does: `int(0.8 * n)` train.

    The reference draws without a seed, so its very images cannot be had again.
    """
    order = np.random.default_rng(seed).permutation(count)
    num_train = _num_train(count, val_share)
    return Drawn(np.sort(order[:num_train]), np.sort(order[num_train:]))


def draw_groups(groups: Sequence[str], *, val_share: float, seed: int) -> Drawn:
    """Draw whole groups (persons, say) for validation, until they have the share of the images, or just more.

    At least one group is on each side.

    Args:
        groups: [N], of each image; two groups at least.
    """
    names, group_of = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    sizes = np.bincount(group_of)
    order = np.random.default_rng(seed).permutation(len(names))
    num_val = len(groups) - _num_train(len(groups), val_share)
    before = np.cumsum(sizes[order]) - sizes[order]  # images of the groups that were drawn first
    drawn = order[: min(int((before < num_val).sum()), len(names) - 1)]
    is_val = np.isin(group_of, drawn)
    return Drawn(np.flatnonzero(~is_val), np.flatnonzero(is_val))


def _num_train(count: int, val_share: float) -> int:
    return int(round(1 - val_share, 12) * count)  # 1 - 0.2 is 0.8 here, as in the reference
