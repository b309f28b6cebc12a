"""Heads: scikit-learn's classifiers on embeddings, judged on faces of groups that they did not learn from.

Nothing here knows of files or names: the arguments are arrays. x is [N, D] float32, labels are ids from 0 [N], and
faces of one group, a number [N], are never on both sides of a split.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler, normalize

from motivnet_cli.evaluation.calibration import at_temperature, fit_temperature
from motivnet_cli.model import LayeredHead, NeighboursHead
from motivnet_cli.weights.training_record import FewShot, Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from motivnet_cli.training.config import HeadKind

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Ints = NDArray[np.int64]

INNER_FOLDS = 3
"""Within what is learned from, to choose the setting."""
DRAWS = 10
"""Of so many faces a class, for the few-shot curve."""
HIDDEN = 256
"""Width of the hidden layer of an mlp."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A classifier of scikit-learn and its one setting."""

    make: Callable[[int], Any]
    """The classifier, from a seed."""
    setting: str
    """As scikit-learn calls it."""
    values: tuple[float, ...]
    """Among which is chosen by the Brier score."""
    usual: float
    """Where too few groups are there to choose, and with few shots."""
    max_numbers: int
    """Faces times the size of an embedding on which it is chosen and judged, and from which all but a linear one learn:
    what 2 GB of memory, and minutes, allow."""

    def pipeline(self, seed: int, **setting: float) -> Pipeline:
        """The classifier with its setting, on standardised embeddings; of neighbours, on embeddings as they are."""
        classifier = self.make(seed).set_params(**setting)
        scaler = [] if isinstance(classifier, KNeighborsClassifier) else [("scaler", StandardScaler())]
        return Pipeline([*scaler, ("classifier", classifier)])


