"""Whether runs differ: every p against an independent implementation, or all its cases counted out."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.config import EvaluateConfig
from motivnet_cli.evaluation.evaluate import evaluate
from motivnet_cli.evaluation.metrics import paired
from motivnet_cli.evaluation.permutation import sign_flip_p
from motivnet_cli.evaluation.predictions import names_apart
from motivnet_cli.evaluation.significance import across_sets, between_runs, friedman, holm, signed_rank_p
from tests.test_matching import IMAGES, faces, table

__all__ = ["faces"]  # a fixture


# ---- Holm -------------------------------------------------------------------------------------------------


def test_holm_by_hand():
    """Holm's steps: the smallest times 3, the next times 2 but no less than the one before, the last as it is."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_holm_is_that_of_statsmodels():
    """Random p, with ties and ends."""
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    rng = np.random.default_rng(0)
    for _ in range(4):
        p = np.round(rng.beta(0.5, 2, size=rng.integers(1, 12)), 2)
        assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])


# ---- exact tests of pairs ---------------------------------------------------------------------------------


def counted_out(values):
    """The share of all sign patterns whose sum is as far from 0."""
    sums = [abs(sum(signs * np.abs(values))) for signs in itertools.product((-1, 1), repeat=len(values))]
    return np.mean(np.array(sums) >= abs(sum(values)) - 1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_sign_flips_are_counted_out(seed):
    """Every pattern of signs of up to ten whole numbers, zeros and ties among them."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-4, 5, size=rng.integers(0, 11))

    assert sign_flip_p(values) == pytest.approx(counted_out(values))


def test_many_units_are_approximated():
    """Two thousand subjects with differences up to 3: the normal approximation is within a hundredth of the exact p."""
    rng = np.random.default_rng(0)
    for shift in (0, 0.05, 0.08):
        values = rng.integers(-3, 4, 2000) + (rng.random(2000) < shift)
        assert sign_flip_p(values, exact_up_to=0) == pytest.approx(sign_flip_p(values), rel=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_sign_flips_of_single_images_are_mcnemars_test(seed):
    """Where every subject has one image, the test by subject is McNemar's, as SciPy and statsmodels have it."""
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    rng = np.random.default_rng(seed)
    labels, a, b = rng.integers(0, 3, (3, 60))
    scores = paired(labels, a, b, groups=[*map(str, range(60))], resamples=2).all
    cells = scores.table
    reference = tables.mcnemar([[cells.both, cells.only_a], [cells.only_b, cells.neither]], exact=True).pvalue

    assert scores.subject_p == pytest.approx(scores.mcnemar_p) == pytest.approx(reference)
    assert paired(labels, a, b, resamples=2).all.subject_p is None


def test_subjects_whose_images_go_together_count_once():
    """Six persons of 20 images, a better on five of them: McNemar's test takes 120 images, the other six persons."""
    labels = np.zeros(120, int)
    person = np.repeat(np.arange(6), 20)
    a, b = np.where(person == 5, 1, 0), np.where(person == 5, 0, 1)
    scores = paired(labels, a, b, groups=[*map(str, person)], resamples=2).all

    assert scores.mcnemar_p < 1e-10
    assert scores.subject_p == scores.p == pytest.approx(2 * (1 + 6) / 2**6)


@pytest.mark.parametrize("num", [3, 6, 12])
def test_signed_ranks_are_scipys(num):
    """Without ties, SciPy's exact test."""
    rng = np.random.default_rng(num)
    a, b = rng.random((2, num))

    assert signed_rank_p(a, b) == pytest.approx(scipy.stats.wilcoxon(a, b, method="exact").pvalue)


@pytest.mark.parametrize("seed", range(6))
def test_signed_ranks_with_ties_are_counted_out(seed):
    """Equal differences share their mean rank, and pairs without a difference are left out."""
    rng = np.random.default_rng(seed)
    difference = rng.integers(-3, 4, size=9) / 10
    b = rng.integers(0, 9, size=9) / 10
    kept = difference[difference != 0]
    ranks = np.sign(kept) * scipy.stats.rankdata(np.abs(kept).round(6))

    assert signed_rank_p(b + difference, b) == pytest.approx(counted_out(ranks))


def test_signed_ranks_by_hand():
    """Five sets, a always better: 2 of 32 sign patterns; equal runs give 1."""
    assert signed_rank_p([0.7, 0.6, 0.9, 0.8, 0.5], [0.6, 0.55, 0.7, 0.5, 0.1]) == 2 / 32
    assert signed_rank_p([0.7, 0.6], [0.7, 0.6]) == 1.0
    assert signed_rank_p([0.3, 0.4], [0.1, 0.2]) == 2 / 4  # 0.3 - 0.1 and 0.4 - 0.2 are one rank


# ---- Friedman ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decimals", [1, 6])
@pytest.mark.parametrize("seed", range(3))
def test_friedmans_statistic_is_scipys(decimals, seed):
    """With ties and without; ranks have 1 for the best."""
    values = np.random.default_rng(seed).random((8, 4)).round(decimals)
    found = friedman(values, permutations=9)

    assert found.statistic == pytest.approx(scipy.stats.friedmanchisquare(*values.T).statistic)
    assert found.mean_ranks == pytest.approx(scipy.stats.rankdata(-values, axis=1).mean(axis=0))


def test_friedmans_p_is_the_share_of_all_orders():
    """Three runs on three sets: the 6 ^ 3 ways to order their ranks, counted out."""
    values = np.array([[0.9, 0.8, 0.1], [0.8, 0.7, 0.3], [0.9, 0.5, 0.6]])
    found = friedman(values)
    ranks = scipy.stats.rankdata(-values, axis=1)
    orders = [[row[list(order)] for order in itertools.permutations(range(3))] for row in ranks]
    statistics = [scipy.stats.friedmanchisquare(*np.array(each).T).statistic for each in itertools.product(*orders)]
    exact = np.mean(np.array(statistics) >= found.statistic - 1e-9)

    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / found.permutations))
    assert friedman(np.full((4, 3), 0.5)).p == 1.0


