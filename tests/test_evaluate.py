"""`motivnet evaluate` and `motivnet compare` as a user calls them: from a folder of labelled faces to figures."""

from __future__ import annotations

import csv
import itertools
import json
import os
from pathlib import Path

import numpy as np
import polars
import pytest
from PIL import Image
from typer.testing import CliRunner

from motivnet_cli.cli import app
from motivnet_cli.cli.evaluate_options import AnswerOptions
from motivnet_cli.evaluation.config import EvaluateConfig
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.evaluation.matching import match
from motivnet_cli.evaluation.metrics import score
from motivnet_cli.evaluation.predictions import read_predictions
from motivnet_cli.records import EMOTIONS
from tests.agreement import assert_same_figures
from tests.pictures import SAMPLE_DATA
from tests.runs import evaluate_and_kill
from tests.test_datasets import every_layout, picture

TINY = Path(__file__).parent / "golden" / "motivnet_tiny_7.safetensors"
FOLDERS = ("neutral", "happy", "sad", "surprised", "fear", "disgust", "angry")
A_CLASS = 3


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == code, result.stderr
    return result


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A folder dataset: variants of one portrait under every emotion's name."""
    root = tmp_path_factory.mktemp("faces") / "set"
    rng = np.random.default_rng(0)
    with Image.open(SAMPLE_DATA / "astronaut.png") as portrait:
        face = portrait.convert("RGB").crop((150, 20, 300, 200))
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
        for number in range(A_CLASS):
            noisy = np.asarray(face.rotate(rng.uniform(-20, 20))) + rng.normal(0, 20, (180, 150, 3))
            Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(root / folder / f"{number}.jpg")
    return root


def deepface_table(faces, path, *, answer=lambda label: label):
    """What a loop around DeepFace writes: percent, its own names, in alphabetical order."""
    names = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    ours = dict(zip(("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry"), range(7), strict=True))
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["img_path", *names])
        for label, folder in enumerate(FOLDERS):
            for picture in sorted((faces / folder).iterdir()):
                rows.writerow([picture, *(94.0 if ours[name] == answer(label) else 1.0 for name in names)])
    return path


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_a_model_is_scored_on_a_folder(faces, tmp_path):
    """Predictions, figures and pages are written; the figures agree with the predictions themselves."""
    shown = run(
        "evaluate", "--dataset", "folder", "--root", faces, "--model", "expression-net", "--out", tmp_path / "r"
    )
    evaluation = metrics(tmp_path / "r")
    (scored,) = evaluation["runs"]
    rows = polars.read_parquet(tmp_path / "r" / "predictions.parquet")
    right = sum(
        EMOTIONS.index(emotion) == FOLDERS.index(Path(name).parent.name)
        for name, emotion in rows.select("input", polars.col("emotion").cast(str)).iter_rows()
    )

    assert {"report.html", "report.md", "figures", "metrics.json"} <= {path.name for path in (tmp_path / "r").iterdir()}
    assert scored["scores"]["n"] == 7 * A_CLASS
    assert scored["scores"]["all"]["accuracy"]["value"] == pytest.approx(right / (7 * A_CLASS))
    assert evaluation["dataset"]["counts"] == dict.fromkeys(EMOTIONS, A_CLASS)
    assert f"{scored['scores']['all']['accuracy']['value']:.4f}" in shown.stdout.splitlines()[1].split("\t")
    assert scored["predictions"]["weights_sha256"]
    assert len(scored["mistakes"]) == min(24, 7 * A_CLASS - right)


