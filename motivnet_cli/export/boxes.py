"""Predictions for the tools people annotate and look with: boxes for COCO, FiftyOne and Label Studio; cues for players.

A room of boxes and cues: it takes rows from a `Source` and knows neither where they lie nor who asked for them.
What stretches over time is a *segment*: one person (a track, else a face number) with one dominant emotion, until the
emotion changes or the person is missing from a frame that was looked at. The segments of one video are held at a
time; everything else streams.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import mimetypes
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO
from urllib.parse import quote
from xml.sax.saxutils import XMLGenerator, escape, quoteattr
from xml.sax.xmlreader import AttributesImpl

from motivnet_cli.config import DEFAULT_FPS
from motivnet_cli.errors import ConfigError
from motivnet_cli.remote.files import is_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from motivnet_cli.export.source import Source

Row = dict[str, Any]

_BOX = ("x1", "y1", "x2", "y2")
_WHERE = ("input", "frame", "time_s", "face", "track")
_FACE = ("face_source", "detection_score")
_DOMINANT = ("emotion", "confidence")
_NO_EMOTION = "face"
"""Label of every box of a model that names no emotions."""


# ---- boxes ------------------------------------------------------------------------------------------------


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
    columns = _columns(source, (*_BOX, *_emotion_columns(source)), (*_WHERE, *_FACE))
    numbers = {name: number for number, name in enumerate(_labels(source), start=1)}
    head = {
        "info": {"description": _about(source), "contributor": source.record.get("tool", "")},
        "licenses": [],
        "categories": [{"id": n, "name": name, "supercategory": "face"} for name, n in numbers.items()],
    }
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_text_file(out))
        spools = [
            stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=out.parent))
            for _ in range(2)
        ]
        file.write(f'{_json(head)[:-1]},\n"images": [')
        images, annotations, videos = _Elements(file), *map(_Elements, spools)
        for info, rows in _inputs(source, columns):
            size = {"width": info["width"], "height": info["height"]}
            if info["kind"] == "video":
                videos.add({"id": videos.count + 1, "name": info["input"], **size})
            for frame, faces in _frames(info, rows):
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
    x1, y1, x2, y2 = (row[side] for side in _BOX)
    annotation = {
        "id": number,
        "image_id": image,
        "category_id": categories[_label(row)],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
        "score": _score(row),
        "attributes": _attributes(source, row),
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
    columns = _columns(source, (*_BOX, *_emotion_columns(source)), (*_WHERE, *_FACE))
    out.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        images: _FiftyOneImages | None = None
        videos: _FiftyOneVideos | None = None
        for info, rows in _inputs(source, columns):
            path = _media_path(source, info)
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
        labels, paths = (self.enter_context(_text_file(folder / name)) for name in ("labels.json", "data.json"))
        labels.write(f'{{"classes": {_json(_labels(source))},\n"labels": {{')
        paths.write("{")
        self.callback(labels.write, "\n}}\n")
        self.callback(paths.write, "\n}\n")
        self._labels, self._paths = _Elements(labels), _Elements(paths)

    def add(self, info: Row, path: str, rows: Iterator[Row]) -> None:
        # The importer sorts by key and cuts what follows its last dot, so that names would clash (a.jpg, a.png).
        key = f"{self._paths.count:09d}"
        self._paths.add(path, key=key)
        self._labels.add([self._detection(info, row) for row in rows], key=key)

    def _detection(self, info: Row, row: Row) -> Row:
        x1, y1, x2, y2 = _relative_box(info, row)
        return {
            "label": _label(row),
            "bounding_box": [x1, y1, x2 - x1, y2 - y1],
            "confidence": _score(row),
            "attributes": _attributes(self._source, row),
        }


class _FiftyOneVideos(contextlib.ExitStack):
    """manifest.json and a file of frames a video, in the layout of ETA's VideoLabels."""

    def __init__(self, source: Source, folder: Path) -> None:
        super().__init__()
        folder.mkdir()
        (folder / "labels").mkdir()
        self._source, self._folder = source, folder
        manifest = self.enter_context(_text_file(folder / "manifest.json"))
        head = {"type": "eta.core.datasets.LabeledVideoDataset", "description": _about(source)}
        manifest.write(f'{_json(head)[:-1]},\n"index": [')
        self.callback(manifest.write, "\n]}\n")
        self._index = _Elements(manifest)

    def add(self, info: Row, path: str, rows: Iterator[Row]) -> None:
        labels = f"labels/{self._index.count:09d}.json"
        self._index.add({"data": path, "labels": labels})
        with _text_file(self._folder / labels) as file:
            file.write('{"type": "eta.core.video.VideoLabels", "frames": {')
            frames = _Elements(file)
            for frame, faces in _frames(info, rows):
                assert frame is not None, "a video's rows have frames"
                objects = [self._object(info, row) for row in faces]
                number = frame[0] + 1
                frames.add({"frame_number": number, "objects": {"objects": objects}}, key=str(number))
            file.write("\n}}\n")

    def _object(self, info: Row, row: Row) -> Row:
        x1, y1, x2, y2 = _relative_box(info, row)
        numbers = {name: value for name, value in _attributes(self._source, row).items() if isinstance(value, float)}
        detected = {
            "label": _label(row),
            "bounding_box": {"top_left": {"x": x1, "y": y1}, "bottom_right": {"x": x2, "y": y2}},
            "confidence": _score(row),
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
    columns = _columns(source, (*_BOX, *_dominant_columns(source)), (*_WHERE, "detection_score"))
    sampling = _Sampling.of(source)
    out.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        tasks: dict[str, _Elements] = {}
        for info, rows in _inputs(source, columns):
            kind = "video" if info["kind"] == "video" else "image"
            if kind not in tasks:
                (out / f"{kind}s.xml").write_text(_label_studio_setup(kind, _labels(source)), encoding="utf-8")
                file = stack.enter_context(_text_file(out / f"{kind}s.json"))
                file.write("[")
                stack.callback(file.write, "\n]\n")
                tasks[kind] = _Elements(file)
            data: Row = {kind: _label_studio_address(info["input"])}
            if kind == "video":
                segments = _segments(rows, sampling, with_faces=True)
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
        "value": _percent_box(info, row) | {"rectanglelabels": [_label(row)]},
        "score": _score(row),
    }


