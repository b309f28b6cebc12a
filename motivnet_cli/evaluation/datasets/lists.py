"""Lists that name the images of a split with their labels: a line each, a JSON object by class, or YOLO's files."""

from __future__ import annotations

import json
import posixpath
import re
from collections import Counter, defaultdict
from math import isfinite
from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.evaluation.datasets.by_class import check_numbers, chosen_split, split_named, split_of_words
from motivnet_cli.evaluation.datasets.classes import is_number
from motivnet_cli.evaluation.datasets.disk import join_path, normalise_label, read_lines, read_text, start_of
from motivnet_cli.evaluation.datasets.layouts import SEARCH_DEPTH, Layout, Row, SplitRows
from motivnet_cli.inputs.decode import upright_size
from motivnet_cli.inputs.names import kind_of, suffix_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from motivnet_cli.evaluation.datasets.layouts import Paths, Recognised, Request
    from motivnet_cli.records import Box

_SUFFIXES = (".txt", ".lst", ".list")
_JSON_START = re.compile(r'\s*\{\s*"[^"]*"\s*:\s*\[\s*["\]]')
_MAX_JSON = 20
"""Files of one folder that are looked into: more are annotations, one for each image."""
_PREDICTED = frozenset({"pred", "preds", "predicted", "prediction", "predictions", "result", "results", "output"})
"""Words in the names of lists that hold what a tool answered."""
_NUM_SAMPLED = 100
"""Images of an index that are looked for in each folder that may hold them."""

# ---- where the images of an index lie ---------------------------------------------------------------------


