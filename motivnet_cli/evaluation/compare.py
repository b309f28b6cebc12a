"""Two networks on the same pictures, or two sets of pictures under one network: runs what is missing, then compares.

Networks run through `annotate` into a work folder, so that a killed comparison goes on where it stopped. The
mathematics is in `similarity`. Embeddings are read from Parquet some thousand at a time, never all.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
from motivnet_cli.evaluation.similarity import (
    LEVEL,
    Gaussian,
    PairedEmbeddings,
    Reservoir,
    frechet_distance,
    parameter_drift,
    two_sample_tests,
)
from motivnet_cli.output.read import parts_of, read_inputs, read_record
from motivnet_cli.records import never, no_progress
from motivnet_cli.run import annotate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from motivnet_cli.records import Progress

log = logging.getLogger(__name__)

COMPARISON_SCHEMA = 1
"""Of the dicts that this room returns."""
DEFINITIONS = "our definitions of the paper's criteria, which publishes no formulas: docs/similarity.md"
SEED = 0
_ROWS = 4096
"""Embeddings in memory at a time: one row group, 50 MB as float64 of 1,536."""
_FACE = ("input", "frame", "face")
"""Columns that name a face within an output."""
_NAMED = 10
"""How many unpaired faces a comparison names."""
_SAME_NETWORK = ("model.weights_sha256", "model.recipe", "model.flip")
"""Settings without which two embeddings do not lie in one space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a comparison reads pictures: the same for both sides."""

    faces: FaceConfig = FaceConfig()
    video: VideoConfig = VideoConfig()
    loader: LoaderConfig = LoaderConfig()


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
) -> dict[str, Any] | None:
    """How alike two networks embed the same faces, and how far a's parameters are from b's: ready for JSON.

    Each network's run is kept in `work/<its name>` (b's in `work/<its name>-b` where both have one name); the same
    call finds what is done there. Faces are paired by input, frame and number; those that one run lacks are counted.

    Args:
        a: The network that is compared, such as MotivNet.
        b: The one to compare with, such as the encoder that it came from.
        command: The command line, to be recorded.
        progress: Of the run of a, then of b.

    Returns:
        None when `stop` ended a run; the same call goes on from there.

    Raises:
        ConfigError: Fewer than two faces have both embeddings, or a setting is wrong.
        WeightsError: A network's weights are missing or damaged.
        OutputConflictError: The work folder holds runs of other settings or inputs.
    """
    _parameters(b)  # missing weights show now, and not after hours of running a
    outputs = []
    for model, name in ((a, a.name), (b, f"{b.name}-b" if a.name == b.name else b.name)):
        output = _run(model, images, work / name, reading=reading, command=command, progress=progress, stop=stop)
        if output is None:
            return None
        outputs.append(output)
    rows, unpaired = _paired_rows(*outputs)
    pairs = PairedEmbeddings()
    num_unusable = 0
    for x, y in zip(*(_embeddings(output, wanted) for output, wanted in zip(outputs, rows, strict=True)), strict=True):
        usable = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
        num_unusable += int(np.sum(~usable))
        pairs.update(x[usable], y[usable])
    found = pairs.finish()
    if found.n < 2:
        raise ConfigError(
            f"comparing networks takes at least 2 faces, and {found.n} have both embeddings: give more pictures, "
            "or look into the inputs tables in the work folder for why none was found"
        )
    sides = [_side(output) for output in outputs]
    log.info("comparing the parameters of %s and %s", a.name, b.name)
    drift = parameter_drift(*(_parameters(model) for model in (a, b)))
    remarks = []
    if found.n < min(side["embedding_size"] for side in sides):
        remarks.append(
            f"{found.n} faces are fewer than an embedding has numbers: linear_cka is near 1 for any two networks then, "
            "so read linear_cka_debiased"
        )
    differing = [key for key in ("recipe", "flip", "precision") if sides[0][key] != sides[1][key]]
    if differing:
        remarks.append(f"the two networks ran with different settings ({', '.join(differing)})")
    if not drift.layers:
        remarks.append("the networks have no parameters of the same name and shape, so there is no drift")
    return _report("models", command, num_unusable=num_unusable, remarks=remarks) | {
        "a": sides[0],
        "b": sides[1],
        "unpaired": unpaired,
        **dataclasses.asdict(found),
        "drift": dataclasses.asdict(drift) if drift.layers else None,
    }


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
) -> dict[str, Any] | None:
    """How alike two sets of faces lie in the embedding space of one network: ready for JSON.

    Args:
        a: Inputs; or one name: a finished output of `annotate` with embeddings, else a folder, file or URL.
            Inputs are run into `work/a`, where the same call finds what is done.
        b: The same, run into `work/b`.
        model: Runs the sides that are not finished outputs.
        command: The command line, to be recorded.
        progress: Of the run of a, then of b.

    Returns:
        None when `stop` ended a run; the same call goes on from there.

    Raises:
        ConfigError: A side has fewer than two faces or no embeddings, or the sides come from different networks.
        WeightsError: The network's weights are missing or damaged.
        OutputConflictError: The work folder holds runs of other settings or inputs.
    """
    finished = [given for given in (a, b) if isinstance(given, str) and _is_output(given)]
    for output in finished:
        _embedding_type(output)
    if len(finished) == 1:  # a run may take hours: whether it can be compared is asked first
        _refuse_other_network(_settings_of(finished[0]), _network_settings(model))
    outputs: list[str] = []
    for given, name in ((a, "a"), (b, "b")):
        if isinstance(given, str) and given in finished:
            outputs.append(given)
            continue
        inputs = given if isinstance(given, InputConfig) else InputConfig(paths=(given,))
        made = _run(model, inputs, work / name, reading=reading, command=command, progress=progress, stop=stop)
        if made is None:
            return None
        outputs.append(made)
    settings = [_settings_of(output) for output in outputs]
    _refuse_other_network(*settings)
    gaussians, samples, num_unusable = [], [], 0
    for number, output in enumerate(outputs):
        gaussian, sample = Gaussian(), Reservoir(seed=(SEED, number))
        for x in _embeddings(output):
            usable = np.isfinite(x).all(axis=1)
            num_unusable += int(np.sum(~usable))
            gaussian.update(x[usable])
            sample.update(x[usable])
        if gaussian.n < 2:
            raise ConfigError(f"comparing sets takes at least 2 faces on each side, and {output} holds {gaussian.n}")
        gaussians.append(gaussian)
        samples.append(sample.rows)
    log.info("comparing %d faces with %d", gaussians[0].n, gaussians[1].n)
    tests = two_sample_tests(*samples, seed=SEED)
    sides = [_side(output) for output in outputs]
    remarks = []
    if min(gaussian.n for gaussian in gaussians) <= (size := sides[0]["embedding_size"]):
        remarks.append(
            f"a side has no more faces than an embedding has numbers ({size}): the Frechet distance is then much too "
            "large, so compare it only with distances of sets of the same sizes"
        )
    told_apart = [key for key in settings[0] if key.startswith("faces.") or key == "model.precision"]
    differing = [key for key in told_apart if settings[0][key] != settings[1].get(key)]
    if differing:
        remarks.append(f"the faces of the two sides were found, cut or embedded differently ({', '.join(differing)})")
    return _report("data", command, num_unusable=num_unusable, remarks=remarks) | {
        "a": sides[0],
        "b": sides[1],
        "n": {"a": gaussians[0].n, "b": gaussians[1].n},
        "frechet_distance": frechet_distance(*gaussians),
        "mmd_squared": dataclasses.asdict(tests.mmd),
        "neighbour_overlap": dataclasses.asdict(tests.overlap),
        "sample": {
            "a": tests.n_a,
            "b": tests.n_b,
            "seed": SEED,
            "bandwidth": tests.bandwidth,
            "neighbours": tests.neighbours,
            "permutations": tests.permutations,
            "level": LEVEL,
        },
    }


def _report(kind: str, command: str, *, num_unusable: int, remarks: list[str]) -> dict[str, Any]:
    if num_unusable:
        remarks = [*remarks, f"{num_unusable} faces were left out: their embeddings hold infinities or no numbers"]
    return {
        "schema_version": COMPARISON_SCHEMA,
        "tool": f"motivnet {__version__}",
        "kind": kind,
        "definitions": DEFINITIONS,
        "command": command,
        "remarks": remarks,
    }


# ---- runs -------------------------------------------------------------------------------------------------


def _run(
    model: ModelConfig,
    inputs: InputConfig,
    folder: Path,
    *,
    reading: Reading,
    command: str,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> str | None:
    """The output of a run that is whole, or None if it was stopped."""
    config = RunConfig(
        inputs=inputs,
        # The separator says that it is a folder, whatever dots a model's name has.
        output=OutputConfig(path=f"{folder}{os.sep}", embeddings="float32"),
        model=model,
        faces=reading.faces,
        video=reading.video,
        loader=reading.loader,
        command=command,
    )
    log.info("running %s into %s", model.name, folder)
    summary = annotate(config, progress=progress, stop=stop)
    return None if summary.stopped else config.output.path


def _is_output(path: str) -> bool:
    """Whether it is an output of `annotate`.

    Raises:
        ConfigError: It is a Parquet file, but not an output of ours or not with its inputs table.
    """
    try:
        return "settings" in read_record(path)
    except ConfigError:
        if path.endswith(".parquet"):
            raise
        return False


def _settings_of(output: str) -> dict[str, Any]:
    settings: dict[str, Any] = read_record(output)["settings"]
    return settings


def _network_settings(model: ModelConfig) -> dict[str, Any]:
    """What a run would record of its network."""
    loaded = load_network(model)
    return {
        "model.weights_sha256": loaded.weights_sha256,
        "model.recipe": loaded.recipe,
        "model.flip": loaded.card.flip if model.flip is None else model.flip,
    }


def _refuse_other_network(one: dict[str, Any], other: dict[str, Any]) -> None:
    differing = [key for key in _SAME_NETWORK if one.get(key) != other.get(key)]
    if differing:
        named = "; ".join(f"{key} is {one.get(key)!r} in one and {other.get(key)!r} in the other" for key in differing)
        raise ConfigError(
            f"the two sides are not of one network ({named}), so their embeddings cannot be compared: choose the "
            "model, weights and recipe of the finished output, or let both sides be run here"
        )


def _side(output: str) -> dict[str, Any]:
    record = read_record(output)
    statuses = read_inputs(output)["status"].cast(pl.String).value_counts()
    return {
        "output": output,
        "tool": record["tool"],
        "model": record["model"],
        "weights_sha256": record["weights_sha256"],
        "terms": record["terms"],
        "recipe": record["recipe"],
        "flip": record["settings"]["model.flip"],
        "precision": record["precision"],
        "faces_found": record["faces"],
        "embedding_size": _embedding_type(output).size,
        "embeddings": str(_embedding_type(output).inner).lower(),
        "inputs": dict(sorted(statuses.iter_rows())),
    }


def _parameters(model: ModelConfig) -> dict[str, NDArray[np.float32]]:
    """A network's parameters by name; they stay mapped to their file."""
    return {name: tensor.numpy() for name, tensor in load_network(model).network.state_dict().items()}


