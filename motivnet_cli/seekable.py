"""What files whose bytes come from elsewhere have in common: a size, and a position that may be moved."""

from __future__ import annotations

import io


class SeekableFile(io.RawIOBase):
    """A file to be read of `size` bytes; `readinto` is to be given, and moves `_position`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence] + offset
        if position < 0:
            raise ValueError(f"{position} is before the file's beginning")
        self._position = position
        return position
