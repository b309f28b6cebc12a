"""Items -> full batches of face crops: a feeder reads, threads decode, find faces and crop, the network computes.

It does not know what the network says or where rows go. Order is the plan's, whatever the number of threads.
Memory is bounded: at most two batches of pieces (a picture, a frame, an archive's member) and HELD_BYTES of
them are between the feeder and the network; each thread adds the one picture that it decodes.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypedDict

import torch

from motivnet_cli.errors import InputError
from motivnet_cli.faces.crop import cut, to_pixels
from motivnet_cli.faces.detect import find_faces, load_detector
from motivnet_cli.inputs.archive import Archive
from motivnet_cli.inputs.decode import decode, decode_bytes
from motivnet_cli.records import Batch, Crop, Cursor, Face, InputReport, Position, Problem
from motivnet_cli.remote.files import local_copy, read_bytes
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Required

    from motivnet_cli.config import FaceConfig, LoaderConfig, VideoConfig
    from motivnet_cli.inputs.archive import Member
    from motivnet_cli.inputs.video import VideoReader
    from motivnet_cli.records import Frame, GivenFace, Item, Kept, Kind, Status, Todo
    from motivnet_cli.weights.load import LoadedModel

log = logging.getLogger(__name__)

HELD_BYTES = 512 << 20
"""Pictures, frames and crops between the feeder and the network; beyond it nothing new is read."""
READY_FACES = 32
"""Faces of one picture that are cropped ahead; a crowd's others are cropped as the batch takes them."""
MAX_REPORTS = 256
"""A batch goes on its way with this many ended inputs even when faces are rare."""
MAX_REMOTE_BYTES = 256 << 20
"""A picture behind a URL is read whole, up to this size."""
STOP_SECONDS = 0.2
"""How soon a stop is noticed while nothing arrives."""


def load(
    todos: Iterable[Todo],
    *,
    model: LoadedModel,
    faces: FaceConfig,
    loader: LoaderConfig,
    num_threads: int,
    batch_size: int,
    video: VideoConfig,
    stop: Callable[[], bool],
) -> Iterator[Batch]:
    """Batches of `batch_size` faces (the last may be smaller), each with the inputs that ended in it.

    When `stop()` turns true nothing more is read: what is in hand becomes the last batch.
    """
    room = _Room(max_pieces=num_threads + 2 * batch_size, max_bytes=HELD_BYTES)
    feeder = _Feeder(todos, _Preparer(model, faces, video, loader), room, num_threads=num_threads)
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
                finished.append(_totalled(prepared.report, reached))
            if piece.ends_item:
                reached = Cursor(Position(piece.position.item + 1))
            room.leave(prepared.num_bytes)
            if len(finished) >= MAX_REPORTS:
                yield Batch(tuple(crops), tuple(finished), reached)
                crops, finished = [], []
        if crops or finished:
            yield Batch(tuple(crops), tuple(finished), reached)
    finally:
        feeder.close()


def _at(piece: _Piece, reached: Cursor) -> Cursor:
    """The point just before a piece: of another item than the last one's, that is where its todo begins."""
    return reached if reached.position.item == piece.position.item else piece.todo.cursor


def _after(piece: _Piece, prepared: _Prepared, reached: Cursor) -> Cursor:
    position = Position(piece.position.item, piece.position.step + 1)
    return Cursor(position, reached.num_frames + prepared.num_frames, reached.num_faces + prepared.num_faces)


def _totalled(report: InputReport, reached: Cursor) -> InputReport:
    """The report of a video or an archive, with what was counted on the way to its end."""
    if report.kind == "archive":
        return replace(report, num_frames=reached.num_frames)
    if report.kind != "video" or report.status == "failed":
        return report
    status = report.status
    if status == "ok" and not reached.num_faces:
        status = "no_face"
    return replace(report, status=status, num_frames=reached.num_frames, num_faces=reached.num_faces)


class _Room:
    """How much may be between the feeder and the network, in pieces and in bytes."""

    def __init__(self, *, max_pieces: int, max_bytes: int) -> None:
        self._pieces, self._bytes = 0, 0
        self._max_pieces, self._max_bytes = max_pieces, max_bytes
        self._changed = threading.Condition()
        self._closed = False

    def enter(self, num_bytes: int) -> bool:
        """Wait for room; False when the run is over. One piece is always let in, however large."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(num_bytes))
            self._pieces += 1
            self._bytes += num_bytes
            return not self._closed

    def _has_room(self, num_bytes: int) -> bool:
        fits = self._pieces < self._max_pieces and self._bytes + num_bytes <= self._max_bytes
        return fits or self._pieces == 0

    def resize(self, before: int, after: int) -> None:
        """A piece became another thing: a picture became its faces."""
        with self._changed:
            self._bytes += after - before
            self._changed.notify_all()

    def leave(self, num_bytes: int) -> None:
        with self._changed:
            self._pieces -= 1
            self._bytes -= num_bytes
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A piece's faces, the first of them cropped, and the input that ended with it, if one did."""

    crops: Iterable[Crop] = ()
    report: InputReport | None = None
    num_frames: int = 0
    num_faces: int = 0
    num_bytes: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """The least that is done at once: a picture, a frame, an archive's member, or the end of a long input."""

    todo: Todo
    position: Position
    ends_item: bool
    result: Callable[[], _Prepared]


