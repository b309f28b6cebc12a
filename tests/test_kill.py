"""Real processes, real signals: whatever ends a run, the same command ends it as if undisturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.agreement import assert_same_rows
from tests.outputs import assert_whole
from tests.runs import command, finish, slow_disk, start_until_work_is_committed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_sigkill_at_random_moments(photos, undisturbed, tmp_path, name):
    """Killed with SIGKILL at random moments, each time resumed with another batch size and number of threads."""
    rng = random.Random(7)
    out = tmp_path / name
    for _ in range(4):
        options = ["--batch-size", str(rng.choice([1, 3, 8])), "--threads", str(rng.choice([1, 2, 4]))]
        process = start_until_work_is_committed(photos, out, *options, env={**os.environ, **slow_disk(tmp_path)})
        time.sleep(rng.uniform(0, 0.6))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    finish(photos, out, "--batch-size", "5")

    assert_same_rows(out, undisturbed)
    assert_whole(out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)], ids=lambda value: str(value)
)
def test_signals_commit_and_say_how_to_go_on(photos, undisturbed, tmp_path, number, code):
    """The first signal finishes the batches in hand, commits, says how to resume, and exits with its code."""
    out = tmp_path / "p.parquet"
    process = start_until_work_is_committed(photos, out, "--batch-size", "2", "--threads", "1")
    process.send_signal(number)
    _, talk = process.communicate(timeout=300)

    assert process.returncode == code
    assert "run the same command again to continue" in talk
    assert "keeping what is done" in talk
    assert "completing the output" not in talk
    assert not out.exists()
    finish(photos, out)
    assert_same_rows(out, undisturbed)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15)], ids=str)
def test_a_dry_run_ends_at_once(tmp_path, number, code):
    """It has nothing to keep, however long the listing would still take."""
    os.mkfifo(tmp_path / "list")
    command = ["annotate", "--files-from", tmp_path / "list", "--out", tmp_path / "p.parquet", "--dry-run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "motivnet_cli", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with (tmp_path / "list").open("w"):  # which is open when the listing reads it
        process.send_signal(number)
        said = process.communicate(timeout=60)

    assert process.returncode == code
    assert said == ("", "stopped\n" if code == 130 else "")


def wait_for_handler(process, number):
    """Until the process catches the signal (SigCgt in proc(5)), which is before it imports anything heavy."""
    bit = 1 << (number - 1)
    while True:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if int(status.partition("SigCgt:")[2].split()[0], 16) & bit:
            return
        time.sleep(0.005)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs proc(5)")
def test_signal_before_the_first_input(photos, tmp_path):
    """A signal while libraries are still loading ends as cleanly, with nothing done."""
    process = subprocess.Popen(command(photos, tmp_path / "p.parquet"), stderr=subprocess.PIPE, text=True)
    wait_for_handler(process, signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    _, talk = process.communicate(timeout=300)

    assert process.returncode == 75
    assert "Traceback" not in talk


def test_second_process_on_the_same_output_is_refused(photos, tmp_path):
    """While one process writes, another is told so and exits 2; the first is not disturbed."""
    out = tmp_path / "p.parquet"
    first = start_until_work_is_committed(photos, out, "--batch-size", "1", "--threads", "1")
    talk = finish(photos, out, code=2)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=300)

    assert "another process is writing" in talk
    assert first.returncode == 75
