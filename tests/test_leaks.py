"""A run gives back what it holds: benchmarks/long_run.py watches an hour of it, this counts after a few inputs."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import threading
import zipfile

import psutil
import pytest
from PIL import Image

from tests.pictures import SAMPLE_DATA, cut_short, face_photo
from tests.runs import finish


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A folder of pictures, archives and videos, sound and broken."""
    folder = tmp_path_factory.mktemp("mixed")
    face_photo(folder / "a.jpg")
    with Image.open(folder / "a.jpg") as image:
        for suffix in ("png", "tif", "webp", "bmp"):
            image.save(folder / f"a.{suffix}")
    with tarfile.open(folder / "b.tar", "w") as tar, zipfile.ZipFile(folder / "b.zip", "w") as archive:
        for name in ("a.jpg", "a.png"):
            tar.add(folder / name, name)
            archive.write(folder / name, name)
    shutil.copy(SAMPLE_DATA / "face.mp4", folder / "c.mp4")
    for name in ("a.jpg", "a.png", "a.tif", "b.tar", "b.zip", "c.mp4"):
        cut_short(folder / name, folder / f"cut {name}")
    (folder / "text.mp4").write_text("no video\n")
    return folder


@pytest.mark.parametrize("options", [(), pytest.param(("--devices", "cpu,cpu"), marks=pytest.mark.slow)])
def test_nothing_is_held_after_a_run(mixed, tmp_path, monkeypatch, options):
    """A second run leaves no more descriptors, threads, processes and temporary files behind than the first."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    this = psutil.Process()

    def held():
        finish(mixed, tmp_path / "p.parquet", "--overwrite", *options)
        files = sorted(path.name for path in temporary.rglob("*"))
        return this.num_fds(), threading.active_count(), len(this.children(recursive=True)), files

    first = held()
    assert first[2:] == (0, [])
    assert held() == first
