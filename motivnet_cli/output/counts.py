"""What the rows of an output come to, counted while they are written, so that nobody has to read them for it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from motivnet_cli.output.damage import reading
from motivnet_cli.records import FACE_SOURCES, FaceSource, LeftOut, Status

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from typing_extensions import Self

WRITTEN_KEY = b"motivnet.written"
"""Key of what was written to a file, in JSON: `rows`, whether pages have checksums (`page_checksums`), where the rows
end in the file (`data_end`, in bytes), and in a file of inputs the `counts` of it and of the faces that go with it."""


@dataclass
class Counts:
    """Of rows of both tables."""

    status: Counter[Status] = field(default_factory=Counter)
    """Inputs, the members of archives included."""
    members: int = 0
    """Inputs that are members of archives."""
    face_source: Counter[FaceSource] = field(default_factory=Counter)
    emotion: Counter[str] = field(default_factory=Counter)
    """Faces by dominant emotion; empty for a model without emotions."""
    left_out: LeftOut = field(default_factory=LeftOut)

    @property
    def inputs(self) -> int:
        return self.status.total()

    @property
    def items(self) -> int:
        """Inputs that are no members of archives."""
        return self.inputs - self.members

    @property
    def faces(self) -> int:
        return self.face_source.total()

    @property
    def face_sources(self) -> dict[FaceSource, int]:
        """Without those that there are none of, in their order."""
        return {source: self.face_source[source] for source in FACE_SOURCES if self.face_source[source]}

    def add(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Count rows of either table.

        Raises:
            ValueError: They say something that no run writes.
        """
        names = rows.schema.names
        if "face_source" not in names:  # `status` may also be a column that faces keep of a manifest
            self.status.update(_values(rows["status"]))
            self.members += len(rows) - rows["archive"].null_count
            if "left_out_by" in names:
                for text, count in _values(rows["left_out_by"]).items():
                    self.left_out += LeftOut(*(each * count for each in asdict(LeftOut.of(text)).values()))
        else:
            self.face_source.update(_values(rows["face_source"]))
            if "emotion" in names:
                self.emotion.update(_values(rows["emotion"]))

    def as_dict(self) -> dict[str, int | dict[str, int]]:
        """For JSON."""
        return {
            "status": {name: count for name, count in self.status.items() if count},
            "members": self.members,
            "face_source": {name: count for name, count in self.face_source.items() if count},
            "emotion": {name: count for name, count in self.emotion.items() if count},
            "left_out": asdict(self.left_out),
        }

    @classmethod
    def of(cls, values: dict[str, Any]) -> Counts:
        """The counts that `as_dict` made this of.

        Raises:
            ValueError: It is none.
        """
        tables = [values[name] for name in ("status", "face_source", "emotion", "left_out")]
        numbers = [values["members"], *(number for table in tables for number in table.values())]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("its counts are no counts")
        status, face_source, emotion, left_out = tables
        return cls(Counter(status), values["members"], Counter(face_source), Counter(emotion), LeftOut(**left_out))

    def __iadd__(self, other: Counts) -> Self:
        self.status += other.status
        self.members += other.members
        self.face_source += other.face_source
        self.emotion += other.emotion
        self.left_out += other.left_out
        return self


def written_counts(footer: pq.FileMetaData) -> Counts | None:
    """What a file of inputs says of its rows and of their faces, by its footer alone.

    None where it says nothing, or where another program has written it anew: that keeps what is said, and may have
    changed the rows.

    Raises:
        ValueError, LookupError, TypeError: It says what cannot be.
    """
    written = json.loads((footer.metadata or {}).get(WRITTEN_KEY, b"{}"))
    if "counts" not in written or _data_end(footer) != written.get("data_end"):
        return None
    counts = Counts.of(written["counts"])
    if counts.inputs != footer.num_rows:
        raise ValueError(f"it has {footer.num_rows} rows, and says that it has {counts.inputs}")
    return counts


def _data_end(footer: pq.FileMetaData) -> int:
    """Where the last column of the last rows ends, in bytes from the start of the file."""
    if not footer.num_row_groups:
        return len(_MAGIC)
    column = footer.row_group(footer.num_row_groups - 1).column(footer.num_columns - 1)
    begin = column.data_page_offset if column.dictionary_page_offset is None else column.dictionary_page_offset
    end: int = begin + column.total_compressed_size
    return end


def read_counts(inputs: Path, faces: Path) -> Counts:
    """Count the rows of a file of inputs, and of the faces that go with it.

    Raises:
        OutputConflictError: A file is damaged.
    """
    counts = Counts()
    for part, columns in ((inputs, ("status", "archive", "left_out_by")), (faces, ("face_source", "emotion"))):
        with reading(part):
            file = pq.ParquetFile(part, pre_buffer=False)
            there = [name for name in columns if name in file.schema_arrow.names]
            for rows in file.iter_batches(columns=there):
                counts.add(rows)
    return counts


_MAGIC = b"PAR1"
"""With which a Parquet file begins."""


def _values(column: pa.ChunkedArray | pa.Array) -> dict[Any, int]:
    """How often each value is there, without those that are missing."""
    return {each["values"]: each["counts"] for each in column.value_counts().to_pylist() if each["values"] is not None}
