"""Video: memory that does not grow with the clip, and what the separate decoding process costs.

A two-hour 1080p clip of 24 frames a second and one of a minute are read at one frame a second: the peaks of both
processes together lie within 150 MB. Then the first five minutes of the long clip at one frame a second, and a short
one whole, go through `VideoReader` and through the same decoder's own loop in this process, in turn, several times; the
target for the long one is 0.8 of the loop's rate. Decord reads the short one beside them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from harness import parser, report, say, time_process

from motivnet_cli.config import VideoConfig
from motivnet_cli.video import VideoReader

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = (1920, 1080)
FPS = 24


def make_clip(path: Path, *, seconds: int) -> None:
    """A bar that moves over a gradient, 1080p H.264: ten seconds are encoded, and come again and again."""
    ramp = np.linspace(30, 200, SIZE[0], dtype=np.uint8)
    ground = np.broadcast_to(ramp[None, :, None], (SIZE[1], SIZE[0], 3))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "28"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        packets = []
        for number in range(10 * FPS):
            picture = ground.copy()
            left = number % 26 * 70
            picture[:, left : left + 100] = 240
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            packets += stream.encode(frame)
        packets += stream.encode()
        base = packets[0].time_base
        coded = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in packets]
        for turn in range(seconds // 10):
            shift = turn * round(10 / base)
            for content, pts, dts, is_keyframe in coded:
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.is_keyframe = stream, base, is_keyframe
                packet.pts, packet.dts = pts + shift, dts + shift
                container.mux(packet)


def consume(path: str) -> None:
    """In a process of its own: read at one frame a second, and say the peaks of both processes."""
    import resource

    num_frames = sum(1 for _ in VideoReader(path, VideoConfig(), max_pixels=10**8))
    peaks = [resource.getrusage(who).ru_maxrss / 1e3 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({"frames": num_frames, "peak_mb": sum(peaks)}))


def through_reader(path: Path, config: VideoConfig) -> int:
    return sum(1 for _ in VideoReader(str(path), config, max_pixels=10**8))


def through_pyav(path: Path, config: VideoConfig) -> int:
    """The decoder's own loop: every frame decoded, the sampled ones converted."""
    taken, due = 0, 0.0
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "SLICE"
        for frame in container.decode(video=0):
            if config.end_s is not None and frame.time >= config.end_s:
                break
            if config.fps is None or frame.time >= due:
                due += 1 / (config.fps or 1)
                frame.to_ndarray(format="rgb24")
                taken += 1
    return taken


def through_decord(path: Path, config: VideoConfig) -> int:
    return through_reader(path, VideoConfig(fps=config.fps, backend="decord"))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=int, default=120)
    arguments.add_argument("--rounds", type=int, default=6)
    options = arguments.parse_args()
    measured: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        peaks = {}
        for minutes in (1, options.minutes):
            path = Path(scratch) / f"{minutes}.mp4"
            make_clip(path, seconds=60 * minutes)
            code = "import sys; sys.path.insert(0, 'benchmarks'); import video; video.consume(sys.argv[1])"
            answer = json.loads(time_process([sys.executable, "-c", code, str(path)]).stdout)
            if answer["frames"] != 60 * minutes:
                raise SystemExit(f"{answer['frames']} frames of {60 * minutes}")
            peaks[minutes] = round(answer["peak_mb"])
            say(f"{minutes} min, {path.stat().st_size / 1e6:.0f} MB: both processes peak at {peaks[minutes]} MB")
        measured |= {"peak_mb": peaks, "growth_mb": peaks[options.minutes] - peaks[1], "target_mb": 150}
        short = Path(scratch) / "short.mp4"
        make_clip(short, seconds=20)
        ways: dict[str, Callable[[Path, VideoConfig], int]] = {
            "reader": through_reader,
            "pyav": through_pyav,
            "decord": through_decord,
        }
        for name, path, config in (
            ("one_a_second", Path(scratch) / f"{options.minutes}.mp4", VideoConfig(end_s=300.0)),
            ("all", short, VideoConfig(fps=None)),
        ):
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(options.rounds):
                for way, read in ways.items():
                    if way == "decord" and path != short:
                        continue
                    started = time.perf_counter()
                    read(path, config)
                    seconds[way].append(time.perf_counter() - started)
            best = {way: round(min(each), 2) for way, each in seconds.items() if each}
            ratio = best["pyav"] / best["reader"]
            say(f"{name}: {best} s; reader at {ratio:.2f} of the decoder's own loop (target 0.8)")
            measured[name] = {**best, "ratio": round(ratio, 3)}
    report(measured, record=options.record)


if __name__ == "__main__":
    main()
