"""Rows of an index -> labelled images, with what was dropped on the way and what a reader must know.

Nothing is left out in silence: a row becomes an image or a count in `dropped`, and whatever departs from the published
set is said in `remarks`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.by_class import check_numbers
from motivnet_cli.evaluation.datasets.classes import (
    CONTEMPT,
    MISSING_LABELS,
    are_moved,
    emotion_named,
    is_number,
    refuse_contempt,
)
from motivnet_cli.evaluation.datasets.layouts import MAX_NAMES, image_count
from motivnet_cli.evaluation.datasets.sequences import frames_in
from motivnet_cli.inputs.names import kind_of, printable
from motivnet_cli.records import EMOTIONS, in_column_order, is_class_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from motivnet_cli.evaluation.datasets.card import Faces
    from motivnet_cli.evaluation.datasets.layouts import Cell, Request, Row, SplitRows, Unit
    from motivnet_cli.records import Box

DROP = "drop"
"""What a label map gives for labels that are not to be used."""
TABLES = ("csv", "parquet")
"""Sets that are one table."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """One labelled face, or one labelled clip: a video, or a folder of frames."""

    name: str
    """The path relative to the set's folder, with `/`, unique within the set; faces of one image end in `#0`, `#1`,
    in the order of the index. A row of FER2013's table has the name that FERPlus gives it, if FERPlus' list lies with
    it, else its number, from 0: `row-00012.png`."""
    path: str | None
    """Absolute; None where the picture is in a table."""
    label: int
    """Index into the set's `classes`."""
    subject: str | None = None
    """Who is in the picture, where the set says it."""
    box: Box | None = None
    """The labelled face, where the set says it."""
    pixels: NDArray[np.uint8] | None = None
    """[H, W], grey, 0 to 255; None where there is a file."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """What else the set says of it, by name, such as `gender`; a name that is not there is not known of this image."""
    alias: str | None = None
    """Another name that predictions may give this image; none that could mean a second one."""
    frames: tuple[str, ...] = ()
    """Of a clip that is a folder: the paths of its frames, in order."""
    cell: Cell | None = None
    """Where the picture stands if it is in a Parquet table; `path` and `pixels` are None then."""
    votes: Mapping[str, float] | None = None
    """Annotators by the class that they named, where the set has several; or the shares of the classes."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LabelledSet:
    """The images of a set's split that have one of its classes, and what became of the others."""

    dataset: str
    root: str
    """As given, absolute."""
    layout: str
    """One of the card's `layouts`."""
    split: str
    protocol: str | None
    images: tuple[Labelled, ...]
    dropped: dict[str, int]
    """Reason -> how many labelled faces of the split are not among the images."""
    remarks: tuple[str, ...]
    """What a reader of the figures must know: counts that differ from the published, files that are missing."""
    departures: tuple[str, ...]
    """Those of the remarks that say in what the images are not the published ones."""
    faces: Faces
    label_map: dict[str, str]
    """The set's labels that occur -> the emotion, or why such faces are dropped."""
    columns: tuple[str, ...] = ()
    """Names of what else can be asked for of the images, `subject` among them where the set says who is in them."""
    classes: tuple[str, ...] = EMOTIONS
    """The seven emotions, or these and contempt; those of a model that has others; or those that the labels name."""
    unit: Unit = "image"

    def __repr__(self) -> str:
        return f"LabelledSet({self.dataset}, {self.split}, {len(self.images)} images, dropped={self.dropped})"


