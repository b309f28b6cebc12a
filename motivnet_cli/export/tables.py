"""Predictions as tables: CSV, JSON lines, Parquet, Arrow, and a folder for Hugging Face datasets.

A writer takes a `Source` and the path of a file to make, or of an empty folder; it holds a few thousand rows at a time.
"""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING

import polars as pl
import pyarrow as pa

from motivnet_cli.errors import one_line
from motivnet_cli.output.tables import TableWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from motivnet_cli.export.source import Source

_FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"  # noqa: RUF001 - the wide forms are meant
"""What makes a spreadsheet take a cell for a formula (OWASP, CSV injection)."""


def write_csv(source: Source, out: Path | IO[bytes], *, bom: bool = False) -> None:
    """Write one CSV: RFC 4180 except for LF at line ends, UTF-8, with a header; null is an empty field.

    All text is in quotes, so that a spreadsheet that splits at semicolons finds no formula within a name. Text that it
    would run gets an apostrophe in front. Numbers are not changed, and read back as the same float. With `bom` the file
    begins with the byte order mark of UTF-8, by which Excel knows the encoding.
    """
    rows = source.lazy()
    if "embedding" in source.schema.names:
        size = source.schema.field("embedding").type.list_size
        rows = rows.with_columns(pl.col("embedding").arr.to_struct([f"embedding_{i}" for i in range(size)]))
        rows = rows.unnest("embedding")
    escape_formulas(rows).sink_csv(out, include_bom=bom, quote_style="non_numeric", engine="streaming")


def write_jsonl(source: Source, out: Path | IO[bytes]) -> None:
    """Write JSON lines: an object for each row, keys in the order of the columns; NaN becomes null."""
    source.lazy().sink_ndjson(out, engine="streaming")


def escape_formulas(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with an apostrophe in front of all text that a spreadsheet would run, headers included."""
    schema = rows.collect_schema()
    texts = [name for name, kind in schema.items() if kind == pl.String]
    headers = {name: f"'{name}" for name in schema if re.match(_FORMULA, name)}
    return rows.with_columns(
        pl.when(pl.col(name).str.contains(_FORMULA)).then("'" + pl.col(name)).otherwise(pl.col(name)).alias(name)
        for name in texts
    ).rename(headers)


def write_parquet(source: Source, out: Path) -> None:
    """Write one Parquet file with the run's record in its metadata; `Source` reads it again."""
    write_columns(source, out, source.schema.names)


def write_arrow(source: Source, out: Path) -> None:
    """Write one Arrow IPC file (Feather version 2), not compressed, so that readers map it into memory."""
    with pa.ipc.new_file(out, source.schema) as writer:
        for batch in source.batches():
            writer.write_batch(batch)


def write_hf(source: Source, out: Path) -> None:
    """Write a folder that `datasets.load_dataset` reads: `data/train-00000-of-00001.parquet` and a card."""
    (out / "data").mkdir()
    write_columns(source, out / "data" / "train-00000-of-00001.parquet", source.schema.names)
    model = _plain(source.record.get("model", "an unnamed model"))
    lines = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: data/*.parquet",
        "---",
        "",
        "# Emotions and embeddings of faces",
        "",
        f"{source.num_rows} faces as predicted by {model}, one row per face.",
    ]
    if terms := source.record.get("terms"):
        lines += ["", f"Terms of the model: {_plain(terms)}"]
    (out / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _plain(text: str) -> str:
    """The text on one line of Markdown, without links, pictures and HTML."""
    return re.sub(r"([\\`*_\[\]<>#|!])", r"\\\1", one_line(text))


def write_columns(source: Source, out: Path, columns: Sequence[str]) -> None:
    """Write some columns of a source as one Parquet file."""
    schema = pa.schema([source.schema.field(name) for name in columns], metadata=source.schema.metadata)
    with TableWriter(out, schema) as writer:
        for batch in source.batches(columns):
            writer.add(pa.Table.from_batches([batch]))
