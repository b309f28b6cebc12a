"""What a training made, put into the model store with the record of how it was made.

Chooses no weights and computes no figure. `weights.training_record` says what the record holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from motivnet_cli.errors import ConfigError
from motivnet_cli.records import is_class_name
from motivnet_cli.weights.networks import kind_of, metadata_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from motivnet_cli.catalogue import Architecture
    from motivnet_cli.model import ExpressionNet, MotivNet
    from motivnet_cli.weights.store import Store, StoredModel
    from motivnet_cli.weights.training_record import TrainingRecord


def check_result(name: str, classes: Sequence[str], *, store: Store, overwrite: bool = False) -> None:
    """Refuse, before anything is computed, a training whose result could not be stored.

    Raises:
        ConfigError: As `Store.check_free`; or the classes are fewer than two, the same, or cannot be called so.
    """
    store.check_free(name, overwrite=overwrite)
    named = ", ".join(map(repr, classes)) or "none"
    if len(classes) < 2:
        raise ConfigError(f"a model tells at least two classes apart, and the labels have: {named}")
    if len(set(classes)) != len(classes):
        raise ConfigError(f"each class needs a name of its own, got {named}")
    # Files of weights name the classes with commas between.
    if bad := next((each for each in classes if not is_class_name(each) or "," in each), None):
        raise ConfigError(
            f"no class can be called {bad!r}: expected printable text without a comma that is no other column of the "
            "output"
        )


def put_in_store(
    name: str, network: MotivNet | ExpressionNet, record: TrainingRecord, *, store: Store, overwrite: bool = False
) -> StoredModel:
    """Store a trained network under a name, from which every command takes it. Adapters must have been merged.

    Raises:
        ConfigError: As `check_result`.
        FetchError: The disk is too full.
        OSError: The store cannot be written.
    """
    assert network.classes == record.classes, f"the record names {record.classes}, the network {network.classes}"
    return _put(
        name,
        network.state_dict(),
        record,
        architecture=kind_of(network),
        metadata=metadata_of(network),
        store=store,
        overwrite=overwrite,
    )


def put_head_in_store(
    name: str,
    tensors: Mapping[str, Tensor],
    record: TrainingRecord,
    *,
    metadata: Mapping[str, str],
    store: Store,
    overwrite: bool = False,
) -> StoredModel:
    """As `put_in_store`, for the tensors of a head alone.

    Args:
        metadata: What loading needs beside the tensors.
    """
    return _put(name, tensors, record, architecture="head", metadata=metadata, store=store, overwrite=overwrite)


def _put(
    name: str,
    tensors: Mapping[str, Tensor],
    record: TrainingRecord,
    *,
    architecture: Architecture,
    metadata: Mapping[str, str],
    store: Store,
    overwrite: bool,
) -> StoredModel:
    check_result(name, record.classes, store=store, overwrite=overwrite)
    return store.add(
        name,
        tensors,
        architecture=architecture,
        metadata=metadata,
        training=record,
        overwrite=overwrite,
    )
