"""The settings of a training: small frozen objects, made once from the command line or in Python.

Defaults are those of MotivNet's reference (arXiv 2512.24231 and its code); what the reference lacks is off.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from motivnet_cli.config import LoaderConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.remote.urls import local_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motivnet_cli.config import FaceConfig

ClassWeights = Literal["none", "balanced"]
TrainingPrecision = Literal["fp32", "bf16"]
AdaptedLayer = Literal["attention.qkv", "attention.out", "mlp.up", "mlp.down"]
VAL_SHARE = 0.2
"""Of the images of the training list, drawn for validation. Source: MotivNet's reference, `int(0.8 * n)` to train."""
HeadKind = Literal["linear", "mlp", "knn"]
HEAD_KINDS: tuple[HeadKind, ...] = get_args(HeadKind)


def _check_range(option: str, value: float, lowest: float, highest: float) -> None:
    """Raise a ConfigError that names an option whose value is not in its range; NaN is in none."""
    if not lowest <= value <= highest:
        raise ConfigError(f"{option} must lie between {lowest:g} and {highest:g}, got {value:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """The labelled faces that are learned from, and those that the training is judged by."""

    dataset: str
    """A key of `datasets.cards.CARDS`."""
    root: str
    """The folder of the set; for csv and parquet, the table."""
    split: str | None = None
    """None takes the split for training; of a set without one, all of it."""
    val_split: str | None = None
    """A split to validate on; None draws a share of the images."""
    val_root: str | None = None
    """Another folder or table of the same kind to validate on."""
    val_share: float = VAL_SHARE
    """Of the images, drawn for validation where neither of these is given."""
    group_by: str | None = None
    """`subject`, or a column of the set: images of one value are all learned from, or all validated on."""
    protocol: str | None = None
    path_column: str | None = None
    label_column: str | None = None
    label_map: Mapping[str, str] | None = None
    """The set's labels -> classes, or `drop`."""
    contempt: bool = False
    """Whether images of contempt are kept, as an eighth class."""
    soft_labels: bool = False
    """Learn the shares of the votes of a set that has several annotators, in place of its label."""
    soft_columns: tuple[str, ...] = ()
    """Learn the shares, or votes, that these columns of a table have; they are called as the classes."""
    faces: FaceConfig | None = None
    """None does what suits the set, as for `evaluate`: crops are taken whole, given boxes are used, else the largest
    face."""
    loader: LoaderConfig = field(default=LoaderConfig())
    seed: int = 0
    """Of what is drawn for validation."""

    def __post_init__(self) -> None:
        for name in ("root", "val_root"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, local_path(path))
        if not 0 < self.val_share < 1:
            raise ConfigError(f"val-share must be more than 0 and less than 1, got {self.val_share:g}")
        if self.val_split is not None and self.val_root is not None:
            raise ConfigError("val-split is a split of the set, val-root another folder or table: give one of them")
        if self.faces is not None and self.faces.max_faces != 1 and self.faces.mode != "whole":
            raise ConfigError(f"one face of a picture has its label: max_faces must be 1, got {self.faces.max_faces}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """How faces are changed from epoch to epoch (`training.augment`). The reference does none of it."""

    flip: bool = False
    """Mirror every second face."""
    color_jitter: float = 0.0
    """Brightness, contrast and saturation are multiplied by up to 1 +- so much."""
    random_erasing: float = 0.0
    """How probably a rectangle of a face becomes noise."""
    mixup: float = 0.0
    """Mix each face with another: the share of both is drawn from Beta(mixup, mixup). 0 mixes none."""

    def __post_init__(self) -> None:
        _check_range("color-jitter", self.color_jitter, 0, 0.9)
        _check_range("random-erasing", self.random_erasing, 0, 1)
        _check_range("mixup", self.mixup, 0, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """Low-rank adapters on the encoder, whose own weights then stay (`training.adapters`)."""

    rank: int = 8
    alpha: float = 16.0
    """An adapter's product is multiplied by alpha / rank."""
    learning_rate: float = 2e-4
    """That of GPT-2 and GPT-3 in the paper of LoRA (arXiv 2106.09685, appendix D)."""
    layers: tuple[AdaptedLayer, ...] = ("attention.qkv", "attention.out")
    """The linear layers of each block that get one."""

    def __post_init__(self) -> None:
        _check_range("lora-rank", self.rank, 1, 1024)
        _check_range("lora-alpha", self.alpha, 0.001, 1000)
        _check_range("lora-lr", self.learning_rate, 0, 1)
        known = get_args(AdaptedLayer)
        if not self.layers or len(set(self.layers)) < len(self.layers) or not set(self.layers) <= set(known):
            raise ConfigError(f"adapters go on some of {', '.join(known)}, each once, got {self.layers}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimConfig:
    """What trains, and how: AdamW, cosine restarts, cross-entropy."""

    encoder_lr: float = 1e-8
    """So low that the encoder hardly moves: numbers near 1, such as the gains of its norms, not at all in float32."""
    head_lr: float = 1e-5
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    restart_epochs: int = 10
    """Epochs from a restart of the learning rates to the next: they fall to 0 by a cosine."""
    dropout: float = 0.1
    """Of the head, at five places of each of its layers."""
    freeze_encoder: bool = False
    """Train the head alone."""
    adapters: AdapterConfig | None = None
    """Train the head and these."""
    class_weights: ClassWeights = "none"
    """`balanced`: an example of class c counts n / (C n_c), for n_c of n examples and C classes."""
    label_smoothing: float = 0.0
    """The part of every target that is spread over all classes."""

    def __post_init__(self) -> None:
        _check_range("encoder-lr", self.encoder_lr, 0, 1)
        _check_range("head-lr", self.head_lr, 0, 1)
        _check_range("weight-decay", self.weight_decay, 0, 1)
        for beta in self.betas:
            _check_range("betas", beta, 0, 0.999999)
        _check_range("restart-epochs", self.restart_epochs, 1, 1_000_000)
        _check_range("dropout", self.dropout, 0, 0.9)
        _check_range("label-smoothing", self.label_smoothing, 0, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """For how long a network is trained, in which batches, on what, and what is kept."""

    epochs: int = 10
    batch_size: int = 32
    """Examples that each device takes at once."""
    accumulate: int = 1
    """Batches of each device before the weights change."""
    precision: TrainingPrecision = "fp32"
    """bf16 computes in it where autocast does; weights, optimizer and loss stay fp32. fp32 is without TF32."""
    balanced_sampling: bool = False
    """Draw the examples of an epoch with replacement, each class as often as the others."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, which then is what is validated and kept."""
    patience: int | None = None
    """Stop after so many epochs without a lower validation loss."""
    checkpoint_activations: bool = False
    """Compute the encoder's activations again for the backward pass, in place of keeping them."""
    seed: int = 0
    device: str = "auto"
    devices: int | None = 1
    """Of this kind on each node, a process each; None takes all."""
    num_nodes: int = 1
    threads: int | None = None
    """That read and prepare faces; None takes the number of usable cores."""
    checkpoint_minutes: float = 10.0
    """A checkpoint is written at least this often, beside those at the end of each epoch."""

    def __post_init__(self) -> None:
        for option in ("epochs", "batch_size", "accumulate", "patience", "devices", "num_nodes", "threads"):
            if (value := getattr(self, option)) is not None:
                _check_range(option.replace("_", "-"), value, 1, 1_000_000)
        if self.ema is not None:
            _check_range("ema", self.ema, 0, 0.999999)
        if not 0 <= self.seed < 1 << 63:
            raise ConfigError(f"seed must be a whole number from 0 to 2^63 - 1, got {self.seed}")
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ConfigError(f"device must be auto, cpu, mps, cuda or cuda:N, got {self.device!r}")
        if self.device.startswith("cuda:") and (self.devices, self.num_nodes) != (1, 1):
            raise ConfigError(f"--device {self.device} is one device: give --device cuda with --devices or --num-nodes")
        _check_range("checkpoint-minutes", self.checkpoint_minutes, 0, 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """A head on embeddings that exist, and how it is judged."""

    predictions: str
    """An output of `annotate`, with embeddings."""
    labels: str
    """A table with a column of inputs and one of labels, and perhaps `frame`, `face`, `track`, subjects and folds."""
    out: str
    """The folder of what is written beside the model; its last part is the model's name in the store."""
    kind: HeadKind = "linear"
    path_column: str | None = None
    label_column: str | None = None
    group_by: str | None = None
    """A column of the labels, or `input`: faces of one value are never on both sides of a fold. None takes the column
    of subjects, where there is one, else the input."""
    fold_column: str | None = None
    """A column of the labels that says in which fold a face is held out."""
    folds: int = 5
    largest_face: bool = False
    """Where a label names an input and several faces are in it, it means the largest."""
    shots: tuple[int, ...] = ()
    """Numbers of faces a class, with which the head is judged, too."""
    seed: int = 0
    store: str | None = None
    overwrite: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        for name in ("predictions", "labels", "out"):
            object.__setattr__(self, name, local_path(getattr(self, name)))
        if self.kind not in HEAD_KINDS:
            raise ConfigError(f"a head is one of {', '.join(HEAD_KINDS)}, got {self.kind!r}")
        _check_range("folds", self.folds, 2, 1000)
        for shots in self.shots:
            _check_range("shots", shots, 1, 1_000_000)
        _check_range("seed", self.seed, 0, 2**32 - 1)

    @property
    def name(self) -> str:
        """Of the model in the store."""
        return Path(self.out).name


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that one training of a whole network needs."""

    data: DataConfig
    init: str
    """The model that it starts from: of the catalogue or the store, or a checkpoint file."""
    out: str
    """Its folder, whose last part is the name of the model."""
    recipe: str | None = None
    """Input recipe; None takes the first of the start."""
    new_head: bool = False
    """Draw a new head, also where the start has one for these classes."""
    optim: OptimConfig = field(default=OptimConfig())
    augment: AugmentConfig = field(default=AugmentConfig())
    fit: FitConfig = field(default=FitConfig())
    store: str | None = None
    overwrite: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", local_path(self.out))

    @property
    def name(self) -> str:
        """Of the model in the store."""
        return Path(self.out).name


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentConfig:
    """Everything that one training of a student needs: whose answers it learns, and how."""

    targets: str
    """An output of `annotate`, whose probabilities are learned."""
    out: str
    """The folder of the training, whose last part is the name of the model."""
    images: str | None = None
    """The folder below which the inputs of the output lie by their names; None looks where the run had them."""
    from_scratch: bool = False
    """Draw all weights, and do not start from those of the embedded model."""
    temperature: float = 2.0
    """Of the loss. On drawn faces 1, 2 and 4 came to the same: a divergence of 0.16, 0.15 and 0.16."""
    learning_rate: float = 1e-3
    """At the start; it falls to 0 by a cosine. On drawn faces 1e-4, 3e-4, 1e-3 and 3e-3 came to a divergence of 0.52,
    0.30, 0.19 and 0.15 in six epochs of 560 faces, and 1e-2 to no agreement."""
    fit: FitConfig = field(default=FitConfig())
    store: str | None = None
    overwrite: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        for name in ("targets", "out", "images"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, local_path(path))
        if self.images is not None and not Path(self.images).is_dir():
            raise ConfigError(f"--images takes the folder that the inputs lie in, and there is none at {self.images!r}")
        _check_range("temperature", self.temperature, 0.1, 100)
        _check_range("lr", self.learning_rate, 0, 1)
        if (self.fit.devices, self.fit.num_nodes) != (1, 1):
            raise ConfigError("a student trains on one device: leave out --devices and --num-nodes")
        if self.fit.checkpoint_activations:
            raise ConfigError("--checkpoint-activations is for large networks: a student has few, leave it out")

    @property
    def name(self) -> str:
        """Of the model in the store."""
        return Path(self.out).name
