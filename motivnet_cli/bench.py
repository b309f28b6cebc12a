"""How fast this machine is, stage by stage, on the user's own pictures: decode, detect, crop, network, write, whole.

Every stage is the code of a real run. Nothing here is a promise: rates are of this machine, these pictures and this
moment, and say so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from motivnet_cli import __version__
from motivnet_cli.config import OutputConfig, RunConfig
from motivnet_cli.engine.machine import choose_precision, usable_cores
from motivnet_cli.engine.predictor import DTYPES
from motivnet_cli.engine.prepare import Preparer
from motivnet_cli.engine.work import load_network, make_predictor
from motivnet_cli.errors import ConfigError, InputError, MotivNetError
from motivnet_cli.faces.laps import timed
from motivnet_cli.faces.quality import quality_of
from motivnet_cli.inputs.cells import CellReader
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.records import Batch, Crop, Cursor, Position
from motivnet_cli.run import annotate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from motivnet_cli.config import FaceConfig, Precision
    from motivnet_cli.engine.predictor import Predictor
    from motivnet_cli.records import Prediction
    from motivnet_cli.weights.load import LoadedModel

SCHEMA_VERSION = 2
READING_STAGES = ("decode", "detect", "second_look", "turned_looks", "quality", "preprocess")
"""`detect` is the first look of the detector, which gives the landmarks, too."""
MAX_CROPS = 256
"""Faces that are kept for measuring the network: 0.6 GB of MotivNet's."""
MATRIX_SIDE = 2048
"""Of the square matrices whose product gives this machine's peak: large enough to be bound by arithmetic."""
MATRIX_ROUNDS = 6
"""The first warms up; the best counts."""
WAYS: tuple[tuple[Precision, bool], ...] = (
    ("fp32", False),
    ("bf16", False),
    ("fp16", False),
    ("int8", False),
    ("fp32", True),
)
"""How the network can run, as precision and whether it is compiled; the first is the one that others are held to."""


@dataclass(frozen=True, slots=True)
class StageRate:
    """How fast one stage is by itself."""

    faces_per_s: float | None
    """None where it took no time that can be measured."""
    seconds_a_face: float

    @classmethod
    def of(cls, seconds_a_face: float) -> StageRate:
        return cls(1 / seconds_a_face if seconds_a_face else None, seconds_a_face)


@dataclass(frozen=True, slots=True)
class WholeRun:
    """A real run over the pictures, all stages at once."""

    faces: int
    seconds: float
    faces_per_s: float | None
    starting_s: float
    """Of `seconds`, until the first faces were there."""
    finishing_s: float
    """Of `seconds`, from the last batch to the output in its place."""
    device_busy: float
    """Share of the time in which the network computed, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Peak:
    """What the device multiplies at best, and how near the network comes."""

    flop_per_s: float
    """Of a product of two square matrices, measured now."""
    matrix: int
    """Side of the matrices."""
    dtype: str
    flop_a_face: int
    network_flop_per_s: float
    share_of_peak: float
    bound_faces_per_s: float
    """Faces a second of a network that multiplies as fast as that product."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike two predictions of the same faces are; None where a model has no emotions."""

    same_emotion: float | None
    """Share of faces, 0 to 1."""
    probability_mean: float | None
    """Mean difference of a probability."""
    probability_most: float | None
    """Largest difference of a probability."""
    embedding_cosine_mean: float
    embedding_cosine_least: float


@dataclass(frozen=True, slots=True)
class MeasuredWay:
    """One way to run the network, beside fp32."""

    name: str
    faces: int
    faces_per_s: float
    times_fp32: float
    warm_up_s: float | None
    """Seconds that compiling took; None where nothing was compiled."""
    agreement: Agreement

    def as_json(self) -> dict[str, object]:
        values: dict[str, object] = dataclasses.asdict(self)
        del values["agreement"]
        return values | dataclasses.asdict(self.agreement)


