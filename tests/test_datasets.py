"""Datasets: every layout read as its authors wrote it, labels by hand, nothing lost in silence."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.cards import CARDS, FERPLUS_COLUMNS
from motivnet_cli.evaluation.datasets.read import LAYOUTS, read_dataset, read_label_map
from motivnet_cli.evaluation.datasets.votes import ferplus_majority
from motivnet_cli.records import EMOTIONS

NEUTRAL, HAPPINESS, SADNESS, SURPRISE, FEAR, DISGUST, ANGER, CONTEMPT = range(8)

# The sets' own labels, written down by hand from their documentation.
RAFDB = {1: SURPRISE, 2: FEAR, 3: DISGUST, 4: HAPPINESS, 5: SADNESS, 6: ANGER, 7: NEUTRAL}
FER = {0: ANGER, 1: DISGUST, 2: FEAR, 3: HAPPINESS, 4: SADNESS, 5: SURPRISE, 6: NEUTRAL}
FER_FOLDERS = {
    **{"angry": ANGER, "disgust": DISGUST, "fear": FEAR, "happy": HAPPINESS, "sad": SADNESS},
    **{"surprise": SURPRISE, "neutral": NEUTRAL},
}
CKPLUS = {0: NEUTRAL, 1: ANGER, 3: DISGUST, 4: FEAR, 5: HAPPINESS, 6: SADNESS, 7: SURPRISE}
CODES = {"NE": NEUTRAL, "HA": HAPPINESS, "SA": SADNESS, "SU": SURPRISE, "DI": DISGUST, "AN": ANGER}
FERPLUS = {
    **{"neutral": NEUTRAL, "happiness": HAPPINESS, "surprise": SURPRISE, "sadness": SADNESS, "anger": ANGER},
    **{"disgust": DISGUST, "fear": FEAR},
}
VOTES = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
AFFECTNET = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"


def picture(path, *, shade=128):
    """A small picture; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), shade).save(path)
    return path


def empty(path):
    """A file of which only the name counts."""
    path.touch()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def labels_of(found):
    return {image.name: image.label for image in found.images}


# Each maker fills a folder with a few pictures a class in one layout and gives the labels that the split then has.


def make_rafdb_list(root, *, kind="aligned", inside=""):
    lines, expected = [], {}
    for split in ("train", "test"):
        for number, (native, label) in enumerate([*RAFDB.items()] * 2):
            name = f"{split}_{number:05}"
            lines.append(f"{name}.jpg {native}")
            file = f"{inside}Image/{kind}/{name}{'_aligned' if kind == 'aligned' else ''}.jpg"
            picture(root / file)
            if split == "test":
                expected[file] = label
    write(root / f"{inside}EmoLabel/list_patition_label.txt", "\n".join(lines) + "\n")
    return expected


def make_rafdb_original(root):
    return make_rafdb_list(root, kind="original")


def make_rafdb_basic(root):
    return make_rafdb_list(root, inside="basic/")


def make_classes(root, split, classes, *, before="", suffix=".jpg"):
    expected = {}
    for native, label in classes.items():
        for number in range(2):
            file = f"{before}{split}/{native}/{split}_{number}{suffix}"
            picture(root / file)
            expected[file] = label
    return expected


def make_rafdb_kaggle(root):
    make_classes(root, "train", RAFDB, before="DATASET/")
    return make_classes(root, "test", RAFDB, before="DATASET/")


def make_affectnet_arrays(root):
    expected = {}
    for label in [*range(8), *range(7)]:
        stem = str(100 + len([*root.rglob("*.npy")]))
        picture(root / f"val_set/images/{stem}.jpg")
        (root / "val_set/annotations").mkdir(exist_ok=True)
        # Both kinds are about: the number as text, and as a number.
        np.save(root / f"val_set/annotations/{stem}_exp.npy", str(label) if label % 2 else np.int64(label))
        np.save(root / f"val_set/annotations/{stem}_val.npy", np.float64(0.25))
        if label < 7:
            expected[f"val_set/images/{stem}.jpg"] = label
    return expected


def make_affectnet_lists(root, *, header=True):
    lines, expected = [AFFECTNET] if header else [], {}
    for label in range(11):
        file = f"{label}/face{label}.jpg"
        picture(root / "Manually_Annotated_Images" / file)
        lines.append(f"{file},1,2,3,4,1.5;2.5;3.5,{label},-0.1,0.2")
        if label < 7:
            expected[f"Manually_Annotated_Images/{file}"] = label
    write(root / "Manually_Annotated_file_lists/validation.csv", "\n".join(lines) + "\n")
    return expected


def make_affectnet_lists_without_header(root):
    return make_affectnet_lists(root, header=False)


def make_affectnet_folders(root):
    make_classes(root, "train", {number: number for number in range(8)})
    return make_classes(root, "val", {number: number for number in range(7)})


def make_fer_table(root, *, name="fer2013.csv", header="emotion,pixels,Usage"):
    lines, expected = [header], {}
    for usage in ("Training", "PublicTest", "PrivateTest"):
        for native, label in FER.items():
            row = len(lines) - 1
            pixels = " ".join(str((row + place) % 256) for place in range(16))
            lines.append(f"{native},{pixels},{usage}" if header.endswith("Usage") else f"{native},{usage},{pixels}")
            if usage == "PrivateTest":
                expected[f"row-{row:05}.png"] = label
    write(root / name, "\n".join(lines) + "\n")
    return expected


def make_fer_challenge(root):
    return make_fer_table(root, name="icml_face_data.csv", header="emotion, Usage, pixels")


def make_fer_folders(root):
    make_classes(root, "train", FER_FOLDERS)
    return make_classes(root, "test", FER_FOLDERS)


def ferplus_name(row):
    """A name as FERPlus' list has them: its number is that of another row."""
    return f"fer{row * 5 % 21:07}.png"


