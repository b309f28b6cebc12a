"""Makers of pictures for tests: plain, odd and hostile files.

Nothing here is random. Colours of `quadrants` tell every turn and mirroring apart.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import sys
import tarfile
import zlib
from pathlib import Path

from PIL import Image

SAMPLE_DATA = Path(__file__).parents[1] / "sample_data"

ASTRONAUT_POINTS = ((245, 104), (204, 103), (224, 129), (245, 140), (203, 139))
"""LANDMARKS of the face in sample_data/astronaut.png, as the eye sees them."""
_HEAD = (140, 15, 312, 200)
"""The head with some ground around it in sample_data/astronaut.png, x1 y1 x2 y2."""
_FACE = (178, 56, 271, 178)

ODD_NAMES = (
    "two words.png",
    'it\'s "quoted".png',
    "line\nbreak.png",
    "smile \N{GRINNING FACE}.png",
    "-dash.png",
    "100%.png",
    *((os.fsdecode(b"not utf-8 \xff.png"),) if sys.platform == "linux" else ()),
)
"""Names that are awkward to print, quote or encode."""


def face_photo(
    path: Path,
    *,
    size: tuple[int, int] = (640, 480),
    faces: tuple[tuple[float, float, float], ...] = ((320, 240, 160),),
    ground: tuple[int, int, int] = (70, 110, 150),
    **save: object,
) -> list[tuple[float, float, float, float]]:
    """Write a photograph of the astronaut's head, once for each of `faces`, on a ground of one colour.

    Args:
        size: Width and height.
        faces: Centre x, centre y and height of each face in pixels; later ones cover earlier ones.
        save: Options for Pillow's `save`, such as `exif` or `quality`.

    Returns:
        The face boxes, x1 y1 x2 y2, roughly as a detector would put them.
    """
    with Image.open(SAMPLE_DATA / "astronaut.png") as portrait:
        head = portrait.convert("RGB").crop(_HEAD)
    picture = Image.new("RGB", size, ground)
    x1, y1, x2, y2 = _FACE
    boxes = []
    for centre_x, centre_y, height in faces:
        scale = height / (y2 - y1)
        width = scale * (x2 - x1)
        left, top = centre_x - width / 2, centre_y - height / 2
        scaled = head.resize((round(head.width * scale), round(head.height * scale)), Image.Resampling.BICUBIC)
        picture.paste(scaled, (round(left - (x1 - _HEAD[0]) * scale), round(top - (y1 - _HEAD[1]) * scale)))
        boxes.append((left, top, left + width, top + height))
    picture.save(path, **save)
    return boxes


def photos_of_all_kinds(folder: Path, member_faces: tuple[tuple[float, float, float], ...]) -> Path:
    """Write a picture of three faces, one that lies on its side, a video, and an archive with `in.png`.

    Args:
        folder: Where `photos` is made; a copy of the archive's picture lies beside it.
        member_faces: As of `face_photo`.
    """
    photos = folder / "photos"
    (photos / "deep").mkdir(parents=True)
    shutil.copy(SAMPLE_DATA / "group.jpg", photos)
    shutil.copy(SAMPLE_DATA / "face.mp4", photos)
    with Image.open(SAMPLE_DATA / "astronaut.png") as portrait:
        portrait.convert("RGB").transpose(Image.Transpose.ROTATE_90).save(photos / "deep" / "turned.png")
    face_photo(folder / "in.png", faces=member_faces)
    with tarfile.open(photos / "some.tar", "w") as archive:
        archive.add(folder / "in.png", "in.png")
    return photos


def quadrants(width: int = 64, height: int = 48) -> Image.Image:
    """Red, green / blue, yellow, each with a slope to the right and down, so that no two rows or columns agree."""
    colours = Image.new("RGB", (2, 2))
    for place, colour in (((0, 0), (200, 0, 0)), ((1, 0), (0, 200, 0)), ((0, 1), (0, 0, 200)), ((1, 1), (200, 200, 0))):
        colours.putpixel(place, colour)
    flat = colours.resize((width, height), Image.Resampling.NEAREST)
    slope = Image.linear_gradient("L").resize((width, height), Image.Resampling.BILINEAR)
    across = Image.linear_gradient("L").rotate(90).resize((width, height), Image.Resampling.BILINEAR)
    shade = Image.merge("RGB", (slope, across, Image.blend(slope, across, 0.5)))
    return Image.blend(flat, shade, 0.2)


def plain_png(path: Path | str, *, width: int, height: int, rows: int | None = None) -> None:
    """Write a black 8-bit grey PNG of any size without ever holding it; with `rows` the rest of the data is missing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    row = packer.compress(bytes(1 + width)) + packer.flush(zlib.Z_FULL_FLUSH)  # stands alone, so it may be repeated
    num_bytes = (1 + width) * height
    adler = 1 + (num_bytes % 65521 << 16)  # of that many zeros
    end = b"\x03\x00" + struct.pack(">I", adler)
    data = b"\x78\xda" + row * height + end if rows is None else b"\x78\xda" + row * rows
    with Path(path).open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in ((b"IHDR", header), (b"IDAT", data), *(((b"IEND", b""),) if rows is None else ())):
            file.write(struct.pack(">I", len(content)) + kind + content)
            file.write(struct.pack(">I", zlib.crc32(kind + content)))


