"""Predictions as tables: CSV, JSON lines, Parquet, Arrow, and a folder for Hugging Face datasets.

A writer takes a `Source` and the path of a file to make, or of an empty folder; it holds a few thousand rows at a time.
"""

from __future__ import annotations

import re
from typing import IO, TYPE_CHECKING

import polars as pl
import pyarrow as pa

from motivnet_cli.errors import ConfigError, one_line
from motivnet_cli.output.tables import TableWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from motivnet_cli.export.source import Source

_FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"  # noqa: RUF001 - the wide forms are meant
"""What makes a spreadsheet take a cell for a formula (OWASP, CSV injection)."""


def write_csv(source: Source, out: Path | IO[bytes], *, bom: bool = False, decimal_comma: bool = False) -> None:
    """Write one CSV: RFC 4180 except for LF at line ends, UTF-8, with a header; null is an empty field.

    All text is in quotes, so that a spreadsheet that splits at semicolons finds no formula within a name. Text that it
    would run gets an apostrophe in front. Numbers are not changed, and read back as the same float. With `bom` the file
    begins with the byte order mark of UTF-8, by which Excel knows the encoding. With `decimal_comma` numbers are
    written 1,4 and fields end at semicolons, as Excel reads them where decimals have a comma.
    """
    escape_formulas(with_embedding_columns(source.lazy())).sink_csv(
        out,
        include_bom=bom,
        decimal_comma=decimal_comma,
        separator=";" if decimal_comma else ",",
        quote_style="non_numeric",
        engine="streaming",
    )


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


def with_embedding_columns(rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with a column for each number of their embeddings, if they have any: embedding_0, ..."""
    kind = rows.collect_schema().get("embedding")
    if not isinstance(kind, pl.Array):
        return rows
    names = [f"embedding_{i}" for i in range(kind.size)]
    return rows.with_columns(pl.col("embedding").arr.to_struct(names)).unnest("embedding")


def as_cells(rows: pl.LazyFrame, to: str) -> pl.LazyFrame:
    """The rows for a format whose cells are text, truth values and float64: without lists, NaN and infinities (null).

    A float32 becomes the float64 of its shortest decimal, which is the same float32 again: 0.1 stays 0.1, where the
    nearest float64 is 0.10000000149011612.

    Raises:
        ConfigError: A column is of another kind.
    """
    rows = with_embedding_columns(rows.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String)))
    for name, kind in rows.collect_schema().items():
        if not (kind in (pl.String, pl.Boolean) or kind.is_integer() or kind.is_float()):
            raise ConfigError(f"column {name!r} holds {kind}, which {to} has no cells for; leave it out with --columns")
    rows = rows.with_columns(pl.col(pl.Float16).cast(pl.Float32))
    rows = rows.with_columns(pl.col(pl.Float32).cast(pl.String).cast(pl.Float64))
    floats = [name for name, kind in rows.collect_schema().items() if kind.is_float()]
    return rows.with_columns(pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in floats)


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
