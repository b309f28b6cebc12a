"""Makes the pictures of the documents from `sample_data`: what the commands write, and how it looks.

    python docs/screenshots.py        # or make screenshots; writes docs/images/*.webp

It needs the extra `dev`, and Chromium. Figures of speed in the terminal are those of the machine that it runs on.
"""

from __future__ import annotations

import fcntl
import html
import io
import os
import pty
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import av
import pyte
from PIL import Image, ImageOps
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
COLUMNS, LINES = 108, 60
_COLOURS = {
    "red": "#e06c75",
    "green": "#98c379",
    "brown": "#e5c07b",
    "blue": "#61afef",
    "magenta": "#c678dd",
    "cyan": "#56b6c2",
}
ANNOTATE = "motivnet annotate sample_data --model expression-net --fps 5 --track --out preds.parquet"
SUMMARY = "motivnet summary preds.parquet --by track --smooth 1"
OVERLAY = "motivnet export overlay preds.parquet interview.mp4 --out seen.mp4"
PAGE = "motivnet export report preds.parquet --out report.html"
MOMENT_S = 4.0
"""Of interview.mp4: both people are there."""


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        shutil.copytree(ROOT / "sample_data", folder / "sample_data")
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 900}, device_scale_factor=1.5)
        save(terminal(page, folder, [ANNOTATE, SUMMARY]), "terminal", 1100)
        typed(folder, OVERLAY)
        save(frame_at(folder / "seen.mp4", MOMENT_S), "overlay", 640)
        typed(folder, PAGE)
        page.set_viewport_size({"width": 1100, "height": 1000})
        page.goto((folder / "report.html").as_uri())
        save(page.screenshot(), "page", 1100, framed=True)
        box = page.locator("figure.timeline", has_text="interview.mp4").bounding_box()
        around = {"x": box["x"] - 20, "y": box["y"] - 16, "width": box["width"] + 40, "height": box["height"] + 32}
        save(page.screenshot(full_page=True, clip=around), "timeline", 1100, framed=True)
        browser.close()


def save(picture: Image.Image | bytes, name: str, width: int, *, framed: bool = False) -> None:
    """As WebP, `width` pixels wide at most; framed where it is as white as what is around it."""
    image = picture if isinstance(picture, Image.Image) else Image.open(io.BytesIO(picture))
    image.thumbnail((width, 10_000))
    if framed:
        image = ImageOps.expand(image.convert("RGB"), border=1, fill="#c8ccd4")
    path = IMAGES / f"{name}.webp"
    image.convert("RGB").save(path, quality=82, method=6)
    print(f"{path.relative_to(ROOT)}: {image.width} x {image.height}, {path.stat().st_size / 1000:.0f} kB")


def typed(folder: Path, command: str) -> bytes:
    """What a command writes to a terminal of COLUMNS x LINES."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environ |= {"TERM": "xterm-256color", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"}
    process = subprocess.Popen(["bash", "-c", command], cwd=folder, env=environ, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:  # on Linux, the end of a terminal that nobody has open
        pass
    os.close(ours)
    if process.wait():
        raise SystemExit(f"{command}: exit code {process.returncode}\n{written.decode()}")
    return written


def terminal(page: Page, folder: Path, commands: list[str]) -> bytes:
    """A PNG of a terminal in which the commands were typed one after the other."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    for command in commands:
        stream.feed(b"\x1b[1;32m$\x1b[0m " + command.encode() + b"\r\n" + typed(folder, command) + b"\r\n")
    last = max(row for row in range(LINES) if screen.display[row].strip())
    lines = "\n".join(_line(screen, row) for row in range(last + 1))
    page.set_content(
        "<style>body{margin:0;background:#fff}pre{display:inline-block;margin:0;padding:18px 22px;border-radius:8px;"
        "background:#1d2129;color:#d7dae0;font:15px/1.35 'DejaVu Sans Mono',monospace}</style>"
        f"<pre>{lines}</pre>"
    )
    return page.locator("pre").screenshot()


def _line(screen: pyte.Screen, row: int) -> str:
    cells = [screen.buffer[row][column] for column in range(COLUMNS)]
    return "".join(f'<span style="{_style(cell)}">{html.escape(cell.data)}</span>' for cell in cells)


def _style(cell: pyte.screens.Char) -> str:
    """CSS; colours are names, or six digits of 0 to f."""
    named = cell.fg.removeprefix("bright")
    colour = _COLOURS.get(named, f"#{named}" if len(named) == 6 else "inherit")
    return f"color:{colour};font-weight:{'bold' if cell.bold else 'normal'}"


def frame_at(video: Path, seconds: float) -> Image.Image:
    with av.open(str(video)) as container:
        return next(frame.to_image() for frame in container.decode(video=0) if float(frame.time or 0) >= seconds)


if __name__ == "__main__":
    main()
