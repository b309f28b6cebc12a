"""The options of `motivnet train`, in groups, and the settings that they become."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from motivnet_cli.cli.options import OptionGroup, StoreFolder
from motivnet_cli.errors import ConfigError

if TYPE_CHECKING:
    from motivnet_cli.training.config import HeadConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultOptions(OptionGroup):
    """Where the result goes, and what all ways of training have in common."""

    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Folder of the report. Its last part is the model's name in the store."),
    ] = None
    store: StoreFolder = None
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Judge by faces whose person, file or other group was not learned from: a column of the labels, or "
            "input. Default: the subject, where the labels name it, else the input.",
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0
    overwrite: Annotated[bool, typer.Option(help="Replace a model of this name in the store.")] = False

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
class HeadOptions(OptionGroup):
    """A head on embeddings that exist."""

    predictions: Annotated[
        str | None,
        typer.Option("--from", metavar="OUTPUT", help="Train a head on the embeddings of an output of annotate."),
    ] = None
    labels: Annotated[
        str | None,
        typer.Option(help="Table of labels (.csv, .jsonl, .parquet): inputs, labels, and perhaps frame, face, track."),
    ] = None
    head: Annotated[
        Literal["linear", "mlp", "knn"] | None,
        typer.Option(metavar="linear|mlp|knn", help="Default: linear, a logistic regression."),
    ] = None
    path_column: Annotated[str | None, typer.Option(help="Column of inputs in the labels.")] = None
    label_column: Annotated[str | None, typer.Option(help="Column of labels.")] = None
    fold_column: Annotated[
        str | None, typer.Option(help="Column of the labels that says in which fold a face is held out.")
    ] = None
    folds: Annotated[int | None, typer.Option(help="Folds by which the head is judged. Default: 5.")] = None
    largest_face: Annotated[
        bool, typer.Option("--largest-face", help="Where several faces could be meant, a label means the largest.")
    ] = False
    shots: Annotated[
        str | None,
        typer.Option(metavar="NUMBER,...", help="Also judge heads that learn from so few faces of each class."),
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
            path_column=self.path_column,
            label_column=self.label_column,
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