@pytest.mark.usefixtures("plain_figures")
def test_recipes_and_margins_are_scored_side_by_side(faces, tmp_path):
    """Each recipe with each margin is a run with predictions and figures of its own, and each pair is tested."""
    arguments = ("--weights", TINY, "--recipe", "stretch,pad", "--margin", "0.2,1", "--out", tmp_path / "r")
    shown = run("evaluate", "--dataset", "folder", "--root", faces, *arguments)
    scored, pairs = metrics(tmp_path / "r")["runs"], metrics(tmp_path / "r")["between"]
    variants = list(itertools.product(("stretch", "pad"), ("0.2", "1")))
    rows = [polars.read_parquet(tmp_path / "r" / f"predictions-{a}-margin-{b}.parquet") for a, b in variants]
    settings = [(each["predictions"]["recipe"], each["predictions"]["settings"]["faces.margin"]) for each in scored]

    assert [each["name"] for each in scored] == [f"recipe {recipe}, margin {margin}" for recipe, margin in variants]
    assert settings == [(recipe, float(margin)) for recipe, margin in variants]
    assert [(pair["a"], pair["b"]) for pair in pairs] == list(itertools.combinations((e["name"] for e in scored), 2))
    tested = [pairs[0]["all"]["accuracy_a"], pairs[0]["all"]["accuracy_b"]]
    assert tested == [each["scores"]["all"]["accuracy"]["value"] for each in scored[:2]]
    names = "\trecipe stretch, margin 0.2\trecipe stretch, margin 1"
    assert f"{names}\t21\t{tested[0]:.4f}\t{tested[1]:.4f}\t" in shown.stdout.partition("\n\n")[2]
    for a, b in itertools.combinations(rows, 2):
        assert not a.select(EMOTIONS).equals(b.select(EMOTIONS))
    assert "whole pictures" not in shown.stderr


@pytest.mark.usefixtures("plain_figures")
def test_faces_that_no_margin_changes_are_counted(faces, tmp_path):
    """A picture in which no face is found is taken whole, whatever the margin: the report says of how many so."""
    (tmp_path / "set" / "sad").mkdir(parents=True)
    for name in ("0.jpg", "1.jpg"):
        Image.open(faces / "sad" / name).save(tmp_path / "set" / "sad" / name)
    Image.new("RGB", (48, 48), "grey").save(tmp_path / "set" / "sad" / "2.jpg")
    command = ("evaluate", "--dataset", "folder", "--root", tmp_path / "set", "--model", "expression-net")

    run(*command, "--margin", "0.2", "--align", "--out", tmp_path / "r")

    (scored,) = metrics(tmp_path / "r")["runs"]
    assert scored["predictions"]["settings"]["faces.align"] is True
    (remark,) = [each for each in metrics(tmp_path / "r")["remarks"] if "margin" in each]
    assert (
        remark == "1 of 3 faces are whole pictures, in which none was found: neither a margin nor --align changes them"
    )


@pytest.mark.parametrize(
    ("recipe", "margin", "variants"),
    [
        (None, None, [(None, None)]),
        ("both", None, [("stretch", None), ("pad", None)]),
        ("all", "0", [("stretch", 0), ("pad", 0), ("stretch-224", 0)]),
        ("pad, pad", "0.3,.2,0.30", [("pad", 0.3), ("pad", 0.2)]),
    ],
)
def test_what_is_run_follows_from_recipes_and_margins(recipe, margin, variants):
    """One run of each pair, in the order in which they are named; `both` are those of MotivNet's reference."""
    options = AnswerOptions(recipe=recipe, margin=margin, weights=str(TINY))
    assert list(options.applied_to(EvaluateConfig(dataset="folder", root=".", out="r")).variants) == variants


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--margin", "0.2;0.3"], "--margin takes numbers with commas between, such as 0.15,0.2,0.3; got '0.2;0.3'"),
        (["--margin", "0.2,5"], "margin must be between 0 and 4 (times the face's height), got 5"),
        (["--margin", "0.2", "--faces", "whole"], "the images of folder are taken whole, without a margin"),
        (["--margin", "0.2", "--predictions", "p.csv"], "predictions made before have their crops already"),
        (["--align", "--faces", "whole"], "no detector sees the eyes of folder, whose faces are whole"),
        (["--recipe", "letterbox,pad"], "expression-net has no input recipe 'pad'"),
    ],
)
def test_runs_that_cannot_be_are_refused_before_any(faces, tmp_path, options, words):
    """A wrong recipe or margin, and one where nothing is cut, ends with exit code 2 and leaves nothing."""
    model = () if "--predictions" in options else ("--model", "expression-net")
    command = ("evaluate", "--dataset", "folder", "--root", faces, *model)
    assert words in run(*command, *options, "--out", tmp_path / "r", code=2).stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.usefixtures("plain_figures")
