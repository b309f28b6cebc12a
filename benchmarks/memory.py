"""Peak memory of `annotate` with the embedded model on 2,000 and on 20,000 small pictures.

The claim is that memory does not grow with the input: the two peaks lie within 100 MB.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from harness import annotate_command, parser, report, say, time_process
from photos import small_photos


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--counts", type=int, nargs=2, default=(2000, 20000))
    options = arguments.parse_args()
    peaks = {}
    with tempfile.TemporaryDirectory(prefix="motivnet-bench-") as scratch:
        for count in options.counts:
            folder = Path(scratch) / str(count)
            small_photos(folder, count)
            out = Path(scratch) / f"{count}.parquet"
            usage = time_process(annotate_command(str(folder), "--model", "expression-net", "--out", str(out)))
            summary = json.loads(usage.stdout)
            if summary["done"] != count:
                raise SystemExit(f"{summary['done']} inputs were answered for, not {count}")
            peaks[count] = round(usage.peak_mb)
            say(f"{count} pictures: peak {usage.peak_mb:.0f} MB, {usage.seconds:.0f} s, {summary['faces']} faces")
    few, many = options.counts
    growth = peaks[many] - peaks[few]
    say(f"growth {growth} MB (target: within 100 MB)")
    report({"peak_mb": peaks, "growth_mb": growth, "target_mb": 100}, record=options.record)


if __name__ == "__main__":
    main()
