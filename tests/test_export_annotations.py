"""Boxes and cues that other tools take: each format is opened by its tool, or held against its description."""

from __future__ import annotations

import json
import re
import tracemalloc
import warnings
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.export.boxes import write_coco, write_fiftyone, write_label_studio
from motivnet_cli.export.cues import write_srt, write_webvtt
from motivnet_cli.export.predictions import export_predictions
from motivnet_cli.export.source import Source
from motivnet_cli.output.tables import METADATA_KEY, faces_schema, inputs_schema
from motivnet_cli.records import EMOTIONS

WIDTH, HEIGHT = 640, 480
RANDOM = np.random.default_rng(6)


def face(name, number=0, *, frame=None, time_s=None, emotion=None, track=None, box=None):
    """A row of the faces table; what is not given is random, as a network and a detector might say it."""
    probabilities = RANDOM.dirichlet(np.ones(7)).astype(np.float32)
    if emotion is not None:
        largest, wanted = probabilities.argmax(), EMOTIONS.index(emotion)
        probabilities[[largest, wanted]] = probabilities[[wanted, largest]]
    best = int(probabilities.argmax())
    x1, y1 = RANDOM.uniform(0, 300, 2)
    box = box or (x1, y1, x1 + RANDOM.uniform(20, 100), y1 + RANDOM.uniform(20, 100))
    return {
        "input": name,
        "frame": frame,
        "time_s": time_s,
        "face": number,
        "face_source": "detected",
        **dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True)),
        "detection_score": float(np.float32(RANDOM.uniform(0.6, 1))),
        "track": track,
        "emotion": EMOTIONS[best],
        "confidence": float(probabilities[best]),
        **dict(zip(EMOTIONS, map(float, probabilities), strict=True)),
        "embedding": [0.0] * 4,
    }


def clip(name, story, *, fps=25.0, track=0, every=25):
    """Faces of one person in a video: an emotion a sampled frame, None where the person is away."""
    return [
        face(name, frame=n * every, time_s=n * every / fps, emotion=emotion, track=track)
        for n, emotion in enumerate(story)
        if emotion is not None
    ]


def output(folder, faces, inputs=(), *, video=None, classes=EMOTIONS, tracks=True, settings=None):
    """An output of annotate: `inputs` are names with what differs from a picture that was read."""
    record = {
        "tool": "motivnet 1.0",
        "model": "expression-net",
        "classes": list(classes),
        "video": video or {"fps": 1.0, "every": None},
        "settings": settings or {},
    }
    metadata = {METADATA_KEY: json.dumps(record)}
    path = folder / "preds.parquet"
    schema = faces_schema(classes, 4, "float16", tracks=tracks).with_metadata(metadata)
    faces = [{name: row[name] for name in schema.names} for row in faces]
    pq.write_table(pa.Table.from_pylist(faces, schema=schema), path)
    counts = Counter(row["input"] for row in faces)
    rows = [
        {
            "input": name,
            "kind": "image",
            "status": "ok",
            "width": WIDTH,
            "height": HEIGHT,
            "faces": counts[name],
        }
        | differs
        for name, differs in dict(inputs).items()
    ]
    schema = inputs_schema().with_metadata(metadata)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path.with_suffix(".inputs.parquet"))
    return path


VIDEO = {"kind": "video"}


@pytest.fixture
def mixed(tmp_path):
    """Two pictures with faces, one without, one that failed, an archive, and a video with two people."""
    video = clip("clip.mp4", ["happiness", "happiness", "anger"]) + clip("clip.mp4", ["fear"] * 3, track=1)
    video.sort(key=lambda row: row["frame"])
    faces = [face("a b.jpg"), face("a b.jpg", 1), *video, face("ö/c.png")]
    inputs = {
        "a b.jpg": {},
        "none.jpg": {"status": "no_face"},
        "bad.jpg": {"status": "failed", "width": None, "height": None},
        "clip.mp4": VIDEO,
        "ö/c.png": {},
        "pictures.zip": {"kind": "archive", "width": None, "height": None, "faces": 1},
    }
    return output(tmp_path, faces, inputs)


def rows_of(path):
    return pq.read_table(path).to_pylist()


def assert_same_faces(found, rows, *, tolerance=0.0):
    """Boxes as x1 y1 x2 y2, and probabilities as float32, of the same faces in the same order."""
    assert len(found) == len(rows) > 0
    boxes = np.array([box for box, _ in found])
    np.testing.assert_allclose(boxes, [[row[side] for side in ("x1", "y1", "x2", "y2")] for row in rows], 0, tolerance)
    probabilities = np.array([[each[name] for name in EMOTIONS] for _, each in found], np.float32)
    assert (probabilities == np.array([[row[name] for name in EMOTIONS] for row in rows], np.float32)).all()