def test_friedmans_p_tends_to_chi_squared():
    """Forty sets: SciPy's approximation."""
    values = np.random.default_rng(3).random((40, 3))
    values[:, 0] += 0.06
    assert friedman(values).p == pytest.approx(scipy.stats.friedmanchisquare(*values.T).pvalue, abs=0.02)


# ---- runs over several sets -------------------------------------------------------------------------------


def over_sets(accuracies):
    """Evaluations of sets s0, s1 and so on, whose runs have these accuracies."""
    return [
        SimpleNamespace(
            dataset=SimpleNamespace(name=f"s{number}"),
            runs=[SimpleNamespace(name=name, scores=SimpleNamespace(accuracy=each)) for name, each in runs.items()],
        )
        for number, runs in enumerate(accuracies)
    ]


def test_two_runs_over_sets():
    """A pair: Wilcoxon's test and how often each is better; with four sets it is said that no p can be small."""
    found = across_sets(
        over_sets([{"a": 0.6, "b": 0.5}, {"a": 0.9, "b": 0.7}, {"a": 0.4, "b": 0.1}, {"a": 0.5, "b": 0.5}])
    )
    (pair,) = found.pairs

    assert found.friedman is None
    assert (pair.a_better, pair.b_better, pair.mean_difference) == (3, 0, pytest.approx(0.15))
    assert pair.wilcoxon_p == pair.p_holm == 2 / 2**3
    assert found.remarks == ("4 sets are few: no p of a pair can be below 0.125, so that these tests say little",)


