"""Many processes, each with a share of one run: whatever dies, and however many go on, the rows are those of one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from functools import partial

import pyarrow.parquet as pq
import pytest

from motivnet_cli.config import OutputConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.output.read import read_inputs
from motivnet_cli.output.sink import Output
from motivnet_cli.output.status import output_status
from motivnet_cli.output.tables import RowLayout
from motivnet_cli.records import EMOTIONS
from motivnet_cli.shards import Shard, task_list
from tests.agreement import assert_same_rows
from tests.outputs import RECORD, assert_whole
from tests.runs import NUM_PHOTOS, command, finish, slow_disk, start_until_work_is_committed

ONE_BY_ONE = ("--batch-size", "1", "--threads", "1")


def start(photos, out, *options, environ=None):
    return subprocess.Popen(
        command(photos, out, *options), stderr=subprocess.PIPE, text=True, env={**os.environ, **(environ or {})}
    )


def task(number, numbers):
    """The variables of Slurm for one task of `--array` with these numbers."""
    return {
        "SLURM_ARRAY_TASK_ID": str(number),
        "SLURM_ARRAY_TASK_COUNT": str(len(numbers)),
        "SLURM_ARRAY_TASK_MIN": str(min(numbers)),
        "SLURM_ARRAY_TASK_MAX": str(max(numbers)),
        "SLURM_PROCID": "0",
    }


class Truth:
    """What is committed of a run whose parts lie in a folder, counted from the rows themselves."""

    def __init__(self, out):
        parts = out / "inputs" if out.is_dir() else out.with_name(out.name + ".work") / "inputs"
        run = json.loads((parts.parent / ("run.json" if not out.is_dir() else ".motivnet/run.json")).read_text())
        self.unit = run["unit"]
        self.names = []
        for part in sorted(parts.glob("part-*")):
            self.names += pq.read_table(part, columns=["input"])["input"].to_pylist()
        self.places = {int(name.removesuffix(".jpg")) for name in self.names}

    def done(self, index, count):
        """Inputs of a share that are committed."""
        return sum(place // self.unit % count == index for place in self.places)

    def undone(self, count):
        """Shares with something missing."""
        every = [sum(place // self.unit % count == index for place in range(NUM_PHOTOS)) for index in range(count)]
        return [index for index in range(count) if self.done(index, count) < every[index]]


def assert_status_is_true(out, *, shards=None):
    """Nobody is at work."""
    truth, status = Truth(out), output_status(out, shards=shards)
    count = len(status.shards)

    assert (status.finished, status.inputs, status.done) == (False, NUM_PHOTOS, len(truth.names))
    assert len(truth.names) == len(truth.places)  # nothing was written twice
    assert [each.done for each in status.shards] == [truth.done(index, count) for index in range(count)]
    assert status.array == task_list(truth.undone(count))
    assert shards is None or count == shards


def run_all(starts, out, *, at_once=3, kill=()):
    """Run shares, some at once; those to be killed are, as soon as something of theirs is committed."""
    waiting, running, codes = list(starts), {}, {}
    seen = 0
    while waiting or running:
        while waiting and len(running) < at_once:
            index, begin = waiting.pop(0)
            running[index] = begin()
        with contextlib.suppress(ConfigError):  # not begun yet
            status = output_status(out)
            assert seen <= status.done <= NUM_PHOTOS  # what is committed stays so
            seen = status.done
            for each in status.shards:
                if each.index in running and each.index in kill and each.done:
                    running[each.index].kill()
        for index, process in list(running.items()):
            if process.poll() is not None:
                _, talk = process.communicate()
                assert "Traceback" not in talk
                codes[index] = running.pop(index).returncode
        time.sleep(0.02 if running.keys() & set(kill) else 0.5)
    return codes


@pytest.mark.slow
def test_eight_shards_killed_and_resumed_with_five(photos, undisturbed, tmp_path):
    """8 shards by 3 processes at a time, some killed; some submitted again; the rest in 5 shards, one killed again."""
    out = tmp_path / "p.parquet"

    def tasks(numbers, *, slow=()):
        options = ("--shard", "auto", *ONE_BY_ONE)
        environs = {
            number: task(number, numbers) | (slow_disk(tmp_path) if number in slow else {}) for number in numbers
        }
        return [(number, partial(start, photos, out, *options, environ=environs[number])) for number in numbers]

    killed = (0, 3, 4, 7)
    codes = run_all(tasks(range(8), slow=killed), out, kill=killed)
    missing = Truth(out).undone(8)
    assert_status_is_true(out)
    assert missing == list(killed) == sorted(number for number, code in codes.items() if code == -signal.SIGKILL)

    again = missing[:2]  # --array=0,3 of a run of 8
    assert run_all(tasks(again), out) == dict.fromkeys(again, 0)
    assert_status_is_true(out)
    assert output_status(out).array == task_list(missing[2:])

    assert_status_is_true(out, shards=5)
    fifths = [(index, partial(start, photos, out, "--shard", f"{index}/5", *ONE_BY_ONE)) for index in range(5)]
    undone = Truth(out).undone(5)
    codes = run_all(fifths, out, kill=undone[:1])
    if codes[undone[0]]:
        assert_status_is_true(out)
        assert output_status(out).array == str(undone[0])
        assert run_all(fifths[undone[0] :][:1], out) == {undone[0]: 0}

    assert output_status(out).finished
    assert output_status(out).array == ""
    assert_same_rows(out, undisturbed)
    assert_whole(out)


def test_the_same_shard_twice_at_once(photos, undisturbed, tmp_path):
    """Two processes with one shard never do the same unit; the one that cannot have all of it says so, with code 75."""
    out = tmp_path / "p.parquet"
    first = start_until_work_is_committed(photos, out, "--shard", "0/2", *ONE_BY_ONE)
    first.send_signal(signal.SIGSTOP)
    talk = finish(photos, out, "--shard", "0/2", code=75)
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=300)
    assert_status_is_true(out)
    finish(photos, out, "--shard", "1/2")

    assert first.returncode == 0
    assert "run the same command again to continue" in talk
    assert_same_rows(out, undisturbed)


@pytest.mark.slow
def test_a_run_alone_is_refused_while_shards_are_at_work(photos, undisturbed, tmp_path):
    """A run without --shard wants all units: with code 2 it says that others have some, and what to do."""
    out = tmp_path / "p.parquet"
    shard = start_until_work_is_committed(photos, out, "--shard", "0/2", *ONE_BY_ONE)
    shard.send_signal(signal.SIGSTOP)
    talk = finish(photos, out, code=2)
    shard.send_signal(signal.SIGCONT)
    shard.communicate(timeout=300)
    finish(photos, out)

    assert shard.returncode == 0
    assert "other processes are at work on this output: wait for them, or take part with --shard" in talk
    assert_same_rows(out, undisturbed)


def test_a_shard_seldom_asks_for_the_lock(tmp_path, monkeypatch):
    """In a minute of waiting it tries some forty times, and not at the same moments as others."""
    layout = RowLayout(EMOTIONS, 4, "float16")
    tasks = [
        Output(OutputConfig(path=str(tmp_path / "p")), record=RECORD, layout=layout, shard=Shard(i, 3))
        for i in range(3)
    ]
    waits = []

    def wait(seconds):
        waits[-1].append(seconds)
        if sum(waits[-1]) > 60:
            tasks[0].__exit__()

    monkeypatch.setattr("motivnet_cli.output.sink.time.sleep", wait)
    for task in tasks[1:]:
        waits.append([])
        tasks[0].__enter__()
        with task:
            pass

    assert all(30 <= len(each) < 60 for each in waits)
    assert waits[0] != waits[1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_shard_waits_while_another_lists_the_inputs(photos, tmp_path):
    """Only one lists: the other says that it waits, and then does its share of the same plan."""
    out, names = tmp_path / "p", tmp_path / "names"
    os.mkfifo(names)
    few = sorted(map(str, photos.iterdir()))[:12]
    shard = ("--files-from", str(names), "--shard")
    first = start(few[0], out, *shard, "0/2")
    with names.open("w") as pipe:  # opens when the first one reads
        second = start(few[0], out, *shard, "1/2")
        while "waiting for another process that lists the inputs" not in second.stderr.readline():
            assert second.poll() is None
        with pytest.raises(ConfigError, match="its inputs are not listed yet"):
            output_status(out)
        pipe.write("\n".join(few[1:]))
    for process in (first, second):
        process.communicate(timeout=300)

    assert (first.returncode, second.returncode) == (0, 0)
    assert read_inputs(out)["input"].to_list() == few
