"""Labelled sets as people have them on disk: each layout read right, or answered with the command that reads it."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.config import EvaluateConfig
from motivnet_cli.evaluation.datasets.cards import CARDS, FERPLUS_COLUMNS
from motivnet_cli.evaluation.datasets.classes import emotion_named
from motivnet_cli.evaluation.datasets.read import read_dataset, read_label_map
from motivnet_cli.evaluation.evaluate import evaluate
from motivnet_cli.records import EMOTIONS
from tests.cases.datasets.layouts import all_cases
from tests.test_datasets import (
    ANGER,
    DISGUST,
    FEAR,
    FER,
    FERPLUS,
    HAPPINESS,
    NEUTRAL,
    SADNESS,
    SURPRISE,
    VOTES,
    ferplus_name,
    labels_of,
    make_classes,
    make_fer_table,
    make_ferplus_votes,
    picture,
    write,
)

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
        ConfigError, match=r"classes that name no emotion: 'weird' \(1\).*--label-map weird=drop .*surprise"
    ):
        read_dataset(name, str(tmp_path))
    found = read_dataset(name, str(tmp_path), label_map={"weird": "drop"})

    assert sorted(labels_of(found).values()) == [HAPPINESS, SADNESS]
    assert found.dropped == {"label weird, dropped by the label map": 1}


# ---- perfect predictions ----------------------------------------------------------------------------------


def perfect_table(path, labels):
    """Predictions that are right, under these names."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", *EMOTIONS])
        for name, label in labels.items():
            rows.writerow([name, *(float(emotion == label) for emotion in range(7))])
    return path


def accuracy(name, root, predictions, **options):
    """What `evaluate` gives, and of how many images."""
    out = str(predictions.parent / "out")
    config = EvaluateConfig(dataset=name, root=str(root), out=out, predictions=str(predictions), resamples=9, **options)
    (run,) = evaluate([config])[0].runs
    return run.scores.accuracy, run.scores.n


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    return all_cases(tmp_path_factory.mktemp("copies") / "all")


@pytest.mark.thorough
def test_every_copy_is_scored_or_answered_with_the_call_that_reads_it(copies, tmp_path):
    """Right predictions score 1 on every image that the copy has; an error names a call, and that call reads it."""
    wrong = {}
    for number, case in enumerate(copies):
        try:
            judged = judge(case, tmp_path / str(number))
        except (ConfigError, AssertionError) as error:
            judged = repr(error)
        if judged is not None:
            wrong[case.layout] = judged

    assert wrong == {}
    assert len(copies) >= 67
    assert len({case.layout for case in copies}) == len(copies)


def judge(case, folder):
    """What is wrong with what comes of a case; None if nothing."""
    name, root, options = case.dataset, str(case.root), dict(case.options)
    if "label_map" in options:
        options["label_map"] = read_label_map(options["label_map"])
    if case.refused:
        message = refusal(name, root, options)
        if not re.search(case.refused, message, re.DOTALL):
            return f"refused otherwise: {message}"
        if not case.right:
            return None
        call = message[message.index(case.reading) :].partition("motivnet evaluate ")[2].partition("`")[0]
        options = options_of(shlex.split(call))
        name, root = options.pop("dataset"), options.pop("root")
        if "label-map" in options:
            options["label_map"] = read_label_map(options.pop("label-map"))
    base = case.root if case.root.is_dir() else case.root.parent
    images = read_dataset(name, root, **options).images
    # Predictions are named by path or, where the picture is in a table, by the name that the set gives it.
    named = {image.path or image.name: name_of(image, base) for image in images}
    found = {name_of(image, base): image.label for image in images}
    if found != case.right:
        return f"labels differ: {found} is not {case.right}"
    folder.mkdir()
    table = perfect_table(folder / "p.csv", {path: case.right[name] for path, name in named.items()})
    scored = accuracy(name, root, table, **options)
    return None if scored == (1.0, len(case.right)) else f"scored {scored}"


def refusal(name, root, options):
    """The message of the error; that nothing was refused, where there is none."""
    try:
        read_dataset(name, root, **options)
    except ConfigError as error:
        return str(error)
    return "it was read"