def make_ferplus_votes(root):
    lines, expected = [VOTES], {}
    for usage in ("Training", "PublicTest", "PrivateTest"):
        for name, label in FERPLUS.items():
            row = len(lines) - 1
            votes = [8 if column == name else 2 if column == "unknown" else 0 for column in FERPLUS_COLUMNS]
            lines.append(f"{usage},{ferplus_name(row)},{','.join(map(str, votes))}")
            if usage == "PrivateTest":
                expected[ferplus_name(row)] = label
    write(root / "fer2013new.csv", "\n".join(lines) + "\n")
    return expected


def make_ferplus_table(root):
    make_fer_table(root)
    return make_ferplus_votes(root)


def make_ferplus_images(root):
    expected = make_ferplus_votes(root)
    for name in expected:
        picture(root / "data/FER2013Test" / name)
    return {f"data/FER2013Test/{name}": label for name, label in expected.items()}


def make_ckplus(root):
    expected = {}
    for number, (native, label) in enumerate({**CKPLUS, 2: None}.items()):
        subject, sequence = f"S{number:03}", "001"
        for frame in range(1, 6):
            picture(root / f"cohn-kanade-images/{subject}/{sequence}/{subject}_{sequence}_{frame:08}.png")
        write(
            root / f"Emotion/{subject}/{sequence}/{subject}_{sequence}_00000005_emotion.txt",
            f"   {native}.0000000e+00\n",
        )
        if label is not None:
            expected[f"cohn-kanade-images/{subject}/{sequence}/{subject}_{sequence}_00000005.png"] = label
    picture(root / "cohn-kanade-images/S999/001/S999_001_00000001.png")  # a sequence without a label
    return expected


def make_jaffe(root):
    expected = {}
    for number, (code, label) in enumerate({**CODES, "FE": FEAR}.items()):
        file = f"KA.{code}1.{number}.tiff"
        picture(root / file)
        expected[file] = label
    write(root / "README_FIRST.txt", "JAFFE")
    return expected


def make_kdef(root):
    expected = {}
    for person in ("AF01", "BF01", "AM35"):
        for code, label in {**CODES, "AF": FEAR}.items():
            for angle in ("FL", "HL", "S", "HR", "FR"):
                file = f"{person}/{person}{code}{angle}.JPG"
                picture(root / file)
                if angle == "S":
                    expected[file] = label
    return expected


def make_sfew(root):
    classes = {name.capitalize(): label for name, label in FER_FOLDERS.items()}
    make_classes(root, "Train_Aligned_Faces", classes, before="Train/", suffix=".png")
    return make_classes(root, "Val_Aligned_Faces_new", classes, before="Val/", suffix=".png")


def make_expw(root):
    lines, expected = [], {}
    for native, label in FER.items():
        name = f"face {native}.jpg"
        picture(root / "image/origin" / name)
        for face in range(2):
            lines.append(f"{name} {face} {10 + face} 20 60 70 37.5 {native}")
            expected[f"image/origin/{name}#{face}"] = label
    write(root / "label.lst", "\n".join(lines) + "\n")
    return expected


def make_mmafedb(root):
    """Kaggle's folder and its three splits."""
    for split in ("train", "valid"):
        make_classes(root, split, FER_FOLDERS, before="MMAFEDB/")
    return make_classes(root, "test", FER_FOLDERS, before="MMAFEDB/")


def make_caers(root):
    classes = {
        **{"Anger": ANGER, "Disgust": DISGUST, "Fear": FEAR, "Happy": HAPPINESS, "Neutral": NEUTRAL, "Sad": SADNESS},
        **{"Surprise": SURPRISE},
    }
    make_classes(root, "train", classes, before="CAER-S/", suffix=".png")
    return make_classes(root, "test", classes, before="CAER-S/", suffix=".png")


def make_folder(root):
    names = {
        **{"Neutral": NEUTRAL, "HAPPY": HAPPINESS, "2_sadness": SADNESS, "surprised": SURPRISE},
        **{"fearful": FEAR, "Disgust": DISGUST, "anger": ANGER, "angry": ANGER},
    }
    expected = {}
    for name, label in names.items():
        for file in (f"{name}/a.png", f"{name}/more/b.JPG"):
            picture(root / file)
            expected[file] = label
    return expected


MAKERS = {
    "rafdb list": ("rafdb", make_rafdb_list, 0, "whole"),
    "rafdb basic": ("rafdb", make_rafdb_basic, 0, "whole"),
    "rafdb original": ("rafdb", make_rafdb_original, 0, "auto"),
    "rafdb kaggle": ("rafdb", make_rafdb_kaggle, 1, "whole"),
    "affectnet arrays": ("affectnet7", make_affectnet_arrays, 0, "whole"),
    "affectnet lists": ("affectnet7", make_affectnet_lists, 1, "given"),
    "affectnet lists, no header": ("affectnet7", make_affectnet_lists_without_header, 1, "given"),
    "affectnet folders": ("affectnet7", make_affectnet_folders, 2, "whole"),
    "affectnet8 arrays": ("affectnet8", make_affectnet_arrays, 0, "whole"),
    "fer2013 table": ("fer2013", make_fer_table, 0, "whole"),
    "fer2013 challenge": ("fer2013", make_fer_challenge, 0, "whole"),
    "fer2013 kaggle": ("fer2013", make_fer_folders, 1, "whole"),
    "ferplus table": ("ferplus", make_ferplus_table, 0, "whole"),
    "ferplus images": ("ferplus", make_ferplus_images, 1, "whole"),
    "ckplus": ("ckplus", make_ckplus, 0, "auto"),
    "jaffe": ("jaffe", make_jaffe, 0, "auto"),
    "kdef": ("kdef", make_kdef, 0, "auto"),
    "sfew": ("sfew", make_sfew, 0, "whole"),
    "expw": ("expw", make_expw, 0, "given"),
    "mmafedb": ("mmafedb", make_mmafedb, 0, "whole"),
    "caers": ("caers", make_caers, 0, "auto"),
    "folder": ("folder", make_folder, 0, "auto"),
}
every_layout = pytest.mark.parametrize(("name", "make", "layout", "faces"), MAKERS.values(), ids=MAKERS)


