"""Tables with pictures, lists, and other sources that labelled sets share; and what single sets have of their own."""

from __future__ import annotations

import json

import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from motivnet_cli.config import InputConfig, ModelConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.config import EvaluateConfig
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.evaluation.evaluate import evaluate
from motivnet_cli.inputs.manifest import Manifest
from motivnet_cli.records import EMOTIONS
from tests.cases.datasets.layouts import content
from tests.test_datasets import (
    AFFECTNET,
    ANGER,
    DISGUST,
    FEAR,
    HAPPINESS,
    NEUTRAL,
    SADNESS,
    SURPRISE,
    labels_of,
    make_affectnet_arrays,
    make_affectnet_lists,
    picture,
    write,
)

# ---- pictures inside Parquet ------------------------------------------------------------------------------


def parquet(path, labels, *, names=None, paths=None, contents=None):
    """A table as Hugging Face's `datasets` writes it.

    Args:
        names: Of the classes, kept in the table's own notes.
        paths: What the pictures are called; None for no names.
    """
    contents = contents or [content(8) for _ in labels]
    cells = [{"bytes": data, "path": paths and paths[i]} for i, data in enumerate(contents)]
    table = pl.DataFrame({"image": cells, "label": labels}, {"image": None, "label": pl.Int64}).to_arrow()
    if names:
        notes = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(notes)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize("name", ["rafdb", "affectnet7", "fer2013", "ferplus", "parquet"])
def test_a_table_that_names_its_classes_is_believed(tmp_path, name):
    """Numbers mean what the table says, whatever the set's own are; a number that it has not is counted."""
    names = ["suprise", "contempt", "Angry", "neutral", "happy", "fearful", "sad", "disgust"]
    split = "validation" if name == "affectnet7" else "test"
    table = parquet(tmp_path / f"data/{split}-00000-of-00001.parquet", [0, 1, 2, 3, 4, 5, 6, 7, -1], names=names)

    found = read_dataset(name, str(table if name == "parquet" else tmp_path))

    assert labels_of(found) == {
        f"{table.name}#{row}": label
        for row, label in (
            (1, SURPRISE),
            (3, ANGER),
            (4, NEUTRAL),
            (5, HAPPINESS),
            (6, FEAR),
            (7, SADNESS),
            (8, DISGUST),
        )
    }
    assert found.dropped == {"no path or no label": 1, "contempt": 1}


def test_a_class_that_names_no_emotion_is_refused(tmp_path):
    """As a folder is: with its name, and the way on."""
    parquet(tmp_path / "test.parquet", [0, 1], names=["happy", "weird"])

    with pytest.raises(ConfigError, match=r"classes that name no emotion: 'weird' \(1\).*--label-map weird=drop"):
        read_dataset("rafdb", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "classes", "is_certain"),
    [
        ("rafdb", "1234567", True),
        ("rafdb", "0123456", False),
        ("rafdb", "123456", False),
        ("parquet", "0123456", False),
    ],
)
def test_names_of_classes_may_be_numbers(tmp_path, name, classes, is_certain):
    """Tables made of numbered folders name their classes by these numbers, which are no more certain than folders'."""
    table = parquet(tmp_path / "test.parquet", [*range(len(classes))], names=[*classes])
    root = str(table if name == "parquet" else tmp_path)

    if is_certain:
        assert [image.label for image in read_dataset(name, root).images] == [3, 4, 5, 1, 2, 6, 0]
    else:
        with pytest.raises(ConfigError, match=r"the classes .* can be read in more than one way"):
            read_dataset(name, root)


def test_tables_of_one_split_are_one_set(tmp_path):
    """Pictures of several tables may have the same name, and each is an image of its own."""
    names = [*EMOTIONS]
    for shard in range(2):
        parquet(tmp_path / f"test-0000{shard}-of-00002.parquet", [3, 4], names=names, paths=["a.png", "b.png"])
    parquet(tmp_path / "train-00000-of-00001.parquet", [0], names=names)

    assert labels_of(read_dataset("rafdb", str(tmp_path))) == {
        f"test-0000{shard}-of-00002.parquet/{name}.png": label
        for shard in range(2)
        for name, label in (("a", 3), ("b", 4))
    }


