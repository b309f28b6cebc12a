"""Figures by group: what sets say of their images, and whether groups differ."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
import scipy.stats

from motivnet_cli.errors import ConfigError
from motivnet_cli.evaluation.config import EvaluateConfig
from motivnet_cli.evaluation.datasets.read import read_dataset
from motivnet_cli.evaluation.evaluate import evaluate
from motivnet_cli.evaluation.groups import by_group
from motivnet_cli.evaluation.metrics import score
from motivnet_cli.evaluation.permutation import group_difference
from motivnet_cli.evaluation.results import to_json
from motivnet_cli.records import EMOTIONS
from tests.runs import motivnet
from tests.test_datasets import make_rafdb_list, picture, write

# ---- what is known of the images --------------------------------------------------------------------------


def columns_of(found):
    return {image.name: dict(image.columns) for image in found.images}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_any_column_of_a_table_can_be_asked_for(tmp_path, kind):
    """Only the columns that are asked for are read, as text; an empty cell is not known."""
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    table = pl.DataFrame(
        {"path": ["a.png", "b.png", "c.png"], "label": ["happy", "sad", "fear"], "age": [30, 31, None]}
        | {"Gender": ["f", " m ", ""], "subject": ["x", "y", "z"]}
    )
    path = tmp_path / f"set.{kind}"
    (table.write_csv if kind == "csv" else table.write_parquet)(path)
    found = read_dataset(kind, str(path), columns=["age", "Gender", "hair"])

    assert columns_of(found) == {
        "a.png": {"age": "30", "Gender": "f"},
        "b.png": {"age": "31", "Gender": "m"},
        "c.png": {},
    }
    assert found.columns == ("subject", "label", "age", "Gender")
    assert columns_of(read_dataset(kind, str(path))) == {"a.png": {}, "b.png": {}, "c.png": {}}


def test_subjects_that_are_named_in_part_are_said(tmp_path):
    """One empty cell, and intervals are by image: that is a remark. All named, or none, is not."""
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    said = {}
    for cells in ("x,y", "x,", ","):
        first, second = cells.split(",")
        write(tmp_path / "set.csv", f"path,label,subject\na.png,happy,{first}\nb.png,sad,{second}\n")
        remarks = read_dataset("csv", str(tmp_path / "set.csv")).remarks
        said[cells] = [remark for remark in remarks if "subject" in remark]

    assert said["x,y"] == said[","] == []
    assert said["x,"][0].startswith("the subject of 1 image is not named: all are taken as independent")


def test_names_of_kdef_hold_gender_session_and_angle(tmp_path):
    """The letters of KDEF's names: session A or B, F or M, and the angle after the expression."""
    for name in ("AF01HAS", "BM35ANS", "BM35ANFL"):
        picture(tmp_path / name[:4] / f"{name}.JPG")
    found = read_dataset("kdef", str(tmp_path), protocol="all_angles")

    assert columns_of(found) == {
        "AF01/AF01HAS.JPG": {"gender": "female", "session": "A", "angle": "S"},
        "BM35/BM35ANS.JPG": {"gender": "male", "session": "B", "angle": "S"},
        "BM35/BM35ANFL.JPG": {"gender": "male", "session": "B", "angle": "FL"},
    }
    assert found.columns == ("subject", "gender", "session", "angle")


def test_annotations_of_rafdb_are_read_where_they_are_asked_for(tmp_path):
    """The three lines after the landmarks; an image without a file is not known, other contents are refused."""
    make_rafdb_list(tmp_path)
    landmarks = "1.0\t2.0\n" * 5
    write(tmp_path / "Annotation/manual/test_00000_manu_attri.txt", landmarks + "1\n2\n4\n")
    write(tmp_path / "Annotation/manual/test_00001_manu_attri.txt", landmarks + "2\n0\n0\n")
    plain, asked = read_dataset("rafdb", str(tmp_path)), read_dataset("rafdb", str(tmp_path), columns=["gender"])

    assert not any(columns_of(plain).values())
    assert [*columns_of(asked).values()][:3] == [
        {"gender": "female", "race": "Asian", "age": "70+"},
        {"gender": "unsure", "race": "Caucasian", "age": "0-3"},
        {},
    ]
    assert plain.columns == asked.columns == ("gender", "race", "age")

    write(tmp_path / "Annotation/manual/test_00002_manu_attri.txt", landmarks + "1\n2\n5\n")
    with pytest.raises(ConfigError, match="holds '1', '2', '5' after its landmarks: expected the numbers of gender"):
        read_dataset("rafdb", str(tmp_path), columns=["age"])


