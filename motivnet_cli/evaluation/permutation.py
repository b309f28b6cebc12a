"""Tests that ask how often chance alone would show as much: signs or groups are exchanged, and nothing else is assumed.

Nothing here knows of images or runs: the arguments are arrays. All p are two-sided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

PERMUTATIONS = 9999
"""Of tests that draw them: the smallest p is 1 / 10,000."""


def sign_flip_p(values: ArrayLike) -> float:
    """How often the sum is as far from 0 where every value may have either sign: the exact p of a paired difference.

    Of values -1, 0 and 1 it is McNemar's exact p, of signed ranks Wilcoxon's, and of sums by subject that of a
    permutation test which exchanges the two runs for a whole subject.

    Args:
        values: [U] whole numbers.
    """
    steps = np.abs(np.asarray(values, np.int64))
    steps = steps[steps > 0]
    reach, observed = int(steps.sum()), abs(int(np.sum(values)))
    chances = np.zeros(2 * reach + 1)  # of each sum from -reach to reach
    chances[reach] = 1.0
    for step in steps.tolist():
        chances = (np.roll(chances, step) + np.roll(chances, -step)) / 2  # nothing is rolled over the ends
    return min(1.0, float(chances[: reach - observed + 1].sum() + chances[reach + max(observed, 1) :].sum()))
