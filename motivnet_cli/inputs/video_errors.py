"""What FFmpeg's decoders report of frames that they give all the same: they say it in the log alone.

Damaged packets mostly decode: the decoder patches what is missing from older frames, and returns no error. Some of the
messages mean just that; of others a frame may be sound, as cameras write streams that are not quite to the standard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import av

from motivnet_cli.records import Problem

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from motivnet_cli.inputs.video_timeline import Placed

_PATCHED = (
    *("error while decoding MB", "Error at MB", "concealing", "Warning MVs not available", "error y="),
    *("Error constructing the frame RPS", "Could not find ref with POC", "Missing reference picture"),
)
"""How messages begin that speak of a frame of which a part was made up: did not decode, or lacks its reference."""


class DecoderErrors:
    """Listens to the decoder of a stream; PyAV keeps the last error of the log, and how many there were."""

    def __init__(self, stream: VideoStream) -> None:
        self._codec = stream.codec_context.codec.name
        self._num_before = 0
        self._messages: dict[int, str] = {}
        """By the presentation time of the packet, until its frame has come."""
        self._num_frames = 0
        self._first = ""

    def begin(self) -> None:
        """Listen from here on: what came before was said by others."""
        self._num_before, _ = av.logging.get_last_error()

    def tells_of_patches(self, packet: Packet[VideoStream]) -> bool:
        """Whether the packet was decoded to what was not filmed, by what was said since `begin`."""
        num_now, last = av.logging.get_last_error()
        if num_now == self._num_before or last is None or last[1] != self._codec:
            return False
        message = last[2].strip()
        if packet.pts is not None:
            self._messages[packet.pts] = message
        return message.startswith(_PATCHED)

    def note(self, frame: VideoFrame, placed: Placed | None) -> None:
        """Count a frame that came out, if there was an error and it is not left out."""
        if not self._messages or frame.pts is None:
            return
        message = self._messages.pop(frame.pts, None)
        if message and placed:
            self._num_frames += 1
            self._first = self._first or f"frame {placed.number} at {placed.time_s:g} s ({message})"

    def remark(self) -> Problem | None:
        """What is to be said of frames that were not left out."""
        if not self._num_frames:
            return None
        message = f"the decoder reported errors in {self._num_frames} frames that were read, first in {self._first}"
        return Problem("decoder_errors", message)
