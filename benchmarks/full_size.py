"""The full-size network (1,161,033,863 parameters, random weights, a 4.6 GB .pth) annotates one picture.

The claim is that in fp32 peak memory stays under 1.3 times the file: the weights are mapped, never copied. (In bf16,
which a CPU that has it chooses by itself, they are converted: `cold_start.py`.)
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from checkpoints import write_random_checkpoint
from harness import ROOT, annotate_command, parser, report, say, time_process


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--scratch", help="a folder with 5 GB of room")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-", dir=options.scratch) as scratch:
        weights = Path(scratch) / "MotivNet.pth"
        num_parameters = write_random_checkpoint(weights)
        size_mb = weights.stat().st_size / 1e6
        say(f"{weights.name}: {num_parameters:,} parameters, {size_mb:.0f} MB")
        picture = str(ROOT / "sample_data" / "astronaut.png")
        out = str(Path(scratch) / "p.parquet")
        usage = time_process(annotate_command(picture, "--weights", str(weights), "--precision", "fp32", "--out", out))
        summary = json.loads(usage.stdout)
    ratio = usage.peak_mb / size_mb
    say(f"peak {usage.peak_mb:.0f} MB = {ratio:.2f} of the file (target 1.3); whole process {usage.seconds:.0f} s")
    say(f"{summary['faces']} face in {summary['seconds']:.0f} s on {summary['device']}")
    if num_parameters != 1_161_033_863 or summary["faces"] != 1:
        raise SystemExit("not the full-size network, or not one face")
    measured = {"parameters": num_parameters, "file_mb": round(size_mb), "peak_mb": round(usage.peak_mb)}
    timing = {"process_seconds": round(usage.seconds, 1), "face_seconds": round(summary["seconds"], 1)}
    report(measured | timing | {"peak_over_file": round(ratio, 3), "target": 1.3}, record=options.record)


if __name__ == "__main__":
    main()