def labelled_set(request: Request, rows: SplitRows, *, layout: str, base: str) -> LabelledSet:
    """The images of a split: labels mapped, missing files and repeated rows counted."""
    request = _resolved(request, rows)
    card, given = request.card, request.given
    selection = _Selection(request, base, rows.unit, Counter(rows.dropped))
    images = selection.images(rows)
    numbers = [label for label in (*selection.used, *selection.unknown) if is_number(label)]
    if are_moved(card.labels, numbers):  # a list that someone renumbered: all its classes are one off
        check_numbers(request, numbers, "labels")
    if selection.unknown and (rows.names_classes or card.name in TABLES):
        raise ConfigError(_unknown_labels(request, selection.unknown, "classes" if rows.names_classes else "labels"))
    dropped = selection.dropped
    for label, count in selection.unknown.items():
        dropped[f"unknown label {label!r}"] += count
    left_out = ", ".join(f"{reason} {count:,}" for reason, count in dropped.items())
    if not images:
        without = [label for label, meaning in selection.used.items() if meaning not in request.classes]
        meant = "EMOTION" if request.naming == "emotions" else request.classes[0]
        hint = f". --label-map says what a label counts as, such as {without[0]}={meant}" if without else ""
        raise ConfigError(
            f"{card.name}: no labelled {rows.unit} is left of {request.root!r} ({left_out or 'it is empty'}){hint}"
        )
    has_contempt = request.classes == (*EMOTIONS, CONTEMPT)
    num_contempt = sum(image.label >= len(EMOTIONS) for image in images) if has_contempt else 0
    if has_contempt and not num_contempt and not request.for_training:
        raise ConfigError(
            f"{card.name}: no {rows.unit} of contempt is in the split {rows.split!r}: leave out --contempt"
        )
    remarks = [*rows.remarks, *_remarks_on(selection)]
    if num_contempt:
        why = "so figures compare only with those of eight classes"
        remarks.append(f"{image_count(num_contempt, rows.unit)} of contempt kept as an eighth class, {why}")
    num_without = sum(image.box is None for image in images)
    if rows.faces == "given" and num_without:
        remarks.append(f"{image_count(num_without)} without a box: the face is looked for")
    num_subjects = sum(image.subject is not None for image in images)
    if 0 < num_subjects < len(images):
        remarks.append(
            f"the subject of {image_count(len(images) - num_subjects, rows.unit)} is not named: all are taken as "
            "independent, so that intervals and p are too small where subjects come back"
        )
    if given and request.naming == "emotions":
        remarks.append("labels go by the given label map, not only by the set's own")
    if (given or request.naming != "emotions") and not request.soft_columns:
        images = [replace(image, votes=None) for image in images]  # they go by the set's own classes
    if idle := sorted(given.keys() - {label.casefold() for label in selection.used}):
        more = f" and {len(idle) - MAX_NAMES} more" if len(idle) > MAX_NAMES else ""
        remarks.append(f"the label map names labels that do not occur here: {', '.join(idle[:MAX_NAMES])}{more}")
    counts = Counter(image.label for image in images)
    absent = _absent(request, rows, counts)
    departures = (*_missing(selection.missing, rows.unit), *_departures(request, rows, counts, dropped, absent))
    if absent and not request.for_training and _without(absent, rows.unit) not in departures:
        remarks.append(_without(absent, rows.unit))
    return LabelledSet(
        dataset=card.name,
        root=request.root,
        layout=layout,
        split=rows.split,
        protocol=rows.protocol,
        images=tuple(images),
        dropped={reason: count for reason, count in dropped.items() if count},
        remarks=(*remarks, *departures),
        departures=departures,
        faces=rows.faces,
        label_map=selection.used,
        columns=(*(["subject"] if num_subjects else []), *rows.columns),
        classes=request.classes,
        unit=rows.unit,
    )


def _resolved(request: Request, rows: SplitRows) -> Request:
    """The same, where labels may name whatever they say, with the classes that they name: emotions if all are such.

    Raises:
        ConfigError: A name cannot be a column of a table.
    """
    if request.naming != "labels":
        return request
    empty = {
        key: f"label {row.label!r}, which is none"
        for row in rows.rows
        if (key := _key(row.label)) in MISSING_LABELS and not request.soft_columns
    }
    given = empty | dict(request.given)
    left_out = request.left_out | (empty.keys() - request.given.keys())
    labels = request.soft_columns or [row.label for row in rows.rows]
    names = [given.get(_key(label), label.strip()) for label in labels if _key(label) not in left_out]
    if all(map(emotion_named, names)):
        given = {
            label: meaning if label in left_out else emotion_named(meaning) or "" for label, meaning in given.items()
        }
        return replace(request, naming="emotions", given=given)
    spellings: dict[str, str] = {name: name for name in (*EMOTIONS, CONTEMPT)}
    for name, _ in sorted(Counter(names).most_common(), key=lambda each: (-each[1], each[0])):
        spellings.setdefault(name.casefold(), name)
    if CONTEMPT in request.classes:
        refuse_contempt(sorted(set(names)))
    classes = in_column_order(sorted({spellings[name.casefold()] for name in names}))
    if bad := [name for name in classes if not is_class_name(name)]:
        raise ConfigError(
            f"{request.card.name}: no class can be called {bad[0]!r}: expected printable text that is no column of the "
            f"output. Say what it is, such as --label-map {bad[0]}=NAME"
        )
    given = {
        label: meaning if label in left_out else spellings.get(meaning.casefold(), meaning)
        for label, meaning in given.items()
    }
    return replace(request, naming="classes", classes=classes, given=given)


