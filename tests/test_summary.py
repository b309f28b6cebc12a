"""The summary of predictions, against examples that are worked out by hand."""

from __future__ import annotations

import csv
import json

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.errors import ConfigError
from motivnet_cli.export.filters import NO_FILTERS, Filters
from motivnet_cli.export.predictions import export_predictions
from motivnet_cli.export.source import Source
from motivnet_cli.export.summary import Summary, write_summary
from motivnet_cli.output.tables import METADATA_KEY
from motivnet_cli.records import EMOTIONS
from tests.exported import VIDEO, face, output
from tests.terminals import terminal

EVERY_FRAME = {"fps": None, "every": None}
PAIR = ("happiness", "anger")


def seen(name, time_s, happiness, *, frame=None, number=0, track=None, **kept):
    """A face with happiness and anger alone; in a video of 1 frame a second, unless its frame is given."""
    frame = time_s if frame is None and time_s is not None else frame
    emotion = "happiness" if happiness >= 0.5 else "anger"
    row = face(name, number, frame=frame, time_s=time_s, emotion=emotion, track=track)
    probabilities = dict.fromkeys(EMOTIONS, 0.0) | {"happiness": happiness, "anger": 1 - happiness}
    return row | probabilities | {"confidence": max(happiness, 1 - happiness)} | kept


def story(name, values, **more):
    """A person in a video at 1 frame a second: the probability of happiness, None where they are away."""
    return [seen(name, float(t), value, frame=t, **more) for t, value in enumerate(values) if value is not None]


def summed(path, by="input", filters=NO_FILTERS):
    return list(Summary(path, by=by, filters=filters).rows())


def part(row, *names):
    return tuple(row[name] for name in names)


def test_a_video_with_an_absence(tmp_path):
    """H H A - A H at 1 frame a second, each frame for a second; the second without a face is nobody's."""
    path = output(tmp_path, story("v.mp4", [1, 0.75, 0.25, None, 0, 1]), {"v.mp4": VIDEO}, tracks=False)
    (row,) = summed(path)

    assert part(row, "kind", "faces", "seconds", "first_s", "last_s") == ("video", 5, 5.0, 0.0, 6.0)
    assert part(row, "dominant", "happiness_share", "anger_share", "fear_share") == ("happiness", 0.6, 0.4, 0.0)
    assert part(row, "happiness_probability", "anger_probability") == (0.6, 0.4)
    # HH, A | A, H: the absence parts two episodes of anger, and is no transition.
    assert part(row, "episodes", "mean_episode_s", "longest_episode_s", "transitions") == (4, 1.25, 2.0, 2)
    assert part(row, "happiness_episodes", "happiness_mean_episode_s", "happiness_longest_episode_s") == (2, 1.5, 2.0)
    assert part(row, "anger_episodes", "fear_episodes", "fear_mean_episode_s") == (2, 0, None)


def test_a_variable_rate_counts_in_seconds(tmp_path):
    """Three frames of happiness in 0.3 s are less than one of anger that stays for 3 s."""
    times = [(0, 0.0, 1.0), (1, 0.1, 1.0), (2, 0.2, 1.0), (3, 0.3, 0.2), (4, 3.3, 1.0)]
    rows = [seen("v.mp4", time_s, value, frame=frame) for frame, time_s, value in times]
    path = output(tmp_path, rows, {"v.mp4": VIDEO | {"time_offset_s": 2.0}}, video=EVERY_FRAME, tracks=False)
    (row,) = summed(path)

    # The end of the last frame is not known: it is given the mean of all, 3.3 s / 4.
    assert part(row, "seconds", "first_s", "last_s") == (4.125, 2.0, 6.125)
    assert part(row, "dominant", "anger_share") == ("anger", round(3 / 4.125, 6))
    assert row["happiness_probability"] == round((0.3 + 3 * 0.2 + 0.825) / 4.125, 6)


