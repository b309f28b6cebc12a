"""The full-size checkpoint (4.6 GB, random weights) is converted for the store, and loaded from there.

The claims are that converting peaks under 1.3 GB and the largest tensor, and that the stored file is a network ready
to predict sooner, and in less memory, than building the modules and filling them by `torch.load`.
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
    from motivnet_cli.model import MotivNet

LARGEST_TENSOR_MB = 1536 * 6144 * 4 / 1e6
TARGET_MB = 1300 + LARGEST_TENSOR_MB


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--scratch", help="a folder with 10 GB of room")
    arguments.add_argument("--rounds", type=int, default=3, help="loads of each kind, in turn; the fastest counts")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-", dir=options.scratch) as scratch:
        source, stored = Path(scratch) / "MotivNet.pth", Path(scratch) / "weights.safetensors"
        num_parameters = write_random_checkpoint(source)
        size_mb = source.stat().st_size / 1e6
        say(f"{source.name}: {num_parameters:,} parameters, {size_mb:.0f} MB")
        converting = time_process(command("convert", source, stored))
        say(f"converted: peak {converting.peak_mb:.0f} MB (target {TARGET_MB:.0f}), {converting.seconds:.0f} s")
        start = time_process(command("start"))
        loads = {"mapped": stored, "naive": source}
        rounds = [
            {kind: time_process(command(kind, path)) for kind, path in loads.items()} for _ in range(options.rounds)
        ]
    answers = {kind: [json.loads(usages[kind].stdout) for usages in rounds] for kind in loads}
    if len({each["digest"] for kind in loads for each in answers[kind]}) != 1:
        raise SystemExit("the two ways do not give the same weights")
    measured: dict[str, object] = {
        "parameters": num_parameters,
        "file_mb": round(size_mb),
        "convert_peak_mb": round(converting.peak_mb),
        "target_mb": round(TARGET_MB),
        "import_peak_mb": round(start.peak_mb),
        "convert_seconds": round(converting.seconds, 1),
        "rounds": options.rounds,
    }
    ready = {kind: min(each["ready_seconds"] for each in answers[kind]) for kind in loads}
    read = {kind: min(each["read_seconds"] for each in answers[kind]) for kind in loads}
    for kind in loads:
        measured[f"{kind}_ready_seconds"] = round(ready[kind], 3)
        measured[f"{kind}_read_seconds"] = round(read[kind], 3)
        measured[f"{kind}_ready_mb"] = round(max(each["ready_mb"] for each in answers[kind]))
        measured[f"{kind}_peak_mb"] = round(max(usages[kind].peak_mb for usages in rounds))
        say(
            f"{kind}: a network in {ready[kind]:.2f} s, every weight once read in {read[kind]:.2f} s, "
            f"peak {measured[f'{kind}_ready_mb']} and {measured[f'{kind}_peak_mb']} MB"
        )
    measured["ready_ratio"] = round(ready["naive"] / ready["mapped"], 1)
    measured["read_ratio"] = round(read["naive"] / read["mapped"], 2)
    say(f"naive over mapped: {measured['ready_ratio']} ready, {measured['read_ratio']} with every weight read")
    report(measured, record=options.record)


def command(kind: str, *paths: Path) -> list[str]:
    """This script again, in a process of its own, as one of the four below."""
    code = f"import sys; sys.path.insert(0, 'benchmarks'); import convert; convert.{kind}(*sys.argv[1:])"
    return [sys.executable, "-c", code, *map(str, paths)]


def convert(source: str, stored: str) -> None:
    from motivnet_cli.weights.networks import convert

    convert(source, Path(stored), metadata={})


def start() -> None:
    import motivnet_cli.weights.networks  # noqa: F401


def mapped(path: str) -> None:
    from motivnet_cli.weights.networks import load_checkpoint

    started = time.perf_counter()
    _tell(load_checkpoint(path), started)


def naive(path: str) -> None:
    """As most scripts do it: default initialisation, a copy from the file, a copy into the modules."""
    import torch

    from motivnet_cli.model import MotivNet, MotivNetSizes
    from motivnet_cli.weights.networks import checkpoint_name

    started = time.perf_counter()
    network = MotivNet(MotivNetSizes())
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict({name: tensors[checkpoint_name(name)] for name in network.state_dict()})
    _tell(network.eval(), started)


def _tell(network: MotivNet, started: float) -> None:
    """Seconds until the network was there, and until each of its weights had been read once."""
    import resource

    ready = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
    sums = [float(parameter.detach().sum()) for parameter in network.parameters()]
    read = time.perf_counter() - started
    print(json.dumps({"ready_seconds": ready, "read_seconds": read, "ready_mb": peak, "digest": repr(sums)}))


if __name__ == "__main__":
    main()