# ---- whether groups differ --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_statistic_and_p_of_images_are_scipys(seed):
    """Three groups of independent images: Pearson's chi-squared, and nearly its p."""
    rng = np.random.default_rng(seed)
    group_of = np.concatenate([[0, 1, 2], rng.integers(0, 3, 597)])
    is_hit = rng.random(600) < np.array([0.7, 0.7, 0.62])[group_of]
    counts = np.stack([np.bincount(group_of, is_hit), np.bincount(group_of, ~is_hit)])
    found, reference = group_difference(is_hit, group_of), scipy.stats.chi2_contingency(counts, correction=False)

    assert found.statistic == pytest.approx(reference.statistic)
    assert found.p == pytest.approx(reference.pvalue, abs=0.03)
    assert found.exchanged == "images"


def share_as_far(statistics, observed):
    return np.mean(np.array(statistics) >= observed - 1e-9)


def chi_squared(is_hit, group_of):
    return group_difference(is_hit, group_of, permutations=1).statistic


def near(exact):
    """Within four standard errors of a share that 9,999 draws estimate."""
    return pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 9999) + 1e-4)


def test_few_images_are_counted_out():
    """Seven images in two groups: all ways to choose the hits."""
    group_of, is_hit = np.array([0, 0, 0, 1, 1, 1, 1]), np.array([True, True, True, False, False, False, True])
    ways = [[place in chosen for place in range(7)] for chosen in itertools.combinations(range(7), 4)]
    exact = share_as_far([chi_squared(np.array(way), group_of) for way in ways], chi_squared(is_hit, group_of))

    assert group_difference(is_hit, group_of).p == near(exact)


def test_subjects_are_dealt_whole():
    """Six subjects of unlike size, three in each group: all ways to deal them to the groups."""
    sizes, hits, of_group = [1, 2, 3, 4, 2, 5], [1, 2, 3, 1, 0, 2], [0, 0, 0, 1, 1, 1]
    unit_of = np.repeat(np.arange(6), sizes)
    is_hit = np.concatenate([np.arange(size) < hit for size, hit in zip(sizes, hits, strict=True)])
    group_of = np.array(of_group)[unit_of]
    found = group_difference(is_hit, group_of, unit_of=unit_of)
    ways = [np.isin(unit_of, chosen).astype(int) for chosen in itertools.combinations(range(6), 3)]
    exact = share_as_far([chi_squared(is_hit, way) for way in ways], found.statistic)

    assert found.exchanged == "subjects"
    assert found.p == near(exact)


def test_images_are_dealt_within_subjects_that_are_in_several_groups():
    """Two subjects with images in both sessions: all ways to place the hits within each."""
    unit_of = np.array([0, 0, 0, 0, 1, 1, 1])
    group_of = np.array([0, 0, 1, 1, 0, 1, 1])
    is_hit = np.array([True, True, False, False, True, False, True])
    found = group_difference(is_hit, group_of, unit_of=unit_of)
    ways = [
        np.isin(range(7), [*first, *second])
        for first in itertools.combinations(range(4), 2)
        for second in itertools.combinations(range(4, 7), 2)
    ]
    exact = share_as_far([chi_squared(way, group_of) for way in ways], found.statistic)

    assert found.exchanged == "images within subjects"
    assert found.p == near(exact)


def test_groups_without_a_difference_to_find():
    """All right, or all wrong: 0, and p is 1."""
    for is_hit in (np.ones(6, bool), np.zeros(6, bool)):
        found = group_difference(is_hit, np.array([0, 0, 0, 1, 1, 1]))
        assert (found.statistic, found.p) == (0, 1)


@pytest.mark.thorough
def test_the_test_by_subject_keeps_its_level_where_that_by_image_does_not():
    """Subjects of ten images, all right or all wrong, in groups without a difference: p < 0.05 in one of twenty."""
    rng = np.random.default_rng(0)
    unit_of = np.repeat(np.arange(20), 10)
    group_of = (unit_of < 10).astype(int)
    drawn = [np.repeat(rng.random(20) < 0.7, 10) for _ in range(150)]
    by_subject, by_image = (
        [group_difference(is_hit, group_of, unit_of=units, permutations=199).p for is_hit in drawn]
        for units in (unit_of, None)
    )

    assert np.mean(np.array(by_subject) < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)
    assert np.mean(np.array(by_image) < 0.05) > 0.2


# ---- figures by group -------------------------------------------------------------------------------------


def grouped(names, labels, predicted, *, subjects=None, column="gender"):
    return by_group(
        column, names, np.array(labels), np.array(predicted), classes=EMOTIONS, subjects=subjects, resamples=9, seed=0
    )


