"""`motivnet plan --estimate`: arithmetic whose every figure can be worked out by hand, and unknowns that stay so."""

from __future__ import annotations

import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.output.estimate import estimate
from motivnet_cli.output.ledger import MAX_UNIT_ITEMS
from motivnet_cli.output.read import parts_of, read_inputs
from motivnet_cli.output.sink import Output
from tests.outputs import nine_inputs, run
from tests.pictures import face_photo
from tests.runs import motivnet

SUMMARY = {
    "inputs": 4000,
    "done": 4000,
    "faces": 6000,
    "faces_predicted": 6000,
    "seconds": 110.0,
    "starting_s": 6.0,
    "finishing_s": 4.0,
    "device": "cuda:0 (NVIDIA H200)",
    "bound_by": "reading",
}
"""40 inputs a second once at work."""
BENCH = {
    "pictures": 2000,
    "faces": 4000,
    "device": "cpu",
    "bound_by": "detect",
    "whole": {"faces": 5000, "seconds": 130.0, "starting_s": 20.0, "finishing_s": 10.0},
}
"""50 faces a second, and 2 in each picture: 25 pictures a second."""


def save(folder, values, name="run.json"):
    path = folder / name
    path.write_text(json.dumps(values))
    return str(path)


def test_summary(tmp_path):
    """1.44 million inputs at 40 a second are 10 hours of one worker, 2.5 of four."""
    found = estimate([save(tmp_path, SUMMARY)], inputs=1_440_000, workers=4, input_bytes=200_000)

    assert found.worker_hours.value == pytest.approx(10)
    assert "6,000 faces in 100.0 s by one worker on cuda:0 (NVIDIA H200)" in found.worker_hours.why
    assert found.hours.value == pytest.approx(2.5)
    assert found.faces.value == pytest.approx(2_160_000)
    assert found.read_bytes.value == 288_000_000_000
    assert found.read_bytes_per_s.value == pytest.approx(32_000_000)
    assert found.units.value == 1440
    assert found.files.value == 3 * 1440
    assert found.bound_by == "reading"
    assert found.written_bytes.value is None


def test_the_listing_is_no_working_time(tmp_path, monkeypatch):
    """It is part of the start, as what comes before the first faces: a larger run's is not so much longer."""
    face_photo(tmp_path / "a.png")
    begin = Output.begin

    def slowly(output, listing):
        time.sleep(0.3)
        return begin(output, listing)

    monkeypatch.setattr(Output, "begin", slowly)
    arguments = (tmp_path / "a.png", "--faces", "whole", "--model", "expression-net", "--out", tmp_path / "p", "--json")
    summary = json.loads(motivnet("annotate", *arguments).stdout)

    assert summary["starting_s"] >= 0.3


def test_resumed_run(tmp_path):
    """Of a run that did the last quarter, the rate is that of this quarter."""
    quarter = SUMMARY | {"faces_predicted": 1500, "seconds": 35.0}
    found = estimate([save(tmp_path, quarter)], inputs=1_440_000, workers=1, input_bytes=None)

    assert found.worker_hours.value == pytest.approx(10)


def test_bench(tmp_path):
    found = estimate([save(tmp_path, BENCH)], inputs=90_000, workers=1, input_bytes=None)

    assert found.hours.value == pytest.approx(1)
    assert found.faces.value == pytest.approx(180_000)
    assert found.bound_by == "detect"
    assert (found.read_bytes.value, found.read_bytes.why) == (None, "give --input-bytes")


