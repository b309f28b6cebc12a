"""The path of a head: labels and embeddings -> a head that is judged -> a model of the store, with its report."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import scipy.sparse
import torch
from threadpoolctl import threadpool_limits

from motivnet_cli import __version__
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.calibration import SCALED
from motivnet_cli.evaluation.embeddings import embedding_type
from motivnet_cli.evaluation.metrics import score
from motivnet_cli.records import Stopped, never
from motivnet_cli.training import heads
from motivnet_cli.training.embeddings import read_finite, read_labelled_faces, write_finite
from motivnet_cli.training.folder import TrainingFolder
from motivnet_cli.training.result import Judged, check_result, put_head_in_store, validation_of
from motivnet_cli.training.streamed import EmbeddingFile, fit_linear
from motivnet_cli.weights.cards import find_card
from motivnet_cli.weights.file_hash import file_sha256
from motivnet_cli.weights.heads import NEIGHBOURS
from motivnet_cli.weights.networks import embedded_weights
from motivnet_cli.weights.store import Store
from motivnet_cli.weights.training_record import (
    Parent,
    Preparation,
    TrainingRecord,
    TrainingSet,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from motivnet_cli.records import RunRecord
    from motivnet_cli.training.config import HeadConfig
    from motivnet_cli.training.embeddings import LabelledFaces
    from motivnet_cli.weights.store import StoredModel
    from motivnet_cli.weights.training_record import FewShot

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Stage = Callable[[str], None]


def train_head(
    config: HeadConfig, *, on_stage: Stage = lambda stage: None, stop: Callable[[], bool] = never
) -> tuple[StoredModel, Judged]:
    """Train a head on embeddings, judge it, and put it into the store.

    Returns:
        The model, and what was said of each face by a head that did not learn from its fold, at the temperature of the
        other folds.

    Args:
        on_stage: Called with a few words at the beginning of every step.
        stop: Asked there whether to give up.

    Raises:
        ConfigError: The name is taken, labels and output do not go together, the model of the embeddings is not here,
            or the labelled faces are too few to be judged.
        OutputConflictError: The folder is no folder, holds other files, or another process is at it.
        WeightsError: A model of the store is damaged.
        Stopped: `stop` said so. Nothing is stored.
    """

    def begin(stage: str) -> None:
        if stop():
            raise Stopped
        on_stage(stage)

    store, folder = Store(config.store), TrainingFolder(Path(config.out))
    store.check_free(config.name, overwrite=config.overwrite)
    with folder.held(), contextlib.ExitStack() as files:
        if config.overwrite:
            folder.clear()
        begin("labels")
        labelled = read_labelled_faces(config)
        check_result(config.name, labelled.classes, store=store, overwrite=config.overwrite)
        parent = _encoder_of(labelled.record, config.predictions, store)
        begin("embeddings")
        faces, x, every = _read(labelled, config, begin, files)
        threads = torch.get_num_threads()
        # Steps are so short that threads mostly wait for each other: on two cores that others used, too, two took ten
        # times as long as one for 8,000 embeddings of 1,536 numbers, and thirteen times for 60 of 256.
        with threadpool_limits(1):
            fitted = _fit(config, faces, x, begin)
            if every is not None:
                fitted = _fit_every(fitted, every, begin, threads=threads, stop=stop)
        begin("figures")
        judged = _judged(fitted)
        record = _record(config, fitted, judged, parent)
        head = heads.head_of(fitted.final, x, faces.labels, temperature=fitted.calibrated.temperature)
        neighbours = {NEIGHBOURS: str(record.settings["n_neighbors"])} if config.kind == "knn" else {}
        stored = put_head_in_store(
            config.name, head.state_dict(), record, metadata=neighbours, store=store, overwrite=config.overwrite
        )
        return stored, judged


def _encoder_of(record: RunRecord, output: str, store: Store) -> Parent:
    """The model that an output's embeddings are of; of a head, the one that the head is on.

    Raises:
        ConfigError: It is neither in the package nor in the store.
        WeightsError: A model of the store is damaged.
    """
    name, sha256 = record["model"], record["weights_sha256"]
    with embedded_weights() as path:
        if file_sha256(path) == sha256:
            return Parent(name="expression-net", sha256=sha256, role="encoder", terms=record["terms"])
    stored = store.find(name)
    if stored is None or stored.sha256 != sha256:  # as of a file that was given by --weights, and stored since
        stored = next((each for each in store.models() if each.sha256 == sha256), None)
    if stored is None:
        raise ConfigError(
            f"the embeddings of {output!r} are of {name} with the sha256 {sha256[:12]}, which is not in the store "
            f"({store.root}): a head needs it. Bring it with motivnet download-weights, --from-file for a file"
        )
    if stored.training is not None and stored.architecture == "head":
        return stored.training.parents[0]
    return Parent(name=stored.name, sha256=sha256, role="encoder", terms=find_card(stored.name, store).terms)


# ---- faces ------------------------------------------------------------------------------------------------


class _Every(NamedTuple):
    """All labelled faces, where they are more than are judged."""

    embeddings: EmbeddingFile
    labels: Ints
    scaler: StandardScaler


class _Read(NamedTuple):
    """What is learned from."""

    faces: LabelledFaces
    """Those that are judged."""
    x: Floats
    """Their embeddings."""
    every: _Every | None
    """None where the head learns from no more than those."""


def _read(labelled: LabelledFaces, config: HeadConfig, begin: Stage, files: contextlib.ExitStack) -> _Read:
    """Of very many faces a sample is judged, and a linear head learns from all; copies are of one group.

    Args:
        files: Closes the file in which all embeddings are.

    Raises:
        ConfigError: A class is left without a face, or the disk has no room.
    """
    kind = embedding_type(config.predictions)
    size, num, every = heads.KINDS[config.kind].max_numbers // kind.size, len(labelled), None
    if num <= size:
        faces, x = read_finite(labelled, config.predictions)
    elif config.kind == "linear":
        dtype = np.float16 if kind.inner == pl.Float16 else np.float32
        embeddings = files.enter_context(EmbeddingFile(Path(config.out), count=num, size=kind.size, dtype=dtype))
        labelled, scaler = write_finite(
            labelled,
            config.predictions,
            embeddings,
            on_batch=lambda done: begin(f"embeddings: {done // 100_000 * 100_000:,} of {num:,}"),
        )
        every = _Every(embeddings, labelled.labels, scaler)
        chosen = heads.draw_sample(labelled.labels, min(size, len(labelled)), seed=config.seed)
        faces, x = labelled.taken(chosen), embeddings.taken(chosen)
        remark = (
            f"learned from all {len(labelled):,} labelled faces; judged by heads that learned from {len(faces):,} of "
            "them, drawn by chance, each class in its share"
        )
        faces = replace(faces, remarks=(*faces.remarks, remark))
    else:
        faces = labelled.taken(heads.draw_sample(labelled.labels, size, seed=config.seed))
        remark = f"learned from {len(faces):,} of {num:,} labelled faces, drawn by chance, each class in its share"
        faces, x = read_finite(replace(faces, remarks=(*faces.remarks, remark)), config.predictions)
    counts = np.bincount(faces.labels, minlength=len(faces.classes))
    if not counts.all():
        raise ConfigError(
            f"the class {faces.classes[int(counts.argmin())]!r} has no face with a usable embedding: leave its labels "
            "out, or predict again"
        )
    return _Read(_with_copies_together(faces, x), x, every)


def _with_copies_together(faces: LabelledFaces, x: Floats) -> LabelledFaces:
    """Groups that share a face, by its embedding, are one group: a head would be judged by what it learned."""
    _, copies = np.unique([hash(row.tobytes()) for row in x], return_inverse=True)
    num_groups = int(faces.groups.max()) + 1
    size = num_groups + len(x)
    pairs = scipy.sparse.coo_array((np.ones(len(x)), (faces.groups, num_groups + copies)), shape=(size, size))
    _, component = scipy.sparse.csgraph.connected_components(pairs, directed=False)
    _, groups = np.unique(component[faces.groups], return_inverse=True)
    num_joined = len(np.unique(faces.groups)) - len(np.unique(groups))
    if not num_joined:
        return faces
    copies_in = f"groups that hold the very embedding of a face in another: {num_joined:,}"
    if faces.folds is None:
        remark = f"{copies_in}; they count as one group with it, so that no copy is held out of what is learned from"
    else:
        remark = f"{copies_in}; copies may be in several of the given folds"
    return replace(faces, groups=groups.astype(np.int64), remarks=(*faces.remarks, remark))


# ---- fitting ----------------------------------------------------------------------------------------------


class _Fitted(NamedTuple):
    faces: LabelledFaces
    splits: list[heads.Split]
    found: heads.OutOfFold
    calibrated: heads.Calibrated
    few_shot: tuple[FewShot, ...]
    final: Pipeline
    learned: Ints
    """The label of each face that the final head learned from."""
    remarks: tuple[str, ...]


def _fit(config: HeadConfig, faces: LabelledFaces, x: Floats, begin: Stage) -> _Fitted:
    """Judge heads on folds, and fit the one that is stored.

    Raises:
        ConfigError: No two folds can be made, or what is left beside one is of a single class.
    """
    kind, labels, groups, seed = heads.KINDS[config.kind], faces.labels, faces.groups, config.seed
    if faces.folds is not None:
        splits = heads.split_by_fold(faces.folds)
    else:
        splits = heads.split_by_group(labels, groups, config.folds, seed=seed)
    _check_splits(faces, splits)
    found = heads.cross_validate(
        kind, x, labels, groups, splits, seed=seed, on_fold=lambda fold: begin(f"fold {fold + 1} of {len(splits)}")
    )
    curve, left_out = [], []
    for shots in sorted(set(config.shots)):
        stage = f"{shots} face{'s' * (shots > 1)} of a class"
        drawn = heads.few_shot(kind, x, labels, splits, shots, seed=seed, on_draw=partial(begin, stage))
        if drawn is None:
            left_out.append(f"{shots} shots are left out: a class has fewer faces outside of a fold")
        else:
            curve.append(drawn)
    begin("all faces")
    final = heads.fit(kind, x, labels, groups, seed=seed)
    calibrated = heads.calibrate(labels, found)
    remarks = (*_remarks(config, faces, splits), *left_out, *calibrated.remarks)
    return _Fitted(faces, splits, found, calibrated, tuple(curve), final, labels, remarks)


def _fit_every(fitted: _Fitted, every: _Every, begin: Stage, *, threads: int, stop: Callable[[], bool]) -> _Fitted:
    """The head that is stored learns from all faces; its setting and temperature stay."""
    num = len(every.labels)
    streamed = fit_linear(
        fitted.final,
        every.embeddings,
        every.labels,
        every.scaler,
        threads=threads,
        on_pass=lambda number: begin(f"all {num:,} faces: pass {number // 5 * 5 or 1}"),
        stop=stop,
    )
    return fitted._replace(final=streamed.fitted, learned=every.labels, remarks=(*fitted.remarks, *streamed.remarks))


def _check_splits(faces: LabelledFaces, splits: list[heads.Split]) -> None:
    if len(splits) < 2:
        what = f"{len(np.unique(faces.groups))} groups by {faces.group_by}"
        raise ConfigError(
            f"the {len(faces)} labelled faces are {what}, too few to hold some out: label more, or say with --group-by "
            "what else must not be on both sides of a fold"
        )
    for split in splits:
        if len(left := np.unique(faces.labels[split.train])) < 2:
            raise ConfigError(
                f"with one fold held out, all faces left are {faces.classes[left[0]]!r}: give each class faces of "
                f"several groups (groups are by {faces.group_by})"
            )


def _remarks(config: HeadConfig, faces: LabelledFaces, splits: list[heads.Split]) -> Iterator[str]:
    """What a reader of the figures must know of classes and folds."""
    alone = [
        name for number, name in enumerate(faces.classes) if len(np.unique(faces.groups[faces.labels == number])) == 1
    ]
    if alone:
        yield (
            f"all faces of {', '.join(alone)} are of one group: no head learned them that was judged by them, and they "
            "count as wrong"
        )
    if faces.folds is None and len(splits) < config.folds:
        yield f"{len(splits)} folds in place of {config.folds}: there are no more groups, or faces of a class"


# ---- what is said of it -----------------------------------------------------------------------------------


def _judged(fitted: _Fitted) -> Judged:
    faces = fitted.faces
    is_grouped = len(np.unique(faces.groups)) < len(faces)
    return Judged(
        classes=faces.classes,
        names=tuple(faces.names),
        labels=faces.labels,
        probabilities=fitted.calibrated.probabilities,
        groups=tuple(map(str, faces.groups.tolist())) if is_grouped else None,
    )


def _record(config: HeadConfig, fitted: _Fitted, judged: Judged, parent: Parent) -> TrainingRecord:
    faces, run = fitted.faces, fitted.faces.record
    counts = np.bincount(faces.labels)
    how = f"{len(fitted.splits)} folds by {config.fold_column or faces.group_by}"
    return TrainingRecord(
        kind="head",
        parents=(parent,),
        classes=faces.classes,
        data=TrainingSet(
            name=Path(config.labels).name,
            sha256=faces.list_sha256,
            counts={"train": dict(zip(faces.classes, np.bincount(fitted.learned).tolist(), strict=True))},
            split=how,
            terms="those of the pictures and labels, which are not stated here",
            dropped=faces.dropped,
            remarks=faces.remarks,
        ),
        preparation=Preparation(
            recipe=run["recipe"],
            margin=float(str(run["settings"]["faces.margin"])),
            align=bool(run["settings"]["faces.align"]),
            flip=bool(run["settings"]["model.flip"]),
            whole=run["settings"]["faces.mode"] == "whole",
        ),
        settings=_settings(config, fitted),
        validation=validation_of(
            judged.scores(),
            f"{how}: each face by a head that learned from the others, with a setting chosen within these",
            chance_accuracy=float(counts.max() / len(faces)),
            chance_uar=1 / len(faces.classes),
            **_uncalibrated(faces, fitted.found.probabilities),
        ),
        few_shot=fitted.few_shot,
        remarks=fitted.remarks,
        command=config.command,
        tool=f"motivnet {__version__}",
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _settings(config: HeadConfig, fitted: _Fitted) -> dict[str, object]:
    faces, kind = fitted.faces, heads.KINDS[config.kind]
    return {
        "head": config.kind,
        kind.setting: heads.setting_of(kind, fitted.final),
        f"{kind.setting}_by_fold": list(fitted.found.chosen),
        "temperature": fitted.calibrated.temperature,
        "folds": len(fitted.splits),
        "groups": len(np.unique(faces.groups)),
        "group_by": faces.group_by,
        "largest_face": config.largest_face,
        "seed": config.seed,
        "embeddings": faces.record["settings"].get("output.embeddings"),
        "embeddings_precision": faces.record.get("precision"),
    }


def _uncalibrated(faces: LabelledFaces, probabilities: Doubles) -> dict[str, float]:
    """What a temperature changes, before it: `ece_uncalibrated` and the like, without intervals."""
    found = score(faces.labels, probabilities.argmax(axis=1), probabilities, classes=faces.classes, resamples=1).scored
    values = {name: figure.value for name in SCALED if (figure := found[name]) is not None}
    return {f"{name}_uncalibrated": value for name, value in values.items() if value is not None}