def test_figures_of_a_group_are_those_of_its_images():
    """Each group is scored as if it were the set; images of which nothing is known are in none, and counted."""
    rng = np.random.default_rng(0)
    labels, names = rng.integers(0, 7, 200), np.array(["f", "m", None])[rng.integers(0, 3, 200)]
    predicted = np.where(rng.random(200) < 0.6, labels, rng.integers(-1, 7, 200))
    found = grouped([*names], labels, predicted)

    assert [group.name for group in found.groups] == ["f", "m"]
    for group in found.groups:
        own = score(labels[names == group.name], predicted[names == group.name], None, resamples=9).all
        assert (group.accuracy, group.uar, group.macro_f1) == (own["accuracy"], own["uar"], own["macro_f1"])
        assert group.n_missed == (predicted[names == group.name] == -1).sum()
    assert found.n_without == sum(name is None for name in names) > 0
    assert found.remarks[0] == f"by gender: it is not known of {found.n_without}, which are in no group"
    assert (found.unit, found.test.exchanged) == ("image", "images")


def test_by_subject_images_are_the_units():
    """A group is one subject then: the interval is over its images, and images are dealt to subjects."""
    names = np.repeat(["x", "y", "z"], 40)
    labels = np.arange(120) % 7
    found = grouped([*names], labels, np.where(names == "z", -1, labels), subjects=names, column="subject")

    assert (found.unit, found.test.exchanged) == ("image", "images")
    assert [group.accuracy.low is not None for group in found.groups] == [True] * 3
    assert found.test.p < 0.001
    other = grouped([*np.repeat(["f", "m"], 60)], labels, labels, subjects=np.repeat([*"abcdef"], 20))
    assert (other.unit, other.test.exchanged) == ("subject", "subjects")


def test_groups_are_ordered_by_their_numbers():
    """Ages and ranges from young to old, words after them."""
    names = ["4-19", "70+", "0-3", "-5", "20-39", "unsure", "-10"]
    assert [group.name for group in grouped(names, [0] * 7, [0] * 7).groups] == [
        "-10",
        "-5",
        "0-3",
        "4-19",
        "20-39",
        "70+",
        "unsure",
    ]


def test_what_must_be_known_of_groups_is_said():
    """Few images, many groups, other classes, one group."""
    small = grouped(["f"] * 40 + ["m"] * 2, [0, 1] * 20 + [0, 0], [0] * 42).remarks
    many = grouped([f"s{n}" for n in range(21)] * 30, [0] * 630, [0] * 630).remarks
    one = grouped(["f"] * 40, [0] * 40, [0] * 40)

    assert small == (
        "by gender: fewer than 30 of m (2): their figures say little",
        "by gender: 1 to 2 classes occur in a group, so that UAR and macro-F1 of some groups do not compare",
    )
    assert many == ("by gender: of 21 groups some stand out by chance alone",)
    assert (one.test, one.remarks) == (None, ("by gender: all are of one group, 'f'",))


# ---- the command ------------------------------------------------------------------------------------------


@pytest.fixture
def aged(tmp_path):
    """A table of 42 pictures with an age, a gender and a number each."""
    rows = []
    for number in range(42):
        picture(tmp_path / f"{number}.png")
        rows.append({"path": f"{number}.png", "label": EMOTIONS[number % 7], "age": 20 + number % 30, "number": number})
        rows[-1] |= {"gender": "fm"[number % 2], "code": f"c{number}", "empty": None}
    pl.DataFrame(rows, infer_schema_length=None).write_csv(tmp_path / "set.csv")
    return tmp_path / "set.csv"


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("hair", "the column is not known for csv; there are: label, age, number, gender, code"),
        ("age", "30 different numbers are no groups: give a csv set with a column of ranges"),
        ("code", "42 values for 42 images are no groups"),
        ("empty", "the column says nothing of the images here for csv"),
        ("subject", "the column is not known for csv"),
    ],
)
def test_columns_that_make_no_groups_are_refused(tmp_path, aged, column, words):
    """Before anything is predicted: exit 2, with the columns that there are or what to do."""
    command = ("evaluate", "--dataset", "csv", "--root", aged, "--model", "expression-net", "--by", "gender")
    said = motivnet(*command, "--by", column, "--out", tmp_path / "r", code=2).stderr

    assert words in said
    assert not (tmp_path / "r").exists()


def test_groups_reach_the_json(tmp_path, aged):
    """One entry for each column and run."""
    lines = [f"{number}.png,{EMOTIONS[number % 7] if number % 2 else 'fear'}" for number in range(42)]
    (tmp_path / "p.csv").write_text("\n".join(["path,pred", *lines]) + "\n")
    config = EvaluateConfig(
        dataset="csv", root=str(aged), out=str(tmp_path / "r"), predictions=str(tmp_path / "p.csv"), by=("gender",),
        resamples=9,
    )  # fmt: skip
    (found,) = to_json(evaluate([config]))
    (by,) = found["runs"][0]["by"]

    assert [(group["name"], group["n"]) for group in by["groups"]] == [("f", 21), ("m", 21)]
    assert [group["accuracy"]["value"] for group in by["groups"]] == pytest.approx([3 / 21, 1])
    assert by["test"]["p"] == pytest.approx(1e-4)
