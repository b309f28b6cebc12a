"""The two sides of a comparison: finished outputs of `annotate`, or inputs that are run into a work folder.

Networks run through `annotate`, so that a comparison that was stopped resumes.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from motivnet_cli import __version__
from motivnet_cli.config import (
    FaceConfig,
    InputConfig,
    LoaderConfig,
    ModelConfig,
    OutputConfig,
    RunConfig,
    VideoConfig,
)
from motivnet_cli.engine.work import load_network
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.embeddings import embedding_type
from motivnet_cli.output.read import read_inputs, read_record
from motivnet_cli.run import annotate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from motivnet_cli.records import Progress

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
"""Of what `motivnet compare models` and `compare data` print."""
DEFINITIONS = "our definitions of the paper's criteria, which publishes no formulas: docs/similarity.md"
_SAME_NETWORK = ("model.weights_sha256", "model.recipe", "model.flip")
"""Settings without which two embeddings do not lie in one space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a comparison reads pictures: the same for both sides."""

    faces: FaceConfig = FaceConfig()
    video: VideoConfig = VideoConfig()
    loader: LoaderConfig = LoaderConfig()


DEFAULT_READING = Reading()


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two outputs that are compared."""

    output: str
    tool: str
    model: str
    weights_sha256: str
    terms: str
    recipe: str
    flip: bool
    precision: str
    faces_found: Mapping[str, object]
    """How, as the run recorded it."""
    embedding_size: int
    embeddings: str
    """Their type, such as float32."""
    inputs: dict[str, int]
    """By status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What every comparison of embeddings records."""

    schema_version: int = SCHEMA_VERSION
    tool: str = f"motivnet {__version__}"
    kind: str
    definitions: str = DEFINITIONS
    command: str
    remarks: tuple[str, ...]
    a: Side
    b: Side


class Run(NamedTuple):
    """A network on some inputs, and the folder of its output."""

    model: ModelConfig
    inputs: InputConfig
    folder: Path


def runs_of(a: InputConfig | str, b: InputConfig | str, model: ModelConfig, work: Path) -> list[Run | str]:
    """What each side is: a finished output, or inputs to run.

    Raises:
        ConfigError: A finished output has no embeddings, or those of another network.
    """
    sides: list[Run | str] = []
    for side, name in ((a, "a"), (b, "b")):
        if isinstance(side, str) and _is_output(side):
            sides.append(side)
        else:
            sides.append(Run(model, side if isinstance(side, InputConfig) else InputConfig(paths=(side,)), work / name))
    finished = [side for side in sides if isinstance(side, str)]
    for output in finished:
        embedding_type(output)
    if len(finished) == 1:  # a run may take hours: whether it can be compared is asked first
        refuse_other_network(settings_of(finished[0]), network_settings(model))
    return sides


def outputs_of(
    runs: Sequence[Run | str],
    *,
    reading: Reading,
    command: str,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> list[str] | None:
    """The outputs of some runs, each of which may be a finished output; None when `stop` ended one."""
    outputs: list[str] = []
    for run in runs:
        if isinstance(run, str):
            outputs.append(run)
            continue
        config = RunConfig(
            inputs=run.inputs,
            # The separator says that it is a folder, whatever dots a model's name has.
            output=OutputConfig(path=f"{run.folder}{os.sep}", embeddings="float32"),
            model=run.model,
            faces=reading.faces,
            video=reading.video,
            loader=reading.loader,
            command=command,
        )
        log.info("running %s into %s", run.model.recorded_name, run.folder)
        if annotate(config, progress=progress, stop=stop).stopped:
            return None
        outputs.append(config.output.path)
    return outputs


def _is_output(path: str) -> bool:
    """Whether it is an output of `annotate`.

    Raises:
        ConfigError: It is a Parquet file, but no output of `annotate`, or its inputs table is missing.
    """
    try:
        return "settings" in read_record(path)
    except ConfigError:
        if path.endswith(".parquet"):
            raise
        return False


def settings_of(output: str) -> Mapping[str, object]:
    """The settings of the run that wrote an output, by name."""
    settings: Mapping[str, object] = read_record(output)["settings"]
    return settings


def network_settings(model: ModelConfig) -> Mapping[str, object]:
    """What a run would record of its network."""
    loaded = load_network(model)
    return {
        "model.weights_sha256": loaded.weights_sha256,
        "model.recipe": loaded.recipe,
        "model.flip": loaded.card.flip if model.flip is None else model.flip,
    }


def refuse_other_network(one: Mapping[str, object], other: Mapping[str, object]) -> None:
    """See that the embeddings of two runs lie in one space.

    Raises:
        ConfigError: They are of different weights, recipes or averaging.
    """
    differing = [key for key in _SAME_NETWORK if one.get(key) != other.get(key)]
    if differing:
        named = "; ".join(f"{key} is {one.get(key)!r} in one and {other.get(key)!r} in the other" for key in differing)
        raise ConfigError(
            f"the two sides are not of one network ({named}), so their embeddings cannot be compared: choose the "
            "model, weights and recipe of the finished output, or let both sides be run here"
        )


def side_of(output: str) -> Side:
    """What an output records of its run."""
    record = read_record(output)
    statuses = read_inputs(output)["status"].cast(pl.String).value_counts()
    return Side(
        output=output,
        tool=record["tool"],
        model=record["model"],
        weights_sha256=record["weights_sha256"],
        terms=record["terms"],
        recipe=record["recipe"],
        flip=bool(record["settings"]["model.flip"]),
        precision=record["precision"],
        faces_found=record["faces"],
        embedding_size=embedding_type(output).size,
        embeddings=str(embedding_type(output).inner).lower(),
        inputs=dict(sorted(statuses.iter_rows())),
    )


def remark_on_unusable(num_unusable: int) -> Iterator[str]:
    """How many faces had embeddings that are not finite, if any had."""
    if num_unusable:
        yield f"{num_unusable} faces were left out: their embeddings hold infinities or no numbers"
