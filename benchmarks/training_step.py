"""A training step of the full-size network (1,161,033,863 parameters, random weights), one face at a time, on this CPU.

Each way is a process of its own, which loads a 4.6 GB .pth, draws a new head, and trains through `training.fit` for one
epoch of one face, validated on another: what a whole training needs of memory. The claim is that the head alone, and
the head with adapters on the encoder, train within 8 GB. Before it, the same process times the network alone: ratios.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from checkpoints import write_random_checkpoint
from harness import parser, report, say, time_process

if TYPE_CHECKING:
    from torch import Tensor

TARGET_GB = 8.0
WAYS = ("head fp32", "head bf16", "head and adapters fp32", "head and adapters bf16")
"""Of the encoder's activations, with adapters, only the tokens before each block are kept."""


class _Face:
    """One face of noise."""

    names = ("noise",)

    def __init__(self, seed: int) -> None:
        import numpy as np
        import torch

        generator = torch.Generator().manual_seed(seed)
        self.pixels = torch.randint(0, 256, (3, 1024, 768), dtype=torch.uint8, generator=generator)
        self.targets = np.eye(7, dtype=np.float32)[[seed]]

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Tensor:
        return self.pixels


def train(weights: str, way: str, folder: str) -> dict[str, object]:
    """One epoch of one step in this process."""
    import torch

    from motivnet_cli.records import EMOTIONS
    from motivnet_cli.training.config import AdapterConfig, FitConfig, OptimConfig
    from motivnet_cli.training.fit import fit
    from motivnet_cli.training.module import Objective
    from motivnet_cli.training.optim import classification_loss, make_optimizer, make_schedule, prepare
    from motivnet_cli.training.start import begin, load_start

    part, _, precision = way.rpartition(" ")
    has_adapters = "adapters" in part
    # Dropout would draw other numbers in another precision.
    recipe = OptimConfig(freeze_encoder=not has_adapters, adapters=AdapterConfig() if has_adapters else None, dropout=0)
    start = begin(load_start(weights), EMOTIONS, seed=0, new_head=True)
    network = start.network
    prepare(network, recipe, generator=torch.Generator().manual_seed(0))
    network.encoder.checkpoint_blocks = has_adapters
    face = _Face(0)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        started = time.perf_counter()
        network(face[0][None])
        alone = time.perf_counter() - started
    marks: list[float] = []

    def mark(pixels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        marks.append(time.perf_counter())
        return pixels, targets

    objective = Objective(
        loss=classification_loss,
        held_out_loss=classification_loss,
        optimizer=lambda network: make_optimizer(network, recipe),
        schedule=lambda optimizer: make_schedule(optimizer, recipe),
        mix=mark,
    )
    fitted = fit(
        network,
        objective,
        face,
        _Face(1),
        FitConfig(epochs=1, batch_size=1, precision=precision, device="cpu"),
        folder=Path(folder),
        progress=lambda _: marks.append(time.perf_counter()),
    )
    return {
        "alone_seconds": round(alone, 1),
        "step_seconds": round(marks[1] - marks[0], 1),
        "trained": sum(each.numel() for each in network.parameters() if each.requires_grad),
        "parameters": sum(each.numel() for each in network.state_dict().values()),
        "loss": fitted.history[0]["train_loss"],
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--scratch", help="a folder with 5 GB of room")
    arguments.add_argument("--depth", type=int, default=40, help="blocks of the encoder; less is for trying the script")
    arguments.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    arguments.add_argument("--child", nargs=3, help="weights, way and folder: of the processes that this one starts")
    options = arguments.parse_args()
    if options.child:
        print(json.dumps(train(*options.child)))
        return
    ways: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-", dir=options.scratch) as scratch:
        weights = Path(scratch) / "MotivNet.pth"
        num_parameters = write_random_checkpoint(weights, depth=options.depth)
        for way in options.ways:
            command = [sys.executable, __file__, "--child", str(weights), way, f"{scratch}/{way}"]
            Path(scratch, way).mkdir()
            usage = time_process(command)
            row = json.loads(usage.stdout.splitlines()[-1])
            ways[way] = row | {
                "peak_mb": round(usage.peak_mb),
                "step_over_alone": round(row["step_seconds"] / row["alone_seconds"], 2),
            }
            say(f"{way}: {ways[way]}")
    if options.depth == 40 and num_parameters != 1_161_033_863:
        raise SystemExit("not the full-size network")
    measured = {"parameters": num_parameters, "depth": options.depth, "ways": ways, "target_gb": TARGET_GB}
    report(measured, record=options.record)


if __name__ == "__main__":
    main()
