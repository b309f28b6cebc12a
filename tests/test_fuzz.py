"""A short form of the fuzzing campaign (`make fuzz`), with a fixed seed: nothing is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import polars as pl
import pytest

from tests.fuzz.kinds import KINDS
from tests.runs import finish

ROOT = Path(__file__).parents[1]
QUICK = (
    "jpeg",
    "png",
    "png-checksum",
    "gif",
    "webp",
    "bmp",
    "tiff",
    "ppm",
    "tar",
    "compressed tar",
    "zip",
    "csv",
    "list",
)
SLOW = tuple(name for name in KINDS if name not in QUICK)


def fuzz(*kinds, cases, seed):
    """The output of a campaign, in a process of its own: it forks, which no process should do that has threads."""
    command = [sys.executable, "-m", "tests.fuzz", "--cases", str(cases), "--seed", str(seed), "--only", *kinds]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="a case's memory is read from /proc")
def test_damaged_files_that_threads_and_listings_read():
    """Pictures, archives, tables and lists: each mutant is read, or refused with a documented error."""
    fuzz(*QUICK, cases=1000, seed=1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a case's memory is read from /proc")
def test_damaged_files_of_all_other_kinds():
    """Videos, checkpoints, what runs write, and answers of servers."""
    fuzz(*SLOW, cases=900, seed=1)


@pytest.mark.slow
def test_a_folder_of_mutants_is_answered_file_by_file(tmp_path):
    """A run over damaged pictures, videos and archives ends with one answer for each, and changes none of them."""
    folder = tmp_path / "in"
    folder.mkdir()
    endings = {"jpeg": "jpg", "jpeg2000": "jp2", "compressed tar": "tar.gz", "png-checksum": "png"}
    kinds = ["jpeg", "png", "gif", "webp", "bmp", "tiff", "ppm", "heic", "avif", "jpeg2000", "mp4", "mkv", "avi", "ts"]
    for name in (*kinds, "tar", "compressed tar", "zip"):
        kind = KINDS[name]
        work = tmp_path / "work" / name
        work.mkdir(parents=True)
        seeds = list(kind.seeds(work))
        for number in range(12):
            content = kind.mutate(Random(f"{name} {number}"), Random(number).choice(seeds))
            (folder / f"{number:02d}-{kind.name.replace(' ', '-')}.{endings.get(name, name)}").write_bytes(content)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    out = tmp_path / "p.parquet"

    talk = finish(folder, out)

    inputs = pl.read_parquet(tmp_path / "p.inputs.parquet")
    answered = inputs.filter(pl.col("archive").is_null())["input"].to_list()
    assert sorted(answered) == sorted(path.name for path in before)
    assert inputs["input"].is_unique().all()
    assert inputs.filter(pl.col("status") == "failed")["error_type"].null_count() == 0
    assert "Traceback" not in talk
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_what_a_case_does_outside_is_noted(tmp_path):
    """The campaign sees files that are written, renamed or removed outside of a case's folder."""
    (tmp_path / "home").mkdir()
    # A process of its own: what listens to Python's audit events stays to its end.
    code = (
        "from pathlib import Path; from tests.fuzz.campaign import Guard; guard = Guard(Path('home').absolute())\n"
        "Path('home/inside').write_text('x'); print(len(guard.written))\n"
        "Path('outside').write_text('x'); Path('outside').rename('home/inside'); print(len(guard.written))"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, check=True)

    assert run.stdout.split() == [b"0", b"2"]