def test_another_split_is_never_given_the_predictions_of_the_first(tmp_path):
    """Splits of a table in one folder, as many images each: the second is refused, and alone gets its own figures."""
    rng = np.random.default_rng(0)
    rows = [(label, usage) for usage in ("PublicTest", "PrivateTest") for label in range(7)]
    lines = [f"{label},{' '.join(map(str, rng.integers(0, 256, 48 * 48)))},{usage}" for label, usage in rows]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *lines]))
    command = ("evaluate", "--dataset", "fer2013", "--root", tmp_path, "--model", "expression-net", "--resamples", "9")

    run(*command, "--split", "private", "--out", tmp_path / "r")
    refused = run(*command, "--split", "public", "--out", tmp_path / "r", code=2)
    run(*command, "--split", "public", "--out", tmp_path / "r2")

    assert "belongs to a run with other settings" in refused.stderr
    private, public = (metrics(tmp_path / folder)["runs"][0]["scores"] for folder in ("r", "r2"))
    assert private["n_scored"] == public["n_scored"] == 7
    assert private["scored"]["brier"] != public["scored"]["brier"]


@pytest.mark.thorough
@pytest.mark.usefixtures("plain_figures")
def test_another_tools_predictions_are_scored_by_name(faces, tmp_path):
    """Right answers in another order of columns, in percent, score 1; a permuted map permutes the confusion matrix."""
    right = deepface_table(faces, tmp_path / "right.csv")
    turned = deepface_table(faces, tmp_path / "turned.csv", answer=lambda label: (label + 1) % 7)
    for table, folder in ((right, "a"), (turned, "b")):
        run("evaluate", "--dataset", "folder", "--root", faces, "--predictions", table, "--out", tmp_path / folder)
    one, other = (metrics(tmp_path / folder)["runs"][0]["scores"] for folder in ("a", "b"))

    assert one["all"]["accuracy"]["value"] == 1.0
    assert one["scored"]["top2_accuracy"]["value"] == 1.0
    assert np.array_equal(np.array(one["confusion"]["counts"])[:, :7], A_CLASS * np.eye(7))
    assert np.array_equal(np.array(other["confusion"]["counts"])[:, :7], A_CLASS * np.roll(np.eye(7), 1, axis=1))


@pytest.mark.thorough
@pytest.mark.usefixtures("plain_figures")
def test_what_is_missed_counts_as_wrong_and_is_named(faces, tmp_path):
    """Images without a prediction lower the figure over all, not the one over those scored."""
    table = deepface_table(faces, tmp_path / "t.csv")
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-2]) + "\n")
    run("evaluate", "--dataset", "folder", "--root", faces, "--predictions", table, "--out", tmp_path / "r")
    (scored,) = metrics(tmp_path / "r")["runs"]

    assert scored["scores"]["scored"]["accuracy"]["value"] == 1.0
    assert scored["scores"]["all"]["accuracy"]["value"] == pytest.approx(1 - 2 / (7 * A_CLASS))
    assert [missed["image"] for missed in scored["missed"]] == ["angry/1.jpg", "angry/2.jpg"]
    assert sum(scored["missed_by_reason"].values()) == 2


@pytest.mark.usefixtures("plain_figures")
def test_a_broken_picture_is_a_miss_with_its_reason(faces, tmp_path):
    """The engine's failures reach the report."""
    root = tmp_path / "set"
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
        os.link(faces / folder / "0.jpg", root / folder / "0.jpg")
    (root / "fear" / "bad.jpg").write_bytes(b"\xff\xd8\xff no more")
    run("evaluate", "--dataset", "folder", "--root", root, "--model", "expression-net", "--out", tmp_path / "r")
    (scored,) = metrics(tmp_path / "r")["runs"]

    assert scored["scores"]["n_missed"] == 1
    assert [missed["image"] for missed in scored["missed"]] == ["fear/bad.jpg"]
    assert scored["missed"][0]["reason"]


@pytest.mark.thorough
@pytest.mark.usefixtures("plain_figures")
def test_the_most_confident_mistakes_are_named(tmp_path):
    """Of 30 wrong answers 24 are named, the most confident first; of 120 missed images a hundred."""
    for number in range(150):
        picture(tmp_path / "set" / "happy" / f"{number:03}.png")
    certainties = [0.6 + number / 100 for number in range(30)]
    lines = [f"{number:03}.png,{certainty},{1 - certainty},0,0,0,0,0" for number, certainty in enumerate(certainties)]
    (tmp_path / "p.csv").write_text("\n".join([f"path,{','.join(EMOTIONS)}", *lines]) + "\n")
    command = ("evaluate", "--dataset", "folder", "--root", tmp_path / "set", "--predictions", tmp_path / "p.csv")
    run(*command, "--out", tmp_path / "r", "--resamples", "9")
    (scored,) = metrics(tmp_path / "r")["runs"]

    assert [mistake["image"] for mistake in scored["mistakes"]] == [f"happy/{29 - rank:03}.png" for rank in range(24)]
    assert scored["mistakes"][0] | {"path": ""} == {
        **{"image": "happy/029.png", "path": "", "box": None, "label": "happiness", "predicted": "neutral"},
        "confidence": 0.89,
    }
    assert (len(scored["missed"]), scored["scores"]["n_missed"]) == (100, 120)
    assert "(the first 100)" in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.thorough
