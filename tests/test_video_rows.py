"""Rows of videos: the same face however it is stored; and all that is made of rows agrees on where nobody is seen."""

from __future__ import annotations

import csv
import json
import re
import shutil
from fractions import Fraction
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import polars as pl
import pytest
from PIL import Image

from motivnet_cli.export.filters import NO_FILTERS
from motivnet_cli.export.overlay import write_overlays
from motivnet_cli.export.predictions import export_predictions
from motivnet_cli.export.source import Source
from motivnet_cli.report.timelines import timelines
from tests.clips import SAMPLE_DATA, can_encode, encode_yuv, face_clip
from tests.runs import finish

encode = partial(encode_yuv, rate=1, crf=12)
CASES = Path(__file__).parent / "cases" / "video"
LENGTHS = {
    "hlg.mp4": 2,
    "pq.mp4": 2,
    "resize.ts": 8,
    "sar2.mp4": 3,
    "selfie_hflip.mp4": 3,
    "transpose.mp4": 3,
    "vflip.mp4": 3,
}
"""Clips of 25 frames a second, and their seconds."""
SIZE = 320, 240
LUMA = 0.2627, 0.6780, 0.0593
"""Of BT.2020."""


def pictures(num=2):
    """The astronaut's portrait, wide, moving to the right: RGB [H, W, 3]."""
    with Image.open(SAMPLE_DATA / "astronaut.png") as image:
        head = image.convert("RGB").crop((120, 0, 340, 220))
    for number in range(num):
        picture = Image.new("RGB", SIZE, (70, 110, 150))
        picture.paste(head, (30 + 20 * number, 10))
        yield picture


def yuv(picture, pixel_format="yuv420p"):
    return av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24").reformat(format=pixel_format)