@dataclass(frozen=True, slots=True)
class SkippedWay:
    """A way that was not tried."""

    name: str
    not_run: str
    """Why."""

    def as_json(self) -> dict[str, object]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What `bench` measured."""

    model: str
    device: str
    precision: str
    batch_size: int
    threads: int
    """Reading threads, over which the time of decoding, detecting and cropping is divided."""
    finding: dict[str, object]
    """How faces were looked for: `mode`, and where there was a detector, `detector`, `detection_size` and so on."""
    pictures: int
    unusable: int
    faces: int
    stages: dict[str, StageRate]
    """Those of READING_STAGES, network, write."""
    whole: WholeRun
    bound_by: str
    """The stage that takes longest of the slowest of reading, network and writing, which run beside each other."""
    peak: Peak
    agreement: tuple[MeasuredWay | SkippedWay, ...] | None
    """None where it was not asked for."""

    def as_json(self) -> dict[str, object]:
        """Values for JSON."""
        ways = None if self.agreement is None else [way.as_json() for way in self.agreement]
        about: dict[str, object] = {"schema_version": SCHEMA_VERSION, "tool": f"motivnet {__version__}"}
        return about | dataclasses.asdict(self) | {"agreement": ways}


def bench(config: RunConfig, *, seconds: float, agreement: bool, on_stage: Callable[[str], None]) -> BenchResult:
    """Measure every stage on the pictures of `config.inputs`, and the whole run over them.

    Args:
        config: As for `annotate`; its output is not used.
        seconds: About how long each of reading and the network is measured.
        agreement: Run the network at every precision of the device, and compiled, and compare with fp32.
        on_stage: Called with a sentence when a stage begins.

    Raises:
        ConfigError: No picture among the inputs could be used.
    """
    threads = config.loader.threads or usable_cores()
    model = load_network(config.model)
    on_stage("reading, finding and cropping faces, one thread")
    reading = _read(config, model, seconds=seconds)
    if not reading.crops:
        raise ConfigError(
            f"no face to measure with in {reading.pictures} pictures ({reading.unusable} unusable): give others"
        )
    flop_a_face = count_flop(model)
    predictor = make_predictor(model, config.model)
    choices = predictor.choices
    on_stage(f"the network on {choices.device_name} in {choices.precision}, batches of {predictor.batch_size}")
    seconds_a_face = _network_seconds(predictor, reading.crops, seconds=seconds)
    on_stage("this machine's matrix product")
    peak = _peak(predictor, flop_a_face=flop_a_face * (1 + choices.flip), seconds_a_face=seconds_a_face)
    on_stage("the whole run")
    whole, writing_s = _whole_run(config)
    stages = reading.stages(threads) | {"network": seconds_a_face, "write": writing_s / max(1, whole.faces)}
    return BenchResult(
        model=model.card.name,
        device=choices.device_name,
        precision=choices.precision,
        batch_size=predictor.batch_size,
        threads=threads,
        finding=_finding(config.faces),
        pictures=reading.pictures,
        unusable=reading.unusable,
        faces=reading.num_faces,
        stages={name: StageRate.of(seconds_a_face) for name, seconds_a_face in stages.items()},
        whole=whole,
        bound_by=binding_stage(stages),
        peak=peak,
        agreement=tuple(_agreement(config, reading.crops, on_stage=on_stage)) if agreement else None,
    )


def _finding(faces: FaceConfig) -> dict[str, object]:
    if faces.mode == "whole":
        return {"mode": faces.mode}
    names = ("mode", "detector", "detection_size", "min_confidence")
    return {name: getattr(faces, name) for name in names}


def binding_stage(stages: dict[str, float]) -> str:
    """The stage that limits a run, by the seconds that each takes for a face.

    Reading (every stage that is neither `network` nor `write`), network and writing run beside each other: of the
    slowest, the stage that takes longest.
    """
    others = [stages.keys() - {"network", "write"}, {"network"}, {"write"}]
    slowest = max(others, key=lambda names: sum(stages[name] for name in names))
    return max(slowest, key=lambda name: stages[name])


# ---- stage by stage ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Reading:
    """What reading some pictures gave, and the seconds of one thread that each step took."""

    pictures: int = 0
    unusable: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(READING_STAGES, 0.0))
    crops: tuple[Crop, ...] = ()
    num_faces: int = 0

    def stages(self, num_threads: int) -> dict[str, float]:
        """Seconds a face of each step, where so many threads share the work."""
        return {name: value / self.num_faces / num_threads for name, value in self.seconds.items()}


def _read(config: RunConfig, model: LoadedModel, *, seconds: float) -> _Reading:
    torch.set_num_threads(1)
    with contextlib.closing(Preparer(model, config.faces, config.video, config.loader)) as preparer:
        return _read_with(preparer, config, seconds=seconds)


def _read_with(preparer: Preparer, config: RunConfig, *, seconds: float) -> _Reading:
    reading = _Reading()
    crops: list[Crop] = []
    started = time.perf_counter()
    cells = CellReader()
    for item in Listing(config.inputs):
        if item.kind != "image" or time.perf_counter() - started > seconds:
            continue
        reading.pictures += 1
        marks = [time.perf_counter()]
        try:
            data = None
            if item.column is not None and item.row is not None:
                data = cells.read(item.path, item.column, item.row)
            frame = preparer.decode(item.path, data)
            marks.append(time.perf_counter())
            with timed() as laps:
                faces = preparer.find(frame, item.given).faces
        except InputError:
            reading.unusable += 1
            continue
        marks.append(time.perf_counter())
        for face, _ in faces:
            quality_of(frame.rgb, face)
        marks.append(time.perf_counter())
        for number, (face, _) in enumerate(faces):
            crop = Crop(Position(item.index), item.input, face, number, preparer.crop(frame, face))
            if len(crops) < MAX_CROPS:
                crops.append(crop)
        marks.append(time.perf_counter())
        reading.num_faces += len(faces)
        decode, find, quality, preprocess = np.diff(marks).tolist()
        taken = {"decode": decode, "detect": find - sum(laps.values()), "quality": quality, "preprocess": preprocess}
        for name, value in (taken | laps).items():
            reading.seconds[name] += value
    reading.crops = tuple(crops)
    return reading


def count_flop(model: LoadedModel) -> int:
    """Operations of one pass, counted on tensors without content: it costs no time, whatever the size."""
    tensors = itertools.chain(model.network.named_parameters(), model.network.named_buffers())
    empty = {name: tensor.detach().to("meta") for name, tensor in tensors}
    pixels = torch.empty((1, 3, model.height, model.width), dtype=torch.uint8, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        torch.func.functional_call(model.network, empty, (pixels,))
    return int(counter.get_total_flops())


def _network_seconds(predictor: Predictor, crops: tuple[Crop, ...], *, seconds: float) -> float:
    """Seconds a face on ready batches, after one batch to warm up."""
    batches = _endless_batches(crops, predictor.batch_size)
    started = time.perf_counter()
    list(predictor.run([next(batches)]))
    num_batches = max(1, round(seconds / max(time.perf_counter() - started, 1e-3)))
    started = time.perf_counter()
    list(predictor.run(itertools.islice(batches, num_batches)))
    return (time.perf_counter() - started) / (num_batches * predictor.batch_size)


def _endless_batches(crops: tuple[Crop, ...], size: int) -> Iterator[Batch]:
    """Full batches, again and again."""
    endless = itertools.cycle(crops)
    while True:
        yield Batch(tuple(itertools.islice(endless, size)), (), Cursor(Position(0)))


def _peak(predictor: Predictor, *, flop_a_face: int, seconds_a_face: float) -> Peak:
    """The rate of a large matrix product at the run's precision and threads, and the network's beside it."""
    dtype = DTYPES[predictor.choices.precision]
    factor = torch.randn(MATRIX_SIDE, MATRIX_SIDE, device=predictor.device).to(dtype)
    best = 0.0
    torch.set_num_threads(predictor.num_threads)
    for _ in range(MATRIX_ROUNDS):
        started = time.perf_counter()
        (factor @ factor)[0, 0].item()  # .item() waits for a GPU
        best = max(best, 2 * MATRIX_SIDE**3 / (time.perf_counter() - started))
    return Peak(
        flop_per_s=best,
        matrix=MATRIX_SIDE,
        dtype=str(dtype).removeprefix("torch."),
        flop_a_face=flop_a_face,
        network_flop_per_s=flop_a_face / seconds_a_face,
        share_of_peak=flop_a_face / seconds_a_face / best,
        bound_faces_per_s=best / flop_a_face,
    )


def _whole_run(config: RunConfig) -> tuple[WholeRun, float]:
    """A run, and its seconds of writing between batches."""
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as folder:
        output = OutputConfig(path=str(Path(folder) / "p.parquet"), embeddings=config.output.embeddings)
        summary = annotate(replace(config, output=output))
    whole = WholeRun(
        faces=summary.faces,
        seconds=summary.seconds,
        faces_per_s=summary.faces / summary.seconds if summary.seconds else None,
        starting_s=summary.starting_s,
        finishing_s=summary.finishing_s,
        device_busy=summary.device_busy,
    )
    return whole, summary.writing_s


# ---- agreement --------------------------------------------------------------------------------------------


def _agreement(
    config: RunConfig, crops: tuple[Crop, ...], *, on_stage: Callable[[str], None]
) -> Iterator[MeasuredWay | SkippedWay]:
    """Each way to run the network against fp32, on the same faces."""
    reference: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    fp32_rate = 0.0
    for precision, is_compiled in WAYS:
        name = f"{precision} compiled" if is_compiled else precision
        model = load_network(config.model)
        try:
            predictor = make_predictor(model, replace(config.model, precision=precision, compile=is_compiled))
        except MotivNetError as error:
            yield SkippedWay(name, str(error))
            continue
        if precision == "bf16" and _has_slow_bf16(predictor, model):
            yield SkippedWay(name, "this CPU has no bf16 products: it would take a hundred times as long")
            continue
        on_stage(f"agreement: {name}")
        started = time.perf_counter()
        values = _predict(predictor, crops)
        rate = len(crops) / (time.perf_counter() - started)
        if reference is None:
            reference, fp32_rate = values, rate
        agreement = agreement_of(values, reference)
        yield MeasuredWay(name, len(crops), rate, rate / fp32_rate, predictor.compile_s, agreement)


def _has_slow_bf16(predictor: Predictor, model: LoadedModel) -> bool:
    """Whether a large network would wait for a CPU that computes bf16 piece by piece."""
    device = predictor.device
    is_emulated = device.type == "cpu" and choose_precision("auto", device, is_small=False) != "bf16"
    return is_emulated and not model.card.single_thread


def _predict(predictor: Predictor, crops: tuple[Crop, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities [N, C] and embeddings [N, D] of N faces."""
    size = predictor.batch_size
    batches = (Batch(crops[start : start + size], (), Cursor(Position(0))) for start in range(0, len(crops), size))
    found: list[Prediction] = [prediction for _, prediction in predictor.run(batches) if prediction]
    return (
        np.concatenate([prediction.probabilities for prediction in found]),  # [N, C]
        np.concatenate([prediction.embeddings for prediction in found]),  # [N, D]
    )


