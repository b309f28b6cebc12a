"""A network trained by Lightning, from examples to the best weights, so that a kill costs minutes and changes nothing.

Lightning brings devices, processes, precision and the loops. What a training is at any moment is kept here and not in
Lightning's checkpoints: those are built in memory with all of the network, and how they go on within an epoch depends
on its version. Every start is a run of Lightning over the epochs that are left, the first of them from a step on.

Imports Lightning, which the plain installation lacks (`training.train`).
"""

from __future__ import annotations

import contextlib
import csv
import logging
import math
import signal
import threading
import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch.utils.tensorboard.writer import SummaryWriter

from motivnet_cli.durable import durably
from motivnet_cli.engine.machine import choose_device, usable_cores
from motivnet_cli.engine.predictor import is_out_of_memory
from motivnet_cli.errors import ConfigError, TrainingError
from motivnet_cli.evaluation.metrics import point_values
from motivnet_cli.records import Stopped, TrainingProgress, never, no_progress
from motivnet_cli.training.checkpoints import BEST, LAST, TrainingState, kept_tensors, load, save
from motivnet_cli.training.module import StepTally, TrainingModule
from motivnet_cli.training.order import Loader, Order, held_out_portions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from lightning.pytorch import LightningModule
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from motivnet_cli.training.checkpoints import EpochFigures
    from motivnet_cli.training.config import FitConfig
    from motivnet_cli.training.module import Objective, Schedule
    from motivnet_cli.training.order import Batch, Portion

HISTORY_FILE = "history.csv"
TENSORBOARD_FOLDER = "tensorboard"
_NAMES_IN_MESSAGE = 8
_NETWORK, _AVERAGE, _OPTIMIZER = "network.", "average.", "optimizer."
_PROBABILITIES = "probabilities"
"""What names in checkpoints begin with, or are."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Examples(Protocol):
    """N faces, and what they show."""

    names: tuple[str, ...]
    targets: NDArray[np.float32]
    """[N, C], rows sum to 1."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor:
        """uint8 RGB [3, H, W]; called in several threads at once."""
        ...


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fitted:
    """What came of a training. The network that was trained has the weights of the best epoch."""

    history: tuple[EpochFigures, ...]
    best_epoch: int
    """From 1: the one with the least validation loss, the first of equals."""
    probabilities: NDArray[np.float64]
    """[N, C], of the validation examples after it."""


def fit(
    network: nn.Module,
    objective: Objective,
    train: Examples,
    val: Examples,
    config: FitConfig,
    *,
    folder: Path,
    augment: Callable[[Tensor, int, int], Tensor] | None = None,
    stop: Callable[[], bool] = never,
    progress: Callable[[TrainingProgress], None] = no_progress,
) -> Fitted:
    """Train a network, or go on with its training where it was stopped.

    Args:
        network: As its training begins, also where it goes on; it ends with the best weights, in eval mode.
        folder: Of checkpoints and logs. No other process may use it, but those of this training, nor may there be
            checkpoints of another one.
        augment: Of pixels, epoch (from 0) and example; None takes them as they are.

    Raises:
        Stopped: `stop()` turned true, in any of the processes; a checkpoint has been written.
        ConfigError: The device does not exist, or a batch does not fit in its memory.
        TrainingError: A loss or a gradient is no number.
        OutputConflictError: The checkpoint is damaged.
        OSError: A checkpoint cannot be written; the one before is kept.
    """
    with _quiet():
        course = _Course(TrainingModule(network, objective), train, val, config, folder, augment, stop, progress)
        try:
            return course.run()
        except (RuntimeError, MemoryError) as error:
            if not (isinstance(error, MemoryError) or is_out_of_memory(error)):
                raise
            trains_encoder = any(
                name.startswith("encoder.") for name, each in network.named_parameters() if each.requires_grad
            )
            also = ", or --checkpoint-activations, or --freeze-encoder" if trains_encoder else ""
            raise ConfigError(
                f"batches of {config.batch_size} do not fit in memory: take a smaller --batch-size with --accumulate, "
                f"which together make up a step{also}"
            ) from error
        finally:
            course.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lightning says nothing: its hints are for those who write the code that calls it."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class _Data(LightningDataModule):
    """Lightning asks for the training examples once an epoch, and for those of validation once."""

    def __init__(self, train: Callable[[], Loader], val: Callable[[], Loader]) -> None:
        super().__init__()
        self._train = train
        self._val = val

    def train_dataloader(self) -> Loader:
        return self._train()

    def val_dataloader(self) -> Loader:
        return self._val()