def folder_of_images(request: Request, index: str, names: Sequence[str]) -> str:
    """The folder below which most of a hundred of these relative paths are files.

    Raises:
        ConfigError: No folder holds any, or two hold as many.
    """
    sample = names[:: max(1, len(names) // _NUM_SAMPLED)]
    most, chosen = 0, [""]
    depth = 0 if all(map(posixpath.isabs, sample)) else SEARCH_DEPTH + 1  # absolute paths lie in no folder
    for level in request.disk.levels(request.root, depth):
        for folder in level:
            hits = sum(request.disk.find(join_path(folder, name)) is not None for name in sample)
            if hits > most:
                most, chosen = hits, [folder]
            elif hits == most:
                chosen.append(folder)
    if not most:
        raise ConfigError(
            f"{request.card.name}: {index!r} is there, but no folder under {request.root!r} holds the images that it "
            "names"
        )
    if len(chosen) > 1:
        raise ConfigError(
            f"{request.card.name}: {' and '.join(map(repr, chosen[:2]))} both hold the images that {index!r} names: "
            "move one away"
        )
    return chosen[0]


# ---- a line for each image --------------------------------------------------------------------------------


def _recognise_lists(request: Request, folder: str) -> Paths:
    """Lists by the split in their names, such as `affectnet_validation-cls7.txt`.

    Raises:
        ConfigError: Two could be the same split.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for name in request.disk.files(folder):
        split = split_of_words(posixpath.splitext(name)[0])
        if (
            split
            and suffix_of(name) in _SUFFIXES
            and not _is_of_predictions(name)
            and _parsed(start_of(f"{folder}/{name}").partition("\n")[0])
        ):
            found[split].append(f"{folder}/{name}")
    # Copies of AffectNet have lists of seven and of eight classes side by side.
    mark = f"cls{request.card.name[-1]}"
    lists = {split: [path for path in paths if mark in path] or paths for split, paths in found.items()}
    return _one_each(request, lists)


def _is_of_predictions(name: str) -> bool:
    return not _PREDICTED.isdisjoint(re.split(r"[^a-z]+", name.casefold()))


def _one_each(request: Request, lists: Mapping[str, Sequence[str]]) -> Paths:
    for split, paths in lists.items():
        if len(paths) > 1:
            names = " and ".join(map(repr, paths))
            raise ConfigError(f"{request.card.name}: {names} could all list the split {split}: move the others away")
    return {split: paths[0] for split, paths in lists.items()}


def _parsed(line: str) -> tuple[str, str] | None:
    """The path and the label of a line; None where it is none."""
    path, _, label = line.replace("\t", " ").rpartition(" ")
    return (path.strip(), normalise_label(label)) if kind_of(path.strip()) == "image" else None


def _read_lists(request: Request, found: Recognised) -> SplitRows:
    split, word, remarks = chosen_split(request, found)
    index = found.paths[word]
    dropped: Counter[str] = Counter()
    pairs = []
    for line in read_lines(index):
        if pair := _parsed(line):
            pairs.append(pair)
        else:
            dropped["line not understood"] += 1
    return _of_pairs(request, index, pairs, split=split, dropped=dropped, remarks=remarks)


def _of_pairs(
    request: Request,
    index: str,
    pairs: Sequence[tuple[str, str]],
    *,
    split: str,
    dropped: Counter[str],
    remarks: Sequence[str] = (),
) -> SplitRows:
    """Rows of (path below some folder, label).

    Raises:
        ConfigError: The images are not there, or the labels are numbers that can be read in more than one way.
    """
    check_numbers(request, {label for _, label in pairs}, "labels")
    folder = folder_of_images(request, index, [path for path, _ in pairs])
    rows = [Row(join_path(folder, path), label) for path, label in pairs]
    return SplitRows(
        split=split,
        rows=rows,
        faces=request.card.faces,
        dropped=dropped,
        remarks=remarks,
        from_index=True,
        names_classes=True,
    )


# ---- a JSON object of lists, as MotivNet's reference keeps its labels -------------------------------------


def _recognise_json(request: Request, folder: str) -> Paths:
    """`{"0": ["a.jpg", ...], ...}`: a class, and the names of its images; by the split in the file's name.

    Raises:
        ConfigError: Two could be the same split.
    """
    found: dict[str, list[str]] = defaultdict(list)
    files = request.disk.files(folder)
    names = [name for name in files if suffix_of(name) == ".json" and not _is_of_predictions(name)]
    for path in (f"{folder}/{name}" for name in names if len(names) <= _MAX_JSON):
        if _JSON_START.match(start_of(path)):
            found[split_of_words(posixpath.splitext(posixpath.basename(path))[0]) or "all"].append(path)
    return _one_each(request, found)


def _read_json(request: Request, found: Recognised) -> SplitRows:
    split, word, remarks = chosen_split(request, found)
    index = found.paths[word]
    try:
        classes = json.loads(read_text(index))
    except ValueError as error:
        raise ConfigError(f"{request.card.name}: {index!r} is no JSON: {error}") from error
    if not all(isinstance(names, list) for names in classes.values()):
        raise ConfigError(f'{request.card.name}: {index!r} must hold lists of names by class: {{"0": ["a.jpg"], ...}}')
    pairs = [(str(name), label) for label, names in classes.items() for name in names]
    return _of_pairs(request, index, pairs, split=split, dropped=Counter(), remarks=remarks)


# ---- YOLO: a label file for each image, and the names of the classes in data.yaml -------------------------


def _recognise_yolo(request: Request, folder: str) -> Paths:
    names = request.disk.child(folder, "data.yaml", "data.yml", "dataset.yaml")
    found = {
        split: f"{folder}/{name}"
        for name in request.disk.folders(folder)
        if (split := split_named(name)) and request.disk.child(folder, f"{name}/labels")
    }
    return {**found, "names": names} if names and found else {}


def _read_yolo(request: Request, found: Recognised) -> SplitRows:
    split, word, remarks = chosen_split(request, found)
    classes = _yolo_classes(found.paths["names"])
    if not classes:
        raise ConfigError(
            f"{request.card.name}: {found.paths['names']!r} has no line such as names: [anger, fear]: without it the "
            "numbers of the classes mean nothing"
        )
    check_numbers(request, classes.values(), "classes")
    images = request.disk.child(found.paths[word], "images") or found.paths[word]
    labels = request.disk.child(found.paths[word], "labels")
    dropped: Counter[str] = Counter()
    rows = []
    for name in request.disk.files(images):
        if kind_of(name) != "image":
            continue
        index = labels and request.disk.find(f"{labels}/{posixpath.splitext(name)[0]}.txt")
        lines = [*read_lines(index)] if index else []
        if not lines:
            dropped["no label file, or an empty one"] += 1
        understood = [face for line in lines if (face := _yolo_face(line, classes))]
        if len(understood) < len(lines):
            dropped["line not understood"] += len(lines) - len(understood)
        try:
            rows += _yolo_rows(f"{images}/{name}", understood)
        except InputError:
            dropped["box in a picture that cannot be opened"] += len(understood)
    has_boxes = any(row.box for row in rows)
    faces = "given" if has_boxes else request.card.faces
    return SplitRows(split=split, rows=rows, faces=faces, dropped=dropped, remarks=remarks, names_classes=True)


def _yolo_face(line: str, classes: Mapping[str, str]) -> tuple[str, Box | None] | None:
    """A line: number of the class, then centre, width and height as shares of the upright picture.

    Returns:
        The class, and the box with its sides as shares, None for the whole picture; None where the line is no such.
    """
    number, *numbers = line.split()
    try:
        x, y, width, height = map(float, numbers)
    except ValueError:
        return None
    if number not in classes or not (0 < width <= 1 and 0 < height <= 1 and isfinite(x) and isfinite(y)):
        return None
    is_whole = min(width, height) == 1
    return classes[number], None if is_whole else (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _yolo_rows(path: str, faces: Sequence[tuple[str, Box | None]]) -> list[Row]:
    """The faces of a picture, their boxes in its pixels.

    Raises:
        InputError: The picture has boxes, and cannot be opened.
    """
    if not any(box for _, box in faces):
        return [Row(path, label) for label, _ in faces]
    width, height = upright_size(path)
    scale = (width, height, width, height)
    return [Row(path, label, box=box and _scaled(box, scale)) for label, box in faces]


def _scaled(box: Box, scale: Box) -> Box:
    left, top, right, bottom = (side * factor for side, factor in zip(box, scale, strict=True))
    return left, top, right, bottom


def _yolo_classes(path: str) -> dict[str, str]:
    """Number -> name, from `names: [anger, ...]`, or a list or a mapping below `names:`."""
    text = read_text(path)
    if match := re.search(r"^names:\s*[\[{]([^\]}]*)[\]}]", text, re.MULTILINE):
        entries = match[1].split(",")
    else:
        block = re.search(r"^names:\s*\n((?:[ \t]*-.*\n?|[ \t]+\d+\s*:.*\n?)+)", text, re.MULTILINE)
        entries = block[1].splitlines() if block else []
    return dict(_entries(entries))


def _entries(entries: Sequence[str]) -> Iterator[tuple[str, str]]:
    for place, entry in enumerate(entries):
        key, colon, value = entry.strip().lstrip("-").partition(":")
        number, name = (key, value) if colon and is_number(key.strip()) else (str(place), entry.strip().lstrip("-"))
        yield number.strip(), name.strip().strip("'\"")


LISTS = Layout(_recognise_lists, _read_lists)
JSON = Layout(_recognise_json, _read_json)
YOLO = Layout(_recognise_yolo, _read_yolo)
