"""A summary of ten million rows, a workbook that is refused, and a sample of faces for crops: memory.

Synthetic rows in the schema of a run without embeddings: half of them of photographs with two faces, half of videos of
half an hour at 25 frames a second with two people who were tracked. Each command runs in a process of its own whose
peak is read, on a table of a hundredth of the rows (whose workbook is written) and on all. Target: at most 200 MB more.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from harness import parser, report, say, time_process

from motivnet_cli.output.tables import BATCH_ROWS, METADATA_KEY, TableWriter, faces_schema, inputs_schema
from motivnet_cli.records import EMOTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

FPS = 25
ROWS_OF_VIDEO = 2 * FPS * 1800
SUMMARY = ("-m", "motivnet_cli", "summary")
CROPS = (
    "-c",
    "import sys; from motivnet_cli.export import crops; "
    "print(len(crops._chosen(crops.Source(sys.argv[1], embeddings=False), 1000)[0]))",
)
COMMANDS = {
    "by input, smoothed": (*SUMMARY, "{}", "--smooth", "0.6", "--min-duration", "0.5", "--out", "{}.csv"),
    "by track": (*SUMMARY, "{}", "--by", "track", "--out", "{}.parquet"),
    "by a column of 20 values": (*SUMMARY, "{}", "--by", "condition", "--out", "{}.csv"),
    "xlsx, refused": ("-m", "motivnet_cli", "export", "predictions", "{}", "--to", "xlsx", "--out", "{}.xlsx"),
    "crops, 1,000 a class chosen": (*CROPS, "{}"),
}


def make(path: Path, num_rows: int) -> None:
    """Write both tables, a few thousand rows at a time."""
    record = {"classes": EMOTIONS, "video": {"fps": None, "every": None}}
    metadata = {METADATA_KEY: json.dumps(record).encode()}
    keep = {"condition": "string"}
    faces = faces_schema(EMOTIONS, 1, "none", landmarks=False, tracks=True, keep=keep).with_metadata(metadata)
    about = inputs_schema().with_metadata(metadata)
    num_videos = max(1, num_rows // 2 // ROWS_OF_VIDEO)
    num_photos = (num_rows - num_videos * ROWS_OF_VIDEO) // 2
    rng = np.random.default_rng(0)
    with TableWriter(path, faces) as writer:
        for names, numbers, frames in _pieces(num_photos, num_videos):
            writer.add(_rows(rng, faces, names, numbers, frames))
    with TableWriter(path.with_suffix(".inputs.parquet"), about) as writer:
        for first in range(0, num_photos, BATCH_ROWS):
            names = [_photo(n) for n in range(first, min(first + BATCH_ROWS, num_photos))]
            writer.add(_inputs(about, names, "image", 2))
        writer.add(_inputs(about, [_video(n) for n in range(num_videos)], "video", ROWS_OF_VIDEO))


def _photo(number: int) -> str:
    return f"photos/{number // 1000:05d}/{number:08d}.jpg"


def _video(number: int) -> str:
    return f"videos/{number:04d}.mp4"


def _pieces(num_photos: int, num_videos: int) -> Iterator[tuple[list[str], np.ndarray, np.ndarray | None]]:
    """Names of inputs, numbers of faces, and frames (None for photographs)."""
    half = BATCH_ROWS // 2
    for first in range(0, num_photos, half):
        photos = range(first, min(first + half, num_photos))
        yield [_photo(n) for n in photos for _ in range(2)], np.tile([0, 1], len(photos)), None
    for number in range(num_videos):
        for first in range(0, ROWS_OF_VIDEO // 2, half):
            frames = np.arange(first, min(first + half, ROWS_OF_VIDEO // 2)).repeat(2)
            yield [_video(number)] * len(frames), np.tile([0, 1], len(frames) // 2), frames


def _rows(
    rng: np.random.Generator, schema: pa.Schema, names: list[str], numbers: np.ndarray, frames: np.ndarray | None
) -> pa.Table:
    n = len(names)
    chances = rng.dirichlet(np.ones(7), n).astype(np.float32)
    best = chances.argmax(1).astype(np.int32)
    columns = {
        "input": pa.array(names),
        "face": pa.array(numbers.astype(np.int32)),
        "face_source": pa.array(["detected"] * n).dictionary_encode(),
        "emotion": pa.DictionaryArray.from_arrays(pa.array(best), pa.array(EMOTIONS)),
        "confidence": pa.array(chances.max(1)),
        "condition": pa.array([f"condition {len(name) * 7 % 20}" for name in names]),
        "turn": pa.array(np.zeros(n, np.int16)),
        **{side: pa.array(rng.uniform(0, 4000, n).astype(np.float32)) for side in ("x1", "y1", "x2", "y2")},
        **{name: pa.array(chances[:, i]) for i, name in enumerate(EMOTIONS)},
    }
    if frames is not None:
        columns |= {"frame": pa.array(frames), "time_s": pa.array(frames / FPS), "track": pa.array(numbers)}
    arrays = [columns.get(field.name, pa.nulls(n)).cast(field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _inputs(schema: pa.Schema, names: list[str], kind: str, faces: int) -> pa.Table:
    n = len(names)
    columns = {
        "input": pa.array(names),
        "kind": pa.array([kind] * n),
        "status": pa.array(["ok"] * n),
        "faces": pa.array([faces] * n),
        "time_offset_s": pa.array([0.0] * n),
    }
    return pa.Table.from_arrays([columns.get(f.name, pa.nulls(n)).cast(f.type) for f in schema], schema=schema)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=10_000_000)
    options = arguments.parse_args()
    measured: dict[str, object] = {"rows": options.rows, "target_growth_mb": 200}
    peaks: dict[str, dict[str, float]] = {name: {} for name in COMMANDS}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        for num_rows in (options.rows // 100, options.rows):
            source = Path(scratch) / "p.parquet"
            make(source, num_rows)
            say(f"{num_rows:,} rows, {source.stat().st_size / 1e6:.0f} MB")
            for name, command in COMMANDS.items():
                words = [word.replace("{}", str(source)) for word in command]
                run = time_process([sys.executable, *words, *["--overwrite"] * (command[0] == "-m")], allowed=(0, 2))
                peaks[name][f"{num_rows}"] = round(run.peak_mb)
                seconds[name] = round(run.seconds)
                say(f"{name}: {run.peak_mb:.0f} MB, {run.seconds:.0f} s")
            for file in Path(scratch).iterdir():
                file.unlink()
    growth = {name: round(peak[f"{options.rows}"] - peak[f"{options.rows // 100}"]) for name, peak in peaks.items()}
    report({**measured, "peak_mb": peaks, "growth_mb": growth, "seconds": seconds}, record=options.record)


if __name__ == "__main__":
    main()
