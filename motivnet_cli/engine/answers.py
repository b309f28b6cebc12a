"""The network's answers -> those that can be rows: a face without a usable one is left out, and its input says so.

A network that overflows in fp16, a damaged weight or a faulty device gives NaN, infinity, or numbers that are no
probabilities. Such a face gets no row; the other faces of its batch keep theirs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from motivnet_cli.records import SUM_TOLERANCE, Position, Prediction, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from motivnet_cli.config import EmbeddingType
    from motivnet_cli.records import Batch, Crop, Cursor, InputReport


def usable_answers(
    answers: Iterable[tuple[Batch, Prediction | None]], embeddings: EmbeddingType
) -> Iterator[tuple[Batch, Prediction | None]]:
    """Each batch with the faces whose answers are usable, its reports and its cursor counted accordingly.

    An input that lost faces is `partial` if it has others, else `failed`, with error_type `bad_prediction`.

    Args:
        answers: In plan order, as `Predictor.run` gives them.
        embeddings: As what embeddings are stored: one that float16 cannot hold is not usable as float16.
    """
    losses = _Losses()
    for batch, prediction in answers:
        lost: tuple[Crop, ...] = ()
        if prediction is not None:
            usable = are_usable(prediction, embeddings)  # [B]
            if not usable.all():
                lost = tuple(crop for crop, is_usable in zip(batch.crops, usable, strict=True) if not is_usable)
                kept = tuple(crop for crop, is_usable in zip(batch.crops, usable, strict=True) if is_usable)
                batch = replace(batch, crops=kept)
                prediction = Prediction(prediction.probabilities[usable], prediction.embeddings[usable])
        yield losses.counted(batch, lost), prediction


def are_usable(prediction: Prediction, embeddings: EmbeddingType) -> NDArray[np.bool_]:
    """Which faces [B] have finite probabilities from 0 to 1 that sum to 1, and finite embeddings as they are stored."""
    probabilities = prediction.probabilities  # [B, C]
    with np.errstate(over="ignore"):
        stored = prediction.embeddings.astype(np.float16 if embeddings == "float16" else np.float32)  # [B, D]
    usable: NDArray[np.bool_] = np.all(np.isfinite(stored), axis=1)  # [B]
    if probabilities.shape[1]:
        sums = probabilities.sum(axis=1, dtype=np.float64)  # [B]; NaN where one is NaN
        usable &= (probabilities >= 0).all(axis=1)
        usable &= abs(sums - 1) <= SUM_TOLERANCE
    return usable


class _Losses:
    """Faces without a usable answer, of the inputs in hand."""

    def __init__(self) -> None:
        self._pending: Counter[Position] = Counter()
        """By picture or frame, of those that have not been reached."""
        self._item = -1
        self._before = 0
        """Of the item that is reached: in frames before the point that is reached."""

    def counted(self, batch: Batch, lost: tuple[Crop, ...]) -> Batch:
        """The batch without these faces in its counts."""
        self._pending.update(crop.position for crop in lost)
        if not self._pending and not self._before and not any(report.num_lost for report in batch.finished):
            return batch
        finished = tuple(map(self._amended, batch.finished))
        return replace(batch, finished=finished, reached=self._advanced(batch.reached))

    def _amended(self, report: InputReport) -> InputReport:
        if report.kind == "archive":  # its members have reports of their own
            return report
        item = report.position.item
        if report.kind == "video":
            here = sum(count for position, count in self._pending.items() if position.item == item)
            here += self._before if item == self._item else 0
        else:
            here = self._pending[report.position]
        num_lost, num_faces = report.num_lost + here, report.num_faces - here
        if not num_lost:
            return report
        source = "the network or the face detector" if report.kind == "video" else "the network"
        message = f"{source} gave no usable numbers (NaN or infinite) for {num_lost} of {num_lost + num_faces} faces"
        if report.problem is not None:
            message += f"; {report.problem.message}"
        return replace(
            report,
            status="partial" if num_faces else "failed",
            num_faces=num_faces,
            num_lost=num_lost,
            problem=Problem("bad_prediction", message),
        )

    def _advanced(self, reached: Cursor) -> Cursor:
        """What is before the point that is reached needs no place of its own any more."""
        if reached.position.item != self._item:
            self._item, self._before = reached.position.item, 0
        for position in [position for position in self._pending if position < reached.position]:
            count = self._pending.pop(position)
            self._before += count if position.item == self._item else 0
        return replace(reached, num_faces=reached.num_faces - self._before, num_lost=reached.num_lost + self._before)
