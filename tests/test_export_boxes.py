"""Boxes for annotation tools: each format is opened by its tool, or held against its description."""

from __future__ import annotations

import json
import tracemalloc
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.export.boxes import write_coco, write_fiftyone, write_label_studio
from motivnet_cli.export.predictions import export_predictions
from motivnet_cli.export.source import Source
from motivnet_cli.records import BOX_COLUMNS, EMOTIONS, SIZE_COLUMNS
from tests.exported import (
    HEIGHT,
    VIDEO,
    WIDTH,
    assert_same_faces,
    clip,
    face,
    files_written,
    mixed_output,
    output,
    rows_of,
)


@pytest.fixture
def mixed(tmp_path):
    """The path of an output with pictures, an archive and a video."""
    return mixed_output(tmp_path)


def test_pycocotools_reads_every_box_and_probability(mixed, tmp_path):
    """COCO's own reader finds all faces: exact boxes and float32 probabilities, categories by emotion."""
    COCO = pytest.importorskip("pycocotools.coco").COCO
    coco = COCO(export_predictions(mixed, "coco", tmp_path / "faces.json"))
    rows = rows_of(mixed)
    annotations = coco.loadAnns(coco.getAnnIds())
    corners = [(x, y, x + w, y + h) for x, y, w, h in (each["bbox"] for each in annotations)]

    assert_same_faces(list(zip(corners, (each["attributes"] for each in annotations), strict=True)), rows)
    categories = [coco.loadCats(each["category_id"])[0]["name"] for each in annotations]
    assert categories == [row["emotion"] for row in rows]
    assert [np.float32(each["score"]) for each in annotations] == [row["confidence"] for row in rows]
    assert [coco.loadImgs(each["image_id"])[0]["file_name"] for each in annotations] == [row["input"] for row in rows]
    assert [each.get("track_id") for each in annotations] == [row["track"] for row in rows]
    detections = coco.loadRes(annotations)
    assert len(detections.getAnnIds()) == len(rows)


