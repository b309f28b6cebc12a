"""Labelled sets as people have them on disk: each layout read right, or answered with the command that reads it."""

from __future__ import annotations

import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.classes import emotion_named
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.records import EMOTIONS
from tests.test_datasets import labels_of, picture

NEUTRAL, HAPPINESS, SADNESS, SURPRISE, FEAR, DISGUST, ANGER = range(7)

# ---- what folders call the classes ------------------------------------------------------------------------

SPELLINGS = {
    "neutral": ["neutral", "Neutral", "neutrality", "6_neutral", "netural", "NE"],
    "happiness": ["happy", "Happy", "happiness", "happines", "1_happy", "3 Happiness", "joy", "HAP"],
    "sadness": ["sad", "Sad", "sadness", "SAD"],
    "surprise": ["surprise", "surprised", "suprise", "Suprise", "05. surprise"],
    "fear": ["fear", "fearful", "Fear", "afraid", "scared", "AF"],
    "disgust": ["disgust", "disgusted", "Disgust", "disguest"],
    "anger": ["anger", "angry", "Anger", "ANG", "0-angry"],
    "contempt": ["contempt", "Contempt", "contemptuous"],
}


@pytest.mark.parametrize(("emotion", "spellings"), SPELLINGS.items(), ids=SPELLINGS)
def test_spellings_of_a_class(emotion, spellings):
    """Names of folders in public copies, with their misspellings, cases and numbers before them."""
    assert {spelling: emotion_named(spelling) for spelling in spellings} == dict.fromkeys(spellings, emotion)


@pytest.mark.parametrize("word", ["", "1", "weird", "happy sad", "compound", "unknown", "sadhappy", "calm"])
def test_a_word_that_names_no_class(word):
    """A word that is not in the table is not guessed at."""
    assert emotion_named(word) is None


SETS_IN_FOLDERS = {
    **{"rafdb": "test", "affectnet7": "val", "affectnet8": "val", "fer2013": "test"},
    **{"sfew": "Val/Val_Aligned_Faces", "folder": "."},
}
in_folders = pytest.mark.parametrize(("name", "where"), SETS_IN_FOLDERS.items(), ids=SETS_IN_FOLDERS)


@in_folders
@pytest.mark.parametrize("number", range(3))
def test_no_class_is_lost_by_its_spelling(tmp_path, name, where, number):
    """Class folders in any spelling give all seven classes, whichever set they are of."""
    expected = {}
    for label, emotion in enumerate(EMOTIONS):
        folder = SPELLINGS[emotion][number]
        picture(tmp_path / where / folder / "a.jpg")
        expected[f"{where}/{folder}/a.jpg".removeprefix("./")] = label

    assert labels_of(read_dataset(name, str(tmp_path))) == expected


@in_folders
def test_an_unknown_class_folder_is_refused(tmp_path, name, where):
    """It is named, with what is known and the way on: never left out, which would be a smaller denominator."""
    for folder in ("happy", "sad", "weird"):
        picture(tmp_path / where / folder / "a.jpg")

    with pytest.raises(
        ConfigError, match=r"folders that name no emotion: 'weird' \(1\).*--label-map weird=drop .*surprise"
    ):
        read_dataset(name, str(tmp_path))
    found = read_dataset(name, str(tmp_path), label_map={"weird": "drop"})

    assert sorted(labels_of(found).values()) == [HAPPINESS, SADNESS]
    assert found.dropped == {"label weird, dropped by the label map": 1}
