"""Predictions of any tool are read by name, and find the labelled images they belong to, or are said not to."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from motivnet_cli.config import OutputConfig
from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.matching import match
from motivnet_cli.evaluation.predictions import read_predictions
from motivnet_cli.evaluation.results import to_json
from motivnet_cli.inputs.listing import Listing
from motivnet_cli.output.sink import Output
from motivnet_cli.output.tables import RowLayout
from motivnet_cli.records import EMOTIONS, Batch, Crop, Cursor, Face, InputReport, Position, Prediction, Problem, never

NO_PIXELS = np.zeros((3, 1, 1), np.uint8)
CERTAIN = np.eye(7, dtype=np.float32)
HEADER = "path," + ",".join(EMOTIONS)
DEEPFACE = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def csv(tmp_path, *lines, name="preds.csv"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def labels_csv(tmp_path, *rows):
    return csv(tmp_path, "path,pred", *rows)


def ours(out, root, answers, *, classes=EMOTIONS, weights=None):
    """An output as `annotate` writes it: for each picture a list of (emotion id, box), or why it failed."""
    root.mkdir(parents=True, exist_ok=True)
    for name in answers:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    record = {"tool": "motivnet 0", "model": "m", "weights_sha256": "0", "recipe": "pad", "faces": {}, "terms": ""}
    record |= {"classes": list(classes), "settings": {"inputs.paths": [str(root)]}}
    with Output(OutputConfig(path=str(out)), record=record, layout=RowLayout(tuple(classes), 2)) as output:
        crops, finished, rows = [], [], []
        run = output.begin(Listing([str(root)]))
        for todo in next(run.rounds(never)):
            item, place = todo.item, Position(todo.item.index)
            answer = answers[item.input]
            problem = Problem("damaged", "does not decode") if answer == "damaged" else None
            faces = [] if problem else answer
            for number, (emotion, box) in enumerate(faces):
                crops.append(Crop(place, item.input, Face(box, "detected", 0.9), number, NO_PIXELS))
                rows.append(np.eye(len(classes))[emotion] if weights is None else weights)
            status = "failed" if problem else "ok" if faces else "no_face"
            finished.append(
                InputReport(
                    place,
                    item.input,
                    item.kind,
                    status,
                    num_frames=1,
                    num_faces=len(faces),
                    width=9,
                    height=9,
                    problem=problem,
                    size_bytes=item.size_bytes,
                )
            )
        prediction = Prediction(np.array(rows, np.float32), np.zeros((len(rows), 2), np.float32)) if rows else None
        run.write(Batch(tuple(crops), tuple(finished), Cursor(Position(len(finished)))), prediction)
        assert run.complete() == "finished"
    return out


# ---- reading another tool's -------------------------------------------------------------------------------


def test_deepface_columns_in_percent_by_name(tmp_path):
    """Seven percentages in DeepFace's order are taken by name: each image's largest is the right emotion."""
    lines = ["img," + ",".join(DEEPFACE)]
    for number in range(7):
        lines.append(f"{number}.jpg," + ",".join("94" if place == number else "1" for place in range(7)))
    predictions = read_predictions(csv(tmp_path, *lines))
    expected = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]

    assert [EMOTIONS[each] for each in predictions.predicted] == expected
    assert predictions.probabilities.max(axis=1) == pytest.approx([0.94] * 7)
    assert predictions.probabilities.sum(axis=1) == pytest.approx([1] * 7)
    assert predictions.columns["anger"] == "angry"
    assert predictions.remarks == ("the values are in percent",)


@pytest.mark.parametrize(
    "header",
    [
        "neutral,happiness,sadness,surprise,fear,disgust,anger",
        "Neutral,Happy,Sad,Surprised,Fearful,Disgusted,Angry",
        "prob_neutral,prob_happy,prob_sad,prob_surprise,prob_fear,prob_disgust,prob_anger",
        "emotion.neutral,emotion.happy,emotion.sad,emotion.surprise,emotion.fear,emotion.disgust,emotion.angry",
        "neutral (%),happiness (%),sadness (%),surprise (%),fear (%),disgust (%),anger (%)",
    ],
)
def test_spellings_of_the_seven(tmp_path, header):
    """Nouns, adjectives, capitals, prefixes and dots all name the same emotions, in whatever order."""
    names = header.split(",")
    turned = [names[place] for place in (6, 2, 4, 0, 1, 5, 3)]
    lines = [f"{i}.png," + ",".join("0.7" if name == names[i] else "0.05" for name in turned) for i in range(7)]

    assert list(read_predictions(csv(tmp_path, "File Name," + ",".join(turned), *lines)).predicted) == list(range(7))


def test_deepface_json_lines(tmp_path):
    """Objects within a line are columns: the scores under `emotion`, the box under `region`, as x y w h."""
    line = {"path": "a.jpg", "emotion": dict.fromkeys(DEEPFACE, 0.0) | {"sad": 100.0}, "dominant_emotion": "sad"}
    line["region"] = {"x": 10, "y": 20, "w": 30, "h": 40}
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(line) + "\n")
    predictions = read_predictions(path)

    assert [EMOTIONS[each] for each in predictions.predicted] == ["sadness"]
    assert predictions.boxes.tolist() == [[10, 20, 40, 60]]


@pytest.mark.parametrize(("name", "separator"), [("p.csv", ";"), ("p.csv", "\t"), ("p.tsv", "\t"), ("p.TSV", ",")])
def test_cells_may_be_separated_otherwise(tmp_path, name, separator):
    """Commas, semicolons and tabs are told apart by the first line, as in manifests and labelled sets."""
    lines = [separator.join(row) for row in (("path", "pred"), ("007", "happy"))]
    predictions = read_predictions(csv(tmp_path, *lines, name=name))

    assert (predictions.images, predictions.predicted.tolist()) == (("007",), [1])


def test_parquet_and_folder_of_parquet(tmp_path):
    """A foreign Parquet file and a folder of such parts are read alike."""
    table = pl.DataFrame({"file": ["a.jpg"], **{name: [float(name == "fear")] for name in EMOTIONS}})
    (tmp_path / "parts").mkdir()
    table.write_parquet(tmp_path / "one.parquet")
    table.write_parquet(tmp_path / "parts" / "0.parquet")

    for path in (tmp_path / "one.parquet", tmp_path / "parts"):
        predictions = read_predictions(path)
        assert (predictions.kind, predictions.images, list(predictions.predicted)) == ("parquet", ("a.jpg",), [4])


def test_rounded_rows_are_normalised_and_counted(tmp_path):
    """Rows off by the rounding of two decimals are scaled to 1, and counted above 1 %; so it is in percent."""
    rows = ["a,0.49,0.47,0,0,0,0,0", "b,0.503,0.5,0,0,0,0,0", "c,1,0,0,0,0,0,0"]
    predictions = read_predictions(csv(tmp_path, HEADER, *rows))
    percent = read_predictions(csv(tmp_path, HEADER, "a,47,45,0,0,0,0,0", "b,17,15,15,15,14,14,14"))

    assert predictions.probabilities[0, :2] == pytest.approx([49 / 96, 47 / 96])
    assert predictions.probabilities.sum(axis=1) == pytest.approx([1] * 3)
    assert predictions.remarks == ("1 rows do not sum to 1 within 1%: normalised",)
    assert percent.remarks == ("the values are in percent", "2 rows do not sum to 100 within 1%: normalised")


@pytest.mark.parametrize("digits", [2, 4])
@pytest.mark.parametrize("scale", [1, 100])
@pytest.mark.parametrize("cut", [np.round, lambda values: np.floor(values + 1e-9)])
def test_what_tools_round_is_read(tmp_path, digits, scale, cut):
    """Seven and eight classes, flat and peaked, rounded and cut to two decimals or whole percent."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.dirichlet([a] * 8, 200) for a in (0.1, 1, 50)])
    values = cut(values * 10**digits) / 10**digits * scale
    values = values[values.sum(axis=1) > 0]
    lines = [f"{row}.png," + ",".join(f"{value:.6g}" for value in line) for row, line in enumerate(values)]

    assert len(read_predictions(csv(tmp_path, HEADER + ",contempt", *lines)).images) == len(values)