class _Course(Callback):
    """The course of one training: how far it is, what it writes down, and when it ends."""

    def __init__(
        self,
        module: TrainingModule,
        train: Examples,
        val: Examples,
        config: FitConfig,
        folder: Path,
        augment: Callable[[Tensor, int, int], Tensor] | None,
        stop: Callable[[], bool],
        progress: Callable[[TrainingProgress], None],
    ) -> None:
        self._module = module
        self._train = train
        self._val = val
        self._config = config
        self._folder = folder
        self._augment = augment
        self._stop = stop
        self._progress = progress
        self._kept = kept_tensors(module.network)
        self._average: dict[str, Tensor] = {}
        """Of `_kept`, where there is one. While the network computes with it, these are the network's own weights."""
        self._saved, self._state = load(folder / LAST) or ({}, TrainingState())
        if self._saved:
            self._restore_network(self._saved)
        self._trainer = self._make_trainer()
        self._order = Order(
            num_examples=len(train),
            batch_size=config.batch_size,
            seed=config.seed,
            accumulate=config.accumulate,
            rank=self._trainer.global_rank,
            world=self._trainer.world_size,
            chances=_balanced_chances(train.targets) if config.balanced_sampling else None,
        )
        self._steps_resumed = self._steps_done
        self._started = self._saved_at = time.monotonic()
        self._loss: float | None = None
        self._optimizer: Optimizer | None = None
        self._schedule: Schedule | None = None
        self._writer: SummaryWriter | None = None
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}

    # ---- from the start to the end ----

    def run(self) -> Fitted:
        data = _Data(self._train_loader, self._val_loader)
        self._module.train()  # Lightning leaves the mode as it finds it, and there would be no dropout
        if self._is_trained:
            self._trainer.validate(self._module, datamodule=data, verbose=False)
        if not self._is_over:
            self._trainer.fit(self._module, datamodule=data)
        best = load(self._folder / BEST)
        assert best is not None, "an epoch is over"
        tensors, state = best
        self._restore_network(tensors)
        self._module.eval()
        return Fitted(
            history=self._state.history,
            best_epoch=len(state.history),
            probabilities=tensors[_PROBABILITIES].double().numpy(),
        )

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _make_trainer(self) -> Trainer:
        device = choose_device(self._config.device)
        several = (self._config.devices, self._config.num_nodes) != (1, 1)
        index = [device.index or 0] if device.type == "cuda" else 1
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        return Trainer(
            accelerator=device.type,
            devices=("auto" if self._config.devices is None else self._config.devices) if several else index,
            num_nodes=self._config.num_nodes,
            precision="bf16-mixed" if self._config.precision == "bf16" else "32-true",
            accumulate_grad_batches=self._config.accumulate,
            max_epochs=self._config.epochs - self._state.epoch,
            callbacks=[self],
            use_distributed_sampler=False,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            inference_mode=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=self._folder,
        )

    @property
    def _is_trained(self) -> bool:
        """Whether the epoch's steps are done, and it is to be validated."""
        return self._state.step == self._order.steps

    @property
    def _is_over(self) -> bool:
        history, patience = self._state.history, self._config.patience
        if len(history) == self._config.epochs:
            return True
        return bool(history) and patience is not None and len(history) - best_epoch(history) >= patience

    @property
    def _steps_done(self) -> int:
        return self._state.epoch * self._order.steps + self._state.step

    # ---- examples ----

    def _train_loader(self) -> Loader:
        epoch, first_step = self._state.epoch, self._state.step
        portions = self._order.portions(epoch, first_step=first_step)
        augment = self._augment
        read = self._train.__getitem__ if augment is None else lambda i: augment(self._train[i], epoch, i)
        return self._loader(read, self._train.targets, portions)

    def _val_loader(self) -> Loader:
        portions = held_out_portions(
            len(self._val), batch_size=self._config.batch_size, rank=self._order.rank, world=self._order.world
        )
        return self._loader(self._val.__getitem__, self._val.targets, portions)

    def _loader(
        self, read: Callable[[int], Tensor], targets: NDArray[np.float32], portions: Sequence[Portion]
    ) -> Loader:
        return Loader(read, targets, portions, threads=self._config.threads or usable_cores())

    # ---- what Lightning calls ----

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore_handlers()
        [self._optimizer] = trainer.optimizers
        self._schedule = self._module.objective.schedule(self._optimizer)
        self._restore_average()
        self._restore_optimizer(self._optimizer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._schedule is not None
        assert self._optimizer is not None
        self._schedule.step(self._state.epoch)
        rates = {f"lr_{group['name']}": float(group["lr"]) for group in self._optimizer.param_groups}
        self._state = replace(self._state, learning_rates=rates)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        tally = self._module.tally
        gradients = [each.grad for each in self._kept.values() if each.grad is not None]
        if tally.failing or not all(each.isfinite().all() for each in gradients):
            raise self._no_number("the loss" if tally.failing else "a gradient", tally.failing or tally.examples)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        if not batch.portion.ends_step:
            return
        tally, state = self._module.tally, self._state
        loss_sum, counted, stopping = self._sum_of_processes(tally.loss_sum, tally.counted, self._stop())
        self._module.tally = StepTally()
        self._state = replace(
            state, step=state.step + 1, loss_sum=state.loss_sum + loss_sum, examples=state.examples + int(counted)
        )
        self._update_average()
        self._loss = loss_sum / counted
        self._log({"train/loss": self._loss, **_slashed(state.learning_rates)})
        self._tell()
        if stopping or time.monotonic() - self._saved_at >= 60 * self._config.checkpoint_minutes:
            self._save()
        if stopping:
            raise Stopped

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore_handlers()
        self._restore_average()
        self._swap_average()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._tell(is_validating=True)
        [stopping] = self._sum_of_processes(self._stop())
        if stopping:
            self._swap_average()
            self._save()
            raise Stopped

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap_average()
        logits = self._module.held_out_logits(len(self._val))  # [N, C]
        loss = self._module.objective.held_out_loss(logits, torch.from_numpy(self._val.targets)).item()
        if not math.isfinite(loss):
            raise self._no_number("the loss over the validation examples", [])
        probabilities = logits.double().softmax(1)
        values = point_values(self._val.targets.argmax(1), probabilities.numpy())
        auroc = values["auroc_macro"]
        self._end_epoch(
            {
                "epoch": self._state.epoch + 1,
                "train_loss": self._state.loss_sum / self._state.examples,
                "val_loss": loss,
                "val_accuracy": values["accuracy"],
                "val_uar": values["uar"],
                "val_auroc": auroc if math.isfinite(auroc) else None,
                **self._state.learning_rates,
            },
            probabilities,
        )
        trainer.should_stop = self._is_over

    def _end_epoch(self, figures: EpochFigures, probabilities: Tensor) -> None:
        """Write down an epoch, and its weights where they are the best."""
        history = (*self._state.history, figures)
        self._log({f"val/{name[4:]}": value for name, value in figures.items() if name.startswith("val_")})
        self._state = TrainingState(epoch=self._state.epoch + 1, history=history)
        if best_epoch(history) == len(history):
            weights = {f"{_NETWORK}{name}": tensor for name, tensor in (self._average or self._kept).items()}
            self._write(BEST, {**weights, _PROBABILITIES: probabilities})
        self._save()
        if self._trainer.is_global_zero:
            _write_history(self._folder / HISTORY_FILE, history)
        self._tell()

    def _no_number(self, what: str, examples: Sequence[int]) -> TrainingError:
        where = f"epoch {self._state.epoch + 1}"
        look = ""
        if examples:
            where += f", step {self._state.step + 1}"
            names = ", ".join(repr(self._train.names[i]) for i in examples[:_NAMES_IN_MESSAGE])
            more = len(examples) - _NAMES_IN_MESSAGE
            look = f"; look at the pictures of the step: {names}{f' and {more} more' if more > 0 else ''}"
        return TrainingError(
            f"{where}: {what} is no finite number. The last checkpoint is kept. Start anew under another --out with "
            f"lower learning rates, or --precision fp32{look}"
        )

    # ---- what is written down ----

    def _save(self) -> None:
        tensors: dict[str, Tensor] = {f"{_NETWORK}{name}": tensor for name, tensor in self._kept.items()}
        tensors |= {f"{_AVERAGE}{name}": tensor for name, tensor in self._average.items()}
        if self._optimizer is None:
            tensors |= {name: tensor for name, tensor in self._saved.items() if name.startswith(_OPTIMIZER)}
        else:
            for index, values in sorted(self._optimizer.state_dict()["state"].items()):
                tensors |= {f"{_OPTIMIZER}{index}.{key}": values[key] for key in sorted(values)}
        self._write(LAST, tensors)
        if self._writer is not None:
            self._writer.flush()
        self._saved_at = time.monotonic()

    def _write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        if self._trainer.is_global_zero:
            save(self._folder / name, tensors, self._state)
        self._trainer.strategy.barrier()

    def _restore_network(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._kept.items():
                parameter.copy_(tensors[f"{_NETWORK}{name}"])

    def _restore_optimizer(self, optimizer: Optimizer) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in self._saved.items():
            if name.startswith(_OPTIMIZER):
                index, key = name.removeprefix(_OPTIMIZER).split(".")
                state.setdefault(int(index), {})[key] = tensor.clone()
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        self._saved = {}  # nothing is left to be taken from it

    def _log(self, values: Mapping[str, float | None]) -> None:
        """To TensorBoard; what an earlier start has logged of later steps is dropped there."""
        if not self._trainer.is_global_zero:
            return
        if self._writer is None:
            purge = self._steps_resumed or None
            self._writer = SummaryWriter(str(self._folder / TENSORBOARD_FOLDER), purge_step=purge)
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, self._steps_done)

    # ---- the moving average of the weights ----

    def _restore_average(self) -> None:
        if self._config.ema is None or self._average:
            return
        for name, parameter in self._kept.items():
            saved = self._saved.get(f"{_AVERAGE}{name}")
            self._average[name] = (parameter if saved is None else saved).detach().clone().to(parameter.device)

    @torch.no_grad()
    def _update_average(self) -> None:
        for name, average in self._average.items():
            average.lerp_(self._kept[name], 1 - (self._config.ema or 0))

    @torch.no_grad()
    def _swap_average(self) -> None:
        """Have the network compute with the average, or with its own weights again."""
        for name, average in self._average.items():
            own = self._kept[name].clone()
            self._kept[name].copy_(average)
            average.copy_(own)

    # ---- the rest ----

    def _restore_handlers(self) -> None:
        """Have signals ask for the end by `stop`: Lightning puts handlers of its own in their place."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def _sum_of_processes(self, *values: float) -> list[float]:
        if self._trainer.world_size == 1:
            return list(values)
        mine = torch.tensor(values, dtype=torch.float64, device=self._module.device)
        total = self._trainer.strategy.reduce(mine, reduce_op="sum")
        assert isinstance(total, torch.Tensor)
        return total.tolist()

    def _tell(self, *, is_validating: bool = False) -> None:
        if not self._trainer.is_global_zero:
            return
        history = self._state.history
        self._progress(
            TrainingProgress(
                epochs=self._config.epochs,
                epoch=min(self._state.epoch + 1, self._config.epochs),
                steps=self._config.epochs * self._order.steps,
                steps_done=self._steps_done,
                steps_resumed=self._steps_resumed,
                loss=self._loss,
                val_loss=history[-1]["val_loss"] if history else None,
                is_validating=is_validating,
                seconds=time.monotonic() - self._started,
            )
        )


def best_epoch(history: Sequence[EpochFigures]) -> int:
    """From 1: the one with the least validation loss, the first of equals."""
    losses = [figures["val_loss"] for figures in history]
    return losses.index(min(loss for loss in losses if loss is not None)) + 1


def _balanced_chances(targets: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each example to be drawn, such that every class is as likely, [N]; soft labels count by their shares."""
    shares = targets.astype(np.float64)
    of_class = shares.sum(axis=0)  # [C]
    chances: NDArray[np.float64] = (shares[:, of_class > 0] / of_class[of_class > 0]).sum(axis=1)
    return chances / np.count_nonzero(of_class)


def _slashed(rates: Mapping[str, float]) -> dict[str, float]:
    return {name.replace("_", "/", 1): rate for name, rate in rates.items()}


def _write_history(path: Path, history: Sequence[EpochFigures]) -> None:
    with durably(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(history[0]))
        table.writeheader()
        table.writerows(history)