@pytest.mark.thorough
def test_pictures_of_a_table_are_predicted_as_their_files_are(tmp_path):
    """The network sees the same pictures; a cell without one is a miss with its reason, and no other image suffers."""
    contents = [content(48) for _ in range(7)]
    for label, (emotion, data) in enumerate(zip(EMOTIONS, contents, strict=True)):
        (tmp_path / "files" / emotion).mkdir(parents=True)
        (tmp_path / "files" / emotion / f"{label}.png").write_bytes(data)
    parquet(tmp_path / "t.parquet", [*range(7), 0], names=[*EMOTIONS], contents=[*contents, b""])
    model = ModelConfig(name="expression-net", device="cpu")

    def run(dataset, root):
        out = str(tmp_path / f"out-{dataset}")
        config = EvaluateConfig(dataset=dataset, root=str(root), out=out, model=model, resamples=9)
        (scored,) = evaluate([config])[0].runs
        return scored, pl.read_parquet(f"{out}/predictions.parquet").sort("input")

    (_, files), (table, cells) = run("folder", tmp_path / "files"), run("parquet", tmp_path / "t.parquet")

    assert table.scores.n == 8
    assert [(each.image, each.reason) for each in table.missed] == [("t.parquet#8", "empty_file")]
    for emotion in EMOTIONS:
        assert sorted(cells[emotion]) == pytest.approx(sorted(files[emotion]), abs=1e-5)


@pytest.mark.parametrize("paths", [None, ["a.png", "a.png", "b.png"]])
def test_predictions_of_a_table_match_by_the_names_of_annotate(tmp_path, paths):
    """`annotate --manifest` calls a picture by its path in the table, or by the table and the row from 1."""
    table = parquet(tmp_path / "data/test.parquet", [3, 4, 5], names=[*EMOTIONS], paths=paths)
    found = [each.name for each in Manifest(str(table), InputConfig(manifests=(str(table),))).inputs({})]
    lines = "".join(f"{name},{label}\n" for name, label in zip(found, ("surprise", "fear", "disgust"), strict=True))
    predictions = write(tmp_path / "p.csv", f"path,predicted\n{lines}")
    config = EvaluateConfig(
        dataset="rafdb", root=str(tmp_path), out=str(tmp_path / "out"), predictions=str(predictions), resamples=9
    )

    assert evaluate([config])[0].runs[0].scores.accuracy == 1.0


def test_columns_of_a_set_in_parquet_are_named(tmp_path):
    """The column of labels may have any name; of a copy that is no table none can be named."""
    table = parquet(tmp_path / "data/test.parquet", [0, 1], names=["happy", "sad"])
    pl.read_parquet(table).rename({"label": "y"}).with_columns(pl.Series("y", ["happy", "sad"])).write_parquet(table)

    with pytest.raises(ConfigError, match="name it with --label-column"):
        read_dataset("rafdb", str(tmp_path))
    found = read_dataset("rafdb", str(tmp_path), label_column="y")

    assert [image.label for image in found.images] == [HAPPINESS, SADNESS]
    picture(tmp_path / "test/happy/a.jpg")
    with pytest.raises(ConfigError, match="is no table with columns to name"):
        read_dataset("rafdb", str(tmp_path), label_column="y")


def test_a_table_without_a_split_in_its_name_is_not_taken_for_one(tmp_path):
    """Nothing says which split `part-0.parquet` is of."""
    parquet(tmp_path / "part-0.parquet", [0], names=["happy"])

    with pytest.raises(ConfigError, match="no layout of this set was recognised"):
        read_dataset("rafdb", str(tmp_path))


def test_numbers_of_pixels_are_a_picture(tmp_path):
    """A table of grey values needs no files; its numbers need a map, since the order is not known."""
    write(tmp_path / "t.csv", "emotion,pixels,Usage\n0,1 2 3 4,a\n1,5 6 7,a\n1,9,a\n")

    found = read_dataset("csv", str(tmp_path / "t.csv"), label_map={"0": "sad", "1": "fear"})

    assert [(image.name, image.label, image.pixels.tolist()) for image in found.images] == [
        ("row-00000.png", SADNESS, [[1, 2], [3, 4]]),
        ("row-00002.png", FEAR, [[9]]),
    ]
    assert found.dropped == {"pixels not understood": 1}


# ---- lists ------------------------------------------------------------------------------------------------


def list_of(root, name, labels, *, folder="img", separator=" ", ending="\n"):
    for file in labels:
        picture(root / folder / file)
    return write(root / name, "".join(f"{file}{separator}{label}{ending}" for file, label in labels.items()))


