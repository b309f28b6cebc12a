"""A labelled set -> the predictions of its images: made here by a network, or read and matched.

The network runs through `annotate`, so that an evaluation that was stopped resumes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.config import (
    Corruption,
    InputConfig,
    OutputConfig,
    RunConfig,
    VideoConfig,
)
from motivnet_cli.evaluation.clips import ClipConfig, pool
from motivnet_cli.evaluation.datasets.votes import refuse_numbers_of_rows
from motivnet_cli.evaluation.files import face_settings, path_of, remark_on_other_files, write_manifest
from motivnet_cli.evaluation.matching import match, refuse_other_pictures, remarks_on, restricted
from motivnet_cli.evaluation.predictions import read_predictions
from motivnet_cli.evaluation.scoring import Predicted, labels_of
from motivnet_cli.run import annotate_with

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from motivnet_cli.evaluation.config import EvaluateConfig, Variant
    from motivnet_cli.evaluation.datasets.labelled import LabelledSet
    from motivnet_cli.records import Progress
    from motivnet_cli.weights.load import LoadedModel

CORRUPTED = "corrupted"
"""The folder of the predictions for corrupted images, below that of the others."""


def predict(
    model: LoadedModel,
    config: EvaluateConfig,
    labelled: LabelledSet,
    variant: Variant,
    *,
    prefix: str = "predictions",
    corruption: Corruption | None = None,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> Predicted | None:
    """Run the network over the images, or over what a corruption makes of them; None when it was stopped on the way."""
    out = Path(config.out)
    clips = config.clips or ClipConfig()
    faces, with_boxes = face_settings(labelled, config.faces)
    if variant.margin is not None:
        faces = replace(faces, margin=variant.margin)
    if config.align is not None:
        faces = replace(faces, align=config.align)
    manifest = write_manifest(labelled, out, with_boxes=with_boxes, every=clips.every or 1)
    margin = "" if variant.margin is None else f"margin-{variant.margin:g}"
    output = out / f"{'-'.join(filter(None, (prefix, variant.recipe, margin)))}.parquet"
    if corruption is not None:
        output = out / CORRUPTED / f"{output.stem}-{corruption.name}-{corruption.severity}.parquet"
    run = RunConfig(
        inputs=InputConfig(manifests=(str(manifest.absolute()),)),
        output=OutputConfig(path=str(output), embeddings="none", overwrite=config.overwrite),
        model=replace(config.model, recipe=variant.recipe or config.model.recipe),
        faces=faces,
        video=clips.video if labelled.unit == "clip" else VideoConfig(),
        loader=replace(config.loader, corruption=corruption),
        command=config.command,
    )
    summary = annotate_with(model, run, progress=progress, stop=stop)
    if summary.stopped:
        return None
    answers = match_predictions(config, str(output), labelled, is_own=True)
    if not answers.matched.is_found.any():
        raise RuntimeError(f"the run into {str(output)!r} has none of the images that it was given")
    num_whole = summary.face_sources.get("whole", 0)
    if not num_whole or (variant.margin is None and not config.align):
        return answers
    remark = (
        f"{num_whole:,} of {summary.faces:,} faces are whole pictures, in which none was found: neither a margin nor "
        "--align changes them"
    )
    return answers._replace(remarks=(*answers.remarks, remark))


def match_predictions(
    config: EvaluateConfig,
    path: str,
    labelled: LabelledSet,
    *,
    is_own: bool = False,
) -> Predicted:
    """The predictions at a path, and which of them are of the labelled images.

    Args:
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
    paths = [path_of(image, Path(config.out)) if is_own else image.path for image in labelled.images]
    aliases = [image.alias for image in labelled.images]
    refuse_numbers_of_rows(labelled.images, predictions.images)
    matched = match(predictions, names, paths, boxes=boxes, aliases=aliases, unit=labelled.unit)
    remarks = [*remarks_on(predictions, matched, labels_of(labelled))]
    if not is_own:
        refuse_other_pictures(predictions, matched, names)
        remarks += filter(None, [remark_on_other_files(predictions, matched, names, paths)])
    can_predict = predictable(config, labelled)
    if not can_predict.all():
        matched = restricted(matched, can_predict)
        without = ", ".join(name for name, can in zip(labelled.classes, can_predict, strict=True) if not can)
        remarks.append(
            f"predicted is the most probable of the {int(can_predict.sum())} classes that labelled images have, "
            f"without {without}: the figures compare only with such"
        )
    return Predicted(predictions, matched, tuple(remarks))


def predictable(config: EvaluateConfig, labelled: LabelledSet) -> NDArray[np.bool_]:
    """Whether each class may be predicted, [C]."""
    if config.argmax == "all":
        return np.ones(len(labelled.classes), np.bool_)
    has_images: NDArray[np.bool_] = np.bincount(labels_of(labelled), minlength=len(labelled.classes)) > 0
    return has_images