FAR = {
    "sigmoids": ("0.9,0.8,0.1,0.2,0.3,0.1,0.1", "2.5", 1),
    "logits that happen to be positive": ("3.1,0.2,0.4,1,0.5,0.2,0.1", "5.5", 1),
    "votes of ten": ("7,1,1,1,0,0,0", "10", 1),
    "one decimal": ("0.1,0.1,0.1,0.1,0.1,0.1,0.3", "0.9", 1),
    "a class that is not there": ("0.2,0.2,0,0,0,0,0", "0.4", 1),
    "logits like percent": ("30,20,40,10,15,10,5", "130", 100),
    "an infinity": ("inf,0,0,0,0,0,0", "inf", 1),
}


@pytest.mark.parametrize("case", FAR)
def test_values_that_are_no_probabilities_are_refused(tmp_path, case):
    """A positive row far from 1 or 100 is named with its sum and what to do; one among many good rows, too."""
    row, total, scale = FAR[case]
    good = ",".join(str(scale * value) for value in (1, 0, 0, 0, 0, 0, 0))
    path = csv(tmp_path, HEADER, *(f"{number}.png,{good}" for number in range(5)), f"bad.png,{row}")

    with pytest.raises(
        ConfigError, match=rf"row 6 of .* sums to {total} over the emotions: expected {scale}, .*softmax"
    ):
        read_predictions(path)


