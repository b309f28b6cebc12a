"""Pictures and frames of videos, read by the settings of one run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from motivnet_cli.inputs.decode import decode, decode_bytes
from motivnet_cli.inputs.picture_processes import PictureProcesses
from motivnet_cli.records import never
from motivnet_cli.remote.files import read_bytes
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from motivnet_cli.config import LoaderConfig, VideoConfig
    from motivnet_cli.inputs.video import VideoReader
    from motivnet_cli.records import Frame

MAX_REMOTE_BYTES = 256 << 20
"""A picture behind a URL is read whole, up to this size."""


class PictureReader:
    """Decodes for several threads at once.

    Args:
        video: Which frames of a video are taken.
        loader: How large a picture may be, for how long it is waited for, and from where it may come.
    """

    def __init__(self, video: VideoConfig, loader: LoaderConfig) -> None:
        self._video = video
        self._max_pixels = loader.max_pixels
        self.allow_private = loader.allow_private
        """As in `open_remote`."""
        self._timeout_s = loader.input_timeout_s
        self._processes = PictureProcesses(max_pixels=loader.max_pixels, timeout_s=loader.input_timeout_s)

    def closed(self) -> contextlib.AbstractContextManager[None]:
        """A block in which no picture is decoded by another process: what such a process is doing ends at once."""
        return self._processes.closed()

    def close(self) -> None:
        """End the processes that decode pictures."""
        self._processes.close()

    def decode(self, path: str, data: bytes | None = None) -> Frame:
        """An upright picture from a file or a URL, or from its content.

        Raises:
            InputError: It cannot be read.
        """
        if data is not None:
            return self.decode_bytes(data)
        if is_remote(path):
            content = read_bytes(path, max_bytes=MAX_REMOTE_BYTES, allow_private=self.allow_private)
            return self.decode_bytes(content)
        return decode(path, max_pixels=self._max_pixels, apart=self._processes.decode)

    def decode_bytes(self, data: bytes) -> Frame:
        """An upright picture from its content.

        Raises:
            InputError: It cannot be read.
        """
        return decode_bytes(data, max_pixels=self._max_pixels, apart=self._processes.decode)

    def open_video(
        self, path: str, *, skip_frames: int, every_frame: bool = False, stop: Callable[[], bool] = never
    ) -> VideoReader:
        """The frames of a video that the settings ask for, or every one, but for the first `skip_frames`.

        Raises:
            InputError: It cannot be opened.
        """
        from motivnet_cli.inputs.video import VideoReader

        video = replace(self._video, fps=None, every=None) if every_frame else self._video
        return VideoReader(
            path,
            video,
            max_pixels=self._max_pixels,
            skip_frames=skip_frames,
            timeout_s=self._timeout_s,
            stop=stop,
        )
