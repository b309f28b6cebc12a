"""Folders and buckets that answer slowly, listed one after the other and ahead; folders of any size.

The slow file system is this machine's own with a millisecond more for each folder that is listed and each file that is
asked about, the bucket one in memory that takes 100 ms a page. Without that millisecond the same folders show what a
listing costs the processor, and what it would if a fast file system were taken for a slow one. Both ways must find the
same. The names of large folders are made up: what is measured is their sorting.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from harness import ROOT, parser, report, say, time_process

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.insert(0, str(ROOT))

from motivnet_cli.inputs import walk
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.remote import storage
from tests.fake_s3 import FakeBucket

TARGETS = {"folders_ratio": 5, "bucket_ratio": 2, "peak_mb": 100}
DELAY_SECONDS = 0.001
PAGE_SECONDS = 0.1
FILES = 5_000
FAST_FILES = 100_000
A_FOLDER = 100
KEYS = 100_000
NAMES = (1_000_000, 10_000_000)
NEVER, ALWAYS = 1e9, -1.0
SORT = """
import sys
from motivnet_cli.external_sort import in_order
count = int(sys.argv[1])
last, num_sorted = b"", 0
for name in in_order(b"img-%09d.jpg" % (number * 7919 % count) for number in range(count)):
    assert name >= last
    last, num_sorted = name, num_sorted + 1
assert num_sorted == count
with open("/proc/self/status") as status:  # wait4 would count what this process began as, too
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def main() -> None:
    options = parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        make_files(Path(scratch) / "slow", FILES)
        make_files(Path(scratch) / "fast", FAST_FILES)
        with slow_file_system():
            folders = both_ways(str(Path(scratch) / "slow"))
        fast = both_ways(str(Path(scratch) / "fast"), ahead=ALWAYS)
    keys = [f"{number // 1000:03d}/{number:06d}.jpg" for number in range(KEYS)]
    with mock.patch.object(storage, "_are_in_order", return_value=False):  # page by page, as such a store is
        bucket = {"one by one": list_bucket(keys)}
    bucket["ahead"] = list_bucket(keys)
    if len({way.pop("found") for way in bucket.values()}) != 1:
        raise SystemExit("not the same keys")
    peaks = {str(count): peak_of_names(count) for count in NAMES}
    row = {
        "folders": folders,
        "folders_ratio": round(folders["one by one"]["seconds"] / folders["ahead"]["seconds"], 1),
        "fast": fast,
        "bucket": bucket,
        "bucket_ratio": round(bucket["one by one"]["seconds"] / bucket["ahead"]["seconds"], 1),
        "peak_mb": peaks,
        "targets": TARGETS,
    }
    report(row, record=options.record)


def make_files(folder: Path, count: int) -> None:
    for number in range(count):
        below = folder / f"{number // A_FOLDER:05d}"
        if number % A_FOLDER == 0:
            below.mkdir(parents=True)
        (below / f"{number:08d}.jpg").touch()


@contextlib.contextmanager
def slow_file_system() -> Iterator[None]:
    stat, scandir = os.stat, os.scandir

    def slow_stat(*arguments: object, **options: object) -> os.stat_result:
        time.sleep(DELAY_SECONDS)
        return stat(*arguments, **options)  # type: ignore[arg-type]

    def slow_scandir(path: bytes) -> object:
        time.sleep(DELAY_SECONDS)
        return scandir(path)

    with mock.patch.object(os, "stat", slow_stat), mock.patch.object(os, "scandir", slow_scandir):
        yield


def both_ways(folder: str, *, ahead: float = walk._PATIENCE_SECONDS) -> dict[str, dict[str, float]]:
    measured, found = {}, set()
    for way, patience in (("one by one", NEVER), ("ahead", ahead)):
        slow = min(patience, walk._SLOW_SECONDS)
        with mock.patch.multiple(walk, _PATIENCE_SECONDS=patience, _SLOW_SECONDS=slow):
            started, busy = time.perf_counter(), time.process_time()
            items = list(Listing([folder]))
            seconds, cpu = time.perf_counter() - started, time.process_time() - busy
        found.add(tuple(items))
        measured[way] = {"seconds": round(seconds, 2), "cpu_us_a_file": round(cpu / len(items) * 1e6, 2)}
        say(f"{len(items):,} files {way}: {measured[way]}")
    if len(found) != 1:
        raise SystemExit("not the same files")
    return measured


def list_bucket(keys: list[str]) -> dict[str, Any]:
    bucket = FakeBucket(keys, seconds=PAGE_SECONDS)
    with mock.patch.object(storage, "file_system", bucket.opened):
        started = time.perf_counter()
        found = tuple(storage.list_remote("s3://b/"))
        seconds = time.perf_counter() - started
    say(f"{len(found):,} keys by {bucket.num_requests} requests, {bucket.most_at_once} at once: {seconds:.1f} s")
    return {"seconds": round(seconds, 2), "requests": bucket.num_requests, "found": found}


def peak_of_names(count: int) -> int:
    """Peak memory in MB of a process that sorts the names in a folder."""
    peak_mb = round(int(time_process([sys.executable, "-c", SORT, str(count)]).stdout) / (1e6 / 1024))
    say(f"{count:,} names in a folder: peak {peak_mb} MB")
    return peak_mb


if __name__ == "__main__":
    main()