def _video_region(info: Row, segment: _Segment, name: str, seen: Row) -> Row:
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
    x1, y1, x2, y2 = (100 * side for side in _relative_box(info, row))
    return {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0}


# ---- cues -------------------------------------------------------------------------------------------------


def write_webvtt(source: Source, out: Path) -> None:
    """Write WebVTT captions, a cue a segment: the voice is the person, the text emotion and mean confidence.

    Into a folder that exists, a file for every video with faces, named as the video; else one file, of one video.
    Times to the millisecond, confidence to two digits; boxes and other probabilities are lost.

    Raises:
        ConfigError: No face is in a video, several videos are for one file, or a needed column is left out.
    """
    note = _about(source).replace("-->", "->")

    def write(video: str, segments: Sequence[_Segment], path: Path) -> None:
        with _text_file(path) as file:
            file.write(f"WEBVTT\n\nNOTE {note}\n")
            for number, segment in enumerate(segments, start=1):
                times = f"{_clock(segment.start_ms, '.')} --> {_clock(segment.end_ms, '.')}"
                file.write(f"\n{number}\n{times}\n<v {segment.person.label}>{escape(segment.text)}\n")

    _write_videos(source, out, ".vtt", write)


def write_srt(source: Source, out: Path) -> None:
    """Write SubRip subtitles, a cue a segment: person, emotion and mean confidence.

    Files, tolerances and errors are those of `write_webvtt`.
    """

    def write(video: str, segments: Sequence[_Segment], path: Path) -> None:
        with _text_file(path) as file:
            for number, segment in enumerate(segments, start=1):
                times = f"{_clock(segment.start_ms, ',')} --> {_clock(segment.end_ms, ',')}"
                file.write(f"{number}\n{times}\n{segment.person.label}: {segment.text}\n\n")

    _write_videos(source, out, ".srt", write)


