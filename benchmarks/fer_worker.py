"""Runs `fer` with its MTCNN over a folder of pictures and writes what it found and how long it took, as JSON.

Started by against_fer.py with the Python of fer's own environment, where motivnet is not installed.
facenet_pytorch must be imported before fer: TensorFlow and the triton of torch crash in the other order.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import argparse  # noqa: E402 - the clock starts before the imports
import json  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402

import cv2  # noqa: E402
import facenet_pytorch  # noqa: E402, F401 - see above
import torch  # noqa: E402
from fer.fer import FER  # noqa: E402

PACKAGES = ("fer", "facenet-pytorch", "torch", "tensorflow-cpu", "opencv-contrib-python-headless", "numpy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    detector = FER(mtcnn=True)
    paths = sorted(path for path in options.folder.iterdir() if path.is_file())

    ready = time.perf_counter()
    images = [_describe(path, detector) for path in paths]
    finished = time.perf_counter()

    report = {
        "seconds_after_start": finished - ready,
        "seconds": finished - STARTED,
        "threads": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "versions": {package: version(package) for package in PACKAGES},
        "images": images,
    }
    options.out.write_text(json.dumps(report), encoding="utf-8")


def _describe(path: Path, detector: FER) -> dict[str, object]:
    """The faces of one picture, boxes as x1, y1, x2, y2 in pixels; fer itself says x, y, width, height."""
    faces = []
    for face in detector.detect_emotions(cv2.imread(str(path))):
        x, y, width, height = (int(side) for side in face["box"])
        emotions = face["emotions"]
        faces.append(
            {
                "box": [x, y, x + width, y + height],
                "emotion": max(emotions, key=emotions.__getitem__),
                "emotions": emotions,
            }
        )
    return {"input": path.name, "faces": faces}


if __name__ == "__main__":
    main()
