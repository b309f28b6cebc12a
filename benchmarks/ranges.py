"""A video behind a URL, read by ranges: bytes and requests that a server on this machine counts, and whether the rows
are those of the local file.

Eighty seconds of noise, about 30 KB a frame, in three containers: all of it, and the first tenth. Nothing is said of
times: a network would take them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from harness import ROOT, parser, report, say

sys.path.insert(0, str(ROOT))
from motivnet_cli.config import LoaderConfig, VideoConfig
from motivnet_cli.engine.picture_reader import PictureReader
from motivnet_cli.remote.ranges import BLOCK_BYTES
from tests.clips import write_clip
from tests.server import Answer, FileServer

if TYPE_CHECKING:
    from motivnet_cli.inputs.video_protocol import VideoReport

CONTAINERS = ("mp4", "mkv", "ts")
NUM_FRAMES, RATE = 2000, 25
SHAPE = (192, 288, 3)
PARTS = {"all": None, "first tenth": NUM_FRAMES / RATE / 10}


def main() -> None:
    options = parser(__doc__).parse_args()
    read = {}
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        for container in CONTAINERS:
            path = Path(scratch) / f"clip.{container}"
            noise = np.random.default_rng(0)
            pictures = ((noise.integers(0, 256, SHAPE, np.uint8), number / RATE) for number in range(NUM_FRAMES))
            write_clip(path, pictures, fps=RATE, gop=2 * RATE)
            for part, end_s in PARTS.items():
                row = counted(path, end_s)
                read[f"{container}, {part}"] = row
                say(f"{container}, {part}: {row}")
            path.unlink()
    report({"block_bytes": BLOCK_BYTES, "read": read}, record=options.record)


def counted(path: Path, end_s: float | None) -> dict[str, int | float | bool]:
    """What reading a clip up to a time takes from a server."""
    content = path.read_bytes()
    with FileServer() as server:
        url = server.on(f"/{path.name}", Answer(content, keep_open=True))
        is_same = rows(url, end_s) == rows(str(path), end_s)
        share = round(server.num_bytes / len(content), 3)
        return {"bytes": len(content), "share": share, "requests": len(server.requests), "same_rows": is_same}


def rows(path: str, end_s: float | None) -> tuple[list[tuple[int | None, float | None, bytes]], VideoReport]:
    """Five frames a second with their numbers and times, and what is said at the end."""
    with PictureReader(VideoConfig(fps=5, end_s=end_s), LoaderConfig()).opened_video(path) as reader:
        return [(frame.index, frame.time_s, frame.rgb.tobytes()) for frame in reader], reader.report


if __name__ == "__main__":
    main()
