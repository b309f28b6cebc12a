"""Labelled faces to learn from: read as `evaluate` reads them, found and cropped as `annotate` does, nothing lost."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from motivnet_cli.config import FaceConfig, LoaderConfig, VideoConfig
from motivnet_cli.engine.prepare import Preparer
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.datasets.cards import FERPLUS_COLUMNS
from motivnet_cli.faces.crop import Cropping
from motivnet_cli.records import EMOTIONS, Face, Item, Stopped
from motivnet_cli.training.config import DataConfig
from motivnet_cli.training.data import LEFT_OUT_FILE, read_training_data
from motivnet_cli.training.faces import FACES_FILE, alone_in
from motivnet_cli.training.split import draw_groups, draw_images
from motivnet_cli.weights.load import load_model
from tests.pictures import SAMPLE_DATA, face_photo
from tests.test_datasets import VOTES


@pytest.fixture(scope="module")
def network():
    return load_model("expression-net")


def plain(path, shade=128):
    """A picture that is a crop by its size, each shade of another content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (12, 12), shade).save(path)
    return path


def make_folders(root, counts):
    """Plain pictures in folders by class, all of different content."""
    shade = 0
    for label, count in counts.items():
        for number in range(count):
            shade += 1
            plain(root / label / f"{number}.png", shade)
    return root


def read(root, network, out, dataset="folder", **settings):
    return read_training_data(DataConfig(dataset=dataset, root=str(root), **settings), network, out=out)


WHOLE = FaceConfig(mode="whole")

# ---- faces ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photographs with a face, a picture without one, and a file that is no picture."""
    root = tmp_path_factory.mktemp("photos")
    for label, number in (("happy", 0), ("happy", 1), ("sad", 0), ("sad", 1)):
        path = root / label / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        face_photo(path, faces=((320 + 20 * number, 240, 120 + 10 * number), (90, 90, 60)))
    Image.new("RGB", (900, 400), (30, 60, 90)).save(root / "sad" / "empty.png")
    (root / "happy" / "broken.jpg").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def found(photos, network, tmp_path_factory):
    out = tmp_path_factory.mktemp("training")
    return read(photos, network, out, val_split=None, val_share=0.5, seed=1), out


def test_a_face_is_the_largest_as_annotate_crops_it(photos, network, found):
    data, _ = found
    faces = FaceConfig(mode="auto", max_faces=1)
    preparer = Preparer(network, faces, VideoConfig(), LoaderConfig())
    assert sorted((*data.train.names, *data.val.names)) == ["happy/0.jpg", "happy/1.jpg", "sad/0.jpg", "sad/1.jpg"]
    for side in (data.train, data.val):
        for index, name in enumerate(side.names):
            (crop,) = preparer.image(Item(0, name, str(photos / name), "image")).crops
            np.testing.assert_array_equal(side[index].numpy(), crop.pixels)
            assert data.classes[side.targets[index].argmax()] == {"happy": "happiness", "sad": "sadness"}[name[:-6]]


def test_what_has_no_face_is_counted_listed_and_said(found):
    data, out = found
    assert data.dropped["no face found"] == 1
    assert data.dropped["not_an_image"] == 1
    rows = [*csv.DictReader((out / LEFT_OUT_FILE).read_text().splitlines())]
    assert {row["image"]: row["reason"] for row in rows} == {
        "sad/empty.png": "no face found",
        "happy/broken.jpg": "not_an_image",
    }
    assert any("2 images without a face" in remark for remark in data.remarks)


def test_a_second_training_looks_at_no_picture_again(photos, network, found, monkeypatch):
    data, out = found
    looked = []
    find = Preparer.find
    monkeypatch.setattr(Preparer, "find", lambda self, frame, given: looked.append(1) or find(self, frame, given))
    again = read(photos, network, out, val_share=0.5, seed=1)
    assert not looked
    assert (again.list_sha256, again.train.pictures) == (data.list_sha256, data.train.pictures)
    (photos / "sad" / "1.jpg").touch()  # another time of change
    read(photos, network, out, val_share=0.5, seed=1)
    assert len(looked) == 1


