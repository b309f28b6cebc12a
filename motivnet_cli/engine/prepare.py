"""One picture, frame or archive member -> its faces as the network takes them: decode, find faces, crop.

Where a benchmark asks for it, the picture is corrupted in between, and its faces are found in what is left of it.

Several threads may use one `Preparer` at once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from motivnet_cli.engine.picture_reader import PictureReader
from motivnet_cli.errors import InputError
from motivnet_cli.faces.corrupt import BY_FACES, corrupt
from motivnet_cli.faces.crop import Cropping, placed
from motivnet_cli.faces.find import find_faces, load_detector
from motivnet_cli.faces.quality import quality_of
from motivnet_cli.faces.select import select
from motivnet_cli.records import Crop, Face, InputReport, LeftOut, Position, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Required

    from motivnet_cli.config import FaceConfig, LoaderConfig, VideoConfig
    from motivnet_cli.faces.crop import NetworkInput
    from motivnet_cli.inputs.archive import Member
    from motivnet_cli.records import Frame, GivenFace, Item, Kept, Kind

MAX_READY_FACES = 32
"""Faces of one picture that are cropped ahead; a crowd's others are cropped as the batch takes them."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """The faces of a picture, frame or member, the first of them cropped, and the report if its input ends with it."""

    crops: Iterable[Crop] = ()
    report: InputReport | None = None
    num_frames: int = 0
    num_faces: int = 0
    num_lost: int = 0
    """As `Cursor.num_lost`."""
    left_out: LeftOut = LeftOut()
    num_bytes: int = 0
    """Memory that it holds."""


class Found(NamedTuple):
    """The faces of a picture from left to right, each with what passes through with it."""

    faces: list[tuple[Face, Kept]]
    left_out: LeftOut = LeftOut()
    """Of faces that were found and that the settings do not keep."""


