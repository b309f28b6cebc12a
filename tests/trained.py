"""Records and networks as a training leaves them, for tests of what becomes of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch

from motivnet_cli.model import ExpressionNet, MotivNet, MotivNetSizes
from motivnet_cli.weights.training_record import (
    Figure,
    Parent,
    Preparation,
    TrainingRecord,
    TrainingSet,
    Validation,
)

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = ("neutral", "smirk", "yawn")
TINY_SIZES = MotivNetSizes(
    width=64, depth=1, heads=4, mlp=128, grid_height=4, grid_width=3, decoder_width=32, decoder_depth=1,
    decoder_heads=4, decoder_ffn=64, num_classes=len(CLASSES),
)  # fmt: skip
RECORD = TrainingRecord(
    kind="network",
    parents=(Parent(name="sapiens-1b", sha256="a" * 64, role="start", terms="CC BY-NC 4.0."),),
    classes=CLASSES,
    data=TrainingSet(
        name="labels.csv",
        sha256="b" * 64,
        counts={"train": {"neutral": 80, "smirk": 40, "yawn": 20}, "val": {"neutral": 20, "smirk": 10, "yawn": 5}},
        split="20 % at random, seed 0",
        dropped={"no face was found": 3},
        remarks=("yawn has 25 faces, 5.6 times fewer than neutral.",),
        terms="Ask its owner.",
    ),
    preparation=Preparation(recipe="pad", margin=0.2, align=True, flip=True),
    settings={"epochs": 3, "batch_size": 32, "optimizer": "AdamW", "seed": 0, "ema": None},
    validation=Validation(
        how="the validation faces, by the network of the best epoch",
        n=35,
        figures={"accuracy": Figure(0.8, 0.64, 0.9), "uar": Figure(0.75, 0.6, 0.88), "loss": Figure(0.61)},
    ),
    history=(
        {"epoch": 1, "train_loss": 1.1, "val_loss": 0.9, "val_accuracy": 0.6, "val_uar": 0.5, "lr_head": 1e-4},
        {"epoch": 2, "train_loss": 0.7, "val_loss": 0.61, "val_accuracy": 0.8, "val_uar": 0.75, "lr_head": 5e-5},
        {"epoch": 3, "train_loss": 0.5, "val_loss": 0.66, "val_accuracy": 0.77, "val_uar": None, "lr_head": 1e-5},
    ),
    best_epoch=2,
    remarks=("The position table was resized from 64 x 64 to 64 x 48.",),
    command="motivnet train --dataset folder --root faces --init sapiens-1b --out my-model",
    tool="motivnet 0",
    date="2026-11-29T12:00:00+00:00",
)


def record(**changes) -> TrainingRecord:
    """A record of a whole network with three classes of one's own, but for the changes."""
    return dataclasses.replace(RECORD, **changes)


def tiny_motivnet(classes: tuple[str, ...] = CLASSES) -> MotivNet:
    """A network of MotivNet's architecture in eval mode; its numbers are the same every time."""
    torch.manual_seed(0)
    network = MotivNet(dataclasses.replace(TINY_SIZES, num_classes=len(classes)), classes=classes)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval().requires_grad_(False)


def tiny_student(classes: tuple[str, ...] = CLASSES) -> ExpressionNet:
    """As `tiny_motivnet`, of the small network's architecture."""
    torch.manual_seed(0)
    return ExpressionNet(classes=classes).eval().requires_grad_(False)


def faces(count: int, *, height: int, width: int) -> torch.Tensor:
    """Noise: uint8 [count, 3, height, width]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def files_of(folder: Path) -> list[str]:
    """What lies in a folder, at any depth, but for locks."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    )
