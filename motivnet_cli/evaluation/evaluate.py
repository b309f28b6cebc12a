"""A labelled dataset becomes figures that anyone can make again: read it, predict or match, score, write it down.

The path of an evaluation, in one screen. It knows no layout (`datasets`), no formula (`metrics`), no page (`report`);
the network runs through `annotate`, so that a killed evaluation goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from motivnet_cli import __version__
from motivnet_cli.config import FaceConfig, InputConfig, LoaderConfig, ModelConfig, OutputConfig, RunConfig
from motivnet_cli.durable import durably, temporary_name
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.cards import CARDS as DATASETS
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.evaluation.matching import match
from motivnet_cli.evaluation.metrics import paired, score
from motivnet_cli.evaluation.predictions import read_predictions
from motivnet_cli.records import BOX_COLUMNS, EMOTIONS, never, no_progress
from motivnet_cli.report.evaluation import write_report, write_suite
from motivnet_cli.run import annotate
from motivnet_cli.weights.store import Store, find_card

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.evaluation.datasets.read import Labelled, LabelledSet
    from motivnet_cli.records import Progress

SCHEMA_VERSION = 1
NUM_MISTAKES = 24
"""The most confident ones are shown."""
NUM_NAMED = 100
"""Misses that are named; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """Everything that one call of `evaluate` needs."""

    dataset: str
    """A name of `datasets.CARDS`."""
    root: str
    """Its folder; of csv and parquet, the table."""
    out: str
    """The folder of the report, of the predictions, and of what a killed evaluation goes on from."""
    split: str | None = None
    protocol: str | None = None
    path_column: str | None = None
    label_column: str | None = None
    label_map: dict[str, str] | None = None
    predictions: str | None = None
    """Predictions made before, in place of running a network."""
    recipes: tuple[str | None, ...] = (None,)
    """Input recipes to run, each scored by itself; None is the model's own."""
    model: ModelConfig = field(default=ModelConfig())
    faces: FaceConfig | None = None
    """None takes the dataset's way: aligned crops are whole, given boxes are used, else the largest face counts."""
    loader: LoaderConfig = field(default=LoaderConfig())
    resamples: int = 1000
    seed: int = 0
    images: bool = True
    """Whether the report may show thumbnails of the images."""
    overwrite: bool = False
    command: str = ""


@dataclass(frozen=True, slots=True)
class _Answers:
    """What was predicted for the labelled images, in their order."""

    about: dict[str, Any]
    """Tool, model, weights, recipe, faces, terms, settings: as far as they are known."""
    predicted: NDArray[np.int64]
    """[N], -1 where nothing was predicted."""
    probabilities: NDArray[np.float64] | None
    """[N, 7], NaN where nothing was predicted; None of a tool that only names labels."""
    reasons: dict[int, str]
    """Why, for each that was missed."""
    matching: dict[str, Any]


def evaluate(
    configs: Sequence[EvaluateConfig],
    *,
    suite: str | None = None,
    progress: Callable[[Progress], None] = no_progress,
    stop: Callable[[], bool] = never,
) -> list[dict[str, Any]] | None:
    """Score a model, or predictions made before, on labelled datasets, and write the reports.

    Every dataset is read before the first network runs, so that a wrong path is said at once.

    Args:
        configs: One for each dataset.
        suite: A folder for the table over all of them, with each set's report in a folder of its own within.

    Returns:
        What each `metrics.json` holds (docs/metrics.md); None when `stop` ended it: the same call goes on from there.

    Raises:
        ConfigError: A dataset's layout is not recognised, or an option does not fit it or the model.
        WeightsError: As `annotate`.
        OutputConflictError: A folder holds an evaluation with other settings.
    """
    evaluations = []
    for config, labelled in [(config, _read(config)) for config in configs]:
        evaluation = _evaluated(config, labelled, progress=progress, stop=stop)
        if evaluation is None:
            return None
        evaluations.append(evaluation)
        if suite is None:
            write_report(evaluation, Path(config.out), images=config.images)
    if suite is not None:
        write_suite(evaluations, Path(suite), images=configs[0].images)
    return evaluations


