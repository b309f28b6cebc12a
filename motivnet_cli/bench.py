"""How fast this machine is, stage by stage, on the user's own pictures: decode, detect, crop, network, write, whole.

Everything goes through the rooms of a real run. Nothing here is a promise: rates are of this machine, these pictures
and this moment, and say so.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from motivnet_cli import __version__
from motivnet_cli.config import OutputConfig, RunConfig
from motivnet_cli.engine.machine import choose_precision, device_name, usable_cores
from motivnet_cli.engine.predictor import Predictor
from motivnet_cli.engine.work import load_network
from motivnet_cli.errors import ConfigError, InputError, MotivNetError
from motivnet_cli.faces.crop import cut, to_pixels
from motivnet_cli.faces.detect import find_faces, load_detector
from motivnet_cli.inputs.decode import decode
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.records import Batch, Crop, Cursor, Position
from motivnet_cli.run import annotate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from numpy.typing import NDArray

    from motivnet_cli.config import Precision
    from motivnet_cli.records import Prediction
    from motivnet_cli.weights.load import LoadedModel

    class Say(Protocol):
        """Called with a sentence when a stage begins."""

        def __call__(self, text: str, /) -> None: ...


MAX_FACES = 256
"""Crops that are kept for the network's part: 0.6 GB of MotivNet's."""
MATRIX = 2048
"""Side of the square matrices whose product gives this machine's peak: large enough to be bound by arithmetic."""


@dataclass(slots=True)
class _Feed:
    """What reading some pictures gave, and the seconds of one thread that each step took."""

    pictures: int = 0
    unusable: int = 0
    decoding: float = 0.0
    detecting: float = 0.0
    cropping: float = 0.0
    crops: tuple[Crop, ...] = ()
    num_faces: int = 0


def bench(config: RunConfig, *, seconds: float, agreement: bool, say: Say) -> dict[str, Any]:
    """Measure every stage on the pictures of `config.inputs`, and the whole run over them.

    Args:
        config: As for `annotate`; its output is not used.
        seconds: About how long each of reading and the network is measured.
        agreement: Run the network at every precision of the device, and compiled, and compare with fp32.

    Returns:
        Values for JSON: `stages` (faces a second each could give by itself), `bound_by`, `peak`, `agreement`.

    Raises:
        ConfigError: No picture among the inputs could be used.
    """
    threads = config.loader.threads or usable_cores()
    model = load_network(config.model)
    say("reading, finding and cropping faces, one thread")
    feed = _feed(config, model, seconds=seconds)
    if not feed.crops:
        raise ConfigError(
            f"no face to measure with in {feed.pictures} pictures ({feed.unusable} unusable): give others"
        )
    flop_a_face = _flop_a_face(model)
    predictor = Predictor(model, config.model)
    flop_a_face *= 1 + predictor.flip
    say(f"the network on {device_name(predictor.device)} in {predictor.precision}, batches of {predictor.batch_size}")
    seconds_a_face = _network(predictor, feed.crops, seconds=seconds)
    say("this machine's matrix product")
    peak = _peak(predictor)
    say("the whole run")
    whole = _whole(config)
    per_face = {
        "decode": feed.decoding / feed.num_faces / threads,
        "detect": feed.detecting / feed.num_faces / threads,
        "preprocess": feed.cropping / feed.num_faces / threads,
        "network": seconds_a_face,
        "write": whole["writing_s"] / max(1, whole["faces"]),
    }
    reading = per_face["decode"] + per_face["detect"] + per_face["preprocess"]
    stages = {"reading": reading, "network": per_face["network"], "writing": per_face["write"]}
    return {
        "schema_version": 1,
        "tool": f"motivnet {__version__}",
        "model": model.card.name,
        "device": device_name(predictor.device),
        "precision": predictor.precision,
        "batch_size": predictor.batch_size,
        "threads": threads,
        "pictures": feed.pictures,
        "unusable": feed.unusable,
        "faces": feed.num_faces,
        "stages": {name: {"faces_per_s": 1 / s if s else None, "seconds_a_face": s} for name, s in per_face.items()},
        "whole": whole,
        "bound_by": max(stages, key=lambda name: stages[name]),
        "peak": peak
        | {
            "flop_a_face": flop_a_face,
            "network_flop_per_s": flop_a_face / seconds_a_face,
            "share_of_peak": flop_a_face / seconds_a_face / peak["flop_per_s"],
        },
        "agreement": list(_agreement(config, feed.crops, say=say)) if agreement else None,
    }


