"""A video with its predictions drawn on it: the same frames and times, changed where there is a face."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.chosen_inputs import ChosenInputs
from motivnet_cli.export.overlay import write_overlays
from motivnet_cli.export.source import Source
from motivnet_cli.output.tables import METADATA_KEY, faces_schema
from motivnet_cli.records import EMOTIONS
from tests.clips import make_clip, read_number, write_clip
from tests.pictures import SAMPLE_DATA

CLIP = SAMPLE_DATA / "face.mp4"
GROUND = (90, 120, 150)
BOX = {"x1": 100.0, "y1": 60.0, "x2": 180.0, "y2": 130.0}
EACH_SECOND = {"fps": 1.0, "every": None, "start_s": 0.0, "end_s": None}


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
    result = json.loads(run("export", "overlay", CLIP, preds, "--out", tmp_path / "o.mp4", "--json").stdout)
    before, after = frames(CLIP), frames(tmp_path / "o.mp4")
    rows = pl.read_parquet(preds)
    y, x1, x2 = round(rows["y2"][0] - 1), round(rows["x1"][0]), round(rows["x2"][0])  # y2 is exclusive

    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=1e-4)
    assert result["frames"] == len(before)
    assert (result["videos"], result["faces"]) == (1, rows.height) == (1, 2)
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
        write_overlays(str(preds), str(tmp_path / "o.mp4"), [str(tmp_path / "other.mp4")])
    with pytest.raises(ConfigError, match=r"ending in \.mp4"):
        write_overlays(str(preds), str(tmp_path / "o.avi"), [str(CLIP)])
    (tmp_path / "there.mp4").write_bytes(b"x")
    with pytest.raises(ConfigError, match="--overwrite"):
        write_overlays(str(preds), str(tmp_path / "there.mp4"), [str(CLIP)])
    (tmp_path / "no").mkdir()
    (tmp_path / "no" / "face.mp4").write_bytes(b"no video")
    with pytest.raises(ConfigError, match="cannot be drawn: no video"):
        write_overlays(str(preds), str(tmp_path / "o.mp4"), [str(tmp_path / "no" / "face.mp4")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["no", "other.mp4", "there.mp4"]


def plain_clip(path, *, count=30, fps=10, size=(320, 240)):
    """One colour, so that whatever differs from it was drawn."""
    picture = np.full((size[1], size[0], 3), GROUND, np.uint8)
    write_clip(path, ((picture, k / fps) for k in range(count)), fps=fps)
    return path


def written(path, rows, video=EACH_SECOND):
    """Predictions of the rows, which differ from a happy face in BOX at the start of c.mp4 in what they name."""
    face = {"input": "c.mp4", "frame": 0, "time_s": 0.0, "face": 0, "face_source": "detected", "track": 0}
    face |= BOX | {"emotion": "happiness", "confidence": 0.6} | dict.fromkeys(EMOTIONS, 0.1)
    table = pa.Table.from_pylist([face | row for row in rows], schema=faces_schema(EMOTIONS, 4, "none", tracks=True))
    record = {METADATA_KEY: json.dumps({"classes": EMOTIONS, "video": video})} if video else {}
    pq.write_table(table.replace_schema_metadata(record), path)
    return path


def drawn(picture):
    """Which pixels are not of the ground, beyond what the codec does."""
    return np.abs(picture - GROUND).sum(axis=2) > 60


def overlaid(tmp_path, rows, video=EACH_SECOND):
    preds, out = written(tmp_path / "p.parquet", rows, video), tmp_path / "out.mp4"
    return write_overlays(str(preds), str(out), [str(tmp_path / "c.mp4")], overwrite=True), frames(out)


@pytest.mark.parametrize(
    ("video", "rows", "last"),
    [
        (EACH_SECOND, [{}], 9),
        (EACH_SECOND, [{}, {"frame": 10, "time_s": 1.0}], 19),
        (EACH_SECOND | {"end_s": 0.5}, [{}], 14),
        (EACH_SECOND | {"fps": None, "every": 8}, [{}, {"frame": 8, "time_s": 0.8}], 15),
        (EACH_SECOND | {"fps": None}, [{}, {"frame": 1, "time_s": 0.1}], 1),
        (None, [{}, {"frame": 10, "time_s": 1.0}], 24),
    ],
    ids=["empty sample", "two samples", "a part", "every 8th", "every frame", "a table of one's own"],
)
def test_rows_are_shown_until_the_next_sampled_frame(tmp_path, video, rows, last):
    """Without a gap until a sampled frame has no face, or for 1.5 intervals where none is sampled any more."""
    plain_clip(tmp_path / "c.mp4")
    _, after = overlaid(tmp_path, rows, video)

    assert [k for k, (_, picture) in enumerate(after) if drawn(picture).any()] == list(range(last + 1))


def test_a_part_shows_what_was_seen_before_it(tmp_path):
    """The row of a frame before --start is shown from the first frame on; the times that are written begin there."""
    plain_clip(tmp_path / "c.mp4")
    preds = written(tmp_path / "p.parquet", [{"frame": 10, "time_s": 1.0}, {"frame": 30, "time_s": 3.0}])
    result = write_overlays(str(preds), str(tmp_path / "o.mp4"), [str(tmp_path / "c.mp4")], start_s=1.35, end_s=2.65)
    after = frames(tmp_path / "o.mp4")

    assert (result.frames, result.faces) == (13, 1)
    assert [time_s for time_s, _ in after] == pytest.approx([k / 10 - 1.35 for k in range(14, 27)], abs=1e-3)
    assert [drawn(picture).any() for _, picture in after] == [k < 20 for k in range(14, 27)]
    with pytest.raises(ConfigError, match=r"cannot be drawn: no frame is in the part .* the last one is 2\.9 s after"):
        write_overlays(str(preds), str(tmp_path / "p.mp4"), [str(tmp_path / "c.mp4")], start_s=99.0)
    assert not list(tmp_path.glob("*p.mp4*"))


def test_boxes_are_not_drawn_on_another_video(tmp_path):
    """Whose frames have another size than the run saw."""
    plain_clip(tmp_path / "c.mp4", count=3)
    with pytest.raises(ConfigError, match="frame 0 had 640 x 480 pixels in the run and has 320 x 240 now"):
        overlaid(tmp_path, [{"picture_width": 640, "picture_height": 480}])


def test_rows_out_of_order_are_refused(tmp_path):
    """Of a table that says how frames were sampled, rows are streamed."""
    plain_clip(tmp_path / "c.mp4", count=12)
    with pytest.raises(ConfigError, match=r"not in the order of time \(0.5 s after 1 s\)"):
        overlaid(tmp_path, [{"frame": 10, "time_s": 1.0}, {"frame": 5, "time_s": 0.5}])


def test_tracks_have_colours_of_their_own(tmp_path):
    """Two people differ in colour, and each keeps it, whatever number the face has in its frame."""
    plain_clip(tmp_path / "c.mp4")
    second, later = {"face": 1, "track": 1, "x1": 220.0, "x2": 300.0}, {"frame": 10, "time_s": 1.0}
    _, after = overlaid(tmp_path, [{}, second, later | {"face": 1}, second | later | {"face": 0}])
    colours = [picture[80:120, x].mean(axis=0) for picture in (after[2][1], after[12][1]) for x in (101, 221)]

    assert np.abs(colours[0] - colours[1]).sum() > 100
    assert np.abs(colours[0] - colours[2]).sum() < 15
    assert np.abs(colours[1] - colours[3]).sum() < 15


def test_variable_frame_rate_turned_odd_and_with_sound(tmp_path):
    """Times are the source's to 0.1 ms, pictures upright, an odd size one larger, and the sound is there."""
    times = [0.0, 0.02, 0.06, 0.26, 0.3, 1.3, 1.34, 2.5]
    options = {"times_s": times, "pixel_format": "yuv444p", "rotation": 90, "audio_s": 0.3}
    make_clip(tmp_path / "c.mp4", frames=8, size=(161, 121), **options)
    _, after = overlaid(tmp_path, [{"time_s": 99.0}])

    assert [time_s for time_s, _ in after] == pytest.approx(times, abs=1e-4)
    assert [read_number(picture[:121, :161]) for _, picture in after] == list(range(8))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 162, 122)