def test_every_tenth_frame_two_people_who_come_and_go(tmp_path):
    """Track 1: H 0.5 s, H 0.5 s, A; away at 1.8 s; H at 3 s. Track 2: A at 1.8 s alone.

    A step is ten times the mean distance of the frames, 3 s / 40: so long stands a face whose person is away at the
    next frame, or at the end, which is not known.
    """
    times = [(0, 0.0, 1, 1.0), (10, 0.5, 1, 0.75), (20, 1.0, 1, 0.25), (30, 1.8, 2, 0.0), (40, 3.0, 1, 1.0)]
    rows = [seen("v.mp4", time_s, value, frame=frame, track=track) for frame, time_s, track, value in times]
    path = output(tmp_path, rows, {"v.mp4": VIDEO}, video={"fps": None, "every": 10})
    (both,) = summed(path)
    first, second = summed(path, by="track")

    assert part(first, "faces", "seconds", "first_s", "last_s") == (4, 1.0 + 0.75 + 0.75, 0.0, 3.75)
    assert part(first, "episodes", "longest_episode_s", "transitions", "happiness_share") == (3, 1.0, 1, 0.7)
    assert first["happiness_probability"] == round((0.5 + 0.5 * 0.75 + 0.75 * 0.25 + 0.75) / 2.5, 6)
    assert part(second, "faces", "seconds", "first_s", "last_s", "dominant") == (1, 0.75, 1.8, 2.55, "anger")
    assert part(both, "seconds", "episodes", "transitions", "anger_share") == (3.25, 4, 1, round(1.5 / 3.25, 6))


def test_people_are_added_up_or_told_apart_by_track(tmp_path):
    """Two people for 2 s, then one for 1 s, are 5 s; each track has its own row."""
    rows = story("v.mp4", [1, 1, 0], track=4) + story("v.mp4", [0, 0], number=1, track=7)
    rows.sort(key=lambda row: row["frame"])
    path = output(tmp_path, [*rows, seen("a.jpg", None, 1)], {"v.mp4": VIDEO, "a.jpg": {}})
    video, picture = summed(path)
    first, second, untracked = summed(path, by="track")

    assert part(video, "faces", "seconds", "happiness_share", "episodes", "transitions") == (5, 5.0, 0.4, 3, 1)
    assert part(picture, "kind", "faces", "seconds", "episodes", "happiness_share") == ("image", 1, None, None, 1.0)
    assert part(first, "input", "track", "seconds", "dominant", "last_s") == ("v.mp4", 4, 3.0, "happiness", 3.0)
    assert part(second, "track", "seconds", "dominant", "episodes") == (7, 2.0, "anger", 1)
    assert part(untracked, "input", "track", "faces", "seconds") == ("a.jpg", None, 1, None)


def test_faces_of_a_frame_that_were_not_tracked_have_no_episodes(tmp_path, caplog):
    """Numbers go from left to right, so those of people who pass each other change: seconds are known, episodes not."""
    rows = [seen("v.mp4", float(t), n, frame=t, number=n) for t in range(2) for n in range(2)]
    path = output(tmp_path, rows, {"v.mp4": VIDEO}, tracks=False)
    (row,) = summed(path)

    assert part(row, "faces", "seconds", "happiness_share") == (4, 4.0, 0.5)
    assert part(row, "episodes", "longest_episode_s", "transitions", "anger_episodes") == (None,) * 4
    assert "not tracked: 1" in caplog.text


def test_a_frame_of_unknown_length_has_no_seconds(tmp_path, caplog):
    """With every 30th frame, the time of a single one is not known: it counts as a photograph does."""
    rows = [seen("v.mp4", 4.0, 0.25, frame=30)]
    path = output(tmp_path, rows, {"v.mp4": VIDEO}, video={"fps": None, "every": 30}, tracks=False)
    (row,) = summed(path)

    assert part(row, "kind", "faces", "seconds", "episodes", "first_s") == ("video", 1, None, None, None)
    assert part(row, "dominant", "anger_share", "anger_probability") == ("anger", 1.0, 0.75)
    assert "of which the rate is not known: 1" in caplog.text


def test_inputs_without_a_face_have_a_row(tmp_path):
    """A video in which nobody is seen is 0 s, a photograph 0 faces; what failed was not looked at; members count."""
    inputs = {
        "empty.mp4": VIDEO | {"status": "no_face"},
        "empty.jpg": {"status": "no_face"},
        "bad.jpg": {"status": "failed"},
        "z.zip/a.jpg": {"archive": "z.zip"},
        "z.zip": {"kind": "archive"},
    }
    rows = summed(output(tmp_path, [seen("z.zip/a.jpg", None, 1), seen("z.zip/a.jpg", None, 0.25, number=1)], inputs))

    names = ("input", "kind", "faces", "seconds", "episodes", "dominant", "anger_share", "anger_probability")
    assert [part(row, *names) for row in rows] == [
        ("empty.mp4", "video", 0, 0.0, 0, None, None, None),
        ("empty.jpg", "image", 0, None, None, None, None, None),
        ("z.zip/a.jpg", "image", 2, None, None, "happiness", 0.5, 0.375),  # of equal shares, the more probable
    ]


