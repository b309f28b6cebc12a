"""Real Ray, real nodes, real signals: whatever dies, the rows are those of one undisturbed process."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time

import psutil
import pytest

from tests.ray_cluster import RayCluster
from tests.runs import assert_same, command, start_until_work_is_committed

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="no signals")]
START_SECONDS = 300


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


def on(cluster, *options):
    return ("--engine", "ray", "--ray-address", cluster.address, *options)


def finish(photos, out, *options, code=0):
    done = subprocess.run(command(photos, out, *options), capture_output=True, text=True, timeout=START_SECONDS)
    assert done.returncode == code, done.stderr
    return done


def test_killed_at_random(cluster, photos, undisturbed, tmp_path):
    """Workers, a node and the driver die again and again; one process alone ends what is left, and nothing is lost."""
    rng = random.Random(11)
    out = tmp_path / "preds"
    cluster.add_node(1)
    killed = {"worker": 0, "node": 0, "driver": 0}
    for what in ("worker", "node", "driver", "worker", "driver"):
        if len(cluster.nodes) == 1:
            cluster.add_node(1)
        process = start_until_work_is_committed(photos, out, *on(cluster, "--batch-size", "2"))
        time.sleep(rng.uniform(0, 0.5))
        if what == "node":
            cluster.kill_node(cluster.nodes[1])
        elif what == "worker":
            for worker in rng.sample(cluster.workers(), 1):
                worker.kill()
        if what != "driver":
            time.sleep(rng.uniform(0, 1.0))
        killed[what] += process.poll() is None
        process.kill()
        process.communicate()
        cluster.wait_for_no_workers()

    assert killed["worker"] >= 1
    assert killed["node"] == 1
    assert killed["driver"] >= 1
    finish(photos, out)
    assert_same(out, undisturbed)
