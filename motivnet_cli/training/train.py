"""The path of a whole network: labelled faces and a start -> a training -> a model of the store."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from motivnet_cli import __version__
from motivnet_cli.errors import ConfigError
from motivnet_cli.records import Stopped, never, no_progress
from motivnet_cli.training.adapters import merge_adapters
from motivnet_cli.training.augment import Augment, mixer
from motivnet_cli.training.data import read_training_data
from motivnet_cli.training.folder import TrainingFolder
from motivnet_cli.training.optim import (
    balanced_weights,
    classification_loss,
    make_optimizer,
    make_schedule,
    prepare,
)
from motivnet_cli.training.result import (
    Judged,
    check_result,
    put_in_store,
    stored_before,
    training_set_of,
    validation_of,
)
from motivnet_cli.training.start import begin, load_start
from motivnet_cli.weights.store import Store
from motivnet_cli.weights.training_record import Preparation, TrainingRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from motivnet_cli.model import MotivNet
    from motivnet_cli.records import Progress, TrainingProgress
    from motivnet_cli.training.config import FitConfig, TrainConfig
    from motivnet_cli.training.data import TrainingData
    from motivnet_cli.training.fit import Fitted
    from motivnet_cli.training.module import Objective
    from motivnet_cli.training.start import Start
    from motivnet_cli.weights.store import StoredModel

_FLOAT = 4
"""Bytes of a number in fp32."""
_ADAM = 2
"""Moments that AdamW keeps of each parameter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training came to."""

    model: StoredModel
    judged: Judged
    """The answers of the best epoch for the validation faces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainPlan:
    """What `train_network` would do."""

    name: str
    start: str
    classes: dict[str, tuple[int, int]]
    """Faces to learn from and to validate on."""
    validation: str
    dropped: dict[str, int]
    parameters: int
    trainable: int
    """Parameters that change."""
    steps_per_epoch: int
    epochs: int
    memory_bytes: int
    """An estimate of what weights, gradients, optimizer and one batch need on the device."""
    remarks: tuple[str, ...]


def train_network(
    config: TrainConfig,
    *,
    watch_faces: Callable[[Progress], None] = no_progress,
    watch_steps: Callable[[TrainingProgress], None] = no_progress,
    stop: Callable[[], bool] = never,
) -> Trained | None:
    """Train, or go on where the same training was stopped, and put the best weights into the store.

    Args:
        watch_faces: Called while the faces are looked for.
        watch_steps: Called after every step.

    Returns:
        None in a process that helps another one of this training.

    Raises:
        ConfigError: The extra `train` is missing, the name is taken, or data, start and settings do not go together.
        OutputConflictError: The folder is another training's, or another process is at it.
        TrainingError: The loss is no finite number.
        Stopped: `stop()` turned true: the same call goes on.
        WeightsError: The start is damaged.
    """
    require_lightning()
    rank = _rank(config)
    store, folder = Store(config.store), TrainingFolder(Path(config.out))
    with folder.held() if rank == 0 else contextlib.nullcontext():
        if rank == 0 and config.overwrite:
            folder.clear()
        known = stored_before(config.name, folder, store=store, overwrite=config.overwrite)
        data, start = _prepared(config, folder.path, watch_faces, stop)
        settings = _settings(config, data, start)
        if rank == 0:
            folder.claim(settings)
        check_result(config.name, data.classes, store=store, overwrite=config.overwrite or known is not None)
        try:
            fitted = _fit(config, data, start.network, folder.path, watch_steps, stop)
        except Stopped:
            if rank:  # the first process says so, and Lightning kills it if another ends with an exit code
                return None
            raise
        if rank:
            return None
        judged = Judged(
            classes=data.classes,
            names=data.val.names,
            labels=data.val.targets.argmax(axis=1),
            probabilities=fitted.probabilities,
            groups=data.val.subjects if any(data.val.subjects) else None,
        )
        if known is None:
            record = _record(config, settings, data, start, fitted, judged)
            merge_adapters(start.network)
            known = put_in_store(config.name, start.network, record, store=store, overwrite=config.overwrite)
        return Trained(model=known, judged=judged)


