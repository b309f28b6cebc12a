"""Videos that begin with what cannot be decoded: frames before the first sound one count, and none is made up."""

from __future__ import annotations

import re

import av
import pytest

from motivnet_cli.errors import InputError
from tests.clips import make_clip
from tests.test_video import read

OPTIONS = {"frames": 60, "fps": 25, "gop": 17, "options": {"bf": "2", "sc_threshold": "0"}}
MPEG2 = {"codec": "mpeg2video", "size": (640, 480), "options": {"bf": "2", "qscale": "3"}}
"""Pictures that fill packets: as in real files, nearly each has a time of its own."""
MPEG4 = {"codec": "mpeg4", "options": {"qscale": "3"}}
PACKET = 188


def clip(path, **options):
    make_clip(path, **OPTIONS | options)
    return bytearray(path.read_bytes())


def places(path):
    """Where packets of the video begin in the file, and their sizes."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def without_first(path, num_packets):
    """A copy whose video begins some packets later."""
    copy = path.with_name(f"later{path.suffix}")
    with av.open(str(path)) as source, av.open(str(copy), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size and number >= num_packets:
                packet.stream = stream
                container.mux(packet)
    return copy


def read_last(path, first):
    """What is read, if that are the frames from `first` on, at their distances in number and time."""
    said, numbers, times, report = read(path)

    assert said == list(range(first, 60))
    assert [number - numbers[0] for number in numbers] == [number - first for number in said]
    assert [time_s - times[0] for time_s in times] == pytest.approx([(n - first) / 25 for n in said], abs=1e-3)
    return numbers[0], times[0], report


@pytest.mark.parametrize("name", ["c.ts", "c.mkv", "c.mp4", "c.avi"])
def test_first_key_frame_is_broken(tmp_path, name):
    """Zeros over all of it but its head, of a transport stream also over the frame behind it."""
    path = tmp_path / name
    content = clip(path)
    (first, size), _, (third, _) = places(path)[:3]
    end = third if name == "c.ts" else first + size
    content[first + 48 : end] = bytes(end - first - 48)
    path.write_bytes(content)
    number, time_s, report = read_last(path, 17)

    assert (number, time_s) == (17, 0.68)
    assert (report.is_whole, report.problem.error_type) == (False, "damaged")
    assert "17 frames before the first sound key frame were left out" in report.problem.message


@pytest.mark.parametrize("damage", ["missing", "error bit"])
def test_first_frame_of_a_transport_stream_is_broken(tmp_path, damage):
    """FFmpeg does not say that packets of the first frame are missing or marked as wrong."""
    path = tmp_path / "c.ts"
    content = clip(path)
    second = places(path)[0][0] + PACKET
    if damage == "missing":
        del content[second : second + PACKET]
    else:
        content[second + 1] |= 0x80
    path.write_bytes(content)
    number, time_s, report = read_last(path, 17)

    assert (number, time_s) == (17, 0.68)
    assert (report.is_whole, report.problem.error_type) == (False, "damaged")


@pytest.mark.parametrize("at", ["start", "middle"])
def test_program_stream_with_a_hole(tmp_path, at):
    """Frames of which nothing is left are counted by the times of those around them."""
    path = tmp_path / "c.mpg"
    content = clip(path, **MPEG2)
    begins = [match.start() for match in re.finditer(b"\0\0\1\xe0", content)]
    first, end = (begins[0] + 30, begins[12]) if at == "start" else (begins[14], begins[20])
    content[first:end] = bytes(end - first)
    path.write_bytes(content)
    said, numbers, times, report = read(path)

    assert said == numbers
    assert times == pytest.approx([number / 25 for number in numbers], abs=1e-3)
    assert numbers[-1] == 59
    assert 20 < len(numbers) < 45
    assert (report.is_whole, report.problem.error_type) == (False, "damaged")


@pytest.mark.parametrize("name", ["c.ts", "c.h264", "c.mkv", "c.mp4"])
def test_file_begins_between_key_frames(tmp_path, name):
    """Of 60 frames, the file lacks the first 5 packets; what it holds before its first key frame counts."""
    path = tmp_path / name
    content = clip(path, options={"bf": "0", "sc_threshold": "0"})
    if name in ("c.ts", "c.h264"):
        path.write_bytes(content[places(path)[5][0] :])
    else:
        path = without_first(path, 5)
    number, _, report = read_last(path, 17)

    assert number == 17 - 5
    assert (report.is_whole, report.problem.error_type) == (True, "frame_count_mismatch")
    assert "it begins 12 frames before its first key frame" in report.problem.message


def test_frames_that_a_decoder_makes_up_are_not_read(tmp_path):
    """MPEG-4 decoders show grey where what a frame refers to is missing."""
    clip(tmp_path / "c.mkv", **MPEG4)
    number, _, report = read_last(without_first(tmp_path / "c.mkv", 5), 17)

    assert (number, report.is_whole, report.problem.error_type) == (12, True, "frame_count_mismatch")


def test_video_without_a_sound_frame_has_failed(tmp_path):
    """Its only key frame is not in the file: what the decoder makes of the others is nothing to look at."""
    clip(tmp_path / "c.mkv", **MPEG4 | {"gop": 100})

    with pytest.raises(InputError, match="not one sound frame could be decoded") as error:
        read(without_first(tmp_path / "c.mkv", 1))
    assert error.value.error_type == "damaged"


@pytest.mark.parametrize("layout", ["time codes", "parity"])
def test_transport_streams_of_longer_packets(tmp_path, layout):
    """Packets of 192 bytes (Blu-ray, AVCHD) and of 204 are as whole as those of 188."""
    path = tmp_path / "c.ts"
    content = clip(path)
    packets = [bytes(content[at : at + PACKET]) for at in range(0, len(content), PACKET)]
    path.write_bytes(
        b"".join(bytes(4) + packet if layout == "time codes" else packet + bytes(16) for packet in packets)
    )
    number, time_s, report = read_last(path, 0)

    assert (number, time_s, report.is_whole, report.problem) == (0, 0.0, True, None)