class _Feeder:
    """Reads items in a thread of its own and hands their pieces, in order, to a pool of threads.

    A fault in it or in the pool is raised where the pieces are taken: it never becomes a silent gap.
    """

    def __init__(self, todos: Iterable[Todo], prepare: _Preparer, room: _Room, *, num_threads: int) -> None:
        self._todos = todos
        self._prepare = prepare
        self._room = room
        self._pool = ThreadPoolExecutor(num_threads, "prepare", initializer=torch.set_num_threads, initargs=(1,))
        self._ready: queue.SimpleQueue[_Piece | BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._feed, name="feed", daemon=True)
        self._thread.start()

    def pieces(self, stop: Callable[[], bool]) -> Iterator[_Piece]:
        """The pieces in plan order, until the end or the stop."""
        while not stop():
            try:
                piece = self._ready.get(timeout=STOP_SECONDS)
            except queue.Empty:
                continue
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def close(self) -> None:
        self._room.close()
        self._pool.shutdown(cancel_futures=True)
        self._thread.join()

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

    def _read(self, todo: Todo) -> Iterator[_Piece]:
        """The pieces of an item."""
        item = todo.item
        if item.problem:
            yield from self._end(todo, InputReport(**_about(item), status="failed", problem=item.problem))
        elif item.kind == "image":
            yield from self._piece(todo, 0, partial(self._prepare.image, item), ends_item=True)
        elif item.kind == "archive":
            yield from self._read_archive(todo)
        else:
            yield from self._read_video(todo)

    def _read_archive(self, todo: Todo) -> Iterator[_Piece]:
        item = todo.item
        archive = Archive(item.path, skip=todo.cursor.position.step)
        for member in archive:
            work = partial(self._prepare.member, item, member)
            yield from self._piece(todo, member.number, work, num_bytes=len(member.data))
        report = archive.report
        status: Status = "ok"
        if report.problem:
            status = "partial" if report.num_members else "failed"
        for what, count in report.skipped.items():
            log.info("%s: passed over %d members: %s", item.input, count, what)
        ended = InputReport(**_about(item), status=status, num_frames=report.num_members, problem=report.problem)
        yield from self._end(todo, ended, step=report.num_members)

    def _read_video(self, todo: Todo) -> Iterator[_Piece]:
        item, step = todo.item, todo.cursor.position.step
        try:
            with local_copy(item.path) as path:
                video = self._prepare.open_video(path, skip_frames=step)
                for frame in video:
                    work = partial(self._prepare.frame, item, step, frame)
                    yield from self._piece(todo, step, work, num_bytes=frame.rgb.nbytes)
                    step += 1
                found = video.report
        except InputError as error:
            problem = Problem.of(error)
            yield from self._end(todo, InputReport(**_about(item), status="failed", problem=problem), step=step)
            return
        status: Status = "ok" if found.is_whole else "partial" if step else "failed"
        ended = InputReport(
            **_about(item), status=status, problem=found.problem, width=found.width, height=found.height
        )
        yield from self._end(todo, ended, step=step)

    def _piece(
        self,
        todo: Todo,
        step: int,
        work: Callable[[], _Prepared],
        *,
        num_bytes: int = 0,
        ends_item: bool = False,
    ) -> Iterator[_Piece]:
        """One piece, in the pool once there is room for it; none when the run is over."""
        if not self._room.enter(num_bytes):
            raise _RunIsOver

        def measured() -> _Prepared:
            prepared = work()
            self._room.resize(num_bytes, prepared.num_bytes)
            return prepared

        future = self._pool.submit(measured)
        yield _Piece(todo, Position(todo.item.index, step), ends_item, future.result)

    def _end(self, todo: Todo, report: InputReport, *, step: int = 0) -> Iterator[_Piece]:
        """The end of an item that has nothing more to prepare."""
        position = Position(todo.item.index, step)
        ended = _Prepared(report=replace(report, position=position))
        yield from self._piece(todo, step, lambda: ended, ends_item=True)


class _RunIsOver(Exception):  # noqa: N818 - a way out of nested generators, not an error
    pass


