"""Rows to a pipe as they come: JSON lines or an Arrow stream. Nothing is kept, so nothing can be resumed.

A reader that is slow slows the run; one that goes away ends it with BrokenPipeError.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import IO, TYPE_CHECKING

import pyarrow as pa

from motivnet_cli.output.tables import Rows, Tracks
from motivnet_cli.records import (
    FACE_SOURCES,
    MAX_NAMED_FAILURES,
    STATUSES,
    Cursor,
    LeftOut,
    OutputSummary,
    Position,
    Todo,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from motivnet_cli.config import OutputConfig
    from motivnet_cli.inputs.listing import Listing
    from motivnet_cli.output.tables import RowLayout
    from motivnet_cli.records import Batch, FaceSource, InputReport, Prediction, RunRecord, RunState, Status


class StreamOutput:
    """The faces table of one run, written to a pipe.

    Args:
        pipe: Where the rows go.
        config: Its `stream_format` is `jsonl`, one JSON object a face, or `arrow`, an Arrow IPC stream with the record.
        record: Metadata of an Arrow stream.
        layout: The columns, without those that the listing keeps.
    """

    def __init__(self, pipe: IO[bytes], config: OutputConfig, *, record: RunRecord, layout: RowLayout) -> None:
        self._pipe = pipe
        self._config = config
        self._record = record
        self._layout = layout
        self._run: OpenStream | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._run is not None:
            self._run.close()

    def finished_before(self, listing: Listing | None = None) -> None:
        """A pipe holds nothing before."""

    def begin(self, listing: Listing | None) -> OpenStream:
        """Say what the rows will look like."""
        assert listing is not None, "nothing goes on without its inputs"
        layout = self._layout.keeping(listing.kept_types)
        self._run = OpenStream(self._pipe, self._config, listing, layout, self._record)
        return self._run


class OpenStream:
    """A run whose rows go to a pipe; its items are counted as they come."""

    shard = None
    num_resumed = 0

    def __init__(
        self, pipe: IO[bytes], config: OutputConfig, listing: Listing, layout: RowLayout, record: RunRecord
    ) -> None:
        self._pipe = pipe
        self._listing = listing
        self._layout = layout
        self._tracks = Tracks(layout.tracks) if layout.tracks else None
        self._statuses: Counter[Status] = Counter()
        self._emotions: Counter[str] = Counter()
        self._sources: Counter[FaceSource] = Counter()
        self._left_out = LeftOut()
        self._failures: list[InputReport] = []
        self.worker_config = config
        self.num_items = 0
        self._num_done = 0
        """Items, each once: an archive at its end, whatever became of its members."""
        self._are_all_listed = False
        self.skipped: dict[str, int] = {}
        schemas = layout.schemas(record)
        self._rows = Rows(layout, schemas)
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        if config.stream_format == "arrow":
            self._writer = pa.ipc.new_stream(pipe, schemas["faces"])

    def close(self) -> None:
        """End an Arrow stream; a pipe that is closed without it is known to be cut off."""
        if self._writer is not None:
            self._writer.close()

    def rounds(self, stop: Callable[[], bool]) -> Iterator[Iterator[Todo]]:
        """Once every item of the listing, as it is found."""
        yield self._todos()

    def _todos(self) -> Iterator[Todo]:
        for item in self._listing:
            self.num_items += 1
            yield Todo(item, Cursor(Position(item.index)))
        self._are_all_listed = True
        self.skipped = dict(self._listing.skipped)

    def write(self, batch: Batch, prediction: Prediction | None) -> None:
        """Write what is reached, and flush it: a pipe's reader waits for rows, not for parts."""
        self._rows.add(batch, prediction)
        positions, faces, _ = self._rows.take(batch.reached.position)
        if self._tracks is not None:
            faces = self._tracks.follow(positions, faces)
        for report in batch.finished:
            self._num_done += report.archive is None
            self._statuses[report.status] += 1
            self._left_out += report.left_out
            if report.status == "failed" and len(self._failures) < MAX_NAMED_FAILURES:
                self._failures.append(report)
        if not faces.num_rows:
            return
        self._sources.update(faces["face_source"].to_pylist())
        if self._layout.classes:
            self._emotions.update(faces["emotion"].to_pylist())
        if self._writer is not None:
            self._writer.write_table(faces.combine_chunks())
        else:
            self._pipe.write("".join(json.dumps(row) + "\n" for row in faces.to_pylist()).encode())
        self._pipe.flush()

    def complete(self) -> RunState:
        """Nothing is left to do: every row is out."""
        return "finished" if self._are_all_listed and self._num_done >= self.num_items else "stopped"

    def summary(self) -> OutputSummary:
        """What went into the pipe."""
        return OutputSummary(
            inputs=self.num_items,
            done=self._num_done,
            by_status={status: self._statuses[status] for status in STATUSES if self._statuses[status]},
            faces=self._sources.total(),
            face_sources={source: self._sources[source] for source in FACE_SOURCES if self._sources[source]},
            emotions={name: self._emotions[name] for name in self._layout.classes},
            left_out=self._left_out,
            outputs=("-",),
            failures=tuple(self._failures),
        )
