"""The full-size network (random weights, a 4.6 GB .pth) from a cold start to its first prediction.

Before every process the file is dropped from the file cache. In turn: reading it once from end to end; `annotate` of
one picture where the hash of the file is not known, and again where it was kept; in fp32 the plain way (build,
`torch.load`, `load_state_dict`, forward). One forward of a network that is ready is timed beside them. The claim is
that the first prediction comes within 1.2 times (reading the file once + one forward), whole processes; `start` is what
of that a process takes that annotates with the embedded network. `conversion` times bf16 alone. Takes 3 minutes a round
in bf16, 8 in fp32.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from checkpoints import write_random_checkpoint
from harness import ROOT, Usage, annotate_command, parser, report, say, time_process

if TYPE_CHECKING:
    from collections.abc import Sequence

PORTRAIT = str(ROOT / "sample_data" / "astronaut.png")
SETTLED_SECONDS = 6
"""A file that was changed less than 5 s ago is hashed, and its hash not kept."""
TARGET = 1.2


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--scratch", help="a folder with 5 GB of room")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-", dir=options.scratch) as scratch:
        weights = Path(scratch) / "MotivNet.pth"
        num_parameters = write_random_checkpoint(weights)
        time.sleep(SETTLED_SECONDS)
        rounds = [_round(weights, options.precision) for _ in range(options.rounds)]
    ratios = {
        way: [round(each[way]["seconds"] / (each["read"] + each["forward"]), 3) for each in rounds]
        for way in ("first", "again")
    }
    say(f"over reading once and one forward: {ratios} (target {TARGET})")
    measured = {
        "parameters": num_parameters,
        "precision": options.precision,
        "ratio": median(ratios["first"]),
        "ratio_again": median(ratios["again"]),
        "peak_mb": max(each["first"]["peak_mb"] for each in rounds),
        "rounds": rounds,
    }
    report({**measured, "target": TARGET}, record=options.record)


def _round(weights: Path, precision: str) -> dict[str, Any]:
    kept = weights.with_name(f"{weights.name}.sha256.json")
    kept.unlink(missing_ok=True)
    ours = annotate_command(PORTRAIT, "--weights", str(weights), "--precision", precision, "--overwrite")
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        out = ("--out", f"{scratch}/p.parquet")
        measured: dict[str, Any] = {"read": round(_read(weights), 2)}
        measured["first"] = _from_cold(weights, [*ours, *out])
        if not kept.exists():
            raise SystemExit("the hash was not kept")
        measured["again"] = _from_cold(weights, [*ours, *out])
        start = time_process(annotate_command(PORTRAIT, "--model", "expression-net", "--overwrite", *out))
    measured["start"] = round(start.seconds, 1)
    measured["forward"] = json.loads(time_process(_command("forward", weights, precision)).stdout)
    if precision == "fp32":
        measured["plain"] = _from_cold(weights, _command("plain", weights))
    else:
        measured["conversion"] = {
            way: json.loads(time_process(_command("convert", weights, way)).stdout) for way in ("ours", "torch")
        }
    say(str(measured))
    return measured


def _from_cold(weights: Path, command: Sequence[str]) -> dict[str, Any]:
    _drop_from_cache(weights)
    usage: Usage = time_process(command)
    return {
        "seconds": round(usage.seconds, 1),
        "cpu_seconds": round(usage.cpu_seconds, 1),
        "peak_mb": round(usage.peak_mb),
    }


def _read(weights: Path) -> float:
    """Seconds to read the file once from the disk, and nothing else."""
    _drop_from_cache(weights)
    buffer = bytearray(1 << 20)
    started = time.perf_counter()
    with weights.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - started


def _drop_from_cache(path: Path) -> None:
    """Have the next reader fetch the file from the disk."""
    os.sync()
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _command(part: str, *arguments: object) -> list[str]:
    """One of the parts below in a process of its own."""
    code = "import sys; sys.path.insert(0, 'benchmarks'); import cold_start as it; "
    code += "getattr(it, sys.argv[1])(*sys.argv[2:])"
    return [sys.executable, "-c", code, part, *map(str, arguments)]


def forward(weights: str, precision: str) -> None:
    """Seconds of a forward of one face, after another one."""
    import torch

    from motivnet_cli.config import ModelConfig
    from motivnet_cli.engine.predictor import Predictor
    from motivnet_cli.records import Batch, Crop, Cursor, Face, Position
    from motivnet_cli.weights.load import load_model

    model = load_model(weights=weights)
    predictor = Predictor(model, ModelConfig(weights=weights, precision=precision))  # type: ignore[arg-type]
    pixels = torch.randint(0, 256, (3, model.height, model.width), dtype=torch.uint8).numpy()
    crop = Crop(Position(0), "noise", Face((0, 0, 768, 1024), "detected", 1.0), 0, pixels)
    batch = Batch((crop,), (), Cursor(Position(0)))
    list(predictor.run([batch]))
    started = time.perf_counter()
    list(predictor.run([batch]))
    print(round(time.perf_counter() - started, 2))


def convert(weights: str, way: str) -> None:
    """Seconds to make a network that is mapped, and in the file cache, bf16; and the most memory that took."""
    import resource

    import torch

    from motivnet_cli.engine.machine import usable_cores
    from motivnet_cli.weights.dtypes import to_dtype
    from motivnet_cli.weights.networks import load_checkpoint

    with Path(weights).open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
    network = load_checkpoint(weights)
    started = time.perf_counter()
    if way == "ours":
        to_dtype(network, torch.bfloat16, num_threads=usable_cores())
    else:
        network.to(torch.bfloat16)
    seconds = time.perf_counter() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
    print(json.dumps({"seconds": round(seconds, 2), "peak_mb": round(peak_mb)}))


def plain(weights: str) -> None:
    """The plain way to a first prediction."""
    import torch
    from plain_motivnet import plain_network

    network = plain_network(torch.load(weights, weights_only=True), assign=False)
    with torch.inference_mode():
        print(network(torch.zeros(1, 3, 1024, 768, dtype=torch.uint8)).tolist())


if __name__ == "__main__":
    main()
