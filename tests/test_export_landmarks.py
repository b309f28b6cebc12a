"""Landmarks in the formats that can hold them: every number worked out by hand, and read by the tool it is for."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from motivnet_cli.evaluation.predictions import read_predictions
from motivnet_cli.export.predictions import export_predictions
from motivnet_cli.records import BOX_COLUMNS, LANDMARK_COLUMNS, LANDMARKS
from tests.exported import HEIGHT, VIDEO, WIDTH, face, output

SEEN = {
    "left_eye": (245.25, 104.5),
    "right_eye": (204.0, 103.125),
    "nose": (224.5, 129.0),
    "left_mouth": (244.75, 140.25),
    "right_mouth": (203.5, 139.0),
}
"""Of a face that looks at the camera: its left is on the right of the picture."""
NOTHING = dict.fromkeys(LANDMARK_COLUMNS)
FORMATS = {"coco": "c.json", "openface": "o", "pyfeat": "f.csv", "deepface": "d.jsonl", "fiftyone": "fo"}


def columns(points):
    return NOTHING | {
        f"{name}_{axis}": at for name, point in points.items() for axis, at in zip("xy", point, strict=True)
    }


@pytest.fixture
def preds(tmp_path):
    """A face whose points are all known; in another picture one without its mouth, with an eye outside, and one that
    was given; and a frame of a video."""
    half = {name: SEEN[name] for name in ("right_eye", "nose")} | {"left_eye": (WIDTH + 3.0, 104.5)}
    rows = [
        face("a.jpg", emotion="anger") | columns(SEEN) | {"roll": 1.875, "yaw": -4.5},
        face("b.jpg", emotion="sadness") | columns(half) | {"roll": 0.25, "yaw": None},
        face("b.jpg", 1, emotion="fear") | columns({}) | {"roll": None, "yaw": None},
        face("v.mp4", frame=3, time_s=0.5, track=2, emotion="anger") | columns(SEEN) | {"roll": 1.875, "yaw": -4.5},
    ]
    return output(tmp_path, rows, {"a.jpg": {}, "b.jpg": {}, "v.mp4": VIDEO})


def test_coco_has_keypoints(preds, tmp_path):
    """Five of x, y and v; what is not known or lies outside the picture is 0, 0, 0, as COCO leaves it unlabelled."""
    coco = json.loads(export_predictions(preds, "coco", tmp_path / "c.json").read_text())
    found = [(note["keypoints"], note["num_keypoints"]) for note in coco["annotations"]]

    whole = [*(245.25, 104.5, 2), *(204.0, 103.125, 2), *(224.5, 129.0, 2), *(244.75, 140.25, 2), *(203.5, 139.0, 2)]
    half = [0, 0, 0, *(204.0, 103.125, 2), *(224.5, 129.0, 2), *[0] * 6]
    assert found == [(whole, 5), (half, 2), ([0] * 15, 0), (whole, 5)]
    names = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
    assert all(category["keypoints"] == names for category in coco["categories"])
    lines = {frozenset(names[end - 1] for end in line) for line in coco["categories"][0]["skeleton"]}
    assert frozenset(("left_eye", "right_eye")) in lines
    assert frozenset(("left_mouth", "right_mouth")) in lines
    assert frozenset().union(*lines) == set(names)


def test_pycocotools_scores_the_keypoints(preds, tmp_path):
    """COCO's own evaluation finds them equal to themselves, and worse by what is drawn away from its place."""
    COCO = pytest.importorskip("pycocotools.coco").COCO
    COCOeval = pytest.importorskip("pycocotools.cocoeval").COCOeval
    coco = COCO(export_predictions(preds, "coco", tmp_path / "c.json"))
    similarities = []
    for shift in (0, 300):
        moved = [dict(note) for note in coco.anns.values()]
        for note in moved:
            note["keypoints"] = [at + shift * (n % 3 == 0) for n, at in enumerate(note["keypoints"])]
        scores = COCOeval(coco, coco.loadRes(moved), "keypoints")
        scores.params.kpt_oks_sigmas = np.full(5, 0.025)
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
        similarities.append(scores.stats[0])

    assert similarities == [1, 0]


