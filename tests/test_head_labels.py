"""Labels find their faces in an output of annotate, or it is said why they do not."""

from __future__ import annotations

import numpy as np
import polars
import pytest

from motivnet_cli.errors import ConfigError
from motivnet_cli.training.config import HeadConfig
from motivnet_cli.training.embeddings import read_finite, read_labelled_faces
from motivnet_cli.training.train_head import train_head
from tests.labelled import blobs, record_of_the_embedded_model, write_labels, write_output

INPUTS = ("a/1.jpg", "a/2.jpg", "a/2.jpg", "b/1.jpg", "clip.mp4", "clip.mp4", "clip.mp4", "clip.mp4")
FRAMES = (None, None, None, None, 0, 0, 25, 25)
FACES = (0, 0, 1, 0, 0, 1, 0, 1)
TRACKS = (None, None, None, None, 1, 2, 1, 2)
SIDES = (9, 5, 8, 9, 20, 10, 20, 30)


@pytest.fixture
def output(tmp_path):
    embeddings = np.arange(8)[:, None] + np.zeros((8, 4))
    return write_output(
        tmp_path / "p.parquet", embeddings, inputs=INPUTS, frames=FRAMES, faces=FACES, tracks=TRACKS, sides=SIDES
    )


def read(output, tmp_path, header, rows, **options):
    labels = write_labels(tmp_path / "labels.csv", header, rows)
    return read_labelled_faces(HeadConfig(predictions=output, labels=labels, out="m", **options))


def named(faces):
    return {int(row): faces.classes[label] for row, label in zip(faces.rows, faces.labels, strict=True)}


def test_a_label_of_an_input_is_that_of_its_face(output, tmp_path):
    """Pictures with one face each; classes are in the order of tables, the known emotions first."""
    faces = read(output, tmp_path, ("path", "label"), [("b/1.jpg", "happiness"), ("a/1.jpg", "awe")])

    assert named(faces) == {0: "awe", 3: "happiness"}
    assert faces.classes == ("happiness", "awe")
    assert len(set(faces.groups)) == 2
    assert (faces.group_by, faces.dropped, faces.remarks) == ("input", {}, ())


@pytest.mark.parametrize(
    ("header", "rows", "found"),
    [
        (("input", "frame", "face", "label"), [("clip.mp4", 0, 1, "x"), ("clip.mp4", 25, 1, "y")], {5: "x", 7: "y"}),
        (("input", "face", "label"), [("a/2.jpg", 0, "x"), ("a/2.jpg", 1, "y")], {1: "x", 2: "y"}),
        (("input", "track", "label"), [("clip.mp4", 1, "x"), ("clip.mp4", 2, "y")], {4: "x", 6: "x", 5: "y", 7: "y"}),
        (("input", "frame", "face", "label"), [("a/2.jpg", "", 1, "x"), ("clip.mp4", 0, 0, "y")], {2: "x", 4: "y"}),
    ],
)
def test_columns_name_the_face(output, tmp_path, header, rows, found):
    """By frame, number and track, as the output has them; a picture has no frame."""
    assert named(read(output, tmp_path, header, rows)) == found


def test_a_name_that_may_be_of_two_inputs_is_left_out(tmp_path):
    """From the run's folder `1.jpg` is one picture, and from that of the labels another."""
    (tmp_path / "a").mkdir()
    record = record_of_the_embedded_model()
    record["settings"]["inputs.relative_to"] = str(tmp_path)
    inputs = ("1.jpg", "2.jpg", "3.jpg", "a/1.jpg")
    output = write_output(tmp_path / "p.parquet", np.ones((4, 4)), inputs=inputs, record=record)

    faces = read(output, tmp_path / "a", ("path", "label"), [(f"{n}.jpg", "xyz"[n - 1]) for n in (1, 2, 3)])

    assert named(faces) == {1: "y", 2: "z"}
    assert faces.dropped == {"input not in the output, or several could be meant": 1}