def hlg(picture):
    """The picture on a display whose white is 203 cd/m2, as HLG in the colours of BT.2020: yuv444p10."""
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    display = (np.asarray(picture) / 255) ** 2.4 @ to_bt2020.T * 203 / 1000
    scene = display * np.maximum(display @ LUMA, 1e-9)[..., None] ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    red, green, blue = np.moveaxis(np.where(scene <= 1 / 12, np.sqrt(3 * scene), high), -1, 0)
    luma = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    planes = 64 + 876 * luma, 512 + 896 * (blue - luma) / (2 * 0.9407), 512 + 896 * (red - luma) / (2 * 0.7373)
    frame = av.VideoFrame(*picture.size, "yuv444p10le")
    for plane, codes in zip(frame.planes, planes, strict=True):
        padded = np.zeros((picture.height, plane.line_size // 2), np.uint16)
        padded[:, : picture.width] = np.round(codes)
        plane.update(padded)
    return frame


def test_a_face_is_the_same_however_it_is_stored(tmp_path):
    """Squeezed pixels and HDR: the same box in displayed pixels, the same emotion, and nearly the same embedding."""
    if not can_encode("libx265"):
        pytest.skip("no encoder libx265 here")
    folder = tmp_path / "in"
    folder.mkdir()
    shown = list(pictures())
    encode(folder / "square.mp4", [yuv(picture) for picture in shown])
    narrow = [picture.resize((SIZE[0] // 2, SIZE[1])) for picture in shown]
    encode(folder / "squeezed.mp4", [yuv(picture) for picture in narrow], pixel_aspect=Fraction(2))
    params = "log-level=none:pools=1:frame-threads=1:keyint=1:bframes=0"
    params += ":colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc"
    encode(folder / "hdr.mp4", [hlg(picture) for picture in shown], codec="libx265", options={"x265-params": params})
    finish(folder, tmp_path / "o.parquet", "--faces", "detect")
    rows = pl.read_parquet(tmp_path / "o.parquet").partition_by("input", as_dict=True)
    inputs = pl.read_parquet(tmp_path / "o.inputs.parquet")

    assert set(inputs["status"]) == {"ok"}
    assert inputs.select("width", "height").unique().rows() == [SIZE]
    square = rows["square.mp4",]
    for name in ("squeezed.mp4", "hdr.mp4"):
        other = rows[name,]
        assert other.select("frame", "time_s", "emotion", "picture_width", "picture_height").equals(
            square.select("frame", "time_s", "emotion", "picture_width", "picture_height")
        )
        for side in ("x1", "y1", "x2", "y2"):
            assert other[side].to_list() == pytest.approx(square[side].to_list(), abs=2)
        a, b = (table["embedding"].to_numpy().astype(np.float64) for table in (square, other))
        assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.98


def test_videos_from_the_field(tmp_path):
    """Mirrored, squeezed, HDR and resized clips: the face begins 32 pixels to the right of 30 + 2 n in frame n."""
    for name in LENGTHS:
        shutil.copy(CASES / name, tmp_path)
    finish(tmp_path, tmp_path / "o.parquet", "--faces", "detect")
    rows = pl.read_parquet(tmp_path / "o.parquet")
    inputs = pl.read_parquet(tmp_path / "o.inputs.parquet")

    assert dict(inputs.select("input", "frames").iter_rows()) == LENGTHS
    assert inputs.select("status", "width", "height").unique().rows() == [("ok", 640, 360)]
    frames = rows.select("input", "frame").rows()
    assert frames == [(name, 25 * second) for name in sorted(LENGTHS) for second in range(LENGTHS[name])]
    assert set(rows["emotion"]) == {"happiness"}
    expected = rows.select((62 + 2 * pl.col("frame")) * pl.col("picture_width") / 640).to_series()
    assert rows["x1"].to_list() == pytest.approx(expected.to_list(), abs=3)
    assert rows.filter(picture_width=320)["frame"].to_list() == [100, 125, 150, 175]


AWAY = 1.0, 2.0
"""From and to, in seconds, nobody is seen."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A clip in which one person is away for a second, and its output."""
    folder = tmp_path_factory.mktemp("rows")
    face_clip(folder / "clip.mp4", seconds=3, fps=10, gaps=[AWAY], travel=(20, 0))
    finish(folder / "clip.mp4", folder / "o.parquet", "--fps", "5", "--track", "--faces", "detect")
    return folder / "clip.mp4", folder / "o.parquet"


def test_rows_and_tracks_leave_out_where_nobody_is_seen(run):
    """No row lies in the absence, and the track goes on after it."""
    rows = pl.read_parquet(run[1])

    assert rows["time_s"].to_list() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 2, 2.2, 2.4, 2.6, 2.8])
    assert set(rows["face_source"]) == {"detected"}
    assert set(rows["track"]) == {0}


def spans_of(text):
    """From and to, in seconds, of every cue of WebVTT and SRT and of every annotation of ELAN."""
    if "<ANNOTATION_DOCUMENT" not in text:
        cues = re.findall(r"00:00:(\S+) --> 00:00:(\S+)", text)
        return [tuple(float(time.replace(",", ".")) for time in cue) for cue in cues]
    document = ElementTree.fromstring(text)
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) / 1000 for slot in document.iter("TIME_SLOT")}
    annotations = document.iter("ALIGNABLE_ANNOTATION")
    return [tuple(slots[each.get(f"TIME_SLOT_REF{end}")] for end in (1, 2)) for each in annotations]


@pytest.mark.parametrize(("kind", "suffix"), [("webvtt", ".vtt"), ("srt", ".srt"), ("elan", ".eaf")])
def test_captions_leave_out_where_nobody_is_seen(run, tmp_path, kind, suffix):
    """No cue and no annotation lies in the absence or goes over it; one ends as it begins, one begins as it ends."""
    spans = spans_of(export_predictions(run[1], kind, tmp_path / f"clip{suffix}").read_text())
    start, end = AWAY

    assert {0.0, end} <= {span[0] for span in spans}
    assert {start, 3.0} <= {span[1] for span in spans}
    assert not [span for span in spans if span[0] < end and span[1] > start]


def bars_of(source):
    """Start and end in seconds of every bar of the only video's timeline."""
    [timeline], _ = timelines(source, NO_FILTERS)
    span, bars = timeline.span, [bar for lane in timeline.lanes for bar in lane.bars]
    length_s = span.last_s - span.first_s
    return [(span.first_s + bar.left * length_s, span.first_s + (bar.left + bar.width) * length_s) for bar in bars]


def test_the_report_leaves_out_where_nobody_is_seen(run):
    """No bar of the timeline lies in the absence by more than half the time of a frame."""
    bars = bars_of(Source(run[1]))

    assert bars
    for start, end in bars:
        assert end <= AWAY[0] + 1e-6 or start >= AWAY[1] - 0.1 - 1e-6


def test_a_timeline_of_few_faces_is_not_filled(run):
    """Faces that are seen far from each other are thin bars: a frame stands for the time until the next."""
    source = Source(run[1], where="time_s = 0 OR time_s > 2.7")

    assert bars_of(source) == [
        pytest.approx((0, 0.2), abs=0.01),
        pytest.approx((2.8, 3.0), abs=0.01),
    ]


def test_other_exports_leave_out_where_nobody_is_seen(run, tmp_path):
    """COCO, Label Studio and OpenFace have the frames with rows and no others; an overlay draws nothing between."""
    numbers = [0, 2, 4, 6, 8, 20, 22, 24, 26, 28]
    coco = json.loads(export_predictions(run[1], "coco", tmp_path / "c.json").read_text())
    (task,) = json.loads((export_predictions(run[1], "label-studio", tmp_path / "ls") / "videos.json").read_text())
    regions = [region["value"]["sequence"] for region in task["predictions"][0]["result"]]
    (table,) = export_predictions(run[1], "openface", tmp_path / "of").rglob("*.csv")
    with table.open() as file:
        of_openface = [int(row["frame"]) - 1 for row in csv.DictReader(file, skipinitialspace=True)]

    assert [image["frame_id"] for image in coco["images"]] == of_openface == numbers
    assert sorted(key["frame"] - 1 for keys in regions for key in keys) == numbers
    ends = [keys[-1] for keys in regions if keys[-1]["frame"] == 9]
    assert [end["enabled"] for end in ends] == [False]
    write_overlays(str(run[1]), str(tmp_path / "o.mp4"), [str(run[0])])
    with av.open(str(run[0])) as before, av.open(str(tmp_path / "o.mp4")) as after:
        drawn = [
            np.abs(a.to_ndarray(format="rgb24").astype(int) - b.to_ndarray(format="rgb24")).max() > 100
            for a, b in zip(before.decode(video=0), after.decode(video=0), strict=True)
        ]
    assert drawn == [not AWAY[0] <= number / 10 < AWAY[1] for number in range(30)]


def test_a_track_goes_on_where_the_size_changes(tmp_path):
    """A face that stays where it is keeps its track, though its pixels are others."""
    parts = []
    for number, size in enumerate([(320, 240), (960, 720), (320, 240)]):
        frames = [yuv(picture.resize(size)) for picture in list(pictures(1)) * 3]
        with av.open(str(tmp_path / "part.ts"), "w") as container:
            stream = container.add_stream("libx264", rate=1)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.options = {"preset": "veryfast", "bf": "0"}
            for k, frame in enumerate(frames):
                frame.pts, frame.time_base = 3 * number + k, Fraction(1, 1)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        parts.append((tmp_path / "part.ts").read_bytes())
    (tmp_path / "c.ts").write_bytes(b"".join(parts))
    finish(tmp_path / "c.ts", tmp_path / "o.parquet", "--frames", "all", "--track", "--faces", "detect")
    rows = pl.read_parquet(tmp_path / "o.parquet")

    assert rows["picture_width"].to_list() == [320] * 3 + [960] * 3 + [320] * 3
    assert (rows["x1"] / rows["picture_width"]).to_list() == pytest.approx([rows["x1"][0] / 320] * 9, abs=0.01)
    assert rows["track"].to_list() == [0] * 9
