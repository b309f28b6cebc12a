"""Labelled images -> their predictions, found by path and, where an image has several faces, by box."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from motivnet_cli.evaluation.predictions import EMPTY_ROW, ends_with
from motivnet_cli.evaluation.results import Matching, Names
from motivnet_cli.faces.boxes import areas, iou
from motivnet_cli.inputs.names import printable
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.evaluation.predictions import Predictions
    from motivnet_cli.records import Box

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_UNMATCHED, _AMBIGUOUS = "not in the predictions", "several predictions could be meant"
_NO_SUCH_FACE = "no predicted face at the labelled one"
_SAME_FACE_IOU = 0.3
"""Detectors differ in how much of a head they call the face; tracks take the same bound."""


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """The predictions of N labelled images, in the order of the images."""

    rows: Ints
    """[N], row of the predictions, -1 for none."""
    predicted: Ints
    """[N], ids 0 to 6, -1 for none: as `metrics.score` takes it."""
    probabilities: Floats | None
    """[N, 7], NaN for none; None where the tool gives labels only."""
    reasons: dict[int, str]
    """Why an image has none, by its index: one of `Predictions.misses`, `not in the predictions`,
    `several predictions could be meant`, or `no predicted face at the labelled one`."""
    summary: Matching


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
    pairs = _pair(predictions, labelled)
    rows, reasons, num_several = _choose_rows(predictions, labelled, pairs.found)
    for image in pairs.ambiguous:
        reasons.update(dict.fromkeys(labelled.faces[image], _AMBIGUOUS))
    has_row = rows >= 0
    predicted = np.full(len(names), -1)  # [N]
    predicted[has_row] = predictions.predicted[rows[has_row]]
    probabilities = None
    if predictions.probabilities is not None:
        probabilities = np.full((len(names), len(EMOTIONS)), np.nan)  # [N, 7]
        probabilities[has_row] = predictions.probabilities[rows[has_row]]
    used = set(pairs.found.values())
    which = "the first row" if predictions.boxes is None else "the one at the label's box, or else the largest,"
    summary = Matching(
        how=pairs.how,
        unmatched=Names.of([names[face] for face, reason in reasons.items() if reason == _UNMATCHED]),
        ambiguous=Names.of([names[face] for face, reason in reasons.items() if reason == _AMBIGUOUS]),
        unused=Names.of([name for number, name in enumerate(predictions.images) if number not in used]),
        remarks=(f"{num_several} images have several predicted faces: {which} was taken",) if num_several else (),
    )
    return Matched(rows=rows, predicted=predicted, probabilities=probabilities, reasons=reasons, summary=summary)


class _Labelled:
    """Labelled faces by image.

    Faces of one image share its file, and their names end in `#k`; where there is no file, each is an image.
    """

    def __init__(self, names: Sequence[str], paths: Sequence[str | None], boxes: Sequence[Box | None]) -> None:
        self.names: list[str] = []
        """Of the images."""
        self.paths: list[str | None] = []
        """Of the images."""
        self.faces: list[list[int]] = []
        """The labelled faces of each image, by their index in `names` as given."""
        self.boxes = boxes
        """Of the faces."""
        numbers: dict[tuple[str, str | None], int] = {}
        for face, (name, raw_path) in enumerate(zip(names, paths, strict=True)):
            path = printable(os.path.normpath(raw_path)) if raw_path else None
            image = printable(name)
            if path and not ends_with(path, image):
                image = re.sub(r"#\d+$", "", image)
            number = numbers.setdefault((image, path), len(numbers))
            if number == len(self.faces):
                self.names.append(image)
                self.paths.append(path)
                self.faces.append([])
            self.faces[number].append(face)


# ---- images to images -------------------------------------------------------------------------------------


class _Pairs(NamedTuple):
    found: dict[int, int]
    """Labelled image -> predicted image."""
    how: dict[str, int]
    """Labelled faces by the way their image was found."""
    ambiguous: set[int]
    """Labelled images for which several predicted images, or none alone, could be meant."""


class _Way(NamedTuple):
    """A way of pairing: images are paired that share a key."""

    name: str
    keys_of_labelled: Callable[[int], list[str]]
    keys_of_predicted: Callable[[int], list[str]]


def _pair(predictions: Predictions, labelled: _Labelled) -> _Pairs:
    found: dict[int, int] = {}
    how: Counter[str] = Counter()
    ambiguous: set[int] = set()
    for way in _ways(predictions, labelled):
        free = set(range(len(predictions.images))) - set(found.values())
        # A file name is unique only if no labelled image shares it, be that one paired or not.
        asking = [i for i in range(len(labelled.names)) if i not in found or way.name == "file name"]
        candidates, wanted_by = _candidates(way, asking, free)
        for image, others in candidates.items():
            if image in found:
                continue
            if len(others) == 1 and len(wanted_by[only := next(iter(others))]) == 1:
                found[image] = only
                how[way.name] += len(labelled.faces[image])
            else:
                ambiguous.add(image)
    return _Pairs(found, dict(how), ambiguous - set(found))


def _candidates(way: _Way, labelled: list[int], predicted: set[int]) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
    """The predicted images that share a key with each labelled one, and the other way round."""
    by_key: dict[str, list[int]] = defaultdict(list)
    for other in sorted(predicted):
        for key in way.keys_of_predicted(other):
            by_key[key].append(other)
    candidates: dict[int, set[int]] = defaultdict(set)
    wanted_by: dict[int, set[int]] = defaultdict(set)
    for image in labelled:
        for other in (other for key in way.keys_of_labelled(image) for other in by_key.get(key, ())):
            candidates[image].add(other)
            wanted_by[other].add(image)
    return candidates, wanted_by


def _ways(predictions: Predictions, labelled: _Labelled) -> Iterator[_Way]:
    """The ways of pairing, strictest first."""
    images, names, paths = predictions.images, labelled.names, labelled.paths
    yield _Way("absolute path", lambda i: _if_any(paths[i]), lambda i: _if_any(predictions.paths[i]))
    yield _Way("relative path", lambda i: [names[i]], lambda i: [images[i]])
    # One is the end of the other: the whole of one is a key, and so is every end of the other.
    yield _Way(
        "path suffix",
        lambda i: [f"predicted {end}" for end in _ends(paths[i] or names[i])] + [f"labelled {names[i]}"],
        lambda i: [f"predicted {images[i].lstrip('/')}"] + [f"labelled {end}" for end in _ends(images[i])],
    )
    yield _Way("file name", lambda i: [posixpath.basename(names[i])], lambda i: [posixpath.basename(images[i])])


def _ends(path: str) -> list[str]:
    """The ends of a path, two components and longer."""
    parts = path.strip("/").split("/")
    return ["/".join(parts[start:]) for start in range(len(parts) - 1)]


def _if_any(path: str | None) -> list[str]:
    return [path] if path else []


# ---- faces to rows ----------------------------------------------------------------------------------------


def _choose_rows(
    predictions: Predictions, labelled: _Labelled, found: dict[int, int]
) -> tuple[Ints, dict[int, str], int]:
    """The row of each labelled face, why others have none, and how many images had several to choose from."""
    rows = np.full(len(labelled.boxes), -1)  # [N]
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, image in enumerate(predictions.image_of.tolist()):
        rows_of[image].append(row)
    num_several = 0
    for image, other in found.items():
        faces, candidates = labelled.faces[image], rows_of[other]
        num_several += len(candidates) > 1
        rows[faces] = _rows_of_faces(predictions, [labelled.boxes[face] for face in faces], candidates)
    reasons = {}
    for image, faces in enumerate(labelled.faces):
        reason = _NO_SUCH_FACE
        if image not in found:
            reason = _UNMATCHED
        elif not rows_of[found[image]]:
            reason = predictions.misses[found[image]] or EMPTY_ROW
        reasons.update({face: reason for face in faces if rows[face] < 0})
    return rows, reasons, num_several


def _rows_of_faces(predictions: Predictions, boxes: list[Box | None], rows: list[int]) -> list[int]:
    """Which of the rows of an image belongs to each of its labelled faces; -1 for none."""
    chosen = [-1] * len(boxes)
    if not rows:
        return chosen
    if predictions.boxes is not None and all(box is not None for box in boxes):
        overlap = iou(np.array(boxes, np.float64), np.nan_to_num(predictions.boxes[rows]))  # [faces, rows]
        for face, row in np.stack(linear_sum_assignment(overlap, maximize=True), axis=1).tolist():
            if overlap[face, row] >= _SAME_FACE_IOU:
                chosen[face] = rows[row]
    elif len(boxes) == 1:
        largest = 0 if predictions.boxes is None else int(areas(np.nan_to_num(predictions.boxes[rows])).argmax())
        chosen[0] = rows[largest]
    return chosen