def test_three_runs_over_sets():
    """Friedman's test, then every pair with Holm's correction; runs that a set lacks are left out."""
    rng = np.random.default_rng(1)
    accuracies = [dict(zip("abc", row, strict=True)) for row in rng.random((6, 3))]
    found = across_sets(over_sets([*accuracies[:5], accuracies[5] | {"d": 0.5}]))
    values = np.array([[*each.values()] for each in accuracies])
    p = [signed_rank_p(values[:, x], values[:, y]) for x, y in ((0, 1), (0, 2), (1, 2))]

    assert found.runs == ("a", "b", "c")
    assert found.friedman == friedman(values)
    assert [pair.p_holm for pair in found.pairs] == pytest.approx(holm(p))
    assert found.remarks == ()


def test_one_set_or_one_run_is_not_tested_over_sets():
    """There is nothing to rank."""
    assert across_sets(over_sets([{"a": 0.6, "b": 0.5}])) is None
    assert across_sets(over_sets([{"a": 0.6}, {"a": 0.5}])) is None
    assert across_sets(over_sets([{"a": 0.6, "b": 0.5}, {"a": 0.6, "c": 0.5}])) is None


# ---- runs of one report -----------------------------------------------------------------------------------


def test_every_pair_of_runs_is_tested_and_corrected():
    """Three runs give three pairs, each as `metrics.paired` has it, with Holm's correction over the three."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 200)
    runs = {
        "a": labels,
        "b": np.where(rng.random(200) < 0.1, 0, labels),
        "c": np.where(rng.random(200) < 0.2, 1, labels),
    }
    found = between_runs(labels, runs, num_classes=7, resamples=9, seed=0)
    p = [paired(labels, runs[x], runs[y], resamples=9).all.mcnemar_p for x, y in ("ab", "ac", "bc")]

    assert [(each.a, each.b) for each in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [each.scores.all.mcnemar_p for each in found] == pytest.approx(p)
    assert [each.p_holm for each in found] == pytest.approx(holm(p))
    assert between_runs(labels, {"a": labels}, num_classes=7, resamples=9, seed=0) == ()


def test_several_predictions_are_runs_of_one_report(tmp_path, faces):
    """Each table is a run under the shortest name that tells it apart, and the two are tested."""
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    happy, sad = table(tmp_path / "x/p.csv", IMAGES), table(tmp_path / "y/p.csv", IMAGES[:19], predicted="sad")
    config = EvaluateConfig(
        dataset="folder", root=str(faces), out=str(tmp_path / "r"), predictions=(str(happy), str(sad)), resamples=9
    )
    (found,) = evaluate([config])
    (pair,) = found.between

    assert [run.name for run in found.runs] == [pair.a, pair.b] == ["x/p.csv", "y/p.csv"]
    assert pair.scores.all.table.only_a == pair.scores.all.table.only_b == 3
    assert pair.p_holm == 1.0


def test_names_tell_tables_apart():
    """As few folders as are needed; one table given twice, under whatever spelling, is refused."""
    assert names_apart(["/a/p.parquet", "b.csv"]) == ["p.parquet", "b.csv"]
    assert names_apart(["/a/x/p/", "/a/y/p"]) == ["x/p", "y/p"]
    assert names_apart(["p", "q/p"]) == ["p", "q/p"]
    with pytest.raises(ConfigError, match=r"'\./a\.csv' are given twice"):
        names_apart(["./a.csv", "b.csv", "a.csv"])


def test_runs_that_share_no_image_are_refused(tmp_path, faces):
    """As in `compare predictions`: their difference would be that of their images."""
    halves = table(tmp_path / "a.csv", IMAGES[:10]), table(tmp_path / "b.csv", IMAGES[10:])
    config = EvaluateConfig(
        dataset="folder", root=str(faces), out=str(tmp_path / "r"), predictions=(*map(str, halves),), resamples=9
    )
    with pytest.raises(ConfigError, match=r"'a\.csv' and 'b\.csv' share no labelled image"):
        evaluate([config])
