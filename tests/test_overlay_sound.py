"""The sound of an overlay, decoded again: a beep stands where its flash stands, whatever the file was like."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from motivnet_cli.export.overlay import write_overlays
from motivnet_cli.inputs import sound
from tests.exported import face, output

RATE = 48_000
TICKS = Fraction(1, 90_000)
FLASH_S = 1.0
"""When picture and sound flash, in seconds from the start of the pictures."""


def film(path, codec, *, sound_s=0.0, picture_s=0.0, seconds=1.6):
    """A flash and a beep at once; pictures and sound may begin later than the file."""
    size = {"libopus": 960, "pcm_s16le": 1024}.get(codec, 1024)
    times = np.arange(round(seconds * RATE)) / RATE + sound_s
    beep = np.where((times >= FLASH_S + picture_s) & (times < FLASH_S + picture_s + 0.2), np.sin(times * 6000) * 0.8, 0)
    beep = (beep * 32767).astype(np.int16)
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        pictures.width, pictures.height, pictures.pix_fmt = 96, 64, "yuv420p"
        pictures.time_base = pictures.codec_context.time_base = TICKS
        pictures.codec_context.thread_count = 1
        track = container.add_stream(codec, rate=RATE, layout="mono")
        for k in range(round(seconds * 25)):
            level = 230 if FLASH_S <= k / 25 < FLASH_S + 0.2 else 20
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round((k / 25 + picture_s) / TICKS), TICKS
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        for first in range(0, len(beep), size):
            frame = av.AudioFrame.from_ndarray(beep[None, first : first + size], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, first + round(sound_s * RATE), Fraction(1, RATE)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


def onsets(path):
    """When the picture turns light and when the sound begins, in seconds by the clock of a player; and the codec."""
    with av.open(str(path)) as container:
        origin = container.start_time / av.time_base
        light = next(
            frame.time - origin for frame in container.decode(video=0) if frame.to_ndarray(format="gray").mean() > 120
        )
        container.seek(0)
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray().astype(float).reshape(-1)) > 0.2)
            if len(loud):
                codec = container.streams.audio[0].codec_context.name
                return light, frame.time - origin + loud[0] / frame.sample_rate, codec
    raise AssertionError("no sound was heard")


FILMS = {
    "plain.mp4": ("aac", {}, "aac"),
    "opus.mkv": ("libopus", {"sound_s": 0.3}, "aac"),
    "late.ts": ("mp2", {"picture_s": 0.5}, "aac"),
    "early.mp4": ("ac3", {"picture_s": 0.4, "sound_s": 0.2}, "ac3"),
}
"""Each with the codec of its sound, when its parts begin, and the codec that MP4 gets."""


@pytest.fixture(scope="module")
def preds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    for name, (codec, parts, _) in FILMS.items():
        film(folder / name, codec, **parts)
    faces = [face(name, frame=0, time_s=0.0, box=(20, 20, 60, 50), size=(96, 64)) for name in FILMS]
    inputs = {name: {"kind": "video", "width": 96, "height": 64} for name in FILMS}
    return output(folder, faces, inputs, settings={"inputs.paths": [str(folder)]})


@pytest.mark.parametrize(
    ("start_s", "names"),
    [(0.0, ["opus.mkv", "late.ts"]), (0.7, ["plain.mp4", "opus.mkv", "early.mp4"])],
    ids=["all", "from --start"],
)
def test_sound_and_pictures_stay_together(preds, tmp_path, start_s, names):
    """To 25 ms, and at the times of the file less --start; what MP4 takes is copied, the rest is AAC."""
    result = write_overlays(str(preds), str(tmp_path / "seen"), names, start_s=start_s, end_s=1.7)

    assert (result.videos, result.remarks) == (len(names), [])
    for name in names:
        before = onsets(preds.parent / name)[0]
        suffix = "" if name.endswith(".mp4") else ".mp4"
        light, beep, written = onsets(tmp_path / "seen" / f"{name}{suffix}")
        assert light == pytest.approx(before - start_s, abs=0.002), name
        assert beep == pytest.approx(light, abs=0.025), name
        assert written == FILMS[name][2], name


def test_without_its_sound_a_video_is_drawn_and_a_remark_says_so(preds, tmp_path, monkeypatch):
    """The process that takes it out may die, and then nobody knows when the pictures begin."""
    monkeypatch.setattr(sound, "MEMORY_BYTES", 1)
    result = write_overlays(str(preds), str(tmp_path / "o.mp4"), ["plain.mp4"])

    [(name, sentence)] = result.remarks
    assert (result.videos, name) == (1, "plain.mp4")
    assert sentence.startswith("sound is left out, and times count from its first picture: ")
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
