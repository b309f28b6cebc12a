"""Predictions for the tools people annotate and look with: boxes for COCO, FiftyOne and Label Studio; cues for players.

A room of boxes and cues: it takes rows from a `Source` and knows neither where they lie nor who asked for them.
What stretches over time is a *segment*: one person (a track, else a face number) with one dominant emotion, until the
emotion changes or the person is missing from a frame that was looked at. The segments of one video are held at a
time; everything else streams.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from motivnet_cli.records import BOX_COLUMNS
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from motivnet_cli.export.source import Source
from motivnet_cli.export.segments import (
    FACE,
    WHERE,
    Elements,
    Row,
    Sampling,
    Segment,
    about,
    attributes_of,
    columns_of,
    dominant_columns,
    emotion_columns,
    frames_of,
    inputs_of,
    json_text,
    label_of,
    labels_of,
    media_path,
    relative_box,
    score_of,
    segments_of,
    text_file,
)


def write_coco(source: Source, out: Path) -> None:
    """Write one COCO detection file, which `pycocotools.coco.COCO(out)` reads.

    A category an emotion, from 1 in the order of the classes (one category `face` for a model without). An annotation
    a face: `bbox` [x, y, width, height] in pixels of the upright picture, exact; `score` the confidence; `attributes`
    the probability of each emotion, `detection_score` and `face_source`, float32 exact. The list `annotations` is
    what `COCO.loadRes` takes. Pictures in which no face was found are images without annotations; those that failed
    are left out. Of a video, every frame with faces is an image whose `file_name` is the video, with `video_id`,
    `frame_id` (from 0) and `time_s`; its annotations have a `track_id`, unique within the video.

    Raises:
        ConfigError: A column that the boxes need is left out.
    """
    columns = columns_of(source, (*BOX_COLUMNS, *emotion_columns(source)), (*WHERE, *FACE))
    numbers = {name: number for number, name in enumerate(labels_of(source), start=1)}
    head = {
        "info": {"description": about(source), "contributor": source.record.get("tool", "")},
        "licenses": [],
        "categories": [{"id": n, "name": name, "supercategory": "face"} for name, n in numbers.items()],
    }
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(text_file(out))
        spools = [
            stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=out.parent))
            for _ in range(2)
        ]
        file.write(f'{json_text(head)[:-1]},\n"images": [')
        images, annotations, videos = Elements(file), *map(Elements, spools)
        for info, rows in inputs_of(source, columns):
            size = {"width": info["width"], "height": info["height"]}
            if info["kind"] == "video":
                videos.add({"id": videos.count + 1, "name": info["input"], **size})
            for frame, faces in frames_of(info, rows):
                image = {"id": images.count + 1, "file_name": info["input"], **size}
                if frame is not None:
                    image |= {"video_id": videos.count, "frame_id": frame[0], "time_s": frame[1]}
                images.add(image)
                for row in faces:
                    annotations.add(_coco_annotation(source, row, annotations.count + 1, images.count, numbers))
        for name, spool in zip(("annotations", "videos"), spools, strict=True):
            file.write(f'\n],\n"{name}": [')
            spool.seek(0)
            shutil.copyfileobj(spool, file)
        file.write("\n]}\n")


def _coco_annotation(source: Source, row: Row, number: int, image: int, categories: Mapping[str, int]) -> Row:
    x1, y1, x2, y2 = (row[side] for side in BOX_COLUMNS)
    annotation = {
        "id": number,
        "image_id": image,
        "category_id": categories[label_of(row)],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
        "score": score_of(row),
        "attributes": attributes_of(source, row),
    }
    if row.get("track") is not None:
        annotation["track_id"] = row["track"]
    return annotation


def write_fiftyone(source: Source, out: Path) -> None:
    """Write a folder of FiftyOne's own import formats: `images/`, `videos/`, or both.

    `images/` is a FiftyOneImageDetectionDataset (labels.json, data.json), `videos/` a FiftyOneVideoLabelsDataset
    (manifest.json, labels/); the media stay where they are. `fiftyone.Dataset.from_dir(dataset_dir, dataset_type)` of
    these types opens each; for `images/` it wants `data_path="data.json"` said (FiftyOne 1.22). A detection holds
    label, confidence, box (relative to the picture, within 1e-3 pixels) and as attributes the probability of each
    emotion, `detection_score` and `face_source`, float32 exact. In videos frames count from 1, as FiftyOne's, the track
    is the detection's index, and `face_source` is lost.

    Raises:
        ConfigError: A column that the boxes need is left out, or a picture's size is not known.
    """
    columns = columns_of(source, (*BOX_COLUMNS, *emotion_columns(source)), (*WHERE, *FACE))
    out.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        images: _FiftyOneImages | None = None
        videos: _FiftyOneVideos | None = None
        for info, rows in inputs_of(source, columns):
            path = media_path(source, info)
            if info["kind"] == "video":
                videos = videos or stack.enter_context(_FiftyOneVideos(source, out / "videos"))
                videos.add(info, path, rows)
            else:
                images = images or stack.enter_context(_FiftyOneImages(source, out / "images"))
                images.add(info, path, rows)


class _FiftyOneImages(contextlib.ExitStack):
    """labels.json and data.json: the faces and the path of a picture under a common key."""

    def __init__(self, source: Source, folder: Path) -> None:
        super().__init__()
        folder.mkdir()
        self._source = source
        labels, paths = (self.enter_context(text_file(folder / name)) for name in ("labels.json", "data.json"))
        labels.write(f'{{"classes": {json_text(labels_of(source))},\n"labels": {{')
        paths.write("{")
        self.callback(labels.write, "\n}}\n")
        self.callback(paths.write, "\n}\n")
        self._labels, self._paths = Elements(labels), Elements(paths)

    def add(self, info: Row, path: str, rows: Iterator[Row]) -> None:
        # The importer sorts by key and cuts what follows its last dot, so that names would clash (a.jpg, a.png).
        key = f"{self._paths.count:09d}"
        self._paths.add(path, key=key)
        self._labels.add([self._detection(info, row) for row in rows], key=key)

    def _detection(self, info: Row, row: Row) -> Row:
        x1, y1, x2, y2 = relative_box(info, row)
        return {
            "label": label_of(row),
            "bounding_box": [x1, y1, x2 - x1, y2 - y1],
            "confidence": score_of(row),
            "attributes": attributes_of(self._source, row),
        }


class _FiftyOneVideos(contextlib.ExitStack):
    """manifest.json and a file of frames a video, in the layout of ETA's VideoLabels."""

    def __init__(self, source: Source, folder: Path) -> None:
        super().__init__()
        folder.mkdir()
        (folder / "labels").mkdir()
        self._source, self._folder = source, folder
        manifest = self.enter_context(text_file(folder / "manifest.json"))
        head = {"type": "eta.core.datasets.LabeledVideoDataset", "description": about(source)}
        manifest.write(f'{json_text(head)[:-1]},\n"index": [')
        self.callback(manifest.write, "\n]}\n")
        self._index = Elements(manifest)

    def add(self, info: Row, path: str, rows: Iterator[Row]) -> None:
        labels = f"labels/{self._index.count:09d}.json"
        self._index.add({"data": path, "labels": labels})
        with text_file(self._folder / labels) as file:
            file.write('{"type": "eta.core.video.VideoLabels", "frames": {')
            frames = Elements(file)
            for frame, faces in frames_of(info, rows):
                assert frame is not None, "a video's rows have frames"
                objects = [self._object(info, row) for row in faces]
                number = frame[0] + 1
                frames.add({"frame_number": number, "objects": {"objects": objects}}, key=str(number))
            file.write("\n}}\n")

    def _object(self, info: Row, row: Row) -> Row:
        x1, y1, x2, y2 = relative_box(info, row)
        numbers = {name: value for name, value in attributes_of(self._source, row).items() if isinstance(value, float)}
        detected = {
            "label": label_of(row),
            "bounding_box": {"top_left": {"x": x1, "y": y1}, "bottom_right": {"x": x2, "y": y2}},
            "confidence": score_of(row),
            "attrs": {
                "attrs": [
                    {"type": "eta.core.data.NumericAttribute", "name": name, "value": value}
                    for name, value in numbers.items()
                ]
            },
        }
        return detected if row.get("track") is None else detected | {"index": row["track"]}