def test_folders_are_groups(tmp_path):
    """Photographs and videos of a folder are added up apart; names without a folder are of the one called a point."""
    names = ["p1/a.jpg", "p1/b.jpg", "z.zip/in/c.jpg", "d.jpg"]
    rows = [seen(name, None, value) for name, value in zip(names, (1, 0, 1, 1), strict=True)]
    path = output(
        tmp_path,
        [*rows, *story("p1/v.mp4", [1, 0, 0])],
        {name: VIDEO if name.endswith("4") else {} for name in (*names, "p1/v.mp4", "e/f.jpg")},
    )

    found = [part(row, "kind", "folder", "inputs", "faces", "anger_share") for row in summed(path, by="folder")]
    assert found == [
        ("image", "p1", 2, 2, 0.5),
        ("image", "z.zip/in", 1, 1, 0.0),
        ("image", ".", 1, 1, 0.0),
        ("video", "p1", 1, 3, 0.666667),
    ]
    kept = Summary(path, by="folder", filters=NO_FILTERS, where="frame IS NULL AND happiness > 0.5").rows()
    assert [row["folder"] for row in kept] == ["p1", "z.zip/in", "."]


def test_a_column_called_folder_is_that_column(tmp_path):
    """What the manifest says comes first."""
    path = output(tmp_path, [seen("p1/a.jpg", None, 1)], {"p1/a.jpg": {}})
    table = pq.read_table(path)
    pq.write_table(table.append_column("folder", pl.Series(["mine"]).to_arrow()), path)

    assert [row["folder"] for row in summed(path, by="folder")] == ["mine"]


def test_groups_keep_photographs_and_videos_apart(tmp_path):
    """A column of the manifest: its videos in seconds, its photographs in faces, null a group of its own."""
    rows = [*story("v.mp4", [1, 0]), seen("a.jpg", None, 1), *story("w.mp4", [1]), seen("b.jpg", None, 1)]
    path = output(tmp_path, rows, {"v.mp4": VIDEO, "a.jpg": {}, "w.mp4": VIDEO, "b.jpg": {}})
    table = pq.read_table(path)
    condition = pl.Series(["calm", "calm", "calm", "calm", None])
    pq.write_table(table.append_column("condition", condition.to_arrow()), path)

    names = ("condition", "kind", "inputs", "faces", "seconds", "happiness_share", "longest_episode_s", "transitions")
    assert [part(row, *names) for row in summed(path, by="condition")] == [
        ("calm", "video", 2, 3, 3.0, round(2 / 3, 6), 1.0, 1),
        ("calm", "image", 1, 1, None, 1.0, None, None),
        (None, "image", 1, 1, None, 1.0, None, None),
    ]


@pytest.mark.parametrize(
    ("smooth_s", "happiness"),
    [(3.0, [1 / 2, 2 / 3, 2 / 3, 1, 3 / 8, 3 / 8]), (5.0, [2 / 3, 3 / 4, 3 / 4, 2 / 3, 3 / 8, 3 / 8])],
)
def test_smoothing_is_a_centred_moving_average(tmp_path, smooth_s, happiness):
    """At 1 frame a second over three and five frames, at the ends over fewer; never across an absence."""
    path = output(tmp_path, story("v.mp4", [1, 0, 1, 1, None, 0, 0.75]), {"v.mp4": VIDEO}, tracks=False)
    (row,) = summed(path, filters=Filters(smooth_s=smooth_s))

    # Happiness for 4 s (a half is the first of the classes), then anger for 2 s.
    assert part(row, "happiness_share", "episodes", "transitions") == (round(4 / 6, 6), 2, 0)
    assert part(row, "happiness_probability", "smooth_s") == (round(sum(happiness) / 6, 6), smooth_s)


