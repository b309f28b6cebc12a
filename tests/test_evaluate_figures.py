"""What evaluate and compare predictions print: for people on a terminal, for programs into a pipe."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from motivnet_cli.cli import app
from motivnet_cli.cli.evaluate_figures import print_evaluations
from motivnet_cli.evaluation.metrics import paired, score
from motivnet_cli.evaluation.results import ComparedPredictions, Interval, Matching, Names, PredictionComparison
from motivnet_cli.records import EMOTIONS
from motivnet_cli.report.comparisons import words_on_predictions
from tests.runs import motivnet
from tests.terminals import terminal
from tests.test_datasets import picture
from tests.test_report import evaluation_of, grouping, over_sets, pairs, run_of


@pytest.fixture(scope="module")
def scores():
    """3,500 images with an answer each but for 7."""
    labels = np.repeat(np.arange(7), 500)
    predicted = np.where(np.arange(3_500) % 3 == 0, (labels + 1) % 7, labels)
    predicted[::500] = -1
    return score(labels, predicted, None, resamples=9)


@pytest.fixture
def answers(tmp_path):
    """A set of 14 pictures, and two tables of answers, right of all but the first, or but the last four."""
    names = []
    for emotion in EMOTIONS:
        for number in range(2):
            picture(tmp_path / "set" / emotion / f"{number}.png")
            names.append(f"{emotion}/{number}.png")
    for table, wrong in (("a.csv", names[:1]), ("b.csv", names[-4:])):
        with (tmp_path / table).open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "prediction"])
            rows.writerows((name, "surprise" if name in wrong else name.partition("/")[0]) for name in names)
    return tmp_path


def compared(labels, a, b, *, paths=("ours/a.csv", "theirs/b.csv"), groups=None):
    none = Names(0, ())
    matching = Matching(how={}, unmatched=none, ambiguous=none, contradicted=none, unused=none, remarks=())
    side_a, side_b = (ComparedPredictions(path=path, origin={}, matching=matching) for path in paths)
    scores = paired(labels, a, b, groups=groups, resamples=99)
    dataset = evaluation_of().dataset
    return PredictionComparison(schema_version=2, remarks=(), dataset=dataset, a=side_a, b=side_b, scores=scores)


def words_of(comparison):
    return list(words_on_predictions(comparison))


# ---- an evaluation ----------------------------------------------------------------------------------------


def test_a_terminal_of_80_columns_has_a_row_for_each_run(scores):
    """The longest names of the package and two runs stay within 80 columns, a line each, numbers below each other."""
    runs = [run_of(scores), run_of(scores, name="recipe pad")]
    with terminal(80) as screen:
        print_evaluations([evaluation_of(*runs, name="affectnet8")], is_suite=False, as_json=False)

    head, first, second, *caption = screen.lines
    assert head.split() == ["set", "run", "N", "accuracy", "macro-F1", "UAR", "missed"]
    accuracy = scores.all["accuracy"]
    shown = f"{100 * accuracy.value:.2f} ({100 * accuracy.low:.2f}-{100 * accuracy.high:.2f})"
    for line in (first, second):
        assert line.startswith("affectnet8")
        assert ["3,500", *shown.split()] == line.split()[3:6]
        assert line.split()[-1] == "7"
    assert max(map(len, screen.lines)) <= 80
    assert len({line.index(shown) for line in (first, second)}) == 1
    assert len(caption) == 1


@pytest.mark.parametrize("columns", [80, 40])
def test_long_names_are_wrapped_and_no_number_is_cut(scores, columns):
    """A name as long as a path is folded in its own column; every number stays whole in a narrow terminal, too."""
    with terminal(columns) as screen:
        print_evaluations([evaluation_of(run_of(scores, name="[red]" + "x" * 90))], is_suite=True, as_json=False)

    assert max(map(len, screen.lines)) <= max(columns, 72)
    first, *rest = screen.lines[1:-1]
    assert first.split()[0] == "rafdb"
    assert "".join([first.split()[1], *(line.strip() for line in rest)]) == "[red]" + "x" * 90
    assert first.split()[-6:-5] + first.split()[-1:] == ["3,500", "7"]


def test_what_is_undefined_is_empty(scores):
    """Neither a terminal nor a pipe shows `None`: not for a figure, and not for an interval."""
    figures = {**scores.all, "uar": Interval(None, None, None), "macro_f1": None}
    figures["accuracy"] = replace(scores.all["accuracy"], low=None, high=None)
    run = run_of(replace(scores, all=figures))
    with terminal(80) as screen:
        print_evaluations([evaluation_of(run)], is_suite=False, as_json=False)

    assert "None" not in screen.text
    assert screen.lines[1].split()[-2:] == [f"{100 * scores.accuracy:.2f}", "7"]


def test_a_pipe_gets_tabs_and_json_is_json_everywhere(scores, capsys):
    """Tab-separated lines for cut, with split, protocol and misses; `--json` also on a terminal."""
    evaluation = evaluation_of(run_of(scores), protocol="aligned")
    print_evaluations([evaluation], is_suite=False, as_json=False)
    head, over_all, over_scored = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    with terminal() as screen:
        print_evaluations([evaluation], is_suite=True, as_json=True)

    shown = dict(zip(head, over_all, strict=True))
    assert len(head) == len(over_scored)
    assert (shown["dataset"], shown["over"], shown["n"]) == ("rafdb", "all", "3500")
    assert (shown["missed"], shown["split"], shown["protocol"]) == ("7", "test", "aligned")
    assert float(shown["accuracy"]) == pytest.approx(scores.accuracy, abs=5e-5)
    assert json.loads(screen.text)[0]["dataset"]["protocol"] == "aligned"


@pytest.fixture(scope="module")
def tested(scores):
    """Two runs with their test, and each by a column."""
    runs = [run_of(scores, name=name, by=(grouping("gender", "female"),)) for name in ("a", "b\t")]
    return replace(evaluation_of(*runs), between=pairs("a", "b\t"))


def test_a_terminal_gets_the_tests_in_words(tested):
    """After the table: each pair, each group with its test, and the tests over sets."""
    with terminal(120) as screen:
        print_evaluations([tested], is_suite=True, as_json=False, across=over_sets("a", "b"))
    text = " ".join(" ".join(screen.lines).split())

    assert "rafdb, between the runs: a against b\\t: 100.00 against 85.71 %, difference 14.29 points (" in text
    assert (
        "McNemar's exact test: p = 0.002 rafdb, a, by gender: gender N accuracy macro-F1 UAR missed female 35" in text
    )
    assert "no difference between the groups is shown: p = 1 (9,999 permutations of images)" in text
    assert (
        "a against b: better on 6 sets, worse on 0, difference 10.00 points in the mean; Wilcoxon's signed-rank" in text
    )


def test_a_pipe_gets_the_tests_as_tables_of_their_own(tested, capsys):
    """Blocks after empty lines, each with a line of names and as many cells in every line."""
    print_evaluations([tested], is_suite=True, as_json=False, across=over_sets("a", "b"))
    blocks = [block.splitlines() for block in capsys.readouterr().out.split("\n\n")]
    tables = [[dict(zip(block[0].split("\t"), row.split("\t"), strict=True)) for row in block[1:]] for block in blocks]
    figures, between, groups, sets = tables
    pair = tested.between[0]

    assert (len(figures), len(between), len(groups), len(sets)) == (4, 1, 4, 1)
    assert (between[0]["b"], between[0]["only_a"], between[0]["unit"]) == ("b\\t", "10", "image")
    assert float(between[0]["p_holm"]) == pytest.approx(pair.p_holm, rel=1e-3)
    assert {row["group"]: (row["n"], row["p"]) for row in groups} == {"female": ("35", "1"), "other group": ("35", "1")}
    assert (sets[0]["test"], sets[0]["p"], sets[0]["a_better"]) == ("wilcoxon", "0.03125", "6")


# ---- a comparison -----------------------------------------------------------------------------------------


def test_compare_predictions_answers_a_terminal_in_four_lines(answers):
    """Words for people, also in a pipe; JSON with `--json`."""
    arguments = ["compare", "predictions", answers / "a.csv", answers / "b.csv", "--dataset", "folder"]
    arguments += ["--root", answers / "set", "--resamples", "99"]
    piped = motivnet(*arguments).stdout.splitlines()
    with terminal(100) as screen:
        app([*map(str, arguments)], standalone_mode=False)
    with terminal() as as_json:
        app([*map(str, arguments), "--json"], standalone_mode=False)

    assert json.loads(as_json.text) == json.loads(motivnet(*arguments, "--json").stdout)
    assert screen.lines == piped
    assert len(screen.lines) == 4
    assert screen.lines[0] == "no difference is shown between a.csv and b.csv: 92.86 against 71.43 % right of 14 images"
    assert screen.lines[2].startswith("McNemar's exact test: p = 0.38; 4 images only a.csv has right, 1 only b.csv")


def test_the_better_one_is_named_first():
    """Of 40 images b has 20 more right: the words name b, and the interval is of its lead."""
    labels = [0] * 40
    words = words_of(compared(labels, [0] * 10 + [1] * 30, [0] * 30 + [1] * 10))

    assert words[0] == "b.csv is better than a.csv: 75.00 against 25.00 % right of 40 images"
    low, high = (float(edge) for edge in words[1].partition("interval ")[2].split(" (")[0].split(" to "))
    assert "50.00 points" in words[1]
    assert 0 < low < 50 < high
    assert "0 images only a.csv has right, 20 only b.csv" in words[2]
    assert words[3] == "of the 40 that both scored: 75.00 against 25.00 %, p = 1.9e-06"


def test_by_subject_the_test_by_subject_decides():
    """Subjects of ten images each: McNemar's p is small, and it is the number of subjects that counts."""
    labels = [0] * 40
    groups = np.repeat(["p", "q", "r", "s"], 10)
    one_subject = words_of(compared(labels, [0] * 40, [0] * 30 + [1] * 10, groups=groups))
    every_subject = words_of(compared(labels, [0] * 40, ([0] * 6 + [1] * 4) * 4, groups=groups))

    assert one_subject[0].startswith("no difference is shown between a.csv and b.csv: 100.00 against 75.00 %")
    assert one_subject[2] == "exact test by subject: p = 1; 10 images only a.csv has right, 0 only b.csv"
    assert every_subject[2].startswith("exact test by subject: p = 0.12; 16 images")
    assert len(every_subject) == 4


def test_files_of_one_name_are_told_apart_by_their_folders():
    """Two files called preds.csv have their whole paths; a file compared with itself is no two names."""
    labels = [0, 1]
    words = words_of(compared(labels, [0, 1], [0, 1], paths=("x/preds.csv", "y/preds.csv")))
    same = words_of(compared(labels, [0, 1], [0, 1], paths=("preds.csv", "preds.csv")))
    assert words[0].startswith("no difference is shown between x/preds.csv and y/preds.csv")
    assert same[0].startswith("no difference is shown between the first and the second")


def test_nothing_scored_by_both_is_said():
    """Each has answers where the other has none."""
    words = words_of(compared([0, 1], [0, -1], [-1, 1]))
    assert words[3] == "no image was scored by both"