def write_label_studio(source: Source, out: Path) -> None:
    """Write a folder of pre-annotated tasks for Label Studio, a project a kind: `images.json`, `videos.json`.

    Beside each lies the labelling setup that its results belong to (`images.xml`, `videos.xml`). Boxes are in percent
    of the picture (within 1e-3 pixels). A picture's face is a `rectanglelabels` region with the confidence as its
    score. In a video, a segment is a `videorectangle` region and a face a keyframe, frames from 1; `framesCount` and
    `duration` reach to the last face, and `framerate` in the setup reads the task's `fps`. A local file is served by
    Label Studio itself: the address is `/data/local-files/?d=` and the input's name, relative to its document root.
    The probabilities of the emotions that are not dominant are lost.

    Raises:
        ConfigError: A column that the boxes need is left out, or a picture's size is not known.
    """
    columns = columns_of(source, (*BOX_COLUMNS, *dominant_columns(source)), (*WHERE, "detection_score"))
    sampling = Sampling.of(source)
    out.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        tasks: dict[str, Elements] = {}
        for info, rows in inputs_of(source, columns):
            kind = "video" if info["kind"] == "video" else "image"
            if kind not in tasks:
                (out / f"{kind}s.xml").write_text(_label_studio_setup(kind, labels_of(source)), encoding="utf-8")
                file = stack.enter_context(text_file(out / f"{kind}s.json"))
                file.write("[")
                stack.callback(file.write, "\n]\n")
                tasks[kind] = Elements(file)
            data: Row = {kind: _label_studio_address(info["input"])}
            if kind == "video":
                segments = segments_of(rows, sampling, with_faces=True)
                data["fps"] = sampling.frames_per_second()
                num_frames = max((segment.last_frame + 1 for segment in segments), default=0)
                # The results' schema asks for these two; the editor reads them off the video itself.
                seen = {"framesCount": num_frames, "duration": num_frames / data["fps"]}
                result = [_video_region(info, segment, f"segment{n}", seen) for n, segment in enumerate(segments)]
            else:
                result = [_image_region(info, row, f"face{n}") for n, row in enumerate(rows)]
            prediction: Row = {"model_version": source.record.get("model", ""), "result": result}
            scores = [region["score"] for region in result if region["score"] is not None]
            if scores:
                prediction["score"] = sum(scores) / len(scores)
            tasks[kind].add({"data": data, "predictions": [prediction]})


