"""What flows through a run: an Item becomes Frames, Faces, Crops, a Batch, a Prediction and a report.

It knows no library but the types of numpy; the arrays inside are documented by layout, dtype and range.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from motivnet_cli.errors import ErrorType, InputError

EMOTIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")
"""The seven emotions, in the order of MotivNet's head (AffectNet's ids 0 to 6)."""


def in_column_order(classes: Sequence[str]) -> tuple[str, ...]:
    """Names of emotions in the order in which tables have them, whatever the model's: EMOTIONS, then any others."""
    others = (name for name in classes if name not in EMOTIONS)
    return (*(name for name in EMOTIONS if name in classes), *others)


def is_class_name(name: str) -> bool:
    """Whether a class can be called so: a column of the faces table is, and texts, pages and figures name it."""
    is_taken = name.casefold() in FACE_COLUMNS and name not in (*EMOTIONS, "contempt")
    return bool(name) and name.isprintable() and name == name.strip() and not is_taken


SUM_TOLERANCE = 1e-4
"""How far the probabilities of a face may be from a sum of 1; a softmax in float32 is within 1e-6."""

FLOAT16_STEP = 2**-10
"""The relative distance of two neighbours in float16, of which two float32 values that differ may become the one and
the other."""

FaceSource = Literal["detected", "whole", "given"]
FACE_SOURCES: tuple[FaceSource, ...] = get_args(FaceSource)
Status = Literal["ok", "no_face", "partial", "failed"]
STATUSES: tuple[Status, ...] = ("ok", "no_face", "partial", "failed")

TURNS = (0, 90, 180, 270)
"""By how many degrees a picture may be turned to find faces in it."""

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the upright picture; x2 and y2 are exclusive."""
BOX_COLUMNS = ("x1", "y1", "x2", "y2")
"""The columns of a table that hold a `Box`."""
SIZE_COLUMNS = ("picture_width", "picture_height")
"""The columns of a table that hold the size of the picture that a box is in, in pixels."""

LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""The five points of a face: centres of the eyes, tip of the nose, corners of the mouth. Left and right are the
person's own: the left eye is on the right of an upright picture that is not mirrored."""
Point = tuple[float, float]
"""x, y in pixels of the upright picture."""
Landmarks = tuple[Point | None, ...]
"""One for each of LANDMARKS; None for one that the detector does not know. They may lie outside the picture."""
LANDMARK_COLUMNS = tuple(f"{name}_{axis}" for name in LANDMARKS for axis in "xy")
"""The columns of a table that hold `Landmarks`."""


class Quality(NamedTuple):
    """How a face lies in its picture, and how well it is to be seen (`faces.quality`)."""

    roll: float | None
    """Degrees, -180 to 180, clockwise positive; None where the eyes are not known."""
    yaw: float | None
    """Degrees, -90 to 90, an estimate; None where eyes or nose are not known."""
    eye_distance: float | None
    """Pixels; None where the eyes are not known."""
    blur: float
    """Variance of the Laplacian, at least 0: low where the face is blurred."""
    brightness: float
    """Mean luma, 0 to 255."""


BLUR_SIDE = 112
"""Pixels on each side to which the box of a face is resized before its blur is measured."""
QUALITY_COLUMNS = Quality._fields
"""The columns of a table that hold `Quality`."""


FACE_COLUMNS = (
    *("input", "frame", "time_s", "face", "face_source", *BOX_COLUMNS, "detection_score", "track", "emotion"),
    *(*LANDMARK_COLUMNS, "turn", *QUALITY_COLUMNS),
    *("confidence", *EMOTIONS, "contempt", "embedding", "picture_width", "picture_height"),
)
"""All columns of the faces table, whatever the model and the options, but for those that the user keeps."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an input, or the rest of it, could not be used."""

    error_type: ErrorType
    message: str

    @classmethod
    def of(cls, error: InputError) -> Problem:
        return cls(error.error_type, str(error))


Kind = Literal["image", "video", "archive", "folder"]
KINDS: tuple[Kind, ...] = ("image", "video", "archive", "folder")

NEW = -1
"""As `Item.place`: it replaces nothing."""

Kept = tuple[str | int | float | bool | None, ...]
"""Values of the manifest's columns that pass through to the output, in the order of the plan's `keep`."""


@dataclass(frozen=True, slots=True)
class GivenFace:
    """A face that the user's manifest gives: where it is, and what passes through with it."""

    box: Box
    kept: Kept = ()
    is_relative: bool = False
    """The box is in fractions of the picture's width and height."""
    frame: int | None = None
    """In a video: the number of the frame that it belongs to."""
    time_s: float | None = None
    """In a video, where no frame is named: the time that it belongs to."""


