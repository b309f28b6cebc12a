"""A video with its predictions drawn on it: the same frames and times, changed where there is a face."""

from __future__ import annotations

import json
import shutil

import av
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.overlay import write_overlay
from tests.pictures import SAMPLE_DATA

CLIP = SAMPLE_DATA / "face.mp4"


def run(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


def frames(path):
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24").astype(int)) for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def preds(tmp_path_factory):
    out = tmp_path_factory.mktemp("overlay") / "p.parquet"
    run("annotate", CLIP, "--model", "expression-net", "--track", "--end", "1.5", "--out", out)
    return out


def test_boxes_are_drawn_where_and_while_there_are_rows(preds, tmp_path):
    """Every frame at its time; the box's edge changes until 1.5 intervals after the last row, the rest does not."""
    result = json.loads(run("export", "overlay", CLIP, preds, "--out", tmp_path / "o.mp4").stdout)
    before, after = frames(CLIP), frames(tmp_path / "o.mp4")
    rows = pl.read_parquet(preds)
    y, x1, x2 = (round(rows[name][0]) for name in ("y2", "x1", "x2"))

    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=1e-4)
    assert result["frames"] == len(before)
    assert result["rows"] == rows.height == 2
    edge = [np.abs(drawn - plain)[y, x1:x2].mean() for (_, plain), (_, drawn) in zip(before, after, strict=True)]
    corner = [np.abs(drawn - plain)[-40:, -40:].mean() for (_, plain), (_, drawn) in zip(before, after, strict=True)]
    shown = [time < 1 + 1.5 for time, _ in before]
    assert min(value for value, is_shown in zip(edge[:20], shown[:20], strict=True) if is_shown) > 20
    assert max((value for value, is_shown in zip(edge, shown, strict=True) if not is_shown), default=0) < 12
    assert max(corner) < 12


def test_what_does_not_fit_is_said_and_leaves_nothing(preds, tmp_path):
    """Another video, another ending, an output that is there, no video at all."""
    shutil.copy(CLIP, tmp_path / "other.mp4")
    with pytest.raises(ConfigError, match=r"face\.mp4"):
        write_overlay(str(tmp_path / "other.mp4"), str(preds), str(tmp_path / "o.mp4"))
    with pytest.raises(ConfigError, match=r"ending in \.mp4"):
        write_overlay(str(CLIP), str(preds), str(tmp_path / "o.avi"))
    (tmp_path / "there.mp4").write_bytes(b"x")
    with pytest.raises(ConfigError, match="--overwrite"):
        write_overlay(str(CLIP), str(preds), str(tmp_path / "there.mp4"))
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "face.mp4").write_bytes(b"no video")
    with pytest.raises(ConfigError, match="cannot be read"):
        write_overlay(str(tmp_path / "no" / "face.mp4"), str(preds), str(tmp_path / "o.mp4"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["no", "other.mp4", "there.mp4"]
