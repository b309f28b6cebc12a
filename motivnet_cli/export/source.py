"""Predictions that exist -> filtered rows, a few thousand at a time, for whoever exports them.

This module reads an output of `annotate`, or a table with the same columns; it knows no format that rows go to. Rows
come in the order of the file, text columns as strings however they are stored, and null stays null.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from motivnet_cli.errors import ConfigError, first_line
from motivnet_cli.output.names import INPUTS_SUFFIX, inputs_beside
from motivnet_cli.output.read import parts_of
from motivnet_cli.output.tables import (
    BATCH_ROWS,
    METADATA_KEY,
    SCHEMA_VERSION,
    batches_in,
    faces_schema,
    rows_in,
    schema_of,
)
from motivnet_cli.output.verify_sample import SampledInput
from motivnet_cli.records import EMOTIONS, is_class_name
from motivnet_cli.remote.urls import is_remote, local_path, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from motivnet_cli.records import RunRecord


_OVER_ROWS = re.compile(
    r"\b(over|avg|sum|min|max|count|median|stddev|stdev|variance|var|first|last|quantile\w*|corr|covar|rank|row_number|"
    r"dense_rank|lag|lead)\s*\(",
    re.IGNORECASE,
)
"""SQL functions that look at several rows. Polars has a test of its own (`meta.is_row_separable`), which fails on plain
comparisons in 2.1."""


class InputRow(NamedTuple):
    """A row of the inputs table: a picture, a video, or another input, and what became of it."""

    input: str
    kind: str
    status: str
    error: str | None = None
    error_type: str | None = None
    faces: int = 0
    width: int | None = None
    """Of the upright picture in pixels, or of the first frame of a video; None if it was not read."""
    height: int | None = None
    archive: str | None = None
    """The archive that it is a member of."""
    time_offset_s: float | None = None
    """When a video begins, in seconds from the start of its file; None where it is not known."""
    size_bytes: int | None = None
    """Of its file when the run was planned; None where it is not known."""
    sha256: str | None = None
    """Of its content; None where it was not asked for."""


class FrameSampling(TypedDict, total=False):
    """Which frames of videos a run looked at, as its record holds it (see `VideoConfig`)."""

    fps: float | None
    every: int | None
    start_s: float
    end_s: float | None


class Source:
    """The predictions at a path: the rows for which `where` is true, with the chosen columns, in the file's order.

    Args:
        path: An output of `annotate` (a `.parquet` file or a folder), or any `.parquet` file, or folder of them, with
            `input` and some of the other columns of the faces table.
        where: A condition in SQL on the values of one row, such as `confidence > 0.8 AND emotion = 'anger'`. A row for
            which it is null is left out.
        columns: Names, in the order wanted; None takes all.
        embeddings: False leaves out the column `embedding`, even if `columns` names it.
        float32: Give the embeddings as float32, as which every float16 is the same number.

    Raises:
        ConfigError: Nothing is there, it is no table of predictions, or `where` or `columns` do not fit it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        where: str | None = None,
        columns: Sequence[str] | None = None,
        embeddings: bool = True,
        float32: bool = False,
    ) -> None:
        path = local_path(str(path))
        self.path = Path(shown(path))
        self._parts, self._inputs = _files_at(path)
        stored = _schema_in(self._parts)
        self.record = _record_in(self.path, stored)
        """Of the run that wrote the table; empty for a table without one."""
        self.classes: tuple[str, ...] = tuple(
            self.record.get("classes", [name for name in EMOTIONS if name in stored.names])
        )
        """Names of the emotions in the order of the model, whether their columns are chosen or not."""
        _check_columns(self.path, stored, self.classes, self.record.get("schema_version", SCHEMA_VERSION))
        self._stored = pa.schema([_decoded(field, float32=float32) for field in stored], metadata=stored.metadata)
        chosen = self._chosen(columns, embeddings=embeddings)
        if float32 and "embedding" not in chosen:
            raise ConfigError("no embeddings are written, so they cannot be float32; leave out --float32")
        self.schema = pa.schema([self._stored.field(name) for name in chosen], metadata=stored.metadata)
        """Of the batches; its metadata holds the record, as in the file."""
        self._where = None if where is None else self._condition(where)
        self._num_rows: int | None = None

    @property
    def num_rows(self) -> int:
        """Number of rows; with a `where`, they are counted at the first call."""
        if self._num_rows is None:
            if self._where is None:
                self._num_rows = sum(pq.read_metadata(part).num_rows for part in self._parts)
            else:
                self._num_rows = self.lazy().select(pl.len()).collect(engine="streaming").item()
        return self._num_rows

    @property
    def sampling(self) -> FrameSampling | None:
        """Which frames of videos were looked at; None where there is no record of it."""
        return cast("FrameSampling | None", self.record.get("video"))

    @property
    def files_named(self) -> list[str]:
        """Files that the run was given by name: manifests, lists, pictures and videos, as far as it is recorded."""
        given = self.settings("inputs.paths", "inputs.manifests", "inputs.files_from", "inputs.files0_from")
        return [name for name in given if Path(name).is_file()]

    def settings(self, *names: str) -> list[str]:
        """What the run was given for some settings that are lists, such as `inputs.paths`, as far as it is recorded."""
        return [value for name in names for value in listed(self.record, name)]

    @property
    def files(self) -> list[Path]:
        """Of both tables; of an object store, local copies."""
        return [*self._parts, *self._inputs]

    @property
    def is_filtered(self) -> bool:
        """Whether there is a condition that rows must meet."""
        return self._where is not None

    @property
    def has_inputs(self) -> bool:
        """Whether there is an inputs table."""
        return bool(self._inputs)

    @property
    def stored_names(self) -> list[str]:
        """The columns of the table, chosen or not."""
        return list(self._stored.names)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows, at most 4,096 at a time.

        Args:
            columns: Those of the schema to read, in this order; None reads all.

        Raises:
            ConfigError: A file cannot be read.
        """
        schema = self.schema
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)
        tested = [] if self._where is None else list(dict.fromkeys(self._where.meta.root_names()))
        read = list(dict.fromkeys([*schema.names, *tested]))
        for part in self._parts:
            for batch in _read_batches(part, read):
                decoded = [batch.column(name).cast(self._stored.field(name).type) for name in read]
                rows = pa.RecordBatch.from_arrays(decoded, read)
                if self._where is not None:
                    mask = pl.DataFrame(rows.select(tested)).select(keep=self._where)["keep"]
                    rows = rows.filter(mask.rechunk().to_arrow())  # null is false, as in SQL
                if rows.num_rows:
                    yield pa.RecordBatch.from_arrays([rows.column(name) for name in schema.names], schema=schema)

    def lazy(self) -> pl.LazyFrame:
        """The same rows, for the streaming engine of polars, which writes text in parallel."""
        rows = pl.scan_parquet(self._parts, glob=False).with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
        if self._where is not None:
            rows = rows.filter(self._where)
        if "embedding" in self.schema.names:
            rows = rows.with_columns(pl.col("embedding").cast(pl.Schema(self.schema)["embedding"]))
        return rows.select(self.schema.names)

    @property
    def num_inputs(self) -> int:
        """Number of rows of the inputs table."""
        return sum(pq.read_metadata(part).num_rows for part in self._inputs)

    def input_tables(self) -> Iterator[pa.Table]:
        """All columns of the inputs table, a few thousand rows at a time, whatever `where` is; the first has no row."""
        for part in self._inputs[:1]:
            yield schema_of(part).empty_table()
        for part in self._inputs:
            yield from (pa.Table.from_batches([batch]) for batch in batches_in(part))

    def inputs(self) -> Iterator[InputRow]:
        """The rows of the inputs table in order, whatever `where` is; none where there is no such table."""
        return rows_in(self._inputs, InputRow)

    def about_inputs(self, names: Collection[str]) -> dict[str, SampledInput]:
        """What is known of some inputs and of the archives that they are in, by their names.

        Raises:
            ConfigError: The inputs table has no row of one of them, or is missing.
        """
        found = {}
        for each in self.inputs():
            if each.input in names or each.kind == "archive":
                about = SampledInput(each.input, each.kind, each.archive, each.size_bytes, each.sha256)  # type: ignore[arg-type]
                found[each.input] = about
        if unknown := set(names) - found.keys():
            raise ConfigError(
                f"{str(self.path)!r} has no inputs table beside it that says what {min(unknown)!r} is: give the output "
                "that motivnet annotate wrote, with its inputs table"
            )
        return found

    def reading_settings(self) -> dict[str, object]:
        """The settings of the run, by which its pictures are read again.

        Raises:
            ConfigError: They are not recorded, or the run has seen the pictures otherwise than they are.
        """
        settings = self.record.get("settings")
        if not settings:
            raise ConfigError(
                f"{str(self.path)!r} has no record of a run, so its pictures cannot be found: give the output that "
                "motivnet annotate wrote"
            )
        if isinstance(corruption := settings.get("loader.corruption"), list):
            shown = " ".join(map(str, corruption))
            raise ConfigError(
                f"{str(self.path)!r} was made from corrupted pictures ({shown}), which are not kept: annotate the "
                "pictures as they are"
            )
        return settings

    def _chosen(self, columns: Sequence[str] | None, *, embeddings: bool) -> list[str]:
        there = self._stored.names
        if columns is not None and (unknown := [name for name in columns if name not in there]):
            raise ConfigError(
                f"no column {', '.join(map(repr, unknown))} in {str(self.path)!r}: it has {', '.join(there)}"
            )
        chosen = list(dict.fromkeys(there if columns is None else columns))
        chosen = [name for name in chosen if embeddings or name != "embedding"]
        if not chosen:
            raise ConfigError(f"no column is left to export: choose some of {', '.join(there)}")
        return chosen

    def _condition(self, where: str) -> pl.Expr:
        """The condition as an expression, tried on a table without rows."""
        usable = [field for field in self._stored if field.name != "embedding"]
        nothing = pl.DataFrame(pa.schema(usable).empty_table())
        try:
            condition = pl.sql_expr(where)
            kind = nothing.select(keep=condition)["keep"].dtype
        except pl.exceptions.PolarsError as error:
            reason = first_line(error)
            raise ConfigError(
                f'cannot use the condition {where!r}: {reason}; it takes SQL such as "confidence > 0.8 AND emotion = '
                f"'anger'\" on the columns {', '.join(nothing.columns)}"
            ) from error
        if kind != pl.Boolean:
            raise ConfigError(
                f"the condition {where!r} is {kind}, not true or false; compare it, as in confidence > 0.8"
            )
        if not condition.meta.root_names():
            raise ConfigError(f"the condition {where!r} names no column; use some of {', '.join(nothing.columns)}")
        if _OVER_ROWS.search(re.sub(r"'[^']*'", "''", where)):
            raise ConfigError(
                f"the condition {where!r} looks at several rows; compare the values of one row with each other or "
                "with constants"
            )
        return condition


def _files_at(path: str | Path) -> tuple[list[Path], list[Path]]:
    """The files of the faces table, and of the inputs table if there is one; of an object store, local copies."""
    if is_remote(str(path)):
        return parts_of(path, "faces"), parts_of(path, "inputs")
    path = Path(path)
    if not path.exists():
        raise ConfigError(f"no predictions at {str(path)!r}: give the output of motivnet annotate")
    if path.is_file():
        inputs = inputs_beside(path)
        return [path], [inputs] if inputs.is_file() and inputs != path else []
    if (path / "inputs").is_dir():
        return parts_of(path, "faces"), parts_of(path, "inputs")
    faces = [part for part in sorted(path.rglob("*.parquet")) if not part.name.endswith(INPUTS_SUFFIX)]
    if not faces:
        raise ConfigError(f"the folder {str(path)!r} holds no .parquet file; give the output of motivnet annotate")
    return faces, []


def _read_batches(part: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    try:
        # pyarrow 26 buffers ahead unless told not to, and keeps all that it has read of a file.
        yield from pq.ParquetFile(part, pre_buffer=False).iter_batches(batch_size=BATCH_ROWS, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        problem = f"pyarrow {pa.__version__} cannot read {str(part)!r}: {first_line(error)}"
        if "Expected all lists to be of size" in problem:  # pyarrow 25 and older
            problem += "; it does not read rows without an embedding, pyarrow 26 does"
        raise ConfigError(problem) from error


def _schema_in(parts: Sequence[Path]) -> pa.Schema:
    first: pa.Schema | None = None
    for part in parts:
        try:
            schema = pq.read_schema(part)
        except (OSError, pa.ArrowInvalid) as error:
            raise ConfigError(f"{str(part)!r} is not a Parquet file that can be read ({error})") from error
        first = schema if first is None else first
        if not schema.equals(first):
            raise ConfigError(f"{str(part)!r} has other columns than {str(parts[0])!r}; export them one by one")
    assert first is not None, "there is at least one part"
    return first


def _record_in(path: Path, stored: pa.Schema) -> RunRecord:
    """The run's record in a table, which a stranger may have written; empty where there is none.

    Raises:
        ConfigError: It is not as motivnet writes it.
    """
    try:
        record = json.loads((stored.metadata or {}).get(METADATA_KEY, b"{}"))
    except ValueError:
        record = None
    sections = [record.get(name, {}) for name in ("settings", "video")] if isinstance(record, dict) else [None]
    classes = record.get("classes", []) if isinstance(record, dict) else None
    are_names = isinstance(classes, list) and all(isinstance(name, str) and is_class_name(name) for name in classes)
    if not are_names or not all(isinstance(section, dict) for section in sections):
        raise ConfigError(f"{str(path)!r} has a record that motivnet did not write: its classes are {classes!r}")
    return cast("RunRecord", record)


def _check_columns(path: Path, stored: pa.Schema, classes: Sequence[str], version: int) -> None:
    """Refuse a table that does not hold predictions, by the names and types of its columns."""
    known = faces_schema(classes or EMOTIONS, 1, "float16", tracks=True, version=version)
    both = [name for name in known.names if name in stored.names]
    if "input" not in both or not {"emotion", "x1", "embedding"} & set(both):
        raise ConfigError(
            f"{str(path)!r} is not a table of predictions: expected `input` with `emotion`, a box (`x1`, ...) or "
            f"`embedding`; it has {', '.join(stored.names)}"
        )
    for name in both:
        expected, got = _kind_of(known.field(name).type), _kind_of(stored.field(name).type)
        if got != expected:
            raise ConfigError(
                f"column {name!r} of {str(path)!r} holds {stored.field(name).type}; predictions have {expected} there"
            )


def _kind_of(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_fixed_size_list(kind):
        return "lists of one length"
    return "numbers" if pa.types.is_integer(kind) or pa.types.is_floating(kind) else str(kind)


def _decoded(field: pa.Field, *, float32: bool) -> pa.Field:
    """A column as it is given to a writer: text as strings, and the embeddings as float32 if that is wanted."""
    if float32 and field.name == "embedding":
        return field.with_type(pa.list_(pa.float32(), field.type.list_size))
    return field.with_type(pa.string()) if _kind_of(field.type) == "text" else field


def listed(record: RunRecord, name: str) -> list[str]:
    """The values of a setting that is a list of names, such as `inputs.paths`; none if it is not recorded."""
    values = record.get("settings", {}).get(name)
    return [str(value) for value in values] if isinstance(values, list) else []
