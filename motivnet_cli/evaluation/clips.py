"""Predictions of frames -> predictions of clips: one row a clip, so that matching, figures and pages know no frames.

A clip is a video, or a folder of frames. Of a frame the largest face counts; a frame without a face counts for
nothing, and is counted; a clip without any face is a miss.
"""

from __future__ import annotations

import math
import posixpath
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from motivnet_cli.config import CLIP_FPS, VideoConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.answers import EMPTY_ROW, doubt_on_ties
from motivnet_cli.faces.boxes import areas
from motivnet_cli.inputs.names import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from motivnet_cli.evaluation.datasets.labelled import LabelledSet
    from motivnet_cli.evaluation.predictions import Predictions
    from motivnet_cli.evaluation.results import JSON

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

Pooling = Literal["mean", "median", "top"]
"""How the frames of a clip become one distribution."""
TOP_SHARE = 0.25
"""Of a clip's frames, those with the highest probability of any emotion, that `top` takes the mean of."""
POOLINGS: dict[Pooling, str] = {
    "mean": "the mean of the frames' probabilities",
    "median": "the median of the frames' probabilities, divided by their sum",
    "top": f"the mean over the {TOP_SHARE:.0%} of the frames with the highest probability of any emotion",
}
"""What each comes to; the first is the default."""
_SAME = 1e-12
"""Pooled probabilities that differ by less are equal: sums of the same numbers in another order differ by as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipConfig:
    """Which frames of a clip are looked at, and how they become one answer."""

    pooling: Pooling = "mean"
    fps: float | None = None
    """Frames a second of a video; None with no `every` is CLIP_FPS."""
    every: int | None = None
    """Every N-th frame, from the first; of a folder of frames, None takes all."""

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ConfigError(f"--clip takes {', '.join(POOLINGS)}, got {self.pooling!r}")
        self.video  # noqa: B018 - refuses what it cannot be

    @property
    def video(self) -> VideoConfig:
        fps = CLIP_FPS if self.fps is None and self.every is None else self.fps
        return VideoConfig(fps=fps, every=self.every)

    def check(self, labelled: LabelledSet, *, is_predicted: bool) -> None:
        """Refuse what does not fit the set.

        Args:
            is_predicted: Whether predictions are scored that were made before.
        """
        if labelled.unit != "clip":
            raise ConfigError(f"{labelled.dataset} is a set of images here: leave out --clip, --fps and --every")
        if is_predicted and (self.fps, self.every) != (None, None):
            raise ConfigError("predictions made before have their frames already: leave out --fps and --every")
        if self.fps is not None and all(clip.frames for clip in labelled.images):
            raise ConfigError(
                f"the clips of {labelled.dataset} are folders of frames here, which have no times: "
                f"give --every N in place of --fps {self.fps:g}"
            )

    def sampling(self, labelled: LabelledSet) -> str:
        """Which frames of the set's clips are looked at, in words."""
        of_folders = "all frames of folders" if self.every in (None, 1) else f"one in {self.every} frames of folders"
        of_videos = _sampling_of(self.video.fps, self.video.every)
        num_folders = sum(bool(clip.frames) for clip in labelled.images)
        if num_folders == len(labelled.images):
            return of_folders
        return f"{of_videos}, {of_folders}" if num_folders else of_videos


def _sampling_of(fps: object, every: object) -> str:
    if every or fps is None:
        return f"one in {every} frames of videos" if every not in (None, 1) else "all frames of videos"
    return f"{fps:g} frame{'' if fps == 1 else 's'} a second of videos"


def pool(predictions: Predictions, how: Pooling, *, sampling: str | None = None) -> Predictions:
    """One row for each clip that has a face in any frame.

    A picture is a frame of the folder that it lies in. Anything else is a clip itself, and a table that has one row
    a clip stays as it is.

    Args:
        predictions: Read with `with_videos`.
        sampling: Which frames were predicted; None goes by the record of the run.

    Returns:
        Its images are the clips, a folder of frames by the folder's name. `origin` says under `clips` what was pooled.

    Raises:
        ConfigError: They are labels without probabilities, which have no median and no top.
    """
    clips = _clips_of(predictions)
    rows_of_image, num_several = _rows_of_frames(predictions)
    rows = [[row for image in images for row in rows_of_image[image]] for images in clips.values()]
    frames = _frames_of(predictions, clips.values())
    has_frames = predictions.kind == "motivnet" or any(map(_is_frame, predictions.images)) or max(frames, default=0) > 1
    if has_frames and predictions.probabilities is None and how != "mean":
        raise ConfigError(
            f"{predictions.source!r} holds labels without probabilities: of a clip's frames the majority counts, "
            f"which is --clip mean; got --clip {how}"
        )
    distributions = predictions.probabilities  # [R, C]
    if distributions is None:
        distributions = np.eye(len(predictions.classes))[predictions.predicted]
    answered = [clip for clip, each in enumerate(rows) if each]
    pooled = np.array([_pooled(distributions[rows[clip]], how) for clip in answered]).reshape(
        -1, distributions.shape[1]
    )  # [clips with a face, C]
    predicted, num_tied = _most_probable(pooled, [predictions.predicted[rows[clip]] for clip in answered])
    doubts = [doubt_on_ties(num_tied, "clips", predictions.classes)] if num_tied else []
    remarks = [*doubts, *predictions.remarks, *_remarks_on(predictions, rows, num_several=num_several)]
    if not has_frames and how != "mean":
        remarks.append(f"the predictions have one row a clip, so --clip {how} changes nothing")
    origin: dict[str, JSON] = {**predictions.origin, "remarks": [*remarks]}
    if has_frames:
        origin["clips"] = {
            "pooling": f"{how}, {POOLINGS[how]}",
            "sampling": sampling or _recorded_sampling(predictions),
            "frames": sum(frames),
            "frames_without_face": sum(frames) - sum(map(len, rows)),
            "frames_per_clip": f"{min(frames)} to {max(frames)}, median {np.median(frames):g}" if frames else "none",
        }
    return replace(
        predictions,
        images=tuple(name for name, _ in clips),
        paths=tuple(path for _, path in clips),
        misses=tuple(
            None if each else _why_missed(predictions, images)
            for each, images in zip(rows, clips.values(), strict=True)
        ),
        image_of=np.array(answered, np.int64),
        predicted=predicted,
        probabilities=None if predictions.probabilities is None else pooled,
        boxes=None,
        origin=origin,
        remarks=tuple(remarks),
        doubts=(*predictions.doubts, *doubts),
        frame_of=None,
        num_frames=None,
        sizes=None,
    )