def test_a_line_that_a_kill_cut_off_is_looked_at_again(photos, network, found, tmp_path):
    data, out = found
    lines = (out / FACES_FILE).read_text().splitlines(keepends=True)
    (tmp_path / FACES_FILE).write_text("".join(lines)[:-40])
    again = read(photos, network, tmp_path, val_share=0.5, seed=1)
    assert again.val.pictures == data.val.pictures
    assert again.train.pictures == data.train.pictures
    assert json.loads((tmp_path / FACES_FILE).read_text().splitlines()[-1])["key"]


def test_faces_are_looked_for_anew_by_other_settings(photos, network, found, tmp_path):
    data, out = found
    (tmp_path / FACES_FILE).write_text((out / FACES_FILE).read_text())
    whole = read(photos, network, tmp_path, faces=WHOLE, val_share=0.5, seed=1)
    assert {picture.face.source for picture in whole.train.pictures} == {"whole"}
    assert len(whole.train) + len(whole.val) == len(data.train) + len(data.val) + 1  # the one without a face


def test_a_stop_keeps_what_was_found(photos, network, tmp_path):
    asked = []
    config = DataConfig(dataset="folder", root=str(photos), val_share=0.5, seed=1, loader=LoaderConfig(threads=1))
    with pytest.raises(Stopped):
        read_training_data(config, network, out=tmp_path, stop=lambda: len(asked) >= 2 or asked.append(1))
    assert len([line for line in (tmp_path / FACES_FILE).read_text().splitlines() if '"key"' in line]) == 2
    seen = []
    read_training_data(config, network, out=tmp_path, progress=seen.append)
    assert (seen[-1].inputs_done, seen[-1].inputs_total, seen[-1].inputs_resumed) == (6, 6, 2)


def test_a_copy_in_another_process_gives_the_same_pixels(found):
    data, _ = found
    copy = pickle.loads(pickle.dumps(data.train))
    for index in range(len(copy)):
        np.testing.assert_array_equal(copy[index], data.train[index])


def test_a_picture_that_is_gone_ends_the_training(network, tmp_path):
    root = make_folders(tmp_path / "set", {"happy": 6, "sad": 6})
    data = read(root, network, tmp_path / "out")
    (root / data.train.names[0]).unlink()
    with pytest.raises(ConfigError, match="was readable before the training"):
        data.train[0]


def test_boxes_and_pixels_of_tables(network, tmp_path):
    """A table's boxes are used, and its grey pixels become files."""
    (box,) = face_photo(tmp_path / "a.jpg")
    lines = ["path,label,x1,y1,x2,y2"]
    lines += [f"a.jpg,{label},{box[0] + n},{box[1]},{box[2]},{box[3]}" for n in range(6) for label in ("happy", "sad")]
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    data = read(tmp_path / "boxes.csv", network, tmp_path / "out", dataset="csv")
    picture = data.train.pictures[0]
    assert picture.face.source == "given"
    assert picture.face.box in {(box[0] + n, *box[1:]) for n in range(6)}
    pixels = ["label,pixels", *(f"{label},{' '.join([str(n)] * 9)}" for n in range(9) for label in ("happy", "sad"))]
    (tmp_path / "pixels.csv").write_text("\n".join(pixels))
    data = read(tmp_path / "pixels.csv", network, tmp_path / "out", dataset="csv", faces=WHOLE)
    index = data.train.names.index("row-00004.png")
    assert set(data.train[index].unique().tolist()) == {2}


def test_cropping_is_the_networks_own(network):
    cropping = Cropping.of(network, FaceConfig(margin=0.7))
    assert (cropping.height, cropping.width, cropping.recipe) == (network.height, network.width, network.recipe)
    assert (cropping.margin, cropping.align) == (0.7, network.card.align)
    rgb = np.asarray(Image.open(SAMPLE_DATA / "astronaut.png").convert("RGB"))
    whole = cropping.crop(rgb, Face((0.0, 0.0, 512.0, 512.0), "whole"))
    assert whole.shape == (3, network.height, network.width)


# ---- the two sides ----------------------------------------------------------------------------------------


