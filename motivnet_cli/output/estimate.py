"""What a large run would take, by arithmetic from what a smaller one took. What nobody measured is None."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pyarrow.parquet as pq

from motivnet_cli.errors import ConfigError
from motivnet_cli.output.damage import reading
from motivnet_cli.output.ledger import unit_size
from motivnet_cli.output.read import parts_of
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

MIN_INPUTS = 1000
"""Of a source: of fewer, what is done once for a file or a run weighs more than it will in a large run."""
FILES_A_UNIT = 3
"""At least: a part of each table, and where there are locks the lock; more parts where a unit takes longer than
--commit-seconds."""
_DEVICES = re.compile(r"(cpu|mps|cuda(:\d+)?)(, (cpu|mps|cuda(:\d+)?))+")
"""What a summary says of several workers on one machine."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A value, and what it rests on."""

    value: float | None
    why: str
    """What it was worked out from; of None, why it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one source says of the inputs that it was measured on; None where it says nothing of it."""

    inputs_per_s: Figure | None = None
    """Of one worker that is at work, without its start and its end."""
    faces_an_input: Figure | None = None
    read_bytes_an_input: Figure | None = None
    written_bytes_an_input: Figure | None = None
    bound_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run would take."""

    inputs: int
    workers: int
    faces: Figure
    worker_hours: Figure
    hours: Figure
    """If the work is shared evenly, and the storage keeps up."""
    read_bytes: Figure
    read_bytes_per_s: Figure
    """By all workers together."""
    written_bytes: Figure
    units: Figure
    files: Figure
    """At least, in a folder; a single file is joined from as many."""
    bound_by: str | None
    """The stage that the others waited for, where it was measured: reading or one of its steps, network, writing."""


def estimate(sources: Sequence[str], *, inputs: int, workers: int, input_bytes: int | None) -> Estimate:
    """What a run over so many pictures would take, if they are like those that the sources were measured on.

    Args:
        sources: Files with the JSON of `annotate --json` or `bench --json`, and outputs. Of each figure, the first that
            has it counts.
        input_bytes: Of a picture; None takes the mean of an output.

    Raises:
        ConfigError: A source is none of these.
    """
    measured = [_measured(source) for source in sources]

    def first(name: str, unknown: str) -> Figure:
        found: list[Figure] = [figure for each in measured if (figure := getattr(each, name)) is not None]
        known = [figure for figure in found if figure.value is not None]
        return [*known, *found, Figure(None, unknown)][0]

    read = Figure(input_bytes, "--input-bytes") if input_bytes else first("read_bytes_an_input", "give --input-bytes")
    rate = first("inputs_per_s", "give the JSON of annotate --json or bench --json")
    work = _times(Figure(None if rate.value is None else 1 / rate.value / 3600, rate.why), inputs)
    hours = _times(work, 1 / workers)
    read_bytes = _times(read, inputs)
    size = unit_size(inputs, workers, are_pictures=True, are_whole=False)
    num_units = -(-inputs // size)
    return Estimate(
        inputs=inputs,
        workers=workers,
        faces=_times(first("faces_an_input", "no source has faces"), inputs),
        worker_hours=work,
        hours=hours,
        read_bytes=read_bytes,
        read_bytes_per_s=_times(read_bytes, 1 / hours.value / 3600) if hours.value else Figure(None, hours.why),
        written_bytes=_times(first("written_bytes_an_input", "give an output"), inputs),
        units=Figure(num_units, f"{size:,} inputs each, as annotate cuts them up"),
        files=Figure(num_units * FILES_A_UNIT, f"{FILES_A_UNIT} a unit at least, in a folder"),
        bound_by=next((each.bound_by for each in measured if each.bound_by), None),
    )


def _times(figure: Figure, factor: float) -> Figure:
    return figure if figure.value is None else Figure(figure.value * factor, figure.why)


def _measured(source: str) -> Measured:
    if is_remote(source) or source.endswith(".parquet") or Path(source).is_dir():
        return _of_output(source)
    try:
        values = json.loads(Path(source).read_bytes())
        if not isinstance(values, dict):
            raise TypeError("it is no object")  # noqa: TRY301
        if "whole" in values:
            return _of_bench(values, source)
        return _of_summary(values, source)
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise ConfigError(
            f"--estimate: {source!r} is neither an output nor the JSON of annotate --json or bench --json: save one "
            "with `motivnet annotate INPUT --out OUT --json > run.json`"
        ) from error


def _of_summary(values: dict[str, object], source: str) -> Measured:
    """Faces a second of this call, and inputs a face of all the output: so a resumed run counts as well."""
    faces, done, predicted = (_number(values[name]) for name in ("faces", "done", "faces_predicted"))
    _warn_of_few(source, done)
    device, bound_by = str(values["device"]), values["bound_by"]
    seconds = _working_seconds(values)
    if device.endswith(" on Ray") or _DEVICES.fullmatch(device):
        rate = Figure(None, f"{source} is of several workers: give the JSON of a run by one")
    elif not predicted or not faces or seconds <= 0:
        rate = Figure(None, f"{source} is of a run that predicted no faces")
    else:
        rate = Figure(predicted / seconds * done / faces, _rests_on(source, predicted, seconds, device))
    return Measured(
        inputs_per_s=rate,
        faces_an_input=_faces_an_input(source, faces, done),
        bound_by=None if bound_by is None else str(bound_by),
    )


def _of_bench(values: dict[str, object], source: str) -> Measured:
    whole = values["whole"]
    if not isinstance(whole, dict):
        raise TypeError("it is none")
    predicted, seconds = _number(whole["faces"]), _working_seconds(whole)
    faces, pictures = _number(values["faces"]), _number(values["pictures"])
    _warn_of_few(source, pictures)
    rate = Figure(None, f"{source} is of a run that predicted no faces")
    if predicted and seconds > 0 and faces:
        rests_on = _rests_on(source, predicted, seconds, str(values["device"]))
        rate = Figure(predicted / seconds * pictures / faces, rests_on)
    return Measured(
        inputs_per_s=rate,
        faces_an_input=_faces_an_input(source, faces, pictures),
        bound_by=str(values["bound_by"]),
    )


def _warn_of_few(source: str, num_inputs: float) -> None:
    if num_inputs < MIN_INPUTS:
        log.warning(
            "%s is of %d inputs, which is few: what is done once for a file or a run weighs more there than it will in "
            "a large run",
            source,
            num_inputs,
        )


def _working_seconds(values: dict[str, object]) -> float:
    return _number(values["seconds"]) - _number(values["starting_s"]) - _number(values["finishing_s"])


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise TypeError("it is no number")
    return value


def _rests_on(source: str, faces: float, seconds: float, device: str) -> str:
    return f"{source}: {faces:,.0f} faces in {seconds:,.1f} s by one worker on {device}"


def _faces_an_input(source: str, faces: float, inputs: float) -> Figure:
    if not inputs:
        return Figure(None, f"{source} has no inputs")
    return Figure(faces / inputs, f"{source}: {faces:,.0f} faces in {inputs:,.0f} inputs")


def _of_output(source: str) -> Measured:
    num_inputs = num_faces = num_bytes = num_sized = size = 0
    has_archives = False
    for table in ("inputs", "faces"):
        for part in parts_of(source, table):
            num_bytes += part.stat().st_size
            with reading(part):
                if table == "faces":
                    num_faces += pq.read_metadata(part).num_rows
                    continue
                rows = pq.read_table(part, columns=["size_bytes", "archive"])
                sizes = rows["size_bytes"]
                has_archives = has_archives or rows["archive"].null_count < len(rows)
                num_inputs += len(sizes)
                num_sized += len(sizes) - sizes.null_count
                size += pc.sum(sizes).as_py() or 0
    _warn_of_few(source, num_inputs)
    return Measured(
        faces_an_input=_faces_an_input(source, num_faces, num_inputs),
        read_bytes_an_input=_bytes_an_input(source, size, 0 if has_archives else num_sized),
        written_bytes_an_input=Figure(
            num_bytes / num_inputs if num_inputs else None, f"{source}: {num_bytes:,} bytes of {num_inputs:,} inputs"
        ),
    )


def _bytes_an_input(source: str, size: int, num_sized: int) -> Figure:
    if not num_sized:
        return Figure(None, f"{source} knows no sizes of pictures: give --input-bytes")  # in archives they have none
    return Figure(size / num_sized, f"{source}: {num_sized:,} inputs of {size:,} bytes in all")
