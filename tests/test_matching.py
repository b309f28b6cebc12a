"""Predictions of other pictures are refused, few matches are said first, and names alike by chance pair nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation import predict
from motivnet_cli.evaluation.config import EvaluateConfig
from motivnet_cli.evaluation.evaluate import compare_predictions, evaluate
from motivnet_cli.evaluation.matching import match, refuse_other_pictures, remarks_on
from motivnet_cli.evaluation.predictions import read_predictions
from tests.runs import motivnet
from tests.test_datasets import picture
from tests.test_predictions import ours

FOLDERS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry")
IMAGES = tuple(f"{folder}/{folder}{number}.png" for folder in FOLDERS for number in range(3))


@pytest.fixture
def faces(tmp_path):
    """A set of 21 pictures, three of each emotion, each with a file name of its own."""
    for name in IMAGES:
        picture(tmp_path / "set" / name)
    return tmp_path / "set"


def table(path, names, *, predicted="happy"):
    path.write_text("\n".join(["path,pred", *(f"{name},{predicted}" for name in names)]) + "\n")
    return path


def settings(faces, out, *, predictions=None, **fields):
    return EvaluateConfig(dataset="folder", root=str(faces), out=str(out), predictions=predictions, **fields)


def found_in(names, rows, *, root=None):
    """Whether each labelled image is found among the rows of a table, and why those that are not are missed."""
    predictions = read_predictions(rows)
    result = match(predictions, names, [f"{root}/{name}" if root else None for name in names])
    return result.is_found.tolist(), result


# ---- no match ---------------------------------------------------------------------------------------------

OTHERS = {
    "other names": ([f"x/{number}.png" for number in range(21)], "'angry/angry0.png', .* have 'x/0.png', 'x/1.png'"),
    "names that occur twice": ([f"{each}/{Path(name).name}" for each in "ab" for name in IMAGES], "could each be sev"),
    "another split": ([f"/data/train/{name}" for name in IMAGES], "another split or class"),
    "no rows": ([], "holds no image"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_predictions_of_other_pictures_are_refused(tmp_path, faces, case):
    """Exit 2 with names of both sides, and an earlier report is left as it was."""
    names, words = OTHERS[case]
    faces = faces.rename(tmp_path / "test") if case == "another split" else faces
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "metrics.json").write_text("earlier")
    rows = table(tmp_path / "p.csv", names)
    command = ("evaluate", "--dataset", "folder", "--root", faces, "--predictions", rows, "--out", tmp_path / "r")
    said = motivnet(*command, code=2)

    assert said.stdout == ""
    with pytest.raises(ConfigError, match=words):
        evaluate([settings(faces, tmp_path / "r", predictions=str(rows))])
    assert "p.csv" in said.stderr
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["metrics.json"]
    assert (tmp_path / "r" / "metrics.json").read_text() == "earlier"


@pytest.mark.parametrize("wrong", ["a", "b"])
def test_a_side_of_a_comparison_without_matches_is_refused(tmp_path, faces, wrong):
    """Whichever side is of other pictures: exit 2, and no p."""
    right, other = table(tmp_path / "right.csv", IMAGES), table(tmp_path / "other.csv", ["x.png", "y.png"])
    sides = (other, right) if wrong == "a" else (right, other)
    said = motivnet("compare", "predictions", *sides, "--dataset", "folder", "--root", faces, code=2)

    assert said.stdout == ""
    assert "none of the 21 labelled images is found in" in said.stderr
    assert "other.csv" in said.stderr


def test_two_predictions_that_share_no_image_are_refused(tmp_path, faces):
    """Each is of the set, but of different images: McNemar's test would compare which were predicted."""
    halves = table(tmp_path / "a.csv", IMAGES[:10]), table(tmp_path / "b.csv", IMAGES[10:])

    with pytest.raises(ConfigError, match=r"share no labelled image \(10 and 11 of 21 are found\)"):
        compare_predictions(settings(faces, ""), *map(str, halves))