def test_edges_lie_where_the_box_says(tmp_path):
    """The outline is within the box, ends exclusive; nothing else is changed, also by rows without a box, which count.

    Such a row is left out and said; its neighbour is drawn.
    """
    plain_clip(tmp_path / "c.mp4", count=3)
    edges = [{"x1": None}, {"y2": float("nan")}, {"x2": float("inf")}, {"x1": 180.0, "x2": 100.0}, {"y1": 130.0}]
    broken = [{"face": number, "track": None} | each for number, each in enumerate(edges, 1)]
    result, after = overlaid(tmp_path, [{}, *broken])
    marked = drawn(after[2][1])

    assert (result.faces, result.faces_without_box) == (1, len(broken))
    assert marked[70:120, 100].all()
    assert marked[70:120, 179].all()
    assert marked[129, 110:170].all()
    assert not marked[65:125, 104:176].any()
    assert not marked[:, :96].any()
    assert not marked[70:, 184:].any()


def test_the_input_that_matches_most_of_the_path_is_taken(tmp_path):
    """Of c.mp4 and x/c.mp4 the path decides; of two that only share the file name, none, and both are named."""

    def chosen(clip, *names):
        source = Source(written(tmp_path / "p.parquet", [{"input": name} for name in names]))
        these = ChosenInputs(source, [str(tmp_path / clip)])
        return [name for name in dict.fromkeys(names) if name in these]

    assert chosen("x/c.mp4", "c.mp4", "x/c.mp4", "x/c.mp4") == ["x/c.mp4"]
    assert chosen("c.mp4", "c.mp4") == ["c.mp4"]
    with pytest.raises(ConfigError, match=r"2 inputs .* 'a/c\.mp4', 'b/c\.mp4'"):
        chosen("c.mp4", "a/c.mp4", "b/c.mp4")