@every_layout
def test_layout_is_recognised_and_labels_are_right(tmp_path, name, make, layout, faces):
    """Each layout is known by itself, and each image has the label that its set's documentation gives it."""
    expected = make(tmp_path)

    found = read_dataset(name, str(tmp_path))

    assert labels_of(found) == expected
    assert set(expected.values()) == set(range(7))
    assert (found.layout, found.faces) == (CARDS[name].layouts[layout], faces)
    for image in found.images:
        assert (image.path is None) != (image.pixels is None)
        assert image.path is None or (Path(image.path).is_absolute() and Path(image.path).is_file())


@every_layout
def test_folder_around_a_set_is_looked_into(tmp_path, name, make, layout, faces):
    """A set is found in a folder within the root, and names are relative to the root; only `folder` wants its own."""
    expected = make(tmp_path / "data")
    if name == "folder":
        with pytest.raises(ConfigError, match=r"are in data: name one of them as --root"):
            read_dataset(name, str(tmp_path))
        return

    found = read_dataset(name, str(tmp_path))

    in_table = found.images[0].path is None
    assert labels_of(found) == (
        {} | expected if in_table else {f"data/{key}": label for key, label in expected.items()}
    )


@every_layout
def test_permuted_map_permutes_the_labels(tmp_path, name, make, layout, faces):
    """A given label map is stronger than the set's: turned by one, every image has the next emotion."""
    expected = make(tmp_path)
    before = read_dataset(name, str(tmp_path)).label_map
    turned = {
        native: EMOTIONS[(EMOTIONS.index(emotion) + 1) % 7] for native, emotion in before.items() if emotion in EMOTIONS
    }

    found = read_dataset(name, str(tmp_path), label_map=turned)

    assert labels_of(found) == {key: (label + 1) % 7 for key, label in expected.items()}
    assert any("given label map" in remark for remark in found.remarks)


@pytest.mark.parametrize("name", [name for name in CARDS if name not in ("csv", "parquet")])
def test_unknown_layout_says_what_was_looked_for_and_found(tmp_path, name):
    """Where no layout is recognised, the error lists the layouts, what is there, and where the set comes from."""
    picture(tmp_path / "holiday/beach.jpg")
    write(tmp_path / "notes.txt", "nothing")

    with pytest.raises(ConfigError) as caught:
        read_dataset(name, str(tmp_path))

    message = str(caught.value)
    assert all(layout in message for layout in CARDS[name].layouts)
    assert "holiday/, notes.txt" in message
    assert CARDS[name].where in message


def test_two_copies_are_not_chosen_between(tmp_path):
    """Two folders that both look like the set are named, and none is taken."""
    make_jaffe(tmp_path / "jaffe")
    make_jaffe(tmp_path / "jaffe (copy)")

    with pytest.raises(ConfigError, match=r"jaffe' ?,? ?.*jaffe \(copy\)' all look like the set"):
        read_dataset("jaffe", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("faces95", {}, "no dataset is called 'faces95'"),
        ("rafdb", {"split": "validation"}, "no split 'validation'; it has: train, test"),
        ("ckplus", {"protocol": "middle"}, "no protocol 'middle'; it has: last_frame"),
        ("jaffe", {"protocol": "frontal"}, "it has: none"),
        ("jaffe", {"label_column": "x"}, "leave out --path-column"),
        ("jaffe", {"label_map": {"NE": "glad"}}, "gives 'glad' for NE: expected neutral"),
        ("jaffe", {}, "is no folder"),
        ("csv", {}, "is no file"),
    ],
)
def test_wrong_options_are_refused(tmp_path, name, options, expected):
    """A wrong name, split, protocol, map or root is named in the error, with what would be right."""
    with pytest.raises(ConfigError, match=expected):
        read_dataset(name, str(tmp_path / "nowhere"), **options)


# Counts against the published ones, on index files of full size.


def full_rafdb(root, numbers):
    lines = []
    (root / "Image/aligned").mkdir(parents=True)
    for split in ("train", "test"):
        natives = [native for native, count in numbers[split].items() for _ in range(count)]
        for number, native in enumerate(natives, 1):
            lines.append(f"{split}_{number:05}.jpg {native}")
            if split == "test":
                empty(root / f"Image/aligned/{split}_{number:05}_aligned.jpg")
    write(root / "EmoLabel/list_patition_label.txt", "\r\n".join(lines))


RAFDB_NUMBERS = {
    "train": dict(zip(RAFDB, (1290, 281, 717, 4772, 1982, 705, 2524), strict=True)),
    "test": dict(zip(RAFDB, (329, 74, 160, 1185, 478, 162, 680), strict=True)),
}


@pytest.mark.thorough
def test_full_rafdb_agrees_with_the_published_counts(tmp_path):
    """3,068 test lines bring no remark; in train the 12,271 missing files are counted and named."""
    full_rafdb(tmp_path, RAFDB_NUMBERS)
    found = read_dataset("rafdb", str(tmp_path))

    assert (len(found.images), found.remarks, found.dropped) == (3068, (), {})
    with pytest.raises(ConfigError, match=r"no labelled image is left of .* \(missing file 12,271\)"):
        read_dataset("rafdb", str(tmp_path), split="train")


def test_a_changed_label_is_said(tmp_path):
    """One image moved from one class to another is said of both, though the total is right."""
    numbers = {**RAFDB_NUMBERS["test"], 1: 328, 2: 75}
    full_rafdb(tmp_path, {"train": {}, "test": numbers})

    remarks = read_dataset("rafdb", str(tmp_path)).remarks

    assert remarks == ("rafdb test by emotion, here (published): surprise 328 (329), fear 75 (74)",)


