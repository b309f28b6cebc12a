"""MPEG transport streams (ISO/IEC 13818-1), as far as FFmpeg does not tell: what they look like, and clean joints."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

PACKET_BYTES = 188
SYNC_BYTE = 0x47
_LAYOUTS = ((0, 188), (4, 192), (0, 204), (16, 204))
"""Where the first packet is and how far the next: plain, behind a time code each (Blu-ray, AVCHD), and before parity
bytes (DVB), of which FFmpeg counts the ones before a packet as its beginning."""
_MAX_SCAN_BYTES = 16 << 20
_TAIL_PACKETS = 4096
_NUM_MARKS = 8
_HEAD_BYTES = 4096
_TRANSPORT_ERROR, _PAYLOAD_BEGINS = 0x80, 0x40


def is_transport_stream(head: bytes) -> bool:
    """Whether a file that begins so is one: packets of 188 bytes that begin with a sync byte."""
    return _layout(head) is not None


def has_clean_joints_only(opened: Callable[[], BinaryIO], pid: int, start: int, end: int) -> bool:
    """Whether nothing is missing of a stream's packets between two places of a file although their count breaks.

    Where two streams were joined, the count of packets starts again between a PES packet that is whole and the
    beginning of the next. It is whole if its last packet is filled up, as only last ones are; the one in 184 that
    needs no filling counts as broken.

    Args:
        opened: Opens the file.
        pid: The stream's number within the transport stream.
        start: Byte at which a packet begins.
        end: The byte after the last packet; the one that begins there, if any, belongs to the next PES packet.
    """
    if not 0 <= start < end or end - start > _MAX_SCAN_BYTES:
        return False
    with opened() as file:
        file.seek(start)
        content = file.read(end - start + _LAYOUTS[-1][1])
    layout = _layout(content)
    if layout is None:
        return False
    first, stride = layout
    count: int | None = None
    is_filled = False
    for at in range(first, min(end - start + first, len(content) - PACKET_BYTES) + 1, stride):
        packet = content[at : at + PACKET_BYTES]
        if packet[0] != SYNC_BYTE or packet[1] & _TRANSPORT_ERROR:
            return False
        if (packet[1] & 0x1F) << 8 | packet[2] != pid or not packet[3] & 0x10:
            continue
        is_counted_on = count is None or packet[3] & 0x0F == (count + 1) % 16
        if not is_counted_on and not (is_filled and packet[1] & _PAYLOAD_BEGINS):
            return False
        count, is_filled = packet[3] & 0x0F, _is_filled(packet)
    return count is not None


def is_cut_off(opened: Callable[[], BinaryIO], pid: int) -> bool:
    """Whether a file ends within a PES packet of a stream: its last packet is not filled up, or not whole."""
    with opened() as file:
        layout = _layout(file.read(_HEAD_BYTES))
        if layout is None:
            return False
        first, stride = layout
        num_bytes = file.seek(0, 2)
        num_whole, rest = divmod(num_bytes, stride)
        num_read = min(num_whole, _TAIL_PACKETS)
        file.seek((num_whole - num_read) * stride)
        content = file.read()
    if rest:
        return _layout(content) == layout
    for at in range((num_read - 1) * stride + first, -1, -stride):
        packet = content[at : at + PACKET_BYTES]
        if packet[0] != SYNC_BYTE:
            return False
        if (packet[1] & 0x1F) << 8 | packet[2] == pid and packet[3] & 0x10:
            return not _is_filled(packet)
    return False


def _layout(content: bytes) -> tuple[int, int] | None:
    """Which of _LAYOUTS begins there."""
    return next(
        (
            (first, stride)
            for first, stride in _LAYOUTS
            if len(marks := content[first::stride]) > 1 and set(marks[:_NUM_MARKS]) == {SYNC_BYTE}
        ),
        None,
    )


def _is_filled(packet: bytes) -> bool:
    """Whether a packet has stuffing bytes because its payload did not fill it."""
    if not packet[3] & 0x20:
        return False
    length, flags = packet[4], packet[5]
    if not length:
        return True
    if flags & 0x03:  # private data or an extension, of a length of its own
        return False
    needed = 1 + 6 * bool(flags & 0x10) + 6 * bool(flags & 0x08) + bool(flags & 0x04)
    return length > needed
