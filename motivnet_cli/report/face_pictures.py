"""Small pictures of faces and of frames for a page, cut out of the files that the run read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl
from PIL import Image

from motivnet_cli.engine.machine import usable_cores
from motivnet_cli.export.local_files import sentence_on
from motivnet_cli.export.source import FrameSampling, InputRow
from motivnet_cli.report.pages import cut_to, small_jpeg

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from motivnet_cli.export.local_files import LocalFiles
    from motivnet_cli.export.source import Source
    from motivnet_cli.output.verify_sample import SampledInput
    from motivnet_cli.records import Box, Item

MAX_VIDEO_SECONDS = 600.0
"""How much of a video is decoded for a page, in seconds from its start."""
MAX_VIDEOS = 24
"""That are decoded for a page."""


@dataclass(slots=True, eq=False)
class FacePicture:
    """A face of the table, or the whole picture that it is in, and its pixels once they are found."""

    row: int
    """In the table."""
    input: str
    frame: int | None
    time_s: float | None
    face_source: str | None
    size: tuple[int | None, int | None]
    """Width and height of its picture."""
    box: Box | None
    """None for the whole picture."""
    confidence: float | None = None
    uri: str | None = None
    """A small JPEG as a data URI; None where the picture cannot be had."""


def add_pictures(source: Source, files: LocalFiles, wanted: Sequence[FacePicture]) -> str:
    """Give faces their pictures, as far as the files are here and the ones that the run read.

    Of videos, the first MAX_VIDEO_SECONDS of the first MAX_VIDEOS are looked at.

    Returns:
        What could not be had, as `LocalFiles.sentence` says it.
    """
    chosen = sorted(_within_bounds(wanted), key=lambda each: each.row)
    infos = {each.input: _info_of(each) for each in chosen}
    infos |= {row.input: row for row in source.inputs() if row.input in infos}
    inputs, items = files.items_of(infos.values())
    chosen = [each for each in chosen if (inputs[each.input].archive or each.input) in items]
    if chosen:
        _show(source, chosen, inputs, items)
    has_picture = {each.input for each in chosen if each.uri is not None}
    for name in {each.input for each in chosen} - has_picture:
        files.leave_out(name)
    return sentence_on(files.absences, len(infos))


def _show(
    source: Source, chosen: Sequence[FacePicture], inputs: Mapping[str, SampledInput], items: Mapping[str, Item]
) -> None:
    from motivnet_cli.engine.faces_again import FacesAgain  # torch, which a page without pictures has no use for

    columns = {
        "input": [each.input for each in chosen],
        "frame": [each.frame for each in chosen],
        "face_source": [each.face_source or "" for each in chosen],
        "picture_width": [each.size[0] for each in chosen],
        "picture_height": [each.size[1] for each in chosen],
    }
    sampling = source.sampling or {"fps": None}
    settings = {f"video.{key}": value for key, value in sampling.items() if key in FrameSampling.__annotations__}
    again = FacesAgain(settings, pl.DataFrame(columns), inputs, items)

    def cut(number: int, rgb: NDArray[np.uint8]) -> None:
        chosen[number].uri = small_jpeg(cut_to(Image.fromarray(rgb), chosen[number].box))

    for _ in again.show(cut, num_threads=usable_cores()):
        pass


def _within_bounds(wanted: Iterable[FacePicture]) -> list[FacePicture]:
    videos: set[str] = set()
    kept: list[FacePicture] = []
    for each in wanted:
        if each.frame is not None:
            is_late = each.time_s is None or each.time_s > MAX_VIDEO_SECONDS
            if is_late or (each.input not in videos and len(videos) == MAX_VIDEOS):
                continue
            videos.add(each.input)
        kept.append(each)
    return kept


def _info_of(face: FacePicture) -> InputRow:
    return InputRow(face.input, "image" if face.frame is None else "video", "ok")