def test_a_run_that_lost_its_own_images_is_a_fault(tmp_path, faces, monkeypatch):
    """The network was given these images: that none is in its output is no mistake of the user's, so exit 1."""
    rows = read_predictions(table(tmp_path / "p.csv", ["x.png"]))
    monkeypatch.setattr(predict, "annotate_with", lambda *_, **__: SimpleNamespace(stopped=False))
    monkeypatch.setattr(predict, "read_predictions", lambda *_, **__: rows)
    command = ("evaluate", "--dataset", "folder", "--root", faces, "--model", "expression-net", "--out", tmp_path / "r")

    assert "a fault in motivnet: RuntimeError: the run into" in motivnet(*command, code=1).stderr
    assert not (tmp_path / "r" / "metrics.json").exists()


# ---- what was taken for the prediction --------------------------------------------------------------------


@pytest.mark.parametrize(("header", "is_said"), [("path,label", True), ("path,Emotion", True), ("path,pred", False)])
def test_labels_that_are_all_right_may_be_the_truth(tmp_path, faces, header, is_said):
    """A column that is named like the truth and agrees with it everywhere is said first; a single mistake clears it."""
    truth = [f"{name},{Path(name).parent}" for name in IMAGES]
    (tmp_path / "p.csv").write_text("\n".join([header, *truth]) + "\n")
    command = (
        "evaluate",
        "--dataset",
        "folder",
        "--root",
        faces,
        "--predictions",
        tmp_path / "p.csv",
        "--resamples",
        9,
    )
    said = motivnet(*command, "--out", tmp_path / "r").stderr
    (tmp_path / "p.csv").write_text("\n".join([header, f"{IMAGES[0]},angry", *truth[1:]]) + "\n")

    assert ("all 21 labels in the column" in said) == is_said
    assert "labels in the column" not in motivnet(*command, "--out", tmp_path / "r2").stderr


BOXES = {"no boxes": ("", ""), "one box": (",1,2,30,40", ",1,2,30,40"), "two faces": (",1,2,30,40", ",5,6,99,99")}


@pytest.mark.parametrize("case", BOXES)
@pytest.mark.parametrize("is_other", [True, False])
def test_rows_that_contradict_each_other_are_said(tmp_path, case, is_other):
    """Tables of two runs in one file: rows of one face that say different things, but not faces apart, nor repeats."""
    one, other = BOXES[case]
    header = "path,pred" + (",x1,y1,x2,y2" if one else "")
    rows = [f"a.png,happy{one}", f"a.png,{'sad' if is_other else 'happy'}{other}", f"b.png,sad{one}"]
    (tmp_path / "p.csv").write_text("\n".join([header, *rows]) + "\n")
    _, result = found_in(["a.png", "b.png"], tmp_path / "p.csv")

    is_said = is_other and case != "two faces"
    assert [doubt[:65] for doubt in result.doubts] == [
        f"of 1 images several rows of {str(tmp_path / 'p.csv')!r}"[:65]
    ] * is_said


# ---- few matches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num", "is_said"), [(21, False), (19, False), (18, True), (1, True)])
def test_few_matches_are_said_first(tmp_path, faces, num, is_said):
    """Below nine tenths it is the first remark, with how many are found and an example of one that is not."""
    rows = table(tmp_path / "p.csv", IMAGES[:num])
    (result,) = evaluate([settings(faces, tmp_path / "r", predictions=str(rows), resamples=9)])

    assert bool(result.remarks) == is_said
    if is_said:
        start = f"only {num} of 21 labelled images are found in {str(rows)!r} ({21 - num} are not there, such as"
        assert result.remarks[0].startswith(start)


def test_images_without_a_face_are_no_mismatch(tmp_path, faces):
    """A row without values says that the tool saw the image: all are found, and missed for a reason of their own."""
    rows = table(tmp_path / "p.csv", IMAGES, predicted="")
    (result,) = evaluate([settings(faces, tmp_path / "r", predictions=str(rows), resamples=9)])

    assert result.remarks == ()
    assert result.runs[0].missed_by_reason == {"empty row": 21}


