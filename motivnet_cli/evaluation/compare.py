"""Two networks on the same pictures, or two sets of pictures under one network.

Networks run through `annotate` into a work folder, so that a comparison that was stopped resumes. The mathematics is
in `similarity`.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
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
from motivnet_cli.evaluation.embeddings import embedding_type, pair_faces, read_embeddings
from motivnet_cli.evaluation.results import INLINE
from motivnet_cli.evaluation.similarity import (
    LEVEL,
    Gaussian,
    PairedEmbeddings,
    Reservoir,
    frechet_distance,
    parameter_drift,
    two_sample_tests,
)
from motivnet_cli.output.read import read_inputs, read_record
from motivnet_cli.records import never, no_progress
from motivnet_cli.run import annotate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from motivnet_cli.evaluation.embeddings import Pairing, Unpaired
    from motivnet_cli.evaluation.similarity import Drift, PairSimilarity, TwoSample, TwoSampleTests
    from motivnet_cli.records import Progress

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
"""Of what `motivnet compare models` and `compare data` print."""
DEFINITIONS = "our definitions of the paper's criteria, which publishes no formulas: docs/similarity.md"
SEED = 0
_SAME_NETWORK = ("model.weights_sha256", "model.recipe", "model.flip")
"""Settings without which two embeddings do not lie in one space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a comparison reads pictures: the same for both sides."""

    faces: FaceConfig = FaceConfig()
    video: VideoConfig = VideoConfig()
    loader: LoaderConfig = LoaderConfig()


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
class _Comparison:
    schema_version: int = SCHEMA_VERSION
    tool: str = f"motivnet {__version__}"
    kind: str
    definitions: str = DEFINITIONS
    command: str
    remarks: tuple[str, ...]
    a: Side
    b: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelComparison(_Comparison):
    """How alike two networks embed the same faces, and how far their parameters are from each other."""

    unpaired: Unpaired
    similarity: PairSimilarity = field(metadata=INLINE)
    drift: Drift | None
    """None where no parameters have the same name and shape."""


@dataclass(frozen=True, slots=True)
class NumFaces:
    """Of the two sides."""

    a: int
    b: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The faces of each side that the two-sample tests look at, and the settings of the tests."""

    a: int
    b: int
    seed: int
    bandwidth: float
    neighbours: int
    permutations: int
    level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DataComparison(_Comparison):
    """How alike two sets of faces lie in the embedding space of one network."""

    n: NumFaces
    frechet_distance: float
    mmd_squared: TwoSample
    neighbour_overlap: TwoSample
    sample: Sample


def compare_models(
    a: ModelConfig,
    b: ModelConfig,
    images: InputConfig,
    *,
    work: Path,
    reading: Reading = Reading(),
    command: str = "",
    progress: Callable[[Progress], None] = no_progress,
    stop: Callable[[], bool] = never,
) -> ModelComparison | None:
    """How alike two networks embed the same faces, and how far a's parameters are from b's.

    The output of each network is kept in `work/<its name>` (b's in `work/<its name>-b` where both have one name); the
    same call resumes there. Faces are paired by input, frame and number; those that one output lacks are counted.

    Args:
        a: The network that is compared, such as MotivNet.
        b: The one to compare with, such as the encoder that it came from.
        command: The command line, to be recorded.
        progress: Of the run of a, then of b.

    Returns:
        None when `stop` ended a run.

    Raises:
        ConfigError: Fewer than two faces have both embeddings, or a setting is wrong.
        WeightsError: A network's weights are missing or damaged.
        OutputConflictError: The work folder holds runs of other settings or inputs.
    """
    _parameters(b)  # missing weights show now, and not after hours of running a
    name_a, name_b = a.recorded_name, b.recorded_name
    if name_a == name_b:
        name_b = f"{name_b}-b"
    runs = [_Run(a, images, work / name_a), _Run(b, images, work / name_b)]
    outputs = _outputs_of(runs, reading=reading, command=command, progress=progress, stop=stop)
    if outputs is None:
        return None
    pairing = pair_faces(*outputs)
    similarity, num_unusable = _similarity(outputs, pairing)
    side_a, side_b = map(_side, outputs)
    log.info("comparing the parameters of %s and %s", side_a.model, side_b.model)
    drift = parameter_drift(_parameters(a), _parameters(b))
    return ModelComparison(
        kind="models",
        command=command,
        remarks=(*_remarks_on_models(side_a, side_b, similarity, drift), *_remark_on_unusable(num_unusable)),
        a=side_a,
        b=side_b,
        unpaired=pairing.unpaired,
        similarity=similarity,
        drift=drift if drift.layers else None,
    )