def test_a_row_that_lacks_values_is_missed_for_that(tmp_path):
    """Values of some emotions are no distribution, whatever they sum to."""
    predictions = read_predictions(csv(tmp_path, HEADER, "a,1,,0,0,0,0,0", "b,1,0,0,0,0,0,0", "c,,,0,0,0,0,0"))

    assert predictions.misses == ("row that lacks values", None, "empty row")


def test_a_label_that_contradicts_the_probabilities_is_counted_and_said(tmp_path):
    """Of equals the label counts, blanks say nothing, other names are counted apart; else the probabilities count."""
    rows = ["a,happy,1,0,0,0,0,0,0", "b,Neutral,1,0,0,0,0,0,0", "c,sad,0.5,0,0.5,0,0,0,0", "d,,1,0,0,0,0,0,0"]
    rows += ["e,smile,1,0,0,0,0,0,0", "f,contempt,1,0,0,0,0,0,0", "g,sad,0,0,0,0,0,0,0"]
    predictions = read_predictions(csv(tmp_path, HEADER.replace("path,", "path,dominant_emotion,"), *rows))

    assert predictions.doubts == (
        "in 2 rows 'dominant_emotion' is not the most probable emotion (row 1: 'happy' and neutral): "
        "the probabilities count",
        "in 1 rows 'dominant_emotion' names no emotion (row 5: 'smile'): it was not compared with the probabilities",
    )
    assert predictions.remarks == predictions.doubts
    assert predictions.predicted.tolist() == [0, 0, 2, 0, 0, 0]


def test_equal_probabilities_are_said(tmp_path):
    """A row that says the same of all emotions is no prediction of the first: how many there are is said first."""
    flat = ",".join(["0.142857"] * 7)
    predictions = read_predictions(csv(tmp_path, HEADER, f"a,{flat}", "b,0.1,0.1,0.4,0.4,0,0,0", "c,0,0,1,0,0,0,0"))

    assert predictions.doubts[0].startswith("in 2 rows several emotions are the most probable: the first in the order")
    assert predictions.predicted.tolist() == [0, 2, 2]


def test_contempt_is_no_contradiction_where_it_has_a_column(tmp_path):
    """The label of eight classes is compared with all eight."""
    header = HEADER.replace("path,", "path,pred,") + ",contempt"
    predictions = read_predictions(
        csv(tmp_path, header, "a,contempt,0.4,0,0,0,0,0,0,0.6", "b,neutral,0.4,0,0,0,0,0,0,0.6")
    )

    assert [doubt.partition(" (")[0] for doubt in predictions.doubts] == [
        "in 1 rows 'pred' is not the most probable emotion"
    ]


