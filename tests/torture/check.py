"""What must hold after every disturbance. Shares no code with the package: only pyarrow reads the files.

An output is held against that of an undisturbed run: every input answered once, the same rows in the same order, every
file readable, and no file that has no business there.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

TOLERANCE = 1e-5
"""Between float32 outputs of `expression-net` in two batches (docs/output.md)."""
FLOAT16_STEP = 2**-10
"""The relative distance of two neighbours in float16."""
_APPROXIMATE = {"neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "confidence"}
_KEYS = {"faces": ("input", "frame", "face"), "inputs": ("input",)}

Kind = Literal["lost", "doubled", "wrong", "unreadable", "litter", "hang", "unexplained"]


@dataclass(frozen=True)
class Finding:
    """One thing that must not be."""

    kind: Kind
    text: str


Rows = dict[str, list[dict[str, object]]]
"""Both tables, `faces` and `inputs`, row by row."""


# ---- rows -------------------------------------------------------------------------------------------------


def files_of(out: Path) -> dict[str, list[Path]]:
    """The files of both tables of an output, be it a file or a folder."""
    if out.suffix == ".parquet":
        pair = {"faces": out, "inputs": out.with_suffix(".inputs.parquet")}
        return {table: [path] if path.exists() else [] for table, path in pair.items()}
    return {table: sorted((out / table).glob("*.parquet")) for table in ("faces", "inputs")}


def read_rows(out: Path) -> Rows:
    """Every row of an output.

    Raises:
        OSError, pa.ArrowInvalid: A file cannot be read.
    """
    return {table: [row for path in paths for row in _rows_in(path)] for table, paths in files_of(out).items()}


def _rows_in(path: Path) -> list[dict[str, object]]:
    with pq.ParquetFile(path) as file:
        json.loads(file.schema_arrow.metadata[b"motivnet"])  # the run's record is there, and whole
        return file.read().to_pylist()


def compare(out: Path, expected: Rows, *, changed: str | None = None) -> list[Finding]:
    """How an output differs from what an undisturbed run wrote.

    Args:
        changed: An input whose file was another one for a part of the run: its rows are compared with nothing.
    """
    try:
        actual = read_rows(out)
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        return [Finding("unreadable", f"{out.name}: {error}")]
    findings = _disagreements(actual)
    for table, keys in _KEYS.items():
        pair = [[row for row in rows[table] if not _is_of(row, changed)] for rows in (actual, expected)]
        findings += _row_differences(table, keys, *pair)
    names = Counter(row["input"] for row in actual["inputs"])
    if changed is not None and names[changed] != 1:
        findings.append(Finding("doubled" if names[changed] else "lost", f"{changed} is listed {names[changed]} times"))
    return findings


def is_one_version(out: Path, name: str, versions: list[Rows]) -> list[Finding]:
    """What is wrong with the rows of an input whose file changed: they are those of one version, or it says otherwise.

    Args:
        versions: What undisturbed runs say of each content that the file had.
    """
    actual = read_rows(out)
    own = [row for row in actual["inputs"] if row["input"] == name]
    if any(row["status"] in ("failed", "partial") and row["error"] for row in own):
        return []
    unknown = {"size_bytes", "mtime_ns"}  # of the file as it was when the run was planned
    for rows in versions:
        pairs = [
            [[{key: row[key] for key in row if key not in unknown} for row in each[table] if _is_of(row, name)]
             for each in (actual, rows)]
            for table in _KEYS
        ]  # fmt: skip
        if not any(
            _row_differences(table, keys, *pair) for (table, keys), pair in zip(_KEYS.items(), pairs, strict=True)
        ):
            return []
    return [Finding("wrong", f"{name} is {own[0]['status']}, and its rows are of no version of its file")]


def _is_of(row: dict[str, object], name: str | None) -> bool:
    """Whether a row is of an input, or of a member of it where it is an archive."""
    return name is not None and (row["input"] == name or str(row["input"]).startswith(f"{name}/"))


def _row_differences(
    table: str, keys: tuple[str, ...], actual: list[dict[str, object]], expected: list[dict[str, object]]
) -> list[Finding]:
    found, wanted = ([tuple(row.get(key) for key in keys) for row in rows] for rows in (actual, expected))
    more, less = Counter(found) - Counter(wanted), Counter(wanted) - Counter(found)
    findings = [Finding("lost", f"{table}: no row of {key}") for key in less]
    for key in more:
        findings.append(Finding("doubled" if key in set(wanted) else "wrong", f"{table}: a row too many of {key}"))
    if findings:
        return findings
    if found != wanted:
        return [Finding("wrong", f"{table}: rows are in another order")]
    for row, other in zip(actual, expected, strict=True):
        differing = [name for name in other if name not in row or not _is_same(name, row[name], other[name])]
        if differing or len(row) != len(other):
            findings.append(Finding("wrong", f"{table}: {[row[key] for key in keys]} differs in {differing}"))
    return findings


def _is_same(name: str, value: object, other: object) -> bool:
    if name == "embedding" and value is not None and other is not None:
        pairs = zip(value, other, strict=True)
        return all(abs(a - b) <= TOLERANCE + (TOLERANCE + FLOAT16_STEP) * abs(b) for a, b in pairs)
    if name in _APPROXIMATE and value is not None and other is not None:
        return abs(value - other) <= TOLERANCE
    return value == other or (isinstance(value, float) and math.isnan(value) and math.isnan(other))


def _disagreements(rows: Rows) -> list[Finding]:
    """Where the two tables of one output contradict each other."""
    faces = Counter(row["input"] for row in rows["faces"])
    findings = [
        Finding("wrong", f"{row['input']} has {faces[row['input']]} faces and says {row['faces']}")
        for row in rows["inputs"]
        if row["kind"] != "archive" and faces[row["input"]] != (row["faces"] or 0)
    ]
    strangers = set(faces) - {row["input"] for row in rows["inputs"]}
    return findings + [Finding("wrong", f"faces of {name}, which is no input") for name in sorted(map(str, strangers))]


# ---- files that have no business there --------------------------------------------------------------------

_PART = r"part-\d{6}-\d{4}"
_OF_FOLDER = re.compile(
    rf"preds(/faces(/{_PART}\.parquet)?|/inputs(/{_PART}(-end)?\.parquet)?|/\.motivnet(/(run\.json|plan(-[0-9a-f]+)?\.pq|lock|claims(/\d{{6}}\.lock)?))?)?"
)
_OF_FILE = re.compile(r"preds(\.inputs)?\.parquet")


def litter(folder: Path, out: Path, *, empty: tuple[Path, ...] = ()) -> list[Finding]:
    """Files that a finished run has left and does not document, by name.

    Args:
        folder: Where the output lies, and nothing else.
        empty: Folders that have to be empty, such as TMPDIR.
    """
    pattern = _OF_FILE if out.suffix == ".parquet" else _OF_FOLDER
    strays = [path for path in sorted(folder.rglob("*")) if not pattern.fullmatch(path.relative_to(folder).as_posix())]
    strays += [path for each in empty if each.exists() for path in sorted(each.rglob("*")) if path.is_file()]
    return [Finding("litter", str(path)) for path in strays]


def is_stray_key(key: str) -> bool:
    """Whether a bucket holds an object of a finished output that is none of the documented ones."""
    return not (_OF_FILE.fullmatch(key) or _OF_FOLDER.fullmatch(key))