def _key(label: str) -> str:
    return label.strip().casefold()


class _Step(NamedTuple):
    """A row on its way to a labelled image."""

    row: Row
    suffix: str
    """Of the image's name: `#k` where several faces of the image are labelled."""
    label: int = -1
    path: str | None = None
    frames: tuple[str, ...] = ()


@dataclass(slots=True)
class _Selection:
    """The steps from rows to labelled images. Rows pass through all of them one by one, in their order."""

    request: Request
    base: str
    """The folder that names are relative to."""
    unit: Unit
    dropped: Counter[str]
    used: dict[str, str] = field(default_factory=dict)
    """The labels that occur, with their meaning."""
    unknown: Counter[str] = field(default_factory=Counter)
    """Labels without a meaning."""
    missing: list[str] = field(default_factory=list)
    """Names of files that are not there."""

    def images(self, rows: SplitRows) -> list[Labelled]:
        steps = self._mapped(self._numbered(rows.rows))
        return [*self._first_of_each(self._located(steps, from_index=rows.from_index))]

    def _numbered(self, rows: Sequence[Row]) -> Iterator[_Step]:
        """Tell the faces of one image apart."""
        num_faces = Counter(row.path for row in rows if row.box is not None and row.path is not None)
        numbers: Counter[str | None] = Counter()
        for row in rows:
            if row.path is None or row.box is None:
                yield _Step(row, f"#{numbers[row.path]}" if row.path and num_faces[row.path] > 1 else "")
                continue
            yield _Step(row, f"#{numbers[row.path]}" if num_faces[row.path] > 1 else "")
            numbers[row.path] += 1

    def _mapped(self, steps: Iterable[_Step]) -> Iterator[_Step]:
        """Give each row its class."""
        ids = {name: number for number, name in enumerate(self.request.classes)}
        for step in steps:
            meaning = self._meaning_of(step.row.label)
            if meaning is None:
                self.unknown[step.row.label] += 1
            elif meaning not in ids:
                self.dropped[meaning] += 1
            else:
                yield step._replace(label=ids[meaning])

    def _meaning_of(self, label: str) -> str | None:
        if label not in self.used:
            meaning = self.request.meaning_of(label)
            if meaning is None:
                return None
            self.used[label] = meaning
        return self.used[label]

    def _located(self, steps: Iterable[_Step], *, from_index: bool) -> Iterator[_Step]:
        """Look for the files, under names in any case."""
        for step in steps:
            path = step.row.path
            if path is not None and from_index:
                path = self.request.disk.find(path)
                if path is None:
                    self.dropped["missing file"] += 1
                    self.missing.append(_name(step.row.path or "", self.base))
                    continue
            frames = tuple(frames_in(self.request.disk, path)) if self.unit == "clip" and path else ()
            if self.unit == "clip" and path and not frames and kind_of(path) != "video":
                self.dropped["clip without frames"] += 1
                continue
            yield step._replace(path=path, frames=frames)

    def _first_of_each(self, steps: Iterable[_Step]) -> Iterator[Labelled]:
        labels: dict[str, int] = {}
        for row, suffix, label, path, frames in steps:
            name = (row.name or _name(path or "", self.base)) + suffix
            if name in labels:
                self.dropped["listed twice" if labels[name] == label else "listed twice, with different labels"] += 1
                continue
            labels[name] = label
            yield Labelled(
                *(name, path, label, row.subject, row.box, row.pixels),
                columns=row.columns,
                alias=row.alias,
                frames=frames,
                cell=row.cell,
                votes=self._shares_of(row.votes) if row.votes and self.request.soft_columns else row.votes,
            )

    def _shares_of(self, votes: Mapping[str, float]) -> dict[str, float]:
        """Of columns, by the classes that they mean; columns that mean none are left out."""
        shares: dict[str, float] = {}
        for column, share in votes.items():
            meaning = self.request.meaning_of(column)
            if meaning in self.request.classes:
                shares[meaning] = shares.get(meaning, 0) + share
        return shares


def _name(path: str, base: str) -> str:
    name = path[len(base) :].lstrip("/") if path.startswith(f"{base.rstrip('/')}/") else path
    return name if name.isascii() else printable(name)


