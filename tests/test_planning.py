"""What planning holds on the disk: rows of manifests and inputs that are named again, more than are held at once."""

from __future__ import annotations

import csv
import random
import resource
import tempfile

import numpy as np
import polars as pl
import pytest

from motivnet_cli.config import InputConfig
from motivnet_cli.durable import durably
from motivnet_cli.inputs import repeats, spool, table
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.inputs.repeats import Repeats
from motivnet_cli.inputs.spool import Spool
from motivnet_cli.output import plan
from motivnet_cli.output.plan import planned_items, write_plan


@pytest.mark.parametrize("held", [7, 100, 10_000])
def test_repeats_are_those_of_a_dictionary(monkeypatch, held):
    """Whatever is held at once; a digest that differs in one half only is another one."""
    monkeypatch.setattr(repeats, "RUN_ROWS", held)
    rng = np.random.default_rng(held)
    digests = rng.integers(0, 1 << 63, (3000, 2), dtype=np.uint64) << np.uint64(1)  # all slices
    digests[1500:2000] = digests[rng.integers(0, 1500, 500)]
    digests[2000:2200, 1] = digests[:200, 1]
    digests[2200:2400, 0] = digests[:200, 0]
    before, expected = set(), []
    for digest in map(tuple, digests.tolist()):
        expected.append(digest in before)
        before.add(digest)

    with Repeats() as found:
        for start in range(0, 3000, 11):
            found.add(digests[start : start + 11])
        assert found.compare() == 500
    assert found.is_repeated(0, 3000).tolist() == expected
    assert found.is_repeated(1501, 1777).tolist() == expected[1501:1777]


def spooled(numbers):
    Spool([pl.DataFrame({"path": numbers[:, 0]}).cast(pl.String)], by_path=False)


def compared(numbers):
    with Repeats() as found:
        found.add(numbers)


@pytest.mark.parametrize("fill", [spooled, compared])
def test_a_full_temporary_disk_is_named(tmp_path, monkeypatch, fill):
    """And not the file on another disk that is written at the same time."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(repeats, "RUN_ROWS", 512)
    numbers = np.random.default_rng(0).integers(0, 1 << 63, (1024, 2), dtype=np.uint64)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error, durably(tmp_path.parent / "plan"):
            fill(numbers)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert str(error.value.filename).startswith(str(tmp_path))


def test_repeats_of_nothing():
    """A manifest may have a header only."""
    with Repeats() as found:
        assert found.compare() == 0
    assert found.is_repeated(0, 0).tolist() == []


def test_rows_of_one_path_are_brought_together(monkeypatch):
    """In the order of the first row of each, however many lie between; rows without a path stay where they are."""
    monkeypatch.setattr(spool, "CHUNK_ROWS", 5)
    paths = ["b", "b", None, "a", "", "b", "c", None, "a", "b"]
    chunks = [pl.DataFrame({"path": paths[i : i + 3]}, schema={"path": pl.String}) for i in range(0, 10, 3)]
    rows = pl.concat(Spool(chunks, by_path=True).frames())

    assert rows.columns == ["row", "path"]
    assert rows["row"].to_list() == [1, 2, 6, 10, 3, 4, 9, 5, 7, 8]
    assert rows["path"].to_list() == ["b"] * 4 + [None, "a", "a", "", "c", None]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_manifest_of_several_chunks_says_what_it_says_as_one(tmp_path, monkeypatch, ending):
    """Types of columns and the unit of boxes are decided by all rows; faces of a picture are those of all its rows."""
    random.seed(0)
    rows = [
        {"path": f"{number % 70}.jpg", "bbox": f"[{number % 50}, 0, 0.5, 1]", "n": str(number), "late": "1"}
        for number in random.sample(range(200), 200)
    ]
    rows[150]["late"] = "x"
    rows[199]["n"] = "0.5"
    path = tmp_path / f"m.{ending}"
    frame = pl.DataFrame(rows)
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[ending](path)
    inputs = InputConfig(manifests=(str(path),), keep=("n", "late"))
    whole = Listing(inputs)
    expected = list(whole)
    monkeypatch.setattr(table, "CHUNK_ROWS", 17)
    monkeypatch.setattr(spool, "CHUNK_ROWS", 13)
    listing = Listing(inputs)

    assert list(listing) == expected
    assert listing.kept_types == whole.kept_types == {"n": "string" if ending != "csv" else "float64", "late": "string"}
    assert len(expected) == 70
    assert [item.input for item in expected] == list(dict.fromkeys(row["path"] for row in rows))
    assert sum(len(item.given) for item in expected) == 200
    assert not any(face.is_relative for item in expected for face in item.given)
    first = [row for row in rows if row["path"] == rows[0]["path"]]
    values = [face.kept for face in expected[0].given]
    assert [str(n) for n, _ in values] == [row["n"] if ending != "csv" else str(float(row["n"])) for row in first]


def test_inputs_that_are_named_again_stand_in_the_plan_once(tmp_path, monkeypatch):
    """At their first place, with its values, over all kinds of inputs and more row groups than one."""
    monkeypatch.setattr(plan, "ROW_GROUP", 8)
    monkeypatch.setattr(repeats, "RUN_ROWS", 16)
    monkeypatch.chdir(tmp_path)
    names = [f"{number:02d}.jpg" for number in range(40)]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    order = names[20:] + names[:30] + names
    with (tmp_path / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "n"], *([f"./{name}", number] for number, name in enumerate(order))])
    (tmp_path / "list").write_text("\n".join(names[5:9]))
    inputs = InputConfig(paths=("03.jpg", "https://h/x.jpg"), files_from=("list",), manifests=("m.csv",), keep=("n",))
    listing = Listing(inputs)
    counts = write_plan(tmp_path / "plan.pq", listing.found(), identity=listing.identity)
    items = list(planned_items(tmp_path / "plan.pq", 0, counts.num_items, num_items=counts.num_items))

    assert (counts.num_items, counts.num_repeated, counts.are_pictures) == (41, 95 - 41 + 1, True)
    assert items == list(Listing(inputs))
    first = ["03.jpg", "https://h/x.jpg", *names[5:9]]
    others = [f"./{name}" for name in dict.fromkeys(order) if name not in first]
    assert [item.input for item in items] == first + others
    assert [item.kept for item in items] == [(None,)] * 6 + [(order.index(name[2:]),) for name in others]
    assert [item.index for item in items] == list(range(41))


def test_plan_of_one_folder_compares_nothing(tmp_path):
    """What one folder holds cannot come twice."""
    (tmp_path / "a.jpg").touch()

    assert Listing([str(tmp_path)]).identity is None
    assert Listing([str(tmp_path), str(tmp_path)]).identity == "path"
    assert Listing(InputConfig(paths=(str(tmp_path / "a.jpg"),), relative_to=str(tmp_path))).identity == "input"