def test_datumaro_reads_the_boxes_beside_the_keypoints(preds, tmp_path):
    """Keypoints take no box from it (where it is installed)."""
    dataset = pytest.importorskip("datumaro.components.dataset").Dataset
    for folder in ("annotations", "images"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    out = tmp_path / "set" / "annotations" / "instances_default.json"
    export_predictions(preds, "coco", out, where="frame IS NULL")
    found = {item.id: item.annotations for item in dataset.import_from(str(tmp_path / "set"), "coco_instances")}

    assert {name: len(faces) for name, faces in found.items()} == {"a": 1, "b": 2}


def test_openface_names_what_it_has(preds, tmp_path):
    """Points 30, 48 (left in the picture) and 54 under its names; the eyes and angles under ours, in degrees."""
    folder = export_predictions(preds, "openface", tmp_path / "o")
    picture, video = (pl.read_csv(folder / name).row(0, named=True) for name in ("a.csv", "v.csv"))

    theirs = {"x_30": 224.5, "y_30": 129.0, "x_48": 203.5, "y_48": 139.0, "x_54": 244.75, "y_54": 140.25}
    own = {name: at for name, at in columns(SEEN).items() if "eye" in name} | {"roll": 1.875, "yaw": -4.5}
    for row in (picture, video):
        assert {name: row[name] for name in (*theirs, *own)} == theirs | own
        assert not any(name.startswith(("pose_", "gaze_", "eye_lmk")) for name in row)
        assert sum(name.startswith(("x_", "y_")) for name in row) == 6
    assert pl.read_csv(folder / "b.csv")["x_48"].to_list() == [None, None]


def test_pyfeat_has_all_columns_of_landmarks(preds, tmp_path):
    """All 136 in py-feat's order, since its reader asks for all; 130 are empty. Its angles are not filled with ours."""
    table = pl.read_csv(export_predictions(preds, "pyfeat", tmp_path / "f.csv"))
    points = [name for name in table.columns if name[:2] in ("x_", "y_")]
    row = table.row(0, named=True)

    assert points == [f"{axis}_{number}" for axis in "xy" for number in range(68)]
    known = {name: row[name] for name in points if row[name] is not None}
    assert known == {"x_30": 224.5, "y_30": 129.0, "x_48": 203.5, "y_48": 139.0, "x_54": 244.75, "y_54": 140.25}
    assert (row["left_eye_x"], row["right_eye_x"], row["roll"], row["yaw"]) == (245.25, 204.0, 1.875, -4.5)
    assert not {"Roll", "Yaw", "Pitch"} & set(table.columns)
    assert table["x_30"].to_list() == [224.5, 224.5, None, 224.5]


def test_pyfeat_itself_reads_them(preds, tmp_path):
    """`read_feat` gives a Fex with its landmarks (where py-feat is installed)."""
    read_feat = pytest.importorskip("feat.utils.io").read_feat
    fex = read_feat(str(export_predictions(preds, "pyfeat", tmp_path / "f.csv")))

    assert fex.landmarks.shape == (4, 136)
    x, y = fex.landmarks_dlib68_xy()
    assert (x[0, [30, 48, 54]].tolist(), y[0, [30, 48, 54]].tolist()) == (
        [224.5, 203.5, 244.75],
        [129.0, 139.0, 140.25],
    )


def test_boxes_beside_the_points_are_read_back(preds, tmp_path):
    """What reads py-feat's tables takes its box from its box, not from two of the points."""
    boxes = read_predictions(str(export_predictions(preds, "pyfeat", tmp_path / "f.csv", where="frame IS NULL"))).boxes

    expected = pl.read_parquet(preds).filter(pl.col("frame").is_null()).select(BOX_COLUMNS)
    np.testing.assert_allclose(boxes, expected.to_numpy(), atol=1e-4)


def test_deepface_has_them_in_the_region(preds, tmp_path):
    """[x, y] in whole pixels, the person's own left; null for one that is not known."""
    lines = export_predictions(preds, "deepface", tmp_path / "d.jsonl").read_text().splitlines()
    regions = [json.loads(line)["region"] for line in lines]

    names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    assert [regions[0][name] for name in names] == [[245, 104], [204, 103], [224, 129], [245, 140], [204, 139]]
    assert [regions[1][name] for name in names[2:]] == [[224, 129], None, None]
    assert [regions[2][name] for name in names] == [None] * 5


def test_fiftyone_has_them_as_attributes(preds, tmp_path):
    """In pixels, beside the probabilities; without those that are not known."""
    folder = export_predictions(preds, "fiftyone", tmp_path / "fo")
    labels = json.loads((folder / "images" / "labels.json").read_text())["labels"]
    frames = json.loads((folder / "videos" / "labels" / "000000000.json").read_text())["frames"]
    whole, half, given = (each["attributes"] for picture in labels.values() for each in picture)
    (seen,) = frames["4"]["objects"]["objects"]

    expected = columns(SEEN)
    assert {name: whole[name] for name in expected} == expected
    assert [name for name in half if name in expected] == ["left_eye_x", "left_eye_y", *LANDMARK_COLUMNS[2:6]]
    assert not set(expected) & set(given)
    assert expected.items() <= {each["name"]: each["value"] for each in seen["attrs"]["attrs"]}.items()


def test_fiftyone_itself_imports_them(preds, tmp_path):
    """Its own importers give the attributes of pictures and videos (where it is installed)."""
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    folder = export_predictions(preds, "fiftyone", tmp_path / "fo")
    with importers.FiftyOneImageDetectionDatasetImporter(str(folder / "images"), data_path="data.json") as images:
        ((_, _, picture), _) = list(images)
    with importers.FiftyOneVideoLabelsDatasetImporter(str(folder / "videos")) as videos:
        ((_, _, _, frames),) = list(videos)

    for detection in (picture.detections[0], frames[4]["detections"].detections[0]):
        assert {name: detection[name] for name in LANDMARK_COLUMNS} == columns(SEEN)


def test_label_studio_shows_the_points_of_pictures(preds, tmp_path):
    """A region for each that lies in the picture, in percent of it, under the face that it belongs to."""
    folder = export_predictions(preds, "label-studio", tmp_path / "ls")
    setup = ElementTree.parse(folder / "images.xml").find("KeyPointLabels[@name='landmarks'][@toName='image']")
    tasks = json.loads((folder / "images.json").read_text())
    whole, half = (task["predictions"][0]["result"] for task in tasks)
    points = [region for region in whole if region["type"] == "keypointlabels"]

    assert [label.get("value") for label in setup] == list(LANDMARKS)
    assert [point["value"]["keypointlabels"] for point in points] == [[name] for name in LANDMARKS]
    places = [(point["value"]["x"] * WIDTH / 100, point["value"]["y"] * HEIGHT / 100) for point in points]
    np.testing.assert_allclose(places, list(SEEN.values()), atol=1e-6)
    assert {(p["parentID"], p["from_name"], p["original_width"]) for p in points} == {("face0", "landmarks", WIDTH)}
    assert [r["value"].get("keypointlabels") for r in half] == [None, ["right_eye"], ["nose"], None]
    assert len({region["id"] for region in half}) == len(half)
    videos = (folder / "videos.json").read_text(), (folder / "videos.xml").read_text()
    assert not any("eye" in text for text in videos)


def test_label_studio_itself_finds_the_points_valid(preds, tmp_path):
    """Its own library accepts setup and predictions (where it is installed)."""
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface
    folder = export_predictions(preds, "label-studio", tmp_path / "ls")
    setup = interface((folder / "images.xml").read_text())
    setup.validate()
    for task in json.loads((folder / "images.json").read_text()):
        assert setup.validate_prediction(task["predictions"][0], return_errors=True) == []


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "arrow", "hf", "npz"])
def test_tables_hold_every_point(preds, tmp_path, form):
    """Formats of all columns have those of the landmarks, too; null stays null, but in npz NaN."""
    out = export_predictions(preds, form, tmp_path / f"x.{form}")
    read = {
        "csv": pl.read_csv,
        "jsonl": pl.read_ndjson,
        "parquet": pl.read_parquet,
        "arrow": lambda path: pl.from_arrow(feather.read_table(path)),
        "hf": lambda path: pl.read_parquet(path / "data"),
        "npz": lambda path: pl.DataFrame({name: np.load(path)[name] for name in LANDMARK_COLUMNS}).fill_nan(None),
    }
    table = read[form](out)

    expected = pl.read_parquet(preds).select(LANDMARK_COLUMNS)
    assert table.select(LANDMARK_COLUMNS).cast(pl.Float32).equals(expected)


@pytest.mark.parametrize("form", [*FORMATS, "label-studio"])
def test_a_table_without_landmarks_is_exported_without(preds, tmp_path, form):
    """Of `--no-landmarks` or a former version: no key, column or tag of theirs is written."""
    lacking = [*LANDMARK_COLUMNS, "roll", "yaw"]
    table = pq.read_table(preds)
    pq.write_table(table.drop_columns([name for name in lacking if name in table.column_names]), preds)
    out = export_predictions(preds, form, tmp_path / FORMATS.get(form, "ls"))
    text = "".join(path.read_text() for path in (out, *out.rglob("*")) if path.is_file())

    assert text
    assert not [word for word in ("keypoints", "KeyPoint", "left_eye", "mouth", "x_30", "roll") if word in text]