@pytest.mark.usefixtures("plain_figures")
def test_min_accuracy_gives_exit_code_4(faces, tmp_path):
    """Below the minimum the exit code is 4, at it 0."""
    right = deepface_table(faces, tmp_path / "right.csv")
    turned = deepface_table(faces, tmp_path / "turned.csv", answer=lambda label: (label + 1) % 7)
    command = ("evaluate", "--dataset", "folder", "--root", faces, "--min-accuracy", "1", "--out", tmp_path / "r")

    run(*command, "--predictions", right)
    assert "over all images, 0.0000, is below 1" in run(*command, "--predictions", turned, code=4).stderr


@pytest.mark.usefixtures("plain_figures")
def test_min_accuracy_of_clips_speaks_of_clips(tmp_path):
    """The message names what was counted."""
    (tmp_path / "a.mp4").touch()
    (tmp_path / "set.csv").write_text("path,label\na.mp4,happy\n")
    (tmp_path / "answers.csv").write_text("path,prediction\na.mp4,sad\n")
    command = (
        "evaluate",
        "--dataset",
        "csv",
        "--root",
        tmp_path / "set.csv",
        "--predictions",
        tmp_path / "answers.csv",
    )

    result = run(*command, "--min-accuracy", "1", "--out", tmp_path / "r", code=4)
    assert "over all clips, 0.0000, is below 1" in result.stderr


@pytest.mark.usefixtures("plain_figures")
def test_a_suite_ends_with_its_table(faces, tmp_path):
    """Two sets in one call: a report each, and a table over both with the mean at its foot."""
    table = tmp_path / "set.csv"
    rows = [f"{faces / folder / '0.jpg'},{folder}" for folder in FOLDERS]
    table.write_text("\n".join(["path,label", *rows]) + "\n")
    suite = f"folder={faces},csv={table}"
    shown = run("evaluate", "--suite", suite, "--model", "expression-net", "--out", tmp_path / "r", "--json")

    evaluations = json.loads(shown.stdout)
    assert [evaluation["dataset"]["name"] for evaluation in evaluations] == ["folder", "csv"]
    assert {"index.html", "suite.md", "suite.tex", "suite.html", "folder", "csv"} <= {
        p.name for p in (tmp_path / "r").iterdir()
    }
    accuracies = [each["runs"][0]["scores"]["all"]["accuracy"]["value"] for each in evaluations]
    assert f"{100 * sum(accuracies) / 2:.2f}" in (tmp_path / "r" / "suite.md").read_text().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --dataset NAME"),
        (["--dataset", "folder"], "--root"),
        (["--dataset", "raf", "--root", "."], "rafdb"),
        (["--dataset", "rafdb", "--root", ".", "--model", "expression-net"], "list_patition_label.txt"),
        (["--dataset", "folder", "--root", ".", "--suite", "folder=."], "not both"),
        (["--suite", "=."], "names of sets"),
        (["--dataset", "folder", "--root", ".", "--min-accuracy", "90"], "between 0 and 1"),
        (["--dataset", "folder", "--root", ".", "--faces", "all"], "--faces takes auto, detect or whole, got 'all'"),
        (["--dataset", "folder", "--root", ".", "--model", "sapiens-1b"], "names no emotions"),
    ],
)
def test_wrong_arguments_are_answered_with_what_to_do(tmp_path, monkeypatch, arguments, words):
    """Every wrong call ends with exit code 2 and a sentence."""
    monkeypatch.chdir(tmp_path)
    assert words in run("evaluate", *arguments, code=2).stderr


