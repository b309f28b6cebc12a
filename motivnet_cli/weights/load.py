"""A model's name or a checkpoint file -> the network with its weights, and what the output records of it.

Chooses no device and caches nothing: every call reads the weights anew. What a checkpoint file holds is known to
`networks`, what an input recipe does to pixels to `faces.crop`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli.catalogue import CARDS, DEFAULT_MODEL, ModelCard, recorded_name
from motivnet_cli.errors import ConfigError, MissingWeightsError, WeightsError
from motivnet_cli.faces.crop import image_rows
from motivnet_cli.model import EmbeddingClassifier, SapiensEmbedder, parent_of
from motivnet_cli.records import PHASE
from motivnet_cli.weights.cards import find_card, own_card, trained_card
from motivnet_cli.weights.checkpoint import read_ahead, read_training
from motivnet_cli.weights.file_hash import FileHash, PendingHash, file_sha256
from motivnet_cli.weights.heads import load_head
from motivnet_cli.weights.networks import embedded_weights, kind_of, load_expression_net, load_network, outline
from motivnet_cli.weights.published import check_published
from motivnet_cli.weights.store import Store, StoredModel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motivnet_cli.model import ExpressionNet

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedModel:
    """A network with its weights, on the CPU, in eval mode, and what a run needs to know of it."""

    card: ModelCard
    """Of a checkpoint file that was given, one with the file's name."""
    network: ExpressionNet | SapiensEmbedder | EmbeddingClassifier
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
    weights_path: str
    """Absolute."""
    position_change: str
    """How the position table of a Sapiens encoder was made to fit its input, in words; empty where it is as trained."""
    _hash: str | PendingHash

    @property
    def weights_sha256(self) -> str:
        """Of the file as published or given: a model of the store keeps the hash of its source.

        Raises:
            WeightsError: The file was changed while it was loaded and hashed. A file that was given is hashed while the
                caller goes on, and here that is waited for.
        """
        return self._hash if isinstance(self._hash, str) else self._hash.result().sha256

    @property
    def file_hash(self) -> FileHash | None:
        """Of a checkpoint file that was given: `load_model` takes it for `known_hash`.

        Raises:
            WeightsError: As `weights_sha256`, which waits for it as well.
        """
        return None if isinstance(self._hash, str) else self._hash.result()


def load_model(
    name: str | None = None,
    *,
    weights: str | None = None,
    recipe: str | None = None,
    store: str | None = None,
    known_hash: FileHash | None = None,
) -> LoadedModel:
    """Load a model by name from the package or the model store, or a network from a checkpoint file.

    A file's network is told from its tensors, and goes by the name of the file: a MotivNet, a Sapiens encoder alone, or
    an ExpressionNet that was taught.

    Args:
        name: A model of the catalogue, or one that was stored under another name; None is the catalogue's first. With
            `weights`, a name of the catalogue demands that network of the file, and of sapiens-1b takes the encoder.
        weights: A checkpoint file.
        recipe: One of the model's input recipes; None takes its first.
        store: Folder of the model store; None takes `MOTIVNET_HOME`, else the platform's cache folder.
        known_hash: Of `weights`, when it was loaded before: a file in the same state is not hashed again. Nor is one
            whose hash was kept beside it or in the store (docs/weights.md).

    Raises:
        ConfigError: The model or the recipe is unknown, or weights are given for a model that has its own.
        WeightsError: The weights are not installed, the file cannot be used, or either is another network than the one
            of the catalogue's name.
    """
    models = Store(store)
    if weights is not None:
        _refuse_own_weights(name, weights, models)
        _say_loading(weights, weights)
        pending = PendingHash(weights, known=known_hash, cache=models.root / "cache" / "hashes")
        return _load_file(name, weights, models, recipe=recipe, pending=pending)
    name = name or DEFAULT_MODEL
    card = find_card(name, models)
    _check_recipe(card, recipe)
    if card.embedded:
        with embedded_weights() as path:
            return _loaded(card, load_expression_net(), recipe=recipe, path=str(path), sha256=file_sha256(path))
    stored = _installed(name, models)
    _say_loading(name, stored.path)
    if card.architecture == "head":
        return _loaded(card, _load_head(stored, models), recipe=recipe, path=stored.path, sha256=stored.sha256)
    network = load_network(stored.path, encoder_only=card.architecture == "sapiens")
    remedy = f"remove it with `motivnet download-weights {name} --remove`, and store it under a name of your own"
    check_published(name, network, source=stored.path, remedy=remedy)
    read_ahead(stored.path)
    return _loaded(card, network, recipe=recipe, path=stored.path, sha256=stored.sha256)