def test_contempt_is_left_out_and_said(tmp_path):
    """Of eight classes the seven are normalised; how often contempt was ahead is said."""
    header = "path," + ",".join(EMOTIONS) + ",contempt,age"
    path = csv(tmp_path, header, "a,0.3,0.1,0,0,0,0,0,0.6,30", "b,0.6,0.4,0,0,0,0,0,0,31", "c,0,0,0,0,0,0,0,1,32")
    predictions = read_predictions(path)

    assert predictions.probabilities[0, :2] == pytest.approx([0.75, 0.25])
    assert predictions.misses == (None, None, "contempt")
    assert predictions.remarks[0].startswith("contempt left out, the seven normalised; it was the most probable in 2")
    assert predictions.remarks[1] == "columns not used: age"


def test_contempt_is_kept_where_it_is_a_class(tmp_path):
    """As the eighth probability, 0 where the tool has none, or as a label; nothing is normalised away."""
    eight = (*EMOTIONS, "contempt")
    header = "path," + ",".join(("contempt", *EMOTIONS))
    with_it = read_predictions(csv(tmp_path, header, "a,0.6,0.3,0.1,0,0,0,0,0", "c,1,0,0,0,0,0,0,0"), classes=eight)
    path = csv(tmp_path, "path," + ",".join(EMOTIONS), "a,0.75,0.25,0,0,0,0,0", name="seven.csv")
    without, labels = read_predictions(path, classes=eight), labels_csv(tmp_path, "a,Happy", "c,contempt")

    assert with_it.probabilities[0].tolist() == pytest.approx([0.3, 0.1, 0, 0, 0, 0, 0, 0.6])
    assert (with_it.predicted.tolist(), with_it.misses, with_it.remarks) == ([7, 7], (None, None), ())
    assert without.probabilities.tolist() == [[0.75, 0.25, 0, 0, 0, 0, 0, 0]]
    assert read_predictions(labels, classes=eight).predicted.tolist() == [1, 7]


def test_rows_without_values_are_misses(tmp_path):
    """Empty cells and NaN, as tools write where they found no face, give no prediction; a second row may."""
    header = "input," + ",".join(EMOTIONS)
    full, empty, nan = ",0,1,0,0,0,0,0", "," * 7, ",nan" * 7
    predictions = read_predictions(csv(tmp_path, header, f"a{full}", f"b{empty}", f"c{nan}", f"d{nan}", f"d{full}"))

    assert predictions.images == ("a", "b", "c", "d")
    assert predictions.misses == (None, "empty row", "empty row", None)
    assert predictions.image_of.tolist() == [0, 3]


def test_labels_only(tmp_path):
    """A column of names gives predictions without probabilities; contempt and blanks are misses."""
    predictions = read_predictions(labels_csv(tmp_path, "a,Happy", "b,anger", "c,contempt", "d,", "e,No face"))

    assert predictions.probabilities is None
    assert [EMOTIONS[each] for each in predictions.predicted] == ["happiness", "anger"]
    assert predictions.misses == (None, None, "contempt", "empty row", "empty row")


def test_the_predicted_label_is_not_the_true_one(tmp_path):
    """`predicted_emotion` wins over `emotion` and `label`; `emotion` and `label` alone are ambiguous until named."""
    path = csv(tmp_path, "image_path,emotion,label,predicted_emotion", "a,sad,sad,happy")
    unsure = csv(tmp_path, "image_path,emotion,label", "a,sad,happy", name="unsure.csv")

    assert read_predictions(path).predicted.tolist() == [1]
    with pytest.raises(ConfigError, match=r"emotion and label .* may all be the predicted label"):
        read_predictions(unsure)
    assert read_predictions(unsure, columns={"label": "label"}).predicted.tolist() == [1]


