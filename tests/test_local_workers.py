"""Several worker processes and one output: whoever dies, the rows are those of one undisturbed process."""

from __future__ import annotations

import json
import os
import signal
import time

import psutil
import pytest

from motivnet_cli.output.read import read_faces, read_inputs
from motivnet_cli.scale import local_driver
from tests.agreement import assert_same_rows
from tests.outputs import assert_whole
from tests.runs import at_start, finish, motivnet, start_until_work_is_committed

WORKERS = ("--devices", "cpu,cpu")


def workers_of(process):
    """The worker processes that a run has started."""
    children = psutil.Process(process.pid).children()
    return [child for child in children if "motivnet_cli.scale.local_worker" in child.cmdline()]


def cores_of(process):
    """The cores of each worker, once both have chosen: one may have committed work before the other is ready."""
    for _ in range(1200):
        cores = [set(worker.cpu_affinity()) for worker in workers_of(process)]
        if len(cores) == 2 and os.sched_getaffinity(0) not in cores:
            break
        time.sleep(0.1)
    return cores


@pytest.mark.slow
@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_workers_share_one_output(photos, undisturbed, tmp_path, name):
    """Two workers write what one process writes; where there are enough cores, each has its own."""
    out, log = tmp_path / name, tmp_path / "log"
    logged = ("--verbose", "--log-file", log, "--log-format", "json")
    process = start_until_work_is_committed(photos, out, *WORKERS, *map(str, logged))
    cores = cores_of(process)
    process.communicate(timeout=300)

    assert process.returncode == 0
    assert len(cores) == 2
    assert not cores[0] & cores[1] or len(os.sched_getaffinity(0)) < 2
    assert_same_rows(out, undisturbed)
    assert_whole(out)
    of_workers = [line for line in map(json.loads, log.read_text().splitlines()) if "worker" in line]
    assert {(line["worker"], line["level"]) for line in of_workers} == {("cpu", "debug"), ("cpu", "info")}


@pytest.mark.slow
def test_killed_worker_is_replaced(photos, undisturbed, tmp_path):
    """A worker that is killed is told of and replaced; nothing is lost or doubled."""
    process = start_until_work_is_committed(photos, tmp_path / "p.parquet", *WORKERS)
    workers_of(process)[0].kill()
    _, talk = process.communicate(timeout=300)

    assert process.returncode == 0
    assert "the worker on cpu died (SIGKILL): another takes its place" in talk
    assert_same_rows(tmp_path / "p.parquet", undisturbed)


@pytest.mark.slow
def test_killed_run_takes_its_workers_along(photos, undisturbed, tmp_path):
    """Workers end when their run is killed; one process alone then ends what they began."""
    out = tmp_path / "p.parquet"
    process = start_until_work_is_committed(photos, out, *WORKERS)
    workers = workers_of(process)
    process.kill()
    process.communicate()
    gone, alive = psutil.wait_procs(workers, timeout=300)

    assert len(gone) == 2
    assert not alive
    assert not out.exists()
    finish(photos, out)
    assert_same_rows(out, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)], ids=str)
def test_signal_to_the_group_stops_in_order(photos, undisturbed, tmp_path, number, code):
    """A signal that reaches the workers, too, lets them commit what they have; one process then goes on."""
    out = tmp_path / "p.parquet"
    process = start_until_work_is_committed(photos, out, *WORKERS, "--batch-size", "2")
    for worker in workers_of(process):
        worker.send_signal(number)
    process.send_signal(number)
    _, talk = process.communicate(timeout=300)

    assert process.returncode == code
    assert "run the same command again to continue" in talk
    assert "died" not in talk
    assert not out.exists()
    finish(photos, out)
    assert_same_rows(out, undisturbed)


def test_workers_that_always_die_end_the_run(photos, tmp_path, monkeypatch):
    """A machine on which every worker dies gets an error and exit 1 after a few tries, with what the last one said."""
    killer = at_start(
        tmp_path,
        "import os, signal, sys\nif 'motivnet_cli.scale.local_worker' in sys.orig_argv:\n"
        " os.write(2, b'the driver\\n\\nis too old\\n'); os.kill(os.getpid(), signal.SIGSEGV)\n",
    )
    monkeypatch.setenv("PYTHONPATH", killer["PYTHONPATH"])
    talk = finish(photos, tmp_path / "p.parquet", "--devices", "cpu", code=1)

    assert "the last on cpu of SIGSEGV: the driver | is too old; what was committed is kept" in " ".join(talk.split())
    assert "error: 3 workers died one after the other" in talk
    assert "Traceback" not in talk


