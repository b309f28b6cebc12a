"""Figures by group: the images of a labelled set by what a column says of them, and whether the groups differ."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.intervals import Units
from motivnet_cli.evaluation.metrics import score
from motivnet_cli.evaluation.permutation import PERMUTATIONS, group_difference
from motivnet_cli.evaluation.results import Grouping, GroupScore, GroupTest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.evaluation.datasets.labelled import LabelledSet

    Ints = NDArray[np.int64]

SUBJECT = "subject"
MAX_NUMBERS = 20
"""Different numbers that a column may have; more are no groups but a scale."""
MANY = 20
"""More groups than this are said."""
FEW = 30
"""Groups of fewer images are said: a rule of thumb. Of 30 images, 70 % right has the interval 52 to 83 %."""


def group_names(labelled: LabelledSet, column: str) -> list[str | None]:
    """What a column says of each image, [N]; None where it says nothing.

    Raises:
        ConfigError: The set has no such column, or its values make no groups.
    """
    names = [image.columns.get(column) or (image.subject if column == SUBJECT else None) for image in labelled.images]
    values = {name for name in names if name}
    if column not in labelled.columns or not values:
        there = ", ".join(labelled.columns) or "none"
        what = f"says nothing of the {labelled.unit}s here" if column in labelled.columns else "is not known"
        raise ConfigError(f"--by {column}: the column {what} for {labelled.dataset}; there are: {there}")
    if len(values) > MAX_NUMBERS and all(re.fullmatch(r"-?\d+(\.\d*)?", value) for value in values):
        raise ConfigError(
            f"--by {column}: {len(values):,} different numbers are no groups: give a csv set with a column of ranges, "
            "such as 20-29, and name that"
        )
    if len(values) > max(len(names) / 2, 1):
        raise ConfigError(f"--by {column}: {len(values):,} values for {len(names):,} {labelled.unit}s are no groups")
    return [name or None for name in names]


def by_group(
    column: str,
    names: Sequence[str | None],
    labels: Ints,
    predicted: Ints,
    *,
    classes: Sequence[str],
    subjects: NDArray[np.str_] | None,
    resamples: int,
    seed: int,
) -> Grouping:
    """The figures of each group, and a test of whether their accuracies differ.

    Args:
        names: [N], of the groups, as `group_names` has them.
        labels: [N], ids of `classes`.
        predicted: [N], the same, or -1 for a miss.
        subjects: [N], or None. Where the groups are the subjects, images are the units.
    """
    units = None if column == SUBJECT or subjects is None else np.asarray(subjects)
    of_image = np.array(["" if name is None else name for name in names])  # [N]
    order = sorted({name for name in names if name is not None}, key=_sort_key)
    groups = []
    for group in order:
        is_in = of_image == group
        scores = score(
            labels[is_in],
            predicted[is_in],
            None,
            classes=classes,
            groups=None if units is None else units[is_in],
            resamples=resamples,
            seed=seed,
        )
        groups.append(
            GroupScore(
                name=group,
                n=scores.n,
                n_missed=scores.n_missed,
                num_classes=len(np.unique(labels[is_in])),
                accuracy=scores.all["accuracy"],
                uar=scores.all["uar"],
                macro_f1=scores.all["macro_f1"],
            )
        )
    is_named = of_image != ""
    n_without = int((~is_named).sum())
    number_of = {group: number for number, group in enumerate(order)}
    is_hit, group_of = (predicted == labels)[is_named], np.array([number_of[name] for name in of_image[is_named]])
    return Grouping(
        column=column,
        groups=tuple(groups),
        n_without=n_without,
        unit="image" if units is None else "subject",
        test=_test(is_hit, group_of, None if units is None else units[is_named], seed) if len(order) > 1 else None,
        remarks=tuple(_remarks(column, groups, n_without)),
    )


def _test(is_hit: NDArray[np.bool_], group_of: Ints, units: NDArray[np.str_] | None, seed: int) -> GroupTest:
    """Whether the groups, of which there are at least two, differ; all arguments are [N]."""
    unit_of = None if units is None else Units(units, len(units)).unit_of
    found = group_difference(is_hit, group_of, unit_of=unit_of, seed=seed)
    return GroupTest(
        statistic=found.statistic, p=found.p, exchanged=found.exchanged, permutations=PERMUTATIONS, seed=seed
    )


def _sort_key(name: str) -> tuple[float, str]:
    """Numbers, and ranges by where they begin, before words."""
    number = re.match(r"-?\d+(\.\d+)?", name)
    return (float(number[0]) if number else np.inf, name)


def _remarks(column: str, groups: Sequence[GroupScore], n_without: int) -> Iterator[str]:
    if n_without:
        yield f"by {column}: it is not known of {n_without:,}, which are in no group"
    if len(groups) == 1:
        yield f"by {column}: all are of one group, {groups[0].name!r}"
    if len(groups) > MANY:
        yield f"by {column}: of {len(groups):,} groups some stand out by chance alone"
    if small := [f"{group.name} ({group.n})" for group in groups if group.n < FEW]:
        more = f" and {len(small) - 5:,} more" if len(small) > 5 else ""
        yield f"by {column}: fewer than {FEW} of {', '.join(small[:5])}{more}: their figures say little"
    if len({group.num_classes for group in groups}) > 1:
        counts = [group.num_classes for group in groups]
        yield (
            f"by {column}: {min(counts)} to {max(counts)} classes occur in a group, so that UAR and macro-F1 of some "
            "groups do not compare"
        )