def name_of(image, base):
    return Path(image.path).relative_to(base).as_posix() if image.path else image.name


# ---- numbers that fit two numberings ----------------------------------------------------------------------

RAFDB_FROM_0 = {0: SURPRISE, 1: FEAR, 2: DISGUST, 3: HAPPINESS, 4: SADNESS, 5: ANGER, 6: NEUTRAL}
BY_ALPHABET = {0: ANGER, 1: DISGUST, 2: FEAR, 3: HAPPINESS, 4: NEUTRAL, 5: SADNESS, 6: SURPRISE}
AFFECTNET_FROM_1 = {number: number - 1 for number in range(1, 8)}


def calls_in(message):
    """The calls that a message names, as words."""
    return [shlex.split(line) for line in re.findall(r"`motivnet evaluate ([^`]*)`", message)]


def options_of(call):
    return {key.removeprefix("--"): value for key, value in zip(call[::2], call[1::2], strict=True)}


def read_as(call):
    options = options_of(call)
    return read_dataset(options["dataset"], options["root"], label_map=read_label_map(options["label-map"]))


@pytest.mark.parametrize(
    ("name", "split", "numbers", "meanings"),
    [
        ("rafdb", "test", range(7), [RAFDB_FROM_0, BY_ALPHABET]),
        ("rafdb", "test", range(8), [{n: n for n in range(7)}, None]),
        ("rafdb", "test", range(1, 7), [{n: RAFDB_FROM_0[n - 1] for n in range(1, 7)}, RAFDB_FROM_0, BY_ALPHABET]),
        ("affectnet7", "val", range(1, 7), [{n: n for n in range(1, 7)}, AFFECTNET_FROM_1, BY_ALPHABET]),
        ("affectnet7", "val", range(1, 8), [{n: n for n in range(1, 7)}, AFFECTNET_FROM_1]),
        ("folder", None, range(7), [{n: n for n in range(7)}, None, BY_ALPHABET]),
    ],
)
def test_numbers_that_fit_two_numberings_are_refused(tmp_path, name, split, numbers, meanings):
    """Each reading is named with the call that reads so, and the call does; none is chosen."""
    where = f"{split}/" if split else ""
    for number in numbers:
        picture(tmp_path / f"{where}{number}/a.jpg")

    with pytest.raises(ConfigError, match="can be read in more than one way") as caught:
        read_dataset(name, str(tmp_path))
    calls = calls_in(str(caught.value))

    for call, meaning in zip(calls, meanings, strict=False):
        if meaning is not None:
            seven = {f"{where}{n}/a.jpg": label for n, label in meaning.items() if n in numbers}
            assert labels_of(read_as(call)) == seven
    assert len(calls) >= len(meanings) >= 2


@pytest.mark.parametrize(
    ("name", "here", "elsewhere", "is_certain"),
    [
        ("rafdb", "test/1", "train/7", True),  # the other split has the number that only RAF-DB's own order has
        ("rafdb", "test/7", "train/1", True),
        ("rafdb", "test/1", "train/6", False),
        ("rafdb", "test/7", "train/0", False),
        ("affectnet7", "val/3", "train/0", True),
        ("affectnet7", "val/3", "train/7", False),
        ("affectnet8", "val/0", "val/7", True),
        ("fer2013", "PublicTest/6", "PrivateTest/0", True),
        ("fer2013", "PrivateTest/6", "Training/1", False),
        ("fer2013", "PrivateTest/1", "Training/7", False),
    ],
)
def test_all_splits_together_say_how_classes_are_numbered(tmp_path, name, here, elsewhere, is_certain):
    """Half a set leaves open what the whole tells."""
    for folder in (here, elsewhere):
        picture(tmp_path / folder / "a.jpg")
    split = here.partition("/")[0].replace("Test", "").casefold()

    if is_certain:
        (image,) = read_dataset(name, str(tmp_path), split=split).images
        assert EMOTIONS[image.label] == CARDS[name].labels[here[-1]]
    else:
        with pytest.raises(ConfigError, match="can be read in more than one way"):
            read_dataset(name, str(tmp_path), split=split)


