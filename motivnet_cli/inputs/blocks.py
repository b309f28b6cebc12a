"""A file that one process reads and another decodes: the second asks for blocks by number, over a socket.

What reads over a network holds credentials, and what decodes a stranger's file should not. The decoding process keeps
KEPT_BLOCKS, the other one has two at most: one on its way, one that is read ahead.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Protocol

from motivnet_cli.errors import InputError
from motivnet_cli.inputs.video_protocol import BlockAddress
from motivnet_cli.seekable import SeekableFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

KEPT_BLOCKS = 8
"""Pictures and sound that lie apart, and an index, are read in turn: what is kept of each is not asked for again."""
JOIN_SECONDS = 3.0
"""How long the end waits for a block that is still read, of a server that says nothing."""
_WAIT_SECONDS = 0.5
_NUMBER, _LENGTH = struct.Struct(">Q"), struct.Struct(">I")


class BlockSource(Protocol):
    """A file of which one thread reads blocks, in any order."""

    name: str
    """What it may be called, with the ending that tells its kind."""
    size: int
    block_bytes: int

    @property
    def num_blocks(self) -> int: ...

    def block(self, number: int) -> bytes: ...


class BlockServer:
    """Gives blocks to a process that asks for them, and reads one ahead of a process that reads on."""

    def __init__(self, source: BlockSource) -> None:
        self._source = source
        self._here, self._there = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="blocks", daemon=True)
        self.failure: BaseException | None = None
        """Why a block that was asked for could not be had; after it there are no more."""
        self.address = BlockAddress(descriptor=self._there.fileno(), size=source.size, block_bytes=source.block_bytes)
        """For the other process, which inherits the descriptor."""

    def begin(self) -> None:
        """The other process has been started."""
        self._there.close()
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._here.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS)
        self._here.close()
        self._there.close()

    def _serve(self) -> None:
        try:
            self._answer()
        except BaseException as error:  # noqa: BLE001 - raised where the decoder's end is noticed
            self.failure = error
        finally:
            with contextlib.suppress(OSError):
                self._here.shutdown(socket.SHUT_RDWR)

    def _answer(self) -> None:
        given: deque[int] = deque(maxlen=KEPT_BLOCKS)
        ahead: tuple[int, bytes] | None = None
        while (number := self._asked()) is not None:
            block = ahead[1] if ahead and ahead[0] == number else self._source.block(number)
            try:
                self._here.sendall(_LENGTH.pack(len(block)) + block)
            except OSError:
                return
            following = number + 1
            known = (*given, ahead[0] if ahead else None)
            if number - 1 in given and following not in known and following < self._source.num_blocks:
                with contextlib.suppress(InputError):  # said when it is asked for
                    ahead = following, self._source.block(following)
            given.append(number)

    def _asked(self) -> int | None:
        """The next block that is wanted; None when the other process is gone, or asks for what is none."""
        asked = bytearray(_NUMBER.size)
        try:
            _receive(self._here, memoryview(asked))
        except OSError:
            return None
        (number,) = _NUMBER.unpack(asked)
        return number if number < self._source.num_blocks else None


class Blocks:
    """The blocks of a file, in the process that decodes; for one thread.

    Args:
        beat: Called about twice a second while a block is waited for.
    """

    def __init__(self, address: BlockAddress, *, beat: Callable[[], None]) -> None:
        self._socket = socket.socket(fileno=address.descriptor)
        self._socket.settimeout(_WAIT_SECONDS)
        self._beat = beat
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self.size = address.size
        self.block_bytes = address.block_bytes

    def block(self, number: int) -> bytes:
        """
        Raises:
            OSError: The other process could not read it.
        """
        if number not in self._kept:
            if len(self._kept) == KEPT_BLOCKS:
                self._kept.popitem(last=False)
            self._socket.sendall(_NUMBER.pack(number))
            (length,) = _LENGTH.unpack(self._receive(_LENGTH.size))
            self._kept[number] = self._receive(length)
        self._kept.move_to_end(number)
        return self._kept[number]

    def _receive(self, count: int) -> bytes:
        received = bytearray(count)
        _receive(self._socket, memoryview(received), beat=self._beat)
        return bytes(received)


class BlockFile(SeekableFile):
    """The blocks as a file of Python; several may have the same blocks.

    Args:
        name: What FFmpeg knows it by; of some formats its ending tells.
    """

    def __init__(self, blocks: Blocks, name: str) -> None:
        super().__init__(blocks.size)
        self._blocks = blocks
        self.name = name

    def readinto(self, buffer: Buffer) -> int:
        """As many bytes as the buffer takes, fewer only at the end."""
        with memoryview(buffer).cast("B") as target:
            done = 0
            while done < len(target) and self._position < self._size:
                number, at = divmod(self._position, self._blocks.block_bytes)
                piece = memoryview(self._blocks.block(number))[at : at + len(target) - done]
                target[done : done + len(piece)] = piece
                done += len(piece)
                self._position += len(piece)
            return done


def _receive(end: socket.socket, target: memoryview, *, beat: Callable[[], None] = lambda: None) -> None:
    """Fill `target`.

    Raises:
        OSError: The other process is gone, or has no more.
    """
    while target:
        try:
            count = end.recv_into(target)
        except TimeoutError:
            beat()
            continue
        if not count:
            raise OSError("there are no more blocks")
        target = target[count:]