def plan_training(
    config: TrainConfig,
    *,
    watch_faces: Callable[[Progress], None] = no_progress,
    stop: Callable[[], bool] = never,
) -> TrainPlan:
    """Read the data and the start, train nothing and store nothing; only what is found of faces is kept in the folder.

    Raises:
        ConfigError: As `train_network`.
        Stopped: `stop()` turned true.
    """
    store = Store(config.store)
    store.check_free(config.name, overwrite=config.overwrite)
    with TrainingFolder(Path(config.out)).held():
        data, start = _prepared(config, Path(config.out), watch_faces, stop)
    check_result(config.name, data.classes, store=store, overwrite=config.overwrite)
    fit = config.fit
    at_once = fit.batch_size * fit.accumulate * (fit.devices or 1) * fit.num_nodes
    return TrainPlan(
        name=config.name,
        start=start.parent.name,
        classes=data.counts,
        validation=data.validation,
        dropped=data.dropped,
        parameters=sum(each.numel() for each in start.network.parameters()),
        trainable=sum(each.numel() for each in start.network.parameters() if each.requires_grad),
        steps_per_epoch=-(-len(data.train) // at_once),
        epochs=fit.epochs,
        memory_bytes=memory_of(start.network, config),
        remarks=(*data.remarks, *start.remarks),
    )


def memory_of(network: MotivNet, config: TrainConfig) -> int:
    """Bytes that training needs on the device, about: weights, gradients, optimizer, and what a batch keeps in fp32."""
    parameters = sum(each.numel() for each in network.parameters())
    trainable = sum(each.numel() for each in network.parameters() if each.requires_grad)
    sizes = network.sizes
    # Of a token, as `torch.autograd.graph.saved_tensors_hooks` counts what a step keeps on a CPU.
    kept = sizes.width + sizes.decoder_width * (1 + 3 * sizes.decoder_depth)
    if any(each.requires_grad for each in network.encoder.parameters()):
        block = 8 * sizes.width + 2 * sizes.mlp
        blocks = sizes.depth * sizes.width + block if config.fit.checkpoint_activations else sizes.depth * block
        kept += 3 * sizes.patch**2 + sizes.width + blocks
    batch = config.fit.batch_size * sizes.grid_height * sizes.grid_width * kept
    return _FLOAT * (parameters + trainable * (1 + _ADAM + (config.fit.ema is not None)) + batch)


def require_lightning() -> None:
    """Raise where the extra `train` is not installed.

    Raises:
        ConfigError: It is not.
    """
    missing = [name for name in ("lightning", "tensorboard") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"training a network needs {' and '.join(missing)}: pip install 'motivnet-cli[train]'")


def _rank(config: TrainConfig) -> int:
    """Of this process among those of the training; Lightning knows it by what launched them."""
    if (config.fit.devices, config.fit.num_nodes) == (1, 1):
        return 0
    from lightning.pytorch.utilities import rank_zero

    return int(rank_zero.rank_zero_only.rank)  # type: ignore[attr-defined]


def _prepared(
    config: TrainConfig,
    folder: Path,
    watch_faces: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> tuple[TrainingData, Start]:
    """The start, the faces as it takes them, and the network that will be trained."""
    model = load_start(config.init, recipe=config.recipe, store=config.store)
    data = read_training_data(config.data, model, out=folder, progress=watch_faces, stop=stop)
    start = begin(model, data.classes, seed=config.fit.seed, new_head=config.new_head)
    prepare(start.network, config.optim, generator=torch.Generator().manual_seed(config.fit.seed))
    return data, start


def _settings(config: TrainConfig, data: TrainingData, start: Start) -> dict[str, object]:
    """All that decide the result, by name: a training goes on only under the same."""
    settings = {
        **{f"data.{name}": value for name, value in _of_data(config).items()},
        "data.list_sha256": data.list_sha256,
        "init": start.parent.name,
        "init_sha256": start.parent.sha256,
        "recipe": data.train.cropping.recipe,
        "new_head": start.has_new_head,
        **{f"optim.{name}": value for name, value in dataclasses.asdict(config.optim).items()},
        **{f"augment.{name}": value for name, value in dataclasses.asdict(config.augment).items()},
        **settings_of_fit(config.fit),
    }
    known: dict[str, object] = json.loads(json.dumps(settings))  # tuples are lists, as a record has them
    return known


def settings_of_fit(config: FitConfig) -> dict[str, object]:
    """Of them those that decide the result, by name."""
    settings = dataclasses.asdict(config)
    for name in ("device", "threads", "checkpoint_minutes", "checkpoint_activations"):
        del settings[name]
    return settings


def _of_data(config: TrainConfig) -> dict[str, object]:
    settings = dataclasses.asdict(config.data)
    for name in ("root", "val_root", "loader"):  # where a set lies does not matter: its list is hashed
        del settings[name]
    return settings


def _fit(
    config: TrainConfig,
    data: TrainingData,
    network: MotivNet,
    folder: Path,
    watch_steps: Callable[[TrainingProgress], None],
    stop: Callable[[], bool],
) -> Fitted:
    from motivnet_cli.training.fit import fit

    augment = Augment(config.augment, config.fit.seed)
    network.encoder.checkpoint_blocks = config.fit.checkpoint_activations
    with contextlib.closing(data.train), contextlib.closing(data.val):
        return fit(
            network,
            _objective(config, data),
            data.train,
            data.val,
            config.fit,
            folder=folder,
            augment=augment,
            stop=stop,
            progress=watch_steps,
        )


def _objective(config: TrainConfig, data: TrainingData) -> Objective:
    from motivnet_cli.training.module import Objective

    weights = None
    if config.optim.class_weights == "balanced":
        weights = balanced_weights(dict(zip(data.classes, data.train.targets.sum(axis=0).tolist(), strict=True)))

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return classification_loss(
            logits,
            targets,
            class_weights=None if weights is None else weights.to(logits.device),
            label_smoothing=config.optim.label_smoothing,
        )

    mixing = {"mix": mixer(config.augment.mixup)} if config.augment.mixup else {}
    return Objective(
        loss=loss,
        held_out_loss=classification_loss,
        optimizer=functools.partial(make_optimizer, config=config.optim),
        schedule=functools.partial(make_schedule, config=config.optim),
        **mixing,
    )


def _record(
    config: TrainConfig,
    settings: dict[str, object],
    data: TrainingData,
    start: Start,
    fitted: Fitted,
    judged: Judged,
) -> TrainingRecord:
    cropping = data.train.cropping
    best = fitted.history[fitted.best_epoch - 1]
    loss = best["val_loss"]
    assert loss is not None
    return TrainingRecord(
        kind="network",
        parents=(start.parent,),
        classes=data.classes,
        data=training_set_of(data),
        # Validated without mirror images, whatever the card of the start says.
        preparation=Preparation(
            recipe=cropping.recipe,
            margin=cropping.margin,
            align=cropping.align,
            flip=False,
            whole=all(each.face.source == "whole" for each in (*data.train.pictures, *data.val.pictures)),
        ),
        settings=settings,
        validation=validation_of(judged.scores(), "the validation faces, by the weights of the best epoch", loss=loss),
        history=fitted.history,
        best_epoch=fitted.best_epoch,
        remarks=(*start.remarks, *ended_early(fitted, config.fit)),
        command=config.command,
        tool=f"motivnet {__version__}",
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def ended_early(fitted: Fitted, config: FitConfig) -> tuple[str, ...]:
    """What is to be said of a training that did not take all of its epochs."""
    num_epochs = len(fitted.history)
    if num_epochs == config.epochs:
        return ()
    return (f"It ended after {num_epochs} of {config.epochs} epochs: the validation loss fell no more.",)
