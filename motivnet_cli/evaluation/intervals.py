"""How far a figure would vary with other images: the bootstrap over images or subjects, and Wilson's interval.

Nothing here knows what a figure means. Sources, and how often each interval holds the truth, are in docs/metrics.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import scipy.stats

from motivnet_cli.evaluation.results import Bootstrap, Interval

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Subjects = Sequence[Hashable | None] | NDArray[np.str_]

LEVEL = 0.95
"""Of the intervals."""
RESAMPLES = 1000

_ROUNDING = 1e-12
"""How far apart resamples of one value may lie, as sums are rounded."""
_RESAMPLES_AT_ONCE = 64
"""64 x 36,000 counts of 4 bytes are 9 MB."""


class Units:
    """What the bootstrap draws: the N images, or the subjects that they show, each with all its images.

    Args:
        groups: [N] names of subjects; an image whose name is None is a subject of its own. None draws images.

    Raises:
        ValueError: There is no resample, or `groups` has another length.
    """

    def __init__(self, groups: Subjects | None, n: int, *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        if resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {resamples}")
        self.unit_of: Ints = np.arange(n)
        """[N], the number of each image's unit."""
        if groups is not None:
            if len(groups) != n:
                raise ValueError(f"groups must name a subject for each of the {n} images, got {len(groups)}")
            numbers: dict[Hashable, int] = {}
            keys = [(i, None) if name is None else name for i, name in enumerate(groups)]
            self.unit_of = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
        self.bootstrap = Bootstrap(
            resamples, seed, "image" if groups is None else "subject", int(self.unit_of.max()) + 1, LEVEL
        )

    def resampled(self) -> Iterator[NDArray[np.int32]]:
        """How often each image is drawn, [N, B] for B resamples at a time.

        As many units are drawn as there are, with replacement. A single unit does not show how others would vary: no
        image is drawn then, and every figure is undefined.
        """
        how = self.bootstrap
        if how.units < 2:
            yield np.zeros((len(self.unit_of), 1), np.int32)
            return
        rng = np.random.default_rng(how.seed)
        for start in range(0, how.resamples, _RESAMPLES_AT_ONCE):
            drawn = [
                np.bincount(rng.integers(how.units, size=how.units), minlength=how.units)[self.unit_of]
                for _ in range(min(_RESAMPLES_AT_ONCE, how.resamples - start))
            ]
            yield np.stack(drawn, axis=1).astype(np.int32)

    def proportion(
        self, is_hit: NDArray[np.bool_], replicates: Floats, *, is_counted: NDArray[np.bool_] | None = None
    ) -> Interval:
        """The share of hits: Wilson's interval where no two images are of one subject, else that of the bootstrap.

        Where all images of all subjects are hits, or none is, the subjects do not vary and the bootstrap says nothing.
        The interval is then the exact one of as many independent images as there are subjects. That is the widest that
        may be needed: subjects whose images stand and fall together are the worst case, since E[p^m] <= E[p].

        Args:
            is_hit: [N].
            replicates: The share in each resample, [B].
            is_counted: [N], the images of which it is the share, at least one; None counts all.
        """
        counted = np.ones(len(is_hit), np.bool_) if is_counted is None else is_counted
        hits, n = int(is_hit[counted].sum()), int(counted.sum())
        units = len(np.unique(self.unit_of[counted]))
        if units == n:
            return Interval(hits / n, *wilson(hits, n), "wilson")
        if hits in (0, n) and units > 1:
            reach = ((1 - LEVEL) / 2) ** (1 / units)
            return Interval(1.0, reach, 1.0, "exact") if hits else Interval(0.0, 0.0, 1 - reach, "exact")
        return percentile(hits / n, replicates)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's score interval of a proportion (*J. Am. Stat. Assoc.* 22 (1927)), low and high.

    Args:
        n: At least 1.
    """
    z = float(scipy.stats.norm.ppf((1 + LEVEL) / 2))
    share, spread = hits / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    # Exact at the ends, where rounding would leave 1e-17 or 0.9999.
    return (0.0 if hits == 0 else centre - half), (1.0 if hits == n else centre + half)


def percentile(value: float, replicates: Floats, *, centred: bool = False) -> Interval:
    """The bootstrap percentile interval; None where fewer than two resamples have a value, or all have the same.

    Resamples that do not vary say nothing of other images: they would give an interval of no width, such as 1 to 1.

    Args:
        centred: Shifts the replicates so that their mean is the value: the calibration error of a resample lies above
            that of the sample by about as much as that one lies above the truth. The interval is cut at 0.
    """
    replicates = replicates[np.isfinite(replicates)]
    if math.isnan(value) or len(replicates) < 2 or np.ptp(replicates) <= _ROUNDING * max(1.0, abs(value)):
        return Interval(None if math.isnan(value) else value, None, None)
    shift = value - replicates.mean() if centred else 0.0
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) + shift
    return Interval(value, max(float(low), 0.0) if centred else float(low), float(high), "bootstrap")
