"""The rows of an inputs table, held against each other and against what they may say; and an index of those of a unit.

The index holds about 100 bytes an input, and of names none.
"""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from motivnet_cli.errors import REMARKS, ErrorType
from motivnet_cli.records import KINDS, STATUSES, LeftOut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from motivnet_cli.inputs.repeats import Repeats
    from motivnet_cli.output.findings import Check, Findings

    Mask = NDArray[np.bool_]

NULL, UNKNOWN = -1, -2
"""Codes of values that are missing, or not of the vocabulary."""
MISSING = -(2**31)
"""Stands for a number that is missing."""
ERROR_TYPES: tuple[ErrorType, ...] = get_args(ErrorType)
IMAGE, VIDEO, ARCHIVE = (KINDS.index(kind) for kind in ("image", "video", "archive"))
_OK, _NO_FACE, _PARTIAL, _FAILED = range(len(STATUSES))
_BAD_PREDICTION = ERROR_TYPES.index("bad_prediction")


def digest_of_name(name: str) -> bytes:
    """128 bits of a name's BLAKE2b."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def name_hash(name: str) -> int:
    """The first 64 of these bits."""
    return int.from_bytes(digest_of_name(name)[:8], "little")


def codes(values: pa.Array, vocabulary: Sequence[str]) -> NDArray[np.int64]:
    """The place of each text in a vocabulary, NULL or UNKNOWN: [N]."""
    found = pc.index_in(values.cast(pa.string()), value_set=pa.array(vocabulary, pa.string())).fill_null(UNKNOWN)
    numbers: NDArray[np.int64] = found.to_numpy(zero_copy_only=False).astype(np.int64)
    numbers[is_null(values)] = NULL
    return numbers


def is_null(values: pa.Array) -> Mask:
    """Which values are missing: [N]."""
    mask: Mask = values.is_null().to_numpy(zero_copy_only=False)
    return mask


def whole_numbers(values: pa.Array) -> NDArray[np.int64]:
    """Integers, MISSING where there is none: [N]."""
    numbers: NDArray[np.int64] = values.fill_null(MISSING).to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def _total(text: str | None) -> int:
    """How many faces a text says are left out; MISSING where it says nothing of it."""
    try:
        return LeftOut.of(text).total
    except ValueError:
        return MISSING


def _are_below(numbers: NDArray[np.int64], least: int) -> Mask:
    below: Mask = (numbers < least) & (numbers != MISSING)
    return below


@dataclass(frozen=True, slots=True)
class Expected:
    """An input that is being done: it has no row yet, but faces that are committed."""

    name: str
    kind: int
    faces: int
    has_gaps: bool


class InputIndex:
    """What the inputs of a unit say of their faces, found by name. Arrays are [N]: first rows, then inputs without one.

    Args:
        first_row: Of the unit, among all rows of the table.
    """

    def __init__(self, rows: _Columns, unfinished: Sequence[tuple[int, Expected]], *, first_row: int) -> None:
        self.first_row = first_row
        self.num_rows = len(rows.hashes)
        extra = [expected for _, expected in unfinished]
        self._extra_names = [each.name for each in extra]
        no_size = [MISSING] * len(extra)
        most = [np.iinfo(np.int64).max] * len(extra)
        self.hashes = _joined(rows.hashes, [name_hash(each.name) for each in extra])
        self.ranks = _joined(rows.ranks, [rank for rank, _ in unfinished])
        self.faces = _joined(rows.faces, [each.faces for each in extra])
        self.frames = _joined(rows.frames, most)
        self.kinds = _joined(rows.kinds, [each.kind for each in extra])
        self.has_gaps = _joined(rows.has_gaps, [each.has_gaps for each in extra]).astype(np.bool_)
        """Faces without a usable answer of the network have no row, and the others keep their numbers."""
        self.widths = _joined(rows.widths, no_size)
        self.heights = _joined(rows.heights, no_size)
        self._order = np.argsort(self.hashes, kind="stable")
        self._sorted = self.hashes[self._order]

    def find(self, names: Sequence[str]) -> NDArray[np.int64]:
        """The place of each input, the first of several of one name; -1 where there is none."""
        wanted = np.fromiter(map(name_hash, names), np.uint64, len(names))
        if not len(self._sorted):
            return np.full(len(wanted), -1, np.int64)
        places = np.searchsorted(self._sorted, wanted)
        places[places == len(self._sorted)] = 0
        found: NDArray[np.int64] = np.where(self._sorted[places] == wanted, self._order[places], -1)
        return found

    def name_without_row(self, place: int) -> str:
        return self._extra_names[place - self.num_rows]


def _joined(rows: array[int], others: Sequence[int]) -> NDArray[np.int64]:
    """[N], of the type of the rows."""
    values = np.array(rows)
    joined: NDArray[np.int64] = np.concatenate([values, np.array(others, values.dtype)])
    return joined


class _Columns:
    """What is kept of every row."""

    def __init__(self) -> None:
        self.hashes = array("Q")
        self.ranks = array("q")
        self.faces = array("q")
        self.frames = array("q")
        self.kinds = array("b")
        self.has_gaps = array("b")
        self.widths = array("i")
        self.heights = array("i")


class InputsCheck:
    """Goes through the rows of the inputs table in their order.

    Args:
        repeats: Is told of every input.
    """

    def __init__(self, findings: Findings, repeats: Repeats) -> None:
        self._findings = findings
        self._repeats = repeats
        self._columns = _Columns()
        self._unfinished: list[tuple[int, Expected]] = []
        self._rank = 0
        self._members: tuple[str, int] | None = None
        """The archive whose members come just now, and how many there were."""
        self.num_rows = 0

    def add(self, rows: pa.RecordBatch) -> list[str]:
        """Check some rows; returns the names of those that are no members of archives."""
        self._check_missing(rows)
        names = rows["input"].fill_null("").to_pylist()
        kinds = codes(rows["kind"], KINDS)
        self._check_status(rows, names, kinds)
        self._check_values(rows, names, kinds)
        archives = rows["archive"].to_pylist() if rows["archive"].null_count < len(rows) else [None] * len(rows)
        self._check_archives(names, archives, kinds, whole_numbers(rows["frames"]))
        self._keep(rows, names, kinds)
        return [name for name, archive in zip(names, archives, strict=True) if archive is None]

    def end_unit(self, expected: Expected | None, *, is_done: bool) -> None:
        """The rows of a unit, or of all of a file, have come.

        Args:
            expected: The input that is being done.
            is_done: No rows of the unit are still to come.
        """
        if is_done:
            self._check_members_ended()
        self._members = None
        if expected is not None:
            self._unfinished.append((self._rank, expected))
            self._rank += 1

    def take_index(self) -> InputIndex:
        """Of the inputs that have come since the last one was taken."""
        index = InputIndex(self._columns, self._unfinished, first_row=self.num_rows - len(self._columns.hashes))
        self._columns, self._unfinished = _Columns(), []
        return index

    def _found(self, check: Check, bad: Mask, names: Sequence[str], what: str) -> None:
        places = np.flatnonzero(bad)
        if len(places):
            self._findings.fault(check, repr(names[places[0]]), what, count=len(places))

    def _check_missing(self, rows: pa.RecordBatch) -> None:
        for name in ("input", "kind", "status", "frames", "faces"):
            if rows[name].null_count:
                row = int(np.flatnonzero(is_null(rows[name]))[0]) + self.num_rows
                what = f"{name} is missing in row {row} of the inputs"
                self._findings.fault("ranges", "inputs", what, count=rows[name].null_count)

    def _check_status(self, rows: pa.RecordBatch, names: Sequence[str], kinds: NDArray[np.int64]) -> None:
        status = codes(rows["status"], STATUSES)
        error_types = codes(rows["error_type"], ERROR_TYPES)
        faces, frames = whole_numbers(rows["faces"]), whole_numbers(rows["frames"])
        is_media = (kinds == IMAGE) | (kinds == VIDEO)
        has_error = error_types != NULL
        is_remark = (kinds == VIDEO) & np.isin(error_types, [ERROR_TYPES.index(remark) for remark in REMARKS])
        for bad, what in (
            (is_null(rows["error"]) == has_error, "of error and error_type, one is missing"),
            (((status == _FAILED) | (status == _PARTIAL)) & ~has_error, "failed or partial, without an error_type"),
            (((status == _OK) | (status == _NO_FACE)) & has_error & ~is_remark, "ok or no_face, with an error"),
            ((status == _OK) & is_media & (faces <= 0), "ok, without faces"),
            (((status == _NO_FACE) | (status == _FAILED)) & (faces > 0), "no_face or failed, with faces"),
            ((kinds == ARCHIVE) & (faces > 0), "an archive with faces, which are its members'"),
            (~is_media & (kinds != ARCHIVE) & (status != _FAILED), "a folder that is not failed"),
            ((faces > 0) & (frames <= 0), "faces, and no frame that was looked at"),
            ((kinds == IMAGE) & (status != _FAILED) & (frames != 1), "a picture that was read, and is not one frame"),
        ):
            self._found("status", bad, names, what)

    def _check_values(self, rows: pa.RecordBatch, names: Sequence[str], kinds: NDArray[np.int64]) -> None:
        status = codes(rows["status"], STATUSES)
        widths, heights = whole_numbers(rows["width"]), whole_numbers(rows["height"])
        offsets = rows["time_offset_s"].to_numpy(zero_copy_only=False)
        hashes = rows["sha256"]
        is_hash = pc.match_substring_regex(hashes, "^[0-9a-f]{64}$").fill_null(True).to_numpy(zero_copy_only=False)
        has_offset = ~is_null(rows["time_offset_s"])
        for bad, what in (
            (kinds == UNKNOWN, "kind is none of those that there are"),
            (status == UNKNOWN, "status is none of those that there are"),
            (codes(rows["error_type"], ERROR_TYPES) == UNKNOWN, "error_type is none of those that there are"),
            (_are_below(whole_numbers(rows["faces"]), 0), "faces is negative"),
            (_are_below(whole_numbers(rows["frames"]), 0), "frames is negative"),
            (_are_below(widths, 1) | _are_below(heights, 1), "a width or height below 1"),
            ((widths == MISSING) != (heights == MISSING), "of width and height, one is missing"),
            (
                (kinds == IMAGE) & (status <= _NO_FACE) & (status >= _OK) & (widths == MISSING),
                "a picture without a size",
            ),
            (has_offset & ~np.isfinite(offsets.astype(np.float64)), "time_offset_s is not a number"),
            (has_offset & (kinds != VIDEO), "time_offset_s of what is no video"),
            (_are_below(whole_numbers(rows["size_bytes"]), 0), "size_bytes is negative"),
            (~is_hash, "sha256 is none"),
            *self._wrong_counts(rows, kinds),
        ):
            self._found("ranges", bad, names, what)

    def _wrong_counts(self, rows: pa.RecordBatch, kinds: NDArray[np.int64]) -> list[tuple[Mask, str]]:
        """Of which inputs the faces left out are wrong, and how; nothing of a former version."""
        if "left_out" not in rows.schema.names:
            return []
        counts = whole_numbers(rows["left_out"])
        said = [_total(text) for text in rows["left_out_by"].to_pylist()]
        return [
            (counts == MISSING, "left_out is missing"),
            (_are_below(counts, 0), "left_out is negative"),
            ((counts >= 0) & (counts != said), "left_out is not what left_out_by says"),
            ((counts > 0) & (kinds != IMAGE) & (kinds != VIDEO), "faces left out of what is no picture and no video"),
        ]

    def _check_archives(
        self,
        names: Sequence[str],
        archives: Sequence[str | None],
        kinds: NDArray[np.int64],
        frames: NDArray[np.int64],
    ) -> None:
        if self._members is None and ARCHIVE not in kinds and not any(archives):
            return
        for name, archive, kind, num_frames in zip(names, archives, kinds.tolist(), frames.tolist(), strict=True):
            if archive is not None:
                if self._members is not None and self._members[0] != archive:
                    self._check_members_ended()
                before = self._members[1] if self._members is not None else 0
                self._members = archive, before + 1
                if not name.startswith(f"{archive}/") or kind != IMAGE:
                    self._findings.fault("archives", repr(name), f"is no picture of the archive {archive!r}")
                continue
            if self._members is not None and (kind != ARCHIVE or self._members[0] != name):
                self._check_members_ended()
            if kind == ARCHIVE:
                num_members = self._members[1] if self._members is not None else 0
                if num_members != num_frames:
                    what = f"says {num_frames} members, and {num_members} stand before it"
                    self._findings.fault("archives", repr(name), what)
                self._members = None

    def _check_members_ended(self) -> None:
        if self._members is not None:
            name, count = self._members
            self._findings.fault("archives", repr(name), f"{count} members are there, and no row of the archive itself")
        self._members = None

    def _keep(self, rows: pa.RecordBatch, names: Sequence[str], kinds: NDArray[np.int64]) -> None:
        columns = self._columns
        self.num_rows += len(rows)
        digests = np.frombuffer(b"".join(map(digest_of_name, names)), "<u8").reshape(-1, 2)
        self._repeats.add(digests)
        columns.hashes.extend(digests[:, 0].tolist())
        columns.ranks.extend(range(self._rank, self._rank + len(rows)))
        self._rank += len(rows)
        columns.faces.extend(whole_numbers(rows["faces"]).tolist())
        columns.frames.extend(whole_numbers(rows["frames"]).tolist())
        columns.kinds.extend(kinds.tolist())
        columns.has_gaps.extend((codes(rows["error_type"], ERROR_TYPES) == _BAD_PREDICTION).tolist())
        columns.widths.extend(whole_numbers(rows["width"]).tolist())
        columns.heights.extend(whole_numbers(rows["height"]).tolist())
