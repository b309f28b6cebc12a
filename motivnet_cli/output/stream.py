"""Rows to a pipe as they come: JSON lines or an Arrow stream. Nothing is kept, so nothing can be resumed.

It stands where `sink.Output` stands in the path of a run. A reader that is slow slows the run; one that goes
away ends it with BrokenPipeError.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from motivnet_cli.output.tables import Rows, Tracks, faces_schema, inputs_schema
from motivnet_cli.records import STATUSES, Cursor, Position, Todo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Self

    from motivnet_cli.config import EmbeddingType, StreamFormat
    from motivnet_cli.faces.track import TrackConfig
    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.records import Batch, InputReport, Prediction

log = logging.getLogger(__name__)

NAMED_FAILURES = 10


class StreamOutput:
    """The faces table of one run, written to a pipe.

    Args:
        pipe: Where the rows go.
        stream_format: `jsonl`, one JSON object a face, or `arrow`, an Arrow IPC stream with the run's record.
        record: Metadata of an Arrow stream.
        tracks: Follow faces through videos; None leaves the `track` column out.
    """

    finished = False
    shard = None
    num_resumed = 0

    def __init__(
        self,
        pipe: IO[bytes],
        stream_format: StreamFormat,
        *,
        record: dict[str, Any],
        classes: Sequence[str],
        embedding_size: int,
        embeddings: EmbeddingType,
        tracks: TrackConfig | None = None,
    ) -> None:
        self._pipe = pipe
        self._format = stream_format
        self._record = record
        self._classes = tuple(classes)
        self._embedding_size = embedding_size
        self._embeddings = embeddings
        self._tracks = Tracks(tracks) if tracks else None
        self._statuses: Counter[str] = Counter()
        self._emotions: Counter[str] = Counter()
        self._num_faces = 0
        self._failures: list[InputReport] = []
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self.num_items = 0
        self.skipped: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._writer is not None:
            self._writer.close()

    def begin(self, listing: Listing) -> None:
        """Say what the rows will look like."""
        self._listing = listing
        schema = faces_schema(
            self._classes,
            self._embedding_size,
            self._embeddings,
            tracks=self._tracks is not None,
            keep=listing.kept_types,
        ).with_metadata({b"motivnet": json.dumps(self._record).encode()})
        self._rows = Rows(self._classes, schema, inputs_schema())
        if self._format == "arrow":
            self._writer = pa.ipc.new_stream(self._pipe, schema)

    def rounds(self, stop: Callable[[], bool]) -> Iterator[Iterator[Todo]]:
        """Once every item of the listing, as it is found."""
        yield self._todos()

    def _todos(self) -> Iterator[Todo]:
        for item in self._listing:
            self.num_items += 1
            yield Todo(item, Cursor(Position(item.index)))
        self.skipped = dict(self._listing.skipped)

    def write(self, batch: Batch, prediction: Prediction | None) -> None:
        """Write what is reached, and flush it: a pipe's reader waits for rows, not for parts."""
        self._rows.add(batch, prediction)
        places, faces, _ = self._rows.take(batch.reached.position)
        if self._tracks is not None:
            faces = self._tracks.follow(places, faces)
        for report in batch.finished:
            self._statuses[report.status] += 1
            if report.status == "failed":
                self._failures.append(report)
                del self._failures[NAMED_FAILURES:]
        if not faces.num_rows:
            return
        self._num_faces += faces.num_rows
        if self._classes:
            self._emotions.update(faces["emotion"].to_pylist())
        if self._writer is not None:
            self._writer.write_table(faces.combine_chunks())
        else:
            self._pipe.write("".join(json.dumps(row) + "\n" for row in faces.to_pylist()).encode())
        self._pipe.flush()

    def complete(self) -> bool:
        """Nothing is left to do: every row is out."""
        self.finished = self._statuses.total() >= self.num_items
        return self.finished

    def summary(self) -> dict[str, Any]:
        """As `sink.Output.summary`."""
        return {
            "inputs": self.num_items,
            "done": self._statuses.total(),
            "by_status": {status: self._statuses[status] for status in STATUSES if self._statuses[status]},
            "faces": self._num_faces,
            "emotions": {name: self._emotions[name] for name in self._classes},
            "failures": tuple(self._failures),
            "outputs": ("-",),
        }