def test_missing_files_are_dropped_by_name(tmp_path):
    """Files that the index names and the disk has not are dropped as `missing file`, named, and change the counts."""
    full_rafdb(tmp_path, RAFDB_NUMBERS)
    for number in range(1, 8):
        (tmp_path / f"Image/aligned/test_{number:05}_aligned.jpg").unlink()

    found = read_dataset("rafdb", str(tmp_path))

    assert found.dropped == {"missing file": 7}
    names = ", ".join(f"Image/aligned/test_{number:05}_aligned.jpg" for number in range(1, 6))
    assert found.remarks == (
        f"7 images of the index not on disk: {names} and 2 more",
        "rafdb test has 3,061 images here, 3,068 published",
        "rafdb test by emotion, here (published): surprise 322 (329)",
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("split", "total"), [("train", 28709), ("public", 3589), ("private", 3589), ("PrivateTest", 3589), ("test", 7178)]
)
def test_full_fer2013_agrees_with_the_published_counts(tmp_path, split, total):
    """35,887 rows divide as published, and every class count agrees."""
    numbers = {
        "Training": (3995, 436, 4097, 7215, 4830, 3171, 4965),
        "PublicTest": (467, 56, 496, 895, 653, 415, 607),
        "PrivateTest": (491, 55, 528, 879, 594, 416, 626),
    }
    rows = [
        f"{native},7,{usage}" for usage in numbers for native, count in enumerate(numbers[usage]) for _ in range(count)
    ]
    write(tmp_path / "fer2013.csv", "\ufeffemotion,pixels,Usage\r\n" + "\r\n".join(rows) + "\r\n")

    found = read_dataset("fer2013", str(tmp_path), split=split)

    assert len(rows) == 35887
    assert (len(found.images), found.remarks, found.dropped) == (total, (), {})


def test_kaggle_test_is_both_splits(tmp_path):
    """Kaggle's folders have no Private split: by default all of test is read and that is said; asked for, refused."""
    make_fer_folders(tmp_path)
    found = read_dataset("fer2013", str(tmp_path))

    assert found.split == "test"
    told = (
        "do not tell Public from Private: the split is all test images (7,178 as published), not the 3,589 of Private"
    )
    assert any(told in remark for remark in found.remarks)
    with pytest.raises(ConfigError, match=r"no split 'private' in this layout .* it has train, test"):
        read_dataset("fer2013", str(tmp_path), split="private")


def test_full_jaffe_agrees_with_the_published_counts(tmp_path):
    """213 names bring no remark, and there are ten subjects."""
    codes = [
        code
        for code, n in zip(["AN", "DI", "FE", "HA", "NE", "SA", "SU"], (30, 29, 32, 31, 30, 31, 30), strict=True)
        for _ in range(n)
    ]
    for number, code in enumerate(codes, 1):
        empty(tmp_path / f"K{'ABCDEFGHIJ'[number % 10]}.{code}{number % 3}.{number}.TIFF")

    found = read_dataset("jaffe", str(tmp_path))

    assert (len(found.images), found.remarks) == (213, ())
    assert len({image.subject for image in found.images}) == 10


@pytest.mark.thorough
@pytest.mark.parametrize(("protocol", "total"), [(None, 980), ("frontal", 980), ("all_angles", 4900)])
def test_full_kdef_agrees_with_the_published_counts(tmp_path, protocol, total):
    """70 people in two sessions: 980 frontal pictures, 4,900 in all, and 70 subjects."""
    for person in (f"{session}{sex}{number:02}" for session in "AB" for sex in "FM" for number in range(1, 36)):
        (tmp_path / person).mkdir()
        for code in (*CODES, "AF"):
            for angle in ("FL", "HL", "S", "HR", "FR"):
                empty(tmp_path / person / f"{person}{code}{angle}.JPG")

    found = read_dataset("kdef", str(tmp_path), protocol=protocol)

    assert (len(found.images), found.remarks, found.dropped) == (total, (), {})
    assert len({image.subject for image in found.images}) == 70
    assert found.protocol == protocol or protocol is None


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("protocol", "total", "neutral"),
    [
        ("last_frame", 309, 0),
        ("last_frame_neutral", 618, 309),
        ("last_three", 927, 0),
        ("last_three_neutral", 1236, 309),
    ],
)
def test_full_ckplus_agrees_with_the_published_counts(tmp_path, protocol, total, neutral):
    """327 labelled sequences, 309 without contempt; each protocol takes its frames, and the 266 others are said."""
    natives = [n for n, count in zip(range(1, 8), (45, 18, 59, 25, 69, 28, 83), strict=True) for _ in range(count)]
    for number, native in enumerate([*natives, *[None] * 266]):
        where = f"S{number // 5:03}/{number % 5 + 1:03}"
        (tmp_path / "cohn-kanade-images" / where).mkdir(parents=True)
        for frame in range(1, 6):
            empty(tmp_path / "cohn-kanade-images" / where / f"{where.replace('/', '_')}_{frame:08}.png")
        if native is not None:
            write(tmp_path / "Emotion" / where / f"{where.replace('/', '_')}_00000005_emotion.txt", f"{native}.0e+00")

    found = read_dataset("ckplus", str(tmp_path), protocol=protocol)

    assert len(found.images) == total
    assert sum(image.label == NEUTRAL for image in found.images) == neutral
    assert {image.path[-5] for image in found.images if image.label == NEUTRAL} <= {"1"}
    frames = {image.path[-5] for image in found.images if image.label != NEUTRAL}
    assert frames == ({"3", "4", "5"} if "three" in protocol else {"5"})
    assert found.dropped == {"contempt": 54 if "three" in protocol else 18}
    assert [remark for remark in found.remarks if "published" in remark] == []
    assert "266 of 593 sequences have no label and are not used" in found.remarks
    kept = read_dataset("ckplus", str(tmp_path), protocol=protocol, contempt=True)
    assert sum(image.label == CONTEMPT for image in kept.images) == found.dropped["contempt"]
    assert len(kept.images) == total + found.dropped["contempt"]
    assert [remark for remark in kept.remarks if "published" in remark] == []