@pytest.mark.parametrize(
    ("name", "split", "numbers"), [("affectnet7", "val", range(8)), ("rafdb", "test", range(1, 8))]
)
def test_folders_numbered_from_0_are_said_to_be_the_sets_own(tmp_path, name, split, numbers):
    """The order of the alphabet numbers from 0, too: what each number is taken for is said, unless a map says it."""
    for number in numbers:
        picture(tmp_path / split / str(number) / "a.jpg")
    given = {str(number): "happy" for number in numbers}
    bare, mapped = (read_dataset(name, str(tmp_path), label_map=each) for each in (None, given))
    said = [[remark for remark in found.remarks if "not by the alphabet" in remark] for found in (bare, mapped)]

    own = "0 neutral, 1 happiness, 2 sadness, 3 surprise, 4 fear, 5 disgust, 6 anger, 7 contempt"
    expected = [f"the folders are read by affectnet7's own numbers, not by the alphabet: {own}"]
    assert said == [expected if name == "affectnet7" else [], []]


def test_a_map_for_some_numbers_does_not_shift_the_others(tmp_path):
    """A label map that drops one number leaves the question open for the rest; one that names all answers it."""
    make_classes(tmp_path, "test", {number: number for number in range(7)})

    with pytest.raises(ConfigError, match="more than one way"):
        read_dataset("rafdb", str(tmp_path), label_map={"0": "drop"})
    found = read_dataset("rafdb", str(tmp_path), label_map={str(n): EMOTIONS[n] for n in range(7)})

    assert sorted(labels_of(found).values()) == sorted([*range(7)] * 2)


def test_a_set_s_own_list_that_was_renumbered_is_refused(tmp_path):
    """RAF-DB's list from 0, and FER2013's table from 1: six of seven numbers would mean another class each."""
    lines = "".join(f"test_{n:04}.jpg {n}\n" for n in range(7))
    write(tmp_path / "raf/EmoLabel/list_patition_label.txt", lines)
    for number in range(7):
        picture(tmp_path / f"raf/Image/aligned/test_{number:04}_aligned.jpg")
    write(
        tmp_path / "fer/fer2013.csv", "emotion,pixels,Usage\n" + "".join(f"{n},{n},PrivateTest\n" for n in range(1, 8))
    )

    for name, folder in (("rafdb", "raf"), ("fer2013", "fer")):
        with pytest.raises(ConfigError, match=r"the labels .* can be read in more than one way") as caught:
            read_dataset(name, str(tmp_path / folder))
        moved = list(labels_of(read_as(calls_in(str(caught.value))[0])).values())
        assert moved == list((RAFDB_FROM_0 if name == "rafdb" else dict(enumerate(FER.values()))).values())


def test_a_map_of_labels_that_do_not_occur_is_said(tmp_path):
    """RAF-DB in folders by name: a map of its numbers changes nothing, and that must not pass for a change."""
    make_classes(tmp_path, "test", {"neutral": NEUTRAL, "happy": HAPPINESS})

    found = read_dataset("rafdb", str(tmp_path), label_map={"7": "drop", "Happy": "sad"})

    assert sorted(labels_of(found).values()) == [NEUTRAL, NEUTRAL, SADNESS, SADNESS]
    assert "the label map names labels that do not occur here: 7" in found.remarks


def test_numbered_folders_of_ferplus_may_be_fer2013s(tmp_path):
    """Its own numbers fit, and those of the set whose images it shares fit as well."""
    for number in range(7):
        picture(tmp_path / f"test/{number}/a.jpg")

    with pytest.raises(ConfigError, match=r"FER2013's order: .*0=anger,1=disgust") as caught:
        read_dataset("ferplus", str(tmp_path))
    expected = [[*FERPLUS.values()], [*range(7)], [ANGER, DISGUST, FEAR, HAPPINESS, SADNESS, SURPRISE, NEUTRAL]]

    calls = calls_in(str(caught.value))
    assert [[labels_of(read_as(call))[f"test/{n}/a.jpg"] for n in range(7)] for call in calls[:3]] == expected