def test_datumaro_reads_the_boxes_of_pictures(mixed, tmp_path):
    """It passes over annotations without a segmentation, and rounds boxes to hundredths (where it is installed)."""
    dataset = pytest.importorskip("datumaro.components.dataset").Dataset
    for folder in ("annotations", "images"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    out = tmp_path / "set" / "annotations" / "instances_default.json"
    export_predictions(mixed, "coco", out, where="frame IS NULL")
    found = {item.id: item.annotations for item in dataset.import_from(str(tmp_path / "set"), "coco_instances")}
    rows = [row for row in rows_of(mixed) if row["frame"] is None]
    faces = sorted((a for name in ("a b", "ö/c") for a in found[name]), key=lambda a: a.id)
    boxes = [((a.x, a.y, a.x + a.w, a.y + a.h), a.attributes) for a in faces]

    assert sorted(found) == ["a b", "none", "ö/c"]
    assert_same_faces(boxes, rows, tolerance=0.02)


def test_coco_lists_what_was_looked_at(mixed, tmp_path):
    """A picture without faces is an image, a failed one or an archive is not, and a video is its frames with faces."""
    coco = json.loads(export_predictions(mixed, "coco", tmp_path / "faces.json").read_text("utf-8"))

    assert [image["file_name"] for image in coco["images"]] == ["a b.jpg", "none.jpg", *["clip.mp4"] * 3, "ö/c.png"]
    assert [(i["frame_id"], i["time_s"]) for i in coco["images"] if "video_id" in i] == [(0, 0.0), (25, 1.0), (50, 2.0)]
    assert coco["videos"] == [{"id": 1, "name": "clip.mp4", "width": WIDTH, "height": HEIGHT}]
    assert [category["name"] for category in coco["categories"]] == list(EMOTIONS)
    assert all(note["segmentation"] == [] for note in coco["annotations"])  # without it, Datumaro takes none


def test_a_filtered_picture_is_not_shown_as_empty(mixed, tmp_path):
    """With a filter, a picture whose faces are all left out is left out, and one without faces stays."""
    out = export_predictions(mixed, "coco", tmp_path / "c.json", where="input = 'ö/c.png'")
    images = json.loads(out.read_text("utf-8"))["images"]

    assert [image["file_name"] for image in images] == ["none.jpg", "ö/c.png"]


def test_a_model_without_emotions_has_one_category(tmp_path):
    """Boxes of an encoder alone are of the category `face`, scored by the detector."""
    COCO = pytest.importorskip("pycocotools.coco").COCO
    rows = [face("a.jpg"), face("a.jpg", 1)]
    coco = COCO(export_predictions(output(tmp_path, rows, {"a.jpg": {}}, classes=()), "coco", tmp_path / "c.json"))

    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["face"]
    assert [np.float32(each["score"]) for each in coco.anns.values()] == [row["detection_score"] for row in rows]


def test_a_table_without_inputs_still_gives_boxes(tmp_path):
    """Without an inputs table, a size that the rows do not say is not known: enough for COCO, but not for shares."""
    COCO = pytest.importorskip("pycocotools.coco").COCO
    path = output(tmp_path, [face("a.jpg", size=(None, None)), *clip("b.mp4", ["fear"])])
    path.with_suffix(".inputs.parquet").unlink()
    coco = COCO(export_predictions(path, "coco", tmp_path / "c.json"))

    assert [image["file_name"] for image in coco.imgs.values()] == ["a.jpg", "b.mp4"]
    assert [(image["width"], image["height"]) for image in coco.imgs.values()] == [(None, None), (WIDTH, HEIGHT)]
    with pytest.raises(ConfigError, match=r"size of 'a\.jpg' is not known"):
        export_predictions(path, "fiftyone", tmp_path / "fo")
    assert not (tmp_path / "fo").exists()


def resized_output(folder):
    """A video whose frames are 640 x 480, then 320 x 240, then 640 x 480; the face fills the left upper quarter."""
    sizes = [(640, 480), (320, 240), (640, 480)]
    faces = [
        face("v.mp4", frame=25 * n, time_s=n, emotion="fear", track=0, box=(0, 0, width / 2, height / 2), size=size)
        for n, size in enumerate(sizes)
        for width, height in [size]
    ]
    return output(folder, faces, {"v.mp4": VIDEO | {"width": 640, "height": 480}})


def test_boxes_are_relative_to_their_own_frame(tmp_path):
    """Where the size changes within a video, each format uses the size of the row's frame."""
    path = resized_output(tmp_path)
    coco = json.loads(export_predictions(path, "coco", tmp_path / "c.json").read_text())
    labels = export_predictions(path, "fiftyone", tmp_path / "fo") / "videos" / "labels" / "000000000.json"
    boxes = [
        [thing["bounding_box"] for thing in frame["objects"]["objects"]]
        for frame in json.loads(labels.read_text())["frames"].values()
    ]
    tasks = json.loads((export_predictions(path, "label-studio", tmp_path / "ls") / "videos.json").read_text())
    (region,) = tasks[0]["predictions"][0]["result"]

    assert [(image["width"], image["height"]) for image in coco["images"]] == [(640, 480), (320, 240), (640, 480)]
    assert [note["bbox"] for note in coco["annotations"]] == [[0, 0, 320, 240], [0, 0, 160, 120], [0, 0, 320, 240]]
    quarter = {"top_left": {"x": 0, "y": 0}, "bottom_right": {"x": 0.5, "y": 0.5}}
    assert boxes == [[quarter]] * 3
    assert [[key[side] for side in ("x", "y", "width", "height")] for key in region["value"]["sequence"]] == [
        [0, 0, 50, 50]
    ] * 3


def test_the_size_of_frames_is_not_left_out(tmp_path):
    """Without the columns of the size, a box would be held against another frame's: they are asked for."""
    columns = ["input", "frame", "time_s", "face", "track", *BOX_COLUMNS, "emotion", "confidence", *EMOTIONS]
    with pytest.raises(ConfigError, match="needs the columns picture_width, picture_height"):
        write_fiftyone(Source(resized_output(tmp_path), columns=columns), tmp_path / "fo")


def test_tables_of_the_first_schema_are_still_exported(tmp_path):
    """Without sizes in the rows and offsets in the inputs, the size is the input's and times are the stream's."""
    path = output(tmp_path, [face("a.jpg", box=(0, 0, 64, 48))], {"a.jpg": {}})
    for table, lacking in ((path, SIZE_COLUMNS), (path.with_suffix(".inputs.parquet"), ["time_offset_s"])):
        pq.write_table(pq.read_table(table).drop_columns(list(lacking)), table)
    tasks = json.loads((export_predictions(path, "label-studio", tmp_path / "ls") / "images.json").read_text())
    (region,) = tasks[0]["predictions"][0]["result"]

    assert (region["original_width"], region["original_height"]) == (WIDTH, HEIGHT)
    assert (region["value"]["width"], region["value"]["height"]) == (10, 10)


def test_label_studio_counts_from_the_start_of_the_file(tmp_path):
    """Its player shows the file: frames and times of a video that begins after its sound are shifted."""
    path = output(tmp_path, clip("v.mp4", ["fear", "fear"]), {"v.mp4": VIDEO | {"time_offset_s": 2.0}})
    tasks = json.loads((export_predictions(path, "label-studio", tmp_path / "ls") / "videos.json").read_text())
    (region,) = tasks[0]["predictions"][0]["result"]

    assert [(key["frame"], key["time"]) for key in region["value"]["sequence"]] == [(51, 2.0), (76, 3.0)]


def test_faces_in_another_order_than_the_inputs_are_refused(tmp_path):
    """A shuffled table is refused with the name of the first picture out of place, not exported without it."""
    path = output(tmp_path, [face("b.jpg"), face("a.jpg")], {"a.jpg": {}, "b.jpg": {}})

    with pytest.raises(ConfigError, match=r"faces of 'a\.jpg' are not where"):
        export_predictions(path, "coco", tmp_path / "c.json")


def test_needed_columns_are_named(mixed, tmp_path):
    """An export without the columns that a format needs says which."""
    with pytest.raises(ConfigError, match="needs the columns y2, emotion"):
        write_coco(Source(mixed, columns=["input", "x1", "y1", "x2", "confidence", *EMOTIONS]), tmp_path / "faces.json")


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    """Writing COCO of eight times the faces takes no more memory at its peak."""
    batch = 512
    for module in ("motivnet_cli.output.tables", "motivnet_cli.export.source"):
        monkeypatch.setattr(f"{module}.BATCH_ROWS", batch)  # a few thousand rows take long to trace
    peaks = []
    for num_batches in (1, 8):
        folder = tmp_path / str(num_batches)
        folder.mkdir()
        rows = [face("a.jpg") | {"input": f"{n}.jpg"} for n in range(num_batches * batch)]
        source = Source(output(folder, rows, {row["input"]: {} for row in rows}, classes=()), embeddings=False)
        tracemalloc.start()
        write_coco(source, folder / "c.json")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_fiftyone_images_follow_the_documented_layout(mixed, tmp_path):
    """labels.json and data.json of a FiftyOneImageDetectionDataset: all pictures, boxes relative to them."""
    folder = export_predictions(mixed, "fiftyone", tmp_path / "fo") / "images"
    labels, paths = (json.loads((folder / name).read_text("utf-8")) for name in ("labels.json", "data.json"))
    rows = [row for row in rows_of(mixed) if row["frame"] is None]
    detections = [each for key in sorted(labels["labels"]) for each in labels["labels"][key]]
    boxes = [absolute(*each["bounding_box"]) for each in detections]

    assert labels["classes"] == list(EMOTIONS)
    assert labels["labels"].keys() == paths.keys()
    assert not any("." in key for key in paths)
    assert [paths[key] for key in sorted(paths)] == ["a b.jpg", "none.jpg", "ö/c.png"]
    assert_same_faces(list(zip(boxes, (each["attributes"] for each in detections), strict=True)), rows, tolerance=1e-3)
    assert [each["label"] for each in detections] == [row["emotion"] for row in rows]
    assert [np.float32(each["confidence"]) for each in detections] == [row["confidence"] for row in rows]


def test_fiftyone_videos_follow_the_documented_layout(mixed, tmp_path):
    """manifest.json and ETA video labels of a FiftyOneVideoLabelsDataset: frames from 1, the track as index."""
    folder = export_predictions(mixed, "fiftyone", tmp_path / "fo") / "videos"
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    (entry,) = manifest["index"]
    frames = json.loads((folder / entry["labels"]).read_text("utf-8"))["frames"]
    objects = [each for frame in frames.values() for each in frame["objects"]["objects"]]
    rows = [row for row in rows_of(mixed) if row["frame"] is not None]
    corners = [(each["bounding_box"]["top_left"], each["bounding_box"]["bottom_right"]) for each in objects]
    boxes = [(a["x"] * WIDTH, a["y"] * HEIGHT, b["x"] * WIDTH, b["y"] * HEIGHT) for a, b in corners]
    attributes = [{attr["name"]: attr["value"] for attr in each["attrs"]["attrs"]} for each in objects]

    assert manifest["type"] == "eta.core.datasets.LabeledVideoDataset"
    assert entry["data"] == "clip.mp4"
    assert {key: frame["frame_number"] for key, frame in frames.items()} == {"1": 1, "26": 26, "51": 51}
    assert_same_faces(list(zip(boxes, attributes, strict=True)), rows, tolerance=1e-3)
    assert [each["index"] for each in objects] == [row["track"] for row in rows]
    assert [each["label"] for each in objects] == [row["emotion"] for row in rows]


def test_fiftyone_itself_imports_the_folders(mixed, tmp_path):
    """FiftyOne's own importers read both folders (where it is installed; it takes a gigabyte)."""
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    folder = export_predictions(mixed, "fiftyone", tmp_path / "fo")

    with importers.FiftyOneImageDetectionDatasetImporter(str(folder / "images"), data_path="data.json") as images:
        found = [(path, [each.label for each in label.detections]) for path, _, label in images]
    assert [(path.split("/images/")[1], len(labels)) for path, labels in found] == [
        ("a b.jpg", 2),
        ("none.jpg", 0),
        ("ö/c.png", 1),
    ]
    with importers.FiftyOneVideoLabelsDatasetImporter(str(folder / "videos")) as videos:
        ((_, _, _, frames),) = list(videos)
    assert sorted(frames) == [1, 26, 51]
    row = next(row for row in rows_of(mixed) if row["frame"] == 50)
    last = frames[51]["detections"].detections[0]
    assert {name: np.float32(last[name]) for name in EMOTIONS} == {name: row[name] for name in EMOTIONS}
    np.testing.assert_allclose(absolute(*last.bounding_box), [row[k] for k in ("x1", "y1", "x2", "y2")], 0, 1e-3)
    assert [(each.label, each.index) for each in frames[51]["detections"].detections] == [("anger", 0), ("fear", 1)]


def test_fiftyone_finds_the_files_of_the_run(tmp_path):
    """Names are relative to the folder that the run was given; the export holds the whole path."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    path = output(tmp_path, [face("a.jpg")], {"a.jpg": {}}, settings={"inputs.paths": [str(pictures)]})
    folder = export_predictions(path, "fiftyone", tmp_path / "fo")

    assert list(json.loads((folder / "images" / "data.json").read_text()).values()) == [str(pictures / "a.jpg")]


def absolute(x, y, width, height, scale=1.0):
    """A relative box as x1 y1 x2 y2 in pixels."""
    return tuple(
        side / scale * size
        for side, size in zip((x, y, x + width, y + height), (WIDTH, HEIGHT, WIDTH, HEIGHT), strict=True)
    )


def test_label_studio_pictures_match_their_setup(mixed, tmp_path):
    """Tasks name tags and labels of the setup beside them; percent boxes and confidences are the faces'."""
    folder = export_predictions(mixed, "label-studio", tmp_path / "ls")
    tasks = json.loads((folder / "images.json").read_text("utf-8"))
    setup = ElementTree.parse(folder / "images.xml")
    rows = [row for row in rows_of(mixed) if row["frame"] is None]
    regions = [region for task in tasks for region in task["predictions"][0]["result"]]

    assert [task["data"]["image"] for task in tasks] == [
        f"/data/local-files/?d={name}" for name in ("a%20b.jpg", "none.jpg", "%C3%B6/c.png")
    ]
    boxes = [absolute(*(r["value"][k] for k in ("x", "y", "width", "height")), scale=100) for r in regions]
    np.testing.assert_allclose(boxes, [[row[k] for k in ("x1", "y1", "x2", "y2")] for row in rows], 0, 1e-3)
    assert [region["value"]["rectanglelabels"] for region in regions] == [[row["emotion"]] for row in rows]
    assert [np.float32(region["score"]) for region in regions] == [row["confidence"] for row in rows]
    assert {(r["original_width"], r["original_height"], r["type"]) for r in regions} == {
        (WIDTH, HEIGHT, "rectanglelabels")
    }
    assert {(r["from_name"], r["to_name"]) for r in regions} == {("emotion", "image")}
    tag = setup.find("RectangleLabels[@name='emotion'][@toName='image']")
    assert [label.get("value") for label in tag] == list(EMOTIONS)
    assert setup.find("Image[@name='image']").get("value") == "$image"
    assert len({region["id"] for region in tasks[0]["predictions"][0]["result"]}) == 2


def test_label_studio_videos_have_a_region_a_segment(mixed, tmp_path):
    """A region follows one person with one emotion; keyframes count from 1 and the last switches the box off."""
    folder = export_predictions(mixed, "label-studio", tmp_path / "ls")
    (task,) = json.loads((folder / "videos.json").read_text("utf-8"))
    setup = ElementTree.parse(folder / "videos.xml")
    regions = task["predictions"][0]["result"]

    assert task["data"] == {"video": "/data/local-files/?d=clip.mp4", "fps": 25.0}
    assert [
        (r["meta"]["text"], r["value"]["labels"], [(f["frame"], f["enabled"]) for f in r["value"]["sequence"]])
        for r in regions
    ] == [
        (["track 0"], ["happiness"], [(1, True), (26, False)]),
        (["track 1"], ["fear"], [(1, True), (26, True), (51, False)]),
        (["track 0"], ["anger"], [(51, False)]),
    ]
    first = regions[2]["value"]["sequence"][0]
    row = next(row for row in rows_of(mixed) if row["frame"] == 50 and row["track"] == 0)
    box = absolute(*(first[k] for k in ("x", "y", "width", "height")), scale=100)
    np.testing.assert_allclose(box, [row[k] for k in ("x1", "y1", "x2", "y2")], 0, 1e-3)
    assert setup.find("VideoRectangle[@name='box'][@toName='video']") is not None
    assert setup.find("Video[@name='video']").get("framerate") == "$fps"
    assert [label.get("value") for label in setup.find("Labels[@toName='video']")] == list(EMOTIONS)


def test_label_studio_itself_finds_the_tasks_valid(mixed, tmp_path):
    """Label Studio's own library accepts setup, data and predictions (where it is installed)."""
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface
    folder = export_predictions(mixed, "label-studio", tmp_path / "ls")
    for kind in ("images", "videos"):
        setup = interface((folder / f"{kind}.xml").read_text("utf-8"))
        setup.validate()
        for task in json.loads((folder / f"{kind}.json").read_text("utf-8")):
            assert setup.validate_task({"data": task["data"]})
            assert setup.validate_prediction(task["predictions"][0], return_errors=True) == []


@pytest.mark.parametrize("write", [write_coco, write_fiftyone, write_label_studio])
def test_the_same_export_gives_the_same_bytes(mixed, tmp_path, write):
    """Nothing of the moment, such as a date or a random id, is in a file."""
    first, second = (files_written(write, Source(mixed), tmp_path / turn) for turn in ("first", "second"))

    assert first
    assert first == second
