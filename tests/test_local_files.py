"""Where the files of a run are found again, and that no other file is taken for one of them."""

from __future__ import annotations

import hashlib
import os
import zipfile

import pytest
from PIL import Image
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.local_files import LocalFiles
from motivnet_cli.export.source import InputRow, Source
from tests.exported import face, output


def files_of(folder, *, paths=(), images_from=None, **settings):
    source = Source(output(folder, [face("a.jpg")], settings={"inputs.paths": list(map(str, paths)), **settings}))
    return LocalFiles(source, images_from)


def made(path, content="picture"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def row(name, **more):
    return InputRow(input=str(name), kind="image", status="ok", **more)


def test_below_the_folders_that_the_run_was_given(tmp_path):
    """Names are relative to the only folder, begin with one of several, are relative to a third, or absolute."""
    first, second = made(tmp_path / "a" / "one.jpg"), made(tmp_path / "two.jpg")

    assert files_of(tmp_path, paths=[tmp_path / "a"]).find(row("one.jpg")) == first
    several = files_of(tmp_path, paths=[tmp_path / "a", second])
    assert several.find(row("a/one.jpg")) == first
    assert several.find(row("two.jpg")) == second
    assert files_of(tmp_path, **{"inputs.relative_to": str(tmp_path)}).find(row("a/one.jpg")) == first
    assert files_of(tmp_path).find(row(first)) == first


def test_where_the_files_have_moved(tmp_path):
    """Below --images-from: under the names of the inputs, of absolute ones what lay in the folder given, unpacked."""
    there = made(tmp_path / "now" / "p1" / "one.jpg")
    gone = tmp_path / "gone"

    def find(name, *, paths=(gone,), **more):
        return files_of(tmp_path, paths=paths, images_from=str(tmp_path / "now")).find(row(name, **more))

    assert find("p1/one.jpg") == there
    assert find(gone / "p1" / "one.jpg") == there
    assert find("../p1/one.jpg") == there
    assert find("z.zip/p1/one.jpg", archive="z.zip") == there
    assert find(gone / "p1" / "one.jpg", paths=[gone / "p1", gone / "p2"]) == there
    assert find("one.jpg") is None
    # Of two folders, none is taken for the other.
    assert find(gone / "p2" / "one.jpg", paths=[gone / "p1", gone / "p2"]) is None
    with pytest.raises(ConfigError, match=r"--images-from '.*gone' is no folder"):
        files_of(tmp_path, images_from=str(gone))


def test_another_file_is_left_out(tmp_path):
    """By its size, by its hash where the run took one, or since whoever decoded it says so."""
    path = made(tmp_path / "one.jpg", "picture")
    sha256 = hashlib.sha256(b"picture").hexdigest()

    def find(**more):
        return files_of(tmp_path, paths=[tmp_path]).find(row("one.jpg", **more))

    assert find(size_bytes=7, sha256=sha256) == path
    assert find(size_bytes=8) is None
    made(path, "pictur3")
    assert find(size_bytes=7) == path
    assert find(size_bytes=7, sha256=sha256) is None
    files = files_of(tmp_path, paths=[tmp_path])
    assert files.find(row("one.jpg")) == path
    files.leave_out("one.jpg")
    assert files.find(row("one.jpg")) is None
    assert files.absences == {"changed": 1}


def test_a_member_of_another_archive_is_left_out(tmp_path):
    """Its archive is looked at as a file is; what was unpacked from the one that the run read is found all the same."""
    path, member = made(tmp_path / "z.zip", "archive"), row("z.zip/a.jpg", archive="z.zip")
    inputs = {"a.jpg": {}, "z.zip": {"kind": "archive", "size_bytes": 7}}
    source = Source(output(tmp_path, [face("a.jpg")], inputs, settings={"inputs.paths": [str(tmp_path)]}))
    inputs, items = LocalFiles(source).items_of([member])
    assert (inputs[member.input].archive, items["z.zip"].path, items["z.zip"].kind) == ("z.zip", str(path), "archive")

    made(path, "another archive")
    files = LocalFiles(source)
    assert files.find_archive(member) is None
    inputs, items = files.items_of([member])
    assert (inputs[member.input].archive, items[member.input].problem.error_type) == (None, "changed")
    assert files.absences == {"changed": 1}
    unpacked = made(tmp_path / "now" / "a.jpg")
    inputs, items = LocalFiles(source, str(tmp_path / "now")).items_of([member])
    assert (inputs[member.input].archive, items[member.input].path) == (None, str(unpacked))


def test_what_is_said_of_those_that_are_not_there(tmp_path):
    """All in one sentence, an input once, with the way on where there is one."""
    made(tmp_path / "one.jpg")
    files = files_of(tmp_path, paths=[tmp_path])

    files.find(row("one.jpg"))
    assert files.sentence == ""
    files.find(row("https://host/a.jpg"))
    assert files.sentence == "The files of 1 of 2 inputs to be shown cannot be used: 1 behind a URL."
    for name in ("two.jpg", "two.jpg", "three.jpg"):
        files.find(row(name))
    files.find(row("z.zip/a.jpg", archive="z.zip"))
    files.find(row("one.jpg", size_bytes=1))
    assert files.sentence == (
        "The files of 4 of 5 inputs to be shown cannot be used: 2 not where the run read them, 1 behind a URL, 1 in an "
        "archive. If they lie in another folder now, give it with --images-from FOLDER."
    )


def test_what_only_the_folders_of_the_run_know(tmp_path):
    """A name that is no UTF-8, and the archive of a member."""
    strange = tmp_path / "in" / os.fsdecode(b"a\xff.png")
    strange.parent.mkdir()
    Image.new("RGB", (64, 64)).save(strange, "PNG")
    with zipfile.ZipFile(tmp_path / "in" / "z.zip", "w") as archive:
        archive.write(strange, "in.png")
    out = tmp_path / "p.parquet"
    run = ["annotate", tmp_path / "in", "--out", out, "--model", "expression-net", "--faces", "whole"]
    assert CliRunner().invoke(app, list(map(str, run))).exit_code == 0
    source = Source(out)
    files, rows = LocalFiles(source), {row.input: row for row in source.inputs()}

    assert files.find(rows["a\\xff.png"]) == strange
    assert files.find(rows["z.zip/in.png"]) is None
    assert files.find_archive(rows["z.zip/in.png"]) == tmp_path / "in" / "z.zip"
    assert files.find_archive(rows["a\\xff.png"]) is None
