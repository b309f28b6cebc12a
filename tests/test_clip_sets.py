"""Sets of clips: labels by hand in every layout, frames pooled into one answer a clip, a run that is killed."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from motivnet_cli.config import FaceConfig, ModelConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.clips import ClipConfig, pool
from motivnet_cli.evaluation.config import EvaluateConfig
from motivnet_cli.evaluation.datasets.cards import CARDS
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.evaluation.evaluate import compare_predictions, evaluate
from motivnet_cli.evaluation.groups import group_names
from motivnet_cli.evaluation.predictions import read_predictions
from motivnet_cli.evaluation.results import Agreement, Missed
from motivnet_cli.records import EMOTIONS
from tests.agreement import assert_same_figures
from tests.clips import face_clip
from tests.pictures import SAMPLE_DATA
from tests.runs import evaluate_and_kill, motivnet
from tests.test_datasets import ANGER, DISGUST, FEAR, HAPPINESS, NEUTRAL, SADNESS, SURPRISE, labels_of, picture, write

# The sets' own labels, written down by hand from their documentation.
DFEW = {1: HAPPINESS, 2: SADNESS, 3: NEUTRAL, 4: ANGER, 5: SURPRISE, 6: DISGUST, 7: FEAR}
WORDS = {
    **{"Angry": ANGER, "Disgust": DISGUST, "Fear": FEAR, "Happy": HAPPINESS, "Neutral": NEUTRAL, "Sad": SADNESS},
    **{"Surprise": SURPRISE},
}
MAFW = {
    **{"anger": ANGER, "disgust": DISGUST, "fear": FEAR, "happiness": HAPPINESS, "neutral": NEUTRAL},
    **{"sadness": SADNESS, "surprise": SURPRISE},
}
RAVDESS = {
    **{"01": NEUTRAL, "03": HAPPINESS, "04": SADNESS, "05": ANGER, "06": FEAR, "07": DISGUST, "08": SURPRISE},
}
CREMAD = {"ANG": ANGER, "DIS": DISGUST, "FEA": FEAR, "HAP": HAPPINESS, "NEU": NEUTRAL, "SAD": SADNESS}


def frames(folder, *, names=("00001.jpg", "00002.jpg", "00003.jpg")):
    """A clip as a folder of small pictures."""
    for name in names:
        picture(folder / name)


def video(path):
    """A video of which only the name counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


# Each maker fills a folder with a clip a class or two, and gives the labels that the default split then has.


def make_dfew(root, *, lists="test(single-labeled)", clip="Clip/clip_224x224/{:05}", folds=range(1, 6)):
    expected = {}
    number = 0
    for fold in folds:
        lines = ["video_name,label"]
        for native, label in DFEW.items():
            number += 1
            file = clip.format(number)
            video(root / file) if file.endswith(".mp4") else frames(root / file)
            lines.append(f"{number},{native}")
            expected[file] = label
        write(root / f"EmoLabel_DataSplit/{lists}/set_{fold}.csv", "\n".join(lines) + "\n")
    return expected


def make_dfew_16f(root):
    return make_dfew(root, lists="test(single_labeled)", clip="Clip/clip_224x224_16f/{:05}")


def make_dfew_original(root):
    return make_dfew(root, lists="test", clip="Clip/original/part_1/{}.mp4")


def make_dfew_as_trained_on(root):
    """As the authors' training code has it: other names, and lists whose numbers have zeros before them."""
    expected = {}
    for fold in range(1, 6):
        lines = ["video_name,label"]
        for native, label in DFEW.items():
            number = f"{7 * (fold - 1) + native:05}"
            frames(root / f"data/{number}", names=(f"{number}_00001.jpg",))
            lines.append(f"{number},{native}.0")
            expected[f"data/{number}"] = label
        write(root / f"label/single_testset_{fold}.csv", "\n".join(lines) + "\n")
    return expected


def make_ferv39k(root, *, inside=""):
    expected = {}
    for split in ("train", "test"):
        lines = []
        for number, (native, label) in enumerate([*WORDS.items()] * 2):
            clip = f"Action/{native}/{split}{number:04}"
            frames(root / inside / "2_ClipsforFaceCrop" / clip, names=("01.jpg", "02.jpg"))
            lines.append(f"{clip} {native}")
            if split == "test":
                expected[f"{inside}2_ClipsforFaceCrop/{clip}"] = label
        write(root / f"4_setups/All_scenes/{split}_All.csv", "\n".join(lines) + "\n")
    return expected


def make_ferv39k_nested(root):
    return make_ferv39k(root, inside="2_ClipsforFaceCrop/")


def make_mafw(root, *, lists="Train & Test Set", clip="data/clips/{:05}.mp4"):
    expected = {}
    number = 0
    for fold in range(1, 6):
        lines = []
        for native in (*MAFW, "contempt", "anxiety", "helplessness", "disappointment"):
            number += 1
            file = clip.format(number)
            video(root / file) if file.endswith(".mp4") else frames(root / file)
            lines.append(f"{number:05}.mp4 {native}")
            if native in MAFW:
                expected[file] = MAFW[native]
        write(root / lists / f"single/no_caption/set_{fold}/test.txt", "\n".join(lines) + "\n")
    return expected


