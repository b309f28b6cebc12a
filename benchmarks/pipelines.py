"""`annotate` on mixed photographs against its own parts, and against what people write first.

The parts (decoding, finding faces, measuring and cropping them, the embedded model on ready batches) are run alone on
one thread, over all photographs: spread over the cores without loss they would take their sum divided by the cores.
Since cores share caches and memory, the same is also done by as many processes at once as there are cores, each with
its share.
The others: a plain loop (Pillow, detector on all cores, model, one picture at a time), and a torch `DataLoader` whose
workers, one a core, decode, find and crop, with the model on batches in the main process. All write a Parquet file
of the probabilities at the end. Memory is the sum over a way's processes (PSS), sampled. Where other work keeps the
machine busy, only CPU times say anything.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
import torch
from harness import ROOT, annotate_command, parser, report, say
from overhead import MODEL, time_parts
from photos import make_photos
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from motivnet_cli.config import FaceConfig
from motivnet_cli.engine.machine import usable_cores
from motivnet_cli.faces import detect
from motivnet_cli.faces.crop import cut, to_pixels
from motivnet_cli.faces.find import find_faces, load_detector
from motivnet_cli.weights.load import load_model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from motivnet_cli.faces.detect import Detector
    from motivnet_cli.weights.load import LoadedModel

TARGETS = {"parts": 1.1, "better_of_the_others": 0.8}
BATCH = 16
SAMPLE_SECONDS = 0.25


class Measured(NamedTuple):
    seconds: float
    """After start-up: of `annotate`, what its summary says."""
    peak_mb: float
    cpu_seconds: float
    """With start-up, and of all its processes."""
    answer: dict[str, Any]


class Photographs(Dataset[list[tuple[str, float, torch.Tensor]]]):
    """The faces of each photograph: its name, the left side of the box, uint8 RGB [3, H, W]."""

    def __init__(self, paths: list[Path], model: LoadedModel) -> None:
        self.paths = paths
        self.card, self.recipe = model.card, model.recipe
        self.size = {"height": model.height, "width": model.width}
        self.detector: Detector | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> list[tuple[str, float, torch.Tensor]]:
        if self.detector is None:  # in the worker: a session of onnxruntime does not survive a fork
            torch.set_num_threads(1)
            self.detector = load_detector("retinaface")
        return list(self.faces(self.paths[index], self.detector))

    def faces(self, path: Path, detector: Detector) -> Iterable[tuple[str, float, torch.Tensor]]:
        with Image.open(path) as image:
            rgb: NDArray[np.uint8] = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        for face in find_faces(rgb, FaceConfig(), detector):
            square = rgb
            if face.source != "whole":
                square = cut(rgb, face.box, margin=self.card.margin, fill_rgb=self.card.fill_rgb)
            pixels = to_pixels(square, recipe=self.recipe, fill_rgb=self.card.fill_rgb, **self.size)
            yield path.name, face.box[0], torch.from_numpy(pixels)


def predict(model: LoadedModel, crops: list[torch.Tensor]) -> NDArray[np.float32]:
    """Mirror-averaged, as a run does it."""
    with torch.inference_mode():
        pixels = torch.stack(crops)
        both = [model.network(view)[0].softmax(-1) for view in (pixels, pixels.flip(-1))]
        return torch.stack(both).mean(0).numpy()


def write(path: str, names: list[str], lefts: list[float], rows: list[NDArray[np.float32]], model: LoadedModel) -> None:
    values = dict(zip(model.classes, np.concatenate(rows).T, strict=True))
    pl.DataFrame({"input": names, "x1": lefts, **values}).write_parquet(path)


def loop(folder: str, out: str) -> None:
    """One picture after the other, the detector on all cores."""
    import onnxruntime

    model = load_model(MODEL)
    torch.set_num_threads(1)  # faster for this small network than all cores
    assets = ROOT / "motivnet_cli" / "assets"
    detect._session = lambda name: onnxruntime.InferenceSession(str(assets / name))
    detector = load_detector("retinaface")
    photographs = Photographs(sorted(Path(folder).iterdir()), model)
    started = time.perf_counter()
    names, lefts, rows = [], [], []
    for path in photographs.paths:
        for name, left, pixels in photographs.faces(path, detector):
            names.append(name)
            lefts.append(left)
            rows.append(predict(model, [pixels]))
    write(out, names, lefts, rows, model)
    print(json.dumps({"seconds": time.perf_counter() - started, "faces": len(names)}))


def dataloader(folder: str, out: str) -> None:
    """Workers decode, find and crop; the main process collects batches for the model."""
    model = load_model(MODEL)
    torch.set_num_threads(1)
    photographs = Photographs(sorted(Path(folder).iterdir()), model)
    started = time.perf_counter()
    names, lefts, rows = [], [], []
    waiting: list[torch.Tensor] = []
    for found in DataLoader(photographs, batch_size=None, num_workers=usable_cores(), prefetch_factor=8):
        for name, left, pixels in found:
            names.append(name)
            lefts.append(left)
            waiting.append(pixels.clone())  # its shared memory is a file that stays open
        while len(waiting) >= BATCH:
            rows.append(predict(model, waiting[:BATCH]))
            del waiting[:BATCH]
    if waiting:
        rows.append(predict(model, waiting))
    write(out, names, lefts, rows, model)
    print(json.dumps({"seconds": time.perf_counter() - started, "faces": len(names)}))


def parts(folder: str, share: str, shares: str) -> None:
    """The parts alone, over one of so many equal shares of the photographs."""
    paths = sorted(Path(folder).iterdir())[int(share) :: int(shares)]
    print(json.dumps(time_parts(paths, "detect")))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=2000)
    arguments.add_argument("--sizes", type=int, nargs=2, default=(300, 4000))
    arguments.add_argument("--rounds", type=int, default=2)
    options = arguments.parse_args()
    cores = usable_cores()
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        folder = str(Path(scratch) / "photos")
        make_photos(Path(folder), count=options.count, seed=4, sizes=tuple(options.sizes))
        rounds = [run_all(folder, scratch, cores, first=number % 2) for number in range(options.rounds)]
        differences = {name: largest_difference(scratch, name) for name in ("loop", "dataloader")}
    measured: dict[str, Any] = {"count": options.count, "sizes": list(options.sizes), "cores": cores}
    for name in rounds[0]:
        measured[name] = {"seconds": [round(each[name].seconds, 1) for each in rounds]}
        measured[name]["cpu_seconds"] = [round(each[name].cpu_seconds, 1) for each in rounds]
        if rounds[0][name].peak_mb:
            measured[name]["peak_mb"] = round(max(each[name].peak_mb for each in rounds))
        if name.startswith("parts"):
            measured[name] |= {key: round(value, 1) for key, value in rounds[-1][name].answer.items()}
        if name in differences:
            measured[name]["probability_difference"] = differences[name]
    for name in ("parts", "parts_on_all_cores"):
        measured[f"over_{name}"] = round(median(each["ours"].seconds / each[name].seconds for each in rounds), 3)
    for key, name in (("seconds", "over_better"), ("cpu_seconds", "cpu_over_better")):
        times = [{way: getattr(each[way], key) for way in ("ours", "loop", "dataloader")} for each in rounds]
        measured[name] = round(median(each["ours"] / min(each["loop"], each["dataloader"]) for each in times), 3)
    for name, value in measured.items():
        say(f"{name}: {value}")
    report({**measured, "targets": TARGETS}, record=options.record)


def run_all(folder: str, scratch: str, cores: int, *, first: int) -> dict[str, Measured]:
    """Every way once; the order turns from round to round."""
    ours = annotate_command(folder, *("--model", MODEL), *("--out", f"{scratch}/ours.parquet"), "--overwrite")
    ways = {
        "ours": [ours],
        "loop": [child("loop", folder, f"{scratch}/loop.parquet")],
        "parts_on_all_cores": [child("parts", folder, share, cores) for share in range(cores)],
        "dataloader": [child("dataloader", folder, f"{scratch}/dataloader.parquet")],
        "parts": [child("parts", folder, 0, 1)],
    }
    done = {}
    for name, commands in sorted(ways.items(), reverse=bool(first)):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        answers, peak_mb = run(commands)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        sums = [each["seconds"] if "seconds" in each else sum(each.values()) for each in answers]
        if name.startswith("parts"):
            total = {key: sum(each[key] for each in answers) for key in answers[0]}
            done[name] = Measured(sum(sums) / cores, 0.0, cpu_seconds, total)
        else:
            done[name] = Measured(sums[0], peak_mb, cpu_seconds, answers[0])
        say(f"{name}: {done[name].seconds:.1f} s, CPU {cpu_seconds:.1f} s, peak {peak_mb:.0f} MB")
    faces = {done[name].answer["faces"] for name in ("ours", "loop", "dataloader")}
    if len(faces) > 1:
        raise SystemExit(f"the ways found different faces: {faces}")
    return done


def child(part: str, *arguments: object) -> list[str]:
    code = "import sys; sys.path.insert(0, 'benchmarks'); import pipelines as it; "
    code += "getattr(it, sys.argv[1])(*sys.argv[2:])"
    return [sys.executable, "-c", code, part, *map(str, arguments)]


def run(commands: list[list[str]]) -> tuple[list[dict[str, float]], float]:
    """The commands at once: what each printed, and their peak memory with that of all their children."""
    processes = [Popen(command, cwd=ROOT, stdout=PIPE, text=True) for command in commands]
    over = threading.Event()
    peak = 0

    def watch() -> None:
        nonlocal peak
        while not over.wait(SAMPLE_SECONDS):
            peak = max(peak, sum(pss_of(process.pid) for process in processes))

    watcher = threading.Thread(target=watch)
    watcher.start()
    outputs = [process.communicate()[0] for process in processes]
    over.set()
    watcher.join()
    if any(process.returncode for process in processes):
        raise SystemExit(f"{[process.returncode for process in processes]} from {commands}")
    return [json.loads(output) for output in outputs], peak / 1e6


def pss_of(pid: int) -> int:
    """Bytes of a process and its children, what they share counted once; 0 once it is gone."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
        here = next(1024 * int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(number) for task in tasks for number in (task / "children").read_text().split()]
    except (OSError, StopIteration):
        return 0
    return here + sum(map(pss_of, children))


def largest_difference(scratch: str, name: str) -> float:
    """Of a probability, from ours, over all faces."""
    columns = list(load_model(MODEL).classes)
    ours, theirs = (
        pl.read_parquet(f"{scratch}/{which}.parquet").sort("input", "x1").select(columns).to_numpy()
        for which in ("ours", name)
    )
    return float(np.abs(ours - theirs).max())


if __name__ == "__main__":
    main()
