"""A Slurm of one node, started for the test: the printed script, its signals, and what is submitted again."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time

import pytest

from motivnet_cli.output.status import output_status
from tests.agreement import assert_same_rows
from tests.runs import command

PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "squeue")
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=60
MinJobAge=3600
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
"""Four CPUs whatever the machine has, so that four tasks run at once; no cgroups, no accounting."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(shutil.which(program, path=PATH) for program in PROGRAMS), reason="Slurm and munge are not installed"
    ),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A function that runs a command of Slurm and returns what it prints; `motivnet` is on the PATH of jobs."""
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o700)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        ports = [each.getsockname()[1] for each in sockets]
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(folder=folder, host=host, user=getpass.getuser(), ports=ports))
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    motivnet = folder / "bin" / "motivnet"
    motivnet.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m motivnet_cli "$@"\n')
    motivnet.chmod(0o755)
    environ = {**os.environ, "PATH": f"{folder / 'bin'}:{PATH}", "SLURM_CONF": str(config)}
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]

    def run(*arguments):
        return subprocess.run(
            [str(argument) for argument in arguments],
            env=environ,
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        ).stdout.strip()

    started = []
    try:
        for daemon in daemons:
            with (folder / f"{daemon[0]}.out").open("w") as talk:
                started.append(subprocess.Popen(daemon, env=environ, cwd=folder, stdout=talk, stderr=talk))
            if daemon[0] == "munged":
                wait_for((folder / "munge.socket").exists)
        wait_for(lambda: "idle" in run_or_nothing(run, "sinfo", "--noheader", "--format=%T"))
        yield run
        run("scancel", "--signal=KILL", f"--user={getpass.getuser()}")
        run("scancel", f"--user={getpass.getuser()}")
        wait_for(lambda: not run("squeue", "--noheader"))
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(timeout=300)


def run_or_nothing(run, *arguments):
    with contextlib.suppress(subprocess.CalledProcessError):
        return run(*arguments)
    return ""


def wait_for(is_so, *, seconds=300):
    """Look until it is so; a machine with much to do takes long."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it has not come to be"
        time.sleep(0.1)


def states(slurm, job):
    """What is in the queue of an array, by task number."""
    lines = slurm("squeue", "--noheader", "--array", f"--jobs={job}", "--format=%K %T").splitlines()
    return {int(number): state for number, state in map(str.split, lines)}


def test_an_array_is_disturbed_and_submitted_again(slurm, photos, undisturbed, tmp_path):
    """Of four tasks one is killed, one stopped and queued again, one cancelled; the list of status ends the run."""
    out, logs = tmp_path / "p.parquet", [tmp_path / f"{number}.log" for number in range(4)]
    options = ("--batch-size", "1", "--threads", "1")
    arguments = command(photos, out, *options)[4:]
    script = tmp_path / "run.sh"
    script.write_text(
        slurm(
            "motivnet",
            "slurm-script",
            "--shards=4",
            "--gpus=0",
            "--cpus=1",
            f"--log={tmp_path}/%a.log",
            "--",
            *arguments,
        )
    )
    job = slurm("sbatch", "--parsable", script)
    for number, signal in ((1, ["--signal=KILL"]), (2, ["--batch", "--signal=TERM"]), (3, [])):
        wait_for(lambda number=number: logs[number].exists() and "inputs in shard" in logs[number].read_text())
        slurm("scancel", *signal, f"{job}_{number}")

    wait_for(lambda: states(slurm, job) == {2: "PENDING"})
    for number in (2, 3):
        assert "stopped; what is done is committed" in logs[number].read_text()
    assert "Restarts=1" in slurm("scontrol", "show", "job", f"{job}_2")
    assert "JobState=CANCELLED" in slurm("scontrol", "show", "job", f"{job}_3")
    assert "JobState=COMPLETED" in slurm("scontrol", "show", "job", f"{job}_0")
    assert slurm("motivnet", "status", out, "--array") == "1-3"

    slurm("scontrol", "update", f"jobid={job}_2", "StartTime=now")  # Slurm waits two minutes
    wait_for(lambda: not states(slurm, job))
    assert "JobState=COMPLETED" in slurm("scontrol", "show", "job", f"{job}_2")
    missing = slurm("motivnet", "status", out, "--array")
    assert missing == "1,3"

    again = slurm("sbatch", "--parsable", f"--array={missing}", script)
    wait_for(lambda: not states(slurm, again))
    assert slurm("motivnet", "status", out, "--array") == ""
    assert output_status(out).finished
    assert_same_rows(out, undisturbed)
