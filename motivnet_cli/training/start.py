"""Where a training of a whole network starts: the model that `--init` names, with a head for the classes to be learned.

What trains, and in which mode, is the business of `training.optim` and `training.fit`.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from motivnet_cli.catalogue import CARDS
from motivnet_cli.errors import ConfigError, MissingWeightsError
from motivnet_cli.model import MotivNet, MotivNetSizes, SapiensEmbedder, SapiensSizes
from motivnet_cli.weights.load import load_model
from motivnet_cli.weights.store import Store
from motivnet_cli.weights.training_record import Parent

if TYPE_CHECKING:
    from motivnet_cli.weights.load import LoadedModel

_REFERENCE = MotivNetSizes()


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSizes:
    """Of a new head; the defaults are those of MotivNet's reference, whatever the width of the encoder."""

    width: int = _REFERENCE.decoder_width
    depth: int = _REFERENCE.decoder_depth
    heads: int = _REFERENCE.decoder_heads
    ffn: int = _REFERENCE.decoder_ffn


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Start:
    """A network as its training begins, and what the record of the training says of it."""

    network: MotivNet
    """On the CPU, in eval mode, without gradients. It shares the encoder of the model that it was made from, whose
    numbers are mapped from its file: what training writes stays in memory, and the file as it is."""
    parent: Parent
    has_new_head: bool
    remarks: tuple[str, ...]
    """What a reader of the record must know."""


def load_start(init: str, *, recipe: str | None = None, store: str | None = None) -> LoadedModel:
    """The model that a training starts from.

    Args:
        init: A model of the catalogue or the store, or a checkpoint file: a Sapiens encoder or a MotivNet.
        recipe: The input recipe to train with; None takes the model's first.
        store: Folder of the model store, as for `load_model`.

    Raises:
        ConfigError: No model and no file is called so, or both are; it is another network; or as `load_model`.
        WeightsError: As `load_model`.
    """
    models = Store(store)
    is_file, is_here = Path(init).is_file(), models.find(init) is not None
    is_model = is_here or init in CARDS
    if is_file and is_model:
        raise ConfigError(f"{init!r} is a model and a file here as well: write ./{init} for the file")
    if not is_file and not is_model:
        raise ConfigError(
            "a training starts from a model of the catalogue or the store (see `motivnet models`), or from a "
            f"checkpoint file, and there is none called {init!r}"
        )
    if is_model and not is_here and not CARDS[init].embedded:
        raise MissingWeightsError(
            f"the weights of {init} are not here ({models.root}): download them with `motivnet download-weights "
            f"{init}`, or add --accept-terms to this command, which downloads them first; or give --init their file",
            name=init,
            store=str(models.root),
        )
    model = load_model(None if is_file else init, weights=init if is_file else None, recipe=recipe, store=store)
    if not isinstance(model.network, SapiensEmbedder):
        raise ConfigError(
            f"a network is trained from a Sapiens encoder or a MotivNet, and {model.card.name} is of the architecture "
            f"{model.card.architecture}: start from sapiens-1b, or another of `motivnet models`"
        )
    return model


def begin(
    model: LoadedModel,
    classes: tuple[str, ...],
    *,
    seed: int,
    new_head: bool = False,
    decoder: DecoderSizes | None = None,
) -> Start:
    """The network to train on these classes.

    The head of a MotivNet that has the same classes, in any order, is kept. Otherwise it is drawn anew.

    Args:
        model: From `load_start`.
        seed: A new head is drawn by it.
        new_head: Draw a new head in any case.
        decoder: Sizes of a new head; None takes those of the head that it replaces, else the reference's.
    """
    encoder = model.network
    assert isinstance(encoder, SapiensEmbedder), "load_start loads no other"
    remarks = []
    if model.position_change:
        remarks.append(f"The position table of {model.card.name} was made to fit the input: {model.position_change}.")
    keeps_head = not new_head and sorted(encoder.classes) == sorted(classes)
    if encoder.classes and not keeps_head:
        why = "as asked for" if new_head else f"which told {', '.join(encoder.classes)} apart"
        remarks.append(f"The head of {model.card.name} was replaced by a new one, {why}.")
    sizes = _sizes(encoder, decoder if not keeps_head else None, num_classes=len(classes))
    with torch.device("meta"):
        network = MotivNet(sizes, classes=classes)
    network.encoder = encoder.encoder
    network.image_rows, network.position_change = encoder.image_rows, encoder.position_change
    if keeps_head:
        assert isinstance(encoder, MotivNet)
        network.head = copy.deepcopy(encoder.head)
        _reorder(network, [encoder.classes.index(name) for name in classes])
    else:
        network.head.to_empty(device="cpu").reset_parameters(torch.Generator().manual_seed(seed))
    return Start(
        network=network.eval().requires_grad_(False),
        parent=Parent(name=model.card.name, sha256=model.weights_sha256, role="start", terms=model.card.terms),
        has_new_head=not keeps_head,
        remarks=tuple(remarks),
    )


def _sizes(encoder: SapiensEmbedder, decoder: DecoderSizes | None, *, num_classes: int) -> MotivNetSizes:
    of_encoder = {field.name: getattr(encoder.sizes, field.name) for field in dataclasses.fields(SapiensSizes)}
    if decoder is None and isinstance(encoder, MotivNet):
        return dataclasses.replace(encoder.sizes, num_classes=num_classes)
    of_decoder = {f"decoder_{name}": size for name, size in dataclasses.asdict(decoder or DecoderSizes()).items()}
    return MotivNetSizes(**of_encoder, **of_decoder, num_classes=num_classes)


def _reorder(network: MotivNet, order: list[int]) -> None:
    """Give the head's classes this order: what it says of each stays the same."""
    head = network.head
    for parameter in (head.queries, head.class_weight, head.class_bias):
        parameter.data = parameter.data[order]
