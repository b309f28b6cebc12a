"""Recordings that lack packets without a mark: no frame that is patched from older ones, and true numbers behind."""

from __future__ import annotations

import av
import pytest

from motivnet_cli.inputs.h264 import ReferenceCount
from tests.clips import make_clip
from tests.test_video import read

LOST = range(40, 43)
"""Packets in the order of decoding; the next key frame is number 51."""


@pytest.fixture(scope="module", params=["0", "3"], ids=["in order", "reordered"])
def source(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "c.mp4"
    make_clip(path, frames=80, fps=25, gop=17, options={"bf": request.param, "sc_threshold": "0"})
    return path


def copy_without(source, path, lost=LOST):
    """Copy a clip but for some of its packets, as a recorder that was too slow writes it."""
    with av.open(str(source)) as whole, av.open(str(path), "w") as recorded:
        stream = recorded.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(whole.demux(video=0)):
            if packet.size and number not in lost:
                packet.stream = stream
                recorded.mux(packet)


def assert_hole(path, *, sound, there):
    """Frames are the right ones at their times, all of `sound` and none but those of `there`; and it is damaged."""
    said, numbers, times, report = read(path)

    assert said == numbers
    assert times == pytest.approx([number / 25 for number in numbers], abs=2e-3)
    assert sound <= set(numbers) <= there
    assert (report.is_whole, report.problem.error_type) == (False, "damaged")
    return report


@pytest.mark.parametrize("name", ["c.mp4", "c.mkv", "c.flv", "c.ts"])
def test_packets_that_were_never_recorded(tmp_path, source, name):
    """FFmpeg decodes what is left, and says nothing."""
    copy_without(source, tmp_path / name)
    assert_hole(tmp_path / name, sound={*range(38), *range(51, 75)}, there={*range(40), *range(51, 80)})


@pytest.mark.parametrize("num_b_frames", [0, 3])
@pytest.mark.parametrize("name", ["c.mp4", "c.mkv"])
def test_packets_of_hevc_that_were_never_recorded(tmp_path, num_b_frames, name):
    """FFmpeg passes over what lacks its reference, and says so in its log alone."""
    parameters = f"log-level=none:pools=1:frame-threads=1:bframes={num_b_frames}:scenecut=0:keyint=17:min-keyint=17"
    make_clip(tmp_path / "w.mp4", frames=80, fps=25, codec="libx265", options={"x265-params": parameters})
    copy_without(tmp_path / "w.mp4", tmp_path / name)
    assert_hole(tmp_path / name, sound={*range(38), *range(51, 80)}, there={*range(40), *range(51, 80)})


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_matroska_that_is_broken(tmp_path, codec):
    """FFmpeg goes on at the next cluster, and says nothing."""
    path = tmp_path / "c.mkv"
    make_clip(path, frames=120, fps=25, gop=17, codec=codec, container_options={"cluster_time_limit": "500"})
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        place = [packet.pos for packet in container.demux(video=0)][40]
    content[place - 30 : place + 30] = bytes(60)
    path.write_bytes(content)
    said, numbers, times, report = read(path)

    assert said == numbers
    assert times == pytest.approx([number / 25 for number in numbers], abs=2e-3)
    assert set(range(30)) | set(range(68, 120)) <= set(numbers)
    assert (report.is_whole, report.problem.error_type) == (False, "damaged")


@pytest.mark.parametrize(
    ("pixel_format", "parameters"),
    [
        ("yuv420p", "b-pyramid=strict:bframes=8:b-adapt=0:ref=16:scenecut=0"),
        ("yuv420p", "open-gop=1:bframes=3:keyint=20"),
        ("yuv420p", "intra-refresh=1:keyint=20"),
        ("yuv420p", "tff=1:slices=2:bframes=3"),
        ("yuv420p10le", "cqm=jvt:bframes=3"),
        ("yuv444p", "bframes=0"),
    ],
)
@pytest.mark.parametrize("name", ["c.mkv", "c.ts"])
def test_count_of_references(tmp_path, name, pixel_format, parameters):
    """No frame is missed in a whole stream; where some are, the one behind them tells."""
    options = {"x264-params": parameters}
    make_clip(tmp_path / name, frames=60, fps=25, gop=60, pixel_format=pixel_format, options=options)
    with av.open(str(tmp_path / name)) as container:
        extradata = container.streams.video[0].codec_context.extradata
        packets = [(bytes(packet), packet.is_keyframe) for packet in container.demux(video=0) if packet.size]

    def told(packets):
        count = ReferenceCount(extradata)
        return [number for number, (packet, is_key) in enumerate(packets) if count.skips(packet, is_key=is_key)]

    assert told(packets) == []
    assert 25 in told(packets[:25] + packets[35:])


@pytest.mark.parametrize(
    ("end", "numbers", "is_whole", "error_type"),
    [
        (b"\xff\xd9" + bytes(38), range(20), True, "decoder_errors"),
        (b"\xfe" * 58 + b"\xff\xd9", [*range(10), *range(11, 20)], False, "damaged"),
    ],
    ids=["sound but for its end", "patched"],
)
def test_errors_that_the_decoder_only_logs(tmp_path, end, numbers, is_whole, error_type):
    """A frame that FFmpeg made up in part is left out; one that may be sound is read, and the video has a remark."""
    path = tmp_path / "c.avi"
    make_clip(path, frames=20, fps=25, codec="mjpeg", pixel_format="yuvj420p")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][10]
        stop = content.index(bytes(packet)) + packet.size
    content[stop - len(end) : stop] = end
    path.write_bytes(content)
    said, read_numbers, _, report = read(path)

    assert said == read_numbers == list(numbers)
    assert (report.is_whole, report.problem.error_type) == (is_whole, error_type)
    if is_whole:
        assert "errors in 1 frames that were read, first in frame 10 at 0.4 s (overread" in report.problem.message


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_one_time_stamp_that_is_damaged(tmp_path, codec):
    """A single block of a Matroska file says that it stands at the start of its cluster: times do not start again."""
    path = tmp_path / "c.mkv"
    make_clip(path, frames=80, fps=25, gop=17, codec=codec, options={"sc_threshold": "0"})
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        place = [packet.pos for packet in container.demux(video=0) if packet.size][40]
    content[place + 1 : place + 3] = bytes(2)  # behind the number of its track
    path.write_bytes(content)
    report = assert_hole(path, sound={*range(38), *range(51, 80)}, there={*range(40), *range(51, 80)})
    assert "start again" not in report.problem.message
