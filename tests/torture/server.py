"""A process that has imported what a run imports, and forks one run for each line on its stdin.

It computes nothing and has one thread, so a fork is as good as a new process, and 3 seconds faster. Each run is the
leader of a session of its own. Requests and answers are lines of JSON:

    {"id": 1, "argv": [...], "env": {...}, "talk": "file", "said": "file", "cwd": "folder", "file_limit": 0}
    -> {"id": 1, "pid": 123}, and when it has ended {"id": 1, "code": 0}
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import json
import os
import resource
import select
import signal
import sys
import tempfile
import traceback
from pathlib import Path


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    _import_all()
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    others = [name for name in threads if name not in _MAY_FORK]
    assert len(others) == 1, f"a process that is forked may not have these threads: {others}"
    alarm_read, alarm_write = os.pipe()
    os.set_blocking(alarm_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(alarm_write, warn_on_full_buffer=False)
    running: dict[int, int] = {}
    waiting = b""
    answers.write(json.dumps({"ready": True}) + "\n")
    answers.flush()
    while True:
        ready, _, _ = select.select([0, alarm_read], [], [])
        if alarm_read in ready:
            os.read(alarm_read, 4096)
        if 0 in ready:
            piece = os.read(0, 1 << 16)
            if not piece:
                return
            *lines, waiting = (waiting + piece).split(b"\n")
            for line in lines:
                request = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    _become(request)
                running[pid] = request["id"]
                answers.write(json.dumps({"id": request["id"], "pid": pid}) + "\n")
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                answers.write(json.dumps({"id": running.pop(pid), "code": code}) + "\n")
        answers.flush()


_MAY_FORK = {"jemalloc_bg_thd", "polars-ooc-clea"}
"""Threads that no child needs: one's library sees to forks (pthread_atfork), the other only tidies up."""


def _import_all() -> None:
    """All but onnxruntime, which starts a thread when it is imported."""
    import av  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import rich.live
    import rich.progress
    import rich.table  # noqa: F401
    import simplejpeg  # noqa: F401

    import motivnet_cli.cli
    import motivnet_cli.run  # noqa: F401

    for name in ("pandas", "s3fs"):  # pyarrow imports the one where it is installed
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _become(request: dict) -> None:
    """Run the command in this process, and end."""
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor, name in ((0, os.devnull), (1, request["said"]), (2, request["talk"])):
            flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
            file = os.open(name, flags, 0o600)
            os.dup2(file, descriptor)
            os.close(file)
        os.closerange(3, 256)
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        tempfile.tempdir = None
        ctypes.CDLL(None).torture_arm()
        if request["file_limit"]:
            limit = request["file_limit"]
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        faulthandler.enable(2)
        sys.argv = ["motivnet", *request["argv"]]
        code = _run()
    except BaseException:  # noqa: BLE001 - a fault of this program, to be seen in what the run says
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run() -> int:
    """The exit code of the command line; what Python does at its end is done, too."""
    import atexit
    import threading

    from motivnet_cli.cli import main

    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    return code


if __name__ == "__main__":
    main()
