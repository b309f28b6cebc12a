"""The card of a model: the catalogue's, or one made of what is known of a stored model or of a file."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from motivnet_cli.catalogue import CARDS, DEFAULT_MODEL
from motivnet_cli.errors import ConfigError, did_you_mean
from motivnet_cli.weights.store import UNKNOWN_TERMS

if TYPE_CHECKING:
    from motivnet_cli.catalogue import Architecture, ModelCard
    from motivnet_cli.weights.store import Store
    from motivnet_cli.weights.training_record import TrainingRecord

_LEARNED_FROM_CROPS = (
    "It learned from pictures that were crops of faces already, taken whole. How it does on faces that are found and "
    "cut out was not measured: `--faces whole` takes pictures as it learned them."
)


def find_card(name: str, store: Store) -> ModelCard:
    """The card of a model of the catalogue, or one made from the record of a stored model with another name.

    Raises:
        ConfigError: No model has this name.
        WeightsError: A stored model is damaged.
    """
    if name in CARDS:
        return CARDS[name]
    model = store.find(name)
    if model is None:
        stored = [each.name for each in store.models() if each.name not in CARDS]
        known = [*CARDS, *stored]
        near = did_you_mean(name, known)
        raise ConfigError(f"no model is named {name!r}; known models: {', '.join(known)} (see `motivnet models`){near}")
    if model.training is not None:
        return trained_card(name, model.architecture, model.training, num_parameters=model.num_parameters, store=store)
    return own_card(
        name,
        model.architecture,
        num_parameters=model.num_parameters,
        about=f"Stored from {model.source} on {model.date[:10]}.",
        source=model.source,
        terms=model.terms,
    )


def own_card(
    name: str,
    architecture: Architecture,
    *,
    num_parameters: int,
    about: str,
    source: str,
    terms: str = UNKNOWN_TERMS,
) -> ModelCard:
    """The card of a network that the catalogue does not name: input as for the catalogue's of this architecture."""
    return dataclasses.replace(
        _of_architecture(architecture),
        name=name,
        title=f"a {architecture} checkpoint of your own, {num_parameters:,} parameters",
        about=about,
        embedded=False,
        url=None,
        download_bytes=None,
        terms=terms,
        sources=source,
        limits=("Nothing is known of its accuracy here.",),
    )


def trained_card(
    name: str, architecture: Architecture, training: TrainingRecord, *, num_parameters: int, store: Store
) -> ModelCard:
    """The card of a model that was trained: what was trained on what, and input as in training.

    Args:
        num_parameters: Of what was stored, which of a head is the head alone.
        store: Where the encoder of a head is looked up. Without it the head can be described, but not loaded.

    Raises:
        WeightsError: The encoder is damaged.
    """
    parents = {parent.role: parent.name for parent in training.parents}
    missing: tuple[str, ...] = ()
    if architecture != "head":
        like = _of_architecture(architecture)
    elif parents["encoder"] in CARDS or store.find(parents["encoder"]):
        like = find_card(parents["encoder"], store)
    else:
        like = CARDS[DEFAULT_MODEL]
        missing = (f"Its encoder {parents['encoder']} is not in {store.root}, and it cannot be used without.",)
    what = {
        "network": f"{architecture} trained from {parents.get('start', 'random weights')}",
        "head": f"a head on the embeddings of {parents.get('encoder')}",
        "student": f"{architecture} taught by {parents.get('teacher')}",
    }[training.kind]
    data, prepared = training.data, training.preparation
    return dataclasses.replace(
        like,
        name=name,
        architecture=architecture,
        title=f"{what}, {num_parameters:,} parameters of its own",
        about=(
            f"{len(training.classes)} classes ({', '.join(training.classes)}), learned from {data.name} on "
            f"{training.date[:10]}. {training.validation.in_words}"
        ),
        recipes=(prepared.recipe, *(recipe for recipe in like.recipes if recipe != prepared.recipe)),
        margin=prepared.margin,
        align=prepared.align,
        whole=prepared.whole,
        flip=prepared.flip,
        embedded=False,
        url=None,
        download_bytes=None,
        terms=training.terms,
        sources=", ".join(f"{parent.name} ({parent.role}), sha256 {parent.sha256}" for parent in training.parents),
        limits=(
            *missing,
            f"Its figures are of faces that were set aside so: {data.split}. How it does on others is not known.",
            *((_LEARNED_FROM_CROPS,) if prepared.whole else ()),
            *data.remarks,
            *training.remarks,
        ),
    )


def _of_architecture(architecture: Architecture) -> ModelCard:
    return next(card for card in CARDS.values() if card.architecture == architecture)