def test_fits_lists_which_splits_a_figure_can_be_of():
    """Tab-separated or JSON, of one set or of all; what is no figure, and no set, is refused."""
    shown = run("evaluate", "--fits", "53.87", "--dataset", "fer2013").stdout
    fits = {line.split("\t")[1]: line.split("\t")[5:] for line in shown.splitlines()[1:]}
    assert fits["private"] == fits["public"] == ["no", ""]
    assert fits["test"] == ["rounded", "3867"]
    assert fits["train"] == ["any", "15465"]
    everywhere = json.loads(run("evaluate", "--fits", "91.41", "--json").stdout)
    assert {each["n"] for each in everywhere if each["dataset"] == "ferplus" and each["fits"] == "rounded"} == {3153}
    assert "a percentage with its decimals" in run("evaluate", "--fits", "0.5387e2", code=2).stderr
    assert "no dataset is called 'raf'" in run("evaluate", "--fits", "53.87", "--dataset", "raf", code=2).stderr


def test_a_killed_evaluation_goes_on(faces, tmp_path):
    """SIGKILL after some predictions are committed: they stay, and the figures are those of an undisturbed run."""
    command = [
        "evaluate",
        "--dataset",
        "folder",
        "--root",
        str(faces),
        "--model",
        "expression-net",
        "--batch-size",
        "2",
    ]
    evaluate_and_kill(command, tmp_path / "killed", held=r"surprised/2\.jpg$")
    for name in ("killed", "whole"):
        run(*command, "--out", tmp_path / name)

    whole, killed = (metrics(tmp_path / name) for name in ("whole", "killed"))
    assert_same_figures(killed["runs"][0]["scores"], whole["runs"][0]["scores"])
    assert killed["dataset"] == whole["dataset"]
    inputs = polars.read_parquet(tmp_path / "killed" / "predictions.inputs.parquet")["input"]
    assert inputs.n_unique() == len(inputs) == 7 * A_CLASS


def test_compare_predictions(faces, tmp_path):
    """McNemar on predictions that differ in known images."""
    right = deepface_table(faces, tmp_path / "right.csv")
    worse = deepface_table(faces, tmp_path / "worse.csv", answer=lambda label: 0 if label == 6 else label)
    result = json.loads(
        run("compare", "predictions", right, worse, "--dataset", "folder", "--root", faces, "--json").stdout
    )

    assert result["all"]["table"] == {"both": 6 * A_CLASS, "only_a": A_CLASS, "only_b": 0, "neither": 0}
    assert result["all"]["mcnemar_p"] == pytest.approx(2 * 0.5**A_CLASS)
    assert result["all"]["difference"]["value"] == pytest.approx(1 / 7)


def test_compare_data_and_models(faces, tmp_path):
    """A set is no distance from itself, and a network is itself."""
    same = run("compare", "data", faces, faces, "--model", "expression-net", "--out", tmp_path / "d", "--json")
    assert json.loads(same.stdout)["frechet_distance"] == pytest.approx(0, abs=1e-4)
    arguments = ("expression-net", "expression-net", "--images", faces, "--out", tmp_path / "m")
    result = json.loads(run("compare", "models", *arguments, "--json").stdout)
    assert result["linear_cka"] == pytest.approx(1, abs=1e-6)
    assert result["drift"]["overall"]["difference"] == 0


@every_layout
def test_every_layout_is_scored(tmp_path, name, make, layout, faces):
    """Predictions that are right by construction score 1 in every layout; turned by one, they fill the next column."""
    (tmp_path / "set").mkdir()
    expected = make(tmp_path / "set")
    images = read_dataset(name, str(tmp_path / "set")).images
    boxes = {image.name: image.box for image in images}
    for turn in (0, 1):
        with (tmp_path / f"{turn}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "x1", "y1", "x2", "y2", *EMOTIONS])
            for image, label in expected.items():
                chances = [float(emotion == (label + turn) % 7) for emotion in range(7)]
                rows.writerow([image.partition("#")[0], *(boxes[image] or ("",) * 4), *chances])
        predictions = read_predictions(tmp_path / f"{turn}.csv")
        found = match(
            predictions, *zip(*((each.name, each.path) for each in images), strict=True), boxes=list(boxes.values())
        )
        scores = score([each.label for each in images], found.predicted, found.probabilities, resamples=2)
        counts = np.array(scores.confusion.counts)

        assert scores.accuracy == 1 - turn
        assert counts.sum() == len(expected)
        assert np.array_equal(counts[:, :7], np.roll(np.diag(counts[:, :7].sum(axis=1)), turn, axis=1))
