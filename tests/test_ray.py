"""Real Ray, real nodes, real signals: whatever dies, the rows are those of one undisturbed process."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from motivnet_cli.config import InputConfig, ModelConfig, OutputConfig, RunConfig, ScaleConfig
from motivnet_cli.engine.work import load_network, make_predictor, row_layout, work
from motivnet_cli.output.share import begun_run, take_assigned
from motivnet_cli.run import annotate
from motivnet_cli.scale.ray_driver import Need
from motivnet_cli.shards import Shard
from tests.agreement import assert_same_rows
from tests.ray_cluster import RayCluster, workers_below
from tests.runs import at_start, command, slow_disk, start_until_work_is_committed

pytestmark = pytest.mark.xdist_group("ray")  # one after the other: `--ray-address auto` finds any cluster here


def needs_ray(test):
    return pytest.mark.slow(pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")(test))


HERE = ("--engine", "ray", "--workers", "2", "--cpus-per-worker", "1")


@pytest.fixture(autouse=True)
def own_ray(monkeypatch):
    """Nodes and drivers of a test agree, whatever this account has of Ray."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def cluster():
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        made = RayCluster(folder)
        yield made
        made.close()


@pytest.fixture
def no_cluster():
    """A Ray that an earlier test has ended takes a moment to go; while its head node answers, `auto` finds it."""
    heads = [process for process in psutil.process_iter(["name"]) if process.info["name"] == "gcs_server"]
    if psutil.wait_procs(heads, timeout=120)[1]:
        pytest.skip("a Ray cluster runs on this machine")


def on(cluster, *options):
    return ("--engine", "ray", "--ray-address", cluster.address, *options)


def finish(photos, out, *options, code=0, **how):
    done = subprocess.run(command(photos, out, *options), capture_output=True, text=True, timeout=600, **how)
    assert done.returncode == code, done.stderr
    return done


# ---- a cluster --------------------------------------------------------------------------------------------


@needs_ray
def test_killed_at_random(cluster, photos, undisturbed, tmp_path):
    """Workers, a node and the driver are killed while they work; one process alone ends the rest, and all is there."""
    rng = random.Random(11)
    out, slow = tmp_path / "preds", slow_disk(tmp_path)
    cluster.add_node(1, **slow)
    killed = set()
    for what in ("worker", "node", "driver"):
        if len(cluster.nodes) < 2:
            cluster.add_node(1, **slow)
        process = start_until_work_is_committed(photos, out, *on(cluster, "--batch-size", "2"))
        time.sleep(rng.uniform(0, 0.3))
        if what == "node":
            cluster.kill_node(cluster.nodes[1])
        elif what == "worker":
            rng.choice(cluster.workers()).kill()
        if process.poll() is None:
            killed.add(what)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.communicate()
        cluster.wait_for_no_workers()
    left_over = not (out / ".motivnet" / "run.json").read_text().count('"finished"')
    finish(photos, out)

    assert killed == {"worker", "node", "driver"}
    assert left_over
    assert_same_rows(out, undisturbed)


@needs_ray
def test_run_survives_a_node_and_a_worker(cluster, photos, undisturbed, tmp_path):
    """A run goes on with what is left of its cluster, and says what it lost."""
    cluster.add_node(1)
    lost = cluster.add_node(1)
    process = start_until_work_is_committed(photos, tmp_path / "p.parquet", *on(cluster, "--batch-size", "2"))
    cluster.kill_node(lost)
    cluster.workers()[0].kill()
    _, talk = process.communicate(timeout=600)

    assert process.returncode == 0, talk
    assert "another takes its place" in talk
    assert_same_rows(tmp_path / "p.parquet", undisturbed)


@needs_ray
def test_workers_import_nothing_from_the_working_folder(photos, undisturbed, traps, tmp_path):
    """Ray would put the folder in which the run is started before all others: a data set may hold an `av.py`."""
    motivnet = Path(sys.executable).with_name("motivnet")  # `python -m` itself looks there
    arguments = command(photos, tmp_path / "p.parquet", *HERE)[3:]
    done = subprocess.run([motivnet, *arguments], cwd=traps, capture_output=True, text=True, timeout=600)

    assert done.returncode == 0, done.stderr
    assert_same_rows(tmp_path / "p.parquet", undisturbed)


