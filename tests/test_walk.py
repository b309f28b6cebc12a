"""Folders of any size and depth: the order of what is found, how much is asked for ahead, and how it ends."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motivnet_cli import external_sort
from motivnet_cli.config import InputConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.external_sort import in_order
from motivnet_cli.inputs import walk
from motivnet_cli.inputs.listing import Listing

THREADS = "motivnet-walk"


@pytest.fixture
def ahead(monkeypatch):
    """Every file system counts as slow from the start."""
    monkeypatch.setattr(walk, "_PATIENCE_SECONDS", -1)
    monkeypatch.setattr(walk, "_SLOW_SECONDS", -1)


@pytest.fixture
def tree(tmp_path):
    """150 pictures, 5 to a folder, on three levels, and their names in the order of a walk."""
    names = [f"{a}/{b}/{n}.jpg" for a in "ABC" for b in range(10) for n in range(5)]
    fill(tmp_path, names)
    return names


def fill(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * (hash(name) % 7))


def found_in(folder, **options):
    """What a listing finds, and what it passes over."""
    listing = Listing(InputConfig(paths=(str(folder),), **options))
    return list(listing), dict(listing.skipped)


def walk_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREADS)]


# ---- Large folders ------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=6).filter(lambda record: b"/" not in record)), st.integers(1, 9))
def test_records_are_sorted_in_runs(records, run):
    """Whatever their bytes, and wherever a read ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(external_sort, "RUN_RECORDS", run)
        patch.setattr(external_sort, "_READ_BYTES", 8)
        patch.setattr(external_sort, "_MIN_READ_BYTES", 1)

        assert list(in_order(records)) == sorted(records)


def test_memory_of_a_sort_is_that_of_a_run(monkeypatch):
    """Of 5 MB of records."""
    monkeypatch.setattr(external_sort, "RUN_RECORDS", 1000)
    monkeypatch.setattr(external_sort, "_READ_BYTES", 1 << 16)
    count = 30_000
    records = (b"%0160d" % (number * 7919 % count) for number in range(count))
    tracemalloc.start()
    num_sorted = sum(1 for _ in in_order(records))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert num_sorted == count
    assert peak < 2_000_000


def test_large_folder_is_in_the_order_of_the_bytes_of_its_names(tmp_path, monkeypatch):
    """With names that are no UTF-8, folders, and a name that begins like another one."""
    raw = [b"\xff.jpg", "é.jpg".encode(), b"\xee\x80\x80.jpg", b"a.b.jpg", b"a b.jpg", b"Z.jpg", b"a\n.jpg", b"a.jpg"]
    for name in raw:
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    (tmp_path / "a" / "sub.jpg").mkdir(parents=True)
    (tmp_path / "a" / "x.jpg").write_bytes(b"x")
    expected = sorted([*raw, b"a/x.jpg", b"a/sub.jpg"], key=lambda name: name.split(b"/"))
    for run in (1, 2, 3, 100):
        monkeypatch.setattr(external_sort, "RUN_RECORDS", run)

        for name in (str(tmp_path), f"{tmp_path}/*"):
            assert [os.fsencode(os.path.relpath(each.path, tmp_path)) for each in Listing([name])] == expected


def test_full_disk_for_temporary_files_ends_the_command(tmp_path, monkeypatch):
    """It is no reason to call the folder unreadable and go on without its files."""
    fill(tmp_path, [f"{number}.jpg" for number in range(10)])
    monkeypatch.setattr(external_sort, "RUN_RECORDS", 3)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("wb", buffering=0))  # noqa: SIM115

    with pytest.raises(ConfigError, match=r"cannot sort .* in .*: No space left on device; have TMPDIR name"):
        found_in(tmp_path)


def test_folder_that_fails_late_is_unreadable(tmp_path, monkeypatch):
    """None of its files is listed, as if it had failed at once."""
    fill(tmp_path, [f"b/{number}.jpg" for number in range(10)] + ["a.jpg", "c.jpg"])
    monkeypatch.setattr(external_sort, "RUN_RECORDS", 3)
    scandir = os.scandir

    class Failing:
        def __init__(self, path):
            self._scan = scandir(path)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._scan.close()

        def __iter__(self):
            yield from islice(self._scan, 7)
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "scandir", lambda path: (Failing if os.fsencode(path).endswith(b"b") else scandir)(path))
    items, _ = found_in(tmp_path)
    (matched,) = [item for item in Listing([f"{tmp_path}/**/*.jpg"]) if item.problem]

    assert [item.input for item in items] == ["a.jpg", "b", "c.jpg"]
    assert items[1].problem.error_type == matched.problem.error_type == "unreadable_folder"
    assert "Input/output error" in items[1].problem.message


# ---- Asking ahead ------------------------------------------------------------------------------------------


def draw_tree(folder, rng):
    """Folders in folders with everything that a walk treats in a way of its own."""
    folders = [folder]
    for number in range(12):
        above = rng.choice(folders)
        folders.append(above / (f"p{number}.jpg" if rng.random() < 0.3 else f"f{number}"))
        folders[-1].mkdir()
    for number in range(60):
        ending = rng.choice([".jpg", ".JPG", ".mp4", ".txt", ".ts", ".tar.gz", ""])
        name = f"{rng.choice(['', '.', 'x'])}{number}{ending}"
        (rng.choice(folders) / name).write_bytes(b"x" * rng.randrange(9))
    for number in range(8):
        target = rng.choice([*folders, folder / "nothing", folder.parent])
        (rng.choice(folders) / f"l{number}{rng.choice(['', '.jpg'])}").symlink_to(target)