def _say_loading(name: str, path: str) -> None:
    num_bytes = Path(path).stat().st_size if Path(path).is_file() else 0
    size = f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
    log.info("loading %s (%s)", name, size, extra=PHASE)


def model_card(name: str | None = None, *, weights: str | None = None, store: str | None = None) -> ModelCard:
    """The card of what `load_model` loads. Of a checkpoint file, only names and shapes of tensors are read.

    Raises:
        ConfigError: As `load_model`.
        WeightsError: The file cannot be used.
    """
    models = Store(store)
    if weights is None:
        return find_card(name or DEFAULT_MODEL, models)
    _refuse_own_weights(name, weights, models)
    return _card_of_file(weights, outline(weights, encoder_only=_takes_encoder(name)), models)


def model_classes(name: str | None = None, *, weights: str | None = None, store: str | None = None) -> tuple[str, ...]:
    """The classes of what `load_model` loads, in the order of its logits. No numbers of a file are read.

    Raises:
        ConfigError: As `load_model`.
        WeightsError: The weights are not installed, or the file cannot be used.
    """
    card = model_card(name, weights=weights, store=store)
    if card.embedded:
        return load_expression_net().classes
    if weights is None:
        stored = _installed(card.name, Store(store))
        weights, training = stored.path, stored.training
    else:
        training = read_training(weights)
    return (
        outline(weights, encoder_only=card.architecture == "sapiens").classes if training is None else training.classes
    )


def check_weights(
    name: str | None = None,
    *,
    weights: str | None = None,
    recipes: Iterable[str | None] = (),
    store: str | None = None,
) -> None:
    """Raise what `load_model` would with any of the recipes, as far as that shows without reading the weights.

    Raises:
        ConfigError: As `load_model`.
        WeightsError: As `load_model`.
    """
    card = model_card(name, weights=weights, store=store)
    for recipe in recipes:
        _check_recipe(card, recipe)
    if weights is None and not card.embedded:
        stored = _installed(card.name, Store(store))
        if card.architecture == "head":
            _find_encoder(stored, Store(store))


def _find_encoder(head: StoredModel, models: Store) -> StoredModel | None:
    """The model in the store whose embeddings a head classifies; None for the one in the package.

    Raises:
        WeightsError: It is not here, or is another one than the head learned from.
    """
    assert head.training is not None, "the store has no head without"
    learned = head.training.parents[0]
    stored = models.find(learned.name)
    if learned.name in CARDS and CARDS[learned.name].embedded:
        with embedded_weights() as path:
            found = file_sha256(path)
    elif stored is not None:
        found = stored.sha256
    else:
        raise WeightsError(
            f"{head.name} is a head on embeddings of {learned.name}, which is not in the store ({models.root}): bring "
            f"the {learned.name} with the sha256 {learned.sha256[:12]} there, by motivnet download-weights or training"
        )
    if found != learned.sha256:
        raise WeightsError(
            f"{head.name} learned from embeddings of {learned.name} with the sha256 {learned.sha256[:12]}, and the "
            f"{learned.name} here has {found[:12]}: bring the one that it learned from, or train it again"
        )
    return stored