@pytest.mark.thorough
def test_full_affectnet_agrees_with_the_published_counts(tmp_path):
    """Val is 500 of each; as eight classes, 3,999 and 4,000 with contempt are both right and 3,998 is not."""
    lines = [AFFECTNET]
    for label in range(11):
        (tmp_path / f"Manually_Annotated_Images/{label}").mkdir(parents=True)
        for number in range(500):
            empty(tmp_path / f"Manually_Annotated_Images/{label}/{number}.jpg")
            lines.append(f"{label}/{number}.jpg,1,2,3,4,1;2,{label},0.1,0.2")

    def remarks(rows, name):
        write(tmp_path / "Manually_Annotated_file_lists/validation.csv", "\n".join(rows))
        seven, eight = (read_dataset(name, str(tmp_path), contempt=kept) for kept in (False, True))
        said = [[each for each in found.remarks if "published" in each] for found in (seven, eight)]
        assert said[0] == said[1]
        assert len(eight.images) == len(seven.images) + seven.dropped["contempt"]
        return said[0]

    contempt = [line for line in lines if line.startswith("7/")]
    assert remarks(lines, "affectnet7") == []
    assert remarks(lines, "affectnet8") == []
    assert remarks([line for line in lines if line != contempt[0]], "affectnet8") == []
    assert remarks([line for line in lines if line not in contempt[:2]], "affectnet8") == [
        "affectnet8 val has 3,998 images with contempt here, 3,999 or 4,000 published"
    ]
    assert read_dataset("affectnet7", str(tmp_path)).dropped == {
        **{"contempt": 498, "none": 500, "uncertain": 500, "no face": 500}
    }


SFEW_NUMBERS = {
    "train": dict(zip(FER_FOLDERS, (178, 52, 78, 184, 161, 94, 144), strict=True)),
    "val": dict(zip(FER_FOLDERS, (77, 23, 46, 72, 73, 56, 84), strict=True)),
}


@pytest.mark.parametrize(("split", "total"), [("train", 891), ("val", 431), ("validation", 431)])
def test_full_sfew_agrees_with_the_published_counts(tmp_path, split, total):
    """891 training and 431 validation faces bring no remark, one more does: in all, and of its class."""
    for folder in ("Train", "Val"):
        for name, count in SFEW_NUMBERS[folder.casefold()].items():
            path = tmp_path / f"{folder}/{folder}_Aligned_Faces/{name.capitalize()}"
            path.mkdir(parents=True)
            for number in range(count):
                empty(path / f"{number}.png")
    first = read_dataset("sfew", str(tmp_path), split=split)
    empty(tmp_path / "Train/Train_Aligned_Faces/Sad/one.png")
    empty(tmp_path / "Val/Val_Aligned_Faces/Sad/one.png")

    second = read_dataset("sfew", str(tmp_path), split=split)
    sad = SFEW_NUMBERS[first.split]["sad"]

    assert (len(first.images), first.remarks, first.protocol) == (total, (), "aligned")
    assert second.remarks == (
        f"sfew {first.split} has {total + 1:,} images here, {total:,} published",
        f"sfew {first.split} by emotion, here (published): sadness {sad + 1} ({sad})",
    )


@pytest.mark.parametrize(("split", "total"), [("train", 958), ("val", 436)])
def test_whole_frames_of_sfew_have_counts_of_their_own(tmp_path, split, total):
    """958 and 436 frames, which lie beside the aligned faces or alone; `aligned` never takes them by their name."""
    folder = tmp_path / split.capitalize()
    for number in range(total):
        path = folder / [*FER_FOLDERS][number % 7].capitalize()
        path.mkdir(parents=True, exist_ok=True)
        empty(path / f"{number}.png")
    Image.new("L", (720, 576)).save(folder / "Angry/0.png")
    picture(folder / f"{folder.name}_Aligned_Faces/Happy/0.png")

    found = read_dataset("sfew", str(tmp_path), split=split, protocol="frames")

    assert (len(found.images), found.remarks, found.faces) == (total, (), "auto")
    assert len(read_dataset("sfew", str(tmp_path), split=split).images) == 1


@pytest.mark.parametrize(
    ("size", "protocol", "faces"), [((143, 181), "aligned", "whole"), ((720, 576), "frames", "auto")]
)
def test_sfew_without_a_word_goes_by_the_size(tmp_path, size, protocol, faces):
    """Where no folder says that the faces are aligned, the size of a picture does, and that is said."""
    for name in FER_FOLDERS:
        path = picture(tmp_path / f"Val/{name}/0.png")
        Image.new("L", size).save(path)

    found = read_dataset("sfew", str(tmp_path))

    assert (found.protocol, found.faces) == (protocol, faces)
    assert found.remarks[0].startswith(f"read as the protocol {protocol}, since the first picture has {size[0]} x")


def test_sfew_of_pictures_that_cannot_be_opened(tmp_path):
    """Then nothing says whether they are faces or frames, but the user."""
    (tmp_path / "Val/Happy").mkdir(parents=True)
    empty(tmp_path / "Val/Happy/0.png")

    with pytest.raises(
        ConfigError, match=r"can be opened, to see whether it is a face or a frame: say it with --protocol"
    ):
        read_dataset("sfew", str(tmp_path))
    assert len(read_dataset("sfew", str(tmp_path), protocol="frames").images) == 1


@pytest.mark.thorough
def test_full_expw_agrees_with_the_published_counts(tmp_path):
    """91,793 faces, several of one image, bring no remark and have unique names."""
    (tmp_path / "origin").mkdir()
    for number in range(100):
        empty(tmp_path / f"origin/{number}.jpg")
    counts = dict(zip(FER, (3671, 3995, 1088, 30537, 10559, 7060, 34883), strict=True))
    natives = [native for native, count in counts.items() for _ in range(count)]
    write(
        tmp_path / "label.lst",
        "".join(f"{n % 100}.jpg {n} 1 2 9 8 50.0 {native}\n" for n, native in enumerate(natives)),
    )

    found = read_dataset("expw", str(tmp_path))

    assert (len(found.images), found.remarks) == (91793, ())
    assert len({image.name for image in found.images}) == 91793
    assert found.images[0].box == (2, 1, 9, 8)


# FERPlus.


