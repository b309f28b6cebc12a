"""The path of an evaluation: read a labelled set, predict or take predictions made before, match them, score them.

Layouts of sets are in `datasets/`, formulas in `metrics`, pages in `report/`. The network runs through `annotate`, so
that an evaluation that was stopped resumes.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from motivnet_cli import __version__
from motivnet_cli.config import (
    SEVERITIES,
    Corruption,
    FaceConfig,
    InputConfig,
    LoaderConfig,
    ModelConfig,
    OutputConfig,
    RunConfig,
    VideoConfig,
)
from motivnet_cli.engine.work import load_network
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.clips import ClipConfig, pool
from motivnet_cli.evaluation.datasets.published import published_beside
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.evaluation.datasets.votes import refuse_numbers_of_rows
from motivnet_cli.evaluation.files import path_of, picture_of, remark_on_other_files, write_manifest
from motivnet_cli.evaluation.groups import by_group, group_names
from motivnet_cli.evaluation.intervals import Units
from motivnet_cli.evaluation.matching import match, refuse_other_pictures, remark_on_shared, remarks_on, restricted
from motivnet_cli.evaluation.metrics import paired
from motivnet_cli.evaluation.predictions import names_apart, read_predictions
from motivnet_cli.evaluation.results import (
    ComparedPredictions,
    CorruptedRun,
    Evaluation,
    PredictionComparison,
    Run,
)
from motivnet_cli.evaluation.robustness import robustness
from motivnet_cli.evaluation.scoring import Predicted, labels_of, scale_run, score_run, subjects_of, summary_of
from motivnet_cli.evaluation.significance import between_runs
from motivnet_cli.output.written import WrittenPaths
from motivnet_cli.records import never, no_progress
from motivnet_cli.remote.urls import local_path
from motivnet_cli.run import annotate_with
from motivnet_cli.weights.load import check_weights, model_card

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.config import CorruptionName, FaceMode
    from motivnet_cli.evaluation.datasets.labelled import LabelledSet
    from motivnet_cli.evaluation.matching import Matched
    from motivnet_cli.evaluation.results import Argmax, Grouping, Robustness
    from motivnet_cli.records import Progress
    from motivnet_cli.weights.load import LoadedModel

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
"""Of `metrics.json`."""
CORRUPTED = "corrupted"
"""The folder of the predictions for corrupted images, below that of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """Everything that one call of `evaluate` needs."""

    dataset: str
    """A key of `datasets.cards.CARDS`."""
    root: str
    """The folder of the set; for csv and parquet, the table."""
    out: str
    """The folder of the predictions; an evaluation that was stopped resumes from it."""
    split: str | None = None
    protocol: str | None = None
    path_column: str | None = None
    label_column: str | None = None
    label_map: dict[str, str] | None = None
    contempt: bool = False
    """Whether images of contempt are kept, as an eighth class."""
    label_map_file: str | None = None
    """Where the map was read from, if from a file: it is never replaced."""
    by: tuple[str, ...] = ()
    """Columns, for each of which every group of images is scored by itself."""
    predictions: str | tuple[str, ...] | None = None
    """Files or folders of predictions made before, to score in place of running a network; each is a run."""
    recipes: tuple[str | None, ...] = (None,)
    """Input recipes to run the network with, each scored by itself; None is the model's own."""
    model: ModelConfig = field(default=ModelConfig())
    faces: FaceConfig | None = None
    """None does what suits the set: aligned crops are taken whole, given boxes are used, else the largest face. Frames
    of clips without a face are never taken whole."""
    clips: ClipConfig | None = None
    """Of a set of clips: their frames, and how these are pooled. None takes the defaults."""
    loader: LoaderConfig = field(default=LoaderConfig())
    corruptions: tuple[CorruptionName, ...] = ()
    """Under each of which the network runs as well."""
    severities: tuple[int, ...] = SEVERITIES
    """Of the corruptions, each with all of them."""
    argmax: Argmax = "all"
    """`labelled` predicts the most probable of the classes that labelled images have."""
    calibrate_on: str | None = None
    """A split to fit a temperature on, which is judged on the evaluated one."""
    resamples: int = 1000
    seed: int = 0
    overwrite: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        for name in ("root", "out"):
            object.__setattr__(self, name, local_path(getattr(self, name)))
        given = (self.predictions,) if isinstance(self.predictions, str) else self.predictions or ()
        object.__setattr__(self, "predictions", tuple(map(local_path, given)) or None)

    @property
    def tables(self) -> dict[str, str]:
        """The predictions made before, by the name of their run: `predictions`, or of several what tells them apart.

        Raises:
            ConfigError: One is named twice.
        """
        paths = tuple(self.predictions or ())
        if len(paths) == 1:
            return {"predictions": paths[0]}
        return dict(zip(names_apart(paths), paths, strict=True))


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
    labelled = _read(config, config.split)
    answers = [_match(config, path, labelled, [image.path for image in labelled.images]) for path in (a, b)]
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
        if config.recipes != (None,):
            raise ConfigError("predictions made before have their recipe already: leave out --recipe, or --predictions")
        if config.corruptions:
            raise ConfigError("predictions made before say nothing of corrupted pictures: leave out --corrupt")
        return
    model = config.model
    card = model_card(model.name, weights=model.weights, store=model.store)
    if card.architecture == "sapiens":
        raise ConfigError(f"{card.name} names no emotions: evaluate takes a model that does (see `motivnet models`)")
    check_weights(model.name, weights=model.weights, store=model.store)


