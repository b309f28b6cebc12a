"""How much damage of JPEGs is found, and what decoding costs against Pillow (docs/decisions/0017).

The pictures are sample_data/astronaut.png with noise. Damage is done to codes alone, so that all markers stay in place;
what leaves all pixels as they were is not counted.
"""

from __future__ import annotations

import io
import random
import re
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import parser, report, say
from photos import PORTRAIT
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from motivnet_cli.errors import InputError
from motivnet_cli.inputs.decode import decode_bytes, upright_rgb

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

KINDS: dict[str, dict[str, Any]] = {
    "4:2:0": {},
    "4:4:4": {"subsampling": 0},
    "progressive": {"progressive": True},
    "optimized": {"optimize": True},
    "restarts": {"restart_marker_rows": 1},
}
DAMAGES = ("bit", "byte", "burst of 16", "512 zeros", "512 others", "512 lost")
SIZES = ((4000, 3000), (1280, 960), (320, 240))


def jpeg(width: int, height: int, **options: object) -> bytes:
    """The portrait with some noise, as a camera has it."""
    with Image.open(PORTRAIT) as portrait:
        rgb = np.asarray(portrait.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    rgb = rgb + np.random.default_rng(0).integers(-6, 7, rgb.shape)
    file = io.BytesIO()
    Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85, **options)  # type: ignore[arg-type]
    return file.getvalue()


def by_pillow(content: bytes) -> NDArray[np.uint8]:
    """As motivnet decoded before."""
    image = JpegImageFile(io.BytesIO(content))
    image.load()
    return upright_rgb(image, 1)


def ours(content: bytes) -> NDArray[np.uint8]:
    return decode_bytes(content, max_pixels=10**8).rgb


def damaged(content: bytes, damage: str, chance: random.Random) -> bytes:
    """The content with one place of its scans changed."""
    places = [at for scan in re.finditer(rb"\xff\xda.{12}(?:[^\xff]|\xff[\0\xd0-\xd7])+", content, re.DOTALL)
              for at in range(scan.start() + 14, scan.end())]  # fmt: skip
    at = chance.choice(places)
    wrong = bytearray(content)
    if damage == "bit":
        wrong[at] ^= 1 << chance.randrange(8)
    elif damage == "byte":
        wrong[at] ^= chance.randrange(1, 256)
    elif damage == "burst of 16":
        wrong[at : at + 16] = chance.randbytes(16)
    else:
        end = min(at + 512, places[-1])
        zeros, others = bytes(end - at), bytes(chance.randrange(255) for _ in range(at, end))
        wrong[at:end] = {"512 zeros": zeros, "512 others": others, "512 lost": b""}[damage]
    return bytes(wrong)


def find_damage(*, count: int) -> dict[str, Any]:
    """By kind of JPEG and of damage: the share that is refused, by Pillow and by us, of what changes pixels."""
    chance, rows = random.Random(14), {}
    for kind, options in KINDS.items():
        content = jpeg(512, 512, **options)
        sound = by_pillow(content)
        for damage in DAMAGES:
            wrongs = [damaged(content, damage, chance) for _ in range(count)]
            wrongs = [wrong for wrong in wrongs if not np.array_equal(outcome(by_pillow, wrong), sound)]
            shares = [
                sum(outcome(decode, wrong).size == 0 for wrong in wrongs) / len(wrongs) for decode in (by_pillow, ours)
            ]
            rows[f"{kind}, {damage}"] = dict(zip(("changed", "pillow", "ours"), (len(wrongs), *shares), strict=True))
            say(f"{kind}, {damage}: of {len(wrongs)} Pillow refuses {shares[0]:.0%}, we {shares[1]:.0%}")
    return rows


def outcome(decode: Callable[[bytes], NDArray[np.uint8]], content: bytes) -> NDArray[np.uint8]:
    """The pixels, or none where the file is refused."""
    try:
        return decode(content)
    except (OSError, SyntaxError, InputError):
        return np.empty((0, 0, 3), np.uint8)


def time_decoding(*, rounds: int) -> dict[str, Any]:
    """CPU time of a picture in turn by both: medians in milliseconds, and the median of the ratios."""
    rows = {}
    for width, height in SIZES:
        for kind in ("4:2:0", "4:4:4", "progressive"):
            content = jpeg(width, height, **KINDS[kind])
            spent = []
            for _ in range(rounds):
                marks = [time.thread_time()]
                pixels = []
                for decode in (by_pillow, ours):
                    pixels.append(decode(content))
                    marks.append(time.thread_time())
                spent.append(np.diff(marks) * 1e3)
            pillow_ms, our_ms = np.median(spent, axis=0).tolist()
            ratio = statistics.median(float(b / a) for a, b in spent)
            row = {"pillow_ms": pillow_ms, "our_ms": our_ms, "ratio": ratio, "same": np.array_equal(*pixels)}
            rows[f"{width} x {height}, {kind}"] = row
            say(f"{width} x {height}, {kind}: {row}")
    return rows


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=60)
    arguments.add_argument("--rounds", type=int, default=9)
    options = arguments.parse_args()
    timed = time_decoding(rounds=options.rounds)
    report({"decoding": timed, "damage": find_damage(count=options.count)}, record=options.record)


if __name__ == "__main__":
    main()
