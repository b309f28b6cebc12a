"""Faces of an output, shown again in their pictures: where the table has them, without a detector.

Every input is read once, by several threads. A face whose picture is gone, or is not the one that the run read, is not
shown but counted, by reasons.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from motivnet_cli.config import LoaderConfig, VideoConfig
from motivnet_cli.engine.found_again import is_changed, pictures_of, recorded
from motivnet_cli.engine.picture_reader import PictureReader
from motivnet_cli.errors import InputError
from motivnet_cli.inputs.cells import CellReader
from motivnet_cli.inputs.pillow import decoding_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from motivnet_cli.errors import ErrorType
    from motivnet_cli.output.verify_sample import SampledInput
    from motivnet_cli.records import Item

_NOT_FOUND = "files that were not found"
_GONE = {
    **dict.fromkeys(("not_found", "broken_link", "unreachable"), _NOT_FOUND),
    "changed": "files that have changed",
}
"""Why faces are left out, by the error types of inputs that are no longer what they were."""


class LeftOut(NamedTuple):
    """Faces that were not shown."""

    counts: dict[str, int]
    """By reason."""
    examples: dict[str, str]
    """By reason, an input that has such faces."""

    @property
    def remarks(self) -> list[str]:
        return [
            f"faces left out, of {reason}: {count:,}, such as of {self.examples[reason]!r}"
            for reason, count in self.counts.items()
        ]


class FacesAgain:
    """N faces of an output.

    Args:
        settings: Of the run, as recorded.
        faces: [N], in the order of the output, of which `input`, `frame`, `face_source` and the size of the picture
            matter here.
        inputs: What is known of each input and of the archives that they are in, by their names.
        items: Those of the inputs that are found, by their names; of members of an archive that of the archive.
    """

    def __init__(
        self,
        settings: Mapping[str, object],
        faces: pl.DataFrame,
        inputs: Mapping[str, SampledInput],
        items: Mapping[str, Item],
    ) -> None:
        self._faces = faces
        self._inputs = inputs
        self._jobs = _jobs_of(faces["input"].to_list(), inputs, items)
        self._reader = PictureReader(
            recorded(VideoConfig, settings, "video"),
            recorded(LoaderConfig, settings, "loader"),
        )
        self._lock = threading.Lock()
        self.is_shown = np.zeros(len(faces), np.bool_)
        """[N], by now."""
        self.num_shown = 0
        self.left_out = LeftOut({}, {})

    @property
    def num_jobs(self) -> int:
        """How many pieces `show` does: inputs, archives, and tables of pictures."""
        return len(self._jobs)

    def show(self, use: Callable[[int, NDArray[np.uint8]], None], *, num_threads: int) -> Iterator[None]:
        """Show every face, and yield after each job; whoever takes no more waits for those that were begun.

        Args:
            use: Called once for each face that is there, by many threads at once, with its number in `faces` and its
                picture: uint8 [H, W, 3], RGB.
        """

        def do(job: _Job) -> None:
            with closing(CellReader()) as cells:
                for item, rows in job.items:
                    reason = _NOT_FOUND if item is None else self._show_item(item, rows, cells, use)
                    self._count(rows, reason)

        pool = ThreadPoolExecutor(num_threads, "faces", initializer=torch.set_num_threads, initargs=(1,))
        with closing(self._reader), decoding_settings():
            try:
                yield from pool.map(do, self._jobs)
            finally:
                pool.shutdown(cancel_futures=True)

    def _count(self, rows: Sequence[int], reason: str) -> None:
        left = [row for row in rows if not self.is_shown[row]]
        with self._lock:
            self.num_shown += len(rows) - len(left)
            if left:
                counts, examples = self.left_out
                counts[reason] = counts.get(reason, 0) + len(left)
                examples.setdefault(reason, self._faces["input"][left[0]])

    def _show_item(
        self, item: Item, rows: Sequence[int], cells: CellReader, use: Callable[[int, NDArray[np.uint8]], None]
    ) -> str:
        """Show the faces of an item; returns what is wrong with it where some could not be shown."""
        faces = self._faces[rows].select("input", "frame", "face_source", "picture_height", "picture_width")
        waiting: dict[tuple[str, int | None], list[tuple[int, tuple[int, int]]]] = defaultdict(list)
        for row, (name, frame, _, height, width) in zip(rows, faces.iter_rows(), strict=True):
            waiting[name, frame].append((row, (height, width)))
        names = {name for name, _ in waiting}
        about = self._inputs[faces["input"][0]]
        if item.problem is not None:
            return _reason_of(item.problem.error_type)
        try:
            if is_changed(item, self._inputs.get(about.archive or about.name, about)):
                return _GONE["changed"]
        except OSError:
            return _NOT_FOUND
        try:
            every = "given" in faces["face_source"]
            for name, frame, _ in pictures_of(item, names, self._reader, cells, every_frame=every):
                for row, size in waiting.pop((name, frame.index), []):
                    if frame.rgb.shape[:2] == size:
                        use(row, frame.rgb)
                        self.is_shown[row] = True
                if not waiting:
                    break
        except InputError as error:
            return _reason_of(error.error_type)
        return _GONE["changed"]


def _reason_of(error_type: ErrorType) -> str:
    return _GONE.get(error_type, f"files that cannot be read ({error_type})")


class _Job(NamedTuple):
    """What one thread does at a time: an item, or all pictures of one table, which is read in its order."""

    items: tuple[tuple[Item | None, list[int]], ...]
    """Each with its rows; None where it is not found."""


def _jobs_of(names: Sequence[str], inputs: Mapping[str, SampledInput], items: Mapping[str, Item]) -> list[_Job]:
    """Every row in one of them, in the order of the rows.

    Args:
        names: Of each row's input.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        rows_of[inputs[name].archive or name].append(row)
    by_table: dict[str, list[tuple[Item | None, list[int]]]] = defaultdict(list)
    for name, rows in rows_of.items():
        item = items.get(name)
        table = item.path if item is not None and item.row is not None else ""
        by_table[f"{table}\0{'' if table else name}"].append((item, rows))
    return [_Job(tuple(each)) for each in by_table.values()]