class _Sets(NamedTuple):
    labelled: LabelledSet
    other: LabelledSet | None
    """The split to fit a temperature on."""


def _read_sets(config: EvaluateConfig) -> _Sets:
    """The split that is evaluated, and perhaps the one to fit a temperature on.

    Raises:
        ConfigError: As `read_dataset`, or the two share an image.
    """
    labelled = _read(config, config.split)
    if config.calibrate_on is None:
        return _Sets(labelled, None)
    other = _read(config, config.calibrate_on)
    if shared := {image.name for image in labelled.images} & {image.name for image in other.images}:
        raise ConfigError(
            f"{config.dataset}: the splits {labelled.split!r} and {other.split!r} share {len(shared):,} images, such "
            f"as {min(shared)!r}: a temperature is fitted on one split and judged on another, so name one that shares "
            "none as --calibrate-on"
        )
    if not np.array_equal(_predictable(config, labelled), _predictable(config, other)):
        raise ConfigError(
            f"{config.dataset}: the splits {labelled.split!r} and {other.split!r} have not the same classes, so the "
            "argmax of --argmax labelled is not the same: leave out --argmax or --calibrate-on"
        )
    return _Sets(labelled, other)


def _read(config: EvaluateConfig, split: str | None) -> LabelledSet:
    labelled = read_dataset(
        config.dataset,
        config.root,
        split=split,
        protocol=config.protocol,
        path_column=config.path_column,
        label_column=config.label_column,
        label_map=config.label_map,
        contempt=config.contempt,
        columns=config.by,
    )
    for column in config.by:
        group_names(labelled, column)
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
        predicted[name] = _match(config, path, labelled, [image.path for image in labelled.images])
        if other is not None:
            fitting[name] = _match(config, path, other, [image.path for image in other.images])
    if not config.tables:
        _log_cost(config, labelled)
        for recipe in config.recipes:
            model = load_network(replace(config.model, recipe=recipe or config.model.recipe))
            each = _predict(model, config, labelled, recipe, progress=progress, stop=stop)
            if each is None:
                return None
            name = _named(f"recipe {each.predictions.origin['recipe']}", labelled, config)
            predicted[name] = each
            if other is not None:
                fit = _predict(model, config, other, recipe, prefix="calibration", progress=progress, stop=stop)
                if fit is None:
                    return None
                fitting[name] = fit
            if config.corruptions:
                found = _corrupted(name, each, model, config, labelled, recipe, progress=progress, stop=stop)
                if found is None:
                    return None
                robust.append(found)
    return _found(config, sets, predicted, fitting, robust)


def _named(run: str, labelled: LabelledSet, config: EvaluateConfig) -> str:
    """The name of a run, which says among how many classes the argmax is taken where that is not among all."""
    can_predict = _predictable(config, labelled)
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
        classes=int(_predictable(config, labelled).sum()),
        relabelled=bool(config.label_map),
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
    run = _scored(name, predicted, sets.labelled, config)
    run = replace(run, by=_by(predicted.matched, sets.labelled, config))
    if fitting is None or sets.other is None:
        return run
    return scale_run(
        run,
        predicted,
        sets.labelled,
        fitting=fitting,
        other=sets.other,
        resamples=config.resamples,
        seed=config.seed,
    )


def _log_cost(config: EvaluateConfig, labelled: LabelledSet) -> None:
    """Say how often the network will run, where that is more often than one would think."""
    if config.corruptions:
        log.info(
            "%s: %d runs of %d %ss each: as they are, and under %d corruptions in %d severities",
            config.dataset,
            len(config.recipes) * (1 + len(config.corruptions) * len(config.severities)),
            len(labelled.images),
            labelled.unit,
            len(config.corruptions),
            len(config.severities),
        )


