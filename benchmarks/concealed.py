"""Damage inside the packets of videos: is it found, and what do frames look like that are wrong and not told?

Clips of a camera that moves over the portrait, with each codec. A few bytes (1 to 256) of one packet are overwritten,
and the container stays whole: FFmpeg decodes what it can, patches the rest, and mostly returns no error. What is read
with status `ok`, or as the sound part of a `partial` video, is held against the whole clip, frame by frame: a frame is
wrong from a mean difference of 6 grey levels on. Of the wrong ones it is counted how many repeat the frame before
them, bit for bit, and how many are of one colour (black or grey).
"""

from __future__ import annotations

import random
import tempfile
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
from harness import ROOT, parser, report, say
from PIL import Image

from motivnet_cli.config import VideoConfig
from motivnet_cli.errors import InputError
from motivnet_cli.inputs.video import VideoReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

WIDTH, HEIGHT, FPS, NUM_FRAMES, GOP = 320, 240, 25, 48, 24
LENGTHS = (1, 4, 32, 256)
WRONG_FROM = 6
ONE_COLOUR = 2
"""Standard deviation below which a frame is of one colour, in grey levels."""
KINDS = {
    "h264.mp4": ("libx264", {"preset": "veryfast"}),
    "h264.ts": ("libx264", {"preset": "veryfast"}),
    "hevc.mp4": ("libx265", {"preset": "veryfast", "x265-params": "log-level=none:pools=1:frame-threads=1"}),
    "mpeg4.avi": ("mpeg4", {"qscale": "3", "flags": "+qscale"}),
    "mpeg2.mpg": ("mpeg2video", {}),
    "vp8.webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "b": "1M"}),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "b": "1M"}),
    "mjpeg.avi": ("mjpeg", {}),
}


@dataclass(slots=True)
class Found:
    """What became of the damaged clips of one kind."""

    clips: int = 0
    partial: int = 0
    """Or failed: the damage was found."""
    remarked: int = 0
    ok: int = 0
    ok_and_wrong: int = 0
    """Of those that are `ok` without a remark: such with a wrong frame."""
    wrong_frames: int = 0
    repeated: int = 0
    one_colour: int = 0


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=40, help="damaged clips of each kind")
    options = arguments.parse_args()
    measured = {}
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        for name, (codec, settings) in KINDS.items():
            clip = Path(scratch) / name
            make_clip(clip, codec, settings)
            found = damage(clip, options.count)
            measured[name] = asdict(found)
            say(f"{name}: {measured[name]}")
    report({"kinds": measured}, record=options.record)


def make_clip(path: Path, codec: str, settings: Mapping[str, str]) -> None:
    with Image.open(ROOT / "sample_data" / "astronaut.png") as image:
        portrait = np.asarray(image.convert("RGB").resize((768, 768)))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=dict(settings))
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.thread_count = GOP, 1
        for k in range(NUM_FRAMES):
            x, y = 60 + 4 * k, 40 + 3 * k
            pixels = np.ascontiguousarray(portrait[y : y + HEIGHT, x : x + WIDTH])
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def damage(clip: Path, count: int) -> Found:
    """Overwrite a place of the clip, again and again in another one, and read it."""
    whole, _ = read(clip)
    content = clip.read_bytes()
    with av.open(str(clip)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size and packet.pos]
    chance, found = random.Random(0), Found()
    for _ in range(count):
        position, size = chance.choice(packets[2:])
        start, length = position + chance.randrange(size), chance.choice(LENGTHS)
        put = bytes(length) if chance.random() < 0.5 else chance.randbytes(length)
        damaged = clip.with_name(f"damaged {clip.name}")
        damaged.write_bytes((content[:start] + put + content[start + length :])[: len(content)])
        frames, outcome = read(damaged)
        is_wrong = count_wrong(frames, whole, found)
        found.clips += 1
        found.partial += outcome == "partial"
        found.remarked += outcome == "remark"
        found.ok += outcome == "ok"
        found.ok_and_wrong += outcome == "ok" and is_wrong
    return found


def read(path: Path) -> tuple[dict[int, NDArray[np.uint8]], str]:
    """The frames by number, and what is said of the video."""
    frames: dict[int, NDArray[np.uint8]] = {}
    reader = VideoReader(str(path), VideoConfig(fps=None), max_pixels=10**7)
    try:
        for frame in reader:
            assert frame.index is not None
            frames[frame.index] = frame.rgb
    except InputError:
        return frames, "partial"
    found = reader.report
    return frames, ("remark" if found.problem else "ok") if found.is_whole else "partial"


def count_wrong(frames: Mapping[int, NDArray[np.uint8]], whole: Mapping[int, NDArray[np.uint8]], found: Found) -> bool:
    """Count the frames that are not those of the whole clip; whether there are any."""
    before, num_wrong = None, 0
    for number, rgb in frames.items():
        truth = whole.get(number)
        if truth is None or np.abs(rgb.astype(np.int16) - truth).mean() >= WRONG_FROM:
            num_wrong += 1
            found.repeated += before is not None and np.array_equal(before, rgb)
            found.one_colour += bool(rgb.std() < ONE_COLOUR)
        before = rgb
    found.wrong_frames += num_wrong
    return num_wrong > 0


if __name__ == "__main__":
    main()
