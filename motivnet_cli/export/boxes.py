"""Boxes for annotation tools: COCO, FiftyOne and Label Studio.

A writer takes a `Source` and the path of a file to make, or of an empty folder. Faces are streamed; of a video, Label
Studio's tasks hold one at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from motivnet_cli.export.rows import (
    DETECTION_COLUMNS,
    POSITION_COLUMNS,
    describe,
    emotion_columns,
    faces_by_frame,
    has_landmarks,
    inputs_with_faces,
    label_names,
    media_path,
    select_columns,
)
from motivnet_cli.export.segments import Sampling, find_segments
from motivnet_cli.export.text import JsonElements, json_text, open_text
from motivnet_cli.records import BOX_COLUMNS, LANDMARK_COLUMNS, LANDMARKS, SIZE_COLUMNS
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from motivnet_cli.export.rows import FaceRow
    from motivnet_cli.export.segments import Segment
    from motivnet_cli.export.source import InputRow, Source

JsonObject = dict[str, object]

_SKELETON = ((1, 2), (1, 3), (2, 3), (3, 4), (3, 5), (4, 5))
"""Lines between the points of LANDMARKS, counted from 1 as COCO does: eyes and nose, nose and mouth."""
_POINT_WIDTH = 0.3
"""Of a landmark as Label Studio draws it, in percent of the picture's width."""


def write_coco(source: Source, out: Path) -> None:
    """Write one COCO detection file, which `pycocotools.coco.COCO(out)` reads.

    There is a category for each emotion, numbered from 1 in the order of the classes, or one category `face` for a
    model that names no emotions. An annotation is a face: `bbox` [x, y, width, height] in pixels of the upright
    picture, exact; `score`, the confidence; `attributes`, the probability of each emotion, `detection_score` and
    `face_source`, float32 exact. Where the source has landmarks, `keypoints` holds x, y and v = 2 for each, exact, and
    three zeros for one that is not known or lies outside the picture: COCO does not label those. `COCO.loadRes` takes
    the list `annotations`. Pictures without a face are images without annotations; those that failed are left out.
    Every frame of a video that has faces is an image whose `file_name` is the video, with its own size, `video_id`,
    `frame_id` (from 0) and `time_s`; its annotations have a `track_id`, unique within the video.

    Raises:
        ConfigError: A column that is needed is left out.
    """
    columns = _columns_with_probabilities(source)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open_text(out))
        spools = [
            stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=out.parent))
            for _ in range(2)
        ]
        categories = {name: number for number, name in enumerate(label_names(source), start=1)}
        file.write(f'{json_text(_coco_head(source, categories, columns))[:-1]},\n"images": [')
        lists = _CocoLists(*map(JsonElements, (file, *spools)), categories=categories)
        for info, faces in inputs_with_faces(source, columns):
            lists.add(info, faces)
        for name, spool in zip(("annotations", "videos"), spools, strict=True):
            file.write(f'\n],\n"{name}": [')
            spool.seek(0)
            shutil.copyfileobj(spool, file)
        file.write("\n]}\n")


def _columns_with_probabilities(source: Source) -> list[str]:
    needed = (*BOX_COLUMNS, *emotion_columns(source), *source.classes)
    optional = (*POSITION_COLUMNS, *DETECTION_COLUMNS, *SIZE_COLUMNS, *LANDMARK_COLUMNS)
    return select_columns(source, needed=needed, optional=optional)


def _coco_head(source: Source, categories: Mapping[str, int], columns: Sequence[str]) -> JsonObject:
    points: JsonObject = {"keypoints": LANDMARKS, "skeleton": _SKELETON} if has_landmarks(columns) else {}
    return {
        "info": {"description": describe(source), "contributor": source.record.get("tool", "")},
        "licenses": [],
        "categories": [{"id": n, "name": name, "supercategory": "face"} | points for name, n in categories.items()],
    }


