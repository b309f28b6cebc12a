"""Items -> full batches of face crops: a feeder reads, threads decode, find faces and crop, the network computes.

It does not know what the network says or where rows go. Order is the plan's, whatever the number of threads.
Memory is bounded: at most two batches of pieces (a picture, a frame, an archive's member) and MAX_HELD_BYTES of
them are between the feeder and the network; each thread adds the one picture that it decodes.
"""

from __future__ import annotations

import logging
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import torch

from motivnet_cli.engine.given_frames import GivenFrames
from motivnet_cli.engine.prepare import Prepared, about_item
from motivnet_cli.errors import InputError, one_line
from motivnet_cli.inputs.archive import Archive
from motivnet_cli.inputs.cells import CellReader
from motivnet_cli.inputs.names import status_of, version_of
from motivnet_cli.records import Batch, Crop, Cursor, InputReport, Position, Problem, Stopped
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from motivnet_cli.engine.prepare import Preparer
    from motivnet_cli.inputs.names import Version
    from motivnet_cli.records import Status, Todo

log = logging.getLogger(__name__)

JOIN_SECONDS = 3.0
"""How long the end of a run waits for a read that hangs, of a server that says nothing: nobody asks for it any more."""
MAX_HELD_BYTES = 512 << 20
"""Pictures, frames and crops between the feeder and the network; beyond it nothing new is read."""
MAX_REPORTS = 256
"""A batch goes on its way with this many ended inputs even when faces are rare."""
STOP_POLL_SECONDS = 0.2
"""How soon a stop is noticed while nothing arrives."""


def load(
    todos: Iterable[Todo], preparer: Preparer, *, num_threads: int, batch_size: int, stop: Callable[[], bool]
) -> Generator[Batch, None, None]:
    """Batches of `batch_size` faces (the last may be smaller), each with the inputs that ended in it.

    When `stop()` turns true nothing more is read: what is in hand becomes the last batch.
    """
    budget = Budget(max_pieces=num_threads + 2 * batch_size, max_bytes=MAX_HELD_BYTES)
    feeder = _Feeder(todos, preparer, budget, num_threads=num_threads)
    crops: list[Crop] = []
    finished: list[InputReport] = []
    reached = Cursor(Position(-1))
    try:
        for piece in feeder.pieces(stop):
            prepared = piece.result()
            reached = _at(piece, reached)
            for crop in prepared.crops:
                crops.append(crop)
                if len(crops) == batch_size:
                    yield Batch(tuple(crops), tuple(finished), reached)
                    crops, finished = [], []
            reached = _after(piece, prepared, reached)
            if prepared.report:
                finished.append(_with_totals(prepared.report, reached))
            if piece.ends_item:
                reached = Cursor(Position(piece.position.item + 1))
            budget.release(prepared.num_bytes)
            if len(finished) >= MAX_REPORTS:
                yield Batch(tuple(crops), tuple(finished), reached)
                crops, finished = [], []
        if crops or finished:
            yield Batch(tuple(crops), tuple(finished), reached)
    finally:
        feeder.close()


def _at(piece: _Piece, reached: Cursor) -> Cursor:
    """The point just before a piece: for the first piece of an item, where its todo begins."""
    return reached if reached.position.item == piece.position.item else piece.todo.cursor


def _after(piece: _Piece, prepared: Prepared, reached: Cursor) -> Cursor:
    position = Position(piece.position.item, piece.position.step + 1)
    return Cursor(
        position,
        reached.num_frames + prepared.num_frames,
        reached.num_faces + prepared.num_faces,
        reached.num_lost + prepared.num_lost,
        reached.left_out + prepared.left_out,
    )


def _with_totals(report: InputReport, reached: Cursor) -> InputReport:
    """The report of a video or an archive with what was counted on the way to its end; any other as it is."""
    if report.kind == "archive":
        return replace(report, num_frames=reached.num_frames)
    if report.kind != "video" or report.status == "failed":
        return report
    status = report.status
    if status == "ok" and not reached.num_faces:
        status = "no_face"
    return replace(
        report,
        status=status,
        num_frames=reached.num_frames,
        num_faces=reached.num_faces,
        num_lost=reached.num_lost,
        left_out=reached.left_out,
    )


