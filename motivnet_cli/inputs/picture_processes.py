"""Pictures decoded in processes of their own, which may be lost: those of formats whose decoders are not bounded.

A thread cannot be ended, and a crash in it ends the run. So threads decode only what is known to end soon, and the
rest is decoded here: a crash, a hang or a want of memory costs one picture. A process serves one picture after the
other, and there are never more than threads that ask.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from motivnet_cli.children import ProtocolError
from motivnet_cli.config import INPUT_TIMEOUT_SECONDS
from motivnet_cli.errors import InputError
from motivnet_cli.inputs.decoder_process import DecoderProcess, SharedMemory, stalled
from motivnet_cli.inputs.picture_worker import PictureAnswer, PictureRequest
from motivnet_cli.records import Frame, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

BASE_MEMORY_BYTES, MEMORY_BYTES_A_PIXEL = 1 << 30, 48
"""What a process may take, the second for each of `max_pixels`: 11 GB by default. Four channels of 32 bits before and
after OpenJPEG joins its tiles are 32 bytes a pixel, and Pillow's and our own pixels 7."""


class PictureProcesses:
    """Decodes in processes that it starts when they are needed and keeps until it is closed. For many threads.

    Args:
        max_pixels: As in `decode`.
        timeout_s: A picture that is not decoded in so many seconds is given up.
    """

    def __init__(self, *, max_pixels: int, timeout_s: float = INPUT_TIMEOUT_SECONDS) -> None:
        self._max_pixels = max_pixels
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decode(self, source: str | bytes) -> Frame:
        """As `decode.decode` of a path, or `decode.decode_bytes` of the content of a file.

        Raises:
            InputError: As they do, or `decoder_crash` or `decoder_stall`: its process died, or was ended.
        """
        process = self._take()
        try:
            answer = process.ask(source, max_pixels=self._max_pixels, timeout_s=self._timeout_s)
            if answer.problem:
                raise InputError(answer.problem.error_type, answer.problem.message)
            return Frame(process.pixels(answer))
        except MemoryError as error:
            raise InputError("out_of_memory", "there is not enough memory for the pixels of the file") from error
        finally:
            self._give_back(process)

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """End all processes, and start none while the block runs: what is being decoded, or would be, fails."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            for process in self._busy:
                process.kill()
        for process in idle:
            process.close()
        try:
            yield
        finally:
            with self._lock:
                self._is_closed = False

    def close(self) -> None:
        """End all processes."""
        with self.closed():
            pass

    def _take(self) -> _Process:
        with self._lock:
            self._check_open()
            process = self._idle.pop() if self._idle else None
        process = process or _Process()
        with self._lock:
            self._busy.add(process)
            if self._is_closed:
                process.kill()
        return process

    def _check_open(self) -> None:
        if self._is_closed:
            raise InputError("decoder_crash", "the processes that decode were ended")

    def _give_back(self, process: _Process) -> None:
        with self._lock:
            self._busy.remove(process)
            is_kept = process.is_usable and not self._is_closed
            if is_kept:
                self._idle.append(process)
        if not is_kept:
            process.close()


class _Process:
    """One process with the memory that it shares; used by one thread at a time."""

    def __init__(self) -> None:
        self._memory = SharedMemory("motivnet-picture")
        try:
            self._process = DecoderProcess("motivnet_cli.inputs.picture_worker", descriptors=[self._memory.descriptor])
        except BaseException:
            self._memory.close()
            raise
        self._answers: Iterator[bytes] | None = None
        self.is_usable = True

    def ask(self, source: str | bytes, *, max_pixels: int, timeout_s: float) -> PictureAnswer:
        """Have it decode a picture; after this, it is usable only if it answered."""
        self.is_usable = False
        if isinstance(source, bytes):
            self._memory.put(source)
        request = PictureRequest(
            path=str(Path(source).absolute()) if isinstance(source, str) else None,
            num_bytes=len(source) if isinstance(source, bytes) else 0,
            max_pixels=max_pixels,
            memory_bytes=BASE_MEMORY_BYTES + MEMORY_BYTES_A_PIXEL * max_pixels,
            timeout_s=timeout_s,
            shared=self._memory.descriptor,
        )
        self._process.give(request.to_line())
        self._answers = self._answers or self._process.lines(timeout_s)
        try:
            line = next(self._answers, None)
            if line is None:
                return PictureAnswer(problem=self._process.death())
            answer = PictureAnswer.from_line(line)
        except TimeoutError:
            return PictureAnswer(problem=stalled(timeout_s))
        except ProtocolError as error:
            return PictureAnswer(problem=Problem("decoder_crash", str(error)))
        self.is_usable = True
        if answer.problem:
            self._memory.clear()
        return answer

    def pixels(self, answer: PictureAnswer) -> NDArray[np.uint8]:
        """What it has decoded, uint8 [H, W, 3]."""
        try:
            return self._memory.copy(answer.height, answer.width)
        finally:
            self._memory.clear()  # also where there was no memory for the copy

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.close()
        self._memory.close()