@pytest.mark.parametrize(
    ("votes", "column"),
    [
        ("10 0 0 0 0 0 0 0 0 0", "neutral"),
        ("5 5 0 0 0 0 0 0 0 0", None),  # half is not more than half
        ("6 4 0 0 0 0 0 0 0 0", "neutral"),
        ("5 4 1 0 0 0 0 0 0 0", "neutral"),  # the single vote is noise: 5 of 9
        ("3 1 1 1 1 1 1 1 0 0", "neutral"),  # all that is left
        ("1 1 1 1 1 1 1 1 1 1", None),  # nothing is left
        ("0 0 0 0 0 0 0 0 0 0", None),
        ("0 0 4 0 0 0 2 0 4 0", None),  # unknown counts in the sum
        ("0 0 6 0 0 0 2 0 2 0", "surprise"),
        ("0 0 0 0 0 0 0 7 3 0", "contempt"),
        ("0 0 2 0 0 0 0 0 8 0", "unknown"),
        ("0 0 0 0 0 0 0 0 0 10", "nf"),
    ],
)
def test_ferplus_majority_by_hand(votes, column):
    """Single votes become 0, and the most must then be more than half of all that are left."""
    chosen = ferplus_majority(np.array([[int(vote) for vote in votes.split()]]))

    assert chosen.tolist() == [-1 if column is None else FERPLUS_COLUMNS.index(column)]


def test_ferplus_drops_by_reason(tmp_path):
    """Rows without a name, a majority or a face, unknown and contempt are each counted under their reason."""
    rows = [
        *["0 0 0 0 9 1 0 0 0 0"] * 2,
        "5 5 0 0 0 0 0 0 0 0",
        "0 0 0 0 0 0 0 9 1 0",
        "0 0 0 0 0 0 0 1 9 0",
        "0 0 0 0 0 0 0 0 0 10",
        "9 1 0 0 0 0 0 0 0 0",
        *(f"9 1 0 0 0 0 {vote} 0 0 0" for vote in ("x", "nan", "inf", "-1", "0.5")),
    ]
    lines = [
        f"PrivateTest,{'' if row == 6 else f'fer{row:07}.png'},{votes.replace(' ', ',')}"
        for row, votes in enumerate(rows)
    ]
    write(tmp_path / "fer2013new.csv", "\r\n".join([VOTES, *lines]))
    write(tmp_path / "fer2013.csv", "emotion,pixels,Usage\n" + "".join(f"0,{row},PrivateTest\n" for row in range(12)))

    found = read_dataset("ferplus", str(tmp_path))

    assert [(image.name, image.label, image.pixels.tolist()) for image in found.images] == [
        ("fer0000000.png", ANGER, [[0]]),
        ("fer0000001.png", ANGER, [[1]]),
    ]
    assert found.dropped == {
        **{"no majority": 1, "contempt": 1, "unknown": 1, "no face": 1, "no image name": 1},
        "votes not understood": 5,
    }


@pytest.mark.parametrize(("contempt", "remarks"), [(16, 0), (15, 1)])
def test_full_ferplus_agrees_with_the_published_counts(tmp_path, contempt, remarks):
    """3,137 test images and 16 of contempt are the published 3,153."""
    votes = ["0,0,0,0,9,1,0,0,0,0"] * 3137 + ["0,0,0,0,0,0,0,9,1,0"] * contempt + ["5,5,0,0,0,0,0,0,0,0"] * 436
    lines = [f"PrivateTest,fer{row:07}.png,{each}" for row, each in enumerate(votes)]
    write(tmp_path / "fer2013new.csv", "\n".join([VOTES, *lines]))
    write(tmp_path / "fer2013.csv", "emotion,pixels,Usage\n" + "0,7,PrivateTest\n" * len(votes))

    found = read_dataset("ferplus", str(tmp_path))

    assert (len(found.images), found.dropped["no majority"]) == (3137, 436)
    assert sum("published" in remark for remark in found.remarks) == remarks
    kept = read_dataset("ferplus", str(tmp_path), contempt=True)
    assert (len(kept.images), sum("published" in remark for remark in kept.remarks)) == (3137 + contempt, remarks)


def test_ferplus_tables_must_belong_together(tmp_path):
    """A fer2013.csv with other rows than the votes is refused, and so are votes without any image."""
    make_ferplus_votes(tmp_path)
    with pytest.raises(ConfigError, match=r"holds votes and no images: .*\(such as fer0000007.png\)"):
        read_dataset("ferplus", str(tmp_path))
    write(tmp_path / "fer2013.csv", "emotion,pixels,Usage\n" + "6,7,PrivateTest\n" * 21)

    with pytest.raises(ConfigError, match=r"are not of one order"):
        read_dataset("ferplus", str(tmp_path))


# What files look like in the wild.


def test_pixels_are_those_of_the_table(tmp_path):
    """The numbers of a row become a square of bytes, row by row; rows of other numbers are dropped and counted."""
    good = " ".join(map(str, range(0, 252, 28)))
    bad = ["", "1 2", "256", "-1", "1 2 3 x", "1  2 3 4"]
    write(
        tmp_path / "fer2013.csv",
        "emotion,pixels,Usage\n" + "".join(f"3,{p},PrivateTest\n" for p in [*bad, good, f" {good} "]),
    )

    found = read_dataset("fer2013", str(tmp_path))

    assert found.dropped == {"pixels not understood": 6}
    assert [image.name for image in found.images] == ["row-00006.png", "row-00007.png"]
    for image in found.images:
        assert image.pixels.dtype == np.uint8
        assert image.pixels.tolist() == [[0, 28, 56], [84, 112, 140], [168, 196, 224]]


@pytest.mark.parametrize("text", ["\ufefftest_1.jpg 4\r\ntest_2.jpg\t5\r\n\r\n", "test_1.JPG 4\ntest_2.jpg   5"])
def test_lists_of_any_editor_are_read(tmp_path, text):
    """A mark at the start, CRLF, tabs, blank lines and endings in another case change nothing."""
    write(tmp_path / "emolabel/LIST_patition_label.txt", text)
    picture(tmp_path / "image/Aligned/test_1_aligned.JPG")
    picture(tmp_path / "image/Aligned/test_2_ALIGNED.jpg")

    found = read_dataset("rafdb", str(tmp_path))

    assert labels_of(found) == {
        "image/Aligned/test_1_aligned.JPG": HAPPINESS,
        "image/Aligned/test_2_ALIGNED.jpg": SADNESS,
    }


