"""The full-size network (random weights, a 4.6 GB .pth) from a cold start to its first prediction.

Before each of these, in turn, the file is dropped from the file cache: reading it once from end to end; a process that
has the network ready to compute, and knows the hash of its file, which was not known before; the same where the hash
was kept; and the plain way (build, `torch.load`, `load_state_dict`, conversion, hash). In bf16, the conversion of a
network in the file cache is timed against torch's own. All ways must end with the same numbers and the same hash.

With `--predict`, processes that annotate a picture are in turn as well, and each times one more forward after it, so
that both are under the same load. The claim is that the first prediction, from the start of the process to the written
output, comes within 1.2 times (reading the file once + one forward). Takes a minute a round on two idle cores, and
with `--predict` three in bf16, six in fp32.
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
from harness import ROOT, parser, report, say, time_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from motivnet_cli.config import Precision

PORTRAIT = str(ROOT / "sample_data" / "astronaut.png")
SETTLED_SECONDS = 6
"""The hash of a file that was changed less than 5 s ago is not kept."""
TARGET = 1.2
FIRST, AGAIN, PLAIN = "hash not known", "hash kept", "plain"


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--scratch", help="a folder with 5 GB of room")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    arguments.add_argument("--predict", action="store_true", help="measure first predictions, too")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-", dir=options.scratch) as scratch:
        weights = Path(scratch) / "MotivNet.pth"
        num_parameters = write_random_checkpoint(weights)
        time.sleep(SETTLED_SECONDS)
        rounds = [_round(weights, options.precision, turn, options.predict) for turn in range(options.rounds)]
    if len({each["ready"][way]["digest"] for each in rounds for way in (FIRST, AGAIN, PLAIN)}) != 1:
        raise SystemExit("not all ways give the same weights and hash")
    measured: dict[str, Any] = {"parameters": num_parameters, "precision": options.precision}
    for way in (FIRST, AGAIN, PLAIN):
        measured[way] = {
            "ready_seconds": median(each["ready"][way]["seconds"] for each in rounds),
            "over_reading": round(
                median(each["ready"][way]["seconds"] / each["ready"][way]["read"] for each in rounds), 2
            ),
            "peak_mb": max(each["ready"][way]["peak_mb"] for each in rounds),
        }
    if options.predict:
        measured["ratio"] = {
            way: median(each["predicted"][way]["ratio"] for each in rounds) for way in (FIRST, AGAIN)
        } | {"target": TARGET}
    report({**measured, "rounds": rounds}, record=options.record)


def _round(weights: Path, precision: str, turn: int, predict: bool) -> dict[str, Any]:
    kept = weights.with_name(f"{weights.name}.sha256.json")
    measured: dict[str, Any] = {"ready": {}, "predicted": {}}
    for part in ("ready", "predicted") if predict else ("ready",):
        kept.unlink(missing_ok=True)
        for way in (FIRST, AGAIN, PLAIN) if part == "ready" else (FIRST, AGAIN):
            if kept.exists() == (way == FIRST):
                raise SystemExit(f"{kept} is not as it was meant to be")
            read = _read(weights)
            _drop_from_cache(weights)
            answer = _child("plain" if way == PLAIN else part, weights, precision, time.time())
            if part == "predicted":
                answer["ratio"] = round(answer["seconds"] / (read + answer["forward"]), 3)
            measured[part][way] = {"read": round(read, 2), **answer}
    if precision == "bf16":
        ways = sorted(("ours", "torch"), reverse=turn % 2 == 1)  # so that a drift counts for both
        measured["conversion"] = {way: _child("convert", weights, way) for way in ways}
    say(json.dumps(measured))
    return measured


def _read(weights: Path) -> float:
    """Seconds to read the file once from the disk, and nothing else."""
    _drop_from_cache(weights)
    started = time.perf_counter()
    _touch(weights)
    return time.perf_counter() - started


def _touch(weights: Path) -> None:
    buffer = bytearray(1 << 20)
    with weights.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _drop_from_cache(path: Path) -> None:
    """Have the next reader fetch the file from the disk."""
    os.sync()
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _command(part: str, *arguments: object) -> list[str]:
    code = "import sys; sys.path.insert(0, 'benchmarks'); import cold_start as it; "
    code += "getattr(it, sys.argv[1])(*sys.argv[2:])"
    return [sys.executable, "-c", code, part, *map(str, arguments)]


def _child(part: str, *arguments: object) -> dict[str, Any]:
    """What one of the parts below answers, in a process of its own."""
    answer: dict[str, Any] = json.loads(time_process(_command(part, *arguments)).stdout)
    return answer


def _peak_mb() -> int:
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024))


def _spent(started: str) -> dict[str, Any]:
    """Of this process until now; `started` is when it was, in seconds since 1970."""
    seconds = {"seconds": time.time() - float(started), "cpu_seconds": time.process_time()}
    return {**{name: round(value, 1) for name, value in seconds.items()}, "peak_mb": _peak_mb()}


def ready(weights: str, precision: Precision, started: str) -> None:
    """The network ready to compute, every weight read once, and the hash known."""
    from motivnet_cli.config import ModelConfig
    from motivnet_cli.engine.predictor import Predictor
    from motivnet_cli.weights.load import load_model

    model = load_model(weights=weights)
    Predictor(model, ModelConfig(weights=weights, precision=precision))
    _tell_ready(model.network, lambda: model.weights_sha256, started)


def plain(weights: str, precision: Precision, started: str) -> None:
    """The same as most scripts do it: default initialisation, a copy from the file, a copy into the modules."""
    import torch

    from motivnet_cli.durable import sha256_of
    from motivnet_cli.engine.predictor import DTYPES
    from motivnet_cli.model import MotivNet, MotivNetSizes
    from motivnet_cli.weights.networks import checkpoint_name

    network = MotivNet(MotivNetSizes())
    tensors = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict({name: tensors[checkpoint_name(name)] for name in network.state_dict()})
    del tensors
    for part in network.children():
        part.to(DTYPES[precision])
    _tell_ready(network, lambda: sha256_of(Path(weights)), started)


def _tell_ready(network: nn.Module, sha256: Callable[[], str], started: str) -> None:
    import torch

    kinds = {torch.float32: torch.int32, torch.bfloat16: torch.int16}  # whole numbers have one sum, however it is taken
    sums = [int(each.detach().view(kinds[each.dtype]).sum()) for each in network.parameters()]
    digest = f"{sha256()[:16]} {sum(sums)}"
    print(json.dumps({**_spent(started), "digest": digest}))


def predicted(weights: str, precision: Precision, started: str) -> None:
    """`motivnet annotate` of one picture, and then the seconds of one more forward."""
    from typer.testing import CliRunner

    from motivnet_cli.cli import app

    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        settings = ["--weights", weights, "--precision", precision, "--out", f"{scratch}/p.parquet", "--json"]
        run = CliRunner().invoke(app, ["annotate", PORTRAIT, *settings], catch_exceptions=False)
    spent = _spent(started)
    assert json.loads(run.stdout)["faces"] == 1, run.output
    print(json.dumps({**spent, "forward": round(_forward_seconds(weights, precision), 1)}))


def _forward_seconds(weights: str, precision: Precision) -> float:
    import torch

    from motivnet_cli.config import ModelConfig
    from motivnet_cli.engine.predictor import Predictor
    from motivnet_cli.records import Batch, Crop, Cursor, Face, Position
    from motivnet_cli.weights.load import load_model

    model = load_model(weights=weights)
    predictor = Predictor(model, ModelConfig(weights=weights, precision=precision))
    pixels = torch.randint(0, 256, (3, model.height, model.width), dtype=torch.uint8).numpy()
    crop = Crop(Position(0), "noise", Face((0, 0, model.width, model.height), "detected", 1.0), 0, pixels)
    started = time.perf_counter()
    list(predictor.run([Batch((crop,), (), Cursor(Position(0)))]))
    return time.perf_counter() - started


def convert(weights: str, way: str) -> None:
    """A network that is mapped, and in the file cache, becomes bf16."""
    import torch

    from motivnet_cli.engine.machine import usable_cores
    from motivnet_cli.weights.dtypes import to_dtype
    from motivnet_cli.weights.networks import load_checkpoint

    _touch(Path(weights))
    network = load_checkpoint(weights)
    torch.set_num_threads(usable_cores())
    started, cpu_started = time.perf_counter(), time.process_time()
    if way == "ours":
        to_dtype(network, torch.bfloat16, num_threads=usable_cores())
    else:
        network.to(torch.bfloat16)
    answer = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu_started}
    print(json.dumps({**{name: round(value, 2) for name, value in answer.items()}, "peak_mb": _peak_mb()}))


if __name__ == "__main__":
    main()