class Preparer(PictureReader):
    """What the reading threads do, for one model and one set of settings.

    Args:
        network: Its recipe and input size say what a crop is.
        faces: How faces are found and cut.
        video: Which frames of a video are taken.
        loader: Of it, all but `threads` matters here.
    """

    def __init__(self, network: NetworkInput, faces: FaceConfig, video: VideoConfig, loader: LoaderConfig) -> None:
        super().__init__(video, loader)
        self._faces = faces
        self._cropping = Cropping.of(network, faces)
        self.corruption = loader.corruption
        """What is done to each picture before faces are found in it."""
        self._detector = (
            None if faces.mode == "whole" else load_detector(faces.detector, detection_size=faces.detection_size)
        )

    # ---- whole pieces of an input -------------------------------------------------------------------------

    def image(self, item: Item, data: bytes | None = None) -> Prepared:
        """A picture that is an input by itself, and its content where that is no file of its own."""
        about = about_item(item)
        try:
            frame = self.content(item, data)
            return self._picture(about, frame, given=item.given, kept=item.kept)
        except InputError as error:
            return Prepared(report=_failed(about, Problem(error.error_type, str(error))))

    def member(self, item: Item, member: Member) -> Prepared:
        """A picture of the archive `item`."""
        about: About = {
            "position": Position(item.index, member.number),
            "input": f"{item.input}/{member.name}",
            "kind": "image",
            "archive": item.input,
        }
        if member.problem:
            return Prepared(report=_failed(about, member.problem), num_frames=1)
        try:
            frame = self.decode_bytes(member.data)
            return self._picture(about, frame, kept=item.kept)
        except InputError as error:
            return Prepared(report=_failed(about, Problem(error.error_type, str(error))), num_frames=1)

    def frame(self, item: Item, step: int, frame: Frame, given: tuple[GivenFace, ...] | None = None) -> Prepared:
        """A sampled frame of the video `item`, the `step`-th from 0, with the faces that are given for it.

        One in which the detector gives no usable numbers counts as a face that is lost.
        """
        try:
            frame = self.corrupted(frame, given)
            found = self.find(frame, given)
        except InputError:
            return Prepared(num_frames=1, num_lost=1)
        return self._cropped(Position(item.index, step), item.input, frame, found, item.kept)

    # ---- the steps ----------------------------------------------------------------------------------------

    def content(self, item: Item, data: bytes | None) -> Frame:
        """The picture of an item, whose content is given where that is no file of its own.

        Raises:
            InputError: As `decode`.
        """
        return self.decode(item.path, data)

    @property
    def goes_by_faces(self) -> bool:
        """Whether the pictures are corrupted by the sizes of their faces."""
        return self.corruption is not None and self.corruption[0] in BY_FACES

    def corrupted(self, frame: Frame, given: tuple[GivenFace, ...] | None) -> Frame:
        """A picture after the corruption that the settings name, if any.

        Raises:
            InputError: As `find` and `corrupt`.
        """
        if self.corruption is None:
            return frame
        boxes = [face.box for face, _ in self.find(frame, given).faces] if self.goes_by_faces else []
        return replace(frame, rgb=corrupt(frame.rgb, self.corruption, boxes))

    def find(self, frame: Frame, given: tuple[GivenFace, ...] | None) -> Found:
        """The faces of a picture: as given, else those found that the settings keep.

        Raises:
            InputError: `bad_box`: a given box cannot be in this picture. `bad_prediction`: as `Detector.detect`.
        """
        if given is None:
            in_video = frame.index is not None
            found = find_faces(frame.rgb, self._faces, self._detector, in_video=in_video)
            kept, left_out = select(frame.rgb, found, self._faces)
            return Found([(face, ()) for face in kept], left_out)
        height, width = frame.rgb.shape[:2]
        faces = [(Face(placed(face, height=height, width=width), "given"), face.kept) for face in given]
        return Found(sorted(faces, key=lambda pair: pair[0].box[:2]))

    def crop(self, frame: Frame, face: Face) -> NDArray[np.uint8]:
        """One face as the network takes it: uint8 [3, H, W], RGB, 0 to 255."""
        return self._cropping.crop(frame.rgb, face)

    def _picture(
        self, about: About, frame: Frame, *, given: tuple[GivenFace, ...] | None = None, kept: Kept = ()
    ) -> Prepared:
        frame = self.corrupted(frame, given)
        found = self.find(frame, given)
        height, width = frame.rgb.shape[:2]
        report = InputReport(
            **about,
            status="ok" if found.faces else "no_face",
            num_frames=1,
            num_faces=len(found.faces),
            left_out=found.left_out,
            width=width,
            height=height,
        )
        return self._cropped(about["position"], about["input"], frame, found, kept, report)

    def _cropped(
        self,
        position: Position,
        name: str,
        frame: Frame,
        found: Found,
        kept: Kept,
        report: InputReport | None = None,
    ) -> Prepared:
        size = frame.rgb.shape[1], frame.rgb.shape[0]
        crops = (
            Crop(
                position,
                name,
                face,
                number,
                self.crop(frame, face),
                frame.index,
                frame.time_s,
                own or kept,
                size,
                quality_of(frame.rgb, face),
            )
            for number, (face, own) in enumerate(found.faces)
        )
        ready = list(itertools.islice(crops, MAX_READY_FACES))
        num_bytes = sum(crop.pixels.nbytes for crop in ready)
        num_faces = len(found.faces)
        is_crowd = num_faces > len(ready)
        return Prepared(
            itertools.chain(ready, crops) if is_crowd else ready,
            report,
            num_frames=1,
            num_faces=num_faces,
            left_out=found.left_out,
            num_bytes=num_bytes + is_crowd * frame.rgb.nbytes,
        )


class About(TypedDict, total=False):
    """What a report says of an input before anything is known of its content."""

    position: Required[Position]
    input: Required[str]
    kind: Required[Kind]
    archive: str | None
    size_bytes: int | None
    mtime_ns: int | None
    sha256: str | None


def about_item(item: Item, *, step: int = 0) -> About:
    """What the report of an item begins with; `step` is where in the item it ends."""
    return {
        "position": Position(item.index, step),
        "input": item.input,
        "kind": item.kind,
        "size_bytes": item.size_bytes,
        "mtime_ns": item.mtime_ns,
        "sha256": item.sha256,
    }


def _failed(about: About, problem: Problem) -> InputReport:
    return InputReport(**about, status="failed", problem=problem)
