"""What the engine adds: `annotate` against its own parts run alone and perfectly overlapped on the same cores.

The parts are timed one after the other on one thread each: decoding, finding faces, measuring and cropping them, and
the network on ready batches. Spread over the cores without loss they would take their sum divided by the cores; the
ratio is the run's time, start-up apart, over that. With `--faces whole` nothing but decoding and the network remains.
Where other work keeps the machine busy, only the ratio of CPU times says anything: what the engine computes besides.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from harness import parser, report, say
from photos import make_photos

from motivnet_cli.config import FaceConfig, InputConfig, ModelConfig, OutputConfig, RunConfig
from motivnet_cli.engine.machine import usable_cores
from motivnet_cli.engine.predictor import Predictor
from motivnet_cli.faces.crop import cut, to_pixels
from motivnet_cli.faces.find import find_faces, load_detector
from motivnet_cli.faces.quality import quality_of
from motivnet_cli.inputs.decode import decode
from motivnet_cli.output.read import read_faces
from motivnet_cli.records import Batch, Crop, Cursor, Position
from motivnet_cli.run import annotate
from motivnet_cli.weights.load import load_model

if TYPE_CHECKING:
    from motivnet_cli.config import FaceMode

MODEL = "expression-net"
TARGET = 1.1


def time_parts(paths: list[Path], mode: FaceMode) -> dict[str, float]:
    """CPU seconds of each part alone, on one thread."""
    torch.set_num_threads(1)
    model = load_model(MODEL)
    config = FaceConfig(mode=mode)
    detector = None if mode == "whole" else load_detector(config.detector)
    seconds = dict.fromkeys(("decode", "detect", "quality", "crop", "model"), 0.0)
    crops = []
    for index, path in enumerate(paths):
        clock = [time.process_time()]
        frame = decode(str(path), max_pixels=10**9)
        clock.append(time.process_time())
        faces = find_faces(frame.rgb, config, detector)
        clock.append(time.process_time())
        measures = [quality_of(frame.rgb, face) for face in faces]
        clock.append(time.process_time())
        for number, face in enumerate(faces):
            rgb = frame.rgb
            if face.source != "whole":
                rgb = cut(rgb, face.box, margin=model.card.margin, fill_rgb=model.card.fill_rgb)
            pixels = to_pixels(
                rgb, recipe=model.recipe, height=model.height, width=model.width, fill_rgb=model.card.fill_rgb
            )
            crops.append(Crop(Position(index), path.name, face, number, pixels, quality=measures[number]))
        clock.append(time.process_time())
        for name, taken in zip(seconds, np.diff(clock), strict=False):
            seconds[name] += float(taken)
    predictor = Predictor(model, ModelConfig(name=MODEL))
    size = predictor.batch_size
    starts = range(0, len(crops), size)
    batches = [Batch(tuple(crops[start : start + size]), (), Cursor(Position(0))) for start in starts]
    list(predictor.run(batches[:1]))
    started = time.process_time()
    list(predictor.run(batches))
    seconds["model"] = time.process_time() - started
    return seconds


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=800)
    arguments.add_argument("--sizes", type=int, nargs=2, default=(500, 2000))
    arguments.add_argument("--rounds", type=int, default=2)
    options = arguments.parse_args()
    measured = {}
    cores = usable_cores()
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        folder = Path(scratch) / "photos"
        photos = make_photos(folder, count=options.count, seed=1, sizes=tuple(options.sizes))
        paths = [photo.path for photo in photos]
        modes: tuple[FaceMode, ...] = ("detect", "whole")
        for mode in modes:
            rounds = []
            for number in range(options.rounds):
                parts = time_parts(paths, mode)
                out = f"{scratch}/{mode}{number}.parquet"
                config = RunConfig(
                    inputs=InputConfig(paths=(str(folder),)),
                    output=OutputConfig(path=out),
                    model=ModelConfig(name=MODEL),
                    faces=FaceConfig(mode=mode),
                )
                mark = time.process_time()
                run = annotate(config).seconds
                cpu = time.process_time() - mark
                total = sum(parts.values())
                ratios = {"ratio": run / (total / cores), "cpu_ratio": cpu / total}
                rounds.append({**ratios, "annotate": run, "bound": total / cores, **parts})
            best = min(rounds, key=lambda row: row["ratio"])
            of_rounds = {f"{name}s": sorted(round(row[name], 3) for row in rounds) for name in ("ratio", "cpu_ratio")}
            shown = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in best.items() if "ratio" not in name)
            say(f"--faces {mode}: {shown}; {len(read_faces(out))} faces; {of_rounds} (target {TARGET})")
            measured[mode] = {name: round(value, 3) for name, value in best.items()} | of_rounds
    report({"count": options.count, "cores": cores, "target": TARGET, **measured}, record=options.record)


if __name__ == "__main__":
    main()