def test_of_several_faces_none_is_guessed(output, tmp_path):
    """A label that could be of two faces is refused with its input, unless the largest is asked for."""
    rows = [("a/1.jpg", "x"), ("a/2.jpg", "y"), ("clip.mp4", "z")]
    with pytest.raises(
        ConfigError, match=r"2 faces are in 'a/2\.jpg'.*pictures or frames in which this is so: 3\).*--largest-face"
    ):
        read(output, tmp_path, ("path", "label"), rows)

    faces = read(output, tmp_path, ("path", "label"), rows, largest_face=True)

    assert named(faces) == {0: "x", 2: "y", 4: "z", 7: "z"}
    assert faces.remarks[0] == "several faces in a picture or frame, 3 times: the largest has the label"


def test_all_frames_of_a_file_are_one_group(output, tmp_path):
    """And so are several faces of a picture, unless a column says who they are."""
    rows = [("clip.mp4", 0, 0, "x", "ann"), ("clip.mp4", 25, 0, "y", "bob"), ("a/1.jpg", "", 0, "y", "ann")]
    header = ("path", "frame", "face", "label", "subject")

    by_subject = read(output, tmp_path, header, rows)
    by_input = read(output, tmp_path, header, rows, group_by="input")

    assert by_subject.group_by == "subject"
    assert by_subject.groups[0] == by_subject.groups[1] != by_subject.groups[2]
    assert by_input.groups[1] == by_input.groups[2] != by_input.groups[0]


def test_a_subject_that_is_not_named_is_no_group_of_all_such(output, tmp_path):
    """Their inputs are groups instead, and it is said."""
    rows = [("a/1.jpg", "x", "ann"), ("b/1.jpg", "y", "")]
    faces = read(output, tmp_path, ("path", "label", "subject"), [*rows, ("clip.mp4", "y", "")], largest_face=True)

    assert faces.groups[2] == faces.groups[3] != faces.groups[1] != faces.groups[0]
    assert "the subject of 2 labels is not named" in faces.remarks[0]


def test_where_persons_are_the_classes_they_are_no_groups(output, tmp_path):
    """A head that tells persons apart must learn each of them."""
    rows = [("a/1.jpg", "ann"), ("b/1.jpg", "bob")]

    assert read(output, tmp_path, ("path", "person"), rows, label_column="person").group_by == "input"


def test_cells_without_a_label_are_counted(output, tmp_path):
    """Empty cells and NaN, as pandas leaves them; in Parquet, too, where whole numbers then are 1.0."""
    rows = [("a/1.jpg", "1"), ("b/1.jpg", ""), ("clip.mp4", " NaN ")]
    faces = read(output, tmp_path, ("path", "label"), rows)
    assert named(faces) == {0: "1"}
    assert faces.dropped == {"no label": 2}
    assert "2 rows" in faces.remarks[0]

    assert named(read(output, tmp_path, ("path", "label"), [("a/1.jpg", "1.0"), ("b/1.jpg", "")])) == {0: "1"}
    table = tmp_path / "labels.parquet"
    polars.DataFrame({"path": ["a/1.jpg", "b/1.jpg"], "label": [1.0, float("nan")]}).write_parquet(table)
    assert named(read_labelled_faces(HeadConfig(predictions=output, labels=str(table), out="m"))) == {0: "1"}

    with pytest.raises(ConfigError, match=r"no row of .* has a label in its column 'label'"):
        read(output, tmp_path, ("path", "label"), [("a/1.jpg", ""), ("b/1.jpg", "nan")])


def test_labels_without_a_face_are_counted_and_none_at_all_is_an_error(output, tmp_path):
    """Of an input that the output does not have, and of a face that it does not have."""
    rows = [("a/1.jpg", 0, "x"), ("a/1.jpg", 7, "y"), ("gone.jpg", 0, "y")]
    faces = read(output, tmp_path, ("path", "face", "label"), rows)

    assert named(faces) == {0: "x"}
    assert faces.dropped == {
        "no such face in the output": 1, "input not in the output, or several could be meant": 1,
    }  # fmt: skip
    assert len(faces.remarks) == 2
    with pytest.raises(ConfigError, match=r"no label of .* is of a face in .*'gone\.jpg'.*'a/1\.jpg'"):
        read(output, tmp_path, ("path", "face", "label"), rows[2:])
    with pytest.raises(ConfigError, match=r"labels have 'a/1\.jpg' face 7, and the output has 'a/1\.jpg' face 0"):
        read(output, tmp_path, ("path", "face", "label"), rows[1:2])


