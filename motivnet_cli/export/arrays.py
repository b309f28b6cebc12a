"""Predictions as NumPy arrays: .npy and .npz. Columns are written one after another, a few thousand rows at a time."""

from __future__ import annotations

import zipfile
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from motivnet_cli.errors import ConfigError
from motivnet_cli.export.tables import write_columns
from motivnet_cli.output.tables import numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from motivnet_cli.export.source import Source


def write_npy(source: Source, out: Path) -> None:
    """Write `embeddings.npy` [N, D], float16 or float32 as stored, and `rows.parquet`, the other columns of the N rows.

    Raises:
        ConfigError: There are no embeddings.
    """
    if "embedding" not in source.schema.names:
        raise ConfigError("there are no embeddings to write as npy; choose parquet or npz for the other columns")
    with (out / "embeddings.npy").open("wb") as file:
        _write_array(file, source, "embedding")
    write_columns(source, out / "rows.parquet", [name for name in source.schema.names if name != "embedding"])


def write_npz(source: Source, out: Path) -> None:
    """Write an array [N] for each column and `embedding` [N, D], not compressed; `classes` [C] names the emotions.

    Text is as wide as its longest value (4 bytes per character). Null is NaN in numbers, and empty in text; a column
    of whole numbers or truth values with nulls becomes float64.
    """
    if bad := [name for name in source.schema.names if "/" in name or "\\" in name or not name.isprintable()]:
        raise ConfigError(f"an npz cannot have an array called {bad[0]!r}: leave the column out with --columns")
    with zipfile.ZipFile(out, "w") as archive:
        for name in source.schema.names:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                _write_array(file, source, name)
        if "classes" not in source.schema.names:
            with archive.open("classes.npy", "w") as file:
                np.lib.format.write_array(file, np.array(source.classes, np.str_), allow_pickle=False)


def _write_array(file: IO[bytes], source: Source, name: str) -> None:
    """Write a column in NumPy's format. The header comes first: one pass finds the type, a second one writes."""
    kind = source.schema.field(name).type
    shape: tuple[int, ...] = (source.num_rows,)
    if pa.types.is_fixed_size_list(kind):
        shape, dtype = (source.num_rows, kind.list_size), numpy_dtype(kind.value_type)
    elif pa.types.is_string(kind):
        lengths = (pc.max(pc.utf8_length(column)).as_py() for column in _column(source, name))
        dtype = np.dtype(("U", max((length or 0 for length in lengths), default=0) or 1))
    elif pa.types.is_floating(kind) or not any(column.null_count for column in _column(source, name)):
        dtype = numpy_dtype(kind)
    else:
        dtype = np.dtype(np.float64)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for column in _column(source, name):
        file.write(_values(column, dtype).tobytes())


def _column(source: Source, name: str) -> Iterator[pa.Array]:
    return (batch.column(0) for batch in source.batches([name]))


def _values(column: pa.Array, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    if pa.types.is_fixed_size_list(column.type):
        if column.null_count:
            raise ConfigError("some rows have no embedding; leave them out, or choose parquet")
        values: NDArray[np.generic] = column.flatten().to_numpy(zero_copy_only=False)
        return values
    if dtype.kind == "U":
        return np.array(column.fill_null("").to_pylist(), dtype)
    if column.null_count:
        column = column.cast(pa.from_numpy_dtype(dtype)).fill_null(float("nan"))
    values = column.to_numpy(zero_copy_only=False)
    return values
