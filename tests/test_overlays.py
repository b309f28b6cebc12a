"""A run's pictures drawn into a folder, as its user finds them: which files there are, and what is seen in them."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.errors import ConfigError
from motivnet_cli.export import drawing
from motivnet_cli.export.destination import MARKER, MirroredNames
from motivnet_cli.export.overlay import write_overlays
from tests.exported import face, output

GROUND = (90, 120, 150)
SIZE = (640, 480)
BOX = (300, 200, 400, 330)
COLOUR = np.array(ImageColor.getrgb(drawing._COLOURS[0]))


def picture(path, *, size=SIZE, colour=GROUND, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, path.suffix.lstrip(".").upper().replace("JPG", "JPEG"), **options)
    return path


def is_drawn(path, box=BOX):
    """Whether a box of the first colour stands there, and the rest of the left half is as it was."""
    with Image.open(path) as image:
        assert image.getexif().get(0x0112, 1) == 1
        pixels = np.asarray(image.convert("RGB")).astype(int)
    x1, y1, x2, y2 = box
    sides = [pixels[y1 + 20 : y2 - 20, x] for x in (x1, x2 - 1)] + [pixels[y, x1 + 20 : x2 - 20] for y in (y2 - 1,)]
    assert np.abs(pixels[y1:y2, : x1 - 60] - GROUND).max() < 12, "far from the face"
    return all(np.abs(side - COLOUR).mean() < 12 for side in sides)


def run(*arguments):
    return CliRunner().invoke(app, ["export", "overlay", *map(str, arguments)])


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def with_face(*names, **more):
    return [face(name, box=BOX, **more) for name in names]


def run_of(folder, names, *, inputs=None, settings=None):
    """An output whose pictures, one face in each, lie below a folder."""
    for name in names:
        picture(folder / "in" / name)
    settings = {"inputs.paths": [str(folder / "in")], **(settings or {})}
    return output(folder, with_face(*names), inputs or {name: {} for name in names}, tracks=False, settings=settings)


def test_every_picture_that_is_here_is_drawn_and_the_rest_is_counted(tmp_path):
    """Formats are kept where they can be, and nothing is missing without a word; one failure is exit 3."""
    here, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    names = ["a.jpg", "a.png", "b/a.jpg", "none.JPEG", "t.tiff", "w.webp", str(elsewhere / "c.png"), "z.zip/d/e.png"]
    for name in (*names[:3], *names[4:6], names[6]):
        picture(here / name)
    picture(here / "none.jpeg").rename(here / "none.JPEG")
    with zipfile.ZipFile(here / "z.zip", "w") as archive:
        archive.write(here / "a.png", "d/e.png")
    picture(here / "other.png", size=(320, 240))
    (here / "broken.png").write_bytes(b"no picture")
    picture(here / "longer.png")
    gone = ["gone.jpg", "https://host/far.jpg", "other.png", "broken.png", "longer.png"]
    drawn = [name for name in names if name != "none.JPEG"]
    inputs = {name: {} for name in (*names, *gone)} | {"bad.jpg": {"status": "failed", "width": None}}
    inputs["z.zip/d/e.png"] = {"archive": "z.zip"}
    inputs["longer.png"] = {"size_bytes": 1}
    ordered = [*drawn, *gone]
    preds = output(
        tmp_path, with_face(*ordered), {name: inputs[name] for name in (*ordered, "none.JPEG", "bad.jpg")},
        tracks=False, settings={"inputs.paths": [str(here)]},
    )  # fmt: skip
    out = tmp_path / "seen"
    result = run(preds, "--out", out, "--json")

    assert result.exit_code == 3, result.output
    assert json.loads(result.stdout)["written"] == str(out)
    mirrored = str(elsewhere / "c.png").lstrip("/")
    expected = ["a.jpg", "a.png", "b/a.jpg", "none.JPEG", "t.tiff.png", "w.webp.jpg", mirrored, "z.zip/d/e.png"]
    assert files_in(out) == sorted([*expected, MARKER])
    assert all(is_drawn(out / name) for name in expected if name != "none.JPEG")
    assert not is_drawn(out / "none.JPEG")
    assert {path.read_bytes()[1:4] for path in out.rglob("*.png")} == {b"PNG"}
    assert {path.read_bytes()[:3] for path in out.rglob("*.jp*g")} == {b"\xff\xd8\xff"}
    summary = json.loads(result.stdout)
    counted = {name: summary[name] for name in ("pictures", "videos", "faces", "failed", "unread", "absences")}
    absences = {"missing": 1, "remote": 1, "changed": 1}
    assert counted == {"pictures": 8, "videos": 0, "faces": 7, "failed": 2, "unread": 1, "absences": absences}
    assert {each["input"]: each["error_type"] for each in summary["failures"]} == {
        "other.png": "changed",
        "broken.png": "not_an_image",
    }
    assert "failed: other.png: it had 640 x 480 pixels in the run and has 320 x 240 now" in result.stderr
    assert "The files of 3 of 13 inputs to be shown cannot be used" in result.stderr
    assert "8 pictures, 7 faces, 3 not found, 2 failed, 1 not read in the run" in result.stderr


def test_a_turned_photograph_is_turned_once(tmp_path):
    """Its box is in the upright picture, and nothing turns the result again."""
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "in" / "a.jpg", size=SIZE[::-1], exif=exif)
    preds = output(
        tmp_path, with_face("a.jpg"), {"a.jpg": {}}, tracks=False, settings={"inputs.paths": [str(tmp_path / "in")]}
    )
    write_overlays(str(preds), str(tmp_path / "seen"))

    with Image.open(tmp_path / "seen" / "a.jpg") as image:
        assert image.size == SIZE
    assert is_drawn(tmp_path / "seen" / "a.jpg")


def test_the_same_command_goes_on_and_another_is_refused(tmp_path):
    """Files that are there are not drawn again, those that are missing are; with --overwrite nothing older stays."""
    preds, out = run_of(tmp_path, ["a.png", "b.png", "c.png"]), tmp_path / "seen"
    moved = (tmp_path / "in" / "c.png").rename(tmp_path / "c.png")
    assert write_overlays(str(preds), str(out)).absences == {"missing": 1}
    before = (out / "a.png").stat().st_mtime_ns
    (out / "b.png").unlink()
    again = write_overlays(str(preds), str(out), images_from=str(moved.parent))

    assert (again.pictures, again.earlier, again.absences) == (2, 1, {})
    assert (out / "a.png").stat().st_mtime_ns == before
    assert is_drawn(out / "c.png")
    assert "nothing new to draw: 3 files there" in run(preds, "--out", out).stderr
    with pytest.raises(ConfigError, match="exists; give --overwrite"):
        write_overlays(str(preds), str(out), bars=False)
    assert write_overlays(str(preds), str(out), [str(tmp_path / "in" / "a.png")], overwrite=True).pictures == 1
    assert files_in(out) == [MARKER, "a.png"]


def test_what_no_export_made_is_left_alone(tmp_path):
    """A folder of the user's, the folder of the pictures, and one that holds the predictions."""
    preds = run_of(tmp_path, ["a.png"])
    before = files_in(tmp_path)
    for out, said in ((tmp_path / "in", "no export made"), (tmp_path, "made from")):
        with pytest.raises(ConfigError, match=said):
            write_overlays(str(preds), str(out), overwrite=True)
    (tmp_path / "in" / MARKER).write_text("{}")
    with pytest.raises(ConfigError, match="holds what the export is made from"):
        write_overlays(str(preds), str(tmp_path / "in"), overwrite=True)
    assert files_in(tmp_path) == sorted([*before, f"in/{MARKER}"])