@needs_ray
def test_says_what_it_waits_for(cluster, photos, undisturbed, tmp_path):
    """On a cluster too small for one worker a run waits and says so; it goes on when a node comes."""
    cluster.add_node(1)
    process = subprocess.Popen(
        command(photos, tmp_path / "p.parquet", *on(cluster, "--cpus-per-worker", "2")),
        stderr=subprocess.PIPE,
        text=True,
    )
    said = next(line for line in process.stderr if "waiting" in line)
    cluster.add_node(2)
    _, talk = process.communicate(timeout=600)

    assert "waiting for 1 worker of 2 CPUs to start; the Ray cluster has 1 CPUs (1 free)" in said
    assert "none is large enough: add one, or ask for less with --cpus-per-worker" in said
    assert process.returncode == 0, talk
    assert_same_rows(tmp_path / "p.parquet", undisturbed)


@needs_ray
def test_signal_while_waiting(cluster, photos, tmp_path):
    """A run that waits for nodes ends at the first signal, with nothing begun."""
    cluster.add_node(1)
    process = subprocess.Popen(
        command(photos, tmp_path / "preds", *on(cluster, "--cpus-per-worker", "2")), stderr=subprocess.PIPE, text=True
    )
    next(line for line in process.stderr if "waiting" in line)
    process.send_signal(signal.SIGTERM)
    _, talk = process.communicate(timeout=300)

    assert process.returncode == 75, talk
    assert "run the same command again" in talk
    assert not (tmp_path / "preds").exists()


@needs_ray
def test_input_that_kills_ends_the_run(cluster, photos, undisturbed, tmp_path):
    """An input with which every worker dies is named, in an error and exit 1; elsewhere the run can be finished."""
    killer = at_start(
        tmp_path,
        "import os, sys\n"
        "sys.addaudithook(lambda event, on: event == 'open' and str(on[0]).endswith('077.jpg') and os._exit(9))\n",
    )
    cluster.add_node(1, **killer)
    out = tmp_path / "p.parquet"
    talk = finish(photos, out, *on(cluster, "--batch-size", "2"), code=1).stderr
    finish(photos, out)

    assert "error: 3 workers died with the same inputs in hand" in talk
    assert_same_rows(out, undisturbed)


@needs_ray
@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs proc(5)")
def test_output_that_a_node_does_not_see(cluster, photos, tmp_path):
    """A node that sees another folder under the output's name is named, with what it looked for."""
    cluster.add_node(1)
    out = "/proc/self/cwd/preds"
    talk = finish(photos, out, *on(cluster), code=2, cwd=tmp_path).stderr

    assert f"no run is to be seen at '{out}' (looked for '{out}/.motivnet/run.json')" in talk
    assert "Traceback" not in talk


# ---- a Ray of this machine --------------------------------------------------------------------------------


@needs_ray
def test_worker_on_this_machine_dies(photos, undisturbed, tmp_path):
    """Without an address Ray runs here for the run and ends with it; stdout stays data whatever Ray prints."""
    process = subprocess.Popen(
        command(photos, tmp_path / "p.parquet", *HERE, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob("p.parquet.work/inputs/part-*")):
        time.sleep(0.05)
    below = psutil.Process(process.pid).children(recursive=True)
    workers_below(process)[0].kill()
    summary, talk = process.communicate(timeout=600)

    assert process.returncode == 0, talk
    assert json.loads(summary)["finished"]
    assert "another takes its place" in talk
    assert not psutil.wait_procs(below, timeout=300)[1]
    assert_same_rows(tmp_path / "p.parquet", undisturbed)


@needs_ray
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)], ids=str)
def test_signal_to_the_group_stops_in_order(photos, undisturbed, tmp_path, number, code):
    """A signal that reaches Ray's processes, too, lets the workers commit what they have; two local ones go on."""
    out = tmp_path / "p.parquet"
    process = start_until_work_is_committed(photos, out, *HERE, start_new_session=True)
    below = psutil.Process(process.pid).children(recursive=True)
    workers = workers_below(process)
    for worker in workers:
        worker.suspend()
    os.killpg(process.pid, number)
    ended, _ = psutil.wait_procs(below, timeout=3)
    for worker in workers:
        worker.resume()
    _, talk = process.communicate(timeout=300)

    assert len(workers) == 2
    assert not ended
    assert process.returncode == code, talk
    assert "run the same command again to continue" in talk
    assert "died" not in talk
    assert f"{number.name} received" not in talk
    finish(photos, out, "--devices", "cpu,cpu")
    assert_same_rows(out, undisturbed)


