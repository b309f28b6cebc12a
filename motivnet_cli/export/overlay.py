"""Pictures and videos with their predictions drawn on them, in files of their own.

Rows are streamed input by input: of what grows with the table, only names are held. This module decides which inputs
are drawn, from which files and into which; how a face is drawn is known by `drawing`, and a video by `overlay_video`.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from PIL import Image

from motivnet_cli.config import MAX_PIXELS, LoaderConfig, VideoConfig, check_part
from motivnet_cli.engine.picture_reader import PictureReader
from motivnet_cli.errors import ConfigError, InputError
from motivnet_cli.export.chosen_inputs import ChosenInputs, names_in
from motivnet_cli.export.drawing import draw_faces, drawn_faces, enlarged
from motivnet_cli.export.local_files import LocalFiles, sentence_on
from motivnet_cli.export.overlay_places import PNG_SUFFIXES, MirroredFolder, OneFile, overlay_marker, whole
from motivnet_cli.export.overlay_video import draw_video
from motivnet_cli.export.rows import (
    DETECTION_COLUMNS,
    POSITION_COLUMNS,
    emotion_columns,
    inputs_with_faces,
)
from motivnet_cli.export.source import Source
from motivnet_cli.inputs.archive import Archive
from motivnet_cli.inputs.names import kind_of, suffix_of
from motivnet_cli.inputs.pillow import decoding_settings
from motivnet_cli.records import BOX_COLUMNS, PHASE, SIZE_COLUMNS, Problem, Progress, Stopped, never, no_progress
from motivnet_cli.remote.urls import local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from motivnet_cli.export.local_files import Absence
    from motivnet_cli.export.rows import FaceRow
    from motivnet_cli.export.source import InputRow
    from motivnet_cli.inputs.archive import Member

log = logging.getLogger(__name__)

MAX_LISTED = 20
"""Inputs that could not be drawn, of which a summary says why."""
MAX_THREADS = 4
"""Pictures that are drawn at once, each of which may take a gigabyte."""
_NEEDED = ("frame", "time_s", "face", *BOX_COLUMNS)
_SETTINGS = {"JPEG": {"quality": 92, "subsampling": 0}, "PNG": {"compress_level": 4}}
"""Of Pillow's encoders: colours are not reduced, since thin lines and letters live on them."""


class Failure(NamedTuple):
    """An input that is here and could not be drawn."""

    input: str
    problem: Problem


class Remark(NamedTuple):
    """What is missing of an input that was drawn."""

    input: str
    sentence: str


@dataclass(slots=True, kw_only=True)
class Overlays:
    """What an overlay came to."""

    written: str
    """The file or folder."""
    pictures: int = 0
    videos: int = 0
    """Files that were written."""
    frames: int = 0
    """Of the videos."""
    faces: int = 0
    """Rows that were drawn, each on one picture, or on one frame of a video or more."""
    faces_without_box: int = 0
    """Rows that could not be drawn."""
    earlier: int = 0
    """Files that an earlier start of the same export has written."""
    absences: Counter[Absence] = field(default_factory=Counter)
    """Inputs without a file that could be drawn on, by reason."""
    failed: int = 0
    """Inputs that are here and could not be drawn."""
    unread: int = 0
    """Inputs that the run could not read, so that there is nothing to draw."""
    failures: list[Failure] = field(default_factory=list)
    """The first MAX_LISTED that failed."""
    remarks: list[Remark] = field(default_factory=list)
    """What is missing of files that were written, the first MAX_LISTED."""
    stopped: bool = False

    @property
    def drawn(self) -> int:
        return self.pictures + self.videos

    @property
    def not_found(self) -> str:
        """What was not there, and the way on; empty where nothing is amiss."""
        return sentence_on(self.absences, self.asked)

    @property
    def asked(self) -> int:
        """Inputs that were looked at so far."""
        return self.drawn + self.earlier + self.failed + self.absences.total()

    def add_faces(self, drawn: int, without_box: int) -> None:
        self.faces += drawn
        self.faces_without_box += without_box

    def fail(self, name: str, problem: Problem) -> None:
        self.failed += 1
        if len(self.failures) < MAX_LISTED:
            self.failures.append(Failure(name, problem))

    def remark(self, name: str, sentences: Iterable[str]) -> None:
        self.remarks += [Remark(name, each) for each in sentences][: MAX_LISTED - len(self.remarks)]


