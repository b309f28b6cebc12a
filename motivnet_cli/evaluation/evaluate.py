"""The path of an evaluation: read a labelled set, predict or take predictions made before, match them, score them.

Layouts of sets are in `datasets/`, runs of the network in `predict`, formulas in `metrics`, pages in `report/`.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from motivnet_cli import __version__
from motivnet_cli.config import Corruption
from motivnet_cli.engine.work import load_network
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.config import Variant
from motivnet_cli.evaluation.datasets.classes import are_emotions
from motivnet_cli.evaluation.datasets.published import published_beside
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.evaluation.files import picture_of
from motivnet_cli.evaluation.groups import by_group, group_names
from motivnet_cli.evaluation.intervals import Units
from motivnet_cli.evaluation.matching import remark_on_shared
from motivnet_cli.evaluation.metrics import paired
from motivnet_cli.evaluation.predict import CORRUPTED, match_predictions, predict, predictable
from motivnet_cli.evaluation.predictions import recorded_classes
from motivnet_cli.evaluation.results import (
    ComparedPredictions,
    CorruptedRun,
    Evaluation,
    PredictionComparison,
    Run,
)
from motivnet_cli.evaluation.robustness import robustness
from motivnet_cli.evaluation.scoring import (
    Predicted,
    labels_of,
    missed_by_reason,
    scale_run,
    score_run,
    scores_of,
    subjects_of,
    summary_of,
)
from motivnet_cli.evaluation.significance import between_runs
from motivnet_cli.output.written import WrittenPaths
from motivnet_cli.records import PHASE, in_column_order, never, no_progress
from motivnet_cli.weights.load import check_weights, model_card, model_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from motivnet_cli.evaluation.config import EvaluateConfig
    from motivnet_cli.evaluation.datasets.labelled import LabelledSet
    from motivnet_cli.evaluation.matching import Matched
    from motivnet_cli.evaluation.results import Grouping, Robustness
    from motivnet_cli.records import Progress
    from motivnet_cli.weights.load import LoadedModel

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
"""Of `metrics.json`."""


def evaluate(
    configs: Sequence[EvaluateConfig],
    *,
    progress: Callable[[Progress], None] = no_progress,
    stop: Callable[[], bool] = never,
) -> list[Evaluation] | None:
    """Score a model, or predictions made before, on labelled datasets.

    Every dataset is read before the first network runs, so that a wrong path shows at once.

    Args:
        configs: One for each dataset.

    Returns:
        One for each of the configs; None when `stop` ended it: the same call resumes.

    Raises:
        ConfigError: A dataset's layout is not recognised, an option does not fit it or the model, or predictions made
            before are of other images.
        WeightsError: As `annotate`.
        OutputConflictError: A folder holds an evaluation with other settings.
    """
    for config in configs:
        _check_destination(config)
        _check_model(config)
    evaluations = []
    for config, sets in [(config, _read_sets(config)) for config in configs]:
        evaluation = _evaluate(config, sets, progress=progress, stop=stop)
        if evaluation is None:
            return None
        evaluations.append(evaluation)
    return evaluations


def compare_predictions(config: EvaluateConfig, a: str, b: str) -> PredictionComparison:
    """Two sets of predictions for the same labelled images: McNemar's test, and the difference of their accuracies.

    Raises:
        ConfigError: The dataset or the predictions cannot be read, or no labelled image is among both predictions.
    """
    labelled = _read(config, config.split, _classes_of([recorded_classes(a), recorded_classes(b)]))
    log.info("comparing %s with %s", a, b, extra=PHASE)
    answers = [match_predictions(config, path, labelled) for path in (a, b)]
    shared = remark_on_shared(a, answers[0].matched, b, answers[1].matched)
    scores = paired(
        labels_of(labelled),
        *(answer.matched.predicted for answer in answers),
        num_classes=len(labelled.classes),
        groups=subjects_of(labelled),
        resamples=config.resamples,
        seed=config.seed,
    )
    side_a, side_b = (
        ComparedPredictions(path=path, origin=answer.predictions.origin, matching=answer.matched.summary)
        for path, answer in zip((a, b), answers, strict=True)
    )
    return PredictionComparison(
        schema_version=SCHEMA_VERSION,
        remarks=tuple(dict.fromkeys([*answers[0].remarks, *answers[1].remarks, *([shared] if shared else [])])),
        argmax=config.argmax,
        dataset=summary_of(labelled),
        a=side_a,
        b=side_b,
        scores=scores,
    )


def _check_destination(config: EvaluateConfig) -> None:
    """Refuse a folder in which what is read would be replaced."""
    out = Path(config.out)
    written = [out / name for name in ("metrics.json", "report.md", "report.html", "figures")]
    if not config.predictions:
        written += [*out.glob("predictions*.parquet"), *out.glob("calibration*.parquet")]
        written += (out / CORRUPTED).glob("*.parquet")
    reads = [each for each in (config.root, *config.tables.values(), config.label_map_file) if each]
    WrittenPaths(config.out, written).refuse(reads)


def _check_model(config: EvaluateConfig) -> None:
    """Refuse, before a set is read, a model that names no emotions or whose weights are not there."""
    if config.predictions:
        if config.variants != (Variant(),) or config.align is not None:
            raise ConfigError(
                "predictions made before have their crops already: leave out --recipe, --margin and --align, or "
                "--predictions"
            )
        if config.corruptions:
            raise ConfigError("predictions made before say nothing of corrupted pictures: leave out --corrupt")
        return
    model = config.model
    card = model_card(model.name, weights=model.weights, store=model.store)
    if card.architecture == "sapiens":
        raise ConfigError(f"{card.name} names no emotions: evaluate takes a model that does (see `motivnet models`)")
    check_weights(model.name, weights=model.weights, recipes=config.recipes, store=model.store)


class _Sets(NamedTuple):
    labelled: LabelledSet
    other: LabelledSet | None
    """The split to fit a temperature on."""


def _read_sets(config: EvaluateConfig) -> _Sets:
    """The split that is evaluated, and perhaps the one to fit a temperature on.

    Raises:
        ConfigError: As `read_dataset`, or the two share an image.
    """
    classes = _own_classes(config)
    labelled = _read(config, config.split, classes)
    if config.calibrate_on is None:
        return _Sets(labelled, None)
    other = _read(config, config.calibrate_on, classes)
    if shared := {image.name for image in labelled.images} & {image.name for image in other.images}:
        raise ConfigError(
            f"{config.dataset}: the splits {labelled.split!r} and {other.split!r} share {len(shared):,} images, such "
            f"as {min(shared)!r}: a temperature is fitted on one split and judged on another, so name one that shares "
            "none as --calibrate-on"
        )
    if not np.array_equal(predictable(config, labelled), predictable(config, other)):
        raise ConfigError(
            f"{config.dataset}: the splits {labelled.split!r} and {other.split!r} have not the same classes, so the "
            "argmax of --argmax labelled is not the same: leave out --argmax or --calibrate-on"
        )
    return _Sets(labelled, other)


def _own_classes(config: EvaluateConfig) -> tuple[str, ...] | None:
    """The classes of the model, or of the predictions made before, where they are not the seven emotions."""
    if config.predictions:
        return _classes_of([recorded_classes(path) for path in config.tables.values()])
    model = config.model
    return _classes_of([model_classes(model.name, weights=model.weights, store=model.store)])


def _classes_of(models: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """The classes by which models, or other tools (None), are scored; None for the emotions.

    Raises:
        ConfigError: They are not the same.
    """
    own = {None if each is None or are_emotions(each) or not each else in_column_order(each) for each in models}
    if len(own) > 1:
        named = " and ".join(sorted({"the emotions" if each is None else ", ".join(each) for each in own}))
        raise ConfigError(f"the predictions are of models with different classes ({named}): evaluate each by itself")
    return own.pop()


def _read(config: EvaluateConfig, split: str | None, classes: tuple[str, ...] | None) -> LabelledSet:
    log.info("reading the labels of %s", config.dataset, extra=PHASE)
    labelled = read_dataset(
        config.dataset,
        config.root,
        split=split,
        protocol=config.protocol,
        path_column=config.path_column,
        label_column=config.label_column,
        label_map=config.label_map,
        contempt=config.contempt,
        classes=classes,
        columns=config.by,
    )
    for column in config.by:
        group_names(labelled, column)
    faces = labelled.faces if config.faces is None else config.faces.mode
    if faces == "whole" and config.margins != (None,):
        raise ConfigError(
            f"the images of {config.dataset} are taken whole, without a margin: leave out --margin, or let faces be "
            "found with --faces detect"
        )
    if faces in ("whole", "given") and config.align:
        raise ConfigError(
            f"no detector sees the eyes of {config.dataset}, whose faces are {faces}: leave out --align, or let faces "
            "be found with --faces detect"
        )
    if config.clips is not None:
        config.clips.check(labelled, is_predicted=config.predictions is not None)
    return labelled


def _evaluate(
    config: EvaluateConfig,
    sets: _Sets,
    *,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> Evaluation | None:
    labelled, other = sets
    predicted: dict[str, Predicted] = {}
    fitting: dict[str, Predicted] = {}
    robust: list[Robustness] = []
    for table, path in config.tables.items():
        name = _named(table, labelled, config)
        predicted[name] = match_predictions(config, path, labelled)
        if other is not None:
            fitting[name] = _match_other(config, path, other)
    if not config.tables:
        _log_cost(config, labelled)
        for variant, model in _variants(config):
            each = predict(model, config, labelled, variant, progress=progress, stop=stop)
            if each is None:
                return None
            margin = "" if variant.margin is None else f", margin {variant.margin:g}"
            name = _named(f"recipe {model.recipe}{margin}", labelled, config)
            predicted[name] = each
            if other is not None:
                fit = predict(model, config, other, variant, prefix="calibration", progress=progress, stop=stop)
                if fit is None:
                    return None
                fitting[name] = fit
            if config.corruptions:
                found = _corrupted(name, each, model, config, labelled, variant, progress=progress, stop=stop)
                if found is None:
                    return None
                robust.append(found)
    log.info("scoring %s", config.dataset, extra=PHASE)
    return _found(config, sets, predicted, fitting, robust)


def _variants(config: EvaluateConfig) -> Iterator[tuple[Variant, LoadedModel]]:
    """What is run, with its network, which each recipe loads once."""
    for recipe, variants in itertools.groupby(config.variants, key=lambda variant: variant.recipe):
        model = load_network(replace(config.model, recipe=recipe or config.model.recipe))
        for variant in variants:
            yield variant, model


def _match_other(config: EvaluateConfig, path: str, other: LabelledSet) -> Predicted:
    """The predictions for the split that a temperature is fitted on."""
    try:
        return match_predictions(config, path, other)
    except ConfigError as error:
        raise ConfigError(f"the split {other.split!r} of --calibrate-on: {error}") from error


def _named(run: str, labelled: LabelledSet, config: EvaluateConfig) -> str:
    """The name of a run, which says among how many classes the argmax is taken where that is not among all."""
    can_predict = predictable(config, labelled)
    return run if can_predict.all() else f"{run}, argmax of {int(can_predict.sum())} classes"


def _found(
    config: EvaluateConfig,
    sets: _Sets,
    predicted: Mapping[str, Predicted],
    fitting: Mapping[str, Predicted],
    robust: Sequence[Robustness],
) -> Evaluation:
    """What is found, from the predictions of each run.

    Args:
        fitting: Those of the split that a temperature is fitted on; empty where there is none.

    Raises:
        ConfigError: Two runs share no image, or a temperature cannot be fitted.
    """
    labelled = sets.labelled
    matched = {name: each.matched for name, each in predicted.items()}
    shared = [remark_on_shared(a, matched[a], b, matched[b]) for a, b in itertools.combinations(matched, 2)]
    first = [*(remark for each in predicted.values() for remark in each.remarks), *filter(None, shared)]
    published = published_beside(
        labelled.dataset,
        split=labelled.split,
        protocol=labelled.protocol,
        n=len(labelled.images),
        classes=int(predictable(config, labelled).sum()),
        relabelled=bool(config.label_map),
        own_classes=not are_emotions(labelled.classes),
    )
    return Evaluation(
        schema_version=SCHEMA_VERSION,
        tool=f"motivnet {__version__}",
        command=config.command,
        remarks=tuple(dict.fromkeys(first)),
        argmax=config.argmax,
        dataset=summary_of(labelled),
        runs=tuple(_run(name, each, sets, fitting.get(name), config) for name, each in predicted.items()),
        between=between_runs(
            labels_of(labelled),
            {name: each.predicted for name, each in matched.items()},
            num_classes=len(labelled.classes),
            groups=subjects_of(labelled),
            resamples=config.resamples,
            seed=config.seed,
        ),
        anchors=published.alike,
        anchors_left_out=published.left_out,
        robustness=tuple(robust),
    )


def _run(name: str, predicted: Predicted, sets: _Sets, fitting: Predicted | None, config: EvaluateConfig) -> Run:
    run = score_run(
        name,
        predicted,
        sets.labelled,
        path_of=lambda image: picture_of(image, Path(config.out)),
        resamples=config.resamples,
        seed=config.seed,
    )
    run = replace(run, by=_by(predicted.matched, sets.labelled, config))
    if fitting is None or sets.other is None:
        return run
    return scale_run(
        run,
        predicted,
        sets.labelled,
        fitting=fitting,
        other=sets.other,
        can_predict=predictable(config, sets.labelled),
        resamples=config.resamples,
        seed=config.seed,
    )


def _log_cost(config: EvaluateConfig, labelled: LabelledSet) -> None:
    """Say how often the network will run, where that is more often than one would think."""
    if config.corruptions:
        log.info(
            "%s: %d runs of %d %ss each: as they are, and under %s of severity %s",
            config.dataset,
            len(config.variants) * (1 + len(config.corruptions) * len(config.severities)),
            len(labelled.images),
            labelled.unit,
            ", ".join(config.corruptions),
            ", ".join(map(str, config.severities)),
        )


def _corrupted(
    name: str,
    clean: Predicted,
    model: LoadedModel,
    config: EvaluateConfig,
    labelled: LabelledSet,
    variant: Variant,
    *,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> Robustness | None:
    """Run the network under every corruption; None when it was stopped on the way."""
    labels = labels_of(labelled)
    runs, hits = [], []
    corruptions = [Corruption(each, severity) for each in config.corruptions for severity in config.severities]
    for number, corruption in enumerate(corruptions, 1):
        log.info("%s under corruption, %d of %d: %s", name, number, len(corruptions), corruption)
        answer = predict(model, config, labelled, variant, corruption=corruption, progress=progress, stop=stop)
        if answer is None:
            return None
        matched = answer.matched
        runs.append(
            CorruptedRun(
                name=str(corruption) if len(config.variants) == 1 else f"{name}, {corruption}",
                corruption=corruption.name,
                severity=corruption.severity,
                scores=scores_of(labelled, matched.predicted, matched.probabilities, config.resamples, config.seed),
                missed_by_reason=missed_by_reason(matched),
            )
        )
        hits.append(matched.predicted == labels)
    units = Units(subjects_of(labelled), len(labels), resamples=config.resamples, seed=config.seed)
    return robustness(name, clean.matched.predicted == labels, runs, np.stack(hits), units)


def _by(matched: Matched, labelled: LabelledSet, config: EvaluateConfig) -> tuple[Grouping, ...]:
    """The figures of a run by every column that is asked for."""
    return tuple(
        by_group(
            column,
            group_names(labelled, column),
            labels_of(labelled),
            matched.predicted,
            classes=labelled.classes,
            subjects=subjects_of(labelled),
            resamples=config.resamples,
            seed=config.seed,
        )
        for column in config.by
    )
