"""Captions and tiers of videos: WebVTT, SRT and ELAN.

What is written is a cue for each segment: a person with a dominant emotion, from one time to another. The segments of
one video are held at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import mimetypes
import re
import shlex
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO
from xml.sax.saxutils import XMLGenerator, escape
from xml.sax.xmlreader import AttributesImpl

from motivnet_cli.errors import ConfigError, one_line
from motivnet_cli.export.destination import path_below
from motivnet_cli.export.filters import NO_FILTERS
from motivnet_cli.export.rows import (
    EMOTION_COLUMNS,
    POSITION_COLUMNS,
    describe,
    face_rows,
    media_path,
    select_columns,
    time_offsets,
)
from motivnet_cli.export.segments import Sampling
from motivnet_cli.export.text import open_text
from motivnet_cli.remote.urls import is_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from motivnet_cli.export.filters import Filters
    from motivnet_cli.export.segments import Segment
    from motivnet_cli.export.source import Source


def write_webvtt(source: Source, out: Path, *, filters: Filters = NO_FILTERS) -> None:
    """Write WebVTT captions, a cue for each segment: the voice is the person, the text person, emotion and confidence.

    Into a folder that exists, a file for every video with faces, named like the video; else one file, of one video.
    Times to the millisecond from the start of the file, as players count, confidence to two digits; boxes and the
    other probabilities are lost.

    Raises:
        ConfigError: No face is in a video, several videos are for one file, or a column that is needed is left out.
    """
    note = _note(source, filters).replace("-->", "->")

    def write(video: str, segments: Sequence[Segment], path: Path) -> None:
        with open_text(path) as file:
            file.write(f"WEBVTT\n\nNOTE {note}\n")
            for number, segment in enumerate(segments, start=1):
                times = f"{_clock(segment.start_ms, '.')} --> {_clock(segment.end_ms, '.')}"
                # Browsers and players show the text alone, and not whose voice it is.
                file.write(f"\n{number}\n{times}\n<v {segment.person.label}>{escape(segment.text)}\n")

    _write_videos(source, out, ".vtt", write, filters)


def write_srt(source: Source, out: Path, *, filters: Filters = NO_FILTERS) -> None:
    """Write SubRip subtitles, a cue for each segment: person, emotion and mean confidence.

    Files, tolerances and errors are those of `write_webvtt`.
    """

    def write(video: str, segments: Sequence[Segment], path: Path) -> None:
        with open_text(path) as file:
            for number, segment in enumerate(segments, start=1):
                times = f"{_clock(segment.start_ms, ',')} --> {_clock(segment.end_ms, ',')}"
                file.write(f"{number}\n{times}\n{segment.text.translate(_NO_TAGS)}\n\n")

    _write_videos(source, out, ".srt", write, filters)


def write_elan(source: Source, out: Path, *, filters: Filters = NO_FILTERS) -> None:
    """Write ELAN documents (.eaf, format 3.0): a tier for each person, an annotation for each segment.

    The value of an annotation is the emotion. The emotions are a controlled vocabulary, so that an annotator who
    corrects picks from the same words. Times to the millisecond from the start of the file; boxes and probabilities are
    lost. Files and errors are those of `write_webvtt`.
    """

    def write(video: str, segments: Sequence[Segment], path: Path) -> None:
        with path.open("wb") as file:
            _write_eaf(file, segments, source.classes, media=media_path(source, video), filters=filters)

    _write_videos(source, out, ".eaf", write, filters)


def _note(source: Source, filters: Filters) -> str:
    return f"{describe(source)}; {filters.text}" if filters else describe(source)


def _write_videos(
    source: Source, out: Path, suffix: str, write: Callable[[str, Sequence[Segment], Path], None], filters: Filters
) -> None:
    """Have every video with faces written: below the folder `out`, or the only one as the file `out`."""
    if not source.classes:
        raise ConfigError(
            f"model {source.record.get('model')!r} names no emotions to write as {suffix[1:]}; export boxes"
        )
    probabilities = source.classes if filters.smooth_s is not None else ()
    needed = ("time_s", "frame", *EMOTION_COLUMNS, *probabilities)
    columns = select_columns(source, needed=needed, optional=POSITION_COLUMNS)
    sampling = Sampling.of(source)
    filters.warn_if_narrow(sampling)
    offsets_s = time_offsets(source)
    written: str | None = None
    for video, faces in itertools.groupby(face_rows(source, columns), key=lambda face: face.input):
        offset_s = offsets_s.get(video, 0.0)
        segments = filters.find_segments(faces, sampling, source.classes, offset_s=offset_s).segments
        if not segments:
            continue
        if out.is_dir():
            # Players look for clip.vtt beside clip.mp4.
            name = video.partition("://")[2].partition("?")[0] if is_remote(video) else video
            write(video, segments, path_below(out, name, suffix))
        elif written is None:
            write(video, segments, out)
        else:
            raise ConfigError(
                f"{suffix[1:]} takes a file for each video, and there are several ({written!r}, {video!r}, ...); "
                f"give a folder to write to, or choose one, such as --where {_sql_equal('input', video)}"
            )
        written = video
    if written is None:
        raise ConfigError(f"there is no face in a video to write as {suffix[1:]}; pictures have no times")


def _sql_equal(column: str, value: str) -> str:
    """A condition of SQL as a word of the shell, whatever the value: it is there to be copied."""
    return shlex.quote(f"{column} = '{value.replace(chr(39), chr(39) * 2)}'")


def _clock(ms: int, point: str) -> str:
    """Milliseconds as hh:mm:ss and the rest."""
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{ms:03d}"


_NO_TAGS = str.maketrans("<>{}", "\u2039\u203a()")
"""Of SRT, which has no escapes: players take <i> and {\\an8} for commands."""
_EAF_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_EAF_DATE = "1970-01-01T00:00:00Z"
"""The format asks for a date; with a fixed one, the same export gives the same bytes."""


def _write_eaf(
    file: BinaryIO, segments: Sequence[Segment], classes: Sequence[str], *, media: str, filters: Filters
) -> None:
    """One document; the schema asks for its elements in this order."""
    xml = _Xml(file)
    head = {"AUTHOR": "", "DATE": _EAF_DATE, "FORMAT": "3.0", "VERSION": "3.0"}
    schema = {"xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance", "xsi:noNamespaceSchemaLocation": _EAF_SCHEMA}
    slots = {ms: f"ts{n}" for n, ms in enumerate(sorted({t for s in segments for t in (s.start_ms, s.end_ms)}), 1)}
    with xml.element("ANNOTATION_DOCUMENT", **head, **schema):
        _write_eaf_header(xml, media, filters, num_annotations=len(segments))
        with xml.element("TIME_ORDER"):
            for ms, slot in slots.items():
                xml.leaf("TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(ms))
        _write_eaf_tiers(xml, segments, slots)
        _write_eaf_vocabulary(xml, classes)
    xml.end()


def _write_eaf_header(xml: _Xml, media: str, filters: Filters, *, num_annotations: int) -> None:
    with xml.element("HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds"):
        xml.leaf(
            "MEDIA_DESCRIPTOR",
            # ELAN takes what follows `file:` for a path as it is: it decodes no %20.
            MEDIA_URL=f"file://{media}" if not is_remote(media) and Path(media).is_absolute() else media,
            MIME_TYPE=mimetypes.guess_type(media)[0] or "unknown",
            RELATIVE_MEDIA_URL=f"./{PurePosixPath(media).name}",
        )
        xml.leaf("PROPERTY", str(num_annotations), NAME="lastUsedAnnotationId")
        if filters:
            xml.leaf("PROPERTY", filters.text, NAME="motivnet filters")


def _write_eaf_tiers(xml: _Xml, segments: Sequence[Segment], slots: dict[int, str]) -> None:
    """A tier for each person; `slots` are the ids of the times in milliseconds."""
    numbers = itertools.count(1)
    for person in sorted({segment.person for segment in segments}):
        with xml.element("TIER", LINGUISTIC_TYPE_REF="emotion", TIER_ID=person.label):
            for segment in segments:
                if segment.person != person:
                    continue
                ends = {"TIME_SLOT_REF1": slots[segment.start_ms], "TIME_SLOT_REF2": slots[segment.end_ms]}
                with (
                    xml.element("ANNOTATION"),
                    xml.element("ALIGNABLE_ANNOTATION", ANNOTATION_ID=f"a{next(numbers)}", **ends),
                ):
                    xml.leaf("ANNOTATION_VALUE", segment.emotion)


def _write_eaf_vocabulary(xml: _Xml, classes: Sequence[str]) -> None:
    xml.leaf(
        "LINGUISTIC_TYPE",
        CONTROLLED_VOCABULARY_REF="emotions",
        GRAPHIC_REFERENCES="false",
        LINGUISTIC_TYPE_ID="emotion",
        TIME_ALIGNABLE="true",
    )
    xml.leaf("LANGUAGE", LANG_DEF="http://cdb.iso.org/lg/CDB-00138502-001", LANG_ID="eng", LANG_LABEL="English (eng)")
    with xml.element("CONTROLLED_VOCABULARY", CV_ID="emotions"):
        xml.leaf("DESCRIPTION", LANG_REF="eng")
        for name in classes:
            with xml.element("CV_ENTRY_ML", CVE_ID=f"emotion_{name}"):
                xml.leaf("CVE_VALUE", name, DESCRIPTION="", LANG_REF="eng")


class _Xml:
    """An XML document, an element on each line."""

    def __init__(self, file: BinaryIO) -> None:
        self._generator = XMLGenerator(file, "UTF-8", short_empty_elements=True)
        self._generator.startDocument()
        self.end = self._generator.endDocument

    @contextlib.contextmanager
    def element(self, name: str, **attributes: str) -> Iterator[None]:
        self._generator.startElement(name, AttributesImpl({key: _in_xml(value) for key, value in attributes.items()}))
        yield
        self._generator.endElement(name)
        self._generator.ignorableWhitespace("\n")

    def leaf(self, name: str, text: str = "", **attributes: str) -> None:
        with self.element(name, **attributes):
            self._generator.characters(_in_xml(text))


def _in_xml(text: str) -> str:
    """The text with an escape such as `\\x1b` for every character that XML 1.0 cannot hold."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", lambda found: one_line(found[0]), text)
