"""The bar of a terminal, and the lines of a log: percentage, elapsed, remaining, what is done."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re

import pytest
from rich.console import Console

from motivnet_cli.cli import progress
from motivnet_cli.cli.options import LogOptions
from motivnet_cli.cli.progress import Meter, clock, watch_bytes, watch_run, watch_training
from motivnet_cli.cli.terminal import talking
from motivnet_cli.records import Progress, TrainingProgress

RUN = Progress(inputs_total=20000, inputs_done=4500, inputs_resumed=4000, faces=12345, failed=12, seconds=4000.0)
TRAINING = TrainingProgress(
    epochs=3, epoch=2, steps=30, steps_done=13, steps_resumed=10, loss=0.51234, val_loss=0.75, is_validating=False,
    seconds=6.0,
)  # fmt: skip


@pytest.fixture
def every_line(monkeypatch):
    """A line for each call of the callback."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)


def lines_of(watch, *calls, capsys):
    with talking(LogOptions()) as talk, watch(talk) as show:
        for call in calls:
            show(*call)
    return capsys.readouterr().err.splitlines()


def meters(watch, *call):
    """The bars that a callback shows."""
    found = []
    with talking(LogOptions(quiet=True)) as talk:
        talk.bar = found.append
        with watch(talk) as show:
            show(*call)
    return found[-1]


def drawn(meter, columns):
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=columns, highlight=False)
    console.print(dataclasses.replace(meter, at=math.inf))  # as at its moment
    return console.file.getvalue().splitlines()


@pytest.mark.usefixtures("every_line")
def test_lines_of_a_training(capsys):
    validating = dataclasses.replace(TRAINING, is_validating=True)

    assert lines_of(watch_training, (TRAINING,), (validating,), capsys=capsys) == [
        "13/30 steps (43%), 0:06 elapsed, 0:34 left, epoch 2/3, loss 0.5123, validation 0.7500",
        "13/30 steps (43%), 0:06 elapsed, 0:34 left, epoch 2/3, validating, validation 0.7500",
    ]


@pytest.mark.usefixtures("every_line")
def test_lines_of_a_run_and_of_a_download(capsys):
    """What earlier starts did counts as done, and not for the rate: 500 inputs in 4000 s, and 15500 are left."""
    assert lines_of(watch_run, (RUN,), capsys=capsys) == [
        "4500/20000 inputs (22%), 1:06:40 elapsed, 34:26:40 left, 12 failed, 12345 faces, 3.1 faces/s",
    ]
    first, last = lines_of(watch_bytes, (0, 4_600_000_000), (46_000_000, 4_600_000_000), capsys=capsys)
    assert first == "0 bytes of 4.6 GB (0%), 0:00 elapsed"
    assert last.startswith("46.0 MB of 4.6 GB (1%), 0:00 elapsed, 0:0")


@pytest.mark.usefixtures("every_line")
def test_lines_as_json_have_the_numbers(capsys):
    with talking(LogOptions(log_format="json")) as talk, watch_run(talk) as show:
        show(RUN)
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())

    assert {name: line[name] for name in ("done", "total", "unit", "elapsed_s", "left_s")} == {
        "done": 4500, "total": 20000, "unit": "inputs", "elapsed_s": 4000.0, "left_s": 124000.0,
    }  # fmt: skip


@pytest.mark.usefixtures("every_line")
def test_quiet_shows_nothing(capsys):
    with talking(LogOptions(quiet=True)) as talk, watch_run(talk) as show:
        show(RUN)

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(("watch", "call"), [(watch_run, (RUN,)), (watch_training, (TRAINING,))])
def test_the_bar_fits_on_a_line(watch, call, columns):
    """A bar, its percentage, counts, time gone and left, in this order; a wide terminal has the details, too."""
    (line,) = drawn(meters(watch, *call), columns)
    found = re.fullmatch(
        r"[━╸╺ ]{6,40} (\d+)% (\d+)/(\d+) (?:inputs|steps), (.*), ([\d:]+) elapsed, ([\d:]+) left *", line
    )

    assert found, line
    assert len(line.rstrip()) <= columns
    assert int(found[1]) == 100 * int(found[2]) // int(found[3])
    details = (
        "12 failed, 12345 faces, 3.1 faces/s" if watch is watch_run else "epoch 2/3, loss 0.5123, validation 0.7500"
    )
    assert details.startswith(found[4])
    assert found[4] == details or columns == 80


@pytest.mark.parametrize("columns", [80, 120])
def test_the_bar_of_a_download(columns):
    meter = Meter(2_000, 8_000, 1_000, 100.0, unit="bytes", counts="2.0 GB of 8.0 GB", details=("10.0 MB/s",))
    (line,) = drawn(meter, columns)

    assert re.fullmatch(r"[━╸╺ ]{6,40} 25% 2\.0 GB of 8\.0 GB, 10\.0 MB/s, 1:40 elapsed, 10:00 left *", line), line
    assert len(line) <= columns


def test_the_bar_of_a_download_of_unknown_size():
    (line,) = drawn(meters(watch_bytes, 46_000_000, None), 80)

    assert re.search(r"46\.0 MB, 0:00 elapsed", line)
    assert "%" not in line


def test_a_narrow_terminal_keeps_percentage_and_times():
    (line,) = drawn(meters(watch_run, RUN), 50)

    assert "22% 1:06:40 elapsed, 34:26:40 left" in line


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.9, "0:07"), (754, "12:34"), (3600, "1:00:00"), (363723, "101:02:03")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_time_left_counts_down_between_calls():
    """Half of ten in 30 s: 30 s are left, and 20 s after 10 s more."""
    meter = Meter(5, 10, 0, 30.0, unit="inputs", counts="5/10 inputs", details=())

    assert meter.times() == "0:30 elapsed, 0:30 left"
    assert meter.times(10.0) == "0:40 elapsed, 0:20 left"
    assert meter.times(99.0) == "2:09 elapsed, 0:00 left"