# ---- COCO -------------------------------------------------------------------------------------------------


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


def test_coco_lists_what_was_looked_at(mixed, tmp_path):
    """A picture without faces is an image, a failed one or an archive is not, and a video is its frames with faces."""
    coco = json.loads(export_predictions(mixed, "coco", tmp_path / "faces.json").read_text("utf-8"))

    assert [image["file_name"] for image in coco["images"]] == ["a b.jpg", "none.jpg", *["clip.mp4"] * 3, "ö/c.png"]
    assert [(i["frame_id"], i["time_s"]) for i in coco["images"] if "video_id" in i] == [(0, 0.0), (25, 1.0), (50, 2.0)]
    assert coco["videos"] == [{"id": 1, "name": "clip.mp4", "width": WIDTH, "height": HEIGHT}]
    assert [category["name"] for category in coco["categories"]] == list(EMOTIONS)


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
    """Someone's own table, in which no picture has a size, is enough for COCO and not for relative boxes."""
    COCO = pytest.importorskip("pycocotools.coco").COCO
    path = output(tmp_path, [face("a.jpg"), *clip("b.mp4", ["fear"])])
    path.with_suffix(".inputs.parquet").unlink()
    coco = COCO(export_predictions(path, "coco", tmp_path / "c.json"))

    assert [image["file_name"] for image in coco.imgs.values()] == ["a.jpg", "b.mp4"]
    with pytest.raises(ConfigError, match=r"size of 'a\.jpg' is not known"):
        export_predictions(path, "fiftyone", tmp_path / "fo")
    assert not (tmp_path / "fo").exists()


def test_faces_in_another_order_than_the_inputs_are_refused(tmp_path):
    """A shuffled table is refused with the name of the first picture out of place, not exported without it."""
    path = output(tmp_path, [face("b.jpg"), face("a.jpg")], {"a.jpg": {}, "b.jpg": {}})

    with pytest.raises(ConfigError, match=r"faces of 'a\.jpg' are not where"):
        export_predictions(path, "coco", tmp_path / "c.json")


def test_needed_columns_are_named(mixed, tmp_path):
    """An export without the columns that a format needs says which."""
    with pytest.raises(ConfigError, match="needs the columns y2, emotion"):
        write_coco(Source(mixed, columns=["input", "x1", "y1", "x2", "confidence", *EMOTIONS]), tmp_path / "faces.json")


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    """Writing COCO of eight times the faces takes no more memory at its peak."""
    batch = 512
    for room in ("motivnet_cli.output.tables", "motivnet_cli.export.source"):
        monkeypatch.setattr(f"{room}.ROW_GROUP", batch)  # a few thousand rows take long to trace
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


# ---- FiftyOne ---------------------------------------------------------------------------------------------


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


# ---- Label Studio -----------------------------------------------------------------------------------------


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


# ---- cues -------------------------------------------------------------------------------------------------


def cues(path):
    """Start and end in ms, voice and text of each cue, as webvtt-py reads them."""
    webvtt = pytest.importorskip("webvtt")
    return [(*map(ms, (cue.start, cue.end)), cue.voice, cue.text.split()[0]) for cue in webvtt.read(str(path))]


def ms(clock):
    hours, minutes, seconds = clock.split(":")
    return round(1000 * (3600 * int(hours) + 60 * int(minutes) + float(seconds)))


def test_a_cue_lasts_as_long_as_the_emotion(tmp_path):
    """Neighbouring frames of one emotion are one cue, up to the next emotion, or to the end of the last frame."""
    story = ["happiness", "happiness", "anger", "anger", "happiness"]
    path = output(tmp_path, clip("clip.mp4", story), {"clip.mp4": VIDEO})

    assert cues(export_predictions(path, "webvtt", tmp_path / "clip.vtt")) == [
        (0, 2000, "track 0", "happiness"),
        (2000, 4000, "track 0", "anger"),
        (4000, 5000, "track 0", "happiness"),
    ]


@pytest.mark.parametrize(
    ("video", "every", "step_ms"),
    [
        ({"fps": 1.0}, 25, 1000),
        ({"fps": 100.0}, 1, 40),  # more than the video has: all its frames are taken
        ({"fps": 1.0, "every": 5}, 5, 200),
        ({"fps": None, "every": None}, 1, 40),
    ],
)
def test_an_absence_ends_a_cue(tmp_path, video, every, step_ms):
    """Who is missing from a frame that was looked at is no longer shown, however frames were sampled."""
    story = ["fear", "fear", None, "fear"]
    path = output(tmp_path, clip("clip.mp4", story, every=every), {"clip.mp4": VIDEO}, video=video)

    assert cues(export_predictions(path, "webvtt", tmp_path / "clip.vtt")) == [
        (0, 2 * step_ms, "track 0", "fear"),
        (3 * step_ms, 4 * step_ms, "track 0", "fear"),
    ]