def test_lists_by_number_and_by_name(tmp_path):
    """A line is a path, perhaps with spaces, and the set's label or an emotion's name; files are found by the paths."""
    labels = {"x/a 1.png": "1", "b.png": "7", "c.png": "suprise", "d.png": "Happy"}
    list_of(tmp_path, "raf_db_basic_test.txt", labels, separator="\t", ending="\r\n")
    (tmp_path / "img/b.png").unlink()

    found = read_dataset("rafdb", str(tmp_path))

    assert labels_of(found) == {"img/x/a 1.png": SURPRISE, "img/c.png": SURPRISE, "img/d.png": HAPPINESS}
    assert found.dropped == {"missing file": 1}


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"a.png": "1", "b.png": "6"}, "can be read in more than one way"),  # of 1 to 7 or of 0 to 6
        ({"a.png": "7", "b.png": "weird"}, r"classes that name no emotion: 'weird'"),
    ],
)
def test_labels_of_lists_are_not_guessed(tmp_path, labels, words):
    """Numbers that fit two numberings, and words that name no class, are refused."""
    list_of(tmp_path, "test.txt", labels)

    with pytest.raises(ConfigError, match=words):
        read_dataset("rafdb", str(tmp_path))


@pytest.mark.parametrize("name", ["test_predictions.txt", "preds-test.txt", "test_results.json", "test.parquet"])
def test_predictions_beside_a_set_are_not_its_labels(tmp_path, name):
    """A tool's answers lie in the same forms as labels do, and would score well against themselves."""
    if name.endswith(".parquet"):
        picture(tmp_path / "a.png")
        pl.DataFrame({"path": ["a.png"], "emotion": ["happiness"]}).write_parquet(tmp_path / name)
    elif name.endswith(".json"):
        write(tmp_path / name, json.dumps({"happiness": [picture(tmp_path / "a.png").name]}))
    else:
        list_of(tmp_path, name, {"a.png": "happiness"})

    for dataset in ("rafdb", "affectnet7"):
        with pytest.raises(ConfigError, match="no layout of this set was recognised"):
            read_dataset(dataset, str(tmp_path))


def test_one_list_is_one_split(tmp_path):
    """Two lists of a split are refused, those of seven and eight classes are not, and two splits in one are none."""
    list_of(tmp_path, "affectnet_validation-cls7.txt", {"a.png": "0"})
    list_of(tmp_path, "affectnet_validation-cls8.txt", {"a.png": "0", "b.png": "7"})
    list_of(tmp_path / "two", "ferplus_train_valid.txt", {"c.png": "0"})
    seven, eight = (read_dataset(f"affectnet{number}", str(tmp_path)) for number in (7, 8))
    list_of(tmp_path, "my_val.txt", {"a.png": "0"})
    list_of(tmp_path, "my_valid.txt", {"a.png": "0"})

    assert (seven.dropped, eight.dropped) == ({}, {"contempt": 1})
    with pytest.raises(ConfigError, match=r"my_val.txt' and .*my_valid.txt' could all list the split val: move"):
        read_dataset("ferplus", str(tmp_path))
    with pytest.raises(ConfigError, match="no layout of this set was recognised"):
        read_dataset("ferplus", str(tmp_path / "two"))


def test_images_of_a_list_are_in_one_folder(tmp_path):
    """Of two folders that hold all of them none is chosen; without any, that is said."""
    index = list_of(tmp_path, "test.txt", {"a.png": "7", "b.png": "1"}, folder="aligned")
    picture(tmp_path / "original/a.png")
    assert len(read_dataset("rafdb", str(tmp_path)).images) == 2
    picture(tmp_path / "original/b.png")

    with pytest.raises(
        ConfigError, match=r"aligned' and .*original' both hold the images that .*test.txt' names: move"
    ):
        read_dataset("rafdb", str(tmp_path))
    write(tmp_path / "other/test.txt", index.read_text())
    with pytest.raises(ConfigError, match=r"is there, but no folder under .* holds the images"):
        read_dataset("rafdb", str(tmp_path / "other"))


