"""Frames with true numbers and times, whatever the clip; and whatever breaks costs that clip alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import psutil
import pytest

from motivnet_cli.config import VideoConfig
from motivnet_cli.errors import InputError
from motivnet_cli.inputs.video import VideoReader
from tests.clips import can_encode, make_clip, make_sound, read_number

ALL = VideoConfig(fps=None)
CODECS = {
    "h264": ("libx264", "c.mp4"),
    "h264 in mkv": ("libx264", "c.mkv"),
    "hevc": ("libx265", "c.mp4"),
    "vp9": ("libvpx-vp9", "c.webm"),
    "av1": ("libsvtav1", "c.mp4"),
    "mpeg4": ("mpeg4", "c.avi"),
    "mpeg-ts": ("libx264", "c.ts"),
}


def read(path, config=ALL, **options):
    """Numbers that the pictures say, frame numbers, times, and the report."""
    reader = VideoReader(str(path), config, **{"max_pixels": 10**7} | options)
    frames = [(read_number(frame.rgb), frame.index, frame.time_s) for frame in reader]
    return [f[0] for f in frames], [f[1] for f in frames], [f[2] for f in frames], reader.report


def clip(tmp_path, name="c.mp4", **options):
    path = tmp_path / name
    times = make_clip(path, **{"frames": 40} | options)
    return path, times


@pytest.mark.parametrize("kind", CODECS)
def test_every_frame_with_its_time(tmp_path, kind):
    """All frames of a clip, each the right one, at its time to 1 ms."""
    codec, name = CODECS[kind]
    if not can_encode(codec):
        pytest.skip(f"no encoder {codec} here")
    path, times = clip(tmp_path, name, codec=codec)
    said, numbers, read_times, report = read(path)

    assert said == numbers == list(range(40))
    assert read_times == pytest.approx([t - times[0] for t in times], abs=1e-3)
    assert report.is_whole
    assert report.num_read == 40


@pytest.mark.parametrize("name", ["c.mp4", "c.mkv"])
def test_variable_frame_rate(tmp_path, name):
    """Times are the container's, not number over rate."""
    rng = random.Random(5)
    given = [0.0]
    while len(given) < 40:
        given.append(given[-1] + rng.choice([0.02, 0.04, 0.2]))
    path, times = clip(tmp_path, name, times_s=given)
    said, _, read_times, _ = read(path)

    assert said == list(range(40))
    assert read_times == pytest.approx(times, abs=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"rotation": 90},
        {"rotation": 180},
        {"rotation": 270},
        {"size": (98, 66), "pixel_format": "yuv420p"},
        {"size": (97, 65), "pixel_format": "yuv444p"},
        {"pixel_format": "yuv420p10le"},
        {"gop": 250, "options": {"bf": "3"}},
    ],
    ids=str,
)
def test_odd_clips(tmp_path, options):
    """Turned by metadata, odd sizes, 10 bits, long groups with B-frames: upright and in order."""
    path, _ = clip(tmp_path, **options)
    said, numbers, _, _ = read(path)

    assert said == numbers == list(range(40))


def test_frames_a_second(tmp_path):
    """fps takes the first frame at or after each tick."""
    path, _ = clip(tmp_path, frames=100, fps=30)

    assert read(path, VideoConfig(fps=3))[0] == list(range(0, 100, 10))
    assert read(path, VideoConfig())[0] == [0, 30, 60, 90]
    assert read(path, VideoConfig(fps=1000))[0] == list(range(100))


def test_frames_a_second_of_a_variable_rate(tmp_path):
    """Where no frame lies near a tick, the next one serves, and each frame at most once."""
    path, _ = clip(tmp_path, "c.mkv", frames=6, times_s=[0.0, 0.1, 0.9, 1.05, 3.5, 3.6])

    assert read(path, VideoConfig(fps=1))[0] == [0, 3, 4]


def test_every_nth_and_a_part(tmp_path):
    """--every counts from the first frame of the part; the part is [start, end)."""
    path, _ = clip(tmp_path, frames=100, fps=30)

    assert read(path, VideoConfig(fps=None, every=7))[0] == list(range(0, 100, 7))
    assert read(path, VideoConfig(fps=None, every=10, start_s=1.0, end_s=2.0))[0] == [30, 40, 50]
    assert read(path, VideoConfig(fps=None, start_s=3.2))[0] == [96, 97, 98, 99]