def test_output(tmp_path):
    """An output gives sizes, and no rates: the JSON beside it does."""
    photos = nine_inputs(tmp_path / "photos")
    for number in range(9):
        (photos / f"{number}.jpg").write_bytes(b"x" * (number + 1) * 1000)
    run(tmp_path / "preds", photos)
    done = read_inputs(tmp_path / "preds")
    written = sum(part.stat().st_size for table in ("inputs", "faces") for part in parts_of(tmp_path / "preds", table))
    alone = estimate([str(tmp_path / "preds")], inputs=900, workers=1, input_bytes=None)
    both = estimate([str(tmp_path / "preds"), save(tmp_path, SUMMARY)], inputs=900, workers=1, input_bytes=None)

    assert done["size_bytes"].sum() == 45_000
    assert alone.read_bytes.value == pytest.approx(4_500_000)
    assert alone.written_bytes.value == pytest.approx(100 * written)
    assert alone.faces.value == pytest.approx(100 * done["faces"].sum())
    assert alone.hours.value is alone.read_bytes_per_s.value is alone.bound_by is None
    assert alone.hours.why == "give the JSON of annotate --json or bench --json"
    assert both.hours.value == pytest.approx(900 / 40 / 3600)
    assert both.written_bytes == alone.written_bytes


def test_output_of_an_archive(tmp_path):
    """The size of an archive is not that of each picture in it."""
    out = run(tmp_path / "p.parquet", nine_inputs(tmp_path / "photos")) and tmp_path / "p.inputs.parquet"
    rows = pq.read_table(out)
    place = rows.schema.get_field_index("archive")
    members = pa.array([None] + ["z.tar"] * (len(rows) - 1), rows.schema.field(place).type)
    pq.write_table(rows.set_column(place, rows.schema.field(place), members), out)
    found = estimate([str(tmp_path / "p.parquet")], inputs=900, workers=1, input_bytes=None)

    assert found.read_bytes.value is None
    assert "give --input-bytes" in found.read_bytes.why


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"device": "cuda:0, cuda:1"}, "of several workers"),
        ({"device": "cuda:0 (NVIDIA H200) on Ray"}, "of several workers"),
        ({"faces_predicted": 0}, "predicted no faces"),
        ({"faces": 0, "faces_predicted": 0}, "predicted no faces"),
        ({"seconds": 10.0}, "predicted no faces"),
    ],
)
def test_rate_that_is_not_known(tmp_path, changed, why):
    found = estimate([save(tmp_path, SUMMARY | changed)], inputs=1000, workers=1, input_bytes=None)

    assert found.hours.value is found.worker_hours.value is None
    assert why in found.hours.why


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "nothing", json.dumps(SUMMARY | {"seconds": "110"}), json.dumps(BENCH | {"whole": 1})]
)
def test_no_source(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)

    with pytest.raises(ConfigError, match="is neither an output nor the JSON of annotate --json or bench --json"):
        estimate([str(path)], inputs=1, workers=1, input_bytes=None)


def test_units_are_those_of_a_run(tmp_path):
    """The calculator cuts a run up as the run itself does."""
    found = estimate([save(tmp_path, SUMMARY)], inputs=10 * MAX_UNIT_ITEMS, workers=1, input_bytes=None)

    assert found.units.value == 10


def test_command(tmp_path):
    """What is printed says that it is arithmetic, where each figure comes from, and what is unknown."""
    source = save(tmp_path, SUMMARY)
    options = ("plan", "--estimate", source, "--inputs", "1440000", "--workers", "4")
    lines = [line.split("\t") for line in motivnet(*options).stdout.splitlines()]
    rows = {name: (value, why) for name, value, why in lines}
    values = json.loads(motivnet(*options, "--json").stdout)

    assert rows["arithmetic"] == ("1,440,000 inputs", "not a measurement")
    assert rows["hours of 4 workers"][0] == "2.5"
    assert rows["bytes written"] == ("unknown", "give an output")
    assert values["kind"] == "arithmetic, not a measurement"
    assert values["hours"]["value"] == pytest.approx(2.5)
    assert values["written_bytes"] == {"value": None, "why": "give an output"}


def test_few_inputs_are_said(tmp_path):
    few = SUMMARY | {"done": 5, "inputs": 5}
    talk = motivnet("plan", "--estimate", save(tmp_path, few), "--inputs", "1000").stderr

    assert "is of 5 inputs, which is few" in talk
