"""Temporary folders, of processes that end well and of processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from motivnet_cli.durable import TemporaryFolder

HOLD_ONE = """
import time
from motivnet_cli.durable import TemporaryFolder
folder = TemporaryFolder()
(folder.path / "large").write_bytes(bytes(1000))
print(folder.path, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Where temporary files lie, in this process and its children."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@pytest.fixture
def holder():
    """Another process that holds such a folder, and the folder's name."""
    process = subprocess.Popen([sys.executable, "-c", HOLD_ONE], stdout=subprocess.PIPE, text=True)
    with process:
        yield process, process.stdout.readline().strip()
        process.kill()


def test_it_goes_with_its_object(scratch):
    """With all that lies in it, and its lock."""
    folder = TemporaryFolder()
    (folder.path / "deep").mkdir()
    (folder.path / "deep" / "file").write_bytes(b"x")
    assert folder.path.parent == scratch
    del folder

    assert list(scratch.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next(scratch, holder):
    """SIGKILL leaves it, with nothing that could remove it."""
    process, left = holder
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert {path.name for path in scratch.glob("*/*")} == {"large"}
    folder = TemporaryFolder()

    assert sorted(scratch.iterdir()) == sorted([folder.path, folder.path.with_suffix(".lock")])
    assert str(folder.path) != left


def test_what_another_process_holds_stays(scratch, holder):
    """However many begin beside it."""
    mine, another = TemporaryFolder(), TemporaryFolder()

    assert {str(path) for path in scratch.iterdir() if path.is_dir()} == {holder[1], str(mine.path), str(another.path)}
    assert (scratch / holder[1] / "large").stat().st_size == 1000


def test_what_others_have_put_there_is_not_touched(scratch, tmp_path_factory, monkeypatch):
    """In a shared TMPDIR anybody may write: no link by such a name is followed, no other user's file locked."""
    target = tmp_path_factory.mktemp("mine") / "thesis.txt"
    target.write_text("five years")
    (scratch / "motivnet-tmp-planted.lock").symlink_to(target)
    (scratch / "motivnet-tmp-planted").mkdir()
    os.mkfifo(scratch / "motivnet-tmp-pipe.lock")  # who opens it waits for ever
    TemporaryFolder()
    (scratch / "motivnet-tmp-theirs.lock").touch()
    (scratch / "motivnet-tmp-theirs").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    TemporaryFolder()

    assert target.read_text() == "five years"
    assert {path.name for path in scratch.iterdir()} >= {
        "motivnet-tmp-planted.lock", "motivnet-tmp-planted", "motivnet-tmp-pipe.lock",
        "motivnet-tmp-theirs.lock", "motivnet-tmp-theirs",
    }  # fmt: skip


MAKE_MANY = """
from motivnet_cli.durable import TemporaryFolder
for number in range(300):
    folder = TemporaryFolder()
    (folder.path / "file").write_bytes(b"x")
    folder.remove()
"""


def test_many_begin_at_once(scratch):
    """None takes away the folder of another that is just being made."""
    processes = [subprocess.Popen([sys.executable, "-c", MAKE_MANY], stderr=subprocess.PIPE) for _ in range(4)]
    talk = [process.communicate(timeout=300)[1] for process in processes]

    assert talk == [b""] * 4
    assert list(scratch.iterdir()) == []