# ---- embeddings on the disk -------------------------------------------------------------------------------


def _faces(output: str) -> pl.LazyFrame:
    return pl.scan_parquet(parts_of(output, "faces"))


def _embedding_type(output: str) -> pl.Array:
    kind = _faces(output).collect_schema().get("embedding")
    if not isinstance(kind, pl.Array):
        raise ConfigError(f"{output} holds no embeddings: make it again without --embeddings none")
    return kind


def _paired_rows(a: str, b: str) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], dict[str, Any]]:
    """The row numbers of the faces that both outputs have, ascending and in the same order, and who is left over.

    Raises:
        ConfigError: The outputs have these faces in different orders.
    """
    tables = []
    for output in (a, b):
        faces = _faces(output).select(_FACE).with_columns(pl.col("frame").fill_null(-1)).with_row_index("row").collect()
        # An archive may hold two members of one name: the first goes with the first.
        tables.append(faces.with_columns(pl.int_range(pl.len()).over(_FACE).alias("occurrence")))
    keys = [*_FACE, "occurrence"]
    both = tables[0].join(tables[1], on=keys, suffix="_b").sort("row")
    rows_a, rows_b = (both[name].to_numpy().astype(np.int64) for name in ("row", "row_b"))
    if np.any(np.diff(rows_b) < 0):
        raise ConfigError(f"{a} and {b} list the same faces in different orders: remove one, and it is made again")
    left = [mine.join(other, on=keys, how="anti").sort("row") for mine, other in itertools.permutations(tables)]
    names = [name for table in left for name in table["input"].unique(maintain_order=True).head(_NAMED).to_list()]
    return (rows_a, rows_b), {"a": len(left[0]), "b": len(left[1]), "inputs": list(dict.fromkeys(names))[:_NAMED]}


def _embeddings(output: str, rows: NDArray[np.int64] | None = None) -> Iterator[NDArray[np.float64]]:
    """The embeddings of an output in order, as float64 [N, D]: N is 4,096 but in the last batch.

    Args:
        rows: Row numbers to take, ascending; None takes all.
    """
    _embedding_type(output)
    faces = _faces(output).select("embedding")
    num_rows = faces.select(pl.len()).collect().item()
    pieces: Iterable[NDArray[np.float64]] = (
        faces.slice(start, _ROWS).collect()["embedding"].to_numpy().astype(np.float64)
        for start in range(0, num_rows, _ROWS)
    )
    if rows is None:
        yield from pieces
        return
    waiting: list[NDArray[np.float64]] = []
    for number, piece in enumerate(pieces):
        first, last = np.searchsorted(rows, [number * _ROWS, (number + 1) * _ROWS])
        waiting.append(piece[rows[first:last] - number * _ROWS])
        if sum(map(len, waiting)) >= _ROWS:
            joined = np.concatenate(waiting)
            yield joined[:_ROWS]
            waiting = [joined[_ROWS:]]
    if any(map(len, waiting)):
        yield np.concatenate(waiting)