@pytest.mark.parametrize("config", [ALL, VideoConfig(fps=3), VideoConfig(fps=None, every=7, start_s=0.5)], ids=str)
def test_going_on_is_the_rest(tmp_path, config):
    """Resumed after any number of sampled frames, the rest is that of an undisturbed read."""
    path, _ = clip(tmp_path, frames=60)
    said, numbers, times, _ = read(path, config)
    for skip in (0, 1, len(said) - 1, len(said)):
        rest = read(path, config, skip_frames=skip)

        assert rest[:3] == (said[skip:], numbers[skip:], times[skip:])


@pytest.mark.parametrize("kind", ["h264", "h264 in mkv", "vp9", "mpeg4"])
def test_decord_gives_the_same_where_it_is_right(tmp_path, kind):
    """Both decoders give the same frames and times."""
    pytest.importorskip("decord")
    codec, name = CODECS[kind]
    path, _ = clip(tmp_path, name, codec=codec, frames=70)
    for settings in ({"fps": None}, {"fps": 3}, {"fps": None, "every": 7}):
        ours, theirs = (read(path, VideoConfig(**settings, backend=backend)) for backend in ("pyav", "decord"))

        assert ours[:2] == theirs[:2]
        assert ours[2] == pytest.approx(theirs[2], abs=1e-3)


@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_a_part_without_a_frame_is_an_error(tmp_path, backend):
    """Behind the end, after which the message says when that is, and between two frames."""
    if backend == "decord":
        pytest.importorskip("decord")
    path, _ = clip(tmp_path)
    for part, message in (((2.0, None), "the last one is 1.3 s after the first$"), ((0.51, 0.52), "ask for$")):
        with pytest.raises(InputError, match=message) as raised:
            read(path, VideoConfig(fps=None, start_s=part[0], end_s=part[1], backend=backend))

        assert raised.value.error_type == "no_frame_in_part"


