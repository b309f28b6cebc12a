"""A real Ray cluster on this machine, whose nodes and workers can be killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import psutil

_START = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--object-store-memory=80000000")

TRIES = 3
"""Ray gives a node 30 seconds to start, which a busy machine may not keep."""


class RayCluster:
    """Nodes that are one process group each; the first is the head, without which there is no cluster.

    Args:
        folder: For Ray's own files; sockets lie in it, so its path must be short.
    """

    def __init__(self, folder):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self._folder = folder
        self.nodes = []

    def add_node(self, num_cpus, **environ):
        """Start a node, and wait until it has joined."""
        said = ""
        for _ in range(TRIES):
            node, said = self._start_node(num_cpus, environ)
            if node is not None:
                self.nodes.append(node)
                return node
        raise AssertionError(said)

    def _start_node(self, num_cpus, environ):
        if self.nodes:
            where = [f"--address={self.address}"]
        else:
            port = self.address.partition(":")[2]
            where = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self._folder}"]
        node = subprocess.Popen(
            [*_START, *where, f"--num-cpus={num_cpus}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | environ,
        )
        said = []
        for line in node.stdout:
            said.append(line)
            if "Ray runtime started" in line:
                return node, ""
        _kill_tree(node)
        return None, "".join(said)

    def kill_node(self, node):
        """End it as a power cut does."""
        _kill_tree(node)
        self.nodes.remove(node)

    def workers(self):
        """The processes of the actors, on all nodes."""
        return [worker for node in self.nodes for worker in workers_below(node)]

    def wait_for_no_workers(self):
        while self.workers():
            time.sleep(0.05)

    def close(self):
        for node in reversed(list(self.nodes)):
            self.kill_node(node)


def workers_below(process):
    """The processes of the actors among those that a process has started."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with _gone():
            if child.cmdline()[0].startswith("ray::Worker"):
                found.append(child)
    return found


def _kill_tree(node):
    processes = []
    with _gone():
        top = psutil.Process(node.pid)
        processes = [top, *top.children(recursive=True)]
    for process in processes:
        with _gone():
            process.kill()
    node.wait()
    node.stdout.close()
    psutil.wait_procs(processes, timeout=300)


class _gone:
    """A process that has ended meanwhile is no error."""

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        return kind is not None and issubclass(kind, (psutil.NoSuchProcess, IndexError))