@dataclass(frozen=True, slots=True)
class Item:
    """One input of the frozen plan; an archive is one item, and each of its members an input."""

    index: int
    """Position in the plan, from 0: rows are written in this order."""
    input: str
    """The name written in the output: relative to the given folder, or as given."""
    path: str
    """Absolute path as Python names it (bytes that are not UTF-8 as surrogate escapes), or a URL."""
    kind: Kind
    problem: Problem | None = None
    """Set when listing already found that it cannot be read."""
    given: tuple[GivenFace, ...] | None = None
    """Faces that the manifest gives, in its order; None where faces are to be found."""
    kept: Kept = ()
    """Pass-through values of an input without given faces."""
    size_bytes: int | None = None
    mtime_ns: int | None = None
    """Size and time of last change when the plan was made; None where they are not known (a URL)."""
    sha256: str | None = None
    """Of the file's content, if it was asked for."""
    column: str | None = None
    row: int | None = None
    """The cell of the Parquet table at `path` that holds the picture; rows count from 0. None where it is a file."""
    place: int | None = None
    """In a run that amends an output: the first row of its inputs that this one is to replace, from 0, or NEW."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One upright picture."""

    rgb: NDArray[np.uint8]
    """[H, W, 3], RGB, 0 to 255."""
    index: int | None = None
    """The container's frame number, from 0; None for a still image."""
    time_s: float | None = None
    """Presentation time in seconds; None for a still image."""

    def __repr__(self) -> str:
        return f"Frame(rgb={self.rgb.shape}, index={self.index}, time_s={self.time_s})"


@dataclass(frozen=True, slots=True)
class Face:
    """Where a face is in its frame."""

    box: Box
    source: FaceSource
    score: float | None = None
    """The detector's confidence, 0 to 1; None unless detected."""
    landmarks: Landmarks | None = None
    """None unless detected."""
    turn: int = 0
    """One of TURNS: the degrees, clockwise, by which its picture must be turned for the face to stand upright."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Faces that were found and left out, by the option that a face met first, in this order."""

    min_face: int = 0
    max_roll: int = 0
    min_sharpness: int = 0
    max_faces: int = 0

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(*map(sum, zip(_COUNTS(self), _COUNTS(other), strict=True)))

    @property
    def by_option(self) -> dict[str, int]:
        """The options that left something out, by their names on the command line: `min-face`."""
        return {
            name.replace("_", "-"): count for name, count in zip(LeftOut.__slots__, _COUNTS(self), strict=True) if count
        }

    @property
    def total(self) -> int:
        return sum(_COUNTS(self))

    @property
    def text(self) -> str | None:
        """Such as `min-face 2, max-roll 1`; None for nothing."""
        return ", ".join(f"{name} {count}" for name, count in self.by_option.items()) or None

    @classmethod
    def of(cls, text: str | None) -> LeftOut:
        """What `text` says.

        Raises:
            ValueError: It says nothing that `LeftOut.text` would.
        """
        pairs = [each.rpartition(" ") for each in (text or "").split(", ") if text]
        try:
            left_out = cls(**{name.replace("-", "_"): int(count) for name, _, count in pairs})
        except TypeError:
            left_out = cls()
        if left_out.text != text or min(_COUNTS(left_out)) < 0:
            raise ValueError(f"{text!r} names no options that leave faces out")
        return left_out


_COUNTS = attrgetter(*LeftOut.__slots__)
"""In their order; `astuple` and `asdict` copy deeply, and cost a run more than all else it does with an input's row."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where in the plan something is: an item, and a step within it (frame of a video, member of an archive)."""

    item: int
    step: int = 0


@dataclass(frozen=True, slots=True)
class Cursor:
    """From where a run goes on: everything before `position` is done."""

    position: Position
    num_frames: int = 0
    """Of the item at `position`: frames, or members of an archive, before the step."""
    num_faces: int = 0
    """Of the item at `position`: faces before the step."""
    num_lost: int = 0
    """And faces before the step that got no usable answer, beside those."""
    left_out: LeftOut = LeftOut()
    """And faces before the step that options left out."""


@dataclass(frozen=True, slots=True)
class Todo:
    """An item with the point from which it is still to do."""

    item: Item
    cursor: Cursor


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """One face, ready for the network."""

    position: Position
    input: str
    face: Face
    number: int
    """The face's number within its frame, from 0, left to right."""
    pixels: NDArray[np.uint8]
    """[3, H, W], RGB, 0 to 255, at the network's input size."""
    frame_index: int | None = None
    time_s: float | None = None
    kept: Kept = ()
    picture_size: tuple[int, int] | None = None
    """Width and height in pixels of the upright picture or frame that the face is in."""
    quality: Quality | None = None