def test_paths_of_a_list_may_be_written_in_other_ways(tmp_path):
    """Backslashes part folders, `./` adds nothing, and one image under two such names is one that is listed twice."""
    for name in ("x/a.png", "b.png"):
        picture(tmp_path / "img" / name)
    write(tmp_path / "raf/test.txt", "x\\a.png 1\n./b.png 7\nb.png 7\n")
    write(tmp_path / "json/val.json", json.dumps({"3": ["x\\a.png"], "0": ["./b.png", "b.png"]}))
    write(
        tmp_path / "expw/label.lst", "".join(f"{name} 0 1 2 9 8 50.0 6\n" for name in ("x\\a.png", "./b.png", "b.png"))
    )
    for folder in ("raf", "json", "expw"):
        (tmp_path / folder / "img").symlink_to(tmp_path / "img")

    found = {
        name: read_dataset(name, str(tmp_path / folder)) for name, folder in (("rafdb", "raf"), ("affectnet7", "json"))
    }
    faces = read_dataset("expw", str(tmp_path / "expw"))

    for each in found.values():
        assert (labels_of(each), each.dropped) == ({"img/x/a.png": SURPRISE, "img/b.png": NEUTRAL}, {"listed twice": 1})
    assert [*labels_of(faces)] == ["img/x/a.png", "img/b.png#0", "img/b.png#1"]


def test_absolute_paths_of_a_list(tmp_path):
    """They lie in no folder that must be found."""
    paths = {name: picture(tmp_path / "set/img/below" / name) for name in ("a.png", "b.png")}
    write(tmp_path / "set/test.txt", "".join(f"{path} 7\n" for path in paths.values()))

    assert [*labels_of(read_dataset("rafdb", str(tmp_path / "set")))] == ["img/below/a.png", "img/below/b.png"]


def test_labels_and_boxes_of_expw_are_not_rounded(tmp_path):
    """Only the box is of numbers: a label that is none of the set's is said as it stands there."""
    picture(tmp_path / "image/a.png")
    lines = ["0 2 1 9 8 50.0 6.0", "1 2 1 9 8 x 3", "2 2 1 9 8 50.0 nan", "3 2 1 9 8 50.0 3.7", "4 2 1 inf 8 50.0 3"]
    write(tmp_path / "label.lst", "".join(f"a.png {line}\n" for line in lines))

    found = read_dataset("expw", str(tmp_path))

    assert labels_of(found) == {"image/a.png#0": NEUTRAL, "image/a.png#1": HAPPINESS}
    assert found.dropped == {"unknown label 'nan'": 1, "unknown label '3.7'": 1, "box not understood": 1}


@pytest.mark.parametrize("indent", [None, 2])
def test_lists_by_class_in_json(tmp_path, indent):
    """The reference's form: a class and its images, by AffectNet's number or by name, on one line or many."""
    labels = {"0": ["a.png"], "6": ["b.png", "c.png"], "happy": ["d.png"]}
    for name in (name for names in labels.values() for name in names):
        picture(tmp_path / "img" / name)
    write(tmp_path / "val_labels.json", json.dumps(labels, indent=indent))

    assert labels_of(read_dataset("affectnet7", str(tmp_path))) == {
        **{"img/a.png": NEUTRAL, "img/b.png": ANGER, "img/c.png": ANGER, "img/d.png": HAPPINESS}
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"0": ["a.png"], "1": "b.png"}', r'must hold lists of names by class: \{"0": \["a.jpg"\]'),
        ('{"0": ["a.png"]', "is no JSON: "),
        ('{"images": [{"id": 1}]}', "no layout of this set was recognised"),
    ],
)
def test_other_json_is_refused(tmp_path, text, words):
    """A damaged list, or annotations of another kind."""
    picture(tmp_path / "a.png")
    write(tmp_path / "val.json", text)

    with pytest.raises(ConfigError, match=words):
        read_dataset("affectnet7", str(tmp_path))


YOLO_NAMES = {
    "a list": "names: [Anger, 'Happy', \"sad\"]\n",
    "lines": "nc: 3\nnames:\n- Anger\n- Happy\n- sad\ntrain: x\n",
    "a mapping": "names:\n  0: Anger\n  1: Happy\n  2: sad\n",
}