class _CocoLists:
    """The three lists of a COCO file, whose elements number each other."""

    def __init__(
        self, images: JsonElements, annotations: JsonElements, videos: JsonElements, *, categories: Mapping[str, int]
    ) -> None:
        self._images = images
        self._annotations = annotations
        self._videos = videos
        self._categories = categories

    def add(self, info: InputRow, faces: Iterator[FaceRow]) -> None:
        size = info.width, info.height
        if info.kind == "video":
            self._videos.add({"id": self._videos.count + 1, "name": info.input, "width": size[0], "height": size[1]})
        for frame, in_frame in faces_by_frame(info, faces):
            width, height = (frame and frame.size) or size
            image: JsonObject = {
                "id": self._images.count + 1,
                "file_name": info.input,
                "width": width,
                "height": height,
            }
            if frame is not None:
                image |= {"video_id": self._videos.count, "frame_id": frame.number, "time_s": frame.time_s}
            self._images.add(image)
            for face in in_frame:
                self._annotations.add(self._annotation(info, face))

    def _annotation(self, info: InputRow, face: FaceRow) -> JsonObject:
        x1, y1, x2, y2 = face.box_in_pixels()
        annotation: JsonObject = {
            "id": self._annotations.count + 1,
            "image_id": self._images.count,
            "category_id": self._categories[face.label],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "segmentation": [],  # Datumaro passes over an annotation without this key
            "iscrowd": 0,
            "score": face.score,
            "attributes": face.attributes,
        }
        if face.track is not None:
            annotation["track_id"] = face.track
        if face.landmarks is not None:
            known = face.landmarks_inside(info)
            places = ((*known[name], 2) if name in known else (0, 0, 0) for name in LANDMARKS)
            annotation |= {"keypoints": list(itertools.chain.from_iterable(places)), "num_keypoints": len(known)}
        return annotation


def write_fiftyone(source: Source, out: Path) -> None:
    """Write a folder of FiftyOne's own import formats: `images/`, `videos/`, or both.

    `images/` is a FiftyOneImageDetectionDataset (labels.json, data.json), `videos/` a FiftyOneVideoLabelsDataset
    (manifest.json, labels/); the media stay where they are. `fiftyone.Dataset.from_dir(dataset_dir, dataset_type)`
    opens each; for `images/` it needs `data_path="data.json"` (FiftyOne 1.22). A detection holds label, confidence, box
    (relative to the picture, within 1e-3 pixels), and as attributes the probability of each emotion, `detection_score`,
    `face_source` and the landmarks in pixels (`left_eye_x`, ...; the layout of pictures holds no Keypoints), float32
    exact. Frames of videos count from 1, as FiftyOne's do, the track is the detection's index, and `face_source` is
    lost.

    Raises:
        ConfigError: A column that is needed is left out, or the size of a picture is not known.
    """
    columns = _columns_with_probabilities(source)
    out.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        images: _FiftyOneImages | None = None
        videos: _FiftyOneVideos | None = None
        for info, faces in inputs_with_faces(source, columns):
            path = media_path(source, info.input, is_member=info.archive is not None)
            if info.kind == "video":
                videos = videos or stack.enter_context(_FiftyOneVideos(source, out / "videos"))
                videos.add(info, path, faces)
            else:
                images = images or stack.enter_context(_FiftyOneImages(source, out / "images"))
                images.add(info, path, faces)


class _FiftyOneImages(contextlib.ExitStack):
    """labels.json and data.json: the faces and the path of a picture under a common key."""

    def __init__(self, source: Source, folder: Path) -> None:
        super().__init__()
        folder.mkdir()
        labels, paths = (self.enter_context(open_text(folder / name)) for name in ("labels.json", "data.json"))
        labels.write(f'{{"classes": {json_text(label_names(source))},\n"labels": {{')
        paths.write("{")
        self.callback(labels.write, "\n}}\n")
        self.callback(paths.write, "\n}\n")
        self._labels, self._paths = JsonElements(labels), JsonElements(paths)

    def add(self, info: InputRow, path: str, faces: Iterator[FaceRow]) -> None:
        # The importer sorts by key and cuts what follows its last dot, so that names would clash (a.jpg, a.png).
        key = f"{self._paths.count:09d}"
        self._paths.add(path, key=key)
        self._labels.add([_fiftyone_detection(info, face) for face in faces], key=key)


def _fiftyone_detection(info: InputRow, face: FaceRow) -> JsonObject:
    x1, y1, x2, y2 = face.box_in_shares(info)
    return {
        "label": face.label,
        "bounding_box": [x1, y1, x2 - x1, y2 - y1],
        "confidence": face.score,
        "attributes": _fiftyone_attributes(face),
    }


def _fiftyone_attributes(face: FaceRow) -> dict[str, float | str]:
    attributes = face.attributes
    for name, point in (face.landmarks or {}).items():
        attributes[f"{name}_x"], attributes[f"{name}_y"] = point
    return attributes