@pytest.mark.parametrize(
    ("lines", "columns"),
    [
        (["path,label,y_hat", "a,sad,happy", "b,happy,happy"], "label and y_hat"),
        (["path,expression,net", "a,sad,", "b,happy,no face", "c,fear,Fearful"], "expression and net"),
        (["path,pred,predicted_label", "a,happy,happy", "b,sad,happy"], "predicted_label and pred"),
        (["path,Prediction,prediction", "a,happy,happy", "b,sad,happy"], "Prediction and prediction"),
    ],
)
def test_two_columns_that_may_be_the_label_are_refused(tmp_path, lines, columns):
    """Whatever the names say, the one that is taken could be the truth, or another model's."""
    with pytest.raises(ConfigError, match=rf"columns {columns} of .* may all be the predicted label: .*naming it pred"):
        read_predictions(csv(tmp_path, *lines))


@pytest.mark.parametrize(
    ("lines", "taken"),
    [
        (["path,predicted,pred", "a,3,happy", "b,0,sad"], "pred"),
        (["path,pred,prediction", "a,happy,Happiness", "b,sad,Sad"], "prediction"),
        (["path,label,true_label", "a,happy,sad", "b,sad,sad"], "label"),
        (["path,expression,Ground Truth", "a,happy,sad", "b,sad,sad"], "expression"),
        (["path,emotion,comment", "a,happy,sad day", "b,sad,"], "emotion"),
        (["image_path,pitch,facial_expression", "a,1,Happiness", "b,2,Sadness"], "facial_expression"),
    ],
)
def test_columns_beside_the_label_that_are_none(tmp_path, lines, taken):
    """Numbers, the same in other words, the truth by its name, and text: one column alone can be meant."""
    predictions = read_predictions(csv(tmp_path, *lines))

    assert predictions.columns["label"] == taken
    assert predictions.predicted.tolist() == [1, 2]


