"""Pictures and frames of videos, read by the settings of one run."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from motivnet_cli.inputs.content import is_in_fragments
from motivnet_cli.inputs.decode import decode, decode_bytes
from motivnet_cli.inputs.picture_processes import PictureProcesses
from motivnet_cli.records import never
from motivnet_cli.remote.files import local_copy, read_bytes
from motivnet_cli.remote.ranges import ranges_or_copy
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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

    @contextlib.contextmanager
    def opened_video(
        self, path: str, *, skip_frames: int = 0, every_frame: bool = False, stop: Callable[[], bool] = never
    ) -> Iterator[VideoReader]:
        """The frames of a video that the settings ask for, or every one, but for the first `skip_frames`.

        Args:
            path: A file or a URL, of which parts are read, or a temporary copy.
            stop: Asked now and then.

        Raises:
            InputError: It cannot be opened.
            Stopped: `stop` has said so.
        """
        from motivnet_cli.inputs.video import VideoReader

        video = replace(self._video, fps=None, every=None) if every_frame else self._video
        # decord opens files by their name
        readable = local_copy if video.backend == "decord" else partial(ranges_or_copy, needs_copy=is_in_fragments)
        with readable(path, stop=stop, allow_private=self.allow_private) as source:
            yield VideoReader(
                source,
                video,
                max_pixels=self._max_pixels,
                skip_frames=skip_frames,
                timeout_s=self._timeout_s,
                stop=stop,
            )