def test_the_call_for_a_reading_keeps_what_was_asked(tmp_path):
    """Columns, what the user's map says already, and contempt stay as they were."""
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    table = write(tmp_path / "my table.csv", "path,label,y\na.png,x,0\nb.png,x,3\nc.png,x,odd\n")
    options = {"label_column": "y", "label_map": {"odd": "drop"}, "contempt": True}

    with pytest.raises(ConfigError, match="more than one way") as caught:
        read_dataset("csv", str(table), **options)
    (call,) = re.findall(r"FER2013's order: `motivnet evaluate ([^`]*)`", str(caught.value))

    words = shlex.split(call)
    assert words == [
        *("--dataset", "csv", "--root", str(table), "--label-column", "y", "--label-map"),
        *("odd=drop,0=anger,3=happiness", "--contempt"),
    ]


# ---- rows of FER2013, and FERPlus' names of them ----------------------------------------------------------


def make_both(root):
    """FER2013's table and FERPlus' list, whose names hold other numbers than the rows; the same labels in both."""
    write(root / "both/.keep", "")
    labels = [*FERPLUS.values()] * 3
    native = {NEUTRAL: 6, HAPPINESS: 3, SADNESS: 4, SURPRISE: 5, FEAR: 2, DISGUST: 1, ANGER: 0}
    usages = [usage for usage in ("Training", "PublicTest", "PrivateTest") for _ in range(7)]
    rows = [
        f"{native[label]},{row % 256},{usage}" for row, (label, usage) in enumerate(zip(labels, usages, strict=True))
    ]
    write(root / "both/fer2013.csv", "\n".join(["emotion,pixels,Usage", *rows]) + "\n")
    make_ferplus_votes(root / "both")
    return {row: label for row, label in enumerate(labels) if row >= 14}


@pytest.mark.parametrize("name", ["fer2013", "ferplus"])
@pytest.mark.parametrize(
    "naming", [ferplus_name, lambda row: f"row-{row:05}.png", lambda row: f"x/{ferplus_name(row)}"]
)
def test_predictions_go_by_ferplus_names_and_by_rows(tmp_path, name, naming):
    """Right predictions under either naming score 1 on both sets."""
    labels = make_both(tmp_path)
    table = perfect_table(tmp_path / "p.csv", {naming(row): label for row, label in labels.items()})

    assert accuracy(name, tmp_path / "both", table) == (1.0, 7)


def test_ferplus_names_are_no_rows(tmp_path):
    """Without FERPlus' list its names say nothing of FER2013's rows: refused, and never a figure in between."""
    labels = make_both(tmp_path)
    table = perfect_table(tmp_path / "p.csv", {ferplus_name(row): label for row, label in labels.items()})
    (tmp_path / "both/fer2013new.csv").unlink()

    with pytest.raises(ConfigError, match=r"none of the 7 labelled images is found"):
        accuracy("fer2013", tmp_path / "both", table)


@pytest.mark.parametrize("name", ["fer2013", "ferplus"])
def test_numbers_of_rows_are_not_taken_for_ferplus_names(tmp_path, name):
    """Right predictions that call row 14 `fer0000014.png` would score somewhere in between: they are refused."""
    labels = make_both(tmp_path)
    table = perfect_table(tmp_path / "p.csv", {f"fer{row:07}.png": label for row, label in labels.items()})

    with pytest.raises(ConfigError, match=r"by the rows of FER2013's table, such as fer00000\d\d: .* row-00012.png"):
        accuracy(name, tmp_path / "both", table)


def test_a_list_of_another_order_names_no_rows(tmp_path):
    """A list of votes that does not fit the table is not used, and that is said."""
    expected = make_fer_table(tmp_path)
    write(tmp_path / "fer2013new.csv", f"{VOTES}\nTraining,fer0000000.png,10,0,0,0,0,0,0,0,0,0\n")

    found = read_dataset("fer2013", str(tmp_path))

    assert labels_of(found) == expected
    assert any("is not of the order of" in remark for remark in found.remarks)