def test_images_are_drawn_as_the_reference_draws_them():
    """`int(0.8 n)` to train and the rest to validate; a seed draws the same again, another seed others."""
    for count in (5, 7, 10, 99, 1001):
        drawn = draw_images(count, val_share=0.2, seed=3)
        assert len(drawn.train) == int(0.8 * count)
        assert sorted((*drawn.train, *drawn.val)) == [*range(count)]
    first, again, other = (draw_images(1001, val_share=0.2, seed=seed).val.tolist() for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("seed", range(20))
def test_groups_stay_whole(seed):
    groups = [f"person {number % 7}" for number in range(100)]
    drawn = draw_groups(groups, val_share=0.2, seed=seed)
    train, val = ({groups[index] for index in side} for side in drawn)
    assert not train & val
    assert len(train) + len(val) == 7
    assert 20 <= len(drawn.val) < 20 + 15


def test_one_large_group_leaves_another_to_learn_from():
    drawn = draw_groups(["a"] * 3 + ["b"] * 97, val_share=0.2, seed=0)
    assert len(drawn.train)
    assert len(drawn.val)


def write_people(path, *, count=40, people=5):
    """A table of pictures with two classes, each person in several."""
    lines = ["path,label,subject"]
    for number in range(count):
        plain(path.parent / f"{number}.png", number)
        lines.append(f"{number}.png,{('happy', 'sad')[number % 2]},s{number % people}")
    path.write_text("\n".join(lines))
    return path


def test_people_on_both_sides_are_said_or_kept_apart(network, tmp_path):
    table = write_people(tmp_path / "table.csv")
    data = read(table, network, tmp_path / "out", dataset="csv")
    assert any("5 of 5 values of subject are in both" in remark for remark in data.remarks)
    data = read(table, network, tmp_path / "out", dataset="csv", group_by="subject")
    assert not set(data.train.subjects) & set(data.val.subjects)
    assert not any("in both" in remark for remark in data.remarks)


def test_people_that_were_to_be_apart_and_are_not(network, tmp_path):
    table = write_people(tmp_path / "a" / "train.csv")
    other = write_people(tmp_path / "b" / "val.csv")
    with pytest.raises(ConfigError, match="5 of 5 values of subject are in both training and validation"):
        read(table, network, tmp_path / "out", dataset="csv", val_root=str(other), group_by="subject")


def test_a_group_that_is_not_known(network, tmp_path):
    root = make_folders(tmp_path / "set", {"happy": 6, "sad": 6})
    with pytest.raises(ConfigError, match="the subject of 12 images is not known"):
        read(root, network, tmp_path / "out", group_by="subject")


def test_the_training_split_is_taken_and_another_validates(network, tmp_path):
    make_folders(tmp_path / "set" / "train", {"happy": 3, "sad": 4})
    make_folders(tmp_path / "set" / "test", {"happy": 2, "sad": 1})
    drawn = read(tmp_path / "set", network, tmp_path / "out", val_share=0.5)
    assert (drawn.split, len(drawn.train) + len(drawn.val)) == ("train", 7)
    given = read(tmp_path / "set", network, tmp_path / "out", val_split="test")
    assert given.counts["happiness"] == (3, 2)
    assert given.counts["sadness"] == (4, 1)
    # The pictures of both splits were made alike, so those of validation are learned from as well.
    assert any("3 images of the validation are learned from as well" in remark for remark in given.remarks)


# ---- what cannot be learned from --------------------------------------------------------------------------


def test_one_class_alone(network, tmp_path):
    root = make_folders(tmp_path / "set", {"happy": 6})
    with pytest.raises(ConfigError, match="two classes at least"):
        read(root, network, tmp_path / "out")


def test_a_class_that_is_only_validated_on(network, tmp_path):
    make_folders(tmp_path / "set" / "train", {"happy": 3, "sad": 4})
    make_folders(tmp_path / "set" / "test", {"happy": 2, "angry": 1})
    with pytest.raises(ConfigError, match="no image of anger is to learn from"):
        read(tmp_path / "set", network, tmp_path / "out", val_split="test")


def test_a_class_with_one_image_and_one_that_is_not_judged(network, tmp_path):
    make_folders(tmp_path / "set" / "train", {"happy": 3, "sad": 4, "angry": 1})
    make_folders(tmp_path / "set" / "test", {"happy": 2, "sad": 2})
    data = read(tmp_path / "set", network, tmp_path / "out", val_split="test")
    assert any("one image alone to learn from of anger" in remark for remark in data.remarks)
    assert any("no image of anger is validated on" in remark for remark in data.remarks)


def test_nothing_left_to_validate_on(network, tmp_path):
    make_folders(tmp_path / "set" / "train", {"happy": 3, "sad": 3})
    make_folders(tmp_path / "set" / "test", {"happy": 1})
    (tmp_path / "set" / "test" / "happy" / "0.png").write_bytes(b"")
    with pytest.raises(ConfigError, match="no face is left to validate on"):
        read(tmp_path / "set", network, tmp_path / "out", val_split="test")


def test_the_list_is_known_by_its_hash(network, tmp_path):
    """It changes with a label and with the side of an image, and not with the order of the disk or the folder."""
    root = make_folders(tmp_path / "set", {"happy": 6, "sad": 6})
    first = read(root, network, tmp_path / "out").list_sha256
    assert read(root, network, tmp_path / "other").list_sha256 == first
    assert read(root, network, tmp_path / "out", seed=1).list_sha256 != first
    (root / "happy" / "5.png").rename(root / "sad" / "6.png")
    assert read(root, network, tmp_path / "out").list_sha256 != first


# ---- classes, and shares of them --------------------------------------------------------------------------


def test_classes_are_those_that_images_have(network, tmp_path):
    """Of one's own; those of another folder to validate on must be among them."""
    make_folders(tmp_path / "a", {"bored": 5, "Yawn": 5})
    make_folders(tmp_path / "b", {"yawn": 2, "bored": 2})
    data = read(tmp_path / "a", network, tmp_path / "out", val_root=str(tmp_path / "b"))
    assert data.counts == {"Yawn": (5, 2), "bored": (5, 2)}
    make_folders(tmp_path / "b", {"asleep": 1})
    with pytest.raises(ConfigError, match=r"name no class: 'asleep' \(1\)"):
        read(tmp_path / "a", network, tmp_path / "out", val_root=str(tmp_path / "b"))


def test_a_list_of_the_reference(network, tmp_path):
    """`{"0": [...]}` by MotivNet's ids, its images anywhere, some of them not there."""
    for number in range(12):
        plain(tmp_path / "set" / "faces" / f"{number}.png", number)
    names = {str(label): [f"{number}.png" for number in range(label, 12, 3)] for label in range(3)}
    (tmp_path / "set" / "train_labels.json").write_text(json.dumps({**names, "1": [*names["1"], "gone.png"]}))
    data = read(tmp_path / "set", network, tmp_path / "out", dataset="affectnet7")
    assert {name: sum(counts) for name, counts in data.counts.items()} == dict.fromkeys(EMOTIONS[:3], 4)
    assert data.dropped == {"missing file": 1}
    assert len(data.train) == int(0.8 * 12)


def test_votes_become_targets(network, tmp_path):
    """FERPlus: single votes and those for what is no class are left out of the shares."""
    lines = [VOTES]
    for number in range(6):
        plain(tmp_path / "set" / f"fer{number:07}.png", number)
        votes = (
            {"neutral": 6, "sadness": 3, "unknown": 1} if number % 2 else {"happiness": 8, "anger": 1, "contempt": 1}
        )
        cells = ",".join(str(votes.get(column, 0)) for column in FERPLUS_COLUMNS)
        lines.append(f"Training,fer{number:07}.png,{cells}")
    (tmp_path / "set" / "fer2013new.csv").write_text("\n".join(lines))
    data = read(tmp_path / "set", network, tmp_path / "out", dataset="ferplus", soft_labels=True)
    assert data.classes == ("neutral", "happiness", "sadness")
    for name, target in zip(data.train.names, data.train.targets, strict=True):
        expected = [2 / 3, 0, 1 / 3] if int(name[3:10]) % 2 else [0, 1, 0]
        np.testing.assert_allclose(target, expected, atol=1e-6)
    hard = read(tmp_path / "set", network, tmp_path / "out", dataset="ferplus")
    assert hard.classes == ("neutral", "happiness")
    assert hard.list_sha256 != data.list_sha256


def write_shares(path, rows):
    for number in range(len(rows)):
        plain(path.parent / f"{number}.png", number)
    path.write_text("\n".join(["path,Cat,dog,none", *(f"{number}.png,{row}" for number, row in enumerate(rows))]))
    return path


def test_columns_of_shares_become_targets(network, tmp_path):
    """Votes or shares of classes of one's own, which need no label; a class that nobody names first is one as well."""
    table = write_shares(tmp_path / "set.csv", ["3,1,0", "0.25,0.5,0.25", ",,", "1,0,0", "0,2,0", "0,1,0"])
    options = {"dataset": "csv", "soft_columns": ("Cat", "dog", "none"), "val_share": 0.4, "seed": 1}
    data = read(table, network, tmp_path / "out", **options)
    assert data.classes == ("Cat", "dog", "none")
    targets = {
        name: target.tolist()
        for side in (data.train, data.val)
        for name, target in zip(side.names, side.targets, strict=True)
    }
    assert targets == {
        "0.png": [0.75, 0.25, 0],
        "1.png": [0.25, 0.5, 0.25],
        "3.png": [1, 0, 0],
        "4.png": [0, 1, 0],
        "5.png": [0, 1, 0],
    }
    assert data.dropped == {"no path or no label": 1}
    data = read(table, network, tmp_path / "out", label_map={"none": "drop"}, **options)
    side = next(side for side in (data.train, data.val) if "1.png" in side.names)
    np.testing.assert_allclose(side.targets[side.names.index("1.png")], [1 / 3, 2 / 3], atol=1e-6)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("-0.1,1,0", r"row 2 of .* has '-0.1' in the column 'Cat'"),
        ("0,0,0", r"row 2 of .* has 0 in every column of Cat, dog, none"),
        ("nan,1,0", r"row 2 of .* has 'nan' in the column 'Cat'"),
        ("1,,0", r"row 2 of .* has None in the column 'dog'"),
        ("1,much,0", r"row 2 of .* has 'much' in the column 'dog'"),
    ],
)
def test_shares_that_are_none(network, tmp_path, row, message):
    table = write_shares(tmp_path / "set.csv", ["3,1,0", row])
    with pytest.raises(ConfigError, match=message):
        read(table, network, tmp_path / "out", dataset="csv", soft_columns=("Cat", "dog", "none"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"soft_columns": ("Cat", "bird")}, "has no column 'bird'"),
        ({"soft_columns": ("Cat", "dog"), "label_column": "dog"}, "stand in place of the label column"),
        ({"soft_labels": True, "label_column": "word"}, "2 images have one label and no votes"),
    ],
)
def test_soft_labels_that_are_not_there(network, tmp_path, settings, message):
    table = write_shares(tmp_path / "set.csv", ["3,1,0", "0,1,0"])
    table.write_text(table.read_text().replace("none", "word"))
    with pytest.raises(ConfigError, match=message):
        read(table, network, tmp_path / "out", dataset="csv", **{**settings, "label_map": {"0": "x"}})


def test_clips_are_no_pictures(network, tmp_path):
    for label in ("happy", "sad"):
        (tmp_path / "set" / label).mkdir(parents=True)
        shutil.copy(SAMPLE_DATA / "face.mp4", tmp_path / "set" / label / "a.mp4")
    with pytest.raises(ConfigError, match="is a set of clips here, and training takes pictures"):
        read(tmp_path / "set", network, tmp_path / "out")


def test_several_processes_look_one_after_the_other(photos, network, tmp_path):
    """Of a training on several devices, one looks for the faces, and the others take what it found."""
    config = DataConfig(dataset="folder", root=str(photos), val_share=0.5, seed=1)
    looked = []

    def read_and_count(_):
        seen = []
        data = read_training_data(config, network, out=tmp_path, progress=seen.append)
        looked.append(seen[-1].inputs_done - seen[-1].inputs_resumed)
        return data.list_sha256

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(read_and_count, range(3)))) == 1
    assert sorted(looked) == [0, 0, 6]
    with alone_in(tmp_path, lambda: False), pytest.raises(Stopped):
        read_training_data(config, network, out=tmp_path, stop=lambda: True)
