"""A linear head on more embeddings than memory holds: they lie in a temporary file, and each step reads them all."""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from motivnet_cli.errors import ConfigError
from motivnet_cli.records import Stopped, never

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import DTypeLike, NDArray
    from sklearn.preprocessing import StandardScaler
    from typing_extensions import Self

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]
    Ints = NDArray[np.int64]

CHUNK = 1024
"""Embeddings that a thread has in memory at a time: 9 MB of 1,536 numbers."""
TOLERANCE = 1e-4
"""Of the largest part of the gradient of the mean loss: scikit-learn's default."""
MAX_PASSES = 300
"""Over all embeddings: as many as a head that learns in memory may take steps."""


class EmbeddingFile:
    """N embeddings of D numbers in a temporary file without a name, which is gone when it is closed.

    Args:
        folder: Where the file is.
        count: How many there will be at most.
        dtype: As which they are kept: what the output has.

    Raises:
        ConfigError: The disk has not that much room.
    """

    def __init__(self, folder: Path, *, count: int, size: int, dtype: DTypeLike) -> None:
        self.size = size
        self._dtype = np.dtype(dtype)
        self._row_bytes = size * self._dtype.itemsize
        self._count = 0
        needed, free = count * self._row_bytes, shutil.disk_usage(folder).free
        if needed > free:
            raise ConfigError(
                f"to learn from all {count:,} labelled faces takes {needed / 1e9:.1f} GB in {folder} until the end, "
                f"and {free / 1e9:.1f} GB are free there: free some space, or give an --out on another disk"
            )
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def append(self, values: NDArray[np.floating]) -> None:
        """Write more, [n, D]."""
        rest = memoryview(values.astype(self._dtype).tobytes())
        while rest:
            rest = rest[self._file.write(rest) :]
        self._count += len(values)

    def read(self, start: int, stop: int) -> Floats:
        """Those from `start` to before `stop`, or the end, [n, D]; from several threads at once if need be."""
        values = np.empty((min(stop, self._count) - start, self.size), self._dtype)
        if os.preadv(self._file.fileno(), [values.data], start * self._row_bytes) != values.nbytes:
            raise OSError("the temporary file of embeddings ended before its end")
        return torch.from_numpy(values).float().numpy()  # of float16, in a tenth of the time that numpy takes

    def taken(self, indices: Ints) -> Floats:
        """Some, [n, D]."""
        values = np.empty((len(indices), self.size), np.float32)
        for row, index in zip(values, indices.tolist(), strict=True):
            row[:] = self.read(index, index + 1)[0]
        return values


class Streamed(NamedTuple):
    """A head that learned from every embedding of a file."""

    fitted: Pipeline
    remarks: tuple[str, ...]


def fit_linear(
    start: Pipeline,
    embeddings: EmbeddingFile,
    labels: Ints,
    scaler: StandardScaler,
    *,
    threads: int = 1,
    tolerance: float = TOLERANCE,
    on_pass: Callable[[int], None] = lambda number: None,
    stop: Callable[[], bool] = never,
) -> Streamed:
    """The minimum of what scikit-learn's `LogisticRegression` minimises, over all N embeddings of a file.

    That is the sum of the cross-entropies and ||W||^2 / (2 C), intercepts free, on standardised embeddings, with the C
    of `start`; L-BFGS begins at its weights. Products are in float32, sums in float64.

    Args:
        start: A linear head of `heads.fit` that learned from some of these, of all classes.
        labels: [N].
        scaler: Fitted on all of them.
        on_pass: Called with the number of each pass over the file, from 1, when it begins.
        stop: Asked at each chunk whether to give up.

    Raises:
        Stopped: `stop` said so.
    """
    first, penalty = start["classifier"], 1 / (start["classifier"].C * len(labels))
    mean, inverse = scaler.mean_.astype(np.float32), (1 / scaler.scale_).astype(np.float32)
    num_rows = len(first.coef_)  # of W: of two classes 1, the logit of the second against 0
    passes = 0

    def part(begin: int, weights: Floats, biases: Floats) -> tuple[float, Floats, Doubles]:
        """The loss of a chunk, and its gradient by weights and biases."""
        if stop():
            raise Stopped
        x = embeddings.read(begin, begin + CHUNK)
        x -= mean
        x *= inverse
        logits = (x @ weights.T + biases).astype(np.float64)
        if num_rows == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        chosen = (np.arange(len(x)), labels[begin : begin + CHUNK])
        log_p = log_softmax(logits, axis=1)
        residuals = np.exp(log_p)
        residuals[chosen] -= 1
        residuals = residuals[:, -num_rows:]
        return -log_p[chosen].sum(), residuals.T.astype(np.float32) @ x, residuals.sum(axis=0)

    def mean_loss(parameters: Doubles) -> tuple[float, Doubles]:
        """Of all embeddings, with the penalty; and its gradient."""
        nonlocal passes
        passes += 1
        on_pass(passes)
        both = parameters.reshape(num_rows, -1)
        weights, biases = both[:, :-1].astype(np.float32), both[:, -1].astype(np.float32)
        loss, gradient = 0.0, np.zeros_like(both)
        for part_loss, by_weights, by_biases in pool.map(
            lambda begin: part(begin, weights, biases), range(0, len(embeddings), CHUNK)
        ):
            loss += part_loss
            gradient[:, :-1] += by_weights
            gradient[:, -1] += by_biases
        gradient /= len(labels)
        gradient[:, :-1] += penalty * both[:, :-1]
        return loss / len(labels) + penalty / 2 * float((both[:, :-1] ** 2).sum()), gradient.ravel()

    weights = first.coef_ * scaler.scale_ / start["scaler"].scale_
    biases = first.intercept_ + first.coef_ @ ((scaler.mean_ - start["scaler"].mean_) / start["scaler"].scale_)
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        found = minimize(
            mean_loss,
            np.column_stack([weights, biases]).ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxfun": MAX_PASSES, "maxiter": MAX_PASSES, "gtol": tolerance, "ftol": 64 * np.finfo(float).eps},
        )
    both = found.x.reshape(num_rows, -1)
    classifier = clone(first)
    classifier.classes_, classifier.coef_, classifier.intercept_ = first.classes_, both[:, :-1], both[:, -1]
    remarks = []
    if (left := float(np.abs(found.jac).max())) > tolerance:
        remarks.append(
            f"after {passes} passes the head was not quite at its optimum: gradient {left:.2g}, not {tolerance:g}"
        )
    return Streamed(Pipeline([("scaler", scaler), ("classifier", classifier)]), tuple(remarks))
