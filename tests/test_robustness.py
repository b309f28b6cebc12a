"""`motivnet evaluate --corrupt`: a run for each corruption, and figures that are those of its predictions."""

from __future__ import annotations

import json
from unittest.mock import Mock

import numpy as np
import polars
import pytest
from scipy.stats import binom

from motivnet_cli import annotate
from motivnet_cli.config import InputConfig, LoaderConfig, ModelConfig, OutputConfig, RunConfig
from motivnet_cli.engine.work import load_network
from motivnet_cli.evaluation.config import EvaluateConfig
from motivnet_cli.evaluation.evaluate import evaluate
from motivnet_cli.evaluation.intervals import Units
from motivnet_cli.evaluation.results import to_json
from motivnet_cli.output.read import read_record
from tests.agreement import assert_same_figures
from tests.interval_coverage import CASES, found_of
from tests.pictures import face_photo
from tests.runs import motivnet

FOLDERS = {"happy": "happiness", "sad": "sadness"}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Four portraits of a smile, two of them under another emotion's name."""
    root = tmp_path_factory.mktemp("faces") / "set"
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
        for number in range(2):
            face_photo(root / folder / f"{number}.png", size=(90 + 20 * number, 100), faces=((45, 50, 70),))
    return root


def config_of(faces, out):
    return EvaluateConfig(
        dataset="folder",
        root=str(faces),
        out=str(out),
        model=ModelConfig(name="expression-net"),
        loader=LoaderConfig(threads=1),
        corruptions=("noise",),
        severities=(3, 4),
        resamples=9,
    )


# ---- figures ----------------------------------------------------------------------------------------------


def test_means_worked_by_hand():
    """Four images, three of them right; two corruptions at two severities."""
    hits = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    found = found_of([1, 1, 1, 0], hits, ("blur", "noise"), (1, 5), Units(None, 4, resamples=200))

    assert {name: mean.value for name, mean in found.by_corruption.items()} == {"blur": 0.375, "noise": 0.375}
    assert {name: mean.value for name, mean in found.by_severity.items()} == {"1": 0.625, "5": 0.125}
    assert found.mean_accuracy.value == 0.375
    assert found.relative_accuracy.value == 0.5
    assert found.relative_accuracy.low < 0.5 < found.relative_accuracy.high


@pytest.mark.parametrize("groups", [None, ["a", "a", "b", "b", "c", "c", "d", "e", "f", "g"] * 5])
def test_all_runs_are_resampled_together(groups):
    """The intervals are those of figures computed of written-out resamples, one by one."""
    rng = np.random.default_rng(1)
    is_hit, hits = rng.random(50) < 0.8, rng.random((6, 50)) < rng.random((6, 1))
    found = found_of(is_hit, hits, ("blur", "jpeg"), (1, 2, 3), Units(groups, 50, resamples=70, seed=3))
    means, ratios, of_jpeg, of_2 = [], [], [], []
    for weights in Units(groups, 50, resamples=70, seed=3).resampled():
        for drawn in (np.repeat(np.arange(50), column) for column in weights.T):
            accuracies = [hits[run][drawn].mean() for run in range(6)]
            means.append((np.mean(accuracies[:3]) + np.mean(accuracies[3:])) / 2)
            ratios.append(means[-1] / is_hit[drawn].mean())
            of_jpeg.append(np.mean(accuracies[3:]))
            of_2.append((accuracies[1] + accuracies[4]) / 2)

    for interval, values in (
        (found.mean_accuracy, means),
        (found.relative_accuracy, ratios),
        (found.by_corruption["jpeg"], of_jpeg),
        (found.by_severity["2"], of_2),
    ):
        assert (interval.low, interval.high) == pytest.approx(np.quantile(values, [0.025, 0.975]))
    assert found.bootstrap.unit == ("subject" if groups else "image")


@pytest.mark.thorough
def test_intervals_hold_the_truth():
    """As often as docs/robustness.md says, or so: fewer of 80 than one in 10,000 such simulations would have."""
    function, how = CASES["accuracies under corruption, N = 200"]
    shares = function(80, **how)

    assert min(shares.values()) >= binom.ppf(1e-4, 80, 0.93) / 80, shares


def test_what_cannot_be_had_is_null():
    """Nothing right as it is: no ratio. One image: no interval."""
    nothing = found_of([0, 0], [[1, 0]], ("blur",), (3,), Units(None, 2, resamples=20))
    single = found_of([1], [[1]], ("blur",), (3,), Units(None, 1))

    assert (nothing.mean_accuracy.value, nothing.relative_accuracy.value) == (0.5, None)
    assert (single.mean_accuracy.value, single.mean_accuracy.low, single.relative_accuracy.value) == (1.0, None, 1.0)
    assert "NaN" not in json.dumps(to_json(nothing))


