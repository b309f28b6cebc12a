"""The process that decodes pictures one after the other: a request a line on stdin, pixels into shared memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from motivnet_cli.children import Line, ProtocolError, confine, message_descriptor
from motivnet_cli.errors import InputError
from motivnet_cli.inputs.decode import decode, decode_bytes
from motivnet_cli.inputs.decoder_process import write_whole
from motivnet_cli.inputs.pillow import decoding_settings
from motivnet_cli.records import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

_GRACE_SECONDS = 30
"""Left to the parent, which ends this process when a picture's time is over. Without a parent it ends by itself, if it
computes: one that waits for a disk waits on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureRequest(Line):
    """A picture to decode."""

    path: str | None
    """None where the content lies in the shared memory."""
    num_bytes: int
    """Of that content."""
    max_pixels: int
    memory_bytes: int
    """Memory that the process may take beside what it holds at its start; the first request says it for all."""
    timeout_s: float
    shared: int
    """File descriptor of the shared memory, which the pixels go to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureAnswer(Line):
    """What became of it."""

    problem: Problem | None = None
    height: int = 0
    width: int = 0
    """Of the pixels in the shared memory, uint8 [height, width, 3]."""

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """What `to_line` wrote.

        Raises:
            ProtocolError: It is something else.
        """
        try:
            fields = json.loads(line)
            problem = fields.pop("problem")
            return cls(problem=Problem(**problem) if problem else None, **fields)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ProtocolError(line) from error


def main() -> None:
    is_confined = False
    with decoding_settings():
        for line in sys.stdin.buffer:
            request = PictureRequest.from_line(line)
            if not is_confined:
                confine(request.memory_bytes, dies_with_thread=False)  # threads come and go, and it serves them all
                is_confined = True
            with bounded(request.timeout_s):
                answer = _answer(request)
            os.write(message_descriptor(), answer.to_line())


@contextlib.contextmanager
def bounded(timeout_s: float) -> Iterator[None]:
    """End the process where the block computes for much longer; a job may be suspended, so no clock is asked."""
    signal.setitimer(signal.ITIMER_PROF, (timeout_s + _GRACE_SECONDS) * (os.cpu_count() or 1))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answer(request: PictureRequest) -> PictureAnswer:
    try:
        if request.path is None:
            content = os.pread(request.shared, request.num_bytes, 0)
            rgb = decode_bytes(content, max_pixels=request.max_pixels).rgb
        else:
            rgb = decode(request.path, max_pixels=request.max_pixels).rgb
    except InputError as error:
        return PictureAnswer(problem=Problem.of(error))
    write_whole(request.shared, rgb.data.cast("B"))
    return PictureAnswer(height=rgb.shape[0], width=rgb.shape[1])


if __name__ == "__main__":
    main()