def write_elan(source: Source, out: Path) -> None:
    """Write ELAN documents (.eaf, format 3.0), a tier a person and an annotation a segment, its value the emotion.

    The emotions are a controlled vocabulary, so an annotator who corrects picks from the same words. Times to the
    millisecond; boxes and probabilities are lost. Files and errors are those of `write_webvtt`.
    """

    def write(video: str, segments: Sequence[_Segment], path: Path) -> None:
        with path.open("wb") as file:
            _write_eaf(file, segments, source.classes, media=_media_path(source, {"input": video}))

    _write_videos(source, out, ".eaf", write)


def _write_videos(
    source: Source, out: Path, suffix: str, write: Callable[[str, Sequence[_Segment], Path], None]
) -> None:
    if not source.classes:
        raise ConfigError(
            f"model {source.record.get('model')!r} names no emotions to write as {suffix[1:]}; export boxes"
        )
    columns = _columns(source, ("time_s", "frame", *_DOMINANT), _WHERE)
    sampling = _Sampling.of(source)
    written: str | None = None
    for video, rows in itertools.groupby(_rows(source, columns), key=lambda row: row["input"]):
        segments = _segments((row for row in rows if None not in (row["time_s"], row["frame"])), sampling)
        if not segments:
            continue
        if out.is_dir():
            write(video, segments, _path_in(out, video, suffix))
        elif written is None:
            write(video, segments, out)
        else:
            raise ConfigError(
                f"{suffix[1:]} takes a file a video, and there are several ({written!r}, {video!r}, ...); "
                f"give a folder to write to, or choose one, such as --where \"input = '{video}'\""
            )
        written = video
    if written is None:
        raise ConfigError(f"no face in a video is there to write as {suffix[1:]}; pictures have no times")