# ---- what must be said ------------------------------------------------------------------------------------


def _unknown_labels(request: Request, unknown: Counter[str], what: str) -> str:
    card = request.card
    listed = ", ".join(f"{label!r} ({count:,})" for label, count in unknown.most_common(12))
    if all(re.fullmatch(r"-?\d+", label) for label in unknown):
        why, meanings = "Sets number the emotions differently, so numbers need a map", ("neutral", DROP)
    else:
        why, meanings = "Say what they are, or drop them", (DROP, DROP)
    example = ",".join(f"{label}={meaning}" for label, meaning in zip(sorted(unknown), meanings, strict=False))
    own = f"{', '.join(card.labels)}, and " if card.labels else ""
    known = f"{own}{', '.join((*EMOTIONS, CONTEMPT))} in any usual spelling"
    if request.naming == "classes":
        return (
            f"{card.name}: {what} that name no class: {listed}. Say what they are, or drop them, such as --label-map "
            f"{example} (known are {', '.join(request.classes)} in any case)"
        )
    return (
        f"{card.name}: {what} that name no emotion: {listed}. {why}, such as --label-map {example} (known are {known})"
    )


def _missing(names: Sequence[str], unit: Unit) -> Iterator[str]:
    if names:
        more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
        yield f"{image_count(len(names), unit)} of the index not on disk: {', '.join(names[:MAX_NAMES])}{more}"


def _remarks_on(selection: _Selection) -> Iterator[str]:
    for label, count in selection.unknown.items():
        yield f"label {label!r} is none of this set's: {image_count(count, selection.unit)} dropped"
    request = selection.request
    if request.naming == "classes":
        others = {name: selection.dropped[name] for name in (*EMOTIONS, CONTEMPT) if selection.dropped[name]}
        if others:
            listed = ", ".join(f"{name} {count:,}" for name, count in others.items())
            images = image_count(sum(others.values()), selection.unit)
            yield f"{images} of emotions that are none of the classes {', '.join(request.classes)} dropped: {listed}"
    elif num_contempt := selection.dropped[CONTEMPT]:
        why = "figures of seven classes do not compare with those of eight; --contempt keeps them"
        yield f"{image_count(num_contempt, selection.unit)} of contempt dropped: {why}"


def _departures(
    request: Request, rows: SplitRows, counts: Counter[int], dropped: Mapping[str, int], absent: Sequence[str]
) -> Iterator[str]:
    """What differs from the published counts, and classes of the set that no image has."""
    card = request.card
    ids = {name: number for number, name in enumerate(request.classes)}
    by_name = {name: counts[ids[name]] if name in ids else dropped.get(name, 0) for name in EMOTIONS}
    n = sum(by_name.values())  # without contempt
    where = f"{card.name} {rows.split}"
    for published in card.published(rows.split, rows.protocol):
        if published.total is not None and published.total != n:
            yield f"{where} has {image_count(n, rows.unit)} here, {published.total:,} published"
        if published.by_emotion is not None:
            differing = [
                f"{name} {by_name[name]:,} ({count:,})"
                for name, count in zip(EMOTIONS, published.by_emotion, strict=True)
                if by_name[name] != count
            ]
            if differing:
                yield f"{where} by emotion, here (published): {', '.join(differing)}"
        with_contempt = n + (counts[ids[CONTEMPT]] if CONTEMPT in ids else dropped.get(CONTEMPT, 0))
        if published.with_contempt and with_contempt not in published.with_contempt:
            accepted = " or ".join(f"{count:,}" for count in published.with_contempt)
            yield f"{where} has {image_count(with_contempt, rows.unit)} with contempt here, {accepted} published"
    if any(name in card.labels.values() for name in absent):
        yield _without(absent, rows.unit)


def _absent(request: Request, rows: SplitRows, counts: Counter[int]) -> list[str]:
    """Classes that no image has, though it is not published that none has them."""
    published = [each.by_emotion for each in request.card.published(rows.split, rows.protocol) if each.by_emotion]
    expected = {name for by_emotion in published for name, count in zip(EMOTIONS, by_emotion, strict=True) if not count}
    return [name for number, name in enumerate(request.classes) if not counts[number] and name not in expected]


def _without(names: Sequence[str], unit: Unit) -> str:
    return f"no {unit} of {', '.join(names)}: means over the classes leave these out"