def test_of_a_broken_video_without_a_frame_in_the_part_both_is_said(tmp_path):
    """It may lack the part for being cut short."""
    path, _ = clip(tmp_path, "c.mkv", frames=80)
    os.truncate(path, path.stat().st_size // 2)

    with pytest.raises(InputError, match=r"the last one is [01]\.\d+ s after the first; it ends 1\.\d s before its"):
        read(path, VideoConfig(start_s=2.5))


@pytest.mark.parametrize("kind", ["hevc", "av1", "mpeg-ts"])
def test_decord_is_refused_where_it_is_wrong(tmp_path, kind):
    """What decord reads wrongly without a word is refused, with the reason and the way on."""
    codec, name = CODECS[kind]
    if not can_encode(codec):
        pytest.skip(f"no encoder {codec} here")
    path, _ = clip(tmp_path, name, codec=codec)

    with pytest.raises(InputError, match=r"decord is not right for .*--video-backend pyav"):
        read(path, VideoConfig(backend="decord"))


def edited(source, path, *, skip):
    """The clip without its first frames, which stay in the file: an edit list says to leave them out."""
    options = {"use_editlist": "1", "avoid_negative_ts": "disabled"}
    with av.open(str(source)) as whole, av.open(str(path), "w", options=options) as cut:
        stream = cut.add_stream_from_template(whole.streams.video[0])
        shift = int(skip / 30 / whole.streams.video[0].time_base)
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.pts -= shift
                packet.dts -= shift
                packet.stream = stream
                cut.mux(packet)
    return path


def test_edit_list(tmp_path):
    """What an edit list leaves out is not there; times begin at 0; no remark is made."""
    path, _ = clip(tmp_path, "source.mp4", frames=80, gop=80)
    said, numbers, times, report = read(edited(path, tmp_path / "c.mp4", skip=20))

    assert said == list(range(20, 80))
    assert numbers == list(range(60))
    assert times == pytest.approx([n / 30 for n in range(60)], abs=1e-3)
    assert report.is_whole
    assert report.problem is None
    with pytest.raises(InputError, match="edit list"):
        read(tmp_path / "c.mp4", VideoConfig(backend="decord"))


@pytest.mark.parametrize("kind", ["mpeg-ts", "edit list", "hevc by strides"])
def test_decord_itself_is_wrong_there(tmp_path, kind):
    """The evidence for refusing: decord gives other frames than were encoded, and says nothing."""
    decord = pytest.importorskip("decord")
    expected = list(range(80))
    if kind == "mpeg-ts":
        path, _ = clip(tmp_path, "c.ts", frames=80)
    elif kind == "edit list":
        path = edited(clip(tmp_path, "source.mp4", frames=80, gop=80)[0], tmp_path / "c.mp4", skip=20)
        expected = list(range(20, 80))
    else:
        if not can_encode("libx265"):
            pytest.skip("no encoder libx265 here")
        path, _ = clip(tmp_path, frames=120, codec="libx265", gop=60)
        expected = list(range(0, 120, 7))
    video = decord.VideoReader(str(path))
    numbers = expected if kind.startswith("hevc") else list(range(len(video)))

    assert [read_number(frame) for frame in video.get_batch(numbers).asnumpy()] != expected


def test_cut_short_at_random_bytes(tmp_path):
    """A file that ends early gives the frames before the end, right ones, and says that it is not whole."""
    path, _ = clip(tmp_path, frames=120, container_options={"movflags": "faststart"})
    content = path.read_bytes()
    rng = random.Random(11)
    refusals = set()
    for _ in range(12):
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(content[: rng.randrange(len(content) // 10, len(content) - 400)])
        try:
            said, numbers, times, report = read(cut)
        except InputError as error:  # not one whole frame before the end
            refusals.add(error.error_type)
            continue

        assert said == numbers
        assert times == pytest.approx([number / 30 for number in said], abs=1e-3)
        assert not report.is_whole
        assert report.problem.error_type in ("damaged", "truncated")
    assert refusals <= {"not_a_video", "damaged", "truncated"}


def test_hole_in_the_middle(tmp_path):
    """Zeros over a part of the data cost the frames that need it, not those after."""
    path, _ = clip(tmp_path, frames=120, container_options={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 20] = bytes(len(content) // 20)
    path.write_bytes(content)
    said, numbers, _, report = read(path)

    assert not report.is_whole
    assert report.problem.error_type == "damaged"
    assert said == numbers
    assert numbers[-1] == 119
    assert 60 < len(said) < 120


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: path.write_bytes(b""), "empty_file: the file holds 0 bytes"),
        (lambda path: path.write_text("not a video"), "not_a_video: no video that FFmpeg"),
        (lambda path: path.write_bytes(random.Random(1).randbytes(5000)), "not_a_video: no video that FFmpeg"),
        (lambda path: make_sound(path), "no_video_stream: it holds no video, only audio"),
        (lambda path: None, "not_found: there is no such file"),
        (lambda path: path.mkdir(), "not_a_file: something else than a file stands where"),
    ],
    ids=["empty", "text", "noise", "sound", "missing", "folder"],
)
def test_what_is_no_video(tmp_path, make, kind):
    """A file without one frame raises InputError of a stable type, and the message says what is there."""
    path = tmp_path / "c.mp4"
    make(path)

    with pytest.raises(InputError) as error:
        read(path)
    assert f"{error.value.error_type}: {error.value}".startswith(kind)


def test_large_frames_are_refused(tmp_path):
    """Frames beyond max_pixels are not decoded."""
    path, _ = clip(tmp_path)

    with pytest.raises(InputError, match="96 x 64") as error:
        read(path, max_pixels=1000)
    assert error.value.error_type == "too_large"


def decoder():
    """The decoding child of this process."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for child in psutil.Process().children(recursive=True):
            if "motivnet_cli.inputs.video_worker" in " ".join(child.cmdline()):
                return child
        time.sleep(0.01)
    raise AssertionError("no decoder was started")


@pytest.fixture
def long_clip(tmp_path):
    """More than a pipe holds, so that the decoder lives while frames are taken."""
    return clip(tmp_path, frames=300, size=(320, 240))[0]


def test_decoder_that_crashes_costs_the_rest_of_its_clip(long_clip):
    """A segmentation fault is a report: the frames that came stay."""
    reader = VideoReader(str(long_clip), ALL, max_pixels=10**7)
    taken = 0
    for frame in reader:
        taken += 1
        assert read_number(frame.rgb) == taken - 1
        if taken == 5:
            decoder().send_signal(signal.SIGSEGV)

    assert 5 <= taken < 300
    assert not reader.report.is_whole
    assert (reader.report.problem.error_type, "SIGSEGV" in reader.report.problem.message) == ("decoder_crash", True)


@pytest.mark.parametrize("noise", [0, 300_000])
def test_decoder_that_does_not_start_says_why(tmp_path, monkeypatch, noise):
    """A library that cannot be imported is named in the message, also behind more than a pipe holds."""
    (tmp_path / "broken").mkdir()
    broken = f"import sys\nsys.stderr.write('.' * {noise})\nraise ImportError('libavcodec.so.99 is missing')"
    (tmp_path / "broken" / "av.py").write_text(broken)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'broken'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    with pytest.raises(InputError, match=r"exit code 1: ImportError: libavcodec\.so\.99 is missing$") as error:
        read(clip(tmp_path)[0])
    assert error.value.error_type == "decoder_crash"


def test_decoder_that_hangs_is_given_up(long_clip):
    """A decoder that says nothing is killed after the stall time, and the frames that came stay."""
    reader = VideoReader(str(long_clip), ALL, max_pixels=10**7, timeout_s=5)
    taken = 0
    for _ in reader:
        taken += 1
        if taken == 5:
            decoder().send_signal(signal.SIGSTOP)

    assert 5 <= taken < 300
    assert reader.report.problem.error_type == "decoder_stall"


def test_consumer_that_leaves_early_leaves_no_process(long_clip):
    """Dropping the frames ends the decoder."""
    frames = iter(VideoReader(str(long_clip), ALL, max_pixels=10**7))
    next(frames)
    child = decoder()
    frames.close()

    assert not child.is_running()


def test_killed_parent_leaves_no_decoder(long_clip):
    """SIGKILL of the parent is the end of the decoder too."""
    code = (
        "import sys, time; from motivnet_cli.inputs.video import VideoReader\n"
        "from motivnet_cli.config import VideoConfig\n"
        "frames = iter(VideoReader(sys.argv[1], VideoConfig(fps=None), max_pixels=10**7)); next(frames)\n"
        "print('ready', flush=True); time.sleep(300)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(long_clip)], stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"ready\n"
    (child,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.communicate()
    _, alive = psutil.wait_procs([child], timeout=300)

    assert alive == []


def test_memory_does_not_grow_with_the_clip(tmp_path):
    """A slow consumer of a long clip holds one frame: the decoder does not run ahead."""
    peaks = []
    for frames in (30, 240):
        path, _ = clip(tmp_path, f"{frames}.mp4", frames=frames, size=(640, 480), options={"preset": "ultrafast"})
        reader = VideoReader(str(path), ALL, max_pixels=10**7)
        peak = 0
        for number, _ in enumerate(reader):
            if number % 20 == 5:
                time.sleep(0.02)
                peak = max(peak, decoder().memory_info().rss)
        peaks.append(peak)

    assert peaks[1] - peaks[0] < 40e6  # 240 frames are 221 MB


def test_worker_is_light():
    """The decoding process imports neither torch nor pyarrow."""
    code = "import sys, motivnet_cli.inputs.video_worker; print({'torch', 'pyarrow', 'polars'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)

    assert run.stdout.strip() == "set()"


def test_names_that_are_no_text(tmp_path):
    """Any name that the file system allows is opened."""
    path, _ = clip(tmp_path)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff \n.mp4"))
    path.rename(odd)

    assert read(odd)[0] == list(range(40))


def test_tags_that_are_no_text(tmp_path):
    """A tag that is not UTF-8 is no reason to refuse a video."""
    path, _ = clip(tmp_path)
    content = path.read_bytes()
    assert content.count(b"Lavf") == 1, "the tag that FFmpeg itself writes"
    path.write_bytes(content.replace(b"Lavf", b"La\xfff"))

    assert read(path)[0] == list(range(40))