def compare_data(
    a: InputConfig | str,
    b: InputConfig | str,
    *,
    work: Path,
    model: ModelConfig,
    reading: Reading = Reading(),
    command: str = "",
    progress: Callable[[Progress], None] = no_progress,
    stop: Callable[[], bool] = never,
) -> DataComparison | None:
    """How alike two sets of faces lie in the embedding space of one network.

    Args:
        a: Inputs; or one name: a finished output of `annotate` with embeddings, else a folder, file or URL.
            Inputs are run into `work/a`, where the same call resumes.
        b: The same, run into `work/b`.
        model: Runs the sides that are not finished outputs.
        command: To be recorded.
        progress: Of the run of a, then of b.

    Returns:
        None when `stop` ended a run.

    Raises:
        ConfigError: A side has fewer than two faces or no embeddings, or the sides come from different networks.
        WeightsError: The network's weights are missing or damaged.
        OutputConflictError: The work folder holds runs of other settings or inputs.
    """
    outputs = _outputs_of(_runs_of(a, b, model, work), reading=reading, command=command, progress=progress, stop=stop)
    if outputs is None:
        return None
    _refuse_other_network(*map(_settings_of, outputs))
    faces_a, faces_b = (_summarise(output, seed=(SEED, number)) for number, output in enumerate(outputs))
    num_faces = NumFaces(faces_a.gaussian.n, faces_b.gaussian.n)
    log.info("comparing %d faces with %d", num_faces.a, num_faces.b)
    tests = two_sample_tests(faces_a.sample, faces_b.sample, seed=SEED)
    side_a, side_b = map(_side, outputs)
    num_unusable = faces_a.num_unusable + faces_b.num_unusable
    return DataComparison(
        kind="data",
        command=command,
        remarks=(*_remarks_on_data(outputs, num_faces, side_a.embedding_size), *_remark_on_unusable(num_unusable)),
        a=side_a,
        b=side_b,
        n=num_faces,
        frechet_distance=frechet_distance(faces_a.gaussian, faces_b.gaussian),
        mmd_squared=tests.mmd,
        neighbour_overlap=tests.overlap,
        sample=_sample(tests),
    )


# ---- what is computed -------------------------------------------------------------------------------------


def _similarity(outputs: Sequence[str], pairing: Pairing) -> tuple[PairSimilarity, int]:
    """Over the faces that both outputs have; and how many of them were left out for infinities or NaN."""
    pairs = PairedEmbeddings()
    num_unusable = 0
    batches = (read_embeddings(output, rows) for output, rows in zip(outputs, pairing[:2], strict=True))
    for x, y in zip(*batches, strict=True):
        is_usable = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
        num_unusable += int(np.sum(~is_usable))
        pairs.update(x[is_usable], y[is_usable])
    similarity = pairs.finish()
    if similarity.n < 2:
        raise ConfigError(
            f"comparing networks takes at least 2 faces, and {similarity.n} have both embeddings: give more pictures, "
            "or look into the inputs tables in the work folder for why none was found"
        )
    return similarity, num_unusable


class _Faces(NamedTuple):
    """What is kept of a side's embeddings."""

    gaussian: Gaussian
    sample: NDArray[np.float64]
    num_unusable: int
    """Faces that were left out for infinities or NaN."""


def _summarise(output: str, *, seed: tuple[int, int]) -> _Faces:
    gaussian, sample, num_unusable = Gaussian(), Reservoir(seed=seed), 0
    for x in read_embeddings(output):
        is_usable = np.isfinite(x).all(axis=1)
        num_unusable += int(np.sum(~is_usable))
        gaussian.update(x[is_usable])
        sample.update(x[is_usable])
    if gaussian.n < 2:
        raise ConfigError(
            f"comparing sets takes at least 2 faces on each side, and {output} holds {gaussian.n}: give more pictures, "
            "or look into its inputs table for why none was found"
        )
    return _Faces(gaussian, sample.rows, num_unusable)


