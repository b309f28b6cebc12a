"""Labelled images -> their predictions, found by path and, where an image has several faces, by box."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.answers import EMPTY_ROW
from motivnet_cli.evaluation.calibration import among
from motivnet_cli.evaluation.datasets.layouts import image_count
from motivnet_cli.evaluation.predictions import UNSURE_LABEL_COLUMNS, ends_with
from motivnet_cli.evaluation.results import Matching, Names
from motivnet_cli.faces.boxes import areas, iou
from motivnet_cli.inputs.names import kind_of, printable
from motivnet_cli.inputs.table import squeezed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.evaluation.datasets.layouts import Unit
    from motivnet_cli.evaluation.predictions import Predictions
    from motivnet_cli.records import Box

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_UNMATCHED, _AMBIGUOUS = "not in the predictions", "several predictions could be meant"
_OTHER_FOLDER = "only predictions of another split or class have its name"
_NO_SUCH_FACE = "no predicted face at the labelled one"
_NOT_FOUND = frozenset({_UNMATCHED, _AMBIGUOUS, _OTHER_FOLDER})
_SAME_FACE_IOU = 0.3
"""Detectors differ in how much of a head they call the face; tracks take the same bound."""
_FEW = 0.9
"""Share of the labelled images, below which it is said how many were found. A tool that leaves out images without a
face lacks a few percent of a set (CK+, RAF-DB); predictions of another copy or split lack most."""
_MANY_RIGHT = 10
"""Labelled images that are all right, from which on a column of labels may be the truth."""
_MAX_EXAMPLES = 3
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SPLIT_FOLDER = re.compile(rf"(?:[a-z]*[0-9]+)?({'|'.join(_SPLITS)})(?:[_-]?set)?")
"""A folder that holds one split: `train`, `val_set`, `FER2013Test`."""


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """The predictions of N labelled images, in the order of the images."""

    rows: Ints
    """[N], row of the predictions, -1 for none."""
    predicted: Ints
    """[N], ids of the C classes, -1 for none: as `metrics.score` takes it."""
    probabilities: Floats | None
    """[N, C], NaN for none; None where the tool gives labels only."""
    reasons: dict[int, str]
    """Why an image has none, by its index: one of `Predictions.misses`, `not in the predictions`,
    `several predictions could be meant`, `only predictions of another split or class have its name`,
    `no predicted face at the labelled one`, or `no probability for any class that is labelled`."""
    is_found: Bools
    """[N], whether the predictions have the image, be it with a face or without."""
    doubts: tuple[str, ...]
    """What speaks against the images that were found: they may be others of the same names."""
    unit: Unit
    summary: Matching


def match(
    predictions: Predictions,
    names: Sequence[str],
    paths: Sequence[str | None],
    *,
    boxes: Sequence[Box | None] | None = None,
    aliases: Sequence[str | None] | None = None,
    unit: Unit = "image",
) -> Matched:
    """Find the prediction of each labelled image: the strictest way that pairs two images alone counts.

    The ways, in turn, for images that are not paired yet: the same absolute path; the same path below the set's
    folder; the set's other name of the image; one path the end of the other, by two components or more; the same file
    name, if no other labelled image and no other prediction has it; the same for a clip, without the ending of a video.
    From the path's end on no images of two splits are paired, from the file name on none in the folders of two classes.
    Of several faces the one at the label's box counts (IoU at least 0.3), without boxes of labels the largest, without
    any boxes the first.

    Args:
        names: [N] paths below the set's folder, unique; `#k` at the end tells faces of one image apart.
        paths: [N] absolute paths; None where there is no file.
        boxes: [N] of the labelled faces.
        aliases: [N] other names of the images, each of one image alone.
    """
    none = [None] * len(names)
    labelled = _Labelled(names, paths, boxes or none, aliases or none)
    pairs = _pair(predictions, labelled)
    rows, reasons, num_several = _choose_rows(predictions, labelled, pairs.found)
    for image in pairs.ambiguous:
        reasons.update(dict.fromkeys(labelled.faces[image], _AMBIGUOUS))
    has_row = rows >= 0
    predicted = np.full(len(names), -1)  # [N]
    predicted[has_row] = predictions.predicted[rows[has_row]]
    probabilities = None
    if predictions.probabilities is not None:
        probabilities = np.full((len(names), predictions.probabilities.shape[1]), np.nan)  # [N, C]
        probabilities[has_row] = predictions.probabilities[rows[has_row]]
    for image in pairs.contradicted:
        reasons.update(dict.fromkeys(labelled.faces[image], _OTHER_FOLDER))
    used = set(pairs.found.values())
    which = "the first row" if predictions.boxes is None else "the one at the label's box, or else the largest,"
    summary = Matching(
        how=pairs.how,
        unmatched=Names.of([names[face] for face, reason in reasons.items() if reason == _UNMATCHED]),
        ambiguous=Names.of([names[face] for face, reason in reasons.items() if reason == _AMBIGUOUS]),
        unused=Names.of([name for number, name in enumerate(predictions.images) if number not in used]),
        contradicted=Names.of([names[face] for face, reason in reasons.items() if reason == _OTHER_FOLDER]),
        remarks=(f"{num_several} images have several predicted faces: {which} was taken",) if num_several else (),
    )
    return Matched(
        rows=rows,
        predicted=predicted,
        probabilities=probabilities,
        reasons=reasons,
        is_found=np.array([reasons.get(face) not in _NOT_FOUND for face in range(len(names))], np.bool_),
        unit=unit,
        doubts=(*_doubts(predictions, labelled, pairs, unit), *_doubts_on_twins(predictions, rows)),
        summary=summary,
    )


def restricted(matched: Matched, allowed: Bools) -> Matched:
    """The same as if only some classes could be predicted: the others' probabilities are 0, and rows sum to 1 again.

    An image whose allowed classes all have a probability of 0 has no prediction.

    Args:
        allowed: [C], whether each class may be predicted.

    Raises:
        ConfigError: There are no probabilities.
    """
    if matched.probabilities is None:
        raise ConfigError(
            "the predictions are labels without probabilities: --argmax labelled takes the most probable of the "
            "classes that are labelled, so leave it out or give probabilities"
        )
    probabilities = among(matched.probabilities, allowed)  # [N, C]
    has_answer = np.isfinite(probabilities).all(axis=1)  # [N]
    predicted = np.where(has_answer, np.nan_to_num(probabilities).argmax(axis=1), -1)
    keeps = (matched.predicted >= 0) & allowed[matched.predicted]  # of equals, what a tool's label may have decided
    predicted[keeps] = matched.predicted[keeps]
    lost = np.flatnonzero(~has_answer & (matched.predicted >= 0)).tolist()
    reasons = matched.reasons | dict.fromkeys(lost, "no probability for any class that is labelled")
    return replace(matched, predicted=predicted, probabilities=probabilities, reasons=reasons)


class _Labelled:
    """Labelled faces by image.

    Faces of one image share its file, and their names end in `#k`; where there is no file, each is an image.
    """

    def __init__(
        self,
        names: Sequence[str],
        paths: Sequence[str | None],
        boxes: Sequence[Box | None],
        aliases: Sequence[str | None],
    ) -> None:
        self.names: list[str] = []
        """Of the images."""
        self.paths: list[str | None] = []
        """Of the images."""
        self.aliases: list[str | None] = []
        """Of the images."""
        self.faces: list[list[int]] = []
        """The labelled faces of each image, by their index in `names` as given."""
        self.boxes = boxes
        """Of the faces."""
        numbers: dict[tuple[str, str | None], int] = {}
        for face, (name, raw_path, alias) in enumerate(zip(names, paths, aliases, strict=True)):
            path = printable(os.path.normpath(raw_path)) if raw_path else None
            image = printable(name)
            if path and not ends_with(path, image):
                image = re.sub(r"#\d+$", "", image)
            number = numbers.setdefault((image, path), len(numbers))
            if number == len(self.faces):
                self.names.append(image)
                self.paths.append(path)
                self.aliases.append(alias)
                self.faces.append([])
            self.faces[number].append(face)


# ---- images to images -------------------------------------------------------------------------------------


class Images(Protocol):
    """Images that have predictions, by name."""

    @property
    def images(self) -> Sequence[str]:
        """Each once, with forward slashes."""

    @property
    def paths(self) -> Sequence[str | None]:
        """Absolute paths, where they are known."""


def pair_images(predicted: Images, names: Sequence[str], paths: Sequence[str | None]) -> Pairs:
    """Find labelled images among others by their names alone, in the ways of `match`.

    Args:
        names: [N] as `match` takes them, each once.
        paths: [N] absolute paths, where they are known.
    """
    none = [None] * len(names)
    return _pair(predicted, _Labelled(names, paths, none, none))


class Pairs(NamedTuple):
    """Which predicted image each labelled one is."""

    found: dict[int, int]
    """Labelled image -> predicted image."""
    how: dict[str, int]
    """Labelled faces by the way their image was found."""
    ambiguous: set[int]
    """Labelled images for which several predicted images, or none alone, could be meant."""
    contradicted: set[int]
    """Labelled images whose name only predictions in the folders of another split or class have."""
    by_file_name: list[int]
    """Labelled images that were found by their file name alone."""


class _Way(NamedTuple):
    """A way of pairing: images are paired that share a key."""

    name: str
    keys_of_labelled: Callable[[int], list[str]]
    keys_of_predicted: Callable[[int], list[str]]
    contradicts: Callable[[int, int], bool] = lambda _image, _other: False
    """Whether folders say that a labelled and a predicted image are two, although they share a key."""


def _pair(predictions: Images, labelled: _Labelled) -> Pairs:
    found: dict[int, int] = {}
    how: Counter[str] = Counter()
    ambiguous: set[int] = set()
    contradicted: set[int] = set()
    by_file_name: list[int] = []
    ways = _ways(predictions, labelled)
    if not all(map(str.isascii, (*predictions.images, *labelled.names, *filter(None, labelled.paths)))):
        ways = _in_each_form(ways)
    for way in ways:
        free = set(range(len(predictions.images))) - set(found.values())
        # A file name is unique only if no labelled image shares it, be that one paired or not.
        asking = [i for i in range(len(labelled.names)) if i not in found or way.name in (_FILE_NAME, _CLIP_NAME)]
        candidates, wanted_by = _candidates(way, asking, free)
        for image, others in candidates.items():
            if image in found:
                continue
            if len(others) != 1 or len(wanted_by[only := next(iter(others))]) != 1:
                ambiguous.add(image)
            elif way.contradicts(image, only):
                contradicted.add(image)
            else:
                found[image] = only
                how[way.name] += len(labelled.faces[image])
                if way.name in (_FILE_NAME, _CLIP_NAME):
                    by_file_name.append(image)
    ambiguous -= set(found)
    return Pairs(found, dict(how), ambiguous, contradicted - set(found) - ambiguous, by_file_name)


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


def _in_each_form(ways: Iterable[_Way]) -> Iterator[_Way]:
    """Each way by the names as they are, then by Unicode's composed form of them.

    macOS and other systems write the same letters in different characters.
    """

    def composed(keys_of: Callable[[int], list[str]]) -> Callable[[int], list[str]]:
        return lambda i: [unicodedata.normalize("NFC", key) for key in keys_of(i)]

    for way in ways:
        yield way
        yield way._replace(
            keys_of_labelled=composed(way.keys_of_labelled), keys_of_predicted=composed(way.keys_of_predicted)
        )


def _ways(predictions: Images, labelled: _Labelled) -> Iterator[_Way]:
    """The ways of pairing, strictest first."""
    images, names, paths = predictions.images, labelled.names, labelled.paths
    full = [paths[i] or names[i] for i in range(len(names))]
    classes = {_folder(name).casefold() for name in names} - {""}

    def of_two_splits(image: int, other: int) -> bool:
        ours, theirs = _split_of(full[image]), _split_of(predictions.paths[other] or images[other])
        return ours is not None and theirs is not None and ours != theirs

    def of_two_folders(image: int, other: int) -> bool:
        ours, theirs = _folder(names[image]).casefold(), _folder(images[other]).casefold()
        return of_two_splits(image, other) or (ours != theirs and theirs in classes)

    yield _Way("absolute path", lambda i: _if_any(paths[i]), lambda i: _if_any(predictions.paths[i]))
    yield _Way("relative path", lambda i: [names[i]], lambda i: [images[i]], of_two_splits)
    yield _Way("other name", lambda i: _if_any(labelled.aliases[i]), lambda i: [posixpath.basename(images[i])])
    # One is the end of the other: the whole of one is a key, and so is every end of the other.
    yield _Way(
        "path suffix",
        lambda i: [f"predicted {end}" for end in _ends(full[i])] + [f"labelled {names[i]}"],
        lambda i: [f"predicted {images[i].lstrip('/')}"] + [f"labelled {end}" for end in _ends(images[i])],
        of_two_splits,
    )
    yield _Way(
        _FILE_NAME,
        lambda i: [posixpath.basename(names[i])],
        lambda i: [posixpath.basename(images[i])],
        of_two_folders,
    )
    yield _Way(_CLIP_NAME, lambda i: [_clip_name(names[i])], lambda i: [_clip_name(images[i])], of_two_folders)


_FILE_NAME = "file name"
_CLIP_NAME = "clip name"


def _clip_name(path: str) -> str:
    """The last name of a path, without the ending of a video: `7.mp4`, `7.avi` and the folder `7` are one clip."""
    name = posixpath.basename(path)
    return posixpath.splitext(name)[0] if kind_of(name) == "video" else name


def _folder(path: str) -> str:
    """The name of the folder that a file lies in; empty where the path has none."""
    return posixpath.basename(posixpath.dirname(path))


def _split_of(path: str) -> str | None:
    """`train`, `val` or `test`, where the innermost folder that is named after a split says so."""
    for name in reversed(path.casefold().split("/")[:-1]):
        if match := _SPLIT_FOLDER.fullmatch(name):
            return _SPLITS[match[1]]
    return None


def _ends(path: str) -> list[str]:
    """The ends of a path, two components and longer."""
    parts = path.strip("/").split("/")
    return ["/".join(parts[start:]) for start in range(len(parts) - 1)]


def _if_any(path: str | None) -> list[str]:
    return [path] if path else []


# ---- too few pairs ----------------------------------------------------------------------------------------


def refuse_other_pictures(predictions: Predictions, matched: Matched, names: Sequence[str]) -> None:
    """End where no labelled image is among the predictions: figures would say something of a wrong name only.

    Args:
        names: [N], of the labelled images.

    Raises:
        ConfigError: None is.
    """
    if matched.is_found.any():
        return
    units = f"{matched.unit}s"
    source, images = predictions.source, predictions.images
    if not images:
        raise ConfigError(f"{source!r} holds no image: the table has no rows. Predict again, or give another table")
    why = ""
    if num_ambiguous := matched.summary.ambiguous.n:
        why = f" ({num_ambiguous:,} could each be several, by their names)"
    elif num_contradicted := matched.summary.contradicted.n:
        why = f" (of {num_contradicted:,} the name occurs in the folder of another split or class)"
    raise ConfigError(
        f"none of the {len(names):,} labelled {units} is found in {source!r}{why}: the set has {_examples(names)}, and "
        f"the predictions have {_examples(images)}. Give predictions of this set and split, and write their paths "
        "below the set's folder"
    )


def remarks_on(predictions: Predictions, matched: Matched, labels: Ints) -> Iterator[str]:
    """What must be said first of predictions and of the images that they were matched with.

    Args:
        labels: [N], ids of the labelled images.
    """
    found = (_remark_on_few(predictions, matched), _remark_on_truth(predictions, matched, labels))
    yield from (remark for remark in found if remark)
    yield from matched.doubts
    yield from predictions.doubts


def _remark_on_few(predictions: Predictions, matched: Matched) -> str | None:
    """What must be said first where many labelled images are not among the predictions."""
    num, num_found = len(matched.is_found), int(matched.is_found.sum())
    if num_found >= _FEW * num:
        return None
    summary = matched.summary
    others = [
        f"{names.n:,} {what}, such as {names.first[0]!r}"
        for names, what in (
            (summary.unmatched, "are not there"),
            (summary.ambiguous, "could each be several"),
            (summary.contradicted, "have their name in the folder of another split or class only"),
        )
        if names.n
    ]
    return (
        f"only {num_found:,} of {num:,} labelled {matched.unit}s are found in {predictions.source!r} "
        f"({'; '.join(others)}): over all, the others count as wrong"
    )


def remark_on_shared(name_a: str, a: Matched, name_b: str, b: Matched) -> str | None:
    """What must be said where two predictions share few of the labelled images.

    Raises:
        ConfigError: They share none, so that a test of their difference would test which images were predicted.
    """
    num, num_shared = len(a.is_found), int((a.is_found & b.is_found).sum())
    if not num_shared:
        raise ConfigError(
            f"{name_a!r} and {name_b!r} share no labelled {a.unit} ({int(a.is_found.sum()):,} and "
            f"{int(b.is_found.sum()):,} of {num:,} are found): compare predictions of the same {a.unit}s"
        )
    if num_shared >= _FEW * num:
        return None
    return (
        f"only {num_shared:,} of {num:,} labelled {a.unit}s are in both {name_a!r} and {name_b!r}: over all, what "
        f"one lacks counts as its mistake; go by the {a.unit}s that both scored"
    )


def _examples(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_EXAMPLES:,} more" if len(names) > _MAX_EXAMPLES else ""
    return f"{', '.join(map(repr, names[:_MAX_EXAMPLES]))}{more}"


def _doubts(predictions: Predictions, labelled: _Labelled, pairs: Pairs, unit: Unit) -> Iterator[str]:
    """Images that only a file name pairs may be two: say so where something else speaks against it."""
    images, found = predictions.images, pairs.found
    elsewhere = [
        i
        for i in pairs.by_file_name
        if _folder(labelled.names[i]) and _folder(images[found[i]]) not in ("", _folder(labelled.names[i]))
    ]
    if elsewhere:
        first = elsewhere[0]
        yield (
            f"{image_count(len(elsewhere), unit)} found by file name alone, in other folders "
            f"({labelled.names[first]!r} as {images[found[first]]!r}): see that they are the same pictures"
        )
    elif pairs.by_file_name and len(images) > 2 * len(found):
        yield (
            f"{image_count(len(pairs.by_file_name), unit)} found by file name alone, and most predictions are of "
            f"others ({len(images) - len(found):,}): see that they are the same pictures"
        )


def _doubts_on_twins(predictions: Predictions, rows: Ints) -> Iterator[str]:
    """Rows of one face that say different things, as where the tables of two runs were joined: either could be meant.

    Args:
        rows: [N], those that were taken, -1 for none.
    """
    if len(predictions.image_of) == len(np.unique(predictions.image_of)):
        return
    boxes = np.zeros((len(predictions.image_of), 0)) if predictions.boxes is None else predictions.boxes
    frames = np.zeros(len(boxes)) if predictions.frame_of is None else predictions.frame_of
    said = predictions.predicted[:, None] if predictions.probabilities is None else predictions.probabilities
    face = np.column_stack([predictions.image_of, frames, np.nan_to_num(boxes, nan=-1)])  # [R, 2 or 6]
    _, face_of = np.unique(face, axis=0, return_inverse=True)
    _, first = np.unique(face_of, return_index=True)
    differs = np.any(said != said[first[face_of]], axis=1)
    taken = np.unique(rows[rows >= 0])
    twins = taken[np.isin(face_of[taken], face_of[differs])]
    if len(twins):
        name = predictions.images[predictions.image_of[twins[0]]]
        yield (
            f"of {len(twins):,} images several rows of {predictions.source!r} say different things, and no box tells "
            f"whether of one face ({name!r}): the first was taken"
        )


def _remark_on_truth(predictions: Predictions, matched: Matched, labels: Ints) -> str | None:
    """What must be said where a column that may hold the true labels was taken for predictions, and all are right."""
    column = predictions.columns.get("label")
    is_scored = matched.rows >= 0
    if column is None or squeezed(column) not in map(squeezed, UNSURE_LABEL_COLUMNS) or is_scored.sum() < _MANY_RIGHT:
        return None
    if np.any(matched.predicted[is_scored] != labels[is_scored]):
        return None
    return (
        f"all {int(is_scored.sum()):,} labels in the column {column!r} of {predictions.source!r} are right: see that "
        "they are predictions and not the set's own labels. Give a column of predictions the name pred"
    )


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
