"""The full-size network (1,161,033,863 parameters): what the package's forward and the engine around it cost.

Each measurement in a process of its own: our forward against a plain one (`plain_motivnet.py`) on the same weights, in
turn, and against this machine's matrix product, with a profile of where its time goes; and a run over four pictures
against the network alone on the same faces, ready. All of it in fp32, also where a CPU could do bf16. Takes about 40
minutes.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from checkpoints import write_random_checkpoint
from harness import parser, report, say, time_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from motivnet_cli.records import Crop

TFLOP = 9.3
MATRIX = 3072
"""Side of the matrices whose product is this machine's peak: as many rows as the network has tokens."""
NUM_PICTURES = 4
PROFILED = {
    "matrix products of linear layers": ("addmm", "quantized::linear"),
    "attention": ("scaled_dot_product", "attention_in_blocks", "bmm", "softmax"),
    "GELU": ("gelu",),
    "layer norm": ("layer_norm",),
    "sums and copies": ("aten::add", "aten::mul", "copy", "clone", "cat", "fill"),
}
"""Kinds of operations, and what is in torch's names for them."""
TARGETS = {"plain": 1.02, "share_of_peak": 0.85, "engine": 1.05}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--scratch", help="a folder with 5 GB of room")
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-", dir=options.scratch) as scratch:
        weights = Path(scratch) / "MotivNet.pth"
        num_parameters = write_random_checkpoint(weights)
        forward = _child("forward", weights, options.rounds)
        say(f"forward: {forward}")
        engine = _child("engine", weights, scratch)
        say(f"engine: {engine}")
    measured = {"parameters": num_parameters, "forward": forward, "engine": engine}
    report({**measured, "targets": TARGETS}, record=options.record)


def _command(part: str, *arguments: object) -> list[str]:
    code = "import sys; sys.path.insert(0, 'benchmarks'); import full_network as it; "
    code += "getattr(it, sys.argv[1])(*sys.argv[2:])"
    return [sys.executable, "-c", code, part, *map(str, arguments)]


def _child(part: str, *arguments: object) -> dict[str, Any]:
    """One of the parts below in a process of its own, with its peak memory."""
    usage = time_process(_command(part, *arguments))
    answer: dict[str, Any] = json.loads(usage.stdout)
    return answer | {"peak_mb": round(usage.peak_mb)}


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def forward(weights: str, rounds: str) -> None:
    """Ours, the plain one and the matrix product in turn, on one picture."""
    import torch
    from plain_motivnet import plain_network

    from motivnet_cli.engine.machine import usable_cores
    from motivnet_cli.weights.networks import load_checkpoint

    torch.set_num_threads(usable_cores())
    ours = load_checkpoint(weights)
    plain = plain_network(torch.load(weights, mmap=True, weights_only=True), assign=True)
    pixels = torch.randint(0, 256, (1, 3, 1024, 768), dtype=torch.uint8)
    a, b = torch.randn(MATRIX, 1536), torch.randn(1536, 6144)

    def product_seconds() -> float:
        return min(seconds_of(lambda: a @ b) for _ in range(10))

    with torch.inference_mode():
        difference = (ours(pixels)[0].softmax(-1) - plain(pixels)).abs().max().item()  # and a warm-up
        turns = []
        for turn in range(int(rounds)):
            before = product_seconds()
            work = {"ours": lambda: ours(pixels), "plain": lambda: plain(pixels)}
            order = sorted(work, reverse=turn % 2 == 1)  # so that a drift counts for both
            taken = {name: seconds_of(work[name]) for name in order}
            turns.append((taken["ours"], taken["plain"], min(before, product_seconds())))
    flop_per_s = [2 * a.numel() * b.shape[1] / product for _, _, product in turns]
    shares = [TFLOP * 1e12 / turn[0] / peak for turn, peak in zip(turns, flop_per_s, strict=True)]
    answer = {
        "seconds": round(median(turn[0] for turn in turns), 2),
        "plain_seconds": round(median(turn[1] for turn in turns), 2),
        "ratio": round(median(turn[0] / turn[1] for turn in turns), 3),
        "ratios": [round(turn[0] / turn[1], 3) for turn in turns],
        "product_gflop_per_s": round(max(flop_per_s) / 1e9, 1),
        "share_of_peak": round(median(shares), 3),
        "probability_difference": difference,
        "profile": profile(lambda: ours(pixels)),
    }
    print(json.dumps(answer))


def profile(work: Callable[[], object]) -> dict[str, float]:
    """The share of the time that each kind of operation takes, largest first."""
    import torch

    with torch.inference_mode(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        work()
    spent = dict.fromkeys([*PROFILED, "others"], 0.0)
    for event in profiler.key_averages():
        kind = next((kind for kind, names in PROFILED.items() if any(name in event.key for name in names)), "others")
        spent[kind] += event.self_cpu_time_total
    total = sum(spent.values())
    return {kind: round(share / total, 4) for kind, share in sorted(spent.items(), key=lambda each: -each[1])}


def engine(weights: str, scratch: str) -> None:
    """A run over pictures between two halves of the network alone on their faces, so that a drift counts for both."""
    from photos import make_photos

    from motivnet_cli.config import FaceConfig, InputConfig, ModelConfig, OutputConfig, RunConfig
    from motivnet_cli.engine.predictor import Predictor
    from motivnet_cli.faces.crop import cut, to_pixels
    from motivnet_cli.faces.find import find_faces, load_detector
    from motivnet_cli.inputs.decode import decode
    from motivnet_cli.records import Batch, Crop, Cursor, Face, Position
    from motivnet_cli.run import annotate
    from motivnet_cli.weights.load import load_model

    folder = Path(scratch) / "photos"
    photos = make_photos(folder, count=NUM_PICTURES, seed=2, sizes=(1000, 3000))
    model = load_model(weights=weights)
    sum(float(parameter.detach().sum()) for parameter in model.network.parameters())  # read from the disk

    def crop(path: Path) -> Crop:
        rgb = decode(str(path), max_pixels=10**9).rgb
        face: Face = max(
            find_faces(rgb, faces, detector), key=lambda face: (face.box[2] - face.box[0]) * (face.box[3] - face.box[1])
        )
        square = cut(rgb, face.box, margin=model.card.margin, fill_rgb=model.card.fill_rgb)
        size = {"height": model.height, "width": model.width}
        pixels = to_pixels(square, recipe=model.recipe, fill_rgb=model.card.fill_rgb, **size)
        return Crop(Position(0), path.name, face, 0, pixels)

    faces = FaceConfig(max_faces=1)
    detector = load_detector(faces.detector)
    model_config = ModelConfig(weights=weights, precision="fp32")
    predictor = Predictor(model, model_config)
    crops = [crop(photo.path) for photo in photos]
    batches = [Batch((each,), (), Cursor(Position(0))) for each in crops]
    half = NUM_PICTURES // 2
    first = seconds_of(lambda: list(predictor.run(batches[:half])))
    config = RunConfig(
        inputs=InputConfig(paths=(str(folder),)),
        output=OutputConfig(path=f"{scratch}/four.parquet"),
        model=model_config,
        faces=faces,
    )
    summary = annotate(config)
    alone = first + seconds_of(lambda: list(predictor.run(batches[half:])))
    assert summary.faces == NUM_PICTURES, summary
    answer = {
        "seconds": round(summary.seconds, 1),
        "network_seconds": round(alone, 1),
        "ratio": round(summary.seconds / alone, 3),
        "device_busy": summary.device_busy,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