class _FiftyOneVideos(contextlib.ExitStack):
    """manifest.json and a file of frames for each video, in the layout of ETA's VideoLabels."""

    def __init__(self, source: Source, folder: Path) -> None:
        super().__init__()
        folder.mkdir()
        (folder / "labels").mkdir()
        self._folder = folder
        manifest = self.enter_context(open_text(folder / "manifest.json"))
        head = {"type": "eta.core.datasets.LabeledVideoDataset", "description": describe(source)}
        manifest.write(f'{json_text(head)[:-1]},\n"index": [')
        self.callback(manifest.write, "\n]}\n")
        self._index = JsonElements(manifest)

    def add(self, info: InputRow, path: str, faces: Iterator[FaceRow]) -> None:
        labels = f"labels/{self._index.count:09d}.json"
        self._index.add({"data": path, "labels": labels})
        with open_text(self._folder / labels) as file:
            file.write('{"type": "eta.core.video.VideoLabels", "frames": {')
            frames = JsonElements(file)
            for frame, in_frame in faces_by_frame(info, faces):
                assert frame is not None, "faces of a video have a frame"
                objects = [_eta_object(info, face) for face in in_frame]
                number = frame.number + 1
                frames.add({"frame_number": number, "objects": {"objects": objects}}, key=str(number))
            file.write("\n}}\n")


def _eta_object(info: InputRow, face: FaceRow) -> JsonObject:
    x1, y1, x2, y2 = face.box_in_shares(info)
    numbers = {name: value for name, value in _fiftyone_attributes(face).items() if isinstance(value, float)}
    detected: JsonObject = {
        "label": face.label,
        "bounding_box": {"top_left": {"x": x1, "y": y1}, "bottom_right": {"x": x2, "y": y2}},
        "confidence": face.score,
        "attrs": {
            "attrs": [
                {"type": "eta.core.data.NumericAttribute", "name": name, "value": value}
                for name, value in numbers.items()
            ]
        },
    }
    return detected if face.track is None else detected | {"index": face.track}


def write_label_studio(source: Source, out: Path) -> None:
    """Write a folder of pre-annotated tasks for Label Studio, a project for each kind: `images.json`, `videos.json`.

    Beside each lies the labelling setup that its results belong to (`images.xml`, `videos.xml`). Boxes are in percent
    of the picture (within 1e-3 pixels). The face of a picture is a `rectanglelabels` region with the confidence as its
    score, and below it, where the source has landmarks, a `keypointlabels` region for each that is known and lies in
    the picture. In a video, a segment is a `videorectangle` region and a face a keyframe, frames from 1 and times from
    the start of the file; `framesCount` and `duration` reach to the last face, and `framerate` in the setup reads the
    task's `fps`. A local file is served by Label Studio itself: the address is `/data/local-files/?d=` and the input's
    name, relative to its document root. The probabilities of the other emotions are lost.

    Raises:
        ConfigError: A column that is needed is left out, or the size of a picture is not known.
    """
    needed = (*BOX_COLUMNS, *emotion_columns(source))
    optional = (*POSITION_COLUMNS, "detection_score", *SIZE_COLUMNS, *LANDMARK_COLUMNS)
    columns = select_columns(source, needed=needed, optional=optional)
    sampling = Sampling.of(source)
    out.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        tasks: dict[str, JsonElements] = {}
        for info, faces in inputs_with_faces(source, columns):
            kind = "video" if info.kind == "video" else "image"
            if kind not in tasks:
                setup = _label_studio_setup(kind, label_names(source), landmarks=has_landmarks(columns))
                (out / f"{kind}s.xml").write_text(setup, encoding="utf-8")
                tasks[kind] = _label_studio_tasks(stack, out / f"{kind}s.json")
            task = _video_task(info, faces, sampling) if kind == "video" else _image_task(info, faces)
            tasks[kind].add(task.as_json(model=source.record.get("model", "")))


def _label_studio_tasks(stack: contextlib.ExitStack, path: Path) -> JsonElements:
    """The elements of a list of tasks, which ends when the stack does."""
    file = stack.enter_context(open_text(path))
    file.write("[")
    stack.callback(file.write, "\n]\n")
    return JsonElements(file)


