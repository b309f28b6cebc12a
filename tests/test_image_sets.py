"""Sets of images with rules of their own: which frames of a sequence count, and which labels are no emotion."""

from __future__ import annotations

import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.disk import Disk
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.evaluation.datasets.sequences import frames_in
from tests.test_datasets import (
    ANGER,
    DISGUST,
    FEAR,
    HAPPINESS,
    NEUTRAL,
    SADNESS,
    SURPRISE,
    labels_of,
    make_caers,
    make_mmafedb,
    make_rafdb_list,
    picture,
    write,
)

# ---- Oulu-CASIA -------------------------------------------------------------------------------------------

OULU = {
    **{"Anger": ANGER, "Disgust": DISGUST, "Fear": FEAR, "Happiness": HAPPINESS, "Sadness": SADNESS},
    **{"Surprise": SURPRISE},
}


def make_oulu(root, *, conditions=("VL/Strong",), subjects=("P001", "P080"), frames=5):
    """Frames 000.jpeg to 004.jpeg of every emotion."""
    for condition in conditions:
        for subject in subjects:
            for emotion in OULU:
                for frame in range(frames):
                    picture(root / condition / subject / emotion / f"{frame:03}.jpeg")


def oulu_labels(condition, *, frames=(2, 3, 4), neutral=False, subjects=("P001", "P080")):
    expected = {}
    for subject in subjects:
        for emotion, label in OULU.items():
            folder = f"{condition}/{subject}/{emotion}"
            expected |= {f"{folder}/{frame:03}.jpeg": label for frame in frames}
            expected |= {f"{folder}/000.jpeg": NEUTRAL} if neutral else {}
    return expected


@pytest.mark.parametrize("around", ["", "OriginalImg", "B_OriginalImg/OriginalImg", "Oulu_CASIA_NIR_VIS"])
def test_oulu_takes_the_last_three_frames_in_strong_light(tmp_path, around):
    """Of all cameras and lightings, visible light and strong lighting by default; persons are the subjects."""
    make_oulu(tmp_path / around, conditions=("VL/Strong", "VL/Weak", "VL/Dark", "NI/Strong"))

    found = read_dataset("oulucasia", str(tmp_path))

    expected = oulu_labels(f"{around}/VL/Strong".lstrip("/"))
    assert labels_of(found) == expected
    assert (found.protocol, found.faces) == ("vl_strong", "auto")
    assert {image.subject for image in found.images} == {"P001", "P080"}


@pytest.mark.parametrize(
    ("protocol", "condition", "frames", "neutral"),
    [
        ("vl_strong_last", "VL/Strong", (4,), False),
        ("vl_strong_neutral", "VL/Strong", (2, 3, 4), True),
        ("vl_weak", "VL/Weak", (2, 3, 4), False),
        ("vl_dark", "VL/Dark", (2, 3, 4), False),
        ("ni_strong", "NI/Strong", (2, 3, 4), False),
        ("ni_weak", "NI/Weak", (2, 3, 4), False),
        ("ni_dark", "NI/Dark", (2, 3, 4), False),
    ],
)
def test_oulu_protocols_say_camera_lighting_and_frames(tmp_path, protocol, condition, frames, neutral):
    """Each protocol takes what it says, and nothing of the other conditions."""
    make_oulu(tmp_path, conditions=[f"{c}/{light}" for c in ("VL", "NI") for light in ("Strong", "Weak", "Dark")])

    found = read_dataset("oulucasia", str(tmp_path), protocol=protocol)

    assert labels_of(found) == oulu_labels(condition, frames=frames, neutral=neutral)


def test_oulu_cropped_faces_are_whole(tmp_path):
    """The cropped faces are a layout of their own; beside the photographs, these are taken."""
    make_oulu(tmp_path / "PreProcess_Img", conditions=("VL_Acropped/Strong",))
    cropped = read_dataset("oulucasia", str(tmp_path))
    make_oulu(tmp_path / "OriginalImg")
    original = read_dataset("oulucasia", str(tmp_path))

    assert labels_of(cropped) == oulu_labels("PreProcess_Img/VL_Acropped/Strong")
    assert cropped.faces == "whole"
    assert labels_of(original) == oulu_labels("OriginalImg/VL/Strong")
    assert original.faces == "auto"


