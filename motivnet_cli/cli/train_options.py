"""The options of `motivnet train`, in groups, and the settings that they become.

A group is of one way to train, or of several. What is given of another way is refused by name.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from motivnet_cli.cli.evaluate_options import KeepContempt, SetFaces, SetProtocol, SetRoot
from motivnet_cli.cli.help import GENERAL
from motivnet_cli.cli.options import AcceptTerms, Device, OptionGroup, StoreFolder
from motivnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from motivnet_cli.training.config import (
        AugmentConfig,
        DataConfig,
        FitConfig,
        HeadConfig,
        OptimConfig,
        StudentConfig,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultOptions(OptionGroup):
    """Where the result goes, and what all ways of training have in common."""

    panel = "Output"

    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder of report, logs and checkpoints. Its last part is the model's name in the store.",
        ),
    ] = None
    store: StoreFolder = None
    path_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Column of paths or inputs in a table of labels.", rich_help_panel="Labels"
        ),
    ] = None
    label_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of labels in a table of labels.", rich_help_panel="Labels"),
    ] = None
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            rich_help_panel="Labels",
            help="Judge by faces whose person, file or other group was not learned from: subject, or a column of the "
            "labels; of a head also input. Default of a head: the subject, where the labels name it, else the input.",
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.", rich_help_panel=GENERAL)] = 0
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew, and replace a model of this name in the store.")
    ] = False

    @property
    def folder(self) -> str:
        """Of the report.

        Raises:
            ConfigError: None is named.
        """
        if not self.out:
            raise ConfigError("the model needs a name, such as --out my-model")
        return self.out


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions(OptionGroup):
    """The labelled faces that a network learns from."""

    panel = "A network: labelled faces"

    dataset: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Labelled set to learn from, of `motivnet evaluate --list`."),
    ] = None
    root: SetRoot = None
    split: Annotated[
        str | None,
        typer.Option(metavar="SPLIT", help="Split of the set to learn from. Default: its training split."),
    ] = None
    val_split: Annotated[
        str | None,
        typer.Option(metavar="SPLIT", help="Validate on this split. Default: images that are drawn from --split."),
    ] = None
    val_root: Annotated[
        str | None, typer.Option(metavar="FOLDER|FILE", help="Validate on another folder or table of the same kind.")
    ] = None
    val_share: Annotated[float, typer.Option(metavar="SHARE", help="Share of the images to draw for validation.")] = 0.2
    by_subject: Annotated[
        bool, typer.Option("--by-subject", help="Draw whole subjects for validation, so that nobody is on both sides.")
    ] = False
    protocol: SetProtocol = None
    label_map: Annotated[
        str | None,
        typer.Option(metavar="LABEL=CLASS,...|FILE.json", help="The class that each label means; drop leaves it out."),
    ] = None
    soft_labels: Annotated[
        bool, typer.Option("--soft-labels", help="Learn the shares of the annotators' votes, where a set has them.")
    ] = False
    soft_columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Learn the shares or votes in these columns of a table, which are named as the classes are.",
        ),
    ] = None
    contempt: KeepContempt = False
    faces: SetFaces = None
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="How a face becomes the network's input. Default: the first recipe of what it starts from.",
        ),
    ] = None

    def config(self, result: ResultOptions, *, threads: int | None) -> DataConfig:
        """The settings of the data.

        Raises:
            ConfigError: A value is out of its range, or no set is found.
        """
        from motivnet_cli.cli.evaluate_options import FACES
        from motivnet_cli.config import LoaderConfig
        from motivnet_cli.evaluation.datasets.read import read_label_map
        from motivnet_cli.evaluation.datasets.roots import find_root
        from motivnet_cli.training.config import DataConfig

        assert self.dataset is not None, "by it a network is told from a head"
        if self.by_subject and result.group_by:
            raise ConfigError("--by-subject is --group-by subject: give one of them")
        return DataConfig(
            dataset=self.dataset,
            root=find_root(self.dataset, self.root).path,
            split=self.split,
            val_split=self.val_split,
            val_root=self.val_root,
            val_share=self.val_share,
            group_by="subject" if self.by_subject else result.group_by,
            protocol=self.protocol,
            path_column=result.path_column,
            label_column=result.label_column,
            label_map=read_label_map(self.label_map) if self.label_map else None,
            contempt=self.contempt,
            soft_labels=self.soft_labels,
            soft_columns=tuple(filter(None, map(str.strip, (self.soft_columns or "").split(",")))),
            faces=FACES[self.faces] if self.faces else None,
            loader=LoaderConfig(threads=threads),
            seed=result.seed,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecipeOptions(OptionGroup):
    """From what a whole network starts, and how it learns: the defaults are those of MotivNet's reference."""

    panel = "A network: how it learns"

    init: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|FILE", help="What to start from: sapiens-1b, motivnet-1b or another model, or a checkpoint."
        ),
    ] = None
    accept_terms: AcceptTerms = False
    new_head: Annotated[
        bool, typer.Option("--new-head", help="Draw a new head, also where the start has one for these classes.")
    ] = False
    encoder_lr: Annotated[float, typer.Option(metavar="RATE", help="Learning rate of the encoder.")] = 1e-8
    head_lr: Annotated[float, typer.Option(metavar="RATE", help="Learning rate of the head.")] = 1e-5
    weight_decay: Annotated[float, typer.Option(help="Weight decay of AdamW.")] = 0.01
    restart_epochs: Annotated[
        int, typer.Option(help="Epochs in which the rates fall to 0 by a cosine, before they start again.")
    ] = 10
    dropout: Annotated[float, typer.Option(metavar="SHARE", help="Dropout of the head.")] = 0.1
    freeze_encoder: Annotated[bool, typer.Option("--freeze-encoder", help="Train the head alone.")] = False
    lora_rank: Annotated[
        int | None, typer.Option(help="Train low-rank adapters (LoRA) of this rank in place of the encoder.")
    ] = None
    lora_alpha: Annotated[
        float, typer.Option(help="What the adapters add is multiplied by this number over their rank.")
    ] = 16.0
    lora_lr: Annotated[float, typer.Option(metavar="RATE", help="Learning rate of the adapters.")] = 2e-4
    class_weights: Annotated[
        Literal["none", "balanced"],
        typer.Option(help="balanced: examples of rare classes count more in the loss."),
    ] = "none"
    label_smoothing: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of each target that is spread over all classes.")
    ] = 0.0

    def config(self) -> OptimConfig:
        """What trains, and how.

        Raises:
            ConfigError: A value is out of its range.
        """
        from motivnet_cli.training.config import AdapterConfig, OptimConfig

        if self.lora_rank is None and (self.lora_alpha, self.lora_lr) != (
            RecipeOptions.lora_alpha,
            RecipeOptions.lora_lr,
        ):
            raise ConfigError("--lora-alpha and --lora-lr are for --lora-rank")
        adapters = None
        if self.lora_rank is not None:
            if self.freeze_encoder:
                raise ConfigError("--freeze-encoder trains the head alone, --lora-rank adapters, too: give one of them")
            adapters = AdapterConfig(rank=self.lora_rank, alpha=self.lora_alpha, learning_rate=self.lora_lr)
        return OptimConfig(
            encoder_lr=self.encoder_lr,
            head_lr=self.head_lr,
            weight_decay=self.weight_decay,
            restart_epochs=self.restart_epochs,
            dropout=self.dropout,
            freeze_encoder=self.freeze_encoder,
            adapters=adapters,
            class_weights=self.class_weights,
            label_smoothing=self.label_smoothing,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentOptions(OptionGroup):
    """How faces are changed from epoch to epoch; all are off by default."""

    panel = "A network: changes to faces"

    flip_augment: Annotated[bool, typer.Option("--flip-augment", help="Mirror half of the faces, drawn at random.")] = (
        False
    )
    color_jitter: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Change brightness, contrast and saturation by up to this share, such as 0.2."
        ),
    ] = 0.0
    erase: Annotated[
        float, typer.Option(metavar="SHARE", help="Chance that a rectangle of a face becomes noise, such as 0.25.")
    ] = 0.0
    mixup: Annotated[float, typer.Option(help="Mix faces and labels (MixUp) with this alpha, such as 0.2.")] = 0.0

    def config(self) -> AugmentConfig:
        """The changes.

        Raises:
            ConfigError: A value is out of its range.
        """
        from motivnet_cli.training.config import AugmentConfig

        return AugmentConfig(
            flip=self.flip_augment, color_jitter=self.color_jitter, random_erasing=self.erase, mixup=self.mixup
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitOptions(OptionGroup):
    """For how long a network trains, and on what."""

    panel = "A network or a student: epochs"

    epochs: Annotated[int, typer.Option(help="How often every face is seen.")] = 10
    batch_size: Annotated[int, typer.Option(help="Faces that each device takes at once.")] = 32
    accumulate: Annotated[int, typer.Option(help="Batches before the weights change.")] = 1
    precision: Annotated[
        Literal["fp32", "bf16"],
        typer.Option(help="bf16: compute in it, and keep weights and optimizer in fp32."),
    ] = "fp32"
    balanced_sampling: Annotated[
        bool, typer.Option("--balanced-sampling", help="Draw faces so that all classes are seen equally often.")
    ] = False
    ema: Annotated[
        float | None,
        typer.Option(metavar="DECAY", help="Keep a moving average of the weights, with a decay such as 0.999."),
    ] = None
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without a lower validation loss.")] = (
        None
    )
    checkpoint_activations: Annotated[
        bool,
        typer.Option("--checkpoint-activations", help="Less memory for a third more time: compute activations twice."),
    ] = False
    device: Device = "auto"
    devices: Annotated[
        str, typer.Option(metavar="N|all", help="GPUs of each node, or processes on a CPU.", rich_help_panel="Machine")
    ] = "1"
    num_nodes: Annotated[
        int,
        typer.Option(
            help="Number of nodes; start the command on each, with srun or torchrun.", rich_help_panel="Cluster"
        ),
    ] = 1
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads that read faces. Default: the cores this process may use.", rich_help_panel="Machine"
        ),
    ] = None
    checkpoint_minutes: Annotated[
        float, typer.Option(metavar="MINUTES", help="The most minutes of work that a kill can cost.")
    ] = 10.0

    def config(self, *, seed: int) -> FitConfig:
        """The settings.

        Raises:
            ConfigError: A value is out of its range.
        """
        from motivnet_cli.training.config import FitConfig

        if self.devices != "all" and not self.devices.isdecimal():
            raise ConfigError(f"--devices takes a number or all, got {self.devices!r}")
        return FitConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            precision=self.precision,
            balanced_sampling=self.balanced_sampling,
            ema=self.ema,
            patience=self.patience,
            checkpoint_activations=self.checkpoint_activations,
            seed=seed,
            device=self.device,
            devices=None if self.devices == "all" else int(self.devices),
            num_nodes=self.num_nodes,
            threads=self.threads,
            checkpoint_minutes=self.checkpoint_minutes,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadOptions(OptionGroup):
    """A head on embeddings that exist."""

    panel = "A head"

    predictions: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE|FOLDER", help="Train a head on the embeddings of an output of annotate."),
    ] = None
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Table of labels (.csv, .jsonl, .parquet): inputs, labels, and perhaps frame, face, track.",
        ),
    ] = None
    head: Annotated[
        Literal["linear", "mlp", "knn"] | None,
        typer.Option(help="Kind of the head. Default: linear, a logistic regression."),
    ] = None
    fold_column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of the labels that says in which fold a face is held out."),
    ] = None
    folds: Annotated[int | None, typer.Option(help="Number of folds by which the head is judged. Default: 5.")] = None
    largest_face: Annotated[
        bool, typer.Option("--largest-face", help="Where several faces could be meant, a label means the largest.")
    ] = False
    shots: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="Also judge heads that learn from so few faces of each class."),
    ] = None

    def config(self, result: ResultOptions, *, command: str) -> HeadConfig:
        """The settings of a head.

        Raises:
            ConfigError: Embeddings or labels are not given, or a value is out of its range.
        """
        from motivnet_cli.training.config import HeadConfig

        if not self.predictions or not self.labels:
            raise ConfigError("a head takes embeddings and labels: --from preds.parquet --labels labels.csv")
        given = {"kind": self.head, "folds": self.folds}
        return HeadConfig(
            predictions=self.predictions,
            labels=self.labels,
            out=result.folder,
            path_column=result.path_column,
            label_column=result.label_column,
            group_by=result.group_by,
            fold_column=self.fold_column,
            largest_face=self.largest_face,
            shots=self._shots(),
            seed=result.seed,
            store=result.store,
            overwrite=result.overwrite,
            command=command,
            **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
        )

    def _shots(self) -> tuple[int, ...]:
        try:
            return tuple(int(word) for word in self.shots.split(",")) if self.shots else ()
        except ValueError:
            raise ConfigError(
                f"--shots takes whole numbers with commas between, such as 1,5,10,50; got {self.shots!r}"
            ) from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentOptions(OptionGroup):
    """Whose answers a small network learns, and how."""

    panel = "A student"

    student: Annotated[
        Literal["expression-net"] | None,
        typer.Option(help="Train this small network on what a large one has said."),
    ] = None
    targets: Annotated[
        str | None,
        typer.Option(metavar="FILE|FOLDER", help="An output of annotate: the student learns its probabilities."),
    ] = None
    images: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="The inputs of that output lie below this folder by their names. Default: where annotate had them.",
        ),
    ] = None
    temperature: Annotated[float, typer.Option(help="Temperature at which student and teacher are compared.")] = 2.0
    lr: Annotated[
        float, typer.Option(metavar="RATE", help="Learning rate of the student; it falls to 0 by a cosine.")
    ] = 1e-3
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Draw all weights anew. Default: those of the model in the package.")
    ] = False

    def config(self, result: ResultOptions, fit: FitConfig, *, command: str) -> StudentConfig:
        """The settings.

        Raises:
            ConfigError: The output or the folder is not named, or a value is out of its range.
        """
        from motivnet_cli.training.config import StudentConfig

        if (result.path_column, result.label_column, result.group_by) != (None, None, None):
            raise ConfigError("--path-column, --label-column and --group-by are for labels: a student has none of them")
        if self.student is None or self.targets is None:
            raise ConfigError(
                "name what learns and what it learns: --student expression-net --targets preds.parquet, an output of "
                "motivnet annotate"
            )
        return StudentConfig(
            targets=self.targets,
            out=result.folder,
            images=self.images,
            from_scratch=self.from_scratch,
            temperature=self.temperature,
            learning_rate=self.lr,
            fit=fit,
            store=result.store,
            overwrite=result.overwrite,
            command=command,
        )


def refuse(way: str, *groups: OptionGroup) -> None:
    """Refuse what is given of options that another way to train has.

    Args:
        way: The one that was chosen, in words.

    Raises:
        ConfigError: One is not at its default.
    """
    given = [
        f"--{field.name.replace('_', '-')}"
        for group in groups
        for field in dataclasses.fields(group)
        if getattr(group, field.name) != field.default
    ]
    if given:
        raise ConfigError(f"{way} has no {', '.join(given)}: leave that out")