def test_what_it_is_made_from_is_never_replaced(tmp_path):
    """Not even with overwrite, and not through another name of the same file."""
    clip = plain_clip(tmp_path / "c.mp4", count=2)
    preds, content = written(tmp_path / "p.parquet", [{}]), clip.read_bytes()
    (tmp_path / "link.mp4").symlink_to(clip)
    for out in ("c.mp4", "link.mp4"):
        with pytest.raises(ConfigError, match="is made from"):
            write_overlays(str(preds), str(tmp_path / out), [str(clip)], overwrite=True)
    assert clip.read_bytes() == content


@pytest.mark.parametrize(
    ("video", "predictions", "out", "said"),
    [
        ("gone.mp4", "p.parquet", "o.mp4", r"0 inputs of .* fit '.*gone\.mp4'; there are 'c\.mp4'"),
        (".", "p.parquet", "o.mp4", r"is a folder: name files, or choose by --where"),
        ("c.mp4", "gone.parquet", "o.mp4", "no predictions at"),
        ("c.mp4", "c.mp4", "o.mp4", "not a Parquet file"),
        ("c.mp4", "other.parquet", "o.mp4", "not a table of predictions"),
        ("c.mp4", "boxless.parquet", "o.mp4", "no column 'x1'"),
        ("c.mp4", "p.parquet", "none/o.mp4", "there is no folder"),
    ],
)
def test_wrong_arguments_are_said(tmp_path, video, predictions, out, said):
    """A sentence for each, and nothing is left behind."""
    plain_clip(tmp_path / "c.mp4", count=2)
    preds = written(tmp_path / "p.parquet", [{}])
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    pl.read_parquet(preds).drop("x1").write_parquet(tmp_path / "boxless.parquet")
    before = sorted(tmp_path.iterdir())

    with pytest.raises(ConfigError, match=said):
        write_overlays(str(tmp_path / predictions), str(tmp_path / out), [str(tmp_path / video)], overwrite=True)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.thorough
def test_killed_it_leaves_nothing_under_the_name(tmp_path):
    """SIGKILL in the middle: what was under the name stays; the next call clears up and is whole."""
    clip = plain_clip(tmp_path / "c.mp4", count=60, size=(1280, 720))
    preds, out = written(tmp_path / "p.parquet", [{}]), tmp_path / "out.mp4"
    out.write_bytes(b"of before")
    code = "from sys import argv; from motivnet_cli.export.overlay import write_overlays as w"
    code += "; w(*argv[1:3], argv[3:], overwrite=True)"
    arguments = [sys.executable, "-c", code, str(preds), str(out), str(clip)]
    child = subprocess.Popen(arguments, cwd=Path(__file__).parents[1])
    deadline = time.monotonic() + 300
    while not (tmp_path / ".out.mp4.tmp").exists():
        assert child.poll() is None, "it ended before it began to write"
        assert time.monotonic() < deadline, "it does not begin to write"
        time.sleep(0.005)
    child.kill()
    child.wait()

    assert out.read_bytes() == b"of before"
    assert (tmp_path / ".out.mp4.tmp").exists()
    assert write_overlays(str(preds), str(out), [str(clip)], overwrite=True).frames == 60
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.mp4", "out.mp4", "p.parquet"]


def test_frames_of_another_size_are_fitted_into_the_first(tmp_path):
    """Where the size changes, the boxes of each frame are drawn in its own pixels, and the whole frame is seen."""
    parts = []
    for number, size in enumerate([(320, 240), (640, 480)]):
        picture = np.full((size[1], size[0], 3), GROUND, np.uint8)
        times = [number + k / 10 for k in range(10)]
        write_clip(tmp_path / "p.ts", [(picture, time_s) for time_s in times], fps=10, options={"bf": "0"})
        parts.append((tmp_path / "p.ts").read_bytes())
    (tmp_path / "c.ts").write_bytes(b"".join(parts))
    box = {"x1": 400.0, "y1": 240.0, "x2": 560.0, "y2": 400.0}
    preds = written(tmp_path / "p.parquet", [{"input": "c.ts", "frame": 10, "time_s": 1.0} | box])
    write_overlays(str(preds), str(tmp_path / "o.mp4"), [str(tmp_path / "c.ts")])
    shown = [picture for _, picture in frames(tmp_path / "o.mp4")]
    marked = drawn(shown[10])

    assert {picture.shape for picture in shown} == {(240, 320, 3)}
    assert not drawn(shown[9]).any()
    assert marked[120:200, 198:203].any(axis=1).all()
    assert marked[198:203, 200:280].any(axis=0).all()