@dataclass(frozen=True, slots=True)
class _Task:
    """What Label Studio shows, and what is predicted for it."""

    data: JsonObject
    regions: list[JsonObject]
    scores: list[float]

    def as_json(self, *, model: str) -> JsonObject:
        prediction: JsonObject = {"model_version": model, "result": self.regions}
        if self.scores:
            prediction["score"] = sum(self.scores) / len(self.scores)
        return {"data": self.data, "predictions": [prediction]}


def _image_task(info: InputRow, faces: Iterator[FaceRow]) -> _Task:
    known = list(faces)
    return _Task(
        {"image": _label_studio_address(info.input)},
        [region for n, face in enumerate(known) for region in _image_regions(info, face, f"face{n}")],
        [face.score for face in known if face.score is not None],
    )


def _video_task(info: InputRow, faces: Iterator[FaceRow], sampling: Sampling) -> _Task:
    found = find_segments(faces, sampling, offset_s=info.time_offset_s or 0.0, with_sightings=True)
    fps = found.frames_per_second
    first_frame = 1 + round((info.time_offset_s or 0.0) * fps)
    num_frames = max((segment.last.frame + first_frame for segment in found.segments), default=0)
    # The schema of the results asks for these two; the editor reads them off the video itself.
    length: JsonObject = {"framesCount": num_frames, "duration": num_frames / fps}
    return _Task(
        {"video": _label_studio_address(info.input), "fps": fps},
        [
            _video_region(info, segment, f"segment{n}", length, first_frame=first_frame)
            for n, segment in enumerate(found.segments)
        ],
        [segment.confidence for segment in found.segments if segment.confidence is not None],
    )


def _label_studio_setup(kind: str, labels: Sequence[str], *, landmarks: bool) -> str:
    names = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in labels)
    if kind == "image":
        media = '  <Image name="image" value="$image"/>\n'
        tags = f'  <RectangleLabels name="emotion" toName="image">\n{names}  </RectangleLabels>\n'
        if landmarks:  # `model_index` is the order in which Label Studio exports them
            points = "".join(f'    <Label value="{name}" model_index="{n}"/>\n' for n, name in enumerate(LANDMARKS))
            tags += f'  <KeyPointLabels name="landmarks" toName="image">\n{points}  </KeyPointLabels>\n'
    else:
        media = (
            '  <Video name="video" value="$video" framerate="$fps"/>\n  <VideoRectangle name="box" toName="video"/>\n'
        )
        tags = f'  <Labels name="emotion" toName="video">\n{names}  </Labels>\n'
    return f"<View>\n{media}{tags}</View>\n"


def _label_studio_address(name: str) -> str:
    return name if is_remote(name) else f"/data/local-files/?d={quote(name.lstrip('/'))}"


def _image_regions(info: InputRow, face: FaceRow, name: str) -> Iterator[JsonObject]:
    """A face, and its landmarks as its children."""
    width, height = face.size(info)
    place: JsonObject = {
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
    }
    yield place | {
        "id": name,
        "type": "rectanglelabels",
        "from_name": "emotion",
        "value": _percent_box(info, face) | {"rectanglelabels": [face.label]},
        "score": face.score,
    }
    for landmark, (x, y) in face.landmarks_inside(info).items():
        yield place | {
            "id": f"{name}-{landmark}",
            "parentID": name,
            "type": "keypointlabels",
            "from_name": "landmarks",
            "value": {"x": 100 * x / width, "y": 100 * y / height, "width": _POINT_WIDTH, "keypointlabels": [landmark]},
        }


def _video_region(info: InputRow, segment: Segment, name: str, length: JsonObject, *, first_frame: int) -> JsonObject:
    sequence = [
        _percent_box(info, seen.face) | {"frame": seen.frame + first_frame, "time": seen.time_s, "enabled": True}
        for seen in segment.sightings
    ]
    sequence[-1]["enabled"] = False  # the box ends here, and is not drawn on to the end of the video
    return {
        "id": name,
        "type": "videorectangle",
        "from_name": "box",
        "to_name": "video",
        "value": length | {"sequence": sequence, "labels": [segment.emotion]},
        "score": segment.confidence,
        "meta": {"text": [segment.person.label]},
    }


def _percent_box(info: InputRow, face: FaceRow) -> JsonObject:
    x1, y1, x2, y2 = (100 * side for side in face.box_in_shares(info))
    return {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0}
