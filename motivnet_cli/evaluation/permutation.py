"""Tests that ask how often chance alone would show as much: signs or groups are exchanged, and nothing else is assumed.

Nothing here knows of images or runs: the arguments are arrays. All p are two-sided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
import scipy.stats

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

Exchanged: TypeAlias = Literal["images", "subjects", "images within subjects"]
"""What a test between groups deals to them anew."""

PERMUTATIONS = 9999
"""Of tests that draw them: the smallest p is 1 / 10,000."""
_AT_ONCE = 5_000_000
"""Subjects that are dealt at once, over all permutations: 40 MB."""
_EXACT = 300_000_000
"""Units times sums up to which `sign_flip_p` counts all patterns: 17,000 subjects that differ by 1, in two seconds."""


def sign_flip_p(values: ArrayLike, *, exact_up_to: int = _EXACT) -> float:
    """How often the sum is as far from 0 where every value may have either sign: the exact p of a paired difference.

    Of values -1, 0 and 1 it is McNemar's exact p, of signed ranks Wilcoxon's, and of sums by subject that of a
    permutation test which exchanges the two runs for a whole subject.

    Args:
        values: [U] whole numbers.
        exact_up_to: U times the sum of their sizes; above, the normal approximation is taken, with continuity.
    """
    steps = np.abs(np.asarray(values, np.int64))
    steps = steps[steps > 0]
    reach, observed = int(steps.sum()), abs(int(np.sum(values)))
    if len(steps) * reach > exact_up_to:
        return min(1.0, 2 * float(scipy.stats.norm.sf((observed - 1) / np.sqrt((steps.astype(np.float64) ** 2).sum()))))
    chances = np.zeros(2 * reach + 1)  # of each sum from -reach to reach
    chances[reach] = 1.0
    for step in steps.tolist():
        chances = (np.roll(chances, step) + np.roll(chances, -step)) / 2  # nothing is rolled over the ends
    return min(1.0, float(chances[: reach - observed + 1].sum() + chances[reach + max(observed, 1) :].sum()))


class GroupDifference(NamedTuple):
    """Whether the share of hits differs between groups."""

    statistic: float
    """Pearson's chi-squared of the table of hits and misses by group."""
    p: float
    exchanged: Exchanged


def group_difference(
    is_hit: Bools,
    group_of: Ints,
    *,
    unit_of: Ints | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> GroupDifference:
    """How often groups would differ as much if the images had been dealt to them by chance.

    Where every subject lies in one group (as with gender), whole subjects are exchanged between the groups, and where
    some lie in several (as with sessions), the images of each subject. Sizes of groups stay as they are.

    Args:
        is_hit: [N].
        group_of: [N], from 0, each number at least once.
        unit_of: [N], the number of each image's subject, from 0; None takes images as independent.
    """
    num_groups = int(group_of.max()) + 1
    sizes, hits = np.bincount(group_of), np.bincount(group_of, is_hit)
    statistic = float(_chi_squared(sizes, hits))
    rng = np.random.default_rng(seed)
    units = np.zeros(len(group_of), np.int64) if unit_of is None else unit_of
    table = np.zeros((int(units.max()) + 1, num_groups), np.int64)  # [U, G], images
    np.add.at(table, (units, group_of), 1)
    unit_hits = np.bincount(units, is_hit).astype(np.int64)  # [U]
    exchanged: Exchanged = "images" if unit_of is None else "images within subjects"
    if unit_of is not None and ((table > 0).sum(axis=1) == 1).all():
        exchanged = "subjects"
        drawn = _dealt_subjects(table, unit_hits, permutations, rng)  # [B]
    else:
        dealt = np.zeros((permutations, num_groups), np.int64)
        for row, num_hits in zip(table, unit_hits.tolist(), strict=True):
            dealt += rng.multivariate_hypergeometric(row, num_hits, size=permutations, method="marginals")
        drawn = _chi_squared(sizes, dealt)
    p = (1 + int((drawn >= statistic - 1e-9).sum())) / (1 + permutations)
    return GroupDifference(statistic, p, exchanged)


def _dealt_subjects(table: Ints, unit_hits: Ints, permutations: int, rng: np.random.Generator) -> Floats:
    """The statistic of each time that the subjects are dealt to the groups anew, [B]."""
    group_of, unit_sizes = table.argmax(axis=1), table.sum(axis=1)  # [U]
    drawn = []
    at_once = 1 + _AT_ONCE // len(group_of)
    for start in range(0, permutations, at_once):
        num = min(at_once, permutations - start)
        dealt = rng.permuted(np.broadcast_to(group_of, (num, len(group_of))), axis=1)  # [B, U]
        of_group = [dealt == group for group in range(table.shape[1])]
        sizes = np.stack([each @ unit_sizes for each in of_group], axis=1)  # [B, G]
        drawn.append(_chi_squared(sizes, np.stack([each @ unit_hits for each in of_group], axis=1)))
    return np.concatenate(drawn)


def _chi_squared(sizes: Ints, hits: Ints | Floats) -> Floats:
    """Of hits and misses in groups of these sizes, along the last axis; 0 where all images are hits, or none is."""
    share = hits.sum(axis=-1, keepdims=True) / sizes.sum(axis=-1, keepdims=True)
    spread = sizes * share * (1 - share)
    terms: Floats = np.divide((hits - sizes * share) ** 2, spread, out=np.zeros_like(spread), where=spread > 0)
    total: Floats = terms.sum(axis=-1)
    return total