def test_oulu_says_what_is_missing(tmp_path):
    """A condition that is not there, a folder of no emotion, and a sequence without pictures."""
    make_oulu(tmp_path, conditions=("VL/Weak",))
    with pytest.raises(ConfigError, match=r"no sequences of protocol vl_strong .* it has those of vl_weak"):
        read_dataset("oulucasia", str(tmp_path))

    (tmp_path / "VL/Weak/P002/Fear").mkdir(parents=True)
    assert read_dataset("oulucasia", str(tmp_path), protocol="vl_weak").dropped == {"sequence without pictures": 1}
    picture(tmp_path / "VL/Weak/P002/Bored/000.jpeg")
    with pytest.raises(ConfigError, match="'Bored'"):
        read_dataset("oulucasia", str(tmp_path), protocol="vl_weak")


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    """Frame 10 comes after 9, with zeros before the numbers or without: the last frames are the last in time."""
    for name in ("1.png", "2.png", "9.png", "10.png", "11.png", "notes.txt"):
        picture(tmp_path / name) if name.endswith("png") else write(tmp_path / name, "x")

    names = [path.rpartition("/")[2] for path in frames_in(Disk(), str(tmp_path))]

    assert names == ["1.png", "2.png", "9.png", "10.png", "11.png"]


# ---- sets of class folders --------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val", "valid", "validation", "test"])
def test_mmafedb_has_three_splits(tmp_path, split):
    """`valid` is the set's own name of the split that is called val here."""
    make_mmafedb(tmp_path)
    folder = split if split in ("train", "test") else "valid"

    found = read_dataset("mmafedb", str(tmp_path), split=split)

    assert {image.name.split("/")[1] for image in found.images} == {folder}
    assert found.split == ("val" if folder == "valid" else folder)


def test_caers_has_no_counts_to_compare_with(tmp_path):
    """What was not confirmed is no published count: nothing is said of how many images there are."""
    make_caers(tmp_path)

    assert read_dataset("caers", str(tmp_path)).departures == ()


# ---- RAF-DB's compound emotions ---------------------------------------------------------------------------


def make_compound(root):
    """Two test images of each of the eleven compound emotions."""
    lines = []
    for number in range(22):
        name = f"test_{number:04}"
        lines.append(f"{name}.jpg {number % 11 + 1}")
        picture(root / f"Image/aligned/{name}_aligned.jpg")
    write(root / "EmoLabel/list_patition_label.txt", "\n".join(lines) + "\n")


def test_basic_and_compound_lie_side_by_side(tmp_path):
    """The authors' folder holds both subsets: rafdb reads the basic one, and says nothing of two copies."""
    expected = make_rafdb_list(tmp_path, inside="basic/")
    make_compound(tmp_path / "compound")

    assert labels_of(read_dataset("rafdb", str(tmp_path))) == expected


@pytest.mark.parametrize("place", ["EmoLabel/", ""])
@pytest.mark.parametrize("name", ["compound", "RAF"])
def test_compound_is_never_read_as_basic(tmp_path, name, place):
    """Its numbers 1 to 7 mean other emotions: the list is told by its folder's name or by its numbers above 7."""
    make_compound(tmp_path / name)
    index = tmp_path / name / "EmoLabel/list_patition_label.txt"
    lines = index.read_text().splitlines(keepends=True)
    index.unlink()
    few = [line for line in lines if int(line.split()[1]) < 8]
    write(tmp_path / name / f"{place}list_patition_label.txt", "".join(few if name == "compound" else lines))

    for root in (tmp_path, tmp_path / name):
        with pytest.raises(ConfigError, match="recognised as rafdb_compound, which is another set"):
            read_dataset("rafdb", str(root))


def test_compound_is_scored_by_a_given_map_only(tmp_path):
    """A label names two emotions: without a word on which of them counts, nothing is left, and the error says so."""
    make_compound(tmp_path / "compound")
    with pytest.raises(ConfigError, match=r"happily surprised 2.*--label-map says what a label counts as, such as 1="):
        read_dataset("rafdb_compound", str(tmp_path))

    found = read_dataset("rafdb_compound", str(tmp_path), label_map={"1": "happy", "4": "anger", "11": "drop"})

    assert labels_of(found) == {
        f"compound/Image/aligned/test_{number:04}_aligned.jpg": label
        for number, label in {0: HAPPINESS, 3: ANGER, 11: HAPPINESS, 14: ANGER}.items()
    }
    assert sum(found.dropped.values()) == 18
    assert any("given label map" in remark for remark in found.remarks)


def test_messages_are_one_line(tmp_path):
    """What was looked for is a sentence: an error is printed on one line, in which an end of a line is an escape."""
    make_compound(tmp_path)
    for number in range(7):
        picture(tmp_path / f"zero/test/{number}/a.png")

    for root in (tmp_path, tmp_path / "zero"):
        with pytest.raises(ConfigError) as caught:
            read_dataset("rafdb", str(root))
        assert "\n" not in str(caught.value)


def test_basic_is_never_read_as_compound(tmp_path):
    """The other way round, too."""
    make_rafdb_list(tmp_path)
    with pytest.raises(ConfigError, match="recognised as rafdb, which is another set"):
        read_dataset("rafdb_compound", str(tmp_path))