def write_overlays(
    predictions: str,
    out: str,
    inputs: Sequence[str] = (),
    *,
    where: str | None = None,
    images_from: str | None = None,
    bars: bool = True,
    start_s: float = 0.0,
    end_s: float | None = None,
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[Progress], None] = no_progress,
    stop: Callable[[], bool] = never,
) -> Overlays:
    """Draw the faces of a table on the pictures and videos that they are of.

    Pictures are upright; a JPEG stays a JPEG and a PNG a PNG, of other formats those without loss become PNG and the
    rest JPEG. Videos become MP4, H.264 with their sound (see `overlay_video.draw_video`). Each file appears whole or
    not at all. An export that ended early goes on where it ended when it is asked for again.

    Args:
        predictions: An output of `annotate`, or a table like it.
        out: A folder, in which the names of the inputs are mirrored; or the one file to write, by its ending.
        inputs: Only these: files, of which the rows are those whose `input` is this path or its end, the longest of
            several, or else the only one with its file name; or names as the column `input` has them. None takes all.
        where: A condition in SQL on the columns of a row: only such faces are drawn, on the inputs that have any.
        images_from: Where the files are now, if they have moved (see `LocalFiles`).
        bars: Show the three highest probabilities of each face.
        start_s: Of videos, the part that is written, in seconds as players show them.
        end_s: Its end.
        overwrite: Replace the file, or what an earlier export made of the folder.
        max_pixels: Pictures, and videos with frames, that are larger fail.
        progress: Called after every input.
        stop: Asked now and then; once it says so, what was begun is left out.

    Raises:
        ConfigError: Options or the table do not fit, or not one input could be drawn.
        OSError: A file cannot be written.
    """
    predictions, out = local_path(predictions), local_path(out)
    check_part(start_s, end_s)
    source = Source(predictions, where=where, embeddings=False)
    if missing := [name for name in _NEEDED if name not in source.schema.names]:
        raise ConfigError(f"{predictions!r} has no column {missing[0]!r}: an overlay needs boxes and frames")
    chosen = ChosenInputs(source, [local_path(each) for each in inputs]) if inputs else None
    settings = {"inputs": list(inputs), "where": where, "bars": bars, "start_s": start_s, "end_s": end_s}
    reads = [predictions, *source.files_named]
    result = Overlays(written=out)
    place: OneFile | MirroredFolder
    if kind_of(out) in ("image", "video") and not Path(out).is_dir():
        if chosen is None and len(set(itertools.islice(names_in(source), 2))) != 1:
            raise ConfigError(
                f"--out {out!r} is one file, and {predictions!r} is of several inputs: name the one to draw, or give "
                "--out a folder"
            )
        place = OneFile(Path(out), reads, overwrite=overwrite)
    else:
        place = MirroredFolder(Path(out), reads, overlay_marker(source, settings), overwrite=overwrite)
    drawing = _Drawing(
        source, place, chosen, LocalFiles(source, images_from), result,
        _Look(bars=bars, start_s=start_s, end_s=end_s, max_pixels=max_pixels), progress, stop,
    )  # fmt: skip
    with decoding_settings():
        drawing.run()
    if not result.drawn + result.earlier and not result.stopped:
        _raise_nothing_drawn(result, predictions)
    return result


def _raise_nothing_drawn(result: Overlays, predictions: str) -> NoReturn:
    if result.failures:
        name, problem = result.failures[0]
        raise ConfigError(f"{name!r} cannot be drawn: {problem.message}")
    if result.not_found:
        raise ConfigError(result.not_found)
    raise ConfigError(f"{predictions!r} has no picture and no video with such a face, so nothing was drawn")


class _Look(NamedTuple):
    """How things are drawn."""

    bars: bool
    start_s: float
    end_s: float | None
    max_pixels: int


