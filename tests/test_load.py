"""A model's name becomes a network that is ready, or a message that says what to give."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from motivnet_cli.catalogue import CARDS
from motivnet_cli.errors import ConfigError, WeightsError
from motivnet_cli.records import EMOTIONS
from motivnet_cli.weights.file_hash import file_sha256
from motivnet_cli.weights.load import load_model

TINY = str(Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors")


def test_motivnet_is_loaded_from_the_given_file():
    """The loaded model tells the file's sizes, its hash and the default recipe."""
    model = load_model(weights=TINY)

    assert (model.height, model.width, model.embedding_size) == (128, 96, 96)
    assert model.classes == EMOTIONS
    assert model.card.name == Path(TINY).name
    assert model.card.fill_rgb == CARDS["motivnet-1b"].fill_rgb
    assert model.recipe == "stretch"
    assert model.weights_sha256 == file_sha256(TINY)
    assert model.weights_path == TINY


def test_a_relative_weights_path_is_recorded_absolute(monkeypatch):
    """What is recorded still names the file from another folder."""
    monkeypatch.chdir(Path(TINY).parent)

    assert load_model(weights=Path(TINY).name).weights_path == TINY


def test_the_embedded_model_needs_nothing():
    """expression-net loads from the package, with the hash of its own file."""
    model = load_model("expression-net")

    assert (model.height, model.width, model.embedding_size) == (112, 112, 256)
    assert sorted(model.classes) == sorted(EMOTIONS)
    assert model.recipe == "letterbox"
    assert re.fullmatch("[0-9a-f]{64}", model.weights_sha256)
    assert model.weights_sha256 == file_sha256(model.weights_path)


@pytest.mark.parametrize(("recipe", "rows"), [("stretch", (0, 8)), ("pad", (1, 7))])
def test_the_recipe_tells_which_rows_show_the_face(recipe, rows):
    """Only `pad` has bands, and they do not count for the embedding."""
    assert load_model(weights=TINY, recipe=recipe).network.image_rows == rows


def test_the_bands_of_pad_are_left_out_of_the_embedding():
    """Under `pad` the embedding is the mean of the features over the rows between the bands."""
    network = load_model(weights=TINY, recipe="pad").network
    pixels = torch.full((1, 3, 128, 96), 255, dtype=torch.uint8)
    pixels[:, :, 16:112] = torch.randint(0, 256, (96, 96), dtype=torch.uint8)

    _, embedding = network(pixels)

    features = network.forward_features((pixels - network.mean) / network.std)
    torch.testing.assert_close(embedding, features[:, :, 1:7].mean((2, 3)))
    assert not torch.allclose(embedding, features.mean((2, 3)), atol=1e-3)


def test_motivnet_without_weights_says_all_ways_on(tmp_path):
    """The message names the option for a file and the model that needs none."""
    with pytest.raises(WeightsError, match=r"download-weights motivnet-1b.*--weights PATH.*--model expression-net"):
        load_model(store=str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": "motivnet-2b"}, "known models: motivnet-1b, sapiens-0.3b, .*expression-net"),
        ({"name": "motivnet-1b", "recipe": "letterbox"}, "no input recipe 'letterbox'; it has: stretch, pad"),
        ({"name": "expression-net", "recipe": "pad"}, "no input recipe 'pad'; it has: letterbox"),
        ({"name": "expression-net", "weights": "x.pth"}, "inside the package and takes no others, got x.pth"),
    ],
)
def test_wrong_combinations_are_config_errors(arguments, says):
    """An unknown model or recipe, and weights for a model that has its own, name what would do."""
    with pytest.raises(ConfigError, match=says):
        load_model(**arguments)
