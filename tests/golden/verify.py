"""Verify the golden files: their hashes and contents by README.md, and that this code agrees with them.

    python tests/golden/verify.py [FOLDER]

Prints what is wrong, or how many files were verified; exit code 1 if anything is wrong.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from motivnet_cli.faces.crop import to_pixels
from motivnet_cli.inputs.decode import decode_bytes
from motivnet_cli.weights.networks import load_checkpoint, load_expression_net

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SAMPLE = HERE.parents[1] / "sample_data" / "astronaut.png"
NOT_GOLDEN = {"README.md", "verify.py", "__pycache__"}
NETWORK_TOLERANCE = 1e-4
"""Of features, logits and probabilities in float32 on a CPU; sums are taken in another order than in the reference."""
MAX_GREY_LEVELS, MEAN_GREY_LEVELS = 1, 0.3
"""Between this code's resize (torch) and the reference's (OpenCV), which rounds in fixed point."""
MEAN_RGB, STD_RGB = np.array([123.5, 116.5, 103.5]), np.array([58.5, 57.0, 57.5])
HEIC_SIZE = (64, 48)


def problems(folder: Path = HERE) -> list[str]:
    """What is wrong with the golden files of a folder, one sentence each."""
    rows = _tables(folder / "README.md")
    return (
        list(_wrong_files(folder, rows))
        or list(_wrong_arrays(folder, rows))
        or [*_wrong_networks(folder), *_wrong_pictures(folder)]
    )


def _tables(readme: Path) -> list[list[str]]:
    """The cells of every table row that begins with the name of a file, without their backquotes."""
    lines = [line for line in readme.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def _wrong_files(folder: Path, rows: list[list[str]]) -> Iterator[str]:
    hashes = {row[0]: row[1] for row in rows if re.fullmatch("[0-9a-f]{64}", row[1])}
    there = _golden_files(folder)
    yield from (f"{name} is missing" for name in sorted(hashes.keys() - there))
    yield from (f"{name} is not in README.md" for name in sorted(there - hashes.keys()))
    for name in sorted(there & hashes.keys()):
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != hashes[name]:
            yield f"{name} hashes to {found}, not to the {hashes[name]} of README.md"


def _golden_files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - NOT_GOLDEN


def _wrong_arrays(folder: Path, rows: list[list[str]]) -> Iterator[str]:
    """Arrays whose name, dtype or shape is not that of README.md, and values that cannot be right."""
    described = {
        (row[0], name): (row[2], tuple(int(side) for side in re.findall(r"\d+", row[3])))
        for row in rows
        if row[0].endswith(".npz") and len(row) == 5
        for name in _expanded(row[1])
    }
    found = {(path.name, name): array for path in folder.glob("*.npz") for name, array in _arrays(path).items()}
    yield from (f"{file} has no array {name}" for file, name in sorted(described.keys() - found.keys()))
    yield from (f"{file}: {name} is not in README.md" for file, name in sorted(found.keys() - described.keys()))
    for key in sorted(described.keys() & found.keys()):
        array, (dtype, shape) = found[key], described[key]
        if (array.dtype, array.shape) != (np.dtype(dtype), shape):
            yield f"{key[0]}: {key[1]} is {array.dtype} {array.shape}, not {dtype} {shape}"
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            yield f"{key[0]}: {key[1]} holds numbers that are not finite"
        if key[1] == "probs" and not np.allclose(array.sum(axis=1), 1, atol=1e-6):
            yield f"{key[0]}: probs do not sum to 1"


def _expanded(pattern: str) -> list[str]:
    """`{a,b}_{c,d}` -> a_c, a_d, b_c, b_d."""
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(choice) for choice in itertools.product(*parts)]


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def _wrong_networks(folder: Path) -> Iterator[str]:
    """Outputs of this code's networks that differ from the reference's by more than the tolerance."""
    motivnet = load_checkpoint(folder / "motivnet_tiny_7.safetensors")
    for name, network in (("motivnet_tiny_7.npz", motivnet), ("expression_golden.npz", load_expression_net())):
        expected = _arrays(folder / name)
        with torch.inference_mode():
            features = network.forward_features(torch.from_numpy(expected["normalised_input"]))
            logits = network.forward_head(features)
        outputs = {"features": features, "logits": logits, "probs": logits.softmax(1)}
        for key in outputs.keys() & expected.keys():
            difference = np.abs(outputs[key].numpy() - expected[key]).max()
            if not difference <= NETWORK_TOLERANCE:
                yield f"{name}: the network's {key} differ by {difference:.2g} (tolerance {NETWORK_TOLERANCE:g})"


def _wrong_pictures(folder: Path) -> Iterator[str]:
    """Recipes of this code that differ from OpenCV's, and pictures that are not what README.md says."""
    expected = _arrays(folder / "recipes.npz")
    for picture, recipe in itertools.product(("astronaut", "landscape", "small"), ("pad", "stretch")):
        rgb = _read(folder / f"recipe_{picture}.png")
        pixels = to_pixels(rgb, recipe=recipe, height=1024, width=768, fill_rgb=(0, 0, 0)).transpose(1, 2, 0)
        key = f"{picture}_{recipe}"
        differences = np.abs(pixels[3::8, 5::8].astype(int) - expected[f"{key}_rgb_every8"])
        if differences.max() > MAX_GREY_LEVELS or differences.mean() > MEAN_GREY_LEVELS:
            by = f"up to {differences.max()} grey levels, {differences.mean():.2f} on average"
            yield f"recipes.npz: {key} differs by {by}"
        normalised = (pixels - MEAN_RGB) / STD_RGB
        for name, found in (("mean", normalised.mean((0, 1))), ("std", normalised.std((0, 1)))):
            if np.abs(found - expected[f"{key}_{name}"]).max() > MEAN_GREY_LEVELS / STD_RGB.min():
                yield f"recipes.npz: the {name} of {key} differs"
    if not np.array_equal(_read(folder / "recipe_astronaut.png"), _read(SAMPLE)):
        yield "recipe_astronaut.png does not show the pixels of sample_data/astronaut.png"
    for path in sorted(folder.glob("*.heic")):
        height, width, _ = decode_bytes(path.read_bytes(), max_pixels=10_000).rgb.shape
        if (width, height) != HEIC_SIZE:
            yield f"{path.name} shows {width} x {height} pixels when upright, not {HEIC_SIZE[0]} x {HEIC_SIZE[1]}"


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    found = problems(folder)
    print("\n".join(found) or f"{len(_golden_files(folder))} files verified")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
