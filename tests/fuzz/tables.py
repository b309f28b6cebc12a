"""What names the inputs: manifests as text, JSON lines and Parquet, and lists."""

from __future__ import annotations

import contextlib
import io
import json
from typing import TYPE_CHECKING

from tests.fuzz.mutate import json_text, raw, told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

_ROWS = [
    {
        "path": f"{number}.jpg",
        "x1": number,
        "y1": 2.5,
        "x2": 100.0,
        "y2": 90,
        "subject": f"s{number}",
        "age": 30 + number,
    }
    for number in range(6)
]
_CELLS = (
    *(
        "",
        '"',
        '""',
        "'",
        ",",
        ";",
        "\t",
        "\r",
        "\n",
        "\0",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "-1",
        "9" * 400,
        "\u202e",
        "=",
    ),
    *("../../etc/passwd", "http://127.0.0.1:9/x.jpg", "file:///etc/passwd", "s3://", "x" * 200_000, "\ufeff", "\ud7ff"),
)


# ---- sound files ----


def csvs() -> Iterator[bytes]:
    for separator in ",;\t|":
        header = separator.join(_ROWS[0])
        rows = [separator.join(map(str, row.values())) for row in _ROWS]
        yield "\n".join([header, *rows, ""]).encode()
    yield "\n".join([header, *rows, ""]).encode("utf-16")
    yield b'path,bbox\r\na.jpg,"[1, 2, 3, 4]"\r\n'


def json_lines() -> Iterator[bytes]:
    yield "\n".join(map(json.dumps, _ROWS)).encode()
    yield b"\n".join(json.dumps({"path": "a.jpg", "bbox": [1, 2, 3, 4], "more": {"a": [1]}}).encode() for _ in range(3))


def parquets() -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures = [{"bytes": b"\x89PNG" + bytes(40), "path": f"{number}.png"} for number in range(6)]
    for table in (pa.Table.from_pylist(_ROWS), pa.table({"image": pictures}), pa.table({"path": ["a.jpg"] * 500})):
        for compression in ("none", "snappy", "zstd"):
            file = io.BytesIO()
            pq.write_table(table, file, compression=compression, row_group_size=3, write_page_checksum=True)
            yield file.getvalue()


def lists() -> Iterator[bytes]:
    yield "".join(f"{number}.jpg\n" for number in range(20)).encode()
    yield "a.jpg\r\n\r\nb\u00fc.jpg\r\n".encode("utf-16")
    yield b"a.jpg\0b\nc.jpg\0"


# ---- mutators ----


def text(rng: Random, data: bytes) -> bytes:
    choice = rng.random()
    if choice < 0.3:
        return raw(rng, data)
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    if choice < 0.4:
        lines[at:at] = [rng.choice(lines)] * rng.choice((1, 100))
    elif choice < 0.5:
        lines[at] = rng.choice((b",", b";", b"a,")) * rng.choice((10, 5000, 200_000))
    else:
        cells = lines[at].split(b",")
        cell = rng.choice(_CELLS).encode("utf-8", "surrogatepass")
        cells[rng.randrange(len(cells))] = rng.choice((cell, b'"' + cell + b'"', b'"' + cell))
        lines[at] = b",".join(cells)
    mutant = b"\n".join(lines)
    mark = rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0"))
    return mutant if rng.random() < 0.9 else mark + mutant


def json_rows(rng: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = json_text(rng, lines[at])
    return b"\n".join(lines)


def parquet(rng: Random, data: bytes) -> bytes:
    """Mostly in the footer or in the headers of pages, for what they say is believed."""
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    choice = rng.random()
    if choice < 0.6:
        return raw(rng, data, first=footer)
    return raw(rng, data, first=4, last=footer) if choice < 0.9 else raw(rng, data)


# ---- judging ----


def _judge_manifest(data: bytes, folder: Path, name: str) -> str:
    from motivnet_cli.config import InputConfig
    from motivnet_cli.errors import MotivNetError
    from motivnet_cli.inputs.listing import Listing

    path = folder / name
    path.write_bytes(data)
    label = "ok"
    for options in ({}, {"keep": ("subject", "age")}):
        try:
            items = list(Listing(InputConfig(manifests=(str(path),), **options)))
        except MotivNetError as error:
            label = told(error)
            continue
        for item in items:
            assert item.input == item.input.encode("utf-8").decode(), item.input
        if name.endswith(".parquet"):
            _read_cells(items)
    return label


def _read_cells(items: list) -> None:
    from motivnet_cli.errors import InputError
    from motivnet_cli.inputs.cells import CellReader

    cells = CellReader()
    with contextlib.closing(cells):
        for item in items[:50]:
            if item.column is not None:
                with contextlib.suppress(InputError):
                    cells.read(item.path, item.column, item.row)


def judge_csv(data: bytes, folder: Path) -> str:
    return _judge_manifest(data, folder, "m.csv")


def judge_json_lines(data: bytes, folder: Path) -> str:
    return _judge_manifest(data, folder, "m.jsonl")


def judge_parquet(data: bytes, folder: Path) -> str:
    return _judge_manifest(data, folder, "m.parquet")


def judge_list(data: bytes, folder: Path) -> str:
    from motivnet_cli.config import InputConfig
    from motivnet_cli.errors import MotivNetError
    from motivnet_cli.inputs.listing import Listing

    path = folder / "list.txt"
    path.write_bytes(data)
    labels = []
    for config in (InputConfig(files_from=(str(path),)), InputConfig(files0_from=(str(path),))):
        try:
            for item in Listing(config):
                assert item.input == item.input.encode("utf-8").decode(), item.input
            labels.append("ok")
        except MotivNetError as error:  # noqa: PERF203 - of two
            labels.append(told(error))
    return labels[0]
