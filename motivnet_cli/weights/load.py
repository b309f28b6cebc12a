"""A model's name -> its network with weights, and what the output records of it.

Chooses no device and caches nothing: every call reads the weights anew. What a checkpoint file holds is known to
`networks`, what an input recipe does to pixels to `faces.crop`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli.catalogue import DEFAULT_MODEL, ModelCard
from motivnet_cli.errors import ConfigError, WeightsError
from motivnet_cli.faces.crop import image_rows
from motivnet_cli.weights.checkpoint import file_sha256
from motivnet_cli.weights.networks import embedded_weights, load_checkpoint, load_encoder, load_expression_net
from motivnet_cli.weights.store import Store, find_card

if TYPE_CHECKING:
    from motivnet_cli.model import ExpressionNet, SapiensEmbedder


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedModel:
    """A network with its weights, on the CPU, in eval mode, and what a run needs to know of it."""

    card: ModelCard
    network: ExpressionNet | SapiensEmbedder
    """uint8 RGB faces [B, 3, height, width], 0 to 255 -> (logits [B, C], embeddings [B, embedding_size])."""
    recipe: str
    """The input recipe by which faces are cropped and resized for this network."""
    classes: tuple[str, ...]
    """C names, in the order of the logits; none for a network without a head."""
    embedding_size: int
    height: int
    """Of the input, in pixels."""
    width: int
    """Of the input, in pixels."""
    weights_sha256: str
    """Of the file as published or given: a model of the store keeps the hash of its source."""
    weights_path: str
    """Absolute."""


def load_model(
    name: str = DEFAULT_MODEL,
    *,
    weights: str | None = None,
    recipe: str | None = None,
    store: str | None = None,
) -> LoadedModel:
    """Load a model by name, with weights from the package, from the model store, or from a checkpoint file.

    Args:
        name: A model of the catalogue, or one that was stored under another name.
        weights: A checkpoint file to use in place of the store's.
        recipe: One of the model's input recipes; None takes its first.
        store: Folder of the model store; None takes `MOTIVNET_HOME`, else the platform's cache folder.

    Raises:
        ConfigError: The model or the recipe is unknown, or weights are given for a model that has its own.
        WeightsError: The weights are not installed, or the file cannot be used.
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
            f"the weights of {name} are not here ({models.root}): download them with "
            f"`motivnet download-weights {name}`, or give a checkpoint file with --weights PATH. To try the tool "
            "without them: --model expression-net, the small model inside the package, which is not MotivNet"
        )
    return _load_file(card, recipe=recipe, path=stored.path, sha256=stored.sha256)


def _load_embedded(card: ModelCard, *, recipe: str, weights: str | None) -> LoadedModel:
    if weights is not None:
        raise ConfigError(
            f"{card.name} has its weights inside the package and takes no others, got {weights}: leave out "
            f"--weights, or use --model {DEFAULT_MODEL} with it"
        )
    with embedded_weights() as path:
        return _loaded(card, load_expression_net(), recipe=recipe, path=path, sha256=file_sha256(path))


def _load_file(card: ModelCard, *, recipe: str, path: str, sha256: str) -> LoadedModel:
    network = load_encoder(path) if card.architecture == "sapiens" else load_checkpoint(path)
    top, bottom = image_rows(recipe, network.input_height, network.input_width)
    network.image_rows = (top // network.sizes.patch, bottom // network.sizes.patch)
    return _loaded(card, network, recipe=recipe, path=Path(path), sha256=sha256)


def _loaded(
    card: ModelCard, network: ExpressionNet | SapiensEmbedder, *, recipe: str, path: Path, sha256: str
) -> LoadedModel:
    return LoadedModel(
        card=card,
        network=network,
        recipe=recipe,
        classes=network.classes,
        embedding_size=network.embedding_size,
        height=network.input_height,
        width=network.input_width,
        weights_sha256=sha256,
        weights_path=str(path.absolute()),
    )
