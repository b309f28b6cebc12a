"""A labelled set -> the faces to learn from and those to judge by, with what a reader of the figures must know.

Sets are read as `evaluate` reads them. Nothing is left out in silence: what cannot be used is counted, and listed with
its reason in LEFT_OUT_FILE.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from motivnet_cli.durable import write_at_once
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.layouts import MAX_NAMES, image_count
from motivnet_cli.evaluation.datasets.read import card_named, read_dataset
from motivnet_cli.evaluation.files import face_settings, write_pictures
from motivnet_cli.evaluation.soft import vote_shares
from motivnet_cli.faces.crop import Cropping
from motivnet_cli.records import never, no_progress
from motivnet_cli.training.faces import Faces, Picture, Wanted, alone_in, look_at
from motivnet_cli.training.split import draw_groups, draw_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from motivnet_cli.evaluation.datasets.card import DatasetCard
    from motivnet_cli.evaluation.datasets.labelled import Labelled, LabelledSet
    from motivnet_cli.faces.crop import NetworkInput
    from motivnet_cli.records import Box, Progress
    from motivnet_cli.training.config import DataConfig
    from motivnet_cli.training.faces import Look

LEFT_OUT_FILE = "left-out.csv"
"""In the folder of a training: the labelled images without a face to learn from, and why."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrainingData:
    """Labelled faces, on two sides."""

    classes: tuple[str, ...]
    """C names, in the order of the targets' columns."""
    train: Faces
    val: Faces
    card: DatasetCard
    """Of the set, with its terms."""
    root: str
    split: str
    """Of the set, that is learned from."""
    validation: str
    """How the images to validate on were chosen, in words."""
    dropped: dict[str, int]
    """Reason -> how many labelled images of both sides are not among the faces."""
    remarks: tuple[str, ...]
    """What a reader of the figures must know."""
    label_map: dict[str, str]
    """The set's labels that occur -> the class, or why such images are dropped."""
    list_sha256: str
    """Of the sorted list of (name, target, side): two trainings with the same learned from the same labels."""

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Class -> how many faces are learned from, and validated on; of soft labels, those whose largest it is."""
        sides = [
            np.bincount(side.targets.argmax(axis=1), minlength=len(self.classes)) for side in (self.train, self.val)
        ]
        return {name: (int(sides[0][number]), int(sides[1][number])) for number, name in enumerate(self.classes)}


def read_training_data(
    config: DataConfig,
    network: NetworkInput,
    *,
    out: Path,
    progress: Callable[[Progress], None] = no_progress,
    stop: Callable[[], bool] = never,
) -> TrainingData:
    """Read a labelled set, divide it, and find the face of every image.

    The first pass over the pictures keeps what it finds in `out` (`faces.look_at`): a second call looks at no picture
    again. `Faces` then decode and crop as they are asked.

    Args:
        network: Its recipe, input size and card say what a crop is.
        out: The folder of the training.

    Raises:
        ConfigError: As `read_dataset`; the set is of clips; no image is left on one of the sides, or none of a class
            to learn from; there are fewer than two classes; or groups that were to be kept apart are on both sides.
        Stopped: `stop()` turned true: the same call goes on.
    """
    sides = _divided(config)
    examples = [*sides.train, *sides.val]
    settings, with_boxes = face_settings(sides.labelled, config.faces)
    with alone_in(out, stop):
        wanted = [
            Wanted(path, image.box if with_boxes else None)
            for (image, _), path in zip(examples, write_pictures([image for image, _ in examples], out), strict=True)
        ]
        looks = look_at(wanted, network, settings, config.loader, out=out, progress=progress, stop=stop)
    seen = [_Seen(*example, *each) for example, each in zip(examples, zip(wanted, looks, strict=True), strict=True)]
    of_sides = {"train": seen[: len(sides.train)], "val": seen[len(sides.train) :]}
    _write_left_out(out / LEFT_OUT_FILE, of_sides)
    cropping = Cropping.of(network, settings)
    train, val = (_faces(side, len(sides.classes), cropping, config) for side in of_sides.values())
    lost = Counter(look.reason for look in looks if look.face is None)
    data = TrainingData(
        classes=sides.classes,
        train=train,
        val=val,
        card=card_named(config.dataset),
        root=config.root,
        split=sides.labelled.split,
        validation=sides.validation,
        dropped={**sides.dropped, **lost},
        remarks=(*sides.remarks, *_remarks_on_lost(lost), *_remarks_on_twins(**of_sides)),
        label_map=sides.labelled.label_map,
        list_sha256=_list_sha256(train, val),
    )
    return replace(data, remarks=(*data.remarks, *_checked(data)))


# ---- the two sides ----------------------------------------------------------------------------------------


class _Example(NamedTuple):
    image: Labelled
    target: NDArray[np.float32]
    """[C], sums to 1."""


class _Sides(NamedTuple):
    labelled: LabelledSet
    """That is learned from, or divided."""
    classes: tuple[str, ...]
    train: list[_Example]
    val: list[_Example]
    validation: str
    dropped: dict[str, int]
    remarks: tuple[str, ...]


def _divided(config: DataConfig) -> _Sides:
    labelled = _read(config, config.root, config.split)
    dropped, remarks = Counter(labelled.dropped), labelled.remarks
    if config.val_split is not None or config.val_root is not None:
        other = _read(config, config.val_root or config.root, config.val_split, classes=labelled.classes)
        train, val = [*labelled.images], [*other.images]
        validation = f"the split {other.split}" if config.val_root is None else f"{other.split} of {other.root}"
        dropped += Counter(other.dropped)
        remarks += tuple(f"validation: {remark}" for remark in other.remarks)
    else:
        train, val, validation = _drawn(config, labelled.images)
    remarks += tuple(_shared_groups(config, train, val))
    targets = _targets(config, [*train, *val], labelled.classes)
    ids = np.flatnonzero(targets.any(axis=0))  # a network has the classes that images have
    classes = tuple(labelled.classes[number] for number in ids.tolist())
    examples = [_Example(*each) for each in zip([*train, *val], targets[:, ids], strict=True)]
    sides = examples[: len(train)], examples[len(train) :]
    return _Sides(labelled, classes, *sides, validation, dict(dropped), remarks)


def _targets(config: DataConfig, images: Sequence[Labelled], classes: tuple[str, ...]) -> NDArray[np.float32]:
    """What is to be learned of each image: float32 [N, C], one-hot, or the shares of soft labels.

    Raises:
        ConfigError: Soft labels were asked for, and an image has one label alone.
    """
    if not config.soft_labels and not config.soft_columns:
        return np.eye(len(classes), dtype=np.float32)[[image.label for image in images]]
    votes = [image.votes for image in images if image.votes is not None]
    if len(votes) < len(images):
        raise ConfigError(
            f"{config.dataset}: {image_count(len(images) - len(votes))} have one label and no votes: soft labels are "
            "those of ferplus by its own classes, or columns of a csv or parquet set that are named"
        )
    if config.soft_columns:
        shares = np.array([[each.get(name, 0.0) for name in classes] for each in votes])
        shares /= shares.sum(axis=1, keepdims=True)
    else:
        shares = vote_shares(votes, classes)
    return shares.astype(np.float32)


def _read(config: DataConfig, root: str, split: str | None, *, classes: tuple[str, ...] | None = None) -> LabelledSet:
    labelled = read_dataset(
        config.dataset,
        root,
        split=split,
        protocol=config.protocol,
        path_column=config.path_column,
        label_column=config.label_column,
        label_map=config.label_map,
        contempt=config.contempt,
        columns=[config.group_by] if config.group_by else [],
        classes=classes,
        soft_columns=config.soft_columns,
        for_training=True,
    )
    if labelled.unit == "clip":
        raise ConfigError(
            f"{config.dataset}: {root!r} is a set of clips here, and training takes pictures: write frames of them "
            "into a folder for each class, and train on that"
        )
    return labelled


def _drawn(config: DataConfig, images: Sequence[Labelled]) -> tuple[list[Labelled], list[Labelled], str]:
    """The images to learn from, those to validate on, and how these were chosen."""
    share = f"{config.val_share:.0%} of the images"
    if config.group_by is None:
        drawn = draw_images(len(images), val_share=config.val_share, seed=config.seed)
    else:
        groups = _groups(config, images)
        if len(set(groups)) < 2:
            raise ConfigError(
                f"{config.dataset}: all images have the same {config.group_by}, {groups[0]!r}: nothing can be kept "
                "apart by it"
            )
        drawn = draw_groups(groups, val_share=config.val_share, seed=config.seed)
        share = f"about {share}, by whole values of {config.group_by}"
    train, val = ([images[index] for index in side.tolist()] for side in drawn)
    return train, val, f"{share}, drawn by seed {config.seed}"


def _groups(config: DataConfig, images: Sequence[Labelled]) -> list[str]:
    """The group of each image.

    Raises:
        ConfigError: An image has none.
    """
    named = [_group_of(image, config.group_by or "subject") for image in images]
    without = [image.name for image, name in zip(images, named, strict=True) if not name]
    if without:
        raise ConfigError(
            f"{config.dataset}: the {config.group_by} of {image_count(len(without))} is not known, such as "
            f"{without[0]!r}: nothing can be kept apart by it"
        )
    return [name for name in named if name]


def _group_of(image: Labelled, column: str) -> str | None:
    return image.subject if column == "subject" else image.columns.get(column)


def _shared_groups(config: DataConfig, train: Sequence[Labelled], val: Sequence[Labelled]) -> Iterator[str]:
    """What must be said of persons, or other groups, that are on both sides.

    Raises:
        ConfigError: They were to be kept apart.
    """
    column = config.group_by or "subject"
    ours, theirs = ({_group_of(image, column) for image in side} - {None, ""} for side in (train, val))
    shared = sorted(filter(None, ours & theirs))
    if not shared:
        return
    named = _listed([repr(name) for name in shared])
    what = f"{len(shared):,} of {len(ours | theirs):,} values of {column} are in both training and validation ({named})"
    if config.group_by is not None:
        raise ConfigError(f"{config.dataset}: {what}: validate on other images, or let them be on both sides")
    yield f"{what}: the validation figures are too good for people who were not seen; --by-subject keeps them apart"


# ---- faces ------------------------------------------------------------------------------------------------


class _Seen(NamedTuple):
    image: Labelled
    target: NDArray[np.float32]
    wanted: Wanted
    look: Look

    @property
    def content(self) -> tuple[str, Box | None] | None:
        """What tells its face from others, whatever the file is called; None where there is no face."""
        return None if self.look.face is None or self.look.sha256 is None else (self.look.sha256, self.wanted.box)


def _faces(seen: Sequence[_Seen], num_classes: int, cropping: Cropping, config: DataConfig) -> Faces:
    """Those in which a face was found."""
    found = [each for each in seen if each.look.face is not None]
    return Faces(
        [each.image.name for each in found],
        [Picture(each.wanted.path, each.look.face) for each in found if each.look.face],
        np.array([each.target for each in found], np.float32).reshape(len(found), num_classes),
        cropping,
        max_pixels=config.loader.max_pixels,
        subjects=[each.image.subject for each in found],
    )


def _write_left_out(path: Path, of_sides: Mapping[str, Sequence[_Seen]]) -> None:
    """Every labelled image without a face, with its reason; no file where there is none."""
    rows = [
        (each.image.name, side, each.look.reason, each.look.problem.message if each.look.problem else "")
        for side, seen in of_sides.items()
        for each in seen
        if each.look.face is None
    ]
    if not rows:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("image", "side", "reason", "message"), *rows])
    write_at_once(path, text.getvalue())


def _list_sha256(train: Faces, val: Faces) -> str:
    lines = sorted(
        json.dumps([name, [float(share) for share in target], side])
        for side, faces in (("train", train), ("val", val))
        for name, target in zip(faces.names, faces.targets, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# ---- what must be said ------------------------------------------------------------------------------------


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
    return f"{', '.join(names[:MAX_NAMES])}{more}"


def _remarks_on_lost(lost: Counter[str]) -> Iterator[str]:
    if lost:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in lost.most_common())
        yield f"{image_count(lost.total())} without a face left out ({reasons}): {LEFT_OUT_FILE} lists them"


def _remarks_on_twins(train: Sequence[_Seen], val: Sequence[_Seen]) -> Iterator[str]:
    """Of pictures, or given faces of them, that are on both sides or have two labels, by the content of their files."""
    labels: dict[object, set[int]] = defaultdict(set)
    for each in (*train, *val):
        labels[each.content].add(each.image.label)
    first = {each.content: each.image.name for each in reversed(train)}
    both = [f"{each.image.name!r} is {first[each.content]!r}" for each in val if each.content and each.content in first]
    if both:
        yield (
            f"{image_count(len(both))} of the validation are learned from as well, by the content of their files "
            f"({_listed(both)}): the validation figures are too good"
        )
    if contradicting := sum(len(ids) > 1 for content, ids in labels.items() if content):
        yield f"{image_count(contradicting)} are there several times, with different labels"


def _checked(data: TrainingData) -> Iterator[str]:
    """What must be said of the classes.

    Raises:
        ConfigError: There is nothing to learn from, or nothing to judge by.
    """
    name = data.card.name
    shown = [(side.targets > 0).sum(axis=0).tolist() for side in (data.train, data.val)]  # images with a share of each
    counts = dict(zip(data.classes, zip(*shown, strict=True), strict=True))
    for side, faces in (("learn from", data.train), ("validate on", data.val)):
        if not len(faces):
            raise ConfigError(
                f"{name}: no face is left to {side}, of {len(data.train) + len(data.val)} in all ({data.validation}): "
                f"give more images, or another share or split to validate on"
            )
    learned = [label for label, (num_train, _) in counts.items() if num_train]
    if len(learned) < 2:
        raise ConfigError(f"{name}: all images to learn from are of {learned[0]!r}: there must be two classes at least")
    without = [label for label, (num_train, _) in counts.items() if not num_train]
    if without:
        raise ConfigError(
            f"{name}: no image of {_listed(without)} is to learn from ({data.validation}): give some, draw by another "
            "--seed, or leave the class out by --label-map LABEL=drop"
        )
    if single := [label for label, (num_train, _) in counts.items() if num_train == 1]:
        yield f"one image alone to learn from of {_listed(single)}: nothing general can be learned of it"
    if unjudged := [label for label, (num_train, num_val) in counts.items() if num_train and not num_val]:
        yield f"no image of {_listed(unjudged)} is validated on: the validation figures say nothing of it"