@pytest.mark.parametrize(
    ("values", "min_duration_s", "episodes"),
    [
        ([1, 1, 0, 1, 1], 2.0, [("happiness", 0, 5)]),
        ([0, 1, 1, 0, 0, 1], 2.0, [("happiness", 0, 3), ("anger", 3, 6)]),  # the start takes on the first that lasts
        ([1, 0, 0], 3.0, [("anger", 0, 3)]),  # none lasts: the emotion with the most time
        ([1, 0, 1, 0], 2.0, [("happiness", 0, 4)]),  # of equals, the first
        ([1, 1, 0, None, 0, 1, 1], 2.0, [("happiness", 0, 3), ("happiness", 4, 7)]),  # not across an absence
    ],
)
def test_short_emotions_are_joined_to_the_one_before(tmp_path, values, min_duration_s, episodes):
    """At 1 frame a second: a short emotion is gone, from the summary and from subtitles alike."""
    path = output(tmp_path, story("v.mp4", values), {"v.mp4": VIDEO}, tracks=False)
    filters = Filters(min_duration_s=min_duration_s)
    (row,) = summed(path, filters=filters)
    text = export_predictions(path, "srt", tmp_path / "v.srt", filters=filters).read_text()

    assert part(row, "episodes", "seconds") == (len(episodes), sum(value is not None for value in values))
    assert [line.split()[2] for line in text.splitlines() if ": " in line] == [emotion for emotion, _, _ in episodes]
    assert [line for line in text.splitlines() if "-->" in line] == [
        f"00:00:0{start},000 --> 00:00:0{end},000" for _, start, end in episodes
    ]
    mean = sum(value for value in values if value is not None) / row["faces"]
    assert row["happiness_probability"] == round(mean, 6)  # labels are joined, probabilities stay


def test_filters_are_recorded_in_captions(tmp_path, caplog):
    """WebVTT says so in its note, ELAN in its header; filters that change nothing are remarked on."""
    path = output(tmp_path, story("v.mp4", [1, 0, 1]), {"v.mp4": VIDEO}, tracks=False)
    both = Filters(smooth_s=3.0, min_duration_s=2.0)
    said = "probabilities averaged over 3 s, emotions of less than 2 s joined to the one before"

    assert f"; {said}\n" in export_predictions(path, "webvtt", tmp_path / "a.vtt", filters=both).read_text()
    assert said in export_predictions(path, "elan", tmp_path / "a.eaf", filters=both).read_text()
    assert not caplog.text
    export_predictions(path, "srt", tmp_path / "b.srt", filters=Filters(smooth_s=2.0, min_duration_s=1.0))
    assert "--smooth 2 is at most twice the 1 s from one frame to the next" in caplog.text
    assert "--min-duration 1 joins nothing" in caplog.text
    with pytest.raises(ConfigError, match="csv takes no --smooth"):
        export_predictions(path, "csv", tmp_path / "a.csv", filters=both)


@pytest.mark.parametrize(
    ("rows", "by", "message"),
    [
        (story("v.mp4", [1, 1])[::-1], "input", "not in the order of time"),
        ([*story("v.mp4", [1]), *story("v.mp4", [0])], "input", "has face 0 twice"),
        ([seen("v.mp4", None, 1)], "input", "no frame or no time"),
        (story("v.mp4", [1]), "track", "were not tracked"),
        (story("v.mp4", [1]), "condition", "no column 'condition'"),
        (story("v.mp4", [1]), "confidence", "holds float"),
    ],
)
def test_what_cannot_be_summed_up_is_refused(tmp_path, rows, by, message):
    path = output(tmp_path, rows, {"v.mp4": VIDEO}, tracks=False)

    with pytest.raises(ConfigError, match=message):
        summed(path, by=by)


def test_without_an_inputs_table_an_input_must_not_come_again(tmp_path, caplog):
    """Its faces would be two rows; and what the table does not say, the remarks do."""
    rows = [*story("v.mp4", [1]), seen("a.jpg", None, 1)]
    path = output(tmp_path, rows, tracks=False)
    path.with_suffix(".inputs.parquet").unlink()

    assert [part(row, "input", "kind") for row in summed(path)] == [("v.mp4", "video"), ("a.jpg", "image")]
    assert "no inputs table" in caplog.text
    path = output(tmp_path, [*rows, seen("v.mp4", 1.0, 1, frame=1)], tracks=False)
    path.with_suffix(".inputs.parquet").unlink()
    with pytest.raises(ConfigError, match="are not together"):
        summed(path)