def test_inputs_are_chosen_by_name_by_file_and_by_rows(tmp_path):
    """And one of them may be written to one file, whose ending says the format."""
    names = ["a.png", "b.png", "sub/a.png"]
    preds = run_of(tmp_path, names)

    def drawn(number, *inputs, **options):
        out = tmp_path / f"seen{number}"
        write_overlays(str(preds), str(out), inputs, **options)
        return files_in(out)[1:]

    assert drawn(1, "sub/a.png") == ["sub/a.png"]
    assert drawn(2, str(tmp_path / "in" / "a.png"), "b.png") == ["a.png", "b.png"]
    assert drawn(3, where="input LIKE 'sub/%'") == ["sub/a.png"]
    assert run(tmp_path / "in" / "b.png", preds, "--out", tmp_path / "one.jpg").exit_code == 0
    assert is_drawn(tmp_path / "one.jpg")
    with pytest.raises(ConfigError, match="is of several inputs: name the one to draw"):
        write_overlays(str(preds), str(tmp_path / "two.jpg"))
    with pytest.raises(ConfigError, match=r"a picture is a JPEG or PNG: give --out a name ending in \.jpg or \.png"):
        write_overlays(str(preds), str(tmp_path / "one.mp4"), ["b.png"])
    with pytest.raises(ConfigError, match="no picture and no video with such a face"):
        write_overlays(str(preds), str(tmp_path / "none"), where="confidence > 2")
    with pytest.raises(ConfigError, match="--start and --end take seconds"):
        write_overlays(str(preds), str(tmp_path / "none"), start_s=5, end_s=4)
    assert not (tmp_path / "none").exists()