@pytest.mark.slow
def test_worker_that_hangs_is_replaced(photos, undisturbed, tmp_path, monkeypatch):
    """One that gives no sign of life for too long is ended; what it had taken is done by another."""
    held = tmp_path / "held"
    stopper = at_start(
        tmp_path,
        "import os, signal, sys\n"
        "def stop(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith('067.jpg'):\n"
        f"        try: os.mkdir({str(held)!r})\n"
        "        except FileExistsError: return\n"
        "        os.kill(os.getpid(), signal.SIGSTOP)\n"
        "if 'motivnet_cli.scale.local_worker' in sys.orig_argv: sys.addaudithook(stop)\n",
    )
    monkeypatch.setattr(local_driver, "STALL_SECONDS", 60.0)  # starting takes a part of it on a busy machine
    monkeypatch.setenv("PYTHONPATH", stopper["PYTHONPATH"])
    talk = finish(photos, tmp_path / "p.parquet", *WORKERS)

    assert held.exists()
    assert "has said nothing for 60 s and is ended" in talk
    assert "the worker on cpu died (SIGKILL): another takes its place" in talk
    assert_same_rows(tmp_path / "p.parquet", undisturbed)


@pytest.mark.slow
def test_stop_does_not_wait_for_a_worker_that_hangs(photos, tmp_path):
    """The run ends by one SIGTERM, however its workers are."""
    process = start_until_work_is_committed(photos, tmp_path / "p.parquet", *WORKERS)
    for worker in workers_of(process):
        worker.suspend()
    process.send_signal(signal.SIGTERM)
    _, talk = process.communicate(timeout=300)

    assert process.returncode == 75
    assert "has said nothing for 15 s and is ended" in talk
    assert "run the same command again to continue" in talk


@pytest.mark.slow
def test_input_that_kills_workers_ends_the_run(photos, undisturbed, tmp_path, monkeypatch):
    """A file at which every worker dies, after others that it could do, is not tried for ever."""
    killer = at_start(
        tmp_path,
        "import os, signal, sys\n"
        "def fall(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith('067.jpg'): os.kill(os.getpid(), signal.SIGSEGV)\n"
        "if 'motivnet_cli.scale.local_worker' in sys.orig_argv: sys.addaudithook(fall)\n",
    )
    out = tmp_path / "preds"
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", killer["PYTHONPATH"])
        talk = finish(photos, out, *WORKERS, "--commit-seconds", "30", code=1)

    assert "error: 3 workers died one after the other, the last on cpu of SIGSEGV" in talk
    assert not out.joinpath("faces").exists() or "067.jpg" not in read_faces(out)["input"]
    finish(photos, out)
    assert_same_rows(out, undisturbed)


@pytest.mark.slow
def test_workers_take_up_failed_and_new_inputs(photos, tmp_path):
    """--retry-failed and --extend are shared among workers as any run is."""
    mine = tmp_path / "mine"
    mine.mkdir()
    names = sorted(path.name for path in photos.iterdir())[:8]
    for name in names:
        (mine / name).symlink_to(photos / name)
    out = tmp_path / "p.parquet"
    finish(mine, out)
    assert read_inputs(out).filter(status="failed")["input"].to_list() == ["003.jpg"]

    (mine / "003.jpg").unlink()
    (mine / "003.jpg").symlink_to(photos / "004.jpg")
    (mine / "099.jpg").symlink_to(photos / "099.jpg")
    finish(mine, out, *WORKERS, "--retry-failed")
    finish(mine, out, *WORKERS, "--extend")

    assert read_inputs(out)["input"].to_list() == [*names, "099.jpg"]
    assert read_inputs(out)["status"].to_list() == ["ok"] * 9
    assert read_faces(out)["input"].to_list() == [*names, "099.jpg"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--devices", "gpu"], "devices are all, or some of cpu, mps, cuda:N and N, got 'gpu'"),
        (["--devices", "all,cpu"], "devices are all or a list, not both"),
        (["--devices", "cpu,cuda:7"], "torch sees"),
        (["--devices", "cpu", "--device", "cpu"], "give --device for one device, or --devices"),
        (["--shard", "1/2", "--devices", "cpu", "--retry-failed"], "is the work of one call"),
    ],
)
def test_wrong_options_are_named(photos, tmp_path, options, words):
    """What cannot be shared out is said, with exit 2, whoever notices it."""
    talk = finish(photos, tmp_path / "p.parquet", *options, code=2)

    assert words in talk
    assert "Traceback" not in talk


def test_rows_on_stdout_come_from_one_process(photos):
    """Several would write into each other's lines."""
    said = motivnet("annotate", photos, "--model", "expression-net", "--devices", "cpu", "--out", "-", code=2).stderr

    assert "rows go to stdout from one process only" in said


@pytest.mark.slow
def test_a_run_alone_waits_for_no_others(photos, tmp_path):
    """One process is refused while another is at work on the same output."""
    out = tmp_path / "p.parquet"
    process = start_until_work_is_committed(photos, out, *WORKERS)
    process.send_signal(signal.SIGSTOP)
    talk = finish(photos, out, code=2)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=300)

    assert "another process is writing" in talk
    assert process.returncode == 0