def make_mafw_frames(root):
    return make_mafw(root, lists="split", clip="data/frames/{:05}")


def make_afew(root, *, folder="{}_AFEW", clip="{}.avi"):
    expected = {}
    for split in ("Train", "Val"):
        for number, (native, label) in enumerate([*WORDS.items()] * 2):
            file = f"{folder.format(split)}/{native}/{clip.format(f'00{number}1540')}"
            video(root / file) if file.endswith(".avi") else frames(root / file)
            if split == "Val":
                expected[file] = label
        frames(root / f"{folder.format(split)}/AlignedFaces_LBPTOP_Points_{split}/Faces/000001540")
    return expected


def make_afew_frames(root):
    return make_afew(root, folder="{}", clip="{}")


def make_ravdess(root, *, before=""):
    expected = {}
    for actor in ("01", "02"):
        for native in (*RAVDESS, "02"):
            for modality in ("02", "01", "03"):
                name = f"{modality}-01-{native}-01-02-01-{actor}"
                folder = f"{before.format(actor)}Actor_{actor}"
                video(root / f"{folder}/{name}.{'wav' if modality == '03' else 'mp4'}")
                if modality == "01" and native in RAVDESS:
                    expected[f"{folder}/{name}.mp4"] = RAVDESS[native]
            video(root / f"{folder}/01-02-03-01-02-01-{actor}.mp4")  # sung
    return expected


def make_ravdess_as_unpacked(root):
    return make_ravdess(root, before="Video_Speech_Actor_{}/")


def make_cremad(root, *, folder="VideoFlash/"):
    expected = {}
    for actor in (1001, 1091):
        for native, label in CREMAD.items():
            file = f"{folder}{actor}_DFA_{native}_XX.flv"
            video(root / file)
            expected[file] = label
    write(root / "VideoDemographics.csv", "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not Hispanic\n")
    return expected


def make_cremad_flat(root):
    return make_cremad(root, folder="")


MAKERS = {
    "dfew": ("dfew", make_dfew, "whole", "aligned"),
    "dfew, 16 frames": ("dfew", make_dfew_16f, "whole", "aligned_16f"),
    "dfew, original": ("dfew", make_dfew_original, "auto", "original"),
    "dfew, as trained on": ("dfew", make_dfew_as_trained_on, "whole", "aligned"),
    "ferv39k": ("ferv39k", make_ferv39k, "whole", None),
    "ferv39k, nested": ("ferv39k", make_ferv39k_nested, "whole", None),
    "mafw": ("mafw", make_mafw, "auto", "original"),
    "mafw, frames": ("mafw", make_mafw_frames, "auto", "frames"),
    "afew": ("afew", make_afew, "auto", None),
    "afew, frames": ("afew", make_afew_frames, "auto", None),
    "ravdess": ("ravdess", make_ravdess, "auto", "speech"),
    "ravdess, as unpacked": ("ravdess", make_ravdess_as_unpacked, "auto", "speech"),
    "cremad": ("cremad", make_cremad, "auto", None),
    "cremad, flat": ("cremad", make_cremad_flat, "auto", None),
}
every_layout = pytest.mark.parametrize(("name", "make", "faces", "protocol"), MAKERS.values(), ids=MAKERS)


# ---- layouts ----------------------------------------------------------------------------------------------


@every_layout
def test_clips_and_their_labels(tmp_path, name, make, faces, protocol):
    """Each layout is recognised, in the root or in a folder within, and each clip has its documented label."""
    expected = make(tmp_path / "data")

    found = read_dataset(name, str(tmp_path / "data"))
    around = read_dataset(name, str(tmp_path))

    assert labels_of(found) == expected
    assert labels_of(around) == {f"data/{clip}": label for clip, label in expected.items()}
    assert set(expected.values()) == set(range(7)) - ({SURPRISE} if name == "cremad" else set())
    assert (found.unit, found.faces, found.protocol) == ("clip", faces, protocol)
    for clip in found.images:
        assert Path(clip.path).is_file() != bool(clip.frames)
        assert all(str(Path(frame).parent) == clip.path for frame in clip.frames)