def test_columns_can_be_named(tmp_path):
    """What is not found by itself is given by name, emotions one by one too."""
    header = "who,p0," + ",".join(EMOTIONS[1:])
    path = csv(tmp_path, header, "a,1,0,0,0,0,0,0")

    assert read_predictions(path, columns={"path": "who", "neutral": "p0"}).predicted.tolist() == [0]
    with pytest.raises(ConfigError, match="has no column 'p9' for neutral; it has who, p0"):
        read_predictions(path, columns={"path": "who", "neutral": "p9"})
    with pytest.raises(ConfigError, match="unknown column role 'joy'"):
        read_predictions(path, columns={"joy": "p0"})


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("p.csv", ["who,pred", "a,happy"], "has no path column, one of path, .*; it has who, pred"),
        ("p.csv", ["path,happy,sad", "a,1,0"], "has no column for neutral, surprise, fear, disgust, anger"),
        ("p.csv", ["path,pred", "a,smile"], "row 1 of .* has the label 'smile'"),
        ("p.csv", ["path,pred", "a,3"], "every tool numbers emotions differently"),
        ("p.csv", ["path,pred", ",happy"], "row 1 of .* has no 'path'"),
        ("p.csv", ["path,happy,prob_happy", "a,1,1"], "happy and prob_happy .* may all be happiness"),
        ("p.csv", ["path," + ",".join(EMOTIONS), "a,-3,1,0,0,0,0,0"], "of logits take the softmax"),
        ("p.csv", ["path," + ",".join(EMOTIONS), "a,lots,1,0,0,0,0,0"], "'neutral' of .* holds 'lots'"),
        ("p.csv", [], "the table of predictions .* cannot be read"),
        ("p.txt", ["path,pred", "a,happy"], "are read from .parquet, .csv"),
        ("p.parquet", ["no parquet"], "the table of predictions .* cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, lines, message):
    """Errors name the file, the value, and what was expected."""
    with pytest.raises(ConfigError, match=message):
        read_predictions(csv(tmp_path, *lines, name=name) if lines else _touched(tmp_path / name))


def _touched(path):
    path.touch()
    return path


def test_nothing_there(tmp_path):
    """A missing file, and a folder without tables, are said."""
    with pytest.raises(ConfigError, match="no predictions at"):
        read_predictions(tmp_path / "none.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"holds no \.parquet file"):
        read_predictions(tmp_path / "empty")


# ---- reading our own --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["preds.parquet", "preds"])
def test_our_own_output(tmp_path, name):
    """Both forms give rows, boxes, absolute paths, the record, and why a picture has none."""
    box = (1.0, 2.0, 3.0, 4.0)
    answers = {"a.jpg": [(1, box)], "b.jpg": [], "c.jpg": "damaged", "sub/d.jpg": [(6, box), (2, box)]}
    predictions = read_predictions(ours(tmp_path / name, tmp_path / "set", answers))

    assert predictions.kind == "motivnet"
    assert predictions.images == ("a.jpg", "b.jpg", "c.jpg", "sub/d.jpg")
    assert predictions.misses == (None, "no face was found", "damaged", None)
    assert predictions.paths[3] == str(tmp_path / "set" / "sub" / "d.jpg")
    assert predictions.predicted.tolist() == [1, 6, 2]
    assert predictions.image_of.tolist() == [0, 3, 3]
    assert predictions.boxes.tolist() == [list(box)] * 3
    assert predictions.origin["recipe"] == "pad"


def test_our_eight_classes(tmp_path):
    """A model with contempt is scored on the seven, and it is said."""
    weights = [0.3, 0.1, 0, 0, 0, 0, 0, 0.6]
    out = ours(tmp_path / "p.parquet", tmp_path / "set", {"a.jpg": [(0, (0, 0, 1, 1))]},
               classes=(*EMOTIONS, "contempt"), weights=weights)  # fmt: skip
    predictions = read_predictions(out)

    assert predictions.probabilities[0, :2] == pytest.approx([0.75, 0.25])
    assert "contempt left out" in predictions.remarks[0]
    kept = read_predictions(out, classes=(*EMOTIONS, "contempt"))
    assert (kept.predicted.tolist(), kept.remarks) == ([7], ())


def test_a_run_without_the_seven_is_refused(tmp_path):
    """A network of one's own classes has no probability for some emotions: nothing is put in their place."""
    out = ours(tmp_path / "p.parquet", tmp_path / "set", {"a.jpg": [(0, (0, 0, 1, 1))]},
               classes=EMOTIONS[:-1], weights=[1, 0, 0, 0, 0, 0])  # fmt: skip
    with pytest.raises(ConfigError, match="lacks anger"):
        read_predictions(out)


def test_a_model_without_emotions_is_refused(tmp_path):
    """An encoder's output has nothing to score."""
    out = ours(tmp_path / "p.parquet", tmp_path / "set", {"a.jpg": []}, classes=())

    with pytest.raises(ConfigError, match="holds no emotions"):
        read_predictions(out)


# ---- matching ---------------------------------------------------------------------------------------------


def matched(tmp_path, rows, images, root="/data/set", **options):
    """Label predictions for `rows` matched to images below a folder."""
    predictions = read_predictions(labels_csv(tmp_path, *(f"{row},happy" for row in rows)))
    return match(predictions, images, [f"{root}/{image}" for image in images], **options)


@pytest.mark.parametrize(
    ("row", "way"),
    [
        ("/data/set/test/1/a.jpg", "absolute path"),
        ("test/1/a.jpg", "relative path"),
        ("./test/1/a.jpg", "relative path"),
        ("test\\1\\a.jpg", "relative path"),
        ("1/a.jpg", "path suffix"),
        ("set/test/1/a.jpg", "path suffix"),
        ("/home/other/RAF/test/1/a.jpg", "path suffix"),
        ("C:\\RAF\\test\\1\\a.jpg", "path suffix"),
        ("a.jpg", "file name"),
        ("/elsewhere/a.jpg", "file name"),
    ],
)
def test_ways_of_matching(tmp_path, row, way):
    """The strictest way that fits counts: absolute, relative, one the end of the other, file name."""
    result = matched(tmp_path, [row], ["test/1/a.jpg"])

    assert result.summary.how == {way: 1}
    assert result.predicted.tolist() == [1]


@pytest.mark.parametrize("row", ["test/1/\u00e9.jpg", "/x/test/1/e\u0301.jpg", "\u00e9.jpg"])
@pytest.mark.parametrize("image", ["test/1/\u00e9.jpg", "test/1/e\u0301.jpg"])
def test_one_letter_in_two_forms_is_one(tmp_path, row, image):
    """Letters with accents may be one character or two, as macOS writes them: names are the same all the same."""
    assert matched(tmp_path, [row], [image]).predicted.tolist() == [1]


def test_names_that_differ_in_form_only_are_two(tmp_path):
    """Of two files whose names look alike each has its own; one that is in neither form is not guessed."""
    names = ["\u00e9.jpg", "e\u0301.jpg"]
    predictions = read_predictions(labels_csv(tmp_path, f"{names[0]},sad", f"{names[1]},angry"))
    found = match(predictions, names[::-1], [None, None])
    other = match(predictions, ["\u0435\u0301.jpg"], [None])

    assert [EMOTIONS[each] for each in found.predicted] == ["anger", "sadness"]
    assert (other.predicted.tolist(), other.summary.unmatched.n) == ([-1], 1)


def test_same_file_names_are_told_apart_by_folders(tmp_path):
    """With a.jpg in two folders, paths decide, whatever the order of rows."""
    predictions = read_predictions(labels_csv(tmp_path, "/x/sad/a.jpg,sad", "/x/angry/a.jpg,angry"))
    result = match(predictions, ["angry/a.jpg", "sad/a.jpg"], [None, None])

    assert [EMOTIONS[each] for each in result.predicted] == ["anger", "sadness"]
    assert result.summary.how == {"path suffix": 2}


def test_a_file_name_that_is_not_unique_is_not_guessed(tmp_path):
    """Two labelled images, or two predictions, of one name: ambiguous, named, and a miss."""
    two_labelled = matched(tmp_path, ["a.jpg", "b.jpg"], ["1/a.jpg", "2/a.jpg", "2/b.jpg"])
    two_predicted = matched(tmp_path, ["/x/3/a.jpg", "/x/4/a.jpg"], ["1/a.jpg"])

    assert two_labelled.predicted.tolist() == [-1, -1, 1]
    assert (two_labelled.summary.ambiguous.n, two_labelled.summary.ambiguous.first) == (2, ("1/a.jpg", "2/a.jpg"))
    assert two_labelled.summary.unused.first == ("a.jpg",)
    assert two_predicted.predicted.tolist() == [-1]
    assert two_predicted.reasons == {0: "several predictions could be meant"}


def test_an_end_that_fits_two_is_not_guessed(tmp_path):
    """`1/a.jpg` is the end of an image of train and of one of test."""
    result = matched(tmp_path, ["1/a.jpg"], ["train/1/a.jpg", "test/1/a.jpg"])

    assert result.summary.ambiguous.n == 2
    assert result.summary.how == {}


def test_a_prediction_is_used_once(tmp_path):
    """A row found by its path is no candidate for another image with its file name."""
    result = matched(tmp_path, ["train/1/a.jpg"], ["train/1/a.jpg", "test/1/a.jpg"])

    assert result.predicted.tolist() == [1, -1]
    assert result.summary.unmatched.first == ("test/1/a.jpg",)
    assert result.summary.ambiguous.n == 0


def test_a_file_name_of_a_matched_image_is_not_unique(tmp_path):
    """A stray row named like two labelled images is not given to the one that is left."""
    result = matched(tmp_path, ["train/1/a.jpg", "/x/a.jpg"], ["train/1/a.jpg", "test/1/a.jpg"])

    assert result.predicted.tolist() == [1, -1]
    assert result.summary.ambiguous.first == ("test/1/a.jpg",)


def test_every_labelled_image_is_accounted_for(tmp_path):
    """Found, unmatched and ambiguous add up to N; names are kept up to a hundred; the JSON holds it all."""
    images = [f"{number}.jpg" for number in range(250)]
    result = matched(tmp_path, [*images[:100], "other.jpg"], images)
    found = to_json(result.summary)

    assert sum(result.summary.how.values()) + result.summary.unmatched.n + result.summary.ambiguous.n == 250
    assert (result.summary.unmatched.n, len(result.summary.unmatched.first)) == (150, 100)
    assert set(result.reasons) == set(range(100, 250))
    assert found["relative path"] == 100
    assert found["unused"] == {"n": 1, "first": ["other.jpg"]}
    assert json.loads(json.dumps(found)) == found


def test_our_misses_keep_their_reason(tmp_path):
    """An image that was looked at without a face is matched, and missed for that reason."""
    answers = {"a.jpg": [(3, (0, 0, 9, 9))], "b.jpg": [], "c.jpg": "damaged"}
    predictions = read_predictions(ours(tmp_path / "p.parquet", tmp_path / "set", answers))
    names = ["c.jpg", "b.jpg", "a.jpg", "d.jpg"]
    result = match(predictions, names, [str(tmp_path / "set" / name) for name in names])

    assert result.predicted.tolist() == [-1, -1, 3, -1]
    assert result.reasons == {0: "damaged", 1: "no face was found", 3: "not in the predictions"}
    assert result.summary.how == {"absolute path": 3}
    assert np.isnan(result.probabilities[[0, 1, 3]]).all()


def test_the_largest_of_several_faces_counts(tmp_path):
    """Without boxes of labels, the face with the largest box is taken, and said; without any boxes the first row."""
    answers = {"a.jpg": [(3, (0, 0, 9, 9)), (5, (20, 0, 60, 40)), (1, (70, 0, 80, 9))]}
    predictions = read_predictions(ours(tmp_path / "p.parquet", tmp_path / "set", answers))
    first = matched(tmp_path, ["a.jpg", "a.jpg"], ["a.jpg"])

    assert match(predictions, ["a.jpg"], [None]).predicted.tolist() == [5]
    assert "largest" in match(predictions, ["a.jpg"], [None]).summary.remarks[0]
    assert first.summary.remarks == ("1 images have several predicted faces: the first row was taken",)


def test_boxes_in_one_column_are_said_not_to_be_used(tmp_path):
    """Boxes are read from four columns; one column of lists is named among those that were not used."""
    predictions = read_predictions(csv(tmp_path, f"{HEADER},bbox", 'a,1,0,0,0,0,0,0,"[1, 2, 30, 40]"'))

    assert predictions.boxes is None
    assert "columns not used: bbox" in predictions.remarks


def test_labelled_boxes_choose_among_faces(tmp_path):
    """Faces of one image (`#k`) take the rows at their boxes, each row once; where none is, it is a miss."""
    answers = {"a.jpg": [(3, (0, 0, 10, 10)), (5, (20, 0, 60, 40))]}
    predictions = read_predictions(ours(tmp_path / "p.parquet", tmp_path / "set", answers))
    boxes = [(22, 1, 61, 41), (1, 1, 11, 11), (80, 80, 90, 90)]

    def predicted(*faces):
        names = [f"a.jpg#{face}" for face in faces]
        paths = [str(tmp_path / "set" / "a.jpg")] * len(faces)
        result = match(predictions, names, paths, boxes=[boxes[face] for face in faces])
        assert result.summary.how == {"absolute path": len(faces)}
        return result.predicted.tolist(), result.reasons

    assert predicted(0, 1) == ([5, 3], {})
    assert predicted(1, 2) == ([3, -1], {1: "no predicted face at the labelled one"})


def test_labelled_faces_without_boxes_are_not_guessed(tmp_path):
    """Two labelled faces of one image and rows without boxes: none is taken."""
    predictions = read_predictions(labels_csv(tmp_path, "a.jpg,happy", "a.jpg,sad"))
    result = match(predictions, ["a.jpg#0", "a.jpg#1"], ["/data/a.jpg"] * 2)

    assert result.predicted.tolist() == [-1, -1]
    assert set(result.reasons.values()) == {"no predicted face at the labelled one"}
