"""The fault campaign in small, and whether its checks find what is wrong."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.outputs import nine_inputs, run
from tests.torture.__main__ import cases_of, laboratory, run_case
from tests.torture.cases import KINDS
from tests.torture.check import compare, files_of, is_one_version, litter, read_rows
from tests.torture.faults import why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
SEED = 7
SHORT = {
    **{"kill-call": 4, "stop": 1, "interrupt": 1, "suspend": 1, "shards": 1, "twice": 1, "call-fails": 6, "fail-on": 2},
    **{"file-limit": 1, "clock": 1, "removed": 3, "inputs": 2},
}
"""How many cases of each kind take part; `--devices` and buckets have tests of their own."""


@pytest.mark.slow
def test_a_sample_of_the_campaign(tmp_path):
    """Nothing is lost, doubled, wrong or left behind, whatever happens to a run."""
    findings = []
    with laboratory(tmp_path / "torture", with_bucket=False) as lab:
        for kind in KINDS:
            for number in cases_of(lab, kind, SEED)[: SHORT.get(kind.name, 0)]:
                what, result = run_case(lab, kind, number, SEED)
                findings += [f"{kind.name}/{number}, {what}: {each}" for each in result.findings]

    assert findings == []


@pytest.fixture(params=["preds.parquet", "preds"])
def output(request, tmp_path):
    """An output in several parts, its folder and its rows."""
    folder = tmp_path / "out"
    folder.mkdir()
    run(folder / request.param, nine_inputs(tmp_path / "photos"), commit_seconds=0)
    return folder / request.param, folder, read_rows(folder / request.param)


def rewrite(path, change):
    """Put another table in the place of one."""
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def with_column(table, name, values):
    at = table.column_names.index(name)
    return table.set_column(at, table.schema.field(at), values.cast(table.schema.field(at).type))


CHANGES = {
    "lost": lambda table: table.slice(1),
    "doubled": lambda table: pa.concat_tables([table, table.slice(0, 1)]),
    "order": lambda table: table.take(pa.array([1, 0, *range(2, len(table))])),
}


@pytest.mark.parametrize("table", ["faces", "inputs"])
@pytest.mark.parametrize("change", CHANGES)
def test_rows_that_are_missing_or_too_many_are_found(output, table, change):
    """In either table, with their kind."""
    out, _, expected = output
    rewrite(next(path for path in files_of(out)[table] if pq.read_metadata(path).num_rows > 1), CHANGES[change])
    found = {each.kind for each in compare(out, expected)}

    assert ("wrong" if change == "order" else change) in found


@pytest.mark.parametrize(
    ("table", "column", "change"),
    [
        ("faces", "x1", lambda column: pc.add(column, 1)),
        ("faces", "emotion", lambda column: pa.array(["fear"] * len(column))),
        ("faces", "anger", lambda column: pc.add(column, 1e-3)),
        ("faces", "embedding", lambda column: pa.array([[9.0] * 4] * len(column), pa.list_(pa.float32(), 4))),
        ("inputs", "status", lambda column: pa.array(["failed"] * len(column))),
        ("inputs", "faces", lambda column: pc.add(column, 1)),
    ],
)
def test_a_value_that_is_another_is_found(output, table, column, change):
    """And one within the tolerance is not."""
    out, _, expected = output
    assert compare(out, expected) == []
    rewrite(files_of(out)[table][-1], lambda rows: with_column(rows, column, change(rows[column])))

    assert {each.kind for each in compare(out, expected)} == {"wrong"}


def test_sums_in_another_order_are_no_difference(output):
    """Probabilities of another batch differ in the last digits."""
    out, _, expected = output
    rewrite(files_of(out)["faces"][-1], lambda rows: with_column(rows, "anger", pc.add(rows["anger"], 2e-6)))

    assert compare(out, expected) == []


def test_a_file_that_is_cut_or_gone_is_found(output):
    """Whatever its table is."""
    out, _, expected = output
    path = files_of(out)["inputs"][-1]
    path.write_bytes(path.read_bytes()[:-20])
    assert [each.kind for each in compare(out, expected)] == ["unreadable"]
    path.unlink()

    assert "lost" in {each.kind for each in compare(out, expected)}


@pytest.mark.parametrize("stray", [".preds.parquet.tmp", "preds.parquet.work/lock", "preds/faces/.part.tmp", "x/y"])
def test_files_that_have_no_business_there_are_found(output, stray):
    """By name, beside an output and in it."""
    out, folder, _ = output
    shutil.rmtree(folder / "preds" / ".motivnet" / "claims", ignore_errors=True)
    assert litter(folder, out) == []
    (folder / stray).parent.mkdir(parents=True, exist_ok=True)
    (folder / stray).write_text("left")

    assert [each.kind for each in litter(folder, out)] != []


def test_rows_of_two_versions_of_a_file_are_found(output):
    """They have to be those of one, or the input says that something is wrong."""
    out, _, expected = output
    assert is_one_version(out, "2.jpg", [expected]) == []
    other = json.loads(json.dumps(expected, default=str))
    for row in other["faces"]:
        row["x1"] += 1

    assert [each.kind for each in is_one_version(out, "2.jpg", [other])] == ["wrong"]
    assert is_one_version(out, "3.jpg", [other]) == []  # it has failed, and says so
