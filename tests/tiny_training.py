"""A training that takes a second: drawn faces of three classes, and a network of MotivNet's architecture.

As a script it trains in processes that a test can kill (`main`), or in several at once.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

from motivnet_cli.model import MotivNet
from motivnet_cli.training.config import FitConfig, OptimConfig
from motivnet_cli.training.fit import Fitted, fit
from motivnet_cli.training.module import Objective
from motivnet_cli.training.optim import classification_loss, make_optimizer, make_schedule, prepare
from tests.trained import CLASSES, TINY_SIZES

RATES = OptimConfig(encoder_lr=1e-3, head_lr=1e-3, restart_epochs=3)
FIT = FitConfig(epochs=3, batch_size=4, accumulate=2, ema=0.8, device="cpu", threads=2)
"""Two portions a step, the last of an epoch is not whole, and everything that has a state has it."""


class DrawnFaces:
    """Noise, in which the strongest of the three colours is the class."""

    def __init__(self, count: int, *, seed: int) -> None:
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, len(CLASSES), count)
        self.names = tuple(f"{seed}/{number}.png" for number in range(count))
        self.targets = np.eye(len(CLASSES), dtype=np.float32)[labels]
        self._pixels = draw.integers(0, 150, (count, 3, 64, 48), dtype=np.uint8)
        self._pixels[np.arange(count), labels] += 60

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self._pixels[index])


TRAIN, VAL = DrawnFaces(21, seed=1), DrawnFaces(10, seed=2)


def tiny_network(config: OptimConfig = RATES) -> MotivNet:
    network = MotivNet(TINY_SIZES, classes=CLASSES)
    generator = torch.Generator().manual_seed(3)
    for parameter in network.encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    network.head.reset_parameters(generator)
    prepare(network, config, generator=generator)
    return network


def objective(config: OptimConfig = RATES) -> Objective:
    return Objective(
        loss=classification_loss,
        held_out_loss=classification_loss,
        optimizer=partial(make_optimizer, config=config),
        schedule=partial(make_schedule, config=config),
    )


def train(folder: Path, config: FitConfig = FIT, *, rates: OptimConfig = RATES, **more) -> tuple[MotivNet, Fitted]:
    network = tiny_network(rates)
    folder.mkdir(exist_ok=True)
    return network, fit(network, objective(rates), TRAIN, VAL, config, folder=folder, augment=brightened, **more)


def brightened(pixels: torch.Tensor, epoch: int, index: int) -> torch.Tensor:
    """Another for each epoch and example."""
    return pixels + (7 * epoch + index) % 5


def main(folder: Path) -> None:
    """For each line of stdin, a process that trains; prints its number, the steps that it has done, and how it ended.

    Processes are forked: importing torch and Lightning anew takes longer than the training.
    """
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            os.write(1, b"%d\n" % os.getpid())
            torch.set_num_threads(1)
            config = dataclasses.replace(FIT, checkpoint_minutes=0)
            train(folder, config, progress=lambda progress: os.write(1, b"%d\n" % progress.steps_done))
            os._exit(0)
        os.write(1, b"ended %d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        main(Path(sys.argv[1]))
    else:  # in several processes, each of which Lightning starts by the same command
        train(
            Path(sys.argv[1]),
            dataclasses.replace(FIT, **json.loads(sys.argv[2])),
            rates=dataclasses.replace(RATES, dropout=0),
        )
