"""How predictions were matched to labelled images, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from motivnet_cli.evaluation.results import Matching, Names

_WAYS = {
    "absolute path": "by absolute path",
    "relative path": "by the path below the set's folder",
    "other name": "by another name that the set gives them",
    "path suffix": "by the end of the path",
}


class Unfit(NamedTuple):
    """Images or clips without a partner, of one kind."""

    sentence: str
    names: Names


def matching_in_words(matching: Matching, n: int, unit: str) -> str:
    """Such as `3,068 of 3,068 images were found by file name.`

    Args:
        n: Labelled images or clips.
        unit: `image` or `clip`.
    """
    ways = {_WAYS.get(way, f"by {way}"): count for way, count in matching.how.items() if count}
    found = f"{sum(ways.values()):,} of {n:,} {unit}s were found"
    if len(ways) < 2:
        return f"{found} {' '.join(ways)}".rstrip() + "."
    return f"{found}: {', '.join(f'{count:,} {way}' for way, count in ways.items())}."


def unfit(matching: Matching, unit: str) -> list[Unfit]:
    """What did not fit, each kind that there is: a sentence with its number, and the names."""
    kinds = (
        (matching.unmatched, "is not in the predictions", "are not in the predictions"),
        (matching.ambiguous, "fits several predictions", "fit several predictions"),
        (
            matching.contradicted,
            "has its name only in the folder of another split or class",
            "have their names only in folders of another split or class",
        ),
    )
    found = [
        Unfit(f"{names.n:,} labelled {f'{unit} {is_}' if names.n == 1 else f'{unit}s {are}'}", names)
        for names, is_, are in kinds
    ]
    unused = matching.unused
    is_ = f"{unit} of the predictions is" if unused.n == 1 else f"{unit}s of the predictions are"
    found.append(Unfit(f"{unused.n:,} {is_} not labelled", unused))
    return [each for each in found if each.names.n]