def test_people_without_tracks_go_by_face_number(tmp_path):
    """Without tracks a cue is of a face number, and several people are in overlapping cues."""
    rows = [face("clip.mp4", n, frame=25 * t, time_s=t, emotion=EMOTIONS[n]) for t in range(2) for n in range(2)]
    path = output(tmp_path, rows, {"clip.mp4": VIDEO}, tracks=False)

    assert cues(export_predictions(path, "webvtt", tmp_path / "clip.vtt")) == [
        (0, 2000, "face 0", "neutral"),
        (0, 2000, "face 1", "happiness"),
    ]


def test_srt_and_webvtt_say_the_same(mixed, tmp_path):
    """pysubs2 reads the same times and texts from both, with the mean confidence to two digits."""
    pysubs2, webvtt = map(pytest.importorskip, ("pysubs2", "webvtt"))
    srt = pysubs2.load(str(export_predictions(mixed, "srt", tmp_path / "c.srt")))
    vtt = export_predictions(mixed, "webvtt", tmp_path / "c.vtt")
    rows = [row for row in rows_of(mixed) if row["track"] == 1]

    assert [(cue.start, cue.end, cue.text.split(": ")[0]) for cue in srt] == [each[:3] for each in cues(vtt)]
    assert [cue.text.split(": ")[1] for cue in srt] == [cue.text for cue in webvtt.read(str(vtt))]
    assert [cue.text for cue in srt if "fear" in cue.text] == [
        f"track 1: fear {np.mean([row['confidence'] for row in rows]):.2f}"
    ]


def test_several_videos_make_a_folder(tmp_path):
    """A file a video, named as players look for it; one file for several is refused."""
    pysubs2 = pytest.importorskip("pysubs2")
    names = ["a/one.mp4", "a/one.mov", "../up.mp4", "/root/two.mp4", "https://host/three.mp4?key=1"]
    faces = [row for name in names for row in clip(name, ["fear"])]
    path = output(tmp_path, faces, dict.fromkeys(names, VIDEO))
    folder = export_predictions(path, "srt", tmp_path / "subtitles")

    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*.srt")) == [
        "a/one.mov.srt",
        "a/one.srt",
        "host/three.srt",
        "root/two.srt",
        "up.srt",
    ]
    assert all(len(pysubs2.load(str(file))) == 1 for file in folder.rglob("*.srt"))
    with pytest.raises(ConfigError, match="there are several"):
        export_predictions(path, "srt", tmp_path / "all.srt")
    assert not (tmp_path / "all.srt").exists()


@pytest.mark.parametrize("write", [write_srt, write_webvtt])
def test_cues_need_a_face_in_a_video(tmp_path, write):
    """Pictures have no times: an export of them alone is refused, not written empty."""
    path = output(tmp_path, [face("a.jpg")], {"a.jpg": {}})

    with pytest.raises(ConfigError, match="no face in a video"):
        write(Source(path), tmp_path / "cues")


def test_pympi_reads_a_tier_a_person(mixed, tmp_path):
    """ELAN's file has a tier a track, an annotation a segment, the media and the seven words to choose from."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eaf = pytest.importorskip("pympi").Elan.Eaf(str(export_predictions(mixed, "elan", tmp_path / "clip.eaf")))

    assert list(eaf.get_tier_names()) == ["track 0", "track 1"]
    assert sorted(eaf.get_annotation_data_for_tier("track 0")) == [(0, 2000, "happiness"), (2000, 3000, "anger")]
    assert eaf.get_annotation_data_for_tier("track 1") == [(0, 3000, "fear")]
    assert list(eaf.controlled_vocabularies) == ["emotions"]
    (media,) = eaf.media_descriptors
    assert (media["RELATIVE_MEDIA_URL"], media["MIME_TYPE"]) == ("./clip.mp4", "video/mp4")
    entries = re.findall(r"<CVE_VALUE [^>]*>(\w+)<", (tmp_path / "clip.eaf").read_text("utf-8"))
    assert entries == list(EMOTIONS)


def test_the_same_export_gives_the_same_bytes(mixed, tmp_path):
    """Nothing of the moment, such as a date or a random id, is in a file."""
    for write, name in ((write_coco, "coco"), (write_fiftyone, "fo"), (write_label_studio, "ls"), (write_srt, "srt")):
        contents = []
        for turn in "12":
            write(Source(mixed), tmp_path / f"{name}{turn}")
            files = [tmp_path / f"{name}{turn}", *sorted((tmp_path / f"{name}{turn}").rglob("*"))]
            contents.append([file.read_bytes() for file in files if file.is_file()])
        assert contents[0] == contents[1]
        assert contents[0]