@pytest.mark.parametrize("layout", ["dfew", "ferv39k", "mafw", "afew, frames", "ravdess", "cremad"])
def test_right_answers_of_frames_score_one(tmp_path, layout):
    """A table with three rows a clip, right by construction, gives 1; turned by one emotion it gives 0."""
    name, make, *_ = MAKERS[layout]
    make(tmp_path / "set")
    clips = read_dataset(name, str(tmp_path / "set")).images
    for turn in (0, 1):
        rows = []
        for clip in clips:
            chances = [0.9 if number == (clip.label + turn) % 7 else 0.1 / 6 for number in range(7)]
            rows += [(frame, 0, *chances) for frame in clip.frames] or [(clip.path, n, *chances) for n in (0, 5, 10)]
        table(tmp_path / f"{turn}.csv", "path", "frame", *EMOTIONS, rows=rows)
        (evaluation,) = evaluate([config(tmp_path, name, predictions=tmp_path / f"{turn}.csv")])
        (run,) = evaluation.runs

        assert run.scores.accuracy == 1 - turn
        assert run.scores.n == len(clips)
        assert run.predictions["clips"]["frames"] == len(rows)
        shown = {clip.name: clip.frames[len(clip.frames) // 2] if clip.frames else clip.path for clip in clips}
        assert all(mistake.path == shown[mistake.image] for mistake in run.mistakes)
        assert bool(run.mistakes) == bool(turn)


def table(path, *header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def config(folder, name, **settings):
    settings = {key: str(value) if key == "predictions" and value else value for key, value in settings.items()}
    settings |= {"root": str(folder / "set"), "out": str(folder / "out"), "model": ModelConfig(name="expression-net")}
    return EvaluateConfig(dataset=name, resamples=9, **settings)


def test_what_is_dropped_is_counted(tmp_path):
    """Calm, second files of a recording, other classes and folders without frames all have their number."""
    make_ravdess(tmp_path / "ravdess")
    make_mafw(tmp_path / "mafw")
    make_dfew(tmp_path / "dfew")
    for name in ("00001.jpg", "00002.jpg", "00003.jpg"):
        (tmp_path / "dfew/Clip/clip_224x224/00008" / name).unlink()
        (tmp_path / "dfew/Clip/clip_224x224/00009" / name).unlink()
    (tmp_path / "dfew/Clip/clip_224x224/00009").rmdir()

    dropped = {name: read_dataset(name, str(tmp_path / name)).dropped for name in ("ravdess", "mafw", "dfew")}

    assert dropped["ravdess"] == {"second file of a recording": 16, "calm": 2}
    assert dropped["mafw"] == dict.fromkeys(("contempt", "anxiety", "helplessness", "disappointment"), 5)
    assert dropped["dfew"] == {"clip without frames": 1, "missing file": 1}


def test_actors_are_subjects(tmp_path):
    """Names of RAVDESS and CREMA-D say who is seen, and a table what is known of them: figures go by these."""
    make_ravdess(tmp_path / "ravdess")
    make_cremad(tmp_path / "cremad")
    recorded = read_dataset("ravdess", str(tmp_path / "ravdess"), columns=["gender"])
    asked = read_dataset("cremad", str(tmp_path / "cremad"), columns=["gender", "age"])

    assert {clip.subject: clip.columns["gender"] for clip in recorded.images} == {"01": "male", "02": "female"}
    assert {clip.subject: clip.columns.get("age") for clip in asked.images} == {"1001": "50-59", "1091": None}
    assert asked.columns == ("subject", "level", "gender", "age", "race", "ethnicity")

    found = {
        name: {clip.subject for clip in read_dataset(name, str(tmp_path / name)).images}
        for name in ("ravdess", "cremad")
    }

    assert found == {"ravdess": {"01", "02"}, "cremad": {"1001", "1091"}}


def test_ages_of_cremad_make_groups(tmp_path):
    """Of 91 actors there are more ages than --by takes: they go by tens."""
    people = ["ActorID,Age,Sex,Race,Ethnicity"]
    for age in range(19, 51):
        people.append(f"{1000 + age},{age},Male,Caucasian,Not Hispanic")
        for native in CREMAD:
            video(tmp_path / f"VideoFlash/{1000 + age}_DFA_{native}_XX.flv")
    write(tmp_path / "VideoDemographics.csv", "\n".join(people) + "\n")

    names = group_names(read_dataset("cremad", str(tmp_path), columns=["age"]), "age")

    assert Counter(names) == {"10-19": 6, "20-29": 60, "30-39": 60, "40-49": 60, "50-59": 6}


def test_ravdess_songs(tmp_path):
    """The protocol says which of the recordings count."""
    make_ravdess(tmp_path)
    sung = {f"Actor_{actor}/01-02-03-01-02-01-{actor}.mp4": HAPPINESS for actor in ("01", "02")}

    assert labels_of(read_dataset("ravdess", str(tmp_path), protocol="song")) == sung
    assert len(read_dataset("ravdess", str(tmp_path), protocol="speech_and_song").images) == 14 + 2


def test_folds_are_the_splits(tmp_path):
    """One fold has its own list; all five need all lists, and are never a part of them in silence."""
    expected = make_dfew(tmp_path, folds=(1, 3))

    assert labels_of(read_dataset("dfew", str(tmp_path), split="fold3")) == dict([*expected.items()][7:])
    with pytest.raises(
        ConfigError, match="has no list of fold2, fold4, fold5; it has fold1, fold3: choose with --split"
    ):
        read_dataset("dfew", str(tmp_path))


def test_labels_that_begin_at_zero_are_refused(tmp_path):
    """A list of DFEW with 0 to 6 would be read one emotion off."""
    make_dfew(tmp_path)
    path = tmp_path / "EmoLabel_DataSplit/test(single-labeled)/set_1.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(f"{line[:-1]}{int(line[-1]) - 1}" for line in lines[1:])]) + "\n")

    with pytest.raises(ConfigError, match=r"labels 0, 1, 2, 3, 4, 5, 6 under .* can be read in more than one way"):
        read_dataset("dfew", str(tmp_path), split="fold1")


def test_a_list_without_its_clips_says_so(tmp_path):
    """The protocol that was asked for is not replaced by another one."""
    make_dfew(tmp_path)

    with pytest.raises(ConfigError, match=r"not the clips of protocol original .* it has those of: aligned"):
        read_dataset("dfew", str(tmp_path), protocol="original")
    assert any("those of aligned_16f are used" in remark for remark in _remarks(make_dfew_16f, tmp_path / "other"))


def _remarks(make, folder):
    make(folder)
    return read_dataset("dfew", str(folder)).remarks


def test_frames_are_in_order_of_their_numbers(tmp_path):
    """2.jpg comes before 10.jpg, which matters to --every."""
    for name in ("1.jpg", "2.jpg", "10.jpg", "notes.txt"):
        picture(tmp_path / "Val/Angry/clip" / name) if name.endswith("jpg") else write(
            tmp_path / "Val/Angry/clip" / name, ""
        )

    (clip,) = read_dataset("afew", str(tmp_path)).images

    assert [Path(frame).name for frame in clip.frames] == ["1.jpg", "2.jpg", "10.jpg"]


def test_one_folder_of_clips_is_one_split(tmp_path):
    """Of two folders below Val that hold the classes none is chosen."""
    video(tmp_path / "Val/a/Angry/1.avi")
    assert len(read_dataset("afew", str(tmp_path)).images) == 1
    video(tmp_path / "Val/b/Angry/1.avi")

    with pytest.raises(ConfigError, match=r"Val/a' and .*Val/b' could all be the split val: name one as --root"):
        read_dataset("afew", str(tmp_path))


def test_counts_add_up():
    """The published counts by emotion of each set of clips add up to its total."""
    names = ("dfew", "ferv39k", "mafw", "afew", "ravdess", "cremad")
    for name in names:
        for published in CARDS[name].counts:
            assert published.by_emotion is None or sum(published.by_emotion) == published.total, name
    folds = [published.total for published in CARDS["dfew"].counts]
    assert sum(folds[1:]) == folds[0]


def test_clips_of_ones_own(tmp_path):
    """A table of videos and folders of frames, and folders of videos by emotion; pictures and clips are not mixed."""
    video(tmp_path / "a.mp4")
    frames(tmp_path / "b")
    video(tmp_path / "set/happy/deeper/c.mp4")
    video(tmp_path / "set/sad/d.avi")
    write(tmp_path / "set/sad/notes.txt", "")
    picture(tmp_path / "e.png")
    own = table(tmp_path / "own.csv", "path", "label", rows=[("a.mp4", "happy"), ("b", "fear"), ("gone", "fear")])
    mixed = table(tmp_path / "mixed.csv", "path", "label", rows=[("a.mp4", "happy"), ("e.png", "fear")])

    found = read_dataset("csv", str(own))
    by_folder = read_dataset("folder", str(tmp_path / "set"))

    assert (labels_of(found), found.unit) == ({"a.mp4": HAPPINESS, "b": FEAR}, "clip")
    assert (found.dropped, [len(clip.frames) for clip in found.images]) == ({"missing file": 1}, [0, 3])
    assert (labels_of(by_folder), by_folder.unit) == ({"happy/deeper/c.mp4": HAPPINESS, "sad/d.avi": SADNESS}, "clip")
    assert by_folder.dropped == {"not a picture by its ending": 1}
    with pytest.raises(
        ConfigError, match=r"names clips \('.*a.mp4'\) and pictures \('.*e.png'\): make a table of each"
    ):
        read_dataset("csv", str(mixed))


MMI = {1: ANGER, 2: DISGUST, 3: FEAR, 4: HAPPINESS, 5: SADNESS, 6: SURPRISE}


def mmi_session(folder, clip, *, view=0, emotion=None):
    """A session's three files. Of most sessions only action units are known, and no emotion."""
    video(folder / f"{clip}.avi")
    tag = f'<Metatag Name="Emotion" Value="{emotion}"/>' if emotion else ""
    write(folder / f"{clip}.xml", f'<?xml version="1.0"?><Meta><Metatag Name="Gender" Value="1"/>{tag}</Meta>')
    write(folder / "session.xml", f"<session><track type='Video' view='{view}' filename='{clip}.avi'/></session>")
    write(folder / f"{clip}-oao_aucs.xml", "<ActionUnits/>")


def test_mmi_sessions_by_view_and_emotion(tmp_path):
    """Recordings from the front by default, with both views when asked for; others are counted by reason."""
    expected = {}
    for number, (native, label) in enumerate(MMI.items(), 1):
        mmi_session(tmp_path / f"Sessions/{number}", f"S001-{number:03}", emotion=native)
        expected[f"Sessions/{number}/S001-{number:03}.avi"] = label
    mmi_session(tmp_path / "Sessions/90", "S002-090", emotion=4, view=1)
    mmi_session(tmp_path / "Sessions/91", "S002-091", emotion=4, view=2)
    mmi_session(tmp_path / "Sessions/92", "S003-092")
    mmi_session(tmp_path / "Sessions/93", "S003-093", emotion=12)
    picture(tmp_path / "Sessions/94/S003-094.jpg")
    write(tmp_path / "Sessions/94/session.xml", "<session/>")

    found = read_dataset("mmi", str(tmp_path))
    both = read_dataset("mmi", str(tmp_path / "Sessions"), protocol="frontal_and_dual")

    assert labels_of(found) == expected
    assert found.dropped == {
        **{"recording of view 1": 1, "recording of view 2": 1, "session without an emotion": 1},
        **{"session without a recording": 1, "unknown label '12'": 1},
    }
    assert {clip.subject for clip in found.images} == {"S001"}
    assert labels_of(both) == {name.removeprefix("Sessions/"): label for name, label in expected.items()} | {
        "91/S002-091.avi": HAPPINESS
    }


# ---- frames to clips --------------------------------------------------------------------------------------


def chances(**given):
    """A row of probabilities; what is not given shares the rest."""
    rest = (1 - sum(given.values())) / (7 - len(given))
    return [given.get(emotion, rest) for emotion in EMOTIONS]


def pooled(tmp_path, *header, rows, how="mean"):
    path = table(tmp_path / "p.csv", *header, rows=rows)
    return pool(read_predictions(path, with_videos=True), how)


def test_pooling_by_hand(tmp_path):
    """Mean, median and top quarter of five frames are three answers: happiness, neutral and anger."""
    rows = [
        chances(neutral=0.6, happiness=0.4),
        chances(neutral=0.6, happiness=0.4),
        chances(neutral=0.6, happiness=0.4),
        chances(neutral=0.0, happiness=0.85, anger=0.15),
        chances(neutral=0.0, happiness=0.1, anger=0.9),
    ]
    rows = [("a.mp4", frame, *row) for frame, row in enumerate(rows)]
    answers = {
        how: pooled(tmp_path, "path", "frame", *EMOTIONS, rows=rows, how=how) for how in ("mean", "median", "top")
    }

    assert {how: EMOTIONS[each.predicted[0]] for how, each in answers.items()} == {
        **{"mean": "happiness", "median": "neutral", "top": "anger"},
    }
    assert answers["mean"].probabilities[0].tolist() == pytest.approx([0.36, 0.43, 0, 0, 0, 0, 0.21])
    assert answers["median"].probabilities[0].tolist() == pytest.approx([0.6, 0.4, 0, 0, 0, 0, 0])
    # Two of five frames are the top quarter, rounded up.
    assert answers["top"].probabilities[0].tolist() == pytest.approx([0, 0.475, 0, 0, 0, 0, 0.525])
    assert answers["mean"].images == ("a.mp4",)


def test_pooling_against_numpy(tmp_path):
    """Random frames of many clips: mean and median are NumPy's."""
    rng = np.random.default_rng(0)
    values = rng.dirichlet(np.full(7, 0.5), 60)
    clips = rng.integers(0, 12, 60)
    rows = [(f"c/{clip}/{number}.png", *row) for number, (clip, row) in enumerate(zip(clips, values, strict=True))]
    means, medians = (pooled(tmp_path, "path", *EMOTIONS, rows=rows, how=how) for how in ("mean", "median"))

    for number, name in enumerate(means.images):
        own = values[clips == int(name.removeprefix("c/"))]
        assert means.probabilities[number] == pytest.approx(own.mean(axis=0))
        assert medians.probabilities[number] == pytest.approx(np.median(own, axis=0) / np.median(own, axis=0).sum())


def test_certain_frames_that_disagree_have_a_median(tmp_path):
    """Where the median of every emotion is 0, the mean is taken."""
    rows = [("a.mp4", frame, *np.eye(7)[emotion]) for frame, emotion in enumerate((1, 1, 2, 3, 4))]
    answer = pooled(tmp_path, "path", "frame", *EMOTIONS, rows=rows, how="median")

    assert answer.probabilities[0].tolist() == pytest.approx([0, 0.4, 0.2, 0.2, 0.2, 0, 0])


def test_the_largest_face_of_a_frame_counts(tmp_path):
    """A small face beside it is left out, and said; each frame counts once."""
    small, large = (0, 0, 10, 10), (0, 0, 50, 40)
    rows = [
        ("a.mp4", 0, *small, *chances(anger=1)),
        ("a.mp4", 0, *large, *chances(happiness=1)),
        ("a.mp4", 5, *large, *chances(happiness=1)),
        ("a.mp4", 5, *small, *chances(anger=1)),
        ("a.mp4", 5, *small, *chances(anger=1)),
    ]
    answer = pooled(tmp_path, "path", "frame", "x1", "y1", "x2", "y2", *EMOTIONS, rows=rows)

    assert answer.probabilities[0].tolist() == pytest.approx(chances(happiness=1))
    assert answer.remarks == ("2 frames have several faces: the largest of each was taken",)


def test_frames_without_a_face_are_counted(tmp_path):
    """They count for nothing; a clip without any face is a miss with the reason of most of its frames."""
    empty = [""] * 7
    rows = [("a.mp4", 0, *chances(fear=1)), ("a.mp4", 1, *empty), ("b.mp4", 0, *empty), ("b.mp4", 1, *empty)]
    answer = pooled(tmp_path, "path", "frame", *EMOTIONS, rows=rows)

    assert (answer.images, answer.misses) == (("a.mp4", "b.mp4"), (None, "empty row"))
    assert (answer.image_of.tolist(), answer.predicted.tolist()) == ([0], [FEAR])
    counts = answer.origin["clips"]
    assert (counts["frames"], counts["frames_without_face"]) == (4, 3)
    assert counts["frames_per_clip"] == "2 to 2, median 2"


def test_labels_of_frames_go_by_majority(tmp_path):
    """Labels have no median and no top frames: mean is the majority, and the others are refused."""
    rows = [("a.mp4", 0, "happy"), ("a.mp4", 1, "angry"), ("a.mp4", 2, "angry")]
    answer = pooled(tmp_path, "path", "frame", "pred", rows=rows)

    assert (answer.predicted.tolist(), answer.probabilities) == ([ANGER], None)
    assert "of the frames of a clip the majority counts" in answer.remarks[-1]
    with pytest.raises(ConfigError, match=r"holds labels without probabilities.*got --clip top"):
        pooled(tmp_path, "path", "frame", "pred", rows=rows, how="top")


@pytest.mark.parametrize("how", ["mean", "median", "top"])
def test_a_row_a_clip_stays_as_it_is(tmp_path, how):
    """A table whose rows are clips is not pooled, be the clips videos, folders or names; asked for, that is said."""
    rows = [(name, *row) for name, row in zip(("a.mp4", "b/c", "d"), np.eye(7) * 0.6 + 0.4 / 7, strict=False)]
    answer = pooled(tmp_path, "path", *EMOTIONS, rows=rows, how=how)

    assert answer.images == ("a.mp4", "b/c", "d")
    assert any(f"--clip {how} changes nothing" in each for each in answer.remarks) is (how != "mean")
    assert answer.probabilities == pytest.approx(np.array([row[1:] for row in rows]))
    assert "clips" not in answer.origin
    labels = pooled(tmp_path, "path", "pred", rows=[("a.mp4", "fear"), ("b", "sad")], how=how)
    assert labels.predicted.tolist() == [FEAR, SADNESS]


def test_the_label_of_a_row_a_clip_breaks_its_tie(tmp_path):
    """The tool knew more than the decimals that it wrote; the same of frames whose labels agree."""
    tied = chances(neutral=0.5, happiness=0.5)
    rows = [("a.mp4", 0, "happiness", *tied), ("b.mp4", 0, "happiness", *tied), ("b.mp4", 1, "happiness", *tied)]
    answer = pooled(tmp_path, "path", "frame", "pred", *EMOTIONS, rows=rows)

    assert (answer.predicted.tolist(), answer.doubts) == ([HAPPINESS, HAPPINESS], ())


def test_frames_that_tie_are_said(tmp_path):
    """As many frames of one emotion as of another: the order of the classes decides, and the reader is told first."""
    rows = [("a.mp4", 0, "happy"), ("a.mp4", 1, "angry"), ("b.mp4", 0, "angry"), ("b.mp4", 1, "angry")]
    answer = pooled(tmp_path, "path", "frame", "pred", rows=rows)

    assert answer.predicted.tolist() == [HAPPINESS, ANGER]
    (doubt,) = answer.doubts
    assert doubt.startswith("in 1 clips several emotions are the most probable: the first in the order neutral, happ")
    assert doubt in answer.remarks
    assert doubt in answer.origin["remarks"]


def test_rows_of_a_video_without_a_frame_column_are_frames(tmp_path):
    """It is said, as they could be faces of one frame."""
    answer = pooled(tmp_path, "path", *EMOTIONS, rows=[("a.mp4", *chances(fear=0.6)), ("a.mp4", *chances(fear=0.8))])

    assert answer.probabilities[0, FEAR] == pytest.approx(0.7)
    assert answer.remarks[-1] == "no column tells the frames of a video apart: each row was taken as a frame of its own"


def test_a_row_of_a_clip_without_its_frame_is_refused(tmp_path):
    """Two of them would pass for faces of one frame; a clip with one row needs no frame."""
    rows = [("a.mp4", 0, "fear"), ("b.mp4", "", "sad"), ("a.mp4", "", "sad")]
    with pytest.raises(ConfigError, match=r"row 3 of .* has no 'frame': every row of a clip needs its frame"):
        pooled(tmp_path, "path", "frame", "pred", rows=rows)

    assert pooled(tmp_path, "path", "frame", "pred", rows=rows[:2]).predicted.tolist() == [FEAR, SADNESS]


@pytest.mark.parametrize("is_certain", [True, False])
def test_contempt_is_kept_as_an_eighth_class(tmp_path, is_certain):
    """Of MAFW's four other classes, contempt can be asked for; its frames are pooled as all others, labels as well."""
    make_mafw_frames(tmp_path / "set")
    clips = read_dataset("mafw", str(tmp_path / "set"), contempt=True).images
    names = (*EMOTIONS, "contempt")
    if is_certain:
        rows = [(frame, *np.eye(8)[clip.label]) for clip in clips for frame in clip.frames]
        path = table(tmp_path / "p.csv", "path", *names, rows=rows)
    else:
        path = table(tmp_path / "p.csv", "path", "pred", rows=[(f, names[c.label]) for c in clips for f in c.frames])
    (evaluation,) = evaluate([config(tmp_path, "mafw", predictions=path, contempt=True)])

    assert (evaluation.runs[0].scores.n, evaluation.runs[0].scores.accuracy) == (40, 1)


def test_a_clip_is_found_under_another_ending(tmp_path):
    """Predictions of 00001.mp4 are those of the folder 00001 and of 00001.avi; the same name twice is not guessed."""
    make_dfew(tmp_path / "set")
    rows = [(f"/elsewhere/videos/{number:05}.mp4", *chances(happiness=1)) for number in range(1, 36)]
    table(tmp_path / "p.csv", "path", *EMOTIONS, rows=[*rows, ("/other/00035.avi", *chances(happiness=1))])
    (evaluation,) = evaluate([config(tmp_path, "dfew", predictions=tmp_path / "p.csv")])
    (run,) = evaluation.runs

    assert run.matching.how == {"clip name": 34}
    assert (run.matching.ambiguous.n, run.scores.n_missed) == (1, 1)
    assert run.scores.all["accuracy"].value == pytest.approx(5 / 35)


def test_clips_are_compared_as_clips(tmp_path):
    """Two predictions of frames are compared by clip; how they are pooled is chosen once for both."""
    make_dfew(tmp_path / "set", folds=[1])
    clips = read_dataset("dfew", str(tmp_path / "set"), split="fold1").images
    for name, answer in (("a", lambda label: label), ("b", lambda _: HAPPINESS)):
        rows = [(frame, *np.eye(7)[answer(clip.label)]) for clip in clips for frame in clip.frames]
        table(tmp_path / f"{name}.csv", "path", *EMOTIONS, rows=rows)
    settings = config(tmp_path, "dfew", split="fold1", clips=ClipConfig(pooling="top"))
    compared = compare_predictions(settings, str(tmp_path / "a.csv"), str(tmp_path / "b.csv"))

    assert (compared.scores.all.n, compared.scores.all.table) == (7, Agreement(both=1, only_a=6, only_b=0, neither=0))
    assert compared.a.origin["clips"]["pooling"].startswith("top, ")


def test_image_sets_leave_videos_out_as_before(tmp_path):
    """A table of videos without frames is unchanged where no clips are asked for."""
    path = table(tmp_path / "p.csv", "path", "frame", "pred", rows=[("a.mp4", 0, "fear"), ("a.mp4", 1, "sad")])
    predictions = read_predictions(path)

    assert (predictions.frame_of, predictions.num_frames) == (None, None)
    assert "columns not used: frame" in predictions.remarks


# ---- options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "name", "options", "expected"),
    [
        (
            make_dfew,
            "dfew",
            {"fps": 5},
            "folders of frames here, which have no times: give --every N in place of --fps 5",
        ),
        (
            make_ravdess,
            "ravdess",
            {"fps": 5, "predictions": "p.csv"},
            "predictions made before have their frames already",
        ),
        (None, "folder", {"pooling": "top"}, "folder is a set of images here: leave out --clip, --fps and --every"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, make, name, options, expected):
    """The error says what does."""
    picture(tmp_path / "set/happy/a.jpg") if make is None else make(tmp_path / "set")
    predictions = options.pop("predictions", None)
    with pytest.raises(ConfigError, match=expected):
        evaluate([config(tmp_path, name, clips=ClipConfig(**options), predictions=predictions)])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"pooling": "max"}, "--clip takes mean, median, top, got 'max'"),
        ({"fps": 0}, "fps must be more than 0"),
        ({"every": 0}, "every must be at least 1"),
        ({"every": 2, "fps": 2.0}, "not both"),
    ],
)
def test_wrong_values_are_refused(options, expected):
    """Before anything is read."""
    with pytest.raises(ConfigError, match=expected):
        ClipConfig(**options)