@pytest.mark.thorough
def test_few_matches_stand_first_everywhere(tmp_path, faces):
    """On stderr, in metrics.json and in the notes of both pages, before what else must be known."""
    rows = table(tmp_path / "p.csv", IMAGES[:7])
    (faces / "sad" / "sad0.png").unlink()
    command = ("evaluate", "--dataset", "folder", "--root", faces, "--predictions", rows, "--out", tmp_path / "r")
    said = motivnet(*command, "--resamples", "9")
    words = "only 6 of 20 labelled images are found"

    warnings = [line for line in said.stderr.splitlines() if line.startswith("warning")]
    assert warnings[0].startswith(f"warning: folder: {words}")
    assert json.loads((tmp_path / "r" / "metrics.json").read_text())["remarks"][0].startswith(words)
    for page in ("report.html", "report.md"):
        note = (tmp_path / "r" / page).read_text().partition("Headlines</h2>" if "html" in page else "## Headlines")[0]
        assert words in note


def test_a_comparison_says_what_the_two_share(tmp_path, faces):
    """Each has most of the images, the two together few: said on stderr and in the JSON, after those of each side."""
    sides = table(tmp_path / "a.csv", IMAGES[:19]), table(tmp_path / "b.csv", IMAGES[6:])
    said = motivnet(
        "compare", "predictions", *sides, "--dataset", "folder", "--root", faces, "--resamples", "9", "--json"
    )
    remarks = json.loads(said.stdout)["remarks"]

    assert remarks[0].startswith("only 15 of 21 labelled images are found in")
    assert remarks[1].startswith("only 13 of 21 labelled images are in both")
    assert [line for line in said.stderr.splitlines() if "warning" in line] == [f"warning: {each}" for each in remarks]


# ---- the same name, another picture -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labelled", "predicted"),
    [
        ("/data/fer/test/happy/im0.png", "/data/fer/train/happy/im0.png"),
        ("/data/fer/Test/happy/im0.png", "/home/me/Training/happy/im0.png"),
        ("/data/aff/val_set/images/7.jpg", "/x/train_set/images/7.jpg"),
        ("/data/FER2013Valid/a.png", "FER2013Test/a.png"),
        ("/data/fer/test/happy/im0.png", "train/im0.png"),
    ],
)
@pytest.mark.parametrize("below", [1, 2, 3])
def test_images_of_two_splits_are_two(tmp_path, labelled, predicted, below):
    """Whatever folder of the set was given as its root, the same name in another split is another picture."""
    parts = labelled.strip("/").split("/")
    name, root = "/".join(parts[-below:]), "/" + "/".join(parts[:-below])
    is_found, result = found_in([name], table(tmp_path / "p.csv", [predicted]), root=root)

    assert is_found == [False]
    assert result.reasons == {0: "only predictions of another split or class have its name"}
    assert result.summary.contradicted.first == (name,)


@pytest.mark.parametrize(
    ("labelled", "predicted"),
    [
        ("/data/fer/test/happy/im0.png", "/old/test/happy/im0.png"),
        ("/data/test/RAF/train/happy/im0.png", "/train/happy/im0.png"),
        ("/data/aff/val_set/images/7.jpg", "validation/7.jpg"),
        ("/data/aff/val_set/images/7.jpg", "7.jpg"),
        ("/data/training-runs/a/7.jpg", "/test/a/7.jpg"),
    ],
)
def test_one_split_by_several_names_is_one(tmp_path, labelled, predicted):
    """The innermost folder that is named after a split counts, however it is spelt."""
    root, name = labelled.rsplit("/", 2)[0], "/".join(labelled.rsplit("/", 2)[1:])

    assert found_in([name], table(tmp_path / "p.csv", [predicted]), root=root)[0] == [True]