# ---- drawing ----------------------------------------------------------------------------------------------


class _DrawnPicture(NamedTuple):
    """What became of a picture."""

    input: str
    faces: int = 0
    faces_without_box: int = 0
    problem: Problem | None = None


class _Drawing:
    """One pass over the table."""

    def __init__(
        self,
        source: Source,
        place: OneFile | MirroredFolder,
        chosen: ChosenInputs | None,
        files: LocalFiles,
        result: Overlays,
        look: _Look,
        progress: Callable[[Progress], None],
        stop: Callable[[], bool],
    ) -> None:
        self._source = source
        self._place = place
        self._chosen = chosen
        self._files = files
        self._result = result
        self._look = look
        self._progress = progress
        self._stop = stop
        self._archives = _Archives()
        self._reader = PictureReader(VideoConfig(), LoaderConfig(max_pixels=look.max_pixels))
        self._began = time.monotonic()
        self._total = 0

    def run(self) -> None:
        """Draw what is wanted, several pictures at a time, up to where the stop callback says so."""
        for info in self._source.inputs():
            if info.kind in ("image", "video") and (self._chosen is None or info.input in self._chosen):
                self._result.unread += info.status == "failed"
                self._total += info.status != "failed"
        num_threads = min(os.cpu_count() or 1, MAX_THREADS)
        pending: deque[Future[_DrawnPicture]] = deque()
        pool = ThreadPoolExecutor(num_threads, "draw")
        with closing(self._reader):
            try:
                for draw in self._draws():
                    pending.append(pool.submit(draw))
                    if len(pending) > num_threads:
                        self._take(pending.popleft())
            except Stopped:
                self._result.stopped = True
            finally:
                pool.shutdown(cancel_futures=self._result.stopped)
        for each in pending:
            if not each.cancelled():
                self._take(each)
        self._report()

    def _draws(self) -> Iterator[Callable[[], _DrawnPicture]]:
        """What draws each picture; videos are drawn on the way.

        Raises:
            Stopped: The stop callback has said so.
        """
        for info, faces in self._wanted():
            if self._stop():
                raise Stopped
            path = self._place.place_of(info)
            if self._place.is_there(path):
                self._result.earlier += 1
            else:
                yield from self._draws_of(info, faces, path)
            self._report()

    def _draws_of(self, info: InputRow, faces: Iterable[FaceRow], path: Path) -> Iterator[Callable[[], _DrawnPicture]]:
        try:
            content = self._content_of(info)
            if content is None:
                self._result.absences[self._files.absence_of(info) or "missing"] += 1
                return
            self._place.begin(path)
            if info.kind == "video":
                self._draw_video(info, Path(os.fsdecode(content)), faces, path)
            else:
                yield partial(self._draw_picture, info, content, list(faces), path)
        except InputError as error:
            self._result.fail(info.input, Problem.of(error))

    def _wanted(self) -> Iterator[tuple[InputRow, Iterable[FaceRow]]]:
        """The inputs to draw, each with its faces."""
        source = self._source
        optional = (*POSITION_COLUMNS, *DETECTION_COLUMNS, *SIZE_COLUMNS, *source.classes)
        names = dict.fromkeys(("input", *_NEEDED, *emotion_columns(source), *optional))
        seen: set[str] = set()
        for info, faces in inputs_with_faces(source, [name for name in names if name in source.schema.names]):
            if not source.has_inputs:
                if info.input in seen:
                    raise ConfigError(
                        f"the rows of {info.input!r} are not together; sort the table by its column input"
                    )
                seen.add(info.input)
            if self._chosen is not None and info.input not in self._chosen:
                continue
            first = next(faces, None)
            if first is not None:
                yield info, itertools.chain([first], faces)
            elif not source.is_filtered:
                yield info, ()

    def _content_of(self, info: InputRow) -> str | bytes | None:
        """The path of an input, or what a member of an archive holds; None where there is neither.

        Raises:
            InputError: The archive cannot be read, or holds no such member.
        """
        given = None if self._chosen is None else self._chosen.file_of(info.input)
        if path := given or self._files.find(info):
            self._place.check([str(path)])
            return str(path)
        if path := self._files.find_archive(info):
            self._place.check([str(path)])
            return self._archives.read(path, info)
        return None

    def _draw_video(self, info: InputRow, found: Path, faces: Iterable[FaceRow], path: Path) -> None:
        look = self._look
        log.info("drawing %s", info.input, extra=PHASE)
        with whole(path) as temporary:
            drawn = draw_video(
                found,
                faces,
                self._source.sampling,
                temporary,
                bars=look.bars,
                start_s=look.start_s,
                end_s=look.end_s,
                max_pixels=look.max_pixels,
                stop=self._stop,
            )
        self._result.videos += 1
        self._result.frames += drawn.frames
        self._result.add_faces(drawn.faces, drawn.faces_without_box)
        self._result.remark(info.input, drawn.remarks)

    def _draw_picture(self, info: InputRow, content: str | bytes, rows: list[FaceRow], path: Path) -> _DrawnPicture:
        """Draw one picture; many threads may at once."""
        try:
            image = self._picture(info, content, rows)
            faces, num_without_box = drawn_faces(rows)
            image, faces = enlarged(image, faces)
            draw_faces(image, faces, bars=self._look.bars)
        except InputError as error:
            return _DrawnPicture(info.input, problem=Problem.of(error))
        except MemoryError:
            problem = Problem("out_of_memory", "there is not enough memory for the picture")
            return _DrawnPicture(info.input, problem=problem)
        form = "PNG" if suffix_of(path.name) in PNG_SUFFIXES else "JPEG"
        with whole(path) as temporary:
            image.save(temporary, form, **_SETTINGS[form])
        return _DrawnPicture(info.input, len(faces), num_without_box)

    def _take(self, drawing: Future[_DrawnPicture]) -> None:
        drawn = drawing.result()
        if drawn.problem is not None:
            self._result.fail(drawn.input, drawn.problem)
            return
        self._result.pictures += 1
        self._result.add_faces(drawn.faces, drawn.faces_without_box)

    def _picture(self, info: InputRow, content: str | bytes, rows: Sequence[FaceRow]) -> Image.Image:
        """The upright picture.

        Args:
            content: Its path, or what a member of an archive holds.

        Raises:
            InputError: It cannot be read, or is not the one that the rows are of.
        """
        frame = self._reader.decode(content) if isinstance(content, str) else self._reader.decode_bytes(content)
        image, size = Image.fromarray(frame.rgb), _size_in_run(info, rows)
        if size is not None and size != image.size:
            before, now = (f"{width} x {height}" for width, height in (size, image.size))
            raise InputError("changed", f"it had {before} pixels in the run and has {now} now")
        return image

    def _report(self) -> None:
        result = self._result
        self._progress(
            Progress(
                inputs_total=max(self._total, result.asked),
                inputs_done=result.asked,
                inputs_resumed=result.earlier,
                faces=result.faces,
                failed=result.failed,
                seconds=time.monotonic() - self._began,
            )
        )


def _size_in_run(info: InputRow, rows: Sequence[FaceRow]) -> tuple[int, int] | None:
    """Width and height in pixels that the run saw, where they are known."""
    if rows and rows[0].picture_size is not None:
        return rows[0].picture_size
    return None if info.width is None or info.height is None else (info.width, info.height)


class _Archives:
    """Reads members of archives in the order in which an archive has them, one archive at a time."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._members: Iterator[Member] = iter(())

    def read(self, path: Path, info: InputRow) -> bytes:
        """The content of a member.

        Raises:
            InputError: It cannot be read, or is not in the archive.
        """
        if path != self._path:
            self._path, self._members = path, iter(Archive(str(path)))
        wanted = info.input.removeprefix(f"{info.archive}/")
        for member in self._members:
            if member.name == wanted:
                if member.problem is not None:
                    raise InputError(member.problem.error_type, member.problem.message)
                return member.data
        raise InputError("changed", f"the archive {str(path)!r} holds no such picture any more")