def _path_in(folder: Path, name: str, suffix: str) -> Path:
    """Where a video's file goes: below `folder` whatever its name, and never over that of another video."""
    plain = name.partition("://")[2].partition("?")[0] if is_remote(name) else name
    parts = [part for part in re.split(r"[/\\:]+", plain) if part not in ("", ".", "..")]
    path = folder.joinpath(*(parts or ["video"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Players look for clip.vtt beside clip.mp4; clip.mov next to it must not take the same name.
    names = (path.with_suffix(suffix), *(path.with_name(f"{path.name}{n}{suffix}") for n in ("", "-2")))
    candidates = itertools.chain(names, (path.with_name(f"{path.name}-{n}{suffix}") for n in itertools.count(3)))
    return next(candidate for candidate in candidates if not candidate.exists())


def _clock(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{ms:03d}"


_EAF_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_EAF_DATE = "1970-01-01T00:00:00Z"
"""The format asks for a date; the same export gives the same bytes."""


def _write_eaf(file: BinaryIO, segments: Sequence[_Segment], classes: Sequence[str], *, media: str) -> None:
    """Elements in the order that the schema asks for."""
    xml = XMLGenerator(file, "UTF-8", short_empty_elements=True)

    @contextlib.contextmanager
    def element(name: str, **attributes: str) -> Iterator[None]:
        xml.startElement(name, AttributesImpl(attributes))
        yield
        xml.endElement(name)
        xml.ignorableWhitespace("\n")

    def leaf(name: str, text: str = "", **attributes: str) -> None:
        with element(name, **attributes):
            xml.characters(text)

    slots = {ms: f"ts{n}" for n, ms in enumerate(sorted({t for s in segments for t in (s.start_ms, s.end_ms)}), 1)}
    head = {"AUTHOR": "", "DATE": _EAF_DATE, "FORMAT": "3.0", "VERSION": "3.0"}
    schema = {"xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance", "xsi:noNamespaceSchemaLocation": _EAF_SCHEMA}
    xml.startDocument()
    with element("ANNOTATION_DOCUMENT", **head, **schema):
        with element("HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds"):
            where = media if is_remote(media) else Path(media).as_uri() if Path(media).is_absolute() else media
            leaf(
                "MEDIA_DESCRIPTOR",
                MEDIA_URL=where,
                MIME_TYPE=mimetypes.guess_type(media)[0] or "unknown",
                RELATIVE_MEDIA_URL=f"./{PurePosixPath(media).name}",
            )
            leaf("PROPERTY", str(len(segments)), NAME="lastUsedAnnotationId")
        with element("TIME_ORDER"):
            for ms, slot in slots.items():
                leaf("TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(ms))
        numbers = itertools.count(1)
        for person in sorted({segment.person for segment in segments}):
            with element("TIER", LINGUISTIC_TYPE_REF="emotion", TIER_ID=person.label):
                for segment in segments:
                    if segment.person != person:
                        continue
                    ends = {"TIME_SLOT_REF1": slots[segment.start_ms], "TIME_SLOT_REF2": slots[segment.end_ms]}
                    with (
                        element("ANNOTATION"),
                        element("ALIGNABLE_ANNOTATION", ANNOTATION_ID=f"a{next(numbers)}", **ends),
                    ):
                        leaf("ANNOTATION_VALUE", segment.emotion)
        leaf(
            "LINGUISTIC_TYPE",
            CONTROLLED_VOCABULARY_REF="emotions",
            GRAPHIC_REFERENCES="false",
            LINGUISTIC_TYPE_ID="emotion",
            TIME_ALIGNABLE="true",
        )
        leaf("LANGUAGE", LANG_DEF="http://cdb.iso.org/lg/CDB-00138502-001", LANG_ID="eng", LANG_LABEL="English (eng)")
        with element("CONTROLLED_VOCABULARY", CV_ID="emotions"):
            leaf("DESCRIPTION", LANG_REF="eng")
            for name in classes:
                with element("CV_ENTRY_ML", CVE_ID=f"emotion_{name}"):
                    leaf("CVE_VALUE", name, DESCRIPTION="", LANG_REF="eng")
    xml.endDocument()


# ---- segments ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class _Person:
    """Who a segment is of: a track where faces were followed, else a face number, which may change its owner."""

    kind: str
    number: int

    @classmethod
    def of(cls, row: Row) -> _Person:
        track = row.get("track")
        return cls("face", row.get("face") or 0) if track is None else cls("track", track)

    @property
    def label(self) -> str:
        return f"{self.kind} {self.number}"


@dataclass(slots=True, eq=False)
class _Segment:
    """One person with one dominant emotion, from `start_s` up to `end_s`."""

    person: _Person
    emotion: str
    start_s: float
    last_s: float
    last_frame: int
    end_s: float = math.nan
    scores: list[float] = field(default_factory=list)
    faces: list[Row] = field(default_factory=list)

    @property
    def start_ms(self) -> int:
        return round(1000 * self.start_s)

    @property
    def end_ms(self) -> int:
        return max(round(1000 * self.end_s), self.start_ms + 1)  # ELAN and players want a length

    @property
    def confidence(self) -> float | None:
        """Mean over the faces; None if the model gives none."""
        return sum(self.scores) / len(self.scores) if self.scores else None

    @property
    def text(self) -> str:
        return self.emotion if self.confidence is None else f"{self.emotion} {self.confidence:.2f}"


@dataclass(slots=True)
class _Sampling:
    """Which frames of a video were looked at, so that a missing frame can be told from a frame not looked at."""

    fps: float | None
    every: int
    seconds_a_frame: float | None = None
    """Of the video now read, the mean so far; None before its second frame with faces."""

    @classmethod
    def of(cls, source: Source) -> _Sampling:
        video = source.record.get("video", {"fps": DEFAULT_FPS})
        every = video.get("every")
        return cls(None if every else video.get("fps"), every or 1)

    @property
    def step_s(self) -> float:
        """Time that one frame stands for."""
        if self.fps is None:
            return self.every * (self.seconds_a_frame or 1 / DEFAULT_FPS)
        return max(1 / self.fps, self.seconds_a_frame or 0)

    def are_neighbours(self, segment: _Segment, row: Row) -> bool:
        """Whether no frame was looked at between a segment's last and this one."""
        if row["frame"] - segment.last_frame <= self.every:
            return True
        # Sampled by time, the nearest frame is taken: steps vary by less than half.
        return self.fps is not None and row["time_s"] - segment.last_s < 1.5 / self.fps

    def frames_per_second(self) -> float:
        """Of the video that was read; 24, as Label Studio has it, where a single frame does not tell."""
        return 1 / self.seconds_a_frame if self.seconds_a_frame else 24.0


def _segments(rows: Iterator[Row], sampling: _Sampling, *, with_faces: bool = False) -> list[_Segment]:
    """The segments of one video's rows, ordered by start, then person."""
    segments: list[_Segment] = []
    current: dict[_Person, _Segment] = {}
    sampling.seconds_a_frame = None
    first: Row | None = None
    for row in rows:
        first = first or row
        time_s, frame = row["time_s"], row["frame"]
        if frame > first["frame"] and time_s > first["time_s"]:
            sampling.seconds_a_frame = (time_s - first["time_s"]) / (frame - first["frame"])
        person = _Person.of(row)
        segment = current.get(person)
        if segment is not None:
            follows = sampling.are_neighbours(segment, row)
            segment.end_s = time_s if follows else min(segment.last_s + sampling.step_s, time_s)
            if not follows or segment.emotion != _label(row):
                segment = None
        if segment is None:
            segment = current[person] = _Segment(person, _label(row), time_s, time_s, frame)
            segments.append(segment)
        segment.last_s, segment.last_frame = time_s, frame
        if (score := _score(row)) is not None:
            segment.scores.append(score)
        if with_faces:
            segment.faces.append(row)
    for segment in current.values():
        segment.end_s = segment.last_s + sampling.step_s
    return sorted(segments, key=lambda segment: (segment.start_s, segment.person))


# ---- rows -------------------------------------------------------------------------------------------------


def _columns(source: Source, needed: Sequence[str], useful: Sequence[str]) -> list[str]:
    """Those columns of the source that an export reads."""
    missing = [name for name in ("input", *needed) if name not in source.schema.names]
    if missing:
        raise ConfigError(
            f"this format needs the columns {', '.join(missing)}, and there are only {', '.join(source.schema.names)}; "
            "name them in --columns, or leave that option out"
        )
    return [name for name in dict.fromkeys((*needed, *useful)) if name in source.schema.names]


def _dominant_columns(source: Source) -> tuple[str, ...]:
    return _DOMINANT if source.classes else ()


def _emotion_columns(source: Source) -> tuple[str, ...]:
    return (*_dominant_columns(source), *source.classes)


def _rows(source: Source, columns: Sequence[str]) -> Iterator[Row]:
    for batch in source.batches(columns):
        for row in batch.to_pylist():
            if "emotion" in row and row["emotion"] not in source.classes:
                raise ConfigError(
                    f"a face in {row['input']!r} has emotion {row['emotion']!r}, which is none of the model's "
                    f"({', '.join(source.classes)}); leave such rows out with --where"
                )
            yield row


def _inputs(source: Source, columns: Sequence[str]) -> Iterator[tuple[Row, Iterator[Row]]]:
    """Every picture and video that was read, with its faces; not those whose faces were all filtered away."""
    groups = itertools.groupby(_rows(source, columns), key=lambda row: row["input"])
    following = next(groups, None)
    has_inputs = False
    for info in source.inputs():
        has_inputs = True
        if following is not None and following[0] == info["input"]:
            yield info, following[1]
            following = next(groups, None)
        elif not info["faces"] and info["status"] != "failed" and info["kind"] in ("image", "video"):
            yield info, iter(())
    if following is not None and has_inputs:
        raise ConfigError(
            f"the faces of {following[0]!r} are not where its row of the inputs table is; "
            "sort the faces in the order of the inputs table, or export the file that annotate wrote"
        )
    while following is not None:  # a table of someone's own, without one of inputs
        name, rows = following
        first = next(rows)
        kind = "image" if first.get("frame") is None else "video"
        yield {"input": name, "kind": kind, "width": None, "height": None}, itertools.chain([first], rows)
        following = next(groups, None)


def _frames(info: Row, rows: Iterator[Row]) -> Iterator[tuple[_FrameOf, Iterator[Row]]]:
    """The pictures that an input's faces are in, each with its faces: itself, or the frames of a video."""
    if info["kind"] == "video":
        yield from itertools.groupby(rows, key=lambda row: (row["frame"], row.get("time_s")))
    else:
        yield None, rows


_FrameOf = tuple[int, float | None] | None
"""Number, from 0, and time of a frame; None for a still picture."""


def _labels(source: Source) -> list[str]:
    return list(source.classes) or [_NO_EMOTION]


def _label(row: Row) -> str:
    return row.get("emotion") or _NO_EMOTION


def _score(row: Row) -> float | None:
    return _shortest(row["confidence"] if "confidence" in row else row.get("detection_score"))


def _attributes(source: Source, row: Row) -> Row:
    """What else is known of a face, without what is not."""
    numbers = {name: _shortest(row.get(name)) for name in (*source.classes, "detection_score")}
    known = {name: value for name, value in numbers.items() if value is not None}
    return known | {"face_source": row["face_source"]} if row.get("face_source") else known


def _shortest(value: float | None) -> float | None:
    """The short decimal that is the same float32: nine digits always are (IEEE 754); None for NaN, which JSON lacks."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.9g}")


def _relative_box(info: Row, row: Row) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 as shares of the picture's width and height."""
    width, height = info["width"], info["height"]
    if not width or not height:
        raise ConfigError(
            f"the size of {info['input']!r} is not known, and this format's boxes are relative to it; export from "
            "annotate's own output with its inputs table beside it, or choose coco"
        )
    return row["x1"] / width, row["y1"] / height, row["x2"] / width, row["y2"] / height


def _media_path(source: Source, info: Row) -> str:
    """Where an input's file is, as far as the run's record tells; else its name."""
    name: str = info["input"]
    given = [path for key, path in _given(source.record) if key == "inputs.paths"]
    if is_remote(name) or Path(name).is_absolute() or len(given) != 1 or len(_given(source.record)) != 1:
        return name
    base = Path(given[0])
    return str(base / name if base.is_dir() else base) if not info.get("archive") else name


def _given(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the run was told to read, with the setting that told it."""
    settings = record.get("settings", {})
    keys = ("inputs.paths", "inputs.files_from", "inputs.files0_from", "inputs.manifests")
    return [(key, path) for key in keys for path in settings.get(key) or ()]


def _about(source: Source) -> str:
    return f"Faces and their emotions as predicted by {source.record.get('model', 'an unnamed model')}"


# ---- text -------------------------------------------------------------------------------------------------


class _Elements:
    """The elements of a JSON array or object, written one by one."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.count = 0

    def add(self, value: object, *, key: str | None = None) -> None:
        name = "" if key is None else f"{_json(key)}: "
        self._file.write(f"{',' if self.count else ''}\n{name}{_json(value)}")
        self.count += 1


def _json(value: object) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def _text_file(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", newline="\n")
