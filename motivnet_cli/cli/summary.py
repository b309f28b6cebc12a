"""`motivnet summary`: how much of every emotion was seen, for each input, track or group."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from motivnet_cli import errors
from motivnet_cli.cli.log import phase, say
from motivnet_cli.cli.options import AsJson, FilterOptions, LogOptions, Overwrite, Predictions
from motivnet_cli.cli.terminal import aligned, print_data, print_json, talking

if TYPE_CHECKING:
    from motivnet_cli.export.summary import Summary

_MAX_ROWS = 20
"""That a terminal gets."""
_MAX_EMOTIONS = 3
"""Of a row on a terminal: those with the largest shares."""
_MIN_NAME = 16
"""Characters of the first column that stay on a narrow terminal."""
_BATCH = 1024
"""Lines that a pipe gets at once."""


def summary(
    path: Predictions,
    *,
    by: Annotated[
        str,
        typer.Option(
            metavar="input|track|folder|COLUMN",
            help="A row for each input, track, folder of inputs, or value of another column.",
        ),
    ] = "input",
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="FILE", help="File to write: .csv, .xlsx or .parquet."),
    ] = None,
    filters: FilterOptions,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
    log: LogOptions,
) -> None:
    """Sum up predictions: seconds or faces seen, share and mean probability of each emotion, and episodes.

    Example: motivnet summary preds.parquet --by input --out summary.csv

    A terminal gets a short table, a pipe all columns, separated by tabs.
    """
    with talking(log):
        phase(f"summary: reading {path}")
        from motivnet_cli.export.summary import Summary, write_summary

        table = Summary(path, by=by, filters=filters.filters())
        if out is not None:
            write_summary(table, Path(out), overwrite=overwrite)
            say(f"written: {out}")
        if as_json:
            about = {"predictions": str(table.source.path), "model": table.source.record.get("model"), "by": by}
            print_json({**about, **dataclasses.asdict(table.filters), "rows": list(table.rows())})
        elif out is None and sys.stdout.isatty():
            _print_short(table)
        elif out is None:
            _print_all(table)


def _print_all(table: Summary) -> None:
    rows = table.rows()
    print_data(_line(table.schema.names))
    while batch := list(itertools.islice(rows, _BATCH)):
        print_data("\n".join(_line(row.values()) for row in batch))


def _line(values: Iterable[object]) -> str:
    return "\t".join("" if value is None else errors.one_line(str(value)) for value in values)


def _print_short(table: Summary) -> None:
    rows = table.rows()
    shown = list(itertools.islice(rows, _MAX_ROWS))
    lines = [[*table.keys, "seen", "emotions", "episodes"]]
    lines += [_words(row, table.keys, table.classes) for row in shown]
    print_data("\n".join(_fitting(lines, shutil.get_terminal_size().columns)))
    if more := sum(1 for _ in rows):
        print_data(f"and {more:,} more: --out summary.csv writes all rows and columns")


def _fitting(table: Sequence[Sequence[str]], columns: int) -> list[str]:
    """A line for each row, where need be with the ends of long names only."""
    lines = aligned(table)
    over = max(map(len, lines)) - columns
    if over <= 0:
        return lines
    room = max(_MIN_NAME, max(len(name) for name, *_ in table) - over)
    return aligned([name if len(name) <= room else f"...{name[3 - room :]}", *others] for name, *others in table)


def _words(row: Mapping[str, object], keys: Sequence[str], classes: Sequence[str]) -> list[str]:
    """A row for people, a cell for each column."""
    shares: list[tuple[float, str]] = []
    for name in classes:
        share = row[f"{name}_share"]
        if isinstance(share, float) and share > 0:
            shares.append((share, name))
    shares.sort(key=lambda each: -each[0])
    emotions = ", ".join(f"{name} {share:.0%}" for share, name in shares[:_MAX_EMOTIONS])
    seconds, mean_s = row["seconds"], row["mean_episode_s"]
    episodes = "" if row["episodes"] is None else f"{row['episodes']:,}"
    return [
        *("" if row[key] is None else str(row[key]) for key in keys),
        f"{seconds:,.1f} s" if isinstance(seconds, float) else f"{row['faces']:,} face{'s' * (row['faces'] != 1)}",
        emotions + (", ..." if len(shares) > _MAX_EMOTIONS else ""),
        episodes + (f", mean {mean_s:.1f} s" if isinstance(mean_s, float) else ""),
    ]