def agreement_of(
    values: tuple[NDArray[np.float32], NDArray[np.float32]], reference: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> Agreement:
    """How alike two predictions of the same faces are.

    Args:
        values: Probabilities [N, C] (C is 0 of a model without emotions) and embeddings [N, D].
        reference: The same, of what it is compared with.
    """
    (probabilities, embeddings), (other_probabilities, other_embeddings) = values, reference
    norms = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(other_embeddings, axis=1)  # [N]
    cosines = (embeddings * other_embeddings).sum(1) / norms  # [N]
    mean, least = float(cosines.mean()), float(cosines.min())
    if not probabilities.shape[1]:
        return Agreement(None, None, None, mean, least)
    difference = np.abs(probabilities - other_probabilities)  # [N, C]
    same_emotion = float((probabilities.argmax(1) == other_probabilities.argmax(1)).mean())
    return Agreement(same_emotion, float(difference.mean()), float(difference.max()), mean, least)


# ---- a picture of it --------------------------------------------------------------------------------------


def plot(result: BenchResult, path: Path) -> None:
    """A picture of the stages: the faces a second that each could give, and the whole.

    Raises:
        ConfigError: matplotlib does not know the file's ending.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rates = {name: stage.faces_per_s or 0.0 for name, stage in result.stages.items()}
    rates["whole run"] = result.whole.faces_per_s or 0.0
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    colours = ["#4a6fa5"] * len(result.stages) + ["#1f2d3d"]
    bars = axes.barh(list(rates), list(rates.values()), color=colours)
    axes.bar_label(bars, [f"{rate:,.1f}" for rate in rates.values()], padding=4)
    axes.set(xscale="log", xlabel="faces a second, on its own (log scale)")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    title = f"{result.model}, {result.precision}, {result.device}, {result.threads} reading threads"
    axes.set_title(title, fontsize=10)
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:
        raise ConfigError(f"--plot takes a name such as stages.png or stages.svg, got {str(path)!r}") from error
    finally:
        pyplot.close(figure)
