"""Where each decoded frame of a video stands: its number, its time, and whether it is what was filmed.

Files say this badly. Time stamps are missing (AVI, raw streams), start again (joined transport streams) or repeat, and
packets are lost. Here every packet gets a presentation time on one time line before it is decoded, and every frame that
comes out is placed by it. Numbers and times strictly increase, whatever the file says.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import fmean, median
from typing import TYPE_CHECKING

from motivnet_cli.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

LOOKAHEAD_PACKETS = 32
"""Packets read before one is decoded: more than any codec reorders, so that the earliest of a part is among them."""
FALLBACK_RATE = 25
"""Frames a second of a stream that does not say."""
_MIN_INTERVALS = 5
_MARK_REACH = 2
"""FFmpeg's parsers mark the packet before the corrupt one: two are in doubt, and some may be missing behind them."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a frame stands."""

    number: int
    """Rank in display order among the frames that were decoded or are known to be lost, from 0."""
    time_s: float
    """Seconds after the start of the stream, to the microsecond."""


@dataclass(slots=True)
class _Mark:
    """What is known of a packet until its frame has come."""

    damage: int
    """How often the stream was damaged up to it."""
    can_heal: bool
    """Whether its frame, if a key frame, ends the damage."""
    is_key: bool = False
    is_lost: bool = False
    """Whether it did not decode."""