class Budget:
    """How much may be between the feeder and the network, in pieces and in bytes.

    Who waits for room goes on when a quarter of the pieces is free: woken for each, threads would do little but wake
    each other where pieces are small.
    """

    def __init__(self, *, max_pieces: int, max_bytes: int) -> None:
        self._pieces, self._bytes = 0, 0
        self._max_pieces, self._max_bytes = max_pieces, max_bytes
        self._few_pieces = max_pieces - max_pieces // 4
        self._changed = threading.Condition()
        self._closed = False

    def acquire(self, num_bytes: int) -> bool:
        """Wait until a piece of this size fits; False when the run is over. One piece always fits, however large."""
        with self._changed:
            if not self._fits(num_bytes):
                self._changed.wait_for(lambda: self._closed or (self._has_room and self._fits(num_bytes)))
            self._pieces += 1
            self._bytes += num_bytes
            return not self._closed

    def _fits(self, num_bytes: int) -> bool:
        fits = self._pieces < self._max_pieces and self._bytes + num_bytes <= self._max_bytes
        return fits or self._pieces == 0

    @property
    def _has_room(self) -> bool:
        return self._pieces < self._few_pieces

    def resize(self, before: int, after: int) -> None:
        """A piece in hand has another size now: a picture became its crops."""
        with self._changed:
            self._bytes += after - before
            self._wake()

    def release(self, num_bytes: int) -> None:
        """A piece that had this size in the end is gone."""
        with self._changed:
            self._pieces -= 1
            self._bytes -= num_bytes
            self._wake()

    def _wake(self) -> None:
        if self._has_room:
            self._changed.notify_all()

    def close(self) -> None:
        """The run is over: nobody waits any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """The least that is done at once: a picture, a frame, an archive's member, or the end of a long input."""

    todo: Todo
    position: Position
    ends_item: bool
    result: Callable[[], Prepared]