def _sample(tests: TwoSampleTests) -> Sample:
    return Sample(
        a=tests.n_a,
        b=tests.n_b,
        seed=SEED,
        bandwidth=tests.bandwidth,
        neighbours=tests.neighbours,
        permutations=tests.permutations,
        level=LEVEL,
    )


# ---- what must be known of it -----------------------------------------------------------------------------


def _remarks_on_models(a: Side, b: Side, similarity: PairSimilarity, drift: Drift) -> Iterator[str]:
    if similarity.n < min(a.embedding_size, b.embedding_size):
        yield (
            f"{similarity.n} faces are fewer than an embedding has numbers: linear_cka is near 1 for any two networks "
            "then, so read linear_cka_debiased"
        )
    settings = (("recipe", a.recipe, b.recipe), ("flip", a.flip, b.flip), ("precision", a.precision, b.precision))
    if differing := [name for name, one, other in settings if one != other]:
        yield f"the two networks ran with different settings ({', '.join(differing)})"
    if not drift.layers:
        yield "the networks have no parameters of the same name and shape, so there is no drift"


def _remarks_on_data(outputs: Sequence[str], n: NumFaces, embedding_size: int) -> Iterator[str]:
    if min(n.a, n.b) <= embedding_size:
        yield (
            f"a side has no more faces than an embedding has numbers ({embedding_size}): the Frechet distance is then "
            "much too large, so compare it only with distances of sets of the same sizes"
        )
    a, b = map(_settings_of, outputs)
    if differing := [
        key for key in a if (key.startswith("faces.") or key == "model.precision") and a[key] != b.get(key)
    ]:
        yield f"the faces of the two sides were found, cut or embedded differently ({', '.join(differing)})"


def _remark_on_unusable(num_unusable: int) -> Iterator[str]:
    if num_unusable:
        yield f"{num_unusable} faces were left out: their embeddings hold infinities or no numbers"


# ---- runs -------------------------------------------------------------------------------------------------


class _Run(NamedTuple):
    model: ModelConfig
    inputs: InputConfig
    folder: Path


def _runs_of(a: InputConfig | str, b: InputConfig | str, model: ModelConfig, work: Path) -> list[_Run | str]:
    """What each side is: a finished output, or inputs to run.

    Raises:
        ConfigError: A finished output has no embeddings, or those of another network.
    """
    sides: list[_Run | str] = []
    for side, name in ((a, "a"), (b, "b")):
        if isinstance(side, str) and _is_output(side):
            sides.append(side)
        else:
            sides.append(
                _Run(model, side if isinstance(side, InputConfig) else InputConfig(paths=(side,)), work / name)
            )
    finished = [side for side in sides if isinstance(side, str)]
    for output in finished:
        embedding_type(output)
    if len(finished) == 1:  # a run may take hours: whether it can be compared is asked first
        _refuse_other_network(_settings_of(finished[0]), _network_settings(model))
    return sides


def _outputs_of(
    runs: Sequence[_Run | str],
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


def _settings_of(output: str) -> Mapping[str, object]:
    settings: Mapping[str, object] = read_record(output)["settings"]
    return settings


def _network_settings(model: ModelConfig) -> Mapping[str, object]:
    """What a run would record of its network."""
    loaded = load_network(model)
    return {
        "model.weights_sha256": loaded.weights_sha256,
        "model.recipe": loaded.recipe,
        "model.flip": loaded.card.flip if model.flip is None else model.flip,
    }


def _refuse_other_network(one: Mapping[str, object], other: Mapping[str, object]) -> None:
    differing = [key for key in _SAME_NETWORK if one.get(key) != other.get(key)]
    if differing:
        named = "; ".join(f"{key} is {one.get(key)!r} in one and {other.get(key)!r} in the other" for key in differing)
        raise ConfigError(
            f"the two sides are not of one network ({named}), so their embeddings cannot be compared: choose the "
            "model, weights and recipe of the finished output, or let both sides be run here"
        )


def _side(output: str) -> Side:
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


def _parameters(model: ModelConfig) -> dict[str, NDArray[np.float32]]:
    """A network's parameters by name; they stay mapped to their file."""
    return {name: tensor.numpy() for name, tensor in load_network(model).network.state_dict().items()}
