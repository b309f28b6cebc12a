"""A full-size checkpoint of random weights: the published network's names and sizes, 4.6 GB.

It is made by a process of its own: the peak memory that the kernel reports of a process includes that of the one
which started it, so a benchmark that measures memory must have stayed small itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness import time_process


def write_random_checkpoint(path: Path, *, depth: int = 40) -> int:
    """A state dict of the full-size network under the names of the published checkpoint; returns its parameters.

    Args:
        depth: Layers of the encoder; the published network has 40.
    """
    return int(time_process([sys.executable, __file__, str(path), str(depth)]).stdout)


def _write(path: Path, *, depth: int) -> int:
    import torch

    from motivnet_cli.model import MotivNet, MotivNetSizes
    from motivnet_cli.weights.networks import checkpoint_name

    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in MotivNet(MotivNetSizes(depth=depth)).state_dict().items()}
    tensors = {
        checkpoint_name(name): torch.empty(shape).normal_(_centre(name), 0.02, generator=generator)
        for name, shape in shapes.items()
    }
    torch.save(tensors, path)
    return sum(tensor.numel() for tensor in tensors.values())


def _centre(name: str) -> float:
    """Norms scale by about one, so that numbers of ordinary size reach the head."""
    module, _, parameter = name.rpartition(".")
    return 1.0 if parameter == "weight" and "norm" in module.rpartition(".")[2] else 0.0


if __name__ == "__main__":
    print(_write(Path(sys.argv[1]), depth=int(sys.argv[2])))
