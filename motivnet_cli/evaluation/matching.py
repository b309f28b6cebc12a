"""Labelled images and predictions -> pairs, by name and by box."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from motivnet_cli.faces.boxes import iou
from motivnet_cli.inputs.names import printable
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.records import Box

    _Keys = Callable[[int], list[str]]
    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
from motivnet_cli.evaluation.predictions import EMPTY_ROW, NAMED, Predictions, ends_with

_UNMATCHED, _AMBIGUOUS = "not in the predictions", "several predictions could be meant"
_NO_SUCH_FACE = "no predicted face at the labelled one"
_SAME_FACE_IOU = 0.3
"""Detectors differ in how much of a head they call the face; 0.3 is what tracks take for the same place, too."""


@dataclass(frozen=True, slots=True)
class Named:
    """Some names: how many, and the first of them."""

    n: int
    first: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """The predictions of N labelled images, in their order."""

    rows: Ints
    """[N], row of the predictions, -1 for none."""
    predicted: Ints
    """[N], ids 0 to 6, -1 for none: as `metrics.score` takes it."""
    probabilities: Floats | None
    """[N, 7], NaN for none; None where the tool gives labels only."""
    reasons: dict[int, str]
    """Why there is none, by place in the labelled images: one of `Predictions.misses`, `not in the predictions`,
    `several predictions could be meant`, or `no predicted face at the labelled one`."""
    how: dict[str, int]
    """Labelled images by how they found theirs: `absolute path`, `relative path`, `path suffix`, `file name`."""
    unmatched: Named
    """Labelled images that the predictions do not have."""
    ambiguous: Named
    """Labelled images for which more than one could be meant."""
    unused: Named
    """Images of the predictions that are not labelled."""
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """How images found their predictions, with counts; of what did not fit, the count and the first names."""
        odd = {"unmatched": self.unmatched, "ambiguous": self.ambiguous, "unused": self.unused}
        named = {what: {"n": names.n, "first": list(names.first)} for what, names in odd.items()}
        return {**self.how, **named, "remarks": list(self.remarks)}


def match(
    predictions: Predictions,
    names: Sequence[str],
    paths: Sequence[str | None],
    *,
    boxes: Sequence[Box | None] | None = None,
) -> Matched:
    """Find the prediction of each labelled image: the strictest way that pairs two images alone counts.

    The ways, in turn, for images that are not paired yet: the same absolute path; the same path below the set's
    folder; one path the end of the other, by two components or more; the same file name, if no other labelled image
    and no other prediction has it. Of several faces the one at the label's box counts (IoU at least 0.3), without
    boxes of labels the largest, without any boxes the first.

    Args:
        names: [N] paths below the set's folder, unique; `#k` at the end tells faces of one image apart.
        paths: [N] absolute paths; None where there is no file.
        boxes: [N] of the labelled faces.
    """
    labelled = _Labelled(names, paths, boxes or [None] * len(names))
    found, how, ambiguous_images = _paired(predictions, labelled)
    rows, reasons, num_several = _chosen(predictions, labelled, found)
    for image in ambiguous_images:
        reasons.update(dict.fromkeys(labelled.members[image], _AMBIGUOUS))
    has_row = rows >= 0
    predicted = np.full(len(names), -1)
    predicted[has_row] = predictions.predicted[rows[has_row]]
    probabilities = None
    if predictions.probabilities is not None:
        probabilities = np.full((len(names), len(EMOTIONS)), np.nan)
        probabilities[has_row] = predictions.probabilities[rows[has_row]]
    used = set(found.values())
    which = "the first row" if predictions.boxes is None else "the one at the label's box, or else the largest,"
    return Matched(
        rows=rows,
        predicted=predicted,
        probabilities=probabilities,
        reasons=reasons,
        how=how,
        unmatched=_named(names[member] for member, reason in reasons.items() if reason == _UNMATCHED),
        ambiguous=_named(names[member] for member, reason in reasons.items() if reason == _AMBIGUOUS),
        unused=_named(name for number, name in enumerate(predictions.images) if number not in used),
        remarks=(f"{num_several} images have several predicted faces: {which} was taken",) if num_several else (),
    )


class _Labelled:
    """Labelled faces by image.

    Faces of one image share its file, and their names end in `#k`; where there is no file, each is an image.
    """

    def __init__(self, names: Sequence[str], paths: Sequence[str | None], boxes: Sequence[Box | None]) -> None:
        self.names: list[str] = []
        self.paths: list[str | None] = []
        self.members: list[list[int]] = []
        """The labelled faces of each image."""
        self.face_names = names
        self.boxes = boxes
        numbers: dict[tuple[str, str | None], int] = {}
        for member, (name, given) in enumerate(zip(names, paths, strict=True)):
            path = printable(os.path.normpath(given)) if given else None
            image = printable(name)
            if path and not ends_with(path, image):
                image = re.sub(r"#\d+$", "", image)
            number = numbers.setdefault((image, path), len(numbers))
            if number == len(self.members):
                self.names.append(image)
                self.paths.append(path)
                self.members.append([])
            self.members[number].append(member)


def _paired(predictions: Predictions, labelled: _Labelled) -> tuple[dict[int, int], dict[str, int], set[int]]:
    """Labelled image -> predicted image; how many labelled faces found theirs in each way; images in doubt."""
    found: dict[int, int] = {}
    how: Counter[str] = Counter()
    in_doubt: set[int] = set()
    used: set[int] = set()
    ours, theirs = range(len(labelled.names)), range(len(predictions.images))
    for way, our_keys, their_keys in _ways(predictions, labelled):
        by_key: dict[str, list[int]] = defaultdict(list)
        for image in theirs:
            if image not in used:
                for key in their_keys(image):
                    by_key[key].append(image)
        candidates: dict[int, set[int]] = defaultdict(set)
        wanted_by: dict[int, set[int]] = defaultdict(set)
        for image in ours:
            if image not in found or way == "file name":  # a name is unique only if no labelled image shares it
                for other in (other for key in our_keys(image) for other in by_key.get(key, ())):
                    candidates[image].add(other)
                    wanted_by[other].add(image)
        for image, others in candidates.items():
            if image in found:
                continue
            if len(others) == 1 and len(wanted_by[only := next(iter(others))]) == 1:
                found[image] = only
                how[way] += len(labelled.members[image])
            else:
                in_doubt.add(image)
        used = set(found.values())
    return found, dict(how), in_doubt - set(found)


def _ways(predictions: Predictions, labelled: _Labelled) -> Iterator[tuple[str, _Keys, _Keys]]:
    """The ways of pairing, strictest first: images are paired that share a key."""
    images, names, paths = predictions.images, labelled.names, labelled.paths
    yield "absolute path", lambda i: _given(paths[i]), lambda i: _given(predictions.paths[i])
    yield "relative path", lambda i: [names[i]], lambda i: [images[i]]
    # One is the end of the other: the whole of one is a key, and every end of the other.
    yield (
        "path suffix",
        lambda i: [f"their {end}" for end in _ends(paths[i] or names[i])] + [f"our {names[i]}"],
        lambda i: [f"their {images[i].lstrip('/')}"] + [f"our {end}" for end in _ends(images[i])],
    )
    yield "file name", lambda i: [posixpath.basename(names[i])], lambda i: [posixpath.basename(images[i])]


def _chosen(predictions: Predictions, labelled: _Labelled, found: dict[int, int]) -> tuple[Ints, dict[int, str], int]:
    """The row of each labelled face, why others have none, and how many images had several to choose from."""
    rows = np.full(len(labelled.face_names), -1)
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, image in enumerate(predictions.image_of.tolist()):
        rows_of[image].append(row)
    num_several = 0
    for image, other in found.items():
        members, candidates = labelled.members[image], rows_of[other]
        num_several += len(candidates) > 1
        rows[members] = _faces_of(predictions, labelled, members, candidates)
    reasons = {}
    for image, members in enumerate(labelled.members):
        why = _NO_SUCH_FACE
        if image not in found:
            why = _UNMATCHED
        elif not rows_of[found[image]]:
            why = predictions.misses[found[image]] or EMPTY_ROW
        reasons.update({member: why for member in members if rows[member] < 0})
    return rows, reasons, num_several


def _faces_of(predictions: Predictions, labelled: _Labelled, members: list[int], rows: list[int]) -> list[int]:
    """Which of the rows of an image is each labelled face's; -1 for none."""
    boxes = [labelled.boxes[member] for member in members]
    chosen = [-1] * len(members)
    if not rows:
        return chosen
    if predictions.boxes is not None and all(box is not None for box in boxes):
        overlap = iou(np.array(boxes, np.float64), np.nan_to_num(predictions.boxes[rows]))
        for member, row in np.stack(linear_sum_assignment(overlap, maximize=True), axis=1).tolist():
            if overlap[member, row] >= _SAME_FACE_IOU:
                chosen[member] = rows[row]
    elif len(members) == 1:
        areas = np.zeros(len(rows))
        if predictions.boxes is not None:
            x1, y1, x2, y2 = np.nan_to_num(predictions.boxes[rows]).T
            areas = (x2 - x1) * (y2 - y1)
        chosen[0] = rows[int(areas.argmax())]
    return chosen


def _ends(path: str) -> list[str]:
    """The ends of a path, two components and longer."""
    parts = path.strip("/").split("/")
    return ["/".join(parts[start:]) for start in range(len(parts) - 1)]


def _given(path: str | None) -> list[str]:
    return [path] if path else []


def _named(names: Iterable[str]) -> Named:
    listed = list(names)
    return Named(len(listed), tuple(listed[:NAMED]))