def test_a_file_name_in_the_folder_of_another_class_is_another_picture(tmp_path):
    """`sad/2.png` is not `happy/2.png`; in a folder that is no class it is found, and said."""
    names = ["happy/2.png", "sad/1.png"]
    is_found, _ = found_in(names, table(tmp_path / "p.csv", ["/x/sad/2.png", "/x/flat/1.png"]))
    _, flat = found_in(names, table(tmp_path / "q.csv", ["1.png", "2.png"]))
    _, elsewhere = found_in(names, table(tmp_path / "r.csv", ["/x/flat/2.png", "/x/sad/1.png"]))

    assert is_found == [False, True]
    assert flat.doubts == ()
    assert elsewhere.doubts == (
        "1 image found by file name alone, in other folders ('happy/2.png' as '/x/flat/2.png'): "
        "see that they are the same pictures",
    )


def test_clips_are_called_clips(tmp_path):
    """What is said of a set of clips speaks of clips."""
    predictions = read_predictions(table(tmp_path / "p.csv", ["other.mp4"]))
    result = match(predictions, ["a.mp4", "b.mp4"], [None, None], unit="clip")

    with pytest.raises(ConfigError, match="none of the 2 labelled clips is found in"):
        refuse_other_pictures(predictions, result, ["a.mp4", "b.mp4"])
    assert next(remarks_on(predictions, result, np.array([0, 1]))).startswith("only 0 of 2 labelled clips are found in")


def test_a_small_part_of_the_predictions_by_file_name_is_said(tmp_path):
    """Two of a hundred bare names: they may be another set's."""
    rows = table(tmp_path / "p.csv", [f"{number}.png" for number in range(100)])
    is_found, result = found_in(["happy/2.png", "sad/1.png"], rows)

    assert is_found == [True, True]
    assert "most predictions are of others (98)" in result.doubts[0]


def test_another_set_of_the_same_names_is_told_by_its_files(tmp_path, faces):
    """A copy elsewhere is scored; pictures of other sizes are refused where all differ, and said where some do."""
    for name in IMAGES:
        picture(tmp_path / "copy" / name)
        picture(tmp_path / "other" / name).write_bytes((faces / name).read_bytes() + b"0")
        picture(tmp_path / "mixed" / name).write_bytes((faces / name).read_bytes() + b"0" * (name == IMAGES[0]))

    def evaluated(name):
        rows = ours(tmp_path / f"{name}.parquet", tmp_path / name, {key: [(1, (0, 0, 8, 8))] for key in IMAGES})
        return evaluate([settings(faces, tmp_path / "r", predictions=str(rows), resamples=9)])[0]

    size = (faces / IMAGES[0]).stat().st_size
    copy = evaluated("copy")
    assert (copy.remarks, copy.runs[0].matching.how) == ((), {"relative path": 21})
    assert evaluated("mixed").remarks == (
        f"1 of 21 files of these names had other sizes ({IMAGES[0]!r}: {size} bytes here, {size + 1} when it was "
        "predicted): they are other pictures, or were written anew",
    )
    with pytest.raises(ConfigError, match="has the names of 21 of these files, and all had other sizes"):
        evaluated("other")


def test_two_splits_with_the_same_relative_names_are_two(tmp_path, faces):
    """A run over the training folder by itself has the names of the test folder: the folders that it was given tell."""
    for name in IMAGES:
        picture(tmp_path / "train" / name)
    rows = ours(tmp_path / "p.parquet", tmp_path / "train", {key: [(1, (0, 0, 8, 8))] for key in IMAGES})

    with pytest.raises(ConfigError, match="another split or class"):
        evaluate([settings(faces.rename(tmp_path / "test"), tmp_path / "r", predictions=str(rows))])


def test_every_labelled_image_is_accounted_for_by_one_reason(tmp_path):
    """Found, unmatched, ambiguous and of another folder add up to N."""
    names = ["test/a.png", "test/b.png", "test/c.png", "test/x/d.png", "test/y/d.png"]
    is_found, result = found_in(names, table(tmp_path / "p.csv", ["test/a.png", "train/b.png", "d.png"]))
    summary = result.summary
    counts = (sum(summary.how.values()), summary.unmatched.n, summary.ambiguous.n, summary.contradicted.n)

    assert counts == (1, 1, 2, 1)
    assert is_found == [True, False, False, False, False]
    assert sum(counts) == len(names)