def test_labels_that_are_not_the_sets_are_counted(tmp_path):
    """A line with a label that the set has not, and one that is no line, are dropped under a reason and said."""
    make_rafdb_list(tmp_path)
    with (tmp_path / "EmoLabel/list_patition_label.txt").open("a") as file:
        file.write("test_00001.jpg 0\nnonsense\ntest_00002.jpg 3\ntest_00003.jpg 5\n")

    found = read_dataset("rafdb", str(tmp_path))

    assert found.dropped == {
        **{"line not understood": 1, "unknown label '0'": 1},
        **{"listed twice": 1, "listed twice, with different labels": 1},
    }
    assert "label '0' is none of this set's: 1 image dropped" in found.remarks


def test_rafdb_originals_are_chosen_by_protocol(tmp_path):
    """`original` takes the photographs beside the crops, and the record says so."""
    make_rafdb_list(tmp_path)
    expected = make_rafdb_original(tmp_path)

    found = read_dataset("rafdb", str(tmp_path), protocol="original")

    assert labels_of(found) == expected
    assert (found.protocol, found.faces) == ("original", "auto")
    assert read_dataset("rafdb", str(tmp_path)).protocol == "aligned"


def test_damaged_annotations_are_counted(tmp_path):
    """An annotation that is no number in an array is dropped under its reason; a picture that is gone is missing."""
    expected = make_affectnet_arrays(tmp_path)
    gone, cut, text, pickled = [*expected][:4]
    annotations = tmp_path / "val_set/annotations"
    (tmp_path / gone).unlink()
    write(annotations / f"{Path(cut).stem}_exp.npy", "")
    np.save(annotations / f"{Path(text).stem}_exp.npy", "happy")
    np.save(annotations / f"{Path(pickled).stem}_exp.npy", np.array(None), allow_pickle=True)

    found = read_dataset("affectnet7", str(tmp_path))

    assert found.dropped == {"annotation not understood": 3, "contempt": 1, "missing file": 1}
    assert len(found.images) == len(expected) - 4


def test_subjects(tmp_path):
    """Sets that name who is shown say it, sessions of one person being one subject."""
    make_ckplus(tmp_path / "ck")
    make_jaffe(tmp_path / "jaffe")
    make_kdef(tmp_path / "kdef")

    def subjects(name, folder):
        return {image.subject for image in read_dataset(name, str(tmp_path / folder)).images}

    assert subjects("ckplus", "ck") == {f"S{number:03}" for number in range(7)}
    assert subjects("jaffe", "jaffe") == {"KA"}
    assert subjects("kdef", "kdef") == {"F01", "M35"}


def test_names_that_are_not_the_sets_are_counted(tmp_path):
    """Pictures of another naming in a JAFFE or KDEF folder are dropped under a reason."""
    make_jaffe(tmp_path / "jaffe")
    make_kdef(tmp_path / "kdef")
    picture(tmp_path / "jaffe/me.jpg")
    picture(tmp_path / "kdef/AF01/AF01.JPG")

    assert read_dataset("jaffe", str(tmp_path / "jaffe")).dropped == {"name not understood": 1}
    assert read_dataset("kdef", str(tmp_path / "kdef")).dropped == {"name not understood": 1}


# Folders and tables of one's own.


def test_folder_with_another_name_needs_a_word(tmp_path):
    """A folder of pictures that names no emotion is an error that says how to map or drop it; contempt is dropped."""
    make_folder(tmp_path)
    picture(tmp_path / "contempt/a.png")
    picture(tmp_path / "others/a.png")
    picture(tmp_path / "loose.png")
    write(tmp_path / "happy/notes.txt", "no picture")

    with pytest.raises(
        ConfigError,
        match=r"classes that name no emotion: 'others' \(1\)\. .* --label-map others=drop",
    ):
        read_dataset("folder", str(tmp_path))
    found = read_dataset("folder", str(tmp_path), label_map={"Others": "drop"})

    assert found.dropped == {
        **{"contempt": 1, "label Others, dropped by the label map": 1, "not a picture by its ending": 1},
        "picture outside the folders named by emotion": 1,
    }


@pytest.mark.parametrize("ending", ["csv", "tsv", "semicolon.csv", "parquet"])
def test_tables(tmp_path, ending):
    """Paths below the table's folder or absolute, columns known by name in any case, labels by their spelling."""
    inside, outside = picture(tmp_path / "set/faces/a.png"), picture(tmp_path / "b.png")
    rows = {
        "Image": ["faces/a.png", str(outside), "./faces/../faces/c.png", "faces\\d.png"],
        "id": ["1", "2", "3", "4"],
        "Emotion": ["Happy", "SADNESS", "angry", "neutral"],
    }
    for name in "cd":
        picture(tmp_path / f"set/faces/{name}.png")
    path = tmp_path / "set" / f"table.{ending}"
    if ending == "parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        separator = {"csv": ",", "tsv": "\t"}.get(ending, ";")
        pl.DataFrame(rows).write_csv(path, separator=separator, line_terminator="\r\n", include_bom=True)

    found = read_dataset("parquet" if ending == "parquet" else "csv", str(path))

    assert labels_of(found) == {
        **{"faces/a.png": HAPPINESS, str(outside): SADNESS, "faces/c.png": ANGER, "faces/d.png": NEUTRAL}
    }
    assert found.images[0].path == str(inside)


def test_table_of_numbers_needs_a_map(tmp_path):
    """Numbers say nothing without a map; with one, 3.0 is 3 and `drop` is counted."""
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    pl.DataFrame({"path": ["a.png", "b.png", "c.png"], "label": [0.0, 3.0, 7.0]}).write_parquet(tmp_path / "t.parquet")

    with pytest.raises(ConfigError, match=r"the labels 0, 3, 7 under .* can be read in more than one way"):
        read_dataset("parquet", str(tmp_path / "t.parquet"))
    found = read_dataset("parquet", str(tmp_path / "t.parquet"), label_map={"0": "angry", "3": "joy", "7": "drop"})

    assert labels_of(found) == {"a.png": ANGER, "b.png": HAPPINESS}
    assert found.dropped == {"label 7, dropped by the label map": 1}