@dataclass(frozen=True, slots=True)
class InputReport:
    """What became of one input."""

    position: Position
    input: str
    kind: Kind
    status: Status
    num_frames: int = 0
    num_faces: int = 0
    num_lost: int = 0
    """Faces besides those, for which the network gave no usable answer."""
    width: int | None = None
    height: int | None = None
    """Of the upright picture, or of the first frame of a video that was looked at."""
    time_offset_s: float | None = None
    """How long after the start of its file a video begins, in seconds."""
    problem: Problem | None = None
    archive: str | None = None
    """The archive that it is a member of."""
    size_bytes: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None
    left_out: LeftOut = LeftOut()
    """Faces that were found and have no row, by option."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Faces for one pass of the network, and the inputs that ended among them."""

    crops: tuple[Crop, ...]
    finished: tuple[InputReport, ...]
    """Inputs whose last face lies in this batch or before it, in plan order."""
    reached: Cursor
    """Every face and report before it is in this batch or an earlier one."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the network said of a batch of B faces."""

    probabilities: NDArray[np.float32]
    """[B, C], rows sum to 1, columns in the order of the model's `classes`."""
    embeddings: NDArray[np.float32]
    """[B, D]."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is; handed to the progress callback after every batch."""

    inputs_total: int
    inputs_done: int
    inputs_resumed: int
    """Of `inputs_done`, those committed by an earlier start of the same run."""
    faces: int
    """Faces predicted by this process."""
    failed: int
    seconds: float
    """Since the first input was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """How far a training is; handed to the progress callback after every step and every validated batch."""

    epochs: int
    epoch: int
    """From 1."""
    steps: int
    """In all epochs."""
    steps_done: int
    steps_resumed: int
    """Of `steps_done`, those of an earlier start of the same training."""
    loss: float | None
    """Of the last step."""
    val_loss: float | None
    """Of the last epoch that is over."""
    is_validating: bool
    seconds: float
    """Since this start."""


class RunRecord(TypedDict, total=False):
    """What an output says of the run that wrote it; of a table that motivnet did not write, little or nothing."""

    tool: str
    schema_version: int
    model: str
    classes: list[str]
    embedding_size: int
    """Of what the model says of a face, stored or not."""
    checksums: bool
    """Pages have checksums, and every file says how many rows were written to it."""
    weights_sha256: str
    position_change: str
    """How the position table of the weights was made to fit the input, in words; not there where it is as trained."""
    terms: str
    architecture: str
    sources: str
    """Where network and weights come from; of a trained model, its parents with their hashes."""
    recipe: str
    precision: str
    torch: str
    """The version of PyTorch that the run was begun with."""
    device: str
    faces: dict[str, object]
    video: dict[str, object]
    command: str
    settings: dict[str, object]
    """What changes the rows, resolved, by name: the run's fingerprint."""
    shard: dict[str, int]
    """`index` and `count`, where each shard has an output of its own."""
    merged: list[str]
    """The outputs that were joined."""


RunState = Literal["finished", "already_finished", "share_done", "stopped"]
"""The whole output is done and in its place, by this call or before it; this process's share of it is done, and others
are not; or the run, or the share, ended early, and the same command goes on from there."""


class Changes(NamedTuple):
    """How the inputs differ from what they were when the plan was made, as far as files of this machine tell."""

    new: int = 0
    """Inputs that were not there."""
    changed: int = 0
    """Inputs of another size, time of change or, with `--hash`, content."""


MAX_NAMED_FAILURES = 10
"""Failed inputs that a summary names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSummary:
    """What an output holds, or a shard's part of it."""

    inputs: int
    """Of the run, or of the shard; at least `done`."""
    done: int
    """Rows of the inputs table: the members of an archive count, too."""
    by_status: dict[str, int]
    """Inputs by status; without those that have none."""
    faces: int
    face_sources: dict[FaceSource, int]
    """Faces by how they were found; without those that there are none of."""
    emotions: dict[str, int]
    """Faces by dominant emotion; empty for a model without emotions."""
    left_out: LeftOut
    """Faces that were found and have no row, by option."""
    outputs: tuple[str, ...]
    """Names of the tables, as the user knows them."""
    failures: tuple[InputReport, ...] = ()
    """The first few failed inputs, to name them."""
    changes: Changes = Changes()
    """Since the plan was made, where an earlier call made it and everything is done."""

    @property
    def num_failed(self) -> int:
        return self.by_status.get("failed", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(OutputSummary):
    """How a run ended, and what its output holds."""

    state: RunState
    model: str
    device: str
    faces_predicted: int = 0
    """Faces predicted by this process: fewer than `faces` after a resume."""
    seconds: float = 0.0
    device_busy: float = 0.0
    """Share of the time in which the network computed, 0 to 1."""
    bound_by: str | None = None
    """The stage that the others waited for: reading, network or writing; None of a run of one batch."""
    writing_s: float = 0.0
    """Seconds of writing between batches."""
    starting_s: float = 0.0
    """Seconds until the first faces were there, the listing of the inputs included."""
    finishing_s: float = 0.0
    """Seconds from the last batch to the output in its place."""

    @property
    def stopped(self) -> bool:
        """Whether the run, or this process's share of it, ended early; the same command goes on from here."""
        return self.state == "stopped"

    @property
    def finished(self) -> bool:
        """Whether the whole output is done and in its place: not after the first shards of several."""
        return self.state in ("finished", "already_finished")


PHASE: dict[str, object] = {"kind": "phase"}
"""`extra` of a log line that says what is done from now on and takes a while: a terminal shows it until the next."""


def no_progress(progress: Progress | TrainingProgress) -> None:
    """The progress callback that says nothing."""


def never() -> bool:
    """The stop callback of a run that nothing interrupts."""
    return False


class Stopped(Exception):  # noqa: N818 - a way out, not an error
    """Reading was given up because the stop callback said so."""
