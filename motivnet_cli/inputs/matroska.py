"""Matroska and WebM (RFC 9559), as far as FFmpeg does not tell: where their structure is broken.

FFmpeg passes over what it cannot read up to the next cluster without a word, however many frames that takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_CLUSTER_BYTES = b"\x1f\x43\xb6\x75"
_PARTS = {_CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1941A469, 0x1043A770}
"""What ends a cluster of unknown length: clusters, seek head, info, tracks, cues, tags, attachments, chapters."""
_MAX_HEAD_BYTES = 12
_SEARCH_BYTES = 1 << 20


class Structure:
    """The elements of a file, walked as far as it is read.

    Args:
        opened: Opens the file.
    """

    def __init__(self, opened: Callable[[], BinaryIO]) -> None:
        self._parts = _parts(opened)
        self._walked = 0
        self._pending: list[int] = []
        self.broken: list[int] = []
        """Bytes at which it is no sequence of elements, each up to the next cluster; an early end is none."""

    def breaks_before(self, at: int) -> bool:
        """Whether it is broken between the place asked for before and this one."""
        while self._walked < at:
            self._walked, is_broken = next(self._parts, (at, False))
            if is_broken:
                self.broken.append(self._walked)
                self._pending.append(self._walked)
        num_pending = len(self._pending)
        self._pending = [place for place in self._pending if place >= at]
        return len(self._pending) < num_pending


def _parts(opened: Callable[[], BinaryIO]) -> Iterator[tuple[int, bool]]:
    """Where each part of the segment ends, or is broken, and whether it is."""
    with opened() as file:
        at, end = _enter_segment(file, file.seek(0, 2))
        while at < end:
            at, is_broken = _pass_part(file, at, end)
            yield at, is_broken
            if is_broken:
                at = _next_cluster(file, at + 1) or end


def _enter_segment(file: BinaryIO, num_bytes: int) -> tuple[int, int]:
    """Where the segment's content begins and ends."""
    at = 0
    while at < num_bytes:
        element = _element(file, at)
        if element is None:
            break
        number, start, length = element
        if number == _SEGMENT:
            return start, num_bytes if length is None else min(num_bytes, start + length)
        at = num_bytes if length is None else start + length
    return num_bytes, num_bytes


def _pass_part(file: BinaryIO, at: int, end: int) -> tuple[int, bool]:
    """Where the element of a segment ends that begins there, or where it is broken, and whether it is."""
    element = _element(file, at)
    if element is None:
        return (at, True) if at + _MAX_HEAD_BYTES <= end else (end, False)
    number, start, length = element
    part_end = end if length is None else start + length
    if number != _CLUSTER:
        return part_end, False
    at = start
    while at < min(part_end, end):
        element = _element(file, at)
        if length is None and element and element[0] in _PARTS:
            return at, False
        child_end = part_end + 1 if element is None or element[2] is None else element[1] + element[2]
        if child_end > part_end:
            return (at, True) if part_end < end else (end, False)
        at = child_end
    return part_end, False


def _element(file: BinaryIO, at: int) -> tuple[int, int, int | None] | None:
    """The number of the element that begins there, and where its content begins and how long it is, if it says so."""
    file.seek(at)
    head = file.read(_MAX_HEAD_BYTES)
    id_bytes = 9 - head[0].bit_length() if head else 0
    if not 1 <= id_bytes <= 4 or len(head) <= id_bytes:
        return None
    length_bytes = 9 - head[id_bytes].bit_length()
    if length_bytes > 8 or len(head) < id_bytes + length_bytes:
        return None
    mask = (1 << 7 * length_bytes) - 1
    length = int.from_bytes(head[id_bytes : id_bytes + length_bytes], "big") & mask
    number = int.from_bytes(head[:id_bytes], "big")
    return number, at + id_bytes + length_bytes, None if length == mask else length


def _next_cluster(file: BinaryIO, at: int) -> int | None:
    while True:
        file.seek(at)
        content = file.read(_SEARCH_BYTES)
        found = content.find(_CLUSTER_BYTES)
        if found >= 0:
            return at + found
        if len(content) < _SEARCH_BYTES:
            return None
        at += _SEARCH_BYTES - 3
