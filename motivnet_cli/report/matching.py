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
    """Images without a partner of one kind."""

    sentence: str
    names: Names


def matching_in_words(matching: Matching, n: int) -> str:
    """Such as `3,068 of 3,068 images were found by file name.`

    Args:
        n: Labelled images.
    """
    ways = {_WAYS.get(way, f"by {way}"): count for way, count in matching.how.items() if count}
    found = f"{sum(ways.values()):,} of {n:,} images were found"
    if len(ways) < 2:
        return f"{found} {' '.join(ways)}".rstrip() + "."
    return f"{found}: {', '.join(f'{count:,} {way}' for way, count in ways.items())}."


def unfit_images(matching: Matching) -> list[Unfit]:
    """What did not fit, each kind that there is: a sentence with its number, and the names."""
    kinds = (
        (matching.unmatched, "labelled image is not in the predictions", "labelled images are not in the predictions"),
        (matching.ambiguous, "labelled image fits several predictions", "labelled images fit several predictions"),
        (
            matching.contradicted,
            "labelled image has its name only in the folder of another split or class",
            "labelled images have their names only in folders of another split or class",
        ),
        (matching.unused, "image of the predictions is not labelled", "images of the predictions are not labelled"),
    )
    return [Unfit(f"{names.n:,} {one if names.n == 1 else many}", names) for names, one, many in kinds if names.n]
