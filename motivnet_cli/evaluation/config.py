"""The settings of an evaluation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from motivnet_cli.config import SEVERITIES, FaceConfig, LoaderConfig, ModelConfig
from motivnet_cli.evaluation.predictions import names_apart
from motivnet_cli.remote.urls import local_path

if TYPE_CHECKING:
    from motivnet_cli.config import CorruptionName
    from motivnet_cli.evaluation.clips import ClipConfig
    from motivnet_cli.evaluation.results import Argmax


class Variant(NamedTuple):
    """How the faces of one run are cropped; None is as in `EvaluateConfig`."""

    recipe: str | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """Everything that one call of `evaluate` needs."""

    dataset: str
    """A key of `datasets.cards.CARDS`."""
    root: str
    """The folder of the set; for csv and parquet, the table."""
    out: str
    """The folder of the predictions; an evaluation that was stopped resumes from it."""
    split: str | None = None
    protocol: str | None = None
    path_column: str | None = None
    label_column: str | None = None
    label_map: dict[str, str] | None = None
    contempt: bool = False
    """Whether images of contempt are kept, as an eighth class."""
    label_map_file: str | None = None
    """Where the map was read from, if from a file: it is never replaced."""
    by: tuple[str, ...] = ()
    """Columns, for each of which every group of images is scored by itself."""
    predictions: str | tuple[str, ...] | None = None
    """Files or folders of predictions made before, to score in place of running a network; each is a run."""
    recipes: tuple[str | None, ...] = (None,)
    """Input recipes to run the network with, each scored by itself; None is the model's own."""
    margins: tuple[float | None, ...] = (None,)
    """Margins around faces, with each of which every recipe is run; None is that of `faces`, or the model's own."""
    align: bool | None = None
    """Whether faces are aligned; None is as `faces` has it, or the model's own."""
    model: ModelConfig = field(default=ModelConfig())
    faces: FaceConfig | None = None
    """None does what suits the set: aligned crops are taken whole, given boxes are used, else the largest face. Frames
    of clips without a face are never taken whole."""
    clips: ClipConfig | None = None
    """Of a set of clips: their frames, and how these are pooled. None takes the defaults."""
    loader: LoaderConfig = field(default=LoaderConfig())
    corruptions: tuple[CorruptionName, ...] = ()
    """Under each of which the network runs as well."""
    severities: tuple[int, ...] = SEVERITIES
    """Of the corruptions, each with all of them."""
    argmax: Argmax = "all"
    """`labelled` predicts the most probable of the classes that labelled images have."""
    calibrate_on: str | None = None
    """A split to fit a temperature on, which is judged on the evaluated one."""
    resamples: int = 1000
    seed: int = 0
    overwrite: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        for name in ("root", "out"):
            object.__setattr__(self, name, local_path(getattr(self, name)))
        given = (self.predictions,) if isinstance(self.predictions, str) else self.predictions or ()
        object.__setattr__(self, "predictions", tuple(map(local_path, given)) or None)
        for margin in self.margins:
            FaceConfig(margin=margin)  # in range

    @property
    def variants(self) -> tuple[Variant, ...]:
        """What the network is run with, one after the other."""
        return tuple(itertools.starmap(Variant, itertools.product(self.recipes, self.margins)))

    @property
    def tables(self) -> dict[str, str]:
        """The predictions made before, by the name of their run: `predictions`, or of several what tells them apart.

        Raises:
            ConfigError: One is named twice.
        """
        paths = tuple(self.predictions or ())
        if len(paths) == 1:
            return {"predictions": paths[0]}
        return dict(zip(names_apart(paths), paths, strict=True))
