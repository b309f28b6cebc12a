"""Captions and tiers of videos: WebVTT, SRT and ELAN."""

from __future__ import annotations

import contextlib
import itertools
import mimetypes
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO
from xml.sax.saxutils import XMLGenerator, escape
from xml.sax.xmlreader import AttributesImpl

from motivnet_cli.errors import ConfigError
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from motivnet_cli.export.source import Source
from motivnet_cli.export.segments import (
    DOMINANT,
    WHERE,
    Sampling,
    Segment,
    about,
    columns_of,
    media_path,
    rows_of,
    segments_of,
    text_file,
)


def write_webvtt(source: Source, out: Path) -> None:
    """Write WebVTT captions, a cue a segment: the voice is the person, the text emotion and mean confidence.

    Into a folder that exists, a file for every video with faces, named as the video; else one file, of one video.
    Times to the millisecond, confidence to two digits; boxes and other probabilities are lost.

    Raises:
        ConfigError: No face is in a video, several videos are for one file, or a needed column is left out.
    """
    note = about(source).replace("-->", "->")

    def write(video: str, segments: Sequence[Segment], path: Path) -> None:
        with text_file(path) as file:
            file.write(f"WEBVTT\n\nNOTE {note}\n")
            for number, segment in enumerate(segments, start=1):
                times = f"{_clock(segment.start_ms, '.')} --> {_clock(segment.end_ms, '.')}"
                file.write(f"\n{number}\n{times}\n<v {segment.person.label}>{escape(segment.text)}\n")

    _write_videos(source, out, ".vtt", write)


def write_srt(source: Source, out: Path) -> None:
    """Write SubRip subtitles, a cue a segment: person, emotion and mean confidence.

    Files, tolerances and errors are those of `write_webvtt`.
    """

    def write(video: str, segments: Sequence[Segment], path: Path) -> None:
        with text_file(path) as file:
            for number, segment in enumerate(segments, start=1):
                times = f"{_clock(segment.start_ms, ',')} --> {_clock(segment.end_ms, ',')}"
                file.write(f"{number}\n{times}\n{segment.person.label}: {segment.text}\n\n")

    _write_videos(source, out, ".srt", write)


def write_elan(source: Source, out: Path) -> None:
    """Write ELAN documents (.eaf, format 3.0), a tier a person and an annotation a segment, its value the emotion.

    The emotions are a controlled vocabulary, so an annotator who corrects picks from the same words. Times to the
    millisecond; boxes and probabilities are lost. Files and errors are those of `write_webvtt`.
    """

    def write(video: str, segments: Sequence[Segment], path: Path) -> None:
        with path.open("wb") as file:
            _write_eaf(file, segments, source.classes, media=media_path(source, {"input": video}))

    _write_videos(source, out, ".eaf", write)


def _write_videos(
    source: Source, out: Path, suffix: str, write: Callable[[str, Sequence[Segment], Path], None]
) -> None:
    if not source.classes:
        raise ConfigError(
            f"model {source.record.get('model')!r} names no emotions to write as {suffix[1:]}; export boxes"
        )
    columns = columns_of(source, ("time_s", "frame", *DOMINANT), WHERE)
    sampling = Sampling.of(source)
    written: str | None = None
    for video, rows in itertools.groupby(rows_of(source, columns), key=lambda row: row["input"]):
        segments = segments_of((row for row in rows if None not in (row["time_s"], row["frame"])), sampling)
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


def _write_eaf(file: BinaryIO, segments: Sequence[Segment], classes: Sequence[str], *, media: str) -> None:
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