# ---- frames of clips --------------------------------------------------------------------------------------


def _is_frame(image: str) -> bool:
    return kind_of(image) == "image"


def _clips_of(predictions: Predictions) -> dict[tuple[str, str | None], list[int]]:
    """Name and absolute path of each clip -> its images, in order of first appearance."""
    clips: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for number, (name, path) in enumerate(zip(predictions.images, predictions.paths, strict=True)):
        if _is_frame(name):
            clips[posixpath.dirname(name), path and posixpath.dirname(path)].append(number)
        else:
            clips[name, path].append(number)
    return dict(clips)


def _frames_of(predictions: Predictions, clips: Iterable[Sequence[int]]) -> list[int]:
    """How many frames of each clip were looked at."""
    assert predictions.num_frames is not None, "read with_videos"
    return [sum(int(predictions.num_frames[image]) for image in images) for images in clips]


def _rows_of_frames(predictions: Predictions) -> tuple[list[list[int]], int]:
    """The rows of each image that count, one for each frame with a face, and how many frames had several faces.

    Of several the largest counts; without boxes the first.
    """
    assert predictions.frame_of is not None, "read with_videos"
    sizes = np.zeros(len(predictions.image_of))  # [R]
    if predictions.boxes is not None:
        sizes = areas(np.nan_to_num(predictions.boxes))
    chosen: dict[tuple[int, int], int] = {}
    several = set()
    for row, frame in enumerate(zip(predictions.image_of.tolist(), predictions.frame_of.tolist(), strict=True)):
        if frame in chosen:
            several.add(frame)
        if frame not in chosen or sizes[row] > sizes[chosen[frame]]:
            chosen[frame] = row
    rows: list[list[int]] = [[] for _ in predictions.images]
    for (image, _), row in chosen.items():
        rows[image].append(row)
    return rows, len(several)


def _pooled(distributions: Floats, how: Pooling) -> Floats:
    """The distributions of a clip's frames as one: [F, C] -> [C]."""
    if how == "top":
        count = math.ceil(TOP_SHARE * len(distributions))
        distributions = distributions[np.argsort(-distributions.max(axis=1), kind="stable")[:count]]
    elif how == "median":
        medians: Floats = np.median(distributions, axis=0)
        if medians.sum() > 0:  # it is 0 where frames are certain of many emotions
            medians /= medians.sum()
            return medians
    means: Floats = distributions.mean(axis=0)
    return means


def _most_probable(pooled: Floats, of_frames: Sequence[Ints]) -> tuple[Ints, int]:
    """The most probable class of each clip [R], of equal ones that of most frames, else the first; and how often that.

    Args:
        pooled: [R, C].
        of_frames: [R], the predicted ids of each clip's frames, which a tool's label may have decided.
    """
    is_most = pooled >= pooled.max(axis=1, keepdims=True) - _SAME  # [R, C]
    predicted = is_most.argmax(axis=1).astype(np.int64)
    num_tied = 0
    for clip in np.flatnonzero(is_most.sum(axis=1) > 1).tolist():
        votes = np.bincount(of_frames[clip], minlength=pooled.shape[1]) * is_most[clip]  # [C]
        if (votes == votes.max()).sum() > 1:
            num_tied += 1
        else:
            predicted[clip] = votes.argmax()
    return predicted, num_tied


def _why_missed(predictions: Predictions, images: Sequence[int]) -> str:
    """The reason of most frames of a clip without a face; of equally many the first."""
    return Counter(predictions.misses[image] or EMPTY_ROW for image in images).most_common(1)[0][0]


# ---- what must be said ------------------------------------------------------------------------------------


def _recorded_sampling(predictions: Predictions) -> str:
    settings = predictions.origin.get("settings")
    if not isinstance(settings, dict) or all(map(_is_frame, predictions.images)):
        return "the frames in the predictions"
    return _sampling_of(settings.get("video.fps"), settings.get("video.every"))


def _remarks_on(predictions: Predictions, rows: Sequence[Sequence[int]], *, num_several: int) -> Iterator[str]:
    if num_several:
        which = "the first row" if predictions.boxes is None else "the largest"
        yield f"{num_several:,} frames have several faces: {which} of each was taken"
    if any(len(each) > 1 for each in rows):
        if predictions.probabilities is None:
            yield "labels without probabilities: of the frames of a clip the majority counts"
        of_videos = any(kind_of(image) == "video" for image in predictions.images)
        if predictions.kind != "motivnet" and of_videos and "frame" not in predictions.columns:
            yield "no column tells the frames of a video apart: each row was taken as a frame of its own"