# ---- whole runs -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faces():
    with Image.open(SAMPLE_DATA / "astronaut.png") as portrait:
        face = portrait.convert("RGB").crop((150, 20, 300, 200))
    rng = np.random.default_rng(0)
    return [face.rotate(rng.uniform(-30, 30)) for _ in range(21)]


def test_videos_are_scored_by_the_network(tmp_path):
    """Two clips with a face and one without: an answer is the mean over the frames, and the third clip is missed."""
    root = tmp_path / "set/Actor_01"
    root.mkdir(parents=True)
    face_clip(root / "01-01-03-01-01-01-01.mp4", seconds=1)
    face_clip(root / "01-01-04-01-01-01-01.mp4", seconds=1, gaps=[(0.55, 1)])
    face_clip(root / "01-01-05-01-01-01-01.mp4", seconds=0.4, faces=())
    (evaluation,) = evaluate([config(tmp_path, "ravdess")])
    (scored,) = evaluation.runs
    rows = pl.read_parquet(tmp_path / "out/predictions.parquet")

    assert evaluation.dataset.n == 3
    assert scored.missed == (Missed("Actor_01/01-01-05-01-01-01-01.mp4", "no face was found"),)
    assert scored.predictions["clips"] == {
        "pooling": "mean, the mean of the frames' probabilities",
        "sampling": "5 frames a second of videos",
        "frames": 12,
        "frames_without_face": 4,
        "frames_per_clip": "2 to 5, median 5",
    }
    means = rows.group_by("input", maintain_order=True).agg(pl.col(EMOTIONS).mean())
    answers = [int(np.argmax(row)) for row in means.select(EMOTIONS).rows()]
    num_right = sum(answer == label for answer, label in zip(answers, (HAPPINESS, SADNESS), strict=True))
    assert len(rows) == 8
    assert scored.scores.accuracy == pytest.approx(num_right / 3)
    (again,) = evaluate([config(tmp_path, "ravdess", predictions=tmp_path / "out/predictions.parquet")])
    assert again.runs[0].scores == scored.scores
    assert again.runs[0].predictions["clips"] == scored.predictions["clips"]