@pytest.mark.parametrize("text", YOLO_NAMES.values(), ids=YOLO_NAMES)
def test_yolo(tmp_path, text):
    """The numbers mean what data.yaml says; a box that is not the whole picture is the face, in pixels."""
    write(tmp_path / "data.yaml", text)
    for name, lines in {"a": "0 0.5 0.5 1 1", "b": "1 0.5 0.25 0.5 0.5\n2 0.5 0.75 1 0.5", "c": "x", "d": ""}.items():
        Image.new("L", (40, 80)).save(picture(tmp_path / f"valid/images/{name}.png"))
        write(tmp_path / f"valid/labels/{name}.txt", lines)

    found = read_dataset("affectnet7", str(tmp_path))

    assert [(image.name, image.label, image.box) for image in found.images] == [
        ("valid/images/a.png", ANGER, None),
        ("valid/images/b.png#0", HAPPINESS, (10, 0, 30, 40)),
        ("valid/images/b.png#1", SADNESS, (0, 40, 40, 80)),
    ]
    assert found.dropped == {"line not understood": 1, "no label file, or an empty one": 1}
    assert "1 image without a box: the face is looked for" in found.remarks


def test_boxes_of_yolo_are_in_the_upright_picture(tmp_path):
    """Shares of a photo that is stored on its side are of the picture as it is seen, as boxes are everywhere."""
    write(tmp_path / "data.yaml", "names: [Anger]\n")
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "valid/images/a.jpg"
    path.parent.mkdir(parents=True)
    Image.new("L", (4, 8)).save(path, exif=exif)
    write(tmp_path / "valid/labels/a.txt", "0 .5 .25 1 .5")

    (image,) = read_dataset("affectnet7", str(tmp_path)).images

    assert image.box == (0, 0, 8, 2)


def test_a_box_of_yolo_needs_its_picture_and_a_place(tmp_path):
    """A picture that cannot be opened is counted as such, and a centre that is no number is no line."""
    write(tmp_path / "data.yaml", "names: [Anger]\n")
    for name, line in {"a": ".5 .5 .5 .5", "b": ".5 .5 .5 .5", "c": "nan .5 .5 .5"}.items():
        picture(tmp_path / f"valid/images/{name}.png")
        write(tmp_path / f"valid/labels/{name}.txt", f"0 {line}")
    write(tmp_path / "valid/images/a.png", "no picture")

    found = read_dataset("affectnet7", str(tmp_path))

    assert [image.name for image in found.images] == ["valid/images/b.png"]
    assert found.dropped == {"line not understood": 1, "box in a picture that cannot be opened": 1}


