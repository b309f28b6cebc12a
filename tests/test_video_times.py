"""Numbers and times that never go back, of the stream that a player shows; and what is damaged is left out."""

from __future__ import annotations

import pytest

from motivnet_cli.config import VideoConfig
from motivnet_cli.errors import InputError
from tests.clips import make_clip, write_streams
from tests.test_video import ALL, read

MPEG2 = {"codec": "mpeg2video", "fps": 25, "options": {"qscale": "3"}}


def part(path, *, first=0, frames=40, **options):
    make_clip(path, frames=frames, first=first, **{"fps": 25} | options)
    return path.read_bytes()


def joined(tmp_path, name, *parts):
    """The parts one after the other, as `cat` joins them, and the numbers that their frames say."""
    path = tmp_path / f"joined{name}"
    first, content = 0, b""
    for number, options in enumerate(parts):
        content += part(tmp_path / f"{number}{name}", first=first, **options)
        first += options.get("frames", 40)
    path.write_bytes(content)
    return path, list(range(first))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (".ts", [{}, {}]),
        (".ts", [{"options": {"bf": "3"}}, {"options": {"bf": "0"}}, {"frames": 25}]),
        (".ts", [{"options": {"bf": "0"}}, {"options": {"bf": "3"}}]),
        (".mpg", [MPEG2, MPEG2]),
        (".ts", [{}, {"size": (48, 32)}]),
    ],
    ids=["same", "less reordering", "more reordering", "program stream", "another size"],
)
def test_time_stamps_that_restart(tmp_path, name, parts):
    """Every frame of every part has a number and a time of its own, and the input carries a remark."""
    path, expected = joined(tmp_path, name, *parts)
    said, numbers, times, report = read(path)

    assert said == numbers == expected
    assert times == pytest.approx([number / 25 for number in numbers], abs=1e-4)
    assert (report.is_whole, report.problem.error_type) == (True, "time_restarts")
    assert read(path, VideoConfig(fps=1))[0] == expected[::25]


@pytest.mark.parametrize("name", ["c.avi", "c.h264"])
@pytest.mark.parametrize("bframes", ["0", "3"])
def test_times_that_the_file_lacks(tmp_path, name, bframes):
    """Frames of files without presentation times have the times of their places, from 0."""
    part(tmp_path / name, options={"bf": bframes})
    said, numbers, times, report = read(tmp_path / name)

    assert said == numbers == list(range(40))
    assert times == [number / 25 for number in range(40)]
    assert report.problem is None


def test_times_are_round(tmp_path):
    """A time stamp that is a whole number of tenths gives just that."""
    part(tmp_path / "c.ts", fps=10)

    assert read(tmp_path / "c.ts")[2] == [number / 10 for number in range(40)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("c.mp4", {"times_s": [*(number / 25 for number in range(39)), 20.0]}),
        ("c.mkv", {"fps": 0.5, "frames": 6}),
        ("c.mp4", {"fps": 0.1, "frames": 4}),
    ],
    ids=["a held frame", "a frame every 2 s", "a frame every 10 s"],
)
def test_slow_videos_are_whole(tmp_path, name, options):
    """Few frames are no sign that something is missing."""
    part(tmp_path / name, **options)
    said, _, _, report = read(tmp_path / name)

    assert said == list(range(options.get("frames", 40)))
    assert (report.is_whole, report.problem) == (True, None)


@pytest.mark.parametrize("name", ["c.mp4", "c.mkv", "c.ts"])
def test_longer_sound_is_no_missing_picture(tmp_path, name):
    """Sound that goes on for 5 s after the last frame."""
    make_clip(tmp_path / name, frames=40, fps=25, audio_s=6.6)
    report = read(tmp_path / name)[3]

    assert (report.is_whole, report.problem) == (True, None)


@pytest.mark.parametrize("audio_s", [0, 4.8])
@pytest.mark.parametrize("name", ["c.mkv", "c.avi", "c.mp4"])
def test_missing_pictures_are_truncated(tmp_path, name, audio_s):
    """The half of a file is not whole, with and without sound."""
    content = part(tmp_path / name, frames=120, audio_s=audio_s, container_options={"movflags": "faststart"})
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    said, numbers, _, report = read(tmp_path / name)

    assert said == numbers == list(range(len(said)))
    assert not report.is_whole
    assert report.problem.error_type in ("truncated", "damaged")


@pytest.mark.parametrize("gone", [1, 3, 20])
def test_lost_packets_of_a_transport_stream(tmp_path, gone):
    """Frames from the loss to the next key frame are left out; the numbers and times of later ones are true."""
    content = part(tmp_path / "c.ts", frames=100, gop=25, options={"bf": "2", "crf": "5"})
    packets = [content[at : at + 188] for at in range(0, len(content), 188)]
    of_video = [n for n, packet in enumerate(packets) if packet[1] & 0x1F == 1 and packet[2] == 0]
    lost = set(of_video[len(of_video) * 2 // 5 :][:gone])
    path = tmp_path / "lost.ts"
    path.write_bytes(b"".join(packet for n, packet in enumerate(packets) if n not in lost))
    said, numbers, times, report = read(path)

    assert said == numbers
    assert times == [number / 25 for number in numbers]
    assert numbers[-1] == 99
    assert len(numbers) < 100
    assert (report.is_whole, report.problem.error_type) == (False, "damaged")


def test_zeros_in_a_transport_stream(tmp_path):
    """FFmpeg looks for the next packet, and marks nothing."""
    content = bytearray(part(tmp_path / "c.ts", frames=100, gop=25, options={"bf": "0"}))
    of_video = [at for at in range(0, len(content), 188) if content[at + 1] & 0x5F == 0x41 and content[at + 2] == 0]
    content[of_video[40] : of_video[42]] = bytes(of_video[42] - of_video[40])
    (tmp_path / "c.ts").write_bytes(content)
    said, numbers, times, report = read(tmp_path / "c.ts")

    assert said == numbers
    assert times == [number / 25 for number in numbers]
    assert set(range(37)) | set(range(50, 100)) <= set(numbers)
    assert (report.is_whole, report.problem.error_type) == (False, "damaged")


@pytest.mark.parametrize(
    ("name", "default", "shown"),
    [("c.mp4", 1, 1), ("c.mkv", 1, 1), ("c.mkv", None, 1), ("c.ts", None, 1), ("c.mp4", 0, 0), ("c.mkv", 0, 0)],
)
def test_stream_that_a_player_shows(tmp_path, name, default, shown):
    """The default one, else the largest; the others are named, and decord is refused."""
    sizes = [(48, 32), (96, 64)]
    clips = [tmp_path / f"{number}.mp4" for number in range(len(sizes))]
    for number, (clip, size) in enumerate(zip(clips, sizes, strict=True)):
        part(clip, size=size, first=100 * number)
    write_streams(tmp_path / name, clips, default=default)
    said, numbers, _, report = read(tmp_path / name)

    assert said == [100 * shown + number for number in numbers]
    assert (report.width, report.height) == sizes[shown]
    assert (report.is_whole, report.problem.error_type) == (True, "other_streams")
    with pytest.raises(InputError, match="more than one video stream"):
        read(tmp_path / name, VideoConfig(fps=None, backend="decord"))


def test_numbers_go_on_after_a_restart_when_resumed(tmp_path):
    """A run that goes on in the second part finds the same rest."""
    path, _ = joined(tmp_path, ".ts", {}, {})
    whole = read(path)

    for skip in (10, 40, 55):
        assert read(path, ALL, skip_frames=skip)[:3] == tuple(column[skip:] for column in whole[:3])