# ---- units ------------------------------------------------------------------------------------------------


def test_units_in_any_order(photos, undisturbed, tmp_path):
    """Units that are handed over out of order, twice, or when they are done are written once, and in their place."""
    config = RunConfig(
        inputs=InputConfig(paths=(str(photos),)),
        output=OutputConfig(path=str(tmp_path / "p.parquet"), commit_seconds=0),
        model=ModelConfig(name="expression-net", batch_size=5),
    )
    annotate(replace(config, scale=ScaleConfig(shard=Shard(0, 4))), stop=lambda: True)  # lists the inputs, no more
    last = begun_run(config.output).units[-1]
    units = iter([[3, 5], [4, 0, 0, 1, 7], [last, 2, 3, 6, *range(8, last)]])

    class Turns:
        def __init__(self):
            self.turn = []

        def wait(self):
            self.turn = next(units, [])
            return self.next()

        def next(self):
            return self.turn.pop(0) if self.turn else None

    model = load_network(config.model)
    share = take_assigned(config.output, row_layout(config, model), Turns())
    work(share, config, model, make_predictor(model, config.model), on_progress=lambda _: None, stop=lambda: False)
    settled = share.settled()
    share.close()
    begun = begun_run(config.output)
    annotate(config)

    assert sorted(settled) == [(unit, True) for unit in range(last + 1)]
    assert begun.num_done == begun.num_items
    assert_same_rows(tmp_path / "p.parquet", undisturbed)


# ---- settings ---------------------------------------------------------------------------------------------


def test_missing_ray_is_said(tmp_path):
    """Without the library there is the line that installs it, and exit 2."""
    options = command(tmp_path, tmp_path / "p.parquet", "--engine", "ray")[3:]
    code = "import sys; sys.modules['ray'] = None; from motivnet_cli.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, timeout=300)

    assert done.returncode == 2
    assert "pip install 'motivnet-cli[ray]'" in done.stderr


@needs_ray
@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("auto", ""),
        ("127.0.0.1:1", "127.0.0.1:1 does not answer: Connection refused"),
        ("ray://127.0.0.1:1", "ray://127.0.0.1:1 does not answer: Connection refused"),
        ("head", "expected auto or HOST:PORT"),
    ],
)
@pytest.mark.usefixtures("no_cluster")
def test_no_cluster_at_the_address(photos, tmp_path, address, why):
    """An address without a cluster is an error of the user's, with what to do."""
    talk = finish(photos, tmp_path / "p.parquet", "--engine", "ray", "--ray-address", address, code=2).stderr

    assert f"no Ray cluster to join at {address!r} ({why}" in talk
    assert "Traceback" not in talk


HEAD, CPU_NODE, GPU_NODE = {"CPU": 0.0}, {"CPU": 2.0}, {"CPU": 32.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("device", "asked", "nodes", "need", "fits"),
    [
        ("auto", {}, [CPU_NODE], Need(2, 0), 1),
        ("auto", {}, [HEAD, {"CPU": 64.0}], Need(4, 0), 16),
        ("auto", {}, [HEAD, GPU_NODE, GPU_NODE], Need(8, 1), 8),
        ("cpu", {}, [GPU_NODE], Need(4, 0), 8),
        ("cuda", {}, [HEAD], Need(1, 1), 0),
        ("auto", {"gpus_per_worker": 0.5}, [GPU_NODE], Need(4, 0.5), 8),
        ("auto", {"cpus_per_worker": 16}, [GPU_NODE, CPU_NODE], Need(16, 1), 2),
        ("auto", {"cpus_per_worker": 3}, [CPU_NODE, CPU_NODE], Need(3, 0), 0),
    ],
)
def test_what_a_worker_asks_for(device, asked, nodes, need, fits):
    """A worker takes a GPU where there is one with its share of CPUs, unless it is told otherwise."""
    found = Need.of(device, ScaleConfig(engine="ray", **asked), nodes)

    assert found == need
    assert found.num_fitting(nodes) == fits