def test_sizes_of_huge_pictures_are_read(tmp_path, monkeypatch):
    """Pillow's limit on the size of a picture, which runs lift, stops no reader of a set."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    write(tmp_path / "yolo/data.yaml", "names: [Anger]\n")
    picture(tmp_path / "yolo/valid/images/a.png")
    write(tmp_path / "yolo/valid/labels/a.txt", "0 .5 .5 .5 .5")
    picture(tmp_path / "sfew/Val/Angry/a.png")

    assert read_dataset("affectnet7", str(tmp_path / "yolo")).images[0].box == (2, 2, 6, 6)
    assert read_dataset("sfew", str(tmp_path / "sfew")).protocol == "aligned"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("names: ['1', '2']", "the classes 1, 2 .* can be read in more than one way"),
        ("names: [Anger, weird]", r"classes that name no emotion: 'weird'"),
        ("nc: 2", r"has no line such as names: \[anger"),
    ],
)
def test_classes_of_yolo_are_not_guessed(tmp_path, names, words):
    """Neither a class without a meaning, nor numbers without names."""
    write(tmp_path / "data.yaml", names)
    for number in range(2):
        picture(tmp_path / f"valid/images/{number}.png")
        write(tmp_path / f"valid/labels/{number}.txt", f"{number} 0.5 0.5 1 1")

    with pytest.raises(ConfigError, match=words):
        read_dataset("affectnet7", str(tmp_path))


# ---- single sets ------------------------------------------------------------------------------------------


def test_affectnets_lists_cut_by_their_boxes_or_not(tmp_path):
    """Without a word the box of the list is the face, which is said; `image` takes the picture whole."""
    make_affectnet_lists(tmp_path)
    by_default, box, image = (
        read_dataset("affectnet7", str(tmp_path), protocol=each) for each in (None, "box", "image")
    )

    assert (by_default.protocol, by_default.faces, by_default.images[0].box) == ("box", "given", (1, 2, 4, 6))
    assert any("--protocol image takes the pictures whole" in remark for remark in by_default.remarks)
    assert not any("--protocol" in remark for remark in box.remarks)
    assert (image.protocol, image.faces, image.images[0].box) == ("image", "whole", None)
    assert labels_of(box) == labels_of(image) == labels_of(by_default)


def test_a_box_of_affectnet_that_is_none_is_counted(tmp_path):
    """A face without a box cannot be cut, and can be taken whole."""
    make_affectnet_lists(tmp_path)
    for number in range(2):
        picture(tmp_path / f"Manually_Annotated_Images/{number}.jpg")
    rows = (
        f"{AFFECTNET}\n0.jpg,1,2,0,4,1,0,0,0\n1.jpg,1,2,,4,1,1,0,0\n2.jpg,nan,2,3,4,1,1,0,0\n"
        "0/face0.jpg,1,2,3,4,1,0,0,0\n"
    )
    write(tmp_path / "Manually_Annotated_file_lists/validation.csv", rows)

    assert read_dataset("affectnet7", str(tmp_path)).dropped == {"box not understood": 3}
    assert len(read_dataset("affectnet7", str(tmp_path), protocol="image").images) == 3


@pytest.mark.parametrize(("name", "protocol"), [("affectnet7", "box"), ("affectnet7", "image"), ("rafdb", "aligned")])
def test_a_protocol_that_a_copy_does_not_have_is_refused(tmp_path, name, protocol):
    """It is never ignored."""
    if name == "affectnet7":
        make_affectnet_arrays(tmp_path)
    parquet(tmp_path / "test.parquet", [0], names=["happy"])

    with pytest.raises(ConfigError, match=rf"has nothing of the protocol '{protocol}' .*: leave out --protocol"):
        read_dataset(name, str(tmp_path), protocol=protocol)


def test_ckplus_in_folders_by_emotion(tmp_path):
    """The last frame of each sequence or all three, by number; first frames are not there, so neutral cannot be had."""
    for frame in (9, 10, 11):
        picture(tmp_path / f"CK+48/happy/S010_004_{frame:08}.png")
        picture(tmp_path / f"CK+48/fear/S011_001_{frame:08}.png")
    last, three = (read_dataset("ckplus", str(tmp_path), protocol=each) for each in (None, "last_three"))

    assert labels_of(last) == {
        **{"CK+48/happy/S010_004_00000011.png": HAPPINESS, "CK+48/fear/S011_001_00000011.png": FEAR}
    }
    assert (len(three.images), {image.subject for image in three.images}) == (6, {"S010", "S011"})
    picture(tmp_path / "CK+48/sadness/S011_001_00000011.png")
    several = read_dataset("ckplus", str(tmp_path))
    assert len(several.images) == 3
    assert several.remarks[0] == "1 sequences lie in the folders of several emotions, such as S011_001"
    with pytest.raises(
        ConfigError, match=r"no first frames, which are neutral: leave out --protocol last_frame_neutral"
    ):
        read_dataset("ckplus", str(tmp_path), protocol="last_frame_neutral")


def test_ckplus_in_folders_loses_no_class(tmp_path):
    """A sequence that lies under two emotions counts under both, and a folder that names none is refused."""
    for name in ("happy", "fear", "weird"):
        picture(tmp_path / f"CK+48/{name}/S010_004_00000017.png")

    with pytest.raises(ConfigError, match=r"classes that name no emotion: 'weird' \(1\)"):
        read_dataset("ckplus", str(tmp_path))
    found = read_dataset("ckplus", str(tmp_path), label_map={"weird": "drop"})

    assert sorted(labels_of(found).values()) == [HAPPINESS, FEAR]


def test_kdef_in_folders_by_emotion_is_warned_of(tmp_path):
    """As folders of one's own the angles are mixed, which is said; KDEF's reader takes the frontal ones."""
    for angle in ("S", "HL"):
        picture(tmp_path / f"happy/AF01HA{angle}.JPG")

    own, kdef = (read_dataset(name, str(tmp_path)) for name in ("folder", "kdef"))

    assert "2 images are KDEF's by their names, and of several angles: --dataset kdef reads the frontal ones alone" in (
        own.remarks
    )
    assert labels_of(kdef) == {"happy/AF01HAS.JPG": HAPPINESS}


def test_rows_of_the_challenges_table_are_not_those_of_fer2013(tmp_path):
    """Whether train.csv has fer2013.csv's order is not known: its rows have names of their own."""
    write(tmp_path / "train.csv", "emotion,pixels\n0,1\n3,2\n")

    found = read_dataset("fer2013", str(tmp_path), split="train")

    assert labels_of(found) == {"train-row-00000.png": ANGER, "train-row-00001.png": HAPPINESS}
    assert [image.alias for image in found.images] == [None, None]
