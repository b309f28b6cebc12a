"""What 25,000 parts cost a reader, and what becomes of that when `motivnet export merge` has joined them.

The parts are links to one that was written as a run writes it (4,096 faces with 256 numbers each, 2.4 MB), and those
that are joined to a file of up to 256 MB of such parts: names, footers and row groups are as many as they would be, and
100 million rows need no disk. Each reader counts the rows, and asks for an input that is not there, which the
statistics of all row groups deny; pyarrow also with a `_metadata` file, which polars and DuckDB do not use. Every
number is that of a whole process, imports included.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from harness import parser, report, say, time_process
from planning import tables_of

RECORD = {"model": "m", "settings": {"model.name": "m"}}
PART_ROWS = 4096
NOWHERE = "nowhere.jpg"


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=25_000)
    options = arguments.parse_args()
    row: dict[str, object] = {"count": options.count}
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        time_process([sys.executable, __file__, "--step", "write", scratch])
        part, joined = (Path(scratch) / name for name in ("part.parquet", "joined.parquet"))
        num_joined = joined.stat().st_size // part.stat().st_size
        for name, file, count in (("parts", part, options.count), ("joined", joined, options.count // num_joined)):
            folder = Path(scratch) / name
            folder.mkdir()
            for number in range(count):
                os.link(file, folder / f"part-{number:06d}-0000.parquet")
            readings = {reader: measured(name, reader, folder) for reader in ("polars", "duckdb", "pyarrow")}
            row[name] = {"files": count, "mb": round(file.stat().st_size / 1e6, 1), **readings}
        folder = Path(scratch) / "parts"
        made = time_process([sys.executable, __file__, "--step", "describe", str(folder)])
        about = folder / "_metadata"
        row["_metadata"] = {
            "mb": round(about.stat().st_size / 1e6),
            "cpu_seconds": round(made.cpu_seconds, 1),
            "peak_mb": round(made.peak_mb),
            "pyarrow": measured("_metadata", "described", folder),
        }
        shutil.rmtree(folder)
    report(row, record=options.record)


def write(folder: Path) -> None:
    """A part, and a file of as many as `motivnet export merge` joins."""
    from motivnet_cli.export.merge import PART_BYTES
    from motivnet_cli.output.tables import TableWriter

    faces = tables_of([f"{number:06d}.jpg" for number in range(PART_ROWS)], RECORD)["faces"]
    part, joined = folder / "part.parquet", folder / "joined.parquet"
    with TableWriter(part, faces.schema) as writer:
        writer.add(faces)
    with TableWriter(joined, faces.schema) as writer:
        for _ in range(PART_BYTES // part.stat().st_size):
            writer.add(faces)


def measured(name: str, reader: str, folder: Path) -> dict[str, float]:
    usage = time_process([sys.executable, __file__, "--step", reader, str(folder)])
    say(f"{name}, {reader}: {usage.seconds:.1f} s, {usage.cpu_seconds:.1f} on a CPU, peak {usage.peak_mb:.0f} MB")
    return {
        "seconds": round(usage.seconds, 1),
        "cpu_seconds": round(usage.cpu_seconds, 1),
        "peak_mb": round(usage.peak_mb),
    }


# ---- each reader, in a process of its own -----------------------------------------------------------------


def polars(folder: Path) -> None:
    import polars as pl

    faces = pl.scan_parquet(folder / "*.parquet")
    check(faces.select(pl.len()).collect().item(), faces.filter(pl.col("input") == NOWHERE).collect().height)


def duckdb(folder: Path) -> None:
    import duckdb as db

    ((count,),) = db.sql(f"SELECT count(*) FROM '{folder}/*.parquet'").fetchall()
    found = db.sql(f"SELECT * FROM '{folder}/*.parquet' WHERE input = '{NOWHERE}'").fetchall()
    check(count, len(found))


def pyarrow(folder: Path) -> None:
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    faces = ds.dataset(folder)
    check(faces.count_rows(), faces.to_table(filter=pc.field("input") == NOWHERE).num_rows)


def described(folder: Path) -> None:
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    faces = ds.parquet_dataset(folder / "_metadata")
    check(faces.count_rows(), faces.to_table(filter=pc.field("input") == NOWHERE).num_rows)


def check(num_rows: int, num_found: int) -> None:
    if num_rows % PART_ROWS or num_found:
        raise SystemExit(f"{num_rows} rows, {num_found} found")


def describe(folder: Path) -> None:
    """Write `_metadata`: the footers of all parts in one file."""
    import pyarrow.parquet as pq

    (first, *others) = sorted(folder.iterdir())
    all_of_them = described_by(pq.read_metadata(first), first)
    for path in others:
        all_of_them.append_row_groups(described_by(pq.read_metadata(path), path))
    all_of_them.write_metadata_file(folder / "_metadata")


def described_by(footer: object, path: Path) -> object:
    footer.set_file_path(path.name)  # type: ignore[attr-defined]
    return footer


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        steps = {step.__name__: step for step in (write, polars, duckdb, pyarrow, described, describe)}
        steps[sys.argv[2]](Path(sys.argv[3]))
    else:
        main()
