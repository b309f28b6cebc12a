"""Video: memory that does not grow with the clip, and what the separate decoding process costs.

A two-hour 1080p clip of 24 frames a second and one of a minute are read at one frame a second: the peaks of both
processes together lie within 150 MB, and the time of the long one is set beside that of the same decoder's own loop.
Then clips go through `VideoReader` and through that loop in this process, in turn, several times; the target at one
frame a second is 0.8 of the loop's rate. `flat` is the first five minutes of the long clip, a bar over a gradient,
which costs 0.4 ms a frame to decode; `textured` is an enlarged portrait with grain under a moving camera, 8 Mbit/s, as
films are; `all` takes every frame of 20 flat seconds. Decord reads the last beside them.
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
from harness import ROOT, parser, report, say, time_process
from PIL import Image

from motivnet_cli.config import VideoConfig
from motivnet_cli.inputs.video import VideoReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

SIZE = (1920, 1080)
FPS = 24


def flat(number: int) -> Pixels:
    """A bar that moves over a gradient."""
    picture = np.empty((SIZE[1], SIZE[0], 3), np.uint8)
    picture[:] = np.linspace(30, 200, SIZE[0], dtype=np.uint8)[None, :, None]
    left = number % 26 * 70
    picture[:, left : left + 100] = 240
    return picture


class Textured:
    """The portrait, enlarged, with grain, under a moving camera."""

    def __init__(self) -> None:
        with Image.open(ROOT / "sample_data" / "astronaut.png") as portrait:
            large = portrait.convert("RGB").resize((2400, 2400), Image.Resampling.BICUBIC)
        self._texture = np.asarray(large).astype(np.int16)
        rng = np.random.default_rng(0)
        self._grain = [rng.normal(0, 6, (SIZE[1], SIZE[0], 1)).astype(np.int16) for _ in range(8)]

    def __call__(self, number: int) -> Pixels:
        x, y = 200 + int(150 * np.sin(number / 40)), 200 + number
        part = self._texture[y : y + SIZE[1], x : x + SIZE[0]] + self._grain[number % len(self._grain)]
        return np.clip(part, 0, 255).astype(np.uint8)


def make_clip(path: Path, *, seconds: int, paint: Callable[[int], Pixels] = flat, mbit: int | None = None) -> None:
    """1080p H.264: ten seconds are encoded, and come again and again."""
    quality = {"b": f"{mbit}M"} if mbit else {"crf": "28"}
    with av.open(str(path), "w") as container:
        preset = "veryfast" if mbit else "ultrafast"
        stream = container.add_stream("libx264", rate=FPS, options={"preset": preset, **quality})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        packets = []
        for number in range(10 * FPS):
            frame = av.VideoFrame.from_ndarray(paint(number), format="rgb24")
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
    arguments.add_argument("--rounds", type=int, default=4)
    options = arguments.parse_args()
    measured: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        peaks = {}
        for minutes in (1, options.minutes):
            path = Path(scratch) / f"{minutes}.mp4"
            make_clip(path, seconds=60 * minutes)
            code = "import sys; sys.path.insert(0, 'benchmarks'); import video; video.consume(sys.argv[1])"
            run = time_process([sys.executable, "-c", code, str(path)])
            answer = json.loads(run.stdout)
            if answer["frames"] != 60 * minutes:
                raise SystemExit(f"{answer['frames']} frames of {60 * minutes}")
            peaks[minutes] = round(answer["peak_mb"])
            say(f"{minutes} min, {path.stat().st_size / 1e6:.0f} MB: both processes peak at {peaks[minutes]} MB")
        measured |= {"peak_mb": peaks, "growth_mb": peaks[options.minutes] - peaks[1], "target_mb": 150}
        started = time.perf_counter()
        through_pyav(path, VideoConfig())
        whole = {"reader": round(run.seconds, 1), "pyav": round(time.perf_counter() - started, 1)}
        whole["ratio"] = round(whole["pyav"] / whole["reader"], 3)
        say(f"the whole of it, once each, with the start of a process: {whole} s")
        measured["whole"] = whole
        short, textured = Path(scratch) / "short.mp4", Path(scratch) / "textured.mp4"
        make_clip(short, seconds=20)
        make_clip(textured, seconds=120, paint=Textured(), mbit=8)
        ways: dict[str, Callable[[Path, VideoConfig], int]] = {
            "reader": through_reader,
            "pyav": through_pyav,
            "decord": through_decord,
        }
        for name, path, config in (
            ("textured", textured, VideoConfig()),
            ("flat", Path(scratch) / f"{options.minutes}.mp4", VideoConfig(end_s=300.0)),
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