@pytest.mark.parametrize(("step", "is_named"), [(0, True), (1, False)])
def test_rows_of_the_same_usage_may_be_other_images(tmp_path, step, is_named):
    """A table whose rows were moved within the splits has FERPlus' usage, and labels that agree with no majority."""
    columns = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    rows = "".join(f"{(row + step) % 7},{row % 256},PrivateTest\n" for row in range(1400))
    write(tmp_path / "fer2013.csv", f"emotion,pixels,Usage\n{rows}")
    names = [(f"fer{row + 7}.png", columns[row % 7]) for row in range(1400)]
    write(tmp_path / "fer2013new.csv", f"{VOTES}\n{votes_of(names)}")

    found = read_dataset("fer2013", str(tmp_path))

    assert found.images[0].name == ("fer7.png" if is_named else "row-00000.png")
    if not is_named:
        with pytest.raises(ConfigError, match="are not of one order"):
            read_dataset("ferplus", str(tmp_path))


def votes_of(rows):
    """Lines of FERPlus' list: name and the column that all vote for."""
    votes = {name: ",".join("10" if column == name else "0" for column in FERPLUS_COLUMNS) for name in FERPLUS_COLUMNS}
    return "".join(f"PrivateTest,{image},{votes[column]}\n" for image, column in rows)


SHARED = [("fer1.png", "anger"), ("fer2.png", "fear"), ("fer2.png", "neutral"), ("fer3.png", "neutral")]


def test_an_image_name_of_two_rows_means_neither(tmp_path):
    """With the table each row has its pixels and keeps its label, by its number; as files they cannot be told apart."""
    write(tmp_path / "fer2013new.csv", f"{VOTES}\n{votes_of(SHARED)}")
    for number in (1, 2, 3):
        picture(tmp_path / f"images/fer{number}.png")
    files = read_dataset("ferplus", str(tmp_path))
    write(tmp_path / "fer2013.csv", "emotion,pixels,Usage\n" + "".join(f"0,{row},PrivateTest\n" for row in range(4)))
    table = read_dataset("ferplus", str(tmp_path))

    assert labels_of(files) == {"images/fer1.png": ANGER, "images/fer3.png": NEUTRAL}
    assert files.dropped == {"image name that several rows share": 2}
    assert labels_of(table) == {"fer1.png": ANGER, "row-00001.png": FEAR, "row-00002.png": NEUTRAL, "fer3.png": NEUTRAL}
    for found in (files, table):
        assert any("2 rows have an image name that others have too (fer2.png)" in remark for remark in found.remarks)


def test_files_of_one_name_go_by_the_folder_of_the_split(tmp_path):
    """A name that two folders have is the file of the split that is read; without such a folder it is neither."""
    write(tmp_path / "fer2013new.csv", f"{VOTES}\n{votes_of(SHARED[:2])}")
    for path in ("FER2013Train/fer1.png", "FER2013Test/fer1.png", "a/fer2.png", "b/fer2.png"):
        picture(tmp_path / path)
    found = read_dataset("ferplus", str(tmp_path))

    assert labels_of(found) == {"FER2013Test/fer1.png": ANGER}
    assert sum(found.dropped.values()) == 1


def test_the_same_in_the_lists_of_its_authors_script(tmp_path):
    """FERPlus' own script writes a list for each split, and of two rows with one name the last one's picture."""
    lines = votes_of(SHARED).replace("PrivateTest,", "").replace(".png,", '.png,"(0, 0, 48, 48)",')
    write(tmp_path / "data/FER2013Test/label.csv", lines)
    for number in (1, 2, 3):
        picture(tmp_path / f"data/FER2013Test/fer{number}.png")

    found = read_dataset("ferplus", str(tmp_path))

    assert labels_of(found) == {"data/FER2013Test/fer1.png": ANGER, "data/FER2013Test/fer3.png": NEUTRAL}
    assert found.dropped == {"image name that several rows share": 2}


# ---- splits by their usual names --------------------------------------------------------------------------


