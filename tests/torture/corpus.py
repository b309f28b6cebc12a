"""Small inputs of every kind that a run of a second passes through: pictures, a broken one, a video, an archive."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

from PIL import Image

from tests.clips import face_clip, make_clip
from tests.pictures import face_photo

if TYPE_CHECKING:
    from pathlib import Path

NUM_PICTURES = 8
BROKEN = "03.jpg"
CLIP = "clip.mp4"
TAR = "shots.tar"


def make_corpus(folder: Path) -> Path:
    """A folder of 8 pictures of a face each, one of them broken, a video of 10 frames and a tar of 4 pictures."""
    folder.mkdir(parents=True)
    for number in range(NUM_PICTURES):
        picture_of(number, folder / f"{number:02}.jpg")
    (folder / BROKEN).write_bytes(b"not a picture")
    make_clip(folder / CLIP, frames=10)
    with tarfile.open(folder / TAR, "w") as archive:
        for number in range(4):
            content = io.BytesIO()
            Image.new("RGB", (64, 64), (60 * number, 90, 200 - 40 * number)).save(content, "JPEG")
            member = tarfile.TarInfo(f"{number}.jpg")
            member.size = content.tell()
            content.seek(0)
            archive.addfile(member, content)
    return folder


def picture_of(number: int, path: Path) -> None:
    """A picture with one face, whose size says its number."""
    face_photo(path, size=(160, 120), faces=((80, 60, 50 + 3 * number),))


def make_faces(folder: Path) -> Path:
    """A folder of a video in which a face moves, and two pictures of it."""
    folder.mkdir(parents=True)
    face_clip(folder / CLIP, seconds=2, fps=5, size=(160, 120), faces=((70, 60, 60),), travel=(20, 0))
    for number in range(2):
        picture_of(number, folder / f"z{number}.jpg")
    return folder
