"""Ten million rows to CSV and JSON lines: memory, and the time against polars' own sinks of the same file.

Synthetic rows in the schema of a run without embeddings. Each export runs in a process of its own whose peak is read;
then polars' `sink_csv` and `sink_ndjson` of the same file, in turn. Targets: 1 GB, and 1.5 times polars' time.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from harness import parser, report, say, time_process

from motivnet_cli.output.tables import BATCH_ROWS, METADATA_KEY, TableWriter, faces_schema
from motivnet_cli.records import EMOTIONS

OURS = "import sys; from motivnet_cli.export.predictions import export_predictions as e; e(*sys.argv[1:4])"
POLARS = {
    "csv": "import sys, polars; polars.scan_parquet(sys.argv[1]).sink_csv(sys.argv[3], engine='streaming')",
    "jsonl": "import sys, polars; polars.scan_parquet(sys.argv[1]).sink_ndjson(sys.argv[3], engine='streaming')",
}
PEAK = "; import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def make(path: Path, num_rows: int) -> None:
    rng = np.random.default_rng(0)
    schema = faces_schema(EMOTIONS, 1, "none").with_metadata({METADATA_KEY: json.dumps({"classes": EMOTIONS}).encode()})
    with TableWriter(path, schema) as writer:
        for first in range(0, num_rows, BATCH_ROWS):
            n = min(BATCH_ROWS, num_rows - first)
            chances = rng.dirichlet(np.ones(7), n).astype(np.float32)
            best = chances.argmax(1).astype(np.int32)
            columns = {
                "input": pa.array(
                    [f"photos/{number // 1000:05d}/{number:08d}.jpg" for number in range(first, first + n)]
                ),
                "face": pa.array(np.zeros(n, np.int32)),
                "face_source": pa.array(["detected"] * n).dictionary_encode(),
                "detection_score": pa.array(rng.random(n, np.float32)),
                "emotion": pa.DictionaryArray.from_arrays(pa.array(best), pa.array(EMOTIONS)),
                "confidence": pa.array(chances.max(1)),
                **{side: pa.array(rng.uniform(0, 4000, n).astype(np.float32)) for side in ("x1", "y1", "x2", "y2")},
                **{name: pa.array(chances[:, i]) for i, name in enumerate(EMOTIONS)},
            }
            arrays = [columns.get(field.name, pa.nulls(n, field.type)) for field in schema]
            writer.add(pa.Table.from_arrays(arrays, names=schema.names))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=10_000_000)
    options = arguments.parse_args()
    measured: dict[str, object] = {"rows": options.rows, "target_mb": 1000, "target_ratio": 1.5}
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        source = Path(scratch) / "p.parquet"
        make(source, options.rows)
        say(f"{options.rows} rows, {source.stat().st_size / 1e6:.0f} MB")
        for form in ("csv", "jsonl"):
            took = {}
            for name, code in (("ours", OURS), ("polars", POLARS[form])):
                out = Path(scratch) / f"{name}.{form}"
                run = time_process([sys.executable, "-c", code + PEAK, str(source), form, str(out)])
                took[name] = round(run.seconds, 1)
                took[f"{name}_mb"] = round(int(run.stdout) / 1e3)
                took[f"{name}_bytes"] = out.stat().st_size
                out.unlink()
            ratio = took["ours"] / took["polars"]
            say(f"{form}: {took}; {ratio:.2f} times polars' own time (target 1.5)")
            measured[form] = {**took, "ratio": round(ratio, 3)}
    report(measured, record=options.record)


if __name__ == "__main__":
    main()
