"""What the footers of an output say, held against itself: the record of the run, the columns, and statistics."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from motivnet_cli.errors import ConfigError
from motivnet_cli.inputs.kept_columns import kept_name
from motivnet_cli.output.tables import SCHEMA_VERSION, columns_as_of, faces_schema, inputs_schema
from motivnet_cli.records import FACE_COLUMNS, in_column_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow.parquet as pq

    from motivnet_cli.config import KeptType
    from motivnet_cli.output.findings import Findings
    from motivnet_cli.records import RunRecord

_SAME_AS_SETTING = {
    "schema_version": "schema",
    "model": "model.name",
    "weights_sha256": "model.weights_sha256",
    "recipe": "model.recipe",
    "precision": "model.precision",
}
"""What a record says twice: its own name -> that of the setting."""


def check_record(findings: Findings, where: str, record: RunRecord) -> None:
    """Whether a record agrees with itself."""
    settings = record.get("settings", {})
    values: Mapping[str, object] = dict(record)
    for name, setting in _SAME_AS_SETTING.items():
        if values.get(name) is None or values[name] != settings.get(setting):
            what = f"{name} is {values.get(name)!r}, and the setting {setting} is {settings.get(setting)!r}"
            findings.fault("record", where, what)
    if values.get("tool") != f"motivnet {settings.get('version')}":
        findings.fault("record", where, f"tool is {values.get('tool')!r}, and version is {settings.get('version')!r}")
    if not re.fullmatch("[0-9a-f]{64}", str(values.get("weights_sha256"))):
        findings.fault("record", where, f"weights_sha256 is {values.get('weights_sha256')!r}")
    classes = values.get("classes")
    if not isinstance(classes, list) or list(in_column_order(classes)) != classes or len(set(classes)) < len(classes):
        findings.fault("record", where, f"classes are {classes!r}, which are not names in the order of the columns")
    for section in ("faces", "video"):
        expected = {
            name.removeprefix(f"{section}."): value
            for name, value in settings.items()
            if name.startswith(f"{section}.")
        }
        if values.get(section) != expected:
            findings.fault("record", where, f"{section} is {values.get(section)!r}, and its settings are {expected!r}")


def check_schema(findings: Findings, where: str, table: str, got: pa.Schema, record: RunRecord) -> bool:
    """Whether a table has the columns that the record asks for."""
    try:
        wrong = list(_differences(got, _expected_schema(table, got, record)))
    except (ConfigError, TypeError) as error:
        wrong = [f"no columns go with the record: {error}"]
    for what in wrong:
        findings.fault("schema", where, what)
    _check_embedding(findings, where, got, record)
    return not wrong


def _expected_schema(table: str, got: pa.Schema, record: RunRecord) -> pa.Schema:
    """The columns that a record asks for; types of kept columns, and the embedding's length, as they are there."""
    version = record.get("schema_version", SCHEMA_VERSION)
    if table == "inputs":
        return inputs_schema(version)
    settings = record.get("settings", {})
    embeddings = settings.get("output.embeddings")
    names = settings.get("inputs.keep")
    kept = [str(name) for name in names] if isinstance(names, list) else []
    kinds: dict[str, KeptType] = {"string": "string", "int64": "int64", "double": "float64", "bool": "bool"}
    keep: dict[str, KeptType] = {}
    for name in (kept_name(name, kept, own=columns_as_of(version, FACE_COLUMNS)) for name in kept):
        there = str(got.field(name).type) if name in got.names else "string"
        keep[name] = kinds.get(there, "string")
    size = _embedding_size(got)
    return faces_schema(
        record.get("classes", []),
        1 if size is None else size,
        "float16" if embeddings == "float16" else "float32" if embeddings == "float32" else "none",
        landmarks=settings.get("output.landmarks") is not False,
        tracks=bool(settings.get("video.track")),
        keep=keep,
        version=version,
    )


def _embedding_size(schema: pa.Schema) -> int | None:
    kind = schema.field("embedding").type if "embedding" in schema.names else None
    return kind.list_size if kind is not None and pa.types.is_fixed_size_list(kind) else None


def _differences(got: pa.Schema, expected: pa.Schema) -> Iterator[str]:
    missing = [name for name in expected.names if name not in got.names]
    unexpected = [name for name in got.names if name not in expected.names]
    if missing:
        yield f"without {', '.join(missing)}"
    if unexpected:
        yield f"with {', '.join(map(repr, unexpected))}, which the record does not ask for"
    if not missing and not unexpected and got.names != expected.names:
        yield f"columns in the order {', '.join(got.names)}, not {', '.join(expected.names)}"
    for name in (name for name in expected.names if name in got.names):
        if got.names.count(name) == 1 and got.field(name).type != expected.field(name).type:
            yield f"{name} holds {got.field(name).type}, not {expected.field(name).type}"


def _check_embedding(findings: Findings, where: str, got: pa.Schema, record: RunRecord) -> None:
    expected, size = record.get("embedding_size"), _embedding_size(got)
    if size is None:
        return
    if expected is None:
        findings.note("embeddings", "the record does not say how long they are")
    elif size != expected:
        findings.fault("embeddings", where, f"embeddings of {size} numbers, and the model's have {expected}")


class Extremes:
    """The smallest and the largest value of each column of a row group, to hold the footer against."""

    def __init__(self) -> None:
        self._least: dict[str, object] = {}
        self._most: dict[str, object] = {}
        self._num_null: dict[str, int] = {}

    def add(self, rows: pa.RecordBatch) -> None:
        for name in rows.schema.names:
            column = rows[name]
            if pa.types.is_fixed_size_list(column.type):
                continue
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            found = pc.min_max(column).as_py()
            self._num_null[name] = self._num_null.get(name, 0) + column.null_count
            for kept, value, better in ((self._least, found["min"], min), (self._most, found["max"], max)):
                if value is not None:
                    kept[name] = value if name not in kept else better(kept[name], value)

    def check(self, findings: Findings, where: str, group: pq.RowGroupMetaData) -> None:
        """Hold them against what the footer says of the row group."""
        for number in range(group.num_columns):
            chunk = group.column(number)
            name, said = chunk.path_in_schema, chunk.statistics
            if said is None or name not in self._num_null:
                continue
            if said.has_null_count and said.null_count != self._num_null[name]:
                what = f"{self._num_null[name]} values of {name} are missing, and the footer says {said.null_count}"
                findings.fault("statistics", where, what)
            if said.has_min_max and not (_same(said.min, self._least, name) and _same(said.max, self._most, name)):
                there = f"{self._least.get(name)!r} to {self._most.get(name)!r}"
                findings.fault("statistics", where, f"{name} is {there}, not {said.min!r} to {said.max!r}")


def _same(said: object, found: Mapping[str, object], name: str) -> bool:
    value = found.get(name)
    if isinstance(value, float) and math.isnan(value):
        return True  # columns with NaN have statistics without it
    return said == value