def compare_predictions(config: EvaluateConfig, a: str, b: str) -> dict[str, Any]:
    """Two sets of predictions for the same labelled images: McNemar's test, and the difference of their accuracies.

    Raises:
        ConfigError: The dataset or the predictions cannot be read.
    """
    labelled = _read(config)
    answers = [_matched(path, labelled, [image.path for image in labelled.images]) for path in (a, b)]
    result = paired(
        _labels(labelled),
        *(answer.predicted for answer in answers),
        groups=_subjects(labelled),
        resamples=config.resamples,
        seed=config.seed,
    )
    about = [
        {"path": path, **answer.about, "matching": answer.matching}
        for path, answer in zip((a, b), answers, strict=True)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": _about(labelled),
        "a": about[0],
        "b": about[1],
    } | result.to_json()


def _read(config: EvaluateConfig) -> LabelledSet:
    if config.predictions and config.recipes != (None,):
        raise ConfigError("predictions made before have their recipe already: leave out --recipe, or --predictions")
    card = find_card(config.model.name, Store(config.model.store))
    if not config.predictions and card.architecture == "sapiens":
        raise ConfigError(f"{card.name} names no emotions: evaluate takes a model that does (see `motivnet models`)")
    return read_dataset(
        config.dataset,
        config.root,
        split=config.split,
        protocol=config.protocol,
        path_column=config.path_column,
        label_column=config.label_column,
        label_map=config.label_map,
    )


def _evaluated(
    config: EvaluateConfig,
    labelled: LabelledSet,
    *,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> dict[str, Any] | None:
    answers: dict[str, _Answers] = {}
    if config.predictions:
        answers["predictions"] = _matched(config.predictions, labelled, [image.path for image in labelled.images])
    else:
        for recipe in config.recipes:
            answer = _predicted(config, labelled, recipe, progress=progress, stop=stop)
            if answer is None:
                return None
            answers[f"recipe {answer.about['recipe']}"] = answer
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": f"motivnet {__version__}",
        "command": config.command,
        "dataset": _about(labelled),
        "runs": [_scored(name, answer, labelled, config) for name, answer in answers.items()],
        "anchors": [dataclasses.asdict(anchor) for anchor in DATASETS[config.dataset].anchors],
    }


# ---- predictions ------------------------------------------------------------------------------------------