def _label_studio_setup(kind: str, labels: Sequence[str]) -> str:
    names = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in labels)
    if kind == "image":
        shown = '  <Image name="image" value="$image"/>\n'
        tags = f'  <RectangleLabels name="emotion" toName="image">\n{names}  </RectangleLabels>\n'
    else:
        shown = (
            '  <Video name="video" value="$video" framerate="$fps"/>\n  <VideoRectangle name="box" toName="video"/>\n'
        )
        tags = f'  <Labels name="emotion" toName="video">\n{names}  </Labels>\n'
    return f"<View>\n{shown}{tags}</View>\n"


def _label_studio_address(name: str) -> str:
    return name if is_remote(name) else f"/data/local-files/?d={quote(name.lstrip('/'))}"


def _image_region(info: Row, row: Row, name: str) -> Row:
    return {
        "id": name,
        "type": "rectanglelabels",
        "from_name": "emotion",
        "to_name": "image",
        "original_width": info["width"],
        "original_height": info["height"],
        "image_rotation": 0,
        "value": _percent_box(info, row) | {"rectanglelabels": [label_of(row)]},
        "score": score_of(row),
    }


def _video_region(info: Row, segment: Segment, name: str, seen: Row) -> Row:
    sequence = [
        _percent_box(info, row) | {"frame": row["frame"] + 1, "time": row["time_s"], "enabled": True}
        for row in segment.faces
    ]
    sequence[-1]["enabled"] = False  # the box ends here, and is not drawn on to the end of the video
    return {
        "id": name,
        "type": "videorectangle",
        "from_name": "box",
        "to_name": "video",
        "value": seen | {"sequence": sequence, "labels": [segment.emotion]},
        "score": segment.confidence,
        "meta": {"text": [segment.person.label]},
    }


def _percent_box(info: Row, row: Row) -> Row:
    x1, y1, x2, y2 = (100 * side for side in relative_box(info, row))
    return {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0}