def plain_tiff(path: Path, *, width: int, height: int, pixels: bytes, tags: dict[int, int]) -> None:
    """Write a little-endian uncompressed TIFF of one strip; `tags` add to or replace the baseline ones (TIFF 6.0)."""
    baseline = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(pixels)}
    entries = sorted({**baseline, **tags}.items())
    with path.open("wb") as file:
        file.write(b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels)
        file.write(struct.pack("<H", len(entries)))
        for tag, value in entries:
            file.write(struct.pack("<HHII", tag, 4, 1, value))
        file.write(struct.pack("<I", 0))


def hostile_folder(folder: Path) -> dict[str, str]:
    """Fill a folder with good pictures under awkward names, and with files that no run may trip over.

    Good are the files of ODD_NAMES and `good.jpg`. A file without read permission is made only where the
    user is not root, who may read everything; pipes and links only where the system has them.

    Returns:
        For each bad entry, its name as Python spells it and the `error_type` that a run gives it. Folders
        (`folder.jpg` and `up`, a link to the folder's own parent) are refused by the listing; all else by `decode`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    picture = quadrants()
    picture.save(folder / "good.jpg", quality=95)
    for name in ODD_NAMES:
        picture.save(folder / name)

    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("This is a text, whatever its name says.\n")
    (folder / "page.png").write_text("<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n")
    (folder / "vector.png").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>\n')
    (folder / "program.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    cut_short(folder / "good.jpg", folder / "cut.jpg")
    cut_short(folder / "two words.png", folder / "cut.png")
    plain_png(folder / "no width.png", width=0, height=9)
    (folder / "no width.bmp").write_bytes(
        struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 0, 9, 1, 24, 0, 0, 0, 0, 0, 0)
    )
    plain_png(folder / "huge.png", width=20_000, height=20_000)
    (folder / "folder.jpg").mkdir()
    bad = {
        "empty.jpg": "empty_file",
        "text.jpg": "not_an_image",
        "page.png": "not_an_image",
        "vector.png": "unsupported",
        "program.jpg": "unsupported",
        "cut.jpg": "truncated",
        "cut.png": "truncated",
        "no width.png": "zero_size",
        "no width.bmp": "zero_size",
        "huge.png": "too_large",
        "folder.jpg": "is_a_folder",
    }
    if os.name == "posix":
        (folder / "broken.jpg").symlink_to("nowhere.jpg")
        (folder / "a.jpg").symlink_to("b.jpg")
        (folder / "b.jpg").symlink_to("a.jpg")
        (folder / "up").symlink_to(folder.parent, target_is_directory=True)
        os.mkfifo(folder / "pipe.jpg")
        bad |= {"broken.jpg": "broken_link", "a.jpg": "link_loop", "b.jpg": "link_loop"}
        bad |= {"up": "link_loop", "pipe.jpg": "not_a_file"}
        if os.geteuid() != 0:
            picture.save(folder / "locked.jpg")
            (folder / "locked.jpg").chmod(0)
            bad["locked.jpg"] = "permission_denied"
    return bad


def cut_short(whole: Path, path: Path, *, part: float = 0.6) -> None:
    """Copy the first `part` of a file."""
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])


def saved(file_format: str, picture: Image.Image | None = None, **options: object) -> bytes:
    """A picture as a file of that format; without one, `quadrants`."""
    file = io.BytesIO()
    (picture or quadrants()).save(file, file_format, **options)
    return file.getvalue()
