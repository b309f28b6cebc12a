"""The path of a student: an output of `annotate` and its pictures -> a training -> a model of the store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from motivnet_cli import __version__
from motivnet_cli.catalogue import CARDS
from motivnet_cli.records import never, no_progress
from motivnet_cli.training.folder import TrainingFolder
from motivnet_cli.training.result import Judged, check_result, put_in_store, stored_before, validation_of
from motivnet_cli.training.students import (
    HELD_OUT_SHARE,
    VAL_SHARE,
    agreement,
    answers,
    divergence,
    soft_loss,
    split_by_input,
    start,
)
from motivnet_cli.training.targets import crop_faces, crops_in, list_sha256, read_targets, remove_crops
from motivnet_cli.training.train import Trained, ended_early, require_lightning, settings_of_fit
from motivnet_cli.weights.load import load_model
from motivnet_cli.weights.store import Store
from motivnet_cli.weights.training_record import Parent, Preparation, TrainingRecord, TrainingSet

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import nn

    from motivnet_cli.model import ExpressionNet
    from motivnet_cli.records import Progress, TrainingProgress
    from motivnet_cli.training.config import StudentConfig
    from motivnet_cli.training.fit import Fitted
    from motivnet_cli.training.students import Start
    from motivnet_cli.training.targets import Cropped, FaceCrops, Targets
    from motivnet_cli.weights.load import LoadedModel

STUDENT = "expression-net"


def teach(
    config: StudentConfig,
    *,
    watch_faces: Callable[[Progress], None] = no_progress,
    watch_steps: Callable[[TrainingProgress], None] = no_progress,
    stop: Callable[[], bool] = never,
) -> Trained:
    """Have a student learn, or go on where the same training was stopped, and put its best weights into the store.

    Args:
        watch_faces: Called while the faces are cut.
        watch_steps: Called after every step.

    Raises:
        ConfigError: The extra `train` is missing, the name is taken, or the output cannot be learned from.
        OutputConflictError: The folder is another training's, or another process is at it.
        TrainingError: The loss is no finite number.
        Stopped: `stop()` turned true: the same call goes on.
    """
    require_lightning()
    store, folder = Store(config.store), TrainingFolder(Path(config.out))
    with folder.held():
        if config.overwrite:
            folder.clear()
        known = stored_before(config.name, folder, store=store, overwrite=config.overwrite)
        lesson = _prepared(config, folder.path, watch_faces, stop)
        settings = _settings(config, lesson)
        folder.claim(settings)
        network = lesson.begun.network
        check_result(config.name, network.classes, store=store, overwrite=config.overwrite or known is not None)
        fitted = _fit(config, lesson, folder.path, watch_steps, stop)
        judged = _judged(network, lesson.held_out)
        if known is None:
            record = _record(config, settings, lesson, fitted, judged)
            known = put_in_store(config.name, network, record, store=store, overwrite=config.overwrite)
        remove_crops(folder.path)
        return Trained(model=known, judged=judged)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Lesson:
    """What a student learns, and what it is asked."""

    targets: Targets
    cropped: Cropped
    list_sha256: str
    student: LoadedModel
    """The embedded model: its recipe, input size and card are the student's."""
    begun: Start
    train: FaceCrops
    val: FaceCrops
    held_out: FaceCrops

    def counts(self) -> dict[str, dict[str, int]]:
        """Side -> class -> faces to which the teacher gave it."""
        classes = self.begun.network.classes
        sides = {"train": self.train, "val": self.val, "held out": self.held_out}
        labels = {
            name: np.bincount(side.targets.argmax(axis=1), minlength=len(classes)) for name, side in sides.items()
        }
        return {name: dict(zip(classes, each.tolist(), strict=True)) for name, each in labels.items()}


def _prepared(
    config: StudentConfig, folder: Path, watch_faces: Callable[[Progress], None], stop: Callable[[], bool]
) -> _Lesson:
    targets, student = read_targets(config.targets), load_model(STUDENT)
    begun = start(targets.classes, from_scratch=config.from_scratch, seed=config.fit.seed)
    cropped = crop_faces(
        targets, student, folder, images=config.images, threads=config.fit.threads, progress=watch_faces, stop=stop
    )
    rows = np.flatnonzero(cropped.is_there)
    sides = split_by_input(targets.faces["input"].gather(rows).to_list(), seed=config.fit.seed)
    classes = begun.network.classes
    train, val, held_out = (crops_in(folder, targets, rows[side], student, classes=classes) for side in sides)
    return _Lesson(
        targets=targets,
        cropped=cropped,
        list_sha256=list_sha256(targets, rows),
        student=student,
        begun=begun,
        train=train,
        val=val,
        held_out=held_out,
    )


def _settings(config: StudentConfig, lesson: _Lesson) -> dict[str, object]:
    """All that decide the result, by name: a training goes on only under the same."""
    return {
        "student": STUDENT,
        "teacher_sha256": lesson.targets.record["weights_sha256"],
        "data.list_sha256": lesson.list_sha256,
        "start": lesson.begun.how,
        "temperature": config.temperature,
        "learning_rate": config.learning_rate,
        **settings_of_fit(config.fit),
    }