class _Feeder:
    """Reads items in a thread of its own and hands their pieces, in order, to a pool of threads.

    A fault in it or in the pool is raised where the pieces are taken: it never becomes a silent gap.
    """

    def __init__(self, todos: Iterable[Todo], preparer: Preparer, budget: Budget, *, num_threads: int) -> None:
        self._todos = todos
        self._preparer = preparer
        self._budget = budget
        self._cells = CellReader()
        self._is_over = threading.Event()
        self._pool = ThreadPoolExecutor(num_threads, "prepare", initializer=torch.set_num_threads, initargs=(1,))
        self._ready: queue.SimpleQueue[_Piece | BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._feed, name="feed", daemon=True)
        self._thread.start()

    def pieces(self, stop: Callable[[], bool]) -> Iterator[_Piece]:
        """The pieces in plan order, until the end or the stop."""
        while not stop():
            try:
                piece = self._ready.get(timeout=STOP_POLL_SECONDS)
            except queue.Empty:
                continue
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def close(self) -> None:
        self._is_over.set()
        self._budget.close()
        with self._preparer.closed():  # no picture that is still being decoded is waited for: nobody takes it any more
            self._pool.shutdown(cancel_futures=True)
        self._thread.join(JOIN_SECONDS)

    def _feed(self) -> None:
        try:
            for todo in self._todos:
                for piece in self._read(todo):
                    self._ready.put(piece)
            self._ready.put(None)
        except _RunIsOver:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the thread that takes the pieces
            self._ready.put(error)
        finally:
            self._cells.close()

    def _read(self, todo: Todo) -> Iterator[_Piece]:
        """The pieces of an item."""
        item, step = todo.item, todo.cursor.position.step
        if item.problem:
            yield self._end(todo, InputReport(**about_item(item), status="failed", problem=item.problem))
        elif item.column is not None and item.row is not None:
            yield self._read_cell(todo, item.column, item.row)
        elif item.kind == "image":
            yield self._submit(todo, 0, partial(self._preparer.image, item), ends_item=True)
        elif step and _is_another_file(item.path, (item.size_bytes, item.mtime_ns)):
            yield self._end(todo, InputReport(**about_item(item, step=step), status="partial", problem=_CHANGED))
        elif item.kind == "archive":
            yield from self._read_archive(todo)
        else:
            yield from self._read_video(todo)

    def _read_cell(self, todo: Todo, column: str, row: int) -> _Piece:
        item = todo.item
        try:
            data = self._cells.read(item.path, column, row)
        except InputError as error:
            return self._end(todo, InputReport(**about_item(item), status="failed", problem=Problem.of(error)))
        work = partial(self._preparer.image, item, data)
        return self._submit(todo, 0, work, num_bytes=len(data), ends_item=True)

    def _read_archive(self, todo: Todo) -> Iterator[_Piece]:
        item = todo.item
        before = _version_of(item.path)
        archive = Archive(item.path, skip=todo.cursor.position.step, allow_private=self._preparer.allow_private)
        for member in archive:
            work = partial(self._preparer.member, item, member)
            yield self._submit(todo, member.number, work, num_bytes=len(member.data))
        found = archive.report
        problem = found.problem or (_CHANGED if _is_another_file(item.path, before) else None)
        status: Status = "ok"
        if problem:
            status = "partial" if found.num_members else "failed"
        for what, count in found.skipped.items():
            log.info("%s: passed over %d members: %s", one_line(item.input), count, one_line(what))
        about = about_item(item, step=found.num_members)
        yield self._end(todo, InputReport(**about, status=status, num_frames=found.num_members, problem=problem))

    def _read_video(self, todo: Todo) -> Iterator[_Piece]:
        item, step = todo.item, todo.cursor.position.step
        before = _version_of(item.path)
        status: Status
        try:
            given = GivenFrames(item.given) if item.given else None
            with self._preparer.opened_video(
                item.path, skip_frames=0 if given else step, every_frame=bool(given), stop=self._is_over.is_set
            ) as video:
                frames = ((frame, None) for frame in video) if given is None else islice(given.among(video), step, None)
                for frame, faces in frames:
                    work = partial(self._preparer.frame, item, step, frame, faces)
                    yield self._submit(todo, step, work, num_bytes=frame.rgb.nbytes)
                    step += 1
                found = video.report
                broken = _CHANGED if _is_another_file(item.path, before) else given.problem if given else None
        except Stopped:
            raise _RunIsOver from None
        except InputError as error:
            status = "partial" if step else "failed"  # what an earlier start committed of it stays
            about = about_item(item, step=step)
            yield self._end(todo, InputReport(**about, status=status, problem=Problem.of(error)))
            return
        status = "ok" if found.is_whole and not broken else "partial" if step else "failed"
        reason = broken if broken and found.is_whole else found.problem  # of a whole video, a mere remark
        about = about_item(item, step=step)
        yield self._end(
            todo,
            InputReport(
                **about,
                status=status,
                problem=reason,
                width=found.width,
                height=found.height,
                time_offset_s=found.time_offset_s,
            ),
        )

    def _submit(
        self, todo: Todo, step: int, work: Callable[[], Prepared], *, num_bytes: int = 0, ends_item: bool = False
    ) -> _Piece:
        """One piece, in the pool as soon as the budget allows it.

        Raises:
            _RunIsOver: Nobody takes pieces any more.
        """
        if not self._budget.acquire(num_bytes):
            raise _RunIsOver

        def prepare() -> Prepared:
            prepared = work()
            self._budget.resize(num_bytes, prepared.num_bytes)
            return prepared

        future = self._pool.submit(prepare)
        return _Piece(todo, Position(todo.item.index, step), ends_item, future.result)

    def _end(self, todo: Todo, report: InputReport) -> _Piece:
        """The end of an item of which nothing is left to prepare."""
        prepared = Prepared(report=report)
        return self._submit(todo, report.position.step, lambda: prepared, ends_item=True)


_CHANGED = Problem(
    "changed", "the file was changed or replaced before it was read to its end: its rows may be of either"
)


def _version_of(path: str) -> Version:
    """Size and time of last change of a file; unknown where it is behind a URL, or gone."""
    return (None, None) if is_remote(path) else version_of(status_of(path)[0])


def _is_another_file(path: str, before: Version) -> bool:
    """Whether a file that had this size and time is known to be another one by now."""
    now = _version_of(path)
    return None not in (*now, *before) and now != before


class _RunIsOver(Exception):  # noqa: N818 - a way out of nested generators, not an error
    pass