def test_files_and_stdout_say_the_same(tmp_path):
    """CSV, Parquet, JSON and a pipe have the same columns and values; Parquet has the record, and is no predictions."""
    path = output(tmp_path, story("=v.mp4", [1, 0.9, 0]), {"=v.mp4": VIDEO, "none.jpg": {}}, tracks=False)
    options = ["summary", str(path), "--min-duration", "1.5"]
    for name in ("s.csv", "s.parquet"):
        assert CliRunner().invoke(app, [*options, "--out", str(tmp_path / name)]).exit_code == 0
    table = pq.read_table(tmp_path / "s.parquet")
    rows = table.to_pylist()
    said = json.loads(CliRunner().invoke(app, [*options, "--json"]).stdout)
    piped = list(csv.DictReader(CliRunner().invoke(app, options).stdout.splitlines(), delimiter="\t"))

    assert said["rows"] == rows
    assert part(said, "by", "smooth_s", "min_duration_s") == ("input", None, 1.5)
    assert [list(row) for row in piped] == [table.column_names] * 2
    assert part(piped[0], "input", "seconds", "happiness_share", "smooth_s") == ("=v.mp4", "3.0", "1.0", "")
    assert pl.read_csv(tmp_path / "s.csv").rows() == [
        ("'=v.mp4", *tuple(rows[0].values())[1:]),
        tuple(rows[1].values()),
    ]
    record = json.loads(table.schema.metadata[METADATA_KEY])
    assert record["model"] == "expression-net"
    assert record["summary"] == {"by": "input", "smooth_s": None, "min_duration_s": 1.5}
    with pytest.raises(ConfigError, match="not a table of predictions"):
        Source(tmp_path / "s.parquet")
    with pytest.raises(ConfigError, match="exists"):
        write_summary(Summary(path, by="input", filters=NO_FILTERS), tmp_path / "s.csv", overwrite=False)


def test_what_was_read_is_let_go(tmp_path):
    """Of 16 MB of a table, a few row groups are held at a time, whatever pyarrow buffers by default."""
    table = pa.table({"input": [f"{n:0400}" for n in range(40_000)], "emotion": ["anger"] * 40_000})
    path = tmp_path / "preds.parquet"
    pq.write_table(table, path, row_group_size=4096, compression="none", use_dictionary=False)
    del table
    before, held = pa.total_allocated_bytes(), 0
    for _ in Source(path).batches():
        held = max(held, pa.total_allocated_bytes() - before)

    assert 0 < held < path.stat().st_size / 4


def test_a_terminal_gets_a_short_table(tmp_path):
    """Twenty rows at most, each on a line of 80 columns: how long or how many, the emotions, the episodes."""
    rows = [*story("interview.mp4", [1, 1, 0]), *(seen(f"{n:02}.jpg", None, 1) for n in range(20))]
    inputs = {"interview.mp4": VIDEO} | {f"{n:02}.jpg": {} for n in range(20)}
    path = output(tmp_path, rows, inputs, tracks=False)
    with terminal(80) as screen:
        app(["summary", str(path)], standalone_mode=False)

    assert screen.lines[:3] == [
        "input          seen    emotions                  episodes",
        "interview.mp4  3.0 s   happiness 67%, anger 33%  2, mean 1.5 s",
        "00.jpg         1 face  happiness 100%",
    ]
    assert len(screen.lines) == 22
    assert screen.lines[-1] == "and 1 more: --out summary.csv writes all rows and columns"


def test_a_long_name_keeps_its_end_on_a_terminal(tmp_path):
    """A row stays one line: of the name there is as much as fits."""
    name = "recordings of the first wave/room two/interview.mp4"
    path = output(tmp_path, story(name, [1, 1, 0]), {name: VIDEO}, tracks=False)
    with terminal(80) as screen:
        app(["summary", str(path)], standalone_mode=False)

    assert screen.lines[1] == "...t wave/room two/interview.mp4  3.0 s  happiness 67%, anger 33%  2, mean 1.5 s"
    assert len(screen.lines[1]) == 80
