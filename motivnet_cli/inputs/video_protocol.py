"""What `video` and the process that decodes for it (`video_worker`) say to each other, a line of JSON each.

It imports the standard library only: the process has to start in a fraction of a second.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from motivnet_cli.children import Line, ProtocolError
from motivnet_cli.records import Problem

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockAddress:
    """A file that another process reads, block by block (see `blocks`)."""

    descriptor: int
    """Of the socket by which blocks are asked for."""
    size: int
    """Bytes of the file."""
    block_bytes: int
    """Of each block but the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest(Line):
    """One video to decode, and where its frames go."""

    path: str
    """As Python names it: bytes that are not UTF-8 are surrogate escapes."""
    backend: Literal["auto", "pyav", "decord"]
    fps: float | None
    every: int | None
    start_s: float
    end_s: float | None
    """Which frames are taken: see `VideoReader`."""
    skip_frames: int
    """Sampled frames that are decoded past."""
    max_pixels: int
    memory_bytes: int
    """Memory that the process may take beside what it holds at its start."""
    shared: int
    """File descriptor of the shared memory."""
    num_slots: int
    """Frames that it holds at once."""
    blocks: BlockAddress | None = None
    """Where the file's content comes from, if it is none of this machine; `path` is then its name alone."""

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        fields = json.loads(line)
        blocks = fields.pop("blocks")
        return cls(**fields, blocks=BlockAddress(**blocks) if blocks else None)


@dataclass(frozen=True, slots=True)
class SharedFrame:
    """A frame that lies in the shared memory as uint8 [height, width, 3]."""

    number: int
    time_s: float
    height: int
    width: int
    offset: int
    """The byte at which it begins."""


@dataclass(frozen=True, slots=True)
class Alive:
    """Said about once a second while no frame is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoReport:
    """What became of a video; the last message."""

    is_whole: bool
    """False where it broke, or where parts of it could not be decoded."""
    problem: Problem | None
    """Why it is not whole; or, of a whole one, that its container announces another number of frames."""
    num_read: int = 0
    """Frames decoded, sampled or not."""
    width: int | None = None
    height: int | None = None
    """Of the first sampled frame as it is shown: frames of other sizes may follow."""
    time_offset_s: float | None = None
    """How long after the start of the file its video begins, in seconds; None where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundRequest(Line):
    """The sound of a video that is wanted as a file of its own."""

    path: str
    """As in `DecodeRequest`."""
    start_s: float
    end_s: float | None
    """Which part, in seconds from the start of the file."""
    memory_bytes: int
    """As in `DecodeRequest`."""
    shared: int
    """File descriptor of the empty file that it is written to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundReport:
    """What became of the sound of a video."""

    video_offset_s: float | None
    """How long after the start of the file the video begins, in seconds; None where it is not known."""
    has_sound: bool
    """Whether there is any in the wanted part: an MP4 with the sound alone, whose time 0 is the start of the part."""
    problem: Problem | None
    """Why the sound, or the rest of it, is left out."""


Message = SharedFrame | Alive | VideoReport | SoundReport


def to_line(message: Message) -> bytes:
    return json.dumps([type(message).__name__, asdict(message)]).encode() + b"\n"


def from_line(line: bytes) -> Message:
    """What `to_line` wrote.

    Raises:
        ProtocolError: It is something else.
    """
    try:
        kind, fields = json.loads(line)
        if kind == "SharedFrame":
            return SharedFrame(**fields)
        if kind == "Alive":
            return Alive()
        problem = fields.pop("problem")
        problem = Problem(**problem) if problem else None
        if kind == "SoundReport":
            return SoundReport(problem=problem, **fields)
        return VideoReport(problem=problem, **fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProtocolError(line) from error
