"""Changes of faces: each does what it says, by chance that depends on nothing but seed, epoch and example."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from motivnet_cli.errors import ConfigError
from motivnet_cli.training.augment import Augment, mixer
from motivnet_cli.training.config import AugmentConfig

EVERYTHING = AugmentConfig(flip=True, color_jitter=0.4, random_erasing=0.5)
FACES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (16, 3, 24, 18), dtype=np.uint8))


def epoch_of(augment, epoch, examples=range(16)):
    return {index: augment(FACES[index], epoch, index) for index in examples}


def test_chance_is_that_of_the_example():
    """Neither threads, nor the order of reading, nor what torch draws meanwhile changes a pixel."""
    augment = Augment(EVERYTHING, seed=5)
    expected = epoch_of(augment, 2)
    torch.manual_seed(9)
    torch.rand(7)
    with ThreadPoolExecutor(4) as pool:
        threaded = dict(
            zip(range(15, -1, -1), pool.map(lambda i: augment(FACES[i], 2, i), range(15, -1, -1)), strict=True)
        )
    resumed = epoch_of(Augment(EVERYTHING, seed=5), 2, examples=range(9, 16))
    for index in range(16):
        assert torch.equal(threaded[index], expected[index])
    for index, face in resumed.items():
        assert torch.equal(face, expected[index])


@pytest.mark.parametrize(("seed", "epoch"), [(5, 3), (6, 2)])
def test_another_epoch_or_seed_gives_other_faces(seed, epoch):
    first, other = epoch_of(Augment(EVERYTHING, seed=5), 2), epoch_of(Augment(EVERYTHING, seed=seed), epoch)
    assert sum(not torch.equal(first[index], other[index]) for index in range(16)) > 12


def test_torch_draws_on_as_if_no_face_had_been_changed():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    epoch_of(Augment(EVERYTHING, seed=5), 0)
    assert torch.equal(torch.rand(3), expected)


def test_without_changes_faces_are_as_they_are():
    for index, face in epoch_of(Augment(AugmentConfig(), seed=0), 0).items():
        assert torch.equal(face, FACES[index])


def test_half_of_the_faces_are_mirrored():
    augment = Augment(AugmentConfig(flip=True), seed=0)
    mirrored = 0
    for epoch in range(50):
        for index, face in epoch_of(augment, epoch).items():
            is_mirrored = torch.equal(face, FACES[index].flip(-1))
            assert is_mirrored or torch.equal(face, FACES[index])
            mirrored += is_mirrored
    assert 330 < mirrored < 470  # of 800: five standard deviations either way


def test_jitter_changes_a_grey_face_by_its_brightness_alone():
    """Contrast and saturation of one grey are nothing: what is left is a factor within its bounds."""
    grey = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    augment = Augment(AugmentConfig(color_jitter=0.3), seed=0)
    levels = {int(augment(grey, 0, index).unique().item()) for index in range(200)}
    assert 69 <= min(levels) < 80
    assert 120 < max(levels) <= 130


def test_a_rectangle_becomes_noise():
    face = torch.full((3, 60, 40), 100, dtype=torch.uint8)
    augment = Augment(AugmentConfig(random_erasing=1.0), seed=0)
    for index in range(50):
        changed = (augment(face, 0, index) != 100).any(dim=0)
        rows, columns = changed.any(dim=1).nonzero(), changed.any(dim=0).nonzero()
        box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert changed.sum() > 0.9 * box  # noise that is 100 in all three channels is rare
        assert 0.01 * 2400 < box < 0.35 * 2400


def test_faces_and_targets_are_mixed_alike():
    targets = torch.eye(4)
    pixels = torch.stack([torch.full((3, 2, 2), value, dtype=torch.uint8) for value in (0, 50, 100, 200)])
    mix = mixer(0.4)
    torch.manual_seed(3)
    mixed, mixed_targets = mix(pixels, targets)
    torch.manual_seed(3)
    again, _ = mix(pixels, targets)
    assert torch.equal(mixed, again)
    lam = mixed_targets[0, 0].item()
    assert 0 < lam < 1
    torch.testing.assert_close(mixed_targets, lam * targets + (1 - lam) * targets.roll(1, 0))
    expected = [round(lam * value + (1 - lam) * before) for value, before in ((0, 200), (50, 0), (100, 50), (200, 100))]
    assert np.abs(mixed[:, 0, 0, 0].numpy().astype(int) - expected).max() <= 1


@pytest.mark.parametrize("settings", [{"color_jitter": 1.0}, {"random_erasing": -0.1}, {"mixup": float("nan")}])
def test_settings_out_of_range(settings):
    with pytest.raises(ConfigError, match="must lie between"):
        AugmentConfig(**settings)