def test_fer2013_folders_of_another_division_are_refused(tmp_path):
    """Without a test folder, `validation` of another size than Public is someone's own split."""
    classes = {"angry": ANGER, "happy": HAPPINESS}
    make_classes(tmp_path, "train", classes, before="images/")
    make_classes(tmp_path, "validation", classes, before="images/")

    with pytest.raises(ConfigError, match=r"none of the published splits .* Read it as a set of your own") as caught:
        read_dataset("fer2013", str(tmp_path))
    (call,) = calls_in(str(caught.value))
    options = options_of(call)

    assert sorted(labels_of(read_dataset(options["dataset"], options["root"])).values()) == [1, 1, 6, 6]
    assert len(read_dataset("fer2013", str(tmp_path), split="public").images) == 4


@pytest.mark.parametrize(
    ("name", "asked", "split"),
    [("rafdb", "Testing", "test"), ("rafdb", "train_set", "train"), ("ferplus", "validation", "valid")],
)
def test_a_split_is_asked_for_as_its_folder_may_be_called(tmp_path, name, asked, split):
    """Whatever names a split on disk names it on the command line, and the record has the set's own word."""
    for folder in ("train", "valid", "test"):
        make_classes(tmp_path, folder, {"angry": ANGER, "happy": HAPPINESS})

    assert read_dataset(name, str(tmp_path), split=asked).split == split


def test_fer2013_folders_by_usage(tmp_path):
    """Public and Private are told apart by their folders, and `test` is both."""
    for usage in ("Training", "PublicTest", "PrivateTest"):
        make_classes(tmp_path, usage, {"angry": ANGER, "happy": HAPPINESS})

    sizes = {
        split: len(read_dataset("fer2013", str(tmp_path), split=split).images) for split in CARDS["fer2013"].splits
    }

    assert sizes == {"train": 4, "public": 4, "private": 4, "test": 8}
    assert read_dataset("fer2013", str(tmp_path)).split == "private"


def test_validation_beside_a_test_folder_is_public(tmp_path):
    """{train,val,test} are Public and Private, unless test has as many images as both; either is said."""
    for split in ("train", "val", "test"):
        make_classes(tmp_path, split, {"angry": ANGER, "happy": HAPPINESS})

    found = read_dataset("fer2013", str(tmp_path))

    assert (found.split, {name.partition("/")[0] for name in labels_of(found)}) == ("private", {"test"})
    for split in ("public", "private", "test"):
        remarks = read_dataset("fer2013", str(tmp_path), split=split).remarks
        assert "the folders for validation and test are taken for Public and Private" in remarks, split
    assert "fer2013 private has 4 images here, 3,589 published" in found.remarks


def test_rafdb_names_say_of_which_split_they_are(tmp_path):
    """`valid` is RAF-DB's test if nothing speaks against it: names of its training images do, and are counted."""
    for number in range(1, 8):
        picture(tmp_path / f"valid/{number}/test_{number:04}_aligned.jpg")
    first = read_dataset("rafdb", str(tmp_path))
    picture(tmp_path / "valid/1/train_00001_aligned.jpg")

    second = read_dataset("rafdb", str(tmp_path))

    assert any("is read from 'valid'" in remark for remark in first.remarks)
    assert not any("named as the split" in remark for remark in first.remarks)
    assert "1 image named as the split train are, and read as test" in second.remarks


def test_folders_of_ones_own_with_splits_ask_for_one(tmp_path):
    """train/ and test/ with folders of emotions: --split is asked for, and read."""
    for split in ("train", "test"):
        make_classes(tmp_path, split, {"angry": ANGER, "happy": HAPPINESS})

    with pytest.raises(ConfigError, match=r"for test, train: choose with --split, such as .*--split test"):
        read_dataset("folder", str(tmp_path))
    found = read_dataset("folder", str(tmp_path), split="test")

    assert (found.split, len(found.images)) == ("test", 4)
    with pytest.raises(ConfigError, match=r"none for a split 'test': leave out --split"):
        read_dataset("folder", str(tmp_path / "train"), split="test")