def _corrupted(
    name: str,
    clean: Predicted,
    model: LoadedModel,
    config: EvaluateConfig,
    labelled: LabelledSet,
    recipe: str | None,
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
        answer = _predict(model, config, labelled, recipe, corruption=corruption, progress=progress, stop=stop)
        if answer is None:
            return None
        run = _scored(str(corruption), answer, labelled, config)
        runs.append(
            CorruptedRun(
                name=run.name if len(config.recipes) == 1 else f"{name}, {corruption}",
                corruption=corruption.name,
                severity=corruption.severity,
                scores=run.scores,
                missed_by_reason=run.missed_by_reason,
            )
        )
        hits.append(answer.matched.predicted == labels)
    units = Units(subjects_of(labelled), len(labels), resamples=config.resamples, seed=config.seed)
    return robustness(name, clean.matched.predicted == labels, runs, np.stack(hits), units)


def _scored(name: str, answers: Predicted, labelled: LabelledSet, config: EvaluateConfig) -> Run:
    return score_run(
        name,
        answers,
        labelled,
        path_of=lambda image: picture_of(image, Path(config.out)),
        resamples=config.resamples,
        seed=config.seed,
    )


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


# ---- predictions ------------------------------------------------------------------------------------------


def _predict(
    model: LoadedModel,
    config: EvaluateConfig,
    labelled: LabelledSet,
    recipe: str | None,
    *,
    prefix: str = "predictions",
    corruption: Corruption | None = None,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> Predicted | None:
    """Run the network over the images, or over what a corruption makes of them; None when it was stopped on the way."""
    out = Path(config.out)
    clips = config.clips or ClipConfig()
    found: FaceMode = "detect" if labelled.unit == "clip" else "auto"
    faces = config.faces or FaceConfig(mode="whole" if labelled.faces == "whole" else found, max_faces=1)
    with_boxes = labelled.faces == "given" and config.faces is None
    manifest = write_manifest(labelled, out, with_boxes=with_boxes, every=clips.every or 1)
    output = out / f"{prefix}-{recipe}.parquet" if recipe else out / f"{prefix}.parquet"
    if corruption is not None:
        output = out / CORRUPTED / f"{output.stem}-{corruption.name}-{corruption.severity}.parquet"
    run = RunConfig(
        inputs=InputConfig(manifests=(str(manifest.absolute()),)),
        output=OutputConfig(path=str(output), embeddings="none", overwrite=config.overwrite),
        model=replace(config.model, recipe=recipe or config.model.recipe),
        faces=faces,
        video=clips.video if labelled.unit == "clip" else VideoConfig(),
        loader=replace(config.loader, corruption=corruption),
        command=config.command,
    )
    summary = annotate_with(model, run, progress=progress, stop=stop)
    if summary.stopped:
        return None
    paths = [path_of(image, out) for image in labelled.images]
    answers = _match(config, str(output), labelled, paths, is_own=True)
    if not answers.matched.is_found.any():
        raise RuntimeError(f"the run into {str(output)!r} has none of the images that it was given")
    return answers


def _match(
    config: EvaluateConfig,
    path: str,
    labelled: LabelledSet,
    image_paths: Sequence[str | None],
    *,
    is_own: bool = False,
) -> Predicted:
    """The predictions at a path, and which of them are of the labelled images.

    Args:
        image_paths: Where each image lay when the predictions were made; None where only its name is known.
        is_own: Whether they were made here, of these images.

    Raises:
        ConfigError: No labelled image is among predictions made before, or they have no probabilities and the argmax
            is to be taken among labelled classes.
    """
    predictions = read_predictions(path, classes=labelled.classes, with_videos=labelled.unit == "clip")
    if labelled.unit == "clip":
        clips = config.clips or ClipConfig()
        predictions = pool(predictions, clips.pooling, sampling=clips.sampling(labelled) if is_own else None)
    names, boxes = [image.name for image in labelled.images], [image.box for image in labelled.images]
    aliases = [image.alias for image in labelled.images]
    refuse_numbers_of_rows(labelled.images, predictions.images)
    matched = match(predictions, names, image_paths, boxes=boxes, aliases=aliases)
    remarks = [*remarks_on(predictions, matched, labels_of(labelled))]
    if not is_own:
        refuse_other_pictures(predictions, matched, names)
        remarks += filter(None, [remark_on_other_files(predictions, matched, names, image_paths)])
    can_predict = _predictable(config, labelled)
    if not can_predict.all():
        matched = restricted(matched, can_predict)
        without = ", ".join(name for name, can in zip(labelled.classes, can_predict, strict=True) if not can)
        remarks.append(
            f"predicted is the most probable of the {int(can_predict.sum())} classes that labelled images have, "
            f"without {without}: the figures compare only with such"
        )
    return Predicted(predictions, matched, tuple(remarks))


def _predictable(config: EvaluateConfig, labelled: LabelledSet) -> NDArray[np.bool_]:
    """Whether each class may be predicted, [C]."""
    if config.argmax == "all":
        return np.ones(len(labelled.classes), np.bool_)
    has_images: NDArray[np.bool_] = np.bincount(labels_of(labelled), minlength=len(labelled.classes)) > 0
    return has_images