def test_names_are_matched_as_evaluate_matches_them(output, tmp_path):
    """By the end of a path; a file name that two inputs have is not guessed."""
    rows = [("/data/faces/a/1.jpg", "x"), (r"faces\b\1.jpg", "y"), ("1.jpg", "z")]
    faces = read(output, tmp_path, ("path", "label"), rows)

    assert named(faces) == {0: "x", 3: "y"}
    assert faces.dropped["input not in the output, or several could be meant"] == 1


@pytest.mark.parametrize(
    ("header", "rows", "options", "message"),
    [
        (("path", "label"), [("a/1.jpg", "x"), ("a/1.jpg", "y")], {}, r"'a/1\.jpg' has the label 'x' and 'y'"),
        (("path", "label", "subject"), [("a/1.jpg", "x", "p"), ("a/1.jpg", "x", "q")], {}, "has the group 'p' and 'q'"),
        (("path", "label"), [("a/1.jpg", "Joy"), ("b/1.jpg", "joy")], {}, "'Joy' and 'joy' differ in the case"),
        (("path", "label"), [("", "x")], {}, "1 labels of .* have no 'path'"),
        (("path", "Face", "label"), [("a/1.jpg", "0.5", "x")], {}, "has the face '0.5': expected a whole number"),
        (("path", "frame", "label"), [("clip.mp4", "first", "x")], {}, "has the frame 'first': expected a whole"),
        (("path", "mood"), [("a/1.jpg", "x")], {}, "no column of labels .*path, mood with --label-column"),
        (("shot", "label"), [("a/1.jpg", "x")], {}, "no column of inputs .* with --path-column"),
        (("path", "label"), [("a/1.jpg", "x")], {"group_by": "who"}, "has no column 'who'; it has path, label"),
        (
            ("path", "label", "fold"),
            [("a/1.jpg", "x", "1"), ("b/1.jpg", "y", "1")],
            {"fold_column": "fold"},
            "all labelled faces are of the fold '1'",
        ),
        (
            ("path", "label", "subject", "fold"),
            [("a/1.jpg", "x", "ann", "1"), ("b/1.jpg", "y", "ann", "2")],
            {"fold_column": "fold"},
            "1 groups are in several folds, such as the subject 'ann' in '1' and '2'",
        ),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(output, tmp_path, header, rows, options, message):
    """Two labels of a face, leaking folds, classes that a reader would take for one, and columns that are not there."""
    with pytest.raises(ConfigError, match=message):
        read(output, tmp_path, header, rows, **options)


def test_embeddings_that_are_missing_or_not_finite_are_left_out(tmp_path):
    """With their labels, and it is said."""
    rows = [np.ones(4), None, [1, np.nan, 1, 1], [np.inf, 1, 1, 1], np.full(4, 2)]
    output = write_output(tmp_path / "p.parquet", rows, inputs=[f"{number}.jpg" for number in range(5)])
    labels = write_labels(tmp_path / "l.csv", ("path", "label"), [(f"{number}.jpg", "x") for number in range(5)])

    faces, x = read_finite(read_labelled_faces(HeadConfig(predictions=output, labels=labels, out="m")), output)

    assert faces.rows.tolist() == [0, 4]
    np.testing.assert_array_equal(x, [[1] * 4, [2] * 4])
    assert faces.dropped == {"embedding missing or not finite": 3}


# ---- what cannot be judged --------------------------------------------------------------------------------


def train(tmp_path, embeddings, rows, header=("path", "label"), *, record=None, **options):
    output = write_output(
        tmp_path / "p.parquet", embeddings, inputs=[f"{number}.jpg" for number in range(len(embeddings))], record=record
    )
    labels = write_labels(tmp_path / "l.csv", header, rows)
    config = HeadConfig(
        predictions=output,
        labels=labels,
        out=str(tmp_path / "m"),
        store=str(tmp_path / "store"),
        **options,
    )
    return train_head(config)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["x"] * 6, "a model tells at least two classes apart, and the labels have: 'x'"),
        (["x", "input"] * 3, "no class can be called 'input'"),
        (["x", "y,z"] * 3, "no class can be called 'y,z'"),
    ],
)
def test_labels_that_are_no_classes_are_refused(tmp_path, labels, message):
    """One class, and names that no column can have."""
    with pytest.raises(ConfigError, match=message):
        train(tmp_path, np.eye(6), [(f"{number}.jpg", label) for number, label in enumerate(labels)])


