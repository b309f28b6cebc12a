"""A model's name becomes a network that is ready to be asked, with what the output must record of it.

It chooses no device and keeps nothing: every call reads the weights anew. What a file holds is the business
of `weights`; what a recipe does to pixels is that of `preprocess`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli.catalogue import DEFAULT_MODEL, ModelCard
from motivnet_cli.errors import ConfigError, WeightsError
from motivnet_cli.faces.crop import image_rows
from motivnet_cli.weights.networks import (
    embedded_weights,
    file_sha256,
    load_checkpoint,
    load_encoder,
    load_expression_net,
)
from motivnet_cli.weights.store import Store, find_card

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedModel:
    """A network with its weights, on the CPU, in eval mode, and what a run must know of it."""

    card: ModelCard
    network: nn.Module
    """uint8 RGB [B, 3, height, width] -> (logits [B, C], embedding [B, embedding_size])."""
    recipe: str
    """The input recipe that the pixels must have gone through."""
    classes: tuple[str, ...]
    """One name for each logit."""
    embedding_size: int
    height: int
    width: int
    weights_sha256: str
    """Of the file as published or given; a stored conversion keeps its source's."""
    weights_path: str
    """Absolute."""


def load_model(
    name: str = DEFAULT_MODEL,
    *,
    weights: str | None = None,
    recipe: str | None = None,
    store: str | None = None,
) -> LoadedModel:
    """A model by name, with its weights: from the package, from the model store, or from a checkpoint file.

    Args:
        weights: A checkpoint file to use in place of the store's.
        recipe: One of the model's input recipes; None takes its first.
        store: Folder of the model store; None takes `MOTIVNET_HOME`, else the platform's cache folder.

    Raises:
        ConfigError: The model or the recipe is unknown, or weights are given for a model that has its own.
        WeightsError: The weights are not here, or the file cannot be used.
    """
    models = Store(store)
    card = find_card(name, models)
    recipe = card.recipes[0] if recipe is None else recipe
    if recipe not in card.recipes:
        raise ConfigError(f"{name} has no input recipe {recipe!r}; it has: {', '.join(card.recipes)}")
    if card.embedded:
        return _load_embedded(card, recipe=recipe, weights=weights)
    if weights is not None:
        return _load_file(card, recipe=recipe, path=weights, sha256=file_sha256(weights))
    stored = models.find(name)
    if stored is None:
        raise WeightsError(
            f"the weights of {name} are not here ({models.root}): bring them with `motivnet download-weights {name}`, "
            "or give a checkpoint file with --weights PATH. To try the tool without them: --model expression-net, the "
            "small model inside the package, which is not MotivNet"
        )
    return _load_file(card, recipe=recipe, path=stored.path, sha256=stored.sha256)


def _load_embedded(card: ModelCard, *, recipe: str, weights: str | None) -> LoadedModel:
    if weights is not None:
        raise ConfigError(
            f"{card.name} has its weights inside the package and takes no others, got {weights}: leave out "
            f"--weights, or use --model {DEFAULT_MODEL} with it"
        )
    network = load_expression_net()
    with embedded_weights() as path:
        sha256, where = file_sha256(path), str(path)
    return LoadedModel(
        card=card,
        network=network,
        recipe=recipe,
        classes=network.classes,
        embedding_size=network.embedding_size,
        height=network.input_height,
        width=network.input_width,
        weights_sha256=sha256,
        weights_path=where,
    )


def _load_file(card: ModelCard, *, recipe: str, path: str, sha256: str) -> LoadedModel:
    load = load_encoder if card.architecture == "sapiens" else load_checkpoint
    network = load(path)
    top, bottom = image_rows(recipe, network.input_height, network.input_width)
    network.image_rows = (top // network.sizes.patch, bottom // network.sizes.patch)
    return LoadedModel(
        card=card,
        network=network,
        recipe=recipe,
        classes=network.classes,
        embedding_size=network.embedding_size,
        height=network.input_height,
        width=network.input_width,
        weights_sha256=sha256,
        weights_path=str(Path(path).absolute()),
    )