class _Preparer:
    """What a thread does to one piece: decode -> find faces -> crop -> the network's pixels."""

    def __init__(self, model: LoadedModel, faces: FaceConfig, video: VideoConfig, loader: LoaderConfig) -> None:
        self._model = model
        self._faces = faces
        self._video = video
        self._margin = model.card.margin if faces.margin is None else faces.margin
        self._max_pixels = loader.max_pixels
        self._detector = (
            None if faces.mode == "whole" else load_detector(faces.detector, detection_size=faces.detection_size)
        )

    def image(self, item: Item) -> _Prepared:
        about = _about(item)
        try:
            if is_remote(item.path):
                frame = decode_bytes(read_bytes(item.path, max_bytes=MAX_REMOTE_BYTES), max_pixels=self._max_pixels)
            else:
                frame = decode(item.path, max_pixels=self._max_pixels)
        except InputError as error:
            return _Prepared(report=_failed(about, Problem.of(error)))
        return self._whole(about, frame, given=item.given, kept=item.kept)

    def member(self, item: Item, member: Member) -> _Prepared:
        about: _About = {
            "position": Position(item.index, member.number),
            "input": f"{item.input}/{member.name}",
            "kind": "image",
            "archive": item.input,
        }
        if member.problem:
            return replace(_Prepared(report=_failed(about, member.problem)), num_frames=1)
        try:
            frame = decode_bytes(member.data, max_pixels=self._max_pixels)
        except InputError as error:
            return replace(_Prepared(report=_failed(about, Problem.of(error))), num_frames=1)
        return self._whole(about, frame, kept=item.kept)

    def frame(self, item: Item, step: int, frame: Frame) -> _Prepared:
        faces = self._find(frame, item.given)
        return self._cropped(Position(item.index, step), item.input, frame, faces, kept=item.kept)

    def open_video(self, path: str, *, skip_frames: int) -> VideoReader:
        from motivnet_cli.inputs.video import VideoReader

        return VideoReader(path, self._video, max_pixels=self._max_pixels, skip_frames=skip_frames)

    def _whole(
        self, about: _About, frame: Frame, *, given: tuple[GivenFace, ...] | None = None, kept: Kept = ()
    ) -> _Prepared:
        """A picture that is an input by itself."""
        faces = self._find(frame, given)
        height, width = frame.rgb.shape[:2]
        status: Status = "ok" if faces else "no_face"
        report = InputReport(**about, status=status, num_frames=1, num_faces=len(faces), width=width, height=height)
        return replace(self._cropped(about["position"], about["input"], frame, faces, kept=kept), report=report)

    def _find(self, frame: Frame, given: tuple[GivenFace, ...] | None) -> list[tuple[Face, Kept]]:
        if given is None:
            return [(face, ()) for face in find_faces(frame.rgb, self._faces, self._detector)]
        return [(Face(each.box, "given"), each.kept) for each in sorted(given, key=lambda each: each.box[:2])]

    def _cropped(
        self, position: Position, name: str, frame: Frame, faces: list[tuple[Face, Kept]], *, kept: Kept
    ) -> _Prepared:
        crops = (
            Crop(position, name, face, number, self._pixels(frame, face), frame.index, frame.time_s, own or kept)
            for number, (face, own) in enumerate(faces)
        )
        ready = list(itertools.islice(crops, READY_FACES))
        num_bytes = sum(crop.pixels.nbytes for crop in ready)
        if len(faces) > len(ready):
            return _Prepared(itertools.chain(ready, crops), None, 1, len(faces), num_bytes + frame.rgb.nbytes)
        return _Prepared(ready, None, 1, len(faces), num_bytes)

    def _pixels(self, frame: Frame, face: Face) -> NDArray[np.uint8]:
        card = self._model.card
        rgb = frame.rgb
        if face.source != "whole":
            rgb = cut(rgb, face.box, margin=self._margin, fill_rgb=card.fill_rgb)
        return to_pixels(
            rgb,
            recipe=self._model.recipe,
            height=self._model.height,
            width=self._model.width,
            fill_rgb=card.fill_rgb,
        )


class _About(TypedDict, total=False):
    """What a report says of an input before anything is known of its content."""

    position: Required[Position]
    input: Required[str]
    kind: Required[Kind]
    archive: str | None
    size_bytes: int | None
    mtime_ns: int | None
    sha256: str | None


def _about(item: Item) -> _About:
    return {
        "position": Position(item.index),
        "input": item.input,
        "kind": item.kind,
        "size_bytes": item.size_bytes,
        "mtime_ns": item.mtime_ns,
        "sha256": item.sha256,
    }


def _failed(about: _About, problem: Problem) -> InputReport:
    return InputReport(**about, status="failed", problem=problem)