@pytest.mark.parametrize(
    "options",
    [{}, {"recursive": False}, {"follow_links": False}, {"include": ("*.jpg",), "exclude": ("f1", "*/2*")}],
    ids=["all", "flat", "no links", "filters"],
)
def test_what_is_found_does_not_depend_on_what_is_asked_for_ahead(tmp_path, monkeypatch, options):
    """Items, problems, counts and their order."""
    monkeypatch.setattr(walk, "_FILES", 3)
    scandir = os.scandir

    def barred(path):
        if os.fsdecode(path).endswith(("f3", "p5.jpg")):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", barred)
    seen = Counter()
    for seed in range(6):
        root = tmp_path / str(seed)
        root.mkdir()
        draw_tree(root, random.Random(seed))
        monkeypatch.setattr(walk, "_PATIENCE_SECONDS", 1e9)
        expected = found_in(root, **options)
        monkeypatch.setattr(walk, "_PATIENCE_SECONDS", -1)
        monkeypatch.setattr(walk, "_SLOW_SECONDS", -1)
        for steps in (1, 3, 100):
            monkeypatch.setattr(walk, "_STEPS_AHEAD", steps)
            assert found_in(root, **options) == expected
        seen.update(item.problem.error_type if item.problem else item.kind for item in expected[0])
    assert {"image"} < set(seen)
    assert options or {"link_loop", "is_a_folder", "unreadable_folder", "video", "archive"} < set(seen)


def test_folders_that_turn_out_slow_midway(tree, tmp_path, monkeypatch):
    """Those that have been listed by then are not listed again."""
    monkeypatch.setattr(walk, "_PATIENCE_SECONDS", 0.01)
    stat, scandir, threads, listed = os.stat, os.scandir, set(), []

    def slow(path, **options):
        time.sleep(0.002)
        threads.add(threading.current_thread().name.partition("_")[0])
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", slow)
    monkeypatch.setattr(os, "scandir", lambda path: [listed.append(path), scandir(path)][1])
    items, _ = found_in(tmp_path)

    assert [item.input for item in items] == tree
    assert threads == {"MainThread", THREADS}
    assert len(listed) == len(set(listed)) == 34


def test_fast_file_system_is_asked_by_one_thread(tree, tmp_path, monkeypatch):
    """Threads would cost more than they bring."""
    monkeypatch.setattr(walk, "_PATIENCE_SECONDS", 1e9)
    monkeypatch.setattr(walk, "ThreadPoolExecutor", None)

    assert [item.input for item in found_in(tmp_path)[0]] == tree


def test_how_far_it_asks_ahead_is_bounded(tree, tmp_path, monkeypatch, ahead):
    """However much there is: folders and files that nobody has taken yet would fill the memory."""
    asked, stat, scandir = Counter(), os.stat, os.scandir
    monkeypatch.setattr(os, "stat", lambda path, **options: [asked.update(["stat"]), stat(path, **options)][1])
    monkeypatch.setattr(os, "scandir", lambda path: [asked.update(["scandir"]), scandir(path)][1])
    monkeypatch.setattr(walk, "_STEPS_AHEAD", 6)
    items = iter(Listing([str(tmp_path)]))
    most = 0
    for number, _ in enumerate(items):
        time.sleep(0.001)  # for those ahead to be listed
        most = max(most, asked["scandir"] - number // 5)

    assert 4 < most < 16
    assert asked["scandir"] == 34


def test_stop_ends_the_threads(tree, tmp_path, monkeypatch, ahead):
    """The step that a thread is at is the last."""
    asked, stat = [], os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, **options: [asked.append(path), time.sleep(0.002), stat(path, **options)][2]
    )
    monkeypatch.setattr(walk, "_THREADS", 1)
    monkeypatch.setattr(walk, "_FILES", 2)
    items = iter(Listing([str(tmp_path)]))
    next(items)
    threads = walk_threads()
    items.close()
    num_asked = len(asked)
    for thread in threads:
        thread.join(timeout=60)

    assert threads
    assert not any(thread.is_alive() for thread in threads)
    assert len(asked) <= num_asked + walk._FILES


def test_no_thread_is_left_behind_a_walk(tree, tmp_path, ahead):
    """A run starts processes afterwards."""
    found_in(tmp_path)

    assert not walk_threads()


@pytest.mark.parametrize("patience", [-1, 1e9], ids=["ahead", "one by one"])
def test_folder_named_like_a_picture_with_one_far_below(tmp_path, monkeypatch, patience):
    """It is not empty; those within it that are empty are."""
    monkeypatch.setattr(walk, "_PATIENCE_SECONDS", patience)
    monkeypatch.setattr(walk, "_SLOW_SECONDS", patience)
    fill(tmp_path, ["a.jpg/b.jpg/c/d.jpg"])
    (tmp_path / "a.jpg" / "e.jpg" / "f").mkdir(parents=True)
    items, _ = found_in(tmp_path)

    assert [(item.input, item.problem and item.problem.error_type) for item in items] == [
        ("a.jpg/b.jpg/c/d.jpg", None),
        ("a.jpg/e.jpg", "is_a_folder"),
    ]


def test_folder_that_goes_while_others_are_read(tree, tmp_path, monkeypatch):
    """It is listed as unreadable, in its place."""
    monkeypatch.setattr(walk, "_PATIENCE_SECONDS", 1e9)
    items = iter(Listing([str(tmp_path)]))
    first = next(items)
    shutil.rmtree(tmp_path / "B")
    rest = list(items)

    assert [first.input, *(item.input for item in rest)] == [*tree[:50], "B", *tree[100:]]
    assert rest[49].problem.error_type == "unreadable_folder"