def test_too_few_groups_are_refused(tmp_path):
    """One subject, and two of one class each."""
    header = ("path", "label", "subject")
    rows = [(f"{number}.jpg", "xy"[number % 2], "ann") for number in range(6)]
    with pytest.raises(ConfigError, match="1 groups by subject, too few to hold some out"):
        train(tmp_path, np.eye(6), rows, header)
    rows = [(f"{number}.jpg", "xy"[number % 2], "pq"[number % 2]) for number in range(6)]
    with pytest.raises(ConfigError, match=r"with one fold held out, all faces left are '[xy]'"):
        train(tmp_path, np.eye(6), rows, header)


def test_a_class_with_one_face_counts_as_wrong_and_is_named(tmp_path):
    """It can be learned, and not judged."""
    x, labels, _ = blobs(groups=24, a_group=1)
    rows = [(f"{number}.jpg", "rare" if not number else "xy"[label]) for number, label in enumerate(labels)]

    model, judged = train(tmp_path, x, rows)

    assert any(remark.startswith("all faces of rare are of one group") for remark in model.training.remarks)
    assert {row.class_: row.recall for row in judged.scores().per_class}["rare"] == 0
    assert model.training.data.counts["train"]["rare"] == 1


def test_copies_under_other_names_are_of_one_group(tmp_path):
    """Labels by chance of pictures that are there thrice are guessed at chance, and the copies are remarked."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(60, 8)), 3, axis=0)
    labels = np.repeat(rng.integers(2, size=60), 3)

    model, judged = train(
        tmp_path, x, [(f"{number}.jpg", f"c{label}") for number, label in enumerate(labels)], kind="knn"
    )

    assert model.training.settings["groups"] == 60
    assert (judged.probabilities.argmax(axis=1) == judged.labels).mean() < 0.7
    assert any("very embedding of a face in another: 120" in remark for remark in model.training.data.remarks)


def test_embeddings_of_a_model_that_is_not_here_are_refused(tmp_path):
    """A head needs its encoder, so that annotate can take it."""
    record = record_of_the_embedded_model() | {"model": "sapiens-1b", "weights_sha256": "0" * 64}
    with pytest.raises(ConfigError, match="sapiens-1b with the sha256 000000000000, which is not in the store"):
        train(tmp_path, np.eye(6), [(f"{number}.jpg", "xy"[number % 2]) for number in range(6)], record=record)


def test_an_output_without_embeddings_is_refused(tmp_path, output):
    """Nothing can be learned from boxes."""
    polars.read_parquet(output).drop("embedding").write_parquet(output)
    with pytest.raises(ConfigError, match="--embeddings none"):
        read(output, tmp_path, ("path", "label"), [("a/1.jpg", "x")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "folds must lie between 2 and 1000, got 1"), ({"kind": "svm"}, "one of linear, mlp, knn"),
        ({"shots": (5, 0)}, r"shots must lie between 1 and .*, got 0"), ({"seed": -1}, "seed must lie"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(options, message):
    """Before anything is read."""
    with pytest.raises(ConfigError, match=message):
        HeadConfig(predictions="p", labels="l", out="m", **options)
