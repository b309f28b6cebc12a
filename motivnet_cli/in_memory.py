"""Pictures in files or in memory -> their faces, in memory: what `annotate` would write, without an output.

Reading, finding, cropping and computing are those of a run (`engine`). Calls from several threads wait for each other.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import polars as pl
from PIL import Image

from motivnet_cli.config import FaceConfig, LoaderConfig, ModelConfig, VideoConfig
from motivnet_cli.engine.answers import usable_answers
from motivnet_cli.engine.loader import load
from motivnet_cli.engine.machine import usable_cores
from motivnet_cli.engine.prepare import Preparer
from motivnet_cli.engine.work import load_network, make_predictor
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.export.drawing import DrawnFace, draw_faces, enlarged
from motivnet_cli.inputs.decode import decode_image
from motivnet_cli.inputs.names import kind_of, printable
from motivnet_cli.inputs.pillow import decoding_settings
from motivnet_cli.output.tables import RowLayout, Rows
from motivnet_cli.records import Cursor, Item, Position, Todo, in_column_order, never
from motivnet_cli.remote.urls import is_remote, local_path, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from numpy.typing import NDArray
    from typing_extensions import Self

    from motivnet_cli.config import Precision
    from motivnet_cli.engine.predictor import Predictor
    from motivnet_cli.faces.crop import NetworkInput
    from motivnet_cli.records import Batch, Box, FaceSource, Frame, InputReport, Landmarks, Prediction
    from motivnet_cli.weights.load import LoadedModel

    Picture = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]

_lock = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PredictedFace:
    """A face, and what the network says of it."""

    box: Box
    """x1, y1, x2, y2 in pixels of the upright picture; x2 and y2 are exclusive."""
    score: float | None
    """The detector's confidence, 0 to 1; None unless detected."""
    source: FaceSource
    """`detected`, or `whole`: the whole picture was taken."""
    landmarks: Landmarks | None
    """x, y of left eye, right eye, nose, left and right corner of the mouth (the person's own left), in pixels of the
    upright picture; None for one that is not known, or unless detected."""
    turn: int
    """0, 90, 180 or 270: degrees, clockwise, by which the picture was turned to find the face upright."""
    emotion: str | None
    """The most probable; None for a model without classes."""
    confidence: float | None
    """Its probability, 0 to 1."""
    probabilities: dict[str, float]
    """By emotion, 0 to 1, sum 1; empty for a model without classes."""
    embedding: NDArray[np.float32] = field(repr=False)
    """[D]."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PredictedPicture:
    """A picture with its faces."""

    input: str
    """The path as given; of a picture in memory its index among those given, as `[0]`."""
    width: int
    """Of the upright picture, in pixels."""
    height: int
    faces: tuple[PredictedFace, ...]
    """From left to right; empty where none was found."""
    _table: pl.DataFrame = field(repr=False)
    _item: Item = field(repr=False)
    _preparer: _Preparer = field(repr=False)

    def to_polars(self) -> pl.DataFrame:
        """A row a face, with the columns of the faces table of `annotate` (docs/output.md); `embedding` is float32."""
        return self._table

    def to_pandas(self) -> pd.DataFrame:
        """As `to_polars`.

        Raises:
            ConfigError: pandas is not installed.
        """
        return _as_pandas(self._table)

    def draw(self) -> Image.Image:
        """The upright picture, RGB, with the boxes of its faces, their emotions and bars of the highest probabilities.

        A picture that was given by its path is read again. One that is too small for letters is enlarged by a whole
        factor.

        Raises:
            InputError: It cannot be read any more, or has another size now.
        """
        with _lock, decoding_settings(), closing(self._preparer):
            image = Image.fromarray(self._preparer.content(self._item, None).rgb)
        if image.size != (self.width, self.height):
            raise InputError(
                "changed",
                f"{self.input}: it was {self.width} x {self.height} pixels when its faces were found, and is "
                f"{image.width} x {image.height} now: call predict again",
            )
        has_several = len(self.faces) > 1
        faces = [
            DrawnFace(
                box=face.box,
                number=number if has_several else None,
                emotion=face.emotion,
                confidence=face.confidence,
                probabilities=tuple(face.probabilities.items()),
            )
            for number, face in enumerate(self.faces)
        ]
        image, faces = enlarged(image, faces)
        draw_faces(image, faces)
        return image


class PredictedPictures(tuple[PredictedPicture, ...]):
    """One for each picture of a list, in its order."""

    _table: pl.DataFrame

    def __new__(cls, pictures: Iterable[PredictedPicture], table: pl.DataFrame) -> Self:
        these = super().__new__(cls, pictures)
        these._table = table
        return these

    def to_polars(self) -> pl.DataFrame:
        """The rows of all pictures, as `PredictedPicture.to_polars`; `input` says of which picture each is."""
        return self._table

    def to_pandas(self) -> pd.DataFrame:
        """As `to_polars`.

        Raises:
            ConfigError: pandas is not installed.
        """
        return _as_pandas(self._table)


def _as_pandas(table: pl.DataFrame) -> pd.DataFrame:
    try:
        import pandas  # noqa: F401 - without it, pyarrow fails within polars' to_pandas with an AttributeError
    except ModuleNotFoundError as error:
        raise ConfigError("to_pandas needs pandas: pip install pandas, or take to_polars") from error
    return table.to_pandas()


@overload
def predict(  # type: ignore[overload-overlap]  # a path is a sequence of paths to a type checker
    x: Picture,
    model: str | LoadedModel | None = None,
    *,
    faces: FaceConfig = ...,
    loader: LoaderConfig = ...,
    device: str = ...,
    precision: Precision = ...,
    flip: bool | None = ...,
    batch_size: int | None = ...,
) -> PredictedPicture: ...


@overload
def predict(
    x: Sequence[Picture],
    model: str | LoadedModel | None = None,
    *,
    faces: FaceConfig = ...,
    loader: LoaderConfig = ...,
    device: str = ...,
    precision: Precision = ...,
    flip: bool | None = ...,
    batch_size: int | None = ...,
) -> PredictedPictures: ...


def predict(
    x: Picture | Sequence[Picture],
    model: str | LoadedModel | None = None,
    *,
    faces: FaceConfig = FaceConfig(),  # noqa: B008 - frozen
    loader: LoaderConfig = LoaderConfig(),  # noqa: B008
    device: str = "auto",
    precision: Precision = "auto",
    flip: bool | None = None,
    batch_size: int | None = None,
) -> PredictedPicture | PredictedPictures:
    """The faces of a picture, or of each of a list, with what the network says of them; as `annotate` would have them.

    Args:
        x: A picture, or a list or tuple of them: the path or URL of a picture; a PIL image, which is turned upright by
            its EXIF orientation as a file is; or a numpy array, uint8 [H, W, 3], **RGB**, 0 to 255. OpenCV's arrays are
            BGR, which cannot be told from RGB: give `array[:, :, ::-1]`.
        model: A name, read once and kept until another is named; None is the catalogue's first. Or what `load_model`
            gives, which is moved to the device and converted to the precision for good.
        faces: How faces are found and cropped.
        loader: Threads that decode and find faces, and the largest picture.
        device: As in `ModelConfig`.
        precision: As in `ModelConfig`.
        flip: As in `ModelConfig`.
        batch_size: As in `ModelConfig`.

    Returns:
        A `PredictedPicture` for one picture, `PredictedPictures` for a list. A picture in which no face was found has
        no faces.

    Raises:
        InputError: A picture cannot be used, or the network gives no usable numbers for one of its faces. Of a list,
            the message begins with the picture's index, and nothing is returned for the others.
        ConfigError: A setting has a wrong value, or does not fit this machine or the model.
        WeightsError: The model's weights are missing or damaged.
    """
    is_list = isinstance(x, list | tuple)
    pictures: tuple[Picture, ...] = tuple(x) if isinstance(x, list | tuple) else (x,)  # type: ignore[assignment]
    for index, picture in enumerate(pictures):
        if problem := _problem_of(picture):
            raise InputError("unsupported", f"[{index}]: {problem}" if is_list else problem)
    name = model if isinstance(model, str) else None
    config = ModelConfig(name=name, device=device, precision=precision, flip=flip, batch_size=batch_size)
    with _lock:
        loaded, predictor = _network(None if isinstance(model, str) else model, config)
        found = _predict(pictures, loaded, predictor, faces, loader, is_list=is_list)
    return found if is_list else found[0]


@functools.lru_cache(maxsize=1)  # a large network takes gigabytes
def _network(model: LoadedModel | None, config: ModelConfig) -> tuple[LoadedModel, Predictor]:
    model = model or load_network(config)
    return model, make_predictor(model, config)


def _problem_of(picture: object) -> str | None:
    """Why something can be no picture, in a sentence."""
    if isinstance(picture, str | os.PathLike):
        kind = kind_of(os.fspath(picture))
        if kind not in ("video", "archive"):
            return None
        return (
            f"{os.fspath(picture)!r} is of a kind with many pictures ({kind}): annotate reads it, predict single ones"
        )
    if isinstance(picture, Image.Image):
        return None
    wanted = "a picture is a path, a PIL image, or a numpy array of uint8 [H, W, 3] in RGB"
    if not isinstance(picture, np.ndarray):
        got = f"{type(picture).__module__}.{type(picture).__qualname__}"
        return f"{wanted}, got {got}{'; give several as a list' if isinstance(picture, Iterable) else ''}"
    if picture.dtype != np.uint8:
        return f"{wanted}, got one of {picture.dtype}: scale it to 0 to 255 and convert it with .astype(numpy.uint8)"
    if picture.ndim == 3 and picture.shape[0] == 3 != picture.shape[2]:
        return f"{wanted}, got the shape {list(picture.shape)}: its channels come first, so give .transpose(1, 2, 0)"
    if picture.ndim != 3 or picture.shape[2] != 3:
        return f"{wanted}, got the shape {list(picture.shape)}: make a list of several, a PIL image of grey or RGBA"
    return None


class _Preparer(Preparer):
    """As `Preparer`; pictures in memory are in the place of files."""

    def __init__(
        self, pictures: Sequence[Picture], network: NetworkInput, faces: FaceConfig, loader: LoaderConfig
    ) -> None:
        super().__init__(network, faces, VideoConfig(), loader)
        self._pictures = pictures
        self._pillow = threading.Lock()

    def content(self, item: Item, data: bytes | None) -> Frame:
        picture = self._pictures[item.index]
        if isinstance(picture, np.ndarray):
            picture = Image.fromarray(picture)
        if not isinstance(picture, Image.Image):
            return super().content(item, data)
        with self._pillow:  # the same image may be there twice
            return decode_image(picture, max_pixels=self._max_pixels)


def _predict(
    pictures: Sequence[Picture],
    model: LoadedModel,
    predictor: Predictor,
    faces: FaceConfig,
    loader: LoaderConfig,
    *,
    is_list: bool,
) -> PredictedPictures:
    items = [_item_of(index, picture) for index, picture in enumerate(pictures)]
    todos = [Todo(item, Cursor(Position(item.index))) for item in items]
    layout = RowLayout(model.classes, model.embedding_size, "float32")
    rows = Rows(layout, layout.schemas({}))
    found: list[PredictedFace] = []
    reports: list[InputReport] = []
    preparer = _Preparer(pictures, model, faces, loader)
    with decoding_settings(), closing(preparer):
        threads = loader.threads or usable_cores()
        batches = load(todos, preparer, num_threads=threads, batch_size=predictor.batch_size, stop=never)
        with closing(batches):
            for batch, prediction in usable_answers(predictor.run(batches), "float32"):
                for report in batch.finished:
                    _raise_problem(report, is_list=is_list)
                rows.add(batch, prediction)
                reports += batch.finished
                if prediction is not None:
                    found += _faces_of(batch, prediction, model.classes)
    _, table, _ = rows.take(Position(len(items)))
    whole = pl.DataFrame(table)
    result, start = [], 0
    for item, report in zip(items, reports, strict=True):
        assert report.width is not None, "of a picture that was read it is known"
        assert report.height is not None
        result.append(
            PredictedPicture(
                input=item.input,
                width=report.width,
                height=report.height,
                faces=tuple(found[start : start + report.num_faces]),
                _table=whole.slice(start, report.num_faces),
                _item=item,
                _preparer=preparer,
            )
        )
        start += report.num_faces
    return PredictedPictures(result, whole)


def _item_of(index: int, picture: Picture) -> Item:
    if isinstance(picture, Image.Image | np.ndarray):
        return Item(index, f"[{index}]", "", "image")
    path = local_path(os.fspath(picture))
    return Item(index, printable(shown(path)), path if is_remote(path) else str(Path(path).absolute()), "image")


def _raise_problem(report: InputReport, *, is_list: bool) -> None:
    if report.problem is None:
        return
    index = f"[{report.position.item}]"
    names = [index] if is_list else []
    names += [report.input] if report.input != index else []
    raise InputError(report.problem.error_type, ": ".join((*names, report.problem.message)))


def _faces_of(batch: Batch, prediction: Prediction, classes: Sequence[str]) -> Iterator[PredictedFace]:
    for crop, row, embedding in zip(batch.crops, prediction.probabilities, prediction.embeddings, strict=True):
        probabilities = dict(zip(classes, row.tolist(), strict=True))
        emotion = classes[int(row.argmax())] if classes else None
        yield PredictedFace(
            box=crop.face.box,
            score=crop.face.score,
            source=crop.face.source,
            landmarks=crop.face.landmarks,
            turn=crop.face.turn,
            emotion=emotion,
            confidence=probabilities[emotion] if emotion is not None else None,
            probabilities={name: probabilities[name] for name in in_column_order(classes)},
            embedding=embedding.copy(),
        )