# ---- the command ------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_predictions(faces, tmp_path):
    """Each corruption has a table of predictions; rows, pages and means follow from these tables alone."""
    out = tmp_path / "r"
    command = ("evaluate", "--dataset", "folder", "--root", faces, "--model", "expression-net", "--out", out)
    shown = motivnet(*command, "--resamples", "9", "--corrupt", "occlusion, blur", "--severities", "5,1")
    (found,) = json.loads((out / "metrics.json").read_text())["robustness"]
    rows = [line.split("\t") for line in shown.stdout.splitlines()]
    accuracies = {
        f"{name} {severity}": accuracy_in(out / "corrupted" / f"predictions-{name}-{severity}.parquet")
        for name in ("blur", "occlusion")
        for severity in (1, 5)
    }
    mean = sum(accuracies.values()) / 4

    assert "folder: 5 runs of 4 images each: as they are, and under blur, occlusion of severity 1, 5" in shown.stderr
    assert [run["name"] for run in found["runs"]] == list(accuracies)
    assert [run["scores"]["all"]["accuracy"]["value"] for run in found["runs"]] == list(accuracies.values())
    assert {row[1]: float(row[4]) for row in rows[1:] if row[2] == "all"} == {
        "recipe letterbox": accuracy_in(out / "predictions.parquet"),
        **accuracies,
        "mean blur": (accuracies["blur 1"] + accuracies["blur 5"]) / 2,
        "mean occlusion": (accuracies["occlusion 1"] + accuracies["occlusion 5"]) / 2,
        "mean corruption": mean,
    }
    assert found["mean_accuracy"]["value"] == mean
    for page in ("report.html", "report.md"):
        assert f"{100 * mean:.2f}" in (out / page).read_text()
    table = (out / "report.md").read_text().partition("| corruption |")[2].partition("\n\n")[0].splitlines()
    assert [line.count("|") for line in table] == [3, 5, 5, 5, 5]
    assert (out / "figures" / "robustness-recipe-letterbox.svg").exists()
    assert [path.name for path in out.rglob("*.png") if path.parent.name != "figures"] == [], "no picture is written"
    verified = motivnet("verify", out / "corrupted" / "predictions-blur-5.parquet", "--sample", "2")
    assert "2 rows were computed again" in verified.stdout
    made_before = ("--predictions", out / "corrupted" / "predictions-blur-5.parquet", "--resamples", "9")
    again = motivnet("evaluate", "--dataset", "folder", "--root", faces, *made_before, "--out", tmp_path / "again")
    assert "predictions of corrupted pictures (blur 5)" in again.stderr
    assert "corrupted pictures" not in shown.stderr


def test_corrupted_rows_of_given_boxes_are_computed_again(faces, tmp_path):
    """`verify --sample` corrupts a picture as its run did, by its given boxes; where they are not known, not."""
    (tmp_path / "faces.csv").write_text(f"path,x1,y1,x2,y2\n{faces / 'sad' / '1.png'},20,20,70,90\n")
    annotate(
        RunConfig(
            inputs=InputConfig(manifests=(str(tmp_path / "faces.csv"),)),
            output=OutputConfig(path=str(tmp_path / "p.parquet")),
            model=ModelConfig(name="expression-net"),
            loader=LoaderConfig(corruption=("resolution", 4)),
        )
    )

    known = motivnet("verify", tmp_path / "p.parquet", "--sample", "1")
    unknown = motivnet("verify", tmp_path / "p.parquet", "--sample", "1", "--inputs-from", faces / "sad")
    assert "1 rows were computed again" in known.stdout
    assert "corrupted by the sizes of boxes that are not known" in unknown.stdout


def accuracy_in(path):
    faces = polars.read_parquet(path)
    names = faces["input"].to_list()
    labels = [next(label for folder, label in FOLDERS.items() if f"/{folder}/" in name) for name in names]
    return sum(label == emotion for label, emotion in zip(labels, faces["emotion"].to_list(), strict=True)) / 4


def test_a_stopped_evaluation_goes_on_and_takes_no_run_for_another(faces, tmp_path, monkeypatch):
    """Stopped within the last corruption: what is done stays. A table of another corruption is refused."""
    out, corrupted = tmp_path / "r", tmp_path / "r" / "corrupted"

    def stop():
        return corrupted.exists() and any("noise-4" in path.name for path in corrupted.iterdir())

    assert evaluate([config_of(faces, out)], stop=stop) is None
    done = {
        path: path.stat().st_mtime_ns
        for path in (out / "predictions.parquet", corrupted / "predictions-noise-3.parquet")
    }
    (resumed,) = evaluate([config_of(faces, out)])
    loaded = Mock(wraps=load_network)
    monkeypatch.setattr("motivnet_cli.evaluation.evaluate.load_network", loaded)
    (whole,) = evaluate([config_of(faces, tmp_path / "whole")])
    assert loaded.call_count == 1, "the network serves all runs"

    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert_same_figures(to_json(resumed.robustness), to_json(whole.robustness))
    record = read_record(str(corrupted / "predictions-noise-4.parquet"))
    assert record["settings"]["loader.corruption"] == ["noise", 4]
    for path in corrupted.glob("*noise-4*"):
        path.replace(path.with_name(path.name.replace("noise-4", "noise-5")))
    command = ("evaluate", "--dataset", "folder", "--root", faces, "--model", "expression-net", "--out", out)
    refused = motivnet(*command, "--corrupt", "noise", "--severities", "5", code=2)
    assert "loader.corruption was ['noise', 4], is now ['noise', 5]" in refused.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--corrupt", "all", "--predictions", "p.csv"], "predictions made before say nothing of corrupted pictures"),
        (["--corrupt", "blur,fog"], "no corruption is called 'fog'; there are blur, noise"),
        (["--corrupt", ""], "no corruption is called ''"),
        (["--corrupt", "blur", "--severities", "0"], "a whole number from 1 to 5, got '0'"),
        (["--corrupt", "blur", "--severities", "1.5"], "a whole number from 1 to 5, got '1.5'"),
        (["--severities", "1"], "--severities are those of --corrupt"),
    ],
)
def test_wrong_options_are_answered(faces, options, words):
    """What names no corruption, or goes with none, ends with exit code 2 and what there is."""
    model = () if "--predictions" in options else ("--model", "expression-net")
    command = ("evaluate", "--dataset", "folder", "--root", faces, *model)
    assert words in motivnet(*command, *options, code=2).stderr