def _fit(
    config: StudentConfig,
    lesson: _Lesson,
    folder: Path,
    watch_steps: Callable[[TrainingProgress], None],
    stop: Callable[[], bool],
) -> Fitted:
    from motivnet_cli.training.fit import fit
    from motivnet_cli.training.module import Objective

    def optimizer(network: nn.Module) -> AdamW:
        return AdamW([{"name": "network", "params": list(network.parameters())}], lr=config.learning_rate)

    objective = Objective(
        loss=partial(soft_loss, temperature=config.temperature),
        held_out_loss=divergence,
        optimizer=optimizer,
        schedule=partial(CosineAnnealingWarmRestarts, T_0=config.fit.epochs),
    )
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on two, a step of 32 faces took 1.1 times as long
    try:
        return fit(
            lesson.begun.network,
            objective,
            lesson.train,
            lesson.val,
            config.fit,
            folder=folder,
            stop=stop,
            progress=watch_steps,
        )
    finally:
        torch.set_num_threads(num_threads)


# ---- what it came to --------------------------------------------------------------------------------------


def _judged(network: ExpressionNet, held_out: FaceCrops) -> Judged:
    several = len(set(held_out.names)) < len(held_out)
    return Judged(
        classes=network.classes,
        names=held_out.names,
        labels=held_out.targets.argmax(axis=1),
        probabilities=answers(network, held_out, len(held_out)),
        groups=held_out.names if several else None,
    )


def _record(
    config: StudentConfig, settings: dict[str, object], lesson: _Lesson, fitted: Fitted, judged: Judged
) -> TrainingRecord:
    student = lesson.student
    learned = lesson.counts()["train"]
    always = max(learned, key=lambda name: learned[name])
    others = agreement(judged, lesson.held_out.targets, always=always)
    validation = validation_of(
        judged.scores(),
        f"the faces of {len(set(judged.names)):,} inputs that were held out, by the network of the best epoch; the "
        f"most frequent class is that of the faces that were learned from, {always}",
    )
    figures = {name: figure for name, figure in validation.figures.items() if name != "accuracy"}
    return TrainingRecord(
        kind="student",
        parents=_parents(lesson),
        classes=judged.classes,
        data=_training_set(lesson, seed=config.fit.seed),
        preparation=Preparation(
            recipe=student.recipe,
            margin=student.card.margin,
            flip=student.card.flip,
            whole=(lesson.targets.faces["face_source"] == "whole").all(),
        ),
        settings=settings,
        validation=replace(validation, figures={**others, **figures}),
        history=fitted.history,
        best_epoch=fitted.best_epoch,
        remarks=ended_early(fitted, config.fit),
        command=config.command,
        tool=f"motivnet {__version__}",
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _parents(lesson: _Lesson) -> tuple[Parent, ...]:
    record = lesson.targets.record
    teacher = Parent(name=record["model"], sha256=record["weights_sha256"], role="teacher", terms=record["terms"])
    if not lesson.begun.is_embedded:
        return (teacher,)
    sha256 = lesson.student.weights_sha256
    return teacher, Parent(name=STUDENT, sha256=sha256, role="start", terms=CARDS[STUDENT].terms)


def _training_set(lesson: _Lesson, *, seed: int) -> TrainingSet:
    left_out = lesson.cropped.left_out
    dropped, remarks = dict(left_out.counts), left_out.remarks
    if num_unusable := lesson.targets.num_unusable:
        dropped["rows without a box, or without probabilities that sum to 1"] = num_unusable
        remarks.append(f"{num_unusable:,} rows have no box, or no probabilities that sum to 1: left out")
    if twins := _num_twins(lesson.train, lesson.held_out):
        remarks.append(
            f"{twins:,} of the {len(lesson.held_out):,} faces that were held out are, pixel for pixel, faces that were "
            "learned from: the agreement is too good"
        )
    counts = lesson.counts()
    named = [name for name, count in counts["held out"].items() if count]
    if len(named) == 1:
        remarks.append(f"the teacher says {named[0]} of every held-out face: the agreement is with that answer alone")
    return TrainingSet(
        name=Path(lesson.targets.path).name,
        sha256=lesson.list_sha256,
        counts=counts,
        split=(
            f"about {VAL_SHARE:.0%} of the faces to choose the epoch by, and {HELD_OUT_SHARE:.0%} held out to measure "
            f"agreement, by whole inputs, seed {seed}"
        ),
        terms="nothing is recorded of the terms of the pictures",
        dropped=dropped,
        remarks=tuple(remarks),
    )


def _num_twins(learned: FaceCrops, held_out: FaceCrops) -> int:
    """Held-out faces that were learned from under another name."""
    digests = set(map(_digest, map(learned.pixels, range(len(learned)))))
    return sum(_digest(held_out.pixels(i)) in digests for i in range(len(held_out)))


def _digest(pixels: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
