"""The golden files are those of their README, and the script that verifies them notices when they are not."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tests.golden.verify import problems

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden(tmp_path) -> Path:
    """A copy of the folder, to damage."""
    return shutil.copytree(GOLDEN, tmp_path / "golden")


def record(folder: Path, name: str) -> None:
    """Write the hash of a changed file into README.md, so that its contents are looked at."""
    readme, old = folder / "README.md", hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest()
    new = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    readme.write_text(readme.read_text().replace(old, new))


def change(folder: Path, name: str, **arrays: np.ndarray | None) -> None:
    """Replace arrays of a file, or drop them with None."""
    with np.load(folder / name) as file:
        changed = {key: value for key, value in (dict(file) | arrays).items() if value is not None}
    np.savez(folder / name, **changed)
    record(folder, name)


def verify(*arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, GOLDEN / "verify.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=GOLDEN.parents[1])


def test_golden_files_are_verified():
    """The script finds nothing wrong, and says how many files it looked at."""
    run = verify()

    assert (run.returncode, run.stdout, run.stderr) == (0, "10 files verified\n", "")


def test_a_changed_a_missing_and_an_unlisted_file(golden):
    """Each is named, and the script exits with 1."""
    (golden / "recipes.npz").unlink()
    (golden / "new.npz").touch()
    with (golden / "recipe_small.png").open("ab") as file:
        file.write(b"x")

    run = verify(golden)

    assert run.returncode == 1
    missing, unlisted, changed = run.stdout.splitlines()
    assert missing == "recipes.npz is missing"
    assert unlisted == "new.npz is not in README.md"
    assert changed.startswith("recipe_small.png hashes to ")


def test_arrays_that_are_not_as_described(golden):
    """A missing array, an array more, another dtype, another shape: each is named."""
    with np.load(golden / "motivnet_tiny_7.npz") as file:
        logits, features = file["logits"], file["features"]
    change(
        golden,
        "motivnet_tiny_7.npz",
        normalised_input=None,
        more=np.zeros(1),
        logits=logits.astype(np.float64),
        features=features[:2],
    )

    wrong = problems(golden)

    assert "motivnet_tiny_7.npz has no array normalised_input" in wrong
    assert "motivnet_tiny_7.npz: more is not in README.md" in wrong
    assert "motivnet_tiny_7.npz: logits is float64 (3, 7), not float32 (3, 7)" in wrong
    assert "motivnet_tiny_7.npz: features is float32 (2, 96, 8, 6), not float32 (3, 96, 8, 6)" in wrong


def test_probabilities_that_cannot_be_right(golden):
    """They must be finite and sum to one."""
    probs = np.full((3, 7), 0.2, np.float32)
    probs[0, 0] = np.nan
    change(golden, "motivnet_tiny_7.npz", probs=probs)

    wrong = problems(golden)

    assert "motivnet_tiny_7.npz: probs holds numbers that are not finite" in wrong
    assert "motivnet_tiny_7.npz: probs do not sum to 1" in wrong


def test_a_network_that_disagrees(golden):
    """Weights that are not those of the recorded outputs are noticed in all three outputs."""
    tensors = load_file(golden / "motivnet_tiny_7.safetensors")
    tensors["pose_encoder.projection.weight"] *= 1.1
    save_file(tensors, golden / "motivnet_tiny_7.safetensors", {"heads": "4", "height": "128", "width": "96"})
    record(golden, "motivnet_tiny_7.safetensors")

    assert sorted(line.split(" differ")[0] for line in problems(golden)) == [
        "motivnet_tiny_7.npz: the network's features",
        "motivnet_tiny_7.npz: the network's logits",
        "motivnet_tiny_7.npz: the network's probs",
    ]


def test_a_recipe_that_disagrees(golden):
    """Two grey levels at one sampled point are noticed, and so is another mean."""
    with np.load(golden / "recipes.npz") as file:
        pixels, mean = file["small_pad_rgb_every8"], file["landscape_stretch_mean"]
    pixels[64, 40, 0] ^= 0b10
    change(golden, "recipes.npz", small_pad_rgb_every8=pixels, landscape_stretch_mean=mean + 0.1)

    landscape, small = problems(golden)

    assert landscape == "recipes.npz: the mean of landscape_stretch differs"
    assert small.startswith("recipes.npz: small_pad differs by up to ")