def _feed(config: RunConfig, model: LoadedModel, *, seconds: float) -> _Feed:
    faces = config.faces
    detector = None if faces.mode == "whole" else load_detector(faces.detector, detection_size=faces.detection_size)
    margin = model.card.margin if faces.margin is None else faces.margin
    feed = _Feed()
    crops: list[Crop] = []
    torch.set_num_threads(1)
    started = time.perf_counter()
    for item in Listing(config.inputs):
        if item.kind != "image" or time.perf_counter() - started > seconds:
            continue
        feed.pictures += 1
        marks = [time.perf_counter()]
        try:
            rgb = decode(item.path, max_pixels=config.loader.max_pixels).rgb
        except InputError:
            feed.unusable += 1
            continue
        marks.append(time.perf_counter())
        found = find_faces(rgb, faces, detector)
        marks.append(time.perf_counter())
        for number, face in enumerate(found):
            square = rgb if face.source == "whole" else cut(rgb, face.box, margin=margin, fill_rgb=model.card.fill_rgb)
            pixels = to_pixels(
                square, recipe=model.recipe, height=model.height, width=model.width, fill_rgb=model.card.fill_rgb
            )
            if len(crops) < MAX_FACES:
                crops.append(Crop(Position(item.index), item.input, face, number, pixels))
        marks.append(time.perf_counter())
        feed.num_faces += len(found)
        feed.decoding += marks[1] - marks[0]
        feed.detecting += marks[2] - marks[1]
        feed.cropping += marks[3] - marks[2]
    feed.crops = tuple(crops)
    return feed


def _batches(crops: tuple[Crop, ...], size: int) -> Iterator[Batch]:
    """Full batches, again and again."""
    endless = itertools.cycle(crops)
    while True:
        yield Batch(tuple(itertools.islice(endless, size)), (), Cursor(Position(0)))


