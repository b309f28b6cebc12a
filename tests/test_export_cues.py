"""Captions and tiers of videos: each format is read by a library that others use."""

from __future__ import annotations

import re
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.export.cues import write_elan, write_srt, write_webvtt
from motivnet_cli.export.predictions import export_predictions
from motivnet_cli.export.source import Source
from motivnet_cli.records import EMOTIONS
from tests.exported import VIDEO, clip, face, files_written, mixed_output, output, rows_of


@pytest.fixture
def mixed(tmp_path):
    """The path of an output with pictures, an archive and a video."""
    return mixed_output(tmp_path)


def cues(path):
    """Start and end in ms, voice and emotion of each cue, as webvtt-py reads them."""
    webvtt = pytest.importorskip("webvtt")
    found = []
    for cue in webvtt.read(str(path)):
        shown, emotion = cue.text.removesuffix(cue.text.split()[-1]).strip().split(": ")
        assert shown == cue.voice  # players show the text alone
        found.append((*map(ms, (cue.start, cue.end)), cue.voice, emotion))
    return found


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


@pytest.mark.parametrize(("kind", "suffix"), [("webvtt", ".vtt"), ("srt", ".srt"), ("elan", ".eaf")])
def test_times_are_those_of_the_file(tmp_path, kind, suffix):
    """Players count from the start of the file: a video that begins 0.48 s after its sound is shifted by that."""
    found = []
    for offset_s in (0.0, 0.48):
        path = output(tmp_path, clip("clip.mp4", ["fear", "anger"]), {"clip.mp4": VIDEO | {"time_offset_s": offset_s}})
        text = export_predictions(path, kind, tmp_path / f"{offset_s}{suffix}").read_text()
        times = re.findall(r"\d\d:\d\d:\d\d[.,]\d\d\d|(?<=TIME_VALUE=\")\d+", text)
        found.append([int(re.sub(r"\D", "", time)) for time in times])

    assert sorted(set(found[0])) == [0, 1000, 2000]
    assert [after - before for before, after in zip(*found, strict=True)] == [480] * len(found[0])


def test_times_without_an_inputs_table_are_said_to_be_the_streams(tmp_path, caplog):
    """Where it is not known when the video begins, that is said."""
    path = output(tmp_path, clip("clip.mp4", ["fear"]), {"clip.mp4": VIDEO})
    path.with_suffix(".inputs.parquet").unlink()

    assert cues(export_predictions(path, "webvtt", tmp_path / "clip.vtt"))[0][0] == 0
    assert "no inputs table" in caplog.text


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
    assert [cue.text for cue in srt] == [cue.text for cue in webvtt.read(str(vtt))]
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


def test_elan_is_given_the_path_of_the_video_as_it_is(tmp_path):
    """ELAN takes what follows `file:` in the address for a path, and finds no file under one with %20 in it."""
    name = "Größe/Zoë & 1.mp4"
    path = output(tmp_path, clip(name, ["fear"]), {name: VIDEO}, settings={"inputs.paths": [str(tmp_path)]})
    (media,) = ElementTree.parse(export_predictions(path, "elan", tmp_path / "clip.eaf")).iter("MEDIA_DESCRIPTOR")

    assert media.get("MEDIA_URL") == f"file://{tmp_path}/{name}"
    assert media.get("RELATIVE_MEDIA_URL") == "./Zoë & 1.mp4"


@pytest.mark.parametrize("write", [write_webvtt, write_srt, write_elan])
def test_the_same_export_gives_the_same_bytes(mixed, tmp_path, write):
    """Nothing of the moment, such as a date or a random id, is in a file."""
    first, second = (files_written(write, Source(mixed), tmp_path / turn) for turn in ("first", "second"))

    assert first
    assert first == second
