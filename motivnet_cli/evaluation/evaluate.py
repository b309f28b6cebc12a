"""The path of an evaluation: read a labelled set, predict or take predictions made before, match them, score them.

Layouts of sets are in `datasets/`, formulas in `metrics`, pages in `report/`. The network runs through `annotate`, so
that an evaluation that was stopped resumes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

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
from motivnet_cli.durable import durably, temporary_name
from motivnet_cli.engine.work import load_network
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.clips import ClipConfig, pool
from motivnet_cli.evaluation.datasets.cards import CARDS as DATASETS
from motivnet_cli.evaluation.datasets.published import published_beside
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.evaluation.groups import by_group, group_names
from motivnet_cli.evaluation.intervals import Units
from motivnet_cli.evaluation.matching import match, refuse_other_pictures, remark_on_few, remark_on_shared
from motivnet_cli.evaluation.metrics import paired, score
from motivnet_cli.evaluation.predictions import names_apart, read_predictions
from motivnet_cli.evaluation.results import (
    MAX_NAMES,
    ComparedPredictions,
    CorruptedRun,
    DatasetSummary,
    Evaluation,
    Missed,
    Mistake,
    PredictionComparison,
    Run,
)
from motivnet_cli.evaluation.robustness import robustness
from motivnet_cli.evaluation.significance import between_runs
from motivnet_cli.output.written import WrittenPaths
from motivnet_cli.records import BOX_COLUMNS, never, no_progress
from motivnet_cli.remote.urls import local_path
from motivnet_cli.run import annotate_with
from motivnet_cli.weights.load import check_weights, model_card

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.config import CorruptionName, FaceMode
    from motivnet_cli.evaluation.datasets.labelled import Labelled, LabelledSet
    from motivnet_cli.evaluation.matching import Matched
    from motivnet_cli.evaluation.predictions import Predictions
    from motivnet_cli.evaluation.results import Grouping, Robustness
    from motivnet_cli.records import Progress
    from motivnet_cli.weights.load import LoadedModel

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
"""Of `metrics.json`."""
CORRUPTED = "corrupted"
"""The folder of the predictions for corrupted images, below that of the others."""
MAX_MISTAKES = 24
"""How many mistakes a run names: the most confident ones."""


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


class _Answers(NamedTuple):
    predictions: Predictions
    matched: Matched
    """To the labelled images."""
    remarks: tuple[str, ...]
    """What a reader must know first."""


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
    for config, labelled in [(config, _read(config)) for config in configs]:
        evaluation = _evaluate(config, labelled, progress=progress, stop=stop)
        if evaluation is None:
            return None
        evaluations.append(evaluation)
    return evaluations


def compare_predictions(config: EvaluateConfig, a: str, b: str) -> PredictionComparison:
    """Two sets of predictions for the same labelled images: McNemar's test, and the difference of their accuracies.

    Raises:
        ConfigError: The dataset or the predictions cannot be read, or no labelled image is among both predictions.
    """
    labelled = _read(config)
    answers = [_match(config, path, labelled, [image.path for image in labelled.images]) for path in (a, b)]
    shared = remark_on_shared(a, answers[0].matched, b, answers[1].matched)
    scores = paired(
        _labels(labelled),
        *(answer.matched.predicted for answer in answers),
        num_classes=len(labelled.classes),
        groups=_subjects(labelled),
        resamples=config.resamples,
        seed=config.seed,
    )
    side_a, side_b = (
        ComparedPredictions(path=path, origin=answer.predictions.origin, matching=answer.matched.summary)
        for path, answer in zip((a, b), answers, strict=True)
    )
    return PredictionComparison(
        schema_version=SCHEMA_VERSION,
        remarks=(*answers[0].remarks, *answers[1].remarks, *([shared] if shared else [])),
        dataset=_summary_of(labelled),
        a=side_a,
        b=side_b,
        scores=scores,
    )


def _check_destination(config: EvaluateConfig) -> None:
    """Refuse a folder in which what is read would be replaced."""
    out = Path(config.out)
    written = [out / name for name in ("metrics.json", "report.md", "report.html", "figures")]
    if not config.predictions:
        written += [*out.glob("predictions*.parquet"), *(out / CORRUPTED).glob("*.parquet")]
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


def _read(config: EvaluateConfig) -> LabelledSet:
    labelled = read_dataset(
        config.dataset,
        config.root,
        split=config.split,
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
    labelled: LabelledSet,
    *,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> Evaluation | None:
    answers: dict[str, _Answers] = {}
    robust: list[Robustness] = []
    for name, path in config.tables.items():
        answers[name] = _match(config, path, labelled, [image.path for image in labelled.images])
    if not config.predictions:
        _log_cost(config, labelled)
        for recipe in config.recipes:
            model = load_network(replace(config.model, recipe=recipe or config.model.recipe))
            answer = _predict(model, config, labelled, recipe, progress=progress, stop=stop)
            if answer is None:
                return None
            name = f"recipe {answer.predictions.origin['recipe']}"
            answers[name] = answer
            if config.corruptions:
                found = _corrupted(name, answer, model, config, labelled, recipe, progress=progress, stop=stop)
                if found is None:
                    return None
                robust.append(found)
    return _scored(config, labelled, answers, robust)


def _scored(
    config: EvaluateConfig, labelled: LabelledSet, answers: Mapping[str, _Answers], robust: Sequence[Robustness]
) -> Evaluation:
    """What is found, from the predictions of each run.

    Raises:
        ConfigError: Two runs share no image.
    """
    matched = {name: answer.matched for name, answer in answers.items()}
    shared = [remark_on_shared(a, matched[a], b, matched[b]) for a, b in itertools.combinations(matched, 2)]
    first = [*(remark for answer in answers.values() for remark in answer.remarks), *filter(None, shared)]
    runs = tuple(
        replace(_score(name, answer, labelled, config), by=_by(answer.matched, labelled, config))
        for name, answer in answers.items()
    )
    published = published_beside(
        labelled.dataset,
        split=labelled.split,
        protocol=labelled.protocol,
        n=len(labelled.images),
        classes=len(runs[0].scores.classes),
        relabelled=bool(config.label_map),
    )
    return Evaluation(
        schema_version=SCHEMA_VERSION,
        tool=f"motivnet {__version__}",
        command=config.command,
        remarks=tuple(dict.fromkeys(first)),
        dataset=_summary_of(labelled),
        runs=runs,
        between=between_runs(
            _labels(labelled),
            {name: each.predicted for name, each in matched.items()},
            num_classes=len(labelled.classes),
            groups=_subjects(labelled),
            resamples=config.resamples,
            seed=config.seed,
        ),
        anchors=published.alike,
        anchors_left_out=published.left_out,
        robustness=tuple(robust),
    )


def _log_cost(config: EvaluateConfig, labelled: LabelledSet) -> None:
    """Say how often the network will run, where that is more often than one would think."""
    runs = len(config.recipes) * (1 + len(config.corruptions) * len(config.severities))
    if config.corruptions:
        n = len(labelled.images)
        log.info(
            "%s: %d runs of %d images, as they are and corrupted: %d predictions", config.dataset, runs, n, runs * n
        )


def _corrupted(
    name: str,
    clean: _Answers,
    model: LoadedModel,
    config: EvaluateConfig,
    labelled: LabelledSet,
    recipe: str | None,
    *,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> Robustness | None:
    """Run the network under every corruption; None when it was stopped on the way."""
    labels = _labels(labelled)
    runs, hits = [], []
    corruptions = [Corruption(each, severity) for each in config.corruptions for severity in config.severities]
    for number, corruption in enumerate(corruptions, 1):
        log.info("%s under corruption, %d of %d: %s", name, number, len(corruptions), corruption)
        answer = _predict(model, config, labelled, recipe, corruption=corruption, progress=progress, stop=stop)
        if answer is None:
            return None
        run = _score(str(corruption), answer, labelled, config)
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
    units = Units(_subjects(labelled), len(labels), resamples=config.resamples, seed=config.seed)
    return robustness(name, clean.matched.predicted == labels, runs, np.stack(hits), units)


# ---- predictions ------------------------------------------------------------------------------------------


def _predict(
    model: LoadedModel,
    config: EvaluateConfig,
    labelled: LabelledSet,
    recipe: str | None,
    *,
    corruption: Corruption | None = None,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> _Answers | None:
    """Run the network over the images, or over what a corruption makes of them; None when it was stopped on the way."""
    out = Path(config.out)
    clips = config.clips or ClipConfig()
    found: FaceMode = "detect" if labelled.unit == "clip" else "auto"
    faces = config.faces or FaceConfig(mode="whole" if labelled.faces == "whole" else found, max_faces=1)
    with_boxes = labelled.faces == "given" and config.faces is None
    manifest = _write_manifest(labelled, out, with_boxes=with_boxes, every=clips.every or 1)
    output = out / f"predictions-{recipe}.parquet" if recipe else out / "predictions.parquet"
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
    paths = [_path_of(image, out) for image in labelled.images]
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
) -> _Answers:
    """The predictions at a path, and which of them are of the labelled images.

    Args:
        image_paths: Where each image lay when the predictions were made; None where only its name is known.
        is_own: Whether they were made here, of these images.

    Raises:
        ConfigError: No labelled image is among predictions made before.
    """
    predictions = read_predictions(path, classes=labelled.classes, with_videos=labelled.unit == "clip")
    if labelled.unit == "clip":
        clips = config.clips or ClipConfig()
        predictions = pool(predictions, clips.pooling, sampling=clips.sampling(labelled) if is_own else None)
    names, boxes = [image.name for image in labelled.images], [image.box for image in labelled.images]
    aliases = [image.alias for image in labelled.images]
    matched = match(predictions, names, image_paths, boxes=boxes, aliases=aliases)
    if not is_own:
        refuse_other_pictures(predictions, matched, names)
    few = remark_on_few(predictions, matched)
    return _Answers(predictions, matched, (*([few] if few else []), *matched.doubts, *predictions.doubts))


def _write_manifest(labelled: LabelledSet, out: Path, *, with_boxes: bool, every: int) -> Path:
    """The labelled images as a manifest; its name changes when they do, and with it the run's fingerprint.

    Args:
        every: Which frames are taken of clips that are folders of frames: every N-th, from the first.
    """
    folder = out / "inputs"
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for image in labelled.images:
        path = _path_of(image, out)
        if image.pixels is not None and not Path(path).exists():
            temporary = temporary_name(Path(path))
            Image.fromarray(image.pixels).save(temporary, format="png")
            temporary.replace(path)  # not synced: tens of thousands, and they can be made again
        row: dict[str, str | float] = {"path": path}
        if with_boxes and image.box:
            row |= dict(zip(BOX_COLUMNS, image.box, strict=True))
        lines += [json.dumps({"path": frame}) for frame in image.frames[::every]] or [json.dumps(row)]
    text = "\n".join(lines) + "\n"
    manifest = folder / f"{labelled.dataset}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
    if not manifest.exists():
        with durably(manifest) as temporary:
            temporary.write_text(text)
    return manifest


def _path_of(image: Labelled, out: Path) -> str:
    """Where an image lies; pixels of a table get a file named after them, so that another split has other files."""
    if image.pixels is None:
        assert image.path, "an image without pixels has a file"
        return image.path
    content = hashlib.sha256(image.pixels.tobytes()).hexdigest()[:16]
    return str((out / "inputs" / f"{PurePosixPath(image.name).stem}-{content}.png").absolute())


def _picture_of(image: Labelled, out: Path) -> str:
    """The file that shows an image: of a folder of frames the middle one, of a video itself."""
    return image.frames[len(image.frames) // 2] if image.frames else _path_of(image, out)


# ---- scores -----------------------------------------------------------------------------------------------


def _summary_of(labelled: LabelledSet) -> DatasetSummary:
    card = DATASETS[labelled.dataset]
    counts = Counter(image.label for image in labelled.images)
    names = "\n".join(f"{image.name}\t{labelled.classes[image.label]}" for image in labelled.images)
    return DatasetSummary(
        name=labelled.dataset,
        title=card.title,
        layout=labelled.layout,
        split=labelled.split,
        protocol=labelled.protocol,
        classes=labelled.classes,
        label_map=labelled.label_map,
        terms=card.terms,
        where=card.where,
        unit=labelled.unit,
        n=len(labelled.images),
        counts={name: counts[label] for label, name in enumerate(labelled.classes)},
        dropped=labelled.dropped,
        remarks=labelled.remarks,
        images_sha256=hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest(),
    )


def _labels(labelled: LabelledSet) -> NDArray[np.int64]:
    return np.array([image.label for image in labelled.images], np.int64)


def _subjects(labelled: LabelledSet) -> NDArray[np.str_] | None:
    """Who is in each image, where the set says so of all."""
    subjects = [image.subject for image in labelled.images if image.subject]
    return np.array(subjects) if len(subjects) == len(labelled.images) else None


def _score(name: str, answers: _Answers, labelled: LabelledSet, config: EvaluateConfig) -> Run:
    matched = answers.matched
    labels = _labels(labelled)
    missed = [
        Missed(labelled.images[index].name, matched.reasons.get(index, "no prediction"))
        for index in np.flatnonzero(matched.predicted < 0).tolist()
    ]
    return Run(
        name=name,
        predictions=answers.predictions.origin,
        scores=score(
            labels,
            matched.predicted,
            matched.probabilities,
            classes=labelled.classes,
            groups=_subjects(labelled),
            resamples=config.resamples,
            seed=config.seed,
        ),
        missed=tuple(missed[:MAX_NAMES]),
        missed_by_reason=dict(Counter(image.reason for image in missed).most_common()),
        matching=matched.summary,
        mistakes=tuple(_mistakes(matched, labels, labelled, Path(config.out))),
    )


def _by(matched: Matched, labelled: LabelledSet, config: EvaluateConfig) -> tuple[Grouping, ...]:
    """The figures of a run by every column that is asked for."""
    return tuple(
        by_group(
            column,
            group_names(labelled, column),
            _labels(labelled),
            matched.predicted,
            classes=labelled.classes,
            subjects=_subjects(labelled),
            resamples=config.resamples,
            seed=config.seed,
        )
        for column in config.by
    )


def _mistakes(matched: Matched, labels: NDArray[np.int64], labelled: LabelledSet, out: Path) -> list[Mistake]:
    """The wrong predictions with the highest probability; none where the tool gives labels only."""
    if matched.probabilities is None:
        return []
    images, classes = labelled.images, labelled.classes
    confidence = np.nan_to_num(matched.probabilities).max(axis=1)  # [N]
    wrong = np.flatnonzero((matched.predicted >= 0) & (matched.predicted != labels))
    return [
        Mistake(
            image=images[index].name,
            path=_picture_of(images[index], out),
            box=images[index].box,
            label=classes[labels[index]],
            predicted=classes[matched.predicted[index]],
            confidence=round(float(confidence[index]), 4),
        )
        for index in wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_MISTAKES].tolist()
    ]
