"""Can the Ray driver keep 10, 100 and 1,000 actors busy? Those here only answer, in place of Ray's (tests/fake_ray.py).

Three questions, each asked of the real driver with the plan of a real run, whose inputs nobody reads:

- *units a second* that it hands out when each is done at once: its limit, without what Ray itself takes;
- *busy*: what actors get done that take 2 s for a unit, over what they would with no driver to wait for, its processor
  time, and the time from the order to stop to the last answer;
- *lost*: the time from the loss of a tenth of the actors until the driver has asked for others in their place, and
  until it has given away all their units (each to an actor without another: the second of two waits for the first).

`--ray` measures what an answer costs in Ray itself, with eight real actors that only answer, while as many calls as
given are awaited besides. Memory is that of the process with the fake actors in it.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from harness import ROOT, parser, report, say

from motivnet_cli.config import InputConfig, ModelConfig, RunConfig, ScaleConfig
from motivnet_cli.scale.ray_driver import RayWorkers
from motivnet_cli.scale.ray_units import UnitPool
from tests.fake_ray import CPUS_OF_A_NODE, FakeRay, begin_run

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (10, 100, 1000)
FAST_UNITS = 20_000
UNIT_SECONDS = 2.0
UNITS_EACH = 6
TARGETS = {"busy": 0.95, "noticed_s": 1.0}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--one", nargs=2, metavar=("WHAT", "ACTORS"), help="one measurement, in this process")
    arguments.add_argument("--ray", type=int, nargs="*", default=[0, 1000], metavar="AWAITED", help="none: not at all")
    options = arguments.parse_args()
    if options.one:
        what, number = options.one
        print(repr({"fast": fast, "paced": paced, "lost": lost, "real": real}[what](int(number))))
        return
    measured: dict[str, dict[str, dict[str, float]]] = {}
    for what, size in [*itertools.product(("fast", "paced", "lost"), SIZES), *(("real", n) for n in options.ray)]:
        values = apart(what, size)
        say(f"{what}, {size} {'calls awaited' if what == 'real' else 'actors'}: {values}")
        measured.setdefault(what, {})[str(size)] = values
    report({**measured, "unit_seconds": UNIT_SECONDS, "targets": TARGETS}, record=options.record)


def apart(what: str, size: int) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--one", what, str(size)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return dict(eval(done.stdout.strip().splitlines()[-1], {"__builtins__": {}}))


class Driven:
    """The driver of a run with fake actors, in a thread of its own."""

    def __init__(self, num_actors: int, num_units: int, **of_ray: float) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="motivnet-bench-")
        output = begin_run(Path(self._scratch.name), num_units)
        self.ray = FakeRay(-(-num_actors // CPUS_OF_A_NODE), **of_ray).install()
        UnitPool.wait_until_visible = lambda *_: None  # the actors write nothing
        self._is_stopped = False
        config = RunConfig(
            inputs=InputConfig(paths=("nothing",)),
            output=output,
            model=ModelConfig(device="cpu"),
            scale=ScaleConfig(engine="ray", ray_address="nowhere", workers=num_actors, cpus_per_worker=1),
        )
        self._workers = RayWorkers(config, SimpleNamespace(file_hash=None))
        assert self._workers.wait_for_first(lambda: False)
        while len(self.ray.actors) < num_actors or self.ray.num_answers < 2 * num_actors:
            self._workers._take_answers()
        self.ray.num_answers = self.ray.num_waits = 0
        self._thread = threading.Thread(target=self._drive)
        self.cpu_began, self.began = time.process_time(), time.monotonic()
        self._thread.start()

    def _drive(self) -> None:
        self._workers.do(None, on_progress=lambda _: None, stop=lambda: self._is_stopped)

    def stop(self) -> None:
        self._is_stopped = True

    def wait(self) -> float:
        """Wait for the end; the seconds since the beginning."""
        self._thread.join()
        seconds = time.monotonic() - self.began
        self._scratch.cleanup()
        return seconds


def fast(num_actors: int) -> dict[str, float]:
    """Units that are done at once."""
    before = peak_mb()
    driven = Driven(num_actors, FAST_UNITS)
    seconds = driven.wait()
    assert len(driven.ray.when_done) == FAST_UNITS
    return {
        "units_per_s": round(FAST_UNITS / seconds),
        "answers_per_s": round(driven.ray.num_answers / seconds),
        "grown_mb": round(peak_mb() - before, 1),
        "most_in_hand": max(actor.most_in_hand for actor in driven.ray.actors),
    }


def paced(num_actors: int) -> dict[str, float]:
    """Units that take UNIT_SECONDS each, until the order to stop, which comes when all have a few behind them."""
    driven = Driven(num_actors, 2 * UNITS_EACH * num_actors, unit_seconds=UNIT_SECONDS)
    time.sleep(UNIT_SECONDS * UNITS_EACH)
    cpu, seconds = time.process_time() - driven.cpu_began, time.monotonic() - driven.began
    answers = driven.ray.num_answers
    busy = sum(actor.busy_seconds(time.monotonic()) for actor in driven.ray.actors)
    driven.stop()
    stopped = time.monotonic()
    driven.wait()
    return {
        "busy": round(busy / seconds / num_actors, 3),
        "cores": round(cpu / seconds, 3),
        "answers_per_s": round(answers / seconds),
        "drained_s": round(time.monotonic() - stopped, 1),
        "most_in_hand": max(actor.most_in_hand for actor in driven.ray.actors),
    }


def lost(num_actors: int) -> dict[str, float]:
    """A tenth of the actors is gone at once."""
    driven = Driven(num_actors, 2 * UNITS_EACH * num_actors, unit_seconds=UNIT_SECONDS)
    time.sleep(1.5 * UNIT_SECONDS)
    gone = driven.ray.actors[: num_actors // 10]
    driven.ray.lose(gone)
    units = {unit for actor in gone for unit in actor.in_hand}
    began = time.monotonic()
    wait_until(lambda: len(driven.ray.actors) == num_actors + len(gone))
    noticed = time.monotonic() - began
    wait_until(lambda: units <= {unit for actor in driven.ray.actors if actor.is_alive for unit in list(actor.taken)})
    given = time.monotonic() - began
    driven.stop()
    driven.wait()
    return {"units": len(units), "noticed_s": round(noticed, 2), "given_s": round(given, 2)}


def wait_until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        time.sleep(0.005)


def real(num_awaited: int) -> dict[str, float]:
    """What the driver's process pays for an answer in Ray, with eight actors and so many calls awaited besides."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    class Answering:
        def talk(self, unit: int) -> int:
            return unit

        def sleep(self) -> None:
            time.sleep(3600)

    ray.init(
        num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False, logging_level="ERROR"
    )
    made = ray.remote(Answering).options(num_cpus=0)
    actors = [made.remote() for _ in range(8)]
    sleeper = made.remote()
    awaited = [sleeper.sleep.remote() for _ in range(num_awaited)]
    ray.get([actor.talk.remote(0) for actor in actors])  # they have started
    calls = {actor.talk.remote(0): actor for actor in actors}
    answers = 0
    cpu, began = time.process_time(), time.monotonic()
    while time.monotonic() - began < 5:
        ready, _ = ray.wait([*calls, *awaited], timeout=1)
        for call in ready:
            actor = calls.pop(call)
            ray.get(call)
            calls[actor.talk.remote(0)] = actor
            answers += 1
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    ray.shutdown()
    return {"answers_per_s": round(answers / seconds), "cpu_ms_per_answer": round(1000 * cpu / answers, 3)}


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


if __name__ == "__main__":
    main()
