"""What a training made, judged, and put into the model store with the record of how it was made.

Chooses no weights. `weights.training_record` says what the record holds, docs/metrics.md how figures are computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.intervals import Units
from motivnet_cli.evaluation.metrics import score
from motivnet_cli.records import is_class_name
from motivnet_cli.weights.networks import kind_of, metadata_of
from motivnet_cli.weights.training_record import Figure, TrainingSet, Validation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from motivnet_cli.catalogue import Architecture
    from motivnet_cli.evaluation.results import Interval, Scores
    from motivnet_cli.model import ExpressionNet, MotivNet
    from motivnet_cli.training.data import TrainingData
    from motivnet_cli.training.folder import TrainingFolder
    from motivnet_cli.weights.store import Store, StoredModel
    from motivnet_cli.weights.training_record import TrainingRecord


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Judged:
    """What a trained model says of N faces that it did not learn from."""

    classes: tuple[str, ...]
    """C names, in the order of the logits."""
    names: tuple[str, ...]
    """N names of faces, to point at them."""
    labels: NDArray[np.int64]
    """[N], ids of classes; of soft labels, and of a teacher's answers, the likeliest."""
    probabilities: NDArray[np.floating]
    """[N, C], rows sum to 1."""
    groups: Sequence[str | None] | None = None
    """N subjects, where they are known: intervals are then over other subjects."""

    def scores(self) -> Scores:
        """All figures that `evaluate` has."""
        predicted = self.probabilities.argmax(axis=1)
        return score(self.labels, predicted, self.probabilities, classes=self.classes, groups=self.groups)

    def recalls(self) -> dict[str, Interval | None]:
        """The recall of each class with its interval; None without a face of it."""
        is_hit = self.probabilities.argmax(axis=1) == self.labels
        units = Units(self.groups, len(self.labels))
        of_class = [self.labels == number for number in range(len(self.classes))]
        with np.errstate(invalid="ignore"):  # resamples without a face of the class have no recall
            replicates = [
                np.concatenate([(counts[is_hit & among].sum(0) / counts[among].sum(0)) for counts in units.resampled()])
                for among in of_class
            ]
        return {
            name: units.proportion(is_hit, found, is_counted=among) if among.any() else None
            for name, among, found in zip(self.classes, of_class, replicates, strict=True)
        }


def validation_of(scores: Scores, how: str, **others: float) -> Validation:
    """The figures of a record.

    Args:
        scores: Of answers for all faces.
        how: On which faces, in words: `the validation faces, by the network of the best epoch`.
        others: More figures, without intervals, such as `loss`.
    """
    figures = {
        name: Figure(found.value, found.low, found.high) for name, found in scores.scored.items() if found is not None
    }
    return Validation(how=how, n=scores.n, figures=figures | {name: Figure(value) for name, value in others.items()})


def training_set_of(data: TrainingData) -> TrainingSet:
    """What the record says of labelled faces."""
    sides = zip(*data.counts.values(), strict=True)
    return TrainingSet(
        name=f"{Path(data.root).name} ({data.card.name})" if data.card.is_own else data.card.name,
        sha256=data.list_sha256,
        counts={
            side: dict(zip(data.classes, numbers, strict=True))
            for side, numbers in zip(("train", "val"), sides, strict=True)
        },
        split=data.validation,
        dropped=data.dropped,
        remarks=data.remarks,
        terms=data.card.terms,
    )


def stored_before(name: str, folder: TrainingFolder, *, store: Store, overwrite: bool) -> StoredModel | None:
    """The model that the training of this folder has put into the store; None where it has not ended, or starts anew.

    Raises:
        ConfigError: As `Store.check_free`: another model has the name.
        OutputConflictError: The settings in the folder are damaged.
    """
    known = store.find(name) if folder.has_checkpoint and not overwrite else None
    if known is not None and known.training is not None and known.training.settings == folder.settings:
        return known
    store.check_free(name, overwrite=overwrite)
    return None


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
