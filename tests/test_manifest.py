"""What the rows of a manifest say: paths, boxes in the notations of other tools, and columns that pass through."""

from __future__ import annotations

import json
import logging

import polars as pl
import pytest

from motivnet_cli.config import InputConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.inputs.box_columns import parse_box_columns
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output.tables import faces_schema
from motivnet_cli.records import EMOTIONS, FACE_COLUMNS, GivenFace

BOX = (10.0, 20.0, 40.0, 80.0)


@pytest.fixture(autouse=True)
def _info(caplog):
    caplog.set_level(logging.INFO)


def listed(path, text, **inputs):
    path.write_text(text)
    return list(Listing(InputConfig(manifests=(str(path),), **inputs)))


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("x1,y1,x2,y2", "10,20,40,80", "x1, y1, x2, y2 in pixels"),
        ("xmin,ymin,xmax,ymax", "10,20,40,80", "x1, y1, x2, y2 in pixels"),
        ("Left,Top,Right,Bottom", "10,20,40,80", "x1, y1, x2, y2 in pixels"),
        ("x,y,w,h", "10,20,30,60", "x, y, width, height in pixels"),
        ("bbox_x,bbox_y,bbox_w,bbox_h", "10,20,30,60", "x, y, width, height in pixels"),
        ("FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight", "10,20,30,60", "as py-feat writes them"),
        ("bbox", '"[10, 20, 30.0, 60]"', "as COCO or MegaDetector writes them"),
    ],
)
def test_boxes_in_the_notations_of_other_tools(tmp_path, caplog, header, row, said):
    """The columns are recognised by name, and what they are taken for is said."""
    (item,) = listed(tmp_path / "m.csv", f"path,{header}\na.png,{row}\n")

    assert item.given == (GivenFace(BOX),)
    assert said in caplog.text


@pytest.mark.parametrize(
    ("option", "header", "row", "box", "is_relative"),
    [
        ("xywh:a,b,c,d", "a,b,c,d", "10,20,30,60", BOX, False),
        ("xyxy:a,b,c,d", "a,b,c,d", "10,20,40,80", BOX, False),
        ("left,top,width,height", "x1,y1,x2,y2,left,top,width,height", "0,0,1,1,10,20,30,60", BOX, False),
        ("relative-xywh:a,b,c,d", "a,b,c,d", "0.25,0.5,0.25,0.25", (0.25, 0.5, 0.5, 0.75), True),
        ("xyxy:box", "box", '"(10 20 40 80)"', BOX, False),
    ],
)
def test_boxes_in_columns_that_are_named(tmp_path, option, header, row, box, is_relative):
    (item,) = listed(tmp_path / "m.csv", f"path,{header}\na.png,{row}\n", box_columns=option)

    assert item.given == (GivenFace(box, is_relative=is_relative),)


