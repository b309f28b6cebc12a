"""The options of `motivnet evaluate` and `motivnet compare`, in groups, and the settings that they become."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from motivnet_cli.cli.options import NetworkOptions, OptionGroup, Threads
from motivnet_cli.config import CLIP_FPS, CORRUPTIONS, SEVERITIES, FaceConfig, LoaderConfig, parse_corruption
from motivnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from motivnet_cli.catalogue import ModelCard
    from motivnet_cli.config import Corruption
    from motivnet_cli.evaluation.config import EvaluateConfig

FACES = {
    "auto": FaceConfig(mode="auto", max_faces=1),
    "detect": FaceConfig(mode="detect", max_faces=1),
    "whole": FaceConfig(mode="whole"),
}

SetRoot = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|FILE",
        rich_help_panel="Dataset",
        help="Folder of the set; for csv and parquet, the table. Default: what motivnet.toml names, else a folder "
        "with a usual name of the set in $MOTIVNET_DATASETS or here.",
    ),
]
SetProtocol = Annotated[
    str | None,
    typer.Option(
        metavar="PROTOCOL",
        help="Which of the protocols of the set to follow: `motivnet evaluate --list --dataset DATASET` shows them. "
        "Default: the usual one.",
    ),
]
KeepContempt = Annotated[
    bool, typer.Option("--contempt", help="Keep images of contempt, as an eighth class. Default: they are dropped.")
]
SetFaces = Annotated[
    Literal["auto", "detect", "whole"] | None,
    typer.Option(
        rich_help_panel="Faces",
        help="Where the face is. Default: what suits the set (aligned crops are whole, given boxes are used).",
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetOptions(OptionGroup):
    """Which labelled sets are evaluated, and where the reports go."""

    panel = "Dataset"

    dataset: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Labelled set, of those that --list shows.")
    ] = None
    root: SetRoot = None
    suite: Annotated[
        str | None,
        typer.Option(metavar="DATASET[=FOLDER],...", help="Evaluate several sets, and print a table of all."),
    ] = None
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Folder of the report and predictions. Default: evaluation-DATASET.",
            rich_help_panel="Output",
        ),
    ] = None

    @property
    def folder(self) -> Path:
        """Of the report; of a suite, also of the folders of its sets."""
        return Path(self.out or ("evaluation" if self.suite else f"evaluation-{self.dataset}"))

    def sets(self) -> dict[str, str | None]:
        """The root of each set, by the name of the set; None where it is to be looked for.

        Raises:
            ConfigError: No set is named, or both a set and a suite.
        """
        if self.suite:
            if self.dataset or self.root:
                raise ConfigError("give --suite, or --dataset and --root, not both")
            return _parse_suite(self.suite)
        if not self.dataset:
            raise ConfigError("give --dataset NAME, or --suite NAME,NAME=ROOT,...; --list shows the sets")
        return {self.dataset: self.root}


def _parse_suite(text: str) -> dict[str, str | None]:
    sets: dict[str, str | None] = {}
    for word in filter(None, text.split(",")):
        name, sign, root = (part.strip() for part in word.partition("="))
        if not name or (sign and not root):
            raise ConfigError(f"--suite takes names of sets, with or without a root, such as a,b=folder; got {text!r}")
        if name in sets:
            raise ConfigError(f"--suite names {name} twice, got {text!r}: evaluate the copies one by one")
        sets[name] = root or None
    return sets


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelOptions(OptionGroup):
    """How a labelled set is read, and how predictions of it are scored."""

    panel = "Labels"

    split: Annotated[str | None, typer.Option(metavar="SPLIT", help="Split of the set. Default: its test split.")] = (
        None
    )
    protocol: SetProtocol = None
    path_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of paths in a csv or parquet set.")
    ] = None
    label_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of labels in a csv or parquet set.")
    ] = None
    label_map: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL=EMOTION,...|FILE.json",
            help="The emotion, or class of the model, that each label means; drop leaves a label out.",
        ),
    ] = None
    contempt: KeepContempt = False
    clip: Annotated[
        Literal["mean", "median", "top"] | None,
        typer.Option(
            rich_help_panel="Scores",
            help="How the frames of a labelled clip become one answer: mean or median of their probabilities, or the "
            "mean over the most certain quarter of the frames. Default: mean.",
        ),
    ] = None
    argmax: Annotated[
        Literal["all", "labelled"],
        typer.Option(
            rich_help_panel="Scores",
            help="Predict the most probable of all classes, or of those that labelled images have (CK+: no neutral).",
        ),
    ] = "all"
    resamples: Annotated[int, typer.Option(help="Resamples of the bootstrap.", rich_help_panel="Scores")] = 1000
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.", rich_help_panel="Scores")] = 0

    def config(self, dataset: str, root: str | None, *, out: str) -> EvaluateConfig:
        """The settings of an evaluation of this set.

        Args:
            root: None looks for it.

        Raises:
            ConfigError: As `find_root` and `read_label_map`.
        """
        from motivnet_cli.evaluation.clips import ClipConfig
        from motivnet_cli.evaluation.config import EvaluateConfig
        from motivnet_cli.evaluation.datasets.read import read_label_map
        from motivnet_cli.evaluation.datasets.roots import find_root

        return EvaluateConfig(
            dataset=dataset,
            root=find_root(dataset, root).path,
            out=out,
            split=self.split,
            protocol=self.protocol,
            path_column=self.path_column,
            label_column=self.label_column,
            label_map=read_label_map(self.label_map) if self.label_map else None,
            contempt=self.contempt,
            argmax=self.argmax,
            label_map_file=self.label_map if self.label_map and self.label_map.casefold().endswith(".json") else None,
            clips=ClipConfig(pooling=self.clip) if self.clip else None,
            resamples=self.resamples,
            seed=self.seed,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerOptions(NetworkOptions):
    """What is scored: the answers of a network, or predictions that exist."""

    panel = "Model"

    predictions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PREDICTIONS",
            rich_help_panel="Predictions",
            help="Score these predictions (.parquet, .csv, .jsonl), from motivnet or another tool, and run no network. "
            "Of several it is tested whether they differ.",
        ),
    ] = None
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            rich_help_panel="Scores",
            help="Score every group of images by itself, and test whether groups differ: subject, gender, or any "
            "column of a csv or parquet set.",
        ),
    ] = None
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="all|RECIPE,...", help="Input recipe; of several, or all, each is a run. Default: the model's."
        ),
    ] = None
    margin: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER,...",
            rich_help_panel="Faces",
            help="Margin around a face, as of annotate; of several, each is a run with each recipe. Default: the "
            "model's.",
        ),
    ] = None
    align: Annotated[
        bool | None,
        typer.Option(
            "--align/--no-align",
            help="Rotate the crop until the eyes are level, as annotate does. Default: the model's.",
            rich_help_panel="Faces",
        ),
    ] = None
    faces: SetFaces = None
    fps: Annotated[
        float | None,
        typer.Option(
            help=f"Frames per second of a labelled video to look at. Default: {CLIP_FPS:g}.", rich_help_panel="Video"
        ),
    ] = None
    every: Annotated[
        int | None,
        typer.Option(
            help="Look at every N-th frame, in place of --fps, also of clips that are folders of frames.",
            rich_help_panel="Video",
        ),
    ] = None
    corrupt: Annotated[
        str | None,
        typer.Option(
            metavar="all|NAME,...",
            rich_help_panel="Robustness",
            help=f"Also run the network over the images after each of these corruptions: {', '.join(CORRUPTIONS)}.",
        ),
    ] = None
    severities: Annotated[
        str | None,
        typer.Option(
            metavar="N,...",
            help="Severities of these corruptions, from 1 to 5. Default: all.",
            rich_help_panel="Robustness",
        ),
    ] = None
    calibrate_on: Annotated[
        str | None,
        typer.Option(
            metavar="SPLIT",
            help="Fit a temperature on this split too, and say what it does to the evaluated one.",
            rich_help_panel="Scores",
        ),
    ] = None
    threads: Threads = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Predict anew.", rich_help_panel="Output")] = False

    def applied_to(self, config: EvaluateConfig) -> EvaluateConfig:
        """The settings of an evaluation, with those of this group."""
        from motivnet_cli.evaluation.clips import ClipConfig
        from motivnet_cli.weights.load import model_card

        clips = config.clips
        if (self.fps, self.every) != (None, None):
            clips = dataclasses.replace(clips or ClipConfig(), fps=self.fps, every=self.every)
        corrupted = self._corruptions()
        model = self.config()
        card = model_card(model.name, weights=model.weights, store=model.store)
        return dataclasses.replace(
            config,
            predictions=tuple(self.predictions or ()),
            by=tuple(dict.fromkeys(self.by or ())),
            recipes=self._recipes(card),
            margins=self._margins(),
            align=self.align,
            model=model,
            faces=FACES[self.faces] if self.faces else None,
            clips=clips,
            calibrate_on=self.calibrate_on,
            loader=LoaderConfig(threads=self.threads),
            corruptions=tuple(name for name in CORRUPTIONS if name in {each.name for each in corrupted}),
            severities=tuple(severity for severity in SEVERITIES if severity in {each.severity for each in corrupted}),
            overwrite=self.overwrite,
        )

    def _recipes(self, card: ModelCard) -> tuple[str | None, ...]:
        """The recipes that are named; `both` are the two of MotivNet's reference."""
        if self.recipe is None:
            return (None,)
        named = {"all": card.recipes, "both": card.recipes[:2]}.get(self.recipe, _words(self.recipe))
        return tuple(dict.fromkeys(named))

    def _margins(self) -> tuple[float | None, ...]:
        """The margins that are named.

        Raises:
            ConfigError: One is no number.
        """
        if self.margin is None:
            return (None,)
        try:
            return tuple(dict.fromkeys(map(float, _words(self.margin))))
        except ValueError:
            raise ConfigError(
                f"--margin takes numbers with commas between, such as 0.15,0.2,0.3; got {self.margin!r}"
            ) from None

    def _corruptions(self) -> set[Corruption]:
        """Every severity of every corruption that is named.

        Raises:
            ConfigError: A name or a number is none of a corruption, or severities are given without corruptions.
        """
        if self.corrupt is None:
            if self.severities is not None:
                raise ConfigError("--severities are those of --corrupt: name the corruptions, such as --corrupt all")
            return set()
        names = CORRUPTIONS if self.corrupt == "all" else _words(self.corrupt)
        numbers = SEVERITIES if self.severities is None else _words(self.severities)
        return {parse_corruption(name, str(number)) for name in names for number in numbers}


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]