KINDS: dict[HeadKind, Kind] = {
    "linear": Kind(
        make=lambda seed: LogisticRegression(max_iter=300, random_state=seed),
        setting="C",
        values=(1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        usual=1e-2,
        max_numbers=40_000_000,
    ),
    "mlp": Kind(
        make=lambda seed: MLPClassifier((HIDDEN,), max_iter=100, random_state=seed),
        setting="alpha",
        values=(0.1, 1.0, 10.0),
        usual=1.0,
        max_numbers=10_000_000,
    ),
    "knn": Kind(
        make=lambda _: KNeighborsClassifier(metric="cosine", algorithm="brute"),
        setting="n_neighbors",
        values=(1, 3, 5, 10, 20, 50),
        usual=5,
        max_numbers=30_000_000,
    ),
}


class Split(NamedTuple):
    """The two sides of a fold, as indices."""

    train: Ints
    test: Ints


class OutOfFold(NamedTuple):
    """What is said of each face by a head that did not learn from its fold."""

    probabilities: Doubles
    """[N, C]."""
    fold_of: Ints
    """[N]."""
    chosen: tuple[float, ...]
    """The setting of each fold's head."""


class Calibrated(NamedTuple):
    """Probabilities at a temperature that other folds gave."""

    probabilities: Doubles
    """[N, C]: those of a fold at the temperature that fits all others best; as they were where none is worth it."""
    temperature: float
    """The one that fits all folds best; 1 where none is worth it."""
    remarks: tuple[str, ...]


def draw_sample(labels: Ints, size: int, *, seed: int) -> Ints:
    """Indices of about `size` faces, ascending, drawn by chance: of each class its share, and at least one."""
    rng = np.random.default_rng(seed)
    drawn = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        drawn.append(rng.choice(own, -(-size * len(own) // len(labels)), replace=False))
    return np.sort(np.concatenate(drawn))


def split_by_group(labels: Ints, groups: Ints, num_folds: int, *, seed: int) -> list[Split]:
    """Folds of whole groups, in which classes have about the same shares; fewer than asked where they would be empty.

    Every face is held out once. Fewer than two folds are none.
    """
    num_folds = min(num_folds, len(np.unique(groups)), int(np.bincount(labels).max()))
    if num_folds < 2:
        return []
    # Of groups of one face each, StratifiedGroupKFold makes the same, one at a time: a minute for 100,000.
    grouped = len(np.unique(groups)) < len(groups)
    folds = (StratifiedGroupKFold if grouped else StratifiedKFold)(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer faces than folds
        splits = [Split(train, test) for train, test in folds.split(labels, labels, groups)]
    return [split for split in splits if len(split.test) and len(split.train)]


def split_by_fold(folds: Ints) -> list[Split]:
    """The folds that are given, each face's by number [N]."""
    return [Split(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in np.unique(folds)]


def fit(kind: Kind, x: Floats, labels: Ints, groups: Ints, *, seed: int) -> Pipeline:
    """The classifier, its setting chosen by INNER_FOLDS folds of groups; the usual one where these cannot be made."""
    inner = split_by_group(labels, groups, INNER_FOLDS, seed=seed)
    most_neighbours = min([len(labels) // 2, *(len(split.train) for split in inner)])
    values = [value for value in kind.values if kind.setting != "n_neighbors" or value <= most_neighbours]
    if not inner or any(len(np.unique(labels[split.train])) < 2 for split in inner):
        return _fit_usual(kind, x, labels, most_neighbours=len(labels), seed=seed)
    search = GridSearchCV(
        kind.pipeline(seed),
        {f"classifier__{kind.setting}": values},
        scoring=_negative_brier,
        cv=inner,
        error_score="raise",
    )
    with _quiet():
        fitted: Pipeline = search.fit(x, labels).best_estimator_
    return fitted


def _fit_usual(kind: Kind, x: Floats, labels: Ints, *, most_neighbours: int, seed: int) -> Pipeline:
    usual = min(kind.usual, most_neighbours) if kind.setting == "n_neighbors" else kind.usual
    with _quiet():
        fitted: Pipeline = kind.pipeline(seed, **{kind.setting: usual}).fit(x, labels)
    return fitted


def setting_of(kind: Kind, fitted: Pipeline) -> float:
    """What was chosen."""
    value: float = fitted["classifier"].get_params()[kind.setting]
    return value


def probabilities_of(fitted: Pipeline, x: Floats, num_classes: int) -> Doubles:
    """[N, C]; 0 for classes that were not learned."""
    probabilities: Doubles = np.zeros((len(x), num_classes))
    probabilities[:, fitted.classes_] = fitted.predict_proba(x)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities


def cross_validate(
    kind: Kind,
    x: Floats,
    labels: Ints,
    groups: Ints,
    splits: Sequence[Split],
    *,
    seed: int,
    on_fold: Callable[[int], None],
) -> OutOfFold:
    """Fit a head for each fold on all others, with a setting that is chosen within these.

    Args:
        on_fold: Called with the number of each fold, from 0, when it begins.
    """
    probabilities = np.zeros((len(x), int(labels.max()) + 1))
    fold_of = np.full(len(x), -1)
    chosen = []
    for number, split in enumerate(splits):
        on_fold(number)
        fitted = fit(kind, x[split.train], labels[split.train], groups[split.train], seed=seed)
        probabilities[split.test] = probabilities_of(fitted, x[split.test], probabilities.shape[1])
        fold_of[split.test] = number
        chosen.append(setting_of(kind, fitted))
    return OutOfFold(probabilities, fold_of, tuple(chosen))


def calibrate(labels: Ints, found: OutOfFold) -> Calibrated:
    """Temperature scaling (Guo et al. 2017), kept where it lowers the Brier score of folds that it was not fitted on.

    Where it is not, as of neighbours of whom none has the right class, all stays as it is.
    """
    scaled = np.empty_like(found.probabilities)
    for fold in np.unique(found.fold_of):
        own = found.fold_of == fold
        temperature = fit_temperature(labels[~own], found.probabilities[~own]).value
        scaled[own] = at_temperature(found.probabilities[own], temperature)
    final = fit_temperature(labels, found.probabilities)
    if final.remarks or _brier(labels, scaled) >= _brier(labels, found.probabilities):
        return Calibrated(found.probabilities, 1.0, ("no temperature makes the probabilities better: they are raw",))
    return Calibrated(scaled, final.value, ())


def few_shot(
    kind: Kind, x: Floats, labels: Ints, splits: Sequence[Split], shots: int, *, seed: int, on_draw: Callable[[], None]
) -> FewShot | None:
    """What a head learns from so many faces of each class, drawn DRAWS times from each fold's others.

    The setting is the usual one, of neighbours at most `shots`. The interval holds 95 % of the draws.

    Returns:
        None where a class has fewer faces than that outside of a fold.
    """
    num_classes = int(labels.max()) + 1
    if any(np.bincount(labels[split.train], minlength=num_classes).min() < shots for split in splits):
        return None
    figures: dict[str, list[float]] = {"accuracy": [], "uar": []}
    for draw in range(DRAWS):
        on_draw()
        rng = np.random.default_rng([seed, shots, draw])
        predicted = np.empty_like(labels)
        for split in splits:
            own = [split.train[labels[split.train] == label] for label in range(num_classes)]
            drawn = np.concatenate([rng.choice(each, shots, replace=False) for each in own])
            fitted = _fit_usual(kind, x[drawn], labels[drawn], most_neighbours=shots, seed=seed)
            predicted[split.test] = fitted.predict(x[split.test])
        is_hit = predicted == labels
        figures["accuracy"].append(float(is_hit.mean()))
        figures["uar"].append(float(np.mean([is_hit[labels == label].mean() for label in range(num_classes)])))
    return FewShot(
        shots=shots,
        draws=DRAWS,
        figures={
            name: Figure(float(np.mean(values)), *map(float, np.quantile(values, (0.025, 0.975))))
            for name, values in figures.items()
        },
    )


def _negative_brier(fitted: Pipeline, x: Floats, labels: Ints) -> float:
    """What the setting is chosen by: proper, as the likelihood, and finite where neighbours rule a class out."""
    num_classes = int(max(labels.max(), fitted.classes_.max())) + 1
    return -_brier(labels, probabilities_of(fitted, x, num_classes))


def _brier(labels: Ints, probabilities: Doubles) -> float:
    return float(((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1).mean())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Says nothing of fits that end at their last iteration: what such a head is worth is measured."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


# ---- the network ------------------------------------------------------------------------------------------


def head_of(fitted: Pipeline, x: Floats, labels: Ints, *, temperature: float) -> nn.Module:
    """The network that computes what the classifier does, and divides its logits by a temperature.

    Args:
        x: What it was fitted on, [N, D], with labels [N] of all classes.
    """
    classifier = fitted["classifier"]
    if isinstance(classifier, KNeighborsClassifier):
        state = {"references": normalize(x), "labels": labels}
        head: nn.Module = NeighboursHead(
            x.shape, neighbours=int(classifier.n_neighbors), num_classes=len(classifier.classes_)
        )
    else:
        weights, biases = _layers_of(classifier)
        state = {"mean": fitted["scaler"].mean_, "scale": fitted["scaler"].scale_}
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            state |= {f"layers.{number}.weight": weight, f"layers.{number}.bias": bias}
        head = LayeredHead((x.shape[1], *map(len, weights)))
    state["temperature"] = np.full(1, temperature)
    head.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in state.items()})
    return head.eval().requires_grad_(False)


def _layers_of(classifier: LogisticRegression | MLPClassifier) -> tuple[list[Doubles], list[Doubles]]:
    """Matrices [out, in] and biases [out] of each layer, the last one with a row for each class."""
    if isinstance(classifier, MLPClassifier):
        weights, biases = [each.T for each in classifier.coefs_], list(classifier.intercepts_)
    else:
        weights, biases = [classifier.coef_], [classifier.intercept_]
    if len(weights[-1]) == 1:  # of two classes scikit-learn has the logit of the second, against 0
        weights[-1] = np.concatenate([np.zeros_like(weights[-1]), weights[-1]])
        biases[-1] = np.concatenate([np.zeros_like(biases[-1]), biases[-1]])
    return weights, biases