def _predicted(
    config: EvaluateConfig,
    labelled: LabelledSet,
    recipe: str | None,
    *,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> _Answers | None:
    """Run the network over the images; None when it was stopped on the way."""
    out = Path(config.out)
    faces = config.faces or FaceConfig(mode="whole" if labelled.faces == "whole" else "auto", max_faces=1)
    manifest = _manifest_of(labelled, out, with_boxes=labelled.faces == "given" and config.faces is None)
    output = out / f"predictions-{recipe}.parquet" if recipe else out / "predictions.parquet"
    run = RunConfig(
        inputs=InputConfig(manifests=(str(manifest.absolute()),)),
        output=OutputConfig(path=str(output), embeddings="none", overwrite=config.overwrite),
        model=replace(config.model, recipe=recipe or config.model.recipe),
        faces=faces,
        loader=config.loader,
        command=config.command,
    )
    summary = annotate(run, progress=progress, stop=stop)
    if summary.stopped:
        return None
    return _matched(str(output), labelled, [_path_of(image, out) for image in labelled.images])


def _matched(path: str, labelled: LabelledSet, paths: Sequence[str | None]) -> _Answers:
    """The answers for the labelled images among predictions, ours or another tool's.

    Args:
        paths: Where each image lay when the predictions were made; None where only its name is known.
    """
    predictions = read_predictions(path)
    images = labelled.images
    boxes = [image.box for image in images]
    matched = match(predictions, [image.name for image in images], paths, boxes=boxes)
    return _Answers(
        predictions.about, matched.predicted, matched.probabilities, matched.reasons, matching=matched.to_json()
    )


def _manifest_of(labelled: LabelledSet, out: Path, *, with_boxes: bool) -> Path:
    """The labelled images as a manifest of the engine; its name changes when they do, and with it the fingerprint."""
    work = out / "inputs"
    work.mkdir(parents=True, exist_ok=True)
    lines = []
    for image in labelled.images:
        row: dict[str, Any] = {"path": _path_of(image, out)}
        if image.pixels is not None and not Path(row["path"]).exists():
            final = Path(row["path"])
            Image.fromarray(image.pixels).save(temporary_name(final), format="png")
            temporary_name(final).replace(final)  # not synced: tens of thousands, and they can be made again
        if with_boxes and image.box:
            row |= dict(zip(BOX_COLUMNS, image.box, strict=True))
        lines.append(json.dumps(row))
    text = "\n".join(lines) + "\n"
    manifest = work / f"{labelled.dataset}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
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


# ---- figures ----------------------------------------------------------------------------------------------


def _about(labelled: LabelledSet) -> dict[str, Any]:
    card = DATASETS[labelled.dataset]
    counts = Counter(image.label for image in labelled.images)
    names = "\n".join(f"{image.name}\t{EMOTIONS[image.label]}" for image in labelled.images)
    return {
        "name": labelled.dataset,
        "title": card.title,
        "layout": labelled.layout,
        "split": labelled.split,
        "protocol": labelled.protocol,
        "label_map": labelled.label_map,
        "terms": card.terms,
        "where": card.where,
        "n": len(labelled.images),
        "counts": {name: counts[label] for label, name in enumerate(EMOTIONS)},
        "dropped": labelled.dropped,
        "remarks": list(labelled.remarks),
        "images_sha256": hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest(),
    }


def _labels(labelled: LabelledSet) -> NDArray[np.int64]:
    return np.array([image.label for image in labelled.images], np.int64)


def _subjects(labelled: LabelledSet) -> NDArray[np.str_] | None:
    """Whose face each is, where the set says so of all."""
    subjects = [image.subject for image in labelled.images if image.subject]
    return np.array(subjects) if len(subjects) == len(labelled.images) else None


def _scored(name: str, answers: _Answers, labelled: LabelledSet, config: EvaluateConfig) -> dict[str, Any]:
    labels = _labels(labelled)
    scores = score(
        labels,
        answers.predicted,
        answers.probabilities,
        groups=_subjects(labelled),
        resamples=config.resamples,
        seed=config.seed,
    )
    missed = np.flatnonzero(answers.predicted < 0).tolist()
    reasons = [answers.reasons.get(index, "no prediction") for index in missed]
    return {
        "name": name,
        "predictions": answers.about,
        "scores": scores.to_json(),
        "missed": [
            {"image": labelled.images[index].name, "reason": reason}
            for index, reason in zip(missed[:NUM_NAMED], reasons, strict=False)
        ],
        "missed_by_reason": dict(Counter(reasons).most_common()),
        "matching": answers.matching,
        "mistakes": _mistakes(answers, labels, labelled.images, Path(config.out)),
    }


def _mistakes(
    answers: _Answers, labels: NDArray[np.int64], images: Sequence[Labelled], out: Path
) -> list[dict[str, Any]]:
    """The wrong answers that were given with the highest probability."""
    if answers.probabilities is None:
        return []
    confidence = np.nan_to_num(answers.probabilities).max(axis=1)
    wrong = np.flatnonzero((answers.predicted >= 0) & (answers.predicted != labels))
    return [
        {
            "image": images[index].name,
            "path": _path_of(images[index], out),
            "box": images[index].box,
            "label": EMOTIONS[labels[index]],
            "predicted": EMOTIONS[answers.predicted[index]],
            "confidence": round(float(confidence[index]), 4),
        }
        for index in wrong[np.argsort(-confidence[wrong], kind="stable")][:NUM_MISTAKES].tolist()
    ]