def test_relative_boxes_are_told_by_the_whole_table(tmp_path, caplog):
    """COCO and MegaDetector both write `bbox`; only fractions can all lie between 0 and 1."""
    rows = [{"file": "a.png", "bbox": [0.25, 0.5, 0.25, 0.25]}, {"file": "b.png", "bbox": []}, {"file": "c.png"}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    fractions, *without = listed(tmp_path / "m.jsonl", text)

    assert fractions.given == (GivenFace((0.25, 0.5, 0.5, 0.75), is_relative=True),)
    assert [(item.given, item.problem) for item in without] == [(None, None)] * 2
    assert "as fractions of the picture" in caplog.text
    more = json.dumps({"file": "d.png", "bbox": [10, 20, 30, 60]}) + "\n"
    (first, *_, pixels) = listed(tmp_path / "m.jsonl", text + more)
    assert pixels.given == (GivenFace(BOX),)
    assert first.given == (GivenFace((0.25, 0.5, 0.5, 0.75)),)


def test_box_of_another_length(tmp_path):
    """Three numbers, or five."""
    items = listed(tmp_path / "m.csv", 'path,bbox\na.png,"[1,2,3]"\nb.png,"[1,2,3,4,0.9]"\nc.png,none\n')

    assert [item.problem and item.problem.error_type for item in items] == ["bad_box", "bad_box", None]
    assert "(1,2,3)" in items[0].problem.message


@pytest.mark.parametrize("cell", ["", "NaN", "None", "n/a"])
def test_four_cells_without_a_number_are_no_box(tmp_path, cell):
    """Faces are searched for."""
    (item,) = listed(tmp_path / "m.csv", f"path,x1,y1,x2,y2\na.png{f',{cell}' * 4}\n")

    assert (item.given, item.problem) == (None, None)


def test_decimal_commas(tmp_path):
    """As a spreadsheet in Europe writes numbers; they are not taken for words."""
    (item,) = listed(tmp_path / "m.csv", "path;x1;y1;x2;y2\na.png;10,5;20;40;80,25\n")

    assert item.given == (GivenFace((10.5, 20.0, 40.0, 80.25)),)


@pytest.mark.parametrize("text", ["a,b,c,d", "a,b", "xywh:a,b,c", "xywh:a,,c,d", "abcd:a,b,c,d", "box"])
def test_box_columns_that_say_too_little(text):
    with pytest.raises(ConfigError, match="box-columns"):
        parse_box_columns(text)


def test_box_column_that_is_missing(tmp_path):
    with pytest.raises(ConfigError, match="no column 'c' for boxes; it has 'path', 'a'"):
        listed(tmp_path / "m.csv", "path,a\n", box_columns="xywh:c,a,a,a")


def test_points_of_openface_are_no_box(tmp_path, caplog):
    """It writes no box; the second and third point are none, either, and py-feat's box lies beside all 68."""
    points = [f"{axis}_{number}" for axis in "xy" for number in range(68)]
    values = ", ".join(map(str, range(136)))
    (item,) = listed(tmp_path / "m.csv", f"path, {', '.join(points)}\na.png, {values}\n")

    assert item.given is None
    assert "OpenFace" in caplog.text
    (item,) = listed(
        tmp_path / "f.csv",
        f"input,{','.join(points)},FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight\na.png,{values},10,20,30,60\n",
    )
    assert item.given == (GivenFace(BOX),)


def test_boxes_of_a_video_name_their_frames(tmp_path):
    """By number or time."""
    table = "path,x1,y1,x2,y2,frame,time_s\n{}"
    (item,) = listed(tmp_path / "m.csv", table.format("v.mp4,10,20,40,80,7,\nv.mp4,10,20,40,80,,0.5\nv.mp4,,,,,8,\n"))

    assert item.given == (GivenFace(BOX, frame=7), GivenFace(BOX, time_s=0.5))
    for moment in (",", "-1,", "0.5,nan"):
        (item,) = listed(tmp_path / "m.csv", table.format(f"v.mp4,10,20,40,80,{moment}\n"))
        assert item.problem.error_type == "bad_box"
        assert "row 1" in item.problem.message


def test_path_column_is_found_and_said(tmp_path, caplog):
    (item,) = listed(tmp_path / "m.csv", "n,File Name\n1,a.png\n")

    assert item.input == "a.png"
    assert "paths are read from the column 'File Name'" in caplog.text


def test_kept_column_with_a_name_of_the_output(tmp_path, caplog):
    """It is called by another."""
    (tmp_path / "m.csv").write_text("path,emotion,Frame,who\na.png,sad,3,x\n")
    listing = Listing(InputConfig(manifests=(str(tmp_path / "m.csv"),), keep=("emotion", "who", "Frame")))

    assert listing.kept_types == {"manifest_emotion": "string", "who": "string", "manifest_Frame": "int64"}
    assert "'emotion' of the manifest is called 'manifest_emotion'" in caplog.text
    assert [item.kept for item in listing] == [("sad", "x", 3)]


def test_columns_of_the_output_are_all_known():
    names = faces_schema((*EMOTIONS, "contempt"), 4, "float16", tracks=True).names

    assert sorted(names) == sorted(FACE_COLUMNS)


@pytest.mark.parametrize("keep", [("who", "who"), ("who", "Who"), ("emotion", "manifest_emotion")])
def test_kept_columns_of_one_name(tmp_path, keep):
    (tmp_path / "m.csv").write_text("path,who,Who,emotion,manifest_emotion\na.png,1,2,3,4\n")
    with pytest.raises(ConfigError, match="keep names"):
        Listing(InputConfig(manifests=(str(tmp_path / "m.csv"),), keep=keep))


def test_odd_types_are_kept_as_text(tmp_path):
    """Numbers that a float64 would round among them."""
    table = pl.DataFrame({"path": ["a.png"], "n": [1]}).with_columns(
        pl.duration(seconds=1).alias("long"),
        pl.lit("1.10").cast(pl.Decimal(30, 2)).alias("exact"),
        pl.lit("1.10").cast(pl.Decimal(10, 2)).alias("price"),
        pl.lit(2**63 + 5, pl.UInt64).alias("big"),
    )
    table.write_parquet(tmp_path / "m.parquet")
    keep = ("long", "exact", "price", "big")
    (item,) = Listing(InputConfig(manifests=(str(tmp_path / "m.parquet"),), keep=keep))

    assert item.kept == ("PT1S", "1.10", 1.1, "9223372036854775813")