def _flop_a_face(model: LoadedModel) -> int:
    """Operations of one pass, counted on tensors without content: it costs no time, whatever the size."""
    tensors = itertools.chain(model.network.named_parameters(), model.network.named_buffers())
    empty = {name: tensor.detach().to("meta") for name, tensor in tensors}
    pixels = torch.empty((1, 3, model.height, model.width), dtype=torch.uint8, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        torch.func.functional_call(model.network, empty, (pixels,))
    return int(counter.get_total_flops())


def _network(predictor: Predictor, crops: tuple[Crop, ...], *, seconds: float) -> float:
    """Seconds a face on ready batches, after one batch to warm up."""
    batches = _batches(crops, predictor.batch_size)
    started = time.perf_counter()
    list(predictor.run([next(batches)]))
    num_batches = max(1, round(seconds / max(time.perf_counter() - started, 1e-3)))
    started = time.perf_counter()
    list(predictor.run(itertools.islice(batches, num_batches)))
    return (time.perf_counter() - started) / (num_batches * predictor.batch_size)


def _peak(predictor: Predictor) -> dict[str, Any]:
    """The rate of a large matrix product at the run's precision and threads, best of five."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(predictor.precision, torch.float32)
    a = torch.randn(MATRIX, MATRIX, device=predictor.device).to(dtype)
    best = 0.0
    torch.set_num_threads(predictor.num_threads)
    for _ in range(6):
        started = time.perf_counter()
        (a @ a)[0, 0].item()
        best = max(best, 2 * MATRIX**3 / (time.perf_counter() - started))
    return {"flop_per_s": best, "matrix": MATRIX, "dtype": str(dtype).removeprefix("torch.")}


def _whole(config: RunConfig) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as folder:
        output = OutputConfig(path=str(Path(folder) / "p.parquet"), embeddings=config.output.embeddings)
        summary = annotate(replace(config, output=output))
    return {
        "faces": summary.faces,
        "seconds": summary.seconds,
        "faces_per_s": summary.faces / summary.seconds if summary.seconds else None,
        "device_busy": summary.device_busy,
        "bound_by": summary.bound_by,
        "writing_s": summary.writing_s,
    }


# ---- agreement --------------------------------------------------------------------------------------------


def _agreement(config: RunConfig, crops: tuple[Crop, ...], *, say: Say) -> Iterator[dict[str, Any]]:
    """Each way to run the network against fp32, on the same faces."""
    reference: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    fp32_rate = 0.0
    ways: list[tuple[Precision, bool]] = [
        ("fp32", False),
        ("bf16", False),
        ("fp16", False),
        ("int8", False),
        ("fp32", True),
    ]
    for precision, compiled in ways:
        name = f"{precision} compiled" if compiled else precision
        model = load_network(config.model)
        try:
            wanted = replace(config.model, precision=precision, compile=compiled)
            predictor = Predictor(model, wanted)
        except MotivNetError as error:
            yield {"name": name, "not_run": str(error)}
            continue
        if (
            precision == "bf16"
            and predictor.device.type == "cpu"
            and choose_precision("auto", predictor.device, is_small=False) != "bf16"
            and not model.card.single_thread
        ):
            yield {"name": name, "not_run": "this CPU has no bf16 products: it would take a hundred times as long"}
            continue
        say(f"agreement: {name}")
        batches = [
            Batch(crops[start : start + predictor.batch_size], (), Cursor(Position(0)))
            for start in range(0, len(crops), predictor.batch_size)
        ]
        started = time.perf_counter()
        answers = [prediction for _, prediction in predictor.run(batches) if prediction]
        rate = len(crops) / (time.perf_counter() - started)
        probabilities, embeddings = _joined(answers)
        if reference is None:
            reference, fp32_rate = (probabilities, embeddings), rate
        yield {
            "name": name,
            "faces": len(crops),
            "faces_per_s": rate,
            "times_fp32": rate / fp32_rate,
            "warm_up_s": predictor.warm_up_s,
        } | agreement_of((probabilities, embeddings), reference)


def agreement_of(
    ours: tuple[NDArray[np.float32], NDArray[np.float32]], theirs: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> dict[str, float | None]:
    """How alike two predictions of the same faces are.

    Args:
        ours: Probabilities [N, C] (C is 0 of a model without emotions) and embeddings [N, D].
        theirs: The same of the reference.

    Returns:
        Share of equal emotions, mean and largest difference of a probability, least and mean cosine of embeddings.
    """
    cosines = (ours[1] * theirs[1]).sum(1) / (np.linalg.norm(ours[1], axis=1) * np.linalg.norm(theirs[1], axis=1))
    cosine: dict[str, float | None] = {
        "embedding_cosine_mean": float(cosines.mean()),
        "embedding_cosine_least": float(cosines.min()),
    }
    if not ours[0].shape[1]:
        return {"same_emotion": None, "probability_mean": None, "probability_most": None} | cosine
    difference = np.abs(ours[0] - theirs[0])
    return {
        "same_emotion": float((ours[0].argmax(1) == theirs[0].argmax(1)).mean()),
        "probability_mean": float(difference.mean()),
        "probability_most": float(difference.max()),
    } | cosine


def _joined(answers: list[Prediction]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return (
        np.concatenate([answer.probabilities for answer in answers]),
        np.concatenate([answer.embeddings for answer in answers]),
    )


def plot(result: dict[str, Any], path: Path) -> None:
    """A picture of the stages: the faces a second that each could give, and the whole.

    Raises:
        ConfigError: matplotlib does not know the file's ending.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rates = {name: stage["faces_per_s"] or 0.0 for name, stage in result["stages"].items()}
    rates["whole run"] = result["whole"]["faces_per_s"] or 0.0
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    colours = ["#4a6fa5"] * len(result["stages"]) + ["#1f2d3d"]
    bars = axes.barh(list(rates), list(rates.values()), color=colours)
    axes.bar_label(bars, [f"{rate:,.1f}" for rate in rates.values()], padding=4)
    axes.set(xscale="log", xlabel="faces a second, on its own (log scale)")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"{result['model']}, {result['precision']}, {result['device']}, {result['threads']} reading threads",
        fontsize=10,
    )
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:
        raise ConfigError(f"--plot takes a name such as stages.png or stages.svg, got {str(path)!r}") from error
    finally:
        pyplot.close(figure)