@pytest.mark.slow
def test_a_killed_evaluation_of_clips_goes_on(tmp_path, faces):
    """SIGKILL after some frames are committed: what is there stays, and the scores are those of a whole run."""
    for number in range(1, 8):
        for frame in range(3):
            path = tmp_path / f"set/Clip/clip_224x224/{number:05}/{frame}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            faces[3 * (number - 1) + frame].save(path)
    lines = [f"{number},{native}" for number, native in enumerate(DFEW, 1)]
    write(tmp_path / "set/EmoLabel_DataSplit/test/set_1.csv", "\n".join(["video_name,label", *lines]) + "\n")
    arguments = ["evaluate", "--dataset", "dfew", "--root", str(tmp_path / "set"), "--split", "fold1"]
    arguments += ["--model", "expression-net", "--batch-size", "2", "--resamples", "9", "--no-images"]
    evaluate_and_kill(arguments, tmp_path / "killed", held=r"00007/\d\.jpg$")
    resumed = motivnet(*arguments, "--out", tmp_path / "killed").stderr
    motivnet(*arguments, "--out", tmp_path / "whole")

    one, other = (json.loads((tmp_path / name / "metrics.json").read_text())["runs"][0] for name in ("killed", "whole"))
    assert re.search(r"^21 inputs, [1-9]\d* of them done before$", resumed, re.MULTILINE)
    assert_same_figures(one["scores"], other["scores"])
    assert one["predictions"]["clips"] == other["predictions"]["clips"]
    assert one["predictions"]["clips"]["frames"] == 21
    inputs = pl.read_parquet(tmp_path / "killed/predictions.inputs.parquet")["input"].to_list()
    assert Counter(Counter(inputs).values()) == {1: 21}


def test_every_nth_frame_of_a_folder(tmp_path):
    """--every 2 takes the first and the third of three frames, and the report says it."""
    make_afew_frames(tmp_path / "set")
    settings = {"faces": FaceConfig(mode="whole"), "clips": ClipConfig(every=2)}
    (evaluation,) = evaluate([config(tmp_path, "afew", **settings)])
    account = evaluation.runs[0].predictions["clips"]
    inputs = pl.read_parquet(tmp_path / "out/predictions.inputs.parquet")["input"].to_list()

    assert {Path(name).name for name in inputs} == {"00001.jpg", "00003.jpg"}
    assert (account["sampling"], account["frames"]) == ("one in 2 frames of folders", 28)
