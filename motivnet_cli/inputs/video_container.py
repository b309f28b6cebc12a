"""Opening a video: its content, from a file or from blocks, its container, and the stream that a player shows."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, BinaryIO, cast

import av

from motivnet_cli.errors import InputError, first_line
from motivnet_cli.inputs.blocks import BlockFile, Blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.video.stream import VideoStream

_DEFAULT, _PICTURES = 0x1, 0x400 | 0x800
"""FFmpeg's AV_DISPOSITION_DEFAULT, ATTACHED_PIC and TIMED_THUMBNAILS."""
_FORMATS_THAT_NAME_FILES = {
    *("hls", "dash", "concat", "imf", "vobsub", "image2", "webm_dash_manifest", "smoothstreaming", "hds"),
    *("sdp", "rtsp", "rtp", "sap", "avisynth", "vapoursynth", "lavfi"),
}
"""What FFmpeg opens besides the file that it is given: whoever made the file would choose which."""
_PLAYLIST_MARKS = (b"#EXTM3U", b"ffconcat", b"# VobSub", b"v=0", b"<?xml", b"<MPD")
"""How files of these formats begin."""


def time_offset_s(container: InputContainer, stream: VideoStream) -> float:
    """How long after the start of its file a stream begins, in seconds; 0 where the file does not say."""
    if stream.start_time is None or container.start_time is None or not stream.time_base:
        return 0.0
    return round(float(stream.start_time * stream.time_base - Fraction(container.start_time, av.time_base)), 6)


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a video: of a file, or of blocks that another process reads."""

    path: str
    """Of blocks, a name alone."""
    blocks: Blocks | None = None

    def open(self) -> BinaryIO:
        """To be read anywhere."""
        if self.blocks:
            return cast("BinaryIO", BlockFile(self.blocks, self.path))
        return open(self.path, "rb")  # noqa: PTH123

    def check(self) -> None:
        """
        Raises:
            InputError: There is no file, or it is empty.
        """
        if self.blocks:
            return
        if not os.path.isfile(self.path):  # noqa: PTH113 - a pipe or device would block
            if os.path.lexists(self.path):
                raise InputError("not_a_file", "something else than a file stands where a video was expected")
            raise InputError("not_found", "there is no such file: check the name, and that its disk is mounted")
        if os.path.getsize(self.path) == 0:  # noqa: PTH202
            raise InputError("empty_file", "the file holds 0 bytes")


@contextlib.contextmanager
def opened_video(content: Content) -> Iterator[InputContainer]:
    try:
        content.check()
        container = _open(content)
    except OSError as error:  # FFmpeg's errors are of this kind too
        if isinstance(error, PermissionError):
            raise InputError("permission_denied", "this user may not read it") from error
        _refuse_playlist(content)
        raise InputError(
            "not_a_video", f"no video that FFmpeg knows, or one without its index: {reason_of(error)}"
        ) from error
    except av.error.PatchWelcomeError as error:
        raise InputError("unsupported", f"FFmpeg does not read such a file: {reason_of(error)}") from error
    except (av.error.FFmpegError, ValueError, LookupError, EOFError) as error:
        _refuse_playlist(content)
        raise InputError("not_a_video", f"no video that FFmpeg can open: {reason_of(error)}") from error
    with container:
        yield container


def _refuse_playlist(content: Content) -> None:
    """Say of a file that was not opened that it is a playlist, if it is one."""
    with contextlib.suppress(OSError), content.open() as file:
        head = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
        if head.startswith(_PLAYLIST_MARKS):
            raise InputError("unsupported", "a playlist, which names other files: these are not opened; give them")


def _open(content: Content) -> InputContainer:
    """Open a video, and no other file: not what a playlist names, be it here or on a network.

    Tags that are not UTF-8 are no reason to refuse it, as PyAV before version 19 does unless asked not to.
    """
    options = {
        "format_whitelist": ",".join(sorted(av.formats_available - _FORMATS_THAT_NAME_FILES)),
        "protocol_whitelist": "file",
    }
    file = content.open() if content.blocks else content.path
    if int(av.__version__.partition(".")[0]) < 19:
        return av.open(file, "r", options=options, metadata_errors="replace")
    return av.open(file, "r", options=options)


def video_of(container: InputContainer) -> VideoStream:
    """The stream that a player shows: the one marked as default, then the largest, then the longest.

    Raises:
        InputError: There is none.
    """
    streams = video_streams(container)
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams if stream.type != "video"}))
        pictures = "pictures" if container.streams.video else ""
        raise InputError("no_video_stream", f"it holds no video, only {kinds or pictures or 'nothing'}")

    def rank(stream: VideoStream) -> tuple[bool, int, int]:
        return bool(stream.disposition.value & _DEFAULT), stream.width * stream.height, stream.duration or 0

    stream = max(streams, key=rank)
    # Slices, not frames: frame threads hide errors, and drop the last frames of a file that is cut short.
    stream.thread_type = "SLICE"
    return stream


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Those with moving pictures: covers and thumbnails are none."""
    return [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition.value & _PICTURES
    ]


def reason_of(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or first_line(error))