def test_a_full_disk_is_said_and_leaves_no_half_picture(tmp_path, monkeypatch):
    """Exit 1, and the same command goes on once there is room."""
    preds, out = run_of(tmp_path, ["a.png", "b.png"]), tmp_path / "seen"

    def save(self, path, *_, **__):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", save)
        result = run(preds, "--out", out)
    assert result.exit_code == 1
    assert "No space left on device; free some space" in result.stderr
    assert files_in(out) == [MARKER]
    assert run(preds, "--out", out).exit_code == 0
    assert is_drawn(out / "b.png")


def test_stopped_it_keeps_what_is_whole(tmp_path):
    """What was drawn stays, and the same call draws the rest."""
    names = [f"{n:02}.png" for n in range(12)]
    preds, out = run_of(tmp_path, names), tmp_path / "seen"
    calls = iter([False] * 5)
    first = write_overlays(str(preds), str(out), stop=lambda: next(calls, True))
    there = files_in(out)

    assert first.stopped
    assert 0 < first.pictures == len(there) - 1 <= 5
    second = write_overlays(str(preds), str(out))
    assert (second.pictures, second.earlier) == (12 - first.pictures, first.pictures)
    assert files_in(out) == sorted([MARKER, *names])


@pytest.mark.thorough
def test_ctrl_c_is_exit_130(tmp_path):
    """As of a run: finished files stay."""
    names, first = [f"{n:03}.png" for n in range(400)], picture(tmp_path / "in" / "000.png")
    for name in names[1:]:
        (tmp_path / "in" / name).hardlink_to(first)
    preds, out = output(tmp_path, with_face(*names), settings={"inputs.paths": [str(first.parent)]}), tmp_path / "seen"
    command = [sys.executable, "-m", "motivnet_cli", "export", "overlay", str(preds), "--out", str(out)]
    child = subprocess.Popen(command, cwd=Path(__file__).parents[1], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("*.png")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=120)

    assert child.returncode == 130
    assert "run the same command again to continue" in said
    assert all(is_drawn(path) for path in list(out.glob("*.png"))[:5])
    assert not list(out.glob(".*.tmp"))


def test_rows_that_another_program_has_mixed_are_refused(tmp_path):
    """Of a table without its inputs: else the second part of a picture's rows would replace the first."""
    picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    preds = output(tmp_path, with_face(*(str(tmp_path / name) for name in ("a.png", "b.png", "a.png"))))
    preds.with_suffix(".inputs.parquet").unlink()

    with pytest.raises(ConfigError, match="are not together"):
        write_overlays(str(preds), str(tmp_path / "seen"))


def test_mirrored_names_are_their_own_and_lead_nowhere_else():
    """Whatever inputs are called; the same names in the same order give the same files."""
    given = [
        ("a.jpg", ".jpg"), ("a.JPG", ".jpg"), ("../a.jpg", ".jpg"), ("/a.jpg", ".jpg"), ("a.jpg/b.png", ".png"),
        ("b\\xff.png", ".png"), ("https://host/x.jpg", ".jpg"), ("..", ".jpg"), ("t.mov", ".mp4"),
        ("t.mov.mp4", ".mp4"),
        ("ä" * 200 + ".png", ".png"), ("ä" * 201 + ".png", ".png"), ("noend", ".jpg"), (".jpg", ".jpg"),
    ]  # fmt: skip
    first, second = ([str(names.take(*each)) for each in given] for names in (MirroredNames(), MirroredNames()))

    assert first == second
    assert first[:5] == ["a.jpg", "a-2.JPG", "a-3.jpg", "a-4.jpg", "a.jpg-2/b.png"]
    assert first[5:7] == ["b_xff.png", "https/host/x.jpg"]
    assert first[8:10] == ["t.mov.mp4", "t.mov-2.mp4"]
    assert len({name.casefold() for name in first}) == len(given)
    assert all(not name.startswith("/") and ".." not in name.split("/") for name in first)
    assert all(name.lower().endswith(suffix) for name, (_, suffix) in zip(first, given, strict=True))
    assert max(len(os.fsencode(part)) for name in first for part in name.split("/")) <= 220