def _load_head(head: StoredModel, models: Store) -> EmbeddingClassifier:
    """A head on its encoder; logits that the encoder has itself are left out where they cost anything."""
    assert head.training is not None, "the store has no head without"
    encoder = _find_encoder(head, models)
    if encoder is None:
        return load_head(head.path, head.training, load_expression_net())
    read_ahead(encoder.path)
    network = load_network(encoder.path, encoder_only=encoder.architecture != "expression-net")
    return load_head(head.path, head.training, network)


def _installed(name: str, models: Store) -> StoredModel:
    """The model of this name in the store.

    Raises:
        WeightsError: It is not there.
    """
    stored = models.find(name)
    if stored is None:
        raise MissingWeightsError(
            f"the weights of {name} are not here ({models.root}): download them with `motivnet download-weights "
            f"{name}`, or add --accept-terms to this command, which downloads them first; or give a checkpoint file "
            "with --weights PATH. To try the tool without them: --model expression-net, the small model inside the "
            "package, which is not MotivNet",
            name=name,
            store=str(models.root),
        )
    return stored


def _refuse_own_weights(name: str | None, weights: str, models: Store) -> None:
    """Raise where a model is named that has its own weights, or that is not known."""
    if name is None:
        return
    card = find_card(name, models)
    if card.embedded or name not in CARDS:
        place = "inside the package" if card.embedded else f"in the store ({models.root})"
        raise ConfigError(
            f"{name} has its weights {place} and takes no others, got {weights}: give --model or --weights, not both"
        )


def _load_file(
    name: str | None, weights: str, models: Store, *, recipe: str | None, pending: PendingHash
) -> LoadedModel:
    network = load_network(weights, encoder_only=_takes_encoder(name))
    if name is not None:
        remedy = (
            "give it without --model: it is then recorded under its own name; or store it under a name of your own: "
            f"`motivnet download-weights NAME --from-file {weights}`"
        )
        check_published(name, network, source=weights, remedy=remedy)
    card = _card_of_file(weights, network, models)
    _check_recipe(card, recipe)
    read_ahead(weights)
    pending.start()
    return _loaded(card, network, recipe=recipe, path=weights, sha256=pending)


def _takes_encoder(name: str | None) -> bool:
    return name is not None and CARDS[name].architecture == "sapiens"


def _card_of_file(weights: str, network: ExpressionNet | SapiensEmbedder, models: Store) -> ModelCard:
    name, kind = recorded_name(None, weights), kind_of(network)
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    training = read_training(weights)
    # The encoder of a whole network that was trained says nothing of classes.
    if training is not None and network.classes == training.classes:
        return trained_card(name, kind, training, num_parameters=num_parameters, store=models)
    return own_card(
        name,
        kind,
        num_parameters=num_parameters,
        about="A checkpoint file that was given in place of a model.",
        source=name,
    )


def _check_recipe(card: ModelCard, recipe: str | None) -> None:
    if recipe is not None and recipe not in card.recipes:
        raise ConfigError(f"{card.name} has no input recipe {recipe!r}; it has: {', '.join(card.recipes)}")


def _loaded(
    card: ModelCard,
    network: ExpressionNet | SapiensEmbedder | EmbeddingClassifier,
    *,
    recipe: str | None,
    path: str,
    sha256: str | PendingHash,
) -> LoadedModel:
    recipe = recipe or card.recipes[0]
    encoder, position_change = parent_of(network), ""
    if isinstance(encoder, SapiensEmbedder):
        top, bottom = image_rows(recipe, network.input_height, network.input_width)
        encoder.image_rows = (top // encoder.sizes.patch, bottom // encoder.sizes.patch)
        position_change = encoder.position_change
    return LoadedModel(
        card=card,
        network=network,
        recipe=recipe,
        classes=network.classes,
        embedding_size=network.embedding_size,
        height=network.input_height,
        width=network.input_width,
        weights_path=str(Path(path).absolute()),
        position_change=position_change,
        _hash=sha256,
    )
