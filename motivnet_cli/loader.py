"""Items -> full batches of face crops: threads decode, find faces and crop while the network computes.

It does not know what the network says or where rows go. Order is the plan's, whatever the number of threads.
Memory is bounded: each thread holds one picture (at most `max_pixels`), and finished work waits only up to
HELD_BYTES or two batches of inputs, whichever is less.
"""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from motivnet_cli.decode import decode
from motivnet_cli.errors import InputError
from motivnet_cli.faces import find_faces, load_detector
from motivnet_cli.preprocess import cut, to_pixels
from motivnet_cli.records import Batch, Crop, ItemReport, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from motivnet_cli.config import FaceConfig, LoaderConfig
    from motivnet_cli.load import LoadedModel
    from motivnet_cli.records import Face, Frame, Item

HELD_BYTES = 512 << 20
"""Finished work that may wait for the network; beyond it no new input is read."""
READY_FACES = 32
"""Faces of one picture that are cropped ahead; a crowd's others are cropped as the batch takes them."""
MAX_REPORTS = 256
"""A batch goes on its way with this many ended inputs even when faces are rare."""


def load(
    items: Iterable[Item],
    *,
    model: LoadedModel,
    faces: FaceConfig,
    loader: LoaderConfig,
    num_workers: int,
    batch_size: int,
    stop: Callable[[], bool],
) -> Iterator[Batch]:
    """Batches of `batch_size` faces (the last may be smaller), each with the inputs that ended in it.

    When `stop()` turns true nothing more is read: what is in hand becomes the last batch.
    """
    prepare = _Preparer(model, faces, loader)
    waiting: deque[Future[_Prepared]] = deque()
    upcoming = iter(items)
    pool = ThreadPoolExecutor(num_workers, "prepare", initializer=torch.set_num_threads, initargs=(1,))

    def top_up() -> None:
        ready = (future.result().num_bytes for future in waiting if future.done() and not future.exception())
        room = HELD_BYTES - sum(ready)
        while room > 0 and len(waiting) < num_workers + 2 * batch_size:
            item = next(upcoming, None)
            if item is None:
                return
            waiting.append(pool.submit(prepare, item))

    try:
        crops: list[Crop] = []
        finished: list[ItemReport] = []
        top_up()
        while waiting and not stop():
            prepared = waiting.popleft().result()
            top_up()
            for crop in prepared.crops:
                crops.append(crop)
                if len(crops) == batch_size:
                    yield Batch(tuple(crops), tuple(finished))
                    crops, finished = [], []
            finished.append(prepared.report)
            if len(finished) >= MAX_REPORTS:
                yield Batch(tuple(crops), tuple(finished))
                crops, finished = [], []
        if crops or finished:
            yield Batch(tuple(crops), tuple(finished))
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """An input's faces, the first of them cropped, and what became of it."""

    crops: Iterable[Crop]
    report: ItemReport
    num_bytes: int = 0


class _Preparer:
    """What a worker does to one item: decode -> find faces -> crop -> the network's pixels."""

    def __init__(self, model: LoadedModel, faces: FaceConfig, loader: LoaderConfig) -> None:
        self._model = model
        self._faces = faces
        self._margin = model.card.margin if faces.margin is None else faces.margin
        self._max_pixels = loader.max_pixels
        self._detector = (
            None if faces.mode == "whole" else load_detector(faces.detector, detection_size=faces.detection_size)
        )

    def __call__(self, item: Item) -> _Prepared:
        if item.problem:
            return _Prepared((), ItemReport(item, "failed", problem=item.problem))
        try:
            frame = decode(item.path, max_pixels=self._max_pixels)
        except InputError as error:
            problem = Problem(error.error_type, str(error))
            return _Prepared((), ItemReport(item, "failed", problem=problem))
        faces = find_faces(frame.rgb, self._faces, self._detector)
        height, width = frame.rgb.shape[:2]
        report = ItemReport(item, "ok" if faces else "no_face", 1, len(faces), width, height)
        crops = (self._crop(item, frame, face, number) for number, face in enumerate(faces))
        ready = list(itertools.islice(crops, READY_FACES))
        num_bytes = sum(crop.pixels.nbytes for crop in ready)
        if len(faces) > len(ready):
            return _Prepared(itertools.chain(ready, crops), report, num_bytes + frame.rgb.nbytes)
        return _Prepared(ready, report, num_bytes)

    def _crop(self, item: Item, frame: Frame, face: Face, number: int) -> Crop:
        card = self._model.card
        rgb = frame.rgb
        if face.source != "whole":
            rgb = cut(rgb, face.box, margin=self._margin, fill_rgb=card.fill_rgb)
        pixels = to_pixels(
            rgb,
            recipe=self._model.recipe,
            height=self._model.height,
            width=self._model.width,
            fill_rgb=card.fill_rgb,
        )
        return Crop(item, face, number, pixels, frame.index, frame.time_s)