class Timeline:
    """The time line of one stream, fed in the order of decoding and asked in that of display.

    Args:
        stream: Its rate, time base and start are used.
        has_times: Whether the container holds presentation times. Without, frames take the places of the packets in
            their order.
        is_cut_off: Whether the last packet is known to be incomplete.
        lacks_reference: Whether frames are missing before a packet that it may refer to; asked of each in its order.
        is_paced: Whether a hole in the decode times can only be missing packets.
        has_clean_joints_only: Whether nothing is missing between two bytes of the file although packets there may be
            marked as corrupt; None where the container does not count its packets.
    """

    def __init__(
        self,
        stream: VideoStream,
        *,
        has_times: bool,
        is_cut_off: bool,
        lacks_reference: Callable[[Packet[VideoStream]], bool],
        is_paced: bool,
        has_clean_joints_only: Callable[[int, int], bool] | None,
    ) -> None:
        self._time_base = Fraction(stream.time_base or Fraction(1, 90_000))
        rates = [stream.average_rate, stream.guessed_rate]
        # The average that FFmpeg gives of a stream without times is no more than its default.
        self._rate = Fraction(next(filter(None, rates if has_times else reversed(rates)), FALLBACK_RATE))
        self._has_times = has_times
        self._lacks_reference = lacks_reference
        self._is_paced = is_paced
        self._has_clean_joints_only = has_clean_joints_only
        self._origin = stream.start_time
        self._offset = 0
        self._last_dts: int | None = None
        self._num_since_last_dts = 0
        self._last_pos: int | None = None
        self._intervals: deque[int] = deque(maxlen=LOOKAHEAD_PACKETS)
        self._step = self._frame_step = max(1, round(1 / self._rate / self._time_base))
        self._end: int | None = None
        self._max_pts: int | None = None
        self._marks: dict[int, _Mark] = {}
        self._waiting: list[int] = []
        self._given_up: set[int] = set()
        self._slots: deque[int] = deque()
        self._num_slots_taken = 0
        self._damage = self._healed = 0
        self._in_doubt = 0
        self._doubt_from: int | None = None
        self._is_patched = False
        self._has_begun = False
        self._first_key: int | None = None
        self.begins_broken = False
        """Whether `num_leading` frames are out because of damage, not because the file begins between key frames."""
        self.ends_early = is_cut_off
        """Whether packets are known to be missing at the end; to be set before the last frames are asked for."""
        self._last_ticks: Fraction | None = None
        self._is_left_out = False
        self._last_number = self._last_rank = -1
        self._last_time_s = -1.0
        self._restarts: list[Fraction] = []
        self.num_packets = self.num_decoded = self.num_lost = self.num_repeated = 0
        """Of packets, those to be shown; of decoded frames, those from the first key frame on; of lost ones, those that
        were packets or are missing next to damage."""
        self.num_patched = 0
        """Packets that did not decode whole, as the decoder said."""
        self.num_leading = self.num_placed = 0
        """Frames before the first key frame that was decoded; and those, from it on, that are what was filmed."""

    @property
    def end_s(self) -> float | None:
        """When the last packet's frame ends, in seconds of the file's own time; None without any times."""
        if self._end is None or (self._origin is None and not self._has_times):
            return None
        return float(self._end * self._time_base)

    @property
    def num_left_out(self) -> int:
        """Frames that were decoded and are not what was filmed."""
        return self.num_decoded - self.num_placed

    @property
    def has_restarts(self) -> bool:
        return bool(self._restarts)

    def packets(self, demuxed: Iterable[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
        """The packets in the order of decoding, each with its presentation time on the time line."""
        ahead: deque[Packet[VideoStream]] = deque()
        for packet in demuxed:
            ahead.append(packet)
            if len(ahead) > LOOKAHEAD_PACKETS:
                yield self._admit(ahead.popleft(), ahead)
        while ahead:
            yield self._admit(ahead.popleft(), ahead)

    def lose(self, packet: Packet[VideoStream]) -> None:
        """Say that a packet did not decode: what is predicted from it is in doubt up to the next key frame."""
        self._damage_from(packet.pts)
        mark = self._marks.get(packet.pts) if packet.pts is not None else None
        if mark:
            mark.is_lost = True
        if not self._has_times:
            self.num_lost += 1

    def suspect(self, packet: Packet[VideoStream]) -> None:
        """Say that a packet's frame was patched, or could not be: what is to be shown is out up to the next key frame.

        How many are missing before it is not known, so that the numbers of those which the decoder still holds are not.
        Before the first key frame nothing is expected to decode.
        """
        if self._has_begun:
            self.num_patched += 1
            self._damage_from(self._waiting[0] if self._waiting else packet.pts)

    def place(self, frame: VideoFrame) -> Placed | None:
        """Where the next frame that came out of the decoder stands.

        None where what it was predicted from is missing or damaged: it may show another picture than was filmed.

        Raises:
            InputError: It would not come after the one before it.
        """
        if frame.pts in self._given_up:  # damage lets frames come late
            self._given_up.discard(frame.pts)
            self.num_lost -= 1
            self.num_decoded += 1
            return None
        mark = self._marks.get(frame.pts) if frame.pts is not None else None
        if not self._has_begun and not frame.key_frame and not (mark and mark.is_key):
            return None  # made up: what it refers to is not there
        self._pass_packets_before(frame)
        if not self._has_begun:
            self._begin_with(frame)
        damage, can_heal = (mark.damage, mark.can_heal) if mark else (self._damage, self._in_doubt <= 1)
        is_next_to_damage = self._is_left_out or damage > self._healed
        if frame.key_frame and can_heal:
            self._healed = max(self._healed, damage)
            if self._healed == self._damage:
                self._doubt_from = None
        self._is_patched = frame.is_corrupt or (self._is_patched and not frame.key_frame)
        last, ticks = self._last_ticks, self._ticks_of(frame, self.num_decoded + self.num_lost)
        self._is_left_out = damage > self._healed or self._is_patched or self._is_unsure(frame, last, ticks)
        if self._has_times and last is not None and (is_next_to_damage or self._is_left_out):
            self.num_lost += self._hole_between(last, ticks)
        number = self.num_decoded + self.num_lost
        self.num_decoded += 1
        self._last_ticks, self._last_rank = ticks, number
        if self._is_left_out:
            return None
        time_s = round(float(ticks * self._time_base), 6)
        if number <= self._last_number or time_s <= self._last_time_s:
            message = f"frame {number} at {time_s} s would follow frame {self._last_number} at {self._last_time_s} s"
            raise InputError("damaged", message)
        self._last_number, self._last_time_s = number, time_s
        self.num_placed += 1
        return Placed(number, time_s)

    def _hole_between(self, last: Fraction, ticks: Fraction) -> int:
        """Frames that are missing before one, next to damage, by its time after the last and not yet known as lost."""
        return max(0, self._steps_in(ticks - last) - (self.num_decoded + self.num_lost - self._last_rank))

    def _begin_with(self, frame: VideoFrame) -> None:
        """Begin with the first key frame that was decoded: what is to be shown before it counts."""
        self._has_begun = True
        if not self._has_times:
            self.num_lost = max(self.num_lost, frame.pts or 0)
        elif self._damage:
            self.num_lost = max(self.num_lost, self._steps_in(self._ticks_of(frame, 0)))
        self.num_leading = self.num_lost
        is_first_key_lost = self._first_key is not None and self._first_key != frame.pts
        self.begins_broken = self.num_leading > 0 and (is_first_key_lost or self._damage > 0)

    def remark(self) -> str | None:
        """What is to be said about its times."""
        said = []
        if self._restarts:
            first = float(round((self._restarts[0] - (self._origin or 0)) * self._time_base, 3))
            times = "once" if len(self._restarts) == 1 else f"{len(self._restarts)} times"
            said.append(f"time stamps start again {times}, first at {first:g} s: time goes on from the frame before")
        if self.num_repeated:
            said.append(f"{self.num_repeated} frames have time stamps that are not after the one before")
        return "; ".join(said) or None

    def _admit(self, packet: Packet[VideoStream], ahead: deque[Packet[VideoStream]]) -> Packet[VideoStream]:
        if not packet.size and packet.dts is None:  # asks the decoder for what it still holds
            return packet
        if not self._has_times:
            self._admit_in_order(packet)
        else:
            self._admit_by_time(packet, ahead)
        if packet.is_discard:
            self._has_begun = self._has_begun or packet.is_keyframe  # it is decoded, and frames after it refer to it
        else:
            if not self.num_packets and packet.is_keyframe:
                self._first_key = packet.pts
            self.num_packets += 1
        if packet.pts is not None:
            self._marks[packet.pts] = _Mark(self._damage, self._in_doubt <= 1, packet.is_keyframe)
        self._in_doubt = max(0, self._in_doubt - 1)
        return packet

    def _admit_in_order(self, packet: Packet[VideoStream]) -> None:
        """Its time is that of its place among the packets; it is named by that place until its frame comes."""
        if packet.is_corrupt:
            self._doubt(self.num_packets)
        if self._lacks_reference(packet):
            self._damage_from(self.num_packets)
        if not self.num_packets:
            self._origin = packet.dts
        if packet.dts is not None:
            self._slots.append(packet.dts)
            self._step = packet.duration or self._step
            self._end = packet.dts + self._step
        packet.pts = self.num_packets

    def _admit_by_time(self, packet: Packet[VideoStream], ahead: deque[Packet[VideoStream]]) -> None:
        if self._origin is None or self._max_pts is None:
            self._begin(packet, ahead)
        elif self._goes_back(self._last_dts, packet):
            if self._is_stray(packet, ahead):
                self._forget_times_of(packet)
            else:
                self._begin_again(packet, ahead)
        else:
            self._notice_hole(packet)
        if self._lacks_reference(packet):
            self._damage_from(self._waiting[0] if self._waiting else packet.pts)
        if packet.is_corrupt and not self._is_clean_joint(packet, ahead):
            self._doubt(None if packet.pts is None else packet.pts + self._offset)
        if self.ends_early and not any(one.size for one in ahead):  # the last packet, which is cut off
            self._doubt(None if packet.pts is None else packet.pts + self._offset)
        self._last_pos = packet.pos
        self._num_since_last_dts += 1
        if (dts := self._dts_of(packet)) is not None:
            if self._last_dts is not None and dts > self._last_dts:
                self._intervals.append(dts - self._last_dts)
            self._last_dts, self._num_since_last_dts = dts, 0
        self._step = packet.duration or self._step
        if packet.dts is not None:
            packet.dts += self._offset
        if packet.pts is not None:
            packet.pts += self._offset
            if not packet.is_discard:
                heapq.heappush(self._waiting, packet.pts)
                self._max_pts = max(packet.pts, packet.pts if self._max_pts is None else self._max_pts)
                self._end = max(self._end or packet.pts, packet.pts + self._step)

    def _begin(self, packet: Packet[VideoStream], ahead: deque[Packet[VideoStream]]) -> None:
        first = self._first_pts(packet, ahead)
        if first is not None:
            self._origin = first if self._origin is None else min(self._origin, first)
        # FFmpeg's parsers, which mark the packet before the corrupt one, have none to mark.
        behind = next((one for one in ahead if one.pos is not None), None)
        if behind and self._has_clean_joints_only and not self._joins_cleanly(packet, behind):
            self._doubt(packet.pts)

    def _begin_again(self, packet: Packet[VideoStream], ahead: deque[Packet[VideoStream]]) -> None:
        """Time stamps restart: have the earliest frame of the new part follow the last one of the old."""
        first = self._first_pts(packet, ahead)
        assert self._max_pts is not None, "another part came before"
        if first is not None:
            self._offset = self._max_pts + self._step - first
        self._restarts.append(Fraction(self._max_pts + self._step))
        self._damage += 1  # what the old part left in the decoder is no reference for the new one
        self._in_doubt = 0

    def _is_stray(self, packet: Packet[VideoStream], ahead: deque[Packet[VideoStream]]) -> bool:
        """Whether the packet after one that goes back stands where the time line was: then its time is damaged."""
        following = next((dts for one in ahead if (dts := self._dts_of(one)) is not None), None)
        if packet.is_keyframe or following is None or self._last_dts is None:
            return False
        return 0 < following - self._last_dts <= LOOKAHEAD_PACKETS * self._step

    def _forget_times_of(self, packet: Packet[VideoStream]) -> None:
        """A damaged time puts no frame anywhere, and what else of the packet is damaged is not known."""
        self._damage_from(self._waiting[0] if self._waiting else self._max_pts)
        packet.pts = packet.dts = None

    def _first_pts(self, packet: Packet[VideoStream], ahead: deque[Packet[VideoStream]]) -> int | None:
        """The earliest presentation time of the part that begins with a packet."""
        first, last_dts = None, None
        for one in (packet, *ahead):
            if self._goes_back(last_dts, one):
                break
            dts = self._dts_of(one)
            last_dts = last_dts if dts is None else dts
            if one.pts is not None and not one.is_discard:
                first = one.pts if first is None else min(first, one.pts)
        return first

    def _goes_back(self, last_dts: int | None, packet: Packet[VideoStream]) -> bool:
        dts = self._dts_of(packet)
        if last_dts is None or dts is None:
            return False
        return dts < last_dts or (dts == last_dts and packet.is_keyframe)

    def _dts_of(self, packet: Packet[VideoStream]) -> int | None:
        """Its decode time; of a paced stream, only if it is the file's own: FFmpeg's guesses go wrong at damage."""
        return packet.dts if packet.pos is not None or not self._is_paced else None

    def _is_clean_joint(self, packet: Packet[VideoStream], ahead: deque[Packet[VideoStream]]) -> bool:
        """Whether a packet is marked only because another part follows it, whose packets are counted anew."""
        if len(ahead) < _MARK_REACH:
            return False
        times = [self._last_dts, packet.dts, *(one.dts for one in list(ahead)[:_MARK_REACH])]
        for last, this in pairwise(time for time in times if time is not None):
            if this - last > 1.5 * self._step:  # whole frames were lost
                return False
        return self._joins_cleanly(packet, ahead[_MARK_REACH - 1])

    def _joins_cleanly(self, first: Packet[VideoStream], last: Packet[VideoStream]) -> bool:
        """Whether nothing is missing from one packet to the beginning of another."""
        if self._has_clean_joints_only is None or first.pos is None or last.pos is None:
            return False
        return self._has_clean_joints_only(first.pos, last.pos)

    def _damage_from(self, pts: int | None) -> None:
        """Frames from this time on are out up to the next key frame, also those that were decoded before the damage:
        how many are missing among them is not known."""
        self._damage += 1
        if pts is not None:
            self._doubt_from = pts if self._doubt_from is None else min(pts, self._doubt_from)

    def _is_unsure(self, frame: VideoFrame, last: Fraction | None, ticks: Fraction) -> bool:
        """Whether frames may be missing before one that is sound itself, so that its number would be a guess."""
        if self._doubt_from is not None and not self._has_times:
            return True
        if self._doubt_from is not None and frame.pts is not None and frame.pts >= self._doubt_from:
            return True
        return self.ends_early and last is not None and ticks - last > 1.5 * self._step

    def _doubt(self, pts: int | None) -> None:
        self._damage_from(pts)
        self._in_doubt = _MARK_REACH + 1

    def _notice_hole(self, packet: Packet[VideoStream]) -> None:
        """Note that frames were lost before a packet, if there is a hole in the decode times."""
        dts = self._dts_of(packet)
        if dts is None or self._last_dts is None:
            return
        is_marked = packet.is_corrupt or self._in_doubt > 0 or self._is_paced
        check, start, end = self._has_clean_joints_only, self._last_pos, packet.pos
        if not (is_marked or check) or self._steps_in(dts - self._last_dts) - self._num_since_last_dts <= 1:
            return
        # FFmpeg marks nothing where it had to look for the next packet.
        if is_marked or (check and start is not None and end is not None and not check(start, end)):
            self._damage_from(self._max_pts)

    def _steps_in(self, ticks: Fraction | int) -> int:
        """How many frames a time is long."""
        return math.ceil(float(ticks) / self._usual_step() - 0.5)

    def _usual_step(self) -> float:
        """From one frame to the next: as the last of a paced stream says, else as most of the last ones were."""
        if self._is_paced or len(self._intervals) < _MIN_INTERVALS:
            return max(
                self._step, self._frame_step
            )  # a damaged frame may seem to be a field, which stands half as long
        middle = median(self._intervals)
        return fmean(interval for interval in self._intervals if interval < 1.5 * middle)

    def _pass_packets_before(self, frame: VideoFrame) -> None:
        """Forget the packets up to a frame's; one without a frame counts as lost where damage explains it."""
        if frame.pts is None:
            return
        if not self._has_times:
            self._marks.pop(frame.pts, None)
            return
        while self._waiting and self._waiting[0] <= frame.pts:
            pts = heapq.heappop(self._waiting)
            mark = self._marks.pop(pts, None)
            if pts < frame.pts and mark and (not self._has_begun or mark.is_lost or self._damage > self._healed):
                self.num_lost += 1
                self._given_up.add(pts)

    def _ticks_of(self, frame: VideoFrame, number: int) -> Fraction:
        """The frame's time after the start of the stream, in units of the time base."""
        if not self._has_times:
            return self._ticks_of_slot(number)
        last = self._last_ticks
        if frame.pts is None:
            return Fraction(0) if last is None else last + self._step
        ticks = Fraction(frame.pts - (self._origin or 0))
        if last is not None and ticks <= last:
            self.num_repeated += 1
            return last + Fraction(self._step, 2)
        return ticks

    def _ticks_of_slot(self, number: int) -> Fraction:
        """The time of a place among the packets: that of decoding where the container has it, else by the rate."""
        if self._origin is None:
            return number / self._rate / self._time_base
        while self._slots and self._num_slots_taken < number:
            self._slots.popleft()
            self._num_slots_taken += 1
        if not self._slots:
            return (self._last_ticks or Fraction(0)) + self._step
        self._num_slots_taken += 1
        return Fraction(self._slots.popleft() - self._origin)
