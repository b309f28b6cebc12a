"""The full-size network in the precisions of this CPU, in turn, on random pictures.

For each: its time over that of fp32, its share of the rate of a matrix product in the same precision, measured before
and after each pass, where its time goes, and its agreement with fp32. In bf16 both ways to compute attention are
measured; `--precision bf16` takes the one that fits the CPU (docs/performance.md). All 40 layers are alike: with
`--depth 4` a tenth of the time gives the same shares.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from checkpoints import write_random_checkpoint
from full_network import MATRIX, profile, seconds_of
from harness import parser, report, say, time_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


@dataclass(slots=True)
class Way:
    """How the network runs, and what it took and answered so far."""

    network: torch.nn.Module
    flop: int
    """Of one pass."""
    factors: tuple[torch.Tensor, ...]
    """Of the product that it is held against: fp32 for int8."""
    in_blocks: bool = False
    """Whether attention is."""
    seconds: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    probabilities: list[torch.Tensor] = field(default_factory=list)
    embeddings: list[torch.Tensor] = field(default_factory=list)

    def run(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for block in self.network.encoder.blocks:
            block.attention.in_blocks = self.in_blocks
        logits, embedding = self.network(pixels)
        return logits.float().softmax(-1), embedding.float()

    def measure(self, pixels: torch.Tensor) -> None:
        before = self._product_seconds()
        self.seconds.append(seconds_of(lambda: self._keep(pixels)))
        product = min(before, self._product_seconds())
        self.shares.append(self.flop * product / (2 * MATRIX * 1536 * 6144) / self.seconds[-1])

    def _keep(self, pixels: torch.Tensor) -> None:
        probabilities, embedding = self.run(pixels)
        self.probabilities.append(probabilities)
        self.embeddings.append(embedding)

    def _product_seconds(self) -> float:
        a, b = self.factors
        return min(seconds_of(lambda: a @ b) for _ in range(5))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--scratch", help="a folder with 5 GB of room")
    arguments.add_argument("--rounds", type=int, default=3, help="passes in each precision")
    arguments.add_argument("--depth", type=int, default=40, help="layers of the encoder")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-", dir=options.scratch) as scratch:
        weights = Path(scratch) / "MotivNet.pth"
        write_random_checkpoint(weights, depth=options.depth)
        code = "import sys; sys.path.insert(0, 'benchmarks'); import precisions; precisions.compare(*sys.argv[1:])"
        usage = time_process([sys.executable, "-c", code, str(weights), str(options.rounds)])
    measured = json.loads(usage.stdout)
    for name, way in measured.items():
        say(f"{name}: {way}")
    report(
        {"depth": options.depth, "peak_mb": round(usage.peak_mb), "ways": measured, "target_share": 0.85},
        record=options.record,
    )


def compare(weights: str, rounds: str) -> None:
    """Every way in turn, on one picture after the other."""
    import torch

    from motivnet_cli.bench import agreement_of
    from motivnet_cli.engine.machine import usable_cores

    torch.set_num_threads(usable_cores())
    ways = dict(_ways(weights))
    with torch.inference_mode():
        for number in range(int(rounds)):
            pixels = torch.randint(0, 256, (1, 3, 1024, 768), dtype=torch.uint8)
            for name in sorted(ways, reverse=number % 2 == 1):  # so that a drift counts for all
                ways[name].measure(pixels)
        profiles = {name: profile(lambda way=way: way.run(pixels)) for name, way in ways.items() if name != "fp32"}
    values = {
        name: (torch.cat(way.probabilities).numpy(), torch.cat(way.embeddings).numpy()) for name, way in ways.items()
    }
    answer: dict[str, dict[str, Any]] = {}
    for name, way in ways.items():
        over_fp32 = [ours / fp32 for ours, fp32 in zip(way.seconds, ways["fp32"].seconds, strict=True)]
        answer[name] = {
            "seconds": [round(seconds, 2) for seconds in way.seconds],
            "of_fp32": round(median(over_fp32), 3),
            "share_of_product": round(median(way.shares), 3),
            "shares": [round(share, 3) for share in way.shares],
            "profile": profiles.get(name),
            "agreement": asdict(agreement_of(values[name], values["fp32"])) if name != "fp32" else None,
        }
    print(json.dumps(answer))


def _ways(weights: str) -> Iterator[tuple[str, Way]]:
    import torch

    from motivnet_cli.bench import count_flop
    from motivnet_cli.config import ModelConfig
    from motivnet_cli.engine.machine import cpu_has_bf16
    from motivnet_cli.engine.predictor import DTYPES, Predictor
    from motivnet_cli.weights.load import load_model

    for precision in ("fp32", "bf16", "int8") if cpu_has_bf16() else ("fp32", "int8"):
        model = load_model(weights=weights)
        flop = count_flop(model)
        Predictor(model, ModelConfig(weights=weights, precision=precision, device="cpu"))  # converts it in place
        factors = tuple(torch.randn(shape).to(DTYPES[precision]) for shape in ((MATRIX, 1536), (1536, 6144)))
        if precision == "bf16":
            yield "bf16, torch's attention", Way(model.network, flop, factors)
            yield "bf16, attention in blocks", Way(model.network, flop, factors, in_blocks=True)
        else:
            yield precision, Way(model.network, flop, factors)


if __name__ == "__main__":
    main()