def test_table_with_boxes_and_subjects(tmp_path):
    """x1 y1 x2 y2 are the labelled face, faces of one image are numbered, and bad or empty rows are counted."""
    picture(tmp_path / "two.png")
    picture(tmp_path / "none.png")
    write(
        tmp_path / "t.csv",
        "path,label,subject,x1,y1,x2,y2\ntwo.png,happy,ann,1,2,3,4\ntwo.png,sad,bob,5,2,7,4\n"
        "two.png,sad,bob,5,2,5,4\nnone.png,fear,,,,,\n,fear,,,,,\n",
    )

    found = read_dataset("csv", str(tmp_path / "t.csv"))

    assert [(image.name, image.label, image.subject, image.box) for image in found.images] == [
        ("two.png#0", HAPPINESS, "ann", (1, 2, 3, 4)),
        ("two.png#1", SADNESS, "bob", (5, 2, 7, 4)),
        ("none.png", FEAR, None, None),
    ]
    assert found.faces == "given"
    assert found.dropped == {"box not understood": 1, "no path or no label": 1}
    assert "1 image without a box: the face is looked for" in found.remarks


def test_table_of_a_spreadsheet_with_boxes_of_another_tool(tmp_path):
    """Read as a manifest is: separator, encoding, blank rows, decimal commas, notation of the boxes."""
    picture(tmp_path / "a.png")
    text = (
        "File Name;Emotion;FaceRectX;FaceRectY;FaceRectWidth;FaceRectHeight\r\n\r\na.png;happy;1,5;2;3;4\r\n;;;;;\r\n"
    )
    (tmp_path / "t.csv").write_bytes(text.encode("utf-16"))
    found = read_dataset("csv", str(tmp_path / "t.csv"))

    assert [(image.name, image.label, image.box) for image in found.images] == [("a.png", HAPPINESS, (1.5, 2, 4.5, 6))]
    assert any("FaceRectHeight: x, y, width, height in pixels" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("a.png,happy\n", {}, r"no path column by name .* it has 'a.png', 'happy': name it with --path-column"),
        ("path,mood\n", {}, r"no label column by name .*--label-column"),
        ("path,label\n", {"path_column": "file"}, r"no column 'file'; it has 'path', 'label'"),
        ("path,label\nx.png,happy\n", {}, r"no labelled image is left .*missing file 1"),
        ("path,label\nx.png,happy,3\n", {}, r"line 2 .* has 3 cells, and the first row 2"),
        ("path,label,bbox\nx.png,happy,0 0 1 1\n", {}, r"boxes as fractions of the picture"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, text, options, expected):
    """A table without the columns, without images, or with ragged rows says so."""
    with pytest.raises(ConfigError, match=expected):
        read_dataset("csv", str(write(tmp_path / "t.csv", text)), **options)


def test_table_format_must_agree_with_its_name(tmp_path):
    """`csv` given a Parquet file, and the other way round, is refused."""
    for dataset, name in (("csv", "t.parquet"), ("parquet", "t.csv")):
        with pytest.raises(ConfigError, match="--dataset must agree"):
            read_dataset(dataset, str(write(tmp_path / name, "path,label\n")))


def test_label_maps_of_the_command_line(tmp_path):
    """Pairs or a JSON file give the same map; anything else is refused."""
    path = write(tmp_path / "map.json", json.dumps({"0": "neutral", "7": "drop"}))

    assert read_label_map("0=neutral, 7=drop") == read_label_map(str(path)) == {"0": "neutral", "7": "drop"}
    for wrong in ("0", "0=", "=neutral", "0=neutral,0=happy", str(write(tmp_path / "list.json", "[1]")), "no.json"):
        with pytest.raises(ConfigError, match="label map"):
            read_label_map(wrong)


# The cards.


def test_cards_are_whole():
    """Every published total is the sum of its classes, every label leads to an emotion or a reason, names agree."""
    for name, card in CARDS.items():
        assert name == card.name
        assert card.default_split in card.splits
        assert card.default_protocol is None or card.default_protocol in card.protocols
        assert {each.split for each in card.counts} <= set(card.splits)
        for each in card.counts:
            assert each.by_emotion is None or sum(each.by_emotion) == each.total
        if card.labels:
            none_of = [emotion for place, emotion in enumerate(EMOTIONS) if _is_never_there(card, place)]
            assert set(EMOTIONS) - set(none_of) <= set(card.labels.values()) or name in ("rafdb_compound", "mmi")
            assert all(native == native.casefold() for native in card.labels)
    assert set(LAYOUTS) | {"csv", "parquet"} == set(CARDS)
    assert all(len(layouts) == len(CARDS[name].layouts) for name, layouts in LAYOUTS.items())


def _is_never_there(card, place):
    """Whether every published count of an emotion is 0, as of surprise in CREMA-D."""
    return bool(card.counts) and all(
        each.by_emotion is not None and each.by_emotion[place] == 0 for each in card.counts
    )


def test_order_is_fixed(tmp_path):
    """Two readings of one disk give the same images in the same order."""
    make_kdef(tmp_path)

    first, second = (read_dataset("kdef", str(tmp_path)) for _ in range(2))

    assert [image.name for image in first.images] == [image.name for image in second.images]
    assert max(Counter(image.name for image in first.images).values()) == 1


def test_links_are_followed_once(tmp_path):
    """A linked folder of pictures is read; one that leads back up is not entered again."""
    picture(tmp_path / "elsewhere/a.png")
    picture(tmp_path / "set/happy/b.png")
    (tmp_path / "set/sad").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "set/happy/up").symlink_to(tmp_path / "set/happy", target_is_directory=True)

    found = read_dataset("folder", str(tmp_path / "set"))

    assert labels_of(found) == {"happy/b.png": HAPPINESS, "sad/a.png": SADNESS}
