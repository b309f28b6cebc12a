"""H.264 (ITU-T H.264), as far as FFmpeg does not tell: whether frames are missing that later ones refer to.

Recordings of live streams lack packets without a mark, and decoders then show the old picture with new changes. But
frames that others refer to are counted (`frame_num`, 7.4.3), and only streams that say so may skip a count.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SLICE, _SLICE_OF_IDR, _SPS = 1, 5, 7
_START_CODE = b"\0\0\1"
_HEADER_BYTES = 1024
"""Of a unit, more than its header takes."""
_PROFILES_WITH_CHROMA = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
"""Those whose parameter sets hold chroma format, bit depths and scaling lists (7.3.2.1.1)."""
_CHROMA_444 = 3


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What a sequence parameter set says of the count."""

    number: int
    num_bits: int
    may_skip: bool
    has_planes: bool
    """Whether a slice header names a colour plane."""


class ReferenceCount:
    """The count of frames that others refer to, fed with packets in the order of decoding.

    Args:
        extradata: The stream's parameter sets, as MP4 and Matroska hold them (avcC) or behind start codes.
    """

    def __init__(self, extradata: bytes | None) -> None:
        extradata = extradata or b""
        self._length_bytes = (extradata[4] & 3) + 1 if extradata[:1] == b"\1" and len(extradata) > 4 else 0
        self._sequences: dict[int, _Sequence] = {}
        self._last: int | None = None
        for unit in _units_of_avcc(extradata) if self._length_bytes else _units_behind_start_codes(extradata):
            self._note(unit)

    def skips(self, packet: bytes, *, is_key: bool) -> bool:
        """Whether a frame is missing before this one; of key frames it is not told, as nothing may refer to it."""
        units = _units_behind_lengths(packet, self._length_bytes) if self._length_bytes else None
        for unit in units or _units_behind_start_codes(packet):
            if not unit:
                continue
            kind = unit[0] & 0x1F
            if kind in (_SLICE, _SLICE_OF_IDR):
                try:
                    return self._skips(unit, is_key=is_key or kind == _SLICE_OF_IDR)
                except IndexError:  # damaged
                    return False
            self._note(unit)
        return False

    def _note(self, unit: bytes) -> None:
        if unit and unit[0] & 0x1F == _SPS:
            with contextlib.suppress(IndexError):  # damaged
                sequence = _sequence_of(_Bits(unit))
                self._sequences[sequence.number] = sequence

    def _skips(self, unit: bytes, *, is_key: bool) -> bool:
        if len(self._sequences) != 1:  # which of several is meant is not told
            return False
        (sequence,) = self._sequences.values()
        bits = _Bits(unit)
        for _ in ("first_mb_in_slice", "slice_type", "pic_parameter_set_id"):
            bits.golomb()
        bits.take(2 * sequence.has_planes)
        count = bits.take(sequence.num_bits)
        # A count of 0 or 1 may follow a frame that has set it back (memory_management_control_operation 5, 7.4.3).
        is_next = self._last is None or (count - self._last) % (1 << sequence.num_bits) <= 1 or count <= 1
        if unit[0] & 0x60 or is_key:
            self._last = count
        return not (is_next or is_key or sequence.may_skip)


class _Bits:
    """The bits of a unit behind its first byte.

    Every method raises IndexError at the unit's end.
    """

    def __init__(self, unit: bytes) -> None:
        self._bytes = unit[1:_HEADER_BYTES].replace(b"\0\0\3", b"\0\0")
        self._at = 0

    def take(self, count: int) -> int:
        """An unsigned number of so many bits."""
        value = 0
        for at in range(self._at, self._at + count):
            value = value << 1 | self._bytes[at >> 3] >> (7 - (at & 7)) & 1
        self._at += count
        return value

    def golomb(self) -> int:
        """An unsigned Exp-Golomb code (9.1)."""
        num_zeros = 0
        while not self.take(1):
            num_zeros += 1
        return (1 << num_zeros) - 1 + self.take(num_zeros)

    def signed_golomb(self) -> int:
        """A signed one (9.1.1)."""
        code = self.golomb()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def _sequence_of(bits: _Bits) -> _Sequence:
    """Read a sequence parameter set (7.3.2.1.1) up to `gaps_in_frame_num_value_allowed_flag`."""
    profile = bits.take(8)
    bits.take(16)
    number = bits.golomb()
    has_planes = False
    if profile in _PROFILES_WITH_CHROMA:
        chroma = bits.golomb()
        has_planes = chroma == _CHROMA_444 and bool(bits.take(1))
        bits.golomb()
        bits.golomb()
        bits.take(1)
        if bits.take(1):
            for index in range(12 if chroma == _CHROMA_444 else 8):
                if bits.take(1):
                    _pass_scaling_list(bits, 16 if index < 6 else 64)
    num_bits = bits.golomb() + 4
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take(1)
        bits.golomb()
        bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()
    bits.golomb()
    return _Sequence(number, num_bits, may_skip=bool(bits.take(1)), has_planes=has_planes)


def _pass_scaling_list(bits: _Bits, length: int) -> None:
    """Read past one (7.3.2.1.1.1)."""
    last = scale = 8
    for _ in range(length):
        if scale:
            scale = (last + bits.signed_golomb()) % 256
        last = scale or last


def _units_behind_start_codes(content: bytes) -> Iterator[bytes]:
    """The units, of the last that is asked for its beginning at least."""
    start = content.find(_START_CODE)
    while start >= 0:
        end = content.find(_START_CODE, start + 3)
        yield content[start + 3 : end if end >= 0 else start + 3 + _HEADER_BYTES]
        start = end


def _units_behind_lengths(content: bytes, length_bytes: int) -> Iterator[bytes]:
    at = 0
    while at + length_bytes < len(content):
        length = int.from_bytes(content[at : at + length_bytes], "big")
        at += length_bytes
        yield content[at : at + min(length, _HEADER_BYTES)]
        at += length


def _units_of_avcc(extradata: bytes) -> Iterator[bytes]:
    """The sequence parameter sets of an avcC record (ISO/IEC 14496-15, 5.3.3.1)."""
    at = 6
    for _ in range(extradata[5] & 0x1F if len(extradata) > at else 0):
        length = int.from_bytes(extradata[at : at + 2], "big")
        yield extradata[at + 2 : at + 2 + length]
        at += 2 + length
