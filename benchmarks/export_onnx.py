"""The full-size network (1,161,033,863 parameters, random weights, 4.6 GB) is written as ONNX and run by onnxruntime.

The claim is that every output of the file, a graph with its weights beside it, agrees with PyTorch within 1e-4, for one
face and for three. The example that is written with it then runs it in a process of its own.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from harness import parser, report, say, time_process

TARGET = 1e-4


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--scratch", help="a folder with 10 GB of room")
    arguments.add_argument("--precision", default="fp32", choices=["fp32", "fp16"])
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-", dir=options.scratch) as scratch:
        weights, out = Path(scratch) / "MotivNet.pth", Path(scratch) / "motivnet.onnx"
        num_parameters = int(time_process(command("make", weights)).stdout)
        say(f"{weights.name}: {num_parameters:,} parameters, {weights.stat().st_size / 1e6:.0f} MB")
        exporting = time_process(command("export", weights, out, options.precision))
        exported = json.loads(exporting.stdout)
        example = time_process([sys.executable, "-I", f"{out}.example.py"])
        graph_mb, data_mb = (Path(path).stat().st_size / 1e6 for path in (out, f"{out}.data"))
    say(f"{graph_mb:.1f} MB of graph and {data_mb:.0f} MB of weights in {exporting.seconds:.0f} s with the comparison")
    for name, difference in exported["differences"].items():
        say(f"{name}: {difference:.2g} from PyTorch at most (target {TARGET:g})")
    say(f"the example: {example.seconds:.0f} s, peak {example.peak_mb:.0f} MB: {example.stdout.strip()}")
    if num_parameters != 1_161_033_863:
        raise SystemExit("not the full-size network")
    measured = {"parameters": num_parameters, "precision": options.precision, "graph_mb": round(graph_mb, 1)}
    cost = {"export_seconds": round(exporting.seconds), "export_peak_mb": round(exporting.peak_mb)}
    alone = {"example_seconds": round(example.seconds), "example_peak_mb": round(example.peak_mb)}
    differences = {"differences": exported["differences"], "largest_difference": exported["largest_difference"]}
    report(
        measured | {"data_mb": round(data_mb)} | cost | alone | differences | {"target": TARGET}, record=options.record
    )


def command(kind: str, *arguments: object) -> list[str]:
    """This script again, in a process of its own, as one of the two below."""
    code = f"import sys; sys.path.insert(0, 'benchmarks'); import export_onnx; export_onnx.{kind}(*sys.argv[1:])"
    return [sys.executable, "-c", code, *map(str, arguments)]


def make(path: str) -> None:
    """A network as torch initialises it: its outputs differ from face to face, as those of equal weights do not."""
    import torch

    from motivnet_cli.model import MotivNet, MotivNetSizes

    torch.manual_seed(0)
    network = MotivNet(MotivNetSizes())
    torch.nn.init.normal_(network.encoder.position, std=0.02)
    network.head.reset_parameters(torch.default_generator)
    torch.save(network.state_dict(), path)
    print(sum(parameter.numel() for parameter in network.parameters()))


def export(weights: str, out: str, precision: str) -> None:
    from motivnet_cli.export.network import export_model

    exported = export_model(None, "onnx", out, weights=weights, precision=precision)
    print(json.dumps(dataclasses.asdict(exported)))


if __name__ == "__main__":
    main()
